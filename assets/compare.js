// Before and after: is it a rescue? Three starts (revised, projected, original) at the same budget as rates on one axis, then the failed
// rollout beside one continuation, aligned at the first token where they part. Payload: see `mount`.
// What it does not do: judge, count or sample; Python does. Lengths and markers count what comes after the prefix, on both sides.

import { el, interval, number, perFrame, plural, rateAxis, rateBar, samplingText, setAttr, setText, VERDICTS } from "./tokens.js";
import { SideBySide } from "./compare-texts.js";

const BUSY = new Set(["sampling", "judging"]);
const NAMES = { revised: "Revised", projected: "Projected", original: "Unrevised" };

/** {wait: 2, hmm: 1} → 3 */
function total(markers) {
  return Object.values(markers ?? {}).reduce((sum, count) => sum + count, 0);
}

/** One arm: what it continued, its rate on the common axis, what else was counted. */
class ArmRow {
  constructor() {
    this.name = el("h4", { class: "lr-arm-name" });
    this.explanation = el("p", { class: "lr-quiet" });
    this.rate = rateBar();
    this.count = el("strong", { class: "lr-num" });
    this.interval = el("span", { class: "lr-quiet lr-num" });
    this.cells = ["Cut at the limit", "Degenerate", "Mean length, tokens", "Reflection markers"].map((label) => {
      const value = el("dd", { class: "lr-num" });
      return { node: el("div", { class: "lr-fact" }, el("dt", { text: label }), value), value };
    });
    this.node = el(
      "li",
      { class: "lr-arm" },
      el("div", { class: "lr-arm-words" }, this.name, this.explanation),
      el("div", { class: "lr-arm-rate" }, el("div", { class: "lr-arm-count" }, this.count, this.interval), this.rate.node),
      el("dl", { class: "lr-facts" }, ...this.cells.map((cell) => cell.node)),
    );
  }

  update(arm, before, busy) {
    setAttr(this.node, "data-start", arm.start);
    setText(this.name, arm.label || NAMES[arm.start]);
    setText(this.explanation, arm.explanation ?? "");
    const judged = (arm.correct ?? 0) + (arm.wrong ?? 0) + (arm.unjudged ?? 0);
    this.rate.update(arm.correct, judged, judged ? arm.interval : null); // of nothing it would be 0 to 100 %
    setText(this.count, judged ? `${arm.correct} of ${judged} ${arm.correct ? `${VERDICTS.correct.sign} ` : ""}correct` : `Not ${arm.done ? "judged" : "sampled"}${busy ? " yet" : ""}`);
    setText(this.interval, [judged && arm.interval ? `95 % interval ${interval(arm.interval)}` : "", arm.done < arm.n ? `${arm.done} of ${arm.n} finished` : ""].filter(Boolean).join(" · "));
    const any = arm.done > 0;
    const [cut, degenerate, length, markers] = this.cells;
    setText(cut.value, any ? String(arm.truncated) : "–");
    setText(degenerate.value, any ? String(arm.degenerate) : "–");
    setText(length.value, any && arm.mean_tokens != null ? `${before.n_tokens} → ${number(arm.mean_tokens, 0)}` : "–");
    setText(markers.value, any && arm.markers_per_rollout != null ? `${total(before.markers)} → ${number(arm.markers_per_rollout, 1)}` : "–");
  }
}

class Compare {
  constructor(root, trigger) {
    this.rows = [];
    this.side = new SideBySide((start, index) => trigger("show", { start, index }));
    this.empty = el(
      "div",
      { class: "lr-empty" },
      el("div", { class: "lr-ghost-arms", "aria-hidden": "true" }, ...[64, 38, 12].map((w) => el("span", { style: `inline-size:${w}%` }))),
      el("strong", { text: "No continuations yet" }),
      el("span", { text: "After a revision, sample from the revised prefix, from its nearest real tokens and from the untouched prefix: the same number each, so that luck and method can be told apart." }),
    );
    this.headline = el("div", { class: "lr-headline", role: "status", "aria-live": "polite" });
    this.caveat = el("p", { class: "lr-cmp-caveat" });
    this.settings = el("p", { class: "lr-quiet lr-num" });
    this.fill = el("div", { class: "lr-progress-fill" });
    this.track = el("div", { class: "lr-progress-track", role: "progressbar", "aria-valuemin": "0", "aria-label": "Continuations finished" }, this.fill);
    this.count = el("span", { class: "lr-num" });
    this.progress = el("div", { class: "lr-progress" }, this.track, this.count);
    this.note = el("div", { class: "lr-note" });
    this.arms = el("ul", { class: "lr-arms", "aria-label": "Share correct from each start, at the same budget" });
    this.axis = el("div", { class: "lr-arms-axis", "aria-hidden": "true" }, rateAxis());
    this.budget = el("p", { class: "lr-quiet" });
    this.body = el(
      "div",
      { class: "lr-compare" },
      el("div", { class: "lr-cmp-head" }, this.headline, this.caveat, this.settings),
      this.progress,
      this.note,
      el("div", { class: "lr-arms-box" }, this.arms, this.axis, this.budget),
      this.side.node,
    );
    root.replaceChildren(this.empty, this.body);
  }

