// Where a training stands: which one is on show, how far it is, stopping, going on, its last lines, and what came of it (train-after.js).
// It asks Python once a second while something runs and the screen is to be seen, and not otherwise. Payload: see explorer/views/train.py.
// What it does not do: draw curves (train-curves.js), ask for a new training (train-form.js).

import { el, perFrame, setAttr, setText, uid } from "./tokens.js";
import { After } from "./train-after.js";

const BEAT_MS = 1000;
const AGAIN_MS = 100;
const PATIENCE_MS = 8000; // an answer that takes longer is taken for lost
const SIGNS = { running: "▶", stopping: "…", done: "✓", paused: "Ⅱ", cancelled: "■", failed: "!", died: "!" };

/** Whether the training's screen is the one on show. */
export const trainMode = () => document.body.dataset.lrMode === "train";

/** Call `run` whenever the training's screen comes up; returns what ends that. */
export function onTrainMode(run) {
  const changed = () => trainMode() && run();
  document.addEventListener("lr-mode", changed);
  return () => document.removeEventListener("lr-mode", changed);
}

/** The mark of the curves on the page. The curves keep it. */
export const shownCurves = { mark: "" };

class Training {
  constructor(root, trigger) {
    this.trigger = trigger;
    const choose = uid("training");
    this.choose = el("select", { id: choose, class: "lr-field", on: { change: () => this.look(this.choose.value) } });
    this.sign = el("span", { class: "lr-hunt-sign", "aria-hidden": "true" });
    this.said = el("strong");
    this.state = el("p", { class: "lr-hunt-state", role: "status" }, this.sign, this.said);
    const button = (text, what) => el("button", { type: "button", class: "lr-button", text, on: { click: () => this.#act(what) } });
    this.stop = button("Stop", "stop");
    this.resume = button("Go on", "resume");
    this.end = button("End it now", "end");
    this.actions = el("div", { class: "lr-hunt-actions" }, this.stop, this.resume, this.end);
    this.settings = el("p", { class: "lr-quiet lr-num" });
    this.fill = el("div", { class: "lr-progress-fill" });
    this.track = el("div", { class: "lr-progress-track", role: "progressbar", "aria-valuemin": "0", "aria-label": "Updates done" }, this.fill);
    this.count = el("span", { class: "lr-num" });
    this.progress = el("div", { class: "lr-progress" }, this.track, this.count);
    this.stage = el("span", { class: "lr-hunt-stage lr-num" });
    this.words = el("p", { class: "lr-note" });
    this.measured = el("p", { class: "lr-num" });
    this.log = el("pre", { class: "lr-hunt-log", tabindex: "0", "aria-label": "The last lines that it printed" });
    this.logBox = el("details", { class: "lr-details" }, el("summary", { text: "The last lines that it printed" }), this.log);
    this.otherWords = el("span");
    this.showOther = el("button", { type: "button", class: "lr-button lr-link", text: "Show it", on: { click: () => this.look(this.value.other.training) } });
    this.other = el("p", { class: "lr-note" }, this.otherWords, " ", this.showOther);
    this.after = new After({
      evaluate: (data) => this.#ask("evaluate", data),
      load: (side) => this.trigger("take", { training: this.value.shown, side }),
      end: (job) => this.#ask("act", { what: "end", job }),
      resume: (job) => this.#ask("act", { what: "resume", job }),
    });
    this.body = el(
      "section",
      { class: "lr-hunt", "aria-label": "The training on show" },
      el("div", { class: "lr-hunt-bar" }, el("div", { class: "lr-hunt-choose" }, el("label", { for: choose, class: "lr-hf-label", text: "Show training" }), this.choose), this.state, this.actions),
      this.settings,
      this.progress,
      this.stage,
      this.words,
      this.measured,
      this.logBox,
      this.other,
      this.after.node,
    );
    this.empty = el("div", { class: "lr-empty" }, el("strong", { text: "No training yet" }), el("span", { text: "Curves and completions of a training arrive here as they come." }));
    root.replaceChildren(this.empty, this.body);
    this.body.hidden = true;
  }

  /** Ask where a training stands; the answer redraws. The one asked for last is the one that is wanted. */
  look(training = this.wanted ?? this.value?.shown ?? null) {
    this.wanted = training;
    this.asked = performance.now();
    this.trigger("look", { training, mark: shownCurves.mark });
  }

  #ask(event, data) {
    if (this.acting) return;
    this.acting = event;
    this.trigger(event, { training: this.value.shown, mark: shownCurves.mark, ...data });
    this.#buttons();
  }

  #act(what) {
    if (this.value?.job) this.#ask("act", { what, job: this.value.job.id });
  }

  /** Once a second: ask again, if there is anything to learn and somebody to see it. */
  beat() {
    if (!trainMode() || document.hidden || !(this.value?.job?.alive || this.value?.live || this.value?.other || this.value?.after?.loading)) return;
    if (this.asked && performance.now() - this.asked < PATIENCE_MS) return;
    this.look();
  }

  render(value) {
    if (value && value.beat !== this.value?.beat) this.asked = this.acting = null;
    // Answers may overtake each other: one about another training than the one wanted is out of date.
    if (value && this.wanted && value.shown !== this.wanted && value.trainings.some(({ id }) => id === this.wanted)) {
      setTimeout(() => this.look(), AGAIN_MS);
      return;
    }
    this.wanted = value?.shown ?? null;
    this.value = value;
    const any = Boolean(value?.trainings.length);
    this.empty.hidden = any;
    this.body.hidden = !any;
    if (value) document.dispatchEvent(new CustomEvent("lr-train-seen", { detail: { trainings: value.trainings.length, shown: value.shown } }));
    if (!any) return;
    const key = JSON.stringify(value.trainings);
    if (key !== this.key) this.choose.replaceChildren(...value.trainings.map(({ id, words }) => el("option", { value: id, text: words })));
    this.key = key;
    this.choose.value = value.shown;
    const { job, progress, other, live } = value;
    const failed = ["failed", "died"].includes(job?.state);
    setAttr(this.body, "data-state", job?.state ?? "none");
    setText(this.sign, SIGNS[live ? "running" : job?.state] ?? "");
    setText(this.said, job ? job.said.toLowerCase() : live ? "running, started elsewhere" : "Started elsewhere");
    setText(this.settings, value.settings);
    this.settings.hidden = !value.settings;
    this.#progress(job, progress, live);
    setText(this.words, job?.words ?? "");
    this.words.hidden = !job?.words;
    setAttr(this.words, "data-kind", failed ? "failed" : null);
    setText(this.measured, job?.alive || live ? "" : value.measured);
    this.measured.hidden = !this.measured.textContent;
    this.#log(value.log, failed);
    setText(this.otherWords, other ? `“${other.title}” is running: one at a time, so that they don’t slow each other down.` : "");
    this.other.hidden = !other || Boolean(value.after?.evaluating?.alive);
    this.showOther.hidden = !other?.training || other.training === value.shown;
    this.after.render(value.after, Boolean(other || job?.alive));
    this.#buttons();
  }

  #progress(job, progress, live) {
    this.progress.hidden = !progress && !job?.alive;
    this.fill.style.inlineSize = `${progress?.total ? (100 * progress.done) / progress.total : 0}%`;
    setAttr(this.track, "aria-valuemax", progress?.total ?? 1);
    setAttr(this.track, "aria-valuenow", progress?.done ?? 0);
    setText(this.count, progress ? [`${progress.done} of ${progress.total} updates`, progress.left].filter(Boolean).join(" · ") : "starting");
    setText(this.stage, job?.alive || live ? progress?.stage || job?.last || "Loading." : "");
    this.stage.hidden = !this.stage.textContent;
  }

