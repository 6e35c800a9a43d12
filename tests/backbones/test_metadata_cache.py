"""A remembered backbone: the same as the one that was loaded, without torch until it is needed."""

import json
import logging
import pickle
import subprocess
import sys
import threading
from dataclasses import fields

import numpy as np
import pytest
import safetensors.torch
import torch

from embedkit.backbones import load_backbone
from embedkit.backbones import metadata_cache as memory
from embedkit.backbones.tiny import TinyNet
from embedkit.errors import WeightsError

FACTS = [
    "head_name", "head_applies", "feature_dim", "pooling", "gem_p", "layers", "flip", "fingerprint",
    "weights", "licence", "warning", "spec", "preprocessing",
]  # fmt: skip
SMALL_RESNET = "timm:test_resnet.r160_in1k"


@pytest.fixture
def builds(monkeypatch):
    """Counts how often a network is built."""
    from embedkit.backbones import build as building

    made, build = [], building.build

    def counted(*args):
        made.append(args)
        return build(*args)

    monkeypatch.setattr(building, "build", counted)
    return made


def tiny_file(path, seed=1):
    torch.default_generator.manual_seed(seed)
    safetensors.torch.save_file(TinyNet().state_dict(), path)
    return path


def assert_alike(remembered, loaded):
    assert [getattr(remembered, name) for name in FACTS] == [getattr(loaded, n) for n in FACTS]
    assert remembered.to_config() == loaded.to_config()
    np.testing.assert_array_equal(remembered.head.weight, loaded.head.weight)
    np.testing.assert_array_equal(remembered.head.bias, loaded.head.bias)
    assert remembered.head.weight.dtype == remembered.head.bias.dtype == np.float32
    assert remembered.head.class_names == loaded.head.class_names
    assert remembered.head.class_ids == loaded.head.class_ids


def test_all_facts_are_compared():
    told = {f.name for f in fields(load_backbone("tiny"))}
    assert told == {*FACTS, "head", "_network"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tiny", {}),
        ("tiny", {"pooling": "gem", "gem_p": 2.5, "flip": True, "seed": 4}),
        ("tiny", {"layers": ["conv1", "conv3"], "input_size": 48}),
        (SMALL_RESNET, {"weights": "random"}),
        ("efficientnet_lite0", {}),
    ],
)
def test_what_is_remembered_is_what_was_loaded(tmp_path, builds, name, settings):
    loaded = load_backbone(name, cache=tmp_path, **settings)
    assert len(builds) == 1
    remembered = load_backbone(name, cache=tmp_path, **settings)
    assert len(builds) == 1
    assert_alike(remembered, loaded)
    images = torch.zeros(1, 3, *2 * [loaded.preprocessing.crop])
    with torch.inference_mode():
        assert torch.equal(remembered.module(images), loaded.module(images))
        assert torch.equal(remembered.classifier(images), loaded.classifier(images))
    assert len(builds) == 2
    assert remembered.module is remembered.module


def test_a_network_without_a_linear_classifier_is_remembered(tmp_path, monkeypatch, builds):
    monkeypatch.setattr(TinyNet, "get_classifier", lambda net: net.conv1)
    for _ in range(2):
        backbone = load_backbone("tiny", cache=tmp_path)
        assert (backbone.head, backbone.head_name, backbone.head_applies) == (None, "", False)
    assert len(builds) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"pooling": "max"},
        {"pooling": "gem"},
        {"gem_p": 4.0},
        {"layers": ["conv3"]},
        {"flip": True},
        {"input_size": 40},
        {"preprocessing": {"interpolation": "bicubic"}},
    ],
)
def test_other_options_are_other_backbones(tmp_path, builds, change):
    load_backbone("tiny", cache=tmp_path)
    load_backbone("tiny", cache=tmp_path, **change)
    assert len(builds) == 2


def test_the_bytes_of_the_weights_decide_and_not_their_name(tmp_path, builds):
    first = load_backbone("tiny", weights=tiny_file(tmp_path / "a.safetensors"), cache=tmp_path)
    copied = tiny_file(tmp_path / "b.safetensors")
    again = load_backbone("tiny", weights=copied, cache=tmp_path)
    assert len(builds) == 1
    assert (again.fingerprint, again.weights) == (first.fingerprint, "file:b.safetensors")
    tiny_file(copied, seed=2)
    other = load_backbone("tiny", weights=copied, cache=tmp_path)
    assert len(builds) == 2
    assert other.fingerprint != first.fingerprint


