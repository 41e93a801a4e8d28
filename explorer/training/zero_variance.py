"""Groups of equal rewards that teach nevertheless (RL-ZVP, arXiv 2509.21880, equation 5).

In such a group every advantage of GRPO is 0. RL-ZVP gives each token one of its own, by the entropy H of the
distribution that it was drawn from, in nats, at the sampling temperature and without a gradient: α·H where all
completions are right, so that what was open is rewarded most; −α·(max H − H) where all are wrong, the maximum over the
completion, so that what the model was sure of is blamed most and its most open token not at all. Other groups stay
GRPO's.

How it gets in (trl 1.16): TRL's `_compute_loss` asks for log p and entropies before it reads `advantages`, which may be
one for each token; so the forward pass is TRL's own, and none is added.

What it does not do: bring anything right into a group where all failed; that is the rescued trace's part (`grpo.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explorer.training.sampler import SamplingTrainer

ALIKE = "alike"


class ZeroVarianceTrainer(SamplingTrainer):
    """TRL's trainer, with advantages for the tokens of groups whose rewards are equal, where α is above 0."""

    def __init__(self, *args, zvp_alpha: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self._alpha = zvp_alpha
        self._rewards: Tensor | None = None  # of all processes, as TRL gathered them
        self._weighing: dict[str, Any] | None = None

    def _calculate_rewards(self, *args, **kwargs):
        found = super()._calculate_rewards(*args, **kwargs)
        self._rewards = found.nansum(dim=1)
        return found

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self._alpha and self.model.training:
            mine = len(output["completion_ids"])
            first = self.accelerator.process_index * mine
            output[ALIKE] = alike(self._rewards, self.num_generations)[first : first + mine]
        return output

    def _compute_loss(self, model, inputs):
        inputs = dict(inputs)  # what is put in below is of this pass alone
        self._weighing = inputs
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._weighing = None

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        logps, entropies, other = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        inputs = self._weighing
        if inputs is not None and torch.is_grad_enabled() and ALIKE in inputs and inputs[ALIKE].any():
            mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
            shaped = shaped_advantages(entropies.detach(), mask, inputs[ALIKE], self._alpha)
            others = inputs["advantages"][:, None].expand_as(shaped)
            inputs["advantages"] = torch.where(inputs[ALIKE][:, None] == 0, others, shaped.to(others.dtype))
        return logps, entropies, other


def alike(rewards: Tensor, group: int) -> Tensor:
    """Which completions lie in a group of equal rewards.

    Args:
        rewards: (completions,), groups one after the other.
        group: completions of a group.

    Returns:
        (completions,) int8: 1 in a group that is all right, −1 in one that is all wrong, 0 elsewhere.
    """
    groups = rewards.view(-1, group)
    right, wrong = (groups > 0).all(dim=1), (groups <= 0).all(dim=1)
    equal = (groups == groups[:, :1]).all(dim=1)
    kind = (right & equal).to(torch.int8) - (wrong & equal).to(torch.int8)
    return kind.repeat_interleave(group)


def shaped_advantages(entropies: Tensor, mask: Tensor, kind: Tensor, alpha: float) -> Tensor:
    """An advantage for each token of completions in groups of equal rewards (RL-ZVP, equation 5).

    Args:
        entropies: (completions, tokens), nats.
        mask: (completions, tokens), 1 for a token that counts.
        kind: (completions,), as `alike` gives it.
        alpha: the scale α.

    Returns:
        (completions, tokens), 0 where the mask is, and in completions of kind 0.
    """
    counted = mask.bool()
    most = entropies.masked_fill(~counted, 0.0).amax(dim=1, keepdim=True)  # no entropy is below 0
    given = torch.where(kind[:, None] > 0, entropies, entropies - most)
    return alpha * given * counted * kind[:, None].abs()
