"""Engines: the same features from each, from any number of threads, filled-up batches included."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from embedkit.backbones import load_backbone
from embedkit.engines import open_engine
from embedkit.errors import BackboneError


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


def expected(backbone, images):
    """What the network itself gives, in PyTorch, for normalised pixels."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1)
        for v in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.inference_mode():
        return backbone.module((pixels - mean) / std).numpy()


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_features_are_the_networks(tiny, images, name):
    with open_engine(tiny, engine=name, device="cpu", batch_size=16) as engine:
        found = engine.embed(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(tiny, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_features_of_a_trained_network(name):
    backbone = load_backbone("efficientnet_lite0")
    images = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), np.uint8)
    with open_engine(backbone, engine=name, device="cpu", batch_size=4) as engine:
        found = engine.embed(images)
    reference = expected(backbone, images)
    np.testing.assert_allclose(found, reference, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_row_does_not_depend_on_the_others(tiny, images, name):
    with open_engine(tiny, engine=name, device="cpu", batch_size=16) as engine:
        whole = engine.embed(images)
        for count in (1, 5, 15):
            np.testing.assert_array_equal(engine.embed(images[:count]), whole[:count])


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_threads_get_their_own_results(tiny, name):
    random = np.random.default_rng(2)
    batches = [random.integers(0, 256, (16, 32, 32, 3), np.uint8) for _ in range(24)]
    with open_engine(tiny, engine=name, device="cpu", batch_size=16) as engine:
        one_by_one = [engine.embed(batch) for batch in batches]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(engine.embed, batches))
    np.testing.assert_array_equal(one_by_one, together)


def test_pytorch_gets_its_threads_back(tiny):
    before = torch.get_num_threads()
    with open_engine(tiny, engine="torch", device="cpu"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("shape", [(17, 32, 32, 3), (0, 32, 32, 3), (2, 32, 31, 3), (2, 3, 32, 32)])
def test_wrong_shapes_are_refused(tiny, shape):
    with (
        open_engine(tiny, device="cpu", batch_size=16) as engine,
        pytest.raises(ValueError, match="expected 1 to"),
    ):
        engine.embed(np.zeros(shape, np.uint8))


def test_wrong_choices_are_refused(tiny):
    with pytest.raises(ValueError, match="openvino runs on the cpu"):
        open_engine(tiny, engine="openvino", device="cuda")
    with pytest.raises(ValueError, match="no device 'nonsense'"):
        open_engine(tiny, device="nonsense")
    with pytest.raises(ValueError, match="batch size"):
        open_engine(tiny, device="cpu", batch_size=0)


def test_converted_network_is_kept_and_gives_the_same_bits(tiny, images, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    with open_engine(tiny, engine="openvino", device="cpu", batch_size=16) as engine:
        first = engine.embed(images)
    kept = sorted((tmp_path / "engines").iterdir())
    assert [path.suffix for path in kept] == [".bin", ".json", ".xml"]
    monkeypatch.setattr("embedkit.engines.openvino._convert", lambda *_: pytest.fail("converted"))
    with open_engine(tiny, engine="openvino", device="cpu", batch_size=16) as engine:
        np.testing.assert_array_equal(engine.embed(images), first)


@pytest.mark.parametrize("suffix", ["bin", "xml", "json"])
def test_damaged_cache_is_made_anew(tiny, images, tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    with open_engine(tiny, engine="openvino", device="cpu", batch_size=16) as engine:
        first = engine.embed(images)
    (damaged,) = (tmp_path / "engines").glob(f"*.{suffix}")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with open_engine(tiny, engine="openvino", device="cpu", batch_size=16) as engine:
        np.testing.assert_array_equal(engine.embed(images), first)
    for path in (tmp_path / "engines").glob("*.json"):
        assert set(json.loads(path.read_bytes())) == {"bin", "xml"}


def test_cache_that_cannot_be_written_costs_only_time(tiny, images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "file"))
    with open_engine(tiny, engine="openvino", device="cpu", batch_size=16) as engine:
        np.testing.assert_allclose(
            engine.embed(images), expected(tiny, images), rtol=1e-5, atol=1e-6
        )


def test_other_settings_are_other_networks(images, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    found = []
    for settings in ({}, {"seed": 1}, {"flip": True}, {"pooling": "max"}):
        backbone = load_backbone("tiny", **settings)
        with open_engine(backbone, engine="openvino", device="cpu", batch_size=16) as engine:
            found.append(engine.embed(images))
        np.testing.assert_allclose(found[-1], expected(backbone, images), rtol=1e-4, atol=1e-5)
    assert len({row.tobytes() for row in found}) == 4


def test_a_network_that_openvino_can_not_run_is_told(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))

    def broken(*_):
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr("torch.export.export", broken)
    with pytest.raises(BackboneError, match=r"no such operation.*engine=.torch"):
        open_engine(tiny, engine="openvino", device="cpu", batch_size=16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_networks_features(tiny, images):
    with open_engine(load_backbone("tiny"), engine="torch", device="cuda") as engine:
        np.testing.assert_allclose(
            engine.embed(images), expected(tiny, images), rtol=1e-3, atol=1e-4
        )


FIRST_CALLS = """
import sys, threading
import numpy as np
from embedkit.backbones import load_backbone
from embedkit.engines import open_engine

sys.setswitchinterval(1e-6)
engine = open_engine(load_backbone("tiny"), engine="openvino", device="cpu")
barrier = threading.Barrier(8)

def call():
    barrier.wait()
    engine.embed(np.zeros((1, 32, 32, 3), np.uint8))

threads = [threading.Thread(target=call) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(2))
def test_first_calls_of_many_threads_do_not_wait_for_each_other(attempt):
    subprocess.run([sys.executable, "-c", FIRST_CALLS], check=True, timeout=120)
