"""Rates, and the memory of a process with its children."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

_Item = TypeVar("_Item")


def rate(
    function: Callable[[_Item], object],
    items: Sequence[_Item],
    workers: int = 1,
    *,
    seconds: float = 0.0,
) -> float:
    """Items a second, all of them at least once, over and over for at least so many seconds.

    Each thread's first item comes before the clock starts.
    """
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(function, items[: 4 * workers]))
        done, began = 0, time.perf_counter()
        while True:
            done += sum(1 for _ in pool.map(function, items))
            taken = time.perf_counter() - began
            if taken >= seconds:
                return done / taken


def core_rate(function: Callable[[_Item], object], items: Sequence[_Item]) -> float:
    """Items a second of CPU time of this one thread, so that other work doesn't slow the clock.

    Only for what runs in the calling thread and waits for nothing.
    """
    for item in items[:4]:
        function(item)
    began = time.thread_time()
    for item in items:
        function(item)
    return len(items) / (time.thread_time() - began)


def cpu_timed(function: Callable[[], _Item]) -> tuple[_Item, float]:
    """What a function returns, and its CPU seconds in all threads of this process."""
    began = time.process_time()
    out = function()
    return out, time.process_time() - began


def tree_memory(pid: int) -> float:
    """MiB that a process and its descendants hold now, shared pages once; 0 where it can't be told.

    It is the sum of the proportional set sizes that Linux keeps.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # gone meanwhile, or not Linux
        return 0.0
    kib = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return kib / 1024 + sum(tree_memory(int(child)) for child in children)
