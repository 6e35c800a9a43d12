"""The folder of duplicates: its files, written whole or not at all, and read with checks."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedkit.dedup.output.html_report import REPORT, write_page
from embedkit.dedup.output.summary import SUMMARY, encode_summary, read_summary
from embedkit.dedup.output.tables import read_groups, read_pairs, write_groups, write_pairs
from embedkit.dedup.results import Duplicates
from embedkit.errors import DedupError, SourceError
from embedkit.utils.atomic_write import atomic_file, atomic_folder, commit_bytes, remove_left_behind
from embedkit.utils.progress import Stage, reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from embedkit.utils.progress import ProgressCallback

__all__ = ["REVIEW", "check_output", "read_duplicates", "write_duplicates"]

REVIEW = "review-"
"""How the names of the files begin that a review of the duplicates writes."""

_PAIRS, _GROUPS, _SEARCHED = "pairs.parquet", "groups.parquet", "searched.u8"
_NAMES = {_PAIRS, _GROUPS, _SEARCHED, SUMMARY, REPORT}


def write_duplicates(
    found: Duplicates,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    report: bool = True,
    root: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    progress: bool | ProgressCallback = False,
) -> Path:
    """Writes a folder of duplicates; it appears when it is whole.

    Args:
        found: What it holds.
        output: The folder.
        overwrite: Whether an older folder of duplicates is replaced; files of its review stay.
        report: Whether ``report.html`` is made too, with thumbnails from the images' files.
        root: The folder that relative ids are below; None takes the one that the store remembers.
        images: The sources that the images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        ``output``.

    Raises:
        DedupError: ``output`` exists, or can't be written.
        SourceError: ``images`` has none of the images; the tables are written all the same.
        StoreError: A file can't be written.
    """
    output = Path(output)
    missing: SourceError | None = None
    check_output(output, overwrite=overwrite)
    try:
        with reporting(progress), atomic_folder(output) as whole:
            with Stage("writing"):
                _write_files(found, whole)
            if report:
                missing = write_page(found, whole / REPORT, root, images, lies_in=output)
            for path in output.glob(f"{REVIEW}*"):
                shutil.copy2(path, whole)
        _discard_compared(output)
    except OSError as exc:
        raise DedupError(f"{output}: can't be written: {exc.strerror or exc}") from exc
    if missing is not None:
        raise SourceError(f"{output}: written, but its page has no pictures: {missing}")
    return output


def _discard_compared(output: Path) -> None:
    """Removes the pairs that the search kept until its result was written."""
    if not output.with_name(output.name + ".partial").exists():
        return
    from embedkit.dedup.verification.compared_pairs import ComparedPairs

    with ComparedPairs.locked(output) as compared:
        compared.clear()


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuses an output that is no folder of duplicates, or one that may not be overwritten.

    Raises:
        DedupError: It exists.
    """
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir() or output.is_symlink():
        raise DedupError(f"{output}: is no folder; choose another output")
    names = {path.name for path in output.iterdir() if not path.name.startswith(REVIEW)}
    if names and (SUMMARY not in names or not names <= _NAMES):
        raise DedupError(f"{output}: holds other files; choose another output")
    if names and not overwrite:
        raise DedupError(f"{output}: exists already; overwrite=True replaces it")


def read_duplicates(folder: str | os.PathLike[str]) -> Duplicates:
    """Reads a folder of duplicates, and checks all of it.

    Raises:
        DedupError: It is none, or it was changed or damaged.
    """
    folder = Path(folder)
    if not folder.exists():
        remove_left_behind(folder)  # puts back what a killed run was replacing
    summary = read_summary(folder)
    for name in (_PAIRS, _GROUPS, *({_SEARCHED} & summary.files.keys())):
        _check_hash(folder / name, summary.files.get(name))
    path = folder / _PAIRS
    try:
        pairs = read_pairs(path, summary.info)
        path = folder / _GROUPS
        groups, images = read_groups(path, pairs)
        path = folder / SUMMARY
        if (len(pairs), len(images)) != (summary.pairs, summary.images):
            raise ValueError("its counts aren't those of the tables")
    except (ValueError, OSError, pa.ArrowException, RecursionError) as exc:
        reason = " ".join(str(exc).split())[:200]
        raise DedupError(f"{path}: damaged: {reason}; search again") from exc
    return Duplicates(
        pairs,
        groups,
        images,
        summary.linkage,
        summary.store,
        summary.against,
        summary.leaks,
        summary.settings,
        np.fromfile(folder / _SEARCHED, "<u8") if _SEARCHED in summary.files else None,
        folder.absolute(),
    )


def _write_files(found: Duplicates, folder: Path) -> None:
    with atomic_file(folder / _PAIRS) as file:
        write_pairs(file, found)
    with atomic_file(folder / _GROUPS) as file:
        write_groups(file, found)
    names = [_PAIRS, _GROUPS]
    if found.searched is not None:
        commit_bytes(folder / _SEARCHED, found.searched.astype("<u8").tobytes())
        names.append(_SEARCHED)
    hashes = {name: _digest(folder / name) for name in names}
    commit_bytes(folder / SUMMARY, encode_summary(found, hashes))


def _check_hash(path: Path, expected: str | None) -> None:
    try:
        found = _digest(path)
    except OSError as exc:
        raise DedupError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    if found != expected:
        raise DedupError(f"{path}: was changed or damaged; search again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
