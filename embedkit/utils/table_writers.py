"""Results as a table in a file: CSV, JSON lines or Parquet, written as they come."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from embedkit.errors import StoreError
from embedkit.tabular import valid_text
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.text import cell_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    Columns = Sequence[Sequence[Any] | np.ndarray[Any, Any]]

__all__ = [
    "Column",
    "CsvTable",
    "JsonLinesTable",
    "ParquetTable",
    "Table",
    "check_suffix",
    "check_table",
    "open_table",
    "table_file",
]

_ROW_GROUP = 65536  # rows, at least


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: Its name.
        kind: What its values are; ``float32`` is written as the shortest decimal that is it.
    """

    name: str
    kind: Literal["string", "int32", "int64", "float32", "float64"]


class Table(ABC):
    """A table that is being written into an open binary file.

    Attributes:
        columns: Its columns.
        rows: Written so far.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.rows = 0

    @abstractmethod
    def write(self, values: Columns) -> None:
        """Adds n rows.

        Args:
            values: n values of each column, in the columns' order.
        """

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
    """CSV with a header line, UTF-8; its texts are as `cell_text` makes them.

    pyarrow's writer would quote every text, and write 1.0 as 1 and 1e-05 as 0.00001.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self._text = io.TextIOWrapper(file, "utf-8", newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow([column.name for column in columns])

    def write(self, values: Columns) -> None:
        """Adds n rows."""
        for row in _rows(self.columns, values):
            self._writer.writerow(cell_text(one) if isinstance(one, str) else one for one in row)
            self.rows += 1

    def close(self) -> None:
        """Ends the table; the file stays open."""
        self._text.flush()
        self._text.detach()


class JsonLinesTable(Table):
    """One JSON object a line, ASCII."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self._names = [column.name for column in columns]
        self._file = file

    def write(self, values: Columns) -> None:
        """Adds n rows."""
        for row in _rows(self.columns, values):
            line = json.dumps(dict(zip(self._names, row, strict=True)))
            self._file.write(line.encode("ascii") + b"\n")
            self.rows += 1

    def close(self) -> None:
        """Nothing is held back."""


class ParquetTable(Table):
    """Parquet with checksums.

    Args:
        file: Where it goes.
        columns: The columns.
        metadata: What the file says of itself.
    """

    def __init__(
        self,
        file: IO[bytes],
        columns: Sequence[Column],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        import pyarrow as pa  # not at the top, as the other formats don't need it
        import pyarrow.parquet as pq

        super().__init__(columns)
        self._pa = pa
        fields = [(column.name, getattr(pa, column.kind)()) for column in columns]
        self._schema = pa.schema(fields, metadata=metadata)
        self._writer = pq.ParquetWriter(file, self._schema, write_page_checksum=True)
        self._waiting: list[Any] = []
        self._held = 0

    def write(self, values: Columns) -> None:
        """Adds n rows."""
        arrays = [
            self._pa.array(
                [*map(valid_text, some)] if column.kind == "string" else some, field.type
            )
            for column, field, some in zip(self.columns, self._schema, values, strict=True)
        ]
        self.add(self._pa.record_batch(arrays, schema=self._schema))

    def add(self, batch: Any) -> None:
        """Adds rows that are an Arrow record batch of the same columns already.

        Raises:
            ArrowInvalid: It has other columns.
        """
        if not batch.schema.equals(self._schema):
            raise self._pa.ArrowInvalid(f"columns {batch.schema.names}, not {self._schema.names}")
        self._waiting.append(batch)
        self._held += len(batch)
        self.rows += len(batch)
        if self._held >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Ends the table; the file stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            table = self._pa.Table.from_batches(self._waiting, self._schema)
            self._writer.write_table(table, row_group_size=len(table))
        self._waiting, self._held = [], 0


_TABLES: dict[str, type[Table]] = {
    ".csv": CsvTable,
    ".jsonl": JsonLinesTable,
    ".parquet": ParquetTable,
}


def check_suffix(path: Path, what: str) -> str:
    """The format that a file's name asks for, as its suffix.

    Args:
        path: The file.
        what: What is to be written, for the message.

    Raises:
        ValueError: It is none that is known.
    """
    suffix = path.suffix.lower()
    if suffix not in _TABLES:
        raise ValueError(f"{path}: {what} are written to {', '.join(_TABLES)}")
    return suffix


def check_table(output: str | os.PathLike[str], what: str, *, overwrite: bool) -> str:
    """The format of a table that is to be written, as the suffix of its file.

    Args:
        output: The file.
        what: What is to be written, for the message.
        overwrite: Whether the file may exist.

    Raises:
        StoreError: It exists.
        ValueError: Its suffix is none that is known.
    """
    path = Path(output)
    suffix = check_suffix(path, what)
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")
    return suffix


@contextmanager
def table_file(
    output: str | os.PathLike[str], columns: Sequence[Column], what: str, *, overwrite: bool
) -> Iterator[Table]:
    """A table that is being written to a file, which appears when it is whole.

    Args:
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        columns: The columns.
        what: What is written, for the message.
        overwrite: Whether a file that exists is replaced.

    Raises:
        StoreError: ``output`` exists or can't be written.
        ValueError: ``output`` has another suffix.
    """
    suffix = check_table(output, what, overwrite=overwrite)
    with atomic_file(Path(output)) as file, open_table(suffix, file, columns) as table:
        yield table


def open_table(suffix: str, file: IO[bytes], columns: Sequence[Column]) -> Table:
    """Begins a table of the format that a suffix names."""
    return _TABLES[suffix](file, columns)  # type: ignore[call-arg, arg-type]


def _rows(columns: Sequence[Column], values: Columns) -> Iterator[tuple[Any, ...]]:
    """The rows, as values that CSV and JSON can hold."""
    plain = [_plain(column, some) for column, some in zip(columns, values, strict=True)]
    return zip(*plain, strict=True)


def _plain(column: Column, values: Any) -> list[Any]:
    if column.kind == "string":
        return [valid_text(value) for value in values]
    if column.kind == "float32":
        return [float(str(value)) for value in np.asarray(values, np.float32)]
    if column.kind == "float64":
        return [float(value) for value in values]
    return [int(value) for value in values]
