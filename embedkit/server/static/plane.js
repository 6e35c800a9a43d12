// Where points lie on the screen: the camera, and a grid of cells that finds points fast.
import { isInside } from "/static/map/points.js";

const CELLS = 256; // per side

export class Plane {
  // `points` holds x and y of each row, in any unit; they are moved into the unit square.
  constructor(points, canvas) {
    this.canvas = canvas;
    this.count = points.length / 2;
    this.places = unitPlaces(points);
    this.sortIntoCells();
    this.whole();
  }

  sortIntoCells() {
    const { count, places } = this;
    const cell = (i) => cellOf(places[2 * i + 1]) * CELLS + cellOf(places[2 * i]);
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < count; i++) this.starts[cell(i) + 1]++;
    for (let c = 0; c < CELLS * CELLS; c++) this.starts[c + 1] += this.starts[c];
    const next = this.starts.slice();
    this.rows = new Uint32Array(count);
    for (let i = 0; i < count; i++) this.rows[next[cell(i)]++] = i;
  }

  get width() {
    return this.canvas.clientWidth;
  }
  get height() {
    return this.canvas.clientHeight;
  }
  get side() {
    return 0.94 * this.scale * Math.min(this.width, this.height);
  }
  toX = (x) => this.width / 2 + (x - this.x) * this.side;
  toY = (y) => this.height / 2 - (y - this.y) * this.side;
  fromX = (x) => this.x + (x - this.width / 2) / this.side;
  fromY = (y) => this.y - (y - this.height / 2) / this.side;

  whole() {
    Object.assign(this, { scale: 1, x: 0.5, y: 0.5 });
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [px, py] = [this.fromX(x), this.fromY(y)];
    this.scale = Math.min(2000, Math.max(0.5, this.scale * factor));
    this.x += px - this.fromX(x);
    this.y += py - this.fromY(y);
  }

  pan(dx, dy) {
    this.x -= dx / this.side;
    this.y += dy / this.side;
  }

  // Calls `visit(row)` for each row in a box of the unit square; false from it ends the walk.
  visit(left, bottom, right, top, visit) {
    const [a, b, c, d] = [left, right, bottom, top].map(cellOf);
    for (let y = c; y <= d; y++) {
      for (let k = this.starts[y * CELLS + a]; k < this.starts[y * CELLS + b + 1]; k++) {
        const row = this.rows[k];
        const [px, py] = [this.places[2 * row], this.places[2 * row + 1]];
        if (px >= left && px <= right && py >= bottom && py <= top && visit(row) === false) return;
      }
    }
  }

  // The rows on the screen, or null if there are more than `most`.
  inView(most) {
    const found = [];
    this.visit(this.fromX(0), this.fromY(this.height), this.fromX(this.width), this.fromY(0), (row) => found.push(row) <= most);
    return found.length > most ? null : found;
  }

  nearest(x, y, reach) {
    let [best, least] = [-1, reach * reach];
    this.visit(this.fromX(x - reach), this.fromY(y + reach), this.fromX(x + reach), this.fromY(y - reach), (row) => {
      const distance = (this.toX(this.places[2 * row]) - x) ** 2 + (this.toY(this.places[2 * row + 1]) - y) ** 2;
      if (distance <= least) [best, least] = [row, distance];
    });
    return best;
  }

  // The rows inside a path of screen positions.
  inside(path) {
    const plane = path.map(([x, y]) => [this.fromX(x), this.fromY(y)]);
    const [xs, ys] = [plane.map(([x]) => x), plane.map(([, y]) => y)];
    const found = [];
    this.visit(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (row) => {
      if (isInside(this.places[2 * row], this.places[2 * row + 1], plane)) found.push(row);
    });
    return found;
  }
}

const cellOf = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));

function unitPlaces(points) {
  let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let k = 0; k < points.length; k += 2) {
    left = Math.min(left, points[k]);
    right = Math.max(right, points[k]);
    bottom = Math.min(bottom, points[k + 1]);
    top = Math.max(top, points[k + 1]);
  }
  const span = Math.max(right - left, top - bottom) || 1;
  const [dx, dy] = [(span - (right - left)) / 2, (span - (top - bottom)) / 2];
  const places = new Float32Array(points.length);
  for (let k = 0; k < points.length; k += 2) {
    places[k] = (points[k] - left + dx) / span;
    places[k + 1] = (points[k + 1] - bottom + dy) / span;
  }
  return places;
}
