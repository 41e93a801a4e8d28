"""The benchmark: `python -m explorer bench` sets this explorer beside a plain reference, row by row, in one run.

The order is the README's; every row is kept as soon as it is measured, a row that fails says why and the others go on,
and an interruption keeps what there is. The same results print as a table, as Markdown for the README, and as JSON
without paths or names of machines.

What it does not do: measure (`bench_rows.py`, `bench_process.py`, `bench_training.py`), or know the plain way
(`bench_reference.py`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from explorer import __version__, bench_rows, bench_training
from explorer.bench_case import QUICK, Bench, Growth, Row, Sizes
from explorer.errors import UserError
from explorer.settings import Settings
from explorer.store import write_atomic

# A load average above this before anything was measured is said beside the figures.
BUSY = 0.3


@dataclass(frozen=True)
class Measurement:
    """A row's name, what it measures in a few words, the function that fills it, whether it needs the model here."""

    name: str
    what: str
    measure: Callable[[Bench, Row | Growth], Row | Growth]
    grows: bool = False
    needs_model: bool = True


MEASUREMENTS = (
    Measurement("step", "one revision step", bench_rows.step),
    Measurement("step-batch8", "one step of 8 rollouts together", bench_rows.step_of_eight),
    Measurement("sample-1", "sampling, greedy", partial(bench_rows.sample, n=1, temperature=0.0, top_p=1.0)),
    Measurement("sample-16", "sampling 16 rollouts", partial(bench_rows.sample, n=16, temperature=0.8, top_p=0.95)),
    Measurement(
        "sample-1-soft",
        "sampling after moved embeddings",
        partial(bench_rows.sample, n=1, temperature=0.0, top_p=1.0, soft=True),
    ),
    Measurement("problem-set", "rollouts of a problem set", bench_rows.problem_set),
    Measurement("problem-set-batch", "the same, several prompts at once", partial(bench_rows.problem_set, batch=True)),
    Measurement("memory-152k", "memory of a step, 151,936 tokens", bench_rows.memory_152k, needs_model=False),
    Measurement("start", "from the command to the page", bench_rows.start, needs_model=False),
    Measurement("map", "the vocabulary map from its cache", bench_rows.map_of_the_vocabulary, needs_model=False),
    Measurement("peak-memory", "peak memory of the whole loop", bench_rows.peak_memory, needs_model=False),
    *(
        Measurement(f"train-sft-{figure}", words, partial(bench_training.sft, figure=figure), needs_model=False)
        for figure, words in (
            ("first", "SFT, from the command to the first update"),
            ("whole", "SFT, from the command to the end"),
            ("memory", "SFT, peak memory"),
        )
    ),
    Measurement("train-grpo", "an update of GRPO, a group of 8", bench_training.grpo, needs_model=False),
    Measurement("growth-prefix", "a step, by length of the prefix", bench_rows.growth_of_prefix, grows=True),
    Measurement(
        "growth-vocabulary",
        "oracle and projection, and a whole step, by size of the vocabulary",
        bench_rows.growth_of_vocabulary,
        grows=True,
        needs_model=False,
    ),
    Measurement("growth-rollouts", "sampling, by number of rollouts", bench_rows.growth_of_rows, grows=True),
    Measurement("growth-length", "one token, by length before it", bench_rows.growth_of_length, grows=True),
)


@dataclass
class Results:
    """What was measured until now, and on what."""

    machine: dict[str, object] = field(default_factory=dict)
    quick: bool = False
    rows: list[Row] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    interrupted: bool = False

    def plain(self) -> dict:
        """Ready for JSON; every limit with its share."""
        found = asdict(self)
        for row, made in zip(self.rows, found["rows"], strict=True):
            if row.limit is not None:
                made["limit"]["share"] = row.limit.share
        return found


def chosen(only: Sequence[str]) -> list[Measurement]:
    """The measurements of these names, in the benchmark's order; all for no names.

    Raises:
        UserError: a name that no measurement has.
    """
    names = [measurement.name for measurement in MEASUREMENTS]
    for name in only:
        if name not in names:
            raise UserError(f"There is no row {name!r}: use {', '.join(names[:-1])} or {names[-1]}.")
    return [measurement for measurement in MEASUREMENTS if not only or measurement.name in only]


def run(
    settings: Settings,
    only: Sequence[str] = (),
    quick: bool = False,
    out: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
    sizes: Sizes | None = None,
) -> Results:
    """Measure.

    Args:
        settings: model, dtype and device.
        only: names of rows; none means all.
        quick: fewer repetitions and a smaller problem set.
        out: a JSON file, written anew after every row.
        tell: called with a line when a row begins and when it is measured.
        sizes: how much is measured, if neither the full nor the quick set.

    Returns:
        the results; `interrupted` when Ctrl-C ended it.

    Raises:
        UserError: a name is unknown, the model can't be had, or `out` can't be written.
    """
    todo = chosen(only)
    results = Results(quick=quick)
    bench = Bench(settings, sizes or (QUICK if quick else Sizes()))
    keep(results, out)
    try:
        if any(measurement.needs_model for measurement in todo):
            tell("Loading the model")
            _ = bench.model  # what is wrong with it is said at once, not in every row
        results.machine = machine(bench)
        for number, measurement in enumerate(todo, 1):
            tell(f"{number} of {len(todo)}: {measurement.name}, {measurement.what}")
            row = measure(bench, measurement)
            (results.growth if isinstance(row, Growth) else results.rows).append(row)
            for line in lines_of(row):
                tell(f"  {line}")
            keep(results, out)
    except KeyboardInterrupt:
        results.interrupted = True
        keep(results, out)
    return results


