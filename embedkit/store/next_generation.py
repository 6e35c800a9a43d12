"""Writes a store as it is after an update, beside the store before, and replaces that at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embedkit.store.annotations import ANNOTATION_DTYPES
from embedkit.store.arrangement import FAILED, SKIPPED, Piece, cut_into_shards
from embedkit.store.format import SHARD_ROWS, USUAL_COLUMNS, StoreCounts, ordered_columns
from embedkit.store.gather import gather
from embedkit.store.manifest import encode_manifest
from embedkit.store.reader import entry_of, refuse_damaged
from embedkit.store.writer import ShardContent, write_shard
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.store.arrangement import Arrangement
    from embedkit.store.format import RowBlock, StoreMeta
    from embedkit.store.reader import ShardFile
    from embedkit.store.store import EmbeddingStore
    from embedkit.store.update_target import UpdateTarget
    from embedkit.types import ImageFailure

__all__ = ["NextGeneration"]

_ROWS_AT_ONCE = 8192
_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class NextGeneration:
    """A store after an update.

    Attributes:
        store: The store before.
        new: A store of the new rows; None if there are none.
        images: The images of the result.
        meta: Its metadata.
        with_labels: Whether it has labels.
        shard_rows: Images per new shard of a sharded store; None: as the store has.
    """

    store: EmbeddingStore
    new: EmbeddingStore | None
    images: Arrangement
    meta: StoreMeta
    with_labels: bool
    shard_rows: int | None = None

    @property
    def counts(self) -> StoreCounts:
        """What the result holds."""
        return self._counts(Piece(0, len(self.images.rows)))

    @cached_property
    def pieces(self) -> list[Piece]:
        """The shards of the result."""
        if not self.store.path.is_dir():
            return [Piece(0, len(self.images.rows), 0)]
        before = [shard.counts for shard in self.store.shards]
        return cut_into_shards(self.images, before, self.shard_rows or self._usual_rows())

    @cached_property
    def changed(self) -> list[Piece]:
        """The shards that differ from those of the store before."""
        return [piece for piece in self.pieces if not self._is_as_before(piece)]

    @property
    def is_as_before(self) -> bool:
        """Whether there is nothing to write."""
        return not self.changed and len(self.pieces) == len(self.store.shards)

    def write(self, target: UpdateTarget) -> None:
        """Writes the store in the place of the one before, which is whole until then.

        Of a folder, the shards that differ are written beside the others, then the manifest. The
        files that the store before names stay until the next update, so whoever has it open goes
        on reading it.

        Raises:
            StoreCorruptError: The store before is damaged.
            StoreError: It can't be written, such as on a full disk.
        """
        if self.store.path.is_dir():
            self._write_folder(target)
        else:
            refuse_damaged(self.store.shard_paths, by_seal=True)
            with atomic_file(target.file) as file:
                write_shard(file, self._content(self.pieces[0]))
            target.take_file()

    def _write_folder(self, target: UpdateTarget) -> None:
        known, paths = list(self.store.structures), self.store.shard_paths
        numbers = self._copied_from()
        refuse_damaged([paths[i] for i in numbers], [known[i] for i in numbers], by_seal=True)
        changed, entries = set(self.changed), []
        for number, piece in enumerate(track(self.pieces, "writing", len(self.pieces))):
            if piece not in changed and piece.shard is not None:
                entries.append(self.store.shards[piece.shard])
                continue
            path = target.folder / f"shard-{number:06d}.g{self.meta.generation}.h5"
            with atomic_file(path) as file:
                write_shard(file, self._content(piece))
            entries.append(target.take_shard(entry_of(path, self._counts(piece))))
        target.switch(encode_manifest(self.meta, entries), entries)

    def _usual_rows(self) -> int:
        """The usual size of the store's shards: the largest, which an update may have doubled."""
        sizes = sorted(shard.counts.found for shard in self.store.shards)
        return max(sizes[len(sizes) // 2], min(sizes[-1], SHARD_ROWS))

    def _is_as_before(self, piece: Piece) -> bool:
        if piece.shard is None:
            return False
        shard, start = self.store.shard(piece.shard), self._starts[piece.shard]
        rows = self._rows(piece)
        return (
            self._counts(piece) == shard.counts
            and np.array_equal(rows, np.arange(start, start + len(shard)))
            and not self.images.touched[piece.start : piece.stop].any()
            and list(shard.failures()) == list(self._failures(piece))
            and self._has_its_labels(piece, shard)
        )

    def _has_its_labels(self, piece: Piece, shard: ShardFile) -> bool:
        numbers, texts = self._of_rows(piece, self.images.labels), self.images.label_texts
        if shard.has_labels and not self.with_labels:
            return False
        pairs = zip(numbers.tolist(), shard.labels(0, len(shard)), strict=True)
        return all(number < 0 or texts[number] == label for number, label in pairs)

    def _copied_from(self) -> list[int]:
        rows = [self._rows(piece) for piece in self.changed]
        found = np.concatenate(rows) if rows else np.empty(0, np.int64)
        found = found[found < len(self.store)]
        numbers = np.unique(np.searchsorted(self._starts, found, side="right") - 1)
        return numbers.tolist()  # type: ignore[no-any-return]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(shard.embedded for shard in self.store.shards)])

    def _of_rows(self, piece: Piece, values: NDArray[_Value]) -> NDArray[_Value]:
        """The values of a piece's images that have rows."""
        where = slice(piece.start, piece.stop)
        return values[where][self.images.rows[where] >= 0]

    def _rows(self, piece: Piece) -> NDArray[np.int64]:
        return self._of_rows(piece, self.images.rows)

    def _counts(self, piece: Piece) -> StoreCounts:
        rows = self.images.rows[piece.start : piece.stop]
        failed, skipped = int((rows == FAILED).sum()), int((rows == SKIPPED).sum())
        return StoreCounts(len(rows) - failed - skipped, failed, skipped)

    @cached_property
    def _failures_before(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.images.rows == FAILED)])

    def _failures(self, piece: Piece) -> Sequence[ImageFailure]:
        first, last = self._failures_before[[piece.start, piece.stop]].tolist()
        return self.images.failures[first:last]

    @property
    def _stores(self) -> list[EmbeddingStore]:
        return [self.store, *([self.new] if self.new else [])]

    def _content(self, piece: Piece) -> ShardContent:
        counts = self._counts(piece)
        return ShardContent(
            self.meta,
            counts,
            track(self._blocks(piece), "writing", counts.embedded, unit="rows", size=len),
            self._failures(piece),
            self.with_labels,
            self.store.head,
            self._columns,
            self._annotations,
        )

    def _blocks(self, piece: Piece) -> Iterator[RowBlock]:
        rows, mtimes = self._rows(piece), self._of_rows(piece, self.images.mtimes)
        labels = self._of_rows(piece, self.images.labels)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            block = gather(self._stores, rows[part])
            if "etag" in self._columns:
                block = self._with_etags(block, rows[part])
            if self._annotations:
                block = self._with_annotations(block, rows[part])
            yield self._revised(block, mtimes[part], labels[part])

    @cached_property
    def _columns(self) -> tuple[str, ...]:
        """The columns of ``/images`` that are written: the usual ones, and those of any shard."""
        shards = (shard for store in self._stores for shard in store.structures)
        known = {name for shard in shards for name in shard.columns}
        if self.images.etags:
            known.add("etag")
        return ordered_columns({*USUAL_COLUMNS, *known} - {*self.meta.omitted_columns})

    def _with_etags(self, block: RowBlock, rows: NDArray[np.int64]) -> RowBlock:
        before = block.column("etag").tolist()
        pairs = zip(rows.tolist(), before, strict=True)
        now = [self.images.etags.get(row, etag) for row, etag in pairs]
        return replace(block, images={**block.images, "etag": np.array(now, object)})

    @cached_property
    def _annotations(self) -> dict[str, np.dtype[Any]]:
        return {name: ANNOTATION_DTYPES[kind] for name, kind in self.store.annotations.items()}

    def _with_annotations(self, block: RowBlock, rows: NDArray[np.int64]) -> RowBlock:
        """The rows with their annotations; a changed image has those of its row before."""
        columns = {name: block.column(name, dtype) for name, dtype in self._annotations.items()}
        for place in np.flatnonzero(rows >= len(self.store)).tolist():
            name = block.ids[place].decode("utf-8", "surrogateescape")
            if name in self.store:
                number, row = self.store.locate(self.store.row_of(name))
                for column, values in columns.items():
                    shard = self.store.shard(number)
                    values[place] = shard.image_column(column, row, row + 1)[0]
        return replace(block, images={**block.images, **columns})

    def _revised(
        self, block: RowBlock, mtimes: NDArray[np.int64], labels: NDArray[np.int32]
    ) -> RowBlock:
        """The rows with their times and labels as they are now."""
        stored = block.column("mtime")
        images = {**block.images, "mtime": np.where(mtimes >= 0, mtimes, stored)}
        if not self.with_labels:
            return replace(block, images=images, labels=())
        texts, before = self.images.label_texts, block.labels or [b""] * len(block)
        pairs = zip(labels.tolist(), before, strict=True)
        now = [label if number < 0 else texts[number] for number, label in pairs]
        return replace(block, images=images, labels=now)
