"""Mutants of files: read or refused in a child process, no crash, no hang.

``scripts/test-faults`` reads many more, of more kinds.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("fuzz.py")
KINDS = ("jpeg", "png", "tar", "parquet", "list", "store", "weights-old", "plan")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory")


@pytest.mark.slow
def test_mutants(tmp_path):
    done = subprocess.run(
        [sys.executable, DRIVER, ",".join(KINDS), "12", "1"],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    for kind, line in zip(KINDS, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{kind}: 12 mutants")
