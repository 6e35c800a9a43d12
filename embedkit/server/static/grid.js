// A grid of images of any length: only what is near the window is fetched and in the document.
import { thumbnail } from "./api.js";
import { count, h, icon, printable } from "./dom.js";

const PAGE = 120; // images per request
const MOST_PAGES = 60; // kept in memory
const TALLEST = 15e6; // pixels; browsers draw nothing beyond some 16 to 33 million
const FAST = 4; // pixels per millisecond: faster than that, no picture is asked for

export class Grid {
  // `load(offset, limit, signal)` gives {total, tiles: [{item, caption, note}]}.
  constructor({ label, load, onOpen, onDetails, onLoaded = () => {}, onError = () => {} }) {
    Object.assign(this, { load, onOpen, onDetails, onLoaded, onError });
    this.field = h("div", { class: "field", role: "list", "aria-label": label });
    this.element = h("div", { class: "grid-scroll" }, this.field);
    this.spare = [];
    this.nodes = new Map();
    this.clear();
    this.element.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.field.addEventListener("click", (event) => this.onClick(event));
    this.field.addEventListener("focusin", (event) => this.onFocus(event));
    new ResizeObserver(() => this.layout()).observe(this.element);
  }

  clear() {
    this.abort?.abort();
    this.abort = new AbortController();
    Object.assign(this, { pages: new Map(), asked: new Set(), total: 0, current: 0, speed: 0, isKnown: false });
    for (const index of [...this.nodes.keys()]) this.drop(index);
    this.field.style.height = "0px";
  }

  // Shows another list, from its first page, which may be at hand already.
  async show({ scroll = 0, first = null } = {}) {
    this.clear();
    this.element.setAttribute("aria-busy", "true");
    if (first) this.take(0, first);
    else await this.fetch(0);
    this.element.removeAttribute("aria-busy");
    this.element.scrollTop = scroll;
    this.render();
  }

  async fetch(page) {
    const { pages, abort } = this;
    this.asked.add(page);
    try {
      const answer = await this.load(page * PAGE, PAGE, abort.signal);
      if (pages === this.pages) this.take(page, answer);
    } catch (error) {
      if (error.name === "AbortError" || pages !== this.pages) return;
      this.onError(error);
    }
  }

  take(page, { total, tiles }) {
    this.asked.delete(page);
    this.pages.set(page, tiles);
    if (this.pages.size > MOST_PAGES) {
      const here = Math.floor(this.first / PAGE);
      const far = [...this.pages.keys()].sort((a, b) => Math.abs(b - here) - Math.abs(a - here))[0];
      this.pages.delete(far);
    }
    if (!this.isKnown || total !== this.total) {
      Object.assign(this, { total, isKnown: true });
      this.layout();
      this.onLoaded(total);
    }
    for (const [index, node] of this.nodes) if (!node.tile) this.fill(node, index);
  }

  tileAt(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
  }

  layout() {
    const style = getComputedStyle(this.element);
    const least = Number.parseFloat(style.getPropertyValue("--tile")) || 168;
    const gap = Number.parseFloat(style.getPropertyValue("--gap")) || 8;
    const width = this.field.clientWidth;
    if (!width) return;
    this.columns = Math.max(2, Math.floor((width + gap) / (least + gap)));
    this.side = (width - gap * (this.columns - 1)) / this.columns;
    this.rowHeight = Math.round(this.side + 24 + gap);
    this.gap = gap;
    const rows = Math.min(Math.ceil(this.total / this.columns), Math.floor(TALLEST / this.rowHeight));
    this.reachable = Math.min(this.total, rows * this.columns);
    this.field.style.height = `${rows * this.rowHeight}px`;
    this.field.style.setProperty("--side", `${this.side}px`);
    this.size = this.side * devicePixelRatio > 300 ? 512 : this.side * devicePixelRatio > 140 ? 256 : 128;
    for (const [index, node] of this.nodes) this.place(node, index);
    this.render();
  }

