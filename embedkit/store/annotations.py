"""Annotations: the columns that a user puts into a store. Their kinds, names and missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.store.format import IMAGE_DTYPES, OPTIONAL_DTYPES
from embedkit.types import MISSING_INTEGER, AnnotationKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "ANNOTATION_DTYPES",
    "MOST_ANNOTATIONS",
    "annotation_kind",
    "common_annotations",
    "kind_of",
    "name_problem",
    "optional_values",
]

ANNOTATION_DTYPES: dict[AnnotationKind, np.dtype[Any]] = {
    "text": np.dtype(object),
    "integer": np.dtype("<i8"),
    "float": np.dtype("<f8"),
    "boolean": np.dtype("i1"),
}
"""How each kind is stored. Missing are: an empty text, ``MISSING_INTEGER``, NaN, and -1 for a
boolean, whose other values are 0 and 1."""

MOST_ANNOTATIONS = 100
_LONGEST_NAME = 100  # bytes
_NOT_IN_NAMES = frozenset("/=<>!,")
_BUILT_IN = frozenset(
    (*IMAGE_DTYPES, *OPTIONAL_DTYPES, "id", "path", "image_path", "row", "label", "aspect",
     "embedding", "vector")
)  # fmt: skip


def annotation_kind(dtype: np.dtype[Any]) -> AnnotationKind | None:
    """The kind of annotation that a dtype stores; None if none has it."""
    return next((kind for kind, one in ANNOTATION_DTYPES.items() if one == dtype), None)


def kind_of(dtype: np.dtype[Any]) -> AnnotationKind:
    """The kind of an annotation that was read.

    Raises:
        ValueError: No annotation has this dtype.
    """
    kind = annotation_kind(dtype)
    if kind is None:
        raise ValueError(f"no annotation is of {dtype}")
    return kind


def name_problem(name: str) -> str:
    """Why a column can't have this name; empty if it can."""
    if name in _BUILT_IN:
        return "is that of a built-in column"
    if not name or name != name.strip() or not name.isprintable() or name == ".":
        return "must be printable text without blanks at its ends"
    if _NOT_IN_NAMES & {*name}:
        return "must have none of / = < > ! and ,"
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    return ""


def common_annotations(
    shards: Sequence[Mapping[str, np.dtype[Any]]],
) -> dict[str, np.dtype[Any]]:
    """The annotations that all of some shards have, with the same dtype."""
    first = shards[0] if shards else {}
    return {
        name: dtype
        for name, dtype in first.items()
        if all(one.get(name) == dtype for one in shards)
    }


def optional_values(values: NDArray[Any]) -> list[Any]:
    """An annotation's values as Python objects: str, int, float or bool; None where missing."""
    found = values.tolist()
    if values.dtype.hasobject:
        return [value.decode("utf-8", "backslashreplace") or None for value in found]
    if values.dtype.kind == "f":
        return [None if value != value else value for value in found]
    if values.dtype == ANNOTATION_DTYPES["boolean"]:
        return [None if value < 0 else bool(value) for value in found]
    return [None if value == MISSING_INTEGER else value for value in found]
