"""Two runs beside each other: what was set differently, what came out, and what that does and doesn't show.

Plain JSON-able dicts for `assets/duel.js`. Settings differ when their exact values do; measured numbers differ when
their four shown digits do. Rates carry Wilson's 95 % interval (`statistics.py`); the rule that overlapping intervals
prove nothing is deliberately strict.

What it does not do: know Gradio, compute anything with a model, choose which runs may be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer.records import Continuation, Hull, SamplingConfig, Start, StepRule, Trace, Verdict
from explorer.statistics import is_degenerate, wilson_interval

Payload = dict[str, Any]

STEP_RULES = {
    StepRule.CONSTANT: "constant γ",
    StepRule.HARMONIC: "2/(k+2)",
    StepRule.LINE_SEARCH: "line search, γ at most",
}
HULLS = {
    Hull.VOCABULARY: "the whole vocabulary",
    Hull.PLAUSIBLE: "tokens likely at that place",
    Hull.LIKE_NORM: "tokens of like norm",
}
ARMS = (
    (Start.REVISED, "Revised: correct"),
    (Start.PROJECTED, "Projected: correct"),
    (Start.ORIGINAL, "Unrevised: correct"),
)
NONE = "–"


def duel_payload(
    a: Trace | None,
    b: Trace | None,
    options: Sequence[tuple[str, str, str]],
    against: str | None,
    title_a: str,
    title_b: str,
) -> Payload:
    """The comparison of the run on the stage with another one.

    Args:
        a: the run on the stage.
        b: the run it is compared with; None while no comparison is on.
        options: (id, label, group) of the runs on offer.
        against: the id of `b` among them; None while no comparison is on.
        title_a: what people call run A.
        title_b: what people call run B.

    Returns:
        {options: [{id, label, group}], against, titles: [A, B] | None, rows: [{label, a, b, differs, kind, why}],
        same_problem, notes: [sentences]}. `kind` is "setting" or "outcome"; `a` and `b` are text as shown; `why` says
        in one sentence what the row means. Without both runs there are no rows, no titles and nothing to say, and
        `same_problem` is False.
    """
    listed = [{"id": id_, "label": label, "group": group} for id_, label, group in options]
    if a is None or b is None or against is None:
        return {
            "options": listed,
            "against": None,
            "titles": None,
            "rows": [],
            "same_problem": False,
            "notes": [],
        }
    same_problem = _problem(a) == _problem(b)
    settings, outcomes = _settings(a, b), _outcomes(a, b)
    return {
        "options": listed,
        "against": against,
        "titles": [title_a, title_b],
        "rows": [*settings, *outcomes],
        "same_problem": same_problem,
        "notes": _notes(a, b, same_problem, sum(row["differs"] for row in settings)),
    }


# ---- settings ----


def _settings(a: Trace, b: Trace) -> list[Payload]:
    """One row for everything that shaped a run, equal or not."""

    def row(label: str, read: Any, why: str) -> Payload:
        """`read(trace)` gives the exact value and its text."""
        (exact_a, text_a), (exact_b, text_b) = read(a), read(b)
        if exact_a != exact_b and text_a == text_b:
            text_b += " (not the same one)"
        return _row(label, text_a, text_b, exact_a != exact_b, "setting", why)

    def config(name: str, show: Any = str) -> Any:
        def read(trace: Trace) -> tuple[Any, str]:
            value = getattr(trace.config, name) if trace.config else None
            return value, NONE if value is None else show(value)

        return read

    def sampling(name: str, show: Any = str) -> Any:
        return lambda trace: (getattr(trace.sampling, name), show(getattr(trace.sampling, name)))

    return [
        _row(
            "Model",
            a.model.id,
            b.model.id if a.model.id != b.model.id or _same_model(a, b) else f"{b.model.id} (other weights)",
            not _same_model(a, b),
            "setting",
            "Whose embeddings are moved and whose losses steer.",
        ),
        row(
            "Number format",
            lambda t: (t.model.dtype, t.model.dtype),
            "Fewer bits round the gradients, and near ties the oracle may pick another token.",
        ),
        row(
            "Problem",
            lambda t: (_problem(t), f"{t.problem.question} (answer {t.problem.answer})"),
            "The question and the gold answer the revision is pulled toward.",
        ),
        row("Failed rollout", _rollout, "The failed try whose reasoning prefix is revised."),
        row(
            "Prefix length M",
            lambda t: (
                (len(t.split.prefix_token_ids), _tokens(len(t.split.prefix_token_ids))) if t.split else (None, NONE)
            ),
            "How much of the failed try is kept and moved: the split.",
        ),
        row(
            "Failed continuation, at most",
            config("max_continuation_tokens", _tokens),
            "How much of the failed text the away loss looks at.",
        ),
        row("Steps planned K", config("steps"), "How often every position is pulled toward one token."),
        row("Step rule", config("step_rule", STEP_RULES.get), "How far each step goes."),
        row("Step size γ", _gamma, "The share of the way to its vertex that a position goes in one step."),
        row("Away weight λ", config("away_weight", _exact), "How strongly the revision flees the failed continuation."),
        row("Toward weight", config("toward_weight", _exact), "How strongly it is drawn to the gold answer."),
        row(
            "Connector",
            config(
                "connector",
                lambda text: f"“{text.replace(chr(10), '⏎')}”" if text else "none: the answer follows directly",
            ),
            "The words between the prefix and the gold answer while the toward loss is measured.",
        ),
        row(
            "Answer's tokens banned",
            config("ban_answer_tokens", lambda banned: "yes" if banned else "no"),
            "Banned, the oracle can't pull a position straight to the answer.",
        ),
        row(
            "Hull",
            config("hull", HULLS.get),
            "Which tokens a position may be pulled to.",
        ),
        row(
            "Plausible tokens",
            config("hull_size"),
            "How many of a position's likeliest tokens the plausible hull has; the others do not look at it.",
        ),
        row(
            "Projection by",
            config("projection", lambda projection: {"l2": "L2 distance", "cosine": "cosine"}[projection.value]),
            "Which distance decides the nearest token.",
        ),
        row(
            "Ends early at a gap of",
            config("gap_tolerance", lambda gap: _exact(gap) if gap else "never"),
            "Below this Frank-Wolfe gap no further step is taken.",
        ),
        row("Seed", sampling("seed"), "Of the sampling; nothing in a revision is random."),
        row("Rollouts N", sampling("n"), "How many tries were sampled before the revision."),
        row("Temperature", sampling("temperature", _exact), "How boldly tokens are sampled."),
        row("Top-p", sampling("top_p", _exact), "The share of probability that sampling draws from."),
        row("New tokens, at most", sampling("max_new_tokens"), "How long a rollout may become."),
        row(
            "Continuations' sampling", _after_sampling, "How what comes after the prefix was drawn, but for how often."
        ),
    ]


def _row(label: str, a: str, b: str, differs: bool, kind: str, why: str) -> Payload:
    return {"label": label, "a": a, "b": b, "differs": differs, "kind": kind, "why": why}


def _exact(value: float) -> str:
    return f"{value:.12g}"


def _tokens(n: int) -> str:
    return f"{n} token" if n == 1 else f"{n} tokens"


def _same_model(a: Trace, b: Trace) -> bool:
    """Fingerprints hash the embeddings in their number format, so they tell only between runs in the same one."""
    if a.model.dtype == b.model.dtype and a.model.fingerprint and b.model.fingerprint:
        return a.model.same_weights(b.model)
    return a.model.id == b.model.id


def _problem(trace: Trace) -> tuple[str, str]:
    return trace.problem.question.strip(), trace.problem.answer.strip()


def _rollout(trace: Trace) -> tuple[Any, str]:
    if trace.split is None:
        return None, NONE
    index = trace.split.rollout
    if index >= len(trace.before):
        return index, f"number {index + 1}"
    rollout = trace.before[index]
    answers = f"answers {rollout.answer}" if rollout.answer is not None else "no answer found"
    return rollout.token_ids, f"number {index + 1} of {len(trace.before)}, {answers}"


def _gamma(trace: Trace) -> tuple[Any, str]:
    if trace.config is None:
        return None, NONE
    if trace.config.step_rule is StepRule.HARMONIC:  # the rule alone decides, whatever γ says
        return "harmonic", "set by the rule"
    return trace.config.step_size, _exact(trace.config.step_size)


def _sampling_after(trace: Trace) -> SamplingConfig:
    """Runs of older versions don't say how they were continued: as they were sampled."""
    return trace.after_sampling or trace.sampling


