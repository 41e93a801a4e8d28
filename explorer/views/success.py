"""The success curve: at which step does a prompt become solvable? Share correct over the steps taken, from the
continuations that a run holds, and what the counts say in plain words. Pure functions; `assets/success.js` draws them.

Source of the interval: Wilson (1927), see `statistics.py`. The curve is ours; the method's public text shows none.

What it does not do: sample, or call a difference real that the intervals don't show.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import Any

from explorer.records import Continuation, Rollout, SamplingConfig, Start, Trace
from explorer.views.payloads import counts

Payload = dict[str, Any]

MOST_STEPS = 6  # more points cost sampling time and, eight continuations each, tell nothing more apart


def curve_steps(steps: int, most: int = MOST_STEPS) -> tuple[int, ...]:
    """At most `most` (2 or more) points of a trajectory of `steps` steps, evenly spread, the unrevised prefix (0) and
    the last step among them."""
    count = min(most, steps + 1)
    if count < 2:
        return (0,)
    # Integers throughout: half-way points round up, the same on every machine.
    return tuple((2 * index * steps + count - 1) // (2 * (count - 1)) for index in range(count))


def tally(rollouts: Sequence[Rollout]) -> Payload:
    """{correct, n, interval, degenerate}: counts, Wilson's 95 % interval of the rate correct ([0, 1] where none was
    sampled), and how many end in a loop."""
    counted = counts(rollouts)
    return {key: counted[key] for key in ("correct", "n", "interval", "degenerate")}


def unrevised(trace: Trace) -> tuple[Continuation, ...]:
    """One draw from the unrevised prefix.

    At step 0 `revised` and `original` are the same tokens from the same seed, and so is the `original` arm beside any
    other step: one of them is taken (that of step 0 if there is one), none is counted twice.
    """
    draws: dict[tuple[bool, bool, int], list[Continuation]] = {}
    for item in trace.after:
        if item.start is Start.ORIGINAL or (item.start is Start.REVISED and item.step == 0):
            draws.setdefault((item.step == 0, item.start is Start.REVISED, item.step), []).append(item)
    return tuple(draws[max(draws)]) if draws else ()


def by_step(trace: Trace) -> dict[int, tuple[Continuation, ...]]:
    """Continuations of the revised prefix by step, in order; step 0 is the unrevised prefix."""
    found: dict[int, list[Continuation]] = {}
    for item in trace.after:
        if item.start is Start.REVISED and item.step > 0:
            found.setdefault(item.step, []).append(item)
    base = {0: unrevised(trace)} if unrevised(trace) else {}
    return base | {step: tuple(found[step]) for step in sorted(found)}


def success_payload(
    trace: Trace,
    *,
    running: int | None = None,
    state: str = "idle",
    done: int | None = None,
    planned: Sequence[int] = (),
    sampling: SamplingConfig | None = None,
    message: str = "",
    why_not: str = "",
    run_id: str = "",
) -> Payload | None:
    """The success curve's view. None before a first step.

    Args:
        trace: the run so far.
        running: the step being sampled.
        state: idle, sampling, cancelled or failed.
        done: how many continuations of the running step have finished; None where that is not known.
        planned: all steps of the curve being sampled.
        sampling: the budget of each step; default: how the run's continuations were drawn, else its rollouts.
        message: a sentence for people.
        why_not: why no curve can be sampled (the model is not here, …); empty when it can.
        run_id: names the run, so that the view marks no other run's step.
    """
    if trace.split is None or not trace.steps:
        return None
    budget = sampling or trace.after_sampling or trace.sampling
    points = [{"k": step, **tally(items)} for step, items in by_step(trace).items()]
    return {
        "run_id": run_id,
        "state": state,
        "n": budget.n,
        "points": points,
        "running": running,
        "done": done,
        "planned": list(planned),
        "steps_total": len(trace.steps),
        "sampling": budget.model_dump(),
        "sentence": curve_sentence(points),
        "message": message,
        "why_not": why_not,
    }


def curve_sentence(points: Sequence[Payload]) -> str:
    """What the points say in plain words, and what they don't; empty without a point.

    Args:
        points: {k, correct, n, interval, degenerate} in order of k, as `success_payload` makes them.
    """
    points = [point for point in points if point["n"]]
    if not points:
        return ""
    if len(points) == 1:
        only = points[0]
        return f"Step {only['k']}: {rate(only)} correct, 95 % interval {spread(only)}. One point is no curve yet."
    parts = [_where(points), _against_start(points), *_looping(points)]
    if len({point["n"] for point in points}) > 1:
        parts.append("The steps were not sampled equally often: a longer whisker is a smaller sample.")
    return " ".join(part for part in parts if part)


def _where(points: Sequence[Payload]) -> str:
    """From which step on correct continuations are found."""
    hits = [point["k"] for point in points if point["correct"]]
    misses = [point["k"] for point in points if not point["correct"]]
    if not hits:
        # 0 of n is no proof of impossibility: the surest of the points still allows this much.
        bound = min(points, key=lambda point: point["interval"][1])
        return (
            f"No continuation is correct at any of the {len(points)} sampled steps; "
            f"{rate(bound)} still allows a true rate of up to {percent(bound['interval'][1])}."
        )
    if not misses:
        among = ", the unrevised prefix (step 0) among them" if points[0]["k"] == 0 else ""
        return f"Every sampled step has correct continuations{among}."
    if len(hits) == 1:
        return f"Of the sampled steps, only {_named(hits)} has correct continuations."
    if min(hits) > max(misses):
        return f"From step {min(hits)} on every sampled step has correct continuations; before it none has."
    return f"Correct continuations come and go: found at {_named(hits)}, not at {_named(misses)}."


def _against_start(points: Sequence[Payload]) -> str:
    """The last step beside the unrevised prefix, and the best one where it stands out: picked afterwards, so with less
    weight."""
    first, last = points[0], points[-1]
    if first["k"] != 0:
        return "The unrevised prefix (step 0) was not sampled at this budget, so there is nothing to compare with."
    if not any(point["correct"] for point in points):
        return ""
    pair = f"The intervals of step 0 ({spread(first)}) and step {last['k']} ({spread(last)})"
    rise = last["correct"] / last["n"] - first["correct"] / first["n"]
    if last["interval"][0] > first["interval"][1]:
        said = (
            f"{pair} are apart, so the rise is more than luck of sampling; "
            "whether it is reasoning or a smuggled answer is for the decoy control to say."
        )
    elif last["interval"][1] < first["interval"][0]:
        said = f"{pair} are apart: the revision made it worse."
    elif rise > 0:
        said = f"{pair} overlap, so the rise may be luck of sampling: sample more before believing it."
    else:
        said = f"{pair} overlap, and the rate did not rise."
    best = max(points[1:], key=lambda point: point["correct"] / point["n"])
    if best is not last and best["correct"] / best["n"] > last["correct"] / last["n"]:
        said += (
            f" The best step, {best['k']} with {rate(best)}, was picked after looking at {len(points)}: "
            "a fresh sample there will probably be lower."
        )
    return said


def _looping(points: Sequence[Payload]) -> list[str]:
    """Where half or more of the continuations end in a loop: a prefix that was moved too far."""
    broken = [point["k"] for point in points if 2 * point["degenerate"] >= point["n"]]
    return [f"At {_named(broken)} half or more of the continuations end in a loop."] if broken else []


def _named(steps: Sequence[int]) -> str:
    """'step 4', 'steps 4 and 6', 'steps 4, 6 and 8'."""
    *most, last = map(str, steps)
    return f"steps {', '.join(most)} and {last}" if most else f"step {last}"


def rate(point: Payload) -> str:
    """'3 of 8'."""
    return f"{point['correct']} of {point['n']}"


def percent(share: float) -> str:
    """'32 %' or '0.4 %', with a narrow space that does not break."""
    return f"{_hundredths(share)}\u202f%"


def spread(point: Payload) -> str:
    """'14–69 %': a point's interval."""
    low, high = point["interval"]
    return f"{_hundredths(low)}–{percent(high)}"


def _hundredths(share: float) -> str:
    """A share in whole per cent, halves up as the browser rounds them, with so many decimals that it reads 0 or 100
    only where it is (assets/tokens.js does the same)."""
    whole = int(100 * share + 0.5)
    rest = share if whole == 0 else 1 - share
    if whole not in (0, 100) or rest < 1e-8:
        return str(whole)
    digits = ceil(-log10(100 * rest))
    return f"{int(100 * share * 10**digits + 0.5) / 10**digits:.{digits}f}".rstrip("0")
