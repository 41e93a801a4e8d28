"""What the training's screen does: plans, starts, stops and reads trainings. They run in processes of their own and lie
on disk, so nothing here belongs to one page: whoever opens the screen sees the same.

What it does not do: lay out anything, train (`training/`), measure a model (`training_after.py`).
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.audit_verdict import Finding
from explorer.errors import UserError, describe
from explorer.files import mark_of
from explorer.fingerprint import format_fingerprints
from explorer.hunt_request import FILE, find_hunts, jobs_root, set_name, written
from explorer.jobs import Job, Jobs, shown_command
from explorer.model import LanguageModel, choose_device
from explorer.problems import load_bank
from explorer.recorded import FOLDER as RECORDED
from explorer.records import Verdict
from explorer.sources import called
from explorer.store import TRACE_FILE, load_run, run_folder
from explorer.training import folder as files
from explorer.training.command import train_command
from explorer.training.common import completion_ids, turn_end
from explorer.training.estimate import estimate, machine_flops, need_room, shape_of
from explorer.training.group import preview
from explorer.training.material import Asked, Material, gather, prepared, seen_by, sizes
from explorer.training.request import Inject, Method, Sampler, TrainRequest, read_request
from explorer.training.traces import (
    RESCUED,
    SeveralModels,
    TrainingTrace,
    choose,
    of_model,
    read_candidates,
    read_filter,
)
from explorer.ui.hunts import model_options, written_model
from explorer.ui.models import ModelHost
from explorer.ui.training_after import After, last_sampled
from explorer.views.train import form_payload, group_payload, plan_payload
from explorer.views.train_progress import curves_payload, status_payload
from explorer.vllm_rollouts import installed

Values = Mapping[str, object]
Payload = dict[str, Any]
FINDINGS = "|"
LOG_LINES = 40
# Problems among which the preview of a group can be moved.
PREVIEWED = 30
# Sane first values by device and method; whatever is not named is the request's own default.
PRESETS = {
    "cpu": {
        Method.SFT: {"updates": 30, "batch": 4, "held_out": 8, "eval_every": 10, "save_every": 10},
        Method.DPO: {"updates": 30, "batch": 2, "held_out": 8, "eval_every": 10, "save_every": 10},
        Method.GRPO: {"updates": 20, "batch": 1, "held_out": 8, "eval_every": 10, "save_every": 5},
    },
    "gpu": {
        Method.SFT: {"updates": 100, "batch": 16, "max_tokens": 1024, "max_new_tokens": 256, "held_out": 64},
        Method.DPO: {"updates": 100, "batch": 8, "max_tokens": 1024, "max_new_tokens": 256, "held_out": 64},
        Method.GRPO: {"updates": 100, "batch": 8, "max_new_tokens": 256, "held_out": 64, "save_every": 50},
    },
}
# Fingerprint of a model in float32 -> those in all formats: a form asks at every key.
_FORMATS: dict[str, frozenset[str]] = {}
# How a complaint names a field.
NAMES = {
    "updates": "Updates",
    "batch": "Batch",
    "learning_rate": "Learning rate",
    "max_tokens": "Longest row",
    "max_new_tokens": "Longest completion",
    "lora_rank": "LoRA rank",
    "group": "Group size",
    "temperature": "Temperature",
    "off_policy_c": "c of the weight",
    "zvp_alpha": "α of RL-ZVP",
    "beta": "β, weight of the KL",
    "held_out": "Held-out problems",
    "eval_every": "Looked at every",
    "save_every": "Checkpoint every",
    "seed": "Random seed",
    "max_leak": "Leak score at most",
    "max_trace_tokens": "At most … tokens",
    "min_log_p": "log p at least",
    "per_problem": "At most of a problem",
}


@dataclass(frozen=True)
class Source:
    """A folder of runs that traces may come from."""

    label: str
    folder: Path
    runs: int


class Trainings:
    """The trainings in the folder of runs, and the jobs that do them."""

    def __init__(self, host: ModelHost, runs_dir: Path, make_command: Callable[..., list[str]] = train_command):
        """`make_command` gives the command of a training; tests put another one in its place."""
        self.host, self.runs_dir = host, runs_dir
        self.jobs = Jobs(jobs_root(runs_dir))
        self.after = After(host, runs_dir, self.jobs)
        self._make_command = make_command
        self._beat = itertools.count(1)
        self._weighed: dict[tuple, tuple[float, ...]] = {}

    # -- asking ------------------------------------------------------------------------------------

    def sources(self) -> dict[str, Source]:
        """Where traces may come from: the runs of the page, each hunt, the recorded runs. On a public page the folder
        of runs holds those of all its visitors, whose questions are nobody else's: there they are no source."""
        found = {}
        if not self.host.settings.public:
            found["runs"] = Source("Runs made on this page", self.runs_dir, _runs(self.runs_dir))
        for name, folder in find_hunts(self.runs_dir).items():
            found[f"hunt:{name}"] = Source(f"Hunt {name}", folder, _runs(folder))
        found["recorded"] = Source("Recorded runs that come with the explorer", RECORDED, _runs(RECORDED))
        return {key: source for key, source in found.items() if source.runs}

    def sets(self) -> list[Payload]:
        """Problem sets: the bank, its families, files that were brought for hunts."""
        families = Counter(problem.family for problem in load_bank())
        found = [{"value": "bank", "label": f"Built-in bank, all {sum(families.values())} prompts"}]
        found += [{"value": name, "label": f"Only {name} ({count})"} for name, count in families.items()]
        brought = sorted((self.runs_dir / "problem-sets").glob("*"))
        return found + [{"value": f"file:{path.name}", "label": f"Your file {path.name}"} for path in brought]

    def form(self) -> Payload:
        """What may be asked for."""
        sources = self.sources()
        # The first that has a rescue; the recorded runs come last, and have some.
        on = next((key for key, source in sources.items() if _rescues(source.folder)), "recorded")
        device = self._device()
        presets = {
            method.value: {
                **TrainRequest(method=method, **values).model_dump(mode="json"),
                "sources": [on] if sources else [],
            }
            for method, values in PRESETS["cpu" if device == "cpu" else "gpu"].items()
        }
        listed = [{"id": key, "label": source.label, "runs": source.runs} for key, source in sources.items()]
        return form_payload(listed, self.sets(), presets, device)

    def plan(self, values: Values, model_name: str, ticket: int = 0) -> Payload:
        """What a request amounts to: its traces, command, size, and for GRPO one group. Runs nothing."""
        known: Payload = {}
        entry = self.host.loading(model_name)
        try:
            asked, folder = self._asked(values, entry.model, model_name), self._folder(values)
            request = asked.request
            found, runs = read_candidates(asked.runs) if asked.runs else ([], 0)
            found, _ = of_model(found, asked.owner)
            known = {"request": request, "chosen": choose(found, request.traces, asked.wanted, runs)}
            known |= {"found": len(found), "left_out": known["chosen"].left_out, "name": folder.name}
            material = gather(asked)
        except SeveralModels as error:
            if entry.model is None and entry.state != "failed":
                said = "These runs are of several models: the page’s own count, once it is known which that is."
                return plan_payload(ticket=ticket, error=said, waiting=True)
            return plan_payload(
                ticket=ticket,
                error=f"These runs are of several models ({error.names}), none of them the page’s: load one of these "
                "under “Use another model”, or choose other traces.",
            )
        except Exception as error:
            return plan_payload(ticket=ticket, error=describe(error), **known)
        known |= {
            "rows": material.rows,
            "left_out": material.left_out,
            "prompts": len(prepared(asked, material)),
            "held_out": len(material.held_out),
            "waiting": entry.model is None and entry.state != "failed",
        }
        blocked = ""
        try:
            known["command"] = shown_command(self._command(asked, folder, model_name))
            if request.method is Method.GRPO:
                known["group"] = self._group(asked, material, values, entry.model)
            if entry.model is not None:
                need_own(material.rows, entry.model)
                known["estimated"] = self._estimate(request, material, entry.model)
                need_room(known["estimated"], folder, entry.model.device.type)
            if request.method is Method.GRPO and request.sampler is Sampler.VLLM and not installed():
                raise UserError("vLLM is not installed here: let another sample, or install it beside a GPU.")
        except Exception as error:
            blocked = describe(error)
        try:  # whatever else there is to say: what a visitor can do is take the command
            self.host.settings.need_private("train")
        except UserError as error:
            blocked = describe(error)
        return plan_payload(ticket=ticket, blocked=blocked, **known)

    def start(self, values: Values, model_name: str, name: str = "") -> str:
        """Begin a training under the name that its plan gave it; returns the name. Raises `UserError`."""
        plan = self.plan(values, model_name)
        if plan["blocked"]:
            raise UserError(plan["blocked"])
        asked = self._asked(values)
        folder = run_folder(self.root, name) if name and not values.get("name") else self._folder(values)
        if folder.exists():
            folder = self._folder(values)
        self.jobs.start("train", f"Training {folder.name}", self._command(asked, folder, model_name), folder.absolute())
        return folder.name

    @property
    def root(self) -> Path:
        """Where trainings lie, one folder each."""
        return self.runs_dir / "trainings"

    def _asked(self, values: Values, model: LanguageModel | None = None, model_name: str = "") -> Asked:
        sources = self.sources()
        picked = [sources[key].folder for key in values.get("sources") or () if key in sources]
        if not picked:
            raise UserError("Choose where the traces come from first.")
        findings = tuple(Finding(one) for one in str(values.get("findings") or "").split(FINDINGS) if one)
        try:
            request = read_request(values)
            wanted = read_filter({**values, "findings": findings})
        except UserError as error:
            raise UserError(_named(str(error))) from error

        def named(key: str) -> str:
            return set_name(str(values[key]), self.runs_dir) if values.get(key) else ""

        problems = named("problems") if request.method is Method.GRPO else ""
        owner = (model.info.id, model.info.source) if model else None
        # Whoever brought a file saw its bad rows then.
        brought = any(str(values.get(key) or "").startswith(FILE) for key in ("problems", "held_out_set"))
        return Asked(
            request, wanted, tuple(picked), problems, named("held_out_set"), owner, seen_by(model_name), brought
        )

    def _folder(self, values: Values) -> Path:
        """The folder that a training would have: as named, or by when and what."""
        if name := str(values.get("name") or "").strip():
            folder = run_folder(self.root, name)
            if "--" in name or name.startswith("of-"):  # so evaluations are named
                raise UserError("A training’s name has no two dashes in a row and doesn’t begin with “of-”.")
            if folder.exists():
                raise UserError(f"There is a training “{name}” already: choose another name, or go on with it below.")
            return folder
        source = re.sub(r"[^A-Za-z0-9]+", "-", str((values.get("sources") or [""])[0]).removeprefix("hunt:"))
        # Stripped after it is cut: two dashes in a row part a training's name from how it was evaluated.
        source = source.strip("-")[-24:].strip("-")
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{values.get('method', 'sft')}-{source}"
        folder, again = self.root / name, 1
        while folder.exists():
            again += 1
            folder = self.root / f"{name}-{again}"
        return folder

    def _command(self, asked: Asked, folder: Path, model_name: str) -> list[str]:
        # The page's own model always stands there: without it the command would take whatever made the traces.
        options = model_options(self.host.settings, model_name) | {"model": written_model(model_name)}
        runs = [Path(written(path)) for path in asked.runs]
        command = self._make_command(
            asked.request, asked.wanted, runs, Path(written(folder)), options, asked.problems, asked.held_out
        )
        return [*command, *(["--skip-bad"] if asked.skip_bad else [])]

    def _device(self) -> str:
        try:
            return choose_device(self.host.settings.device).type
        except UserError:
            return "cpu"

    @staticmethod
    def _estimate(request: TrainRequest, material: Material, model: LanguageModel):
        prompts = [len(row.prompt_ids) for row in material.rows]
        usual = round(sum(prompts) / len(prompts)) if prompts else 64
        shape = shape_of(model.network.config)
        return estimate(
            request,
            sizes(material.rows, request),
            shape,
            machine_flops(model.device.type),
            usual,
            model.device.type,
        )

    # -- one group ---------------------------------------------------------------------------------

    def _group(self, asked: Asked, material: Material, values: Values, model: LanguageModel | None) -> Payload | None:
        """The group of a problem that has a rescued trace, as its run's own rollouts make it."""
        request = asked.request
        rescued: dict[str, TrainingTrace] = {}
        for one in self._rescued(asked, material):
            if one.origin == RESCUED:
                rescued.setdefault(one.question, one)
        if not rescued:
            return None
        row = rescued.get(str(values.get("preview", "")), next(iter(rescued.values())))
        before = self._rollouts(asked, row)
        members = before[: request.group]
        if len(members) < 2:
            return None
        groups = preview(
            [float(item.verdict is Verdict.CORRECT) for item in members],
            [len(item.token_ids) for item in members],
            len(row.completion_ids),
            request.inject,
            request.scale_rewards,
        )
        log_ps = self._weighed.get(_key(row, request))
        texts = [model.token_text(token) for token in _trained_ids(row, model)] if model and log_ps else ()
        return group_payload(
            row,
            [(one.problem_id, one.question) for one in list(rescued.values())[:PREVIEWED]],
            groups,
            request,
            len(before),
            texts=texts,
            log_ps=log_ps if texts else None,
            why_not=self._why_not(row, model),
        )

    @staticmethod
    def _rescued(asked: Asked, material: Material) -> Sequence[TrainingTrace]:
        """Also where none enters: then the preview shows what is missed."""
        if asked.request.inject is not Inject.NEVER:
            return material.rows
        return gather(replace(asked, request=asked.request.model_copy(update={"inject": Inject.ZERO_HIT}))).rows

    @staticmethod
    def _rollouts(asked: Asked, row: TrainingTrace) -> Sequence:
        for folder in asked.runs:
            if (folder / row.run / TRACE_FILE).is_file():
                trace, _ = load_run(folder / row.run, with_trajectory=False)
                if trace.prompt.token_ids == row.prompt_ids:
                    return trace.before
        return ()

    @staticmethod
    def _why_not(row: TrainingTrace, model: LanguageModel | None) -> str:
        if model is None:
            return "Its tokens can be weighed once the model is loaded."
        if row.fingerprint and row.fingerprint not in fingerprints(model):
            return f"Its tokens can be weighed where {called(row.model_id, row.model_source)} is loaded."
        return ""

    def weigh(self, values: Values, model: LanguageModel) -> None:
        """Measure log p of each token of the previewed trace under the plain prompt, at the temperature of the rollouts
        as the trainer does. Runs the model. Raises `UserError`."""
        asked = self._asked(values, model)
        material = gather(asked)
        payload = self._group(asked, material, values, model)
        if payload is None:
            raise UserError("There is no rescued trace to weigh.")
        if payload["why_not"]:
            raise UserError(payload["why_not"])
        rows = self._rescued(asked, material)
        row = next(row for row in rows if row.question == payload["problem"] and row.origin == RESCUED)
        ids, temperature = _trained_ids(row, model), asked.request.temperature
        self._weighed[_key(row, asked.request)] = tuple(
            model.log_probabilities(model.read(row.prompt_ids), ids, temperature)
        )

    # -- stopping and going on ---------------------------------------------------------------------

    def command(self, what: str, job_id: str) -> None:
        """stop, end or resume a job. Raises `UserError`."""
        self.host.settings.need_private("steer jobs")
        steer = {"stop": self.jobs.pause, "end": self.jobs.cancel, "resume": self.jobs.go_on}
        if what not in steer:
            raise UserError(f"A training can't be told to {what[:20]!r}: reload the page.")
        steer[what](job_id)

    # -- looking -----------------------------------------------------------------------------------

    def look(self, asked: str | None, seen: str = "", model_name: str = "") -> tuple[Payload, Payload | None]:
        """Where a training stands, and its curves if they are others than those seen.

        Args:
            asked: the training's name; None, or one that is gone, takes the one that runs, else the newest.
            seen: the mark of the curves that the page has.
            model_name: the page's model.
        """
        jobs = self.jobs.list()
        running = next((job for job in jobs if job.alive), None)
        folders = {path.name: path for path in files.find_trainings(self.root)}
        # While its process loads its model a training has no file yet; one that failed before that has none at all.
        for job in reversed(jobs):
            if job.kind == "train" and (name := Path(job.about).name) not in folders:
                folders = {name: Path(job.about), **folders}
        at_work = self.after.training_of(running) if running else None
        shown = asked if asked in folders else at_work if at_work in folders else next(iter(folders), None)
        folder = folders.get(shown)
        job = _job_of(folder, jobs)
        mark = f"{shown}/{_mark(folder)}" if folder else ""
        looks = files.read_looks(folder) if folder else []
        config = _config(folder)
        mine = job is not None and running is not None and running.id == job.id
        status = status_payload(
            [(name, _words(path, jobs)) for name, path in folders.items()],
            shown,
            job,
            files.read_json(folder / files.PROGRESS_FILE) if folder else {},
            config=config,
            result=files.read_json(folder / files.RESULT_FILE) if folder else {},
            log=self.jobs.log(job.id, LOG_LINES) if job else (),
            other=None if mine else running,
            other_training=at_work,
            after=self.after.payload(folder, config, jobs, looks, model_name, self.sets()) if config else None,
            mark=mark,
            beat=next(self._beat),
            now=time.time(),
        )
        if not folder or mark == seen:
            return status, None
        metrics = files.read_lines(folder / files.METRICS_FILE)
        asked_for = {"updates": config.request.updates, "by_token": config.request.zvp_alpha > 0} if config else {}
        return status, curves_payload(shown, metrics, looks, last_sampled(folder), **asked_for, mark=mark)


