"""Every format and layout that Pillow writes: its pixels, or refused by both."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image, ImageOps

from embedkit.decode.exact import decode_image
from embedkit.decode.failure import BadImageError
from embedkit.decode.jpeg_xl import jpeg_xl_size
from embedkit.decode.policy import DecodePolicy
from embedkit.errors import DecodeError

if TYPE_CHECKING:
    from pathlib import Path

WHITE = (255, 255, 255)
SIZES = [(1, 1), (7, 3), (33, 57), (64, 48)]
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "LAB"]
WAYS: dict[str, list[dict]] = {
    "JPEG": [{"quality": 90}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1},
             {"optimize": True, "quality": 30}],
    "PNG": [{}, {"compress_level": 0}, {"bits": 4}, {"transparency": 3}],
    "WEBP": [{}, {"lossless": True}, {"lossless": True, "exact": True}, {"save_all": True}],
    "GIF": [{}, {"interlace": False}, {"transparency": 3}, {"save_all": True, "disposal": 2}],
    "BMP": [{}],
    "PPM": [{}],
    "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"},
             {"compression": "packbits"}, {"compression": "jpeg"}, {"big_tiff": True},
             {"compression": "lzma"}, {"strip_size": 64}],
    "AVIF": [{}, {"quality": 100, "subsampling": "4:4:4"}, {"save_all": True}],
    "JPEG2000": [{}, {"no_jp2": True}, {"irreversible": True, "quality_layers": [20]},
                 {"tile_size": (16, 16)}, {"num_resolutions": 1}, {"mct": 1}, {"plt": True}],
}  # fmt: skip


def drawn(mode: str, size: tuple[int, int]) -> Image.Image:
    photo = draw_photo(3, size)
    if mode == "I;16":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", size, photo.tobytes())
    if mode == "P":
        return photo.quantize(16)
    alpha = Image.linear_gradient("L").resize(size)
    if mode == "PA":
        image = photo.quantize(16).convert("PA")
        image.putalpha(alpha)
        return image
    image = photo.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(alpha)
    return image


def as_pillow(data: bytes) -> np.ndarray:
    """What Pillow makes of a file, on white."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            return np.stack([np.asarray(image) >> 8] * 3, axis=-1)
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        clear = image.convert("RGBA")
        canvas = Image.new("RGB", clear.size, WHITE)
        canvas.paste(clear.convert("RGB"), mask=clear.getchannel("A"))
        return np.asarray(canvas)


def crashes_pillow(kind: str, mode: str, way: dict) -> bool:
    """Whether Pillow 11 writes beyond its memory while it refuses to write such a file."""
    return kind == "TIFF" and way.get("compression") == "jpeg" and mode in ("1", "P", "PA", "I;16")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", WAYS)
def test_pixels_are_those_of_pillow(kind: str, mode: str) -> None:
    compared = 0
    for size in SIZES:
        for way in WAYS[kind]:
            if crashes_pillow(kind, mode, way):
                continue
            opts = dict(way)
            if opts.get("save_all"):
                opts["append_images"] = [drawn(mode, size).rotate(180)]
            try:
                data = encode(drawn(mode, size), kind, **opts)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError):
                continue  # Pillow doesn't write it
            try:
                expected = as_pillow(data)
            except OSError:  # Pillow 11 can't read its own YCbCr
                with pytest.raises(DecodeError):
                    decode_image(data, "x")
                continue
            decoded = decode_image(data, "x")
            assert decoded.format == kind
            # LAB is converted by Little CMS in Pillow as here, YCbCr in JPEG 2000 by Pillow.
            difference = np.abs(np.asarray(decoded.image).astype(int) - expected)
            assert difference.max() <= 1, (size, way)
            compared += 1
    assert compared or (kind, mode) in UNWRITABLE


UNWRITABLE = {
    *(("JPEG", mode) for mode in ("LA", "P", "PA", "RGBA", "I;16", "LAB")),
    *(("PNG", mode) for mode in ("PA", "CMYK", "YCbCr", "LAB")),
    *((kind, mode) for kind in ("WEBP", "AVIF") for mode in ("I;16", "LAB", "CMYK", "YCbCr", "PA")),
    *(("GIF", mode) for mode in ("I;16", "LAB", "CMYK", "YCbCr", "PA")),
    *(("BMP", mode) for mode in ("LA", "PA", "CMYK", "YCbCr", "I;16", "LAB")),
    *(("PPM", mode) for mode in ("LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB")),
    ("TIFF", "YCbCr"),
    *(("JPEG2000", mode) for mode in ("1", "P", "PA", "CMYK", "LAB")),
}


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_are_counted(kind: str, count: int) -> None:
    frames = [draw_photo(seed, (40, 30)) for seed in range(count)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert decode_image(data, "x").frames == count
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == count


def test_a_jpeg_is_one_frame_whatever_follows_it() -> None:
    photos = [draw_photo(seed, (40, 30)) for seed in range(2)]
    data = encode(photos[0], "MPO", save_all=True, append_images=photos[1:])
    assert decode_image(data, "x").frames == 1


def test_frames_of_a_cut_gif_are_those_that_begin() -> None:
    frames = [draw_photo(seed, (40, 30)) for seed in range(3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data[: int(len(data) * 0.8)], "x").frames >= 2


# --- limits of time --------------------------------------------------------------------------


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encode(draw_photo(1, (64, 48)), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    scan = data[start : data.index(b"\xff", start + 2)]
    many = data[:-2] + scan * 200 + b"\xff\xd9"
    with pytest.raises(DecodeError, match="too many scans in a JPEG"):
        decode_image(many, "x")
    decode_image(data, "x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P6\n%b1 1\n255\n\1\2\3", "header doesn't end within 64 KiB"),
        (b"P6\n1 1\n%b255\n\1\2\3", "header doesn't end within 64 KiB"),
        (b"P4\n%b1 1\n\1", "header doesn't end within 64 KiB"),
        (b"P3\n1 1\n255\n" + b"#\n" * 100_000 + b"1 2 3\n", "over 1,000 comments"),
    ],
)
def test_a_ppm_of_endless_comments_is_refused(data: bytes, reason: str) -> None:
    data = data.replace(b"%b", b"#" + b"x" * 100_000 + b"\n")
    with pytest.raises(DecodeError, match=reason):
        decode_image(data, "x")


def test_a_ppm_may_have_comments() -> None:
    short = b"P6\n# a note\n1 1\n255\n\1\2\3" + bytes(70_000)
    assert decode_image(short, "x").image.getpixel((0, 0)) == (1, 2, 3)
    text = b"P3 1 1 255 # a note\n1 # red\n2 3" + b" " * 70_000
    assert decode_image(text, "x").image.getpixel((0, 0)) == (1, 2, 3)


# --- JPEG 2000 and JPEG XL -------------------------------------------------------------------


@pytest.mark.parametrize("no_jp2", [False, True])
def test_a_cut_jpeg_2000_is_refused(no_jp2: bool) -> None:
    data = encode(draw_photo(1, (64, 48)), "JPEG2000", no_jp2=no_jp2)
    for cut in (2, 30, len(data) // 2):
        with pytest.raises(DecodeError, match="truncated"):
            decode_image(data[:-cut], "x")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
def test_jpeg_xl(mode: str, lossless: bool) -> None:
    pytest.importorskip("pillow_jxl")
    for size in (*SIZES, (320, 200), (300, 300), (1280, 720)):
        for container in (False, True):
            image = drawn(mode, size)
            data = encode(image, "JXL", lossless=lossless, use_container=container)
            assert jpeg_xl_size(data) == size
            decoded = decode_image(data, "x")
            assert (decoded.format, decoded.frames) == ("JPEGXL", 1)
            difference = np.abs(np.asarray(decoded.image).astype(int) - as_pillow(data))
            assert difference.max() <= 1
    with pytest.raises(DecodeError, match="too many pixels: 1280x720"):
        decode_image(data, "x", DecodePolicy(max_pixels=1280 * 720 - 1))
    with pytest.raises(DecodeError):
        decode_image(data[: len(data) // 2], "x")


def test_exif_has_a_say_only_in_a_jpeg_that_was_packed_as_jpeg_xl(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = draw_photo(1, (64, 48))
    data = encode(photo, "JXL", exif=exif.tobytes())
    assert decode_image(data, "x").image.size == (64, 48)
    jpeg = tmp_path / "x.jpg"
    photo.save(jpeg, exif=exif.tobytes())
    with Image.open(jpeg) as image:
        packed = encode(image, "JXL", lossless_jpeg=True)
    expected = np.asarray(decode_image(jpeg.read_bytes(), "x").image)
    np.testing.assert_array_equal(np.asarray(decode_image(packed, "x").image), expected)


def test_jpeg_xl_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    # small (8 x 8 pixels), ratio 1:1, all metadata at their defaults
    with pytest.raises(
        DecodeError, match=r"needs pillow-jxl-plugin: pip install 'embedkit\[jxl\]'"
    ):
        decode_image(b"\xff\x0a" + (0b1_001_00000_1).to_bytes(2, "little") + bytes(40), "x")


def test_an_animated_jpeg_xl_is_refused() -> None:
    # size as above, not all defaults, extra fields, orientation 1, no size, no preview, animation
    bits = 0b1_0_0_000_1_0_001_00000_1
    with pytest.raises(BadImageError, match="animated"):
        jpeg_xl_size(b"\xff\x0a" + bits.to_bytes(3, "little") + bytes(40))
