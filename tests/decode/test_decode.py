"""What a decoded pixel is: every expected value here was worked out by hand."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image, ImageCms, ImageFile

from embedkit.decode.exact import decode_image
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.sniff import sniff_format
from embedkit.errors import DecodeError
from embedkit.sources.image_suffixes import has_image_name

if TYPE_CHECKING:
    from pathlib import Path

pillow_heif = pytest.importorskip("pillow_heif")

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def pixels(data: bytes, **policy) -> list:
    """Rows of RGB lists."""
    decoded = decode_image(data, "x", DecodePolicy(**policy))
    assert decoded.image.mode == "RGB"
    assert decoded.image.info == {}
    return np.asarray(decoded.image).tolist()


def reason(data: bytes, **policy) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_image(data, "folder/x.jpg", DecodePolicy(**policy))
    assert caught.value.image_id == "folder/x.jpg"
    assert_is_clean(caught.value.reason)
    return caught.value.reason


def assert_is_clean(text: str) -> None:
    assert 0 < len(text) <= 200
    assert text.isprintable()
    assert " at 0x" not in text


def png(width: int, height: int, depth: int, color: int, rows: bytes, *chunks: tuple) -> bytes:
    """A PNG from its raw rows (filter bytes included) and extra (type, content) chunks."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def heif(image: Image.Image, **opts) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **opts)
    return buffer.getvalue()


def profile(space: str) -> bytes:
    """A profile that differs from sRGB, small: the parts of an ICC v2 file written out."""
    primaries = {"rXYZ": (0.2, 0.3, 0.1), "gXYZ": (0.7, 0.6, 0.1), "bXYZ": (0.06, 0.1, 0.62)}
    s15 = lambda *values: b"".join(struct.pack(">i", round(v * 65536)) for v in values)  # noqa: E731
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256)  # gamma 1.0
    tags = {"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1.0, 0.8249)}
    if space == "GRAY":
        tags["kTRC"] = curve
    else:
        tags |= {name: b"XYZ \0\0\0\0" + s15(*xyz) for name, xyz in primaries.items()}
        tags |= dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve)
    return _icc(space, tags)


def _icc(space: str, tags: dict[str, bytes]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name.encode(), at + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, at + len(body), b"\0" * 4, 0x02100000, b"mntr",
                     space.encode().ljust(4), b"XYZ ")  # fmt: skip
    head[36:40] = b"acsp"
    struct.pack_into(">iii", head, 68, 63190, 65536, 54061)
    return bytes(head) + table + body


def solid(color, mode="RGB", size=(2, 1)) -> Image.Image:
    return Image.new(mode, size, color)


def files() -> dict[str, bytes]:
    """One small file of each format."""
    image = draw_photo(5, (24, 17))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a long enough description to lie out of line"
    opts = {"exif": exif}
    return {
        "JPEG": encode(image, "JPEG", icc_profile=profile("RGB"), **opts),
        "PNG": encode(image, "PNG", icc_profile=profile("RGB"), **opts),
        "WEBP": encode(image, "WEBP", icc_profile=profile("RGB"), **opts),
        "GIF": encode(image, "GIF", save_all=True, append_images=[draw_photo(6, (24, 17))]),
        "BMP": encode(image, "BMP"),
        "TIFF": encode(image, "TIFF", compression="tiff_lzw", **opts),
        "PPM": encode(image, "PPM"),
        "AVIF": encode(image, "AVIF", **opts),
        "HEIF": heif(image),
        "JPEG2000": encode(image, "JPEG2000"),
    }


FILES = files()


# --- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_tells_and_decodes_every_format(kind: str) -> None:
    assert sniff_format(FILES[kind]) == kind
    assert sniff_format(FILES[kind][:64]) == kind
    decoded = decode_image(FILES[kind], "misleading-name.txt")
    assert decoded.format == kind
    turned = kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    assert decoded.image.size == ((17, 24) if turned else (24, 17))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_photos_are_what_pillow_decodes(mode: str) -> None:
    photo = draw_photo(1).convert(mode)
    data = encode(photo, "JPEG", quality=80)
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert decode_image(data, "x").image.tobytes() == expected.tobytes()


