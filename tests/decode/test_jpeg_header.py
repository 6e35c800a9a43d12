"""The quick reading of a JPEG's header: what Pillow reads, or nothing."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin

from embedkit.decode.jpeg_header import scan_jpeg

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def segment(marker, payload):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(data, *segments):
    return data[:2] + b"".join(segments) + data[2:]


class PillowFile(JpegImagePlugin.JpegImageFile):
    """Pillow's, but for the resolution in the EXIF, about which it warns and which isn't needed."""

    def _read_dpi_from_exif(self):
        pass


def pillow(data):
    """What Pillow reads: size, mode, EXIF, profile; None where it refuses the file."""
    try:
        image = PillowFile(io.BytesIO(data))
    except Exception:
        return None
    info = image.info
    return image.size, image.mode, info.get("exif", b""), info.get("icc_profile")


def found(data):
    parts = scan_jpeg(data)
    return None if parts is None else (parts.size, "RGB", parts.exif, parts.profile)


@pytest.fixture(scope="module")
def photo():
    return encode(draw_photo(3, (70, 50)), "JPEG")


def exif():
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    return tags.tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"quality": 100, "subsampling": 0},
        {"exif": exif()},
        {"icc_profile": SRGB},
        {"exif": exif(), "icc_profile": SRGB, "comment": b"hello", "dpi": (72, 72)},
        {"icc_profile": SRGB + bytes(100_000)},
        {"restart_marker_blocks": 2},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_ordinary_headers_are_read_as_pillow_does(options):
    data = encode(draw_photo(1, (61, 43)), "JPEG", **options)
    assert found(data) == pillow(data)
    assert found(data) is not None


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_components_are_left_to_pillow(mode):
    assert scan_jpeg(encode(draw_photo(1, (61, 43)).convert(mode), "JPEG")) is None


def test_every_cut_is_left_to_pillow(photo):
    scan = photo.index(b"\xff\xda")
    for length in range(3, scan):
        assert scan_jpeg(photo[:length]) is None


def test_doubtful_segments_are_left_to_pillow(photo):
    icc, jfif = b"ICC_PROFILE\0", b"JFIF\0\1\1"
    for doubtful in (
        segment(0xE1, b"Exif\0\0one") + segment(0xE1, b"Exif\0\0two"),
        segment(0xE2, icc + b"\1"),
        segment(0xE0, jfif[:6]),
        segment(0xEE, b"Adobe"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"),
        segment(0xDB, bytes(64)),
        segment(0xC3, bytes(15)),
        b"\0" + segment(0xE0, jfif),
        b"\xff" + segment(0xE0, jfif),
    ):
        assert scan_jpeg(with_segments(photo, doubtful)) is None


def test_profiles_in_pieces(photo):
    pieces = [b"ICC_PROFILE\0" + bytes([n, 3]) + bytes([n]) * 5 for n in (3, 1, 2)]
    data = with_segments(photo, *(segment(0xE2, piece) for piece in pieces))
    assert found(data) == pillow(data)
    assert found(data)[3] == b"\1" * 5 + b"\2" * 5 + b"\3" * 5
    data = with_segments(photo, *(segment(0xE2, piece) for piece in pieces[:2]))
    assert found(data) == pillow(data)
    assert found(data)[3] is None


def test_damaged_headers_are_read_as_pillow_does_or_not_at_all():
    rng = np.random.default_rng(0)
    options = {"exif": exif(), "icc_profile": SRGB[:300], "comment": b"hello"}
    whole = np.frombuffer(encode(draw_photo(2, (61, 43)), "JPEG", **options), np.uint8)
    scan = whole.tobytes().index(b"\xff\xda")
    read = 0
    for _ in range(6000):
        data = whole.copy()
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(3, scan + 12)] = rng.choice([0, 1, 2, 0x41, 0xC0, 0xE1, 0xFF])
        parts = found(data.tobytes())
        if parts is not None:
            assert parts == pillow(data.tobytes())
            read += 1
    assert 3000 < read < 5900
