"""The PyTorch dataset: the store's rows, from any process."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from store_contents import make_content, make_rows, write_folder
from stores import write_store

from embedkit.errors import StoreCorruptError, StoreError
from embedkit.integrations import torch_dataset
from embedkit.integrations.torch_dataset import StoreDataset
from embedkit.store import EmbeddingStore

LABELS = ["dog", None, "cat", "dog", "ant", None, "cat"]
IDS = [*(f"{row}.jpg" for row in range(6)), "ü\udcff.jpg"]


@pytest.fixture(params=["file", "folder"])
def store(request, tmp_path):
    if request.param == "file":
        rows = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float16)
        return write_store(tmp_path / "a.h5", rows, ids=IDS, labels=LABELS)
    rows = make_rows(7, ids=IDS, labels=LABELS)
    parts = [make_content(rows.rows(0, 2)), make_content(None), make_content(rows.rows(2, 7))]
    return write_folder(tmp_path / "a", parts)


def test_rows_labels_and_ids_are_the_stores(store):
    dataset = StoreDataset(store, verify=True)
    assert dataset.classes == ("ant", "cat", "dog")
    assert dataset.labels.tolist() == [2, -1, 1, 2, 0, -1, 1]
    with EmbeddingStore.open(store) as opened:
        assert dataset.ids() == list(opened.ids)
        expected = torch.from_numpy(opened.to_numpy(np.float32))
        assert dataset.meta == opened.meta
    assert len(dataset) == 7
    for row in range(-7, 7):
        embedding, label = dataset[row]
        assert embedding.dtype == torch.float32
        assert torch.equal(embedding, expected[row])
        assert label == dataset.labels[row]
    order = [6, 0, 3, 3, 2, 1]
    rows, labels = zip(*dataset.__getitems__(order), strict=True)
    assert torch.equal(torch.stack(rows), expected[order])
    assert list(labels) == dataset.labels[order].tolist()
    for row in (-8, 7):
        with pytest.raises(IndexError):
            dataset[row]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_is_chosen(store, dtype):
    embedding, _ = StoreDataset(store, dtype=dtype)[3]
    assert embedding.dtype == dtype
    assert torch.equal(embedding, StoreDataset(store)[3][0].to(dtype))


LOADING = """
import sys
import torch
from torch.utils.data import DataLoader
from embedkit.torch import StoreDataset

if __name__ == "__main__":
    dataset = StoreDataset(sys.argv[1])
    alone = [embedding for embedding, _ in dataset]  # mapped before it is handed on
    options = {"num_workers": 2, "multiprocessing_context": sys.argv[2]}
    batches = list(DataLoader(dataset, batch_size=3, **options))
    assert torch.equal(torch.cat([rows for rows, _ in batches]), torch.stack(alone))
    assert torch.cat([labels for _, labels in batches]).tolist() == dataset.labels.tolist()
"""


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_loader_processes_give_the_same(store, tmp_path, context):
    script = tmp_path / "load.py"  # a process of its own: here other libraries run threads
    script.write_text(LOADING, "utf-8")
    command = [sys.executable, "-W", "ignore", script, store, context]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pickle_holds_no_rows(store):
    dataset = StoreDataset(store)
    dataset[0]
    assert len(pickle.dumps(dataset)) < 5000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3][0], dataset[3][0])


def test_few_shards_are_mapped_at_once(store, monkeypatch):
    monkeypatch.setattr(torch_dataset, "_MAPPED_SHARDS", 1)
    dataset = StoreDataset(store)
    expected = torch.stack([StoreDataset(store)[row][0] for row in range(7)])
    for order in ([0, 6, 1, 5], [6, 0]):
        rows = [row for row, _ in dataset.__getitems__(order)]
        assert torch.equal(torch.stack(rows), expected[order])
        assert len(dataset._maps) == 1


def test_rows_that_are_given_out_can_be_changed(store):
    dataset = StoreDataset(store)
    dataset[0][0].zero_()
    assert dataset[0][0].any()


def test_a_store_without_labels_or_rows(tmp_path):
    bare = StoreDataset(write_store(tmp_path / "b.h5", np.ones((3, 4), np.float32)))
    assert bare.classes == ()
    assert bare.labels.tolist() == [-1, -1, -1]
    empty = StoreDataset(write_store(tmp_path / "c.h5", np.ones((0, 4), np.float32)))
    assert len(empty) == 0
    assert empty.labels.shape == (0,)
    assert list(empty) == []


def test_damage_is_found(store, tmp_path):
    shard = store / "shard-000002.h5" if store.is_dir() else store
    with EmbeddingStore.open(shard) as opened:
        rows = np.ascontiguousarray(opened.embeddings).tobytes()
    data = bytearray(shard.read_bytes())
    data[data.index(rows)] ^= 1
    shard.write_bytes(data)
    StoreDataset(store)
    with pytest.raises(StoreCorruptError, match=rf"{shard.name}: damaged"):
        StoreDataset(store, verify=True)
    with pytest.raises(StoreError, match="no such file"):
        StoreDataset(tmp_path / "missing.h5", verify=True)


def test_a_store_that_changes_is_refused(tmp_path):
    path = write_store(tmp_path / "a.h5", np.ones((3, 4), np.float32))
    dataset = StoreDataset(path)
    write_store(path, np.ones((2, 4), np.float32))
    with pytest.raises(StoreCorruptError, match="changed"):
        dataset[0]
