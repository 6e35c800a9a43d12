// The colour of each point by a column, and the legend that says what the colours mean.
import { shownNumber } from "./dom.js";

// As embedkit.report.group_marks has them; each is seen on both page colours.
export const HUES = [
  "#3b7dd8", "#e8811a", "#2fa14a", "#d9413f", "#8e5cc9", "#12a3a0", "#e05fa8", "#9a6240", "#9a9a1e", "#4bb3e6", "#b5278e", "#7cb518",
];
const OTHER = "#9aa0a6";
const RAMP = ["#4b3b9c", "#3b7dd8", "#12a3a0", "#7cb518", "#e8b11a"];
const STEPS = 5; // of a number's legend

const rgb = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));

export const plain = (total) => ({ group: new Uint16Array(total), hues: [HUES[0]], names: [] });

// Gives {group: a number per row, hues: a colour per group, names: [{name, group, count}]}.
export function byColumn({ kind, values, categories, codes }) {
  return kind === "number" ? byNumber(values) : byCategory(categories, codes);
}

function byCategory(categories, codes) {
  const counts = new Uint32Array(categories.length);
  for (const code of codes) if (code >= 0) counts[code]++;
  const order = [...counts.keys()].sort((a, b) => counts[b] - counts[a]).slice(0, HUES.length);
  const groupOf = new Uint16Array(categories.length).fill(HUES.length);
  order.forEach((code, group) => (groupOf[code] = group));
  const group = Uint16Array.from(codes, (code) => (code < 0 ? HUES.length : groupOf[code]));
  const names = order.map((code, at) => ({ name: categories[code] || "(empty)", group: at, count: counts[code] }));
  const rest = group.reduce((sum, one) => sum + (one === HUES.length), 0);
  if (rest) names.push({ name: "other", group: HUES.length, count: rest });
  return { group, hues: [...HUES, OTHER], names, isNamed: true };
}

// Steps of equal counts, so that a few extreme values don't leave one colour to all others.
function byNumber(values) {
  const known = Float64Array.from(values.filter((value) => value !== null && Number.isFinite(value))).sort();
  const bounds = Array.from({ length: STEPS - 1 }, (_, k) => known[Math.floor(((k + 1) * known.length) / STEPS)]);
  const counts = new Uint32Array(STEPS + 1);
  const group = Uint16Array.from(values, (value) => {
    const step = value === null || !Number.isFinite(value) ? STEPS : bounds.filter((bound) => value >= bound).length;
    counts[step]++;
    return step;
  });
  const edge = (k) => shownNumber(k === 0 ? known[0] : bounds[k - 1]);
  const names = RAMP.map((_, k) => ({ name: k === STEPS - 1 ? `${edge(k)} to ${shownNumber(known.at(-1))}` : `${edge(k)} to ${edge(k + 1)}`, group: k, count: counts[k] }));
  if (counts[STEPS]) names.push({ name: "not known", group: STEPS, count: counts[STEPS] });
  return { group, hues: [...RAMP, OTHER], names: names.filter((one) => one.count) };
}

// Four bytes per point in drawing order; those that are not chosen are faint.
export function colorBytes({ group, hues }, rowAt, chosen, hasChosen) {
  const colors = hues.map(rgb);
  const bytes = new Uint8Array(4 * group.length);
  for (let k = 0; k < group.length; k++) {
    const row = rowAt(k);
    const color = colors[group[row]];
    bytes[4 * k] = color[0];
    bytes[4 * k + 1] = color[1];
    bytes[4 * k + 2] = color[2];
    bytes[4 * k + 3] = !hasChosen || chosen[row] ? 255 : 16;
  }
  return bytes;
}

// Where a group's name is written: the place where most of its points lie.
export function namePlaces({ group, names }, places) {
  const cells = 24;
  const size = names.reduce((most, one) => Math.max(most, one.group), 0) + 1;
  const counts = new Uint32Array(size * cells * cells);
  const cell = (value) => Math.min(cells - 1, Math.floor(value * cells));
  for (let row = 0; row < group.length; row++) {
    counts[(group[row] * cells + cell(places[2 * row + 1])) * cells + cell(places[2 * row])]++;
  }
  return names.map(({ name, group: number }) => {
    const part = counts.subarray(number * cells * cells, (number + 1) * cells * cells);
    let best = 0;
    for (let k = 1; k < part.length; k++) if (part[k] > part[best]) best = k;
    return { name: String(name), x: ((best % cells) + 0.5) / cells, y: (Math.floor(best / cells) + 0.5) / cells };
  });
}
