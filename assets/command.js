// The command that does the same without this page, and a button that copies it. What it does not do: make the command.

import { el, setText } from "./tokens.js";

/** {node, show(text)}; without a text it is hidden. */
export function commandLine() {
  const code = el("code", { class: "lr-hf-code", tabindex: "0", "aria-label": "The command that does the same without this page" });
  const copy = el("button", { type: "button", class: "lr-button lr-link", text: "Copy", on: { click: () => take() } });
  const node = el("div", { class: "lr-hf-command" }, code, copy);
  async function take() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      setText(copy, "✓ Copied");
    } catch {
      getSelection().selectAllChildren(code); // refused: it stands selected, to be copied by hand
      setText(copy, "Selected: copy it");
    }
    setTimeout(() => setText(copy, "Copy"), 2400);
  }
  function show(text) {
    node.hidden = !text;
    setText(code, text);
  }
  return { node, show };
}
