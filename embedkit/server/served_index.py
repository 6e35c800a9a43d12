"""An open index or store with what the service shows of its images."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embedkit.errors import StoreError
from embedkit.index import Index
from embedkit.index.id_table import IdTable
from embedkit.retrieval.filters import Filter
from embedkit.retrieval.metadata import StoreMetadata, column_pieces
from embedkit.server.item_keys import ItemKeys
from embedkit.store.format import COLUMN_SHAPES
from embedkit.tabular import valid_text
from embedkit.types import MISSING_INTEGER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["MISSING", "ServedIndex"]

MISSING = {"captured": -1}
"""What stands for no value, in columns where it isn't ``MISSING_INTEGER``."""

_Value = TypeVar("_Value")
_REMEMBERED = 16  # columns, masks and orders, N values each


class ServedIndex:
    """One generation of an index, open; N images, those of its stores.

    Attributes:
        name: What requests call it.
        path: Its folder, or the store.
        index: The index.
        metadata: Its stores.
        generation: A number that grows when it is opened anew.
        live: ``(N,)`` bool, rows that a search can find.
        keys: The opaque names of the images.
    """

    def __init__(
        self, name: str, index: Index, metadata: StoreMetadata, generation: int, secret: bytes
    ) -> None:
        self.name, self.path = name, Path(index.path)
        self.index, self.metadata, self.generation = index, metadata, generation
        self._lock = threading.RLock()  # HDF5, and which shards are open
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        names = metadata.ids(np.arange(len(metadata)))
        self.keys = ItemKeys(names, secret)
        self._ids = IdTable(np.frombuffer(b"".join(name + b"\0" for name in names), np.uint8))
        found = index.found_rows()
        follows = metadata.follows_index and len(found) == len(metadata)
        self.live = found if follows else np.ones(len(metadata), bool)
        self.width, self.height = (self._numbers(side) for side in ("width", "height"))
        self.hashes = metadata.content_hashes  # read now, so that searches needn't
        metadata.rows_of(["."])  # the same

    @classmethod
    def open(cls, path: Path, name: str, generation: int, secret: bytes) -> ServedIndex:
        """Opens an index with its stores, or a store.

        Raises:
            IndexFileError: There is no index, or it can't be read.
            StoreError: A store can't be read, or is needed and not there.
        """
        index = Index.open(path)
        try:
            metadata = StoreMetadata.of_index(index)
            if metadata is None:
                raise StoreError(
                    f"{path}: the store that it was built of is needed; put it back, or beside "
                    f"the index as {path.name.removesuffix('.index')}.h5"
                )
            return cls(name, index, metadata, generation, secret)
        except BaseException:
            index.close()
            raise

    def __len__(self) -> int:
        return len(self.metadata)

    def close(self) -> None:
        """Closes the index and its stores."""
        with self._lock:
            self.index.close()
            self.metadata.close()

    @property
    def store_paths(self) -> list[Path]:
        """The stores of the index."""
        return [store.path for store in self.metadata.stores]

    def ids(self, rows: NDArray[np.int64] | Sequence[int]) -> tuple[str, ...]:
        """The ids of some rows."""
        return self._ids.names(np.asarray(rows, np.int64).reshape(1, -1))[0]

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The rows of some ids, -1 for an id that isn't there."""
        return self.metadata.rows_of(ids)

    @cached_property
    def labels(self) -> tuple[NDArray[np.int32], list[str]]:
        """The number of each row's label, -1 for none, and the labels in order."""
        with self._lock:
            if not any(store.has_labels for store in self.metadata.stores):
                return np.full(len(self), -1, np.int32), []
            texts = self._pieces("label")
        names = sorted({*texts} - {""})
        numbers = {name: number for number, name in enumerate(names)} | {"": -1}
        return np.fromiter((numbers[text] for text in texts), np.int32, len(texts)), names

    def label(self, row: int) -> str | None:
        """The label of a row."""
        numbers, names = self.labels
        return names[numbers[row]] if numbers[row] >= 0 else None

    def column(self, name: str) -> NDArray[Any] | list[str]:
        """A column as filters know it, N values: numbers as an array, texts as a list.

        Raises:
            StoreError: A store has no such column.
        """
        return self._remember(("column", name), lambda: self._column(name))

    def value(self, name: str, row: int) -> Any:
        """One value of a column, read from the store."""
        with self._lock:
            at = row
            for store in self.metadata.stores:
                if at < len(store):
                    number, inside = store.locate(at)
                    return store.shard(number).image_column(name, inside, inside + 1)[0]
                at -= len(store)
        raise IndexError(f"row {row} of {len(self)}")

    def matching(self, filters: Sequence[str]) -> NDArray[np.bool_]:
        """Which rows meet all the filters and can be found, ``(N,)`` bool.

        Raises:
            StoreError: A filter is on a column or a selection that isn't there.
            ValueError: A text isn't a filter.
        """
        conditions = [Filter.parse(text) for text in filters]
        if not conditions:
            return self.live
        is_changing = any(text.startswith("selection:") for text in filters)
        if is_changing:
            return self._matching(conditions)
        return self._remember(("filter", *filters), lambda: self._matching(conditions))

    def order(self, filters: Sequence[str], sort: str, *, descending: bool) -> NDArray[np.int64]:
        """The rows that meet all the filters, by a column; those without a value come last.

        Raises:
            StoreError: A filter or ``sort`` is on a column that isn't there.
            ValueError: A text isn't a filter.
        """
        rows = np.flatnonzero(self.matching(filters))
        if not sort:
            return rows[::-1] if descending else rows
        values = self.values(sort)
        if isinstance(values, list):
            chosen = np.array([values[row] for row in rows.tolist()], object).astype(str)
            lacks = chosen == ""
        else:
            chosen = values[rows]
            lacks = np.isnan(chosen)
        by_value = np.argsort(chosen, kind="stable")
        by_value = by_value[::-1] if descending else by_value
        missing = lacks[by_value]
        order: NDArray[np.int64] = np.concatenate([by_value[~missing], by_value[missing]])
        return rows[order].astype(np.int64)

    def values(self, name: str) -> NDArray[np.float64] | list[str]:
        """A column of all rows: texts, or numbers with NaN where there is none."""
        values = self.column(name)
        if isinstance(values, list):
            return values
        numbers = values.astype(np.float64)
        if np.issubdtype(values.dtype, np.integer):
            numbers[values == MISSING.get(name, MISSING_INTEGER)] = np.nan
        return numbers

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Lets the caller alone read from the stores meanwhile."""
        with self._lock:
            yield

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """The embeddings of some rows, ``(n, D)``."""
        with self._lock:
            return self.metadata.read(rows)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that can be filtered on, besides ``path``."""
        stores = self.metadata.stores
        measured = [name for name in stores[0].columns if all(name in s.columns for s in stores)]
        hidden = {*COLUMN_SHAPES, "phash", "etag", "mtime"}
        noted = [
            name for name in stores[0].annotations if all(name in s.annotations for s in stores)
        ]
        labels = ["label"] if self.labels[1] else []
        return (*labels, *(n for n in measured if n not in hidden), "aspect", *noted)

    def annotation_kind(self, name: str) -> str | None:
        """What an annotated column holds; None if it isn't annotated."""
        return self.metadata.stores[0].annotations.get(name)

    def _matching(self, conditions: Sequence[Filter]) -> NDArray[np.bool_]:
        with self._lock:
            return self.metadata.matching(conditions) & self.live

    def _column(self, name: str) -> NDArray[Any] | list[str]:
        with self._lock:
            if name == "path" or self.metadata.stores[0].annotations.get(name) == "text":
                return self._pieces(name)
            if name in {"label", "format", "camera"}:
                return self._pieces(name)
            return self._numbers(name)

    def _pieces(self, name: str) -> list[str]:
        return [
            valid_text(text)
            for store in self.metadata.stores
            for piece in column_pieces(store, name)
            for text in piece
        ]

    def _numbers(self, name: str) -> NDArray[Any]:
        pieces = [p for store in self.metadata.stores for p in column_pieces(store, name)]
        return np.concatenate(pieces) if pieces else np.empty(0)

    def _remember(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """What was made under a key, made if it isn't there; only the last ones are kept."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            else:
                self._made[key] = make()
                if len(self._made) > _REMEMBERED:
                    self._made.popitem(last=False)
            found: _Value = self._made[key]
            return found
