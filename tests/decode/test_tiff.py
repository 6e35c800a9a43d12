"""Every TIFF layout that tifffile writes: the samples that were written, or a reason."""

from __future__ import annotations

import io
import itertools
import struct
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image
from tiff_files import ASCII, LONG, SHORT, Page, tiff

from embedkit.decode.exact import decode_image
from embedkit.decode.policy import DecodePolicy
from embedkit.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

tifffile = pytest.importorskip("tifffile")

SIZE = (37, 21)
WHITE = 255


def imagecodecs_is_there() -> bool:
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return True


def pillow_reads_zstd() -> bool:
    """Whether its libtiff was built with it; Pillow doesn't tell otherwise."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8), np.uint8), compression="zstd")
    try:
        Image.open(buffer).load()
    except OSError:
        return False
    return True


LOSSLESS = ["deflate", "lzma"]
if imagecodecs_is_there():
    LOSSLESS += ["lzw", "packbits", "jpeg2000", "png", "jpegxl", "webp"]
    LOSSLESS += ["zstd"] * pillow_reads_zstd()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, "x.tif").image)


def reason(data: bytes, **policy) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_image(data, "x.tif", DecodePolicy(**policy))
    return caught.value.reason


@dataclass(frozen=True)
class Kind:
    """What the samples are."""

    photometric: str
    dtype: str
    samples: int = 1
    extra: tuple[str, ...] = ()

    def array(self) -> np.ndarray:
        """Smooth samples over the whole range; premultiplied ones fit their alpha."""
        x, y = np.meshgrid(*(np.linspace(0, 1, side) for side in SIZE))
        planes = [(x * (1 + band) + y * (3 - band)) / 4 % 1 for band in range(self.samples)]
        if "assocalpha" in self.extra:
            alpha = planes[-1]
            planes = [plane * alpha for plane in planes[:-1]] + [alpha]
        values = np.stack(planes, axis=-1)[..., : self.samples]
        values = values[..., 0] if self.samples == 1 else values
        if self.dtype == "bool":
            return values > 0.5
        top = 1 if self.dtype.startswith("f") else np.iinfo(self.dtype).max
        return (values * top).astype(self.dtype)

    def expected(self, array: np.ndarray) -> np.ndarray:
        """``(H, W, 3) uint8`` by the rules of docs/decoding.md."""
        levels = (array >> 8 if array.dtype == np.uint16 else array).astype(np.uint8)
        if self.dtype == "bool":
            levels = levels * 255
        levels = levels.reshape(*array.shape[:2], -1)
        color, alpha = levels[..., : self.colors], levels[..., self.colors :]
        if self.photometric == "miniswhite":
            color = 255 - color
        if self.photometric == "separated":
            return (255 - color[..., :3].astype(int)) * (255 - color[..., 3:].astype(int)) / 255
        if self.photometric == "palette":
            return (color_map(self.dtype) >> 8).T[array]
        color = np.broadcast_to(color, (*levels.shape[:2], 3)).astype(float)
        share = alpha[..., :1] / 255.0
        if "unassalpha" in self.extra:
            return color * share + WHITE * (1 - share)
        return color + WHITE * (1 - share) if "assocalpha" in self.extra else color

    @property
    def colors(self) -> int:
        return {"rgb": 3, "separated": 4, "cielab": 3}.get(self.photometric, 1)

    @property
    def has_no_white(self) -> bool:
        return self.dtype not in ("bool", "uint8", "uint16")


def color_map(dtype: str) -> np.ndarray:
    count = 256 if dtype == "uint8" else 65536
    return np.random.default_rng(0).integers(0, 65536, (3, count)).astype(np.uint16)


def kinds() -> list[Kind]:
    gray = [
        Kind(photometric, dtype)
        for photometric in ("minisblack", "miniswhite")
        for dtype in ("bool", "uint8", "uint16", "uint32", "int8", "int16", "float16", "float32")
    ]
    extras = [(), ("unspecified",), ("assocalpha",), ("unassalpha",), ("unassalpha", "unspecified")]
    colors = [
        Kind(photometric, dtype, base + len(extra), extra)
        for photometric, base in (("rgb", 3), ("minisblack", 1), ("separated", 4))
        for dtype in ("uint8", "uint16")
        for extra in extras
        if (extra or base > 1) and not (photometric == "separated" and "assocalpha" in extra)
    ]
    odd = [Kind("rgb", dtype, 3) for dtype in ("uint32", "int16", "float16", "float32", "float64")]
    return gray + colors + odd + [Kind("palette", "uint8"), Kind("palette", "uint16")]


def layouts(kind: Kind) -> Iterator[dict]:
    """How the samples are stored, as tifffile's keywords."""
    planes = ["contig"] if kind.samples == 1 else ["contig", "separate"]
    blocks = [{}, {"tile": (16, 16)}, {"rowsperstrip": 8}]
    codings = [{}, *({"compression": name} for name in LOSSLESS)]
    codings += [{"compression": name, "predictor": True} for name in ("deflate", "lzma")]
    if kind.has_no_white:
        planes, blocks, codings = planes[-1:], blocks[:1], codings[:2]
    for order, plane, block, coding in itertools.product("<>", planes, blocks, codings):
        for big in (False, True) if block == blocks[0] and coding in codings[:2] else (False,):
            yield {"byteorder": order, "bigtiff": big, "planarconfig": plane, **block, **coding}


