// The map: every image is a point, near ones resemble each other; lasso, colours, pictures.
import { bytes, get, thumbnail } from "./api.js";
import { byId, count, h, notice, plural, printable } from "./dom.js";
import { byColumn, colorBytes, namePlaces, plain } from "./map_colors.js";
import { drawLasso, drawNames, MapTip } from "./map_overlay.js";
import { MapPictures } from "./map_pictures.js";
import { watchPointer } from "./map_pointer.js";
import { Plane } from "./plane.js";
import { saveSelection } from "./save_selection.js";
import { color, onTheme } from "./theme.js";
import { colorPoints, drawPoints, mixedRow, startPoints } from "/static/map/points.js";

const STRIP = 60; // pictures of a selection
const CROWD = 20000; // points in view above which they get fainter

export function makeMap(app) {
  const element = h("section", { class: "map-view", "aria-label": "Map" }, notice("Loading the map…", "A map of many images is computed once; this can take a minute."));
  let map = null;
  async function start() {
    try {
      const info = await get("/v1/map");
      const points = new Float32Array(await bytes("/v1/map/points"));
      map = new MapView(app, element, points, info.columns);
    } catch (error) {
      element.replaceChildren(notice("The map could not be loaded.", error.message, h("button", { type: "button", onclick: start }, "Try again")));
    }
  }
  start();
  return {
    element,
    show: () => map?.fit(),
    focus: () => map?.canvas.focus(),
    onKey: (event) => map?.onKey(event),
    onEscape: () => map?.clear(),
    leave: () => map?.tip.show(-1),
    keysTitle: "Map",
    keys: [["Arrow keys", "Move"], ["+ and -", "Zoom"], ["0", "Whole map"], ["l", "Lasso on or off"], ["Enter", "Details of the image in the middle"], ["Esc", "Clear the selection"]],
  };
}

class MapView {
  constructor(app, element, points, columns) {
    this.app = app;
    this.layer = h("canvas", { class: "layer", "aria-hidden": "true" });
    this.canvas = h("canvas", {
      tabindex: "0",
      role: "img",
      "aria-label": `A map of ${plural(points.length / 2, "image")}; near ones resemble each other. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the image in the middle.`,
    });
    this.pictures = new MapPictures(() => this.redraw());
    this.tip = new MapTip(async (row) => (await this.pictures.itemsOf([row]))[0]);
    this.buildControls(columns);
    element.replaceChildren(this.bar, h("div", { class: "map-body" }, h("div", { class: "map-frame" }, this.layer, this.canvas, this.tip.element), this.legend), this.chosenBar);
    this.plane = new Plane(points, this.canvas);
    this.total = this.plane.count;
    this.coloring = plain(this.total);
    this.chosen = new Uint8Array(this.total);
    this.rows = []; // that are chosen
    this.names = []; // of groups, with their places
    this.pointer = watchPointer(this.canvas, this.plane, {
      redraw: () => this.redraw(),
      hover: (row, x, y) => this.tip.show(row, x, y),
      pick: (row) => this.pick(row),
      lasso: (path) => this.choose(this.plane.inside(path)),
      isLasso: () => this.isLasso,
    });
    this.startLayer();
    onTheme(() => this.fit());
    new ResizeObserver(() => this.fit()).observe(this.canvas);
    this.fit();
    const first = ["label", "cluster"].find((name) => columns.some((one) => (one.name ?? one) === name));
    if (first) this.colorBy(first);
  }

  buildControls(columns) {
    const names = columns.map((column) => column.name ?? column);
    const button = (text, action, more = {}) => h("button", { type: "button", onclick: action, ...more }, text);
    const zoomed = (factor) => () => {
      this.plane.zoom(factor);
      this.redraw();
    };
    this.lassoButton = button("Lasso", () => this.setLasso(!this.isLasso), { "aria-pressed": "false", title: "Draw around points to select them (l)" });
    this.select = h("select", { id: "color-by", onchange: () => this.colorBy(this.select.value) }, h("option", { value: "" }, "nothing"), names.map((name) => h("option", { value: name }, name)));
    this.withPictures = h("input", { type: "checkbox", checked: true, onchange: () => this.redraw() });
    this.bar = h("div", { class: "results-head" },
      h("div", { class: "what" }, h("h1", {}, "Map"), (this.facts = h("span", { class: "dim" }))),
      h("div", { class: "sorting" }, h("label", { for: "color-by" }, "Colour by"), this.select),
      h("label", { class: "check" }, this.withPictures, "pictures"),
      h("div", { class: "joined" }, button("−", zoomed(1 / 1.6), { "aria-label": "Zoom out" }), button("+", zoomed(1.6), { "aria-label": "Zoom in" }),
        button("Whole map", () => { this.plane.whole(); this.redraw(); })),
      this.lassoButton);
    this.legend = h("ul", { class: "legend", "aria-label": "Colours; each selects its images", hidden: true });
    this.strip = h("ul", { class: "strip", "aria-label": "Some of the selected images" });
    this.chosenCount = h("b", {});
    this.chosenBar = h("div", { class: "chosen", hidden: true },
      h("div", { class: "actions" }, this.chosenCount,
        button("Save as selection", () => saveSelection(this.app, { rows: this.rows }), { class: "main" }),
        button("Clear", () => this.clear())), this.strip);
  }

