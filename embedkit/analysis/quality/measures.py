"""The quality measures of a store's images: its columns, or measured from the images."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import StoreError
from embedkit.extraction.load_images import load_images
from embedkit.extraction.source_images import OriginalImages, hashes_of, policy_of
from embedkit.sources import ImageReader
from embedkit.store.format import OPTIONAL_DTYPES
from embedkit.types import ImageFacts
from embedkit.utils.parallel import in_order
from embedkit.utils.progress import Stage
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.extraction.load_images import Outcome
    from embedkit.store import EmbeddingStore

__all__ = ["MEASURES", "measure_images", "stored_measures"]

MEASURES = tuple(name for name in OPTIONAL_DTYPES if name not in {"mtime", "frames", "etag"})
_BATCH = 32  # images that a thread decodes at once


def stored_measures(store: EmbeddingStore) -> dict[str, NDArray[Any]] | None:
    """The stored measures, ``(N,)`` by name; None if the store lacks some."""
    if not {*MEASURES} <= {*store.columns}:
        return None
    return {name: store.images(name) for name in MEASURES}


def measure_images(
    store: EmbeddingStore, images: Sequence[str | os.PathLike[str]]
) -> dict[str, NDArray[Any]]:
    """Decodes the images of a store once and measures them.

    Args:
        store: The store, N images.
        images: The sources that the images are of, where these lie now. None: ids are taken for
            paths.

    Returns:
        ``(N,)`` by name; unknown (NaN, -1 or nothing) for images that can't be read any more or
        have other bytes than when they were embedded.

    Raises:
        SourceError: Not one of the images is found.
        StoreError: The store doesn't say how its images were preprocessed.
    """
    found = {
        name: np.full(len(store), {"O": b"", "f": np.nan}.get(dtype.kind, -1), dtype)
        for name, dtype in OPTIONAL_DTYPES.items()
        if name in MEASURES
    }
    if not len(store):
        return found
    load, hashes = _loader(store), hashes_of(store)
    names = {name: row for row, name in enumerate(store.ids)}
    originals = (
        OriginalImages.of_source(images, names, load.policy, hashes)
        if images
        else OriginalImages.by_ids(names, store.meta.folders(), load.policy, hashes)
    )
    with originals, ImageReader(max_bytes=load.policy.max_bytes) as reader:
        ids = list(originals)
        batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]

        def measured(batch: list[str]) -> list[Outcome]:
            pixels = np.empty((len(batch), *(load.preprocessing.crop,) * 2, 3), np.uint8)
            records = [originals.record(name) for name in batch]
            return load_images(reader, load, records, pixels, load.preprocessing.resize)

        stage = Stage("measuring", len(store), unit="images")
        with closing(in_order(measured, batches, usable_cores())) as done:
            for batch, outcomes in done:
                for name, outcome in zip(batch, outcomes, strict=True):
                    if isinstance(outcome, ImageFacts) and outcome.content_hash == hashes[name]:
                        _put(found, names[name], outcome)
                stage.add(len(batch))
    return found


def _put(found: dict[str, NDArray[Any]], row: int, facts: ImageFacts) -> None:
    for name, values in found.items():
        value = getattr(facts, name)
        values[row] = value.encode() if isinstance(value, str) else value


def _loader(store: EmbeddingStore) -> ImageLoader:
    try:
        preprocessing = Preprocessing.from_config(store.meta.preprocessing)
        decoder = store.meta.decode["decoder"]
    except (KeyError, TypeError, ValueError) as exc:
        raise StoreError(f"{store.path}: doesn't say how its images were scaled ({exc})") from exc
    return ImageLoader(policy_of(store.meta), preprocessing, decoder)
