"""The map's script in a real browser: search, lasso, touch, keys, and names that stay text."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from html_page import HOSTILE
from PIL import Image

from embedkit.decode.thumbnail import thumbnail_uri
from embedkit.report import MapPage, Picture, write_map
from embedkit.report.page_writer import printable

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1000,800",
    "--virtual-time-budget=3000", "--dump-dom",
)  # fmt: skip


def page_of(tmp_path: Path, names: list[str]) -> Path:
    """A map of a grid of images, three of each row's label; each has a picture."""
    side = 3
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[: len(names)]
    uri = thumbnail_uri(Image.new("RGB", (20, 10), "teal"), 96)
    groups = np.arange(len(names)) // side
    words = [f"row {group}" for group in groups.tolist()]
    page = MapPage(
        "Map", [], grid.astype("f4") / 2, groups, sorted(set(words)), names, words,
        {name: Picture(name, uri, "x.jpg", "20 x 10, PNG, 1 kB") for name in names},
    )  # fmt: skip
    return write_map(tmp_path / "map.html", page)


def dom(path: Path, tmp_path: Path, *flags: str) -> str:
    assert CHROMIUM is not None
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *OPTIONS, *flags, profile, path.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ended.stdout


def run(path: Path, tmp_path: Path, script: str, *flags: str) -> dict[str, object]:
    """What a script that is added to the page hands to ``out``; the page's policy is taken off."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text("utf-8"))
    tail = (
        "<pre id='result'></pre><script>const out = {}; const at = (type, x, y, more = {}) => {"
        "const box = canvas.getBoundingClientRect(); canvas.dispatchEvent(new PointerEvent(type,"
        "{pointerId: 1, pointerType: 'mouse', clientX: box.left + x, clientY: box.top + y,"
        "bubbles: true, ...more}));}; canvas.setPointerCapture = () => {};"
        f"{script}; byId('result').textContent = JSON.stringify(out);</script></body>"
    )
    changed = path.with_name("driven.html")
    changed.write_text(text.replace("</body>", tail), "utf-8")
    found = re.search(r'<pre id="result">(.*?)</pre>', dom(changed, tmp_path, *flags), re.DOTALL)
    assert found is not None
    return dict(json.loads(html.unescape(found[1])))


NAMES = [f"photos/{name}.jpg" for name in "abcdefghi"]


def test_search_lasso_touch_and_keys(tmp_path: Path) -> None:
    script = """
    const ids = () => chosenRows().map((i) => data.name[i]);
    const box = byId("search");
    const type = (text) => { box.value = text; box.dispatchEvent(new Event("input")); };
    type("B.JPG"); out.search = ids(); out.count = byId("count").textContent;
    type("row 2"); out.label = ids();
    out.legend = document.querySelectorAll(".legend li:not([hidden])").length;
    type("nowhere"); out.none = byId("count").textContent;
    type("");
    const corner = (x, y) => [toX(x), toY(y)];
    byId("lasso").click();
    at("pointerdown", ...corner(-0.1, -0.1));
    for (const [x, y] of [[0.6, -0.1], [0.6, 0.6], [-0.1, 0.6]]) at("pointermove", ...corner(x, y));
    at("pointerup", ...corner(-0.1, 0.6));
    out.lasso = ids();
    out.panel = byId("chosen").hidden;
    let csv = null;
    URL.createObjectURL = (blob) => { csv = blob; return "blob:x"; };
    URL.revokeObjectURL = () => {};
    HTMLAnchorElement.prototype.click = function () { out.file = this.download; };
    byId("csv").click(); out.bytes = csv.size; out.type = csv.type;
    byId("clear").click(); out.cleared = state.chosen; byId("move").click();
    const finger = (type, id, x, y) => at(type, x, y, { pointerId: id, pointerType: "touch" });
    finger("pointerdown", 1, ...corner(1, 1)); finger("pointerup", 1, ...corner(1, 1));
    out.tip = tip.textContent; out.link = tip.querySelector("a").getAttribute("href");
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    out.closed = tip.hidden;
    finger("pointerdown", 1, 300, 300); finger("pointerdown", 2, 340, 300);
    finger("pointermove", 1, 260, 300); finger("pointermove", 2, 380, 300);
    finger("pointerup", 1, 260, 300); finger("pointerup", 2, 380, 300);
    out.pinch = state.scale;
    const key = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
    key("+"); out.plus = state.scale; key("ArrowLeft"); out.left = state.x;
    key("0"); out.whole = state.x;
    key("Enter"); out.middle = byId("tip").textContent
    """
    out = run(page_of(tmp_path, NAMES), tmp_path, script)
    assert out["search"] == [NAMES[1]]
    assert out["count"] == "1 of 9 selected"
    assert out["label"] == NAMES[6:]
    assert out["legend"] == 1
    assert out["none"] == "nothing found"
    assert out["lasso"] == [NAMES[k] for k in (0, 1, 3, 4)]
    assert out["panel"] is False
    rows = "".join(
        f"{NAMES[k]},row {k // 3},{k % 3 / 2:g},{k // 3 / 2:g}\r\n" for k in (0, 1, 3, 4)
    )
    assert out["bytes"] == len("id,label,x,y\r\n" + rows)
    assert (out["file"], out["type"]) == ("selection.csv", "text/csv")
    assert out["cleared"] == 0
    assert out["tip"] == f"row 2{NAMES[8]}20 x 10, PNG, 1 kB"
    assert out["link"] == "x.jpg"
    assert out["closed"] is True
    assert out["pinch"] == pytest.approx(3)
    assert out["plus"] == pytest.approx(4.5)
    assert out["left"] < out["whole"] == 0.5
    assert NAMES[4] in str(out["middle"])


def test_hostile_names_do_not_run(tmp_path: Path) -> None:
    attacks = (
        "</script><script>document.title='run'</script>",
        "<img src=x onerror=document.title='run'>",
    )
    names = [*attacks, *HOSTILE[:6]]
    script = "search(); choose(() => true); pin(0, 5, 5); out.title = document.title; out.n = count"
    path = page_of(tmp_path, names)
    assert run(path, tmp_path, script) == {"title": "Map", "n": len(names)}
    shown = dom(path, tmp_path)  # as it is, under its own policy
    assert "<title>Map</title>" in shown
    assert 'id="map"' in shown
    assert re.search(r'<canvas id="map"[^>]* width="\d{3}', shown)  # its own script has run


MANY = 22_000
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def page_of_many(tmp_path: Path) -> tuple[Path, list[str]]:
    """Two clusters, one in the lower left and one in the upper right; two images have pictures."""
    rng = np.random.default_rng(0)
    groups = np.arange(MANY) % 2
    points = np.where(groups[:, None] == 0, 0.2, 0.8) + rng.uniform(-0.1, 0.1, (MANY, 2))
    points[-1] = (0.95, 0.05)
    names = [f"{HOSTILE[0]}/\U0001f40a{'abc'[row % 3]}/{row:05}.jpg" for row in range(MANY)]
    uri = thumbnail_uri(Image.new("RGB", (20, 10), "teal"), 96)
    pictures = {names[row]: Picture(names[row], uri, "x.jpg", "some facts") for row in (3, 21_999)}
    page = MapPage(
        "Map", [], points.astype("f4"), groups, ["<b>low</b>", "high"], names,
        [("<b>low</b>", "high")[group] for group in groups.tolist()], pictures,
    )  # fmt: skip
    return write_map(tmp_path / "many.html", page), [printable(name) for name in names]


DENSE = """
const shade = (x, y) => {
  let [pixel, scale] = [new Uint8Array(4), canvas.width / canvas.clientWidth];
  const [left, top] = [Math.round(toX(x) * scale), Math.round(toY(y) * scale)];
  const gl = webgl?.gl;
  if (gl) gl.readPixels(left, canvas.height - top, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  else pixel = pen.getImageData(left, top, 1, 1).data;
  return [...pixel];
};
const mean = (x, y) => {  // of the opacity around a place
  let sum = 0;
  for (let a = -0.04; a < 0.045; a += 0.01) {
    for (let b = -0.04; b < 0.045; b += 0.01) sum += shade(x + a, y + b)[3];
  }
  return sum / 81;
};
byId("names").checked = false; byId("pictures").checked = false;
draw();
out.kind = webgl ? "webgl" : "pixels";
out.low = mean(0.2, 0.2); out.high = mean(0.8, 0.8); out.empty = mean(0.5, 0.5);
const [red, , blue] = shade(0.2, 0.2); out.isBlue = blue > red;
document.querySelector('button[data-group="1"]').click(); draw();
out.lowUnclear = mean(0.2, 0.2); out.highClear = mean(0.8, 0.8);
document.querySelector('button[data-group="1"]').click();
out.names = [0, 1, 2, 9999, 21999].map((i) => data.name[i]);
out.words = [data.word[0], data.word[1]];
pin(nearest(toX(0.95), toY(0.05), 12), 5, 5);
out.tip = tip.textContent; out.picture = tip.querySelector("img") !== null;
pin(nearest(toX(data.x[4]), toY(data.y[4]), 3), 5, 5);
out.bare = tip.querySelector("img") === null;
byId("search").value = "21999"; search(); out.found = byId("count").textContent;
clearChosen();
Object.assign(state, { x: 0.95, y: 0.05, scale: 50 }); draw();
out.marks = layer.hidden && inView(everyRow(), canvas.clientWidth, canvas.clientHeight).length;
out.title = document.title
"""


@pytest.mark.parametrize(
    ("kind", "flags"), [("webgl", WEBGL), ("pixels", ("--disable-3d-apis",))], ids=["gl", "no gl"]
)
def test_many_points_are_a_density(tmp_path: Path, kind: str, flags: tuple[str, ...]) -> None:
    path, names = page_of_many(tmp_path)
    out = run(path, tmp_path, DENSE, *flags)
    assert out["kind"] == kind
    assert out["low"] > 60 < out["high"]
    assert out["empty"] == 0
    assert out["isBlue"] is True
    assert out["lowUnclear"] < out["low"] / 2
    assert out["highClear"] > out["high"] / 2
    assert out["names"] == [names[row] for row in (0, 1, 2, 9999, 21999)]
    assert out["words"] == ["<b>low</b>", "high"]
    assert out["tip"] == f"high{names[21999]}some facts"
    assert out["picture"] is True
    assert out["bare"] is True
    assert out["found"] == "1 of 22,000 selected"
    assert out["marks"] == 1
    assert out["title"] == "Map"
    shown = dom(path, tmp_path, *flags)  # as it is, under its own policy
    assert re.search(r'<canvas id="map"[^>]* width="\d{3}', shown)
