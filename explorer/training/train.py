"""The `train` verb: traces in, a trained model out; the same command goes on where it stood, on the same rows.

Everything that can be refused is refused before a weight moves: no traces, another model's, rows too long, too little
memory or disk, a folder that holds something else. The first Ctrl-C (SIGINT) ends it after the update under way and
keeps a checkpoint; a kill loses what came after the last one, and a checkpoint that it tore is put aside.

Under `accelerate launch` every process runs this; the first one writes.

What it does not do: the training itself (`sft.py`, `dpo.py`, `grpo.py`, and TRL).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from explorer.child import memory
from explorer.errors import UserError, describe
from explorer.files import write_atomic
from explorer.hunting import own_device, share, soft_interrupt
from explorer.records import ModelInfo, Problem
from explorer.settings import Settings, read_settings
from explorer.sources import asked_again
from explorer.training import folder as files
from explorer.training.estimate import Estimate, estimate, gigabytes, machine_flops, need_room, shape_of
from explorer.training.folder import TrainingConfig
from explorer.training.material import Asked, Material, gather, prepared, seen_by, sizes
from explorer.training.request import Method, Sampler
from explorer.training.traces import SeveralModels, TrainingTrace
from explorer.vllm_rollouts import installed

Tell = Callable[[str, float | None], None]


def plan_words(asked: Asked, material: Material, estimated: Estimate) -> list[str]:
    """What a training amounts to, for people."""
    request = asked.request
    runs, world = len(asked.runs), share()[1]
    each = f" for each of {world} processes" if world > 1 else ""
    problems = len({row.question for row in material.rows})
    lines = [
        f"{request.method.value}, {request.adapter.value}, {request.updates} updates, learning rate {request.rate:g}",
        f"  traces: {len(material.rows)} of {problems} problem(s) from {runs} folder(s)"
        + "".join(f"; left out: {count} {why}" for why, count in material.left_out.items()),
    ]
    if request.method is Method.GRPO:
        entering = f"rescued traces enter: {request.inject.value}"
        zvp = f", RL-ZVP with α {request.zvp_alpha:g}" if request.zvp_alpha else ""
        lines.append(f"  prompts: {len(prepared(asked, material))}, groups of {request.group}, {entering}{zvp}")
    if estimated.epochs is not None:
        lines.append(f"  each row is seen {estimated.epochs:g} times")
    lines += [
        f"  tokens with a loss: {estimated.trained_tokens:,} of {estimated.read_tokens:,} read",
        f"  about {minutes(estimated.seconds)}, {gigabytes(estimated.memory_bytes)} of memory{each}, "
        f"{gigabytes(estimated.disk_bytes)} of disk (estimates)",
        f"  held-out problems looked at: {len(material.held_out)}",
    ]
    return lines


def minutes(seconds: float) -> str:
    """40 s, 12 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


# -- the verb --------------------------------------------------------------------------------------


