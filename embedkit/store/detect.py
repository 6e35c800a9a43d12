"""Tells what a path is, and what to do if something else is needed."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path
from typing import Literal

from embedkit.sources.image_suffixes import has_image_name
from embedkit.sources.naming import kind_of_name
from embedkit.store.manifest import MANIFEST
from embedkit.store.object_cache import find
from embedkit.store.seal import is_sealed
from embedkit.utils.urls import display_name, object_url

__all__ = ["PathKind", "is_store", "kind_of_path", "wrong_kind"]

PathKind = Literal[
    "nothing", "store", "index", "probe", "duplicates", "calibration", "plan", "unfinished",
    "images", "image", "archive", "parquet", "list", "hdf5", "folder", "file",
]  # fmt: skip
"""What a path can be; ``images`` is a folder of them, ``unfinished`` a working folder."""

_SUFFIXES = {".h5", ".hdf5"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ENTRIES = 1000  # of a folder, that are looked at for an image
_HEAD = 4096  # bytes of a file

_WORDS: dict[PathKind, str] = {
    "store": "an embedding store",
    "index": "an index",
    "probe": "a probe",
    "duplicates": "a folder of duplicates",
    "calibration": "a calibration",
    "plan": "a plan of 'dedup plan'",
    "unfinished": "the working folder of an unfinished run",
    "images": "a folder of images",
    "image": "an image",
    "archive": "an archive",
    "parquet": "a Parquet file",
    "list": "a list of images",
    "hdf5": "an HDF5 file that isn't an embedkit store, or is damaged",
    "folder": "a folder without images",
    "file": "a file of another kind",
}
_MADE_BY: dict[PathKind, tuple[tuple[PathKind, ...], str]] = {
    "store": (
        ("images", "image", "archive", "parquet", "list"),
        "embedkit extract {path} -o {stem}.h5",
    ),
    "index": (("store",), "embedkit index build {path} -o {stem}.index"),
    "probe": (("store",), "embedkit probe linear {path} -o {stem}.probe"),
    "duplicates": (("store",), "embedkit dedup find {path} -o {stem}.duplicates"),
    "calibration": (("store",), "embedkit dedup calibrate {path} -o {stem}.json"),
    "plan": (("duplicates",), "embedkit dedup plan {path} -o {stem}.csv"),
}
"""What each kind is made of, and the command that makes it."""


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a path is meant as a store: an HDF5 file by its name, or a folder of shards."""
    found = find(path)
    if found is None:
        return False
    if found.suffix in _SUFFIXES and found.is_file():
        return True
    return found.is_dir() and _kind_of_manifest(found) == "store"


def kind_of_path(path: str | os.PathLike[str]) -> PathKind:
    """What lies at a local path, by its content; reads little. Of a URL: a store or an index.

    Raises:
        StoreError: The storage of a URL can't be reached or refuses.
    """
    found = find(path)
    if found is None:
        return "nothing"
    try:
        if found.is_dir():
            return _kind_of_folder(found)
        return _kind_of_file(found) if found.exists() else "nothing"
    except (OSError, ValueError):
        return "file"


def wrong_kind(path: str | os.PathLike[str], needed: PathKind) -> str:
    """One line that says what a path is instead of what is needed, and what to do.

    Args:
        path: Something that can't be read as ``needed``.
        needed: The kind that is needed.
    """
    name = display_name(path)
    kind, what = kind_of_path(path), _what(needed)
    if kind == "nothing":
        return f"{name}: no such file or folder"
    if kind == needed and object_url(path):
        return f"{name}: {what} at a URL can only be read; copy it to a local path to change it"
    if kind == needed:
        return f"{name}: not {what} that can be read; it is damaged"
    if kind == "unfinished":
        return f"{name}: not {what}, but {_WORDS[kind]}; run the same command again to finish it"
    command = _command_for(name, kind, needed)
    return f"{name}: not {what}, but {_WORDS[kind]}" + (f": {command}" if command else "")


def _what(kind: PathKind) -> str:
    return {"store": "an embedkit store", "index": "an embedkit index"}.get(kind, _WORDS[kind])


def _command_for(name: str, kind: PathKind, needed: PathKind) -> str:
    """The command, or the two commands, that make of one kind what is needed; or nothing."""
    path = Path(name)
    stem = path.name.removesuffix("".join(path.suffixes)) or "photos"
    inputs, command = _MADE_BY.get(needed, ((), ""))
    if kind in inputs:
        return f"run `{command.format(path=name, stem=stem)}` first"
    extracts, extract = _MADE_BY["store"]
    if kind in extracts and "store" in inputs:
        second = command.format(path=f"{stem}.h5", stem=stem)
        return f"run `{extract.format(path=name, stem=stem)}`, then `{second}` first"
    return ""


def _kind_of_folder(path: Path) -> PathKind:
    if (kind := _kind_of_manifest(path)) is not None:
        return kind
    if path.name.endswith(".partial") and any(
        (path / name).exists() for name in ("run.json", "plan.json", "lock")
    ):
        return "unfinished"
    files = (name for _, _, names in os.walk(path) for name in names)
    return "images" if any(map(has_image_name, islice(files, _ENTRIES))) else "folder"


def _kind_of_manifest(path: Path) -> PathKind | None:
    """What the folder of a manifest is; a folder of images may hold another's manifest."""
    formats: dict[str, PathKind] = {
        "embedkit-store": "store",
        "embedkit-index": "index",
        "embedkit-probe": "probe",
        "embedkit-duplicates": "duplicates",
    }
    for name in (MANIFEST, "probe.json", "summary.json"):
        if (path / name).is_file():
            head = _head(path / name)
            for mark, kind in formats.items():
                if json.dumps(mark).encode() in head:
                    return kind
    return None


def _kind_of_file(path: Path) -> PathKind:
    if is_sealed(path):
        return "store"
    from embedkit.decode.sniff import sniff_format  # here: a store is told without Pillow

    head = _head(path)
    if head.startswith(_HDF5) or path.suffix in _SUFFIXES:
        return "hdf5"
    if b'"embedkit-calibration-' in head:
        return "calibration"
    if head.startswith(b"group,action,id"):
        return "plan"
    kind = kind_of_name(str(path))
    if kind in {"tar", "zip"}:
        return "archive"
    if kind == "parquet" or kind == "list":
        return kind
    return "image" if sniff_format(head) is not None or kind == "image" else "file"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
