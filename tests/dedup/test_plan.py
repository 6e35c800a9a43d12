from __future__ import annotations

import dataclasses
import itertools
import os
import time
import zipfile

import numpy as np
import pytest
from duplicates import make_found, make_pairs
from hypothesis import given
from hypothesis import strategies as st

from embedkit.dedup import make_plan, read_plan, write_plan
from embedkit.dedup.cleanup.compare import PixelComparison
from embedkit.dedup.cleanup.keep_policy import KEEPS, Candidate, KeepPolicy
from embedkit.dedup.cleanup.paths import decode_name, encode_name
from embedkit.errors import DedupError


@pytest.fixture(autouse=True)
def _any_pixels_agree(monkeypatch):
    """The files of these tests are no images; what is compared has tests of its own."""
    monkeypatch.setattr(PixelComparison, "why_not", lambda *_: "")


def candidate(name="a.jpg", order=0, size=(10, 10), nbytes=100, kind="JPEG", modified=0):
    return Candidate(name, order, *size, nbytes, kind, modified)


@pytest.mark.parametrize(
    ("keep", "prefer", "best", "worse"),
    [
        ("largest", (), candidate(size=(20, 10)), candidate(size=(10, 19), nbytes=900)),
        ("largest", (), candidate(nbytes=101), candidate(nbytes=100, kind="PNG")),
        ("best-quality", (), candidate(size=(20, 10)), candidate(nbytes=9000, kind="PNG")),
        ("best-quality", (), candidate(kind="PNG"), candidate(nbytes=900)),
        ("best-quality", (), candidate(nbytes=900), candidate(nbytes=100)),
        ("best-quality", (), candidate(), candidate(kind="GIF", nbytes=900)),
        ("best-quality", (), candidate(order=1), candidate(order=2)),
        ("newest", (), candidate(modified=2), candidate(modified=1, size=(99, 99))),
        ("oldest", (), candidate(modified=1), candidate(modified=2, size=(99, 99))),
        ("first", (), candidate(order=0), candidate(order=1, size=(99, 99))),
        ("path-priority", ("*/raw/*", "*.png"), candidate("x/raw/b"), candidate("x/a.png")),
        ("path-priority", ("*/raw/*", "*.png"), candidate("a.png"), candidate("b.jpg")),
        ("path-priority", ("*[x]*",), candidate("ax\n"), candidate("b", size=(99, 99))),
        ("split-priority", (), candidate("d/test/a"), candidate("d/val/a")),
        ("split-priority", (), candidate("d/Val/a"), candidate("test/d/train/a")),
        ("split-priority", (), candidate("d/train/a"), candidate("d/a", size=(99, 99))),
        ("split-priority", ("gold", "train"), candidate("gold/a"), candidate("test/train/a")),
        ("split-priority", (), candidate("x.tar#test/a"), candidate("x.tar#train/test")),
    ],
)
def test_which_is_kept(keep, prefer, best, worse):
    policy = KeepPolicy(keep, prefer)
    assert policy.rank(best) < policy.rank(worse)
    assert keep in policy.describe(best)


def test_policies_that_make_no_sense():
    with pytest.raises(ValueError, match="can't keep"):
        KeepPolicy("prettiest")
    with pytest.raises(ValueError, match="needs prefer="):
        KeepPolicy("path-priority")
    for keep in set(KEEPS) - {"path-priority", "split-priority"}:
        with pytest.raises(ValueError, match="goes with"):
            KeepPolicy(keep, ("*",))


def write_files(folder, contents):
    paths = []
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
    return paths


def actions(rows, folder):
    return {os.path.relpath(row.path, folder): row.action for row in rows if row.path}


