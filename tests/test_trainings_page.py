"""What the training's screen does, without a browser: real jobs, a stand-in for the process that trains. Everything
waits for a state."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
import torch

from explorer.errors import UserError
from explorer.fingerprint import fingerprint
from explorer.jobs import LOCK_FILE, JobState
from explorer.problems import load_bank
from explorer.recorded import recorded_runs
from explorer.records import ModelInfo, SamplingConfig
from explorer.settings import read_settings
from explorer.store import load_run, save_run
from explorer.training.evaluate import EVALUATION_FILE, Evaluation, bootstrap, counted
from explorer.training.folder import TrainingConfig, read_config, read_lines, write_config
from explorer.training.request import TrainRequest
from explorer.training.traces import candidates, read_candidates
from explorer.ui.models import ModelHost
from explorer.ui.training_after import comparison, measures, set_slug
from explorer.ui.trainings import PRESETS, RECORDED, Trainings, need_own
from tests.conftest import tiny_model
from tests.tiny_training import saved_model, saved_runs

# Writes what a training writes, an update at a time; stops at SIGINT with 130, goes on where it was.
STAND_IN = textwrap.dedent("""
    import json, pathlib, signal, sys, time
    from explorer.records import ModelInfo
    from explorer.training import folder as files
    from explorer.training.request import TrainRequest
    from explorer.training.traces import read_candidates

    out, updates, runs = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))
    rows, _ = read_candidates([runs])
    info = ModelInfo(id=rows[0].model_id, source="wheel", dtype="float32", device="cpu", vocab_size=9, hidden_size=4,
                     fingerprint=rows[0].fingerprint)
    out.mkdir(parents=True, exist_ok=True)
    files.write_config(out, files.TrainingConfig(request=TrainRequest(updates=updates), model=info, rows=len(rows)))
    (out / files.DATA_FILE).write_bytes(files.data_bytes(rows))
    (out / files.QUESTIONS_FILE).write_text(json.dumps([row.question for row in rows]))
    progress = files.Progress(out, updates)
    def look(update, correct):
        files.append_line(out / files.HELD_OUT_FILE, {"update": update, "n": 8, "correct": correct, "texts": []})
    done = len(files.read_lines(out / files.METRICS_FILE))
    if not done:
        look(0, 1)
    for update in range(done + 1, updates + 1):
        time.sleep(0.05)
        files.append_line(out / files.METRICS_FILE, {"update": update, "seconds": update, "loss": 1 / update})
        progress.tell(update, "training", now=True)
        print("Update", update, flush=True)
        if stop:
            sys.exit(130)
    look(updates, 5)
    (out / files.MODEL).mkdir()
    (out / files.MODEL / "config.json").write_text("{}")
    (out / files.RESULT_FILE).write_text(json.dumps({"state": "done", "updates": updates, "seconds": 2.0}))
