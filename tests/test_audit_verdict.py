"""The rules that put counts in words, each on a record made by hand."""

from __future__ import annotations

import pytest

from explorer.audit_verdict import Finding, audited_step, conclude
from explorer.records import (
    Anchor,
    Continuation,
    Control,
    Evaluation,
    FinishReason,
    Leaks,
    ModelInfo,
    Problem,
    Prompt,
    RevisionConfig,
    RevisionStep,
    Rollout,
    SamplingConfig,
    Split,
    Start,
    Stated,
    Trace,
    Verdict,
)

SAMPLING = SamplingConfig(n=16)
LEFT = tuple(range(10, 14))  # the prefix's tokens


def items(correct: int, n: int, start: Start = Start.REVISED, step: int = 2, **fields) -> tuple[Continuation, ...]:
    """n continuations of which the first so many are right."""
    return tuple(
        Continuation(
            token_ids=fields.get("token_ids", (1, 2, 3)),
            text="so",
            answer="7" if index < correct else "8",
            verdict=Verdict.CORRECT if index < correct else Verdict.WRONG,
            finish=fields.get("finish", FinishReason.STOP),
            step=step,
            start=start,
        )
        for index in range(n)
    )


def step(k: int, toward: float, nearest=LEFT) -> RevisionStep:
    ones = (0.1,) * len(LEFT)
    return RevisionStep(
        k=k,
        step_size=0.1,
        toward_loss=toward,
        away_loss=1.0,
        objective=1.0,
        gap=1.0,
        vertices=LEFT,
        nearest=nearest,
        moved=ones,
        toward_grad_norm=ones,
        away_grad_norm=ones,
        grad_cosine=ones,
    )


def trace(after, losses=(3.0, 2.0, 0.5), nearest=LEFT, stated=(), leaks_of=2, **controls) -> Trace:
    """A run of two steps; `controls` are (correct, n) by kind, leaks measured at step `leaks_of` (None: nowhere)."""
    return Trace(
        created_at="2026-11-24T00:00:00Z",
        tool_version="0",
        model=ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=20, hidden_size=2),
        problem=Problem(id="p", question="?", answer="7"),
        prompt=Prompt(text="?", token_ids=(1, 2)),
        sampling=SAMPLING,
        before=(Rollout(token_ids=(*LEFT, 5), text="no", verdict=Verdict.WRONG),),
        split=Split(rollout=0, prefix_token_ids=LEFT, continuation_token_ids=(5,)),
        anchor=Anchor(text="7", token_ids=(7,), answer_span=(0, 1)),
        config=RevisionConfig(steps=2),
        steps=(step(0, losses[0]), step(1, losses[1], nearest)),
        final=Evaluation(toward_loss=losses[2], away_loss=1.0, objective=1.0, gap=1.0),
        after=tuple(after),
        after_sampling=SAMPLING,
        controls=tuple(
            Control(kind=kind.replace("_", "-"), target="7", step=2, sampling=SAMPLING, continuations=items(*counts))
            for kind, counts in controls.items()
        ),
        leaks=leaks_of
        and Leaks(
            step=leaks_of,
            hull_mass=(0.0,),
            hull_mass_before=(0.0,),
            log_p_prompt=-9,
            log_p_unrevised=-3,
            log_p_revised=-0.5,
            stated=tuple(Stated(token=0, tokens=3, false_equations=count) for count in stated),
        ),
    )


NONE = {"fresh": (0, 40), "unrevised": (0, 40), "decoy": (0, 16)}
FULL = items(12, 16)


