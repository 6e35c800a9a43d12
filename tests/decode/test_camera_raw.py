"""A camera raw is never taken for its preview, and an ordinary TIFF never for a raw."""

from __future__ import annotations

import numpy as np
import pytest
from images import draw_photo
from tiff_files import ASCII, LONG, SHORT, Page, tiff

from embedkit.decode.exact import decode_image
from embedkit.decode.sniff import sniff_format
from embedkit.errors import DecodeError

PHOTO = np.asarray(draw_photo(1, (120, 90)))
PREVIEW = np.asarray(draw_photo(1, (40, 30)))
MOSAIC = PHOTO[..., 1].astype(np.uint16) << 4
REDUCED = {254: (LONG, (1,))}
CAMERA = {271: (ASCII, b"NIKON CORPORATION\0"), 272: (ASCII, b"NIKON D850\0")}
CFA = {262: (SHORT, (32803,)), 33421: (SHORT, (2, 2))}


def reason(data: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_image(data, "DSC_0001.JPG")
    return caught.value.reason


def raws() -> dict[str, bytes]:
    mosaic = Page(MOSAIC, CFA)
    return {
        "NEF": tiff(Page(PREVIEW, REDUCED | CAMERA, [mosaic])),
        "NEF, big-endian": tiff(Page(PREVIEW, REDUCED | CAMERA, [mosaic]), order=">"),
        "NEF, several sub-images": tiff(Page(PREVIEW, REDUCED, [Page(PREVIEW), mosaic])),
        "ARW": tiff(Page(PREVIEW, REDUCED, [Page(MOSAIC, {259: (SHORT, (32767,))})])),
        "SRW": tiff(Page(PREVIEW, {}, [Page(MOSAIC, {259: (SHORT, (32770,))})])),
        "DNG": tiff(Page(PREVIEW, REDUCED | {50706: (SHORT, (1, 4, 0, 0))}, [Page(MOSAIC)])),
        "DNG, linear": tiff(Page(PREVIEW, REDUCED, [Page(PHOTO, {262: (SHORT, (34892,))})])),
        "DNG without a preview": tiff(mosaic),
        "a preview that doesn't say so": tiff(Page(PREVIEW, {}, [mosaic])),
        "a black preview": tiff(Page(np.zeros_like(PREVIEW), REDUCED, [mosaic])),
        "PEF": tiff(Page(MOSAIC, {259: (SHORT, (65535,))}), Page(PREVIEW)),
        "the mosaic in a later page": tiff(Page(PREVIEW, REDUCED), Page(MOSAIC, CFA)),
    }


@pytest.mark.parametrize("kind", raws())
def test_a_raw_is_refused(kind: str) -> None:
    assert reason(raws()[kind]).startswith("a camera raw: only its preview could be read")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3"),
        (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"MMOR\0\0\0\x08", "Olympus ORF"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"II*\0\x08\0\0\0IIII\x01waR", "Phase One IIQ"),
        (b"MM\0*\0\0\0\x08MMMMRaw\x01", "Phase One IIQ"),
        (b"FOVb\1\0\2\0", "Sigma X3F"),
        (b"\0MRM\0\1\2\3", "Minolta MRW"),
    ],
)
def test_a_raw_of_a_container_of_its_own_is_named(head: bytes, name: str) -> None:
    data = head + bytes(200)
    assert sniff_format(data) == "RAW"
    assert reason(data) == f"a camera raw ({name}): convert it to TIFF or JPEG first"


def test_a_preview_of_a_plain_picture_is_not_taken_for_it() -> None:
    for data in (
        tiff(Page(PREVIEW, REDUCED), Page(PHOTO)),
        tiff(Page(PREVIEW, {255: (SHORT, (2,))}), Page(PHOTO)),
        tiff(Page(PREVIEW, {}, [Page(PHOTO)])),
    ):
        assert "only a preview, 40x30, of a picture of 120x90" in reason(data)
    alone = tiff(Page(PREVIEW, REDUCED | CAMERA))
    assert reason(alone).startswith("a camera's file that begins with a preview")


@pytest.mark.parametrize("levels", [b"IIII", b"MMMM", b"CR\2\0"])
def test_pixels_that_spell_a_signature_make_no_raw(levels: bytes) -> None:
    pixels = np.frombuffer(levels * 3, np.uint8).reshape(3, 4)
    for order in "<>":
        found = decode_image(tiff(Page(pixels), order=order), "x").image
        np.testing.assert_array_equal(np.asarray(found)[..., 0], pixels)


def test_ordinary_tiffs_are_read() -> None:
    whole = {
        "a scanner's": tiff(Page(PHOTO, CAMERA)),
        "a pyramid in sub-images": tiff(Page(PHOTO, CAMERA, [Page(PREVIEW, REDUCED)])),
        "a pyramid in pages": tiff(Page(PHOTO), Page(PREVIEW, REDUCED)),
        "pages of several sizes": tiff(Page(PHOTO), Page(np.tile(PHOTO, (2, 2, 1)))),
        "a mask": tiff(Page(PHOTO), Page(PREVIEW[..., 0], {254: (LONG, (4,))})),
        "reduced, with nothing larger": tiff(Page(PHOTO, REDUCED), Page(PREVIEW)),
        "a part that can't be read": tiff(Page(PHOTO, {330: (LONG, (1 << 30,))})),
    }
    for name, data in whole.items():
        decoded = decode_image(data, name)
        np.testing.assert_array_equal(np.asarray(decoded.image), PHOTO, err_msg=name)
