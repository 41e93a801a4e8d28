"""An audit from a folder to its table: take up each run with its model, run the controls that it lacks, save after
each, conclude, count over all runs.

What it does not do: run one control (`audit.py`, `audit_controls.py`), conclude (`audit_verdict.py`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from explorer.audit import decoy_control
from explorer.audit_controls import KINDS, ControlState, other_control
from explorer.audit_verdict import Audit, Finding, audited_step, conclude
from explorer.errors import UserError
from explorer.hunt import HUNT_FILE
from explorer.hunting import soft_interrupt
from explorer.leaks import leaks
from explorer.pipeline import Cancelled, Run, load_model, never
from explorer.records import Leaks, SamplingConfig, Trace
from explorer.rollout import JudgeLike
from explorer.sources import asked_again
from explorer.statistics import wilson_interval
from explorer.store import find_runs, load_run, save_run, write_atomic
from explorer.verdict import NoJudge

AUDIT_FILE, TABLE_FILE = "audit.json", "audit.csv"


def audit_run(
    run: Run, judge: JudgeLike, kinds: Sequence[str] = KINDS, samples: int | None = None, cancelled: Cancelled = never
) -> Iterator[ControlState]:
    """Run the controls that a run lacks, then measure its leaks; the run gains both.

    Args:
        run: revised and continued.
        judge: compares answers.
        kinds: which controls.
        samples: continuations of each control but those at equal compute; default: as the rescue had.
        cancelled: true ends it; finished controls stay.

    Yields:
        where it stands; a state whose `control` is set after each finished one, one that says why after each that
        can't be had of this run.

    Raises:
        UserError: nothing was revised and continued.
    """
    point = audited_step(run.trace())
    if point is None or run.after_sampling is None:
        raise UserError("This run has no continuation of revised embeddings: there is nothing to audit.")
    drawn = sum(item.step == point and item.start.value == "revised" for item in run.after)
    sampling = run.after_sampling.model_copy(update={"n": samples or drawn})
    for kind in kinds:
        if any((item.kind, item.step) == (kind, point) for item in run.controls):
            continue
        control = _decoy if kind == "decoy" else other_control
        try:
            yield from control(run, judge, kind, point, sampling, cancelled)
        except NoJudge:
            raise
        except UserError as error:  # this control can't be had of this run: the others go on
            yield ControlState(kind, f"left out: {error}")
        if cancelled():
            return
    run.leaks = leaks(run, point)
    yield ControlState("leaks", "done")


def _decoy(
    run: Run, judge: JudgeLike, kind: str, point: int, sampling: SamplingConfig, cancelled: Cancelled
) -> Iterator[ControlState]:
    for state in decoy_control(run, judge, point, sampling, cancelled=cancelled):
        doing = f"step {state.steps} of {state.of}"
        if state.sampling is not None:
            doing = f"{len(state.sampling.rollouts)} of {state.sampling.n} finished"
        yield ControlState(kind, doing, state.control)


def audit(
    path: Path,
    kinds: Sequence[str],
    samples: int | None,
    out: Path | None,
    model: Mapping[str, str | None],
    tell: Callable[[str, float | None], None],
) -> tuple[list[str], dict]:
    """Audit a run or a folder of runs; what was audited before is not done again.

    Args:
        path: a run's folder, or a folder of runs (a hunt's, too).
        kinds: controls, see `audit_controls.KINDS`; `leaks` alone measures the leaks and runs no control.
        samples: see `audit_run`.
        out: audited copies go there; None writes into the runs themselves.
        model: model, dtype and device as `read_settings` takes them; no model takes the runs' own.
        tell: called with a sentence and a share of the whole.

    Returns:
        (lines for people, the same as plain values).

    Raises:
        UserError: no such control, nothing to audit, the runs are of another model, or a hunt works at them.
        KeyboardInterrupt: it was asked to stop (SIGINT), and did after the control under way; a second one stops it at
            once, and that control is done again.
    """
    from explorer.settings import read_settings
    from explorer.verdict import Judge

    kinds = [kind for kind in kinds if kind != "leaks"]  # measured in any case; alone, nothing else is run
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UserError(f"There is no control {unknown[0]!r}: use {', '.join(KINDS)}, or leaks for no control.")
    if samples is not None and not 1 <= samples <= 1_024:
        raise UserError("--samples must be 1 to 1,024.")
    folders = [f for f in find_runs(path) if audited_step(load_run(f, with_trajectory=False)[0]) is not None]
    if not folders:
        raise UserError(f"No run in {path} was revised and continued: there is nothing to audit.")
    if out is not None:
        folders = [_copied(folder, out) for folder in folders]
    first = load_run(folders[0], with_trajectory=False)[0]
    settings = read_settings(
        **{
            **model,
            "model": model["model"] or asked_again(first.model.id, first.model.source),
            "dtype": model["dtype"] or first.model.dtype,
        }
    )
    audits: list[Audit] = []
    measured: list[Leaks | None] = []
    with _no_hunt_in({folder.parent for folder in folders}):
        language_model = load_model(settings, progress=lambda part, text: tell(text, part))
        with Judge() as judge, soft_interrupt() as asked_to_stop:
            for place, folder in enumerate(folders):
                trace, trajectory = load_run(folder)
                run = Run.reopen(language_model, trace, trajectory)
                at = f"Run {place + 1} of {len(folders)}"
                for state in audit_run(run, judge, kinds, samples):
                    tell(f"{at}: {trace.problem.id}, {state.kind}, {state.doing}", place / len(folders))
                    if state.control is not None or state.kind == "leaks":
                        save_run(_kept(run, trace), trajectory, folder)
                        if asked_to_stop.is_set() and (state.kind != "leaks" or place + 1 < len(folders)):
                            raise KeyboardInterrupt
                audits.append(conclude(run.trace(), folder.name))
                measured.append(run.leaks)
    summary = summarise(audits)
    where = out or path
    if len(folders) > 1 or where != folders[0]:
        whole = {"schema_version": 1, **summary, "runs": [one.model_dump(mode="json") for one in audits]}
        write_atomic(where / AUDIT_FILE, json.dumps(whole, indent=1, ensure_ascii=False).encode())
        write_atomic(where / TABLE_FILE, _csv(audits).encode())
    lines = words(audits[0], measured[0]) if len(audits) == 1 else all_words(audits, summary)
    return lines, summary


@contextlib.contextmanager
def _no_hunt_in(parents: Iterable[Path]) -> Iterator[None]:
    """Inside, no process hunts in these folders: an audit and a hunt would each save their own copy of a run over what
    the other one has added.

    Raises:
        UserError: a hunt, or another audit, is at work there.
    """
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        for parent in (parent for parent in parents if (parent / HUNT_FILE).exists()):
            # Each process of a hunt has a lock of its own; the first one's also keeps out a hunt that begins meanwhile.
            for lock in {parent / ".hunt-0.lock", *parent.glob(".hunt-*.lock")}:
                try:
                    held.enter_context(FileLock(lock, timeout=0))
                except Timeout:
                    raise UserError(
                        f"A hunt or another audit is at work in {parent}: wait for it or pause it, or audit copies of "
                        "the runs with --out."
                    ) from None
        yield


def _copied(folder: Path, out: Path) -> Path:
    """A run's folder under `out`; one that an earlier audit left there is gone on with."""
    target = out / folder.name
    if not (target / "trace.json").exists():
        trace, trajectory = load_run(folder)
        save_run(trace, trajectory, target)
    return target


