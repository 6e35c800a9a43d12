"""Detects the format of encoded bytes from their first bytes, whatever the file name."""

from __future__ import annotations

import re

__all__ = ["describe_other", "raw_name", "sniff_format"]

_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    # The size of the second header makes it a bitmap, and not a text that begins with BM.
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[1-6][\s#]"), "PPM"),
    (re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  "), "JPEG2000"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEGXL"),
)
_RAWS = (
    (re.compile(rb"II\*\0\x10\0\0\0CR\x02\0"), "Canon CR2"),
    (re.compile(rb"....ftypcrx ", re.DOTALL), "Canon CR3"),
    (re.compile(rb"II\x1a\0\0\0HEAPCCDR"), "Canon CRW"),
    (re.compile(rb"IIR[OS]|MMOR"), "Olympus ORF"),
    (re.compile(rb"IIU\0"), "Panasonic RW2"),
    (re.compile(rb"FUJIFILMCCD-RAW"), "Fujifilm RAF"),
    # The pixels of an ordinary TIFF may begin with four I too.
    (re.compile(rb"II\*\0....IIII.waR|MM\0\*....MMMMRaw", re.DOTALL), "Phase One IIQ"),
    (re.compile(rb"FOVb"), "Sigma X3F"),
    (re.compile(rb"\0MR[MI]"), "Minolta MRW"),
)  # fmt: skip
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
)

_OTHERS = (
    (re.compile(rb"%PDF-"), "PDF document"),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), "ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "gzip data"),
    (re.compile(rb"7z\xbc\xaf"), "7z archive"),
    (re.compile(rb"Rar!"), "RAR archive"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "Zstandard data"),
    (re.compile(rb"\x89HDF\r\n"), "HDF5 file"),
    (re.compile(rb"\x93NUMPY"), "NumPy array"),
    (re.compile(rb"SQLite format"), "SQLite database"),
    (re.compile(rb"\x7fELF|MZ"), "program"),
    (re.compile(rb"\x1aE\xdf\xa3"), "video (matroska)"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "video (avi)"),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "sound (wav)"),
    (re.compile(rb"ID3|OggS|fLaC"), "sound"),
    (re.compile(rb"....ftyp", re.DOTALL), "video (mp4)"),
    (re.compile(rb"II\xbc"), "JPEG XR: not supported"),
    (re.compile(rb"8BPS"), "Photoshop document: not supported"),
    (re.compile(rb"\0\0[\1\2]\0[^\0]\0"), "icon or cursor: not supported"),
    (re.compile(rb"P[fF7][\s]"), "PFM or PAM image: not supported"),
    (re.compile(rb"\x76\x2f\x31\x01"), "OpenEXR image: not supported"),
    (re.compile(rb"%!PS"), "PostScript: not supported"),
    (re.compile(rb"(?is)(?=<(?:\?xml|!--|!doctype\s+svg|svg)).*?<svg\b"), "SVG: not supported"),
    (re.compile(rb"<!doctype html|<html|<head|<body", re.IGNORECASE), "HTML page"),
    (re.compile(rb"<\?xml"), "XML document"),
    (re.compile(rb"version https://git-lfs"), "Git LFS pointer, not the file itself"),
)  # fmt: skip
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+\Z")


def sniff_format(data: bytes) -> str | None:
    """The image format of encoded bytes.

    Args:
        data: The first 64 bytes, or more of them.

    Returns:
        ``JPEG``, ``PNG``, ``WEBP``, ``GIF``, ``BMP``, ``TIFF``, ``PPM``, ``AVIF``, ``HEIF``,
        ``JPEG2000`` or ``JPEGXL``; ``RAW`` for a camera raw that its first bytes tell, which is
        refused; None if it is none of these.
    """
    name = next((name for pattern, name in _SIGNATURES if pattern.match(data)), None)
    if name in (None, "TIFF") and raw_name(data) is not None:
        return "RAW"
    if name is not None:
        return name
    return _sniff_brands(data) if data[4:8] == b"ftyp" else None


def raw_name(data: bytes) -> str | None:
    """The kind of a camera raw that its first 16 bytes tell; None for anything else."""
    return next((name for pattern, name in _RAWS if pattern.match(data)), None)


def _sniff_brands(data: bytes) -> str | None:
    """AVIF or HEIF from the brands of an ISO media file's first box."""
    end = min(int.from_bytes(data[:4], "big"), 64)
    compatible = {data[at : at + 4] for at in range(16, end, 4)}
    major = data[8:12]
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and compatible & _AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if major in _HEIF_BRANDS else None


def describe_other(data: bytes) -> str:
    """What bytes that are no supported image seem to be, as one short line.

    Args:
        data: The encoded bytes, not empty.

    Returns:
        Such as ``PDF document``, or the first bytes where nothing is recognised.
    """
    head = data[:1024].removeprefix(b"\xef\xbb\xbf")
    trimmed = head.lstrip() or head
    for pattern, name in _OTHERS:
        if pattern.match(trimmed):
            return name if name.endswith("supported") else f"not an image: {name}"
    if not any(head):
        return "not an image: only zero bytes"
    starts = f"starts with {data[:16]!r}"
    return f"not an image: text, {starts}" if _TEXT.match(head) else f"not an image: {starts}"
