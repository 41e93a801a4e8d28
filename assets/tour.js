// The guided tour: a card beside what it speaks of, a spotlight on it, the stage moved to the right point. It starts on the
// document's event "lr-tour" ({stop} 1…11, else where it was left) and by ?tour=1 in the address, and tells on "lr-tour-state"
// ({stop: number | null, total, open}) where it stands. Texts: tour-stops.js. It is no trap: the page stays usable beside it.

import { h, reducedMotion, setAttr, setText, setToken } from "./stage/dom.js";
import { STOPS, readRun } from "./tour-stops.js";

const PLACE = "lr-tour-place"; // localStorage: the stop at which the tour was left, 1…11
const NARROW = 640; // below this width the card is a sheet at the bottom
const EDGE = 12; // least distance of card and spotlight from the window's edge
const GAP = 12; // between the card and what it points to
const PAD = 6; // the spotlight's margin around its target
const LOOK_MS = 350; // how often an open tour looks whether run or layout have changed
const SCROLL_MS = 1200; // a smooth scroll that has not arrived by then never will
const PLAY_MS = 4500; // playing a run to its end takes about this long at most
const STAGE_STEP_MS = 900; // the stage's own pace at 1×

// ---- small parts ----

const FORMATS = [["*", "var"], ["_", "sub"], ["^", "sup"]];

/** "*E*_t_" as a var with a sub after it; nothing else is markup. */
function formula(source) {
  const parts = source.replace(/(\d) %/g, "$1\u00a0%").split(/(\*[^*]+\*|_[^_\s]+_|\^[^^\s]+\^)/).filter(Boolean);
  return parts.map((part) => {
    const format = part.length > 2 && FORMATS.find(([sign]) => part.startsWith(sign) && part.endsWith(sign));
    return format ? h(format[1], { text: part.slice(1, -1) }) : document.createTextNode(part);
  });
}

/** A sentence of strings and {token} parts. */
function sentence(parts) {
  return parts.flatMap((part) => {
    if (typeof part === "string") return formula(part);
    const el = h("bdi", { class: "lr-tour-token" });
    setToken(el, part.token, 16);
    return ["“", el, "”"];
  });
}

/** The first element of the first selector that has a place on the screen. */
function find(selectors = []) {
  for (const selector of selectors) for (const el of document.querySelectorAll(selector)) if (el.getClientRects().length && el.offsetWidth > 0) return el;
  return null;
}

const box = (left, top, width, height) => ({ left, top, right: left + width, bottom: top + height, width, height });
const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const clamp = (x, low, high) => Math.max(low, Math.min(Math.max(low, high), x));

function around(el, dy = 0) {
  const r = el.getBoundingClientRect();
  return box(r.left - PAD, r.top - PAD + dy, r.width + 2 * PAD, r.height + 2 * PAD);
}

function cut(a, b) {
  const [left, top] = [Math.max(a.left, b.left), Math.max(a.top, b.top)];
  const [right, bottom] = [Math.min(a.right, b.right), Math.min(a.bottom, b.bottom)];
  return right - left > 4 && bottom - top > 4 ? box(left, top, right - left, bottom - top) : null;
}

// ---- the screen it speaks of ----

/** The stage's few acts that a stop may ask for; all are harmless without a stage. */
function stageActs() {
  const lr = document.querySelector("[data-view=stage]")?.parentElement?.lrStage;
  const stage = lr?.stage;
  return {
    payload: stage?.payload ?? null,
    trajectory: stage?.trajectory ?? null,
    setPoint(j) {
      if (!stage?.payload) return;
      stage.greeting = false; // a recorded run plays by itself once its map is there; not under a tour
      lr.setPoint(j);
    },
    select: (t) => stage?.payload && lr.select(t),
    glide(j) {
      if (!stage?.payload) return;
      stage.glide(j);
      stage.refresh();
    },
    /** Plays at a pace that ends within some seconds, however many steps there are; returns how to get the old pace back. */
    playToEnd() {
      if (!stage?.payload) return null;
      const speed = stage.speed;
      const pace = Math.max(speed, ((stage.trajectory.S - stage.point) * STAGE_STEP_MS) / PLAY_MS);
      stage.speed = pace;
      stage.play();
      return () => {
        stage.stop();
        if (stage.speed === pace) stage.speed = speed; // else the reader has chosen another meanwhile
        stage.refresh();
      };
    },
  };
}

