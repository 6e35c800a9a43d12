"""A store as columns for pandas and polars, and as the small table that a notebook shows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from embedkit.store.annotations import optional_values
from embedkit.tabular import html_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.store.store import EmbeddingStore

__all__ = ["columns_of", "store_html"]

_NUMBERS = ("width", "height", "nbytes")
_SHOWN = 10  # rows in a notebook


def columns_of(store: EmbeddingStore, *, embeddings: bool = True) -> dict[str, Any]:
    """The columns of a store, N values each.

    Args:
        store: An open store.
        embeddings: Whether ``embedding``, ``(N, D)``, is one of them.
    """
    columns: dict[str, Any] = {"id": list(store.ids)}
    if (labels := store.labels) is not None:
        columns["label"] = labels
    columns |= {name: store.images(name) for name in _NUMBERS}
    columns["format"] = [_text(value) for value in store.images("format")]
    columns["content_hash"] = [row.tobytes().hex() for row in store.images("content_hash")]
    columns["phash"] = store.images("phash")
    columns |= {name: optional_values(store.images(name)) for name in store.annotations}
    if embeddings:
        columns["embedding"] = store.to_numpy()
    return columns


def store_html(store: EmbeddingStore) -> str:
    """The first rows with their thumbnails, as far as the images can still be read."""
    from embedkit.decode.thumbnail import thumbnails_of  # Pillow, which few stores need

    header = ["id", "size", "format", *(["label"] if store.has_labels else [])]
    rows = list(islice(_facts(store), _SHOWN))
    hashes = {name: content_hash for name, *_, content_hash in rows}
    return html_table(
        repr(store),
        header,
        [row[: len(header)] for row in rows],
        thumbnails_of(hashes, store.meta.folders(), hashes=hashes),
        left_out=len(store) - len(rows),
    )


def _facts(store: EmbeddingStore) -> Iterator[tuple[str, str, str, str, bytes]]:
    """Id, size, format, label and SHA-256 of each image."""
    for block in store.blocks():
        images = block.images
        sizes = zip(images["width"].tolist(), images["height"].tolist(), strict=True)
        labels = block.labels or [b""] * len(block)
        for name, (width, height), kind, label, content_hash in zip(
            block.ids, sizes, images["format"], labels, images["content_hash"], strict=True
        ):
            size = f"{width}x{height}"
            yield _text(name), size, _text(kind), _text(label), content_hash.tobytes()


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
