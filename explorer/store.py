"""Runs on disk and back: `trace.json` and `trajectory.safetensors` in one folder, schema version 1.

A run is written to a temporary folder beside its place and renamed when whole, so a reader never meets half of one;
replacing an older version of the same run goes through a rename too, and `load_run` finds the older one should the
process have been killed in between. What a killed process had half written is removed the next time that this run is
saved.

What it does not do: make rows for training (`export.py`).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import struct
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from explorer.errors import UserError
from explorer.files import write_atomic as write_atomic
from explorer.records import SCHEMA_VERSION, Trace

TRACE_FILE = "trace.json"
TRAJECTORY_FILE = "trajectory.safetensors"
# A trace of 512 positions × 200 steps is about 10 MB; anything near this limit is not one of ours.
MAX_TRACE_BYTES = 256 * 2**20
# Whatever a page's limits are, see `limits.py`.
MAX_STEPS = 1_000
# Of a run that is brought, for each megabyte that a page takes in: bytes of its trace, values of it, bytes of its
# trajectory. Lists and objects of JSON take up to thirty times their bytes in memory, so that their number is bounded
# too. On a public page, 64 MB, that is 32 MB and 2 million values; 512 positions × 200 steps are 0.7 million.
TRACE_BYTES, TRACE_VALUES, TRAJECTORY_BYTES = 2**19, 31_250, 4 * 2**20
TRAJECTORY_HEADER_BYTES = 2**16
MAX_ZIP_ENTRIES = 100
# Their directory in the zip; the names are ours and short.
MAX_ZIP_DIRECTORY_BYTES = 2**20
# One run at a time is taken in: two of the largest do not fit beside the model of a small machine.
_TAKING_IN = threading.Lock()
# Of what a file says of itself, in a sentence about it.
LONGEST_SHOWN = 80
# Between two looks at a run that could not be read.
SETTLE_S = 0.005
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def new_run_id(trace: Trace) -> str:
    """A folder name that sorts by time and tells the problem: 20260101-120000-sum-03-1a2b3c."""
    stamp = re.sub(r"[-:]", "", trace.created_at)[:15].replace("T", "-")
    problem = re.sub(r"[^A-Za-z0-9]+", "-", trace.problem.id).strip("-")[:40] or "problem"
    return f"{stamp}-{problem}-{secrets.token_hex(3)}"


def run_folder(root: Path, run_id: str) -> Path:
    """The folder of a run id under root. Raises `UserError` for an id that could leave root.

    A link is followed: nobody but who may write there can have put it there, to keep large runs on another disk.
    """
    if not _ID.fullmatch(run_id):
        raise UserError(f"{run_id[:60]!r} is not a run's name: use the name of a folder that the explorer wrote.")
    return root / run_id


def need_writable(root: Path) -> None:
    """Make the folder of runs and write a few bytes into it: a long run should not find out at its end that it has no
    place.

    Raises:
        UserError: it can't be made, or not be written to; the sentence says why.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root, buffering=0) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise UserError(f"No run can be kept in {root} ({error.strerror}): choose another folder.") from error


