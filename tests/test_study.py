"""The study on a tiny model: its stages resume, and its report counts what lies in the folder."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import typer

from explorer import study, study_report
from explorer.audit_verdict import Finding
from explorer.cli import app
from explorer.hunt import HuntConfig
from explorer.hunt_table import rate
from explorer.recorded import recorded_runs
from explorer.records import RevisionConfig, SamplingConfig, Verdict
from explorer.store import find_runs, load_run
from explorer.study import ARMS, Arm, Study, best_arm, confirmed_arms, divided, read_rows, study_problems
from explorer.study_report import interval_plot, write_report
from tests.conftest import FakeJudge

FEW = (
    Arm("default", "best k", "the defaults", {"steps": 2}, split="fraction", points=(1, 2)),
    Arm("plausible", "hull", "likely tokens", {"steps": 2, "hull": "plausible"}, split="fraction", points=(2,)),
    Arm("decoy", "decoy", "a wrong answer", {"steps": 2}, split="fraction", points=(2,), decoy=True),
    Arm("unrevised", "unrevised", "not revised", split="fraction", revised=False),
    Arm("nowhere", "split", "a split that finds no place", split="first-error"),
)


def odd_ones(text: str):
    """A judge's rule that finds some right and some wrong, whatever the text."""
    return (Verdict.CORRECT if len(text) % 3 == 0 else Verdict.WRONG), "0"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(study, "ARMS", FEW)
    monkeypatch.setattr(study_report, "ARMS", FEW)
    monkeypatch.setattr(study, "BEFORE", SamplingConfig(n=3, max_new_tokens=10, temperature=1.0))
    monkeypatch.setattr(study, "AFTER", SamplingConfig(n=4, max_new_tokens=8, temperature=1.0))


def whole(model, out, problems):
    """All stages; the first of them judges everything wrong, so that all is zero-hit."""
    assert Study(model, FakeJudge(), out, lambda text: None).base(problems) == {p.id for p in problems}
    told = []
    later = Study(model, FakeJudge(odd_ones), out, told.append)
    later.search(problems)
    later.confirm(problems[:2], confirmed_arms(read_rows(out / "search.jsonl")))
    return told


def test_every_stage_leaves_its_counts_and_none_is_done_twice(llama, tmp_path, small):
    problems = study_problems()[:3]
    told = whole(llama, tmp_path / "s", problems)
    rows = read_rows(tmp_path / "s" / "search.jsonl")
    assert len(rows) == 3 * 6
    assert {row["n"] for row in rows if row["arm"] == "nowhere"} == {0}
    assert all(row["n"] == 4 and 0 <= row["correct"] <= 4 for row in rows if row["arm"] != "nowhere")
    assert told[0].startswith("search: 1 of 15")
    runs = {run: load_run(run)[0] for arm in (tmp_path / "s" / "confirm").iterdir() for run in find_runs(arm)}
    assert {trace.problem.id for trace in runs.values()} == {problem.id for problem in problems[:2]}
    assert all({c.kind for c in trace.controls} == {"fresh", "unrevised", "decoy"} for trace in runs.values())
    before = (tmp_path / "s" / "search.jsonl").read_bytes()
    assert whole(llama, tmp_path / "s", problems) == []
    assert (tmp_path / "s" / "search.jsonl").read_bytes() == before
    # A kill in the middle of a line costs that one arm.
    (tmp_path / "s" / "search.jsonl").write_bytes(before[:-10])
    whole(llama, tmp_path / "s", problems)
    assert read_rows(tmp_path / "s" / "search.jsonl") == rows


def test_the_report_is_a_recount(llama, tmp_path, small):
    problems = study_problems()[:3]
    whole(llama, tmp_path / "s", problems)
    path = write_report(tmp_path / "s", tmp_path / "report")
    figures = json.loads((tmp_path / "report" / "study.json").read_text())
    rows = read_rows(tmp_path / "s" / "search.jsonl")
    for one in figures["search"]:
        name, _, point = one["name"].partition(", step ")
        mine = [row for row in rows if row["arm"] == name and (not point or row["point"] == int(point))]
        assert one["rescued"] == rate(sum(row["correct"] > 0 for row in mine), len(mine)).model_dump()
        assert one["continuations"] == rate(sum(row["correct"] for row in mine), 4 * len(mine)).model_dump()
    assert "nowhere" not in [one["name"] for one in figures["search"]]
    for name, one in figures["confirm"].items():
        traces = [load_run(run)[0] for run in find_runs(tmp_path / "s" / "confirm" / name)]
        assert one["problems"] == len(traces)
        fresh = [next(c for c in trace.controls if c.kind == "fresh").continuations for trace in traces]
        right = [sum(item.verdict is Verdict.CORRECT for item in items) for items in fresh]
        assert one["arms"]["fresh"]["problems"]["x"] == sum(count > 0 for count in right)
        assert one["arms"]["fresh"]["continuations"]["x"] == sum(right)
        assert one["arms"]["fresh"]["continuations"]["n"] == sum(map(len, fresh))
        assert sum(one["findings"].values()) == len(traces)
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((.+?)\)", text)) == {"study.json", "search.svg", "confirm.svg"}
    assert all((path.parent / name).exists() for name in ("search.svg", "confirm.svg"))
    assert "Zero-hit at N = 3: 3 of 3" in text


