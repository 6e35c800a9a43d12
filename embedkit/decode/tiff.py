"""TIFF files brought down to the directory entries that make the first picture.

Pillow reads every entry, follows the pointers to EXIF, GPS and sub-images, and warns about what is
odd in them. Here a new first directory is appended that holds only what decoding needs; the pixels
stay where they are.

Source: TIFF 6.0 (Adobe, 1992); BigTIFF design (Aware Systems).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.decode.exif import BadImageError, Prepared

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["prepare_tiff"]

_SCALARS = frozenset(
    (
        *(256, 257, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 322, 323, 332),
        *(512, 513, 514, 515, 531),
    )
)
"""Width, length, compression, photometric … : one whole number each."""
_ARRAYS = frozenset((258, 273, 279, 320, 324, 325, 338, 339, 519, 520, 521, 529, 530, 532))
"""Bits per sample, strips, tiles, colour map …"""
_BLOBS = frozenset((347, 34675))
"""JPEG tables and the ICC profile."""
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _ICC = 256, 257, 322, 323, 34675

_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_BYTES = {1: "B", 7: "B"}
_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of a value of each field type."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How this file writes its directories: `struct` formats and sizes in bytes."""

    order: str
    count: str
    offset: str
    room: int

    @property
    def entry_size(self) -> int:
        return 4 + 2 * self.room


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory entry; ``field`` is the value, or the offset where it lies, ``room`` bytes."""

    tag: int
    kind: int
    count: int
    field: bytes


def prepare_tiff(data: bytes) -> Prepared:
    """Append a first directory without metadata, and point the header at it.

    Returns:
        The sizes are those of the image and, for a tiled one, of a tile.

    Raises:
        BadImageError: If the directory or a needed value lies outside the file.
        struct.error: If the file is cut within the directory.
    """
    layout = _layout(data)
    entries = _read_entries(data, layout)
    numbers = {e.tag: _number(e, layout) for e in entries.values() if e.tag in _SCALARS}
    if _WIDTH not in numbers or _LENGTH not in numbers:
        raise BadImageError("damaged: the TIFF states no width and length")
    sizes = [(numbers[_WIDTH], numbers[_LENGTH])]
    if _TILE_WIDTH in numbers and _TILE_LENGTH in numbers:
        sizes.append((numbers[_TILE_WIDTH], numbers[_TILE_LENGTH]))
    return Prepared(_rewritten(data, entries, layout), tuple(sizes))


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    return _Layout(order, "Q", "Q", 8) if version == 43 else _Layout(order, "H", "I", 4)


def _read_entries(data: bytes, layout: _Layout) -> dict[int, _Entry]:
    """The entries of the first directory that decoding needs, the first of each tag."""
    (at,) = struct.unpack_from(layout.order + layout.offset, data, layout.room)
    if at >= len(data):
        raise BadImageError(f"truncated: the TIFF's directory would be at byte {at}")
    (count,) = struct.unpack_from(layout.order + layout.count, data, at)
    at += struct.calcsize(layout.order + layout.count)
    entries: dict[int, _Entry] = {}
    for start in range(at, at + count * layout.entry_size, layout.entry_size):
        form = f"{layout.order}HH{layout.offset}{layout.room}s"
        entry = _checked(_Entry(*struct.unpack_from(form, data, start)), data, layout)
        if entry is not None:
            entries.setdefault(entry.tag, entry)
    return entries


def _checked(entry: _Entry, data: bytes, layout: _Layout) -> _Entry | None:
    """The entry if decoding needs it and its value lies in the file."""
    if entry.kind not in _allowed_kinds(entry.tag) or entry.count == 0:
        return None
    nbytes = entry.count * _UNIT[entry.kind]
    start = 0
    if nbytes > layout.room:
        (start,) = struct.unpack(layout.order + layout.offset, entry.field)
    if start + nbytes > len(data):
        if entry.tag == _ICC:
            return None
        raise BadImageError(
            f"truncated: the value of TIFF tag {entry.tag} is beyond the file's end"
        )
    if entry.tag in _SCALARS and entry.count > 1:
        # Pillow takes the first value too, and warns.
        value = data[start:] if nbytes > layout.room else entry.field
        field = value[: _UNIT[entry.kind]].ljust(layout.room, b"\0")
        return _Entry(entry.tag, entry.kind, 1, field)
    return entry


def _allowed_kinds(tag: int) -> Mapping[int, object]:
    """The field types in which the value of a tag is taken; none for a tag that isn't needed."""
    if tag in _SCALARS:
        return _INTEGERS
    if tag in _BLOBS:
        return _BYTES
    return _UNIT if tag in _ARRAYS else {}


def _number(entry: _Entry, layout: _Layout) -> int:
    value: int = struct.unpack_from(layout.order + _INTEGERS[entry.kind], entry.field)[0]
    return value


def _rewritten(data: bytes, entries: dict[int, _Entry], layout: _Layout) -> bytes:
    """The file with ``entries`` as its only directory."""
    at = len(data) + len(data) % 2
    form = f"{layout.order}HH{layout.offset}{layout.room}s"
    rows = [struct.pack(form, e.tag, e.kind, e.count, e.field) for _, e in sorted(entries.items())]
    head = struct.pack(layout.order + layout.offset, at)
    parts = (
        data[: layout.room],
        head,
        data[2 * layout.room :],
        b"\0" * (len(data) % 2),
        struct.pack(layout.order + layout.count, len(rows)),
        *rows,
        struct.pack(layout.order + layout.offset, 0),
    )
    return b"".join(parts)
