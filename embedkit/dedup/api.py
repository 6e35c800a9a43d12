"""The whole near-duplicate search: opens stores and source images, finds pairs, groups them."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from embedkit.dedup.find_pairs import find_pairs
from embedkit.dedup.results import collect
from embedkit.extraction.augmented_views import embed_views
from embedkit.extraction.source_images import OriginalImages, hashes_of, policy_of
from embedkit.store import EmbeddingStore
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import ignore_progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from embedkit.dedup.find_pairs import Mode
    from embedkit.dedup.groups.grouping import Linkage
    from embedkit.dedup.results import Duplicates
    from embedkit.dedup.scoring.calibration import Calibration

__all__ = ["PairOptions", "find_duplicates"]


class PairOptions(TypedDict, total=False):
    """Options of ``find_pairs``; all may be left out."""

    threshold: float | None
    precision: float
    mode: Mode
    calibration: Calibration | Literal["cosine"] | None
    min_cosine: float | None
    max_hamming: int | None
    candidates_per_image: float
    max_pairs: int


@plain_numbers
def find_duplicates(
    store: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    root: str | os.PathLike[str] = ".",
    verify: bool = False,
    flip: bool = False,
    rotate: bool = False,
    linkage: Linkage = "single",
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
    on_progress: Callable[[str, int, int], None] | None = None,
    **options: Unpack[PairOptions],
) -> Duplicates:
    """Finds near-duplicates (copies) within a store, or between two, and groups them.

    Args:
        store: A store file or folder.
        against: Another store of the same backbone: pairs between the two instead of within one.
        images: The sources that the stores were embedded from, read where pixels are needed. If
            there are none, the ids are read as paths.
        root: The folder that ids are relative to.
        verify: Whether doubtful pairs are verified geometrically, on the pixels.
        flip: Whether to find mirrored copies, by embeddings of the mirrored images.
        rotate: Whether to find rotated copies, by embeddings of the images rotated by 90, 180, 270
            degrees.
        linkage: How pairs become groups; see ``group_pairs``.
        weights: Backbone weights for ``flip`` and ``rotate``: ``auto``, or the file that the store
            was embedded with.
        device: Where embeddings are compared, and mirrored and rotated images embedded.
        on_progress: Called with (stage, done, total).
        **options: Those of ``find_pairs``: threshold, precision, mode, calibration, min_cosine,
            max_hamming, candidates_per_image, max_pairs.

    Raises:
        StoreError: A store can't be read, or an embedding isn't finite.
        StoreMismatchError: The stores were embedded with different settings or weights.
        SourceError: None of the images is one of a store's.
        BackboneError: The backbone or its weights aren't available.
        MissingExtraError: ``verify`` needs OpenCV.
        EmbedkitError: The calibration is for other embeddings, or there are too many pairs.
        ValueError: An argument is out of its range.
    """
    if verify:
        require_extra("cv2", "verify", "verification on pixels")
    on_progress = on_progress or ignore_progress
    with ExitStack() as stack:
        opened = [
            stack.enter_context(EmbeddingStore.open(path))
            for path in (store, against)
            if path is not None
        ]
        with_pixels = opened if verify else opened[:1]
        sources = (
            [stack.enter_context(_images_of(one, images, Path(root))) for one in with_pixels]
            if verify or flip or rotate
            else []
        )
        views = {}
        if flip or rotate:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            views = embed_views(
                opened[0], sources[0].read, folder, flip=flip, rotate=rotate, weights=weights,
                device=device, on_progress=on_progress,
            )  # fmt: skip
        pairs = find_pairs(
            store, against=against, verify=sources[0] if verify else None,
            verify_against=sources[-1] if verify else None, views=views, device=device,
            on_progress=on_progress, **options,
        )  # fmt: skip
    settings = _settings(options, linkage, verify=verify, flip=flip, rotate=rotate)
    return collect(pairs, store, against, linkage=linkage, settings=settings)


def _images_of(
    store: EmbeddingStore, images: Sequence[str | os.PathLike[str]], root: Path
) -> OriginalImages:
    policy, hashes = policy_of(store.meta), hashes_of(store)
    if not images:
        return OriginalImages.by_ids(store.ids, root, policy, hashes)
    return OriginalImages.of_source(images, store.ids, policy, hashes)


def _settings(options: PairOptions, linkage: str, **requested: bool) -> dict[str, Any]:
    """The settings of a search, as ``summary.json`` holds them."""
    settings: dict[str, Any] = {**options, **requested, "linkage": linkage}
    calibration = options.get("calibration")
    settings["calibration"] = getattr(calibration, "name", calibration)
    if "candidates_per_image" in settings:  # under its first name, which older files have
        settings["looks"] = settings.pop("candidates_per_image")
    return settings
