"""The PyTorch export: the store's rows, from any process, whole or not at all."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from stores import write_store

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.exporters.export import export
from embedkit.integrations.torch_dataset import StoreDataset
from embedkit.store import EmbeddingStore

LABELS = ["dog", None, "cat", "dog", "ant", None, "cat"]


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float16)
    ids = [*(f"{row}.jpg" for row in range(6)), "ü\udcff.jpg"]
    return write_store(tmp_path / "a.h5", rows, ids=ids, labels=LABELS)


@pytest.fixture
def exported(store, tmp_path):
    return export(store, tmp_path / "a.torch", to="torch")


def test_rows_labels_and_ids_are_the_stores(store, exported):
    dataset = StoreDataset(exported, verify=True)
    assert dataset.classes == ("ant", "cat", "dog")
    assert dataset.labels.tolist() == [2, -1, 1, 2, 0, -1, 1]
    with EmbeddingStore.open(store) as opened:
        assert dataset.ids() == list(opened.ids)
        wanted = torch.from_numpy(opened.to_numpy(np.float32))
        assert dataset.meta == opened.meta
    assert len(dataset) == 7
    for row in range(7):
        embedding, label = dataset[row]
        assert embedding.dtype == torch.float32
        assert torch.equal(embedding, wanted[row])
        assert label == dataset.labels[row]


LOADING = """
import sys
import torch
from torch.utils.data import DataLoader
from embedkit.torch import StoreDataset

if __name__ == "__main__":
    dataset = StoreDataset(sys.argv[1])
    alone = [embedding for embedding, _ in dataset]  # mapped before it is handed on
    options = {"num_workers": int(sys.argv[3]), "multiprocessing_context": sys.argv[2]}
    batches = list(DataLoader(dataset, batch_size=3, **options))
    assert torch.equal(torch.cat([rows for rows, _ in batches]), torch.stack(alone))
    assert torch.cat([labels for _, labels in batches]).tolist() == dataset.labels.tolist()
"""


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_loader_processes_give_the_same(exported, tmp_path, context, workers):
    script = tmp_path / "load.py"  # a process of its own: here other libraries run threads
    script.write_text(LOADING, "utf-8")
    command = [sys.executable, "-W", "ignore", script, exported, context, str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pickle_holds_no_rows(exported):
    dataset = StoreDataset(exported)
    dataset[0]
    assert len(pickle.dumps(dataset)) < 5000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3][0], dataset[3][0])


def test_rows_that_are_given_out_can_be_changed(exported):
    dataset = StoreDataset(exported)
    dataset[0][0].zero_()
    assert dataset[0][0].any()


def test_a_store_without_labels_or_rows(tmp_path):
    bare = export(
        write_store(tmp_path / "b.h5", np.ones((3, 4), np.float32)), tmp_path / "b", to="torch"
    )
    assert StoreDataset(bare).labels.tolist() == [-1, -1, -1]
    empty = export(
        write_store(tmp_path / "c.h5", np.ones((0, 4), np.float32)), tmp_path / "c", to="torch"
    )
    assert len(StoreDataset(empty)) == 0
    assert StoreDataset(empty).labels.shape == (0,)


def test_damage_is_found(exported, tmp_path):
    path = exported / "embeddings.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    StoreDataset(exported)
    with pytest.raises(StoreCorruptError, match="not the file"):
        StoreDataset(exported, verify=True)
    path.write_bytes(data[:-4])
    with pytest.raises(StoreError):
        StoreDataset(exported)[0]
    described = exported / "dataset.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "format_version": 9}))
    with pytest.raises(StoreFormatError, match="newer"):
        StoreDataset(exported)
    with pytest.raises(StoreError, match="no export for torch"):
        StoreDataset(tmp_path)


def test_an_export_is_replaced_only_when_asked(store, exported):
    with pytest.raises(StoreError, match="overwrite=True"):
        export(store, exported, to="torch")
    (exported / "mine.txt").write_text("")
    with pytest.raises(StoreError, match="no export"):
        export(store, exported, to="torch", overwrite=True)
    (exported / "mine.txt").unlink()
    assert len(StoreDataset(export(store, exported, to="torch", overwrite=True))) == 7
