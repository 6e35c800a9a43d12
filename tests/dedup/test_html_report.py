from __future__ import annotations

import dataclasses
import re
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from duplicates import make_found, make_pairs
from html_page import HOSTILE, Page
from images import draw_photo, encode

from embedkit.dedup.groups.explain import describe_pair
from embedkit.dedup.leakage import ClassLeaks, Leaks, StoreLeaks
from embedkit.dedup.output import html_report as page
from embedkit.dedup.output.folder import write_duplicates
from embedkit.sources.id_lookup import find_originals


def write(found, tmp_path):
    path = tmp_path / "report.html"
    page.write_page(found, path, tmp_path)
    text = path.read_text("utf-8")
    return text, Page(text)


@pytest.fixture
def photos(tmp_path):
    names = [f"{i}.jpg" for i in range(5)]
    for seed, name in enumerate(names):
        (tmp_path / name).write_bytes(encode(draw_photo(seed, (64, 48)), "JPEG"))
    return names


def test_a_group_is_a_row_of_pictures(photos, tmp_path):
    scores = {(0, 1): 1.0, (1, 2): 0.8, (3, 4): 0.6}
    pairs = make_pairs(
        scores, 5, exact=[(0, 1)], hamming=np.array([0, 3, 255], np.uint8),
        verified=np.array([-1, 1, 0], np.int8), how=[{}, {"flip": True, "crop": None}, {}],
    )  # fmt: skip
    found = make_found(pairs, photos, root=tmp_path, nbytes=np.array([900, 900, 2000, 10, 11]))
    text, tags = write(found, tmp_path)
    assert text.startswith("<!DOCTYPE html>")
    pictures = tags.find("img")
    assert [picture["alt"] for picture in pictures] == [
        "4.jpg", "3.jpg", "2.jpg", "0.jpg", "1.jpg",  # the least sure group first
    ]  # fmt: skip
    for picture in pictures:
        assert picture["src"].startswith("data:image/jpeg;base64,")
        assert picture["loading"] == "lazy"
    assert [link["href"] for link in tags.find("a")] == [one["alt"] for one in pictures]
    widths = [tag["style"] for tag in tags.find("article")]
    assert widths == ["--n:2", "--n:3"]  # a pair is as wide as two pictures
    words = tags.words
    assert ">keep<" not in text  # a plan compares pixels before it says so
    for told in (
        "Group 0 weakest pair 0.800, 3 images",
        "0.800 40 x 30, JPEG, 900 bytes more cosine 0.720, hash 3 bits apart, verified on the "
        "pixels (mirrored); copy of 2.jpg",
        "cosine 0.540, not confirmed on the pixels; copy of 4.jpg",
        "40 x 30, JPEG, 2 kB",
        "2 groups of 5 images, among 5; 3 could be removed",
        "3 pairs, 1 of equal bytes",
    ):
        assert told in words
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script", text)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"crop": [0.0, 0.001, 0.99, 1.0], "flip": False, "rotation": -0.4, "scale": 0.99}, ""),
        (
            {"crop": [0.1, 0.2, 0.9, 0.7], "flip": True, "rotation": -12.4, "scale": 0.5},
            " (mirrored, cropped to 80% x 50%, turned by -12 degrees, scaled to 50%)",
        ),
        ({"crop": [0.1, "x", 0.9, 0.7], "flip": "no", "rotation": [], "scale": float("nan")}, ""),
        ({"crop": [0.1], "scale": 1e300, "rotation": {"a": 1}}, ""),
    ],
)
def test_how_a_copy_was_made_is_told_in_words(how, told):
    pairs = make_pairs({(0, 1): 0.8}, 2, verified=np.array([1], np.int8), how=[how])
    assert describe_pair(pairs, 0).endswith(f"verified on the pixels{told}")


def test_hostile_names_and_labels_are_text(tmp_path):
    hostile = (HOSTILE[0], HOSTILE[1], HOSTILE[6])
    leaks = StoreLeaks(1, 2, tuple(ClassLeaks(name, 1, 2) for name in hostile))
    plain = tuple("abc")
    tags = []
    for names in (plain, hostile):
        pairs = make_pairs({(0, 0): 0.9, (0, 1): 0.8}, 1, against_rows=2)
        found = make_found(pairs, names, labels=names, formats=names)
        tags.append(write(dataclasses.replace(found, leaks=Leaks(leaks, leaks, 1)), tmp_path)[1])
    assert [tag for tag, _ in tags[0].tags] == [tag for tag, _ in tags[1].tags]
    assert HOSTILE[0] in "".join(tags[1].text)
    assert "no picture" in "".join(tags[1].text)


