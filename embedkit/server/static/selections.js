// Named sets of images: shown, exported, used by commands, deleted.
import { download, get, remove } from "./api.js";
import { copyText, h, notice, plural, printable, tell } from "./dom.js";
import { openDialog } from "./dialog.js";
import { linkTo, state } from "./router.js";

const FORMATS = [["ids", "Ids"], ["csv", "CSV"], ["parquet", "Parquet"]];

export function makeSelections(app) {
  const list = h("div", { class: "selections" });
  const element = h("section", { class: "results list scroll", "aria-label": "Selections" },
    h("div", { class: "results-head" }, h("div", { class: "what" }, h("h1", {}, "Selections"))), list);
  const pathOf = (name) => `/v1/selections/${encodeURIComponent(name)}`;

  async function load() {
    try {
      const { selections } = await get("/v1/selections");
      list.replaceChildren(...(selections.length
        ? [table(selections)]
        : [notice("There are no selections yet.", "Save a search, a filter or a lasso on the map under a name; then it is listed here.")]));
    } catch (error) {
      list.replaceChildren(notice("The selections could not be loaded.", error.message, h("button", { type: "button", onclick: load }, "Try again")));
    }
  }

  function table(selections) {
    const head = h("tr", {}, ["Name", "Images", "Saved", "For commands", "Download", ""].map((text) => h("th", { scope: "col" }, text || h("span", { class: "unseen" }, "Delete"))));
    return h("div", { class: "scroll-x" }, h("table", {}, h("thead", {}, head), h("tbody", {}, selections.map(row))));
  }

  function row({ name, size, created }) {
    const filter = `selection:${name}`;
    const code = h("code", {}, `--filter ${filter}`);
    return h("tr", {},
      h("th", { scope: "row" }, h("a", { href: linkTo({ index: state().get("index"), filter: [filter] }), "data-go": true }, printable(name))),
      h("td", {}, plural(size, "image")),
      h("td", {}, new Date(created).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })),
      h("td", {}, h("span", { class: "inline-command" }, code, h("button", { type: "button", class: "plain", onclick: () => copyText(code.textContent, code) }, "Copy"))),
      h("td", {}, h("span", { class: "actions" }, FORMATS.map(([format, title]) =>
        h("a", { class: "button", href: download(pathOf(name), { format }), download: true, "aria-label": `Download ${printable(name)} as ${title}` }, title)))),
      h("td", {}, h("button", { type: "button", class: "plain", "aria-label": `Delete the selection ${printable(name)}`, onclick: () => confirmDeletion(name) }, "Delete")));
  }

  function confirmDeletion(name) {
    const button = h("button", { type: "button", class: "main danger", onclick: async () => {
      dialog.close();
      try {
        await remove(pathOf(name));
        app.forgetColumns();
        tell(`Deleted “${name}”. The images are as they were.`);
      } catch (error) {
        tell(error.message, "alert");
      }
      load();
    } }, "Delete");
    const dialog = openDialog(`Delete “${printable(name)}”?`, h("div", {}, h("p", {}, "The list is deleted; no image is touched."), h("div", { class: "actions" }, button)));
  }

  return { element, show: load };
}
