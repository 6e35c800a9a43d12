"""What the commands print, and with which code they exit."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Self

import typer

if TYPE_CHECKING:
    from embedkit.extraction.runner import Progress
    from embedkit.index import IndexProgress

__all__ = [
    "ExitCode",
    "ProgressLine",
    "count_of",
    "plain",
    "print_json",
    "print_message",
    "print_table",
]

# What moves the cursor, ends a line or turns the text round: C0, DEL, C1, separators, bidi marks.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SOME_FAILED = 3
    INTERRUPTED = 130


def plain(value: object) -> str:
    """Returns text that is safe to print: control characters, as in names, are escaped."""
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], str(value))


def count_of(number: int, noun: str) -> str:
    """Returns ``1 image`` or ``1,200 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_json(value: object) -> None:
    """Prints JSON to stdout; ASCII only, so that strange file names survive."""
    from embedkit.utils.json import finite

    typer.echo(json.dumps(finite(value), indent=2, default=str, allow_nan=False))


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
    """Prints a message for people to stderr; it may have several lines, but no other controls."""
    typer.echo("\n".join(map(plain, message.split("\n"))), err=True)


class ProgressLine:
    """One line on stderr, rewritten as the work goes on; nothing when that is no terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._width = 0

    def update(self, progress: Progress) -> None:
        """Shows how far an extraction is."""
        if not self._shown:
            return
        left = progress.total - progress.done
        rate = progress.images_per_second
        eta = _duration(left / rate) if rate > 0 else "-"
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        self._write(
            f"{progress.done:,}/{progress.total:,} images "
            f"({100 * progress.done / progress.total:.0f}%), {rate:.1f} images/s, "
            f"{eta} left{failed}"
        )

    def stage(self, progress: IndexProgress) -> None:
        """Shows how far an index is."""
        if self._shown:
            self._write(
                f"{progress.stage}: {progress.done:,}/{progress.total:,} "
                f"({100 * progress.done / max(progress.total, 1):.0f}%), "
                f"{_duration(progress.seconds)}"
            )

    def images(self, done: int, total: int) -> None:
        """Shows how far a pass over stored images is."""
        if self._shown:
            self._write(f"{done:,}/{total:,} images ({100 * done / max(total, 1):.0f}%)")

    def queries(self, done: int) -> None:
        """Shows how far a search is."""
        if self._shown:
            self._write(f"{done:,} queries")

    def step(self, what: str, done: int, total: int) -> None:
        """Shows how far a step of several is."""
        if self._shown:
            self._write(f"{plain(what)}: {done:,}/{total:,}")

    def download(self, name: str, done: int, total: int | None) -> None:
        """Shows how far a download is."""
        if self._shown:
            of = f" of {total / 1e6:.1f}" if total else ""
            self._write(f"downloading {plain(name)}: {done / 1e6:.1f}{of} MB")

    def files(self, done: int) -> None:
        """Shows how many files were looked at."""
        if self._shown:
            self._write(f"{done:,} files")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Clears the line."""
        if self._width:
            self._write("")
            sys.stderr.write("\r")
            self._width = 0

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
