"""What the parts of an index build on Ray take: a model of memory and time.

The times per value were measured on one core of machine A of docs/performance.md, by
``benchmarks/index_parts.py``; the time to fetch the rows from a disk or a network isn't in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.index.add_vectors import block_rows
from embedkit.index.auto_select import BUILD_BYTES, choose
from embedkit.index.build_plan import held_out
from embedkit.index.faiss_types import ivf_of, make_index
from embedkit.index.parts import part_of
from embedkit.index.prepare import training_work
from embedkit.index.ray_parts import rows_per_part

if TYPE_CHECKING:
    from embedkit.index.spec import IndexSpec

__all__ = ["StepCost", "build_cost"]

_MULTIPLY = 2.6e-11  # seconds per multiplication of rows with centroids or queries
_READ, _ENCODE = 8e-9, 1.2e-8  # seconds per value
_JOIN_LIST, _JOIN_ROW = 6e-6, 3e-7  # seconds per list of a part; per row
_ID = 1.2e-6  # seconds per id
_DRIVER_BYTES = 24  # per row: the order, the hash of the content
_GROWTH = 1.5  # times the codes: lists grow in steps


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step of a build takes.

    Attributes:
        step: ``train``, ``add``, ``compare``, ``join`` or ``write ids``.
        tasks: How many tasks the workers do; 0 is a step of the driver.
        rows: Rows per task, or all rows.
        nbytes: Memory of a worker, or of the driver.
        seconds: Of a task, or of the step, on one core.
    """

    step: str
    tasks: int
    rows: int
    nbytes: int
    seconds: float


def build_cost(spec: IndexSpec, count: int, rows_dim: int) -> tuple[StepCost, ...]:
    """What each step of a build on Ray takes.

    Args:
        spec: The requested settings.
        count: N rows.
        rows_dim: D of the stored rows.

    Returns:
        The steps in order; none if such an index isn't built in parts.

    Raises:
        ValueError: The settings can't be met.
    """
    choice = choose(spec, count, rows_dim)
    index = make_index(choice.factory, spec.whiten or rows_dim, spec.metric)
    part, ivf = part_of(index), ivf_of(index)
    if part is None or ivf is None:
        return ()
    added = ivf_of(part)
    assert added is not None
    dim, held = index.d, held_out(index, count, rows_dim, rerank=choice.rerank)
    rows = min(rows_per_part(count, block_rows(max(rows_dim, dim))), count)
    tasks = -(-count // rows)
    centroids = 4 * ivf.nlist * dim
    codes = rows * (added.code_size + 8)
    driver = choice.build_bytes + _DRIVER_BYTES * count
    value = rows * dim
    work = training_work(index, count, rows_dim, spec.train_rows)
    return (
        StepCost("train", 0, count, driver, _MULTIPLY * work),
        StepCost(
            "add", tasks, rows, BUILD_BYTES + centroids + int(_GROWTH * codes),
            value * (_READ + _ENCODE + _MULTIPLY * ivf.nlist),
        ),
        StepCost(
            "compare", tasks if held else 0, rows, BUILD_BYTES + centroids,
            value * (_READ + _MULTIPLY * held) if held else 0.0,
        ),
        StepCost("join", 0, count, driver, _JOIN_LIST * ivf.nlist * tasks + _JOIN_ROW * count),
        StepCost("write ids", 0, count, driver, _ID * count),
    )  # fmt: skip
