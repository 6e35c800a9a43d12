// Points by WebGL, and which of them a lasso holds. The report's map and the page of
// `embedkit serve` share this file; the report joins it into its one script.
export const mixedRow = (place, count) => (place * (count % 1000003 ? 1000003 : 999983)) % count; // primes: each row once

// `places` are x and y per point: float32, or uint16 for 0 to 1. Null where there is no WebGL.
export function startPoints(layer, places, onLost) {
  const gl = layer.getContext("webgl", { antialias: false, premultipliedAlpha: true });
  if (!gl) return null;
  const program = gl.createProgram();
  const sources = [
    [gl.VERTEX_SHADER, `attribute vec2 place; attribute vec4 color; varying vec4 tint;
      uniform vec2 scale, shift; uniform float size, alpha;
      void main() { gl_Position = vec4(place * scale + shift, 0.0, 1.0); gl_PointSize = size;
        float a = color.a * alpha; tint = vec4(color.rgb * a, a); }`],
    [gl.FRAGMENT_SHADER, `precision mediump float; varying vec4 tint;
      void main() { vec2 away = gl_PointCoord - 0.5; if (dot(away, away) > 0.25) discard; gl_FragColor = tint; }`],
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
  attribute(gl, program, "place", 2, places instanceof Float32Array ? gl.FLOAT : gl.UNSIGNED_SHORT);
  gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
  attribute(gl, program, "color", 4, gl.UNSIGNED_BYTE); // stays bound
  layer.addEventListener("webglcontextlost", onLost);
  const uniforms = ["scale", "shift", "size", "alpha"].map((name) => [name, gl.getUniformLocation(program, name)]);
  return { gl, at: Object.fromEntries(uniforms), count: places.length / 2 };
}

// Leaves the attribute's buffer bound, to be filled.
function attribute(gl, program, name, size, kind) {
  const where = gl.getAttribLocation(program, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.enableVertexAttribArray(where);
  gl.vertexAttribPointer(where, size, kind, true, 0, 0);
}

// Red, green, blue and opacity of each point, as bytes.
export const colorPoints = ({ gl }, bytes) => gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.DYNAMIC_DRAW);

// `scale` and `shift` take a place to WebGL's plane; `size` is in pixels of the layer.
export function drawPoints({ gl, at, count }, { scale, shift, size, alpha }) {
  gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT);
  gl.uniform2f(at.scale, ...scale);
  gl.uniform2f(at.shift, ...shift);
  gl.uniform1f(at.size, size);
  gl.uniform1f(at.alpha, alpha);
  gl.drawArrays(gl.POINTS, 0, count);
}

export function isInside(x, y, path) {
  let inside = false;
  for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
    const [[ax, ay], [bx, by]] = [path[a], path[b]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
