"""Turns logits into candidates: softmax, top classes per image, threshold per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.classification.head import softmax
from embedkit.analysis.selection.top_k import Candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["candidates"]

_CHUNK = 512  # rows; fewer cost more in calls than they save in the cache
_FOLDS = 3  # to groups of eight classes
_MANY = 2  # times what can stay, of candidates
_ROUNDING = np.float32(2e-6)  # of a value: 30 times what a float32 is rounded by


def candidates(
    logits: NDArray[np.float32],
    bias: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    columns: NDArray[np.int64] | None,
    most: int,
) -> Candidates:
    """Candidates: scores above the class threshold and among the image's top classes.

    Args:
        logits: ``(n, C)`` without the bias; overwritten.
        bias: ``(C,)`` is added to them.
        thresholds: ``(S,)`` of probabilities, one for each class that is selected for.
        columns: ``(S,)`` these classes; None for all C.
        most: How many of its likeliest classes an image may serve; of equally likely ones the
            first count.

    Returns:
        Classes as numbers in ``columns``, rows from 0.
    """
    hopeful = _hopeful(logits, bias, thresholds, columns)
    chosen = logits if len(hopeful) == len(logits) else logits[hopeful]
    chosen += bias
    shares = softmax(chosen)
    selected = shares if columns is None else shares[:, columns]
    passed = selected > thresholds
    many = np.count_nonzero(passed) > _MANY * most * len(passed)
    if many:  # the thresholds have yet to rise
        likely = _likeliest(shares, min(most, shares.shape[1]))
        passed &= likely if columns is None else likely[:, columns]
    rows, classes = np.divmod(np.flatnonzero(passed), passed.shape[1])
    scores = selected[rows, classes]
    if not many:
        numbers = classes if columns is None else columns[classes]
        keep = _serves(shares, rows, numbers, scores, most)
        rows, classes, scores = rows[keep], classes[keep], scores[keep]
    order = np.argsort(classes, kind="stable")
    return Candidates(classes[order], hopeful[rows[order]], scores[order])


def _hopeful(
    logits: NDArray[np.float32],
    bias: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    columns: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """The rows that may have a probability above its class's threshold.

    A row's exponentials add up to at least those of some of its classes: here of the likeliest one
    of each of about ``C / 8`` groups. Few rows are left where even its likeliest class wouldn't
    exceed the lowest threshold. The bias is added to few values only: elsewhere its least or its
    greatest value in a group stands for it.
    """
    with np.errstate(divide="ignore"):
        bars = np.log(np.maximum(thresholds, 0))
    lowest = bars.min()
    over = (bias if columns is None else bias[columns]) - bars
    greatest, least_bias = _maxima_of_groups(bias[None]), -_maxima_of_groups(-bias[None])
    # A logarithm of a float32 is above -104: what is compared isn't far from the highest value.
    size = 104 + 2 * np.abs(bias).max()
    found = np.zeros(len(logits), bool)
    for start in range(0, len(logits), _CHUNK):
        part = logits[start : start + _CHUNK]
        likely = _maxima_of_groups(part)
        most = (likely + greatest).max(axis=1)
        likely += least_bias
        base = likely.max(axis=1)
        likely -= base[:, None]
        least = base + np.log(np.exp(likely, out=likely).sum(axis=1))
        least -= _ROUNDING * (np.abs(base) + size)
        some = np.flatnonzero(most - lowest > least)
        selected = part[some] if columns is None else part[np.ix_(some, columns)]
        selected += over
        found[start + some] = selected.max(axis=1) > least[some]
    return np.flatnonzero(found)


def _maxima_of_groups(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(n, C)`` to about ``(n, C / 8)``: the highest values of groups of about eight columns."""
    maxima = values
    for _ in range(_FOLDS):
        half, odd = divmod(maxima.shape[1], 2)
        if not half:
            break
        folded = np.maximum(maxima[:, :half], maxima[:, half : 2 * half])
        if odd:
            np.maximum(folded[:, 0], maxima[:, -1], out=folded[:, 0])
        maxima = folded
    return maxima.copy() if maxima is values else maxima


def _serves(
    shares: NDArray[np.float32],
    rows: NDArray[np.int64],
    classes: NDArray[np.int64],
    scores: NDArray[np.float32],
    most: int,
) -> NDArray[np.bool_]:
    """Which candidates are among the ``most`` likeliest classes of their row."""
    if most >= shares.shape[1]:
        return np.ones(len(rows), bool)
    # Shares add up to 1, so what has more than 1 / (most + 1) is among them.
    keep = scores > 1.001 / (most + 1)
    doubtful = np.flatnonzero(~keep)
    selected = np.unique(rows[doubtful])
    likely = _likeliest(shares[selected], most)
    keep[doubtful] = likely[np.searchsorted(selected, rows[doubtful]), classes[doubtful]]
    return keep


def _likeliest(shares: NDArray[np.float32], most: int) -> NDArray[np.bool_]:
    """Which are among the ``most`` highest of their row, ``(n, C)``."""
    at = shares.shape[1] - most
    least = np.partition(shares, at, axis=1)[:, at : at + 1]
    likely = shares >= least
    if np.count_nonzero(likely) == most * len(likely):  # none are equally likely
        return likely
    for row in np.flatnonzero(np.count_nonzero(likely, axis=1) > most).tolist():
        likely[row] = False
        likely[row, np.argsort(-shares[row], kind="stable")[:most]] = True
    return likely
