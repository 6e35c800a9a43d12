"""Reads columns of a CSV or Parquet table as NumPy arrays, piece by piece."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import SourceError
from embedkit.sources.io import storage
from embedkit.sources.table_files import ID_COLUMNS, open_csv, plain_name
from embedkit.sources.text_kinds import BOOLEANS, IS_KIND
from embedkit.types import MISSING_INTEGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.types import AnnotationKind

__all__ = ["ValueTable", "open_table"]

_PIECE = 8192  # rows


def open_table(path: str, key: str | None = None) -> ValueTable:
    """Open a ``.csv`` or ``.parquet`` file or URL.

    Args:
        path: The table.
        key: Its column of ids or paths; None takes ``id``, ``path``, ``file``, ``filename``,
            ``file_name`` or ``image``, else the first one.

    Raises:
        SourceError: It can't be read, or lacks the column.
        ValueError: It is neither.
    """
    ending = path.lower().rpartition(".")[2]
    if ending not in _TABLES:
        raise ValueError(f"a table must be a .csv or .parquet file: {path!r}")
    return _TABLES[ending](path, key)


class ValueTable(ABC):
    """A table with one row per image, which is read several times.

    Attributes:
        path: The file or URL.
        names: Its columns.
        key: The column of ids or paths.
    """

    def __init__(self, path: str, key: str | None) -> None:
        self.path = path
        with self._reading():
            self.names = self._header()
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise SourceError(f"{path}: has several columns {repeated[0]!r}")
        candidates = (*ID_COLUMNS, *self.names) if key is None else (key,)
        found = next((name for name in candidates if name in self.names), None)
        if found is None:
            raise SourceError(self.lacks("of images" if key is None else repr(key), "key=NAME"))
        self.key = found

    def lacks(self, column: str, option: str) -> str:
        """Say that a column isn't there, and which ones are."""
        names = ", ".join(self.names)
        return f"{self.path}: no column {column}; the columns are {names} ({option})"

    def keys(self) -> Iterator[list[str]]:
        """Yield the names of the images, as ``plain_name`` gives them, some rows at a time."""
        with self._reading():
            for piece in self._pieces([self.key]):
                yield [plain_name(_name(value)) for value in self._texts(piece[0])]

    def kinds(self, columns: Sequence[str]) -> dict[str, AnnotationKind]:
        """Find out what the columns hold.

        Raises:
            SourceError: One holds something else than texts, numbers, booleans or dates.
        """
        with self._reading():
            return self._kinds(columns)

    def values(self, kinds: dict[str, AnnotationKind]) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield columns, some rows at a time: name to values as annotations have them.

        Raises:
            SourceError: A value can't be stored.
        """
        with self._reading():
            for piece in self._pieces(list(kinds)):
                yield {
                    name: self._array(name, kind, column)
                    for (name, kind), column in zip(kinds.items(), piece, strict=True)
                }

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except (OSError, ValueError, csv.Error) as exc:
            raise SourceError(f"{self.path}: can't be read: {storage.reason_of(exc)}") from exc

    def _array(self, name: str, kind: AnnotationKind, column: Any) -> NDArray[Any]:
        if kind != "text":
            return self._numbers(kind, column)
        texts = [_text(value) for value in self._texts(column)]
        if any(b"\0" in text for text in texts):
            raise SourceError(f"{self.path}: column {name!r}: a text has a NUL character")
        return _objects(texts)

    @abstractmethod
    def _header(self) -> list[str]: ...

    @abstractmethod
    def _pieces(self, columns: Sequence[str]) -> Iterator[list[Any]]: ...

    @abstractmethod
    def _kinds(self, columns: Sequence[str]) -> dict[str, AnnotationKind]: ...

    @abstractmethod
    def _texts(self, column: Any) -> list[Any]: ...

    @abstractmethod
    def _numbers(self, kind: AnnotationKind, column: Any) -> NDArray[Any]: ...


class _CsvTable(ValueTable):
    """A CSV file. What its columns hold is found from all their values; empty ones are missing."""

    def _header(self) -> list[str]:
        with open_csv(self.path) as text:
            return next(csv.reader(text), [])

    def _pieces(self, columns: Sequence[str]) -> Iterator[list[list[str]]]:
        places = [self.names.index(name) for name in columns]
        with open_csv(self.path) as text:
            rows = csv.reader(text)
            next(rows, None)
            full = (row for row in rows if row)
            while piece := list(islice(full, _PIECE)):
                yield [[row[at] if at < len(row) else "" for row in piece] for at in places]

    def _kinds(self, columns: Sequence[str]) -> dict[str, AnnotationKind]:
        left: dict[str, list[AnnotationKind]] = {name: [*IS_KIND] for name in columns}
        filled: set[str] = set()
        for piece in self._pieces(columns):
            for name, texts in zip(columns, piece, strict=True):
                known = [text for text in texts if text]
                left[name] = [k for k in left[name] if all(map(IS_KIND[k], known))]
                filled |= {name} if known else set()
        return {
            name: left[name][0] if name in filled and left[name] else "text" for name in columns
        }

    def _texts(self, column: list[str]) -> list[str]:
        return column

    def _numbers(self, kind: AnnotationKind, column: list[str]) -> NDArray[Any]:
        if kind == "boolean":
            return np.array([BOOLEANS.get(text.lower(), -1) for text in column], "i1")
        if kind == "integer":
            return np.array([int(text) if text else MISSING_INTEGER for text in column], "<i8")
        return np.array([float(text) if text else np.nan for text in column], "<f8")


class _ParquetTable(ValueTable):
    """A Parquet file. Its own types count; dates and times become ISO 8601 texts."""

    def _header(self) -> list[str]:
        return list(self._schema.names)

    @cached_property
    def _schema(self) -> Any:
        import pyarrow.parquet as pq

        with storage.open_random(self.path) as raw, pq.ParquetFile(raw) as table:
            return table.schema_arrow

    def _pieces(self, columns: Sequence[str]) -> Iterator[list[Any]]:
        import pyarrow.parquet as pq

        with storage.open_random(self.path) as raw, pq.ParquetFile(raw) as table:
            for batch in table.iter_batches(_PIECE, columns=list(columns)):
                yield [batch.column(name) for name in columns]

    def _kinds(self, columns: Sequence[str]) -> dict[str, AnnotationKind]:
        return {name: self._kind(name, self._schema.field(name).type) for name in columns}

    def _kind(self, name: str, of: Any) -> AnnotationKind:
        import pyarrow.types as types

        inner = of.value_type if types.is_dictionary(of) else of
        for kind, tests in _arrow_kinds().items():
            if any(test(inner) for test in tests):
                return kind
        raise SourceError(
            f"{self.path}: column {name!r} holds {of}: only texts, numbers, booleans and dates "
            "can be put into a store (columns=NAMES chooses)"
        )

    def _texts(self, column: Any) -> list[Any]:
        import pyarrow as pa

        plain = _plain(column)
        is_binary = pa.types.is_binary(plain.type) or pa.types.is_large_binary(plain.type)
        values = plain if is_binary else plain.cast(pa.large_string())
        return values.to_pylist()  # type: ignore[no-any-return]

    def _numbers(self, kind: AnnotationKind, column: Any) -> NDArray[Any]:
        import pyarrow as pa

        plain = _plain(column)
        if kind == "boolean":
            plain = plain.cast(pa.int8())
        target, missing = {
            "boolean": (pa.int8(), -1),
            "integer": (pa.int64(), MISSING_INTEGER),
            "float": (pa.float64(), float("nan")),
        }[kind]
        found: NDArray[Any] = plain.cast(target).fill_null(missing).to_numpy(zero_copy_only=False)
        return found


def _arrow_kinds() -> dict[AnnotationKind, tuple[Callable[[Any], bool], ...]]:
    import pyarrow.types as types

    return {
        "boolean": (types.is_boolean,),
        "integer": (types.is_integer,),
        "float": (types.is_floating, types.is_decimal),
        "text": (types.is_string, types.is_large_string, types.is_temporal, types.is_null),
    }


def _plain(column: Any) -> Any:
    import pyarrow as pa

    is_coded = pa.types.is_dictionary(column.type)
    return column.dictionary_decode() if is_coded else column


_TABLES: dict[str, type[ValueTable]] = {"csv": _CsvTable, "parquet": _ParquetTable}


def _name(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None else str(value)


def _text(value: object) -> bytes:
    return b"" if value is None else str(value).encode("utf-8", "surrogateescape")


def _objects(values: Sequence[bytes]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array
