"""Makes the ids of many images unique, with 8 bytes of memory for each."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit.sources.examples import Examples
from embedkit.sources.image_suffixes import is_repeated_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from embedkit.types import ImageRecord

__all__ = ["UniqueIds"]

_log = logging.getLogger("embedkit")


class UniqueIds:
    """Notes the ids of records as 64-bit hashes, and renames those that came again."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def noted(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Yield the records, with their ids noted."""
        for record in records:
            self._hashes.append(_hash(record.id))
            yield record

    def renamed(self, again: Callable[[], Iterable[ImageRecord]]) -> Iterator[ImageRecord] | None:
        """Rename ids that came again: the second ``a`` becomes ``a@2``, the third ``a@3``.

        Warns of them.

        Args:
            again: Lists the same records; called where two hashes are equal.

        Returns:
            The records with unique ids; None where they were unique before.
        """
        hashes = set(self._repeated())
        if not hashes:
            return None
        counts = Counter(one.id for one in again() if _hash(one.id) in hashes)
        names = {name for name, count in counts.items() if count > 1}
        if not names:
            return None
        repeated = Examples()
        for name in counts:
            if name in names:
                repeated.add(name)
        _log.warning("listed more than once, so that later ones are ID@2 and so on: %s", repeated)
        return self._numbered(again(), names)

    def _repeated(self) -> list[int]:
        hashes = np.sort(np.frombuffer(self._hashes, np.uint64))
        return [int(one) for one in hashes[1:][hashes[1:] == hashes[:-1]]]

    def _numbered(self, records: Iterable[ImageRecord], names: set[str]) -> Iterator[ImageRecord]:
        taken = np.sort(np.frombuffer(self._hashes, np.uint64))
        numbers: Counter[str] = Counter()
        for record in records:
            name = record.id
            if name in names:
                numbers[name] += 1
                while numbers[name] > 1 and _holds(taken, f"{name}@{numbers[name]}"):
                    numbers[name] += 1
            if numbers.get(name, 0) > 1:
                unique = f"{name}@{numbers[name]}"
                named = record.named or is_repeated_image(name, unique)
                record = replace(record, id=unique, named=named)
            yield record


def _holds(hashes: np.ndarray[tuple[int, ...], np.dtype[np.uint64]], image_id: str) -> bool:
    """Tell whether an id may be among those with these sorted hashes."""
    value = np.uint64(_hash(image_id))
    place = int(np.searchsorted(hashes, value))
    return place < len(hashes) and hashes[place] == value


def _hash(image_id: str) -> int:
    data = image_id.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
