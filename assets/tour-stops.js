// The stops of the guided tour: for each a heading, plain sentences, one formula with its symbols in words, what it points
// to and what it does on the stage. All numbers and verdicts are worked out from the run on show; without a number its
// sentence is left out. Formulas: LatentRevise, arXiv 2606.29938. What it does not do: draw the card or scroll (tour.js).

import { gammaText, num, percent } from "./stage/dom.js";
import { angleInWords } from "./stage/hull.js";

// In texts: *x* is a symbol, _x_ is set low, ^x^ is set high; {token} objects are tokens of the model.

/**
 * What the sentences need of the run on the stage, or null when nothing is on it.
 * `payload` and `trajectory` are the stage's; `story` is the watch view's, taken only if it tells of this very run.
 */
export function readRun(payload, trajectory, story) {
  if (!payload || !payload.prefix?.length) return null;
  const { M, S } = trajectory;
  const steps = payload.steps ?? [];
  const config = payload.config ?? {};
  const moved = steps.at(-1)?.moved ?? [];
  const t = moved.length ? moved.indexOf(Math.max(...moved)) : 0;
  const sizes = steps.map((step) => step.step_size);
  const mine = story && (story.run_id === undefined ? Boolean(payload.recorded) : story.run_id === payload.run_id);
  const kept = steps.length ? payload.prefix.map((_, p) => trajectory.kept(p, S)) : [];
  const last = steps.length ? (payload.final ?? steps.at(-1)) : null;
  return {
    id: payload.run_id,
    M,
    S,
    t,
    C: payload.continuation?.length ?? 0,
    dimensions: payload.model?.hidden_size,
    vocabulary: payload.model?.vocab_size,
    lambda: config.away_weight,
    toward: config.toward_weight ?? 1,
    cosine: config.projection === "cosine",
    banned: Boolean(config.ban_answer_tokens),
    first: steps[0] ?? null,
    last,
    // Without a final measurement the last known values are those before the last step.
    lastPoint: payload.final ? S : S - 1,
    gamma: sizes[0],
    lastGamma: sizes.at(-1),
    constant: sizes.every((size) => Math.abs(size - sizes[0]) < 1e-9),
    left: sizes.reduce((product, size) => product * (1 - size), 1),
    kept: kept.length ? { least: Math.min(...kept), most: Math.max(...kept) } : null,
    changed: payload.prefix.filter((id, p) => trajectory.nearest(p, S) !== id).length,
    own: payload.prefix[t],
    vertex: steps[0]?.vertices?.[t],
    next: steps[1]?.vertices?.[t],
    reads: payload.prefix.map((id, p) => ({ p, from: id, to: trajectory.nearest(p, S) })).filter(({ from, to }) => from !== to),
    weights: steps.length ? trajectory.weights(t, S).filter((w) => w.weight > 0) : [],
    angle: angleInWords(steps[0]?.grad_cosine?.[t]),
    text: (id) => payload.tokens?.[id],
    story: mine ? story : null,
    outcome: (mine && story.outcome) || null,
    decoy: (mine && story.controls?.find((control) => control.kind === "decoy" && control.n > 0)) || null,
  };
}

// ---- words ----

const many = (n, word, plural = `${word}s`) => `${n} ${n === 1 ? word : plural}`;
const rate = (arm) => `${arm.correct} of ${arm.n}`;
const token = (run, id) => ({ token: run.text(id) });
const position = (run) => `position ${run.t + 1}`;
const steps = (n) => many(n, "step");
/** "= 35 %", but "< 1 %" and "> 99 %". */
const equals = (share) => percent(share).replace(/^([<>]?)/, (sign) => `${sign || "="} `);

/** "35 % > 31 %"; with a decimal where whole per cent would not show which is more. */
function compared(low, high) {
  const [a, b] = [low, high].map(percent);
  return low !== high && (a === b || /[<>]/.test(a + b)) ? `${(100 * low).toFixed(1)} % > ${(100 * high).toFixed(1)} %` : `${a} > ${b}`;
}

