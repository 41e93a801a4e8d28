// What a hunt found: a sentence, difficulty by family, and a row for each prompt that opens its run on the stage.
// Payload: see explorer/views/hunt.py. What it does not do: count or judge; Python does.

import { el, interval, nextTurn, perFrame, percent, rateBar, setAttr, setText, shorten, uid } from "./tokens.js";
import { passCurve } from "./hunt-curve.js";
import { shownTable } from "./hunt.js";
import { setMode } from "./watch.js";

const FIRST = 200; // rows drawn at once; the rest on request
const rate = (count) => (count ? `${count.x} of ${count.n}` : "–");
const spread = (count) => (count ? interval(count.interval) : "");
const share = (count) => (count?.n ? count.x / count.n : -1);
const FINDINGS = { "reached by reasoning": "✓", smuggled: "✗", "lucky: resampling finds it as often": "?", undecided: "?", "not rescued": "–" };

const COLUMNS = [
  { key: "problem", label: "Prompt", sort: (row) => row.problem },
  { key: "family", label: "Family", sort: (row) => row.family },
  { key: "before", label: (value) => `Right of N = ${value.n}`, sort: (row) => share(row.before), count: true },
  { key: "more", label: (value) => `Drawn on to ${value.wide}`, sort: (row) => share(row.more), count: true, when: (value) => value.wide },
  { key: "revised", label: "Revised", sort: (row) => share(row.revised), count: true },
  { key: "projected", label: "Projected", sort: (row) => share(row.projected), count: true },
  { key: "original", label: "Unrevised", sort: (row) => share(row.original), count: true },
  { key: "finding", label: "Audit", sort: (row) => row.finding, when: (value) => value.audited },
];
const FILTERS = [
  ["all", "All", () => true],
  ["zero", "Zero-hit", (row) => row.zero_hit],
  ["rescued", "Rescued", (row) => row.rescued],
  ["later", (value) => `Hit only when drawn on to ${value.wide}`, (row) => row.zero_hit && row.more?.x > 0],
  ["error", "Not tried or not revised", (row) => row.error || row.not_revised],
];

class Families {
  constructor() {
    this.body = el("div", { class: "lr-fam-list" });
    this.note = el("p", { class: "lr-quiet" });
    // On a telephone the cards would push the prompts far down.
    const open = matchMedia("(max-width: 760px)").matches ? null : "";
    this.summary = el("summary", { class: "lr-title" });
    this.node = el("details", { class: "lr-fam", open }, this.summary, this.note, this.body);
  }

