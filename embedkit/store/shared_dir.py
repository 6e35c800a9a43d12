"""The working folder of a sharded store that several processes write at once, each its part.

A process holds the folder's lock only while it freezes the run and while it looks whether the store
is complete. While it embeds it holds the lock of its part. A process that wants the folder for
itself is refused as long as the lock of any part is held.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from embedkit.errors import StoreLockedError
from embedkit.store.working_dir import PartialStore
from embedkit.utils.working_dir import take_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedkit.sources.part import Part
    from embedkit.utils.working_dir import Lock

__all__ = ["SharedStore"]


class SharedStore(PartialStore):
    """The working folder, for the process of one part; get it from ``joined``."""

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self._common: Lock | None = None
        self._own: Lock | None = None
        self._locked_file: tuple[int, int] | None = None

    @classmethod
    @contextmanager
    def joined(cls, output: Path, part: Part) -> Iterator[Self]:
        """The working folder, which this process has for itself until it calls ``share``.

        Args:
            output: The store.
            part: The part that this process does.

        Raises:
            StoreLockedError: Another process does the same part.
            StoreError: The folder can't be made.
        """
        work = cls(output)
        work._lock_common()
        try:
            if not work.parts_at_work():
                work.tidy()
            work._own = work._take(part)
            yield work
        finally:
            work._release_own()
            if not work.is_begun:
                work._lock_common()
            work._end()

    def share(self) -> None:
        """Lets the other parts work too: the run is frozen."""
        if self._common is not None:
            self._common.release()
            self._common = None

    @contextmanager
    def last(self) -> Iterator[bool]:
        """Ends this part's work; gives whether no other part is at work.

        The folder belongs to this process while the block runs. Of several parts that end at
        about the same time, the last one to come here finds that it is the last.
        """
        self._release_own()
        self._lock_common()
        try:
            yield not self.parts_at_work()
        finally:
            self._end()

    def _lock_common(self) -> None:
        if self._common is None:
            self._common = self._lock(wait=True)
            self._locked_file = self._lock_file()

    def _end(self) -> None:
        """Releases the folder; removes it if no run is begun in it and no other part is at work."""
        if self._common is None:
            return
        is_mine = self._lock_file() == self._locked_file  # else it was renamed to ``output``
        if is_mine and not self.is_begun and not self.parts_at_work():
            self.discard()
        self.share()

    def _take(self, part: Part) -> Lock:
        path = self.path(f"part-{part.number}-of-{part.of}.lock")
        lock = take_lock(path)
        if lock is None:
            raise StoreLockedError(
                f"{self.output}: another process does part {part} (it holds {path})"
            )
        return lock

    def _release_own(self) -> None:
        if self._own is not None:
            self._own.release()
            self._own = None
