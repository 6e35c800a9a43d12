"""Closed, full and abandoned standard streams, and a working directory that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMBEDKIT = f"{sys.executable} -m embedkit"


def shell(command):
    """Runs a shell command; returns its exit code and what it printed to stderr."""
    done = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    from images import write_photos

    return write_photos(tmp_path_factory.mktemp("one"), 1)[0]


@pytest.mark.parametrize("stream", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_work_is_done_without_a_stream(photo, tmp_path, stream):
    out = tmp_path / "x.h5"
    code, _ = shell(f"{EMBEDKIT} extract {photo} -o {out} -b tiny {stream}")
    assert code == 0
    assert shell(f"{EMBEDKIT} verify {out}")[0] == 0  # no message went into the store
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.h5"]


def test_a_list_from_a_closed_stdin_is_an_error(tmp_path):
    code, err = shell(f"{EMBEDKIT} extract - -o {tmp_path / 'x.h5'} -b tiny <&-")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "standard input is closed" in err


@pytest.mark.parametrize("command", ["models", "models --json", "--help", "dedup"])
def test_a_full_disk_behind_stdout_is_an_error(command):
    code, err = shell(f"{EMBEDKIT} {command} >/dev/full")
    assert (code, err) == (1, "embedkit: error: standard output: No space left on device\n")
    assert shell(f"{EMBEDKIT} {command} >/dev/full 2>/dev/full") == (1, "")


@pytest.mark.parametrize("command", ["models", "--help", "dedup --help"])
def test_a_reader_that_is_gone_is_no_error(command, tmp_path):
    fifo = f"{EMBEDKIT} {command}; echo $? > {tmp_path}/code"
    assert shell(f"( sleep 1; {fifo} ) | true")[1] == ""
    assert Path(tmp_path, "code").read_text() == "0\n"


def test_a_deleted_working_directory(photo, tmp_path):
    gone, out = tmp_path / "gone", tmp_path / "x.h5"
    leave = f"mkdir {gone}; cd {gone}; rmdir {gone}; {EMBEDKIT}"
    assert shell(f"{EMBEDKIT} -q extract {photo} -o {out} -b tiny") == (0, "")
    assert shell(f"{leave} -q info {out}") == (0, "")
    assert shell(f"{leave} -q extract {photo} -o {tmp_path}/y.h5 -b tiny --device cpu") == (0, "")
    for relative in (
        "info x.h5", f"extract p -o {tmp_path}/z.h5 -b tiny", f"extract {photo} -o z.h5 -b tiny",
    ):  # fmt: skip
        code, err = shell(f"{leave} -q {relative}")
        assert (code, len(err.splitlines())) == (1, 1)
        assert "the working directory was deleted" in err


def test_an_unexpected_error_of_the_system_is_one_line(embedkit, monkeypatch):
    def fail(*_args):
        raise OSError(5, "Input/output error", "/data/disk")

    monkeypatch.setattr("embedkit.backbones.weights_on_disk", fail)
    ended = embedkit("models")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "embedkit: error: /data/disk: Input/output error\n"
