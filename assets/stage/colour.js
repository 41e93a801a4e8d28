// Colour of the current points on the map by a number of one's choice, its control and its legend; rings around the positions
// that a picked token pulled. What it does not do: compute the numbers (quantity.js does), place the points (map.js does).

import { h, hint, setAttr, setText } from "./dom.js";
import { ONE_SCALE, QUANTITIES, SHADES_OF_SCALE, css, endNumbers, shadeOf, shades } from "./quantity.js";

const CHOICES = { plain: "plain", moved: "distance moved", conflict: "conflict", toward: "toward pull", away: "away pull", kept: "weight left" };

export class Colours {
  /** `onPick(key)` chooses what colours the points. */
  constructor({ onPick }) {
    this.key = "plain";
    this.select = h(
      "select",
      { class: "lr-s-speed", "aria-label": "Colour points by", on: { change: () => onPick(this.select.value) } },
      ...Object.entries(CHOICES).map(([value, text]) => h("option", { value, text })),
    );
    this.low = h("span", { class: "lr-s-scale-end" });
    this.high = h("span", { class: "lr-s-scale-end" });
    this.ramp = h("i", { class: "lr-s-scale-ramp" });
    this.at = h("span", { class: "lr-s-scale-at" });
    this.legend = h("span", { class: "lr-s-scale", hidden: true }, this.low, this.ramp, this.high, this.at);
    this.el = h("div", { class: "lr-s-colour" }, h("span", { class: "lr-s-colour-label", "aria-hidden": "true", text: "Colour points by" }), this.select, hint("Colours the current points on the map by a number of theirs at the shown point. The scale is that of the whole run, so colours can be compared between points. Hover a point for its number."), this.legend);
  }

  /**
   * What the map needs to draw the points at point j: {shades: Int8Array (M), colors: [css], rings: Set|null}; null when plain.
   * Gradients are measured by the step that leaves a point, so the newest point shows the last known ones and says so.
   */
  paint(table, j, rings) {
    const { key } = this;
    const { M, S } = table.trajectory;
    setAttr(this.legend, "hidden", key === "plain" || !S);
    if (this.select.value !== key) this.select.value = key;
    if (key === "plain" || !S) return rings ? { shades: null, colors: null, rings } : null;
    const row = this.row(table, j);
    const { data } = table.get(key);
    const scale = table.scale(key);
    this.colors ??= {};
    const colors = (this.colors[key] ??= shades(key, this.el).map(css));
    const [low, high] = endNumbers(key, scale);
    const { ends, unit } = QUANTITIES[key];
    const known = Number.isFinite(scale.low);
    setText(this.low, known ? `${ends[0]} ${low}` : "not measured in this run");
    setText(this.high, known ? `${high} ${ends[1]}` : "");
    setText(this.at, [QUANTITIES[key].measured ? `measured at point ${row}` : "", table.beside ? ONE_SCALE : ""].filter(Boolean).join("; "));
    setAttr(this.legend, "title", unit);
    this.ramp.hidden = !known;
    this.ramp.style.background = `linear-gradient(90deg, ${colors.filter((_, i) => i % 6 === 0 || i === SHADES_OF_SCALE - 1).join(", ")})`;
    const out = new Int8Array(M);
    for (let t = 0; t < M; t++) out[t] = shadeOf(data[row * M + t], scale);
    return { shades: out, colors, rings };
  }

  /** The row of the table that is shown at point j. */
  row(table, j) {
    return QUANTITIES[this.key]?.measured === "leaving" ? Math.min(j, table.trajectory.S - 1) : j;
  }

  /** The number behind the colour of position t, as [name, words] for a tooltip; null when plain. */
  tell(table, t, j) {
    if (this.key === "plain" || !table.trajectory.S) return null;
    const value = table.value(this.key, t, this.row(table, j));
    const { short, words } = QUANTITIES[this.key];
    return [short, Number.isFinite(value) ? words(value) : "not measured"];
  }

  themeChanged() {
    this.colors = null;
  }
}

/** Fill of position t's point: its shade, or ink. */
export function fillOf(paint, t, c) {
  const shade = paint?.shades?.[t] ?? -1;
  return shade < 0 ? c.ink : paint.colors[shade];
}

/** All current points, with a halo in the ground's colour so that they stand clear of the crowd; coloured ones have an ink rim. */
export function drawPoints(ctx, at, M, c, paint) {
  const radius = M > 256 ? 2.2 : M > 64 ? 3 : 4.2;
  const dot = (t, r) => {
    ctx.moveTo(at[2 * t] + r, at[2 * t + 1]);
    ctx.arc(at[2 * t], at[2 * t + 1], r, 0, 2 * Math.PI);
  };
  ctx.globalAlpha = M > 128 ? 0.85 : 1;
  ctx.strokeStyle = c.surface;
  ctx.lineWidth = M > 128 ? 1 : 2;
  if (!paint?.shades) {
    ctx.fillStyle = c.ink;
    ctx.beginPath();
    for (let t = 0; t < M; t++) dot(t, radius);
    ctx.stroke();
    ctx.fill();
  } else {
    // Coloured points are a little larger (a colour needs area) and drawn shade by shade: a few paths instead of one per point.
    ctx.globalAlpha = 1;
    const byShade = new Map();
    for (let t = 0; t < M; t++) {
      const shade = paint.shades[t];
      if (byShade.has(shade)) byShade.get(shade).push(t);
      else byShade.set(shade, [t]);
    }
    ctx.strokeStyle = c.ink;
    ctx.lineWidth = M > 128 ? 0.8 : 1.2;
    for (const [shade, list] of [...byShade].sort((a, b) => a[0] - b[0])) {
      ctx.beginPath();
      for (const t of list) dot(t, radius + 1.2);
      ctx.fillStyle = shade < 0 ? c.surface : paint.colors[shade];
      ctx.fill();
      ctx.stroke();
    }
  }
  ctx.globalAlpha = 1;
  if (!paint?.rings) return;
  ctx.strokeStyle = c.vertexFill;
  ctx.lineWidth = 2.4;
  ctx.beginPath();
  for (const t of paint.rings) if (t < M) dot(t, radius + 5);
  ctx.stroke();
}
