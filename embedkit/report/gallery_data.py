"""Plain data of pages and their pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.types import ImageFailure

__all__ = [
    "ClassifiedPicture",
    "Gallery",
    "GroupMember",
    "Page",
    "Picture",
    "SearchExample",
    "Shelf",
    "ShelfRow",
    "facts_line",
]


@dataclass(frozen=True, slots=True)
class Page:
    """What every page begins with.

    Attributes:
        title: The page's title.
        facts: Names and values of what was done; folded.
        summary: The outcome in a sentence; under the title.
        empty: Where there is nothing to show: a headline, and what was searched.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    summary: str = field(default="", kw_only=True)
    empty: tuple[str, str] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the gallery shows it.

    Attributes:
        name: What stands under it and is read aloud; any text.
        thumbnail: A ``data:image/`` URI, of ``thumbnail``; empty where there is none.
        link: The address of the image itself, of ``link_to``; empty where there is none.
        facts: One line about the image, of ``facts_line``.
        is_small: Whether the thumbnail is to be enlarged.

    Raises:
        ValueError: ``thumbnail`` is another kind of URI, which would make the page load something.
    """

    name: str
    thumbnail: str = ""
    link: str = ""
    facts: str = ""
    is_small: bool = False

    def __post_init__(self) -> None:
        if self.thumbnail and not self.thumbnail.startswith("data:image/"):
            raise ValueError(f"the thumbnail of {self.name!r} must be a data:image/ URI")


def facts_line(width: int, height: int, kind: str, nbytes: int) -> str:
    """What an image is, in one line: ``500 x 333, JPEG, 47 kB``.

    Args:
        width: Pixels.
        height: Pixels.
        kind: The format.
        nbytes: Size of the file, bytes.
    """
    size = f"{nbytes / 1e6:,.1f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:,.0f} kB"
    return f"{width:,} x {height:,}, {kind}, {size if nbytes >= 1e3 else f'{nbytes:,} bytes'}"


@dataclass(frozen=True, slots=True)
class ClassifiedPicture:
    """An image and its most probable classes.

    Attributes:
        picture: The image.
        classes: Names and probabilities (0 to 1), best first.
    """

    picture: Picture
    classes: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class SearchExample:
    """A query and what was found.

    Attributes:
        query: The image that was searched with.
        neighbors: Images and scores, best first.
    """

    query: Picture
    neighbors: Sequence[tuple[Picture, float]]


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One image of a group of near-duplicates.

    Attributes:
        picture: The image.
        score: The highest probability of being a near-duplicate of another image in the group.
        nearest: That one's name.
        reason: What the two were found by.
    """

    picture: Picture
    score: float
    nearest: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShelfRow:
    """An image, why it is shown, and images to compare it with.

    Attributes:
        picture: The image.
        remark: Stands under it.
        others: Images and what stands under them.
    """

    picture: Picture
    remark: str
    others: Sequence[tuple[Picture, str]]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A part of a gallery with a heading of its own.

    Attributes:
        title: The heading.
        note: What is to be seen.
        rows: The images.
    """

    title: str
    note: str
    rows: Sequence[ShelfRow]


@dataclass(frozen=True, slots=True)
class Gallery(Page):
    """Results with their pictures. Empty parts are left out.

    Attributes:
        images: Images with their classes.
        images_left_out: Number of images that are not shown.
        searches: Search examples.
        groups: Groups of near-duplicates.
        failures: Images that could not be embedded.
        failures_note: A remark on the failures.
        searches_left_out: Number of searches that are not shown.
        shelves: Parts with headings of their own.
    """

    images: Sequence[ClassifiedPicture] = ()
    images_left_out: int = 0
    searches: Sequence[SearchExample] = ()
    groups: Sequence[Sequence[GroupMember]] = ()
    failures: Sequence[ImageFailure] = ()
    failures_note: str = ""
    searches_left_out: int = 0
    shelves: Sequence[Shelf] = ()
