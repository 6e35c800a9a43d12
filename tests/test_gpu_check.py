"""The GPU check: every step rehearsed on the CPU; wheels that travel in parts."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check"


@pytest.mark.long
@pytest.mark.timeout(1500)  # a minute or two on a quiet machine
def test_every_step_can_be_rehearsed(tmp_path):
    command = [sys.executable, SCRIPT, "--rehearse", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    states = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.state.json")}
    assert len(states) >= 11
    assert all(state["complete"] for state in states.values())
    summary = (tmp_path / "summary.txt").read_text()
    assert "the same bytes" in summary
    assert "the same pairs" in summary
    assert "NOT COMPLETE" not in summary
    again = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert again.stdout.count("done before") == len(states)


def test_a_step_that_is_none_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--output", tmp_path, "fast"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no step fast: they are tests, compute" in done.stderr


@pytest.fixture
def pack(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu_check.pack")


def make_wheel(folder: Path, name: str, size: int) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"CONTENT = {'x' * size!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_wheels_in_parts_are_joined_and_installed(pack, tmp_path, capsys):
    (tmp_path / "wheels").mkdir()
    sizes = {"ek_small": 10, "ek_middle": 900, "ek_large": 5000}
    wheels = [make_wheel(tmp_path / "wheels", name, size) for name, size in sizes.items()]
    pack.lay_out(wheels, tmp_path / "pack", part_bytes=2500)
    parts = sorted((tmp_path / "pack").iterdir())
    assert len(parts) >= 4
    for part in parts:
        carried = [path for path in part.iterdir() if path.name != "wheels.json"]
        assert sum(path.stat().st_size for path in carried) <= 2500
    site = tmp_path / "home" / "site-{}.{}".format(*sys.version_info)
    for part in parts:  # one after the other, as they arrive
        assert not (site / "ek_large.py").exists()
        pack.unpack([part], tmp_path / "home")
    assert {path.stem for path in site.glob("*.py")} == set(sizes)
    assert (site / "ek_large.py").read_text().count("x") == 5000
    pack.unpack(parts, tmp_path / "home")
    assert capsys.readouterr().out.splitlines()[-1] == "installed: nothing"


def test_a_damaged_wheel_is_refused(pack, tmp_path):
    (tmp_path / "wheels").mkdir()
    pack.lay_out([make_wheel(tmp_path / "wheels", "ek_one", 10)], tmp_path / "pack")
    wheel = next((tmp_path / "pack").rglob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(SystemExit, match="isn't the wheel that was packed"):
        pack.unpack([wheel.parent], tmp_path / "home")
