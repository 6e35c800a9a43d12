"""Splits the bytes of a list into entries: its encoding, its separator, blank lines, comments."""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from embedkit.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ListEntries", "marked_encoding", "split_entries"]

_BLOCK = 2**16
_MAX_ENTRY = 2**20
# The mark of UTF-32 begins like that of UTF-16, so it comes first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class ListEntries:
    """The entries of a list.

    Attributes:
        null: Whether they end in NUL; then each is a plain name.
        entries: The entries in order; bytes that are not UTF-8 as surrogate escapes.
    """

    null: bool
    entries: Iterator[str]


def split_entries(stream: BinaryIO, where: str, *, null: bool = False) -> ListEntries:
    """Split a list into its entries, holding no more than a block of it.

    A byte order mark tells UTF-16 and UTF-32; otherwise the bytes of names are kept. Entries end
    in a newline, or in NUL if ``null`` is set or the first block can only be a NUL-separated list.
    Between newlines, blank lines and lines that start with ``#`` are ignored; between NULs, only
    empty entries.

    Args:
        stream: The list's bytes.
        where: The list's name, for errors.
        null: Whether entries end in NUL.

    Returns:
        The entries. Iterating over them raises SourceError where the list can't be read further.

    Raises:
        SourceError: It isn't a list of paths, or its encoding isn't known.
    """
    head = stream.read(_BLOCK)
    encoding = marked_encoding(head)
    blocks = _blocks(head, stream)
    if encoding is not None:
        blocks = _as_utf8(blocks, encoding, where)
    elif not null:
        null = _is_null_separated(head, is_whole=len(head) < _BLOCK)
        if not null:
            _refuse_nul(head, where)
    return ListEntries(null, _entries(blocks, b"\0" if null else b"\n", where))


def marked_encoding(head: bytes) -> str | None:
    """Tell UTF-16 or UTF-32 by the byte order mark; None where there is none of them.

    Args:
        head: The first 4 bytes, or more.
    """
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def _blocks(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    block = head.removeprefix(codecs.BOM_UTF8)
    while block:
        yield block
        block = stream.read(_BLOCK)


def _as_utf8(blocks: Iterator[bytes], encoding: str, where: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as exc:
        raise SourceError(
            f"{where}: damaged {encoding.upper()} text ({exc.reason}): save the list as UTF-8"
        ) from exc


def _is_null_separated(head: bytes, *, is_whole: bool) -> bool:
    """Tell whether the first block can only be that of a NUL-separated list.

    UTF-16 text has a NUL beside every ASCII letter, so an entry of one byte makes it doubtful; so
    does an entry that begins or ends with a line break.
    """
    *entries, rest = head.split(b"\0")
    if not entries or (is_whole and rest) or head.count(b"\n") >= len(entries):
        return False
    return all(len(entry) > 1 and entry.strip(b"\r\n") == entry for entry in entries)


def _refuse_nul(data: bytes, where: str) -> None:
    if b"\0" in data:
        raise SourceError(
            f"{where}: has zero bytes. If it is UTF-16 text, save it as UTF-8 or with a byte order "
            "mark; if its entries end in NUL (find -print0), pass null=True"
        )


def _entries(blocks: Iterator[bytes], separator: bytes, where: str) -> Iterator[str]:
    rest = b""
    for block in blocks:
        if separator != b"\0":
            _refuse_nul(block, where)
        *entries, rest = (rest + block).split(separator)
        if len(rest) > _MAX_ENTRY:
            raise SourceError(
                f"{where}: not a list of paths: an entry is longer than {_MAX_ENTRY:,} bytes"
            )
        yield from _kept(entries, separator)
    yield from _kept([rest], separator)


def _kept(entries: list[bytes], separator: bytes) -> Iterator[str]:
    for entry in entries:
        if separator == b"\0":
            if entry:
                yield os.fsdecode(entry)
        elif entry.strip() and not entry.startswith(b"#"):
            yield os.fsdecode(entry.rstrip(b"\r"))
