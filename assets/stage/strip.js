// The token strip: one chip per prefix position, then the failed continuation (pushed away from) and the anchor (pulled
// toward). A listbox with a roving tab stop. What it does not do: decide the selection; it asks for it.

import { h, num, percent, setAttr, setText, setToken, tokenEl } from "./dom.js";

const COMPACT_ABOVE = 64;
export const SHADES = ["var(--lr-stage-w1)", "var(--lr-stage-w2)", "var(--lr-stage-w3)", "var(--lr-stage-w4)"];

/** Hull weights as one CSS gradient: original first, then vertices in the order of their rank, the rest grey. */
function bar(weights, ranking, shades) {
  const parts = [];
  let at = 0;
  let rest = 0;
  const push = (weight, color) => {
    if (weight <= 0) return;
    parts.push(`${color} ${(at * 100).toFixed(2)}% ${((at + weight) * 100).toFixed(2)}%`);
    at += weight;
  };
  const byId = new Map(weights.map((w) => [w.original ? "original" : w.id, w.weight]));
  push(byId.get("original") ?? 0, "var(--lr-stage-original-fill)");
  ranking.forEach((id, rank) => {
    const weight = byId.get(id) ?? 0;
    if (rank < shades) push(weight, SHADES[rank]);
    else rest += weight;
  });
  push(rest, "var(--lr-stage-rest)");
  return `linear-gradient(90deg, ${parts.join(", ")})`;
}

export class Strip {
  constructor({ onSelect, text }) {
    Object.assign(this, { onSelect, text });
    this.list = h("div", { class: "lr-s-chips", role: "listbox", "aria-label": "Positions of the prefix", "aria-orientation": "horizontal", on: { keydown: (e) => this.#key(e), click: (e) => this.#click(e) } });
    this.away = h("div", { class: "lr-s-flow lr-s-flow-away" });
    this.toward = h("div", { class: "lr-s-flow lr-s-flow-toward" });
    this.title = h("h3", { class: "lr-s-stage-h" });
    const key = (color, label) => h("span", { class: "lr-s-key" }, h("i", { style: `background:${color}` }), label);
    this.legend = h(
      "div",
      { class: "lr-s-keys", "aria-label": "Colours of the bars" },
      key("var(--lr-stage-original-fill)", "original token"),
      key("linear-gradient(90deg, var(--lr-stage-w1) 34%, var(--lr-stage-w2) 34% 67%, var(--lr-stage-w3) 67%)", "vertices it was pulled to"),
      key("var(--lr-stage-rest)", "the rest"),
      h("span", { class: "lr-s-key", text: "% left on the original" }),
      h("span", { class: "lr-s-key", text: "↦ distance moved" }),
    );
    this.others = h(
      "div",
      { class: "lr-s-flows" },
      this.awayBox = h("section", { class: "lr-s-flow-box lr-s-flow-box-away" }, h("h4", { class: "lr-s-flow-h" }, h("span", { class: "lr-s-sign", text: "−" }), "Failed continuation ", h("span", { class: "lr-s-flow-sub", text: "pushed away from" })), this.away),
      this.towardBox = h("section", { class: "lr-s-flow-box lr-s-flow-box-toward" }, h("h4", { class: "lr-s-flow-h" }, h("span", { class: "lr-s-sign", text: "+" }), "Anchor ", h("span", { class: "lr-s-flow-sub", text: "pulled toward; only the underlined answer is scored" })), this.toward),
    );
    this.el = h("section", { class: "lr-s-strip", "data-tour": "strip", "aria-label": "Tokens" }, h("div", { class: "lr-s-strip-head" }, this.title, this.legend), this.list, this.others);
    this.chips = [];
    this.selected = null;
    // Of a long prefix only the chips in sight are brought up to date at once, the others when there is time.
    this.watcher = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          const t = Number(target.dataset.t);
          if (this.chips[t]?.el !== target) continue;
          this.chips[t].away = !isIntersecting;
          if (isIntersecting && this.late?.delete(t)) this.#fill(t);
        }
      },
      { root: this.list, rootMargin: "80px 0px" },
    );
  }

