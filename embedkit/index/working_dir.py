"""The working folder of an index build, ``photos.index.partial/``: its plan and finished steps."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from embedkit.errors import IndexCorruptError, IndexFileError, StoreCorruptError, StoreError
from embedkit.index.file_io import writing_errors
from embedkit.index.generation import ContentWriter
from embedkit.index.manifest import MANIFEST, IndexManifest
from embedkit.store.detect import kind_of_path
from embedkit.utils.atomic_write import atomic_file, atomic_folder, remove_left_behind
from embedkit.utils.working_dir import WorkingDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from filelock import FileLock

__all__ = ["PartialIndex"]

_TRAINED = "trained.faiss"
_PART = re.compile(r"part-(\d+)-(\d+)\.(faiss|f4)")


class PartialIndex(WorkingDir):
    """The working folder of one index; get it from ``PartialIndex.locked``."""

    frozen_name = "plan.json"
    error = IndexFileError
    own_names = re.compile(
        r"part-\d+-\d+\.(faiss|f4)|tuned\.json|trained\.faiss|whitening\.f4|order\.i8"
        r"|factors\.f4|factors-straight\.f4|lists-\w+\.bin|held\.faiss|new|mark"
    )

    @property
    def address(self) -> str:
        """How messages name the index."""
        return str(self.output)

    def refuse_existing(self, *, overwrite: bool) -> None:
        """Rejects an output that is there; ``overwrite`` allows an index or an empty folder.

        What a killed run left beside it is removed.

        Raises:
            IndexFileError: It is taken.
            StoreError: The storage of a URL can't be reached or refuses.
        """
        kind = kind_of_path(self.address)
        if kind == "nothing":
            return
        remove_left_behind(self.output)
        if not overwrite:
            raise IndexFileError(f"{self.address}: exists already; overwrite=True replaces it")
        is_empty = self.output.is_dir() and not any(self.output.iterdir())
        if kind != "index" and not is_empty:
            raise IndexFileError(
                f"{self.address}: is no index, so it is not replaced; choose another name"
            )

    def manifest(self) -> IndexManifest | None:
        """That of the index that is there; None if there is none.

        Raises:
            IndexFileError: It is of another format.
            IndexCorruptError: It is damaged.
        """
        path = self.output / MANIFEST
        return IndexManifest.read(path) if path.is_file() else None

    @contextmanager
    def new_index(self, *, overwrite: bool) -> Iterator[ContentWriter]:
        """A folder to write the index to, which gets its name when the block ends.

        Args:
            overwrite: Whether it replaces an index that is there.

        Raises:
            IndexFileError: It can't be written.
        """
        del overwrite  # nothing has come there, for the folder is locked
        with writing_errors(self.output), atomic_folder(self.output) as folder:
            yield ContentWriter(folder)

    @property
    def is_begun(self) -> bool:
        """Whether there is an interrupted build with finished steps to resume."""
        return super().is_begun and (self.path(_TRAINED).exists() or bool(self.parts()))

    def plan(self) -> dict[str, Any] | None:
        """What an earlier run was to do, if one was begun.

        Raises:
            IndexCorruptError: It can't be read.
        """
        try:
            return self.frozen()
        except StoreCorruptError as exc:
            raise IndexCorruptError(str(exc)) from exc

    def is_other(self, plan: dict[str, Any]) -> bool:
        """Whether an earlier run was to do something else than ``plan``."""
        return self.plan() not in (None, json.loads(json.dumps(plan)))

    def has_made(self, manifest: IndexManifest, plan: dict[str, Any] | None = None) -> bool:
        """Whether an index is what a run was to make, so that only tidying is left.

        Args:
            manifest: The index's.
            plan: What was to be made; None is the plan of the begun run.
        """
        plan = self.plan() if plan is None else json.loads(json.dumps(plan))
        if not plan:
            return False
        if plan.get("generation"):
            return bool(plan["generation"] <= manifest.generation)
        made = {
            "spec": manifest.spec.to_config(),
            "factory": manifest.factory,
            "stores": [asdict(entry) for entry in manifest.stores],
        }
        return all(plan.get(name) == value for name, value in made.items())

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

    def keep(self, name: str, content: bytes | memoryview) -> None:
        """Writes a small file, as ``commit`` does.

        Raises:
            IndexFileError: It can't be written.
        """
        self.commit(name, lambda file: file.write(content))

    def parts(self, suffix: str = "faiss") -> list[tuple[int, int, Path]]:
        """The parts that are done: first position, last position + 1, file; in order.

        Args:
            suffix: ``f4`` gives the files of factors that processes of their own have written.
        """
        found = ((_PART.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(
            (int(name[1]), int(name[2]), path) for name, path in found if name and name[3] == suffix
        )

    @staticmethod
    def part_name(start: int, stop: int, suffix: str = "faiss") -> str:
        """The name of the part that holds some positions."""
        return f"part-{start:012d}-{stop:012d}.{suffix}"

    def join_factors(self, name: str, width: int) -> None:
        """Moves the factors that processes of their own have written to one file.

        Args:
            name: The file.
            width: Values of a row.
        """
        with self.path(name).open("r+b") as file:
            written = self.parts("f4")
            for start, _, path in written:
                file.seek(4 * width * start)
                with path.open("rb") as part:
                    shutil.copyfileobj(part, file)
            file.flush()
            os.fsync(file.fileno())
        for _, _, path in written:
            path.unlink()

    def move(self, name: str, target: Path) -> None:
        """Hands a file over, durably written."""
        with writing_errors(target), self.path(name).open("r+b") as file:
            os.fsync(file.fileno())
            shutil.move(self.path(name), target)

    def _lock(self, *, wait: bool = False) -> FileLock:
        if not self.folder.absolute().parent.is_dir():
            raise IndexFileError(f"{self.output}: can't be written: there is no such folder")
        try:
            return super()._lock(wait=wait)
        except StoreError as exc:
            raise IndexFileError(str(exc)) from exc
