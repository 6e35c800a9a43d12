"""The rate of an engine alone, and of decoding alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from support.machine import usable_cores
from support.timing import rate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.engines import Engine


def load(name: str, **options: object) -> Backbone:
    """A backbone with its weights if they are on this machine, else with random ones."""
    from embedkit.backbones import find_spec, load_backbone, weights_on_disk

    weights = "auto" if weights_on_disk(find_spec(name)) else "random"
    return load_backbone(name, weights=weights, **options)


def engine_rate(engine: Engine, seconds: float) -> float:
    """Images/s of batches that lie ready in the host's memory, copies to the device included."""
    callers = engine.in_flight or usable_cores()
    rng = np.random.default_rng(0)
    buffers = [engine.new_buffer() for _ in range(callers)]
    for buffer in buffers:
        buffer[:] = rng.integers(0, 256, buffer.shape, np.uint8)
    return engine.batch_size * rate(engine.embed, buffers * 2, callers, seconds=seconds)


def decode_rates(
    backbone: Backbone, photos: Sequence[Path], count: int, seconds: float
) -> dict[str, float]:
    """Images/s read, decoded, scaled and cropped, by a thread per core and a process per core."""
    import torch

    from embedkit.extraction.decode_workers import DecodeWorkers
    from embedkit.types import ImageRecord

    torch.set_num_threads(1)
    load = loader_of(backbone)
    files = [photos[number % len(photos)] for number in range(count)]
    threads = rate(lambda path: load(path.read_bytes(), str(path)), files, usable_cores())
    batch, callers = 256, 4
    records = [
        ImageRecord(str(files[number % count]), str(files[number % count]))
        for number in range(batch)
    ]
    shape = (batch, backbone.preprocessing.crop, backbone.preprocessing.crop, 3)
    with DecodeWorkers(load, usable_cores(), batch, callers, images=1_000_000) as workers:
        buffers = [np.empty(shape, np.uint8) for _ in range(callers)] * 2
        calls = rate(
            lambda buffer: workers.load(records, buffer), buffers, callers, seconds=seconds
        )
    return {"threads": threads, "processes": batch * calls}


def loader_of(backbone: Backbone) -> ImageLoader:
    """Decodes as extraction does."""
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.resize import scale_in_torch

    return ImageLoader(DecodePolicy(), backbone.preprocessing, "fast", scale_in_torch)


def pixels_of(backbone: Backbone, photos: Sequence[Path]) -> np.ndarray:
    """``(n, S, S, 3) uint8`` of photos, as extraction decodes them."""
    load_image = loader_of(backbone)
    return np.stack([load_image(path.read_bytes(), str(path)).pixels for path in photos])
