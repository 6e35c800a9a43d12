// Mouse, fingers, pen and keys on the map: move, zoom, pinch, lasso, and pick one image.
const STILL = 5; // pixels: less movement is a click

// `on` holds: redraw, hover(row, x, y), pick(row), lasso(path), isLasso(), tellMode().
export function watchPointer(canvas, plane, on) {
  const pointers = new Map();
  let start = null;
  let path = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    start = pointers.size > 1 ? null : at(event);
    path = pointers.size === 1 && (on.isLasso() || event.shiftKey) ? [at(event)] : null;
    on.hover(-1);
  });

  canvas.addEventListener("pointermove", (event) => {
    const [now, before] = [at(event), pointers.get(event.pointerId)];
    if (!before) {
      if (event.pointerType === "mouse") on.hover(plane.nearest(...now, 10), event.clientX, event.clientY);
      return;
    }
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) pinch(event.pointerId, now, before);
    else if (path) path.push(now);
    else plane.pan(now[0] - before[0], now[1] - before[1]);
    on.redraw();
  });

  function pinch(id, now, before) {
    const [other] = [...pointers].filter(([one]) => one !== id).map(([, place]) => place);
    const span = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
    plane.zoom(span(now) / Math.max(span(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    plane.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  }

  function lift(event) {
    pointers.delete(event.pointerId);
    const now = at(event);
    const hasMoved = !start || Math.hypot(now[0] - start[0], now[1] - start[1]) > STILL;
    const done = path;
    path = start = null;
    if (event.type === "pointerup" && done && hasMoved && done.length > 2) on.lasso(done);
    else if (event.type === "pointerup" && !hasMoved) on.pick(plane.nearest(...now, event.pointerType === "mouse" ? 10 : 24));
    on.redraw();
  }
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => on.hover(-1));
  canvas.addEventListener("dblclick", () => {
    plane.whole();
    on.redraw();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    plane.zoom(Math.exp(-event.deltaY / 400), ...at(event));
    on.redraw();
  }, { passive: false });

  const moves = {
    ArrowLeft: () => plane.pan(60, 0),
    ArrowRight: () => plane.pan(-60, 0),
    ArrowUp: () => plane.pan(0, 60),
    ArrowDown: () => plane.pan(0, -60),
    "+": () => plane.zoom(1.5),
    "=": () => plane.zoom(1.5),
    "-": () => plane.zoom(1 / 1.5),
    0: () => plane.whole(),
    Enter: () => on.pick(plane.nearest(plane.width / 2, plane.height / 2, Math.hypot(plane.width, plane.height) / 2)),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    moves[event.key]();
    on.redraw();
  });
  return { path: () => path };
}
