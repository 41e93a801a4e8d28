"""What a hunt found, counted: per family and in all, rates with Wilson 95 % intervals, pass@k; and the files of it.

Every figure follows from the results alone, so it can be made at any moment, by any process, again and again.

What it does not do: run anything (`hunt.py`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from explorer.hunt import HuntConfig, ProblemResult
from explorer.records import Hull, Record, RevisionConfig, Start, StepRule
from explorer.statistics import pass_at_k, wilson_interval
from explorer.store import write_atomic

SUMMARY_FILE, TABLE_FILE = "summary.json", "results.csv"
ALL = "all"


class Rate(Record):
    """`x` of `n` problems, and Wilson's 95 % interval."""

    x: int
    n: int
    low: float
    high: float

    @property
    def words(self) -> str:
        """3 of 12 (9–53 %); a dash where there is nothing to count."""
        if not self.n:
            return "–"
        return f"{self.x} of {self.n} ({100 * self.low:.0f}–{100 * self.high:.0f} %)"


class FamilySummary(Record):
    """One row of the table. `zero_hit` is of all problems with rollouts; the rates after it are of the zero-hit ones:
    those of which something was revised, and with `hit_by_more` those drawn on. `pass_at` is the mean over problems of
    the unbiased estimator (Chen et al. 2021), by k."""

    family: str
    problems: int
    passed_over: int
    zero_hit: Rate
    rescued: Rate
    projected: Rate
    unrevised: Rate
    hit_by_more: Rate
    pass_at: dict[int, float]


def rate(x: int, n: int) -> Rate:
    """x of n with its interval."""
    low, high = wilson_interval(x, n)
    return Rate(x=x, n=n, low=low, high=high)


def summarise(results: Sequence[ProblemResult]) -> tuple[FamilySummary, ...]:
    """One row per family in alphabetical order, then all together; only `all` where there is one family."""
    families = sorted({result.family for result in results})
    rows = [_row(name or "–", [r for r in results if r.family == name]) for name in families if len(families) > 1]
    return (*rows, _row(ALL, results))


def _row(name: str, results: Sequence[ProblemResult]) -> FamilySummary:
    judged = [result for result in results if result.before.n]
    zero = [result for result in judged if result.zero_hit]
    revised = [result for result in zero if result.revised]
    wider = [result for result in zero if result.more is not None]

    def of(among: Sequence[ProblemResult], holds: Callable[[ProblemResult], bool]) -> Rate:
        return rate(sum(map(holds, among)), len(among))

    return FamilySummary(
        family=name,
        problems=len(results),
        passed_over=len(results) - len(judged),
        zero_hit=of(judged, lambda result: result.zero_hit),
        rescued=of(revised, lambda result: result.rescued(Start.REVISED)),
        projected=of(revised, lambda result: result.rescued(Start.PROJECTED)),
        unrevised=of(revised, lambda result: result.rescued(Start.ORIGINAL)),
        hit_by_more=of(wider, lambda result: result.more.correct > 0),
        pass_at=_pass_at(judged),
    )


def _pass_at(results: Sequence[ProblemResult]) -> dict[int, float]:
    """Mean pass@k for k = 1, 2, 4, … up to N; empty without results."""
    if not results:
        return {}
    n = min(result.before.n for result in results)
    ks = sorted({min(2**i, n) for i in range(n.bit_length() + 1)} - {0})
    return {k: sum(pass_at_k(r.before.n, r.before.correct, k) for r in results) / len(results) for k in ks}


def step_size(config: RevisionConfig) -> str:
    """γ as it was: its number only where that is what a step takes."""
    return {
        StepRule.CONSTANT: f"{config.step_size:g}",
        StepRule.HARMONIC: "2/(k+2)",
        StepRule.LINE_SEARCH: f"by line search up to {config.step_size:g}",
    }[config.step_rule]


def unusual(config: RevisionConfig) -> list[str]:
    """What else shaped a revision, where it is not the default."""
    plain, hull = RevisionConfig(), config.hull
    found = {
        "toward_weight": f"toward weight {config.toward_weight:g}",
        "hull": f"hull {hull.value}" + (f" of {config.hull_size}" if hull is Hull.PLAUSIBLE else ""),
        "ban_answer_tokens": "the answer's tokens banned",
        "connector": f"connector {config.connector!r}",
        "projection": f"projection by {config.projection.value}",
        "max_continuation_tokens": f"{config.max_continuation_tokens} failed tokens scored",
        "gap_tolerance": f"ended at a gap of {config.gap_tolerance:g}",
    }
    return [said for name, said in found.items() if getattr(config, name) != getattr(plain, name)]


