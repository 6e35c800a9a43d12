"""Text that is safe to print."""

from __future__ import annotations

import re

__all__ = ["printable"]

# What moves the cursor, ends a line or turns the text round: C0, DEL, C1, separators, bidi marks.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(value: object) -> str:
    """Text whose control characters, as file names may have, are escaped."""
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], str(value))
