// The tokens that the oracle picked up to the shown point: how often (positions × steps), for how many positions, and how long
// each one's row of the vocabulary is. Choosing one shows which positions it pulled.
// What it does not do: decide the selection; it asks for it.

import { h, hint, num, percent, setAttr, setText, setToken } from "./dom.js";

const ROWS = 12;

export class Picks {
  /** `onPick(id, positions)` reports a choice (id null: none); `text(id)` gives a token's text. */
  constructor({ onPick, text }) {
    Object.assign(this, { onPick, text });
    this.chosen = null;
    this.sum = h("p", { class: "lr-s-picks-sum" });
    this.rows = Array.from({ length: ROWS }, () => {
      const parts = { token: h("bdi", { class: "lr-s-token" }), fill: h("i"), count: h("span", { class: "lr-s-pick-count" }), length: h("span", { class: "lr-s-pick-length" }) };
      parts.button = h(
        "button",
        { type: "button", class: "lr-s-pick", "aria-pressed": "false", on: { click: () => this.#press(parts.id) } },
        h("span", { class: "lr-s-pick-name" }, h("span", { class: "lr-s-diamond", "aria-hidden": "true", text: "◆ " }), parts.token),
        h("span", { class: "lr-s-w-bar", "aria-hidden": "true" }, parts.fill),
        parts.count,
        parts.length,
      );
      parts.el = h("li", {}, parts.button);
      return parts;
    });
    this.list = h("ol", { class: "lr-s-picks-list" }, ...this.rows.map((r) => r.el));
    this.more = h("p", { class: "lr-s-w-rest" });
    this.pulled = h("p", { class: "lr-s-picks-pulled", role: "status" });
    this.why = h("p", { class: "lr-s-picks-why" });
    this.blank = h("p", { class: "lr-s-linked-blank" });
    this.body = h("div", {}, this.sum, this.list, this.more, this.pulled, this.why);
    this.el = h(
      "section",
      { class: "lr-s-card lr-s-picks", "data-tour": "picks", "aria-label": "Tokens the oracle picked" },
      h("div", { class: "lr-s-linked-head" }, h("h3", { class: "lr-s-stage-h", text: "Tokens the oracle picked" }), hint("At each step the oracle picks one token of the whole vocabulary per position: its vertex. Counted here over all positions and all steps up to the shown point. Choose one to see which positions it pulled.")),
      this.blank,
      this.body,
    );
    this.#forget();
  }

  #forget() {
    this.counts = new Map();
    this.at = 0;
  }

  /** Counts by adding or taking away only the steps between the last shown point and j. */
  #countTo(steps, j) {
    const add = (k, by) => {
      for (const id of steps[k].vertices ?? []) {
        const n = (this.counts.get(id) ?? 0) + by;
        if (n) this.counts.set(id, n);
        else this.counts.delete(id);
      }
    };
    while (this.at < j) add(this.at++, 1);
    while (this.at > j) add(--this.at, -1);
  }

  /** Positions that token `id` pulled before point j, in the order of the text. */
  #positions(id, j) {
    const out = new Set();
    for (let k = 0; k < j; k++) this.trajectory.steps[k].vertices.forEach((v, t) => v === id && out.add(t));
    return [...out].sort((a, b) => a - b);
  }

  /** `version` changes whenever the trajectory does; `norms` {id: length} and `median` as in the payload, or missing. */
  show(trajectory, j, version, norms, median) {
    const stamp = `${version}/${j}/${this.chosen}/${median}`;
    if (stamp === this.stamp) return;
    this.stamp = stamp;
    if (version !== this.version) {
      this.version = version;
      this.#forget();
    }
    Object.assign(this, { trajectory, j });
    this.#countTo(trajectory.steps, j);
    const total = [...this.counts.values()].reduce((a, b) => a + b, 0);
    this.blank.hidden = total > 0;
    this.body.hidden = !total;
    setText(this.blank, trajectory.S ? "No step taken yet at point 0. The diamonds on the map show where the first step will pull." : "The first step picks the first tokens.");
    if (!total) return;
    const top = [...this.counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const known = Boolean(norms && median > 0);
    setText(this.sum, `${trajectory.M} position${trajectory.M === 1 ? "" : "s"} × ${j} step${j === 1 ? "" : "s"} = ${total.toLocaleString("en")} picks; ${top.length} different token${top.length === 1 ? "" : "s"}.`);
    this.el.classList.toggle("lr-s-picks-lengths", known);
    this.rows.forEach((row, i) => {
      row.el.hidden = i >= top.length;
      if (i >= top.length) return;
      const [id, n] = top[i];
      row.id = id;
      setToken(row.token, this.text(id), 24);
      row.fill.style.width = `${((100 * n) / top[0][1]).toFixed(1)}%`;
      setText(row.count, `${n.toLocaleString("en")} · ${percent(n / total)}`);
      setText(row.length, known && norms[id] > 0 ? `${num(norms[id] / median, 2)} × the median length` : "");
      setAttr(row.button, "aria-pressed", id === this.chosen ? "true" : "false");
    });
    const rest = top.slice(ROWS);
    setText(this.more, rest.length ? `and ${rest.length} more, picked ${rest.reduce((a, r) => a + r[1], 0)} times together` : "");
    setText(this.why, known ? this.#why(top, total, norms, median) : "");
    this.#showPulled();
  }

  /** What the lengths say in this run: a number first, then one sentence of the reason. */
  #why(top, total, norms, median) {
    const short = top.reduce((sum, [id, n]) => sum + (norms[id] < median ? n : 0), 0) / total;
    const share = `${percent(short)} of the picks are rows shorter than the median of the vocabulary. `;
    return short >= 0.5
      ? `${share}Where the gradient points along the part that all rows share, the smallest product belongs to a short row, so a short row can win without meaning anything here.`
      : `${share}Where the gradient points against the part that all rows share, long rows have the smallest product, so length alone can win.`;
  }

  #showPulled() {
    const positions = this.chosen === null ? [] : this.#positions(this.chosen, this.j);
    this.pulled.hidden = this.chosen === null;
    const named = positions.slice(0, 12).map((t) => t + 1).join(", ");
    setText(this.pulled, !positions.length ? "Up to this point it pulled no position." : `Pulled position${positions.length === 1 ? "" : "s"} ${named}${positions.length > 12 ? ` and ${positions.length - 12} more` : ""}: ringed on the map, marked ◆ in the strip.`);
  }

  /** Positions pulled by the chosen token before the shown point; null when none is chosen. */
  rings() {
    return this.chosen === null ? null : new Set(this.#positions(this.chosen, this.j));
  }

  #press(id) {
    this.chosen = this.chosen === id ? null : id;
    this.onPick(this.chosen, this.chosen === null ? [] : this.#positions(id, this.j));
  }

  clear() {
    this.chosen = null;
    this.stamp = null;
  }
}
