"""Expands brace patterns of WebDataset and shells: ``data-{000..123}.tar``, ``{train,val}.zip``."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_EXPANSION", "expand_braces"]

MAX_EXPANSION = 1_000_000
"""Maximum number of names; a larger pattern, such as ``{0..9999999999}``, is an error."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def expand_braces(pattern: str, *, limit: int = MAX_EXPANSION) -> list[str]:
    """Expand every ``{a,b}`` and ``{000..123}`` in ``pattern``, nested ones too.

    Braces that hold neither a comma nor a range, and braces that don't close, stay as they are.

    Args:
        pattern: A path or URL.
        limit: The most names that it may expand to.

    Returns:
        The names, the last brace varying fastest; ``[pattern]`` where there is nothing to expand.

    Raises:
        ValueError: It would expand to more than ``limit`` names.
    """
    names = list(islice(_expand(pattern), limit + 1))
    if len(names) > limit:
        raise ValueError(f"{pattern!r} expands to more than {limit:,} names")
    return names


def _expand(pattern: str) -> Iterator[str]:
    for start, end in _groups(pattern):
        choices = _choices(pattern[start + 1 : end])
        if choices is not None:
            # The tail is expanded anew for each choice, so that nothing is held in memory.
            for choice in choices:
                for tail in _expand(pattern[end + 1 :]):
                    yield pattern[:start] + choice + tail
            return
    yield pattern


def _groups(pattern: str) -> Iterator[tuple[int, int]]:
    """Find the positions of the braces that close, from left to right."""
    for start, char in enumerate(pattern):
        if char == "{":
            end = _closing(pattern, start)
            if end is not None:
                yield start, end


def _closing(pattern: str, start: int) -> int | None:
    depth = 0
    for position in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[position], 0)
        if depth == 0:
            return position
    return None


def _choices(body: str) -> Iterator[str] | None:
    """Return what stands for one brace, or None where its body is no choice."""
    match = _RANGE.fullmatch(body)
    if match:
        return _numbers(match[1], match[2], match[3])
    parts = _split(body)
    return (name for part in parts for name in _expand(part)) if len(parts) > 1 else None


def _numbers(first: str, last: str, step: str | None) -> Iterator[str]:
    low, high = int(first), int(last)
    stride = abs(int(step or 1)) or 1
    padded = any(re.match(r"-?0\d", text) for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    span = range(low, high + 1, stride) if low <= high else range(low, high - 1, -stride)
    return (f"{number:0{width}d}" for number in span)


def _split(body: str) -> list[str]:
    """Split at the commas that no inner brace encloses."""
    parts, depth = [""], 0
    for char in body:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts
