"""Files that would take minutes or gigabytes are refused, or read, within seconds."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image, PpmImagePlugin

from embedkit.decode.exact import decode_image
from embedkit.decode.exif import check_exif
from embedkit.decode.failure import BadImageError
from embedkit.decode.netpbm import read_slow_ppm
from embedkit.decode.stated import stated
from embedkit.errors import DecodeError

SECONDS = 20  # for what takes less than one on an idle machine; unbounded, each takes minutes
PHOTO = draw_photo(1, (64, 48))


def in_jpeg(extra: bytes) -> bytes:
    data = encode(PHOTO, "JPEG")
    return data[:2] + extra + data[2:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    end = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", end)


def in_png(extra: bytes) -> bytes:
    data = encode(PHOTO, "PNG")
    at = data.index(b"IDAT") - 4
    return data[:at] + extra + data[at:]


def in_gif(extra: bytes) -> bytes:
    data = encode(PHOTO, "GIF")
    return data[: 13 + 768] + extra + data[13 + 768 :]


def webp(chunks: int) -> bytes:
    size = struct.pack("<I", 63)[:3] + struct.pack("<I", 47)[:3]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    body = b"WEBP" + canvas + encode(PHOTO, "WEBP")[12:] + b"none\0\0\0\0" * chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(size: tuple[int, int], data: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, 1, len(data), 1, 1, 256, 256)
    start = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + bytes(1024) + data


def tiff(size: tuple[int, int], rows: int, compression: int, data: bytes) -> bytes:
    """Gray, in strips that are all the same bytes."""
    strips = -(-size[1] // rows)
    at = 8 + 2 + 12 * 9 + 4
    numbers = at + 8 * strips if strips > 1 else at
    entries = [
        (256, size[0]), (257, size[1]), (258, 8), (259, compression), (262, 1),
        (273, at if strips > 1 else numbers), (277, 1), (278, rows),
        (279, at + 4 * strips if strips > 1 else len(data)),
    ]  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, value in entries:
        head += struct.pack("<HHII", tag, 4, strips if tag in {273, 279} else 1, value)
    head += bytes(4)
    if strips > 1:
        head += np.full(strips, numbers, "<u4").tobytes()
        head += np.full(strips, len(data), "<u4").tobytes()
    return head + data


def many_scans(count: int) -> bytes:
    data = encode(PHOTO.convert("L"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + b"\xff\xd9"


def shared_exif(entries: int, size: int) -> bytes:
    """An EXIF block whose entries all hold the same bytes."""
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", entries)
    for tag in range(entries):
        block += struct.pack("<HHII", tag, 7, size - 12 * entries - 100, 12 * entries + 50)
    return block.ljust(size, b"\0")


SEGMENT = b"\xff\xe1" + struct.pack(">H", 65000) + b"Exif\0\0"
REFUSED = {
    "JPEG comments": (lambda: in_jpeg(b"\xff\xfe\0\2" * 10**6), "too many segments"),
    "JPEG fill bytes": (lambda: in_jpeg(b"\xff" * 10**7), "header doesn't end"),
    "JPEG junk": (lambda: in_jpeg(b"\xff\xfe\0\2" + b"a" * 10**7), "header doesn't end"),
    "JPEG EXIF again and again": (
        lambda: in_jpeg((SEGMENT + bytes(65000 - 8)) * 600), "over 32 MiB",
    ),
    "JPEG EXIF shared": (
        lambda: in_jpeg(SEGMENT + shared_exif(5000, 65000 - 8)), "EXIF entries of",
    ),
    "JPEG scans": (lambda: many_scans(1200), "too many scans"),
    "PNG chunks": (lambda: in_png(chunk(b"prVt") * 10**6), "too many chunks"),
    "PNG empty pixels": (lambda: in_png(chunk(b"IDAT") * 10**6), "too many chunks"),
    "PNG profiles": (
        lambda: in_png(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(10**6), 9)) * 10**5),
        "over 16 colour profiles",
    ),
    "GIF comment": (
        lambda: in_gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 40_000 + b"\0"), "over 1 MiB",
    ),
    "GIF extensions": (lambda: in_gif(b"!\xf9\4\0\0\0\0\0" * 10**6), "over 1 MiB"),
    "GIF junk": (lambda: in_gif(b"\1" * 10**7), "over 1 MiB"),
    "WebP chunks": (lambda: webp(10**6), "too many chunks"),
    "BMP long": (lambda: bmp((1000, 1000), b"\0\2\0\0" * 5_000_000), "16 MiB"),
    "BMP wide": (lambda: bmp((10_000, 9_000), b"\1\1\0\0" * 10_000), "50 million"),
    "TIFF strips": (lambda: tiff((1, 10**6), 1, 1, bytes(8)), "too many strips"),
    "TIFF shared strips": (
        lambda: tiff((10, 10**5), 1, 8, zlib.compress(bytes(10)) + bytes(10**6)), "share",
    ),
    "TIFF of JPEG scans": (lambda: tiff((64, 48), 48, 7, many_scans(1200)), "too many scans"),
    "JPEG 2000 code blocks": (
        lambda: encode(Image.new("L", (3000, 3000)), "JPEG2000", codeblock_size=(4, 4)),
        "too many code blocks",
    ),
    "JPEG 2000 precincts": (
        lambda: encode(Image.new("L", (3000, 3000)), "JPEG2000", no_jp2=True,
                       precinct_size=(4, 4), codeblock_size=(4, 4)),
        "too many code blocks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_take_minutes_is_refused(name: str) -> None:
    make, reason = REFUSED[name]
    data = make()
    before = time.monotonic()
    with pytest.raises(DecodeError, match=reason):
        decode_image(data, "x")
    assert time.monotonic() - before < SECONDS


READ = {
    "JPEG": lambda: in_jpeg(b"\xff\xfe\0\2" * 9000 + b"\xff" * 1000),
    "PNG": lambda: in_png(chunk(b"prVt") * 150_000 + chunk(b"tEXt", b"a\0b") * 1000),
    "PNG of shared EXIF": lambda: in_png(chunk(b"eXIf", shared_exif(60_000, 4_000_000))),
    "PNG followed by zeros": lambda: encode(PHOTO, "PNG") + bytes(10**8),
    "GIF": lambda: encode(PHOTO, "GIF")[:-1] + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0" * 10**5 + b";",
    "WebP": lambda: webp(100_000),
    "BMP": lambda: bmp((64, 48), (b"\x40\1\0\0") * 48 + b"\0\1"),
    "TIFF": lambda: tiff((64, 48 * 1000), 1, 1, bytes(64)),
    "JPEG 2000": lambda: encode(Image.new("RGB", (4000, 4000)), "JPEG2000"),
    "PPM": lambda: b"P6 3000 3000 1000\n" + bytes(54_000_000),
    "PPM as text": lambda: b"P3 2000 2000 255\n" + b"200 " * 12_000_000,
    "PBM as text": lambda: b"P1 5000 5000\n" + b"1 " * 25_000_000,
}


@pytest.mark.parametrize("name", READ)
def test_what_is_only_unusual_is_read(name: str) -> None:
    data = READ[name]()
    before = time.monotonic()
    decoded = decode_image(data, "x")
    stated(data, decoded.format)
    assert time.monotonic() - before < SECONDS


def test_what_is_stated_is_read_in_bounded_memory() -> None:
    text = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x010F, 2, 10**8, 26) + bytes(4)
    before = time.monotonic()
    assert stated(text + b"a" * 10**8, "TIFF").camera == "a" * 100
    assert time.monotonic() - before < SECONDS


@pytest.mark.parametrize("order", ["<", ">"])
def test_shared_exif_is_refused(order: str) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entry = struct.pack(f"{order}HHII", 1, 4, 500_000, 0)
    check_exif(head + struct.pack(f"{order}H", 1) + entry + bytes(2_000_000))
    with pytest.raises(BadImageError, match="EXIF entries"):
        check_exif(head + struct.pack(f"{order}H", 20) + 20 * entry + bytes(2_000_000))


def netpbm(rng: np.random.Generator) -> bytes:
    """A small file of any kind, whole or cut, with odd spaces and values."""
    kind, most = int(rng.integers(1, 7)), int(rng.choice([1, 7, 100, 254, 256, 1000, 65534, 65535]))
    width, height = rng.integers(1, 9, 2).tolist()
    count = width * height * (3 if kind in {3, 6} else 1)
    head = b"P%d\n%d %d\n" % (kind, width, height) + (b"" if kind in {1, 4} else b"%d\n" % most)
    extra = int(rng.choice([0, 0, 0, 3, -1]))
    if kind >= 4:
        row = (width + 7) // 8 * height if kind == 4 else count * (1 + (most > 255))
        return head + rng.bytes(max(row + extra, 0))
    values = rng.integers(0, 2 if kind == 1 else most + 1, max(count + extra, 0)).tolist()
    if rng.random() < 0.1 and values:
        values[0] = int(rng.choice([most + 1, 70_000, 99_999_999_999]))
    spaces = [b" ", b"\n", b"\t", b"\r\n", b"\v", b" # c\n", b"" if kind == 1 else b" "]
    return head + b"".join(b"%d" % one + spaces[rng.integers(7)] for one in values)


def test_netpbm_files_are_read_as_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(data: bytes) -> bytes | None:
        try:
            return decode_image(data, "x").image.tobytes()
        except DecodeError:
            return None

    rng = np.random.default_rng(0)
    files = [netpbm(rng) for _ in range(1500)]
    ours = [found(data) for data in files]
    monkeypatch.setattr("embedkit.decode.exact.read_slow_ppm", lambda data, image: None)
    assert ours == [found(data) for data in files]
    monkeypatch.undo()
    read = [read_slow_ppm(data, PpmImagePlugin.PpmImageFile(io.BytesIO(data))) for data in files]
    assert sum(one is not None for one in read) > 300
