"""The stores of a run, as the workers of a Ray cluster open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.distributed.worker import enter_shared
from embedkit.errors import StoreError
from embedkit.store import EmbeddingStore
from embedkit.store.object_cache import address_of
from embedkit.utils.urls import object_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["named", "reopened_by_worker"]


def named(stores: Iterable[EmbeddingStore]) -> list[tuple[str, str]]:
    """The path, or the URL, and the fingerprint of each store."""
    return [(address_of(one.path) or str(one.path.absolute()), one.fingerprint) for one in stores]


def reopened_by_worker(
    names: Iterable[tuple[str, str]], folder: Path, images: Iterable[str] = ()
) -> list[EmbeddingStore]:
    """Prepares a worker's process, and opens the stores that ``named`` has named.

    Args:
        names: The stores.
        folder: The driver's current folder; not needed if all stores and images are URLs.
        images: Where the images are.

    Raises:
        WorkerError: This machine doesn't see the folder.
        StoreError: A store can't be read, or another one lies in its place.
    """
    names = list(names)
    places = [*(path for path, _ in names), *images]
    enter_shared(folder, *([folder] if any(object_url(one) is None for one in places) else []))
    stores = []
    for path, fingerprint in names:
        store = EmbeddingStore.open(path)
        if store.fingerprint != fingerprint:
            raise StoreError(f"{path}: another store than the driver's lies there")
        stores.append(store)
    return stores
