"""Refuses EXIF blocks whose entries share their values, which Pillow would copy once per entry."""

from __future__ import annotations

import struct

from embedkit.decode.failure import BadImageError

__all__ = ["check_exif"]

_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_MAX_SHARED = 8


def check_exif(block: bytes) -> None:
    """Refuse a block that is much larger read than written.

    Args:
        block: The EXIF block without its prefix; empty where there is none.

    Raises:
        BadImageError: If the values of its first directory add up to over eight times its bytes.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
    except struct.error:
        return  # Pillow finds nothing either
    entries = block[start + 2 : start + 2 + 12 * count]
    entries = entries[: len(entries) // 12 * 12]
    total = sum(
        min(_WIDTHS.get(kind, 0) * number, len(block))
        for _, kind, number in struct.iter_unpack(f"{order}HHI4x", entries)
    )
    if total > max(_MAX_SHARED * len(block), 2**20):
        raise BadImageError(f"damaged: EXIF entries of {total:,} bytes in {len(block):,}")
