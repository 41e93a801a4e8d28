"""What a published comparison leaves to whoever goes on with it, perhaps on another machine: its hunt without the
vectors (a training reads token ids, and leaks follow from the steps' vertices), and of every seed the evaluation and
what its training had. So seeds can be added to a report without its hours of hunting.

On another machine rounding differs, so a later seed's rollouts are not those that the first machine would have drawn:
that is one more seed. Other problems, or another number of updates or continuations, would be more than that and are
refused; evaluations are in the report's number format whatever the machine would choose.

What it does not do: run anything (`claim.py`), or count (`claim_report.py`).
"""

from __future__ import annotations

import io
import json
import lzma
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.hunt import HUNT_FILE, read_config, read_results
from explorer.records import ModelInfo, Record
from explorer.store import TRACE_FILE, find_runs
from explorer.training.evaluate import EVALUATION_FILE, SPACED, Evaluation, unrelated_set

REPORT_FILE, HUNT_ARCHIVE = "claim.json", "hunt.tar.xz"
# In a comparison that goes on with a report: what each training had that was not run here.
FACTS_FILE, TAKEN_FILE = "facts.json", "taken.json"
SETTINGS_FILE = "settings.json"
MAX_ENTRIES, MAX_BYTES = 10_000, 2_000_000_000
SCHEMA_VERSION = 2


class Facts(Record):
    """What one training had and took. `equal_rewards` is the mean share of an update's groups whose rewards were all
    equal, `rescued_members` how many rescued traces entered; None where there are no groups."""

    updates: int
    batch: int
    learning_rate: float
    own_rows: int
    rescued_rows: int
    seconds: float
    peak_memory_bytes: int
    equal_rewards: float | None = None
    rescued_members: float | None = None


class Seed(Record):
    """A training and its evaluation."""

    evaluation: Evaluation
    training: Facts


class Settings(Record):
    """What every arm shares."""

    updates: int
    samples: int
    max_leak: float
    per_problem: int
    zvp_alpha: float


class Published(Record):
    """What a report's `claim.json` must hold to be gone on with."""

    schema_version: Literal[2]
    settings: Settings
    base: Evaluation
    runs: dict[str, dict[int, Seed]]


def pack_hunt(hunt: Path, target: Path) -> None:
    """A comparison's hunt in one file: settings, results and traces; the same bytes for the same hunt."""
    config = read_config(hunt)
    # The file's name: where it lay on this machine is of no use to others.
    config = config.model_copy(update={"problems": Path(config.problems).name})
    contents = {HUNT_FILE: config.model_dump_json(indent=1).encode()}
    contents |= {path.name: path.read_bytes() for path in sorted(hunt.glob("results-*.jsonl"))}
    for folder in find_runs(hunt):
        contents[f"{folder.name}/{TRACE_FILE}"] = (folder / TRACE_FILE).read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"hunt/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    write_atomic(target, packed.getvalue())


