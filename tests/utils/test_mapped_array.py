"""Arrays in files."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from embedkit.utils.mapped_array import MappedArray


def resident() -> int:
    """Pages of files that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[2])


def test_values_stay_when_memory_is_given_back(tmp_path):
    file = MappedArray(tmp_path / "a", np.int32, (300, 7))
    assert file.values.shape == (300, 7)
    assert not file.values.any()
    file.values[...] = np.arange(2100).reshape(300, 7)
    file.release()
    file.values[3, 2] = -1
    file.release()
    expected = np.arange(2100)
    expected[23] = -1
    assert file.values.reshape(-1).tolist() == expected.tolist()
    assert np.fromfile(tmp_path / "a", np.int32).tolist() == expected.tolist()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system can't be told")
def test_memory_is_given_back(tmp_path):
    file = MappedArray(tmp_path / "a", np.float32, (2**22,))
    file.values[:] = 1
    full = resident()
    file.release()
    assert full - resident() > 0.9 * 2**24 / mmap.PAGESIZE
    assert (file.values == 1).all()


def test_an_empty_array(tmp_path):
    assert MappedArray(tmp_path / "a", np.float32, (0,)).values.shape == (0,)
    assert MappedArray(tmp_path / "b", np.float32, (5, 0)).values.shape == (5, 0)
