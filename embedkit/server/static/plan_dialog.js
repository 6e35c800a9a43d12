// Writes the plan that `embedkit dedup apply` takes, and shows the command.
import { post } from "./api.js";
import { openDialog } from "./dialog.js";
import { commandBox, h, plural, printable } from "./dom.js";

// `inOrder(action)` runs after all answers that were given before.
export function writePlan(inOrder) {
  const choice = h("select", { id: "undecided" },
    h("option", { value: "keep" }, "keep all their images"),
    h("option", { value: "as-found" }, "remove copies as they were found"));
  const [command, result] = [commandBox("The command that applies the plan"), h("div", { hidden: true })];
  const text = h("p", {});
  result.append(text, command.element, h("p", { class: "note" }, "Without --execute the command only shows what it would do."));
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { type: "submit", class: "main" }, "Write plan");
  const form = h("form", {},
    h("p", {}, "The plan lists every image that your answers remove. Nothing is removed until you run the command."),
    h("label", { for: "undecided" }, "Groups without an answer"), choice, problem, h("div", { class: "actions" }, button), result);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = "";
    try {
      const plan = await inOrder(() => post("/v1/review/plan", { undecided: choice.value }));
      text.textContent = `Wrote ${printable(plan.name)}: ${plural(plan.removed, "image")} to remove.${kept(plan.not_verified)}`;
      command.set(plan.command);
      result.hidden = false;
    } catch (error) {
      problem.textContent = error.message;
    }
    button.disabled = false;
  });
  openDialog("Write the plan", form, { className: "wide" });
}

const kept = (images) => (images ? ` ${plural(images, "more image")} stay: their pixels were not compared, so they are not known to be copies.` : "");
