// Many points: by WebGL, or pixel by pixel where the browser has none; and a selection on top.
const layer = byId("layer");
const hues = data.marks.map(([color]) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
const stride = count % 1000003 ? 1000003 : 999983; // primes: each row comes once, in a mixed order
const rowAt = (place) => (place * stride) % count;
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
  const gl = layer.getContext("webgl", { antialias: false, premultipliedAlpha: true });
  if (!gl) return null;
  const program = gl.createProgram();
  const sources = [
    [gl.VERTEX_SHADER, `attribute vec2 place; attribute vec4 color; varying vec4 tint;
      uniform vec2 scale, shift; uniform float size, alpha;
      void main() { gl_Position = vec4(place * scale + shift, 0.0, 1.0); gl_PointSize = size;
        float a = color.a * alpha; tint = vec4(color.rgb * a, a); }`],
    [gl.FRAGMENT_SHADER, "precision mediump float; varying vec4 tint; void main() { gl_FragColor = tint; }"],
  ];
  for (const [kind, source] of sources) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  gl.useProgram(program);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const places = new Uint16Array(2 * count);
  for (let k = 0; k < count; k++) {
    const i = rowAt(k);
    [places[2 * k], places[2 * k + 1]] = [data.places[2 * i], data.places[2 * i + 1]];
  }
  attribute(gl, program, "place", 2, gl.UNSIGNED_SHORT);
  gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
  attribute(gl, program, "color", 4, gl.UNSIGNED_BYTE);
  layer.addEventListener("webglcontextlost", () => {
    webgl = null;
    ask();
  });
  const uniforms = ["scale", "shift", "size", "alpha"].map((name) => [name, gl.getUniformLocation(program, name)]);
  return { gl, at: Object.fromEntries(uniforms), colored: "" };
}

// Leaves the attribute's buffer bound, to be filled.
function attribute(gl, program, name, size, kind) {
  const where = gl.getAttribLocation(program, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.enableVertexAttribArray(where);
  gl.vertexAttribPointer(where, size, kind, true, 0, 0);
}

function colorsNow() {
  const bytes = new Uint8Array(4 * count);
  for (let k = 0; k < count; k++) {
    const i = rowAt(k);
    bytes.set(hues.at(data.group[i]), 4 * k);
    bytes[4 * k + 3] = isClear(i) ? 255 : 12;
  }
  return bytes;
}

function drawByWebgl(made) {
  const { gl, at } = made;
  layer.hidden = false;
  if (layer.width !== canvas.width || layer.height !== canvas.height) {
    [layer.width, layer.height] = [canvas.width, canvas.height];
  }
  if (made.colored !== `${state.group} ${choices}`) {
    gl.bufferData(gl.ARRAY_BUFFER, colorsNow(), gl.DYNAMIC_DRAW);
    made.colored = `${state.group} ${choices}`;
  }
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  gl.viewport(0, 0, layer.width, layer.height);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT);
  gl.uniform2f(at.scale, (2 * side()) / width, (2 * side()) / height);
  gl.uniform2f(at.shift, (2 * toX(0)) / width - 1, 1 - (2 * toY(0)) / height);
  gl.uniform1f(at.size, ratio * Math.min(6, 1.5 * Math.sqrt(Math.max(1, state.scale))));
  const crowd = count / Math.max(1, state.scale) ** 2; // about so many are in view
  gl.uniform1f(at.alpha, Math.min(0.9, Math.max(0.06, 0.6 * Math.sqrt(MOST_MARKS / crowd))));
  gl.drawArrays(gl.POINTS, 0, count);
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

