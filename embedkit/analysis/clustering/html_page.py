"""Clusters as an HTML gallery: examples of each, from its center outwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedkit.extraction.source_images import policy_of
from embedkit.report import Gallery, Picture, Shelf, ShelfRow, write_gallery
from embedkit.report.thumbnails import thumbnails
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.analysis.clustering.cluster import Clusters

__all__ = ["write_clusters_page"]

_SIDE = 160  # pixels


def write_clusters_page(
    found: Clusters,
    path: Path,
    *,
    examples: int = 8,
    clusters: int = 100,
    images: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Writes the largest clusters as one HTML file, with thumbnails of examples.

    Args:
        found: Result of ``cluster``.
        path: The file; an existing one is replaced atomically.
        examples: Images per cluster, evenly spaced by rank from the nearest to the farthest.
        clusters: Maximum number of clusters that are shown, the largest first.
        images: The sources that the images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.

    Returns:
        ``path``.

    Raises:
        SourceError: Not one of the images is found.
        EmbedkitError: The file can't be written.
    """
    shown = min(clusters, len(found.sizes))
    places = [_examples(found, number, examples) for number in range(shown)]
    rows = sorted({int(found.rows[place]) for some in places for place in some})
    with EmbeddingStore.open(found.path) as store:
        names = {row: store.ids[row] for row in rows}
        content = store.images("content_hash")
    hashes = {name: content[row].tobytes() for row, name in names.items()}
    small = thumbnails(
        hashes, policy_of(found.meta), _SIDE, images=images, roots=found.meta.folders(),
        hashes=hashes, page=path,
    )  # fmt: skip
    pictures = {row: small.get(name) or Picture(name) for row, name in names.items()}
    how = "chosen automatically" if found.was_chosen else "as requested"
    gallery = Gallery(
        title=f"Clusters of {found.path.name}",
        facts=[
            ("Store", f"{found.path}, {len(found.rows):,} images"),
            ("Backbone", found.meta.backbone),
            ("Clusters", f"{len(found.sizes):,}, {how}"),
            ("Distance", "1 - cosine to the center of the cluster"),
        ],
        shelves=[_shelf(found, number, some, pictures) for number, some in enumerate(places)],
        summary=_summary(found, shown),
    )
    return write_gallery(path, gallery)


def _examples(found: Clusters, number: int, count: int) -> NDArray[np.int64]:
    """The places of some images of a cluster, from the nearest to its center to the farthest."""
    mine = np.flatnonzero(found.clusters == number)
    order = mine[np.argsort(found.distances[mine], kind="stable")]
    ranks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return np.asarray(order[ranks], np.int64)


def _shelf(
    found: Clusters, number: int, places: NDArray[np.int64], pictures: dict[int, Picture]
) -> Shelf:
    name = f": {found.names[number]}" if found.names[number] else ""
    examples = [
        (pictures[int(found.rows[at])], f"{found.distances[at]:.3f}") for at in places.tolist()
    ]
    share = found.shares[number]
    commonest = "" if np.isnan(share) else f" {share:.0%} have the commonest class."
    (first, distance), *others = examples
    return Shelf(
        f"Cluster {number}{name}",
        f"{found.sizes[number]:,} images, mean distance {found.mean_distances[number]:.3f}."
        f"{commonest} From the center outwards.",
        [ShelfRow(first, distance, others)],
    )


def _summary(found: Clusters, shown: int) -> str:
    left = len(found.sizes) - shown
    more = f"; the largest {shown:,} of them shown" if left else ""
    return f"{len(found.rows):,} images in {len(found.sizes):,} clusters{more}"
