// Clusters, quality problems, outliers and label doubts: lists of images, each with its value.
import { get, thumbnail } from "./api.js";
import { count, h, notice, plural, printable, shownNumber } from "./dom.js";
import { exactly } from "./filters.js";
import { Grid } from "./grid.js";
import { keepScroll, keptScroll, linkTo, state } from "./router.js";
import { saveSelection } from "./save_selection.js";

const MOST_SAVED = 10000; // images of a list that become a selection at once

function makeList(app, { title, note, path, empty }) {
  const message = h("div", { class: "message", hidden: true });
  const facts = h("span", { class: "dim" });
  const [heading, text] = [h("h1", {}, title), h("p", { class: "note" }, note)];
  const grid = new Grid({
    label: title,
    load: async (offset, limit, signal) => {
      const { total, items } = await get(path(), { offset, limit }, signal);
      return { total, tiles: items.map(({ item, value, reason }) => ({ item, caption: shownValue(value), note: reason })) };
    },
    onOpen: app.similar,
    onDetails: app.details,
    onLoaded: (total) => {
      facts.textContent = plural(total, "image");
      message.hidden = total > 0;
      if (!total) message.replaceChildren(notice(empty));
    },
    onError: (error) => {
      message.hidden = false;
      message.replaceChildren(notice("The list could not be loaded.", error.message, h("button", { type: "button", onclick: () => view.reload() }, "Try again")));
    },
  });
  const save = h("button", { type: "button", onclick: () => saveSelection(app, { ids: allIds }) }, "Save as selection");
  const extra = h("div", { class: "extra" });
  const element = h(
    "section",
    { class: "results list", "aria-label": title },
    h("div", { class: "results-head" }, h("div", { class: "what" }, heading, facts), save),
    text,
    extra,
    message,
    grid.element,
  );
  async function allIds() {
    const ids = [];
    for (let offset = 0; offset < Math.min(grid.total, MOST_SAVED); offset += 500) {
      const { items } = await get(path(), { offset, limit: 500 });
      ids.push(...items.map(({ item }) => item.id));
      if (!items.length) break;
    }
    return ids;
  }
  let key = null;
  const view = {
    element,
    extra,
    text,
    grid,
    show(query, how) {
      if (path() === key) return;
      key = path();
      view.reload(how);
    },
    reload(how) {
      message.hidden = true;
      facts.textContent = "";
      grid.show({ scroll: how === "pop" ? keptScroll() : 0 });
    },
    leave: () => keepScroll(grid.element.scrollTop),
    focus: () => grid.focus(),
  };
  return view;
}

const shownValue = (value) => (typeof value === "number" ? shownNumber(value) : value === null || value === undefined ? "" : printable(String(value)));

export const makeOutliers = (app) =>
  makeList(app, {
    title: "Outliers",
    note: "Images that are far from all others, the farthest first. Broken, rare or misplaced images are often among them.",
    path: () => "/v1/outliers",
    empty: "There are no outliers.",
  });

export const makeLabels = (app) =>
  makeList(app, {
    title: "Label doubts",
    note: "Images whose neighbours have another label, the most doubtful first. Hover over an image, or open its details, for the reason.",
    path: () => "/v1/labels/doubts",
    empty: "No label is in doubt.",
  });

export function makeQuality(app) {
  let problems = null;
  const chosen = () => state().get("problem") ?? problems?.find((one) => one.count)?.name ?? problems?.[0]?.name;
  const view = makeList(app, {
    title: "Quality",
    note: "Images with a technical problem, the worst first.",
    path: () => `/v1/quality/${encodeURIComponent(chosen())}`,
    empty: "No image has this problem.",
  });
  const { show } = view;
  view.show = async (query, how) => {
    try {
      problems ??= (await get("/v1/quality")).problems;
    } catch (error) {
      view.extra.replaceChildren(notice("The quality lists could not be loaded.", error.message));
      return;
    }
    view.extra.replaceChildren(
      h("nav", { class: "choices", "aria-label": "Problems" }, problems.map(({ name, title, count: images }) =>
        h("a", { href: linkTo({ problem: name }, false), "data-go": true, "aria-current": name === chosen() ? "true" : null },
          title, h("span", { class: "dim" }, ` ${count(images)}`)))),
    );
    show(query, how);
  };
  return view;
}

export function makeClusters(app) {
  const list = h("div", { class: "clusters" });
  const element = h("section", { class: "results list scroll", "aria-label": "Clusters" },
    h("div", { class: "results-head" }, h("div", { class: "what" }, h("h1", {}, "Clusters"))), list);
  const card = ({ cluster, size, name, examples }) =>
    h("a", { class: "cluster", href: linkTo({ index: state().get("index"), filter: [exactly("cluster", String(cluster))] }), "data-go": true },
      h("span", { class: "mosaic" }, examples.slice(0, 8).map((item) => item.has_image ? h("img", { src: thumbnail(item.id, 128), alt: "", loading: "lazy", decoding: "async" }) : h("span", { class: "blank" }))),
      h("b", {}, `Cluster ${cluster}${name && `: ${printable(name)}`}`),
      h("span", { class: "dim" }, plural(size, "image")));
  return {
    element,
    async show() {
      if (list.childElementCount && !list.querySelector(".notice")) return;
      list.replaceChildren(notice("Loading…"));
      try {
        const { clusters } = await get("/v1/clusters");
        list.replaceChildren(...(clusters.length ? clusters.map(card) : [notice("There are no clusters.", "`embedkit cluster STORE --write` makes them.")]));
      } catch (error) {
        list.replaceChildren(notice("The clusters could not be loaded.", error.message));
      }
    },
  };
}
