"""Merges shards with the same settings into one file, one block of rows at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import StoreMismatchError
from embedkit.store.annotations import common_annotations
from embedkit.store.format import StoreCounts, StoreMeta, ordered_columns
from embedkit.store.reader import ShardFile, refuse_damaged
from embedkit.store.writer import ShardContent, write_shard
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.store.format import RowBlock
    from embedkit.types import ImageFailure

__all__ = ["merge_shards", "merged_engine"]

_log = logging.getLogger("embedkit")


def merge_shards(
    paths: Sequence[Path],
    output: Path,
    workspace: Path | None = None,
    *,
    dropped: NDArray[np.int64] | None = None,
    whole: bool = False,
) -> StoreCounts:
    """Merges shard files into one, streaming; peak memory is a few blocks of rows.

    Args:
        paths: The shards.
        output: The file to write.
        workspace: Where it lies until it is whole; None is beside it.
        dropped: Rows to leave out, numbered through the shards, ascending; None drops none.
        whole: Whether they hold all parts of their plan.

    Returns:
        What the merged file holds.

    Raises:
        StoreMismatchError: Two shards have different settings.
        StoreCorruptError: A shard is damaged.
        StoreError: ``output`` can't be written.
    """
    metas: list[StoreMeta] = []
    annotations: list[Mapping[str, np.dtype[Any]]] = []
    gone = np.empty(0, np.int64) if dropped is None else dropped
    counts = StoreCounts(-len(gone), 0, 0)
    with_labels, head, columns = False, None, set[str]()
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
            columns |= {*shard.columns}
            annotations.append(shard.annotations)
    common = common_annotations(annotations)
    if lost := {name for one in annotations for name in one} - {*common}:
        _log.warning(
            "%s: is without %s, which not all of the stores have, or not of the same kind",
            output, ", ".join(sorted(lost)),
        )  # fmt: skip
    content = ShardContent(
        _merged_meta(metas, columns, whole=whole),
        counts,
        track(_rows(paths, gone), "merging", counts.embedded, unit="rows", size=len),
        _failures(paths),
        with_labels,
        head,
        ordered_columns(columns),
        common,
    )
    with atomic_file(output, workspace) as file:
        write_shard(file, content)
    return counts


def _merged_meta(metas: Sequence[StoreMeta], columns: Collection[str], *, whole: bool) -> StoreMeta:
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
        part={} if whole else first.part,
        omitted_columns=sorted({n for meta in metas for n in meta.omitted_columns} - {*columns}),
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
