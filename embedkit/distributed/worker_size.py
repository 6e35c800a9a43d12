"""How many workers a cluster has room for, and how many cores each gets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cores_per_worker", "worker_size"]

_log = logging.getLogger("embedkit")


def worker_size(ray: Any, workers: int | None, num_gpus: float = 0) -> tuple[int, float]:
    """The number of workers, and the cores of each.

    Args:
        ray: The module, connected.
        workers: How many to start; None takes one per machine, or as many as there are GPUs for.
        num_gpus: GPUs of each worker.

    Returns:
        The number of workers, and the CPU cores to reserve for each.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    gpus = sum(map(_gpus, nodes)) if num_gpus else 0
    if gpus < num_gpus:
        _log.warning("the Ray cluster has %g GPUs now; waiting for %g", gpus, num_gpus)
    usual = int(gpus / num_gpus) if num_gpus else len(nodes)
    count = workers or max(1, usual)
    cores = [node["Resources"].get("CPU", 0.0) for node in nodes]
    if gpus:
        cores = [cpus for cpus, node in zip(cores, nodes, strict=True) if _gpus(node)] or cores
    return count, cores_per_worker(cores, count)


def cores_per_worker(cores: Sequence[float], workers: int) -> float:
    """The most cores per worker with which all workers fit on machines of so many cores.

    It is a whole number or, with more workers than cores, 1 / n, as Ray wants it.
    """
    for count in range(int(max(cores)), 0, -1):
        if sum(int(one // count) for one in cores) >= workers:
            return count
    return 1 / -(-workers // max(1, int(sum(cores))))


def _gpus(node: dict[str, Any]) -> float:
    return float(node["Resources"].get("GPU", 0))
