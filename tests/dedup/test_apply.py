from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_driver import make_corpus, snapshot

from embedkit.dedup import apply_plan, purge_journal, undo_journal, write_plan
from embedkit.dedup.cleanup.compare import compared_mark
from embedkit.dedup.cleanup.plan import PlanRow
from embedkit.errors import DedupError

ACTIONS = ("move", "delete", "hardlink", "symlink")
OTHER_DISK = Path("/dev/shm")


class Corpus:
    """Two groups of files and their plan: see ``make_corpus``."""

    def __init__(self, folder):
        self.folder = Path(os.path.realpath(folder)) / "corpus"
        self.rows = make_corpus(self.folder)
        self.plan = write_plan(self.rows, self.folder / "plan.csv")
        self.journal = self.folder / "plan.csv.journal"
        self.to = self.folder / "away"
        self.before = self.now()

    def now(self):
        return snapshot(self.folder / "images")

    def path(self, group, member):
        return self.folder / "images" / str(group) / f"{member}.jpg"

    def edit(self, *rows):
        write_plan(rows, self.plan, overwrite=True)

    def apply(self, action="delete", **options):
        options = {"to": self.to, "execute": True} | options
        return apply_plan(self.plan, action, **options)

    def refusals(self, done):
        return [(Path(o.path), o.reason) for o in done.outcomes if o.result == "refused"]


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dry_run_touches_nothing(corpus, action):
    tree = snapshot(corpus.folder)
    done = corpus.apply(action, execute=False)
    assert done.count("done") == (2 if action == "hardlink" else 3)
    assert done.journal is None
    assert snapshot(corpus.folder) == tree
    listed = apply_plan(corpus.plan, "list")
    assert [o.path for o in listed.outcomes] == [r.path for r in corpus.rows if r.copy_of]


@pytest.mark.parametrize("action", ACTIONS)
def test_what_each_action_leaves_and_undo_restores(corpus, action):
    done = corpus.apply(action)
    same, other, kept = corpus.path(0, 1), corpus.path(0, 2), corpus.path(0, 0)
    away = Path(f"{corpus.to}{same}")
    assert done.count("refused") == (action == "hardlink")
    assert away.read_bytes() == b"a" * 99
    if action == "hardlink":
        assert same.samefile(kept)
        assert corpus.refusals(done) == [
            (other, "not the same bytes as what is kept: no hard link")
        ]
        assert other.read_bytes() == b"b" * 50
    elif action == "symlink":
        assert os.readlink(same) == os.readlink(other) == str(kept)
    else:
        assert not os.path.lexists(same)
        assert not os.path.lexists(other)
    assert done.nbytes == 100 + (0 if action == "hardlink" else 50)
    again = corpus.apply(action)
    assert again.count("before") == done.count("done")
    assert undo_journal(corpus.journal).count("refused") == 0
    assert corpus.now() == corpus.before
    assert undo_journal(corpus.journal).outcomes == ()
    assert corpus.to.exists() == (action == "move")
    assert corpus.apply("symlink").count("done") == 3  # the journal is free for something else


def test_a_trash_of_its_own(corpus):
    apply_plan(corpus.plan, "delete", execute=True)
    trash = corpus.journal.with_name("plan.csv.journal.trash")
    assert len(snapshot(trash)) == 3
    undo_journal(corpus.journal)
    assert not trash.exists()
    assert corpus.now() == corpus.before


@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="no other file system to move to")
@pytest.mark.parametrize("action", ACTIONS)
def test_another_disk(corpus, action):
    to = OTHER_DISK / f"embedkit-test-{os.getpid()}-{action}"
    try:
        assert os.stat(OTHER_DISK).st_dev != os.stat(corpus.folder).st_dev
        corpus.apply(action, to=to)
        assert digest(f"{to}{corpus.path(0, 1)}") == corpus.rows[1].content_hash
        assert undo_journal(corpus.journal).count("refused") == 0
        assert corpus.now() == corpus.before
    finally:
        shutil.rmtree(to, ignore_errors=True)


