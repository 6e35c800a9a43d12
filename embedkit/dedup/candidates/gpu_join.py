"""The exact threshold join on a GPU: the same pairs as ``exact_join``.

On CUDA the products are of float16, on the tensor cores; elsewhere of float32. Their rounding error
is bounded, and every pair that may reach the threshold within it is computed again in float64 from
the stored values, so that no pair is missed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.exact_join import MAX_PAIRS, confirmed, refuse_too_many
from embedkit.utils.devices import torch_device
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray

    from embedkit.dedup.unit_rows import UnitRows

__all__ = ["gpu_join", "resolve_join_device"]

_SIDE = 8192  # of a block: 128 MiB of float16 products, and at most 1 GiB of places
_WORTH = 1e10  # pairs from which PyTorch is worth its import
_SHARE = 0.5  # of the free memory that may hold the other side


def resolve_join_device(requested: str, pairs: float) -> str:
    """Chooses the device of a join.

    Args:
        requested: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        pairs: How many pairs of rows there are.

    Returns:
        ``cpu``, or a PyTorch device.

    Raises:
        ValueError: There is no such device.
    """
    return "cpu" if requested == "auto" and pairs < _WORTH else torch_device(requested)


def gpu_join(
    rows: UnitRows,
    threshold: float,
    device: str,
    *,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Finds the pairs that ``exact_join`` finds, on a PyTorch device.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine, -1 to 1.
        device: Such as ``cuda``.
        against: The rows of the other side; None compares ``rows`` with each other.
        max_pairs: More are refused.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    other = rows if against is None else against
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    dtype, count = _product_dtype(device), 0
    least = threshold - _margin(rows.dim, dtype)
    starts = range(0, len(rows) if len(other) else 0, _SIDE)
    with _full_precision():
        blocks = _Blocks(other, device, dtype)
        for start in track(starts, "comparing embeddings", len(starts), unit="stripes"):
            left = _on(device, rows, start, dtype)
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
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows.numbers[first], other.numbers[second], cosines


class _Blocks:
    """The other side in blocks, which stay on the device if they fit there."""

    def __init__(self, rows: UnitRows, device: str, dtype: torch.dtype) -> None:
        self._rows, self._device, self._dtype = rows, device, dtype
        self._kept: dict[int, torch.Tensor] = {}
        self._keeps = dtype.itemsize * len(rows) * rows.dim <= _SHARE * _free_memory(device)

    def at(self, start: int) -> torch.Tensor:
        """The block that begins at a place."""
        block = self._kept.get(start)
        if block is None:
            block = _on(self._device, self._rows, start, self._dtype)
            if self._keeps:
                self._kept[start] = block
        return block


def _on(device: str, rows: UnitRows, start: int, dtype: torch.dtype) -> torch.Tensor:
    import torch

    taken = rows.take(slice(start, start + _SIDE)).astype(np.float32)
    return torch.from_numpy(taken).to(device).to(dtype)


def _free_memory(device: str) -> float:
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0.0


def _product_dtype(device: str) -> torch.dtype:
    import torch

    return torch.float16 if device.startswith("cuda") else torch.float32


def _margin(dim: int, dtype: torch.dtype) -> float:
    """How far a product of unit rows may be off, whatever the order of its sums.

    With u the unit roundoff of ``dtype`` and |a| = |b| = 1: rounding both factors costs at most
    2u + u², since sum |a_i b_i| <= 1; rounding the product, below 1, u / 2; sums are of float32,
    where the tensor cores may cut instead of rounding. Values of float16 below 2^-14 are off by at
    most 2^-25 each, which costs at most sqrt(dim) * 2^-24.
    """
    import torch

    sums = (dim + 4) * 2.0**-22
    if dtype == torch.float32:
        return sums
    roundoff: float = torch.finfo(dtype).eps / 2
    return float(2.6 * roundoff + sums + dim**0.5 * 2.0**-24)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Computes float32 products without TF32, and sums of float16 products in float32."""
    import torch

    matmul = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), matmul.allow_fp16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        matmul.allow_fp16_reduced_precision_reduction = before[1]
