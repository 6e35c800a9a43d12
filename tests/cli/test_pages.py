"""Every page shows images that were moved, if it is told where they are."""

import shutil

import pytest
from images import write_photos

from embedkit.dedup import read_duplicates
from embedkit.store import EmbeddingStore


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
    shutil.rmtree(moved / "out")  # the tables, but no pictures
    (moved / "out").mkdir()
    ended = embedkit(*COMMANDS[name])
    assert ended.code == 1
    assert "none of the" in ended.err
    assert "--images FOLDER" in ended.err
    assert not [*(moved / "out").iterdir()]
    ended = embedkit(*COMMANDS[name], "--images", "now")
    assert ended.code == 0, ended.err
    assert page_in(moved / "out").count("data:image/jpeg") > 0


def test_queries_from_elsewhere_are_shown_too(embedkit, moved, monkeypatch):
    monkeypatch.chdir(moved)
    write_photos(moved / "new", 1)
    search = ("search", "photos.index", "new", "-k", 2, "--html", "page.html", "--images", "now")
    assert embedkit(*search).code == 0
    assert page_in(moved).count("data:image/jpeg") == 3


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"search"}))  # an index knows no hashes
def test_other_images_of_the_same_names_are_not_shown(embedkit, moved, monkeypatch, name):
    monkeypatch.chdir(moved)
    (moved / "out").mkdir()
    for seed, label in enumerate("ab"):
        write_photos(moved / "old" / label, 8, size=(96, 64), seed=100 + seed)
    (moved / "old" / "a" / "copy.jpg").write_bytes(b"no image")
    ended = embedkit(*COMMANDS[name])
    assert ended.code == 0, ended.err
    assert "data:image/jpeg" not in page_in(moved / "out")


def test_notebooks_do_not_show_other_images_either(moved):
    with EmbeddingStore.open(moved / "photos.h5") as store:
        assert "data:image" not in store._repr_html_()
        (moved / "now").rename(moved / "old")
        assert "data:image" in store._repr_html_()
    found = read_duplicates(moved / "found")
    assert "data:image" in found._repr_html_()
    write_photos(moved / "old" / "a", 8, size=(96, 64), seed=100)
    (moved / "old" / "a" / "copy.jpg").unlink()
    assert "data:image" not in found._repr_html_()
