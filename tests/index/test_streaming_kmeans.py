"""Centroids moved on streamed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np
import pytest
from stores import write_store
from vectors import clustered

from embedkit.index import Index, IndexSpec, train
from embedkit.index import prepare as making
from embedkit.index.faiss_types import ivf_of, make_index
from embedkit.index.store_rows import StoreRows
from embedkit.index.streaming_kmeans import can_move, move_centroids
from embedkit.index.vector_space import Space

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_core")

ROWS, DIM = 3000, 24


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "photos.h5", clustered(ROWS, DIM).astype(np.float16))


def centroids_of(index: faiss.Index) -> np.ndarray:
    ivf = ivf_of(index)
    return faiss.downcast_index(ivf.quantizer).reconstruct_n(0, ivf.nlist)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("factory", ["IVF20,SQ8", "PCA16,IVF20,SQ8"])
def test_a_round_is_one_of_lloyd(
    store: Path, monkeypatch: pytest.MonkeyPatch, factory: str, metric: str
) -> None:
    monkeypatch.setattr("embedkit.index.streaming_kmeans._BLOCK_BYTES", 4 * DIM * 700)
    index, space = make_index(factory, DIM, metric), Space(metric, DIM)
    numbers = np.arange(0, ROWS, 2)
    with StoreRows.open([store]) as rows:
        vectors = space.project(rows.read(numbers))
        index.train(vectors[:300])
        before = centroids_of(index)
        move_centroids(index, rows, numbers, space, 1)
    inner = vectors if factory.startswith("IVF") else index.chain.at(0).apply(vectors)
    scores = inner @ before.T
    if metric == "l2":
        scores -= 0.5 * (before**2).sum(axis=1)
    nearest = scores.argmax(axis=1)
    expected = before.copy()
    for number in np.unique(nearest):
        expected[number] = inner[nearest == number].mean(axis=0)
    if metric != "l2":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(centroids_of(index), expected, rtol=1e-3, atol=1e-4)


def test_an_index_whose_sample_was_small_is_trained_on_more(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(train, "_SAMPLE_BYTES", 4 * DIM * 400)
    monkeypatch.setattr(train, "_LEAST", 100)
    spec = IndexSpec(factory="IVF20,PQ12x4fs")
    moved = Index.open(Index.build(store, tmp_path / "moved.index", spec))
    monkeypatch.setattr(making, "_ROUNDS", 0)
    kept = Index.open(Index.build(store, tmp_path / "kept.index", spec))
    vectors = Space("cosine", DIM).project(clustered(ROWS, DIM).astype(np.float16))

    def fit(index: Index) -> float:
        return float((vectors @ centroids_of(index._searcher.index).T).max(axis=1).mean())

    assert fit(moved) > fit(kept)
    assert not caplog.records  # 1,280 rows are enough for 20 lists


def test_what_has_no_plain_centroids() -> None:
    assert not can_move(make_index("HNSW16", 8, "l2"))
    assert not can_move(make_index("IVF16_HNSW8,Flat", 8, "l2"))
    assert can_move(make_index("OPQ2,IVF16,PQ2x4fs", 8, "l2"))
