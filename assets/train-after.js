// What came of a training: held-out accuracy before and after, evaluations of the trained model beside its parent, and loading either.
// Payload: see explorer/views/train.py (after_payload). What it does not do: count; Python does.

import { el, interval, percent, rateBar, setAttr, setText, uid } from "./tokens.js";
import { setMode } from "./watch.js";

const SIDES = { parent: "the parent", trained: "the trained model" };

/** A rate as a bar with its whisker, named, and with its count. */
function rate({ name, value, interval: pair, of }) {
  const bar = rateBar();
  bar.update(value, 1, pair);
  setAttr(bar.node, "aria-label", `${name}: ${percent(value)}, ${of}, 95 % interval ${interval(pair)}`);
  return el("div", { class: "lr-fam-line" }, el("span", { text: name }), bar.node, el("span", { class: "lr-num lr-fam-count", text: `${percent(value)} (${interval(pair)})` }), el("span", { class: "lr-ta-of lr-num", text: of }));
}

export class After {
  /** `evaluate({side, …})`, `load(side)`, and `end(job)`, `resume(job)` of an evaluation. */
  constructor({ evaluate, load, end, resume }) {
    this.load = ["trained", "parent"].map((side) => {
      const node = el("button", { type: "button", class: `lr-button${side === "trained" ? " lr-primary" : ""}`, on: { click: () => node.getAttribute("aria-disabled") || load(side) } });
      node.dataset.side = side;
      return node;
    });
    this.run = el("button", { type: "button", class: "lr-button lr-link", text: "Run it yourself", on: { click: () => setMode("make") } });
    this.loaded = el("span", { class: "lr-quiet" });
    this.looks = el("div", { class: "lr-ta-sides" });
    const [set, n, limit, why] = ["set", "n", "limit", "why"].map((name) => uid(`ta-${name}`));
    this.set = el("select", { id: set, class: "lr-field" });
    this.n = el("input", { id: n, class: "lr-field", type: "number", min: 1, max: 256, value: 8 });
    this.limit = el("input", { id: limit, class: "lr-field", type: "number", min: 1, placeholder: "all" });
    const labelled = (id, text, node) => el("div", { class: "lr-hf-row" }, el("label", { for: id, class: "lr-hf-label", text }), node);
    const whole = (input) => (input.value === "" ? null : Number(input.value));
    this.measure = ["parent", "trained"].map((side) =>
      el("button", { type: "button", class: "lr-button", text: `Evaluate ${SIDES[side]}`, "aria-describedby": why, on: { click: ({ currentTarget }) => currentTarget.getAttribute("aria-disabled") || evaluate({ side, problems: this.set.value, rollouts: whole(this.n), limit: whole(this.limit) }) } }),
    );
    this.form = el("div", { class: "lr-ta-form" }, labelled(set, "Problem set", this.set), labelled(n, "N, rollouts of each", this.n), labelled(limit, "Only the first …", this.limit), ...this.measure);
    this.why = el("p", { id: why, class: "lr-quiet", text: "Both with the same settings and seeds, one after the other. Problems that were trained on are counted apart. On a CPU the whole bank takes some minutes." });
    this.jobWords = el("span", { role: "status" });
    this.jobButton = el("button", { type: "button", class: "lr-button", on: { click: () => (this.job.alive ? end(this.job.id) : resume(this.job.id)) } });
    this.running = el("div", { class: "lr-note lr-ta-job" }, this.jobWords, this.jobButton);
    this.comparison = el("p", { class: "lr-hunt-words lr-num" });
    this.sides = el("div", { class: "lr-ta-sides" });
    this.about = el("p", { class: "lr-quiet lr-num" });
    this.node = el(
      "section",
      { class: "lr-ta", "aria-label": "What came of it" },
      el("div", { class: "lr-ta-load" }, ...this.load, this.loaded, this.run),
      el("h3", { class: "lr-title", text: "Before and after" }),
      this.looks,
      this.form,
      this.why,
      this.running,
      this.comparison,
      this.sides,
      this.about,
    );
    this.node.hidden = true;
  }

  /** `busy`: another job runs, so no evaluation can begin. */
  render(value, busy) {
    this.node.hidden = !value;
    if (!value) return;
    const [trained, parent] = this.load;
    setText(trained, "Load the trained model");
    setText(parent, `Load its parent, ${value.parent}`);
    for (const node of this.load) setAttr(node, "aria-disabled", (value.loaded || value.loading) === node.dataset.side ? "true" : null);
    const has = value.loading ? `The page is loading ${SIDES[value.loading]}.` : value.loaded ? `The page has ${SIDES[value.loaded]}.` : "";
    setText(this.loaded, has || `It is made of ${value.parent}.`);
    const key = JSON.stringify(value.sets);
    if (key !== this.key) this.set.replaceChildren(...value.sets.map(({ value: set, label }) => el("option", { value: set, text: label })));
    this.key = key;
    this.looks.hidden = value.held_out.length < 2;
    this.looks.replaceChildren(
      ...value.held_out.map(({ update, x, n, interval: pair }, i) => el("div", { class: "lr-fam-card" }, el("h4", { class: "lr-fam-name", text: i ? `After ${update} updates` : "Before" }), rate({ name: "Held-out problems right", value: n ? x / n : 0, interval: pair, of: `${x} of ${n}, one rollout each, never trained on` }))),
    );
    for (const node of this.measure) setAttr(node, "aria-disabled", busy ? "true" : null);
    const job = (this.job = value.evaluating);
    this.running.hidden = !job;
    setAttr(this.running, "data-kind", job && ["failed", "died"].includes(job.state) ? "failed" : null);
    setText(this.jobWords, job ? `Evaluation of ${SIDES[job.side]}: ${job.said.toLowerCase()}. ${job.last}` : "");
    setText(this.jobButton, job?.alive ? "Cancel" : "Go on");
    setAttr(this.jobButton, "aria-disabled", job && !job.alive && busy ? "true" : null);
    setText(this.comparison, value.comparison);
    this.comparison.hidden = !value.comparison;
    this.sides.replaceChildren(...value.sides.map(({ model, rates }) => el("article", { class: "lr-fam-card" }, el("h4", { class: "lr-fam-name", text: model }), ...rates.map(rate))));
    this.sides.hidden = !value.sides.length;
    setText(this.about, value.about);
    this.about.hidden = !value.about;
  }
}