def test_a_changed_file_stays(corpus):
    corpus.path(0, 1).write_bytes(b"edited")
    corpus.path(0, 2).unlink()
    done = corpus.apply()
    assert corpus.refusals(done) == [
        (corpus.path(0, 1), "changed since it was embedded: other bytes"),
        (corpus.path(0, 2), "no such file"),
    ]
    assert corpus.path(0, 1).read_bytes() == b"edited"


def damage(path):
    path.write_bytes(b"damaged")


def relink(path):
    copy = path.with_suffix(".real")
    path.rename(copy)
    path.symlink_to(copy)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(damage, "other bytes"), (Path.unlink, "is gone"), (relink, "no regular file")],
)
def test_without_what_is_kept_nothing_goes(corpus, harm, reason):
    harm(corpus.path(0, 0))
    tree = corpus.now()
    for execute in (False, True):
        refused = corpus.refusals(corpus.apply(execute=execute))
        assert [path for path, _ in refused] == [corpus.path(0, 1), corpus.path(0, 2)]
        assert all("nothing that it is a copy of would be left" in why for _, why in refused)
        assert all(reason in why for _, why in refused)
    assert {p: v for p, v in corpus.now().items() if "/0/" in p} == {
        p: v for p, v in tree.items() if "/0/" in p
    }


@pytest.mark.parametrize("data", [b"a" * 99, b"original"])
def test_only_a_kept_file_of_the_same_bytes_will_do_instead(corpus, data):
    """Its own bytes, or those of the file that it is a copy of; not whatever its group keeps."""
    rows = list(corpus.rows)
    corpus.path(0, 0).write_bytes(b"original")
    corpus.path(0, 2).write_bytes(data)
    rows[0] = dataclasses.replace(rows[0], content_hash=digest(corpus.path(0, 0)))
    rows[1] = dataclasses.replace(
        rows[1], compared=compared_mark(rows[1].content_hash, rows[0].content_hash)
    )
    rows[2] = dataclasses.replace(
        rows[2], action="keep", copy_of="", content_hash=digest(corpus.path(0, 2))
    )
    corpus.edit(*rows)
    corpus.path(0, 0).unlink()
    assert corpus.apply("symlink").count("refused") == 0
    assert os.readlink(corpus.path(0, 1)) == str(corpus.path(0, 2))


@pytest.mark.parametrize("action", ACTIONS)
def test_a_copy_stays_when_its_original_went(corpus, action):
    rows = list(corpus.rows)
    rows[2] = dataclasses.replace(rows[2], action="keep", copy_of="")
    corpus.edit(*rows)
    corpus.path(0, 0).unlink()
    for execute in (False, True):
        refused = corpus.refusals(corpus.apply(action, execute=execute))
        assert [path for path, _ in refused] == [corpus.path(0, 1)]
        assert refused[0][1].endswith(f"would be left: {corpus.path(0, 0)} is gone")
    assert corpus.path(0, 1).read_bytes() == b"a" * 99


def test_two_names_of_one_file(corpus):
    for name in (corpus.path(0, 1), corpus.path(0, 2)):
        name.unlink()
    os.link(corpus.path(0, 0), corpus.path(0, 1))
    refused = dict(corpus.refusals(corpus.apply(execute=False)))
    assert "is the same file" in refused[corpus.path(0, 1)]
    corpus.path(0, 1).unlink()
    corpus.path(0, 1).write_bytes(b"a" * 99)
    os.link(corpus.path(0, 1), corpus.path(0, 2))
    rows = list(corpus.rows)
    rows[2] = dataclasses.replace(rows[2], content_hash=rows[1].content_hash)
    corpus.edit(*rows)
    expected = [(corpus.path(0, 2), f"the same file as {corpus.path(0, 1)}, which goes already")]
    assert corpus.refusals(corpus.apply(execute=False)) == expected
    assert corpus.refusals(corpus.apply()) == expected
    assert corpus.refusals(corpus.apply()) == expected  # an earlier run is remembered


