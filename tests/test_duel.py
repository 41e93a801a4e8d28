"""Two runs beside each other: every setting has its row, outcomes are counted by hand, notes claim no more than counts
allow."""

from __future__ import annotations

import json
from math import sqrt

import pytest

from explorer.records import (
    Anchor,
    Continuation,
    Evaluation,
    ModelInfo,
    Problem,
    Prompt,
    RevisionConfig,
    RevisionStep,
    Rollout,
    RunStatus,
    SamplingConfig,
    Split,
    Start,
    StepRule,
    Trace,
    Verdict,
)
from explorer.views.duel import duel_payload

OPTIONS = [("r-1", "22 + 8, γ 0.05", "Recorded runs"), ("u-2", "my own", "Your runs")]


def continuations(start: Start, correct: int, n: int, step: int = 2, ids: tuple[int, ...] = (1, 2)):
    return tuple(
        Continuation(
            token_ids=ids, text="…", verdict=Verdict.CORRECT if i < correct else Verdict.WRONG, step=step, start=start
        )
        for i in range(n)
    )


def move(k: int, nearest: tuple[int, ...], moved: tuple[float, ...]) -> RevisionStep:
    zeros = (0.0,) * len(nearest)
    return RevisionStep(
        k=k,
        step_size=0.05,
        toward_loss=2.0,
        away_loss=0.5,
        objective=1.85,
        gap=3.0,
        vertices=nearest,
        nearest=nearest,
        moved=moved,
        toward_grad_norm=zeros,
        away_grad_norm=zeros,
        grad_cosine=zeros,
    )


def trace(**change) -> Trace:
    """A run of two steps over three positions; the last step leaves one of them at another token."""
    values = dict(
        created_at="2026-01-01T00:00:00+00:00",
        tool_version="0",
        model=ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=99, hidden_size=8),
        problem=Problem(id="p", question="What is 22 + 8?", answer="30"),
        prompt=Prompt(text="…", token_ids=(1,)),
        sampling=SamplingConfig(n=8, seed=3),
        before=(Rollout(token_ids=(5, 6, 7, 8), text="…", answer="28", verdict=Verdict.WRONG),),
        split=Split(rollout=0, prefix_token_ids=(5, 6, 7), continuation_token_ids=(8,)),
        anchor=Anchor(text="30", token_ids=(9,), answer_span=(0, 1)),
        config=RevisionConfig(steps=2),
        steps=(move(0, (5, 6, 7), (0.1, 0.1, 0.1)), move(1, (5, 60, 7), (0.3, 0.7, 0.5))),
        final=Evaluation(toward_loss=0.25, away_loss=0.9, objective=-0.02, gap=0.125),
        after=(
            *continuations(Start.REVISED, 3, 8),
            *continuations(Start.PROJECTED, 1, 8),
            *continuations(Start.ORIGINAL, 0, 8),
        ),
    )
    return Trace(**{**values, **change})


def duel(a: Trace, b: Trace) -> dict:
    payload = duel_payload(a, b, OPTIONS, "r-1", "This run", "22 + 8")
    assert payload == json.loads(json.dumps(payload, allow_nan=False))
    return payload


def rows(payload: dict) -> dict[str, dict]:
    found = {row["label"]: row for row in payload["rows"]}
    assert len(found) == len(payload["rows"]), "labels name rows"
    return found


def differing(payload: dict, kind: str = "setting") -> set[str]:
    return {row["label"] for row in payload["rows"] if row["differs"] and row["kind"] == kind}


def says(payload: dict, piece: str) -> bool:
    return any(piece in note for note in payload["notes"])


# ---- on and off ----


@pytest.mark.parametrize(("a", "b", "against"), [(None, None, None), (trace(), None, None), (None, trace(), "r-1")])
def test_without_two_runs_only_the_choice_is_given(a, b, against):
    payload = duel_payload(a, b, OPTIONS, against, "", "")
    assert payload == {
        "options": [
            {"id": "r-1", "label": "22 + 8, γ 0.05", "group": "Recorded runs"},
            {"id": "u-2", "label": "my own", "group": "Your runs"},
        ],
        "against": None,
        "titles": None,
        "rows": [],
        "same_problem": False,
        "notes": [],
    }


