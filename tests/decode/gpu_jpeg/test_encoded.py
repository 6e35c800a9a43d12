"""Which JPEGs are left to a GPU."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from images import draw_photo, encode
from PIL import Image, ImageCms

from embedkit.decode import exact
from embedkit.decode.gpu_jpeg import encoded
from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg, is_whole, read_encoded
from embedkit.decode.policy import DecodePolicy

SIZE = (120, 90)


def described(data: bytes) -> EncodedJpeg | None:
    return read_encoded(data, "one.jpg", DecodePolicy())


def drawn(size=SIZE, **options) -> bytes:
    return encode(draw_photo(1, size), "JPEG", **options)


@pytest.mark.parametrize(("name", "steps"), [("444", (0, 0)), ("422", (1, 0)), ("420", (1, 1))])
def test_ordinary_ones(name, steps):
    data = simplejpeg.encode_jpeg(np.array(draw_photo(1, SIZE)), 85, "RGB", name)
    assert described(data) == (0, len(data), *SIZE, *steps, 1)


def test_the_orientation_is_kept():
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = described(drawn(exif=exif))
    assert jpeg.orientation == 6
    assert jpeg.upright_size == (90, 120)


@pytest.mark.parametrize(
    "options",
    [{"progressive": True}, {"size": (31, 90)}, {"size": (400, 90)}],
    ids=["progressive", "tiny", "narrow"],
)
def test_others(options):
    assert described(drawn(**options)) is None


@pytest.mark.parametrize("name", ["440", "411", "Gray"])
def test_other_subsamplings(name):
    photo = np.array(draw_photo(1, SIZE))
    if name == "Gray":
        data = simplejpeg.encode_jpeg(photo[:, :, :1].copy(), 85, "GRAY", "Gray")
    else:
        data = simplejpeg.encode_jpeg(photo, 85, "RGB", name)
    assert described(data) is None


def test_colors_that_are_not_srgb(monkeypatch):
    data = drawn()
    header = exact.read_jpeg_header(data, "one.jpg", DecodePolicy())
    assert described(data) is not None
    other = replace(header, to_srgb=ImageCms.ImageCmsTransform)
    monkeypatch.setattr(encoded, "read_jpeg_header", lambda *_: other)
    assert described(data) is None


def test_damage_is_found_where_full_decoding_finds_it():
    rng = np.random.default_rng(0)
    whole = drawn(quality=90)
    assert is_whole(whole)
    refused = 0
    for _ in range(120):
        data = bytearray(whole)
        at = int(rng.integers(700, len(data)))
        if rng.random() < 0.3:
            del data[at:]
        else:
            data[at] ^= 1 << int(rng.integers(8))
        try:
            simplejpeg.decode_jpeg(bytes(data), "RGB", strict=True)
        except ValueError:
            refused += 1
            assert not is_whole(bytes(data))
        else:
            assert is_whole(bytes(data))
    assert 20 < refused < 110


def test_a_truncated_stream_of_one_scan_is_one():
    data = io.BytesIO(drawn()).getvalue()
    assert described(data[:-2]) is not None  # its header is whole: the check finds it
    assert not is_whole(data[:-2])
