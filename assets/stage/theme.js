// The palette as canvas and WebGL need it: read from the CSS tokens, again whenever Gradio toggles `dark` on <body>.
// What it does not do: define any colour. Those are in theme.css and stage.css.

const NAMES = ["bg", "surface", "raised", "ink", "ink-2", "ink-3", "line", "line-strong", "toward", "away", "vertex", "original", "accent", "focus"];

/** Resolved colours of `el`: {ink: "#…", …, dark: bool, sans, mono, cloud}. */
export function palette(el) {
  const style = getComputedStyle(el);
  const out = {};
  for (const name of NAMES) out[name.replace(/-(\w)/g, (_, c) => c.toUpperCase())] = style.getPropertyValue(`--lr-${name}`).trim();
  for (const name of ["cloud", "vertex-fill"]) {
    out[name.replace(/-(\w)/g, (_, c) => c.toUpperCase())] = style.getPropertyValue(`--lr-stage-${name}`).trim();
  }
  out.cloudAlpha = parseFloat(style.getPropertyValue("--lr-stage-cloud-alpha")) || 0.3;
  out.sans = style.getPropertyValue("--lr-sans").trim() || "sans-serif";
  out.mono = style.getPropertyValue("--lr-mono").trim() || "monospace";
  out.dark = document.body.classList.contains("dark");
  return out;
}

/** Calls `fn` after a change of theme; returns a function that stops watching. */
export function onThemeChange(fn) {
  const observer = new MutationObserver(fn);
  observer.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  return () => observer.disconnect();
}

/** "#rrggbb" or "rgb(r g b)" to [r, g, b] in 0..1. */
export function rgb(color) {
  const hex = /^#?([0-9a-f]{6})$/i.exec(color);
  if (hex) return [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16) / 255);
  const parts = color.match(/[\d.]+/g);
  return parts && parts.length >= 3 ? parts.slice(0, 3).map((p) => Number(p) / 255) : [0.5, 0.5, 0.5];
}
