// One image: large, with its columns and the command that searches by it.
import { get, original, thumbnail } from "./api.js";
import { openDialog } from "./dialog.js";
import { byId, commandBox, h, icon, notice, printable, shownBytes, shownNumber, wrapped } from "./dom.js";
import { go } from "./router.js";

const MOST_LETTERS = 400;

export function makeDetails(app) {
  const panel = byId("details");
  let id = null;
  let origin = null; // what had the focus

  async function show(query) {
    const next = query.get("item") || null;
    if (next === id) return;
    id = next;
    if (id === null) {
      panel.hidden = true;
      panel.replaceChildren();
      if (origin?.isConnected) origin.focus({ preventScroll: true });
      return;
    }
    if (panel.hidden) origin = document.activeElement;
    panel.hidden = false;
    const close = h("button", { type: "button", class: "plain corner", "aria-label": "Close the details", onclick: () => go({ item: null }) }, icon("close"));
    panel.replaceChildren(close, notice("Loading…"));
    try {
      const answer = await get(`/v1/items/${encodeURIComponent(id)}`);
      if (answer.item.id === id || id === next) panel.replaceChildren(close, ...content(answer));
    } catch (error) {
      panel.replaceChildren(close, notice("This image could not be loaded.", error.message));
    }
    if (matchMedia("(max-width: 50rem)").matches) close.focus();
  }

  function content({ item, columns, command }) {
    const box = commandBox("The command that searches by this image");
    box.set(command);
    const picture = item.has_image
      ? h("button", { type: "button", class: "picture", "aria-label": "Show the original image", onclick: () => showOriginal(item) },
          h("img", { src: thumbnail(item.id, 512), alt: "", width: item.width, height: item.height }))
      : h("p", { class: "blank" }, "The image file is not at hand.");
    return [
      picture,
      h("h2", {}, wrapped(item.name)),
      h("div", { class: "actions" },
        h("button", { type: "button", class: "main", onclick: () => app.similar(item) }, "Find similar"),
        item.has_image && h("a", { class: "button", href: original(item.id), target: "_blank", rel: "noopener" }, "Open original")),
      h("dl", {}, rows(item, columns)),
      h("h3", {}, "Command"),
      box.element,
    ];
  }
  return { show };
}

function rows(item, columns) {
  const known = item.width ? [["size", `${item.width} × ${item.height}`]] : [];
  const others = Object.entries(columns).filter(([name]) => !["width", "height"].includes(name) || !item.width);
  return [...known, ...others].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, valueText(name, value))]);
}

function valueText(name, value) {
  if (value === null || value === undefined || value === "") return "none";
  if (name === "nbytes") return shownBytes(value);
  if (typeof value === "number") return shownNumber(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  const text = printable(typeof value === "string" ? value : JSON.stringify(value));
  return text.length > MOST_LETTERS ? `${text.slice(0, MOST_LETTERS)}…` : text;
}

function showOriginal(item) {
  const image = h("img", { src: original(item.id), alt: `Original of ${printable(item.name)}` });
  image.addEventListener("error", () => image.replaceWith(notice("The original could not be shown.", "The file may have been moved, or the browser can't show it.")));
  openDialog(printable(item.name), image, { className: "original" });
}