def _after_sampling(trace: Trace) -> tuple[Any, str]:
    sampling = _sampling_after(trace)
    if sampling.model_copy(update={"n": trace.sampling.n}) == trace.sampling:
        return "as before", "as the rollouts"
    text = (
        f"temperature {_exact(sampling.temperature)}, top-p {_exact(sampling.top_p)}, "
        f"{sampling.max_new_tokens} tokens at most, seed {sampling.seed}"
    )
    return text, text


# ---- outcomes ----


def _outcomes(a: Trace, b: Trace) -> list[Payload]:
    """What came out of either run."""

    def row(label: str, read: Any, why: str) -> Payload:
        text_a, text_b = read(a), read(b)
        return _row(label, text_a, text_b, text_a != text_b, "outcome", why)

    def final(name: str) -> Any:
        return lambda trace: _short(getattr(trace.final, name)) if trace.final else NONE

    rows = [
        row("Steps taken", lambda t: f"{len(t.steps)}, {t.status.value}", "How far the run got and how it ended."),
        row(
            "Toward loss at the end",
            final("toward_loss"),
            "How surprised the model is by the gold answer (nats per token): lower is better.",
        ),
        row(
            "Away loss at the end",
            final("away_loss"),
            "How surprised it is by its own failed text (nats per token): higher is better.",
        ),
        row("Objective at the end", final("objective"), "Toward weight × toward loss − λ × away loss."),
        row("Gap at the end", final("gap"), "How much a further straight step could still gain; 0 is converged."),
        row(
            "Positions that changed token",
            lambda t: f"{changed_positions(t)} of {len(t.split.prefix_token_ids)}" if t.split else NONE,
            "Positions whose nearest real token at the end is not the one they began with.",
        ),
        row(
            "Mean distance moved",
            lambda t: _short(sum(t.steps[-1].moved) / len(t.steps[-1].moved)) if t.steps else NONE,
            "L2 distance from the start in the model's embedding space, over all positions.",
        ),
    ]
    for start, label in ARMS:
        rows.append(row(label, lambda t, start=start: _rate(arm(t, start)), ARM_WORDS[start]))
    rows.append(
        row(
            "Revised: end in a loop",
            lambda t: _loops(arm(t, Start.REVISED)),
            "Degenerate text: a short piece repeated to the end.",
        )
    )
    return rows


