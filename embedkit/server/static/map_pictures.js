// The images of a map's rows: which they are is asked for in batches; their pictures are drawn.
import { get, thumbnail } from "./api.js";

const BATCH = 200; // rows per request
const MOST = 4000; // rows kept in memory
const SIDE = 84; // pixels of a drawn picture, with its border
const MOST_IN_VIEW = 4000; // rows: with more in view, no pictures are drawn

export class MapPictures {
  constructor(onLoaded) {
    Object.assign(this, { onLoaded, items: new Map(), pictures: new Map(), waiting: new Set(), isAsking: false });
  }

  // The item of a row if it is known; else it is asked for.
  item(row) {
    if (!this.items.has(row)) {
      this.waiting.add(row);
      this.ask();
    }
    return this.items.get(row) ?? null;
  }

  async itemsOf(rows) {
    const missing = rows.filter((row) => !this.items.has(row));
    if (missing.length) this.keep(missing, (await get("/v1/map/ids", { rows: missing.join(",") })).items);
    return rows.map((row) => this.items.get(row));
  }

  keep(rows, items) {
    if (this.items.size > MOST) {
      this.items.clear();
      this.pictures.clear();
    }
    rows.forEach((row, at) => this.items.set(row, items[at]));
  }

  async ask() {
    if (this.isAsking) return;
    this.isAsking = true;
    await new Promise((done) => setTimeout(done, 60));
    while (this.waiting.size) {
      const rows = [...this.waiting].slice(-BATCH);
      this.waiting.clear();
      try {
        await this.itemsOf(rows);
      } catch {
        break; // asked for again at the next movement
      }
      this.onLoaded();
    }
    this.isAsking = false;
  }

  picture(row) {
    const item = this.item(row);
    if (!item?.has_image) return null;
    if (!this.pictures.has(row)) {
      const image = new Image();
      image.src = thumbnail(item.id, 128);
      image.addEventListener("load", this.onLoaded);
      this.pictures.set(row, image);
    }
    const image = this.pictures.get(row);
    return image.complete && image.naturalWidth ? image : null;
  }

  // At most one picture per place, so that none hides another.
  draw(pen, plane, isClear, colors) {
    const rows = plane.inView(MOST_IN_VIEW);
    if (!rows) return;
    const taken = new Set();
    for (const row of rows) {
      if (!isClear(row)) continue;
      const [x, y] = [plane.toX(plane.places[2 * row]), plane.toY(plane.places[2 * row + 1])];
      const [column, line] = [Math.floor(x / SIDE), Math.floor(y / SIDE)];
      const around = [-1, 0, 1].flatMap((dx) => [-1, 0, 1].map((dy) => `${column + dx} ${line + dy}`));
      if (around.some((place) => taken.has(place))) continue;
      taken.add(`${column} ${line}`);
      const image = this.picture(row);
      if (image) frame(pen, image, x, y, colors);
    }
  }
}

function frame(pen, image, x, y, colors) {
  const factor = (SIDE - 8) / Math.max(image.naturalWidth, image.naturalHeight);
  const [width, height] = [image.naturalWidth * factor, image.naturalHeight * factor];
  pen.fillStyle = colors.card;
  pen.fillRect(x - width / 2 - 2, y - height / 2 - 2, width + 4, height + 4);
  pen.drawImage(image, x - width / 2, y - height / 2, width, height);
}
