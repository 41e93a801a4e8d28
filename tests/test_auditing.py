"""The verb `audit` on a hunt of a tiny model: what it leaves on disk, that it goes on, and its bad input."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal

import pytest
from filelock import FileLock, Timeout

from explorer import auditing, verdict
from explorer.audit_controls import KINDS
from explorer.audit_verdict import Arm, Audit, Finding
from explorer.auditing import summarise
from explorer.cli import app, run_command
from explorer.errors import UserError
from explorer.jobs import PROJECT_ROOT
from explorer.statistics import wilson_interval
from explorer.store import find_runs, load_run, save_run
from explorer.study_report import add_hunt
from tests.conftest import tiny_network, tiny_tokenizer


def verb(*arguments: object) -> int:
    return run_command(lambda: app(args=[str(one) for one in arguments], standalone_mode=False))


@pytest.fixture(scope="module")
def hunted(tmp_path_factory):
    """A hunt of two problems with a tiny model."""
    path = tmp_path_factory.mktemp("audit")
    tokenizer = tiny_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(path / "tiny")
    tokenizer.save_pretrained(path / "tiny")
    rows = [{"id": f"p{i}", "question": f"What is {i} + 3?", "answer": i + 3} for i in range(2)]
    (path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ["--rollouts", 2, "--max-new-tokens", 12, "--steps", 2, "--split", "fraction", "--failed-tokens", 8]
    assert verb("hunt", "--problems", path / "set.jsonl", "--model", path / "tiny", "--out", path / "h", *asked) == 0
    return path


def test_a_hunt_is_audited_into_its_runs_and_a_table(hunted, capsys):
    kinds = "fresh,decoy,random-vertices"
    assert verb("audit", hunted / "h", "--model", hunted / "tiny", "--controls", kinds, "--samples", 3) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == str(hunted / "h")
    assert "not rescued" in said
    runs = find_runs(hunted / "h")
    assert len(runs) == 2
    for run in runs:
        trace, trajectory = load_run(run)
        assert [control.kind for control in trace.controls] == kinds.split(",")
        assert all(len(c.continuations) == 3 for c in trace.controls if c.kind != "fresh")
        assert trace.leaks.step == 2
        assert trajectory is not None
    whole = json.loads((hunted / "h" / "audit.json").read_text())
    assert {one["run"] for one in whole["runs"]} == {run.name for run in runs}
    table = list(csv.DictReader((hunted / "h" / "audit.csv").open()))
    assert {row["arm"] for row in table} == {"revised", "projected", "original", *kinds.split(",")}
    before = {run.name: (run / "trace.json").read_bytes() for run in runs}
    # Again: the controls that are there are not run again, those that lack are added.
    assert verb("audit", hunted / "h", "--model", hunted / "tiny", "--controls", "ban", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["arms"]["ban"]["runs"] == 2
    for run in runs:
        old, new = json.loads(before[run.name]), load_run(run, with_trajectory=False)[0].model_dump(mode="json")
        assert new["controls"][:3] == old["controls"]
        assert [one["kind"] for one in new["controls"]] == [*kinds.split(","), "ban"]


def test_an_interrupt_waits_for_the_control_under_way(hunted, tmp_path, monkeypatch, capsys):
    """The first SIGINT comes in the middle of a control: it is kept, no other is begun, the same command goes on."""
    plain, seen = auditing.other_control, []

    def interrupted(run, judge, kind, *rest):
        seen.append(kind)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        yield from plain(run, judge, kind, *rest)

    monkeypatch.setattr(auditing, "other_control", interrupted)
    asked = ["--model", hunted / "tiny", "--controls", "toward-only,no-hull", "--out", tmp_path / "copies"]
    assert verb("audit", hunted / "h", *asked) == 130
    assert seen == ["toward-only"]
    kept = [control.kind for run in find_runs(tmp_path / "copies") for control in load_run(run)[0].controls]
    assert kept.count("toward-only") == 1
    assert verb("audit", hunted / "h", *asked) == 0
    assert seen.count("toward-only") == 2, "one for each run, none twice"


def test_a_hunt_and_an_audit_of_its_runs_keep_each_other_out(hunted, tmp_path, monkeypatch, capsys):
    asked = ["--model", hunted / "tiny", "--controls", "leaks"]
    with FileLock(hunted / "h" / ".hunt-1.lock"):  # one process of a hunt that was started elsewhere
        for path in (hunted / "h", find_runs(hunted / "h")[0]):
            assert verb("audit", path, *asked) == 2
            assert f"A hunt or another audit is at work in {hunted / 'h'}" in capsys.readouterr().err
        assert verb("audit", hunted / "h", *asked, "--out", tmp_path / "copies") == 0
    (hunted / "h" / ".hunt-0.lock").unlink(missing_ok=True)
    plain, refused = auditing.leaks, []

    def measured(run, point):
        with pytest.raises(Timeout):
            FileLock(hunted / "h" / ".hunt-0.lock", timeout=0).acquire()
        refused.append(run)
        return plain(run, point)

    monkeypatch.setattr(auditing, "leaks", measured)
    assert verb("audit", hunted / "h", *asked) == 0
    assert len(refused) == 2
    FileLock(hunted / "h" / ".hunt-0.lock", timeout=0).acquire().lock.release()


def test_a_judge_that_can_not_start_is_no_decoy_left_out(hunted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verdict.sys, "executable", "/bin/false")
    bare = _bare(hunted / "h", tmp_path / "bare")
    assert verb("audit", bare, "--model", hunted / "tiny", "--controls", "decoy") == 2
    assert "could not start" in capsys.readouterr().err


def test_a_control_that_can_not_be_had_of_a_run_is_left_out_and_the_others_go_on(hunted, tmp_path, monkeypatch, capsys):
    plain = auditing.other_control

    def refused(run, judge, kind, *rest):
        if kind == "toward-only" and run.problem.id == "p0":
            raise UserError("No step of the control toward-only lowers its objective.")
        yield from plain(run, judge, kind, *rest)

    monkeypatch.setattr(auditing, "other_control", refused)
    asked = ["--model", hunted / "tiny", "--controls", "toward-only,no-hull", "--out", tmp_path / "copies"]
    assert verb("audit", hunted / "h", *asked) == 0
    assert "toward-only, left out: No step of the control" in capsys.readouterr().err
    traces = [load_run(run, with_trajectory=False)[0] for run in find_runs(tmp_path / "copies")]
    kept = {trace.problem.id: [c.kind for c in trace.controls if "-" in c.kind] for trace in traces}
    assert "toward-only" not in kept["p0"]
    assert "no-hull" in kept["p0"]
    assert {"toward-only", "no-hull"} <= set(kept["p1"])
    assert all(trace.leaks for trace in traces)


def test_copies_leave_the_runs_as_they_are(hunted, tmp_path):
    before = {run.name: (run / "trace.json").read_bytes() for run in find_runs(hunted / "h")}
    asked = ["--model", hunted / "tiny", "--controls", "away-only", "--out", tmp_path / "copies"]
    assert verb("audit", hunted / "h", *asked) == 0
    assert {run.name: (run / "trace.json").read_bytes() for run in find_runs(hunted / "h")} == before
    for run in find_runs(tmp_path / "copies"):
        assert "away-only" in [control.kind for control in load_run(run)[0].controls]


def test_an_audited_hunt_joins_the_studys_report(hunted, tmp_path, capsys):
    report = tmp_path / "report"
    shutil.copytree(PROJECT_ROOT / "assets" / "study", report)
    before = json.loads((report / "study.json").read_text())
    with pytest.raises(UserError, match="were not audited"):
        add_hunt(report, _bare(hunted / "h", tmp_path / "bare"), "tiny")
    kinds = "fresh,unrevised,decoy"
    assert verb("audit", hunted / "h", "--model", hunted / "tiny", "--controls", kinds, "--samples", 2) == 0
    add_hunt(report, hunted / "h", "tiny")
    after = json.loads((report / "study.json").read_text())
    assert {name: after["confirm"][name] for name in before["confirm"]} == before["confirm"]
    assert after["confirm"]["tiny"]["problems"] == 2
    assert after["confirm"]["tiny"]["arms"]["fresh"]["problems"]["n"] == 2
    text = (report / "report.md").read_text()
    assert "### tiny: a hunt over set.jsonl: N 2" in text
    assert "tiny: revised 0 of 2" in text
    assert "`python -m explorer hunt --problems tiny --model FOLDER --rollouts 2" in text


def _bare(hunt, target):
    """A copy of a hunt without its audits."""
    shutil.copytree(hunt, target)
    for run in find_runs(target):
        trace, trajectory = load_run(run)
        save_run(trace.model_copy(update={"controls": (), "leaks": None}), trajectory, run)
    return target


def test_one_run_is_told_at_length(hunted, capsys):
    run = find_runs(hunted / "h")[0]
    assert verb("audit", run, "--model", hunted / "tiny") == 0
    said = capsys.readouterr().out
    assert [kind for kind in KINDS if kind not in said] == []
    assert "weight on the answer's tokens" in said
    assert "log p(answer), nats per token" in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--controls", "luck"), "There is no control 'luck'"),
        (("--samples", "0"), "--samples must be"),
        (("--model", "nowhere/at-all"), "nowhere/at-all"),
    ],
)
def test_bad_input_is_one_sentence(hunted, more, sentence, capsys, monkeypatch):
    monkeypatch.setenv("LATENTREVISE_OFFLINE", "1")
    asked = () if "--model" in more else ("--model", hunted / "tiny")
    assert verb("audit", hunted / "h", *asked, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error


def test_a_folder_without_runs_is_said(tmp_path, capsys):
    assert verb("audit", tmp_path) == 2
    assert "There is no run in" in capsys.readouterr().err


def test_counts_over_runs_by_hand():
    def arm(name, correct, n=4):
        return Arm(name=name, n=n, correct=correct, interval=wilson_interval(correct, n), degenerate=1, truncated=0)

    audits = [
        Audit(arms=(arm("revised", 2), arm("fresh", 0, 9)), finding=Finding.UNDECIDED),
        Audit(arms=(arm("revised", 0),), finding=Finding.NOT_RESCUED),
    ]
    counted = summarise(audits)
    assert list(counted["arms"]) == ["revised", "fresh"]
    assert counted["arms"]["revised"] == {
        "runs": 2,
        "runs_with_a_hit": 1,
        "interval": list(wilson_interval(1, 2)),
        "correct": 2,
        "n": 8,
        "degenerate": 2,
        "truncated": 0,
    }
    assert counted["findings"]["undecided"] == counted["findings"]["not rescued"] == 1
