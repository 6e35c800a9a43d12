// Boxes over the page: Escape, the cross and a click beside the box close them.
import { h, icon } from "./dom.js";

let made = 0;

// `isRequired` leaves no way to close it but its own buttons.
export function openDialog(title, content, { isRequired = false, className = "" } = {}) {
  const id = `dialog-${++made}`;
  const close = h("button", { type: "button", class: "plain corner", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"));
  const dialog = h(
    "dialog",
    { "aria-labelledby": id, class: className },
    h("div", { class: "box" }, h("h2", { id }, title), content, !isRequired && close),
  );
  dialog.addEventListener("cancel", (event) => isRequired && event.preventDefault());
  dialog.addEventListener("click", (event) => event.target === dialog && !isRequired && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
