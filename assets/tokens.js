// Shared helpers of the views: model text to DOM with visible marks, verdict badges, numbers, the rate bar.
// Model text is untrusted: everything here goes through textContent or createTextNode, never through markup.
// What it does not do: know any payload; talk to Python.

/** Make an element. `props`: `class`, `text`, `on: {event: handler}`, `data: {…}`; anything else becomes an attribute (null is left out). */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key === "class") node.className = value;
    else if (key === "text") node.textContent = value;
    else if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (key === "data") Object.assign(node.dataset, value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Write text only where it changed: an untouched node keeps selection and is not read out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute only where it changed; null takes it away. */
export function setAttr(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

let turn = 0;

/** Counts what a person chooses on this page (a run, a rollout, a cut) as it is sent to Python: it may arrive out of order. */
export function nextTurn() {
  turn += 1;
  return turn;
}

let lastId = 0;
/** An id that is unique on the page, for aria-labelledby and the like. */
export function uid(prefix) {
  lastId += 1;
  return `lr-${prefix}-${lastId}`;
}

// ---- text of tokens ----

// Whitespace, and characters that are invisible or that turn the direction of the text around them (Trojan-source style).
const SPECIAL = /\r\n|[\n\r\t \u0000-\u001f\u007f-\u00a0\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

function markFor(char, breaks) {
  const span = document.createElement("span");
  if (char === " ") {
    span.className = "lr-mark lr-mark-space";
    span.textContent = " ";
  } else if (char === "\n" || char === "\r" || char === "\r\n") {
    span.className = breaks ? "lr-mark lr-mark-line" : "lr-mark";
    span.textContent = breaks ? "\n" : "⏎";
  } else if (char === "\t") {
    span.className = breaks ? "lr-mark lr-mark-tab" : "lr-mark";
    span.textContent = breaks ? "\t" : "⇥";
  } else {
    const code = char.codePointAt(0);
    span.className = "lr-mark lr-mark-control";
    span.textContent = code < 0x20 ? String.fromCodePoint(0x2400 + code) : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  }
  return span;
}

/** Append `text` to `node` with visible ␣ ⏎ ⇥ marks. `breaks`: newlines also break the line (running text) or not (labels). */
export function appendText(node, text, breaks = true) {
  let from = 0;
  for (const match of text.matchAll(SPECIAL)) {
    if (match.index > from) node.append(text.slice(from, match.index));
    node.append(markFor(match[0], breaks));
    from = match.index + match[0].length;
  }
  if (from < text.length) node.append(text.slice(from));
  return node;
}

/** One token as a span of running text. */
export function tokenNode(text) {
  const span = document.createElement("span");
  span.className = "lr-token";
  return appendText(span, text);
}

/** Cut a text to at most `limit` characters, never through a surrogate pair. */
export function shorten(text, limit = 32) {
  const chars = Array.from(text);
  return chars.length <= limit ? text : `${chars.slice(0, limit - 1).join("")}…`;
}

/** A token quoted inside a sentence: marks visible, no line break, shortened. */
export function inlineToken(text, limit = 32) {
  const span = document.createElement("span");
  span.className = "lr-inline-token";
  return appendText(span, shorten(text, limit), false);
}

/** A token in words, for screen readers and tooltips. */
export function spokenToken(text) {
  if (/^\n+$/.test(text)) return text.length === 1 ? "line break" : `${text.length} line breaks`;
  if (/^ +$/.test(text)) return text.length === 1 ? "space" : `${text.length} spaces`;
  return `“${shorten(text.replaceAll("\n", "⏎").replaceAll("\t", "⇥"), 40)}”`;
}

/**
 * Keeps a container's children equal to a list of token texts, appending only: what is already right stays the same DOM node.
 * `decorate(node, index)` is called for each node that is new.
 */
export class TokenRun {
  constructor(container, decorate = null) {
    this.container = container;
    this.decorate = decorate;
    this.texts = [];
    this.nodes = [];
  }

  /** Returns true if anything changed. */
  sync(texts) {
    let same = 0;
    while (same < this.texts.length && same < texts.length && this.texts[same] === texts[same]) same += 1;
    if (same === this.texts.length && same === texts.length) return false;
    for (const node of this.nodes.splice(same)) node.remove();
    this.texts.length = same;
    const fresh = document.createDocumentFragment();
    for (let i = same; i < texts.length; i += 1) {
      const node = tokenNode(texts[i]);
      if (this.decorate) this.decorate(node, i);
      this.nodes.push(node);
      this.texts.push(texts[i]);
      fresh.append(node);
    }
    this.container.append(fresh);
    return true;
  }
}

// ---- verdicts ----

export const VERDICTS = {
  correct: { sign: "✓", word: "Correct" },
  wrong: { sign: "✗", word: "Wrong" },
  unjudged: { sign: "?", word: "Unjudged" },
};
const RUNNING = { sign: "…", word: "Sampling" };
const CHECKING = { sign: "…", word: "Checking" };
const NEVER = { sign: "–", word: "Not judged" };

/** A verdict badge; update it with `setBadge`. */
export function badge(verdict = null, running = false) {
  const node = el("span", { class: "lr-badge" }, el("span", { class: "lr-badge-sign", "aria-hidden": "true" }), el("span", {}));
  setBadge(node, verdict, running);
  return node;
}

/** `verdict` null: still sampling (`running`), waiting for the verifier (`busy`), or stopped before either was over. */
export function setBadge(node, verdict, running = false, busy = true) {
  const known = VERDICTS[verdict] ?? (running ? RUNNING : busy ? CHECKING : NEVER);
  setAttr(node, "data-verdict", VERDICTS[verdict] ? verdict : running || busy ? "running" : "never");
  setText(node.firstChild, known.sign);
  setText(node.lastChild, known.word);
}

// ---- numbers ----

const THIN = "\u202f";

/** A share in whole per cent, with so many decimals that it reads 0 or 100 only where it is (explorer/views/success.py does the same). */
function hundredths(x) {
  const whole = Math.round(100 * x);
  const rest = whole === 0 ? x : 1 - x;
  if ((whole !== 0 && whole !== 100) || rest < 1e-8) return String(whole);
  const scale = 10 ** Math.ceil(-Math.log10(100 * rest));
  return String(Math.round(100 * x * scale) / scale);
}

/** 0.3241 → "32 %", 0.0037 → "0.4 %". */
export function percent(x) {
  return Number.isFinite(x) ? `${hundredths(x)}${THIN}%` : "–";
}

/** A short number: at most `digits` decimals, no trailing zeros. */
export function number(x, digits = 1) {
  return Number.isFinite(x) ? String(Number(x.toFixed(digits))) : "–";
}

/** [0, 0.324] → "0–32 %". */
export function interval(pair) {
  return pair ? `${hundredths(pair[0])}–${percent(pair[1])}` : "–";
}

/** "1 token", "2 tokens". */
export function plural(n, word, many = `${word}s`) {
  return `${n}\u00a0${n === 1 ? word : many}`;
}

/** Sampling settings in one line: part of every claim about pass@n. */
export function samplingText(s) {
  if (!s) return "";
  const parts = [
    s.n == null ? null : `N = ${s.n}`,
    s.temperature == null ? null : `temperature ${number(s.temperature, 2)}`,
    s.top_p == null ? null : `top-p ${number(s.top_p, 3)}`,
    s.max_new_tokens == null ? null : `at most ${plural(s.max_new_tokens, "token")}`,
    s.seed == null ? null : `seed ${s.seed}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Share of rollouts as a bar on a 0–100 % axis with its interval as a whisker. */
export function rateBar() {
  const bar = el("div", { class: "lr-rate-bar" });
  const whisker = el("div", { class: "lr-rate-whisker" });
  const node = el("div", { class: "lr-rate", role: "img" }, el("div", { class: "lr-rate-track" }), bar, whisker);
  return {
    node,
    /** `k` of `n` correct; `pair` = Wilson interval as shares, or null. */
    update(k, n, pair) {
      bar.style.inlineSize = `${n ? (100 * k) / n : 0}%`;
      bar.hidden = !k;
      whisker.hidden = !pair;
      if (pair) {
        whisker.style.insetInlineStart = `${100 * pair[0]}%`;
        whisker.style.insetInlineEnd = `${100 * (1 - pair[1])}%`;
      }
      setAttr(node, "aria-label", n ? `${k} of ${n} correct, ${percent(k / n)}${pair ? `, 95 % interval ${interval(pair)}` : ""}` : "Nothing sampled yet");
    },
  };
}

/** The scale under a column of rate bars. */
export function rateAxis() {
  return el("div", { class: "lr-axis", "aria-hidden": "true" }, ...[0, 25, 50, 75, 100].map((x) => el("span", { text: x === 100 ? `100${THIN}%` : String(x), style: `inset-inline-start:${x}%` })));
}

/** Run `render` at most once per frame; a hidden page renders at once, since it gets no frames. */
export function perFrame(render) {
  let queued = false;
  const run = () => {
    queued = false;
    render();
  };
  return () => {
    if (document.hidden) return run();
    if (queued) return undefined;
    queued = true;
    return requestAnimationFrame(run);
  };
}
