"""Finds near-duplicate pairs: candidates, a score for each, verification of the doubtful ones."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from embedkit.dedup.candidates.candidate_threshold import candidate_cosine_threshold
from embedkit.dedup.candidates.collect import find_candidates
from embedkit.dedup.candidates.gpu_join import resolve_join_device
from embedkit.dedup.candidates.joins import ExactJoin, IvfJoin, WhitenedJoin
from embedkit.dedup.candidates.ranked_pairs import rank_candidates
from embedkit.dedup.candidates.ray_cells import RayJoin
from embedkit.dedup.candidates.ray_nearest import RayNearest
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.pairs import PairsInfo
from embedkit.dedup.scoring.calibration import calibration_for
from embedkit.dedup.scoring.cosine_rule import COSINE_THRESHOLD, score_by_cosine
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.pixel_model import SCENE_THRESHOLD
from embedkit.dedup.scoring.pixel_model import threshold_for as pixel_threshold
from embedkit.dedup.scoring.scorer import Scorer
from embedkit.dedup.scoring.thumbnail_model import have_thumbnails
from embedkit.dedup.verified_search import verify_candidates
from embedkit.errors import StoreMismatchError
from embedkit.store import EmbeddingStore
from embedkit.utils.extras import require_extra
from embedkit.utils.vectors import first_not_finite

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import Candidates, ThresholdJoin
    from embedkit.dedup.candidates.ranked_pairs import RankedPairs
    from embedkit.dedup.pairs import Pairs
    from embedkit.dedup.verification.batch import Comparer, Pixels
    from embedkit.dedup.verification.compared_pairs import ComparedPairs
    from embedkit.distributed.cluster import RayCluster

__all__ = ["find_pairs"]

_log = logging.getLogger("embedkit")
_Candidates = TypeVar("_Candidates", "Candidates", "RankedPairs")

_EXACT_PAIRS = 2e12  # of rows: 1.4 million images with each other
_WHITENED_PAIRS = 4e10  # up to which near whitened rows are candidates, too: 200,000 images


def find_pairs(
    store: str | os.PathLike[str],
    config: DedupConfig | None = None,
    *,
    against: str | os.PathLike[str] | None = None,
    verify: Pixels | None = None,
    verify_against: Pixels | None = None,
    compared: ComparedPairs | None = None,
    views: Mapping[str, NDArray[np.floating]] | None = None,
    new: Sequence[NDArray[np.bool_]] | None = None,
    device: str = "cpu",
    cluster: RayCluster | None = None,
    comparer: Comparer | None = None,
) -> Pairs:
    """Finds the pairs of images that are near-duplicates (copies) of each other.

    With ``verify``, the nearest images of each image are compared on their pixels, which decide.
    Otherwise a pair is a candidate if the contents are equal, if the cosine of the embeddings is at
    least ``min_cosine``, or if the perceptual hashes differ in at most ``max_hamming`` bits, and
    the calibration scores each candidate by all of these together. Of equal rows (in content, in
    embedding, in perceptual hash) the first one is compared with the others and paired with its
    equals: n equal images are n - 1 pairs.

    Args:
        store: A store file or folder.
        config: The settings; None takes the defaults. Its ``verify``, ``flip``, ``rotate`` and
            ``linkage`` are the caller's to carry out.
        against: Another store of the same backbone: pairs between the two instead of within one.
        verify: Gives an image's pixels, ``(H, W, 3)`` uint8 RGB, by its id; pairs are then verified
            on them. If it raises an `EmbedkitError`, the image is in no pair but of equal bytes.
        verify_against: The same for the other store, whose images may have the same ids; None takes
            ``verify``.
        compared: Keeps what is verified, for a run that goes on with an interrupted one.
        views: By name, ``(N, D)`` embeddings of the store's images mirrored or turned, to find
            mirrored and turned copies.
        new: For each store, ``(N,)`` bool: only pairs with one of these images are found, and those
            of equal content. None finds all.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: where the exact join runs. The pairs are
            the same on each.
        cluster: The Ray cluster whose workers compare embeddings, within cells of them; None for
            this process.
        comparer: Compares pairs on the pixels; None does so in this process.

    Returns:
        The pairs. A score is the probability that a pair is a copy: verified, with the share of
        copies that the store suggests; otherwise if one in as many pairs is one as there are
        images, see `Calibration`. 1 for equal content.

    Raises:
        StoreError: A store can't be read, or an embedding isn't finite.
        StoreMismatchError: The two stores were embedded with different settings.
        EmbedkitError: The calibration is for other embeddings, or there are too many pairs.
        MissingExtraError: ``verify`` needs OpenCV.
        ValueError: An argument is out of its range.
    """
    config = config or DedupConfig()
    threshold, calibration = config.threshold, config.calibration
    min_cosine, max_pairs = config.min_cosine, config.max_pairs
    if calibration == "cosine" and (verify is not None or views):
        raise ValueError('calibration="cosine" compares embeddings alone: no pixels, no views')
    if verify is not None:
        require_extra("cv2", "verify", "verification on pixels")
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
        exact = cluster is None and (
            config.mode == "exact" or (config.mode == "auto" and size <= _EXACT_PAIRS)
        )
        here: Callable[[float], ExactJoin] = partial(
            ExactJoin if exact else IvfJoin, max_pairs=max_pairs,
            device=resolve_join_device(device, size) if exact else "cpu",
        )  # fmt: skip
        join, finder = (here, None) if cluster is None else _on_ray(cluster, left, right, max_pairs)
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
            candidates = _with_new(candidates, new, left, right)
            info = replace(info, recall=by_cosine.recall)
            return score_by_cosine(left, right, candidates, info)
        used = calibration_for(opened, calibration)
        rough = None if verify is not None else used
        background = learn_background((right or left).distinct, right or left, rough)
        if verify is not None:
            near = find_candidates(left, right, (), config.max_hamming, (), max_pairs)
            ranked = rank_candidates(
                left, right, background.whitening, near, config, views=list(views.values()),
                finder=finder,
            )  # fmt: skip
            ranked = _with_new(ranked, new, left, right)
            if threshold is None:
                scenes = config.what == "scenes"
                threshold = SCENE_THRESHOLD if scenes else pixel_threshold(config.precision)
            info = replace(info, threshold=threshold, mode="approximate", calibration="pixels")
            readers = verify, verify_against or verify
            if compared is not None:
                _begin(compared, opened, other)
            found = verify_candidates(
                left, right, ranked, info, readers, what=config.what, new=new,
                compared=compared, comparer=comparer,
            )  # fmt: skip
            return found.where(found.score >= np.float32(threshold))
        if config.what == "scenes":
            raise ValueError('what="scenes" compares pixels: give verify')
        by_thumbnails = calibration is None and have_thumbnails(left, right)
        scorer = Scorer(left, right, used, background, views, by_thumbnails)
        return _without_pixels(scorer, config, join, new, info)


def _without_pixels(
    scorer: Scorer,
    config: DedupConfig,
    join: Callable[[float], ExactJoin],
    new: Sequence[NDArray[np.bool_]] | None,
    info: PairsInfo,
) -> Pairs:
    """The pairs by what the stores hold: embeddings, perceptual hashes, thumbnails."""
    left, right, threshold = scorer.left, scorer.right, config.threshold
    min_cosine, max_pairs = config.min_cosine, config.max_pairs
    if min_cosine is None:
        min_cosine = candidate_cosine_threshold(
            left, right, scorer.background, scorer.calibration, config.candidates_per_image,
            max_pairs=max_pairs,
        )  # fmt: skip
    by_cosine = join(min_cosine)
    joins: list[ThresholdJoin] = [by_cosine]
    is_few = len(left) * len(right or left) <= _WHITENED_PAIRS
    if scorer.by_thumbnails and config.min_cosine is None and is_few:
        joins.append(
            WhitenedJoin.chosen(
                left, right, scorer.background, scorer.calibration, config.candidates_per_image,
                max_pairs,
            )
        )  # fmt: skip
    candidates = find_candidates(
        left, right, joins, config.max_hamming, list(scorer.views.values()), max_pairs
    )
    candidates = _with_new(candidates, new, left, right)
    if threshold is None:
        threshold = scorer.threshold_for(config.precision)
    info = replace(info, threshold=threshold, recall=by_cosine.recall, calibration=scorer.name)
    found = scorer.score(candidates, info)
    return found.where(found.score >= np.float32(threshold))


def _on_ray(
    cluster: RayCluster, left: DedupInput, right: DedupInput | None, max_pairs: int
) -> tuple[Callable[[float], ExactJoin], RayNearest]:
    """What joins by a threshold, and what finds nearest rows, on a cluster."""
    stores = [left.store, *([] if right is None else [right.store])]
    second = None if right is None else right.distinct
    join = partial(RayJoin, max_pairs=max_pairs, cluster=cluster, stores=stores)
    return join, RayNearest(cluster, stores, second)


def _with_new(
    candidates: _Candidates,
    new: Sequence[NDArray[np.bool_]] | None,
    left: DedupInput,
    right: DedupInput | None,
) -> _Candidates:
    """The candidates of which an image is new, and those of equal content."""
    if new is None:
        return candidates
    first, second = candidates.first, candidates.second
    equal = left.contents[first] == (right or left).contents[second]
    return candidates.where(equal | new[0][first] | new[-1][second])


def _begin(compared: ComparedPairs, store: EmbeddingStore, other: EmbeddingStore | None) -> None:
    against = None if other is None else other.fingerprint
    known = compared.begin({"store": store.fingerprint, "against": against})
    if known:
        _log.info("%s pairs are verified already, by an interrupted search", f"{known:,}")


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
