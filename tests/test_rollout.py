"""What a continuation's verdict rests on, with a model that says what it is told and the real judge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from explorer.records import SamplingConfig, Verdict
from explorer.rollout import sample_and_judge
from explorer.verdict import Judge


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


def says(text: str):
    """A model whose every rollout is one text, a character a token."""

    def sample(context, prefix, sampling, stream, first_row):
        for char in text:
            yield [(0, ord(char))]
        yield [(0, None)]

    def decode(ids):
        return "".join(map(chr, ids))

    return SimpleNamespace(sample=sample, decode=decode, text_after=lambda before, ids: decode(ids))


@pytest.mark.parametrize(
    ("before", "text", "verdict", "answer"),
    [
        # An equation that begins before the cut.
        ("22 + 8 = 3", "0.", Verdict.CORRECT, "30"),
        ("He adds 22 and 8. ", "The answer is 30.", Verdict.CORRECT, "30"),
        # The prefix's own answer is not the continuation's.
        ("The answer is 30. ", "So he has 12 apples.", Verdict.WRONG, "12"),
        (r"It is \boxed{30}. ", "So he has 12 apples.", Verdict.WRONG, "12"),
        ("The answer is 12. ", "No, it is 30 apples.", Verdict.CORRECT, "30"),
        # Nothing of its own is no answer, whatever stands before.
        ("The answer is 30. ", "That was easy.", Verdict.UNJUDGED, None),
    ],
)
def test_the_continuations_own_answer_counts(judge, before, text, verdict, answer):
    *_, state = sample_and_judge(
        says(text), None, None, SamplingConfig(n=1, max_new_tokens=99), "30", judge, before=[*map(ord, before)]
    )
    (rollout,) = state.finished()
    assert (rollout.verdict, rollout.answer) == (verdict, answer)
