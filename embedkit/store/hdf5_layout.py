"""Checks the structure of an HDF5 file before HDF5 parses it, in time proportional to its size.

HDF5 can loop forever on a damaged or forged file, and nothing can interrupt it. A store needs few
of HDF5's structures, and each of them has a place of its own. So this follows them, each once, and
refuses all else: links, chunks, filters, virtual and external datasets, overlaps and loops.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import StoreFormatError
from embedkit.store.hdf5_messages import (
    UNDEFINED,
    LayoutError,
    Message,
    check_attribute,
    extent_of,
    messages_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Hdf5Layout", "is_hdf5"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FIRST_USER_BLOCK, _LAST_USER_BLOCK = 512, 2**20
_SUPERBLOCK, _ENTRY, _HEADER = 96, 40, 16  # bytes
_MOST_OBJECTS = 1000  # a store has about 30
_MOST_BYTES = 2**24  # of one structure
_HEAPS_AT_ONCE = 8192
_FEW_HEAPS = 32  # walked one by one in less time than at once
_FREE_LIST_ENDS = 1


def is_hdf5(file: int) -> bool:
    """Whether a descriptor is that of an HDF5 file, whole or not."""
    return _user_block(file) is not None


def _user_block(file: int) -> int | None:
    """The bytes before HDF5's own; None if it isn't HDF5."""
    base = 0
    while os.pread(file, len(_SIGNATURE), base) != _SIGNATURE:
        base = base * 2 or _FIRST_USER_BLOCK
        if base > _LAST_USER_BLOCK:
            return None
    return base


class Hdf5Layout:
    """The structure of one HDF5 file, as far as it was checked."""

    def __init__(self, path: Path, file: int) -> None:
        """Checks everything but the texts of datasets, which ``check_texts`` does.

        Args:
            path: The file, for errors.
            file: Its descriptor, open for reading.

        Raises:
            StoreFormatError: It isn't HDF5, or not of the kind that embedkit writes.
        """
        self._path, self._file = path, file
        self._size = os.fstat(file).st_size
        self._taken: dict[int, int] = {}
        self._texts: set[int] = set()
        try:
            self._base = self._superblock()
            self._follow()
            self._refuse_overlaps()
        except LayoutError as exc:
            raise StoreFormatError(f"{path}: not an embedkit store, or damaged: {exc}") from None

    def check_texts(self, start: int, count: int) -> None:
        """Checks the heaps that the texts of a dataset lie in, each once.

        Args:
            start: Where the dataset begins in the file, bytes.
            count: How many texts it has.

        Raises:
            StoreFormatError: They are damaged.
        """
        raw = np.frombuffer(os.pread(self._file, 16 * count, start), "<u4").reshape(-1, 4)
        lengths, places = raw[:, 0], raw[:, 1] + (raw[:, 2].astype(np.uint64) << np.uint64(32))
        places = places[lengths > 0]
        if len(places):
            places = _distinct(places[np.append(True, places[1:] != places[:-1])])
        try:
            if len(raw) < count or (count and int(lengths.max()) > self._size):
                raise LayoutError("a text is longer than the file")
            self._check_heaps(
                places[~np.isin(places, np.array([*self._texts], np.uint64), kind="sort")]
            )
        except LayoutError as exc:
            raise StoreFormatError(f"{self._path}: damaged: {exc}; make this file again") from None

    def _read(self, start: int, size: int, mark: bytes = b"") -> bytes:
        """A structure, which nothing else may contain."""
        if start in self._taken:
            raise LayoutError("its parts form a loop")
        self._taken[start] = start + size
        return self._peek(start, size, mark)

    def _peek(self, start: int, size: int, mark: bytes = b"") -> bytes:
        if start + size > self._size - self._base or size > _MOST_BYTES:
            raise LayoutError("a part lies outside the file")
        found = os.pread(self._file, size, self._base + start)
        if len(found) < size or not found.startswith(mark):
            raise LayoutError("a part is missing")
        return found

    def _superblock(self) -> int:
        base = _user_block(self._file)
        if base is None:
            raise LayoutError("no HDF5 file")
        block = os.pread(self._file, _SUPERBLOCK, base)
        if len(block) < _SUPERBLOCK or block[8:16] != b"\0\0\0\0\0\x08\x08\0":
            raise LayoutError("an HDF5 file of another kind")
        place, free, _, driver = struct.unpack_from("<4Q", block, 24)
        if place != base or (free, driver) != (UNDEFINED, UNDEFINED):
            raise LayoutError("an HDF5 file of another kind")
        self._leaf, self._inner = struct.unpack_from("<HH", block, 16)
        self._root = block[56:]
        self._taken[0] = _SUPERBLOCK
        return base

    def _follow(self) -> None:
        """Follows all objects from the root."""
        entries = [("/", self._root)]
        for _ in range(_MOST_OBJECTS):
            if not entries:
                return
            name, entry = entries.pop()
            _name, header, cached, _pad, tree, heap = struct.unpack("<QQIIQQ", entry)
            if cached not in {0, 1}:
                raise LayoutError(f"{name} is missing, or a link to elsewhere")
            symbols = self._object(name, header)
            if cached and symbols != (tree, heap):
                raise LayoutError(f"{name} is a group of two kinds")
            if symbols is not None:
                entries += self._members(name.lstrip("/"), *symbols)
        raise LayoutError("it has too many objects")

    def _object(self, name: str, start: int) -> tuple[int, int] | None:
        """Checks an object; gives where the members are listed if it is a group."""
        version, count, _, size = struct.unpack_from("<BxHII", self._peek(start, _HEADER))
        if version != 1:
            raise LayoutError(f"the header of {name} is of another kind")
        blocks = [self._read(start, _HEADER + size)[_HEADER:]]
        messages: list[Message] = []
        for block in blocks:
            found = list(messages_in(block, name))
            more = [place for one in found if (place := one.continuation)]
            blocks += [self._read(*place) for place in more]
            messages += found
        if len(messages) > count:
            raise LayoutError(f"the header of {name} has more messages than it says")
        texts = [text for message in messages for text in check_attribute(message)]
        if any(length > self._size for _, length in texts):
            raise LayoutError("a text is longer than the file")
        self._check_heaps(_distinct(np.array([place for place, _ in texts], np.uint64)))
        extent = extent_of(messages, name)
        groups = [place for message in messages if (place := message.symbols)]
        if (extent is not None) + len(groups) != 1:
            raise LayoutError(f"{name} is not a plain dataset")
        if extent is not None and extent[1]:
            if sum(extent) > self._size - self._base:
                raise LayoutError(f"cut short: {name} isn't all there")
            self._take(*extent)
        return groups[0] if groups else None

    def _take(self, start: int, size: int) -> None:
        if start in self._taken:
            raise LayoutError("its parts form a loop")
        self._taken[start] = start + size

    def _members(self, group: str, tree: int, heap: int) -> list[tuple[str, bytes]]:
        """The members of a group: names and symbol table entries."""
        names = self._names(heap)
        node = self._read(tree, 24 + 8 * (4 * self._inner + 1), b"TREE\0\0")
        count, left, right = struct.unpack_from("<HQQ", node, 6)
        if (left, right) != (UNDEFINED, UNDEFINED) or count > 2 * self._inner:
            raise LayoutError(f"the group /{group} has too many members")
        found = []
        for number in range(count):
            key, child, after = struct.unpack_from("<QQQ", node, 24 + 16 * number)
            if max(key, after) >= len(names):
                raise LayoutError("a name is missing")
            leaf = self._read(child, 8 + 2 * self._leaf * _ENTRY, b"SNOD\1\0")
            entries = leaf[8 : 8 + _ENTRY * int.from_bytes(leaf[6:8], "little")]
            if len(entries) % _ENTRY or int.from_bytes(leaf[6:8], "little") > 2 * self._leaf:
                raise LayoutError(f"the group /{group} is cut short")
            found += [entries[at : at + _ENTRY] for at in range(0, len(entries), _ENTRY)]
        return [(self._member(group, names, entry), entry) for entry in found]

    def _member(self, group: str, names: bytes, entry: bytes) -> str:
        start = int.from_bytes(entry[:8], "little")
        stop = names.find(b"\0", start)
        if start >= len(names) or stop <= start:
            raise LayoutError("a name is missing")
        name = names[start:stop].decode("ascii", "backslashreplace")
        return f"{group}/{name}" if group else name

    def _names(self, start: int) -> bytes:
        """The names of a group's members; its list of free places must end."""
        head = self._read(start, 32, b"HEAP\0\0\0\0")
        size, free, place = struct.unpack_from("<QQQ", head, 8)
        names = self._read(place, size)
        seen: set[int] = set()
        while free not in {_FREE_LIST_ENDS, UNDEFINED}:
            if free in seen or free + 16 > size:
                raise LayoutError("a list of free places has no end")
            seen.add(free)
            free, room = struct.unpack_from("<QQ", names, free)
            if not 16 <= room <= size:
                raise LayoutError("a free place lies outside its heap")
        return names

    def _check_heaps(self, places: NDArray[np.uint64]) -> None:
        """Checks global heaps, in which texts lie."""
        for first in range(0, len(places), _HEAPS_AT_ONCE):
            starts = places[first : first + _HEAPS_AT_ONCE].tolist()
            self._check_some_heaps([start for start in starts if start not in self._texts])

    def _check_some_heaps(self, starts: list[int]) -> None:
        blocks = []
        for start in starts:
            head = self._peek(start, 16, b"GCOL\1\0\0\0")
            size = int.from_bytes(head[8:], "little")
            if size < 32 or size % 8:
                raise LayoutError("a heap of texts has another length")
            blocks.append(self._read(start, size))
            self._texts.add(start)
        _refuse_loops(blocks)

    def _refuse_overlaps(self) -> None:
        extents: Iterable[tuple[int, int]] = sorted(self._taken.items())
        for (_, stop), (start, _) in pairwise(extents):
            if start < stop:
                raise LayoutError("two parts lie in the same place")


