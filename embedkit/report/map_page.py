"""An interactive map as HTML: points on a canvas, with thumbnails; loads no other file."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from embedkit.report.page_writer import environment, printable, write_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GROUP_COLORS", "OTHER_COLOR", "MapPage", "write_map"]

GROUP_COLORS = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7",
    "#9c755f", "#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#17becf",
    "#8c564b", "#bcbd22", "#1f4e79", "#c2185b",
)  # fmt: skip
"""Colours of the most frequent groups; each is distinct from both page colours."""

OTHER_COLOR = "#9aa0a6"


@dataclass(frozen=True, slots=True)
class MapPage:
    """The content of a map.

    Attributes:
        title: The page's title.
        facts: Names and values of what was done.
        points: ``(n, 2)`` in the unit square.
        groups: ``(n,)`` numbers of ``names``; -1 for the rest.
        names: Names of the groups that have a colour.
        ids: n ids; any text.
        words: n labels or classes, empty where there is none.
        thumbnails: Id to ``data:`` URI, of ``thumbnail``, for some of the images.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    points: NDArray[np.float32]
    groups: NDArray[np.int64]
    names: Sequence[str]
    ids: Sequence[str]
    words: Sequence[str]
    thumbnails: Mapping[str, str]


def write_map(path: Path, page: MapPage) -> Path:
    """Writes a map as one HTML file that loads no other file.

    Its only script is its own: the page's policy names that by its hash.

    Args:
        path: The file; an existing one is replaced atomically.
        page: Its content; all text is escaped.

    Returns:
        ``path``.

    Raises:
        EmbedkitError: The file can't be written.
    """
    script = files("embedkit.report").joinpath("templates/map.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    data = {
        "x": [round(x, 4) for x in page.points[:, 0].tolist()],
        "y": [round(y, 4) for y in page.points[:, 1].tolist()],
        "group": page.groups.tolist(),
        "colors": [*GROUP_COLORS[: len(page.names)], OTHER_COLOR],
        "name": [printable(name) for name in page.ids],
        "word": [printable(word) for word in page.words],
        "picture": [page.thumbnails.get(name, "") for name in page.ids],
    }
    counts = [int((page.groups == number).sum()) for number in range(len(page.names))]
    text = (
        environment()
        .get_template("map.html")
        .render(
            page=page,
            legend=list(zip(page.names, GROUP_COLORS, counts, strict=False)),
            others=int((page.groups < 0).sum()),
            other_color=OTHER_COLOR,
            data=data,
            digest=digest,
            script=script,
        )
    )
    return write_page(path, text)
