// The rollouts view: head line with pass@N and its interval, cards that stream in token by token, then the split picker for the one that
// is to be revised. Payload: see `mount`. What it does not do: decide verdicts, or sample; Python does.

import { badge, el, interval, nextTurn, number, perFrame, percent, plural, rateAxis, rateBar, samplingText, setAttr, setBadge, setText, shorten, TokenRun, uid, VERDICTS } from "./tokens.js";
import { SplitPicker } from "./rollouts-split.js";

const PAGE = 32; // cards shown before "show more"
const BUSY = new Set(["sampling", "judging"]);

class Card {
  constructor(index, onPick) {
    const name = uid("card");
    this.index = index;
    this.badge = badge();
    this.title = el("h3", { class: "lr-card-title", id: name, text: `Rollout ${index + 1}` });
    this.text = el("div", { class: "lr-flow lr-card-text", role: "group", "aria-labelledby": name, tabindex: "0" });
    this.answer = el("span", { class: "lr-card-answer" });
    this.facts = el("span", { class: "lr-quiet lr-num" });
    this.button = el("button", { type: "button", class: "lr-button lr-card-pick", "aria-describedby": name, "aria-pressed": "false" });
    this.why = el("span", { class: "lr-quiet" });
    this.node = el(
      "li",
      { class: "lr-card", "aria-labelledby": name },
      el("div", { class: "lr-card-head" }, this.title, this.badge),
      this.text,
      el("div", { class: "lr-card-facts" }, this.answer, this.facts),
      el("div", { class: "lr-card-foot" }, this.button, this.why),
    );
    this.run = new TokenRun(this.text);
    this.follow = true; // keep the newest token in sight until the reader scrolls up
    this.text.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.node.addEventListener("contentvisibilityautostatechange", (event) => event.skipped || Card.settle([this]));
    this.button.addEventListener("click", () => onPick(index));
    this.node.addEventListener("click", (event) => {
      if (this.button.hidden || event.target.closest("button") || String(document.getSelection())) return;
      onPick(index);
    });
  }

  #scrolled() {
    const more = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight > 4;
    this.follow = !more;
    setAttr(this.text, "data-more", more ? "true" : null);
  }

  /** After the texts changed: follow, fade, focusable where it scrolls. All reads before all writes, and only what is on the screen. */
  static settle(cards) {
    const seen = cards.filter((card) => card.text.checkVisibility({ contentVisibilityAuto: true }));
    const sizes = seen.map(({ text }) => [text.scrollHeight, text.clientHeight, text.scrollTop]);
    seen.forEach((card, i) => {
      const [whole, shown, top] = sizes[i];
      const end = whole - shown;
      const following = card.running && card.follow;
      if (following && top < end) card.text.scrollTop = end;
      setAttr(card.text, "tabindex", end > 4 ? "0" : null);
      setAttr(card.text, "data-more", !following && end - top > 4 ? "true" : null);
    });
  }

  /** Returns true if the text changed. */
  update(rollout, picked, busy) {
    const { verdict, running, tokens, finish } = rollout;
    const changed = this.run.sync(tokens) || running !== this.running;
    this.running = running;
    setBadge(this.badge, verdict, running || (!tokens.length && busy), busy);
    this.node.hidden = !busy && !running && !tokens.length && !verdict; // never begun
    setAttr(this.node, "data-verdict", verdict ?? "running");
    setAttr(this.node, "data-running", running ? "true" : null);
    const known = verdict !== null && verdict !== undefined;
    setText(this.answer, !known ? "" : rollout.answer ? `Answer ${shorten(rollout.answer.replaceAll("\n", " "), 40)}` : "No answer found");
    setText(this.facts, tokens.length ? plural(tokens.length, "token") + (finish === "length" ? " · cut at the limit" : "") : "");

    const pickable = (verdict === "wrong" || verdict === "unjudged") && !running && tokens.length > 1;
    this.button.hidden = !pickable || busy;
    setAttr(this.button, "aria-pressed", picked);
    setText(this.button, picked ? "✓ Being revised" : "Revise this one");
    setAttr(this.node, "data-pickable", pickable && !busy ? "true" : null);
    setAttr(this.node, "data-picked", picked ? "true" : null);
    let why = "";
    if (verdict === "correct") why = "Nothing failed here, so there is nothing to revise.";
    else if (!running && !busy && !known) why = "Stopped halfway.";
    else if (!running && known && !pickable) why = "Too short to cut in two.";
    setText(this.why, why);
    this.why.hidden = !why;
    return changed;
  }
}

