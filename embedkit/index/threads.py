"""How many threads faiss takes."""

from __future__ import annotations

import os

import faiss

__all__ = ["respect_cores", "usable_cores"]


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def respect_cores() -> None:
    """Keeps faiss from starting more threads than there are usable cores.

    Where fewer are asked for, as by ``OMP_NUM_THREADS``, that stays.
    """
    faiss.omp_set_num_threads(min(faiss.omp_get_max_threads(), usable_cores()))
