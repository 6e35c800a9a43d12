"""The weights of many images at once, beside those of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedkit.decode import resize
from embedkit.decode.gpu_jpeg.taps import filter_taps

LENGTHS = [33, 64, 97, 224, 375, 500, 4032, 8192]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("count", "first", "side"), [(256, 16, 224), (341, 58, 224), (32, 0, 32)])
def test_as_for_one_image(mode, count, first, side):
    reach = 2 * int(np.ceil(resize.SUPPORT[mode] * max(1.0, max(LENGTHS) / count))) + 1
    lengths = torch.tensor(LENGTHS, dtype=torch.float64)
    counts = torch.full_like(lengths, count)
    firsts = torch.full((len(LENGTHS),), first)
    found = filter_taps(lengths, counts, firsts, side, mode, (count, reach))
    assert (found.starts.dtype, found.weights.dtype) == (torch.int32, torch.int32)
    for number, length in enumerate(LENGTHS):
        expected = resize._filter_taps(length, count, mode)
        part = slice(first, first + side)
        assert found.bits[number] == expected.bits
        np.testing.assert_array_equal(found.starts[number], expected.start[part])
        weights = np.zeros((reach, side))
        weights[: expected.weights.shape[1]] = expected.weights[part].T[:reach]
        np.testing.assert_array_equal(found.weights[number], weights)


def test_images_of_several_sizes_at_once():
    lengths = torch.tensor([500.0, 375.0, 90.0], dtype=torch.float64)
    counts = torch.tensor([341.0, 256.0, 256.0], dtype=torch.float64)
    firsts = torch.tensor([58, 16, 16])
    found = filter_taps(lengths, counts, firsts, 224, "bilinear", (341, 5))
    for number in range(3):
        one = slice(number, number + 1)
        alone = filter_taps(
            lengths[one], counts[one], firsts[one], 224, "bilinear", (int(counts[number]), 5)
        )
        for whole, single in zip(found, alone, strict=True):
            torch.testing.assert_close(whole[number], single[0], rtol=0, atol=0)
