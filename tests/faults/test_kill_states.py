"""A kill before any change of the disk: the same command again completes, and nothing is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("kill_states.py")


FAST = ("add", "merge", "annotate")
LONG = (
    "build", "rebuild", "index-update", "compact", "export", "find-update", "extract",
    "extract-over", "update", "update-shards", "cluster", "apply",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "job", [*FAST, *(pytest.param(job, marks=pytest.mark.long) for job in LONG)]
)
def test_every_state_recovers(tmp_path, job):
    done = subprocess.run(
        [sys.executable, DRIVER, tmp_path, job],
        capture_output=True,
        text=True,
        timeout=3000,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 4