function currentRun() {
  const { payload, trajectory } = stageActs();
  const story = document.querySelector("#lr-watch [data-view=watch]")?.parentElement?.lrWatch?.story;
  return readRun(payload, trajectory, story);
}

function savedPlace() {
  try {
    const place = Number(localStorage.getItem(PLACE));
    return place >= 1 && place <= STOPS.length ? Math.round(place) : null;
  } catch {
    return null; // storage may be forbidden
  }
}

function savePlace(place) {
  try {
    if (place === null) localStorage.removeItem(PLACE);
    else localStorage.setItem(PLACE, String(place));
  } catch {
    // Without storage the tour begins anew each time.
  }
}

// ---- the tour ----

class Tour {
  constructor() {
    this.index = -1;
    this.onScroll = () => this.#later();
    this.onResize = () => this.#resized();
    this.onHand = () => {
      this.handled = true; // whoever scrolls by hand is not scrolled back
      if (this.scrolling) this.#settle();
    };
    this.onKey = (event) => this.#documentKey(event);
  }

  get isOpen() {
    return this.index >= 0;
  }

  #build() {
    const button = (cls, label, act) => h("button", { type: "button", class: `lr-button ${cls}`, on: { click: act } }, ...(Array.isArray(label) ? label : [label]));
    const words = (arrow, text, before) => {
      const sign = h("span", { "aria-hidden": "true", text: arrow });
      const word = h("span", { class: "lr-tour-word", text });
      return before ? [sign, word] : [word, sign];
    };
    this.count = h("p", { class: "lr-tour-count" });
    this.heading = h("h2", { class: "lr-tour-heading", id: "lr-tour-heading" });
    this.say = h("p");
    this.here = h("p", { class: "lr-tour-here" });
    this.text = h("div", { class: "lr-tour-text", id: "lr-tour-text" }, this.say, this.here);
    // In a sheet, which covers what it speaks of, the formula waits behind this button; asked for once, it stays.
    this.asked = h("button", { type: "button", class: "lr-button lr-link lr-tour-ask", "aria-expanded": "false", "aria-controls": "lr-tour-formula", on: { click: () => this.#askFormula() } }, "Formula");
    this.equation = h("p", { class: "lr-tour-equation" });
    this.symbols = h("ul", { class: "lr-tour-symbols", "aria-label": "The symbols in words" });
    this.body = h("div", { class: "lr-tour-body" }, this.text, h("div", { class: "lr-tour-formula", id: "lr-tour-formula" }, this.equation, this.symbols));
    this.back = button("lr-tour-back", words("←", "Back", true), () => this.go(this.index - 1));
    this.next = button("lr-primary lr-tour-next", words("→", "Next", false), () => (this.index < STOPS.length - 1 ? this.go(this.index + 1) : this.leave(true)));
    this.nextWord = this.next.querySelector(".lr-tour-word");
    this.dots = STOPS.map((stop, i) => h("button", { type: "button", class: "lr-tour-dot", title: stop.heading, "aria-label": `Stop ${i + 1}: ${stop.heading}`, on: { click: () => this.go(i) } }));
    this.card = h(
      "section",
      { class: "lr-tour-card", role: "dialog", "aria-modal": "false", "aria-labelledby": "lr-tour-heading", "aria-describedby": "lr-tour-text", tabindex: "-1", on: { keydown: (event) => this.#cardKey(event) } },
      h("div", { class: "lr-tour-top" }, this.count, this.asked, button("lr-link lr-tour-leave", "Leave the tour", () => this.leave())),
      h("div", { class: "lr-tour-live", "aria-live": "polite" }, this.heading, this.body),
      h("div", { class: "lr-tour-foot" }, this.back, h("div", { class: "lr-tour-dots", role: "group", "aria-label": "Stops" }, ...this.dots), this.next),
    );
    this.dim = h("div", { class: "lr-tour-dim", "aria-hidden": "true" });
    this.ring = h("div", { class: "lr-tour-ring", "aria-hidden": "true" });
    this.el = h("div", { class: "lr-root lr-tour" }, this.dim, this.ring, this.card);
    // Room below the page's end, so that its last part can be scrolled above the card.
    this.room = h("div", { class: "lr-tour-room", "aria-hidden": "true" });
  }

  open(place = savedPlace() ?? 1) {
    if (!this.el) this.#build();
    if (!this.isOpen) {
      this.before = document.activeElement;
      document.body.append(this.room, this.el);
      addEventListener("scroll", this.onScroll, { passive: true, capture: true });
      addEventListener("resize", this.onResize);
      for (const type of ["wheel", "touchmove"]) addEventListener(type, this.onHand, { passive: true });
      document.addEventListener("keydown", this.onKey);
      this.timer = setInterval(() => this.#look(), LOOK_MS);
    }
    this.go(clamp(Math.round(place) || 1, 1, STOPS.length) - 1);
    this.card.focus({ preventScroll: true });
  }

  /** Takes the card away; the place is kept, unless the tour was finished. Focus goes back to where it was. */
  leave(finished = false) {
    if (!this.isOpen) return;
    this.#endStop();
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
    this.frame = null;
    removeEventListener("scroll", this.onScroll, { capture: true });
    removeEventListener("resize", this.onResize);
    for (const type of ["wheel", "touchmove"]) removeEventListener(type, this.onHand);
    document.removeEventListener("keydown", this.onKey);
    const held = this.el.contains(document.activeElement);
    savePlace(finished ? null : this.index + 1);
    this.index = -1;
    this.el.remove();
    this.room.remove();
    if (held && this.before?.isConnected) this.before.focus({ preventScroll: true });
    this.tell();
  }

  /** Where the tour stands or was left: {stop: 1… or null, total, open}. */
  get state() {
    return { stop: this.isOpen ? this.index + 1 : savedPlace(), total: STOPS.length, open: this.isOpen };
  }

  tell() {
    document.dispatchEvent(new CustomEvent("lr-tour-state", { detail: this.state }));
  }

  /** Shows stop `index` (0…10): its words, then the stage's point and selection, then the scroll; its play when that is done. */
  go(index) {
    if (index < 0 || index >= STOPS.length) return;
    this.#endStop();
    const onDot = this.dots.includes(document.activeElement);
    this.index = index;
    this.stop = STOPS[index];
    this.run = currentRun();
    savePlace(index + 1);
    if (this.run) this.stop.enter(stageActs(), this.run);
    this.#fill();
    if (onDot) this.dots[index].focus({ preventScroll: true });
    this.body.scrollTop = 0;
    this.#pointTo();
    this.tell();
  }

  #endStop() {
    clearTimeout(this.arrival);
    this.scrolling = false;
    this.undo?.();
    this.undo = null;
  }

  #fill() {
    const { stop, run, index } = this;
    setText(this.count, `${index + 1} of ${STOPS.length}`);
    setText(this.heading, stop.heading);
    this.say.replaceChildren(...sentence(stop.say(run)));
    const here = run && stop.here(run);
    this.here.hidden = !here;
    this.here.replaceChildren(...(here ? [h("strong", { text: "In this run: " }), ...sentence(here)] : []));
    this.equation.replaceChildren(...formula(stop.formula(run)));
    this.symbols.replaceChildren(...stop.symbols(run).map(([symbol, meaning]) => h("li", {}, h("b", {}, ...formula(symbol)), ": ", ...formula(meaning))));
    // Kept reachable at the first stop: a disabled button would drop the focus.
    setAttr(this.back, "aria-disabled", index === 0 ? "true" : null);
    setText(this.nextWord, index === STOPS.length - 1 ? "Done" : "Next");
    this.dots.forEach((dot, i) => {
      setAttr(dot, "aria-current", i === index ? "step" : null);
      setAttr(dot, "tabindex", i === index ? "0" : "-1");
    });
    this.filled = this.#signature();
  }

  #askFormula() {
    const open = this.asked.getAttribute("aria-expanded") !== "true";
    setAttr(this.asked, "aria-expanded", String(open));
    setAttr(this.card, "data-formula", open ? "open" : null);
    this.#pointTo(true);
  }

  #signature() {
    const { run } = this;
    return JSON.stringify(run && [run.id, run.S, run.last, run.story?.n, run.outcome, run.decoy]);
  }

  /** Some things change without an event: the run on show, what has been sampled, the page's layout. */
  #look() {
    const before = this.run?.id;
    this.run = currentRun();
    if (this.run?.id !== before) this.go(this.index);
    else {
      if (this.#signature() !== this.filled) this.#fill();
      const came = this.#aim();
      // A page that still builds itself moves what has just been pointed to: follow for a while, then leave the scroll alone.
      const fresh = performance.now() - this.since < 2500 && !this.handled;
      const shifted = came && this.targetWas && ["left", "top", "width", "height"].some((side) => Math.abs(around(came, scrollY)[side] - this.targetWas[side]) > 2);
      if (came !== this.target || (fresh && !this.scrolling && shifted)) this.#pointTo(came === this.target);
      else this.#later();
    }
  }

  // ---- where things stand ----

  /**
   * The card's form and place for a target that stands at `r` (window coordinates): {form, side, left, top, card, free} or null
   * for a side on which it does not fit. `free` is what the card leaves to the spotlight.
   */
  #beside(side, r, size, view) {
    const { width, height } = size;
    const at = {
      right: [r.right + GAP, r.top],
      left: [r.left - GAP - width, r.top],
      below: [r.left + (r.width - width) / 2, r.bottom + GAP],
      above: [r.left + (r.width - width) / 2, r.top - GAP - height],
    }[side];
    const flank = side === "right" || side === "left";
    const left = flank ? at[0] : clamp(at[0], EDGE, view.width - width - EDGE);
    const top = flank ? clamp(at[1], EDGE, view.height - height - EDGE) : at[1];
    const card = box(left, top, width, height);
    const inside = left >= EDGE - 1 && card.right <= view.width - EDGE + 1 && top >= EDGE - 1 && card.bottom <= view.height - EDGE + 1;
    return inside && !meet(card, r) ? { form: "card", side, card, free: box(0, 0, view.width, view.height) } : null;
  }

