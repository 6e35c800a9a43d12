"""Decoding by the GPU's JPEG engines: rates, and whether each photo gets the processor's bits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from support.timing import rate

from gpu_check.steps.rates import load, loader_of

if TYPE_CHECKING:
    from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
    from gpu_check.context import Context

_BATCH = 256
_CALLERS = (1, 2, 3)


def run(context: Context) -> None:
    from embedkit.decode.gpu_jpeg.decoder import open_gpu_jpeg_decoder
    from embedkit.decode.gpu_jpeg.encoded import SUBSAMPLING, is_whole

    load_image = loader_of(load(context.sizes.networks[0]))
    memory, jpegs = encoded(context)
    kinds = [jpeg[4:6] for jpeg in jpegs]
    counts = ", ".join(f"{kinds.count(one)} of {name}" for name, one in SUBSAMPLING.items())
    context.report(f"{len(jpegs)} of {len(context.photos)} photos are for the GPU: {counts}")
    data = [memory[one.offset : one.offset + one.length].tobytes() for one in jpegs]
    checks = rate(is_whole, data, 1, seconds=context.sizes.seconds)
    whole = rate(lambda one: load_image(one, "photo"), data, 1, seconds=context.sizes.seconds)
    context.report(f"one core: {checks:,.0f} checks/s, {whole:,.0f} decoded images/s")
    decoder = open_gpu_jpeg_decoder(context.device, load_image)
    if decoder is None:
        if context.on_gpu:
            sys.exit("the GPU decodes no JPEGs, or to other pixels")
        return
    side = load_image.preprocessing.crop
    pixels = np.empty((len(jpegs), side, side, 3), np.uint8)
    small = decoder(jpegs, memory, pixels)
    loaded = [load_image(one, "photo") for one in data]
    same = sum(
        np.array_equal(one.pixels, pixels[place]) and np.array_equal(one.thumbnail, small[place])
        for place, one in enumerate(loaded)
    )
    context.report(f"{same} of {len(jpegs)} photos get the processor's bits", same=same)
    for callers in _CALLERS:
        batches = [
            [jpegs[(number + start) % len(jpegs)] for number in range(_BATCH)]
            for start in range(0, 32 * callers, 16)
        ]
        calls = rate(
            lambda batch: decoder(batch, memory, np.empty((_BATCH, side, side, 3), np.uint8)),
            batches,
            callers,
            seconds=context.sizes.seconds,
        )
        context.report(
            f"batches of {_BATCH}, {callers} callers: {_BATCH * calls:,.0f} images/s",
            **{f"rate.{callers}": _BATCH * calls},
        )
    decoder.close()
    if same < len(jpegs):
        sys.exit("the GPU gives other pixels")


def encoded(context: Context) -> tuple[np.ndarray, list[EncodedJpeg]]:
    """The photos that the GPU may decode, one after the other in memory."""
    from embedkit.decode.gpu_jpeg.encoded import is_whole, read_encoded
    from embedkit.decode.policy import DecodePolicy
    from embedkit.errors import DecodeError

    found, parts, at = [], [], 0
    for path in context.photos:
        data = path.read_bytes()
        try:
            jpeg = read_encoded(data, str(path), DecodePolicy())
        except DecodeError:
            continue
        if jpeg is not None and is_whole(data):
            found.append(jpeg._replace(offset=at))
            parts.append(data)
            at += len(data)
    return np.frombuffer(b"".join(parts), np.uint8), found
