// One group of GRPO before anything runs: rewards and advantages without and with the rescued trace, and what each of its tokens weighs.
// Payload: see explorer/views/train.py (group_payload). What it does not do: compute any of it; Python does.

import { el, number, setAttr, setText, spokenToken, tokenNode, uid } from "./tokens.js";

const HIGHEST = 0.25; // of p·c / (p + c)², at p = c
const signed = (x) => (x > 0 ? `+${x.toFixed(2)}` : x < 0 ? `−${Math.abs(x).toFixed(2)}` : "0");

/** A row of members: sign of the reward, advantage as a bar from a middle line and as a number. */
function row(title, members) {
  const most = Math.max(1, ...members.map((one) => Math.abs(one.advantage)));
  const cells = members.map((one, i) => {
    const bar = el("span", { class: "lr-tg-bar", "aria-hidden": "true" });
    bar.style.blockSize = `${(50 * Math.abs(one.advantage)) / most}%`;
    const label = `${one.rescued ? "Rescued trace" : `Rollout ${i + 1}`}: ${one.reward > 0 ? "right" : "not right"}, reward ${one.reward}, advantage ${signed(one.advantage)}, ${one.tokens} tokens`;
    return el(
      "li",
      { class: "lr-tg-cell", title: label, data: { sign: one.advantage > 0 ? "up" : one.advantage < 0 ? "down" : "none", rescued: String(one.rescued) } },
      el("span", { class: "lr-sr-only", text: label }),
      el("span", { class: "lr-tg-reward", "aria-hidden": "true", text: `${one.reward > 0 ? "✓" : "✗"}${one.rescued ? "★" : ""}` }),
      el("span", { class: "lr-tg-plot", "aria-hidden": "true" }, bar),
      el("span", { class: "lr-tg-advantage lr-num", "aria-hidden": "true", text: signed(one.advantage) }),
    );
  });
  return el("div", { class: "lr-tg-row" }, el("p", { class: "lr-hf-label", text: title }), el("ol", { class: "lr-tg-cells", "aria-label": title }, ...cells));
}

/** The rescued trace's tokens, each with its weights; arrows walk along it. */
class Strip {
  constructor() {
    this.tokens = el("div", { class: "lr-flow lr-tg-strip", role: "group", "aria-label": "Tokens of the rescued trace" });
    this.said = el("p", { class: "lr-tg-said lr-num", "aria-live": "polite" });
    this.legend = el("p", { class: "lr-quiet" });
    this.words = el("p", { class: "lr-num" });
    this.node = el("div", { class: "lr-tg-weights" }, this.words, this.tokens, this.said, this.legend);
    this.tokens.addEventListener("keydown", (event) => {
      const nodes = [...this.tokens.children];
      const at = nodes.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: nodes.length - 1 }[event.key];
      if (to === undefined || !nodes[to]) return;
      event.preventDefault();
      nodes[to].focus();
    });
  }

  render(weights) {
    this.node.hidden = !weights;
    if (!weights) return;
    const { tokens, prefix, c } = weights;
    setText(this.words, weights.words);
    this.tokens.replaceChildren(
      ...tokens.map((token, i) => {
        const node = tokenNode(token.text);
        node.classList.add("lr-tg-token");
        node.style.setProperty("--lr-weight", token.masked ? 0 : Math.min(1, c ? token.gradient / HIGHEST : token.gradient));
        setAttr(node, "tabindex", i === 0 ? "0" : "-1");
        node.setAttribute("role", "img");
        if (token.masked) node.dataset.masked = "true";
        if (i === prefix - 1) node.dataset.last = "true";
        const line = `Token ${i + 1} of ${tokens.length} ${spokenToken(token.text)}${i < prefix ? ", replayed prefix" : ""}: p ${number(token.p, 4)} (log p ${number(token.log_p, 2)}), p / (p + c) ${number(token.weight, 3)}, its gradient counts ${token.masked ? "nothing: it is masked" : number(token.gradient, 3)}`;
        node.setAttribute("aria-label", line);
        const show = () => setText(this.said, line);
        node.addEventListener("pointerenter", show);
        node.addEventListener("focus", () => {
          for (const other of this.tokens.children) setAttr(other, "tabindex", other === node ? "0" : "-1");
          show();
        });
        return node;
      }),
    );
    setText(this.said, "Point at a token, or walk along with the arrow keys.");
    setText(this.legend, c ? `Bar under a token: how much its gradient counts, p·c / (p + c)² with c = ${number(c, 3)}; full is ${HIGHEST}, at p = c. Both what the model finds impossible and what it says anyway count little. ‖ ends the replayed prefix.` : "c = 0: every token counts as if it were on-policy, 1. ‖ ends the replayed prefix.");
  }
}

export class GroupPreview {
  /** `choose(problem)` previews another one; `weigh()` measures the tokens of the trace. */
  constructor({ choose, weigh }) {
    const id = uid("group");
    this.choice = el("select", { id, class: "lr-field", on: { change: () => choose(this.choice.value) } });
    this.chooser = el("div", { class: "lr-tg-choose" }, el("label", { for: id, class: "lr-hf-label", text: "Of prompt" }), this.choice);
    this.rows = el("div", { class: "lr-tg-rows" });
    this.words = el("p", { role: "status", class: "lr-num" });
    this.size = el("p", { class: "lr-quiet lr-num" });
    const why = uid("group");
    this.weigh = el("button", {
      type: "button",
      class: "lr-button",
      text: "Weigh its tokens",
      "aria-describedby": why,
      on: {
        click: () => {
          if (this.weigh.getAttribute("aria-disabled")) return;
          setAttr(this.weigh, "aria-disabled", "true");
          setText(this.weigh, "Weighing…");
          weigh();
        },
      },
    });
    this.why = el("span", { id: why, class: "lr-quiet" });
    this.line = el("div", { class: "lr-hf-line" }, this.weigh, this.why);
    this.strip = new Strip();
    this.node = el("section", { class: "lr-tg", "aria-label": "One group" }, el("div", { class: "lr-tg-head" }, el("h3", { class: "lr-title", text: "One group, before it runs" }), this.chooser), this.words, this.rows, this.size, this.line, this.strip.node);
    this.node.hidden = true;
  }

  render(group) {
    this.node.hidden = !group;
    if (!group) return;
    const key = JSON.stringify(group.problems);
    if (key !== this.key) this.choice.replaceChildren(...group.problems.map(({ id, label }) => el("option", { value: id, text: label })));
    this.key = key;
    this.choice.value = group.problem;
    setText(this.words, group.words);
    this.rows.replaceChildren(row("As it is", group.without), row("With the rescued trace (★)", group.with));
    const known = group.mean_log_p === null ? "" : ` Mean log p of the trace under the plain prompt, as its audit measured it: ${group.mean_log_p} nats per token.`;
    setText(this.size, `${group.size} ✓ reward 1, ✗ reward 0; below each its advantage: the reward less the group’s mean${group.scaled ? ", over the group’s standard deviation" : ""}.${known}`);
    this.line.hidden = Boolean(group.weights);
    setText(this.weigh, "Weigh its tokens");
    setAttr(this.weigh, "aria-disabled", group.why_not ? "true" : null);
    setText(this.why, group.why_not || "One pass of the model: how likely each token is under the plain prompt, and so how much it teaches.");
    this.strip.render(group.weights);
  }
}
