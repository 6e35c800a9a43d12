// The frame of the page: who is served, tabs, keys, and which view is shown.
import { ApiError, get, onSignIn, useIndex } from "./api.js";
import { byId, h, icon, plural, tell } from "./dom.js";
import { makeDetails } from "./details.js";
import { startKeys, showHelp } from "./keys.js";
import { startQuery } from "./query.js";
import { go, linkTo, onChange, state } from "./router.js";
import { makeSearch } from "./search.js";
import { signIn, signOut } from "./sign_in.js";
import { nextTheme, theme } from "./theme.js";

const TABS = [
  ["search", "Search"],
  ["review", "Review"],
  ["map", "Map"],
  ["clusters", "Clusters"],
  ["quality", "Quality"],
  ["outliers", "Outliers"],
  ["labels", "Labels"],
  ["selections", "Selections"],
];
const ALWAYS = new Set(["search", "selections"]);
// Views are loaded when they are first shown.
const MAKERS = {
  search: async () => makeSearch,
  review: async () => (await import("./review.js")).makeReview,
  map: async () => (await import("./map.js")).makeMap,
  clusters: async () => (await import("./lists.js")).makeClusters,
  quality: async () => (await import("./lists.js")).makeQuality,
  outliers: async () => (await import("./lists.js")).makeOutliers,
  labels: async () => (await import("./lists.js")).makeLabels,
  selections: async () => (await import("./selections.js")).makeSelections,
};

const app = {
  info: null,
  columns: () => (app.asked ??= filterColumns()),
  forgetColumns: () => (app.asked = null),
  similar: (item) => {
    const kept = tabOf(state()) === "search" ? { filter: state().getAll("filter"), min: state().get("min") } : {};
    go({ index: state().get("index"), q: `id:${item.id}`, ...kept }, { isFresh: true });
  },
  details: (item) => go({ item: item.id }),
};

// The columns that can be filtered by; a selection is one of them, as for commands.
async function filterColumns() {
  const [{ columns }, { selections }] = await Promise.all([get("/v1/columns"), get("/v1/selections")]);
  const values = selections.map(({ name, size }) => ({ value: name, count: size }));
  return values.length ? [...columns, { name: "selection", kind: "category", values }] : columns;
}

const made = new Map(); // the views so far, by tab and index
let shown = null;

const tabOf = (query) => (Object.hasOwn(MAKERS, query.get("tab") ?? "") ? query.get("tab") : "search");

function drawTabs() {
  const tab = tabOf(state());
  const index = state().get("index");
  const available = TABS.filter(([name]) => ALWAYS.has(name) || app.info.tabs[name]);
  byId("tabs").replaceChildren(
    ...available.map(([name, title]) =>
      h("a", {
        href: linkTo({ index, tab: name === "search" ? null : name }),
        "data-go": true,
        "aria-current": name === tab ? "page" : null,
      }, title),
    ),
  );
  byId("tabs").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function drawActions() {
  const { indexes, needs_token: needsToken, signed_in: isSignedIn } = app.info;
  const choice = h(
    "select",
    { "aria-label": "Index", onchange: (event) => go({ index: event.target.value }, { isFresh: true }) },
    indexes.map(({ name, n_images: images }) => h("option", { value: name }, `${name} (${plural(images, "image")})`)),
  );
  if (indexes.length) choice.value = state().get("index") ?? indexes[0].name;
  const themeButton = h("button", {
    type: "button",
    class: "plain",
    title: `Colours: ${theme()}`,
    "aria-label": `Colours: ${theme()}. Change`,
    onclick: () => {
      tell(`Colours: ${nextTheme()}.`);
      drawActions();
    },
  }, icon("theme"));
  byId("actions").replaceChildren(
    ...(indexes.length > 1 ? [choice] : []),
    ...(needsToken && isSignedIn ? [h("button", { type: "button", class: "plain", onclick: signOut }, "Sign out")] : []),
    themeButton,
    h("button", { type: "button", class: "plain", title: "Keys and help (?)", "aria-label": "Keys and help", onclick: () => showHelp(shown) }, icon("help")),
  );
}

async function showView(query, how) {
  const tab = tabOf(query);
  const key = `${tab} ${query.get("index")}`;
  useIndex(query.get("index"));
  if (app.info) drawTabs();
  document.title = `${TABS.find(([name]) => name === tab)[1]} · embedkit`;
  if (!made.has(key)) made.set(key, MAKERS[tab]().then((make) => make(app)));
  const view = await made.get(key);
  if (tabOf(state()) !== tab) return;
  if (shown !== view) {
    shown?.leave?.();
    byId("view").replaceChildren(view.element);
    shown = view;
  }
  byId("view").dataset.tab = tab;
  view.show(query, how);
}

// The view asks for its images at once; tabs and the index's name follow when they are known.
async function start() {
  onSignIn(signIn);
  startQuery(app);
  startKeys(() => shown);
  const details = makeDetails(app);
  let before = state().get("index");
  const update = (query, how) => {
    if (query.get("index") !== before) {
      before = query.get("index");
      app.forgetColumns();
      drawActions();
    }
    showView(query, how);
    details.show(query);
  };
  onChange(update);
  update(state(), "pop");
  await loadInfo();
}

async function loadInfo() {
  try {
    app.info = await get("/v1/info");
    if (app.info.needs_token && !app.info.signed_in) {
      await signIn();
      app.info = await get("/v1/info");
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    byId("tabs").replaceChildren(h("p", { class: "problem" }, error.message, " ", h("button", { type: "button", onclick: loadInfo }, "Try again")));
    return;
  }
  byId("brand").title = `embedkit ${app.info.version}`;
  drawTabs();
  drawActions();
}

start();
