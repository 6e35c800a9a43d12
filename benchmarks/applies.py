"""A plan's apply, killed again and again, never leaves a group without a copy; undo restores all.

    python benchmarks/applies.py --kills 50

Makes a corpus of files in groups and a plan, then kills the command line with SIGKILL at random
moments, while it applies and while it undoes, one action after the other. After each kill every
kept file must be at its place with its bytes, and every byte of the others be somewhere. After the
last undo every file must be what it was: bytes, mode and time.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from embedkit.dedup import write_plan
from embedkit.dedup.cleanup.plan import PlanRow

ACTIONS = ("delete", "symlink", "hardlink", "move")
Snapshot = dict[str, tuple[str, int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--groups", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, help="a folder on another disk, for every second action")
    args = parser.parse_args()
    chooser = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(Path(os.path.realpath(name)), args.groups, chooser, args.to)
        began = time.monotonic()
        while trial.kills < args.kills:
            trial.cycle(args.kills)
        print(f"files              {len(trial.before):8,} in {args.groups:,} groups")
        print(f"kills              {trial.kills:8} ({trial.in_undo} of them in an undo)")
        print(f"runs               {trial.runs:8}")
        print(f"in mid-file        {trial.unsettled:8} kills left a file begun")
        print(f"groups without copy{trial.bare:8}")
        print(f"files lost         {trial.lost:8}")
        print(f"restored           {'all' if trial.restored else 'NOT ALL':>8}")
        print(f"time               {time.monotonic() - began:8.1f} s")
        sys.exit(0 if trial.restored and not trial.bare and not trial.lost else 1)


class Trial:
    """A corpus with a plan, and what was counted."""

    def __init__(self, folder: Path, groups: int, chooser: random.Random, to: Path | None) -> None:
        self.kills = self.runs = self.bare = self.lost = self.in_undo = self.unsettled = 0
        self.restored = True
        self._folder, self._chooser, self._other_disk = folder, chooser, to
        self._rows = make_corpus(folder / "images", groups, chooser)
        self._plan = write_plan(self._rows, folder / "plan.csv")
        self._journal = folder / "plan.csv.journal"
        self._cycles = 0
        self.before = snapshot(folder / "images")

    def cycle(self, most: int) -> None:
        """One action, killed a few times and then let through, and its undo likewise."""
        action = ACTIONS[self._cycles % len(ACTIONS)]
        to = self._folder / "away"
        if self._other_disk is not None and self._cycles // len(ACTIONS) % 2 == 0:
            to = self._other_disk / "embedkit-applies"
        self._cycles += 1
        apply = ["apply", str(self._plan), "--action", action, "--to", str(to), "--execute"]
        self._until_through(apply, most, to)
        self._until_through(["undo", str(self._journal)], most, to)
        self.restored &= snapshot(self._folder / "images") == self.before
        self._journal.unlink()

    def _until_through(self, command: list[str], most: int, to: Path) -> None:
        # So that every action and every undo has its share of the kills.
        most = min(most, self.kills + math.ceil(most / (2 * len(ACTIONS))))
        while True:
            self.runs += 1
            killed = run_and_kill(command, self._journal, self._chooser, kill=self.kills < most)
            self._check(to)
            if not killed:
                return
            self.kills += 1
            self.in_undo += command[0] == "undo"
            self.unsettled += is_unsettled(self._journal)

    def _check(self, to: Path) -> None:
        """Counts groups of which no file is at its place, and files whose bytes are nowhere."""
        there = {row.group for row in self._rows if is_there(row.path, row.content_hash)}
        self.bare += len({row.group for row in self._rows} - there)
        kept = {row.path for row in self._rows if row.action == "keep"}
        for row in self._rows:
            places = [row.path] if row.path in kept else [row.path, str(to) + row.path]
            self.lost += not any(is_there(place, row.content_hash) for place in places)


def run_and_kill(command: list[str], journal: Path, chooser: random.Random, *, kill: bool) -> bool:
    """Runs a command, and kills it a moment after it has begun to work; whether it was killed."""
    size = journal.stat().st_size if journal.exists() else 0
    with subprocess.Popen(
        [sys.executable, "-m", "embedkit_cli", "-q", "dedup", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        if kill and chooser.random() < 0.9:
            while process.poll() is None and not (
                journal.exists() and journal.stat().st_size > size
            ):
                time.sleep(0.0005)
        if kill:
            time.sleep(chooser.expovariate(20))
            process.kill()
        error = process.communicate()[1].decode(errors="replace")
    if process.returncode == -9:
        return True
    if process.returncode not in {0, 3}:  # 3: hard links are refused where the bytes differ
        raise SystemExit(error)
    return False


def is_unsettled(journal: Path) -> bool:
    """Whether the last whole line of a journal says that something was begun."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return bool(lines) and (b'"begun"' in lines[-1] or b'"undoing"' in lines[-1])


def is_there(path: str, sha256: str) -> bool:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def make_corpus(folder: Path, groups: int, chooser: random.Random) -> list[PlanRow]:
    """Files in groups of two to five: some the same bytes as the kept one, some others."""
    rows = []
    for group in range(groups):
        kept = chooser.randbytes(chooser.randint(1, 20_000))
        kept_path = ""
        for member in range(chooser.randint(2, 5)):
            data = kept if chooser.random() < 0.5 or not member else chooser.randbytes(5_000)
            path = folder / f"{chooser.randint(0, 9)}" / f"{group}-{member}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(chooser.choice([0o644, 0o600, 0o444]))
            os.utime(path, ns=(0, chooser.randint(10**18, 2 * 10**18)))
            kept_path = kept_path or str(path)
            rows.append(
                PlanRow(
                    group=group,
                    action="remove" if member else "keep",
                    id=str(path),
                    path=str(path),
                    copy_of=kept_path if member else "",
                    content_hash=hashlib.sha256(data).hexdigest(),
                    width=1,
                    height=1,
                    nbytes=len(data),
                    format="JPEG",
                    score=1.0 if member else None,
                    reason="",
                )
            )
    return rows


def snapshot(folder: Path) -> Snapshot:
    """Bytes, mode and time of every file; a link shows as a file of another mode."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if not path.is_dir():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (digest, status.st_mode, status.st_mtime_ns)
    return found


if __name__ == "__main__":
    main()
