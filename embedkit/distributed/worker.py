"""What runs in the process of a Ray worker: opens its work once, then does task after task."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from embedkit.errors import EmbedkitError, WorkerError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Worker", "enter_shared", "reserved_cores"]


class Worker:
    """Does the tasks of one kind of work.

    Args:
        work: ``package.module:Class``. The class is called with ``settings`` when the first task
            comes; its method ``do(task, stop)`` does one task.
        settings: Plain values.
    """

    def __init__(self, work: str, settings: dict[str, Any]) -> None:
        self._work, self._settings = work, settings
        self._opened: Any = None
        self._stop = threading.Event()

    def ready(self) -> None:
        """Returns once the process runs: a cluster may have no room for it yet."""

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """Does a task; returns its ``result``, or the ``error`` of embedkit that ended it."""
        try:
            if self._opened is None:
                module, name = self._work.split(":")
                self._opened = getattr(importlib.import_module(module), name)(self._settings)
            return {"result": self._opened.do(task, self._stop)}
        except (EmbedkitError, ValueError, OSError) as exc:
            return {"error": " ".join(str(exc).split())}

    def stop(self) -> None:
        """Has the running task end in good order; called while it runs."""
        self._stop.set()


def enter_shared(folder: Path, *needed: Path) -> None:
    """Prepares a worker's process: relative paths start where the driver's do, and logs are quiet.

    Args:
        folder: The driver's current folder; where it isn't there, no path may be relative.
        *needed: Folders that this machine must see.

    Raises:
        WorkerError: It doesn't see one of them.
    """
    logging.getLogger("embedkit").setLevel(logging.ERROR)  # the driver logs what concerns the user
    if unseen := [str(one) for one in needed if not one.is_dir()]:
        raise WorkerError(
            f"{socket.gethostname()}: doesn't see {' or '.join(unseen)}; all machines of the "
            "cluster must share these folders"
        )
    if folder.is_dir():
        os.chdir(folder)


def reserved_cores() -> int:
    """CPU cores that Ray has reserved for the worker of this process, at least 1."""
    import ray

    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
