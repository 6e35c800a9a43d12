"""Decodes bytes to an upright 8-bit sRGB image, or raises `DecodeError` with the reason.

The policy is in docs/decoding.md. Safe to call from many threads: nothing global in Pillow is
changed, and none of its global settings (``MAX_IMAGE_PIXELS``, ``LOAD_TRUNCATED_IMAGES``) decides
what is accepted. The plugin of the sniffed format is called directly, so that ``Image.open``'s own
checks and warnings, which can't be silenced for one thread alone, never run.
"""

from __future__ import annotations

import io
import re
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from embedkit.decode.color import srgb_transform, to_rgb
from embedkit.decode.exif import (
    BadImageError,
    Prepared,
    exif_orientation,
    prepare_avif,
    prepare_gif,
    prepare_png,
    prepare_webp,
)
from embedkit.decode.jpeg_header import JpegParts, scan_jpeg
from embedkit.decode.policy import DecodedImage, DecodePolicy
from embedkit.decode.sniff import describe_other, sniff_format
from embedkit.decode.tiff import prepare_tiff
from embedkit.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["JpegHeader", "decode_image", "read_jpeg_header"]

_DEFAULT_POLICY = DecodePolicy()


def decode_image(
    data: bytes, image_id: str, policy: DecodePolicy = _DEFAULT_POLICY
) -> DecodedImage:
    """Decode one image.

    Args:
        data: The encoded file.
        image_id: Named in the error.
        policy: Limits and background.

    Returns:
        The image, as it is meant to be seen.

    Raises:
        DecodeError: If it can't be decoded; the reason is one line of at most 200 characters.
    """
    with _mapped_errors(image_id):
        if not data:
            raise BadImageError("empty file (0 bytes)")
        if len(data) > policy.max_bytes:
            raise BadImageError(
                f"too large: {len(data):,} bytes, the limit is {policy.max_bytes:,}"
            )
        kind = sniff_format(data)
        if kind is None:
            raise BadImageError(describe_other(data))
        return DecodedImage(_decode(kind, data, policy), kind)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What an ordinary JPEG says of itself before its pixels.

    Attributes:
        orientation: As EXIF states it, 1 to 8.
        to_srgb: What turns its colours into sRGB; None if they are sRGB.
    """

    orientation: int
    to_srgb: ImageCms.ImageCmsTransform | None


def read_jpeg_header(data: bytes, image_id: str, policy: DecodePolicy) -> JpegHeader | None:
    """Read the header of a JPEG of three components, under the same limits as `decode_image`.

    Args:
        data: The encoded file.
        image_id: Named in the error.
        policy: Limits.

    Returns:
        The header; None for anything that isn't such a JPEG.

    Raises:
        DecodeError: If the header is damaged, or the image is too large.
    """
    if sniff_format(data) != "JPEG" or len(data) > policy.max_bytes:
        return None
    with _mapped_errors(image_id):
        parts = scan_jpeg(data) or _pillow_parts(data)
        if parts is None:
            return None
        _check_sizes((parts.size,), policy)
        orientation = exif_orientation(parts.exif) if parts.exif else 1
        return JpegHeader(orientation, srgb_transform(parts.profile, "RGB"))


def _pillow_parts(data: bytes) -> JpegParts | None:
    """The header as Pillow reads it; None if it isn't of three components."""
    image = _JpegFile(_Reader(data))
    if image.mode != "RGB":
        return None
    info = image.info
    return JpegParts(image.size, info.get("exif", b""), info.get("icc_profile"))


class _Reader(io.BytesIO):
    """A file in memory that, once ``strict``, raises at its end instead of giving nothing.

    So a cut file is found out even where ``LOAD_TRUNCATED_IMAGES`` asks Pillow to pass it.
    """

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if self.strict and size != 0 and not found:
            raise BadImageError("truncated: the pixel data end early")
        return found


class _WebpReader(_Reader):
    """Gives 16 bytes in the first read, unless that asks for the whole file.

    Pillow's plugin (from 13 on) compares the size with its global limit if the first read brings
    it; ours has been checked before.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        is_first_part = self.tell() == 0 and size is not None and size >= 0
        return super().read(16 if is_first_part else size)


class _JpegFile(JpegImagePlugin.JpegImageFile):
    """JPEG whose EXIF is not searched for a resolution, which would warn about damaged EXIF."""

    def _read_dpi_from_exif(self) -> None:
        pass


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """TIFF whose size is not compared with Pillow's global limit."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        ImageFile.ImageFile.load_prepare(self)


def _check_sizes(sizes: tuple[tuple[int, int], ...], policy: DecodePolicy) -> None:
    """Refuse by the header.

    Raises:
        BadImageError: If a buffer of that size is above the limit.
    """
    for width, height in sizes:
        if width * height > policy.max_pixels:
            raise BadImageError(
                f"too many pixels: {width}x{height}, the limit is {policy.max_pixels:,}"
            )


