// A training's curves as small multiples with one cursor over all of them, what it samples, and held-out texts before and after.
// Payload: see explorer/views/train.py (curves_payload). What it does not do: smooth or count; Python does.

import { badge, el, interval, number, percent, perFrame, setAttr, setText } from "./tokens.js";
import { shownCurves } from "./train.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [260, 120];
const PAD = { left: 38, right: 8, top: 8, bottom: 20 };

function shape(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const told = ({ share, unit }, value) => (share ? percent(value) : `${Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3))}${unit ? ` ${unit}` : ""}`);

/** Round ends of an axis that holds the values of a curve and 0; its middle is round too. */
function range({ share, points }) {
  if (share) return [0, 1];
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
  const size = Math.max(high, -low) || 1;
  const unit = 10 ** Math.floor(Math.log10(size));
  const most = [1, 2, 4, 6, 8, 10].find((step) => step * unit >= size) * unit;
  return [low < 0 ? -most : 0, high > 0 || low === 0 ? most : 0];
}

class Chart {
  constructor(point) {
    this.name = el("h4", { class: "lr-fam-name" });
    this.now = el("span", { class: "lr-num lr-tc-now" });
    this.what = el("p", { class: "lr-quiet" });
    this.svg = shape("svg", { class: "lr-curve lr-tc", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0" });
    this.node = el("article", { class: "lr-fam-card" }, el("div", { class: "lr-tc-head" }, this.name, this.now), this.svg, this.what);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * WIDTH;
      point(((x - PAD.left) / (WIDTH - PAD.left - PAD.right)) * this.updates);
    });
    this.svg.addEventListener("pointerleave", () => point(null));
    this.svg.addEventListener("blur", () => point(null));
    this.svg.addEventListener("keydown", (event) => {
      const all = this.curve.points.map(([update]) => update);
      const at = this.at === null || this.at === undefined ? all.length - 1 : this.at;
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      point(all[Math.max(0, Math.min(all.length - 1, to))]);
    });
  }

  render(curve, updates) {
    Object.assign(this, { curve, updates });
    const [low, high] = range(curve);
    const x = (update) => PAD.left + ((WIDTH - PAD.left - PAD.right) * update) / updates;
    const y = (value) => PAD.top + (HEIGHT - PAD.top - PAD.bottom) * (1 - (value - low) / (high - low));
    this.place = { x, y };
    const line = (points) => points.map(([update, value]) => `${x(update).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const parts = [low, (low + high) / 2, high].flatMap((value) => [
      shape("line", { x1: PAD.left, x2: WIDTH - PAD.right, y1: y(value), y2: y(value), class: value === low ? "lr-curve-base" : "lr-curve-grid" }),
      shape("text", { x: PAD.left - 5, y: y(value) + 4, "text-anchor": "end" }, curve.share ? percent(value) : String(Number(value.toPrecision(3)))),
    ]);
    parts.push(shape("text", { x: PAD.left, y: HEIGHT - 5 }, "0"), shape("text", { x: WIDTH - PAD.right, y: HEIGHT - 5, "text-anchor": "end" }, `update ${updates}`));
    parts.push(shape("polyline", { points: line(curve.points), class: curve.mean.length ? "lr-tc-raw" : "lr-curve-line" }));
    if (curve.mean.length) parts.push(shape("polyline", { points: line(curve.mean), class: "lr-curve-line" }));
    curve.points.forEach(([update, value], i) => {
      const whisker = curve.whiskers[i];
      if (whisker) parts.push(shape("line", { x1: x(update), x2: x(update), y1: y(whisker[0]), y2: y(whisker[1]), class: "lr-tc-whisker" }));
      if (whisker || curve.points.length === 1) parts.push(shape("circle", { cx: x(update), cy: y(value), r: 3, class: "lr-curve-dot" }));
    });
    this.cursor = shape("line", { y1: PAD.top, y2: HEIGHT - PAD.bottom, class: "lr-tc-cursor" });
    this.dot = shape("circle", { r: 4, class: "lr-tc-dot" });
    this.svg.replaceChildren(...parts, this.cursor, this.dot);
    setText(this.name, curve.name);
    setText(this.what, curve.what);
    const [first, last] = [curve.points[0], curve.points.at(-1)];
    setAttr(this.svg, "aria-label", `${curve.name}, ${curve.points.length} points: ${told(curve, first[1])} at update ${first[0]}, ${told(curve, last[1])} at update ${last[0]}. Arrow keys walk along it.`);
    this.show(this.shown ?? null);
  }

  /** Put the cursor at the point nearest to an update; null shows the last value, without a cursor. */
  show(update) {
    this.shown = update;
    const { points, whiskers } = this.curve;
    let at = points.length - 1;
    if (update !== null) points.forEach(([one], i) => Math.abs(one - update) < Math.abs(points[at][0] - update) && (at = i));
    this.at = update === null ? null : at;
    const [one, value] = points[at];
    for (const node of [this.cursor, this.dot]) node.setAttribute("visibility", update === null ? "hidden" : "visible");
    if (update !== null) {
      for (const name of ["x1", "x2"]) this.cursor.setAttribute(name, this.place.x(one));
      this.dot.setAttribute("cx", this.place.x(one));
      this.dot.setAttribute("cy", this.place.y(value));
    }
    const spread = whiskers[at] ? `: ${whiskers[at][2]} (${interval(whiskers[at])})` : "";
    setText(this.now, `${told(this.curve, value)}${spread} at update ${one}`);
    if (document.activeElement === this.svg) setText(this.said, `Update ${one}: ${this.curve.name} ${told(this.curve, value)}${spread}`);
  }
}

class Curves {
  constructor(root) {
    this.charts = new Map();
    this.list = el("div", { class: "lr-tc-list" });
    this.said = el("p", { class: "lr-sr-only", "aria-live": "polite" });
    this.head = el("h3", { class: "lr-title" });
    this.sampledHead = el("h3", { class: "lr-title" });
    this.sampled = el("div", { class: "lr-tc-groups lr-tc-sampled" });
    this.textsHead = el("h3", { class: "lr-title", text: "Held-out problems, before and now" });
    this.texts = el("div", { class: "lr-tc-groups" });
    this.node = el("div", { class: "lr-hunt-found" }, this.head, this.list, this.said, this.sampledHead, this.sampled, this.textsHead, this.texts);
    root.replaceChildren(this.node);
    this.node.hidden = true;
  }

  render(value) {
    shownCurves.mark = value?.mark ?? "";
    this.node.hidden = !value?.curves.length && !value?.texts.length;
    if (this.node.hidden) return;
    setText(this.head, "Curves");
    const seen = new Set(value.curves.map(({ key }) => key));
    for (const [key, chart] of this.charts) {
      if (seen.has(key)) continue;
      chart.node.remove();
      this.charts.delete(key);
    }
    value.curves.forEach((curve, i) => {
      if (!this.charts.has(curve.key)) {
        const chart = new Chart((update) => this.charts.forEach((one) => one.show(update)));
        chart.said = this.said;
        this.charts.set(curve.key, chart);
      }
      const chart = this.charts.get(curve.key);
      if (this.list.children[i] !== chart.node) this.list.insertBefore(chart.node, this.list.children[i] ?? null);
      chart.render(curve, value.updates);
    });
    this.#sampled(value.sampled);
    this.#texts(value.texts);
  }

  #sampled(sampled) {
    for (const node of [this.sampledHead, this.sampled]) node.hidden = !sampled;
    const key = JSON.stringify(sampled);
    if (!sampled || key === this.sampledKey) return;
    this.sampledKey = key;
    setText(this.sampledHead, `Sampled last, at update ${sampled.update}`);
    this.sampled.replaceChildren(
      ...sampled.groups.map(({ prompt, members }) => el("article", { class: "lr-fam-card lr-tc-group" }, el("p", { class: "lr-tc-prompt", text: prompt }), el("ol", { class: "lr-tc-members", tabindex: "0", "aria-label": "Completions of this prompt" }, ...members.map((one) => member(one.verdict, `${one.rescued ? "★ rescued trace · " : ""}${one.advantage === null ? "an advantage for each token (RL-ZVP)" : `advantage ${one.advantage > 0 ? "+" : ""}${number(one.advantage, 2)}`}`, one.text))))),
    );
  }

  #texts(texts) {
    for (const node of [this.textsHead, this.texts]) node.hidden = !texts.length;
    const key = JSON.stringify(texts);
    if (key === this.textsKey) return;
    this.textsKey = key;
    this.texts.replaceChildren(
      ...texts.map((one) => el("article", { class: "lr-fam-card lr-tc-group" }, el("p", { class: "lr-tc-prompt", text: one.question }), el("ol", { class: "lr-tc-members", tabindex: "0", "aria-label": "Texts for this problem" }, ...one.texts.map(({ update, text, verdict }) => member(verdict, update ? `at update ${update}` : "before", text))))),
    );
  }
}

function member(verdict, note, text) {
  return el("li", {}, el("div", { class: "lr-tc-line" }, badge(verdict), el("span", { class: "lr-quiet lr-num", text: note })), el("div", { class: "lr-flow", text }));
}

/** Gradio calls this once per component. `props.value`: null or {training, mark, updates, curves, texts, sampled}. Emits nothing. */
export function mount({ element, props, watch }) {
  const view = new Curves(element.querySelector(".lr-root") ?? element);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
  return () => {};
}
