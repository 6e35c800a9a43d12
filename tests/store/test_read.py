"""What `EmbeddingStore` gives, for one file and for a folder of shards alike."""

from itertools import pairwise

import numpy as np
import pytest
from store_contents import HEAD, make_content, make_rows, write_folder, write_shard_file

from embedkit.errors import StoreCorruptError
from embedkit.store import EmbeddingStore, verify
from embedkit.store.format import StoreCounts
from embedkit.types import ImageFailure

SIZES = (3, 0, 5, 1)
COUNT = sum(SIZES)
NAMES = [f"i{row}.jpg" for row in range(COUNT - 1)] + ["i2.jpg"]  # one comes twice
LABELS = [None, "x", None, "\udcff", *["y"] * 5]


@pytest.fixture(scope="module", params=["file", "folder"])
def store(request, tmp_path_factory):
    rows = make_rows(COUNT, ids=NAMES, labels=LABELS)
    failures = [ImageFailure("bad.jpg", "truncated", 5), ImageFailure("odd\udcfe.jpg", "empty")]
    folder = tmp_path_factory.mktemp("store")
    if request.param == "file":
        path = write_shard_file(folder / "a.h5", make_content(rows, failures=failures, skipped=3))
    else:
        cuts = np.cumsum([0, *SIZES])
        path = write_folder(
            folder / "s",
            [
                make_content(
                    rows.rows(first, last) if last > first else None,
                    failures=failures[number : number + 1],
                    skipped=3 if number == 0 else 0,
                )
                for number, (first, last) in enumerate(pairwise(cuts))
            ],
        )
    with EmbeddingStore.open(path) as opened:
        opened.expected = rows
        yield opened


def test_counts(store):
    assert store.counts == StoreCounts(COUNT, 2, 3)
    assert store.counts.found == COUNT + 5
    assert len(store) == len(store.ids) == len(store.embeddings) == COUNT


INDEXES = [
    0, -1, 4, np.int64(3), slice(None), slice(2, 7), slice(7, 2, -2), slice(5, 5), slice(-3, None),
    [0, 8, 3, 3], [-1, 0], [], np.array([[0, 1], [7, -2]]), np.arange(COUNT) % 2 == 0,
    np.zeros(COUNT, bool), (2, 3), (slice(1, 6), 1), (slice(1, 6), slice(0, 2)), ([0, 5], [1, 2]),
    ([0, 5], slice(1, 3)), (np.arange(COUNT) > 4, 0), (..., 1), ..., (), (-1, slice(None)),
    (slice(None), [0, 2]),
]  # fmt: skip


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_embeddings_are_indexed_as_an_array(store, index):
    expected = store.expected.embeddings[index]
    found = store.embeddings[index]
    assert np.shape(found) == expected.shape
    assert np.asarray(found).dtype == np.float16
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "index", [COUNT, -COUNT - 1, [0, COUNT], np.ones(COUNT + 1, bool), [0.5], "a"], ids=str
)
def test_embeddings_have_no_other_rows(store, index):
    with pytest.raises(IndexError):
        store.embeddings[index]


def test_embeddings_are_memory_mapped_and_as_an_array(store):
    assert isinstance(store.shard(0).embeddings, np.memmap)
    assert not store.shard(0).embeddings.flags.writeable
    assert (store.embeddings.shape, store.embeddings.dtype) == ((COUNT, 4), np.float16)
    assert store.embeddings.ndim == 2
    for found in (np.asarray(store.embeddings), store.to_numpy()):
        assert found.dtype == np.float16
        assert np.array_equal(found, store.expected.embeddings)
    assert np.asarray(store.embeddings, np.float32).dtype == np.float32
    assert store.to_numpy(np.float64).dtype == np.float64
    rows = np.array([8, 0, 3])
    assert np.array_equal(store.take(rows), store.expected.embeddings[rows])


def test_a_view_can_t_be_an_array_without_a_copy(store):
    if len(store.shards) > 1:
        with pytest.raises(ValueError, match="copy"):
            np.asarray(store.embeddings, copy=False)


