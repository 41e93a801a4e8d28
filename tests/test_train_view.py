"""The training's screen from records alone: what a request amounts to, one group, where it stands, its curves, and what
came of it."""

from __future__ import annotations

import json
from math import log

import pytest

from explorer.jobs import Job, JobState
from explorer.records import ModelInfo
from explorer.statistics import wilson_interval
from explorer.training.estimate import Estimate
from explorer.training.folder import TrainingConfig
from explorer.training.group import preview
from explorer.training.request import Inject, Method, Scale, TrainRequest
from explorer.training.traces import Chosen, TrainingTrace
from explorer.views.train import group_payload, plan_payload
from explorer.views.train_progress import (
    CURVE_POINTS,
    after_payload,
    curves_payload,
    settings_words,
    side_payload,
    status_payload,
    thinned,
)

MODEL = ModelInfo(id="tiny", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4)
ESTIMATE = Estimate(
    rows=3,
    updates=30,
    epochs=40.0,
    trained_tokens=1_200,
    read_tokens=5_000,
    seconds=300.0,
    memory_bytes=2_200_000_000,
    disk_bytes=1_700_000_000,
)


def row(problem="p1", origin="rescued", tokens=4, **changes):
    values = {
        "origin": origin,
        "run": f"run-{problem}",
        "problem_id": problem,
        "question": f"{problem}?",
        "answer": "30",
        "prompt_ids": (1, 2),
        "completion_ids": tuple(range(3, 3 + tokens)),
        "prefix_tokens": 2,
        "text": "it is <b>30</b>",
        "leak": 0.25,
    }
    return TrainingTrace(**{**values, **changes})


def job(state, kind="train", last=(), code=None):
    return Job("j", kind, "A training", ("x",), "/t", 1.0, state, code, tuple(last))


def test_a_plan_counts_its_traces_and_says_what_it_takes():
    rows = [row("p1"), row("p1", tokens=6), row("p2", log_p=-1.5, finding="undecided", false_equations=1)]
    plan = plan_payload(
        TrainRequest(updates=30),
        ticket=3,
        name="t",
        command="x",
        chosen=Chosen(traces=tuple(rows), runs=5),
        found=9,
        rows=rows,
        left_out={"in a loop": 4},
        held_out=8,
        estimated=ESTIMATE,
    )
    assert (plan["ticket"], plan["blocked"], plan["name"]) == (3, "", "t")
    assert plan["traces"]["words"] == "3 of 9 verified texts, of 2 problems, from 5 runs; 4 to 6 tokens, median 4."
    assert plan["traces"]["left_out"] == [["in a loop", 4]]
    # One of each problem first.
    assert [one["problem"] for one in plan["traces"]["sample"]] == ["p1", "p2", "p1"]
    told = plan["traces"]["sample"][1]["facts"]
    for part in (
        "the first 2 a projected prefix",
        "leak score 0.25",
        "audit: undecided",
        "log p -1.50",
        "1 false equation",
    ):
        assert part in told
    facts = {what: (much, why) for what, much, why in plan["facts"]}
    assert facts["Updates"] == ("30", "4 rows each")
    assert facts["Learning rate"] == ("0.0002", "LoRA of rank 16")
    assert facts["Tokens with a loss"][0] == "1,200"
    assert facts["Time"][0] == "about 5 min"
    assert facts["Memory"][0] == "about 2.2 GB"
    assert facts["Held-out problems"] == ("8", "one rollout each, every 20 updates")
    assert "Prompts" not in facts


def test_problems_of_two_files_that_have_one_id_are_two():
    rows = [row("p1"), row("p1", tokens=6), row("p1", question="Another?")]
    traces = plan_payload(TrainRequest(), chosen=Chosen(traces=tuple(rows)), rows=rows)["traces"]
    assert "of 2 problems" in traces["words"]
    assert [one["question"] for one in traces["sample"]] == ["p1?", "Another?", "p1?"]


def test_a_plan_of_grpo_names_its_prompts_and_groups():
    plan = plan_payload(TrainRequest(method=Method.GRPO, batch=1), rows=[row()], prompts=3)
    facts = {what: (much, why) for what, much, why in plan["facts"]}
    assert facts["Prompts"][0] == "3"
    assert facts["Updates"][1] == "1 prompt each, 8 completions of each prompt"
    assert facts["Held-out problems"][1] == "no accuracy curve"
    assert plan["rate"] == "2e-05"


def test_what_cannot_be_read_or_begun_says_why():
    assert plan_payload(error="No.")["blocked"] == "No."
    assert plan_payload(error="No.")["facts"] == []
    blocked = plan_payload(TrainRequest(), blocked="Too little memory.", rows=[row()])
    assert blocked["blocked"] == "Too little memory."
    assert blocked["facts"], "the numbers that say why still stand there"


