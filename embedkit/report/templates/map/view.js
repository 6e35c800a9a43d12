"use strict";
// What is seen: the data, the part of the plane on the canvas, and which images are picked out.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const canvas = byId("map");
const count = data.x.length;
const chosen = new Uint8Array(count); // by search or lasso
const state = { scale: 1, x: 0.5, y: 0.5, group: null, lasso: null, chosen: 0, pinned: -1 };

const side = () => 0.92 * state.scale * Math.min(canvas.clientWidth, canvas.clientHeight);
const toX = (x) => canvas.clientWidth / 2 + (x - state.x) * side();
const toY = (y) => canvas.clientHeight / 2 - (y - state.y) * side();
const isShown = (i) => state.group === null || state.group === data.group[i];
const isClear = (i) => isShown(i) && (state.chosen === 0 || chosen[i] === 1);

// The nodes of a name that breaks into lines after its separators.
const wrapped = (name) =>
  name.split(/(?<=[/_.\-#])/).flatMap((part) => [part, document.createElement("wbr")]);

let isAsked = false;
function ask() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const before = side();
  state.scale = Math.min(400, Math.max(0.5, state.scale * factor));
  state.x += (x - canvas.clientWidth / 2) * (1 / before - 1 / side());
  state.y -= (y - canvas.clientHeight / 2) * (1 / before - 1 / side());
  ask();
}

function pan(dx, dy) {
  state.x -= dx / side();
  state.y += dy / side();
  ask();
}

function whole() {
  Object.assign(state, { scale: 1, x: 0.5, y: 0.5 });
  ask();
}

function choose(isChosen) {
  state.chosen = 0;
  for (let i = 0; i < count; i++) {
    chosen[i] = isChosen(i) ? 1 : 0;
    state.chosen += chosen[i];
  }
  tellChosen();
  ask();
}

function nearest(x, y, reach) {
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < count; i++) {
    if (!isShown(i)) continue;
    const distance = (toX(data.x[i]) - x) ** 2 + (toY(data.y[i]) - y) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

