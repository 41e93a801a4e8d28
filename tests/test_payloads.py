"""Payloads against counts made by hand: what the views are told is what the records say, and model text stays data."""

from __future__ import annotations

import copy
import json

import pytest

from explorer.records import (
    Anchor,
    Continuation,
    Evaluation,
    FinishReason,
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
    Trace,
    Verdict,
)
from explorer.split import SplitPoint
from explorer.views.payloads import (
    compare_payload,
    counts,
    rescue_sentence,
    rollouts_payload,
    shared_length,
    stage_payload,
)

CORRECT, WRONG, UNJUDGED = Verdict.CORRECT, Verdict.WRONG, Verdict.UNJUDGED
HOSTILE = {7: "<script>alert(1)</script>", 8: "`${1+1}`", 9: "\u202e\x00", 10: "\n", 11: "</div>{{value}}"}

# Wilson's 95 % score interval, from tables (Brown, Cai and DasGupta's formula, four digits).
WILSON = {
    (0, 4): (0, 0.4899),
    (1, 4): (0.0456, 0.6994),
    (2, 3): (0.2077, 0.9385),
    (8, 8): (0.6756, 1),
    (0, 8): (0, 0.3244),
}


def text_of(token: int) -> str:
    return HOSTILE.get(token, f" t{token}")


def decode(ids) -> str:
    return "".join(text_of(token) for token in ids)


def rollout(ids, verdict=WRONG, answer="9", finish=FinishReason.STOP, text=None) -> Rollout:
    return Rollout(
        token_ids=tuple(ids), text=decode(ids) if text is None else text, answer=answer, verdict=verdict, finish=finish
    )


def after(start, ids, verdict=WRONG, step=2, **more) -> Continuation:
    return Continuation(**dict(rollout(ids, verdict, **more)), start=start, step=step)


def move(k, vertices, nearest) -> RevisionStep:
    return RevisionStep(
        k=k,
        step_size=0.1 + 0.2,  # 0.30000000000000004: must not be rounded, the browser rebuilds weights from it
        toward_loss=1.23456789,
        away_loss=2.0,
        objective=-0.000123456789,
        gap=12345678.9,
        vertices=vertices,
        nearest=nearest,
        moved=(0.123456789, 1.0),
        toward_grad_norm=(1.0, 1.0),
        away_grad_norm=(1.0, 1.0),
        grad_cosine=(0.0, -1.0),
    )


@pytest.fixture
def trace() -> Trace:
    """Four rollouts, the second cut after two of its five tokens, two steps taken."""
    return Trace(
        created_at="2026-01-01T00:00:00+00:00",
        tool_version="0",
        model=ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=100, hidden_size=8),
        problem=Problem(id="p-1", question="What is <b>1</b> + 1?", answer="2"),
        prompt=Prompt(text="…", token_ids=(1, 2, 3)),
        sampling=SamplingConfig(n=4, max_new_tokens=5, seed=3),
        before=(
            rollout([20, 21], CORRECT, "2"),
            rollout([7, 8, 9, 10, 11], WRONG, "9", FinishReason.LENGTH),
            rollout([22] * 30, UNJUDGED, None, FinishReason.LENGTH),
            rollout([23], WRONG),
        ),
        split=Split(rollout=1, prefix_token_ids=(7, 8), continuation_token_ids=(9, 10)),
        anchor=Anchor(text=" is 2", token_ids=(30, 31), answer_span=(1, 2)),
        config=RevisionConfig(steps=2),
        steps=(move(0, (40, 41), (7, 8)), move(1, (42, 41), (7, 50))),
        final=Evaluation(toward_loss=0.1, away_loss=2.5, objective=-0.65, gap=0.0),
        status=RunStatus.COMPLETED,
    )


def wire(payload):
    """Through JSON and back, as it goes to the browser; fails for NaN, tuples, keys that are numbers."""
    assert payload == json.loads(json.dumps(payload, allow_nan=False))
    return payload


# ---- counts ----


@pytest.mark.parametrize("correct_of_n", WILSON)
def test_counts_and_interval(correct_of_n):
    correct, n = correct_of_n
    tally = counts([rollout([1], CORRECT)] * correct + [rollout([1])] * (n - correct))
    assert (tally["n"], tally["correct"], tally["wrong"], tally["unjudged"]) == (n, correct, n - correct, 0)
    assert tally["interval"] == pytest.approx(WILSON[correct_of_n], abs=6e-5)


def test_counts_of_nothing_claim_nothing(trace):
    assert counts([]) == {
        "n": 0,
        "correct": 0,
        "wrong": 0,
        "unjudged": 0,
        "truncated": 0,
        "degenerate": 0,
        "interval": [0.0, 1.0],
    }


