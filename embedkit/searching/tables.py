"""Neighbours as a table in a file: one line a neighbour, as CSV, JSON lines or Parquet.

The columns are ``query_id``, ``rank`` (from 1), ``neighbor_id`` and ``score``, whatever the format.
A query for which nothing was found has no line.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedkit.records import SearchResult

__all__ = [
    "COLUMNS",
    "CsvTable",
    "JsonLinesTable",
    "ParquetTable",
    "Table",
    "check_suffix",
    "import_pyarrow",
    "open_table",
    "table_rows",
]

COLUMNS = ("query_id", "rank", "neighbor_id", "score")

_ROW_GROUP = 65536  # rows, at least


def table_rows(result: SearchResult) -> Iterator[tuple[str, int, str, float]]:
    """The rows of the table; a score is the shortest decimal number that is its float32."""
    found = result.neighbors
    for query, ids, row in zip(result.queries, found.ids, found.scores, strict=True):
        for rank, (name, score) in enumerate(zip(ids, row, strict=False), 1):
            yield query, rank, name, float(str(score))


class Table(ABC):
    """A table that is being written into an open binary file.

    Attributes:
        rows: Written so far.
    """

    rows = 0

    @abstractmethod
    def write(self, result: SearchResult) -> None:
        """Adds the neighbours of some queries."""

    @abstractmethod
    def close(self) -> None:
        """Ends the table; the file stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            self.close()
        except OSError:  # of a full disk the first error is told, not what follows from it
            if kind is None:
                raise


class CsvTable(Table):
    """CSV with a header line, UTF-8."""

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def write(self, result: SearchResult) -> None:
        """Adds the neighbours of some queries."""
        for query, rank, name, score in table_rows(result):
            self._writer.writerow((_text(query), rank, _text(name), score))
            self.rows += 1

    def close(self) -> None:
        """Ends the table; the file stays open."""
        self._text.flush()
        self._text.detach()


class JsonLinesTable(Table):
    """One JSON object a line, ASCII."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, result: SearchResult) -> None:
        """Adds the neighbours of some queries."""
        for query, rank, name, score in table_rows(result):
            values = (_text(query), rank, _text(name), score)
            line = json.dumps(dict(zip(COLUMNS, values, strict=True)))
            self._file.write(line.encode("ascii") + b"\n")
            self.rows += 1

    def close(self) -> None:
        """Nothing is held back."""


class ParquetTable(Table):
    """Parquet with checksums: strings, int32 and float32.

    Args:
        file: Where it goes.
        metadata: What the file says of itself.

    Raises:
        MissingExtraError: pyarrow isn't installed.
    """

    def __init__(self, file: IO[bytes], metadata: dict[str, str] | None = None) -> None:
        self._pa, pq = import_pyarrow()
        types = (self._pa.string(), self._pa.int32(), self._pa.string(), self._pa.float32())
        self._schema = self._pa.schema(zip(COLUMNS, types, strict=True), metadata=metadata)
        self._writer = pq.ParquetWriter(file, self._schema, write_page_checksum=True)
        self._waiting: list[Any] = []
        self._held = 0

    def write(self, result: SearchResult) -> None:
        """Adds the neighbours of some queries."""
        found, k = result.neighbors, result.neighbors.scores.shape[1]
        counts = np.array([len(ids) for ids in found.ids], np.int64)
        there = np.arange(k) < counts[:, None]
        columns = (
            np.repeat(np.array([*map(_text, result.queries)], object), counts),
            np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), there.shape)[there],
            [_text(name) for ids in found.ids for name in ids],
            found.scores[there],
        )
        pairs = zip(columns, self._schema.types, strict=True)
        arrays = [self._pa.array(values, kind) for values, kind in pairs]
        self.add(self._pa.table(arrays, schema=self._schema))

    def add(self, table: Any) -> None:
        """Adds rows that are an Arrow table of the same columns already."""
        self._waiting.append(table.replace_schema_metadata(self._schema.metadata))
        self._held += len(table)
        self.rows += len(table)
        if self._held >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Ends the table; the file stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            table = self._pa.concat_tables(self._waiting)
            self._writer.write_table(table, row_group_size=len(table))
        self._waiting, self._held = [], 0


_TABLES: dict[str, type[Table]] = {
    ".csv": CsvTable,
    ".jsonl": JsonLinesTable,
    ".parquet": ParquetTable,
}


def check_suffix(path: Path) -> str:
    """The format that a file's name asks for, as its suffix.

    Raises:
        ValueError: It is none that is known.
        MissingExtraError: pyarrow is needed and isn't installed.
    """
    suffix = path.suffix.lower()
    if suffix not in _TABLES:
        raise ValueError(f"{path}: neighbours are written to {', '.join(_TABLES)}")
    if suffix == ".parquet":
        import_pyarrow()
    return suffix


def open_table(suffix: str, file: IO[bytes]) -> Table:
    """Begins a table of the format that a suffix names."""
    return _TABLES[suffix](file)  # type: ignore[call-arg]


def import_pyarrow() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        MissingExtraError: They aren't installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtraError("pyarrow", "parquet", "a Parquet table") from exc
    return pa, pq


def _text(value: str) -> str:
    """Text as UTF-8: bytes of a name that aren't are shown as backslash escapes."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
