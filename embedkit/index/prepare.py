"""The first steps of an index build: the order of the rows, the space, the trained index.

Each is saved in the working folder when it is done; a worker process reads what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.add_vectors import load_index
from embedkit.index.build_plan import held_out_last
from embedkit.index.faiss_io import write_faiss
from embedkit.index.faiss_types import faiss_reason, ivf_of, make_index
from embedkit.index.store_rows import RowOrder
from embedkit.index.streaming_kmeans import can_move, move_centroids
from embedkit.index.train import (
    K_MEANS_ROUNDS,
    default_train_rows,
    sample_positions,
    sample_rows,
    train_index,
    wanted_train_rows,
    warn_of_few,
)
from embedkit.index.vector_space import Space, Whitening, learn_whitening
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

    from embedkit.index.build_plan import Plan
    from embedkit.index.store_rows import StoreRows
    from embedkit.index.working_dir import PartialIndex

__all__ = ["ORDER", "TRAINED", "WHITENING", "Prepared", "prepare", "training_work"]

ORDER, TRAINED, WHITENING = "order.i8", "trained.faiss", "whitening.f4"
_WHITENING_ROWS = 32768
_WORTH_MOVING = 1.5  # times the sample
_ROUNDS = 2


@dataclass(frozen=True)
class Prepared:
    """What rows are added by.

    Attributes:
        order: Which row goes to which position.
        space: The index's space.
        index: Trained and empty.
    """

    order: RowOrder
    space: Space
    index: faiss.Index


def prepare(partial: PartialIndex, plan: Plan, rows: StoreRows) -> Prepared:
    """Does the first steps, or reads what they made.

    Raises:
        StoreError: A store can't be read, or holds values that aren't finite.
        ValueError: There are too few rows for the index.
        OSError: Something can't be written.
    """
    order = _order(partial, plan)
    sample = _Sample(plan, rows, order)
    space = _space(partial, plan, sample)
    if not partial.path(TRAINED).exists():
        index = make_index(plan.factory, space.dim, plan.spec.metric)
        if not index.is_trained:
            _train(index, plan, sample, space)
        partial.commit(TRAINED, lambda file: write_faiss(index, file.write))
    return Prepared(order, space, load_index(partial.path(TRAINED)))


@dataclass(frozen=True)
class _Sample:
    """Random rows of those that aren't held out."""

    plan: Plan
    rows: StoreRows
    order: RowOrder

    def __len__(self) -> int:
        return self.plan.count - self.plan.held

    def take(self, count: int) -> NDArray[np.floating]:
        return sample_rows(self.rows, self.order, len(self), count, self.plan.spec.seed)


def _order(partial: PartialIndex, plan: Plan) -> RowOrder:
    """Held-out rows come last; compacting leaves its own order in the folder."""
    count, path = plan.count, partial.path(ORDER)
    if plan.held and not path.exists():
        order = held_out_last(count, plan.held, plan.spec.seed)
        partial.keep(ORDER, order.astype("<i8").tobytes())
    if not path.exists():
        return RowOrder(count)
    return RowOrder(count, np.memmap(path, "<i8", "r") if count else np.empty(0, np.int64))


def _space(partial: PartialIndex, plan: Plan, sample: _Sample) -> Space:
    spec, dim = plan.spec, sample.rows.dim
    if spec.whiten is None:
        return Space(spec.metric, dim)
    if not partial.path(WHITENING).exists():
        taken = sample.take(max(_WHITENING_ROWS, 2 * dim))
        partial.keep(WHITENING, learn_whitening(taken, spec.metric, spec.whiten).to_bytes())
    whitening = Whitening.from_bytes(partial.path(WHITENING).read_bytes(), dim)
    return Space(spec.metric, dim, whitening)


def _train(index: faiss.Index, plan: Plan, sample: _Sample, space: Space) -> None:
    count, moved = _training_rows(index, len(sample), sample.rows.dim, plan.spec.train_rows)
    with Stage("training"):
        vectors = space.project(sample.take(count))
        try:
            train_index(index, vectors, plan.spec.seed)
        except RuntimeError as exc:
            raise ValueError(
                f"{plan.factory} can't be trained on {len(vectors)} rows: {faiss_reason(exc)}"
            ) from exc
    if moved:
        chosen = sample_positions(len(sample), moved, plan.spec.seed + 1)
        numbers = np.sort(sample.order.at(chosen))
        move_centroids(index, sample.rows, numbers, space, _ROUNDS)
    warn_of_few(index, moved or count)


def _training_rows(
    index: faiss.Index, available: int, rows_dim: int, requested: int | None
) -> tuple[int, int]:
    """How many rows are held in memory for training, and how many are streamed afterwards.

    The centroids are moved by the latter if memory holds many fewer than a good training needs.
    """
    count = min(requested or default_train_rows(index, rows_dim), available)
    target = min(wanted_train_rows(index), available)
    moves = requested is None and can_move(index) and target >= _WORTH_MOVING * count
    return count, target if moves else 0


def training_work(
    index: faiss.Index, available: int, rows_dim: int, requested: int | None
) -> float:
    """How many multiplications it takes to train the inverted lists of an index.

    Args:
        index: Not yet trained; with inverted lists.
        available: How many rows there are.
        rows_dim: D of the stored rows.
        requested: ``IndexSpec.train_rows``.
    """
    ivf = ivf_of(index)
    assert ivf is not None
    count, moved = _training_rows(index, available, rows_dim, requested)
    return float((K_MEANS_ROUNDS * count + _ROUNDS * moved) * ivf.nlist * ivf.d)
