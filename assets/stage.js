// The Stage: the map, the player, the token strip, the readout and the curves of one revision, kept in step with each other.
// It holds the view's state (shown point, selection, placement, speed), the clock of playback, and the talk with Python.
// Source of the method: LatentRevise, arXiv 2606.29938. What it does not do: compute a step; Python does.

import { h, hintBox, num, percent, reducedMotion, setAttr, setText, visible } from "./stage/dom.js";
import { Trajectory } from "./stage/hull.js";
import { loadAtlas } from "./stage/atlas.js";
import { onThemeChange } from "./stage/theme.js";
import { MapView } from "./stage/map.js";
import { Player, keyToAct } from "./stage/player.js";
import { Strip } from "./stage/strip.js";
import { Readout } from "./stage/readout.js";
import { Curves } from "./stage/curves.js";
import { MapNotice, Placement, jointScene } from "./stage/placement.js";
import { welcome } from "./stage/welcome.js";
import { opened } from "./address.js";
import { lockstep } from "./stage/lockstep.js";
import { Table } from "./stage/quantity.js";
import { Heat } from "./stage/heat.js";
import { Picks } from "./stage/picks.js";
import { Colours } from "./stage/colour.js";
import { compare, inWords, travelled } from "./stage/honesty.js";

const EASE_MS = 450; // one step's move at 1×
const STEP_MS = 900; // one step's move and rest during playback at 1×
const WAIT_MS = 5000; // after this an unanswered request no longer blocks the buttons
let turn = 0; // counts the words to Python of the point on screen: they may arrive out of order
const ease = (u) => (u < 0.5 ? 2 * u * u : 1 - (2 - 2 * u) ** 2 / 2);

/** Whether two payloads show the same movement. */
const same = (a, b) => JSON.stringify([a?.prefix, a?.steps]) === JSON.stringify([b.prefix, b.steps]);

const STATUS = {
  running: ["Computing", "busy"],
  paused: ["Paused", "calm"],
  completed: ["Completed", "done"],
  converged: ["Converged", "done"],
  cancelled: ["Cancelled", "warn"],
  failed: ["Failed", "warn"],
};
const SIGN = { busy: "◐", calm: "❙❙", done: "✓", warn: "✗" };

/** Builds the stage inside `element` and keeps it in step with `props.value`. Returns a function that takes it down. */
export function mount({ element, props, trigger, watch }) {
  const stage = new Stage(element, trigger);
  // Gradio gives an empty string where Python gave None.
  const value = () => (props.value && typeof props.value === "object" ? props.value : null);
  // The page comes with the first recorded run; an address that names another one waits for that.
  const first = value();
  stage.update(opened.run && first?.recorded && first.run_id !== opened.run ? null : first);
  watch("value", () => stage.update(value()));
  return () => stage.free();
}

class Stage {
  constructor(element, trigger) {
    // B of a comparison moves with A and never talks to Python.
    this.role = element.closest("#lr-stage-b") ? "b" : "a";
    this.trigger = this.role === "b" ? () => {} : trigger;
    this.trajectory = new Trajectory();
    this.timings = {};
    this.payload = null;
    this.point = 0;
    this.head = 0; // where the clock stands: beyond the own last point when the run beside this one is longer
    this.shown = 0;
    this.selected = null;
    this.placement = "hull";
    this.layout = "hull"; // the placement that is drawn
    this.looks = {}; // by layout, how the reader left its map: each has coordinates of its own
    this.speed = 1;
    this.playing = false;
    this.tokens = null;
    const text = (id) => this.text(id);
    const select = (t) => this.select(t);
    const seek = (j) => this.seek(j);
    this.map = new MapView({ wake: () => this.wake(), onSelect: select, onGone: () => this.free(), text, timings: this.timings });
    this.player = new Player((name, value) => this.act(name, value));
    this.strip = new Strip({ onSelect: select, text });
    this.readout = new Readout({ onSelect: select, onSeek: seek, text });
    this.curves = new Curves({ onSeek: seek, onNear: () => this.wake() });
    this.place = new Placement({ onPick: (name) => this.pick(name), onAsk: () => this.ask("joint") });
    this.notice = new MapNotice();
    this.table = new Table(this.trajectory);
    this.heat = new Heat({ onPick: (t, j) => this.goTo(t, j), text, timings: this.timings });
    this.picks = new Picks({ onPick: (id, positions) => this.pickToken(id, positions), text });
    this.colours = new Colours({ onPick: (key) => this.colourBy(key) });
    this.#build(element);
    lockstep.join(this);
    // A button that starts from the step on screen must not overtake the word of which step that is.
    this.tellFirst = () => this.pointTimer && this.#tell();
    document.addEventListener("click", this.tellFirst, true);
    this.unwatchTheme = onThemeChange(() => {
      this.map.themeChanged();
      this.curves.themeChanged();
      this.heat.themeChanged();
      this.colours.themeChanged();
      if (this.payload) this.refresh();
    });
    element.lrStage = { point: () => this.point, setPoint: (j) => this.seek(j), select, timings: this.timings, view: () => this.map.view, stage: this };
  }

