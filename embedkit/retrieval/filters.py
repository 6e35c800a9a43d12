"""Filters on image metadata: ``label=cat``, ``width>=300``, ``path=*/cats/*``."""

from __future__ import annotations

import fnmatch
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["NUMBERS", "TEXTS", "Filter"]

TEXTS = ("label", "path", "format", "camera")
NUMBERS = (
    *("width", "height", "nbytes", "aspect", "frames", "luminance", "luminance_std"),
    *("clipped_dark", "clipped_bright", "entropy", "sharpness", "colorfulness", "gray"),
    *("alpha", "bits", "captured"),
)

_FILTER = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column of a store.

    Attributes:
        column: One of ``TEXTS`` or ``NUMBERS``; ``path`` is the id, ``aspect`` width by height.
        op: ``=``, ``!=``, and for numbers ``<``, ``<=``, ``>``, ``>=``.
        value: A number (pixels, bytes), or for texts a pattern of ``*``, ``?`` and ``[abc]`` that
            the whole text must match; capitals count, but not in ``format``.
    """

    column: str
    op: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Reads a filter as a user writes it.

        Raises:
            ValueError: It isn't one; the message says what is wrong.
        """
        found = _FILTER.fullmatch(text)
        if found is None:
            raise ValueError(f"filter {text!r}: write COLUMN=VALUE, or !=, <, <=, >, >=")
        column, op, value = found[1], found[2], found[3].strip()
        if column not in TEXTS + NUMBERS:
            raise ValueError(f"filter {text!r}: no column {column}; {', '.join(TEXTS + NUMBERS)}")
        if column in TEXTS and op not in {"=", "!="}:
            raise ValueError(f"filter {text!r}: {column} is text, which takes = and !=")
        if column in NUMBERS and not _is_number(value):
            raise ValueError(f"filter {text!r}: {column} takes a number, not {value!r}")
        return cls(column, op, value)

    def passes(self, values: NDArray[Any] | Sequence[str]) -> NDArray[np.bool_]:
        """Which of n values of the column pass, ``(n,)``.

        Args:
            values: Numbers as an array, texts as strings.
        """
        if self.column in NUMBERS:  # what isn't known, NaN, passes only !=
            return np.asarray(_COMPARE[self.op](values, float(self.value)), bool)
        pattern, fold = self.value, self.column == "format"
        match = re.compile(fnmatch.translate(pattern), re.IGNORECASE if fold else 0).match
        matched = np.fromiter((match(value) is not None for value in values), bool, len(values))
        return matched if self.op == "=" else ~matched


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) is not None
