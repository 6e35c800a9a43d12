"""Decodes bytes to an upright 8-bit sRGB image, or raises `DecodeError` with the reason.

The policy is in docs/decoding.md. Safe to call from many threads: nothing global in Pillow is
changed. The plugin of the sniffed format is called directly, so that no other one sees the file,
and the sizes are compared with the policy's limits, not with Pillow's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)
from PIL.TiffImagePlugin import TiffImageFile

from embedkit.decode.checks import (
    Header,
    check_bmp,
    check_gif,
    check_jpeg_2000,
    check_png,
    check_webp,
)
from embedkit.decode.color import srgb_transform, to_rgb
from embedkit.decode.failure import BadImageError, mapped_errors
from embedkit.decode.jpeg_header import JpegParts, check_jpeg, scan_jpeg
from embedkit.decode.jpeg_xl import decode_jpeg_xl, jpeg_xl_size
from embedkit.decode.netpbm import check_ppm, read_slow_ppm
from embedkit.decode.orientation import header_orientation, orientation, upright
from embedkit.decode.pillow_reader import StrictReader, check_sizes, open_image
from embedkit.decode.policy import DecodedImage, DecodePolicy
from embedkit.decode.sniff import describe_other, raw_name, sniff_format
from embedkit.decode.tiff import check_strips, palette_of, read_tiff_header, why_not_pillow
from embedkit.decode.tiff_directory import Tag
from embedkit.decode.tiff_fallback import decode_with_tifffile
from embedkit.decode.time_limit import IMAGE_SECONDS, decode_within
from embedkit.utils.arguments import plain_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL import ImageFile

__all__ = ["JpegHeader", "decode_image", "read_jpeg_header", "upright_rgb"]

_DEFAULT_POLICY = DecodePolicy()
_Decoded = tuple[Image.Image, int]
"""The image, RGB and upright, and the number of frames or pages."""


@plain_numbers
def decode_image(
    data: bytes,
    image_id: str,
    policy: DecodePolicy = _DEFAULT_POLICY,
    timeout: float = IMAGE_SECONDS,
) -> DecodedImage:
    """Decode one image.

    Args:
        data: The encoded file.
        image_id: Named in the error.
        policy: Limits and background.
        timeout: Seconds that decoding may take; 0 is no limit.

    Returns:
        The image, as it is meant to be seen.

    Raises:
        DecodeError: If it can't be decoded, or takes too long; the reason is one line of at most
            200 characters.
    """
    return decode_within(timeout, image_id, lambda: _decoded(data, image_id, policy))


def _decoded(data: bytes, image_id: str, policy: DecodePolicy) -> DecodedImage:
    with mapped_errors(image_id):
        if not data:
            raise BadImageError("empty file (0 bytes)")
        if len(data) > policy.max_bytes:
            raise BadImageError(
                f"too large: {len(data):,} bytes, the limit is {policy.max_bytes:,}"
            )
        kind = sniff_format(data)
        if kind is None:
            raise BadImageError(describe_other(data))
        if kind == "RAW":
            name = raw_name(data)
            raise BadImageError(f"a camera raw ({name}): convert it to TIFF or JPEG first")
        image, frames = _decode(kind, data, policy)
        return DecodedImage(image, kind, frames)


def upright_rgb(
    image: Image.Image, image_id: str, policy: DecodePolicy = _DEFAULT_POLICY
) -> Image.Image:
    """Convert an image that Pillow opened, as `decode_image` does with the file.

    Args:
        image: Any mode; it isn't changed.
        image_id: Named in the error.
        policy: Limits and background.

    Returns:
        The image in RGB, 8-bit sRGB, turned as its EXIF says.

    Raises:
        DecodeError: If it can't be loaded or converted, or is too large.
    """
    with mapped_errors(image_id):
        check_sizes((image.size,), policy)
        return _finish(image.copy(), policy)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What an ordinary JPEG says of itself before its pixels.

    Attributes:
        orientation: As EXIF or XMP states it, 1 to 8.
        to_srgb: What turns its colours into sRGB; None if they are sRGB.
        is_simple: Whether it is of the baseline kind, with all components in one scan.
    """

    orientation: int
    to_srgb: ImageCms.ImageCmsTransform | None
    is_simple: bool


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
    with mapped_errors(image_id):
        parts = scan_jpeg(data)
        if parts is None or parts.has_many_scans:
            check_jpeg(data)
        parts = parts or _pillow_parts(data)
        if parts is None:
            return None
        check_sizes((parts.size,), policy)
        turn = header_orientation(parts.exif, parts.xmp)
        is_simple = parts.is_baseline and not parts.has_many_scans
        return JpegHeader(turn, srgb_transform(parts.profile, "RGB"), is_simple)


