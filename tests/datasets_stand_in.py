"""A stand-in for ``datasets.Dataset``: the package itself isn't needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

__all__ = ["StandIn"]


@dataclass
class StandIn:
    """The part of ``datasets.Dataset`` that is used."""

    table: pa.Table
    name: str | None = "pets"
    split: str | None = "train"
    arrow: bool = False
    features: Any = field(init=False)
    info: Any = field(init=False)
    num_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.features = SimpleNamespace(arrow_schema=self.table.schema)
        self.info = SimpleNamespace(dataset_name=self.name)
        self.num_rows = self.table.num_rows

    def select_columns(self, column_names: list[str]) -> StandIn:
        return StandIn(self.table.select(column_names), self.name, self.split)

    def with_format(self, kind: str) -> StandIn:
        assert kind == "arrow"
        return StandIn(self.table, self.name, self.split, arrow=True)

    def iter(self, batch_size: int) -> Iterator[pa.Table]:
        assert self.arrow
        for start in range(0, self.num_rows, batch_size):
            yield self.table[start : start + batch_size]

    def __getitem__(self, row: int) -> pa.Table:
        assert self.arrow
        return self.table[row : row + 1]