""")


def stand_in(request, wanted, runs, folder, model, problems="", held_out=""):
    return [sys.executable, "-c", STAND_IN, str(folder), str(request.updates), str(runs[0])]


def host(model=None, **settings):
    entry = SimpleNamespace(model=model, state="ready" if model else "loading")
    return SimpleNamespace(settings=read_settings(**{"device": "cpu", **settings}), loading=lambda name: entry)


@pytest.fixture
def trainings(tmp_path):
    made = Trainings(host(), tmp_path / "runs", stand_in)
    yield made
    for job in made.jobs.list():
        if job.alive:
            made.jobs.cancel(job.id, grace_s=0)
            until(lambda job=job: not made.jobs.find(job.id).alive)


@pytest.fixture
def values(trainings):
    return trainings.form()["presets"]["sft"]


def until(holds, patience_s=120.0):
    end = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def status(trainings, name=None):
    return trainings.look(name)[0]


def ended(trainings, name):
    return until(lambda: (now := status(trainings, name)) and now["job"] and not now["job"]["alive"] and now)


def test_a_fresh_visitor_may_train_on_the_recorded_runs(trainings, values):
    form = trainings.form()
    assert [one["id"] for one in form["sources"]] == ["recorded"]
    assert values["sources"] == ["recorded"]
    assert values["updates"] == PRESETS["cpu"]["sft"]["updates"]
    plan = trainings.plan(values, "default", ticket=5)
    assert (plan["ticket"], plan["error"], plan["blocked"], plan["waiting"]) == (5, "", "", True)
    assert plan["traces"]["kept"] > 0
    assert "6 runs" in plan["traces"]["words"]
    assert not trainings.root.exists()


def test_the_command_is_the_one_that_runs(tmp_path):
    plan = (real := Trainings(host(), tmp_path)).plan({**real.form()["presets"]["grpo"], "max_leak": 0.2}, "default")
    for part in ("train grpo", "--runs assets/recorded", "--model default", "--device cpu", "--max-leak 0.2"):
        assert part in plan["command"]
    assert "a dash" in real.plan(real.form()["presets"]["sft"], "-rf")["blocked"]


def test_runs_of_the_page_and_of_hunts_are_sources_too(trainings):
    run = recorded_runs()[0].folder
    shutil.copytree(run, trainings.runs_dir / "mine")
    hunt = trainings.runs_dir / "hunts" / "h1"
    shutil.copytree(run, hunt / "a-run")
    (hunt / "hunt.json").write_text("{}")
    assert {name: source.runs for name, source in trainings.sources().items()} == {
        "runs": 1,
        "hunt:h1": 1,
        "recorded": len(recorded_runs()),
    }
    # The first that are one's own are chosen; the same trace in two places is one.
    values = trainings.form()["presets"]["sft"]
    assert values["sources"] == ["runs"]
    one = trainings.plan(values, "default")["traces"]["kept"]
    assert trainings.plan({**values, "sources": ["runs", "hunt:h1"]}, "default")["traces"]["kept"] == one


def test_bad_rows_of_a_file_that_was_brought_are_left_out(trainings, values, monkeypatch):
    """They were shown when it was brought; here a person could do nothing about them."""
    name = f"mine-{'0' * 10}.jsonl"
    path = trainings.runs_dir / "problem-sets" / name
    path.parent.mkdir(parents=True)
    rows = [json.dumps({"id": f"q{i}", "question": f"{i} + 1?", "answer": i + 1}) for i in range(8)]
    path.write_text("\n".join([*rows, '{"id": "b", "question": "1 + 2?"}']))
    plan = trainings.plan({**values, "held_out_set": f"file:{name}"}, "default")
    assert plan["blocked"] == ""
    assert dict((what, much) for what, much, _ in plan["facts"])["Held-out problems"] == "8"
    real = Trainings(trainings.host, trainings.runs_dir)
    assert real.plan({**values, "held_out_set": f"file:{name}"}, "default")["command"].endswith("--skip-bad")
    assert "--skip-bad" not in real.plan(values, "default")["command"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": []}, "Choose where the traces come from"),
        ({"sources": ["../.."]}, "Choose where the traces come from"),
        ({"updates": 0}, "Updates can't be"),
        ({"max_leak": 2}, "Leak score at most can't be"),
        ({"max_trace_tokens": 3}, "No trace is left of"),
        ({"traces": "own"}, "None of the"),
        ({"name": "../x"}, "is not a run's name"),
        ({"name": "of-x"}, "doesn’t begin with"),
        ({"method": "grpo", "problems": "file:../x.jsonl"}, "Choose a problem set first"),
    ],
)
def test_what_cannot_be_says_so_in_a_sentence(trainings, values, changes, said):
    plan = trainings.plan({**values, **changes}, "default")
    assert said in plan["blocked"]
    with pytest.raises(UserError, match=said[:20].replace("(", r"\(")):
        trainings.start({**values, **changes}, "default")
    assert trainings.jobs.list() == []


def test_traces_of_another_model_and_too_little_memory_are_refused(tmp_path, monkeypatch):
    tiny = tiny_model("llama")
    other = Trainings(host(tiny), tmp_path, stand_in)
    values = other.form()["presets"]["sft"]
    assert "load the model that made them" in other.plan(values, "tiny")["blocked"]
    row = read_candidates([RECORDED])[0][0]
    info = tiny.info.model_copy(update={"id": row.model_id, "fingerprint": row.fingerprint})
    same = SimpleNamespace(info=info, vocabulary=tiny.vocabulary, network=tiny.network)
    need_own([row], same)
    for kind in (torch.bfloat16, torch.float16):  # made on a GPU, say, where models are loaded in these
        half = row.model_copy(update={"fingerprint": fingerprint(tiny.vocabulary.to(kind))})
        need_own([row, half], same)
        assert Trainings._why_not(half, same) == ""
    other_weights = row.model_copy(update={"fingerprint": "f" * 16})
    with pytest.raises(UserError, match="load the model that made them"):
        need_own([row, other_weights], same)
    assert "can be weighed where" in Trainings._why_not(other_weights, same)
    child = SimpleNamespace(info=same.info.model_copy(update={"id": "its-child"}))
    with pytest.raises(UserError, match="load the model that made them"):
        need_own([row], child)
    need_own([row], SimpleNamespace(info=tiny.info.model_copy(update={"id": row.model_id, "dtype": "bfloat16"})))
    monkeypatch.setattr("explorer.ui.trainings.need_own", lambda rows, model: None)
    monkeypatch.setattr("explorer.training.estimate.memory_free", lambda device: 1000)
    plan = other.plan(values, "tiny")
    assert "of memory" in plan["blocked"]
    assert any(what == "Memory" for what, *_ in plan["facts"])


def test_of_runs_of_several_models_the_pages_own_count(tmp_path):
    """Whoever looks at a second model once can still train the first on what it made."""
    tiny = tiny_model("llama")
    mine, other = recorded_runs()[0], recorded_runs()[1]
    for name, run, info in (("a", mine, tiny.info), ("b", other, other.trace.model)):
        trace, rows = load_run(run.folder)
        save_run(trace.model_copy(update={"model": info}), rows, tmp_path / "runs" / name)
    values = Trainings(host(), tmp_path / "runs").form()["presets"]["sft"]
    assert values["sources"] == ["runs"]

    plan = Trainings(host(), tmp_path / "runs").plan(values, "default")
    assert "once it is known which" in plan["error"]
    assert plan["waiting"], "the form asks again"
    need = "explorer.ui.trainings.need_own"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(need, lambda rows, model: None)
        plan = Trainings(host(tiny), tmp_path / "runs").plan(values, "tiny")
        others = len(candidates(other.trace))
        assert ["made by another model", others] in plan["traces"]["left_out"]
        assert plan["error"] == ""
        third = SimpleNamespace(info=tiny.info.model_copy(update={"id": "third"}))
        plan = Trainings(host(third), tmp_path / "runs").plan(values, "third")
    assert "none of them the page’s" in plan["error"]


def test_problems_of_two_files_that_have_one_id_can_both_be_previewed(tmp_path):
    for run in recorded_runs():
        trace, rows = load_run(run.folder)
        problem = trace.problem.model_copy(update={"id": "1"})
        save_run(trace.model_copy(update={"problem": problem}), rows, tmp_path / "runs" / run.folder.name)
    page = Trainings(host(), tmp_path / "runs")
    values = page.form()["presets"]["grpo"]
    group = page.plan(values, "default")["group"]
    questions = [one["id"] for one in group["problems"]]
    assert len(questions) == len(set(questions)) > 1
    assert group["problem"] == questions[0]
    for question in questions:
        assert page.plan({**values, "preview": question}, "default")["group"]["problem"] == question


def test_runs_of_a_public_pages_visitors_are_no_source(trainings, values, monkeypatch):
    """They lie in one folder, and hold what somebody else asked."""
    shutil.copytree(next(path for path in RECORDED.iterdir() if path.is_dir()), trainings.runs_dir / "somebodys")
    assert "runs" in trainings.sources()
    monkeypatch.setattr(trainings.host, "settings", trainings.host.settings.model_copy(update={"public": True}))
    assert list(trainings.sources()) == ["recorded"]
    assert trainings.form()["presets"]["grpo"]["sources"] == ["recorded"]
    plan = trainings.plan({**values, "method": "grpo", "sources": ["runs"]}, "default")
    assert "Choose where the traces come from" in plan["error"]
    # Another model than the recorded runs' is no reason that a visitor could do anything about.
    tiny = tiny_model("llama")
    monkeypatch.setattr(
        trainings.host, "loading", lambda name: SimpleNamespace(state="ready", model=tiny, message="", progress=1.0)
    )
    assert "machine of your own" in trainings.plan(values, "default")["blocked"]
    assert plan["traces"] is None or not plan["traces"]["sample"]


def test_a_public_page_trains_and_evaluates_nothing(trainings, values, monkeypatch):
    public = trainings.host.settings.model_copy(update={"public": True})
    monkeypatch.setattr(trainings.host, "settings", public)
    plan = trainings.plan(values, "default")
    assert "machine of your own" in plan["blocked"]
    assert plan["command"], "the command can still be read"
    for attempt in (
        lambda: trainings.start(values, "default"),
        lambda: trainings.command("stop", "x"),
        lambda: trainings.after.evaluate("x", "trained", {}),
    ):
        with pytest.raises(UserError, match="machine of your own"):
            attempt()
    assert trainings.jobs.list() == []


def test_a_training_from_start_over_stop_and_kill_to_its_model(trainings, values, monkeypatch):
    values = {**values, "updates": 60}
    plan = trainings.plan(values, "default")
    name = trainings.start(values, "default", plan["name"])
    assert name == plan["name"]
    assert status(trainings)["shown"] == name
    with pytest.raises(UserError, match="is running"):
        trainings.start(values, "default")

    # Curves arrive; they are sent only when they are others.
    until(lambda: (got := trainings.look(name)[1]) and len(got["curves"]) == 2 and len(got["curves"][1]["points"]) > 2)
    trainings.command("stop", status(trainings, name)["job"]["id"])
    stopped = ended(trainings, name)
    assert (stopped["job"]["state"], stopped["job"]["said"]) == ("paused", "Stopped")
    assert trainings.look(name, stopped["mark"])[1] is None
    assert stopped["after"] is None
    kept = len(read_lines(trainings.root / name / "metrics.jsonl"))

    # An app that is started anew finds the same.
    again = Trainings(trainings.host, trainings.runs_dir, stand_in)
    assert status(again)["job"] == stopped["job"]
    again.command("resume", stopped["job"]["id"])
    until(lambda: len(read_lines(trainings.root / name / "metrics.jsonl")) > kept)
    os.killpg(int((trainings.jobs.root / stopped["job"]["id"] / LOCK_FILE).read_text()), signal.SIGKILL)
    died = ended(trainings, name)
    assert died["job"]["state"] == "died"
    assert died["log"][-1].startswith("Update")
    trainings.command("resume", died["job"]["id"])
    done = ended(trainings, name)
    assert done["job"]["state"] == "done", done["log"]
    curves = trainings.look(name)[1]
    assert [point[0] for point in curves["curves"][1]["points"]] == list(range(1, 61))
    assert done["measured"].startswith("60 updates")
    assert [one["x"] for one in done["after"]["held_out"]] == [1, 5]

    folder = trainings.root / name
    # While the app's own model is not there, nobody knows which copy it will be: the parent has a name of its own.
    assert trainings.after.pair(name) == (str(folder / "model"), "wheel")
    after = trainings.look(name, "", "wheel")[0]["after"]
    assert (after["loading"], after["loaded"]) == ("parent", ""), "asked for is not there"
    info = read_config(folder).model
    here = SimpleNamespace(model=SimpleNamespace(info=info), state="ready", message="", progress=1.0)
    monkeypatch.setattr(trainings.host, "loading", lambda name: here)
    assert trainings.after.pair(name) == (str(folder / "model"), "default"), "once it is, by the app's name for it"
    assert trainings.look(name, "", "default")[0]["after"]["loaded"] == "parent"
    assert trainings.look(name, "", str(folder / "model"))[0]["after"]["loaded"] == "trained"
    here.state = "failed"
    assert trainings.look(name, "", str(folder / "model"))[0]["after"]["loaded"] == ""
    monkeypatch.undo()
    assert trainings.after.parent_of(str(folder / "model")) == recorded_runs()[0].trace.model.id
    assert trainings.after.parent_of("default") == ""
    assert trainings.look(name, "", str(folder / "model"))[0]["after"]["loading"] == "trained"
    assert "already" in trainings.plan({**values, "name": name}, "default")["blocked"]
    _evaluated(trainings, name)


def _evaluated(trainings, name):
    """Both sides, measured the same way, stand beside each other; what was trained on is counted apart."""
    after = trainings.after
    with pytest.raises(UserError, match="N, rollouts can't be"):
        after.evaluate(name, "trained", {"problems": "bank", "rollouts": 0})
    with pytest.raises(UserError, match="Choose a problem set"):
        after.evaluate(name, "trained", {"problems": "../x", "rollouts": 2})
    after.evaluate(name, "trained", {"problems": "sum", "rollouts": 2, "limit": 3})
    (job,) = [job for job in trainings.jobs.list() if job.kind == "evaluate"]
    assert job.command[3:] == (
        *("evaluate", "--problems", "sum", "--out", str(after.root / f"{name}--sum-2x3"), "--model"),
        *(str(trainings.root / name / "model"), "--rollouts", "2", "--limit", "3", "--device", "cpu"),
    )
    failed = until(lambda: (now := status(trainings, name)["after"]["evaluating"]) and not now["alive"] and now)
    assert (failed["side"], failed["state"]) == ("trained", "failed")
    assert failed["last"], "why it failed"
    assert status(trainings, name)["job"]["state"] == "done", "the training's own job is on show"

    config = json.loads((trainings.root / name / "training.json").read_text())["model"]
    slug = f"of-HuggingFaceTB-SmolLM2-135M-Instr-{config['fingerprint'][:8]}"
    for folder, hits in ((f"{name}--sum-2x3", (2, 0, 1)), (f"{slug}--sum-2x3", (0, 0, 1))):
        (after.root / folder).mkdir(parents=True, exist_ok=True)
        (after.root / folder / EVALUATION_FILE).write_text(evaluation(hits).model_dump_json())
    sides = status(trainings, name)["after"]
    assert [side["side"] for side in sides["sides"]] == ["parent", "trained"]
    assert "over 2 problems never trained on" in sides["comparison"]
    assert "pass@1 +50.0 points" in sides["comparison"]
    assert "Mean length of all rollouts: 9 tokens before, 9 after." in sides["comparison"]
    assert "unrelated" not in sides["comparison"], "these kept no loss of each question"


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((3.0, 3.1, 5.0), "+1.03 (+1.00 to +1.10), more is worse: less likely."),
        ((1.0, 1.0, 3.0), "−1.00 (−1.00 to −1.00), more is worse: likelier."),
        ((1.0, 3.0, 4.0), "+0.00 (−1.00 to +1.00), more is worse: can’t be told apart."),
    ],
)
def test_what_a_training_cost_elsewhere_is_said(after, said):
    parent, trained = evaluation((0, 0, 1), (2.0, 2.0, 4.0)), evaluation((0, 0, 1), after)
    lines = comparison(parent, trained, None).split("\n")
    assert [line[:8] for line in lines] == ["pass@1 +", "Mean len", "Answers "]
    assert lines[2].endswith(said)
    assert "to 3 unrelated questions of general knowledge" in lines[2]
    assert "2.67 nats per token before" in lines[2]
    known = {name: name for name in parent.correct}
    parent, trained = (one.model_copy(update={"questions": known}) for one in (parent, trained))
    assert comparison(parent, trained, frozenset(known)).split("\n") == lines[1:], (
        "trained on all: the rest is told all the same"
    )


def test_sets_of_one_stem_are_measured_in_folders_of_their_own():
    names = ["bank", "sum", "two-step", "reasoning-gym:chain_sum", "datasets:openai/gsm8k:test"]
    names += ["datasets:other/gsm8k:test", "datasets:gsm8k:train[:50%]", "datasets:gsm8k:train[50%:]"]
    names += [f"runs/problem-sets/{'a-long-name-of-a-file' * 2}-{mark * 10}.jsonl" for mark in "ab"]
    names += [f"{'a' * 20}-and-more.jsonl", "no--way"]
    slugs = [set_slug(name) for name in names]
    assert slugs[:3] == names[:3]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,32}", slug) and "--" not in slug for slug in slugs)


def test_names_that_are_cut_at_a_dash_are_told_apart_all_the_same(trainings, values, monkeypatch):
    """Two dashes in a row part a model's name from how it was measured: no name of ours has them."""
    long = f"hunt:a-{'b' * 23}"
    assert long.removeprefix("hunt:")[-24:].startswith("-")
    folder = trainings._folder({**values, "sources": [long], "name": ""})
    assert "--" not in folder.name
    config = TrainingConfig(
        request=TrainRequest(),
        model=ModelInfo(
            id=f"{'m' * 31}-it", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4
        ),
    )
    write_config(folder, config)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "result.json").write_text('{"state": "done"}')
    after = trainings.after
    started = []
    monkeypatch.setattr(trainings.jobs, "start", lambda kind, title, command, about: started.append(about))
    monkeypatch.setattr(after, "parent", lambda config: "m")
    for side in ("parent", "trained"):
        after.evaluate(folder.name, side, {"problems": "sum", "rollouts": 2})
    for place in started:
        assert place.name.count("--") == 1
        place.mkdir(parents=True)
        (place / EVALUATION_FILE).write_text(evaluation((2, 0, 1)).model_dump_json())
    other = after.root / f"{folder.name}--x--sum-2xall"  # of a training that a person called so
    (trainings.root / f"{folder.name}--x").mkdir()
    other.mkdir()
    (other / EVALUATION_FILE).write_text(evaluation((0, 0, 0)).model_dump_json())
    job = SimpleNamespace(kind="evaluate", about=str(other), state=JobState.RUNNING, id="j", alive=True, last_lines=())
    payload = after.payload(folder, config, [job], [], "m", [])
    assert [side["side"] for side in payload["sides"]] == ["parent", "trained"]
    assert payload["evaluating"] is None
    assert after.training_of(job) == f"{folder.name}--x"


