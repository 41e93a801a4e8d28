// Asking for a hunt: which prompts, the handful of settings that matter, how long it may take, the command that does it.
// Payload: see explorer/views/hunt.py. What it does not do: check values or start anything; Python does, and answers with a plan.

import { el, plural, setAttr, setText, uid } from "./tokens.js";
import { commandLine } from "./command.js";
import { huntMode, onHuntMode } from "./hunt.js";

const FILE_INPUT = "#lr-hunt-file input[type=file]";
const REST_MS = 300; // after the last key, before the plan is asked for
const OTHERS = {
  "file:": "Your own file…",
  "datasets:": "A dataset of the hub…",
  "reasoning-gym:": "A task of reasoning-gym…",
};
const NAMED = {
  "datasets:": ["Dataset", "openai/gsm8k:test", "Its name on the hub, and a split after a colon; it is loaded when the hunt begins."],
  "reasoning-gym:": ["Task", "chain_sum", "One of its tasks; 100 prompts are generated from the seed."],
};
const CHOICES = {};
CHOICES.split = [
  ["auto", "Where it fits best"],
  ["first-error", "Before the first wrong equation"],
  ["before-answer", "Before the answer"],
  ["fraction", "Half of it"],
  ["fixed", "After a fixed number of tokens"],
];
CHOICES.hull = [
  ["vocabulary", "The whole vocabulary"],
  ["plausible", "Tokens likely at that place"],
  ["like-norm", "Tokens of like norm"],
];
CHOICES.engine = [
  ["own", "The app, prompt by prompt"],
  ["batch", "The app, several prompts at once"],
  ["vllm", "vLLM"],
];
// [name, label, sentence, type, attributes]
const GROUPS = [
  ["Try", [
    ["rollouts", "N, rollouts per prompt", "Zero-hit means that none of N is right.", "number", { min: 1, max: 1024 }],
    ["temperature", "Temperature", "Higher draws less likely tokens more often; 0 always takes the likeliest.", "number", { min: 0, max: 5, step: 0.05 }],
    ["max_new_tokens", "Longest, in tokens", "Rollouts are cut off here.", "number", { min: 1, max: 8192 }],
    ["seed", "Random seed", "The same seed draws the same rollouts.", "number", { min: 0 }],
    ["engine", "Who draws the rollouts", "Several prompts at once are faster; vLLM, where it is installed, on a GPU. Each draws other rollouts.", "select", {}],
    ["more", "Draw zero-hit prompts on to 4N", "Would more tries alone have hit? Takes longer.", "checkbox", {}],
  ]],
  ["Revise", [
    ["failed", "Failed rollouts revised", "Of each zero-hit prompt, the most promising first; 0 only looks for them.", "number", { min: 0, max: 64 }],
    ["split", "Where the prefix ends", "What stands before is revised, what follows is pushed away.", "select", {}],
    ["steps", "K, steps", "How many Frank-Wolfe steps each prefix takes.", "number", { min: 1, max: 200 }],
    ["step_size", "γ, step size", "About 0.05 keeps text fluent; 0.2 makes it gibberish.", "number", { min: 0.01, max: 1, step: 0.01 }],
    ["away_weight", "λ, away weight", "How hard the failed continuation pushes; 0 looks at the gold answer only.", "number", { min: 0, max: 10, step: 0.05 }],
    ["hull", "Hull", "Which tokens a place may be pulled to.", "select", {}],
    ["connector", "Words before the answer", "Such as “The answer is ”; empty puts the answer where the failed text goes on.", "text", { maxlength: 80 }],
  ]],
  ["Go on", [
    ["samples", "n, continuations", "From each of three starts: revised, projected to tokens, unrevised.", "number", { min: 1, max: 1024 }],
    ["limit", "Only the first … prompts", "Empty takes all of them.", "number", { min: 1 }],
  ]],
];

/** A labelled input with its sentence. */
function field(name, label, sentence, type, attributes) {
  const [id, hint] = [uid("hf"), uid("hf")];
  const input = type === "select" ? el("select", { id, class: "lr-field", "aria-describedby": hint }, ...CHOICES[name].map(([value, text]) => el("option", { value, text }))) : el("input", { id, type, class: type === "checkbox" ? "lr-check" : "lr-field", inputmode: type === "number" ? "decimal" : null, "aria-describedby": hint, ...attributes, step: type === "number" ? (attributes.step ?? 1) : null });
  const words = el("label", { for: id, class: "lr-hf-label", text: label });
  const quiet = el("span", { id: hint, class: "lr-hf-hint", text: sentence });
  const node = type === "checkbox" ? el("div", { class: "lr-hf-row lr-hf-check" }, input, el("div", {}, words, quiet)) : el("div", { class: "lr-hf-row" }, words, input, quiet);
  return { name, type, input, node };
}

