"""Named selections of a store's images: files of ids in a folder beside the store."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.store.object_cache import refuse_copy
from embedkit.utils.atomic_write import commit_bytes
from embedkit.utils.id_lists import read_ids

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Selection", "check_name", "list_selections", "read_selection", "selections_folder"]

_SUFFIX = ".jsonl"
_NAME = re.compile(r"\w(?:[\w .-]{0,62}[\w-])?")
_MOST_BYTES = 200  # of a file's name


@dataclass(frozen=True, slots=True)
class Selection:
    """A named selection of one store.

    Attributes:
        name: Its name.
        path: The file of its ids.
    """

    name: str
    path: Path

    @property
    def created(self) -> float:
        """When it was written, seconds since 1970."""
        return self.path.stat().st_mtime

    def ids(self) -> list[str]:
        """The ids, in order.

        Raises:
            StoreError: The file can't be read.
        """
        return read_ids(self.path)

    def write(self, ids: Iterable[str]) -> None:
        """Writes the ids, in place of those that are there; the change is atomic.

        Raises:
            StoreError: The file can't be written.
        """
        refuse_copy(self.path)
        try:
            self.path.parent.mkdir(exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{self.path.parent}: can't be made: {exc.strerror or exc}") from exc
        lines = "".join(json.dumps({"id": one}) + "\n" for one in dict.fromkeys(ids))
        commit_bytes(self.path, lines.encode("ascii"))


def selections_folder(store: Path) -> Path:
    """Where the selections of a store lie: ``photos.h5.selections`` beside ``photos.h5``."""
    return store.with_name(f"{store.name}.selections")


def check_name(name: str) -> str:
    """Refuses what can't name a selection, as it is the name of a file too.

    Raises:
        ValueError: It is no such name.
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > _MOST_BYTES:
        raise ValueError(
            f"{name[:80]!r} can't name a selection: use 1 to 64 letters, digits, spaces, dots, "
            "dashes and underscores, with a letter or digit first"
        )
    return name


def read_selection(store: Path, name: str) -> Selection:
    """The selection of a store with this name; it may not exist yet.

    Raises:
        ValueError: It is no such name.
    """
    return Selection(check_name(name), selections_folder(store) / f"{name}{_SUFFIX}")


def list_selections(store: Path) -> list[Selection]:
    """The selections of a store, by name."""
    found = sorted(selections_folder(store).glob(f"*{_SUFFIX}"))
    return [Selection(path.stem, path) for path in found if _NAME.fullmatch(path.stem)]
