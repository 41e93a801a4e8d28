// The readout: everything about the selected position at the shown point, in words and exact numbers.
// What it does not do: compute weights (hull.js does) or keep the selection.

import { gammaText, h, hint, icon, num, percent, setAttr, setText, setToken, svg } from "./dom.js";
import { SHADES } from "./strip.js";
import { angleInWords } from "./hull.js";

const ROWS = 6;

const WHY = [
  "The oracle has no notion of meaning. It takes the gradient at this position and multiplies it with every row of the vocabulary; the row with the smallest product wins. Going toward it promises the largest fall of the objective, by a straight-line estimate.",
  "Length counts as well as direction. Rows share a common part. Where the gradient points along it, nearly every product is positive, and the smallest belongs to a short row: such a vertex weakens what stood here rather than saying something new. On the default model the shortest rows are first names (John, Michael, David). Where the gradient points against the common part, long rows win: beginnings of long words (\u201cstrugg\u201d, \u201caffili\u201d) and bits of code.",
  "No row points straight downhill. In hundreds of dimensions even the winner is nearly at right angles to that direction (on the default model 73° to 87° off it, in the runs we measured), so a rare piece of a word can narrowly beat a sensible one.",
  "So read a vertex as a direction, not as a word the model would like to say. The position only ever takes the share γ of it per step; the exact mixture is listed above.",
];

const STEP = [
  ["○", "lr-s-c-original", "Every position starts at the embedding of its own token."],
  ["∇", "lr-s-c-ink", "The gradient tells how the two losses change when it moves: toward the gold answer, away from the failed continuation."],
  ["◆", "lr-s-c-vertex", "Of all tokens of the vocabulary, the one that lies lowest along that slope becomes its vertex."],
  ["●", "lr-s-c-ink", "The position moves the share γ of the way there. So after k steps it is an exact mixture of at most k + 1 real tokens."],
];

