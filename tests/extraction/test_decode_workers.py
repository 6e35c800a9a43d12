"""Decoding in processes: the bytes of threads, and what becomes of a process that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from images import write_photos

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import WorkerError
from embedkit.extraction.decode_workers import DecodeWorkers
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore
from embedkit.store.working_dir import PartialStore

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
SETTINGS = {"backbone": "tiny", "engine": "torch", "device": "cpu", "batch_size": 16}
COUNT = 40
POISON = 7  # the photo that crashes a decoder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT, size=(90, 70))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not whole")
    (folder / "notes.txt").write_text("no image")
    (Path(os.fsdecode(os.fsencode(folder) + b"/gr\xfc\xdf.jpg"))).write_bytes(
        (folder / "photo_0003.jpg").read_bytes()
    )
    return folder


@pytest.fixture(scope="module")
def by_threads(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("threads") / "a.h5"
    extract(photos, output, processes=False, **SETTINGS)
    return output


def decoders(parent: int) -> list[int]:
    """The decoding processes that a process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
            stat = (folder / "stat").read_text()
        except (OSError, NotADirectoryError):
            continue
        if b"embedkit.extraction.decode_worker" in command and int(stat.split()[3]) == parent:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_bytes(photos, by_threads, tmp_path, workers):
    output = tmp_path / "a.h5"
    result = extract(photos, output, processes=True, workers=workers, **SETTINGS)
    assert (result.embedded, result.failed, result.skipped) == (COUNT + 1, 1, 1)
    assert output.read_bytes() == by_threads.read_bytes()
    assert not decoders(os.getpid())


def test_processes_that_are_killed_are_replaced(photos, by_threads, tmp_path):
    ended = threading.Event()
    killed = []

    def kill():
        while not ended.wait(0.3):
            for pid in decoders(os.getpid())[:1] if len(killed) < 2 else []:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    def on_progress(progress):
        if progress.stage != "embedding" or not progress.done:
            return
        if not killer.is_alive() and not ended.is_set():
            killer.start()
        time.sleep(0.5)

    killer = threading.Thread(target=kill)
    output = tmp_path / "a.h5"
    settings = SETTINGS | {"batch_size": 2}
    extract(photos, tmp_path / "b.h5", processes=False, **settings)
    try:
        extract(photos, output, processes=True, workers=2, progress=on_progress, **settings)
    finally:
        ended.set()
        killer.join()
    assert killed
    assert output.read_bytes() == (tmp_path / "b.h5").read_bytes()


CRASH = """
import os, signal, sys
if "embedkit.extraction.decode_worker" in " ".join(sys.orig_argv):
    import simplejpeg
    poison, really = open({path!r}, "rb").read(), simplejpeg.decode_jpeg
    def decode(data, *args, **kwargs):
        if data == poison:
            os.kill(os.getpid(), signal.SIGSEGV)
        return really(data, *args, **kwargs)
    simplejpeg.decode_jpeg = decode
"""


