"""Saves and loads probes: ``probe.json`` (settings) and ``probe.safetensors`` (weights)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from embedkit._version import __version__
from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.probe.model import KnnProbe, LinearProbe
from embedkit.store.detect import wrong_kind
from embedkit.store.format import StoreMeta
from embedkit.utils.atomic_write import commit_bytes
from embedkit.utils.manifest import ManifestFormat

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from embedkit.probe.model import Probe

__all__ = ["PROBE_FILE", "TENSORS_FILE", "load_probe", "save_probe"]

PROBE_FILE, TENSORS_FILE = "probe.json", "probe.safetensors"
_FORMAT = ManifestFormat(
    "embedkit-probe",
    1,
    "a probe",
    "train it again",
    missing=StoreError,
    other=StoreFormatError,
    damaged=StoreFormatError,
)
_TASKS = ("classes", "multilabel", "regression")


def save_probe(probe: Probe, folder: Path) -> None:
    """Writes a probe into a folder, the settings last.

    Raises:
        StoreError: It can't be written.
    """
    tensors = {name: np.ascontiguousarray(one) for name, one in probe.tensors().items()}
    data = safetensors.numpy.save(tensors)
    settings = {
        "kind": probe.kind,
        "task": probe.task,
        "classes": probe.names,
        "normalize": probe.normalize,
        "settings": probe.settings(),
        "features": probe.meta.to_config(),
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "embedkit_version": __version__,
    }
    commit_bytes(folder / TENSORS_FILE, data)
    commit_bytes(folder / PROBE_FILE, _FORMAT.encode(settings))


def load_probe(folder: str | os.PathLike[str]) -> Probe:
    """Reads a probe.

    Args:
        folder: What ``write_probe`` wrote.

    Raises:
        StoreError: There is no probe.
        StoreFormatError: It isn't a probe, or has a newer format.
        StoreCorruptError: The weights are damaged.
    """
    folder = Path(folder)
    if not (folder / PROBE_FILE).is_file():
        raise StoreError(wrong_kind(folder, "probe"))
    settings = _FORMAT.read(folder / PROBE_FILE)
    try:
        data = (folder / TENSORS_FILE).read_bytes()
    except OSError as exc:
        raise StoreError(f"{folder / TENSORS_FILE}: can't be read: {exc.strerror or exc}") from exc
    if hashlib.sha256(data).hexdigest() != settings.get("tensors_sha256"):
        raise StoreCorruptError(f"{folder / TENSORS_FILE}: not the file that {PROBE_FILE} names")
    try:
        return _build(folder, settings, safetensors.numpy.load(data))
    except (KeyError, TypeError, ValueError, OverflowError, SafetensorError) as exc:
        raise StoreFormatError(f"{folder}: not a probe: {exc}") from exc


def _build(folder: Path, settings: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Probe:
    meta = StoreMeta.from_config(settings["features"])
    names, task = tuple(map(str, settings["classes"])), settings["task"]
    if task not in _TASKS:
        raise ValueError(f"task {task!r}")
    common = (folder, task, names, meta, bool(settings["normalize"]))
    if settings["kind"] == "linear":
        weight, bias = tensors["weight"], tensors["bias"]
        _check_shape("weight", weight, (len(names), meta.feature_dim))
        _check_shape("bias", bias, (len(names),))
        return LinearProbe(*common, weight, bias, float(settings["settings"]["c"]))
    if settings["kind"] != "knn":
        raise ValueError(f"kind {settings['kind']!r}")
    rows, values, k = tensors["embeddings"], tensors["values"], int(settings["settings"]["k"])
    _check_shape("embeddings", rows, (len(rows), meta.feature_dim))
    _check_shape("values", values, (len(rows),) if task == "classes" else (len(rows), len(names)))
    if not 1 <= k <= len(rows):
        raise ValueError(f"k {k} of {len(rows)} training images")
    if task == "classes" and values.dtype.kind not in "iu":
        raise ValueError(f"class numbers are {values.dtype}, not whole numbers")
    if task == "classes" and not (values.min() >= 0 and values.max() < len(names)):
        raise ValueError("a class number without a class")
    return KnnProbe(*common, rows, values, k)


def _check_shape(name: str, tensor: NDArray[Any], shape: tuple[int, ...]) -> None:
    if tensor.shape != shape or not np.isfinite(tensor).all():
        raise ValueError(f"{name} is {tensor.shape}, not {shape} of finite numbers")
