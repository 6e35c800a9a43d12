"""Converted networks kept on disk, so that only the first run pays for the conversion."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cached_model"]

_log = logging.getLogger("embedkit")


def cached_model(folder: Path, settings: dict[str, Any], convert: Callable[[], ov.Model]) -> Any:
    """The network for these settings, from ``folder`` or converted and then kept there.

    A converted network is written and read back even where it can't be kept, so that the first run
    computes the same bits as the later ones. Files are believed only with the hashes that were
    written beside them.

    Args:
        folder: Of the cache; made if need be.
        settings: All that decides the network; JSON can hold it.
        convert: Makes the network.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    kept = _read(folder, key)
    if kept is not None:
        return kept
    model = convert()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            _write(model, Path(own), key)
            for suffix in ("bin", "xml", "json"):  # the hashes last
                (Path(own) / f"{key}.{suffix}").replace(folder / f"{key}.{suffix}")
        return _read(folder, key)
    except OSError as exc:
        _log.info("the converted network can't be kept in %s: %s", folder, exc.strerror or exc)
    with tempfile.TemporaryDirectory() as own:
        _write(model, Path(own), key)
        return _read(Path(own), key)


def _write(model: ov.Model, folder: Path, key: str) -> None:
    ov.save_model(model, folder / f"{key}.xml", compress_to_fp16=False)
    hashes = {suffix: _sha256(folder / f"{key}.{suffix}") for suffix in ("bin", "xml")}
    (folder / f"{key}.json").write_text(json.dumps(hashes))


def _read(folder: Path, key: str) -> Any:
    """The network if it is there, whole; else None."""
    try:
        hashes = json.loads((folder / f"{key}.json").read_bytes())
        for suffix in ("bin", "xml"):
            if hashes[suffix] != _sha256(folder / f"{key}.{suffix}"):
                _log.warning("%s: damaged, made anew", folder / f"{key}.{suffix}")
                return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        _log.warning("%s: can't be read (%s), made anew", folder / f"{key}.json", exc)
        return None
    return ov.Core().read_model(folder / f"{key}.xml")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
