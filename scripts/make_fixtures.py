"""Writes tests/fixtures: one store and one index of each format version, committed for ever.

Run it once when a format version is born; never to make a failing test pass.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from stores import write_store  # noqa: E402

from embedkit.index import Index  # noqa: E402
from embedkit.types import Head, ImageFailure  # noqa: E402

IDS = ["photos/plain.jpg", "photos/gr\udcfc\udcdf.png", "shard.tar#a/b.webp", "s3://bucket/c.gif"]


def rows() -> np.ndarray:
    """Four rows of three, exact in float16."""
    return np.arange(12, dtype=np.float16).reshape(4, 3) / 8


def main() -> None:
    """Writes store-v1/photos.h5 and index-v1/photos.index."""
    head = Head(
        np.eye(2, 3, dtype=np.float32), np.ones(2, np.float32), ("cat", "dog"), ("n1", "n2")
    )
    for name in ("store-v1", "index-v1"):
        (ROOT / "tests" / "fixtures" / name).mkdir(parents=True, exist_ok=True)
    store = write_store(
        ROOT / "tests" / "fixtures" / "store-v1" / "photos.h5",
        rows(),
        ids=IDS,
        labels=["cat", None, "dog", "cat"],
        phash=[0, 1, 2**63, 2**64 - 1],
        head=head,
        failures=[ImageFailure("photos/bad.jpg", "empty file (0 bytes)", 0)],
    )
    Index.build(store, ROOT / "tests" / "fixtures" / "index-v1" / "photos.index", overwrite=True)


if __name__ == "__main__":
    main()