class Rollouts {
  constructor(root, trigger) {
    this.trigger = trigger;
    this.cards = [];
    this.shown = PAGE;
    this.refused = 0; // how many choices Python has refused
    this.signature = null;
    this.picker = new SplitPicker((choice) => this.#send("split", choice));
    this.#build(root);
  }

  #build(root) {
    this.empty = el(
      "div",
      { class: "lr-empty" },
      el("div", { class: "lr-ghost-cards", "aria-hidden": "true" }, ...["✗", "✗", "?", "✗"].map((sign) => el("span", { class: "lr-ghost-card", text: sign }))),
      el("strong", { text: "No rollouts yet" }),
      el("span", { text: "Sample a handful of answers to the problem. Each is checked against the gold answer; if none is right, the prompt is zero-hit, and one of the failures can be revised here." }),
    );
    this.headline = el("div", { class: "lr-headline lr-num", role: "status", "aria-live": "polite" });
    this.tallied = Object.fromEntries(Object.keys(VERDICTS).map((verdict) => [verdict, badge(verdict)]));
    this.cut = el("span", { class: "lr-quiet lr-num" });
    this.tally = el("div", { class: "lr-tally lr-num" }, ...Object.values(this.tallied), this.cut);
    this.sentence = el("p", { class: "lr-roll-sentence" });
    this.settings = el("p", { class: "lr-quiet lr-num" });
    this.problem = el("p", { class: "lr-roll-problem" });
    this.rate = rateBar();
    this.rateLabel = el("span", { class: "lr-quiet lr-num" });
    this.rateBox = el("div", { class: "lr-roll-rate" }, this.rateLabel, this.rate.node, rateAxis());
    this.fill = el("div", { class: "lr-progress-fill" });
    this.track = el("div", { class: "lr-progress-track", role: "progressbar", "aria-valuemin": "0", "aria-label": "Rollouts finished" }, this.fill);
    this.count = el("span", { class: "lr-num" });
    this.progress = el("div", { class: "lr-progress" }, this.track, this.count);
    this.note = el("div", { class: "lr-note" });
    this.grid = el("ul", { class: "lr-cards", "aria-label": "Rollouts" });
    this.more = el("button", { type: "button", class: "lr-button", on: { click: () => this.#showMore() } });
    this.head = el(
      "div",
      { class: "lr-roll-head" },
      el("div", { class: "lr-roll-words" }, this.problem, this.headline, this.tally, this.sentence, this.settings),
      this.rateBox,
    );
    this.body = el("div", { class: "lr-rollouts" }, this.head, this.progress, this.note, this.grid, this.more, this.picker.node);
    root.replaceChildren(this.empty, this.body);
  }

  #showMore() {
    const first = this.shown;
    this.shown += PAGE;
    this.render(this.payload);
    // The button may be gone; a text takes the focus only where it scrolls.
    const { button, node } = this.cards[first];
    if (button.hidden) setAttr(node, "tabindex", "-1");
    (button.hidden ? node : button).focus();
  }

  #send(name, choice) {
    this.trigger(name, { ...choice, run_id: this.payload.run_id, turn: nextTurn() });
  }

  #pick(index) {
    if (this.picker.rollout === index) return;
    this.picker.pick(index);
    this.#send("pick", { rollout: index });
    this.render(this.payload);
    this.picker.node.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  /** The same sampling run goes on as long as problem and settings stay and a finished run does not start again. */
  #isNewRun(value) {
    const signature = JSON.stringify([value.problem, value.sampling]);
    const restarted = !BUSY.has(this.state) && value.state === "sampling";
    const fresh = signature !== this.signature || restarted;
    this.signature = signature;
    this.state = value.state;
    return fresh;
  }

  render(value) {
    this.payload = value;
    this.empty.hidden = Boolean(value);
    this.body.hidden = !value;
    if (!value) {
      this.signature = this.state = null;
      this.picker.reset();
      return;
    }
    if (this.#isNewRun(value)) {
      this.shown = PAGE;
      this.picker.reset();
      this.picker.baseline = "null";
    }
    if (value.refused > this.refused) {
      this.refused = value.refused;
      this.picker.takeBack();
    }
    const picked = this.picker.adopt(value.split);
    this.#renderHead(value);
    this.#renderCards(value, picked);
    const rollout = value.rollouts.find((one) => one.index === picked);
    this.picker.node.hidden = !rollout;
    if (rollout) this.picker.render(rollout, value.presets);
  }

  #renderHead(value) {
    const { state, summary, sampling, problem } = value;
    const total = sampling?.n ?? value.rollouts.length;
    const busy = BUSY.has(state);
    setText(this.problem, problem ? `${problem.question} Gold answer: ${problem.answer}` : "");
    if (problem && this.problemKey !== problem.question + problem.answer) {
      this.problemKey = problem.question + problem.answer;
      this.problem.replaceChildren(problem.question, " ", el("span", { class: "lr-gold" }, "Gold answer: ", el("strong", { text: problem.answer })));
    }
    setText(this.headline, headline(value, total));
    setText(this.sentence, explain(value));
    this.sentence.hidden = !this.sentence.textContent;
    setText(this.settings, samplingText(sampling));
    this.#renderTally(summary, busy);

