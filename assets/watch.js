// What opens first: the switch between watching recorded runs, running one's own, hunting and training, the gallery of recorded runs, and the story of
// the run on the stage. Payload: see explorer/views/watch.py. Also starts what belongs to the page as a whole: its address (address.js)
// and dropping a run on it (drop.js). What it does not do: show the run itself; the stage does.

import { copyLink, keepAddress, opened } from "./address.js";
import { dropZone } from "./drop.js";
import { badge, el, interval, nextTurn, perFrame, plural, samplingText, setAttr, setBadge, setText, shorten, TokenRun, uid, VERDICTS } from "./tokens.js";

const OPEN_INPUT = "#lr-open-file input[type=file]";
const STORED = "lr-mode";
const MODES = [
  ["watch", "Watch recorded runs"],
  ["make", "Run it yourself"],
  ["hunt", "Hunt"],
  ["train", "Train"],
];
const WAIT_MS = 6000; // after this an unanswered click no longer says "Opening…"
const NBSP = "\u00a0";

/** Intervals stay on one line: "0–32 %" may otherwise break after its dash. */
const unbroken = (text) => text.replace(/(?<=\d)–(?=\d)/g, "–\u2060");

// ---- mode ----

const known = (name) => (MODES.some(([one]) => one === name) ? name : "watch");

/** "watch", "make", "hunt" or "train"; without the attribute it is "watch", as in the style sheet. */
export const mode = () => known(document.body.dataset.lrMode);

/** Choose the mode of the page, remember it for this tab, and announce it as the document event "lr-mode" {mode}. */
export function setMode(name) {
  const before = mode();
  document.body.dataset.lrMode = known(name);
  try {
    sessionStorage.setItem(STORED, mode());
  } catch {
    // Storage may be forbidden: the page then opens in watch mode each time.
  }
  if (before !== mode()) document.dispatchEvent(new CustomEvent("lr-mode", { detail: { mode: mode() } }));
}

function remembered() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return null;
  }
}

/** As it was last in this tab; but who follows a link to a run or to the tour wants to see that. On a reload it is merely what stood there. */
function firstMode() {
  const last = remembered() ?? "watch";
  const linked = opened.run || new URLSearchParams(location.search).has("tour");
  const followed = performance.getEntriesByType("navigation")[0]?.type === "navigate";
  return linked && followed && ["hunt", "train"].includes(last) ? "watch" : last;
}

class Switch {
  constructor() {
    this.node = el("div", { class: "lr-mode", role: "radiogroup", "aria-label": "What to do on this page" });
    this.buttons = MODES.map(([name, label]) => el("button", { type: "button", class: "lr-mode-button", role: "radio", text: label, data: { mode: name }, on: { click: () => setMode(name) } }));
    this.node.append(...this.buttons);
    this.node.addEventListener("keydown", (event) => {
      const at = this.buttons.indexOf(document.activeElement);
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: MODES.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      const next = (to + MODES.length) % MODES.length;
      this.buttons[next].focus();
      setMode(MODES[next][0]);
    });
    this.show();
  }

  show() {
    this.buttons.forEach((button) => {
      const on = button.dataset.mode === mode();
      setAttr(button, "aria-checked", on);
      setAttr(button, "tabindex", on ? "0" : "-1");
    });
  }
}

// ---- gallery ----

/** A badge with its own word; the verdict gives sign and colour. */
function setMark(node, mark) {
  node.hidden = !mark;
  if (!mark) return;
  setBadge(node, mark.verdict);
  setText(node.lastChild, mark.word);
}

