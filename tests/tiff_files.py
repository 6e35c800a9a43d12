"""TIFF files written entry by entry: camera raws, pyramids, and whatever no library writes."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHORT, LONG, ASCII = 3, 4, 2
_FORMS = {SHORT: "H", LONG: "I"}


@dataclass
class Page:
    """A directory: its picture, other entries ``{tag: (kind, values)}``, and sub-images."""

    pixels: np.ndarray
    tags: dict[int, tuple[int, tuple[int, ...] | bytes]] = field(default_factory=dict)
    children: list[Page] = field(default_factory=list)


def tiff(*pages: Page, order: str = "<") -> bytes:
    """A file of these pages, whose pixels aren't compressed."""
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    places = [_write(data, page, order) for page in pages]
    for (_, after), (start, _) in itertools.pairwise(places):
        struct.pack_into(order + "I", data, after, start)
    struct.pack_into(order + "I", data, 4, places[0][0])
    return bytes(data)


def _write(data: bytearray, page: Page, order: str) -> tuple[int, int]:
    """Append pixels, children and directory; where this begins, and where the next one is named."""
    children = tuple(_write(data, child, order)[0] for child in page.children)
    pixels = page.pixels.astype(page.pixels.dtype.newbyteorder(order))
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    entries = {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (pixels.dtype.itemsize * 8,) * samples),
        259: (SHORT, (1,)),
        262: (SHORT, (2 if samples >= 3 else 1,)),
        273: (LONG, (len(data),)),
        277: (SHORT, (samples,)),
        278: (LONG, (height,)),
        279: (LONG, (pixels.nbytes,)),
    }
    data += pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    if children:
        entries[330] = (LONG, children)
    rows = b""
    for tag, (kind, values) in sorted((entries | page.tags).items()):
        raw = (
            values if kind == ASCII else struct.pack(f"{order}{len(values)}{_FORMS[kind]}", *values)
        )
        if len(raw) > 4:
            data += b"\0" * (len(data) % 2)
            place = struct.pack(order + "I", len(data))
            data += raw
        else:
            place = raw.ljust(4, b"\0")
        rows += struct.pack(order + "HHI", tag, kind, len(values)) + place
    data += b"\0" * (len(data) % 2)
    start = len(data)
    data += struct.pack(order + "H", len(rows) // 12) + rows
    data += bytes(4)
    return start, len(data) - 4
