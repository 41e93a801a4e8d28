// Small helpers to build and update DOM without templates. Text that came from a model only ever passes through
// textContent / createTextNode here. What it does not do: keep state, know the payload.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children. `text` sets textContent, `on` adds listeners, the rest are attributes. */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") el.textContent = value;
    else if (key === "on") for (const [type, fn] of Object.entries(value)) el.addEventListener(type, fn);
    else el.setAttribute(key, value === true ? "" : value);
  }
  el.append(...children.filter((child) => child !== null && child !== undefined));
  return el;
}

/** A canvas's 2-D context that draws on the processor. Long dashed lines and thousands of segments are what a graphics card is worst
    at, and where the card is a program (no driver, most servers and virtual machines) one frame of them took up to four seconds. */
export function pen(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** The same for SVG; attributes and children only. */
export function svg(tag, attrs = {}, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attrs)) el.setAttribute(key, value);
  el.append(...children);
  return el;
}

/** Sets text only when it differs, so that streaming updates neither flicker nor lose a reader's text selection. */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

export function setAttr(el, name, value) {
  if (value === null || value === false) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (el.getAttribute(name) !== text) el.setAttribute(name, text);
  }
}

// Everything that would be invisible or would disturb the line: control characters, zero-width and bidirectional marks.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const MARKS = /( +|\n|\t|\r)/;
const MARK_OF = { "\n": "⏎", "\t": "⇥", "\r": "␍" };

function markOf(piece) {
  return MARK_OF[piece] || "␣".repeat(piece.length);
}

function clean(text) {
  return text.replace(HIDDEN, (c) => `⟨${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** Shortens by code points, not by halves of surrogate pairs. */
export function shorten(text, limit) {
  if (text.length <= limit) return text;
  const points = Array.from(text);
  return points.length <= limit ? text : points.slice(0, limit - 1).join("") + "…";
}

/** Token text as one plain string with visible spaces, for canvas, titles and labels. */
export function visible(text, limit = 28) {
  if (text === undefined || text === null) return "?";
  if (text === "") return "∅";
  return shorten(clean(String(text)).split(MARKS).map((p) => (p && MARKS.test(p) ? markOf(p) : p)).join(""), limit);
}

/** Fills `el` with token text whose spaces and line ends are faint marks. Does nothing when it already shows that text. */
export function setToken(el, text, limit = 40) {
  const key = text === undefined || text === null ? "\u0000?" : String(text);
  if (el.lrToken === key) return;
  el.lrToken = key;
  if (key === "\u0000?" || key === "") {
    el.replaceChildren(h("span", { class: "lr-s-ws", text: key === "" ? "∅" : "?" }));
    return;
  }
  const nodes = [];
  for (const piece of shorten(clean(key), limit).split(MARKS)) {
    if (!piece) continue;
    if (MARKS.test(piece)) nodes.push(h("span", { class: "lr-s-ws", text: markOf(piece) }));
    else nodes.push(document.createTextNode(piece));
  }
  el.replaceChildren(...nodes);
}

/** An element that holds token text: isolated from its surroundings' writing direction. */
export function tokenEl(text, cls = "", limit = 40) {
  const el = h("bdi", { class: `lr-s-token ${cls}`.trim() });
  setToken(el, text, limit);
  return el;
}

const ICONS = {
  first: ["M5 4v12", "M16 4.5v11L7.5 10z"],
  back: ["M15 4.5v11L6.5 10z"],
  play: ["M6 3.8v12.4L16.2 10z"],
  pause: ["M6 4h3v12H6z", "M11.5 4h3v12h-3z"],
  step: ["M4.5 4.5v11L12 10z", "M15 4v12"],
  last: ["M4 4.5v11l8.5-5.5z", "M15 4v12"],
  restart: ["M4.2 10a5.8 5.8 0 1 0 1.9-4.3", "M6.6 2.6 5.9 6l3.4.6"],
  plus: ["M10 4.5v11", "M4.5 10h11"],
  minus: ["M4.5 10h11"],
  focus: ["M3.5 7V3.5H7", "M13 3.5h3.5V7", "M16.5 13v3.5H13", "M7 16.5H3.5V13", "M10 8.6v2.8", "M8.6 10h2.8"],
  all: ["M3.5 7V3.5H7", "M13 3.5h3.5V7", "M16.5 13v3.5H13", "M7 16.5H3.5V13"],
  prev: ["M12 5l-5 5 5 5"],
  next: ["M8 5l5 5-5 5"],
};
const SOLID = new Set(["play", "pause"]);

export function icon(name) {
  const el = svg("svg", { viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true", focusable: "false", class: "lr-s-icon" });
  for (const d of ICONS[name]) {
    const filled = SOLID.has(name) || /z$/.test(d);
    el.append(svg("path", { d, fill: filled ? "currentColor" : "none", stroke: "currentColor", "stroke-width": filled ? 1 : 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" }));
  }
  return el;
}

/** A number for people: three significant digits, a true minus sign, never NaN. */
export function num(x, digits = 3) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(1) : x.toFixed(Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size || 1)))));
  return text.replace("-", "−");
}

/** A step size without trailing zeros: 0.05, not 0.050. */
export function gammaText(gamma) {
  return Number.isFinite(gamma) ? String(Number(gamma.toPrecision(3))) : "–";
}

/** A share in whole per cent, which reads 0 or 100 only where it is. */
export function percent(w) {
  if (!Number.isFinite(w)) return "–";
  const whole = Math.round(w * 100);
  if (whole === 0 && w > 0) return "<1 %";
  return whole === 100 && 1 - w > 1e-8 ? ">99 %" : `${whole} %`;
}

/** A "?" that explains a number in one sentence: a real button, so that touch and keyboard reach the text as well. */
export function hint(sentence) {
  const el = h("button", { type: "button", class: "lr-s-hint", "aria-label": `What is this? ${sentence}`, "data-tip": sentence, text: "?" });
  el.addEventListener("keydown", (event) => event.key === "Escape" && el.blur());
  return el;
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** One tooltip for all hints below `root`: shown on hover and focus, placed so that it never leaves the window. */
export function hintBox(root) {
  const box = h("div", { class: "lr-s-tipbox", role: "tooltip", hidden: true });
  root.append(box);
  const show = (event) => {
    const el = event.target.closest?.(".lr-s-hint");
    if (!el) return;
    setText(box, el.dataset.tip);
    box.hidden = false;
    const at = el.getBoundingClientRect();
    // A transformed ancestor or a container makes `fixed` relative to itself: measure where (0, 0) really is.
    box.style.left = box.style.top = "0px";
    const zero = box.getBoundingClientRect();
    const left = Math.max(12, Math.min(innerWidth - zero.width - 12, at.left + at.width / 2 - zero.width / 2));
    const above = at.top - zero.height - 8;
    box.style.left = `${left - zero.left}px`;
    box.style.top = `${(above > 8 ? above : at.bottom + 8) - zero.top}px`;
  };
  const hide = () => (box.hidden = true);
  root.addEventListener("pointerover", (event) => (event.target.closest?.(".lr-s-hint") ? show(event) : document.activeElement?.matches(".lr-s-hint") || hide()));
  root.addEventListener("focusin", (event) => (event.target.matches(".lr-s-hint") ? show(event) : hide()));
  root.addEventListener("focusout", hide);
  root.addEventListener("click", show);
}
