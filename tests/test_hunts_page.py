"""What the hunt's screen does, without a browser: real jobs, a tiny model on disk. Everything waits for a state."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from explorer.errors import UserError
from explorer.hunt import read_results
from explorer.jobs import LOCK_FILE
from explorer.settings import read_settings
from explorer.ui.hunts import Hunts
from tests.conftest import tiny_network, tiny_tokenizer

SMALL = {
    "rollouts": 2,
    "max_new_tokens": 12,
    "temperature": 1.0,
    "steps": 3,
    "samples": 2,
    "split": "fraction",
    "seed": 4,
}
MANY = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = tiny_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def hunts(tmp_path):
    host = SimpleNamespace(settings=read_settings(device="cpu"), loading=lambda name: SimpleNamespace(model=None))
    hunts = Hunts(host, tmp_path / "runs")
    yield hunts
    for job in hunts.jobs.list():
        if job.alive:
            hunts.jobs.cancel(job.id, grace_s=0)
            until(lambda job=job: not hunts.jobs.find(job.id).alive)


def test_a_public_page_starts_nothing(hunts, tmp_path):
    hunts.host.settings = read_settings(device="cpu", public=True)
    file = tmp_path / "set.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": 2}')
    for attempt in (
        lambda: hunts.start(SMALL, "default"),
        lambda: hunts.take_in(file, "set.jsonl"),
        lambda: hunts.command("pause", "x"),
        lambda: hunts.audit("x", "default"),
    ):
        with pytest.raises(UserError, match="machine of your own"):
            attempt()
    assert hunts.jobs.list() == []
    plan = hunts.plan({**SMALL, "problems": "bank"}, "default")
    assert "-m explorer hunt" in plan["command"], "the command can still be read"
    assert "machine of your own" in plan["blocked"]


@pytest.fixture
def problems(hunts, tmp_path):
    """A file of problems, brought to the page: so many that a hunt of them is under way when it is to be stopped."""
    file = tmp_path / "set.jsonl"
    rows = [
        {"id": f"p{i:02}", "question": f"What is {i} + 3?", "answer": i + 3, "family": "ab"[i % 2]} for i in range(MANY)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return hunts.take_in(file, "My set.jsonl")


def until(holds, patience_s=180.0):
    end = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def status(hunts, hunt=None):
    return hunts.look(hunt)[0]


def ended(hunts, hunt):
    return until(lambda: (now := status(hunts, hunt)) and now["job"] and not now["job"]["alive"] and now)


def test_a_plan_runs_nothing_and_says_what_would(hunts, problems, model):
    plan = hunts.plan({**SMALL, "problems": problems, "limit": 3}, model, ticket=5)
    assert (plan["ticket"], plan["error"], plan["blocked"]) == (5, "", "")
    assert "--limit 3" in plan["command"]
    assert model in plan["command"]
    assert "--device cpu" in plan["command"]
    assert "For 3 prompts" in plan["estimate"]
    assert not (hunts.runs_dir / "hunts").exists()
    assert hunts.plan({"problems": "file:../x.jsonl"}, model)["error"]
    assert "can't be" in hunts.plan({"problems": "bank", "rollouts": 0}, model)["error"]


def test_a_hunt_from_start_over_pause_and_kill_to_its_table_and_audit(hunts, problems, model, monkeypatch):
    values = {**SMALL, "problems": problems}
    plan = hunts.plan(values, model)
    name = hunts.start(values, model, plan["hunt"])
    assert name == plan["hunt"]
    assert status(hunts)["shown"] == name
    with pytest.raises(UserError, match="is running"):
        hunts.start(values, model)

    # Rows arrive; the table is sent only when it is another one.
    until(lambda: len(hunts.look(name)[1]["rows"]) >= 2)
    now, table = hunts.look(name)
    hunts.command("pause", now["job"]["id"])
    paused = ended(hunts, name)
    assert paused["job"]["state"] == "paused"
    assert hunts.look(name, paused["mark"])[1] is None
    kept = read_results(hunts.runs_dir / "hunts" / name)
    assert 2 <= len(kept) < MANY
    assert paused["progress"]["done"] == len(kept)

    # An app that is started anew finds the same.
    again = Hunts(hunts.host, hunts.runs_dir)
    assert status(again)["job"] == paused["job"]
    again.command("resume", paused["job"]["id"])
    until(lambda: len(read_results(hunts.runs_dir / "hunts" / name)) > len(kept))
    os.killpg(int((hunts.jobs.root / paused["job"]["id"] / LOCK_FILE).read_text()), signal.SIGKILL)
    died = ended(hunts, name)
    assert died["job"]["state"] == "died"
    assert "Nothing finished is lost" in died["job"]["words"]
    hunts.command("resume", died["job"]["id"])
    done = ended(hunts, name)
    assert done["job"]["state"] == "done", done["job"]
    table = hunts.look(name)[1]
    assert [row["problem"] for row in table["rows"]] == [f"p{i:02}" for i in range(MANY)]
    assert all(row["finding"] == "" for row in table["rows"])

    # The next plan is timed by this hunt, if the model is the same.
    loaded = SimpleNamespace(model=SimpleNamespace(info=SimpleNamespace(id=table["settings"].split(" (")[0])))
    timed = Hunts(SimpleNamespace(settings=hunts.host.settings, loading=lambda _: loaded), hunts.runs_dir)
    assert name in timed.plan(values, model)["estimate"]

    hunts.audit(name, "another-model")
    audited = ended(hunts, name)
    assert (audited["job"]["kind"], audited["job"]["state"]) == ("audit", "done"), audited["job"]
    table = hunts.look(name)[1]
    assert table["audited"] == sum(row["stage"] for row in table["rows"])
    assert all(row["finding"] for row in table["rows"] if row["stage"])

    # An audit replaces a run by two renames: seen the moment before, its files are not there when they are asked for.
    folder = hunts.runs_dir / "hunts" / name
    runs = [path.parent for path in folder.glob("*/trace.json")]
    for run in runs:
        run.rename(run.with_name(f".{run.name}.old"))
    monkeypatch.setattr(Path, "exists", lambda self, **_: True)
    assert hunts.look(name)[1] == {**table, "mark": hunts.look(name)[1]["mark"]}


def test_an_audit_that_is_over_does_not_hide_the_hunt_that_is_not(hunts):
    """Jobs that end at once, each as it is told."""
    folder = (hunts.runs_dir / "hunts" / "h").absolute()

    def job(kind, code):
        started = hunts.jobs.start(kind, kind, [sys.executable, "-c", f"raise SystemExit({code})"], folder)
        until(lambda: not hunts.jobs.find(started.id).alive)
        return started.id

    def shown():
        now = status(hunts, "h")
        return now["job"]["id"], now["job"]["state"], now["hunts"][0]["words"]

    hunt = job("hunt", 130)
    assert shown() == (hunt, "paused", "h (paused)")
    failed = job("audit", 2)
    assert shown() == (failed, "failed", "h (failed)"), "why it failed must be seen"
    assert status(hunts, "h")["unfinished"] == hunt, "it can be gone on with all the same"
    stopped = job("audit", 130)
    assert shown() == (stopped, "paused", "h (paused)")
    assert status(hunts, "h")["unfinished"] == hunt
    hunts.command("cancel", stopped)
    assert shown() == (hunt, "paused", "h (paused)")
    job("audit", 0)
    assert shown() == (hunt, "paused", "h (paused)")
    hunts.command("resume", hunt)  # it ends as before
    until(lambda: not hunts.jobs.find(hunt).alive)
    whole = job("hunt", 0)
    assert shown() == (whole, "done", "h")
    audited = job("audit", 0)
    assert shown() == (audited, "done", "h")
    assert status(hunts, "h")["unfinished"] is None


def test_bad_rows_block_the_start_until_they_are_left_out(hunts, tmp_path, model):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": 2}\n{"question": "?"}\n')
    values = {**SMALL, "problems": hunts.take_in(file, "bad.jsonl")}
    plan = hunts.plan(values, model)
    assert [row["line"] for row in plan["bad"]] == [2]
    with pytest.raises(UserError, match="Mend these rows"):
        hunts.start(values, model)
    assert hunts.jobs.list() == []
    name = hunts.start({**values, "skip_bad": True}, model)
    assert ended(hunts, name)["job"]["state"] == "done"
    assert len(hunts.look(name)[1]["rows"]) == 1


def test_a_hunt_that_can_not_begin_says_why(hunts, problems, tmp_path):
    name = hunts.start({**SMALL, "problems": problems}, str(tmp_path / "no-such-model"))
    failed = ended(hunts, name)
    assert failed["job"]["state"] == "failed"
    assert failed["job"]["words"] not in ("", "It gave no reason.")
    assert failed["job"]["last_lines"]
    assert failed["shown"] == name
    assert hunts.look(name)[1]["rows"] == []


def test_a_cancelled_hunt_is_kept_and_a_name_is_no_way_out(hunts, problems, model):
    name = hunts.start({**SMALL, "problems": problems}, model)
    hunts.command("cancel", status(hunts)["job"]["id"])
    assert ended(hunts, name)["job"]["state"] == "cancelled"
    for bad in ("../..", "a/b", ""):
        with pytest.raises(UserError):
            hunts.command("pause", bad)
        with pytest.raises(UserError):
            hunts.audit(bad, model)
    assert status(hunts, "../../etc")["shown"] == name
    with pytest.raises(UserError):
        hunts.start({**SMALL, "problems": problems}, model, "../outside")
