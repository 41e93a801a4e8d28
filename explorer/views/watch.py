"""What opens first: the gallery of recorded runs, and the story of the run on the stage (problem, zero-hit, the failed
rollout with its cut, settings, outcome, controls). Pure functions from records; `assets/watch.js` shows them.

Every number is counted in a trace; only title and lesson of a recorded run are written by hand.

What it does not do: read files, know Gradio, or judge whether a rescue is real beyond what the counts show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from explorer.recorded import RecordedRun
from explorer.records import Control, Hull, Projection, Start, StepRule, Trace, Verdict
from explorer.views.payloads import exposes
from explorer.views.success import by_step, percent, rate, spread, tally, unrevised

TokenText = Callable[[int], str]
Payload = dict[str, Any]


def watch_payload(
    recorded: Sequence[RecordedRun],
    shown: Trace | None,
    token_text: TokenText,
    *,
    run_id: str | None,
    replayable: bool = False,
    why_not: str = "",
    note: str = "",
) -> Payload:
    """The gallery and the story strip.

    Args:
        recorded: the runs on offer, in the order they are shown.
        shown: the run on the stage; None when there is none.
        token_text: display text of a token id of `shown`.
        run_id: names the run on the stage; the id of a recorded run makes it the current one.
        replayable: the run can be computed anew, live, on this server.
        why_not: a sentence that says why it can't.
        note: what to know before it is.
    """
    current = next((run for run in recorded if run.id == run_id), None)
    return {
        "runs": [
            {
                "id": run.id,
                "title": run.title,
                "lesson": run.lesson,
                "kind": run.kind,
                "before": tally(run.trace.before),
                "after": (outcome(run.trace) or {}).get("revised"),
                "outcome": outcome_sentence(run.trace),
                "mark": outcome_mark(run.trace),
            }
            for run in recorded
        ],
        "current": current.id if current else None,
        "story": None if shown is None else _story(shown, current, token_text, run_id, replayable, why_not, note),
    }


def _story(
    trace: Trace,
    recorded: RecordedRun | None,
    token_text: TokenText,
    run_id: str | None,
    replayable: bool,
    why: str,
    note: str,
) -> Payload:
    before = tally(trace.before)
    return {
        "run_id": run_id,
        "title": recorded.title if recorded else "",
        "lesson": recorded.lesson if recorded else "",
        "recorded": recorded is not None,
        "date": trace.created_at[:10],
        "model": trace.model.id,
        "dtype": trace.model.dtype,
        "device": trace.model.device,
        "seed": trace.sampling.seed,
        "question": trace.problem.question,
        "answer": trace.problem.answer,
        "n": before["n"],
        "correct": before["correct"],
        "zero_hit": before["n"] > 0 and before["correct"] == 0,
        "sampling": trace.sampling.model_dump(),
        "failed": _failed(trace, token_text),
        "settings": settings_explained(trace),
        "outcome": outcome(trace),
        "controls": [control_payload(control, trace) for control in decoys(trace)],
        "replayable": replayable,
        "why_not": "" if replayable else why,
        "note": note if replayable else "",
    }


def _failed(trace: Trace, token_text: TokenText) -> Payload | None:
    """The failed rollout that was cut: prefix, failed continuation, and what comes after them unused."""
    if trace.split is None:
        return None
    rollout = trace.before[trace.split.rollout]
    prefix, continuation = trace.split.prefix_token_ids, trace.split.continuation_token_ids
    return {
        "index": trace.split.rollout,
        "prefix": [token_text(token) for token in prefix],
        "continuation": [token_text(token) for token in continuation],
        "rest": [token_text(token) for token in rollout.token_ids[len(prefix) + len(continuation) :]],
        "answer": rollout.answer,
        "verdict": rollout.verdict.value,
    }


# ---- outcome ----


def outcome(trace: Trace) -> Payload | None:
    """The three arms at the last step that was continued, each {correct, n, interval, degenerate} or None; None when
    nothing revised was continued. Never the best of several steps."""
    steps = by_step(trace)
    last = max(steps, default=0)
    if last == 0:
        return None

    def arm(start: Start) -> Payload | None:
        items = [item for item in trace.after if item.start is start and item.step == last]
        return tally(items) if items else None

    base = unrevised(trace)
    return {
        "step": last,
        "steps_total": len(trace.steps),
        "revised": tally(steps[last]),
        "projected": arm(Start.PROJECTED),
        "original": arm(Start.ORIGINAL) or (tally(base) if base else None),
    }


def outcome_sentence(trace: Trace) -> str:
    """'0 of 8 rollouts right → 4 of 8 after revision, 95 % interval 22–78 %'."""
    before = f"{rate(tally(trace.before))} rollouts right"
    ends = outcome(trace)
    if ends is None:
        return f"{before}; nothing was sampled after revision"
    revised = ends["revised"]
    when = "after revision" if ends["step"] == ends["steps_total"] else f"after step {ends['step']}"
    loops = f", {revised['degenerate']} in loops" if 2 * revised["degenerate"] >= revised["n"] else ""
    return f"{before} → {rate(revised)} {when}, 95 % interval {spread(revised)}{loops}"


def outcome_mark(trace: Trace) -> Payload | None:
    """{verdict, word} for a badge: rescued, rescued with a decoy reached too, or not rescued."""
    ends = outcome(trace)
    if ends is None:
        return None
    if not ends["revised"]["correct"]:
        return {"verdict": Verdict.WRONG.value, "word": "Not rescued"}
    if any(_exposes(control, trace) for control in decoys(trace)):
        return {"verdict": Verdict.UNJUDGED.value, "word": "Rescue in doubt"}
    return {"verdict": Verdict.CORRECT.value, "word": "Rescued"}


# ---- controls ----


def decoys(trace: Trace) -> list[Control]:
    """The controls that the story tells; the others are for the audit's table."""
    return [control for control in trace.controls if control.kind == "decoy"]


