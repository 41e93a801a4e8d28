"""The gallery and the story strip against counts made by hand; nothing of the outcome is written, all is counted."""

from __future__ import annotations

import json

import pytest

from explorer.records import RevisionConfig, SamplingConfig, Start, StepRule, Verdict
from explorer.views.watch import control_payload, outcome, outcome_mark, outcome_sentence, settings_explained
from explorer.views.watch import watch_payload as payload_of
from tests.harness_watch.traces import (
    HOSTILE,
    SAMPLING,
    arm,
    arms,
    decoy,
    gallery,
    recorded,
    rollouts,
    token_text,
    trace,
)


def watch_payload(*args, **kwargs):
    """Through JSON and back, as it goes to the browser."""
    payload = payload_of(*args, **kwargs)
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    return payload


# ---- gallery ----


def test_runs_keep_their_order_and_the_one_on_the_stage_is_current():
    runs = gallery()
    payload = watch_payload(runs, runs[2].trace, token_text, run_id="ruined")
    assert [run["id"] for run in payload["runs"]] == [run.id for run in runs]
    assert payload["current"] == "ruined"
    assert (payload["story"]["recorded"], payload["story"]["title"]) == (True, runs[2].title)
    assert [run["mark"]["word"] for run in payload["runs"]][:3] == ["Rescued", "Rescue in doubt", "Not rescued"]
    assert [run["after"]["correct"] for run in payload["runs"]] == [4, 5, 0, 1, 0, 3, 6]


def test_a_run_of_ones_own_is_none_of_the_gallery():
    payload = watch_payload(gallery(), trace(), token_text, run_id="20261122-somewhere")
    assert payload["current"] is None
    assert (payload["story"]["recorded"], payload["story"]["title"]) == (False, "")
    assert payload["story"]["run_id"] == "20261122-somewhere"


def test_nothing_on_the_stage():
    assert watch_payload([], None, token_text, run_id=None) == {"runs": [], "current": None, "story": None}


# ---- outcome ----


def test_outcome_is_counted_at_the_last_step_never_at_the_best():
    made = trace([*arm(Start.REVISED, 2, 7), *arms(4, 4, projected=1)])
    assert outcome_sentence(made) == ("0 of 8 rollouts right → 4 of 8 after revision, 95 % interval 22–78\u202f%")
    ends = outcome(made)
    assert (ends["step"], ends["revised"]["correct"], ends["projected"]["correct"]) == (4, 4, 1)
    assert ends["revised"]["interval"] == pytest.approx([0.2152, 0.7848], abs=6e-5)


def test_outcome_before_the_last_step_names_its_step():
    assert "1 of 8 after step 2, 95 %" in outcome_sentence(trace(arm(Start.REVISED, 2, 1)))


def test_outcome_counts_hits_before_and_loops_after():
    made = trace(arms(4, 0, loops=4), before=rollouts(2, 8))
    assert outcome_sentence(made).startswith("2 of 8 rollouts right → 0 of 8 after revision")
    assert outcome_sentence(made).endswith(", 4 in loops")
    assert "loops" not in outcome_sentence(trace(arms(4, 0, loops=3)))


@pytest.mark.parametrize("after", [(), arm(Start.REVISED, 0, 3), arm(Start.ORIGINAL, 4, 3)])
def test_no_outcome_without_continuations_of_a_revision(after):
    made = trace(after)
    assert outcome(made) is None
    assert outcome_mark(made) is None
    assert outcome_sentence(made) == "0 of 8 rollouts right; nothing was sampled after revision"


def test_an_arm_that_was_not_sampled_is_none_but_the_unrevised_prefix_is_known_from_step_0():
    ends = outcome(trace([*arm(Start.REVISED, 4, 4), *arm(Start.REVISED, 0, 1)]))
    assert ends["projected"] is None
    assert ends["original"]["correct"] == 1


# ---- controls ----


@pytest.mark.parametrize(
    ("gold", "reached", "word", "said"),
    [
        (4, 0, "Rescued", "though so small a sample proves little"),
        (8, 0, "Rescued", "does not hand over just any answer."),
        (5, 6, "Rescue in doubt", "hands over whatever it is pulled to"),
        (5, 5, "Rescue in doubt", "hands over whatever it is pulled to"),
        (5, 2, "Rescue in doubt", "can’t be told apart"),
        (8, 1, "Rescued", "clearly more often"),
        (0, 3, "Not rescued", "3 of 8 reach that"),
        (0, 0, "Not rescued", "no rescue to doubt"),
    ],
)
def test_the_decoy_says_no_more_than_the_intervals(gold, reached, word, said):
    made = trace(arms(4, gold), controls=(decoy(reached),))
    control = control_payload(made.controls[0], made)
    assert (control["kind"], control["target"], control["reached"], control["n"]) == ("decoy", "47", reached, 8)
    assert said in control["sentence"]
    assert "wrong answer 47" in control["sentence"]
    assert outcome_mark(made)["word"] == word


