"""Pages that the library writes, in a real browser: names that are markup stay text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duplicates import make_found, make_pairs
from html_page import HOSTILE
from PIL import Image

from embedkit.decode.thumbnail import thumbnail_uri
from embedkit.dedup.output import html_report
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
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

ATTACKS = (
    "<img src=x onerror=document.title='run'>",
    "</title><script>document.title='run'</script>",
)
NAMES = (*ATTACKS, *HOSTILE)
_FOREIGN = "() => document.querySelectorAll('script, [onerror], [onload], img[src=x]').length"


def check(page: Page, title: str) -> None:
    assert page.title() == title
    assert page.evaluate(_FOREIGN) == 0
    assert all(name in page.locator("body").text_content() for name in ATTACKS)


def test_a_gallery(open_page: Callable[..., Page], tmp_path: Path) -> None:
    uri = thumbnail_uri(Image.new("RGB", (300, 200), "teal"), 160)
    pictures = [Picture(name, uri) for name in NAMES]
    gallery = Gallery(
        "Pictures",
        [("Images", name) for name in NAMES],
        [ClassifiedPicture(one, [(one.name, 0.9)]) for one in pictures],
        1234,
        [SearchExample(pictures[0], [(one, 0.5) for one in pictures])],
        [[GroupMember(one, 0.97, one.name, "embedding") for one in pictures]],
        [ImageFailure(name, f"bad: {name}") for name in NAMES],
    )
    path = write_gallery(tmp_path / "gallery.html", gallery)
    check(open_page(path.as_uri()), "Pictures")


def test_a_report_of_near_duplicates(open_page: Callable[..., Page], tmp_path: Path) -> None:
    count = len(NAMES)
    pairs = make_pairs({(0, other): 0.9 for other in range(1, count)}, count)
    found = make_found(pairs, NAMES, root=tmp_path, labels=NAMES)
    html_report.write_page(found, tmp_path / "report.html", tmp_path)
    page = open_page((tmp_path / "report.html").as_uri())
    check(page, page.locator("h1").text_content())
