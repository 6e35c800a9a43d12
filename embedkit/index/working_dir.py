"""The working folder of an index build, ``photos.index.partial/``: its lock and finished steps.

Every file is written atomically, so the next run resumes after a kill at any point.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from embedkit.errors import IndexCorruptError, IndexFileError, StoreError
from embedkit.index.file_io import writing_errors
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.locks import LOCK, lock_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from filelock import FileLock

__all__ = ["PartialIndex"]

_PLAN, _TRAINED = "plan.json", "trained.faiss"
_PART = re.compile(r"part-(\d+)-(\d+)\.faiss")
_OWN = re.compile(
    r"part-\d+-\d+\.faiss|plan\.json|tuned\.json|trained\.faiss|whitening\.f4|order\.i8"
    r"|factors\.f4|factors-straight\.f4|lists-\w+\.bin|held\.faiss|\..*\.tmp"
)


class PartialIndex:
    """The working folder of one index; get it from ``PartialIndex.locked``.

    Attributes:
        output: The folder that the index will be.
        folder: ``<output>.partial``.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(output.name + ".partial")
        self._discarded = False  # if True, the next writer may have recreated the folder

    @classmethod
    @contextmanager
    def locked(cls, output: Path) -> Iterator[PartialIndex]:
        """The working folder of ``output``, created if missing, and locked for one writer.

        Raises:
            IndexFileError: Another process is writing the same index, or the folder can't be made.
        """
        partial = cls(output)
        lock = partial._lock()
        try:
            for path in partial.folder.glob(".*.tmp"):
                path.unlink()
            yield partial
        finally:
            if not (partial._discarded or partial.is_begun):
                partial.discard()
            lock.release()

    @property
    def is_begun(self) -> bool:
        """Whether there is an interrupted build to resume."""
        return (self.folder / _PLAN).exists() and (
            (self.folder / _TRAINED).exists() or bool(self.parts())
        )

    def plan(self) -> dict[str, Any] | None:
        """What an earlier run was to do, if one was begun.

        Raises:
            IndexCorruptError: It can't be read.
        """
        try:
            plan = json.loads((self.folder / _PLAN).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as exc:
            raise IndexCorruptError(
                f"{self.folder / _PLAN}: can't be read: {exc}; remove {self.folder}"
            ) from exc
        return plan if isinstance(plan, dict) else {}

    def is_other(self, plan: dict[str, Any]) -> bool:
        """Whether an earlier run was to do something else than ``plan``."""
        return self.plan() not in (None, json.loads(json.dumps(plan)))

    def begin(self, plan: dict[str, Any]) -> None:
        """Freezes what is to be done."""
        self.keep(_PLAN, json.dumps(plan, indent=1).encode())

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name

    def commit(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Writes a file, durably; after a crash it is the new file or the old one.

        Raises:
            IndexFileError: It can't be written.
        """
        try:
            with atomic_file(self.path(name)) as file:
                write(file)
        except StoreError as exc:
            raise IndexFileError(str(exc)) from exc

    def keep(self, name: str, content: bytes) -> None:
        """Writes a small file, as ``commit`` does.

        Raises:
            IndexFileError: It can't be written.
        """
        self.commit(name, lambda file: file.write(content))

    def parts(self) -> list[tuple[int, int, Path]]:
        """The parts that are done: first position, last position + 1, file; in order."""
        found = ((_PART.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(name[1]), int(name[2]), path) for name, path in found if name)

    @staticmethod
    def part_name(start: int, stop: int) -> str:
        """The name of the part that holds some positions."""
        return f"part-{start:012d}-{stop:012d}.faiss"

    def clear(self) -> None:
        """Removes what a run wrote, and nothing else."""
        (self.folder / _PLAN).unlink(missing_ok=True)  # first, so that no partial run remains
        for path in self.folder.iterdir():
            if _OWN.fullmatch(path.name):
                path.unlink()

    def discard(self) -> None:
        """Removes the folder."""
        self._discarded = True
        self.clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # it holds another file, or the next writer uses it already
            self.folder.rmdir()

    def move(self, name: str, target: Path) -> None:
        """Hands a file over, durably written."""
        with writing_errors(target), self.path(name).open("r+b") as file:
            os.fsync(file.fileno())
            shutil.move(self.path(name), target)

    def _lock(self) -> FileLock:
        if not self.folder.absolute().parent.is_dir():
            raise IndexFileError(f"{self.output}: can't be written: there is no such folder")
        try:
            return lock_folder(self.folder, self.output)
        except StoreError as exc:
            raise IndexFileError(str(exc)) from exc
