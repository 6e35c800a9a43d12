"""Reads the messages of HDF5's object headers, as far as a store needs them; never follows them.

Every length is compared with the bytes that are there. What a store doesn't need is refused.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import StoreFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UNDEFINED", "LayoutError", "Message", "check_attribute", "extent_of", "messages_in"]

UNDEFINED = 2**64 - 1
"""HDF5's address of what isn't there."""

_NIL, _SPACE, _TYPE, _OLD_FILL, _FILL, _EXTENT, _ATTRIBUTE, _TIME = 0, 1, 3, 4, 5, 8, 12, 18
_CONTINUATION, _SYMBOLS, _EXTERNAL, _FILTERS = 16, 17, 7, 11
_NEWER_GROUP = {2, 6, 10}  # it may have links to elsewhere
_PLAIN = {_NIL, _SPACE, _TYPE, _OLD_FILL, _FILL, _EXTENT, _ATTRIBUTE, _TIME}
_INTEGER, _FLOAT, _STRING, _ENUM, _VLEN = 0, 1, 3, 8, 9
_REFERENCE = 16  # bytes of a variable-length value where it is used
_TEXTS = (b"\1\0\0", b"\1\1\0")  # a text of any length: ASCII, UTF-8
_MAX_RANK = 3


class LayoutError(StoreFormatError):
    """A structure that a store doesn't have; the message lacks the file's name."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an object header.

    Attributes:
        kind: HDF5's number of its kind.
        data: Its content.
    """

    kind: int
    data: bytes

    @property
    def continuation(self) -> tuple[int, int] | None:
        """Where more messages lie, and how many bytes; None for another kind."""
        return self._unpack("<QQ") if self.kind == _CONTINUATION else None

    @property
    def symbols(self) -> tuple[int, int] | None:
        """Where the B-tree and the heap of a group lie; None for another kind."""
        return self._unpack("<QQ") if self.kind == _SYMBOLS else None

    def _unpack(self, form: str) -> tuple[int, int]:
        if len(self.data) < struct.calcsize(form):
            raise LayoutError("a message is too short")
        first, second = struct.unpack_from(form, self.data)
        return first, second


def messages_in(block: bytes, name: str) -> Iterator[Message]:
    """The messages of one block of an object header.

    Args:
        block: The block.
        name: What the object is called, for errors.

    Raises:
        LayoutError: A message is cut short, shared, or of a kind that no store has.
    """
    at = 0
    while at < len(block):
        if len(block) - at < 8:
            raise LayoutError(f"the header of {name} has another length")
        kind, size, flags = struct.unpack_from("<HHB", block, at)
        at += 8 + size
        if at > len(block) or size % 8:
            raise LayoutError(f"the header of {name} is cut short")
        if kind in _NEWER_GROUP:
            raise LayoutError(f"{name} is missing, or a link to elsewhere")
        if kind == _EXTERNAL:
            raise LayoutError(f"{name} is not a plain dataset")
        if kind == _FILTERS:
            raise LayoutError(f"{name} is not stored in one piece")
        if kind not in _PLAIN | {_CONTINUATION, _SYMBOLS} or flags & ~1:
            raise LayoutError(f"{name} is not a plain dataset (message {kind})")
        yield Message(kind, block[at - size : at])


def extent_of(messages: list[Message], name: str) -> tuple[int, int] | None:
    """Where the values of a dataset lie, and how many bytes; None if it isn't a dataset.

    Raises:
        LayoutError: It isn't stored in one piece.
    """
    kinds = [message.kind for message in messages]
    if not {_SPACE, _TYPE, _EXTENT} & set(kinds):
        return None
    if any(kinds.count(kind) != 1 for kind in (_SPACE, _TYPE, _EXTENT)):
        raise LayoutError(f"{name} is not a plain dataset")
    of_kind = {message.kind: message.data for message in messages}
    space, extent = of_kind[_SPACE], of_kind[_EXTENT]
    count = _count(space)
    item, _ = _check_type(of_kind[_TYPE])
    if extent[:1] not in {b"\3", b"\4"} or extent[1:2] == b"\3":
        raise LayoutError(f"{name} is not a plain dataset")
    if extent[1:2] != b"\1":
        raise LayoutError(f"{name} is not stored in one piece")
    start, size = struct.unpack_from("<QQ", extent.ljust(18, b"\0"), 2)
    if size != count * item:
        raise LayoutError(f"{name} is cut short, or longer than its shape")
    return (start, size) if start != UNDEFINED else (0, 0)


def check_attribute(message: Message) -> list[tuple[int, int]]:
    """Checks an attribute; gives the address and length of each text that it refers to.

    Raises:
        LayoutError: Its parts don't fit together.
    """
    if message.kind != _ATTRIBUTE:
        return []
    data = message.data
    version, _, *sizes = struct.unpack_from("<BBHHH", data.ljust(8, b"\0"))
    if version not in {1, 3}:
        raise LayoutError(f"an attribute is of version {version}")
    at = 8 if version == 1 else 9
    parts = []
    for size in sizes:
        parts.append(data[at : at + size])
        at += -(-size // 8) * 8 if version == 1 else size
    count = _count(parts[2])
    item, is_text = _check_type(parts[1])
    if not all(map(len, parts)) or at + count * item > len(data):
        raise LayoutError("an attribute is cut short")
    places = range(at, at + count * item, item) if is_text else ()
    texts = [struct.unpack_from("<IQ", data, place) for place in places]
    return [(address, length) for length, address in texts if length]


def _count(space: bytes) -> int:
    """How many values a dataspace has."""
    version, rank, flags, kind = struct.unpack_from("<BBBB", space.ljust(4, b"\0"))
    at = {1: 8, 2: 4}.get(version, 0)
    if not at or rank > _MAX_RANK or flags & ~1 or (version == 2 and kind == 2):
        raise LayoutError("a dataspace is of another kind")
    if len(space) < at + 8 * rank * (2 if flags & 1 else 1):
        raise LayoutError("a dataspace is cut short")
    return math.prod(struct.unpack_from(f"<{rank}Q", space, at))


def _check_type(data: bytes) -> tuple[int, bool]:
    """The size of a value, bytes, and whether it is a text of any length."""
    kind, item = _type_of(data)
    if kind in {_INTEGER, _FLOAT, _STRING}:
        return item, False
    inner, size = _type_of(data[8:]) if kind in {_VLEN, _ENUM} else (kind, item)
    if kind == _ENUM and inner == _INTEGER and size == item:
        return item, False
    is_text = kind == _VLEN and data[1:4] in _TEXTS and inner in {_INTEGER, _STRING}
    if not is_text or (item, size) != (_REFERENCE, 1):
        raise LayoutError(f"a datatype is of another kind ({kind})")
    return item, True


def _type_of(data: bytes) -> tuple[int, int]:
    """The class of a datatype and the size of a value, bytes."""
    if len(data) < 8:
        raise LayoutError("a datatype is cut short")
    kind, item = data[0] & 15, int.from_bytes(data[4:8], "little")
    needed = {_INTEGER: 12, _FLOAT: 20}.get(kind, 8)
    if len(data) < needed or not 0 < item <= 64 * 1024:
        raise LayoutError("a datatype is cut short")
    return kind, item