class Form {
  constructor(root, trigger) {
    this.trigger = trigger;
    this.ticket = 0;
    this.fields = GROUPS.flatMap(([, fields]) => fields.map((parts) => field(...parts)));
    const of = (names) => this.fields.filter((one) => names.includes(one.name)).map((one) => one.node);

    const [set, named, hint] = [uid("hf"), uid("hf"), uid("hf")];
    this.set = el("select", { id: set, class: "lr-field", on: { change: () => this.#chosen() } });
    this.file = el("button", { type: "button", class: "lr-button", text: "Choose a file…", on: { click: () => this.#openFile() } });
    this.fileName = el("span", { class: "lr-hf-file" });
    this.fileRow = el("div", { class: "lr-hf-row" }, el("div", { class: "lr-hf-line" }, this.file, this.fileName), el("span", { class: "lr-hf-hint", text: "JSON lines, CSV or Parquet with question and answer, and perhaps id and family." }));
    this.namedLabel = el("label", { for: named, class: "lr-hf-label" });
    this.named = el("input", { id: named, type: "text", class: "lr-field", autocomplete: "off", spellcheck: "false", "aria-describedby": hint });
    this.namedHint = el("span", { id: hint, class: "lr-hf-hint" });
    this.namedRow = el("div", { class: "lr-hf-row" }, this.namedLabel, this.named, this.namedHint);
    const where = el("div", { class: "lr-hf-row" }, el("label", { for: set, class: "lr-hf-label", text: "Problem set" }), this.set);

    const group = (title, ...parts) => el("fieldset", { class: "lr-hf-group" }, el("legend", { text: title }), ...parts);
    const names = (index) => GROUPS[index][1].map(([name]) => name);
    this.grid = el(
      "div",
      { class: "lr-hf-grid" },
      group("Prompts", where, this.fileRow, this.namedRow, ...of(["limit"])),
      group("Try", ...of(names(0))),
      group("Revise", ...of(names(1)), ...of(["samples"])),
    );

    this.badHead = el("strong");
    this.badList = el("ul", { class: "lr-hf-badlist", tabindex: "0", "aria-label": "Rows that can’t be used" });
    this.skip = el("input", { type: "checkbox", id: uid("hf"), class: "lr-check", on: { change: () => this.#ask() } });
    this.skipRow = el("div", { class: "lr-hf-line" }, this.skip, el("label", { for: this.skip.id, text: "Leave these rows out" }));
    this.bad = el("div", { class: "lr-note lr-hf-bad", role: "status", hidden: "" }, this.badHead, this.badList, this.skipRow);

    const why = uid("hf");
    this.estimate = el("p", { class: "lr-hf-estimate lr-num", id: why, role: "status" });
    this.start = el("button", { type: "button", class: "lr-button lr-primary", text: "Start the hunt", "aria-describedby": why, on: { click: () => this.#begin() } });
    this.command = commandLine();
    this.foot = el("div", { class: "lr-hf-foot" }, this.start, this.estimate, this.command.node);
    this.body = el("details", { class: "lr-hf", open: "" }, el("summary", { text: "New hunt" }), this.grid, this.bad, this.foot);
    root.replaceChildren(this.body);

    // What was asked for may have begun and ended since, or failed to.
    this.body.addEventListener("toggle", () => this.body.open && this.filled && this.#ask(true));
    this.grid.addEventListener("input", () => this.#ask());
    this.grid.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.matches("input")) this.#begin();
    });
  }

  /** What stands in the form, by name; empty fields are left out. */
  values() {
    const found = { problems: this.#problems(), skip_bad: this.skip.checked };
    for (const { name, type, input } of this.fields) {
      if (name === "more") found.more = input.checked ? 4 : 1;
      else if (name === "connector") found.connector = input.value.replaceAll("\\n", "\n");
      else if (type === "number") found[name] = input.value === "" ? null : Number(input.value);
      else found[name] = input.value;
    }
    return found;
  }

  #problems() {
    const kind = this.set.value;
    if (kind === "file:") return this.brought?.value ?? "file:";
    return NAMED[kind] ? kind + this.named.value.trim() : kind;
  }

  #chosen() {
    const kind = this.set.value;
    this.fileRow.hidden = kind !== "file:";
    this.namedRow.hidden = !NAMED[kind];
    if (NAMED[kind]) {
      const [label, example, hint] = NAMED[kind];
      setText(this.namedLabel, label);
      setText(this.namedHint, hint);
      setAttr(this.named, "placeholder", example);
    }
    this.skip.checked = false;
  }

  #openFile() {
    document.querySelector(FILE_INPUT)?.click();
  }

  /** Ask for the plan of what stands there, once typing rests. */
  #ask(now = false) {
    clearTimeout(this.timer);
    this.ticket += 1;
    const ticket = this.ticket;
    setAttr(this.start, "aria-disabled", "true");
    this.timer = setTimeout(() => this.trigger("plan", { ticket, values: this.values() }), now ? 0 : REST_MS);
  }

  #begin() {
    if (this.start.getAttribute("aria-disabled") || !this.plan) return;
    const values = this.values();
    setAttr(this.start, "aria-disabled", "true");
    this.begun = this.plan.hunt;
    this.refused = false;
    this.trigger("begin", { values, hunt: this.plan.hunt });
    document.dispatchEvent(new CustomEvent("lr-hunt-begun", { detail: { hunt: this.plan.hunt } }));
  }

  /** Another look at the hunts has come: the form folds once what it began is there; until then it may have been refused. */
  seen(shown) {
    if (!this.begun) return;
    if (shown === this.begun) {
      this.begun = null;
      this.body.open = false;
    } else if (!this.refused) {
      this.refused = true;
      this.#ask(true);
    }
  }

  /** The first values, and the sets on offer. */
  #fill({ sets, gym, vllm, values }) {
    this.filled = true;
    const engines = this.fields.find((one) => one.name === "engine").input;
    for (const option of engines.options) {
      if (option.value !== "vllm" || vllm) continue;
      option.disabled = true;
      option.textContent = "vLLM (not installed)";
    }
    this.set.replaceChildren(...sets.map(({ value, label }) => el("option", { value, text: label })));
    for (const [value, text] of Object.entries(OTHERS)) {
      const missing = value === "reasoning-gym:" && !gym;
      this.set.append(el("option", { value, text: missing ? "reasoning-gym (not installed)" : text, disabled: missing ? "" : null }));
    }
    for (const { name, input } of this.fields) {
      if (name === "more") input.checked = values.more > 1;
      else input.value = String(values[name] ?? "").replaceAll("\n", "\\n");
    }
    this.#chosen();
  }

  render(value) {
    if (!value) return;
    if (!this.filled) this.#fill(value);
    if (value.brought && value.brought.value !== this.brought?.value) {
      this.brought = value.brought;
      this.set.value = "file:";
      this.#chosen();
      this.#ask(true);
    }
    setText(this.fileName, this.brought ? this.brought.label : "No file chosen yet.");
    if (!value.plan || (value.plan.ticket !== this.ticket && value.plan.ticket !== 0)) return;
    this.plan = value.plan;
    this.#show(value.plan);
  }

  #show(plan) {
    const waiting = this.set.value === "file:" && !this.brought;
    setText(this.estimate, waiting ? "Choose a file first." : plan.error || (plan.blocked ? plan.blocked : plan.estimate));
    setAttr(this.estimate, "data-kind", plan.blocked && !waiting ? "failed" : null);
    setAttr(this.start, "aria-disabled", plan.blocked || waiting ? "true" : null);
    this.command.show(plan.command);
    this.bad.hidden = !plan.bad_total;
    setText(this.badHead, `${plural(plan.bad_total, "row")} of this file can’t be used`);
    this.badList.replaceChildren(...plan.bad.map((row) => el("li", {}, el("span", { class: "lr-num", text: `${plan.unit} ${row.line}: ` }), row.why)));
    if (plan.bad_total > plan.bad.length) this.badList.append(el("li", { text: `and ${plan.bad_total - plan.bad.length} more` }));
    this.skipRow.hidden = !plan.skippable;
  }

  /** The screen came up: ask for what to show. */
  enter() {
    if (!this.filled) this.trigger("plan", { ticket: 0 });
    else this.#ask(true);
  }
}

/**
 * Gradio calls this once per component. `props.value`: null or {sets, gym, vllm, values, plan, brought}.
 * Emits 'plan' {ticket, values} and 'begin' {values, hunt}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Form(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  // Each answer is looked at, not the last of a frame: an older one may come right behind the newest.
  watch("value", () => view.render(value()));
  view.render(value());
  const settled = (event) => {
    // With hunts there, what they found comes first.
    if (event.detail.hunts && !view.settled) view.body.open = false;
    view.settled = true;
    view.seen(event.detail.shown);
  };
  document.addEventListener("lr-hunt-seen", settled);
  const leave = onHuntMode(() => view.enter());
  if (huntMode()) view.enter();
  return () => {
    leave();
    document.removeEventListener("lr-hunt-seen", settled);
  };
}