def test_a_study_that_only_began_has_a_report_that_says_so(llama, tmp_path, small):
    later = Study(llama, FakeJudge(), tmp_path / "s", lambda text: None)
    problems = study_problems()[:1]
    later.base(problems)
    later.search(problems)
    text = write_report(tmp_path / "s", tmp_path / "s").read_text(encoding="utf-8")
    assert "The confirmation has not been run." in text


def test_the_problems_are_not_the_banks_and_are_divided_once():
    problems = study_problems()
    assert len(problems) == 192 == len({problem.id for problem in problems})
    zero = {problem.id for problem in problems if problem.family in ("sum", "price")}
    search, confirm = divided(problems, zero)
    assert not {p.id for p in search} & {p.id for p in confirm}
    assert {p.id for p in (*search, *confirm)} == zero
    assert (len(search), len(confirm)) == (16, 32)
    assert [p.family for p in search[:4]] == ["sum", "price", "sum", "price"]


def test_the_best_setting_is_the_highest_mean_rate():
    def row(arm, point, correct, n=10, false=0):
        return {"arm": arm, "point": point, "n": n, "correct": correct, "false": false}

    rows = [row("default", 4, 2), row("default", 10, 3), row("cool", 10, 9), row("cool", 10, 1), row("ban", 10, 6)]
    rows += [row("decoy", 10, 10), row("unrevised", 0, 10), row("ban", 10, 0, 0)]
    rows.append(row("before-answer", 10, 10, false=10))  # all right, and every one on a false equation
    arm, point = best_arm(rows)
    assert (arm.name, point) == ("ban", 10)
    assert [one.name for one in confirmed_arms(rows)] == ["default", "best"]
    assert [one.name for one in confirmed_arms([row("default", 10, 3)])] == ["default"]


def test_names_of_arms_are_their_keys():
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    for arm in ARMS:
        arm.settings()


def test_a_plot_is_well_formed_whatever_its_names():
    tree = ElementTree.fromstring(interval_plot("a < b & “c”", [("<script>", rate(3, 12)), ("none", rate(0, 0))]))
    texts = [item.text for item in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<script>", "3 of 12", "0 of 0"} <= set(texts)
    assert not list(tree.iter("{http://www.w3.org/2000/svg}script"))


def test_two_runs_of_a_problem_are_one_problem(tmp_path, monkeypatch):
    def arm(name, correct):
        return SimpleNamespace(name=name, correct=correct, n=16, degenerate=1, truncated=0)

    runs = {"a": (13, 0), "b": (0, 2)}
    audits = {
        name: SimpleNamespace(
            problem="sum-01", arms=[arm("revised", mine), arm("fresh", other)], finding=Finding.UNDECIDED
        )
        for name, (mine, other) in runs.items()
    }
    monkeypatch.setattr(study_report, "find_runs", lambda folder: [tmp_path / name for name in runs])
    monkeypatch.setattr(study_report, "load_run", lambda path, with_trajectory: (path.name, None))
    monkeypatch.setattr(study_report, "conclude", lambda trace, name: audits[name])
    found = study_report.confirmed_arm(tmp_path, "words")
    assert found["problems"] == 1
    revised = found["arms"]["revised"]
    assert (revised["problems"]["x"], revised["problems"]["n"]) == (1, 1)
    assert (revised["continuations"]["x"], revised["continuations"]["n"], revised["loops"]) == (13, 32, 2)
    assert (found["paired"]["fresh"]["only_revised"], found["paired"]["fresh"]["only_other"]) == (0, 0)


def test_a_hunts_command_says_all_that_is_not_usual():
    recorded_model = recorded_runs()[0].trace.model
    config = HuntConfig(
        problems="bank",
        model=recorded_model,
        sampling=SamplingConfig(n=4, seed=3, temperature=0.5),
        config=RevisionConfig(steps=7, connector="\nSo: ", hull="plausible", ban_answer_tokens=True),
        samples=2,
        more=4,
        prefix_length=12,
        hits=True,
    )
    command = study_report.hunt_command(config, "bank")
    assert command == (
        "python -m explorer hunt --problems bank --model wheel --rollouts 4 --samples 2 --temperature 0.5 --seed 3 "
        "--steps 7 --connector '\nSo: ' --ban-answer --hull plausible --prefix-length 12 --hits --more 4 --out hunt"
    )
    known = {flag for one in typer.main.get_command(app).commands["hunt"].params for flag in one.opts}
    fields = {*SamplingConfig.model_fields, *RevisionConfig.model_fields} - {"n", "gap_tolerance"}
    assert {f"--{study_report.FLAGS.get(name, name).replace('_', '-')}" for name in fields} <= known
    default = config.model_copy(update={"model": config.model.model_copy(update={"source": "hub"})})
    assert " --model" not in study_report.hunt_command(default, "bank")
    local = config.model_copy(update={"model": config.model.model_copy(update={"source": "local"})})
    assert " --model FOLDER " in study_report.hunt_command(local, "bank")