export class Readout {
  constructor({ onSelect, onSeek, text }) {
    Object.assign(this, { onSelect, onSeek, text });
    const arrow = (name, label, by) => h("button", { type: "button", class: "lr-s-icon-button", title: label, "aria-label": label, on: { click: () => this.onSelect((this.t + by + this.M) % this.M) } }, icon(name));
    this.nav = h("span", { class: "lr-s-read-nav" }, arrow("prev", "Position before", -1), arrow("next", "Position after", 1));
    this.title = h("h3", { class: "lr-s-stage-h" });
    this.original = h("bdi", { class: "lr-s-token lr-s-big lr-s-big-original" });
    this.now = h("bdi", { class: "lr-s-token lr-s-big" });
    this.state = h("span", { class: "lr-s-badge" });
    this.rows = Array.from({ length: ROWS }, () => {
      const parts = { token: h("bdi", { class: "lr-s-token" }), tag: h("span", { class: "lr-s-w-tag" }), fill: h("i"), value: h("span", { class: "lr-s-w-value" }) };
      parts.el = h("li", { class: "lr-s-w" }, h("span", { class: "lr-s-w-name" }, parts.token, parts.tag), h("span", { class: "lr-s-w-bar" }, parts.fill), parts.value);
      return parts;
    });
    this.rest = h("p", { class: "lr-s-w-rest" });
    this.vertexToken = h("bdi", { class: "lr-s-token" });
    this.vertexLead = h("span");
    this.vertexTail = h("span");
    this.vertexLine = h("p", { class: "lr-s-vertex-line" }, h("span", { class: "lr-s-diamond", "aria-hidden": "true", text: "◆" }), h("span", { class: "lr-s-vertex-words" }, this.vertexLead, this.vertexToken, this.vertexTail));
    const fact = (name, sentence) => {
      const value = h("dd", {});
      return { value, el: h("div", { class: "lr-s-fact" }, h("dt", {}, name, hint(sentence)), value) };
    };
    this.facts = {
      moved: fact("Moved", "L2 distance between this position's embedding now and where it began, in the model's full embedding space; the map can't show it truly."),
      toward: fact("‖toward gradient‖", "Length of the gradient of the toward loss at this position: how strongly the answer pulls here (nats per token, per unit of embedding distance)."),
      away: fact("‖away gradient‖", "Length of the gradient of the away loss at this position: how strongly the failed continuation depends on it (nats per token, per unit of embedding distance)."),
      angle: fact("Angle between them", "Angle between the gradients of the two losses. The toward loss is lowered and the away loss is raised, so alike directions (a small angle) mean conflict."),
    };
    this.chart = svg("svg", { class: "lr-s-stack", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" });
    this.chart.addEventListener("click", (event) => {
      const box = this.chart.getBoundingClientRect();
      this.onSeek(Math.floor(((event.clientX - box.left) / box.width) * this.columns));
    });
    this.chartEnd = h("span");
    // The explanation opens over what follows, so that nothing below it jumps and the map keeps its size.
    this.why = h("details", { class: "lr-s-why" }, h("summary", { text: "Why this token?" }), h("div", { class: "lr-s-why-panel", tabindex: "-1" }, ...WHY.map((text) => h("p", { text }))));
    const close = (event) => {
      if (event.type === "keydown" ? event.key === "Escape" : !this.why.contains(event.relatedTarget)) this.why.open = false;
    };
    for (const type of ["keydown", "focusout"]) this.why.addEventListener(type, close);
    this.body = h(
      "div",
      { class: "lr-s-read-body" },
      h("div", { class: "lr-s-read-tokens" }, this.original, h("span", { class: "lr-s-arrow", text: "→" }), this.now),
      h("div", { class: "lr-s-sub-h" }, "Made of, exactly", hint("Hull weights: the position's embedding is exactly this mixture of real tokens' embeddings. The shares are never negative and sum to 1."), this.rest),
      h("ol", { class: "lr-s-ws-list" }, ...this.rows.map((r) => r.el)),
      h("div", { class: "lr-s-vertex-box" }, this.vertexLine, this.why),
      h("dl", { class: "lr-s-facts" }, ...Object.values(this.facts).map((f) => f.el)),
      h("div", { class: "lr-s-sub-h" }, "Mixture over the steps", hint("Each column is one point of the trajectory; its height is shared among the tokens by their hull weights. Click a column to go there.")),
      h("div", { class: "lr-s-stack-box" }, this.chart, h("div", { class: "lr-s-stack-axis", "aria-hidden": "true" }, h("span", { text: "start" }), this.chartEnd)),
    );
    this.blank = h(
      "div",
      { class: "lr-s-read-blank" },
      h("p", { text: "Select a position on the map or in the token strip to see what it is made of." }),
      h("h4", { text: "What one step does" }),
      h("ol", {}, ...STEP.map(([sign, cls, words]) => h("li", {}, h("span", { class: `lr-s-blank-sign ${cls}`, "aria-hidden": "true", text: sign }), words))),
    );
    this.el = h("section", { class: "lr-s-card lr-s-readout", "data-tour": "readout", "aria-label": "Selected position" }, h("div", { class: "lr-s-read-head" }, this.title, this.state, this.nav), this.blank, this.body);
  }

  show(trajectory, t, j) {
    const some = t !== null && t < trajectory.M;
    this.t = t ?? 0;
    this.M = Math.max(1, trajectory.M);
    for (const button of this.nav.children) button.disabled = !trajectory.M;
    this.body.hidden = !some;
    this.blank.hidden = some;
    this.state.hidden = !some;
    setText(this.title, some ? `Position ${t + 1} of ${trajectory.M}` : "Position");
    if (!some) return;
    const original = trajectory.prefix[t];
    const now = trajectory.nearest(t, j);
    setToken(this.original, this.text(original));
    setToken(this.now, this.text(now));
    setText(this.state, now === original ? "nearest token: unchanged" : "nearest token: changed");
    this.state.classList.toggle("lr-s-badge-changed", now !== original);
    this.now.classList.toggle("lr-s-big-changed", now !== original);
    this.#showWeights(trajectory, t, j);
    this.#showPull(trajectory, t, j);
    this.#showChart(trajectory, t, j);
  }

  #showWeights(trajectory, t, j) {
    const weights = trajectory.weights(t, j);
    const ranking = trajectory.ranking(t);
    const vertex = trajectory.vertex(t, j);
    this.rows.forEach((row, i) => {
      const w = weights[i];
      row.el.classList.toggle("lr-s-w-none", !w);
      if (!w) {
        setToken(row.token, " ");
        row.fill.style.width = "0";
        for (const el of [row.tag, row.value]) setText(el, "");
        return;
      }
      setToken(row.token, this.text(w.id), 24);
      setText(row.tag, w.original ? "original" : w.id === vertex ? "◆" : "");
      row.tag.classList.toggle("lr-s-c-vertex", !w.original);
      setText(row.value, percent(w.weight));
      setAttr(row.value, "title", w.weight.toFixed(6));
      row.fill.style.width = `${(w.weight * 100).toFixed(2)}%`;
      const rank = ranking.indexOf(w.id);
      row.fill.style.background = w.original ? "var(--lr-stage-original-fill)" : rank < 4 ? SHADES[rank] : "var(--lr-stage-rest)";
    });
    const others = weights.slice(ROWS);
    setText(this.rest, others.length ? `and ${others.length} more, together ${percent(others.reduce((sum, w) => sum + w.weight, 0))}` : "");
  }

  #showPull(trajectory, t, j) {
    const k = trajectory.pullStep(j);
    const step = trajectory.steps[k];
    this.vertexLine.hidden = !step;
    if (step) {
      const past = k < j;
      setText(this.vertexLead, past ? `Step ${k + 1} pulled it to ` : `Step ${k + 1} pulls it to `);
      setToken(this.vertexToken, this.text(step.vertices[t]));
      const { pulled } = trajectory.vertexUse(step.vertices[t], k);
      const others = pulled - 1;
      setText(this.vertexTail, ` with γ = ${gammaText(step.step_size)}${others > 0 ? `, and ${others} other position${others > 1 ? "s" : ""} with it` : ""}.`);
    }
    const at = k >= 0 ? `at point ${k}` : "";
    const cosine = step?.grad_cosine?.[t];
    const angle = angleInWords(cosine);
    setText(this.facts.moved.value, `${num(trajectory.moved(t, j))}`);
    setText(this.facts.toward.value, num(step?.toward_grad_norm?.[t]));
    setText(this.facts.away.value, num(step?.away_grad_norm?.[t]));
    setText(this.facts.angle.value, Number.isFinite(angle.degrees) ? `${Math.round(angle.degrees)}° — ${angle.verdict}: ${angle.words}` : "–");
    for (const f of ["toward", "away", "angle"]) setAttr(this.facts[f].value, "title", at);
  }

