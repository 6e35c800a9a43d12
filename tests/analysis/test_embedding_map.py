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

from embedkit.analysis.embedding_map import layout, plot
from embedkit.analysis.embedding_map.layout import lay_out_store, place_by_neighbors
from embedkit.analysis.embedding_map.png import draw_png
from embedkit.analysis.embedding_map.projection import fitted, principal_axes
from embedkit.errors import MissingExtraError, StoreError
from embedkit.index.sample_neighbors import SampleNeighbors
from embedkit.index.store_rows import StoreRows
from embedkit.report.group_marks import GROUP_COLORS
from embedkit.types import Head
from embedkit.utils.vectors import unit_rows

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


def lay_out(tmp_path, rows, method="auto", sample=20_000, seed=0):
    store = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
    with StoreRows.open([write_store(store, np.asarray(rows, "f4"))]) as opened:
        return lay_out_store(opened, method, sample, seed)


def test_principal_components_are_those_of_an_svd():
    mean, axes = principal_axes(ROWS)
    found = (ROWS - mean) @ axes
    centred = ROWS.astype(float) - ROWS.astype(float).mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * singular[:2]
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (3, 1)])
def test_few_rows_or_dimensions(shape, tmp_path):
    points, method, learned = lay_out(tmp_path, np.ones(shape))
    assert points.shape == (shape[0], 2)
    assert (method, learned) == ("pca", shape[0])
    assert ((points >= 0) & (points <= 1)).all()


def test_pca_learned_on_a_sample_projects_all_rows(tmp_path):
    rows = RNG.standard_normal((3000, 6)) * np.array([5, 3, 1, 1, 1, 1])
    whole, part = lay_out(tmp_path, rows, "pca"), lay_out(tmp_path, rows, "pca", 1500)
    assert (whole.learned, part.learned) == (3000, 1500)
    assert abs(np.corrcoef(whole.points[:, 0], part.points[:, 0])[0, 1]) > 0.99
    assert np.array_equal(part.points, lay_out(tmp_path, rows, "pca", 1500).points)
    assert not np.array_equal(part.points, lay_out(tmp_path, rows, "pca", 1500, seed=1).points)


def clusters(count, number=40, dim=16):
    """Rows in clusters far from each other, and the cluster of each."""
    centres = RNG.standard_normal((number, dim)) * 3
    mine = np.arange(count) % number
    return centres[mine] + 0.3 * RNG.standard_normal((count, dim)), mine


@pytest.mark.parametrize("sample", [500, 5000], ids=["exact", "in cells"])
def test_rows_outside_of_the_sample_lie_among_their_neighbors(tmp_path, monkeypatch, sample):
    rows, mine = clusters(6000)
    rows[-1] = rows[0]

    def on_a_circle(units, seed):  # a projection that is known: each cluster at an angle
        nearest = (units @ unit_rows(centres.astype("f4")).T).argmax(1)
        angles = 2 * np.pi * nearest / 40
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype("f4")

    centres = np.stack([rows[mine == k].mean(0) for k in range(40)])
    monkeypatch.setattr(layout, "takes_umap", lambda method, count: True)
    monkeypatch.setattr(layout, "umap_points", on_a_circle)
    found = lay_out(tmp_path, rows, "umap", sample, seed=3)
    assert (found.method, found.learned) == ("umap", sample)
    expected = fitted(on_a_circle(unit_rows(rows.astype("f4")), 0))
    near = np.linalg.norm(found.points - expected, axis=1) < 0.02
    assert near[:-1].mean() > 0.99
    assert np.array_equal(found.points, lay_out(tmp_path, rows, "umap", sample, seed=3).points)


def test_the_sample_stays_and_a_copy_lies_on_its_original():
    cosines = np.array([[1, 0.5, 0.5], [0.9, 0.9, 0.9], [0.5, 0.5, -2]], "f4")
    positions = np.array([[[0, 0], [1, 1], [1, 0]]] * 3, "f4")
    found = place_by_neighbors(cosines, positions)
    np.testing.assert_allclose(found, [[0, 0], [2 / 3, 1 / 3], [0.5, 0.5]], atol=1e-6)


def test_equal_rows_are_found_too():
    units = unit_rows(np.ones((5000, 4), "f4"))
    found, cosines = SampleNeighbors(units).search(units[:10], 3)
    assert (found[:, 0] >= 0).all()
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-6)


