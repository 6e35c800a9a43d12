// The review of near-duplicates: one group after the other, one key per decision.
import { get, post } from "./api.js";
import { Answers } from "./answers.js";
import { byId, count, h, icon, notice, plural, tell } from "./dom.js";
import { writePlan } from "./plan_dialog.js";
import { makeReviewFilters } from "./review_filters.js";
import { ReviewGroups } from "./review_groups.js";
import { ReviewRail } from "./review_rail.js";
import { prefetch, ReviewStage } from "./review_stage.js";

const ACTIONS = [
  ["a", "Accept", "Accept: the copies are removed by the plan", (view) => view.decide("accept")],
  ["r", "Reject", "Reject: no image is a copy, all are kept", (view) => view.decide("reject")],
  ["u", "Undo", "Undo the last answer", (view) => view.undo()],
  ["s", "Split", "Split the ticked images off (Shift+1 to 9 ticks)", (view) => view.split()],
  ["m", "Merge", "Merge with another group: press m here, then there", (view) => view.merge()],
];
const MODES = [
  ["b", "blink", "Blink", "Show the keeper and a copy in turn"],
  ["o", "overlay", "Overlay", "Lay the copy over the keeper"],
  ["d", "difference", "Difference", "Show the difference of the two"],
];

const kept = (group) => group.members.filter((member) => member.keep).map((member) => member.item.id);

function refusal(error) {
  if (error.status !== 409 && error.status !== 404) throw error;
  return { refused: error.message };
}

export function makeReview(app) {
  const view = new Review(app);
  return {
    element: view.element,
    show: (query) => view.open(query),
    leave: () => view.stage.compare.stop(),
    onKey: (event) => view.onKey(event),
    onEscape: () => view.onEscape(),
    keysTitle: "Review",
    keys: [
      ...ACTIONS.map(([key, , text]) => [key, text]),
      ["1 to 9", "Keep this image"],
      ["j and k", "Next and previous group"],
      ...MODES.map(([key, , , text]) => [key, text]),
      ["← and →", "Compare another copy"],
    ],
  };
}

class Review {
  constructor(app) {
    Object.assign(this, { app, place: 0, mode: "side", other: 1, ticked: new Set(), merging: null, groups: null, key: null });
    this.awaited = []; // the groups of answers that the server has not confirmed yet
    this.answers = new Answers(() => this.drawStatus());
    this.stage = new ReviewStage({ keep: (item, isAlone) => this.keep(item, isAlone), tick: (item) => this.tick(item), details: app.details });
    this.rail = new ReviewRail((place) => this.go(place), (place) => this.need(place));
    this.filters = makeReviewFilters();
    this.progress = h("progress", { max: "1", value: "0", "aria-label": "Groups decided" });
    this.progressText = h("span", { class: "dim" });
    this.status = h("p", { class: "unsaved", role: "alert" });
    this.message = h("div", { class: "message", hidden: true });
    this.buttons = h("div", { class: "review-actions", role: "toolbar", "aria-label": "Answers" },
      ACTIONS.map(([key, name, title, act]) => h("button", { type: "button", title, class: `act-${name.toLowerCase()}`, "aria-keyshortcuts": key, onclick: () => act(this) }, name, h("kbd", { "aria-hidden": "true" }, key))),
      h("span", { class: "space" }),
      (this.modeButtons = MODES.map(([key, mode, name, title]) => h("button", { type: "button", title, class: "mode", "aria-pressed": "false", "aria-keyshortcuts": key, onclick: () => this.setMode(mode) }, name, h("kbd", { "aria-hidden": "true" }, key)))),
      h("span", { class: "space" }),
      h("button", { type: "button", "aria-label": "Previous group", title: "Previous group (k)", onclick: () => this.go(this.place - 1) }, icon("previous")),
      h("button", { type: "button", "aria-label": "Next group", title: "Next group (j)", onclick: () => this.go(this.place + 1) }, icon("next")));
    this.main = h("div", { class: "review-main" }, this.message, this.stage.element, this.buttons);
    this.element = h("section", { class: "review", "aria-label": "Review of near-duplicates" },
      h("div", { class: "results-head" },
        h("div", { class: "what" }, h("h1", {}, "Review"), this.progressText), this.progress, this.filters.element,
        h("button", { type: "button", class: "main", onclick: () => writePlan((action) => this.answers.add(action, false)) }, "Write plan")),
      this.status,
      h("div", { class: "review-body" }, this.rail.element, this.main));
  }

