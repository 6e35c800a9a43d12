"""What a shard says is checked when it is first opened, and again once the file has changed."""

import os

import pytest
from store_contents import make_content, make_rows, write_folder, write_shard_file

from embedkit.errors import StoreCorruptError
from embedkit.store import EmbeddingStore, reader, store

SHARDS = 4


@pytest.fixture
def checks(monkeypatch):
    """The files whose structure is checked, while a store keeps two shards open."""
    found = []
    read = reader.read_structure

    def counted(path, *rest):
        found.append(path.name)
        return read(path, *rest)

    monkeypatch.setattr(reader, "read_structure", counted)
    monkeypatch.setattr(store, "_most_open_shards", lambda: 2)
    return found


@pytest.fixture
def folder(tmp_path):
    contents = [make_content(make_rows(5, seed=seed)) for seed in range(SHARDS)]
    return write_folder(tmp_path / "s.h5", contents)


def test_once_per_shard(folder, checks):
    with EmbeddingStore.open(folder) as opened:
        for _ in range(3):
            assert len(list(opened.ids)) == 5 * SHARDS
            assert len(opened.images("nbytes")) == 5 * SHARDS
            assert list(opened.failures()) == []
            assert opened.to_numpy().shape == (5 * SHARDS, 4)
        assert opened.annotations == {}
    assert sorted(checks) == sorted(path.name for path in opened.shard_paths)


def test_again_if_the_file_is_another_one(folder, checks):
    with EmbeddingStore.open(folder) as opened:
        rows = opened.to_numpy()
        path = opened.shard_paths[0]
        write_shard_file(path.with_name("new.h5"), make_content(make_rows(5, seed=9)))
        os.replace(path.with_name("new.h5"), path)
        assert (opened.to_numpy()[5:] == rows[5:]).all()
        assert (opened.to_numpy()[:5] != rows[:5]).any()
        assert checks.count(path.name) == 2
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        opened.shard(2), opened.shard(3)  # now it isn't open
        path.write_bytes(data)
        with pytest.raises(StoreCorruptError, match="damaged"):
            opened.to_numpy()