def need_own(rows: Sequence[TrainingTrace], model: LanguageModel) -> None:
    """Refuse traces of another model than the page's. The same weights in another number format have another
    fingerprint: what a page in 16 bits can't tell, the process that trains compares.

    Raises:
        UserError: they are of another model.
    """
    for row in {(row.model_id, row.fingerprint): row for row in rows if row.fingerprint}.values():
        # An adapter leaves the embeddings, and so the fingerprint, as its parent's are.
        if row.model_id == model.info.id and (model.info.dtype != "float32" or row.fingerprint in fingerprints(model)):
            continue
        raise UserError(
            f"These traces were made by {called(row.model_id, row.model_source)}, and the page has "
            f"{called(model.info.id, model.info.source)}: load the model that made them under “Use another model”, or "
            "choose other traces."
        )


def fingerprints(model: LanguageModel) -> frozenset[str]:
    """A model's own, and where it is there in float32 those that it has in 16 bits, as `Trainee` knows them."""
    own = model.info.fingerprint
    if model.info.dtype != "float32":
        return frozenset((own,))
    if own not in _FORMATS:
        known = format_fingerprints(model.network.get_input_embeddings(), model.info.vocab_size)
        _FORMATS[own] = known | {own}
    return _FORMATS[own]


def _named(sentence: str) -> str:
    """A complaint of the command line with the page's name of the field."""
    found = re.match(r"--([a-z-]+) ", sentence)
    name = found and NAMES.get(found[1].replace("-", "_"))
    return sentence.replace(f"--{found[1]}", name, 1) if name else sentence


