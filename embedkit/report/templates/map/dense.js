// Many points: by WebGL, or pixel by pixel where the browser has none; and a selection on top.
const layer = byId("layer");
const hues = data.marks.map(([color]) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
let webgl; // not tried yet; null where there is none
let all = null;

const everyRow = () => (all ??= Uint32Array.from({ length: count }, (_, i) => i));
const chosenInDensity = () => (state.chosen > 0 && state.chosen <= MOST_MARKS ? chosenRows() : []);

function drawDensity(isDense, width, height) {
  layer.hidden = true;
  if (!isDense) return;
  if (webgl === undefined) webgl = startWebgl();
  if (webgl) drawByWebgl(webgl);
  else drawByPixels(width, height);
}

function startWebgl() {
  const places = new Uint16Array(2 * count);
  for (let k = 0; k < count; k++) {
    const i = mixedRow(k, count);
    [places[2 * k], places[2 * k + 1]] = [data.places[2 * i], data.places[2 * i + 1]];
  }
  const made = startPoints(layer, places, () => {
    webgl = null;
    ask();
  });
  return made && { ...made, colored: "" };
}

function colorsNow() {
  const bytes = new Uint8Array(4 * count);
  for (let k = 0; k < count; k++) {
    const i = mixedRow(k, count);
    bytes.set(hues.at(data.group[i]), 4 * k);
    bytes[4 * k + 3] = isClear(i) ? 255 : 12;
  }
  return bytes;
}

function drawByWebgl(made) {
  layer.hidden = false;
  if (layer.width !== canvas.width || layer.height !== canvas.height) {
    [layer.width, layer.height] = [canvas.width, canvas.height];
  }
  if (made.colored !== `${state.group} ${choices}`) {
    colorPoints(made, colorsNow());
    made.colored = `${state.group} ${choices}`;
  }
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const crowd = count / Math.max(1, state.scale) ** 2; // about so many are in view
  drawPoints(made, {
    scale: [(2 * side()) / width, (2 * side()) / height],
    shift: [(2 * toX(0)) / width - 1, 1 - (2 * toY(0)) / height],
    size: ratio * Math.min(6, 1.5 * Math.sqrt(Math.max(1, state.scale))),
    alpha: Math.min(0.9, Math.max(0.06, 0.6 * Math.sqrt(MOST_MARKS / crowd))),
  });
}

// The more points lie in a pixel, the less is seen through it; the colour is their mean.
function drawByPixels(width, height) {
  const [columns, lines] = [Math.ceil(width), Math.ceil(height)];
  const [factor, left, top] = [side(), toX(0), toY(0)];
  const sums = new Float32Array(4 * columns * lines);
  for (let i = 0; i < count; i++) {
    const x = Math.floor(left + data.x[i] * factor);
    const y = Math.floor(top - data.y[i] * factor);
    if (x < 0 || y < 0 || x >= columns || y >= lines) continue;
    const cell = 4 * (y * columns + x);
    const [weight, color] = [isClear(i) ? 1 : 0.02, hues.at(data.group[i])];
    for (let k = 0; k < 3; k++) sums[cell + k] += weight * color[k];
    sums[cell + 3] += weight;
  }
  let [total, filled] = [0, 0];
  for (let cell = 3; cell < sums.length; cell += 4) {
    total += sums[cell];
    filled += sums[cell] > 0 ? 1 : 0;
  }
  const full = Math.log1p((4 * total) / Math.max(filled, 1)); // as in the PNG
  const picture = new ImageData(columns, lines);
  for (let cell = 0; cell < sums.length; cell += 4) {
    const weight = sums[cell + 3];
    if (!weight) continue;
    for (let k = 0; k < 3; k++) picture.data[cell + k] = sums[cell + k] / weight;
    const faintest = 0.2 * Math.min(1, weight);
    picture.data[cell + 3] = 255 * (faintest + (1 - faintest) * Math.min(1, Math.log1p(weight) / full));
  }
  const drawn = document.createElement("canvas");
  [drawn.width, drawn.height] = [columns, lines];
  drawn.getContext("2d").putImageData(picture, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(drawn, 0, 0);
  pen.imageSmoothingEnabled = true;
}

