// Drawing: marks, thumbnails where there is room, names of clusters, the lasso.
const pen = canvas.getContext("2d");
const images = new Map();
let ratio = 1;
let colors = {};
let sprites = { radius: 0, list: [] };

function fit() {
  ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const style = getComputedStyle(document.documentElement);
  const css = (name) => getComputedStyle(byId(name)).color;
  colors = { ink: css("ink"), card: css("card"), mark: css("mark"), font: style.fontFamily };
  sprites.radius = 0;
  ask();
}

function spritesOf(radius) {
  if (sprites.radius === radius) return sprites.list;
  const size = Math.ceil(2 * (1.5 * radius + 1) * ratio);
  sprites = { radius, list: data.marks.map((mark) => sprite(mark, radius, size)) };
  return sprites.list;
}

function sprite([color, path, isHollow], radius, size) {
  const made = document.createElement("canvas");
  made.width = made.height = size;
  const brush = made.getContext("2d");
  brush.setTransform(radius * ratio, 0, 0, radius * ratio, size / 2, size / 2);
  brush.fillStyle = brush.strokeStyle = color;
  brush.lineWidth = isHollow ? 0.6 : 0.1;
  if (isHollow) brush.stroke(new Path2D(path));
  else brush.fill(new Path2D(path));
  return made;
}

function draw() {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const size = Math.min(5, Math.max(2.2, 90 / Math.sqrt(count + 1)));
  const radius = Math.min(9, Math.round(4 * size * Math.sqrt(Math.max(1, state.scale))) / 4);
  const marks = inView(everyRow(), width, height);
  drawDensity(marks === null, width, height);
  drawMarks(marks ?? inView(chosenInDensity(), width, height), radius);
  if (byId("pictures").checked) drawPictures(inView(pictured, width, height) ?? []);
  if (byId("names").checked) drawNames(width, height);
  drawLasso();
}

// The rows of a list in view, with where they lie; null if there are too many for marks.
function inView(rows, width, height) {
  const [factor, left, top] = [side(), toX(0), toY(0)];
  const found = [];
  for (let k = 0; k < rows.length; k++) {
    const i = rows[k];
    const [x, y] = [left + data.x[i] * factor, top - data.y[i] * factor];
    if (x > -9 && y > -9 && x < width + 9 && y < height + 9) found.push([i, x, y]);
    if (found.length > MOST_MARKS) return null;
  }
  return found;
}

function drawMarks(inView, radius) {
  const list = spritesOf(radius);
  for (const isTop of [0, 1]) {
    for (const [i, x, y] of inView) {
      if (chosen[i] !== isTop) continue;
      pen.globalAlpha = isClear(i) ? 0.9 : 0.12;
      const image = list.at(data.group[i]);
      const span = image.width / ratio;
      pen.drawImage(image, x - span / 2, y - span / 2, span, span);
      if (isTop && isShown(i)) ring(x, y, radius + 2);
    }
  }
  pen.globalAlpha = 1;
}

function ring(x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.lineWidth = 1.5;
  pen.strokeStyle = colors.ink;
  pen.stroke();
}

const pictured = Object.keys(data.picture).map(Number).filter((i) => data.picture[i]);

function drawPictures(inView) {
  const near = inView.filter(([i]) => isClear(i));
  if (state.scale < 2 && near.length > 40) return;
  const edge = Math.min(96, 40 * Math.sqrt(Math.max(1, state.scale / 2)));
  const cells = new Map();
  for (const [i, x, y] of near) {
    const [column, row] = [Math.floor(x / edge), Math.floor(y / edge)];
    if (isTaken(cells, column, row, x, y, edge)) continue;
    cells.set(`${column},${row}`, [x, y]);
    drawPicture(i, x, y, edge);
  }
}

