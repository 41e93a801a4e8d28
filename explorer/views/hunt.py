"""The hunt's screen: what may be asked for, what a request amounts to, where the hunt stands, and what it found. Pure
functions from records; `assets/hunt-form.js`, `hunt.js` and `hunt-table.js` show them.

Every rate says of how many, and carries Wilson's 95 % interval.

What it does not do: read files, know Gradio, start anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from explorer.hunt import HuntConfig, ProblemResult, folder_name
from explorer.hunt_request import HuntRequest
from explorer.hunt_table import FamilySummary, Rate, step_size, summarise, unusual
from explorer.hunt_time import START_S, Speed, seconds_per_prompt
from explorer.jobs import Job, JobState
from explorer.problems import BadRow
from explorer.records import Start
from explorer.statistics import wilson_interval

Payload = dict[str, Any]

# Bad rows shown; the rest is counted.
SHOWN_ROWS = 200


# -- asking ----------------------------------------------------------------------------------------


def form_payload(
    families: Mapping[str, int], gym: bool, plain: HuntRequest | None = None, vllm: bool = False
) -> Payload:
    """The sets on offer, and the form's first values.

    Args:
        families: problems of each family of the bank.
        gym: whether reasoning-gym is installed.
        plain: the first values; default: those of a fresh request.
        vllm: whether vLLM is installed.
    """
    total = sum(families.values())
    sets = [{"value": "bank", "label": f"Built-in bank, all {total} prompts"}]
    sets += [{"value": name, "label": f"Built-in bank, only {name} ({count})"} for name, count in families.items()]
    return {"sets": sets, "gym": gym, "vllm": vllm, "values": (plain or HuntRequest()).model_dump(mode="json")}


def plan_payload(
    request: HuntRequest | None = None,
    *,
    ticket: int = 0,
    hunt: str = "",
    error: str = "",
    command: str = "",
    found: int | None = None,
    bad: Sequence[BadRow] = (),
    unit: str = "line",
    speed: Speed | None = None,
    measured_on: str = "",
) -> Payload:
    """What a request amounts to, before anything runs.

    Args:
        request: None where it is faulty; `error` then says why.
        ticket: of which version of the form this tells.
        hunt: the name that it would have.
        command: as a person would type it.
        found: usable problems of the set; None where only loading it would tell.
        bad: its rows that can't be used.
        unit: what their numbers count.
        speed: None where this model was not timed here.
        measured_on: where the speed comes from, as the end of a sentence.
    """
    doubled = [row for row in bad if row.same_id]
    blocked = error
    if request is not None and not blocked and bad:
        if doubled:
            blocked = "Two rows of one id: which of them is meant? Give every problem an id of its own."
        elif not request.skip_bad:
            blocked = "Mend these rows, or tick that they are left out."
    return {
        "ticket": ticket,
        "hunt": hunt,
        "error": error,
        "blocked": blocked,
        "command": command,
        "estimate": "" if request is None or error else _estimate(request, found, speed, measured_on),
        "unit": unit,
        "bad": [{"line": row.line, "why": row.why, "same_id": row.same_id} for row in bad[:SHOWN_ROWS]],
        "bad_total": len(bad),
        "skippable": bool(bad) and not doubled,
    }


def _estimate(request: HuntRequest, found: int | None, speed: Speed | None, measured_on: str) -> str:
    count = found if found is None or request.limit is None else min(found, request.limit)
    known = count if found is not None else request.limit
    what = "a set whose size is known once it is loaded" if known is None else _prompts(known)
    if speed is None:
        return f"For {what}. This model was not timed here yet: the time left shows after the first prompt."
    hit, zero = seconds_per_prompt(request, speed)
    per = f"{duration(hit)} for a prompt that is hit, {duration(zero)} for a zero-hit one"
    if known is None:
        return f"For {what}: about {per}, {measured_on}."
    low, high = START_S + known * hit, START_S + known * zero
    return (
        f"For {what}: {duration(low)} if every one is hit, {duration(high)} if none is, {measured_on}. "
        "Other work on this machine slows it down."
    )


def _prompts(count: int) -> str:
    return f"{count} prompt" if count == 1 else f"{count:,} prompts"


def duration(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 3 h; never more exact than an estimate is."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 10 * 3600 else f"{seconds / 3600:.0f} h"


# -- where it stands -------------------------------------------------------------------------------


def status_payload(
    hunts: Sequence[tuple[str, str]],
    shown: str | None,
    job: Job | None,
    progress: Sequence[Mapping[str, Any]],
    *,
    other: Job | None = None,
    other_hunt: str | None = None,
    unfinished: Job | None = None,
    rows: int = 0,
    mark: str = "",
    beat: int = 0,
) -> Payload:
    """The hunts that there are, and where the one on show stands.

    Args:
        hunts: (name, words) of each, newest first.
        shown: the name of the one on show; None where there is none.
        job: the one that steers it, the hunt or an audit of it; None where it was started elsewhere.
        progress: the contents of its `progress-*.json`, one for each process.
        other: another job that runs, so that none can be started.
        other_hunt: the hunt that it is about.
        unfinished: the hunt's own job where an audit that broke off stands before it: it can still be gone on with.
        rows: how many problems are done, as counted in the results.
        mark: changes whenever the table does.
        beat: changes with every answer, so that the page knows that one came.
    """
    return {
        "hunts": [{"id": name, "words": words} for name, words in hunts],
        "shown": shown,
        "job": None if job is None else _job(job, rows),
        "progress": _progress(job, progress, rows),
        "rows": rows,
        "other": None if other is None else {"title": other.title, "hunt": other_hunt},
        "unfinished": unfinished and unfinished.id,
        "mark": mark,
        "beat": beat,
    }


SAID = {
    JobState.RUNNING: "Running",
    JobState.STOPPING: "Stopping at the next step",
    JobState.DONE: "Done",
    JobState.PAUSED: "Paused",
    JobState.CANCELLED: "Cancelled",
    JobState.FAILED: "Failed",
    JobState.DIED: "Its process is gone",
}


def _job(job: Job, rows: int) -> Payload:
    last = job.last_lines[-1] if job.last_lines else ""
    words = {
        JobState.PAUSED: "Everything finished is kept; “Go on” takes it up where it stood.",
        JobState.CANCELLED: "What was finished is kept; “Go on” takes it up where it stood.",
        JobState.FAILED: last.removeprefix("error: ") or "It gave no reason.",
        JobState.DIED: "It was killed, ran out of memory, or the machine went down. Nothing finished is lost: “Go on” "
        "takes it up where it stood.",
    }.get(job.state, "")
    return {
        "id": job.id,
        "kind": job.kind,
        "title": job.title,
        "state": job.state.value,
        "said": SAID[job.state],
        "words": words,
        "alive": job.alive,
        "last": last,
        "last_lines": list(job.last_lines) if job.state in (JobState.FAILED, JobState.DIED) else [],
    }


def _progress(job: Job | None, parts: Sequence[Mapping[str, Any]], rows: int) -> Payload | None:
    """The processes' progress as one. A file may be of an earlier time: what is done is counted in the results."""
    if not parts:
        return None
    total = sum(number(part, "total") for part in parts)
    running = [part for part in parts if part.get("state") == "running"] if job and job.alive else []
    left = [number(part, "seconds_left") for part in running]
    now = max(running, key=lambda part: number(part, "at"), default={})
    return {
        "done": min(rows, total),
        "total": total,
        "problem": str(now.get("problem", "")),
        "stage": str(now.get("stage", "")),
        "left": f"about {duration(max(left))} left" if left and max(left) > 0 else "",
    }


