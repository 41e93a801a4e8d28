"""From records to what the browser's views are given: plain JSON-able dicts. Pure functions; the scripts in `assets/`
hold the other end.

Model text travels as data only (the scripts set it with textContent), tokens as their display text beside their ids.
Hull weights and the map's points
are not sent: both follow from step sizes and vertices, and the browser works them out exactly.

What it does not do: know Gradio, compute anything with a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from explorer.records import (
    Continuation,
    FinishReason,
    RevisionConfig,
    Rollout,
    SamplingConfig,
    Start,
    Trace,
    Verdict,
)
from explorer.split import SplitPoint
from explorer.statistics import apart, is_degenerate, reflection_markers, wilson_interval

TokenText = Callable[[int], str]
Payload = dict[str, Any]

ARMS = {
    Start.REVISED: ("Revised embeddings", "Goes on from the moved points themselves, which are mixtures of tokens."),
    Start.PROJECTED: (
        "Projected to tokens",
        "Goes on from the real token nearest to each moved point: does the rescue survive as text?",
    ),
    Start.ORIGINAL: (
        "Unrevised prefix",
        "Goes on from the prefix as it was, with the same number of samples: what plain resampling finds.",
    ),
}


def counts(rollouts: Sequence[Rollout]) -> Payload:
    """How many of how many, by verdict, with a Wilson 95 % interval of the rate of correct ones; the truncated and
    degenerate counted apart."""
    n = len(rollouts)
    by = {verdict.value: sum(r.verdict is verdict for r in rollouts) for verdict in Verdict}
    return {
        "n": n,
        **by,
        "truncated": sum(r.finish is FinishReason.LENGTH for r in rollouts),
        "degenerate": sum(is_degenerate(r.token_ids) for r in rollouts),
        "interval": list(wilson_interval(by["correct"], n)) if n else [0.0, 1.0],
    }


def rollouts_payload(
    trace: Trace,
    token_text: TokenText,
    *,
    state: str,
    message: str = "",
    drafts: Sequence[Sequence[int]] = (),
    rollouts: dict[int, Rollout] | None = None,
    tokens_per_second: float | None = None,
    split: SplitPoint | None = None,
    split_rollout: int | None = None,
    presets: Sequence[SplitPoint] = (),
    run_id: str = "",
) -> Payload:
    """The rollouts view.

    Args:
        trace: the run so far (problem, sampling settings, `before`).
        token_text: display text of a token id.
        state: sampling, judging, done, cancelled or failed.
        message: a sentence for people.
        drafts: token ids per row while sampling; `before` is shown when there are none.
        rollouts: finished rows while sampling, by row.
        tokens_per_second: while sampling.
        split: where the chosen rollout is cut.
        split_rollout: which rollout is chosen.
        presets: the cuts on offer for it.
        run_id: names the run, for what is chosen of it.
    """
    finished = dict(enumerate(trace.before)) if rollouts is None else rollouts
    ids = drafts or [rollout.token_ids for rollout in trace.before]
    cards = []
    for index, row in enumerate(ids):
        rollout = finished.get(index)
        cards.append(
            {
                "index": index,
                "tokens": [token_text(token) for token in row],
                "verdict": rollout.verdict.value if rollout else None,
                "answer": rollout.answer if rollout else None,
                "finish": rollout.finish.value if rollout else None,
                "running": rollout is None and state == "sampling",
            }
        )
    summary = None
    if finished and state != "sampling":
        summary = counts(list(finished.values()))
        summary["zero_hit"] = summary["correct"] == 0
    chosen = None
    if split is not None and split_rollout is not None and split.m is not None:
        chosen = {
            "rollout": split_rollout,
            "m": split.m,
            "c": _scored(trace, split_rollout, split.m),
            "name": split.name,
            "why": split.why,
        }
    return {
        "run_id": run_id,
        "state": state,
        "message": message,
        "problem": trace.problem.model_dump(),
        "sampling": trace.sampling.model_dump(),
        "done": len(finished),
        "tokens_per_second": tokens_per_second,
        "rollouts": cards,
        "summary": summary,
        "split": chosen,
        "presets": None
        if not presets or split_rollout is None
        else {
            "rollout": split_rollout,
            "points": [
                {"name": p.name, "label": PRESET_LABELS.get(p.name, p.name), "m": p.m, "why": p.why} for p in presets
            ],
        },
    }


def _scored(trace: Trace, rollout: int, m: int) -> int:
    """How many tokens are pushed away where a rollout is cut after `m`: counted where that split is laid."""
    laid = trace.split
    if laid is not None and (laid.rollout, len(laid.prefix_token_ids)) == (rollout, m):
        return len(laid.continuation_token_ids)
    most = (trace.config or RevisionConfig()).max_continuation_tokens
    return min(len(trace.before[rollout].token_ids) - m, most)


PRESET_LABELS = {
    "fixed": "Fixed length",
    "fraction": "Half of it",
    "first-error": "Before the first wrong result",
    "before-answer": "Before the final answer",
    "custom": "Chosen by hand",
}


def stage_payload(
    trace: Trace,
    token_text: TokenText,
    *,
    run_id: str,
    live: bool,
    status: str,
    message: str = "",
    map_key: str | None = None,
    map_status: Payload | None = None,
    joint: Payload | None = None,
    recorded: Payload | None = None,
    nonce: int = 0,
) -> Payload | None:
    """The stage: map, player, token strip, curves. None before a split.

    Args:
        trace: the run so far.
        token_text: display text of a token id.
        run_id: names the run; the view keeps its place as long as it stays the same.
        live: whether further steps can be computed.
        status: as on the trace, or running or paused.
        message: a sentence for people.
        map_key: which vocabulary map to fetch, if there is one.
        map_status: {state, progress, message} of that map.
        joint: the layout that UMAP gives when steps and neighbourhood are fitted together, or its progress.
        recorded: {id, title, date} of a recorded run.
        nonce: counts what a person opened, so that opening the same run again is a change.
    """
    if trace.split is None or trace.anchor is None or trace.config is None:
        return None
    mentioned = {*trace.split.prefix_token_ids, *trace.split.continuation_token_ids, *trace.anchor.token_ids}
    for step in trace.steps:
        mentioned.update(step.vertices)
        mentioned.update(step.nearest)
    if joint:
        mentioned.update(int(row[0]) for row in joint.get("neighbours") or ())
    norms = trace.vocabulary.norms if trace.vocabulary else {}
    return {
        "run_id": run_id,
        "live": live,
        "status": status,
        "message": message,
        "model": trace.model.model_dump(),
        "map_key": map_key,
        "map_status": map_status or {"state": "absent", "progress": 0.0, "message": ""},
        "prefix": list(trace.split.prefix_token_ids),
        "continuation": list(trace.split.continuation_token_ids),
        "anchor": trace.anchor.model_dump(mode="json"),
        "tokens": {str(token): token_text(token) for token in sorted(mentioned)},
        "config": trace.config.model_dump(mode="json"),
        "steps": [_rounded(step.model_dump(mode="json")) for step in trace.steps],
        "final": _rounded(trace.final.model_dump()) if trace.final else None,
        "joint": joint,
        "recorded": recorded,
        "nonce": nonce,
        "norms": {str(token): norms[token] for token in sorted(mentioned) if token in norms},
        "median_norm": trace.vocabulary.median_norm if trace.vocabulary else None,
    }


def _rounded(values: Payload) -> Payload:
    """Six significant digits are more than a screen can show; the trace on disk keeps them all."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, list | tuple):
            return [short(item) for item in value]
        return value

    return {key: value if key == "step_size" else short(value) for key, value in values.items()}


