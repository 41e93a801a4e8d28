"""Is a rescue real? The controls of one run.

The decoy: the same prefix, moved by the same steps under the same settings, but toward a plausible wrong answer. Where
the decoy is reached about as often as the gold answer was, the prefix hands over whatever it is told to, and the rescue
says nothing about reasoning. Ours; the method's public text names no controls.

What it does not do: decide. It counts; `views/` put the counts in words. The other controls (unrevised prefix,
projection) are arms of `Run.continue_from`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from explorer.errors import UserError
from explorer.pipeline import STREAM_AFTER, Cancelled, Run, never
from explorer.records import Continuation, Control, SamplingConfig, Start
from explorer.revise import evaluate, project, revise
from explorer.rollout import JudgeLike, Sampling, sample_and_judge
from explorer.stopwatch import Stopwatch


@dataclass
class DecoyState:
    """Where the control stands: `steps` of `of` taken, then the sampling; `control` when it is done."""

    target: str
    of: int
    steps: int = 0
    sampling: Sampling | None = None
    control: Control | None = None


def plausible_decoy(gold: str, taken: set[str]) -> str | None:
    """A wrong answer of the same make as the gold one: the nearest number above or below it that none of `taken` is,
    with as many digits; None where the gold answer is not a plain number or fraction."""
    text = gold.strip()
    whole = re.fullmatch(r"-?\d{1,15}", text)
    if whole:
        value, width = int(text), len(text.lstrip("-"))
        for distance in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 10, -10, 11, -11):
            candidate = str(value + distance)
            if len(candidate.lstrip("-")) == width and (value + distance < 0) == (value < 0) and candidate not in taken:
                return candidate
        return None
    point = re.fullmatch(r"-?\d{1,12}\.(\d{1,6})", text)
    if point:
        # A price of 2.50 is mistaken for 2.60 rather than for 2.51.
        places = len(point[1]) - (point[1].endswith("0") and len(point[1]) > 1)
        for distance in (1, -1, 2, -2, 3):
            candidate = Decimal(text) + distance * Decimal(10) ** -places
            written = f"{candidate:.{len(point[1])}f}"
            if candidate > 0 and written not in taken:
                return written
        return None
    part = re.fullmatch(r"(-?\d{1,9})/(\d{1,9})", text)
    if part and int(part[2]):
        for distance in (1, -1, 2, -2, 3):
            candidate = Fraction(int(part[1]) + distance, int(part[2]))
            written = f"{int(part[1]) + distance}/{part[2]}"
            if candidate > 0 and candidate != Fraction(text) and written not in taken:
                return written
    return None


def choose_decoy(run: Run) -> str:
    """The decoy for a run: near the gold answer, and nothing that the model says anyway.

    Raises:
        UserError: the gold answer is no plain number or fraction.
    """
    said = {item.answer.strip() for item in (*run.before, *run.after) if item.answer}
    target = plausible_decoy(run.problem.answer, said)
    if target is None:
        raise UserError(
            f"No wrong answer like {run.problem.answer!r} could be made up: the decoy control needs a number or a "
            "fraction."
        )
    return target


def decoy_control(
    run: Run,
    judge: JudgeLike,
    point: int,
    sampling: SamplingConfig,
    target: str | None = None,
    cancelled: Cancelled = never,
) -> Iterator[DecoyState]:
    """Revise the run's prefix toward a wrong answer by as many steps, continue from it, and count how often it is
    reached.

    Args:
        run: a run with at least `point` steps; its `controls` gain the result, replacing an earlier one at that point.
        judge: compares answers.
        point: how many steps.
        sampling: the budget; to be the same as that of the rescue.
        target: the wrong answer; None chooses one.
        cancelled: true ends it, and nothing is kept of a half control.

    Raises:
        UserError: nothing was revised yet, the target is the gold answer, or no decoy can be made up.
    """
    if run.split is None or run.config is None or not 0 < point <= len(run.steps):
        raise UserError("Take some steps first: there is no revision to check yet.")
    target = choose_decoy(run) if target is None else target
    if target == run.problem.answer:
        raise UserError("That is the gold answer: a decoy is a wrong one.")
    watch = Stopwatch()
    model, split = run.model, run.split
    anchor = model.anchor(split.prefix_token_ids, run.config.connector, target, split.continuation_token_ids)
    objective = run.objective_of(anchor, run.config)
    state = DecoyState(target, point)
    with watch.paused():
        yield state
    x = None
    for step, moved in revise(model, objective, split):
        x, state.steps = moved, step.k + 1
        with watch.paused():
            yield state
        if cancelled():
            return
        if state.steps == point:
            break
    if x is None:
        raise UserError("No step toward the decoy lowers its objective, so there is nothing to compare with.")
    final = evaluate(model, objective, x)
    ids = tuple(project(model, x, run.config).tolist())
    text = model.decode(ids)
    for state.sampling in sample_and_judge(
        model, run.context, x, sampling, target, judge, STREAM_AFTER, before=ids, cancelled=cancelled
    ):
        with watch.paused():
            yield state
    if cancelled():
        return
    seconds, spent = round(watch.seconds, 4), objective.forward_tokens + state.sampling.forward_tokens
    state.control = Control(
        kind="decoy",
        target=target,
        step=point,
        anchor=anchor,
        final=final,
        sampling=sampling,
        continuations=tuple(
            Continuation(**dict(item), step=state.steps, start=Start.REVISED, prefix_token_ids=ids, prefix_text=text)
            for item in state.sampling.finished()
        ),
        forward_tokens=spent,
        seconds=seconds,
    )
    run.controls = [item for item in run.controls if (item.kind, item.step) != ("decoy", point)] + [state.control]
    run.add_cost("controls", seconds, spent)
    yield state