  #showChart(trajectory, t, j) {
    const { S } = trajectory;
    const stamp = `${t}/${S}/${trajectory.steps[S - 1]?.objective}/${trajectory.prefix[t]}`;
    this.columns = S + 1;
    const width = 100 / this.columns;
    if (stamp !== this.stamp) {
      this.stamp = stamp;
      const ranking = trajectory.ranking(t);
      const paths = Array.from({ length: 6 }, () => []);
      for (let i = 0; i <= S; i++) {
        const shares = new Array(6).fill(0);
        for (const w of trajectory.weights(t, i)) {
          const rank = w.original ? 0 : Math.min(5, 1 + ranking.indexOf(w.id));
          shares[rank] += w.weight;
        }
        let y = 100;
        const gap = Math.min(0.6, width * 0.12);
        shares.forEach((share, r) => {
          if (share <= 0) return;
          y -= share * 100;
          paths[r].push(`M${(i * width + gap / 2).toFixed(3)} ${y.toFixed(3)}h${(width - gap).toFixed(3)}v${(share * 100).toFixed(3)}h${(gap - width).toFixed(3)}z`);
        });
      }
      const colors = ["var(--lr-stage-original-fill)", ...SHADES, "var(--lr-stage-rest)"];
      this.cursor = svg("rect", { class: "lr-s-stack-cursor", y: 0.5, height: 99, "vector-effect": "non-scaling-stroke" });
      this.chart.replaceChildren(...paths.map((p, r) => svg("path", { d: p.join("") || "M0 0", style: `fill:${colors[r]}` })), this.cursor);
      setText(this.chartEnd, S ? `after step ${S}` : "no step yet");
    }
    setAttr(this.cursor, "x", j * width);
    setAttr(this.cursor, "width", width);
    setAttr(this.chart, "aria-label", `Share of the original token from 100 % at the start to ${percent(trajectory.kept(t, S))} after step ${S}; ${percent(trajectory.kept(t, j))} at the shown point.`);
  }
}