def test_evaluations_whose_names_were_cut_at_a_dash_before_are_found(trainings):
    config = TrainingConfig(
        request=TrainRequest(),
        model=ModelInfo(
            id=f"{'m' * 31}-it", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4
        ),
    )
    folder = trainings.root / "mine"
    write_config(folder, config)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "result.json").write_text('{"state": "done"}')
    after, config = trainings.after, read_config(folder)
    parent = f"of-{'m' * 31}--{config.model.fingerprint[:8]}"
    for name in (f"{parent}--a--1-2xall", "mine--a--1-2xall"):
        (after.root / name).mkdir(parents=True)
        (after.root / name / EVALUATION_FILE).write_text(evaluation((2, 0, 1)).model_dump_json())
    payload = after.payload(folder, config, [], [], "m", [])
    assert [side["side"] for side in payload["sides"]] == ["parent", "trained"]


def evaluation(hits, losses=()):
    """Of three problems, of which the stand-in trains on the last."""
    names = ["sum-00", "sum-02", "sum-10"]
    correct = dict(zip(names, hits, strict=True))
    return Evaluation(
        model=ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4),
        problems="sum",
        sampling=SamplingConfig(n=2),
        correct=correct,
        questions={problem.id: problem.question for problem in load_bank() if problem.id in names},
        pass_at={1: bootstrap([one / 2 for one in hits])},
        hit=counted(sum(one > 0 for one in hits), 3),
        rollouts=counted(sum(hits), 6),
        tokens=9.0,
        loops=counted(0, 6),
        cut_off=counted(1, 6),
        unrelated=bootstrap(losses) if losses else None,
        unrelated_each=losses,
    )


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_each_method_is_launched_from_the_page_for_real(tmp_path, method):
    """TRL in a process of its own, by the command that the page shows."""
    saved_model(tmp_path / "tiny")
    saved_runs(tmp_path / "tiny", tmp_path / "runs")
    settings = read_settings(model=str(tmp_path / "tiny"), device="cpu", cache_dir=tmp_path / "cache")
    models = ModelHost(settings)
    until(lambda: models.loading(settings.model).state != "loading")
    trainings = Trainings(models, tmp_path / "runs")
    values = trainings.form()["presets"][method]
    values = {**values, "updates": 2, "batch": 1, "group": 2, "max_new_tokens": 8, "held_out": 0, "sources": ["runs"]}
    plan = trainings.plan(values, settings.model)
    assert not plan.get("blocked"), plan["blocked"]
    name = trainings.start(values, settings.model)
    done = ended(trainings, name)
    assert done["job"]["state"] == "done", done["log"]
    assert done["measured"].startswith("2 updates")
    assert "tokens read" in done["measured"]
    assert trainings.after.model_folder(name) == (trainings.root / name / "model").absolute()


