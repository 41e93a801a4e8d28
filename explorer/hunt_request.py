"""A hunt as a person asks for it on the page: the handful of settings that matter, checked, as the command that does
it; and where hunts, their jobs and the problem files that people brought lie.

What it does not do: start anything (`jobs.py`), hunt (`hunting.py`).
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from explorer.errors import UserError
from explorer.files import modified_ns, write_atomic
from explorer.hunt import HUNT_FILE
from explorer.jobs import PROJECT_ROOT
from explorer.problem_sets import DATASET, GYM
from explorer.problems import MAX_FILE_BYTES, load_bank
from explorer.records import Hull, Record, RevisionConfig, SamplingConfig
from explorer.store import run_folder

_S, _R = SamplingConfig(), RevisionConfig()
FILE = "file:"
FILE_KINDS = (".jsonl", ".ndjson", ".csv", ".parquet")
_STORED = re.compile(r"[A-Za-z0-9-]{1,50}\.(?:jsonl|ndjson|csv|parquet)")
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?(?::[\w.\-\[\]%:]{1,60})?")
_TASK = re.compile(r"[a-z][a-z0-9_]{0,60}")


class HuntRequest(Record):
    """What the page's form holds; every other setting is the command's default. `limit` None takes the whole set."""

    problems: str = "bank"
    rollouts: int = Field(16, ge=1, le=1024)
    temperature: float = Field(_S.temperature, ge=0, le=5)
    max_new_tokens: int = Field(_S.max_new_tokens, ge=1, le=8192)
    seed: int = Field(_S.seed, ge=0, lt=2**63)
    more: int = Field(1, ge=1, le=64)
    failed: int = Field(1, ge=0, le=64)
    samples: int = Field(8, ge=1, le=1024)
    split: Literal["auto", "fixed", "fraction", "first-error", "before-answer"] = "auto"
    steps: int = Field(_R.steps, ge=1, le=200)
    step_size: float = Field(_R.step_size, gt=0, le=1)
    away_weight: float = Field(_R.away_weight, ge=0, le=10)
    connector: str = Field(_R.connector, max_length=80)
    hull: Hull = _R.hull
    engine: Literal["own", "batch", "vllm"] = "own"
    limit: int | None = Field(None, ge=1)
    skip_bad: bool = False


# How a complaint names a field.
NAMES = {
    "rollouts": "N, rollouts",
    "max_new_tokens": "Longest rollout",
    "more": "Draw on to",
    "failed": "Rollouts revised",
    "samples": "n, continuations",
    "steps": "K, steps",
    "step_size": "γ, step size",
    "away_weight": "λ, away weight",
    "connector": "Words before the answer",
    "engine": "Who draws the rollouts",
    "limit": "Only the first",
}


def read_request(values: Mapping[str, object]) -> HuntRequest:
    """The request in the values of a form; whatever else is in there is left out. Raises `UserError`."""
    given = {name: values[name] for name in HuntRequest.model_fields if values.get(name) not in (None, "")}
    try:
        request = HuntRequest(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        said = NAMES.get(name, name.capitalize())
        raise UserError(f"{said} can't be {str(first['input'])[:40]!r}: {first['msg'].lower()}.") from error
    if request.rollouts * request.more > 1_024:
        raise UserError("N times what zero-hit prompts are drawn on to is more than 1,024: lower N.")
    return request


# -- places ----------------------------------------------------------------------------------------


def hunts_root(runs_dir: Path) -> Path:
    """Where the page's hunts lie, one folder each."""
    return runs_dir / "hunts"


def jobs_root(runs_dir: Path) -> Path:
    """Where the registry of jobs lies."""
    return runs_dir / "jobs"


def find_hunts(runs_dir: Path) -> dict[str, Path]:
    """Hunts by name, newest first: those of the page, and others that lie right in the folder of runs."""
    found: dict[str, Path] = {}
    for root in (runs_dir, hunts_root(runs_dir)):
        for file in root.glob(f"*/{HUNT_FILE}"):
            if not file.parent.name.startswith("."):
                found[file.parent.name] = file.parent
    return dict(sorted(found.items(), key=lambda item: modified_ns(item[1] / HUNT_FILE), reverse=True))


def hunt_folder(runs_dir: Path, hunt_id: str) -> Path:
    """A hunt's folder. Raises `UserError` for a name that is none, or could leave the folder of runs."""
    for root in (hunts_root(runs_dir), runs_dir):
        folder = run_folder(root, hunt_id)
        if (folder / HUNT_FILE).is_file():
            return folder
    raise UserError(f"There is no hunt {hunt_id}: its folder was removed.")


def run_id(hunt_id: str, run: str) -> str:
    """The name by which a hunt's run is opened on the page; a run's folder has no dot in its name, a hunt's may."""
    return f"{hunt_id}.{run}"