@pytest.mark.parametrize(
    "index", [0, -1, slice(None), slice(2, 8), slice(8, 1, -3), slice(4, 4), np.int32(5)], ids=str
)
def test_ids_are_a_sequence(store, index):
    assert store.ids[index] == NAMES[index]


def test_ids_are_searched_and_walked(store):
    assert list(store.ids) == NAMES
    assert "i4.jpg" in store.ids
    assert store.ids.index("i2.jpg") == 2
    assert store.ids.count("i2.jpg") == 2
    with pytest.raises(IndexError):
        store.ids[COUNT]
    with pytest.raises(TypeError):
        store.ids[1.5]


def test_rows_are_found_by_id(store):
    assert [store.row_of(name) for name in NAMES[:-1]] == list(range(COUNT - 1))
    assert store.row_of("i2.jpg") == 2
    assert np.array_equal(store.get("i7.jpg"), store.expected.embeddings[7])
    for missing in ("", "nope", "\udcff", "\ud800", "i2.jpg\0"):
        with pytest.raises(KeyError):
            store.row_of(missing)
        with pytest.raises(KeyError):
            store.get(missing)


@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_batches(store, rows):
    batches = list(store.iter_batches(rows))
    assert all(1 <= len(batch.ids) == len(batch.embeddings) <= rows for batch in batches)
    assert [name for batch in batches for name in batch.ids] == NAMES
    found = np.concatenate([batch.embeddings for batch in batches])
    assert np.array_equal(found, store.expected.embeddings)
    starts = np.cumsum([0, *(len(batch.ids) for batch in batches)])[:-1]
    assert [batch.start for batch in batches] == starts.tolist()


def test_batches_have_a_row(store):
    with pytest.raises(ValueError, match="rows"):
        next(store.iter_batches(0))


def test_the_rest(store):
    assert store.has_labels
    assert store.labels == [label or "" for label in LABELS]
    assert [failure.reason for failure in store.failures()] == ["truncated", "empty"]
    assert [failure.id for failure in store.failures()] == ["bad.jpg", "odd\udcfe.jpg"]
    assert np.array_equal(store.head.weight, HEAD.weight)
    for name in ("width", "height", "nbytes", "format", "content_hash", "phash"):
        assert np.array_equal(store.images(name), store.expected.images[name])
    with pytest.raises(ValueError, match="no image column 'depth'"):
        store.images("depth")
    blocks = list(store.blocks())
    assert [name for block in blocks for name in block.ids] == list(store.expected.ids)


def test_rows_outside_are_refused(store):
    assert store.locate(-1) == store.locate(COUNT - 1)
    for row in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            store.locate(row)


@pytest.mark.parametrize("folder", [False, True])
def test_an_empty_store(tmp_path, folder):
    failures = [ImageFailure("a", "bad"), ImageFailure("b", "bad")]
    content = make_content(None, failures=failures, head=None)
    empty = make_content(None, head=None)
    path = (
        write_folder(tmp_path / "s", [content, empty])
        if folder
        else write_shard_file(tmp_path / "a.h5", content)
    )
    with EmbeddingStore.open(path) as store:
        assert store.counts == StoreCounts(0, 2, 0)
        assert len(store) == 0
        assert list(store.ids) == store.ids[:] == []
        assert list(store.iter_batches()) == list(store.blocks()) == []
        assert np.asarray(store.embeddings).shape == store.to_numpy().shape == (0, 4)
        assert store.embeddings[:].shape == store.embeddings[[]].shape == (0, 4)
        assert store.images("phash").shape == (0,)
        assert store.images("content_hash").shape == (0, 32)
        assert store.labels is None
        assert store.head is None
        assert [failure.id for failure in store.failures()] == ["a", "b"]
        with pytest.raises(KeyError):
            store.row_of("a")


