// Asking for a training: which traces, which way, the handful of settings that matter, what it amounts to, the command that does it.
// Payload: see explorer/views/train.py. What it does not do: check values or start anything; Python does, and answers with a plan.

import { el, plural, setAttr, setText, uid } from "./tokens.js";
import { commandLine } from "./command.js";
import { GroupPreview } from "./train-group.js";
import { onTrainMode, trainMode } from "./train.js";

const REST_MS = 300; // after the last key, before the plan is asked for
const AGAIN_MS = 2000; // a model that is on its way is asked for again
const METHODS = [
  ["sft", "SFT", "Imitate the traces, token by token; the loss is on the completion only."],
  ["grpo", "GRPO", "Sample groups, reward what is right; a rescued trace takes a failed member’s place where all failed."],
  ["dpo", "DPO", "Prefer the rescued text to the failed rollout that was revised."],
];
const SELECTS = {
  traces: [["rescued", "Rescued"], ["own", "Own correct rollouts"], ["both", "Both"]],
  findings: [["", "Any, also not audited"], ["reached by reasoning", "Reached by reasoning"], ["reached by reasoning|undecided", "Reached by reasoning, or undecided"]],
  adapter: [["lora", "LoRA (adapters)"], ["full", "Full (all weights)"]],
  inject: [["zero-hit", "Where all failed"], ["always", "Wherever at least two failed"], ["never", "Never"]],
  sampler: [["auto", "What fits this device"], ["fast", "The app’s own loop"], ["trl", "TRL’s generate"], ["vllm", "vLLM (GPU)"]],
  scale_rewards: [["group", "The group’s deviation"], ["none", "Nothing (Dr. GRPO)"]],
};
const [ROWS, GROUPS, KL, TEXTS] = [["sft", "dpo"], ["grpo"], ["grpo", "dpo"], ["sft", "grpo"]];
// [name, label, sentence, type, attributes, methods (all when missing)]
const TRACES = [
  ["traces", "Which texts", "Only verified ones; each text once.", "select", {}],
  ["findings", "An audit’s verdict", "Of rescued texts; runs are audited in the hunt.", "select", {}],
  ["max_leak", "Leak score at most", "Highest weight on the answer in the prefix, 0 to 1.", "number", { min: 0, max: 1, step: 0.01, placeholder: "any" }],
  ["max_trace_tokens", "At most … tokens", "Longer traces stay out.", "number", { min: 1, placeholder: "any" }],
  ["min_log_p", "log p at least", "Nats per token under the plain prompt; audited runs know it.", "number", { max: 0, step: 0.1, placeholder: "any" }],
  ["per_problem", "At most … of a problem", "The likeliest stay, then the shorter.", "number", { min: 1, placeholder: "all" }],
  ["sound", "No false equation", "", "checkbox", {}],
  ["finished", "Ended by the model itself", "", "checkbox", {}],
];
const HOW = [
  ["adapter", "What is trained", "LoRA, small matrices beside the weights, needs far less memory; merged at the end.", "select", {}],
  ["updates", "Updates", "Steps of the optimiser.", "number", { min: 1 }],
  ["batch", "Batch", "Rows, pairs or prompts in an update.", "number", { min: 1 }],
  ["learning_rate", "Learning rate", "Empty takes the method’s own.", "number", { min: 0, step: "any" }],
  ["max_tokens", "Longest row", "Prompt and text together, in tokens.", "number", { min: 16 }, ROWS],
  ["group", "Group size", "Completions of a prompt that are compared.", "number", { min: 2 }, GROUPS],
  ["max_new_tokens", "Longest completion", "In tokens, also of held-out ones.", "number", { min: 1 }],
  ["inject", "Rescued trace enters", "It takes the last failed member’s place.", "select", {}, GROUPS],
  ["off_policy_c", "c of its weight", "Each of its tokens counts p / (p + c); 0 makes that 1.", "number", { min: 0, step: 0.05 }, GROUPS],
  ["mask_prefix", "Leave the replayed prefix out of the loss", "", "checkbox", {}, TEXTS],
];
const LOOK = [
  ["problems", "Prompts", "What groups are sampled of.", "set", { empty: "The traces’ problems" }, GROUPS],
  ["held_out_set", "Held-out problems of", "None of them is trained on.", "set", { empty: "Prompts’ set, or bank" }],
  ["held_out", "How many", "One rollout each at a look; 0 looks at none.", "number", { min: 0 }],
  ["eval_every", "Looked at every", "Updates; 0 never.", "number", { min: 0 }],
  ["name", "Name", "Of its folder; empty names it by the time.", "text", { placeholder: "by the time" }],
];
const MORE = [
  ["temperature", "Temperature", "Of sampled completions.", "number", { min: 0.05, max: 5, step: 0.05 }],
  ["zvp_alpha", "α of RL-ZVP", "Groups of equal rewards teach as well, each token by its entropy; 0: they teach nothing.", "number", { min: 0, max: 10, step: 0.05 }, GROUPS],
  ["scale_rewards", "Advantages divided by", "The group’s deviation weighs hard prompts more.", "select", {}, GROUPS],
  ["sampler", "Sampled by", "The same model, another speed.", "select", {}, GROUPS],
  ["beta", "β, weight of the KL", "Empty takes the method’s own.", "number", { min: 0, step: "any" }, KL],
  ["lora_rank", "LoRA rank", "", "number", { min: 1 }],
  ["save_every", "Checkpoint every", "Updates; a killed training goes on from the last.", "number", { min: 1 }],
  ["seed", "Random seed", "", "number", { min: 0 }],
];

