"""Triton kernels: YCbCr planes to RGB pixels, and RGB pixels scaled, each to the CPU's bits."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["scale_columns", "scale_rows", "to_rgb"]


@triton.jit
def to_rgb(
    planes, images, fields: tl.constexpr, rgb,
    across: tl.constexpr, down: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Upsample and convert blocks of pixels of images of one subsampling, and turn them upright.

    Args:
        planes: ``uint8``, all planes.
        images: ``(n, fields) int64``, see ``pixels.ImageTable``.
        fields: Columns of it.
        rgb: ``uint8``, all upright images, three values a pixel.
        across: log2 of the luma samples per chroma sample, horizontally.
        down: The same, vertically.
        rows: Rows of a block.
        columns: Columns of a block.

    Source: libjpeg-turbo's jdsample.c ("fancy" upsampling: the nearer sample counts three times
    the farther one) and jdcolor.c (fixed point of 16 bits).
    """
    image = images + tl.program_id(0) * fields
    width, height = tl.load(image + 2), tl.load(image + 3)
    y = (tl.program_id(1) * rows + tl.arange(0, rows))[:, None].to(tl.int64)
    x = (tl.program_id(2) * columns + tl.arange(0, columns))[None, :].to(tl.int64)
    inside = (y < height) & (x < width)
    luma = tl.load(planes + tl.load(image) + y * tl.load(image + 1) + x, mask=inside, other=0)
    pitch = tl.load(image + 6)
    last_x, last_y = (width - 1) >> across, (height - 1) >> down
    blue = planes + tl.load(image + 4)
    red = planes + tl.load(image + 5)
    cb = _upsampled(blue, pitch, x, y, last_x, last_y, inside, across, down) - 128
    cr = _upsampled(red, pitch, x, y, last_x, last_y, inside, across, down) - 128
    luma = luma.to(tl.int32)
    place = rgb + tl.load(image + 7) + x * tl.load(image + 8) + y * tl.load(image + 9)
    tl.store(place, _level(luma + ((91881 * cr + 32768) >> 16)), mask=inside)
    green = luma + ((32768 - 22554 * cb - 46802 * cr) >> 16)
    tl.store(place + 1, _level(green), mask=inside)
    tl.store(place + 2, _level(luma + ((116130 * cb + 32768) >> 16)), mask=inside)


@triton.jit
def _level(value):
    return tl.minimum(tl.maximum(value, 0), 255).to(tl.uint8)


@triton.jit
def _upsampled(
    plane, pitch, x, y, last_x, last_y, inside, across: tl.constexpr, down: tl.constexpr
):
    """The chroma at some pixels, ``int32``."""
    near_x, near_y = x >> across, y >> down
    other_x = tl.minimum(tl.maximum(near_x + 2 * (x & 1) - 1, 0), last_x)
    other_y = tl.minimum(tl.maximum(near_y + 2 * (y & 1) - 1, 0), last_y)
    odd = (x & 1).to(tl.int32)
    near = tl.load(plane + near_y * pitch + near_x, mask=inside, other=0).to(tl.int32)
    if down:
        other = tl.load(plane + other_y * pitch + near_x, mask=inside, other=0).to(tl.int32)
        far = tl.load(plane + near_y * pitch + other_x, mask=inside, other=0).to(tl.int32)
        corner = tl.load(plane + other_y * pitch + other_x, mask=inside, other=0).to(tl.int32)
        value = (9 * near + 3 * other + 3 * far + corner + 8 - odd) >> 4
    elif across:
        far = tl.load(plane + near_y * pitch + other_x, mask=inside, other=0).to(tl.int32)
        value = (3 * near + far + 1 + odd) >> 2
    else:
        value = near
    return value


@triton.jit(do_not_specialize=["reach"])
def scale_columns(
    rgb, images, fields: tl.constexpr, first_field: tl.constexpr, starts, weights, reach, bits,
    scaled, side: tl.constexpr, block: tl.constexpr, rows: tl.constexpr,
):  # fmt: skip
    """Scale blocks of rows of images to ``side`` columns.

    Args:
        rgb: ``uint8``, all upright images.
        images: ``(n, fields) int64``, see ``pixels.ImageTable``.
        fields: Columns of it.
        first_field: The column that says where the scaled rows of an image begin.
        starts: ``(n, side) int32``, the first pixel of each sum.
        weights: ``(n, reach, side) int32``.
        reach: The longest sum.
        bits: ``(n,) int32``, of the fixed point.
        scaled: ``uint8``, all scaled rows, ``side`` pixels each.
        side: Columns of the result.
        block: The next power of two.
        rows: Rows of a block.
    """
    number = tl.program_id(0).to(tl.int64)
    image = images + number * fields
    width, height = tl.load(image + 11), tl.load(image + 12)
    first = tl.program_id(1) * rows
    if first < height:
        y = (first + tl.arange(0, rows))[:, None].to(tl.int64)
        x = tl.arange(0, block)[None, :]
        start = tl.load(starts + number * side + x, mask=x < side, other=0)
        inside = (y < height) & (x < side)
        source = rgb + tl.load(image + 10) + (y * width + start) * 3
        red = tl.zeros((rows, block), tl.int32)
        green = tl.zeros((rows, block), tl.int32)
        blue = tl.zeros((rows, block), tl.int32)
        for k in range(reach):
            weight = tl.load(weights + (number * reach + k) * side + x, mask=x < side, other=0)
            used = inside & (weight != 0)
            red += weight * tl.load(source + 3 * k, mask=used, other=0).to(tl.int32)
            green += weight * tl.load(source + 3 * k + 1, mask=used, other=0).to(tl.int32)
            blue += weight * tl.load(source + 3 * k + 2, mask=used, other=0).to(tl.int32)
        shift = tl.load(bits + number)
        half = 1 << (shift - 1)
        place = scaled + tl.load(image + first_field) + (y * side + x) * 3
        tl.store(place, _level((red + half) >> shift), mask=inside)
        tl.store(place + 1, _level((green + half) >> shift), mask=inside)
        tl.store(place + 2, _level((blue + half) >> shift), mask=inside)


@triton.jit(do_not_specialize=["reach"])
def scale_rows(
    scaled, images, fields: tl.constexpr, first_field: tl.constexpr, starts, weights, reach, bits,
    result, side: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Scale what `scale_columns` gave to ``side`` rows; one row of the result each.

    Args:
        scaled: As there.
        images: As there.
        fields: As there.
        first_field: As there.
        starts: ``(n, side) int32``.
        weights: ``(n, reach, side) int32``.
        reach: The longest sum.
        bits: ``(n,) int32``.
        result: ``(n, side, side, 3) uint8``.
        side: Rows and columns of the result.
        block: At least the values of a row, a power of two.
    """
    number, y = tl.program_id(0).to(tl.int64), tl.program_id(1)
    image = images + number * fields
    value = tl.arange(0, block)
    inside = value < side * 3
    start = tl.load(starts + number * side + y)
    source = scaled + tl.load(image + first_field) + start.to(tl.int64) * (side * 3) + value
    total = tl.zeros((block,), tl.int32)
    for k in range(reach):
        weight = tl.load(weights + (number * reach + k) * side + y)
        level = tl.load(source + k * (side * 3), mask=inside & (weight != 0), other=0)
        total += weight * level.to(tl.int32)
    shift = tl.load(bits + number)
    place = result + (number * side + y) * (side * 3) + value
    tl.store(place, _level((total + (1 << (shift - 1))) >> shift), mask=inside)
