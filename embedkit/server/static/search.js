// The search view: what is searched for, how close results must be, filters, and the grid.
import { get, post, thumbnail } from "./api.js";
import { byId, commandBox, debounce, h, icon, notice, plural, printable, scoreText } from "./dom.js";
import { makeFilters } from "./filters.js";
import { Grid } from "./grid.js";
import { previewOf, takeFirstPage, tokenOf } from "./query.js";
import { go, keepScroll, keptScroll, state } from "./router.js";
import { saveSelection } from "./save_selection.js";

const MOST_SHOWN = 10000; // results of one search
const SAVED_AT_ONCE = 1000; // images per request

export function makeSearch(app) {
  const grid = new Grid({
    label: "Images",
    load: (offset, limit, signal) => loadPage(offset, limit, signal),
    onOpen: app.similar,
    onDetails: app.details,
    onLoaded: tellCount,
    onError: (error) => showNotice("The images could not be loaded.", error.message, h("button", { type: "button", onclick: () => run("push", true) }, "Try again")),
  });
  const filters = makeFilters(app);
  const [head, message] = [h("div", { class: "results-head" }), h("div", { class: "message", hidden: true })];
  const command = commandBox("The command that gives this result");
  const more = h("details", { class: "how" }, h("summary", {}, "Command"), command.element);
  const title = h("h1", {});
  const facts = h("span", { class: "dim" });
  const threshold = makeThreshold();
  const sorting = makeSorting(app);
  const chips = filters.chips;
  const results = h("section", { class: "results", "aria-label": "Results" }, head, message, grid.element);
  const element = h("div", { class: "search" }, filters.element, results);
  let [key, answer, query] = ["", null, state()];
  let scrollKey = "";

  grid.element.addEventListener("scroll", debounce(120, () => location.search === scrollKey && keepScroll(grid.element.scrollTop)), { passive: true });

  function options() {
    return { filter: query.getAll("filter"), min_score: query.get("q") ? query.get("min") : null };
  }

  async function loadPage(offset, limit, signal) {
    const q = query.get("q");
    if (!q) {
      const found = await get("/v1/items", { filter: query.getAll("filter"), name: query.get("name"), sort: query.get("sort"), order: query.get("order"), offset, limit }, signal);
      return { total: found.total, tiles: found.items.map((item) => ({ item })) };
    }
    const size = Math.min(limit, MOST_SHOWN - offset);
    return found(await post("/v1/search", bodyOf(q), { ...options(), k: size, offset }, signal), offset === 0);
  }

  function found(given, isFirst = true) {
    answer = given;
    if (isFirst) command.set(given.command);
    return {
      total: Math.min(given.total, MOST_SHOWN),
      tiles: given.results.map(({ item, score }) => ({ item, caption: scoreText(score) })),
    };
  }

  function showNotice(...given) {
    message.replaceChildren(notice(...given));
    message.hidden = false;
    grid.clear();
  }

  function tellCount(total) {
    const isSearch = Boolean(query.get("q"));
    const time = isSearch && answer ? `, ${Math.round(answer.milliseconds.total)} ms` : "";
    facts.textContent = `${plural(total, isSearch ? "result" : "image")}${time}`;
    byId("live").textContent = facts.textContent;
    message.hidden = total > 0;
    if (total === 0) showEmpty(isSearch);
  }

  function showEmpty(isSearch) {
    const clear = h("button", { type: "button", onclick: () => go({ filter: null, min: null }) }, "Remove filters and threshold");
    const isNarrowed = query.getAll("filter").length > 0 || query.get("min");
    if (isNarrowed) showNotice(isSearch ? "No similar image passes." : "No image passes.", "The filters or the lowest score leave nothing.", clear);
    else showNotice("There are no images here.");
  }

  async function run(how, isForced = false) {
    const next = JSON.stringify(["index", "q", "name", "min", "sort", "order"].map((name) => query.get(name)).concat(query.getAll("filter")));
    if (next === key && !isForced) return;
    key = next;
    scrollKey = location.search;
    message.hidden = true;
    answer = null;
    await drawHead();
    const first = tokenOf(query) ? takeFirstPage(tokenOf(query)) : null;
    await grid.show({ scroll: how === "pop" ? keptScroll() : 0, first: first && found(first) });
  }

  async function drawHead() {
    const q = query.get("q");
    const [kind, value] = q ? [q.slice(0, q.indexOf(":")), q.slice(q.indexOf(":") + 1)] : ["", ""];
    facts.textContent = "";
    const name = query.get("name");
    byId("words").value = kind === "class" ? value : (name ?? "");
    title.textContent = q ? "Similar images" : name ? `Names with “${printable(name)}”` : "All images";
    const picture = queryPicture(kind, value);
    const save = h("button", { type: "button", class: "save", onclick: () => saveAll() }, "Save as selection");
    const close = h("button", { type: "button", class: "plain end", "aria-label": "End this search", title: "End this search", onclick: () => go({ q: null, name: null, min: null }) }, icon("close"));
    threshold.show(query.get("min"));
    head.replaceChildren(
      filters.toggle,
      ...(picture ? [picture] : []),
      h("div", { class: "what" }, title, facts),
      ...(q ? [threshold.element, ...(kind === "class" ? [] : [more]), save, close] : [sorting.element, ...(name || query.getAll("filter").length ? [save] : []), ...(name ? [close] : [])]),
      chips,
    );
    sorting.show(query);
    filters.show(query);
  }

  function saveAll() {
    const isFilter = !query.get("q") && !query.get("name");
    saveSelection(app, isFilter ? { filter: query.getAll("filter") } : { ids: shownIds });
  }

  async function shownIds() {
    const ids = [];
    while (ids.length < Math.min(grid.total, MOST_SHOWN)) {
      const { tiles } = await loadPage(ids.length, SAVED_AT_ONCE);
      ids.push(...tiles.map(({ item }) => item.id));
      if (!tiles.length) break;
    }
    return ids;
  }

  function queryPicture(kind, value) {
    const frame = h("span", { class: "query-picture" });
    const put = (source) => frame.replaceChildren(h("img", { src: source, alt: "The image that is searched for" }));
    if (kind === "token") {
      title.textContent = "Similar to your image";
      const preview = previewOf(value);
      if (preview) put(preview);
      else return null;
    } else if (kind === "class") {
      title.textContent = `Class “${printable(value)}”`;
      return null;
    } else if (kind === "id") {
      put(thumbnail(value, 256));
      get(`/v1/items/${encodeURIComponent(value)}`).then(
        ({ item }) => state().get("q") === `id:${value}` && (title.textContent = `Similar to ${printable(item.name)}`),
        () => {},
      );
      frame.append(h("button", { type: "button", class: "cover", "aria-label": "Details of the image that is searched for", onclick: () => go({ item: value }) }));
    } else return null;
    return frame;
  }

  return {
    element,
    show(next, how) {
      query = next;
      run(how);
    },
    focus: () => grid.focus(),
  };
}

