"""Turns a batch of image records into rows of a store: read, decode, preprocess, embed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedkit.extraction.load_images import load_images
from embedkit.store.shard_builder import ShardPart, make_block
from embedkit.types import ImageFacts, ImageFailure, ImageRecord
from embedkit.utils.parallel import in_order
from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.decode.image_loader import ImageLoader
    from embedkit.engines import Engine
    from embedkit.extraction.load_images import Decoders, Outcome
    from embedkit.sources import ImageReader
    from embedkit.store import RowBlock

__all__ = ["BatchProcessor", "in_order"]


@dataclass(frozen=True, slots=True)
class BatchProcessor:
    """Embeds a batch of records from first byte to row; called from several threads at once.

    Attributes:
        reader: Gives the encoded bytes.
        load: Decodes, scales and crops.
        engine: The backbone.
        dtype: ``float16`` or ``float32``, of the rows.
        normalize: Whether the rows get unit L2 norm.
        decoders: What reads and decodes elsewhere; None: the calling thread does.
    """

    reader: ImageReader
    load: ImageLoader
    engine: Engine
    dtype: str
    normalize: bool
    decoders: Decoders | None = None
    _own: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def __call__(self, records: Sequence[ImageRecord]) -> ShardPart:
        """Embeds at most ``engine.batch_size`` records.

        An image that can't be read, decoded or embedded becomes a failure; the others are
        embedded all the same.
        """
        pixels = self._pixels()
        outcomes = self._load(records, pixels)
        places = [place for place, one in enumerate(outcomes) if isinstance(one, ImageFacts)]
        failures = [one for one in outcomes if isinstance(one, ImageFailure)]
        skipped = sum(one is None for one in outcomes)
        if not places:
            return ShardPart(None, tuple(failures), skipped)
        if len(places) < len(records):
            pixels[: len(places)] = pixels[places]
        kept = [records[place] for place in places]
        facts = [one for one in outcomes if isinstance(one, ImageFacts)]
        block, broken = self._rows(kept, facts, self.engine.embed(pixels, len(kept)))
        if broken:
            place = {record.id: number for number, record in enumerate(records)}
            failures = sorted([*failures, *broken], key=lambda failure: place[failure.id])
        return ShardPart(block, tuple(failures), skipped)

    def _pixels(self) -> NDArray[np.uint8]:
        """``(B, S, S, 3)``: the calling thread's own memory, filled again with each batch."""
        pixels: NDArray[np.uint8] | None = getattr(self._own, "pixels", None)
        if pixels is None:
            pixels = self._own.pixels = self.engine.new_buffer()
        return pixels

    def _load(self, records: Sequence[ImageRecord], pixels: NDArray[np.uint8]) -> list[Outcome]:
        if self.decoders is None:
            resize = self.load.preprocessing.resize
            return load_images(self.reader, self.load, records, pixels, resize)
        return self.decoders.load(records, pixels)

    def _rows(
        self,
        kept: Sequence[ImageRecord],
        facts: Sequence[ImageFacts],
        embeddings: NDArray[np.float32],
    ) -> tuple[RowBlock | None, list[ImageFailure]]:
        """Casts the embeddings; those that aren't finite become failures."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.normalize:
                embeddings = unit_rows(embeddings)
            rows = embeddings.astype(self.dtype)
        good = np.isfinite(rows).all(axis=1)
        broken = [
            ImageFailure(kept[i].id, self._why_not_finite(embeddings[i]), facts[i].nbytes)
            for i in np.flatnonzero(~good).tolist()
        ]
        where = np.flatnonzero(good).tolist()
        if not where:
            return None, broken
        block = make_block(
            [kept[i].id for i in where],
            rows[good],
            [facts[i] for i in where],
            [kept[i].label for i in where],
        )
        return block, broken

    def _why_not_finite(self, embedding: NDArray[np.float32]) -> str:
        if np.isfinite(embedding).all():
            return f'embedding too large for {self.dtype}: use dtype="float32"'
        return "embedding is not finite"