def test_many_shards_are_not_all_open_at_once(tmp_path):
    contents = [make_content(make_rows(1, seed=seed)) for seed in range(40)]
    with EmbeddingStore.open(write_folder(tmp_path / "s", contents)) as store:
        first = store.shard(0)
        expected = np.concatenate([c.parts[0].embeddings for c in contents])
        assert np.array_equal(store.embeddings[::-1], expected[::-1])
        assert len(set(store.ids)) == 40
        assert store.shard(0) is not first


def test_a_shard_must_be_the_manifest_s(tmp_path):
    folder = write_folder(tmp_path / "s", [make_content(make_rows(2, seed=i)) for i in range(2)])
    write_shard_file(folder / "shard-000001.h5", make_content(make_rows(3)))
    with (
        EmbeddingStore.open(folder) as store,
        pytest.raises(StoreCorruptError, match="its counts aren't those of the manifest"),
    ):
        store.to_numpy()


def test_damage_outside_the_rows_is_told_as_such(tmp_path):
    path = write_shard_file(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    data[data.index(b"truncated")] ^= 1  # a failure's reason
    path.write_bytes(data)
    (problem,) = verify(path)
    for part in ("failures", "head", "image columns"):
        assert part in problem


ROW_INDEXES = [
    0, -1, np.int64(3), slice(None), slice(2, 7), slice(7, 2, -2), slice(5, 5), [0, 8, 3, 3],
    [-1, 0], [], range(3), np.arange(COUNT) % 2 == 0, np.zeros(COUNT, bool),
]  # fmt: skip


@pytest.mark.parametrize("index", ROW_INDEXES, ids=str)
def test_a_store_is_indexed_like_its_rows(store, index):
    expected = store.expected.embeddings[[*index] if isinstance(index, range) else index]
    found = store[index]
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)


def test_a_store_is_indexed_by_ids(store):
    rows = store.expected.embeddings
    np.testing.assert_array_equal(store["i5.jpg"], rows[5])
    np.testing.assert_array_equal(store[["i5.jpg", "i0.jpg", "i2.jpg"]], rows[[5, 0, 2]])
    np.testing.assert_array_equal(store[np.array(["i1.jpg"])], rows[[1]])
    assert "i5.jpg" in store
    assert not {"nothing.jpg", 5, "\ud800"} & {
        name for name in ("nothing.jpg", 5, "\ud800") if name in store
    }


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (COUNT, IndexError), (-COUNT - 1, IndexError), ([0, COUNT], IndexError),
        (np.ones(COUNT + 1, bool), IndexError), (0.5, IndexError), (None, IndexError),
        ((0, 1), IndexError), (..., IndexError),
        ("x.jpg", KeyError), (["i0.jpg", "x.jpg"], KeyError),
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_is_not_there(store, index, error):
    with pytest.raises(error, match=r"row|mask|rows|x\.jpg"):
        store[index]


def test_iterating_gives_the_rows(store):
    np.testing.assert_array_equal(np.stack([*store]), store.expected.embeddings)


def test_repr_says_what_it_is(store):
    said = repr(store)
    dim = store.meta.feature_dim
    for part in ("EmbeddingStore", str(store.path), f"{COUNT} images x {dim}", "2 failed"):
        assert part in said


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_hold_every_column(store, library):
    frame = store.to_pandas() if library == "pandas" else store.to_polars()
    assert [*frame.columns] == [
        "id", "label", "width", "height", "nbytes", "format", "content_hash", "phash", "embedding",
    ]  # fmt: skip
    assert [*frame["id"]] == NAMES
    assert [*frame["label"]] == [{None: "", "\udcff": "\\xff"}.get(one, one) for one in LABELS]
    assert [*frame["width"]] == store.images("width").tolist()
    assert [*frame["phash"]] == store.images("phash").tolist()
    np.testing.assert_array_equal(np.stack(frame["embedding"]), store.expected.embeddings)
    lean = getattr(store, f"to_{library}")(embeddings=False)
    assert "embedding" not in lean.columns


def test_a_notebook_shows_escaped_rows(store):
    page = store._repr_html_()
    assert page.count("<tr>") == COUNT + 1
    assert "&lt;EmbeddingStore" in page
    assert "<script" not in page
