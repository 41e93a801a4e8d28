// Two runs beside each other: the choice of the second one, what differs between them, and what that shows. The pictures are two
// stages (stage.js) that stage/lockstep.js keeps in step; this view lays them side by side through `data-lr-duel` on the body.
// Value: null | {options: [{id, label, group}], against, titles: [A, B] | null, rows: [{label, a, b, differs, kind, why}],
// same_problem, notes}. Event: "against" {id}, id null to close. What it does not do: compare anything; Python does (views/duel.py).

import { el, nextTurn, plural, setText, uid } from "./tokens.js";
import { hint, hintBox } from "./stage/dom.js";
import { lockstep } from "./stage/lockstep.js";

const TABLES = [
  { kind: "setting", name: "Settings that differ", none: "No setting differs." },
  { kind: "outcome", name: "What came out", none: "" },
];

export function mount({ element, props, trigger, watch }) {
  const duel = new Duel(element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null);
  duel.update(value());
  watch("value", () => duel.update(value()));
  return () => duel.free();
}

class Duel {
  constructor(element, trigger) {
    this.element = element;
    this.trigger = trigger;
    this.value = null;
    this.closing = false; // asked for here
    const picker = uid("duel");
    this.select = el("select", { id: picker, class: "lr-duel-select", on: { change: () => this.#ask(this.select.value || null) } });
    this.close = el("button", { type: "button", class: "lr-button", text: "Close comparison", on: { click: () => this.#ask(null) } });
    this.together = el("input", { type: "checkbox", on: { change: () => lockstep.setTogether(this.together.checked) } });
    this.together.checked = lockstep.together;
    this.togetherLabel = el("label", { class: "lr-duel-together" }, this.together, "Move maps together");
    this.nothing = el("p", { class: "lr-quiet", text: "There is no other run to compare with yet." });
    this.notes = el("ul", { class: "lr-duel-notes" });
    this.summary = el("summary", {});
    this.tables = el("div", { class: "lr-duel-tables" });
    this.body = el("details", { class: "lr-details lr-duel-body", open: "" }, this.summary, this.tables);
    this.node = el(
      "section",
      { class: "lr-duel", "aria-label": "Comparison of two runs" },
      el("div", { class: "lr-duel-bar" }, el("label", { for: picker, class: "lr-duel-label", text: "Compare with" }), this.select, this.nothing, this.togetherLabel, this.close),
      this.body,
    );
    hintBox(this.node);
    (element.querySelector(".lr-root") ?? element).replaceChildren(this.node);
  }

  #ask(id) {
    const { against } = this.value;
    // It names the run that is compared: another one as soon as that is there, which Python may refuse.
    this.select.value = against ?? "";
    if (id === (against ?? null)) return;
    this.closing = id === null;
    this.trigger("against", { id, turn: nextTurn() });
  }

  update(value) {
    const before = this.value;
    this.value = value;
    const on = Boolean(value?.against);
    // Gradio's wrapper would keep an empty gap otherwise.
    this.element.classList.toggle("lr-hidden-view", !value);
    if (on) document.body.dataset.lrDuel = "on";
    else delete document.body.dataset.lrDuel;
    this.node.hidden = !value;
    if (!value) return;
    const options = JSON.stringify(value.options);
    if (options !== this.options) {
      this.options = options;
      this.#fillPicker(value.options);
    }
    this.select.value = value.against ?? "";
    this.select.hidden = !value.options.length;
    this.nothing.hidden = Boolean(value.options.length);
    this.close.hidden = this.togetherLabel.hidden = this.body.hidden = !on;
    // The button that closed it is gone: the choice it came from takes the focus. A comparison that ends since another run was opened
    // leaves the focus, which some browsers don't give to what was clicked, and the page where they are.
    if (before?.against && !on) {
      const lost = document.activeElement === this.close || document.activeElement === document.body;
      if (this.closing && lost) this.select.focus({ preventScroll: true });
      this.closing = false;
    }
    const facts = on ? JSON.stringify([value.titles, value.rows, value.notes]) : "";
    if (facts === this.facts) return;
    this.facts = facts;
    if (on) this.#fillBody(value);
  }

  #fillPicker(options) {
    const groups = new Map();
    for (const { id, label, group } of options) {
      if (!groups.has(group)) groups.set(group, el("optgroup", { label: group }));
      groups.get(group).append(el("option", { value: id, text: label }));
    }
    this.select.replaceChildren(el("option", { value: "", text: "choose a run…" }), ...groups.values());
  }

  #fillBody({ titles, rows, notes }) {
    const settings = rows.filter((row) => row.kind === "setting");
    const differ = settings.filter((row) => row.differs).length;
    setText(this.summary, differ ? `What differs: ${plural(differ, "setting")}, and what came out` : "No setting differs; what came out");
    this.notes.replaceChildren(...notes.map((text) => el("li", { text })));
    this.notes.hidden = !notes.length;
    const open = this.same?.open ?? false;
    const same = settings.filter((row) => !row.differs);
    this.same = same.length
      ? el(
          "details",
          { class: "lr-details lr-duel-same" },
          el("summary", { text: same.length === 1 ? "1 setting is the same" : `${same.length} settings are the same` }),
          el("dl", {}, ...same.map((row) => el("div", {}, el("dt", { text: row.label }), el("dd", { text: row.a })))),
        )
      : null;
    if (this.same) this.same.open = open;
    this.tables.replaceChildren(...TABLES.map((table) => el("div", { class: "lr-duel-part" }, this.#table(table, titles, rows), ...(table.kind === "setting" ? [this.same, this.notes] : []))));
  }

  #table({ kind, name, none }, titles, rows) {
    const own = rows.filter((row) => row.kind === kind);
    // Those that differ first; of the settings only those.
    const shown = [...own.filter((row) => row.differs), ...(kind === "setting" ? [] : own.filter((row) => !row.differs))];
    if (!shown.length) return el("p", { class: "lr-quiet", text: none });
    const head = (letter, title) => el("th", { scope: "col" }, el("span", { class: `lr-duel-letter lr-duel-letter-${letter.toLowerCase()}`, text: letter }), " ", el("span", { class: "lr-duel-title", text: title }));
    return el(
      "table",
      { class: "lr-duel-table", data: { kind } },
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: name }), head("A", titles?.[0] ?? ""), head("B", titles?.[1] ?? ""))),
      el(
        "tbody",
        {},
        ...shown.map((row) =>
          el(
            "tr",
            { class: row.differs ? "lr-duel-differs" : null },
            el(
              "th",
              { scope: "row" },
              el("span", { class: "lr-duel-sign", "aria-hidden": "true", text: row.differs ? "≠" : "=" }),
              el("span", { class: "lr-sr-only", text: row.differs ? "Differs: " : "The same: " }),
              el("span", { class: "lr-duel-name", text: row.label }),
              hint(row.why),
            ),
            el("td", { text: row.a }),
            el("td", { text: row.b }),
          ),
        ),
      ),
    );
  }

  free() {
    delete document.body.dataset.lrDuel;
  }
}
