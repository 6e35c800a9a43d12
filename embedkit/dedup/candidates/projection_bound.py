"""An upper bound of cosines from a few numbers per row: coordinates and the residual norm.

An orthonormal basis V splits a unit row u into its coordinates p = uV and a residual of norm r. For
two rows u and w, with coordinates q and residual norm s of w,

    u . w  =  p . q + residual(u) . residual(w)  <=  p . q + r s        (Cauchy and Schwarz)

which is the inner product of (p, r) and (q, s): one more column. V holds the directions in which
the rows vary most, so that r is small. More columns bound more tightly: a second level takes the
first one's bound, subtracts r s and adds its own columns. All is computed in float32: residual
norms are rounded up, and ``Projections.rounding_slack`` lowers thresholds, by the most that
rounding can amount to, so that no pair is lost by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from scipy.linalg import eigh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.products import Costs
    from embedkit.dedup.unit_rows import UnitRows

__all__ = ["ProjectionPlan", "Projections", "Run", "plan_projection"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_SAMPLE_ROWS, _SAMPLE_PART = 4096, 20  # of so many rows one, but at least 2 D
_LEAST_TRIED, _TRIED_STEP = 256, 8  # of the sample, to choose the levels: one in eight, or more
_WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MANY_PAIRS, _FEW_PAIRS_WIDTH = 1e9, 192  # with few pairs, more columns cost more than they save
_SPARE = 16  # directions that are computed beside the needed ones
_WORTH_IT = 2e9  # below so many multiplications a basis costs more than it saves
_TERMS = 128  # of a coordinate, added up together
# Nanoseconds on one core, measured; only their ratios matter, and only for speed.
_PER_PRODUCT = 0.04  # of projecting, per value of a row and column of the basis
_GATHER, _GATHER_COLUMN = 120.0, 0.4
_CHECK, _CHECK_COLUMN = 1000.0, 5.0


class Run(Protocol):
    """Calls a function with each item, and gives the results in order: ``map``, or a pool's."""

    def __call__(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], /
    ) -> Iterable[_Result]:
        """Calls it."""


@dataclass(frozen=True)
class ProjectionPlan:
    """How rows are projected.

    Attributes:
        basis: ``(D, d)`` float32, columns orthonormal to rounding; None keeps the rows as they are.
        widths: Number of coordinates up to and including each level, ascending.
    """

    basis: NDArray[np.float32] | None
    widths: tuple[int, ...]

    def apply(self, rows: UnitRows, run: Run) -> Projections:
        """Projects all rows; ``run`` calls the function that does a part of them."""
        first = self.widths[0] + (self.basis is not None)
        shapes = [first, *(b - a + 2 for a, b in pairwise(self.widths))]
        levels = tuple(np.empty((len(rows), columns), np.float32) for columns in shapes)
        slack = self._slack(rows.dim)

        def fill(where: slice) -> None:
            for level, values in zip(levels, self._columns(rows, where, slack), strict=True):
                level[where] = values

        for _ in run(fill, rows.pieces()):
            pass
        # Twice the bound k 2^-24 of the rounding of a product of k columns and of its operands.
        rounding_slack = tuple(
            float((sum(shapes[: n + 1]) + 8) * 2.0**-22 + slack) for n in range(len(shapes))
        )
        return Projections(levels, rounding_slack)

    def _columns(self, rows: UnitRows, where: slice, slack: float) -> list[NDArray[Any]]:
        """The columns of each level: its coordinates, its residual norm, and that before it."""
        if self.basis is None:
            return [rows.take(where)]
        coordinates = _coordinates(rows, where, self.basis)
        residuals = [_residual_norm(coordinates[:, :width], slack) for width in self.widths]
        out = [np.column_stack([coordinates[:, : self.widths[0]], residuals[0]])]
        for n in range(1, len(self.widths)):
            new = coordinates[:, self.widths[n - 1] : self.widths[n]]
            out.append(np.column_stack([new, residuals[n], residuals[n - 1]]))
        return out

    def _slack(self, dim: int) -> float:
        """The most that float32 rounds a product of two rows' coordinates, or a squared residual.

        A coordinate of a unit row is off by at most (128 + D / 128 + 4) 2^-24 of the sum of its
        terms' absolute values, which the unit lengths of the row and of the basis's column bound;
        the row's length by (D / 2 + 2) 2^-24. So the vector of d coordinates is off by at most
        e = (sqrt(d) (132 + D / 128) + D / 2 + 2) 2^-24, and the product by 2 e + e^2.
        """
        if self.basis is None:
            return 0.0
        off = np.sqrt(self.widths[-1]) * (_TERMS + dim / _TERMS + 4) + dim / 2 + 2
        return float(2.1 * off * 2.0**-24)


@dataclass(frozen=True)
class Projections:
    """Some rows, projected.

    Attributes:
        levels: ``(n, k)`` float32 each. The inner product of two rows of the first level is at
            least their cosine; those of the next levels, with the last column subtracted, tighten
            this bound.
        rounding_slack: How much to lower a threshold at each level, for rounding.
    """

    levels: tuple[NDArray[np.float32], ...]
    rounding_slack: tuple[float, ...]


