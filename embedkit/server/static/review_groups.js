// The groups to decide, in the server's order; only those near the one in view are fetched.
import { get } from "./api.js";

const CHUNK = 40; // groups per request

// The state that the server has; `state` is what is shown, and changes before it is saved.
const asSaved = (group) => Object.assign(group, { saved: group.state });

export class ReviewGroups {
  // `query` narrows the groups; `inOrder(action)` runs after all answers that were given before.
  constructor(query, inOrder) {
    Object.assign(this, { query, inOrder, slots: [], asked: new Set(), abort: new AbortController() });
  }

  get length() {
    return this.slots.length;
  }

  at = (place) => this.slots[place] ?? null;
  placeOf = (id) => this.slots.findIndex((group) => group?.id === id);

  // The server lists only groups that pass the filter now: those whose answers it has are no longer
  // counted in its offsets; those whose answers are on the way still are.
  offsetOf(place) {
    const isListed = (group) => group === undefined || this.query.state === "all" || group.saved === this.query.state;
    let offset = 0;
    for (let k = 0; k < place; k++) if (isListed(this.slots[k])) offset++;
    return offset;
  }

  async start() {
    const { total, groups } = await this.inOrder(() => this.page(0));
    this.slots = groups.map(asSaved).concat(Array.from({ length: Math.max(0, total - groups.length) }));
  }

  page(offset, limit = CHUNK) {
    return get("/v1/review/groups", { ...this.query, offset, limit }, this.abort.signal);
  }

  // Fetches the groups around a place that are not at hand.
  async need(place) {
    if (this.asked.has(place)) return;
    for (let k = place - CHUNK / 4; k < place + CHUNK; k++) this.asked.add(k);
    await this.inOrder(() => this.fetch(place)).finally(() => this.asked.clear());
  }

  async fetch(place) {
    if (place >= this.length || this.slots[place]) return; // came with others meanwhile
    let [first, last] = [place, place];
    while (first > 0 && !this.slots[first - 1] && place - first < CHUNK / 4) first--;
    while (last + 1 < this.length && !this.slots[last + 1] && last - first + 1 < CHUNK) last++;
    const { groups } = await this.page(this.offsetOf(first), last - first + 1);
    const known = new Set(this.slots.filter(Boolean).map(({ id }) => id));
    const fresh = groups.filter(({ id }) => !known.has(id)).map(asSaved);
    // fewer than were thought to be there: others have decided meanwhile
    this.slots.splice(first, last - first + 1, ...fresh);
  }

  // Takes over the groups of an answer; new ones come after `place`. A group for which more answers are
  // on the way stays as it is shown.
  update(changed, gone, place, isAwaited) {
    for (const group of changed.map(asSaved)) {
      const found = this.placeOf(group.id);
      if (found >= 0 && isAwaited(group.id)) this.slots[found].saved = group.saved;
      else if (found >= 0) this.slots[found] = group;
      else this.slots.splice(place + 1, 0, group);
    }
    for (const id of gone) {
      const found = this.placeOf(id);
      if (found >= 0) this.slots.splice(found, 1);
    }
  }

  // The place of the next group to decide, from the start again after the last; -1 if there is none.
  nextToDecide(place) {
    const isOpen = (group) => !group || group.state === "pending";
    const after = this.slots.findIndex((group, at) => at > place && isOpen(group));
    return after >= 0 ? after : this.slots.findIndex(isOpen);
  }
}
