// The success curve: share correct over the steps taken, with Wilson intervals; each point is a button that shows its step on the
// stage. Payload: see explorer/views/success.py. What it does not do: sample, or put counts into words; Python does.

import { el, interval, percent, perFrame, plural, samplingText, setAttr, setText, uid } from "./tokens.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 210;
const PAD = { left: 58, right: 58, top: 14, bottom: 40 };
const NARROW = { ...PAD, left: 52, right: 34 };
const NARROW_PX = 500; // a chart narrower than this has short labels, which need less room
const GLYPH_PX = 7.2; // of a label; a label stands between its point and the next
const DOT_PX = 15;
const FORMS = {
  long: ({ correct, n }) => `${correct} of ${n}`,
  short: ({ correct, n }) => `${correct}/${n}`,
  bare: ({ correct }) => String(correct), // the axis then says of how many
};
const BUSY = "sampling";

function shape(tag, attributes = {}, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The stage of this page, if there is one. */
function stage() {
  let node = document.querySelector("[data-view=stage]");
  while (node && !node.lrStage) node = node.parentElement;
  return node?.lrStage ?? null;
}

/** The longest form of label that fits between neighbours `room` px apart, or "none". */
function formFor(points, room) {
  const same = new Set(points.map((point) => point.n)).size === 1;
  const fits = (form) => room >= DOT_PX + GLYPH_PX * Math.max(...points.map((point) => FORMS[form](point).length));
  return Object.keys(FORMS).find((form) => fits(form) && (form !== "bare" || same)) ?? "none";
}

class Chart {
  constructor(onSeek) {
    this.onSeek = onSeek;
    this.svg = shape("svg", { class: "lr-suc-svg", height: HEIGHT, "aria-hidden": "true" });
    this.points = el("ol", { class: "lr-suc-points", "aria-label": "Sampled steps" });
    this.buttons = new Map();
    this.node = el("div", { class: "lr-suc-chart" }, this.svg, this.points);
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  /** `value`: the payload; `shown`: the step on the stage or null. */
  update(value, shown) {
    this.value = value;
    this.shown = shown;
    this.draw();
  }

  draw() {
    const { value } = this;
    const width = this.node.clientWidth;
    if (!value || !width) return;
    const last = Math.max(1, value.steps_total);
    const pad = width < NARROW_PX ? NARROW : PAD;
    const x = (k) => pad.left + ((width - pad.left - pad.right) * k) / last;
    const y = (share) => pad.top + (HEIGHT - pad.top - pad.bottom) * (1 - share);
    const points = value.points.filter((point) => point.n);
    const gaps = points.slice(1).map((point, i) => x(point.k) - x(points[i].k));
    const form = points.length ? formFor(points, Math.min(...gaps, width)) : "none";
    const parts = [];
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(shape("line", { x1: pad.left - 12, x2: width - pad.right + 12, y1: y(share), y2: y(share), class: share ? "lr-suc-grid" : "lr-suc-base" }));
      if (share * 2 === Math.round(share * 2)) parts.push(shape("text", { x: pad.left - 18, y: y(share) + 4, class: "lr-suc-tick", "text-anchor": "end" }, percent(share)));
    }
    // Every step that has a point or will have one is named; the last step too, so that the axis ends somewhere.
    const waiting = value.state === BUSY ? value.planned.filter((k) => !points.some((point) => point.k === k)) : [];
    const named = [...new Set([0, ...points.map((point) => point.k), ...waiting, value.steps_total])].sort((a, b) => a - b);
    let free = -Infinity;
    for (const k of named) {
      if (x(k) - free < 8 && k !== this.shown && k !== value.running) continue;
      parts.push(shape("text", { x: x(k), y: HEIGHT - pad.bottom + 18, class: "lr-suc-tick", "text-anchor": "middle" }, String(k)));
      free = x(k) + 4 * String(k).length;
    }
    parts.push(shape("text", { x: (pad.left + width - pad.right) / 2, y: HEIGHT - 4, class: "lr-suc-tick", "text-anchor": "middle" }, form === "bare" ? `steps taken · numbers: correct of ${points[0].n}` : "steps taken (0 = the unrevised prefix)"));

    if (this.shown !== null && this.shown <= last) {
      const right = x(this.shown) > width / 2;
      parts.push(shape("line", { x1: x(this.shown), x2: x(this.shown), y1: pad.top - 8, y2: y(0), class: "lr-suc-shown" }));
      parts.push(shape("text", { x: x(this.shown) + (right ? -6 : 6), y: pad.top + 1, class: "lr-suc-shown-word", "text-anchor": right ? "end" : "start" }, "on the stage"));
    }
    for (const k of waiting) {
      const here = k === value.running;
      parts.push(shape("line", { x1: x(k), x2: x(k), y1: y(0), y2: y(1), class: here ? "lr-suc-running" : "lr-suc-waiting" }));
      if (here) parts.push(shape("text", { x: x(k), y: y(0.5) + 4, class: "lr-suc-running-word", "text-anchor": "middle" }, value.done === null ? "sampling…" : `${value.done} of ${value.n} done`));
    }
    if (points.length > 1) parts.push(shape("polyline", { points: points.map((point) => `${x(point.k)},${y(point.correct / point.n)}`).join(" "), class: "lr-suc-line" }));
    for (const { k, interval: pair } of points) {
      const [low, high] = pair.map(y);
      parts.push(shape("path", { d: `M${x(k)} ${low}V${high}M${x(k) - 6} ${low}h12M${x(k) - 6} ${high}h12`, class: "lr-suc-whisker" }));
    }
    this.svg.setAttribute("width", width);
    this.svg.replaceChildren(...parts);
    this.#buttons(points, x, y, form);
  }

  #buttons(points, x, y, form) {
    const keys = new Set(points.map((point) => point.k));
    for (const [k, parts] of this.buttons) {
      if (keys.has(k)) continue;
      parts.item.remove();
      this.buttons.delete(k);
    }
    points.forEach((point, i) => {
      if (!this.buttons.has(point.k)) this.buttons.set(point.k, this.#button(point.k));
      const parts = this.buttons.get(point.k);
      if (this.points.children[i] !== parts.item) this.points.insertBefore(parts.item, this.points.children[i] ?? null);
      const shown = point.k === this.shown;
      const share = point.correct / point.n;
      parts.item.style.insetInlineStart = `${x(point.k)}px`;
      parts.item.style.insetBlockStart = `${y(share)}px`;
      setAttr(parts.item, "data-form", form);
      setText(parts.label, (FORMS[form] ?? FORMS.short)(point));
      setAttr(parts.button, "aria-current", shown ? "step" : null);
      const loops = point.degenerate ? `, ${point.degenerate} in loops` : "";
      const start = point.k === 0 ? " (the unrevised prefix)" : "";
      const words = `Step ${point.k}${start}: ${point.correct} of ${point.n} correct, 95 % interval ${interval(point.interval)}${loops}`;
      setAttr(parts.button, "aria-label", `${words}. Show this step`);
      setAttr(parts.button, "title", words);
    });
  }

  #button(k) {
    const label = el("span", { class: "lr-suc-label lr-num", "aria-hidden": "true" });
    const button = el("button", { type: "button", class: "lr-suc-point", on: { click: () => this.onSeek(k) } }, el("span", { class: "lr-suc-dot", "aria-hidden": "true" }));
    return { label, button, item: el("li", {}, button, label) };
  }
}

