"""Finds images far from all others, and labels that the nearest neighbours contradict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.analysis.outliers.exact_knn import nearest_others
from embedkit.store import EmbeddingStore
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.knn_votes import vote_weights
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from embedkit.store import StoreMeta
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Outlier", "Outliers", "find_outliers"]

_ROUNDING = 1e-6  # of a cosine of float32 rows, rather more
_MAD_TO_DEVIATION, _MEAN_TO_DEVIATION = 1.4826, 1.2533  # of a normal distribution


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image to look at.

    Attributes:
        kind: ``off-topic`` or ``label``.
        id: The image.
        row: Its row.
        score: Higher is more suspicious. Off-topic: by how many robust standard deviations its
            neighbours are farther away than those of the median image. Label: the share of the
            neighbours' votes for the suggested label, less that for its own.
        label: Its label; empty where it has none.
        suggested: The label that its neighbours vote for; empty for ``off-topic``.
        neighbors: Rows, cosines and labels of its nearest images, best first.
    """

    kind: Literal["off-topic", "label"]
    id: str
    row: int
    score: float
    label: str
    suggested: str
    neighbors: tuple[tuple[int, float, str], ...]


@dataclass(frozen=True, slots=True, repr=False)
class Outliers(Tabular):
    """Outliers of a store.

    Attributes:
        path: The store.
        meta: Metadata of the store.
        images: Number of images examined.
        k: Number of neighbours per image.
        recall: The share of the neighbours that an index found, measured; None if every pair was
            compared.
        off_topic: Isolated images, the most isolated first.
        labels: Contradicted labels, the most contradicted first.
    """

    path: Path
    meta: StoreMeta
    images: int
    k: int
    recall: float | None
    off_topic: tuple[Outlier, ...]
    labels: tuple[Outlier, ...]

    def _summary(self) -> str:
        return (
            f"{len(self.off_topic):,} off-topic images and {len(self.labels):,} doubtful labels of "
            f"{self.images:,} images in {str(self.path)!r}"
        )

    def _columns(self) -> dict[str, Any]:
        names = ("kind", "id", "score", "label", "suggested")
        found = (*self.off_topic, *self.labels)
        return {name: [getattr(one, name) for one in found] for name in names}


@plain_numbers
def find_outliers(
    store: str | os.PathLike[str],
    *,
    k: int = 10,
    top: int = 50,
    min_deviations: float = 3.0,
    index: str | os.PathLike[str] | None = None,
    progress: bool | ProgressCallback = False,
) -> Outliers:
    """Finds outliers by their nearest neighbours in the store.

    An image is off-topic if its mean cosine to its k nearest is lower than the median image's by
    ``min_deviations`` robust standard deviations (1.4826 x the median absolute deviation; where
    that is 0, 1.2533 x the mean one). A label
    is suspicious if its neighbours, whose votes weigh ``exp(cosine / 0.07)``, give another label
    more than its own. Images without a label neither vote nor are judged.

    Args:
        store: A store file or folder.
        k: Number of neighbours per image.
        top: Maximum number of outliers per kind.
        min_deviations: Minimum isolation of an off-topic image.
        index: An index of the same images, which finds most of the neighbours in much less time;
            None compares all pairs.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        IndexFileError: The index can't be read, or is of other images.
        StoreError: The store can't be read, or an embedding isn't finite.
        ValueError: ``k`` or ``top`` is less than 1.
    """
    for name, value in {"k": k, "top": top}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    with reporting(progress), EmbeddingStore.open(store) as opened:
        rows, cosines, recall = _neighbors(opened, k, index)
        labels = opened.labels or [""] * len(opened)
        finder = _Finder(opened, labels, rows, cosines)
        isolation = _deviations(cosines)
        off_topic = [
            finder.outlier("off-topic", row, float(isolation[row]), "")
            for row in _highest(isolation, top)
            if isolation[row] >= min_deviations
        ]
        contradiction, suggested = _contradiction(labels, rows, cosines)
        wrong = [
            finder.outlier("label", row, float(contradiction[row]), suggested[row])
            for row in _highest(contradiction, top)
            if contradiction[row] > 0
        ]
        count = rows.shape[1]
        return Outliers(
            Path(store), opened.meta, len(opened), count, recall, tuple(off_topic), tuple(wrong)
        )


def _neighbors(
    store: EmbeddingStore, k: int, index: str | os.PathLike[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32], float | None]:
    """Rows and cosines of each image's nearest others, and the share that was found."""
    if index is None:
        return *nearest_others(store, k), None
    from embedkit.analysis.outliers.index_knn import indexed_others

    return indexed_others(store, index, k)


@dataclass(frozen=True, slots=True)
class _Finder:
    store: EmbeddingStore
    labels: list[str]
    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]

    def outlier(
        self, kind: Literal["off-topic", "label"], row: int, score: float, suggested: str
    ) -> Outlier:
        """The outlier entry of a row."""
        pairs = zip(self.rows[row].tolist(), self.cosines[row].tolist(), strict=True)
        near = tuple((other, cosine, self.labels[other]) for other, cosine in pairs)
        return Outlier(kind, self.store.ids[row], row, score, self.labels[row], suggested, near)


def _highest(scores: NDArray[np.float64], top: int) -> list[int]:
    """The rows of the highest scores, best first; of equal ones the lower row."""
    return [int(row) for row in np.argsort(-scores, kind="stable")[:top]]


def _deviations(cosines: NDArray[np.float32]) -> NDArray[np.float64]:
    """How isolated each image is, in robust standard deviations; 0 where all are alike."""
    if not cosines.size:
        return np.zeros(len(cosines))
    distance = 1 - cosines.mean(axis=1, dtype=np.float64)
    away = distance - np.median(distance)
    away[np.abs(away) <= _ROUNDING] = 0
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(away)))
    if deviation == 0:  # more than half are equally isolated, as in a store of many copies
        deviation = _MEAN_TO_DEVIATION * float(np.mean(np.abs(away)))
    return away / deviation if deviation > 0 else np.zeros(len(cosines))


def _contradiction(
    labels: list[str], rows: NDArray[np.int64], cosines: NDArray[np.float32]
) -> tuple[NDArray[np.float64], list[str]]:
    """How far another label's vote share exceeds that of the own label, and that label."""
    names, numbers = np.unique(np.array(labels, object).astype(str), return_inverse=True)
    excess, suggested = np.zeros(len(labels)), [""] * len(labels)
    for row, own in enumerate(labels):
        voters = numbers[rows[row]]
        counted = names[voters] != ""
        if not own or not counted.any():
            continue
        weights = np.where(counted, vote_weights(cosines[row].astype(np.float64)), 0)
        votes = np.bincount(voters, weights, len(names)) / weights.sum()
        mine = votes[numbers[row]]
        votes[numbers[row]] = -1
        winner = int(votes.argmax())
        excess[row], suggested[row] = votes[winner] - mine, str(names[winner])
    return excess, suggested
