"""Finds ids that come twice among many, with 8 bytes of memory for each."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import SourceError
from embedkit.sources.examples import Examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from embedkit.types import ImageRecord

__all__ = ["UniqueIds"]


class UniqueIds:
    """Notes the ids of records as 64-bit hashes, and refuses equal ones at the end."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def noted(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Yield the records, with their ids noted."""
        for record in records:
            self._hashes.append(_hash(record.id))
            yield record

    def check(self, again: Callable[[], Iterable[ImageRecord]]) -> None:
        """Refuse ids that came twice.

        Args:
            again: Lists the same records; called where two hashes are equal.

        Raises:
            SourceError: Two records have one id.
        """
        hashes = np.sort(np.frombuffer(self._hashes, np.uint64))
        equal = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not equal:
            return
        counts = Counter(one.id for one in again() if _hash(one.id) in equal)
        repeated = Examples()
        for name, count in counts.items():
            if count > 1:
                repeated.add(name)
        if repeated:
            raise SourceError(
                f"listed more than once: {repeated}; ids must be unique, so name each image once"
            )


def _hash(image_id: str) -> int:
    data = image_id.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
