"""The journal of a review: one line of JSON per action, on disk before it is answered."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from embedkit.errors import DedupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Journal"]


class Journal:
    """A file that only grows.

    A line that was cut off by a crash was never answered, and is dropped.

    Args:
        path: The file; it is made with the first action.

    Raises:
        DedupError: It can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)
        self._size = 0

    def open(self) -> None:
        """Keeps other processes from writing it too.

        Raises:
            DedupError: Another process reviews the folder, or it can't be written.
        """
        try:
            self._lock.acquire()
        except Timeout as exc:
            raise DedupError(
                f"{self.path.parent}: is being reviewed by another process already"
            ) from exc
        except OSError as exc:
            raise DedupError(
                f"{self.path.parent}: can't be written: {exc.strerror or exc}"
            ) from exc

    def close(self) -> None:
        """Lets other processes write it."""
        self._lock.release()

    def read(self) -> Iterator[dict[str, Any]]:
        """The actions, in order.

        Raises:
            DedupError: The file can't be read, or a whole line isn't an action.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise DedupError(f"{self.path}: can't be read: {exc.strerror or exc}") from exc
        self._size = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: self._size].splitlines(), 1):
            try:
                action = json.loads(line)
                if not isinstance(action, dict):
                    raise ValueError("no object")
            except (ValueError, RecursionError) as exc:
                raise DedupError(
                    f"{self.path}: line {number} is damaged; move the file away to begin the "
                    "review anew"
                ) from exc
            yield action

    def add(self, action: Mapping[str, Any]) -> None:
        """Adds an action, durably.

        Raises:
            DedupError: It can't be written; the journal is as before.
        """
        line = json.dumps(action).encode() + b"\n"
        try:
            with self.path.open("ab") as file:
                file.truncate(self._size)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise DedupError(f"{self.path}: can't be written: {exc.strerror or exc}") from exc
        self._size += len(line)