def test_a_multi_picture_jpeg_gives_its_first() -> None:
    first, second = solid(RED, size=(16, 16)), solid(BLUE, size=(16, 16))
    data = encode(first, "MPO", save_all=True, append_images=[second])
    decoded = decode_image(data, "x")
    assert decoded.format == "JPEG"
    assert decoded.image.getpixel((8, 8))[0] > 250


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [solid(color, size=(16, 16)) for color in (RED, GREEN, BLUE)]
    opts = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **opts)
    red, green, blue = decode_image(data, "x").image.getpixel((8, 8))
    assert red > 250
    assert green < 5
    assert blue < 5


def test_every_netpbm_variant() -> None:
    assert pixels(b"P1\n2 1\n1 0\n") == [[[0] * 3, [255] * 3]]
    assert pixels(b"P2\n2 1\n255\n7 9") == [[[7] * 3, [9] * 3]]
    assert pixels(b"P3\n# note\n1 1\n255\n7 8 9\n") == [[[7, 8, 9]]]
    assert pixels(b"P4\n2 1\n\x80") == [[[0] * 3, [255] * 3]]
    assert pixels(b"P5\n2 1\n255\n\x07\x09") == [[[7] * 3, [9] * 3]]
    assert pixels(b"P5\n2 1\n15\n\x0f\x01") == [[[255] * 3, [17] * 3]]
    assert pixels(b"P6\n1 1\n255\n\x07\x08\x09") == [[[7, 8, 9]]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True), ("A.JPEG", True), ("b.jpe", True), ("b.jfif", True), ("c.tif", True),
        ("d.HEIC", True), ("e.pbm", True), ("a.b/c.webp", True), ("http://x/y.png", True),
        ("f.jxl", True), ("https://x/y.png?size=big#top", True), ("c:\\d\\e.tga", True),
        ("g.NEF", True),
        ("readme.txt", False), ("jpg", False), ("x.jpg.json", False), (".jpg", False), ("", False),
    ],
)  # fmt: skip
def test_image_names(name: str, expected: bool) -> None:
    assert has_image_name(name) is expected


# --- orientation -----------------------------------------------------------------------------

UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: UPRIGHT.T[::-1],
    7: UPRIGHT.T[::-1, ::-1],
    8: UPRIGHT.T[:, ::-1],
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = np.ascontiguousarray(STORED[orientation]).repeat(16, 0).repeat(16, 1)
    opts = {"lossless": True} if kind == "WEBP" else {}
    image = Image.fromarray(block).convert("RGB")
    decoded = np.asarray(decode_image(encode(image, kind, exif=exif, **opts), "x").image)
    assert np.abs(decoded[8::16, 8::16, 0].astype(int) - UPRIGHT).max() <= 3


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("typ", [3, 4])
def test_exif_of_either_byte_order(order: str, typ: int) -> None:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + ("HH" if typ == 3 else "I"), *([6, 0] if typ == 3 else [6]))
    exif = magic + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, typ, 1) + value
    data = encode(solid(RED, size=(5, 3)), "JPEG", exif=b"Exif\0\0" + exif)
    assert decode_image(data, "x").image.size == (3, 5)


@pytest.mark.parametrize(
    "exif",
    [b"", b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08",
     b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"],
)  # fmt: skip
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    for kind in ("JPEG", "WEBP"):
        data = encode(solid(RED, size=(5, 3)), kind, exif=exif)
        assert decode_image(data, "x").image.size == (5, 3)


# --- transparency ----------------------------------------------------------------------------


def test_alpha_is_composited_on_the_background() -> None:
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(200, 100, 0, 255), (200, 100, 0, 0), (200, 100, 0, 128)])
    # 200 * 128/255 + 255 * 127/255 = 227.39; 100 -> 177.20; 0 -> 127
    for kind, opts in {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}}.items():
        data = encode(rgba, kind, **opts)
        assert pixels(data) == [[[200, 100, 0], [255] * 3, [227, 177, 127]]]
        assert pixels(data, background=BLACK)[0][1:] == [[0] * 3, [100, 50, 0]]
        assert pixels(data, background=(1, 2, 3))[0][1] == [1, 2, 3]


