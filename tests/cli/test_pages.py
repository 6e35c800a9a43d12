"""Every page shows images that were moved, if it is told where they are."""

import pytest
from images import write_photos


@pytest.fixture
def moved(embedkit, tmp_path):
    """A store, its index and its copies; its images lie in ``now`` by now."""
    store = tmp_path / "photos.h5"
    for seed, label in enumerate("ab"):
        write_photos(tmp_path / "old" / label, 8, size=(96, 64), seed=10 * seed)
    first = tmp_path / "old" / "a" / "photo_0000.jpg"
    first.with_name("copy.jpg").write_bytes(first.read_bytes())
    for command in (
        ("extract", tmp_path / "old", "-o", store, "-b", "tiny"),
        ("index", "build", store, "-o", tmp_path / "photos.index"),
        ("dedup", "find", store, "-o", tmp_path / "found", "--no-report"),
    ):
        assert embedkit(*command).code == 0, command
    (tmp_path / "old").rename(tmp_path / "now")
    return tmp_path


COMMANDS = {
    "plot": ("plot", "photos.h5", "-o", "out/map.html", "--method", "pca"),
    "outliers": ("outliers", "photos.h5", "--min-deviations", "-99", "--html", "out/page.html"),
    "search": ("search", "photos.index", "photos.h5", "-k", "2", "--html", "out/page.html"),
    "find": ("dedup", "find", "photos.h5", "-o", "out/dups"),
    "rethreshold": ("dedup", "rethreshold", "found", "-o", "out/dups"),
    "knn": ("probe", "knn", "photos.h5", "--split", "0.5", "-o", "out/probe", "--no-leaks"),
    "linear": (
        "probe", "linear", "photos.h5", "--split", "0.5", "-o", "out/probe", "--no-leaks", "--c",
        "1",
    ),
}  # fmt: skip


def page_in(folder):
    (page,) = folder.rglob("*.html")
    return page.read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_images_that_were_moved_are_shown(embedkit, moved, monkeypatch, name):
    monkeypatch.chdir(moved)
    (moved / "out").mkdir()
    ended = embedkit(*COMMANDS[name], "--images", "found")  # a folder without the images
    assert ended.code == 1
    assert "has none of the store's images" in ended.err
    ended = embedkit(*COMMANDS[name])
    if name in {"plot", "outliers", "search"}:  # their pages are for looking at images
        assert ended.code == 1
        assert "--images FOLDER" in ended.err
    else:
        assert ended.code == 0
        assert "no thumbnails: none of the" in ended.err
        assert page_in(moved / "out").count("data:image/jpeg") == 0
        (moved / "out").rename(moved / "before")
        (moved / "out").mkdir()
    ended = embedkit(*COMMANDS[name], "--images", "now")
    assert ended.code == 0, ended.err
    assert page_in(moved / "out").count("data:image/jpeg") > 0


def test_queries_from_elsewhere_are_shown_too(embedkit, moved, monkeypatch):
    monkeypatch.chdir(moved)
    write_photos(moved / "new", 1)
    search = ("search", "photos.index", "new", "-k", 2, "--html", "page.html", "--images", "now")
    assert embedkit(*search).code == 0
    assert page_in(moved).count("data:image/jpeg") == 3