def grouped(rewards, inject=Inject.ZERO_HIT, scale=Scale.GROUP, zvp_alpha=0.0, **more):
    request = TrainRequest(
        method=Method.GRPO, inject=inject, scale_rewards=scale, off_policy_c=0.1, zvp_alpha=zvp_alpha
    )
    groups = preview(rewards, [5] * len(rewards), 4, inject, scale)
    return group_payload(row(), [("p1", "p1?")], groups, request, len(rewards), **more)


def test_a_group_without_a_signal_gets_one_from_the_rescued_trace():
    group = grouped([0.0] * 4)
    assert [one["advantage"] for one in group["without"]] == [0] * 4
    assert [one["rescued"] for one in group["with"]] == [False, False, False, True]
    assert group["with"][3]["advantage"] == pytest.approx(1.5, abs=1e-3)
    assert "nothing moves" in group["words"]
    assert "+1.50" in group["words"]
    assert "−0.50" in group["words"]
    assert "8 were asked for" in group["size"]
    assert "it needs none" in grouped([1.0, 0.0, 0.0])["words"]
    assert "No rescued trace enters." in grouped([0.0] * 3, Inject.NEVER)["words"]
    assert grouped([0.0] * 4, scale=Scale.NONE)["scaled"] is False


def test_what_rl_zvp_does_with_a_group_is_said():
    failed = grouped([0.0] * 3, Inject.NEVER, zvp_alpha=0.1)["words"]
    assert "nothing moves" not in failed
    assert "−α·(max H − H)" in failed
    assert "α = 0.1" in failed
    assert "drawn: α·H." in grouped([1.0] * 3, zvp_alpha=0.1)["words"]
    assert "RL-ZVP" not in grouped([1.0, 0.0, 0.0], zvp_alpha=0.1)["words"], "its rewards differ"
    assert "RL-ZVP" not in grouped([0.0] * 3, zvp_alpha=0.1)["words"], "the rescued trace makes them differ"


def test_the_tokens_of_a_rescued_trace_are_weighed():
    weights = grouped([0.0] * 4, texts=["a", "`", "${x}", "</b>"], log_ps=[log(0.1), log(0.9), log(0.001), 0.0])
    tokens = weights["weights"]["tokens"]
    assert [one["text"] for one in tokens] == ["a", "`", "${x}", "</b>"]
    assert (tokens[0]["p"], tokens[0]["weight"], tokens[0]["gradient"]) == (0.1, 0.5, 0.25)
    assert tokens[1]["gradient"] == pytest.approx(0.9 * 0.1 / 1.0)
    assert tokens[2]["gradient"] < 0.01
    assert weights["weights"]["prefix"] == 2
    assert grouped([0.0] * 4)["weights"] is None


def config(**changes):
    return TrainingConfig(request=TrainRequest(**changes), model=MODEL, rows=3)


def test_a_training_that_was_started_elsewhere_is_live_while_it_writes():
    progress = {"state": "running", "update": 7, "updates": 20, "stage": "training", "seconds_left": 200.0, "at": 1e9}
    status = status_payload([("t", "t")], "t", None, progress, now=1e9 + 200)
    assert status["live"]
    assert (status["progress"]["stage"], status["progress"]["left"]) == ("training", "about 3 min left")
    for changes, then, its in (
        ({}, 1e9 + 3600, None),  # killed an hour ago
        ({"state": "done"}, 1e9, None),
        ({}, 1e9, job(JobState.DIED)),  # the page's own: its job knows better
    ):
        status = status_payload([("t", "t")], "t", its, {**progress, **changes}, now=then)
        assert not status["live"]
        assert status["progress"]["stage"] == ""
    assert not status_payload([], None, None, {})["live"]


def test_where_it_stands():
    progress = {"update": 7, "updates": 20, "stage": "training", "seconds_left": 200.0}
    status = status_payload(
        [("t", "t (running)")], "t", job(JobState.RUNNING), progress, config=config(), log=["a"], mark="m", beat=7
    )
    assert status["progress"] == {"done": 7, "total": 20, "stage": "training", "left": "about 3 min left"}
    assert (status["job"]["alive"], status["job"]["words"], status["log"]) == (True, "", ["a"])
    assert "SFT of tiny, LoRA of rank 16" in status["settings"]
    # A progress file that a kill left behind says nothing of now.
    died = status_payload([("t", "t")], "t", job(JobState.DIED, code=-9), progress)
    assert (died["progress"]["left"], died["progress"]["stage"], died["progress"]["done"]) == ("", "", 7)
    assert "killed" in died["job"]["words"]
    failed = status_payload([], None, job(JobState.FAILED, last=["x", "error: No trace is left."], code=2), {})
    assert failed["job"]["words"] == "No trace is left."
    assert failed["progress"] is None
    paused = status_payload([], None, job(JobState.PAUSED), {})
    assert (paused["job"]["said"], "Go on" in paused["job"]["words"]) == ("Stopped", True)
    result = {"state": "done", "updates": 1, "seconds": 61.0, "peak_memory_bytes": 1_500_000_000, "tokens": 1234}
    done = status_payload([("t", "t")], "t", job(JobState.DONE), progress, result=result)
    assert done["measured"] == "1 update in 61 s, at most 1.5 GB of memory, 1,234 tokens read (measured)."
    elsewhere = status_payload([("t", "t")], "t", None, {}, other=job(JobState.RUNNING), other_training="u")
    assert (elsewhere["job"], elsewhere["other"]["training"]) == (None, "u")


