"""Which texts a training sees: candidates from run folders, a filter with a reason for each that it leaves out, no text
twice.

A rescued trace is the projected prefix and its verified continuation, as exact token ids; an own one is a correct
rollout of the plain prompt. Everything here follows from the runs alone; no model is needed.

What it does not do: decide whether a rescue is real (`audit_verdict.py`); it filters by what an audit found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from explorer.audit_verdict import Finding, audited_step, conclude
from explorer.checked import checked
from explorer.equations import find_equations
from explorer.errors import UserError
from explorer.export import rescued, right_as_a_whole
from explorer.files import modified_ns
from explorer.frank_wolfe import hull_weights
from explorer.records import Continuation, FinishReason, Record, Start, Trace, Verdict
from explorer.sources import called
from explorer.statistics import is_degenerate
from explorer.store import TRACE_FILE, find_runs, load_run
from explorer.training.request import Traces

OWN, RESCUED = "own", "rescued"
# Why a text of another model's run is left out.
OTHERS = "made by another model"


class SeveralModels(UserError):
    """Runs of several models, by these names, and nothing that says which of them is to be trained."""

    def __init__(self, names: str):
        super().__init__(
            f"These runs are of several models ({names}): train on those of one at a time, or name one with --model."
        )
        self.names = names


class TrainingTrace(Record):
    """A text that may be trained on.

    `completion_ids` are prefix and continuation without an end token; `finished` says that the model ended it itself,
    so that the end token belongs to it. `leak` is the weight on the answer's tokens in the revised prefix, the highest
    of its positions, 0..1; `log_p` the mean log-probability (nats per token) under the plain prompt; None where that
    was not measured. `whole`: prefix and continuation are right as one text, not the continuation alone. `failed_ids`
    is the rollout that was revised, for pairs.
    """

    origin: str
    run: str
    problem_id: str
    family: str = ""
    question: str
    answer: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    prefix_tokens: int = 0
    text: str
    finished: bool = True
    start: str = ""
    finding: str = ""
    leak: float | None = None
    log_p: float | None = None
    false_equations: int = 0
    whole: bool = True
    failed_ids: tuple[int, ...] = ()
    failed_finished: bool = True
    model_id: str = ""
    model_source: str = ""
    fingerprint: str = ""


class TraceFilter(Record):
    """What a trace must be; the defaults leave out loops, and what is right in its continuation alone.

    `findings`: audits' conclusions that are let through; empty lets all through, also runs that were not audited.
    """

    findings: tuple[Finding, ...] = ()
    max_leak: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    min_log_p: float | None = Field(None, le=0)
    sound: bool = False
    finished: bool = False
    per_problem: int | None = Field(None, ge=1)

    def objection(self, trace: TrainingTrace) -> str | None:
        """Why a trace is left out, in two or three words; None if it is not. An own rollout has no rescue's marks."""
        mine = trace.origin == RESCUED
        if is_degenerate(trace.completion_ids):
            return "in a loop"
        if not trace.whole:
            return "its prefix answers otherwise"
        if mine and self.findings and trace.finding not in [finding.value for finding in self.findings]:
            return f"found “{trace.finding}”" if trace.finding else "not audited"
        if mine and self.max_leak is not None and (trace.leak is None or trace.leak > self.max_leak):
            return "leak not known" if trace.leak is None else "leaks more"
        if self.max_tokens is not None and len(trace.completion_ids) > self.max_tokens:
            return "too long"
        if mine and self.min_log_p is not None and (trace.log_p is None or trace.log_p < self.min_log_p):
            return "log p not known" if trace.log_p is None else "too unlikely"
        if self.sound and trace.false_equations:
            return "a false equation"
        if self.finished and not trace.finished:
            return "cut off"
        return None


def read_filter(values: Mapping[str, object]) -> TraceFilter:
    """A filter of given values, `max_trace_tokens` for its `max_tokens`; what is None or empty keeps its default.

    Raises:
        UserError: a value that can't be; the sentence names its option.
    """
    named = {**values, "max_tokens": values.get("max_trace_tokens")}
    given = {name: named[name] for name in TraceFilter.model_fields if named.get(name) not in (None, "")}
    return checked(TraceFilter, {"max-tokens": "max-trace-tokens"}, **given)


class Chosen(Record):
    """What a filter let through, and how many it left out by reason."""

    traces: tuple[TrainingTrace, ...] = ()
    left_out: dict[str, int] = Field(default_factory=dict)
    runs: int = 0


def candidates(trace: Trace, run: str = "") -> list[TrainingTrace]:
    """Every text of a run that was verified correct."""
    common = {
        "run": run,
        "problem_id": trace.problem.id,
        "family": trace.problem.family,
        "question": trace.problem.question,
        "answer": trace.problem.answer,
        "prompt_ids": trace.prompt.token_ids,
        "model_id": trace.model.id,
        "model_source": trace.model.source,
        "fingerprint": trace.model.fingerprint,
    }
    found = [
        TrainingTrace(
            origin=OWN,
            completion_ids=item.token_ids,
            text=item.text,
            finished=item.finish is FinishReason.STOP,
            false_equations=_false(item.text),
            **common,
        )
        for item in trace.before
        if item.verdict is Verdict.CORRECT
    ]
    if trace.split is None:
        return found
    audit = conclude(trace, run) if trace.leaks is not None else None
    step = audited_step(trace)
    failed = trace.before[trace.split.rollout]
    known = _log_p(trace)
    for item in rescued(trace):
        found.append(
            TrainingTrace(
                origin=RESCUED,
                completion_ids=item.prefix_token_ids + item.token_ids,
                prefix_tokens=len(item.prefix_token_ids),
                text=item.prefix_text + item.text,
                finished=item.finish is FinishReason.STOP,
                start=item.start.value,
                finding=audit.finding.value if audit and item.step == step else "",
                leak=leak(trace, item),
                log_p=known.get(item.prefix_token_ids + item.token_ids),
                false_equations=_false(item.prefix_text + item.text),
                whole=right_as_a_whole(trace, item),
                failed_ids=failed.token_ids,
                failed_finished=failed.finish is FinishReason.STOP,
                **common,
            )
        )
    return found