def test_problems_that_were_trained_on_are_counted_apart():
    known = frozenset(problem.question for problem in load_bank() if problem.id == "sum-10")
    rates = {name: (value, of) for name, value, _, _, of in measures(evaluation((2, 0, 1)), known)}
    assert rates["pass@1"] == (0.5, "mean of 2 problems never trained on")
    assert rates["pass@2"] == (0.5, "1 of 2 problems hit at least once")
    assert rates["pass@2, trained on"] == (1.0, "1 of 1 problems hit at least once")
    assert rates["Cut off"][1] == "1 of 6 rollouts"
    unknown = {name: of for name, _, _, _, of in measures(evaluation((2, 0, 1)), None)}
    assert unknown["pass@1"] == "mean of 3 problems (which of them were trained on is not known)"


def test_a_training_that_can_not_begin_says_why(trainings, values, monkeypatch):
    monkeypatch.setattr(
        trainings, "_make_command", lambda *_: [sys.executable, "-c", "raise SystemExit('error: The disk is full.')"]
    )
    name = trainings.start(values, "default")
    failed = ended(trainings, name)
    assert (failed["job"]["state"], failed["job"]["words"]) == ("failed", "The disk is full.")
    assert failed["log"] == ["error: The disk is full."]
    assert (failed["shown"], failed["settings"]) == (name, "")
    assert trainings.look(name)[1]["curves"] == []


