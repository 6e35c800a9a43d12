"""The model that scores pairs by their embeddings and by the thumbnails in the stores, together.

Embeddings alone can't tell an image's crop from another photograph of the same person. Thumbnails
can (see ``overlay``), though not where an image was turned by a few degrees or has much drawn over
it: then the embeddings decide. It was fitted on portraits with their crops and on heavily edited
photographs, with the calibration's log-odds as a feature, and is the same for all backbones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.scoring.logistic import LogisticModel, least_score
from embedkit.dedup.scoring.overlay import Distances, SmallPictures, overlay_distances
from embedkit.dedup.scoring.pixel_model import prior_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.representatives import DedupInput

    Ints = NDArray[np.int64]

__all__ = [
    "have_thumbnails",
    "threshold_for",
    "thumbnail_distances",
    "thumbnail_features",
    "thumbnail_odds",
    "turn_of_view",
]

_MODEL = LogisticModel(
    features=(
        "embedding", "levels 1", "levels 3", "levels 5",
        "slopes 0.5", "slopes 1.5", "slopes 2.5", "slopes 3.5",
    ),
    mean=(0.0,) * 8,
    scale=(1.0,) * 8,
    weights=(0.387, 0.026, -2.134, 3.972, 0.6, 2.144, 4.066, 4.895),
    bias=-1.195,
)  # fmt: skip
_PRIOR = -2.704  # log-odds of a copy among the pairs that it was fitted on
_LEAST_PRIOR = -10.0  # of a store: candidates are many, and copies among them may be few
_CERTAIN = 14.0  # log-odds by embeddings: none is surer
_LEAST_ODDS = -8.0  # by embeddings, below which thumbnails aren't looked at
_MOST_LAID = 300_000  # pairs whose thumbnails are compared, the likeliest first
_THRESHOLDS = ((0.9, 0.9), (0.95, 0.95), (0.98, 0.98), (0.99, 0.99))
_TURNS = 8
_SAME, _SAME_SLOPES = 5e-4, 5e-3  # distances that scaling and compression leave


def have_thumbnails(*inputs: DedupInput | None) -> bool:
    """Whether all of these stores have thumbnails."""
    return all("thumbnail" in one.store.columns for one in inputs if one is not None)


def thumbnail_distances(
    left: DedupInput,
    right: DedupInput | None,
    first: Ints,
    second: Ints,
    odds: NDArray[np.float64],
    turns: Ints,
) -> Distances:
    """How far pairs are from one image being a part of the other, as ``overlay_distances`` says.

    Args:
        left: The store.
        right: The other store; None: pairs within the one.
        first: ``(P,)`` rows of the store.
        second: ``(P,)`` rows of the other store, or of the same one.
        odds: ``(P,)`` log-odds by the embeddings; of hopeless pairs no thumbnails are looked at.
        turns: ``(P,)`` how the first image was turned for that, as ``turn_of_view`` gives.

    Returns:
        Of all pairs; 1 of hopeless ones; NaN where a store doesn't know one of the two, and of the
        less likely pairs where too many are likely.
    """
    distances = Distances.full(len(odds), np.nan)
    hopeless = np.flatnonzero(~(odds > _LEAST_ODDS))
    distances.put(hopeless, Distances.full(len(hopeless), 1))
    likely = np.flatnonzero(odds > _LEAST_ODDS)
    order = likely[np.argsort(-odds[likely], kind="stable")]
    likely = order[:_MOST_LAID]
    if len(likely):
        pictures, places = _pictures(
            (left, first[likely], turns[likely]),
            (right or left, second[likely], np.zeros_like(likely)),
        )
        is_known = np.asarray(pictures.gray.any(axis=(1, 2)))
        known = is_known[places[0]] & is_known[places[1]]
        found = overlay_distances(pictures, places[0][known], places[1][known])
        distances.put(likely[known], found)
    return distances


def thumbnail_odds(odds: NDArray[np.float64], distances: Distances) -> NDArray[np.float64]:
    """Log-odds of copies, ``(P,)``, with the share of copies that all pairs together suggest.

    NaN of pairs whose distances aren't known. These are counted in that share by the embeddings: if
    only the likeliest pairs of a store were, copies would seem to be as many as these pairs.

    Args:
        odds: ``(P,)`` by the embeddings.
        distances: Of the thumbnails.
    """
    known = ~np.isnan(distances.levels)
    apart = Distances(*(np.where(known, one, 1) for one in distances))
    found = _MODEL.log_odds(thumbnail_features(odds, apart)) - _PRIOR
    return np.where(known, found + prior_of(found, _LEAST_PRIOR), np.nan)


def thumbnail_features(
    odds: NDArray[np.float64], distances: Distances
) -> dict[str, NDArray[np.float64]]:
    """The log-odds by the embeddings, and the distances as logarithms, in parts: ``(P,)`` each."""
    levels = -np.log(distances.levels.astype(np.float64) + _SAME)
    slopes = -np.log(np.minimum(distances.slopes.astype(np.float64), 1) + _SAME_SLOPES)
    parts = {f"levels {least}": np.clip(levels - least, 0, 2) for least in (1, 3, 5)}
    parts |= {f"slopes {least}": np.clip(slopes - least, 0, 1) for least in (0.5, 1.5, 2.5, 3.5)}
    return {"embedding": np.clip(odds, -_CERTAIN, _CERTAIN), **parts}


def _pictures(*sides: tuple[DedupInput, Ints, Ints]) -> tuple[SmallPictures, list[Ints]]:
    """The thumbnails of rows of each side, turned, each once; and which is whose."""
    gray: list[NDArray[np.uint8]] = []
    shapes: list[NDArray[np.float32]] = []
    places: list[Ints] = []
    count = 0
    for side, rows, turns in sides:
        keys, place = np.unique(rows * _TURNS + turns, return_inverse=True)
        row, turn = np.divmod(keys, _TURNS)
        found, shape = side.store.thumbnails(row), side.shapes[row]
        for one in np.unique(turn[turn > 0]).tolist():
            mine, quarters = turn == one, one % 4
            mirrored = found[mine][:, :, ::-1] if one >= 4 else found[mine]
            found[mine] = np.rot90(mirrored, quarters, (1, 2))
            shape[mine] **= (-1) ** quarters
        places.append(place + count)
        gray.append(found)
        shapes.append(shape)
        count += len(keys)
    return SmallPictures(np.concatenate(gray), np.concatenate(shapes)), places


def turn_of_view(name: str) -> int:
    """How a view was turned: quarters to the left, and 4 more if it was mirrored before."""
    return int(name.rpartition("-")[2]) // 90 + 4 * name.startswith("mirrored")


def threshold_for(precision: float) -> float:
    """The least score from which on a share ``precision`` of the pairs were copies.

    Measured on portraits with their crops and on heavily edited photographs; the next higher
    measured precision is taken, or the highest.
    """
    return least_score(precision, _THRESHOLDS)
