"""How much a visitor may ask for: the sentences, the operator's changes, and that every recorded run can be run live on
a public page."""

from __future__ import annotations

import pytest

from explorer.errors import UserError
from explorer.limits import HOME, PUBLIC, Limits, in_words, read_limits
from explorer.recorded import recorded_runs
from explorer.records import Problem, RevisionConfig, SamplingConfig
from explorer.settings import read_settings

SMALL = Limits(question=10, rollouts=4, tokens=32, steps=5, prefix=8, upload=1, runs=2)


def problem(characters: int) -> Problem:
    return Problem(id="p", question="q" * characters, answer="1")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (problem(11), "The question has 11 characters and this page allows 10: shorten it."),
        (SamplingConfig(n=5, max_new_tokens=32), "5 rollouts were asked for and this page allows 4: choose fewer."),
        (
            SamplingConfig(n=4, max_new_tokens=1000),
            "Rollouts of 1,000 tokens were asked for and this page allows 32: choose fewer.",
        ),
        (RevisionConfig(steps=6), "6 steps were asked for and this page allows 5: choose fewer."),
    ],
)
def test_too_much_is_one_sentence(asked, said):
    with pytest.raises(UserError) as refused:
        SMALL.check(asked)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "asked",
    [problem(10), SamplingConfig(n=4, max_new_tokens=32), RevisionConfig(steps=5)],
    ids=lambda one: str(one)[:9],
)
def test_as_much_as_is_allowed_is_allowed(asked):
    SMALL.check(asked)


def test_going_on_with_a_run_from_disk():
    trace = recorded_runs()[0].trace
    split = trace.split
    m, c, a = (len(ids) for ids in (split.prefix_token_ids, split.continuation_token_ids, trace.anchor.token_ids))
    enough = Limits(question=len(trace.problem.question), prefix=m, tokens=max(c, a, 8))
    enough.check_again(trace)
    enough.check_again(trace.model_copy(update={"split": None}))
    longer = split.model_copy(update={"continuation_token_ids": (1,) * (enough.tokens + 1)})
    anchor = trace.anchor.model_copy(update={"token_ids": (1,) * (enough.tokens + 1)})
    for limits, asked, says in (
        (enough.model_copy(update={"question": 3}), trace, "The question has"),
        (enough.model_copy(update={"prefix": m - 1}), trace, "The prefix has"),
        (enough, trace.model_copy(update={"split": longer}), "The failed continuation has"),
        (enough, trace.model_copy(update={"anchor": anchor}), "Connector and answer have"),
    ):
        with pytest.raises(UserError, match=says):
            limits.check_again(asked)


def test_prefix_and_runs():
    SMALL.check_prefix(8)
    SMALL.check_runs(1)
    with pytest.raises(UserError, match="The prefix has 9 tokens and this page allows 8"):
        SMALL.check_prefix(9)
    with pytest.raises(UserError, match="This visit has made 2 runs"):
        SMALL.check_runs(2)


def test_a_public_page_allows_less_and_its_operator_decides():
    assert read_limits("", public=False) == HOME
    assert read_limits("", public=True) == PUBLIC
    for name in Limits.model_fields:
        assert getattr(PUBLIC, name) < getattr(HOME, name)
    assert read_limits(" steps=60 ,rollouts = 64,", public=True) == PUBLIC.model_copy(
        update={"steps": 60, "rollouts": 64}
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepz=3", "There is no limit 'stepz': use question"),
        ("steps", "The limit steps can't be ''"),
        ("steps=many", "The limit steps can't be 'many'"),
        ("steps=0", "The limit steps can't be '0'"),
        ("=3", "There is no limit ''"),
    ],
)
def test_limits_that_can_not_be_read(text, said):
    with pytest.raises(UserError) as refused:
        read_limits(text, public=True)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_they_come_from_the_settings(monkeypatch):
    monkeypatch.setenv("LATENTREVISE_PUBLIC", "1")
    monkeypatch.setenv("LATENTREVISE_LIMITS", "runs=3")
    settings = read_settings()
    assert settings.allowed == PUBLIC.model_copy(update={"runs": 3})
    assert settings.kept_hours == 24
    assert read_settings(keep_hours=2.0).kept_hours == 2
    monkeypatch.delenv("LATENTREVISE_PUBLIC")
    assert read_settings().kept_hours == 0


def test_what_is_said_before_the_first_click_names_every_limit_but_the_questions_and_the_checkers():
    words = in_words(SMALL, 30, 24)
    for part in (
        "4 rollouts of 32 tokens",
        "5 steps",
        "prefixes of 8",
        "1 MB",
        "100,000 problems",
        "2 runs",
        "30 s",
        "24 hours",
    ):
        assert part in words
    assert "hours" not in in_words(SMALL, 30, 0)


@pytest.mark.parametrize("run", recorded_runs(), ids=lambda run: run.id)
def test_every_recorded_run_can_be_run_live_on_a_public_page(run):
    trace = run.trace
    for asked in (trace.problem, trace.sampling, trace.after_sampling, trace.config):
        PUBLIC.check(asked)
    PUBLIC.check_prefix(len(trace.split.prefix_token_ids))