def save_run(trace: Trace, trajectory: Tensor | None, folder: Path, *, reread: bool = False) -> Path:
    """Write a run, whole or not at all, replacing an older version of the same run.

    Args:
        trace: the record.
        trajectory: (steps+1, M, hidden) float32, or None before a split.
        folder: where the run shall be; its parent is made.
        reread: read what was written before it gets its name, so that what can't be opened is not kept.

    Returns:
        folder.

    Raises:
        OSError: the disk is full or not writable; an older version is then untouched.
        UserError: what was written can't be read again.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    old = _older(folder)
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        staging.mkdir()
        _write(staging / TRACE_FILE, trace.model_dump_json(indent=1).encode())
        if trajectory is not None:
            _write_trajectory(staging / TRAJECTORY_FILE, trajectory)
        if reread:
            try:
                _loaded(staging, trajectory is not None)
            except UserError as error:
                raise without_place(error, staging) from error
        _replace(folder, staging, old)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _replace(folder: Path, staging: Path, old: Path) -> None:
    """Put the new version where the older one is, which is moved aside first."""
    for attempt in itertools.count():
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            staging.rename(folder)
            return
        except OSError:
            # A reader that came between the two renames has put the older one back.
            if attempt >= 10 or not folder.exists():
                raise


def _write_trajectory(path: Path, trajectory: Tensor) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({"embeddings": trajectory.float().contiguous()}, path)
    except SafetensorError as error:
        # What the system refused arrives as a text: "I/O error: No space left on device (os error 28)".
        refused = re.search(r"os error (\d+)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(path)) from error
    _sync(path)


def load_run(folder: Path, with_trajectory: bool = True) -> tuple[Trace, Tensor | None]:
    """Read a run back.

    Args:
        folder: a run's folder.
        with_trajectory: whether the embeddings are wanted.

    Returns:
        (trace, (steps+1, M, hidden) float32 or None).

    Raises:
        UserError: no run there, another schema version, or a damaged file; the sentence says which.
    """
    folder = Path(folder)
    alike = 0
    for _ in range(20):
        before = _mark(folder), _mark(_older(folder))
        try:
            return _loaded(folder, with_trajectory)
        except (UserError, OSError):
            # Replaced while it was read: it was not there for a moment, or half of it was the older version's. More
            # than once, since two versions within a tick of the file system's clock can have one mark, and a reader
            # that puts an older version back finds that one again.
            time.sleep(SETTLE_S)
            # Aside and not in its place it is being replaced right now; in neither place it is not there at all.
            replaced = before[0] is None and before[1] is not None
            alike = alike + 1 if not replaced and (_mark(folder), _mark(_older(folder))) == before else 0
            if alike >= (2 if before[0] is None else 4):
                raise
    return _loaded(folder, with_trajectory)


def _mark(folder: Path) -> tuple[int, int] | None:
    """Another one for every version of a run."""
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _loaded(folder: Path, with_trajectory: bool) -> tuple[Trace, Tensor | None]:
    if not folder.exists() and _older(folder).exists():
        with contextlib.suppress(OSError):  # whoever writes it was not killed, and is done by now
            _older(folder).rename(folder)
    path = folder / TRACE_FILE
    if not path.is_file():
        raise UserError(f"There is no run in {folder}: choose a folder that holds a {TRACE_FILE}.")
    if path.stat().st_size > MAX_TRACE_BYTES:
        raise UserError(f"{path} is larger than any trace of ours: it was not read.")
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged (not JSON): use a whole copy of the run.") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {repr(version)[:LONGEST_SHOWN]} and this explorer reads {SCHEMA_VERSION}: open "
            "it with the version that wrote it."
        )
    try:
        trace = Trace.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:LONGEST_SHOWN]
        raise UserError(f"{path} is damaged ({where}: {first['msg']}): use a whole copy of the run.") from error
    wrong = inconsistency(trace)
    if wrong:
        raise UserError(f"{path} is damaged ({wrong}): use a whole copy of the run.")
    return trace, _load_trajectory(folder, trace) if with_trajectory else None


def inconsistency(trace: Trace) -> str | None:
    """What can't be in a record although every field is well-formed, in a few words; None when it holds together."""
    if len(trace.steps) > MAX_STEPS:
        return "more steps than a run can have"
    if trace.split is None:
        return "steps without a split" if trace.steps else None
    if trace.anchor is None or trace.config is None:
        return "a split without anchor or settings"
    if not 0 <= trace.split.rollout < len(trace.before):
        return "the split is of a rollout that is not there"
    prefix, chosen = trace.split.prefix_token_ids, trace.before[trace.split.rollout].token_ids
    if not prefix or chosen[: len(prefix)] != prefix:
        return "the prefix is not the beginning of its rollout"
    if not 0 <= trace.anchor.answer_span[0] <= trace.anchor.answer_span[1] <= len(trace.anchor.token_ids):
        return "the answer's place lies outside the anchor"
    for index, step in enumerate(trace.steps):
        plural = (step.vertices, step.nearest, step.moved, step.toward_grad_norm, step.away_grad_norm, step.grad_cosine)
        if step.k != index or any(len(values) != len(prefix) for values in plural):
            return f"step {index} does not fit the prefix"
        if not 0.0 <= step.step_size <= 1.0:
            return f"step {index} leaves the hull"
    if any(not 0 <= item.step <= len(trace.steps) for item in trace.after):
        return "a continuation of a step that was not taken"
    return None


def import_run(files: Sequence[Path], root: Path, upload: int = 512) -> Path:
    """Take in a run that somebody brought: its zip (as `zip_run` makes it), or its trace.json with or without
    trajectory.safetensors.

    Only these two files are read, by name; nothing else of a zip is unpacked, and no path in it is followed.

    Args:
        files: what was brought; file names as the person's machine had them.
        root: the folder of runs; the run is written into it under a new name.
        upload: megabytes that the page takes in at once; what these may unpack to follows from it.

    Returns:
        the new run's folder.

    Raises:
        UserError: it is no run, or a damaged one.
    """
    with _TAKING_IN, tempfile.TemporaryDirectory(prefix="latentrevise-") as name:
        inside = Path(name)
        _take(files, TRACE_FILE, inside, min(upload * TRACE_BYTES, MAX_TRACE_BYTES))
        if not (inside / TRACE_FILE).is_file():
            raise UserError(f"This is no run: bring a run's folder that holds {TRACE_FILE}, or its zip.")
        content = (inside / TRACE_FILE).read_bytes()
        if sum(map(content.count, (b"[", b"{", b","))) > upload * TRACE_VALUES:
            raise UserError(f"{TRACE_FILE} holds more than {upload * TRACE_VALUES:,} values: it was not read.")
        del content
        try:
            trace, trajectory = _loaded(inside, False)  # nobody else writes there: one look is enough
            if trace.split is not None:
                _take(files, TRAJECTORY_FILE, inside, min(_trajectory_bytes(trace), upload * TRAJECTORY_BYTES))
                if (inside / TRAJECTORY_FILE).is_file():
                    trajectory = _load_trajectory(inside, trace)
        except UserError as error:
            raise without_place(error, inside) from error
        return save_run(trace, trajectory, run_folder(root, new_run_id(trace)), reread=True)


