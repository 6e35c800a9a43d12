"""A source that goes away for a moment doesn't become failures: the run stops and resumes."""

import errno

import pytest
from images import write_photos

from embedkit.backbones import load_backbone
from embedkit.errors import SourceError
from embedkit.extraction.extract import extract
from embedkit.extraction.load_images import UnreadImage
from embedkit.extraction.lost_source import LostSource
from embedkit.sources.io import storage
from embedkit.store import EmbeddingStore
from embedkit.store.shard_builder import ShardPart
from embedkit.types import ImageFailure, ImageRecord

COUNT = 60
SMALL = {"batch_size": 4, "shard_rows": 25, "engine": "torch", "workers": 1, "processes": False}


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny", weights="random")


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", COUNT, size=(40, 40))
    return tmp_path / "photos"


def away_after(count, photos):
    """Takes the folder away once so many images are embedded."""

    def on_progress(progress):
        if progress.stage == "embedding" and progress.done >= count and photos.exists():
            photos.rename(photos.with_name("away"))

    return on_progress


def test_a_folder_that_goes_away_stops_the_run(photos, tiny, tmp_path):
    whole, output = tmp_path / "whole.h5", tmp_path / "a.h5"
    extract(photos, whole, backbone=tiny, **SMALL)
    with pytest.raises(SourceError, match=r"images in a row can't be read .*no such file.*kept"):
        extract(photos, output, backbone=tiny, progress=away_after(20, photos), **SMALL)
    assert not output.exists()
    photos.with_name("away").rename(photos)
    result = extract(photos, output, backbone=tiny, **SMALL)
    assert (result.embedded, result.failed) == (COUNT, 0)
    assert 12 <= result.resumed <= 28
    assert output.read_bytes() == whole.read_bytes()


def test_a_disk_that_fails_stops_the_run(photos, tiny, tmp_path, monkeypatch):
    output, whole_file = tmp_path / "a.h5", storage.read_whole

    def read(path, limit):
        if path >= str(photos / "photo_0030.jpg"):
            raise OSError(errno.EIO, "Input/output error")
        return whole_file(path, limit)

    monkeypatch.setattr(storage, "read_whole", read)
    with pytest.raises(SourceError, match=r"Input/output error.*max_read_errors=0"):
        extract(photos, output, backbone=tiny, max_read_errors=8, **SMALL)
    result = extract(photos, output, backbone=tiny, max_read_errors=0, **SMALL)
    assert (result.embedded, result.failed) == (30, 30)
    with EmbeddingStore.open(output) as store:
        assert {one.reason for one in store.failures()} == {"Input/output error"}


def test_a_few_dead_entries_are_failures(photos, tiny, tmp_path):
    names = [str(photos / f"photo_{n:04d}.jpg") for n in range(20)]
    names[5:5] = [f"{tmp_path}/gone/{n}.jpg" for n in range(7)]
    names[20:20] = [f"{photos}/gone{n}.jpg" for n in range(40)]  # its folder is there
    (tmp_path / "list.txt").write_text("\n".join(names))
    result = extract(
        tmp_path / "list.txt", tmp_path / "a.h5", backbone=tiny, max_read_errors=8, **SMALL
    )
    assert (result.embedded, result.failed) == (20, 47)


def batch(text, start=0):
    """One batch: ``x`` is read, ``-`` isn't."""
    records = [ImageRecord(str(start + n), "p") for n in range(len(text))]
    failures = [UnreadImage(str(start + n), "away") for n, kind in enumerate(text) if kind == "-"]
    return records, ShardPart(None, tuple(failures), text.count("x"))


@pytest.mark.parametrize(
    ("batches", "limit", "passed", "stops"),
    [
        (["xxxx", "x--x", "--xx"], 3, 3, False),
        (["xxxx", "xx--", "-xxx"], 3, 1, True),
        (["xxxx", "xx--", "xxxx"], 3, 3, False),
        (["xxxx", "x---"], 3, 1, True),
        (["x---", "----", "xxxx"], 0, 3, False),
        (["xx--", "----", "----"], 10, 0, True),
        (["xx--", "----", "-x--", "xxxx"], 8, 4, False),
    ],
)
def test_only_images_in_a_row_count(batches, limit, passed, stops):
    lost, done = LostSource(limit), []

    def run():
        for number, text in enumerate(batches):
            done.extend(lost.passed(0, *batch(text, 4 * number)))

    if stops:
        with pytest.raises(SourceError):
            run()
    else:
        run()
        done += lost.rest()
    assert len(done) == passed


@pytest.mark.parametrize(
    ("error", "kind", "path", "lost"),
    [
        (FileNotFoundError(2, "x"), "file", "{}/a.jpg", False),
        (FileNotFoundError(2, "x"), "file", "{}/gone/a.jpg", True),
        (FileNotFoundError(2, "x"), "tar", "{}/a.tar", True),
        (FileNotFoundError(2, "x"), "file", "https://example.org/a.jpg", False),
        (OSError(errno.EIO, "x"), "file", "https://example.org/a.jpg", True),
        (OSError(errno.EFBIG, "x"), "file", "{}/a.jpg", False),
        (PermissionError(errno.EACCES, "x"), "file", "{}/a.jpg", False),
        (OSError(errno.ESTALE, "x"), "file", "{}/a.jpg", True),
    ],
)
def test_which_errors_are_the_source_s(tmp_path, error, kind, path, lost):
    record = ImageRecord("a", path.format(tmp_path), kind=kind)
    assert storage.is_source_error(error, record) == lost


def test_failures_keep_their_kind_between_processes():
    from embedkit.extraction.load_images import outcome_from_json, outcome_to_json

    for failure in (ImageFailure("a", "b", 3), UnreadImage("a", "b", -1)):
        assert outcome_from_json("a", outcome_to_json(failure)) == failure