  onScroll() {
    const [now, top] = [performance.now(), this.element.scrollTop];
    this.speed = Math.abs(top - (this.lastTop ?? top)) / Math.max(1, now - (this.lastTime ?? now - 16));
    [this.lastTop, this.lastTime] = [top, now];
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      this.speed = 0;
      this.render();
    }, 90);
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.render();
    });
  }

  render() {
    if (!this.columns || !this.isKnown) return;
    const top = this.element.scrollTop - this.field.offsetTop;
    const height = this.element.clientHeight;
    const firstRow = Math.max(0, Math.floor((top - height / 2) / this.rowHeight));
    const lastRow = Math.ceil((top + 1.5 * height) / this.rowHeight);
    this.first = firstRow * this.columns;
    const last = Math.min(this.reachable, (lastRow + 1) * this.columns);
    for (const index of [...this.nodes.keys()]) {
      if ((index < this.first || index >= last) && !this.nodes.get(index).contains(document.activeElement)) this.drop(index);
    }
    for (let index = this.first; index < last; index++) {
      const node = this.nodes.get(index) ?? this.add(index);
      if (!node.tile || !node.isPictured) this.fill(node, index);
    }
    if (this.speed > FAST) return;
    for (let page = Math.floor(this.first / PAGE); page * PAGE < last; page++) {
      if (!this.pages.has(page) && !this.asked.has(page)) this.fetch(page);
    }
  }

  add(index) {
    const node = this.spare.pop() ?? makeTile();
    this.nodes.set(index, node);
    Object.assign(node, { index, tile: null, isPictured: false });
    node.setAttribute("aria-posinset", index + 1);
    node.setAttribute("aria-setsize", this.total);
    node.open.tabIndex = index === this.current ? 0 : -1;
    this.place(node, index);
    this.field.append(node);
    return node;
  }

  place(node, index) {
    const [row, column] = [Math.floor(index / this.columns), index % this.columns];
    node.style.transform = `translate(${column * (this.side + this.gap)}px, ${row * this.rowHeight}px)`;
  }

  drop(index) {
    const node = this.nodes.get(index);
    this.nodes.delete(index);
    node.remove();
    node.image.removeAttribute("src");
    node.classList.remove("has-picture", "is-broken");
    node.caption.textContent = node.score.textContent = "";
    this.spare.push(node);
  }

  fill(node, index) {
    const tile = this.tileAt(index);
    if (!tile) return;
    if (!node.tile) {
      node.tile = tile;
      const name = printable(tile.item.name);
      node.score.textContent = tile.caption ?? "";
      node.caption.textContent = name;
      node.open.title = tile.note ? `${name}\n${printable(tile.note)}` : name;
      node.open.setAttribute("aria-label", [name, tile.caption, tile.note && printable(tile.note)].filter(Boolean).join(", "));
      node.classList.toggle("is-broken", !tile.item.has_image);
    }
    if (!node.isPictured && tile.item.has_image && this.speed <= FAST) {
      node.isPictured = true;
      node.image.src = thumbnail(tile.item.id, this.size);
    } else if (!tile.item.has_image) node.isPictured = true;
  }

  onClick(event) {
    const node = event.target.closest(".tile");
    if (!node?.tile) return;
    this.moveTo(node.index, false);
    if (event.target.closest(".more")) this.onDetails(node.tile.item, node.open);
    else if (event.target.closest(".open")) this.onOpen(node.tile.item);
  }

  onFocus(event) {
    const node = event.target.closest(".tile");
    if (node && node.index !== this.current) this.moveTo(node.index, false);
  }

  moveTo(index, hasFocus = true) {
    const before = this.nodes.get(this.current);
    if (before) before.open.tabIndex = -1;
    this.current = Math.max(0, Math.min(this.reachable - 1, index));
    if (hasFocus) this.scrollTo(this.current);
    const node = this.nodes.get(this.current);
    if (!node) return;
    node.open.tabIndex = 0;
    if (hasFocus) node.open.focus({ preventScroll: true });
  }

  scrollTo(index) {
    const top = Math.floor(index / this.columns) * this.rowHeight + this.field.offsetTop;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top - 8;
    else if (top + this.rowHeight > scrollTop + clientHeight) this.element.scrollTop = top + this.rowHeight - clientHeight + 8;
    this.render();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.reachable) return;
    const lines = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight)) * this.columns;
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns,
      PageDown: lines, PageUp: -lines, Home: -Infinity, End: Infinity,
    };
    const node = this.nodes.get(this.current);
    if (event.key in steps) {
      const next = this.current + steps[event.key];
      this.moveTo(Math.max(0, Math.min(this.reachable - 1, next)));
    } else if (event.key === "i" && node?.tile) this.onDetails(node.tile.item, node.open);
    else return;
    event.preventDefault();
  }

  focus() {
    if (this.reachable) this.moveTo(this.current);
  }

  get cutNote() {
    return this.reachable < this.total ? `Only the first ${count(this.reachable)} are shown; filters narrow the list.` : "";
  }
}

function makeTile() {
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  const [score, caption] = [h("span", { class: "score" }), h("span", { class: "name" })];
  const open = h("button", { type: "button", class: "open", tabindex: "-1" }, h("span", { class: "frame" }, image), h("span", { class: "caption" }, score, caption));
  const more = h("button", { type: "button", class: "more", tabindex: "-1", "aria-label": "Details" }, icon("info"));
  const node = h("div", { class: "tile", role: "listitem" }, open, more);
  image.addEventListener("load", () => node.classList.add("has-picture"));
  image.addEventListener("error", () => node.classList.add("is-broken"));
  return Object.assign(node, { image, score, caption, open });
}
