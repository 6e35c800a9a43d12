"""The whole near-duplicate search: opens stores and source images, finds pairs, groups them."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.config import CANDIDATES_PER_IMAGE, DedupConfig
from embedkit.dedup.find_pairs import find_pairs
from embedkit.dedup.results import collect
from embedkit.dedup.scoring.calibration import PRECISION
from embedkit.distributed.cluster import RayCluster
from embedkit.errors import MissingExtraError, SourceError
from embedkit.extraction.augmented_views import embed_views
from embedkit.extraction.source_images import OriginalImages, hashes_of, policy_of
from embedkit.store import EmbeddingStore
from embedkit.tabular import valid_text
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.config import Mode, What
    from embedkit.dedup.groups.grouping import Linkage
    from embedkit.dedup.pairs import Pairs
    from embedkit.dedup.results import Duplicates
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.dedup.verification.batch import Comparer
    from embedkit.utils.progress import ProgressCallback

__all__ = ["find_duplicates", "images_of", "search_pairs"]

_log = logging.getLogger("embedkit")


@plain_numbers
def find_duplicates(
    store: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    root: str | os.PathLike[str] | None = None,
    verify: bool | None = None,
    flip: bool = False,
    rotate: bool = False,
    linkage: Linkage = "single",
    what: What = "copies",
    threshold: float | None = None,
    precision: float = PRECISION,
    mode: Mode = "auto",
    calibration: Calibration | Literal["cosine"] | None = None,
    min_cosine: float | None = None,
    max_hamming: int | None = 7,
    candidates_per_image: float = CANDIDATES_PER_IMAGE,
    max_pairs: int = MAX_PAIRS,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
    output: str | os.PathLike[str] | None = None,
    ray: str | None = None,
    workers: int | None = None,
    progress: bool | ProgressCallback = False,
) -> Duplicates:
    """Finds near-duplicates (copies) within a store, or between two, and groups them.

    Args:
        store: A store file or folder.
        against: Another store of the same backbone: pairs between the two instead of within one.
        images: The sources that the stores were embedded from, read where pixels are needed. If
            there are none, the ids are read as paths.
        root: The folder that ids are relative to; None takes the one that the store remembers.
        verify: Whether pairs are verified on the pixels: only images that show the same, but for
            edits, are pairs then. None verifies if the images can be found, and says so if not.
        flip: Whether to find mirrored copies, by embeddings of the mirrored images.
        rotate: Whether to find rotated copies, by embeddings of the images rotated by 90, 180, 270
            degrees.
        linkage: How pairs become groups; see ``group_pairs``.
        what: ``copies`` finds images made from each other. ``scenes`` finds other photographs of
            one scene from nearly one place as well, such as those of a burst; ``Pairs.verified``
            is 2 for these, and no plan removes one for another. It needs the pixels.
        threshold: The least score; None takes the calibration's threshold for ``precision``, and
            0.5 for ``scenes``, for which no precision is stated.
        precision: Target share of the returned pairs that are copies. It holds for verified pairs;
            without pixels, among look-alikes, far fewer may be.
        mode: ``exact`` finds every candidate; ``approximate`` compares embeddings only within IVF
            cells; ``auto`` is exact up to about 1.4 million images, verified 100,000.
        calibration: The models that score pairs that aren't verified; None takes the built-in ones
            for the backbone,
            or a guess where there is none. ``"cosine"`` scores a pair by its cosine alone (equal
            content scores 1), with a threshold of 0.95 unless ``threshold`` is given.
        min_cosine: The least cosine of a candidate; None takes, verified, any, and otherwise the
            cosine that each image has with about ``candidates_per_image`` others.
        max_hamming: The most differing bits of a candidate's perceptual hashes; None finds no
            candidates by them, though they still count in the score.
        candidates_per_image: How many other images each one is compared with at most, the nearest
            ones; not verified, on average, beside its copies, and fewer where that would make more
            than four million pairs.
        max_pairs: More candidates are refused.
        weights: Backbone weights for ``flip`` and ``rotate``: ``auto``, or the file that the store
            was embedded with.
        device: Where embeddings are compared, and mirrored and rotated images embedded.
        output: Where `write_duplicates` will write the result. Beside it, ``OUTPUT.partial/`` keeps
            the pairs that are verified, so that a search that was interrupted goes on there.
        ray: Let workers on a Ray cluster compare: ``local`` starts Ray on this machine, ``auto``
            finds the cluster that it belongs to; else the cluster's address. Embeddings are
            compared within cells, as ``approximate`` does. All machines must see the stores, and
            the images if pairs are verified.
        workers: Number of Ray workers, at most; None starts one per machine.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        WorkerError: There is no Ray cluster at the address, or a worker failed.
        StoreLockedError: Another process searches for the same ``output``.
        StoreError: A store can't be read, or an embedding isn't finite.
        StoreMismatchError: The stores were embedded with different settings or weights.
        SourceError: None of the images is one of a store's.
        BackboneError: The backbone or its weights aren't available.
        MissingExtraError: ``verify`` needs OpenCV.
        EmbedkitError: The calibration is for other embeddings, or there are too many pairs.
        ValueError: An argument is out of its range.
    """
    if what == "scenes":
        if verify is False:
            raise ValueError('what="scenes" compares pixels: verify=False isn\'t for it')
        verify = True
    cluster = RayCluster.of(ray, workers)
    if cluster is not None and (mode == "exact" or flip or rotate):
        raise ValueError('ray compares within cells: it goes without mode="exact", flip and rotate')
    if verify:
        require_extra("cv2", "verify", "verification on pixels")
    config = DedupConfig(
        threshold, precision, mode, calibration, min_cosine, max_hamming, candidates_per_image,
        max_pairs, bool(verify), flip, rotate, linkage, what,
    )  # fmt: skip
    with reporting(progress):
        if verify is None:
            config = replace(config, verify=_can_verify(store, against, config, images, root))
        pairs = search_pairs(
            store, against, config, images, root, weights, device, output, cluster=cluster
        )
        return collect(pairs, store, against, linkage=linkage, settings=config.to_config())


def _can_verify(
    store: str | os.PathLike[str],
    against: str | os.PathLike[str] | None,
    config: DedupConfig,
    images: Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None,
) -> bool:
    """Whether the images can be found; logs why not."""
    if config.calibration == "cosine":
        return False
    try:
        require_extra("cv2", "verify", "verification on pixels")
        for path in (store, *(() if against is None else (against,))):
            with EmbeddingStore.open(path) as opened, images_of(opened, images, root):
                pass
    except (SourceError, MissingExtraError) as exc:
        _log.warning(
            "the pairs aren't verified on the pixels, so that some are no copies: %s",
            valid_text(str(exc)),
        )
        return False
    return True


def search_pairs(
    store: str | os.PathLike[str],
    against: str | os.PathLike[str] | None,
    config: DedupConfig,
    images: Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None,
    weights: str | os.PathLike[str],
    device: str,
    output: str | os.PathLike[str] | None,
    new: Sequence[NDArray[np.bool_]] | None = None,
    cluster: RayCluster | None = None,
) -> Pairs:
    """The pairs, with the pixels and the views that the settings need."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(EmbeddingStore.open(path))
            for path in (store, against)
            if path is not None
        ]
        with_pixels = opened if config.verify else opened[:1]
        sources = (
            [stack.enter_context(images_of(one, images, root)) for one in with_pixels]
            if config.verify or config.flip or config.rotate
            else []
        )
        views = {}
        if config.flip or config.rotate:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            views = embed_views(
                opened[0], sources[0].read, folder, flip=config.flip, rotate=config.rotate,
                weights=weights, device=device,
            )  # fmt: skip
        if not config.verify:
            return find_pairs(
                store, config, against=against, views=views, new=new, device=device,
                cluster=cluster,
            )  # fmt: skip
        from embedkit.dedup.verification.compared_pairs import ComparedPairs
        from embedkit.dedup.verification.process_comparer import ProcessComparer
        from embedkit.dedup.verification.ray_comparer import RayComparer

        compared = (
            None if output is None else stack.enter_context(ComparedPairs.locked(Path(output)))
        )
        names = [(side, name) for side, one in enumerate(opened) for name in one.ids]
        comparer: Comparer | None = (
            ProcessComparer.if_worthwhile(sources, names)
            if cluster is None
            else RayComparer(cluster, opened, images, root, names)
        )
        return find_pairs(
            store, config, against=against, verify=sources[0], verify_against=sources[-1],
            compared=compared, views=views, new=new, device=device,
            cluster=cluster, comparer=comparer,
        )  # fmt: skip


def images_of(
    store: EmbeddingStore,
    images: Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None,
) -> OriginalImages:
    """The images of a store: in these sources or, without any, where the ids say."""
    policy, hashes = policy_of(store.meta), hashes_of(store)
    if not images:
        return OriginalImages.by_ids(store.ids, store.meta.folders(root), policy, hashes)
    return OriginalImages.of_source(images, store.ids, policy, hashes)