  #build(element) {
    this.pill = h("span", { class: "lr-s-status", role: "status" }, (this.pillSign = h("span", { "aria-hidden": "true", class: "lr-s-status-sign" })), (this.pillText = h("span")));
    this.counter = h("span", { class: "lr-s-head-counter" });
    this.facts = h("span", { class: "lr-s-head-model" });
    this.message = h("p", { class: "lr-s-message", role: "alert", hidden: true });
    const swatch = (cls, sign, label) => h("span", { class: "lr-s-key" }, h("b", { class: cls, text: sign, "aria-hidden": "true" }), label);
    const legend = h("div", { class: "lr-s-keys lr-s-map-legend" }, swatch("lr-s-c-original", "○", "start"), swatch("lr-s-c-ink", "●", "now"), swatch("lr-s-c-vertex", "◆", "vertex it is pulled to"), swatch("lr-s-c-cloud", "∷", "vocabulary"));
    this.full = h(
      "div",
      { class: "lr-s-stage-grid", hidden: true },
      h("header", { class: "lr-s-stage-head" }, this.pill, this.counter, this.facts),
      this.message,
      h(
        "div",
        { class: "lr-s-main" },
        h(
          "div",
          { class: "lr-s-card lr-s-map-card" },
          this.place.el,
          h("div", { class: "lr-s-map-frame", "data-tour": "map" }, this.map.el, this.notice.el),
          this.player.el,
          h("div", { class: "lr-s-map-foot" }, legend, this.colours.el, this.place.honesty, this.place.caution),
        ),
      ),
      this.strip.el,
      h("div", { class: "lr-s-side" }, this.readout.el, this.curves.el),
      (this.views = h("div", { class: "lr-s-linked" }, this.heat.el, this.picks.el)),
    );
    this.empty = welcome();
    this.el = h("div", { class: "lr-stage" }, this.empty, this.full);
    hintBox(this.el);
    // Whoever has begun to look for themselves is not played to.
    for (const type of ["pointerdown", "keydown", "wheel"]) this.el.addEventListener(type, () => this.#dismissGreeting(), { capture: true, passive: true });
    this.el.addEventListener("keydown", (event) => {
      const act = this.payload && keyToAct(event);
      if (!act) return;
      event.preventDefault();
      this.act(act);
    });
    (element.querySelector(".lr-root") ?? element).replaceChildren(this.el);
  }

  // ---- payload -------------------------------------------------------------------------------------------------------

