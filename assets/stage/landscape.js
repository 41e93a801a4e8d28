// What makes 50,000 points readable: a spatial hash to find the token under the pointer, and a decluttered choice of token
// labels that grows with the zoom. Both work on map coordinates in [-1, 1]. What it does not do: know runs or payloads.

import { visible } from "./dom.js";

const CELLS = 160;

/** Points sorted into a CELLS × CELLS grid (counting sort), so that a hover looks at a few cells only. */
export class PointGrid {
  constructor(coords) {
    this.coords = coords;
    const n = coords.length / 2;
    const start = new Uint32Array(CELLS * CELLS + 1);
    const cellOf = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      cellOf[i] = this.#cell(coords[2 * i + 1]) * CELLS + this.#cell(coords[2 * i]);
      start[cellOf[i] + 1]++;
    }
    for (let c = 0; c < CELLS * CELLS; c++) start[c + 1] += start[c];
    const fill = start.slice(0, -1);
    this.items = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.items[fill[cellOf[i]]++] = i;
    this.start = start;
  }

  #cell(x) {
    return Math.max(0, Math.min(CELLS - 1, Math.floor(((x + 1) / 2) * CELLS) || 0));
  }

  /** The point nearest to (x, y) by pixel distance (scales sx, sy) within `reach` pixels, or -1. */
  nearest(x, y, sx, sy, reach) {
    const { coords, items, start } = this;
    let best = -1;
    let bestD = reach * reach;
    const c0 = this.#cell(x - reach / sx);
    const c1 = this.#cell(x + reach / sx);
    const r1 = this.#cell(y + reach / sy);
    for (let r = this.#cell(y - reach / sy); r <= r1; r++) {
      for (let at = start[r * CELLS + c0]; at < start[r * CELLS + c1 + 1]; at++) {
        const i = items[at];
        const dx = (coords[2 * i] - x) * sx;
        const dy = (coords[2 * i + 1] - y) * sy;
        const d = dx * dx + dy * dy;
        if (d < bestD) {
          bestD = d;
          best = i;
        }
      }
    }
    return best;
  }
}

// A whole word makes a better landmark than a piece of one, and a piece a better one than code.
const WORD = /^[ ▁Ġ]\p{L}{5,12}$/u;
const PIECE = /^[ ▁Ġ]?\p{L}{3,12}$/u;
const FIRST_COLUMNS = 4;
const FIRST_ROWS = 7;
const MAX_LEVEL = 8;

/** Chooses which tokens to name: per cell of a grid that doubles with each zoom level, the commonest word-like token. */
export class Labels {
  constructor(coords, tokens) {
    this.coords = coords;
    this.tokens = tokens;
    this.levels = [];
    const n = Math.min(tokens.length, coords.length / 2);
    // Byte-pair vocabularies are ordered by how early a merge was learnt: a small id is a common token.
    this.score = new Float32Array(n);
    for (let i = 0; i < n; i++) this.score[i] = i + (WORD.test(tokens[i]) ? 0 : PIECE.test(tokens[i]) ? 2e5 : 1e6);
  }

  /** Cell → token of level L: a Map, made once per level. Cells with few tokens are left unnamed at the far levels. */
  level(L) {
    while (this.levels.length <= L) {
      const scale = 2 ** this.levels.length;
      const columns = FIRST_COLUMNS * scale;
      const rows = FIRST_ROWS * scale;
      const best = new Map();
      const count = new Map();
      for (let i = 0; i < this.score.length; i++) {
        const c = Math.floor(((this.coords[2 * i] + 1) / 2) * columns);
        const r = Math.floor(((this.coords[2 * i + 1] + 1) / 2) * rows);
        const key = r * (columns + 1) + c;
        const other = best.get(key);
        count.set(key, (count.get(key) || 0) + 1);
        if (other === undefined || this.score[i] < this.score[other]) best.set(key, i);
      }
      const least = this.score.length / (columns * rows) / 2;
      if (this.levels.length <= 1) for (const [key, c] of count) if (c < least) best.delete(key);
      this.levels.push(new Set(best.values()));
    }
    return this.levels[L];
  }

  /** Draws labels for `view` on a 2-D context in CSS pixels; returns how many. */
  draw(ctx, view, colors) {
    const exact = Math.max(0, Math.min(MAX_LEVEL, Math.log2(view.zoom) + 0.35));
    const L = Math.floor(exact);
    const fade = exact - L;
    const taken = [];
    let drawn = 0;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    const seen = new Set();
    for (let level = 0; level <= Math.min(L + 1, MAX_LEVEL); level++) {
      // A short fade: at most zooms a name is either there to be read or not there at all.
      const alpha = level > L ? Math.max(0, Math.min(1, (fade - 0.35) / 0.25)) : 1;
      if (alpha === 0) continue;
      // Far names are landmarks: a little larger; those that came with the zoom are smaller and fainter.
      const size = level === 0 ? 12.5 : 11.5;
      ctx.font = `${level === 0 ? 600 : 400} ${size}px ${colors.sans}`;
      ctx.globalAlpha = alpha;
      for (const i of this.level(level)) {
        if (seen.has(i)) continue;
        seen.add(i);
        const x = view.cx + this.coords[2 * i] * view.sx;
        const y = view.cy - this.coords[2 * i + 1] * view.sy - 9;
        if (x < 20 || y < 12 || x > view.width - 20 || y > view.height - 8) continue;
        const text = visible(this.tokens[i].trim() || this.tokens[i], 16);
        const half = text.length * size * 0.3 + 10;
        if (taken.some((o) => Math.abs(o.x - x) < o.half + half && Math.abs(o.y - y) < 19)) continue;
        taken.push({ x, y, half });
        ctx.strokeStyle = colors.surface;
        ctx.lineWidth = 3.5;
        ctx.strokeText(text, x, y);
        ctx.fillStyle = colors.ink2;
        ctx.fillText(text, x, y);
        drawn++;
      }
    }
    ctx.globalAlpha = 1;
    return drawn;
  }
}