  render(value) {
    this.empty.hidden = Boolean(value);
    this.body.hidden = !value;
    if (!value) {
      this.side.reset();
      this.state = this.signature = null;
      return;
    }
    const signature = JSON.stringify([value.step, value.sampling, value.before.prefix, value.before.continuation]);
    if (signature !== this.signature || (value.state === "sampling" && !BUSY.has(this.state))) this.side.reset();
    this.signature = signature;
    this.state = value.state;
    const { state, arms, rescue } = value;
    const busy = BUSY.has(state);
    const done = arms.reduce((sum, arm) => sum + arm.done, 0);
    const wanted = arms.reduce((sum, arm) => sum + arm.n, 0);

    setText(this.headline, headline(value, wanted));
    setText(this.caveat, rescue?.caveat ?? "");
    this.caveat.hidden = !rescue?.caveat;
    const sampling = samplingText({ ...value.sampling, n: null });
    setText(this.settings, `Continued from step ${value.step} of ${value.steps_total}${sampling ? ` · ${sampling}` : ""}`);

    this.progress.hidden = !busy;
    this.fill.style.inlineSize = `${wanted ? (100 * done) / wanted : 0}%`;
    setAttr(this.track, "aria-valuemax", wanted);
    setAttr(this.track, "aria-valuenow", done);
    setText(this.count, state === "judging" ? `Checking ${plural(wanted, "answer")}` : `${done} of ${wanted} finished`);

    this.note.hidden = !(value.message || state === "cancelled" || state === "failed");
    setAttr(this.note, "data-kind", state);
    setText(this.note, value.message || `${state === "failed" ? "Sampling failed" : "Stopped"}. What was finished is kept and counted.`);

    for (const row of this.rows.splice(arms.length)) row.node.remove();
    arms.forEach((arm, i) => {
      if (!this.rows[i]) {
        this.rows[i] = new ArmRow();
        this.arms.append(this.rows[i].node);
      }
      this.rows[i].update(arm, { ...value.before, n_tokens: value.before.continuation.length }, busy);
    });
    setText(this.budget, `${budget(arms, busy)} Bar: share correct. Whisker: Wilson 95 % interval; where whiskers overlap much, the difference may be luck. Lengths and markers (“wait”, “let me check”): failed rollout → mean per continuation, both counted after the prefix.`);
    this.side.render(value);
  }
}

/** Rates are comparable only at the same number of continuations: say whether they are. */
function budget(arms, busy) {
  if (arms.length < 2) return "";
  const counts = arms.map((arm) => (busy ? arm.n : arm.done));
  if (counts.every((count) => count === counts[0])) return `The same budget for each: ${plural(counts[0], "continuation")}.`;
  return `Not the same budget: ${counts.join(", ")} continuations were finished, so the rates are no fair comparison.`;
}

function headline(value, wanted) {
  if (value.rescue) return value.rescue.sentence;
  return {
    sampling: `Sampling ${plural(wanted, "continuation")}…`,
    judging: `Checking ${plural(wanted, "answer")}…`,
    cancelled: "Stopped before there was enough to say whether this is a rescue.",
    failed: "Sampling failed.",
  }[value.state] ?? "Sampled; no statement on rescue.";
}

/**
 * Gradio calls this once per component. `props.value`: null or {state, message, step, steps_total, n, sampling, answer, before, arms, rescue}.
 * Emits 'show' {start, index} when the reader picks another continuation.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Compare(element.querySelector(".lr-root") ?? element, trigger);
  const update = perFrame(() => view.render(props.value ?? null));
  watch("value", update);
  view.render(props.value ?? null);
}