def test_titles_and_choice_come_back():
    payload = duel(trace(), trace())
    assert payload["titles"] == ["This run", "22 + 8"]
    assert payload["against"] == "r-1"


def test_a_run_without_split_or_continuations_can_still_be_set_beside_another():
    bare = trace(split=None, anchor=None, config=None, steps=(), final=None, after=(), before=())
    payload = duel(bare, trace())
    found = rows(payload)
    assert found["Away weight λ"]["a"] == "–"
    assert found["Prefix length M"]["b"] == "3 tokens"
    assert found["Revised: correct"]["a"] == "not sampled"
    assert says(payload, "Run A has no continuations yet")


# ---- settings ----


def test_the_same_run_differs_in_nothing():
    payload = duel(trace(), trace())
    assert differing(payload) == differing(payload, "outcome") == set()
    assert payload["same_problem"]
    assert says(payload, "All settings are the same")


OTHER_CONFIG = {
    "steps": (3, "Steps planned K"),
    "step_rule": (StepRule.LINE_SEARCH, "Step rule"),
    "step_size": (0.1, "Step size γ"),
    "toward_weight": (0.0, "Toward weight"),
    "away_weight": (0.0, "Away weight λ"),
    "connector": (" The answer is ", "Connector"),
    "projection": ("cosine", "Projection by"),
    "hull": ("plausible", "Hull"),
    "hull_size": (32, "Plausible tokens"),
    "ban_answer_tokens": (True, "Answer's tokens banned"),
    "max_continuation_tokens": (32, "Failed continuation, at most"),
    "gap_tolerance": (0.5, "Ends early at a gap of"),
}
OTHER_SAMPLING = {
    "n": (4, "Rollouts N"),
    "temperature": (1.0, "Temperature"),
    "top_p": (0.9, "Top-p"),
    "max_new_tokens": (64, "New tokens, at most"),
    "seed": (4, "Seed"),
}


def test_no_setting_is_forgotten():
    assert set(OTHER_CONFIG) == set(RevisionConfig.model_fields)
    assert set(OTHER_SAMPLING) == set(SamplingConfig.model_fields)


@pytest.mark.parametrize("name", OTHER_CONFIG)
def test_each_setting_of_the_revision_has_its_row(name):
    value, label = OTHER_CONFIG[name]
    a = trace()
    # Through validation, as a file would: model_copy would leave the enum a string.
    payload = duel(a, trace(config=RevisionConfig(**{**dict(a.config), name: value})))
    assert differing(payload) == {label}
    row = rows(payload)[label]
    assert row["a"] != row["b"]
    assert row["why"]


@pytest.mark.parametrize("name", OTHER_SAMPLING)
def test_each_setting_of_the_sampling_has_its_row(name):
    value, label = OTHER_SAMPLING[name]
    a = trace()
    payload = duel(a, trace(sampling=a.sampling.model_copy(update={name: value})))
    assert differing(payload) == {label}


def test_continuations_drawn_another_way_are_a_setting_but_their_number_is_not():
    other = SamplingConfig(n=8, seed=3, max_new_tokens=200)
    payload = duel(trace(), trace(after_sampling=other))
    assert differing(payload) == {"Continuations' sampling"}
    assert "200 tokens at most" in rows(payload)["Continuations' sampling"]["b"]
    assert says(payload, "The sampling differs in length limit")
    assert differing(duel(trace(), trace(after_sampling=SamplingConfig(n=64, seed=3)))) == set()


