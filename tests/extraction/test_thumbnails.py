"""The thumbnail of each image: what it shows, on every way into a store, and how it is left out."""

import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from images import draw_photo, encode, write_photos
from PIL import Image

from embedkit.errors import StoreMismatchError
from embedkit.extraction.extract import extract
from embedkit.extraction.load_images import outcome_from_json, outcome_to_json
from embedkit.store import EmbeddingStore, merge, verify
from embedkit.store.format import USUAL_COLUMNS
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.types import ImageFacts

SMALL = {"backbone": "tiny", "weights": "random", "batch_size": 4, "engine": "torch"}
LINUX = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Photos that aren't square, a gray one and a rotated one, and one that is no image."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 6, size=(90, 60))
    draw_photo(9, (50, 80)).convert("L").save("photos/gray.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    draw_photo(10, (70, 40)).save("photos/rotated.jpg", exif=exif)
    Path("photos/bad.jpg").write_bytes(b"no image")
    return tmp_path


def pictures(path):
    """The thumbnails of a store by id."""
    assert verify(path) == []
    with EmbeddingStore.open(path) as store:
        found = store.thumbnails(np.arange(len(store)))
        return dict(zip(store.ids, found, strict=True))


def drawn(name):
    """A thumbnail by Pillow: upright, scaled in color, then gray."""
    with Image.open(name) as image:
        orientation = image.getexif().get(0x0112)
        upright = image.transpose(Image.Transpose.ROTATE_270) if orientation == 6 else image
        small = upright.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    red, green, blue = np.moveaxis(np.asarray(small, np.int64), -1, 0)
    return (77 * red + 150 * green + 29 * blue) // 256


def is_without(path):
    assert verify(path) == []
    with EmbeddingStore.open(path) as store:
        assert [*store.meta.omitted_columns] == ["thumbnail"]
        return not any("thumbnail" in shard.columns for shard in store.structures)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=LINUX)])
def test_it_is_the_whole_image_in_gray(here, processes):
    extract("photos", "s.h5", decoder="exact", processes=processes, workers=2, **SMALL)
    found = pictures("s.h5")
    assert len(found) == 8
    for name, thumbnail in found.items():
        np.testing.assert_array_equal(thumbnail, drawn(name))


@LINUX
def test_the_fast_decoder_is_near(here):
    extract("photos", "s.h5", processes=True, workers=2, **SMALL)
    for name, thumbnail in pictures("s.h5").items():
        assert np.abs(thumbnail.astype(int) - drawn(name)).max() <= 3


def test_an_outcome_crosses_a_process():
    for thumbnail in (b"", bytes(range(256)) * 4):
        facts = ImageFacts(1, 2, 3, "JPEG", bytes(32), 5, camera="c", thumbnail=thumbnail)
        sent = json.loads(json.dumps(outcome_to_json(replace(facts, luminance=1.0))))
        assert outcome_from_json("a", sent).thumbnail == thumbnail


@pytest.mark.parametrize("sharded", [False, True])
def test_they_are_left_out(here, sharded):
    extract("photos", "s.h5", thumbnails=False, sharded=sharded, shard_rows=3, **SMALL)
    assert is_without("s.h5")
    extract("photos", "t.h5", sharded=sharded, shard_rows=3, **SMALL)
    with EmbeddingStore.open("s.h5") as store, EmbeddingStore.open("t.h5") as other:
        assert {*other.columns} - {*store.columns} == {"thumbnail"}
        assert np.array_equal(store.to_numpy(), other.to_numpy())
        for name in store.columns:
            assert store.images(name).tolist() == other.images(name).tolist()
        with pytest.raises(ValueError, match="has no thumbnails"):
            store.thumbnails(np.array([0]))


def test_all_shards_have_them_even_of_no_image(here):
    for number in range(3):
        Path(f"photos/c{number}.jpg").write_bytes(b"")
    extract("photos", "s.h5", sharded=True, shard_rows=2, **SMALL)
    with EmbeddingStore.open("s.h5") as store:
        assert 0 in [shard.embedded for shard in store.shards]
        assert "thumbnail" in store.columns
    assert len(pictures("s.h5")) == 8


def test_an_interrupted_run_keeps_the_choice(here):
    stop = Event()
    settings = {"thumbnails": False, "shard_rows": 3, **SMALL}

    def stop_soon(progress):
        if progress.stage == "embedding" and progress.done >= 4:
            stop.set()

    first = extract("photos", "s.h5", stop=stop, progress=stop_soon, workers=1, **settings)
    assert not first.complete
    with pytest.raises(StoreMismatchError, match="omitted_columns"):
        extract("photos", "s.h5", **{**settings, "thumbnails": True})
    extract("photos", "s.h5", **settings)
    assert is_without("s.h5")
    extract("photos", "once.h5", **settings)
    assert Path("s.h5").read_bytes() == Path("once.h5").read_bytes()
    with pytest.raises(StoreMismatchError, match="omitted_columns"):
        extract("photos", "s.h5", **SMALL)