/** A labelled input with its sentence. */
function field(name, label, sentence, type, { empty, ...attributes }, methods) {
  const [id, hint] = [uid("tf"), uid("tf")];
  const common = { id, "aria-describedby": sentence ? hint : null };
  let input;
  if (type === "select" || type === "set") input = el("select", { ...common, class: "lr-field" }, ...(SELECTS[name] ?? [["", empty]]).map(([value, text]) => el("option", { value, text })));
  else input = el("input", { ...common, type, class: type === "checkbox" ? "lr-check" : "lr-field", inputmode: type === "number" ? "decimal" : null, autocomplete: "off", ...attributes, step: type === "number" ? (attributes.step ?? 1) : null });
  const words = el("label", { for: id, class: "lr-hf-label", text: label });
  const quiet = sentence ? el("span", { id: hint, class: "lr-hf-hint", text: sentence }) : null;
  const node = type === "checkbox" ? el("div", { class: "lr-hf-row lr-hf-check" }, input, el("div", {}, words, quiet)) : el("div", { class: "lr-hf-row" }, words, input, quiet);
  return { name, type, input, node, methods, empty };
}

class Form {
  constructor(root, trigger) {
    this.trigger = trigger;
    this.ticket = 0;
    const made = (list) => list.map((parts) => field(...parts));
    const [traces, how, look, more] = [TRACES, HOW, LOOK, MORE].map(made);
    this.fields = [...traces, ...how, ...look, ...more];
    const nodes = (list) => list.map((one) => one.node);
    const group = (title, ...parts) => el("fieldset", { class: "lr-hf-group" }, el("legend", { text: title }), ...parts);

    this.sources = el("div", { class: "lr-tf-sources", role: "group", "aria-label": "Where traces come from" });
    const name = uid("method");
    this.methods = METHODS.map(([value, label]) => el("input", { type: "radio", name, value, class: "lr-sr-only", "aria-label": label, on: { change: () => this.#method(value) } }));
    const segments = el("div", { class: "lr-tf-methods", role: "radiogroup", "aria-label": "Method" }, ...this.methods.map((input, i) => el("label", { class: "lr-tf-method" }, input, el("span", { text: METHODS[i][1] }))));
    this.methodHint = el("p", { class: "lr-hf-hint lr-tf-wide" });
    this.device = el("p", { class: "lr-hf-hint lr-tf-wide" });
    this.grid = el(
      "div",
      { class: "lr-hf-grid lr-tf-grid" },
      group("Traces", this.sources, ...nodes(traces)),
      group("Method", segments, this.methodHint, ...nodes(how)),
      group("Problems and watching", ...nodes(look), el("details", { class: "lr-details lr-tf-wide" }, el("summary", { text: "More settings" }), el("div", { class: "lr-tf-more" }, ...nodes(more))), this.device),
    );

    this.count = el("p", { class: "lr-tf-count lr-num", role: "status" });
    this.left = el("p", { class: "lr-quiet lr-num" });
    this.sample = el("ul", { class: "lr-tf-sample", tabindex: "0", "aria-label": "Some of the traces" });
    this.sampleBox = el("details", { class: "lr-details" }, el("summary", {}, (this.sampleHead = el("span"))), this.sample);
    this.facts = el("dl", { class: "lr-tf-facts lr-num" });
    this.amounts = el("div", { class: "lr-tf-amounts" }, el("div", { class: "lr-tf-part" }, el("h3", { class: "lr-title", text: "What it trains on" }), this.count, this.left, this.sampleBox), el("div", { class: "lr-tf-part" }, el("h3", { class: "lr-title", text: "What it takes" }), this.facts));
    this.group = new GroupPreview({ choose: (problem) => this.#preview(problem), weigh: () => this.#weigh() });

    const why = uid("tf");
    this.reason = el("p", { class: "lr-hf-estimate", id: why, role: "status" });
    this.start = el("button", { type: "button", class: "lr-button lr-primary", text: "Start the training", "aria-describedby": why, on: { click: () => this.#begin() } });
    this.command = commandLine();
    this.foot = el("div", { class: "lr-hf-foot" }, this.start, this.reason, this.command.node);
    this.body = el("details", { class: "lr-hf", open: "" }, el("summary", { text: "New training" }), this.grid, this.amounts, this.group.node, this.foot);
    root.replaceChildren(this.body);

    // What was asked for may have begun and ended since, or failed to.
    this.body.addEventListener("toggle", () => this.body.open && this.filled && this.#ask(true));
    this.grid.addEventListener("input", (event) => {
      if (event.target.type !== "radio") this.#ask();
    });
    this.grid.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.matches("input:not([type=radio])")) this.#begin();
    });
  }

  /** What stands in the form, by name; empty fields are null, those of other methods left out. */
  values() {
    const sources = [...this.sources.querySelectorAll("input:checked")].map((input) => input.value);
    const found = { method: this.method, sources, preview: this.previewed ?? "" };
    for (const { name, type, input, methods } of this.fields) {
      if (methods && !methods.includes(this.method)) continue;
      if (type === "checkbox") found[name] = input.checked;
      else if (type === "number") found[name] = input.value === "" ? null : Number(input.value);
      else found[name] = input.value.trim();
    }
    return found;
  }

  /** Another method: its own first values where nobody typed others. */
  #method(value) {
    const before = this.value.presets[this.method];
    const preset = this.value.presets[value];
    for (const { name, type, input } of this.fields) {
      if (type !== "number" || !(name in preset)) continue;
      if (String(before?.[name] ?? "") === input.value) input.value = preset[name] ?? "";
    }
    this.method = value;
    this.#shown();
    this.#ask(true);
  }

  #shown() {
    for (const { node, methods } of this.fields) node.hidden = Boolean(methods && !methods.includes(this.method));
    setText(this.methodHint, METHODS.find(([value]) => value === this.method)[2]);
  }

  #ask(now = false) {
    clearTimeout(this.timer);
    this.ticket += 1;
    const ticket = this.ticket;
    setAttr(this.start, "aria-disabled", "true");
    this.timer = setTimeout(() => this.trigger("plan", { ticket, values: this.values() }), now ? 0 : REST_MS);
  }

  #preview(problem) {
    this.previewed = problem;
    this.#ask(true);
  }

  #weigh() {
    this.ticket += 1;
    this.trigger("weigh", { ticket: this.ticket, values: this.values() });
  }

  #begin() {
    if (this.start.getAttribute("aria-disabled") || !this.plan) return;
    setAttr(this.start, "aria-disabled", "true");
    this.begun = this.plan.name;
    this.refused = false;
    this.trigger("begin", { values: this.values(), training: this.plan.name });
    document.dispatchEvent(new CustomEvent("lr-train-begun", { detail: { training: this.plan.name } }));
  }

  /** Another look at the trainings has come: the form folds once what it began is there; until then it may have been refused. */
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

  /** The first values. */
  #fill({ presets }) {
    this.filled = true;
    this.method = "sft";
    this.methods[0].checked = true;
    for (const { name, type, input } of this.fields) {
      if (type === "checkbox") input.checked = Boolean(presets.sft[name]);
      else if (name in presets.sft) input.value = presets.sft[name] ?? "";
    }
    this.#shown();
  }