  #log(lines, open) {
    const text = lines.join("\n");
    this.logBox.hidden = !text;
    const key = `${this.value.shown}/${open}`;
    if (this.opened !== key) this.logBox.open = open; // once: a person may close it
    this.opened = key;
    if (this.log.textContent === text) return;
    const below = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 8;
    setText(this.log, text);
    if (below) this.log.scrollTop = this.log.scrollHeight;
  }

  #buttons() {
    const { job, other } = this.value;
    const alive = Boolean(job?.alive);
    const stopping = job?.state === "stopping";
    const focused = document.activeElement;
    this.stop.hidden = !alive || stopping;
    this.end.hidden = !stopping;
    this.resume.hidden = alive || !job || job.state === "done";
    for (const node of this.actions.children) setAttr(node, "aria-disabled", this.acting || (other && node === this.resume) ? "true" : null);
    if (focused?.hidden && this.actions.contains(focused)) [...this.actions.children].find((node) => !node.hidden)?.focus();
  }
}

/**
 * Gradio calls this once per component. `props.value`: null or what status_payload makes.
 * Emits 'look' {training, mark}, 'act' {what, job, training, mark}, 'evaluate' {training, side, problems, rollouts, limit, mark} and
 * 'take' {training, side}. Tells the page how many trainings there are, and which is on show, by the document event "lr-train-seen"
 * {trainings, shown}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Training(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
  const begun = (event) => (view.wanted = event.detail.training);
  document.addEventListener("lr-train-begun", begun);
  const timer = setInterval(() => view.beat(), BEAT_MS);
  const leave = onTrainMode(() => view.look());
  if (trainMode()) view.look();
  return () => {
    clearInterval(timer);
    leave();
    document.removeEventListener("lr-train-begun", begun);
  };
}
