// The map: pan, zoom, hover and what moves. Three layers: the vocabulary (cloud.js) and its names (landscape.js), both drawn
// only when view, theme or points change; above them the trails, current points and vertices, drawn on each frame of a move.
// What it does not do: decide which point is shown or fetch anything. The stage hands it a scene and tells it to render.

import { gammaText, h, icon, num, pen, percent, reducedMotion, setAttr, tokenEl, visible } from "./dom.js";
import { Cloud } from "./cloud.js";
import { drawPoints, fillOf } from "./colour.js";
import { Labels, PointGrid } from "./landscape.js";
import { palette } from "./theme.js";

const MIN_ZOOM = 0.7;
const MAX_ZOOM = 600;
const FILL = 0.93; // share of the half-width that [-1, 1] takes when all is fitted
const STRETCH = 1.35; // the most that one axis may be drawn larger than the other
const PULL_LINES_UP_TO = 64; // with more positions than this only the selected one's pull is drawn
const home = () => ({ x: 0, y: 0, zoom: 1 });
const ease = (u) => (u < 0.5 ? 4 * u * u * u : 1 - (2 - 2 * u) ** 3 / 2);

export class MapView {
  /** `wake()` asks for a frame; `onSelect(t)` a click on a position; `onGone()` the page dropped the map; `text(id)` a token's text; `timings` is written to. */
  constructor({ wake, onSelect, onGone, text, timings }) {
    Object.assign(this, { wake, onSelect, onGone, text, timings });
    this.cloud = new Cloud();
    this.cloud.onRestored = () => this.invalidateView();
    this.names = h("canvas", { class: "lr-s-map-layer", "aria-hidden": "true" });
    this.front = h("canvas", { class: "lr-s-map-layer", "aria-hidden": "true" });
    this.tip = h("div", { class: "lr-s-map-tip", role: "tooltip", hidden: true });
    this.summary = h("p", { class: "lr-s-sr" });
    this.surface = h(
      "div",
      { class: "lr-s-map-surface", tabindex: "0", role: "group", "aria-label": "Map of the vocabulary with one trail per prefix position. Plus and minus zoom, zero shows all, F fits the moving points, Shift with the arrow keys pans, comma and full stop select the position before and after." },
      this.cloud.canvas,
      this.names,
      this.front,
    );
    const button = (name, label, act) => h("button", { type: "button", class: "lr-s-map-button", title: label, "aria-label": label, on: { click: act } }, icon(name));
    this.controls = h(
      "div",
      { class: "lr-s-map-controls", role: "group", "aria-label": "Zoom" },
      button("plus", "Zoom in (+)", () => this.zoomBy(1.8)),
      button("minus", "Zoom out (−)", () => this.zoomBy(1 / 1.8)),
      button("focus", "Fit to the moving points (F)", () => this.fitMoving()),
      button("all", "Show the whole vocabulary (0)", () => this.moveTo(home())),
    );
    this.el = h("div", { class: "lr-s-map" }, this.surface, this.controls, this.tip, this.summary);
    this.view = home();
    this.size = { width: 0, height: 0 };
    this.scene = null;
    this.shown = 0;
    this.selected = null;
    this.paint = null;
    this.hover = null;
    this.touched = false; // once a reader has moved the view it is theirs
    this.viewDirty = true;
    this.frontDirty = true;
    this.#listen();
    this.resizer = new ResizeObserver(() => this.#resize());
    this.resizer.observe(this.surface);
    // Canvas text is drawn with whatever font is there: draw again once the web fonts are.
    this.fontsCame = () => this.invalidateView();
    document.fonts.addEventListener("loadingdone", this.fontsCame);
  }

  // ---- what is shown -------------------------------------------------------------------------------------------------

  /** Background points. `ids[i]` is the token id of point i; null when point i is token i (the whole vocabulary). */
  setBackground(coords, ids, tokens) {
    this.ids = ids;
    this.cloud.setPoints(coords);
    this.grid = coords ? new PointGrid(coords) : null;
    this.labels = null;
    this.setTokens(tokens);
    this.invalidateView();
  }

  setTokens(tokens) {
    const { coords } = this.cloud;
    this.labels = coords && tokens && tokens.length ? new Labels(coords, this.ids ? this.ids.map((id) => tokens[id] ?? "") : tokens) : null;
    this.invalidateView();
  }

  /** `scene`: {M, S, prefix, steps, places: [Float32Array (M × 2)], placeOf(id) → [x, y] | null, describe(t, point) → {…}}. */
  setScene(scene) {
    this.scene = scene;
    this.invalidate();
  }

  setShown(shown) {
    this.shown = shown;
    this.frontDirty = true;
  }

  select(t) {
    this.selected = t;
    this.invalidate();
  }

  /** Colours and rings of the current points, as made by colour.js; null for plain ink. */
  setPaint(paint) {
    if (paint === this.paint) return;
    this.paint = paint;
    this.invalidate();
  }

  invalidate() {
    this.frontDirty = true;
    this.wake();
  }

  invalidateView() {
    this.viewDirty = true;
    this.invalidate();
  }

  themeChanged() {
    this.colors = null;
    this.invalidateView();
  }

  // ---- view ----------------------------------------------------------------------------------------------------------

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.surface;
    if (width === this.size.width && height === this.size.height) return;
    // Gradio tells nobody when it drops a component: let go of the graphics context then.
    if (!width) setTimeout(() => this.surface.isConnected || this.onGone(), 5000);
    const first = !this.size.width;
    this.size = { width, height };
    if (first) this.firstView();
    this.invalidateView();
  }