  render(value) {
    this.node.hidden = !value.families.length;
    const all = value.families.at(-1);
    setText(this.summary, `How hard it is: ${all ? all.pass_at.filter((_, i, list) => i === 0 || i === list.length - 1).map(([k, p]) => `pass@${k} ${percent(p)}`).join(", ") : ""}`);
    const more = value.wide ? `; of the zero-hit ones, those hit when drawn on to ${value.wide}` : "";
    setText(this.note, `pass@k: the chance that one of k rollouts is right, the mean over prompts of the unbiased estimator. Bars: the share of prompts, with Wilson’s 95 % interval${more}.`);
    this.body.replaceChildren(...value.families.map((family) => this.#family(family, value)));
  }

  #family(family, value) {
    const line = (label, count, of) => {
      if (!count) return null;
      const bar = rateBar();
      bar.update(count.x, count.n, count.interval);
      setAttr(bar.node, "aria-label", `${label}: ${count.x} of ${count.n} ${of}, 95 % interval ${interval(count.interval)}`);
      return el("div", { class: "lr-fam-line" }, el("span", { text: label }), bar.node, el("span", { class: "lr-num lr-fam-count", text: `${rate(count)} (${spread(count)})` }));
    };
    const all = family.family === "all";
    return el(
      "article",
      { class: "lr-fam-card", data: { all: String(all) } },
      el("h4", { class: "lr-fam-name", text: all ? "All prompts" : family.family }),
      el("p", { class: "lr-quiet lr-num", text: `${family.judged} prompts tried${family.passed_over ? `, ${family.passed_over} could not be` : ""}` }),
      passCurve(family),
      line(`Zero-hit at ${value.n}`, family.zero_hit, "prompts"),
      line("Rescued, revised", family.rescued, "zero-hit prompts that were revised"),
      line("Projected", family.projected, "zero-hit prompts that were revised"),
      line("Unrevised prefix", family.original, "zero-hit prompts that were revised"),
      line(`Hit at ${value.wide}`, family.hit_by_more, "zero-hit prompts that were drawn on"),
    );
  }
}

class Table {
  constructor(root, trigger) {
    this.trigger = trigger;
    this.filter = "all";
    this.sort = { key: "problem", down: false };
    this.limit = FIRST;
    this.settings = el("p", { class: "lr-hunt-settings lr-quiet lr-num" });
    this.words = el("p", { class: "lr-hunt-words lr-num", role: "status" });
    this.families = new Families();
    this.filters = el("div", { class: "lr-segments", role: "group", "aria-label": "Which prompts" });
    const find = uid("find");
    this.find = el("input", { id: find, type: "search", class: "lr-field", on: { input: () => this.#rows() } });
    this.head = el("tr", {});
    this.body = el("tbody", {});
    this.caption = el("caption", { class: "lr-sr-only", text: "Prompts of the hunt; choose one to open its run on the stage" });
    this.table = el("table", { class: "lr-hunt-table" }, this.caption, el("thead", {}, this.head), this.body);
    this.none = el("p", { class: "lr-quiet" });
    this.more = el("button", { type: "button", class: "lr-button", on: { click: () => this.#showAll() } });
    this.rows = el(
      "section",
      { class: "lr-hunt-rows", "aria-label": "Prompts" },
      el("h3", { class: "lr-title", text: "Prompts" }),
      el("div", { class: "lr-hunt-tools" }, this.filters, el("div", { class: "lr-hunt-find" }, el("label", { for: find, class: "lr-hf-label", text: "Find" }), this.find)),
      this.table,
      this.none,
      this.more,
    );
    this.node = el("div", { class: "lr-hunt-found" }, this.words, this.settings, this.families.node, this.rows);
    root.replaceChildren(this.node);
    this.node.hidden = true;
  }

  render(value) {
    if (value && value.hunt !== this.value?.hunt) {
      this.filter = "all";
      this.limit = FIRST;
    }
    this.value = value;
    this.node.hidden = !value?.rows.length;
    Object.assign(shownTable, { hunt: value?.hunt ?? null, mark: value?.mark ?? "" });
    if (!value?.rows.length) return;
    setText(this.words, value.words);
    setText(this.settings, value.settings);
    this.families.render(value);
    this.#head();
    this.#rows();
  }

  #columns() {
    return COLUMNS.filter((column) => !column.when || column.when(this.value));
  }

  #head() {
    const cells = this.#columns().map((column) => {
      const label = typeof column.label === "function" ? column.label(this.value) : column.label;
      const on = this.sort.key === column.key;
      const arrow = on ? (this.sort.down ? " ↓" : " ↑") : "";
      const button = el("button", { type: "button", class: "lr-hunt-sort", data: { key: column.key }, on: { click: () => this.#sortBy(column.key) } }, label, el("span", { "aria-hidden": "true", text: arrow }));
      return el("th", { scope: "col", "aria-sort": on ? (this.sort.down ? "descending" : "ascending") : null }, button);
    });
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.head.replaceChildren(...cells);
    if (focused) this.head.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  #sortBy(key) {
    this.sort = { key, down: this.sort.key === key ? !this.sort.down : ["problem", "family", "finding"].includes(key) === false };
    this.#head();
    this.#rows();
  }

  #filterButtons() {
    const { value } = this;
    const shown = FILTERS.map(([name, label, holds]) => [name, typeof label === "function" ? label(value) : label, value.rows.filter(holds).length]).filter(([name, , count]) => count || name === "all" || name === "zero" || name === "rescued");
    const key = JSON.stringify([shown, this.filter]);
    if (key === this.filterKey) return;
    this.filterKey = key;
    const focused = this.filters.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    this.filters.replaceChildren(
      ...shown.map(([name, label, count]) =>
        el("button", { type: "button", class: "lr-button", "aria-pressed": name === this.filter, data: { name }, text: `${label} (${count})`, on: { click: () => { this.filter = name; this.#rows(); } } }),
      ),
    );
    if (focused) this.filters.querySelector(`[data-name="${focused}"]`)?.focus();
  }

  #rows() {
    this.#filterButtons();
    const holds = FILTERS.find(([name]) => name === this.filter)[2];
    const words = this.find.value.trim().toLowerCase();
    const matches = (row) => !words || `${row.problem} ${row.question} ${row.answer} ${row.family}`.toLowerCase().includes(words);
    const { sort } = COLUMNS.find((column) => column.key === this.sort.key);
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    const rows = this.value.rows.filter((row) => holds(row) && matches(row)).sort((a, b) => (this.sort.down ? -1 : 1) * order(sort(a), sort(b)) || order(a.problem, b.problem));
    const at = this.body.contains(document.activeElement) ? document.activeElement.dataset.problem : null;
    this.body.replaceChildren(...rows.slice(0, this.limit).map((row) => this.#row(row)));
    if (at !== null) [...this.body.querySelectorAll("button")].find((node) => node.dataset.problem === at)?.focus();
    setText(this.none, rows.length ? "" : "No prompt of this hunt is one of these.");
    this.none.hidden = rows.length > 0;
    this.table.hidden = !rows.length;
    this.more.hidden = rows.length <= this.limit;
    setText(this.more, `Show all ${rows.length}`);
  }

  #showAll() {
    const first = this.limit;
    this.limit = Infinity;
    this.#rows();
    // The button is gone: the first row that came takes the focus.
    const row = this.body.rows[first];
    const button = row.querySelector("button");
    if (!button) setAttr(row, "tabindex", "-1");
    (button ?? row).focus();
  }

  #row(row) {
    const cells = this.#columns().map((column) => {
      const label = typeof column.label === "function" ? column.label(this.value) : column.label;
      const parts = this.#cell(column, row);
      return el("td", { "data-empty": parts[0] === "–" ? "" : null, data: { label, column: column.key } }, ...parts);
    });
    const node = el("tr", { data: { rescued: String(row.rescued) } }, ...cells);
    if (row.run) node.addEventListener("click", (event) => !event.target.closest("button") && !String(getSelection()) && this.#open(row));
    return node;
  }

  #cell(column, row) {
    if (column.key === "problem") {
      const name = row.run
        ? el("button", { type: "button", class: "lr-button lr-link lr-hunt-open", title: "Open this run on the stage", data: { problem: row.problem }, text: row.problem, on: { click: () => this.#open(row) } })
        : el("strong", { text: row.problem });
      return [name, el("span", { class: "lr-hunt-question", title: row.question, text: shorten(row.question, 110) }), row.error || row.not_revised ? el("span", { class: "lr-hunt-error", text: row.error ? `Not tried: ${row.error}` : `Not revised: ${row.not_revised}` }) : null];
    }
    if (column.key === "finding") return row.finding ? [el("span", { "aria-hidden": "true", text: `${FINDINGS[row.finding] ?? "?"} ` }), row.finding] : ["–"];
    if (!column.count) return [row[column.key] || "–"];
    if (row.error) return ["–"];
    const count = row[column.key];
    const marks = [];
    if (column.key === "before" && row.zero_hit) marks.push(el("span", { class: "lr-badge", data: { verdict: "unjudged" }, text: "zero-hit" }));
    if (column.key === "revised" && row.rescued) marks.push(el("span", { class: "lr-badge", data: { verdict: "correct" }, text: "✓ rescued" }));
    if (column.key === "more" && count?.x) marks.push(el("span", { class: "lr-badge", data: { verdict: "correct" }, text: "✓ hit" }));
    return [el("span", { class: "lr-num lr-hunt-count", title: count ? `${percent(share(count))}, 95 % interval ${spread(count)}` : "not sampled" }, rate(count), count ? el("small", { text: ` (${spread(count)})` }) : null), ...marks];
  }

  #open(row) {
    if (!row.run) return;
    this.trigger("open", { hunt: this.value.hunt, run: row.run, turn: nextTurn() });
    // A prompt that was never revised has rollouts to see, and no movement.
    setMode(row.stage ? "watch" : "make");
    scrollTo({ top: 0 });
  }
}

/** Gradio calls this once per component. `props.value`: null or {hunt, mark, n, wide, settings, rows, families, words}. Emits 'open' {hunt, run}. */
export function mount({ element, props, trigger, watch }) {
  const view = new Table(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
}
