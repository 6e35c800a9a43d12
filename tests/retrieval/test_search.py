"""Searching with images, stores and ids, against numpy's brute force over the stored rows."""

from __future__ import annotations

import hashlib
import io
import sys

import numpy as np
import pytest
from images import write_photos
from stores import write_store

import embedkit
from embedkit.errors import (
    IndexFileError,
    IndexMismatchError,
    SourceError,
    StoreError,
    UnknownBackboneError,
)
from embedkit.index import Index
from embedkit.retrieval import SearchConfig, open_search, search
from embedkit.retrieval.filters import Filter
from embedkit.store import EmbeddingStore

DIM, ROWS = 16, 400


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, DIM)) * rng.uniform(0.1, 9, (rows, 1))).astype(np.float32)


def brute_force(queries: np.ndarray, rows: np.ndarray, allowed: np.ndarray, k: int):
    """``(ids, cosines)`` of the best allowed rows of each query, by the definition."""
    q, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, rows))
    scores = np.where(allowed, q.astype(np.float64) @ x.T.astype(np.float64), -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, order, axis=1)
    return [
        (tuple(f"{row}.jpg" for row in best[np.isfinite(s)]), s[np.isfinite(s)])
        for best, s in zip(order, found, strict=True)
    ]


def assert_same(result, expected) -> None:
    assert result.neighbors.ids == tuple(ids for ids, _ in expected)
    for row, (_, scores) in zip(result.neighbors.scores, expected, strict=True):
        np.testing.assert_allclose(row[: len(scores)], scores, atol=1e-5)
        assert np.isnan(row[len(scores) :]).all()


@pytest.fixture(scope="module")
def rows():
    return vectors(ROWS)


@pytest.fixture(scope="module")
def world(tmp_path_factory, rows):
    """An index of 400 labelled rows beside its store, and a store of 30 queries."""
    folder = tmp_path_factory.mktemp("world")
    labels = [None if row % 10 == 9 else f"class{row % 3}" for row in range(ROWS)]
    write_store(folder / "a.h5", rows, labels=labels)
    Index.build(folder / "a.h5", folder / "a.index")
    write_store(
        folder / "q.h5",
        vectors(30, 1),
        ids=[f"q{row}" for row in range(30)],
        content_hash=[hashlib.sha256(b"query %d" % row).digest() for row in range(30)],
    )
    return folder


def test_rows_of_a_store(world, rows):
    result = search(world / "a.index", world / "q.h5", k=7)
    assert result.queries == tuple(f"q{row}" for row in range(30))
    assert result.failures == ()
    assert_same(result, brute_force(vectors(30, 1), rows, np.ones(ROWS, bool), 7))


def test_exported_lazily():
    assert embedkit.search is search


@pytest.mark.parametrize(
    ("filters", "allowed"),
    [
        (["label=class1"], lambda n: (n % 3 == 1) & (n % 10 != 9)),
        (["label=class[01]", "path=*7.jpg"], lambda n: (n % 3 < 2) & (n % 10 == 7)),
        (["label!=class0"], lambda n: (n % 3 != 0) | (n % 10 == 9)),
        (["label="], lambda n: n % 10 == 9),
        (["path=123.jpg"], lambda n: n == 123),  # one of 400: the search goes to the bottom
        (["path=?.jpg", "width >= 64", "nbytes<1001", "format=jpeg"], lambda n: n < 10),
        (["width<64"], lambda n: n < 0),
    ],
)
@pytest.mark.parametrize("k", [1, 25])
def test_filters_leave_k_results_where_there_are_that_many(world, rows, filters, allowed, k):
    result = search(world / "a.index", world / "q.h5", k=k, filters=filters)
    mask = allowed(np.arange(ROWS))
    assert_same(result, brute_force(vectors(30, 1), rows, mask, k))


def test_threshold(world, rows):
    result = search(world / "a.index", world / "q.h5", k=20, threshold=0.4)
    whole = brute_force(vectors(30, 1), rows, np.ones(ROWS, bool), 20)
    cut = [(ids[: (s >= 0.4).sum()], s[s >= 0.4]) for ids, s in whole]
    assert len({len(ids) for ids, _ in cut}) > 2
    assert_same(result, cut)
    filtered = search(world / "a.index", world / "q.h5", k=20, threshold=0.4, filters=["label!="])
    mask = np.arange(ROWS) % 10 != 9
    whole = brute_force(vectors(30, 1), rows, mask, 20)
    assert_same(filtered, [(ids[: (s >= 0.4).sum()], s[s >= 0.4]) for ids, s in whole])


