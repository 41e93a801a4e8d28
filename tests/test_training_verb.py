"""The verb `train` through TRL for real, on a tiny model: each method leaves a model that loads and has moved; it
stops, goes on, survives a kill; bad input is one sentence and overwrites nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from explorer.cli import app, run_command
from explorer.errors import UserError
from explorer.jobs import PROJECT_ROOT
from explorer.model import LanguageModel
from explorer.records import Verdict
from explorer.store import load_run, save_run
from explorer.training import folder as files
from explorer.training.common import order
from explorer.training.traces import RESCUED, read_candidates
from explorer.training.weights import PARENT_FILE
from tests.tiny_training import QUESTIONS, saved_model, saved_runs

SMALL = ["--updates", 3, "--batch", 2, "--held-out-count", 3, "--eval-every", 2, "--max-new-tokens", 16]


def verb(*arguments: object) -> int:
    return run_command(lambda: app(args=[str(one) for one in arguments], standalone_mode=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model in `tiny` and its runs in `runs`."""
    path = tmp_path_factory.mktemp("training")
    saved_model(path / "tiny")
    saved_runs(path / "tiny", path / "runs")
    return path


def asked(place, method: str, out, *more) -> list:
    return ["train", method, "--runs", place / "runs", "--model", place / "tiny", "--out", out, *SMALL, *more]


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_each_method_trains_a_model_that_loads(place, tmp_path, method, adapter, capsys, monkeypatch):
    if method == "grpo":  # to the real judge no text of a tiny model is right
        right = {trace.text for trace in read_candidates([place / "runs"])[0] if trace.origin == RESCUED}

        def judge(self, gold, text, *args, **kwargs):
            return SimpleNamespace(verdict=Verdict.CORRECT if text in right else Verdict.WRONG, answer="", reason="")

        monkeypatch.setattr("explorer.verdict.Judge.judge", judge)
    more = ["--group", 3, "--learning-rate", 0.01, "--adapter", adapter]
    assert verb(*asked(place, method, tmp_path / "t", *more)) == 0
    out = tmp_path / "t"
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-1] == str(out)
    lines = files.read_lines(out / files.METRICS_FILE)
    assert [line["update"] for line in lines] == [1, 2, 3]
    looks = files.read_lines(out / files.HELD_OUT_FILE)
    assert [look["update"] for look in looks] == [0, 2, 3]
    assert all(look["n"] == 3 for look in looks)
    assert files.read_json(out / files.PROGRESS_FILE)["state"] == "done"
    result = files.read_json(out / files.RESULT_FILE)
    assert (result["state"], result["updates"]) == ("done", 3)
    assert result["peak_memory_bytes"] > 50_000_000
    if method == "sft":
        rows = files.read_rows(out)
        lengths = [len(row.prompt_ids) + len(row.completion_ids) + row.finished for row in rows]
        assert result["tokens"] == sum(lengths[at] for at in order(len(rows), 3 * 2, 0))
    assert result["tokens"] > 3 * 2 * min(len(row.prompt_ids) for row in files.read_rows(out))
    parent = files.read_json(out / files.MODEL / PARENT_FILE)
    assert parent["parent"]["id"] == "tiny"
    before = LanguageModel.load(place / "tiny", id="a")
    after = LanguageModel.load(out / files.MODEL, id="b")
    ids = torch.tensor([list(before.prompt(QUESTIONS[0]).token_ids)])
    a, b = (model.network(input_ids=ids).logits for model in (before, after))
    difference = float((a - b).detach().abs().max())
    if method == "grpo":  # of a group without the trace all rewards are equal: nothing to learn
        assert all(line["frac_reward_zero_std"] < 1 for line in lines if line["rescued_members"])
        assert any(line["rescued_members"] for line in lines)
        assert difference > 0
        assert list((out / files.CHECKPOINTS / files.COMPLETIONS).glob("*.parquet"))
    else:
        assert difference > 1e-3
    assert verb(*asked(place, method, tmp_path / "t", *more)) == 0
    assert "is done" in capsys.readouterr().out
    assert verb(*asked(place, method, tmp_path / "t", *more, "--updates", 4)) == 2, "done is what was asked there"
    assert "holds another training (updates 3 there, 4 asked)" in capsys.readouterr().err


