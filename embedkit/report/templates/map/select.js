// Picking images out: by name, by lasso, by group; and taking their names along.
const MOST_THUMBNAILS = 60;

function tellChosen() {
  const panel = byId("chosen");
  panel.hidden = state.chosen === 0;
  const isSearch = byId("search").value.trim() !== "";
  byId("count").textContent = state.chosen
    ? `${state.chosen.toLocaleString("en")} of ${count.toLocaleString("en")} selected`
    : isSearch
      ? "nothing found"
      : "";
  const strip = byId("strip");
  strip.replaceChildren();
  for (let i = 0; i < count && strip.childElementCount < MOST_THUMBNAILS; i++) {
    if (chosen[i]) strip.append(cardOf(i));
  }
}

function cardOf(i) {
  const button = document.createElement("button");
  button.type = "button";
  if (data.picture[i]) {
    const image = document.createElement("img");
    image.src = data.picture[i];
    image.alt = "";
    button.append(image);
  }
  button.append(...wrapped(data.name[i].split("/").pop()));
  button.title = data.name[i];
  button.addEventListener("click", () => goTo(i));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function goTo(i) {
  Object.assign(state, { x: data.x[i], y: data.y[i], scale: Math.max(state.scale, 4) });
  const box = canvas.getBoundingClientRect();
  pin(i, box.left + canvas.clientWidth / 2, box.top + canvas.clientHeight / 2);
  ask();
}

const chosenRows = () => data.name.map((_, i) => i).filter((i) => chosen[i]);

function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (text) => words.every((word) => text.includes(word));
  choose((i) => words.length > 0 && has(`${data.name[i]} ${data.word[i]}`.toLowerCase()));
  for (const button of document.querySelectorAll("button[data-group]")) {
    button.parentElement.hidden = words.length > 0 && !has(button.textContent.toLowerCase());
  }
}

function nextFound() {
  const rows = chosenRows();
  if (rows.length) goTo(rows.find((i) => i > state.pinned) ?? rows[0]);
}

function closeLasso() {
  const path = state.lasso;
  state.lasso = null;
  byId("search").value = "";
  search();
  if (path.length > 2) {
    choose((i) => isShown(i) && isInside(toX(data.x[i]), toY(data.y[i]), path));
  }
}

async function copyIds() {
  const text = chosenRows().map((i) => data.name[i]).join("\n");
  try {
    await navigator.clipboard.writeText(text);
    byId("count").textContent = `${state.chosen.toLocaleString("en")} ids copied`;
  } catch {
    const box = byId("ids"); // where the page may not write to the clipboard
    box.hidden = false;
    box.value = text;
    box.select();
    byId("count").textContent = "press Ctrl+C to copy the marked ids";
  }
}

// As embedkit.utils.text.cell_text: no cell of text may begin a formula.
function cellText(text) {
  if (!/^[=+\-@\uff0b\uff0d\uff1d\uff20]/.test(text) || /^[+-]?\d+(\.\d+)?$/.test(text)) return text;
  const code = text.charCodeAt(0).toString(16);
  return `\\${code.length > 2 ? "u" : "x"}${code}${text.slice(1)}`;
}

function downloadCsv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const place = (value) => Number(value.toFixed(5));
  const rows = chosenRows().map((i) => [cellText(data.name[i]), cellText(data.word[i]), place(data.x[i]), place(data.y[i])]);
  const lines = [["id", "label", "x", "y"], ...rows].map((row) => row.map(String).map(quoted).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n"), "\r\n"], { type: "text/csv" }));
  link.download = "selection.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clearChosen() {
  byId("search").value = "";
  byId("ids").hidden = true;
  search();
}

