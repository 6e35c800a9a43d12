"""Lists the images of Parquet files, such as Hugging Face datasets, without reading them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from embedkit.sources.arrow_columns import class_names, find_images, find_label, leaf_names
from embedkit.sources.arrow_rows import Row, RowRecords, unwrap
from embedkit.sources.base import Source
from embedkit.sources.image_paths import ImagePaths
from embedkit.sources.io import storage
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ParquetSource", "TableColumns", "record_key"]

_ROWS = 8192
_ROWS_OF_BYTES = 16
_NULL_BYTES, _PAGE_BYTES = 16, 4096
"""A column chunk with fewer bytes per row, besides those of its pages, may hold only nulls."""


def record_key(column: str, group: int, row: int) -> str:
    """Return the key of an image: its column's path, its row group, and its row in that group."""
    return f"{column}/{group}/{row}"


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which columns of a table are read.

    Attributes:
        image: The dotted name of the column of images; None finds it.
        label: The dotted name of the column of labels; None takes ``label`` where there is one.
        with_labels: Whether labels are read.
        image_root: The folder that paths of images are relative to; None looks for it.
    """

    image: str | None = None
    label: str | None = None
    with_labels: bool = True
    image_root: str | None = None


class ParquetSource(Source):
    """The images in one column of a Parquet file.

    The column is a struct with ``bytes`` and ``path`` (as Hugging Face's datasets have), binary, or
    text with paths or URLs; or a list of these. Rows without bytes are the files that they name.

    Args:
        path: A path or URL.
        columns: Its columns.
    """

    def __init__(self, path: str, columns: TableColumns | None = None) -> None:
        self.path = path
        self.columns = columns or TableColumns()

    def scan(self) -> Iterator[ImageRecord]:
        """List the rows in order; only the columns of paths and labels are read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number, reason = 0, "can't be read"
        try:
            with storage.open_random(self.path) as raw, pq.ParquetFile(raw) as table:
                listing = _Listing(table, self.path, self.columns)
                for number, row in zip(count(), listing.rows(), strict=False):
                    reason = f"damaged after {number + 1} rows"
                    yield from listing.records.records(number, row)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as exc:
            problem = f"Parquet file {reason}: {storage.reason_of(exc)}"
            yield ImageRecord(id=self.path, path=self.path, kind="parquet", problem=problem)


class _Listing:
    """The rows of one open file.

    Attributes:
        records: Makes their records.
    """

    def __init__(self, table: Any, path: str, columns: TableColumns) -> None:
        schema = table.schema_arrow
        image = find_images(schema, columns.image, path)
        self._label = (
            find_label(schema, columns.label, image, path) if columns.with_labels else None
        )
        self._table, self._image = table, image
        self._leaves = {name: place for place, name in enumerate(leaf_names(schema))}
        self.records = RowRecords(
            path,
            "parquet",
            image,
            ImagePaths(path, columns.image_root),
            class_names(schema, self._label),
        )

    def rows(self) -> Iterator[Row]:
        """Yield the rows in order."""
        image = self._image
        column = self._leaf(image.data or image.path or "")
        for group in range(self._table.num_row_groups):
            paths = self._values(group, image.path)
            labels = self._values(group, self._label)
            present = self._present(group)
            for row in range(self._table.metadata.row_group(group).num_rows):
                key = record_key(column, group, row)
                yield Row(key, next(paths, None), next(present, True), next(labels, None))

    def _leaf(self, name: str) -> str:
        """Return the path of a leaf in the file, which has levels of its own for lists."""
        return str(self._table.schema.column(self._leaves[name]).path)

    def _values(self, group: int, name: str | None, rows: int = _ROWS) -> Iterator[Any]:
        """Read one leaf of a row group, some values at a time."""
        if name is None:
            return
        leaf = self._leaf(name)
        for batch in self._table.iter_batches(rows, row_groups=[group], columns=[leaf]):
            yield from map(unwrap, batch.column(0).to_pylist())

    def _present(self, group: int) -> Iterator[Any]:
        """Yield whether the rows' bytes aren't null; from the file's statistics if they tell."""
        image = self._image
        if image.data is None:
            return repeat(False)
        if image.path is None and not image.is_list:
            return repeat(True)  # a null has no path: it fails when it is read
        if image.path is not None:
            chunk = self._table.metadata.row_group(group).column(self._leaves[image.data])
            statistics = chunk.statistics
            if statistics is not None and statistics.has_null_count:
                if statistics.null_count in (0, chunk.num_values):
                    return repeat(statistics.null_count == 0)
            elif chunk.total_uncompressed_size > _PAGE_BYTES + _NULL_BYTES * chunk.num_values:
                return repeat(True)
        values = self._values(group, image.data, _ROWS_OF_BYTES)
        return map(_is_present, values)


def _is_present(value: Any) -> Any:
    return [one is not None for one in value] if isinstance(value, list) else value is not None
