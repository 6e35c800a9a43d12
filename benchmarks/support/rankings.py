"""How well a list of scored pairs tells copies from other pairs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.metrics import micro_ap, recall_at_precision, reliability

SURE = 0.99


@dataclass(frozen=True)
class Scored:
    """Pairs with their scores, as one method found them.

    Attributes:
        pairs: ``(P, 2)`` numbers of images, each pair once.
        scores: ``(P,)``, the higher the likelier a copy.
        threshold: From which on the method calls a pair a copy by default; None where it has none.
        sure: The score that is as good as certain by what the method says; None where it says none.
        is_probability: Whether a score claims to be the probability of a copy.
        cpu: Seconds of one core.
    """

    pairs: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float | None = None
    sure: float | None = None
    is_probability: bool = False
    cpu: float = 0.0

    def where(self, kept: NDArray[np.bool_]) -> "Scored":
        """Some of the pairs."""
        return Scored(
            self.pairs[kept], self.scores[kept], self.threshold, self.sure, self.is_probability,
            self.cpu,
        )  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """Which pairs are copies.

    Attributes:
        pairs: ``(T, 2)`` numbers of images, each pair once, in the order that ``Scored`` has.
    """

    pairs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pairs)

    def has(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of ``(P, 2)`` pairs are copies, ``(P,)``."""
        return is_among(pairs, self.pairs)

    @classmethod
    def of_groups(cls, group: NDArray[np.int64]) -> "Truth":
        """All pairs of images of the same group, of ``(N,)`` groups."""
        order = np.argsort(group, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        pairs = [(one, other) for some in groups for one in some for other in some if one < other]
        return cls(np.array(pairs, np.int64).reshape(-1, 2))


def is_among(pairs: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``(P, 2)`` pairs are among others, ``(P,)``."""
    return np.isin(_keys(pairs), _keys(others))


def _keys(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    table = np.asarray(pairs, np.int64).reshape(-1, 2)
    return table[:, 0] << 32 | table[:, 1]


def area(found: Scored, truth: Truth) -> str:
    """Micro-AP; true pairs that have no score count as missing."""
    return _told(micro_ap(found.scores, truth.has(found.pairs), positives=len(truth)))


def recall_at(found: Scored, truth: Truth, precision: float) -> str:
    """The highest recall at which the precision is reached."""
    is_true = truth.has(found.pairs)
    recall, _ = recall_at_precision(found.scores, is_true, precision, positives=len(truth))
    return _told(recall)


def precision_and_recall(found: Scored, truth: Truth, threshold: float | None) -> tuple[str, str]:
    """From a threshold on; empty where there is none, a dash where nothing reaches it."""
    if threshold is None:
        return "", ""
    listed = found.scores >= np.float32(threshold)
    hits = int(truth.has(found.pairs[listed]).sum())
    precision = _told(hits / int(listed.sum())) if listed.any() else "-"
    return precision, _told(hits / max(len(truth), 1))


def calibration_error(found: Scored, truth: Truth) -> str:
    """Expected calibration error, of ten bins of equal width; empty of scores of another kind."""
    if not found.is_probability or not len(found.scores):
        return ""
    return f"{reliability(found.scores, truth.has(found.pairs)).error:.4f}"


def _told(share: float) -> str:
    return f"{share:.3f}"