  /** Takes a payload (see the module's contract) and changes only what it changes. */
  update(payload) {
    const start = performance.now();
    const before = this.payload;
    if (payload && this.role === "b") payload = { ...payload, live: false };
    this.payload = payload;
    this.empty.hidden = payload !== null;
    this.full.hidden = payload === null;
    if (!payload) {
      this.stop();
      lockstep.changed(this);
      return;
    }
    const renamed = before?.run_id !== payload.run_id || before?.nonce !== payload.nonce;
    // A run that was opened, taken up to be gone on with: the same one under a new name, so the reader stays where they are.
    const takenUp = renamed && payload.live && !payload.recorded && same(before, payload);
    const newRun = renamed && !takenUp;
    // Other positions stand elsewhere; the same ones, begun anew or moved in another way, are still looked at.
    const elsewhere = newRun && JSON.stringify([before?.map_key, before?.prefix]) !== JSON.stringify([payload.map_key, payload.prefix]);
    const oldS = this.trajectory.S;
    const wasLast = this.point >= oldS;
    if (newRun) {
      this.trajectory.reset();
      this.trajectory.setCoords(this.atlas?.coords ?? null);
      this.selected = null;
      this.chosen = false;
      this.placement = "hull";
      this.picks.clear();
    }
    const change = this.trajectory.sync(payload.prefix ?? [], payload.steps ?? []);
    const { M, S } = this.trajectory;
    if (newRun || change !== "same") this.table.clear();
    // Any answer ends the wait for one; a pause is answered by the end of running only.
    const answered = renamed || before?.status !== payload.status || (this.waiting !== "pause" && (change !== "same" || before?.joint?.state !== payload.joint?.state));
    if (answered) this.waiting = null;
    if (newRun || change === "new") {
      this.stop();
      this.jump(payload.recorded || this.role === "b" ? 0 : S);
      const asked = this.#goToAddress(payload.run_id);
      // A recorded run plays once by itself, as soon as its map is there; whoever came by a link sees what it names.
      this.greeting = Boolean(payload.recorded) && this.role === "a" && !asked && !reducedMotion() && !["make", "hunt", "train"].includes(document.body.dataset.lrMode);
    } else if (takenUp) {
      this.told = null;
      this.#setPoint(this.point);
    } else if (change === "grown" && wasLast && !this.playing) this.glide(Math.max(S, this.head));
    if (this.selected !== null && this.selected >= M) this.selected = null;
    this.strip.setRun({ prefix: payload.prefix ?? [], continuation: payload.continuation ?? [], anchor: payload.anchor ?? null });
    if (!this.chosen && this.selected === null && S > 0 && M > 0) this.#chooseFirst();
    this.#loadMap(payload);
    this.#setScene();
    if (elsewhere) {
      this.looks = {};
      this.map.turnTo(null);
    } else if (newRun || change === "new") this.map.firstView();
    this.curves.setRun(payload.steps ?? [], payload.final ?? null, payload.config?.steps ?? 0);
    lockstep.changed(this);
    this.#greet();
    this.refresh();
    this.timings.update = performance.now() - start;
  }

