"""Writes selections: tables, and file lists for WebDataset shards."""

from __future__ import annotations

import json
import posixpath
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.errors import StoreError
from embedkit.sources.naming import kind_of_name
from embedkit.store import EmbeddingStore
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.progress import Stage
from embedkit.utils.table_writers import Column, check_suffix, open_table

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.analysis.selection.select import Selection

__all__ = ["COLUMNS", "write_selection", "write_webdataset"]

COLUMNS = (
    Column("id", "string"),
    Column("class", "int32"),
    Column("class_id", "string"),
    Column("class_name", "string"),
    Column("rank", "int32"),
    Column("score", "float32"),
    Column("store", "string"),
    Column("row", "int64"),
)

_PIECE = 65536  # lines


class _Lines(NamedTuple):
    """Some lines of a selection in the order of the images.

    Attributes:
        store: The store.
        places: ``(n,)`` where they stand in the selection.
        rows: ``(n,)`` their rows in the store.
        ids: n ids.
    """

    store: Path
    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    ids: list[str]


def write_selection(
    selection: Selection, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes a selection as CSV, JSON lines or Parquet: one line per image and class.

    The lines are in the order of the stores' rows, and for one image in that of the classes, so
    that ids are read once, in bounded memory. ``rank`` says how good an image is for its class.

    Args:
        selection: Result of ``select``.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        overwrite: Replace a file that exists.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` exists or can't be written, or a store can't be read.
        ValueError: ``output`` has another suffix.
    """
    path = Path(output)
    suffix = check_suffix(path, "selections")
    _refuse_existing(path, overwrite=overwrite)
    names = np.array(selection.head.class_names, object)
    synsets = np.array(selection.head.class_ids or [""] * len(names), object)
    with atomic_file(path) as file, open_table(suffix, file, COLUMNS) as table:
        for lines in _lines(selection):
            classes = selection.classes[lines.places]
            table.write(
                (
                    lines.ids,
                    classes.astype(np.int32),
                    synsets[classes],
                    names[classes],
                    selection.ranks[lines.places],
                    selection.scores[lines.places],
                    [str(lines.store)] * len(lines.ids),
                    lines.rows,
                )
            )
    return path


def write_webdataset(
    selection: Selection, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes the selected samples per tar shard, as JSON lines.

    A line is ``{"url": "shards/000.tar", "samples": {"0001": [[7, 0.93]]}}``: the shard, and by
    each sample's key the classes it is selected for, with scores.

    Args:
        selection: Result of ``select``, from stores of tar shards.
        output: The file.
        overwrite: Replace a file that exists.

    Returns:
        ``output``.

    Raises:
        StoreError: An image lies in no tar, or ``output`` exists or can't be written.
    """
    path = Path(output)
    _refuse_existing(path, overwrite=overwrite)
    with atomic_file(path) as file:
        for url, group in groupby(_samples(selection), key=lambda sample: sample[0]):
            samples: dict[str, list[tuple[int, float]]] = {}
            for _, key, number, score in group:
                samples.setdefault(key, []).append((number, score))
            file.write(json.dumps({"url": url, "samples": samples}).encode("ascii") + b"\n")
    return path


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")


def _samples(selection: Selection) -> Iterator[tuple[str, str, int, float]]:
    """Shard, key, class and score of each line."""
    for lines in _lines(selection):
        for place, name in zip(lines.places.tolist(), lines.ids, strict=True):
            url, member = _split(name)
            if not member:
                raise StoreError(f"{lines.store}: {name} lies in no tar: write a table instead")
            folder, file = posixpath.split(member)
            key = posixpath.join(folder, file.split(".", 1)[0])  # as WebDataset cuts names
            score = float(str(selection.scores[place]))
            yield url, key, int(selection.classes[place]), score


def _split(name: str) -> tuple[str, str]:
    """A tar and the member's name in it; an empty one if the image lies in no tar."""
    mark = name.find("#")
    while mark >= 0:
        if kind_of_name(name[:mark]) == "tar":
            return name[:mark], name[mark + 1 :]
        mark = name.find("#", mark + 1)
    return name, ""


def _lines(selection: Selection) -> Iterator[_Lines]:
    """The lines by store and row, in pieces of bounded size."""
    order = np.lexsort((selection.classes, selection.rows))
    rows, first = selection.rows[order], 0
    stage = Stage("writing", len(rows), unit="lines")
    for path in selection.stores:
        with EmbeddingStore.open(path) as store:
            begin, end = np.searchsorted(rows, (first, first + len(store))).tolist()
            for start in range(begin, end, _PIECE):
                some = slice(start, min(start + _PIECE, end))
                mine = rows[some] - first
                yield _Lines(path, order[some], mine, _ids(store, mine))
                stage.add(len(mine))
            first += len(store)


def _ids(store: EmbeddingStore, rows: NDArray[np.int64]) -> list[str]:
    """The ids of some rows, ascending; read in runs, since reading one by one is slow."""
    out: list[str] = []
    for start in range(int(rows[0]), int(rows[-1]) + 1, _PIECE):
        low, high = np.searchsorted(rows, (start, start + _PIECE)).tolist()
        if low < high:
            base = int(rows[low])
            read = store.ids[base : int(rows[high - 1]) + 1]
            out += [read[row - base] for row in rows[low:high].tolist()]
    return out
