"""Outliers as an HTML gallery: each beside its nearest images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.extraction.source_images import policy_of
from embedkit.report import Gallery, Picture, Shelf, ShelfRow, write_gallery
from embedkit.report.thumbnails import thumbnails
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.analysis.outliers.outliers import Outlier, Outliers

__all__ = ["write_outliers_page"]

_SIDE = 160  # pixels
_NEIGHBORS = 5  # shown of each


def write_outliers_page(
    found: Outliers, path: Path, *, images: Sequence[str | os.PathLike[str]] = ()
) -> Path:
    """Writes outliers as one HTML file; thumbnails come from the images, where they still are.

    Args:
        found: Result of ``find_outliers``.
        path: The file; an existing one is replaced atomically.
        images: The sources that the images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.

    Returns:
        ``path``.

    Raises:
        SourceError: Not one of the images is found.
        EmbedkitError: The file can't be written.
    """
    both = (*found.off_topic, *found.labels)
    rows = {one.row for one in both} | {row for o in both for row, *_ in o.neighbors[:_NEIGHBORS]}
    with EmbeddingStore.open(found.path) as store:
        names = {row: store.ids[row] for row in sorted(rows)}
        content = store.images("content_hash")
    meta = found.meta
    hashes = {name: content[row].tobytes() for row, name in names.items()}
    small = thumbnails(
        hashes, policy_of(meta), _SIDE, images=images, roots=meta.folders(), hashes=hashes,
        page=path,
    )  # fmt: skip
    pictures = {row: small.get(name) or Picture(name) for row, name in names.items()}
    shelves = [
        Shelf(
            "Off-topic images",
            "Far from all others, the farthest first. At the right of each, its nearest images.",
            _rows(found.off_topic, pictures),
        ),
        Shelf(
            "Likely label errors",
            "Labels that the nearest images contradict, the most contradicted first.",
            _rows(found.labels, pictures),
        ),
    ]
    gallery = Gallery(
        title=f"Outliers in {found.path.name}",
        facts=[
            ("Store", f"{found.path}, {found.images:,} images"),
            ("Backbone", found.meta.backbone),
            ("Neighbours per image", _neighbors_text(found)),
        ],
        shelves=[shelf for shelf in shelves if shelf.rows],
        summary=(
            f"{len(found.off_topic):,} off-topic images and {len(found.labels):,} doubtful labels "
            f"among {found.images:,} images"
        ),
        empty=None if both else ("No outliers found", _searched(found)),
    )
    return write_gallery(path, gallery)


def _searched(found: Outliers) -> str:
    return (
        f"Compared each of the {found.images:,} images of {found.path} with its {found.k:,} "
        "nearest: none is far enough from them, and no label is contradicted by them."
    )


def _neighbors_text(found: Outliers) -> str:
    if found.recall is None:
        return f"{found.k}"
    return f"{found.k}, by an index that finds {found.recall:.1%} of them"


def _rows(some: Sequence[Outlier], pictures: dict[int, Picture]) -> list[ShelfRow]:
    return [
        ShelfRow(
            pictures[one.row],
            _remark(one),
            [
                (pictures[row], f"{cosine:.3f} {label}".rstrip())
                for row, cosine, label in one.neighbors[:_NEIGHBORS]
            ],
        )
        for one in some
    ]


def _remark(one: Outlier) -> str:
    if one.kind == "label":
        return f"{one.label}, or {one.suggested}? ({one.score:.2f})"
    return f"{one.score:.1f} deviations" + (f", {one.label}" if one.label else "")