@pytest.mark.parametrize("thumbnails", [True, False])
def test_parts_are_those_of_one_run(here, thumbnails):
    settings = {"thumbnails": thumbnails, "shard_rows": 3, **SMALL}
    for number in (1, 2):
        extract("photos", "all", sharded=True, part=(number, 2), **settings)
        extract("photos", f"{number}.h5", part=(number, 2), **settings)
    merge(["1.h5", "2.h5"], "both.h5")
    extract("photos", "once.h5", **settings)
    extract("photos", "sharded", sharded=True, **settings)
    assert Path("both.h5").read_bytes() == Path("once.h5").read_bytes()
    for path in Path("sharded").iterdir():
        assert Path("all", path.name).read_bytes() == path.read_bytes()
    if not thumbnails:
        assert is_without("both.h5")
        assert is_without("all")


@pytest.mark.parametrize("sharded", [False, True])
def test_an_update_keeps_the_choice(here, sharded):
    extract("photos", "s.h5", thumbnails=False, sharded=sharded, shard_rows=3, **SMALL)
    Path("photos/late.jpg").write_bytes(encode(draw_photo(50, (40, 40)), "JPEG"))
    assert extract("photos", "s.h5", update=True).written
    assert is_without("s.h5")
    extract("photos", "t.h5", sharded=sharded, shard_rows=3, **SMALL)
    with pytest.raises(StoreMismatchError, match="thumbnails"):
        extract("photos", "t.h5", update=True, thumbnails=False)


@pytest.mark.parametrize("sharded", [False, True])
def test_an_update_keeps_those_of_before(here, sharded):
    extract("photos", "s.h5", sharded=sharded, shard_rows=3, **SMALL)
    before = pictures("s.h5")
    Path("photos/late.jpg").write_bytes(encode(draw_photo(50, (40, 40)), "JPEG"))
    Path("photos/photo_0001.jpg").write_bytes(encode(draw_photo(51, (40, 40)), "JPEG"))
    Path("photos/photo_0002.jpg").unlink()
    extract("photos", "s.h5", update=True)
    extract("photos", "t.h5", **SMALL)
    found, new = pictures("s.h5"), pictures("t.h5")
    assert [*found] == [*new]
    for name, thumbnail in found.items():
        np.testing.assert_array_equal(thumbnail, new[name])
        assert np.array_equal(thumbnail, before.get(name)) == (
            name not in {"photos/late.jpg", "photos/photo_0001.jpg"}
        )


def write_older(path):
    """Rewrites a store of one file as an embedkit without thumbnails would have written it."""
    with EmbeddingStore.open(path) as store:
        shard = store.shard(0)
        content = ShardContent(
            shard.meta, shard.counts, list(shard.blocks()), list(shard.failures()),
            shard.has_labels, shard.head(), USUAL_COLUMNS,
        )  # fmt: skip
        data = bytes(encode_shard(content))
    Path(path).write_bytes(data)


def test_an_older_store_gets_them_for_new_rows(here):
    extract("photos", "s.h5", decoder="exact", **SMALL)
    write_older("s.h5")
    assert not extract("photos", "s.h5", update=True).written
    Path("photos/late.png").write_bytes(encode(draw_photo(50, (40, 40)), "PNG"))
    extract("photos", "s.h5", update=True)
    for name, thumbnail in pictures("s.h5").items():
        expected = drawn(name) if name == "photos/late.png" else np.zeros((32, 32))
        np.testing.assert_array_equal(thumbnail, expected)


def test_an_older_store_goes_without_if_the_run_says_so(here):
    extract("photos", "s.h5", **SMALL)
    write_older("s.h5")
    Path("photos/late.jpg").write_bytes(encode(draw_photo(50, (40, 40)), "JPEG"))
    extract("photos", "s.h5", update=True, thumbnails=False)
    assert is_without("s.h5")
    Path("photos/later.jpg").write_bytes(encode(draw_photo(51, (40, 40)), "JPEG"))
    extract("photos", "s.h5", update=True)  # it remembers
    assert is_without("s.h5")
    with EmbeddingStore.open("s.h5") as store:
        assert len(store) == 10


@pytest.mark.parametrize("first", [True, False])
def test_an_interrupted_update_goes_by_the_last_choice(here, first):
    extract("photos", "s.h5", **SMALL)
    write_older("s.h5")
    for number in range(6):
        photo = encode(draw_photo(50 + number, (40, 40)), "JPEG")
        Path(f"photos/z{number}.jpg").write_bytes(photo)
    stop = Event()
    stop.set()
    begun = extract("photos", "s.h5", update=True, thumbnails=first, stop=stop)
    assert not begun.complete
    assert begun.embedded
    extract("photos", "s.h5", update=True, thumbnails=not first)
    if first:
        assert is_without("s.h5")
    else:
        shown = {name for name, thumbnail in pictures("s.h5").items() if thumbnail.any()}
        assert shown == {f"photos/z{number}.jpg" for number in range(6)}
