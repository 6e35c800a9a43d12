"""Pairs that somebody looked at and rejected: they are no copies, whatever the scores say."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.groups.grouping import group_pairs, nodes_of
from embedkit.errors import DedupError

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.dedup.results import Duplicates

__all__ = ["read_rejected", "without_pairs"]

_NAMES = ("first_id", "first"), ("second_id", "second")


def read_rejected(path: Path) -> frozenset[frozenset[str]]:
    """Reads pairs of ids from the first two columns of a CSV file.

    A header is there if it has ``first_id`` and ``second_id``, as ``pairs.parquet`` has, or
    ``first`` and ``second``; these columns are taken wherever they are.

    Raises:
        DedupError: It can't be read, or a line has no two ids.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file), 1) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise DedupError(f"{path}: rejected pairs can't be read: {reason}") from exc
    header = lines[0][1] if lines else []
    named = [next((header.index(n) for n in names if n in header), -1) for names in _NAMES]
    first, second = (0, 1) if -1 in named else named
    lines = lines[-1 not in named :]
    pairs = set()
    for number, cells in lines:
        ids = [cells[at] for at in (first, second) if cells[at : at + 1] not in ([], [""])]
        if len(ids) != 2:
            raise DedupError(f"{path}: line {number}: not two ids: write FIRST,SECOND")
        pairs.add(frozenset(ids))
    return frozenset(pairs)


def without_pairs(found: Duplicates, rejected: frozenset[frozenset[str]]) -> Duplicates:
    """What was found without the rejected pairs, grouped anew."""
    ids, ends = found.images.ids, nodes_of(found.pairs)[1].tolist()
    kept = np.array([frozenset((ids[i], ids[j])) not in rejected for i, j in ends], bool)
    pairs = found.pairs.where(kept)
    groups = group_pairs(pairs, found.linkage)
    there = np.searchsorted(found.groups.node, groups.node)
    return replace(found, pairs=pairs, groups=groups, images=found.images.take(there))
