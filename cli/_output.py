"""What the commands print, and with which code they exit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path

import typer

from ._streams import silence

__all__ = [
    "ExitCode",
    "bytes_of",
    "check_outputs",
    "count_of",
    "plain",
    "print_json",
    "print_message",
    "print_table",
]


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SOME_FAILED = 3
    INTERRUPTED = 130


def plain(value: object) -> str:
    """Returns text that is safe to print: control characters, as in names, are escaped."""
    from embedkit.utils.text import printable

    return printable(value)


def count_of(number: int, noun: str) -> str:
    """Returns ``1 image`` or ``1,200 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def bytes_of(number: int) -> str:
    """Returns ``512 bytes``, ``3.4 kB``, ``1.2 MB`` or ``5.6 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return count_of(number, "byte")


def check_outputs(table: Path | None, *others: Path | None, what: str, overwrite: bool) -> None:
    """Refuses outputs that can't be written, before the work that takes long.

    Args:
        table: A table to write; None if there is none.
        others: More files to write.
        what: What the table holds, for the message.
        overwrite: Whether existing files are replaced.
    """
    from embedkit.errors import StoreError
    from embedkit.utils.table_writers import check_suffix

    if table is not None:
        check_suffix(table, what)
    for path in filter(None, (table, *others)):
        if path.exists() and not overwrite:
            raise StoreError(f"{path}: exists already; overwrite=True replaces it")


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Prints JSON to stdout; ASCII only, so that strange file names survive."""
    from embedkit.utils.json import finite

    typer.echo(json.dumps(finite(value), indent=indent, default=str, allow_nan=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints aligned columns to stdout; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(header))]
    for line in [list(header), *cells]:
        parts = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        typer.echo("  ".join(parts).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:,}" if type(value) is int else plain(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").lstrip("-").isdigit()


def print_message(message: str) -> None:
    """Prints a message for people to stderr; it may have several lines, but no other controls.

    A stderr that takes nothing, such as one on a full disk, doesn't end the work.
    """
    try:
        typer.echo("\n".join(map(plain, message.split("\n"))), err=True)
    except OSError:
        silence(sys.stderr)
