"""Embeds images that are at hand into an array; ``extract`` is for corpora."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.resize import Scaler
from embedkit.engines import open_engine, usable_cores
from embedkit.errors import DecodeError
from embedkit.extraction.batch_processor import BatchProcessor, in_order
from embedkit.extraction.config import ExtractConfig
from embedkit.extraction.image_inputs import one_or_many, record_of
from embedkit.extraction.job import load_chosen
from embedkit.sources import ImageReader
from embedkit.sources.shard_plan import storable
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.backbones import Backbone
    from embedkit.backbones.pooling import Pooling
    from embedkit.decode.image_loader import Decoder
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.engines import EngineName
    from embedkit.extraction.image_inputs import ImageLike
    from embedkit.store.shard_builder import ShardPart
    from embedkit.utils.progress import ProgressCallback

__all__ = ["embed"]


@plain_numbers
def embed(
    images: ImageLike | Iterable[ImageLike],
    backbone: str | Backbone = "resnet50_swsl",
    *,
    engine: EngineName = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    normalize: bool = False,
    decoder: Decoder = "fast",
    policy: DecodePolicy | None = None,
    weights: str | os.PathLike[str] = "auto",
    seed: int = 0,
    pooling: Pooling = "avg",
    gem_p: float = 3.0,
    layers: Sequence[str] = (),
    flip: bool = False,
    input_size: int | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    progress: bool | ProgressCallback = False,
) -> NDArray[np.float32]:
    """Embeds images into an array, without a store.

    A file gets the embedding that ``extract`` gives it with the same settings. An image that can't
    be embedded is an error; ``extract`` records it and continues.

    Args:
        images: One image or an iterable of them, also mixed: paths and URLs, encoded bytes, PIL
            images, arrays ``(H, W, 3)`` uint8 in RGB. An array ``(N, H, W, 3)`` is N images.
        backbone: A name (``resnet50_swsl``, ``timm:…``), or a loaded backbone, which is faster
            for several calls.
        engine: As ``extract``'s.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images per batch; None chooses by device.
        workers: Number of threads that decode and embed; None is one per core.
        normalize: Whether to L2-normalise the embeddings.
        decoder: As ``extract``'s. PIL images and arrays are scaled exactly.
        policy: Decoding limits and background; None is the default policy.
        weights: For a backbone given by its name, as the next seven: as ``load_backbone``'s.
        seed: As ``load_backbone``'s.
        pooling: As ``load_backbone``'s.
        gem_p: As ``load_backbone``'s.
        layers: As ``load_backbone``'s.
        flip: As ``load_backbone``'s.
        input_size: As ``load_backbone``'s.
        preprocessing: As ``load_backbone``'s.
        progress: True shows a bar; a function is called with each `Progress`.

    Returns:
        ``(N, D)`` float32, in the order of the images.

    Raises:
        DecodeError: An image can't be read or decoded; it names the path, or the position as
            ``image 3`` (counted from 0).
        BackboneError: The backbone or its weights aren't available.
        ValueError: An image is of another type, or an argument is out of its range.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    config = ExtractConfig.of(
        backbone=backbone, decoder=decoder, policy=policy, weights=weights, seed=seed,
        pooling=pooling, gem_p=gem_p, layers=layers, flip=flip, input_size=input_size,
        preprocessing=preprocessing,
    )  # fmt: skip
    rows: list[NDArray[np.float32]] = []
    with reporting(progress), ExitStack() as stack:
        loaded, limits = load_chosen(config), config.policy
        scale = stack.enter_context(Scaler())
        reader = stack.enter_context(ImageReader(max_bytes=limits.max_bytes))
        opened = stack.enter_context(
            open_engine(loaded, engine=engine, device=device, batch_size=batch_size)
        )
        load = ImageLoader(limits, loaded.preprocessing, decoder, scale)
        process = BatchProcessor(reader, load, opened, "float32", normalize)
        given = enumerate(one_or_many(images))
        records = (storable(record_of(one, number, limits)) for number, one in given)
        batches = iter(lambda: list(islice(records, opened.batch_size)), [])
        done = in_order(process, batches, workers or usable_cores() + opened.in_flight)
        with closing(done) as parts:
            counted = track(parts, "embedding", unit="images", size=lambda part: len(part[0]))
            rows += (_rows(part) for _, part in counted)
    return np.concatenate([np.empty((0, loaded.feature_dim), np.float32), *rows])


def _rows(part: ShardPart) -> NDArray[Any]:
    """The rows of one batch.

    Raises:
        DecodeError: An image isn't among them.
    """
    for failure in part.failures:
        raise DecodeError(failure.id, failure.reason, nbytes=failure.nbytes)
    assert part.rows is not None  # a batch has an image, and none is skipped
    return part.rows.embeddings
