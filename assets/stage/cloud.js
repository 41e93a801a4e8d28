// The vocabulary as a quiet background: every token one point, drawn by WebGL (or a 2-D canvas where there is none) into a
// canvas of its own, only when the view, the theme or the points change. What it does not do: labels, hover, anything that moves.

import { pen } from "./dom.js";
import { rgb } from "./theme.js";

const VERTEX = `
attribute vec2 place;
uniform vec4 view;    // scale x, scale y, shift x, shift y: map coordinates to clip space
uniform mediump float size;   // device pixels; the same precision in both shaders, or they do not link
void main() {
  gl_Position = vec4(place * view.xy + view.zw, 0.0, 1.0);
  gl_PointSize = size;
}`;

const FRAGMENT = `
precision mediump float;
uniform vec4 color;   // premultiplied
uniform mediump float size;
void main() {
  float d = length(gl_PointCoord - 0.5) * size;
  gl_FragColor = color * clamp(0.5 * size - d + 0.5, 0.0, 1.0);
}`;

/** Radius and opacity of a background point at a zoom: dust from afar, beads when near. CSS pixels. */
export function pointLook(zoom, count, alpha) {
  const crowd = Math.min(1.6, Math.max(0.75, Math.sqrt(50000 / Math.max(1, count))));
  const near = Math.min(1, Math.log2(Math.max(1, zoom)) / 5);
  return { radius: (0.85 + 1.75 * near) * Math.min(1.25, crowd), alpha: Math.min(0.9, alpha * crowd * (1 + 0.6 * near)) };
}

export class Cloud {
  constructor() {
    this.coords = null;
    this.count = 0;
    this.#fresh();
  }

  #fresh() {
    const canvas = document.createElement("canvas");
    canvas.className = "lr-s-map-layer";
    canvas.setAttribute("aria-hidden", "true");
    this.canvas?.replaceWith(canvas);
    this.canvas = canvas;
    this.gl = this.refused ? null : canvas.getContext("webgl", { antialias: false, alpha: true, premultipliedAlpha: true, depth: false, stencil: false });
    this.kind = this.gl ? "webgl" : "2d";
    this.uploaded = false;
    if (this.gl && !this.#program()) {
      // A canvas that once held WebGL gives no 2-D context: start over with a new one.
      this.refused = true;
      this.#fresh();
      return;
    }
    if (!this.gl) this.ctx = pen(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.uploaded = false;
      this.buffer = null;
      this.#program();
      this.onRestored?.();
    });
  }

  #program() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "place");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return false;
    gl.useProgram(program);
    this.at = { view: gl.getUniformLocation(program, "view"), size: gl.getUniformLocation(program, "size"), color: gl.getUniformLocation(program, "color") };
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    return true;
  }

  /** Float32Array (count × 2) or null. */
  setPoints(coords) {
    this.coords = coords;
    this.count = coords ? coords.length / 2 : 0;
    this.uploaded = false;
  }

  /** `view`: {width, height, ratio, sx, sy, cx, cy, zoom}; pixel place of (x, y) is (cx + x·sx, cy − y·sy), CSS pixels. */
  draw(view, colors) {
    const { canvas } = this;
    const width = Math.round(view.width * view.ratio);
    const height = Math.round(view.height * view.ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const look = pointLook(view.zoom, this.count, colors.cloudAlpha);
    if (this.gl) this.#drawGl(view, look, colors);
    else this.#draw2d(view, look, colors);
  }

  #drawGl(view, look, colors) {
    const { gl } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.count || gl.isContextLost()) return;
    if (!this.uploaded) {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer ?? (this.buffer = gl.createBuffer()));
      gl.bufferData(gl.ARRAY_BUFFER, this.coords, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(0);
      gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
      this.uploaded = true;
    }
    const [r, g, b] = rgb(colors.cloud);
    const size = 2 * look.radius * view.ratio + 1;
    gl.uniform4f(this.at.view, (2 * view.sx) / view.width, (2 * view.sy) / view.height, (2 * view.cx) / view.width - 1, 1 - (2 * view.cy) / view.height);
    gl.uniform1f(this.at.size, size);
    gl.uniform4f(this.at.color, r * look.alpha, g * look.alpha, b * look.alpha, look.alpha);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }

  #draw2d(view, look, colors) {
    const { ctx, coords } = this;
    ctx.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    ctx.clearRect(0, 0, view.width, view.height);
    if (!coords) return;
    ctx.globalAlpha = look.alpha;
    ctx.fillStyle = colors.cloud;
    const side = 2 * look.radius;
    for (let i = 0; i < coords.length; i += 2) {
      const x = view.cx + coords[i] * view.sx;
      const y = view.cy - coords[i + 1] * view.sy;
      if (x > -4 && y > -4 && x < view.width + 4 && y < view.height + 4) ctx.fillRect(x - look.radius, y - look.radius, side, side);
    }
    ctx.globalAlpha = 1;
  }

  free() {
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
