"""Sources with other labels: none, folder names, or labels from a CSV or Parquet table."""

from __future__ import annotations

import csv
import io
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.io import storage
from embedkit.sources.parquet import label_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embedkit.types import ImageRecord

__all__ = ["FolderLabels", "NoLabels", "TableLabels", "read_labels"]

_ID_COLUMNS = ("id", "path", "file", "filename", "image")
_LABEL_COLUMN = "label"


class NoLabels(Source):
    """A source without its labels."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def scan(self) -> Iterator[ImageRecord]:
        """List the source's images without labels."""
        for record in self.source.scan():
            yield record if record.label is None else replace(record, label=None)


class FolderLabels(Source):
    """A source whose labels are the folders that the images lie in."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def scan(self) -> Iterator[ImageRecord]:
        """List the source's images, each labelled by its folder's name."""
        for record in self.source.scan():
            folder = posixpath.dirname(_member(record) or record.id)
            yield replace(record, label=posixpath.basename(folder) or None)


class TableLabels(Source):
    """A source whose labels stand in a table, which is held in memory.

    Args:
        source: The images.
        table: A ``.csv`` or ``.parquet`` file: images by id, by path below one of ``roots``, or by
            name in their archive.
        roots: Folders that the table's paths may be relative to.
        label_column: The column of labels; None takes ``label``.
    """

    def __init__(
        self,
        source: Source,
        table: str,
        *,
        roots: Sequence[str] = (),
        label_column: str | None = None,
    ) -> None:
        self.source = source
        self.table = table
        self.roots = tuple(storage.join(root, "") for root in roots)
        self.label_column = label_column

    def scan(self) -> Iterator[ImageRecord]:
        """List the source's images, labelled where the table knows them.

        Raises:
            SourceError: The table can't be read, or knows none of the images.
        """
        labels = read_labels(self.table, self.label_column)
        count = matched = 0
        for record in self.source.scan():
            count += 1
            label = next((labels[name] for name in self._names(record) if name in labels), None)
            matched += label is not None
            yield replace(record, label=label)
        if count and not matched:
            raise SourceError(
                f"{self.table}: none of the {count} images is in this table; it must hold their "
                "ids, or their paths relative to the source"
            )

    def _names(self, record: ImageRecord) -> Iterator[str]:
        """Yield the names that the table may have for an image."""
        yield record.id
        member = _member(record)
        if member is not None:
            yield member
        for root in self.roots:
            if record.id.startswith(root):
                yield record.id[len(root) :]


def _member(record: ImageRecord) -> str | None:
    """Return an image's name in its archive; None for a file."""
    return None if record.kind == "file" else record.id[len(record.path) + 1 :]


def read_labels(path: str, label_column: str | None = None) -> dict[str, str]:
    """Read a table of labels.

    Args:
        path: A ``.csv`` or ``.parquet`` file or URL. The images stand in the column ``id``,
            ``path``, ``file``, ``filename`` or ``image``, else in the first one.
        label_column: The column of labels; None takes ``label``.

    Returns:
        Image to label; images without one are left out. A Parquet list becomes several labels,
        with ``|`` between them.

    Raises:
        SourceError: It can't be read, lacks the column, or gives one image two labels; or a column
            holds no texts, numbers or lists of them.
    """
    column = label_column or _LABEL_COLUMN
    reader = _parquet_rows if path.lower().endswith(".parquet") else _csv_rows
    labels: dict[str, str] = {}
    try:
        for image, label in reader(path, column):
            if label and labels.setdefault(image, label) != label:
                raise SourceError(f"{path}: {image} has two labels, {labels[image]} and {label}")
    except (OSError, ValueError, csv.Error) as exc:
        raise SourceError(f"{path}: labels can't be read: {storage.reason_of(exc)}") from exc
    return labels


def _columns(path: str, names: Iterable[str], label_column: str) -> tuple[str, str]:
    """Choose the columns of images and of labels."""
    columns = list(names)
    images = [name for name in (*_ID_COLUMNS, *columns) if name in columns and name != label_column]
    if label_column not in columns or not images:
        missing = "of images" if label_column in columns else repr(label_column)
        raise SourceError(
            f"{path}: no column {missing}; the columns are {', '.join(columns)} (label_column=NAME)"
        )
    return images[0], label_column


def _csv_rows(path: str, label_column: str) -> Iterator[tuple[str, str]]:
    with (
        storage.open_random(path) as raw,
        io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as text,
    ):
        rows = csv.DictReader(text)
        image, label = _columns(path, rows.fieldnames or (), label_column)
        for row in rows:
            yield row[image], row[label] or ""


def _parquet_rows(path: str, label_column: str) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as pq

    with storage.open_random(path) as raw, pq.ParquetFile(raw) as table:
        image, label = _columns(path, table.schema_arrow.names, label_column)
        for batch in table.iter_batches(columns=[image, label]):
            _refuse_nested(batch.column(label).type, f"{path}: column {label!r}")
            images, labels = batch.column(image).to_pylist(), batch.column(label).to_pylist()
            for one, value in zip(images, labels, strict=True):
                yield _name(one), label_text(value) or ""


def _refuse_nested(kind: Any, where: str) -> None:
    """Refuses an Arrow type whose values are neither texts or numbers nor lists of them."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    is_list = is_list or pa.types.is_fixed_size_list(kind)
    if pa.types.is_nested(kind.value_type if is_list else kind):
        raise SourceError(f"{where}: {kind} is no label: give texts, numbers or lists of them")


def _name(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
