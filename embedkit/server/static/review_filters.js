// Which groups are reviewed: by state, kind of edit, folder and score.
import { count, debounce, h, printable } from "./dom.js";
import { go, state } from "./router.js";

export function makeReviewFilters() {
  const choice = (name, label, options) => h("select", { "aria-label": label, onchange: (event) => go({ [name]: event.target.value }) }, options.map(([value, text]) => h("option", { value }, text)));
  const shown = choice("state", "State", [["", "to decide"], ["accepted", "accepted"], ["rejected", "rejected"], ["all", "all states"]]);
  const [kind, folder] = [choice("kind", "Kind of edit", [["", "all kinds"]]), choice("folder", "Folder", [["", "all folders"]])];
  const bound = (name, label) => h("input", { type: "number", min: "0", max: "1", step: "0.01", placeholder: label, "aria-label": `Score ${label}`, oninput: debounce(400, (event) => go({ [name]: event.target.value })) });
  const [low, high] = [bound("min_score", "from"), bound("max_score", "to")];
  const element = h("div", { class: "review-filters" }, shown, kind, folder, h("span", { class: "range" }, h("span", {}, "score"), low, high));
  const fillOne = (select, values) => {
    const before = select.value || state().get(select === kind ? "kind" : "folder") || "";
    select.replaceChildren(select.options[0], ...values.map(({ value, count: groups }) => h("option", { value }, `${printable(value) || "."} (${count(groups)})`)));
    select.value = before;
    select.hidden = values.length < 2 && !before;
  };
  return {
    element,
    fill({ kinds, folders }) {
      fillOne(kind, kinds);
      fillOne(folder, folders);
    },
    read(query) {
      const values = Object.fromEntries(["kind", "folder", "min_score", "max_score"].map((name) => [name, query.get(name)]));
      shown.value = query.get("state") ?? "";
      kind.value = values.kind ?? "";
      folder.value = values.folder ?? "";
      if (document.activeElement !== low) low.value = values.min_score ?? "";
      if (document.activeElement !== high) high.value = values.max_score ?? "";
      return { ...values, state: query.get("state") ?? "pending" };
    },
  };
}
