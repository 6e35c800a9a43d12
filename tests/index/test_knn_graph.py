"""The kNN graph: exact for few rows, nearly so in cells."""

import numpy as np
import pytest
from stores import write_store
from vectors import clustered

from embedkit.index import graph_passes
from embedkit.index import knn_graph as module
from embedkit.index.graph_passes import nearest_others
from embedkit.index.knn_graph import knn_graph
from embedkit.index.store_rows import StoreRows
from embedkit.utils.vectors import unit_rows


def exact(rows, k):
    cosines = unit_rows(rows) @ unit_rows(rows).T
    np.fill_diagonal(cosines, -2)
    return -np.sort(-cosines, axis=1)[:, :k]


@pytest.mark.parametrize("block", [4 * 16 * 7, 2**25])
@pytest.mark.parametrize("k", [1, 5, 300])
def test_exact(tmp_path, monkeypatch, block, k):
    monkeypatch.setattr(graph_passes, "_BLOCK_BYTES", block)
    rows = clustered(120, 16)
    rows[40:60] = rows[40]  # copies, among which an image must not find itself
    numbers = np.arange(10, 110)
    with StoreRows.open([write_store(tmp_path / "a.h5", rows)]) as opened:
        graph = knn_graph(opened, numbers, k, tmp_path)
        best = nearest_others(opened, numbers, np.array([50, 3, 99]))
    expected = exact(rows[numbers], min(k, 99))
    np.testing.assert_allclose(graph.cosines, expected, atol=1e-5)
    assert not (graph.neighbors == np.arange(100)[:, None]).any()
    np.testing.assert_allclose(best, expected[[50, 3, 99], 0], atol=1e-5)


def test_in_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_EXACT_BYTES", 1000)
    monkeypatch.setattr(module, "_LEAST_ROWS", 100)
    rows = clustered(2000, 16)
    with StoreRows.open([write_store(tmp_path / "a.h5", rows)]) as opened:
        graph = knn_graph(opened, np.arange(2000), 8, tmp_path)
    expected = exact(rows, 8)
    assert (graph.cosines >= expected[:, -1:] - 1e-5).mean() > 0.9
    assert (graph.cosines <= expected + 1e-5).all()
    known = graph.neighbors >= 0
    units = unit_rows(rows)
    again = np.einsum("nd,nkd->nk", units, units[graph.neighbors])
    np.testing.assert_allclose(graph.cosines[known], again[known], atol=1e-5)


def test_one_row_has_no_neighbors(tmp_path):
    with StoreRows.open([write_store(tmp_path / "a.h5", np.ones((1, 4), "f4"))]) as opened:
        assert knn_graph(opened, np.arange(1), 3, tmp_path).neighbors.shape == (1, 0)
        assert nearest_others(opened, np.arange(1), np.arange(1)).tolist() == [-1]