def number(values: Mapping[str, Any], key: str) -> float:
    """A number that another process wrote down; 0 where it is none, negative or not finite."""
    value = values.get(key)
    return value if isinstance(value, int | float) and 0 <= value < math.inf else 0


# -- what it found ---------------------------------------------------------------------------------


def table_payload(
    hunt: str,
    results: Sequence[ProblemResult],
    config: HuntConfig,
    findings: Mapping[str, str] | None = None,
    mark: str = "",
) -> Payload:
    """The results so far: a row for each prompt, a row for each family, the pass@k curves.

    Args:
        hunt: its name.
        results: in any order.
        config: what the hunt was asked for.
        findings: what audits concluded, by run.
        mark: see `status_payload`.
    """
    families = summarise(results)
    total = families[-1]
    n, wide = config.sampling.n, config.sampling.n * config.more
    return {
        "hunt": hunt,
        "mark": mark,
        "n": n,
        "wide": wide if config.more > 1 else None,
        "samples": config.samples,
        "settings": _settings(config),
        "rows": [_row(result, findings or {}) for result in sorted(results, key=lambda one: one.problem)],
        "families": [_family(family) for family in families] if results else [],
        "words": _words(total, n, wide) if results else "",
        "audited": len(findings or {}),
    }


def _settings(config: HuntConfig) -> str:
    s, r = config.sampling, config.config
    which = "prompts of every kind" if config.hits else "zero-hit prompts"
    revised = f"{config.failed} failed rollout{'' if config.failed == 1 else 's'} of {which} revised"
    cut = f"split {config.split}" if config.prefix_length is None else f"prefix of {config.prefix_length} tokens"
    return " · ".join(
        [
            f"{config.model.id} ({config.model.dtype})",
            f"N = {s.n}, temperature {s.temperature:g}, top-p {s.top_p:g}, at most {s.max_new_tokens} tokens, "
            f"seed {s.seed}",
            ", ".join(
                [f"{revised}: {cut}", f"K = {r.steps}", f"γ = {step_size(r)}", f"λ = {r.away_weight:g}", *unusual(r)]
            )
            if config.failed
            else "nothing revised",
            f"n = {config.samples} continuations from each start",
        ]
    )


