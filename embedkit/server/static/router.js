// The address holds the state: what the browser's Back brings back, and a link shows to others.
const listeners = [];

export const state = () => new URLSearchParams(location.search);
export const onChange = (listener) => listeners.push(listener);

const changed = (how) => listeners.forEach((listener) => listener(state(), how));

function addressWith(changes, isFresh) {
  const query = isFresh ? new URLSearchParams() : state();
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    if (Array.isArray(value)) for (const one of value) query.append(name, one);
    else if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = String(query);
  return text ? `?${text}` : location.pathname;
}

// `isFresh` drops what the address held; `replace` adds no step to the history.
export function go(changes, { isFresh = false, replace = false } = {}) {
  const next = addressWith(changes, isFresh);
  if (next === location.search || (next === location.pathname && !location.search)) return;
  if (replace) history.replaceState(history.state, "", next);
  else history.pushState({}, "", next);
  changed(replace ? "replace" : "push");
}

export const linkTo = (changes, isFresh = true) => addressWith(changes, isFresh);

// Where the page was scrolled to, kept with the step of the history.
export const keepScroll = (scroll) => history.replaceState({ ...history.state, scroll }, "");
export const keptScroll = () => history.state?.scroll ?? 0;

window.addEventListener("popstate", () => changed("pop"));
history.scrollRestoration = "manual";

// Links within the page change the address and load nothing.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-go]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.search !== location.search) {
    history.pushState({}, "", link.search || location.pathname);
    changed("push");
  }
});
