"""The hunt's screen from records alone: what may be asked, what it amounts to, where it stands, what it found."""

from __future__ import annotations

import json

import pytest

from explorer.hunt import HuntConfig, ProblemResult, Revised, Tally, folder_name
from explorer.hunt_request import HuntRequest
from explorer.hunt_time import Speed
from explorer.jobs import Job, JobState
from explorer.problems import BadRow
from explorer.records import ModelInfo, RevisionConfig, SamplingConfig, Start
from explorer.statistics import wilson_interval
from explorer.views.hunt import duration, form_payload, plan_payload, status_payload, table_payload

MODEL = ModelInfo(id="tiny", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4)
CONFIG = HuntConfig(
    problems="some", model=MODEL, sampling=SamplingConfig(n=4), config=RevisionConfig(), samples=2, more=4
)
SPEED = Speed(decode_s=0.02, step_s=0.25, length=1.0, runs=3)


def revised(run, *correct, n=2):
    after = {start: Tally(n=n, correct=x) for start, x in zip(Start, correct, strict=True)}
    return Revised(run=run, rollout=0, split="auto", prefix_length=5, after=after)


def result(name, family, correct, more=None, items=(), **changes):
    values = {
        "problem": name,
        "family": family,
        "question": f"{name}?",
        "answer": "1",
        "before": Tally(n=4, correct=correct),
        "more": None if more is None else Tally(n=16, correct=more),
        "revised": tuple(items),
    }
    return ProblemResult(**{**values, **changes})


RESULTS = [
    result("b", "sum", 0, 2, [revised("b-1", 1, 0, 0), revised("b-2", 2, 1, 0)]),
    result("a", "sum", 3),
    result("c", "rate", 0, 0, [revised("c-1", 0, 0, 1)]),
    result("d", "rate", 0, error="The prompt is too long.", before=Tally()),
]


def test_a_problem_that_could_not_be_revised_shows_its_rollouts():
    row = table_payload("h", [result("e", "sum", 0, 1, error="No anchor.")], CONFIG)["rows"][0]
    assert (row["error"], row["not_revised"], row["zero_hit"], row["stage"]) == ("", "No anchor.", True, False)
    assert (row["before"]["n"], row["more"]["x"], row["run"]) == (4, 1, folder_name("e"))


def job(state, kind="hunt", last=(), code=None):
    return Job("j", kind, "A hunt", ("x",), "/h", 1.0, state, code, tuple(last))


def test_the_form_offers_the_bank_and_each_family():
    form = form_payload({"sum": 12, "rate": 3}, gym=False)
    assert [one["value"] for one in form["sets"]] == ["bank", "sum", "rate"]
    assert "15" in form["sets"][0]["label"]
    assert form["values"] == HuntRequest().model_dump(mode="json")
    assert form["vllm"] is False
    assert form_payload({"sum": 1}, gym=False, vllm=True)["vllm"] is True


def test_a_plan_says_how_long_and_by_whose_measure():
    plan = plan_payload(HuntRequest(), ticket=3, command="x", found=96, speed=SPEED, measured_on="as before")
    assert (plan["ticket"], plan["blocked"], plan["command"]) == (3, "", "x")
    assert plan["estimate"].startswith("For 96 prompts: ")
    assert "as before" in plan["estimate"]
    assert "For 5 prompts" in plan_payload(HuntRequest(limit=5), found=96, speed=SPEED)["estimate"]
    assert "For 1 prompt:" in plan_payload(HuntRequest(limit=1), found=96, speed=SPEED)["estimate"]
    assert "known once it is loaded" in plan_payload(HuntRequest(), speed=SPEED)["estimate"]
    assert "For 7 prompts" in plan_payload(HuntRequest(limit=7), speed=SPEED)["estimate"]
    assert "not timed" in plan_payload(HuntRequest(), found=9)["estimate"]
    assert plan_payload(error="No.")["blocked"] == "No."


def test_bad_rows_block_until_they_are_left_out_and_one_id_for_two_always_does():
    bad = [BadRow(2, "it has no answer"), BadRow(9, "it has no question")]
    plan = plan_payload(HuntRequest(), found=3, bad=bad)
    assert plan["blocked"].startswith("Mend these rows")
    assert [(row["line"], row["why"]) for row in plan["bad"]] == [(row.line, row.why) for row in bad]
    assert plan["skippable"] is True
    assert plan_payload(HuntRequest(skip_bad=True), found=3, bad=bad)["blocked"] == ""
    doubled = plan_payload(HuntRequest(skip_bad=True), found=3, bad=[*bad, BadRow(4, "twice", same_id=True)])
    assert "one id" in doubled["blocked"]
    assert doubled["skippable"] is False
    many = plan_payload(HuntRequest(), found=3, bad=[BadRow(i, "x") for i in range(500)])
    assert (len(many["bad"]), many["bad_total"]) == (200, 500)


