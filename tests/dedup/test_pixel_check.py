"""What a plan acts upon: copies pass the check, pictures of one layout don't."""

from __future__ import annotations

import io

import numpy as np
import pytest
from images import draw_photo
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

pytest.importorskip("cv2")

from embedkit.dedup.verification.pixel_check import CheckedImage, why_not_contained


def checked(image, quality=None):
    if quality is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        image = Image.open(file)
    return CheckedImage.of(np.asarray(image.convert("RGB")))


def code(seed):
    modules = np.random.default_rng(seed).random((25, 25)) < 0.5
    for y, x in ((0, 0), (0, 18), (18, 0)):
        modules[y : y + 7, x : x + 7] = True
        modules[y + 1 : y + 6, x + 1 : x + 6] = False
        modules[y + 2 : y + 5, x + 2 : x + 5] = True
    image = Image.fromarray(np.where(np.pad(modules, 2), 0, 255).astype(np.uint8))
    return image.resize((290, 290), Image.Resampling.NEAREST).convert("RGB")


def blank(size=(600, 480)):
    image = Image.new("RGB", size, "white")
    return image, ImageDraw.Draw(image)


def bars(seed):
    image, pen = blank()
    pen.line((60, 20, 60, 440, 580, 440), fill="black", width=2)
    for at, height in enumerate(np.random.default_rng(seed).integers(20, 380, 10).tolist()):
        pen.rectangle((75 + at * 48, 440 - height, 110 + at * 48, 440), fill="steelblue")
    return image


def words(rng, count):
    return " ".join("".join(rng.choice(list("abdeghiklmnoprstu"), 5)) for _ in range(count))


def page(seed):
    image, pen = blank((480, 600))
    rng = np.random.default_rng(seed)
    for top in range(40, 560, 20):
        pen.text((40, top), words(rng, 8), font=ImageFont.load_default(14), fill="black")
    return image


def form(seed):
    """Equal but for what one field says."""
    image, pen = blank((480, 400))
    rng, font = np.random.default_rng(0), ImageFont.load_default(15)
    for at in range(7):
        pen.rectangle((200, 30 + at * 50, 450, 60 + at * 50), outline="black")
        pen.text((30, 36 + at * 50), words(rng, 2), font=font, fill="black")
        filled = np.random.default_rng(seed) if at == 3 else rng
        pen.text((210, 36 + at * 50), words(filled, 2), font=font, fill="navy")
    return image


GRAPHICS = (code, bars, page, form)


@pytest.mark.parametrize("draw", GRAPHICS)
def test_graphics_of_one_layout_are_no_copies(draw):
    images = [checked(draw(seed)) for seed in (1, 2, 3)]
    for i in range(3):
        assert "differ" in why_not_contained(images[i], images[i - 1])


@pytest.mark.parametrize("draw", [*GRAPHICS, draw_photo])
def test_copies_pass(draw):
    image = draw(5)
    original = checked(image)
    small = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
    for copy in (
        checked(image, 60), checked(small, 85), checked(ImageOps.mirror(image)),
        checked(image.rotate(90, expand=True)), checked(ImageOps.expand(image, 30, "green"), 90),
    ):  # fmt: skip
        assert why_not_contained(copy, original) == ""


def test_a_part_is_contained_in_the_whole_but_not_the_other_way():
    image = draw_photo(3, (480, 360))
    whole, part = checked(image), checked(image.crop((60, 40, 400, 300)))
    assert why_not_contained(part, whole) == ""
    assert "differ" in why_not_contained(whole, part)


def test_a_thing_that_moved_makes_another_picture():
    scene = draw_photo(4, (480, 360))
    frames = []
    for x in (100, 180):
        frame = scene.copy()
        frame.paste(draw_photo(9, (60, 90)), (x, 200))
        frames.append(checked(frame))
    assert "differ" in why_not_contained(*frames)


def test_another_colour_makes_another_picture():
    rng = np.random.default_rng(0)
    shade = Image.fromarray(rng.integers(60, 200, (30, 40), np.uint8)).resize((400, 300))
    pictures = []
    for hue in (0, 90):
        layers = [Image.new("L", shade.size, value) for value in (hue, 200)]
        dress = Image.merge("HSV", [*layers, shade]).convert("RGB")
        picture = Image.new("RGB", (600, 400), "white")
        picture.paste(dress, (100, 50))
        pictures.append(checked(picture))
    assert why_not_contained(*pictures) != ""


def test_a_gray_copy_is_contained_in_the_colours_but_not_the_other_way():
    image = draw_photo(6)
    colours, gray = checked(image), checked(ImageOps.grayscale(image))
    assert why_not_contained(gray, colours) == ""
    assert why_not_contained(colours, gray) != ""


def test_what_has_no_details_can_not_be_told():
    sky = Image.new("RGB", (300, 200), (90, 140, 220))
    assert "detail" in why_not_contained(checked(sky), checked(sky.filter(ImageFilter.BLUR)))


def grained(seed):
    """A photograph with fine details everywhere."""
    coarse = np.random.default_rng(seed).normal(128, 60, (180, 240)).clip(0, 255)
    grain = Image.fromarray(coarse.astype(np.uint8)).resize((480, 360), Image.Resampling.BICUBIC)
    pixels = np.asarray(draw_photo(seed, (480, 360))) + np.asarray(grain, int)[..., None] - 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_a_smaller_copy_lacks_details_but_a_larger_one_adds_none():
    image = grained(2)
    small, large = checked(image.resize((200, 150))), checked(image.resize((960, 720)))
    original = checked(image)
    assert why_not_contained(original, small, resolution=True) == "it shows finer details"
    assert why_not_contained(large, original, resolution=True) == ""


def test_what_a_border_hides_is_missed():
    image = grained(8)
    turned = image.rotate(5, Image.Resampling.BICUBIC)
    assert "differ" in why_not_contained(checked(image), checked(turned))
    assert why_not_contained(checked(turned), checked(image)) == ""
