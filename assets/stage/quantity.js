// One number per position and point, by name: what the heat map and the map's colours show. Values, their range, their words
// and their colours are made here once, so that both views agree. What it does not do: draw.

import { num, percent } from "./dom.js";
import { angleInWords } from "./hull.js";
import { rgb } from "./theme.js";

const NORM_UNIT = "nats per token, per unit of embedding distance";

/**
 * `label` names it in a list, `ends` are the words at the ends of its scale, `words(value)` says one value in a sentence.
 * `measured: "leaving"` marks what the step that leaves a point measures: the newest point has no value yet.
 */
export const QUANTITIES = {
  conflict: { label: "Conflict of the gradients", short: "angle", ends: ["in conflict", "in agreement"], unit: "°", measured: "leaving", words: (v) => `${Math.round(v)}° between the two gradients, ${angleInWords(Math.cos((v * Math.PI) / 180)).verdict}`, number: (v) => `${Math.round(v)}°` },
  toward: { label: "‖toward gradient‖", short: "toward pull", ends: ["weak", "strong pull of the answer"], unit: NORM_UNIT, measured: "leaving", words: (v) => `‖toward gradient‖ ${num(v)}`, number: (v) => num(v, 2) },
  away: { label: "‖away gradient‖", short: "away pull", ends: ["weak", "strong pull of the failed text"], unit: NORM_UNIT, measured: "leaving", words: (v) => `‖away gradient‖ ${num(v)}`, number: (v) => num(v, 2) },
  moved: { label: "Distance moved", short: "moved", ends: ["at its start", "far, in the full space"], unit: "L2 distance in the full space", words: (v) => `moved ${num(v)} in the full space`, number: (v) => num(v, 2) },
  kept: { label: "Weight left on the original", short: "weight left", ends: ["little left", "all original token"], unit: "share of the mixture", words: (v) => `${percent(v)} left on the original token`, number: percent },
  vertex: { label: "Which vertex", short: "vertex", measured: "leaving" },
};

/** What a legend says while two runs are compared. */
export const ONE_SCALE = "one scale for runs A and B";

/** Number of shades of a scale; enough that neighbours can't be told apart, few enough to draw points shade by shade. */
export const SHADES_OF_SCALE = 48;

/** All values of a trajectory: row j holds the M values at point j, NaN (for vertices −1) where there is none yet. */
export class Table {
  constructor(trajectory) {
    this.trajectory = trajectory;
    this.version = 0;
    this.kept = new Map();
    this.beside = null;
  }

  /** `beside`: the table of the run that this one is compared with, or null. `sameTokens`: a token id means the same token in both. */
  share(beside, sameTokens = false) {
    this.beside = beside;
    this.sameTokens = Boolean(beside) && sameTokens;
  }

  /** Changes whenever the scales do: with this run's numbers, and with those of the run beside it. */
  get stamp() {
    return `${this.version}/${this.beside ? this.beside.version : "alone"}/${this.sameTokens}`;
  }

  /** The ends of the scale, as in `get`; beside another run those that hold both, so that a colour means one number in both pictures. */
  scale(key) {
    const own = this.get(key);
    const other = this.beside?.get(key);
    if (!other || !Number.isFinite(other.low)) return own;
    if (!Number.isFinite(own.low)) return other;
    const [low, high] = [Math.min(own.low, other.low), Math.max(own.high, other.high)];
    return { low, high, under: Math.min(own.least, other.least) < low, over: Math.max(own.most, other.most) > high };
  }

  /** To be called whenever the trajectory has changed. */
  clear() {
    this.version += 1;
    this.kept.clear();
  }

  /** {data: Float32Array or Int32Array ((S+1) × M), low, high, under, over, least, most}; `under` and `over`: values lie beyond the scale's end. */
  get(key) {
    if (!this.kept.has(key)) {
      const data = key === "vertex" ? this.#vertices() : this.#numbers(key);
      this.kept.set(key, { data, ...(key === "vertex" ? {} : limits(key, data)) });
    }
    return this.kept.get(key);
  }

  value(key, t, j) {
    const { M, S } = this.trajectory;
    return t < M && j <= S ? this.get(key).data[j * M + t] : NaN;
  }

