"""Kills a job at random moments, runs the command again, checks the state.

    python tests/faults/random_kills.py FOLDER JOB KILLS SEED

The moments are spread over the time that an undisturbed run takes. Prints how many kills there
were, and how often the output was the old one or the new one then.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path


def main(folder: Path, name: str, kills: int, seed: int) -> str:
    """Kills a job so many times; gives the counts."""
    from jobs import JOBS, Scene

    scene, chance, found = Scene(JOBS[name], folder), random.Random(seed), Counter()
    scene.reset()
    seconds, _ = run(scene, None)
    while found.total() < kills:
        scene.reset()
        _, was_killed = run(scene, chance.uniform(0, seconds))
        if not was_killed:  # it was faster this time
            continue
        found["new" if scene.check_between() == scene.after else "old"] += 1
        scene.finish()
    return f"{kills} kills: {dict(found)}"


def run(scene, seconds: float | None) -> tuple[float, bool]:
    """Runs the job, and kills it after some time; gives its time, and whether it was killed."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            scene.job.act(scene.work)
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, -signal.SIGKILL}, code
    return time.monotonic() - began, code != 0


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    arguments = sys.argv
    done = main(Path(arguments[1]), arguments[2], int(arguments[3]), int(arguments[4]))
    sys.stdout.write(f"{done}\n")
