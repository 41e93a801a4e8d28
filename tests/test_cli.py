"""The command line as a script would use it: real processes' entry, exit codes, one line on standard error, never a
traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from explorer import cli
from explorer.records import RevisionConfig, Rollout, RunStatus, Start, Verdict
from explorer.store import load_run
from tests.conftest import tiny_model

BASE = [
    "--question",
    "What is 12 + 30?",
    "--answer",
    "42",
    "--rollouts",
    "2",
    "--max-new-tokens",
    "16",
    "--temperature",
    "1",
]
FAST = [*BASE, "--steps", "2", "--samples", "2", "--split", "fraction"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model saved as anyone would save theirs."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    model = tiny_model("llama")
    model.network.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return str(path)


def run(*arguments):
    """(exit code) of the verb, as `python -m explorer` would give it."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return ended.value.code


def test_revise_prints_the_folder_last_and_the_run_is_whole(folder, tmp_path, capsys):
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path)) == 0
    printed = capsys.readouterr()
    path = printed.out.splitlines()[-1]
    trace, embeddings = load_run(path)
    assert trace.status is RunStatus.COMPLETED
    assert trace.model.id == "tiny"
    assert len(trace.steps) == 2
    assert len(trace.after) == 6
    assert embeddings.shape[0] == 3
    assert "95 % interval" in printed.out


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        (["--hull", "plausible"], "hull", "plausible"),
        (["--hull", "like-norm"], "hull", "like-norm"),
        (["--hull", "plausible", "--hull-size", "7"], "hull_size", 7),
        (["--projection", "cosine"], "projection", "cosine"),
        (["--ban-answer"], "ban_answer_tokens", True),
        (["--toward-weight", "0.25"], "toward_weight", 0.25),
    ],
)
def test_what_revise_is_asked_for_is_what_the_run_was_made_with(folder, tmp_path, capsys, asked, field, value):
    assert run("revise", *FAST, *asked, "--model", folder, "--out", str(tmp_path)) == 0
    config = load_run(capsys.readouterr().out.splitlines()[-1])[0].config
    assert config.model_dump(mode="json")[field] == value
    assert config.model_dump(mode="json")[field] != RevisionConfig().model_dump(mode="json")[field]


def test_json_is_one_line_with_the_counts(folder, tmp_path, capsys):
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path), "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads(lines[-1])
    assert len(lines) == 1
    assert summary["before"]["n"] == 2
    assert summary["after"]["revised"]["n"] == 2
    trace = load_run(summary["run"])[0]
    assert trace.problem.answer == "42"
    assert summary["before"]["tokens"] == sum(len(item.token_ids) for item in trace.before) / 2


def test_length_and_signs_of_self_checking_are_told_before_and_after(folder, tmp_path, capsys):
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path)) == 0
    trace = load_run(capsys.readouterr().out.splitlines()[-1])[0]
    wait = [item.model_copy(update={"text": "Wait, let me check. Hmm."}) for item in trace.after]
    summary = cli.summarise(trace.model_copy(update={"after": wait}))
    assert [summary["after"][start]["markers"] for start in ("revised", "projected", "original")] == [3, 3, 3]
    revised = [item for item in trace.after if item.start is Start.REVISED]
    mean = sum(len(item.token_ids) for item in revised) / len(revised)
    assert summary["after"]["revised"]["tokens"] == round(mean, 2)
    assert f"mean {mean:.1f} tokens, 3.00 reflection markers" in "\n".join(cli.describe_run(trace, summary))


