"""Plots the 2-D map of a store: coordinates, colours, output file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.embedding_map.layout import SAMPLE, lay_out_store
from embedkit.analysis.embedding_map.png import draw_png
from embedkit.analysis.embedding_map.projection import check_umap
from embedkit.analysis.embedding_map.words import words_of
from embedkit.errors import StoreError
from embedkit.extraction.source_images import policy_of
from embedkit.index.store_rows import StoreRows
from embedkit.report import MapPage, write_map
from embedkit.report.thumbnails import thumbnails
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.atomic_write import commit_bytes
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.analysis.embedding_map.projection import LayoutMethod
    from embedkit.analysis.embedding_map.words import Colors
    from embedkit.report import Picture
    from embedkit.store import EmbeddingStore
    from embedkit.utils.progress import ProgressCallback

__all__ = ["MapSummary", "plot"]

_SIDE = 96  # pixels
_MOST_IN_PAGE = 5_000_000  # points; a browser holds no longer text than some 500 MB


@dataclass(frozen=True, slots=True)
class MapSummary:
    """The result of a plot.

    Attributes:
        path: The file.
        images: Points on the map: all images of the store.
        learned: Images that the projection was learned on.
        method: ``umap`` or ``pca``.
        color: ``label``, ``class`` or ``none``.
        groups: Labels or classes, most frequent first.
    """

    path: Path
    images: int
    learned: int
    method: str
    color: str
    groups: tuple[str, ...]


@plain_numbers
def plot(
    store: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    method: LayoutMethod = "auto",
    color: Colors = "auto",
    sample: int = SAMPLE,
    pictures: int = 2_000,
    seed: int = 0,
    images: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> MapSummary:
    """Draws a store as a map: an HTML page to move about in, or a PNG.

    Every image is a point. Where there are more than 20,000, the PNG shows how dense they lie, and
    the page draws them by WebGL, or without it by the script.

    Args:
        store: A store file or folder.
        output: ``.html`` or ``.png``.
        method: ``umap``, ``pca``, or ``auto``: UMAP if it is installed.
        color: By ``label``, by the most probable ``class``, ``none``, or ``auto``: by label if
            there are labels, else by class if the stored head applies.
        sample: Maximum number of images, chosen at random, that the projection is learned on. All
            images are drawn: PCA projects the others too, UMAP's are placed by their nearest
            sampled ones.
        pictures: For HTML: maximum number of thumbnails, chosen at random.
        seed: Random seed.
        images: The sources that the images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.
        overwrite: Replace a file that exists.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        SourceError: There are to be thumbnails, but not one of the images is found.
        StoreError: ``output`` exists or can't be written, the store can't be read, or has not what
            to colour by, or an embedding isn't finite.
        MissingExtraError: umap-learn or matplotlib is needed and isn't installed.
        ValueError: A number is out of its range, or ``output`` has another suffix.
    """
    path = Path(output)
    _check(path, sample, pictures, overwrite=overwrite)
    if method == "umap":
        check_umap()
    if path.suffix.lower() == ".png":
        require_extra("matplotlib", "map", "a map as PNG")
    with reporting(progress), StoreRows.open([store]) as rows:
        (opened,) = rows.stores
        count = len(opened)
        if path.suffix.lower() == ".html" and count > _MOST_IN_PAGE:
            raise StoreError(
                f"{store}: has {count:,} images, and a page draws {_MOST_IN_PAGE:,} at most; write "
                "a .png, which draws all"
            )
        color, words = words_of(opened, color)
        groups, names = _grouped(words)
        layout = lay_out_store(rows, method, sample, seed)
        title = f"Map of {Path(store).name}"
        if path.suffix.lower() == ".png":
            commit_bytes(path, draw_png(layout.points, groups, names, title))
        else:
            shown = np.random.default_rng(seed).permutation(count)[:pictures]
            learned = f", learned on {layout.learned:,}" if layout.learned < count else ""
            page = MapPage(
                title,
                [
                    ("Store", f"{store}, {count:,} images"),
                    ("Backbone", opened.meta.backbone),
                    ("Points", f"{count:,} images, placed by {layout.method.upper()}{learned}"),
                    ("Colour", color),
                    ("Thumbnails", f"of {len(shown):,} images"),
                ],
                layout.points,
                groups,
                names,
                opened.ids[:],
                words,
                _pictures(opened, shown, images, path),
                summary=_summary(count, names, color),
                empty=None if count else ("No images", f"{store} holds none to draw"),
            )
            write_map(path, page)
        return MapSummary(path, count, layout.learned, layout.method, color, tuple(names))


def _pictures(
    store: EmbeddingStore,
    rows: NDArray[np.int64],
    images: Sequence[str | os.PathLike[str]],
    page: Path,
) -> Mapping[str, Picture]:
    """The thumbnails of some rows, by id."""
    content = store.images("content_hash")[rows]
    hashes = {
        store.ids[row]: digest.tobytes() for row, digest in zip(rows.tolist(), content, strict=True)
    }
    return thumbnails(
        hashes,
        policy_of(store.meta),
        _SIDE,
        images=images,
        roots=store.meta.folders(),
        hashes=hashes,
        page=page,
    )


def _summary(count: int, names: Sequence[str], color: Colors) -> str:
    kinds = {"label": "labels", "class": "most probable classes"}.get(color)
    groups = f"; {len(names):,} {kinds}" if kinds else ""
    return f"{count:,} images; the nearer, the more alike{groups}"


def _check(path: Path, sample: int, pictures: int, *, overwrite: bool) -> None:
    if path.suffix.lower() not in {".html", ".png"}:
        raise ValueError(f"{path}: maps are written to .html and .png")
    if sample < 1 or pictures < 0:
        raise ValueError("sample must be at least 1, pictures at least 0")
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")


def _grouped(words: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each word, -1 for none, and the words, the most frequent first."""
    counts = Counter(filter(None, words))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = [word for word, _ in ranked]
    numbers = {word: number for number, word in enumerate(names)}
    return np.array([numbers.get(word, -1) for word in words], np.int64), names
