"""Candidates compared in the mapped file itself, beside those that are copied out of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import faiss
import numpy as np
import pytest
from stores import write_store
from vectors import all_scores, clustered

from embedkit.errors import IndexCorruptError, IndexFileError
from embedkit.index import Index, IndexSpec
from embedkit.index.build_steps import IndexBuild
from embedkit.index.faiss_types import SearchParams
from embedkit.index.inverted_lists import rename_vectors

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_core")

ROWS, DIM = 2000, 32
NAMES = [f"{row}.jpg" for row in range(ROWS)]


def is_mmap_rerank(index: Index) -> bool:
    return index._searcher._mmap_rerank is not None


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_finds_the_same_as_when_rows_are_copied(tmp_path: Path, dtype: str, metric: str) -> None:
    rows = clustered(ROWS, DIM).astype(dtype)
    whole = write_store(tmp_path / "whole.h5", rows, ids=NAMES)
    half = ROWS // 2
    parts = [
        write_store(tmp_path / "a.h5", rows[:half], ids=NAMES[:half]),
        write_store(tmp_path / "b.h5", rows[half:], ids=NAMES[half:]),
    ]
    spec = IndexSpec(factory="IVF16,PQ16x4fs", metric=metric)
    one = Index.open(Index.build(whole, tmp_path / "one.index", spec))
    two = Index.open(Index.build(parts, tmp_path / "two.index", spec))
    assert is_mmap_rerank(one)
    assert not is_mmap_rerank(two)
    two._searcher.set_params(one.manifest.params)  # timing may have chosen another
    queries = clustered(100, DIM, seed=1)
    expected = all_scores(queries, rows, metric)
    for count in (1, 3, 100):
        found, copied = one.search(queries[:count], 10), two.search(queries[:count], 10)
        assert found.ids == copied.ids
        np.testing.assert_allclose(found.scores, copied.scores, rtol=1e-5, atol=1e-5)
        for ids, scores, true in zip(found.ids, found.scores, expected, strict=False):
            mine = [int(name.removesuffix(".jpg")) for name in ids]
            np.testing.assert_allclose(scores[: len(mine)], true[mine], rtol=2e-4, atol=2e-4)


def test_k_larger_than_what_lists_hold(tmp_path: Path) -> None:
    store = write_store(tmp_path / "whole.h5", clustered(ROWS, DIM).astype(np.float16), ids=NAMES)
    index = Index.open(
        Index.build(store, tmp_path / "one.index", IndexSpec(factory="IVF16,PQ16x4fs"))
    )
    found = index.search(clustered(5, DIM, seed=1), ROWS)
    for ids, scores in zip(found.ids, found.scores, strict=True):
        assert len(set(ids)) == len(ids)
        assert np.isfinite(scores[: len(ids)]).all()
        assert np.isnan(scores[len(ids) :]).all()


@pytest.mark.parametrize("bad", [ROWS, -5, 2**40])
def test_ids_beyond_the_rows_are_refused(tmp_path: Path, bad: int) -> None:
    store = write_store(tmp_path / "whole.h5", clustered(ROWS, DIM).astype(np.float16), ids=NAMES)
    folder = Index.build(store, tmp_path / "one.index", IndexSpec(factory="IVF16,PQ16x4fs"))
    index = faiss.read_index(str(folder / "index.faiss"))
    names = np.arange(ROWS)
    names[7] = bad
    rename_vectors(index, names)
    faiss.write_index(index, str(folder / "index.faiss"))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["sha256"]
    content = (folder / "index.faiss").read_bytes()
    manifest["files"]["index"].update(
        sha256=hashlib.sha256(content).hexdigest(), nbytes=len(content)
    )
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest}))
    with pytest.raises(IndexCorruptError, match="don't fit together"):
        Index.open(folder)


@pytest.mark.parametrize("gone", [1, 300, 1200])
def test_rows_that_are_left_out_are_never_found(tmp_path: Path, gone: int) -> None:
    rows = clustered(ROWS, DIM).astype(np.float16)
    store = write_store(tmp_path / "whole.h5", rows, ids=NAMES)
    index = Index.open(
        Index.build(store, tmp_path / "one.index", IndexSpec(factory="IVF16,PQ16x4fs"))
    )
    assert is_mmap_rerank(index)
    index._searcher.set_params(SearchParams(nprobe=16, k_factor=8))
    passing = np.ones(ROWS, np.bool_)
    passing[np.random.default_rng(0).choice(ROWS, gone, replace=False)] = False
    queries = clustered(60, DIM, seed=1)
    found = index.search(queries, 10, passing=passing)
    expected = np.where(passing, all_scores(queries, rows, "cosine"), -np.inf)
    hits = 0
    for ids, true in zip(found.ids, expected, strict=True):
        mine = [int(name.removesuffix(".jpg")) for name in ids]
        assert len(set(mine)) == 10
        assert passing[mine].all()
        hits += np.isin(mine, np.argsort(-true)[:10]).sum()
    assert hits >= 0.9 * 600


def test_a_build_that_fails_while_writing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = clustered(ROWS, DIM).astype(np.float16)
    rows *= np.random.default_rng(2).uniform(0.5, 2, (ROWS, 1)).astype(np.float16)
    store = write_store(tmp_path / "whole.h5", rows, ids=NAMES)
    spec = IndexSpec(factory="IVF16,SQ8")  # whose parts are kept
    write_ids = IndexBuild._write_ids

    def no_room(self: IndexBuild, write: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexBuild, "_write_ids", no_room)
    with pytest.raises(IndexFileError, match="No space left"):
        Index.build(store, tmp_path / "one.index", spec)
    monkeypatch.setattr(IndexBuild, "_write_ids", write_ids)
    index = Index.open(Index.build(store, tmp_path / "one.index", spec))
    queries = clustered(50, DIM, seed=1)
    expected = all_scores(queries, rows, "cosine")
    found = index.search(queries, 10)
    for ids, scores, true in zip(found.ids, found.scores, expected, strict=True):
        mine = [int(name.removesuffix(".jpg")) for name in ids]
        np.testing.assert_allclose(scores[: len(mine)], true[mine], rtol=2e-4, atol=2e-4)
