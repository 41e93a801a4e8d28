// Is the rescue real? One row for each way to treat the prefix otherwise, counted; the finding above, the leaks below.
// Payload: see explorer/views/audit.py. What it does not do: run a control or judge; Python does.

import { badge, el, interval, perFrame, rateAxis, rateBar, setAttr, setBadge, setText, uid } from "./tokens.js";

class Row {
  constructor() {
    this.title = el("span", { class: "lr-aud-title" });
    this.what = el("span", { class: "lr-aud-what" });
    this.bar = rateBar();
    this.count = el("td", { class: "lr-num lr-aud-count" });
    this.loops = el("td", { class: "lr-num lr-aud-small" });
    this.cut = el("td", { class: "lr-num lr-aud-small" });
    this.plot = el("td", { class: "lr-aud-plot" }, this.bar.node);
    this.node = el("tr", {}, el("th", { scope: "row" }, this.title, this.what), this.plot, this.count, this.loops, this.cut);
  }

  update(row) {
    setText(this.title, row.target ? `${row.title}: ${row.target}` : row.title);
    setText(this.what, row.what);
    setAttr(this.node, "data-arm", row.name);
    setAttr(this.node, "data-running", row.running ? "true" : null);
    this.bar.node.hidden = !row.n;
    if (row.n) {
      this.bar.update(row.correct, row.n, row.interval);
      setAttr(this.bar.node, "aria-label", `${row.correct} of ${row.n}, 95 % interval ${interval(row.interval)}`);
    }
    const verb = row.name === "decoy" ? "reach it" : "right";
    setText(this.count, row.n ? `${row.correct} of ${row.n} ${verb} (${interval(row.interval)})` : row.running ? "running…" : "not run yet");
    setAttr(this.count, "data-none", row.n ? null : "true");
    setText(this.loops, row.n ? String(row.degenerate) : "");
    setText(this.cut, row.n ? String(row.truncated) : "");
    setAttr(this.loops, "data-label", row.n ? "in loops" : null);
    setAttr(this.cut, "data-label", row.n ? "cut off" : null);
  }
}

