"""Columns for the rows of a store, filled from a table that has its rows in another order."""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.errors import StoreError
from embedkit.store.annotations import ANNOTATION_DTYPES
from embedkit.types import MISSING_INTEGER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.sources.value_table import ValueTable
    from embedkit.types import AnnotationKind

__all__ = ["FilledColumns", "SpooledTexts"]


class FilledColumns:
    """Columns of N values, missing until they are filled; a context manager.

    Numbers are in memory, 8 bytes each, texts in a temporary file.

    Attributes:
        columns: What gives and takes values, by name: an array, or ``SpooledTexts``.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, AnnotationKind], count: int) -> None:
        """No values yet.

        Args:
            folder: Where temporary files lie.
            kinds: The kinds by name.
            count: N.
        """
        self.columns: dict[str, Any] = {}
        self._texts: list[SpooledTexts] = []
        missing = {"integer": MISSING_INTEGER, "float": np.nan, "boolean": -1}
        for name, kind in kinds.items():
            if kind == "text":
                self._texts.append(SpooledTexts(folder, count))
                self.columns[name] = self._texts[-1]
            else:
                self.columns[name] = np.full(count, missing[kind], ANNOTATION_DTYPES[kind])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for texts in self._texts:
            texts.close()

    def fill(
        self, table: ValueTable, kinds: Mapping[str, AnnotationKind], entries: NDArray[np.int64]
    ) -> None:
        """Takes the values of a table: ``(N,)`` its row for each image, -1 for none."""
        order = np.argsort(entries, kind="stable")
        ascending, start = entries[order], 0
        for piece in table.values(dict(kinds)):
            size = len(next(iter(piece.values())))
            mine = slice(*np.searchsorted(ascending, [start, start + size]).tolist())
            for name, values in piece.items():
                self.columns[name][order[mine]] = values[ascending[mine] - start]
            start += size


class SpooledTexts:
    """N texts in a temporary file: 12 bytes of memory each; empty until they are set."""

    dtype = ANNOTATION_DTYPES["text"]

    def __init__(self, folder: Path, count: int) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close
        self._starts, self._sizes = np.zeros(count, np.int64), np.zeros(count, np.int32)
        self._end = 0

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def __setitem__(self, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        self._sizes[rows] = sizes
        self._starts[rows] = self._end + np.cumsum(sizes) - sizes
        try:
            self._file.write(b"".join(values.tolist()))
            self._file.flush()
        except OSError as exc:
            raise StoreError(f"the texts of a column can't be kept: {exc.strerror}") from exc
        self._end += int(sizes.sum())

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        starts, sizes = self._starts[rows].tolist(), self._sizes[rows].tolist()
        found = np.empty(len(starts), object)
        for place, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            found[place] = os.pread(self._file.fileno(), size, start) if size else b""
        return found
