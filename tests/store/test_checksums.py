"""A flipped bit in the embeddings is found by every reader that gives them out."""

import numpy as np
import pytest
from stores import write_store

from embedkit.analysis.classification.classify import classify
from embedkit.analysis.embedding_map.plot import plot
from embedkit.dedup.api import find_duplicates
from embedkit.errors import StoreCorruptError
from embedkit.exporters.export import export
from embedkit.index import Index, IndexSpec
from embedkit.probe.run import run_probe
from embedkit.retrieval.search import search
from embedkit.store import EmbeddingStore, merge
from embedkit.store.format import BLOCK_ROWS
from embedkit.types import Head

ROWS, DIM, BAD = 2500, 16, 1700  # the bad row lies in the second of three blocks


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)


@pytest.fixture
def flipped(tmp_path, rows):
    """A store with one bit flipped in a row, which stays a finite number."""
    head = Head(np.ones((3, DIM), np.float32), np.zeros(3, np.float32), ("a", "b", "c"))
    labels = [f"c{row % 3}" for row in range(ROWS)]
    path = write_store(tmp_path / "a.h5", rows, labels=labels, head=head)
    flip(path, rows)
    return path


def flip(path, rows):
    data = bytearray(path.read_bytes())
    data[data.index(rows[BAD].tobytes()) + 1] ^= 1
    path.write_bytes(data)


READERS = {
    "iter_batches": lambda store, _: list(EmbeddingStore.open(store).iter_batches(999)),
    "to_numpy": lambda store, _: EmbeddingStore.open(store).to_numpy(),
    "blocks": lambda store, _: list(EmbeddingStore.open(store).blocks()),
    "asarray": lambda store, _: np.asarray(EmbeddingStore.open(store).embeddings),
    "arithmetic": lambda store, _: EmbeddingStore.open(store).embeddings @ np.ones(DIM),
    "row": lambda store, _: EmbeddingStore.open(store).embeddings[BAD],
    "slice": lambda store, _: EmbeddingStore.open(store).embeddings[::2],
    "rows": lambda store, _: EmbeddingStore.open(store).embeddings[[3, BAD - 5, 4]],
    "take": lambda store, _: EmbeddingStore.open(store).take(np.array([BAD + 1])),
    "get": lambda store, _: EmbeddingStore.open(store).get(f"{BAD - 1}.jpg"),
    "index build": lambda store, out: Index.build(store, out / "a.index"),
    "index build, IVF": lambda s, out: Index.build(s, out / "b.index", IndexSpec("IVF4,SQ8")),
    "exact search": lambda store, _: search(store, f"id:{BAD}.jpg"),
    "classify": lambda store, _: list(classify(store)),
    "probe": lambda store, _: run_probe("knn", store),
    "dedup": lambda store, _: find_duplicates(store, calibration="cosine"),
    "merge": lambda store, out: merge([store], out / "m.h5"),
    "export": lambda store, out: export(store, out / "x.parquet", to="parquet"),
    "plot": lambda store, out: plot(store, out / "p.html", pictures=0, method="pca"),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_finds_it(flipped, tmp_path, reader):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StoreCorruptError, match=r"a\.h5: .*(checksum wrong|damaged)"):
        READERS[reader](flipped, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_random_access_checks_a_block_once_and_no_other(flipped, monkeypatch):
    with EmbeddingStore.open(flipped) as store:
        shard = store.shard(0)
        checked = []
        check = shard._check_block
        monkeypatch.setattr(shard, "_check_block", lambda n: checked.append(n) or check(n))
        for _ in range(3):
            assert store.embeddings[[5, 7]].shape == (2, DIM)
            assert store.embeddings[2 * BLOCK_ROWS :].shape == (ROWS - 2 * BLOCK_ROWS, DIM)
        assert checked == [0, 2]
        assert shard.unchecked.tolist() == [False, True, False]


def test_reranking_finds_it(tmp_path, rows):
    path = write_store(tmp_path / "a.h5", rows)
    index = Index.build(path, tmp_path / "a.index", IndexSpec(factory="SQ4", rerank=True))
    flip(path, rows)
    with (
        Index.open(index, check="fast") as opened,
        pytest.raises(StoreCorruptError, match="checksum wrong"),
    ):
        opened.search(rows[[BAD]], 5)
