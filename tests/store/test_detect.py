"""What a path is, and what to do instead."""

import json

import numpy as np
import pytest
from images import write_photos
from stores import write_store

from embedkit.dedup.api import find_duplicates
from embedkit.dedup.output.folder import read_duplicates, write_duplicates
from embedkit.errors import DedupError, EmbedkitError, IndexFileError, StoreError
from embedkit.index import Index
from embedkit.probe.report import write_probe
from embedkit.probe.run import run_probe
from embedkit.probe.serialization import load_probe
from embedkit.store import EmbeddingStore
from embedkit.store.detect import kind_of_path


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """One of each kind."""
    folder = tmp_path_factory.mktemp("things")
    write_photos(folder / "photos", 3)
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    store = write_store(folder / "a.h5", rows, labels=["x", "y"] * 20)
    Index.build(store, folder / "a.index")
    write_probe(run_probe("knn", store), folder / "a.probe")
    found = find_duplicates(store, calibration="cosine", threshold=0.1)
    write_duplicates(found, folder / "dup", report=False)
    (folder / "empty").mkdir()
    (folder / "b.h5.partial").mkdir()
    (folder / "b.h5.partial" / "run.json").write_text("{}")
    (folder / "list.txt").write_text("a.jpg\n")
    (folder / "photos.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "cal.json").write_text(json.dumps({"format": "embedkit-calibration-1"}))
    (folder / "odd.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (folder / "notes.md").write_text("notes")
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("photos", "images"), ("photos/photo_0000.jpg", "image"), ("a.h5", "store"),
        ("a.index", "index"), ("a.probe", "probe"), ("dup", "duplicates"), ("empty", "folder"),
        ("b.h5.partial", "unfinished"), ("list.txt", "list"), ("photos.zip", "archive"),
        ("cal.json", "calibration"), ("odd.h5", "hdf5"), ("notes.md", "file"), ("gone", "nothing"),
    ],
)  # fmt: skip
def test_kinds(things, name, kind):
    assert kind_of_path(things / name) == kind


@pytest.mark.parametrize(
    ("opener", "error", "name", "text"),
    [
        (EmbeddingStore.open, StoreError, "photos",
         r"a folder of images: run `embedkit extract \S*photos -o photos\.h5` first"),
        (EmbeddingStore.open, StoreError, "a.index", "not an embedkit store, but an index"),
        (EmbeddingStore.open, StoreError, "photos/photo_0000.jpg", r"an image: run .embedkit extr"),
        (EmbeddingStore.open, StoreError, "photos.zip", r"an archive: run `embedkit extract"),
        (EmbeddingStore.open, StoreError, "b.h5.partial", "run the same command again"),
        (EmbeddingStore.open, StoreError, "odd.h5", "HDF5"),
        (EmbeddingStore.open, StoreError, "gone", "no such file or folder"),
        (Index.open, IndexFileError, "photos", r"then `embedkit index build photos\.h5 -o photos"),
        (Index.open, IndexFileError, "dup", "not an embedkit index, but a folder of duplicates"),
        (Index.open, IndexFileError, "gone", "no such file or folder"),
        (load_probe, StoreError, "a.h5", "but an embedding store: run `embedkit probe linear"),
        (read_duplicates, DedupError, "a.h5", r"run `embedkit dedup find \S*a\.h5 -o a\.dupl"),
    ],
)  # fmt: skip
def test_the_wrong_kind_says_what_it_is(things, opener, error, name, text):
    with pytest.raises(error, match=text) as caught:
        opener(things / name)
    assert isinstance(caught.value, EmbedkitError)
    assert "\n" not in str(caught.value)