def test_all_that_goes_is_a_copy_of_something_that_stays(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(30):
        count = int(rng.integers(2, 12))
        every = itertools.combinations(range(count), 2)
        ends = {pair: float(rng.uniform(0.5, 1)) for pair in every if rng.random() < 0.35}
        files = write_files(
            tmp_path / str(trial), {f"{i}.jpg": b"%d" % i * (i + 1) for i in range(count)}
        )
        found = make_found(make_pairs(ends, count), files)
        rows = make_plan(found, "largest")
        number = {str(path): i for i, path in enumerate(files)}
        kept = {number[row.path] for row in rows if row.action == "keep"}
        for row in rows:
            if row.action == "remove":
                i, j = sorted((number[row.path], number[row.copy_of]))
                assert j in kept or i in kept
                assert row.score == np.float32(ends[i, j])
        assert {number[row.path] for row in rows} == {n for pair in ends for n in pair}
        # Nothing is kept that is in a pair with what the policy puts before it and is kept.
        for i, j in ends:
            assert not {i, j} <= kept


def test_equal_bytes_count_as_one_image(tmp_path):
    files = write_files(tmp_path, {"a.jpg": b"x", "b.jpg": b"x", "c.jpg": b"x", "d.jpg": b"yyy"})
    pairs = make_pairs({(0, 1): 1, (0, 2): 1, (0, 3): 0.7}, 4, exact=[(0, 1), (0, 2)])
    rows = make_plan(make_found(pairs, files), "largest")
    assert actions(rows, tmp_path) == {
        "d.jpg": "keep", "a.jpg": "remove", "b.jpg": "remove", "c.jpg": "remove",
    }  # fmt: skip
    assert {row.reason for row in rows} == {"largest", "cosine 0.630, pixels compared"}
    rows = make_plan(make_found(pairs, files), "first")
    assert [row.reason for row in rows][:3] == ["first", "same bytes", "same bytes"]


def test_what_can_not_be_acted_on_is_listed(tmp_path, monkeypatch):
    files = write_files(
        tmp_path, {"a.jpg": b"x", "b.jpg": b"y", "big.jpg": b"changed", "x.zip#1": b"#"}
    )
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "hard.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "sub").symlink_to(tmp_path)
    names = [
        "a.jpg", str(tmp_path / "b.jpg"), "big.jpg", "in.zip#a.jpg", "https://x.org/a.jpg",
        "gone.jpg", "link.jpg", "hard.jpg", "folder.jpg", "sub/b.jpg", "x.zip#1",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pairs = make_pairs({(0, i): 0.9 for i in range(1, len(names))}, len(names))
    nbytes = np.ones(len(names), np.int64)
    rows = make_plan(make_found(pairs, names, nbytes=nbytes), "first")
    told = {row.id: (row.action, row.reason) for row in rows}
    assert {name: why for name, (action, why) in told.items() if action == "none"} == {
        "big.jpg": "changed since it was embedded",
        "https://x.org/a.jpg": "a URL",
        "gone.jpg": "no such file",
        "link.jpg": "a symbolic link",
        "hard.jpg": f"the same file as {files[0]}",
        "folder.jpg": "no regular file",
        "sub/b.jpg": f"the same file as {files[1]}",
    }
    assert told["a.jpg"][0] == "keep"
    assert told["in.zip#a.jpg"] == (
        "keep", "not verified: only one of the two is inside an archive"
    )  # fmt: skip
    assert told["x.zip#1"][0] == told[names[1]][0] == "remove"
    assert read_plan(write_plan(rows, "plan.csv")).rows


@pytest.mark.parametrize("linked_first", [False, True])
def test_of_the_names_of_one_file_the_policy_chooses(tmp_path, linked_first):
    files = write_files(tmp_path, {"b.jpg": b"x", "a.jpg": b"x", "keep/c.jpg": b"y"})
    link = tmp_path / "keep" / "a.jpg"
    os.link(files[1], link)
    names = [link, *files] if linked_first else [*files, link]
    found = make_found(make_pairs({(0, i): 1.0 for i in (1, 2, 3)}, 4), names)
    rows = make_plan(found, "path-priority", prefer=["*/keep/a*"])
    assert actions(rows, tmp_path) == {
        "keep/a.jpg": "keep", "b.jpg": "remove", "keep/c.jpg": "remove" if linked_first else "keep",
    }  # fmt: skip
    assert [row.reason for row in rows if row.action == "none"] == [f"the same file as {link}"]


def test_a_file_with_names_in_two_groups_is_of_the_first_one(tmp_path):
    files = write_files(tmp_path, {"a.jpg": b"x", "b.jpg": b"y", "c.jpg": b"z"})
    os.link(files[0], tmp_path / "link.jpg")
    files.append(str(tmp_path / "link.jpg"))
    rows = make_plan(make_found(make_pairs({(0, 1): 0.9, (2, 3): 0.9}, 4), files), "first")
    assert actions(rows, tmp_path) == {"a.jpg": "keep", "b.jpg": "remove", "c.jpg": "keep"}
    assert rows[-1].reason == f"the same file as {files[0]}"


def test_groups_are_planned_in_threads_in_their_order(tmp_path, monkeypatch):
    names = {f"{i:03}.jpg": b"%d" % (i % 7) for i in range(120)}
    files = write_files(tmp_path, names)
    ends = {(i, i + 1): 0.9 for i in range(120) if i % 4 != 3}
    found = make_found(make_pairs(ends, 120), files)
    monkeypatch.setattr(PixelComparison, "why_not", differs_now_and_then)
    plans = []
    for cores in (1, 7):
        monkeypatch.setattr("embedkit.utils.parallel.usable_cores", lambda cores=cores: cores)
        plans.append(make_plan(found, "first"))
    assert plans[0] == plans[1]
    assert [row.group for row in plans[0]] == sorted(row.group for row in plans[0])
    assert len({row.action for row in plans[0]}) == 2


def differs_now_and_then(_, removed, kept):
    time.sleep(0.001 * (hash(kept) % 3))
    return "" if int(removed[1][-7:-4]) % 3 else "the pixels differ"


def test_a_file_that_both_stores_have_stays(tmp_path):
    files = write_files(tmp_path, {"a.jpg": b"x", "b.jpg": b"x"})
    names = [files[0], files[1], files[0]]
    found = make_found(make_pairs({(0, 0): 1.0, (1, 0): 1.0}, 2, against_rows=1), names)
    rows = make_plan(found, "split-priority")
    assert [(row.action, row.id) for row in rows] == [
        ("keep", str(files[0])), ("remove", str(files[1])), ("none", str(files[0])),
    ]  # fmt: skip


def test_images_of_the_other_store_stay(tmp_path):
    files = write_files(tmp_path, {n: n.encode() * 9 for n in ("t0", "t1", "e0", "e1")})
    pairs = make_pairs({(0, 0): 0.9, (0, 1): 0.8, (1, 1): 0.7}, 2, against_rows=2)
    found = make_found(pairs, files)
    rows = make_plan(found, "split-priority")
    assert actions(rows, tmp_path) == {
        "t0": "remove", "t1": "remove", "e0": "keep", "e1": "keep",
    }  # fmt: skip
    files[3].unlink()
    rows = make_plan(found, "split-priority")
    assert actions(rows, tmp_path) == {"t0": "remove", "e0": "keep"}
    assert {r.reason for r in rows if r.action == "none"} == {
        "no such file", "its copy in the other store can't be acted on",
    }  # fmt: skip
    with pytest.raises(ValueError, match="split-priority"):
        make_plan(found, "largest")


def test_pairs_alone_are_no_groups(tmp_path):
    found = make_found(make_pairs({(0, 1): 0.9}, 2), ["a", "b"])
    with pytest.raises(ValueError, match="rethreshold"):
        make_plan(dataclasses.replace(found, linkage="pairs"))


@given(st.binary(max_size=30))
def test_names_survive_a_spreadsheet(raw):
    name = raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    cell = encode_name(name)
    assert decode_name(cell) == name
    assert cell.isprintable()
    assert cell == cell.strip(" ")
    assert not cell.startswith(("=", "+", "-", "@"))
    cell.encode("utf-8")


@pytest.mark.parametrize("bad", ["%", "a%2", "%zz", "%00", "%G1"])
def test_names_that_nobody_wrote(bad):
    with pytest.raises(ValueError, match=r"%|zero"):
        decode_name(bad)


@pytest.fixture
def plan(tmp_path):
    names = {"=cmd.jpg": b"x", 'b,;\t".jpg': b"x", os.fsdecode(b"caf\xe9\n.jpg"): b"z"}
    files = write_files(tmp_path / "images", names)
    pairs = make_pairs({(0, 1): 1.0, (1, 2): 0.8}, 3, exact=[(0, 1)])
    rows = make_plan(make_found(pairs, files), "first")
    return write_plan(rows, tmp_path / "plan.csv"), rows


def test_a_plan_is_read_as_it_was_written(plan):
    path, rows = plan
    assert read_plan(path).rows == tuple(dataclasses.replace(row, score=None) for row in rows)
    assert [row.action for row in rows] == ["keep", "remove", "remove"]
    with pytest.raises(DedupError, match="overwrite=True"):
        write_plan(rows, path)
    write_plan(rows[:1], path, overwrite=True)
    assert len(read_plan(path).rows) == 1


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_what_spreadsheets_do_to_a_plan_is_read(plan, delimiter):
    import csv
    import io

    path, rows = plan
    table = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    text = io.StringIO(newline="")
    columns = ["note", *reversed(table[0].keys())]
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(row | {"note": "see"} for row in table)
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode() + b"\r\n")
    assert [row.path for row in read_plan(path).rows] == [row.path for row in rows]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("action,", "acton,", "no column action"),
        ("action,", "group,", "no column action"),
        ("width,", "action,", "twice"),
        ("keep", "kep", "line 2: action"),
        ("keep", "none", "line 3: nothing of group 0"),
        ("sha256:", "sha1:", "line 2: content_hash"),
        ("0,keep", "x,keep", "line 2: group"),
        ("0,keep", "-1,keep", "line 2: group"),
        (",best", ",best,more", "cells"),
        ("caf%E9", "caf%E", "line 4: a %"),
    ],
)
def test_plans_that_do_not_hold_together(plan, old, new, message):
    path, _ = plan
    text = path.read_text("utf-8").replace("first", "best")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(DedupError, match=message):
        read_plan(path)


