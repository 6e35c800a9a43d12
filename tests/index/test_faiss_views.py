"""faiss searches rows in memory that isn't its own; this fails if faiss's vectors change."""

from __future__ import annotations

import faiss
import numpy as np

from embedkit.index.faiss_views import view_memory


def test_faiss_searches_memory_that_it_does_not_own() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    index = faiss.IndexFlatIP(8)
    view_memory(index.codes, rows)
    index.ntotal = len(rows)
    assert index.codes.size() == rows.nbytes
    assert index.codes.data().__int__() == rows.ctypes.data  # nothing was copied
    queries = rows[:5].copy()
    rows[7] = 100 * queries[0]  # a change of the memory is seen
    scores, found = index.search(queries, 1)
    np.testing.assert_array_equal(found[:, 0], (queries @ rows.T).argmax(axis=1))
    np.testing.assert_allclose(scores[:, 0], (queries @ rows.T).max(axis=1), rtol=1e-5)


def test_freeing_the_index_leaves_the_memory() -> None:
    rows = np.ones((4, 8), np.float32)
    index = faiss.IndexFlatL2(8)
    view_memory(index.codes, rows)
    index.ntotal = len(rows)
    del index
    assert (rows == 1).all()