  /** New run: one chip per position, the continuation and the anchor. */
  setRun({ prefix, continuation, anchor }) {
    const key = JSON.stringify([prefix, continuation, anchor]);
    if (key === this.key) return;
    this.key = key;
    this.selected = null;
    this.point = null;
    setText(this.title, prefix.length ? `Prefix · ${prefix.length} position${prefix.length === 1 ? "" : "s"}` : "Prefix");
    this.el.classList.toggle("lr-s-compact", prefix.length > COMPACT_ABOVE);
    this.chips = prefix.map((id, t) => {
      const parts = { original: h("bdi", { class: "lr-s-token lr-s-chip-original" }), now: h("bdi", { class: "lr-s-token" }), bar: h("span", { class: "lr-s-bar" }), kept: h("span"), moved: h("span", { class: "lr-s-chip-moved" }) };
      setToken(parts.original, this.text(id));
      parts.el = h(
        "div",
        { class: "lr-s-chip", role: "option", tabindex: t ? "-1" : "0", "aria-selected": "false", "data-t": t },
        // The words between the figures are for screen readers; together they make the option's name.
        h("span", { class: "lr-s-chip-index" }, h("span", { class: "lr-s-sr", text: "Position " }), String(t + 1)),
        parts.original,
        h("span", { class: "lr-s-chip-now" }, h("span", { class: "lr-s-arrow", "aria-hidden": "true", text: "→" }), h("span", { class: "lr-s-sr", text: " nearest now " }), parts.now),
        parts.bar,
        h("span", { class: "lr-s-chip-foot" }, h("span", {}, parts.kept, h("span", { class: "lr-s-sr", text: " left on the original, moved " })), parts.moved),
      );
      return parts;
    });
    this.list.replaceChildren(...this.chips.map((c) => c.el));
    this.late = null;
    this.watcher.disconnect();
    if (prefix.length > COMPACT_ABOVE) for (const chip of this.chips) this.watcher.observe(chip.el);
    this.awayBox.hidden = !continuation.length;
    this.away.replaceChildren(...continuation.map((id) => tokenEl(this.text(id))));
    this.towardBox.hidden = !anchor;
    const [from, to] = anchor?.answer_span ?? [0, 0];
    const tokens = anchor?.token_ids?.length ? anchor.token_ids.map((id, i) => tokenEl(this.text(id), i >= from && i < to ? "lr-s-answer" : "")) : anchor ? [tokenEl(anchor.text ?? "", "", 400)] : [];
    this.toward.replaceChildren(...tokens);
  }

  /** Shows point j of the trajectory on all chips. */
  show(trajectory, j) {
    const stamp = `${j}/${trajectory.S}/${trajectory.steps.at(-1)?.objective}`;
    if (this.point === stamp) return;
    this.point = stamp;
    Object.assign(this, { trajectory, j });
    this.late = new Set();
    this.chips.forEach((chip, t) => (chip.away ? this.late.add(t) : this.#fill(t)));
    if (this.late.size) this.#soon();
  }

  #fill(t) {
    const { trajectory, j } = this;
    const chip = this.chips[t];
    const compact = this.chips.length > COMPACT_ABOVE;
    const now = trajectory.nearest(t, j);
    const weights = trajectory.weights(t, j);
    const kept = weights.find((w) => w.original).weight;
    const changed = now !== trajectory.prefix[t];
    setToken(chip.now, this.text(now));
    chip.el.classList.toggle("lr-s-changed", changed);
    chip.bar.style.background = bar(weights, trajectory.ranking(t), compact ? 2 : 4);
    setText(chip.kept, percent(kept));
    const moved = trajectory.moved(t, j);
    setText(chip.moved, moved < 100 ? moved.toFixed(2) : num(moved));
  }

  /** Fills what is late once the point's picture is drawn and it rests: no frame of a scrub waits for chips out of sight. */
  #soon() {
    clearTimeout(this.soon);
    cancelAnimationFrame(this.drawn);
    this.drawn = requestAnimationFrame(() => {
      this.soon = setTimeout(() => {
        for (const t of this.late ?? []) this.#fill(t);
        this.late = null;
      }, 400);
    });
  }

  /** Marks the positions of `set` as pulled by a chosen token; null for none. */
  mark(set) {
    if (!set && !this.marked) return;
    this.marked = set;
    this.chips.forEach((chip, t) => chip.el.classList.toggle("lr-s-pulled", Boolean(set?.has(t))));
  }

  select(t, scroll = true) {
    if (t === this.selected) return;
    const before = this.chips[this.selected ?? 0]?.el;
    if (before) {
      setAttr(before, "aria-selected", "false");
      setAttr(before, "tabindex", "-1");
    }
    this.selected = t;
    const el = this.chips[t ?? 0]?.el;
    if (!el) return;
    setAttr(el, "tabindex", "0");
    if (t === null) return;
    setAttr(el, "aria-selected", "true");
    // Only the strip itself scrolls (long prefixes); the page stays where the reader is.
    // Asking for sizes costs a layout: only where the list can scroll at all.
    if (scroll && this.el.classList.contains("lr-s-compact")) {
      const top = el.offsetTop - this.list.offsetTop;
      if (top < this.list.scrollTop) this.list.scrollTop = top - 8;
      else if (top + el.offsetHeight > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + el.offsetHeight - this.list.clientHeight + 8;
    }
  }

  #click(event) {
    const chip = event.target.closest(".lr-s-chip");
    if (chip) this.onSelect(Number(chip.dataset.t));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.chips.length) return;
    const at = this.selected ?? 0;
    const top = this.chips[0].el.offsetTop;
    const second = this.chips.findIndex((c) => c.el.offsetTop !== top);
    const columns = second < 0 ? this.chips.length : second;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: this.chips.length - 1, Enter: at }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const t = Math.max(0, Math.min(this.chips.length - 1, to));
    this.onSelect(t);
    this.chips[t].el.focus({ preventScroll: this.list.scrollHeight > this.list.clientHeight + 2 });
  }
}
