"""Scattered rows come in any order, from one store or several."""

import numpy as np
import pytest
from stores import write_store

from embedkit.store import EmbeddingStore
from embedkit.store.gather import gather, ids_at


@pytest.fixture
def opened(tmp_path):
    rng = np.random.default_rng(0)
    stores = []
    for number, count in enumerate((900, 700)):
        rows = rng.normal(size=(count, 3)).astype(np.float32)
        path = tmp_path / f"{number}.h5"
        write_store(
            path, rows, ids=[f"{number}-{row}" for row in range(count)], labels=["x"] * count
        )
        stores.append(EmbeddingStore.open(path))
    yield stores
    for store in stores:
        store.close()


@pytest.mark.parametrize("order", ["up", "down", "mixed"])
def test_rows_come_in_the_given_order(opened, order):
    rng = np.random.default_rng(1)
    rows = np.sort(rng.choice(1600, 400, replace=False))
    rows = {"up": rows, "down": rows[::-1], "mixed": rng.permutation(rows)}[order]
    block = gather(opened, rows)
    expected = np.concatenate([store.to_numpy() for store in opened])[rows]
    ids = [name.encode() for store in opened for name in store.ids]
    assert np.array_equal(block.embeddings, expected)
    assert block.ids == [ids[row] for row in rows]
    assert block.labels == [b"x"] * 400
    assert len(block.images["content_hash"]) == 400


def test_ids_of_scattered_rows(opened):
    rows = np.array([899, 3, 500, 4])
    assert ids_at(opened[0], rows) == [b"0-899", b"0-3", b"0-500", b"0-4"]
    assert ids_at(opened[0], rows[:0]) == []
