"""Expands brace patterns of WebDataset and shells: ``data-{000..123}.tar``, ``{train,val}.zip``."""

from __future__ import annotations

import re
from math import prod

from braceexpand import braceexpand

__all__ = ["MAX_EXPANSION", "expand_braces"]

MAX_EXPANSION = 1_000_000
"""Maximum number of names; a larger pattern, such as ``{0..9999999999}``, is an error."""

_MAX_DEPTH = 50
_TOKEN = re.compile(
    r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?\n?\}|\{[A-Za-z]\.\.[A-Za-z][^{},]*\}|[{},]"
)


def expand_braces(pattern: str, *, limit: int = MAX_EXPANSION) -> list[str]:
    """Expand every ``{a,b}``, ``{000..123}`` and ``{a..f}`` in ``pattern``, nested ones too.

    Braces that hold neither a comma nor a range stay as they are, and so does all of a pattern
    whose braces don't pair.

    Args:
        pattern: A path or URL.
        limit: The most names that it may expand to.

    Returns:
        The names, the last brace varying fastest; ``[pattern]`` where there is nothing to expand.

    Raises:
        ValueError: It would expand to more than ``limit`` names, or nests too deeply.
    """
    count = _count(pattern)
    if count is None:
        return [pattern]
    if count > limit:
        raise ValueError(f"{pattern!r} expands to more than {limit:,} names")
    return list(braceexpand(pattern, escape=False))


def _count(pattern: str) -> int | None:
    """Count the names, since braceexpand holds all choices of a brace in memory.

    Returns:
        The count; None where braces don't pair.

    Raises:
        ValueError: The braces nest too deeply.
    """
    # For each open brace: the names of each of its choices so far.
    open_braces = [[1]]
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "{":
            open_braces.append([1])
        elif text == "," and len(open_braces) > 1:
            open_braces[-1].append(1)
        elif text == "}":
            if len(open_braces) == 1:
                return None
            names = sum(open_braces.pop())
            open_braces[-1][-1] *= names
        elif text != ",":
            open_braces[-1][-1] *= _range_length(token)
        if len(open_braces) > _MAX_DEPTH:
            raise ValueError(f"{pattern[:100]!r} nests braces more than {_MAX_DEPTH} deep")
    return prod(open_braces[0]) if len(open_braces) == 1 else None


def _range_length(token: re.Match[str]) -> int:
    if token[1] is None:  # of letters: few
        return len(list(braceexpand(token[0], escape=False)))
    first, last, step = int(token[1]), int(token[2]), int(token[3] or 1) or 1
    return abs(last - first) // step + 1