def test_pages_stay_small_and_say_what_is_left_out(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_MAX_PICTURE_BYTES", 1)
    monkeypatch.setattr("embedkit.report.thumbnails._PART", 2)
    monkeypatch.setattr(page, "_MAX_MEMBERS", 2)
    monkeypatch.setattr(page, "_MAX_FIGURES", 3)
    ends = {(i, i + 1): 0.9 for i in range(2)} | {(3 + 2 * i, 4 + 2 * i): 0.91 for i in range(5)}
    found = make_found(make_pairs(ends, 13), [*photos, *map(str, range(8))], root=tmp_path)
    text, tags = write(found, tmp_path)
    assert "1 more images of this group" in text
    assert "4 more groups are not shown" in text
    assert "2 images that are listed have none" in text
    assert len(tags.find("figure")) == 4
    assert len(tags.find("img")) == 2


def test_thousands_of_groups_fold(tmp_path):
    count = 2000
    scores = np.linspace(0.6, 1, count)
    pairs = make_pairs({(2 * i, 2 * i + 1): scores[i] for i in range(count)}, 2 * count)
    text, tags = write(make_found(pairs, [f"{i}.jpg" for i in range(2 * count)]), tmp_path)
    folds = [fold for fold in tags.find("details") if fold.get("class") == "fold"]
    assert len(folds) == 20
    assert ["open" in fold for fold in folds] == [True, *[False] * 19]
    assert len(text) < 3 * 2**20
    assert "content-visibility: auto" in text


def test_pairs_only(tmp_path):
    found = make_found(make_pairs({(0, 1): 0.9}, 2), ["a", "b"], linkage="pairs")
    text, tags = write(dataclasses.replace(found, linkage="pairs"), tmp_path)
    assert "pairs.parquet" in text
    assert not tags.find("figure")


@pytest.mark.parametrize("against", [None, 7])
def test_nothing_found_says_what_was_searched(tmp_path, against):
    found = make_found(make_pairs({}, 5, against_rows=against), [])
    words = write(found, tmp_path)[1].words
    assert "No near-duplicates found" in words
    searched = (
        "all pairs of the 5 images of photos.h5"
        if against is None
        else "each of the 5 images of photos.h5 with the 7 of test.h5"
    )
    assert f"Compared {searched} (exact search): no pair has a score of 0.5 or more" in words
    assert "embedkit dedup plan" not in words


def test_links_start_from_where_the_page_will_lie(photos, tmp_path):
    found = make_found(make_pairs({(0, 1): 0.9}, 2), photos[:2], root=tmp_path)
    folder = write_duplicates(found, tmp_path / "out" / "found", root=tmp_path)
    links = Page((folder / "report.html").read_text("utf-8")).find("a")
    assert [(folder / link["href"]).resolve() for link in links] == [
        (tmp_path / name).resolve() for name in photos[:2]
    ]


def test_images_are_found_in_archives_too(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in photos[:2]:
            archive.write(tmp_path / name, f"x/{name}")
    (tmp_path / "odd.zip#1.jpg").write_bytes(b"")
    ids = ["in.zip#x/1.jpg", "in.zip#x/9.jpg", "0.jpg", "gone.zip#a", "odd.zip#1.jpg"]
    ids += [f"{tmp_path}/in.zip#x/0.jpg", "https://x.org/a.jpg"]
    found = {name: record.kind for name, record in find_originals(ids, [tmp_path])}
    assert found == {
        "in.zip#x/1.jpg": "zip", "0.jpg": "file", "odd.zip#1.jpg": "file",
        f"{tmp_path}/in.zip#x/0.jpg": "zip", "https://x.org/a.jpg": "file",
    }  # fmt: skip
    pairs = make_pairs({(0, 1): 0.9}, 2)
    hashes = [sha256((tmp_path / name).read_bytes()).digest() for name in (photos[1], "0.jpg")]
    found = make_found(
        pairs, [ids[0], "0.jpg"], nbytes=np.array([1, 2]),
        content_hash=np.array([list(one) for one in hashes], np.uint8),
    )  # fmt: skip
    _, tags = write(found, tmp_path)
    assert [picture["alt"] for picture in tags.find("img")] == ["0.jpg", ids[0]]


def test_images_of_the_same_name_in_both_stores_are_shown_each(tmp_path):
    for number, side in enumerate(("mine", "theirs")):
        (tmp_path / side / "photos").mkdir(parents=True)
        picture = encode(draw_photo(number, (40, 30)), "PNG")
        (tmp_path / side / "photos" / "0.png").write_bytes(picture)
    paths = [tmp_path / side / "photos" / "0.png" for side in ("mine", "theirs")]
    found = make_found(
        make_pairs({(0, 0): 0.9}, 1, against_rows=1), ["photos/0.png"] * 2,
        content_hash=np.array([list(sha256(p.read_bytes()).digest()) for p in paths], np.uint8),
    )  # fmt: skip
    folders = [tmp_path / "mine", tmp_path / "theirs"]
    page.write_page(found, tmp_path / "report.html", tmp_path, folders)
    shown = re.findall(r'src="(data:[^"]+)"', (tmp_path / "report.html").read_text())
    assert len(set(shown)) == 2
    page.write_page(found, tmp_path / "report.html", tmp_path / "mine")
    text = (tmp_path / "report.html").read_text()
    assert len(re.findall(r'src="(data:[^"]+)"', text)) == text.count("no picture") == 1