def compare_payload(
    trace: Trace,
    token_text: TokenText,
    decode: Callable[[Sequence[int]], str],
    *,
    state: str,
    point: int,
    sampling: SamplingConfig,
    continuations: Sequence[Continuation],
    message: str = "",
    running: Start | None = None,
    drafts: Sequence[Sequence[int]] = (),
    drafted: dict[int, Rollout] | None = None,
) -> Payload | None:
    """Before and after, side by side, with the three arms at one budget.

    Args:
        trace: the run (problem, split, `before`).
        token_text: display text of a token id.
        decode: token ids to text, for the projected prefix.
        state: sampling, judging, done, cancelled or failed.
        point: the trajectory's point that the revised arm went on from.
        sampling: the budget of each arm.
        continuations: finished ones at that point, all arms.
        message: a sentence for people.
        running: the arm being sampled, with its `drafts` (token ids per row) and finished rows `drafted`.
    """
    if trace.split is None:
        return None
    failed = trace.before[trace.split.rollout]
    m = len(trace.split.prefix_token_ids)
    tail = failed.token_ids[m:]
    arms = []
    for start, (label, explanation) in ARMS.items():
        done = [item for item in continuations if item.start is start]
        rows = [_continuation(item, tail, token_text) for item in done]
        if start is running:
            finished = drafted or {}
            done = list(finished.values())
            rows = [
                _continuation(finished[index], tail, token_text) if index in finished else _draft(ids, tail, token_text)
                for index, ids in enumerate(drafts)
            ]
        ids = trace.split.prefix_token_ids
        if start is not Start.ORIGINAL and 0 < point <= len(trace.steps):
            ids = trace.steps[point - 1].nearest
        tally = counts(done)
        arms.append(
            {
                "start": start.value,
                "label": label,
                "explanation": explanation,
                "prefix": [token_text(token) for token in ids],
                **tally,
                "n": sampling.n,
                "done": len(done),
                "mean_tokens": sum(len(r.token_ids) for r in done) / len(done) if done else None,
                "markers_per_rollout": sum(sum(reflection_markers(r.text).values()) for r in done) / len(done)
                if done
                else None,
                "rollouts": rows,
            }
        )
    return {
        "state": state,
        "message": message,
        "step": point,
        "steps_total": len(trace.steps),
        "n": sampling.n,
        "sampling": sampling.model_dump(),
        "answer": trace.problem.answer,
        "before": {
            "prefix": [token_text(token) for token in trace.split.prefix_token_ids],
            "continuation": [token_text(token) for token in tail],
            "verdict": failed.verdict.value,
            "answer": failed.answer,
            "finish": failed.finish.value,
            "n_tokens": len(tail),
            "markers": reflection_markers(decode(tail)),
        },
        "arms": arms,
        "rescue": rescue_sentence(arms, point, controlled(trace, point)) if state in ("done", "cancelled") else None,
    }


