"""The fast decoder beside the exact one: pixels, facts, hashes and errors."""

from __future__ import annotations

import io

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image, ImageCms

from embedkit.decode import fast as fast_decoder
from embedkit.decode.image_loader import ImageLoader, LoadedImage
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import DecodeError

BILINEAR = Preprocessing()
BICUBIC = Preprocessing(interpolation="bicubic")
POLICY = DecodePolicy()


def both(data: bytes, preprocessing: Preprocessing = BILINEAR) -> tuple[LoadedImage, LoadedImage]:
    return (
        ImageLoader(POLICY, preprocessing, "fast")(data, "x.jpg"),
        ImageLoader(POLICY, preprocessing, "exact")(data, "x.jpg"),
    )


def assert_alike(fast: LoadedImage, exact: LoadedImage, levels: int = 2) -> None:
    assert fast.pixels.shape == exact.pixels.shape
    assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= levels
    facts = (exact.width, exact.height, exact.format)
    assert (fast.width, fast.height, fast.format) == facts
    assert (fast.phash ^ exact.phash).bit_count() <= 2


@pytest.mark.parametrize("preprocessing", [BILINEAR, BICUBIC], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (225, 900), (60, 41), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_fast_is_within_two_levels(size, options, preprocessing) -> None:
    for seed in range(3):
        data = encode(draw_photo(seed, size), "JPEG", quality=90, **options)
        assert fast_decoder.decode_jpeg(data, "x", POLICY) is not None
        assert_alike(*both(data, preprocessing))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_one_policy(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(draw_photo(5, (300, 200)), "JPEG", quality=95, exif=exif.tobytes())
    upright = fast_decoder.decode_jpeg(data, "x", POLICY)
    assert upright is not None
    assert upright.flags.c_contiguous
    fast, exact = both(data)
    assert_alike(fast, exact)
    assert (fast.width, fast.height) == ((300, 200) if orientation < 5 else (200, 300))


def test_profiles_are_one_policy() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, swapped, b"no profile"):
        data = encode(draw_photo(6, (300, 200)), "JPEG", icc_profile=profile)
        assert_alike(*both(data))


def test_limits_are_one_policy() -> None:
    data = encode(draw_photo(0, (300, 200)), "JPEG")
    for policy in (DecodePolicy(max_pixels=59_999), DecodePolicy(max_bytes=len(data) - 1)):
        reasons = []
        for decoder in ("fast", "exact"):
            with pytest.raises(DecodeError) as caught:
                ImageLoader(policy, BILINEAR, decoder)(data, "x.jpg")
            reasons.append(caught.value.reason)
        assert reasons[0] == reasons[1]


@pytest.mark.parametrize(
    ("image", "format_"),
    [
        (draw_photo(1).convert("L"), "JPEG"),
        (draw_photo(1).convert("CMYK"), "JPEG"),
        (draw_photo(1), "PNG"),
        (draw_photo(1), "WEBP"),
    ],
    ids=["gray", "cmyk", "png", "webp"],
)
def test_what_is_out_of_the_ordinary_is_exact(image, format_) -> None:
    data = encode(image, format_)
    assert fast_decoder.decode_jpeg(data, "x", POLICY) is None
    fast, exact = both(data)
    np.testing.assert_array_equal(fast.pixels, exact.pixels)
    assert fast.phash == exact.phash


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(interpolation="lanczos"), Preprocessing(resize=100, crop=224)],
    ids=["lanczos", "padded"],
)
def test_other_filters_and_padding_are_exact(preprocessing: Preprocessing) -> None:
    assert not fast_decoder.can_scale(preprocessing)
    fast, exact = both(encode(draw_photo(2, (300, 200)), "JPEG"), preprocessing)
    np.testing.assert_array_equal(fast.pixels, exact.pixels)


def test_squash_is_within_two_levels() -> None:
    data = encode(draw_photo(3, (300, 200)), "JPEG")
    assert_alike(*both(data, Preprocessing(crop_mode="squash", interpolation="bicubic")))


def test_damage_gets_the_same_verdict() -> None:
    whole = encode(draw_photo(4, (300, 200)), "JPEG")
    random = np.random.default_rng(0)
    for at in random.integers(2, len(whole), 60).tolist():
        flipped = bytearray(whole)
        flipped[at] ^= 0x55
        for data in (whole[:at], bytes(flipped)):
            verdicts = []
            for decoder in ("fast", "exact"):
                try:
                    ImageLoader(POLICY, BILINEAR, decoder)(data, "x.jpg")
                    verdicts.append("")
                except DecodeError as exc:
                    verdicts.append(exc.reason)
            assert verdicts[0] == verdicts[1]


def test_too_narrow_is_a_decode_error() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 20_000)).save(buffer, "JPEG")
    for decoder in ("fast", "exact"):
        with pytest.raises(DecodeError, match="too narrow"):
            ImageLoader(POLICY, Preprocessing(resize=256), decoder)(buffer.getvalue(), "x.jpg")
