"""Labels put into an existing store: all else stays as it was."""

import numpy as np
import pytest
from store_contents import make_content, make_rows, write_folder
from stores import write_store

from embedkit.errors import SourceError, StoreError
from embedkit.index import Index, IndexSpec
from embedkit.retrieval.search import search
from embedkit.store import EmbeddingStore, verify
from embedkit.store.label import label
from embedkit.store.working_dir import PartialStore

IDS = ["p/cat/a.jpg", "p/dog/b.jpg", "p/c.jpg", "x.tar#owl/d.jpg"]


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    return write_store(tmp_path / "a.h5", rows, ids=IDS, source=("p", "x.tar"))


def labels_of(path):
    with EmbeddingStore.open(path) as opened:
        return opened.labels


def test_by_folder_by_table_and_none(store, tmp_path):
    before = EmbeddingStore.open(store)
    done = label(store, "folder")
    assert (done.images, done.labeled, done.classes) == (4, 4, 4)
    assert labels_of(store) == ["cat", "dog", "p", "owl"]
    table = tmp_path / "t.csv"
    table.write_text("path,label,note\ncat/a.jpg,1,first\np/c.jpg,2,\nowl/d.jpg,1,last\n")
    assert label(store, table).labeled == 3
    assert labels_of(store) == ["1", "", "2", "1"]
    label(store, table, label_column="note")
    assert labels_of(store) == ["first", "", "", "last"]
    assert verify(store) == []
    with EmbeddingStore.open(store) as after:
        assert np.array_equal(np.asarray(after.embeddings), np.asarray(before.embeddings))
        assert list(after.ids) == IDS
        assert after.meta.labels_from == str(table)
    label(store, "none")
    assert labels_of(store) is None
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".csv"] == ["a.h5"]


def test_what_is_refused_leaves_the_store(store, tmp_path):
    data = store.read_bytes()
    table = tmp_path / "t.csv"
    table.write_text("id,label\nnobody.jpg,1\n")
    with pytest.raises(SourceError, match="none of the 4 images"):
        label(store, table)
    with pytest.raises(SourceError, match="column"):
        label(store, table, label_column="other")
    with pytest.raises(ValueError, match="folder, none"):
        label(store, "auto")
    with PartialStore.locked(store) as partial:
        partial.freeze({})
    with pytest.raises(StoreError, match="unfinished run"):
        label(store, "folder")
    assert store.read_bytes() == data


def test_an_index_of_the_store_stays_valid(store, tmp_path):
    index = Index.build(store, tmp_path / "a.index", IndexSpec(factory="SQ8", rerank=True))
    label(store, "folder")
    label(store, "folder")
    found = search(index, store, 4, filters=["label=cat"]).neighbors.ids
    assert found == (("p/cat/a.jpg",),) * 4
    assert search(index, store, 4, exclude_self=True).neighbors.ids[0].count(IDS[0]) == 0


def test_shards_are_replaced_at_once(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "s", [make_content(make_rows(3, seed=n)) for n in range(2)])
    label(folder, "folder")
    assert labels_of(folder) == ["photos"] * 6
    assert verify(folder) == []
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    rename = type(folder).replace

    def killed(self, target):
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(type(folder), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        label(folder, "none")
    monkeypatch.undo()
    with PartialStore.locked(folder):
        pass
    assert labels_of(folder) == ["photos"] * 6