class RunCard {
  constructor(id, onOpen) {
    this.id = id;
    const [title, more] = [uid("run"), uid("run")];
    this.sign = el("span", { class: "lr-run-sign", "aria-hidden": "true", text: "▶ " });
    this.name = el("span");
    this.title = el("span", { class: "lr-run-title", id: title }, this.sign, this.name);
    this.lesson = el("span", { class: "lr-run-lesson" });
    this.mark = badge();
    this.rate = el("span", { class: "lr-run-rate lr-num", "aria-hidden": "true" });
    this.outcome = el("span", { class: "lr-sr-only" });
    this.button = el(
      "button",
      { type: "button", class: "lr-run", "aria-labelledby": title, "aria-describedby": more, on: { click: () => onOpen(id) } },
      this.title,
      el("span", { class: "lr-run-more", id: more }, this.lesson, el("span", { class: "lr-run-result" }, this.mark, this.rate, this.outcome)),
    );
    this.node = el("li", {}, this.button);
  }

  update(run, current, opening) {
    setText(this.name, opening ? "Opening…" : run.title);
    setText(this.lesson, run.lesson);
    const { before, after } = run;
    setText(this.rate, unbroken(`${before.correct} of ${before.n} → ${after ? `${after.correct} of ${after.n} (${interval(after.interval)})` : "not sampled"}`));
    setText(this.outcome, run.outcome);
    setAttr(this.button, "title", run.outcome);
    setMark(this.mark, run.mark);
    this.sign.hidden = !current;
    setAttr(this.button, "aria-current", current ? "true" : null);
    setAttr(this.button, "aria-busy", opening ? "true" : null);
  }
}

class Gallery {
  constructor(trigger) {
    this.trigger = trigger;
    this.cards = new Map();
    this.list = el("ul", { class: "lr-runs", "aria-label": "Recorded runs" });
    this.hint = el("p", { class: "lr-runs-hint lr-quiet", "aria-hidden": "true" });
    this.node = el("div", { class: "lr-gallery" }, this.list, this.hint);
    // A run may come while the gallery is not to be seen (the other mode) or not laid out yet: there is nothing to scroll then.
    let width = 0;
    new ResizeObserver(() => {
      if (this.list.clientWidth === width) return;
      width = this.list.clientWidth;
      this.#reveal();
    }).observe(this.list);
  }

  #open(id) {
    if (id !== this.value.current) {
      this.opening = id;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        this.opening = null;
        this.render(this.value);
      }, WAIT_MS);
    }
    this.trigger("open", { id, turn: nextTurn() });
    this.render(this.value);
  }

  render(value) {
    const { runs, current } = value;
    const moved = current !== this.value?.current;
    this.value = value;
    if (moved || current === this.opening) {
      this.opening = null;
      clearTimeout(this.timer);
    }
    const ids = new Set(runs.map((run) => run.id));
    for (const [id, card] of this.cards) {
      if (ids.has(id)) continue;
      card.node.remove();
      this.cards.delete(id);
    }
    runs.forEach((run, i) => {
      if (!this.cards.has(run.id)) this.cards.set(run.id, new RunCard(run.id, (id) => this.#open(id)));
      const card = this.cards.get(run.id);
      if (this.list.children[i] !== card.node) this.list.insertBefore(card.node, this.list.children[i] ?? null);
      card.update(run, run.id === current, run.id === this.opening);
    });
    this.node.hidden = !runs.length;
    this.list.style.setProperty("--lr-runs", runs.length);
    setText(this.hint, `${plural(runs.length, "recorded run")}: swipe sideways for more →`);
    if (moved) this.#reveal();
  }

  /** Where the cards scroll sideways, brings the current one into sight; the page itself does not move. */
  #reveal() {
    const card = this.cards.get(this.value?.current);
    if (card) this.list.scrollLeft = Math.max(0, card.node.offsetLeft - this.list.offsetLeft - (this.list.clientWidth - card.node.offsetWidth) / 2);
  }
}

// ---- story ----

const SIGNS = { revised: "Revised points", projected: "Projected to tokens", original: "Unrevised prefix" };

