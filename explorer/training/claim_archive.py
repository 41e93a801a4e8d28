"""What a published comparison leaves to whoever goes on with it, perhaps on another machine: its hunt without the
vectors (a training reads token ids, and leaks follow from the steps' vertices), and of every seed the evaluation and
what its training had. So seeds can be added to a report without its hours of hunting.

On another machine rounding differs, so rollouts of a later seed are not those that the first machine would have drawn;
that is no more than another seed.

What it does not do: run anything (`claim.py`), or count (`claim_report.py`).
"""

from __future__ import annotations

import io
import json
import lzma
import shutil
import tarfile
from pathlib import Path

from pydantic import ValidationError

from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.hunt import HUNT_FILE, read_config
from explorer.store import TRACE_FILE, find_runs
from explorer.training.evaluate import EVALUATION_FILE, Evaluation

HUNT_ARCHIVE = "hunt.tar.xz"
# Beside a comparison's own trainings: what one had that was not run here, and that the hunt and the base were not.
FACTS_FILE, TAKEN_FILE = "facts.json", "taken.json"
STAGING = ".taking"


def pack_hunt(hunt: Path, target: Path) -> None:
    """A hunt's settings, results and traces in one file, the same bytes for the same hunt."""
    config = read_config(hunt)
    # The file's name: where it lay on this machine is of no use to others.
    config = config.model_copy(update={"problems": Path(config.problems).name})
    contents = {HUNT_FILE: config.model_dump_json(indent=1).encode()}
    contents |= {path.name: path.read_bytes() for path in sorted(hunt.glob("results-*.jsonl"))}
    for folder in find_runs(hunt):
        contents[f"{folder.name}/{TRACE_FILE}"] = (folder / TRACE_FILE).read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"hunt/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    write_atomic(target, packed.getvalue())


def take(report: Path, out: Path) -> None:
    """Lay out a report's hunt, base and seeds in a comparison's folder, as if they had been run there; nothing if that
    was done before.

    Raises:
        UserError: there is no such report, one of its files is damaged, or the folder holds a comparison of its own.
    """
    if (out / TAKEN_FILE).exists():
        return
    if (out / "hunt").exists() or (out / "evaluations").exists():
        raise UserError(f"{out} holds a comparison already: go on with that one, or choose another --out.")
    name = "claim.json"
    try:
        figures = json.loads((report / name).read_bytes())
        runs = {
            f"{arm}-{seed}": (Evaluation.model_validate(run["evaluation"]), dict(run["training"]))
            for arm, seeds in figures["runs"].items()
            for seed, run in seeds.items()
        }
        base = Evaluation.model_validate(figures["base"])
        name = HUNT_ARCHIVE
        with tarfile.open(report / HUNT_ARCHIVE, mode="r:xz") as archive:
            shutil.rmtree(out / STAGING, ignore_errors=True)
            archive.extractall(out / STAGING, filter="data")
    except FileNotFoundError:
        raise UserError(
            f"There is no {name} in {report}: choose a report's folder, such as assets/claim, that holds one."
        ) from None
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        ValidationError,
        tarfile.TarError,
        lzma.LZMAError,
        EOFError,
    ):
        raise UserError(f"{report / name} is damaged, or of another version: use a whole copy of it.") from None
    _keep(out / "evaluations" / "base", base)
    for place, (evaluation, facts) in runs.items():
        _keep(out / "evaluations" / place, evaluation)
        (out / place).mkdir(exist_ok=True)
        write_atomic(out / place / FACTS_FILE, json.dumps(facts).encode())
    (out / STAGING / "hunt").rename(out / "hunt")
    (out / STAGING).rmdir()
    write_atomic(out / TAKEN_FILE, json.dumps({"seeds": sorted(runs)}).encode())


def _keep(folder: Path, evaluation: Evaluation) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / EVALUATION_FILE, evaluation.model_dump_json(indent=1).encode())


def published(evaluation: Evaluation, name: str) -> dict:
    """An evaluation as a report keeps it: with no path of this machine, and without the questions, which are all
    evaluations' alike and follow from the seed."""
    model = evaluation.model.model_copy(update={"id": name})
    kept = {"model": model, "problems": Path(evaluation.problems).name, "questions": {}, "against": None}
    return evaluation.model_copy(update=kept).model_dump(mode="json")
