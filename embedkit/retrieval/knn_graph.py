"""Writes the k-NN graph of stores, the neighbours of every row, to one Parquet file; resumable.

During a run, ``knn.parquet.partial/`` holds ``run.json``, the settings of the search, and one
Parquet file per finished range of queries. The output file is written atomically at the end.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.errors import StoreCorruptError, StoreMismatchError
from embedkit.retrieval.results_schema import COLUMNS, neighbor_columns
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.progress import Stage
from embedkit.utils.table_writers import ParquetTable
from embedkit.utils.working_dir import WorkingDir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from embedkit.retrieval.queries import QueryBatch, StoreQueries
    from embedkit.retrieval.search import Search

__all__ = ["Graph", "GraphCounts"]

_KEY = "embedkit"


@dataclass(frozen=True, slots=True)
class GraphCounts:
    """Counts of a run.

    Attributes:
        neighbors: Lines of the table.
        resumed: Queries that an earlier run had done.
    """

    neighbors: int
    resumed: int


class Graph(WorkingDir):
    """A k-NN graph that is being written; get it from ``Graph.locked``.

    Attributes:
        config: The settings of the search, as JSON values; a resumed run must have the same ones.
    """

    own_names = re.compile(r"part-\d+\.parquet")

    def __init__(self, output: Path, config: Mapping[str, Any]) -> None:
        super().__init__(output)
        self.config = dict(config)

    def finished_before(self) -> int | None:
        """The number of rows of ``output`` if a run with the same settings wrote it; else None."""
        try:
            metadata = pq.read_metadata(self.output)
        except (OSError, pa.ArrowException):
            return None
        stored = (metadata.metadata or {}).get(_KEY.encode())
        return int(metadata.num_rows) if stored == self._text().encode() else None

    def begin_or_resume(self) -> None:
        """Writes the settings, or compares them with those of an interrupted run.

        Raises:
            StoreMismatchError: The interrupted run had other settings.
            StoreCorruptError: Its settings can't be read.
        """
        before = self.frozen()
        if before is None:
            self.clear()
            self.freeze(self.config)
            return
        keys = sorted({*before, *self.config})
        pairs = {key: (before.get(key), self.config.get(key)) for key in keys}
        differences = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        if differences:
            raise StoreMismatchError(str(self.folder), differences)

    def run(self, search: Search, queries: Sequence[StoreQueries]) -> GraphCounts:
        """Searches with all queries whose part isn't there yet, and makes the file of the parts.

        Args:
            search: The search.
            queries: Its queries.

        Raises:
            StoreError: Something can't be read or written.
        """
        size, total = int(self.config["part_queries"]), sum(one.count or 0 for one in queries)
        parts = range(-(-total // size))
        missing = [part for part in parts if not self._part(part).exists()]
        resumed = total - sum(min(size, total - part * size) for part in missing)
        stage = Stage("searching", total, unit="queries", done=resumed)
        for part in missing:
            start, stop = part * size, min((part + 1) * size, total)
            with atomic_file(self._part(part)) as file, ParquetTable(file, COLUMNS) as table:
                for batch in _rows(queries, start, stop):
                    table.write(neighbor_columns(search.result(batch)))
                    stage.add(len(batch.ids))
        rows = self._join([self._part(part) for part in parts])
        self.discard()
        return GraphCounts(rows, resumed)

    def _join(self, parts: Sequence[Path]) -> int:
        metadata = {_KEY: self._text()}
        with (
            atomic_file(self.output, self.folder) as file,
            ParquetTable(file, COLUMNS, metadata) as table,
        ):
            for path in parts:
                _join_part(path, table)
        return table.rows

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _text(self) -> str:
        return json.dumps(self.config, sort_keys=True)


def _rows(queries: Sequence[StoreQueries], start: int, stop: int) -> Iterator[QueryBatch]:
    """The rows from ``start`` to ``stop``, numbered through all stores."""
    first = 0
    for one in queries:
        count = one.count or 0
        if start < first + count and stop > first:
            yield from one.rows(max(start - first, 0), min(stop - first, count))
        first += count


def _join_part(path: Path, table: ParquetTable) -> None:
    """Adds the rows of a part to a table, their checksums looked at."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                for batch in file.read_row_group(number).to_batches():
                    table.add(batch)
    except (OSError, pa.ArrowException) as exc:
        reason = " ".join(str(exc).split())
        raise StoreCorruptError(
            f"{path}: damaged ({reason}); delete this file and run again"
        ) from exc
