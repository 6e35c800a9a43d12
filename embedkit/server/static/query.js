// What is searched by: an image that is dropped, pasted, picked or photographed, or words.
import { get, post } from "./api.js";
import { byId, h, icon, plural, tell } from "./dom.js";
import { go, state } from "./router.js";

const PREVIEW = 192; // pixels: side of the picture that is kept of a query image
const ID = /^[0-9a-f]{16}$/; // as the server names images
const firstPages = new Map(); // the answer to an upload, until its view takes it

export const tokenOf = (query) => (query.get("q")?.startsWith("token:") ? query.get("q").slice(6) : null);
export const previewOf = (token) => sessionStorage.getItem(`embedkit-preview-${token}`);

export function takeFirstPage(token) {
  const found = firstPages.get(token) ?? null;
  firstPages.delete(token);
  return found;
}

export function startQuery(app) {
  const [words, pick, photograph] = ["words", "pick", "photograph"].map(byId);
  const button = (name, label, input) =>
    h("button", { type: "button", class: "plain", "aria-label": label, title: label, onclick: () => input.click() }, icon(name));
  if (matchMedia("(max-width: 50rem)").matches) words.placeholder = "Name or class";
  byId("query").append(button("image", "Choose an image", pick), button("camera", "Take a photo", photograph));
  for (const input of [pick, photograph]) {
    input.addEventListener("change", () => {
      if (input.files.length) searchByImage(input.files[0]);
      input.value = "";
    });
  }
  byId("query").addEventListener("submit", (event) => {
    event.preventDefault();
    searchByWords(words.value.trim(), app);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    searchByImage(file);
  });
  watchDrops();
  words.addEventListener("focus", () => classList(app, words), { once: true });
}

function watchDrops() {
  let depth = 0;
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  const show = (isOver) => (byId("drop").hidden = !isOver);
  document.addEventListener("dragenter", (event) => hasFile(event) && show(++depth > 0));
  document.addEventListener("dragleave", (event) => hasFile(event) && show(--depth > 0));
  document.addEventListener("dragover", (event) => hasFile(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    show(false);
    if (!hasFile(event)) return;
    event.preventDefault();
    searchByImage(event.dataTransfer.files[0]);
  });
}

// The classes that can be typed, as suggestions.
async function classList(app, words) {
  const columns = await app.columns().catch(() => []);
  const label = columns.find(({ name }) => name === "label");
  if (!label?.values?.length) return;
  const list = h("datalist", { id: "classes" }, label.values.map(({ value, count }) => h("option", { value }, plural(count, "image"))));
  byId("query").append(list);
  words.setAttribute("list", "classes");
}

let running = null;

async function searchByImage(file) {
  running?.abort();
  running = new AbortController();
  byId("query").classList.add("busy");
  tell("Searching for similar images…");
  try {
    const kept = { filter: state().getAll("filter"), min: state().get("min") };
    const query = { filter: kept.filter, min_score: kept.min, k: 120 };
    const [answer, preview] = await Promise.all([post("/v1/search", file, query, running.signal), previewUri(file)]);
    const token = answer.query_token;
    firstPages.set(token, answer);
    remember(token, preview);
    byId("toast").hidden = true;
    go({ index: state().get("index"), q: `token:${token}`, ...kept }, { isFresh: true });
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message, "alert");
  }
  byId("query").classList.remove("busy");
}

function remember(token, preview) {
  if (!preview) return;
  try {
    sessionStorage.setItem(`embedkit-preview-${token}`, preview);
  } catch {
    sessionStorage.clear(); // full of older previews
    sessionStorage.setItem(`embedkit-preview-${token}`, preview);
  }
}

// A small copy of the image for the page's own use; null where the browser can't show the format.
async function previewUri(file) {
  try {
    const picture = await createImageBitmap(file);
    const factor = Math.min(1, PREVIEW / Math.max(picture.width, picture.height));
    const canvas = h("canvas", { width: Math.max(1, Math.round(picture.width * factor)), height: Math.max(1, Math.round(picture.height * factor)) });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/webp", 0.85);
  } catch {
    return null;
  }
}

// A class if there is one of this name; else what has these words in its name; else the image of this id.
async function searchByWords(text, app) {
  const index = state().get("index");
  if (!text) return go({ index }, { isFresh: true });
  try {
    const label = (await app.columns()).find(({ name }) => name === "label");
    const value = label?.values?.map((one) => one.value).find((one) => one.toLowerCase() === text.toLowerCase());
    if (value !== undefined) return go({ index, q: `class:${value}` }, { isFresh: true });
    const { total, items } = await get("/v1/items", { name: text, limit: 2 });
    if (total === 1) go({ index, q: `id:${items[0].id}` }, { isFresh: true });
    else if (total) go({ index, name: text }, { isFresh: true });
    else if (ID.test(text)) go({ index, q: `id:${text}` }, { isFresh: true });
    else tell(`No image’s name contains “${text}”, and no class is called so.`, "alert");
  } catch (error) {
    tell(error.message, "alert");
  }
  return undefined;
}
