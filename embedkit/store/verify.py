"""Checking every bit of a store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.store.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["verify"]


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Checks counts, shapes, finiteness, every checksum and every byte of a store.

    Args:
        path: A shard file or a folder of shards.

    Returns:
        One line for each problem, beginning with the file's name; empty if all is well. What
        keeps the store from being opened is a problem as well.
    """
    try:
        with EmbeddingStore.open(path) as store:
            return list(_problems(store))
    except StoreError as exc:
        return [str(exc)]


def _problems(store: EmbeddingStore) -> Iterator[str]:
    for number, entry in enumerate(store.shards):
        try:
            shard = store.shard(number)
        except StoreError as exc:
            yield str(exc)
            continue
        yield from (f"{shard.path}: {problem}" for problem in shard.problems())
        if differences := store.meta.differences(shard.meta, ignore=()):
            yield f"{shard.path}: made otherwise than the store says ({', '.join(differences)})"
        if entry.sha256:
            with shard.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != entry.sha256:
                yield f"{shard.path}: its SHA-256 isn't the manifest's"