def control_payload(control: Control, trace: Trace) -> Payload:
    """A control's counts and what they say: {kind, target, step, reached, n, interval, sentence}. A continuation counts
    as reached where its verdict says that the control's target came out."""
    counted = tally(control.continuations)
    return {
        "kind": control.kind,
        "target": control.target,
        "step": control.step,
        "reached": counted["correct"],
        "n": counted["n"],
        "interval": counted["interval"],
        "sentence": _control_sentence(control, trace, counted),
    }


def _gold(control: Control, trace: Trace) -> Payload | None:
    """The gold answer's counts at the control's step, or at the one that the outcome is told of."""
    items = by_step(trace).get(control.step)
    if items and control.step > 0:
        return tally(items)
    ends = outcome(trace)
    return ends["revised"] if ends else None


def _exposes(control: Control, trace: Trace) -> bool:
    """The wrong answer is reached, and no less often than the gold one as far as the intervals tell."""
    counted, gold = tally(control.continuations), _gold(control, trace)
    return gold is not None and exposes(counted, gold)


def _control_sentence(control: Control, trace: Trace, counted: Payload) -> str:
    gold = _gold(control, trace)
    if not counted["n"]:
        return f"Moved toward the wrong answer {control.target} instead, nothing was sampled: it says nothing yet."
    said = f"Moved toward the wrong answer {control.target} instead, {rate(counted)} reach that ({spread(counted)})"
    if gold is None or not gold["correct"]:
        return f"{said}." if counted["correct"] else f"{said}; there is no rescue to doubt."
    if not counted["correct"]:
        doubt = "" if counted["interval"][1] < gold["interval"][0] else ", though so small a sample proves little"
        return f"{said}: the prefix does not hand over just any answer{doubt}."
    if counted["correct"] * gold["n"] >= gold["correct"] * counted["n"]:
        return f"{said}: the prefix hands over whatever it is pulled to, so the rescue is no sign of reasoning."
    if _exposes(control, trace):
        return f"{said}: the two can’t be told apart, so the rescue may be the answer handed over, not reasoning."
    return f"{said}: the gold answer comes out clearly more often, yet some of it may be handed over."


