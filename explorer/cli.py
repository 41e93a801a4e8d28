"""The headless verbs: `python -m explorer revise …`, `hunt …`, `export …` and so on. They call the same functions as
the page.

Exit code 0 on success, 2 on bad arguments or input with one clear line on standard error, 130 when interrupted, with
everything finished kept. Progress goes to standard error; the last line of standard output is what a script wants to
read.

What it does not do: hold logic; `pipeline.py` does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Exit, TyperException

from explorer.checked import checked
from explorer.cli_training import evaluate, train
from explorer.errors import UserError, describe, logged_to
from explorer.progress import Progress
from explorer.records import (
    Hull,
    Projection,
    RevisionConfig,
    RunStatus,
    SamplingConfig,
    Start,
    StepRule,
    Trace,
    Verdict,
)

app = typer.Typer(
    help="LatentRevise Explorer without a screen: revise failed rollouts, export traces. The page is `python app.py`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Options that mean the same in every verb.
Model = Annotated[str | None, typer.Option(help="Hub id or local folder; default SmolLM2-135M-Instruct.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line instead of the summary.")]

_S, _R = SamplingConfig(), RevisionConfig()
INTERRUPTED = 130


@app.callback()
def verbs() -> None:
    """LatentRevise Explorer without a screen; the page is `python app.py`."""


@app.command()
def revise(
    question: Annotated[str, typer.Option(help="The question.")],
    answer: Annotated[str, typer.Option(help="The gold answer: a number, a fraction or LaTeX.")],
    model: Model = None,
    dtype: Dtype = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="Folder in which the run's folder is made; default ./runs.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all sampling.")] = _S.seed,
    rollouts: Annotated[int, typer.Option(help="N, rollouts of the prompt.")] = _S.n,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = _S.temperature,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = _S.top_p,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a rollout.")] = _S.max_new_tokens,
    rollout: Annotated[int | None, typer.Option(help="Which rollout to revise; default: the best failed one.")] = None,
    split: Annotated[str, typer.Option(help="fixed, fraction, first-error, before-answer, or auto.")] = "auto",
    prefix_length: Annotated[int | None, typer.Option(help="M, tokens of the prefix; overrides --split.")] = None,
    steps: Annotated[int, typer.Option(help="K, Frank-Wolfe steps.")] = _R.steps,
    step_rule: Annotated[StepRule, typer.Option(help="How far a step goes.")] = _R.step_rule,
    step_size: Annotated[float, typer.Option(help="γ; for the line search its largest step.")] = _R.step_size,
    away_weight: Annotated[float, typer.Option(help="λ; 0 looks at the gold answer only.")] = _R.away_weight,
    toward_weight: Annotated[float, typer.Option(help="0 is the away-only ablation.")] = _R.toward_weight,
    connector: Annotated[
        str, typer.Option(help="Text between prefix and answer; empty is the direct anchor.")
    ] = _R.connector,
    projection: Annotated[Projection, typer.Option(help="Distance that decides the nearest token.")] = _R.projection,
    ban_answer: Annotated[bool, typer.Option(help="The oracle may not pick the answer's tokens.")] = False,
    hull: Annotated[Hull, typer.Option(help="Which tokens a position may be pulled to.")] = _R.hull,
    hull_size: Annotated[int, typer.Option(help="How many likely tokens a place has, for plausible.")] = _R.hull_size,
    failed_tokens: Annotated[int, typer.Option(help="How many tokens of the failed continuation are scored.")] = (
        _R.max_continuation_tokens
    ),
    samples: Annotated[int | None, typer.Option(help="Continuations per start; default: as --rollouts.")] = None,
    as_json: Json = False,
) -> None:
    """One problem: sample, revise a failed rollout, continue. The last line is the run folder's path."""
    from explorer.pipeline import Run, load_model
    from explorer.problems import make_problem
    from explorer.settings import read_settings
    from explorer.split import best_failed, best_preset, presets
    from explorer.store import need_writable, new_run_id, save_run
    from explorer.verdict import Judge

    settings = read_settings(model=model, dtype=dtype, device=device, runs_dir=out)
    sampling = checked(
        SamplingConfig, n=rollouts, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed
    )
    config = checked(
        RevisionConfig,
        steps=steps,
        step_rule=step_rule,
        step_size=step_size,
        away_weight=away_weight,
        toward_weight=toward_weight,
        connector=connector.replace("\\n", "\n"),
        projection=projection,
        ban_answer_tokens=ban_answer,
        hull=hull,
        hull_size=hull_size,
        max_continuation_tokens=failed_tokens,
    )
    budget = checked(SamplingConfig, **{**sampling.model_dump(), "n": rollouts if samples is None else samples})
    if split not in ("auto", "fixed", "fraction", "first-error", "before-answer"):
        raise UserError(f"There is no split {split!r}: use fixed, fraction, first-error, before-answer or auto.")
    if prefix_length is not None and prefix_length < 1:
        raise UserError("--prefix-length must be 1 or more.")
    problem = make_problem(question, answer)
    need_writable(settings.runs_dir)
    tell = Progress()
    language_model = load_model(settings, progress=lambda share, text: tell(text, share))
    for fallback in language_model.fallbacks:
        tell(f"slower here: {fallback}", None)
    run = Run.start(language_model, problem, sampling)
    folder = settings.runs_dir / new_run_id(run.trace())

    def save(status: RunStatus | None = None, message: str | None = None, where: Path = folder) -> Trace:
        trace = run.trace(status, message)
        save_run(trace, run.trajectory(), where)
        return trace

    with Judge() as judge:
        try:
            for state in run.roll_out(judge):
                tell(f"Rollouts: {len(state.rollouts)} of {state.n} finished, {state.tokens} tokens", _share(state))
            failed = [i for i, r in enumerate(run.before) if r.verdict is not Verdict.CORRECT and len(r.token_ids) > 1]
            if rollout is not None or failed:
                index = best_failed(run.before, language_model.pieces) if rollout is None else rollout
                if not 0 <= index < len(run.before):
                    raise UserError(f"There is no rollout {index}: choose one of 0 to {len(run.before) - 1}.")
                chosen = run.before[index]
                options = presets(chosen, language_model.pieces(chosen.token_ids), chosen.answer)
                point = best_preset(options) if split == "auto" else next(p for p in options if p.name == split)
                if prefix_length is None and (point is None or point.m is None):
                    raise UserError(
                        f"{point.why if point else 'This rollout is too short to split.'} Use another --split."
                    )
                run.split_at(index, point.m if prefix_length is None else prefix_length, config)
                for step in run.revise():
                    tell(
                        f"Step {step.k + 1} of {config.steps}: toward {step.toward_loss:.3f}, gap {step.gap:.3f}",
                        (step.k + 1) / config.steps,
                    )
                for start, state in run.continue_from(judge, sampling=budget):
                    tell(f"After, {start.value}: {len(state.rollouts)} of {state.n} finished", _share(state))
                trace = save()
            else:
                why = "Every rollout is correct: there is nothing to revise."
                if run.hits < len(run.before):
                    why = "No failed rollout has the two tokens that a split takes: there is nothing to revise."
                trace = save(message=why)
        except BaseException as error:
            tell.end()
            if run.before:  # whatever ended it: what was finished is kept
                why = (RunStatus.FAILED, describe(error))
                if isinstance(error, KeyboardInterrupt):
                    why = (RunStatus.CANCELLED, "Interrupted.")
                try:
                    save(*why)
                except OSError:  # the disk that was full is still full: another one may not be
                    folder = Path(tempfile.mkdtemp(prefix="latentrevise-")) / folder.name
                    save(*why, folder)
                print(f"What was finished is in {folder}", file=sys.stderr)
            raise
    tell.end()
    summary = summarise(trace)
    if as_json:
        print(json.dumps({**summary, "run": str(folder)}))
    else:
        for line in describe_run(trace, summary):
            print(line)
        print(folder)