def test_exclude_self_by_id_and_by_bytes(tmp_path, rows):
    """Row 5 is a copy of row 3 under another name; row 6 has the same embedding, other bytes."""
    rows = rows[:60].copy()
    rows[5] = rows[6] = rows[3]
    hashes = [hashlib.sha256(b"%d" % (3 if row == 5 else row)).digest() for row in range(60)]
    path = write_store(tmp_path / "a.h5", rows, content_hash=hashes)
    index = Index.build(path, tmp_path / "a.index")
    result = search(index, path, k=59, exclude_self=True)
    q = np.arange(60)
    allowed = q[:, None] != q[None]
    allowed[3, 5] = allowed[5, 3] = False
    expected = brute_force(rows, rows, allowed, 59)
    for ids, (wanted, _) in zip(result.neighbors.ids, expected, strict=True):
        assert sorted(ids) == sorted(wanted)
    assert result.neighbors.ids[3][0] == "6.jpg"
    path.rename(tmp_path / "elsewhere.h5")  # without the store only the id is known
    result = search(index, tmp_path / "elsewhere.h5", k=59, exclude_self=True)
    assert set(result.neighbors.ids[3][:2]) == {"5.jpg", "6.jpg"}
    result = search(
        index, tmp_path / "elsewhere.h5", 1, exclude_self=True, stores=[tmp_path / "elsewhere.h5"]
    )
    assert result.neighbors.ids[3] == ("6.jpg",)


def test_ids_of_the_index(world, rows):
    result = search(world / "a.index", ["id:7.jpg", "id:nope", "id:399.jpg"], k=3)
    assert result.queries == ("7.jpg", "399.jpg")
    assert [failure.id for failure in result.failures] == ["nope"]
    assert_same(result, brute_force(rows[[7, 399]], rows, np.ones(ROWS, bool), 3))


def test_ids_and_filters_need_the_store(tmp_path, rows):
    path = write_store(tmp_path / "a.h5", rows[:9])
    index = Index.build(path, tmp_path / "other.index")
    path = path.rename(tmp_path / "moved.h5")
    with pytest.raises(StoreError, match="stores=FILE"):
        search(index, "id:3.jpg")
    with pytest.raises(StoreError, match="stores=FILE"):
        search(index, path, filters=["width>1"])
    assert search(index, "id:3.jpg", k=1, stores=[path]).neighbors.ids == (("3.jpg",),)


def test_a_store_that_lacks_images_of_the_index_is_refused(tmp_path, rows):
    paths = [
        write_store(tmp_path / f"{n}.h5", part, ids=[f"{n}-{i}" for i in range(20)])
        for n, part in enumerate([rows[:20], rows[20:40]])
    ]
    index = Index.build(paths, tmp_path / "both.index")
    with pytest.raises(StoreError, match="in none of its stores"):
        search(index, paths[0], k=30, filters=["width>1"], stores=paths[:1])
    found = search(index, paths[0], k=40, filters=["path=1-*"], stores=paths).neighbors.ids
    assert {name[0] for ids in found for name in ids} == {"1"}
    assert {len(ids) for ids in found} == {20}


def test_another_store_beside_the_index_is_not_its_own(tmp_path, rows):
    path = write_store(tmp_path / "a.h5", rows[:9])
    index = Index.build(path, tmp_path / "a.index")
    path.rename(tmp_path / "real.h5")
    assert len(search(index, tmp_path / "real.h5", exclude_self=True).neighbors.ids[0]) == 8
    with pytest.raises(StoreError, match="stores=FILE"):
        search(index, "id:3.jpg")
    for content in (lambda: write_store(path, rows[:9], backbone="other"), None):
        content() if content else path.write_text("damaged")
        with pytest.raises(IndexMismatchError, match="has changed since"):
            search(index, tmp_path / "real.h5", 1)


