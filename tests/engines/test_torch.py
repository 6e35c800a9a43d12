"""PyTorch's engine: parts, slots and precisions, on the CPU through the code that CUDA runs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from embedkit.backbones import load_backbone
from embedkit.engines import open_engine
from embedkit.engines import torch as torch_engine
from embedkit.engines.batch_slots import BatchSlots, CpuSlot, open_slots
from embedkit.engines.module import BackboneModule, SplitBatch
from embedkit.engines.torch import TorchEngine
from embedkit.errors import BackboneError


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def batches():
    return np.random.default_rng(0).integers(0, 256, (24, 8, 32, 32, 3), np.uint8)


def reference(backbone, images, dtype=torch.float64):
    """The network itself, unfolded, on normalised pixels."""
    module = load_backbone(backbone.spec.name).module.to(dtype)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype) / 255
    mean, std = (
        torch.tensor(v, dtype=dtype).view(1, 3, 1, 1)
        for v in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.inference_mode():
        return module((pixels - mean) / std).float().numpy()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_lanes_give_every_caller_its_own_rows(tiny, batches, count):
    with TorchEngine(tiny, batch_size=8) as engine:
        expected = [engine.embed(batch) for batch in batches]
    with TorchEngine(tiny, batch_size=8, in_flight=count) as engine:
        assert engine.in_flight == count
        with ThreadPoolExecutor(7) as pool:
            found = list(pool.map(engine.embed, batches))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found[0], reference(tiny, batches[0]), rtol=1e-5, atol=1e-6)


def test_no_more_batches_than_lanes_are_under_way(tiny, batches, monkeypatch):
    under_way, most, meeting = [], [], threading.Barrier(3)

    def compute(self):
        under_way.append(self)
        most.append(len(set(map(id, under_way))))
        meeting.wait(30)  # all three slots are in use at once, or this breaks
        self._step(self.images, self.features)
        under_way.remove(self)

    monkeypatch.setattr(CpuSlot, "_compute", compute)
    with TorchEngine(tiny, batch_size=8, in_flight=3) as engine, ThreadPoolExecutor(9) as pool:
        list(pool.map(engine.embed, batches))
    assert max(most) == 3
    assert under_way == []


@pytest.mark.parametrize("where", ["_send", "_compute", "_fetch"])
def test_a_lane_survives_errors(tiny, batches, monkeypatch, where):
    waited = []
    with TorchEngine(tiny, batch_size=8, in_flight=1) as engine:
        expected = engine.embed(batches[0])

        def broken(*_):
            raise RuntimeError("the device is gone")

        with monkeypatch.context() as patch:
            patch.setattr(CpuSlot, where, broken)
            patch.setattr(CpuSlot, "_wait", lambda self: waited.append(self))
            for _ in range(3):
                with pytest.raises(RuntimeError, match="the device is gone"):
                    engine.embed(batches[0])
        np.testing.assert_array_equal(engine.embed(batches[0]), expected)
    assert len(waited) == 3


def test_results_are_not_overwritten_by_the_next_batch(tiny, batches):
    with TorchEngine(tiny, batch_size=8, in_flight=1) as engine:
        first = engine.embed(batches[0])
        kept = first.copy()
        engine.embed(batches[1])
    np.testing.assert_array_equal(first, kept)


class SmallMemory:
    """A step on a device whose memory holds so many images."""

    def __init__(self, step, room):
        self.step, self.room, self.calls = step, room, []

    def __call__(self, images):
        self.calls.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return self.step(images)


@pytest.mark.parametrize(("room", "part"), [(8, 8), (7, 4), (4, 4), (3, 2), (1, 1)])
def test_what_does_not_fit_is_computed_in_parts(tiny, batches, monkeypatch, room, part):
    expected = reference(tiny, batches[0])
    made = []

    def small(step, size):
        made.append(SmallMemory(step, room))
        return SplitBatch(made[0], size)

    monkeypatch.setattr(torch_engine, "SplitBatch", small)
    with TorchEngine(tiny, batch_size=8, in_flight=2) as engine:
        assert engine.to_config()["part"] == engine.part == part
        made[0].calls.clear()
        np.testing.assert_allclose(engine.embed(batches[0]), expected, rtol=1e-5, atol=1e-6)
    assert made[0].calls == [part] * (8 // part)


def test_odd_batches_in_parts():
    step = SplitBatch(lambda images: images.sum((1, 2, 3), dtype=torch.float32)[:, None], 7)
    images = torch.randint(0, 256, (7, 4, 4, 3), dtype=torch.uint8)
    for expected in (7, 4, 2, 1):
        assert step.part == expected
        features = torch.zeros(7, 1)
        step(images, features)
        assert torch.equal(features[:, 0], images.sum((1, 2, 3)).float())
        step.halve()


def test_memory_that_holds_not_even_one_image(tiny, monkeypatch):
    given_back = []
    step = SplitBatch(SmallMemory(None, 0), 4)
    with pytest.raises(torch.OutOfMemoryError):
        open_slots(lambda: [CpuSlot((4, 8, 8, 3), 2, step)], step, lambda: given_back.append(1))
    assert len(given_back) == 2  # after 4 and 2
    before = torch.get_num_threads()
    monkeypatch.setattr(torch_engine, "SplitBatch", lambda *_: step)
    with pytest.raises(BackboneError, match=r"tiny: the memory of cpu can't.*\(CUDA out"):
        TorchEngine(tiny, batch_size=4, in_flight=1)
    assert torch.get_num_threads() == before


def test_settings_come_back(tiny):
    cudnn = torch.backends.cudnn

    def settings():
        return (
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        )

    before = settings()
    torch.set_float32_matmul_precision("high")
    try:
        with TorchEngine(tiny):
            assert settings() == (1, "highest", (False, True, False))
        assert settings() == (before[0], "high", before[2])
    finally:
        torch.set_float32_matmul_precision(before[1])


@pytest.mark.parametrize("count", [0, 2])
def test_bf16_is_near_and_recorded(tiny, batches, count):
    with TorchEngine(tiny, batch_size=8, precision="bf16", in_flight=count) as engine:
        found = engine.embed(batches[0])
        assert engine.to_config()["precision"] == "bf16"
    assert found.dtype == np.float32
    exact = reference(tiny, batches[0])
    cosine = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0.999 < cosine.min() < 0.9999999


def test_the_backbone_stays_as_it_was(batches):
    backbone = load_backbone("tiny")
    before = reference(backbone, batches[0], torch.float32)
    with TorchEngine(backbone, batch_size=8, precision="bf16") as engine:
        engine.embed(batches[0])
    assert next(backbone.module.parameters()).dtype == torch.float32
    images = torch.from_numpy(batches[0])
    assert np.array_equal(
        BackboneModule(backbone, torch.device("cpu"), torch.float32)(images).shape, (8, 16)
    )
    np.testing.assert_array_equal(reference(backbone, batches[0], torch.float32), before)


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_buffer_is_used_again_and_not_copied(tiny, batches, name):
    with open_engine(tiny, engine=name, device="cpu", batch_size=8) as engine:
        expected = [engine.embed(batch[:3]) for batch in batches[:3]]
        buffer = engine.new_buffer()
        assert (buffer.shape, buffer.dtype) == ((8, 32, 32, 3), np.uint8)
        run, seen = engine._run, []
        engine._run = lambda images: (seen.append(images), run(images))[1]
        buffer[:] = 255
        for batch, rows in zip(batches[:3], expected, strict=True):
            buffer[:3] = batch[:3]
            np.testing.assert_array_equal(engine.embed(buffer, 3), rows)
            assert not buffer[3:].any()
    assert all(images is buffer for images in seen)


@pytest.mark.parametrize(("rows", "count"), [(8, 0), (8, 9), (8, -1), (5, 5), (5, 3)])
def test_wrong_counts_are_refused(tiny, rows, count):
    with (
        open_engine(tiny, device="cpu", batch_size=8) as engine,
        pytest.raises(ValueError, match="a count of 1 to 8 of 8 images"),
    ):
        engine.embed(np.zeros((rows, 32, 32, 3), np.uint8), count)


def test_images_that_are_not_ours_are_only_read(tiny, batches):
    images = batches[0][:3].copy()
    images.flags.writeable = False
    with open_engine(tiny, engine="torch", device="cpu", batch_size=8) as engine:
        engine.embed(images)


def test_wrong_choices_are_refused(tiny):
    with pytest.raises(ValueError, match="fp32 or bf16, not in int8"):
        TorchEngine(tiny, precision="int8")
    with pytest.raises(ValueError, match="cpu or cuda, not on meta"):
        TorchEngine(tiny, device="meta")


@pytest.mark.slow
def test_compiled_gives_the_networks_features(tiny, batches):
    with open_engine(tiny, engine="torch-compiled", device="cpu", batch_size=8) as engine:
        assert engine.to_config()["name"] == "torch-compiled"
        assert engine.to_config()["compiled"] is True
        one_by_one = [engine.embed(batch) for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(engine.embed, batches))
    np.testing.assert_array_equal(together, one_by_one)
    for batch, rows in zip(batches, together, strict=True):
        np.testing.assert_allclose(rows, reference(tiny, batch), rtol=1e-4, atol=1e-5)


def test_a_missing_compiler_is_told(tiny, monkeypatch):
    def broken(*_, **__):
        def call(_):
            raise RuntimeError("no working\nC++ compiler")

        return call

    monkeypatch.setattr("torch.compile", broken)
    for count in (0, 2):
        with pytest.raises(BackboneError, match=r"tiny.*no working C\+\+ comp.*engine=.torch"):
            TorchEngine(tiny, compiled=True, in_flight=count)


def test_closed_lanes_hold_nothing():
    pool = BatchSlots([CpuSlot((1, 8, 8, 3), 2, lambda *_: None)])
    pool.close()
    assert pool._free.empty()