def test_gray_with_alpha() -> None:
    data = encode(
        Image.merge("LA", (Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 51))), "PNG"
    )
    # 100 * 0.2 + 255 * 0.8 = 224
    assert pixels(data) == [[[224] * 3]]


def test_premultiplied_alpha() -> None:
    # Associated alpha (TIFF ExtraSamples 1) of half-transparent full red: 128 of 128.
    data = bytearray(encode(Image.new("RGBA", (1, 1), (128, 0, 0, 128)), "TIFF"))
    at = data.index(struct.pack("<HHI", 338, 3, 1)) + 8
    data[at : at + 2] = b"\1\0"
    assert pixels(bytes(data)) == [[[255, 127, 127]]]


def test_palette_with_transparency() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    assert pixels(encode(image, "PNG")) == [[[*RED], [*GREEN], [*BLUE]]]
    assert pixels(encode(image, "PNG", transparency=1)) == [[[*RED], [255] * 3, [*BLUE]]]
    assert pixels(encode(image, "GIF", transparency=1))[0][1] == [255] * 3
    several = encode(image, "PNG", transparency=bytes([255, 0, 51]))
    assert pixels(several, background=BLACK) == [[[*RED], [0] * 3, [0, 0, 51]]]


def test_transparent_colour_of_png() -> None:
    rgb = png(
        2, 1, 8, 2, b"\0" + bytes([9, 8, 7, 9, 8, 6]), (b"tRNS", struct.pack(">HHH", 9, 8, 7))
    )
    assert pixels(rgb) == [[[255] * 3, [9, 8, 6]]]
    gray = png(2, 1, 8, 0, b"\0\x07\x08", (b"tRNS", b"\0\x07"))
    assert pixels(gray, background=BLUE) == [[[*BLUE], [8] * 3]]
    nibbles = png(2, 1, 4, 0, b"\0\x5a", (b"tRNS", b"\0\x05"))
    assert pixels(nibbles, background=BLUE) == [[[*BLUE], [170] * 3]]
    bits = png(2, 1, 1, 0, b"\0\x40", (b"tRNS", b"\0\x00"))
    assert pixels(bits, background=BLUE) == [[[*BLUE], [255] * 3]]
    deep = png(2, 1, 16, 0, b"\0\x12\x34\x12\x35", (b"tRNS", b"\x12\x34"))
    assert pixels(deep, background=BLUE) == [[[*BLUE], [0x12] * 3]]
    deep_rgb = png(
        2, 1, 16, 2, b"\0" + b"\x12\x34" * 3 + b"\x13\x34" * 3, (b"tRNS", b"\x12\x34" * 3)
    )
    assert pixels(deep_rgb, background=BLUE) == [[[*BLUE], [0x13] * 3]]


# --- bit depths and colour models ------------------------------------------------------------