def test_labels_that_nobody_has(tmp_path, rows):
    path = write_store(tmp_path / "a.h5", rows[:5])
    index = Index.build(path, tmp_path / "a.index")
    with pytest.raises(StoreError, match="no labels"):
        search(index, path, filters=["label=cat"])


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_other_metrics_go_deep_too(tmp_path, rows, metric):
    path = write_store(tmp_path / "a.h5", rows)
    index = Index.build(path, tmp_path / "a.index", metric=metric)
    queries = vectors(8, 3)
    asked = write_store(tmp_path / "q.h5", queries)
    scores = queries @ rows.T
    if metric == "l2":
        scores = -((queries[:, None] - rows[None]) ** 2).sum(2)
    mask = np.arange(ROWS) % 100 // 10 == 4
    expected = np.argsort(-np.where(mask, scores, -np.inf), axis=1)[:, :5]
    result = search(index, asked, k=5, filters=["path=*4?.jpg"])
    assert result.neighbors.ids == tuple(tuple(f"{n}.jpg" for n in row) for row in expected)
    limit = float(result.neighbors.scores[0, 2])
    cut = search(index, asked, k=5, filters=["path=*4?.jpg"], threshold=limit)
    assert cut.neighbors.ids[0] == result.neighbors.ids[0][:3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label", "COLUMN=VALUE"),
        ("=red", "COLUMN=VALUE"),
        ("label>cat", "takes = and !="),
        ("width=wide", "takes a number"),
        ("width=1e5", "takes a number"),
    ],
)
def test_filters_that_are_none(text, told):
    with pytest.raises(ValueError, match=told):
        Filter.parse(text)


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("width=300", [300]),
        ("width!=300", [299, 301]),
        ("width<300", [299]),
        ("width<=300", [299, 300]),
        ("width>300", [301]),
        ("width>=300.5", [301]),
        (" width = 300 ", [300]),
    ],
)
def test_numbers(text, passing):
    values = np.array([299, 300, 301])
    assert values[Filter.parse(text).passes(values)].tolist() == passing


def test_what_a_column_of_a_store_holds_decides():
    unknown = Filter.parse("a column >= 2.5")
    assert (unknown.column, unknown.op, unknown.value) == ("a column", ">=", "2.5")
    assert unknown.for_kind("integer") == unknown
    with pytest.raises(ValueError, match="a column is text"):
        unknown.for_kind("text")
    assert Filter.parse("ok=No").for_kind("boolean").value == "0"


def test_texts():
    values = ["cats/a=b.jpg", "Cats/x.jpg", "dogs\n/x.jpg", ""]
    kept = {
        text: [v for v, ok in zip(values, Filter.parse(text).passes(values), strict=True) if ok]
        for text in ("path=cats/*", "path=*=b*", "path!=*.jpg", "path=*/x.jpg", "path=[!c]*")
    }
    assert kept["path=cats/*"] == values[:1]
    assert kept["path=*=b*"] == values[:1]
    assert kept["path!=*.jpg"] == [""]
    assert kept["path=*/x.jpg"] == values[1:3]
    assert kept["path=[!c]*"] == values[1:3]
    assert Filter.parse("format=png").passes(["PNG", "JPEG"]).tolist() == [True, False]


@pytest.mark.parametrize("k", [0, -1])
def test_k_of_nothing(world, k):
    with pytest.raises(ValueError, match="k must be"):
        search(world / "a.index", world / "q.h5", k=k)


def test_nothing_to_search_with(world):
    with pytest.raises(ValueError, match="nothing to search with"):
        search(world / "a.index", [])
    with pytest.raises(ValueError, match="NaN"):
        search(world / "a.index", world / "q.h5", threshold=float("nan"))


def test_a_store_of_another_kind_is_refused(world, tmp_path):
    path = write_store(tmp_path / "b.h5", vectors(3), backbone="other")
    with pytest.raises(IndexMismatchError, match="backbone: tiny in the index, other"):
        search(world / "a.index", path)
    with pytest.raises(IndexMismatchError, match=r"b\.h5: not a store of the index.*other"):
        search(world / "a.index", world / "q.h5", stores=[path])


def test_an_index_of_an_unknown_backbone(tmp_path, rows):
    path = write_store(tmp_path / "a.h5", rows[:4], backbone="nobody")
    index = Index.build(path, tmp_path / "a.index")
    with pytest.raises(UnknownBackboneError):
        search(index, write_photos(tmp_path / "p", 1)[0])