def leak(trace: Trace, item: Continuation) -> float | None:
    """The highest weight of any position on a token that reads like one of the answer's, at the step that a
    continuation was drawn from; None where the trace does not tell the tokens' texts."""
    if trace.anchor is None or trace.vocabulary is None:
        return None
    texts = trace.vocabulary.texts
    start, end = trace.anchor.answer_span
    answer = {texts.get(token, "").strip() for token in trace.anchor.token_ids[start:end]} - {""}
    steps = trace.steps[: item.step]
    weights = hull_weights(trace.split.prefix_token_ids, [s.vertices for s in steps], [s.step_size for s in steps])
    masses = (sum(mass for token, mass in row.items() if texts.get(token, "").strip() in answer) for row in weights)
    return round(max(masses, default=0.0), 4)


def _log_p(trace: Trace) -> dict[tuple[int, ...], float | None]:
    """log p of the rescued texts that were measured, by token ids; `leaks.py` has them in the order of `after`."""
    if trace.leaks is None:
        return {}
    correct = [
        item
        for item in trace.after
        if item.start is Start.REVISED and item.step == trace.leaks.step and item.verdict is Verdict.CORRECT
    ]
    return {
        item.prefix_token_ids + item.token_ids: stated.log_p
        for item, stated in zip(correct, trace.leaks.stated, strict=False)
    }


def _false(text: str) -> int:
    return sum(not equation.holds for equation in find_equations(text))


def read_candidates(paths: Sequence[Path]) -> tuple[list[TrainingTrace], int]:
    """Candidates of all runs in some folders, whichever models made them, and how many runs that are.

    Raises:
        UserError: no run, or one that can't be read.
    """
    found: list[TrainingTrace] = []
    folders = [folder for path in paths for folder in find_runs(path)]
    for folder in dict.fromkeys(folders):
        found += _of_run(folder.absolute(), modified_ns(folder / TRACE_FILE))
    return found, len(dict.fromkeys(folders))


def of_model(found: Sequence[TrainingTrace], owner: tuple[str, str] | None) -> tuple[list[TrainingTrace], int]:
    """Those that one model made, and how many others did. Only names are looked at: one model in two number formats has
    two fingerprints, and `Trainee.need_own` knows them.

    Args:
        found: of any models.
        owner: (id, source) of the model that is trained; None where that is to follow from the texts.

    Raises:
        SeveralModels: they are of several, none of them the owner.
    """
    makers = dict.fromkeys((trace.model_id, trace.model_source) for trace in found)
    if len(makers) < 2:
        return list(found), 0  # those of another one alone are refused with its name
    if owner not in makers:
        raise SeveralModels(" and ".join(sorted(called(*maker) for maker in makers)))
    own = [trace for trace in found if (trace.model_id, trace.model_source) == owner]
    return own, len(found) - len(own)


@lru_cache(maxsize=4_096)
def _of_run(folder: Path, changed: int) -> tuple[TrainingTrace, ...]:
    """Candidates of a run, read once for each version of it: a page asks again at every key."""
    return tuple(candidates(load_run(folder, with_trajectory=False)[0], folder.name))


def choose(found: Iterable[TrainingTrace], which: Traces, wanted: TraceFilter, runs: int = 0) -> Chosen:
    """Those that pass, each text once.

    Of a problem with more than `per_problem` of one origin the likeliest under the plain prompt stay (unknown last),
    then the shorter.
    """
    left: Counter[str] = Counter()
    passed: dict[tuple, TrainingTrace] = {}
    for trace in found:
        if which is not Traces.BOTH and trace.origin != which.value:
            continue
        why = wanted.objection(trace)
        if why is None and (trace.prompt_ids, trace.completion_ids) in passed:
            why = "the same text again"
        if why is not None:
            left[why] += 1
            continue
        passed[trace.prompt_ids, trace.completion_ids] = trace
    kept = list(passed.values())
    if wanted.per_problem is not None:
        kept, over = _capped(kept, wanted.per_problem)
        if over:
            left["more than asked of its problem"] = over
    return Chosen(traces=tuple(kept), left_out=dict(left.most_common()), runs=runs)


def _capped(traces: list[TrainingTrace], most: int) -> tuple[list[TrainingTrace], int]:
    groups: dict[tuple[str, str], list[TrainingTrace]] = {}
    for trace in traces:
        groups.setdefault((trace.question, trace.origin), []).append(trace)

    def rank(trace: TrainingTrace) -> tuple:
        return (trace.log_p is None, -(trace.log_p or 0.0), len(trace.completion_ids), trace.completion_ids)

    stay = {id(trace) for group in groups.values() for trace in sorted(group, key=rank)[:most]}
    return [trace for trace in traces if id(trace) in stay], len(traces) - len(stay)
