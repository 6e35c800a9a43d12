"""Embedding queries as the images of an index were embedded."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.decode.resize import Scaler
from embedkit.engines import open_engine, usable_cores
from embedkit.errors import IndexFileError, IndexMismatchError
from embedkit.extraction.batch_processor import BatchProcessor, in_order
from embedkit.sources import ImageReader
from embedkit.sources.shard_plan import storable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.engines import Engine, EngineName
    from embedkit.store import StoreMeta
    from embedkit.store.shard_builder import ShardPart
    from embedkit.types import ImageRecord

__all__ = ["EmbedderOptions", "QueryEmbedder", "QueryTarget"]

_log = logging.getLogger("embedkit")


class QueryTarget(Protocol):
    """What queries are embedded for: an index, or a probe."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def meta(self) -> StoreMeta:
        """How its own images were embedded."""

    def check_compatible(self, meta: StoreMeta) -> None:
        """Refuses queries that were embedded otherwise."""


class EmbedderOptions(TypedDict, total=False):
    """How queries that are images are embedded; what decides their rows is the index's.

    Attributes:
        weights: ``auto`` (where the index's are published), or a file.
        engine: ``auto``, ``openvino``, ``torch`` or ``torch-compiled``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images a batch; None is the index's own on a CPU, which gives the same bits.
        workers: Threads; None is one a core.
        on_download: Called with file name, bytes here, bytes in all.
    """

    weights: str | os.PathLike[str]
    engine: EngineName
    device: str
    batch_size: int | None
    workers: int | None
    on_download: Callable[[str, int, int | None], None] | None


class QueryEmbedder:
    """Embeds images with the backbone, preprocessing and decoding that an index names.

    The backbone is loaded for the first image. Use it as a context manager, or ``close`` it.

    Args:
        index: The index.
        options: See ``EmbedderOptions``.

    Raises:
        ValueError: ``workers`` is less than 1.
    """

    def __init__(self, index: QueryTarget, options: EmbedderOptions) -> None:
        self._index = index
        self._options = options
        self._workers = options.get("workers") or usable_cores()
        if self._workers < 1 or options.get("workers") == 0:
            raise ValueError(f"workers must be at least 1, not {options.get('workers')}")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the engine, if one was opened."""
        self._stack.close()

    def embed(self, records: Iterable[ImageRecord]) -> Iterator[ShardPart]:
        """Embeds images, a batch at a time, in their order.

        Raises:
            BackboneError: The index's backbone or its weights can't be had.
            IndexMismatchError: The weights here aren't those of the index.
        """
        wanted = (storable(record) for record in records if not record.sidecar)
        batches = iter(lambda: list(islice(wanted, self._processor.engine.batch_size)), [])
        with closing(in_order(self._processor, batches, self._workers)) as results:
            for _, part in results:
                yield part

    @cached_property
    def _processor(self) -> BatchProcessor:
        meta, policy = self._index.meta, _policy_of(self._index)
        with _known_settings(self._index):
            decoder = meta.decode["decoder"]
        backbone = _backbone_of(self._index, self._options)
        _log.debug("queries are embedded with %s (%s)", meta.backbone, backbone.weights)
        scale = self._stack.enter_context(Scaler())
        loader = ImageLoader(policy, backbone.preprocessing, decoder, scale)
        reader = self._stack.enter_context(ImageReader(max_bytes=policy.max_bytes))
        engine = self._stack.enter_context(_engine_of(meta, backbone, self._options))
        return BatchProcessor(reader, loader, engine, meta.dtype, meta.normalized)


def _policy_of(index: QueryTarget) -> DecodePolicy:
    """The decoding limits and background that the images of an index were decoded with.

    Raises:
        IndexFileError: They have a setting that this version doesn't know.
    """
    settings = {name: value for name, value in index.meta.decode.items() if name != "decoder"}
    with _known_settings(index):
        return DecodePolicy.from_config(settings)


@contextmanager
def _known_settings(index: QueryTarget) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, KeyError) as exc:
        raise IndexFileError(
            f"{index.path}: was embedded with settings that this embedkit doesn't know ({exc}): "
            "embed the queries with the version that made it, and search with their store"
        ) from exc


def _pooling_of(index: QueryTarget) -> dict[str, Any]:
    """The keyword arguments of ``load_backbone`` that say how features are pooled."""
    pooling = dict(index.meta.pooling)
    with _known_settings(index):
        settings = {name: pooling.pop(name) for name in ("pooling", "gem_p", "layers", "flip")}
        if pooling:
            raise KeyError(*pooling)
    return {name: value for name, value in settings.items() if value is not None}


def _backbone_of(index: QueryTarget, options: EmbedderOptions) -> Backbone:
    """Loads the backbone that the index names, and refuses all but its weights."""
    from embedkit.backbones import load_backbone

    meta, weights = index.meta, options.get("weights", "auto")
    settings = _pooling_of(index)
    with _known_settings(index):
        preprocessing = Preprocessing.from_config(meta.preprocessing)
    kind, _, seed = meta.weights.partition(":")
    if weights == "auto" and kind == "random":
        weights, settings["seed"] = "random", int(seed)
    backbone = load_backbone(
        meta.backbone,
        weights=weights,
        preprocessing=preprocessing,
        on_download=options.get("on_download"),
        **settings,
    )
    if backbone.fingerprint != meta.weights_fingerprint:
        raise IndexMismatchError(
            f"{index.path}: was embedded with other weights of {meta.backbone} ({meta.weights}, "
            f"fingerprint {meta.weights_fingerprint[:12]}…) than those found here "
            f"({backbone.weights}, {backbone.fingerprint[:12]}…): pass the file by --weights FILE"
        )
    # What was asked for is what the index says; this catches a version that means another thing.
    made = backbone.to_config()
    index.check_compatible(
        replace(
            meta,
            preprocessing=made["preprocessing"],
            pooling={key: made[key] for key in meta.pooling},
            feature_dim=backbone.feature_dim,
        )
    )
    return backbone


def _engine_of(meta: StoreMeta, backbone: Backbone, options: EmbedderOptions) -> Engine:
    device, batch_size = options.get("device", "auto"), options.get("batch_size")
    # The same shape takes the same kernels, so that an image gets the bits that its row has. A
    # GPU's large batches would take a CPU far too long for one query.
    if batch_size is None and meta.engine.get("device") == "cpu" and device in {"auto", "cpu"}:
        batch_size = meta.engine.get("batch_size")
    return open_engine(
        backbone, engine=options.get("engine", "auto"), device=device, batch_size=batch_size
    )