def written(kind: Kind, layout: dict) -> bytes | None:
    """The file; None where tifffile doesn't write such."""
    array = kind.array()
    if layout.get("compression") == "jpeg2000" and layout["byteorder"] == ">":
        return None  # tifffile writes 16-bit samples with their bytes swapped, and reads them so
    opts = dict(layout, photometric=kind.photometric, metadata=None)
    head = {name: opts.pop(name) for name in ("byteorder", "bigtiff")}
    if kind.samples == 1:
        opts.pop("planarconfig")
    elif opts["planarconfig"] == "separate":
        array = np.moveaxis(array, -1, 0)
    if kind.extra:
        opts["extrasamples"] = kind.extra
    if kind.photometric == "palette":
        opts["colormap"] = color_map(kind.dtype)
    if opts.get("compression") == "webp":
        opts["compressionargs"] = {"lossless": True}
    buffer = io.BytesIO()
    try:
        with tifffile.TiffWriter(buffer, **head) as writer:
            writer.write(array, **opts)
    except (ValueError, NotImplementedError, KeyError, TypeError, RuntimeError):
        return None
    return buffer.getvalue()


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_every_layout_gives_what_was_written(kind: Kind) -> None:
    files = [(layout, data) for layout in layouts(kind) if (data := written(kind, layout))]
    assert len(files) >= 4
    for layout, data in files:
        if kind.has_no_white:
            assert "no defined white: convert first" in reason(data), layout
            continue
        # Premultiplied colours are divided and multiplied again by Pillow.
        limit = 2 if "assocalpha" in kind.extra else 1
        difference = np.abs(decoded(data) - kind.expected(kind.array()))
        assert difference.max() <= limit, (layout, difference.max())


def test_lab_in_separate_planes_is_that_of_one_plane() -> None:
    kind = Kind("cielab", "uint8", 3)
    one, several = ({"byteorder": "<", "bigtiff": False, "planarconfig": plane}
                    for plane in ("contig", "separate"))  # fmt: skip
    expected = decoded(written(kind, one))
    np.testing.assert_array_equal(decoded(written(kind, several)), expected)
    np.testing.assert_array_equal(decoded(written(kind, {**several, "tile": (16, 16)})), expected)


