// The split picker: the picked rollout as clickable tokens, cut into reasoning prefix | failed continuation (| not used) by a handle
// that is a slider; presets with their reasons. Its state is the user's newest choice; older echoes from Python never overwrite it.
// What it does not do: choose which rollout is revised (rollouts.js).

import { el, inlineToken, plural, setAttr, setText, spokenToken, TokenRun, uid } from "./tokens.js";

const SEND_AFTER_MS = 150;

export class SplitPicker {
  /** `send(choice)` gets {rollout, m, name} after the user has rested for 150 ms. */
  constructor(send) {
    this.send = send;
    this.rollout = null; // index of the picked rollout
    this.m = null; // tokens in the prefix; null until known
    this.name = null;
    this.why = "";
    this.limit = Infinity; // most continuation tokens that are scored, learnt from Python's echo
    this.expected = null; // the newest choice that Python has not confirmed yet
    this.sent = []; // older ones still on their way
    this.baseline = "null"; // Python's split when `expected` was set: the same again is merely stale
    this.timer = 0;
    this.unsent = false; // `expected` still waits for the user to rest
    this.points = null;
    this.buttons = [];
    this.#build();
  }

  #build() {
    const heading = uid("split");
    this.title = el("h3", { class: "lr-title", id: heading });
    this.presets = el("div", { class: "lr-segments", role: "group", "aria-label": "Where to cut" });
    this.reasonId = uid("why");
    this.reason = el("p", { class: "lr-split-why", id: this.reasonId });
    this.missing = el("ul", { class: "lr-split-missing" });

    this.prefixLabel = el("span", { class: "lr-num" });
    this.failedLabel = el("span", { class: "lr-num" });
    this.unusedLabel = el("span", { class: "lr-num" });
    this.unusedKey = el("li", { class: "lr-key" }, el("span", { class: "lr-key-swatch lr-zone-unused", "aria-hidden": "true" }), this.unusedLabel);
    const legend = el(
      "ul",
      { class: "lr-split-legend" },
      el("li", { class: "lr-key" }, el("span", { class: "lr-key-swatch lr-zone-prefix", "aria-hidden": "true" }), this.prefixLabel),
      el("li", { class: "lr-key" }, el("span", { class: "lr-key-swatch lr-zone-failed", "aria-hidden": "true" }), this.failedLabel),
      this.unusedKey,
    );

    const hint = uid("hint");
    this.handle = el("span", {
      class: "lr-split-handle",
      role: "slider",
      tabindex: "0",
      "aria-label": "Where the reasoning prefix ends",
      "aria-describedby": hint,
      "aria-valuemin": "1",
    });
    this.before = el("span", { class: "lr-zone lr-zone-prefix" });
    this.after = el("span", { class: "lr-zone lr-zone-failed" });
    this.rest = el("span", { class: "lr-zone lr-zone-unused" });
    this.flow = el("div", { class: "lr-flow lr-split-flow" }, this.before, this.handle, this.after, this.rest);
    // All tokens are made in one place, then moved between the zones around the handle, which itself never moves: it keeps the focus.
    this.run = new TokenRun(el("span"), (node, i) => {
      node.dataset.i = i;
    });
    this.hint = el("p", {
      class: "lr-quiet",
      id: hint,
      text: "Click a token: the prefix ends just before it, and that token becomes the first of the failed continuation. Or drag the handle, or focus it and press ← or → (Page Up and Page Down: ten tokens).",
    });
    this.node = el(
      "section",
      { class: "lr-split", "aria-labelledby": heading },
      this.title,
      this.presets,
      this.reason,
      this.missing,
      legend,
      this.hint,
      this.flow,
    );