def test_an_image_that_crashes_its_decoder_costs_that_image(photos, tmp_path, monkeypatch):
    poison = photos / f"photo_{POISON:04d}.jpg"
    (tmp_path / "sitecustomize.py").write_text(CRASH.format(path=str(poison)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    result = extract(photos, tmp_path / "a.h5", processes=True, workers=2, **SETTINGS)
    assert (result.embedded, result.failed) == (COUNT, 2)
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        reasons = {failure.id: failure.reason for failure in store.failures()}
    assert reasons[str(poison)] == "crashes its decoder (signal 11)"


HANG = """
import sys
import simplejpeg
poison, really = open({path!r}, "rb").read(), simplejpeg.decode_jpeg
def decode(data, *args, **kwargs):
    if data == poison:
        import ctypes
        {hang}
    return really(data, *args, **kwargs)
simplejpeg.decode_jpeg = decode
"""
IN_PYTHON = "import time; time.sleep(600)"
IN_A_CODEC = "ctypes.PyDLL(None).sleep(600)"  # with the interpreter lock, deaf to all signals


@pytest.mark.parametrize("hang", [pytest.param(IN_PYTHON, marks=pytest.mark.long), IN_A_CODEC])
def test_an_image_that_hangs_costs_that_image(photos, tmp_path, monkeypatch, hang):
    poison = photos / f"photo_{POISON:04d}.jpg"
    (tmp_path / "sitecustomize.py").write_text(HANG.format(path=str(poison), hang=hang))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    result = extract(
        photos, tmp_path / "a.h5", processes=True, workers=2, image_timeout=2, **SETTINGS
    )
    assert (result.embedded, result.failed) == (COUNT, 2)
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        reasons = {failure.id: failure.reason for failure in store.failures()}
    assert reasons[str(poison)] == "took longer than 2 s to decode"


def test_an_image_that_hangs_in_a_thread_costs_that_image(photos, tmp_path, monkeypatch):
    poison = photos / f"photo_{POISON:04d}.jpg"
    (tmp_path / "sitecustomize.py").write_text(HANG.format(path=str(poison), hang=IN_PYTHON))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    command = [
        sys.executable, "-m", "embedkit", "extract", photos, "-o", tmp_path / "a.h5", "--threads",
        "--backbone", "tiny", "--engine", "torch", "--device", "cpu", "--image-timeout", "2",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 3, done.stderr
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        assert len(store) == COUNT
        reasons = {failure.id: failure.reason for failure in store.failures()}
    assert reasons[str(poison)] == "took longer than 2 s to decode"


def command_line(photos, tmp_path):
    return [
        sys.executable, "-m", "embedkit", "extract", photos, "-o", tmp_path / "a.h5",
        "--backbone", "tiny", "--engine", "torch", "--device", "cpu", "--batch-size", "8",
        "--workers", "2", "--shard-rows", "8",
    ]  # fmt: skip


def wait_for(path):
    until = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.long
def test_an_image_that_has_stopped_the_process_is_isolated_by_the_next_run(
    photos, tmp_path, monkeypatch
):
    poison, hangs = photos / f"photo_{COUNT - 1:04d}.jpg", tmp_path / "hangs"
    (tmp_path / "sitecustomize.py").write_text(
        HANG.format(path=str(poison), hang=f"open({str(hangs)!r}, 'w'); {IN_A_CODEC}")
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    command = [*command_line(photos, tmp_path), "--image-timeout", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_for(hangs)
    process.kill()  # as the watchdog does, in time
    process.communicate(timeout=60)
    PartialStore(tmp_path / "a.h5").isolate_mark.touch()
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 3, done.stderr
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        reasons = {failure.id: failure.reason for failure in store.failures()}
    assert reasons[str(poison)] == "took longer than 2 s to decode"
    assert not PartialStore(tmp_path / "a.h5").folder.exists()


def test_processes_that_are_not_needed_say_nothing(capfd):
    """They are ended before they have started."""
    load = ImageLoader(DecodePolicy(), Preprocessing(), "fast")
    DecodeWorkers(load, count=2, batch_size=4, callers=2, images=9).close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("way", "hang"),
    [
        pytest.param("--threads", IN_PYTHON, marks=pytest.mark.long),
        pytest.param("--isolate", IN_PYTHON, marks=pytest.mark.long),
        ("--isolate", IN_A_CODEC),
    ],
)
def test_an_interrupt_does_not_wait_for_an_image_that_hangs(photos, tmp_path, way, hang):
    poison = photos / f"photo_{COUNT - 1:04d}.jpg"
    (tmp_path / "sitecustomize.py").write_text(
        HANG.format(path=str(poison), hang=f"open({str(tmp_path / 'hangs')!r}, 'x'); {hang}")
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(
        [*command_line(photos, tmp_path), way], stderr=subprocess.PIPE, text=True, env=environment
    )
    wait_for(tmp_path / "hangs")
    time.sleep(2)  # the batches before it are embedded
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert time.monotonic() - asked < 15  # 5 on a machine that has nothing else to do
    assert process.returncode == 130, messages
    assert "Traceback" not in messages
    resumed = extract(photos, tmp_path / "a.h5", **{**SETTINGS, "batch_size": 8})
    assert resumed.resumed
    assert resumed.embedded == COUNT + 1


def test_processes_that_can_not_start(photos, tmp_path, monkeypatch):
    code = "import os, sys\nif 'decode_worker' in ' '.join(sys.orig_argv): os._exit(7)"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(WorkerError, match=r"could not start \(exit code 7\)"):
        extract(photos, tmp_path / "a.h5", processes=True, workers=2, **SETTINGS)
    assert not decoders(os.getpid())


def test_a_process_that_is_killed_as_it_starts_is_started_again(photos, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'embedkit.extraction.decode_worker' in ' '.join(sys.orig_argv):\n"
        f"    path = {str(tmp_path / 'killed')!r}\n"
        "    if not os.path.exists(path):\n"
        "        open(path, 'x').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    result = extract(photos, tmp_path / "a.h5", processes=True, workers=1, **SETTINGS)
    assert (tmp_path / "killed").exists()
    assert result.embedded == COUNT + 1


def test_none_outlives_its_parent(photos, tmp_path):
    code = (
        "import embedkit, time\n"
        f"embedkit.extract({str(photos)!r}, {str(tmp_path / 'a.h5')!r}, processes=True, workers=2,"
        f" progress=lambda p: p.stage == 'embedding' and p.done and time.sleep(60), **{SETTINGS!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        until = time.monotonic() + 60
        while len(decoders(process.pid)) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        started = decoders(process.pid)
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < until
        time.sleep(0.05)
