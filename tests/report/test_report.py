from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

import pytest
from html_page import HOSTILE, Page
from PIL import Image

from embedkit.decode.thumbnail import thumbnail_uri
from embedkit.errors import EmbedkitError
from embedkit.report import (
    ClassifiedPicture,
    Gallery,
    GroupMember,
    Picture,
    SearchExample,
    write_gallery,
)
from embedkit.types import ImageFailure

if TYPE_CHECKING:
    from pathlib import Path


def gallery_of(*names: str) -> Gallery:
    uri = thumbnail_uri(Image.new("RGB", (300, 200), "teal"), 160)
    pictures = [Picture(name, uri) for name in names]
    return Gallery(
        "What <b>came</b> of it",
        [("Images", "3"), *((name, name) for name in names)],
        [ClassifiedPicture(p, [(p.name, 0.9), ("cat", 0.001)]) for p in pictures],
        1234,
        [SearchExample(pictures[0], [(p, 0.5) for p in pictures])],
        [[GroupMember(p, 0.97, p.name, "embedding") for p in pictures]],
        [ImageFailure(name, f"bad: {name}") for name in names],
    )


def written(folder: Path, gallery: Gallery) -> str:
    return write_gallery(folder / "report.html", gallery).read_text("utf-8")


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    plain, hostile = (
        Page(written(tmp_path, gallery_of(*names)))
        for names in ([f"{i}.jpg" for i in range(len(HOSTILE))], HOSTILE)
    )
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(a) for _, a in hostile.tags] == [list(a) for _, a in plain.tags]
    text = "".join(hostile.text)
    assert "<script>alert(1)</script>.jpg" in text
    assert "{{ 7 * 7 }}{% raw %}.jpg" in text
    assert r"caf\udce9.jpg" in text
    assert r"up\u202egpj.exe" in text
    assert r"new\nline\x00\x1b[31m.jpg" in text
    assert "&lt;already&gt;.jpg" in text
    alts = [attrs["alt"] for tag, attrs in hostile.tags if tag == "img"]
    assert HOSTILE[1] in alts


def test_page_loads_nothing(tmp_path: Path) -> None:
    page = written(tmp_path, gallery_of("a.jpg", "b.jpg"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    for tag, attrs in Page(page).tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        if tag == "img":
            assert attrs["src"].startswith("data:image/jpeg;base64,")
            assert attrs["alt"]
    assert "default-src 'none'" in page


def test_page_is_whole_html(tmp_path: Path) -> None:
    page = written(tmp_path, gallery_of("a.jpg"))
    assert page.startswith("<!DOCTYPE html>")
    tags = dict(Page(page).tags)
    assert tags["html"] == {"lang": "en"}
    assert "&lt;b&gt;came&lt;/b&gt;" in page
    assert "1,234 more images" in page
    assert "90 %" in page
    assert "&lt; 1 %" in page
    assert "0.970" in page
    assert page.count("\\n") == 0


def test_empty_parts_are_left_out(tmp_path: Path) -> None:
    page = Page(written(tmp_path, Gallery("Nothing", [])))
    assert "h2" not in dict(page.tags)


def test_picture_without_a_thumbnail(tmp_path: Path) -> None:
    page = written(tmp_path, Gallery("x", [], [ClassifiedPicture(Picture("a", ""), [])]))
    assert "no picture" in page


def test_only_data_uris_are_thumbnails() -> None:
    with pytest.raises(ValueError, match="data:image/"):
        Picture("a", "https://example.org/a.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", [(4000, 30), (1, 1), (161, 160)])
def test_thumbnails_are_small_jpegs(mode: str, size: tuple[int, int]) -> None:
    head, data = thumbnail_uri(Image.new(mode, size), 160).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.format == "JPEG"
        assert max(image.size) <= 160
        assert max(image.size) == min(160, max(size))


def test_no_folder_to_write_in(tmp_path: Path) -> None:
    with pytest.raises(EmbedkitError, match="can't be written"):
        write_gallery(tmp_path / "missing" / "report.html", Gallery("x", []))


def test_a_picture_links_wraps_and_is_enlarged(tmp_path: Path) -> None:
    uri = thumbnail_uri(Image.new("RGB", (20, 10), "teal"), 160)
    name = "data/set_1/a-b.c/photo.jpg"
    picture = Picture(name, uri, "../a%20b.jpg", "20 x 10, PNG, 1 kB", is_small=True)
    text = written(tmp_path, Gallery("x", [], [ClassifiedPicture(picture, [])]))
    page = Page(text)
    assert [link["href"] for link in page.find("a")] == ["../a%20b.jpg"]
    (image,) = page.find("img")
    assert image["class"] == "small"
    assert ">a-<wbr>b.<wbr>c/<wbr>photo.<wbr>jpg</span>" in text
    assert f"20 x 10, PNG, 1 kB more {name}" in page.words


def test_pictures_come_before_what_was_done(tmp_path: Path) -> None:
    page = Page(written(tmp_path, gallery_of("a.jpg")))
    (made,) = (fold for fold in page.find("details") if fold.get("class") == "made")
    assert "open" not in made


def test_an_empty_page_says_what_was_searched(tmp_path: Path) -> None:
    gallery = Gallery("x", [], summary="of 3", empty=("Nothing found", "among 3 images"))
    words = Page(written(tmp_path, gallery)).words
    assert words.endswith("of 3 Nothing found among 3 images")
