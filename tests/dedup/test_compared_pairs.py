"""A search that was interrupted goes on with the pairs that it had compared."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from images import draw_photo

import embedkit
from embedkit.dedup import find_duplicates, write_duplicates
from embedkit.dedup.verification import batch
from embedkit.dedup.verification.agreement import Agreement
from embedkit.dedup.verification.compared_pairs import ComparedPairs
from embedkit.dedup.verification.geometric import Evidence
from embedkit.errors import StoreLockedError

ONE = Evidence(
    Agreement(0.9, 0.123456789012345, 0.1, 400), 0.0, 0.0, 0.25, 12, 3, 0.5, {"flip": True}
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(10):
        image = draw_photo(number, (240, 200))
        image.save(folder / f"{number}.png")
        image.crop((10, 10, 230, 190)).save(folder / f"{number}-cropped.jpg", quality=80)
    output = folder.with_name("photos.h5")
    embedkit.extract(folder, output, backbone="tiny")
    return output


class Counted:
    def __init__(self):
        self.pairs = []

    def __call__(self, pairs):
        self.pairs += pairs
        return [ONE if pair != (7, 8) else None for pair in pairs]


def run(output, pairs, settings=None):
    compare = Counted()
    with ComparedPairs.locked(output) as compared:
        compared.begin(settings or {"store": "a"})
        found = compared.kept(compare)(pairs)
    return compare.pairs, found


def test_a_pair_is_compared_once_in_all_runs(tmp_path):
    output = tmp_path / "dups"
    assert run(output, [(1, 2), (3, 4), (1, 2)]) == ([(1, 2), (3, 4)], [ONE, ONE, ONE])
    assert run(output, [(1, 2), (5, 6)]) == ([(5, 6)], [ONE, ONE])


def test_an_image_that_could_not_be_read_is_tried_again(tmp_path):
    output = tmp_path / "dups"
    assert run(output, [(7, 8)]) == ([(7, 8)], [None])
    assert run(output, [(7, 8)]) == ([(7, 8)], [None])


def test_pairs_of_other_images_are_not_used(tmp_path):
    output = tmp_path / "dups"
    run(output, [(1, 2)])
    assert run(output, [(1, 2)], {"store": "b"})[0] == [(1, 2)]


@pytest.mark.parametrize("damage", [b"[1,", b"[3, 4, {}]\n", b"\xff\n", b"[" * 90_000 + b"\n"])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, damage):
    output = tmp_path / "dups"
    run(output, [(1, 2)])
    file = tmp_path / "dups.partial" / "compared.jsonl"
    file.write_bytes(file.read_bytes() + damage)
    assert run(output, [(1, 2), (3, 4)])[0] == [(3, 4)]
    assert run(output, [(1, 2), (3, 4)])[0] == []


def test_damaged_settings_start_anew(tmp_path):
    output = tmp_path / "dups"
    run(output, [(1, 2)])
    (tmp_path / "dups.partial" / "run.json").write_bytes(b"{")
    assert run(output, [(1, 2)])[0] == [(1, 2)]


def test_a_killed_search_goes_on(tmp_path, store, monkeypatch):
    output = tmp_path / "dups"
    code = f"""
import os, signal
from embedkit.dedup import find_duplicates
from embedkit.dedup.verification import batch, forest
forest._PAIRS_AT_ONCE = 8
calls, real = [], batch.PairComparer.__call__
def counted(self, pairs):
    calls.append(pairs)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, pairs)
batch.PairComparer.__call__ = counted
find_duplicates({str(store)!r}, verify=True, output={str(output)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = (tmp_path / "dups.partial" / "compared.jsonl").read_bytes().splitlines()
    assert kept

    compared, real = [], batch.PairComparer.__call__

    def counted(self, pairs):
        compared.extend(pairs)
        return real(self, pairs)

    monkeypatch.setattr(batch.PairComparer, "__call__", counted)
    found = find_duplicates(store, verify=True, output=output)
    whole, fresh = len(compared), find_duplicates(store, verify=True)
    assert whole + len(kept) <= len(compared) - whole + 8  # a block may differ
    assert found.to_pandas().equals(fresh.to_pandas())
    assert np.array_equal(found.pairs.score, fresh.pairs.score)
    assert len(found.groups) == 10
    write_duplicates(found, output, report=False)
    assert not (tmp_path / "dups.partial").exists()


def test_two_searches_for_one_output(tmp_path, store):
    output = tmp_path / "dups"
    with ComparedPairs.locked(output), pytest.raises(StoreLockedError, match="another process"):
        find_duplicates(store, verify=True, output=output)