def test_a_name_is_no_way_out(trainings, values):
    for bad in ("../..", "a/b", ""):
        with pytest.raises(UserError):
            trainings.command("stop", bad)
        with pytest.raises(UserError):
            trainings.after.pair(bad)
        with pytest.raises(UserError):
            trainings.after.evaluate(bad, "trained", {"rollouts": 1})
    assert trainings.look("../../etc")[0]["shown"] is None
    with pytest.raises(UserError):
        trainings.start(values, "default", "../outside")


def test_the_tokens_of_a_rescued_trace_are_weighed_by_the_model_that_made_it(tmp_path, monkeypatch):
    tiny = tiny_model("llama")
    row = read_candidates([RECORDED])[0][0]
    model = SimpleNamespace(
        info=tiny.info.model_copy(update={"fingerprint": row.fingerprint, "id": row.model_id}),
        vocabulary=tiny.vocabulary,
        network=tiny.network,
        device=tiny.device,
        token_text=lambda token: f"<{token}>",
        read=lambda ids: tuple(ids),
        tokenizer=SimpleNamespace(eos_token_id=2, chat_template=None),
        end_ids=frozenset((2,)),
        log_probabilities=lambda context, ids, temperature: [-temperature] * len(ids),
    )
    page = Trainings(host(model), tmp_path, stand_in)
    values = page.form()["presets"]["grpo"]
    before = page.plan(values, "default")["group"]
    assert (before["weights"], before["why_not"]) == (None, "")
    assert not any(one["advantage"] for one in before["without"])
    assert sum(one["rescued"] for one in before["with"]) == 1
    page.weigh(values, model)
    weights = page.plan(values, "default")["group"]["weights"]
    assert {one["log_p"] for one in weights["tokens"]} == {-1.0}
    assert len(weights["tokens"]) == len(row.completion_ids) + row.finished, "the end is trained on as well"
    # Of another temperature it is another number, and not yet known.
    assert page.plan({**values, "temperature": 0.5}, "default")["group"]["weights"] is None
    page.weigh({**values, "temperature": 0.5}, model)
    cooler = page.plan({**values, "temperature": 0.5}, "default")["group"]["weights"]
    assert {one["log_p"] for one in cooler["tokens"]} == {-0.5}
    # Another c needs no other pass; a trace that never enters is shown as it would be missed.
    assert page.plan({**values, "off_policy_c": 0.5}, "default")["group"]["weights"]["c"] == 0.5
    never = page.plan({**values, "inject": "never"}, "default")["group"]
    assert "No rescued trace enters." in never["words"]
    with pytest.raises(UserError, match="can be weighed where"):
        page.weigh(values, tiny)