function bodyOf(q) {
  const at = q.indexOf(":");
  const [kind, value] = [q.slice(0, at), q.slice(at + 1)];
  return kind === "token" ? { query_token: value } : { [kind]: value };
}

// The lowest score that a result may have.
function makeThreshold() {
  const slider = h("input", { type: "range", id: "threshold", min: "0", max: "1", step: "0.01" });
  const shown = h("output", { for: "threshold" });
  const set = debounce(180, (value) => go({ min: Number(value) > 0 ? value : null }, { replace: true }));
  const tell = () => {
    shown.textContent = Number(slider.value) > 0 ? Number(slider.value).toFixed(2) : "any";
    slider.setAttribute("aria-valuetext", shown.textContent);
  };
  slider.addEventListener("input", () => {
    tell();
    set(slider.value);
  });
  const element = h("div", { class: "threshold" }, h("label", { for: "threshold" }, "Score from"), slider, shown);
  return {
    element,
    show(value) {
      if (document.activeElement !== slider || value === null) slider.value = value ?? 0;
      tell();
    },
  };
}

function makeSorting(app) {
  const select = h("select", { id: "sort", onchange: () => {
    const [sort, order] = select.value.split(" ");
    go({ sort: sort || null, order: order || null });
  } });
  select.append(h("option", { value: "" }, "Stored order"));
  let isFilled = false;
  return {
    element: h("div", { class: "sorting" }, h("label", { for: "sort" }, "Sort by"), select),
    async show(query) {
      if (!isFilled) {
        isFilled = true;
        const columns = await app.columns().catch(() => []);
        for (const { name, kind } of columns) {
          const [low, high] = kind === "number" ? ["lowest first", "highest first"] : ["A to Z", "Z to A"];
          select.append(h("option", { value: `${name} asc` }, `${name}, ${low}`), h("option", { value: `${name} desc` }, `${name}, ${high}`));
        }
      }
      select.value = query.get("sort") ? `${query.get("sort")} ${query.get("order") ?? "asc"}` : "";
    },
  };
}

