"""Sets the number of threads that faiss uses."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import faiss

from embedkit.utils.threads import threads_for, usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["few_threads", "respect_cores"]


def respect_cores() -> None:
    """Keeps faiss from starting more threads than there are usable cores.

    A lower setting, such as by ``OMP_NUM_THREADS``, is kept.
    """
    faiss.omp_set_num_threads(min(faiss.omp_get_max_threads(), usable_cores()))


@contextmanager
def few_threads(work: float) -> Iterator[None]:
    """Lets faiss use one thread for little work, while the block runs.

    k-means of a few thousand rows is thousands of parallel regions of some microseconds. At the end
    of each OpenMP's threads spin until the last has come; where another process has its core, that
    is a time slice, and training takes ten times as long as on one thread.

    Args:
        work: Multiplications in the block.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(before, threads_for(work)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
