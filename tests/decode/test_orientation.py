"""Orientation beside Pillow's own `exif_transpose`, over formats and ways to state it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image, ImageOps

from embedkit.decode.exact import decode_image
from embedkit.decode.fast import decode_jpeg
from embedkit.decode.policy import DecodePolicy

PHOTO = draw_photo(7, (40, 24))
PREFIX = b"Exif\0\0"
FORMATS = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "AVIF": {}}
_SHORT_AS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}


def exif(value: int, kind: int = 3, order: str = "<", count: int = 1) -> bytes:
    """An EXIF block of one entry, the orientation, as a number of any type."""
    form = order + _SHORT_AS[kind] * count
    raw = struct.pack(form, *[value] * count)
    place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", 26)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entry = struct.pack(order + "HHHI", 1, 0x0112, kind, count) + place
    return head + entry + bytes(4) + (raw if len(raw) > 4 else b"")


def xmp(value: int) -> bytes:
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % value


def with_exif(kind: str, block: bytes, packet: bytes = b"") -> bytes:
    """A file with this block as it is, prefix and all."""
    plain = encode(PHOTO, kind, **FORMATS[kind])
    if kind == "JPEG":
        parts = [block] * bool(block) + [b"http://ns.adobe.com/xap/1.0/\0" + packet] * bool(packet)
        segments = [b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts]
        return plain[:2] + b"".join(segments) + plain[2:]
    return encode(PHOTO, kind, **FORMATS[kind], exif=block, **({"xmp": packet} if packet else {}))


def pillows(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def assert_as_pillow(data: bytes) -> tuple[int, int]:
    expected = pillows(data)
    found = decode_image(data, "x").image
    assert found.size == expected.size
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    fast = decode_jpeg(data, "x", DecodePolicy())
    assert fast is None or fast.shape[1::-1] == expected.size
    assert fast is None or np.abs(fast.astype(int) - np.asarray(expected)).max() <= 1
    return found.size


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", range(10))
def test_prefixes_and_byte_orders(kind: str, value: int) -> None:
    for prefixes in (1,) if kind == "AVIF" else (1, 2):
        for order in "<>":
            size = assert_as_pillow(with_exif(kind, PREFIX * prefixes + exif(value, order=order)))
            turned = 5 <= value <= 8
            # AVIF is turned by boxes of its own, which say more than EXIF.
            assert kind == "AVIF" or size == ((24, 40) if turned else (40, 24))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("typ", _SHORT_AS)
def test_numbers_of_every_type(kind: str, typ: int) -> None:
    for value, order, count in ((6, "<", 1), (6, ">", 1), (3, "<", 2), (8, "<", 0)):
        assert_as_pillow(with_exif(kind, PREFIX + exif(value, typ, order, count)))
    if typ in (8, 9):
        assert assert_as_pillow(with_exif(kind, PREFIX + exif(6, typ))) == (24, 40)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", range(1, 9))
def test_xmp_counts_where_exif_states_nothing(kind: str, value: int) -> None:
    assert_as_pillow(with_exif(kind, b"", xmp(value)))
    both = with_exif(kind, PREFIX + exif(3), xmp(value))
    assert_as_pillow(both)
    if kind == "AVIF":
        data = with_exif(kind, b"", xmp(value))
        assert decode_image(data, "x").image.size == ((24, 40) if value > 4 else (40, 24))


def test_exif_in_the_text_of_a_png() -> None:
    from PIL import PngImagePlugin

    block = (PREFIX + exif(6)).hex()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block) // 2:8}\n{block}\n")
    data = encode(PHOTO, "PNG", pnginfo=info)
    assert assert_as_pillow(data) == (24, 40)


@pytest.mark.parametrize(
    "block",
    [
        exif(6)[:14], exif(6)[:4] + b"\xff\xff\xff\xff" + exif(6)[8:], b"garbage", b"II*\0",
        exif(6)[:8] + b"\2\0" + exif(3)[10:22] + exif(6)[10:22],
        exif(6)[:8] + b"\xff\xff" + exif(6)[10:],
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_blocks(kind: str, block: bytes) -> None:
    """As Pillow, and no turn where Pillow itself gives up."""
    data = with_exif(kind, PREFIX + block)
    try:
        pillows(data)
    except Exception:
        assert decode_image(data, "x").image.size == (40, 24)
    else:
        assert_as_pillow(data)