def run_of_hunt(runs_dir: Path, name: str) -> Path | None:
    """The folder of a run by the name that `run_id` gave; None where the name is none of these, or nothing is there."""
    hunt_id, dot, run = name.rpartition(".")
    if not dot:
        return None
    try:
        folder = run_folder(hunt_folder(runs_dir, hunt_id), run)
    except UserError:
        return None
    return folder if folder.is_dir() else None


def new_hunt(runs_dir: Path, request: HuntRequest) -> Path:
    """A folder for a hunt that is not there yet: its name tells when and what."""
    what = re.sub(r"[^A-Za-z0-9]+", "-", request.problems.removeprefix(FILE).rsplit(".", 1)[0]).strip("-")[:28]
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{what or 'hunt'}"
    folder, again = hunts_root(runs_dir) / name, 1
    while folder.exists():
        again += 1
        folder = hunts_root(runs_dir) / f"{name}-{again}"
    return folder


# -- problem sets ----------------------------------------------------------------------------------


def take_in(path: Path, shown_name: str, runs_dir: Path) -> str:
    """Keep a problem file that somebody brought: a hunt that goes on tomorrow must find it where it was.

    Returns:
        its name among the sets, `file:NAME`; the same content under the same name is kept once.

    Raises:
        UserError: it is too large, or no kind of problem file.
    """
    kind = Path(shown_name).suffix.lower()
    if kind not in FILE_KINDS:
        raise UserError(f"A problem file ends in {', '.join(FILE_KINDS)}: save it as one of these.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"This file is larger than {MAX_FILE_BYTES // 10**6} MB: split it into smaller ones.")
    content = path.read_bytes()
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(shown_name).stem).strip("-")[:32] or "problems"
    name = f"{stem}-{hashlib.sha256(content).hexdigest()[:10]}{kind}"
    target = runs_dir / "problem-sets" / name
    if not target.exists():
        write_atomic(target, content)
    return f"{FILE}{name}"


def set_name(asked: str, runs_dir: Path) -> str:
    """What `--problems` is given for a set that was chosen on the page: never a path that a visitor made up.

    Raises:
        UserError: it is none that the page offers.
    """
    if asked == "bank" or asked in {problem.family for problem in load_bank()}:
        return asked
    kind = next((kind for kind in (FILE, DATASET, GYM) if asked.startswith(kind)), "")
    name = asked.removeprefix(kind)
    if kind == FILE and _STORED.fullmatch(name):
        path = runs_dir / "problem-sets" / name
        if path.is_file():
            return written(path)
        raise UserError("That file is no longer here: choose it again.")
    if kind == DATASET and _DATASET.fullmatch(name):
        return asked
    if kind == GYM and _TASK.fullmatch(name):
        return asked
    if kind == DATASET:
        raise UserError("A dataset is named as on the hub: owner/name, and a split after a colon (openai/gsm8k:test).")
    if kind == GYM:
        raise UserError("A task of reasoning-gym is one word: chain_sum, basic_arithmetic, …")
    raise UserError("Choose a problem set first.")


# -- commands --------------------------------------------------------------------------------------


def hunt_command(request: HuntRequest, problems: str, out: Path, model: Mapping[str, str | None]) -> list[str]:
    """The command that does it, its defaults left out."""
    plain = HuntRequest()
    arguments = ["hunt", "--problems", problems, "--out", written(out)]
    for name in HuntRequest.model_fields:
        value = getattr(request, name)
        # N and n always stand there: the command's own defaults for them are others.
        if name in ("problems", "skip_bad") or (value == getattr(plain, name) and name not in ("rollouts", "samples")):
            continue
        # With an equals sign a connector may begin with a dash.
        shown = f"{value:g}" if isinstance(value, float) else str(value).replace("\n", "\\n")
        option = f"--{name.replace('_', '-')}"
        arguments += [f"{option}={shown}"] if name == "connector" else [option, shown]
    if request.skip_bad:
        arguments.append("--skip-bad")
    return explorer_command(arguments, model)


def audit_command(folder: Path, model: Mapping[str, str | None]) -> list[str]:
    """The command that audits a hunt's rescues."""
    return explorer_command(["audit", written(folder)], model)


def explorer_command(arguments: list[str], model: Mapping[str, str | None]) -> list[str]:
    """One of our verbs with this interpreter, and the model's settings that are not None.

    Raises:
        UserError: a model's name that would be read as an option.
    """
    chosen = {name: value for name, value in model.items() if value is not None}
    if any(value.startswith("-") for value in chosen.values()):
        raise UserError("A model's name can't begin with a dash.")
    more = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "explorer", *arguments, *more]


def written(path: Path) -> str:
    """A path as seen from the project's folder, where commands run."""
    path = path.absolute()
    return str(path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path)
