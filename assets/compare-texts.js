// The failed rollout beside one continuation: both begin with the same (or nearly the same) tokens, greyed, and the row where they part
// is the same row in both columns. Reflection markers and the stated answer are marked. Chooses which continuation is shown.
// What it does not do: rates and counts (compare.js).

import { badge, el, inlineToken, plural, setAttr, setBadge, setText, shorten, TokenRun, uid, VERDICTS } from "./tokens.js";

const TAIL = 36; // common tokens shown before the parting; the rest folds
const NAMES = { revised: "Revised", projected: "Projected", original: "Unrevised" };
const PREFIXES = {
  revised: "The prefix moved in embedding space; its nearest tokens are shown",
  projected: "The moved prefix, turned back into real tokens",
  original: "The prefix as it was, continued afresh",
};

/** A row of radio buttons with one tab stop; arrows move and choose, but for what there is nothing to show of. */
class RadioRow {
  constructor(label, onChoose) {
    this.onChoose = onChoose;
    this.node = el("div", { class: "lr-segments", role: "radiogroup", "aria-label": label });
    this.buttons = [];
    this.node.addEventListener("keydown", (event) => {
      const at = this.buttons.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: this.count - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      event.stopPropagation(); // the stage listens for arrows as well
      const next = (to + this.count) % this.count;
      this.buttons[next].focus();
      this.#press(next);
    });
  }

