"""The space in which an index compares: metric and whitening.

A row x becomes a vector of the space: for the cosine x / |x|; whitened, W (x - m); for the cosine
again of unit length. faiss sees vectors of the space, as queries and as rows. Scores are inner
products of such vectors, or their negative squared distance; so the cosine is L2-normalisation and
an inner product.

Exact scores are had without bringing stored rows into the space: a whitened query u = Wᵀp gives
<p, W(x - m)> = <u, x> - <p, Wm>, and what depends on the row alone is kept as its factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import IndexCorruptError
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.index.spec import Metric

__all__ = ["Space", "Whitening", "learn_whitening"]

_MIN_VARIANCE_RATIO = 1e-6  # to the largest variance; directions below it are rounding noise
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Whitening:
    """PCA-whitening: ``W (x - m)`` has the mean 0 and the covariance 1 on what it was learned from.

    Attributes:
        mean: m, ``(D,)`` float32.
        matrix: W, ``(d, D)`` float32; its rows are principal axes, each over its deviation.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Mean and matrix, little-endian float32, one after the other."""
        return b"".join(part.astype("<f4").tobytes() for part in (self.mean, self.matrix))

    @classmethod
    def from_bytes(cls, data: bytes, dim: int) -> Whitening:
        """Reads what ``to_bytes`` wrote, for rows of ``dim`` values.

        Raises:
            IndexCorruptError: It isn't that.
        """
        if len(data) % (4 * dim) or len(data) < 8 * dim:
            raise IndexCorruptError(f"a whitening of {dim} values isn't {len(data)} bytes long")
        values = np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, dim)
        return cls(values[0], values[1:])


@dataclass(frozen=True, eq=False)
class Space:
    """The space in which an index compares.

    Attributes:
        metric: ``cosine``, ``ip`` or ``l2``.
        rows_dim: D, the length of stored rows and of queries.
        whitening: If the space is whitened.
    """

    metric: Metric
    rows_dim: int
    whitening: Whitening | None = None

    @property
    def dim(self) -> int:
        """The length of the vectors in this space."""
        return self.rows_dim if self.whitening is None else len(self.whitening.matrix)

    def project(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Brings rows, or queries, into the space.

        Args:
            rows: ``(n, D)``, finite.

        Returns:
            ``(n, dim)`` float32, C-contiguous, a new array.
        """
        out = np.empty((len(rows), self.dim), np.float32)
        for start in range(0, len(rows), _BLOCK):  # what lies between takes memory, too
            out[start : start + _BLOCK] = self._project(rows[start : start + _BLOCK])
        return out

    def compare(
        self, vectors: NDArray[np.float32], rows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The scores of rows for their query: the definition.

        Args:
            vectors: ``(Q, dim)`` queries in the space.
            rows: ``(Q, k, dim)`` rows in the space, k for each query.

        Returns:
            ``(Q, k)`` float32.
        """
        if self.metric == "l2":
            apart = rows - vectors[:, None]
            return _float32(-np.einsum("qkd,qkd->qk", apart, apart))
        return _float32(np.einsum("qkd,qd->qk", rows, vectors))

    @property
    def num_factors(self) -> int:
        """How many values of a row ``rescore`` needs."""
        whitened = self.whitening is not None
        return {"cosine": 2 if whitened else 1, "ip": 0, "l2": int(whitened)}[self.metric]

    def factors(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """What ``rescore`` needs of each stored row: ``(n, num_factors)`` float32."""
        rows = np.asarray(rows, np.float32)
        if self.whitening is None:
            lengths = [_lengths(rows)] if self.metric == "cosine" else []
        elif self.metric == "cosine":
            first = _lengths(rows)
            second = _lengths(self._whitened(rows / _or_one(first)[:, None]))
            lengths = [first, second]
        else:
            lengths = [_lengths(self._whitened(rows))] if self.metric == "l2" else []
        out = np.empty((len(rows), self.num_factors), np.float32)
        for column, values in enumerate(lengths):
            out[:, column] = values
        return out

    def pull_back(
        self, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Queries to compare with stored rows as they are.

        Args:
            vectors: ``(Q, dim)`` queries in the space.

        Returns:
            ``(Q, D)`` float32 u and ``(Q,)`` float32 c: in the space, the inner product with a row
            x, before its scaling to unit length, is ``<u, x> - c``.
        """
        if self.whitening is None:
            return vectors, np.zeros(len(vectors), np.float32)
        pulled = _float32(vectors @ self.whitening.matrix)
        return pulled, _float32(pulled @ self.whitening.mean)

    def rescore(
        self,
        inner: NDArray[np.float32],
        shift: NDArray[np.float32],
        vectors: NDArray[np.float32],
        factors: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Scores from inner products with stored rows; not for unwhitened ``l2``, which needs none.

        Args:
            inner: ``(Q, k)`` products ``<u, x>`` of ``pull_back``'s u with rows.
            shift: ``(Q,)`` ``pull_back``'s c.
            vectors: ``(Q, dim)`` the queries in the space.
            factors: ``(Q, k, num_factors)`` of the rows.

        Returns:
            ``(Q, k)`` float32, higher is closer.
        """
        if self.metric == "ip":
            return inner - shift[:, None]
        if self.metric == "l2":
            own = np.einsum("qd,qd->q", vectors, vectors)[:, None]
            distance = factors[..., 0] ** 2 - 2 * (inner - shift[:, None]) + own
            return _float32(-np.maximum(distance, 0))
        scores = inner / _or_one(factors[..., 0])
        if self.whitening is not None:
            scores = (scores - shift[:, None]) / _or_one(factors[..., 1])
        return scores

    def _project(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        if self.metric == "cosine":
            rows = unit_rows(rows)
        if self.whitening is not None:
            rows = self._whitened(np.asarray(rows, np.float32))
            if self.metric == "cosine":
                rows = unit_rows(rows)
        return rows

    def _whitened(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.whitening is not None
        return _float32((rows - self.whitening.mean) @ self.whitening.matrix.T)


def learn_whitening(rows: NDArray[np.floating], metric: Metric, dim: int) -> Whitening:
    """Learns PCA-whitening from a sample.

    Source: Jégou and Chum, "Negative evidences and co-occurences in image retrieval: the benefit of
    PCA and whitening" (ECCV 2012).

    Args:
        rows: ``(n, D)`` as stored; for the cosine their unit vectors are what it is learned from.
        metric: The index's.
        dim: d, how many of the widest directions stay.

    Raises:
        ValueError: There are too few rows, or dimensions, for ``dim``.
    """
    count, full = rows.shape
    if dim > full or dim >= count:
        raise ValueError(f"can't whiten to {dim} dimensions from {count} rows of {full} values")
    plain = Space(metric, full)
    mean, second = np.zeros(full), np.zeros((full, full))
    for start in range(0, count, _BLOCK):
        mean += plain.project(rows[start : start + _BLOCK]).sum(axis=0, dtype=np.float64) / count
    for start in range(0, count, _BLOCK):
        part = plain.project(rows[start : start + _BLOCK]) - mean
        second += part.T @ part
    variances, axes = np.linalg.eigh(second / (count - 1))
    variances, axes = variances[::-1][:dim], axes[:, ::-1][:, :dim]
    smallest = max(float(variances[0]), float(np.finfo(np.float32).tiny)) * _MIN_VARIANCE_RATIO
    matrix = axes.T / np.sqrt(np.maximum(variances, smallest))[:, None]
    return Whitening(mean.astype(np.float32), np.ascontiguousarray(matrix, np.float32))


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """L2 norms; by the largest value first, whose square could overflow or vanish."""
    scale = _or_one(_float32(np.abs(rows).max(axis=1, initial=0)))
    lengths: NDArray[np.float32] = scale * np.linalg.norm(rows / scale[:, None], axis=1)
    return lengths


def _float32(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _or_one(lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(lengths > 0, lengths, np.float32(1))
