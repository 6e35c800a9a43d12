"""Merging: what fits becomes one file, what doesn't is refused, and nothing is lost on the way."""

from itertools import pairwise

import numpy as np
import pytest
from store_contents import make_content, make_rows, write_folder, write_shard_file

from embedkit.errors import StoreCorruptError, StoreError, StoreMismatchError
from embedkit.store import EmbeddingStore, merge, verify
from embedkit.store.format import StoreCounts
from embedkit.types import ImageFailure

ENGINES = [{"name": "test", "version": str(n), "precision": "fp32"} for n in range(3)]


@pytest.fixture
def stores(tmp_path):
    """Two files, the second with labels, and a folder of two shards."""
    plain = make_content(
        make_rows(1500), failures=[ImageFailure("f0", "r0")], skipped=1, engine=ENGINES[0]
    )
    labelled = make_content(
        make_rows(3, seed=1, labels=["a", None, "b"]), source=["other"], engine=ENGINES[1]
    )
    rows = [make_rows(2, seed=seed) for seed in (2, 3)]
    folder = [
        make_content(part, failures=[ImageFailure("f1", "r1")], engine=ENGINES[0], head=None)
        for part in rows
    ]
    return [
        write_shard_file(tmp_path / "a.h5", plain),
        write_shard_file(tmp_path / "b.h5", labelled),
        write_folder(tmp_path / "c", folder),
    ]


def test_all_is_kept_in_order(tmp_path, stores):
    output = merge(stores, tmp_path / "all.h5")
    assert output == tmp_path / "all.h5"
    assert verify(output) == []
    opened = [EmbeddingStore.open(path) for path in stores]
    with EmbeddingStore.open(output) as store:
        assert store.counts == StoreCounts(1507, 3, 1)
        assert list(store.ids) == [name for one in opened for name in one.ids]
        expected = np.concatenate([one.to_numpy() for one in opened])
        assert np.array_equal(store.embeddings, expected)
        assert [f.id for f in store.failures()] == ["f0", "f1", "f1"]
        assert store.labels == [""] * 1500 + ["a", "", "b"] + [""] * 4
        for column in ("phash", "content_hash", "format"):
            expected = np.concatenate([one.images(column) for one in opened])
            assert np.array_equal(store.images(column), expected)
        assert store.head is not None
        assert store.meta.source == ["photos", "other"]
        assert store.meta.engine == {**ENGINES[0], "others": [ENGINES[1]]}
    for one in opened:
        one.close()


def test_it_doesn_t_matter_how_the_parts_were_cut(tmp_path):
    rows = make_rows(2100)
    whole = write_shard_file(tmp_path / "whole.h5", make_content(rows))
    for number, cuts in enumerate([(0, 2100), (0, 5, 2100), (0, 1024, 1025, 2000, 2100)]):
        parts = [make_content(rows.rows(a, b)) for a, b in pairwise(cuts)]
        folder = write_folder(tmp_path / str(number), parts)
        assert merge([folder], tmp_path / f"{number}.h5").read_bytes() == whole.read_bytes()


def test_engines_of_merged_stores_are_all_kept(tmp_path):
    paths = [
        write_shard_file(tmp_path / f"{n}.h5", make_content(make_rows(1, seed=n), engine=engine))
        for n, engine in enumerate(ENGINES)
    ]
    first = merge(paths[:2], tmp_path / "first.h5")
    second = merge([first, paths[2], paths[0]], tmp_path / "second.h5", duplicates="first")
    with EmbeddingStore.open(second) as store:
        assert store.meta.engine == {**ENGINES[0], "others": ENGINES[1:]}
    third = merge([paths[0], second], tmp_path / "third.h5", duplicates="last")
    with EmbeddingStore.open(third) as store:
        assert store.meta.engine == {**ENGINES[0], "others": ENGINES[1:]}


def test_plans_make_a_new_plan_hash(tmp_path):
    def plan_of(name, *hashes):
        paths = [
            write_shard_file(
                tmp_path / f"{name}{n}.h5", make_content(make_rows(1, seed=n), plan_hash=one)
            )
            for n, one in enumerate(hashes)
        ]
        with EmbeddingStore.open(merge(paths, tmp_path / f"{name}.h5")) as store:
            return store.meta.plan_hash

    assert plan_of("a", "1" * 64, "1" * 64) == "1" * 64
    assert plan_of("b", "1" * 64, "2" * 64) == plan_of("c", "1" * 64, "2" * 64)
    assert plan_of("d", "2" * 64, "1" * 64) != plan_of("e", "1" * 64, "2" * 64)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"backbone": "other"}, "backbone"),
        ({"weights_fingerprint": "0" * 64}, "weights_fingerprint"),
        ({"preprocessing": {"resize": 255}}, "preprocessing.resize"),
        ({"normalized": True}, "normalized"),
        ({"engine": {"precision": "bf16"}}, "engine.precision"),
        ({"decode": {}}, "decode.max_bytes"),
    ],
)
def test_what_was_made_otherwise_is_refused(tmp_path, stores, change, name):
    other = write_shard_file(tmp_path / "other.h5", make_content(make_rows(1), **change))
    with pytest.raises(StoreMismatchError, match=name) as caught:
        merge([stores[0], other], tmp_path / "out.h5")
    assert name in caught.value.differences
    assert not (tmp_path / "out.h5").exists()


def test_another_dtype_is_refused(tmp_path):
    paths = [
        write_shard_file(tmp_path / dtype, make_content(make_rows(2, dtype=dtype)))
        for dtype in ("float16", "float32")
    ]
    with pytest.raises(StoreMismatchError, match="dtype: float16 != float32"):
        merge(paths, tmp_path / "out.h5")


@pytest.mark.parametrize("where", ["rows", "ids", "end"])
def test_damaged_input_is_refused(tmp_path, stores, where):
    path = stores[1]
    data = bytearray(path.read_bytes())
    with EmbeddingStore.open(path) as store:
        rows = store.embeddings[0].tobytes()
    at = {"rows": data.index(rows), "ids": data.index(b"photos/1-"), "end": len(data) - 1}[where]
    data[at] ^= 4
    path.write_bytes(data)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreCorruptError, match=r"b\.h5: damaged"):
        merge(stores, tmp_path / "out.h5")
    assert sorted(tmp_path.iterdir()) == before


def test_outputs(tmp_path, stores):
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([], tmp_path / "out.h5")
    output = tmp_path / "out.h5"
    output.write_text("old")
    with pytest.raises(StoreError, match=r"exists already; overwrite=True replaces it"):
        merge(stores, output)
    assert output.read_text() == "old"
    merge(stores, output, overwrite=True)
    assert verify(output) == []
    for inside in (stores[0], stores[2] / "shard-000001.h5"):
        with pytest.raises(StoreError, match="is one of the stores to merge"):
            merge(stores, inside, overwrite=True)
    with pytest.raises(StoreError, match="is a folder"):
        merge(stores, stores[2], overwrite=True)
    with pytest.raises(StoreError, match="can't be written"):
        merge(stores, tmp_path / "missing" / "out.h5")
    assert all(verify(path) == [] for path in stores)
