from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duplicates import make_found, make_pairs
from stores import write_store

from embedkit.dedup import (
    collect,
    find_pairs,
    make_plan,
    read_duplicates,
    rethreshold,
    write_duplicates,
)
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.leakage import ClassLeaks
from embedkit.dedup.output.folder import check_output
from embedkit.dedup.output.tables import read_groups
from embedkit.errors import DedupError, EmbedkitError

NAMES = ["a.jpg", "caf\udce9.jpg", "b\\xe9.jpg", "tar.tar#ü.png", "=1+1.jpg", "new\nline.jpg"]


def assert_same(a, b):
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if dataclasses.is_dataclass(one):
            assert_same(one, other)
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype, field.name
        else:
            assert one == other or (not one and not other), field.name


@pytest.fixture
def found():
    scores = {(0, 1): 1.0, (1, 2): 0.8, (3, 4): 0.7, (4, 5): 0.6}
    pairs = make_pairs(
        scores,
        6,
        exact=[(0, 1)],
        hamming=np.array([0, 3, 255, 255], np.uint8),
        verified=np.array([-1, 1, 0, -1], np.int8),
        how=[{}, {"crop": [0.1, 0.2, 0.9, 1.0], "flip": True}, {}, {}],
    )
    return make_found(pairs, NAMES, labels=("x", "", "é", "x", "y", "y"))


@pytest.fixture
def folder(found, tmp_path):
    return write_duplicates(found, tmp_path / "dups")


def test_what_is_written_is_read(found, folder):
    assert {p.name for p in folder.iterdir()} == {
        "pairs.parquet", "groups.parquet", "summary.json", "report.html",
    }  # fmt: skip
    assert_same(read_duplicates(folder), dataclasses.replace(found, folder=folder))
    assert not [p for p in folder.parent.iterdir() if p != folder]


def test_tables_are_plain_data(folder):
    pairs = pq.read_table(folder / "pairs.parquet").to_pylist()
    assert pairs[1]["first_id"] == "caf\\xe9.jpg"
    assert [row["hamming"] for row in pairs] == [0, 3, None, None]
    assert [row["verified"] for row in pairs] == [None, True, False, None]
    assert json.loads(pairs[1]["how"])["flip"] is True
    groups = pq.read_table(folder / "groups.parquet").to_pylist()
    assert [(row["group"], row["id"], row["id_bytes"]) for row in groups[:3]] == [
        (0, "a.jpg", None),
        (0, "caf\\xe9.jpg", b"caf\xe9.jpg"),
        (0, "b\\xe9.jpg", None),
    ]
    assert groups[2]["nearest_id"] == "caf\\xe9.jpg"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["counts"] == {
        "pairs": 4, "exact_pairs": 1, "first_page_pairs": 0, "images": 6, "groups": 2,
        "grouped_images": 6, "surplus_images": 4,
    }  # fmt: skip


def test_files_of_several_pages_are_marked(found, tmp_path):
    frames = np.array([2, 2, 1, 3, -1, 1], np.int32)
    found = dataclasses.replace(found, images=dataclasses.replace(found.images, frames=frames))
    folder = write_duplicates(found, tmp_path / "dups")
    assert_same(read_duplicates(folder), dataclasses.replace(found, folder=folder))
    path = folder / "groups.parquet"
    assert pq.read_table(path)["frames"].to_pylist() == [2, 2, 1, 3, None, 1]
    counts = json.loads((folder / "summary.json").read_text())["counts"]
    assert counts["first_page_pairs"] == 2  # the pair of equal bytes is the same in all pages
    text = (folder / "report.html").read_text("utf-8")
    assert text.count("first page only (of 2)") == 2
    assert text.count("first page only (of 3)") == 1
    assert "2 pairs have a file of several pages or frames" in text


def test_a_folder_without_frames_is_read(found, folder):
    path = folder / "groups.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["frames"]), path)
    assert read_groups(path, found.pairs)[1].frames.tolist() == [-1] * 6
    pq.write_table(pq.read_table(path).drop_columns(["nbytes"]), path)
    with pytest.raises(ValueError, match="its columns aren't"):
        read_groups(path, found.pairs)


