"""A resumable working folder, ``OUTPUT.partial/``: its lock, its frozen settings, its files.

Every file is written atomically, so the next run resumes after a kill at any point. The frozen
settings are written when a run begins and removed first when it is discarded: a folder without
them holds nothing to resume.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from filelock import FileLock, Timeout

from embedkit.errors import EmbedkitError, StoreCorruptError, StoreError, StoreLockedError
from embedkit.utils.atomic_write import commit_bytes
from embedkit.utils.urls import refuse_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LOCK", "Lock", "WorkingDir", "remove", "take_lock"]

Lock = FileLock

LOCK = "lock"
_TEMPORARY = re.compile(r"\..*\.tmp")


class WorkingDir:
    """The working folder of one output; get it from ``locked``.

    Attributes:
        output: What is being written.
        folder: ``<output>.partial``.
        frozen_name: The file of the frozen settings.
        own_names: Names of the other files that a run writes; no other file is ever removed.
        error: What is raised where the folder or the output can't be written.
    """

    frozen_name: ClassVar[str] = "run.json"
    own_names: ClassVar[re.Pattern[str]]
    error: ClassVar[type[EmbedkitError]] = StoreError

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".partial")

    @classmethod
    @contextmanager
    def locked(cls, output: Path, *settings: Any) -> Iterator[Self]:
        """The working folder of ``output``, created if missing, and locked for one writer.

        Args:
            output: What is to be written.
            *settings: The other arguments of the class.

        Raises:
            StoreLockedError: Another process is writing the same output.
            StoreError: The folder can't be made, or a system error concerns it or the output.
        """
        refuse_url(output, cls.error)
        work = cls(output, *settings)
        lock = work._lock()
        mine = work._lock_file()
        try:
            with work._own_errors():
                work.tidy()
                yield work
        finally:
            with work._own_errors():
                try:
                    # If the folder was removed, the next writer may have recreated it by now.
                    if work._lock_file() == mine and not work.is_begun:
                        work.discard()
                finally:
                    lock.release()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Maps the system's errors that concern the folder or the output."""
        try:
            yield
        except OSError as exc:
            paths = [Path(str(one)) for one in (exc.filename, exc.filename2) if one is not None]
            if not any({self.folder, self.output} & {path, *path.parents} for path in paths):
                raise
            raise self.error(f"{paths[0]}: can't be written: {exc.strerror or exc}") from exc

    @property
    def is_begun(self) -> bool:
        """Whether there is an interrupted run to resume."""
        return (self.folder / self.frozen_name).exists()

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name

    def keep(self, name: str, content: bytes | memoryview) -> None:
        """Writes a file, durably; after a crash it is the new file or the old one.

        Raises:
            StoreError: It can't be written.
        """
        commit_bytes(self.path(name), content)

    def freeze(self, settings: Mapping[str, Any]) -> None:
        """Writes the settings of a run, which a resumed run must share."""
        self.keep(self.frozen_name, json.dumps(settings, indent=1).encode())

    def frozen(self) -> dict[str, Any] | None:
        """The settings of the interrupted run; None if there is none.

        Raises:
            StoreCorruptError: They can't be read.
        """
        try:
            return dict(json.loads(self.path(self.frozen_name).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as exc:
            raise self._unreadable(exc) from exc

    def tidy(self) -> None:
        """Removes temporary files that a killed run left."""
        for path in self.folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink()

    def clear(self, *kept: str) -> None:
        """Removes the files of a run, and nothing else; keeps the lock and what is named."""
        self.path(self.frozen_name).unlink(missing_ok=True)  # first: no partial run remains
        for path in self.folder.iterdir():
            is_own = self.own_names.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
            if is_own and path.name not in kept:
                remove(path)

    def discard(self) -> None:
        """Removes the folder."""
        self.clear()
        self.path(LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # the next writer uses it already, or it holds another file
            self.folder.rmdir()

    def _unreadable(self, exc: Exception) -> StoreCorruptError:
        return StoreCorruptError(
            f"{self.path(self.frozen_name)}: can't be read ({exc}); start again with overwrite=True"
        )

    def _lock(self, *, wait: bool = False) -> FileLock:
        """The held lock; it is released when the process ends, however it ends.

        Args:
            wait: Whether to wait for another process that holds it.
        """
        lock = FileLock(self.path(LOCK), timeout=-1 if wait else 0)
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise StoreError(f"{self.folder}: can't be made: {exc.strerror}") from exc
            try:
                lock.acquire()
            except Timeout as exc:
                raise StoreLockedError(
                    f"{self.output}: another process is writing it (it holds {lock.lock_file})"
                ) from exc
            except FileNotFoundError:
                continue  # the last writer removed the folder between the two steps
            except OSError as exc:
                raise StoreError(f"{lock.lock_file}: can't be made: {exc.strerror}") from exc
            if self._lock_file() is None:  # the last writer removed it while this one waited
                lock.release()
                continue
            return lock

    def _lock_file(self) -> tuple[int, int] | None:
        """Which file the lock is; None if there is none."""
        try:
            found = self.path(LOCK).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def take_lock(path: Path) -> Lock | None:
    """The lock, held; None if another process holds it.

    Raises:
        FileNotFoundError: Its folder is gone.
    """
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
