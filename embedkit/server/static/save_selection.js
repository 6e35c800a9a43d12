// Names a set of images, so that every command can use it as a filter.
import { post } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, plural, tell } from "./dom.js";

// `given` is {filter}, {rows} or {ids: async () => …}; gives the name, or null.
export async function saveSelection(app, given) {
  const name = await askName();
  if (name === null) return null;
  try {
    const body = given.ids ? { ids: await given.ids() } : given;
    const made = await post("/v1/selections", { name, ...body });
    app.forgetColumns();
    tell(`Saved ${plural(made.size, "image")} as “${name}”.`);
    return name;
  } catch (error) {
    tell(error.message, "alert");
    return null;
  }
}

function askName() {
  const name = h("input", { type: "text", id: "selection-name", required: true, maxlength: "80", pattern: "[A-Za-z0-9_\\-]+", title: "Letters, digits, - and _", autocomplete: "off" });
  const form = h(
    "form",
    { method: "dialog" },
    h("p", {}, "Every command takes it as ", h("code", {}, "--filter selection:NAME"), ". It is listed under Selections."),
    h("label", { for: "selection-name" }, "Name (letters, digits, - and _)"),
    name,
    h("div", { class: "actions" }, h("button", { type: "submit", class: "main" }, "Save")),
  );
  const dialog = openDialog("Save as a selection", form);
  name.focus();
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", () => (answer = name.value));
    dialog.addEventListener("close", () => resolve(answer));
  });
}
