// A run folder or its zip, dropped anywhere on the page, goes into the page's own file input, as if it had been chosen there.
// What it does not do: read or unpack anything; Python does, and says what is wrong with it.

import { el } from "./tokens.js";

const TRACE = "trace.json";
const TRAJECTORY = "trajectory.safetensors";
const DEPTH = 2; // the dropped folder, or one folder inside it
const MOST_ENTRIES = 500; // more than any run holds: stop looking instead of walking a whole disk
export const NO_RUN = "This is no run: drop a folder that holds trace.json, or its zip.";
export const MANY_RUNS = "These are several runs: drop one at a time.";
const UNREADABLE = "The browser could not read what was dropped: use “Open a run…” instead.";
const NO_INPUT = "The page can’t take a run just now: wait a moment and drop it again.";

/** A sentence for people. */
class Refusal extends Error {}

/** Entries of a folder; the browser hands them out in batches. */
async function children(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length || found.length > MOST_ENTRIES) return found;
    found.push(...batch);
  }
}

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** Every folder's own files, at most DEPTH folders deep: a list of lists of entries. */
async function groups(entries, depth) {
  const files = entries.filter((entry) => entry.isFile);
  const found = [files];
  if (depth < DEPTH) {
    for (const folder of entries.filter((entry) => entry.isDirectory).slice(0, 50)) found.push(...(await groups(await children(folder), depth + 1)));
  }
  return found;
}

/**
 * The files of the one run among what was dropped: its zip, or trace.json with trajectory.safetensors.
 * `entries`: FileSystemEntry values. Throws with a sentence where there is none, or more than one.
 */
export async function runFiles(entries) {
  const all = await groups(entries, 0);
  const zips = all[0].filter((entry) => entry.name.toLowerCase().endsWith(".zip"));
  const runs = all.filter((files) => files.some((entry) => entry.name === TRACE));
  if (zips.length + runs.length > 1) throw new Refusal(MANY_RUNS);
  if (zips.length) return [await fileOf(zips[0])];
  if (!runs.length) throw new Refusal(NO_RUN);
  return Promise.all(runs[0].filter((entry) => [TRACE, TRAJECTORY].includes(entry.name)).map(fileOf));
}

/** The same for a browser without folders: loose files only. */
function looseFiles(files) {
  const zips = files.filter((file) => file.name.toLowerCase().endsWith(".zip"));
  const traces = files.filter((file) => file.name === TRACE);
  if (zips.length + traces.length > 1) throw new Refusal(MANY_RUNS);
  if (zips.length) return zips;
  if (!traces.length) throw new Refusal(NO_RUN);
  return files.filter((file) => [TRACE, TRAJECTORY].includes(file.name));
}

/** Put files into a file input, and tell whoever listens there. */
export function intoInput(selector, files) {
  const input = document.querySelector(selector);
  if (!input || input.disabled) throw new Refusal(NO_INPUT);
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/**
 * Make the whole page a drop zone. `selector`: the file input; `say(sentence)`: what went wrong, "" once something else is dropped;
 * `taken()`: a run is on its way. Returns a function that takes the zone away.
 */
export function dropZone({ selector, say, taken = () => {} }) {
  const words = el("div", { class: "lr-drop-words", text: "Drop a run folder or zip to open it" });
  const overlay = el("div", { class: "lr-root lr-drop", hidden: "", "aria-hidden": "true" }, words);
  document.body.append(overlay);
  let hide = null;
  const show = (on) => {
    clearTimeout(hide);
    overlay.hidden = !on;
    // A drag that ends outside the window may never say so; while it lasts, dragover comes several times a second.
    if (on) hide = setTimeout(() => show(false), 1500);
  };
  const over = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    show(true);
  };
  const leave = (event) => {
    if (hasFiles(event) && !event.relatedTarget) show(false);
  };
  const drop = async (event) => {
    if (!hasFiles(event)) return;
    const mine = !event.defaultPrevented; // a field with a drop of its own has taken it
    event.preventDefault();
    show(false);
    if (!mine) return;
    say("");
    // Both must be asked for before the first await: afterwards the browser has emptied them.
    const entries = [...event.dataTransfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? null);
    const files = [...event.dataTransfer.files];
    try {
      intoInput(selector, entries.length && entries.every(Boolean) ? await runFiles(entries) : looseFiles(files));
      taken();
    } catch (error) {
      say(error instanceof Refusal ? error.message : UNREADABLE);
    }
  };
  const events = { dragenter: over, dragover: over, dragleave: leave, drop };
  for (const [name, run] of Object.entries(events)) document.addEventListener(name, run);
  return () => {
    for (const [name, run] of Object.entries(events)) document.removeEventListener(name, run);
    clearTimeout(hide);
    overlay.remove();
  };
}
