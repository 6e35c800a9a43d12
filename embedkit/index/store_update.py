"""Brings an index up to date with its stores, by the ids and the content of their images.

New images are added, images that are gone are removed, changed ones are both; nothing is trained
again. An image that was removed by its id stays out as long as a store has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import IndexFileError, StoreMismatchError
from embedkit.index.add import Appender
from embedkit.index.build_plan import store_entries
from embedkit.index.evaluate import measure
from embedkit.index.file_io import writing_errors
from embedkit.index.generation import ContentWriter, change_generation, write_excluded
from embedkit.index.id_table import IdTable
from embedkit.index.rerank import Reranker
from embedkit.index.searcher import Searcher
from embedkit.index.store_rows import DISTINCT_IDS, RowOrder, StoreRows, locate_store
from embedkit.index.update import changing
from embedkit.store.format import StoreMeta
from embedkit.store.repeated_ids import refuse_repeated_ids
from embedkit.store.row_keys import find_keys, id_keys

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.index.generation import ContentReader
    from embedkit.index.manifest import IndexManifest, StoreEntry

__all__ = ["IndexUpdate", "update_from_stores"]

_QUERIES = 256  # new images that the index is measured with
_LOST_RECALL = 0.02  # below that of the build, from which training again is advised
_SEED = 0
_IDS_AT_ONCE = 65536


@dataclass(frozen=True, slots=True)
class IndexUpdate:
    """What an update changed.

    Attributes:
        added: Images that are new.
        changed: Images whose content changed.
        removed: Images that are gone.
        recall: Recall@10 of the index before the update with new images as queries; None where it
            was not measured.
        recall_built: Recall@10 with held-out images when the index was built; None where it was not
            measured.
    """

    added: int
    changed: int
    removed: int
    recall: float | None = None
    recall_built: float | None = None

    @property
    def needs_training(self) -> bool:
        """Whether new images are found so much less well that building again is worth it."""
        if self.recall is None or self.recall_built is None:
            return False
        return self.recall < self.recall_built - _LOST_RECALL


def update_from_stores(path: Path, *, measure_recall: bool = True) -> IndexUpdate:
    """Brings an index up to date; see ``Index.update``."""
    with changing(path, of_changed_stores=True) as (partial, reader):
        before = reader.manifest
        with StoreRows.open([locate_store(entry, path) for entry in before.stores]) as rows:
            entries = store_entries(rows, path)
            if _fingerprints(entries) == _fingerprints(before.stores):
                return IndexUpdate(0, 0, 0)
            _refuse_other(reader, rows)
            changes = _Changes(reader, rows)
            recall = changes.recall() if measure_recall else None
            partial.clear()
            with writing_errors(path):
                writer = ContentWriter(path, before.generation + 1, before.files)
                if len(changes.new_rows):
                    appender = Appender(partial, reader, rows, changes.order)
                    appender.write(writer, changes.new_hashes)
                changes.write(writer)
            manifest = _manifest(before, writer, changes, rows, entries)
        change_generation(path, manifest)
        built = [p.recall_at_10 for p in before.frontier if p.params == before.params]
        return IndexUpdate(*changes.counts, recall, built[0] if built else None)


def _refuse_other(reader: ContentReader, rows: StoreRows) -> None:
    if not len(rows):
        raise IndexFileError(
            f"{reader.folder}: its stores have no images left; remove the index instead"
        )
    store = rows.stores[0]
    made = StoreMeta.from_config(reader.manifest.meta)
    if differences := made.differences(store.meta):
        raise StoreMismatchError(str(store.path), differences)
    refuse_repeated_ids(rows.stores, DISTINCT_IDS)


def _fingerprints(entries: tuple[StoreEntry, ...]) -> list[str]:
    return [entry.fingerprint for entry in entries]


class _Changes:
    """How the stores' rows differ from what an index holds.

    Attributes:
        order: The row of each position, new ones last; 0 where the position is removed.
        removed: The positions that are removed, ascending.
        new_rows: The rows that are added.
        new_hashes: Theirs, as `StoreRows.hashes`.
        counts: Images added, changed and removed.
        excluded: Ids that were removed by the user and that the stores still have.
    """

    def __init__(self, reader: ContentReader, rows: StoreRows) -> None:
        self._reader, self._rows = reader, rows
        hashes, now = reader.hashes(), rows.hashes()
        before = reader.removed()
        live = np.setdiff1d(np.arange(reader.manifest.count), before, assume_unique=True)
        keys = _store_keys(rows)
        at = find_keys(id_keys(IdTable(reader.array("ids", "u1")).encoded()), keys)[live]
        is_kept = at >= 0
        is_kept[is_kept] = hashes[live[is_kept]] == now[at[is_kept]]
        is_new = np.ones(len(rows), np.bool_)
        is_new[at[is_kept]] = False
        excluded = sorted(reader.excluded())
        names = (name.encode("utf-8", "surrogateescape") for name in excluded)
        there = find_keys(id_keys(names), keys)
        self.excluded = [name for name, row in zip(excluded, there, strict=True) if row >= 0]
        is_new[there[there >= 0]] = False
        self.new_rows = np.flatnonzero(is_new)
        self.new_hashes = now[self.new_rows]
        self.removed = np.union1d(before, live[~is_kept]).astype("<i8")
        self._order = np.zeros(reader.manifest.count, np.int64)
        self._order[live[is_kept]] = at[is_kept]
        self.order = RowOrder(
            len(self._order) + len(self.new_rows), np.concatenate([self._order, self.new_rows])
        )
        changed = np.isin(self.new_rows, at[~is_kept]).sum()
        self.counts = (
            len(self.new_rows) - int(changed),
            int(changed),
            int((~is_kept).sum() - changed),
        )

    def recall(self) -> float | None:
        """Recall@10 with new images as queries, before they are in the index.

        Returns:
            None if the index is exact or there is too little to measure with.
        """
        reader, manifest = self._reader, self._reader.manifest
        is_removed = np.zeros(manifest.count, np.bool_)
        is_removed[self.removed] = True
        if manifest.factory == "Flat" or not len(self.new_rows) or is_removed.all():
            return None
        chosen = np.random.default_rng(_SEED).permutation(len(self.new_rows))[:_QUERIES]
        order, space = RowOrder(manifest.count, self._order), reader.space()
        rerank = (
            Reranker(space, self._rows, order, reader.factors(space)) if manifest.rerank else None
        )
        searcher = Searcher(reader.index(), space, manifest.params, rerank, is_removed)
        queries = self._rows.read(np.sort(self.new_rows[chosen]))
        point = measure(searcher, self._rows, order, queries)
        searcher.close()
        return point.recall_at_10

    def write(self, writer: ContentWriter) -> None:
        """Writes the next generation's rows and removed positions."""
        order = self.order.span(0, len(self.order))
        writer.files.pop("rows", None)
        if not np.array_equal(order, np.arange(len(self._rows))):
            writer.write("rows", lambda write: write(order.astype("<i8").tobytes()))
        writer.files.pop("removed", None)
        if len(self.removed):
            writer.write("removed", lambda write: write(self.removed.tobytes()))
        write_excluded(writer, self.excluded)


def _manifest(
    before: IndexManifest,
    writer: ContentWriter,
    changes: _Changes,
    rows: StoreRows,
    entries: tuple[StoreEntry, ...],
) -> IndexManifest:
    count = len(changes.order)
    return replace(
        before,
        files=writer.files,
        count=count,
        removed=len(changes.removed),
        stores=entries,
        meta=rows.meta.to_config(),
        generation=before.generation + 1,
        bytes_per_vector=round((writer.files["index"].nbytes or 0) / max(count, 1), 1),
    )


def _store_keys(rows: StoreRows) -> NDArray[np.bytes_]:
    starts = range(0, len(rows), _IDS_AT_ONCE)
    spans = (np.arange(start, min(start + _IDS_AT_ONCE, len(rows))) for start in starts)
    return id_keys(name for span in spans for name in rows.ids(span))
