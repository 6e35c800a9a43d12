"""Filters on image metadata: ``label=cat``, ``width>=300``, ``path=*/cats/*``."""

from __future__ import annotations

import fnmatch
import operator
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.retrieval.selections import check_name
from embedkit.types import MISSING_INTEGER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.types import AnnotationKind

__all__ = ["NUMBERS", "SELECTION", "TEXTS", "Filter"]

SELECTION = "selection:"
"""Stands as the column of a filter on a named selection."""

TEXTS = ("label", "path", "format", "camera")
NUMBERS = (
    *("width", "height", "nbytes", "aspect", "frames", "luminance", "luminance_std"),
    *("clipped_dark", "clipped_bright", "entropy", "sharpness", "colorfulness", "gray"),
    *("alpha", "bits", "captured"),
)

_FILTER = re.compile(r"\s*([^=<>!]*[^=<>!\s])\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_BOOLEANS = {"true": "1", "yes": "1", "1": "1", "false": "0", "no": "0", "0": "0"}
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
        column: One of ``TEXTS`` or ``NUMBERS``, ``path`` is the id, ``aspect`` width by height; a
            column that ``annotate`` put in; or ``SELECTION``.
        op: ``=``, ``!=``, and for numbers ``<``, ``<=``, ``>``, ``>=``.
        value: A number (pixels, bytes), ``true`` or ``false``, or for texts a pattern of ``*``,
            ``?`` and ``[abc]`` that the whole text must match; capitals count, but not in
            ``format``; of ``SELECTION`` its name.
    """

    column: str
    op: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Reads a filter as a user writes it.

        Whether the column exists, if it isn't a built-in one, and what it holds, only a store says:
        see ``for_kind``.

        Raises:
            ValueError: It isn't one; the message says what is wrong.
        """
        if text.startswith(SELECTION):
            return cls(SELECTION, "=", check_name(text.removeprefix(SELECTION)))
        found = _FILTER.fullmatch(text)
        if found is None:
            raise ValueError(f"filter {text!r}: write COLUMN=VALUE, or !=, <, <=, >, >=")
        column, op, value = found[1], found[2], found[3].strip()
        parsed = cls(column, op, value)
        if column in TEXTS:
            return parsed.for_kind("text")
        return parsed.for_kind("float") if column in NUMBERS else parsed

    def for_kind(self, kind: AnnotationKind) -> Filter:
        """The filter on a column of a kind; of a boolean one the value becomes 0 or 1.

        Raises:
            ValueError: Such a column can't be compared so.
        """
        text = f"filter '{self.column}{self.op}{self.value}': {self.column}"
        is_equality = self.op in {"=", "!="}
        if kind == "text" and not is_equality:
            raise ValueError(f"{text} is text, which takes = and !=")
        if kind == "boolean":
            if not is_equality or self.value.lower() not in _BOOLEANS:
                raise ValueError(f"{text} takes = or != and true or false")
            return replace(self, value=_BOOLEANS[self.value.lower()])
        if kind != "text" and not _is_number(self.value):
            raise ValueError(f"{text} takes a number, not {self.value!r}")
        return self

    def passes(self, values: NDArray[Any] | Sequence[str]) -> NDArray[np.bool_]:
        """Which of n values of the column pass, ``(n,)``.

        Args:
            values: Numbers as an array, texts as strings.
        """
        if isinstance(values, np.ndarray):  # what isn't known, such as NaN, passes only !=
            is_whole = values.dtype.kind == "i" and "." not in self.value
            number = int(self.value) if is_whole else float(self.value)
            passed = np.asarray(_COMPARE[self.op](values, number), bool)
            if values.dtype == np.int64:
                passed[values == MISSING_INTEGER] = self.op == "!="
            return passed
        pattern, fold = self.value, self.column == "format"
        match = re.compile(fnmatch.translate(pattern), re.IGNORECASE if fold else 0).match
        matched = np.fromiter((match(value) is not None for value in values), bool, len(values))
        return matched if self.op == "=" else ~matched


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) is not None
