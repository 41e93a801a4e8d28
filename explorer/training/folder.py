"""A training's folder: what was asked, on what, how it goes, what came of it. Everything that a page, a second process
or a later day needs to know lies here; nothing is asked of the process that trains.

```
training.json        what was asked and of which model; a folder holds one training
data.jsonl           the rows, with exact token ids and where each comes from
prompts.jsonl        the problems that groups are sampled of (GRPO), held-out ones of the same set among them
questions.json       all questions that updates see, of rows and of sampled prompts
metrics.jsonl        one line for each logged update: {"update", "seconds" in all, …what the trainer logs}
held-out.jsonl       one line for each look at held-out problems: {"update", "n", "correct", "texts"}
checkpoints/completions/  sampled groups (GRPO), TRL's Parquet files
progress.json        {"state", "update", "updates", "seconds_left", "stage", "at"}
checkpoints/         checkpoint-N, as the trainer leaves them
model/               the trained model, merged, ready for `--model`; last of all, so it is whole or not there
result.json          how it ended
```

What it does not do: train. It imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from explorer.errors import UserError
from explorer.files import modified_ns, write_atomic
from explorer.records import ModelInfo, Problem, Record
from explorer.training.request import TrainRequest
from explorer.training.traces import TraceFilter, TrainingTrace

TRAINING_FILE, DATA_FILE, METRICS_FILE, HELD_OUT_FILE = "training.json", "data.jsonl", "metrics.jsonl", "held-out.jsonl"
PROMPTS_FILE, QUESTIONS_FILE = "prompts.jsonl", "questions.json"
PROGRESS_FILE, RESULT_FILE = "progress.json", "result.json"
CHECKPOINTS, MODEL, COMPLETIONS = "checkpoints", "model", "completions"
_COMPLETION_FILE = re.compile(r"completions_(\d+)\.parquet")
PROGRESS_S = 0.3


class TrainingConfig(Record):
    """`training.json`: what was asked, the model that is trained, the rows by count and hash, the folders that they
    came from by a hash of their places (the same rows may have moved since), the problems by name; `world` is how many
    processes share it, 0 where that was not kept."""

    schema_version: int = 1
    request: TrainRequest
    filter: TraceFilter = TraceFilter()
    model: ModelInfo
    model_path: str = ""
    problems: str = ""
    held_out: str = ""
    rows: int = 0
    rows_sha256: str = ""
    runs_sha256: str = ""
    tool_version: str = ""
    world: int = 0


def write_config(folder: Path, config: TrainingConfig) -> None:
    """Write `training.json`, or find that the same one is there.

    Raises:
        UserError: the folder holds another training, or something else.
    """
    path = folder / TRAINING_FILE
    if path.exists():
        need_same(folder, config)
        return
    # What begins with a dot was left by a process that was killed while it wrote this very file.
    if folder.exists() and (not folder.is_dir() or any(not item.name.startswith(".") for item in folder.iterdir())):
        raise UserError(f"{folder} is not empty and holds no training: choose another folder.")
    write_atomic(path, config.model_dump_json(indent=1).encode())


def need_same(folder: Path, config: TrainingConfig) -> None:
    """Refuse a folder that holds another training than this. Where the model and the runs lie, and which device trains,
    is no part of it. Raises `UserError`; the sentence says what differs."""
    before = read_config(folder)
    model = {"device": before.model.device}
    passed: dict[str, Any] = {"runs_sha256": before.runs_sha256}
    if not before.model.revision:  # of earlier, when weights in a folder had no hash
        model["revision"] = ""
    elif before.model.revision == config.model.revision:
        passed["model_path"] = before.model_path
    if not before.world:
        passed["world"] = 0
    same = config.model_copy(update={**passed, "model": config.model.model_copy(update=model)})
    if before != same:
        same = same.model_copy(update={"runs_sha256": config.runs_sha256})
        raise UserError(
            f"{folder.name} holds another training ({difference(before, same)}): choose another folder, or "
            "repeat that training's own command to go on with it."
        )


def read_config(folder: Path) -> TrainingConfig:
    """What a folder's training was asked for. Raises `UserError` if there is none that can be read."""
    try:
        return TrainingConfig.model_validate_json((folder / TRAINING_FILE).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{folder} holds no training: choose the folder of one.") from None
    except (OSError, ValidationError, ValueError) as error:
        raise UserError(f"{folder / TRAINING_FILE} can't be read: it is damaged, or of another version.") from error


def difference(a: TrainingConfig, b: TrainingConfig) -> str:
    """The first thing in which two trainings differ, for a sentence."""
    for name, one in a.request.model_dump(mode="json").items():
        other = b.request.model_dump(mode="json")[name]
        if one != other:
            return f"{name.replace('_', ' ')} {one} there, {other} asked"
    if a.model.id != b.model.id:
        return f"model {a.model.id} there, {b.model.id} asked"
    if a.model.revision != b.model.revision:
        return f"revision {a.model.revision} of {a.model.id} there, {b.model.revision or 'an unknown one'} asked"
    if a.model != b.model:
        return f"other weights of the name {a.model.id}"
    if a.world != b.world:
        return f"{a.world} process(es) there, {b.world} here"
    if a.tool_version != b.tool_version:
        return f"TRL {a.tool_version or 'unknown'} there, {b.tool_version} here"
    if a.model_path != b.model_path:
        return "the model lies in another folder"
    if a.rows_sha256 == b.rows_sha256:
        return "other problems or another filter"
    return "other rows" + (", of other folders" if a.runs_sha256 != b.runs_sha256 else "")


def data_bytes(rows: Iterable[Record]) -> bytes:
    """Rows as JSON lines, without what is the same in all that pass: a training of earlier, when there was no `whole`,
    is known again by the same bytes."""
    return "".join(row.model_dump_json(exclude={"whole"}) + "\n" for row in rows).encode()


def read_rows(folder: Path) -> list[TrainingTrace]:
    """The rows of a training; none where it has none."""
    path = folder / DATA_FILE
    lines = path.read_bytes().splitlines() if path.exists() else ()
    return [TrainingTrace.model_validate_json(line) for line in lines]


def read_prompts(folder: Path) -> tuple[Problem, ...]:
    """The problems that a training samples groups of; none where it keeps none."""
    path = folder / PROMPTS_FILE
    lines = path.read_bytes().splitlines() if path.exists() else ()
    return tuple(Problem.model_validate_json(line) for line in lines)


def trained_questions(folder: Path) -> frozenset[str] | None:
    """Questions that updates of a training see, and those that made the model that it began with; None where a folder
    does not tell."""
    found: set[str] = set()
    passed: set[Path] = set()
    place: Path | None = folder
    while place is not None and place not in passed:
        passed.add(place)
        try:
            own = json.loads((place / QUESTIONS_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(own, list):
            return None
        found.update(map(str, own))
        try:
            path = read_config(place).model_path
        except UserError:
            path = ""
        place = training_of(path)
        if place is None and Path(path).name == MODEL:  # its training was moved, or removed
            return None
    return frozenset(found)


def training_of(model: str) -> Path | None:
    """The folder of the training that made a model, where the model's name is its place there."""
    place = Path(model).expanduser().resolve()
    return place.parent if model and place.name == MODEL and (place.parent / TRAINING_FILE).is_file() else None


# -- what it writes while it runs ------------------------------------------------------------------


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add one line in a single write; a kill can tear the last line only, and `read_lines` leaves that out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a file that `append_line` made, each with its whole number of an update; none where it is
    not there."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found = []
    for line in content.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("update"), int):
            found.append(value)
    return found


def read_looks(folder: Path) -> list[dict[str, Any]]:
    """The looks at held-out problems, as far as they can be shown."""
    # The one of the model before may be made up for after a kill, and then stands behind later ones.
    return sorted(
        (look for look in read_lines(folder / HELD_OUT_FILE) if _is_look(look)), key=lambda look: look["update"]
    )


def _is_look(look: dict[str, Any]) -> bool:
    return (
        isinstance(look.get("n"), int)
        and isinstance(look.get("correct"), int)
        and isinstance(texts := look.get("texts"), list)
        and all(isinstance(text, dict) for text in texts)
    )


def forget_after(path: Path, update: int) -> None:
    """Drop the lines of later updates: a resumed training does these again. Also mends a torn last line."""
    if path.exists():
        kept = [line for line in read_lines(path) if line["update"] <= update]
        write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode())


def completion_files(folder: Path) -> list[tuple[int, Path]]:
    """TRL's files of sampled groups as (update, file), oldest first: it writes them beside its checkpoints."""
    found = ((_COMPLETION_FILE.fullmatch(path.name), path) for path in (folder / CHECKPOINTS / COMPLETIONS).glob("*"))
    return sorted((int(match[1]), path) for match, path in found if match)


def forget_completions_after(folder: Path, update: int) -> None:
    """Remove the sampled groups of later updates: a resumed training samples these again, and may be stopped first."""
    for number, path in completion_files(folder):
        if number > update:
            path.unlink(missing_ok=True)


def tokens_read(folder: Path) -> int:
    """Tokens that the updates until now have read, prompts included, as the trainer counts them; 0 before the first."""
    counts = [line.get("num_tokens") for line in read_lines(folder / METRICS_FILE)]
    return next((int(count) for count in reversed(counts) if isinstance(count, int | float)), 0)


def seconds_spent(folder: Path) -> float:
    """Seconds that a training has taken until now: as it ended last or, where it was killed, as its last kept update
    says."""
    ended = read_json(folder / RESULT_FILE).get("seconds")
    counts = [ended, *(line.get("seconds") for line in read_lines(folder / METRICS_FILE))]
    return float(max((count for count in counts if isinstance(count, int | float)), default=0.0))


class Progress:
    """`progress.json`, written at most three times a second. A process that was killed leaves it at running."""

    def __init__(self, folder: Path, updates: int):
        self._path, self.updates = folder / PROGRESS_FILE, updates
        self._written, self._begun, self._from = 0.0, time.monotonic(), 0

    def begin(self, update: int) -> None:
        """From here on the clock that estimates runs."""
        self._begun, self._from = time.monotonic(), update

    def tell(self, update: int, stage: str, state: str = "running", now: bool = False) -> None:
        """Write down where it stands."""
        if not now and time.monotonic() - self._written < PROGRESS_S:
            return
        done, left = update - self._from, None
        if done > 0 and state == "running":
            left = round((time.monotonic() - self._begun) / done * (self.updates - update), 1)
        values = {
            "schema_version": 1,
            "pid": os.getpid(),
            "state": state,
            "update": update,
            "updates": self.updates,
            "stage": stage,
            "seconds_left": left,
            "at": round(time.time(), 1),
        }
        write_atomic(self._path, json.dumps(values).encode(), sync=False)
        self._written = time.monotonic()


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object; an empty one where there is none that can be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# -- checkpoints -----------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints, oldest first, as (update, folder). One that a kill left incomplete is not among them."""
    found = []
    for path in (folder / CHECKPOINTS).glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdigit() and is_whole(path):
            found.append((int(number), path))
    return sorted(found)


def checkpoint_bytes(folder: Path) -> int:
    """What the whole checkpoints take on the disk: a training that goes on writes the next ones in their place."""
    found = 0
    for _, path in checkpoints(folder):
        for file in path.rglob("*"):
            with suppress(OSError):  # the oldest is being removed by another process
                found += file.stat().st_size if file.is_file() else 0
    return found


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has all that resuming needs, and its weights as long as they say they are."""
    state = read_json(checkpoint / "trainer_state.json")
    weights = [*checkpoint.glob("*.safetensors")]
    needed = [checkpoint / name for name in ("optimizer.pt", "scheduler.pt")]
    return (
        str(state.get("global_step", "")) == checkpoint.name.removeprefix("checkpoint-")
        and bool(weights)
        and all(map(_safetensors_whole, weights))
        and all(path.exists() and path.stat().st_size > 0 for path in needed)
    )


def _safetensors_whole(path: Path) -> bool:
    """Whether a file is as long as its own header says (a cut one is shorter)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 100_000_000:
                return False
            header = json.loads(file.read(length))
        ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def incomplete(folder: Path) -> list[Path]:
    """Checkpoints that a kill left torn."""
    whole = {path for _, path in checkpoints(folder)}
    return sorted(path for path in (folder / CHECKPOINTS).glob("checkpoint-*") if path not in whole)


def put_aside(paths: Sequence[Path]) -> None:
    """Rename torn checkpoints so that nothing takes them for whole ones; nothing is deleted."""
    for path in paths:
        path.rename(path.with_name(f"torn-{path.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"))


def finished(folder: Path) -> bool:
    """Whether the training is done and its model there."""
    return read_json(folder / RESULT_FILE).get("state") == "done" and (folder / MODEL / "config.json").is_file()


def find_trainings(root: Path) -> list[Path]:
    """Folders of trainings right in a folder, newest first."""
    found = [path.parent for path in root.glob(f"*/{TRAINING_FILE}") if not path.parent.name.startswith(".")]
    return sorted(found, key=lambda path: modified_ns(path / TRAINING_FILE), reverse=True)
