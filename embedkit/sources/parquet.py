"""Lists the images of Parquet files, such as Hugging Face datasets, without reading them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.io import storage
from embedkit.sources.naming import UniqueNames
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LABEL_SEPARATOR", "ParquetSource", "label_text", "record_key"]

_PREFERRED = (
    *("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"),
    *("bytes", "image_bytes", "image_data", "content", "data"),
)
_LABEL = "label"
_ROWS = 8192
LABEL_SEPARATOR = "|"
"""Between several labels of an image."""


def record_key(column: str, group: int, row: int) -> str:
    """Return the key of an image: its column's path, its row group, and its row in that group."""
    return f"{column}/{group}/{row}"


class ParquetSource(Source):
    """The images in one column of a Parquet file.

    The column is a struct with ``bytes`` and ``path`` (as Hugging Face's datasets have), or plain
    binary.

    Args:
        path: A path or URL.
        image_column: The column's name; None finds it.
        label_column: The column of labels; None takes ``label`` where there is one.
        with_labels: Whether to read labels.
    """

    def __init__(
        self,
        path: str,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        with_labels: bool = True,
    ) -> None:
        self.path = path
        self.image_column = image_column
        self.label_column = label_column
        self.with_labels = with_labels

    def scan(self) -> Iterator[ImageRecord]:
        """List the rows in order; only the columns of paths and labels are read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        count, reason = 0, "can't be read"
        try:
            with storage.open_random(self.path) as raw, pq.ParquetFile(raw) as table:
                for record in self._records(table):
                    yield record
                    count += 1
                    reason = f"damaged after {count} rows"
        except (OSError, pa.ArrowException) as exc:
            problem = f"Parquet file {reason}: {storage.reason_of(exc)}"
            yield ImageRecord(id=self.path, path=self.path, kind="parquet", problem=problem)

    def _records(self, table: Any) -> Iterator[ImageRecord]:
        schema = table.schema_arrow
        image = _image_column(schema, self.image_column, self.path)
        data, name = _leaves(schema.field(image))
        label = self._label_column(schema, image)
        classes = _class_names(schema, label)
        names = UniqueNames()
        for row, (group, inner, path, value) in enumerate(_rows(table, name, label)):
            yield ImageRecord(
                id=f"{self.path}#{names.add(path or str(row))}",
                path=self.path,
                kind="parquet",
                key=record_key(data, group, inner),
                label=label_text(value, classes),
            )

    def _label_column(self, schema: Any, image: str) -> str | None:
        if not self.with_labels:
            return None
        if self.label_column is not None and self.label_column not in schema.names:
            raise SourceError(
                f"{self.path}: no column {self.label_column!r} for labels; the columns are "
                f"{', '.join(schema.names)} (label_column=NAME)"
            )
        return self.label_column or (_LABEL if _LABEL in schema.names and image != _LABEL else None)


def _is_binary(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view") or (
        str(kind).startswith("fixed_size_binary")
    )


def _struct_child(field: Any, name: str) -> Any:
    """Return a struct's child field, or None."""
    if not str(field.type).startswith("struct"):
        return None
    position = field.type.get_field_index(name)
    return field.type.field(position) if position >= 0 else None


def _holds_images(field: Any) -> bool:
    data = _struct_child(field, "bytes")
    return _is_binary(field.type if data is None else data.type)


def _leaves(field: Any) -> tuple[str, str | None]:
    """Return the paths of the columns of bytes and of names (None where there is none)."""
    if _struct_child(field, "bytes") is None:
        return field.name, None
    name = _struct_child(field, "path")
    return f"{field.name}.bytes", None if name is None else f"{field.name}.path"


def _image_column(schema: Any, requested: str | None, path: str) -> str:
    found: list[str] = [field.name for field in schema if _holds_images(field)]
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if requested is not None:
        if requested not in found:
            raise SourceError(
                f"{path}: no column {requested!r} of images; the columns are {columns} "
                "(image_column=NAME)"
            )
        return requested
    preferred = [name for name in _PREFERRED if name in found]
    if preferred or len(found) == 1:
        return (preferred or found)[0]
    reason = "several columns may hold the images" if found else "no column holds images"
    raise SourceError(
        f"{path}: {reason}; the columns are {columns}; name one with image_column=NAME"
    )


def _class_names(schema: Any, label: str | None) -> list[str]:
    """Return the names of a Hugging Face ClassLabel; empty where the file has none."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None or label is None:
        return []
    try:
        names = json.loads(raw)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        # Not a ClassLabel, or another library's metadata: the numbers stay numbers.
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def label_text(value: object, classes: Sequence[str] = ()) -> str | None:
    """A label as text; a list's have ``|`` between them, and NaN is a missing one.

    Args:
        value: What a table holds.
        classes: The names of a Hugging Face ClassLabel, whose values are numbers.
    """
    if isinstance(value, list):
        parts = (label_text(one, classes) for one in value)
        return LABEL_SEPARATOR.join(part for part in parts if part) or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return classes[value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _rows(
    table: Any, name: str | None, label: str | None
) -> Iterator[tuple[int, int, str | None, object]]:
    """Yield row group, row in it, the image's name and its label, for every row of the file."""
    for group in range(table.num_row_groups):
        names = _column(table, group, name)
        labels = _column(table, group, label)
        for row in range(table.metadata.row_group(group).num_rows):
            path = next(names, None)
            yield group, row, str(path) if path else None, next(labels, None)


def _column(table: Any, group: int, path: str | None) -> Iterator[object]:
    """Read one column of a row group, a few thousand values at a time."""
    if path is None:
        return
    for batch in table.iter_batches(_ROWS, row_groups=[group], columns=[path]):
        column = batch.column(0)
        while str(column.type).startswith("struct"):
            # The projection of image.path is a struct with that one child.
            column = column.flatten()[0]
        yield from column.to_pylist()
