"""Sources with other labels: none, folder names, or labels from a CSV or Parquet table."""

from __future__ import annotations

import csv
import logging
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embedkit.errors import SourceError
from embedkit.sources.base import Source
from embedkit.sources.examples import Examples
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.io import storage
from embedkit.sources.label_text import LABEL_SEPARATOR, label_text
from embedkit.sources.naming import with_slashes
from embedkit.sources.table_files import (
    ID_COLUMNS,
    folders_of,
    image_names,
    member_of,
    open_csv,
    plain_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embedkit.types import ImageRecord

__all__ = [
    "LABEL_COLUMN",
    "LABEL_SEPARATOR",
    "FolderLabels",
    "LabelColumns",
    "LabelTable",
    "NoLabels",
    "TableLabels",
    "read_labels",
]

_log = logging.getLogger("embedkit")

LABEL_COLUMN = "label"
"""The column of labels, where none is named."""


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """The columns of a table of labels.

    Attributes:
        ids: The column of images; None takes ``id``, ``path``, ``file``, ``filename``,
            ``file_name`` or ``image``, else the first one.
        labels: The column of labels; None takes ``label``.
    """

    ids: str | None = None
    labels: str | None = None


class LabelTable(Mapping[str, str]):
    r"""Labels by the names of images.

    A leading ``./``, ``\`` for ``/`` and the Unicode form of accents make no difference.

    Args:
        path: The table's name, for errors.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._labels: dict[str, str] = {}

    def add(self, image: str, label: str) -> None:
        """Add an image.

        Raises:
            SourceError: It has another label already.
        """
        before = self._labels.setdefault(plain_name(image), label)
        if before != label:
            raise SourceError(f"{self._path}: {image} has two labels, {before} and {label}")

    def __getitem__(self, image: str) -> str:
        return self._labels[plain_name(image)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


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
            name = member_of(record) or record.id
            folder = posixpath.dirname(with_slashes(name) if record.kind == "zip" else name)
            yield replace(record, label=posixpath.basename(folder) or None)


class TableLabels(Source):
    """A source whose labels stand in a table, which is held in memory.

    Args:
        source: The images.
        table: A ``.csv`` or ``.parquet`` file: images by id, by path below one of ``roots``, or by
            name in their archive.
        roots: Folders that the table's paths may be relative to.
        columns: The table's columns.
    """

    def __init__(
        self,
        source: Source,
        table: str,
        *,
        roots: Sequence[str] = (),
        columns: LabelColumns | None = None,
    ) -> None:
        self.source = source
        self.table = table
        self.folders = folders_of(roots)
        self.columns = columns or LabelColumns()

    def scan(self) -> Iterator[ImageRecord]:
        """List the source's images, labelled where the table knows them.

        Warns of images that the table doesn't have.

        Raises:
            SourceError: The table can't be read, or knows none of the images.
        """
        labels = read_labels(self.table, self.columns)
        images, missing = 0, Examples()
        for record in self.source.scan():
            names = image_names(record, self.folders)
            label = next((labels[name] for name in names if name in labels), None)
            if label is not None or record.kind != "file" or has_image_name(record.id):
                images += 1
                if label is None:
                    missing.add(record.id)
            yield replace(record, label=label)
        if images and missing.count == images:
            raise SourceError(
                f"{self.table}: none of the {images} images is in this table; it must hold their "
                "ids, or their paths relative to the source (label_id_column=NAME says where)"
            )
        if missing:
            counts = f"{missing.count:,} of {images:,} images"
            _log.warning("%s: has no label for %s: %s", self.table, counts, missing)


def read_labels(path: str, columns: LabelColumns | None = None) -> LabelTable:
    """Read a table of labels.

    Args:
        path: A ``.csv`` or ``.parquet`` file or URL.
        columns: Its columns.

    Returns:
        Image to label; images without one are left out. A Parquet list becomes several labels,
        with ``|`` between them.

    Raises:
        SourceError: It can't be read, lacks a column, or gives one image two labels; or a column
            holds no texts, numbers or lists of them.
    """
    reader = _parquet_rows if path.lower().endswith(".parquet") else _csv_rows
    labels = LabelTable(path)
    try:
        for image, label in reader(path, columns or LabelColumns()):
            if image and label:
                labels.add(image, label)
    except (OSError, ValueError, csv.Error) as exc:
        raise SourceError(f"{path}: labels can't be read: {storage.reason_of(exc)}") from exc
    return labels


def _columns(path: str, names: Iterable[str], chosen: LabelColumns) -> tuple[str, str]:
    """Choose the columns of images and of labels."""
    columns = list(names)
    label = chosen.labels or LABEL_COLUMN
    candidates = (*ID_COLUMNS, *columns) if chosen.ids is None else (chosen.ids,)
    images = [name for name in candidates if name in columns and name != label]
    if label not in columns or not images:
        missing, option = "of images", "label_id_column"
        if label not in columns:
            missing, option = repr(label), "label_column"
        elif chosen.ids is not None:
            missing = repr(chosen.ids)
        raise SourceError(
            f"{path}: no column {missing}; the columns are {', '.join(columns)} ({option}=NAME)"
        )
    return images[0], label


def _csv_rows(path: str, columns: LabelColumns) -> Iterator[tuple[str, str]]:
    with open_csv(path) as text:
        rows = csv.DictReader(text)
        image, label = _columns(path, rows.fieldnames or (), columns)
        for row in rows:
            yield row[image] or "", row[label] or ""


def _parquet_rows(path: str, columns: LabelColumns) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as pq

    with storage.open_random(path) as raw, pq.ParquetFile(raw) as table:
        image, label = _columns(path, table.schema_arrow.names, columns)
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