ARM_WORDS = {
    Start.REVISED: (
        "Continuations of the moved points that end in the gold answer, with Wilson's 95 % interval of the rate. "
        "The answer may have been handed over by the prefix."
    ),
    Start.PROJECTED: "Continuations of the nearest real tokens. Only what survives here can become text for training.",
    Start.ORIGINAL: "Continuations of the prefix as it was: what plain resampling finds at the same budget.",
}


def _short(value: float) -> str:
    """Four significant digits, as a screen shows them, with a true minus sign."""
    return f"{value:.4g}".replace("-", "−")


def changed_positions(trace: Trace) -> int:
    """At how many positions the nearest token after the last step is not the one the prefix began with."""
    if trace.split is None or not trace.steps:
        return 0
    pairs = zip(trace.split.prefix_token_ids, trace.steps[-1].nearest, strict=True)
    return sum(before != after for before, after in pairs)


def sampled_point(trace: Trace) -> int | None:
    """The last point of the trajectory that revised continuations were sampled from; None before any was."""
    return max((item.step for item in trace.after if item.start is Start.REVISED), default=None)


def arm(trace: Trace, start: Start) -> list[Continuation]:
    """The continuations of one arm at `sampled_point`: all arms share one point and one budget."""
    point = sampled_point(trace)
    return [item for item in trace.after if item.start is start and item.step == point]