def test_the_truncated_and_the_looping_are_counted_apart_from_verdicts(trace):
    tally = counts(trace.before)
    assert (tally["correct"], tally["wrong"], tally["unjudged"]) == (1, 2, 1)
    assert (tally["truncated"], tally["degenerate"]) == (2, 1)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ((), (), 0),
        ((1,), (), 0),
        ((1, 2), (1, 2), 2),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (1, 9, 3), 1),
        ((4,), (1,), 0),
    ],
)
def test_where_two_sequences_part(a, b, length):
    assert shared_length(a, b) == shared_length(b, a) == length


# ---- rollouts ----


def test_rollouts_that_are_done(trace):
    points = (SplitPoint("fixed", 2, "Two."), SplitPoint("first-error", None, "None found."))
    value = wire(rollouts_payload(trace, text_of, state="done", split=points[0], split_rollout=1, presets=points))
    assert [card["verdict"] for card in value["rollouts"]] == ["correct", "wrong", "unjudged", "wrong"]
    assert [card["answer"] for card in value["rollouts"]] == ["2", "9", None, "9"]
    assert [card["finish"] for card in value["rollouts"]] == ["stop", "length", "length", "stop"]
    assert not any(card["running"] for card in value["rollouts"])
    # Hostile token texts travel as they are: it is the scripts that show them as text.
    assert value["rollouts"][1]["tokens"] == [HOSTILE[i] for i in range(7, 12)]
    assert value["problem"]["question"] == "What is <b>1</b> + 1?"
    assert (value["summary"]["n"], value["summary"]["correct"], value["summary"]["zero_hit"]) == (4, 1, False)
    assert value["split"] == {"rollout": 1, "m": 2, "c": 2, "name": "fixed", "why": "Two."}
    assert value["presets"]["rollout"] == 1
    assert [(p["name"], p["m"]) for p in value["presets"]["points"]] == [("fixed", 2), ("first-error", None)]
    assert all(p["label"] and p["label"] != p["name"] for p in value["presets"]["points"])


def test_what_a_cut_pushes_away_ends_at_the_limit(trace):
    def scored(trace, rollout, m):
        value = rollouts_payload(trace, text_of, state="done", split=SplitPoint("custom", m, ""), split_rollout=rollout)
        return value["split"]["c"]

    assert scored(trace, 1, 3) == 2, "to the end of it"
    assert scored(trace, 2, 5) == 25
    short = trace.model_copy(update={"config": trace.config.model_copy(update={"max_continuation_tokens": 8})})
    assert scored(short, 2, 5) == 8
    assert scored(short, 2, 25) == 5
    long = trace.model_copy(update={"before": (rollout([22] * 100),), "split": None, "config": None})
    assert scored(long, 0, 10) == 64, "before anything is laid the default holds"


def test_zero_hit_is_said_of_finished_rollouts_only(trace):
    failed = trace.model_copy(update={"before": trace.before[1:]})
    assert rollouts_payload(failed, text_of, state="done")["summary"]["zero_hit"] is True
    assert rollouts_payload(failed, text_of, state="sampling")["summary"] is None
    nothing = trace.model_copy(update={"before": ()})
    assert rollouts_payload(nothing, text_of, state="cancelled")["summary"] is None


def test_rollouts_under_way(trace):
    nothing = trace.model_copy(update={"before": ()})
    done = {2: rollout([5, 6], WRONG)}
    value = wire(
        rollouts_payload(
            nothing, text_of, state="sampling", drafts=[[5], [], [5, 6]], rollouts=done, tokens_per_second=12.5
        )
    )
    assert [card["running"] for card in value["rollouts"]] == [True, True, False]
    assert [card["verdict"] for card in value["rollouts"]] == [None, None, "wrong"]
    assert [card["tokens"] for card in value["rollouts"]] == [[" t5"], [], [" t5", " t6"]]
    assert (value["done"], value["tokens_per_second"], value["split"], value["presets"]) == (1, 12.5, None, None)


# ---- stage ----


def test_no_split_no_stage(trace):
    for missing in ("split", "anchor", "config"):
        assert (
            stage_payload(trace.model_copy(update={missing: None}), text_of, run_id="r", live=True, status="x") is None
        )


def test_the_stage_names_every_token_that_it_mentions(trace):
    joint = {"state": "ready", "neighbours": [[60, 0.5, 0.5]]}
    value = wire(stage_payload(trace, text_of, run_id="r", live=True, status="completed", joint=joint))
    assert value["tokens"] == {str(i): text_of(i) for i in (7, 8, 9, 10, 30, 31, 40, 41, 42, 50, 60)}
    assert (value["prefix"], value["continuation"]) == ([7, 8], [9, 10])
    assert value["anchor"]["answer_span"] == [1, 2]
    assert value["map_status"]["state"] == "absent"
    assert [step["vertices"] for step in value["steps"]] == [[40, 41], [42, 41]]


