"""Every family of indexes and every metric, ids and scores, against brute force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np
import pytest
from stores import write_store
from vectors import all_scores, best_rows, clustered, whitened

from embedkit.index import Index, IndexSpec
from embedkit.index.build_plan import held_out_last
from embedkit.index.faiss_types import make_index
from embedkit.index.gpu import adding_to

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_core")

METRICS = ("cosine", "ip", "l2")
ROWS, DIM, K = 2500, 32, 10

FAMILIES = (
    "Flat",
    "HNSW16",
    "IVF32,Flat",
    "IVF32,SQ8",
    "IVF32,SQfp16",
    "IVF32,PQ16x4fs",
    "IVF32,RaBitQ",
    "PQ16x4fs",
    "SQ8",
    "OPQ16_32,IVF16,PQ16x4fs",
    "PCA24,IVF16,SQ8",
    "HNSW16,SQ8",
    "IVF32,PQ16x4fs,RFlat",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = clustered(ROWS, DIM).astype(np.float16)
    return write_store(tmp_path_factory.mktemp("families") / "photos.h5", rows)


def recall(found: list[set[str]], best: np.ndarray) -> float:
    wanted = [{f"{row}.jpg" for row in row_best} for row_best in best]
    return float(np.mean([len(f & w) / len(w) for f, w in zip(found, wanted, strict=True)]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factory", FAMILIES)
def test_finds_and_scores_as_brute_force(
    tmp_path: Path, store: Path, factory: str, metric: str
) -> None:
    spec = IndexSpec(factory=factory, metric=metric, recall=0.95)
    index = Index.open(Index.build(store, tmp_path / "photos.index", spec))
    rows = clustered(ROWS, DIM).astype(np.float16)
    # Of any length where that changes no order, else of the rows' lengths: recall is claimed there.
    lengths = (0.5, 3) if metric == "l2" else (0.01, 40)
    queries = clustered(400, DIM, seed=1, lengths=lengths)
    expected = all_scores(queries, rows, metric)
    found = index.search(queries, K)
    # Scores are exact, for every row that was found.
    for ids, scores, true in zip(found.ids, found.scores, expected, strict=True):
        mine = [int(name.removesuffix(".jpg")) for name in ids]
        np.testing.assert_allclose(scores[: len(mine)], true[mine], rtol=2e-4, atol=2e-4)
        assert (np.diff(scores[: len(mine)]) <= 0).all()
    assert recall([set(ids) for ids in found.ids], best_rows(expected, K)) >= 0.9


@pytest.mark.parametrize("factory", ["HNSW8", "IVF64,PQ8x4fs", "IVF64,SQ8", "PQ8x4fs"])
def test_the_recall_that_is_claimed_holds_for_fresh_queries(tmp_path: Path, factory: str) -> None:
    rows = clustered(8000, DIM).astype(np.float16)
    store = write_store(tmp_path / "photos.h5", rows)
    spec = IndexSpec(factory=factory, recall=0.9)
    index = Index.open(Index.build(store, tmp_path / "photos.index", spec))
    queries = clustered(1500, DIM, seed=2)
    best = best_rows(all_scores(queries, rows, "cosine"), K)
    found = index.search(queries, K)
    chosen = next(p for p in index.manifest.frontier if p.params == index.manifest.params)
    measured = recall([set(ids) for ids in found.ids], best)
    assert measured == pytest.approx(chosen.recall_at_10, abs=0.02)
    first = recall([{ids[0]} for ids in found.ids], best[:, :1])
    assert first == pytest.approx(chosen.recall_at_1, abs=0.03)
    assert measured >= 0.88


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factory", ["Flat", "IVF16,PQ8x4fs", "HNSW16"])
def test_whitened(tmp_path: Path, store: Path, factory: str, metric: str) -> None:
    spec = IndexSpec(factory=factory, metric=metric, whiten=16, recall=0.95)
    index = Index.open(Index.build(store, tmp_path / "photos.index", spec))
    rows = clustered(ROWS, DIM).astype(np.float16)
    queries = clustered(200, DIM, seed=1)
    # It is learned from all rows but those held out for tuning, which come last.
    held = index.manifest.queries
    sample = rows[held_out_last(ROWS, held, spec.seed)[: ROWS - held]]
    true = whitened(sample, np.concatenate([rows, queries]), metric, 16)
    expected = all_scores(true[ROWS:], true[:ROWS], metric)
    found = index.search(queries, K)
    for ids, scores, row in zip(found.ids, found.scores, expected, strict=True):
        mine = [int(name.removesuffix(".jpg")) for name in ids]
        np.testing.assert_allclose(scores[: len(mine)], row[mine], rtol=1e-3, atol=1e-3)
    assert recall([set(ids) for ids in found.ids], best_rows(expected, K)) > 0.9


@pytest.mark.parametrize(
    "factory",
    ["IVF16,SQ8", "IVF16,PQ8", "IVF16,Flat", pytest.param("OPQ8,IVF16,PQ8", marks=pytest.mark.long),
     "PCA32,IVF16,SQ8", "IVF16,RaBitQ", "IVF16,PQ16x4fs", "IVF16,PQ16x4fsr", "Flat", "HNSW8"],
)  # fmt: skip
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_lists_chosen_apart_give_the_same_index(factory, metric):
    """As on a GPU: another quantizer chooses the lists, the index's own one encodes."""
    rows = np.random.default_rng(0).standard_normal((10_000, 64)).astype(np.float32)
    plain = make_index(factory, 64, metric)
    plain.train(rows)
    fast = faiss.clone_index(plain)
    for index, wanted in ((plain, False), (fast, True)):
        with adding_to(index, wanted=wanted) as add:
            for start in (0, 6_000):
                stop = min(start + 6_000, len(rows))
                add(rows[start:stop], np.arange(start, stop))
    assert fast.ntotal == plain.ntotal == len(rows)
    assert faiss.serialize_index(fast).tobytes() == faiss.serialize_index(plain).tobytes()
