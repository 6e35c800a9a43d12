"""PyTorch's engine on a CUDA device: what the CPU's tests can't show."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from images import write_photos

from embedkit.backbones import load_backbone
from embedkit.engines import open_engine, select
from embedkit.engines.torch import TorchEngine
from embedkit.errors import BackboneError
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SIZE = 64
BATCH = 16


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet18_swsl", weights="random", input_size=SIZE)


@pytest.fixture(scope="module")
def batches():
    shape = (24, BATCH, SIZE, SIZE, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def expected(backbone, batches):
    """PyTorch eager in fp32, unfolded, on the CPU."""
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1)
        for v in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.inference_mode():
        rows = [
            backbone.module((torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - mean) / std)
            for batch in batches
        ]
    return torch.stack(rows).numpy()


def cosines(found, expected):
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return (found * expected).sum(-1) / norms


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999999), ("bf16", 0.999)])
def test_features_are_those_of_eager_fp32(backbone, batches, expected, graph, precision, least):
    with TorchEngine(
        backbone, device="cuda", batch_size=BATCH, precision=precision, graph=graph
    ) as engine:
        found = np.stack([engine.embed(batch) for batch in batches])
    assert cosines(found, expected).min() > least
    if precision == "fp32":
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_graph_changes_no_bit(backbone, batches):
    found = []
    for graph in (True, False):
        with TorchEngine(backbone, device="cuda", batch_size=BATCH, graph=graph) as engine:
            found.append([engine.embed(batch) for batch in batches])
    np.testing.assert_array_equal(*found)


def test_two_engines_give_the_same_bits(backbone, batches):
    found = []
    for _ in range(2):
        with TorchEngine(backbone, device="cuda", batch_size=BATCH, precision="bf16") as engine:
            found.append([engine.embed(batch) for batch in batches])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_threads_get_their_own_rows(backbone, batches, slots):
    with TorchEngine(backbone, device="cuda", batch_size=BATCH, in_flight=slots) as engine:
        one_by_one = [engine.embed(batch) for batch in batches]

        def in_pinned_memory(batch):
            buffer = engine.new_buffer()
            buffer[:] = batch
            return engine.embed(buffer, BATCH)

        with ThreadPoolExecutor(12) as pool:
            together = list(pool.map(engine.embed, batches))
            pinned = list(pool.map(in_pinned_memory, batches))
    np.testing.assert_array_equal(together, one_by_one)
    np.testing.assert_array_equal(pinned, one_by_one)


def test_short_batches_in_a_buffer(backbone, batches):
    with TorchEngine(backbone, device="cuda", batch_size=BATCH) as engine:
        buffer = engine.new_buffer()
        assert torch.from_numpy(buffer).is_pinned()
        whole = engine.embed(batches[0])
        for count in (BATCH, 1, 7):
            buffer[:] = 255
            buffer[:count] = batches[0][:count]
            np.testing.assert_array_equal(engine.embed(buffer, count), whole[:count])
            np.testing.assert_array_equal(engine.embed(batches[0][:count]), whole[:count])


def test_waiting_callers_hold_up_nobody(backbone, batches):
    """While one thread waits for the device again and again, another goes on counting."""
    with TorchEngine(backbone, device="cuda", batch_size=BATCH) as engine:
        stop, counted = threading.Event(), []

        def count():
            number = 0
            while not stop.is_set():
                number += 1
            counted.append(number)

        thread = threading.Thread(target=count)
        thread.start()
        for batch in batches:
            engine.embed(batch)
        stop.set()
        thread.join()
    assert counted[0] > 1000


@pytest.fixture
def little_memory():
    """Leaves so many bytes of the device to this process."""

    def leave(nbytes):
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        used = torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction((used + nbytes) / total)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("graph", [True, False])
def test_what_does_not_fit_is_computed_in_parts(little_memory, graph):
    backbone = load_backbone("resnet18_swsl", weights="random")
    batch = np.random.default_rng(1).integers(0, 256, (128, 224, 224, 3), np.uint8)
    with TorchEngine(backbone, device="cuda", batch_size=128, graph=graph) as engine:
        assert engine.part == 128
        expected = engine.embed(batch)
    del engine
    little_memory(500 * 2**20)  # the slots' own take 60, one layer's maps of 128 images 400 each
    with TorchEngine(backbone, device="cuda", batch_size=128, graph=graph) as engine:
        assert engine.part < 128
        assert engine.to_config()["part"] == engine.part
        found = engine.embed(batch)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_memory_that_does_not_hold_the_network(little_memory, backbone):
    torch.zeros(1, device="cuda")
    little_memory(30 * 2**20)  # the weights take 45
    with pytest.raises(BackboneError, match=r"resnet18_swsl: the memory of cuda can't hold it"):
        TorchEngine(backbone, device="cuda", batch_size=BATCH)


@pytest.mark.parametrize("graph", [True, False])
def test_memory_does_not_grow(backbone, batches, graph):
    with TorchEngine(backbone, device="cuda", batch_size=BATCH, graph=graph) as engine:
        buffer = engine.new_buffer()
        buffer[:] = batches[0]
        for _ in range(5):
            engine.embed(buffer, BATCH)
        before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(engine.embed, [batch for batch in batches for _ in range(5)]))
        assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_a_closed_engine_holds_nothing(backbone, batches):
    gc.collect()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        with TorchEngine(backbone, device="cuda", batch_size=BATCH) as engine:
            engine.embed(batches[0])
        del engine
        gc.collect()
        # cuBLAS keeps a workspace for each stream that it saw
        assert torch.cuda.memory_allocated() - before < 64 * 2**20


class Undecided(torch.nn.Module):
    """Asks the device for a number in the middle, which no graph can hold."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, images):
        features = self.module(images)
        return features if features.sum().item() > -1e9 else -features


