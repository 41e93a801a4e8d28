"""The comparison of trainings: which commands it runs, that training and held-out problems share nothing, and that its
report says what the figures say."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile

import pytest

from explorer.errors import UserError
from explorer.hunt import HuntConfig, ProblemResult, Tally
from explorer.records import ModelInfo, RevisionConfig, SamplingConfig
from explorer.training import claim as module
from explorer.training import folder as files
from explorer.training.claim import ARMS, Claim, need_alike, problems, write_problems
from explorer.training.claim_archive import HUNT_ARCHIVE, Settings, pack_hunt, take
from explorer.training.claim_report import difference, gathered, said, write_report
from explorer.training.evaluate import EVALUATION_FILE, Evaluation, Value, bootstrap, counted, unrelated_set
from explorer.training.folder import TrainingConfig
from explorer.training.request import Method, TrainRequest
from explorer.training.traces import TrainingTrace

MODEL = ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=3)
N = 8
SETTINGS = Settings(updates=7, samples=8, max_leak=0.1, per_problem=2, zvp_alpha=0.1)


def test_no_question_is_trained_on_and_evaluated(tmp_path):
    train, held = problems()
    assert len(train) == 96
    assert len(held) == 112
    assert not {p.question for p in train} & {p.question for p in held}
    assert len({p.id for p in held}) == len({p.question for p in held}) == 112
    write_problems(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / module.HELD_OUT_FILE).read_text().splitlines()]
    assert rows[0].keys() == {"id", "question", "answer", "family"}


def test_every_step_is_one_of_the_apps_own_commands(tmp_path, monkeypatch):
    """The verbs take these very options: they are parsed, up to where work would begin."""
    from typer.testing import CliRunner

    from explorer import auditing, hunting
    from explorer.cli import app
    from explorer.training import evaluate, train

    seen = []

    def taken(name):
        return lambda *given: seen.append((name, given)) or ([], {})

    for place, name in ((hunting, "hunt"), (auditing, "audit"), (evaluate, "evaluate"), (train, "train")):
        monkeypatch.setattr(place, name, taken(name))

    def run(command, **_):
        result = CliRunner().invoke(app, command[3:])
        assert result.exit_code == 0, result.output
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(module.subprocess, "run", run)
    claim = Claim(tmp_path, None, 7, 8, lambda text: None)
    claim.gather()
    for arm in ARMS:
        claim.arm(arm, 1)
    assert [name for name, _ in seen] == ["hunt", "audit", "evaluate"] + ["train", "evaluate"] * len(ARMS)
    requests = [given[0].request for name, given in seen if name == "train"]
    assert {request.updates for request in requests} == {7}, "an equal number of updates"
    assert {request.seed for request in requests} == {1}
    assert len({given[2] for name, given in seen if name == "evaluate"}) == 1, "evaluated alike"
    grpo = {arm.name: request for arm, request in zip(ARMS, requests, strict=True) if arm.method == "grpo"}
    assert {name: (r.inject.value, r.zvp_alpha) for name, r in grpo.items()} == {
        "grpo": ("never", 0.0),
        "grpo-rescued": ("zero-hit", 0.0),
        "grpo-zvp": ("never", module.ZVP_ALPHA),
    }
    wanted = [given[0].wanted for name, given in seen if name == "train"]
    assert [(w.sound, w.max_leak) for w in wanted[:3]] == [(False, None), (False, None), (True, module.MAX_LEAK)]


def evaluation(correct: dict[str, int], model: ModelInfo = MODEL) -> Evaluation:
    total = sum(correct.values())
    rollouts = N * len(correct)
    return Evaluation(
        model=model,
        problems="/a/place/of/this/machine/held.jsonl",
        questions={name: "?" for name in correct},
        sampling=SamplingConfig(n=N),
        correct=correct,
        pass_at={
            1: bootstrap([c / N for c in correct.values()]),
            8: bootstrap([float(c > 0) for c in correct.values()]),
        },
        hit=counted(sum(c > 0 for c in correct.values()), len(correct)),
        rollouts=counted(total, rollouts),
        tokens=40.0,
        loops=counted(1, rollouts),
        cut_off=counted(2, rollouts),
        unrelated=bootstrap([2.0, 3.0]),
        unrelated_each=(2.0, 3.0),
        unrelated_set=unrelated_set(),
    )


@pytest.fixture
def done(tmp_path):
    """A comparison of 20 problems, two arms, two seeds; `rft-rescued` solves half of what was zero-hit."""
    here = tmp_path / "here"
    base = {f"p{i}": 4 if i < 4 else 0 for i in range(20)}
    better = {f"p{i}": 4 if i < 12 else 0 for i in range(20)}

    def keep(name, counts):
        path = here / "evaluations" / name
        path.mkdir(parents=True)
        (path / EVALUATION_FILE).write_text(evaluation(counts).model_dump_json())

    keep("base", base)
    hunt = here / "hunt"
    (hunt / "p-1").mkdir(parents=True)
    result = ProblemResult(problem="p", question="p?", before=Tally(n=16))
    (hunt / "results-0.jsonl").write_text(result.model_dump_json() + "\n")
    place = str(tmp_path / "train.jsonl")
    asked = HuntConfig(problems=place, model=MODEL, sampling=SamplingConfig(), config=RevisionConfig())
    (hunt / "hunt.json").write_text(asked.model_dump_json())
    (hunt / "p-1" / "trace.json").write_text("{}")
    (hunt / "p-1" / "trajectory.safetensors").write_bytes(b"vectors")
    (here / "settings.json").write_text(SETTINGS.model_dump_json())
    for seed in (0, 1):
        for name, counts in (("rft", base), ("rft-rescued", better)):
            keep(f"{name}-{seed}", counts)
            config = TrainingConfig(request=TrainRequest(method=Method.SFT, updates=7), model=MODEL)
            files.write_config(here / f"{name}-{seed}", config)
            given = {"run": "r", "problem_id": "p", "question": "?", "answer": "1", "prompt_ids": (1,), "text": ""}
            row = TrainingTrace(origin="rescued", completion_ids=(3,), **given)
            (here / f"{name}-{seed}" / files.DATA_FILE).write_bytes(files.data_bytes([row]))
    (here / "evaluations" / "grpo-0").mkdir()  # under way
    return here


def report_of(done):
    """Its report, as `main` writes it."""
    report = done.parent / "report"
    pack_hunt(done / "hunt", report / HUNT_ARCHIVE)
    write_report(done, report)
    return report


def taken(report, there):
    take(report, there, [arm.name for arm in ARMS], (["p?"], ["?"]), SETTINGS)


def test_figures_are_counted_problem_by_problem(done):
    found = gathered(done)
    assert set(found["arms"]) == {"rft", "rft-rescued"}
    arm = found["arms"]["rft-rescued"]
    assert arm["seeds"] == [0, 1]
    assert arm["newly_solved"] == [8, 8]
    assert arm["of_zero_hit"] == 16
    assert arm["lost"] == [0, 0]
    assert arm["pass_at_1"]["value"] == pytest.approx(12 * 4 / 8 / 20)
    kept = {seed: Evaluation.model_validate(run["evaluation"]) for seed, run in found["runs"]["rft-rescued"].items()}
    assert {seed: sum(run.correct.values()) for seed, run in kept.items()} == {"0": 48, "1": 48}
    assert arm["unrelated_against_base"] == {"value": 0, "low": 0, "high": 0}
    pair = found["pairs"]["rft-rescued against rft"]
    assert pair["difference"]["value"] == pytest.approx(8 * 4 / 8 / 20)
    assert pair["said"] == "better"
    assert "grpo-rescued against grpo" not in found["pairs"]


def test_the_report_says_so(done, tmp_path):
    report = report_of(done)
    text = (report / "report.md").read_text()
    assert "rft-rescued against rft: pass@1 +20.0" in text
    assert "over 2 seeds: better." in text
    assert "rft against no training: +0.0 (−16.1 to +16.1) points: can’t be told apart." in text
    assert "| 8, 8 of 16 (28–72 %) |" in text
    assert (report / "claim.svg").read_text().startswith("<svg")
    assert "rft 2.50, +0.00 (+0.00 to +0.00): can’t be told apart, rft-rescued" in text
    assert "With 3 comparisons of pass@1 at 95 % the chance" in text
    again = "`python -m explorer.training.claim --out claim --model FOLDER"
    assert f"Repeat it with {again} --seeds 2 --updates 7 --arms rft" in text
    assert f"{again} --earlier FOLDER --seeds 3 --updates 7 --arms rft rft-rescued` adds a seed" in text
    assert "α" not in text, "no arm of RL-ZVP was run"
    assert json.loads((report / "claim.json").read_text())["schema_version"] == 2
    with tarfile.open(report / HUNT_ARCHIVE) as packed:
        packed.extractall(tmp_path / "packed", filter="data")
    for file in [*report.iterdir(), *(path for path in (tmp_path / "packed").rglob("*") if path.is_file())]:
        assert str(tmp_path) not in file.read_text(errors="replace"), f"a path of this machine in {file.name}"
        assert "/a/place" not in file.read_text(errors="replace")


def test_a_report_with_rl_zvp_tells_how_to_repeat_it(done):
    shutil.copytree(done / "evaluations" / "rft-0", done / "evaluations" / "grpo-zvp-0")
    shutil.copytree(done / "rft-0", done / "grpo-zvp-0")
    text = (report_of(done) / "report.md").read_text()
    assert "--seeds 1 --updates 7 --arms grpo-zvp` and `" in text, "one seed of this one"
    assert "--seeds 2 --updates 7 --arms rft rft-rescued`. The figures" in text
    assert "(RL-ZVP, α 0.1)" in text


def test_a_report_of_a_hunt_alone_claims_nothing(done, tmp_path):
    for folder in (done / "evaluations").iterdir():
        if folder.name != "base":
            shutil.rmtree(folder)
    report = report_of(done)
    text = (report / "report.md").read_text()
    assert "Nothing was trained yet" in text
    assert "--seeds" not in text
    assert "comparisons" not in text
    taken(report, tmp_path / "there")
    assert "that was: its hunt." in write_report(tmp_path / "there", report).read_text()


def test_another_machine_adds_seeds_to_a_report(done, tmp_path, monkeypatch):
    """Its hunt, base and seeds are taken as they are; only what it lacks is run, in the report's number format; the
    report then counts all."""
    report, there = report_of(done), tmp_path / "there"
    before = json.loads((report / "claim.json").read_text())
    taken(report, there)
    assert {key: value for key, value in gathered(there).items() if key != "taken"} == {
        key: value for key, value in before.items() if key != "taken"
    }
    assert (there / "hunt" / "p-1" / "trace.json").read_text() == "{}"
    assert not (there / "hunt" / "p-1" / "trajectory.safetensors").exists()
    ran = []
    monkeypatch.setattr(
        module.subprocess, "run", lambda command, **_: ran.append(command[3:]) or type("Done", (), {"returncode": 0})
    )
    claim = Claim(there, None, 7, 8, lambda text: None)
    claim.gather()
    arms = {arm.name: arm for arm in ARMS}
    for seed in (0, 1):
        claim.arm(arms["rft"], seed)
    assert not ran, "an earlier report has these"
    claim.arm(arms["rft"], 2)
    assert [command[0] for command in ran] == ["train", "evaluate"]
    assert all(command[command.index("--dtype") + 1] == "float32" for command in ran)
    shutil.copytree(done / "evaluations" / "rft-1", there / "evaluations" / "rft-2")
    shutil.copytree(done / "rft-1", there / "rft-2")
    write_report(there, report)
    found = json.loads((report / "claim.json").read_text())
    assert found["arms"]["rft"]["seeds"] == [0, 1, 2]
    assert found["arms"]["rft-rescued"] == before["arms"]["rft-rescued"]
    assert (
        "earlier report, so run on whatever machine that was: rft 0, 1; rft-rescued 0, 1."
        in (report / "report.md").read_text()
    )


def test_an_archive_is_the_same_bytes_for_the_same_hunt(done, tmp_path):
    pack_hunt(done / "hunt", tmp_path / "a")
    for file in (done / "hunt").rglob("*"):
        os.utime(file, (1, 1))
    pack_hunt(done / "hunt", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def changed(report, change):
    content = json.loads((report / "claim.json").read_text())
    change(content)
    (report / "claim.json").write_text(json.dumps(content))


def packed(report, **files_in_it):
    with tarfile.open(report / HUNT_ARCHIVE, "w:xz") as archive:
        for name, content in files_in_it.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda report: (report / "claim.json").unlink(), "There is no claim.json"),
        (lambda report: (report / HUNT_ARCHIVE).unlink(), "There is no hunt.tar.xz"),
        (lambda report: (report / "claim.json").write_text("[1]"), "claim.json is damaged"),
        (lambda report: (report / "claim.json").write_text('{"schema_version": 1}'), "is of version 1, not 2"),
        (lambda report: (report / HUNT_ARCHIVE).write_bytes(b"x" * 99), "hunt.tar.xz is damaged"),
        (lambda report: (report / HUNT_ARCHIVE).write_bytes((report / HUNT_ARCHIVE).read_bytes()[:60]), "is damaged"),
        (lambda report: packed(report), "holds something else"),
        (lambda report: packed(report, hunt__other=b"1"), "holds something else"),
        (lambda report: packed(report, outside=b"1"), "holds something else"),
        (lambda report: changed(report, lambda c: c["runs"].update({"/tmp/x": {}})), "does not know: '/tmp/x'"),
        (lambda report: changed(report, lambda c: c["runs"]["rft"].update({"../1": {}})), "claim.json is damaged"),
        (lambda report: changed(report, lambda c: c["runs"]["rft"]["0"].update(training={})), "claim.json is damaged"),
        (lambda report: changed(report, lambda c: c["base"]["questions"].update(p0="!")), "of other problems"),
        (lambda report: changed(report, lambda c: c["base"].update(unrelated_set="x")), "other unrelated questions"),
        (
            lambda report: changed(report, lambda c: c["settings"].update(updates=8)),
            "updates 8, not 7: ask for the same",
        ),
        (lambda report: packed(report, **{"hunt__..__..__x": b"1"}), "holds something else"),
    ],
)
def test_a_report_that_can_not_be_gone_on_with(done, tmp_path, spoil, sentence):
    report, there = report_of(done), tmp_path / "there"
    spoil(report)
    with pytest.raises(UserError, match=sentence):
        taken(report, there)
    assert not there.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing is left behind"
    taken(report_of(done), there)  # a whole one then goes into the same folder


def test_an_interrupted_taking_leaves_no_half_of_a_comparison(done, tmp_path, monkeypatch):
    report, there = report_of(done), tmp_path / "there"
    from explorer.training import claim_archive

    def interrupted(folder, found):
        raise KeyboardInterrupt

    monkeypatch.setattr(claim_archive, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        taken(report, there)
    assert not there.exists()


def test_a_comparison_under_way_is_not_written_over(done):
    with pytest.raises(UserError, match="holds something already"):
        taken(report_of(done), done)
    with pytest.raises(UserError, match="choose a report's folder"):
        taken(done.parent / "report" / "claim.json", done.parent / "there")


def test_other_settings_are_no_part_of_a_comparison(done):
    need_alike(done, SETTINGS)
    with pytest.raises(UserError, match="comparison with updates 7, not 80"):
        need_alike(done, SETTINGS.model_copy(update={"updates": 80}))
    (done / "settings.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        need_alike(done, SETTINGS)
    need_alike(done / "new", SETTINGS)
    assert (done / "new" / "settings.json").exists()


def test_the_rule_for_a_difference():
    assert said(Value(value=0.1, low=0.01, high=0.2)) == "better"
    assert said(Value(value=-0.1, low=-0.2, high=-0.01)) == "worse"
    assert said(Value(value=0.1, low=-0.01, high=0.2)) == "can’t be told apart"
    one = evaluation({"a": 4, "b": 0})
    assert difference({0: one}, {1: one})["difference"] is None, "other seeds are no pair"
