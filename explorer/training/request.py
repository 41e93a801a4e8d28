"""What a training is asked for: one record, its defaults by method and adapter, and the sentence for each bad value.

Sources: learning rates are TRL's own defaults where they learn on a model of this size, ten times that for LoRA
(Schulman et al. 2025, "LoRA without regret"); weight p / (p + c) of an off-policy member: LUFFY, arXiv 2504.14945;
advantages of equal rewards: RL-ZVP, arXiv 2509.21880.

What it does not do: choose traces (`traces.py`), train.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from explorer.checked import checked
from explorer.errors import UserError
from explorer.records import Record


class Method(StrEnum):
    """How is trained: on the traces' tokens; by reward; on pairs of a rescued and a failed text."""

    SFT = "sft"
    GRPO = "grpo"
    DPO = "dpo"


class Adapter(StrEnum):
    """What is trained: low-rank matrices beside the weights (LoRA), or all weights."""

    LORA = "lora"
    FULL = "full"


class Traces(StrEnum):
    """Which texts are trained on: the rescued ones, the model's own correct rollouts, or both."""

    RESCUED = "rescued"
    OWN = "own"
    BOTH = "both"


class Inject(StrEnum):
    """When a rescued trace takes the place of a failed member of its group (GRPO)."""

    NEVER = "never"
    ZERO_HIT = "zero-hit"
    ALWAYS = "always"


class Scale(StrEnum):
    """What advantages are divided by: the group's standard deviation, or nothing (Dr. GRPO, LUFFY)."""

    GROUP = "group"
    NONE = "none"


class Sampler(StrEnum):
    """Who samples GRPO's groups: the app's own loop (CPU), TRL's `generate`, or vLLM; `AUTO` is the first that fits."""

    AUTO = "auto"
    FAST = "fast"
    TRL = "trl"
    VLLM = "vllm"


LEARNING_RATES = {
    (Method.SFT, Adapter.FULL): 2e-5,
    (Method.SFT, Adapter.LORA): 2e-4,
    (Method.DPO, Adapter.FULL): 1e-6,
    (Method.DPO, Adapter.LORA): 1e-5,
    (Method.GRPO, Adapter.FULL): 2e-6,
    (Method.GRPO, Adapter.LORA): 2e-5,
}


class TrainRequest(Record):
    """Everything that shapes a training; a folder holds one.

    `updates` are optimiser steps; each reads `batch` rows (SFT, DPO) or the `group` completions of `batch` prompts
    (GRPO). `max_tokens` bounds a row's prompt and completion together (SFT, DPO), `max_new_tokens` a sampled completion
    (GRPO). `mask_prefix` leaves the replayed prefix of a rescued trace out of the loss. `off_policy_c` is c of the
    weight p / (p + c) that a rescued member's tokens carry; 0 makes it 1. `zvp_alpha` is α of RL-ZVP, by which groups
    of equal rewards teach as well (`zero_variance.py`); at 0 they teach nothing. `beta` weighs the KL divergence from
    the model before (GRPO, DPO). `held_out` problems are sampled once each every `eval_every` updates (0: never).
    """

    method: Method = Method.SFT
    adapter: Adapter = Adapter.LORA
    traces: Traces = Traces.RESCUED
    updates: int = Field(40, ge=1, le=100_000)
    batch: int = Field(4, ge=1, le=512)
    learning_rate: float | None = Field(None, gt=0, le=1)
    max_tokens: int = Field(256, ge=16, le=32_768)
    seed: int = Field(0, ge=0, lt=2**31)
    lora_rank: int = Field(16, ge=1, le=512)
    mask_prefix: bool = False
    group: int = Field(8, ge=2, le=256)
    max_new_tokens: int = Field(96, ge=1, le=8192)
    temperature: float = Field(1.0, gt=0, le=5)
    inject: Inject = Inject.ZERO_HIT
    off_policy_c: float = Field(0.1, ge=0, le=10)
    zvp_alpha: float = Field(0.0, ge=0, le=10)
    scale_rewards: Scale = Scale.GROUP
    beta: float | None = Field(None, ge=0, le=10)
    sampler: Sampler = Sampler.AUTO
    held_out: int = Field(16, ge=0, le=10_000)
    eval_every: int = Field(20, ge=0, le=100_000)
    save_every: int = Field(20, ge=1, le=100_000)

    @property
    def rate(self) -> float:
        """The learning rate in force."""
        return LEARNING_RATES[self.method, self.adapter] if self.learning_rate is None else self.learning_rate

    @property
    def kl(self) -> float:
        """β in force: none for GRPO as TRL has it, 0.1 for DPO."""
        if self.beta is not None:
            return self.beta
        return 0.1 if self.method is Method.DPO else 0.0


def read_request(values: Mapping[str, object]) -> TrainRequest:
    """A request of given values; what is None or empty keeps its default.

    Raises:
        UserError: a value that can't be; the sentence names it.
    """
    given = {name: values[name] for name in TrainRequest.model_fields if values.get(name) not in (None, "")}
    request = checked(TrainRequest, **given)
    if request.mask_prefix and request.method is Method.DPO:
        raise UserError("--mask-prefix is of SFT and GRPO: DPO compares whole texts, so leave it out.")
    return request
