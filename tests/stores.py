"""Small stores for tests, written as `extract` writes them but without a backbone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.store.format import StoreCounts, StoreMeta
from embedkit.store.shard_builder import make_block
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.types import ImageFacts, ImageFailure
from embedkit.utils.atomic_write import commit_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.types import Head

__all__ = ["make_meta", "write_store"]

_META = StoreMeta(
    backbone="tiny",
    weights_fingerprint="f" * 64,
    weights="random:0",
    licence="none",
    preprocessing={"resize": 256, "crop": 224, "interpolation": "bilinear"},
    pooling={"pooling": "avg", "gem_p": None, "layers": None, "flip": False},
    feature_dim=0,
    dtype="float32",
    normalized=False,
    decode={"decoder": "exact", "background": [255, 255, 255], "max_pixels": 100, "max_bytes": 9},
    engine={"name": "test", "device": "cpu", "precision": "float32", "batch_size": 1},
    source=("photos",),
    plan_hash="0" * 64,
    embedkit_version="0.0.0",
    head_applies=True,
)


def make_meta(**changes: Any) -> StoreMeta:
    """How the rows of a test's store were made, with some settings changed."""
    return replace(_META, **changes)


def write_store(
    path: Path,
    embeddings: NDArray[np.floating],
    *,
    ids: Sequence[str] | None = None,
    phash: Sequence[int] | None = None,
    content_hash: Sequence[bytes] | None = None,
    labels: Sequence[str | None] | None = None,
    head: Head | None = None,
    failures: Sequence[ImageFailure] = (),
    **meta: Any,
) -> Path:
    """Writes a store of one file and gives its path.

    Without ``ids`` they are ``0.jpg``, ``1.jpg``, …; without ``phash`` and ``content_hash`` no two
    images are copies of each other. ``meta`` changes fields of the store's meta.
    """
    count, dim = embeddings.shape
    names = list(ids) if ids is not None else [f"{row}.jpg" for row in range(count)]
    hashes = content_hash or [hashlib.sha256(b"%d" % row).digest() for row in range(count)]
    phashes = phash if phash is not None else [_spread_bits(row) for row in range(count)]
    facts = [
        ImageFacts(64, 48, 1000, "JPEG", data, bits)
        for data, bits in zip(hashes, phashes, strict=True)
    ]
    block = make_block(names, embeddings, facts, labels or [None] * count)
    content = ShardContent(
        make_meta(feature_dim=dim, dtype=embeddings.dtype.name, **meta),
        StoreCounts(count, len(failures), 0),
        [block] if count else [],
        failures,
        labels is not None,
        head,
    )
    commit_bytes(path, encode_shard(content))
    return path


def _spread_bits(row: int) -> int:
    """A perceptual hash about 32 bits away from every other row's."""
    return int.from_bytes(hashlib.blake2b(b"%d" % row, digest_size=8).digest(), "big")
