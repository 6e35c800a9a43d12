"""Adds the rows of new stores to an existing index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedkit._version import __version__
from embedkit.errors import IndexFileError, StoreMismatchError
from embedkit.index.add_vectors import Encoder
from embedkit.index.build_steps import write_ids
from embedkit.index.faiss_io import write_faiss
from embedkit.index.faiss_types import adds_at_once, reserve
from embedkit.index.generation import ContentWriter, copy_into, write_excluded
from embedkit.index.id_table import IdTable
from embedkit.index.inverted_lists import merge_on_disk, name_lists
from embedkit.index.store_rows import DISTINCT_IDS, RowOrder
from embedkit.store.format import StoreMeta
from embedkit.store.repeated_ids import refuse_repeated_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import faiss
    from numpy.typing import NDArray

    from embedkit.index.generation import ContentReader
    from embedkit.index.manifest import IndexManifest, StoreEntry
    from embedkit.index.store_rows import StoreRows
    from embedkit.index.working_dir import PartialIndex

__all__ = ["Addition", "Appender"]

_PART, _LISTS, _FACTORS = "held.faiss", "lists-final.bin", "factors.f4"


class Appender:
    """Appends rows of stores to the files of an index."""

    def __init__(
        self, partial: PartialIndex, reader: ContentReader, rows: StoreRows, order: RowOrder
    ) -> None:
        """Prepares it.

        Args:
            partial: The working folder.
            reader: The index as it is.
            rows: The stores' rows.
            order: Which of ``rows`` lies at which position; those past the index's are appended.

        Raises:
            IndexFileError: faiss can't add rows to such an index.
        """
        if adds_at_once(reader.index("trained")):
            raise IndexFileError(
                f"{reader.folder}: faiss can't add rows to a built {reader.manifest.factory}; "
                "build it again with all stores"
            )
        self._partial, self._reader, self._rows, self._order = partial, reader, rows, order
        self._start, self._stop = reader.manifest.count, len(order)

    def write(self, writer: ContentWriter, hashes: NDArray[np.uint64] | None = None) -> None:
        """Writes the next generation's vectors, ids, hashes and factors.

        Args:
            writer: Takes the files.
            hashes: Those of the rows that are appended; None reads them.

        Raises:
            StoreError: A row isn't finite, or can't be read.
        """
        index = self._added(writer)
        writer.write("index", lambda write: write_faiss(index, write))
        writer.write("ids", self._write_ids)
        if "hashes" in writer.files:
            writer.write("hashes", lambda write: self._write_hashes(write, hashes))
        if "factors" in writer.files:
            writer.write("factors", lambda write: copy_into(self._partial.path(_FACTORS), write))

    def _added(self, writer: ContentWriter) -> faiss.Index:
        """The index with the new rows, in memory but for lists that stay on disk."""
        encoder = self._encoder()
        if not self._reader.manifest.on_disk:
            index = self._reader.index()
            reserve(index, self._stop)
            encoder.add(index, self._start, self._stop)
            return index
        part = self._reader.index("trained")
        encoder.add(part, self._start, self._stop)
        self._partial.commit(_PART, lambda file: write_faiss(part, file.write))
        index = self._reader.index("trained")
        parts, lists = [self._partial.path(_PART)], self._partial.path(_LISTS)
        merge_on_disk(index, parts, lists, self._reader.index())
        self._partial.move(_LISTS, writer.path("lists"))
        writer.add_existing("lists")
        name_lists(index, writer.path("lists").name)
        return index

    def _encoder(self) -> Encoder:
        def write_old(write: Callable[[bytes], int]) -> None:
            if "factors" in self._reader.manifest.files:
                copy_into(self._reader.checked("factors"), write)

        self._partial.commit(_FACTORS, lambda file: write_old(file.write))
        return Encoder(
            self._rows,
            self._order,
            self._reader.space(),
            self._partial.path(_FACTORS),
            first=self._start,
        )

    def _write_ids(self, write: Callable[[bytes], int]) -> None:
        copy_into(self._reader.checked("ids"), write)
        write_ids(self._rows, self._order, self._start, self._stop, write)

    def _write_hashes(
        self, write: Callable[[bytes], int], hashes: NDArray[np.uint64] | None
    ) -> None:
        copy_into(self._reader.checked("hashes"), write)
        if hashes is None:
            hashes = self._rows.hashes()[self._order.span(self._start, self._stop)]
        write(hashes.tobytes())


class Addition:
    """All rows of new stores on their way into an index."""

    def __init__(self, partial: PartialIndex, reader: ContentReader, rows: StoreRows) -> None:
        """Prepares an addition.

        Args:
            partial: The working folder.
            reader: The index as it is.
            rows: The rows to add.
        """
        self._partial, self._reader, self._rows = partial, reader, rows
        self._start = reader.manifest.count
        self._stop = self._start + len(rows)

    def write(self, entries: Sequence[StoreEntry]) -> IndexManifest:
        """Writes the next generation's files, and gives its manifest.

        Raises:
            IndexFileError: A store is in the index already, or rows can't be added to it.
            StoreMismatchError: The stores have other embedding settings than the index.
            StoreError: A row isn't finite, or can't be read.
        """
        before = self._reader.manifest
        order = RowOrder(self._stop, first=self._start)
        appender = Appender(self._partial, self._reader, self._rows, order)
        self._refuse(before, entries)
        writer = ContentWriter(self._reader.folder, before.generation + 1, before.files)
        appender.write(writer)
        self._write_order(writer)
        excluded = self._reader.excluded()
        if excluded:
            write_excluded(writer, excluded - {name for s in self._rows.stores for name in s.ids})
        roots = [*dict.fromkeys([*before.meta.get("roots", ()), *self._rows.meta.roots])]
        return replace(
            before,
            files=writer.files,
            count=self._stop,
            stores=(*before.stores, *entries),
            meta={**before.meta, "roots": roots},
            generation=before.generation + 1,
            bytes_per_vector=round((writer.files["index"].nbytes or 0) / max(self._stop, 1), 1),
            embedkit_version=__version__,
        )

    def _refuse(self, before: IndexManifest, entries: Sequence[StoreEntry]) -> None:
        present = {entry.fingerprint for entry in before.stores}
        for entry in entries:
            if entry.fingerprint in present:
                raise IndexFileError(f"{self._reader.folder}: {entry.path} is in it already")
            present.add(entry.fingerprint)
        store = self._rows.stores[0]
        if differences := StoreMeta.from_config(before.meta).differences(store.meta):
            raise StoreMismatchError(str(store.path), differences)
        self._refuse_repeated_ids()

    def _refuse_repeated_ids(self) -> None:
        refuse_repeated_ids(self._rows.stores, DISTINCT_IDS)
        ids = {name for store in self._rows.stores for name in store.ids}
        table = IdTable(self._reader.array("ids", "u1"))
        present = np.setdiff1d(table.positions(ids)[0], self._reader.removed())
        if len(present):
            example = table.names(present[:1, None])[0][0]
            raise IndexFileError(
                f"{self._reader.folder}: has {len(present)} of these ids already, such as "
                f"{example!r}; remove them first, or extract the new images with "
                "`embedkit extract --prefix NAME`"
            )

    def _write_order(self, writer: ContentWriter) -> None:
        """The new rows follow those of all stores before, indexed or not."""
        before = self._reader.manifest
        first = sum(entry.rows for entry in before.stores)
        order = self._reader.order()
        if order.is_plain and first == self._start:
            return
        rows = np.concatenate(
            [order.span(0, self._start), np.arange(first, first + len(self._rows))]
        )
        writer.write("rows", lambda write: write(rows.astype("<i8").tobytes()))
