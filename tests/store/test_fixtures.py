"""Files of every format version ever written must be readable for ever."""

from pathlib import Path

import numpy as np

from embedkit.index import Index
from embedkit.store import EmbeddingStore, verify

FIXTURES = Path(__file__).parents[1] / "fixtures"
ROWS = np.arange(12).reshape(4, 3) / 8


def test_store_v1():
    path = FIXTURES / "store-v1" / "photos.h5"
    assert verify(path) == []
    with EmbeddingStore.open(path) as store:
        np.testing.assert_array_equal(store.embeddings, ROWS)
        assert store.embeddings.dtype == np.float16
        assert store.ids[1] == "photos/gr\udcfc\udcdf.png"
        assert list(store.ids)[2:] == ["shard.tar#a/b.webp", "s3://bucket/c.gif"]
        assert store.labels == ["cat", "", "dog", "cat"]
        assert store.images("phash").tolist() == [0, 1, 2**63, 2**64 - 1]
        assert store.images("format").tolist() == [b"JPEG"] * 4
        assert [(f.id, f.reason, f.nbytes) for f in store.failures()] == [
            ("photos/bad.jpg", "empty file (0 bytes)", 0)
        ]
        assert (store.counts.found, store.counts.embedded, store.counts.failed) == (5, 4, 1)
        assert store.head.class_names == ("cat", "dog")
        assert store.head.class_ids == ("n1", "n2")
        assert store.meta.backbone == "tiny"
        assert store.meta.preprocessing["crop"] == 224


def test_index_v1():
    index = Index.open(FIXTURES / "index-v1" / "photos.index")
    found = index.search(ROWS[3:].astype(np.float32), k=2)
    assert found.ids[0][0] == "s3://bucket/c.gif"
    np.testing.assert_allclose(found.scores[0, 0], 1.0, atol=1e-6)
