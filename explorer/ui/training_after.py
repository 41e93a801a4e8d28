"""What comes of a training: its model beside its parent, both measured on the same problems, and what it sampled last.

Evaluations are jobs of their own; their folders are named by the model and by how it was measured, so that two
trainings of one parent share the parent's.

What it does not do: evaluate (`training/evaluate.py`), lay out anything.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from explorer.errors import UserError
from explorer.hunt_request import FILE, set_name, written
from explorer.jobs import Job, Jobs
from explorer.sources import DEFAULT_MODEL, loads_as
from explorer.statistics import wilson_interval
from explorer.store import run_folder
from explorer.training import folder as files
from explorer.training.command import evaluate_command
from explorer.training.evaluate import (
    EVALUATION_FILE,
    Evaluation,
    compare,
    dearer,
    mean_rate,
    nats,
    points,
    read_evaluation,
    same_problems,
    unrelated_difference,
)
from explorer.ui.models import ModelHost
from explorer.views.hunt import SAID
from explorer.views.train import count_words
from explorer.views.train_progress import after_payload, side_payload

Payload = dict[str, Any]
PARENT, TRAINED = "parent", "trained"
LIMITS = {"rollouts": (1, 256), "limit": (1, 100_000)}
# Evaluations whose figures are kept.
KEPT = 32
# Rows of the last sampled completions that are shown.
SAMPLED = 16


class After:
    """Finished trainings: their models, and evaluations of these and of their parents."""

    def __init__(self, host: ModelHost, runs_dir: Path, jobs: Jobs):
        self.host, self.runs_dir, self.jobs = host, runs_dir, jobs
        self._measured: dict[tuple, tuple[list[Payload], str, str]] = {}

    @property
    def root(self) -> Path:
        """Where evaluations lie."""
        return self.runs_dir / "evaluations"

    def training_of(self, job: Job) -> str | None:
        """The training that a job is about; None for a hunt's, or an evaluation of a parent."""
        name = Path(job.about).name
        if job.kind == "train":
            return name
        return name.rpartition("--")[0] if job.kind == "evaluate" and not name.startswith("of-") else None

    def model_folder(self, training: str) -> Path:
        """The trained model's folder. Raises `UserError` while there is none."""
        folder = run_folder(self.runs_dir / "trainings", training)
        if not files.finished(folder):
            raise UserError("This training has no model yet: it is kept when the last update is done.")
        return (folder / files.MODEL).absolute()

    def parent(self, config: files.TrainingConfig) -> str:
        """The name by which a training's parent is loaded: the app's own model where it is that one."""
        own = self.host.settings.model
        model = self.host.loading(own).model
        # An adapter leaves the embeddings as they were: the name must be the same too.
        known = own in ("default", DEFAULT_MODEL)
        if model:
            known = (model.info.id, model.info.fingerprint) == (config.model.id, config.model.fingerprint)
        if known and (model or (config.model.id == DEFAULT_MODEL and config.model.source != "wheel")):
            return own
        return config.model_path or loads_as(config.model.id, config.model.source)

    def pair(self, training: str) -> tuple[str, str]:
        """Names by which a trained model and its parent are loaded. Raises `UserError` while there is no model."""
        model = self.model_folder(training)
        return str(model), self.parent(files.read_config(model.parent))

    def parent_of(self, model_name: str) -> str:
        """The id of a model's parent where its name is the folder of a trained one; empty where it is not."""
        folder = Path(model_name)
        if folder.name != files.MODEL or folder.parent.parent != (self.runs_dir / "trainings").absolute():
            return ""
        try:
            return files.read_config(folder.parent).model.id
        except UserError:
            return ""

    # -- measuring ---------------------------------------------------------------------------------

    def evaluate(self, training: str, side: str, asked: Mapping[str, object]) -> None:
        """Measure a trained model, or its parent, as a job.

        Args:
            training: its name.
            side: parent or trained.
            asked: problems, rollouts and limit as the page has them.

        Raises:
            UserError: no model yet, a bad value, another job runs, or the page is a public one.
        """
        self.host.settings.need_private("evaluate models")
        model = str(self.model_folder(training))
        config = files.read_config(run_folder(self.runs_dir / "trainings", training))
        numbers = {}
        for name, (least, most) in LIMITS.items():
            value = asked.get(name)
            if value in (None, "") and name == "limit":
                continue
            if not isinstance(value, int) or not least <= value <= most:
                said = {"rollouts": "N, rollouts", "limit": "Only the first"}[name]
                raise UserError(f"{said} can't be {str(value)[:20]!r}: use a whole number from {least} to {most:,}.")
            numbers[name] = value
        problems = set_name(str(asked.get("problems") or "bank"), self.runs_dir)
        how = f"{set_slug(problems)}-{numbers['rollouts']}x{numbers.get('limit', 'all')}"
        folder = self.root / f"{training if side == TRAINED else _of(config)}--{how}"
        name = Path(model) if side == TRAINED else Path(self.parent(config)).expanduser()
        chosen = written(name) if name.is_dir() else self.parent(config)
        command = evaluate_command(problems, Path(written(folder)), chosen, numbers["rollouts"])
        if str(asked.get("problems")).startswith(FILE):  # whoever brought it saw its bad rows then
            command.append("--skip-bad")
        if "limit" in numbers:
            command += ["--limit", str(numbers["limit"])]
        for option in ("dtype", "device"):
            if (value := getattr(self.host.settings, option)) != "auto":
                command += [f"--{option}", value]
        whose = f"Evaluation of {training if side == TRAINED else config.model.id}"
        self.jobs.start("evaluate", whose, command, folder.absolute())

    def payload(
        self,
        folder: Path,
        config: files.TrainingConfig,
        jobs: Sequence[Job],
        looks: Sequence[Mapping[str, Any]],
        model_name: str,
        sets: Sequence[Payload],
    ) -> Payload | None:
        """How a finished training does beside its parent; None while it is not finished."""
        if not files.finished(folder):
            return None
        mine, parents = f"{folder.name}--", f"{_of(config)}--"
        # A training may be called as this one is, two dashes and more.
        others = tuple(f"{path.name}--" for path in folder.parent.glob(f"{glob.escape(mine)}*"))

        def ours(name: str) -> bool:
            return name.startswith((mine, parents)) and not name.startswith(others)

        job = next((job for job in jobs if job.kind == "evaluate" and ours(Path(job.about).name)), None)
        found = {path.parent.name: path.parent for path in self.root.glob(f"*/{EVALUATION_FILE}")}
        # Of a name that was cut at a dash this was once kept.
        before = f"{_of(config, '-')}--"
        found |= {parents + name.removeprefix(before): found[name] for name in list(found) if name.startswith(before)}
        ways = [name.removeprefix(mine).removeprefix(parents) for name in found if ours(name)]
        # Those measured both ways come first, the newest of them.
        rank = {way: (mine + way in found) + (parents + way in found) for way in ways}
        newest = {way: max(_changed(found.get(start + way)) for start in (mine, parents)) for way in ways}
        way = max(ways, key=lambda one: (rank[one], newest[one]), default=None)
        measured = [], "", ""
        if way:
            measured = self._measures(folder, config, found.get(parents + way), found.get(mine + way))
        sides, compared, about = measured
        evaluating = None
        if job is not None and job.state.value != "done":
            evaluating = {
                "id": job.id,
                "side": TRAINED if Path(job.about).name.startswith(mine) else PARENT,
                "said": SAID[job.state],
                "state": job.state.value,
                "alive": job.alive,
                "last": job.last_lines[-1].removeprefix("error: ") if job.last_lines else "",
            }
        loaded = ""
        if model_name == str((folder / files.MODEL).absolute()):
            loaded = TRAINED
        elif model_name == self.parent(config):
            loaded = PARENT
        return after_payload(
            config.model.id,
            loaded,
            looks,
            sets,
            state=self.host.loading(model_name).state if loaded else "",
            sides=sides,
            comparison=compared,
            about=about,
            evaluating=evaluating,
        )

    def _measures(
        self, folder: Path, config: files.TrainingConfig, before: Path | None, after: Path | None
    ) -> tuple[list[Payload], str, str]:
        """Both sides, the comparison and what was measured; worked out once for each version of the evaluations, since
        a page asks every second."""
        marks = [_changed(path / EVALUATION_FILE if path else None) for path in (before, after)]
        key = (folder, before, after, *marks, _changed(folder / files.QUESTIONS_FILE))
        if key not in self._measured:
            one, other = _read(before), _read(after)
            trained_on = files.trained_questions(folder)
            sides = [
                side_payload(side, _name(side, folder, config), measures(evaluation, trained_on))
                for side, evaluation in ((PARENT, one), (TRAINED, other))
                if evaluation is not None
            ]
            compared = comparison(one, other, trained_on) if one and other else ""
            while len(self._measured) >= KEPT:
                self._measured.pop(next(iter(self._measured)))
            self._measured[key] = sides, compared, _about(one or other) if one or other else ""
        return self._measured[key]


