"""The exact join on a GPU: products in float32 of all rows, in float64 of what may be a pair."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.join import MAX_PAIRS, confirmed, refuse_too_many
from embedkit.devices import torch_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from numpy.typing import NDArray

    from embedkit.dedup.rows import UnitRows

__all__ = ["join_device", "join_on_device"]

_SIDE = 4096  # of a block: 64 MiB of products, and at most 256 MiB of places
_WORTH = 1e10  # pairs from which PyTorch is worth its import
_SHARE = 0.5  # of the free memory that may hold the other side


def join_device(asked: str, pairs: float) -> str:
    """Where a join is computed.

    Args:
        asked: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        pairs: How many pairs of rows there are.

    Returns:
        ``cpu``, or a device of PyTorch's.

    Raises:
        ValueError: There is no such device.
    """
    return "cpu" if asked == "auto" and pairs < _WORTH else torch_device(asked)


def join_on_device(
    rows: UnitRows,
    threshold: float,
    device: str,
    *,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Finds the pairs that ``join_rows`` finds, on a device of PyTorch's.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine, -1 to 1.
        device: Such as ``cuda``.
        against: The rows of the other side; None compares ``rows`` with each other.
        max_pairs: More are refused.
        on_progress: Told how many of how many stripes are done.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    other = rows if against is None else against
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    least, count = threshold - _margin(rows.dim), 0
    starts = range(0, len(rows) if len(other) else 0, _SIDE)
    with _full_float32():
        blocks = _Blocks(other, device)
        for done, start in enumerate(starts, 1):
            left = _on(device, rows, start)
            stripe = []
            for begin in range(start if against is None else 0, len(other), _SIDE):
                mask = left @ blocks.at(begin).T >= least
                if begin == start and against is None:
                    mask.triu_(1)
                first, second = mask.nonzero().cpu().numpy().T
                stripe.append(confirmed(rows, first + start, other, second + begin, threshold))
                count += len(stripe[-1][0])
                refuse_too_many(count, max_pairs, threshold)
            first, second, cosines = (np.concatenate(c) for c in zip(*stripe, strict=True))
            order = np.lexsort((second, first))
            found.append((first[order], second[order], cosines[order]))
            if on_progress is not None:
                on_progress(done, len(starts))
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows.numbers[first], other.numbers[second], cosines


class _Blocks:
    """The other side, in blocks that stay on the device if they fit there."""

    def __init__(self, rows: UnitRows, device: str) -> None:
        self._rows, self._device = rows, device
        self._kept: dict[int, torch.Tensor] = {}
        self._keeps = 4 * len(rows) * rows.dim <= _SHARE * _free_memory(device)

    def at(self, start: int) -> torch.Tensor:
        """The block that begins at a place."""
        block = self._kept.get(start)
        if block is None:
            block = _on(self._device, self._rows, start)
            if self._keeps:
                self._kept[start] = block
        return block


def _on(device: str, rows: UnitRows, start: int) -> torch.Tensor:
    import torch

    taken = rows.take(slice(start, start + _SIDE)).astype(np.float32)
    return torch.from_numpy(taken).to(device)


def _free_memory(device: str) -> float:
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0.0


def _margin(dim: int) -> float:
    """How far a float32 product of unit rows may be off, whatever the order of its sums."""
    return (dim + 4) * 2.0**-23


@contextmanager
def _full_float32() -> Iterator[None]:
    """Lets products of float32 be that, and not TF32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