def _kept(run: Run, trace: Trace) -> Trace:
    """The run's record with its own status: an audit neither ends nor breaks off a revision."""
    return run.trace(trace.status, trace.message)


def summarise(audits: Sequence[Audit]) -> dict:
    """Findings counted, and per arm the runs with a correct continuation, of those that have the arm."""
    names = sorted({arm.name for audit in audits for arm in audit.arms}, key=_order)
    arms = {}
    for name in names:
        having = [arm for audit in audits for arm in audit.arms if arm.name == name]
        hit = sum(arm.correct > 0 for arm in having)
        low, high = wilson_interval(hit, len(having))
        arms[name] = {
            "runs": len(having),
            "runs_with_a_hit": hit,
            "interval": [low, high],
            "correct": sum(arm.correct for arm in having),
            "n": sum(arm.n for arm in having),
            "degenerate": sum(arm.degenerate for arm in having),
            "truncated": sum(arm.truncated for arm in having),
        }
    counted = Counter(audit.finding for audit in audits)
    return {"findings": {finding.value: counted[finding] for finding in Finding}, "arms": arms}


def _order(name: str) -> int:
    order = ("revised", "projected", "original", *KINDS)
    return order.index(name) if name in order else len(order)


def words(audit: Audit, measured: Leaks | None) -> list[str]:
    """One run's table and finding."""
    lines = [f"{audit.problem}, step {audit.step}: {audit.finding.value}", ""]
    rows = [("arm", "correct (reached)", "in loops", "cut off")]
    rows += [(arm.name, arm.words, str(arm.degenerate), str(arm.truncated)) for arm in audit.arms]
    lines += _aligned(rows)
    if measured is not None:
        mass, before = (100 * sum(m) / len(m) for m in (measured.hull_mass, measured.hull_mass_before))
        lines += [
            "",
            f"weight on the answer's tokens: {mass:.1f} % of the prefix, {before:.1f} % before",
            f"log p(answer), nats per token: {measured.log_p_prompt:.2f} after the prompt alone, "
            f"{measured.log_p_unrevised:.2f} after the prefix, {measured.log_p_revised:.2f} after the revised prefix",
        ]
        at = sorted(one.token + 1 for one in measured.stated if one.token is not None)
        if at:
            lines.append(f"answer first written out at token {at[len(at) // 2]} (median of {len(at)}, first {at[0]})")
        plain = sorted(one.log_p for one in measured.stated if one.log_p is not None)
        if plain:
            lines.append(f"log p(rescued text) after the plain prompt: {plain[len(plain) // 2]:.2f} nats per token")
    return [*lines, "", *(f"- {reason}" for reason in audit.because)]