def _refuse_loops(heaps: list[bytes]) -> None:
    """Walks the texts of some heaps; each must end where the next one begins."""
    if len(heaps) > _FEW_HEAPS:
        _walk_at_once(heaps)
        return
    for heap in heaps:
        words = struct.unpack(f"<{len(heap) // 8}Q", heap)
        at = 2
        while at + 2 <= len(words):
            is_text, size = words[at] & 0xFFFF, words[at + 1]
            at += 2 + (size + 7) // 8 if is_text else size // 8
            if at > len(words) or (not is_text and (size < 16 or size % 8)):
                raise LayoutError("a text lies outside its heap")


def _walk_at_once(heaps: list[bytes]) -> None:
    """As ``_refuse_loops``, in as many steps as the fullest heap has texts."""
    words = np.frombuffer(b"".join(heaps), "<u8").astype(np.int64, copy=False)
    stops = np.cumsum([len(heap) // 8 for heap in heaps], dtype=np.int64)
    at = np.concatenate(([0], stops[:-1])) + 2 if len(heaps) else stops
    while len(at):
        is_text = (words[at] & 0xFFFF) != 0
        size = words[at + 1]
        if (size < 0).any() or (size > 8 * len(words)).any():
            raise LayoutError("a text lies outside its heap")
        at = at + np.where(is_text, 2 + (size + 7) // 8, size // 8)
        if (~is_text & ((size < 16) | (size % 8 != 0))).any() or (at > stops).any():
            raise LayoutError("a text lies outside its heap")
        goes_on = at + 2 <= stops
        at, stops = at[goes_on], stops[goes_on]


def _distinct(places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """As ``numpy.unique``, which imports numpy.ma: a tenth of the time to open a small store."""
    ordered = np.sort(places)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered
