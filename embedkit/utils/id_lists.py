"""Reads lists of image ids: a text file, or the column ``id`` of a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import StoreError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["read_ids"]


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """The ids in a file, without repeats, in order.

    Args:
        path: ``.csv``, ``.jsonl`` or ``.parquet`` with a column ``id``, such as ``select`` writes;
            any other file has one id per line.

    Raises:
        StoreError: The file can't be read, or has no column ``id``.
    """
    file = Path(path)
    try:
        return list(dict.fromkeys(_READERS.get(file.suffix.lower(), _lines)(file)))
    except KeyError as exc:
        raise StoreError(f"{file}: has no column {exc.args[0]!r} with the ids of images") from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or " ".join(str(exc).split())
        raise StoreError(f"{file}: can't be read as a list of ids: {reason}") from exc


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        yield from filter(None, (line.rstrip("\r\n") for line in file))


def _csv(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield row["id"]


def _json_lines(path: Path) -> Iterator[str]:
    for line in _lines(path):
        yield str(json.loads(line)["id"])


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as pq  # not at the top, as the other formats don't need it

    with pq.ParquetFile(path) as file:
        if "id" not in file.schema_arrow.names:
            raise KeyError("id")
        for batch in file.iter_batches(columns=["id"]):
            yield from map(str, batch.column(0).to_pylist())


_READERS = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
