"""Opens a source from a path, URL, pattern or list."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from embedkit.errors import SourceError
from embedkit.sources.base import ChainSource, PrefixedSource, Source
from embedkit.sources.braces import expand_braces
from embedkit.sources.dataset import Dataset, DatasetSource, is_dataset
from embedkit.sources.file_list import FileListSource, ListOptions, StreamListSource
from embedkit.sources.folder import FolderSource
from embedkit.sources.glob import GlobSource, has_magic
from embedkit.sources.io import storage
from embedkit.sources.labels import FolderLabels, LabelColumns, NoLabels, TableLabels
from embedkit.sources.list_format import ListColumns
from embedkit.sources.naming import kind_of_name
from embedkit.sources.parquet import ParquetSource, TableColumns
from embedkit.sources.remote_folder import DatasetRepository, RemoteFolderSource
from embedkit.sources.single_file import FileSource
from embedkit.sources.tar import TarSource
from embedkit.sources.zip import ZipSource

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spec", "as_specs", "open_source"]

Spec = str | os.PathLike[str] | Dataset
"""What names a source."""
_TOLD = 5
_CHECKS_AT_ONCE = 16


def open_source(
    spec: Spec | Sequence[Spec],
    *,
    labels: str = "auto",
    image_column: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    label_column: str | None = None,
    label_id_column: str | None = None,
    prefix: str | None = None,
    list_folders: bool = False,
    null: bool = False,
    stdin: BinaryIO | None = None,
) -> Source:
    """Open a source of images.

    Args:
        spec: A folder, an image, a list, an archive, a pattern, ``-`` for a list on standard
            input, the URL of any of these, or a ``datasets.Dataset``; several are listed one after
            the other.
        labels: ``auto`` takes what the source gives (a list's labels, a WebDataset's classes, a
            Parquet file's label column, the first folder below the root), ``none`` nothing,
            ``folder`` the name of the folder that the image lies in, and a path to a ``.csv`` or
            ``.parquet`` file takes the labels from there.
        image_column: The column of images in Parquet files, or of paths in CSV lists; None finds
            it.
        image_root: The folder that paths in Parquet files are relative to; None looks beside the
            file, in the folder above and in the current one.
        label_column: The column of labels, in Parquet files, CSV lists or in the file that
            ``labels`` names.
        label_id_column: The column of ids or paths in the file that ``labels`` names; None finds
            it.
        prefix: ``NAME`` makes the ids begin with ``NAME/``.
        list_folders: Whether folders that a list names are opened; otherwise they fail.
        null: Whether the entries of lists end in NUL, as those of ``find -print0``; False finds
            out, where it can be told.
        stdin: What ``-`` reads; None for the process's standard input.

    Returns:
        The source; so far only its existence was checked.

    Raises:
        SourceError: Something named doesn't exist or is of no known kind.
        MissingExtraError: A URL's backend isn't installed.
        ValueError: ``labels`` is none of these.
    """
    specs = as_specs(spec)
    table = _table_path(labels)
    own = labels == "auto"
    root = None if image_root is None else os.fsdecode(image_root)
    opener = _Opener(TableColumns(image_column, label_column, own, root), list_folders, null, stdin)
    source: Source = ChainSource([found for one in specs for found in opener.open_spec(one)])
    if table is not None:
        columns = LabelColumns(label_id_column, label_column)
        roots = [os.fsdecode(one) for one in specs if isinstance(one, (str, os.PathLike))]
        source = TableLabels(source, table, roots=roots, columns=columns)
    elif not own:
        source = NoLabels(source) if labels == "none" else FolderLabels(source)
    return source if prefix is None else PrefixedSource(source, prefix)


def as_specs(spec: Spec | Sequence[Spec]) -> list[Spec]:
    """Return a list of sources, whether one or several are given."""
    if isinstance(spec, (str, bytes, os.PathLike)) or is_dataset(spec):
        return [spec]
    return list(cast("Sequence[Spec]", spec))


def _table_path(labels: str) -> str | None:
    """Return the file that ``labels`` names, or None for one of the words."""
    if labels in ("auto", "none", "folder"):
        return None
    if labels.lower().endswith((".csv", ".parquet")):
        return labels
    raise ValueError(f"labels must be auto, none, folder, or a .csv or .parquet file: {labels!r}")


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens what is named, with the settings that all the sources of one call share."""

    columns: TableColumns
    list_folders: bool
    null: bool
    stdin: BinaryIO | None

    def open_spec(self, spec: Spec) -> list[Source]:
        """Open one path, URL, pattern or dataset; a pattern gives several sources."""
        if is_dataset(spec):
            return [DatasetSource(spec, self.columns)]
        spec = os.fsdecode(cast(str, spec))
        if spec == "-":
            return [StreamListSource(self.stdin or _standard_input(), self._list_options())]
        names = [spec] if _is_literal(spec) else _expand(spec)
        types = _types([name for name in names if not self._is_pattern(name)])
        return [
            GlobSource(name, self.open_entry)
            if self._is_pattern(name)
            else self._open_known(name, types[name])
            for name in names
        ]

    def _is_pattern(self, name: str) -> bool:
        return has_magic(name) and not _is_literal(name)

    def _open_known(self, name: str, found: str) -> Source:
        if found == "folder":
            return self._folder(name)
        kind = kind_of_name(name)
        if found == "other":
            raise SourceError(f"{name}: neither a regular file nor a folder")
        if kind == "list":
            return FileListSource(name, self._list_options())
        return self._archive(name) or FileSource(name, named=True)

    def _list_options(self) -> ListOptions:
        columns = self.columns
        listed = ListColumns(columns.image, columns.label, columns.with_labels)
        return ListOptions(self._open_list_entry, listed, self.null)

    def _open_list_entry(self, path: str) -> Source:
        if _is_folder(path) and not self.list_folders:
            raise SourceError(
                "a folder: list its images, or pass list_folders=True to open folders too"
            )
        return self.open_entry(path)

    def open_entry(self, path: str) -> Source:
        """Open a line of a list or a match of a pattern, which need not exist."""
        if _is_folder(path):
            return self._folder(path)
        return self._archive(path) or FileSource(path)

    def _folder(self, path: str) -> Source:
        if storage.local_path(path) is not None:
            return FolderSource(path)
        if path.startswith("hf://"):
            return DatasetRepository(path, self.open_entry)
        return RemoteFolderSource(path)

    def _archive(self, path: str) -> Source | None:
        kind = kind_of_name(path)
        if kind == "tar":
            return TarSource(path)
        if kind == "zip":
            return ZipSource(path)
        if kind == "parquet":
            return ParquetSource(path, self.columns)
        return None


def _is_literal(spec: str) -> bool:
    """Tell whether a local file has this very name, brackets and all."""
    local = storage.local_path(spec)
    return local is not None and os.path.lexists(local)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # the process was started with it closed
        raise SourceError("-: standard input is closed; pass the list as a .txt file")
    return sys.stdin.buffer


def _is_folder(path: str) -> bool:
    """Tell whether an entry is a folder; for URLs by the trailing slash, without a request."""
    if storage.local_path(path) is None:
        return path.endswith("/")
    try:
        return storage.file_type(path) == "folder"
    except OSError:
        # Whoever reads it will say why it can't be read.
        return False


def _expand(spec: str) -> list[str]:
    try:
        return expand_braces(spec)
    except ValueError as exc:
        raise SourceError(str(exc)) from exc


def _types(names: list[str]) -> dict[str, str]:
    """Find out what lies at each name, several at once as storage is slow to answer.

    Raises:
        SourceError: Some don't exist.
    """
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        types = dict(zip(names, pool.map(_type, names), strict=True))
    missing = [name for name, found in types.items() if found is None]
    if missing:
        more = f" and {len(missing) - _TOLD} more" if len(missing) > _TOLD else ""
        raise SourceError(f"{', '.join(missing[:_TOLD])}{more}: no such file or folder")
    return {name: found for name, found in types.items() if found is not None}


def _type(name: str) -> str | None:
    try:
        return storage.file_type(name)
    except (OSError, ValueError) as exc:
        raise SourceError(f"{name}: {storage.reason_of(exc)}") from exc