  startLayer() {
    const { total, plane } = this;
    const places = new Float32Array(2 * total);
    for (let k = 0; k < total; k++) {
      const row = mixedRow(k, total);
      places[2 * k] = plane.places[2 * row];
      places[2 * k + 1] = plane.places[2 * row + 1];
    }
    this.webgl = startPoints(this.layer, places, () => (this.webgl = null));
    this.facts.textContent = this.webgl ? plural(total, "image") : "This browser has no WebGL, which the map needs.";
    this.recolor();
  }

  recolor() {
    if (this.webgl) colorPoints(this.webgl, colorBytes(this.coloring, (k) => mixedRow(k, this.total), this.chosen, this.rows.length > 0));
    this.redraw();
  }

  fit() {
    const ratio = devicePixelRatio || 1;
    for (const one of [this.layer, this.canvas]) {
      one.width = this.canvas.clientWidth * ratio;
      one.height = this.canvas.clientHeight * ratio;
    }
    this.colors = { card: color("card"), mark: color("mark"), ink: color("ink") };
    this.redraw();
  }

  redraw() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.draw();
    });
  }

  draw() {
    const { plane, canvas } = this;
    const { width, height, side, scale } = plane;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    const crowd = this.total / Math.max(1, scale) ** 2; // about so many are in view
    if (this.webgl) {
      drawPoints(this.webgl, {
        scale: [(2 * side) / width, (2 * side) / height],
        shift: [(2 * plane.toX(0)) / width - 1, 1 - (2 * plane.toY(0)) / height],
        size: ratio * Math.min(9, Math.max(1.5, 220 / Math.sqrt(this.total)) * Math.sqrt(Math.max(1, scale))),
        alpha: Math.min(0.92, Math.max(0.08, 0.75 * Math.sqrt(CROWD / crowd))),
      });
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (this.withPictures.checked) this.pictures.draw(pen, plane, (row) => !this.rows.length || this.chosen[row] === 1, this.colors);
    drawNames(pen, plane, this.names, this.colors);
    drawLasso(pen, this.pointer.path(), this.colors);
  }

  async colorBy(name) {
    this.select.value = name;
    this.legend.hidden = name === "";
    this.names = [];
    if (!name) {
      this.coloring = plain(this.total);
      return this.recolor();
    }
    try {
      this.coloring = byColumn(await get("/v1/map/column", { name }));
    } catch (error) {
      this.legend.replaceChildren(h("li", { class: "problem" }, error.message));
      return undefined;
    }
    if (this.coloring.isNamed) this.names = namePlaces(this.coloring, this.plane.places);
    this.legend.replaceChildren(...this.coloring.names.map((entry) => this.legendEntry(entry)));
    return this.recolor();
  }

  legendEntry({ name, group, count: images }) {
    const swatch = h("span", { class: "swatch" });
    swatch.style.background = this.coloring.hues[group];
    const select = () => {
      const rows = [];
      for (let row = 0; row < this.total; row++) if (this.coloring.group[row] === group) rows.push(row);
      this.choose(rows);
    };
    return h("li", {}, h("button", { type: "button", onclick: select }, swatch, h("span", { class: "value" }, printable(String(name))), h("span", { class: "dim" }, count(images))));
  }

  choose(rows) {
    this.rows = rows;
    this.chosen.fill(0);
    for (const row of rows) this.chosen[row] = 1;
    this.chosenBar.hidden = rows.length === 0;
    this.chosenCount.textContent = `${count(rows.length)} of ${count(this.total)} selected`;
    byId("live").textContent = rows.length ? this.chosenCount.textContent : "Nothing is selected.";
    this.recolor();
    this.drawStrip();
  }

  async drawStrip() {
    this.strip.replaceChildren();
    const { rows } = this;
    if (!rows.length) return;
    const step = Math.max(1, Math.floor(rows.length / STRIP));
    const items = await this.pictures.itemsOf(rows.filter((_, at) => at % step === 0).slice(0, STRIP)).catch(() => []);
    if (rows !== this.rows) return;
    this.strip.replaceChildren(...items.map((item) =>
      h("li", {}, h("button", { type: "button", title: printable(item.name), "aria-label": `Details of ${printable(item.name)}`, onclick: () => this.app.details(item) },
        item.has_image ? h("img", { src: thumbnail(item.id, 128), alt: "", loading: "lazy", decoding: "async" }) : h("span", { class: "blank" })))));
  }

  clear() {
    if (!this.rows.length) return false;
    this.choose([]);
    return true;
  }

  setLasso(isOn) {
    this.isLasso = isOn;
    this.lassoButton.setAttribute("aria-pressed", String(isOn));
    this.canvas.classList.toggle("lasso", isOn);
  }

  onKey(event) {
    if (event.key !== "l") return false;
    this.setLasso(!this.isLasso);
    return true;
  }

  async pick(row) {
    if (row < 0) return;
    const [item] = await this.pictures.itemsOf([row]);
    this.app.details(item);
  }
}
