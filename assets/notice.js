// A sentence for the person on the page: why something did not happen and what to do, or what just did. Value: null | {kind, text}.
// Announced to screen readers; text only, never HTML.

const SIGNS = { warning: "!", info: "i" };

export function mount({ element, props, watch }) {
  const root = element.querySelector(".lr-root");
  const box = document.createElement("div");
  const sign = document.createElement("span");
  const text = document.createElement("span");
  box.setAttribute("role", "status");
  box.setAttribute("aria-live", "polite");
  sign.className = "lr-notice-sign";
  sign.setAttribute("aria-hidden", "true");
  box.append(sign, text);
  root.append(box);

  function draw() {
    const value = props.value;
    const shown = Boolean(value && value.text);
    box.className = shown ? `lr-notice lr-notice-${value.kind === "warning" ? "warning" : "info"}` : "lr-notice-empty";
    sign.textContent = shown ? SIGNS[value.kind] || "i" : "";
    text.textContent = shown ? value.text : "";
    // Gradio's wrapper would keep an empty gap otherwise.
    element.classList.toggle("lr-hidden-view", !shown);
  }
  watch("value", draw);
  draw();
}
