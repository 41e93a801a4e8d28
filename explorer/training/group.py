"""One GRPO group by hand: rewards, advantages, and the weight that each token of an off-policy member carries, with and
without the rescued trace. What `grpo.py` does inside the trainer is held against this in the tests.

Sources: group-relative advantages, DeepSeekMath (arXiv 2402.03300), as TRL computes them (divisor: standard deviation
with n − 1, plus 1e-4); the shaping p / (p + c) of an off-policy token's probability p, LUFFY (arXiv 2504.14945,
section 3.2), whose gradient is c / (p + c)² · ∇p.

What it does not do: sample, score tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt

from explorer.records import Record
from explorer.training.request import Inject, Scale

EPSILON = 1e-4


class Member(Record):
    """One completion of a group as the trainer sees it. `rescued`: it took a failed member's place."""

    reward: float
    advantage: float
    rescued: bool = False
    tokens: int = 0


class Group(Record):
    """A group's members; `signal` says whether GRPO's advantages move the weights."""

    members: tuple[Member, ...]

    @property
    def signal(self) -> bool:
        """Whether the advantages differ from 0: of a group of equal rewards GRPO learns nothing."""
        return any(abs(member.advantage) > 1e-9 for member in self.members)


def advantages(rewards: Sequence[float], scale: Scale = Scale.GROUP) -> tuple[float, ...]:
    """Reward less the group's mean, over the group's standard deviation where asked."""
    mean = sum(rewards) / len(rewards)
    apart = [reward - mean for reward in rewards]
    if scale is Scale.NONE:
        return tuple(apart)
    deviation = sqrt(sum(value * value for value in apart) / (len(rewards) - 1))
    return tuple(value / (deviation + EPSILON) for value in apart)


def slot(rewards: Sequence[float], inject: Inject) -> int | None:
    """Which member gives its place to a rescued trace: the last failed one; None where none does. A single failure
    keeps its place: without it all rewards would be equal, and a group that teaches would teach nothing."""
    failed = [index for index, reward in enumerate(rewards) if reward <= 0]
    if inject is Inject.NEVER or len(failed) < 2 or (inject is Inject.ZERO_HIT and len(failed) < len(rewards)):
        return None
    return failed[-1]


def preview(
    rewards: Sequence[float],
    tokens: Sequence[int],
    rescued_tokens: int,
    inject: Inject = Inject.ZERO_HIT,
    scale: Scale = Scale.GROUP,
) -> tuple[Group, Group]:
    """A group as it is, and with the rescued trace in it.

    Args:
        rewards: of each member.
        tokens: how many each has.
        rescued_tokens: how many the rescued trace has; its reward is 1, it was verified.
        inject: when it enters.
        scale: what advantages are divided by.
    """

    def made(values: Sequence[float], lengths: Sequence[int], place: int | None) -> Group:
        given = zip(values, advantages(values, scale), lengths, strict=True)
        return Group(
            members=tuple(
                Member(reward=reward, advantage=advantage, tokens=length, rescued=index == place)
                for index, (reward, advantage, length) in enumerate(given)
            )
        )

    place = slot(rewards, inject)
    changed, lengths = list(rewards), list(tokens)
    if place is not None:
        changed[place], lengths[place] = 1.0, rescued_tokens
    return made(rewards, tokens, None), made(changed, lengths, place)


def off_policy_weight(log_p: float, c: float) -> float:
    """p / (p + c) of a token of log-probability `log_p` (nats), in the importance ratio's place; 1 where c is 0."""
    p = exp(log_p)
    return p / (p + c) if c else 1.0


def gradient_weight(log_p: float, c: float) -> float:
    """By how much a token's ∇ log p counts, against 1 of an on-policy token: p·c / (p + c)². At c = 0 it is taken for
    on-policy: 1."""
    p = exp(log_p)
    return p * c / (p + c) ** 2 if c else 1.0