def _key(row: TrainingTrace, request: TrainRequest) -> tuple:
    return row.fingerprint, row.prompt_ids, row.completion_ids, request.temperature


def _trained_ids(row: TrainingTrace, model: LanguageModel) -> list[int]:
    """The tokens of a trace that the trainer sees, its end among them."""
    return completion_ids(row, turn_end(model.tokenizer, model.end_ids))


def _runs(folder: Path) -> int:
    return sum(not path.parent.name.startswith(".") for path in folder.glob(f"*/{TRACE_FILE}"))


def _rescues(folder: Path) -> bool:
    """Whether any run of a folder has a rescued trace; a damaged run counts for nothing here."""
    try:
        return any(one.origin == RESCUED for one in read_candidates([folder])[0])
    except UserError:
        return False


def _job_of(folder: Path | None, jobs: Sequence[Job]) -> Job | None:
    return next((job for job in jobs if folder and Path(job.about) == folder.absolute()), None)


def _words(folder: Path, jobs: Sequence[Job]) -> str:
    """A training in the list: its name, and how its job stands."""
    job = _job_of(folder, jobs)
    return folder.name if job is None or job.state.value == "done" else f"{folder.name} ({job.state.value})"


def _config(folder: Path | None) -> files.TrainingConfig | None:
    try:
        return files.read_config(folder) if folder else None
    except UserError:
        return None


def _mark(folder: Path) -> str:
    """Another one whenever the curves are others."""
    names = (files.TRAINING_FILE, files.METRICS_FILE, files.HELD_OUT_FILE)
    paths = [*(folder / name for name in names), *(path for _, path in files.completion_files(folder)[-1:])]
    return mark_of(paths)
