"""Training features as a solver takes them: centred, and in the axes of their covariance.

A constant that is taken from all features moves only the intercept, which isn't regularised, and a
rotation changes no length: so the solution is the same, and it is found in far fewer passes.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.probe.rows import Rows

__all__ = ["Features"]

_DOUBLE_VALUES = 2**22  # up to this many features, float64 costs almost nothing
_LEAST_VARIANCE = 1e-10  # of the largest
_BLOCK_VALUES = 2**24  # of a block of features or of logits: 64 MiB of float32


class Features:
    """n centred training features, on a device; kept there if they fit, else streamed each time.

    Memory: ``n * min(n, D) * 4`` bytes if that is at most ``memory``; else two blocks of at most
    64 MiB; and ``3 * D * D * 8`` bytes while the axes are found.

    Args:
        rows: The features.
        device: ``cpu``, ``cuda``, ``cuda:1``.
        memory: Bytes that may be spent on keeping them.

    Attributes:
        mean: ``(D,)`` float64 of all n.
        axes: ``(D, r)`` float64, the covariance's eigenvectors; r is at most n - 1 and D.
        variances: ``(r,)`` float64, its eigenvalues.
        dtype: Data type of the computation: float64 for small n * D, else float32.
        is_kept: Whether ``blocks`` gives features in these axes, ``(m, r)``, or as they are,
            ``(m, D)``.
    """

    def __init__(self, rows: Rows, *, device: str = "cpu", memory: int = 2**31) -> None:
        self._rows = rows
        self._device = device
        small = len(rows) * rows.dim <= _DOUBLE_VALUES
        self.dtype = torch.float64 if small else torch.float32
        self.mean = self._find_mean()
        self.variances, self.axes = self._find_axes()
        width = self.axes.shape[1]
        self.is_kept = len(rows) * width * self.dtype.itemsize <= memory
        self._kept = self._rotate_all() if self.is_kept else None

    def __len__(self) -> int:
        return len(self._rows)

    def in_single_precision(self) -> Features:
        """The same features in float32, which are precise enough to choose C with."""
        single = copy(self)
        single.dtype = torch.float32
        single._kept = None if self._kept is None else self._kept.float()
        return single

    def blocks(self, start: int, stop: int, width: int = 1) -> Iterator[tuple[int, torch.Tensor]]:
        """The features from ``start`` to ``stop``, a block at a time.

        Args:
            start: The first row.
            stop: The row after the last.
            width: Values that are made of each row, which a block must have room for.

        Yields:
            Number of the first row, and ``(m, r)`` or ``(m, D)``.
        """
        size = max(256, _BLOCK_VALUES // max(self._rows.dim, width))
        kept = self._kept
        for first in range(start, stop, size):
            last = min(first + size, stop)
            yield first, self._centred(first, last) if kept is None else kept[first:last]

    def _centred(self, start: int, stop: int) -> torch.Tensor:
        block = torch.from_numpy(self._rows.block(start, stop)).to(self._device, self.dtype)
        return block.sub_(self.mean.to(self.dtype))

    def _find_mean(self) -> torch.Tensor:
        total = np.zeros(self._rows.dim)
        for _, block in self._rows.blocks(max(256, _BLOCK_VALUES // self._rows.dim)):
            total += block.sum(axis=0, dtype=np.float64)
        return torch.from_numpy(total / max(len(self._rows), 1)).to(self._device)

    def _find_axes(self) -> tuple[torch.Tensor, torch.Tensor]:
        if len(self._rows) <= self._rows.dim:
            return self._find_few_axes()
        dim, count = self._rows.dim, len(self._rows)
        total = torch.zeros(dim, dim, dtype=torch.float64, device=self._device)
        size = max(256, _BLOCK_VALUES // dim)
        for start in range(0, count, size):
            block = self._centred(start, min(start + size, count))
            total += block.T @ block
        return _informative(*torch.linalg.eigh(total / count))

    def _find_few_axes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of no more features than dimensions: the axes of the space that they span."""
        every = self._centred(0, len(self._rows)).double()
        basis, inside = torch.linalg.qr(every.T)
        variances, axes = torch.linalg.eigh(inside @ inside.T / len(every))
        return _informative(variances, basis @ axes)

    def _rotate_all(self) -> torch.Tensor:
        width = self.axes.shape[1]
        kept = torch.empty(len(self._rows), width, dtype=self.dtype, device=self._device)
        axes = self.axes.to(self.dtype)
        size = max(256, _BLOCK_VALUES // self._rows.dim)
        for start in range(0, len(self._rows), size):
            stop = min(start + size, len(self._rows))
            kept[start:stop] = self._centred(start, stop) @ axes
        return kept


def _informative(variances: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Leaves out the axes along which there is nothing but rounding errors."""
    there = variances > _LEAST_VARIANCE * variances[-1]
    return variances[there], axes[:, there].contiguous()
