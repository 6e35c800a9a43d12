"""What ``annotate`` put into a store, under the pictures of its images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.store.annotations import optional_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedkit.report.gallery_data import Picture
    from embedkit.store import EmbeddingStore

__all__ = ["annotated"]

_MOST_COLUMNS, _LONGEST_TEXT = 8, 60


def annotated(
    pictures: Mapping[str, Picture], store: EmbeddingStore, rows: Mapping[str, int]
) -> dict[str, Picture]:
    """Pictures with the annotations of their images, after the facts.

    The first 8 columns are shown, and the first 60 characters of a text.

    Args:
        pictures: The pictures by id.
        store: The store of the images.
        rows: Their rows by id; a picture without one stays as it is.
    """
    found = dict(pictures)
    for name, row in sorted(rows.items(), key=lambda pair: pair[1]) if store.annotations else ():
        if name in found and (line := _line(store, row)):
            picture = found[name]
            found[name] = replace(picture, facts=f"{picture.facts}; {line}".removeprefix("; "))
    return found


def _line(store: EmbeddingStore, row: int) -> str:
    """The annotations of one row: ``cluster = 3, weather = rain``."""
    number, inside = store.locate(row)
    shard, said = store.shard(number), []
    for name in [*store.annotations][:_MOST_COLUMNS]:
        (value,) = optional_values(shard.image_column(name, inside, inside + 1))
        if value is not None:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            is_long = len(text) > _LONGEST_TEXT
            said.append(f"{name} = {text[:_LONGEST_TEXT]}…" if is_long else f"{name} = {text}")
    return ", ".join(said)
