"""How long a hunt may take, before it begins: from how long the same model took here for runs that are on disk.

An estimate and no more: a batch of rollouts is taken to cost as much as its longest one, and every further rollout a
twentieth more than the first (measured: 18 ms for a token of one, 31 ms for one of sixteen). Once the hunt runs, it
measures by itself.

What it does not do: run or time anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from explorer.hunt_request import HuntRequest
from explorer.records import Trace

# Loading Python, torch and the model.
START_S = 10.0
EACH_FURTHER = 1 / 20


@dataclass(frozen=True)
class Speed:
    """Seconds of one decoding step of a single rollout, and of one revision step; `length` is the longest rollout's
    share of the limit, `runs` how many runs this comes from."""

    decode_s: float
    step_s: float
    length: float
    runs: int


def batch(n: int) -> float:
    """How many times as long as one rollout alone n together take."""
    return 1 + (n - 1) * EACH_FURTHER


def speed_of(traces: Sequence[Trace]) -> Speed | None:
    """The usual speed of some runs (the low median: a machine that was busy with something else says little); None
    where none of them was both rolled out and revised."""
    decode, step, length = [], [], []
    for trace in traces:
        longest = max((len(item.token_ids) for item in trace.before), default=0)
        if not longest or "rollouts" not in trace.cost:
            continue
        decode.append(trace.cost["rollouts"].seconds / (longest * batch(len(trace.before))))
        length.append(longest / trace.sampling.max_new_tokens)
        if trace.steps and "revision" in trace.cost:
            step.append(trace.cost["revision"].seconds / len(trace.steps))
    if not decode or not step:
        return None
    return Speed(median_low(decode), median_low(step), median_low(length), len(decode))


def seconds_per_prompt(request: HuntRequest, speed: Speed) -> tuple[float, float]:
    """(of a prompt that is hit, of a zero-hit one), in seconds."""
    sampling = request.max_new_tokens * speed.length * speed.decode_s
    first = sampling * batch(request.rollouts)
    revised = request.failed * (request.steps * speed.step_s + 3 * sampling * batch(request.samples))
    rest = (request.more - 1) * request.rollouts
    return first, first + revised + (sampling * batch(rest) if rest else 0.0)
