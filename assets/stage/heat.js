// The heat map: all positions (across, in the order of the text) × all points (downward), coloured by one number. A click
// selects the position and goes to the point; the keyboard moves a cell cursor. The picture is drawn once per change of data,
// quantity, size or theme; what marks the selection, the shown point and the cursor are elements above it.
// What it does not do: compute the numbers (quantity.js does) or keep the selection.

import { h, hint, pen, setAttr, setText, setToken, visible } from "./dom.js";
import { ONE_SCALE, QUANTITIES, SHADES_OF_SCALE, css, endNumbers, inkOn, shadeOf, shades } from "./quantity.js";
import { rgb } from "./theme.js";

const RANKED = 5; // vertices that get a shade and a number of their own
const LEAST_FITTED = 2.3; // px per position down to which the whole prefix is shown at once; narrower ones scroll
const SCROLLED = 5; // px per position where it scrolls

export class Heat {
  /** `onPick(t, j)` asks for a position and a point; `text(id)` gives a token's text; `timings` is written to. */
  constructor({ onPick, text, timings }) {
    Object.assign(this, { onPick, text, timings });
    this.key = "conflict";
    this.choice = h(
      "select",
      { class: "lr-s-speed", "aria-label": "Quantity of the heat map", on: { change: () => this.choose(this.choice.value) } },
      ...Object.entries(QUANTITIES).map(([value, q]) => h("option", { value, text: q.label })),
    );
    this.legend = h("div", { class: "lr-s-scale lr-s-heat-legend" });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.veil = h("canvas", { class: "lr-s-heat-veil", "aria-hidden": "true", hidden: true });
    this.marks = { column: h("i", { class: "lr-s-heat-mark" }), row: h("i", { class: "lr-s-heat-mark" }), cell: h("i", { class: "lr-s-heat-cell" }) };
    this.live = h("p", { class: "lr-s-sr", "aria-live": "polite" });
    this.plane = h(
      "div",
      {
        class: "lr-s-heat-plane",
        tabindex: "0",
        role: "application",
        "aria-roledescription": "heat map",
        on: {
          pointermove: (e) => e.pointerType !== "touch" && this.#aim(this.#cellAt(e)),
          pointerleave: () => this.#aim(null),
          click: (e) => this.#pick(this.#cellAt(e)),
          keydown: (e) => this.#keydown(e),
          focus: () => this.#moveMarks(),
          blur: () => {
            this.cursor = null;
            this.#moveMarks();
          },
        },
      },
      this.canvas,
      this.veil,
      ...Object.values(this.marks),
    );
    this.ticksX = h("div", { class: "lr-s-heat-x", "aria-hidden": "true" });
    this.ticksY = h("div", { class: "lr-s-heat-y", "aria-hidden": "true" });
    this.scroller = h("div", { class: "lr-s-heat-scroll" }, this.plane, this.ticksX);
    this.lineLead = h("b");
    this.lineToken = h("bdi", { class: "lr-s-token" });
    this.lineWords = h("span");
    this.lineVertex = h("bdi", { class: "lr-s-token lr-s-c-vertex" });
    this.line = h("p", { class: "lr-s-heat-line" }, this.lineLead, " ", this.lineToken, this.lineWords, this.lineVertex);
    this.body = h("div", { class: "lr-s-heat-body" }, h("div", { class: "lr-s-heat-grid" }, this.ticksY, this.scroller), h("p", { class: "lr-s-heat-axes", "aria-hidden": "true", text: "across: positions in the order of the text · down: points, 0 is the unrevised prefix" }), this.line, this.live);
    this.blank = h("p", { class: "lr-s-linked-blank", text: "The first step measures what is shown here." });
    this.el = h(
      "section",
      { class: "lr-s-card lr-s-heat", "data-tour": "heat", "aria-label": "Positions by steps" },
      h("div", { class: "lr-s-linked-head" }, h("h3", { class: "lr-s-stage-h", text: "Positions × steps" }), hint("Every position at every point, coloured by one number. The angle between the two gradients: below 90° what helps the answer helps the failed text as well (in conflict), above 90° one move serves both aims (in agreement). Click a cell to go there."), this.choice),
      this.legend,
      this.blank,
      this.body,
    );
    this.hover = null;
    this.cursor = null;
    this.resizer = new ResizeObserver(() => this.#invalidate());
    this.resizer.observe(this.scroller);
  }

  /** Shows the table's numbers, the selected position and the shown point; `spotlight` is a token id whose cells stand out, or null. */
  show(table, selected, point, spotlight) {
    const { M, S } = table.trajectory;
    const some = M > 0 && S > 0;
    this.body.hidden = this.legend.hidden = !some;
    this.blank.hidden = some;
    const stamp = `${table.stamp}/${this.key}/${spotlight}`;
    const moved = selected !== this.selected;
    Object.assign(this, { table, selected, point, spotlight, M, S });
    if (!some) return;
    if (this.cursor && (this.cursor.t >= M || this.cursor.j > S)) this.cursor = null;
    if (this.hover && (this.hover.t >= M || this.hover.j > S)) this.hover = null;
    if (stamp !== this.stamp) {
      this.stamp = stamp;
      this.#invalidate();
    }
    if (this.cell) this.#moveMarks(moved);
  }

  choose(key) {
    this.key = key;
    if (this.choice.value !== key) this.choice.value = key;
    if (this.table) this.show(this.table, this.selected, this.point, this.spotlight);
  }

  themeChanged() {
    this.#invalidate();
  }

  #invalidate() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------------

  #draw() {
    const room = this.scroller.clientWidth - 6; // its padding, where the marks' outlines stand
    if (!this.table || !this.M || !this.S || room <= 0) return;
    const start = performance.now();
    const { M, S } = this;
    const rows = S + 1;
    const scrolls = room / M < LEAST_FITTED;
    const width = scrolls ? M * SCROLLED : Math.min(room, M * 64);
    const height = Math.round(rows * Math.max(1.5, Math.min(24, 264 / rows)));
    this.cell = { w: width / M, h: height / rows, scrolls };
    this.plane.style.width = `${width}px`;
    this.plane.style.height = `${height}px`;
    const ground = rgb(getComputedStyle(this.el).getPropertyValue("--lr-surface").trim()).map((v) => v * 255);
    const paint = this.key === "vertex" ? this.#vertexPaint() : this.#scalePaint();
    this.#fill(this.canvas, width, height, (pixels) => {
      const { data } = this.table.get(this.key);
      for (let i = 0; i < data.length; i++) {
        const color = paint.color(data[i]);
        if (color) pixels.set([color[0], color[1], color[2], 255], 4 * i);
      }
    });
    this.#refine(paint, ground, width, height);
    this.veil.hidden = this.spotlight === null;
    if (this.spotlight !== null) {
      const { data } = this.table.get("vertex");
      this.#fill(this.veil, width, height, (pixels) => {
        for (let i = 0; i < data.length; i++) if (data[i] !== this.spotlight) pixels.set([...ground, 190], 4 * i);
      });
    }
    this.#showLegend(paint);
    this.#showTicks(width);
    setAttr(this.plane, "aria-label", `${QUANTITIES[this.key].label}: ${M} positions across, points 0 to ${S} downward. Arrow keys move from cell to cell, Enter goes to the cell's position and point.`);
    this.#moveMarks(true);
    this.timings.heat = performance.now() - start;
    this.timings.heatDraws = (this.timings.heatDraws || 0) + 1;
  }

  /** One pixel per cell, then enlarged without smoothing: the cost does not grow with the size on screen. */
  #fill(canvas, width, height, write) {
    const image = new ImageData(this.M, this.S + 1);
    write(image.data);
    const small = new OffscreenCanvas(this.M, this.S + 1);
    small.getContext("2d").putImageData(image, 0, 0);
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const ctx = pen(canvas);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(small, 0, 0, canvas.width, canvas.height);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    return ctx;
  }

  /** Gaps between large cells, and in them which vertex it is. */
  #refine(paint, ground, width, height) {
    const { w, h: tall } = this.cell;
    if (w < 7 || tall < 7) return;
    const ctx = pen(this.canvas);
    ctx.strokeStyle = css(ground);
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let t = 1; t < this.M; t++) {
      ctx.moveTo(t * w, 0);
      ctx.lineTo(t * w, height);
    }
    for (let j = 1; j <= this.S; j++) {
      ctx.moveTo(0, j * tall);
      ctx.lineTo(width, j * tall);
    }
    ctx.stroke();
    if (this.key !== "vertex" || tall < 13 || w < 13) return;
    const style = getComputedStyle(this.el);
    ctx.font = `11px ${style.getPropertyValue(w < 46 ? "--lr-sans" : "--lr-mono")}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const { data } = this.table.get("vertex");
    const letters = Math.floor((w - 8) / 6.7);
    for (let i = 0; i < this.S * this.M; i++) {
      const rank = paint.ranks.get(data[i]);
      const words = w < 46 ? (rank === undefined ? "" : String(rank + 1)) : visible(this.text(data[i]), letters);
      if (!words) continue;
      ctx.fillStyle = inkOn(paint.color(data[i]));
      ctx.fillText(words, ((i % this.M) + 0.5) * w, (Math.floor(i / this.M) + 0.5) * tall + 0.5);
    }
  }

  #scalePaint() {
    const all = this.table.scale(this.key);
    const colors = shades(this.key, this.el);
    return { all, colors, color: (v) => colors[shadeOf(v, all)] };
  }

  /** The vertices picked most often, by shade and number; all others share one. Counted over both runs where two are compared. */
  #vertexPaint() {
    const counts = new Map();
    for (const table of this.table.sameTokens ? [this.table, this.table.beside] : [this.table]) {
      for (const id of table.get("vertex").data) if (id >= 0) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    const top = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, RANKED).map(([id]) => id);
    const style = getComputedStyle(this.el);
    const token = (name) => rgb(style.getPropertyValue(name).trim()).map((v) => v * 255);
    const colors = ["w1", "w2", "w3", "w4", "w5"].map((w) => token(`--lr-stage-${w}`));
    const rest = token("--lr-stage-scale-pale");
    const ranks = new Map(top.map((id, i) => [id, i]));
    return { top, ranks, colors, others: counts.size - top.length, rest, color: (id) => (id < 0 ? null : colors[ranks.get(id)] ?? rest) };
  }

  #showLegend(paint) {
    const both = (shared) => (shared ? [h("span", { class: "lr-s-scale-at", text: ONE_SCALE })] : []);
    if (this.key === "vertex") {
      const key = (color, sign, ...label) => {
        const swatch = h("i", { class: "lr-s-heat-swatch", text: sign });
        swatch.style.background = css(color);
        swatch.style.color = inkOn(color);
        return h("span", { class: "lr-s-key" }, swatch, ...label);
      };
      const token = (id) => {
        const el = h("bdi", { class: "lr-s-token" });
        setToken(el, this.text(id), 16);
        return el;
      };
      this.legend.replaceChildren(...paint.top.map((id, i) => key(paint.colors[i], String(i + 1), token(id))), ...(paint.others ? [key(paint.rest, "", `${paint.others} others`)] : []), ...both(this.table.sameTokens));
      return;
    }
    const q = QUANTITIES[this.key];
    if (!Number.isFinite(paint.all.low)) {
      this.legend.replaceChildren(h("span", { text: "Not measured in this run." }));
      return;
    }
    const [low, high] = endNumbers(this.key, paint.all);
    const ramp = h("i", { class: "lr-s-scale-ramp" });
    ramp.style.background = `linear-gradient(90deg, ${paint.colors.filter((_, i) => i % 6 === 0 || i === SHADES_OF_SCALE - 1).map(css).join(", ")})`;
    this.legend.replaceChildren(h("span", { text: `${q.ends[0]} ${low}` }), ramp, h("span", { text: `${high} ${q.ends[1]}` }), ...(this.key === "conflict" ? [h("span", { class: "lr-s-scale-at", text: "middle: 90°, independent" })] : [h("span", { class: "lr-s-scale-at", text: q.unit })]), ...both(this.table.beside));
  }

  #showTicks(width) {
    const { w, h: tall } = this.cell;
    const label = (text, style) => {
      const el = h("span", { text });
      Object.assign(el.style, style);
      return el;
    };
    const every = (least, size) => [1, 2, 5, 10, 20, 50, 100, 200].find((n) => n * size >= least) ?? 500;
    const nx = every(28, w);
    const xs = [];
    for (let t = 0; t < this.M; t++) if (t === 0 || (t + 1) % nx === 0) xs.push(t);
    // The first label gives way to a multiple right beside it.
    if (xs.length > 1 && (xs[1] - xs[0]) * w < 22) xs.splice(1, 1);
    this.ticksX.style.width = `${width}px`;
    this.ticksX.replaceChildren(...xs.map((t) => label(String(t + 1), { left: `${(t + 0.5) * w}px` })));
    const ny = every(15, tall);
    const ys = [];
    for (let j = 0; j <= this.S; j += ny) ys.push(j);
    this.ticksY.replaceChildren(...ys.map((j) => label(String(j), { top: `${(j + 0.5) * tall}px` })));
  }

  // ---- marks and words -------------------------------------------------------------------------------------------------

  /** The cell that is spoken of: under the pointer, else under the keyboard's cursor, else the selected position now. */
  #spoken() {
    if (this.hover) return this.hover;
    if (this.cursor && document.activeElement === this.plane) return this.cursor;
    return this.selected === null || this.selected === undefined ? null : { t: this.selected, j: this.point };
  }

  #moveMarks(reveal = false) {
    if (!this.cell || !this.table) return;
    const { w, h: tall, scrolls } = this.cell;
    const put = (el, x, y, width, height) => {
      el.style.transform = `translate(${x}px, ${y}px)`;
      el.style.width = `${width}px`;
      el.style.height = `${height}px`;
    };
    const { column, row, cell } = this.marks;
    column.hidden = this.selected === null || this.selected === undefined;
    if (!column.hidden) put(column, this.selected * w, 0, w, (this.S + 1) * tall);
    put(row, 0, this.point * tall, this.M * w, tall);
    const at = this.#spoken();
    const aimed = this.hover ?? (document.activeElement === this.plane ? at : null);
    cell.hidden = !aimed;
    if (aimed) put(cell, aimed.t * w, aimed.j * tall, w, tall);
    if (reveal && scrolls && !column.hidden) {
      const x = this.selected * w;
      const { scrollLeft, clientWidth } = this.scroller;
      if (x < scrollLeft || x + w > scrollLeft + clientWidth) this.scroller.scrollLeft = x - clientWidth / 2;
    }
    this.#tell(at);
  }

  #tell(at) {
    this.lineToken.hidden = this.lineVertex.hidden = !at;
    setText(this.lineLead, at ? `Position ${at.t + 1}` : "Point at a cell to read its number.");
    setText(this.lineWords, at ? ` · point ${at.j}: ${this.#words(at)} ` : "");
    if (!at) return;
    setToken(this.lineToken, this.text(this.table.trajectory.prefix[at.t]), 14);
    const vertex = this.key === "vertex" ? this.table.value("vertex", at.t, at.j) : -1;
    this.lineVertex.hidden = vertex < 0;
    if (vertex >= 0) setToken(this.lineVertex, this.text(vertex), 24);
  }

  #words({ t, j }) {
    const q = QUANTITIES[this.key];
    const value = this.table.value(this.key, t, j);
    if (q.measured && j === this.S) return "no value yet, it is measured by the step that leaves this point";
    if (this.key === "vertex") return value < 0 ? "not known" : `step ${j + 1} pulls it to ◆`;
    return Number.isFinite(value) ? q.words(value) : "not measured";
  }

  // ---- pointer and keyboard ----------------------------------------------------------------------------------------------

  #cellAt(event) {
    if (!this.cell) return null;
    const box = this.plane.getBoundingClientRect();
    const t = Math.floor((event.clientX - box.left) / this.cell.w);
    const j = Math.floor((event.clientY - box.top) / this.cell.h);
    return t >= 0 && t < this.M && j >= 0 && j <= this.S ? { t, j } : null;
  }

  #aim(cell) {
    if (cell?.t === this.hover?.t && cell?.j === this.hover?.j) return;
    this.hover = cell;
    this.#moveMarks();
  }

  #pick(cell) {
    if (!cell) return;
    this.cursor = cell;
    this.onPick(cell.t, cell.j);
  }

  #keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.cell) return;
    const from = this.cursor ?? this.#spoken() ?? { t: 0, j: this.point };
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0], PageUp: [0, -Infinity], PageDown: [0, Infinity] }[event.key];
    if (by) {
      this.hover = null;
      this.cursor = { t: Math.max(0, Math.min(this.M - 1, from.t + by[0])), j: Math.max(0, Math.min(this.S, from.j + by[1])) };
      this.#moveMarks();
      const { t, j } = this.cursor;
      const vertex = this.key === "vertex" ? this.table.value("vertex", t, j) : -1;
      setText(this.live, `Position ${t + 1}, ${visible(this.text(this.table.trajectory.prefix[t]))}, point ${j}: ${this.#words(this.cursor)}${vertex >= 0 ? ` ${visible(this.text(vertex))}` : ""}`);
      if (this.cell.scrolls) {
        const x = t * this.cell.w;
        const { scrollLeft, clientWidth } = this.scroller;
        if (x < scrollLeft) this.scroller.scrollLeft = x - 20;
        else if (x + this.cell.w > scrollLeft + clientWidth) this.scroller.scrollLeft = x - clientWidth + 20;
      }
    } else if (event.key === "Enter" || event.key === " ") this.#pick(from);
    else if (event.key === "Escape" && this.cursor) {
      this.cursor = null;
      this.#moveMarks();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  free() {
    this.resizer.disconnect();
    cancelAnimationFrame(this.frame);
  }
}
