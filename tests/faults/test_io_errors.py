"""A disk that fails or is full at any change: an error, nothing lost, and the command goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("io_errors.py")
JOBS = (
    "build", "rebuild", "add", "index-update", "compact", "merge", "export", "extract",
    "extract-over", "update", "update-shards", "annotate", "cluster", "find-update", "apply",
)  # fmt: skip
FAST = {("apply", "full"), ("extract", "unreadable")}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layer needs /proc")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "kind"),
    [
        pytest.param(job, kind, marks=() if (job, kind) in FAST else pytest.mark.long)
        for job in JOBS
        for kind in ("full", "broken", "unreadable")
        if kind != "unreadable" or job in {"extract", "update"}
    ],
)
def test_every_change_may_fail(tmp_path, job, kind):
    done = subprocess.run(
        [sys.executable, DRIVER, tmp_path, job, kind],
        capture_output=True,
        text=True,
        timeout=3000,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 4