def test_links_on_the_way_are_not_followed(corpus):
    folder = corpus.folder / "images" / "1"
    folder.rename(corpus.folder / "elsewhere")
    folder.symlink_to(corpus.folder / "elsewhere")
    path = corpus.path(0, 1)
    data = path.read_bytes()
    path.unlink()
    path.symlink_to(path.with_name("0.jpg"))
    done = corpus.apply()
    assert dict(corpus.refusals(done)) == {
        path: "no regular file any more",
        corpus.path(1, 1): "a folder on the way is a symbolic link",
    }
    assert (corpus.folder / "elsewhere" / "1.jpg").read_bytes() == b"c"
    assert data == b"a" * 99
    corpus.to.rename(corpus.folder / "moved")
    corpus.to.mkdir()
    (corpus.to / "tmp").symlink_to(corpus.folder)  # a folder of the trash leads out of it
    top = Path(str(corpus.to) + "/" + corpus.path(0, 1).parts[1])
    if not os.path.lexists(top):
        top.symlink_to(corpus.folder)
    other = corpus.plan.with_name("other.journal")
    corpus.edit(*corpus.rows[3:])
    folder.unlink()
    (corpus.folder / "elsewhere").rename(folder)
    refused = corpus.refusals(corpus.apply(journal=other))
    assert refused[0][0] == corpus.path(1, 1)
    assert "is no folder" in refused[0][1]


def test_nothing_is_overwritten(corpus):
    target = Path(f"{corpus.to}{corpus.path(0, 1)}")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    for execute in (False, True):
        done = corpus.apply(execute=execute)
        assert corpus.refusals(done) == [(corpus.path(0, 1), f"{target} exists already")]
    corpus.path(0, 2).write_bytes(b"new")  # where a file went from
    back = undo_journal(corpus.journal)
    assert [path for path, _ in corpus.refusals(back)] == [corpus.path(0, 2)]
    assert "something else is there now" in corpus.refusals(back)[0][1]
    assert corpus.path(0, 2).read_bytes() == b"new"
    assert target.read_bytes() == b"mine"
    corpus.path(0, 2).unlink()
    undo_journal(corpus.journal)
    assert corpus.now() == corpus.before


@pytest.mark.parametrize("below", [(), ("a", "b")])
def test_a_folder_to_move_to_that_is_none_is_refused_at_once(corpus, below):
    corpus.to.write_bytes(b"a file")
    tree = snapshot(corpus.folder)
    for execute in (False, True):
        with pytest.raises(DedupError, match="away: is no folder; choose another to="):
            corpus.apply(to=corpus.to.joinpath(*below), execute=execute)
    assert snapshot(corpus.folder) == tree
    assert apply_plan(corpus.plan, "list").count("done") == 3


def test_a_dry_run_tells_of_folders_that_can_not_be_written(corpus, monkeypatch):
    locked = {str(corpus.path(1, 1).parent)}
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in locked)
    refused = corpus.refusals(corpus.apply(execute=False))
    assert refused == [(corpus.path(1, 1), f"nothing may be written in {corpus.path(1, 1).parent}")]
    assert apply_plan(corpus.plan, "list").count("done") == 3
    locked.add(str(corpus.folder))
    for execute in (False, True):
        with pytest.raises(DedupError, match="nothing may be written there"):
            corpus.apply(execute=execute)


def test_names_that_are_not_utf_8(tmp_path):
    folder = Path(os.path.realpath(tmp_path))
    rows = []
    for member, name in enumerate([b"caf\xe9.jpg", b"=1\n%41.jpg"]):
        path = os.fsdecode(os.fsencode(folder) + b"/" + name)
        Path(path).write_bytes(b"x")
        rows.append(
            PlanRow(0, "remove" if member else "keep", path, path, rows[0].path if member else "",
                    hashlib.sha256(b"x").hexdigest(), 1, 1, 1, "JPEG", None, "")
        )  # fmt: skip
    plan = write_plan(rows, folder / "plan.csv")
    apply_plan(plan, "symlink", execute=True)
    assert os.readlink(os.fsencode(rows[1].path)) == os.fsencode(rows[0].path)
    undo_journal(folder / "plan.csv.journal")
    assert not os.path.islink(rows[1].path)