def test_numbers_are_short_but_the_step_size_is_exact(trace):
    value = stage_payload(trace, text_of, run_id="r", live=False, status="completed")
    step = value["steps"][0]
    assert step["step_size"] == 0.1 + 0.2
    assert (step["toward_loss"], step["objective"], step["gap"]) == (1.23457, -0.000123457, 12345700.0)
    assert step["moved"] == [0.123457, 1.0]
    assert value["final"] == {"toward_loss": 0.1, "away_loss": 2.5, "objective": -0.65, "gap": 0.0}
    assert value["live"] is False
    assert (
        stage_payload(
            trace.model_copy(update={"final": None, "steps": ()}), text_of, run_id="r", live=True, status="paused"
        )["final"]
        is None
    )


# ---- before and after ----


def compared(trace, items, **more):
    arguments = dict(state="done", point=2, sampling=SamplingConfig(n=3), continuations=items)
    return wire(compare_payload(trace, text_of, decode, **(arguments | more)))


def test_three_arms_side_by_side(trace):
    items = [
        after(Start.REVISED, [9, 10, 60], CORRECT, text="Wait, let me check: 2"),
        after(Start.REVISED, [9, 99], CORRECT),
        after(Start.REVISED, [61], WRONG, finish=FinishReason.LENGTH),
        after(Start.PROJECTED, [9, 10, 11], WRONG),
        after(Start.ORIGINAL, [62, 62], UNJUDGED),
    ]
    value = compared(trace, items)
    revised, projected, original = value["arms"]
    assert [arm["start"] for arm in value["arms"]] == ["revised", "projected", "original"]
    assert [(arm["correct"], arm["wrong"], arm["unjudged"], arm["done"], arm["n"]) for arm in value["arms"]] == [
        (2, 1, 0, 3, 3),
        (0, 1, 0, 1, 3),
        (0, 0, 1, 1, 3),
    ]
    assert revised["interval"] == pytest.approx(WILSON[2, 3], abs=6e-5)
    assert revised["mean_tokens"] == 2
    assert revised["markers_per_rollout"] == pytest.approx(2 / 3)  # "wait" and "let me check" in one of three
    assert revised["truncated"] == 1
    # The failed tail is [9, 10, 11], whole, though only two of its tokens are scored.
    assert [row["shared"] for row in revised["rollouts"]] == [2, 1, 0]
    assert projected["rollouts"][0]["shared"] == 3
    # At point 2 the moved prefix reads as the tokens nearest to it; the unrevised one as it was.
    assert revised["prefix"] == projected["prefix"] == [text_of(7), text_of(50)]
    assert original["prefix"] == [HOSTILE[7], HOSTILE[8]]
    before = value["before"]
    assert (before["continuation"], before["n_tokens"]) == ([HOSTILE[9], HOSTILE[10], HOSTILE[11]], 3)
    assert (before["verdict"], before["answer"], before["finish"]) == ("wrong", "9", "length")
    assert (value["step"], value["steps_total"], value["answer"]) == (2, 2, "2")
    assert value["rescue"]["rescued"] is True


def test_an_earlier_point_shows_its_own_projection(trace):
    value = compared(trace, [], point=1)
    assert value["arms"][0]["prefix"] == [HOSTILE[7], HOSTILE[8]]
    assert compared(trace, [], point=0)["arms"][1]["prefix"] == [HOSTILE[7], HOSTILE[8]]


def test_the_arm_under_way_shows_drafts_and_claims_nothing(trace):
    value = compared(
        trace,
        [after(Start.REVISED, [60], CORRECT)],
        state="sampling",
        running=Start.PROJECTED,
        drafts=[[9, 10], [5]],
        drafted={1: rollout([5], WRONG)},
    )
    revised, projected, original = value["arms"]
    assert value["rescue"] is None
    assert [row["running"] for row in projected["rollouts"]] == [True, False]
    assert [row["verdict"] for row in projected["rollouts"]] == [None, "wrong"]
    assert projected["rollouts"][0]["shared"] == 2
    assert (revised["done"], projected["done"], original["done"]) == (1, 1, 0)
    assert (original["mean_tokens"], original["markers_per_rollout"]) == (None, None)


def test_without_a_split_there_is_nothing_to_compare(trace):
    assert (
        compare_payload(
            trace.model_copy(update={"split": None}),
            text_of,
            decode,
            state="done",
            point=0,
            sampling=SamplingConfig(),
            continuations=[],
        )
        is None
    )


