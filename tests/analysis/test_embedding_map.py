"""Maps: the layout beside an SVD, the page's data beside the store, names that stay text."""

import base64
import hashlib
import io
import json
import re
import sys

import numpy as np
import pytest
from images import write_photos
from PIL import Image
from stores import write_store

from embedkit.analysis.embedding_map import plot
from embedkit.analysis.embedding_map.png import draw_png
from embedkit.analysis.embedding_map.projection import lay_out, principal_components
from embedkit.errors import MissingExtraError, StoreError
from embedkit.report.group_marks import GROUP_COLORS
from embedkit.types import Head

RNG = np.random.default_rng(0)
HOSTILE = '</script><script>alert(1)</script>"><img src=x onerror=alert(1)>'
DECODE = {
    "decoder": "exact", "background": [255, 255, 255], "max_pixels": 10**6, "max_bytes": 2**20,
}  # fmt: skip
ROWS = RNG.standard_normal((40, 6)).astype("f4") * np.array([5, 3, 1, 1, 1, 1], "f4")
HEAD = Head(np.eye(3, 6, dtype="f4"), np.zeros(3, "f4"), ("cat, kitty", "dog", "owl"))


def data_of(path):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    return json.loads(found[1])


def test_principal_components_are_those_of_an_svd():
    found = principal_components(ROWS)
    centred = ROWS.astype(float) - ROWS.astype(float).mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * singular[:2]
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-3)
    assert np.array_equal(principal_components(ROWS.copy()), found)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (3, 1)])
def test_few_rows_or_dimensions(shape):
    points, method = lay_out(np.ones(shape, "f4"), "auto", 0)
    assert points.shape == (shape[0], 2)
    assert method == "pca"
    assert ((points >= 0) & (points <= 1)).all()


@pytest.mark.slow
def test_umap_keeps_clusters_together_and_repeats_itself():
    pytest.importorskip("umap")
    centres = np.eye(3, 16) * 8
    rows = np.concatenate([c + RNG.standard_normal((20, 16)) for c in centres]).astype("f4")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    points, method = lay_out(rows, "umap", 3)
    assert method == "umap"
    assert np.array_equal(points, lay_out(rows, "umap", 3)[0])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    cluster = np.arange(60) // 20
    assert (cluster[distance.argmin(1)] == cluster).mean() > 0.95


def test_umap_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"embedkit\[map\]"):
        lay_out(ROWS, "umap", 0)
    assert lay_out(ROWS, "auto", 0)[1] == "pca"


def test_the_page_holds_every_image(tmp_path):
    paths = write_photos(tmp_path / "photos", 4)
    ids = [*map(str, paths), HOSTILE, "a\udcff\u202e.jpg", *(f"{n}.jpg" for n in range(34))]
    labels = ["x", "y", HOSTILE, None, *["x"] * 36]
    hashes = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    hashes += [b"%032d" % number for number in range(36)]
    store = write_store(
        tmp_path / "a.h5", ROWS, ids=ids, labels=labels, decode=DECODE, content_hash=hashes
    )
    done = plot(store, tmp_path / "map.html", method="pca")
    assert (done.images, done.left_out, done.method, done.color) == (40, 0, "pca", "label")
    assert done.groups == ("x", *sorted([HOSTILE, "y"]))
    text = done.path.read_text()
    assert HOSTILE not in text
    data = data_of(done.path)
    assert data["name"][:5] == [*map(str, paths), HOSTILE]
    assert data["name"][5] == r"a\udcff\u202e.jpg"
    assert data["word"] == [label or "" for label in labels]
    assert [data["group"][k] for k in (0, 3)] == [0, -1]
    assert [bool(picture) for picture in data["picture"]] == [True] * 4 + [False] * 36
    image = Image.open(io.BytesIO(base64.b64decode(data["picture"][0].split(",")[1])))
    assert max(image.size) == 96
    points = np.stack([data["x"], data["y"]], 1)
    assert np.ptp(points, axis=0).max() == pytest.approx(1, abs=1e-3)


def test_only_the_page_s_own_script_may_run(tmp_path):
    text = plot(
        write_store(tmp_path / "a.h5", ROWS), tmp_path / "a.html", method="pca", pictures=0
    ).path.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://|\son\w+=", text)


def test_a_sample_colours_and_limits(tmp_path):
    labels = [f"l{n % 30}" for n in range(40)]
    store = write_store(tmp_path / "a.h5", ROWS, head=HEAD, labels=labels)
    done = plot(store, tmp_path / "a.html", method="pca", pictures=0, sample=25, color="label")
    data = data_of(done.path)
    assert (done.images, done.left_out) == (25, 15)
    assert set(done.groups) == set(data["word"])  # every class is on the map, however many
    assert [done.groups[group] for group in data["group"]] == data["word"]
    marks = [tuple(mark) for mark in data["marks"]]
    assert len(set(marks)) == len(done.groups) + 1
    by_class = plot(store, tmp_path / "b.html", method="pca", pictures=0, color="class")
    words = [("cat", "dog", "owl")[row[:3].argmax()] for row in ROWS]
    assert data_of(by_class.path)["word"] == words
    bare = write_store(tmp_path / "bare.h5", ROWS, head_applies=False)
    assert plot(bare, tmp_path / "c.html", method="pca", pictures=0).color == "none"
    with pytest.raises(StoreError, match="no labels to colour by"):
        plot(bare, tmp_path / "d.html", color="label")
    with pytest.raises(StoreError, match="overwrite=True"):
        plot(bare, tmp_path / "c.html")
    with pytest.raises(ValueError, match=r"\.html and \.png"):
        plot(bare, tmp_path / "c.svg")
    with pytest.raises(ValueError, match="sample must be"):
        plot(bare, tmp_path / "d.html", sample=0)


def test_png(tmp_path):
    labels = ["$x$", "_y", "\u202ez\n", None] * 10
    store = write_store(tmp_path / "a.h5", ROWS, labels=labels)
    done = plot(store, tmp_path / "a.png", method="pca")
    with Image.open(done.path) as image:
        assert image.size == (1500, 1200)
        colors = {color for _, color in image.convert("RGB").getcolors(2**20)}
    for name in GROUP_COLORS[:3]:
        assert tuple(bytes.fromhex(name[1:])) in colors


def test_png_of_long_and_strange_names():
    rng = np.random.default_rng(0)
    points, groups = rng.random((60, 2), np.float32), np.arange(60) % 3
    for title in ("Map", "x" * 250):
        names = ["_" + "x" * 299, "日本" * 80, "a\nb$ \u202e" * 20]
        drawn = Image.open(io.BytesIO(draw_png(points, groups, names, title)))
        dark = np.asarray(drawn.convert("L")) < 60
        assert dark.sum(axis=1).max() > 700  # the width of the map's frame
