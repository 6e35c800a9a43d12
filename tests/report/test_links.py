"""Links to images: they lead to the file, and no name of a file can make them do anything else."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from embedkit.report.links import link_to
from embedkit.types import ImageRecord

NAMES = (
    "a b.jpg", "100%.jpg", "a#b?c=d&e.jpg", "javascript:alert(1).jpg", "data:text,x.jpg",
    "ä日.png", "\"><script>.jpg", "back\\slash.jpg", "caf\udce9.jpg", "new\nline.jpg",
)  # fmt: skip


def link(path, page):
    return link_to(ImageRecord(id="x", path=str(path)), Path(page))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", ["", "photos/"])
def test_a_link_leads_to_the_file(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = link(folder + name, "out/page.html")
    parts = urlsplit(found)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote(parts.path, errors="surrogateescape") == f"../{folder}{name}"
    assert found.isascii()
    assert not set(found) & set("\"'<>\\ \n:")


def test_a_file_elsewhere_is_linked_by_its_whole_path():
    found = link("/data/a b.jpg", "/home/me/page.html")
    assert found == "file:///data/a%20b.jpg"
    assert link("/home/you/a.jpg", "/home/me/page.html") == "../you/a.jpg"


def test_web_addresses_stay_as_they_are():
    assert link("https://x.org/a%20b.jpg?s=1", "p.html") == "https://x.org/a%20b.jpg?s=1"
    assert link('https://x.org/"><b>.jpg', "p.html") == "https://x.org/%22%3E%3Cb%3E.jpg"


@pytest.mark.parametrize("path", ["a.html", "a.svg", "a", "a.jpg.exe", "s3://b/a.jpg"])
def test_what_a_browser_would_run_or_can_not_open_is_not_linked(path):
    assert link(path, "p.html") == ""


def test_members_of_archives_are_not_linked():
    record = ImageRecord(id="a.tar#x.jpg", path="a.jpg", kind="tar")
    assert link_to(record, Path("p.html")) == ""