class Success {
  constructor(root, trigger) {
    this.trigger = trigger;
    this.shown = null;
    const why = uid("suc");
    this.explain = el("p", { class: "lr-quiet", id: why });
    this.start = el("button", { type: "button", class: "lr-button", "aria-describedby": why, on: { click: () => this.#start() } });
    this.cancel = el("button", { type: "button", class: "lr-button", text: "Cancel", on: { click: () => this.#cancel() } });
    this.fill = el("div", { class: "lr-progress-fill" });
    this.track = el("div", { class: "lr-progress-track", role: "progressbar", "aria-valuemin": "0", "aria-label": "Continuations finished" }, this.fill);
    this.count = el("span", { class: "lr-num" });
    this.progress = el("div", { class: "lr-progress" }, this.track, this.count);
    this.note = el("div", { class: "lr-note" });
    this.chart = new Chart((k) => stage()?.setPoint(k));
    this.ghost = el("div", { class: "lr-suc-ghost" }, el("strong", { text: "At which step does the problem become solvable?" }), el("span", { class: "lr-suc-ghost-words" }));
    this.plot = el("div", { class: "lr-suc-plot" }, this.chart.node, this.ghost);
    this.sentence = el("p", { class: "lr-suc-sentence", role: "status" });
    this.legend = el("p", { class: "lr-quiet lr-num" });
    this.title = el("h3", { class: "lr-title", text: "Success over the steps" });
    this.words = el("div", { class: "lr-suc-actions" }, this.start, this.cancel, this.explain);
    this.none = el("p", { class: "lr-quiet", text: "Once steps are taken, this is where continuations from several of them show at which step the problem becomes solvable." });
    this.body = el("div", { class: "lr-suc-body" }, this.words, this.progress, this.note, this.plot, this.sentence, this.legend);
    root.replaceChildren(el("section", { class: "lr-success", "aria-label": "Success curve" }, this.title, this.none, this.body));
  }

  #start() {
    if (this.value?.why_not || this.value?.state === BUSY) return;
    this.trigger("curve", { run_id: this.value?.run_id });
  }

  #cancel() {
    if (this.stopping) return;
    this.stopping = true;
    setAttr(this.cancel, "aria-disabled", "true");
    setText(this.cancel, "Stopping…");
    this.trigger("cancel", {});
  }

  /** The stage shows another step. */
  point({ run_id, point, role } = {}) {
    if (role === "b" || !Number.isInteger(point)) return;
    this.at = { run_id, point };
    if (this.value) this.#draw();
  }

  #draw() {
    const { value, at } = this;
    const mine = at && (!value.run_id || !at.run_id || at.run_id === value.run_id);
    this.chart.update(value, mine ? at.point : null);
  }

  render(value) {
    const busy = value?.state === BUSY;
    if (busy && this.value?.state !== BUSY) this.stopping = false;
    this.value = value;
    this.none.hidden = Boolean(value);
    this.body.hidden = !value;
    if (!value) return;
    const any = value.points.some((point) => point.n);
    setText(this.start, any ? "Sample the curve anew" : "Sample a success curve");
    setAttr(this.start, "aria-disabled", value.why_not ? "true" : null);
    const focused = document.activeElement;
    this.start.hidden = busy;
    this.cancel.hidden = !busy;
    if (focused === this.start && busy) this.cancel.focus();
    if (focused === this.cancel && !busy) this.start.focus();
    setAttr(this.cancel, "aria-disabled", this.stopping ? "true" : null);
    setText(this.cancel, this.stopping ? "Stopping…" : "Cancel");
    // What a press would draw is the slider's, which Python hears of with the press.
    const each = busy ? `${plural(value.n, "continuation")} from each of ${value.planned.length || "up to 6"} steps` : "From each of up to 6 steps as many continuations as “Continuations n” says";
    const what = `${each}, at the same budget; the unrevised prefix is step 0.`;
    setText(this.explain, value.why_not || what);

    this.progress.hidden = !busy;
    const total = value.planned.length * value.n;
    const before = Math.max(0, value.planned.indexOf(value.running)) * value.n;
    const done = before + (value.done ?? 0);
    this.fill.style.inlineSize = `${total ? (100 * done) / total : 0}%`;
    setAttr(this.track, "aria-valuemax", total || value.n);
    setAttr(this.track, "aria-valuenow", done);
    const where = value.running === null ? "Starting…" : value.done === null ? `Sampling step ${value.running}` : `Step ${value.running}: ${value.done} of ${value.n} finished`;
    setText(this.count, value.planned.length && value.running !== null ? `${where} · step ${value.planned.indexOf(value.running) + 1} of ${value.planned.length} on the curve` : where);

    const off = value.state === "cancelled" || value.state === "failed";
    this.note.hidden = !(value.message || off);
    setAttr(this.note, "data-kind", value.state);
    setText(this.note, value.message || `${value.state === "failed" ? "Sampling failed" : "Stopped"}. The finished steps are kept.`);

    this.ghost.hidden = any || busy;
    setText(this.ghost.lastChild, value.why_not ? "This run holds no continuations of its steps." : `Each step’s share of correct continuations will stand here, from step 0 to step ${value.steps_total}.`);
    setText(this.sentence, busy ? "" : value.sentence.replace(/(?<=\d)–(?=\d)/g, "–\u2060")); // an interval stays on one line
    this.sentence.hidden = !this.sentence.textContent;
    setText(this.legend, any ? `Dot: share correct. Whisker: Wilson 95 % interval. Choose a point to see its step on the stage. Sampled at ${samplingText({ ...value.sampling, n: null })}` : "");
    this.legend.hidden = !any;
    this.#draw();
  }
}

let forget = null;

/**
 * Gradio calls this once per component. `props.value`: null or {run_id, state, n, points, running, done, planned, steps_total, sampling,
 * sentence, message, why_not}. Emits 'curve' {} and 'cancel' {}. Listens to the document event "lr-point" {run_id, point, role}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Success(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  forget?.();
  const moved = (event) => view.point(event.detail ?? {});
  document.addEventListener("lr-point", moved);
  forget = () => document.removeEventListener("lr-point", moved);
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
  return forget;
}
