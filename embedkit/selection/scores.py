"""From rows to candidates: softmax, each image's likeliest classes, the classes' thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.classification.head import softmax
from embedkit.selection.best import Candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["candidates"]

_MANY = 2  # times what can stay, of candidates
_ROUNDING = 1e-3  # of a logarithm: by far more than those of the exponentials and of their sums


def candidates(
    logits: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    columns: NDArray[np.int64] | None,
    most: int,
) -> Candidates:
    """What may be among the best: above its class's threshold, and one of its image's classes.

    Args:
        logits: ``(n, C)``, each row's maximum 0; may be overwritten.
        thresholds: ``(S,)`` of probabilities, one for each class that is selected for.
        columns: ``(S,)`` these classes; None for all C.
        most: How many of its likeliest classes an image may serve; of equally likely ones the
            first count.

    Returns:
        Classes as numbers in ``columns``, rows from 0.
    """
    hopeful = _hopeful(logits, thresholds, columns)
    shares = softmax(logits if len(hopeful) == len(logits) else logits[hopeful])
    asked = shares if columns is None else shares[:, columns]
    passed = asked > thresholds
    many = np.count_nonzero(passed) > _MANY * most * len(passed)
    if many:  # the thresholds have yet to rise
        likely = _likeliest(shares, min(most, shares.shape[1]))
        passed &= likely if columns is None else likely[:, columns]
    rows, classes = np.divmod(np.flatnonzero(passed), passed.shape[1])
    scores = asked[rows, classes]
    if not many:
        numbers = classes if columns is None else columns[classes]
        keep = _serves(shares, rows, numbers, scores, most)
        rows, classes, scores = rows[keep], classes[keep], scores[keep]
    order = np.argsort(classes, kind="stable")
    return Candidates(classes[order], hopeful[rows[order]], scores[order])


def _hopeful(
    logits: NDArray[np.float32], thresholds: NDArray[np.float32], columns: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """The rows that may have a probability above its class's threshold.

    The exponentials of a row whose maximum is 0 add up to at least 1, so that none of its
    probabilities is above its own exponential.
    """
    with np.errstate(divide="ignore"):
        bars = np.log(np.maximum(thresholds, 0)) - np.float32(_ROUNDING)
    asked = logits if columns is None else logits[:, columns]
    return np.flatnonzero((asked > bars).any(axis=1))


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
    asked = np.unique(rows[doubtful])
    likely = _likeliest(shares[asked], most)
    keep[doubtful] = likely[np.searchsorted(asked, rows[doubtful]), classes[doubtful]]
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
