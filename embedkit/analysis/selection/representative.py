"""Selects rows that represent all: facility location over a kNN graph, by the lazy greedy.

The value of a selection is the sum, over all images, of the highest cosine to a selected image
among the image's nearest neighbors; an image represents itself with 1. The greedy selection has at
least 63% of the highest value.

Source: Minoux, "Accelerated greedy algorithms for maximizing submodular set functions" (1978).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.mapped_array import MappedArray
from embedkit.utils.progress import Stage, track

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.analysis.selection.quota import Quota
    from embedkit.index.knn_graph import NeighborGraph

__all__ = ["select_representative"]

_BLOCK = 4096  # gains whose highest is kept
_PIECE = 2**20  # edges
_SPAN = 2**24  # edges that are reversed in one pass over the graph
_GAINS = 1024  # that are computed before memory is given back
_SLACK = 1e-9  # sums of the same numbers in another order differ by less


def select_representative(
    graph: NeighborGraph, count: int, quota: Quota, folder: Path, *, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Selects one row after the other, each the one that adds most to the value.

    Args:
        graph: Neighbors of each row.
        count: How many to select.
        quota: Which rows may be selected.
        folder: Where files for the reversed graph are made, ``8 n k`` bytes.
        chosen: Places that were selected before.

    Returns:
        Places in the order of selection, and what each added, ``(m,)`` float32. Of equal gains the
        lower place comes first.
    """
    reverse = _Reverse(graph, folder)
    cover = np.zeros(len(graph.neighbors), np.float32)
    for place in chosen.tolist():
        reverse.cover(place, cover)
    bounds = _Bounds(reverse.upper_bounds(cover))
    bounds.drop(np.flatnonzero(~quota.allowed))
    places: list[int] = []
    gains: list[float] = []
    for _ in track(range(count), "selecting", count, unit="images"):
        found = bounds.highest(lambda place: reverse.gain(place, cover))
        if found is None:
            break
        place, gain = found
        places.append(place)
        gains.append(gain)
        reverse.cover(place, cover)
        bounds.drop(quota.take(place))
    return np.array(places, np.int64), np.array(gains, np.float32)


class _Reverse:
    """For each row, the rows that have it among their neighbors, with their cosines."""

    def __init__(self, graph: NeighborGraph, folder: Path) -> None:
        count, k = graph.neighbors.shape
        degree = np.zeros(count + 1, np.int64)
        step = max(_PIECE // max(k, 1), 1)
        for start in range(0, count, step):
            part = graph.neighbors[start : start + step]
            degree[1:] += np.bincount(part[part >= 0], minlength=count)
        self._starts = np.cumsum(degree)
        shape = (int(self._starts[-1]),)
        self._files = (
            MappedArray(folder / "owners", np.int32, shape),
            MappedArray(folder / "reversed", np.float32, shape),
        )
        self._owners, self._cosines = (file.values for file in self._files)
        self._gains = 0
        graph.release()
        # A span of rows at a time: what is written then lies close together in the files.
        spans = np.searchsorted(self._starts, np.arange(0, shape[0], _SPAN), side="right") - 1
        spans = np.unique([*spans.tolist(), 0, count])
        next_place = self._starts[:-1].copy()
        stage = Stage("reversing the graph", len(spans) - 1)
        for low, high in pairwise(spans.tolist()):
            for start in range(0, count, step):
                self._reverse(graph, slice(start, start + step), low, high, next_place)
                graph.release()
            self._release()
            stage.add()

    def _reverse(
        self,
        graph: NeighborGraph,
        some: slice,
        low: int,
        high: int,
        next_place: NDArray[np.int64],
    ) -> None:
        """Reverses the edges from some rows to those from ``low`` to ``high``."""
        part = graph.neighbors[some].reshape(-1)
        known = np.flatnonzero((part >= low) & (part < high))
        known = known[np.argsort(part[known], kind="stable")]
        ends, firsts, many = np.unique(part[known], return_index=True, return_counts=True)
        inside = np.arange(len(known)) - np.repeat(firsts, many)
        target = np.repeat(next_place[ends], many) + inside
        self._owners[target] = some.start + known // graph.neighbors.shape[1]
        self._cosines[target] = np.maximum(graph.cosines[some].reshape(-1)[known], 0)
        next_place[ends] += many

    def _release(self) -> None:
        """Gives back the memory that the files take."""
        for file in self._files:
            file.release()

    def gain(self, place: int, cover: NDArray[np.float32]) -> float:
        """What a row would add to the value."""
        self._gains += 1
        if self._gains % _GAINS == 0:
            self._release()
        some = slice(int(self._starts[place]), int(self._starts[place + 1]))
        more = self._cosines[some] - cover[self._owners[some]]
        own = max(1.0 - float(cover[place]), 0.0)
        return own + float(np.maximum(more, 0).sum(dtype=np.float64))

    def upper_bounds(self, cover: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each row would add, or slightly more, ``(n,)``."""
        count = len(cover)
        sums: NDArray[np.float64] = np.maximum(1.0 - cover, 0.0).astype(np.float64)
        step = max(_PIECE // 16, 1)
        for start in range(0, count, step):
            stop = min(start + step, count)
            first, last = int(self._starts[start]), int(self._starts[stop])
            more = self._cosines[first:last] - cover[self._owners[first:last]]
            degrees = np.diff(self._starts[start : stop + 1])
            places = np.repeat(np.arange(stop - start), degrees)
            sums[start:stop] += np.bincount(places, np.maximum(more, 0), stop - start)
            self._release()
        sums *= 1 + _SLACK
        sums += _SLACK
        return sums

    def cover(self, place: int, cover: NDArray[np.float32]) -> None:
        """Selects a row: raises how well its neighbors and it are represented."""
        some = slice(int(self._starts[place]), int(self._starts[place + 1]))
        owners = self._owners[some]
        cover[owners] = np.maximum(cover[owners], self._cosines[some])
        cover[place] = max(float(cover[place]), 1.0)


class _Bounds:
    """Upper bounds of gains, with the highest of each block."""

    def __init__(self, bounds: NDArray[np.float64]) -> None:
        blocks = -(-len(bounds) // _BLOCK)
        self._bounds = np.full(blocks * _BLOCK, -np.inf)
        self._bounds[: len(bounds)] = bounds
        self._highest = self._bounds.reshape(blocks, _BLOCK).max(axis=1, initial=-np.inf)

    def highest(self, gain: Callable[[int], float]) -> tuple[int, float] | None:
        """The place of the highest gain, and that; None if no place is left."""
        fresh: dict[int, float] = {}
        while len(self._highest):
            block = int(self._highest.argmax())
            if self._highest[block] == -np.inf:
                return None
            start = block * _BLOCK
            place = start + int(self._bounds[start : start + _BLOCK].argmax())
            if place in fresh:
                return place, fresh[place]
            fresh[place] = self._bounds[place] = gain(place)
            self._renew(block)
        return None

    def drop(self, places: NDArray[np.int64]) -> None:
        """Takes places out."""
        self._bounds[places] = -np.inf
        for block in np.unique(places // _BLOCK).tolist():
            self._renew(block)

    def _renew(self, block: int) -> None:
        start = block * _BLOCK
        self._highest[block] = self._bounds[start : start + _BLOCK].max()