def measures(one: Evaluation, trained_on: frozenset[str] | None) -> list[tuple[str, float, float, float, str]]:
    """(name, value, low, high, of what) of each rate of an evaluation; problems never trained on stand apart."""
    n = one.sampling.n
    fresh, known = _apart(one, trained_on)
    found = []
    if fresh:
        mean = mean_rate([correct / n for correct in fresh.values()])
        found.append(("pass@1", mean.value, mean.low, mean.high, f"mean of {len(fresh)} problems {_seen(trained_on)}"))
    for name, part in ((f"pass@{n}", fresh), (f"pass@{n}, trained on", known)):
        if part:
            hit = sum(correct > 0 for correct in part.values())
            low, high = wilson_interval(hit, len(part))
            found.append((name, hit / len(part), low, high, f"{hit} of {len(part)} problems hit at least once"))
    for name, count in (("In loops", one.loops), ("Cut off", one.cut_off)):
        if count.n:
            found.append((name, count.x / count.n, count.low, count.high, f"{count.x} of {count.n} rollouts"))
    return found


def _seen(trained_on: frozenset[str] | None) -> str:
    return "(which of them were trained on is not known)" if trained_on is None else "never trained on"


def comparison(parent: Evaluation, trained: Evaluation, trained_on: frozenset[str] | None) -> str:
    """The trained model against its parent, a line for each measure; pass@1 over the problems never trained on."""
    before, after = _apart(parent, trained_on)[0], _apart(trained, trained_on)[0]
    both = before.keys() & after.keys() & same_problems(trained, parent)
    if parent.sampling != trained.sampling:
        return ""
    lines = []
    if both:
        n = parent.sampling.n
        told = compare({name: after[name] for name in both}, {name: before[name] for name in both}, n, parent.model.id)
        by, low, high = (points(value) for value in (told.difference.value, told.difference.low, told.difference.high))
        lines.append(
            f"pass@1 {by} points ({low} to {high}) over {count_words(len(both), 'problem')} {_seen(trained_on)}: "
            f"better on {told.better}, worse on {told.worse} (sign test p = {told.p:.2g}). Zero-hit before and "
            f"hit after: {told.newly_solved.x} of {told.newly_solved.n}; hit before and lost: {told.lost.x} of "
            f"{told.lost.n}."
        )
    lines.append(f"Mean length of all rollouts: {parent.tokens:.0f} tokens before, {trained.tokens:.0f} after.")
    gap = unrelated_difference(trained, parent)
    if gap is not None and parent.unrelated is not None and trained.unrelated is not None:
        lines.append(
            f"Answers to {len(trained.unrelated_each)} unrelated questions of general knowledge: "
            f"{parent.unrelated.value:.2f} nats per token before, {trained.unrelated.value:.2f} after, a "
            f"difference of {nats(gap)}, more is worse: {dearer(gap)}."
        )
    return "\n".join(lines)


