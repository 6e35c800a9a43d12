// The list of groups beside the one in view: any length, only what is seen is in the document.
import { thumbnail } from "./api.js";
import { h, scoreText } from "./dom.js";

const ROW = 60; // pixels
const PICTURES = 3;

export const STATES = { pending: "to decide", accepted: "accepted", rejected: "rejected" };

export class ReviewRail {
  constructor(onPick, onNeed) {
    Object.assign(this, { onPick, onNeed, groups: null, current: 0 });
    this.field = h("div", { class: "field" });
    this.element = h("div", { class: "rail", role: "region", "aria-label": "Groups", tabindex: "0" }, this.field);
    this.element.addEventListener("scroll", () => this.ask(), { passive: true });
    this.field.addEventListener("click", (event) => {
      const row = event.target.closest("[data-place]");
      if (row) this.onPick(Number(row.dataset.place));
    });
  }

  show(groups, current) {
    const hasMoved = current !== this.current || groups !== this.groups;
    Object.assign(this, { groups, current });
    this.field.style.height = `${groups.length * ROW}px`;
    if (hasMoved) {
      const [top, height] = [current * ROW, this.element.clientHeight];
      if (top < this.element.scrollTop || top + ROW > this.element.scrollTop + height) this.element.scrollTop = top - height / 3;
    }
    this.ask();
  }

  ask() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.render();
    });
  }

  render() {
    if (!this.groups || !this.element.clientHeight) return;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - 3);
    const last = Math.min(this.groups.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / ROW) + 3);
    const rows = [];
    for (let place = first; place < last; place++) rows.push(this.row(place));
    this.field.replaceChildren(...rows);
    clearTimeout(this.needing);
    this.needing = setTimeout(() => [first, last - 1].forEach((place) => this.onNeed(place)), 120);
  }

  row(place) {
    const group = this.groups.at(place);
    const row = h("button", { type: "button", tabindex: "-1", "data-place": place, class: group ? `row ${group.state}` : "row", "aria-current": place === this.current ? "true" : null });
    row.style.transform = `translateY(${place * ROW}px)`;
    if (!group) return row;
    const { members, score, state } = group;
    row.setAttribute("aria-label", `Group ${place + 1}: ${members.length} images, ${STATES[state]}`);
    row.append(
      h("span", { class: "thumbs" }, members.slice(0, PICTURES).map(({ item }) => item.has_image ? h("img", { src: thumbnail(item.id, 128), alt: "", decoding: "async" }) : h("span", { class: "blank" }))),
      h("span", { class: "facts" }, h("b", {}, scoreText(score)), h("span", { class: "dim" }, state === "pending" ? `${members.length} images` : STATES[state])),
    );
    return row;
  }
}
