"""Merges stores with the same settings into one: a file, or a folder of the parts' shards."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.store.assemble import (
    assembled_shards,
    is_unfinished,
    link_folder,
    unfinished_folder,
)
from embedkit.store.merge_shards import merge_shards
from embedkit.store.parts import in_order_of_parts
from embedkit.store.reader import refuse_damaged
from embedkit.store.repeated_ids import refuse_repeated_ids, repeated_ids
from embedkit.store.store import EmbeddingStore
from embedkit.utils.endings import refuse_other_ending
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.utils.progress import ProgressCallback

__all__ = ["Duplicates", "merge"]

Duplicates = Literal["error", "first", "last"]


def merge(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    duplicates: Duplicates = "error",
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> Path:
    """Merges stores into one file; rows keep their order, store after store.

    Stores of the parts of one extraction (``extract``'s ``part``) are put in the order of the
    parts, whatever the order given; the result equals the store of one run. Its parts may also be
    unfinished folders of shards, ``<output>.partial``: then an ``output`` that doesn't end in
    ``.h5`` or ``.hdf5`` becomes a folder of the same shards, hard-linked where the disk allows it.

    The inputs are verified first. They must have equal settings: backbone, weights, preprocessing,
    pooling, decoding, dtype and precision.

    Args:
        stores: Files or folders, at least one.
        output: The file to write, or the folder; it appears when it is complete.
        duplicates: What to do about an id that several rows have: ``error`` refuses them,
            ``first`` keeps the first of them, ``last`` the last.
        overwrite: Whether an existing file is replaced.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        ``output``.

    Raises:
        StoreMismatchError: Two stores have different settings.
        StoreCorruptError: An input is damaged.
        StoreError: ``output`` exists, or can't be written; an id occurs twice; or a part is
            missing, is given twice, or belongs to another plan.
        ValueError: No store was given, or ``duplicates`` is none of these.
    """
    output = Path(output)
    if not stores:
        raise ValueError("nothing to merge: give one store or more")
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates must be error, first or last, not {duplicates!r}")
    refuse_other_ending(output, "an embedding store")
    if any(is_unfinished(Path(one)) for one in stores):
        with reporting(progress):
            _assemble([Path(one) for one in stores], output, overwrite=overwrite)
        return output
    if output.exists() and not output.is_file():
        raise StoreError(f"{output}: is a folder or a device; give the name of a file")
    if output.exists() and not overwrite:
        raise StoreError(f"{output}: exists already; overwrite=True replaces it")
    with ExitStack() as stack:
        opened = [stack.enter_context(EmbeddingStore.open(given)) for given in stores]
        opened = in_order_of_parts(opened)
        paths = [path for store in opened for path in store.shard_paths]
        if any(path.resolve() == output.resolve() for path in paths):
            raise StoreError(f"{output}: is one of the stores to merge; choose another output")
        for store in opened[1:]:
            if differences := opened[0].meta.differences(store.meta, purpose="merge"):
                raise StoreMismatchError(str(store.path), differences)
        stack.enter_context(reporting(progress))
        refuse_damaged(paths)
        merge_shards(paths, output, dropped=_dropped(opened, duplicates), whole=True)
    return output


def _assemble(stores: Sequence[Path], output: Path, *, overwrite: bool) -> None:
    """Makes a file or a folder of the shards in working folders; see ``merge``."""
    folders = [folder for folder in map(unfinished_folder, stores) if folder is not None]
    if len(folders) < len(stores):
        finished = next(one for one in stores if not is_unfinished(one))
        raise StoreError(
            f"{finished}: is a finished store or isn't there, and {folders[0]} is the folder of a "
            "part; merge such folders alone"
        )
    with ExitStack() as stack:
        paths = assembled_shards(folders, stack)
        if output.suffix.lower() not in {".h5", ".hdf5"}:
            link_folder(paths, output, overwrite=overwrite)
        elif output.exists() and not overwrite:
            raise StoreError(f"{output}: exists already; overwrite=True replaces it")
        else:
            merge_shards(paths, output)


def _dropped(stores: Sequence[EmbeddingStore], duplicates: Duplicates) -> NDArray[np.int64]:
    """The rows of repeated ids that aren't kept, numbered through the stores, ascending."""
    if duplicates == "error":
        way_out = 'duplicates="first" or duplicates="last" keeps one row of each id'
        refuse_repeated_ids(stores, way_out)
    kept = slice(1, None) if duplicates == "first" else slice(None, -1)
    dropped = [row for rows in repeated_ids(stores).values() for row in rows[kept]]
    return np.array(sorted(dropped), np.int64)
