"""A Ray cluster of two nodes that are processes of this machine, and its workers' processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ROOT", "marks", "started", "two_nodes", "worker_processes"]

ROOT = Path(__file__).parents[1]


def marks(seconds: int = 900, speed: str = "slow") -> list[pytest.MarkDecorator]:
    """The ``pytestmark`` of tests on Ray, which leaves sockets and files open when it ends."""
    return [
        getattr(pytest.mark, speed),
        pytest.mark.timeout(seconds),
        pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
        pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    ]


@contextlib.contextmanager
def two_nodes(*python_path: Path) -> Iterator[str]:
    """The address of a cluster of two nodes of one core; its workers import from these folders."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (*python_path, ROOT))))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_agent_register_timeout_ms", "30000")
        both = started(Cluster)
        yield both.address
        both.shutdown()


def started(cluster_of):
    """Two nodes; Ray gives up after half a minute on a busy machine."""
    for attempt in range(3):
        both = cluster_of()
        try:
            both.add_node(num_cpus=1)
            both.add_node(num_cpus=1)
        except Exception:  # Ray has no class of its own for it
            both.shutdown()
            if attempt == 2:
                raise
        else:
            break
    return both


def worker_processes(*names: bytes) -> list[int]:
    """The processes of this process's cluster whose task's name begins so; ``Worker`` has none."""
    found, titles = [], tuple(b"ray::" + name for name in names)
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                folder.name.isdigit()
                and (folder / "cmdline").read_bytes().startswith(titles)
                and os.getpid() in _ancestors(folder.name)
            ):
                found.append(int(folder.name))
    return found


def _ancestors(process: str) -> list[int]:
    """The parent of a process, its parent, and so on."""
    found = []
    while process != "0":
        status = (Path("/proc") / process / "stat").read_text()
        process = status.rpartition(")")[2].split()[1]  # the name before may hold anything
        found.append(int(process))
    return found
