"""The HDF5 embedding store: shards, manifest, resume, verify, merge, update."""

from embedkit.store.detect import is_store
from embedkit.store.format import RowBlock, StoreCounts, StoreMeta
from embedkit.store.merge import merge
from embedkit.store.store import EmbeddingStore
from embedkit.store.verify import verify

__all__ = ["EmbeddingStore", "RowBlock", "StoreCounts", "StoreMeta", "is_store", "merge", "verify"]