def _row(result: ProblemResult, findings: Mapping[str, str]) -> Payload:
    best = max(result.revised, key=lambda item: item.after[Start.REVISED].correct, default=None)
    found = [findings[item.run] for item in result.revised if item.run in findings]

    def arm(start: Start) -> Payload | None:
        tallies = [item.after[start] for item in result.revised if start in item.after]
        return _count(sum(t.correct for t in tallies), sum(t.n for t in tallies)) if tallies else None

    return {
        "problem": result.problem,
        "family": result.family,
        "question": result.question,
        "answer": result.answer,
        "before": _count(result.before.correct, result.before.n),
        "zero_hit": result.zero_hit,
        "more": None if result.more is None else _count(result.more.correct, result.more.n),
        # Without a revision there are still its rollouts to see.
        "run": None if not result.before.n else best.run if best else folder_name(result.problem),
        "stage": best is not None,
        "revised": arm(Start.REVISED),
        "projected": arm(Start.PROJECTED),
        "original": arm(Start.ORIGINAL),
        "rescued": result.zero_hit and bool(result.revised) and result.rescued(Start.REVISED),
        "finding": found[0] if len(set(found)) == 1 else "; ".join(dict.fromkeys(found)),
        "error": "" if result.before.n else result.error,
        "not_revised": result.error if result.before.n else "",
    }


def _count(x: int, n: int) -> Payload:
    return {"x": x, "n": n, "interval": list(wilson_interval(x, n))}


def _rate(rate: Rate) -> Payload | None:
    return {"x": rate.x, "n": rate.n, "interval": [rate.low, rate.high]} if rate.n else None


def _family(family: FamilySummary) -> Payload:
    judged = family.problems - family.passed_over
    return {
        "family": family.family,
        "problems": family.problems,
        "judged": judged,
        "passed_over": family.passed_over,
        "zero_hit": _rate(family.zero_hit),
        "rescued": _rate(family.rescued),
        "projected": _rate(family.projected),
        "original": _rate(family.unrevised),
        "hit_by_more": _rate(family.hit_by_more),
        "pass_at": [[k, round(p, 5)] for k, p in family.pass_at.items()],
    }


def _words(total: FamilySummary, n: int, wide: int) -> str:
    """What was found so far, in a few sentences."""
    zero, rescued = total.zero_hit, total.rescued
    said = f"{zero.x} of {zero.n} prompts are zero-hit: none of {n} rollouts was right."
    if total.hit_by_more.n:
        said += f" Drawn on to {wide}, {total.hit_by_more.x} of these {total.hit_by_more.n} were hit."
    if rescued.n:
        said += f" {rescued.x} of {rescued.n} zero-hit prompts with a revised rollout were rescued"
        said += f"; the unrevised prefix, at the same budget, found {total.unrevised.x} of {total.unrevised.n}."
    if total.passed_over:
        said += f" {total.passed_over} could not be tried; the table says why."
    return said
