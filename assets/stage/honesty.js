// Does the 2-D picture mislead at the shown point? Compares, over the positions, how far each appears to have travelled on
// the map with how far it moved in the full space. Pure functions. What it does not do: draw, keep anything.

import { num } from "./dom.js";

const LOW = 0.5; // a rank correlation below this: the order on the map is no guide

/** Ranks from 1; equal values share the mean of their ranks. */
export function ranks(values) {
  const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
  const out = new Array(values.length);
  for (let i = 0; i < order.length; ) {
    let end = i;
    while (end + 1 < order.length && values[order[end + 1]] === values[order[i]]) end++;
    for (let k = i; k <= end; k++) out[order[k]] = (i + end) / 2 + 1;
    i = end + 1;
  }
  return out;
}

/** Spearman's rank correlation: Pearson's of the ranks. NaN when one side does not vary. */
export function spearman(a, b) {
  const [x, y] = [ranks(a), ranks(b)];
  const middle = (a.length + 1) / 2;
  let xy = 0, xx = 0, yy = 0;
  for (let i = 0; i < x.length; i++) {
    xy += (x[i] - middle) * (y[i] - middle);
    xx += (x[i] - middle) ** 2;
    yy += (y[i] - middle) ** 2;
  }
  return xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : NaN;
}

/** Straight distance of each position from its start on the map at point j, in widths of the whole map; x counts `aspect` times, as drawn. */
export function travelled(places, j, aspect = 1) {
  const [from, to] = [places[0], places[j]];
  return Array.from({ length: from.length / 2 }, (_, t) => Math.hypot(to[2 * t] - from[2 * t], (to[2 * t + 1] - from[2 * t + 1]) / aspect) / 2);
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/**
 * Compares `onMap` and `inFull` (one distance per position, those without either are left out). null below three positions.
 * {n, rho, worst: {t, onMap, inFull, mapFurther, fullFurther, far}, misleads}: `worst` is the position whose two ranks lie
 * furthest apart (the first of equals), `…Further` how many others went further there, `far` that it looks further than it is.
 * `misleads`: rho below 0.5, or the worst one's ranks lie half the field apart and its share of the median is 1.5 times off.
 */
export function compare(onMap, inFull) {
  const known = [...onMap.keys()].filter((t) => Number.isFinite(onMap[t]) && Number.isFinite(inFull[t]));
  const n = known.length;
  if (n < 3) return null;
  const a = known.map((t) => onMap[t]);
  const b = known.map((t) => inFull[t]);
  const [ra, rb] = [ranks(a), ranks(b)];
  let at = 0;
  for (let i = 1; i < n; i++) if (Math.abs(ra[i] - rb[i]) > Math.abs(ra[at] - rb[at])) at = i;
  const far = ra[at] > rb[at];
  const further = (values) => values.filter((v) => v > values[at]).length;
  const worst = { t: known[at], onMap: a[at], inFull: b[at], mapFurther: further(a), fullFurther: further(b), far };
  const times = a[at] / median(a) / (b[at] / median(b));
  const off = far ? !(times < 1.5) : !(times > 1 / 1.5);
  const rho = spearman(a, b);
  return { n, rho, worst, misleads: rho < LOW || (Math.abs(ra[at] - rb[at]) >= (n - 1) / 2 && off) };
}

const width = (d) => `${num(d * 100, 2)} % of the map's width`;

/** A comparison in plain words: {warn, text}; null when there is nothing to compare. */
export function inWords(result) {
  if (!result || Number.isNaN(result.rho)) return null;
  const { n, rho, worst: w, misleads } = result;
  const order = `Rank correlation: ${(Math.round(rho * 100) / 100 || 0).toFixed(2).replace("-", "−")}`;
  if (!misleads) return { warn: false, text: `The distances travelled have much the same order on the map and in the full space. ${order}.` };
  const name = `position ${w.t + 1}`;
  const said = w.far
    ? `${name} looks as if it moved ${w.mapFurther ? `further than ${n - 1 - w.mapFurther} of ${n - 1} others` : "most"} (${width(w.onMap)}), but in the full space ${w.fullFurther} moved further than its ${num(w.inFull)}`
    : `${name} looks as if ${w.mapFurther} of ${n - 1} others moved further (it: ${width(w.onMap)}), but in the full space ${w.fullFurther ? `only ${w.fullFurther}` : "none"} moved further than its ${num(w.inFull)}`;
  return { warn: true, text: `Distance misleads here: ${said}. ${order}.` };
}