class Story {
  constructor(trigger) {
    this.trigger = trigger;
    const name = uid("story");
    this.chip = el("span", { class: "lr-chip" });
    this.title = el("h2", { class: "lr-title lr-story-title", id: name });
    this.question = el("p", { class: "lr-story-question" });
    this.gold = el("strong");
    this.zero = badge();
    const why = uid("why");
    this.why = el("p", { class: "lr-story-why lr-quiet", id: why });
    this.lesson = el("p", { class: "lr-story-lesson" });
    this.live = el("button", { type: "button", class: "lr-button lr-story-live", text: "Run it live", "aria-describedby": why, on: { click: () => this.#live() } });
    const problem = el(
      "div",
      { class: "lr-story-problem" },
      el("div", { class: "lr-story-head" }, this.chip, this.title, this.live),
      this.why,
      this.lesson,
      this.question,
      el("p", { class: "lr-story-facts" }, el("span", { class: "lr-story-gold" }, "Gold answer: ", this.gold), this.zero),
    );

    this.failedHead = el("p", { class: "lr-story-sub" });
    const [prefix, failed, rest] = ["prefix", "failed", "unused"].map((zone) => el("span", { class: `lr-zone-${zone}` }));
    this.runs = { prefix: new TokenRun(prefix), continuation: new TokenRun(failed), rest: new TokenRun(rest) };
    this.text = el("div", { class: "lr-flow lr-story-text", role: "group" }, prefix, failed, rest);
    this.keys = [
      el("span", { class: "lr-key" }, el("span", { class: "lr-key-swatch lr-zone-prefix", "aria-hidden": "true" }), el("span")),
      el("span", { class: "lr-key" }, el("span", { class: "lr-key-swatch lr-zone-failed", "aria-hidden": "true" }), el("span")),
    ];
    this.failed = el("div", { class: "lr-story-failed" }, el("div", { class: "lr-story-legend" }, this.failedHead, ...this.keys), this.text);

    this.outcomeHead = el("p", { class: "lr-story-sub" });
    this.arms = Object.fromEntries(Object.keys(SIGNS).map((arm) => [arm, el("dd", { class: "lr-num" })]));
    this.list = el("dl", { class: "lr-story-arms" }, ...Object.entries(SIGNS).flatMap(([arm, label]) => [el("dt", { text: label }), this.arms[arm]]));
    this.controls = el("div", { class: "lr-story-controls" });
    this.outcome = el("div", { class: "lr-story-outcome" }, this.outcomeHead, this.list, this.controls);

    this.provenance = el("span", { class: "lr-num" });
    this.table = el("dl", { class: "lr-settings-list" });
    this.details = el("details", { class: "lr-details lr-story-settings" }, el("summary", {}, this.provenance, " · ", el("span", { class: "lr-story-all", text: "all settings" })), this.table);
    this.node = el("section", { class: "lr-story", "aria-labelledby": name }, problem, this.failed, this.outcome, this.details);
    new ResizeObserver(() => this.#scrollable()).observe(this.text);
    this.text.addEventListener("scroll", () => this.#more(), { passive: true });
  }

  #live() {
    if (!this.value?.replayable) return;
    this.trigger("live", { run_id: this.value.run_id });
    // What runs live is seen where things run.
    setMode("make");
    document.querySelector("#lr-section-rollouts")?.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  /** A text that scrolls must be reachable by keyboard, and one that doesn't is no stop on the way. */
  #scrollable() {
    const more = this.text.scrollHeight - this.text.clientHeight > 4;
    setAttr(this.text, "tabindex", more ? "0" : null);
    this.#more();
  }

  /** The last line fades while there is text below it. */
  #more() {
    const { scrollHeight, scrollTop, clientHeight } = this.text;
    setAttr(this.text, "data-more", scrollHeight - scrollTop - clientHeight > 4 ? "true" : null);
  }

  render(value) {
    this.value = value;
    this.node.hidden = !value;
    if (!value) return;
    setText(this.chip, value.recorded ? "● Recorded" : "Your run");
    setAttr(this.chip, "data-recorded", value.recorded ? "true" : null);
    setText(this.title, value.title || "The run on the stage");
    setText(this.lesson, value.lesson);
    this.lesson.hidden = !value.lesson;
    setText(this.question, value.question);
    setText(this.gold, value.answer);
    setBadge(this.zero, value.correct ? "correct" : "wrong");
    this.zero.hidden = !value.n;
    setText(this.zero.lastChild, `${value.correct} of ${value.n} rollouts correct${value.zero_hit ? ": zero-hit" : ""}`);
    this.#renderFailed(value.failed);
    this.#renderOutcome(value.outcome, value.controls);
    setText(this.provenance, provenance(value));
    this.#renderSettings(value.settings);
    setAttr(this.live, "aria-disabled", value.replayable ? null : "true");
    this.live.hidden = !value.replayable && !value.why_not; // a run that is live already
    setText(this.why, value.replayable ? value.note : value.why_not);
    this.why.hidden = !this.why.textContent;
    setAttr(this.live, "title", value.replayable ? "Compute every step anew on this server" : null);
  }

  #renderFailed(failed) {
    this.failed.hidden = !failed;
    if (!failed) return;
    const answer = failed.answer ? `answers ${shorten(failed.answer.replaceAll("\n", " "), 24)}` : "no answer found";
    const { sign, word } = VERDICTS[failed.verdict] ?? VERDICTS.unjudged;
    setText(this.failedHead, `Rollout ${failed.index + 1}, ${answer} ${sign} ${word.toLowerCase()}`);
    setText(this.keys[0].lastChild, `Prefix, revised (${failed.prefix.length})`);
    setText(this.keys[1].lastChild, `Failed continuation (${failed.continuation.length})`);
    setAttr(this.text, "aria-label", `Failed rollout ${failed.index + 1}: prefix of ${plural(failed.prefix.length, "token")}, then the failed continuation of ${failed.continuation.length}`);
    const changed = Object.entries(this.runs).map(([part, run]) => run.sync(failed[part] ?? []));
    if (!changed.some(Boolean)) return;
    this.text.scrollTop = 0;
    this.#scrollable();
  }

  #renderOutcome(outcome, controls) {
    this.outcome.hidden = !outcome && !controls.length;
    setText(this.outcomeHead, outcome ? `Correct after ${plural(outcome.step, "step")}` : "Control");
    this.list.hidden = !outcome;
    for (const [arm, node] of Object.entries(this.arms)) {
      const tally = outcome?.[arm];
      setText(node, tally ? unbroken(`${tally.correct}${NBSP}of${NBSP}${tally.n} (${interval(tally.interval)})`) : "not sampled");
      // A right try from the untouched prefix speaks against the rescue: no tick of praise.
      setAttr(node, "data-hit", tally?.correct && arm !== "original" ? "true" : null);
    }
    const key = JSON.stringify(controls);
    if (key === this.controlsKey) return;
    this.controlsKey = key;
    this.controls.replaceChildren(...controls.map((control) => el("p", {}, el("strong", { text: control.kind === "decoy" ? "Decoy control: " : "Control: " }), unbroken(control.sentence))));
  }

  #renderSettings(settings) {
    const key = JSON.stringify(settings);
    if (key === this.settingsKey) return;
    this.settingsKey = key;
    this.table.replaceChildren(...settings.map(([name, value, explanation]) => el("div", {}, el("dt", { text: name }), el("dd", {}, el("span", { class: "lr-settings-value lr-num", text: value }), el("span", { class: "lr-quiet", text: explanation })))));
  }
}

