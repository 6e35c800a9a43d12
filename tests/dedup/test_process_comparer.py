"""Comparing in processes gives what threads give, and survives images that crash a process."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from images import draw_photo, encode

from embedkit.decode.policy import DecodePolicy
from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.process_comparer import ProcessComparer
from embedkit.extraction.source_images import OriginalImages
from embedkit.types import ImageRecord

CRASH = """
import os, sys
if "comparing_process" in " ".join(sys.orig_argv):
    import embedkit.extraction.source_images as images
    really = images.decode_image
    def decode(data, name, policy):
        if name == "poison":
            os.abort()
        return really(data, name, policy)
    images.decode_image = decode
"""


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


def test_an_image_that_crashes_a_process_costs_its_pairs(source, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    names, pairs = numbered(source)
    with ProcessComparer([source], names, 2) as compare:
        found = compare(pairs)
    expected = in_threads(source, names, pairs)
    poisoned = [names.index((0, "poison")) in pair for pair in pairs]
    assert np.sum(poisoned) == 1
    assert all(
        one is None if bad else one == other
        for bad, one, other in zip(poisoned, found, expected, strict=True)
    )
    assert None not in [expected[n] for n in np.flatnonzero(poisoned)]


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


def test_when_processes_are_not_worthwhile(source):
    names, _ = numbered(source)
    assert ProcessComparer.if_worthwhile([source], names) is None  # few images
    data = ImageRecord(id="here", path="", kind="memory", data=b"")
    with OriginalImages({"here": data}) as here:
        assert ProcessComparer.if_worthwhile([here], [(0, "here")] * 10_000) is None
