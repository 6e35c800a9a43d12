"""Connects to a Ray cluster, or starts Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from embedkit.errors import MissingExtraError, WorkerError
from embedkit.utils.working_directory import working_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RayCluster", "connected"]

# Ray reads them when it is imported. Its reports are switched off with all other telemetry.
_VARIABLES = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # unset, Ray warns that the default will change
    "RAY_agent_register_timeout_ms": "30000",  # as long as Ray waits for all of a machine
}
_SECONDS = 20.0  # that a cluster may take to answer
_STARTS = 3  # of Ray on this machine, which gives up after half a minute if the machine is busy


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A Ray cluster, and how much of it to use.

    Attributes:
        address: As ``connected``'s.
        workers: How many workers, at most; None starts one per machine.

    Raises:
        ValueError: ``workers`` is less than 1.
    """

    address: str
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")

    @classmethod
    def of(cls, ray: str | None, workers: int | None) -> Self | None:
        """The cluster that two keywords name; None if no Ray is used.

        Raises:
            ValueError: There are workers, but no cluster.
        """
        if ray is None and workers is not None:
            raise ValueError('workers goes with ray only, such as ray="auto"')
        return None if ray is None else cls(ray, workers)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected; a connection or Ray that was started here ends with the block.

    Args:
        address: ``local`` starts Ray on this machine, ``auto`` finds the cluster that this machine
            belongs to; else the cluster's address, ``host:6379``.

    Raises:
        MissingExtraError: Ray isn't installed.
        WorkerError: There is no cluster at the address.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as exc:
        raise MissingExtraError("ray", "ray", f"ray={address!r}") from exc

    if ray.is_initialized():  # the caller's own connection
        yield ray
        return
    with _own_signals(), _nothing_to_import():
        _connect(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    _knock(address)
    is_local = address == "local"
    for attempt in range(_STARTS if is_local else 1):
        try:
            ray.init(
                address,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
                **({"include_dashboard": False} if is_local else {}),
            )
        except Exception as exc:  # Ray has no class of its own for it
            ray.shutdown()
            if is_local and attempt + 1 < _STARTS:
                continue
            reason = " ".join(str(exc).split())
            way_out = "" if is_local else '; ray="local" starts Ray on this machine'
            raise WorkerError(f"no Ray cluster at {address!r} ({reason}){way_out}") from exc
        return


def _knock(address: str) -> None:
    """Refuses ``host:port`` where nothing listens, for which Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _SECONDS).close()
    except (OSError, OverflowError) as exc:
        raise WorkerError(
            f'no Ray cluster at {address!r} ({exc}); ray="local" starts Ray on this machine'
        ) from exc


@contextmanager
def _nothing_to_import() -> Iterator[None]:
    """Leaves the current folder, unless this process imports from it too.

    Ray lets workers import from the folder where it connects, before all others: who starts
    embedkit in a folder of downloaded files would run a ``numpy.py`` among them. The folder is that
    of all threads, so that only the main one leaves it.
    """
    here = working_directory()
    is_main = threading.current_thread() is threading.main_thread()
    if here is None or not is_main or here in {Path(one or ".").absolute() for one in sys.path}:
        yield
        return
    os.chdir(sys.prefix)
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps SIGTERM's handler, which Ray replaces when it connects."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
