// Where a hunt stands: which one is on show, how far it is, pausing, going on, cancelling, auditing it. It asks Python once a second
// while something runs and the screen is to be seen, and not otherwise. Payload: see explorer/views/hunt.py.
// What it does not do: show what was found (hunt-table.js), ask for a new hunt (hunt-form.js).

import { el, perFrame, setAttr, setText, uid } from "./tokens.js";

const BEAT_MS = 1000;
const AGAIN_MS = 100;
const PATIENCE_MS = 8000; // an answer that takes longer is taken for lost
const SIGNS = { running: "▶", stopping: "…", done: "✓", paused: "Ⅱ", cancelled: "■", failed: "!", died: "!" };

/** Whether the hunt's screen is the one on show. */
export const huntMode = () => document.body.dataset.lrMode === "hunt";

/** Call `run` whenever the hunt's screen comes up; returns what ends that. */
export function onHuntMode(run) {
  const changed = () => huntMode() && run();
  document.addEventListener("lr-mode", changed);
  return () => document.removeEventListener("lr-mode", changed);
}

/** What the table on the page shows: its hunt and its mark. The table keeps it. */
export const shownTable = { hunt: null, mark: "" };

class Hunt {
  constructor(root, trigger) {
    this.trigger = trigger;
    const choose = uid("hunt");
    this.choose = el("select", { id: choose, class: "lr-field", on: { change: () => this.look(this.choose.value) } });
    this.label = el("label", { for: choose, class: "lr-hf-label", text: "Show hunt" });
    this.sign = el("span", { class: "lr-hunt-sign", "aria-hidden": "true" });
    this.said = el("strong");
    this.stage = el("span", { class: "lr-hunt-stage lr-num" });
    this.state = el("p", { class: "lr-hunt-state", role: "status" }, this.sign, this.said);
    const button = (text, run) => el("button", { type: "button", class: "lr-button", text, on: { click: () => run() } });
    this.pause = button("Pause", () => this.#act("pause"));
    this.resume = button("Go on", () => this.#act("resume"));
    this.resumeHunt = button("Go on with the hunt", () => this.#act("resume", this.value.unfinished));
    this.cancel = button("Cancel", () => this.#act("cancel"));
    this.audit = button("Audit the rescues of this hunt", () => this.#audit());
    this.actions = el("div", { class: "lr-hunt-actions" }, this.pause, this.resume, this.resumeHunt, this.cancel, this.audit);
    this.fill = el("div", { class: "lr-progress-fill" });
    this.track = el("div", { class: "lr-progress-track", role: "progressbar", "aria-valuemin": "0", "aria-label": "Prompts done" }, this.fill);
    this.count = el("span", { class: "lr-num" });
    this.progress = el("div", { class: "lr-progress" }, this.track, this.count);
    this.words = el("p", { class: "lr-note" });
    this.log = el("pre", { class: "lr-hunt-log", tabindex: "0", "aria-label": "The last lines that it printed" });
    this.otherWords = el("span");
    this.showOther = el("button", { type: "button", class: "lr-button lr-link", text: "Show it", on: { click: () => this.look(this.value.other.hunt) } });
    this.other = el("p", { class: "lr-note" }, this.otherWords, " ", this.showOther);
    this.why = el("p", { class: "lr-quiet" });
    this.body = el(
      "section",
      { class: "lr-hunt", "aria-label": "The hunt on show" },
      el("div", { class: "lr-hunt-bar" }, el("div", { class: "lr-hunt-choose" }, this.label, this.choose), this.state, this.actions),
      this.progress,
      this.stage,
      this.words,
      this.log,
      this.other,
      this.why,
    );
    this.empty = el("div", { class: "lr-empty" }, el("strong", { text: "No hunt yet" }), el("span", { text: "What a hunt finds arrives here as it comes." }));
    root.replaceChildren(this.empty, this.body);
    this.body.hidden = true;
  }

  /** Ask where a hunt stands; the answer redraws. The one asked for last is the one that is wanted. */
  look(hunt = this.wanted ?? this.value?.shown ?? null) {
    this.wanted = hunt;
    this.asked = performance.now();
    this.trigger("look", { hunt, mark: shownTable.mark });
  }

  #act(what, id = this.value?.job?.id) {
    if (!id || this.acting) return;
    this.acting = what;
    this.#buttons();
    this.trigger("act", { what, job: id, hunt: this.value.shown, mark: shownTable.mark });
  }

  #audit() {
    if (this.audit.getAttribute("aria-disabled")) return;
    this.acting = "audit";
    this.#buttons();
    this.trigger("audit", { hunt: this.value.shown, mark: shownTable.mark });
  }

  /** Once a second: ask again, if there is anything to learn and somebody to see it. */
  beat() {
    if (!huntMode() || document.hidden || !(this.value?.job?.alive || this.value?.other)) return;
    if (this.asked && performance.now() - this.asked < PATIENCE_MS) return;
    this.look();
  }

  render(value) {
    if (value && value.beat !== this.value?.beat) this.asked = this.acting = null;
    // Answers may overtake each other: one about another hunt than the one wanted is out of date.
    if (value && this.wanted && value.shown !== this.wanted && value.hunts.some(({ id }) => id === this.wanted)) {
      setTimeout(() => this.look(), AGAIN_MS);
      return;
    }
    this.wanted = value?.shown ?? null;
    this.value = value;
    const any = Boolean(value?.hunts.length);
    this.empty.hidden = any;
    this.body.hidden = !any;
    if (value) document.dispatchEvent(new CustomEvent("lr-hunt-seen", { detail: { hunts: value.hunts.length, shown: value.shown } }));
    if (!any) return;
    const key = JSON.stringify(value.hunts);
    if (key !== this.key) {
      this.key = key;
      this.choose.replaceChildren(...value.hunts.map(({ id, words }) => el("option", { value: id, text: words })));
    }
    this.choose.value = value.shown;
    const { job, progress, other } = value;
    setAttr(this.body, "data-state", job?.state ?? "none");
    setText(this.sign, SIGNS[job?.state] ?? "");
    setText(this.said, job ? `${job.kind === "audit" ? "Audit: " : ""}${job.said.toLowerCase()}` : "Started elsewhere");
    this.#progress(job, progress);
    setText(this.words, job?.words ?? "");
    this.words.hidden = !job?.words;
    setAttr(this.words, "data-kind", ["failed", "died"].includes(job?.state) ? "failed" : null);
    const lines = job?.last_lines.join("\n") ?? "";
    setText(this.log, lines);
    this.log.hidden = !lines || job.last_lines.length < 2;
    setText(this.otherWords, other ? `“${other.title}” is running: one at a time, so that they don’t slow each other down.` : "");
    this.other.hidden = !other;
    this.showOther.hidden = !other?.hunt || other.hunt === value.shown;
    this.#buttons();
  }

  #progress(job, progress) {
    const auditing = job?.kind === "audit";
    const busy = job?.alive && (!progress || auditing);
    this.progress.hidden = !progress && !busy;
    if (progress && !auditing) {
      this.fill.style.inlineSize = `${progress.total ? (100 * progress.done) / progress.total : 0}%`;
      setAttr(this.track, "aria-valuemax", progress.total);
      setAttr(this.track, "aria-valuenow", progress.done);
      setText(this.count, [`${progress.done} of ${progress.total} prompts`, progress.left].filter(Boolean).join(" · "));
      setText(this.stage, job?.alive ? [progress.problem, progress.stage].filter(Boolean).join(": ") : "");
    } else {
      const share = /\((\d+) %\)\s*$/.exec(job?.last ?? "");
      this.fill.style.inlineSize = `${share ? share[1] : 0}%`;
      setAttr(this.track, "aria-valuemax", "100");
      setAttr(this.track, "aria-valuenow", share?.[1] ?? 0);
      setText(this.count, auditing ? "auditing" : "starting");
      setText(this.stage, job?.alive ? job.last || "Loading the model." : "");
      this.progress.hidden = !job?.alive;
    }
    this.stage.hidden = !this.stage.textContent;
  }

  #buttons() {
    const { job, other } = this.value;
    const alive = Boolean(job?.alive);
    const stopping = job?.state === "stopping";
    const done = job?.state === "done" || !job;
    const focused = document.activeElement;
    this.pause.hidden = !alive || stopping;
    this.cancel.hidden = !alive && job?.state !== "paused";
    this.resume.hidden = alive || done;
    this.resumeHunt.hidden = !this.value.unfinished;
    this.audit.hidden = alive || !this.value.rows; // nothing found yet is nothing to audit
    setText(this.cancel, stopping ? "Cancel now" : "Cancel");
    setText(this.resume, job?.kind === "audit" ? "Go on with the audit" : "Go on");
    for (const node of [this.pause, this.resume, this.resumeHunt, this.cancel, this.audit]) setAttr(node, "aria-disabled", this.acting || (other && node !== this.pause && node !== this.cancel) ? "true" : null);
    const why = this.audit.hidden ? "" : "The audit runs every control that tells a rescue from luck or a smuggled answer; it takes several times as long as the hunt’s own revisions.";
    setText(this.why, why);
    this.why.hidden = !why;
    if (focused?.hidden && this.actions.contains(focused)) [...this.actions.children].find((node) => !node.hidden)?.focus();
  }
}

/**
 * Gradio calls this once per component. `props.value`: null or {hunts, shown, job, progress, other, unfinished, mark, beat}.
 * Emits 'look' {hunt, mark}, 'act' {what, job, hunt, mark} and 'audit' {hunt, mark}. Tells the page how many hunts there are by the
 * document event "lr-hunt-seen" {hunts, shown}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Hunt(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
  const begun = (event) => (view.wanted = event.detail.hunt);
  document.addEventListener("lr-hunt-begun", begun);
  const timer = setInterval(() => view.beat(), BEAT_MS);
  const leave = onHuntMode(() => view.look());
  if (huntMode()) view.look();
  return () => {
    clearInterval(timer);
    leave();
    document.removeEventListener("lr-hunt-begun", begun);
  };
}