@pytest.mark.parametrize(
    ("seconds", "said"), [(2.34, "2.3 s"), (61, "61 s"), (600, "10 min"), (9000, "2.5 h"), (90_000, "25 h")]
)
def test_times_are_no_more_exact_than_an_estimate(seconds, said):
    assert duration(seconds) == said


def test_where_it_stands():
    parts = [
        {"state": "running", "total": 6, "problem": "p1", "stage": "rollouts", "seconds_left": 30.0, "at": 5},
        {"state": "running", "total": 4, "problem": "p2", "stage": "step 2", "seconds_left": 200.0, "at": 6},
    ]
    status = status_payload([("h", "h (running)")], "h", job(JobState.RUNNING), parts, rows=3, mark="m", beat=7)
    assert status["progress"] == {
        "done": 3,
        "total": 10,
        "problem": "p2",
        "stage": "step 2",
        "left": "about 3 min left",
    }
    assert (status["job"]["alive"], status["rows"]) == (True, 3)
    # A progress file that a kill left behind says nothing of now.
    died = status_payload([("h", "h")], "h", job(JobState.DIED, code=-9), parts, rows=3)
    assert (died["progress"]["left"], died["progress"]["stage"], died["progress"]["done"]) == ("", "", 3)
    assert "killed" in died["job"]["words"]
    failed = status_payload([], None, job(JobState.FAILED, last=["x", "error: No such model."], code=2), [])
    assert failed["job"]["words"] == "No such model."
    assert failed["job"]["last_lines"] == ["x", "error: No such model."]
    elsewhere = status_payload([("h", "h")], "h", None, [], other=job(JobState.RUNNING), other_hunt="g")
    assert (elsewhere["job"], elsewhere["other"]["hunt"]) == (None, "g")


def test_rows_say_of_how_many_and_which_run_to_open():
    table = table_payload("h", RESULTS, CONFIG, {"b-1": "smuggled", "b-2": "undecided"}, "m")
    rows = {row["problem"]: row for row in table["rows"]}
    assert list(rows) == ["a", "b", "c", "d"]
    assert rows["b"]["run"] == "b-2", "the run with the most rescued continuations"
    assert rows["b"]["revised"] == {"x": 3, "n": 4, "interval": list(wilson_interval(3, 4))}
    assert (rows["b"]["zero_hit"], rows["b"]["rescued"], rows["b"]["more"]["x"]) == (True, True, 2)
    assert rows["b"]["finding"] == "smuggled; undecided"
    assert (rows["c"]["rescued"], rows["c"]["original"]["x"]) == (False, 1)
    assert (rows["a"]["zero_hit"], rows["a"]["revised"], rows["a"]["stage"]) == (False, None, False)
    assert rows["a"]["run"].startswith("a-")
    assert (rows["d"]["run"], rows["d"]["zero_hit"], rows["d"]["error"]) == (None, False, "The prompt is too long.")
    assert (table["n"], table["wide"], table["audited"], table["mark"]) == (4, 16, 2, "m")
    for part in ("tiny", "N = 4", "temperature 0.8", "K = 10", "γ = 0.05", "n = 2"):
        assert part in table["settings"]


def test_families_have_their_curve_and_the_last_is_all():
    table = table_payload("h", RESULTS, CONFIG)
    families = {one["family"]: one for one in table["families"]}
    assert list(families) == ["rate", "sum", "all"]
    assert [k for k, _ in families["sum"]["pass_at"]] == [1, 2, 4]
    assert families["sum"]["pass_at"][0][1] == pytest.approx(3 / 8)
    assert families["sum"]["pass_at"][-1][1] == pytest.approx(0.5)
    assert (families["rate"]["judged"], families["rate"]["passed_over"]) == (1, 1)
    zero = families["all"]["zero_hit"]
    assert (zero["x"], zero["n"], zero["interval"]) == (2, 3, list(wilson_interval(2, 3)))
    assert families["all"]["hit_by_more"]["x"] == 1
    assert "2 of 3 prompts are zero-hit" in table["words"]
    assert "Drawn on to 16, 1 of these 2" in table["words"]


def test_nothing_yet_is_no_table_and_everything_is_plain():
    table = table_payload("h", [], CONFIG)
    assert (table["rows"], table["families"], table["words"]) == ([], [], "")
    json.dumps([table, table_payload("h", RESULTS, CONFIG)], allow_nan=False)