def test_payloads_leave_the_records_alone(trace):
    before = copy.deepcopy(trace)
    stage_payload(trace, text_of, run_id="r", live=True, status="paused")["steps"][0]["vertices"].append(1)
    rollouts_payload(trace, text_of, state="done")["problem"]["question"] = ""
    assert trace == before


# ---- what the counts say ----


def arms(revised, projected, original):
    """(correct, done) of each arm as the payload has them."""
    return [
        {
            "start": start,
            "correct": correct,
            "done": done,
            "interval": counts([rollout([1], CORRECT)] * correct + [rollout([1])] * (done - correct))["interval"],
        }
        for start, (correct, done) in zip(
            ("revised", "projected", "original"), (revised, projected, original), strict=True
        )
    ]


@pytest.mark.parametrize(
    ("given", "point", "rescued", "sentence", "caveat"),
    [
        (
            arms((0, 0), (0, 0), (0, 0)),
            3,
            False,
            "No continuation of the revised prefix has finished yet.",
            "",
        ),
        (
            arms((1, 8), (0, 8), (1, 8)),
            0,
            False,
            "Step 0 is the unrevised prefix: 1 of 8 continuations are correct.",
            "Take some steps first",
        ),
        (
            arms((0, 8), (0, 8), (0, 8)),
            10,
            False,
            "Not rescued: after 10 steps none of 8 continuations is correct; the unrevised prefix reaches 0 of 8, "
            "the projected tokens 0 of 8.",
            "",
        ),
        (
            arms((3, 8), (1, 8), (1, 8)),
            10,
            True,
            "Rescued: after 10 steps 3 of 8 continuations are correct; the unrevised prefix reaches 1 of 8, "
            "the projected tokens 1 of 8.",
            "The intervals overlap",
        ),
        (
            arms((8, 8), (2, 8), (0, 8)),
            10,
            True,
            "Rescued: after 10 steps 8 of 8 continuations are correct; the unrevised prefix reaches 0 of 8, "
            "the projected tokens 2 of 8.",
            "The intervals are apart",
        ),
        (
            arms((2, 5), (0, 0), (0, 0)),
            4,
            True,
            "Rescued: after 4 steps 2 of 5 continuations are correct.",
            "",
        ),
    ],
    ids=["nothing yet", "point 0", "not rescued", "overlapping", "apart", "cancelled after the first arm"],
)
def test_the_sentence_for_each_case(given, point, rescued, sentence, caveat):
    said = rescue_sentence(given, point)
    assert (said["rescued"], said["sentence"]) == (rescued, sentence)
    assert said["caveat"].startswith(caveat)
    assert bool(said["caveat"]) == bool(caveat)
    assert "does not survive projection" not in said["caveat"]


def test_a_rescue_that_does_not_survive_projection_says_so():
    caveat = rescue_sentence(arms((3, 8), (0, 8), (0, 8)), 10)["caveat"]
    assert "does not survive projection" in caveat


def test_every_claim_of_a_rescue_comes_with_a_doubt():
    """Overlap or not, smuggling is named: counts alone can't tell reasoning from an answer handed over."""
    for given in (arms((3, 8), (1, 8), (1, 8)), arms((8, 8), (2, 8), (0, 8))):
        assert "answer" in rescue_sentence(given, 10)["caveat"]


def test_intervals_decide_between_apart_and_overlapping():
    """5 of 8 against 0 of 8: 0.3057 is below 0.3244, so no claim; 6 of 8: 0.4093 is above."""
    assert "overlap" in rescue_sentence(arms((5, 8), (1, 8), (0, 8)), 1)["caveat"]
    assert "after 1 step 5 of 8" in rescue_sentence(arms((5, 8), (1, 8), (0, 8)), 1)["sentence"]
    assert "after 1 step none" in rescue_sentence(arms((0, 8), (1, 8), (0, 8)), 1)["sentence"]
    assert "apart" in rescue_sentence(arms((6, 8), (1, 8), (0, 8)), 1)["caveat"]


@pytest.mark.parametrize(
    ("reached", "interval", "said"),
    [(0, (0.0, 0.19), "Rescued:"), (1, (0.01, 0.28), "Rescued:"), (5, (0.14, 0.56), "Rescue in doubt:")],
)
def test_a_rescue_that_the_decoy_exposes_is_not_called_one(reached, interval, said):
    """As on the gallery's card: 11 of 16 is 44 to 86 %, and only a decoy whose interval reaches that far exposes it."""
    decoy = {"target": "31", "correct": reached, "n": 16, "interval": list(interval)}
    assert rescue_sentence(arms((11, 16), (0, 16), (0, 16)), 10, decoy)["sentence"].startswith(said)
