"""Thumbnails in a store: read by row, carried through merging, left out where they shall be."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from store_contents import make_content, make_rows, write_folder, write_shard_file

from embedkit.store import EmbeddingStore, merge, store, verify
from embedkit.store.annotate import annotate
from embedkit.store.format import USUAL_COLUMNS
from embedkit.store.gather import gather
from embedkit.store.set_columns import set_columns

COUNT = 40
CUTS = (0, 11, 11, 12, COUNT)


def without_thumbnails(rows, **meta):
    """A shard as an older embedkit would have written it."""
    return replace(make_content(rows, **meta), columns=USUAL_COLUMNS)


@pytest.fixture(params=["file", "folder"])
def path(request, tmp_path):
    """A store of 40 rows, every third without a thumbnail; a shard of the folder is empty."""
    rows = make_rows(COUNT)
    if request.param == "file":
        return write_shard_file(tmp_path / "a.h5", make_content(rows))
    parts = [rows.rows(a, b) if b > a else None for a, b in pairwise(CUTS)]
    return write_folder(tmp_path / "s", [make_content(part) for part in parts])


@pytest.mark.parametrize(
    "rows",
    [
        [], [0], [39, 0], [5, 4, 4, 20, 39, 11, 10], range(COUNT), range(COUNT - 1, -1, -1),
        np.random.default_rng(0).integers(0, COUNT, 200),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("at_once", [1, 3, 16384])
def test_some_rows_in_any_order(path, rows, at_once, monkeypatch):
    monkeypatch.setattr(store, "_ROWS_AT_ONCE", at_once)
    chosen = np.array(rows, np.int64)
    expected = make_rows(COUNT).images["thumbnail"]
    with EmbeddingStore.open(path) as opened:
        assert "thumbnail" in opened.columns
        found = opened.thumbnails(chosen)
        assert (found.shape, found.dtype) == ((len(chosen), 32, 32), np.uint8)
        np.testing.assert_array_equal(found, expected[chosen])
        np.testing.assert_array_equal(opened.images("thumbnail"), expected)
    assert not expected[1::3].any()
    assert expected[::3].any(axis=(1, 2)).all()


def test_only_the_shards_of_the_rows_are_opened(tmp_path):
    contents = [make_content(make_rows(5, seed=seed)) for seed in range(4)]
    with EmbeddingStore.open(write_folder(tmp_path / "s", contents)) as opened:
        opened.shard = (lambda really: lambda n: numbers.append(n) or really(n))(opened.shard)
        numbers = []
        opened.thumbnails(np.array([16, 7, 15]))
        assert numbers == [1, 3]


@pytest.mark.parametrize("rows", [[COUNT], [-1], [3, COUNT + 5]])
def test_a_row_that_is_not_there(path, rows):
    with EmbeddingStore.open(path) as opened, pytest.raises(IndexError, match="of 40"):
        opened.thumbnails(np.array(rows))


def test_a_store_without(tmp_path):
    path = write_shard_file(tmp_path / "a.h5", without_thumbnails(make_rows(3)))
    with EmbeddingStore.open(path) as opened:
        assert "thumbnail" not in opened.columns
        with pytest.raises(ValueError, match="has no thumbnails"):
            opened.thumbnails(np.array([0]))


@pytest.mark.parametrize("first", [True, False])
def test_a_merge_with_one_that_has_none(tmp_path, first):
    rows = make_rows(5), make_rows(6, seed=1)
    contents = make_content(rows[0]), without_thumbnails(rows[1])
    order = (0, 1) if first else (1, 0)
    paths = [write_shard_file(tmp_path / f"{n}.h5", contents[n]) for n in order]
    output = merge(paths, tmp_path / "all.h5")
    assert verify(output) == []
    parts = rows[0].images["thumbnail"], np.zeros((6, 32, 32), np.uint8)
    with EmbeddingStore.open(output) as opened:
        found = opened.images("thumbnail")
        np.testing.assert_array_equal(found, np.concatenate([parts[n] for n in order]))


@pytest.mark.parametrize(
    ("omitted", "others_have", "expected"),
    [(True, False, ["thumbnail"]), (False, False, []), (True, True, [])],
)
def test_a_merge_is_without_them_unless_a_store_has_some(tmp_path, omitted, others_have, expected):
    chosen = {"omitted_columns": ["thumbnail"]} if omitted else {}
    make = make_content if others_have else without_thumbnails
    paths = [
        write_shard_file(tmp_path / "a.h5", without_thumbnails(make_rows(5), **chosen)),
        write_shard_file(tmp_path / "b.h5", make(make_rows(6, seed=1))),
    ]
    with EmbeddingStore.open(merge(paths, tmp_path / "all.h5")) as opened:
        assert [*opened.meta.omitted_columns] == expected
        assert ("thumbnail" in opened.columns) == others_have


def test_columns_of_different_stores_are_merged_in_one_order(tmp_path):
    """The checksums cover the columns in the order of the format, whatever store is the first."""
    rows = make_rows(3)
    dated = replace(rows, images={**rows.images, "etag": np.array([b"a", b"", b"c"], object)})
    paths = [
        write_shard_file(tmp_path / "a.h5", make_content(rows)),
        write_shard_file(tmp_path / "b.h5", make_content(dated)),
    ]
    output = merge(paths, tmp_path / "all.h5", duplicates="first")
    assert verify(output) == []
    paths[0] = write_shard_file(tmp_path / "c.h5", make_content(make_rows(3, seed=1)))
    output = merge(paths, tmp_path / "both.h5")
    assert verify(output) == []
    with EmbeddingStore.open(output) as opened:
        assert opened.images("etag").tolist() == [b"", b"", b"", b"a", b"", b"c"]


def test_rows_of_two_stores_are_gathered(tmp_path):
    rows = make_rows(5), make_rows(4, seed=1)
    contents = make_content(rows[0]), without_thumbnails(rows[1])
    paths = [write_shard_file(tmp_path / f"{n}.h5", one) for n, one in enumerate(contents)]
    opened = [EmbeddingStore.open(path) for path in paths]
    block = gather(opened, np.array([8, 0, 5, 2]))
    expected = rows[0].images["thumbnail"]
    nothing = np.zeros((32, 32), np.uint8)
    np.testing.assert_array_equal(
        block.column("thumbnail"), [nothing, expected[0], nothing, expected[2]]
    )
    assert gather(opened[1:], np.array([1, 0])).column("thumbnail").shape == (2, 32, 32)
    for one in opened:
        one.close()


def test_they_stay_while_other_columns_are_written(path):
    expected = make_rows(COUNT).images["thumbnail"]
    set_columns(path, {"sharpness": np.ones(COUNT, np.float32)})
    table = path.with_suffix(".csv")
    table.write_text("id,n\n" + "".join(f"photos/0-{row}.jpg,{row}\n" for row in range(COUNT)))
    annotate(path, table)
    assert verify(path) == []
    with EmbeddingStore.open(path) as opened:
        np.testing.assert_array_equal(opened.images("thumbnail"), expected)
        frame = opened.to_pandas()
    assert "thumbnail" not in frame.columns


@pytest.mark.parametrize("shape", [(COUNT,), (COUNT, 1024), (COUNT - 1, 32, 32)])
def test_another_shape_is_not_put_in(path, shape):
    with pytest.raises(ValueError, match="no optional column of 40 values"):
        set_columns(path, {"thumbnail": np.zeros(shape, np.uint8)})


def test_they_can_be_put_in(tmp_path):
    content = without_thumbnails(make_rows(4), omitted_columns=["thumbnail"])
    path = write_shard_file(tmp_path / "a.h5", content)
    pictures = make_rows(4).images["thumbnail"]
    set_columns(path, {"thumbnail": pictures})
    assert verify(path) == []
    with EmbeddingStore.open(path) as opened:
        np.testing.assert_array_equal(opened.thumbnails(np.arange(4)), pictures)
        assert [*opened.meta.omitted_columns] == []
