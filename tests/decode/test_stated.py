"""What a file states, beside how it was written, and through damage."""

import calendar
import io

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image

from embedkit.decode.sniff import sniff_format
from embedkit.decode.stated import UNKNOWN, stated

TIME = "2021:03:04 05:06:07"
SECONDS = calendar.timegm((2021, 3, 4, 5, 6, 7))


def read(data):
    return stated(data, sniff_format(data))


def exif(make="ACME", model="Model 1", original=TIME):
    block = Image.Exif()
    block[0x010F], block[0x0110] = make, model
    if original:
        block.get_ifd(0x8769)[0x9003] = original
    return block


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_camera_and_capture_time(kind):
    data = encode(draw_photo(1, (40, 30)), kind, exif=exif())
    found = read(data)
    seconds = -1 if kind == "TIFF" else SECONDS  # Pillow writes no such part of a TIFF
    assert (found.captured, found.camera) == (seconds, "ACME Model 1")
    assert (found.alpha, found.bits) == (0, 8)
    assert read(encode(draw_photo(1, (40, 30)), kind)) == (0, 8, -1, "")


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("", "Model", "Model"),
        ("Maker", "", "Maker"),
        ("a\x07b", "Mark\nII", "a b Mark II"),
    ],
)
def test_names_of_cameras(make, model, camera):
    data = encode(draw_photo(1, (40, 30)), "JPEG", exif=exif(make, model, ""))
    assert read(data) == (0, 8, -1, camera)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "yesterday", "1955:01:01 00:00:00", " "])
def test_no_time(text):
    data = encode(draw_photo(1, (40, 30)), "JPEG", exif=exif(original=text))
    assert read(data).captured == -1


@pytest.mark.parametrize(
    ("mode", "kind", "alpha", "bits"),
    [
        ("RGBA", "PNG", 1, 8), ("LA", "PNG", 1, 8), ("P", "PNG", 0, 8), ("1", "PNG", 0, 1),
        ("I;16", "PNG", 0, 16), ("RGBA", "WEBP", 1, 8), ("RGBA", "TIFF", 1, 8),
        ("I;16", "TIFF", 0, 16), ("1", "TIFF", 0, 1), ("P", "GIF", 0, 8), ("RGB", "BMP", 0, 8),
        ("RGBA", "BMP", -1, 8), ("L", "JPEG", 0, 8), ("CMYK", "JPEG", 0, 8),
    ],
)  # fmt: skip
def test_alpha_and_bits(mode, kind, alpha, bits):
    if mode == "I;16":
        image = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40))
    else:
        image = draw_photo(1, (40, 30)).convert(mode)
    if mode == "RGBA":
        image.putalpha(77)
    assert read(encode(image, kind))[:2] == (alpha, bits)


def test_transparency_without_an_alpha_channel():
    image = draw_photo(1, (40, 30)).quantize(16)
    assert read(encode(image, "GIF", transparency=3)).alpha == 1
    assert read(encode(image, "PNG", transparency=3)).alpha == 1
    out = io.BytesIO()
    draw_photo(1, (40, 30)).convert("RGBA").save(out, "WEBP", lossless=True)
    assert read(out.getvalue())[:2] == (0, 8)  # a lossless file with no transparent pixel


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damage_never_raises(kind):
    settings = {"exif": exif()} if kind not in {"GIF", "BMP"} else {}
    data = encode(draw_photo(1, (40, 30)), kind, **settings)
    rng = np.random.default_rng(0)
    for end in range(0, min(len(data), 400), 3):
        stated(data[:end], kind)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 300), 4):
            broken[at] = rng.integers(256)
        stated(bytes(broken), kind)


def test_other_formats_are_unknown():
    assert stated(b"x", "AVIF") == UNKNOWN == (-1, -1, -1, "")
