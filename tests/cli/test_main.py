import os
import subprocess
import sys

import pytest

import embedkit as library


def test_help_lists_the_commands(embedkit):
    ended = embedkit("--help")
    assert ended.code == 0
    for name in ("models", "extract", "info", "verify", "merge", "export", "search", "demo"):
        assert name in ended.out


def test_version(embedkit):
    assert embedkit("--version").out.strip() == f"embedkit {library.__version__}"


def test_unknown_command_is_bad_usage(embedkit):
    ended = embedkit("extrakt")
    assert ended.code == 2
    assert "extrakt" in ended.err


def test_unknown_option_is_bad_usage(embedkit):
    assert embedkit("models", "--jason").code == 2


def test_a_reader_that_has_gone_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "embedkit_cli", "models"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupted_command_says_so(embedkit, monkeypatch):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("embedkit.backbones.weights_on_disk", interrupt)
    ended = embedkit("models")
    assert (ended.code, ended.err) == (130, "embedkit: interrupted\n")


# Interrupts itself in the middle of a command, and says how that ended.
TERMINATED = """
import os, signal, sys, time
import embedkit.backbones
def wait(*_args, **_options):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
embedkit.backbones.weights_on_disk = wait
sys.argv = ["embedkit", "models"]
from embedkit_cli.main import run
run()
"""


def test_sigterm_is_an_interrupt_in_every_command():
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "embedkit: interrupted\n")


def test_an_interrupt_that_a_library_makes_another_error_of(embedkit, monkeypatch):
    def fail(*_args, **_options):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("cannot join thread before it is started")

    monkeypatch.setattr("embedkit.backbones.weights_on_disk", fail)
    ended = embedkit("models")
    assert (ended.code, ended.err) == (130, "embedkit: interrupted\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libx.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_too_little_memory_is_one_line(embedkit, monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("embedkit.backbones.weights_on_disk", fail)
    ended = embedkit("models")
    assert ended.code == 1
    assert ended.err.startswith("embedkit: error: not enough memory (")
    assert ended.err.count("\n") == 1


def test_an_error_that_nobody_expects_is_one_line(embedkit, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("of a library\x1b[31m")

    monkeypatch.setattr("embedkit.backbones.weights_on_disk", fail)
    ended = embedkit("models")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert ended.err.startswith(
        "embedkit: error: an error that embedkit doesn't expect: RuntimeError: of a library\\x1b"
    )
    with pytest.raises(RuntimeError):
        embedkit("models", "--verbose")


def test_escape_sequences_of_names_stay_out_of_errors(embedkit):
    ended = embedkit("info", "no\x1b[31mthing\n.h5")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_python_m_embedkit_is_the_command_line(embedkit):
    command = [sys.executable, "-m", "embedkit", "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, embedkit("models").out)
    alone = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert (alone.returncode, alone.stdout.split()[:2]) == (2, ["Usage:", "embedkit"])
