// The trajectory of a revision as exact arithmetic on token ids: hull weights per position and point, and the 2-D places
// that follow from them. Source: E_{k+1} = (1−γ_k) E_k + γ_k V[s_k] (LatentRevise, arXiv 2606.29938).
// What it does not do: draw, fetch, know the screen. Point 0 is the unrevised prefix, point S the last one computed.

export class Trajectory {
  constructor() {
    this.reset();
  }

  reset() {
    this.prefix = [];
    this.steps = [];
    this.coefficients = [];
    this.coords = null;
    this.places = [];
    this.rankedAt = -1;
  }

  get M() {
    return this.prefix.length;
  }

  get S() {
    return this.steps.length;
  }

  /** Takes the payload's prefix and steps. Returns "same", "grown" or "new"; what was computed is kept unless "new". */
  sync(prefix, steps) {
    const samePrefix = prefix.length === this.M && prefix.every((id, t) => id === this.prefix[t]);
    const common = Math.min(steps.length, this.S);
    const last = common - 1;
    // A restarted run has fewer steps or other numbers at the last common one; equal arithmetic gives equal numbers.
    const sameSteps =
      steps.length >= this.S &&
      (common === 0 || (steps[last].toward_loss === this.steps[last].toward_loss && steps[last].step_size === this.steps[last].step_size));
    if (!samePrefix || !sameSteps) {
      const coords = this.coords;
      this.reset();
      this.prefix = prefix;
      this.steps = steps;
      this.setCoords(coords);
      return "new";
    }
    const grown = steps.length > this.S;
    this.steps = steps;
    if (grown) this.#extend();
    return grown ? "grown" : "same";
  }

  /**
   * What point j is made of: Float64Array (j+1); entry 0 multiplies the original token, entry k+1 the vertex of step k.
   * The same for all positions, since one step size moves them all. Sums to 1.
   */
  mix(j) {
    for (let i = this.coefficients.length; i <= j; i++) {
      const row = new Float64Array(i + 1);
      if (i === 0) row[0] = 1;
      else {
        const gamma = this.steps[i - 1].step_size;
        const before = this.coefficients[i - 1];
        for (let k = 0; k < i; k++) row[k] = before[k] * (1 - gamma);
        row[i] = gamma;
      }
      this.coefficients.push(row);
    }
    return this.coefficients[j];
  }

  /** Exact hull weights of position t at point j: [{id, weight, original}], the heaviest first (ties: first come). */
  weights(t, j) {
    const mix = this.mix(j);
    const original = this.prefix[t];
    const ids = [original];
    const sums = [mix[0]];
    for (let k = 0; k < j; k++) {
      const id = this.steps[k].vertices[t];
      const at = ids.indexOf(id);
      if (at < 0) {
        ids.push(id);
        sums.push(mix[k + 1]);
      } else sums[at] += mix[k + 1];
    }
    const list = ids.map((id, i) => ({ id, weight: sums[i], original: i === 0 }));
    return list.sort((a, b) => b.weight - a.weight);
  }

  /** Weight that the original token of position t still has at point j (a vertex may be the original token itself). */
  kept(t, j) {
    const mix = this.mix(j);
    const original = this.prefix[t];
    let sum = mix[0];
    for (let k = 0; k < j; k++) if (this.steps[k].vertices[t] === original) sum += mix[k + 1];
    return sum;
  }

  nearest(t, j) {
    return j === 0 ? this.prefix[t] : this.steps[j - 1].nearest?.[t] ?? this.prefix[t];
  }

  moved(t, j) {
    return j === 0 ? 0 : this.steps[j - 1].moved?.[t] ?? NaN;
  }

  /** The step whose pull is shown at point j: the move that leaves it, or the one that led there when no later is known. */
  pullStep(j) {
    return this.S === 0 ? -1 : Math.min(j, this.S - 1);
  }

  vertex(t, j) {
    const k = this.pullStep(j);
    return k < 0 ? undefined : this.steps[k].vertices?.[t];
  }

  /** Vertices of position t by their weight at the last computed point: gives each token one shade at all points. */
  ranking(t) {
    if (this.rankedAt !== this.S) {
      this.rankedAt = this.S;
      this.ranks = [];
    }
    return (this.ranks[t] ??= this.weights(t, this.S).filter((w) => !w.original).map((w) => w.id));
  }

  /** {pulled, steps}: how many positions step k pulls to token `id`, and at how many steps it was picked at all. */
  vertexUse(id, k) {
    const step = this.steps[k];
    let pulled = 0;
    if (step) for (const v of step.vertices) if (v === id) pulled++;
    let steps = 0;
    for (const s of this.steps) if (s.vertices.includes(id)) steps++;
    return { pulled, steps };
  }

  /** The vocabulary's map coordinates, Float32Array (vocab_size × 2), or null. Places follow by the same convex combination. */
  setCoords(coords) {
    this.coords = coords;
    this.places = [];
    if (!coords) return;
    const first = new Float32Array(this.M * 2);
    for (let t = 0; t < this.M; t++) this.#copyCoord(this.prefix[t], first, t);
    this.places.push(first);
    this.#extend();
  }

  #copyCoord(id, out, t) {
    const known = id >= 0 && 2 * id + 1 < this.coords.length;
    out[2 * t] = known ? this.coords[2 * id] : NaN;
    out[2 * t + 1] = known ? this.coords[2 * id + 1] : NaN;
  }

  #extend() {
    if (!this.coords) return;
    for (let k = this.places.length - 1; k < this.S; k++) {
      const { step_size: gamma, vertices } = this.steps[k];
      const from = this.places[k];
      const to = new Float32Array(this.M * 2);
      for (let t = 0; t < this.M; t++) {
        const id = vertices[t];
        to[2 * t] = (1 - gamma) * from[2 * t] + gamma * this.coords[2 * id];
        to[2 * t + 1] = (1 - gamma) * from[2 * t + 1] + gamma * this.coords[2 * id + 1];
      }
      this.places.push(to);
    }
  }
}

/** The angle between the two loss gradients, in words. Toward is descended and away is climbed: alike means conflict. */
export function angleInWords(cosine) {
  if (!Number.isFinite(cosine)) return { degrees: NaN, verdict: "not known", words: "" };
  const degrees = (Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI;
  if (degrees < 60) return { degrees, verdict: "in conflict", words: "bad: what helps the answer helps the failure too" };
  if (degrees < 82) return { degrees, verdict: "slightly in conflict", words: "bad: what helps the answer helps the failure a little too" };
  if (degrees <= 98) return { degrees, verdict: "independent", words: "helping the answer leaves the failure as it is" };
  if (degrees <= 120) return { degrees, verdict: "slightly in agreement", words: "good: one move partly serves both wishes" };
  return { degrees, verdict: "in agreement", words: "good: one move serves both wishes" };
}