  #vertices() {
    const { M, S, steps } = this.trajectory;
    const out = new Int32Array((S + 1) * M).fill(-1);
    steps.forEach((step, k) => step.vertices && out.set(step.vertices, k * M));
    return out;
  }

  #numbers(key) {
    const { M, S, steps, prefix } = this.trajectory;
    const out = new Float32Array((S + 1) * M).fill(NaN);
    const source = { conflict: "grad_cosine", toward: "toward_grad_norm", away: "away_grad_norm" }[key];
    for (let t = 0; t < M && !source; t++) out[t] = key === "kept" ? 1 : 0;
    const left = new Float64Array(M).fill(1);
    for (let k = 0; k < S; k++) {
      const step = steps[k];
      for (let t = 0; t < M; t++) {
        if (key === "conflict") {
          const cosine = step.grad_cosine?.[t];
          if (Number.isFinite(cosine)) out[k * M + t] = (Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI;
        } else if (source) out[k * M + t] = step[source]?.[t] ?? NaN;
        else if (key === "moved") out[(k + 1) * M + t] = step.moved?.[t] ?? NaN;
        else {
          // The same recursion as the embeddings': all shares shrink by 1 − γ, the vertex gains γ.
          left[t] = left[t] * (1 - step.step_size) + (step.vertices[t] === prefix[t] ? step.step_size : 0);
          out[(k + 1) * M + t] = left[t];
        }
      }
    }
    return out;
  }
}

/** The ends of a scale. A few outliers must not wash out the rest: the end is where 98 % of the values lie, and says so. */
function limits(key, data) {
  const known = data.filter(Number.isFinite).sort();
  if (!known.length) return { low: NaN, high: NaN, under: false, over: false, least: NaN, most: NaN };
  const least = known[0];
  const most = known.at(-1);
  const ends = (low, high) => ({ low, high, under: least < low, over: most > high, least, most });
  if (key === "conflict") {
    const off = known.map((v) => Math.abs(v - 90)).sort();
    const half = Math.min(90, Math.max(10, 5 * Math.ceil(off[Math.floor(0.98 * (off.length - 1))] / 5)));
    return ends(90 - half, 90 + half);
  }
  if (key === "kept") return ends(Math.min(0.9, Math.floor(least * 10) / 10), 1);
  const usual = known[Math.floor(0.98 * (known.length - 1))];
  return ends(0, usual > 0 && most > 1.5 * usual ? usual : most || 1);
}

/** The shade, 0 … SHADES_OF_SCALE − 1, of a value between the limits; −1 for none. */
export function shadeOf(value, { low, high }) {
  if (!Number.isFinite(value)) return -1;
  const u = high > low ? (value - low) / (high - low) : 1;
  return Math.max(0, Math.min(SHADES_OF_SCALE - 1, Math.floor(u * SHADES_OF_SCALE)));
}

const mixed = (a, b, u) => a.map((v, i) => v + (b[i] - v) * u);

/** The scale's colours from its low to its high end as [r, g, b] in 0..255, from the CSS tokens of `el`. */
export function shades(key, el) {
  const style = getComputedStyle(el);
  const token = (name) => rgb(style.getPropertyValue(name).trim()).map((v) => v * 255);
  const pale = token("--lr-stage-scale-pale");
  const full = { toward: "--lr-toward", away: "--lr-away", moved: "--lr-ink", kept: "--lr-stage-original-fill" }[key];
  const stops = key === "conflict" ? [token("--lr-stage-scale-conflict"), pale, token("--lr-stage-scale-agree")] : [pale, token(full)];
  return Array.from({ length: SHADES_OF_SCALE }, (_, i) => {
    const at = (i / (SHADES_OF_SCALE - 1)) * (stops.length - 1);
    const k = Math.min(stops.length - 2, Math.floor(at));
    return mixed(stops[k], stops[k + 1], at - k);
  });
}

export const css = ([r, g, b]) => `rgb(${Math.round(r)} ${Math.round(g)} ${Math.round(b)})`;

/** Black or white, whichever reads better on a colour. */
export const inkOn = ([r, g, b]) => (0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2 > 0.2 ? "#14130f" : "#ffffff");

/** The numbers at the ends of a scale: ["≤ 62°", "≥ 118°"]. */
export function endNumbers(key, { low, high, under, over }) {
  const number = (v) => (v === 0 ? "0" : QUANTITIES[key].number(v));
  return [`${under ? "≤ " : ""}${number(low)}`, `${over ? "≥ " : ""}${number(high)}`];
}
