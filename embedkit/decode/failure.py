"""The reason why an image can't be decoded, whatever the libraries raise."""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image

from embedkit.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BadImageError", "mapped_errors"]


class BadImageError(ValueError):
    """The image can't be decoded; the message is the whole reason, one line."""


@contextmanager
def mapped_errors(image_id: str) -> Iterator[None]:
    """Turn whatever decoding raises into a `DecodeError`.

    Damaged bytes bring nearly every built-in error out of the plugins and out of Little CMS, and
    the set grows with each release, so all of `Exception` is taken; KeyboardInterrupt is not one.
    """
    try:
        yield
    except BadImageError as exc:
        raise DecodeError(image_id, _one_line(str(exc))) from exc
    except MemoryError as exc:
        raise DecodeError(image_id, "not enough memory to decode it") from exc
    except Image.DecompressionBombError as exc:
        reason = "too many pixels for Pillow's own limit, PIL.Image.MAX_IMAGE_PIXELS"
        raise DecodeError(image_id, reason) from exc
    except Exception as exc:
        raise DecodeError(
            image_id, _one_line(f"{_damage_kind(exc)}: {str(exc) or type(exc).__name__}")
        ) from exc


_CUT = re.compile(
    "truncat|not enough|not large enough|end of|too short|no more|premature", re.IGNORECASE
)
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")
_MAX_REASON = 200


def _damage_kind(exc: Exception) -> str:
    """Classifies an error: a truncated file or a damaged one."""
    cut = isinstance(exc, (EOFError, IndexError, struct.error)) or _CUT.search(str(exc))
    return "truncated" if cut else "damaged"


def _one_line(text: str) -> str:
    """Printable, on one line, without memory addresses, at most 200 characters."""
    line = " ".join(_ADDRESS.sub("the file", text).split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
