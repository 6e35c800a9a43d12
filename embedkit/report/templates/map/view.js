"use strict";
// What is seen: the data, the part of the plane on the canvas, and which images are picked out.
const data = unpacked(JSON.parse(document.getElementById("data").textContent));
const byId = (id) => document.getElementById(id);
const canvas = byId("map");
const count = data.x.length;
const chosen = new Uint8Array(count); // by search or lasso
const MOST_MARKS = 20000; // more points in view are drawn as a density
let choices = 0; // how often the selection has changed
const state = { scale: 1, x: 0.5, y: 0.5, group: null, lasso: null, chosen: 0, pinned: -1 };

const side = () => 0.92 * state.scale * Math.min(canvas.clientWidth, canvas.clientHeight);
const toX = (x) => canvas.clientWidth / 2 + (x - state.x) * side();
const toY = (y) => canvas.clientHeight / 2 - (y - state.y) * side();
const isShown = (i) => state.group === null || state.group === data.group[i];
const isClear = (i) => isShown(i) && (state.chosen === 0 || chosen[i] === 1);

// Many points come as packed numbers, and ids without what they share with the one before.
function unpacked({ packed, ...given }) {
  if (!packed) return given;
  const places = new Uint16Array(bytesOf(packed.places).buffer);
  const total = places.length / 2;
  const numbers = bytesOf(packed.group);
  const group = numbers.length === 2 * total ? new Int16Array(numbers.buffer) : new Int32Array(numbers.buffer);
  const sparse = (k) => Object.fromEntries(packed.pictures.map((one) => [one[0], one[k]]));
  return {
    ...given,
    places,
    group,
    x: Float32Array.from({ length: total }, (_, i) => places[2 * i] / 65535),
    y: Float32Array.from({ length: total }, (_, i) => places[2 * i + 1] / 65535),
    name: namesOf(packed.ids),
    word: Array.from(group, (number) => given.names[number] ?? ""),
    picture: sparse(1),
    link: sparse(2),
    facts: sparse(3),
  };
}

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function namesOf(text) {
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  let name = "";
  return text.split("\n").map((line) => (name = name.slice(0, digits.indexOf(line[0])) + line.slice(1)));
}

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
  choices++;
  for (let i = 0; i < count; i++) {
    chosen[i] = isChosen(i) ? 1 : 0;
    state.chosen += chosen[i];
  }
  tellChosen();
  ask();
}

function nearest(x, y, reach) {
  let best = -1;
  const [factor, left, top] = [side(), toX(0), toY(0)];
  let least = reach * reach;
  for (let i = 0; i < count; i++) {
    if (!isShown(i)) continue;
    const distance = (left + data.x[i] * factor - x) ** 2 + (top - data.y[i] * factor - y) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

