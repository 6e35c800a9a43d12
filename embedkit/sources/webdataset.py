"""WebDataset samples: members of a tar file that share a key belong together.

The key is the path up to the first dot of the file's name. Source:
https://github.com/webdataset/webdataset, ``webdataset/tariterators.py``. Where several samples
share it, as ``frame_0.25`` and ``frame_0.50`` do, companions belong to the image with the longest
common stem.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from embedkit.sources.examples import Examples
from embedkit.sources.image_suffixes import has_image_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embedkit.types import ImageRecord

__all__ = ["Member", "Samples", "is_class_name", "sample_key"]

_log = logging.getLogger("embedkit")

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

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        folder, slash, base = self.name.rpartition("/")
        return folder + slash + base.rpartition(".")[0] if "." in base else self.name


def sample_key(name: str) -> str:
    """Return the key of the sample that a member belongs to."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def is_class_name(name: str) -> bool:
    """Tell whether a member holds the class of its sample."""
    return name.lower().endswith(".cls")


class Samples:
    """Gives the images of one archive the classes of their samples, and leaves out companions.

    Args:
        archive: The archive's name, for warnings.
    """

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._unclear, self._alone = Examples(), Examples()

    def records(self, members: Iterable[Member]) -> Iterator[ImageRecord]:
        """Pair the members, and warn at the end if it isn't clear which class some images have.

        Args:
            members: In the order of the archive; those of one sample follow each other.

        Yields:
            The records in the same order, without classes and what else accompanies an image.
        """
        for _, run in groupby(members, key=lambda member: sample_key(member.name)):
            for batch in _batches(run):
                yield from self._pair(batch)
        if self._unclear:
            _log.warning(
                "%s: it isn't clear which .cls belongs to %s: no label",
                self._archive,
                self._unclear,
            )
        if self._alone:
            _log.warning("%s: no image beside %s: not used", self._archive, self._alone)

    def _pair(self, members: list[Member]) -> Iterator[ImageRecord]:
        samples = _split_repeats(members)
        names = [{member.name for member in sample} for sample in samples]
        has_classes = any(member.text for member in members)
        if has_classes and any(one != names[0] for one in names):
            # Repeated keys that don't alternate: any class might belong to any image.
            for member in members:
                if _is_listed(member, members):
                    yield self._without_class(member)
            return
        for sample in samples:
            yield from self._label(sample)

    def _label(self, sample: list[Member]) -> Iterator[ImageRecord]:
        listed = [member for member in sample if _is_listed(member, sample)]
        if not listed:
            self._alone.add(sample[0].name)
        classes = _classes_by_image(listed, [member for member in sample if member.text])
        for member, texts in zip(listed, classes, strict=True):
            if not texts:
                yield member.record
            elif len(texts) == 1:
                yield replace(member.record, label=min(texts))
            else:
                yield self._without_class(member)

    def _without_class(self, member: Member) -> ImageRecord:
        self._unclear.add(member.name)
        return replace(member.record, label=None)


def _batches(run: Iterable[Member]) -> Iterator[list[Member]]:
    """Cut a run of members with one key where its length demands it, at a change of the stem."""
    batch: list[Member] = []
    for member in run:
        is_long = len(batch) >= _MAX_SAMPLE
        if is_long and (member.stem != batch[-1].stem or len(batch) >= 2 * _MAX_SAMPLE):
            yield batch
            batch = []
        batch.append(member)
    yield batch


def _split_repeats(members: list[Member]) -> list[list[Member]]:
    """Begin a new sample where a name comes again."""
    samples: list[list[Member]] = [[]]
    names: set[str] = set()
    for member in members:
        if member.name in names:
            samples.append([])
            names.clear()
        names.add(member.name)
        samples[-1].append(member)
    return samples


def _is_listed(member: Member, sample: list[Member]) -> bool:
    """Tell whether a member is an image, or may be one as its sample has no other."""
    if has_image_name(member.name):
        return True
    return not is_class_name(member.name) and not any(has_image_name(one.name) for one in sample)


def _classes_by_image(images: list[Member], classes: list[Member]) -> list[set[str]]:
    """Find the classes of each image: one, none, or several where it isn't clear.

    Each class belongs to the images that share the most dotted parts with its stem; of several
    classes of an image, the one that shares most is its own.
    """
    by_stem: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        for stem in _stems(image):
            by_stem.setdefault(stem, []).append(place)
    best: list[tuple[int, set[str]]] = [(0, set()) for _ in images]
    for one in classes:
        stem = next((stem for stem in _stems(one) if stem in by_stem), "")
        if one.text is None or not by_stem.get(stem):
            continue
        texts = {one.text}
        if stem != one.stem and len(by_stem[stem]) > 1:
            texts.add("")  # it shares a part with several images, and has one more of its own
        for place in by_stem[stem]:
            if len(stem) > best[place][0]:
                best[place] = (len(stem), set(texts))
            elif len(stem) == best[place][0]:
                best[place][1].update(texts)
    return [texts for _, texts in best]


def _stems(member: Member) -> Iterator[str]:
    """Yield the member's stem, then what is left of it without its last dotted part, and so on."""
    stem: str = member.stem
    key = sample_key(member.name)
    while len(stem) > len(key):
        yield stem
        stem = stem.rpartition(".")[0]
    yield key
