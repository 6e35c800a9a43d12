"""Random contents of stores for tests, as bytes of shards and as files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from stores import make_meta

from embedkit.store.format import StoreCounts
from embedkit.store.manifest import MANIFEST, ShardEntry, encode_manifest
from embedkit.store.shard_builder import columns_of, make_block
from embedkit.store.writer import ShardContent, encode_shard
from embedkit.types import Head, ImageFacts, ImageFailure
from embedkit.utils.atomic_write import commit_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from embedkit.store import RowBlock

__all__ = ["HEAD", "make_content", "make_rows", "write_folder", "write_shard_file"]

HEAD = Head(
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.array([0.5, -1, 2], np.float32),
    ("cat", "dög", "house, home"),
    ("n01", "n02", "n03"),
)


def make_rows(
    count: int,
    *,
    seed: int = 0,
    dtype: str = "float16",
    ids: Sequence[str] | None = None,
    labels: Sequence[str | None] | None = None,
) -> RowBlock:
    """Rows of 4 features with random values; the ids tell the seed. Some have no thumbnail."""
    rng = np.random.default_rng(seed)
    names = ids or [f"photos/{seed}-{row}.jpg" for row in range(count)]
    facts = [
        ImageFacts(
            *(int(side) for side in rng.integers(1, 5000, 2)),
            int(rng.integers(1, 2**40)),
            str(rng.choice(["JPEG", "PNG"])),
            hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(),
            int(rng.integers(0, 2**64, dtype=np.uint64)),
            sharpness=float(len(name)),
            bits=8,
            captured=number * 10**9,
            camera="Kamera ü" if number % 2 else "",
            thumbnail=b"" if number % 3 == 1 else np.random.default_rng([seed, number]).bytes(1024),
        )
        for number, name in enumerate(names)
    ]
    embeddings = rng.normal(size=(count, 4)).astype(dtype)
    return make_block(names, embeddings, facts, labels or [None] * count)


def make_content(
    rows: RowBlock | None,
    *,
    failures: Sequence[ImageFailure] = (),
    skipped: int = 0,
    head: Head | None = HEAD,
    **meta: Any,
) -> ShardContent:
    """A shard of these rows."""
    dtype = "float16" if rows is None else rows.embeddings.dtype.name
    return ShardContent(
        make_meta(feature_dim=4, dtype=dtype, **meta),
        StoreCounts(0 if rows is None else len(rows), len(failures), skipped),
        [] if rows is None else [rows],
        failures,
        rows is not None and any(rows.labels),
        head,
        columns_of([] if rows is None else [rows], meta.get("omitted_columns", ())),
    )


def write_shard_file(path: Path, content: ShardContent | None = None) -> Path:
    """Writes one shard; without content a small one that has something of everything."""
    if content is None:
        rows = make_rows(5, labels=["a", None, "b", "ü", None])
        failures = [ImageFailure("bad\udcff.jpg", "truncated", 7), ImageFailure("x", "empty")]
        content = make_content(rows, failures=failures, skipped=2)
    commit_bytes(path, encode_shard(content))
    return path


def write_folder(path: Path, contents: Sequence[ShardContent]) -> Path:
    """Writes a sharded store."""
    path.mkdir()
    entries = []
    for number, content in enumerate(contents):
        shard = write_shard_file(path / f"shard-{number:06d}.h5", content)
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        counts = content.counts
        entries.append(
            ShardEntry(shard.name, counts.embedded, counts.failed, counts.skipped, digest)
        )
    commit_bytes(path / MANIFEST, encode_manifest(contents[0].meta, entries))
    return path
