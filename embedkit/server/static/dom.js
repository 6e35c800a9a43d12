// Building elements; text is always text, so that no name of a file can become markup.
const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm9 16-4-4",
  image: "M4 5h16v14H4ZM8.5 10.5a1 1 0 1 0 0-2 1 1 0 0 0 0 2ZM4 17l5-5 4 4 3-3 4 4",
  camera: "M4 8h3l2-3h6l2 3h3v11H4ZM12 10a3.3 3.3 0 1 0 0 6.6 3.3 3.3 0 0 0 0-6.6Z",
  close: "M6 6l12 12M18 6 6 18",
  info: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM12 11v5.5M12 7.6v.4",
  filter: "M4 6h16M7 12h10M10 18h4",
  theme: "M12 3.5a8.5 8.5 0 1 0 0 17ZM12 3.5a8.5 8.5 0 0 1 0 17",
  help: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM9.6 9.6a2.4 2.4 0 1 1 3.6 2.1c-.8.5-1.2.9-1.2 1.9M12 16.4v.4",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
};

// The properties are attributes, but for `on…` (listeners), `text`, and the values of form fields.
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else if (name === "value" || name === "checked") made[name] = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function icon(name) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  made.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  made.append(path);
  return made;
}

export const byId = (id) => document.getElementById(id);
export const count = (number) => number.toLocaleString("en");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

// What can't be seen, or turns the direction of writing, is shown as an escape.
export const printable = (text) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);

// The nodes of a name that breaks into lines after its separators.
export const wrapped = (name) =>
  printable(name).split(/(?<=[/_.\-#])/).flatMap((part) => [part, document.createElement("wbr")]);

export function shownNumber(value) {
  if (Number.isInteger(value)) return Math.abs(value) < 10000 ? String(value) : count(value);
  return Math.abs(value) >= 1000 ? count(Math.round(value)) : String(Number(value.toPrecision(4)));
}

// Of a group without pairs there is none.
export const scoreText = (score) => (typeof score === "number" ? score.toFixed(3) : "none");

export function shownBytes(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const value = bytes / 1000 ** power;
  return `${power && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

// Tells what happened, to screen readers too.
let hiding;
export function tell(text, kind = "status") {
  const box = byId("toast");
  box.textContent = text;
  box.className = kind;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), kind === "alert" ? 9000 : 3500);
}

export async function copyText(text, box) {
  try {
    await navigator.clipboard.writeText(text);
    tell("Copied.");
  } catch {
    getSelection().selectAllChildren(box); // where the page may not write to the clipboard
    tell("Press Ctrl+C to copy the marked text.");
  }
}

// A command to copy; `text` may change later by the function that comes with it.
export function commandBox(label) {
  const code = h("code", { tabindex: "0" });
  const element = h(
    "div",
    { class: "command", role: "group", "aria-label": label },
    code,
    h("button", { type: "button", onclick: () => copyText(code.textContent, code) }, "Copy"),
  );
  return { element, set: (text) => (code.textContent = text) };
}

// One plain message in the place of content: loading, empty, or an error with a way out.
export function notice(title, text = "", ...actions) {
  return h("div", { class: "notice" }, h("b", {}, title), text && h("p", {}, text), h("div", { class: "actions" }, actions));
}

export function debounce(wait, action) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), wait);
  };
}
