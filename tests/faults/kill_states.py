"""Ends a process before each of its changes of the disk, runs the command again, checks the state.

    python tests/faults/kill_states.py FOLDER JOB

Prints how many states there were. Changes are what Python's audit events tell of (files opened for
writing, renamed, removed, folders made and removed), and fsyncs.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np

from embedkit.errors import EmbedkitError
from embedkit.exporters.export import export
from embedkit.index import Index, IndexSpec
from embedkit.index.verify import index_problems
from embedkit.store import EmbeddingStore, merge

CRASHED, TOLD = 9, 3
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
_SPEC = IndexSpec(factory="IVF4,Flat", rerank=False)


def main(folder: Path, job: str) -> int:
    """Runs a job with a kill before its k-th change, for every k; gives how many k there were."""
    prepare, act, check = JOBS[job]
    base, work = folder / "base", folder / "work"
    base.mkdir()
    prepare(base)
    for k in range(1, 1000):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)
        ended = in_child(lambda k=k: (crash_at(k, work), act(work)))
        assert ended in {0, CRASHED}, (k, ended)
        again = in_child(lambda: act(work))
        assert again in {0, TOLD}, (k, again)
        check(work)
        extra = {path.name for path in work.iterdir()} - NAMES
        assert not extra, (k, extra)
        if ended == 0:
            return k - 1
    raise AssertionError("it never ended")


def in_child(action) -> int:
    """Runs something in a child; gives its exit code, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except EmbedkitError as error:
            sys.stderr.write(f"{error}\n")
            os._exit(TOLD)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash_at(k: int, folder: Path) -> None:
    """Ends this process before its k-th change below a folder."""
    left = [k]
    fsync = os.fsync

    def change() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(CRASHED)

    def hook(event: str, args: tuple) -> None:
        is_write = (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (is_write or event in _CHANGES) and str(folder) in str(args[0]):
            change()

    def synced(handle: int) -> None:
        change()
        fsync(handle)

    os.fsync = synced
    sys.addaudithook(hook)


def write_store(path: Path, first: int, count: int = 300) -> Path:
    from stores import write_store as write

    rows = np.random.default_rng(first).normal(size=(count, 8)).astype(np.float32)
    return write(path, rows, ids=[f"{first + n}.jpg" for n in range(count)])


def prepare(folder: Path) -> None:
    write_store(folder / "a.h5", 0)
    write_store(folder / "b.h5", 1000)


def prepare_index(folder: Path) -> None:
    prepare(folder)
    Index.build(folder / "a.h5", folder / "a.index", _SPEC)


def prepare_changed(folder: Path) -> None:
    prepare_index(folder)
    write_store(folder / "a.h5", 100)  # 100 images are gone, 100 new, and the others changed


def prepare_removed(folder: Path) -> None:
    prepare_index(folder)
    Index.remove(folder / "a.index", ["3.jpg", "4.jpg"])


def prepare_export(folder: Path) -> None:
    prepare(folder)
    export(folder / "a.h5", folder / "a.npy", to="npy")


def build(folder: Path) -> None:
    Index.build(folder / "a.h5", folder / "a.index", _SPEC)


def rebuild(folder: Path) -> None:
    Index.build(folder / "a.h5", folder / "a.index", IndexSpec(factory="Flat"), overwrite=True)


def add(folder: Path) -> None:
    Index.add(folder / "a.index", folder / "b.h5")


def update(folder: Path) -> None:
    Index.update(folder / "a.index")


def compact(folder: Path) -> None:
    Index.compact(folder / "a.index")


def merge_stores(folder: Path) -> None:
    merge([folder / "a.h5", folder / "b.h5"], folder / "m.h5", overwrite=True)


def export_again(folder: Path) -> None:
    export(folder / "a.h5", folder / "a.npy", to="npy", overwrite=True)


def has_rows(count: int):
    def check(folder: Path) -> None:
        assert index_problems(folder / "a.index") == []
        with Index.open(folder / "a.index") as index:
            assert len(index) == count
        names = [path.name for path in (folder / "a.index").iterdir()]
        assert not [name for name in names if name.endswith(".tmp")], names

    return check


def is_merged(folder: Path) -> None:
    with EmbeddingStore.open(folder / "m.h5") as store:
        assert len(store) == 600


def is_exported(folder: Path) -> None:
    assert (folder / "a.npy" / "metadata" / "metadata_0.parquet").is_file()


NAMES = {"a.h5", "b.h5", "m.h5", "a.index", "a.npy"}
JOBS = {
    "build": (prepare, build, has_rows(300)),
    "rebuild": (prepare_index, rebuild, has_rows(300)),
    "add": (prepare_index, add, has_rows(600)),
    "update": (prepare_changed, update, has_rows(300)),
    "compact": (prepare_removed, compact, has_rows(298)),
    "merge": (prepare, merge_stores, is_merged),
    "export": (prepare_export, export_again, is_exported),
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.stdout.write(f"{main(Path(sys.argv[1]), sys.argv[2])}\n")
