"""No image goes whose bytes or pixels weren't compared with those of what stays."""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys

import numpy as np
import pytest
from duplicates import make_found, make_pairs
from images import draw_photo, encode
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

pytest.importorskip("cv2")

from embedkit.dedup import apply_plan, make_plan, write_plan
from embedkit.dedup.cleanup.compare import compared_mark, is_raw
from embedkit.errors import DedupError, SourceError


def animation(*seeds):
    file = io.BytesIO()
    first, *others = (draw_photo(seed) for seed in seeds)
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


PHOTO = draw_photo(1, (480, 360))
JPEG = encode(PHOTO, "JPEG", quality=90)
SMALL = encode(PHOTO.resize((240, 180)), "JPEG", quality=90)
OTHER = encode(draw_photo(2, (480, 360)), "JPEG", quality=90)


def plan_of(folder, contents, pairs=None, **options):
    """A plan over files that are all in pairs with the first one, as embeddings would have it."""
    folder.mkdir(exist_ok=True)
    names = []
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        names.append(folder / name)
    pairs = pairs or {(0, n): 0.999 for n in range(1, len(names))}
    return make_plan(make_found(make_pairs(pairs, len(names)), names), **options)


def by_name(rows):
    return {row.id.rpartition("/")[2]: row for row in rows}


def test_only_what_was_compared_goes(tmp_path):
    contents = {"a.jpg": JPEG, "same.jpg": JPEG, "small.jpg": SMALL, "other.jpg": OTHER}
    rows = by_name(plan_of(tmp_path, contents, keep="first"))
    assert {name: row.action for name, row in rows.items()} == {
        "a.jpg": "keep", "same.jpg": "remove", "small.jpg": "remove", "other.jpg": "keep",
    }  # fmt: skip
    assert rows["other.jpg"].reason.startswith("not verified: the pixels")
    assert rows["same.jpg"].reason == "same bytes"
    assert rows["same.jpg"].compared == "bytes"
    small = rows["small.jpg"]
    assert small.compared == compared_mark(small.content_hash, rows["a.jpg"].content_hash)
    assert small.compared.startswith("pixels:")


def test_what_can_not_be_read_stays(tmp_path):
    rows = by_name(plan_of(tmp_path, {"a.jpg": JPEG, "b.jpg": b"no image", "c.jpg": JPEG}))
    assert rows["b.jpg"].action == "keep"
    assert "can't be compared" in rows["b.jpg"].reason
    assert rows["c.jpg"].action == "remove"