def all_words(audits: Sequence[Audit], summary: Mapping) -> list[str]:
    """Many runs: a line for each, then arms and findings."""
    rows = [("run", "finding", "revised", "decoy", "fresh")]
    for audit in audits:
        by = {arm.name: arm for arm in audit.arms}
        counts = [
            f"{by[name].correct} of {by[name].n}" if name in by else "–" for name in ("revised", "decoy", "fresh")
        ]
        rows.append((audit.run[:48], audit.finding.value, *counts))
    lines = [*_aligned(rows), ""]
    arms = [("arm", "runs with a hit", "correct", "in loops", "cut off")]
    for name, arm in summary["arms"].items():
        low, high = arm["interval"]
        hit = f"{arm['runs_with_a_hit']} of {arm['runs']} ({100 * low:.0f}–{100 * high:.0f} %)"
        arms.append((name, hit, f"{arm['correct']} of {arm['n']}", str(arm["degenerate"]), str(arm["truncated"])))
    lines += [*_aligned(arms), "", "intervals are Wilson's at 95 %; fresh and unrevised at equal compute", ""]
    return lines + [f"{count:>4}  {finding}" for finding, count in summary["findings"].items() if count]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _csv(audits: Sequence[Audit]) -> str:
    """One line per run and arm."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "problem", "step", "finding", "arm", "n", "correct", "low", "high", "in_loops", "cut_off"])
    for audit in audits:
        for arm in audit.arms:
            counts = [arm.n, arm.correct, *(f"{bound:.4f}" for bound in arm.interval), arm.degenerate, arm.truncated]
            writer.writerow([audit.run, audit.problem, audit.step, audit.finding.value, arm.name, *counts])
    return text.getvalue()
