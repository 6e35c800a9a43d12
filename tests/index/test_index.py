from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

import faiss
import numpy as np
import pytest
from images import write_photos
from stores import make_meta, write_store

from embedkit.errors import (
    IndexCorruptError,
    IndexFileError,
    IndexMismatchError,
    StoreError,
    StoreMismatchError,
)
from embedkit.extraction.extract import extract
from embedkit.index import Index
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    from pathlib import Path

METRICS = ("cosine", "ip", "l2")
DIM = 24


def vectors(rows: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Vectors of very different lengths, so that the metrics disagree on who is near."""
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.1, 30, (rows, 1))
    return (rng.standard_normal((rows, DIM)) * lengths).astype(dtype)


def all_scores(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """``(Q, N)`` float64: the definition, with no shortcut."""
    q, x = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        return -((q[:, None] - x[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        q, x = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300) for v in (q, x))
    return q @ x.T


def built(folder: Path, rows: np.ndarray, metric: str = "cosine", **store: object) -> Index:
    path = write_store(folder / "photos.h5", rows, **store)
    return Index.open(Index.build(path, folder / "photos.index", metric=metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 50])  # faiss computes few and many by different code
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_finds_what_brute_force_finds(
    tmp_path: Path, metric: str, queries: int, dtype: str
) -> None:
    rows, asked = vectors(3000, 1, dtype), vectors(queries, 2, dtype)
    index = built(tmp_path, rows, metric)
    found = index.search(asked, 7)
    expected = all_scores(asked, rows, metric)
    order = np.argsort(-expected, axis=1)[:, :7]
    assert found.ids == tuple(tuple(f"{row}.jpg" for row in best) for best in order)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(expected, order, axis=1), rtol=1e-4, atol=1e-4
    )
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("metric", METRICS)
def test_an_image_of_the_index_is_its_own_nearest(tmp_path: Path, metric: str) -> None:
    rows = vectors(100)
    if metric == "ip":  # a longer vector may be nearer than itself
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = built(tmp_path, rows, metric).search(rows, 1)
    assert [ids[0] for ids in found.ids] == [f"{row}.jpg" for row in range(100)]
    best = 0.0 if metric == "l2" else 1.0
    np.testing.assert_allclose(found.scores[:, 0], best, atol=2e-3 if metric == "l2" else 1e-6)


def test_cosine_has_no_eye_for_length(tmp_path: Path) -> None:
    rows = vectors(200)
    index = built(tmp_path, rows)
    for scale in (1e-30, 1.0, 1e30):
        found = index.search((rows[:5] * np.float32(scale)).astype(np.float32), 3)
        assert [ids[0] for ids in found.ids] == [f"{row}.jpg" for row in range(5)]
        np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-6)


def test_zero_vectors_score_zero(tmp_path: Path) -> None:
    rows = vectors(20)
    rows[3] = 0
    index = built(tmp_path, rows)
    found = index.search(np.zeros((1, DIM), np.float32), 20)
    assert (found.scores == 0).all()
    scores = index.search(rows[:1], 20)
    at = scores.ids[0].index("3.jpg")
    assert scores.scores[0, at] == 0


@pytest.mark.parametrize("metric", METRICS)
def test_k_larger_than_the_index(tmp_path: Path, metric: str) -> None:
    found = built(tmp_path, vectors(3), metric).search(vectors(2, 5), 5)
    assert [len(ids) for ids in found.ids] == [3, 3]
    assert found.scores.shape == (2, 5)
    assert np.isnan(found.scores[:, 3:]).all()
    assert np.isfinite(found.scores[:, :3]).all()


def test_empty_index_and_no_query(tmp_path: Path) -> None:
    index = built(tmp_path, vectors(0))
    assert len(index) == 0
    found = index.search(vectors(2), 4)
    assert found.ids == ((), ())
    assert np.isnan(found.scores).all()
    assert index.search(vectors(0), 4).scores.shape == (0, 4)


def test_ids_keep_every_byte(tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg", b"new\nline.jpg", "日本.jpg".encode(), b"", b"a.tar#b.jpg"]
    ids = [name.decode("utf-8", "surrogateescape") for name in names]
    index = built(tmp_path, vectors(5), ids=ids)
    found = index.search(vectors(5), 1)
    assert [best[0] for best in found.ids] == ids
    assert (tmp_path / "photos.index/ids.bin").read_bytes() == b"".join(n + b"\0" for n in names)
    if sys.platform == "linux":
        assert os.fsencode(found.ids[0][0]) == names[0]


def test_several_stores_in_their_order(tmp_path: Path) -> None:
    rows = vectors(50)
    first = write_store(tmp_path / "a.h5", rows[:20], ids=[f"a{i}" for i in range(20)])
    second = write_store(tmp_path / "b.h5", rows[20:], ids=[f"b{i}" for i in range(30)])
    index = Index.open(Index.build([first, second], tmp_path / "both.index"))
    found = index.search(rows, 1)
    expected = [f"a{i}" for i in range(20)] + [f"b{i}" for i in range(30)]
    assert [ids[0] for ids in found.ids] == expected


def test_stores_of_different_backbones_are_refused(tmp_path: Path) -> None:
    first = write_store(tmp_path / "a.h5", vectors(2))
    second = write_store(tmp_path / "b.h5", vectors(2), backbone="other")
    with pytest.raises(StoreMismatchError, match="backbone: tiny != other"):
        Index.build([first, second], tmp_path / "both.index")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    rows = vectors(5)
    rows[3, 2] = np.inf
    path = write_store(tmp_path / "photos.h5", rows)
    with pytest.raises(StoreError, match=r"3\.jpg isn't finite"):
        Index.build(path, tmp_path / "photos.index")
    assert [path.name for path in tmp_path.iterdir()] == ["photos.h5"]


def test_bad_arguments(tmp_path: Path) -> None:
    index = built(tmp_path, vectors(5))
    with pytest.raises(ValueError, match=r"\(Q, 24\)"):
        index.search(vectors(2)[:, :5], 1)
    with pytest.raises(ValueError, match="k must be"):
        index.search(vectors(2), 0)
    with pytest.raises(ValueError, match="query 1"):
        index.search(np.where(np.arange(2)[:, None] == 1, np.nan, vectors(2)), 1)
    with pytest.raises(ValueError, match="cosine, ip, l2"):
        Index.build(tmp_path / "photos.h5", tmp_path / "other", metric="cos")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to index"):
        Index.build([], tmp_path / "other")


def test_overwrite_replaces_an_index_and_nothing_else(tmp_path: Path) -> None:
    built(tmp_path, vectors(5))
    store, output = tmp_path / "photos.h5", tmp_path / "photos.index"
    with pytest.raises(IndexFileError, match="exists already"):
        Index.build(store, output)
    assert len(Index.open(Index.build(store, output, metric="l2", overwrite=True))) == 5
    assert Index.open(output).metric == "l2"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(IndexFileError, match="is no index"):
        Index.build(store, mine, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "photos.h5", "photos.index"]


def test_overwrite_never_replaces_a_sharded_store(tmp_path: Path) -> None:
    store = write_store(tmp_path / "photos.h5", vectors(5))
    photos, sharded = tmp_path / "photos", tmp_path / "sharded"
    write_photos(photos, 3, size=(40, 30))
    extract(photos, sharded, backbone="tiny", sharded=True, device="cpu")
    before = {path.name: path.read_bytes() for path in sharded.iterdir()}
    with pytest.raises(IndexFileError, match="is no index, so it is not replaced"):
        Index.build(store, sharded, overwrite=True)
    assert {path.name: path.read_bytes() for path in sharded.iterdir()} == before


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    built(tmp_path, vectors(5))
    folder = tmp_path / "photos.index"
    for name in ("index.faiss", "ids.bin", "manifest.json"):
        path = folder / name
        good = path.read_bytes()
        for at in np.linspace(0, len(good) - 1, 40).astype(int):
            bad = bytearray(good)
            bad[at] ^= 1
            path.write_bytes(bad)
            with pytest.raises(IndexFileError):
                Index.open(folder)
        path.write_bytes(good)
    assert len(Index.open(folder)) == 5


@pytest.mark.parametrize("name", ["index.faiss", "ids.bin"])
def test_missing_and_cut_files(tmp_path: Path, name: str) -> None:
    built(tmp_path, vectors(5))
    path = tmp_path / "photos.index" / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(IndexCorruptError, match="SHA-256"):
        Index.open(tmp_path / "photos.index")
    path.unlink()
    with pytest.raises(IndexCorruptError, match="No such file"):
        Index.open(tmp_path / "photos.index")


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Changes a manifest and seals it again, as one who means harm would."""
    content = json.loads((folder / "manifest.json").read_bytes())
    del content["sha256"]
    content.update(changes)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**content, "sha256": digest}))


