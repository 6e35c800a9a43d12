"""Runs a job, and puts the disk into states that a loss of power may leave; checks each.

    python tests/faults/power_loss.py FOLDER JOB STATES SEED

Before each change of the disk, and each fsync, the folder is noted: its names, what file each name
is, and what it holds. Then STATES different states are made at random, or fewer where hardly any
new ones come. In each the power goes at some point of the run. A file holds what it held at its
last fsync, what it held when the power went, or a part of that: a shorter beginning, or with blocks
that are zeros. Changes of names since the last fsync of their folder are there up to some point in
time, or some of them are. What was there before must be whole, the command run again must end as
ever; and if the power goes after the end of the run, its result must be there. Prints how many
states there were, and in how many the result was the old one.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

BLOCK = 4096
_DRAWS = 40  # of which one has to be new
FOLDER = "folder"

Names = dict[str, int]
"""Paths below the folder, and the number of the file or folder that each is."""


@dataclass
class Moment:
    """The folder before a change.

    Attributes:
        names: All names.
        contents: The hash of each file's content by its number; of a folder, FOLDER.
        synced: The file or folder that is synced then.
    """

    names: Names
    contents: dict[int, str]
    synced: int | None = None


@dataclass
class Recorder:
    """Notes a folder before each of its changes."""

    folder: Path
    blobs: Path
    moments: list[Moment] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)  # by the system's number of a file
    count: int = 0

    def note(self, what: str = "", detail: object = None) -> None:
        """Notes the folder as it is now."""
        moment = Moment({}, {})
        for path in sorted(self.folder.rglob("*")):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            number = self._number(status)
            moment.names[str(path.relative_to(self.folder))] = number
            is_folder = path.is_dir() and not path.is_symlink()
            moment.contents[number] = FOLDER if is_folder else self._keep(path)
        # A number of the system that was freed may come again for another file.
        self.numbers = {
            one: number for one, number in self.numbers.items() if number in moment.contents
        }
        if what == "fsync":
            moment.synced = self._number(os.fstat(detail))
        self.moments.append(moment)

    def _number(self, status: os.stat_result) -> int:
        if status.st_ino not in self.numbers:
            self.count += 1
            self.numbers[status.st_ino] = self.count
        return self.numbers[status.st_ino]

    def _keep(self, path: Path) -> str:
        data = path.read_bytes()
        name = hashlib.sha256(data).hexdigest()
        if not (self.blobs / name).exists():
            (self.blobs / name).write_bytes(data)
        return name


def record(scene, folder: Path) -> list[Moment]:
    """Runs the job, and notes its folder before each change and at the end."""
    from jobs import in_child
    from layer import watch_changes

    blobs = folder / "blobs"
    blobs.mkdir()

    def run() -> None:
        recorder, busy = Recorder(scene.work, blobs), []

        def before(what: str, detail: object) -> None:
            if not busy:  # noting opens files too
                busy.append(what)
                recorder.note(what, detail)
                busy.pop()

        watch_changes(scene.work, before)
        scene.job.act(scene.work)
        busy.append("end")
        recorder.note()
        (folder / "moments").write_bytes(pickle.dumps(recorder.moments))

    scene.reset()
    assert in_child(run) == 0
    return pickle.loads((folder / "moments").read_bytes())


@dataclass
class Disk:
    """What of a run is on the disk for certain when the power goes, and what may be."""

    durable: Names
    contents: dict[int, str]  # of each file at its last fsync
    pending: list[dict[str, int | None]] = field(default_factory=list)  # changes of names

    @classmethod
    def at(cls, moments: list[Moment], last: int) -> Disk:
        """The disk when the power goes right before the ``last``-th change."""
        first = moments[0]
        disk = cls(dict(first.names), dict(first.contents))
        for before, now in pairwise(moments[: last + 1]):
            # what ``before`` announced has been done in ``now``
            change = _difference(before.names, now.names)
            if change:
                disk.pending.append(change)
            if before.synced is not None:
                disk._sync(before.synced, now)
        return disk

    def _sync(self, number: int, now: Moment) -> None:
        if now.contents.get(number) != FOLDER and number in now.contents:
            self.contents[number] = now.contents[number]
            return
        folder = next((name for name, one in now.names.items() if one == number), "")
        left = []
        for change in self.pending:
            if any(str(Path(name).parent) == (folder or ".") for name in change):
                self._apply(self.durable, change)
            else:
                left.append(change)
        self.pending = left

    @staticmethod
    def _apply(names: Names, change: dict[str, int | None]) -> None:
        for name, number in change.items():
            if number is None:
                names.pop(name, None)
            else:
                names[name] = number

    def some_names(self, rng: random.Random) -> Names:
        """The names after a loss of power: some changes of names are there."""
        names = dict(self.durable)
        if rng.random() < 0.5:  # a journal: all up to some time
            kept = self.pending[: rng.randint(0, len(self.pending))]
        else:
            kept = [change for change in self.pending if rng.random() < 0.5]
        for change in kept:
            self._apply(names, change)
        return names


def _difference(before: Names, now: Names) -> dict[str, int | None]:
    gone: dict[str, int | None] = {name: None for name in before if name not in now}
    return gone | {name: one for name, one in now.items() if before.get(name) != one}


def _in_folders(names: Names, kinds: dict[int, str]) -> Names:
    """The names that lie in folders: others went with the name of theirs."""

    def is_folder(path: Path) -> bool:
        return str(path) == "." or kinds.get(names.get(str(path), 0)) == FOLDER

    return {
        name: number
        for name, number in names.items()
        if all(is_folder(one) for one in Path(name).parents)
    }


def lose_power(scene, moments: list[Moment], last: int, blobs: Path, rng: random.Random) -> None:
    """Makes the folder as a loss of power before the ``last``-th change may leave it."""
    disk, now = Disk.at(moments, last), moments[last]
    shutil.rmtree(scene.work)
    scene.work.mkdir()
    kinds = {number: kind for moment in moments for number, kind in moment.contents.items()}
    for name, number in sorted(_in_folders(disk.some_names(rng), kinds).items()):
        path = scene.work / name
        if kinds[number] == FOLDER:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        known = disk.contents.get(number)
        synced = (blobs / known).read_bytes() if known else b""
        latest = now.contents.get(number, known)
        data = (blobs / latest).read_bytes() if latest else synced
        path.write_bytes(_some_content(synced, data, rng))


def _some_content(synced: bytes, latest: bytes, rng: random.Random) -> bytes:
    """What a file may hold that was synced, and then written to."""
    if synced == latest:
        return synced
    way = rng.randrange(4)
    if way == 0:
        return synced
    if way == 1:
        return latest
    if way == 2:  # the beginning of what was appended
        return latest[: rng.randint(min(len(synced), len(latest)), len(latest))]
    blocks = bytearray(latest)  # some blocks didn't arrive
    for start in range(0, len(latest), BLOCK):
        if rng.random() < 0.5:
            old = synced[start : start + BLOCK]
            blocks[start : start + BLOCK] = old.ljust(len(blocks[start : start + BLOCK]), b"\0")
    return bytes(blocks)


def main(folder: Path, name: str, states: int, seed: int) -> str:
    """Runs all; gives the counts."""
    from jobs import JOBS, Scene

    scene = Scene(JOBS[name], folder)
    moments, rng = record(scene, folder), random.Random(seed)
    found: Counter[str] = Counter()
    seen: set[object] = set()
    new = number = 0
    while len(seen) < states and number - new < _DRAWS:
        number += 1
        is_end = number % 10 == 0
        last = len(moments) - 1 if is_end else rng.randrange(len(moments))
        lose_power(scene, moments, last, folder / "blobs", rng)
        state = (is_end, tuple(sorted(_files(scene.work).items())))
        if state in seen:
            continue
        seen.add(state)
        new = number
        try:
            now = scene.check_between()
            if is_end:
                assert now == scene.after, ("the end was lost", now)
            found["new" if now == scene.after else "old"] += 1
            scene.finish()
        except BaseException:
            sys.stderr.write(f"state {number}: power lost before change {last} of {len(moments)}\n")
            raise
    return f"{len({files for _, files in seen})} different states: {dict(found)}"


def _files(folder: Path) -> dict[str, str]:
    """The content of each file, by its path; of a folder nothing."""
    return {
        str(path): "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    arguments = sys.argv
    done = main(Path(arguments[1]), arguments[2], int(arguments[3]), int(arguments[4]))
    sys.stdout.write(f"{done}\n")
