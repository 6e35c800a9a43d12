"""The weights of antialiased scaling for many images at once, in PyTorch; those of ``resize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from embedkit.decode.resize import CUBIC, MAX_BITS, MAX_WEIGHT, SUPPORT

if TYPE_CHECKING:
    from embedkit.decode.resize import Filter

__all__ = ["Taps", "filter_taps"]


class Taps(NamedTuple):
    """Which pixels make up each pixel of some scaled lines, and by how much.

    Attributes:
        starts: ``(n, side) int32``, the first pixel of each sum.
        weights: ``(n, reach, side) int32``, zeros at the end of the shorter sums.
        bits: ``(n,) int32``; the weights of a sum add up to about ``2 ** bits``.
    """

    starts: torch.Tensor
    weights: torch.Tensor
    bits: torch.Tensor


def filter_taps(
    lengths: torch.Tensor,
    counts: torch.Tensor,
    firsts: torch.Tensor,
    side: int,
    mode: Filter,
    largest: tuple[int, int],
) -> Taps:
    """The weights for scaling lines of ``lengths`` pixels to ``counts``, for a part of them.

    Args:
        lengths: ``(n,) float64``.
        counts: ``(n,) float64``.
        firsts: ``(n,) int64``, the first pixel of the part.
        side: Pixels of the part.
        mode: The filter.
        largest: The largest of the counts; the largest reach, in pixels.
    """
    device = lengths.device
    lengths, counts = lengths[:, None, None], counts[:, None, None]
    ratio = lengths / counts
    stretch = ratio.clamp(min=1.0)
    support = SUPPORT[mode] * stretch
    place = torch.arange(largest[0], dtype=torch.float64, device=device)[None, :, None]
    center = ratio * (place + 0.5)
    start = (center - support + 0.5).trunc().clamp(min=0)
    stop = torch.minimum((center + support + 0.5).trunc(), lengths)
    tap = torch.arange(largest[1], dtype=torch.float64, device=device)[None, None, :]
    distance = ((tap + start - center + 0.5) * (1 / stretch)).abs()
    weights = _filter_values(distance, mode)
    weights = torch.where((tap < stop - start) & (place < counts), weights, 0.0)
    total = weights.sum(dim=2, keepdim=True)
    weights = weights / torch.where(total == 0, 1.0, total)
    bits = _fixed_point_bits(weights.amax(dim=(1, 2)))
    part = firsts[:, None] + torch.arange(side, device=device)
    weights = weights.gather(1, part[:, :, None].expand(-1, -1, largest[1]))
    scaled = weights * (1 << bits)[:, None, None]
    fixed = (scaled + torch.copysign(torch.full_like(scaled, 0.5), scaled)).trunc()
    return Taps(
        start[:, :, 0].gather(1, part).int().contiguous(),
        fixed.transpose(1, 2).int().contiguous(),
        bits.int(),
    )


def _filter_values(x: torch.Tensor, mode: Filter) -> torch.Tensor:
    if mode == "bilinear":
        return torch.where(x < 1, 1 - x, 0.0)
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _fixed_point_bits(largest: torch.Tensor) -> torch.Tensor:
    """As many bits as leave the largest weight an int16."""
    bits = torch.arange(1, MAX_BITS + 1, device=largest.device)
    fits = (0.5 + largest[:, None] * (1 << bits)).trunc() < MAX_WEIGHT
    return fits.cumprod(dim=1).sum(dim=1)
