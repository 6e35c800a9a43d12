"""Lets each change of the disk fail in turn, runs the command again, checks the state.

    python tests/faults/io_errors.py FOLDER JOB full|broken|unreadable|unreadable-each [STEP]

full: from the k-th change on the disk is full. broken: the k-th change alone gives an input/output
error. unreadable: the k-th read of an image alone gives one. unreadable-each: each k-th read does.
For every k, or every STEP-th: the command ends with an error of embedkit's or does its work all the
same, what was there is whole, and the command run again ends as ever; an image that couldn't be
read is there after ``--retry-failed``. Prints how many cases there were.
"""

from __future__ import annotations

import errno
import itertools
import sys
from pathlib import Path


def main(folder: Path, name: str, kind: str, step: int = 1) -> int:
    """Runs a job with an error at its k-th change, for every k; gives how many cases there were."""
    from jobs import FAILED, JOBS, Scene, in_child

    scene, reached = Scene(JOBS[name], folder), folder / "reached"
    for k in itertools.count(1, step):
        scene.reset()
        reached.unlink(missing_ok=True)
        ended = in_child(lambda k=k: _run(scene, kind, k, reached))
        assert ended in {0, FAILED}, (k, ended)
        if kind.startswith("unreadable") and ended == 0:  # the image is listed as failed
            scene.retry_failed()
        else:
            scene.check_between()
            scene.finish()
        if not reached.exists() and ended == 0:
            return (k - 1) // step
    raise AssertionError("it never ended")


def _run(scene, kind: str, k: int, reached: Path) -> None:
    from layer import fail_at, fail_each, watch_changes, watch_reads, watch_writes

    if kind == "unreadable-each":
        fail = fail_each(k)
    else:
        fail = fail_at(k, errno.ENOSPC if kind == "full" else errno.EIO, lasting=kind == "full")

    def before(what: str, path: object) -> None:
        try:
            fail(what, path)
        except OSError:
            with really_open(reached, "a"):
                raise

    really_open = open
    if kind.startswith("unreadable"):
        watch_reads(scene.work / "photos", before)
    else:
        watch_changes(scene.work, before)
        watch_writes(scene.work, before)
    scene.job.act(scene.work)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    steps = [int(one) for one in sys.argv[4:]]
    sys.stdout.write(f"{main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *steps)}\n")