  /** Places and sets on offer; a hunt may have come since. */
  #offers({ sources, sets, presets, device }) {
    const key = JSON.stringify([sources, sets]);
    if (key === this.key) return;
    const on = this.key ? this.values().sources : presets.sft.sources;
    this.key = key;
    this.sources.replaceChildren(
      ...sources.map(({ id, label, runs }) => el("label", { class: "lr-tf-source" }, el("input", { type: "checkbox", class: "lr-check", value: id, checked: on.includes(id) ? "" : null }), el("span", {}, label, el("span", { class: "lr-quiet lr-num", text: ` ${plural(runs, "run")}` })))),
    );
    for (const { type, input, empty } of this.fields) {
      if (type !== "set") continue;
      const kept = input.value;
      input.replaceChildren(...[{ value: "", label: empty }, ...sets].map(({ value, label }) => el("option", { value, text: label })));
      input.value = kept;
    }
    setText(this.device, device === "cpu" ? "First values are for a CPU: small and quick to see." : `First values are for a GPU (${device}).`);
  }

  render(value) {
    if (!value) return;
    this.value = value;
    if (!this.filled) this.#fill(value);
    this.#offers(value);
    if (!value.plan || (value.plan.ticket !== this.ticket && value.plan.ticket !== 0)) return;
    this.plan = value.plan;
    this.#show(value.plan);
    clearTimeout(this.again);
    if (value.plan.waiting) this.again = setTimeout(() => trainMode() && this.#ask(true), AGAIN_MS);
  }

  #show(plan) {
    const { traces } = plan;
    this.amounts.hidden = !traces;
    if (traces) {
      setText(this.count, traces.words);
      setText(this.left, traces.left_out.length ? `Left out: ${traces.left_out.map(([why, n]) => `${n} ${why}`).join(", ")}.` : "");
      this.left.hidden = !traces.left_out.length;
      this.sampleBox.hidden = !traces.sample.length;
      setText(this.sampleHead, `See ${traces.sample.length} of ${traces.kept}`);
      this.sample.replaceChildren(
        ...traces.sample.map((one) => el("li", {}, el("p", {}, el("strong", { text: `${one.origin}: ` }), one.question, el("span", { class: "lr-quiet", text: ` (answer ${one.answer})` })), el("div", { class: "lr-flow", text: one.text }), el("p", { class: "lr-quiet lr-num", text: one.facts }))),
      );
    }
    this.facts.replaceChildren(...plan.facts.flatMap(([what, much, why]) => [el("dt", { text: what }), el("dd", {}, el("strong", { text: much }), el("span", { class: "lr-quiet", text: why }))]));
    this.facts.parentElement.hidden = !plan.facts.length;
    this.group.render(this.method === "grpo" ? plan.group : null);
    for (const [name, own] of [["learning_rate", plan.rate], ["beta", plan.beta]]) if (own) setAttr(this.fields.find((one) => one.name === name).input, "placeholder", own);
    setText(this.reason, plan.blocked || (plan.waiting ? "Time and memory show once the model is loaded; it can be started before." : ""));
    setAttr(this.reason, "data-kind", plan.blocked ? "failed" : null);
    setAttr(this.start, "aria-disabled", plan.blocked ? "true" : null);
    this.command.show(plan.command);
  }

  /** The screen came up: ask for what to show. */
  enter() {
    if (!this.filled) this.trigger("plan", { ticket: 0 });
    else this.#ask(true);
  }
}

/**
 * Gradio calls this once per component. `props.value`: null or {sources, sets, presets, device, plan}.
 * Emits 'plan' {ticket, values}, 'weigh' {ticket, values} and 'begin' {values, training}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Form(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  // Each answer is looked at, not the last of a frame: an older one may come right behind the newest.
  watch("value", () => view.render(value()));
  view.render(value());
  const settled = (event) => {
    // With trainings there, they come first.
    if (event.detail.trainings && !view.settled) view.body.open = false;
    view.settled = true;
    view.seen(event.detail.shown);
  };
  document.addEventListener("lr-train-seen", settled);
  const leave = onTrainMode(() => view.enter());
  if (trainMode()) view.enter();
  return () => {
    leave();
    clearTimeout(view.again);
    document.removeEventListener("lr-train-seen", settled);
  };
}