/** "Recorded 2026-11-22 · SmolLM2-135M-Instruct, float32, CPU · N = 8 · …": where the numbers come from. */
function provenance(value) {
  const model = [value.model.split("/").filter(Boolean).at(-1) ?? value.model, value.dtype, value.device === "cpu" ? "CPU" : value.device].join(", ");
  return [`${value.recorded ? "Recorded" : "Made"} ${value.date}`, model, samplingText(value.sampling)].filter(Boolean).join(" · ");
}

// ---- the view ----

let takeDown = null; // page-wide listeners of the last mount

class Watch {
  constructor(root, trigger) {
    this.switch = new Switch();
    this.gallery = new Gallery(trigger);
    this.story = new Story(trigger);
    const button = (text, run) => el("button", { type: "button", class: "lr-button", text, on: { click: (event) => run(event.currentTarget) } });
    this.tour = button("Take the tour", () => this.#tour());
    this.tour.classList.add("lr-primary"); // what a newcomer should press first
    this.open = button("Open a run…", () => this.#openFile());
    this.copy = button("Copy link", (node) => copyLink(node));
    this.actions = el("div", { class: "lr-watch-actions" }, this.tour, this.open, this.copy);
    this.note = el("p", { class: "lr-note lr-watch-note", role: "alert", hidden: "" });
    this.told = el("span", { class: "lr-sr-only", role: "status" });
    this.ghosts = el("div", { class: "lr-runs lr-runs-ghosts", "aria-hidden": "true" }, ...Array.from({ length: 7 }, () => el("span", { class: "lr-run-ghost" })));
    this.ghosts.style.setProperty("--lr-runs", 7);
    this.empty = el(
      "div",
      { class: "lr-empty", hidden: "" },
      el("strong", { text: "No recorded runs in this copy" }),
      el("span", { text: "Open a run’s folder or zip, drop one on the page, or run one yourself." }),
    );
    this.body = el("div", { class: "lr-watch-body" }, this.ghosts, this.empty, this.gallery.node, this.story.node);
    this.gallery.node.hidden = this.story.node.hidden = true;
    root.replaceChildren(el("div", { class: "lr-watch" }, el("div", { class: "lr-watch-bar" }, this.switch.node, this.actions), this.note, this.told, this.body));
  }

  say(sentence) {
    setText(this.note, sentence);
    this.note.hidden = !sentence;
  }

  /** The tour was left somewhere, or not: {stop, total}. */
  showTour(state) {
    setText(this.tour, state?.stop && !state.open ? `Resume the tour (${state.stop} of ${state.total})` : "Take the tour");
  }

  #tour() {
    setMode("watch"); // the tour is told on a recorded run
    document.dispatchEvent(new CustomEvent("lr-tour"));
  }

  #openFile() {
    const input = document.querySelector(OPEN_INPUT);
    this.say(input ? "" : "The page can’t take a run just now: wait a moment and try again.");
    if (!input) return;
    input.addEventListener("change", toWatch, { once: true });
    input.click();
  }

