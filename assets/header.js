// The head of the page: what this is, and where the model stands. Value: {state, progress, message, model, map}.

import { setText } from "./tokens.js";

const SOURCES = { wheel: "from the PyPI wheel", hub: "from the Hub", local: "from a local folder" };

function node(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function mount({ element, props, watch }) {
  const root = element.querySelector(".lr-root");
  const head = node("header", "lr-head");
  const words = node("div", "lr-head-words");
  words.append(
    node("h1", "", "LatentRevise Explorer"),
    node("p", "", "Watch a language model’s failed reasoning being revised in latent space, step by step."),
  );
  const model = node("div", "lr-head-model");
  const line = node("div", "lr-head-line");
  line.setAttribute("role", "status"); // without the per cent, which would be read out twice a second
  const dot = node("span", "lr-head-dot");
  dot.setAttribute("aria-hidden", "true");
  const name = node("strong", "lr-head-name");
  line.append(dot, name);
  const detail = node("div", "lr-head-detail");
  const bar = node("progress", "lr-head-bar");
  bar.max = 1;
  bar.setAttribute("aria-label", "Loading the model");
  const note = node("div", "lr-head-note");
  model.append(line, detail, note, bar);
  head.append(words, model);
  root.append(head);

  function draw() {
    const value = props.value;
    if (!value) return;
    const { state, progress, message, model: info, map, parent } = value;
    model.dataset.state = state;
    note.textContent = state === "ready" ? message || "" : "";
    if (state === "ready" && info) {
      setText(name, info.id);
      const device = info.device === "cpu" ? "CPU" : info.device;
      const parts = [parent ? `trained from ${parent}` : null, SOURCES[info.source] || info.source, info.dtype, device, `${info.vocab_size.toLocaleString("en")} tokens × ${info.hidden_size}`].filter(Boolean);
      if (info.fallbacks?.length) parts.push(`slower here: ${info.fallbacks.join("; ")}`);
      if (map && map.state === "building") parts.push(`vocabulary map ${Math.round(100 * (map.progress || 0))} %`);
      if (map && map.state === "failed") parts.push("no vocabulary map");
      detail.textContent = parts.join(" · ");
      detail.title = info.ways ? `How it runs: ${info.ways}` : "";
      bar.hidden = true;
    } else {
      setText(name, state === "failed" ? "No model" : "The model is on its way");
      const percent = typeof progress === "number" ? ` · ${Math.round(100 * progress)} %` : "";
      detail.textContent = `${message || ""}${state === "failed" ? "" : percent}`;
      bar.hidden = state === "failed";
      if (typeof progress === "number") bar.value = progress;
      else bar.removeAttribute("value");
    }
  }
  watch("value", draw);
  draw();
}
