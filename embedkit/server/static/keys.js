// Keys of the whole page, and the sheet that lists them with those of the view.
import { openDialog } from "./dialog.js";
import { byId, h } from "./dom.js";
import { go, state } from "./router.js";

const EVERYWHERE = [
  ["/", "Type a search"],
  ["Arrow keys", "Move between images"],
  ["Enter", "Show images similar to this one"],
  ["i", "Details of this image"],
  ["Esc", "Close, or leave a field"],
  ["?", "This list"],
];
const isTyping = (target) => target.matches?.("input:not([type=checkbox], [type=range], [type=radio]), textarea, select");

export function startKeys(viewNow) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") escape(event, viewNow());
    else if (isTyping(event.target)) return;
    else if (event.key === "/") {
      event.preventDefault();
      byId("words").focus();
      byId("words").select();
    } else if (event.key === "?") showHelp(viewNow());
    else if (viewNow()?.onKey?.(event)) event.preventDefault();
    else if (event.key.startsWith("Arrow") && document.activeElement === document.body) {
      event.preventDefault();
      viewNow()?.focus?.();
    }
  });
}

function escape(event, view) {
  if (isTyping(event.target)) event.target.blur();
  else if (view?.onEscape?.()) event.preventDefault();
  else if (state().get("item")) go({ item: null });
}

export function showHelp(view) {
  const lists = [["Everywhere", EVERYWHERE], ...(view?.keys ? [[view.keysTitle, view.keys]] : [])];
  const section = ([title, keys]) =>
    h("section", {}, h("h3", {}, title), h("dl", {}, keys.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]).flat()));
  const content = h(
    "div",
    {},
    h("div", { class: "columns" }, lists.map(section)),
    h("p", { class: "note" }, "To search by an image: drop it anywhere, paste it with Ctrl+V, or use the buttons in the search field."),
  );
  openDialog("Keys", content, { className: "help" });
}
