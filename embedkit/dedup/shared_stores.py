"""The stores of a search, as the workers of a Ray cluster open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.errors import StoreError
from embedkit.store import EmbeddingStore
from embedkit.store.object_cache import address_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["named", "reopened"]


def named(stores: Iterable[EmbeddingStore]) -> list[tuple[str, str]]:
    """The path, or the URL, and the fingerprint of each store."""
    return [(address_of(one.path) or str(one.path.absolute()), one.fingerprint) for one in stores]


def reopened(names: Iterable[tuple[str, str]]) -> list[EmbeddingStore]:
    """Opens the stores that ``named`` has named.

    Raises:
        StoreError: A store can't be read, or another one lies in its place.
    """
    stores = []
    for path, fingerprint in names:
        store = EmbeddingStore.open(path)
        if store.fingerprint != fingerprint:
            raise StoreError(f"{path}: another store than the one that is searched lies there")
        stores.append(store)
    return stores
