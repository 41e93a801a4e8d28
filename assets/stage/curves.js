// The curves: toward loss, away loss and objective in one plot, the gap in another, with the values at the shown point in
// text. Plotly.js is fetched once, after the map has drawn; without it a plain table says the same.
// What it does not do: redraw a plot when only the shown point moves; the cursor is an element of its own.

import { h, hint, num, setAttr, setText, svg } from "./dom.js";
import { palette } from "./theme.js";

const LR = new URL("../../", import.meta.url);
let library = null;

function loadPlotly() {
  library ??= window.Plotly
    ? Promise.resolve(window.Plotly)
    : new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = new URL("plotly.min.js", LR).href;
        script.onload = () => (window.Plotly ? resolve(window.Plotly) : reject(new Error("plotly.min.js defined no Plotly")));
        script.onerror = () => {
          library = null;
          script.remove();
          reject(new Error("plotly.min.js could not be loaded"));
        };
        document.head.append(script);
      });
  return library;
}

const SERIES = [
  { key: "toward_loss", name: "toward loss", good: "lower is better", color: "toward", dash: "solid", symbol: "circle", plot: 0, unit: "nats/token", say: "How surprised the model is by the gold answer after this prefix: mean negative log-likelihood of the answer's tokens, in nats per token. The revision lowers it." },
  { key: "away_loss", name: "away loss", good: "higher is better", color: "away", dash: "dash", symbol: "square", plot: 0, unit: "nats/token", say: "How surprised the model is by its own failed continuation: mean negative log-likelihood, in nats per token. The revision raises it." },
  { key: "objective", name: "objective", good: "lower is better", color: "ink", dash: "dot", symbol: "diamond", plot: 0, unit: "nats/token", say: "What Frank-Wolfe minimises: toward loss minus λ times away loss, in nats per token." },
  { key: "gap", name: "gap", good: "0 = converged", color: "vertex", dash: "solid", symbol: "triangle-up", plot: 1, unit: "nats/token", say: "The Frank-Wolfe gap, in nats per token: how much the objective would fall on a straight-line estimate if every position went all the way to its vertex. Zero means no vertex helps any more." },
];
const DASH = { solid: "", dash: "6 3", dot: "1.5 2.5" };
const SHAPE = { circle: "M15 2.4a3.6 3.6 0 1 0 .01 0z", square: "M11.8 2.8h6.4v6.4h-6.4z", diamond: "M15 1.6 19.4 6 15 10.4 10.6 6z", "triangle-up": "M15 1.8 19.2 9.4h-8.4z" };

