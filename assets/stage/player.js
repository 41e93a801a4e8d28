// The player: buttons, scrubber with one tick per step, speed, keyboard. It shows a state and reports what was asked for.
// What it does not do: hold the clock or talk to Python. The stage does both.

import { h, icon, setAttr, setText } from "./dom.js";

const SPEEDS = [0.5, 1, 2, 4];

export class Player {
  /** `act(name, value)`: "first", "back", "toggle", "step", "last", "seek" (point), "speed" (factor), "restart", "follow". */
  constructor(act) {
    const button = (name, shape, label, cls = "") =>
      h("button", { type: "button", class: `lr-s-play-button ${cls}`.trim(), title: label, "aria-label": label, on: { click: ({ currentTarget }) => currentTarget.getAttribute("aria-disabled") || act(name) } }, icon(shape));
    this.first = button("first", "first", "To the start (Home)");
    this.back = button("back", "back", "One step back (←)");
    this.toggle = button("toggle", "play", "Play (Space)", "lr-s-play-main");
    this.icons = { play: this.toggle.firstChild, pause: icon("pause") };
    this.step = button("step", "step", "One step on (→)");
    this.last = button("last", "last", "To the last computed point (End)");
    this.range = h("input", { type: "range", min: "0", max: "1", step: "1", value: "0", "aria-label": "Point of the trajectory", on: { input: () => act("seek", Number(this.range.value)) } });
    this.ticks = h("div", { class: "lr-s-ticks", "aria-hidden": "true" });
    this.count = h("output", { class: "lr-s-count", "aria-live": "off" });
    this.speed = h(
      "select",
      { class: "lr-s-speed", "aria-label": "Speed of playback", title: "Speed of playback", on: { change: () => act("speed", Number(this.speed.value)) } },
      ...SPEEDS.map((s) => h("option", { value: s, text: `${s}×`, selected: s === 1 })),
    );
    this.restart = h("button", { type: "button", class: "lr-s-text-button", title: "Forget the steps and begin again at the unrevised prefix", on: { click: () => this.restart.getAttribute("aria-disabled") || act("restart") } }, icon("restart"), h("span", { text: "Start over" }));
    this.chip = h("button", { type: "button", class: "lr-s-follow", hidden: true, on: { click: () => act("follow") } });
    this.note = h("span", { class: "lr-s-play-note" });
    this.el = h(
      "div",
      { class: "lr-s-player", "data-tour": "player", role: "group", "aria-label": "Player" },
      h("div", { class: "lr-s-play-buttons" }, this.first, this.back, this.toggle, this.step, this.last),
      h("div", { class: "lr-s-scrub" }, this.ticks, this.range),
      h("div", { class: "lr-s-play-notes" }, this.count, h("span", { class: "lr-s-play-said" }, this.chip, this.note), h("span", { class: "lr-s-play-extra" }, this.speed, this.restart)),
    );
  }

  /** {point, S, planned, speed, playing, computing, canCompute, computeNext, live, compared, waiting, arrived, stepLabel, playLabel, note} */
  show(s) {
    const length = Math.max(1, s.planned, s.S);
    setAttr(this.range, "max", length);
    if (Number(this.range.value) !== s.point) this.range.value = String(s.point);
    setAttr(this.range, "aria-valuetext", s.point === 0 ? "Point 0, the unrevised prefix" : `Point ${s.point}, after ${s.point} of ${length} steps`);
    this.range.disabled = s.S === 0;
    this.range.style.setProperty("--lr-done", String(s.S / length));
    this.range.style.setProperty("--lr-here", String(s.point / length));
    this.#showTicks(length, s.S);
    // The tour may set a speed of its own.
    if (SPEEDS.includes(s.speed) && Number(this.speed.value) !== s.speed) this.speed.value = String(s.speed);
    // Not `disabled`, which would take the keyboard's focus from the button just pressed.
    const off = (button, is) => setAttr(button, "aria-disabled", is ? "true" : null);
    off(this.first, s.point === 0);
    off(this.back, s.point === 0);
    off(this.last, s.point >= s.S);
    off(this.step, s.point >= s.S && (!s.canCompute || s.waiting));
    const going = s.playing || s.computing;
    off(this.toggle, !going && (s.waiting || (s.S === 0 && !s.canCompute)));
    const shape = going ? this.icons.pause : this.icons.play;
    if (this.toggle.firstChild !== shape) this.toggle.replaceChildren(shape);
    for (const [el, label] of [[this.toggle, s.playLabel], [this.step, s.stepLabel]]) {
      setAttr(el, "aria-label", label);
      setAttr(el, "title", label);
    }
    setAttr(this.step, "data-compute", s.computeNext);
    setAttr(this.el, "aria-busy", s.waiting ? "true" : null);
    setText(this.count, `${s.point} / ${length}`);
    setAttr(this.count, "title", s.S < length ? `Point ${s.point}; ${s.S} of ${length} planned steps computed` : `Point ${s.point} of ${s.S}`);
    this.restart.hidden = !s.live;
    off(this.restart, s.waiting || s.S === 0);
    this.chip.hidden = !s.arrived;
    if (s.arrived) setText(this.chip, `Step ${s.S} arrived — jump to it`);
    setText(this.note, s.note);
    // Whether something may be said at any point: where it has a line of its own, that line then stands empty until it is.
    setAttr(this.el, "data-says", s.live || s.compared || Boolean(s.note));
  }

  #showTicks(length, done) {
    const key = `${length}/${done}`;
    if (this.tickKey === key) return;
    this.tickKey = key;
    // Above 60 steps single ticks would be a grey bar: show every so many.
    const every = Math.ceil(length / 60);
    const marks = [];
    for (let i = 0; i <= length; i += every) {
      const mark = h("span", { class: i <= done ? "lr-s-tick lr-s-tick-done" : "lr-s-tick" });
      mark.style.setProperty("--lr-at", String(i / length));
      marks.push(mark);
    }
    this.ticks.replaceChildren(...marks);
  }
}

/** Keyboard of the whole stage: what a key asks for, or null when the key belongs to the control that has the focus. */
export function keyToAct(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return null;
  const { target } = event;
  const typing = target.matches("input:not([type=range]), textarea, select, [contenteditable=true]");
  if (typing) return null;
  if (event.key === " ") return target.matches("button, summary, a") ? null : "toggle";
  if (event.shiftKey || target.matches("input[type=range]")) return null;
  return { ArrowLeft: "back", ArrowRight: "step", Home: "first", End: "last" }[event.key] ?? null;
}
