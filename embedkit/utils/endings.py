"""Endings of output files: each belongs to one format, and no other is written under it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

__all__ = ["refuse_other_ending"]

_FORMATS = {
    "an embedding store": (".h5", ".hdf5"),
    "an index": (".index",),
    "a NumPy file": (".npy", ".npz"),
    "a table": (".csv", ".tsv", ".jsonl", ".parquet", ".arrow", ".feather", ".xlsx"),
    "JSON": (".json",),
    "a page": (".html", ".htm", ".pdf"),
    "an image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".svg", ".bmp"),
    "an archive": (".tar", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z"),
    "text": (".txt", ".lst", ".list", ".log", ".md"),
    "weights": (".pt", ".pth", ".safetensors", ".onnx"),
    "a faiss file": (".faiss",),
    "a pickle": (".pkl", ".pickle"),
    "a database": (".lance", ".db", ".sqlite", ".duckdb"),
}


def refuse_other_ending(output: str | os.PathLike[str], what: str) -> None:
    """Refuses to write one format under the ending of another; other endings are free.

    Args:
        output: The output file or folder.
        what: The format that will be written: one of those of this module.

    Raises:
        ValueError: The ending is another format's.
    """
    suffix, own = Path(output).suffix.lower(), _FORMATS[what]
    other = next((name for name, endings in _FORMATS.items() if suffix in endings), what)
    if other != what:
        raise ValueError(
            f"{output}: {suffix} is the ending of {other}, and {what} would be written; "
            f"choose a name that ends in {own[0]}"
        )
