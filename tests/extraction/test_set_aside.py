"""JPEGs that processes read and a GPU decodes: the same outcomes as by threads."""

from __future__ import annotations

import os

import numpy as np
import pytest
from images import write_photos

from embedkit.decode.gpu_jpeg.encoded import GpuJpegError
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.extraction import decode_workers
from embedkit.extraction.decode_workers import DecodeWorkers
from embedkit.extraction.load_images import load_images
from embedkit.sources import ImageReader
from embedkit.types import ImageRecord

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
COUNT = 20


class StandIn:
    """Decodes as a GPU does, by the processor."""

    def __init__(self, load: ImageLoader, *, fails: bool = False) -> None:
        self.load, self.fails, self.seen, self.is_closed = load, fails, [], False

    def __call__(self, jpegs, memory, pixels):
        if self.fails:
            raise GpuJpegError("no memory")
        small = []
        for place, jpeg in enumerate(jpegs):
            image = self.load(memory[jpeg.offset : jpeg.offset + jpeg.length].tobytes(), "x")
            assert (image.width, image.height) == jpeg.upright_size
            pixels[place] = image.pixels
            small.append(image.thumbnail)
        self.seen += jpegs
        return np.stack(small)

    def close(self):
        self.is_closed = True


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT, size=(120, 90))
    paths = sorted(folder.iterdir())
    cut = folder / "cut.jpg"
    cut.write_bytes(paths[0].read_bytes()[:-400])
    (folder / "notes.txt").write_text("no image")
    odd = [cut, folder / "notes.txt", folder / "missing.jpg"]
    return [ImageRecord(str(path), str(path)) for path in paths[:9] + odd + paths[9:]]


@pytest.fixture
def load():
    return ImageLoader(DecodePolicy(), Preprocessing(resize=64, crop=56), "fast")


@pytest.fixture
def by_threads(load, records):
    pixels = np.zeros((len(records), 56, 56, 3), np.uint8)
    with ImageReader(max_bytes=load.policy.max_bytes) as reader:
        return load_images(reader, load, records, pixels, 64), pixels


def found_by(load, gpu, records):
    pixels = np.zeros((len(records), 56, 56, 3), np.uint8)
    with DecodeWorkers(load, 2, len(records), 1, images=COUNT) as workers:
        workers.decode_jpegs_by(gpu)
        return workers.load(records, pixels), pixels


def is_loaded(outcomes):
    return [one is not None and hasattr(one, "phash") for one in outcomes]


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_outcomes_and_pixels(load, records, by_threads, fails):
    gpu = StandIn(load, fails=fails)
    outcomes, pixels = found_by(load, gpu, records)
    assert outcomes == by_threads[0]
    good = is_loaded(outcomes)
    assert sum(good) == COUNT
    np.testing.assert_array_equal(pixels[good], by_threads[1][good])
    assert len(gpu.seen) == (0 if fails else COUNT)
    assert gpu.is_closed


def test_a_damaged_jpeg_is_not_left_to_the_gpu(load, records):
    gpu = StandIn(load)
    outcomes, _ = found_by(load, gpu, records)
    assert "cut" in records[9].id
    assert "damaged" in outcomes[9].reason or "truncated" in outcomes[9].reason
    assert len(gpu.seen) == COUNT


def test_what_has_no_room_is_decoded_by_the_processes(load, records, by_threads, monkeypatch):
    monkeypatch.setattr(decode_workers, "_ENCODED_BYTES", 1500)  # half a photo
    gpu = StandIn(load)
    outcomes, pixels = found_by(load, gpu, records)
    assert outcomes == by_threads[0]
    good = is_loaded(outcomes)
    np.testing.assert_array_equal(pixels[good], by_threads[1][good])
    assert 0 < len(gpu.seen) < COUNT
