// Two stages in step: A (with the player and the clock) and B, the run it is compared with. What moves A moves B to the same
// point, as far as B's own steps go; B's keyboard and curves ask A. Shared are the selection, the scales of the colours, and the map's
// view where both maps are the same one. Also tells the page where a stage stands (the document's event "lr-point").
// What it does not do: animate. A's tween is the only clock, so nothing can come back round in a loop.

import { h, setAttr, setText } from "./dom.js";

const same = (a, b) => Boolean(a && b) && a.x === b.x && a.y === b.y && a.zoom === b.zoom;

class Lockstep {
  constructor() {
    this.a = null;
    this.b = null;
    this.together = true; // the maps share one view
    this.view = null; // the view that both maps last agreed on
  }

  join(stage) {
    this[stage.role] = stage;
    setAttr(stage.el, "data-role", stage.role);
    if (stage.role !== "b") return;
    this.note = h("p", { class: "lr-s-follows", hidden: true });
    stage.player.el.after(this.note);
  }

  leave(stage) {
    if (this[stage.role] !== stage) return;
    this[stage.role] = null;
    this.#settle();
    this.a?.refresh();
  }

  /** Both stages show a run. */
  get on() {
    return Boolean(this.a?.payload && this.b?.payload);
  }

  #other(stage) {
    return stage === this.a ? this.b : stage === this.b ? this.a : null;
  }

  /** The stage that holds the clock when it is not `stage` itself. */
  leader(stage) {
    return this.on && stage === this.b ? this.a : null;
  }

  /** The last point that the clock of `stage` can go to: the longer of both runs. */
  reach(stage) {
    return this.on && this.#other(stage) ? Math.max(this.a.trajectory.S, this.b.trajectory.S) : stage.trajectory.S;
  }

  /** A stage has taken a payload, or lost it, and is about to show it. */
  changed(stage) {
    if (stage === this.b && this.runB !== stage.payload?.run_id) {
      this.runB = stage.payload?.run_id;
      // Another run's view is not this one's; in the same map it takes A's below.
      stage.map.touched = false;
      stage.map.firstView();
    }
    this.#settle(stage);
    if (stage === this.b) this.a?.refresh();
    if (!stage.payload) this.tell(stage);
  }

  /** Brings A's clock and curves, and B's selection and view, in line with who is there now; `updating` shows itself anew anyway. */
  #settle(updating = null) {
    const { a, b, on } = this;
    for (const stage of [a, b]) {
      if (!stage) continue;
      setAttr(stage.el, "role", on ? "group" : null);
      setAttr(stage.el, "aria-label", on ? `Run ${stage.role.toUpperCase()}` : null);
    }
    if (b) {
      setAttr(b.el, "data-follows", on);
      this.note.hidden = !on;
    }
    this.#share(updating);
    if (!a) return;
    a.curves.setOther(on ? { steps: b.payload.steps ?? [], final: b.payload.final ?? null, sameObjective: sameObjective(a, b) } : null);
    if (on && a.selected !== null && a.selected !== b.selected && a.selected < b.trajectory.M) {
      b.selected = a.selected;
      b.refresh();
    }
    if (a.head > a.reach) a.jump(a.reach);
    this.align();
  }

  /** The numbers of both runs are coloured by one scale while they are compared; vertices too where both have the same vocabulary. */
  #share(updating) {
    const { a, b, on } = this;
    for (const stage of [a, b]) {
      if (!stage) continue;
      stage.table.share(on ? this.#other(stage).table : null, on && this.#oneVocabulary);
      const { stamp } = stage.table;
      if (stamp === stage.scaled) continue;
      stage.scaled = stamp;
      if (stage !== updating) stage.refresh();
    }
  }

  /** A token id means the same token in both runs. */
  get #oneVocabulary() {
    const { a, b } = this;
    return Boolean(a.payload.map_key) && a.payload.map_key === b.payload.map_key;
  }

  /** The text of a token that only the run beside `stage` mentions. */
  textBeside(stage, id) {
    return this.on && this.#oneVocabulary ? this.#other(stage)?.payload.tokens?.[id] : undefined;
  }

  /** Called by A whenever its clock moved; `draw` within a frame, so that both pictures belong to one moment. */
  drive(stage, draw = false) {
    if (!this.on || stage !== this.a) return;
    const { a, b } = this;
    b.follow(a, draw);
    const { S } = b.trajectory;
    const where = `Point ${b.point} of ${S}`;
    setText(this.note, a.head > S ? `${where}: run B ends here, run A goes on.` : `${where}, in step with run A.`);
  }

  /** A stage shows a new state: the page is told, the other stage selects the same position if it has that many, and B moves. */
  shown(stage) {
    this.tell(stage);
    const { selected } = stage;
    const other = this.on ? this.#other(stage) : null;
    if (stage.linked !== selected) {
      stage.linked = selected;
      if (other && selected !== null && selected !== other.selected && selected < other.trajectory.M) {
        other.chosen = stage.chosen;
        other.selected = selected;
        other.refresh();
      }
    }
    this.drive(stage);
  }

  /** Whether one view means the same place in both maps: the same vocabulary, placed by hull weights. A joint fit is a map of its own. */
  get comparable() {
    const { a, b } = this;
    return this.on && this.#oneVocabulary && a.placement === "hull" && b.placement === "hull";
  }

  setTogether(together) {
    this.together = together;
    this.align();
  }

  /** B takes A's view. */
  align() {
    if (!this.together || !this.comparable) return;
    this.view = { ...this.a.map.view };
    this.b.map.touched = true;
    if (!same(this.b.map.view, this.view)) this.b.map.adopt(this.view);
  }

  /** Called in each frame of a stage: whose view is not the agreed one has been moved, and the other follows in this frame. */
  viewed(stage) {
    if (!this.together || !this.comparable) return;
    const other = this.#other(stage);
    if (!other || same(stage.map.view, this.view)) return;
    this.view = { ...stage.map.view };
    other.map.adopt(this.view);
    other.map.render();
  }

  /** Tells the page where a stage stands, once per change: {run_id, point, position (1-based or null), S, role}. */
  tell(stage) {
    const { payload, role } = stage;
    const detail = payload
      ? { run_id: payload.run_id, point: stage.point, position: stage.selected === null ? null : stage.selected + 1, S: stage.trajectory.S, role }
      : { run_id: null, point: 0, position: null, S: 0, role };
    const told = JSON.stringify(detail);
    if (told === stage.announced) return;
    stage.announced = told;
    document.dispatchEvent(new CustomEvent("lr-point", { detail }));
  }
}

/** Objectives are one quantity only where the two losses weigh the same. */
function sameObjective(a, b) {
  const [x, y] = [a.payload.config ?? {}, b.payload.config ?? {}];
  return x.away_weight === y.away_weight && x.toward_weight === y.toward_weight;
}

export const lockstep = new Lockstep();