def test_the_same_seed_gives_the_same_trace(folder, tmp_path, capsys):
    traces = []
    for name in "ab":
        assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path / name), "--seed", "3") == 0
        traces.append(load_run(capsys.readouterr().out.splitlines()[-1])[0])
    assert traces[0].before == traces[1].before
    assert traces[0].steps == traces[1].steps
    assert traces[0].after == traces[1].after


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["revise", "--question", "", "--answer", "1"], "question is empty"),
        (["revise", "--question", "What?", "--answer", " "], "answer is empty"),
        (["revise", "--question", "What?", "--answer", "perhaps so"], "can't be read"),
        (["revise", "--question", "What?"], "Missing option '--answer'"),
        (["revise", "--question", "What?", "--answer", "1", "--colour", "red"], "No such option"),
        (["revise", "--question", "What?", "--answer", "1", "--rollouts", "0"], "--rollouts"),
        (["revise", "--question", "What?", "--answer", "1", "--samples", "0"], "--samples can't be 0"),
        (["revise", "--question", "What?", "--answer", "1", "--step-size", "7"], "--step-size"),
        (["revise", "--question", "What?", "--answer", "1", "--step-rule", "giant"], "giant"),
        (["revise", "--question", "What?", "--answer", "1", "--split", "nowhere"], "no split"),
        (["revise", "--question", "What?", "--answer", "1", "--device", "abacus"], "abacus"),
        (["revise", "--question", "What?", "--answer", "1", "--model", "/no/such/folder"], "/no/such/folder"),
        (["export", "/no/such/run", "--out", "x.jsonl"], "There is no run"),
        (["dance"], "No such command"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTREVISE_OFFLINE", "1")
    monkeypatch.setenv("LATENTREVISE_CACHE_DIR", str(tmp_path / "cache"))
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    complaint = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(complaint) == 1
    assert sentence in complaint[0]
    assert "Traceback" not in printed.err + printed.out


def test_no_continuations_at_all_is_nothing_to_hunt_for(folder, tmp_path, capsys):
    asked = ["--problems", "bank", "--limit", "1", "--samples", "0", "--model", folder]
    assert run("hunt", *asked, "--out", str(tmp_path / "h")) == 2
    assert "--samples can't be 0" in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--rollout", "9"], "no rollout 9"),
        (["--prefix-length", "99"], "no failed continuation"),
        (["--max-new-tokens", "5000"], "at most"),
    ],
)
def test_bad_input_that_only_the_run_can_tell_keeps_what_was_finished(folder, tmp_path, capsys, extra, sentence):
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path), *extra) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    if "--max-new-tokens" not in extra:
        kept = list(tmp_path.iterdir())
        assert len(kept) == 1
        assert len(load_run(kept[0])[0].before) == 2


@pytest.mark.parametrize(
    ("verdict", "said"), [("correct", "Every rollout is correct"), ("wrong", "No failed rollout has")]
)
def test_why_nothing_is_revised_is_said(folder, tmp_path, capsys, monkeypatch, verdict, said):
    from explorer import pipeline

    def rolled(self, judge, *args, **kwargs):
        self.before = (Rollout(token_ids=(5,), text="x", verdict=Verdict(verdict)),) * 2
        return iter(())

    monkeypatch.setattr(pipeline.Run, "roll_out", rolled)
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path)) == 0
    assert said in capsys.readouterr().out
    assert said in load_run(next(tmp_path.iterdir()))[0].message


def test_hits_without_a_step_are_shown_and_are_no_rescue(folder, tmp_path, capsys):
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path)) == 0
    trace = load_run(capsys.readouterr().out.splitlines()[-1])[0]
    hits = tuple(item.model_copy(update={"verdict": Verdict.CORRECT}) for item in trace.after)
    assert cli.summarise(trace.model_copy(update={"after": hits}))["rescued"]
    stalled = trace.model_copy(
        update={"steps": (), "after": tuple(item.model_copy(update={"step": 0}) for item in hits)}
    )
    summary = cli.summarise(stalled)
    assert not summary["rescued"]
    lines = [line for line in cli.describe_run(stalled, summary) if "after: " in line]
    assert len(lines) == len(Start)
    assert all("2 of 2" in line for line in lines)


