"""What was found out when backbones were loaded, kept so that torch isn't needed to hear it again.

A backbone is remembered under all that decides it: the options, the bytes of its weights file (or
the seed), embedkit's code and the versions of torch and timm. So a memory never needs to be
forgotten; whatever changes has another key.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from embedkit.backbones.config import BackboneMetadata
from embedkit.backbones.spec import BackboneSpec
from embedkit.types import Head
from embedkit.utils.file_cache import CachedFiles, hash_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.backbones.config import BackboneConfig

__all__ = ["Memory", "maker"]

_FILE = "safetensors"
_log = logging.getLogger("embedkit")


@cache
def maker() -> dict[str, str]:
    """What makes backbones: the hash of this package's code, the versions of torch and timm."""
    code = hash_code(Path(__file__).parent.glob("*.py"))
    return {"code": code, "torch": version("torch"), "timm": version("timm")}


class Memory:
    """BackboneMetadata about backbones, and timm's descriptions of its models, in one folder.

    A folder that can't be written, or a damaged file, costs only time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(
        self, recipe: BackboneConfig, path: Path | None, sha256: str
    ) -> BackboneMetadata | None:
        """What loading this backbone found out, if it was loaded before.

        Args:
            recipe: The backbone.
            path: Its weights file; None for random weights.
            sha256: Of that file; empty for random weights.
        """
        read = self._read(self._findings(recipe, path, sha256))
        if read is None:
            return None
        told, tensors = read
        names, ids = told.pop("class_names"), told.pop("class_ids")
        head = Head(**tensors, class_names=tuple(names), class_ids=tuple(ids)) if tensors else None
        return BackboneMetadata(**told, head=head)

    def remember(
        self, recipe: BackboneConfig, path: Path | None, sha256: str, findings: BackboneMetadata
    ) -> None:
        """Keeps what loading this backbone found out; the arguments are those of ``recall``."""
        head = findings.head
        told = {
            "fingerprint": findings.fingerprint,
            "feature_dim": findings.feature_dim,
            "head_name": findings.head_name,
            "class_names": head.class_names if head else (),
            "class_ids": head.class_ids if head else (),
        }
        tensors = {"weight": head.weight, "bias": head.bias} if head else {}
        self._write(self._findings(recipe, path, sha256), told, tensors)

    def spec(self, timm_name: str, describe: Callable[[str], BackboneSpec]) -> BackboneSpec:
        """What timm says of one of its models; ``describe`` asks it if it must be."""
        files = CachedFiles.of(self._folder, {"timm_name": timm_name, **maker()}, _FILE)
        read = self._read(files)
        if read is None:
            spec = describe(timm_name)
            self._write(files, asdict(spec), {})
            return spec
        told, _ = read
        return BackboneSpec(**{**told, "mean": tuple(told["mean"]), "std": tuple(told["std"])})

    def _findings(self, recipe: BackboneConfig, path: Path | None, sha256: str) -> CachedFiles:
        kind = "" if path is None else path.suffix  # the same bytes are read by their suffix
        settings = {**recipe.to_config(), "weights": [sha256, kind], **maker()}
        return CachedFiles.of(self._folder, settings, _FILE)

    def _read(
        self, files: CachedFiles
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]] | None:
        stem = files.find()
        if stem is None:
            return None
        path = stem.with_suffix(f".{_FILE}")
        try:
            with safe_open(path, framework="numpy") as opened:
                names = opened.keys()
                told = json.loads(opened.metadata()["told"])
                return told, {name: opened.get_tensor(name) for name in names}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as exc:
            _log.warning("%s: can't be read (%s), made anew", path, exc)
            return None

    def _write(
        self,
        files: CachedFiles,
        told: Mapping[str, Any],
        tensors: Mapping[str, NDArray[np.float32]],
    ) -> None:
        content = save(dict(tensors), {"told": json.dumps(told)})
        files.keep(lambda stem: _write_file(stem, content))


def _write_file(stem: Path, content: bytes) -> None:
    stem.with_suffix(f".{_FILE}").write_bytes(content)
