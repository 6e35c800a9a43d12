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
    from collections.abc import Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.distributed.cluster import RayCluster
    from embedkit.extraction.load_images import Outcome
    from embedkit.store import EmbeddingStore
    from embedkit.types import ImageRecord

__all__ = [
    "BATCH",
    "MEASURES",
    "loaded_facts",
    "loader_of_store",
    "measure_images",
    "stored_measures",
]

_NO_MEASURES = {"mtime", "frames", "etag", "thumbnail"}
MEASURES = tuple(name for name in OPTIONAL_DTYPES if name not in _NO_MEASURES)
BATCH = 32
"""Images that a thread decodes at once."""


def stored_measures(store: EmbeddingStore) -> dict[str, NDArray[Any]] | None:
    """The stored measures, ``(N,)`` by name; None if the store lacks some."""
    if not {*MEASURES} <= {*store.columns}:
        return None
    return {name: store.images(name) for name in MEASURES}


def measure_images(
    store: EmbeddingStore,
    images: Sequence[str | os.PathLike[str]],
    cluster: RayCluster | None = None,
) -> dict[str, NDArray[Any]]:
    """Decodes the images of a store once and measures them.

    Args:
        store: The store, N images.
        images: The sources that the images are of, where these lie now. None: ids are taken for
            paths.
        cluster: Whose workers measure; they must see the images. None: this process does.

    Returns:
        ``(N,)`` by name; unknown (NaN, -1 or nothing) for images that can't be read any more or
        have other bytes than when they were embedded.

    Raises:
        SourceError: Not one of the images is found.
        StoreError: The store doesn't say how its images were preprocessed.
        WorkerError: There is no cluster, or a worker failed.
    """
    found = {
        name: np.full(len(store), {"O": b"", "f": np.nan}.get(dtype.kind, -1), dtype)
        for name, dtype in OPTIONAL_DTYPES.items()
        if name in MEASURES
    }
    if not len(store):
        return found
    load, hashes = loader_of_store(store), hashes_of(store)
    names = {name: row for row, name in enumerate(store.ids)}
    originals = (
        OriginalImages.of_source(images, names, load.policy, hashes)
        if images
        else OriginalImages.by_ids(names, store.meta.folders(), load.policy, hashes)
    )
    stage = Stage("measuring", len(store), unit="images")

    def keep(batch: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        for name, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, ImageFacts) and outcome.content_hash == hashes[name]:
                _put(found, names[name], outcome)
        stage.add(len(batch))

    with originals:
        if cluster is not None:
            from embedkit.analysis.quality.ray_measures import measure_on_ray

            measure_on_ray(cluster, store, originals, keep)
            return found
        ids = list(originals)
        batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        records = ([originals.record(name) for name in batch] for batch in batches)
        with closing(loaded_facts(load, records, usable_cores())) as done:
            for batch, outcomes in zip(batches, done, strict=True):
                keep(batch, outcomes)
    return found


def loaded_facts(
    load: ImageLoader, batches: Iterable[list[ImageRecord]], threads: int
) -> Generator[list[Outcome]]:
    """Reads and decodes batches of images, in order; their pixels are dropped."""
    side = load.preprocessing.crop
    with ImageReader(max_bytes=load.policy.max_bytes) as reader:

        def facts(batch: list[ImageRecord]) -> list[Outcome]:
            pixels = np.empty((len(batch), side, side, 3), np.uint8)
            return load_images(reader, load, batch, pixels, load.preprocessing.resize)

        with closing(in_order(facts, batches, threads)) as done:
            for _, outcomes in done:
                yield outcomes


def _put(found: dict[str, NDArray[Any]], row: int, facts: ImageFacts) -> None:
    for name, values in found.items():
        value = getattr(facts, name)
        values[row] = value.encode() if isinstance(value, str) else value


def loader_of_store(store: EmbeddingStore) -> ImageLoader:
    """Decodes as the images of a store were decoded.

    Raises:
        StoreError: The store doesn't say how.
    """
    try:
        preprocessing = Preprocessing.from_config(store.meta.preprocessing)
        decoder = store.meta.decode["decoder"]
    except (KeyError, TypeError, ValueError) as exc:
        raise StoreError(f"{store.path}: doesn't say how its images were scaled ({exc})") from exc
    return ImageLoader(policy_of(store.meta), preprocessing, decoder)
