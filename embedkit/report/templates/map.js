"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("map");
const tip = document.getElementById("tip");
const pen = canvas.getContext("2d");
const count = data.x.length;
let view = { scale: 1, x: 0.5, y: 0.5 };
let shown = null;
let dragged = null;

function fit() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw();
}

function side() {
  return 0.95 * view.scale * Math.min(canvas.clientWidth, canvas.clientHeight);
}

function place(i) {
  return [
    canvas.clientWidth / 2 + (data.x[i] - view.x) * side(),
    canvas.clientHeight / 2 - (data.y[i] - view.y) * side(),
  ];
}

function draw() {
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const radius = Math.min(6, Math.max(2, 60 / Math.sqrt(count + 1))) * Math.sqrt(view.scale);
  for (let i = 0; i < count; i++) {
    const group = data.group[i];
    pen.globalAlpha = shown === null || shown === group ? 0.85 : 0.06;
    pen.fillStyle = data.colors.at(group);
    const [x, y] = place(i);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

function nearest(x, y) {
  let best = -1;
  let least = 144;
  for (let i = 0; i < count; i++) {
    if (shown !== null && shown !== data.group[i]) continue;
    const [px, py] = place(i);
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function tell(i, event) {
  tip.replaceChildren();
  tip.style.display = i < 0 ? "none" : "block";
  if (i < 0) return;
  if (data.picture[i]) {
    const image = document.createElement("img");
    image.src = data.picture[i];
    image.alt = "";
    tip.append(image);
  }
  const word = document.createElement("b");
  word.textContent = data.word[i];
  tip.append(word, data.name[i]);
  const right = event.clientX > window.innerWidth / 2;
  tip.style.left = right ? "" : `${event.clientX + 16}px`;
  tip.style.right = right ? `${window.innerWidth - event.clientX + 16}px` : "";
  tip.style.top = `${Math.min(event.clientY, window.innerHeight - tip.offsetHeight - 8)}px`;
}

canvas.addEventListener("pointerdown", (event) => {
  dragged = event;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointerup", () => (dragged = null));
canvas.addEventListener("pointerleave", () => tell(-1));
canvas.addEventListener("pointermove", (event) => {
  if (dragged) {
    view.x -= (event.clientX - dragged.clientX) / side();
    view.y += (event.clientY - dragged.clientY) / side();
    dragged = event;
    tell(-1);
    draw();
    return;
  }
  const box = canvas.getBoundingClientRect();
  tell(nearest(event.clientX - box.left, event.clientY - box.top), event);
});
canvas.addEventListener("dblclick", () => {
  view = { scale: 1, x: 0.5, y: 0.5 };
  draw();
});
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left - canvas.clientWidth / 2;
    const y = event.clientY - box.top - canvas.clientHeight / 2;
    const before = side();
    view.scale = Math.min(200, Math.max(0.5, view.scale * Math.exp(-event.deltaY / 500)));
    view.x += x / before - x / side();
    view.y -= y / before - y / side();
    draw();
  },
  { passive: false },
);
for (const button of document.querySelectorAll("button[data-group]")) {
  button.addEventListener("click", () => {
    const group = Number(button.dataset.group);
    shown = shown === group ? null : group;
    for (const other of document.querySelectorAll("button[data-group]")) {
      other.setAttribute("aria-pressed", String(Number(other.dataset.group) === shown));
    }
    draw();
  });
}
window.addEventListener("resize", fit);
fit();
