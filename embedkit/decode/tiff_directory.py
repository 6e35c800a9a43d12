"""Reads the directories of a TIFF: the entries that decide how its pictures are laid out.

Nothing is changed, and no pixel is read.

Source: TIFF 6.0 (Adobe, 1992); BigTIFF design (Aware Systems); TIFF/EP (ISO 12234-2).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.decode.failure import BadImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Directory", "Tag", "read_pages", "read_sub_images"]


class Tag(enum.IntEnum):
    """The tags that are looked at."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    MAKE = 271
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_IMAGES = 330
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    JPEG_OFFSET = 513
    JPEG_BYTES = 514
    SUBSAMPLING = 530
    DEPTH = 32997
    CFA_DIM = 33421
    CFA_PATTERN = 33422
    ICC_PROFILE = 34675
    DNG_VERSION = 50706


_TAGS = frozenset(Tag)
_BLOBS = frozenset((Tag.MAKE, Tag.JPEG_TABLES, Tag.ICC_PROFILE))
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
         16: 8, 17: 8, 18: 8}  # fmt: skip
"""Bytes of a value of each field type."""
_MAX_PAGES = 65_535
_MAX_ENTRIES = 65_535  # of a directory
_MAX_ALL_ENTRIES = 4_000_000  # of all directories: a second or two of reading
_MAX_VALUES = 2_000_000  # of an entry: more strips than the largest picture has
_FEW_VALUES = 64  # of an entry of a later page
_MAX_SHARED = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    """How this file writes its directories: `struct` formats and sizes in bytes."""

    order: str
    count: str
    offset: str
    room: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: a page, a preview or a mask.

    Attributes:
        prefix: ``II`` or ``MM``, the byte order, as Pillow writes it.
        big: Whether the file is a BigTIFF.
        numbers: The whole numbers of each tag of `Tag` that is there.
        blobs: The bytes of those tags that hold bytes.
    """

    prefix: bytes
    big: bool
    numbers: dict[int, tuple[int, ...]]
    blobs: dict[int, bytes]

    def first(self, tag: Tag, default: int = 0) -> int:
        """The first number of a tag."""
        return self.numbers.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and length in pixels, not turned."""
        return self.first(Tag.WIDTH), self.first(Tag.LENGTH)

    @property
    def pixels(self) -> int:
        """Width times length."""
        return self.size[0] * self.size[1]

    @property
    def is_reduced(self) -> bool:
        """Whether it says of itself that it is a smaller version of another picture."""
        return bool(self.first(Tag.NEW_SUBFILE_TYPE) & 1) or self.first(Tag.SUBFILE_TYPE) == 2

    @property
    def is_page(self) -> bool:
        """Whether it is a picture of its own, neither a smaller version nor a mask."""
        return not self.is_reduced and not self.first(Tag.NEW_SUBFILE_TYPE) & 4


def read_pages(data: bytes) -> Iterator[Directory | None]:
    """The directories in the file's order, at most 65,535.

    Yields:
        Each directory, behind the first without long values; None, at the end, for one that can't
        be read.

    Raises:
        BadImageError: If the first directory, or a value that it needs, lies outside the file.
        struct.error: If the file is cut within the first directory.
    """
    layout = _layout(data)
    (at,) = struct.unpack_from(layout.order + layout.offset, data, layout.room)
    if at == 0:
        return
    seen = {at}
    first, at, entries = _read_directory(data, layout, at, _MAX_VALUES)
    yield first
    while at and at not in seen and len(seen) < _MAX_PAGES and entries < _MAX_ALL_ENTRIES:
        seen.add(at)
        try:
            directory, at, more = _read_directory(data, layout, at, _FEW_VALUES)
        except (BadImageError, struct.error):
            yield None
            return
        entries += more
        yield directory


def read_sub_images(data: bytes, parent: Directory) -> list[Directory]:
    """The directories that a directory points at as its sub-images, as far as they can be read."""
    layout = _layout(data)
    found = []
    for at in parent.numbers.get(Tag.SUB_IMAGES, ())[:64]:
        try:
            found.append(_read_directory(data, layout, at, _FEW_VALUES)[0])
        except (BadImageError, struct.error):  # of no use to the picture itself
            continue
    return found


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    return _Layout(order, "Q", "Q", 8) if version == 43 else _Layout(order, "H", "I", 4)


def _read_directory(
    data: bytes, layout: _Layout, at: int, max_values: int
) -> tuple[Directory, int, int]:
    """A directory without longer values, the place of the next one, and how many entries it has."""
    if at >= len(data):
        raise BadImageError(f"truncated: the TIFF's directory would be at byte {at}")
    (count,) = struct.unpack_from(layout.order + layout.count, data, at)
    at += struct.calcsize(layout.order + layout.count)
    form = struct.Struct(f"{layout.order}HH{layout.offset}{layout.room}s")
    end = at + count * form.size
    if count > _MAX_ENTRIES or end > len(data):
        raise BadImageError(
            f"truncated: the TIFF's directory has {count} entries, more than follow"
        )
    directory = Directory(data[:2], layout.room == 8, {}, {})
    total = 0
    for tag, kind, number, field in form.iter_unpack(data[at:end]):
        nbytes = number * _UNIT.get(kind, 0)
        total += min(nbytes, len(data))
        if tag in _TAGS and nbytes and (number <= max_values or tag in _BLOBS):
            _take(directory, data, layout, (tag, kind, number, field))
    if total > _MAX_SHARED * len(data):  # all of it would be read, once per entry
        raise BadImageError(
            f"damaged: the TIFF's entries hold {total:,} bytes, the file {len(data):,}"
        )
    after = 0
    if end + layout.room <= len(data):  # else nobody says where the next one would be
        (after,) = struct.unpack_from(layout.order + layout.offset, data, end)
    return directory, after, count


def _take(
    directory: Directory, data: bytes, layout: _Layout, entry: tuple[int, int, int, bytes]
) -> None:
    """Note the value of an entry."""
    tag, kind, number, field = entry
    if tag in directory.numbers or tag in directory.blobs:
        raise BadImageError(f"damaged: TIFF tag {tag} is there twice")
    nbytes = number * _UNIT[kind]
    start = 0
    if nbytes > layout.room:
        (start,) = struct.unpack(layout.order + layout.offset, field)
        if start + nbytes > len(data):
            if tag in _BLOBS and tag != Tag.JPEG_TABLES:
                return
            raise BadImageError(f"truncated: the value of TIFF tag {tag} is beyond the file's end")
    value = data[start : start + nbytes] if nbytes > layout.room else field[:nbytes]
    if kind in _INTEGERS and tag not in _BLOBS:
        directory.numbers[tag] = struct.unpack(f"{layout.order}{number}{_INTEGERS[kind]}", value)
    else:
        directory.blobs[tag] = value
