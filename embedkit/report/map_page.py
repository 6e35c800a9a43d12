"""An interactive map as HTML: points on a canvas, with thumbnails; loads no other file."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.report.gallery_data import Page
from embedkit.report.group_marks import OTHER, SHAPES, mark_of
from embedkit.report.page_writer import environment, printable, write_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.report.gallery_data import Picture
    from embedkit.report.group_marks import GroupMark

__all__ = ["MapPage", "write_map"]

_SCRIPTS = ("view", "points", "dense", "draw", "select", "point")  # parts of its script, in order
_MOST_LISTED = 20_000  # points that are written as lists; more are packed, and drawn as a density
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class MapPage(Page):
    """The content of a map.

    Attributes:
        points: ``(n, 2)`` in the unit square.
        groups: ``(n,)`` numbers of ``names``; -1 for none.
        names: Names of the groups, the largest first.
        ids: n ids; any text.
        words: n labels or classes, empty where there is none.
        pictures: Id to picture, for some of the images.
    """

    points: NDArray[np.float32]
    groups: NDArray[np.int64]
    names: Sequence[str]
    ids: Sequence[str]
    words: Sequence[str]
    pictures: Mapping[str, Picture]


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
    folder = files("embedkit.report").joinpath("templates", "map")
    parts = "".join(folder.joinpath(f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    script = re.sub(r"^export ", "", parts, flags=re.MULTILINE)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    marks = [mark_of(number) for number in range(len(page.names))]
    counts = np.bincount(page.groups[page.groups >= 0], minlength=len(page.names)).tolist()
    text = (
        environment()
        .get_template("map.html")
        .render(
            page=page,
            legend=list(zip(page.names, marks, counts, strict=True)),
            others=int((page.groups < 0).sum()),
            other=OTHER,
            shapes=SHAPES,
            data=_data(page, [*marks, OTHER]),
            digest=digest,
            script=script,
        )
    )
    return write_page(path, text)


def _data(page: MapPage, marks: Sequence[GroupMark]) -> dict[str, Any]:
    """What the script draws: the groups, and the images as lists or packed."""
    groups = {
        "names": [printable(name) for name in page.names],
        "marks": [[mark.color, SHAPES[mark.shape], mark.is_hollow] for mark in marks],
    }
    is_large = len(page.ids) > _MOST_LISTED
    return groups | ({"packed": _packed(page)} if is_large else _lists(page))


def _lists(page: MapPage) -> dict[str, Any]:
    """One entry per image."""
    pictures = [page.pictures.get(name) for name in page.ids]
    return {
        "x": [round(x, 4) for x in page.points[:, 0].tolist()],
        "y": [round(y, 4) for y in page.points[:, 1].tolist()],
        "group": page.groups.tolist(),
        "name": [printable(name) for name in page.ids],
        "word": [printable(word) for word in page.words],
        "picture": [one.thumbnail if one else "" for one in pictures],
        "link": [one.link if one else "" for one in pictures],
        "facts": [printable(one.facts) if one else "" for one in pictures],
    }


def _packed(page: MapPage) -> dict[str, Any]:
    """Positions of 16 bits and the groups' numbers as base64, ids as ``_shortened`` writes them."""
    places = np.round(np.clip(page.points, 0, 1) * 65535).astype("<u2")
    return {
        "places": _base64(places),
        "group": _base64(page.groups.astype("<i2" if len(page.names) < 2**15 else "<i4")),
        "ids": "\n".join(_shortened(map(printable, page.ids))),
        "pictures": [
            [row, one.thumbnail, one.link, printable(one.facts)]
            for row, one in enumerate(map(page.pictures.get, page.ids))
            if one
        ],
    }


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).data).decode("ascii")


def _shortened(names: Iterable[str]) -> Iterator[str]:
    """Each name without what it shares with the one before, after a digit of base 62 for how much.

    Letters that JavaScript counts as two aren't shared.
    """
    before, shared = "", 0
    for name in names:
        most = min(len(before), len(name), len(_DIGITS) - 1)
        shared = min(shared, most)
        while before[:shared] != name[:shared]:
            shared -= 1
        while shared < most and before[shared] == name[shared] <= "\uffff":
            shared += 1
        yield _DIGITS[shared] + name[shared:]
        before = name
