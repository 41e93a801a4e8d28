"""The success curve against counts made by hand, and its sentence against what the intervals allow."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from explorer.records import SamplingConfig, Start
from explorer.views.success import curve_sentence, curve_steps, percent, success_payload, tally
from tests.harness_watch.traces import arm, arms, trace

# Wilson's 95 % score interval, four digits, from tables.
WILSON = {(0, 8): (0, 0.3244), (1, 8): (0.0224, 0.4709), (4, 8): (0.2152, 0.7848), (8, 8): (0.6756, 1)}


def points(*counts, n=8, loops=0):
    """(step, correct) pairs as points."""
    return [{"k": k, **tally(arm(Start.REVISED, k, correct, n, loops))} for k, correct in counts]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (10, (0, 2, 4, 6, 8, 10)),
        (3, (0, 1, 2, 3)),
        (1, (0, 1)),
        (0, (0,)),
        (7, (0, 1, 3, 4, 6, 7)),
        (200, (0, 40, 80, 120, 160, 200)),
    ],
)
def test_steps_of_a_curve_are_spread_and_keep_both_ends(steps, expected):
    assert curve_steps(steps) == expected


def test_steps_of_every_curve():
    for steps in range(1, 60):
        chosen = curve_steps(steps)
        assert (chosen[0], chosen[-1]) == (0, steps)
        assert len(chosen) == min(6, steps + 1) == len(set(chosen))
        gaps = [b - a for a, b in pairwise(chosen)]
        assert max(gaps) - min(gaps) <= 1


def test_points_count_the_revised_prefix_only():
    payload = success_payload(trace([*arms(4, 4, projected=3, original=1), *arm(Start.REVISED, 2, 1, loops=2)]))
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    seen = [(point["k"], point["correct"], point["n"], point["degenerate"]) for point in payload["points"]]
    # Step 0 is the `original` arm beside step 4: the unrevised prefix under the same seed.
    assert seen == [(0, 1, 8, 0), (2, 1, 8, 2), (4, 4, 8, 0)]
    for point in payload["points"]:
        assert point["interval"] == pytest.approx(WILSON[point["correct"], 8], abs=6e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_the_unrevised_prefix_is_counted_once(order):
    draws = [*arm(Start.REVISED, 0, 2), *arm(Start.ORIGINAL, 0, 2)], [*arm(Start.ORIGINAL, 4, 2)]
    payload = success_payload(trace([item for part in draws[:: 1 - 2 * order] for item in part]))
    assert [(point["k"], point["correct"], point["n"]) for point in payload["points"]] == [(0, 2, 8)]


def test_projected_continuations_of_step_0_are_no_baseline():
    assert success_payload(trace(arm(Start.PROJECTED, 0, 3)))["points"] == []


def test_budget_and_state_pass_through():
    assert success_payload(trace().model_copy(update={"steps": ()})) is None
    assert success_payload(trace(split=None)) is None
    drawn = SamplingConfig(n=16, seed=9)
    payload = success_payload(trace(after_sampling=drawn), state="sampling", running=2, done=3, planned=(0, 2, 4))
    assert (payload["n"], payload["sampling"]["seed"]) == (16, 9)
    assert (payload["running"], payload["done"], payload["planned"], payload["steps_total"]) == (2, 3, [0, 2, 4], 4)
    assert success_payload(trace(after_sampling=drawn), sampling=SamplingConfig(n=4))["n"] == 4
    assert success_payload(trace())["n"] == 8


def test_sentence_of_a_rise_within_the_intervals_is_not_believed():
    said = curve_sentence(points((0, 0), (2, 0), (4, 1), (8, 3), (10, 4)))
    assert "From step 4 on every sampled step has correct continuations; before it none has." in said
    assert f"step 0 (0–{percent(0.3244)}) and step 10 (22–{percent(0.78)}) overlap" in said
    assert "luck of sampling: sample more" in said


def test_sentence_of_a_rise_beyond_the_intervals_still_names_the_decoy():
    said = curve_sentence(points((0, 0), (10, 8)))
    assert "are apart, so the rise is more than luck" in said
    assert "decoy control" in said
    assert "only step 10" in said


def test_sentence_of_nothing_right_says_what_it_can_not_exclude():
    said = curve_sentence(points((0, 0), (5, 0), (10, 0)))
    assert "at any of the 3 sampled steps" in said
    assert f"up to {percent(0.3244)}" in said
    assert "overlap" not in said


def test_sentence_of_hits_that_come_and_go_warns_of_picking_the_best():
    said = curve_sentence(points((0, 0), (2, 5), (4, 0), (6, 1)))
    assert "come and go: found at steps 2 and 6, not at steps 0 and 4" in said
    assert "The best step, 2 with 5 of 8, was picked after looking at 4" in said


def test_sentence_of_a_loss():
    assert "made it worse" in curve_sentence(points((0, 8), (4, 0)))
    assert "the rate did not rise" in curve_sentence(points((0, 2), (4, 2)))
    assert "(step 0) among them" in curve_sentence(points((0, 2), (4, 2)))


def test_sentence_without_a_baseline_or_a_curve():
    assert curve_sentence([]) == ""
    assert "One point is no curve" in curve_sentence(points((4, 2)))
    said = curve_sentence(points((2, 1), (4, 2)))
    assert "(step 0) was not sampled" in said
    assert "among them" not in said


def test_sentence_names_loops_and_unequal_samples():
    looping = points((4, 0), loops=4)
    assert "At step 4 half or more of the continuations end in a loop." in curve_sentence([*points((0, 0)), *looping])
    assert "loop" not in curve_sentence([*points((0, 0)), *points((4, 0), loops=3)])
    assert "not sampled equally often" in curve_sentence([*points((0, 0)), *points((4, 0), n=16)])


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.005, "1"),
        (0.0049, "0.5"),
        (0.0037, "0.4"),
        (0.0025, "0.3"),
        (0.00042, "0.04"),
        (0.125, "13"),
        (0.996, "99.6"),
        (0.9951, "99.5"),
        (0.99993, "99.993"),
        (0, "0"),
        (1e-18, "0"),
        (1 - 1e-16, "100"),
        (1, "100"),
    ],
)
def test_percent_rounds_as_the_browser_does_and_is_no_certainty_where_there_is_none(share, text):
    assert percent(share) == f"{text}\u202f%"
