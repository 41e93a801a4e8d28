"""A hunt from the names that a person gives to its table: the problems, the model, this process's share, the judge.

Under `accelerate launch` (or torchrun) every process takes its share by the rank and world size in its environment and
runs on its own device; they share nothing but the folder, so no process group is needed, and hosts need only a common
disk.

What it does not do: hunt (`hunt.py`), count (`hunt_table.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from explorer.errors import UserError
from explorer.hunt import SPLITS, Hunt, HuntConfig, HuntState, read_results
from explorer.hunt_table import words, write_tables
from explorer.problem_sets import problem_set
from explorer.records import SamplingConfig

MOST_ROLLOUTS = 1_024


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


def hunt(
    problems: str,
    out: Path,
    asked: dict,
    limit: int | None,
    model: Mapping[str, str | None],
    record: Callable,
    tell: Callable[[str, float | None], None],
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

    Returns:
        (the table's lines, the summary).

    Raises:
        UserError: bad input; the sentence says what to do.
    """
    from explorer.pipeline import load_model
    from explorer.settings import read_settings
    from explorer.verdict import Judge

    if asked["split"] not in SPLITS:
        raise UserError(f"There is no split {asked['split']!r}: use one of {', '.join(SPLITS)}.")
    if limit is not None and limit < 1:
        raise UserError("--limit must be 1 or more.")
    sampling: SamplingConfig = asked["sampling"]
    if sampling.n * max(1, asked["more"]) > MOST_ROLLOUTS:
        raise UserError(f"--rollouts times --more is more than {MOST_ROLLOUTS:,}: lower one of them.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder for the hunt.")
    found, bad = problem_set(problems, sampling.seed)
    for row in bad[:5]:
        tell(f"Row {row.line} of {problems} is left out: {row.why}", None)
    if len(bad) > 5:
        tell(f"{len(bad)} rows of {problems} are left out in all", None)
    rank, world, local = share()
    settings = read_settings(**{**model, "device": own_device(model["device"], local, world)})
    language_model = load_model(settings, progress=lambda part, text: tell(text, part))
    config = record(HuntConfig, problems=problems, model=language_model.info, **asked)
    with Judge() as judge:
        hunt = Hunt(language_model, found[:limit], config, out, judge, rank, world)
        try:
            for state in hunt.run():
                tell(sentence(state), state.done / max(1, state.total))
        finally:
            if hunt.results:  # also when it was interrupted: the table of what is done
                write_tables(out, read_results(out), config)
    results = read_results(out)
    return words(results, config), write_tables(out, results, config)


def sentence(state: HuntState) -> str:
    """Where a hunt stands, for people."""
    left = ""
    if state.seconds_left:
        minutes = state.seconds_left / 60
        left = f", about {minutes:.0f} min left" if minutes >= 1.5 else f", about {state.seconds_left:.0f} s left"
    doing = f"; {state.problem}: {state.stage}" if state.problem and state.stage != "done" else ""
    return f"Problem {min(state.done + 1, state.total)} of {state.total}{left}{doing}"
