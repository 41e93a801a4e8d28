"""The revision of one failed rollout: a generator that yields one `RevisionStep` per Frank-Wolfe step (arXiv
2606.29938).

f(E) = toward_weight · toward(E) − away_weight · away(E), minimised over the hull of the vocabulary from the prefix
tokens' own rows. Both gradients are kept apart, because the conflict between them is what a learner wants to see.

What it does not do: sample (`rollout.py`), choose the split (`split.py`), write files (`store.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.context import Context
from explorer.errors import UserError
from explorer.frank_wolfe import (
    StepRule as StepRuleFunction,
)
from explorer.frank_wolfe import (
    constant_step,
    duality_gap,
    frank_wolfe,
    harmonic_step,
    line_search_step,
    linear_minimisation,
    nearest_rows,
)
from explorer.kernels import products
from explorer.model import LanguageModel, Losses, Passage
from explorer.records import Anchor, Evaluation, Hull, RevisionConfig, RevisionStep, Split, StepRule

# A row is of like norm if it is at most this share longer or shorter than the original token's.
LIKE_NORM = 0.1


@dataclass
class RevisionObjective:
    """f as the solver sees it: x (M, hidden) -> value and gradient; counts the forward-token equivalents it spends.

    `prefix` are the original tokens, which a hull that differs by position is made from.
    """

    model: LanguageModel
    context: Context
    anchor: Anchor
    continuation: Sequence[int]
    config: RevisionConfig
    prefix: Sequence[int] = ()
    forward_tokens: int = 0
    _allowed: Tensor | None = None

    def allowed(self) -> Tensor | None:
        """Rows that the oracle may pick: (vocab_size,) bool, (M, vocab_size) where the hull differs by position, or
        None for all. The answer ban takes out the scored answer's tokens, and those that read like one of them: with
        a space before it or without, it is the same number.

        A token that is only white space is not banned with the answer: it gives nothing away.
        """
        hull, ban = self.config.hull, self.config.ban_answer_tokens
        if hull is Hull.VOCABULARY and not ban:
            return self.model.allowed
        if self._allowed is None:
            self._allowed = self._allowed_rows()
        return self._allowed

    def _allowed_rows(self) -> Tensor:
        model, hull = self.model, self.config.hull
        real = model.allowed
        if real is None:
            real = torch.ones(model.vocabulary.shape[0], dtype=torch.bool, device=model.device)
        if hull is Hull.VOCABULARY:
            allowed = real.clone()
        else:
            ids = torch.as_tensor(list(self.prefix), device=model.device)
            if hull is Hull.LIKE_NORM:
                norms = model.row_norms.to(model.device)
                allowed = (norms - norms[ids][:, None]).abs() <= LIKE_NORM * norms[ids][:, None]
            else:
                with torch.no_grad():
                    rows = model.rows(self.prefix[:-1])
                    scores = self.context.fork().extend(rows[None], len(ids))[0].masked_fill(~real, -torch.inf)
                self.forward_tokens += len(ids)
                likely = scores.topk(min(self.config.hull_size, scores.shape[1]), dim=1).indices
                allowed = torch.zeros(scores.shape, dtype=torch.bool, device=model.device).scatter_(1, likely, True)
            allowed &= real
            allowed.scatter_(1, ids[:, None], True)  # standing still is always possible
        if self.config.ban_answer_tokens:
            start, end = self.anchor.answer_span
            allowed[..., sorted(model.tokens_like(self.anchor.token_ids[start:end]))] = False
            if not allowed.any(dim=-1).all():
                raise UserError("With the answer's tokens banned nothing is left to move toward: choose another hull.")
        return allowed

    def _losses(self, x: Tensor, gradients: bool) -> Losses:
        # A loss whose weight is 0 is still evaluated, gradients and all: the screen shows both, also in an ablation.
        self._count(x.shape[0], gradients)
        return self.model.losses(self.context, x, self.anchor, self.continuation, gradients)

    def _count(self, positions: int, gradients: bool) -> None:
        tokens = 2 * (positions + 1) + self.anchor.answer_span[1] - 1 + len(self.continuation) - 1
        self.forward_tokens += tokens * (2 if gradients else 1)

    def _combine(self, toward: float, away: float) -> float:
        return self.config.toward_weight * toward - self.config.away_weight * away

    def value(self, x: Tensor) -> float:
        """f(x) in nats per token, without gradients."""
        losses = self._losses(x, gradients=False)
        return self._combine(losses.toward, losses.away)

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor, Losses]:
        """f(x), its gradient (M, hidden), and the parts of both."""
        return self._weighed(self._losses(x, gradients=True))

    def combined(self, losses: Losses, positions: int) -> tuple[float, Tensor, Losses]:
        """What `value_and_gradient` gives, from losses that were worked out together with others'."""
        self._count(positions, gradients=True)
        return self._weighed(losses)

    def _weighed(self, losses: Losses) -> tuple[float, Tensor, Losses]:
        gradient = self.config.toward_weight * losses.toward_gradient - self.config.away_weight * losses.away_gradient
        if not torch.isfinite(gradient).all():
            raise UserError(
                "The gradient is not finite in this number format: load the model as float32 or bfloat16 and "
                "start over."
            )
        return self._combine(losses.toward, losses.away), gradient, losses


