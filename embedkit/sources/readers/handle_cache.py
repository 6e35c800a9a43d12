"""An LRU cache of open files or archives, shared by many threads."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = ["HandleCache"]

K = TypeVar("K", bound="Hashable")
H = TypeVar("H")


class _Slot(Generic[H]):
    """One handle: opened under its own lock, so that a slow archive doesn't hold up the others."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.leases = 0
        self.handles: list[H] = []


class HandleCache(Generic[K, H]):
    """Keeps handles open between uses and never closes one that a thread is using.

    Args:
        open_handle: Opens the handle of a key.
        close_handle: Closes a handle.
        size: So many stay open while nobody uses them.
    """

    def __init__(
        self, open_handle: Callable[[K], H], close_handle: Callable[[H], None], size: int
    ) -> None:
        self._open = open_handle
        self._close = close_handle
        self._size = size
        self._lock = Lock()
        self._slots: OrderedDict[K, _Slot[H]] = OrderedDict()

    @contextmanager
    def lease(self, key: K) -> Iterator[H]:
        """Lend the handle of ``key``, which stays open until the block ends.

        Raises:
            Exception: Whatever opening it raises; the next lease tries again.
        """
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            slot.leases += 1
        try:
            with slot.lock:
                if not slot.handles:
                    slot.handles.append(self._open(key))
            yield slot.handles[0]
        finally:
            with self._lock:
                slot.leases -= 1
            self._trim(self._size)

    def _trim(self, size: int) -> None:
        """Close the handles that were idle longest, until no more than ``size`` are left."""
        with self._lock:
            surplus = len(self._slots) - size
            if surplus <= 0:
                return
            idle = [key for key, slot in self._slots.items() if not slot.leases][:surplus]
            slots = [self._slots.pop(key) for key in idle]
        for slot in slots:
            while slot.handles:
                self._close(slot.handles.pop())

    def close(self) -> None:
        """Close every handle; one that a thread is using is closed when its block ends."""
        self._size = 0
        self._trim(0)