# ---- settings ----

RULES = {
    StepRule.CONSTANT: "constant",
    StepRule.HARMONIC: "2/(k+2)",
    StepRule.LINE_SEARCH: "line search",
}
PROJECTIONS = {Projection.L2: "nearest by distance (L2)", Projection.COSINE: "nearest by angle (cosine)"}
HULLS = {
    Hull.PLAUSIBLE: "tokens the model itself finds likely there",
    Hull.LIKE_NORM: "tokens whose embedding is about as long",
}


def settings_explained(trace: Trace) -> list[list[str]]:
    """Everything that shaped the run as [name, value, explanation]."""
    sampling = trace.sampling
    rows = [
        [
            "Rollouts N",
            str(sampling.n),
            "How many answers were sampled before any revision; zero-hit means none right.",
        ],
        ["Temperature", f"{sampling.temperature:g}", "Higher draws less likely tokens more often."],
        ["Top-p", f"{sampling.top_p:g}", "Only the likeliest tokens that together hold this probability are drawn."],
        ["Longest rollout", f"{sampling.max_new_tokens} tokens", "A rollout that reaches this is cut off."],
        ["Seed", str(sampling.seed), "The same seed, model and machine draw the same rollouts."],
    ]
    split, config = trace.split, trace.config
    if split is None or config is None:
        return rows
    rows += [
        ["Prefix M", f"{len(split.prefix_token_ids)} tokens", "The part of the failed rollout whose points are moved."],
        [
            "Failed continuation C",
            f"{len(split.continuation_token_ids)} tokens",
            "What followed the prefix and went wrong: the revision makes it less likely.",
        ],
        ["Anchor", trace.anchor.text, "What the revision makes likely after the prefix; only the answer is scored."],
        ["Steps K", _steps(len(trace.steps), config.steps), "Frank-Wolfe moves, each toward real tokens."],
        ["Step size γ", _step_size(trace), _step_meaning(trace)],
        ["Away weight λ", f"{config.away_weight:g}", _away_meaning(config.away_weight)],
    ]
    if config.toward_weight != 1:
        rows.append(["Toward weight", f"{config.toward_weight:g}", "How much the gold answer's loss counts."])
    if config.ban_answer_tokens:
        rows.append(["Answer ban", "on", "No position may be moved toward a token of the answer itself."])
    if config.hull is not Hull.VOCABULARY:
        many = f", {config.hull_size} at each position" if config.hull is Hull.PLAUSIBLE else ""
        rows.append(["Hull", f"{HULLS[config.hull]}{many}", "Which tokens a position may be pulled to."])
    rows.append(["Projection", PROJECTIONS[config.projection], "How moved points are turned back into real tokens."])
    return rows


def _steps(taken: int, planned: int) -> str:
    return f"{taken}, {taken - planned} beyond the plan" if taken > planned else f"{taken} of {planned} planned"


def _step_size(trace: Trace) -> str:
    rule = trace.config.step_rule
    return f"{trace.config.step_size:g}, {RULES[rule]}" if rule is StepRule.CONSTANT else RULES[rule]


def _step_meaning(trace: Trace) -> str:
    """How far each step goes, and what that leaves of the start: the product of (1 − γ), exactly."""
    how = "How far each step goes toward its token: 0 stays, 1 lands on it."
    if not trace.steps:
        return how
    left = prod(1 - step.step_size for step in trace.steps)
    return f"{how} After all steps at least {percent(left)} of each point’s weight is still on its original token."


def _away_meaning(weight: float) -> str:
    if weight == 0:
        return "The failed continuation counts for nothing: only the pull toward the answer is at work."
    return "How much pushing the failed continuation away counts beside the pull toward the answer."
