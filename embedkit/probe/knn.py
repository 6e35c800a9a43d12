"""k-NN classification: the nearest training images of each test image, and their votes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from embedkit.utils.knn_votes import vote_weights
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.probe.rows import Rows
    from embedkit.probe.targets import Targets

__all__ = ["KS", "Nearest", "nearest", "votes"]

KS = (5, 10, 20, 50, 100, 200)
"""As in Caron et al. 2021, arXiv 2104.14294."""

_QUERIES, _TRAINING = 1024, 16384  # rows per block; their similarities are 64 MiB
_MULTIPLE = 16  # of rows: those of a product's every part go through the same kernel
_TIED = 128  # rows at a time


class Nearest(NamedTuple):
    """The nearest training rows of some test rows, best first.

    Attributes:
        start: Number of the first test row.
        rows: ``(m, k)`` int64 numbers of training rows, of equal cosines the lower one first.
        cosines: ``(m, k)`` float32.
    """

    start: int
    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


def nearest(
    queries: Rows,
    training: Rows,
    k: int,
    *,
    device: str = "cpu",
    own: NDArray[np.int64] | None = None,
) -> Iterator[Nearest]:
    """Finds the k training rows of highest inner product, exactly; of equal ones the first rows.

    Identical rows get identical inner products, whatever else is in the batch.

    Memory is one block of each side, ``(1024 + 16384) * D * 4`` bytes, and 64 MiB of similarities.

    Args:
        queries: Q rows.
        training: N rows.
        k: At most N (N - 1 with ``own``).
        device: ``cpu``, ``cuda``, ``cuda:1``.
        own: ``(Q,)`` the training row that a test row is itself, which is no neighbour of it.

    Yields:
        The test rows in order, 1,024 at a time.
    """
    stage = Stage("finding neighbours", len(queries), unit="images")
    for start, block in queries.blocks(_QUERIES):
        padded = _padded(block).to(device)
        best = torch.empty((len(block), 0), device=device)
        rows = torch.empty((len(block), 0), dtype=torch.int64, device=device)
        for first, part in training.blocks(_TRAINING):
            cosines = (padded @ _padded(part).to(device).T)[: len(block), : len(part)]
            if own is not None:
                _forget(cosines, own[start : start + len(block)] - first)
            numbers = torch.arange(first, first + len(part), device=device).expand_as(cosines)
            joined = torch.cat([best, cosines], dim=1)
            # The best so far are earlier rows, and stand first: a lower column is an earlier row.
            place = _highest(joined, min(k, joined.shape[1]))
            best = joined.gather(1, place)
            rows = torch.cat([rows, numbers], dim=1).gather(1, place)
        stage.add(len(block))
        yield Nearest(start, rows.cpu().numpy(), best.cpu().numpy())


def _padded(block: NDArray[np.float32]) -> torch.Tensor:
    """Rows with zeros after them: the last ones of an odd number would take other kernels."""
    return pad(torch.from_numpy(block), (0, 0, 0, -len(block) % _MULTIPLE))


def _highest(values: torch.Tensor, k: int) -> torch.Tensor:
    """The columns of the k highest values of each row, best first; of equal ones the first."""
    found, columns = values.topk(min(k + 1, values.shape[1]), dim=1)
    columns = columns[:, :k]
    if found.shape[1] > k:  # topk may have left out any of those that equal the k-th
        tied = (found[:, k - 1] == found[:, k]).nonzero()[:, 0]
        for start in range(0, len(tied), _TIED):
            some = tied[start : start + _TIED]
            columns[some] = _first_columns(values[some], found[some, k - 1 : k], k)
    some = (found[:, 1:] == found[:, :-1]).any(dim=1).nonzero()[:, 0]
    ordered = columns[some].sort(dim=1).values
    scores = values[some[:, None], ordered]
    order = scores.sort(dim=1, descending=True, stable=True).indices
    columns[some] = ordered.gather(1, order)
    return columns


def _first_columns(values: torch.Tensor, least: torch.Tensor, k: int) -> torch.Tensor:
    """The columns above the k-th value, and as many of the first that equal it as make k."""
    above, equal = values > least, values == least
    room = k - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].reshape(len(values), k)


def _forget(cosines: torch.Tensor, columns: NDArray[np.int64]) -> None:
    """Takes one column of each row out of the running, where it is in this block."""
    here = np.flatnonzero((columns >= 0) & (columns < cosines.shape[1]))
    cosines[torch.from_numpy(here), torch.from_numpy(columns[here])] = -torch.inf


def votes(found: Nearest, targets: Targets, ks: Sequence[int]) -> Iterator[NDArray[np.floating]]:
    """What the nearest k say, weighted by ``exp(cosine / 0.07)``, for each k.

    Args:
        found: The nearest rows, as many as the largest k.
        targets: Targets of the N training rows.
        ks: Ascending.

    Yields:
        ``(m, C)`` float32 shares of the votes of each class or label, or for a regression the
        weighted mean, ``(m, 1)`` float64: numbers such as dates have more digits than float32.
    """
    weights = vote_weights(found.cosines)
    for k in ks:
        some, rows = weights[:, :k], found.rows[:, :k]
        if targets.task == "regression":
            shares = some / some.sum(axis=1, keepdims=True)
            yield np.einsum("mk,mkc->mc", shares, targets.values[rows])
            continue
        if targets.task == "classes":
            sums = np.zeros((len(rows), len(targets.names)))
            voters = np.repeat(np.arange(len(rows)), rows.shape[1])
            np.add.at(sums, (voters, targets.values[rows].reshape(-1)), some.reshape(-1))
        else:
            sums = np.einsum("mk,mkc->mc", some, targets.values[rows])
        yield (sums / some.sum(axis=1, keepdims=True)).astype(np.float32)
