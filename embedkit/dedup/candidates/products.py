"""The products that bound all cosines of a block of rows, in float32 or in bf16.

They only have to be no smaller than the cosines, so bf16 is precise enough where the processor
multiplies it faster (AMX, AVX-512): thresholds are lowered by the most that its rounding can amount
to, and what passes is bounded again in float32.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from threading import local
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.utils.threads import library_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "STRIPE",
    "Bfloat16Products",
    "Costs",
    "Float32Products",
    "Products",
    "fastest_products",
]

STRIPE, BLOCK = 512, 2048
"""The most rows of either side that are multiplied at once: their products stay in the cache."""

_LARGE_PAGE = 2**21
# Pairs of rows: for fewer, importing PyTorch, or timing the two, takes longer than it saves.
_WORTH_IMPORT, _WORTH_TRIAL = 2e10, 5e7
_TRIED_COLUMNS, _TRIALS = 64, 3
_ROUNDOFF = 2.0**-8  # of bf16, half its last digit

Hits = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""Places among the products of a block, row by row, and the products."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a pair of rows costs on one core, nanoseconds; only for speed, and only as ratios."""

    pair: float
    column: float


class Float32Products:
    """Multiplies ``(n, k)`` float32 rows by ``(m, k)`` others.

    Attributes:
        slack: How much lower than in float32 a product may come out.
        costs: What it costs.
    """

    slack = 0.0
    costs = Costs(0.25, 0.028)

    def __init__(self, left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
        self._left, self._right = left, right

    def reaching(self, mine: slice, theirs: slice, threshold: float) -> Hits:
        """The products of at least ``threshold``; called from several threads.

        Args:
            mine: Up to ``STRIPE`` of the left rows.
            theirs: Up to ``BLOCK`` of the right ones.
            threshold: The least product.
        """
        left, right = self._left[mine], self._right[theirs]
        shape = len(left), len(right)
        products, mask = _buffer("float32", np.float32, shape), _buffer("mask", np.bool_, shape)
        np.matmul(left, right.T, out=products)
        np.greater_equal(products, np.float32(threshold), out=mask)
        hits = _few_set(mask.reshape(-1))
        return hits, products.reshape(-1)[hits]


class Bfloat16Products:
    """As ``Float32Products``, in bf16, by PyTorch."""

    costs = Costs(0.08, 0.009)

    def __init__(self, left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
        self._left, off = _rounded(left)
        self._right, other = (self._left, off) if right is left else _rounded(right)
        # Of the operands, of the sum in float32, and of the product itself, which is 1 at most.
        self.slack = off + other + off * other + left.shape[1] * 2.0**-22 + 1.01 * _ROUNDOFF

    def reaching(self, mine: slice, theirs: slice, threshold: float) -> Hits:
        """As ``Float32Products.reaching``."""
        import torch

        left, right = self._left[mine], self._right[theirs]
        shape = len(left), len(right)
        bits, mask = _buffer("bits", np.int16, shape), _buffer("mask", np.bool_, shape)
        products = torch.from_numpy(bits).view(torch.bfloat16)
        torch.mm(left, right.T, out=products)
        if threshold > 0:  # bits of positive numbers are in their order, of negative ones negative
            least = np.array([threshold], np.float32).view(np.int32)[0] >> 16
            np.greater_equal(bits, np.int16(least), out=mask)
        else:
            torch.ge(products, threshold, out=torch.from_numpy(mask))
        hits = _few_set(mask.reshape(-1))
        found = bits.reshape(-1)[hits].astype(np.int32) << 16
        return hits, found.view(np.float32)


Products = Float32Products | Bfloat16Products


def fastest_products(pairs: float) -> type[Products]:
    """The products that take least time here for so many pairs of rows."""
    if pairs < (_WORTH_TRIAL if "torch" in sys.modules else _WORTH_IMPORT):
        return Float32Products
    return _fastest()


@cache
def _fastest() -> type[Products]:
    """Those that are faster on one thread, as they are used."""
    import torch  # noqa: F401  # before its threads are limited

    rows = np.random.default_rng(0).standard_normal((BLOCK, _TRIED_COLUMNS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kinds: tuple[type[Products], ...] = (Float32Products, Bfloat16Products)
    with library_threads(1):
        return min(kinds, key=lambda kind: _seconds(kind(rows, rows)))


def _seconds(products: Products) -> float:
    def multiply() -> None:
        products.reaching(slice(0, STRIPE), slice(0, BLOCK), 1.0)

    multiply()
    return min(_timed(multiply) for _ in range(_TRIALS))


def _timed(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _rounded(rows: NDArray[np.float32]) -> tuple[Any, float]:
    """Rows in bf16, and by how much the farthest one is off, a length."""
    import torch

    out = torch.empty(rows.shape, dtype=torch.bfloat16)
    worst = 0.0
    for start in range(0, len(rows), BLOCK):
        part = torch.from_numpy(rows[start : start + BLOCK])
        out[start : start + BLOCK] = part
        off = part.double() - out[start : start + BLOCK].double()
        worst = max(worst, float(off.norm(dim=1).max()))
    return out, worst


_memory = local()


def _buffer(name: str, dtype: type, shape: tuple[int, int]) -> NDArray[Any]:
    """This thread's memory for the products of a block."""
    whole = getattr(_memory, name, None)
    if whole is None:
        whole = _in_large_pages(STRIPE * BLOCK, np.dtype(dtype))
        setattr(_memory, name, whole)
    return np.asarray(whole[: shape[0] * shape[1]].reshape(shape))


def _in_large_pages(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array that begins at a large page, where address translation is faster.

    NumPy asks the system for large pages where an array of 4 MiB or more holds whole ones.
    """
    size = count * dtype.itemsize
    memory = np.empty(size + 2 * _LARGE_PAGE, np.uint8)
    start = -memory.ctypes.data % _LARGE_PAGE
    return memory[start : start + size].view(dtype)


def _few_set(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The places where a mask is set, ascending; skips eight unset ones at a time."""
    if len(mask) % 8:
        return np.flatnonzero(mask)
    words = np.flatnonzero(mask.view(np.uint64) != 0)
    inside = np.flatnonzero(mask.reshape(-1, 8)[words])
    return np.asarray(words[inside >> 3] * 8 + (inside & 7))
