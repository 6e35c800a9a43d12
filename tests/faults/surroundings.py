"""Runs a job where the system gives it too little; then with enough, and checks the state.

    python tests/faults/surroundings.py FOLDER JOB small-disk|read-only|removed|memory STEP

small-disk: on a file system in memory that is STEP KiB larger each time, until the job fits (needs
root). read-only: on a file system that can't be written to (needs root). removed: the folder is
removed before the k-th change of the disk, for every STEP-th k. memory: with an address space that
is STEP KiB larger each time, until the job fits. The command ends with an error, what was there is
whole, and the command run again with enough ends as ever. Prints how many cases there were, and
how they ended.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = {0: "done", 1: "other error", 3: "error"}


def main(folder: Path, name: str, kind: str, step: int) -> str:
    """Runs all cases; gives how many, and how they ended."""
    from jobs import JOBS, Scene

    cases = {
        "small-disk": small_disks,
        "read-only": read_only,
        "removed": removals,
        "memory": little_memory,
    }
    with own_disk(folder) if kind in {"small-disk", "read-only"} else own_folder(folder) as place:
        scene, found = Scene(JOBS[name], place), Counter()
        for ended in cases[kind](scene, step):
            found[ENDINGS.get(ended, f"signal {-ended}")] += 1
    return f"{found.total()} cases: {dict(found)}"


def small_disks(scene, step: int) -> Iterator[int]:
    """How the job ends on ever larger disks; the last one is large enough."""
    from jobs import in_child

    for more in itertools.count(1, step):
        scene.reset()
        used = shutil.disk_usage(scene.work).used // 1024
        mount(scene.work.parent, f"remount,size={used + more}k")
        ended = in_child(lambda: scene.job.act(scene.work))
        mount(scene.work.parent, "remount,size=90%")
        yield check(scene, ended)
        if ended == 0:
            return


def read_only(scene, step: int) -> Iterator[int]:
    """How the job ends where nothing can be written."""
    from jobs import FAILED, in_child

    scene.reset()
    mount(scene.work.parent, "remount,ro")
    ended = in_child(lambda: scene.job.act(scene.work))
    mount(scene.work.parent, "remount,rw")
    assert ended == FAILED, ended
    yield check(scene, ended)


def removals(scene, step: int) -> Iterator[int]:
    """How the job ends whose folder is removed before a change of the disk."""
    from jobs import FAILED, in_child
    from layer import watch_changes

    reached = scene.work.with_name("reached")

    def run(k: int) -> None:
        left = [k]

        def before(what: str, path: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                reached.touch()
                shutil.rmtree(scene.work)

        watch_changes(scene.work, before)
        scene.job.act(scene.work)

    for k in itertools.count(1, step):
        scene.reset()
        reached.unlink(missing_ok=True)
        ended = in_child(lambda k=k: run(k))
        assert ended in {0, FAILED}, (k, ended)
        scene.work.mkdir(exist_ok=True)
        scene.reset()
        scene.finish()
        yield ended
        if not reached.exists():
            return


def little_memory(scene, step: int) -> Iterator[int]:
    """How the job ends with ever more address space; the last one is enough."""
    from jobs import in_child

    def run(more: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGESIZE") + more * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        scene.job.act(scene.work)

    for more in itertools.count(0, step):
        scene.reset()
        ended = in_child(lambda more=more: run(more))
        yield check(scene, ended)
        if ended == 0:
            return


def check(scene, ended: int) -> int:
    """What was there is whole, and the job ends as ever; gives how it had ended."""
    scene.check_between()
    scene.finish()
    return ended


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    yield folder


@contextmanager
def own_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", options, place], check=True)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    arguments = sys.argv
    done = main(Path(arguments[1]), arguments[2], arguments[3], int(arguments[4]))
    sys.stdout.write(f"{done}\n")
