// Filters by any column, as the command line writes them: `label=cat`, `width>=300`.
import { count, debounce, h, icon, printable, shownNumber } from "./dom.js";
import { go, state } from "./router.js";

const KEY = "embedkit-filters-open";
const PHONE = matchMedia("(max-width: 50rem)");
const FEW = 12; // values that are shown before "more" is asked for

// Measured of every image: they come after what people choose by most.
const MEASURED = new Set([
  "frames", "luminance", "luminance_std", "clipped_dark", "clipped_bright", "entropy", "sharpness", "colorfulness", "gray",
  "alpha", "bits", "captured", "camera",
]);

// A value is a pattern to the command line; so what stands for itself is put in brackets.
export const exactly = (column, value) => `${column}=${value.replace(/[[*?]/g, "[$&]")}`;
const containing = (column, text) => `${column}=*${text.replace(/[[*?]/g, "[$&]")}*`;
const plainText = (pattern) => pattern.replace(/\[([[*?])\]/g, "$1");

const without = (test) => state().getAll("filter").filter((one) => !test(one));
const apply = (filter) => go({ filter });

export function makeFilters(app) {
  const body = h("div", { class: "filter-columns" });
  const own = ownFilter();
  const close = h("button", { type: "button", class: "plain corner phone-only", "aria-label": "Close the filters", onclick: () => setOpen(false) }, icon("close"));
  const element = h("section", { class: "filters", "aria-label": "Filters" }, close, h("h2", {}, "Filters"), body, own);
  const number = h("span", { class: "number" });
  const toggle = h("button", { type: "button", class: "toggle", "aria-label": "Filters", onclick: () => setOpen(element.hidden) }, icon("filter"), h("span", {}, "Filters"), number);
  const chips = h("ul", { class: "chips", "aria-label": "Filters in use" });
  let [columns, parts] = [null, []];

  function setOpen(isOpen) {
    element.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
    if (!PHONE.matches) localStorage.setItem(KEY, String(isOpen));
  }
  setOpen(!PHONE.matches && localStorage.getItem(KEY) !== "false");

  async function show(query) {
    const filters = query.getAll("filter");
    number.textContent = filters.length ? String(filters.length) : "";
    chips.replaceChildren(...filters.map((filter) => chip(filter)));
    const now = await app.columns().catch(() => []);
    if (now !== columns) {
      columns = now;
      parts = columns.map((column) => [columnFilter(column), MEASURED.has(column.name)]);
      const measured = parts.filter(([, isMeasured]) => isMeasured).map(([part]) => part);
      const more = h("details", { class: "more-columns" }, h("summary", {}, "More columns"), h("div", {}, measured));
      body.replaceChildren(...parts.filter(([, isMeasured]) => !isMeasured).map(([part]) => part), ...(measured.length ? [more] : []));
    }
    for (const [part] of parts) part.update(state().getAll("filter"));
  }
  return { element, toggle, chips, show };
}

function chip(filter) {
  const name = printable(plainText(filter));
  return h("li", {}, h("button", { type: "button", "aria-label": `Remove the filter ${name}`, onclick: () => apply(without((one) => one === filter)) }, h("span", {}, name), icon("close")));
}

function ownFilter() {
  const input = h("input", { type: "text", id: "own-filter", placeholder: "width>=300", autocomplete: "off", spellcheck: "false" });
  const form = h("form", { class: "own" }, h("label", { for: "own-filter" }, "Any filter"), input);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    input.value = "";
    apply([...without((one) => one === text), text]);
  });
  return form;
}

function columnFilter(column) {
  const content = { number: numberFilter, category: valueFilter, text: textFilter }[column.kind](column);
  const dot = h("span", { class: "dot", hidden: true, title: "in use" });
  const isOpen = ["label", "path", "selection", "cluster"].includes(column.name);
  const element = h("details", { open: isOpen }, h("summary", {}, h("span", {}, column.name), dot), content);
  element.update = (filters) => {
    dot.hidden = !filters.some((one) => belongs(column, one));
    if (!dot.hidden) {
      element.open = true;
      element.closest(".more-columns")?.setAttribute("open", "");
    }
    content.update(filters);
  };
  return element;
}

const belongs = ({ name }, filter) => filter.startsWith(name) && /^\s*(!=|<=|>=|=|<|>|:)/.test(filter.slice(name.length));

function numberFilter(column) {
  const field = (operator, word, bound) => {
    const input = h("input", { type: "number", step: "any", "aria-label": `${column.name}: ${word}`, placeholder: bound === undefined || bound === null ? "" : shownNumber(bound) });
    const prefix = `${column.name}${operator}`;
    const set = debounce(400, () => {
      const others = without((one) => one.startsWith(prefix));
      apply(input.value === "" ? others : [...others, prefix + input.value]);
    });
    input.addEventListener("input", set);
    input.update = (filters) => {
      const found = filters.find((one) => one.startsWith(prefix));
      if (document.activeElement !== input) input.value = found ? found.slice(prefix.length) : "";
    };
    return input;
  };
  const [from, to] = [field(">=", "at least", column.min), field("<=", "at most", column.max)];
  const element = h("div", { class: "range" }, from, h("span", { "aria-hidden": "true" }, "to"), to);
  element.update = (filters) => [from, to].forEach((one) => one.update(filters));
  return element;
}

function valueFilter(column) {
  const list = h("ul", { class: "values" });
  const more = h("button", { type: "button", class: "plain", onclick: () => show(state().getAll("filter"), true) }, "Show more");
  const filterOf = (value) => (column.name === "selection" ? `selection:${value}` : exactly(column.name, String(value)));
  let isLong = false;
  function show(filters, isAll = isLong) {
    isLong = isAll;
    const shown = column.values.filter(({ value }, at) => isLong || at < FEW || filters.includes(filterOf(value)));
    more.hidden = shown.length === column.values.length;
    list.replaceChildren(...shown.map(({ value, count: images }) => {
      const filter = filterOf(value);
      const isOn = filters.includes(filter);
      const others = without((one) => belongs(column, one));
      return h("li", {}, h("button", { type: "button", "aria-pressed": String(isOn), onclick: () => apply(isOn ? others : [...others, filter]) },
        h("span", { class: "value" }, printable(String(value)) || "(empty)"), h("span", { class: "dim" }, images === undefined || images === null ? "" : count(images))));
    }));
  }
  const element = h("div", {}, list, more);
  element.update = show;
  return element;
}

function textFilter(column) {
  const input = h("input", { type: "text", "aria-label": `${column.name} contains`, placeholder: "contains…", autocomplete: "off", spellcheck: "false" });
  const set = debounce(400, () => {
    const others = without((one) => one.startsWith(`${column.name}=`));
    apply(input.value === "" ? others : [...others, containing(column.name, input.value)]);
  });
  input.addEventListener("input", set);
  const element = h("div", { class: "contains" }, input);
  element.update = (filters) => {
    if (document.activeElement === input) return;
    const found = filters.find((one) => one.startsWith(`${column.name}=*`) && one.endsWith("*"));
    input.value = found ? plainText(found.slice(column.name.length + 2, -1)) : "";
  };
  return element;
}