def rule_of(config: RevisionConfig) -> StepRuleFunction:
    """The solver's step rule for a configuration; for the line search `step_size` is the largest step that is tried."""
    if config.step_rule is StepRule.HARMONIC:
        return harmonic_step()
    if config.step_rule is StepRule.LINE_SEARCH:
        return line_search_step(largest=config.step_size)
    return constant_step(config.step_size)


def revise(
    model: LanguageModel,
    objective: RevisionObjective,
    split: Split,
    start: Tensor | None = None,
    first_step: int = 0,
) -> Iterator[tuple[RevisionStep, Tensor]]:
    """Take Frank-Wolfe steps for as long as the caller asks.

    Args:
        model: the frozen model.
        objective: see `RevisionObjective`; carries the anchor and the configuration.
        split: gives the prefix tokens.
        start: embeddings (M, hidden) to go on from; None starts at the prefix tokens' own rows.
        first_step: index k of the first step taken.

    Yields:
        (the record of step k, embeddings[k+1] as (M, hidden) float32 on the model's device). Ends by itself only when a
        line search finds no step that lowers the objective.
    """
    config = objective.config
    origin = model.rows(split.prefix_token_ids)
    steps = frank_wolfe(
        origin if start is None else start,
        model.vocabulary,
        objective,
        rule_of(config),
        objective.allowed(),
        first_step,
        products,
    )
    for step in steps:
        nearest = project(model, step.x_after, config)
        record = _record(
            step.k, step.step_size, step.value, step.gap, step.extra, step.vertices, nearest, step.x_after, origin
        )
        yield record, step.x_after


def _record(
    k: int,
    step_size: float,
    value: float,
    gap: float,
    losses: Losses,
    vertices: Tensor,
    nearest: Tensor,
    x_after: Tensor,
    origin: Tensor,
) -> RevisionStep:
    """The record of one step, in plain numbers."""
    cosine = torch.nn.functional.cosine_similarity(losses.toward_gradient, losses.away_gradient, dim=1)
    return RevisionStep(
        k=k,
        step_size=step_size,
        toward_loss=losses.toward,
        away_loss=losses.away,
        objective=value,
        gap=gap,
        vertices=tuple(vertices.tolist()),
        nearest=tuple(nearest.tolist()),
        moved=tuple((x_after - origin).norm(dim=1).tolist()),
        toward_grad_norm=tuple(losses.toward_gradient.norm(dim=1).tolist()),
        away_grad_norm=tuple(losses.away_gradient.norm(dim=1).tolist()),
        grad_cosine=tuple(cosine.tolist()),
    )


