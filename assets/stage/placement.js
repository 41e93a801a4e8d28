// Where the moving points stand on the map, said honestly: the switch between the two placements, one sentence for each,
// the facts about distance, and what is shown while there is no map. What it does not do: compute places (hull.js does).

import { h, hint, num, percent, setAttr, setText } from "./dom.js";

const SENTENCE = {
  hull: "A point stands at the same mixture of map places as its embedding is of embeddings: a step of γ is visibly γ of the way to its vertex.",
  joint: "UMAP placed the neighbourhood and all steps together, so a point stands near what UMAP finds alike; straight steps may look bent.",
};

/** The payload's joint fit as a scene's parts, its axes scaled into [-1, 1]; null unless it is ready. */
export function jointScene(joint) {
  if (joint?.state !== "ready" || !joint.points?.length) return null;
  const all = joint.points.flat().concat((joint.neighbours ?? []).map(([, x, y]) => [x, y]));
  const range = (axis) => {
    let low = Infinity, high = -Infinity;
    for (const p of all) {
      low = Math.min(low, p[axis]);
      high = Math.max(high, p[axis]);
    }
    return { middle: (low + high) / 2, half: (high - low) / 2 || 1 };
  };
  const [rx, ry] = [range(0), range(1)];
  const place = (x, y) => [(x - rx.middle) / rx.half, (y - ry.middle) / ry.half];
  const places = joint.points.map((row) => Float32Array.from(row.flatMap(([x, y]) => place(x, y))));
  const neighbours = (joint.neighbours ?? []).map(([id, x, y]) => ({ id, at: place(x, y) }));
  const byId = new Map(neighbours.map((n) => [n.id, n.at]));
  return { places, coords: Float32Array.from(neighbours.flatMap((n) => n.at)), ids: neighbours.map((n) => n.id), placeOf: (id) => byId.get(id) ?? null };
}

