"""Text that is safe to print, and safe in the cells of a spreadsheet."""

from __future__ import annotations

import re

__all__ = ["begins_formula", "cell_text", "printable"]

# What moves the cursor, ends a line or turns the text round: C0, DEL, C1, separators, bidi marks.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_FORMULA = re.compile("[=+\\-@\uff0b\uff0d\uff1d\uff20]")  # the last four are wide ones
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def printable(value: object) -> str:
    """Text whose control characters, as file names may have, are escaped."""
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], str(value))


def begins_formula(text: str) -> bool:
    """Whether a spreadsheet may take a cell of this text for a formula."""
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def cell_text(text: str) -> str:
    r"""Text that a spreadsheet shows as it is: no formula, and no control characters.

    Those but line feeds, which a quoted cell holds, and the character that would begin a formula,
    become backslash escapes: ``=A1`` becomes ``\x3dA1``.
    """
    if begins_formula(text):
        code = ord(text[0])
        text = (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}") + text[1:]
    return "\n".join(map(printable, text.split("\n")))
