"""Brings a folder of duplicates up to date with its stores: only new images are searched."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.dedup.api import search_pairs
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.groups.grouping import nodes_of
from embedkit.dedup.output.folder import read_duplicates
from embedkit.dedup.pairs import PAIR_DTYPES, Pairs
from embedkit.dedup.results import AGAINST, collect
from embedkit.errors import DedupError
from embedkit.store import EmbeddingStore
from embedkit.store.row_keys import content_keys, find_keys, id_keys
from embedkit.store.store import fingerprint_of
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.pairs import PairsInfo
    from embedkit.dedup.results import Duplicates
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.utils.progress import ProgressCallback

__all__ = ["update_duplicates"]


def update_duplicates(
    folder: str | os.PathLike[str],
    *,
    store: str | os.PathLike[str] | None = None,
    against: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    root: str | os.PathLike[str] | None = None,
    calibration: Calibration | Literal["cosine"] | None = None,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
    progress: bool | ProgressCallback = False,
) -> Duplicates:
    """Finds the near-duplicates of the images that are new since a search, with its settings.

    Pairs of images that were searched before stay with their scores, as long as both images are
    there with the same content; only pairs with a new or changed image are searched.

    Args:
        folder: What `write_duplicates` wrote; its result replaces it with ``overwrite=True``.
        store: Where the store is now; None takes the place of the search before.
        against: The same of the other store, if there was one.
        images: As for `find_duplicates`.
        root: As for `find_duplicates`.
        calibration: The calibration of the search before, if it wasn't a built-in one.
        weights: As for `find_duplicates`.
        device: As for `find_duplicates`.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        DedupError: The folder can't be read, or doesn't say which images were searched.
        StoreError: A store can't be read.
        SourceError: Pairs are verified, and none of the images is found.
        ValueError: An argument is out of its range.
    """
    before = read_duplicates(folder)
    if before.searched is None:
        raise DedupError(
            f"{folder}: of an older version, which didn't record what was searched; search again"
        )
    mine = before.store.path if store is None else store
    other = None
    if before.against is not None:
        other = before.against.path if against is None else against
    with reporting(progress):
        config = _config_of(before, calibration)
        if _is_current(before, mine, other):
            return before
        new = _new_images(before.searched, mine, other)
        found = search_pairs(mine, other, config, images, root, weights, device, None, new)
        pairs = _joined([_kept(before, mine, other), _columns(found)], found.info)
        return collect(pairs, mine, other, linkage=before.linkage, settings=before.settings)


def _config_of(
    before: Duplicates, calibration: Calibration | Literal["cosine"] | None
) -> DedupConfig:
    """The settings of the search before."""
    settings = dict(before.settings)
    settings["candidates_per_image"] = settings.pop("looks", None)
    names = {field.name for field in fields(DedupConfig)} & settings.keys()
    chosen = {name: settings[name] for name in names if settings[name] is not None}
    if "max_hamming" in settings:
        chosen["max_hamming"] = settings["max_hamming"]
    name = chosen.pop("calibration", None)
    if name not in (None, "cosine") and getattr(calibration, "name", None) != name:
        raise DedupError(
            f"{before.folder}: was searched with the calibration {name!r}; pass it again "
            "(calibration=FILE)"
        )
    return DedupConfig(
        **{
            **chosen,
            "threshold": before.pairs.info.threshold,
            "calibration": "cosine" if name == "cosine" else calibration,
            "linkage": before.linkage,
        }
    )


def _is_current(
    before: Duplicates, store: str | os.PathLike[str], against: str | os.PathLike[str] | None
) -> bool:
    digests = [one.digest for one in (before.store, before.against) if one is not None]
    return digests == [fingerprint_of(Path(path)) for path in (store, against) if path is not None]


def _new_images(
    searched: NDArray[np.uint64],
    store: str | os.PathLike[str],
    against: str | os.PathLike[str] | None,
) -> list[NDArray[np.bool_]]:
    """For each store, ``(N,)`` bool: which images weren't searched, or have other content now."""
    found = []
    for path, purpose in ((store, b""), (against, AGAINST)):
        if path is not None:
            with EmbeddingStore.open(path) as opened:
                found.append(~np.isin(content_keys(opened, purpose), searched, kind="sort"))
    return found


_Columns = dict[str, Any]
"""The columns of pairs, and ``how`` as an array of objects."""


def _columns(pairs: Pairs) -> _Columns:
    how = np.empty(len(pairs), object)
    how[:] = [dict(one) for one in pairs.how] or [{} for _ in range(len(pairs))]
    return {name: getattr(pairs, name) for name in PAIR_DTYPES} | {"how": how}


def _kept(
    before: Duplicates, store: str | os.PathLike[str], against: str | os.PathLike[str] | None
) -> _Columns:
    """The pairs of before whose images are still there, by the rows they have now."""
    rows = _rows_now(before, store, is_store=True)
    if against is not None:
        rows = np.where(before.is_of_store(), rows, _rows_now(before, against, is_store=False))
    columns = _columns(before.pairs)
    ends = rows[nodes_of(before.pairs)[1]]
    if against is None:
        swapped = ends[:, 0] > ends[:, 1]
        ends = np.sort(ends, axis=1)
        columns["how"][swapped] = [
            {} for _ in range(int(swapped.sum()))
        ]  # they say it of the second
    columns["first"], columns["second"] = ends[:, 0], ends[:, 1]
    # Those of equal content are searched again: each is paired with the first one only.
    there = (ends >= 0).all(axis=1) & ~columns["exact"]
    return {name: column[there] for name, column in columns.items()}


def _rows_now(
    before: Duplicates, path: str | os.PathLike[str], *, is_store: bool
) -> NDArray[np.int64]:
    """The row that each image in a pair has in a store now; -1 where it isn't there any more."""
    names = (name.encode("utf-8", "surrogateescape") for name in before.images.ids)
    keys = id_keys(names)
    with EmbeddingStore.open(path) as opened:
        now = id_keys(name.encode("utf-8", "surrogateescape") for name in opened.ids)
        rows = find_keys(keys, now)
        hashes = opened.images("content_hash")
    same = rows >= 0
    same[same] = (hashes[rows[same]] == before.images.content_hash[same]).all(axis=1)
    return np.where(same & (before.is_of_store() == is_store), rows, -1)


def _joined(parts: Sequence[_Columns], info: PairsInfo) -> Pairs:
    """Pairs in order; of one that is in two parts, which follows from others, the first part's."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ends = np.stack([columns["first"], columns["second"]], axis=1)
    _, chosen = np.unique(ends, axis=0, return_index=True)
    how = columns.pop("how")[chosen].tolist()
    return Pairs(**{name: column[chosen] for name, column in columns.items()}, info=info, how=how)
