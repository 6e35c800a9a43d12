"""Ids that several images have: refused, or one row of each kept."""

import numpy as np
import pytest
from stores import write_store

from embedkit.errors import IndexFileError, StoreError
from embedkit.index import Index
from embedkit.retrieval.search import search
from embedkit.store import EmbeddingStore, merge, verify
from embedkit.store.repeated_ids import repeated_ids

IDS = [f"images/{row:03}.jpg" for row in range(6)]


@pytest.fixture
def two(tmp_path):
    """Stores of different pictures; four of the ids are the same."""
    rows = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    first = write_store(tmp_path / "a.h5", rows[:6], ids=IDS)
    hashes = [bytes([row]) * 32 for row in range(6)]
    others = [*IDS[:4], "x.jpg", "y.jpg"]
    return rows, [first, write_store(tmp_path / "b.h5", rows[6:], ids=others, content_hash=hashes)]


def test_they_are_found_within_and_across_stores(two, tmp_path):
    more = write_store(tmp_path / "c.h5", np.ones((3, 8), np.float32), ids=["z", "z", "x.jpg"])
    opened = [EmbeddingStore.open(path) for path in (*two[1], more)]
    assert repeated_ids(opened) == {
        **{name: [row, row + 6] for row, name in enumerate(IDS[:4])},
        "x.jpg": [10, 14],
        "z": [12, 13],
    }
    assert repeated_ids([]) == repeated_ids(opened[:1]) == {}


def test_merge_refuses_them_or_keeps_one(two, tmp_path):
    rows, stores = two
    with pytest.raises(StoreError, match=r"4 ids .*images/000\.jpg.*duplicates=\"first\""):
        merge(stores, tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()
    for keep, kept in (("first", [*range(6), 10, 11]), ("last", [4, 5, *range(6, 12)])):
        path = merge(stores, tmp_path / f"{keep}.h5", duplicates=keep)
        assert verify(path) == []
        with EmbeddingStore.open(path) as store:
            assert np.array_equal(np.asarray(store.embeddings), rows[kept])
            assert len(set(store.ids)) == store.counts.found == 8
    with pytest.raises(ValueError, match="error, first or last"):
        merge(stores, tmp_path / "m.h5", duplicates="none")


def test_an_index_refuses_them(two, tmp_path):
    _, stores = two
    with pytest.raises(StoreError, match=r"a\.h5 and .*b\.h5: 4 ids"):
        Index.build(stores, tmp_path / "ab.index")
    index = Index.build(stores[0], tmp_path / "a.index")
    with pytest.raises(IndexFileError, match=r"4 of these ids already, such as 'images/000\.jpg'"):
        Index.add(index, stores[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.index", "b.h5"]
    assert Index.remove(index, IDS[:4]) == 4
    assert Index.add(index, stores[1]) == 6  # an id that was removed is free
    assert Index.remove(index, IDS[:1]) == 1


def test_itself_is_a_row_of_a_store_not_an_id(two, tmp_path):
    rows, (first, second) = two
    index = Index.build(first, tmp_path / "a.index")
    others = search(index, second, 6, exclude_self=True).neighbors.ids
    assert [len(ids) for ids in others] == [6] * 6  # other pictures of the same ids
    own = search(index, first, 6, exclude_self=True).neighbors.ids
    assert [set(IDS) - set(ids) for ids in own] == [{name} for name in IDS]
    assert len(rows) == 12