DEEP = np.array([[0, 255, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
SHALLOW = [[[0] * 3, [0] * 3, [1] * 3, [128] * 3, [255] * 3]]


def test_16_bit_gray_keeps_its_high_byte() -> None:
    image = Image.fromarray(DEEP)
    assert pixels(encode(image, "PNG")) == SHALLOW
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate"):
        assert pixels(encode(image, "TIFF", compression=compression)) == SHALLOW
    big = Image.frombytes("I;16B", (5, 1), DEEP.astype(">u2").tobytes())
    for compression in (None, "tiff_lzw"):
        assert pixels(encode(big, "TIFF", compression=compression)) == SHALLOW
    assert pixels(b"P5\n5 1\n65535\n" + DEEP.astype(">u2").tobytes()) == SHALLOW
    assert pixels(b"P2\n5 1\n65535\n0 255 256 32768 65535\n") == SHALLOW
    # A maximum of 1023: 512 / 1023 * 65535 = 32800 -> 128
    assert pixels(b"P5\n1 1\n1023\n\x02\x00") == [[[128] * 3]]


def test_16_bit_gray_with_white_zero() -> None:
    data = bytearray(encode(Image.fromarray(DEEP), "TIFF"))
    data[data.index(struct.pack("<HHI", 262, 3, 1)) + 8] = 0
    assert pixels(bytes(data)) == [[[255 - level for level in pixel] for pixel in SHALLOW[0]]]


def test_12_bit_gray_reaches_white() -> None:
    data = bytearray(encode(Image.fromarray(np.zeros((1, 4), np.uint16)), "TIFF"))
    data[data.index(struct.pack("<HHI", 258, 3, 1)) + 8] = 12
    strip = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    data[strip : strip + 6] = bytes.fromhex("fff800 00ffff".replace(" ", ""))
    assert pixels(bytes(data)) == [[[255] * 3, [128] * 3, [0x00] * 3, [255] * 3]]


def test_16_bit_rgb_keeps_its_high_bytes() -> None:
    data = png(1, 1, 16, 2, b"\0" + bytes([1, 255, 2, 255, 3, 255]))
    assert pixels(data) == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("array", "kind"),
    [(np.float32, "32-bit float"), (np.int32, "signed or 32-bit integer")],
)
def test_samples_without_a_white_are_refused(array: type, kind: str) -> None:
    data = encode(Image.fromarray(np.ones((2, 2), array)), "TIFF")
    assert reason(data) == f"{kind} samples have no defined white: convert first"


def test_one_bit_and_palette() -> None:
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 255)
    for kind in ("PNG", "TIFF", "BMP", "GIF", "PPM"):
        assert pixels(encode(bits, kind)) == [[[0] * 3, [255] * 3]]
    assert pixels(encode(bits, "TIFF", compression="group4")) == [[[0] * 3, [255] * 3]]
    assert pixels(png(2, 1, 2, 0, b"\0\x60")) == [[[85] * 3, [170] * 3]]


def test_cmyk() -> None:
    # Without a profile: (255 - ink) * (255 - black) / 255. Ink 51 is 20 %, black 102 is 40 %.
    image = Image.new("CMYK", (8, 8), (255, 51, 0, 102))
    assert pixels(encode(image, "TIFF"))[0][0] == [0, 122, 153]
    jpeg = pixels(encode(image, "JPEG", quality=100))[0][0]
    assert np.abs(np.subtract(jpeg, [0, 122, 153])).max() <= 2


def test_lab_and_ycbcr() -> None:
    for lightness, level in ((255, 255), (0, 0), (137, 128)):  # L* 53.6 is the middle of sRGB
        lab = Image.new("LAB", (1, 1), (lightness, 128, 128))
        assert np.abs(np.subtract(pixels(encode(lab, "TIFF")), level)).max() <= 1
    ycbcr = pixels(encode(Image.new("YCbCr", (8, 8), (76, 85, 255)), "JPEG", quality=100))[0][0]
    assert np.abs(np.subtract(ycbcr, RED)).max() <= 3


# --- ICC profiles ----------------------------------------------------------------------------


def test_profiles_are_converted_to_srgb() -> None:
    # Gamma 1 gray: 55/255 linear is 0.2157, in sRGB 1.055 * 0.2157^(1/2.4) - 0.055 = 0.5019 -> 128
    gray = encode(solid(55, "L"), "PNG", icc_profile=profile("GRAY"))
    assert np.abs(np.subtract(pixels(gray)[0][0], 128)).max() <= 1
    deep = encode(Image.new("I;16", (2, 1), 55 << 8), "PNG", icc_profile=profile("GRAY"))
    assert np.abs(np.subtract(pixels(deep)[0][0], 128)).max() <= 1
    # Equal amounts of linear primaries that add up to the white point stay neutral.
    rgb = pixels(encode(solid((55, 55, 55)), "PNG", icc_profile=profile("RGB")))[0][0]
    assert np.abs(np.subtract(rgb, 128)).max() <= 3


def test_a_profile_agrees_with_imagecms_and_comes_before_the_background() -> None:
    photo, icc = draw_photo(4, (40, 30)), profile("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    expected = ImageCms.profileToProfile(photo, source, ImageCms.createProfile("sRGB"))
    assert pixels(encode(photo, "PNG", icc_profile=icc)) == np.asarray(expected).tolist()
    clear = photo.copy()
    clear.putalpha(0)
    assert pixels(encode(clear, "PNG", icc_profile=icc), background=(9, 99, 9))[3][3] == [9, 99, 9]


def test_srgb_damaged_and_ill_fitting_profiles_change_nothing() -> None:
    photo = draw_photo(4, (40, 30))
    plain = np.asarray(photo).tolist()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (srgb, profile("GRAY"), profile("RGB")[:150], b"not a profile"):
        assert pixels(encode(photo, "PNG", icc_profile=icc)) == plain
    gray = photo.convert("L")
    assert (
        pixels(encode(gray, "PNG", icc_profile=profile("RGB")))[0][0] == [gray.getpixel((0, 0))] * 3
    )


# --- limits ----------------------------------------------------------------------------------


def test_limits_are_inclusive() -> None:
    data = encode(solid(RED, size=(10, 10)), "PNG")
    decode_image(data, "x", DecodePolicy(max_pixels=100, max_bytes=len(data)))
    assert reason(data, max_pixels=99) == "too many pixels: 10x10, the limit is 99"
    assert "too large" in reason(data, max_bytes=len(data) - 1)


@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_checked_in_every_format(kind: str) -> None:
    assert "too many pixels" in reason(FILES[kind], max_pixels=24 * 17 - 1)


def bombs() -> dict[str, bytes]:
    side = 60_000
    jpeg = bytearray(encode(solid(RED, size=(16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encode(solid(RED, size=(16, 16)), "BMP"))
    bmp[18:26] = struct.pack("<II", side, side)
    gif = bytearray(encode(Image.new("P", (1, 1)), "GIF"))
    at = gif.rindex(b",\0\0\0\0\1\0\1\0")
    gif[at + 5 : at + 9] = struct.pack("<HH", side, side)
    webp = encode(Image.new("RGBA", (16, 16)), "WEBP", lossless=True)
    webp = webp[:21] + struct.pack("<I", 0x0FFFFFFF) + webp[25:]
    tiff = encode(solid(RED, size=(16, 16)), "TIFF")
    for tag in (256, 257):
        entry = struct.pack("<HHI", tag, 4, 1)
        tiff = tiff.replace(entry + b"\x10\0", entry + struct.pack("<H", side))
    return {
        "JPEG": bytes(jpeg),
        "PNG": png(side, side, 8, 2, b"\0" * 10_000),
        "BMP": bytes(bmp),
        "GIF with a canvas of 1x1": bytes(gif),
        "WEBP": webp,
        "TIFF": tiff,
        "PPM": b"P6\n60000 60000\n255\n" + b"\0" * 1000,
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_at_once(name: str) -> None:
    data = bombs()[name]
    began = time.perf_counter()
    assert "too many pixels" in reason(data)
    assert time.perf_counter() - began < 0.5


def test_compressed_metadata_is_no_bomb() -> None:
    zeros = zlib.compress(bytes(50_000_000), 9)
    row = b"\0" + bytes(RED)
    text = png(1, 1, 8, 2, row, (b"zTXt", b"k\0\0" + zeros), (b"iTXt", b"k\0\1\0\0\0" + zeros))
    began = time.perf_counter()
    assert "too large" in reason(text)
    assert "too large" in reason(png(1, 1, 8, 2, row, (b"iCCP", b"k\0\0" + zeros)))
    assert time.perf_counter() - began < 0.5


def test_pillows_own_limit_is_not_asked_where_it_can_be_avoided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tall = encode(Image.new("P", (5, 5)), "GIF", disposal=2)
    tall = tall[:6] + b"\1\0\1\0" + tall[10:]
    assert decode_image(tall, "x").image.size == (5, 5)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for kind, data in FILES.items():
        if kind not in ("TIFF", "WEBP"):
            decode_image(data, "x")
    assert reason(tall) == "too many pixels for Pillow's own limit, PIL.Image.MAX_IMAGE_PIXELS"
    pytest.importorskip("tifffile")
    assert decode_image(encode(solid(RED, size=(9, 9)), "TIFF"), "x").image.size == (9, 9)


# --- what is no image, or only half of one ---------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty file (0 bytes)"),
        (b"%PDF-1.7 ...", "not an image: PDF document"),
        (b"\n<!DOCTYPE html><html>", "not an image: HTML page"),
        (b"PK\x03\x04rest", "not an image: ZIP archive"),
        (b"\0\0\0\x20ftypisom\0\0\0\0isom", "not an image: video (mp4)"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG: not supported"),
        (b"<!-- c --><svg>", "SVG: not supported"),
        (b"<!---->" * 200, "not an image: text, starts with b'<!----><!----><!'"),
        (b"II\xbc\1", "JPEG XR: not supported"),
        (b"8BPS\0\1", "Photoshop document: not supported"),
        (b"hello, world", "not an image: text, starts with b'hello, world'"),
        (b"BMW is a car", "not an image: text, starts with b'BMW is a car'"),
        (bytes(100), "not an image: only zero bytes"),
        (b"\xde\xad\xbe\xef\x00\x01", r"not an image: starts with b'\xde\xad\xbe\xef\x00\x01'"),
    ],
)  # fmt: skip
def test_what_it_seems_to_be_instead(data: bytes, expected: str) -> None:
    assert sniff_format(data) is None
    assert reason(data) == expected


@pytest.mark.parametrize("truncated_ok", [False, True])
@pytest.mark.parametrize("kind", FILES)
def test_a_cut_file_is_refused_whatever_other_libraries_set(
    kind: str, truncated_ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", truncated_ok)
    data = FILES[kind]
    if kind == "GIF":
        data = encode(draw_photo(5, (24, 17)), "GIF")
    told = [reason(data[: int(len(data) * part)]) for part in (0.95, 0.7, 0.4)]
    assert truncated_ok or any(text.startswith("truncated: ") for text in told)


def test_a_missing_heif_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert reason(FILES["HEIF"]) == "HEIF needs pillow-heif: pip install 'embedkit[heif]'"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "not enough memory to decode it"),
        (KeyError("mode"), "damaged: 'mode'"),
        (ValueError(), "damaged: ValueError"),
        (OSError("cannot identify <_io.BytesIO object at 0x7f00>\nat all"),
         "damaged: cannot identify the file at all"),
        (EOFError("x" * 500), "truncated: " + "x" * 188 + "…"),
        (Image.DecompressionBombError("too big"),
         "too many pixels for Pillow's own limit, PIL.Image.MAX_IMAGE_PIXELS"),
    ],
)  # fmt: skip
def test_library_errors_are_mapped(
    error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_decoding(monkeypatch, error)
    assert reason(FILES["BMP"]) == expected


def test_an_interrupt_is_no_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_decoding(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        decode_image(FILES["BMP"], "x")


def _break_decoding(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def test_the_cause_is_kept() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_image(FILES["JPEG"][:200], "x")
    assert caught.value.__cause__ is not None


# --- fuzz, threads, configuration ------------------------------------------------------------


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip some bytes, and sometimes cut, drop or repeat a piece."""
    broken = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(broken)) * rng.choice([1.0, 0.1]))
        broken[at] = int(rng.choice([0, 255, rng.integers(256), broken[at] ^ 1]))
    start, end = sorted(int(at) for at in rng.integers(0, len(broken), 2))
    match rng.integers(5):
        case 0:
            del broken[end:]
        case 1:
            del broken[start:end]
        case 2:
            broken[end:end] = broken[start : min(end, start + 50)]
    return bytes(broken)


@pytest.mark.parametrize("kind", FILES)
def test_damage_never_brings_anything_but_an_image_or_a_decode_error(kind: str, capfd) -> None:
    rng = np.random.default_rng(len(kind) + ord(kind[0]))
    policy = DecodePolicy(max_pixels=1_000_000)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(230):
            data = damaged(FILES[kind], rng)
            try:
                assert decode_image(data, "x", policy).image.mode == "RGB"
            except DecodeError as exc:
                assert_is_clean(exc.reason)
    # They are ignored, but not where a test sets the filters: see the test of a plain process.
    assert all("/PIL/" in warning.filename.replace("\\", "/") for warning in warned)
    told = capfd.readouterr().err
    # These three codecs write to stderr by themselves, some of their versions at least.
    assert told == "" or kind in {"TIFF", "AVIF", "HEIF"}


def with_tag(tiff: bytes, tag: int, kind: int, count: int, value: int) -> bytes:
    """A little-endian TIFF with one more entry, before those of the same tag."""
    (at,) = struct.unpack_from("<I", tiff, 4)
    (entries,) = struct.unpack_from("<H", tiff, at)
    rows = tiff[at + 2 : at + 2 + 12 * entries]
    extra = struct.pack("<HHII", tag, kind, count, value)
    directory = struct.pack("<H", entries + 1) + rows + extra + bytes(4)
    return tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + directory


def odd_tiff() -> bytes:
    """Two fill orders (1 and 0), a profile of short numbers, XMP and EXIF that lead nowhere."""
    tiff = encode(solid(RED), "TIFF")
    for tag, kind, count in ((266, 3, 2), (34675, 3, 9), (700, 4, 1 << 30), (34665, 4, 1)):
        tiff = with_tag(tiff, tag, kind, count, 1)
    return tiff


def test_odd_metadata_does_no_harm() -> None:
    assert pixels(odd_tiff()) == [[[*RED], [*RED]]]
    apng = png(1, 1, 8, 2, b"\0" + bytes(RED), (b"acTL", b"\0" * 8))
    assert pixels(apng) == [[[*RED]]]


def test_a_plain_process_shows_no_warning_of_pillow(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(odd_tiff())
    (tmp_path / "x.jpg").write_bytes(encode(solid(RED), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1"))
    code = (
        "import pathlib, sys\n"
        "from embedkit.decode.exact import decode_image\n"
        "for name in sys.argv[1:]: decode_image(pathlib.Path(name).read_bytes(), name)\n"
    )
    files = [str(tmp_path / name) for name in ("x.tif", "x.jpg")]
    run = subprocess.run([sys.executable, "-W", "always", "-c", code, *files],
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stderr == ""


def test_many_threads_decode_the_same() -> None:
    photos = [draw_photo(seed, (64, 48)) for seed in range(4)]
    jobs = [encode(photo, "JPEG", icc_profile=profile("RGB")) for photo in photos]
    jobs += list(FILES.values())
    alone = [decode_image(data, "x").image.tobytes() for data in jobs]
    start = threading.Barrier(8)

    def work(_: int) -> list[bytes]:
        start.wait()
        return [decode_image(data, "x").image.tobytes() for _ in range(5) for data in jobs]

    with ThreadPoolExecutor(8) as pool:
        assert all(result == alone * 5 for result in pool.map(work, range(8)))


def test_policy_config_round_trips_through_json() -> None:
    for made in (DecodePolicy(), DecodePolicy((1, 2, 3), 10, 20)):
        assert DecodePolicy.from_config(json.loads(json.dumps(made.to_config()))) == made
    for bad in ({"background": (0, 0, 256)}, {"background": (1, 2)}, {"max_pixels": 0}):
        with pytest.raises(ValueError, match=r"background takes|must be positive"):
            DecodePolicy(**bad)