def test_what_faiss_refuses_is_an_index_error(tmp_path: Path) -> None:
    built(tmp_path, vectors(5))
    folder = tmp_path / "photos.index"
    (folder / "index.faiss").write_bytes(b"no index at all")
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    files["index"]["sha256"] = hashlib.sha256(b"no index at all").hexdigest()
    rewrite_manifest(folder, files=files)
    with pytest.raises(IndexCorruptError, match="faiss says"):
        Index.open(folder)


def test_counts_that_do_not_fit_and_newer_formats(tmp_path: Path) -> None:
    built(tmp_path, vectors(5))
    folder = tmp_path / "photos.index"
    rewrite_manifest(folder, count=6)
    with pytest.raises(IndexCorruptError, match="don't fit together"):
        Index.open(folder)
    rewrite_manifest(folder, format_version=3)
    with pytest.raises(IndexFileError, match="format 3"):
        Index.open(folder)
    rewrite_manifest(folder, format="something")
    with pytest.raises(IndexFileError, match="not the manifest"):
        Index.open(folder)


def test_no_index_there(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="no such file or folder"):
        Index.open(tmp_path / "nothing")
    with pytest.raises(IndexFileError, match="not an embedkit index, but a folder without images"):
        Index.open(tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "photos.h5", vectors(5))

    def full(index: object, writer: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(IndexFileError, match="No space left"):
        Index.build(store, tmp_path / "photos.index")
    assert [path.name for path in tmp_path.iterdir()] == ["photos.h5"]


def test_no_folder_to_write_in(tmp_path: Path) -> None:
    store = write_store(tmp_path / "photos.h5", vectors(5))
    with pytest.raises(IndexFileError, match="can't be written"):
        Index.build(store, tmp_path / "missing" / "photos.index")


def test_compatible_queries(tmp_path: Path) -> None:
    index = built(tmp_path, vectors(5))
    meta = make_meta(feature_dim=DIM, engine={"name": "other"}, dtype="float16", normalized=True)
    index.check_compatible(meta)
    with EmbeddingStore.open(tmp_path / "photos.h5") as store:
        index.check_compatible(store.meta)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backbone": "resnet50_swsl"}, "backbone: tiny in the index, resnet50_swsl"),
        ({"weights_fingerprint": "0"}, "weights_fingerprint"),
        ({"preprocessing": {"resize": 224, "crop": 224}}, "preprocessing.resize: 256"),
        ({"pooling": {"pooling": "gem"}}, "pooling.pooling"),
        ({"feature_dim": 8}, "feature_dim"),
    ],
)
def test_other_queries_are_refused(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    index = built(tmp_path, vectors(5))
    with pytest.raises(IndexMismatchError, match=told):
        index.check_compatible(make_meta(**{"feature_dim": DIM, **changes}))


def test_normalised_queries_matter_to_other_metrics(tmp_path: Path) -> None:
    index = built(tmp_path, vectors(5), "ip")
    with pytest.raises(IndexMismatchError, match="normalized"):
        index.check_compatible(make_meta(feature_dim=DIM, normalized=True))