    this.flow.addEventListener("click", (event) => this.#clicked(event));
    this.flow.addEventListener("pointerover", (event) => this.#named(event));
    this.handle.addEventListener("keydown", (event) => this.#key(event));
    this.handle.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  // ---- what Python says ----

  /** Forget everything: another problem was sampled. */
  reset() {
    clearTimeout(this.timer);
    this.rollout = this.m = this.name = this.expected = null;
    this.sent = [];
    this.unsent = false;
    this.why = "";
    this.limit = Infinity;
  }

  /** Python refused what the user chose last: whatever it says next counts. */
  takeBack() {
    clearTimeout(this.timer);
    this.expected = null;
    this.unsent = false;
    this.sent = [];
  }

  /** Take Python's split, unless it is older than what the user has chosen since. Returns the rollout that is picked now. */
  adopt(split) {
    const seen = JSON.stringify(split ?? null);
    if (this.expected) {
      const matches = (want) => split && split.rollout === want.rollout && (want.m === null || split.m === want.m);
      if (seen === this.baseline) return this.rollout; // sent before Python heard of the choice
      if (!matches(this.expected)) {
        const late = this.sent.findIndex(matches);
        if (late >= 0) {
          // The echo of an older choice. Once only: should it come again after others, Python means it.
          this.sent.splice(0, late + 1);
          this.baseline = seen;
          return this.rollout;
        }
      }
      // Confirmed, or an answer that nobody asked for: Python corrected the choice.
      this.expected = null;
      this.unsent = false;
      this.sent = [];
      clearTimeout(this.timer);
    }
    this.baseline = seen;
    if (split) {
      this.rollout = split.rollout;
      this.m = split.m;
      this.name = split.name;
      this.why = split.why ?? "";
      this.echoed = { m: split.m, c: split.c };
    } else {
      this.rollout = this.m = this.name = null;
    }
    return this.rollout;
  }

  // ---- what the user does ----

  /** The user picked a rollout; where to cut it is Python's to propose. */
  pick(rollout) {
    clearTimeout(this.timer);
    if (this.unsent) this.expected = null;
    this.unsent = false;
    this.#expect({ rollout, m: null });
    this.rollout = rollout;
    this.limit = Infinity;
    this.m = this.name = null;
    this.why = "";
  }

  #expect(choice) {
    if (this.expected) this.sent.push(this.expected);
    this.expected = choice;
  }

  #move(m, name = "custom", why = "") {
    const length = this.run.texts.length;
    const to = Math.max(1, Math.min(length - 1, m));
    if (this.rollout === null || length < 2 || (to === this.m && name === this.name)) return;
    // Dragging over many tokens sends the last only: an unsent choice is replaced, not queued behind.
    if (this.unsent) this.expected = null;
    this.unsent = true;
    this.#expect({ rollout: this.rollout, m: to });
    this.m = to;
    this.name = name;
    this.why = why;
    this.#paint();
    clearTimeout(this.timer);
    const choice = { rollout: this.rollout, m: to, name };
    this.timer = setTimeout(() => {
      this.unsent = false;
      this.send(choice);
    }, SEND_AFTER_MS);
  }

  #clicked(event) {
    const token = event.target.closest("[data-i]");
    if (!token || String(document.getSelection())) return; // selecting text to copy is no click
    const i = Number(token.dataset.i);
    if (i === 0) {
      this.why = "The prefix needs at least one token, so it can't end before the first.";
      this.#paint();
    } else this.#move(i);
  }

