"""Neither embedkit nor a library that it uses reports anything to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from images import write_photos

ROOT = Path(__file__).parents[1]

FORBID = """
import os, socket, sys

def refuse(*args, **_settings):
    with open(os.environ["ATTEMPTS"], "a") as log:
        log.write(f"{args}\\n")
    raise OSError("no network")

def connect(self, address):
    refuse(address)

socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
socket.socket.connect = socket.socket.connect_ex = connect
"""

USE = """
import embedkit
import numpy as np
embedkit.extract(photos, out + "/a.h5", backbone="tiny", engine="openvino", device="cpu")
from embedkit.engines import open_engine
images = np.zeros((4, 32, 32, 3), np.uint8)
open_engine(embedkit.load_backbone("tiny"), engine="openvino", device="cpu", precision="int8",
            calibration=images)
embedkit.Index.build(out + "/a.h5", out + "/a.index")
embedkit.search(out + "/a.index", out + "/a.h5", k=2)
embedkit.find_duplicates(out + "/a.h5")
import timm, huggingface_hub
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
"""

CLEAR = "import openvino, nncf, time; time.sleep(1); open(os.environ['ATTEMPTS'], 'w').close()\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "before", ["", pytest.param(CLEAR, marks=pytest.mark.long)], ids=["first", "after openvino"]
)
def test_nothing_is_sent(tmp_path, before):
    home, attempts = tmp_path / "home", tmp_path / "attempts"
    home.mkdir()
    photos = write_photos(tmp_path / "photos", 4)[0].parent
    environment = {
        **{name: value for name, value in os.environ.items() if "TELEMETRY" not in name},
        "HOME": str(home),
        "ATTEMPTS": str(attempts),
        "EMBEDKIT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    code = f"{FORBID}\nphotos, out = sys.argv[1:]\n{before}{USE}"
    command = [sys.executable, "-c", code, str(photos), str(tmp_path)]
    subprocess.run(command, env=environment, check=True)
    assert not attempts.exists() or attempts.read_text() == ""
    if not before:
        assert not (home / "intel").exists()


def test_a_fresh_import_switches_reports_off():
    code = (
        "import os, sys, embedkit; assert sys.modules['openvino_telemetry'] is None;"
        "assert os.environ['HF_HUB_DISABLE_TELEMETRY'] == '1'"
    )
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