def test_the_decoy_is_held_against_the_gold_answer_at_its_own_step():
    made = trace([*arm(Start.REVISED, 2, 8), *arms(4, 2)], controls=(decoy(1, step=2),))
    assert "clearly more often" in control_payload(made.controls[0], made)["sentence"]


def test_a_control_without_samples_says_nothing():
    made = trace(arms(4, 4), controls=(decoy(0, n=0),))
    assert "says nothing yet" in control_payload(made.controls[0], made)["sentence"]
    assert outcome_mark(made)["word"] == "Rescued"


# ---- story ----


def test_the_story_tells_the_run():
    made = trace(arms(4, 4), before=[*rollouts(0, 8)], model=trace().model.model_copy(update={"device": "cuda"}))
    story = watch_payload([], made, token_text, run_id="x", why_not="No model.")["story"]
    assert (story["n"], story["correct"], story["zero_hit"]) == (8, 0, True)
    assert (story["date"], story["device"], story["seed"]) == ("2026-11-22", "cuda", 5)
    assert (story["replayable"], story["why_not"]) == (False, "No model.")
    failed = story["failed"]
    assert (failed["index"], failed["answer"], failed["verdict"]) == (2, "36", "wrong")
    ids = made.before[2].token_ids
    assert failed["prefix"] + failed["continuation"] + failed["rest"] == [token_text(token) for token in ids]
    assert (len(failed["prefix"]), len(failed["continuation"]), len(failed["rest"])) == (20, 8, 2)


def test_no_reason_stands_beside_a_button_that_works():
    story = watch_payload([], trace(), token_text, run_id="x", replayable=True, why_not="Stale.", note="But.")["story"]
    assert (story["replayable"], story["why_not"], story["note"]) == (True, "", "But.")


def test_zero_hit_needs_rollouts_and_none_right():
    def zero(before):
        return watch_payload([], trace(before=before, split=None), token_text, run_id="x")["story"]["zero_hit"]

    assert zero(rollouts(0, 8))
    assert not zero(rollouts(1, 8))
    assert not zero([])


def test_before_a_split_there_is_no_failed_rollout():
    story = watch_payload([], trace(split=None, config=None, anchor=None), token_text, run_id="x")["story"]
    assert (story["failed"], story["outcome"], story["controls"]) == (None, None, [])


def test_model_text_stays_data():
    story = watch_payload([], trace(hostile=True), token_text, run_id="x")["story"]
    assert [*HOSTILE.values()] == story["failed"]["continuation"][: len(HOSTILE)]


def test_settings_are_the_runs_own():
    rows = {name: (value, why) for name, value, why in settings_explained(trace())}
    assert (rows["Rollouts N"][0], rows["Seed"][0]) == (str(SAMPLING.n), str(SAMPLING.seed))
    assert rows["Prefix M"][0] == "20 tokens"
    assert rows["Failed continuation C"][0] == "8 tokens"
    assert rows["Step size γ"][0] == "0.1, constant"
    assert "at least 66\u202f%" in rows["Step size γ"][1]  # 0.9 ** 4 = 0.6561
    assert "Toward weight" not in rows
    assert "Answer ban" not in rows


def test_settings_of_the_ablations():
    config = RevisionConfig(
        steps=4, step_rule=StepRule.HARMONIC, away_weight=0, toward_weight=2, ban_answer_tokens=True
    )
    rows = {name: (value, why) for name, value, why in settings_explained(trace(config=config))}
    assert rows["Step size γ"][0] == "2/(k+2)"
    assert "only the pull toward" in rows["Away weight λ"][1]
    assert (rows["Toward weight"][0], rows["Answer ban"][0]) == ("2", "on")


@pytest.mark.parametrize(
    ("planned", "says"), [(9, "4 of 9 planned"), (4, "4 of 4 planned"), (3, "4, 1 beyond the plan")]
)
def test_steps_beyond_the_plan_are_called_that(planned, says):
    rows = {row[0]: row[1] for row in settings_explained(trace(config=RevisionConfig(steps=planned)))}
    assert rows["Steps K"] == says


def test_settings_before_a_split_are_those_of_sampling():
    names = [row[0] for row in settings_explained(trace(split=None, sampling=SamplingConfig(n=3)))]
    assert names == ["Rollouts N", "Temperature", "Top-p", "Longest rollout", "Seed"]


def test_unjudged_rollouts_are_not_right():
    before = [item.model_copy(update={"verdict": Verdict.UNJUDGED}) for item in rollouts(0, 8)]
    run = recorded("u", trace(before=before))
    assert watch_payload([run], run.trace, token_text, run_id="u")["runs"][0]["outcome"].startswith("0 of 8 rollouts")
