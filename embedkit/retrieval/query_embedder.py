"""Embeds query images with the backbone, preprocessing and decoding of an index."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Protocol, Self

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.resize import Scaler
from embedkit.engines import open_engine, usable_cores
from embedkit.errors import (
    IndexFileError,
    IndexMismatchError,
    StoreFormatError,
    StoreMismatchError,
)
from embedkit.extraction.batch_processor import BatchProcessor, in_order
from embedkit.extraction.source_images import policy_of
from embedkit.sources import ImageReader
from embedkit.sources.shard_plan import storable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.engines import Engine, EngineName
    from embedkit.store import StoreMeta
    from embedkit.store.shard_builder import ShardPart
    from embedkit.types import ImageRecord

__all__ = ["EmbedderConfig", "QueryEmbedder", "QueryTarget"]

_log = logging.getLogger("embedkit")


class QueryTarget(Protocol):
    """An index or a probe that queries are embedded for."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def meta(self) -> StoreMeta:
        """How its own images were embedded."""

    def check_compatible(self, meta: StoreMeta) -> None:
        """Refuses queries that were embedded with other settings."""


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """How query images are embedded; the settings that decide the embeddings are the index's.

    Attributes:
        weights: ``auto`` (where the index's are published), or a file.
        engine: ``auto``, ``openvino``, ``torch`` or ``torch-compiled``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images per batch; None takes the index's on a CPU, which gives the same bits.
        workers: Number of threads; None is one per core.

    Raises:
        ValueError: ``workers`` is less than 1.
    """

    weights: str | os.PathLike[str] = "auto"
    engine: EngineName = "auto"
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")


class QueryEmbedder:
    """Embeds images with the backbone, preprocessing and decoding that an index names.

    The backbone is loaded for the first image. Use it as a context manager, or ``close`` it.

    Args:
        index: The index.
        config: See ``EmbedderConfig``.
        images: How many are expected; for many, libraries are loaded that pay only then.
    """

    def __init__(self, index: QueryTarget, config: EmbedderConfig, *, images: int = 0) -> None:
        self._index = index
        self._images = images
        self._config = config
        self._workers = config.workers or usable_cores()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the engine, if one was opened."""
        self._stack.close()

    def embed(self, records: Iterable[ImageRecord]) -> Iterator[ShardPart]:
        """Embeds images, one batch at a time, in order.

        Raises:
            BackboneError: The index's backbone or its weights aren't available.
            IndexMismatchError: The weights here aren't those of the index.
        """
        images = map(storable, records)
        batches = iter(lambda: list(islice(images, self._processor.engine.batch_size)), [])
        with closing(in_order(self._processor, batches, self._workers)) as results:
            for _, part in results:
                yield part

    @property
    def batch_size(self) -> int:
        """Images per batch; loads the backbone.

        Raises:
            BackboneError: The index's backbone or its weights aren't available.
            IndexMismatchError: The weights here aren't those of the index.
        """
        return self._processor.engine.batch_size

    @property
    def threads(self) -> int:
        """Threads that keep the engine busy if each calls ``embed_batch``."""
        return self._workers + self._processor.engine.in_flight

    def embed_batch(self, records: Sequence[ImageRecord]) -> ShardPart:
        """Embeds up to ``batch_size`` images in the calling thread; safe from several threads.

        ``batch_size`` must have been read before, which loads the backbone.
        """
        return self._processor(records)

    @cached_property
    def _processor(self) -> BatchProcessor:
        meta = self._index.meta
        with _as_index_errors(self._index):
            policy = policy_of(meta)
            if (decoder := meta.decode.get("decoder")) is None:
                raise StoreFormatError("the images' decoder is one that this embedkit doesn't know")
        backbone = self._load_backbone()
        _log.debug("queries are embedded with %s (%s)", meta.backbone, backbone.weights)
        scale = self._stack.enter_context(Scaler(self._images))
        loader = ImageLoader(policy, backbone.preprocessing, decoder, scale)
        reader = self._stack.enter_context(ImageReader(max_bytes=policy.max_bytes))
        engine = self._stack.enter_context(_engine_of(meta, backbone, self._config))
        return BatchProcessor(reader, loader, engine, meta.dtype, meta.normalized)

    def _load_backbone(self) -> Backbone:
        """Loads the backbone that the index names, and refuses other weights than its own."""
        from embedkit.extraction.store_settings import backbone_of

        index = self._index
        with _as_index_errors(index):
            backbone = backbone_of(index.meta, self._config.weights)
        # The backbone was loaded by the index's settings; this finds a version that reads them
        # differently.
        loaded = backbone.to_config()
        index.check_compatible(
            replace(
                index.meta,
                preprocessing=loaded["preprocessing"],
                pooling={key: loaded[key] for key in index.meta.pooling},
                feature_dim=backbone.feature_dim,
            )
        )
        return backbone


@contextmanager
def _as_index_errors(index: QueryTarget) -> Iterator[None]:
    """Maps the errors about a store's settings and weights to those of an index."""
    try:
        yield
    except StoreFormatError as exc:
        raise IndexFileError(
            f"{index.path}: {exc}: embed the queries with the version that made it, and search "
            "with their store"
        ) from exc
    except StoreMismatchError as exc:
        (name, other_name), (digest, other_digest) = exc.differences.values()
        raise IndexMismatchError(
            f"{index.path}: was embedded with other weights of {index.meta.backbone} ({name}, "
            f"fingerprint {str(digest)[:12]}…) than those found here ({other_name}, "
            f"{str(other_digest)[:12]}…): pass the file by weights=FILE"
        ) from exc


def _engine_of(meta: StoreMeta, backbone: Backbone, config: EmbedderConfig) -> Engine:
    device, batch_size = config.device, config.batch_size
    # The same shape takes the same kernels, so that an image gets the bits that its row has. A
    # GPU's large batches would take a CPU far too long for one query.
    if batch_size is None and meta.engine.get("device") == "cpu" and device in {"auto", "cpu"}:
        batch_size = meta.engine.get("batch_size")
    return open_engine(backbone, engine=config.engine, device=device, batch_size=batch_size)
