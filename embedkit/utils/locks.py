"""Locks the working folder of an output, so that only one process writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from embedkit.errors import StoreError, StoreLockedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LOCK", "lock_folder"]

LOCK = "lock"


def lock_folder(folder: Path, output: Path) -> FileLock:
    """Creates a working folder if missing, and locks it with a lock file in it.

    Args:
        folder: ``<output>.partial``.
        output: What is being written, for the message.

    Returns:
        The held lock; it is released when the process ends, however it ends.

    Raises:
        StoreLockedError: Another process holds it.
        StoreError: The folder can't be made.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{folder}: can't be made: {exc.strerror}") from exc
        try:
            lock.acquire()
        except Timeout as exc:
            raise StoreLockedError(
                f"{output}: another process is writing it (it holds {lock.lock_file})"
            ) from exc
        except FileNotFoundError:
            continue  # the last writer removed the folder between the two steps
        except OSError as exc:
            raise StoreError(f"{lock.lock_file}: can't be made: {exc.strerror}") from exc
        return lock
