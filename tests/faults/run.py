"""Disturbs jobs in each way, one after the other, in one process; prints what each case gave.

    python tests/faults/run.py FOLDER [CASE ...]

A case is a driver and its arguments, such as ``"io_errors merge full"``; without one all
are run, which takes hours. The exit code is 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

_STEPS = {"small-disk": 16, "read-only": 1, "removed": 3, "memory": 2048}


def all_cases() -> list[str]:
    """Every job, disturbed in every way."""
    from jobs import JOBS

    return [
        *(f"kill_states {job}" for job in JOBS),
        *(f"random_kills {job} 45 1" for job in JOBS),
        *(f"io_errors {job} {kind}" for job in JOBS for kind in ("full", "broken")),
        *(
            f"io_errors {job} {kind}"
            for job in JOBS
            if job.startswith(("extract", "update"))
            for kind in ("unreadable", "unreadable-each")
        ),
        *(f"power_loss {job} 100 1" for job in JOBS),
        *(f"processes {kind} 40 1" for kind in ("kills", "interrupts")),
        *(f"surroundings {job} {kind} {step}" for job in JOBS for kind, step in _STEPS.items()),
    ]


def main(folder: Path, cases: list[str]) -> int:
    """Runs cases; gives how many failed."""
    failed = 0
    for case in cases:
        began, place = time.monotonic(), folder / "case"
        place.mkdir()
        driver, *arguments = case.split()
        values = [int(one) if one.isdecimal() else one for one in arguments]
        try:
            found = importlib.import_module(driver).main(place, *values)
        except Exception as error:
            failed += 1
            traceback.print_exception(error)
            found = f"FAILED: {error}"
        shutil.rmtree(place, ignore_errors=True)
        sys.stdout.write(f"{case}: {found} ({time.monotonic() - began:.0f} s)\n")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    parser = argparse.ArgumentParser(description="Disturbs jobs in each way; prints what came.")
    parser.add_argument("folder", type=Path, help="for the jobs' files")
    parser.add_argument("cases", nargs="*", help="a driver and its arguments each (default: all)")
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    sys.exit(main(given.folder, given.cases or all_cases()) > 0)
