"""The label or class of each image, by which a map is coloured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from embedkit.analysis.classification import classify
from embedkit.errors import StoreError

if TYPE_CHECKING:
    from embedkit.store import EmbeddingStore

__all__ = ["Colors", "words_of"]

Colors = Literal["auto", "label", "class", "none"]


def words_of(store: EmbeddingStore, color: Colors) -> tuple[Colors, list[str]]:
    """By what the images are coloured, and the word of each, empty where it has none.

    Raises:
        StoreError: The store has no labels, or no classifier that applies to its rows.
    """
    if color == "auto":
        has_head = store.meta.head_applies and store.head is not None
        color = "label" if store.has_labels else "class" if has_head else "none"
    if color == "label":
        labels = store.labels
        if labels is None:
            raise StoreError(
                f"{store.path}: has no labels to colour by; `embedkit label` puts them in"
            )
        return color, labels
    if color == "class":
        return color, [
            name.split(",")[0] for b in classify(store.path, 1) for (name,) in b.class_names
        ]
    return color, [""] * len(store)