def plan_projection(
    rows: UnitRows, other: UnitRows, threshold: float, costs: Costs
) -> ProjectionPlan:
    """Chooses the basis and the widths for which a join should be fastest.

    The pairs that a join finds don't depend on the choice.

    Args:
        rows: One side of the join.
        other: The other side; may be the same.
        threshold: The least cosine.
        costs: What the first level costs.
    """
    dim = rows.dim
    pairs = len(rows) * len(other) / (2 if other is rows else 1)
    most = min(dim // 2, _WIDTHS[-1] if pairs > _MANY_PAIRS else _FEW_PAIRS_WIDTH)
    widths = [width for width in _WIDTHS if width <= most]
    if len(rows) * len(other) * dim < _WORTH_IT or not widths:
        return ProjectionPlan(None, (dim,))
    count = min(_SAMPLE_ROWS, max(max(len(rows), len(other)) // _SAMPLE_PART, 2 * dim))
    left = rows.sample(count)
    right = left if other is rows else other.sample(count)
    basis = _principal(left if other is rows else np.concatenate([left, right]), widths[-1])
    step, apart = (min(max(len(one) // _LEAST_TRIED, 1), _TRIED_STEP) for one in (left, right))
    tried = left[::step], right[apart // 2 :: apart]  # not with themselves
    share, dense = _shares(tried, basis, widths, threshold)
    projected = len(rows) + (0 if other is rows else len(other))
    per_column: float = _PER_PRODUCT * dim * projected / pairs

    def cost(chain: tuple[int, ...]) -> float:
        return per_column * chain[-1] + _cost(chain, share, dim, costs)

    chain = min(_chains(widths), key=cost)
    if cost(chain) > _cost((dim,), {dim: dense}, dim, costs):
        return ProjectionPlan(None, (dim,))
    orthonormal, _ = np.linalg.qr(basis[:, : chain[-1]].astype(np.float64))
    return ProjectionPlan(np.ascontiguousarray(orthonormal, np.float32), chain)


def _principal(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The directions in which rows vary most, most first, approximately: ``(D, count)``.

    They only matter for speed, so float32 is enough, and where few are needed subspace iteration,
    which takes a third of the time of a full decomposition.

    Source: Halko, Martinsson, Tropp, "Finding structure with randomness", 2011, algorithm 4.4.
    """
    gram = rows.T @ rows
    columns = count + _SPARE
    if 2 * columns > len(gram):
        _, vectors = eigh(gram, driver="evd", check_finite=False)
    else:
        start = np.random.default_rng(0).standard_normal((len(gram), columns), np.float32)
        space, _ = np.linalg.qr(gram @ start)
        space, _ = np.linalg.qr(gram @ space)
        _, turn = np.linalg.eigh(space.T @ (gram @ space))
        vectors = space @ turn
    return np.asarray(vectors[:, : -count - 1 : -1])


def _shares(
    tried: tuple[NDArray[np.float32], NDArray[np.float32]],
    basis: NDArray[np.float32],
    widths: Sequence[int],
    threshold: float,
) -> tuple[dict[int, float], float]:
    """The share of tried pairs whose bound, by width, and whose cosine reach the threshold."""
    left, right = (rows @ basis for rows in tried)
    products, done, share = np.zeros((len(left), len(right)), np.float32), 0, {}
    for width in widths:
        products += left[:, done:width] @ right[:, done:width].T
        residuals = np.outer(_residual_norm(left[:, :width]), _residual_norm(right[:, :width]))
        share[width] = float((products + residuals >= threshold).mean())
        done = width
    return share, float((tried[0] @ tried[1].T >= threshold).mean())


def _chains(widths: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in (1, 2, 3):
        yield from combinations(widths, count)


def _cost(chain: tuple[int, ...], share: Mapping[int, float], dim: int, costs: Costs) -> float:
    """Nanoseconds per pair of rows."""
    cost = costs.pair + costs.column * (chain[0] + 1)
    for before, width in pairwise(chain):
        cost += share[before] * (_GATHER + _GATHER_COLUMN * (width - before + 2))
    return cost + share[chain[-1]] * (_CHECK + _CHECK_COLUMN * dim)


def _coordinates(rows: UnitRows, where: slice, basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates of unit rows, ``(n, d)``, summed few terms at a time to keep rounding small."""
    taken, lengths = rows.coarse(where)
    out = np.zeros((len(taken), basis.shape[1]), np.float32)
    for start in range(0, rows.dim, _TERMS):
        some = slice(start, start + _TERMS)
        out += taken[:, some] @ basis[some]
    out /= lengths[:, None]
    return out


def _residual_norm(coordinates: NDArray[np.float32], slack: float = 0.0) -> NDArray[np.float32]:
    """The norm of what the coordinates leave of each unit row, ``(n,)``.

    It is never too small if the coordinates' squared norm is too large by ``slack`` at most.
    """
    squares = np.einsum("nd,nd->n", coordinates, coordinates)
    slack += (coordinates.shape[1] + 4) * 2.0**-24  # of this very sum
    return np.asarray(np.sqrt(np.maximum(1 - squares, 0) + np.float32(slack)))
