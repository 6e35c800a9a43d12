"""Finding the pairs of copies: candidates, one score for each, and a look at those in doubt."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from embedkit.dedup.candidates.collect import find_candidates
from embedkit.dedup.candidates.cosine_floor import find_floor
from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.gpu_join import join_device
from embedkit.dedup.candidates.joins import CellJoiner, ExactJoiner, WhitenedJoiner
from embedkit.dedup.candidates.representatives import Side
from embedkit.dedup.pairs import PairsInfo
from embedkit.dedup.scoring.calibration import PRECISION, calibration_for
from embedkit.dedup.scoring.cosine_rule import COSINE_THRESHOLD, score_by_cosine
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.scorer import Scorer, select_pairs
from embedkit.errors import StoreMismatchError
from embedkit.store import EmbeddingStore
from embedkit.utils.progress import ignore_progress
from embedkit.utils.vectors import first_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import Joiner
    from embedkit.dedup.pairs import Pairs
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.verification.batch import Pixels

__all__ = ["LOOKS", "Mode", "check_scoring", "find_pairs"]

Mode = Literal["auto", "exact", "approximate"]

LOOKS = 30.0
"""How many others each image is scored with."""

_EXACT_PAIRS = 2e12  # of rows: 1.4 million images with each other


def find_pairs(
    store: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    precision: float = PRECISION,
    mode: Mode = "auto",
    calibration: Calibration | Literal["cosine"] | None = None,
    min_cosine: float | None = None,
    max_hamming: int | None = 7,
    verify: Pixels | None = None,
    verify_against: Pixels | None = None,
    views: Mapping[str, NDArray[np.floating]] | None = None,
    looks: float = LOOKS,
    max_pairs: int = MAX_PAIRS,
    device: str = "cpu",
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Pairs:
    """Finds the pairs of images that are copies of each other.

    A pair is a candidate if the bytes are equal, if the cosine of the embeddings is at least
    ``min_cosine``, or if the perceptual hashes differ in at most ``max_hamming`` bits; with
    ``verify`` also if the embeddings are as near after whitening. It is then
    scored by all of these together, and returned if the score is at least ``threshold``. Rows that
    are equal (in bytes, in embedding, in perceptual hash) are paired with the first of them, and
    only that one with the others: n equal images are n - 1 pairs.

    Args:
        store: A store file or folder.
        against: Another store of the same backbone: pairs between the two instead of within one.
        threshold: The least score; None takes what the calibration found for ``precision``.
        precision: The share of what is found that shall be copies.
        mode: ``exact`` misses no pair that is to be looked at; ``approximate`` compares the
            embeddings within cells only, and measures what it misses; ``auto`` is exact up to a
            million images or so.
        calibration: What scores; None takes the one that comes for the backbone, else a guess.
            ``"cosine"`` is the plain rule: a pair's score is its cosine, 0.95 or more unless
            ``threshold`` says otherwise, and nothing else counts but equal bytes.
        min_cosine: None takes a cosine that each image has with about ``looks`` others.
        max_hamming: None leaves the perceptual hashes out of the search (not out of the score).
        verify: Gives an image's pixels, ``(H, W, 3)`` uint8 RGB, by its id; pairs in doubt are
            then looked at. An `EmbedkitError` of it leaves a pair unchecked.
        verify_against: The same of the other store, whose images may have the same ids; None takes
            ``verify``.
        views: By name, ``(N, D)`` embeddings of the store's images mirrored or turned, to find
            copies of that kind by.
        looks: How many other images each one is scored with, on average, beside its copies; fewer
            where that would make more than four million pairs.
        max_pairs: More candidates are refused.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: where every pair is compared. The pairs
            are the same everywhere.
        on_progress: Told what is done, how much of how much.

    Returns:
        The pairs. A score is the probability that a pair is a copy if one in as many pairs is as
        there are images, see `Calibration`; 1 for equal bytes.

    Raises:
        StoreError: A store can't be read, or an embedding isn't finite.
        StoreMismatchError: The two stores were embedded otherwise.
        EmbedkitError: The calibration is for other embeddings, or there are too many pairs.
        MissingExtraError: ``verify`` needs OpenCV.
        ValueError: An argument is out of its range.
    """
    check_scoring(threshold, precision, max_hamming)
    _check_candidates(mode, min_cosine, looks)
    if calibration == "cosine" and (verify is not None or views):
        raise ValueError('calibration="cosine" compares embeddings alone: no pixels, no views')
    tell = on_progress or ignore_progress
    views = views or {}
    with ExitStack() as stack:
        opened = stack.enter_context(EmbeddingStore.open(store))
        other = None
        if against is not None:
            other = stack.enter_context(EmbeddingStore.open(against))
            _refuse_mixed(opened, other)
        _check_views(opened, views)
        left, right = Side(opened), None if other is None else Side(other)
        exact = mode == "exact" or (
            mode == "auto" and len(left) * len(right or left) <= _EXACT_PAIRS
        )
        join = ExactJoiner if exact else CellJoiner
        place = join_device(device, len(left) * len(right or left)) if exact else "cpu"
        info = PairsInfo(
            threshold=COSINE_THRESHOLD if threshold is None else threshold,
            mode="exact" if exact else "approximate",
            calibration="cosine",
            rows=len(left),
            against_rows=None if right is None else len(right),
        )
        if calibration == "cosine":
            joiner = join(max(info.threshold, min_cosine or -1), max_pairs, tell, place)
            candidates = find_candidates(left, right, [joiner], None)
            info = replace(info, recall=joiner.recall)
            return score_by_cosine(left, right, candidates, info)
        used = calibration_for(opened, calibration)
        background = learn_background((right or left).distinct, right or left, used)
        floor = partial(find_floor, left, right, background, used, max_pairs=max_pairs)
        if min_cosine is None:  # whitened embeddings rank better: pixels leave little to others
            min_cosine = floor(looks if verify is None else looks / 4)
        joiners = [join(min_cosine, max_pairs, tell, place)]
        joins: list[Joiner] = [*joiners]
        if verify is not None:  # what only pixels can tell must be found to be looked at
            joiners.append(join(floor(looks, whitened=True), max_pairs, tell, place))
            joins.append(WhitenedJoiner(joiners[-1], background.whitening))
        candidates = find_candidates(
            left, right, joins, max_hamming, list(views.values()), max_pairs
        )
        least = threshold
        if least is None:
            least = used.threshold_for(precision, checked=verify is not None)
        recall = min((j.recall for j in joiners if j.recall is not None), default=None)
        info = replace(info, threshold=least, recall=recall, calibration=used.name)
        scorer = Scorer(left, right, used, background, views, tell)
        found = scorer.score(candidates, info, verify, verify_against)
        return select_pairs(found, used, threshold, precision)


def check_scoring(threshold: float | None, precision: float, max_hamming: int | None) -> None:
    """Refuses numbers out of their ranges, before any work.

    Raises:
        ValueError: One is.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1, not {threshold}")
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
    if max_hamming is not None and not 0 <= max_hamming <= 64:
        raise ValueError(f"max_hamming must be from 0 to 64, not {max_hamming}")


def _check_candidates(mode: Mode, min_cosine: float | None, looks: float) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    if min_cosine is not None and not -1 <= min_cosine <= 1:
        raise ValueError(f"min_cosine must be from -1 to 1, not {min_cosine}")
    if not looks >= 0:
        raise ValueError(f"looks must not be negative: {looks}")


def _refuse_mixed(store: EmbeddingStore, other: EmbeddingStore) -> None:
    differences = store.meta.differences(other.meta)
    if differences:
        raise StoreMismatchError(str(other.path), differences)


def _check_views(store: EmbeddingStore, views: Mapping[str, NDArray[np.floating]]) -> None:
    shape = len(store), store.meta.feature_dim
    for name, rows in views.items():
        if rows.shape != shape:
            raise ValueError(f"the view {name!r} is {rows.shape}, the store {shape}")
        bad = first_not_finite(rows)
        if bad is not None:
            raise ValueError(f"row {bad} of the view {name!r} isn't finite")
