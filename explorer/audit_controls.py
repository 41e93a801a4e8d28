"""The controls of a rescue besides the decoy: the same compute spent on plain sampling, and the revision done another
way, each at the rescue's step and budget (method.md, "The controls"). Ours; the method's public text names none.

- `fresh`, `unrevised`: rollouts of the plain prompt, continuations of the unrevised prefix, as many as cost what the
  revision and its continuations cost, in forward-token equivalents (a backward pass counts as one more forward).
- `ban`: the oracle may not pick the answer's tokens.
- `toward-only` (λ = 0), `away-only` (the answer is not looked at): the objective's ablations.
- `no-hull`: plain gradient descent; each position goes down its gradient exactly as far (L2) as the Frank-Wolfe step
  took it, so that only the direction differs.
- `random-vertices`: the same step sizes toward tokens drawn at random.

What it does not do: the decoy (`audit.py`), put counts in words (`audit_verdict.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.audit_verdict import MOST_DRAWS
from explorer.errors import UserError
from explorer.pipeline import STREAM_AFTER, STREAM_BEFORE, Cancelled, Run, never
from explorer.records import Continuation, Control, FinishReason, Rollout, SamplingConfig, Start
from explorer.revise import RevisionObjective, evaluate, project, revise
from explorer.rollout import JudgeLike, Sampling, sample_and_judge
from explorer.stopwatch import Stopwatch

ABLATIONS = {
    "ban": {"ban_answer_tokens": True},
    "toward-only": {"away_weight": 0.0},
    "away-only": {"toward_weight": 0.0},
}
KINDS = ("fresh", "unrevised", "decoy", "ban", "toward-only", "away-only", "no-hull", "random-vertices")


@dataclass
class ControlState:
    """Where a control stands: a sentence, and the control when it is done."""

    kind: str
    doing: str
    control: Control | None = None


def forward_tokens(rollouts: Sequence[Rollout], before: int = 0) -> int:
    """Forward tokens that sampling these cost: one each, the end token among them, and `before` read once."""
    return before + sum(len(item.token_ids) + (item.finish is FinishReason.STOP) for item in rollouts)


def equal_compute(spent: int, rollouts: Sequence[Rollout]) -> int:
    """How many rollouts of their mean cost `spent` forward tokens buy, rounded up; 1 to `MOST_DRAWS`, where the audit
    then says that equal compute may be more."""
    each = forward_tokens(rollouts) / len(rollouts)
    return min(MOST_DRAWS, max(1, math.ceil(spent / each)))


def spent_on(run: Run, point: int) -> int:
    """Forward-token equivalents of the steps up to `point` (of a revision that went further, its share) and of the
    revised continuations there."""
    revised = [item for item in run.after if item.step == point and item.start is Start.REVISED]
    revision = run.cost["revision"].forward_tokens if "revision" in run.cost else 0
    revision = math.ceil(revision * point / len(run.steps)) if run.steps else revision
    return revision + forward_tokens(revised, 1 + len(run.split.prefix_token_ids))


def other_control(
    run: Run, judge: JudgeLike, kind: str, point: int, sampling: SamplingConfig, cancelled: Cancelled = never
) -> Iterator[ControlState]:
    """Run one control but the decoy; `run.controls` gains it, in place of an earlier one of its kind at that step.

    Args:
        run: continued from `point` with `sampling` already.
        judge: compares answers.
        kind: one of `KINDS`.
        point: index into the trajectory.
        sampling: the rescue's budget; equal compute changes its n alone.
        cancelled: true ends it, and nothing is kept of a half control.

    Raises:
        UserError: the run has no step, or no such control exists.
    """
    if run.split is None or run.config is None or not 0 < point < len(run.embeddings):
        raise UserError("Take some steps first: there is no revision to check yet.")
    watch = Stopwatch()
    objective, x, ids, step = None, None, (), point
    if kind == "fresh":
        step = 0
        sampling = run.sampling.model_copy(update={"n": equal_compute(spent_on(run, point), run.before)})
    elif kind == "unrevised":
        ids, step = run.split.prefix_token_ids, 0
        x = run.model.rows(ids)
        own = [item for item in run.after if item.start is Start.ORIGINAL] or list(run.before)
        sampling = sampling.model_copy(update={"n": equal_compute(spent_on(run, point), own)})
    elif kind in ABLATIONS or kind in ("no-hull", "random-vertices"):
        moves = _another_way(run, kind, point)
        objective = next(moves)
        for k, moved in enumerate(moves, 1):
            x = moved
            with watch.paused():
                yield ControlState(kind, f"step {k} of {point}")
            if cancelled():
                return
        if x is None:
            raise UserError(f"No step of the control {kind} lowers its objective, so there is nothing to compare with.")
        ids = tuple(project(run.model, x, run.config).tolist())
    else:
        raise UserError(f"There is no control {kind!r}: use {', '.join(KINDS)}.")
    final = None if objective is None else evaluate(run.model, objective, x)
    text = run.model.decode(ids) if ids else ""
    state = Sampling(n=sampling.n)
    for state in sample_and_judge(
        run.model,
        run.context,
        x,
        sampling,
        run.problem.answer,
        judge,
        STREAM_BEFORE if kind == "fresh" else STREAM_AFTER,
        before=ids,
        cancelled=cancelled,
        # A run that was broken off drew on rows that did not end, too.
        first_row=max(len(run.before), run.sampling.n) if kind == "fresh" else 0,
    ):
        with watch.paused():
            yield ControlState(kind, f"{len(state.rollouts)} of {state.n} finished")
    if len(state.rollouts) < sampling.n:
        return
    start = Start.ORIGINAL if kind in ("fresh", "unrevised") else Start.REVISED
    spent = state.forward_tokens + (objective.forward_tokens if objective else 0)
    control = Control(
        kind=kind,
        target=run.problem.answer,
        step=point,
        anchor=None if objective is None else objective.anchor,
        final=final,
        sampling=sampling,
        continuations=tuple(
            Continuation(**dict(item), step=step, start=start, prefix_token_ids=ids, prefix_text=text)
            for item in state.finished()
        ),
        forward_tokens=spent,
        seconds=round(watch.seconds, 4),
    )
    run.controls = [item for item in run.controls if (item.kind, item.step) != (kind, point)] + [control]
    run.add_cost("controls", control.seconds, spent)
    yield ControlState(kind, "done", control)


def _another_way(run: Run, kind: str, point: int) -> Iterator[RevisionObjective | Tensor]:
    """First the objective that counts what is spent, then the points 1 … `point`, (M, hidden) float32."""
    model, split = run.model, run.split
    config = run.config.model_copy(update=ABLATIONS.get(kind, {}))
    objective = run.objective_of(run.anchor, config)
    yield objective
    if kind in ABLATIONS:
        for step, moved in revise(model, objective, split):
            yield moved
            if step.k + 1 == point:
                return
        return
    x = model.rows(split.prefix_token_ids)
    if kind == "no-hull":
        for k in range(point):
            length = (run.embeddings[k + 1] - run.embeddings[k]).norm(dim=1, keepdim=True).to(x.device)
            _, gradient, _ = objective.value_and_gradient(x)
            x = x - length * gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)
            yield x
        return
    allowed = objective.allowed()
    chances = torch.ones(model.info.vocab_size) if allowed is None else allowed.float().cpu()
    chances = chances.expand(len(x), -1)
    generator = torch.Generator().manual_seed(run.sampling.seed)
    for step in run.steps[:point]:
        drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
        x = (1.0 - step.step_size) * x + step.step_size * model.rows(drawn.tolist())
        yield x
