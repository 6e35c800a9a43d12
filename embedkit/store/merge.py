"""Merges stores with the same settings into one file, one block of rows at a time."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.store.format import StoreCounts, StoreMeta
from embedkit.store.reader import ShardFile, refuse_damage
from embedkit.store.store import EmbeddingStore
from embedkit.store.writer import ShardContent, write_shard
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.progress import reporting, silent, track

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from embedkit.store.format import RowBlock
    from embedkit.types import ImageFailure
    from embedkit.utils.progress import ProgressCallback

__all__ = ["merge", "merge_shards"]


def merge(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> Path:
    """Merges stores into one file; rows keep their order, store after store.

    The inputs are verified first. They must have equal settings: backbone, weights, preprocessing,
    pooling, decoding, dtype and precision.

    Args:
        stores: Files or folders, at least one.
        output: The file to write; it appears when it is complete.
        overwrite: Whether an existing file is replaced.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        ``output``.

    Raises:
        StoreMismatchError: Two stores have different settings.
        StoreCorruptError: An input is damaged.
        StoreError: ``output`` exists, or can't be written.
        ValueError: No store was given.
    """
    output = Path(output)
    if not stores:
        raise ValueError("nothing to merge: give one store or more")
    if output.exists() and not output.is_file():
        raise StoreError(f"{output}: is a folder or a device; give the name of a file")
    if output.exists() and not overwrite:
        raise StoreError(f"{output}: exists already; overwrite=True replaces it")
    paths: list[Path] = []
    for given in stores:
        with EmbeddingStore.open(given) as store:
            folder = store.path if store.path.is_dir() else store.path.parent
            paths += [folder / entry.name for entry in store.shards]
    if any(path.resolve() == output.resolve() for path in paths):
        raise StoreError(f"{output}: is one of the stores to merge; choose another output")
    with reporting(progress):
        merge_shards(paths, output)
    return output


def merge_shards(paths: Sequence[Path], output: Path, workspace: Path | None = None) -> None:
    """Merges shard files into one, streaming; peak memory is a few blocks of rows.

    Raises:
        StoreMismatchError: Two shards have different settings.
        StoreCorruptError: A shard is damaged.
        StoreError: ``output`` can't be written.
    """
    metas: list[StoreMeta] = []
    counts = StoreCounts(0, 0, 0)
    with_labels, head = False, None
    for path in track(paths, "verifying", len(paths), unit="shards"):
        with silent() if len(paths) > 1 else nullcontext():
            refuse_damage(path)
        with closing(ShardFile(path)) as shard:
            metas.append(shard.meta)
            if differences := metas[0].differences(shard.meta, purpose="merge"):
                raise StoreMismatchError(str(path), differences)
            counts += shard.counts
            with_labels = with_labels or shard.has_labels
            head = shard.head() if head is None else head
    content = ShardContent(
        _merged_meta(metas),
        counts,
        track(_rows(paths), "merging", counts.embedded, unit="rows", size=len),
        _failures(paths),
        with_labels,
        head,
    )
    with atomic_file(output, workspace) as file:
        write_shard(file, content)


def _merged_meta(metas: Sequence[StoreMeta]) -> StoreMeta:
    """The first one's, with all sources and engines; of one plan if all are shards of it."""
    first = metas[0]
    engines = [engine for meta in metas for engine in _engines(meta)]
    others = [engine for i, engine in enumerate(engines) if engine not in engines[:i]][1:]
    engine = {**engines[0], "others": others} if others else engines[0]
    plans = list(dict.fromkeys(meta.plan_hash for meta in metas))
    sources = list(dict.fromkeys(source for meta in metas for source in meta.source))
    plan = plans[0] if len(plans) == 1 else hashlib.sha256("".join(plans).encode()).hexdigest()
    return dataclasses.replace(first, plan_hash=plan, source=sources, engine=engine)


def _engines(meta: StoreMeta) -> list[dict[str, object]]:
    """The engine of a store, or all those of a store that was merged."""
    engine = dict(meta.engine)
    return [engine, *engine.pop("others", [])]


def _rows(paths: Sequence[Path]) -> Iterator[RowBlock]:
    for path in paths:
        with closing(ShardFile(path)) as shard:
            yield from shard.blocks()


def _failures(paths: Sequence[Path]) -> Iterator[ImageFailure]:
    for path in paths:
        with closing(ShardFile(path)) as shard:
            yield from shard.failures()
