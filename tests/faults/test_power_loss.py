"""The power goes at any moment: what was there is whole, or the new is; nothing is read wrongly."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("power_loss.py")
JOBS = (
    "build", "rebuild", "add", "index-update", "compact", "merge", "export", "extract",
    "extract-over", "update", "update-shards", "annotate", "cluster", "find-update", "apply",
)  # fmt: skip
FAST = {"merge", "apply"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "states"),
    [(job, 20) if job in FAST else pytest.param(job, 100, marks=pytest.mark.long) for job in JOBS],
)
def test_no_state_is_lost(tmp_path, job, states):
    done = subprocess.run(
        [sys.executable, DRIVER, tmp_path, job, str(states), "1"],
        capture_output=True,
        text=True,
        timeout=3000,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{states} states")


def test_a_file_that_is_not_synced_is_lost(monkeypatch):
    """The states hold what a disk may do: without an fsync a renamed file may be empty."""
    monkeypatch.syspath_prepend(str(DRIVER.parent))
    from power_loss import FOLDER, Disk, Moment, _some_content

    made = {".": 0, "a.tmp": 1}
    moments = [
        Moment({".": 0}, {0: FOLDER}),
        Moment(made, {0: FOLDER, 1: "new"}),
        Moment({".": 0, "a": 1}, {0: FOLDER, 1: "new"}),
    ]
    disk = Disk.at(moments, 2)
    assert disk.contents == {0: FOLDER}  # nothing of the file is on the disk for certain
    seen = {tuple(sorted(disk.some_names(random.Random(seed)))) for seed in range(50)}
    assert (".",) in seen
    assert (".", "a") in seen
    contents = {_some_content(b"", b"x" * 9000, random.Random(seed)) for seed in range(50)}
    assert b"" in contents
    assert b"x" * 9000 in contents
    assert len(contents) > 4
    synced = [moments[0], Moment(made, {0: FOLDER, 1: "new"}, synced=1), *moments[2:]]
    assert Disk.at(synced, 2).contents[1] == "new"