def revise_together(
    model: LanguageModel, objectives: Sequence[RevisionObjective], splits: Sequence[Split]
) -> Iterator[list[tuple[RevisionStep, Tensor]]]:
    """Take the same step of several runs of one prompt at once, each from its prefix tokens' own rows.

    Positions are independent in the oracle and in the projection, and branches in the network, so runs share every
    pass and every look at the vocabulary. Each run's steps are those that `revise` would take, up to rounding.

    Args:
        model: the frozen model.
        objectives: one for each run, over the same context and with the same projection; not with a line search,
            whose trials differ from run to run.
        splits: one for each run.

    Yields:
        for step k, one (record, embeddings[k+1] as (M, hidden) float32) per run.

    Raises:
        ValueError: a line search, or objectives over different contexts or with different projections.
    """
    context, projection = objectives[0].context, objectives[0].config.projection
    if any(o.context is not context or o.config.projection is not projection for o in objectives) or any(
        o.config.step_rule is StepRule.LINE_SEARCH for o in objectives
    ):
        raise ValueError("runs revised together share one context and one projection and take no line search")
    origins = [model.rows(split.prefix_token_ids) for split in splits]
    points, sizes = list(origins), [len(origin) for origin in origins]
    allowed = [objective.allowed() for objective in objectives]
    alike = all(mask is None for mask in allowed) or all(
        mask is not None and mask.dim() == 1 and torch.equal(mask, allowed[0]) for mask in allowed
    )
    for k in itertools.count():
        passages = [Passage(x, o.anchor, o.continuation) for x, o in zip(points, objectives, strict=True)]
        scored = [
            objective.combined(losses, len(x))
            for objective, losses, x in zip(objectives, model.losses_together(context, passages), points, strict=True)
        ]
        gradients = [gradient for _, gradient, _ in scored]
        if alike:
            vertices = linear_minimisation(torch.cat(gradients), model.vocabulary, allowed[0], products)
            vertices = vertices.split(sizes)
        else:
            vertices = [
                linear_minimisation(g, model.vocabulary, a, products) for g, a in zip(gradients, allowed, strict=True)
            ]
        rows = [model.vocabulary[vertex].to(x.dtype) for vertex, x in zip(vertices, points, strict=True)]
        gaps = [duality_gap(g, x, row) for g, x, row in zip(gradients, points, rows, strict=True)]
        steps = [
            rule_of(o.config)(k, o, x, row - x, value, gap)
            for o, x, row, (value, _, _), gap in zip(objectives, points, rows, scored, gaps, strict=True)
        ]
        points = [(1.0 - step) * x + step * row for step, x, row in zip(steps, points, rows, strict=True)]
        nearest = project(model, torch.cat(points), objectives[0].config).split(sizes)
        yield [
            (_record(k, step, value, gap, losses, vertex, near, x, origin), x)
            for step, (value, _, losses), gap, vertex, near, x, origin in zip(
                steps, scored, gaps, vertices, nearest, points, origins, strict=True
            )
        ]


def project(model: LanguageModel, x: Tensor, config: RevisionConfig) -> Tensor:
    """(M,) token ids: the nearest row of V per position, by the configured distance."""
    norms = model.row_norms.to(x.device)
    return nearest_rows(x, model.vocabulary, config.projection.value, model.allowed, products, norms)


def evaluate(model: LanguageModel, objective: RevisionObjective, x: Tensor) -> Evaluation:
    """Losses, objective and gap at x (M, hidden): the last point of a trajectory, from which no step was taken."""
    value, gradient, losses = objective.value_and_gradient(x)
    vertices = linear_minimisation(gradient, model.vocabulary, objective.allowed(), products)
    gap = duality_gap(gradient, x, model.vocabulary[vertices].to(x.dtype))
    return Evaluation(toward_loss=losses.toward, away_loss=losses.away, objective=value, gap=gap)