def train(
    asked: Asked, out: Path, model: Mapping[str, str | None], tell: Tell, plan_only: bool = False
) -> tuple[list[str], dict]:
    """Train, or go on with a training.

    Args:
        asked: what on, and how.
        out: the training's folder.
        model: model, dtype and device as `read_settings` takes them; no model takes the traces' own.
        tell: called with a sentence and a share of the whole.
        plan_only: say what it would take, and do nothing.

    Returns:
        (lines for people, the same as plain values).

    Raises:
        UserError: bad input; the sentence says what to do.
        KeyboardInterrupt: it was asked to stop, and did; a checkpoint is kept.
    """
    from explorer.sources import resolve

    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder for the training.")
    if asked.request.method is Method.GRPO and asked.request.sampler is Sampler.VLLM and not installed():
        raise UserError("vLLM is not installed: pip install vllm on a machine with a GPU, or leave --sampler at auto.")
    if not _of_earlier(out):
        asked = replace(asked, seen=seen_by(model["model"]))
    begun_with, begun_prompts = _begun_with(asked, out)
    try:
        material = gather(asked, begun_with, begun_prompts)
    except SeveralModels:
        if not model["model"]:
            raise
        material = None  # whose runs count, is known once the model is found
    maker = material.maker if material else None
    rank, world, local = share()
    device = own_device(model["device"], local, world)
    if world == 1:
        device = one_card(device, os.environ)
    settings = read_settings(
        model=model["model"] or (asked_again(maker.model_id, maker.model_source) if maker else None),
        dtype=model["dtype"],
        device=device,
    )
    tell("Looking for the model", None)
    found = resolve(
        settings.model,
        settings.cache_dir,
        offline=settings.offline,
        allow_remote_code=settings.allow_remote_code,
        progress=lambda part, text: tell(text, part),
    )
    if material is None:
        asked = replace(asked, owner=(found.id, found.source))
        material = gather(asked, begun_with, begun_prompts)
    wanted = estimated(asked, material, found.path, settings)
    if plan_only:
        return plan_words(asked, material, wanted), {"plan": wanted.model_dump(mode="json")}
    if files.finished(out):
        _need_asked(asked, material, out, found)
        return [f"This training is done: its model is in {out / files.MODEL}"], files.read_json(out / files.RESULT_FILE)
    if begun_with:
        tell(f"Going on with the {len(begun_with)} rows in {out / files.DATA_FILE}, whatever the runs hold now", None)
    where = _device() if settings.device == "auto" else settings.device
    if asked.request.method is Method.GRPO and asked.request.sampler is Sampler.FAST and where != "cpu":
        raise UserError("--sampler fast is the CPU's: use auto, trl or vllm on a GPU.")
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if where == "cpu" else 1
    if beside == 1 or local == 0:  # of those in one memory the first looks, before the others fill it for the next
        need_room(wanted, out, where, processes=beside)
    return _trained(asked, material, out, found, settings, tell, rank)


def _begun_with(asked: Asked, out: Path) -> tuple[list[TrainingTrace], tuple[Problem, ...]]:
    """The rows and prompts of the training that a folder holds, if the same was asked of it; none where it keeps none.

    Its runs may have changed since: one was added, or an audit wrote its finding. Read again they would make another
    training, and the checkpoints would be out of reach.
    """
    try:
        before, rows, prompts = files.read_config(out), files.read_rows(out), files.read_prompts(out)
    except (UserError, ValueError):  # nothing there yet, or damaged: then `write_config` says so
        return [], ()
    there = (before.request, before.filter, before.problems, before.held_out)
    same = there == (asked.request, asked.wanted, asked.problems, asked.held_out)
    return (rows, prompts) if same and before.runs_sha256 in ("", _runs_hash(asked.runs)) else ([], ())


def _of_earlier(out: Path) -> bool:
    """Whether a folder's training was begun when held-out problems could be those of its model's own trainings: it goes
    on with the ones that it drew."""
    try:
        return not files.read_config(out).world
    except UserError:
        return False


def _runs_hash(runs: Sequence[Path]) -> str:
    """Which folders were named, without telling where they lie: `training.json` goes with the model."""
    return hashlib.sha256("\n".join(sorted(str(path.resolve()) for path in runs)).encode()).hexdigest()


def _need_asked(asked: Asked, material: Material, out: Path, found) -> None:
    """Whether a finished training is the one that is asked for. Raises `UserError` if it is another."""
    before = files.read_config(out)
    # Its model is not loaded to compare it: the name is enough to tell whether another one is asked for.
    there = before.model.model_copy(update={"id": found.id, "source": found.source, "revision": found.revision})
    done = {"tool_version": before.tool_version, "world": before.world}
    files.need_same(out, _config(asked, material, there, found).model_copy(update=done))