def test_rethreshold_is_a_search_with_that_threshold(tmp_path):
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((6, 16))[rng.integers(0, 6, 60)] * 3).astype("f4")
    rows += rng.standard_normal(rows.shape).astype("f4")
    store = write_store(tmp_path / "s.h5", rows)
    low, high = (
        collect(
            find_pairs(store, DedupConfig(threshold=t, min_cosine=0.6)), store, linkage="complete"
        )
        for t in (0.02, 0.2)
    )
    tightened = rethreshold(low, 0.2)
    assert 20 < len(high.pairs) < len(low.pairs)
    assert_same(tightened, high)
    assert rethreshold(low, 0.02, "single").linkage == "single"
    with pytest.raises(ValueError, match="search again"):
        rethreshold(low, 0.01)


def test_leaks_by_class_are_counted_as_by_hand(tmp_path):
    rows = np.eye(6, dtype=np.float32)
    train = write_store(tmp_path / "train.h5", rows, labels=["a", "a", "b", "b", "c", None])
    other = np.concatenate([rows[[0, 0, 2, 5]], np.ones((1, 6), np.float32)])
    test = write_store(
        tmp_path / "test.h5", other, labels=["a", "x", "b", None, "c"],
        content_hash=[hashlib.sha256(b"t%d" % i).digest() for i in range(5)],
        phash=list(range(5)),
    )  # fmt: skip
    found = collect(find_pairs(train, against=test), train, test)
    leaks = found.leaks
    assert (leaks.store.leaking, leaks.store.images) == (3, 6)
    assert leaks.store.classes == (ClassLeaks("a", 1, 2), ClassLeaks("b", 1, 2))
    assert (leaks.against.leaking, leaks.against.images) == (4, 5)
    assert [(c.label, c.leaking, c.images) for c in leaks.against.classes] == [
        ("a", 1, 1), ("b", 1, 1), ("x", 1, 1),
    ]  # fmt: skip
    assert leaks.other_label == 1
    folder = write_duplicates(found, tmp_path / "leaks")
    assert_same(read_duplicates(folder), dataclasses.replace(found, folder=folder))
    page = (folder / "report.html").read_text("utf-8")
    assert "3 of 6" in page
    assert page.count('<span class="tag">') == 4  # what lies in the other store
    assert rethreshold(found, 0.9).leaks == leaks


def test_a_store_with_copies_of_its_own_bytes(tmp_path):
    one = b"x" * 32
    store = write_store(
        tmp_path / "s.h5", np.eye(4, dtype=np.float32), content_hash=[one, b"y" * 32, one, one],
        labels=["l", "m", "n", "o"],
    )  # fmt: skip
    found = collect(find_pairs(store), store)
    assert found.images.ids == ("0.jpg", "2.jpg", "3.jpg")
    assert found.images.labels == ("l", "n", "o")
    assert found.surplus() == 2
    assert found.pairs.exact.all()
    with pytest.raises(ValueError, match="other numbers of rows"):
        other = write_store(tmp_path / "t.h5", np.eye(5, dtype=np.float32))
        collect(find_pairs(store), other)


@pytest.mark.parametrize(
    ("linkage", "is_between"),
    [(name, False) for name in ("single", "average", "complete", "star")]
    + [(name, True) for name in ("single", "star")],
)
def test_ten_thousand_equal_images_stay_cheap_to_the_end(tmp_path, linkage, is_between):
    count = 10_000
    store = write_store(
        tmp_path / "s.h5", np.ones((count, 4), np.float32), content_hash=[b"x" * 32] * count,
        phash=[2**40 - 1] * count,
    )  # fmt: skip
    against = store if is_between else None
    found = collect(find_pairs(store, against=against), store, against, linkage=linkage)
    folder = write_duplicates(found, tmp_path / "dups", root=tmp_path)
    again = read_duplicates(folder)
    images = 2 * count if is_between else count
    assert (len(again.pairs), len(again.groups), again.surplus()) == (images - 1, 1, images - 1)
    assert again.groups.weakest.tolist() == [1]
    assert (folder / "report.html").stat().st_size < 50_000
    keep = "split-priority" if is_between else "largest"
    (tmp_path / "0.jpg").touch()  # without one image there would be no plan
    assert {row.action for row in make_plan(again, keep, root=tmp_path)} == {"none"}