def test_most_neighbors_in_a_sample_are_found():
    rows, _ = clusters(8000)
    units = unit_rows(rows.astype("f4"))
    found, cosines = SampleNeighbors(units[1000:]).search(units[:1000], 5)
    exact = np.sort(units[:1000] @ units[1000:].T, axis=1)[:, ::-1][:, :5]
    assert found.shape == (1000, 5)
    assert (cosines >= exact - 1e-5).mean() > 0.98


@pytest.mark.slow
def test_umap_keeps_clusters_together_and_repeats_itself(tmp_path):
    pytest.importorskip("umap")
    centres = np.eye(3, 16) * 8
    rows = np.concatenate([c + RNG.standard_normal((20, 16)) for c in centres]).astype("f4")
    points, method, _ = lay_out(tmp_path, rows, "umap", seed=3)
    assert method == "umap"
    assert np.array_equal(points, lay_out(tmp_path, rows, "umap", seed=3).points)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    cluster = np.arange(60) // 20
    assert (cluster[distance.argmin(1)] == cluster).mean() > 0.95


def test_umap_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"embedkit\[map\]"):
        lay_out(tmp_path, ROWS, "umap")
    assert lay_out(tmp_path, ROWS).method == "pca"


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
    assert (done.images, done.learned, done.method, done.color) == (40, 40, "pca", "label")
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
    assert (done.images, done.learned) == (40, 25)
    assert len(data["x"]) == 40
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


def test_many_points_of_a_png_are_a_density():
    rng = np.random.default_rng(0)
    count = 30_000
    groups = np.arange(count) % 2
    points = np.where(groups[:, None] == 0, 0.25, 0.75) + 0.05 * rng.standard_normal((count, 2))
    points[:100] = (0.25, 0.75)  # of both groups, alternately
    drawn = draw_png(np.clip(points, 0, 1).astype("f4"), groups, ["low", "high"], "Map")
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    inside = pixels[60:1170, 120:1230]  # the map without its frame
    half = len(inside) // 2
    low, high = [tuple(bytes.fromhex(name[1:])) for name in GROUP_COLORS[:2]]

    def is_like(part, color):  # how many pixels have the hue of a color, at any opacity
        lack, full = 255 - part, 255 - np.array(color)
        cosine = (lack @ full) / np.maximum(np.linalg.norm(lack, axis=2), 1) / np.linalg.norm(full)
        return int(((cosine > 0.995) & (lack.max(axis=2) > 20)).sum())

    assert is_like(inside[half:, :half], low) > 1000  # blue below, on the left
    assert is_like(inside[:half, half:], high) > 1000
    assert is_like(inside[half:, :half], high) == is_like(inside[:half, half:], low) == 0
    blend = is_like(inside[:half, :half], np.mean([low, high], axis=0))
    assert 1 <= blend < 50  # a pixel of the density is some pixels of the picture
    lack = (255 - inside[half:, :half]).max(axis=2)
    assert len(np.unique(lack)) > 5  # the denser, the darker
    middle, edge = lack[222:333, 222:333], lack[100:150, 100:150]
    assert middle.mean() > 4 * edge.mean()


def test_a_large_page_is_packed(tmp_path, monkeypatch):
    count = 20_003
    ids = [f"photos/{row // 100:05}/{row:07}.jpg" for row in range(count)]
    rows = RNG.standard_normal((count, 4)).astype("f4")
    store = write_store(
        tmp_path / "a.h5", rows, ids=ids, labels=[f"l{r % 7}" for r in range(count)]
    )
    done = plot(store, tmp_path / "a.html", method="pca", pictures=0, sample=1000)
    assert (done.images, done.learned) == (count, 1000)
    packed = data_of(done.path)["packed"]
    places = np.frombuffer(base64.b64decode(packed["places"]), "<u2").reshape(-1, 2) / 65535
    np.testing.assert_allclose(places, lay_out(tmp_path, rows, "pca", 1000).points, atol=1e-5)
    groups = np.frombuffer(base64.b64decode(packed["group"]), "<i2")
    assert [done.groups[group] for group in groups] == [f"l{row % 7}" for row in range(count)]
    assert len(packed["ids"]) < count * 8  # of 24 letters each
    monkeypatch.setattr(sys.modules[plot.__module__], "_MOST_IN_PAGE", 5)
    with pytest.raises(StoreError, match=r"5 at most; write a \.png"):
        plot(store, tmp_path / "b.html", method="pca")
