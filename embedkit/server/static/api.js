// All requests to the server: JSON in and out, errors as one plain line, sign-in when it is needed.
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const BUSY = new Set([429, 503]);
const ATTEMPTS = 4;
let index = null; // the name of the index that is searched; null is the first
let askToSignIn = async () => {};

export const useIndex = (name) => (index = name);
export const onSignIn = (action) => (askToSignIn = action);

function address(path, query = {}) {
  const made = new URLSearchParams();
  if (index !== null) made.set("index", index);
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) for (const one of value) made.append(name, one);
    else if (value !== null && value !== undefined && value !== "") made.set(name, value);
  }
  const text = String(made);
  return text ? `${path}?${text}` : path;
}

export const thumbnail = (id, size) => address(`/thumb/${encodeURIComponent(id)}`, { size });
export const original = (id) => address(`/image/${encodeURIComponent(id)}`);
export const download = address;

export const get = (path, query, signal) => request("GET", path, { query, signal });
export const post = (path, body, query, signal) => request("POST", path, { query, body, signal });
export const remove = (path) => request("DELETE", path, {});

export async function bytes(path, query) {
  const answer = await send("GET", path, { query });
  return answer.arrayBuffer();
}

async function request(method, path, given) {
  const answer = await send(method, path, given);
  return answer.status === 204 ? null : answer.json();
}

async function send(method, path, { query, body, signal }) {
  const isFile = body instanceof Blob;
  const headers = { Accept: "application/json", "X-Embedkit": "1" };
  if (body !== undefined) headers["Content-Type"] = isFile ? body.type || "application/octet-stream" : "application/json";
  const content = body === undefined || isFile ? body : JSON.stringify(body);
  for (let attempt = 1; ; attempt++) {
    const answer = await fetched(address(path, query), { method, headers, body: content, signal });
    if (answer.status === 202 && attempt < 600) {
      await pause(answer.headers.get("Retry-After") ?? 1, signal);
      continue;
    }
    if (answer.ok) return answer;
    if (answer.status === 401 && path !== "/v1/session") {
      await askToSignIn();
      continue;
    }
    if (!BUSY.has(answer.status) || attempt === ATTEMPTS) throw await errorOf(answer);
    await pause(answer.headers.get("Retry-After") ?? attempt, signal);
  }
}

async function fetched(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Check that `embedkit serve` is still running, then try again.", 0);
  }
}

async function errorOf(answer) {
  let text = `The server answered ${answer.status} ${answer.statusText}.`;
  try {
    text = sentence((await answer.json()).error) || text;
  } catch {
    // not JSON: an answer of something between the page and the server
  }
  return new ApiError(text, answer.status);
}

// The server's errors are lines as of a command: lower case, without a full stop.
const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * Math.min(10, Number(seconds) || 1));
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