def _continuation(item: Rollout, tail: Sequence[int], token_text: TokenText) -> Payload:
    return {
        "tokens": [token_text(token) for token in item.token_ids],
        "verdict": item.verdict.value,
        "answer": item.answer,
        "finish": item.finish.value,
        "n_tokens": len(item.token_ids),
        "markers": reflection_markers(item.text),
        "shared": shared_length(item.token_ids, tail),
        "degenerate": is_degenerate(item.token_ids),
        "running": False,
    }


def _draft(ids: Sequence[int], tail: Sequence[int], token_text: TokenText) -> Payload:
    return {
        "tokens": [token_text(token) for token in ids],
        "verdict": None,
        "answer": None,
        "finish": None,
        "n_tokens": len(ids),
        "markers": {},
        "shared": shared_length(ids, tail),
        "degenerate": False,
        "running": True,
    }


def shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences share: they part at that index."""
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))


def controlled(trace: Trace, point: int) -> Payload | None:
    """{target, correct, n, interval} of the decoy control at a point, if it was run there."""
    for control in trace.controls:
        if control.kind == "decoy" and control.step == point and control.continuations:
            return {"target": control.target, **counts(control.continuations)}
    return None


def exposes(control: Payload, gold: Payload) -> bool:
    """Whether a wrong answer is reached, and no less often than the gold one as far as the 95 % intervals tell: then
    there is nothing to call a rescue. Both as `counts` makes them."""
    return control["correct"] > 0 and not apart(control["interval"], gold["interval"])


def rescue_sentence(arms: Sequence[Payload], point: int, decoy: Payload | None = None) -> Payload:
    """What the counts of the three arms say, in plain words, and what they do not say.

    Args:
        arms: the three, as `compare_payload` makes them.
        point: the step that was continued.
        decoy: what `controlled` gives.
    """
    by = {arm["start"]: arm for arm in arms}
    revised, projected, original = by["revised"], by["projected"], by["original"]
    if not revised["done"]:
        return {"rescued": False, "sentence": "No continuation of the revised prefix has finished yet.", "caveat": ""}

    def rate(arm: Payload) -> str:
        return f"{arm['correct']} of {arm['done']}"

    if point == 0:
        return {
            "rescued": False,
            "sentence": f"Step 0 is the unrevised prefix: {rate(revised)} continuations are correct.",
            "caveat": "Take some steps first to see a revision.",
        }
    rescued = revised["correct"] > 0
    taken = "1 step" if point == 1 else f"{point} steps"
    exposed = decoy is not None and exposes(decoy, revised)
    sentence = (
        f"{'Rescue in doubt' if exposed else 'Rescued'}: after {taken} {rate(revised)} continuations are correct"
        if rescued
        else f"Not rescued: after {taken} none of {revised['done']} continuations is correct"
    )
    if original["done"]:
        sentence += f"; the unrevised prefix reaches {rate(original)}"
    if projected["done"]:
        sentence += f", the projected tokens {rate(projected)}"
    sentence += "."
    caveat = ""
    if rescued and original["done"]:
        if revised["interval"][0] > original["interval"][1]:
            caveat = "The intervals are apart, so this is more than luck of sampling."
            if decoy is None:
                caveat += " Whether it reasoned or was handed the answer is for the decoy control to say."
        else:
            caveat = (
                "The intervals overlap, so plain resampling may find it as often: sample more before believing it. "
                "And a rescue can be the answer smuggled in by the prefix."
            )
        if decoy is not None:
            caveat += (
                f" Moved the same way toward the wrong answer {decoy['target']}, {decoy['correct']} of {decoy['n']} "
                + (
                    "reach that one: the prefix does not hand over just any answer."
                    if decoy["correct"] == 0
                    else "reach that one instead: some or all of this rescue may be the answer handed over."
                )
            )
        if projected["done"] and projected["correct"] == 0:
            caveat += (
                " It does not survive projection to real tokens: "
                "the text of a training trace would not lead the model there."
            )
    return {"rescued": rescued, "sentence": sentence, "caveat": caveat}
