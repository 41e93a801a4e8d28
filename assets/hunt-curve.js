// A small pass@k curve: the chance that one of k rollouts is right, over k on a doubling scale. One per family, all on the same axes,
// so that they can be compared at a glance. What it does not do: estimate; Python does.

import { el, percent, setAttr } from "./tokens.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [260, 96];
const PAD = { left: 34, right: 44, top: 8, bottom: 20 };

function shape(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The curve of `family.pass_at`, [[k, share], …] with k rising from 1. */
export function passCurve({ pass_at: points }) {
  const svg = shape("svg", { class: "lr-curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  setAttr(svg, "aria-label", points.length ? points.map(([k, p]) => `pass@${k} ${percent(p)}`).join(", ") : "Nothing tried yet");
  if (!points.length) return svg;
  const last = Math.log2(points.at(-1)[0]) || 1;
  const x = (k) => PAD.left + ((WIDTH - PAD.left - PAD.right) * Math.log2(k)) / last;
  const y = (p) => PAD.top + (HEIGHT - PAD.top - PAD.bottom) * (1 - p);
  for (const p of [0, 0.5, 1]) {
    svg.append(shape("line", { x1: PAD.left, x2: WIDTH - PAD.right, y1: y(p), y2: y(p), class: p ? "lr-curve-grid" : "lr-curve-base" }));
    svg.append(shape("text", { x: PAD.left - 5, y: y(p) + 4, "text-anchor": "end" }, percent(p)));
  }
  const named = points.filter((_, i) => i === 0 || i === points.length - 1 || points.length < 5 || i % 2 === 0);
  named.forEach(([k]) => svg.append(shape("text", { x: x(k), y: HEIGHT - 5, "text-anchor": "middle" }, k === 1 ? "k = 1" : String(k))));
  svg.append(shape("polyline", { points: points.map(([k, p]) => `${x(k)},${y(p)}`).join(" "), class: "lr-curve-line" }));
  for (const [k, p] of points) svg.append(shape("circle", { cx: x(k), cy: y(p), r: 2.5, class: "lr-curve-dot" }));
  svg.append(shape("text", { x: x(points.at(-1)[0]) + 7, y: y(points.at(-1)[1]) + 4, class: "lr-curve-end" }, percent(points.at(-1)[1])));
  return el("div", { class: "lr-curve-frame" }, svg);
}
