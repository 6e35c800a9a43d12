"""20,000 images on four Ray workers; workers and drivers are killed 20 times at random."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from images import write_photos
from ray_nodes import marks, two_nodes, worker_processes

from embedkit.extraction.extract import extract

pytest.importorskip("ray")

pytestmark = marks(7200, "long")
COUNT, KILLS, SHARD_ROWS = 20_000, 20, 500
SETTINGS = {
    "backbone": "tiny", "engine": "openvino", "device": "cpu", "batch_size": 16, "sharded": True,
    "shard_rows": SHARD_ROWS,
}  # fmt: skip

# In the processes of workers: every decoded image is counted, and takes long enough for a kill.
COUNTING = """
import os, sys
if "default_worker" in " ".join(sys.orig_argv):
    import simplejpeg, time
    really, log = simplejpeg.decode_jpeg, os.open({path!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    def decode(data, *args, **kwargs):
        time.sleep(0.02)
        os.write(log, b".")
        return really(data, *args, **kwargs)
    simplejpeg.decode_jpeg = decode
"""
RUN = """
import json, sys
from embedkit import extract
extract(sys.argv[1], sys.argv[2], ray=sys.argv[3], workers=4, **json.loads(sys.argv[4]))
"""


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def test_the_bytes_of_one_process_and_little_work_done_twice(tmp_path):
    photos, output, decoded = tmp_path / "photos", tmp_path / "all", tmp_path / "decoded"
    write_photos(photos, COUNT, size=(48, 32))
    (tmp_path / "hook").mkdir()
    hook = COUNTING.format(path=str(decoded))
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    extract(photos, tmp_path / "whole", **SETTINGS)
    chance, victims, due = random.Random(0), [], 100  # images to be decoded before the next kill
    with two_nodes(tmp_path / "hook") as address:
        command = [sys.executable, "-c", RUN, photos, output, address, json.dumps(SETTINGS)]
        while not output.exists():
            driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            while driver.poll() is None and len(victims) < KILLS:
                time.sleep(0.1)
                busy = worker_processes(b"embed shard")
                if not busy or size_of(decoded) < due:
                    continue
                victims.append(chance.choice([driver.pid, *busy]) == driver.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(driver.pid if victims[-1] else chance.choice(busy), signal.SIGKILL)
                due = int(COUNT * (len(victims) + chance.random()) / KILLS)
            _, errors = driver.communicate()
            assert driver.returncode in (0, -signal.SIGKILL), errors
    twice = size_of(decoded) - COUNT
    (tmp_path / "counts.json").write_text(
        json.dumps({"kills": len(victims), "of drivers": sum(victims), "decoded twice": twice})
    )
    assert len(victims) == KILLS
    assert content(output) == content(tmp_path / "whole")
    assert 0 < twice <= SHARD_ROWS * KILLS
