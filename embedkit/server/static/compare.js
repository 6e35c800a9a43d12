// Two images on one canvas: in turn (blink), one over the other, or their difference.
import { original } from "./api.js";
import { h, printable } from "./dom.js";

const BLINK = 600; // milliseconds: below three changes a second
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

export class Compare {
  constructor() {
    this.canvas = h("canvas", { role: "img" });
    this.caption = h("p", { class: "compare-caption", "aria-live": "off" });
    this.amount = h("input", { type: "range", id: "amount", min: "0", max: "1", step: "0.01", value: "0.5", oninput: () => this.draw() });
    this.amountLabel = h("label", { for: "amount" });
    this.field = h("div", { class: "threshold" }, this.amountLabel, this.amount);
    this.element = h("div", { class: "compare", hidden: true }, this.canvas, h("div", { class: "compare-foot" }, this.caption, this.field));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  async show(mode, keeper, other) {
    Object.assign(this, { mode, keeper, other, isFlipped: false });
    clearInterval(this.timer);
    this.element.hidden = mode === "side";
    if (mode === "side") return;
    this.field.hidden = mode === "blink";
    this.amountLabel.textContent = mode === "overlay" ? "Keeper to copy" : "Contrast";
    const names = `${printable(keeper.name)} and ${printable(other.name)}`;
    this.canvas.setAttribute("aria-label", { blink: `${names} in turn`, overlay: `${names} over each other`, difference: `Difference of ${names}` }[mode]);
    const pair = [keeper.id, other.id];
    this.images = null;
    this.caption.textContent = "Loading the originals…";
    try {
      const images = await Promise.all(pair.map(load));
      if (this.keeper.id !== pair[0] || this.other.id !== pair[1]) return;
      this.images = images;
    } catch {
      this.caption.textContent = "An original could not be loaded, so the two can't be compared here.";
      return;
    }
    clearInterval(this.timer);
    if (mode === "blink" && !STILL.matches) this.timer = setInterval(() => this.flip(), BLINK);
    this.draw();
  }

  stop() {
    clearInterval(this.timer);
    this.element.hidden = true;
  }

  flip() {
    this.isFlipped = !this.isFlipped;
    this.draw();
  }

  draw() {
    const { canvas, images, mode } = this;
    if (!images || this.element.hidden || !canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const pen = canvas.getContext("2d", { willReadFrequently: mode === "difference" });
    const [keeper] = images;
    const factor = Math.min(canvas.width / keeper.naturalWidth, canvas.height / keeper.naturalHeight);
    const [width, height] = [keeper.naturalWidth * factor, keeper.naturalHeight * factor].map(Math.round);
    const box = [Math.round((canvas.width - width) / 2), Math.round((canvas.height - height) / 2), width, height];
    if (mode === "difference") drawDifference(pen, images, box, 1 + 15 * Number(this.amount.value));
    else if (mode === "overlay") {
      pen.drawImage(images[0], ...box);
      pen.globalAlpha = Number(this.amount.value);
      pen.drawImage(images[1], ...box);
    } else pen.drawImage(images[this.isFlipped ? 1 : 0], ...box);
    this.tell();
  }

  tell() {
    const { mode, keeper, other, isFlipped } = this;
    const shown = isFlipped ? other : keeper;
    this.caption.textContent = {
      blink: `${isFlipped ? "Copy" : "Keeper"}: ${printable(shown.name)}, ${shown.width} × ${shown.height}`,
      overlay: "Both in one frame",
      difference: "Black is equal; the brighter, the more different",
    }[mode];
  }
}

async function load(id) {
  const image = new Image();
  image.src = original(id);
  await image.decode();
  return image;
}

function drawDifference(pen, [one, other], [left, top, width, height], gain) {
  const pixels = [one, other].map((image) => {
    pen.clearRect(left, top, width, height);
    pen.drawImage(image, left, top, width, height);
    return pen.getImageData(left, top, width, height);
  });
  const [a, b] = pixels.map(({ data }) => data);
  for (let k = 0; k < a.length; k += 4) {
    for (let c = 0; c < 3; c++) a[k + c] = Math.min(255, gain * Math.abs(a[k + c] - b[k + c]));
    a[k + 3] = 255;
  }
  pen.putImageData(pixels[0], left, top);
}
