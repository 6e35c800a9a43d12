"""Checks an uploaded image for known copies, as ``check_duplicates`` does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.dedup.check import check_duplicates

if TYPE_CHECKING:
    from embedkit.server.call import Call

__all__ = ["check_image"]


def check_image(call: Call, data: bytes) -> list[dict[str, Any]]:
    """The images of the index that an image is a copy of, the best first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        path.write_bytes(data)
        checked = check_duplicates(call.served.path, path, verify=True)
    rows = call.served.rows_of([match.id for match in checked.matches]).tolist()
    return [
        {
            "item": item,
            "score": match.score,
            "cosine": match.cosine,
            "edit": "same bytes" if match.exact else None,
            "copy": match.exact or match.verified is True,
        }
        for match, item in zip(checked.matches, call.items(rows), strict=True)
    ]
