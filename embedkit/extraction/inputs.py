"""Turns mixed inputs (stores and images) into stores; images are embedded first."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import StoreError
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore, is_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedkit.types import ImageFailure

__all__ = ["StoredInputs", "as_stores"]


@dataclass(frozen=True, slots=True)
class StoredInputs:
    """Stores for all inputs.

    Attributes:
        stores: In the order of the inputs; temporary ones are deleted when the block ends.
        failures: Input images that could not be embedded.
    """

    stores: tuple[Path, ...]
    failures: tuple[ImageFailure, ...]


@contextmanager
def as_stores(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    keep: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Iterator[StoredInputs]:
    """Opens stores as they are, and embeds images into new stores.

    Args:
        inputs: Stores, and whatever ``extract`` takes.
        keep: Path of the store to write and keep for the images; an interrupted run is resumed
            there. None embeds into temporary files.
        **settings: ``extract``'s, for the images.

    Raises:
        SourceError: A source can't be listed, or holds no image.
        BackboneError: The backbone or its weights aren't available.
        StoreError: ``keep`` can't be written, or has other settings.
        ValueError: Nothing was given, or ``keep`` and more than one group of images.
    """
    names = [os.fsdecode(one) for one in inputs]
    if not names:
        raise ValueError("nothing given: give a store, an image or a folder of images")
    runs = [(stored, list(group)) for stored, group in groupby(names, is_store)]
    if keep is not None and [stored for stored, _ in runs].count(False) != 1:
        raise ValueError("only images are embedded, and into one store: give them alone")
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        stores: list[Path] = []
        failures: list[ImageFailure] = []
        for stored, some in runs:
            if stored:
                stores += map(Path, some)
                continue
            store = Path(keep) if keep is not None else Path(folder, f"{len(stores)}.h5")
            failures += _embed(some, store, settings)
            stores.append(store)
        yield StoredInputs(tuple(stores), tuple(failures))


def _embed(images: list[str], store: Path, settings: dict[str, Any]) -> list[ImageFailure]:
    if not extract(images, store, **settings).complete:
        raise StoreError(f"{store}: stopped before its end; run the same command again to resume")
    with EmbeddingStore.open(store) as opened:
        return list(opened.failures())
