"""Comparing in processes gives what threads give, and survives images that crash a process."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from images import draw_photo, encode

from embedkit.decode.policy import DecodePolicy
from embedkit.dedup.verification import process_comparer
from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.process_comparer import ProcessComparer
from embedkit.errors import WorkerError
from embedkit.extraction.source_images import OriginalImages
from embedkit.types import ImageRecord
from embedkit.utils import line_process
from embedkit.utils.line_process import LineProcess

HOSTILE = """
import os, sys, time
if "comparing_process" in " ".join(sys.orig_argv):
    import embedkit.decode.exact as exact
    really = exact.decode_image
    def decode(data, name, *settings):
        if name == "poison":
            open({log!r}, "a").write("x")
            {what}
        return really(data, name, *settings)
    exact.decode_image = decode
"""
CRASH, HANG = "os.abort()", "time.sleep(600)"
HANG_IN_A_CODEC = "import ctypes; ctypes.PyDLL(None).sleep(600)"  # with the interpreter's lock


@pytest.fixture
def source(tmp_path):
    """Ten photos, each mirrored at half the size and as it is, one that is broken, two others."""
    images = {}
    for number in range(10):
        photo = draw_photo(number)
        images[f"photo {number}"] = encode(photo, "JPEG")
        images[f"copy {number}"] = encode(photo.resize((160, 120)).transpose(0), "JPEG")
    images["broken"], images["replaced"] = b"\xff\xd8\xff not whole", images["photo 1"]
    images["poison"] = encode(draw_photo(50), "PNG")
    records = {}
    for number, (name, data) in enumerate(images.items()):
        (tmp_path / f"{number}").write_bytes(data)
        records[name] = ImageRecord(id=name, path=str(tmp_path / f"{number}"))
    images["replaced"] = b"other bytes"
    hashes = {name: hashlib.sha256(data).digest() for name, data in images.items()}
    with OriginalImages(records, DecodePolicy(), hashes) as found:
        yield found


def numbered(source):
    """The names by number, and pairs: each copy, and others of each kind."""
    names = [(0, name) for name in source] + [(0, "isn't there")]
    pairs = [(2 * n, 2 * n + 1) for n in range(10)] + [(2 * n, 2 * n + 2) for n in range(9)]
    return names, [*pairs, *((0, n) for n in range(20, len(names)))]


def in_threads(source, names, pairs):
    with PairComparer(lambda image: source(names[image][1]), 1) as compare:
        return compare(pairs)


def test_the_same_evidence_as_in_threads(source):
    names, pairs = numbered(source)
    with ProcessComparer([source], names, 3) as compare:
        found = [*compare(pairs[:7]), *compare([]), *compare(pairs[7:])]
    assert found == in_threads(source, names, pairs)
    assert all(found[n].how["flip"] for n in range(10))
    missing = {
        names[second][1] for (_, second), one in zip(pairs, found, strict=True) if one is None
    }
    assert missing == {"broken", "replaced", "isn't there"}


def test_the_same_keypoints_as_in_threads(source):
    names, _ = numbered(source)
    images = range(len(names))
    with PairComparer(lambda image: source(names[image][1]), 1) as compare:
        expected = compare.keypoints(images)
    with ProcessComparer([source], names, 3) as compare:
        found = compare.keypoints(images)
    assert {names[image][1] for image in images if found[image] is None} == {
        "broken", "replaced", "isn't there"
    }  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        for field in () if one is None else fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize(
    ("what", "times", "problem"),
    [
        (CRASH, 4, "it crashes its process (signal 6)"),  # once with others, three times alone
        pytest.param(HANG, 2, "took longer than 4 s to decode", marks=pytest.mark.long),
        (HANG_IN_A_CODEC, 2, "took longer than 4 s to decode"),
    ],
)
def test_an_image_that_ends_a_process_costs_its_pairs(
    source, tmp_path, monkeypatch, caplog, what, times, problem
):
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(HOSTILE.format(what=what, log=str(log)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    names, pairs = numbered(source)
    poison = names.index((0, "poison"))
    again = [(1, poison), (2, poison)]
    with ProcessComparer([source], names, 2, image_timeout=4) as compare:
        found = compare(pairs)
        assert compare(again) == [None, None]
        first, of_poison = compare.keypoints([0, poison])
        assert first is not None
        assert of_poison is None
    expected = in_threads(source, names, pairs)
    poisoned = [poison in pair for pair in pairs]
    assert np.sum(poisoned) == 1
    assert all(
        one is None if bad else one == other
        for bad, one, other in zip(poisoned, found, expected, strict=True)
    )
    assert None not in [expected[n] for n in np.flatnonzero(poisoned)]
    assert log.stat().st_size == times
    assert [record.getMessage() for record in caplog.records] == [
        f"poison: can't be compared: {problem}"
    ]


def test_processes_that_are_killed_cost_nothing(source):
    names, pairs = numbered(source)
    expected = in_threads(source, names, pairs)
    ended, killed = threading.Event(), []

    def kill():
        while not ended.wait(0.3):
            for process in comparer._processes:
                if (
                    process._has_started and killed.count(process) < 2
                ):  # the third would cost a pair
                    process._process.kill()
                    killed.append(process)

    comparer = ProcessComparer([source], names, 2)
    killer = threading.Thread(target=kill)
    with comparer as compare:
        for process in comparer._processes:  # while they wait
            process._process.kill()
        assert compare(pairs[:1]) == expected[:1]
        killer.start()
        try:
            found = [compare(pairs) for _ in range(3)]
        finally:
            ended.set()
            killer.join()
    assert found == [expected] * 3
    assert killed


def test_processes_that_end_at_each_start_are_an_error(source, monkeypatch):
    names, pairs = numbered(source)
    with ProcessComparer([source], names, 2) as compare:
        monkeypatch.setattr(line_process, "module_command", lambda _: ["sh", "-c", "kill -9 $$"])
        for process in compare._processes:
            process._process.kill()
        with pytest.raises(
            WorkerError, match=r"could not start \(signal 9\); what is compared is k"
        ):
            compare(pairs)
        with pytest.raises(WorkerError):
            compare(pairs)


def test_an_error_comes_after_the_other_processes_are_done(source, monkeypatch):
    names, pairs = numbered(source)
    done = []

    def found_in(self, process, share, kind):
        if process is self._processes[0]:
            raise WorkerError("no")
        time.sleep(0.2)
        done.append(share)

    with ProcessComparer([source], names, 2) as compare:
        monkeypatch.setattr(ProcessComparer, "_found_in", found_in)
        with pytest.raises(WorkerError):
            compare(pairs)
        assert len(done) == 1


def test_where_the_system_starts_too_few_processes_it_is_threads(source, monkeypatch, caplog):
    names, pairs = numbered(source)
    really, started = LineProcess._started, []

    def start(process):
        if len(started) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        started.append(really(process))
        return started[-1]

    monkeypatch.setattr(LineProcess, "_started", start)
    with ProcessComparer([source], names, 30) as compare:
        assert [process.poll() for process in started] == [-9, -9]
        found = compare(pairs[:3])
    assert found == in_threads(source, names, pairs[:3])
    assert "could not start (Too many open files)" in caplog.text


def test_without_processes_it_is_threads(source, tmp_path, monkeypatch, caplog):
    code = "import os, sys\nif 'comparing_process' in ' '.join(sys.orig_argv): os._exit(7)"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    names, pairs = numbered(source)
    with caplog.at_level(logging.WARNING), ProcessComparer([source], names, 2) as compare:
        found = compare(pairs[:3])
    assert found == in_threads(source, names, pairs[:3])
    assert "a process could not start (exit code 7)" in caplog.text


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux only")
def test_an_error_ends_the_processes(source):
    names, pairs = numbered(source)
    with pytest.raises(KeyboardInterrupt), ProcessComparer([source], names, 2) as compare:
        compare(pairs[:2])
        raise KeyboardInterrupt
    children = [
        Path(f"/proc/{pid}/cmdline").read_text()
        for task in Path("/proc/self/task").glob("*/children")
        for pid in task.read_text().split()
    ]
    assert not any("comparing_process" in command for command in children)


def test_when_processes_are_not_worthwhile(source, monkeypatch):
    names, _ = numbered(source)
    monkeypatch.setattr(process_comparer, "usable_cores", lambda: 2)
    assert ProcessComparer.if_worthwhile([source], names * 100) is None  # few images
    assert ProcessComparer.if_worthwhile([source], names * 1000) is not None
    monkeypatch.setattr(process_comparer, "usable_cores", lambda: 1)
    assert ProcessComparer.if_worthwhile([source], names * 1000) is None
    monkeypatch.setattr(process_comparer, "usable_cores", lambda: 8)
    assert ProcessComparer.if_worthwhile([source], names) is None  # few images
    assert ProcessComparer.if_worthwhile([source], names * 100) is not None
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert ProcessComparer.if_worthwhile([source], names * 100) is None
    monkeypatch.delattr(sys, "frozen")
    data = ImageRecord(id="here", path="", kind="memory", data=b"")
    with OriginalImages({"here": data}) as here:
        assert ProcessComparer.if_worthwhile([here], [(0, "here")] * 10_000) is None
