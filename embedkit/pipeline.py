"""From image records to rows: read, decode, preprocess and embed, in threads, in order."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.decode import sniff_format
from embedkit.errors import DecodeError
from embedkit.image_names import has_image_name
from embedkit.ordering import in_order
from embedkit.phash import THUMBNAIL_SIDE, perceptual_hashes
from embedkit.records import ImageFacts, ImageFailure, ImageRecord
from embedkit.store.build import ShardPart, make_block
from embedkit.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.decode.loading import ImageLoader
    from embedkit.engines import Engine
    from embedkit.sources import ImageReader
    from embedkit.store import RowBlock

__all__ = ["BatchProcessor", "in_order"]


class _Found(NamedTuple):
    """The facts of an image but for its perceptual hash, which is made for a batch at once."""

    width: int
    height: int
    nbytes: int
    format: str
    content_hash: bytes


class _Memory(NamedTuple):
    """What one thread fills again with each batch.

    Attributes:
        pixels: ``(B, S, S, 3) uint8``, the engine's.
        thumbnails: ``(B, 32, 32, 3) uint8``.
    """

    pixels: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BatchProcessor:
    """Embeds a batch of records from first byte to row; called from several threads at once.

    Attributes:
        reader: Gives the encoded bytes.
        load: Decodes, scales and crops.
        engine: The backbone.
        dtype: ``float16`` or ``float32``, of the rows.
        normalize: Whether the rows get unit L2 norm.
    """

    reader: ImageReader
    load: ImageLoader
    engine: Engine
    dtype: str
    normalize: bool
    _own: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def __call__(self, records: Sequence[ImageRecord]) -> ShardPart:
        """Embeds at most ``engine.batch_size`` records.

        An image that can't be read, decoded or embedded becomes a failure; the others are
        embedded all the same.
        """
        memory = self._memory()
        kept: list[ImageRecord] = []
        found: list[_Found] = []
        failures: list[ImageFailure] = []
        skipped = 0
        for record in records:
            outcome = self._load(record, memory, len(kept))
            if isinstance(outcome, _Found):
                kept.append(record)
                found.append(outcome)
            elif isinstance(outcome, ImageFailure):
                failures.append(outcome)
            else:
                skipped += 1
        if not kept:
            return ShardPart(None, tuple(failures), skipped)
        hashes = perceptual_hashes(memory.thumbnails[: len(kept)])
        facts = [ImageFacts(*one, phash) for one, phash in zip(found, hashes, strict=True)]
        block, broken = self._rows(kept, facts, self.engine.embed(memory.pixels, len(kept)))
        if broken:
            place = {record.id: number for number, record in enumerate(records)}
            failures = sorted([*failures, *broken], key=lambda failure: place[failure.id])
        return ShardPart(block, tuple(failures), skipped)

    def _memory(self) -> _Memory:
        """The calling thread's own."""
        memory: _Memory | None = getattr(self._own, "memory", None)
        if memory is None:
            size = self.engine.batch_size
            thumbnails = np.empty((size, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
            memory = self._own.memory = _Memory(self.engine.new_buffer(), thumbnails)
        return memory

    def _load(
        self, record: ImageRecord, memory: _Memory, place: int
    ) -> _Found | ImageFailure | None:
        """Fills a place of the batch; None for a file that is no image at all."""
        nbytes = -1 if record.nbytes is None else record.nbytes
        try:
            if record.problem is not None:
                raise DecodeError(record.id, record.problem)
            if not has_image_name(record.id) and sniff_format(self.reader.peek(record)) is None:
                return None
            data = self.reader.read(record)
            nbytes = len(data)
            loaded = self.load(data, record.id)
        except DecodeError as exc:
            return ImageFailure(record.id, exc.reason, nbytes if exc.nbytes is None else exc.nbytes)
        memory.pixels[place] = loaded.pixels
        memory.thumbnails[place] = loaded.thumbnail
        digest = hashlib.sha256(data).digest()
        return _Found(loaded.width, loaded.height, nbytes, loaded.format, digest)

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
            return f"embedding too large for {self.dtype}: use --dtype float32"
        return "embedding is not finite"