def test_settings_of_grpo_say_when_a_trace_enters():
    assert "a rescued trace in zero-hit groups, c = 0.1" in settings_words(config(method="grpo"))
    assert "wherever at least two failed" in settings_words(config(method="grpo", inject="always"))
    never = settings_words(config(method="grpo", inject="never"))
    assert "no rescued trace" in never
    assert "c =" not in never


LOOKS = [
    {"update": 0, "n": 8, "correct": 0, "texts": [{"question": "q", "text": "<i>no</i>", "correct": False}]},
    {"update": 10, "n": 8, "correct": 3, "texts": [{"question": "q", "text": "yes", "correct": True}]},
]


def test_curves_are_of_what_was_logged():
    metrics = [{"update": at, "seconds": at, "loss": 2.0 / at, "reward": 0.5, "entropy": None} for at in range(1, 41)]
    sampled = [
        {"step": 40, "prompt": "p", "completion": "`x`", "verified": 1.0, "advantage": 1.2345, "rescued": True},
        {
            "step": 40,
            "prompt": "p",
            "completion": [{"role": "assistant", "content": "y"}],
            "verified": 0.0,
            "advantage": -0.5,
            "rescued": False,
        },
    ]
    drawn = curves_payload("t", metrics, LOOKS, sampled, updates=60, mark="m")
    curves = {curve["key"]: curve for curve in drawn["curves"]}
    assert list(curves) == ["held_out", "loss", "reward"]
    assert drawn["updates"] == 60
    assert curves["held_out"]["points"] == [[0, 0.0], [10, 3 / 8]]
    assert curves["held_out"]["whiskers"][1] == [*wilson_interval(3, 8), "3 of 8"]
    assert len(curves["loss"]["points"]) == len(curves["loss"]["mean"]) == 40
    assert curves["loss"]["mean"][20][1] == pytest.approx(sum(2.0 / at for at in range(20, 23)) / 3, abs=1e-5)
    assert "mean of 3 updates" in curves["loss"]["what"]
    (group,) = drawn["sampled"]["groups"]
    assert [(one["verdict"], one["rescued"]) for one in group["members"]] == [("correct", True), ("wrong", False)]
    assert [one["text"] for one in group["members"]] == ["`x`", "y"]
    assert [one["update"] for one in drawn["texts"][0]["texts"]] == [0, 10]
    assert curves_payload("t", [], [])["curves"] == []
    assert [one["advantage"] for one in group["members"]] == [1.23, -0.5]
    failed = [{**row, "verified": 0.0, "advantage": 0.0} for row in sampled]
    for by_token, shown in ((True, None), (False, 0.0)):
        (alike,) = curves_payload("t", metrics, LOOKS, failed, by_token=by_token)["sampled"]["groups"]
        assert [one["advantage"] for one in alike["members"]] == [shown] * 2
        (apart,) = curves_payload("t", metrics, LOOKS, sampled, by_token=by_token)["sampled"]["groups"]
        assert apart == group
    json.dumps(drawn, allow_nan=False)


def test_long_curves_are_thinned_to_their_last_point():
    points = [[at, at] for at in range(10_000)]
    kept = thinned(points)
    assert len(kept) == CURVE_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert thinned(points[:5]) == points[:5]


def test_what_came_of_it_stands_beside_its_parent():
    side = side_payload("parent", "Parent: tiny", [("pass@1", 0.1, 0.0, 0.3, "mean of 9 problems")])
    after = after_payload("tiny", "parent", LOOKS, sides=[side], about="bank")
    assert [(one["update"], one["x"], one["n"]) for one in after["held_out"]] == [(0, 0, 8), (10, 3, 8)]
    assert after["held_out"][1]["interval"] == list(wilson_interval(3, 8))
    assert after["sides"][0]["rates"][0]["interval"] == [0.0, 0.3]
    assert (after["parent"], after["loaded"], after["evaluating"]) == ("tiny", "parent", None)
    json.dumps(after, allow_nan=False)