def test_the_first_update_does_not_wait_for_the_first_look_where_an_adapter_can_be_left_out(
    place, tmp_path, monkeypatch
):
    """And that look sees the model as it was, not what one update made of it."""
    from explorer.training.watch import HeldOut, Watch

    order, ended, seen = [], Watch.on_step_end, HeldOut.__call__

    def noted_end(self, args, state, control, **rest):
        order.append(("update", state.global_step))
        return ended(self, args, state, control, **rest)

    def noted_look(self, network, update):
        order.append(("look", update))
        seen(self, network, update)

    monkeypatch.setattr(Watch, "on_step_end", noted_end)
    monkeypatch.setattr(HeldOut, "__call__", noted_look)
    texts = {}
    for adapter in ("lora", "full"):
        order.clear()
        more = ["--adapter", adapter, "--learning-rate", 0.05]
        assert verb(*asked(place, "sft", tmp_path / adapter, *more)) == 0
        looks = files.read_lines(tmp_path / adapter / files.HELD_OUT_FILE)
        texts[adapter] = {look["update"]: [one["text"] for one in look["texts"]] for look in looks}
        first = [("update", 1), ("look", 0)] if adapter == "lora" else [("look", 0), ("update", 1)]
        assert order == [*first, ("update", 2), ("look", 2), ("update", 3), ("look", 3)]
    assert texts["lora"][0] == texts["full"][0]
    assert texts["lora"][3] != texts["lora"][0]


def test_the_first_look_that_a_kill_prevented_is_made_up_for(place, tmp_path, monkeypatch):
    """An adapter's model before is still there when the training goes on: the looks begin with it all the same."""
    from explorer.training.watch import HeldOut

    def killed(self, network, update):
        raise KeyboardInterrupt

    given = asked(place, "sft", tmp_path / "t", "--save-every", 1)
    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "__call__", killed)
        assert verb(*given) == 130
    assert [update for update, _ in files.checkpoints(tmp_path / "t")] == [1]
    assert verb(*given) == 0
    assert [look["update"] for look in files.read_looks(tmp_path / "t")] == [0, 2, 3]


def test_sft_takes_its_loss_of_the_traces_tokens_alone(place):
    from explorer.training.common import IGNORED, labelled
    from explorer.training.traces import RESCUED, read_candidates

    one = next(trace for trace in read_candidates([place / "runs"])[0] if trace.origin == RESCUED)
    one = one.model_copy(update={"finished": True})
    prompt, whole = list(one.prompt_ids), list(one.completion_ids)
    assert labelled(one, 2, False) == {
        "input_ids": prompt + whole + [2],
        "labels": [IGNORED] * len(prompt) + whole + [2],
    }
    hidden = labelled(one, 2, True)["labels"]
    assert hidden == [IGNORED] * (len(prompt) + 3) + whole[3:] + [2]
    assert labelled(one.model_copy(update={"finished": False}), 2, False)["input_ids"][-1] == whole[-1]


