"""Runs apply and undo in processes that end without a word before the k-th change of the disk.

    python tests/crash_driver.py FOLDER ACTION [apart]

For every k: the corpus is made anew, a process applies and ends at its k-th call that changes the
disk, the state is checked, then either a second process goes on, or another undoes, which is ended
at its k-th change in turn and run again. With ``apart`` the folder to go to is like on another
disk: renaming into it or out of it is refused as the system does. Prints how many k there were.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from pathlib import Path

from embedkit.dedup.cleanup.apply import apply_plan, undo_journal
from embedkit.dedup.cleanup.compare import compared_mark
from embedkit.dedup.cleanup.plan import PlanRow
from embedkit.dedup.cleanup.plan_csv import write_plan

CHANGES = ("rename", "replace", "link", "symlink", "unlink", "write", "mkdir", "rmdir", "ftruncate")
CRASHED = 9


def make_corpus(folder: Path) -> list[PlanRow]:
    """Two groups: one kept and two that go, of the same bytes and of others."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for group, contents in enumerate([(b"a" * 99, b"a" * 99, b"b" * 50), (b"c", b"c")]):
        for member, data in enumerate(contents):
            path = folder / "images" / f"{group}" / f"{member}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, ns=(0, 10**18 + member))
            kept = str(path.with_name("0.jpg"))
            digest = hashlib.sha256(data).hexdigest()
            stays = hashlib.sha256(contents[0]).hexdigest()
            rows.append(
                PlanRow(group, "remove" if member else "keep", str(path), str(path),
                        kept if member else "", digest, 1, 1, len(data), "JPEG", None, "",
                        compared_mark(digest, stays) if member else "")
            )  # fmt: skip
    return rows


def crash_at(k: int) -> None:
    """Ends the process before its k-th change; a write happens by half."""
    left = [k]

    def wrap(function, is_write):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                if is_write:
                    function(args[0], args[1][: len(args[1]) // 2])
                os._exit(CRASHED)
            return function(*args, **kwargs)

        return wrapped

    for name in CHANGES:
        setattr(os, name, wrap(getattr(os, name), name == "write"))
    really_open = os.open

    def opening(path, flags, *args, **kwargs):
        if flags & os.O_CREAT:
            left[0] -= 1
            if left[0] == 0:
                os._exit(CRASHED)
        return really_open(path, flags, *args, **kwargs)

    os.open = opening


def set_apart(folder: Path) -> None:
    """Renaming across the border of ``folder`` is refused."""
    really = os.rename

    def rename(source, target, **kwargs):
        if (str(folder) in str(source)) != (str(folder) in str(target)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return really(source, target, **kwargs)

    os.rename = rename


def run(work, k: int) -> bool:
    """Does ``work`` in a process that ends at its k-th change; whether it came to its end."""
    child = os.fork()
    if child == 0:
        crash_at(k)
        try:
            work()
        except BaseException as exc:
            sys.stderr.write(f"{exc!r}\n")
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, CRASHED), code
    return code == 0


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            status = path.lstat()
            link = os.readlink(path) if path.is_symlink() else ""
            found[str(path)] = (link, path.read_bytes(), status.st_mode, status.st_mtime_ns)
    return found


def check(rows: list[PlanRow], to: Path) -> None:
    """What is kept is at its place, and every other file's bytes are somewhere."""
    for row in rows:
        places = [Path(row.path)]
        if row.action == "remove":
            places.append(Path(f"{to}{row.path}"))
        whole = [p for p in places if p.is_file() and digest(p) == row.content_hash]
        assert whole, (row.path, places)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    os.fsync = lambda _: None  # this is about ended processes, not about lost power
    folder, action = Path(os.path.realpath(sys.argv[1])), sys.argv[2]
    to = folder / "away"
    if sys.argv[3:]:
        set_apart(to)
    plan, journal = folder / "plan.csv", folder / "plan.csv.journal"

    def apply():
        apply_plan(plan, action, to=to, execute=True)

    def undo():
        done = undo_journal(journal)
        assert not done.count("refused"), done

    def fresh():
        rows = make_corpus(folder)
        write_plan(rows, plan)
        return rows, snapshot(folder / "images")

    rows, before = fresh()
    apply()
    after = snapshot(folder / "images")
    assert set(after) < set(before) or after != before
    k, through = 0, False
    while not through:
        k += 1
        rows, before = fresh()
        through = run(apply, k)
        check(rows, to)
        if k % 2 or through:
            apply()
            now = snapshot(folder / "images")
            assert {p: v[:3] for p, v in now.items()} == {p: v[:3] for p, v in after.items()}
        if journal.exists():
            run(undo, k)
            check(rows, to)
            undo()
        assert snapshot(folder / "images") == before, k
        assert not list(folder.rglob("*.part")), k
    sys.stdout.write(f"{k}\n")


if __name__ == "__main__":
    main()