@pytest.mark.parametrize(
    "meta",
    [
        {"decode": {"decoder": "exact", "sharpen": True}},
        {"decode": {}},
        {"pooling": {"pooling": "avg", "gem_p": None, "layers": [], "flip": False, "sum": 1}},
        {"pooling": {"pooling": "avg"}},
        {"preprocessing": {"crop": 224, "blur": 3}},
    ],
)
def test_settings_of_another_version(tmp_path, rows, meta):
    plain = {
        "pooling": {"pooling": "avg", "gem_p": None, "layers": [], "flip": False},
        "preprocessing": embedkit.Preprocessing().to_config(),
    }
    path = write_store(tmp_path / "a.h5", rows[:4], **(plain | meta))
    index = Index.build(path, tmp_path / "a.index")
    with pytest.raises(IndexFileError, match="doesn't know"):
        search(index, write_photos(tmp_path / "p", 1)[0], engine="torch")


# Images: embedded as the index says.


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 20)
    return folder


@pytest.fixture(scope="module")
def photo_store(photos, tmp_path_factory):
    """Settings that are nobody's default, so that a guess would show."""
    path = tmp_path_factory.mktemp("store") / "p.h5"
    embedkit.extract(
        photos,
        path,
        backbone="tiny",
        weights="random",
        seed=3,
        pooling="gem",
        gem_p=2.5,
        flip=True,
        input_size=48,
        preprocessing={"crop_mode": "squash", "interpolation": "bicubic"},
        decoder="exact",
        engine="torch",
        batch_size=6,
        normalize=True,
    )
    return path


@pytest.fixture(scope="module")
def photo_index(photo_store):
    return Index.build(photo_store, photo_store.with_suffix(".index"))


@pytest.fixture(scope="module", params=["torch", "openvino"])
def engine(request):
    return request.param


@pytest.mark.parametrize("wanted", [None, 3])
def test_a_query_gets_the_bits_of_its_row(photos, photo_index, photo_store, wanted):
    some = sorted(photos.iterdir())[3:12:2]
    with (
        open_search(
            photo_index, some, config=SearchConfig.of(engine="torch", batch_size=wanted)
        ) as ready,
        EmbeddingStore.open(photo_store) as store,
    ):
        batches = [batch for queries in ready.queries for batch in queries.batches()]
        ids = [name for batch in batches for name in batch.ids]
        vectors = np.concatenate([batch.vectors for batch in batches])
        stored = np.stack([store.get(str(path)) for path in some])
    assert ids == [str(path) for path in some]
    if wanted is None:
        np.testing.assert_array_equal(vectors, stored)
        assert vectors.dtype == stored.dtype == np.float16
    else:
        np.testing.assert_allclose(vectors, stored, atol=1e-3)


def test_images_find_themselves(photos, photo_index, engine):
    result = search(photo_index, photos, k=1, engine=engine)
    paths = tuple(str(path) for path in sorted(photos.iterdir()))
    assert result.queries == paths
    assert result.neighbors.ids == tuple((path,) for path in paths)
    np.testing.assert_allclose(result.neighbors.scores, 1, atol=1e-4)


def test_all_kinds_in_the_order_given(photos, photo_index, photo_store):
    paths = sorted(map(str, photos.iterdir()))
    asked = [paths[4], f"id:{paths[2]}", paths[0], paths[1], str(photo_store)]
    result = search(photo_index, asked, k=1, engine="torch")
    assert result.queries == (paths[4], paths[2], paths[0], paths[1], *paths)
    assert result.neighbors.ids == tuple((name,) for name in result.queries)


def test_an_image_that_is_known_by_other_names_is_left_out(photos, photo_index, tmp_path):
    (tmp_path / "copy.jpg").write_bytes((photos / "photo_0003.jpg").read_bytes())
    result = search(photo_index, tmp_path / "copy.jpg", k=20, exclude_self=True, engine="torch")
    assert len(result.neighbors.ids[0]) == 19
    assert str(photos / "photo_0003.jpg") not in result.neighbors.ids[0]


def test_bad_images_are_told_and_stop_nothing(photos, photo_index, tmp_path):
    good = photos / "photo_0001.jpg"
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(good.read_bytes()[:900])
    asked = [cut, tmp_path / "empty.jpg", good, tmp_path / "text.png"]
    result = search(photo_index, asked, k=1, engine="torch")
    assert result.queries == (str(good),)
    assert [failure.id for failure in result.failures] == [str(p) for p in asked if p != good]
    assert all(failure.reason for failure in result.failures)
    none = search(photo_index, cut, k=4, engine="torch")
    assert (none.queries, none.neighbors.scores.shape) == ((), (0, 4))
    assert len(none.failures) == 1