def test_the_first_sft_loss_is_the_plain_one(place, tmp_path):
    """What TRL logs for the first update is the mean over the traces' tokens by transformers alone."""
    rows = ["--traces", "own", "--per-problem", 1]
    out = tmp_path / "t"
    assert verb(*asked(place, "sft", out, "--updates", 1, "--batch", 3, *rows, "--adapter", "full")) == 0
    traces = files.read_rows(out)
    assert len(traces) == 3
    model = LanguageModel.load(place / "tiny", id="a")
    total, count = 0.0, 0
    for trace in traces:
        ids = torch.tensor([[*trace.prompt_ids, *trace.completion_ids]])
        log_p = model.network(input_ids=ids).logits[0, :-1].log_softmax(-1)
        scored = log_p[len(trace.prompt_ids) - 1 :].gather(-1, ids[0, len(trace.prompt_ids) :, None])
        total, count = total - float(scored.detach().sum()), count + len(scored)
    assert files.read_lines(out / files.METRICS_FILE)[0]["loss"] == pytest.approx(total / count, rel=1e-4)


# -- stopping and going on -------------------------------------------------------------------------


def started(place, out, *more) -> subprocess.Popen:
    command = [sys.executable, "-m", "explorer", *map(str, asked(place, "sft", out, "--updates", 400, *more))]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(holds, process, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def updates(out) -> int:
    return len(files.read_lines(out / files.METRICS_FILE))


def test_an_interrupt_keeps_a_checkpoint_and_the_same_command_goes_on(place, tmp_path, capsys):
    out = tmp_path / "t"
    process = started(place, out, "--held-out-count", 0)
    until(lambda: updates(out) >= 3, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert files.read_json(out / files.PROGRESS_FILE)["state"] == "stopped"
    assert files.read_json(out / files.RESULT_FILE)["state"] == "stopped"
    kept = files.checkpoints(out)[-1][0]
    assert 3 <= kept < 400
    # Going on: the same settings, from the checkpoint, no update twice in the files.
    process = started(place, out, "--held-out-count", 0)
    until(lambda: updates(out) > kept + 2, process)
    assert [line["update"] for line in files.read_lines(out / files.METRICS_FILE)][: kept + 2] == [*range(1, kept + 3)]
    process.kill()
    process.communicate(timeout=60)
    # Killed outright: it says running, and a torn checkpoint is no stumbling block.
    assert files.read_json(out / files.PROGRESS_FILE)["state"] == "running"
    torn = out / files.CHECKPOINTS / "checkpoint-399"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": 399}')
    undone = out / files.CHECKPOINTS / files.COMPLETIONS / "completions_00399.parquet"
    undone.parent.mkdir()
    undone.touch()
    before = files.checkpoints(out)[-1][0]
    process = started(place, out, "--held-out-count", 0)
    until(lambda: not torn.exists() and not undone.exists() and updates(out) > before + 1, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    other = ["--held-out-count", 0, "--updates", 400, "--learning-rate", 0.5]
    assert verb(*asked(place, "sft", out, *other)) == 2
    assert "holds another training (learning rate" in capsys.readouterr().err


def test_a_resumed_training_ends_where_a_whole_one_does(place, tmp_path):
    """Four updates at once, and two and two: the same weights, since rows and order follow from the seed."""
    from safetensors.torch import load_file

    from explorer.training.watch import Watch

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    given = ["--updates", 4, "--adapter", "full", "--held-out-count", 0, "--learning-rate", 0.01]
    assert verb(*asked(place, "sft", whole, *given)) == 0
    plain = Watch.on_step_end

    def stopping(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.stop.set()
        return plain(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "on_step_end", stopping)
        assert verb(*asked(place, "sft", parts, *given)) == 130
    assert verb(*asked(place, "sft", parts, *given)) == 0
    a, b = (load_file(out / files.MODEL / "model.safetensors") for out in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    read = [files.read_json(out / files.RESULT_FILE)["tokens"] for out in (whole, parts)]
    assert read[0] == read[1] > 0


def test_the_time_that_a_killed_training_took_counts(place, tmp_path, monkeypatch):
    """A kill writes no result: what its last kept update says is where the clock goes on."""
    from explorer.training import train

    given = [*asked(place, "sft", tmp_path / "t", "--held-out-count", 0), "--save-every", 1]
    with monkeypatch.context() as patch:
        patch.setattr(train, "_result", lambda out, *_: {"updates": 1, "seconds": 1, "peak_memory_bytes": 1})
        stopped_after_an_update(given)  # as if it had been killed
    path = tmp_path / "t" / files.METRICS_FILE
    (line,) = files.read_lines(path)
    assert line["seconds"] > 0
    path.write_text(json.dumps({**line, "seconds": 1000.0}) + "\n")
    assert verb(*given) == 0
    assert 1000 < files.read_json(tmp_path / "t" / files.RESULT_FILE)["seconds"] < 1500
    assert [line["seconds"] >= 1000 for line in files.read_lines(path)] == [True] * 3


def stopped_after_an_update(given) -> None:
    """A training that is asked to stop during its first update."""
    from explorer.training.watch import Watch

    plain = Watch.on_step_end

    def stopping(self, args, state, control, **kwargs):
        self.stop.set()
        return plain(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "on_step_end", stopping)
        assert verb(*given) == 130


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_stopped_training_goes_on_with_its_rows_whatever_became_of_the_runs(place, tmp_path, method, capsys):
    """One run was added, one audited, one of another model: what the training began with is what it ends with."""
    runs, out = tmp_path / "runs", tmp_path / "t"
    for name in ("run-0", "run-1"):
        shutil.copytree(place / "runs" / name, runs / name)
    given = ["train", method, "--runs", runs, "--model", place / "tiny", "--out", out, *SMALL, "--traces", "both"]
    given += ["--group", 2, "--held-out-count", 0]
    stopped_after_an_update(given)
    rows = (out / files.DATA_FILE).read_bytes()
    said = capsys.readouterr().err
    assert ("enter no group" in said) == (method == "grpo"), "the judge finds no tiny model’s text right"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(place / "runs" / "run-2", elsewhere / "run-2")
    assert verb(*given, "--runs", elsewhere) == 2, "other folders are other rows"
    assert "holds another training" in capsys.readouterr().err
    shutil.copytree(place / "runs" / "run-2", runs / "run-2")
    audited, trajectory = load_run(runs / "run-1")
    vocabulary = audited.vocabulary.model_copy(update={"texts": {}})  # the leak is a field of every row
    save_run(audited.model_copy(update={"vocabulary": vocabulary}), trajectory, runs / "run-1")
    other, trajectory = load_run(runs / "run-0")
    other = other.model_copy(update={"model": other.model.model_copy(update={"fingerprint": "f" * 16})})
    save_run(other, trajectory, runs / "another")
    assert verb(*given, "--seed", 1) == 2, "another request reads the runs"
    assert "train the model that made them" in capsys.readouterr().err
    assert verb(*given) == 0
    assert f"Going on with the {len(rows.splitlines())} rows in" in capsys.readouterr().err
    assert (out / files.DATA_FILE).read_bytes() == rows
    assert [line["update"] for line in files.read_lines(out / files.METRICS_FILE)] == [1, 2, 3]
    assert files.finished(out)


def test_a_stopped_grpo_goes_on_with_its_prompts_also_those_that_no_rescue_belongs_to(place, tmp_path, capsys):
    """Of its rows only rescued ones short enough are kept; its prompts are those of all."""
    runs, out = tmp_path / "runs", tmp_path / "t"
    shutil.copytree(place / "runs", runs)
    trace, trajectory = load_run(runs / "run-2")
    save_run(trace.model_copy(update={"after": ()}), trajectory, runs / "run-2")  # own rollouts alone
    given = ["train", "grpo", "--runs", runs, "--model", place / "tiny", "--out", out, *SMALL, "--traces", "both"]
    given += ["--group", 2, "--held-out-count", 0, "--batch", 1]
    stopped_after_an_update(given)
    assert {row.problem_id for row in files.read_rows(out)} == {"p0", "p1"}
    assert [problem.id for problem in files.read_prompts(out)] == ["p0", "p1", "p2"]
    assert verb(*given) == 0
    assert verb(*given) == 0
    assert "is done" in capsys.readouterr().out


def test_groups_of_updates_that_a_kill_undid_are_forgotten(tmp_path):
    folder = tmp_path / files.CHECKPOINTS / files.COMPLETIONS
    folder.mkdir(parents=True)
    for number in (1, 2, 9, 10, 11):
        (folder / f"completions_{number:05d}.parquet").touch()
    (folder / "README.md").touch()
    files.forget_completions_after(tmp_path, 9)
    assert [number for number, _ in files.completion_files(tmp_path)] == [1, 2, 9]
    assert (folder / "README.md").exists()
    files.forget_completions_after(tmp_path, -1)
    assert files.completion_files(tmp_path) == []
    files.forget_completions_after(tmp_path / "not there", 0)


def test_a_kill_after_the_last_checkpoint_makes_no_further_update(place, tmp_path, monkeypatch):
    """What was missing is the model alone: it is the checkpoint's, not that of one update more."""
    from safetensors.torch import load_file

    from explorer.training import weights

    out = tmp_path / "t"
    given = ["--adapter", "full", "--held-out-count", 0, "--save-every", 1]
    plain = weights.save_trained

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "save_trained", killed)
    assert verb(*asked(place, "sft", out, *given)) == 130
    monkeypatch.setattr(weights, "save_trained", plain)
    assert verb(*asked(place, "sft", out, *given)) == 0
    assert [line["update"] for line in files.read_lines(out / files.METRICS_FILE)] == [1, 2, 3]
    assert [update for update, _ in files.checkpoints(out)][-1] == 3
    assert files.read_json(out / files.RESULT_FILE)["updates"] == 3
    last = load_file(out / files.CHECKPOINTS / "checkpoint-3" / "model.safetensors")
    kept = load_file(out / files.MODEL / "model.safetensors")
    assert all(torch.equal(last[name], kept[name]) for name in last)


def test_every_update_has_its_whole_batch():
    found = order(5, 28, seed=1)
    assert len(found) == 28
    assert [sorted(found[at : at + 5]) for at in range(0, 25, 5)] == [[0, 1, 2, 3, 4]] * 5
    assert found[:5] != found[5:10]
    assert found == order(5, 28, seed=1)
    assert found != order(5, 28, seed=2)
    assert order(3, 2, seed=0) == order(3, 9, seed=0)[:2]


def test_a_gpu_alone_is_the_only_one_that_is_seen():
    from explorer.training.train import one_card

    for device, before, after, name in (
        ("cuda:1", None, "1", "cuda"),
        ("cuda:1", "4,6", "6", "cuda"),
        ("cuda", "4,6", "4", "cuda"),
        ("auto", None, "0", "auto"),
        (None, "3", "3", None),
        ("auto", "", "", "auto"),  # somebody hid them all
    ):
        environment = {} if before is None else {"CUDA_VISIBLE_DEVICES": before}
        assert one_card(device, environment) == name
        assert environment["CUDA_VISIBLE_DEVICES"] == after
    assert one_card("cpu", {}) == "cpu"
    with pytest.raises(UserError, match="2 GPU"):
        one_card("cuda:2", {"CUDA_VISIBLE_DEVICES": "4,6"})
    for device in ("cuda:abc", "cuda:-1", "cuda:1:2"):
        with pytest.raises(UserError, match=f"There is no device '{device}'"):
            one_card(device, {})


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--max-leak", "0", "--min-log-p", "-0.5"], "No trace is left of 21"),
        (["--sound", "--max-trace-tokens", "2"], "too long"),
        (["--finding", "reached"], "not audited"),
        (["--finding", "luckyish"], "There is no finding 'luckyish'"),
        (["--traces", "stolen"], "--traces can't be 'stolen'"),
        (["--max-leak", "7"], "--max-leak can't be 7.0"),
        (["--max-tokens", "20"], "longer than --max-tokens"),
        (["--runs", "nowhere"], "nowhere"),
        (["--held-out", "no-such-set"], "no-such-set"),
        (["--sampler", "slow"], "--sampler can't be 'slow'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(place, tmp_path, more, sentence, capsys):
    assert verb(*asked(place, "sft", tmp_path / "t", *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not (tmp_path / "t").exists()


def test_no_method_of_that_name(place, tmp_path, capsys):
    assert verb(*asked(place, "ppo", tmp_path / "t")) == 2
    assert "--method can't be 'ppo'" in capsys.readouterr().err


def test_too_few_prompts_for_an_update_are_said(place, tmp_path, capsys):
    """Three prompts and a batch of four: the trainer would read nothing, and end with the untouched model."""
    assert verb(*asked(place, "grpo", tmp_path / "t", "--batch", 4)) == 2
    assert "3 prompt(s) are left to sample" in capsys.readouterr().err
    rows = [json.dumps({"id": f"q{i}", "question": f"{i} + 1?", "answer": i + 1}) for i in range(8)]
    (tmp_path / "set.jsonl").write_text("\n".join(rows))
    given = ["train", "grpo", "--problems", tmp_path / "set.jsonl", "--model", place / "tiny", "--out", tmp_path / "t"]
    assert verb(*given, "--batch", 7, "--held-out-count", 8) == 2
    assert "6 prompt(s) are left to sample, 2 being held out" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_bad_rows_are_left_out_where_that_is_asked_for(place, tmp_path, capsys):
    rows = [json.dumps({"id": f"q{i}", "question": f"{i} + 1?", "answer": i + 1}) for i in range(8)]
    (tmp_path / "set.jsonl").write_text("\n".join([*rows, '{"id": "b", "question": "1 + 2?"}']))
    sets = {"--problems": "grpo", "--held-out": "sft"}
    for option, method in sets.items():
        given = asked(place, method, tmp_path / "t", option, tmp_path / "set.jsonl", "--plan")
        assert verb(*given) == 2
        assert "leave them out with --skip-bad" in capsys.readouterr().err
        assert verb(*given, "--skip-bad") == 0
    assert "held-out problems looked at: 3" in capsys.readouterr().out


def test_a_child_with_its_parents_embeddings_is_another_model(place, tmp_path, capsys):
    """LoRA leaves the embeddings as they were, so the fingerprint too; traces of the parent are not the child's."""
    assert verb(*asked(place, "sft", tmp_path / "t", "--updates", 1, "--held-out-count", 0)) == 0
    child = tmp_path / "t" / files.MODEL
    a, b = LanguageModel.load(place / "tiny", id="a"), LanguageModel.load(child, id="b")
    assert a.info.fingerprint == b.info.fingerprint
    given = ["train", "sft", "--runs", place / "runs", "--model", child, "--out", tmp_path / "again", *SMALL]
    assert verb(*given) == 2
    assert "train the model that made them" in capsys.readouterr().err


def test_traces_of_a_local_model_ask_for_its_folder(place, tmp_path, capsys):
    given = ["train", "grpo", "--inject", "never", "--runs", place / "runs", "--out", tmp_path / "t", *SMALL]
    assert verb(*given) == 2
    assert "give its folder with --model" in capsys.readouterr().err


def test_what_was_trained_on_is_written_down(place, tmp_path):
    out = tmp_path / "t"
    given = ["--inject", "never", "--updates", 1, "--held-out-count", 0]
    assert verb(*asked(place, "grpo", out, *given)) == 0
    assert files.read_rows(out) == []
    assert files.trained_questions(out) == frozenset(QUESTIONS)
    assert files.trained_questions(tmp_path) is None


def test_traces_of_another_model_are_refused(place, tmp_path, capsys):
    other = saved_model(tmp_path / "qwen", "qwen2")
    given = ["train", "sft", "--runs", place / "runs", "--model", other, "--out", tmp_path / "t", *SMALL]
    assert verb(*given) == 2
    assert "train the model that made them" in capsys.readouterr().err
    assert not (tmp_path / "t" / files.TRAINING_FILE).exists()


def mixed(place, folder, **changes):
    """The runs, the second and the third as if another model had made them."""
    for number in range(3):
        trace, rows = load_run(place / "runs" / f"run-{number}")
        if number:
            trace = trace.model_copy(update={"model": trace.model.model_copy(update=changes)})
        save_run(trace, rows, folder / f"run-{number}")
    return folder


def test_of_runs_of_several_models_those_of_the_one_asked_for_count(place, tmp_path, capsys):
    runs = mixed(place, tmp_path / "runs", id="other")
    given = ["train", "sft", "--runs", runs, "--out", tmp_path / "t", *SMALL]
    assert verb(*given) == 2
    assert "of several models (other and tiny): train on those of one at a time" in capsys.readouterr().err
    assert verb(*given, "--model", saved_model(tmp_path / "third")) == 2
    assert "of several models" in capsys.readouterr().err
    assert verb(*given, "--model", place / "tiny", "--plan") == 0
    assert "14 made by another model" in capsys.readouterr().out
    assert verb(*given, "--model", place / "tiny", "--updates", 1, "--held-out-count", 0) == 0
    assert {row.model_id for row in files.read_rows(tmp_path / "t")} == {"tiny"}
    assert verb(*given, "--model", place / "tiny", "--updates", 1, "--held-out-count", 0) == 0, "done, and the same"


def test_every_weights_of_one_name_are_looked_at(place, tmp_path, capsys):
    """Not the first trace's alone; another number format of the same weights is the same model."""
    given = ["train", "sft", "--model", place / "tiny", "--out", tmp_path / "t", *SMALL, "--updates", 1]
    runs = mixed(place, tmp_path / "runs", fingerprint="f" * 16)
    assert verb(*given, "--runs", runs) == 2
    assert "were made by tiny (ffffffffffffffff)" in capsys.readouterr().err
    half = LanguageModel.load(place / "tiny", id="tiny", dtype="bfloat16").info
    runs = mixed(place, tmp_path / "both", fingerprint=half.fingerprint, dtype=half.dtype)
    assert verb(*given, "--runs", runs, "--held-out-count", 0) == 0


def test_too_little_memory_or_disk_is_said_before(place, tmp_path, capsys, monkeypatch):
    from explorer.training import estimate, train

    monkeypatch.setattr(estimate, "memory_free", lambda device: 1_000_000)
    assert verb(*asked(place, "sft", tmp_path / "t")) == 2
    assert "of memory and 0.0 GB are free" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(
        train,
        "estimated",
        lambda *a: estimate.Estimate(
            rows=1, updates=1, epochs=1, trained_tokens=1, read_tokens=1, seconds=1, memory_bytes=1, disk_bytes=10**18
        ),
    )
    assert verb(*asked(place, "sft", tmp_path / "t")) == 2
    assert "of disk and" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_of_processes_in_one_memory_the_first_looks_whether_it_suffices(place, tmp_path, monkeypatch):
    """Each would find less, the more of the others were there."""
    from explorer.training import train

    looked = []
    monkeypatch.setattr(train, "need_room", lambda *_, processes: looked.append(processes))
    monkeypatch.setattr(train, "_trained", lambda *_: ([], {}))
    for rank in (0, 1):
        for name, value in (("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 2), ("RANK", rank), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, str(value))
        assert verb(*asked(place, "sft", tmp_path / "t", "--device", "cpu")) == 0
    assert looked == [2]


def test_a_folder_in_use_is_refused(place, tmp_path, capsys):
    out = tmp_path / "t"
    process = started(place, out, "--held-out-count", 0)
    try:
        until(lambda: updates(out) >= 1, process)
        assert verb(*asked(place, "sft", out, "--updates", 400, "--held-out-count", 0)) == 2
        assert "Another process is training" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_own_rollouts_are_prompts_of_grpo_and_enter_no_group(place, tmp_path, capsys):
    assert verb(*asked(place, "grpo", tmp_path / "t", "--traces", "own", "--plan")) == 0
    said = capsys.readouterr().out
    assert "traces: 0 of 0" in said
    assert "the model’s own, which GRPO draws itself" in said
    assert "prompts: 3" in said


def test_held_out_problems_of_the_prompts_own_set_are_not_sampled(place):
    from explorer.training.material import Asked, gather, prepared
    from explorer.training.request import Method, TrainRequest
    from explorer.training.traces import TraceFilter

    request = TrainRequest(method=Method.GRPO, batch=1, held_out=8)
    for held_out in ("", "bank"):  # named again it is the same set
        asked = Asked(request, TraceFilter(), [place / "runs"], "bank", held_out)
        material = gather(asked)
        assert len(material.held_out) == 8
        assert len(prepared(asked, material)) == 88
        assert not set(material.held_out) & set(prepared(asked, material))


def test_a_plan_does_nothing(place, tmp_path, capsys):
    assert verb(*asked(place, "grpo", tmp_path / "t", "--plan")) == 0
    said = capsys.readouterr().out
    assert "of memory" in said
    assert "estimates" in said
    assert not (tmp_path / "t").exists()
    assert verb(*asked(place, "sft", tmp_path / "t", "--plan", "--json")) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["updates"] == 3
    assert plan["trained_tokens"] > 0


def test_a_plan_counts_what_all_processes_read(place, tmp_path, capsys, monkeypatch):
    given = asked(place, "sft", tmp_path / "t", "--plan")
    assert verb(*given, "--json") == 0
    alone = json.loads(capsys.readouterr().out)["plan"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert verb(*given, "--json") == 0
    both = json.loads(capsys.readouterr().out)["plan"]
    for name in ("trained_tokens", "read_tokens", "epochs"):
        assert both[name] == pytest.approx(2 * alone[name], abs=0.02)
    assert both["memory_bytes"] == alone["memory_bytes"]
    assert verb(*given) == 0
    assert "of memory for each of 2 processes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("sft", ["--held-out-count", 0]),
        ("grpo", ["--group", 2, "--held-out-count", 2, "--batch", 1, "--zvp-alpha", 0.1]),
    ],
)
def test_two_processes_share_a_training(place, tmp_path, method, more):
    """Under `accelerate launch`, two CPU processes: one folder, one set of files, twice the rows an update."""
    out = tmp_path / "t"
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", "assets/accelerate/two-cpu-processes.yaml", "-m", "explorer"]
    given = asked(place, method, out, *more, "--device", "cpu")
    done = subprocess.run(
        [*launch, *map(str, given)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line["update"] for line in files.read_lines(out / files.METRICS_FILE)] == [1, 2, 3]
    assert [look["update"] for look in files.read_looks(out)] == ([0, 2, 3] if method == "grpo" else [])
    assert files.finished(out)
    LanguageModel.load(out / files.MODEL, id="b")


@pytest.mark.parametrize("name", ["cpu", "two-cpu-processes", "one-gpu", "many-gpus"])
def test_the_shipped_configurations_are_accelerates(name):
    from accelerate.commands.config.config_args import load_config_from_file

    path = PROJECT_ROOT / "assets" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.use_cpu == ("cpu" in name)
    assert config.mixed_precision == ("no" if "cpu" in name else "bf16")


def test_vllm_that_is_not_installed_is_said(place, tmp_path, capsys):
    assert verb(*asked(place, "grpo", tmp_path / "t", "--sampler", "vllm")) == 2
    assert "vLLM is not installed" in capsys.readouterr().err