def _correct(items: Sequence[Continuation]) -> int:
    return sum(item.verdict is Verdict.CORRECT for item in items)


def _rate(items: Sequence[Continuation]) -> str:
    if not items:
        return "not sampled"
    low, high = wilson_interval(_correct(items), len(items))
    return f"{_correct(items)} of {len(items)} ({100 * low:.0f} to {100 * high:.0f}\u00a0%)"


def _loops(items: Sequence[Continuation]) -> str:
    return f"{sum(is_degenerate(item.token_ids) for item in items)} of {len(items)}" if items else "not sampled"


# ---- what may be concluded ----


def _notes(a: Trace, b: Trace, same_problem: bool, differing: int) -> list[str]:
    """What the table shows and what it does not, in plain words; the weightiest first."""
    notes = []
    if not same_problem:
        notes.append("These are different problems: compare the movement, not the counts.")
    if not _same_model(a, b):
        notes.append("These are different models: losses and distances are not on one scale.")
    if same_problem and differing == 0:
        notes.append("All settings are the same: what differs below is the machine's arithmetic or later sampling.")
    elif same_problem and differing > 1:
        notes.append(f"{differing} settings differ, so no single one of them explains the outcome.")
    if a.config and b.config and _weights_of_losses(a) != _weights_of_losses(b):
        notes.append("The objectives weigh the two losses differently: compare the losses, not the objectives.")
    if same_problem:
        notes += _count_notes(a, b)
    return notes


def _weights_of_losses(trace: Trace) -> tuple[float, float]:
    return trace.config.toward_weight, trace.config.away_weight


def _count_notes(a: Trace, b: Trace) -> list[str]:
    arms = arm(a, Start.REVISED), arm(b, Start.REVISED)
    missing = [name for name, items in zip("AB", arms, strict=True) if not items]
    if missing:
        which = "Neither run has" if len(missing) == 2 else f"Run {missing[0]} has no"
        return [f"{which} {'any ' if len(missing) == 2 else ''}continuations yet: there are no counts to compare."]
    notes = []
    (low_a, high_a), (low_b, high_b) = (wilson_interval(_correct(items), len(items)) for items in arms)
    if low_a <= high_b and low_b <= high_a:
        notes.append("The intervals overlap: these counts don't prove a difference.")
    else:
        better = "A" if low_a > high_b else "B"
        notes.append(
            f"The intervals of the revised counts are apart: that {better} reaches the answer more often is unlikely "
            "to be luck. Whether it reasoned its way there is for the controls to say."
        )
    budgets = [len(items) for items in arms]
    if budgets[0] != budgets[1]:
        notes.append(
            f"The sampling budgets differ ({budgets[0]} and {budgets[1]} continuations): "
            "compare rates and intervals, not counts."
        )
    of_a, of_b = _sampling_after(a), _sampling_after(b)
    names = {"temperature": "temperature", "top_p": "top-p", "max_new_tokens": "length limit"}
    unlike = [word for name, word in names.items() if getattr(of_a, name) != getattr(of_b, name)]
    if unlike:
        notes.append(f"The sampling differs in {_list(unlike)}: a difference in counts may come from that alone.")
    points = sampled_point(a), sampled_point(b)
    if points[0] != points[1]:
        notes.append(f"A was continued from point {points[0]}, B from point {points[1]}.")
    return notes


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
