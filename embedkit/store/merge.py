"""Merges stores with the same settings into one file, one block of rows at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embedkit.errors import StoreError, StoreMismatchError
from embedkit.store.annotations import common_annotations
from embedkit.store.format import IMAGE_DTYPES, StoreCounts, StoreMeta
from embedkit.store.reader import ShardFile, refuse_damaged
from embedkit.store.repeated_ids import refuse_repeated_ids, repeated_ids
from embedkit.store.store import EmbeddingStore
from embedkit.store.writer import ShardContent, write_shard
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.endings import refuse_other_ending
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.store.format import RowBlock
    from embedkit.types import ImageFailure
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Duplicates", "merge", "merge_shards", "merged_engine"]

Duplicates = Literal["error", "first", "last"]
_log = logging.getLogger("embedkit")


def merge(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    duplicates: Duplicates = "error",
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> Path:
    """Merges stores into one file; rows keep their order, store after store.

    The inputs are verified first. They must have equal settings: backbone, weights, preprocessing,
    pooling, decoding, dtype and precision.

    Args:
        stores: Files or folders, at least one.
        output: The file to write; it appears when it is complete.
        duplicates: What to do about an id that several rows have: ``error`` refuses them,
            ``first`` keeps the first of them, ``last`` the last.
        overwrite: Whether an existing file is replaced.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        ``output``.

    Raises:
        StoreMismatchError: Two stores have different settings.
        StoreCorruptError: An input is damaged.
        StoreError: ``output`` exists, or can't be written; or an id occurs twice.
        ValueError: No store was given, or ``duplicates`` is none of these.
    """
    output = Path(output)
    if not stores:
        raise ValueError("nothing to merge: give one store or more")
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates must be error, first or last, not {duplicates!r}")
    refuse_other_ending(output, "an embedding store")
    if output.exists() and not output.is_file():
        raise StoreError(f"{output}: is a folder or a device; give the name of a file")
    if output.exists() and not overwrite:
        raise StoreError(f"{output}: exists already; overwrite=True replaces it")
    with ExitStack() as stack:
        opened = [stack.enter_context(EmbeddingStore.open(given)) for given in stores]
        paths = [path for store in opened for path in store.shard_paths]
        if any(path.resolve() == output.resolve() for path in paths):
            raise StoreError(f"{output}: is one of the stores to merge; choose another output")
        for store in opened[1:]:
            if differences := opened[0].meta.differences(store.meta, purpose="merge"):
                raise StoreMismatchError(str(store.path), differences)
        stack.enter_context(reporting(progress))
        refuse_damaged(paths)
        merge_shards(paths, output, dropped=_dropped(opened, duplicates))
    return output


def merge_shards(
    paths: Sequence[Path],
    output: Path,
    workspace: Path | None = None,
    *,
    dropped: NDArray[np.int64] | None = None,
) -> None:
    """Merges shard files into one, streaming; peak memory is a few blocks of rows.

    Args:
        paths: The shards.
        output: The file to write.
        workspace: Where it lies until it is whole; None is beside it.
        dropped: Rows to leave out, numbered through the shards, ascending; None drops none.

    Raises:
        StoreMismatchError: Two shards have different settings.
        StoreCorruptError: A shard is damaged.
        StoreError: ``output`` can't be written.
    """
    metas: list[StoreMeta] = []
    annotations: list[Mapping[str, np.dtype[Any]]] = []
    gone = np.empty(0, np.int64) if dropped is None else dropped
    counts = StoreCounts(-len(gone), 0, 0)
    with_labels, head, columns = False, None, dict.fromkeys(IMAGE_DTYPES)
    if dropped is None:
        refuse_damaged(paths)
    for path in paths:
        with closing(ShardFile(path)) as shard:
            metas.append(shard.meta)
            if differences := metas[0].differences(shard.meta, purpose="merge"):
                raise StoreMismatchError(str(path), differences)
            counts += shard.counts
            with_labels = with_labels or shard.has_labels
            head = shard.head() if head is None else head
            columns |= dict.fromkeys(shard.columns)
            annotations.append(shard.annotations)
    common = common_annotations(annotations)
    if lost := {name for one in annotations for name in one} - {*common}:
        _log.warning(
            "%s: is without %s, which not all of the stores have, or not of the same kind",
            output, ", ".join(sorted(lost)),
        )  # fmt: skip
    content = ShardContent(
        _merged_meta(metas),
        counts,
        track(_rows(paths, gone), "merging", counts.embedded, unit="rows", size=len),
        _failures(paths),
        with_labels,
        head,
        tuple(columns),
        common,
    )
    with atomic_file(output, workspace) as file:
        write_shard(file, content)


def _dropped(stores: Sequence[EmbeddingStore], duplicates: Duplicates) -> NDArray[np.int64]:
    """The rows of repeated ids that aren't kept, numbered through the stores, ascending."""
    if duplicates == "error":
        way_out = 'duplicates="first" or duplicates="last" keeps one row of each id'
        refuse_repeated_ids(stores, way_out)
    kept = slice(1, None) if duplicates == "first" else slice(None, -1)
    dropped = [row for rows in repeated_ids(stores).values() for row in rows[kept]]
    return np.array(sorted(dropped), np.int64)


def _merged_meta(metas: Sequence[StoreMeta]) -> StoreMeta:
    """The first one's, with all sources and engines; of one plan if all are shards of it."""
    first = metas[0]
    plans = list(dict.fromkeys(meta.plan_hash for meta in metas))
    sources = list(dict.fromkeys(source for meta in metas for source in meta.source))
    plan = plans[0] if len(plans) == 1 else hashlib.sha256("".join(plans).encode()).hexdigest()
    roots = list(dict.fromkeys(root for meta in metas for root in meta.roots))
    is_listed_alike = all(meta.listing == first.listing for meta in metas)
    labels = metas[0].labels_from if len({meta.labels_from for meta in metas}) == 1 else ""
    before = metas[0].same_rows_as if len(metas) == 1 else ()
    return dataclasses.replace(
        first,
        plan_hash=plan,
        source=sources,
        engine=merged_engine(metas),
        roots=roots,
        labels_from=labels,
        same_rows_as=before,
        listing=first.listing if is_listed_alike else {},
        generation=first.generation if len(metas) == 1 else 0,
    )


def merged_engine(metas: Sequence[StoreMeta]) -> dict[str, object]:
    """The first engine, and with it those that differ."""
    engines = [engine for meta in metas for engine in _engines(meta)]
    others = [engine for i, engine in enumerate(engines) if engine not in engines[:i]][1:]
    return {**engines[0], "others": others} if others else engines[0]


def _engines(meta: StoreMeta) -> list[dict[str, object]]:
    """The engine of a store, or all those of a store that was merged."""
    engine = dict(meta.engine)
    return [engine, *engine.pop("others", [])]


def _rows(paths: Sequence[Path], dropped: NDArray[np.int64]) -> Iterator[RowBlock]:
    first = 0
    for path in paths:
        with closing(ShardFile(path)) as shard:
            for block in shard.blocks():
                out = dropped[slice(*np.searchsorted(dropped, [first, first + len(block)]))]
                if len(out):
                    kept = np.ones(len(block), np.bool_)
                    kept[out - first] = False
                    yield block.where(kept)
                else:
                    yield block
                first += len(block)


def _failures(paths: Sequence[Path]) -> Iterator[ImageFailure]:
    for path in paths:
        with closing(ShardFile(path)) as shard:
            yield from shard.failures()
