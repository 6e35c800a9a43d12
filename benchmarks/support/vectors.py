"""Vectors like embeddings, in clusters, and stores of them; made in pieces."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.store import StoreCounts, StoreMeta, merge
from embedkit.store.shard_builder import make_block
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.types import ImageFacts
from embedkit.utils.atomic_write import commit_bytes

_PIECE_BYTES = 128 * 2**20
_PER_CLUSTER = 100


def clustered(rows: int, dim: int, *, clusters: int, seed: int) -> NDArray[np.float32]:
    """``(rows, dim)``: clusters of equal weight, the spread falling as in the spectrum of features.

    Each seed draws other vectors from the same clusters.
    """
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    spread = fixed.permutation((np.arange(dim) + 1.0) ** -0.5).astype(np.float32)
    centres = fixed.standard_normal((clusters, dim), np.float32) * spread
    noise = rng.standard_normal((rows, dim), np.float32) * spread
    return centres[rng.integers(0, clusters, rows)] + 0.8 * noise


def pieces(rows: int, dim: int) -> Iterator[NDArray[np.float16]]:
    """``rows`` clustered vectors, about 100 a cluster, in pieces."""
    step = _PIECE_BYTES // (4 * dim)
    for number, start in enumerate(range(0, rows, step)):
        count = min(step, rows - start)
        yield clustered(count, dim, clusters=num_clusters(rows), seed=number).astype(np.float16)


def num_clusters(rows: int) -> int:
    """How many clusters so many rows have."""
    return max(10, rows // _PER_CLUSTER)


def write_store(
    path: Path, rows: int, dim: int, images: Sequence[tuple[str, ImageFacts]] | None = None
) -> Path:
    """Writes a store of ``pieces``.

    ``images`` has id and facts of each row; without, ids are row numbers, seven digits and more.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        parts, start = [], 0
        for vectors in pieces(rows, dim):
            parts.append(Path(folder) / f"{start}.h5")
            numbers = range(start, start + len(vectors))
            some = [images[row] if images else _numbered(row) for row in numbers]
            _write_part(parts[-1], vectors, some)
            start += len(vectors)
        return merge(parts, path)


def _numbered(row: int) -> tuple[str, ImageFacts]:
    digest = hashlib.sha256(b"%d" % row).digest()
    return f"{row:07d}", ImageFacts(64, 48, 1000, "JPEG", digest, row)


def _write_part(
    path: Path, vectors: NDArray[np.float16], images: Sequence[tuple[str, ImageFacts]]
) -> None:
    names, facts = zip(*images, strict=True)
    block = make_block(names, vectors, facts, [None] * len(vectors))
    meta = StoreMeta(
        backbone="tiny", weights_fingerprint="", weights="random:0", licence="none",
        preprocessing={}, pooling={}, feature_dim=vectors.shape[1], dtype="float16",
        normalized=False, decode={}, engine={}, source=[], plan_hash="", embedkit_version="",
        head_applies=False,
    )  # fmt: skip
    counts = StoreCounts(len(vectors), 0, 0)
    commit_bytes(path, encode_shard(ShardContent(meta, counts, [block], [], False, None)))