  /** The view in pixels: place (x, y) is drawn at (cx + x·sx, cy − y·sy). */
  pixels() {
    const { width, height } = this.size;
    // A UMAP's axes mean nothing by themselves, so a mild stretch to fill the panel tells no further lie.
    const ux = Math.min(width, height * STRETCH) * 0.5 * FILL;
    const uy = Math.min(height, width * STRETCH) * 0.5 * FILL;
    const { x, y, zoom } = this.view;
    const sx = ux * zoom;
    const sy = uy * zoom;
    return { width, height, ratio: Math.min(2, window.devicePixelRatio || 1), sx, sy, cx: width / 2 - x * sx, cy: height / 2 + y * sy, zoom };
  }

  /** Moves the view there, smoothly unless the reader asked for less motion. */
  moveTo(target, ms = 420) {
    this.touched = true;
    if (reducedMotion() || !this.size.width) {
      this.view = target;
      this.flight = null;
    } else this.flight = { from: { ...this.view }, to: target, start: null, ms };
    this.invalidateView();
  }

  /** Takes over another map's view as it is, at once. */
  adopt(view) {
    this.touched = true;
    this.flight = null;
    this.view = { ...view };
    this.#setHover(null);
    this.invalidateView();
  }

  zoomBy(factor, px = this.size.width / 2, py = this.size.height / 2, ms = 220) {
    const base = this.flight ? this.flight.to : this.view;
    const zoom = Math.max(MIN_ZOOM, Math.min(MAX_ZOOM, base.zoom * factor));
    const p = this.pixels();
    const dx = (px - p.width / 2) / (p.sx / this.view.zoom);
    const dy = (py - p.height / 2) / (p.sy / this.view.zoom);
    // The place under the pointer stays under it: x + dx/zoom is the same before and after.
    const target = { zoom, x: base.x + dx / base.zoom - dx / zoom, y: base.y - dy / base.zoom + dy / zoom };
    this.#bound(target);
    this.touched = true;
    if (ms) this.moveTo(target, ms);
    else {
      this.flight = null;
      this.view = target;
      this.invalidateView();
    }
  }