def test_interrupted_keeps_everything_finished_and_exits_130(folder, tmp_path, capsys, monkeypatch):
    from explorer import pipeline

    steps = pipeline.Run.revise

    def interrupted(self, *args, **kwargs):
        yield next(steps(self, *args, **kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.Run, "revise", interrupted)
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path)) == 130
    trace, embeddings = load_run(next(tmp_path.iterdir()))
    assert trace.status is RunStatus.CANCELLED
    assert len(trace.steps) == 1
    assert embeddings.shape[0] == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_loses_nothing_where_there_is_another(folder, tmp_path, capsys, monkeypatch):
    from explorer import store

    write = store.save_run

    def full(trace, trajectory, where):
        if where.is_relative_to(tmp_path / "full"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(trace, trajectory, where)

    monkeypatch.setattr(store, "save_run", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path / "full")) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "disk is full" in said[-1]
    kept = Path(said[-2].removeprefix("What was finished is in "))
    assert kept.parent.name.startswith("latentrevise-")
    trace, embeddings = load_run(kept)
    assert trace.status is RunStatus.FAILED
    assert len(embeddings) == len(trace.steps) + 1
    assert trace.after


def test_a_place_where_no_run_can_be_kept_is_said_before_anything_is_computed(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path / "file" / "runs")) == 2
    said = capsys.readouterr().err
    assert "No run can be kept in" in said
    assert "Rollouts" not in said


def test_a_defect_is_one_line_too(folder, tmp_path, capsys, monkeypatch):
    from explorer import pipeline

    monkeypatch.setenv("LATENTREVISE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pipeline.Run, "split_at", lambda *a: 1 / 0)
    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path / "runs")) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err
    log = tmp_path / "cache" / "explorer.log"
    assert err.splitlines()[-1].endswith(f"the log has the details ({log}).")
    assert log.read_text().count("Traceback") == 1, "once, though the run's record says it as well"
    trace = load_run(next((tmp_path / "runs").iterdir()))[0]
    assert trace.message.endswith("the log has the details."), "no record of a run names a place on this machine"


@pytest.mark.parametrize("cache", ["cache", "file/cache"])
def test_a_process_says_a_defect_in_one_line_whether_or_not_its_log_can_be_kept(tmp_path, cache):
    """In a process of its own: where nobody takes a log, Python prints it."""
    (tmp_path / "file").write_text("")
    script = (
        "import explorer.cli as cli, explorer.export as export\n"
        "export.export_runs = lambda *given: 1 / 0\n"
        "cli.main(['export', 'x', '--out', 'y'])\n"
    )
    env = {**os.environ, "LATENTREVISE_CACHE_DIR": str(tmp_path / cache)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: Something went wrong inside the explorer (ZeroDivisionError)")
    assert (tmp_path / cache / "explorer.log").exists() is ("explorer.log" in done.stderr) is (cache == "cache")


@pytest.mark.parametrize("verb", ["revise", "export"])
def test_every_verb_has_help(verb, capsys):
    assert run(verb, "--help") == 0
    assert "--json" in capsys.readouterr().out


def test_export_writes_rows_of_a_rescue(folder, tmp_path, capsys):
    from explorer.store import save_run

    assert run("revise", *FAST, "--model", folder, "--out", str(tmp_path / "runs"), "--json") == 0
    path = json.loads(capsys.readouterr().out)["run"]
    assert run("export", path, "--out", str(tmp_path / "none.jsonl")) == 2
    assert "nothing to export" in capsys.readouterr().err
    trace, embeddings = load_run(path)
    after = tuple(item.model_copy(update={"verdict": Verdict.CORRECT}) for item in trace.after)
    save_run(trace.model_copy(update={"after": after}), embeddings, path)
    assert run("export", path, "--format", "sft", "--out", str(tmp_path / "sft.jsonl")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "sft.jsonl")
    assert (tmp_path / "sft.jsonl").read_text().count("\n") >= 1
    (tmp_path / "rows").mkdir()
    assert run("export", path, "--format", "sft", "--out", str(tmp_path / "rows")) == 2
    said = capsys.readouterr().err
    assert f"There is a folder where a file is needed, {tmp_path / 'rows'}: choose another name." in said
    assert "Traceback" not in said


def test_no_library_tells_its_makers_what_runs():
    """Set before the hub's library is imported, which reads it once; TRL's trainers would tell by it."""
    script = (
        "import sys, explorer.cli as cli\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "from huggingface_hub import constants\n"
        "print(constants.HF_HUB_DISABLE_TELEMETRY)\n"
    )
    plain = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key and key != "DO_NOT_TRACK"}
    plain.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