  #measure(form) {
    setAttr(this.card, "data-form", form);
    return { width: this.card.offsetWidth, height: this.card.offsetHeight };
  }

  #view() {
    return box(0, 0, document.documentElement.clientWidth, innerHeight);
  }

  /** Docked at the bottom over the whole width; the target has what is above. */
  #docked(form, view) {
    const { width, height } = this.#measure(form);
    const top = view.height - height - (form === "sheet" ? 0 : EDGE);
    return { form, side: "dock", card: box((view.width - width) / 2, top, width, height), free: box(0, 0, view.width, top - GAP / 2) };
  }

  /** Chooses card and scroll together for the stop's target: {…as above, scroll}. */
  #plan() {
    const view = this.#view();
    const { target } = this;
    if (!target) {
      if (view.width < NARROW) return this.#docked("sheet", view);
      const { width, height } = this.#measure("card");
      return { form: "card", side: "centre", card: box((view.width - width) / 2, Math.max(EDGE, (view.height - height) / 2), width, height), free: view };
    }
    const r = around(target);
    const end = document.documentElement.scrollHeight - view.height;
    // The target's top is brought to `y`, as far as the page can be scrolled.
    const scrolled = (y) => clamp(r.top + scrollY - y, 0, end);
    const moved = (scroll) => box(r.left, r.top + scrollY - scroll, r.width, r.height);
    const middle = (room, size) => (size + 2 * EDGE <= room ? (room - size) / 2 : EDGE);
    if (view.width >= NARROW) {
      const size = this.#measure("card");
      const together = r.height + GAP + size.height;
      const tops = { right: middle(view.height, r.height), left: middle(view.height, r.height), below: middle(view.height, together), above: middle(view.height, together) + size.height + GAP };
      const plans = [];
      for (const side of ["right", "left", "below", "above"]) {
        const scroll = scrolled(tops[side]);
        const at = moved(scroll);
        const plan = this.#beside(side, at, size, view);
        // Above or below only where target and card go into the window together; docked, the card is lower and leaves more room.
        const whole = at.top >= 0 && at.bottom <= view.height;
        if (plan && (whole || side === "right" || side === "left")) plans.push({ ...plan, scroll });
      }
      // Of the sides that fit, the one that leaves most to be seen of what else the stop speaks of; else the first.
      const seen = (plan) => this.also.map((el) => cut(around(el, scrollY - plan.scroll), view)).reduce((sum, part) => sum + (part && !meet(part, plan.card) ? part.width * part.height : 0), 0);
      if (plans.length) return plans.reduce((best, plan) => (seen(plan) > seen(best) ? plan : best));
    }
    const plan = this.#docked(view.width < NARROW ? "sheet" : "bar", view);
    return { ...plan, scroll: scrolled(middle(plan.free.height, r.height)) };
  }

  /** After the reader's own scroll: the side that was chosen while it fits, else another, else docked. */
  #replan() {
    const view = this.#view();
    if (!this.target) return this.#plan();
    if (view.width < NARROW) return this.#docked("sheet", view);
    const r = around(this.target);
    if (r.bottom < 0 || r.top > view.height) return { ...this.plan, free: view };
    if (this.plan.side !== "dock") {
      const size = this.#measure("card");
      for (const side of new Set([this.plan.side, "right", "left", "below", "above"])) {
        const plan = this.#beside(side, r, size, view);
        if (plan) return plan;
      }
    }
    return this.#docked("bar", view);
  }

  /** What the stop points to; in a narrow window the part of it that shows best what is said. */
  #aim() {
    const narrow = document.documentElement.clientWidth < NARROW ? (this.stop.narrow ?? []) : [];
    return find([...narrow, ...this.stop.targets]);
  }

  /** Finds the stop's target, places the card and scrolls; what the stop plays starts when the target is there. */
  #pointTo(again = false) {
    this.target = this.#aim();
    this.also = (this.stop.also ?? []).map((selector) => find([selector])).filter((el, i, all) => el && all.indexOf(el) === i);
    if (!again) {
      this.since = performance.now();
      this.handled = this.arrived = false;
    }
    this.plan = this.#plan();
    // Where it stands in the page: what shifts it after this, even during the scroll, is seen by #look.
    this.targetWas = this.target && around(this.target, scrollY);
    setAttr(this.el, "data-settled", null);
    this.#draw();
    const { scroll } = this.plan;
    this.scrolling = true;
    clearTimeout(this.arrival);
    this.goal = scroll;
    if (scroll === undefined || Math.abs(scroll - scrollY) < 1) this.arrival = setTimeout(() => this.#settle(), 120);
    else {
      const smooth = !reducedMotion() && !again;
      scrollTo({ top: scroll, behavior: smooth ? "smooth" : "instant" });
      this.arrival = setTimeout(() => this.#settle(), smooth ? SCROLL_MS : 120);
    }
  }

  #settle() {
    if (!this.isOpen) return;
    clearTimeout(this.arrival);
    this.scrolling = false;
    this.plan = this.#replan();
    this.#draw();
    setAttr(this.el, "data-settled", String(this.index + 1));
    if (!this.arrived && this.run) {
      this.arrived = true;
      this.undo = this.stop.arrive?.(stageActs(), this.run, reducedMotion()) ?? null;
    }
  }

  #resized() {
    // The bars of a phone's browser come and go with the scroll: only another width asks for another scroll.
    const { clientWidth } = document.documentElement;
    if (clientWidth !== this.width) {
      this.width = clientWidth;
      this.#pointTo(true);
    } else this.#later();
  }

  #later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.isOpen) return;
      if (this.scrolling) {
        if (this.goal !== undefined && Math.abs(this.goal - scrollY) < 1) this.#settle();
      } else this.plan = this.#replan();
      this.#draw();
    });
  }

  #draw() {
    const { form, card, free, side } = this.plan;
    const view = this.#view();
    this.width = view.width;
    setAttr(this.card, "data-form", form);
    setAttr(this.card, "data-side", side);
    this.card.style.translate = `${Math.round(card.left)}px ${Math.round(card.top)}px`;
    // Text that a small window can't show at once is scrolled inside the card; then the keyboard must get in.
    setAttr(this.body, "tabindex", this.body.scrollHeight > this.body.clientHeight + 1 ? "0" : null);
    const lit = this.target ? cut(around(this.target), free) : null;
    const others = this.also.map((el) => cut(around(el), free)).filter((r) => r && !meet(r, card));
    const holes = [lit, ...others].filter(Boolean);
    const path = holes.map((r) => hole(r)).join("");
    const clip = `path(evenodd, "M0 0H${view.width}V${innerHeight}H0Z${path}")`;
    if (clip !== this.clip) this.dim.style.clipPath = this.clip = clip;
    this.ring.hidden = !lit;
    if (lit) Object.assign(this.ring.style, { left: `${lit.left}px`, top: `${lit.top}px`, width: `${lit.width}px`, height: `${lit.height}px` });
  }

  // ---- keys ----

  #cardKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const to = { ArrowLeft: this.index - 1, ArrowRight: this.index + 1, Home: 0, End: STOPS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.go(to);
  }

  #documentKey(event) {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    // Escape belongs to whatever else it closes first.
    if (event.target.closest?.("input:not([type=range]), textarea, select, details[open], .lr-s-hint, [role=combobox], [role=listbox]") && !this.el.contains(event.target)) return;
    event.preventDefault();
    this.leave();
  }
}

/** A rounded rectangle as a path, whole pixels. */
function hole({ left, top, right, bottom }) {
  const [l, t, r, b] = [left, top, right, bottom].map(Math.round);
  const q = Math.min(10, (r - l) / 2, (b - t) / 2);
  return `M${l + q} ${t}H${r - q}A${q} ${q} 0 0 1 ${r} ${t + q}V${b - q}A${q} ${q} 0 0 1 ${r - q} ${b}H${l + q}A${q} ${q} 0 0 1 ${l} ${b - q}V${t + q}A${q} ${q} 0 0 1 ${l + q} ${t}Z`;
}

/** Once per page: listens for the tour to be asked for. */
function install() {
  if (document.lrTour) return;
  if (!document.querySelector('link[href*="tour.css"]')) document.head.append(h("link", { rel: "stylesheet", href: new URL("tour.css", import.meta.url).href }));
  const tour = (document.lrTour = new Tour());
  document.addEventListener("lr-tour", (event) => tour.open(event.detail?.stop));
  const asked = new URLSearchParams(location.search).get("tour");
  if (asked) tour.open(Number(asked) || 1);
  else tour.tell();
}

install();
