"""The page of results: whose pictures it shows, what it leaves out, and that names stay text."""

from __future__ import annotations

import base64
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from html_page import HOSTILE, Page
from images import draw_photo, encode, write_photos
from PIL import Image
from stores import write_store

import embedkit
from embedkit.index import Index
from embedkit.retrieval import SearchPage, search
from embedkit.retrieval import html_page as page
from embedkit.sources.id_lookup import find_originals
from embedkit.types import ImageFailure, Neighbors, SearchResult

DECODE = {
    "decoder": "exact", "background": [255, 255, 255],
    "max_pixels": 320 * 240, "max_bytes": 2**20,
}  # fmt: skip


def result_of(queries, near, failures=()):
    scores = np.full((len(queries), len(near)), 0.5, np.float32)
    return SearchResult(tuple(queries), Neighbors((tuple(near),) * len(queries), scores), failures)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    path = write_store(folder / "a.h5", np.eye(4, dtype=np.float32), decode=DECODE)
    return Index.open(Index.build(path, folder / "a.index"))


def written(index, result, path, facts=()):
    shown = SearchPage(index)
    shown.add(result)
    return Page(shown.write(path, facts).read_text("utf-8"))


def images(shown):
    return [attrs for tag, attrs in shown.tags if tag == "img"]


def test_queries_and_neighbours_with_their_pictures(index, tmp_path):
    paths = [str(path) for path in write_photos(tmp_path / "p", 3)]
    shown = written(index, result_of(paths[:2], paths), tmp_path / "out.html", [("Asked", "x y")])
    found = images(shown)
    assert [attrs["alt"] for attrs in found] == [paths[0], *paths, paths[1], *paths]
    for attrs in found:
        assert attrs["loading"] == "lazy"
        head, data = attrs["src"].split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (160, 120)
            number = paths.index(attrs["alt"])
            small = draw_photo(number).resize((160, 120))
            assert np.abs(np.asarray(image, float) - np.asarray(small, float)).mean() < 8
    text = "".join(shown.text)
    assert text.count("0.500") == 6
    for part in ("Search in a.index", "4 images", "cosine", "Asked", "x y"):
        assert part in text


def test_a_missing_file_is_a_name_without_a_picture(index, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    large = tmp_path / "large.png"
    Image.new("RGB", (400, 300)).save(large)  # over the limit of the index
    near = [str(tmp_path / "text.jpg"), "gone.jpg", str(large), "gone.tar#a.jpg"]
    shown = written(index, result_of(["also gone.jpg"], near), tmp_path / "out.html")
    assert images(shown) == []
    text = "".join(shown.text)
    assert text.count("no picture") == 5
    for name in near:
        assert name in text


def test_members_of_archives_are_found(index, tmp_path):
    with tarfile.open(tmp_path / "a#b.tar", "w") as tar:
        for name in ("x/1.jpg", "2.png"):
            kind = "JPEG" if name.endswith("jpg") else "PNG"
            data = encode(draw_photo(1), kind)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    names = [f"{tmp_path}/a#b.tar#{member}" for member in ("2.png", "x/1.jpg", "3.jpg")]
    assert [name for name, _ in find_originals(names, [Path()])] == [names[1], names[0]]
    shown = written(index, result_of(names[:1], names[1:]), tmp_path / "out.html")
    assert [attrs["alt"] for attrs in images(shown)] == names[:2]


def test_a_file_may_look_like_a_member(index, tmp_path):
    (tmp_path / "a.tar#b").mkdir()
    path = tmp_path / "a.tar#b" / "c.jpg"
    shutil.copy(write_photos(tmp_path / "p", 1)[0], path)
    assert [record.path for _, record in find_originals([str(path)], [Path()])] == [str(path)]


def test_hostile_ids_are_text_and_nothing_else(index, tmp_path):
    def page_of(names):
        failures = tuple(ImageFailure(name, f"bad: {name}") for name in names)
        return written(index, result_of(names, names, failures), tmp_path / "out.html")

    plain, hostile = page_of([f"q{i}.jpg" for i in range(len(HOSTILE))]), page_of(HOSTILE)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(a) for _, a in hostile.tags] == [list(a) for _, a in plain.tags]
    text = "".join(hostile.text)
    assert text.count("<script>alert(1)</script>.jpg") == 2 + len(HOSTILE) + 1
    assert r"caf\udce9.jpg" in text


def test_columns_of_the_user_are_shown_as_text(tmp_path):
    ids = [str(path) for path in write_photos(tmp_path / "p", 3)]
    store = write_store(tmp_path / "a.h5", np.eye(3, dtype=np.float32), ids=ids, decode=DECODE)
    index = Index.open(Index.build(store, tmp_path / "a.index"))
    table = tmp_path / "t.csv"
    evil = "<script>alert(1)</script>" + 50 * "x"
    table.write_text(f'id,cluster,note\n{ids[0]},7,"{evil}"\n{ids[1]},,rain\n', "utf-8")
    embedkit.annotate(store, table, key="id")
    query = str(write_photos(tmp_path / "q", 1)[0])
    text = "".join(written(index, result_of([query], ids), tmp_path / "out.html").text)
    assert f"kB; cluster = 7, note = {evil[:60]}…" in text
    assert "kB; note = rain" in text
    assert text.count("note = ") == 2


def test_what_is_left_out_is_counted(index, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_MAX_PICTURES", 20)
    monkeypatch.setattr(page, "_MAX_FAILURES", 3)
    failures = tuple(ImageFailure(f"bad{n}", "empty") for n in range(5))
    shown = written(
        index,
        result_of([f"q{n}" for n in range(1500)], ["a", "b", "c"], failures),
        tmp_path / "out.html",
    )
    text = "".join(shown.text)
    assert "1,495 more queries are not shown" in text
    assert "1,500" in text
    assert text.count("no picture") == 20
    assert "The first 3 of 5 queries that failed" in text
    assert "bad2" in text
    assert "bad3" not in text
    one = written(index, result_of(["q"], [f"n{n}" for n in range(99)]), tmp_path / "out.html")
    assert "".join(one.text).count("no picture") == 20


def test_many_pictures_are_smaller(index, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_FEW", 3)
    paths = [str(path) for path in write_photos(tmp_path / "p", 2)]
    shown = written(index, result_of(paths, paths), tmp_path / "out.html")
    for attrs in images(shown):
        with Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",")[1]))) as image:
            assert max(image.size) == 96


def test_of_a_real_search(tmp_path):
    write_photos(tmp_path / "p", 4)
    embedkit.extract(tmp_path / "p", tmp_path / "p.h5", backbone="tiny", engine="torch")
    index = Index.open(Index.build(tmp_path / "p.h5", tmp_path / "p.index"))
    result = search(index, tmp_path / "p.h5", k=2)
    shown = written(index, result, tmp_path / "out.html")
    assert len(images(shown)) == 12
