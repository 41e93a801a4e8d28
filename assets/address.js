// The page's address: run, step and position, kept in step with what is on the screen, so that a copied link shows the same elsewhere.
// Listens to the document event "lr-point" {run_id, point, position, role}; role "b" (the second run of a comparison) is not in the address.
// What it does not do: open what an address names; Python does that from the same parameters, checked again there.

import { el } from "./tokens.js";

const RUN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const WHOLE = /^\d{1,6}$/;
const REST_MS = 250; // browsers refuse more than about a hundred changes of the address in half a minute
const FEEDBACK_MS = 2400;

/** What an address asks for: {run, step, position}, each null where it is missing or malformed. Step from 0, position from 1. */
export function wanted(search = location.search) {
  const asked = new URLSearchParams(search);
  const run = asked.get("run") ?? "";
  const whole = (name, least) => {
    const text = asked.get(name) ?? "";
    return WHOLE.test(text) && Number(text) >= least ? Number(text) : null;
  };
  return { run: RUN.test(run) ? run : null, step: whole("step", 0), position: whole("position", 1) };
}

/** What the page was opened with: later the address follows the screen. */
export const opened = wanted();

/** `href` with run, step and position set (null takes a part away); every other parameter and the hash stay. */
export function withPlace(href, { run, step, position }) {
  const url = new URL(href);
  const whole = (value, least) => (Number.isInteger(value) && value >= least && value < 1e6 ? String(value) : null);
  const parts = { run: RUN.test(run ?? "") ? run : null };
  parts.step = parts.run && whole(step, 0);
  parts.position = parts.run && whole(position, 1);
  for (const [name, value] of Object.entries(parts)) {
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  return url.href;
}

let place = null;
let timer = null;

function write() {
  clearTimeout(timer);
  timer = null;
  if (!place) return;
  const href = withPlace(location.href, place);
  if (href === location.href) return;
  try {
    history.replaceState(history.state, "", href);
  } catch {
    // Refused (too often, or an embedded page without a right to it): the copied link is made from `place` all the same.
  }
}

function follow({ detail }) {
  if (!detail?.run_id || detail.role === "b") return;
  place = { run: String(detail.run_id), step: detail.point, position: detail.position ?? null };
  timer ??= setTimeout(write, REST_MS);
}

/** Begin to keep the address in step; calling it again changes nothing. */
export function keepAddress() {
  document.addEventListener("lr-point", follow);
}

/** The link to what is on the screen now. */
export function currentLink() {
  write();
  return place ? withPlace(location.href, place) : location.href;
}

const shown = new WeakMap(); // button → what shows its feedback

function feedback(button) {
  if (shown.has(button)) return shown.get(button);
  const label = button.textContent;
  const said = el("span", { class: "lr-sr-only", role: "status" });
  const field = el("input", { class: "lr-link-field", type: "text", readonly: "", "aria-label": "Link to this screen: copy it by hand", hidden: "" });
  field.addEventListener("keydown", (event) => {
    event.stopPropagation(); // arrows and space are the player's elsewhere
    if (event.key !== "Escape") return;
    field.hidden = true;
    button.focus();
  });
  field.addEventListener("blur", () => (field.hidden = true));
  button.after(said, field);
  const parts = { label, said, field, timer: null };
  shown.set(button, parts);
  return parts;
}

/** Copy the link to this screen; the button says so. Where the clipboard is refused, a selected field to copy from opens beside it. */
export async function copyLink(button) {
  const parts = feedback(button);
  const link = currentLink();
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    parts.field.value = link;
    parts.field.hidden = false;
    parts.field.focus();
    parts.field.select();
    parts.said.textContent = "The clipboard is not available here. The link stands selected in the field: copy it from there.";
    return false;
  }
  parts.field.hidden = true;
  button.textContent = "✓ Copied";
  parts.said.textContent = "Link copied";
  clearTimeout(parts.timer);
  parts.timer = setTimeout(() => {
    button.textContent = parts.label;
    parts.said.textContent = "";
  }, FEEDBACK_MS);
  return true;
}