def measure(bench: Bench, measurement: Measurement) -> Row | Growth:
    """One row; what goes wrong in it becomes its one sentence."""
    row = (Growth if measurement.grows else Row)(name=measurement.name, what=measurement.what)
    try:
        return measurement.measure(bench, row)
    except Exception as error:  # whatever it is, the other rows go on
        return type(row)(name=row.name, what=row.what, error=sentence(error))


def sentence(error: Exception) -> str:
    """What went wrong, in one line without paths."""
    text = " ".join(str(error).split())
    text = re.sub(r"(?:[A-Za-z]:)?(?:[/\\][\w.@+~-]+){2,}", "…", text)[:300]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")


def keep(results: Results, out: Path | None) -> None:
    """Write what there is.

    Raises:
        UserError: the file can't be written.
    """
    if out is None:
        return
    try:
        write_atomic(out, (json.dumps(results.plain(), indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror}): choose another file.") from error


def machine(bench: Bench) -> dict[str, object]:
    """What it ran on: enough to compare figures, nothing that tells whose machine it is."""
    found: dict[str, object] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "explorer": __version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    if hasattr(os, "getloadavg"):
        found["load_before"] = round(os.getloadavg()[0], 2)
    if "model" in vars(bench):  # loaded already, since a row needs it
        info = bench.model.info
        found |= {"model": info.id, "dtype": info.dtype, "device": info.device, "ways": bench.model.ways}
        if bench.model.device.type == "cuda":
            found["gpu"] = torch.cuda.get_device_name(bench.model.device)
    return found


def processor() -> str:
    """The processor's name as its maker gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# -- for people ------------------------------------------------------------------------------------


def figure(value: float | None) -> str:
    """Three digits that count; a dash for nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


HEAD = ("row", "what", "ours (best)", "reference (best)", "unit", "ratio", "target", "of the limit")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table, as `HEAD` names its cells."""
    if row.error:
        return (row.name, row.what, "failed", "–", "", "–", "–", "–")
    target = "–" if not row.target else f"{row.target} ({'met' if row.met else 'missed'})"
    limit = "–" if row.limit is None else f"{row.limit.share:.0%} of {figure(row.limit.best)} {row.limit.unit}"
    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
    ours, reference = with_best(row.ours, row.best_ours), with_best(row.reference, row.best_reference)
    return (row.name, row.what, ours, reference, row.unit, ratio, target, limit)


def with_best(median: float | None, best: float | None) -> str:
    """A median, and the best beside it where it looks different."""
    middle, least = figure(median), figure(best)
    return middle if best is None or least == middle else f"{middle} ({least})"


def lines_of(row: Row | Growth) -> list[str]:
    """A row as it is told when it is measured."""
    if row.error:
        return [f"{row.name} failed: {row.error}"]
    if isinstance(row, Growth):
        return aligned([row.columns, *([figure(value) for value in values] for values in row.rows)])
    name, _, ours, reference, unit, ratio, target, limit = cells(row)
    said = f"{name}: {ours} {unit}" + ("" if reference == "–" else f" against {reference}, ratio {ratio}")
    said += "" if target == "–" else f"; target {target}"
    said += "" if limit == "–" else f"; {row.limit.what} at {limit}"
    return [said, *([row.note] if row.note else [])]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under one another."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def description(results: Results) -> str:
    """The machine in one line."""
    about = results.machine
    where = [about.get(key) for key in ("model", "dtype", "device", "gpu", "ways")]
    where += [about.get("processor"), f"{about.get('cores')} cores", f"torch {about.get('torch')}", about.get("date")]
    if about.get("load_before", 0.0) > BUSY:
        where.append(f"others were at work (load {about['load_before']:.1f})")
    return "; ".join(str(one) for one in where if one) + ("; quick" if results.quick else "")


def table(results: Results) -> str:
    """Everything, aligned, for a terminal."""
    lines = [description(results), ""] if results.machine else ["Nothing was measured."]
    if results.rows:
        lines += [*aligned([HEAD, *map(cells, results.rows)]), ""]
    lines += [f"{row.name}: {row.note or row.error}" for row in results.rows if row.note or row.error]
    for growth in results.growth:
        lines += ["", f"{growth.name}: {growth.what}" + (f" ({growth.note})" if growth.note else "")]
        lines += [f"  {line}" for line in lines_of(growth)]
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """Everything as Markdown tables, as the README quotes them."""

    def made(rows: Sequence[Sequence[str]]) -> list[str]:
        head, *rest = (f"| {' | '.join(row)} |" for row in rows)
        return [head, "|---" * len(rows[0]) + "|", *rest]

    lines = [description(results), ""]
    if results.rows:
        lines += made([HEAD, *((f"`{name}`", *others) for name, *others in map(cells, results.rows))])
    for growth in results.growth:
        said = f" {growth.error}" if growth.error else ""
        lines += ["", f"`{growth.name}`: {growth.what}.{said}", ""]
        if not growth.error:
            lines += made([growth.columns, *([figure(value) for value in values] for values in growth.rows)])
    return "\n".join(lines) + "\n"