function isTaken(cells, column, row, x, y, edge) {
  for (let c = column - 1; c <= column + 1; c++) {
    for (let r = row - 1; r <= row + 1; r++) {
      const other = cells.get(`${c},${r}`);
      if (other && Math.abs(other[0] - x) < edge + 4 && Math.abs(other[1] - y) < edge + 4) return true;
    }
  }
  return false;
}

function drawPicture(i, x, y, edge) {
  if (!images.has(i)) {
    const image = new Image();
    image.onload = ask;
    image.src = data.picture[i];
    images.set(i, image);
  }
  const image = images.get(i);
  if (!image.complete || !image.naturalWidth) return;
  const scale = edge / Math.max(image.naturalWidth, image.naturalHeight);
  const [w, h] = [image.naturalWidth * scale, image.naturalHeight * scale];
  pen.imageSmoothingEnabled = scale < 2;
  pen.drawImage(image, x - w / 2, y - h / 2, w, h);
  pen.imageSmoothingEnabled = true;
  pen.lineWidth = chosen[i] ? 3 : 2;
  pen.strokeStyle = chosen[i] ? colors.ink : data.marks.at(data.group[i])[0];
  pen.strokeRect(x - w / 2, y - h / 2, w, h);
}

// Where a group is densest: the fullest of the cells of a grid, with those about it.
const places = (() => {
  const [grid, made] = [24, data.names.map(() => ({ cells: new Map(), size: 0 }))];
  for (let i = 0; i < count; i++) {
    const group = made[data.group[i]];
    if (!group) continue;
    group.size++;
    const key = Math.floor(data.x[i] * grid) + 100 * Math.floor(data.y[i] * grid);
    const cell = group.cells.get(key) || [0, 0, 0];
    group.cells.set(key, [cell[0] + 1, cell[1] + data.x[i], cell[2] + data.y[i]]);
  }
  return made.map(({ cells, size }) => {
    let best = [0, 0, 0];
    for (const key of cells.keys()) {
      const sum = [0, 0, 0];
      for (const dx of [-1, 0, 1]) {
        for (const dy of [-100, 0, 100]) {
          (cells.get(key + dx + dy) || [0, 0, 0]).forEach((value, k) => (sum[k] += value));
        }
      }
      if (sum[0] > best[0]) best = sum;
    }
    return { size, x: best[1] / best[0], y: best[2] / best[0] };
  });
})();

function drawNames(width, height) {
  pen.font = `600 12px ${colors.font}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  const drawn = [];
  const hasChosen = state.chosen ? new Set(data.group.filter((_, i) => chosen[i])) : null;
  places.forEach(({ size, x, y }, group) => {
    if (!size || (state.group !== null && state.group !== group)) return;
    const name = data.names[group];
    const text = name.length > 24 ? `${name.slice(0, 23)}…` : name;
    const half = pen.measureText(text).width / 2 + 3;
    const [cx, cy] = [Math.min(Math.max(toX(x), half), width - half), toY(y)];
    if (cy < 8 || cy > height - 8 || toX(x) < 0 || toX(x) > width) return;
    if (drawn.some(([ox, oy, oh]) => Math.abs(ox - cx) < oh + half && Math.abs(oy - cy) < 16)) return;
    drawn.push([cx, cy, half]);
    pen.globalAlpha = state.chosen > 0 && !hasChosen.has(group) ? 0.3 : 1;
    pen.lineWidth = 4;
    pen.strokeStyle = colors.card;
    pen.strokeText(text, cx, cy);
    pen.fillStyle = colors.ink;
    pen.fillText(text, cx, cy);
  });
  pen.globalAlpha = 1;
}

function drawLasso() {
  if (!state.lasso) return;
  pen.beginPath();
  for (const [x, y] of state.lasso) pen.lineTo(x, y);
  pen.closePath();
  pen.setLineDash([5, 4]);
  pen.lineWidth = 2;
  pen.strokeStyle = colors.mark;
  pen.stroke();
  pen.setLineDash([]);
}

