"""What the controls of a run say, in plain words, by rules that stand here and rest on counts alone.

A rescue is, in this order:

- *not rescued*: no continuation of the revised embeddings is correct; then the likeliest reasons are given;
- *smuggled*: a decoy's wrong answer is reached at least half as often as the gold one, and the 95 % intervals do not
  set it below the gold answer's rate; or every correct continuation rests on an equation that does not hold;
- *lucky*: at equal compute the plain prompt or the unrevised prefix gives at least as many correct ones;
- *reached by reasoning*: at equal compute revision gives more correct ones than the plain prompt and than the unrevised
  prefix, each by more than chance (p < 0.05 that so uneven a split comes of equal rates: they cost the same, so counts
  compare and rates per draw do not); its interval lies above the decoy's; and more than half of the correct
  continuations hold no false equation before their answer;
- *undecided*: all else, also where one of the three controls was not run, where equal compute would take more draws
  than a control may have, or where nobody looked for false equations.

All rates carry Wilson's 95 % interval. The words claim no more than these rules: "reasoning" means that none of the
other explanations tested here holds.

What it does not do: run a control.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from explorer.records import Continuation, FinishReason, Record, Start, Trace, Verdict
from explorer.statistics import apart, is_degenerate, sign_test, split_test, wilson_interval

# Counts up with the rules, so that findings of different ones are not mixed up. 1: any hit of a decoy whose interval
# was not below was smuggling, and leaks were no condition.
RULES = 2
# A toward loss that fell by less than this share hardly moved.
HARDLY = 0.25
# At this mean loss a token has a probability of one in seven: the answer is still unlikely.
UNLIKELY_NATS = 2.0
# Below this p a difference is more than chance.
CHANCE = 0.05
# A decoy reached less often than this share of the gold answer's rate does not show by itself that answers are handed
# over: with few draws one chance hit is not clearly less either.
NEARLY_AS_OFTEN = 0.5
# A control's draws at equal compute end here.
MOST_DRAWS = 1_024


class Finding(StrEnum):
    """What an audit concludes."""

    NOT_RESCUED = "not rescued"
    SMUGGLED = "smuggled"
    LUCKY = "lucky: resampling finds it as often"
    REASONED = "reached by reasoning"
    UNDECIDED = "undecided"


class Arm(Record):
    """Counts of one arm: correct (or reached) of n with Wilson's interval, ended in a loop, cut off at the limit."""

    name: str
    n: int
    correct: int
    interval: tuple[float, float]
    degenerate: int
    truncated: int

    @property
    def words(self) -> str:
        """13 of 16 (57–93 %)."""
        low, high = self.interval
        return f"{self.correct} of {self.n} ({100 * low:.0f}–{100 * high:.0f} %)"


class Audit(Record):
    """The audit of one run at `step`: its arms, the finding, the sentences with the numbers it rests on, and the
    p-value of revised against unrevised continuations, paired by common random numbers (exact sign test; None if not
    paired)."""

    run: str = ""
    problem: str = ""
    step: int = 0
    arms: tuple[Arm, ...] = ()
    finding: Finding
    because: tuple[str, ...] = ()
    paired_p: float | None = None


def arm(name: str, items: Sequence[Continuation]) -> Arm:
    """Count an arm."""
    correct = sum(item.verdict is Verdict.CORRECT for item in items)
    return Arm(
        name=name,
        n=len(items),
        correct=correct,
        interval=wilson_interval(correct, len(items)),
        degenerate=sum(is_degenerate(item.token_ids) for item in items),
        truncated=sum(item.finish is FinishReason.LENGTH for item in items),
    )


def audited_step(trace: Trace) -> int | None:
    """The step that is audited: the last that revised continuations were drawn from; None if there is none."""
    return max((item.step for item in trace.after if item.start is Start.REVISED and item.step > 0), default=None)


def conclude(trace: Trace, run: str = "") -> Audit | None:
    """Put a run's controls together; None where nothing was revised and continued."""
    step = audited_step(trace)
    if step is None:
        return None
    after = {start: [i for i in trace.after if i.start is start and i.step == step] for start in Start}
    arms = [arm(start.value, items) for start, items in after.items() if items]
    arms += [arm(control.kind, control.continuations) for control in trace.controls if control.step == step]
    by = {one.name: one for one in arms}
    marks = [[i.verdict is Verdict.CORRECT for i in after[start]] for start in (Start.REVISED, Start.ORIGINAL)]
    paired = sign_test(*marks) if len(marks[0]) == len(marks[1]) > 0 else None
    finding, because = _finding(trace, by)
    if paired is not None and by["revised"].correct:
        because.append(f"paired with the unrevised prefix, draw by draw: p = {paired:.2g} (exact sign test)")
    return Audit(
        run=run,
        problem=trace.problem.id,
        step=step,
        arms=tuple(arms),
        finding=finding,
        because=tuple(because),
        paired_p=paired,
    )


