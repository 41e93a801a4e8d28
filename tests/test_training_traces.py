"""Which texts are trained on, with the reason for each that is not; what a training's folder keeps; what an estimate
says; the command that a page shows."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from explorer.audit_verdict import Finding
from explorer.cli import app
from explorer.errors import UserError
from explorer.frank_wolfe import hull_weights
from explorer.problems import load_bank
from explorer.records import ModelInfo
from explorer.training import folder as files
from explorer.training.command import train_command
from explorer.training.estimate import Shape, estimate, machine_flops, need_room
from explorer.training.folder import TrainingConfig
from explorer.training.material import Asked, gather, seen_by
from explorer.training.request import Adapter, Inject, Method, Traces, TrainRequest, read_request
from explorer.training.traces import OWN, RESCUED, TraceFilter, TrainingTrace, candidates, choose, leak
from explorer.ui.trainings import PRESETS
from tests.tiny_training import run_of


def text(number: int, **changes) -> TrainingTrace:
    """A rescued trace of five tokens."""
    given = {
        "origin": RESCUED,
        "run": "r",
        "problem_id": "p",
        "question": "Q?",
        "answer": "7",
        "prompt_ids": (1, 2),
        "completion_ids": tuple(range(number, number + 5)),
        "text": "x",
    }
    return TrainingTrace(**{**given, **changes})


# -- from runs -------------------------------------------------------------------------------------


def test_candidates_are_the_verified_texts_of_a_run(llama):
    trace = run_of(llama, 0, hits=1).trace()
    found = candidates(trace, "r")
    own = [one for one in found if one.origin == OWN]
    assert [one.completion_ids for one in own] == [trace.before[0].token_ids]
    rescued = [one for one in found if one.origin == RESCUED]
    assert {one.start for one in rescued} == {"revised", "projected"}, "the unrevised prefix's own hits are no rescues"
    one = rescued[0]
    assert one.prefix_tokens == 3
    assert one.completion_ids[:3] == trace.steps[-1].nearest
    assert one.failed_ids == trace.before[trace.split.rollout].token_ids
    assert one.prompt_ids == trace.prompt.token_ids
    assert one.finding == "", "it was not audited"


def test_the_leak_is_the_weight_on_the_answers_tokens(llama):
    run = run_of(llama, 0)
    trace = run.trace()
    item = next(one for one in trace.after if one.start.value == "revised")
    start, end = trace.anchor.answer_span
    words = {llama.token_text(token).strip() for token in trace.anchor.token_ids[start:end]} - {""}
    weights = hull_weights(
        trace.split.prefix_token_ids, [s.vertices for s in trace.steps], [s.step_size for s in trace.steps]
    )
    masses = [sum(w for token, w in row.items() if llama.token_text(token).strip() in words) for row in weights]
    assert leak(trace, item) == pytest.approx(max(masses), abs=1e-4)
    # A vertex that is the answer's own token: its whole step counts.
    answer = trace.anchor.token_ids[end - 1]
    moved = trace.steps[0].model_copy(update={"vertices": (answer, *trace.steps[0].vertices[1:]), "step_size": 0.5})
    changed = trace.model_copy(update={"steps": (moved, *trace.steps[1:])})
    assert leak(changed, item) >= 0.5 * (1 - trace.steps[1].step_size) - 1e-4


# -- the filter ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "changes", "why"),
    [
        ({}, {"completion_ids": (9,) * 60}, "in a loop"),
        ({"max_leak": 0.1}, {"leak": 0.2}, "leaks more"),
        ({"max_leak": 0.1}, {"leak": None}, "leak not known"),
        ({"max_leak": 0.1}, {"leak": 0.1}, None),
        ({"max_tokens": 4}, {}, "too long"),
        ({"min_log_p": -2.0}, {"log_p": -2.5}, "too unlikely"),
        ({"min_log_p": -2.0}, {}, "log p not known"),
        ({"sound": True}, {"false_equations": 1}, "a false equation"),
        ({"finished": True}, {"finished": False}, "cut off"),
        ({"findings": (Finding.REASONED,)}, {"finding": "smuggled"}, "found “smuggled”"),
        ({"findings": (Finding.REASONED,)}, {}, "not audited"),
        ({"findings": (Finding.REASONED,)}, {"finding": "reached by reasoning"}, None),
        # An own rollout has none of a rescue's marks, but an equation may be false there too.
        ({"max_leak": 0.1, "min_log_p": -1.0, "findings": (Finding.REASONED,)}, {"origin": OWN}, None),
        ({"sound": True}, {"origin": OWN, "false_equations": 2}, "a false equation"),
    ],
)
def test_every_objection(wanted, changes, why):
    assert TraceFilter(**wanted).objection(text(0, **changes)) == why


def test_no_text_twice_and_what_was_left_out_is_counted():
    found = [text(0), text(0, run="other"), text(10), text(20, origin=OWN), text(30, false_equations=1)]
    chosen = choose(found, Traces.RESCUED, TraceFilter(sound=True))
    assert [one.completion_ids[0] for one in chosen.traces] == [0, 10]
    assert chosen.left_out == {"the same text again": 1, "a false equation": 1}
    assert len(choose(found, Traces.BOTH, TraceFilter()).traces) == 4
    assert [one.origin for one in choose(found, Traces.OWN, TraceFilter()).traces] == [OWN]


def test_of_a_problem_the_likeliest_stay():
    found = [text(0, log_p=-3.0), text(10, log_p=-1.0), text(20), text(30, question="R?", log_p=-9.0)]
    chosen = choose(found, Traces.RESCUED, TraceFilter(per_problem=1))
    assert [one.completion_ids[0] for one in chosen.traces] == [10, 30]
    assert chosen.left_out == {"more than asked of its problem": 2}


# -- the folder ------------------------------------------------------------------------------------

MODEL = ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=3)


def test_a_folder_holds_one_training(tmp_path):
    config = TrainingConfig(request=TrainRequest(), model=MODEL, rows=1, rows_sha256="a")
    files.write_config(tmp_path / "t", config)
    files.write_config(tmp_path / "t", config)
    with pytest.raises(UserError, match="updates 40 there, 9 asked"):
        files.write_config(tmp_path / "t", config.model_copy(update={"request": TrainRequest(updates=9)}))
    with pytest.raises(UserError, match="other rows"):
        files.write_config(tmp_path / "t", config.model_copy(update={"rows_sha256": "b"}))
    before = (tmp_path / "t" / files.TRAINING_FILE).read_text()
    assert json.loads(before)["world"] == 0
    for changes in ({"world": 2}, {"model": MODEL.model_copy(update={"device": "cuda:1"})}, {"runs_sha256": "c"}):
        files.write_config(tmp_path / "t", config.model_copy(update=changes))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not empty and holds no training"):
        files.write_config(tmp_path / "full", config)
    (tmp_path / "t" / files.TRAINING_FILE).write_text('{"request": 3')
    with pytest.raises(UserError, match="damaged"):
        files.read_config(tmp_path / "t")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "n"}, "model m there, n asked"),
        ({"revision": "e5"}, "revision d4 of m there, e5 asked"),
        ({"revision": ""}, "revision d4 of m there, an unknown one asked"),
        ({"fingerprint": "f"}, "other weights of the name m"),
        ({"tool_version": "1.16.1"}, r"TRL 1\.16\.0 there, 1\.16\.1 here"),
        ({"world": 1}, r"2 process\(es\) there, 1 here"),
    ],
)
def test_what_keeps_a_training_from_going_on_is_named(tmp_path, changes, said):
    model = MODEL.model_copy(update={"revision": "d4"})
    config = TrainingConfig(
        request=TrainRequest(), model=model, model_path="/a/m", rows_sha256="a", tool_version="1.16.0", world=2
    )
    files.write_config(tmp_path, config)
    elsewhere = {"model": model.model_copy(update={"device": "cuda:3"}), "model_path": "/b/m"}
    files.write_config(tmp_path, config.model_copy(update=elsewhere))
    own = {name: value for name, value in changes.items() if name in TrainingConfig.model_fields}
    other = config.model_copy(update={"model": model.model_copy(update={k: changes[k] for k in changes.keys() - own})})
    with pytest.raises(UserError, match=said):
        files.write_config(tmp_path, other.model_copy(update=own))


def test_rows_of_a_training_of_earlier_are_known_again(tmp_path):
    """When no row said whether it is right as a whole, each was taken to be: by the same bytes it goes on."""
    row = text(3)
    line = json.loads(row.model_dump_json())
    del line["whole"]
    (tmp_path / files.DATA_FILE).write_text(json.dumps(line) + "\n")
    assert files.read_rows(tmp_path) == [row]
    assert b"whole" not in files.data_bytes([row])


def test_what_a_models_own_trainings_saw_is_trained_on_too(tmp_path):
    """A training of a trained model: its problems never trained on are those of the whole line."""
    bank = [problem.question for problem in load_bank()]
    for name, parent, questions in (("a", "", bank[:60]), ("b", tmp_path / "a" / files.MODEL, bank[60:70])):
        config = TrainingConfig(request=TrainRequest(), model=MODEL, model_path=str(parent))
        files.write_config(tmp_path / name, config)
        (tmp_path / name / files.QUESTIONS_FILE).write_text(json.dumps(questions))
    assert files.trained_questions(tmp_path / "a") == frozenset(bank[:60])
    assert files.trained_questions(tmp_path / "b") == frozenset(bank[:70])
    request = TrainRequest(method=Method.GRPO, held_out=200)
    asked = Asked(request, TraceFilter(), (), "sum", "bank", seen=seen_by(str(tmp_path / "b" / files.MODEL)))
    held_out = {problem.question for problem in gather(asked).held_out}
    assert held_out
    assert not held_out & set(bank[:70])
    assert seen_by(str(tmp_path)) == seen_by("default") == seen_by(None) == frozenset()
    (tmp_path / "a" / files.QUESTIONS_FILE).unlink()
    assert files.trained_questions(tmp_path / "b") is None, "of the first nobody knows"
    (tmp_path / "a").rename(tmp_path / "moved")
    assert files.trained_questions(tmp_path / "b") is None, "where it lies neither"


def test_a_torn_line_is_left_out_and_later_ones_forgotten(tmp_path):
    path = tmp_path / files.METRICS_FILE
    for update in (1, 2, 3):
        files.append_line(path, {"update": update, "loss": 0.5})
    with path.open("ab") as file:
        file.write(b'{"update": 4, "lo')
    assert [line["update"] for line in files.read_lines(path)] == [1, 2, 3]
    files.forget_after(path, 2)
    files.append_line(path, {"update": 3, "loss": 0.25})
    assert [line["loss"] for line in files.read_lines(path)] == [0.5, 0.5, 0.25]


def checkpoint(folder, update: int, cut: int = 0, **missing):
    """A checkpoint as the trainer leaves it, its weights `cut` bytes short."""
    import torch
    from safetensors.torch import save_file

    path = folder / files.CHECKPOINTS / f"checkpoint-{update}"
    path.mkdir(parents=True)
    save_file({"w": torch.zeros(8)}, path / "model.safetensors")
    if cut:
        content = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(content[:-cut])
    for name in ("optimizer.pt", "scheduler.pt"):
        if name not in missing:
            (path / name).write_bytes(b"x")
    if "state" not in missing:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": update}))
    return path


def test_torn_checkpoints_are_passed_over_and_put_aside(tmp_path):
    checkpoint(tmp_path, 2)
    torn = [
        checkpoint(tmp_path, 4, cut=3),
        checkpoint(tmp_path, 6, state=False),
        checkpoint(tmp_path, 8, **{"optimizer.pt": False}),
    ]
    assert [update for update, _ in files.checkpoints(tmp_path)] == [2]
    assert files.incomplete(tmp_path) == sorted(torn)
    files.put_aside(files.incomplete(tmp_path))
    assert files.incomplete(tmp_path) == []
    assert len(list((tmp_path / files.CHECKPOINTS).iterdir())) == 4, "nothing is deleted"


# -- asking ----------------------------------------------------------------------------------------


def test_a_bad_value_is_named():
    with pytest.raises(UserError, match="--updates can't be '0'"):
        read_request({"updates": "0"})
    with pytest.raises(UserError, match="--inject can't be 'sometimes'"):
        read_request({"inject": "sometimes"})
    assert read_request({"updates": None, "batch": ""}) == TrainRequest()


def test_rates_follow_method_and_adapter():
    assert TrainRequest(method=Method.SFT, adapter=Adapter.FULL).rate == 2e-5
    assert TrainRequest(method=Method.SFT).rate == 2e-4
    assert TrainRequest(learning_rate=0.5).rate == 0.5
    assert (TrainRequest(method=Method.DPO).kl, TrainRequest(method=Method.GRPO).kl) == (0.1, 0.0)


def test_an_estimate_by_hand(tmp_path):
    shape = Shape(parameters=1_000_000, layers=2, hidden=10, vocabulary=100)
    request = TrainRequest(adapter=Adapter.FULL, updates=10, batch=4, eval_every=0)
    found = estimate(request, [(10, 20), (10, 40)], shape, flops=1e9)
    assert found.epochs == 20
    assert found.trained_tokens == 40 * 30
    assert found.read_tokens == 40 * 40
    assert found.seconds == pytest.approx(15 + 40 * 40 * 6e6 / (0.45 * 1e9), rel=1e-3)
    lora = estimate(request.model_copy(update={"adapter": Adapter.LORA}), [(10, 20), (10, 40)], shape, flops=1e9)
    grpo = request.model_copy(update={"method": Method.GRPO, "adapter": Adapter.LORA})
    apple, on_cpu = (estimate(grpo, [], shape, flops=1e9, device=device).memory_bytes for device in ("mps", "cpu"))
    assert on_cpu - apple == 2 * 4_000_000, "the copy that samples, and its products' own order"
    reference = request.model_copy(update={"method": Method.DPO})
    assert estimate(reference, [(10, 20)], shape, flops=1e9).memory_bytes > found.memory_bytes
    assert lora.seconds < found.seconds
    assert lora.memory_bytes < found.memory_bytes
    with pytest.raises(UserError, match=r"of memory and 0\.1 GB are free"):
        need_room(found, tmp_path, "cpu", free_memory=100_000_000)
    with pytest.raises(UserError, match="of disk and"):
        need_room(found.model_copy(update={"disk_bytes": 10**18}), tmp_path / "new", "cpu", free_memory=10**12)


@pytest.mark.parametrize("method", list(Method))
def test_a_gpu_has_room_for_the_pages_own_defaults_there(tmp_path, method):
    """Checkpointed gradients and logits in tiles: 0.5 billion parameters (Qwen2.5's) take a part of 24 GB."""
    shape = Shape(parameters=494_000_000, layers=24, hidden=896, vocabulary=151_936)
    request = TrainRequest(method=method, **PRESETS["gpu"][method])
    rows = [(80, 900)] * 50
    on_gpu = estimate(request, rows, shape, flops=1e14, device="cuda")
    need_room(on_gpu, tmp_path, "cuda:0", free_memory=22_000_000_000)
    kept = {Method.SFT: 16 * 980, Method.DPO: 2 * 8 * 980, Method.GRPO: 64 * (256 + 64)}[method] * 896 * (4 * 24 + 110)
    assert kept + 4 * 494_000_000 < on_gpu.memory_bytes < kept + 4 * 494_000_000 * 1.6 + 2_000_000_000
    on_cpu = estimate(request, rows, shape, flops=1e14, device="cpu")
    assert on_cpu.memory_bytes > 3 * on_gpu.memory_bytes
    assert (on_cpu.read_tokens, on_cpu.trained_tokens) == (on_gpu.read_tokens, on_gpu.trained_tokens)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_products_are_timed_in_the_format_of_the_training(monkeypatch, kind):
    import torch

    asked, kind = [], getattr(torch, kind)
    monkeypatch.setattr("explorer.model.gpu_format", lambda device: {torch.device("cuda:0"): kind}[device])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    plain = torch.ones
    monkeypatch.setattr(
        torch, "ones", lambda *_, device, dtype: asked.append((device, dtype)) or plain(2, 2, dtype=torch.float32)
    )
    waited = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    for device in ("cuda:0", "cpu"):
        machine_flops.__wrapped__(device)
    assert not waited
    machine_flops.__wrapped__("mps")
    assert asked == [("cuda:0", kind), ("cpu", torch.float32), ("mps", torch.float32)]
    assert waited == ["mps"] * 4, "its products are only begun when the call is back"


def test_a_training_that_goes_on_needs_no_disk_for_what_it_has_there(tmp_path, monkeypatch):
    wanted = estimate(TrainRequest(eval_every=0), [(9, 9)], Shape(parameters=9, layers=1, hidden=3, vocabulary=9), 1e9)
    wanted = wanted.model_copy(update={"disk_bytes": 10_000})
    (checkpoint(tmp_path, 2) / "optimizer.pt").write_bytes(b"x" * 6_000)
    (checkpoint(tmp_path, 4, cut=3) / "optimizer.pt").write_bytes(b"x" * 6_000)  # torn, so it stays beside
    usage = SimpleNamespace(free=3_000)
    monkeypatch.setattr("explorer.training.estimate.shutil.disk_usage", lambda place: usage)
    with pytest.raises(UserError, match="of disk and"):
        need_room(wanted, tmp_path, "cpu", free_memory=10**12)
    usage.free = 4_000
    need_room(wanted, tmp_path, "cpu", free_memory=10**12)
    with pytest.raises(UserError, match="of disk and"):
        need_room(wanted, tmp_path / "another", "cpu", free_memory=10**12)


def test_the_shown_command_asks_for_the_very_same(tmp_path, monkeypatch):
    """Every option of the command is one of the verb's, and gives the request back."""
    from explorer.training import train as verb

    request = TrainRequest(
        method=Method.GRPO,
        adapter=Adapter.FULL,
        traces=Traces.BOTH,
        updates=7,
        batch=2,
        learning_rate=3e-6,
        max_tokens=99,
        seed=5,
        lora_rank=4,
        mask_prefix=True,
        group=6,
        max_new_tokens=33,
        temperature=0.9,
        inject=Inject.ALWAYS,
        off_policy_c=0.2,
        zvp_alpha=0.3,
        scale_rewards="none",
        beta=0.01,
        sampler="trl",
        held_out=3,
        eval_every=4,
        save_every=5,
    )
    wanted = TraceFilter(
        findings=(Finding.REASONED, Finding.LUCKY),
        max_leak=0.25,
        max_tokens=80,
        min_log_p=-3.5,
        sound=True,
        finished=True,
        per_problem=2,
    )
    model = {"model": "m", "dtype": None, "device": "cpu"}
    command = train_command(request, wanted, [tmp_path], tmp_path / "out", model, "bank", "held.jsonl")
    seen = []
    monkeypatch.setattr(verb, "train", lambda asked, out, model, tell, plan: seen.append((asked, out)) or ([], {}))
    result = CliRunner().invoke(app, command[3:])
    assert result.exit_code == 0, result.output
    asked, out = seen[0]
    assert asked == verb.Asked(request, wanted, (tmp_path,), "bank", "held.jsonl")
    assert out == tmp_path / "out"
    assert all(name in "".join(command) for name in ("mask-prefix", "sound"))


def test_defaults_make_a_short_command(tmp_path):
    command = train_command(TrainRequest(), TraceFilter(), [tmp_path / "runs"], tmp_path / "out", {"model": None})
    assert command[3:] == ["train", "sft", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