def test_values_that_look_alike_but_differ_are_told_apart():
    a = trace()
    other = Rollout(token_ids=(5, 6, 7, 80), text="…", answer="28", verdict=Verdict.WRONG)
    payload = duel(a, trace(before=(other,)))
    row = rows(payload)["Failed rollout"]
    assert row["differs"]
    assert row["a"] != row["b"]
    # Not rounded away: 0.30000000001 is not 0.3.
    close = trace(config=RevisionConfig(steps=2, away_weight=0.30000000001))
    assert rows(duel(a, close))["Away weight λ"]["b"] == "0.30000000001"


def test_gamma_counts_for_nothing_where_the_rule_sets_it():
    a = trace(config=RevisionConfig(steps=2, step_rule=StepRule.HARMONIC, step_size=0.05))
    b = trace(config=RevisionConfig(steps=2, step_rule=StepRule.HARMONIC, step_size=0.5))
    assert differing(duel(a, b)) == set()


def test_models_are_told_apart_by_their_weights():
    info = trace().model
    named = lambda **change: trace(model=info.model_copy(update=change))  # noqa: E731
    ours = named(fingerprint="aa", revision="hash")
    renamed = named(id="folder", fingerprint="aa", revision="hash")
    assert differing(duel(ours, renamed)) == set(), "the same files under another name"
    copied = named(id="owner/m", source="hub", fingerprint="aa", revision="commit")
    assert differing(duel(ours, copied)) == set(), "a folder of the hub's files"
    # LoRA's training leaves the embeddings, and so the fingerprint, as they were.
    for change in ({"id": "trained"}, {"revision": "other"}):
        a, b = (ours if "revision" in change else named(fingerprint="aa")), {"fingerprint": "aa", **change}
        payload = duel(a, named(**b))
        assert differing(payload) == {"Model"}
        assert rows(payload)["Model"]["a"] != rows(payload)["Model"]["b"]
        assert says(payload, "different models")
    payload = duel(named(fingerprint="aa"), named(fingerprint="bb"))
    assert differing(payload) == {"Model"}
    assert rows(payload)["Model"]["a"] != rows(payload)["Model"]["b"]
    assert says(payload, "different models")
    # A fingerprint is of rounded embeddings, so another number format alone changes it.
    payload = duel(named(fingerprint="aa"), named(fingerprint="bb", dtype="bfloat16"))
    assert differing(payload) == {"Number format"}
    assert not says(payload, "different models")


def test_a_problem_is_its_question_and_answer_whatever_its_id():
    problem = trace().problem
    assert duel(trace(), trace(problem=problem.model_copy(update={"id": "q", "source": "bank"})))["same_problem"]
    payload = duel(trace(), trace(problem=problem.model_copy(update={"answer": "31"})))
    assert not payload["same_problem"]
    assert payload["notes"][0] == "These are different problems: compare the movement, not the counts."
    assert not says(payload, "overlap")


# ---- outcomes ----


def score_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's interval as roots of (p̂ − p)² = z² p (1 − p) / n: p² (1 + z²/n) − p (2p̂ + z²/n) + p̂² = 0."""
    rate, z2 = successes / n, 1.959964**2
    a, b, c = 1 + z2 / n, -(2 * rate + z2 / n), rate * rate
    root = sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def test_outcomes_are_counted():
    b = trace(
        steps=(move(0, (50, 60, 7), (1.0, 2.0, 6.0)),),
        final=Evaluation(toward_loss=1.23456, away_loss=0.5, objective=-0.00001234, gap=0.0),
        status=RunStatus.CONVERGED,
        after=(
            *continuations(Start.REVISED, 8, 8, step=0),  # an earlier point: not what is reported
            *continuations(Start.REVISED, 1, 3, step=1, ids=(4, 2) * 20),
            *continuations(Start.REVISED, 0, 1, step=1),
            *continuations(Start.PROJECTED, 0, 4, step=1),
            *continuations(Start.ORIGINAL, 4, 4, step=0),
        ),
    )
    found = rows(duel(trace(), b))
    shown = {label: (row["a"], row["b"]) for label, row in found.items() if row["kind"] == "outcome"}

    def rate(successes, n):
        low, high = score_interval(successes, n)
        return f"{successes} of {n} ({round(100 * low)} to {round(100 * high)}\u00a0%)"

    assert shown == {
        "Steps taken": ("2, completed", "1, converged"),
        "Toward loss at the end": ("0.25", "1.235"),
        "Away loss at the end": ("0.9", "0.5"),
        "Objective at the end": ("−0.02", "−1.234e−05"),
        "Gap at the end": ("0.125", "0"),
        "Positions that changed token": ("1 of 3", "2 of 3"),
        "Mean distance moved": ("0.5", "3"),
        "Revised: correct": (rate(3, 8), rate(1, 4)),
        "Projected: correct": (rate(1, 8), rate(0, 4)),
        "Unrevised: correct": (rate(0, 8), "not sampled"),
        "Revised: end in a loop": ("0 of 8", "3 of 4"),
    }
    assert all(row["differs"] for row in found.values() if row["kind"] == "outcome")


