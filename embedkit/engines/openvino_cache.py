"""Caches converted OpenVINO networks on disk, so that only the first run converts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from embedkit.utils.file_cache import CachedFiles

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cached_model"]


def cached_model(folder: Path, settings: dict[str, Any], convert: Callable[[], ov.Model]) -> Any:
    """The network for these settings, from ``folder`` or converted and then kept there.

    A converted network is written and read back even where it can't be kept, so that the first run
    computes the same bits as the later ones.

    Args:
        folder: The cache folder; created if missing.
        settings: All settings that determine the network, as JSON values.
        convert: Makes the network.
    """
    files = CachedFiles.of(folder, settings, "bin", "xml")
    stem = files.find()
    if stem is not None:
        return _read(stem)
    model = convert()
    if files.keep(lambda stem: _write(model, stem)) and (stem := files.find()) is not None:
        return _read(stem)
    with tempfile.TemporaryDirectory() as own:
        stem = Path(own, files.key)
        _write(model, stem)
        return _read(stem)


def _write(model: ov.Model, stem: Path) -> None:
    ov.save_model(model, stem.with_suffix(".xml"), compress_to_fp16=False)


def _read(stem: Path) -> Any:
    return ov.Core().read_model(stem.with_suffix(".xml"))
