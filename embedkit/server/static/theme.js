// Light or dark: as the system has it, until the reader chooses.
const KEY = "embedkit-theme";
const THEMES = ["system", "light", "dark"];
const root = document.documentElement;
const listeners = [];

export const onTheme = (listener) => listeners.push(listener);
export const theme = () => root.dataset.theme ?? "system";

export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  use(next);
  localStorage.setItem(KEY, next);
  return next;
}

function use(name) {
  if (name === "system" || !THEMES.includes(name)) delete root.dataset.theme;
  else root.dataset.theme = name;
  listeners.forEach((listener) => listener());
}

// A colour as the style sheet has it now, for what is drawn on a canvas.
export const color = (name) => {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

use(localStorage.getItem(KEY) ?? "system");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => listeners.forEach((listener) => listener()));
