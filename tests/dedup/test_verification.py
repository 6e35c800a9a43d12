"""Verification tells edited copies of drawn images from other images, and how they were made."""

from __future__ import annotations

import numpy as np
import pytest
from images import draw_photo
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from embedkit.dedup.scoring.pixel_model import pixel_odds
from embedkit.dedup.verification.geometric import Evidence, compare
from embedkit.dedup.verification.image_to_compare import ImageToCompare
from embedkit.dedup.verification.keypoints import find_keypoints, match
from embedkit.dedup.verification.registration import by_keypoints

SIZE = (400, 300)


def look(first: Image.Image, second: Image.Image) -> Evidence:
    return compare(*(ImageToCompare.of(np.asarray(image)) for image in (first, second)))


def is_copy(evidence: Evidence) -> bool:
    return bool(pixel_odds([evidence])[0] > 2)


EDITS = {
    "the same": lambda image: image,
    "half": lambda image: image.resize((200, 150)),
    "cropped": lambda image: image.crop((100, 60, 360, 280)),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.rotate(30, Image.Resampling.BICUBIC),
    "quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.4),
    "gray": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "framed": lambda image: ImageOps.expand(image, 60, (200, 30, 90)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("seed", [1, 2])
def test_copies_are_recognised(edit: object, seed: int) -> None:
    image = draw_photo(seed, SIZE)
    assert is_copy(look(image, edit(image)))


def test_other_images_are_not() -> None:
    features = [ImageToCompare.of(np.asarray(draw_photo(seed, SIZE))) for seed in range(12)]
    found = [compare(a, b) for n, a in enumerate(features) for b in features[:n]]
    assert not any(map(is_copy, found))


def test_one_thing_before_two_backgrounds_is_no_copy() -> None:
    def posed(background: int) -> Image.Image:
        image = draw_photo(background, SIZE)
        image.paste(draw_photo(99, (150, 190)), (120, 60))
        return image

    assert not is_copy(look(posed(1), posed(2)))
    captioned = posed(1)
    ImageDraw.Draw(captioned).rectangle((0, 240, 400, 300), "white")
    for copy in (captioned, posed(1).crop((60, 40, 360, 280))):
        assert is_copy(look(posed(1), copy))


def test_crop_scale_and_flip_are_told() -> None:
    image = draw_photo(3, SIZE)
    how = look(image, image.crop((80, 30, 320, 240)).resize((480, 420))).how
    np.testing.assert_allclose(how["crop"], [0.2, 0.1, 0.8, 0.8], atol=0.01)
    assert how["scale"] == pytest.approx(2, abs=0.02)
    assert how["rotation"] == pytest.approx(0, abs=0.5)
    assert how["flip"] is False
    how = look(image, ImageOps.mirror(image.crop((0, 0, 200, 300)))).how
    np.testing.assert_allclose(how["crop"], [0, 0, 0.5, 1], atol=0.01)
    assert how["flip"] is True


@pytest.mark.parametrize(("degrees", "expected"), [(20, -20), (-35, 35), (90, -90), (180, 180)])
def test_rotation_is_told_clockwise(degrees: int, expected: int) -> None:
    image = draw_photo(4, SIZE)
    how = look(image, image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)).how
    assert (how["rotation"] - expected + 180) % 360 - 180 == pytest.approx(0, abs=1.5)


def smooth(seed: int) -> Image.Image:
    """An image without a keypoint: a few colours that run into each other."""
    spots = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return Image.fromarray(spots).resize(SIZE, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_smooth_images_are_laid_over_each_other_whole(turns: int, flip: bool) -> None:
    image = smooth(0)
    edited = ImageOps.mirror(image) if flip else image
    evidence = look(image, edited.rotate(90 * turns, expand=True).resize((150, 150)))
    assert is_copy(evidence)
    if not evidence.inliers:
        assert evidence.how["flip"] is flip
        assert round(evidence.how["rotation"] + 90 * turns) % 360 == 0


def test_other_smooth_images_are_not() -> None:
    found = [look(smooth(a), smooth(b)) for a in range(6) for b in range(a)]
    assert not any(map(is_copy, found))


def test_blank_and_tiny_images() -> None:
    blank = Image.new("RGB", SIZE, (9, 9, 9))
    for other in (blank, draw_photo(0, SIZE), Image.new("RGB", (1, 1)), Image.new("RGB", (900, 1))):
        for pair in ((blank, other), (other, blank)):
            evidence = look(*pair)
            assert evidence.inliers == 0
            assert not pixel_odds([evidence])[0] > 0
    tiny = look(draw_photo(0, SIZE), draw_photo(0, SIZE).resize((12, 9)))
    assert np.isfinite([tiny.agreement.agreeing, tiny.covered]).all()


def test_mirrored_keypoints_are_those_of_the_mirrored_image() -> None:
    image = np.asarray(draw_photo(5, (256, 192)).convert("L"))
    ours = find_keypoints(image).mirrored(image.shape[1])
    theirs = find_keypoints(np.ascontiguousarray(image[:, ::-1]))
    assert ours.points.shape[0] > 30
    distance = np.linalg.norm(ours.points[:, None] - theirs.points[None], axis=2)
    same = distance.min(1) < 0.7
    assert same.mean() > 0.6
    mine, other = (one.descriptors.astype(float) / 255 for one in (ours, theirs))
    alike = (mine[same] * other[distance.argmin(1)[same]]).sum(1)
    assert np.median(alike) > 0.98


def test_right_matches_turn_and_scale_an_image_alike() -> None:
    image = draw_photo(6, SIZE)
    own, other = (
        find_keypoints(np.asarray(one.convert("L"))) for one in (image, draw_photo(7, SIZE))
    )
    turned = image.rotate(40, Image.Resampling.BICUBIC).resize((300, 225))
    found = match(own, find_keypoints(np.asarray(turned.convert("L"))))
    assert found.votes > 10
    assert found.votes <= len(found.points) == len(found.targets)
    for wrong in (match(own.mirrored(SIZE[0]), own), match(own, other)):
        assert wrong.votes < found.votes / 2
    none = find_keypoints(np.zeros((50, 50), np.uint8))
    assert match(own, none).votes == match(none, own).votes == 0


def test_of_an_image_and_its_mirror_image_the_likelier_way_comes_first() -> None:
    image = draw_photo(8, SIZE).crop((60, 40, 360, 260))
    whole = ImageToCompare.of(np.asarray(draw_photo(8, SIZE)))
    for copy, flip in ((image, False), (ImageOps.mirror(image), True)):
        found = list(by_keypoints(ImageToCompare.of(np.asarray(copy)), whole))
        assert [one.flip for one in found] == [flip]
