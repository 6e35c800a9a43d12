"""Merges stores with the same settings into one: a file, or a folder of the parts' shards."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.sources.io.transfer import refuse_unwritable
from embedkit.store.assemble import (
    assembled_shards,
    is_unfinished,
    link_folder,
    unfinished_folder,
)
from embedkit.store.merge_shards import merge_shards
from embedkit.store.merge_to_url import uploaded_file, uploaded_folder
from embedkit.store.object_cache import address_of
from embedkit.store.parts import in_order_of_parts
from embedkit.store.reader import refuse_damaged
from embedkit.store.repeated_ids import refuse_repeated_ids, repeated_ids
from embedkit.store.store import EmbeddingStore
from embedkit.utils.endings import refuse_other_ending
from embedkit.utils.progress import reporting
from embedkit.utils.urls import local_path, object_url

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.store.format import StoreCounts
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Duplicates", "merge", "merge_counted"]

Duplicates = Literal["error", "first", "last"]


def merge(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    duplicates: Duplicates = "error",
    overwrite: bool = False,
    work_dir: str | os.PathLike[str] | None = None,
    progress: bool | ProgressCallback = False,
) -> Path | str:
    """Merges stores into one file; rows keep their order, store after store.

    Stores of the parts of one extraction (``extract``'s ``part``) are put in the order of the
    parts, whatever the order given; the result equals the store of one run. Its parts may also be
    unfinished folders of shards, ``<output>.partial``: then an ``output`` that doesn't end in
    ``.h5`` or ``.hdf5`` becomes a folder of the same shards, hard-linked where the disk allows it.

    The inputs are verified first. They must have equal settings: backbone, weights, preprocessing,
    pooling, decoding, dtype and precision.

    Args:
        stores: Files or folders, at least one.
        output: The file to write, or the folder; or the URL of one, such as
            ``s3://bucket/photos.h5``. It appears when it is complete.
        duplicates: What to do about an id that several rows have: ``error`` refuses them,
            ``first`` keeps the first of them, ``last`` the last.
        overwrite: Whether an existing file is replaced.
        work_dir: Folder for the unfinished file, if ``output`` is a URL; None is ``unfinished`` in
            embedkit's cache.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        ``output``; of a URL its text.

    Raises:
        StoreMismatchError: Two stores have different settings.
        StoreCorruptError: An input is damaged.
        StoreError: ``output`` exists, or can't be written; an id occurs twice; or a part is
            missing, is given twice, or belongs to another plan.
        ValueError: No store was given, or ``duplicates`` is none of these.
    """
    merged, _ = merge_counted(
        stores, output,
        duplicates=duplicates, overwrite=overwrite, work_dir=work_dir, progress=progress,
    )  # fmt: skip
    return merged


def merge_counted(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    duplicates: Duplicates = "error",
    overwrite: bool = False,
    work_dir: str | os.PathLike[str] | None = None,
    progress: bool | ProgressCallback = False,
) -> tuple[Path | str, StoreCounts]:
    """As ``merge``; returns also what the merged store holds."""
    output = local_path(output)
    if not stores:
        raise ValueError("nothing to merge: give one store or more")
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates must be error, first or last, not {duplicates!r}")
    refuse_other_ending(output, "an embedding store")
    if (url := object_url(output)) is not None:
        refuse_unwritable(url)
    target = _Target(output, url, None if work_dir is None else Path(work_dir), overwrite)
    with reporting(progress):
        if any(is_unfinished(Path(one)) for one in stores):
            return url or output, _assemble([Path(one) for one in stores], target)
        return url or output, _merge(stores, target, duplicates)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the merged store is written, and whether it replaces another one there."""

    output: Path
    url: str | None
    work_dir: Path | None
    overwrite: bool

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The path to write it to as one file."""
        if self.url is not None:
            with uploaded_file(self.url, self.work_dir, overwrite=self.overwrite) as path:
                yield path
            return
        if self.output.exists() and not self.output.is_file():
            raise StoreError(f"{self.output}: is a folder or a device; give the name of a file")
        if self.output.exists() and not self.overwrite:
            raise StoreError(f"{self.output}: exists already; overwrite=True replaces it")
        yield self.output

    def refuse_input(self, stores: Sequence[EmbeddingStore], paths: Sequence[Path]) -> None:
        """Refuses an output that is one of the stores to merge, or one of their files."""
        if any(self.url == address_of(store.path) for store in stores if self.url) or any(
            path.resolve() == self.output.resolve() for path in paths
        ):
            raise StoreError(
                f"{self.url or self.output}: is one of the stores to merge; choose another output"
            )


def _merge(
    stores: Sequence[str | os.PathLike[str]], target: _Target, duplicates: Duplicates
) -> StoreCounts:
    """Makes a file of stores; see ``merge``."""
    with ExitStack() as stack:
        written = stack.enter_context(target.file())
        opened = [stack.enter_context(EmbeddingStore.open(given)) for given in stores]
        opened = in_order_of_parts(opened)
        paths = [path for store in opened for path in store.shard_paths]
        target.refuse_input(opened, paths)
        for store in opened[1:]:
            if differences := opened[0].meta.differences(store.meta, purpose="merge"):
                raise StoreMismatchError(str(store.path), differences)
        refuse_damaged(paths)
        return merge_shards(paths, written, dropped=_dropped(opened, duplicates), whole=True)


def _assemble(stores: Sequence[Path], target: _Target) -> StoreCounts:
    """Makes a file or a folder of the shards in working folders; see ``merge``."""
    folders = [folder for folder in map(unfinished_folder, stores) if folder is not None]
    if len(folders) < len(stores):
        finished = next(one for one in stores if not is_unfinished(one))
        raise StoreError(
            f"{finished}: is a finished store or isn't there, and {folders[0]} is the folder of a "
            "part; merge such folders alone"
        )
    with ExitStack() as stack:
        shards = assembled_shards(folders, stack)
        if target.output.suffix.lower() in {".h5", ".hdf5"}:
            return merge_shards(shards.paths, stack.enter_context(target.file()))
        if target.url is None:
            return link_folder(shards.paths, target.output, overwrite=target.overwrite)
        return uploaded_folder(shards, target.url, target.work_dir, overwrite=target.overwrite)


def _dropped(stores: Sequence[EmbeddingStore], duplicates: Duplicates) -> NDArray[np.int64]:
    """The rows of repeated ids that aren't kept, numbered through the stores, ascending."""
    if duplicates == "error":
        way_out = 'duplicates="first" or duplicates="last" keeps one row of each id'
        refuse_repeated_ids(stores, way_out)
    kept = slice(1, None) if duplicates == "first" else slice(None, -1)
    dropped = [row for rows in repeated_ids(stores).values() for row in rows[kept]]
    return np.array(sorted(dropped), np.int64)
