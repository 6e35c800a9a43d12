"""What a Ray worker does for an index build: adds some rows to a part, or compares queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.distributed.worker import enter_shared
from embedkit.index.add_vectors import Encoder
from embedkit.index.brute_force import nearest_rows
from embedkit.index.build_plan import Plan
from embedkit.index.openmp import respect_cores
from embedkit.index.parts import part_of
from embedkit.index.prepare import prepare
from embedkit.index.store_rows import StoreRows
from embedkit.index.working_dir import PartialIndex

if TYPE_CHECKING:
    import threading

    from embedkit.index.brute_force import Nearest

__all__ = ["IndexWorker"]


class IndexWorker:
    """The work of one Ray worker, with the stores and the trained index open.

    Args:
        settings: ``folder``, the driver's current folder; ``output``, the index; ``plan``, from
            ``Plan.to_config``; ``nearest``, how many neighbours of a query are found.

    Raises:
        WorkerError: This machine doesn't see the driver's folders.
        IndexFileError: It doesn't see a store.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        output = Path(settings["output"])
        folder = Path(settings["folder"])
        enter_shared(folder, folder, output.parent)
        respect_cores()
        self._plan, self._partial = Plan.from_config(settings["plan"]), PartialIndex(output)
        self._rows = StoreRows.reopen(self._plan.stores, output)
        self._prepared = prepare(self._partial, self._plan, self._rows)
        self._nearest = settings["nearest"]

    def do(self, task: dict[str, Any], _: threading.Event) -> Nearest | None:
        """Adds the rows at some positions, or finds the nearest of them for each held-out query."""
        start, last = task["start"], task["stop"]
        if task["add"]:
            self._add(start, last)
            return None
        made, plan = self._prepared, self._plan
        queries = self._rows.read(made.order.span(plan.count - plan.held, plan.count))
        return nearest_rows(
            made.space.project(queries), self._rows, made.order, made.space, self._nearest,
            start=start, stop=last,
        )  # fmt: skip

    def _add(self, start: int, stop: int) -> None:
        factors = self._partial.part_name(start, stop, "f4")
        self._partial.keep(factors, b"")
        encoder = Encoder(
            self._rows, self._prepared.order, self._prepared.space, self._partial.path(factors),
            first=start, factors_from=start,
        )  # fmt: skip
        part = part_of(self._prepared.index)
        assert part is not None
        encoder.add_part(self._partial, part, start, stop)
