// Pointers and keys: move, zoom, pinch, lasso, and the card of one image.
const tip = byId("tip");
const pointers = new Map();
let start = null;

const inCanvas = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

function show(i, x, y) {
  tip.replaceChildren();
  tip.hidden = i < 0;
  if (i < 0) return;
  if (data.picture[i]) {
    const image = document.createElement("img");
    image.src = data.picture[i];
    image.alt = data.name[i];
    const link = document.createElement(data.link[i] ? "a" : "span");
    if (data.link[i]) Object.assign(link, { href: data.link[i], target: "_blank" });
    link.append(image);
    tip.append(link);
  }
  const word = document.createElement("b");
  word.textContent = data.word[i];
  const facts = document.createElement("span");
  facts.textContent = data.facts[i] ?? "";
  tip.append(word, ...wrapped(data.name[i]), facts);
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const left = x + 16 + width > window.innerWidth ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(y, window.innerHeight - height - 4))}px`;
}

function pin(i, x, y) {
  state.pinned = i;
  tip.classList.toggle("pinned", i >= 0);
  show(i, x, y);
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, inCanvas(event));
  const isLasso = byId("lasso").getAttribute("aria-pressed") === "true" || event.shiftKey;
  if (pointers.size > 1) {
    start = state.lasso = null; // a pinch
  } else {
    start = { point: inCanvas(event), isLasso };
    if (isLasso) state.lasso = [inCanvas(event)];
  }
});

canvas.addEventListener("pointermove", (event) => {
  const now = inCanvas(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    if (event.pointerType === "mouse" && state.pinned < 0) {
      show(nearest(...now, 12), event.clientX, event.clientY);
    }
    return;
  }
  pointers.set(event.pointerId, now);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const span = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
    zoom(span(now) / Math.max(span(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  } else if (state.lasso) {
    state.lasso.push(now);
    ask();
  } else if (pointers.size === 1) {
    pan(now[0] - before[0], now[1] - before[1]);
    if (start && Math.hypot(now[0] - start.point[0], now[1] - start.point[1]) > 5) pin(-1);
  }
});

function lift(event) {
  pointers.delete(event.pointerId);
  const now = inCanvas(event);
  const hasMoved = !start || Math.hypot(now[0] - start.point[0], now[1] - start.point[1]) > 5;
  if (state.lasso && hasMoved) closeLasso();
  state.lasso = null;
  if (!hasMoved && event.type === "pointerup") {
    const reach = event.pointerType === "mouse" ? 12 : 28;
    pin(nearest(...now, reach), event.clientX, event.clientY);
  }
  start = null;
  ask();
}

canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => state.pinned < 0 && show(-1));
canvas.addEventListener("dblclick", whole);
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 500), ...inCanvas(event));
  },
  { passive: false },
);

const keys = {
  ArrowLeft: () => pan(60, 0),
  ArrowRight: () => pan(-60, 0),
  ArrowUp: () => pan(0, 60),
  ArrowDown: () => pan(0, -60),
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  0: whole,
  Enter: () => {
    const [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const box = canvas.getBoundingClientRect();
    pin(nearest(x, y, Infinity), box.left + x, box.top + y);
  },
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    pin(-1);
    clearChosen();
  }
});

const setLasso = (isOn) => {
  byId("move").setAttribute("aria-pressed", String(!isOn));
  byId("lasso").setAttribute("aria-pressed", String(isOn));
};
byId("move").addEventListener("click", () => setLasso(false));
byId("lasso").addEventListener("click", () => setLasso(true));
byId("in").addEventListener("click", () => zoom(1.6));
byId("out").addEventListener("click", () => zoom(1 / 1.6));
byId("whole").addEventListener("click", whole);
byId("names").addEventListener("change", ask);
byId("pictures").addEventListener("change", ask);
byId("search").addEventListener("input", search);
byId("search").addEventListener("keydown", (event) => event.key === "Enter" && nextFound());
byId("copy").addEventListener("click", copyIds);
byId("csv").addEventListener("click", downloadCsv);
byId("clear").addEventListener("click", clearChosen);
for (const button of document.querySelectorAll("button[data-group]")) {
  button.addEventListener("click", () => {
    const group = Number(button.dataset.group);
    state.group = state.group === group ? null : group;
    for (const other of document.querySelectorAll("button[data-group]")) {
      other.setAttribute("aria-pressed", String(Number(other.dataset.group) === state.group));
    }
    ask();
  });
}
window.addEventListener("resize", fit);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
fit();
