"""A hunt from the names that a person gives to its table: the problems, the model, this process's share, the judge.

Under `accelerate launch` (or torchrun) every process takes its share by the rank and world size in its environment and
runs on its own device; they share nothing but the folder, so no process group is needed, and hosts need only a common
disk.

While it runs, each process keeps `progress-<rank>.json` in the hunt's folder, for whoever watches from outside (the
page does). The first Ctrl-C (SIGINT) asks it to stop at the next step; a second one stops it at once. Either way the
same command goes on.

What it does not do: hunt (`hunt.py`), count (`hunt_table.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.hunt import SPLITS, Hunt, HuntConfig, HuntState, of_problems, read_results, together
from explorer.hunt_table import words, write_tables
from explorer.problem_sets import problem_set, usable
from explorer.records import Problem, SamplingConfig
from explorer.vllm_rollouts import VllmRollouts, installed

ENGINES = ("own", "batch", "vllm")
MOST_ROLLOUTS = 1_024
# As often as anybody can read it.
PROGRESS_S = 0.3


def share(environment: Mapping[str, str] = os.environ) -> tuple[int, int, int]:
    """(rank, world size, local rank) of this process; (0, 1, 0) when it is alone.

    Raises:
        UserError: the launcher's variables make no sense.
    """
    try:
        rank, world = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
        local = int(environment.get("LOCAL_RANK", 0))
    except ValueError as error:
        raise UserError("RANK, WORLD_SIZE and LOCAL_RANK must be numbers: leave them to accelerate launch.") from error
    if not 0 <= rank < world:
        raise UserError(f"RANK {rank} is not below WORLD_SIZE {world}: leave both to accelerate launch.")
    return rank, world, local


def own_device(asked: str | None, local: int, world: int) -> str | None:
    """The device of this process: with several processes and none asked for, its own GPU where there are GPUs."""
    if world == 1 or asked not in (None, "auto"):
        return asked
    import torch

    return f"cuda:{local % torch.cuda.device_count()}" if torch.cuda.is_available() else asked


class ProgressFile:
    """Where one process of a hunt stands, for others to read: {schema_version, pid, rank, state, done, total, problem,
    stage, seconds_left, at}. `state` is running, done or stopped; a process that was killed leaves it at running.
    `seconds_left` is null before the first problem is done; `at` is when it was written, in seconds since 1970."""

    def __init__(self, out: Path, rank: int):
        self._path, self._rank = out / f"progress-{rank}.json", rank
        self._written, self._ends = float("-inf"), None

    def tell(self, state: HuntState) -> None:
        """Write it down, unless the last time is hardly over."""
        now = time.monotonic()  # the wall clock may be set back an hour
        if state.seconds_left is not None and state.finished is not None:
            self._ends = now + state.seconds_left
        if state.finished is not None or now - self._written >= PROGRESS_S:
            self.end("running", state)

    def end(self, word: str, state: HuntState) -> None:
        """Write it down now."""
        now = self._written = time.monotonic()
        known = {
            "schema_version": 1,
            "pid": os.getpid(),
            "rank": self._rank,
            "state": word,
            "done": state.done,
            "total": state.total,
            "problem": state.problem,
            "stage": state.stage,
            "seconds_left": None if self._ends is None else round(max(0.0, self._ends - now), 1),
            "at": round(time.time(), 1),
        }
        write_atomic(self._path, json.dumps(known, ensure_ascii=False).encode(), sync=False)


@contextlib.contextmanager
def soft_interrupt() -> Iterator[threading.Event]:
    """Inside, the first SIGINT sets the event that it gives; the next one interrupts as ever. Only on a main thread can
    that be arranged; elsewhere the event is never set."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def hunt(
    problems: str,
    out: Path,
    asked: dict,
    limit: int | None,
    model: Mapping[str, str | None],
    record: Callable,
    tell: Callable[[str, float | None], None],
    skip_bad: bool = False,
) -> tuple[list[str], dict]:
    """Hunt, or go on with a hunt.

    Args:
        problems: name of the set, see `problem_sets.problem_set`.
        out: the hunt's folder.
        asked: fields of `HuntConfig` but for problems and model.
        limit: only the first so many problems.
        model: model, dtype and device as `read_settings` takes them.
        record: makes a checked record of its fields, or raises `UserError`.
        tell: called with a sentence and a share of the whole.
        skip_bad: leave out rows that can't be used, instead of refusing the set.

    Returns:
        (the table's lines, the summary).

    Raises:
        UserError: bad input; the sentence says what to do.
        KeyboardInterrupt: it was asked to stop, and did; what is finished is kept, its table is written.
    """
    from explorer.pipeline import load_model
    from explorer.settings import read_settings
    from explorer.sources import resolve
    from explorer.verdict import Judge

    if asked["split"] not in SPLITS:
        raise UserError(f"There is no split {asked['split']!r}: use one of {', '.join(SPLITS)}.")
    if asked["engine"] not in ENGINES:
        raise UserError(f"There is no engine {asked['engine']!r}: use one of {', '.join(ENGINES)}.")
    if asked["engine"] == "vllm" and not installed():
        raise UserError("vLLM is not installed: pip install vllm on a machine with a GPU, or use --engine own.")
    if limit is not None and limit < 1:
        raise UserError("--limit must be 1 or more.")
    sampling: SamplingConfig = asked["sampling"]
    if sampling.n * max(1, asked["more"]) > MOST_ROLLOUTS:
        raise UserError(f"--rollouts times --more is more than {MOST_ROLLOUTS:,}: lower one of them.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder for the hunt.")
    given = problem_set(problems, sampling.seed)
    found = usable(problems, given, skip_bad)
    if given[1]:
        tell(f"{len(given[1])} row(s) of {Path(problems).name} are left out, as asked", None)
    rank, world, local = share()
    settings = read_settings(**{**model, "device": own_device(model["device"], local, world)})
    language_model = load_model(settings, progress=lambda part, text: tell(text, part))
    drawer = None
    if asked["engine"] == "batch":
        if not language_model.packed:
            raise UserError(
                f"{language_model.info.id} can't read several prompts in one batch: leave --engine at own, which draws "
                "prompt by prompt."
            )
        drawer = together(language_model, found[:limit], sampling, rank, world)
    elif asked["engine"] == "vllm":
        tell("Loading the weights into vLLM as well", None)
        weights = resolve(settings.model, settings.cache_dir, offline=settings.offline).path
        drawer = VllmRollouts(
            weights, language_model.info.dtype, language_model.end_ids, trust_remote_code=settings.allow_remote_code
        )
    for fallback in language_model.fallbacks:
        tell(f"slower here: {fallback}", None)
    config = record(HuntConfig, problems=problems, model=language_model.info, **asked)
    progress, state = ProgressFile(out, rank), HuntState(0, 0)
    with Judge() as judge, soft_interrupt() as asked_to_stop:
        hunt = Hunt(language_model, found[:limit], config, out, judge, rank, world, drawer)
        try:
            for state in hunt.run(asked_to_stop.is_set):
                progress.tell(state)
                tell(sentence(state), state.done / max(1, state.total))
        finally:
            if state.total:  # else it never began: the folder may be another hunt's
                progress.end("done" if state.done == state.total else "stopped", state)
            if hunt.results:  # also when it was interrupted: the table of what is done
                tabled(out, config, found)
        if state.done < state.total:
            raise KeyboardInterrupt
    return tabled(out, config, found)


def tabled(out: Path, config: HuntConfig, problems: Sequence[Problem]) -> tuple[list[str], dict]:
    """Count what lies in a hunt's folder of the problems of its set, as they read now, and write its tables; returns
    their lines and the summary. One process at a time: one that had read before another's last result would write over
    the whole table."""
    from filelock import FileLock

    with FileLock(out / ".tables.lock"):
        results = list(of_problems(read_results(out), problems).values())
        return words(results, config), write_tables(out, results, config)


def sentence(state: HuntState) -> str:
    """Where a hunt stands, for people."""
    left = ""
    if state.seconds_left:
        minutes = state.seconds_left / 60
        left = f", about {minutes:.0f} min left" if minutes >= 1.5 else f", about {state.seconds_left:.0f} s left"
    doing = f"; {state.problem}: {state.stage}" if state.problem and state.stage != "done" else ""
    return f"Problem {min(state.done + 1, state.total)} of {state.total}{left}{doing}"
