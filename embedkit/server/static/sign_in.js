// Asks for the token that `embedkit serve` was started with, and keeps nothing of it in the page.
import { post, remove } from "./api.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";

let asking = null; // one dialog for all requests that wait

export const signIn = () => (asking ??= ask().finally(() => (asking = null)));

export async function signOut() {
  await remove("/v1/session");
  location.reload();
}

function ask() {
  const { promise, resolve } = withResolver();
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { type: "submit", class: "main" }, "Sign in");
  const form = h(
    "form",
    {},
    h("p", {}, "This server needs a token. It was set when the server was started; ask the person who runs it."),
    h("label", { for: "token" }, "Token"),
    token,
    problem,
    h("div", { class: "actions" }, button),
  );
  const dialog = openDialog("Sign in with the token", form, { isRequired: true });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = "";
    try {
      await post("/v1/session", { token: token.value.trim() });
      dialog.close();
      resolve();
    } catch (error) {
      problem.textContent = error.status === 401 || error.status === 403 ? "That is not the token of this server." : error.message;
      token.select();
    }
    button.disabled = false;
  });
  token.focus();
  return promise;
}

function withResolver() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}