def _pillow_parts(data: bytes) -> JpegParts | None:
    """The header as Pillow reads it; None if it isn't of three components."""
    image = JpegImagePlugin.JpegImageFile(StrictReader(data))
    if image.mode != "RGB":
        return None
    info = image.info
    exif, xmp = info.get("exif", b""), info.get("xmp", b"")
    return JpegParts(image.size, exif, xmp, info.get("icc_profile"), has_many_scans=True)


def _finish(image: Image.Image, policy: DecodePolicy) -> Image.Image:
    """Convert, and turn as EXIF or XMP says."""
    turn = orientation(image)
    return upright(to_rgb(image, policy.background), turn)


def _decode_png(data: bytes, policy: DecodePolicy) -> _Decoded:
    image, frames = open_image(data, policy, PngImagePlugin.PngImageFile, check_png)
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        # The file states the transparent colour in its own bit depth, the pixels now have 8.
        image.info["transparency"] = _scaled_key(image.info["transparency"], depth=data[24])
    return _finish(image, policy), frames


def _scaled_key(key: object, depth: int) -> object:
    """A gray level or an RGB colour of ``depth`` bits, in 8 bits."""
    if isinstance(key, tuple):
        return tuple(level >> (depth - 8) for level in key)
    return key * 255 // (2**depth - 1) if isinstance(key, int) else key


def _decode_ppm(data: bytes, policy: DecodePolicy) -> _Decoded:
    check_ppm(data)
    opened = PpmImagePlugin.PpmImageFile(StrictReader(data))
    check_sizes((opened.size,), policy)
    image = read_slow_ppm(data, opened)
    if image is None:
        image, _ = open_image(data, policy, PpmImagePlugin.PpmImageFile, None)
    return _finish(image, policy), 1


def _decode_tiff(data: bytes, policy: DecodePolicy) -> _Decoded:
    header = read_tiff_header(data)
    page = header.page
    check_sizes(header.sizes, policy)
    check_strips(data, page)
    layout = why_not_pillow(page)
    if layout is not None:
        return to_rgb(decode_with_tifffile(data, page, layout), policy.background), header.frames
    # Pillow turns a TIFF upright while it loads it.
    # Every strip lies inside the file, and Pillow may well read its metadata up to the end.
    known = Header(frames=header.frames)
    image, _ = open_image(data, policy, TiffImageFile, lambda _: known, strict=False)
    if image.mode in ("P", "PA"):
        image.putpalette(palette_of(page).tobytes())
    bits, photometric = page.first(Tag.BITS, 1), page.first(Tag.PHOTOMETRIC)
    rgb = to_rgb(image, policy.background, gray_bits=bits, white_is_zero=photometric == 0)
    return rgb, header.frames


def _decode_jpeg_xl(data: bytes, policy: DecodePolicy) -> _Decoded:
    check_sizes((jpeg_xl_size(data),), policy)
    return _finish(decode_jpeg_xl(data), policy), 1


def _decode_heif(data: bytes, policy: DecodePolicy) -> _Decoded:
    try:
        import pillow_heif
    except ImportError as exc:
        raise BadImageError("HEIF needs pillow-heif: pip install 'embedkit[heif]'") from exc
    # Not its Pillow plugin: registering that would change Pillow for the whole process. libheif
    # turns the image upright by itself, and by rule EXIF has no say in it.
    opened = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    primary = opened[opened.primary_index]
    check_sizes((primary.size,), policy)
    profile = primary.info.get("icc_profile")
    image = Image.frombytes(
        primary.mode, primary.size, primary.data, "raw", primary.mode, primary.stride
    )
    if profile:
        image.info["icc_profile"] = profile
    return to_rgb(image, policy.background), len(opened)


_PLAIN: Mapping[str, tuple[type[ImageFile.ImageFile], Callable[[bytes], Header] | None]] = {
    "AVIF": (AvifImagePlugin.AvifImageFile, None),
    "BMP": (BmpImagePlugin.BmpImageFile, check_bmp),
    "GIF": (GifImagePlugin.GifImageFile, check_gif),
    # The plain class reads the first picture of an MPO too, and never warns about the others.
    "JPEG": (JpegImagePlugin.JpegImageFile, check_jpeg),
    "JPEG2000": (Jpeg2KImagePlugin.Jpeg2KImageFile, check_jpeg_2000),
    "WEBP": (WebPImagePlugin.WebPImageFile, check_webp),
}
_SPECIAL: Mapping[str, Callable[[bytes, DecodePolicy], _Decoded]] = {
    "HEIF": _decode_heif,
    "JPEGXL": _decode_jpeg_xl,
    "PNG": _decode_png,
    "PPM": _decode_ppm,
    "TIFF": _decode_tiff,
}


def _decode(kind: str, data: bytes, policy: DecodePolicy) -> _Decoded:
    """Decode by the plugin of a sniffed format, and by no other."""
    if kind in _SPECIAL:
        return _SPECIAL[kind](data, policy)
    plugin, check = _PLAIN[kind]
    image, frames = open_image(data, policy, plugin, check)
    return _finish(image, policy), frames