def test_paths_on_stdin(photos, photo_index, monkeypatch):
    names = [str(photos / f"photo_000{n}.jpg") for n in (5, 2)]
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(names).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert search(photo_index, "-", k=1, engine="torch").queries == tuple(names)


def test_no_image_and_no_such_file(photo_index, tmp_path):
    with pytest.raises(SourceError, match="no image found"):
        search(photo_index, tmp_path, engine="torch")
    with pytest.raises(SourceError, match="no such file"):
        search(photo_index, tmp_path / "none.jpg")


def test_a_folder_of_images_with_a_manifest_is_no_store(photos, photo_index, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "my web app"}')
    (tmp_path / "a.jpg").write_bytes((photos / "photo_0001.jpg").read_bytes())
    assert search(photo_index, tmp_path, engine="torch").queries == (str(tmp_path / "a.jpg"),)


def test_a_folder_of_shards_is_a_store(photos, photo_store, photo_index, tmp_path):
    embedkit.extract(
        photos, tmp_path / "s", backbone="tiny", weights="random", seed=3, pooling="gem",
        gem_p=2.5, flip=True, input_size=48, decoder="exact", engine="torch", batch_size=6,
        preprocessing={"crop_mode": "squash", "interpolation": "bicubic"}, normalize=True,
        sharded=True, shard_rows=7,
    )  # fmt: skip
    a, b = (search(photo_index, queries, k=4) for queries in (tmp_path / "s", photo_store))
    assert a.queries == b.queries
    assert a.neighbors.ids == b.neighbors.ids


def test_other_weights_are_refused_with_the_way_out(photos, photo_store, tmp_path):
    rows = vectors(3)
    path = write_store(
        tmp_path / "a.h5",
        rows,
        weights="file:mine.pth",
        preprocessing=embedkit.Preprocessing().to_config(),
        pooling={"pooling": "avg", "gem_p": None, "layers": [], "flip": False},
    )
    index = Index.build(path, tmp_path / "a.index")
    with pytest.raises(IndexMismatchError, match=r"file:mine\.pth.*weights=FILE"):
        search(index, photos / "photo_0001.jpg", engine="torch")


def test_weights_from_a_file(photos, tmp_path):
    import torch

    from embedkit.backbones import load_backbone

    file = tmp_path / "mine.pth"
    torch.save(load_backbone("tiny", weights="random", seed=9).classifier.state_dict(), file)
    store = tmp_path / "a.h5"
    embedkit.extract(photos, store, backbone="tiny", weights=file, engine="torch")
    index = Index.build(store, tmp_path / "a.index")
    query = photos / "photo_0001.jpg"
    with pytest.raises(IndexMismatchError, match="weights=FILE"):
        search(index, query, engine="torch")
    assert search(index, query, 1, weights=file, engine="torch").neighbors.ids == ((str(query),),)


@pytest.fixture(scope="module")
def plain_store(photos, tmp_path_factory):
    """By OpenVINO, with the fast decoder and a limit on the pixels."""
    path = tmp_path_factory.mktemp("plain") / "p.h5"
    policy = embedkit.DecodePolicy(max_pixels=320 * 240)
    embedkit.extract(
        photos, path, backbone="tiny", weights="random", engine="openvino", policy=policy
    )
    Index.build(path, path.with_suffix(".index"))
    return path


def test_bits_by_openvino(photos, plain_store):
    some = sorted(photos.iterdir())[7:10]
    with (
        open_search(
            plain_store.with_suffix(".index"), some, config=SearchConfig.of(engine="openvino")
        ) as ready,
        EmbeddingStore.open(plain_store) as store,
    ):
        (batch,) = ready.queries[0].batches()
        np.testing.assert_array_equal(batch.vectors, [store.get(str(path)) for path in some])


def test_limits_are_those_of_the_index(plain_store, tmp_path):
    large = write_photos(tmp_path, 1, size=(400, 300))[0]
    result = search(plain_store.with_suffix(".index"), large)
    assert "pixels" in result.failures[0].reason