/** {apart, overlap, verdict}: whether two arms' 95 % intervals leave room for luck. */
function luck(outcome) {
  const { revised, original } = outcome ?? {};
  if (!revised?.interval || !original?.interval) return null;
  const [low, high] = [revised.interval[0], original.interval[1]];
  return { low, high, apart: low > high };
}

/** What the decoy says of a rescue; the same cases as in explorer/views/watch.py. */
function smuggling(decoy, revised) {
  const apart = decoy.interval[1] < revised.interval[0];
  if (!decoy.reached) return apart ? "the decoy fails: hardly smuggled" : "the decoy fails, though so few tries prove little";
  if (decoy.reached * revised.n >= revised.correct * decoy.n) return "the decoy does as well: no sign of reasoning";
  return apart ? "the decoy falls clearly behind" : "the decoy can’t be told apart: it may be smuggled";
}

// ---- the stops ----

export const STOPS = [
  {
    id: "zero-hit",
    heading: "Zero-hit: when there is nothing to learn from",
    say: () => ["The model tries a problem several times. Reinforcement learning (RL) makes tries that did better than average more likely. If every try fails, all are average: no try stands out, and nothing is learnt."],
    here(run) {
      const { n, correct } = run.story ?? {};
      if (!n) return null;
      if (correct === 0) return [`none of ${n} tries was right, so every advantage is 0 − 0 = 0.`];
      if (correct === n) return [`all ${n} tries were right, so every advantage is 1 − 1 = 0.`];
      return [`${correct} of ${n} tries ${correct === 1 ? "was" : "were"} right, so this one is not zero-hit: there is a little to learn from.`];
    },
    formula: () => "advantage = reward − mean reward",
    symbols: () => [["reward", "1 for a right try, 0 for a wrong one"], ["mean reward", "the average over all tries"]],
    targets: ["#lr-watch .lr-story-problem", "#lr-watch .lr-watch-story"],
    enter: (stage) => stage.setPoint(0),
  },
  {
    id: "split",
    heading: "The split: prefix and failure",
    say: () => ["One failed try is cut in two: the prefix, and the failed continuation after it. Only the prefix will be changed; the model stays as it is. To the model each token (a piece of a word) is a point in space, its embedding."],
    here: (run) => [`${many(run.M, "prefix token")} and ${many(run.C, "failed token")}.`],
    formula: (run) => `prefix: *E*_1_, *E*_2_, …, *E*${run ? `_${run.M}_` : "_M_"}`,
    symbols: (run) => [["*E*_t_", "the point at position *t* of the prefix" + (run?.dimensions ? `: a list of ${run.dimensions} numbers` : "")]],
    targets: ["#lr-watch .lr-story-failed", "#lr-watch .lr-watch-story", '[data-tour="strip"]'],
    enter: (stage) => stage.setPoint(0),
  },
  {
    id: "gradients",
    heading: "Two gradients: toward and away",
    say(run) {
      if (run?.lambda === 0) return ["The model should be less surprised by the right (gold) answer. For every point a gradient says which way to move for that. A second gradient, away from the failure, is switched off in this run (λ = 0)."];
      if (run?.toward === 0) return ["The model should be more surprised by its own failure. For every point a gradient says which way to move for that. The other gradient, toward the gold answer, is switched off in this run."];
      return ["The model should be less surprised by the right (gold) answer and more by its own failure. Each wish gives every point a gradient: the direction in which that surprise grows fastest."];
    },
    here(run) {
      const { degrees, words } = run.angle;
      if (!Number.isFinite(degrees) || run.lambda === 0 || run.toward === 0) return null;
      return [`for `, token(run, run.own), ` at ${position(run)} the two are ${Math.round(degrees)}° apart: ${words}.`];
    },
    formula: (run) => (run && run.toward !== 1 ? `*f* = ${gammaText(run.toward)} · toward − *λ* · away` : "*f* = toward − *λ* · away"),
    symbols: (run) => [["*f*", "what is made small"], ["toward, away", "the surprise at the gold answer, at the failed continuation"], ["*λ*", run && Number.isFinite(run.lambda) ? `how much the failure counts: ${gammaText(run.lambda)}` : "how much the failure counts"]],
    targets: ['[data-tour="heat"]', '[data-tour="readout"]'],
    enter(stage, run) {
      stage.setPoint(0);
      stage.select(run.t);
    },
  },
  {
    id: "hull",
    heading: "The hull: only mixtures of real tokens",
    say: () => ["A point must stay a mixture of real tokens, with shares that add up to 100 %. All such mixtures form the convex hull, the space between the tokens."],
    here(run) {
      if (!run.weights.length) return null;
      const top = run.weights.slice(0, 3);
      const parts = [`after the last step, ${position(run)} is `];
      top.forEach((w, i) => parts.push(i ? ", " : "", `${percent(w.weight)} `, token(run, w.id)));
      const more = run.weights.length - top.length;
      parts.push(more ? ` and ${many(more, "more token")}.` : ".");
      return parts;
    },
    formula: () => "*E*_t_ = *w*_1_*V*_1_ + *w*_2_*V*_2_ + *w*_3_*V*_3_ + …",
    symbols: () => [["*V*_i_", "the point of token *i* in the vocabulary"], ["*w*_i_", "its share: never below 0, all together 1"]],
    targets: ['[data-tour="readout"]'],
    enter(stage, run) {
      stage.setPoint(run.S);
      stage.select(run.t);
    },
  },
  {
    id: "step",
    heading: "One Frank-Wolfe step",
    say: (run) => [`Each point finds the token farthest downhill, its vertex ◆ (often an odd one: only the slope counts), and goes the share *γ* of the way there. So it never leaves the hull.${run?.banned ? " The answer’s own tokens are barred." : ""}`],
    here(run) {
      if (run.vertex === undefined) return null;
      const parts = [`in step 1, `, token(run, run.own), ` at ${position(run)} goes ${percent(run.gamma)} of the way to `, token(run, run.vertex), "."];
      // After a step the map's arrow already shows where the next one will pull.
      if (run.next === run.vertex) parts.push(" So does step 2.");
      else if (run.next !== undefined) parts.push(" Next (◆ on the map): ", token(run, run.next), ".");
      return parts;
    },
    formula: () => "*E*_t_ ← (1 − *γ*) · *E*_t_ + *γ* · *V*_s_",
    symbols: (run) => [["*γ*", `(gamma) the step size${run?.first ? `: ${gammaText(run.gamma)}` : ""}`], ["*V*_s_", "the point of the vertex"], ["←", "becomes"]],
    targets: ['[data-tour="map"]'],
    enter(stage, run) {
      stage.setPoint(0);
      stage.select(run.t);
    },
    arrive(stage, run) {
      if (run.S > 0) stage.glide(1);
    },
  },
  {
    id: "gap",
    heading: "The gap: how much is left to gain?",
    say: () => ["Suppose the slope stayed as it is and every point went all the way to its vertex: the gap says how much *f* would fall. It is only an estimate. At a gap of 0, no token pulls any more."],
    here(run) {
      if (!run.first || !Number.isFinite(run.first.gap)) return null;
      if (run.lastPoint < 1 || !Number.isFinite(run.last.gap)) return [`the gap is ${num(run.first.gap)} at the start.`];
      return [`the gap goes from ${num(run.first.gap)} at the start to ${num(run.last.gap)} after ${steps(run.lastPoint)}.`];
    },
    formula: () => "gap = sum over *t* of *G*_t_ · (*E*_t_ − *V*_s_)",
    symbols: () => [["*G*_t_", "the gradient of *f* at position *t* (“·” multiplies number by number and adds up)"], ["*E*_t_ − *V*_s_", "the way from the vertex to the point"]],
    targets: ['[data-tour="losses"]'],
    enter(stage, run) {
      stage.setPoint(Math.min(1, run.S));
      stage.select(run.t);
    },
  },
  {
    id: "steps",
    heading: "Many steps, one after another",
    say: () => ["Again: new gradients, new vertices, one more step. The toward loss (surprise at the gold answer) should fall, the away loss (surprise at the failure) should rise."],
    here(run) {
      if (!run.S) return null;
      const { least, most } = run.kept;
      const share = percent(least) === percent(most) ? percent(least) : `${percent(least)} to ${percent(most)}`;
      const size = run.constant ? `*γ* = ${gammaText(run.gamma)}` : `*γ* runs from ${gammaText(run.gamma)} to ${gammaText(run.lastGamma)}`;
      const parts = [`${size}, so after ${steps(run.S)} ${share} of the original token is left.`];
      if (run.lastPoint > 0) parts.push(` Toward ${num(run.first.toward_loss)} → ${num(run.last.toward_loss)}, away ${num(run.first.away_loss)} → ${num(run.last.away_loss)}.`);
      return parts;
    },
    formula(run) {
      if (!run?.S) return "share left = (1 − *γ*)^k^";
      if (!run.constant) return `share left = (1 − *γ*_1_) · (1 − *γ*_2_) · … ${equals(run.left)}`;
      return `share left = (1 − *γ*)^k^ = ${gammaText(1 - run.gamma)}^${run.S}^ ${equals(run.left)}`;
    },
    symbols: (run) => [["share left", "how much of a point is still its own token" + (run?.kept && percent(run.kept.least) !== percent(run.kept.most) ? "; more where the vertex is that token itself" : "")], ["*k*", "the number of steps taken"]],
    targets: ['[data-tour="losses"]'],
    also: ['[data-tour="map"]'],
    enter(stage, run) {
      stage.setPoint(Math.min(1, run.S));
      stage.select(run.t);
    },
    arrive(stage, run, calm) {
      if (!calm) return stage.playToEnd(); // what takes it back, for the tour to call
      stage.setPoint(run.S);
      return null;
    },
  },
  {
    id: "projection",
    heading: "Projection: is it still text?",
    say: () => ["A mixture is no text. To write it down, each point is replaced by the nearest real token: the projection. After small steps that is often the old token; after large ones the text can fall apart."],
    here(run) {
      if (!run.S) return null;
      const { changed, M } = run;
      if (changed === 0) return [`none of ${M} positions reads differently: every point is still nearest to its own token.`];
      const parts = [`${changed} of ${M} positions now ${changed === 1 ? "reads" : "read"} differently`];
      run.reads.slice(0, 2).forEach(({ from, to }, i) => parts.push(i ? ", " : ": ", token(run, from), " → ", token(run, to)));
      parts.push(changed > 2 ? ` and ${changed - 2} more.` : ".");
      if (2 * changed > M) parts.push(" Little of the old text is left.");
      return parts;
    },
    formula: (run) => (run?.cosine ? "token(*t*) = the *i* with the smallest angle between *E*_t_ and *V*_i_" : "token(*t*) = the *i* with the smallest ‖*E*_t_ − *V*_i_‖"),
    symbols: (run) => [["*V*_i_", "the point of token *i*"], run?.cosine ? ["angle", "how far apart two directions are"] : ["‖ ‖", "distance, in the full space and not on the map"]],
    targets: ['[data-tour="strip"]'],
    enter(stage, run) {
      stage.setPoint(run.S);
      stage.select(run.t);
    },
  },
  {
    id: "before-after",
    heading: "Before and after",
    say: () => ["Now the model goes on writing from the moved prefix and, as often, from the untouched one. The problem counts as rescued if a try from the moved prefix is right."],
    here(run) {
      const { revised, original, step } = run.outcome ?? {};
      if (!revised?.n) return ["nothing has been continued yet, so there is no before and after to see."];
      const when = Number.isFinite(step) && step !== run.S ? `after step ${step}, ` : "";
      const other = original?.n ? `; without it, ${rate(original)}` : "";
      return [`${when}${rate(revised)} tries are right with the revision${other}: ${revised.correct > 0 ? "rescued, but is it real?" : "not rescued."}`];
    },
    formula: () => "success rate = right tries ÷ all tries",
    symbols: () => [["right", "the final answer was checked by a program"], ["all", "the same number from each start, else the rates can’t be compared"]],
    targets: ["#lr-compare .lr-arms-box", "#lr-compare"],
    also: ["#lr-compare .lr-cmp-head"],
    enter: (stage, run) => stage.setPoint(run.S),
  },
  {
    id: "real",
    heading: "Is it real? Ask the controls",
    say: () => ["A right answer may be luck or smuggled in. Compare: the untouched prefix, the projected text, and a decoy (moved toward a wrong answer)."],
    here(run) {
      const { outcome, decoy } = run;
      const { revised, projected, original } = outcome ?? {};
      if (!revised?.n) return ["nothing has been continued yet, so there is nothing to judge."];
      const share = (arm) => `${arm.correct}/${arm.n}`;
      const counts = [`revised ${share(revised)}`];
      if (original?.n) counts.push(`untouched ${share(original)}`);
      if (projected?.n) counts.push(`projected ${share(projected)}`);
      counts.push(decoy ? `decoy ${decoy.reached}/${decoy.n}` : "decoy not run");
      const verdicts = [];
      if (!revised.correct) verdicts.push("no rescue to doubt");
      else {
        const chance = luck(outcome);
        if (chance) verdicts.push(chance.apart ? "hardly luck" : "may be luck");
        if (!decoy) verdicts.push("no decoy was tried, so smuggling is open");
        else verdicts.push(smuggling(decoy, revised));
        if (projected?.n && !projected.correct) verdicts.push("lost as plain text");
      }
      return [`${counts.join(", ")}. Verdict: ${verdicts.join("; ")}.`];
    },
    formula(run) {
      const chance = run && run.outcome?.revised?.correct ? luck(run.outcome) : null;
      return `hardly luck if low(revised) > high(untouched)${chance ? `: ${compared(chance.low, chance.high)} ${chance.apart ? "✓ yes" : "✗ no"}` : ""}`;
    },
    symbols: () => [["low, high", "the ends of the 95 % interval: where the true rate lies, as far as so few tries can tell"]],
    targets: ["#lr-watch .lr-story-outcome", "#lr-compare .lr-arms-box", "#lr-compare"],
    enter: (stage, run) => stage.setPoint(run.S),
  },
  {
    id: "training",
    heading: "Training: what would be learnt",
    say: () => ["Training makes the rescued text likelier as a reply to the plain question. In RL it joins the failed tries as one that succeeded, so advantages are no longer all 0."],
    here(run) {
      const { revised, projected } = run.outcome ?? {};
      if (!revised?.n) return ["nothing has been continued yet, so there is nothing to train on."];
      const right = revised.correct + (projected?.correct ?? 0);
      if (!right) return ["no try came out right, so this run has nothing to train on."];
      const held = right === 1 ? "1 right try is in “Download this run”." : `${right} right tries are in “Download this run”.`;
      if (!projected?.n || projected.correct) return [held];
      return [`${held} Caution: ${right === 1 ? "its" : "their"} text begins with the projected prefix, from which ${rate(projected)} were right.`];
    },
    formula: () => "loss = − mean log *p*(token | question, tokens before)",
    symbols: () => [["*p*", "how likely the model finds the rescued text’s next token"], ["log", "so that unlikely tokens weigh most"]],
    targets: ["#lr-train", "#lr-export"],
    enter: (stage, run) => stage.setPoint(run.S),
  },
];