def test_purge_frees_and_keeps_its_head(corpus):
    corpus.apply()
    assert purge_journal(corpus.journal).nbytes == 150
    assert len(snapshot(corpus.to)) == 3
    damage(corpus.path(1, 0))
    Path(f"{corpus.to}{corpus.path(0, 2)}").write_bytes(b"other")
    done = purge_journal(corpus.journal, execute=True)
    assert [path for path, _ in corpus.refusals(done)] == [corpus.path(0, 2), corpus.path(1, 1)]
    assert done.count("done") == 1
    assert not os.path.lexists(f"{corpus.to}{corpus.path(0, 1)}")
    back = undo_journal(corpus.journal)
    assert dict(corpus.refusals(back))[corpus.path(0, 1)] == "purged: its bytes are gone"
    assert corpus.path(1, 1).read_bytes() == b"c"


def test_purge_is_not_for_what_was_moved(corpus):
    corpus.apply("move")
    with pytest.raises(DedupError, match="of move"):
        purge_journal(corpus.journal, execute=True)


def test_a_journal_is_held_to(corpus):
    corpus.apply()
    with pytest.raises(DedupError, match="delete != symlink"):
        corpus.apply("symlink")
    with pytest.raises(DedupError, match="away"):
        corpus.apply(to=corpus.folder / "other")
    corpus.edit(*corpus.rows[:3])
    with pytest.raises(DedupError, match="the plan has changed"):
        corpus.apply()
    assert corpus.apply("move", journal=corpus.folder / "second").count("refused") == 2


def test_journals_that_were_cut_or_damaged(corpus):
    corpus.apply()
    data = corpus.journal.read_bytes()
    corpus.journal.write_bytes(data[:-20])  # a kill inside the last line
    assert corpus.apply().count("before") == 3
    undo_journal(corpus.journal)
    assert corpus.now() == corpus.before
    lines = data.splitlines(keepends=True)
    bad = [
        lines[0].replace(b'"version": 1', b'"version": 2'), lines[0] + b'{"event": "burnt"}\n',
        lines[0] + b'{"event": "done", "path": "/x"}\n',
        lines[0] + lines[1].replace(b'"path": "/', b'"path": "'),
        lines[0] + lines[1].replace(b'"path": "/', b'"path": "/../'),
        lines[0] + b'{"event": "burnt"}\n' + b"cut off",
    ]  # fmt: skip
    for text in bad:
        corpus.journal.write_bytes(text)
        with pytest.raises(DedupError, match=r"line \d is damaged"):
            undo_journal(corpus.journal)
        assert corpus.journal.read_bytes() == text
    with pytest.raises(DedupError, match="no such journal"):
        undo_journal(corpus.folder / "none")


BEGUN = {"event": "begun", "path": "/a.jpg", "version": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xe0\0\x10JFIF\n\0\nand more",
        b"\x89HDF\r\n\x1a\n\0and more",
        b"text without a newline",
        b"text\nwith newlines\nand more",
        b'{"event": "start"}\n{"event": "done"}\n{"ev',
        json.dumps(BEGUN).encode() + b"\nand more",
        b"[]\n",
        b"[" * 100_000 + b"\nand more",
        b'{"event": "starting"',
        b"\n",
    ],
)
def test_a_file_that_is_no_journal_is_left_alone(corpus, data):
    path = corpus.folder / "mistaken"
    path.write_bytes(data)
    tree = snapshot(corpus.folder)
    for work in (
        undo_journal,
        purge_journal,
        lambda path: purge_journal(path, execute=True),
        lambda path: corpus.apply(journal=path),
    ):
        with pytest.raises(DedupError, match=r"mistaken: not a journal of dedup apply$"):
            work(path)
        assert snapshot(corpus.folder) == tree


def test_only_apply_begins_a_journal(corpus):
    empty, none = corpus.folder / "empty", corpus.folder / "none"
    empty.touch()
    tree = snapshot(corpus.folder)
    for work in (undo_journal, purge_journal, lambda path: purge_journal(path, execute=True)):
        with pytest.raises(DedupError, match="empty: not a journal"):
            work(empty)
        with pytest.raises(DedupError, match="none: no such journal"):
            work(none)
        with pytest.raises(DedupError, match=r"Is a directory|not a journal"):
            work(corpus.folder)
    assert snapshot(corpus.folder) == tree
    assert corpus.apply(journal=empty).count("done") == 3
    undo_journal(empty)
    assert corpus.now() == corpus.before


