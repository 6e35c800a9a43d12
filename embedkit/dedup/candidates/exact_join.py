"""The exact threshold join: every pair of rows whose cosine is at least a threshold.

Input: unit rows, one set or two. Output: row numbers and cosines of all pairs. The matrix of all
pairs (its upper half, within one set) is computed in stripes of 512 rows, one per thread, and these
in blocks that stay in the cache. In a block, a product of a few columns per row bounds every cosine
from above (``projection_bound``); pairs whose bound reaches the threshold are bounded again with
more columns, and the cosines of the remaining ones are computed in float64 from the stored values.
The result depends on nothing but the stored values and the threshold, and memory is bounded.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.candidates.products import BLOCK, STRIPE, Float32Products, fastest_products
from embedkit.dedup.candidates.projection_bound import plan_projection
from embedkit.errors import EmbedkitError
from embedkit.utils.progress import Stage
from embedkit.utils.threads import library_threads, usable_cores, use_one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.products import Products
    from embedkit.dedup.candidates.projection_bound import Projections, Run
    from embedkit.dedup.unit_rows import UnitRows

__all__ = [
    "MAX_PAIRS",
    "Found",
    "confirmed",
    "exact_join",
    "exact_join_with",
    "refuse_too_many",
]

MAX_PAIRS = 10_000_000
_CANDIDATES = 65536  # that are processed together, however many a block leaves
_GATHER_ROWS = 4096  # the gathered columns of so many pairs stay in the cache
_ROUNDING = 1e-12  # a cosine of equal rows may be as far below 1

Found = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float32]"]
"""Row numbers of both sides, and cosines, ``(P,)`` each."""


def exact_join(
    rows: UnitRows,
    threshold: float,
    *,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
    threads: int | None = None,
) -> Found:
    """Finds every pair whose cosine, in float64, is at least ``threshold``.

    Args:
        rows: ``n`` rows.
        threshold: The least cosine, -1 to 1.
        against: The rows of the other side; None compares ``rows`` with each other, each pair
            once.
        max_pairs: More are refused; a pair takes 20 bytes.
        threads: Number of threads; None takes one per usable core.

    Returns:
        ``(P,)`` first and ``(P,)`` second row numbers, and ``(P,)`` cosines, sorted by the rows'
        places.

    Raises:
        EmbedkitError: There are more than ``max_pairs``.
    """
    products = fastest_products(len(rows) * len(rows if against is None else against))
    # A stripe per thread: the threads of BLAS would wait for each other at every block.
    workers = ThreadPoolExecutor(threads or usable_cores(), "join", use_one_thread)
    with library_threads(1), workers as pool:
        try:
            with Stage("comparing embeddings", len(rows), unit="rows") as stage:
                return exact_join_with(
                    pool.map, rows, threshold, against, max_pairs, stage, products
                )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def exact_join_with(
    run: Run,
    rows: UnitRows,
    threshold: float,
    against: UnitRows | None = None,
    max_pairs: int = MAX_PAIRS,
    stage: Stage | None = None,
    products: type[Products] = Float32Products,
) -> Found:
    """Joins as ``exact_join`` does; ``run``, such as ``map``, calls the work on each stripe."""
    other = rows if against is None else against
    if not len(rows) or not len(other):
        return _nothing()
    plan = plan_projection(rows, other, threshold, products.costs)
    left = plan.apply(rows, run)
    right = left if against is None else plan.apply(other, run)
    work = _Join(
        rows, other, left, right, products(left.levels[0], right.levels[0]),
        threshold, max_pairs, against is None,
    )  # fmt: skip
    starts = range(0, len(rows), STRIPE)
    found, count = [_nothing()], 0
    for start, part in zip(starts, run(work.stripe, starts), strict=True):
        found.append(part)
        count += len(part[0])
        refuse_too_many(count, max_pairs, threshold)
        if stage is not None:
            stage.update(min(start + STRIPE, len(rows)))
    first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows.numbers[first], other.numbers[second], cosines


def confirmed(
    rows: UnitRows,
    first: NDArray[np.int64],
    other: UnitRows,
    second: NDArray[np.int64],
    threshold: float,
) -> Found:
    """Keeps the pairs of places whose cosine in float64 reaches the threshold; adds the cosines."""
    likely = np.flatnonzero(rows.may_reach(first, other, second, threshold))
    first, second = first[likely], second[likely]
    cosines = rows.cosines(first, other, second)
    kept = np.flatnonzero(cosines >= threshold - _ROUNDING)
    return first[kept], second[kept], cosines[kept].astype(np.float32)


def refuse_too_many(count: int, max_pairs: int, threshold: float) -> None:
    """Refuses too many pairs.

    Raises:
        EmbedkitError: There are too many.
    """
    if count > max_pairs:
        raise EmbedkitError(
            f"more than {max_pairs:,} pairs have a cosine of {threshold:.4g} or more: raise "
            "min_cosine=..., or lower candidates_per_image=..."
        )


@dataclass(frozen=True)
class _Join:
    """Both sides of a join, and their projections."""

    rows: UnitRows
    other: UnitRows
    left: Projections
    right: Projections
    products: Products
    threshold: float
    max_pairs: int
    upper: bool

    def stripe(self, start: int) -> Found:
        """The pairs of up to ``STRIPE`` rows from ``start`` on, in order."""
        found, count = [_nothing()], 0
        for first, second in self._likely(start):
            part = confirmed(self.rows, first, self.other, second, self.threshold)
            found.append(part)
            count += len(part[0])
            refuse_too_many(count, self.max_pairs, self.threshold)
        first, second, cosines = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((second, first))
        return first[order], second[order], cosines[order]

    def _likely(self, start: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The pairs of a stripe that no level rules out, many together."""
        stop = min(start + STRIPE, len(self.rows))
        waiting, count = [], 0
        for begin in range(start if self.upper else 0, len(self.other), BLOCK):
            for first, second, bound in self._candidates(slice(start, stop), begin):
                if self.upper and begin < stop:
                    above = first < second
                    first, second, bound = first[above], second[above], bound[above]
                waiting.append(self._tighten(first, second, bound))
                count += len(waiting[-1][0])
                if count >= _CANDIDATES:
                    yield _joined(waiting)
                    waiting, count = [], 0
        if count:
            yield _joined(waiting)

    def _candidates(self, mine: slice, begin: int) -> Iterator[Found]:
        """Where the first level's bound reaches the threshold in a block."""
        end = min(begin + BLOCK, len(self.other))
        hits, bounds = self.products.reaching(mine, slice(begin, end), self._level_threshold(0))
        for start in range(0, len(hits), _CANDIDATES):
            part = slice(start, start + _CANDIDATES)
            first, second = np.divmod(hits[part], end - begin)
            yield first + mine.start, second + begin, bounds[part]

    def _tighten(
        self, first: NDArray[np.int64], second: NDArray[np.int64], bound: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The candidates that the levels after the first don't rule out."""
        for level in range(1, len(self.left.levels)):
            bound += self._dots(level, first, second)
            kept = np.flatnonzero(bound >= np.float32(self._level_threshold(level)))
            first, second, bound = first[kept], second[kept], bound[kept]
        return first, second

    def _dots(
        self, level: int, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The change of each pair's bound by a level after the first, ``(P,)``."""
        left, right = self.left.levels[level], self.right.levels[level]
        out = np.empty(len(first), np.float32)
        for start in range(0, len(first), _GATHER_ROWS):
            part = slice(start, start + _GATHER_ROWS)
            mine, theirs = left.take(first[part], 0), right.take(second[part], 0)
            mine[:, -1] *= -1  # the residual of the level before, which this one replaces
            np.einsum("nd,nd->n", mine, theirs, out=out[part])
        return out

    def _level_threshold(self, level: int) -> float:
        return self.threshold - self.left.rounding_slack[level] - self.products.slack


def _joined(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = zip(*parts, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _nothing() -> Found:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
