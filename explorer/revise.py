"""The revision of one failed rollout: a generator that yields one `RevisionStep` per Frank-Wolfe step (arXiv
2606.29938).

f(E) = toward_weight · toward(E) − away_weight · away(E), minimised over the hull of the vocabulary from the prefix
tokens' own rows. Both gradients are kept apart, because the conflict between them is what a learner wants to see.

What it does not do: sample (`rollout.py`), choose the split (`split.py`), write files (`store.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
from explorer.model import Context, LanguageModel, Losses
from explorer.records import Anchor, Evaluation, RevisionConfig, RevisionStep, Split, StepRule


@dataclass
class RevisionObjective:
    """f as the solver sees it: x (M, hidden) -> value and gradient; counts the forward-token equivalents it spends."""

    model: LanguageModel
    context: Context
    anchor: Anchor
    continuation: Sequence[int]
    config: RevisionConfig
    forward_tokens: int = 0

    def _losses(self, x: Tensor, gradients: bool) -> Losses:
        # A loss whose weight is 0 is still evaluated, gradients and all: the screen shows both, also in an ablation.
        tokens = 2 * (x.shape[0] + 1) + self.anchor.answer_span[1] - 1 + len(self.continuation) - 1
        self.forward_tokens += tokens * (2 if gradients else 1)
        return self.model.losses(self.context, x, self.anchor, self.continuation, gradients)

    def _combine(self, toward: float, away: float) -> float:
        return self.config.toward_weight * toward - self.config.away_weight * away

    def value(self, x: Tensor) -> float:
        """f(x) in nats per token, without gradients."""
        losses = self._losses(x, gradients=False)
        return self._combine(losses.toward, losses.away)

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor, Losses]:
        """f(x), its gradient (M, hidden), and the parts of both."""
        losses = self._losses(x, gradients=True)
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


def allowed_rows(model: LanguageModel, anchor: Anchor, config: RevisionConfig) -> Tensor | None:
    """(vocab_size,) bool of rows that the oracle may pick, or None for all. The answer ban takes out the scored
    answer's tokens.

    A token that is only white space is not banned with the answer: it gives nothing away.
    """
    allowed = model.allowed
    if config.ban_answer_tokens:
        allowed = (
            torch.ones(model.vocabulary.shape[0], dtype=torch.bool, device=model.device)
            if allowed is None
            else allowed.clone()
        )
        start, end = anchor.answer_span
        banned = [token for token in anchor.token_ids[start:end] if model.token_text(token).strip()]
        allowed[banned] = False
    return allowed


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
        allowed_rows(model, objective.anchor, config),
        first_step,
    )
    for step in steps:
        losses: Losses = step.extra
        cosine = torch.nn.functional.cosine_similarity(losses.toward_gradient, losses.away_gradient, dim=1)
        record = RevisionStep(
            k=step.k,
            step_size=step.step_size,
            toward_loss=losses.toward,
            away_loss=losses.away,
            objective=step.value,
            gap=step.gap,
            vertices=tuple(step.vertices.tolist()),
            nearest=tuple(project(model, step.x_after, config).tolist()),
            moved=tuple((step.x_after - origin).norm(dim=1).tolist()),
            toward_grad_norm=tuple(losses.toward_gradient.norm(dim=1).tolist()),
            away_grad_norm=tuple(losses.away_gradient.norm(dim=1).tolist()),
            grad_cosine=tuple(cosine.tolist()),
        )
        yield record, step.x_after


def project(model: LanguageModel, x: Tensor, config: RevisionConfig) -> Tensor:
    """(M,) token ids: the nearest row of V per position, by the configured distance."""
    return nearest_rows(x, model.vocabulary, config.projection.value, model.allowed)


def evaluate(model: LanguageModel, objective: RevisionObjective, x: Tensor) -> Evaluation:
    """Losses, objective and gap at x (M, hidden): the last point of a trajectory, from which no step was taken."""
    value, gradient, losses = objective.value_and_gradient(x)
    vertices = linear_minimisation(gradient, model.vocabulary, allowed_rows(model, objective.anchor, objective.config))
    gap = duality_gap(gradient, x, model.vocabulary[vertices].to(x.dtype))
    return Evaluation(toward_loss=losses.toward, away_loss=losses.away, objective=value, gap=gap)
