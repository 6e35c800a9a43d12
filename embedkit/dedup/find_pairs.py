"""Finds near-duplicate pairs: candidates, a score for each, verification of the doubtful ones."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from embedkit.dedup.candidates.candidate_threshold import candidate_cosine_threshold
from embedkit.dedup.candidates.collect import find_candidates
from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.gpu_join import resolve_join_device
from embedkit.dedup.candidates.joins import ExactJoin, IvfJoin, WhitenedJoin
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.pairs import PairsInfo
from embedkit.dedup.scoring.calibration import PRECISION, calibration_for
from embedkit.dedup.scoring.cosine_rule import COSINE_THRESHOLD, score_by_cosine
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.scorer import Scorer, select_pairs
from embedkit.errors import StoreMismatchError
from embedkit.store import EmbeddingStore
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import ignore_progress
from embedkit.utils.vectors import first_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import ThresholdJoin
    from embedkit.dedup.pairs import Pairs
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.verification.batch import Pixels

__all__ = ["CANDIDATES_PER_IMAGE", "Mode", "check_scoring", "find_pairs"]

Mode = Literal["auto", "exact", "approximate"]

CANDIDATES_PER_IMAGE = 30.0
"""Images that each image is scored with, on average, beside its copies."""

_EXACT_PAIRS = 2e12  # of rows: 1.4 million images with each other
_BY_COSINE_IF_VERIFIED = 0.25  # of candidates_per_image


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
    candidates_per_image: float = CANDIDATES_PER_IMAGE,
    max_pairs: int = MAX_PAIRS,
    device: str = "cpu",
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Pairs:
    """Finds the pairs of images that are near-duplicates (copies) of each other.

    A pair is a candidate if the contents are equal, if the cosine of the embeddings is at least
    ``min_cosine``, if the perceptual hashes differ in at most ``max_hamming`` bits, or, with
    ``verify``, if the whitened embeddings are near. The calibration scores each candidate by all
    of these together. Of equal rows (in content, in embedding, in perceptual hash) the first one is
    compared with the others and paired with its equals: n equal images are n - 1 pairs.

    Args:
        store: A store file or folder.
        against: Another store of the same backbone: pairs between the two instead of within one.
        threshold: The least score; None takes the calibration's threshold for ``precision``.
        precision: Target share of the returned pairs that are copies.
        mode: ``exact`` finds every candidate; ``approximate`` compares embeddings only within IVF
            cells and measures its recall; ``auto`` is exact up to about 1.4 million images.
        calibration: The models that score; None takes the built-in calibration for the backbone,
            or a guess where there is none. ``"cosine"`` scores a pair by its cosine alone (equal
            content scores 1), with a threshold of 0.95 unless ``threshold`` is given.
        min_cosine: The least cosine of a candidate; None takes the cosine that each image has with
            about ``candidates_per_image`` others.
        max_hamming: The most differing bits of a candidate's perceptual hashes; None finds no
            candidates by them, though they still count in the score.
        verify: Gives an image's pixels, ``(H, W, 3)`` uint8 RGB, by its id; doubtful pairs are then
            verified geometrically. If it raises an `EmbedkitError`, the pair stays unverified.
        verify_against: The same for the other store, whose images may have the same ids; None takes
            ``verify``.
        views: By name, ``(N, D)`` embeddings of the store's images mirrored or turned, to find
            mirrored and turned copies.
        candidates_per_image: How many other images each one is scored with, on average, beside its
            copies; fewer where that would make more than four million pairs.
        max_pairs: More candidates are refused.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: where the exact join runs. The pairs are
            the same on each.
        on_progress: Called with (stage, done, total).

    Returns:
        The pairs. A score is the probability that a pair is a copy if one in as many pairs is as
        there are images, see `Calibration`; 1 for equal content.

    Raises:
        StoreError: A store can't be read, or an embedding isn't finite.
        StoreMismatchError: The two stores were embedded with different settings.
        EmbedkitError: The calibration is for other embeddings, or there are too many pairs.
        MissingExtraError: ``verify`` needs OpenCV.
        ValueError: An argument is out of its range.
    """
    check_scoring(threshold, precision, max_hamming)
    _check_candidates(mode, min_cosine, candidates_per_image)
    if calibration == "cosine" and (verify is not None or views):
        raise ValueError('calibration="cosine" compares embeddings alone: no pixels, no views')
    if verify is not None:
        require_extra("cv2", "verify", "verification on pixels")
    on_progress = on_progress or ignore_progress
    views = views or {}
    with ExitStack() as stack:
        opened = stack.enter_context(EmbeddingStore.open(store))
        other = None
        if against is not None:
            other = stack.enter_context(EmbeddingStore.open(against))
            _refuse_mixed(opened, other)
        _check_views(opened, views)
        left, right = DedupInput(opened), None if other is None else DedupInput(other)
        size = len(left) * len(right or left)
        exact = mode == "exact" or (mode == "auto" and size <= _EXACT_PAIRS)
        join = partial(
            ExactJoin if exact else IvfJoin, max_pairs=max_pairs, on_progress=on_progress,
            device=resolve_join_device(device, size) if exact else "cpu",
        )  # fmt: skip
        info = PairsInfo(
            threshold=COSINE_THRESHOLD if threshold is None else threshold,
            mode="exact" if exact else "approximate",
            calibration="cosine",
            rows=len(left),
            against_rows=None if right is None else len(right),
        )
        if calibration == "cosine":
            by_cosine = join(max(info.threshold, min_cosine or -1))
            candidates = find_candidates(left, right, [by_cosine], None)
            info = replace(info, recall=by_cosine.recall)
            return score_by_cosine(left, right, candidates, info)
        used = calibration_for(opened, calibration)
        background = learn_background((right or left).distinct, right or left, used)
        least_cosine = partial(
            candidate_cosine_threshold, left, right, background, used, max_pairs=max_pairs
        )
        if min_cosine is None:  # whitened embeddings rank better: with pixels, fewer by cosine
            share = 1 if verify is None else _BY_COSINE_IF_VERIFIED
            min_cosine = least_cosine(candidates_per_image * share)
        embedding_joins = [join(min_cosine)]
        joins: list[ThresholdJoin] = [*embedding_joins]
        if verify is not None:  # copies that only pixels confirm must be candidates too
            embedding_joins.append(join(least_cosine(candidates_per_image, whitened=True)))
            joins.append(WhitenedJoin(embedding_joins[-1], background.whitening))
        candidates = find_candidates(
            left, right, joins, max_hamming, list(views.values()), max_pairs
        )
        least = threshold
        if least is None:
            least = used.threshold_for(precision, verified=verify is not None)
        recall = min((j.recall for j in embedding_joins if j.recall is not None), default=None)
        info = replace(info, threshold=least, recall=recall, calibration=used.name)
        scorer = Scorer(left, right, used, background, views, on_progress)
        found = scorer.score(candidates, info, verify, verify_against)
        return select_pairs(found, used, threshold, precision)


def check_scoring(threshold: float | None, precision: float, max_hamming: int | None) -> None:
    """Refuses numbers outside their ranges, before any work.

    Raises:
        ValueError: A number is outside its range.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1, not {threshold}")
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision}")
    if max_hamming is not None and not 0 <= max_hamming <= 64:
        raise ValueError(f"max_hamming must be from 0 to 64, not {max_hamming}")


def _check_candidates(mode: Mode, min_cosine: float | None, candidates_per_image: float) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    if min_cosine is not None and not -1 <= min_cosine <= 1:
        raise ValueError(f"min_cosine must be from -1 to 1, not {min_cosine}")
    if not candidates_per_image >= 0:
        raise ValueError(f"candidates_per_image must not be negative: {candidates_per_image}")


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
