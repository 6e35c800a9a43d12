"""Maps that were computed once, in the cache folder: UMAP takes minutes for a million images."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.analysis.embedding_map import layout
from embedkit.backbones.registry import cache_folder
from embedkit.index.store_rows import StoreRows
from embedkit.store.store import fingerprint_of
from embedkit.utils.file_cache import CachedFiles, hash_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["map_of"]

_FILE, _SEED = "npy", 0


def map_of(stores: Sequence[Path]) -> NDArray[np.float32]:
    """Where each image of some stores lies, ``(N, 2)`` float32 in the unit square.

    Raises:
        StoreError: A store can't be read.
    """
    settings = {
        "stores": [fingerprint_of(path) for path in stores],
        "code": hash_code(Path(layout.__file__).parent.glob("*.py")),
        "umap": _version("umap-learn"),
        "sample": layout.SAMPLE,
        "seed": _SEED,
    }
    files = CachedFiles.of(cache_folder() / "maps", settings, _FILE)
    stem = files.find()
    if stem is not None:
        kept: NDArray[np.float32] = np.load(stem.with_suffix(f".{_FILE}"), allow_pickle=False)
        return kept
    with StoreRows.open(stores) as rows:
        points = layout.lay_out_store(rows, "auto", layout.SAMPLE, _SEED).points
    files.keep(lambda stem: np.save(stem.with_suffix(f".{_FILE}"), points))
    return points


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