@pytest.mark.parametrize("name", ["jpeg", "webp", "jpegxl", "jpeg2000"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_lossy_compressions_are_those_of_tifffile(name: str, planes: str) -> None:
    pytest.importorskip("imagecodecs")
    photo = np.asarray(draw_photo(2, (96, 64)))
    array = photo if planes == "contig" else np.moveaxis(photo, -1, 0)
    for block in ({}, {"tile": (32, 32)}, {"rowsperstrip": 16}):
        buffer = io.BytesIO()
        try:
            tifffile.imwrite(buffer, array, photometric="rgb", planarconfig=planes,
                             compression=name, compressionargs={"level": 80}, **block)  # fmt: skip
        except (ValueError, TypeError, KeyError):
            continue
        expected = tifffile.imread(io.BytesIO(buffer.getvalue()))
        expected = expected if planes == "contig" else np.moveaxis(expected, 0, -1)
        difference = np.abs(decoded(buffer.getvalue()).astype(int) - expected)
        assert difference.mean() < 1, block


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
@pytest.mark.parametrize("samples", [1, 3])
def test_other_numbers_of_bits_are_scaled_to_eight(bits: int, samples: int, order: str) -> None:
    if imagecodecs_is_there() is False:
        pytest.skip("needs imagecodecs")
    top = 2**bits - 1
    levels = np.linspace(0, top, 64).astype(int).reshape(4, 16).repeat(samples, axis=1)
    packed = np.packbits(levels[..., None] >> np.arange(bits - 1, -1, -1) & 1, axis=None)
    entries = {256: (LONG, (16,)), 257: (LONG, (4,)), 258: (SHORT, (bits,) * samples),
               262: (SHORT, (1 if samples == 1 else 2,)), 277: (SHORT, (samples,)),
               278: (LONG, (4,))}  # fmt: skip
    found = decoded(tiff(Page(packed.reshape(1, -1), entries), order=order))
    expected = levels >> (bits - 8) if bits > 8 else levels * 255 // top
    np.testing.assert_array_equal(found[..., 0], expected[:, ::samples])
    assert (found.min(), found.max()) == (0, 255)


def test_a_palette_of_8_bit_colors_is_not_black() -> None:
    colors = np.random.default_rng(1).integers(0, 256, (3, 256))
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    entries = {262: (SHORT, (3,)), 320: (SHORT, tuple(colors.ravel().tolist()))}
    np.testing.assert_array_equal(decoded(tiff(Page(indices, entries))), colors.T[indices])


def test_subsampled_ycbcr_without_compression_is_refused() -> None:
    """Neither Pillow nor tifffile reads it: Pillow takes it for whole samples."""
    entries = {256: (LONG, (16,)), 257: (LONG, (16,)), 258: (SHORT, (8, 8, 8)),
               262: (SHORT, (6,)), 277: (SHORT, (3,)), 278: (LONG, (16,)),
               530: (SHORT, (2, 2))}  # fmt: skip
    data = tiff(Page(np.full((1, 16 * 16 * 3 // 2), 128, np.uint8), entries))
    assert "subsampled YCbCr without compression" in reason(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_pillow_whatever_decodes(orientation: int) -> None:
    photo = np.asarray(draw_photo(4, (30, 20)))
    plain = tiff(Page(photo, {274: (SHORT, (orientation,))}))
    planes = io.BytesIO()
    with tifffile.TiffWriter(planes, bigtiff=True, byteorder=">") as writer:
        writer.write(photo, photometric="rgb", metadata=None,
                     extratags=[(274, SHORT, 1, orientation, True)])  # fmt: skip
    expected = decoded(plain)
    assert expected.shape[:2] == ((20, 30) if orientation < 5 else (30, 20))
    np.testing.assert_array_equal(decoded(planes.getvalue()), expected)
    with Image.open(io.BytesIO(plain)) as image:
        image.load()
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_without_the_extra_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    kind = Kind("rgb", "uint16", 3)
    planar = {"byteorder": "<", "bigtiff": False, "planarconfig": "separate"}
    assert reason(written(kind, planar)) == (
        "unsupported layout (16-bit samples, 3 per pixel, photometric 2, in separate planes): "
        "needs pip install 'embedkit[tiff]'"
    )
    big = {"byteorder": ">", "bigtiff": True, "planarconfig": "contig"}
    assert reason(written(kind, big)).startswith("unsupported layout (a big-endian BigTIFF)")


# --- cut and hostile files -------------------------------------------------------------------


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
def test_a_cut_tiff_is_refused(compression: str | None) -> None:
    data = encode(draw_photo(3, (64, 48)), "TIFF", compression=compression)
    front = directory_first(data)
    for whole in (data, front):
        decoded(whole)
        for cut in (1, 2, 7, 30, 120):
            assert reason(whole[:-cut]).startswith("truncated: "), cut


def directory_first(data: bytes) -> bytes:
    """The same TIFF with its pixels at the end, as scanners and cameras write it."""
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages[0]
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        strips = [data[at : at + count] for at, count in places]
        entries = page.tags
        offsets = entries[273].valueoffset
    moved = bytearray(data)
    for number, strip in enumerate(strips):
        struct.pack_into("<I", moved, offsets + 4 * number, len(moved))
        moved += strip
    return bytes(moved)


def test_tiles_must_end_inside_the_file() -> None:
    photo = np.asarray(draw_photo(3, (64, 48)))
    for compression in (None, "deflate"):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, photo, photometric="rgb", tile=(16, 16), compression=compression)
        data = buffer.getvalue()
        np.testing.assert_array_equal(decoded(data), photo)
        assert reason(data[:-40]).startswith("truncated: ")


def test_too_few_strips_are_a_cut_file() -> None:
    data = tiff(Page(np.asarray(draw_photo(3, (64, 48))), {278: (LONG, (8,))}))
    assert reason(data) == "truncated: 1 of 6 TIFF strips"


def test_a_wrong_byte_count_of_plain_strips_does_no_harm() -> None:
    photo = np.asarray(draw_photo(3, (64, 48)))
    for count in (0, 17, 1 << 30):
        np.testing.assert_array_equal(decoded(tiff(Page(photo, {279: (LONG, (count,))}))), photo)


def test_a_directory_that_points_at_itself_ends() -> None:
    data = bytearray(tiff(Page(np.asarray(draw_photo(3, (16, 16))))))
    data[-4:] = data[4:8]
    assert decode_image(bytes(data), "x").frames == 1


def test_entries_that_share_the_whole_file_are_refused() -> None:
    photo = np.asarray(draw_photo(3, (64, 48)))
    text = b"x" * 6000
    plain = tiff(Page(photo, {270: (ASCII, text)}))
    at = plain.index(text)
    shared = bytearray(tiff(Page(photo, {50000 + n: (ASCII, b"y" * 5) for n in range(40)})) + text)
    for place in range(len(shared) - 12):
        tag, kind, count = struct.unpack_from("<HHI", shared, place)
        if 50000 <= tag < 50040 and kind == ASCII and count == 5:
            struct.pack_into("<II", shared, place + 4, 6000, len(shared) - 6000)
    assert at
    assert "the TIFF's entries hold" in reason(bytes(shared))


def test_pixels_are_counted_before_anything_is_allocated() -> None:
    tile = tiff(Page(np.zeros((8, 8), np.uint8), {
        322: (LONG, (60_000,)), 323: (LONG, (60_000,)), 324: (LONG, (8,)), 325: (LONG, (64,)),
    }))  # fmt: skip
    assert reason(tile) == "too many pixels: 60000x60000, the limit is 100,000,000"


def test_hostile_counts_cost_no_time() -> None:
    tall = {256: (LONG, (1,)), 257: (LONG, (90_000_000,)), 278: (LONG, (1,))}
    tiles = {256: (LONG, (9000,)), 257: (LONG, (9000,)), 322: (LONG, (1,)), 323: (LONG, (1,)),
             324: (LONG, (8,)), 325: (LONG, (1,))}  # fmt: skip
    many = tiff(*[Page(np.zeros((8, 8), np.uint8))] * 5000)
    began = time.process_time()
    for entries, count in ((tall, 90_000_000), (tiles, 81_000_000)):
        data = tiff(Page(np.zeros((8, 8), np.uint8), entries))
        assert reason(data) == f"truncated: 1 of {count} TIFF strips"
    assert decode_image(many, "x").frames == 5000
    assert time.process_time() - began < 2


def test_pages_are_counted() -> None:
    photo = np.asarray(draw_photo(3, (16, 16)))
    thumb, mask = {254: (LONG, (1,))}, {254: (LONG, (4,))}

    def frames(data: bytes) -> int:
        return decode_image(data, "x").frames

    assert frames(tiff(Page(photo))) == 1
    assert frames(tiff(Page(photo), Page(photo), Page(photo))) == 3
    assert frames(tiff(Page(photo), Page(photo[:4, :4], thumb), Page(photo, mask))) == 1
    # A page that can't be read is there all the same: such a file is no single picture.
    two = tiff(Page(photo), Page(photo))
    assert frames(two[:-30]) == 2