def test_facts_are_what_filters_look_at(photos, photo_index, photo_store):
    with EmbeddingStore.open(photo_store) as store:
        sizes = store.images("nbytes")
    limit = int(np.median(sizes))
    result = search(photo_index, photo_store, k=20, filters=[f"nbytes<{limit}"])
    assert {len(ids) for ids in result.neighbors.ids} == {int((sizes < limit).sum())}


def test_a_store_is_searched_as_an_exact_index_is(world, rows):
    expected = brute_force(vectors(30, 1), rows, np.ones(ROWS, bool), 7)
    assert_same(search(world / "a.h5", world / "q.h5", k=7), expected)
    with EmbeddingStore(world / "a.h5") as store:
        assert_same(search(store, world / "q.h5", k=7), expected)
        assert len(store["0.jpg"]) == DIM  # still open


@pytest.mark.parametrize(
    "options",
    [
        {"filters": ["label=class1"]},
        {"exclude_self": True},
        {"threshold": 0.5},
        {"filters": ["label!=class1", "width>=10"], "exclude_self": True, "threshold": 0.1},
    ],
    ids=str,
)
def test_options_mean_the_same_for_a_store(world, options):
    queries = ["id:4.jpg", "id:7.jpg", str(world / "q.h5")]
    of_store = search(world / "a.h5", queries, k=5, **options)
    of_index = search(world / "a.index", queries, k=5, **options)
    assert of_store.neighbors.ids == of_index.neighbors.ids
    np.testing.assert_allclose(of_store.neighbors.scores, of_index.neighbors.scores, atol=1e-6)


def test_a_store_is_searched_in_blocks(world, rows, monkeypatch):
    monkeypatch.setattr("embedkit.index.brute_force._BLOCK_BYTES", 4 * DIM * 64)
    expected = brute_force(vectors(30, 1), rows, np.ones(ROWS, bool), 100)
    assert_same(search(world / "a.h5", world / "q.h5", k=100), expected)
    everything = search(world / "a.h5", vectors(2, 1), k=ROWS + 1)
    assert [len(ids) for ids in everything.neighbors.ids] == [ROWS, ROWS]


def test_vectors_are_queries(world, rows):
    queries = vectors(30, 1)
    expected = brute_force(queries, rows, np.ones(ROWS, bool), 3)
    found = search(world / "a.index", queries, k=3)
    assert found.queries[:2] == ("vector 0", "vector 1")
    assert_same(found, expected)
    assert_same(search(world / "a.index", list(queries.astype(np.float64)), k=3), expected)
    assert_same(search(world / "a.index", queries[4], k=3), expected[4:5])
    nearest = search(world / "a.index", rows[7], k=1, exclude_self=True)
    assert nearest.neighbors.ids == (("7.jpg",),)  # a vector has no id of its own


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        (np.zeros(DIM + 1), r"must be \(16,\)"),
        (np.zeros((2, 2, DIM)), "must be"),
        (np.full(DIM, np.nan, np.float32), "vector 0 holds values that aren't finite"),
        (5, "not int"),
        ([0.1, 0.2], "a query is float"),
        ([None], "a query is NoneType"),
        ([], "nothing to search with"),
    ],
    ids=str,
)
def test_what_is_no_query_is_refused(world, queries, said):
    with pytest.raises(ValueError, match=said):
        search(world / "a.index", queries)


def test_images_in_memory_find_their_files(tmp_path):
    from PIL import Image

    photos = write_photos(tmp_path / "photos", 6, format="PNG")
    embedkit.extract(tmp_path / "photos", tmp_path / "p.h5", backbone="tiny", dtype="float32")
    image = Image.open(photos[2])
    queries = [image, np.asarray(image), photos[2].read_bytes(), photos[2], b"no image"]
    found = search(tmp_path / "p.h5", queries, k=1)
    assert found.queries == ("image 0", "image 1", "image 2", str(photos[2]))
    assert {ids[0] for ids in found.neighbors.ids} == {f"{tmp_path}/photos/photo_0002.png"}
    np.testing.assert_allclose(found.neighbors.scores, 1, atol=1e-6)
    assert [failure.id for failure in found.failures] == ["image 4"]
    one = search(tmp_path / "p.h5", image, k=1)
    assert one.neighbors.ids == found.neighbors.ids[:1]
    page = found._repr_html_()
    assert page.count("<img") == 4 + 1  # the neighbours, and the query that is a file