  #press(i) {
    if (!this.buttons[i].hasAttribute("aria-disabled")) this.onChoose(i);
  }

  /** `items`: [{text, label, verdict, empty}], `chosen`: index. */
  update(items, chosen) {
    this.count = items.length;
    for (const button of this.buttons.splice(items.length)) button.remove();
    items.forEach((item, i) => {
      if (!this.buttons[i]) {
        this.buttons[i] = el("button", { type: "button", class: "lr-button lr-num", role: "radio", on: { click: () => this.#press(i) } });
        this.node.append(this.buttons[i]);
      }
      const button = this.buttons[i];
      setText(button, item.text);
      setAttr(button, "aria-label", item.label);
      setAttr(button, "aria-checked", i === chosen);
      setAttr(button, "tabindex", i === chosen || (chosen < 0 && i === 0) ? "0" : "-1");
      setAttr(button, "data-verdict", item.verdict ?? null);
      setAttr(button, "aria-disabled", item.empty ? "true" : null);
    });
  }
}

/** Character spans of `words` in `text`, whole words only, upper or lower case. */
function findWords(text, words) {
  const spans = [];
  for (const word of words) {
    const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    for (const match of text.matchAll(new RegExp(`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, "giu"))) spans.push([match.index, match.index + match[0].length]);
  }
  return spans;
}

/** Mark the token nodes that a character span touches. */
function markSpans(run, spans, className) {
  const starts = [];
  let at = 0;
  for (const text of run.texts) {
    starts.push(at);
    at += text.length;
  }
  const touched = new Set();
  for (const [from, to] of spans) {
    run.texts.forEach((text, i) => {
      // Tokens of blanks only, and blanks in front of the word, are not part of it.
      if (starts[i] < to && starts[i] + text.length > from && text.trim()) touched.add(i);
    });
  }
  run.nodes.forEach((node, i) => node.classList.toggle(className, touched.has(i)));
}

/** One of the two texts: head, common part, parting line, own part, verdict. */
class Column {
  constructor(kind) {
    const id = uid("col");
    this.title = el("h4", { class: "lr-col-title", id });
    this.sub = el("span", { class: "lr-quiet lr-num" });
    this.badge = badge();
    this.fold = el("button", { type: "button", class: "lr-button lr-link" });
    this.commonText = el("span");
    this.common = el("div", { class: "lr-flow lr-col-common" }, this.fold, this.commonText);
    this.part = el("div", { class: "lr-part" });
    this.own = el("div", { class: "lr-flow lr-col-own" });
    this.answer = el("span", { class: "lr-col-answer" });
    this.facts = el("span", { class: "lr-quiet lr-num" });
    this.commonRun = new TokenRun(this.commonText);
    this.ownRun = new TokenRun(this.own);
    this.node = el(
      "section",
      { class: "lr-col", "data-kind": kind, "aria-labelledby": id },
      el("div", { class: "lr-col-head" }, el("div", {}, this.title, this.sub), this.badge),
      this.common,
      this.part,
      this.own,
      el("div", { class: "lr-col-foot" }, this.answer, this.facts),
    );
  }

  /** `common`, `own`: token texts before and from the parting; `words`: markers to mark; `folded`: how many leading tokens are hidden; `busy`: verdicts may still come. */
  update({ common, own, words, rollout, folded, changed, part, busy }) {
    this.commonRun.sync(common.slice(folded));
    this.commonRun.nodes.forEach((node, i) => node.classList.toggle("lr-changed", changed.has(i + folded)));
    this.ownRun.sync(own);
    this.ownRun.nodes.forEach((node, i) => node.classList.toggle("lr-parting", i === 0 && part === "parts"));
    const text = own.join("");
    markSpans(this.ownRun, findWords(text, words), "lr-reflection");
    markSpans(this.ownRun, lastMention(text, rollout.answer), "lr-stated");
    setAttr(this.own, "data-verdict", rollout.verdict ?? "running");

    setBadge(this.badge, rollout.verdict, rollout.running, busy);
    setText(this.answer, rollout.verdict === null ? "" : rollout.answer ? `Answer ${shorten(rollout.answer.replaceAll("\n", " "), 80)}` : "No answer found");
    const markers = Object.entries(rollout.markers ?? {}).filter(([, count]) => count > 0);
    const facts = [
      plural(own.length + rollout.sharedCount, "token"),
      rollout.finish === "length" ? "cut at the limit" : "",
      rollout.degenerate ? "degenerate: repeats itself" : "",
      markers.length ? `markers: ${markers.map(([word, count]) => `${word} ×${count}`).join(", ")}` : "no reflection markers",
    ];
    setText(this.facts, facts.filter(Boolean).join(" · "));
  }
}

/** The last place where the answer stands as such, since a rollout may state intermediate results first. */
function lastMention(text, answer) {
  const wanted = (answer ?? "").trim();
  return wanted ? findWords(text, [wanted]).slice(-1) : [];
}

/** How many prefix positions lie nearer to another token than to their own. */
function changedText(count, arm) {
  if (count) return `${count} of ${plural(arm.prefix.length, "prefix token")} now lie nearer to another token; these are underlined with dots.`;
  if (arm.start === "original") return "";
  return "Every prefix position still lies nearest to its own token: the revision happened between the tokens.";
}

export class SideBySide {
  /** `show(start, index)` is told when the reader picks a continuation. */
  constructor(show) {
    this.show = show;
    this.reset();
    const id = uid("side");
    this.armRow = new RadioRow("Continued from", (i) => this.#choose(this.value.arms[i].start, null));
    this.rolloutRow = new RadioRow("Continuation", (i) => this.#choose(this.armShown, i));
    this.before = new Column("before");
    this.after = new Column("after");
    this.changedNote = el("p", { class: "lr-quiet" });
    this.before.fold.addEventListener("click", () => this.#unfold());
    this.after.fold.addEventListener("click", () => this.#unfold());
    setText(this.before.title, "Before: the failed rollout");
    this.node = el(
      "section",
      { class: "lr-side", "aria-labelledby": id },
      el("h3", { class: "lr-title", id, text: "Before and after, side by side" }),
      el("div", { class: "lr-side-choice" }, this.armRow.node, this.rolloutRow.node),
      el("div", { class: "lr-cols" }, this.before.node, this.after.node),
      this.changedNote,
    );
  }

  reset() {
    this.start = "revised";
    this.index = 0;
    this.chosenByReader = false;
    this.unfolded = false;
  }

  #choose(start, index) {
    this.start = start;
    const arm = this.value.arms.find((one) => one.start === start);
    this.index = index ?? Math.max(0, arm.rollouts.findIndex((one) => one.verdict === "correct"));
    this.chosenByReader = true;
    this.render(this.value);
    this.show(this.start, this.index);
  }

  #unfold() {
    this.unfolded = !this.unfolded;
    this.render(this.value);
  }

  /** Until the reader chooses: the first correct revised continuation; once found, it stays. */
  #settle(arms) {
    if (this.chosenByReader) return;
    const rollouts = arms.find((arm) => arm.start === "revised")?.rollouts ?? [];
    if (rollouts[this.index]?.verdict === "correct") return;
    this.index = Math.max(0, rollouts.findIndex((one) => one.verdict === "correct"));
  }

  render(value) {
    this.value = value;
    const { arms, before } = value;
    this.#settle(arms);
    // One of which nothing was sampled yet would leave nothing to see, and no way back.
    const sampled = arms.filter((one) => one.rollouts.length);
    const arm = sampled.find((one) => one.start === this.start) ?? sampled[0];
    const rollout = arm?.rollouts[this.index] ?? arm?.rollouts[0];
    this.node.hidden = !rollout;
    if (!rollout) return;
    this.armShown = arm.start;

    this.armRow.update(
      arms.map((one) => ({ text: `${NAMES[one.start] ?? one.label} · ${one.done ? `${one.correct}/${one.done}` : "–"}`, label: `${one.label}: ${one.done ? `${one.correct} of ${one.done} correct` : one.rollouts.length ? "none finished yet" : "nothing sampled yet"}`, empty: !one.rollouts.length })),
      arms.indexOf(arm),
    );
    const busy = value.state === "sampling" || value.state === "judging";
    this.rolloutRow.update(
      arm.rollouts.map((one, i) => {
        const verdict = VERDICTS[one.verdict] ?? (busy ? { sign: "…", word: "not judged yet" } : { sign: "–", word: "not judged" });
        return { text: `${i + 1} ${verdict.sign}`, label: `Continuation ${i + 1}: ${verdict.word}`, verdict: one.verdict };
      }),
      arm.rollouts.indexOf(rollout),
    );

    const shared = Math.min(rollout.shared ?? 0, rollout.tokens.length, before.continuation.length);
    const commonBefore = [...before.prefix, ...before.continuation.slice(0, shared)];
    const commonAfter = [...arm.prefix, ...rollout.tokens.slice(0, shared)];
    const restBefore = before.continuation.slice(shared);
    const restAfter = rollout.tokens.slice(shared);
    const part = restBefore.length && restAfter.length ? "parts" : !restBefore.length && !restAfter.length ? "same" : rollout.running ? "running" : "ends";
    const folded = this.unfolded ? 0 : Math.max(0, Math.min(commonBefore.length, commonAfter.length) - TAIL);
    const changed = new Set();
    for (let i = 0; i < arm.prefix.length; i += 1) if (arm.prefix[i] !== before.prefix[i]) changed.add(i);

    const words = new Set([...Object.keys(before.markers ?? {}), ...arm.rollouts.flatMap((one) => Object.keys(one.markers ?? {}))]);
    const shown = { words, folded, part, busy };
    this.before.update({ ...shown, common: commonBefore, own: restBefore, changed: new Set(), rollout: { ...before, running: false, sharedCount: shared } });
    this.after.update({ ...shown, common: commonAfter, own: restAfter, changed, rollout: { ...rollout, sharedCount: shared } });

    setText(this.before.sub, `${plural(before.prefix.length, "prefix token")}, then what failed`);
    setText(this.after.title, `After: continuation ${arm.rollouts.indexOf(rollout) + 1}, ${(arm.label || NAMES[arm.start]).toLowerCase()}`);
    setText(this.after.sub, PREFIXES[arm.start] ?? "");
    this.#paintParting(part, shared, restBefore, restAfter);
    for (const column of [this.before, this.after]) {
      column.fold.hidden = !folded && !this.unfolded;
      setText(column.fold, folded ? `… ${plural(folded, "earlier token")}` : "Fold the earlier tokens");
      setAttr(column.fold, "aria-expanded", this.unfolded);
    }
    setText(this.changedNote, changedText(changed.size, arm));
  }

  #paintParting(part, shared, restBefore, restAfter) {
    const key = `${part} ${shared} ${restBefore[0]} ${restAfter[0]}`;
    if (key === this.partKey) return;
    this.partKey = key;
    const where = shared ? `after ${plural(shared, "shared token")}` : "right after the prefix";
    for (const [column, rest] of [[this.before, restBefore], [this.after, restAfter]]) {
      if (part === "parts") column.part.replaceChildren(el("span", {}, el("strong", { text: "Part here" }), ` ${where}: `, inlineToken(rest[0], 20)));
      else column.part.replaceChildren(el("span", { text: { same: "The same to the end", running: "Not parted yet…", ends: `One ends here, ${where}` }[part] }));
    }
  }
}