@app.command()
def hunt(
    problems: Annotated[
        str,
        typer.Option(help="bank, a family of it, a .jsonl, .csv or .parquet file, datasets:ID or reasoning-gym:TASK."),
    ],
    out: Annotated[Path, typer.Option(help="The hunt's folder; the same command goes on with what is there.")],
    model: Model = None,
    dtype: Dtype = None,
    device: Device = None,
    seed: Annotated[int, typer.Option(help="Seed of all sampling; each problem's own follows from it.")] = _S.seed,
    rollouts: Annotated[int, typer.Option(help="N, rollouts of each prompt.")] = _S.n,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = _S.temperature,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = _S.top_p,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a rollout.")] = _S.max_new_tokens,
    failed: Annotated[int, typer.Option(help="How many failed rollouts of a prompt are revised; 0: none.")] = 1,
    hits: Annotated[bool, typer.Option("--hits", help="Revise prompts that were hit as well.")] = False,
    more: Annotated[int, typer.Option(help="Draw zero-hit prompts on to this many times N; 1: not.")] = 1,
    split: Annotated[str, typer.Option(help="fixed, fraction, first-error, before-answer, or auto.")] = "auto",
    prefix_length: Annotated[int | None, typer.Option(help="M, tokens of the prefix; overrides --split.")] = None,
    steps: Annotated[int, typer.Option(help="K, Frank-Wolfe steps.")] = _R.steps,
    step_rule: Annotated[StepRule, typer.Option(help="How far a step goes.")] = _R.step_rule,
    step_size: Annotated[float, typer.Option(help="γ; for the line search its largest step.")] = _R.step_size,
    away_weight: Annotated[float, typer.Option(help="λ; 0 looks at the gold answer only.")] = _R.away_weight,
    toward_weight: Annotated[float, typer.Option(help="0 is the away-only ablation.")] = _R.toward_weight,
    connector: Annotated[str, typer.Option(help="Text between prefix and answer.")] = _R.connector,
    projection: Annotated[Projection, typer.Option(help="Distance that decides the nearest token.")] = _R.projection,
    ban_answer: Annotated[bool, typer.Option(help="The oracle may not pick the answer's tokens.")] = False,
    hull: Annotated[Hull, typer.Option(help="Which tokens a position may be pulled to.")] = _R.hull,
    hull_size: Annotated[int, typer.Option(help="How many likely tokens a place has, for plausible.")] = _R.hull_size,
    failed_tokens: Annotated[int, typer.Option(help="How many tokens of the failed continuation are scored.")] = (
        _R.max_continuation_tokens
    ),
    samples: Annotated[int | None, typer.Option(help="Continuations per start; default: as --rollouts.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    engine: Annotated[str, typer.Option(help="How prompts' rollouts are drawn: own, batch or vllm.")] = "own",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that can't be used.")] = False,
    as_json: Json = False,
) -> None:
    """Many problems: zero-hit or not, revise, continue, count. The last line is the hunt's folder."""
    from explorer import hunting

    sampling = checked(
        SamplingConfig, n=rollouts, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed
    )
    config = checked(
        RevisionConfig,
        steps=steps,
        step_rule=step_rule,
        step_size=step_size,
        away_weight=away_weight,
        toward_weight=toward_weight,
        connector=connector.replace("\\n", "\n"),
        projection=projection,
        ban_answer_tokens=ban_answer,
        hull=hull,
        hull_size=hull_size,
        max_continuation_tokens=failed_tokens,
    )
    asked = {"split": split, "prefix_length": prefix_length, "failed": failed, "hits": hits, "more": more}
    asked |= {"engine": engine, "samples": rollouts if samples is None else samples}
    asked |= {"sampling": sampling, "config": config}
    tell = Progress()
    try:
        lines, summary = hunting.hunt(
            problems, out, asked, limit, {"model": model, "dtype": dtype, "device": device}, checked, tell, skip_bad
        )
    finally:
        tell.end()
    print(json.dumps({**summary, "hunt": str(out)}) if as_json else "\n".join([*lines, str(out)]))


@app.command()
def audit(
    path: Annotated[Path, typer.Argument(help="A run's folder, or a folder of runs; a hunt's, too.")],
    controls: Annotated[str, typer.Option(help="Comma-separated; default: all.")] = "",
    samples: Annotated[int | None, typer.Option(help="Continuations of a control; default: as the rescue had.")] = None,
    out: Annotated[Path | None, typer.Option(help="Audited copies go there; default: into the runs.")] = None,
    model: Model = None,
    dtype: Dtype = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Is a rescue real? Run the controls that are missing, measure leaks, conclude. The last line is the folder."""
    from explorer import auditing
    from explorer.audit_controls import KINDS

    kinds = [kind.strip() for kind in controls.split(",") if kind.strip()] or KINDS
    tell = Progress()
    try:
        lines, summary = auditing.audit(
            path, kinds, samples, out, {"model": model, "dtype": dtype, "device": device}, tell
        )
    finally:
        tell.end()
    where = out or path
    print(json.dumps({**summary, "audit": str(where)}) if as_json else "\n".join([*lines, str(where)]))


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="A run's folder, or a folder of runs.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    form: Annotated[str, typer.Option("--format", help="sft, dpo, grpo or parquet.")] = "sft",
    as_json: Json = False,
) -> None:
    """Rows for training out of rescued traces; datasets.load_dataset reads them as they are."""
    from explorer.export import export_runs

    rows, wrong = export_runs(path, form, out)
    if as_json:
        print(json.dumps({"rows": rows, "left_out": wrong, "format": form, "file": str(out)}))
        return
    left = f"; {wrong} rescue(s) left out, whose prefix states another answer" if wrong else ""
    print(f"{rows} row(s) written{left}\n{out}")


app.command()(train)
app.command()(evaluate)


@app.command()
def bench(
    model: Model = None,
    dtype: Dtype = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="A JSON file for everything, written after every row.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions, a smaller problem set.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A row's name; may be given several times.")] = None,
    as_json: Json = False,
) -> None:
    """Measure against a plain reference, in one run: steps, sampling, memory, the page's start."""
    from explorer import bench as benchmark
    from explorer.settings import read_settings

    settings = read_settings(model=model, dtype=dtype, device=device)
    results = benchmark.run(
        settings, only or (), quick, out, tell=lambda text: print(text, file=sys.stderr, flush=True)
    )
    print(json.dumps(results.plain()) if as_json else benchmark.table(results))
    if results.interrupted:
        raise KeyboardInterrupt


def summarise(trace: Trace) -> dict:
    """Counts of a run, with Wilson 95 % intervals, ready for JSON; `tokens` and `markers` (signs of self-checking) are
    means of a rollout, or of a continuation without its prefix."""
    from explorer.export import rescued
    from explorer.statistics import reflection_markers, wilson_interval

    def tally(items) -> dict:
        n, correct = len(items), sum(item.verdict is Verdict.CORRECT for item in items)
        interval = [round(bound, 4) for bound in wilson_interval(correct, n)] if n else None
        found = {"n": n, "correct": correct, "interval": interval, "tokens": None, "markers": None}
        if n:
            found["tokens"] = round(sum(len(item.token_ids) for item in items) / n, 2)
            found["markers"] = round(sum(sum(reflection_markers(item.text).values()) for item in items) / n, 3)
        return found

    after = {start.value: tally([item for item in trace.after if item.start is start]) for start in Start}
    before = tally(trace.before)
    return {
        "status": trace.status.value,
        "message": trace.message,
        "model": trace.model.id,
        "problem": trace.problem.id,
        "before": before,
        "zero_hit": before["n"] > 0 and before["correct"] == 0,
        "steps": len(trace.steps),
        "after": after,
        "rescued": any(item.start is Start.REVISED for item in rescued(trace)),
        "seconds": round(sum(cost.seconds for cost in trace.cost.values()), 2),
    }


def describe_run(trace: Trace, summary: dict) -> list[str]:
    """The table for people."""

    def row(name: str, tally: dict) -> str:
        if not tally["n"]:
            return f"  {name:<22} –"
        low, high = tally["interval"]
        counted = f"{tally['correct']:>3} of {tally['n']:<4} correct"
        shape = f"mean {tally['tokens']:.1f} tokens, {tally['markers']:.2f} reflection markers"
        return f"  {name:<22} {counted}   95 % interval {100 * low:.0f}–{100 * high:.0f} %   {shape}"

    lines = [
        f"{trace.model.id} ({trace.model.dtype}, {trace.model.device}); {trace.problem.question!r} -> "
        f"{trace.problem.answer}"
    ]
    lines.append(row("before: rollouts", summary["before"]) + ("   zero-hit" if summary["zero_hit"] else ""))
    if trace.steps and trace.final:
        first = trace.steps[0]
        lines.append(
            f"  revision: {len(trace.steps)} steps, {trace.status.value}; toward loss {first.toward_loss:.3f} -> "
            f"{trace.final.toward_loss:.3f}, "
            f"away loss {first.away_loss:.3f} -> {trace.final.away_loss:.3f} nats/token, gap {first.gap:.3f} -> "
            f"{trace.final.gap:.3f}"
        )
    if trace.after:
        for name in Start:
            lines.append(row(f"after: {name.value}", summary["after"][name.value]))
    if trace.message:
        lines.append(f"  {trace.message}")
    return lines


def _share(state) -> float:
    return len(state.rollouts) / state.n


def _log_file() -> Path:
    from explorer.settings import read_settings

    return read_settings().cache_dir / "explorer.log"


def run_command(call: Callable[[], object]) -> int:
    """Call and translate whatever is raised into an exit code and one line on standard error; the traceback of a defect
    goes to a file in the cache folder."""
    with logged_to(_log_file) as log:
        try:
            result = call()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except TyperException as error:
            text = error.format_message() if hasattr(error, "format_message") else str(error)
            print(f"error: {' '.join(text.split())}", file=sys.stderr)
            return 2
        except Exit as error:
            return error.exit_code
        except (KeyboardInterrupt, typer.Abort):
            result = INTERRUPTED
        except Exception as error:
            said = describe(error)
            where = f" ({log.written})" if log.written else ""
            print(f"error: {said.removesuffix('.')}{where}.", file=sys.stderr)
            return 1 if "inside the explorer" in said else 2
    if result == INTERRUPTED:  # typer makes such a result of a KeyboardInterrupt
        print("Interrupted; everything finished is kept.", file=sys.stderr)
    return result if isinstance(result, int) else 0


def main(arguments: list[str] | None = None) -> None:
    """The entry of `python -m explorer`. Being asked to end (SIGTERM) is being interrupted, and a shell that started
    this in the background with interrupts off does not keep it from being interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Libraries tell their makers what runs (TRL which trainer); read by the hub's library when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(run_command(lambda: app(args=arguments, standalone_mode=False)))