def _open(
    data: bytes,
    policy: DecodePolicy,
    plugin: type[ImageFile.ImageFile],
    prepare: Callable[[bytes], Prepared],
) -> ImageFile.ImageFile:
    """Prepare, check and decode; what is given back is loaded, in the file's own mode."""
    prepared = prepare(data)
    _check_sizes(prepared.sizes, policy)
    reader = _WebpReader(prepared.data) if prepare is prepare_webp else _Reader(prepared.data)
    image = plugin(reader)
    _check_sizes((image.size,), policy)
    # These two decoders read to the end by design, and check the amount themselves.
    reader.strict = all(tile[0] not in ("ppm", "ppm_plain") for tile in image.tile)
    image.load()
    return image


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Source: Exif 2.32, tag 0112h)."""


def _finish(image: Image.Image, policy: DecodePolicy) -> Image.Image:
    """Convert, and turn as EXIF says."""
    exif = image.info.get("exif", b"")
    turn = _TURNS.get(exif_orientation(exif)) if exif else None
    rgb = to_rgb(image, policy.background)
    return rgb if turn is None else rgb.transpose(turn)


def _decode_png(data: bytes, policy: DecodePolicy) -> Image.Image:
    image = _open(data, policy, PngImagePlugin.PngImageFile, prepare_png)
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        # The file states the transparent colour in its own bit depth, the pixels now have 8.
        image.info["transparency"] = _scaled_key(image.info["transparency"], depth=data[24])
    return _finish(image, policy)


def _scaled_key(key: object, depth: int) -> object:
    """A gray level or an RGB colour of ``depth`` bits, in 8 bits."""
    if isinstance(key, tuple):
        return tuple(level >> (depth - 8) for level in key)
    return key * 255 // (2**depth - 1) if isinstance(key, int) else key


_PHOTOMETRIC, _BITS = 262, 258


def _decode_tiff(data: bytes, policy: DecodePolicy) -> Image.Image:
    # Pillow turns a TIFF upright while it loads it.
    image = cast("_TiffFile", _open(data, policy, _TiffFile, prepare_tiff))
    return to_rgb(
        image,
        policy.background,
        gray_bits=image.tag_v2.get(_BITS, (16,))[0],
        white_is_zero=image.tag_v2.get(_PHOTOMETRIC) == 0,
    )


def _decode_heif(data: bytes, policy: DecodePolicy) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as exc:
        raise BadImageError("HEIF needs pillow-heif: pip install 'embedkit[heif]'") from exc
    # Not its Pillow plugin: registering that would change Pillow for the whole process. libheif
    # turns the image upright by itself, and by rule EXIF has no say in it.
    opened = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    primary = opened[opened.primary_index]
    _check_sizes((primary.size,), policy)
    profile = primary.info.get("icc_profile")
    image = Image.frombytes(
        primary.mode, primary.size, primary.data, "raw", primary.mode, primary.stride
    )
    if profile:
        image.info["icc_profile"] = profile
    return to_rgb(image, policy.background)


_PLAIN: Mapping[str, tuple[type[ImageFile.ImageFile], Callable[[bytes], Prepared]]] = {
    "AVIF": (AvifImagePlugin.AvifImageFile, prepare_avif),
    "BMP": (BmpImagePlugin.BmpImageFile, Prepared),
    "GIF": (GifImagePlugin.GifImageFile, prepare_gif),
    # The plain class reads the first picture of an MPO too, and never warns about the others.
    "JPEG": (_JpegFile, Prepared),
    "PPM": (PpmImagePlugin.PpmImageFile, Prepared),
    "WEBP": (WebPImagePlugin.WebPImageFile, prepare_webp),
}
_SPECIAL: Mapping[str, Callable[[bytes, DecodePolicy], Image.Image]] = {
    "HEIF": _decode_heif,
    "PNG": _decode_png,
    "TIFF": _decode_tiff,
}


def _decode(kind: str, data: bytes, policy: DecodePolicy) -> Image.Image:
    """Decode by the plugin of a sniffed format, and by no other."""
    if kind in _SPECIAL:
        return _SPECIAL[kind](data, policy)
    plugin, prepare = _PLAIN[kind]
    return _finish(_open(data, policy, plugin, prepare), policy)


@contextmanager
def _mapped_errors(image_id: str) -> Iterator[None]:
    """Turn whatever decoding raises into a `DecodeError`.

    Damaged bytes bring nearly every built-in error out of the plugins and out of Little CMS, and
    the set grows with each release, so all of `Exception` is taken; KeyboardInterrupt is not one.
    """
    try:
        yield
    except BadImageError as exc:
        raise DecodeError(image_id, _one_line(str(exc))) from exc
    except MemoryError as exc:
        raise DecodeError(image_id, "not enough memory to decode it") from exc
    except Exception as exc:
        raise DecodeError(
            image_id, _one_line(f"{_damage_kind(exc)}: {str(exc) or type(exc).__name__}")
        ) from exc


_CUT = re.compile(
    "truncat|not enough|not large enough|end of|too short|no more|premature", re.IGNORECASE
)
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")
_MAX_REASON = 200


def _damage_kind(exc: Exception) -> str:
    """Classifies an error: a truncated file or a damaged one."""
    cut = isinstance(exc, (EOFError, IndexError, struct.error)) or _CUT.search(str(exc))
    return "truncated" if cut else "damaged"


def _one_line(text: str) -> str:
    """Printable, on one line, without memory addresses, at most 200 characters."""
    line = " ".join(_ADDRESS.sub("the file", text).split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
