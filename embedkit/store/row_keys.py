"""Keys of rows: a few bytes in the place of an id, so that memory doesn't grow with its length."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from embedkit.store.store import EmbeddingStore

__all__ = ["content_keys", "find_keys", "id_keys"]

_ROWS_AT_ONCE = 65536


def id_keys(names: Iterable[bytes]) -> NDArray[np.bytes_]:
    """16 bytes for each id, ``(N,)``, equal where the ids are."""
    digests = b"".join(blake2b(name, digest_size=16).digest() for name in names)
    return np.frombuffer(digests, "S16")


def find_keys(keys: NDArray[np.bytes_], among: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """The place of each key among others, all different; -1 where it isn't there."""
    if not len(among):
        return np.full(len(keys), -1)
    order = np.argsort(among)
    at = order[np.minimum(np.searchsorted(among, keys, sorter=order), len(among) - 1)]
    return np.where(among[at] == keys, at, -1)


def content_keys(store: EmbeddingStore, purpose: bytes = b"") -> NDArray[np.uint64]:
    """8 bytes for each row of a store, ``(N,)``, equal where id and content are.

    Args:
        store: The store, open.
        purpose: Keys with different purposes differ.
    """
    parts, first = [], 0
    for number, shard in enumerate(store.shards):
        hashes = store.shard(number).image_column("content_hash", 0, shard.embedded)
        for start in range(0, len(hashes), _ROWS_AT_ONCE):
            part = hashes[start : start + _ROWS_AT_ONCE]
            names = store.ids[first + start : first + start + len(part)]
            digests = (
                blake2b(
                    name.encode("utf-8", "surrogateescape") + b"\0" + content.tobytes(),
                    digest_size=8, person=purpose,
                ).digest()
                for name, content in zip(names, part, strict=True)
            )  # fmt: skip
            parts.append(np.frombuffer(b"".join(digests), "<u8"))
        first += shard.embedded
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)
