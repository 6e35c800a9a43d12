"""Adds rows to a trained index in parts, so that an interrupted build resumes.

Inverted lists can be joined, so each part is an index of its own rows, of bounded size; their union
may be larger than memory. Everything else, such as a graph, grows as one, and a part is the index
so far, saved now and then.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from embedkit.index.faiss_io import read_faiss, write_faiss
from embedkit.index.faiss_types import adds_at_once, ivf_of, reserve
from embedkit.index.gpu import adding_to
from embedkit.index.parts import missing_spans, write_part
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from pathlib import Path

    import faiss

    from embedkit.index.store_rows import RowOrder, StoreRows
    from embedkit.index.vector_space import Space
    from embedkit.index.working_dir import PartialIndex

__all__ = ["Encoder", "block_rows", "load_index"]

_BLOCK_BYTES = 32 * 2**20  # of float32 rows at once
_PART_BYTES = 96 * 2**20  # of codes in a part that will be joined
_SAVE_SECONDS = 60.0  # between two savings of an index that grows as one
_SAVE_SHARE = 0.1  # of the time that saving may take


class Encoder:
    """Brings rows into the space and into an index.

    Attributes:
        rows: The stores' rows.
        order: Which row goes to which position.
        space: The index's space.
        block_rows: How many rows are added together.
    """

    def __init__(
        self,
        rows: StoreRows,
        order: RowOrder,
        space: Space,
        factors: Path,
        *,
        first: int = 0,
        factors_from: int = 0,
    ) -> None:
        """Makes an encoder.

        Args:
            rows: The stores' rows.
            order: Which row goes to which position.
            space: The index's space.
            factors: File of the rows' factors, written at the positions' places.
            first: The first position that is added.
            factors_from: The position whose factors the file begins with.
        """
        self.rows, self.order, self.space = rows, order, space
        self._factors, self._first, self._factors_from = factors, first, factors_from
        self._stage: Stage | None = None
        self.block_rows = block_rows(max(rows.dim, space.dim))

    def add(self, index: faiss.Index, start: int, stop: int) -> None:
        """Adds the rows at some positions, and writes down their factors, durably.

        Args:
            index: Trained; without inverted lists it holds the positions before ``start``.
            start: The first position.
            stop: The last position + 1.

        Raises:
            StoreError: A row can't be read, or isn't finite.
            OSError: The factors can't be written.
        """
        step = max(1, stop - start) if adds_at_once(index) else self.block_rows
        with self._factors.open("r+b") as file, adding_to(index) as add:
            file.seek(4 * self.space.num_factors * (start - self._factors_from))
            stage = self._stage_from(start)
            for first in range(start, stop, step):
                last = min(first + step, stop)
                raw = self.rows.read(self.order.span(first, last))
                vectors = self.space.project(raw)
                add(vectors, np.arange(first, last))
                file.write(self.space.factors(raw).astype("<f4").tobytes())
                stage.update(last - self._first)
            file.flush()
            os.fsync(file.fileno())

    def _stage_from(self, start: int) -> Stage:
        """The stage that counts all rows; those before ``start`` were added by an earlier run."""
        if self._stage is None:
            total, done = len(self.order) - self._first, start - self._first
            self._stage = Stage("adding", total, unit="rows", done=done)
        return self._stage

    def add_separate_parts(self, partial: PartialIndex, part: faiss.Index, stop: int) -> None:
        """Adds all positions before ``stop`` that are in no part yet, as further parts.

        Args:
            partial: The working folder.
            part: From ``part_of``.
            stop: The last position + 1.
        """
        ivf = ivf_of(part)
        assert ivf is not None
        blocks = max(1, _PART_BYTES // (ivf.code_size + 8) // self.block_rows)
        for start, last in missing_spans(partial.parts(), stop, blocks * self.block_rows):
            self.add_part(partial, part, start, last)

    def add_part(self, partial: PartialIndex, part: faiss.Index, start: int, stop: int) -> None:
        """Adds the rows at some positions to an empty part, saves it, and empties it."""
        self.add(part, start, stop)
        partial.commit(partial.part_name(start, stop), lambda file: write_part(part, file.write))
        part.reset()

    def add_growing(self, partial: PartialIndex, index: faiss.Index, stop: int) -> faiss.Index:
        """Adds all positions before ``stop`` to one index, resuming from its last save.

        Args:
            partial: The working folder.
            index: Trained and empty.
            stop: The last position + 1.

        Returns:
            The index with all of them, in memory.
        """
        saved_parts = partial.parts()
        done = saved_parts[-1][1] if saved_parts else 0
        if saved_parts:
            index = load_index(saved_parts[-1][2])
        reserve(index, stop)
        saved, pause = time.monotonic(), _SAVE_SECONDS
        for start in range(done, stop, self.block_rows):
            last = min(start + self.block_rows, stop)
            self.add(index, start, last)
            began = time.monotonic()
            if began - saved >= pause:
                _replace_part(partial, index, last)
                saved = time.monotonic()
                pause = max(_SAVE_SECONDS, (saved - began) / _SAVE_SHARE)
        return index


def block_rows(dim: int) -> int:
    """How many rows of ``dim`` values are added together."""
    return max(1, _BLOCK_BYTES // (4 * dim))


def _replace_part(partial: PartialIndex, index: faiss.Index, stop: int) -> None:
    old = partial.parts()
    partial.commit(partial.part_name(0, stop), lambda file: write_faiss(index, file.write))
    for _, last, path in old:
        if last < stop:
            path.unlink()


def load_index(path: Path) -> faiss.Index:
    """Reads an index that a run of this machine wrote.

    Raises:
        IndexCorruptError: faiss can't read it.
    """
    with path.open("rb") as file:
        return read_faiss(file, path, path.stat().st_size)
