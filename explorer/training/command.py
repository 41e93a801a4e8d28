"""A training as the command that does it, for a page that shows it beside its button.

What it does not do: start it (`jobs.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from explorer.training.request import TrainRequest
from explorer.training.traces import TraceFilter


def train_command(
    request: TrainRequest,
    wanted: TraceFilter,
    runs: Sequence[Path],
    folder: Path,
    model: Mapping[str, str | None],
    problems: str = "",
    held_out: str = "",
) -> list[str]:
    """`python -m explorer train …` with whatever is not the default.

    Args:
        request: what is asked for.
        wanted: the filter of the traces.
        runs: folders of runs.
        folder: the training's own.
        model: model, dtype and device; None is the default.
        problems: the set that GRPO's prompts are of; empty: those of the traces.
        held_out: the set that held-out problems are of; empty: as `problems`.
    """
    command = [sys.executable, "-m", "explorer", "train", request.method.value, "--out", str(folder)]
    for path in runs:
        command += ["--runs", str(path)]
    for name, value in (("problems", problems), ("held-out", held_out), *model.items()):
        if value:
            command += [f"--{name}", value]
    defaults = TrainRequest(method=request.method)
    for name in TrainRequest.model_fields:
        value = getattr(request, name)
        if name != "method" and value != getattr(defaults, name):
            command += _option("held-out-count" if name == "held_out" else name, value)
    for finding in wanted.findings:
        command += ["--finding", finding.value.split(":")[0]]
    for name in ("max_leak", "max_tokens", "min_log_p", "sound", "finished", "per_problem"):
        value = getattr(wanted, name)
        if value != getattr(TraceFilter(), name):
            command += _option({"max_tokens": "max_trace_tokens"}.get(name, name), value)
    return command


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    return [
        option,
        value.value if isinstance(value, Enum) else repr(value) if isinstance(value, float) else str(value),
    ]


def evaluate_command(problems: str, folder: Path, model: str, rollouts: int = 8) -> list[str]:
    """`python -m explorer evaluate …`."""
    command = [sys.executable, "-m", "explorer", "evaluate", "--problems", problems, "--out", str(folder)]
    return [*command, "--model", model, "--rollouts", str(rollouts)]
