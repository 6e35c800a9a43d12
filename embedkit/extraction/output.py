"""The working folder of an extraction's output: a local file or folder, or a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.extraction.config import RunConfig
from embedkit.sources.io.transfer import refuse_unwritable
from embedkit.sources.part import Part
from embedkit.store.object_cache import exists
from embedkit.store.object_store import ObjectFile, ObjectFolder, place_of
from embedkit.store.shared_dir import SharedStore
from embedkit.store.working_dir import PartialStore
from embedkit.utils.urls import local_path, object_url

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["check_url", "isolate_mark", "unlocked", "updates", "working_folder"]


def check_url(output: Path, run: RunConfig) -> None:
    """Refuses what can't be done with an output that is a URL.

    Raises:
        StoreError: The URL isn't that of an object store, or a store there would not be found.
        MissingExtraError: The URL's backend isn't installed.
        ValueError: Ray can't write a single file there.
    """
    url = object_url(output)
    if url is None:
        return
    refuse_unwritable(url)
    if run.sharded or updates(output, run):
        return
    if run.ray is not None:
        raise ValueError("ray writes to a URL with sharded=True only")
    ObjectFile(_place(url, run), url).check_name()


def updates(output: Path, run: RunConfig) -> bool:
    """Whether a run changes a store that is there."""
    return run.retry_failed or (run.update and exists(output))


def working_folder(output: Path, run: RunConfig) -> AbstractContextManager[PartialStore]:
    """The working folder of a run, locked."""
    if (url := object_url(output)) is not None:
        kind = ObjectFolder if run.sharded else ObjectFile
        return kind.locked(_place(url, run), url)
    if run.part is not None and run.sharded:
        return SharedStore.joined(output, run.part)
    return PartialStore.locked(output)


def unlocked(output: Path, run: RunConfig) -> PartialStore:
    """The working folder of a run, to look at."""
    url = object_url(output)
    if url is None:
        return PartialStore(output)
    return (ObjectFolder if run.sharded else ObjectFile)(_place(url, run), url)


def isolate_mark(output: Path, *, part: str | None, sharded: bool, work_dir: Path | None) -> Path:
    """The file by which a run learns that an image has stopped a whole process of it.

    Raises:
        ValueError: ``part`` isn't one.
        StoreError: ``output`` is the URL of no store.
    """
    run = RunConfig(
        part=None if part is None else Part.read(part), sharded=sharded, work_dir=work_dir
    )
    return unlocked(local_path(output), run).isolate_mark


def _place(url: str, run: RunConfig) -> Path:
    """Where the local files of an unfinished store at a URL are; each part has its own."""
    return place_of(url, run.work_dir, run.part if run.sharded else None)
