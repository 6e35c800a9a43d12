"""Plain data of a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.types import ImageFailure

__all__ = [
    "ClassifiedPicture",
    "Gallery",
    "GroupMember",
    "Picture",
    "SearchExample",
    "Shelf",
    "ShelfRow",
]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the gallery shows it.

    Attributes:
        name: What stands under it and is read aloud; any text.
        thumbnail: A ``data:image/`` URI, of ``thumbnail``; empty where there is none.

    Raises:
        ValueError: ``thumbnail`` is another kind of URI, which would make the page load something.
    """

    name: str
    thumbnail: str

    def __post_init__(self) -> None:
        if self.thumbnail and not self.thumbnail.startswith("data:image/"):
            raise ValueError(f"the thumbnail of {self.name!r} must be a data:image/ URI")


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
class Gallery:
    """A report: what was done, and what came of it. Empty parts are left out.

    Attributes:
        title: The page's title.
        facts: Names and values of what was done.
        images: Images with their classes.
        images_left_out: Number of images that are not shown.
        searches: Search examples.
        groups: Groups of near-duplicates.
        failures: Images that could not be embedded.
        failures_note: A remark on the failures.
        searches_left_out: Number of searches that are not shown.
        shelves: Parts with headings of their own.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    images: Sequence[ClassifiedPicture] = ()
    images_left_out: int = 0
    searches: Sequence[SearchExample] = ()
    groups: Sequence[Sequence[GroupMember]] = ()
    failures: Sequence[ImageFailure] = ()
    failures_note: str = ""
    searches_left_out: int = 0
    shelves: Sequence[Shelf] = ()