  render(value) {
    this.ghosts.hidden = Boolean(value);
    this.empty.hidden = !value || value.runs.length > 0 || Boolean(value.story);
    this.gallery.node.hidden = !value;
    if (value) this.gallery.render(value);
    this.story.render(value?.story ?? null);
    const id = value?.story?.run_id ?? null;
    if (this.id !== undefined && id && id !== this.id) setText(this.told, `On the stage: ${value.story.title || "the opened run"}`);
    if (value) this.id = id;
  }
}

function toWatch() {
  setMode("watch"); // what was opened is on the stage, with its story above
}

/**
 * Gradio calls this once per component. `props.value`: null or {runs, current, story}.
 * Emits 'open' {id, turn} and 'live' {run_id}. Listens to the document event "lr-set-mode" {mode}.
 */
export function mount({ element, props, trigger, watch }) {
  if (!document.body.dataset.lrMode) setMode(firstMode());
  const view = new Watch(element.querySelector(".lr-root") ?? element, trigger);
  takeDown?.();
  const asked = (event) => setMode(event.detail?.mode);
  const changed = () => view.switch.show();
  const toured = () => view.showTour(document.lrTour?.state);
  document.addEventListener("lr-set-mode", asked);
  document.addEventListener("lr-mode", changed);
  document.addEventListener("lr-tour-state", toured);
  const undrop = dropZone({ selector: OPEN_INPUT, say: (sentence) => view.say(sentence), taken: toWatch });
  takeDown = () => {
    document.removeEventListener("lr-set-mode", asked);
    document.removeEventListener("lr-mode", changed);
    document.removeEventListener("lr-tour-state", toured);
    undrop();
  };
  keepAddress();
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  // What the tour tells of comes from here.
  element.lrWatch = { get story() { return value()?.story ?? null; } };
  toured();
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
  return takeDown;
}
