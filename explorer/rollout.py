"""From a prompt (or a prefix) to judged rollouts, one decoding step at a time, so that a screen can show them grow and
a person can stop.

What it does not do: know how tokens are sampled (`model.py`) or answers compared (`verdict.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from explorer.answer import locate_answer
from explorer.model import Context, LanguageModel
from explorer.records import FinishReason, Rollout, SamplingConfig, StageCost, Verdict
from explorer.stopwatch import Stopwatch

Engine = Callable[[SamplingConfig, int, int], Iterator[list[tuple[int, int | None]]]]
"""(sampling, stream, first row) -> what `LanguageModel.sample` yields, for a prompt that the engine knows."""


class JudgeLike(Protocol):
    """What judging needs: `verdict.Judge`, or a fake in tests."""

    def judge(self, gold: str, text: str, *, cut_off: bool):
        """A judgement with `verdict`, `answer` and `reason`."""


@dataclass
class Sampling:
    """A sampling under way. `drafts` holds each row's token ids so far; `rollouts` the finished and judged ones, by
    row."""

    n: int
    drafts: list[list[int]] = field(default_factory=list)
    rollouts: dict[int, Rollout] = field(default_factory=dict)
    forward_tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens sampled so far, over all rows."""
        return sum(len(draft) for draft in self.drafts)

    @property
    def cost(self) -> StageCost:
        """What it has cost until now."""
        return StageCost(seconds=round(self.seconds, 4), forward_tokens=self.forward_tokens)

    def finished(self) -> tuple[Rollout, ...]:
        """The judged rollouts in row order; after a cancellation those that had ended by then."""
        return tuple(self.rollouts[row] for row in sorted(self.rollouts))


def sample_and_judge(
    model: LanguageModel,
    context: Context,
    prefix: Tensor | None,
    sampling: SamplingConfig,
    gold: str,
    judge: JudgeLike,
    stream: int = 0,
    before: Sequence[int] = (),
    cancelled: Callable[[], bool] = lambda: False,
    first_row: int = 0,
    engine: Engine | None = None,
) -> Iterator[Sampling]:
    """Sample `sampling.n` rollouts and judge each as soon as it ends.

    Args:
        model: the frozen model.
        context: the prompt, read once.
        prefix: (M, hidden) embeddings to go on from, or None.
        sampling: n, temperature, top_p, max_new_tokens, seed.
        gold: the gold answer.
        judge: compares an answer with the gold one.
        stream: tells apart the samplings of one run that share a seed.
        before: token ids of the prefix, or the nearest ones; their text is judged together with its continuation.
        cancelled: asked at every decoding step; true ends the sampling, and what had finished is kept.
        first_row: how many rows of the stream were drawn before.
        engine: draws instead of the model; for a plain prompt only.

    Yields:
        the same `Sampling` after each decoding step, grown.
    """
    state = Sampling(n=sampling.n, drafts=[[] for _ in range(sampling.n)])
    watch = Stopwatch()
    text_before = model.decode(before) if before else ""
    state.forward_tokens += 1 + (0 if prefix is None else prefix.shape[0])

    def close(row: int, finish: FinishReason) -> None:
        text = model.text_after(before, state.drafts[row]) if before else model.decode(state.drafts[row])
        cut_off = finish is FinishReason.LENGTH
        judgement = judge.judge(gold, text, cut_off=cut_off)
        if text_before and judgement.verdict is not Verdict.UNJUDGED:
            # An equation may begin before the cut, so the whole is judged; but only if the continuation states an
            # answer of its own, and the whole's is that one: a prefix that holds the answer must not be counted as
            # having reached it.
            stated = locate_answer(text_before + text)
            if stated is None or stated.end > len(text_before):
                judgement = judge.judge(gold, text_before + text, cut_off=cut_off)
        state.rollouts[row] = Rollout(
            token_ids=tuple(state.drafts[row]),
            text=text,
            answer=judgement.answer,
            verdict=judgement.verdict,
            reason=judgement.reason,
            finish=finish,
        )

    if engine is None:
        drawn = model.sample(context, prefix, sampling, stream, first_row)
    else:
        drawn = engine(sampling, stream, first_row)
    for events in drawn:
        state.forward_tokens += len(events)
        for row, token in events:
            if token is None:
                close(row, FinishReason.STOP)
            else:
                state.drafts[row].append(token)
        state.seconds = watch.seconds
        with watch.paused():
            yield state
        if cancelled():
            return
    for row in range(sampling.n):
        if row not in state.rollouts:
            close(row, FinishReason.LENGTH)
            state.seconds = watch.seconds
            with watch.paused():
                yield state