  /** The address that the page was opened with may ask for a step and a position of this run: once. */
  #goToAddress(run) {
    if (this.role === "b" || opened.run !== run || Stage.arrived) return false;
    Stage.arrived = true;
    if (opened.step !== null) this.jump(opened.step);
    if (opened.position !== null && opened.position <= this.trajectory.M) {
      this.chosen = true;
      this.selected = opened.position - 1;
    }
    return opened.step !== null;
  }

  #dismissGreeting() {
    if (!this.greeting) return;
    this.greeting = false;
    this.wake(); // what waited for it may begin
  }

  #greet() {
    if (!this.greeting || !this.atlas) return;
    this.greeting = false;
    if (this.point === 0) this.play();
  }

  /** Until a reader picks one, the position that moved most is the one to look at. */
  #chooseFirst() {
    const moved = this.trajectory.steps.at(-1).moved ?? [];
    this.selected = moved.length ? moved.indexOf(Math.max(...moved)) : 0;
  }

  text(id) {
    // A scale that two runs share may name a token of the other one.
    return this.payload?.tokens?.[id] ?? this.tokens?.[id] ?? lockstep.textBeside(this, id);
  }

  #loadMap(payload) {
    const key = payload.map_key;
    const status = payload.map_status ?? { state: key ? "ready" : "absent" };
    if (!key || status.state !== "ready") {
      this.mapKey = null;
      if (this.atlas) this.#setAtlas(null);
      this.notice.show(status.state === "ready" ? { state: "absent" } : status);
      return;
    }
    if (this.mapKey === key) return;
    this.mapKey = key;
    this.#setAtlas(null);
    this.notice.show({ state: "loading" });
    loadAtlas(key).then(
      async (atlas) => {
        if (this.mapKey !== key) return;
        this.#setAtlas(atlas);
        this.notice.show({ state: "ready" });
        this.#greet();
        this.refresh();
        const tokens = await atlas.tokens;
        if (this.mapKey !== key) return; // another vocabulary by now
        this.tokens = tokens;
        this.map.setTokens(tokens);
      },
      (error) => {
        if (this.mapKey !== key) return;
        this.mapKey = null;
        this.notice.show({ state: "broken", message: error.message });
      },
    );
  }

  #setAtlas(atlas) {
    this.atlas = atlas;
    if (!atlas) this.tokens = null;
    this.trajectory.setCoords(atlas?.coords ?? null);
    this.background = undefined;
    this.#setScene();
    if (atlas) this.map.firstView();
  }

  #setScene() {
    const { trajectory, payload } = this;
    if (payload?.joint !== this.jointSource) {
      this.jointSource = payload?.joint;
      this.joint = jointScene(payload?.joint);
    }
    // A new step makes an older joint fit incomplete (it would end before the shown point does): offer to fit again.
    this.stale = Boolean(this.joint) && (this.joint.places.length <= trajectory.S || this.joint.places[0].length !== 2 * trajectory.M);
    if (this.placement === "joint" && (!this.joint || this.stale)) this.placement = "hull";
    const joint = this.placement === "joint" ? this.joint : null;
    const background = joint ?? this.atlas;
    if (background !== this.background) {
      this.background = background;
      this.map.setBackground(background?.coords ?? null, joint?.ids ?? null, this.tokens);
    }
    const layout = joint ? "joint" : "hull";
    const turned = layout !== this.layout;
    if (turned) this.looks[this.layout] = this.map.look;
    this.layout = layout;
    const { coords } = trajectory;
    this.map.setScene({
      M: trajectory.M,
      S: trajectory.S,
      prefix: trajectory.prefix,
      steps: trajectory.steps,
      places: joint ? joint.places : trajectory.places,
      placeOf: joint ? joint.placeOf : (id) => (coords && 2 * id + 1 < coords.length ? [coords[2 * id], coords[2 * id + 1]] : null),
      describe: (t, j) => this.describe(t, j),
      use: (id, j) => ({ starts: trajectory.prefix.filter((p) => p === id).length, ...trajectory.vertexUse(id, trajectory.pullStep(j)) }),
    });
    if (turned) this.map.turnTo(this.looks[layout]);
    if (!this.joint || this.stale) delete this.looks.joint; // the next fit lays all out anew
  }

  describe(t, j) {
    const { trajectory } = this;
    const k = trajectory.pullStep(j);
    const original = trajectory.prefix[t];
    const nearest = trajectory.nearest(t, j);
    return { original, nearest, changed: nearest !== original, weights: trajectory.weights(t, j), vertex: trajectory.vertex(t, j), pullIsPast: k < j, gamma: trajectory.steps[k]?.step_size, moved: trajectory.moved(t, j), coloured: this.colours.tell(this.table, t, j) };
  }

  // ---- what a reader can ask for -------------------------------------------------------------------------------------

  act(name, value) {
    const leader = lockstep.leader(this);
    if (leader) {
      leader.act(name, value);
      return;
    }
    this.#dismissGreeting();
    if (name === "toggle") this.toggle();
    else if (name === "speed") this.speed = value;
    else if (name === "restart") this.ask("restart");
    else if (name === "step" && this.head >= this.reach) {
      if (this.canCompute()) this.ask("step");
    } else {
      this.stop();
      if (name === "step") this.glide(this.head + 1);
      else if (name === "back") this.glide(this.head - 1);
      else if (name === "follow") this.jump(this.trajectory.S);
      else if (name === "last") this.jump(this.reach);
      else if (name === "first") this.jump(0);
      else if (name === "seek") this.jump(value);
    }
    this.refresh();
  }

  /** Python may be asked for a further step: a live run that stands still and did not break off. */
  canCompute() {
    return Boolean(this.payload?.live) && ["paused", "completed"].includes(this.payload.status);
  }

  toggle() {
    const { S } = this.trajectory;
    if (this.playing) this.stop();
    else if (this.payload.live && this.payload.status === "running" && this.point >= S) this.ask("pause");
    else if (this.head < this.reach) this.play();
    else if (this.canCompute() && S < (this.payload.config?.steps ?? 0)) this.ask("play");
    else if (this.reach > 0) {
      this.jump(0);
      this.play();
    }
    this.refresh();
  }

  ask(name) {
    // What is pressed beside a fit that was just asked for goes to Python as well, which says why not.
    if (this.waiting && this.waiting !== "joint") return;
    this.waiting = name;
    clearTimeout(this.waitTimer);
    this.waitTimer = setTimeout(() => {
      this.waiting = null;
      if (this.payload) this.refresh();
    }, name === "pause" ? 12 * WAIT_MS : WAIT_MS); // a pause waits for the step in progress
    this.trigger(name, { run_id: this.payload.run_id });
    this.refresh();
  }

  select(t) {
    this.chosen = true;
    this.selected = t;
    this.refresh();
  }

  /** Selects a position and goes to a point at once: one redraw for both. */
  goTo(t, j) {
    this.chosen = true;
    this.selected = t;
    this.seek(j);
  }

  /** A token that the oracle picked was chosen (id null: none): shows what it pulled, the first of it selected. */
  pickToken(id, positions) {
    if (positions.length && !positions.includes(this.selected)) this.select(positions[0]);
    else this.refresh();
  }

  colourBy(key) {
    this.colours.key = key;
    this.refresh();
  }

  pick(placement) {
    this.placement = placement;
    this.#setScene();
    lockstep.align();
    this.refresh();
  }

  seek(j) {
    const leader = lockstep.leader(this);
    if (leader) {
      leader.seek(j);
      this.refresh();
      return;
    }
    this.#dismissGreeting();
    this.stop();
    this.jump(j);
    this.refresh();
  }

  // ---- clock ---------------------------------------------------------------------------------------------------------

  /** The last point the clock can go to. */
  get reach() {
    return lockstep.reach(this);
  }

  #clamp(j) {
    return Math.max(0, Math.min(this.reach, Math.round(j) || 0));
  }

  jump(j) {
    this.tween = null;
    this.#setHead(this.#clamp(j));
    this.shown = this.head;
  }

  /** B of a comparison: stands where A's clock stands, as far as its own steps go. `draw`: in this very frame. */
  follow({ head, shown, playing, reach }, draw) {
    this.stop();
    this.tween = null;
    this.shown = shown;
    this.#setHead(head);
    const now = `${head}/${reach}/${playing}`;
    if (now !== this.followed) {
      this.followed = now;
      this.refresh();
    }
    this.#showMoment();
    if (draw) this.map.render();
    else this.wake();
  }

  #showMoment() {
    const shown = Math.min(this.shown, this.trajectory.S);
    if (this.map.shown !== shown) this.map.setShown(shown);
  }

  /** Moves to point j smoothly; far jumps and readers who want less motion get there at once. */
  glide(j, ms = EASE_MS / Math.max(1, this.speed)) {
    const to = this.#clamp(j);
    this.#setHead(to);
    if (reducedMotion() || Math.abs(to - this.shown) > 2.01) {
      this.jump(to);
      return;
    }
    this.tween = { from: this.shown, to, start: null, ms };
    this.wake();
  }

  play() {
    this.playing = true;
    this.nextAt = 0;
    this.wake();
  }

  stop() {
    this.playing = false;
  }

  #setHead(j) {
    this.head = j;
    this.#setPoint(Math.min(j, this.trajectory.S));
  }

  #setPoint(j) {
    if (this.point === j && this.told) return;
    this.point = j;
    clearTimeout(this.pointTimer);
    this.pointTimer = setTimeout(() => this.#tell(), 150);
  }

  /** Tells Python which point is on screen, unless it knows. */
  #tell() {
    clearTimeout(this.pointTimer);
    this.pointTimer = null;
    if (!this.payload) return;
    const told = `${this.payload.run_id}/${this.point}`;
    if (told === this.told) return;
    this.told = told;
    turn += 1;
    this.trigger("point", { run_id: this.payload.run_id, point: this.point, turn });
  }

  wake() {
    this.frame ??= requestAnimationFrame((now) => this.#tick(now));
  }

  #tick(now) {
    this.frame = null;
    if (!this.el.isConnected) return;
    if (this.playing && now >= this.nextAt) {
      if (this.head >= this.reach) {
        this.stop();
        this.refresh();
      } else {
        this.glide(this.head + 1, EASE_MS / this.speed);
        this.nextAt = now + STEP_MS / this.speed;
        this.refresh();
      }
    }
    let moving = this.playing;
    if (this.tween) {
      const { from, to, ms } = this.tween;
      this.tween.start ??= now;
      const u = Math.min(1, (now - this.tween.start) / ms);
      this.shown = from + (to - from) * ease(u);
      if (u >= 1) {
        this.shown = to;
        this.tween = null;
      } else moving = true;
      this.#showMoment();
      lockstep.drive(this, true);
    }
    if (this.map.tick(now)) moving = true;
    lockstep.viewed(this);
    this.map.render();
    if (this.atlas || this.notice.el.hidden === false) this.curves.wake(moving || this.greeting);
    if (moving) this.wake();
  }

  // ---- everything that shows the state ---------------------------------------------------------------------------------

  refresh() {
    if (!this.payload) return;
    const start = performance.now();
    const { payload, trajectory, point } = this;
    const { S, M } = trajectory;
    const planned = payload.config?.steps ?? S;
    this.#showHead(payload, S, planned);
    const running = payload.live && payload.status === "running";
    const atEnd = running ? point >= S : this.head >= this.reach;
    const canCompute = this.canCompute();
    this.player.show({
      point: this.head,
      S: this.reach,
      planned,
      speed: (lockstep.leader(this) ?? this).speed,
      playing: (lockstep.leader(this) ?? this).playing,
      computing: running && atEnd && !this.playing,
      canCompute,
      live: Boolean(payload.live),
      compared: lockstep.on,
      waiting: this.waiting !== null && this.waiting !== undefined && this.waiting !== "joint",
      computeNext: atEnd && canCompute && S < planned,
      arrived: running && !atEnd && S > 0 && !this.playing,
      stepLabel: atEnd && canCompute ? (S >= planned ? "Compute one step beyond the plan (→)" : "Compute the next step (→)") : "One step on (→)",
      playLabel: (lockstep.leader(this) ?? this).playing ? "Pause (Space)" : running && atEnd ? "Pause the computation (Space)" : !atEnd ? "Play (Space)" : canCompute && S < planned ? `Compute steps ${S + 1} to ${planned} (Space)` : "Play again from the start (Space)",
      note: this.#note(running, atEnd, canCompute, S, planned),
    });
    this.strip.show(trajectory, point);
    this.strip.select(this.selected);
    this.readout.show(trajectory, this.selected, point);
    this.curves.show(point);
    const moved = point > 0 ? trajectory.steps[point - 1].moved : null;
    this.place.show({
      placement: this.placement,
      joint: this.stale ? null : payload.joint,
      live: Boolean(payload.live),
      running,
      S,
      point,
      waiting: this.waiting === "joint",
      trustworthiness: this.placement === "joint" ? payload.joint?.trustworthiness : this.atlas?.meta?.trustworthiness,
      kept: this.placement === "joint" ? undefined : this.atlas?.meta?.neighbours_kept,
      neighbours: this.atlas?.meta?.quality_neighbours,
      moved: moved?.length ? { mean: moved.reduce((a, b) => a + b, 0) / moved.length, max: Math.max(...moved) } : null,
      distance: this.#distance(moved, point),
    });
    this.#showLinked(point);
    if (this.map.selected !== this.selected) this.map.select(this.selected);
    if (!this.tween) this.#showMoment();
    this.map.refreshTip();
    this.#describeMap(point, M);
    lockstep.shown(this);
    this.timings.scrub = performance.now() - start;
    this.wake();
  }

  /** Does 2-D distance mislead at this point? Measured as drawn: one axis of the map may be stretched. */
  #distance(moved, point) {
    const places = this.map.scene?.places ?? [];
    if (!moved?.length || places.length <= point) return null;
    const { sx, sy } = this.map.pixels();
    return inWords(compare(travelled(places, point, sx / sy || 1), moved));
  }

  #showLinked(point) {
    const { payload, trajectory, table } = this;
    this.views.classList.toggle("lr-s-linked-long", trajectory.M > 96);
    this.picks.show(trajectory, point, table.version, payload.norms, payload.median_norm);
    this.heat.show(table, this.selected, point, this.picks.chosen);
    const rings = this.picks.rings();
    this.strip.mark(rings);
    this.map.setPaint(this.colours.paint(table, point, rings));
  }

  #note(running, atEnd, canCompute, S, planned) {
    if (this.head > S && !this.waiting) return this.role === "a" ? `Run A ends at point ${S}; run B goes on.` : `Run B ends at point ${S}; run A goes on.`;
    if (this.waiting === "pause") return "Pausing after the step in progress…";
    if (this.waiting === "step" || this.waiting === "play") return "Asking for the next step…";
    if (this.waiting === "restart") return "Starting over…";
    if (running && atEnd) return S < planned ? `Computing step ${S + 1}…` : "Computing…";
    if (S === 0) return canCompute ? "Press one step, or play." : "";
    if (canCompute && atEnd && S >= planned) return "All planned steps are computed; one step on goes beyond them.";
    if (S < planned && canCompute && atEnd) return `${planned - S} planned step${planned - S > 1 ? "s" : ""} to compute`;
    return "";
  }

  #showHead(payload, S, planned) {
    const [word, kind] = STATUS[payload.status] ?? [payload.status || "Starting", "calm"];
    const name = payload.recorded ? `Recorded run · ${word.toLowerCase()}` : word;
    const where = payload.status === "running" ? (S < planned ? `step ${S + 1} of ${planned}` : `after step ${S}`) : S === 0 ? `no step computed yet of ${planned}` : S > planned ? `${S} steps, ${S - planned} beyond the plan` : S === planned ? `all ${S} steps` : `after ${S} of ${planned} planned steps`;
    setText(this.pillSign, SIGN[kind]);
    setText(this.pillText, name);
    setAttr(this.pill, "data-kind", kind);
    setText(this.counter, where);
    const m = payload.model;
    setText(this.facts, m ? [m.id, m.dtype, m.device].filter(Boolean).join(" · ") : "");
    setAttr(this.facts, "title", m?.vocab_size ? `${m.vocab_size.toLocaleString("en")} tokens, ${m.hidden_size} dimensions` : null);
    this.message.hidden = !payload.message;
    setText(this.message, payload.message ?? "");
    setAttr(this.message, "data-kind", kind);
  }

  #describeMap(point, M) {
    if (!M) return;
    let sentence = `Point ${point} of ${this.trajectory.S}, ${M} positions.`;
    if (this.selected !== null) {
      const d = this.describe(this.selected, point);
      sentence += ` Selected position ${this.selected + 1}: began as ${visible(this.text(d.original))}, nearest now ${visible(this.text(d.nearest))}, ${percent(d.weights.find((w) => w.original).weight)} original, moved ${num(d.moved)}.`;
    }
    this.map.describe(sentence);
  }

  free() {
    lockstep.leave(this);
    clearTimeout(this.pointTimer);
    document.removeEventListener("click", this.tellFirst, true);
    clearTimeout(this.waitTimer);
    cancelAnimationFrame(this.frame);
    this.unwatchTheme();
    this.map.free();
    this.curves.free();
    this.heat.free();
  }
}