@pytest.mark.parametrize("kept", [5, 200])
def test_a_start_that_was_cut_off_is_begun_anew(corpus, kept):
    corpus.apply()
    undo_journal(corpus.journal)
    torn = corpus.journal.read_bytes()[:kept]
    corpus.journal.write_bytes(torn)
    assert corpus.apply().count("done") == 3
    lines = corpus.journal.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in lines[:2]] == ["start", "begun"]


def test_a_dry_purge_writes_nothing(corpus):
    corpus.apply()
    with corpus.journal.open("ab") as file:
        file.write(b'{"event": "do')
    corpus.journal.chmod(0o400)
    tree = snapshot(corpus.folder)
    assert purge_journal(corpus.journal).count("done") == 3
    assert snapshot(corpus.folder) == tree


def test_nothing_is_left_beside_a_journal(corpus):
    corpus.apply()
    undo_journal(corpus.journal)
    names = {path.name for path in corpus.folder.iterdir()}
    assert names == {"images", "plan.csv", "plan.csv.journal"}


def test_an_interrupted_undo_comes_first(corpus):
    corpus.apply()
    with corpus.journal.open("a") as file:
        file.write(json.dumps({"event": "undoing", "path": str(corpus.path(1, 1))}) + "\n")
    with pytest.raises(DedupError, match="an undo was interrupted"):
        corpus.apply()
    undo_journal(corpus.journal)
    assert corpus.now() == corpus.before


def test_one_process_at_a_time(corpus):
    from embedkit.dedup.cleanup.journal import Journal

    with Journal.locked(corpus.journal, create=True), pytest.raises(DedupError, match="another"):
        corpus.apply()


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        ("burn", {}, "no action"), ("move", {}, "to="), ("list", {"execute": True}, "list only"),
        ("list", {"to": "x"}, "list only"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_go_together(corpus, action, options, message):
    with pytest.raises(ValueError, match=message):
        apply_plan(corpus.plan, action, **options)


@pytest.mark.parametrize(
    ("action", "apart"),
    [
        ("hardlink", ()),
        ("symlink", ("apart",)),
        pytest.param("symlink", (), marks=pytest.mark.slow),
        pytest.param("delete", ("apart",), marks=pytest.mark.slow),
    ],
)
def test_ended_before_every_change_of_the_disk(tmp_path, action, apart):
    """Nothing is lost, a rerun ends alike, and undo restores every byte: see ``crash_driver``."""
    driver = Path(__file__).parents[1] / "crash_driver.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", driver, tmp_path, action, *apart],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25  # moments


def test_killed_for_real(tmp_path):
    """A few kills at random moments; ``benchmarks/applies.py`` does many."""
    corpus = Corpus(tmp_path)
    rows = []
    for number in range(40):
        for member, row in enumerate(corpus.rows[:2]):
            path = corpus.folder / "images" / f"{number}-{member}"
            path.write_bytes(b"a" * 99)
            copy_of = rows[-1].path if member else ""
            rows.append(
                dataclasses.replace(row, group=number, id="x", path=str(path), copy_of=copy_of)
            )
    corpus.edit(*rows)
    before, kills = corpus.now(), 0
    command = ["apply", corpus.plan, "--action", "symlink", "--to", corpus.to, "--execute"]
    while not kill_when_begun([*command], corpus.journal, kill=kills < 2):
        kills += 1
        for row in rows:
            kept = row.copy_of or row.path
            assert digest(kept) == row.content_hash
            assert any(digest(p) == row.content_hash for p in (row.path, f"{corpus.to}{row.path}")
                       if os.path.exists(p))  # fmt: skip
    assert kills == 2
    assert all(os.path.islink(row.path) for row in rows if row.copy_of)
    kill_when_begun(["undo", corpus.journal], corpus.journal, kill=True)
    undo_journal(corpus.journal)
    assert corpus.now() == before


def kill_when_begun(command, journal, *, kill):
    size = journal.stat().st_size if journal.exists() else 0
    process = subprocess.Popen(
        [sys.executable, "-m", "embedkit_cli", "-q", "dedup", *map(str, command)],
        stdout=subprocess.DEVNULL,
    )
    while kill and process.poll() is None:
        if journal.exists() and journal.stat().st_size > size + 2000:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.001)
    return process.wait() == 0