def _finding(trace: Trace, by: dict[str, Arm]) -> tuple[Finding, list[str]]:
    revised = by["revised"]
    if not revised.correct:
        return Finding.NOT_RESCUED, why_not_rescued(trace, by)
    because = [f"revised {revised.words}"]
    because += [f"{name} {by[name].words}" for name in ("fresh", "unrevised", "original", "decoy") if name in by]
    looked = trace.leaks is not None and trace.leaks.step == audited_step(trace)
    stated = trace.leaks.stated if looked else ()
    false = sum(one.false_equations > 0 for one in stated)
    if stated:
        because.append(f"{false} of {len(stated)} correct continuations hold an equation that is false")
    projected = by.get("projected")
    if projected is not None:
        because.append(f"as plain text, projected: {projected.words}")
    decoy = by.get("decoy")
    handed = decoy is not None and decoy.correct * revised.n >= NEARLY_AS_OFTEN * revised.correct * decoy.n > 0
    if handed and not apart(decoy.interval, revised.interval):
        return Finding.SMUGGLED, [*because, "the decoy’s wrong answer is reached, and not clearly less often"]
    if stated and false == len(stated):
        return Finding.SMUGGLED, [*because, "every correct continuation rests on a false equation"]
    for name in ("fresh", "unrevised"):
        if name in by and by[name].correct >= revised.correct:
            return Finding.LUCKY, [*because, f"{name} finds as many at equal compute"]
    missing = [name for name in ("fresh", "unrevised", "decoy") if name not in by] + ["leaks"] * (not looked)
    if missing:
        return Finding.UNDECIDED, [*because, f"not run: {', '.join(missing)}"]
    capped = [name for name in ("fresh", "unrevised") if by[name].n >= MOST_DRAWS]
    if capped:
        return Finding.UNDECIDED, [
            *because,
            f"{' and '.join(capped)} had {MOST_DRAWS:,} draws, the most there are, and equal compute may be more",
        ]
    close = [name for name in ("fresh", "unrevised") if split_test(revised.correct, by[name].correct) >= CHANCE]
    if close:
        counts = " and ".join(f"{name}’s {by[name].correct}" for name in close)
        return Finding.UNDECIDED, [
            *because,
            f"at equal compute {revised.correct} correct against {counts} may be chance: draw more",
        ]
    if not apart(by["decoy"].interval, revised.interval):
        return Finding.UNDECIDED, [*because, "the intervals of revised and decoy overlap: draw more"]
    if 2 * false >= len(stated) > 0:
        return Finding.UNDECIDED, [*because, "half or more of the correct continuations hold a false equation"]
    return Finding.REASONED, because


def why_not_rescued(trace: Trace, by: dict[str, Arm]) -> list[str]:
    """The likeliest reasons, each with its numbers, most telling first."""
    revised, step = by["revised"], audited_step(trace)
    first = trace.steps[0].toward_loss
    last = trace.steps[step].toward_loss if step < len(trace.steps) else trace.final and trace.final.toward_loss
    reasons = []
    if last is not None and last > first * (1 - HARDLY):
        reasons.append(
            f"the steps hardly made the answer likelier: toward loss {first:.2f} to {last:.2f} nats per token"
        )
    elif last is not None and last > UNLIKELY_NATS:
        reasons.append(f"the answer is still unlikely after the steps: toward loss {last:.2f} nats per token")
    prefix, nearest = trace.split.prefix_token_ids, trace.steps[step - 1].nearest
    changed = sum(a != b for a, b in zip(prefix, nearest, strict=True))
    if 2 * changed > len(prefix):
        reasons.append(f"the prefix fell apart: {changed} of {len(prefix)} nearest tokens changed")
    if 2 * revised.degenerate >= revised.n:
        reasons.append(f"{revised.degenerate} of {revised.n} continuations end in a loop")
    if 2 * revised.truncated >= revised.n:
        reasons.append(f"{revised.truncated} of {revised.n} continuations were cut off at the token limit")
    items = [i for i in trace.after if i.start is Start.REVISED and i.step == step and i.answer]
    if items:
        answer, count = Counter(item.answer for item in items).most_common(1)[0]
        reasons.append(f"the commonest answer is another one: {answer} in {count} of {revised.n}")
    if not reasons:
        reasons.append("the prefix reads on, and no continuation states an answer that could be read")
    return reasons