  #named(event) {
    const token = event.target.closest("[data-i]");
    if (token && !token.title) {
      const i = Number(token.dataset.i);
      token.title = i === 0 ? `Token 1: ${spokenToken(this.run.texts[0])}` : `Token ${i + 1}: ${spokenToken(this.run.texts[i])} · click: the prefix ends before it, with ${plural(i, "token")}`;
    }
  }

  #key(event) {
    const last = this.run.texts.length - 1;
    const to = {
      ArrowLeft: this.m - 1,
      ArrowDown: this.m - 1,
      ArrowRight: this.m + 1,
      ArrowUp: this.m + 1,
      PageDown: this.m - 10,
      PageUp: this.m + 10,
      Home: 1,
      End: last,
    }[event.key];
    if (to === undefined || this.m === null || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation(); // the stage listens for arrows as well
    this.#move(to);
    this.handle.scrollIntoView({ block: "nearest" });
  }

  #drag(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.handle.focus();
    this.handle.setPointerCapture(event.pointerId);
    const move = (at) => {
      const under = document.elementsFromPoint(at.clientX, at.clientY).find((node) => node.dataset?.i !== undefined && this.flow.contains(node));
      if (!under) return;
      const i = Number(under.dataset.i);
      const box = Array.from(under.getClientRects()).find((rect) => at.clientY >= rect.top && at.clientY <= rect.bottom) ?? under.getBoundingClientRect();
      this.#move(at.clientX > box.left + box.width / 2 ? i + 1 : i);
    };
    const end = () => {
      this.handle.removeEventListener("pointermove", move);
      this.handle.removeEventListener("pointerup", end);
      this.handle.removeEventListener("pointercancel", end);
    };
    this.handle.addEventListener("pointermove", move);
    this.handle.addEventListener("pointerup", end);
    this.handle.addEventListener("pointercancel", end);
  }

  // ---- painting ----

  /** Show the picked rollout's tokens and the presets for it (null: not worked out yet). */
  render(rollout, presets) {
    const texts = rollout.tokens;
    setText(this.title, rollout.verdict === "wrong" ? `Where did rollout ${rollout.index + 1} go wrong?` : `Where should rollout ${rollout.index + 1} be cut?`);
    this.run.sync(texts);
    if (this.echoed && this.rollout !== null) {
      // m + c short of the end tells how many continuation tokens are scored at most.
      this.limit = this.echoed.m + this.echoed.c < texts.length ? this.echoed.c : Math.max(this.echoed.c, this.limit);
      this.echoed = null;
    }
    this.points = presets && presets.rollout === this.rollout ? presets.points : null;
    this.#paint();
  }

  #paint() {
    const { m } = this;
    const texts = this.run.texts;
    this.#paintPresets();
    const cut = m ?? texts.length;
    const end = m === null ? cut : Math.min(texts.length, m + this.limit);
    this.#zone(this.before, 0, cut);
    this.#zone(this.after, cut, end);
    this.#zone(this.rest, end, texts.length);
    this.handle.hidden = m === null;
    setText(this.prefixLabel, m === null ? "Reasoning prefix" : `Reasoning prefix — ${plural(m, "token")}, ${m === 1 ? "this" : "these"} will move`);
    setText(this.failedLabel, m === null ? "Failed continuation" : `Failed continuation — ${plural(end - cut, "token")}, pushed away`);
    setText(this.unusedLabel, `Not used — ${plural(texts.length - end, "token")} past the limit`);
    this.unusedKey.hidden = end === texts.length;
    if (m === null) return;
    setAttr(this.handle, "aria-valuemax", Math.max(1, texts.length - 1));
    setAttr(this.handle, "aria-valuenow", m);
    setAttr(this.handle, "aria-valuetext", `Prefix of ${plural(m, "token")}, then ${plural(end - cut, "token")} of failed continuation, which begins with ${spokenToken(texts[m] ?? "")}`);
  }

  /** Make `zone` hold exactly tokens [from, to), moving only those that change sides. */
  #zone(zone, from, to) {
    const nodes = this.run.nodes;
    if (zone.firstChild === (nodes[from] ?? null) && zone.childNodes.length === to - from && (to === from || zone.lastChild === nodes[to - 1])) return;
    const children = Array.from(zone.childNodes);
    for (const node of children) {
      const i = Number(node.dataset.i);
      if (nodes[i] !== node) node.remove();
    }
    let next = zone.firstChild;
    for (let i = from; i < to; i += 1) {
      if (next === nodes[i]) next = next.nextSibling;
      else zone.insertBefore(nodes[i], next);
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  }

  #paintPresets() {
    const key = JSON.stringify(this.points);
    if (key !== this.presetKey) {
      this.presetKey = key;
      this.buttons = (this.points ?? []).map((point) => {
        const button = el("button", { type: "button", class: "lr-button", on: { click: () => point.m !== null && this.#move(point.m, point.name, point.why) } }, el("span", { text: point.label }));
        if (point.m === null) {
          const id = uid("missing");
          button.setAttribute("aria-disabled", "true");
          button.setAttribute("aria-describedby", id);
          button.reason = el("li", { id }, el("strong", { text: `${point.label}: ` }), point.why);
        } else button.append(el("span", { class: "lr-split-m lr-num", text: `M = ${point.m}` }));
        button.point = point;
        return button;
      });
      const reasons = this.buttons.map((button) => button.reason).filter(Boolean);
      this.presets.replaceChildren(...this.buttons);
      this.missing.replaceChildren(...reasons);
      this.missing.hidden = !reasons.length;
    }
    for (const button of this.buttons) if (button.point.m !== null) setAttr(button, "aria-pressed", button.point.name === this.name);
    this.presets.hidden = !this.buttons.length;
    this.#paintWhy();
  }

  #paintWhy() {
    const { m } = this;
    const texts = this.run.texts;
    let key = this.why;
    if (m === null) key = this.points ? "Click a token, or take one of the proposals." : "Looking for good places to cut… Click a token to cut there yourself.";
    else if (!key && this.name === "custom") key = null;
    if (key !== null) {
      if (this.whyKey !== key) setText(this.reason, key);
      this.whyKey = key;
      return;
    }
    const own = `custom ${m} ${texts[m]}`;
    if (this.whyKey === own) return;
    this.whyKey = own;
    this.reason.replaceChildren(`Your own cut: the prefix ends before token ${m + 1}, `, inlineToken(texts[m] ?? ""), ".");
  }
}