  async open(query) {
    const filter = this.filters.read(query);
    const key = JSON.stringify(filter);
    if (key === this.key) return;
    this.key = key;
    await this.reload(filter);
  }

  async reload(filter = this.groups.query) {
    this.groups?.abort.abort();
    const groups = new ReviewGroups(filter, (action) => this.answers.add(action, false));
    this.groups = groups;
    this.showMessage("Loading the groups…");
    try {
      this.take(await get("/v1/review"));
      await groups.start();
    } catch (error) {
      if (error.name !== "AbortError") this.showMessage("The groups could not be loaded.", error.message, h("button", { type: "button", onclick: () => this.reload() }, "Try again"));
      return;
    }
    if (groups === this.groups) this.go(0);
  }

  take(review) {
    this.review = review;
    this.filters.fill(review);
    this.progress.max = Math.max(1, review.groups);
    this.progress.value = review.decided;
    this.progressText.textContent = `${count(review.decided)} of ${plural(review.groups, "group")} decided, ${plural(review.removed_images, "image")} to remove`;
  }

  showMessage(...given) {
    this.message.hidden = false;
    this.stage.element.hidden = true;
    this.message.replaceChildren(notice(...given));
    this.stage.compare.stop();
    this.rail.show(this.groups, this.place);
  }

  need(place) {
    const { groups } = this;
    if (place < 0 || place >= groups.length || groups.at(place)) return;
    groups.need(place).then(() => groups === this.groups && this.draw(), (error) => error.name !== "AbortError" && tell(error.message, "alert"));
  }

  go(place) {
    const { groups } = this;
    if (place < 0 || (place >= groups.length && place > 0)) return this.atEnd(place);
    Object.assign(this, { place, other: 1, ticked: new Set() });
    this.draw();
    [place, place + 10, place + 25].forEach((near) => this.need(near));
    return undefined;
  }

  atEnd(place) {
    if (place < 0) return tell("This is the first group.");
    return this.groups.nextToDecide(-1) >= 0 ? tell("This is the last group.") : this.finish();
  }

  finish() {
    const left = this.review.groups - this.review.decided;
    const again = h("button", { type: "button", onclick: () => this.reload() }, left ? "Show what is left" : "Load again");
    this.showMessage(left ? "All groups of this list are decided." : "All groups are decided.", left ? "" : "Write the plan now: it holds every answer.", again);
  }

  draw() {
    const { groups, place } = this;
    if (!groups.length) {
      const { query } = groups;
      const isNarrowed = Object.values(query).some((value) => value && value !== "all" && value !== "pending");
      if (!isNarrowed && query.state === "pending" && this.review.groups) return this.finish();
      return this.showMessage("No group passes.", isNarrowed ? "The filters leave nothing." : "There are no near-duplicates to review.");
    }
    this.place = Math.min(place, groups.length - 1);
    const group = groups.at(this.place);
    this.rail.show(groups, this.place);
    if (!group) {
      this.need(this.place);
      return this.showMessage("Loading the group…");
    }
    this.message.hidden = true;
    this.stage.element.hidden = false;
    const keeper = group.members.findIndex((member) => member.keep);
    if (this.other >= group.members.length || this.other === keeper) this.other = this.nextOther(group, keeper, 1);
    this.stage.show({ group, place: this.place, total: groups.length, mode: this.mode, other: this.other, ticked: this.ticked });
    prefetch(groups, this.place);
    return undefined;
  }

  nextOther(group, keeper, step) {
    const size = group.members.length;
    const next = (this.other + step + size) % size;
    return next === keeper ? (next + step + size) % size : next;
  }

  current() {
    return this.message.hidden ? this.groups?.at(this.place) : null;
  }

  // Sends an answer in the background; the server's groups take the place of those at hand.
  async send(body, place = this.place) {
    const { groups } = this;
    this.awaited.push(body.group);
    try {
      const answer = await this.answers.add(() => post("/v1/review/actions", body).catch(refusal));
      this.awaited.splice(this.awaited.indexOf(body.group), 1);
      if (answer.refused) return this.tellRefusal(answer.refused, body.action);
      this.take(answer.review);
      if (groups !== this.groups) return null;
      groups.update(answer.groups, answer.gone, place, (id) => this.awaited.includes(id));
      return answer;
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return null;
    }
  }

  // The server refuses what doesn't fit its groups: there is nothing to undo, or others changed them.
  tellRefusal(text, action) {
    tell(text, "alert");
    if (action !== "undo") this.reload();
    return null;
  }