def _apart(one: Evaluation, trained_on: frozenset[str] | None) -> tuple[dict[str, int], dict[str, int]]:
    """Correct rollouts by problem: those never trained on, and those that were."""
    known = {name for name in one.correct if one.questions.get(name) in (trained_on or ())}
    fresh = {name: correct for name, correct in one.correct.items() if name not in known}
    return fresh, {name: one.correct[name] for name in one.correct if name in known}


def last_sampled(folder: Path) -> list[dict[str, Any]]:
    """Rows of the completions that were sampled last."""
    found = files.completion_files(folder)
    return list(_rows(found[-1][1])[-SAMPLED:]) if found else []


def _rows(path: Path) -> tuple[dict[str, Any], ...]:
    return _table(path, _changed(path))


@lru_cache(maxsize=256)
def _table(path: Path, changed: float) -> tuple[dict[str, Any], ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_table(path).to_pylist())
    except (OSError, pa.ArrowException):
        return ()  # it is being written


def _changed(path: Path | None) -> float:
    try:
        return path.stat().st_mtime if path else 0.0
    except OSError:
        return 0.0


def _read(folder: Path | None) -> Evaluation | None:
    try:
        return read_evaluation(folder) if folder else None
    except UserError:
        return None


def _about(one: Evaluation) -> str:
    s = one.sampling
    return (
        f"{one.problems}: {len(one.correct)} problems, N = {s.n}, temperature {s.temperature:g}, top-p {s.top_p:g}, at "
        f"most {s.max_new_tokens} tokens, seed {s.seed}. Intervals: 95 %, of counts by Wilson, of pass@1 by bootstrap "
        "over problems (by Wilson where all are alike)."
    )


def _slug(text: str, length: int = 32) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:length].strip("-") or "problems"


def set_slug(problems: str) -> str:
    """A problem set in the name of a folder: the bank and its families as they are called, all others with a few digits
    of their whole name's hash, since two may differ in what a folder's name leaves out."""
    if re.fullmatch(r"[A-Za-z0-9-]{1,32}", problems) and "--" not in problems:
        return problems
    return f"{_slug(Path(problems).stem, 21)}-{hashlib.sha256(problems.encode()).hexdigest()[:10]}"


def _of(config: files.TrainingConfig, cut: str = "") -> str:
    """What a parent's evaluations are called; no training's name begins so, those begin with a date or are refused.
    `cut` is what follows the model's part."""
    return f"of-{_slug(config.model.id)}{cut}-{config.model.fingerprint[:8]}"


def _name(side: str, folder: Path, config: files.TrainingConfig) -> str:
    return f"Parent: {config.model.id}" if side == PARENT else f"Trained: {folder.name}"
