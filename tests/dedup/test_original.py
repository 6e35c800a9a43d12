"""The original is found among its edits: by traces in each image, and by what the others show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from images import draw_photo, encode
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from embedkit.dedup.cleanup.original import MEASURES, judge, measure
from embedkit.dedup.cleanup.traces import find_traces


def photo(number=0):
    return draw_photo(number, (480, 360)).filter(ImageFilter.GaussianBlur(0.7))


def jpeg(image, quality=92):
    return encode(image, "JPEG", quality=quality)


def decoded(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def traces(data):
    return find_traces(data, np.asarray(decoded(data)))


def captioned(image):
    out = image.copy()
    pen = ImageDraw.Draw(out)
    pen.text((60, 290), "when you see it again", fill="white", font_size=32)
    return out


def turned(image):
    return image.rotate(8, Image.Resampling.BICUBIC)


EDITS = {
    "dark": ImageEnhance.Brightness(decoded(jpeg(photo()))).enhance(0.35),
    "turned": turned(photo()),
    "mirrored": ImageOps.mirror(photo()),
    "gray": ImageOps.grayscale(photo()).convert("RGB"),
    "captioned": captioned(photo()),
    "cropped": photo().crop((40, 30, 440, 330)),
    "blurred": photo().filter(ImageFilter.GaussianBlur(2)),
    "bordered": ImageOps.expand(photo(), 40, (30, 60, 90)),
    "enlarged": photo().resize((720, 540), Image.Resampling.BICUBIC),
}


@pytest.mark.parametrize("edit", sorted(set(EDITS) - {"mirrored", "captioned"}))
@pytest.mark.parametrize("quality", [90, 97])
def test_of_two_the_original_looks_less_edited(edit, quality):
    judged = judge([traces(jpeg(EDITS[edit], quality)), traces(jpeg(photo()))])
    assert judged[1][0] < judged[0][0]
    assert judged[1][1]


def test_a_soft_photograph_comes_before_its_small_and_sharp_copy():
    soft = photo().resize((960, 720), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 3, (720, 960, 1))
    soft = Image.fromarray((np.asarray(soft) + noise).clip(0, 255).astype(np.uint8))
    small = soft.resize((240, 180), Image.Resampling.LANCZOS)
    judged = judge([traces(jpeg(small, 90)), traces(jpeg(soft, 90))])
    assert judged[1][0] < judged[0][0]


@pytest.mark.parametrize("place", [0, 4, len(EDITS)])
def test_of_many_the_original_is_what_most_others_resemble(place):
    group = [traces(jpeg(edit, 90 + at % 3 * 3)) for at, edit in enumerate(EDITS.values())]
    group.insert(place, traces(jpeg(photo(), 90)))
    scores = [score for score, _ in judge(group)]
    assert int(np.argmin(scores)) == place


def test_among_others_a_caption_and_a_mirrored_image_stand_out():
    group = [photo(), captioned(photo()), ImageOps.mirror(photo()), turned(photo()), photo()]
    names = list(MEASURES)
    table = measure([traces(jpeg(image, 90 + at)) for at, image in enumerate(group)])
    alone_with, unlike = (table[:, names.index(name)] for name in ("alone_with", "unlike"))
    assert alone_with[1] > 2 * alone_with[[0, 4]].max()
    assert unlike[2] > unlike[[0, 1, 4]].max()


def test_two_images_differ_from_each_other_alike():
    table = measure([traces(jpeg(photo())), traces(jpeg(EDITS["dark"]))])
    assert np.allclose(table[0, -5:], table[1, -5:], atol=1e-5)


def test_one_image_and_none_are_judged():
    assert judge([]) == []
    assert judge([traces(jpeg(photo()))])[0][0] == 0


def test_an_earlier_compression_is_found_on_its_own_grid_and_on_another():
    coarse = decoded(jpeg(photo(), 50))
    again, moved = traces(jpeg(coarse, 92)), traces(jpeg(coarse.crop((3, 5, 480, 360)), 92))
    assert again.recompressed > 1
    assert moved.recompressed > 1
    assert moved.shifted


@pytest.mark.parametrize("quality", [40, 60, 75, 80, 92, 100])
def test_an_image_that_was_compressed_once_shows_it(quality):
    once = traces(jpeg(photo(), quality))
    assert not once.recompressed
    assert not once.shifted


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 300), (40, 40)])
def test_small_images_have_traces(size):
    table = measure([traces(jpeg(photo().resize(size))), traces(jpeg(photo()))])
    assert np.isfinite(table).all()


def test_an_even_edge_is_that_of_borders_and_turned_images():
    assert traces(jpeg(photo())).even_edge < 0.02
    assert traces(jpeg(turned(photo()))).even_edge > 0.1
    assert traces(jpeg(EDITS["bordered"])).even_edge > 0.99


def test_a_large_group_is_judged_by_a_part_of_it():
    some = [traces(jpeg(photo(), 80 + at)) for at in range(6)]
    group = [some[at % 6] for at in range(1200)]
    group[700] = traces(jpeg(captioned(photo()), 90))
    scores = [score for score, _ in judge(group)]
    assert int(np.argmax(scores)) == 700
