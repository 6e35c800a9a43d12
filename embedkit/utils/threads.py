"""The one policy for threads: ours times those of the libraries never exceed the usable cores.

BLAS, OpenMP (PyTorch, faiss), OpenCV and OpenVINO each start a thread per core of their own. Within
ours that is cores squared; and at the end of each parallel region their threads spin until the last
one has come, so that on a busy machine every region lasts a time slice. So code that computes in
threads of its own leaves the libraries the cores that remain, mostly one, and small computations
run on one thread.
"""

from __future__ import annotations

import math
import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["library_threads", "threads_for", "usable_cores", "use_one_thread"]

LITTLE = 5e9
"""Multiplications that one core does in a second or two; for less, threads only wait."""

_CGROUP, _MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """CPU cores that this process may use: its affinity, and its control group's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def threads_for(multiplications: float, little: float = LITTLE) -> int:
    """Threads that are worthwhile for so much work: one for little, else one per usable core."""
    return 1 if multiplications <= little else usable_cores()


@contextmanager
def library_threads(limit: int) -> Iterator[None]:
    """Lets BLAS, OpenMP, PyTorch and OpenCV use at most ``limit`` threads while the block runs.

    A lower setting, such as by ``OMP_NUM_THREADS``, is kept. OpenMP's setting is the calling
    thread's own; ``use_one_thread`` sets it in a thread of a pool.

    Args:
        limit: Threads per call of a library, at least 1.
    """
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    limits = {one["prefix"]: min(limit, one["num_threads"]) for one in controller.info()}
    with ExitStack() as stack:
        stack.enter_context(controller.limit(limits=limits))
        for name, get, put in (
            ("torch", "get_num_threads", "set_num_threads"),
            ("cv2", "getNumThreads", "setNumThreads"),
        ):
            if (module := sys.modules.get(name)) is not None:
                _limit(stack, getattr(module, get), getattr(module, put), limit)
        yield


def use_one_thread() -> None:
    """Makes OpenMP compute in the calling thread alone, for as long as that lives."""
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().select(user_api="openmp").limit(limits=1)


def _limit(
    stack: ExitStack, get: Callable[[], int], put: Callable[[int], object], limit: int
) -> None:
    before = get()
    if before > limit:
        stack.callback(put, before)
        put(limit)


def _quota() -> float | None:
    """Cores that the control groups of this process allow; None without a limit."""
    found = [_read_quota(folder) for folder in _control_groups()]
    return min((quota for quota in found if quota is not None), default=None)


def _control_groups() -> Iterator[Path]:
    """The folders of the process's control groups, its own and those above it."""
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _CGROUP / controllers if controllers else _CGROUP
        inner = top / path.lstrip("/")
        yield inner
        yield from (one for one in inner.parents if one == top or top in one.parents)


def _read_quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such limit, or "max"
        return None