def words(results: Sequence[ProblemResult], config: HuntConfig) -> list[str]:
    """The table for people, its settings first."""
    sampling, rows = config.sampling, summarise(results)
    revision = "nothing revised"
    if config.failed:
        revision = ", ".join(
            [
                f"revised: {config.failed} failed rollout(s) of a {'prompt' if config.hits else 'zero-hit prompt'}",
                f"split {config.split}" if config.prefix_length is None else f"prefix of {config.prefix_length} tokens",
                f"K {config.config.steps}",
                f"γ {step_size(config.config)}",
                f"λ {config.config.away_weight:g}",
                *unusual(config.config),
                f"{config.samples} continuations from each start",
            ]
        )
    lines = [
        f"{config.model.id} ({config.model.dtype}); {config.problems}; N {sampling.n}, temperature "
        f"{sampling.temperature:g}, top-p {sampling.top_p:g}, at most {sampling.max_new_tokens} tokens, seed "
        f"{sampling.seed}{'' if config.engine == 'own' else f', engine {config.engine}'}; {revision}",
        "",
    ]
    columns = [
        ["family", *(row.family for row in rows)],
        ["problems", *(f"{row.problems}" for row in rows)],
        [f"zero-hit at {sampling.n}", *(row.zero_hit.words for row in rows)],
        ["rescued", *(row.rescued.words for row in rows)],
        ["projected", *(row.projected.words for row in rows)],
        ["unrevised prefix", *(row.unrevised.words for row in rows)],
    ]
    if config.more > 1:
        columns.append([f"hit at {sampling.n * config.more}", *(row.hit_by_more.words for row in rows)])
    widths = [max(map(len, column)) for column in columns]
    for line in zip(*columns, strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    lines += [
        "",
        "rescued, projected and unrevised prefix: of the zero-hit problems with a revised rollout, those with a",
    ]
    lines += ["correct continuation from there, at the same budget; intervals are Wilson's at 95 %."]
    if rows[-1].pass_at:
        curve = ", ".join(f"@{k} {100 * value:.1f} %" for k, value in rows[-1].pass_at.items())
        lines.append(f"pass of the plain prompt: {curve}")
    for what, faulty in (
        ("passed over", [r for r in results if r.error and not r.before.n]),
        ("not revised", [r for r in results if r.error and r.before.n]),
    ):
        lines += [f"{what}: {result.problem}: {result.error}" for result in faulty[:5]]
        if len(faulty) > 5:
            lines.append(f"{what}: {len(faulty) - 5} more, see {TABLE_FILE}")
    return lines


def write_tables(out: Path, results: Sequence[ProblemResult], config: HuntConfig) -> dict:
    """Write `summary.json` and `results.csv` into the hunt's folder; the summary as plain values."""
    results = sorted(results, key=lambda result: result.problem)
    summary = {
        "schema_version": 1,
        "settings": config.model_dump(mode="json"),
        "families": [row.model_dump(mode="json") for row in summarise(results)],
    }
    write_atomic(out / SUMMARY_FILE, json.dumps(summary, indent=1, ensure_ascii=False).encode())
    write_atomic(out / TABLE_FILE, _csv(results).encode())
    return summary


def _csv(results: Sequence[ProblemResult]) -> str:
    """One line per problem and revised rollout; a problem without one has empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    starts = [f"{start.value}_{what}" for start in Start for what in ("n", "correct", "truncated")]
    head = ["problem", "family", "question", "answer", "n", "correct", "unjudged", "truncated", "zero_hit"]
    cells = ["run", "rollout", "split", "prefix_length", *starts]
    writer.writerow([*head, "more_n", "more_correct", *cells, "seconds", "error"])
    for result in results:
        before, more = result.before, result.more
        head = [result.problem, result.family, result.question, result.answer, before.n, before.correct]
        head += [before.unjudged, before.truncated, int(result.zero_hit) if before.n else ""]
        head += [more.n, more.correct] if more else ["", ""]
        for item in result.revised or (None,):
            cells = [""] * (4 + len(starts))
            if item is not None:
                cells = [item.run, item.rollout, item.split, item.prefix_length]
                for start in Start:
                    cells += [item.after[start].n, item.after[start].correct, item.after[start].truncated]
            writer.writerow([_safe(cell) for cell in [*head, *cells, result.seconds, result.error]])
    return text.getvalue()


def _safe(cell: object) -> object:
    """A spreadsheet takes a text that begins with one of these for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
