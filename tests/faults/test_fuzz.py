"""Mutants of files of each kind: read or refused in a child process, no crash, no hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import features

DRIVER = Path(__file__).with_name("fuzz.py")
KINDS = (
    "jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm", "jpeg2000", "avif", "tar", "tar.gz",
    "webdataset", "zip", "parquet", "list", "csv", "labels-csv", "labels-parquet", "store",
    "index-flat", "index-fast-scan", "index-opq", "index-hnsw", "index-sq", "index-disk",
    "weights-safetensors", "weights-zip", "weights-old", "plan", "journal", "run-plan",
)  # fmt: skip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory")


FAST = {"jpeg", "png", "tiff", "tar", "zip", "parquet", "list", "store", "weights-zip", "plan"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS],
)
def test_mutants(tmp_path, kind):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("Pillow reads no AVIF here")
    done = subprocess.run(
        [sys.executable, DRIVER, kind, "12", "1"],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.startswith(f"{kind}: 12 mutants")
