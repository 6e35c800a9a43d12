"""The ids of an index by position: a file of NUL-terminated strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["IdTable"]

_AT_ONCE = 65536


class IdTable:
    """The ids of N positions, in their file.

    Args:
        data: The file's bytes, ``(nbytes,)`` uint8, mapped.
    """

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data = data.data
        self._ends = np.flatnonzero(data == 0)

    def __len__(self) -> int:
        return len(self._ends)

    def names(self, positions: NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
        """The ids at ``(Q, k)`` positions; where a position is -1 there is none."""
        there = positions >= 0
        valid = positions[there]
        stops = self._ends[valid] if len(valid) else valid
        starts = np.where(valid > 0, self._ends[valid - 1] + 1, 0) if len(valid) else valid
        data = self._data
        # A slice of a view costs a tenth of one of a memory map, and one decoding less than many.
        parts = [
            data[start:stop]
            for start, stop in zip(starts.tolist(), (stops + 1).tolist(), strict=True)
        ]
        names = b"".join(parts).decode("utf-8", "surrogateescape").split("\0")
        cuts = [0, *np.cumsum(there.sum(axis=1)).tolist()]
        return tuple(tuple(names[cuts[n] : cuts[n + 1]]) for n in range(len(positions)))

    def positions(self, ids: Iterable[str]) -> tuple[NDArray[np.int64], set[str]]:
        """Where some ids are, and which of them are nowhere.

        Returns:
            The positions of all rows of these ids, ascending, and the ids without a row.
        """
        requested = {name.encode("utf-8", "surrogateescape") for name in ids}
        found: list[int] = []
        missing = set(requested)
        for position, name in enumerate(self.encoded()):
            if name in requested:
                found.append(position)
                missing.discard(name)
        unknown = {name.decode("utf-8", "surrogateescape") for name in missing}
        return np.array(found, np.int64), unknown

    def __iter__(self) -> Iterator[str]:
        return (name.decode("utf-8", "surrogateescape") for name in self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """All ids by position, in the bytes of the file."""
        for start in range(0, len(self), _AT_ONCE):
            last = min(start + _AT_ONCE, len(self)) - 1
            first = int(self._ends[start - 1]) + 1 if start else 0
            yield from bytes(self._data[first : int(self._ends[last])]).split(b"\0")
