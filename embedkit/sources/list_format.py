"""Lists with labels: ``path label``, CSV with a header, and MXNet's ``.lst``.

The format is found from the first entries, see ``parse_entries``. A plain list is one whose
entries are paths as they stand, blanks and commas included.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from embedkit.errors import SourceError
from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.labels import LABEL_COLUMN, LABEL_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ListColumns", "ListItem", "parse_entries"]

_SAMPLE = 100
_CHECKED = 5  # entries of which the existence is checked
_PATH_COLUMNS = frozenset(
    (
        *("path", "file", "filename", "file_name", "filepath", "file_path"),
        *("image", "image_path", "url", "image_url", "id"),
    )
)
_DELIMITERS = (",", "\t", ";")
_GAP = re.compile(r"[ \t,;]+")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class ListItem(NamedTuple):
    """One entry of a list.

    Attributes:
        path: The path or URL.
        label: Its label, if the list has one.
        problem: Why the entry can't be used.
    """

    path: str
    label: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ListColumns:
    """The columns of a CSV list.

    Attributes:
        paths: The column of paths; None finds it by its name.
        labels: The column of labels; None takes ``label``.
        with_labels: Whether labels are read.
    """

    paths: str | None = None
    labels: str | None = None
    with_labels: bool = True


def parse_entries(
    entries: Iterator[str], where: str, columns: ListColumns, exists: Callable[[str], bool]
) -> Iterator[ListItem]:
    """Tell paths from labels.

    The first 100 entries decide. MXNet's ``.lst``: all are ``number TAB numbers TAB image``. CSV:
    the first is a header with a column of paths (``path``, ``file``, ``filename``, …). ``path
    label``: in all of them an image's name is followed by a blank, tab, comma or semicolon and
    more text, and no file has the whole entry as its name. Otherwise each entry is a path.

    Args:
        entries: The list's entries, as of ``split_entries``.
        where: The list's name, for errors.
        columns: For CSV.
        exists: Tells whether a path exists.

    Yields:
        The items in order.

    Raises:
        SourceError: Some entries look like ``path label`` and others don't, the end of a path isn't
            clear, or a CSV has no column of labels.
    """
    sample = list(islice(entries, _SAMPLE))
    if not sample:
        return
    everything = chain(sample, entries)
    if all(_mxnet(entry) for entry in sample):
        yield from (_mxnet(entry) or _plain(entry) for entry in everything)
    elif (delimiter := _delimiter_of_header(sample[0], columns, exists)) is not None:
        yield from _csv_items(everything, delimiter, where, columns)
    elif _has_labels(sample, where, exists):
        yield from map(_labelled, everything)
    else:
        yield from map(ListItem, everything)


def _plain(entry: str) -> ListItem:
    return ListItem(entry, problem="not a line of an MXNet list: number, label, path")


def _mxnet(entry: str) -> ListItem | None:
    """Parse ``index TAB label [TAB label …] TAB path``; None if the entry isn't one."""
    index, *labels, path = entry.split("\t") if entry.count("\t") >= 2 else ("", "")
    if not (index.isdecimal() and has_image_name(path) and all(map(_NUMBER.fullmatch, labels))):
        return None
    return ListItem(path, LABEL_SEPARATOR.join(f"{float(label):.10g}" for label in labels))


def _delimiter_of_header(
    first: str, columns: ListColumns, exists: Callable[[str], bool]
) -> str | None:
    """Find the delimiter that makes a header of the first entry; None if it is no header."""
    if has_image_name(first) or (len(first) < 256 and exists(first)):
        return None
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:  # such as a carriage return within the entry
            continue
        if _path_column(names, columns) is not None:
            return delimiter
    return None


def _path_column(names: list[str], columns: ListColumns) -> int | None:
    if columns.paths is not None:
        return names.index(columns.paths) if columns.paths in names else None
    found = [place for place, name in enumerate(names) if name.strip().lower() in _PATH_COLUMNS]
    # A column "id" may be a counter beside the names of files.
    found.sort(key=lambda place: names[place].strip().lower() == "id")
    return found[0] if found else None


def _csv_items(
    entries: Iterator[str], delimiter: str, where: str, columns: ListColumns
) -> Iterator[ListItem]:
    rows = csv.reader((entry + "\n" for entry in entries), delimiter=delimiter)
    try:
        names = [name.strip() for name in next(rows)]
        place = _path_column(names, columns)
        assert place is not None
        label = _label_column(names, where, columns)
        for row in rows:
            path, text = (row[i] if i is not None and i < len(row) else "" for i in (place, label))
            if path:
                yield ListItem(path, text or None)
    except csv.Error as exc:
        raise SourceError(f"{where}: line {rows.line_num} is no CSV: {exc}") from exc


def _label_column(names: list[str], where: str, columns: ListColumns) -> int | None:
    if not columns.with_labels or len(names) == 1:
        return None
    wanted = columns.labels or LABEL_COLUMN
    if wanted in names:
        return names.index(wanted)
    raise SourceError(
        f"{where}: no column {wanted!r}; the columns are {', '.join(names)} "
        '(label_column=NAME, or labels="none")'
    )


def _ends_of_path(entry: str) -> list[re.Match[str]]:
    """Find the gaps that may separate a path from its label; none in the name of an image."""
    if has_image_name(entry):
        return []
    gaps = _GAP.finditer(entry)
    return [gap for gap in gaps if gap.end() < len(entry) and has_image_name(entry[: gap.start()])]


def _has_labels(sample: list[str], where: str, exists: Callable[[str], bool]) -> bool:
    labelled = [entry for entry in sample if _ends_of_path(entry)]
    if not labelled or any(exists(entry) for entry in labelled[:_CHECKED]):
        return False
    plain = next((entry for entry in sample if not _ends_of_path(entry)), None)
    if plain is not None:
        raise SourceError(
            f"{where}: {labelled[0]!r} looks like a path and a label, {plain!r} doesn't: label "
            "all lines, or write a CSV with the header path,label; plain paths may end in NUL "
            "instead of a newline (null=True)"
        )
    unclear = next((entry for entry in labelled if len(_ends_of_path(entry)) > 1), None)
    if unclear is not None:
        raise SourceError(
            f"{where}: {unclear!r}: where does the path end? Write a CSV with the header path,label"
        )
    return True


def _labelled(entry: str) -> ListItem:
    gaps = _ends_of_path(entry)
    if len(gaps) > 1:
        return ListItem(entry, problem="not clear where the path ends and the label begins")
    if not gaps:
        return ListItem(entry)
    return ListItem(entry[: gaps[0].start()], entry[gaps[0].end() :].strip() or None)
