// What is drawn over the points: names of groups, the lasso, and the card of the image below the mouse.
import { thumbnail } from "./api.js";
import { h, printable } from "./dom.js";

const LETTERS = 24;
const WAIT = 70; // milliseconds that the mouse must rest

export function drawLasso(pen, path, { mark }) {
  if (!path) return;
  pen.beginPath();
  for (const [x, y] of path) pen.lineTo(x, y);
  pen.closePath();
  pen.lineWidth = 2;
  pen.setLineDash([5, 4]);
  pen.strokeStyle = pen.fillStyle = mark;
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 0.08;
  pen.fill();
  pen.globalAlpha = 1;
}

// Names that would lie over another are left out; the first are the largest groups.
export function drawNames(pen, plane, names, { card, ink }) {
  pen.font = "600 12px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.lineWidth = 4;
  const drawn = [];
  for (const { name, x, y } of names) {
    const text = printable(name.length > LETTERS ? `${name.slice(0, LETTERS - 1)}…` : name);
    const half = pen.measureText(text).width / 2 + 4;
    const [left, top] = [plane.toX(x), plane.toY(y)];
    if (left < half || left > plane.width - half || top < 10 || top > plane.height - 10) continue;
    if (drawn.some(([cx, cy, ch]) => Math.abs(cx - left) < ch + half && Math.abs(cy - top) < 18)) continue;
    drawn.push([left, top, half]);
    pen.strokeStyle = card;
    pen.strokeText(text, left, top);
    pen.fillStyle = ink;
    pen.fillText(text, left, top);
  }
}

export class MapTip {
  constructor(itemOf) {
    this.itemOf = itemOf;
    this.element = h("div", { class: "tip", hidden: true });
  }

  show(row, x, y) {
    this.row = row;
    this.element.hidden = true;
    clearTimeout(this.timer);
    if (row >= 0) this.timer = setTimeout(() => this.fill(row, x, y), WAIT);
  }

  async fill(row, x, y) {
    const item = await this.itemOf(row).catch(() => null);
    if (!item || this.row !== row) return;
    this.element.replaceChildren(
      ...(item.has_image ? [h("img", { src: thumbnail(item.id, 256), alt: "" })] : []),
      h("b", {}, printable(item.name)),
      ...(item.label ? [h("span", {}, printable(item.label))] : []));
    this.element.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    this.element.style.left = `${Math.max(4, x + 16 + width > innerWidth ? x - 16 - width : x + 16)}px`;
    this.element.style.top = `${Math.max(4, Math.min(y, innerHeight - height - 8))}px`;
  }
}