def test_a_difference_that_no_digit_shows_is_none():
    final = trace().final
    near = final.model_copy(update={"toward_loss": final.toward_loss + 1e-9})
    assert differing(duel(trace(), trace(final=near)), "outcome") == set()


# ---- notes ----


def counts(correct: int, n: int, **change) -> Trace:
    return trace(after=continuations(Start.REVISED, correct, n), **change)


@pytest.mark.parametrize(("a", "b"), [((0, 8), (8, 8)), ((1, 64), (20, 64)), ((0, 8), (3, 8)), ((4, 8), (8, 8))])
def test_overlap_is_said_exactly_when_there_is_one(a, b):
    (low_a, high_a), (low_b, high_b) = score_interval(*a), score_interval(*b)
    overlap = max(low_a, low_b) <= min(high_a, high_b)
    for left, right, better in ((a, b, "B"), (b, a, "A")):
        payload = duel(counts(*left), counts(*right))
        assert says(payload, "The intervals overlap: these counts don't prove a difference.") == overlap
        assert says(payload, f"that {better} reaches the answer more often is unlikely") != overlap


def test_overlap_cases_cover_both():
    """Of the cases above two are apart and two overlap, so neither sentence is tested in vain."""
    assert score_interval(0, 8)[1] < score_interval(8, 8)[0]
    assert score_interval(1, 64)[1] < score_interval(20, 64)[0]
    assert score_interval(0, 8)[1] > score_interval(3, 8)[0]
    assert score_interval(4, 8)[1] > score_interval(8, 8)[0]


def test_unequal_budgets_are_named():
    payload = duel(counts(3, 8), counts(3, 4))
    assert says(payload, "The sampling budgets differ (8 and 4 continuations)")
    assert not says(duel(counts(3, 8), counts(2, 8)), "budgets")
    hot = trace().sampling.model_copy(update={"temperature": 1.2, "max_new_tokens": 64})
    assert says(duel(counts(3, 8), counts(3, 8, sampling=hot)), "differs in temperature and length limit")


def test_points_of_departure_are_named_when_they_differ():
    late = trace(after=continuations(Start.REVISED, 3, 8, step=1))
    assert says(duel(trace(), late), "A was continued from point 2, B from point 1.")


def test_one_change_explains_and_several_do_not():
    one = trace(config=RevisionConfig(steps=2, away_weight=0.0))
    two = trace(config=RevisionConfig(steps=2, away_weight=0.0, step_size=0.1))
    assert not says(duel(trace(), one), "settings differ")
    assert says(duel(trace(), two), "2 settings differ, so no single one of them explains the outcome.")
    assert says(duel(trace(), one), "compare the losses, not the objectives")
    assert not says(duel(trace(), trace(config=RevisionConfig(steps=2, step_size=0.1))), "objectives")


def test_missing_counts_are_named():
    assert says(duel(trace(after=()), trace()), "Run A has no continuations yet: there are no counts to compare.")
    assert says(duel(trace(), trace(after=())), "Run B has no continuations yet")
    assert says(duel(trace(after=()), trace(after=())), "Neither run has any continuations yet")