export class Placement {
  /** `onPick("hull" | "joint")` chooses what is shown; `onAsk()` asks Python for the joint fit. */
  constructor({ onPick, onAsk }) {
    const button = (name, label) => h("button", { type: "button", role: "radio", "aria-checked": "false", class: "lr-s-seg", on: { click: () => this.#press(name) } }, label);
    Object.assign(this, { onPick, onAsk });
    this.buttons = { hull: button("hull", "By hull weights"), joint: button("joint", "As UMAP sees it") };
    this.group = h("div", { class: "lr-s-segments", role: "radiogroup", "aria-label": "Placement of the moving points" }, ...Object.values(this.buttons));
    this.group.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key)) return;
      const other = this.buttons[document.activeElement === this.buttons.hull ? "joint" : "hull"];
      other.focus();
      // An arrow chooses what is there; a fit takes a while and begins only when it is pressed for.
      if (other === this.buttons.hull || this.state === "ready") other.click();
      event.preventDefault();
      event.stopPropagation();
    });
    this.bar = h("progress", { class: "lr-s-progress", max: "1", hidden: true, "aria-label": "Fitting the neighbourhood and all steps together" });
    this.sentence = h("p", { class: "lr-s-place-sentence", "aria-live": "polite" });
    this.el = h("div", { class: "lr-s-placement", "data-tour": "placement" }, h("div", { class: "lr-s-place-row" }, this.group, this.bar), this.sentence);
    this.honesty = h("p", { class: "lr-s-honesty" });
    this.cautionSign = h("span", { class: "lr-s-caution-sign", "aria-hidden": "true" });
    this.cautionText = h("span");
    this.caution = h("p", { class: "lr-s-caution", "data-tour": "honesty" }, this.cautionSign, this.cautionText, hint("Compares, over all positions at the shown point, the straight distance travelled on the map with the L2 distance moved in the full space, by Spearman's rank correlation: 1 means the same order, 0 no relation. Warned of below 0.5, or when one position's place in the two orders lies half the field apart."));
  }

  #press(name) {
    if (name === "joint" && this.state !== "ready") {
      if (this.canAsk) this.onAsk();
    } else this.onPick(name);
  }

  /** {placement, joint, live, running, S, trustworthiness, kept, neighbours, moved: {mean, max} | null, distance: {warn, text} | null, point, waiting} */
  show(s) {
    this.state = s.joint?.state ?? "absent";
    this.canAsk = s.live && !s.running && s.S > 0 && !s.waiting && this.state !== "fitting";
    const fitting = this.state === "fitting" || s.waiting;
    for (const [name, el] of Object.entries(this.buttons)) {
      setAttr(el, "aria-checked", s.placement === name ? "true" : "false");
      setAttr(el, "tabindex", s.placement === name ? "0" : "-1");
    }
    setAttr(this.buttons.joint, "aria-disabled", this.state === "ready" || this.canAsk ? null : "true");
    setText(this.buttons.joint, this.state === "ready" ? "As UMAP sees it" : fitting ? "UMAP is fitting…" : "As UMAP sees it · fit");
    const why = this.state === "ready" ? "" : !s.live ? "This recorded run has no joint fit." : s.running ? "Wait until the steps are computed." : s.S ? "Fits the neighbourhood and all steps together; takes some seconds." : "Needs at least one step.";
    setAttr(this.buttons.joint, "title", why || null);
    this.bar.hidden = !fitting;
    if (fitting) {
      if (Number.isFinite(s.joint?.progress) && s.joint.progress > 0) this.bar.value = s.joint.progress;
      else this.bar.removeAttribute("value");
    }
    const said = fitting ? s.joint?.message || "UMAP is fitting the neighbourhood and all steps together; the map stays usable meanwhile." : this.state === "failed" ? `The joint fit failed: ${s.joint.message || "no reason was given"}. ${SENTENCE.hull}` : SENTENCE[s.placement];
    setText(this.sentence, s.placement === "joint" && !fitting && s.joint?.message ? `${said} ${s.joint.message}` : said);
    const kept = Number.isFinite(s.kept) ? `; it keeps ${percent(s.kept)} of each token's ${s.neighbours ?? "nearest"} true neighbours` : "";
    const trust = Number.isFinite(s.trustworthiness) ? `Trustworthiness of this map ${num(s.trustworthiness, 2)} of 1${kept}. ` : "";
    const moved = s.moved ? ` Moved in the full space at point ${s.point}: mean ${num(s.moved.mean, 2)}, max ${num(s.moved.max, 2)}.` : "";
    this.caution.classList.toggle("lr-s-caution-on", Boolean(s.distance?.warn));
    this.caution.classList.toggle("lr-s-caution-none", !s.distance);
    setText(this.cautionSign, s.distance?.warn ? "⚠" : "✓");
    setText(this.cautionText, s.distance?.text ?? "");
    setText(this.honesty, `${trust}2-D distance is not true distance.${moved}`);
    setAttr(this.honesty, "title", "Trustworthiness: how far neighbours on the map can be believed (1 = all of them are neighbours in the full space as well). Moved: L2 distance from the start in the model's embedding space.");
  }
}

/** What stands in the map's place while there is none: designed, with the progress and what will be there. */
export class MapNotice {
  constructor() {
    this.head = h("p", { class: "lr-s-notice-head" });
    this.body = h("p", { class: "lr-s-notice-body" });
    this.bar = h("progress", { class: "lr-s-progress", max: "1", "aria-label": "Building the map" });
    this.el = h("div", { class: "lr-s-map-notice", role: "status", hidden: true }, this.head, this.bar, this.body);
  }

  /** `status` as the payload's map_status, or {state: "loading" | "ready" | "broken", message}. */
  show({ state, progress, message }) {
    this.el.hidden = state === "ready";
    if (state === "ready") return;
    const busy = state === "building" || state === "loading";
    const words = {
      building: ["Drawing the map of this model's vocabulary", "UMAP is laying out every token once; the result is kept for next time. Tokens, weights and curves work meanwhile."],
      loading: ["Loading the map", ""],
      failed: ["No map for this model", "The layout could not be computed. Everything else works."],
      broken: ["The map could not be loaded", "Everything else works."],
      absent: ["No map for this model yet", "It is built once the model is loaded. Everything else works."],
    }[state] ?? ["No map", ""];
    setText(this.head, words[0]);
    setText(this.body, message || words[1]);
    this.bar.hidden = !busy;
    if (busy && progress > 0) this.bar.value = progress;
    else this.bar.removeAttribute("value");
  }
}
