"""A batch from bytes to rows: memory that is used again, and threads that don't get in each
other's way.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from images import draw_photo, write_photos

from embedkit.backbones import load_backbone
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.phash import perceptual_hash, perceptual_hashes, thumbnail
from embedkit.decode.policy import DecodePolicy
from embedkit.engines.torch import TorchEngine
from embedkit.extraction.batch_processor import BatchProcessor
from embedkit.extraction.extract import extract
from embedkit.sources import ImageReader
from embedkit.types import ImageRecord


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    paths = write_photos(folder, 30, size=(60, 48))
    paths[5].write_bytes(b"")
    return [ImageRecord(str(path), str(path)) for path in paths]


class WatchedEngine(TorchEngine):
    """Counts the buffers that are asked for, and says what it is given."""

    def __init__(self, *args, **settings):
        self.buffers, self.given = [], []
        super().__init__(*args, **settings)

    def new_buffer(self):
        self.buffers.append(super().new_buffer())
        return self.buffers[-1]

    def _run(self, images):
        self.given.append((threading.get_ident(), images))
        return super()._run(images)


def process(tiny, engine, reader):
    loader = ImageLoader(DecodePolicy(), tiny.preprocessing, "fast")
    return BatchProcessor(reader, loader, engine, "float32", normalize=False)


def test_each_thread_uses_one_buffer_again(tiny, records):
    batches = [records[start : start + 4] for start in range(0, 30, 4)] * 3
    meeting = threading.Barrier(3)
    with WatchedEngine(tiny, batch_size=4) as engine, ImageReader() as reader:
        one = process(tiny, engine, reader)
        with ThreadPoolExecutor(3, initializer=lambda: meeting.wait(30)) as pool:
            parts = list(pool.map(one, batches))
    threads = {}
    for thread, images in engine.given:
        assert any(images is buffer for buffer in engine.buffers)
        assert threads.setdefault(thread, images) is images
    assert len(engine.buffers) == len(threads)
    rows = [part.rows.embeddings for part in parts]
    for first, again in zip(rows[:8], rows[8:16], strict=True):
        np.testing.assert_array_equal(first, again)


def test_what_a_buffer_held_before_does_not_matter(tiny, records):
    with TorchEngine(tiny, batch_size=8) as engine, ImageReader() as reader:
        one = process(tiny, engine, reader)
        alone = one(records[20:23])
        one(records[:8])
        after = one(records[20:23])
    np.testing.assert_array_equal(alone.rows.embeddings, after.rows.embeddings)
    assert alone.rows.images["phash"].tolist() == after.rows.images["phash"].tolist()


def test_facts_stay_with_their_images(tiny, records):
    with TorchEngine(tiny, batch_size=8) as engine, ImageReader() as reader:
        part = process(tiny, engine, reader)(records[2:9])
        load = ImageLoader(DecodePolicy(), tiny.preprocessing, "fast")
        kept = [record for record in records[2:9] if record is not records[5]]
        loaded = [load(reader.read(record), record.id) for record in kept]
    assert part.rows.ids == [record.id.encode() for record in kept]
    assert part.rows.images["phash"].tolist() == [one.phash for one in loaded]
    assert part.rows.images["width"].tolist() == [60] * 6
    assert [failure.id for failure in part.failures] == [records[5].id]


def test_hashes_of_a_batch_are_those_of_its_images():
    thumbnails = np.stack(
        [thumbnail(draw_photo(seed, (80, 60))) for seed in range(20)]
        + [np.full((32, 32, 3), level, np.uint8) for level in (0, 9, 255)]
    )
    assert perceptual_hashes(thumbnails) == [perceptual_hash(one) for one in thumbnails]
    assert perceptual_hashes(thumbnails[:0]) == []


@pytest.mark.parametrize(("slots", "workers"), [(0, None), (3, None), (3, 2)])
def test_a_worker_for_each_core_and_each_slot(tiny, tmp_path, monkeypatch, slots, workers):
    asked = []

    class Counting(ThreadPoolExecutor):
        def __init__(self, count, *settings, **named):
            asked.append(count)
            super().__init__(count, *settings, **named)

    monkeypatch.setattr("embedkit.utils.parallel.ThreadPoolExecutor", Counting)
    monkeypatch.setattr("embedkit.extraction.runner.usable_cores", lambda: 5)
    made = TorchEngine.__init__

    def with_slots(self, backbone, **settings):
        made(self, backbone, **{**settings, "in_flight": slots})

    monkeypatch.setattr(TorchEngine, "__init__", with_slots)
    write_photos(tmp_path / "photos", 20, size=(40, 40))
    settings = {"backbone": tiny, "batch_size": 4, "engine": "torch", "device": "cpu"}
    extract(tmp_path / "photos", tmp_path / "a.h5", workers=workers, **settings)
    assert asked == [workers or 5 + slots]
    monkeypatch.undo()
    extract(tmp_path / "photos", tmp_path / "b.h5", workers=1, **settings)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
