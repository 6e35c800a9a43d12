"""Labels as text: numbers, names of classes, lists of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LABEL_SEPARATOR", "label_text"]

LABEL_SEPARATOR = "|"
"""Between several labels of an image."""


def label_text(value: object, classes: Sequence[str] = ()) -> str | None:
    """A label as text; several labels have ``|`` between them.

    Args:
        value: What a table holds; None and NaN are missing labels.
        classes: The names of a Hugging Face ClassLabel, whose values are numbers; negative ones
            (-1, or -100 of a loss that ignores it) are missing labels.
    """
    if isinstance(value, list):
        parts = (label_text(one, classes) for one in value)
        return LABEL_SEPARATOR.join(part for part in parts if part) or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if classes and isinstance(value, int) and value < len(classes):
        return classes[value] if value >= 0 else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
