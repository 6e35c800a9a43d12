"""Ends a process before each of its changes of the disk, runs the command again, checks the state.

    python tests/faults/kill_states.py FOLDER JOB [STEP]

With STEP only before every STEP-th change. Prints how many states there were.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

CRASHED = 9


def main(folder: Path, name: str, step: int = 1) -> int:
    """Runs a job with a kill before its k-th change, for each k; gives how many k there were."""
    from jobs import JOBS, Scene, in_child

    scene = Scene(JOBS[name], folder)
    for k in itertools.count(1, step):
        scene.reset()
        ended = in_child(lambda k=k: (crash_at(k, scene.work), scene.job.act(scene.work)))
        assert ended in {0, CRASHED}, (k, ended)
        scene.check_between()
        scene.finish()
        if ended == 0:
            return (k - 1) // step
    raise AssertionError("it never ended")


def crash_at(k: int, folder: Path) -> None:
    """Ends this process before its k-th change below a folder."""
    from layer import watch_changes

    left = [k]

    def before(what: str, path: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(CRASHED)

    watch_changes(folder, before)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    sys.stdout.write(f"{main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))}\n")