def test_a_file_that_is_known_is_still_refused_by_its_name(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(TinyNet().state_dict(), path)
    load_backbone("tiny", weights=path, cache=tmp_path)
    with pytest.raises(WeightsError, match="should begin with 00000000"):
        load_backbone("tiny", weights=path.rename(tmp_path / "w-00000000.pth"), cache=tmp_path)
    with pytest.raises(WeightsError, match=r"read from \.safetensors"):
        load_backbone(
            "tiny", weights=(tmp_path / "w-00000000.pth").rename(tmp_path / "w.zip"), cache=tmp_path
        )


@pytest.mark.parametrize("change", ["code", "torch", "timm"])
def test_other_code_or_libraries_remember_nothing(tmp_path, monkeypatch, builds, change):
    load_backbone("tiny", cache=tmp_path)
    monkeypatch.setattr(memory, "maker", lambda: {**memory_of_now, change: "another"})
    memory_of_now = {"code": "c", "torch": "1", "timm": "1"}
    load_backbone("tiny", cache=tmp_path)
    assert len(builds) == 2


def test_maker_knows_this_package(monkeypatch):
    told = memory.maker()
    assert told["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert len(told["code"]) == 64


def test_refused_backbones_are_not_remembered(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="no layer"):
            load_backbone("tiny", layers=["conv9"], cache=tmp_path)
        with pytest.raises(WeightsError, match="no such weights file"):
            load_backbone("tiny", weights=tmp_path / "none.pth", cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damage_is_told_and_mended(tmp_path, builds, caplog, suffix, damage):
    loaded = load_backbone("tiny", cache=tmp_path)
    (path,) = (tmp_path / "backbones").glob(f"*.{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes({"flip": bytes(content), "cut": content[:-9], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, "embedkit"):
        assert_alike(load_backbone("tiny", cache=tmp_path), loaded)
    assert "made anew" in caplog.text
    assert len(builds) == 2
    assert_alike(load_backbone("tiny", cache=tmp_path), loaded)
    assert len(builds) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, builds):
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        backbone = load_backbone("tiny", cache=tmp_path / "file")
        assert backbone.feature_dim == 16
    assert len(builds) == 2


def test_nothing_but_tensors_and_json_is_kept(tmp_path):
    load_backbone("tiny", cache=tmp_path)
    load_backbone(SMALL_RESNET, weights="random", cache=tmp_path)
    for path in (tmp_path / "backbones").iterdir():
        if path.suffix == ".json":
            assert set(json.loads(path.read_bytes())) == {"safetensors"}
        else:
            assert path.suffix == ".safetensors"
            safetensors.torch.load_file(path)


def test_weights_that_changed_since_are_refused(tmp_path):
    path = tiny_file(tmp_path / "w.safetensors")
    load_backbone("tiny", weights=path, cache=tmp_path)
    remembered = load_backbone("tiny", weights=path, cache=tmp_path)
    tiny_file(path, seed=2)
    with pytest.raises(WeightsError, match=r"w\.safetensors: the weights are no longer those"):
        _ = remembered.module
    path.unlink()
    with pytest.raises(WeightsError, match="no such weights file"):
        _ = remembered.classifier


def test_weights_that_change_while_they_are_read_are_not_remembered(tmp_path, monkeypatch, builds):
    from embedkit.backbones import build as building

    path, load = tiny_file(tmp_path / "w.safetensors"), building.load_weights

    def swapped(net, path, **settings):
        load(net, path, **settings)
        tiny_file(path, seed=2)

    monkeypatch.setattr(building, "load_weights", swapped)
    first = load_backbone("tiny", weights=path, cache=tmp_path)
    monkeypatch.setattr(building, "load_weights", load)
    second = load_backbone("tiny", weights=path, cache=tmp_path)
    assert len(builds) == 2
    assert first.fingerprint != second.fingerprint


def test_a_backbone_can_be_pickled_before_and_after_it_is_built(tmp_path):
    load_backbone("tiny", cache=tmp_path)
    remembered = load_backbone("tiny", cache=tmp_path)
    copies = [pickle.loads(pickle.dumps(remembered))]
    images = torch.zeros(1, 3, 32, 32)
    expected = remembered.module(images)
    copies.append(pickle.loads(pickle.dumps(remembered)))
    for copy in copies:
        assert torch.equal(copy.module(images), expected)


def test_threads_get_one_network(tmp_path, builds):
    load_backbone("tiny", cache=tmp_path)
    remembered = load_backbone("tiny", cache=tmp_path)
    found = []
    threads = [threading.Thread(target=lambda: found.append(remembered.module)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert len(builds) == 2


def test_remembering_needs_no_torch(tmp_path):
    chosen = {"tiny": "auto", SMALL_RESNET: "random", "efficientnet_lite0": "auto"}
    loaded = [load_backbone(name, weights=w, cache=tmp_path) for name, w in chosen.items()]
    code = (
        "import sys; from pathlib import Path; from embedkit.backbones import load_backbone\n"
        f"for name, weights in {chosen!r}.items():\n"
        f"    b = load_backbone(name, weights=weights, cache=Path({str(tmp_path)!r}))\n"
        "    print(b.fingerprint, b.head.weight.shape)\n"
        "print({'torch', 'timm'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [f"{backbone.fingerprint} {backbone.head.weight.shape}" for backbone in loaded]
    assert done.stdout.splitlines() == [*told, "set()"]
