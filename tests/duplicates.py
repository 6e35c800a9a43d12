"""Pairs and duplicates for tests, made directly."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.groups.grouping import group_pairs
from embedkit.dedup.pairs import Pairs, PairsInfo
from embedkit.dedup.results import Duplicates, FoundImages, StoreName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["make_found", "make_pairs"]


def make_pairs(
    scores: Mapping[tuple[int, int], float],
    rows: int,
    *,
    exact: Sequence[tuple[int, int]] = (),
    threshold: float = 0.5,
    against_rows: int | None = None,
    **columns: Any,
) -> Pairs:
    """Pairs with these scores; the cosine is a little less, so that none are of equal embedding."""
    ends, is_exact = sorted(scores), set(exact)
    both = np.array(ends, np.int64).reshape(-1, 2)
    score = np.array([scores[pair] for pair in ends], np.float32)
    return Pairs(
        both[:, 0],
        both[:, 1],
        score,
        columns.get("cosine", score * np.float32(0.9)),
        columns.get("hamming", np.full(len(ends), 255, np.uint8)),
        np.array([pair in is_exact for pair in ends], bool),
        columns.get("verified", np.full(len(ends), -1, np.int8)),
        PairsInfo(threshold, rows=rows, against_rows=against_rows),
        columns.get("how", ()),
    )


def make_found(
    pairs: Pairs, files: Sequence[Path | str], *, root: Path = Path(), **images: Any
) -> Duplicates:
    """Duplicates whose images are these files, as far as they are there; one for each node.

    Relative names are below ``root``; ``images`` are columns of ``FoundImages`` in place of what
    the files say.
    """
    groups = group_pairs(pairs, images.pop("linkage", "single"))
    names = [str(files[node]) for node in groups.node.tolist()]
    data = [(root / n).read_bytes() if (root / n).is_file() else b"" for n in names]
    digests = [np.frombuffer(hashlib.sha256(d).digest(), np.uint8) for d in data]
    count = len(names)
    columns = {
        "ids": tuple(names),
        "labels": ("",) * count,
        "formats": ("JPEG",) * count,
        "width": np.full(count, 40, np.int32),
        "height": np.full(count, 30, np.int32),
        "nbytes": np.array([len(d) for d in data], np.int64),
        "content_hash": np.array(digests, np.uint8).reshape(-1, 32),
        "frames": np.ones(count, np.int32),
        **images,
    }
    against = pairs.info.against_rows
    return Duplicates(
        pairs,
        groups,
        FoundImages(**columns),
        "single",
        StoreName("photos.h5", "0" * 64, pairs.info.rows),
        None if against is None else StoreName("test.h5", "1" * 64, against),
        None,
        {},
    )
