"""Writes selections: tables, and file lists for WebDataset shards."""

from __future__ import annotations

import json
import posixpath
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.selection.lines import selected_lines
from embedkit.errors import StoreError
from embedkit.sources.naming import kind_of_name
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.table_writers import Column, table_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from embedkit.analysis.selection.select import Selection
    from embedkit.analysis.selection.subset import Subset

__all__ = ["COLUMNS", "SUBSET_COLUMNS", "write_selection", "write_subset", "write_webdataset"]

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

SUBSET_COLUMNS = (
    Column("id", "string"),
    Column("rank", "int32"),
    Column("score", "float32"),
    Column("group", "string"),
    Column("store", "string"),
    Column("row", "int64"),
)


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
    names = np.array(selection.head.class_names, object)
    synsets = np.array(selection.head.class_ids or [""] * len(names), object)
    with table_file(output, COLUMNS, "selections", overwrite=overwrite) as table:
        for lines in selected_lines(selection.stores, selection.rows, selection.classes):
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
    return Path(output)


def write_subset(
    subset: Subset, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Writes a subset as CSV, JSON lines or Parquet: one line per image.

    The lines are in the order of the stores' rows; ``rank`` is the order of selection.

    Args:
        subset: Result of ``select_subset``.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        overwrite: Replace a file that exists.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` exists or can't be written, or a store can't be read.
        ValueError: ``output`` has another suffix.
    """
    groups, ranks = np.array(subset.groups, object), np.arange(1, len(subset.rows) + 1)
    with table_file(output, SUBSET_COLUMNS, "selections", overwrite=overwrite) as table:
        for lines in selected_lines(subset.stores, subset.rows, np.zeros_like(subset.rows)):
            table.write(
                (
                    lines.ids,
                    ranks[lines.places].astype(np.int32),
                    subset.scores[lines.places],
                    groups[lines.places],
                    [str(lines.store)] * len(lines.ids),
                    lines.rows,
                )
            )
    return Path(output)


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
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")
    with atomic_file(path) as file:
        for url, group in groupby(_samples(selection), key=lambda sample: sample[0]):
            samples: dict[str, list[tuple[int, float]]] = {}
            for _, key, number, score in group:
                samples.setdefault(key, []).append((number, score))
            file.write(json.dumps({"url": url, "samples": samples}).encode("ascii") + b"\n")
    return path


def _samples(selection: Selection) -> Iterator[tuple[str, str, int, float]]:
    """Shard, key, class and score of each line."""
    for lines in selected_lines(selection.stores, selection.rows, selection.classes):
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
