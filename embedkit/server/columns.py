"""Describes the columns of an index, for filters, sorting and colours."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.server.served_index import MISSING
from embedkit.tabular import valid_text
from embedkit.types import MISSING_INTEGER

if TYPE_CHECKING:
    from embedkit.server.served_index import ServedIndex

__all__ = ["codes_of", "describe_column", "row_values"]

_MOST_VALUES = 200


def describe_column(served: ServedIndex, name: str) -> dict[str, Any]:
    """The kind of a column, its range, or its most frequent values."""
    values = served.values(name)
    described: dict[str, Any] = {
        "name": name, "kind": "number", "min": None, "max": None, "values": []
    }  # fmt: skip
    rows = np.flatnonzero(served.live).tolist()
    if isinstance(values, list):
        counts = Counter(values[row] for row in rows)
        del counts[""]
        described["kind"] = "category" if len(counts) <= _MOST_VALUES else "text"
        described["values"] = [
            {"value": value, "count": count} for value, count in counts.most_common(_MOST_VALUES)
        ]
        return described
    numbers = values[rows]
    numbers = numbers[~np.isnan(numbers)]
    if served.annotation_kind(name) == "boolean":
        described["kind"] = "category"
        described["values"] = [
            {"value": value, "count": int((numbers == number).sum())}
            for number, value in ((1, "true"), (0, "false"))
        ]
    elif len(numbers):
        described["min"], described["max"] = float(numbers.min()), float(numbers.max())
    return described


def codes_of(served: ServedIndex, name: str) -> dict[str, Any]:
    """A column as colours need it: numbers, or the number of each row's category."""
    values = served.values(name)
    if not isinstance(values, list):
        return {"kind": "number", "values": values.tolist()}
    ranked = [value for value, _ in Counter(filter(None, values)).most_common()]
    numbers = {value: number for number, value in enumerate(ranked)}
    codes = [numbers.get(value, -1) for value in values]
    return {"kind": "category", "categories": ranked, "codes": codes}


def row_values(served: ServedIndex, row: int) -> dict[str, Any]:
    """The values of all columns of one row."""
    values = {name: _plain(served, name, row) for name in served.column_names if name != "label"}
    return {"label": served.label(row), **values} if served.labels[1] else values


def _plain(served: ServedIndex, name: str, row: int) -> Any:
    if name == "aspect":
        return float(served.width[row] / max(served.height[row], 1))
    value = served.value(name, row)
    if isinstance(value, bytes):
        return valid_text(value.decode("utf-8", "surrogateescape"))
    if isinstance(value, str):
        return valid_text(value)
    if served.annotation_kind(name) == "boolean":
        return {1: True, 0: False}.get(int(value))
    return None if value == MISSING.get(name, MISSING_INTEGER) else value