  #bound(view) {
    view.x = Math.max(-1.2, Math.min(1.2, view.x));
    view.y = Math.max(-1.2, Math.min(1.2, view.y));
    return view;
  }

  /** The view that shows all these places: {x, y, zoom}, or null when there are none. */
  #around(points, least = 0.02) {
    let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
    for (const [x, y] of points) {
      if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
      x0 = Math.min(x0, x);
      x1 = Math.max(x1, x);
      y0 = Math.min(y0, y);
      y1 = Math.max(y1, y);
    }
    if (x0 > x1) return null;
    const p = this.pixels();
    const zx = (p.width - 130) / Math.max(least, x1 - x0) / (p.sx / p.zoom);
    const zy = (p.height - 110) / Math.max(least, y1 - y0) / (p.sy / p.zoom);
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, zoom: Math.max(MIN_ZOOM, Math.min(MAX_ZOOM, zx, zy)) };
  }

  #fit(points, least) {
    const view = this.#around(points, least);
    if (view) this.moveTo(view);
  }

  #moving() {
    const points = [];
    for (const place of this.scene?.places ?? []) for (let t = 0; t < this.scene.M; t++) points.push([place[2 * t], place[2 * t + 1]]);
    return points;
  }

  /** What the reader sees of this layout, to come back to. */
  get look() {
    return { view: this.flight ? this.flight.to : this.view, touched: this.touched };
  }

  /** Another layout is drawn, where the last one's view means nothing: as it was left, else its first view. */
  turnTo(look) {
    this.flight = null;
    this.#setHover(null);
    this.touched = Boolean(look?.touched);
    if (this.touched) this.view = { ...look.view };
    else this.firstView();
    this.invalidateView();
  }

  /** The first view of a run: near enough to see steps, far enough to see where in the landscape they are. */
  firstView() {
    if (this.touched || !this.size.width) return;
    const view = this.#around(this.#moving());
    if (!view) return;
    const zoom = Math.max(1, Math.min(2.2, view.zoom * 0.7));
    // At zoom 1 the whole landscape is centred; the nearer, the more the moving points are.
    const share = Math.min(1, (zoom - 1) / 0.8);
    this.view = { x: view.x * share, y: view.y * share, zoom };
    this.invalidateView();
  }

  /** Fits all trails from the start to the last computed point. */
  fitMoving() {
    this.#fit(this.#moving());
  }

  /** Fits one position's trail and the token that pulls it. */
  fitPosition(t) {
    if (!this.scene?.places.length) return;
    const points = this.scene.places.map((place) => [place[2 * t], place[2 * t + 1]]);
    this.#fit(points, 0.004);
  }

  /** Advances what the map itself animates; true while something moves. */
  tick(now) {
    const { flight } = this;
    if (!flight) return false;
    flight.start ??= now;
    const u = Math.min(1, (now - flight.start) / flight.ms);
    const e = ease(u);
    const { from, to } = flight;
    const zoom = from.zoom * (to.zoom / from.zoom) ** e;
    // While the scale changes geometrically, moving the centre with 1/zoom keeps the motion straight on the screen.
    const w = Math.abs(to.zoom - from.zoom) < 1e-9 * from.zoom ? e : (1 / from.zoom - 1 / zoom) / (1 / from.zoom - 1 / to.zoom);
    this.view = { zoom, x: from.x + (to.x - from.x) * w, y: from.y + (to.y - from.y) * w };
    if (u >= 1) this.flight = null;
    this.viewDirty = true;
    return this.flight !== null;
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------

  render() {
    if (!this.size.width || !this.size.height || !(this.viewDirty || this.frontDirty)) return;
    this.colors ??= palette(this.el);
    const p = this.pixels();
    if (this.viewDirty) {
      const start = performance.now();
      this.cloud.draw(p, this.colors);
      const ctx = this.#context(this.names, p);
      if (this.labels) this.labels.draw(ctx, p, this.colors);
      this.timings.background = performance.now() - start;
      this.timings.backgroundDraws = (this.timings.backgroundDraws || 0) + 1;
    }
    const start = performance.now();
    this.#drawFront(p);
    this.timings.frame = performance.now() - start;
    this.timings.frames = (this.timings.frames || 0) + 1;
    this.viewDirty = false;
    this.frontDirty = false;
  }

  #context(canvas, p) {
    const width = Math.round(p.width * p.ratio);
    const height = Math.round(p.height * p.ratio);
    const ctx = pen(canvas);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    ctx.setTransform(p.ratio, 0, 0, p.ratio, 0, 0);
    ctx.clearRect(0, 0, p.width, p.height);
    return ctx;
  }

  /** Pixel places of all positions at the shown moment: Float32Array (M × 2). A step is a straight line, so is the tween. */
  #current(p) {
    const { places, M } = this.scene;
    const last = places.length - 1;
    const s = Math.max(0, Math.min(last, this.shown));
    const j = Math.min(last, Math.floor(s));
    const from = places[j];
    const to = places[Math.min(last, j + 1)];
    const f = s - j;
    const out = new Float32Array(2 * M);
    for (let t = 0; t < M; t++) {
      out[2 * t] = p.cx + (from[2 * t] + (to[2 * t] - from[2 * t]) * f) * p.sx;
      out[2 * t + 1] = p.cy - (from[2 * t + 1] + (to[2 * t + 1] - from[2 * t + 1]) * f) * p.sy;
    }
    return { j, f, at: out };
  }

  #drawFront(p) {
    const ctx = this.#context(this.front, p);
    const { scene, colors: c } = this;
    this.at = null;
    if (!scene || !scene.M || !scene.places.length) return;
    const { j, f, at } = this.#current(p);
    this.at = at;
    const { M, places, steps } = scene;
    const crowd = Math.min(1, Math.sqrt(40 / M));
    const X = (k, t) => p.cx + places[k][2 * t] * p.sx;
    const Y = (k, t) => p.cy - places[k][2 * t + 1] * p.sy;
    const strong = [this.hover?.kind === "position" ? this.hover.t : null, this.selected].filter((t) => t !== null && t < M);
    ctx.lineCap = "round";
    ctx.lineJoin = "round";

    // Trails, newest segments strongest. One path per age keeps 512 positions × 20 steps in a few strokes.
    const ages = [[0, 2.001, 0.62], [2.001, 5.001, 0.4], [5.001, Infinity, 0.24]];
    ctx.strokeStyle = c.ink;
    ctx.lineWidth = M > 128 ? 0.8 : 1.2;
    for (const [young, old, alpha] of ages) {
      ctx.globalAlpha = alpha * Math.max(0.45, crowd);
      ctx.beginPath();
      for (let k = 0; k <= j; k++) {
        const age = j + f - k;
        if (age <= young || age > old || (k === j && f === 0)) continue;
        for (let t = 0; t < M; t++) {
          ctx.moveTo(X(k, t), Y(k, t));
          if (k === j) ctx.lineTo(at[2 * t], at[2 * t + 1]);
          else ctx.lineTo(X(k + 1, t), Y(k + 1, t));
        }
      }
      ctx.stroke();
    }

    // Where each position began: an open ring.
    // At the start itself the ring stands around the current point.
    const around = Math.max(0, 1 - (j + f));
    const ring = (M > 128 ? 2 : 3.6) + (M > 128 ? 1.6 : 3) * around;
    ctx.globalAlpha = Math.max(0.55, crowd);
    ctx.strokeStyle = c.original;
    ctx.lineWidth = M > 128 ? 1 : 1.6;
    ctx.beginPath();
    for (let t = 0; t < M; t++) {
      ctx.moveTo(X(0, t) + ring, Y(0, t));
      ctx.arc(X(0, t), Y(0, t), ring, 0, 2 * Math.PI);
    }
    ctx.stroke();

    // The pull: from each current point toward its vertex.
    const step = steps[Math.min(j, steps.length - 1)];
    const targets = new Map();
    if (step?.vertices) {
      for (let t = 0; t < M; t++) {
        const id = step.vertices[t];
        const known = targets.get(id);
        if (known) known.positions.push(t);
        else {
          const place = scene.placeOf(id);
          if (place) targets.set(id, { id, x: p.cx + place[0] * p.sx, y: p.cy - place[1] * p.sy, positions: [t] });
        }
      }
      ctx.strokeStyle = c.vertex;
      ctx.setLineDash([3, 5]);
      if (M <= PULL_LINES_UP_TO) {
        ctx.globalAlpha = 0.5 * Math.max(0.5, crowd);
        ctx.lineWidth = 1;
        ctx.beginPath();
        for (const target of targets.values()) {
          for (const t of target.positions) {
            ctx.moveTo(at[2 * t], at[2 * t + 1]);
            ctx.lineTo(target.x, target.y);
          }
        }
        ctx.stroke();
      }
      ctx.setLineDash([5, 4]);
      ctx.globalAlpha = 1;
      ctx.lineWidth = 1.8;
      ctx.beginPath();
      for (const t of strong) {
        const target = targets.get(step.vertices[t]);
        if (!target) continue;
        ctx.moveTo(at[2 * t], at[2 * t + 1]);
        ctx.lineTo(target.x, target.y);
      }
      ctx.stroke();
      ctx.setLineDash([]);
      for (const target of targets.values()) {
        const r = 4 + 2.2 * Math.sqrt(target.positions.length / M);
        this.#diamond(ctx, target.x, target.y, r, c);
      }
    }
    this.targets = targets;

    drawPoints(ctx, at, M, c, this.paint);
    for (const t of strong) this.#drawStrong(ctx, t, t === this.selected, j, f, at, X, Y, c);
    this.#drawPills(ctx, p, strong, targets, at, step, c);
  }

  #drawStrong(ctx, t, selected, j, f, at, X, Y, c) {
    const trace = () => {
      ctx.beginPath();
      ctx.moveTo(X(0, t), Y(0, t));
      for (let k = 1; k <= j; k++) ctx.lineTo(X(k, t), Y(k, t));
      ctx.lineTo(at[2 * t], at[2 * t + 1]);
      ctx.stroke();
    };
    ctx.strokeStyle = c.surface;
    ctx.lineWidth = 6;
    trace();
    ctx.strokeStyle = c.ink;
    ctx.lineWidth = selected ? 2.8 : 2;
    trace();
    ctx.fillStyle = c.surface;
    ctx.lineWidth = 1.4;
    for (let k = 1; k <= j && selected; k++) {
      if (k === j && f === 0) break;
      ctx.beginPath();
      ctx.arc(X(k, t), Y(k, t), 2.4, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
    ctx.beginPath();
    ctx.arc(X(0, t), Y(0, t), 5 + 5 * Math.max(0, 1 - (j + f)), 0, 2 * Math.PI);
    ctx.fillStyle = c.surface;
    ctx.fill();
    ctx.strokeStyle = c.original;
    ctx.lineWidth = 2.6;
    ctx.stroke();
    const x = at[2 * t];
    const y = at[2 * t + 1];
    ctx.fillStyle = c.accent;
    ctx.globalAlpha = 0.2;
    ctx.beginPath();
    ctx.arc(x, y, selected ? 16 : 12, 0, 2 * Math.PI);
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.arc(x, y, selected ? 7 : 5.5, 0, 2 * Math.PI);
    ctx.fillStyle = fillOf(this.paint, t, c);
    ctx.fill();
    ctx.strokeStyle = this.paint?.shades ? c.ink : c.surface;
    ctx.lineWidth = 2.2;
    ctx.stroke();
  }

  #diamond(ctx, x, y, r, c) {
    ctx.beginPath();
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r, y);
    ctx.lineTo(x, y + r);
    ctx.lineTo(x - r, y);
    ctx.closePath();
    ctx.strokeStyle = c.surface;
    ctx.lineWidth = 2.5;
    ctx.stroke();
    ctx.fillStyle = c.vertexFill;
    ctx.fill();
  }

  /** Labels in pills: the selected and hovered positions, their vertices, and the tokens that pull most positions. */
  #drawPills(ctx, p, strong, targets, at, step, c) {
    const { scene } = this;
    const taken = [];
    const pill = (x, y, text, color, gap, bold) => {
      ctx.font = `${bold ? 600 : 400} 12px ${c.mono}`;
      const w = ctx.measureText(text).width + 14;
      const hgt = 21;
      const spots = [[x - w / 2, y - gap - hgt], [x - w / 2, y + gap], [x + gap, y - hgt / 2], [x - gap - w, y - hgt / 2], [x + gap, y - gap - hgt], [x - gap - w, y + gap]];
      const inside = ([a, b]) => a > 4 && b > 4 && a + w < p.width - 4 && b + hgt < p.height - 4;
      const free = ([a, b]) => !taken.some((o) => a < o.a + o.w + 3 && o.a < a + w + 3 && b < o.b + o.h + 3 && o.b < b + hgt + 3);
      const spot = spots.find((s) => inside(s) && free(s));
      if (!spot) return;
      const [a, b] = spot;
      taken.push({ a, b, w, h: hgt });
      ctx.beginPath();
      ctx.roundRect(a, b, w, hgt, 6);
      ctx.fillStyle = c.surface;
      ctx.globalAlpha = 0.94;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = color;
      ctx.lineWidth = bold ? 1.4 : 1;
      ctx.stroke();
      ctx.fillStyle = color;
      ctx.textAlign = "left";
      ctx.textBaseline = "middle";
      ctx.fillText(text, a + 7, b + hgt / 2 + 0.5);
    };
    const out = (x, y) => x < -20 || y < -20 || x > p.width + 20 || y > p.height + 20;
    // The points that carry a pill are obstacles themselves.
    for (const t of strong) taken.push({ a: at[2 * t] - 8, b: at[2 * t + 1] - 8, w: 16, h: 16 });
    // A hovered position has its tooltip: a pill beside it would only be in the way.
    const t = this.selected;
    if (t !== null && t < scene.M && !out(at[2 * t], at[2 * t + 1])) {
      const d = scene.describe(t, Math.round(this.shown));
      const now = visible(this.text(d.nearest), 16);
      const label = d.changed ? `${t + 1} · ${visible(this.text(d.original), 16)} → ${now}` : `${t + 1} · ${now}`;
      pill(at[2 * t], at[2 * t + 1], label, c.ink, 13, true);
    }
    const named = strong.map((t) => targets.get(step?.vertices?.[t])).filter(Boolean);
    const most = [...targets.values()].sort((a, b) => b.positions.length - a.positions.length).slice(0, p.width < 520 ? 2 : 4);
    for (const target of new Set([...named.reverse(), ...most])) {
      if (out(target.x, target.y)) {
        // The selected position's vertex is named even off the panel: where its pull line leaves.
        const from = t !== null && target === targets.get(step?.vertices?.[t]) ? { x: at[2 * t], y: at[2 * t + 1] } : null;
        if (!from || out(from.x, from.y)) continue;
        const reach = (start, end, most) => (end < 18 ? (start - 18) / (start - end) : end > most - 18 ? (most - 18 - start) / (end - start) : 1);
        const u = Math.max(0, Math.min(reach(from.x, target.x, p.width), reach(from.y, target.y, p.height)));
        pill(from.x + (target.x - from.x) * u, from.y + (target.y - from.y) * u, `◆ ${visible(this.text(target.id), 16)} beyond the edge`, c.vertex, 6, true);
        continue;
      }
      const count = scene.M > 1 ? ` · pulls ${target.positions.length}` : "";
      pill(target.x, target.y, `◆ ${visible(this.text(target.id), 16)}${count}`, c.vertex, 10, named.includes(target));
    }
  }

  // ---- pointer and keyboard ------------------------------------------------------------------------------------------

  #listen() {
    const pointers = new Map();
    let gesture = null;
    const place = (event) => {
      const box = this.surface.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, d: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
    };
    this.surface.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      pointers.set(event.pointerId, place(event));
      this.surface.setPointerCapture(event.pointerId);
      this.flight = null;
      gesture = pointers.size === 1 ? { moved: false, start: place(event) } : { moved: true, pinch: spread() };
    });
    this.surface.addEventListener("pointermove", (event) => {
      const to = place(event);
      this.aimed = performance.now();
      const from = pointers.get(event.pointerId);
      if (!from || !gesture) {
        if (event.pointerType !== "touch") this.#hoverAt(to);
        return;
      }
      pointers.set(event.pointerId, to);
      const p = this.pixels();
      if (pointers.size >= 2) {
        const now = spread();
        this.#panBy(now.x - gesture.pinch.x, now.y - gesture.pinch.y, p);
        this.zoomBy(now.d / gesture.pinch.d, now.x, now.y, 0);
        gesture.pinch = now;
        return;
      }
      if (!gesture.moved && Math.hypot(to.x - gesture.start.x, to.y - gesture.start.y) < 4) return;
      gesture.moved = true;
      this.surface.classList.add("lr-s-grabbing");
      this.#setHover(null);
      this.#panBy(to.x - from.x, to.y - from.y, p);
    });
    const end = (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (gesture && !gesture.moved && event.type === "pointerup") {
        const at = place(event);
        this.#hoverAt(at, event.pointerType === "touch" ? 20 : 12);
        if (this.hover?.kind === "position") this.onSelect(this.hover.t);
      }
      if (pointers.size === 1) gesture = { moved: true, start: [...pointers.values()][0] };
      else gesture = null;
      this.surface.classList.remove("lr-s-grabbing");
    };
    this.surface.addEventListener("pointerup", end);
    this.surface.addEventListener("pointercancel", end);
    this.surface.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && this.#setHover(null));
    this.surface.addEventListener("dblclick", (event) => {
      const at = place(event);
      this.#hoverAt(at);
      if (this.hover?.kind === "position") this.fitPosition(this.hover.t);
      else this.zoomBy(event.shiftKey ? 1 / 2.2 : 2.2, at.x, at.y, 320);
    });
    // A wheel that was already scrolling the page keeps scrolling it when the map slides under the pointer.
    this.outsideWheel = (event) => {
      if (!this.surface.contains(event.target)) this.pageScrolled = performance.now();
    };
    window.addEventListener("wheel", this.outsideWheel, { passive: true, capture: true });
    this.surface.addEventListener(
      "wheel",
      (event) => {
        const now = performance.now();
        if (!event.ctrlKey && now - (this.pageScrolled ?? -1e9) < 350 && (this.aimed ?? -1e9) < this.pageScrolled) {
          this.pageScrolled = now;
          return;
        }
        if (event.deltaY > 0 && this.view.zoom <= MIN_ZOOM * 1.001) return;
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 300 : 1;
        const at = place(event);
        this.zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), at.x, at.y, 0);
        this.#setHover(null);
      },
      { passive: false },
    );
    this.surface.addEventListener("keydown", (event) => {
      const pan = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      const M = this.scene?.M ?? 0;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (pan && (event.shiftKey || pan[1])) this.#panBy(pan[0] * 60, pan[1] * 60, this.pixels());
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.8);
      else if (event.key === "-" || event.key === "_") this.zoomBy(1 / 1.8);
      else if (event.key === "0") this.moveTo(home());
      else if (event.key === "f" || event.key === "F") this.fitMoving();
      else if ((event.key === "," || event.key === ".") && M) this.onSelect(((this.selected ?? 0) + (event.key === "," ? M - 1 : 1)) % M);
      else if (event.key === "Escape") this.#setHover(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  #panBy(dx, dy, p) {
    this.touched = true;
    this.flight = null;
    this.view = this.#bound({ zoom: this.view.zoom, x: this.view.x - dx / p.sx, y: this.view.y + dy / p.sy });
    this.invalidateView();
  }

  /** What lies under the pointer: a moving point first, then a vertex, then any token of the vocabulary. */
  #hoverAt({ x, y }, reach = 12) {
    let best = null;
    let bestD = reach * reach;
    if (this.at) {
      for (let t = 0; t < this.at.length / 2; t++) {
        const d = (this.at[2 * t] - x) ** 2 + (this.at[2 * t + 1] - y) ** 2;
        // Of points that coincide the selected one stays in hand.
        if (d < bestD || (d === bestD && t === this.selected)) {
          bestD = d;
          best = { kind: "position", t };
        }
      }
    }
    if (!best && this.targets) {
      for (const target of this.targets.values()) {
        if ((target.x - x) ** 2 + (target.y - y) ** 2 < 81) best = { kind: "token", id: target.id, x: target.x, y: target.y };
      }
    }
    if (!best && this.grid) {
      const p = this.pixels();
      const i = this.grid.nearest((x - p.cx) / p.sx, (p.cy - y) / p.sy, p.sx, p.sy, 8);
      if (i >= 0) best = { kind: "token", id: this.ids ? this.ids[i] : i, x: p.cx + this.grid.coords[2 * i] * p.sx, y: p.cy - this.grid.coords[2 * i + 1] * p.sy };
    }
    this.#setHover(best);
  }

  #setHover(hover) {
    const key = hover ? `${hover.kind}${hover.t ?? hover.id}` : "";
    const before = this.hover ? `${this.hover.kind}${this.hover.t ?? this.hover.id}` : "";
    this.hover = hover;
    this.surface.classList.toggle("lr-s-pointing", hover?.kind === "position");
    if (key === before) return;
    if (!hover) {
      this.tip.hidden = true;
    } else {
      this.#fillTip(hover);
      this.tip.hidden = false;
      const x = hover.kind === "position" ? this.at[2 * hover.t] : hover.x;
      const y = hover.kind === "position" ? this.at[2 * hover.t + 1] : hover.y;
      const { offsetWidth: w, offsetHeight: hgt } = this.tip;
      const left = x + 18 + w < this.size.width ? x + 18 : Math.max(6, x - 18 - w);
      this.tip.style.transform = `translate(${Math.round(Math.min(left, this.size.width - w - 6))}px, ${Math.round(Math.max(6, Math.min(this.size.height - hgt - 6, y - hgt / 2)))}px)`;
    }
    if (hover?.kind === "position" || before.startsWith("position")) this.invalidate();
  }

  /** Called after the shown point changed, so that an open tooltip tells of the new point. */
  refreshTip() {
    if (this.hover && !this.tip.hidden) this.#fillTip(this.hover);
  }

  #fillTip(hover) {
    const row = (name, ...value) => h("div", { class: "lr-s-tip-row" }, h("span", { class: "lr-s-tip-name", text: name }), h("span", {}, ...value));
    if (hover.kind === "token") {
      const use = this.scene?.use?.(hover.id, Math.round(this.shown));
      const rows = [h("div", { class: "lr-s-tip-head" }, tokenEl(this.text(hover.id))), row("token id", String(hover.id))];
      if (use?.starts) rows.push(row("starts", `${use.starts} position${use.starts > 1 ? "s" : ""} of the prefix`));
      if (use?.steps) rows.push(row("vertex", `${use.pulled ? `pulls ${use.pulled} of ${this.scene.M} positions here; ` : ""}picked at ${use.steps} step${use.steps > 1 ? "s" : ""}`));
      this.tip.replaceChildren(...rows);
      return;
    }
    const d = this.scene.describe(hover.t, Math.round(this.shown));
    const rows = [h("div", { class: "lr-s-tip-head" }, `Position ${hover.t + 1}`)];
    rows.push(row("original", tokenEl(this.text(d.original))));
    rows.push(row("nearest now", tokenEl(this.text(d.nearest)), d.changed ? " (changed)" : " (unchanged)"));
    rows.push(
      row(
        "made of",
        ...d.weights.slice(0, 4).flatMap((w, i) => [i ? ", " : "", `${percent(w.weight)} `, tokenEl(this.text(w.id))]),
        d.weights.length > 4 ? ` and ${d.weights.length - 4} more` : "",
      ),
    );
    if (d.vertex !== undefined) rows.push(row(d.pullIsPast ? "last pulled to" : "pulled to", "◆ ", tokenEl(this.text(d.vertex)), ` by γ = ${gammaText(d.gamma)}`));
    rows.push(row("moved", `${num(d.moved)} in the full space`));
    if (d.coloured) rows.push(row(...d.coloured));
    this.tip.replaceChildren(...rows);
  }

  /** A sentence for screen readers in place of the picture. */
  describe(sentence) {
    if (this.summary.textContent !== sentence) this.summary.textContent = sentence;
    setAttr(this.surface, "aria-describedby", this.summary.id || (this.summary.id = `lr-s-map-${Math.random().toString(36).slice(2, 8)}`));
  }

  free() {
    this.resizer.disconnect();
    document.fonts.removeEventListener("loadingdone", this.fontsCame);
    window.removeEventListener("wheel", this.outsideWheel, { capture: true });
    this.cloud.free();
  }
}