def without_place(error: UserError, folder: Path, name: str = "") -> UserError:
    """The same sentence with the run's name, or nothing, instead of where it lies: on a page that is nobody's
    business."""
    return UserError(str(error).replace(f"{folder}{os.sep}", f"{name}/" if name else "").replace(str(folder), name))


def _trajectory_bytes(trace: Trace) -> int:
    """How large the trajectory of a brought run can be."""
    values = (len(trace.steps) + 1) * len(trace.split.prefix_token_ids) * trace.model.hidden_size
    return 4 * values + TRAJECTORY_HEADER_BYTES


def _too_large(name: str, most: int, where: str = "") -> UserError:
    return UserError(f"{name}{where} is larger than it can be here ({max(1, most // 2**20)} MB): it was not read.")


def _take(files: Sequence[Path], name: str, target: Path, most: int) -> None:
    """The file of one name among what was brought, or in a zip there, into target; not if it has more than `most`
    bytes."""
    for file in map(Path, files):
        if file.suffix.lower() == ".zip":
            _unpack(file, name, target / name, most)
        elif file.name == name:
            if file.stat().st_size > most:
                raise _too_large(name, most)
            shutil.copyfile(file, target / name)


class _Archive(io.FileIO):
    """A zip whose directory is not read where it is too long: `zipfile` would make an object of each of its entries
    before it could be asked how many there are."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_ZIP_DIRECTORY_BYTES:
            raise UserError(_TOO_MANY)
        return super().read(size)


_TOO_MANY = f"This zip holds more than {MAX_ZIP_ENTRIES} files: pack the run's folder alone."


def _unpack(archive: Path, name: str, target: Path, most: int) -> None:
    """One file of the first run in a zip."""
    try:
        with _Archive(archive) as file, zipfile.ZipFile(file) as packed:
            entries = {entry.filename: entry for entry in packed.infolist()}
            if len(packed.infolist()) > MAX_ZIP_ENTRIES:
                raise UserError(_TOO_MANY)
            trace = min((path for path in entries if path.rsplit("/", 1)[-1] == TRACE_FILE), key=len, default=None)
            if trace is None:
                raise UserError(f"This zip holds no run: there is no {TRACE_FILE} in it.")
            entry = entries.get(trace.removesuffix(TRACE_FILE) + name)
            if entry is None:
                return
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise UserError(f"{name} in this zip is a link: pack the file itself.")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Of the others a few bytes become gigabytes before the first of them can be counted.
                raise UserError(f"{name} in this zip is packed in an unusual way: pack the folder as zips usually are.")
            with packed.open(entry) as source, target.open("wb") as out:
                # The size that a zip states can be a lie: what is read is counted.
                while part := source.read(2**16):
                    if out.tell() + len(part) > most:
                        raise _too_large(name, most, " in this zip")
                    out.write(part)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk's, not the zip's
            raise
        raise UserError("This zip is damaged or locked: use a whole copy of it.") from error


# What zipfile raises on bytes that nobody packed (an OSError where it is sent to a place before the file's beginning),
# and RuntimeError on encrypted ones.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError, OSError),
)


def _load_trajectory(folder: Path, trace: Trace) -> Tensor | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / TRAJECTORY_FILE
    if trace.split is None:
        return None
    try:
        embeddings = load_file(path)["embeddings"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{path} is missing or damaged: use a whole copy of the run.") from error
    expected = (len(trace.steps) + 1, len(trace.split.prefix_token_ids), trace.model.hidden_size)
    if tuple(embeddings.shape) != expected:
        raise UserError(
            f"{path} holds {tuple(embeddings.shape)} embeddings where the trace says {expected}: use a whole copy "
            "of the run."
        )
    if not embeddings.isfinite().all():
        raise UserError(f"{path} holds numbers that are not finite: use a whole copy of the run.")
    return embeddings


def find_runs(path: Path) -> list[Path]:
    """Folders of runs: the path itself, or those right inside it, by name.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if (path / TRACE_FILE).is_file():
        return [path]
    inside = sorted(p.parent for p in path.glob(f"*/{TRACE_FILE}") if not p.parent.name.startswith("."))
    if not inside:
        raise UserError(f"There is no run in {path}: choose a run's folder, or a folder of runs.")
    return inside


def zip_run(folder: Path, extra: dict[str, bytes], target: Path) -> Path:
    """One file to take home: the run's folder and extra files (name -> content) beside it; written whole or not at
    all.

    Raises:
        UserError: the folder holds no run, or none any more.
    """
    staging = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with zipfile.ZipFile(staging, "w", zipfile.ZIP_DEFLATED) as archive:
            if not (folder / TRACE_FILE).is_file():
                raise UserError(
                    f"The run {folder.name} is no longer on the disk, so nothing can be taken home: open another one."
                )
            for file in (TRACE_FILE, TRAJECTORY_FILE):
                if (folder / file).is_file():
                    archive.write(folder / file, f"{folder.name}/{file}")
            for name, content in extra.items():
                archive.writestr(name, content)
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)
    return target


def _older(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