def test_older_results_are_replaced_only_when_told(found, folder):
    with pytest.raises(DedupError, match="overwrite=True"):
        write_duplicates(found, folder)
    write_duplicates(found, folder, overwrite=True, report=False)
    assert not (folder / "report.html").exists()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(DedupError, match="other files"):
        write_duplicates(found, folder, overwrite=True)
    with pytest.raises(DedupError, match="no folder"):
        check_output(folder / "mine.txt", overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine"


def reseal(folder):
    """Makes the summary's hashes those of the files, as somebody hostile would."""
    summary = json.loads((folder / "summary.json").read_text())
    summary.pop("sha256", None)  # as older versions write it
    for name in summary["files"]:
        summary["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "other"), ("format_version", 2), ("store", None), ("store", {"path": 1}),
        ("against", {"path": "x", "digest": "y", "rows": 3}), ("settings", []),
        ("linkage", "ward"), ("linkage", []), ("files", {"pairs.parquet": 1}), ("files", []),
        ("search", {}), ("counts", {"pairs": -1}), ("counts", {"pairs": 4, "images": 7}),
        ("leaks", {"store": 1}), ("leaks", 7),
    ],
)  # fmt: skip
def test_hostile_summaries(folder, key, value):
    summary = json.loads((folder / "summary.json").read_text())
    summary[key] = value
    del summary["sha256"]
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(DedupError, match=r"summary\.json|parquet") as caught:
        read_duplicates(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b"null"])
def test_summaries_that_are_no_json_tables(folder, data):
    (folder / "summary.json").write_bytes(data)
    with pytest.raises(DedupError, match="summary"):
        read_duplicates(folder)


def changed(table, name, value):
    """The table with another first value in a column."""
    at = table.schema.get_field_index(name)
    values = [value, *table[name].to_pylist()[1:]]
    return table.set_column(
        at, table.schema.field(at), pa.array(values, table.schema.field(at).type)
    )


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("pairs", "first", 99), ("pairs", "first", -1), ("pairs", "second", 0),
        ("pairs", "score", 2.0), ("pairs", "score", float("nan")), ("pairs", "score", 0.1),
        ("pairs", "cosine", float("nan")), ("pairs", "how", "{"), ("pairs", "how", "[1]"),
        ("groups", "group", 5), ("groups", "group", -2), ("groups", "group", 1),
        ("groups", "side", "left"), ("groups", "side", "against"), ("groups", "row", 77),
    ],
)  # fmt: skip
def test_hostile_tables(folder, file, name, value):
    path = folder / f"{file}.parquet"
    table = pq.read_table(path)
    pq.write_table(changed(table, name, value), path)
    with pytest.raises(DedupError, match="was changed"):
        read_duplicates(folder)
    reseal(folder)
    with pytest.raises(DedupError, match="damaged"):
        read_duplicates(folder)


def test_other_columns_and_no_parquet(folder):
    path = folder / "pairs.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["how"]), path)
    reseal(folder)
    with pytest.raises(DedupError, match="columns"):
        read_duplicates(folder)
    path.write_bytes(b"PAR1" * 10)
    reseal(folder)
    with pytest.raises(DedupError, match="damaged"):
        read_duplicates(folder)
    path.unlink()
    with pytest.raises(DedupError, match="can't be read"):
        read_duplicates(folder)
    with pytest.raises(DedupError, match="no such file or folder"):
        read_duplicates(folder / "nothing")


@pytest.mark.parametrize("at", [3, 100, -20, -200])
@pytest.mark.parametrize("name", ["pairs.parquet", "groups.parquet"])
def test_flipped_bytes_never_crash(folder, name, at):
    data = bytearray((folder / name).read_bytes())
    data[at] ^= 0x55
    (folder / name).write_bytes(bytes(data))
    reseal(folder)
    with contextlib.suppress(EmbedkitError):  # anything else is a failure
        read_duplicates(folder)