function swatch(series) {
  return svg(
    "svg",
    { viewBox: "0 0 30 12", width: 30, height: 12, "aria-hidden": "true", class: "lr-s-swatch", style: `color: var(--lr-${series.color})` },
    svg("path", { d: "M1 6h28", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": DASH[series.dash], fill: "none" }),
    svg("path", { d: SHAPE[series.symbol], fill: "currentColor" }),
  );
}

export class Curves {
  constructor({ onSeek, onNear }) {
    this.onSeek = onSeek;
    this.onNear = onNear;
    this.values = SERIES.map((series) => {
      const parts = { from: h("td"), now: h("td", { class: "lr-s-v-now" }) };
      parts.el = h("tr", {}, h("th", { scope: "row" }, swatch(series), h("span", { text: series.name }), hint(`${series.say} (${series.good}.)`)), parts.from, parts.now, h("td", { class: "lr-s-v-good", text: series.good }));
      return parts;
    });
    this.nowHead = h("th", { scope: "col" });
    this.table = h(
      "table",
      { class: "lr-s-values" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "lr-s-v-unit", text: "nats per token" }), h("th", { scope: "col", text: "start" }), this.nowHead, h("td"))),
      h("tbody", {}, ...this.values.map((v) => v.el)),
    );
    this.plots = [0, 1].map((i) => {
      const target = h("div", { class: `lr-s-plot lr-s-plot-${i}` });
      const cursor = h("div", { class: "lr-s-plot-cursor", "aria-hidden": "true", hidden: true });
      return { target, cursor, el: h("div", { class: "lr-s-plot-box", role: "img", "aria-label": "The values are in the table above." }, target, cursor) };
    });
    this.note = h("p", { class: "lr-s-curve-note" });
    this.otherNote = h("p", { class: "lr-s-curve-note lr-s-curve-other", hidden: true });
    this.fallback = h("div", { class: "lr-s-curve-table", hidden: true });
    this.el = h("section", { class: "lr-s-card lr-s-curves", "data-tour": "losses", "aria-label": "Losses and gap over the steps" }, h("div", { class: "lr-s-curve-head" }, h("h3", { class: "lr-s-stage-h", text: "Losses and gap" }), this.note), this.table, h("div", { class: "lr-s-plots" }, ...this.plots.map((p) => p.el)), this.otherNote, this.fallback);
    this.resizer = new ResizeObserver(() => {
      // Plotly itself watches the window only, and a comparison changes the width of this column alone.
      for (const { target } of this.plots) if (target._fullLayout && target.clientWidth && Math.abs(target._fullLayout.width - target.clientWidth) > 1) this.plotly.Plots.resize(target);
      this.#moveCursor();
    });
  }

  /** Starts to load Plotly: once the map has drawn, nothing plays and the curves are near the window. It takes the browser's only
      thread for a second where it is slow, which must not be one in which something moves. */
  wake(busy) {
    if (this.waking || busy) return;
    if (!this.near) {
      this.watching ??= new IntersectionObserver(([entry]) => {
        this.near = entry.isIntersecting;
        if (this.near) this.onNear();
      }, { rootMargin: "300px" });
      this.watching.observe(this.el);
      return;
    }
    this.watching.disconnect();
    this.waking = true;
    loadPlotly().then(
      (plotly) => {
        this.plotly = plotly;
        this.resizer.observe(this.plots[0].target);
        this.#draw();
      },
      () => {
        this.waking = false;
        this.failed = true;
        this.#draw();
      },
    );
  }

  /** `steps`, `final` as in the payload; `planned` steps set the axis. */
  setRun(steps, final, planned) {
    const points = steps.concat(final ? [final] : []);
    const stamp = `${steps.length}/${Boolean(final)}/${planned}/${points.at(-1)?.objective}/${points[0]?.objective}`;
    if (stamp === this.stamp) return;
    this.stamp = stamp;
    Object.assign(this, { points, planned, S: steps.length });
    this.#draw();
  }

  /** The run beside this one, or null: {steps, final, sameObjective}. Its lines are drawn thin, hollow and marked B. */
  setOther(other) {
    const points = other ? other.steps.concat(other.final ? [other.final] : []) : [];
    const stamp = other ? `${points.length}/${other.sameObjective}/${points[0]?.objective}/${points.at(-1)?.objective}` : "";
    if (stamp === (this.otherStamp ?? "")) return;
    this.otherStamp = stamp;
    this.other = other ? { points, keys: other.sameObjective ? ["toward_loss", "objective", "gap"] : ["toward_loss"] } : null;
    this.otherNote.hidden = !other;
    if (other) setText(this.otherNote, other.sameObjective ? "Thin lines with hollow marks, ending in B: the toward loss, objective and gap of run B." : "The thin line with hollow marks, ending in B: run B’s toward loss. Its objective and gap weigh the losses differently, so they are not drawn over these.");
    this.#draw();
  }

  #otherLines(i, c) {
    if (!this.other?.points.length) return [];
    const { points, keys } = this.other;
    return SERIES.filter((s) => s.plot === i && keys.includes(s.key)).map((s) => ({
      x: points.map((_, k) => k),
      y: points.map((p) => p[s.key] ?? null),
      name: `${s.name} of B`,
      mode: "lines+markers+text",
      line: { color: c[s.color], dash: "8px,3px,1px,3px", width: 1.2 },
      marker: { color: c[s.color], symbol: `${s.symbol}-open`, size: points.length > 40 ? 4 : 6 },
      text: points.map((_, k) => (k === points.length - 1 ? "<b>B</b>" : "")),
      textposition: "top center",
      textfont: { color: c[s.color], size: 12 },
      hovertemplate: `B: ${s.name} %{y:.3f} ${s.unit}<extra>point %{x}</extra>`,
      cliponaxis: false,
    }));
  }

  show(j) {
    this.j = j;
    const first = this.points?.[0];
    // The losses at the newest point are measured by the step that leaves it: until then the last known ones stand, so labelled.
    const at = Math.min(j, (this.points?.length ?? 1) - 1);
    const now = this.points?.[at];
    setText(this.nowHead, `at point ${Math.max(0, at)}`);
    SERIES.forEach((series, i) => {
      setText(this.values[i].from, num(first?.[series.key]));
      setText(this.values[i].now, num(now?.[series.key]));
    });
    setText(this.note, !this.points?.length ? "Measured by the first step" : at < j ? `Point ${j} is measured by the next step` : "");
    this.#moveCursor();
  }

  themeChanged() {
    this.#draw();
  }

  #draw() {
    if (!this.points) return;
    if (this.failed && !this.plotly) {
      this.#drawTable();
      return;
    }
    if (!this.plotly) return;
    this.fallback.hidden = true;
    for (const plot of this.plots) plot.el.hidden = false;
    const c = palette(this.el);
    const last = Math.max(1, this.planned, this.points.length - 1, (this.other?.points.length ?? 0) - 1);
    this.plots.forEach(({ target, el }, i) => {
      const series = SERIES.filter((s) => s.plot === i);
      const data = series.map((s) => ({
        x: this.points.map((_, k) => k),
        y: this.points.map((p) => p[s.key] ?? null),
        name: s.name,
        mode: "lines+markers",
        line: { color: c[s.color], dash: s.dash, width: 2 },
        marker: { color: c[s.color], symbol: s.symbol, size: this.points.length > 40 ? 4 : 7 },
        hovertemplate: `${s.name} %{y:.3f} ${s.unit}<extra>point %{x}</extra>`,
        cliponaxis: false,
      }));
      data.push(...this.#otherLines(i, c));
      const axis = { gridcolor: c.line, linecolor: c.line, zeroline: false, tickfont: { color: c.ink3, size: 11 }, fixedrange: true, automargin: false };
      const layout = {
        height: 152,
        margin: { l: i ? 30 : 34, r: 10, t: 10, b: 34 },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: c.sans, color: c.ink2, size: 12 },
        showlegend: false,
        hovermode: "closest",
        hoverlabel: { bgcolor: c.surface, bordercolor: c.lineStrong, font: { color: c.ink, family: c.sans, size: 12 } },
        xaxis: { ...axis, range: [-0.25, last + 0.25], nticks: 7, tick0: 0, dtick: last <= 6 ? 1 : last <= 12 ? 2 : undefined, showgrid: false, title: { text: i ? "gap by point" : "losses by point (0 = unrevised)", standoff: 4, font: { size: 11, color: c.ink3 } } },
        yaxis: { ...axis, showticklabels: this.points.length > 0, nticks: i ? 4 : 5, rangemode: i ? "tozero" : "normal" },
      };
      // Gradio's page has a <base>: Plotly would then write the page's address into each of its clips, and the browser fetch the whole
      // page again as soon as the address has changed (address.js).
      this.plotly.react(target, data, layout, { displayModeBar: false, responsive: true, _baseUrl: "" }).then(() => {
        if (!target.lrBound) {
          target.lrBound = true;
          target.on("plotly_click", (event) => this.onSeek(event.points[0].x));
        }
        this.#moveCursor();
      });
      setAttr(el, "aria-label", `${series.map((s) => s.name).join(", ")} at ${this.points.length} points; the values are in the table above.${this.other ? " Run B is drawn beside it." : ""}`);
    });
  }

  #moveCursor() {
    for (const { target, cursor } of this.plots) {
      const layout = target._fullLayout;
      const axis = layout?.xaxis;
      cursor.hidden = !axis || this.j === undefined;
      if (cursor.hidden) continue;
      cursor.style.transform = `translateX(${Math.round(axis._offset + axis.l2p(this.j))}px)`;
      cursor.style.top = `${layout._size.t}px`;
      cursor.style.height = `${layout._size.h}px`;
    }
  }

  #drawTable() {
    this.fallback.hidden = false;
    for (const plot of this.plots) plot.el.hidden = true;
    const head = h("tr", {}, h("th", { scope: "col", text: "point" }), ...SERIES.map((s) => h("th", { scope: "col", text: `${s.name} (${s.unit})` })));
    const rows = this.points.map((p, k) => h("tr", {}, h("th", { scope: "row" }, h("button", { type: "button", class: "lr-s-link-button", text: k, on: { click: () => this.onSeek(k) } })), ...SERIES.map((s) => h("td", { text: num(p[s.key]) }))));
    this.fallback.replaceChildren(h("p", { class: "lr-s-curve-note", text: "The plotting library could not be loaded, so here are the numbers." }), h("table", { class: "lr-s-values" }, h("thead", {}, head), h("tbody", {}, ...rows)));
  }

  free() {
    this.resizer.disconnect();
    this.watching?.disconnect();
    if (this.plotly) for (const { target } of this.plots) this.plotly.purge(target);
  }
}