  decide(action) {
    const group = this.current();
    if (!group) return;
    group.state = `${action}ed`;
    byId("live").textContent = `Group ${this.place + 1} ${group.state}`;
    const { place } = this;
    // what stays is what was seen, whatever the server proposes meanwhile
    const items = action === "accept" ? { items: kept(group) } : {};
    this.send({ action, group: group.id, ...items }, place).then(() => this.rail.ask());
    const next = this.groups.nextToDecide(place);
    if (next >= 0) this.go(next);
    else this.answers.add(async () => {}, false).then(() => this.finish(), () => {});
  }

  async undo() {
    const answer = await this.send({ action: "undo" });
    if (!answer) return;
    const place = this.groups.placeOf(answer.groups[0]?.id);
    tell("The last answer is taken back.");
    this.go(place >= 0 ? place : this.place);
  }

  keep(item, isAlone = true) {
    const group = this.current();
    if (!group) return;
    for (const member of group.members) {
      if (isAlone) member.keep = member.item.id === item.id;
      else if (member.item.id === item.id) member.keep = !member.keep;
    }
    const items = kept(group);
    if (!items.length) return this.keep(item);
    this.draw();
    return this.send({ action: "keep", group: group.id, items }).then((answer) => answer && this.draw());
  }

  tick(item) {
    if (!this.ticked.delete(item.id)) this.ticked.add(item.id);
    this.draw();
  }

  async split() {
    const group = this.current();
    if (!group) return;
    if (!this.ticked.size) return tell("First tick the images that do not belong here: Shift+1 to 9, or “split off”.");
    const items = [...this.ticked];
    this.ticked = new Set();
    if (await this.send({ action: "split", group: group.id, items })) {
      tell(`Split ${plural(items.length, "image")} off.`);
      this.draw();
    }
    return undefined;
  }

  async merge() {
    const group = this.current();
    if (!group) return;
    if (!this.merging || this.merging.id === group.id) {
      this.merging = group;
      return tell("Go to the group that belongs to this one, and press m there. Esc cancels.");
    }
    const other = this.merging;
    this.merging = null;
    const answer = await this.send({ action: "merge", group: group.id, other: other.id });
    if (!answer) return undefined;
    tell("Merged the two groups.");
    const place = this.groups.placeOf(answer.groups[0]?.id);
    return this.go(place >= 0 ? place : Math.min(this.place, this.groups.length - 1));
  }

  setMode(mode) {
    this.mode = this.mode === mode ? "side" : mode;
    this.modeButtons.forEach((button, at) => button.setAttribute("aria-pressed", String(MODES[at][1] === this.mode)));
    this.draw();
  }

  onEscape() {
    if (this.merging) {
      this.merging = null;
      tell("Not merged.");
    } else if (this.mode !== "side") this.setMode(this.mode);
    else return false;
    return true;
  }

  onKey(event) {
    const { key, code } = event;
    const digit = /^Digit[1-9]$/.test(code) ? Number(code.at(-1)) : /^[1-9]$/.test(key) ? Number(key) : 0;
    const action = ACTIONS.find(([one]) => one === key);
    const mode = MODES.find(([one]) => one === key);
    const group = this.current();
    if (digit) {
      const member = group?.members[digit - 1];
      if (member) event.shiftKey ? this.tick(member.item) : this.keep(member.item);
    } else if (action) action[3](this);
    else if (mode) this.setMode(mode[1]);
    else if (key === "j" || key === "ArrowDown") this.go(this.place + 1);
    else if (key === "k" || key === "ArrowUp") this.go(this.place - 1);
    else if ((key === "ArrowRight" || key === "ArrowLeft") && group) {
      this.other = this.nextOther(group, group.members.findIndex((member) => member.keep), key === "ArrowRight" ? 1 : -1);
      this.draw();
    } else return false;
    return true;
  }

  drawStatus() {
    const { failure, unsent } = this.answers;
    window.onbeforeunload = unsent ? (event) => event.preventDefault() : null;
    this.status.hidden = !failure;
    if (!failure) return;
    this.status.replaceChildren(
      `${plural(unsent, "answer")} could not be saved: ${failure.message} `,
      h("button", { type: "button", onclick: () => this.answers.retry() }, "Try again"),
      h("button", { type: "button", onclick: () => { this.answers.discard(); this.awaited = []; this.reload(); } }, "Drop what is not saved"));
  }
}
