"""What the hunt's screen does: plans, starts, stops and reads hunts. They run in processes of their own and lie on
disk, so nothing here belongs to one page: whoever opens the screen sees the same.

What it does not do: lay out anything, or run a model.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from explorer.audit_verdict import conclude
from explorer.auditing import AUDIT_FILE
from explorer.errors import UserError, describe
from explorer.files import mark_of, modified_ns
from explorer.hunt import HUNT_FILE, ProblemResult, read_config, read_results
from explorer.hunt_request import (
    audit_command,
    find_hunts,
    hunt_command,
    hunt_folder,
    hunts_root,
    jobs_root,
    new_hunt,
    read_request,
    set_name,
    take_in,
    written,
)
from explorer.hunt_time import Speed, speed_of
from explorer.jobs import Job, Jobs, JobState, shown_command
from explorer.problem_sets import DATASET, GYM, Found, problem_set, unit
from explorer.problems import load_bank
from explorer.recorded import recorded_runs
from explorer.settings import Settings
from explorer.store import find_runs, load_run, run_folder
from explorer.ui.models import ModelHost
from explorer.views.hunt import form_payload, plan_payload, status_payload, table_payload
from explorer.vllm_rollouts import installed

Values = Mapping[str, object]
Payload = dict[str, Any]
# Runs whose times make an estimate.
TIMED = 12


class Hunts:
    """The hunts in the folder of runs, and the jobs that do them."""

    def __init__(self, host: ModelHost, runs_dir: Path):
        self.host, self.runs_dir = host, runs_dir
        self.jobs = Jobs(jobs_root(runs_dir))
        self._beat = itertools.count(1)
        self._concluded: dict[Path, tuple[int, str]] = {}
        self._timed: dict[tuple[Path, int], Speed | None] = {}

    # -- asking ------------------------------------------------------------------------------------

    def form(self) -> Payload:
        """What may be asked for."""
        families = Counter(problem.family for problem in load_bank())
        return form_payload(dict(families), find_spec("reasoning_gym") is not None, vllm=installed())

    def plan(self, values: Values, model_name: str, ticket: int = 0) -> Payload:
        """What a request amounts to: its command, its bad rows, how long it may take. Runs nothing."""
        asked = str(values.get("problems", ""))
        try:
            request = read_request(values)
            name = set_name(asked, self.runs_dir)
            folder = new_hunt(self.runs_dir, request)
            command = shown_command(hunt_command(request, name, folder, model_options(self.host.settings, model_name)))
            found, bad = None, ()
            if not asked.startswith((DATASET, GYM)):
                problems, bad = _found(name)
                found = len(problems)
            speed, measured_on = self._speed(model_name)
        except Exception as error:
            return plan_payload(ticket=ticket, error=describe(error))
        plan = plan_payload(
            request,
            ticket=ticket,
            hunt=folder.name,
            command=command,
            found=found,
            bad=bad,
            unit=unit(name),
            speed=speed,
            measured_on=measured_on,
        )
        try:  # whatever else there is to say: what a visitor can do is take the command
            self.host.settings.need_private("start hunts")
        except UserError as error:
            plan["blocked"] = describe(error)
        return plan

    def start(self, values: Values, model_name: str, name: str = "") -> str:
        """Begin a hunt under the name that its plan gave it; returns the name. Raises `UserError`."""
        self.host.settings.need_private("start hunts")
        plan = self.plan(values, model_name)
        if plan["blocked"]:
            raise UserError(plan["blocked"])
        request = read_request(values)
        folder = run_folder(hunts_root(self.runs_dir), name) if name else new_hunt(self.runs_dir, request)
        if folder.exists():
            folder = new_hunt(self.runs_dir, request)
        command = hunt_command(
            request, set_name(request.problems, self.runs_dir), folder, model_options(self.host.settings, model_name)
        )
        self.jobs.start("hunt", f"Hunt {folder.name}", command, folder.absolute())
        return folder.name

    def take_in(self, path: Path, name: str) -> str:
        """Keep a problem file; returns its name among the sets."""
        self.host.settings.need_private("keep files")
        return take_in(path, name, self.runs_dir)

    def _speed(self, model_name: str) -> tuple[Speed | None, str]:
        """How fast this model was here: in the newest hunt that it did, else in the recorded runs."""
        model = self.host.loading(model_name).model
        recorded = [run.trace for run in recorded_runs()]
        model_id = model.info.id if model else recorded[0].model.id if recorded and model_name == "default" else ""
        for folder in find_hunts(self.runs_dir).values():
            try:
                if read_config(folder).model.id != model_id:
                    continue
                runs = find_runs(folder)[:TIMED]
                if (folder, len(runs)) not in self._timed:
                    traces = [load_run(run, with_trajectory=False)[0] for run in runs]
                    self._timed[folder, len(runs)] = speed_of(traces)
            except UserError:
                continue
            speed = self._timed[folder, len(runs)]
            if speed is not None:
                return speed, f"as fast as “{folder.name}” was"
        speed = speed_of([trace for trace in recorded if trace.model.id == model_id])
        return speed, "at the speed of the recorded runs (two CPU cores)"

    # -- stopping and going on ---------------------------------------------------------------------

    def command(self, what: str, job_id: str) -> None:
        """pause, cancel or resume a job. Raises `UserError`."""
        self.host.settings.need_private("steer jobs")
        steer = {"pause": self.jobs.pause, "cancel": self.jobs.cancel, "resume": self.jobs.go_on}
        if what not in steer:
            raise UserError(f"A hunt can't be told to {what[:20]!r}: reload the page.")
        steer[what](job_id)

    def audit(self, hunt_id: str, model_name: str) -> None:
        """Audit the rescues of a hunt, as a job. Raises `UserError`."""
        self.host.settings.need_private("start audits of hunts")
        folder = hunt_folder(self.runs_dir, hunt_id)
        mine = [job for job in self.jobs.list() if job.kind == "hunt" and Path(job.about) == folder.absolute()]
        model = model_options(self.host.settings, model_name)
        if mine:  # as the hunt was started: its runs are of that model
            asked = mine[0].command
            model = {key: asked[asked.index(f"--{key}") + 1] if f"--{key}" in asked else None for key in model}
        self.jobs.start("audit", f"Audit of {folder.name}", audit_command(folder, model), folder.absolute())

    # -- looking -----------------------------------------------------------------------------------

    def look(self, asked: str | None, seen: str = "") -> tuple[Payload, Payload | None]:
        """Where a hunt stands, and its table if that is another than the one seen.

        Args:
            asked: the hunt's name; None, or one that is gone, takes the one that runs, else the newest.
            seen: the mark of the table that the page has.
        """
        jobs = self.jobs.list()
        running = next((job for job in jobs if job.alive), None)
        hunts = find_hunts(self.runs_dir)
        newest = next((job for job in jobs if job.kind == "hunt"), None)
        if newest and Path(newest.about).name not in hunts:  # while its process loads its model it has no folder yet
            hunts = {Path(newest.about).name: Path(newest.about), **hunts}
        at_work = Path(running.about).name if running else None
        shown = asked if asked in hunts else at_work if at_work in hunts else next(iter(hunts), None)
        folder = hunts.get(shown)
        job = _job_of(folder, jobs) if folder else None
        results = read_results(folder) if folder else []
        mark = f"{shown}/{self._mark(folder, job)}" if folder else ""
        status = status_payload(
            [(name, self._words(path, jobs)) for name, path in hunts.items()],
            shown,
            job,
            _progress_files(folder),
            other=running if running and (job is None or running.id != job.id) else None,
            other_hunt=at_work,
            unfinished=_unfinished_hunt(job, folder, jobs) if folder else None,
            rows=len(results),
            mark=mark,
            beat=next(self._beat),
        )
        if not folder or mark == seen:
            return status, None
        try:
            config = read_config(folder)
        except UserError:  # not written yet, or damaged, and then the list says so
            return status, {"hunt": shown, "mark": mark, "rows": [], "families": []}
        newest = next(iter(_about(folder, jobs)), None)
        return status, table_payload(shown, results, config, self._findings(folder, results, newest), mark)

    def _words(self, folder: Path, jobs: Sequence[Job]) -> str:
        """A hunt in the list: its name, and how its job stands."""
        job = _job_of(folder, jobs)
        if (folder / HUNT_FILE).exists() and not _readable(folder):
            return f"{folder.name} ({HUNT_FILE} is damaged)"
        return folder.name if job is None or job.state.value == "done" else f"{folder.name} ({job.state.value})"

    @staticmethod
    def _mark(folder: Path, job: Job | None) -> str:
        """Another one whenever results or findings are others."""
        files = [*sorted(folder.glob("results-*.jsonl")), folder / HUNT_FILE, folder / AUDIT_FILE]
        auditing = job is not None and job.kind == "audit" and job.alive
        files += folder.glob("*/trace.json") if auditing else ()
        return mark_of(files)

    def _findings(self, folder: Path, results: Sequence[ProblemResult], job: Job | None) -> dict[str, str]:
        """What audits concluded, by run: of the last whole audit, and of one that is under way."""
        found: dict[str, str] = {}
        try:
            audits = json.loads((folder / AUDIT_FILE).read_bytes())["runs"]
            found = {str(one["run"]): str(one["finding"]) for one in audits}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        if job is None or job.kind != "audit":
            return found
        for run in (item.run for result in results for item in result.revised):
            path = folder / run / "trace.json"
            changed, (known, finding) = modified_ns(path), self._concluded.get(path, (0, ""))
            # 0: it is being replaced right now, so what was known of it stands for one look more.
            if changed and changed < job.created_at * 1e9:
                continue
            if changed and changed != known:
                trace, _ = load_run(folder / run, with_trajectory=False)
                audit = conclude(trace) if trace.leaks is not None else None  # leaks come last: it is whole
                finding = audit.finding.value if audit else ""
                self._concluded[path] = changed, finding
            if finding:
                found[run] = finding
        return found


def _about(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if Path(job.about) == folder.absolute()]


def _job_of(folder: Path, jobs: Sequence[Job]) -> Job | None:
    """The job by which a hunt's folder is steered, of the jobs newest first: the one that runs, else the newest. An
    audit that is over does not stand before a hunt that is not: the hunt could not be gone on with."""
    mine = _about(folder, jobs)
    job = next((job for job in mine if job.alive), next(iter(mine), None))
    if job is not None and job.kind == "audit" and job.state in (JobState.DONE, JobState.CANCELLED):
        own = next((job for job in mine if job.kind == "hunt"), job)
        return job if own.state is JobState.DONE else own
    return job


def _unfinished_hunt(job: Job | None, folder: Path, jobs: Sequence[Job]) -> Job | None:
    """The hunt's own job, where an audit that broke off is on show and the hunt is not finished."""
    if job is None or job.kind != "audit" or job.alive:
        return None
    own = next((job for job in _about(folder, jobs) if job.kind == "hunt"), None)
    return own if own is not None and own.state is not JobState.DONE else None


def written_model(name: str) -> str:
    """A model's name for a command, which runs in the project's folder. Raises `UserError`."""
    if name.startswith("-"):
        raise UserError("A model's name can't begin with a dash.")
    local = Path(name).expanduser()
    return written(local) if local.is_dir() else name


def model_options(settings: Settings, name: str) -> dict[str, str | None]:
    """Model, dtype and device for a command; what is the default anyway is None."""
    chosen = {"model": written_model(name), "dtype": settings.dtype, "device": settings.device}
    return {key: None if value in ("default", "auto") else value for key, value in chosen.items()}


def _readable(folder: Path) -> bool:
    try:
        read_config(folder)
    except UserError:
        return False
    return True


@lru_cache(maxsize=4)
def _found(name: str) -> Found:
    """The set of a name that never means something else: a brought file is named by its content."""
    return problem_set(name)


def _progress_files(folder: Path | None) -> list[dict]:
    """What the hunt's processes wrote down last; a file that is none is passed over."""
    found = []
    for file in sorted(folder.glob("progress-*.json")) if folder else ():
        try:
            content = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