def test_without_opencv_only_equal_bytes_go(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in ("pixel_check", "geometric", "sift"):
        monkeypatch.delitem(sys.modules, f"embedkit.dedup.verification.{name}", raising=False)
    rows = by_name(plan_of(tmp_path, {"a.jpg": JPEG, "b.jpg": SMALL, "c.jpg": JPEG}))
    assert [rows[name].action for name in ("a.jpg", "b.jpg", "c.jpg")] == [
        "keep", "keep", "remove",
    ]  # fmt: skip
    assert "embedkit[verify]" in rows["b.jpg"].reason


def test_of_several_pages_only_equal_bytes_go(tmp_path):
    one, two = animation(1, 2, 3), animation(1, 4, 5)
    rows = by_name(plan_of(tmp_path, {"a.tif": one, "b.tif": two, "c.tif": one}))
    assert [rows[name].action for name in ("a.tif", "b.tif", "c.tif")] == [
        "keep", "keep", "remove",
    ]  # fmt: skip
    assert "first page only" in rows["b.tif"].reason
    assert "3 pages" in rows["b.tif"].reason


@pytest.mark.parametrize("keep", ["original", "largest", "first"])
def test_a_raw_file_and_its_picture_stay(tmp_path, keep):
    tiff = encode(PHOTO, "TIFF")
    rows = plan_of(tmp_path, {"a.JPG": JPEG, "a.NEF": tiff}, keep=keep)
    assert {row.action for row in rows} == {"keep"}
    assert is_raw("a.DNG")
    assert is_raw("a", "NEF")
    assert not is_raw("raw/a.tiff", "TIFF")


def test_protected_images_stay(tmp_path):
    contents = {"big.jpg": JPEG, "small.jpg": SMALL, "same.jpg": SMALL}
    rows = by_name(plan_of(tmp_path, contents, keep="largest", protect=["*/small.*"]))
    assert [rows[name].action for name in contents] == ["keep", "keep", "remove"]
    assert rows["small.jpg"].reason == "protected"


@pytest.mark.parametrize("header", ["", "first_id,second_id\n", "score,first_id,second_id\n"])
def test_rejected_pairs_are_not_acted_upon(tmp_path, header):
    folder = tmp_path / "images"
    reject = tmp_path / "pairs.csv"
    start = "1.0," if header.startswith("score") else ""
    reject.write_text(f"{header}{start}{folder}/c.jpg,{folder}/a.jpg\n")
    contents = {"a.jpg": JPEG, "b.jpg": SMALL, "c.jpg": JPEG, "d.jpg": JPEG}
    pairs = {(0, 1): 0.99, (0, 2): 0.99, (1, 2): 0.9, (0, 3): 0.99}
    rows = by_name(plan_of(folder, contents, pairs, keep="first", reject=reject))
    assert [rows[name].action for name in contents] == ["keep", "remove", "keep", "remove"]
    # Where the rejected pair was all that held them together, the group is gone.
    rows = plan_of(folder, {"a.jpg": JPEG, "c.jpg": JPEG}, reject=reject)
    assert rows == ()
    reject.write_text("one\n")
    with pytest.raises(DedupError, match="line 1: not two ids"):
        plan_of(folder, contents, reject=reject)


def test_an_edited_plan_is_compared_when_it_is_applied(tmp_path):
    contents = {"a.jpg": JPEG, "small.jpg": SMALL, "other.jpg": OTHER}
    rows = list(plan_of(tmp_path / "images", contents, keep="largest"))
    kept = next(row for row in rows if row.id.endswith("/a.jpg"))
    edited = [
        row if row is kept
        else dataclasses.replace(row, action="remove", copy_of=kept.path, compared="pixels:0")
        for row in rows
    ]  # fmt: skip
    plan = write_plan(edited, tmp_path / "plan.csv")
    done = {o.path.rpartition("/")[2]: o for o in apply_plan(plan, "delete").outcomes}
    assert done["small.jpg"].result == "done"
    assert done["other.jpg"].result == "refused"
    assert done["other.jpg"].reason.startswith("not verified: the pixels")


@pytest.mark.parametrize(
    "edit",
    [
        lambda image: image.resize((240, 180)),
        ImageOps.grayscale,
        ImageOps.mirror,
        lambda image: ImageOps.expand(image, 40, "black"),
        lambda image: image.crop((20, 20, 460, 340)),
    ],
)
def test_the_original_is_kept(tmp_path, edit):
    """Whatever the order, and though the copy may have more bytes and pixels."""
    original = encode(draw_photo(3, (480, 360)), "JPEG", quality=80)
    copy = edit(Image.open(io.BytesIO(original)))
    for quality, names in ((95, ("a.jpg", "b.jpg")), (75, ("b.jpg", "a.jpg"))):
        shutil.rmtree(tmp_path / "images", ignore_errors=True)
        contents = {names[0]: original, names[1]: encode(copy, "JPEG", quality=quality)}
        rows = by_name(plan_of(tmp_path / "images", contents))
        assert rows[names[0]].action == "keep", rows
        assert rows[names[0]].reason.startswith("original")
        assert rows[names[1]].action == "remove", rows


def test_of_a_group_the_original_is_kept_and_enlarged_and_dark_copies_go(tmp_path):
    original = draw_photo(3, (480, 360)).filter(ImageFilter.GaussianBlur(0.7))
    edits = {
        "large.jpg": original.resize((960, 720), Image.Resampling.BICUBIC),
        "dark.jpg": ImageEnhance.Brightness(original).enhance(0.5),
        "mirrored.jpg": ImageOps.mirror(original),
        "small.jpg": original.resize((240, 180)),
        "photo.jpg": original,
        "turned.jpg": original.rotate(5, Image.Resampling.BICUBIC),
    }
    contents = {name: encode(image, "JPEG", quality=90) for name, image in edits.items()}
    every = {(a, b): 0.999 for a in range(len(edits)) for b in range(a + 1, len(edits))}
    rows = by_name(plan_of(tmp_path, contents, every))
    assert rows["photo.jpg"].reason.startswith("original: ")
    assert all(rows[name].action == "remove" for name in set(edits) - {"photo.jpg"}), rows
    assert {row.copy_of for row in rows.values()} == {"", rows["photo.jpg"].path}


def test_pixels_are_read_from_where_the_images_are_now(tmp_path):
    rows = plan_of(tmp_path / "a", {"x.jpg": JPEG, "y.jpg": SMALL}, images=[tmp_path / "a"])
    assert {row.action for row in rows} == {"keep", "remove"}
    assert np.isfinite([row.score for row in rows if row.action == "remove"]).all()


def test_a_source_without_any_of_the_images_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "z.jpg").write_bytes(OTHER)
    with pytest.raises(SourceError, match="other: has none of the store's images"):
        plan_of(tmp_path / "a", {"x.jpg": JPEG, "y.jpg": SMALL}, images=[tmp_path / "other"])
