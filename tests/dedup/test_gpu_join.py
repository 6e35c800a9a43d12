"""The join of a GPU, on PyTorch's CPU device and on a GPU where there is one."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from stores import write_store
from vectors import photo_like

from embedkit.dedup import find_pairs
from embedkit.dedup.candidates import gpu_join as device_join
from embedkit.dedup.candidates.exact_join import exact_join
from embedkit.dedup.candidates.gpu_join import gpu_join, resolve_join_device
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.unit_rows import UnitRows
from embedkit.errors import EmbedkitError
from embedkit.utils.progress import reporting

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def same(found: tuple, expected: tuple) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side", [64, 4096])
@pytest.mark.parametrize("threshold", [0.99, 0.8, 0.3])
def test_finds_what_the_cpu_finds(monkeypatch, device, side, threshold):
    monkeypatch.setattr(device_join, "_SIDE", side)
    rows = photo_like(700, 48, seed=1)
    rows[5] = 0
    rows[100:120] = rows[99]  # cosines of 1
    numbers = np.arange(3, 690)
    mine = UnitRows(rows, numbers)
    expected = exact_join(mine, threshold)
    assert len(expected[0]) >= 190  # the equal rows with each other
    same(gpu_join(mine, threshold, device), expected)
    other = UnitRows(photo_like(300, 48, seed=1))
    found = gpu_join(mine, threshold, device, against=other)
    same(found, exact_join(mine, threshold, against=other))


@pytest.mark.parametrize("device", DEVICES)
def test_the_edge_of_the_threshold(device):
    """Pairs whose cosine is the threshold, or next to it, are decided in float64."""
    rows = UnitRows(photo_like(400, 64, seed=3))
    cosines = np.sort(exact_join(rows, 0.2)[2].astype(np.float64))
    for threshold in cosines[:: len(cosines) // 25]:
        same(gpu_join(rows, threshold, device), exact_join(rows, threshold))


def test_blocks_that_stay_on_the_device(monkeypatch):
    monkeypatch.setattr(device_join, "_SIDE", 64)
    monkeypatch.setattr(device_join, "_free_memory", lambda device: 1e9)
    rows = UnitRows(photo_like(500, 32, seed=4))
    same(gpu_join(rows, 0.7, "cpu"), exact_join(rows, 0.7))


def test_nothing_to_join():
    nothing, some = UnitRows(np.empty((0, 8), np.float16)), UnitRows(np.ones((3, 8), np.float16))
    for rows, against in ((nothing, None), (nothing, some), (some, nothing)):
        assert [len(column) for column in gpu_join(rows, 0.5, "cpu", against=against)] == [0] * 3


def test_too_many_pairs_and_progress():
    rows, told = UnitRows(np.ones((300, 8), np.float16)), []
    with pytest.raises(EmbedkitError, match="more than 1,000 pairs"):
        gpu_join(rows, 0.9, "cpu", max_pairs=1000)
    with reporting(told.append):
        gpu_join(rows, 0.9, "cpu")
    assert [(one.done, one.total) for one in told] == [(0, 1), (1, 1)]


def test_which_device():
    assert resolve_join_device("cpu", 1e15) == "cpu"
    assert resolve_join_device("auto", 1e6) == "cpu"
    assert resolve_join_device("auto", 1e12) == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="no device 'tpu'"):
        resolve_join_device("tpu", 1)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="there is no GPU here"):
            resolve_join_device("cuda", 1)


def test_find_pairs_on_a_device(tmp_path, monkeypatch):
    rows = photo_like(600, 32, seed=5)
    store = write_store(tmp_path / "a.h5", rows)
    expected = find_pairs(store, DedupConfig(threshold=0.0, min_cosine=0.8))
    searching = import_module("embedkit.dedup.find_pairs")  # the function has the same name
    monkeypatch.setattr(searching, "resolve_join_device", lambda requested, pairs: "cpu:0")
    found = find_pairs(store, DedupConfig(threshold=0.0, min_cosine=0.8), device="auto")
    assert len(expected) > 0
    np.testing.assert_array_equal(found.first, expected.first)
    np.testing.assert_array_equal(found.second, expected.second)
    np.testing.assert_array_equal(found.cosine, expected.cosine)