class Audit {
  constructor(root, trigger) {
    this.trigger = trigger;
    this.rows = [];
    const why = uid("aud");
    this.mark = badge();
    this.sentence = el("span");
    this.finding = el("p", { class: "lr-aud-finding", role: "status" }, this.mark, this.sentence);
    this.because = el("ul", { class: "lr-aud-because lr-num" });
    this.start = el("button", { type: "button", class: "lr-button lr-primary", "aria-describedby": why, on: { click: () => this.#start() } });
    this.cancel = el("button", { type: "button", class: "lr-button", on: { click: () => this.#cancel() } });
    this.why = el("p", { class: "lr-quiet", id: why });
    this.fill = el("div", { class: "lr-progress-fill" });
    this.track = el("div", { class: "lr-progress-track", role: "progressbar", "aria-valuemin": "0", "aria-label": "Controls finished" }, this.fill);
    this.count = el("span", { class: "lr-num" });
    this.progress = el("div", { class: "lr-progress lr-aud-progress" }, this.track, this.count);
    this.note = el("p", { class: "lr-note", text: "Stopped. The finished controls are kept; the audit goes on with those that are missing." });
    this.body = el("tbody");
    const head = (text, extra = "") => el("th", { scope: "col", class: extra, text });
    const table = el(
      "table",
      { class: "lr-aud-table" },
      el("caption", { class: "lr-sr-only", text: "How often each way ends in the right answer" }),
      el("thead", {}, el("tr", {}, head("What is done"), el("th", { scope: "col", class: "lr-aud-plot" }, el("span", { class: "lr-sr-only", text: "Share and 95 % interval" }), rateAxis()), head("Right (95 % interval)"), head("In loops"), head("Cut off"))),
      this.body,
    );
    this.leakList = el("dl", { class: "lr-aud-leaks" });
    this.leaks = el("section", { class: "lr-aud-leak", "aria-label": "Leaks" }, el("h3", { class: "lr-title", text: "How much of the answer does the prefix carry?" }), this.leakList);
    this.legend = el("p", { class: "lr-quiet" });
    this.full = el("div", { class: "lr-aud-full" }, this.finding, this.because, table, this.legend, this.leaks);
    this.none = el("p", { class: "lr-quiet", text: "Once continuations of revised points are there, the controls beside them stand here." });
    this.actions = el("div", { class: "lr-aud-actions" }, this.start, this.cancel, this.why);
    root.replaceChildren(el("section", { class: "lr-aud", "aria-label": "Audit" }, this.actions, this.progress, this.note, this.none, this.full));
  }

  #start() {
    if (this.start.getAttribute("aria-disabled")) return;
    this.trigger("audit", { run_id: this.value?.run_id });
  }

  #cancel() {
    if (this.stopping) return;
    this.stopping = true;
    setAttr(this.cancel, "aria-disabled", "true");
    setText(this.cancel, "Stopping…");
    this.trigger("cancel", {});
  }

  render(value) {
    const busy = value?.state === "running";
    if (busy && this.value?.state !== "running") this.stopping = false;
    this.value = value;
    const ready = Boolean(value?.ready);
    this.none.hidden = ready;
    this.full.hidden = !ready;
    const focused = document.activeElement;
    this.start.hidden = busy || !ready || value.complete;
    this.cancel.hidden = !busy;
    if (focused === this.start && busy) this.cancel.focus();
    if (focused === this.cancel && !busy && !this.start.hidden) this.start.focus();
    this.actions.hidden = !ready;
    this.progress.hidden = !busy;
    this.note.hidden = value?.state !== "cancelled";
    if (!ready) return;

    setText(this.start, value.lacking === 8 ? "Audit this rescue: run all 8 controls" : value.lacking ? `Audit this rescue: run the ${value.lacking} missing control${value.lacking === 1 ? "" : "s"}` : "Measure the leaks");
    setAttr(this.start, "aria-disabled", value.why_not ? "true" : null);
    setAttr(this.cancel, "aria-disabled", this.stopping ? "true" : null);
    setText(this.cancel, this.stopping ? "Stopping…" : "Cancel");
    const what = value.complete ? "All controls were run at this step." : `Each with the rescue’s own budget, at step ${value.step}; takes several times as long as the revision and its continuations.`;
    setText(this.why, busy ? "" : value.why_not || what);
    if (value.progress) {
      this.fill.style.inlineSize = `${(100 * value.progress.done) / value.progress.total}%`;
      setAttr(this.track, "aria-valuemax", value.progress.total);
      setAttr(this.track, "aria-valuenow", value.progress.done);
      setText(this.count, value.progress.words);
    }

    const { finding } = value;
    setBadge(this.mark, finding.verdict);
    setText(this.mark.lastChild, finding.word);
    setText(this.sentence, finding.sentence);
    const key = JSON.stringify(finding.because);
    if (key !== this.becauseKey) {
      this.becauseKey = key;
      this.because.replaceChildren(...finding.because.map((text) => el("li", { text: text.replace(/(?<=\d)–(?=\d)/g, "–\u2060") })));
    }
    while (this.rows.length < value.rows.length) {
      this.rows.push(new Row());
      this.body.append(this.rows.at(-1).node);
    }
    value.rows.forEach((row, i) => this.rows[i].update(row));
    setText(this.legend, "Bar: share of continuations. Whisker: Wilson 95 % interval. At equal compute, as many are drawn as cost what the revision and its continuations cost. “Right” is the gold answer; for the decoy, its own wrong one.");
    this.leaks.hidden = !value.leaks.length;
    const leakKey = JSON.stringify(value.leaks);
    if (leakKey !== this.leakKey) {
      this.leakKey = leakKey;
      this.leakList.replaceChildren(...value.leaks.map(({ label, value: number, what: words }) => el("div", {}, el("dt", { text: label }), el("dd", {}, el("span", { class: "lr-settings-value lr-num", text: number }), el("span", { class: "lr-quiet", text: words })))));
    }
  }
}

/**
 * Gradio calls this once per component. `props.value`: null or what explorer/views/audit.py gives. Emits 'audit' {} and 'cancel' {}.
 */
export function mount({ element, props, trigger, watch }) {
  const view = new Audit(element.querySelector(".lr-root") ?? element, trigger);
  const value = () => (props.value && typeof props.value === "object" ? props.value : null); // Gradio gives "" for None
  const update = perFrame(() => view.render(value()));
  watch("value", update);
  view.render(value());
}