def test_what_goes_needs_what_it_is_a_copy_of(plan):
    path, _ = plan
    text = path.read_text("utf-8")
    first, same, other = text.splitlines(keepends=True)[1:]

    def edited(*lines):
        path.write_text(text.splitlines(keepends=True)[0] + "".join(lines), "utf-8")
        return read_plan(path)

    keep_other = other.replace("remove", "keep")
    with pytest.raises(DedupError, match=r"line 2: .*copy_of"):
        edited(first.replace("keep", "remove"), keep_other)
    with pytest.raises(DedupError, match=r"line 2: .*isn't kept in its group"):
        edited(same, keep_other)  # the row of what it is a copy of is gone
    swapped = first.replace("keep", "remove"), same.replace("remove", "keep")
    assert len(edited(*swapped, other).rows) == 3  # of equal bytes either may stay


def test_hostile_plans(plan):
    path, rows = plan
    rows = [dataclasses.replace(row, id="x") for row in rows]

    def refused(message, *changed):
        write_plan(changed, path, overwrite=True)
        with pytest.raises(DedupError, match=message):
            read_plan(path)

    keep, go = rows[:2]
    refused("in line 2 too", keep, dataclasses.replace(go, path=keep.path))
    refused("absolute", keep, dataclasses.replace(go, path="images/x.jpg"))
    refused("absolute", keep, dataclasses.replace(go, path=keep.path + "/../x.jpg"))
    refused("absolute", keep, dataclasses.replace(go, path="/images//x.jpg"))
    refused("absolute", keep, dataclasses.replace(go, copy_of="x.jpg"))
    refused("no path", dataclasses.replace(keep, path=""), go)
    refused("nothing of group 7", keep, dataclasses.replace(go, group=7))
    refused("nothing of group", go)
    for data, message in ((b"\xff\xfe", "UTF-8"), (b"", "not a plan"), (b'"a\nb', "line|plan")):
        path.write_bytes(data)
        with pytest.raises(DedupError, match=message):
            read_plan(path)
    with pytest.raises(DedupError, match="can't be read"):
        read_plan(path.with_name("none.csv"))