def one_card(device: str | None, environment: MutableMapping[str, str]) -> str | None:
    """With one process, hide all GPUs but the one that is meant: the trainer would spread itself over all it sees, and
    TRL refuses that. To be called before CUDA is first asked for anything.

    Args:
        device: auto, cpu, cuda, cuda:1, …
        environment: `CUDA_VISIBLE_DEVICES` is read and written there.

    Returns:
        the device by the name that it has from now on.

    Raises:
        UserError: there is none of that name.
    """
    if device is not None and device != "auto" and not device.startswith("cuda"):
        return device
    number = (device or "").partition(":")[2] or "0"
    if not number.isdecimal():
        raise UserError(f"There is no device {device!r} here: use cpu, cuda, cuda:1 or mps, or leave it at auto.")
    place = int(number)
    seen = [one for one in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    if seen and place >= len(seen):
        raise UserError(f"There is no device {device!r} here: {len(seen)} GPU(s) are visible.")
    if "CUDA_VISIBLE_DEVICES" not in environment or seen:
        environment["CUDA_VISIBLE_DEVICES"] = seen[place] if seen else str(place)
    return "cuda" if device and device.startswith("cuda") else device


def estimated(asked: Asked, material: Material, path: Path, settings: Settings) -> Estimate:
    """The estimate for a model in a folder."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=settings.allow_remote_code)
    device = _device() if settings.device == "auto" else settings.device
    prompts = [len(row.prompt_ids) for row in material.rows]
    usual = round(sum(prompts) / len(prompts)) if prompts else 64
    rows = sizes(material.rows, asked.request)
    return estimate(asked.request, rows, shape_of(config), machine_flops(device), usual, device, share()[1])


def _device() -> str:
    from explorer.model import choose_device

    return choose_device().type


def _trained(
    asked: Asked, material: Material, out: Path, found, settings: Settings, tell: Tell, rank: int
) -> tuple[list[str], dict]:
    from filelock import FileLock, Timeout

    from explorer.verdict import Judge

    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.parent / f".{out.name}.lock")
    try:
        lock.acquire(timeout=0 if rank == 0 else -1) if rank == 0 else None
    except Timeout:
        raise UserError(f"Another process is training in {out}: wait for it, or choose another --out.") from None
    begun = time.monotonic()
    try:
        with Judge() as judge, soft_interrupt() as stop:
            tell(f"Loading {found.id} into memory", None)
            return _run(asked, material, out, found, settings, tell, rank, judge, stop, begun)
    finally:
        if rank == 0:
            lock.release()


def _run(asked, material, out, found, settings, tell, rank, judge, stop, begun) -> tuple[list[str], dict]:
    import warnings

    from explorer.training.watch import HeldOut, Watch
    from explorer.training.weights import Trainee, save_trained

    # What a library will call otherwise some day is nothing that a person can mend here.
    warnings.filterwarnings("ignore", category=FutureWarning)
    request = asked.request
    trainee = Trainee(found, settings)
    trainee.need_own(material.rows or ([material.maker] if material.maker else []))
    config = _config(asked, material, trainee.info, found)
    if rank == 0:
        files.write_config(out, config)
        if not (out / files.DATA_FILE).exists():
            if request.method is Method.GRPO:
                write_atomic(out / files.PROMPTS_FILE, files.data_bytes(material.problems))
            write_atomic(out / files.DATA_FILE, files.data_bytes(material.rows))
        seen = {row.question for row in material.rows}
        if request.method is Method.GRPO:
            seen = {problem.question for problem in prepared(asked, material)}
        write_atomic(out / files.QUESTIONS_FILE, json.dumps(sorted(seen), ensure_ascii=False).encode())
    resume = _resume_from(out, rank)
    begun -= files.seconds_spent(out)
    progress = files.Progress(out, request.updates)
    look = None
    if material.held_out and rank == 0:
        look = HeldOut(
            trainee, material.held_out, judge, out, request.max_new_tokens, request.temperature, request.seed
        )
    watch = Watch(out, progress, stop, tell, look, request.eval_every, begun)
    trainer = _trainer(asked, material, trainee, out, watch, judge, tell)
    if request.method is not Method.GRPO and resume:
        # SFT's and DPO's trainers begin to count anew; GRPO's count comes back with the state.
        trainer._total_train_tokens = files.tokens_read(out)
    if rank == 0:
        progress.tell(resume[0] if resume else 0, "preparing", now=True)
    try:
        if resume and resume[0] >= request.updates:  # all that was missing is the model
            _take_over(trainer, resume[1])
        else:
            trainer.train(resume_from_checkpoint=str(resume[1]) if resume else None)
        if not watch.stopped and trainer.state.global_step < request.updates:
            raise UserError(
                f"The training ended after {trainer.state.global_step} of {request.updates} updates: there was nothing "
                "left to read; use a smaller --batch."
            )
    except BaseException as error:
        if rank == 0:
            interrupted = isinstance(error, KeyboardInterrupt)
            progress.tell(trainer.state.global_step, "", "stopped" if interrupted else "failed", now=True)
            if not interrupted:
                _result(out, "failed", trainer, begun, describe(error))
        raise
    state = "stopped" if watch.stopped else "done"
    if rank:
        return [], {}
    if state == "done":
        progress.tell(request.updates, "keeping the model", now=True)
        parent = {"parent": config.model.model_dump(mode="json"), "training": config.model_dump(mode="json")}
        save_trained(trainer.model, trainee.tokenizer, out, parent)
    summary = _result(out, state, trainer, begun)
    progress.tell(trainer.state.global_step, "", state, now=True)
    if state == "stopped":
        raise KeyboardInterrupt
    return words(out, summary), summary


def _take_over(trainer, checkpoint: Path) -> None:
    """The weights and the count of updates of a checkpoint, without another update."""
    from transformers import TrainerState

    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def _trainer(asked: Asked, material: Material, trainee, out: Path, watch, judge, tell: Tell):
    request = asked.request
    if request.method is Method.SFT:
        from explorer.training import sft

        return sft.trainer(trainee, material.rows, request, out, watch)
    if request.method is Method.DPO:
        from explorer.training import dpo

        return dpo.trainer(trainee, material.rows, request, out, watch)
    from explorer.training import grpo

    traces, refused = grpo.accepted(material.rows, judge, trainee)
    if refused:
        tell(
            f"{len(refused)} of {len(material.rows)} rescued texts enter no group: read as a whole they are not judged "
            "correct, as the reward would have them",
            None,
        )
    return grpo.trainer(trainee, prepared(asked, material), traces, request, out, watch, judge)


def _config(asked: Asked, material: Material, model: ModelInfo, found) -> TrainingConfig:
    content = files.data_bytes(material.rows)
    problems = "".join(f"{problem.id}\t{problem.question}\n" for problem in (*material.problems, *material.held_out))
    return TrainingConfig(
        request=asked.request,
        filter=asked.wanted,
        model=model,
        model_path=str(found.path) if found.source == "local" else "",
        problems=asked.problems,
        held_out=asked.held_out,
        rows=len(material.rows),
        rows_sha256=hashlib.sha256(content + problems.encode()).hexdigest(),
        runs_sha256=_runs_hash(asked.runs),
        tool_version=version("trl"),
        world=share()[1],
    )


def _resume_from(out: Path, rank: int) -> tuple[int, Path] | None:
    """The last whole checkpoint; what was written after it will be written again."""
    whole = files.checkpoints(out)
    last = whole[-1] if whole else None
    if rank == 0:
        files.put_aside(files.incomplete(out))
        for name in (files.METRICS_FILE, files.HELD_OUT_FILE):
            files.forget_after(out / name, last[0] if last else -1)
        files.forget_completions_after(out, last[0] if last else -1)
    return last


def _result(out: Path, state: str, trainer, begun: float, message: str = "") -> dict:
    values = {
        "schema_version": 1,
        "state": state,
        "updates": trainer.state.global_step,
        "seconds": round(time.monotonic() - begun, 1),
        "peak_memory_bytes": peak_memory(),
        "tokens": files.tokens_read(out),
        "message": message,
    }
    write_atomic(out / files.RESULT_FILE, json.dumps(values, indent=1, ensure_ascii=False).encode())
    return values


def peak_memory() -> int:
    """Bytes that this process held at most: on the GPU where it has one, else in memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return memory("VmHWM")


def words(out: Path, summary: Mapping) -> list[str]:
    """How a training ended, for people."""
    lines = [
        f"{summary['updates']} updates in {minutes(summary['seconds'])}, at most "
        f"{gigabytes(summary['peak_memory_bytes'])} of memory"
    ]
    looks = files.read_looks(out)
    if looks:
        first, last = looks[0], looks[-1]
        lines.append(
            f"held-out problems, one rollout each: {first['correct']} of {first['n']} correct before, "
            f"{last['correct']} of {last['n']} after"
        )
    return [*lines, f"the trained model: --model {out / files.MODEL}"]
