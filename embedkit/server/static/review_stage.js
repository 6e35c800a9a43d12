// One group: its images side by side, or two of them compared, with what is known of each.
import { thumbnail } from "./api.js";
import { Compare } from "./compare.js";
import { h, plural, printable, scoreText, shownBytes, wrapped } from "./dom.js";
import { STATES } from "./review_rail.js";

const AHEAD = 3; // groups whose pictures are loaded before they are shown
const FEW = 4; // images that share one row of the whole height
const loaded = new Map(); // pictures that are kept ready

export class ReviewStage {
  // `on` holds keep(item, isAlone), tick(item), details(item).
  constructor(on) {
    this.on = on;
    this.compare = new Compare();
    this.title = h("h2", {});
    this.facts = h("p", { class: "dim" });
    this.members = h("ol", { class: "members" });
    this.element = h("div", { class: "stage" }, h("div", { class: "stage-head" }, this.title, this.facts), this.compare.element, this.members);
  }

  // `view` holds group, place, total, mode, other (place of the member that is compared), ticked.
  show(view) {
    const { group, place, total, mode, other, ticked } = view;
    const keeper = group.members.find((member) => member.keep) ?? group.members[0];
    this.title.replaceChildren(`Group ${(place + 1).toLocaleString("en")} of ${total.toLocaleString("en")}`, h("span", { class: `state ${group.state}` }, STATES[group.state]));
    this.facts.textContent = `${plural(group.members.length, "image")}, weakest score ${scoreText(group.score)}`;
    this.members.className = `members ${mode !== "side" ? "small" : group.members.length <= FEW ? "few" : ""}`;
    this.members.style.setProperty("--n", Math.min(group.members.length, 6));
    this.members.replaceChildren(...group.members.map((member, at) => this.card(member, at, { keeper, mode, isCompared: at === other, isTicked: ticked.has(member.item.id) })));
    this.compare.show(mode, keeper.item, group.members[other].item);
  }

  card(member, at, { keeper, mode, isCompared, isTicked }) {
    const { item, keep, score, edit, reason, bytes } = member;
    const name = printable(item.name);
    const best = keeper.item;
    const isSmaller = item.width * item.height < best.width * best.height;
    const picture = item.has_image
      ? h("img", { src: thumbnail(item.id, 512), alt: `Image ${at + 1}: ${name}`, width: item.width, height: item.height, decoding: "sync" })
      : h("span", { class: "blank" }, "The image file is not at hand.");
    return h("li", { class: ["member", keep && "keep", mode !== "side" && isCompared && "compared", isTicked && "ticked"].filter(Boolean).join(" ") },
      h("button", { type: "button", class: "picture", "aria-pressed": String(keep), "aria-label": `Keep image ${at + 1}: ${name}`, title: `Keep this one (${at + 1}); Ctrl+click keeps several`, onclick: (event) => this.on.keep(item, !(event.ctrlKey || event.metaKey)) },
        picture, h("kbd", { "aria-hidden": "true" }, String(at + 1)), h("span", { class: "tag" }, keep ? "keep" : "copy")),
      h("div", { class: "about" },
        h("span", { class: "name" }, wrapped(item.name)),
        h("span", { class: isSmaller ? "dim" : "" }, `${item.width} × ${item.height}, ${shownBytes(bytes)}`),
        h("span", {}, score !== null && score !== undefined && h("span", { class: "score" }, scoreText(score)), " ", edit && h("span", { class: "edit" }, printable(edit))),
        reason && h("span", { class: "dim" }, printable(reason)),
        h("span", { class: "member-actions" },
          h("label", { class: "check" }, h("input", { type: "checkbox", checked: isTicked, onchange: () => this.on.tick(item), "aria-label": `Image ${at + 1} does not belong to this group` }), "split off"),
          h("button", { type: "button", class: "plain", "aria-label": `Details of image ${at + 1}`, onclick: () => this.on.details(item) }, "Details"))));
  }
}

// Loads the pictures of the groups that come next, so that they are shown at once.
export function prefetch(groups, place) {
  for (let k = place; k <= place + AHEAD; k++) {
    for (const { item } of groups.at(k)?.members.slice(0, 9) ?? []) {
      if (!item.has_image || loaded.has(item.id)) continue;
      const image = new Image();
      image.src = thumbnail(item.id, 512);
      loaded.set(item.id, image);
    }
  }
  while (loaded.size > 200) loaded.delete(loaded.keys().next().value);
}
