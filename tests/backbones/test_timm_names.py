"""timm's names are known without importing it."""

import socket
import subprocess
import sys

import pytest

from embedkit.backbones.reachable import why_unreachable
from embedkit.backbones.registry import check_name
from embedkit.backbones.timm_names import check_timm_name, near_timm_names, timm_names
from embedkit.backbones.weight_files import check_weights
from embedkit.errors import UnknownBackboneError, WeightsError


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch, tmp_path):
    for name in ("EMBEDKIT_CACHE", "HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in (
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "EMBEDKIT_OFFLINE",
        "https_proxy",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


def test_known_names_pass():
    for name in ("timm:resnet50", "TIMM:resnet50.fb_swsl_ig1b_ft_in1k", "resnet50_ssl", "tiny"):
        check_name(name)


@pytest.mark.parametrize("name", ["timm:resnet5o", "resnet5o", "timm:", "timm:resnet50.nobody"])
def test_unknown_names_are_refused_with_near_ones(name):
    with pytest.raises(UnknownBackboneError) as caught:
        check_name(name)
    assert bool(caught.value.suggestions) == (name != "timm:")
    for near in caught.value.suggestions:
        check_name(near)


def test_names_of_a_newer_timm_are_left_to_it(monkeypatch):
    monkeypatch.setattr("embedkit.backbones.timm_names.version", lambda _: "99.0.0.dev0")
    check_timm_name("resnet_of_the_future")


def test_a_name_without_its_prefix_is_found():
    assert near_timm_names("vit_base_patch16_224")[0] == "timm:vit_base_patch16_224"


def test_the_list_is_of_timm():
    names = timm_names()
    assert names == sorted(set(names))
    assert len(names) > 2000


def test_refusing_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from embedkit.backbones.registry import check_name\n"
        "try: check_name('timm:nothing_like_it')\n"
        "except ValueError: pass\n"
        "except Exception as exc: assert 'unknown backbone' in str(exc)\n"
        "assert not {'timm', 'torch', 'openvino', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_that_no_host_has_are_refused_with_the_way_out(monkeypatch):
    def refuse(address, timeout):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(WeightsError, match=r"Network is unreachable.*efficientnet_lite0"):
        check_weights("resnet50_swsl")
    check_weights("resnet50_swsl", "random")
    check_weights("tiny")


def test_a_missing_weights_file_is_refused():
    with pytest.raises(WeightsError, match="no such weights file"):
        check_weights("resnet50_swsl", "nowhere.pth")


def test_a_silent_host_may_answer_later(monkeypatch, caplog):
    import threading

    end = threading.Event()

    def wait(*_args, **_settings):
        end.wait(10)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", wait)
    assert why_unreachable("https://hub.invalid/x", seconds=0.05) is None
    end.set()
    assert "hub.invalid doesn't answer yet" in caplog.text


def test_a_host_that_answers_is_reachable_and_a_closed_port_is_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert why_unreachable(f"http://127.0.0.1:{port}/x") is None
    assert "refused" in why_unreachable(f"http://127.0.0.1:{port}/x")