@pytest.mark.parametrize(
    ("record", "finding", "because"),
    [
        (trace(FULL, **NONE), Finding.REASONED, "fresh 0 of 40 (0–9 %)"),
        (trace(FULL, **NONE | {"decoy": (11, 16)}), Finding.SMUGGLED, "not clearly less often"),
        # A decoy that is reached once in a while does not undo a rescue that is far more frequent.
        (trace(FULL, **NONE | {"decoy": (1, 16)}), Finding.REASONED, "decoy 1 of 16 (1–28 %)"),
        (
            trace(FULL, stated=[1] * 12, **NONE),
            Finding.SMUGGLED,
            "every correct continuation rests on a false equation",
        ),
        (trace(FULL, stated=[1] * 6 + [0] * 6, **NONE), Finding.UNDECIDED, "half or more"),
        (trace(FULL, stated=[1] * 5 + [0] * 7, **NONE), Finding.REASONED, "5 of 12 correct continuations hold"),
        (trace(FULL, **NONE | {"fresh": (12, 40)}), Finding.LUCKY, "fresh finds as many at equal compute"),
        (trace(FULL, **NONE | {"unrevised": (13, 40)}), Finding.LUCKY, "unrevised finds as many"),
        # At one cost 12 correct against 2 are more than chance, against 4 not quite.
        (trace(FULL, **NONE | {"fresh": (2, 40)}), Finding.REASONED, "fresh 2 of 40"),
        (trace(FULL, **NONE | {"fresh": (4, 40)}), Finding.UNDECIDED, "12 correct against fresh’s 4 may be chance"),
        (trace(items(2, 16), **NONE), Finding.UNDECIDED, "draw more"),
        (trace(FULL, fresh=(0, 40)), Finding.UNDECIDED, "not run: unrevised, decoy"),
        # One chance hit of the decoy's few draws is not clearly less often, and far from as often.
        (trace(items(6, 8), fresh=(0, 40), unrevised=(0, 40), decoy=(1, 8)), Finding.UNDECIDED, "overlap: draw more"),
        (trace(items(2, 8), fresh=(0, 40), unrevised=(0, 40), decoy=(1, 8)), Finding.SMUGGLED, "not clearly less"),
        # Nobody looked for false equations, or at another step's texts: reasoning can't be said.
        (trace(FULL, leaks_of=None, **NONE), Finding.UNDECIDED, "not run: leaks"),
        (trace(FULL, leaks_of=1, **NONE), Finding.UNDECIDED, "not run: leaks"),
        # Equal compute would buy more draws than a control may have.
        (trace(FULL, **NONE | {"fresh": (0, 1024)}), Finding.UNDECIDED, "fresh had 1,024 draws, the most there are"),
        (trace(FULL, **NONE | {"fresh": (12, 1024)}), Finding.LUCKY, "fresh finds as many"),
        # Smuggling is said even where the other controls were not run.
        (trace(FULL, decoy=(16, 16)), Finding.SMUGGLED, "not clearly less often"),
    ],
)
def test_findings(record, finding, because):
    audit = conclude(record)
    assert audit.finding is finding
    assert because in " | ".join(audit.because)


@pytest.mark.parametrize(
    ("record", "because"),
    [
        (trace(items(0, 16), (3.0, 2.9, 2.8)), "hardly made the answer likelier: toward loss 3.00 to 2.80"),
        (trace(items(0, 16), (5.0, 3.0, 2.5)), "still unlikely after the steps: toward loss 2.50"),
        (trace(items(0, 16), nearest=(0, 0, 0, 13)), "the prefix fell apart: 3 of 4 nearest tokens changed"),
        (trace(items(0, 16, token_ids=(1, 2) * 30)), "16 of 16 continuations end in a loop"),
        (trace(items(0, 16, finish=FinishReason.LENGTH)), "16 of 16 continuations were cut off"),
        (trace(items(0, 16)), "the commonest answer is another one: 8 in 16 of 16"),
    ],
)
def test_why_a_prompt_was_not_rescued(record, because):
    audit = conclude(record)
    assert audit.finding is Finding.NOT_RESCUED
    assert because in " | ".join(audit.because)


def test_no_answer_at_all_has_a_reason_too():
    silent = [item.model_copy(update={"answer": None, "verdict": Verdict.UNJUDGED}) for item in items(0, 4)]
    assert conclude(trace(silent)).because[0].startswith("the prefix reads on")


def test_the_last_step_that_was_continued_is_audited():
    both = (*items(3, 4, step=1), *items(1, 4, step=2), *items(2, 4, Start.ORIGINAL, step=2))
    assert audited_step(trace(both)) == 2
    audit = conclude(trace(both))
    assert [(arm.name, arm.correct, arm.n) for arm in audit.arms] == [("revised", 1, 4), ("original", 2, 4)]
    # Draw by draw: the unrevised prefix alone is right once more, so 1 pair differs.
    assert audit.paired_p == 1.0
    assert conclude(trace(items(1, 4, Start.ORIGINAL, step=0))) is None


def test_loops_and_cut_off_ones_are_counted_apart():
    mixed = (*items(0, 2, token_ids=(1, 2) * 30, finish=FinishReason.LENGTH), *items(1, 2))
    arm = conclude(trace(mixed)).arms[0]
    assert (arm.n, arm.correct, arm.degenerate, arm.truncated) == (4, 1, 2, 2)