def take(
    report: Path,
    out: Path,
    arms: Sequence[str],
    questions: tuple[Sequence[str], Sequence[str]],
    settings: Settings,
) -> None:
    """Lay out a report's hunt, base and seeds in a new folder, as if they had been run there: all of it, or nothing.

    Args:
        report: the report's folder.
        out: the comparison's folder, which is not there yet, or empty.
        arms: the ways of training that there are.
        questions: of the training problems and of the held-out ones, as this version makes them.
        settings: what is asked for now.

    Raises:
        UserError: there is no such report, it is damaged, of another version, of other problems or of other settings,
            or the folder is in use.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} holds something already: choose another --out, or leave --earlier out to go on there.")
    published = read_published(report)
    unknown = sorted(published.runs.keys() - set(arms))
    if unknown:
        raise UserError(f"That report has a way of training that this version does not know: {unknown[0]!r:.60}.")
    for name, kept in published.settings.model_dump().items():
        if kept != (value := getattr(settings, name)):
            raise UserError(f"That report has {name.replace('_', ' ')} {kept:g}, not {value:g}: ask for the same.")
    if published.base.unrelated_set.removesuffix(SPACED) != unrelated_set():
        raise UserError("That report asked other unrelated questions than this version does: begin a comparison anew.")
    staging = out.with_name(f".{out.name}.taking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        unpack_hunt(report / HUNT_ARCHIVE, staging)
        hunted = {result.question for result in read_results(staging / "hunt")}
        held_out = set(published.base.questions.values())
        for mine, theirs in ((set(questions[0]), hunted), (set(questions[1]), held_out)):
            if mine != theirs:
                raise UserError("That report is of other problems than this version makes: begin a comparison anew.")
        _keep(staging / "evaluations" / "base", published.base)
        for arm, seeds in published.runs.items():
            for seed, run in seeds.items():
                _keep(staging / "evaluations" / f"{arm}-{seed}", run.evaluation)
                write_atomic(staging / f"{arm}-{seed}" / FACTS_FILE, run.training.model_dump_json().encode())
        taken = {arm: sorted(seeds) for arm, seeds in published.runs.items()}
        write_atomic(staging / TAKEN_FILE, json.dumps(taken).encode())
        write_atomic(staging / SETTINGS_FILE, published.settings.model_dump_json(indent=1).encode())
        if out.exists():
            out.rmdir()
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_published(report: Path) -> Published:
    """A report's figures, as far as others go on with them.

    Raises:
        UserError: none there, damaged, or of another version.
    """
    path = report / REPORT_FILE
    try:
        content = json.loads(path.read_bytes())
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(f"{path} is of version {version!r:.20}, not {SCHEMA_VERSION}: it can't be gone on with.")
        return Published.model_validate(content)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no {REPORT_FILE} in {report}: choose a report's folder.") from None
    except (AttributeError, ValueError):
        raise UserError(f"{path} is damaged: use a whole copy of it.") from None


def unpack_hunt(archive: Path, target: Path) -> None:
    """A packed hunt into a folder, as `hunt` there.

    Raises:
        UserError: there is none, it is damaged, or it holds something else.
    """
    damaged = UserError(f"{archive} is damaged, or holds something else than a hunt: use a whole copy of it.")
    try:
        with tarfile.open(archive, mode="r:xz") as packed:
            size = 0
            for count, entry in enumerate(packed):
                size += entry.size
                if count >= MAX_ENTRIES or size > MAX_BYTES or not entry.isfile() or not entry.name.startswith("hunt/"):
                    raise damaged
                place = PurePosixPath(entry.name)
                if ".." in place.parts or place.is_absolute():
                    raise damaged
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                (target / place).write_bytes(packed.extractfile(entry).read())
    except FileNotFoundError:
        raise UserError(f"There is no {archive.name} in {archive.parent}: use a whole copy of the report.") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError):
        raise damaged from None
    try:
        find_runs(target / "hunt")
        read_config(target / "hunt")
    except UserError:
        raise damaged from None


def _keep(folder: Path, evaluation: Evaluation) -> None:
    write_atomic(folder / EVALUATION_FILE, evaluation.model_dump_json(indent=1).encode())


def read_facts(folder: Path) -> Facts | None:
    """What a training had that an earlier report tells of; None where it was run here.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return Facts.model_validate_json((folder / FACTS_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(f"{folder / FACTS_FILE} is damaged: begin anew with --earlier in another folder.") from error


def without_places(evaluation: Evaluation, model: str, questions: bool) -> Evaluation:
    """An evaluation as a report keeps it: with no path of this machine; the questions, which are all evaluations'
    alike, with one of them alone."""
    info: ModelInfo = evaluation.model.model_copy(update={"id": model})
    changed = {"model": info, "problems": Path(evaluation.problems).name, "against": None}
    return evaluation.model_copy(update=changed if questions else {**changed, "questions": {}})
