"""WebDataset samples: members of a tar file that share a key belong together.

Source: https://github.com/webdataset/webdataset, ``webdataset/tariterators.py``: the key is the
path up to the first dot of the file's name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

from embedkit.sources.image_suffixes import has_image_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embedkit.types import ImageRecord

__all__ = ["Member", "group_samples", "is_class_name", "sample_key"]

_MAX_SAMPLE = 1_000
"""Members held at once: names such as ``.a``, ``.b`` must not make one sample of an archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a tar.

    Attributes:
        name: Its name in the archive.
        record: Its record.
        text: Its text, if it is a class (``.cls``).
    """

    name: str
    record: ImageRecord
    text: str | None = None


def sample_key(name: str) -> str:
    """Return the key of the sample that a member belongs to."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def is_class_name(name: str) -> bool:
    """Tell whether a member holds the class of its sample."""
    return name.lower().endswith(".cls")


def group_samples(members: Iterable[Member]) -> Iterator[ImageRecord]:
    """Give images the class of their sample, and mark what accompanies them.

    Args:
        members: In the order of the archive; those of one sample follow each other.

    Yields:
        One record per member, in the same order.
    """
    for _, sample in groupby(members, key=lambda member: sample_key(member.name)):
        while batch := list(islice(sample, _MAX_SAMPLE)):
            yield from _label(batch)


def _label(sample: list[Member]) -> Iterator[ImageRecord]:
    text = next((member.text for member in sample if member.text), None)
    has_image = any(has_image_name(member.name) for member in sample)
    for member in sample:
        if has_image and not has_image_name(member.name):
            yield replace(member.record, sidecar=True)
        else:
            yield replace(member.record, label=text) if text else member.record
