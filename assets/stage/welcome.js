// The empty state: what will appear on the stage, drawn as a small picture of one Frank-Wolfe walk.
// What it does not do: start anything.

import { h, svg } from "./dom.js";

const HULL = [[60, 210], [150, 56], [330, 28], [470, 104], [452, 226], [250, 270]];
const WALK = [[182, 196], [212, 176], [240, 158], [270, 150], [303, 138], [332, 127], [358, 118]];
const DUST = Array.from({ length: 150 }, (_, i) => [30 + ((i * 97.3) % 470) + 9 * Math.sin(i * 5.1), 20 + ((i * 61.7) % 262) + 8 * Math.cos(i * 3.3)]);

export function welcome() {
  const picture = svg("svg", { viewBox: "0 0 530 300", class: "lr-s-welcome-art", "aria-hidden": "true" });
  for (const [x, y] of DUST) picture.append(svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 1.3, class: "lr-s-art-dust" }));
  picture.append(svg("polygon", { points: HULL.join(" "), class: "lr-s-art-hull" }));
  const [tip, vertex] = [WALK.at(-1), HULL[3]];
  picture.append(svg("line", { x1: tip[0], y1: tip[1], x2: vertex[0], y2: vertex[1], class: "lr-s-art-pull" }));
  picture.append(svg("polyline", { points: WALK.join(" "), class: "lr-s-art-trail" }));
  for (const [x, y] of HULL) picture.append(svg("path", { d: `M${x} ${y - 6}l6 6-6 6-6-6z`, class: "lr-s-art-vertex" }));
  for (const [x, y] of WALK.slice(1, -1)) picture.append(svg("circle", { cx: x, cy: y, r: 2.6, class: "lr-s-art-step" }));
  picture.append(svg("circle", { cx: WALK[0][0], cy: WALK[0][1], r: 6, class: "lr-s-art-start" }), svg("circle", { cx: tip[0], cy: tip[1], r: 8, class: "lr-s-art-now" }));
  const item = (cls, sign, name, text) => h("li", {}, h("span", { class: `lr-s-welcome-sign ${cls}`, "aria-hidden": "true", text: sign }), h("span", {}, h("b", { text: name }), ` ${text}`));
  return h(
    "section",
    { class: "lr-s-welcome", "aria-label": "Nothing to show yet" },
    picture,
    h(
      "div",
      { class: "lr-s-welcome-text" },
      h("h3", { text: "Here a failed line of reasoning will be revised, step by step" }),
      h("p", { text: "Choose a failed rollout and where its prefix ends, then press one step or play. The model's weights never change; only the prefix moves." }),
      h(
        "ul",
        {},
        item("lr-s-c-original", "○", "Start.", "Each token of the prefix begins at its own place among all tokens of the vocabulary."),
        item("lr-s-c-vertex", "◆", "Vertex.", "At each step the gradient names one real token to be pulled to: toward the right answer, away from the failed text."),
        item("lr-s-c-ink", "●", "Now.", "The position moves a share γ of the way, and so stays an exact mixture of real tokens."),
      ),
    ),
  );
}
