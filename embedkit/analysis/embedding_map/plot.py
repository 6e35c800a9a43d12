"""Plots the 2-D map of a store: coordinates, colours, output file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from embedkit.analysis.classification import classify
from embedkit.analysis.embedding_map.png import draw_png
from embedkit.analysis.embedding_map.projection import check_umap, lay_out
from embedkit.errors import StoreError
from embedkit.extraction.source_images import policy_of
from embedkit.report import MapPage, write_map
from embedkit.report.thumbnails import thumbnails
from embedkit.store import EmbeddingStore
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.atomic_write import commit_bytes
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import reporting
from embedkit.utils.vectors import refuse_not_finite, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.analysis.embedding_map.projection import LayoutMethod
    from embedkit.utils.progress import ProgressCallback

__all__ = ["MapSummary", "plot"]

_SIDE = 96  # pixels
Colors = Literal["auto", "label", "class", "none"]


@dataclass(frozen=True, slots=True)
class MapSummary:
    """The result of a plot.

    Attributes:
        path: The file.
        images: Points on the map.
        left_out: Images left out by the random sample.
        method: ``umap`` or ``pca``.
        color: ``label``, ``class`` or ``none``.
        groups: Labels or classes, most frequent first.
    """

    path: Path
    images: int
    left_out: int
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
    sample: int = 20_000,
    pictures: int = 2_000,
    seed: int = 0,
    images: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> MapSummary:
    """Draws a store as a map: an HTML page to move about in, or a PNG.

    Args:
        store: A store file or folder.
        output: ``.html`` or ``.png``.
        method: ``umap``, ``pca``, or ``auto``: UMAP if it is installed.
        color: By ``label``, by the most probable ``class``, ``none``, or ``auto``: by label if
            there are labels, else by class if the stored head applies.
        sample: Maximum number of images, chosen at random.
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
    with reporting(progress), EmbeddingStore.open(store) as opened:
        rng = np.random.default_rng(seed)
        count = min(sample, len(opened))
        rows = np.sort(rng.permutation(len(opened))[:count])
        color, words = _words(opened, color, rows)
        groups, names = _grouped(words)
        ids = [opened.ids[row] for row in rows.tolist()]
        embeddings = opened.take(rows)
        refuse_not_finite(embeddings, ids, opened.path)
        points, method_taken = lay_out(unit_rows(embeddings), method, seed)
        title = f"Map of {Path(store).name}"
        if path.suffix.lower() == ".png":
            commit_bytes(path, draw_png(points, groups, names, title))
        else:
            content = opened.images("content_hash")[rows]
            places = rng.permutation(count)[:pictures].tolist()
            hashes = {ids[place]: content[place].tobytes() for place in places}
            policy = policy_of(opened.meta)
            page = MapPage(
                title,
                [
                    ("Store", f"{store}, {len(opened):,} images"),
                    ("Backbone", opened.meta.backbone),
                    ("Points", f"{count:,} images, placed by {method_taken.upper()}"),
                    ("Colour", color),
                    ("Thumbnails", f"of {len(places):,} images"),
                ],
                points,
                groups,
                names,
                ids,
                words,
                thumbnails(
                    hashes,
                    policy,
                    _SIDE,
                    images=images,
                    roots=opened.meta.folders(),
                    hashes=hashes,
                    page=path,
                ),
                summary=_summary(count, len(opened), names, color),
                empty=None if count else ("No images", f"{store} holds none to draw"),
            )
            write_map(path, page)
        return MapSummary(path, count, len(opened) - count, method_taken, color, tuple(names))


def _summary(count: int, images: int, names: Sequence[str], color: Colors) -> str:
    shown = f"{count:,} images" + (f", a random sample of {images:,}" if count < images else "")
    kinds = {"label": "labels", "class": "most probable classes"}.get(color)
    return f"{shown}; the nearer, the more alike" + (f"; {len(names):,} {kinds}" if kinds else "")


def _check(path: Path, sample: int, pictures: int, *, overwrite: bool) -> None:
    if path.suffix.lower() not in {".html", ".png"}:
        raise ValueError(f"{path}: maps are written to .html and .png")
    if sample < 1 or pictures < 0:
        raise ValueError("sample must be at least 1, pictures at least 0")
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")


def _words(
    store: EmbeddingStore, color: Colors, rows: NDArray[np.int64]
) -> tuple[Colors, list[str]]:
    """By what the images are coloured, and the word of each, empty where it has none."""
    if color == "auto":
        has_head = store.meta.head_applies and store.head is not None
        color = "label" if store.has_labels else "class" if has_head else "none"
    if color == "label":
        labels = store.labels
        if labels is None:
            raise StoreError(
                f"{store.path}: has no labels to colour by; `embedkit label` puts them in"
            )
        return color, [labels[row] for row in rows.tolist()]
    if color == "class":
        names = [name.split(",")[0] for b in classify(store.path, 1) for (name,) in b.class_names]
        return color, [names[row] for row in rows.tolist()]
    return color, [""] * len(rows)


def _grouped(words: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each word, -1 for none, and the words, the most frequent first."""
    counts = Counter(filter(None, words))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = [word for word, _ in ranked]
    numbers = {word: number for number, word in enumerate(names)}
    return np.array([numbers.get(word, -1) for word in words], np.int64), names
