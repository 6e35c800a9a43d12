"""HTML page of near-duplicates: groups as rows of thumbnails, leakage as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.report.gallery_data import Page
from embedkit.report.page_writer import environment, write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.report.gallery_data import Picture

__all__ = ["CopyFigure", "CopyGroup", "CopyPage", "LeakTable", "write_copies"]

_SECTION = 100  # groups that fold together


@dataclass(frozen=True, slots=True)
class CopyFigure:
    """An image of a group.

    Attributes:
        picture: The image.
        score: Score of the pair that links it to one shown before it; None without such a pair.
        reason: Why it counts as a copy; empty for the first one.
        badge: Where it is from, such as another store; or nothing.
    """

    picture: Picture
    score: float | None
    reason: str
    badge: str = ""


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """A group of near-duplicates.

    Attributes:
        name: What it is called.
        weakest: The least score of a pair inside.
        note: A remark, or nothing.
        figures: Its images, those of best quality first.
        left_out: Images that are not shown.
    """

    name: str
    weakest: float
    note: str
    figures: Sequence[CopyFigure]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class LeakTable:
    """Classes of one store and their images that are in the other store too.

    Attributes:
        title: Which store.
        rows: Class, leaking images, all images.
        left_out: Classes that are not shown.
    """

    title: str
    rows: Sequence[tuple[str, int, int]]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class CopyPage(Page):
    """The whole page.

    Attributes:
        notes: What to know when reading it.
        groups: Groups of near-duplicates.
        leaks: Tables of leaks.
    """

    notes: Sequence[str]
    groups: Sequence[CopyGroup]
    leaks: Sequence[LeakTable] = ()

    def sections(self) -> list[Sequence[CopyGroup]]:
        """The groups, so many at a time as fold together."""
        return [self.groups[i : i + _SECTION] for i in range(0, len(self.groups), _SECTION)]


def write_copies(path: Path, page: CopyPage) -> Path:
    """Writes the page as one HTML file that loads nothing from anywhere.

    Args:
        path: The file; an existing one is replaced atomically.
        page: Its content; all text is escaped.

    Returns:
        ``path``.

    Raises:
        EmbedkitError: The file can't be written.
    """
    return write_page(path, environment().get_template("duplicates.html").render(page=page))