    this.rateBox.hidden = !summary || !summary.n;
    if (summary?.n) {
      this.rate.update(summary.correct, summary.n, summary.interval);
      setText(this.rateLabel, `Share correct: ${percent(summary.correct / summary.n)}, Wilson 95 % interval ${interval(summary.interval)}`);
    }

    this.progress.hidden = !busy;
    this.fill.style.inlineSize = `${total ? (100 * value.done) / total : 0}%`;
    setAttr(this.track, "aria-valuemax", total);
    setAttr(this.track, "aria-valuenow", value.done);
    const speed = value.tokens_per_second ? ` · ${number(value.tokens_per_second, 0)} tokens/s` : "";
    setText(this.count, `${value.done} of ${total} finished${speed}`);

    this.note.hidden = !(value.message || state === "cancelled" || state === "failed");
    setAttr(this.note, "data-kind", state);
    const ended = state === "failed" ? "Sampling failed" : "Stopped";
    const kept = value.done ? `${ended} with ${value.done} of ${total} finished; these are kept and can be used.` : `${ended} before any of ${total} was finished.`;
    setText(this.note, value.message || kept);
  }

  #renderTally(summary, busy) {
    this.tally.hidden = busy || !summary?.n;
    if (this.tally.hidden) return;
    for (const [verdict, node] of Object.entries(this.tallied)) {
      setText(node.lastChild, `${summary[verdict]} ${VERDICTS[verdict].word.toLowerCase()}`);
      node.hidden = verdict === "unjudged" && !summary.unjudged;
    }
    setText(this.cut, summary.truncated ? `${summary.truncated} cut at the limit of tokens` : "");
  }

  #renderCards(value, picked) {
    const busy = BUSY.has(value.state);
    const rollouts = value.rollouts.slice(0, Math.max(this.shown, 0));
    for (const card of this.cards.splice(rollouts.length)) card.node.remove();
    const changed = [];
    rollouts.forEach((rollout, i) => {
      let card = this.cards[i];
      if (!card || card.index !== rollout.index) {
        const fresh = new Card(rollout.index, (index) => this.#pick(index));
        if (card) card.node.replaceWith(fresh.node);
        else this.grid.append(fresh.node);
        card = this.cards[i] = fresh;
      }
      if (card.update(rollout, rollout.index === picked, busy)) changed.push(card);
    });
    Card.settle(changed);
    const left = value.rollouts.length - rollouts.length;
    this.more.hidden = left <= 0;
    setText(this.more, `Show ${Math.min(PAGE, left)} more of ${left} hidden rollouts`);
  }
}

/** The head line: k of n, pass@n, zero-hit; n is what was really judged. */
function headline(value, total) {
  const { state, summary } = value;
  if (state === "sampling") return `Sampling ${plural(total, "rollout")}…`;
  if (state === "judging") return `Checking ${plural(total, "answer")}…`;
  if (!summary || !summary.n) return state === "failed" ? "Sampling failed" : state === "cancelled" ? "Stopped before any rollout was finished" : "No rollout was sampled";
  const { n, correct } = summary;
  return `${correct} of ${n} correct · pass@${n} = ${correct > 0 ? 1 : 0}${summary.zero_hit ? " · zero-hit" : ""}`;
}

/** What the head line means, in one sentence. */
function explain(value) {
  const { state, summary } = value;
  if (BUSY.has(state) || !summary || !summary.n) return "";
  const { n, correct } = summary;
  if (summary.zero_hit) return `${n === 1 ? "The only rollout is not right" : `None of ${n} rollouts is right`}, so RL with verifiable rewards has nothing to learn from here.`;
  if (correct === n) return "Every rollout is right: there is no failure to revise. Try a harder problem, more rollouts or a higher temperature.";
  return "The model gets there sometimes, so RL has something to learn from. Any failed rollout can be revised all the same.";
}

/**
 * Gradio calls this once per component. `props.value`: null or {run_id, state, message, problem, sampling, done, tokens_per_second, rollouts, summary,
 * split, presets, refused}. Emits 'pick' {rollout, run_id, turn} and, 150 ms after the last move, 'split' {rollout, m, name, run_id, turn}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Rollouts(element.querySelector(".lr-root") ?? element, trigger);
  const update = perFrame(() => view.render(props.value ?? null));
  watch("value", update);
  view.render(props.value ?? null);
}