def test_a_network_that_can_not_be_captured_runs_all_the_same(
    backbone, batches, caplog, monkeypatch
):
    with TorchEngine(backbone, device="cuda", batch_size=BATCH) as engine:
        expected = [engine.embed(batch) for batch in batches]
    undecided = Undecided(backbone.module).eval()
    monkeypatch.setattr(type(backbone), "module", property(lambda _: undecided))
    with (
        TorchEngine(backbone, device="cuda", batch_size=BATCH) as engine,
        ThreadPoolExecutor(6) as pool,
    ):
        found = list(pool.map(engine.embed, batches))
    np.testing.assert_array_equal(found, expected)
    assert "no CUDA graph" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_gives_the_same_features(backbone, batches, expected, precision):
    with (
        TorchEngine(
            backbone, device="cuda", batch_size=BATCH, precision=precision, compiled=True
        ) as engine,
        ThreadPoolExecutor(6) as pool,
    ):
        found = np.stack(list(pool.map(engine.embed, batches)))
    assert cosines(found, expected).min() > (0.999999 if precision == "fp32" else 0.999)


def test_workers_don_t_change_a_bit(backbone, tmp_path):
    write_photos(tmp_path / "photos", 70, size=(90, 70))
    for workers in (1, 2, 7, None):
        extract(
            tmp_path / "photos",
            tmp_path / f"{workers}.h5",
            backbone=backbone,
            engine="torch",
            device="cuda",
            batch_size=8,
            workers=workers,
        )
    first = (tmp_path / "1.h5").read_bytes()
    assert all(path.read_bytes() == first for path in tmp_path.glob("*.h5"))


def test_auto_takes_the_device(backbone):
    with open_engine(backbone) as engine:
        assert (engine.name, engine.device) == ("torch", "cuda:0")
        assert engine.in_flight > 0


@pytest.mark.slow
def test_auto_compiles_for_many_images(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", 40, size=(80, 64))
    settings = {"backbone": "resnet18_swsl", "weights": "random", "input_size": SIZE}

    def compiled(name, **more):
        output = tmp_path / name
        extract(tmp_path / "photos", output, batch_size=8, **settings, **more)
        with EmbeddingStore.open(output) as store:
            return store.meta.engine["compiled"], store.to_numpy()

    few, expected = compiled("few.h5")
    monkeypatch.setattr(select, "_MANY", 30)
    many, rows = compiled("many.h5")
    named, _ = compiled("named.h5", engine="torch")
    assert (few, many, named) == (False, True, False)
    np.testing.assert_allclose(rows, expected, rtol=0.05, atol=0.05)
