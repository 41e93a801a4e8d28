"""Many problems through the loop: find the zero-hit ones, revise what failed, see what is rescued; killed at any moment
it goes on where it stood.

A hunt is a folder: `hunt.json` (what was asked), one run folder for each problem and revised rollout (so that `export`
takes the whole), and one `results-<writer>.jsonl` for each process, a line for each finished problem. A run is saved
after every stage, so a hunt that comes back does no finished stage twice. A problem's seed comes from its id, not from
its place: neither a limit nor the number of processes changes what is drawn.

What it does not do: count (`hunt_table.py`), draw, decide whether a rescue is real (`audit.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pydantic import Field, ValidationError

from explorer.errors import UserError
from explorer.model import LanguageModel, NotFinite
from explorer.pipeline import STREAM_BEFORE, Cancelled, Run, never
from explorer.records import (
    FinishReason,
    ModelInfo,
    Problem,
    Record,
    RevisionConfig,
    Rollout,
    RunStatus,
    SamplingConfig,
    Start,
    Trace,
    Verdict,
)
from explorer.rollout import Engine, JudgeLike, sample_and_judge
from explorer.split import best_failed, best_preset, presets
from explorer.store import load_run, save_run, write_atomic
from explorer.together import TogetherRollouts
from explorer.verdict import NoJudge
from explorer.vllm_rollouts import VllmRollouts

HUNT_FILE = "hunt.json"
SPLITS = ("auto", "fixed", "fraction", "first-error", "before-answer")


class HuntConfig(Record):
    """Everything that shapes what a hunt finds; a folder holds one hunt.

    `engine` drew the rollouts of the prompts: our own model prompt by prompt (own) or several prompts in one batch
    (batch), whose rounding differs, or vLLM, whose random numbers differ.
    `failed` rollouts of a zero-hit prompt are revised (0: none), with `hits` also of prompts that were hit; each then
    gets `samples` continuations from every start. Zero-hit prompts are drawn on to `more` times the rollouts (1: not).
    """

    schema_version: int = 1
    problems: str
    model: ModelInfo
    sampling: SamplingConfig
    config: RevisionConfig
    split: str = "auto"
    prefix_length: int | None = Field(None, ge=1)
    engine: str = "own"
    failed: int = Field(1, ge=0, le=64)
    hits: bool = False
    samples: int = Field(8, ge=1, le=1024)
    more: int = Field(1, ge=1, le=64)


class Tally(Record):
    """Continuations or rollouts counted: `truncated` ended at the token limit."""

    n: int = 0
    correct: int = 0
    unjudged: int = 0
    truncated: int = 0


class Revised(Record):
    """What came of one failed rollout: its run's folder, where it was cut, the continuations from each start, and how
    many steps they were drawn after: a line search may find none, and what comes of that is no rescue (None: not
    counted yet when it was written)."""

    run: str
    rollout: int
    split: str
    prefix_length: int
    after: dict[Start, Tally]
    steps: int | None = None


class ProblemResult(Record):
    """One line of the results: a problem that is done, `at` when, in seconds since 1970. `error` says why a problem was
    passed over or, with `before`, why what failed was not revised."""

    problem: str
    family: str = ""
    question: str = ""
    answer: str = ""
    seed: int = 0
    before: Tally = Tally()
    more: Tally | None = None
    revised: tuple[Revised, ...] = ()
    seconds: float = 0.0
    at: float = 0.0
    error: str = ""

    @property
    def zero_hit(self) -> bool:
        """Whether none of its N rollouts was correct; not where there are none."""
        return self.before.n > 0 and self.before.correct == 0

    def rescued(self, start: Start) -> bool:
        """Whether any continuation from this start was correct; of a start that was revised, or projected, after at
        least one step."""
        return any(item.after[start].correct for item in self.revised if start is Start.ORIGINAL or item.steps != 0)


@dataclass(frozen=True)
class HuntState:
    """Where a hunt stands: `done` of `total` problems of this process, which one is under way and how far, what came
    new. `seconds_left` is an estimate from the problems done since it began, None before the first."""

    done: int
    total: int
    problem: str = ""
    stage: str = ""
    finished: ProblemResult | None = None
    seconds_left: float | None = None


@dataclass
class Hunt:
    """One process's share of a hunt. Iterate over `run()`; not asking for the next state is pausing."""

    model: LanguageModel
    problems: Sequence[Problem]
    config: HuntConfig
    out: Path
    judge: JudgeLike
    rank: int = 0
    world: int = 1
    drawer: VllmRollouts | TogetherRollouts | None = None
    results: dict[str, ProblemResult] = field(default_factory=dict)

    def run(self, cancelled: Cancelled = never) -> Iterator[HuntState]:
        """Do what is not done yet, one problem after another.

        Args:
            cancelled: asked at every decoding step and revision step; true ends it, and finished stages are kept.

        Yields:
            where it stands, at least once for each problem; the first state before anything is done.

        Raises:
            UserError: the folder holds another hunt, another process works at this share, it can't be written, or
                nothing can be judged.
        """
        from filelock import FileLock, Timeout

        _claim(self.out, self.config)
        lock = FileLock(self.out / f".hunt-{self.rank}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"Another process is hunting in {self.out}, or auditing it: wait for it, or choose another --out."
            ) from None
        try:
            yield from self._share(cancelled)
        finally:
            lock.release()

    def _share(self, cancelled: Cancelled) -> Iterator[HuntState]:
        writer = self.out / f"results-{self.rank}.jsonl"
        mend(writer)
        self.results = of_problems(read_results(self.out), self.problems)
        mine = [problem for index, problem in enumerate(self.problems) if index % self.world == self.rank]
        waiting = [problem for problem in mine if problem.id not in self.results]
        self._put_aside_mended(waiting)
        state = HuntState(len(mine) - len(waiting), len(mine))
        yield state
        begun = time.monotonic()
        for index, problem in enumerate(waiting):
            state = replace(state, problem=problem.id, stage="rollouts", finished=None)
            result = yield from self._problem(problem, state, cancelled)
            if result is None:
                return
            _append(writer, result)
            self.results[problem.id] = result
            left = (time.monotonic() - begun) / (index + 1) * (len(waiting) - index - 1)
            state = replace(state, done=state.done + 1, stage="done", finished=result, seconds_left=left)
            yield state

    def _problem(self, problem: Problem, state: HuntState, cancelled: Cancelled) -> Iterator[HuntState]:
        """One problem to its end; returns its result, or None when it was cancelled."""
        begun = time.perf_counter()
        seed = seed_of(problem.id, self.config.sampling.seed)
        result = ProblemResult(
            problem=problem.id, family=problem.family, question=problem.question, answer=problem.answer, seed=seed
        )
        found: dict[str, object] = {}
        while True:
            try:
                whole = yield from self._stages(problem, seed, state, cancelled, found)
            except NoJudge:  # not this problem's own: written down as its result, it would never be tried again
                raise
            except UserError as error:  # this problem's own: too long, no anchor; what was found before that stands
                batched = isinstance(error, NotFinite) and isinstance(self.drawer, TogetherRollouts)
                if batched and self.drawer.part():  # or a neighbour's: each draws by itself
                    continue
                whole, found["error"] = True, str(error)
            break
        if not whole:
            return None
        return result.model_copy(
            update={**found, "seconds": round(time.perf_counter() - begun, 3), "at": round(time.time(), 1)}
        )

    def _stages(
        self, problem: Problem, seed: int, state: HuntState, cancelled: Cancelled, found: dict[str, object]
    ) -> Iterator[HuntState]:
        """Every stage of a problem; `found` gains what comes of each. Returns whether it was not cancelled."""
        sampling = self.config.sampling.model_copy(update={"seed": seed})
        name = folder_name(problem.id)
        kept = self._kept(name, problem, sampling)
        if kept is None or len(kept.before) < sampling.n:
            self._put_aside(name, problem)
            run = Run.start(self.model, problem, sampling)
            for drawn in run.roll_out(self.judge, cancelled, self._engine(run)):
                yield replace(state, stage=f"rollouts: {len(drawn.rollouts)} of {drawn.n} finished")
            if len(run.before) < sampling.n:
                return False
            if isinstance(self.drawer, TogetherRollouts):
                run.add_cost("rollouts", self.drawer.owed(run.prompt.token_ids, run.sampling), 0)
            kept = run.trace()
            save_run(kept, None, self.out / name)
        found["before"] = before = tally(kept.before)
        zero_hit = before.correct == 0
        if zero_hit and self.config.more > 1:
            more = yield from self._more(name, kept, state, cancelled)
            if more is None:
                return False
            found["more"] = more
        found["revised"] = ()
        if self.config.failed and (zero_hit or self.config.hits):
            for place, rollout in enumerate(self._choose(kept.before)):
                folder = name if place == 0 else f"{name}--{place + 1}"
                item = yield from self._revised(folder, kept, rollout, state, cancelled)
                if item is None:
                    return False
                if item.prefix_length:
                    found["revised"] += (item,)
        return True

    def _put_aside(self, name: str, problem: Problem | None) -> None:
        """Take out what was made of this problem before its question or answer was mended: judged by another answer, an
        export would take it for verified. The folders get a hidden name, under which nobody looks for runs."""
        for folder in (self.out / name, *self.out.glob(f"{name}--*")):
            try:
                if problem and _alike(load_run(folder, with_trajectory=False)[0].problem, problem):
                    continue
                folder.rename(folder.with_name(f".before-{time.time_ns()}-{folder.name}"))
            except (UserError, OSError):  # none there, or damaged: it is done again, and written over
                continue

    def _put_aside_mended(self, mine: Sequence[Problem]) -> None:
        """Take out what was made of rows without an id of their own before they were mended: such a row has another id
        since, and is known again by its question."""
        asked = {problem.id for problem in self.problems}
        answers: dict[str, set[str]] = {}
        for problem in self.problems:
            answers.setdefault(problem.question, set()).add(problem.answer)
        own = {problem.question for problem in mine}
        for result in read_results(self.out):
            if result.problem not in asked and result.question in own and result.answer not in answers[result.question]:
                self._put_aside(folder_name(result.problem), None)

    def _engine(self, run: Run) -> Engine | None:
        return self.drawer and partial(self.drawer.sample, run.prompt.token_ids)

    def _choose(self, before: Sequence[Rollout]) -> list[int]:
        """Indices of the failed rollouts to revise, the most promising first."""
        left = [i for i, item in enumerate(before) if item.verdict is not Verdict.CORRECT and len(item.token_ids) > 1]
        chosen: list[int] = []
        while left and len(chosen) < self.config.failed:
            chosen.append(left.pop(best_failed([before[i] for i in left], self.model.pieces)))
        return chosen

    def _revised(
        self, name: str, rolled: Trace, rollout: int, state: HuntState, cancelled: Cancelled
    ) -> Iterator[HuntState]:
        """Revise one failed rollout and continue from it; returns what came of it, or None when it was cancelled."""
        folder, config = self.out / name, self.config
        kept, trajectory = self._kept(name, rolled.problem, rolled.sampling), None
        if kept is not None and kept.split is not None and kept.split.rollout == rollout:
            with contextlib.suppress(UserError):  # damaged: the revision is done again
                trajectory = load_run(folder)[1]
        if trajectory is not None:
            run = Run.reopen(self.model, kept, trajectory)
        else:
            run = Run.reopen(self.model, only_rollouts(rolled))
            m = self._cut(run.before[rollout])
            if m is None:
                return Revised(run=name, rollout=rollout, split="none", prefix_length=0, after={})
            run.split_at(rollout, m, config.config)
        for step in () if run.final is not None else run.revise(cancelled=cancelled):
            yield replace(state, stage=f"rollout {rollout + 1}, step {step.k + 1} of {config.config.steps}")
        save_run(run.trace(), run.trajectory(), folder)
        if run.final is None:
            return None
        budget = rolled.sampling.model_copy(update={"n": config.samples})
        for start in Start:
            if sum(item.start is start for item in run.after) == config.samples:
                continue
            run.after = [item for item in run.after if item.start is not start]  # half an arm is drawn again
            for _, drawn in run.continue_from(self.judge, sampling=budget, starts=(start,), cancelled=cancelled):
                done = f"{len(drawn.rollouts)} of {drawn.n} finished"
                yield replace(state, stage=f"rollout {rollout + 1}, after, {start.value}: {done}")
            save_run(run.trace(), run.trajectory(), folder)
            if sum(item.start is start for item in run.after) < config.samples:
                return None
        return Revised(
            run=name,
            rollout=rollout,
            split=config.split if config.prefix_length is None else "fixed",
            prefix_length=len(run.split.prefix_token_ids),
            after={start: tally([item for item in run.after if item.start is start]) for start in Start},
            steps=len(run.steps),
        )

    def _cut(self, rollout: Rollout) -> int | None:
        """How many tokens the prefix gets, or None where the split asked for finds no place."""
        if self.config.prefix_length is not None:
            return self.config.prefix_length if self.config.prefix_length < len(rollout.token_ids) else None
        options = presets(rollout, self.model.pieces(rollout.token_ids), rollout.answer)
        if self.config.split == "auto":
            point = best_preset(options)
        else:
            point = next(option for option in options if option.name == self.config.split)
        return None if point is None else point.m

    def _more(self, name: str, rolled: Trace, state: HuntState, cancelled: Cancelled) -> Iterator[HuntState]:
        """Draw on from where the first N rollouts ended; returns the tally of all, or None when it was cancelled."""
        n = rolled.sampling.n
        wider = rolled.sampling.model_copy(update={"n": n * self.config.more})
        kept = self._kept(f"{name}--more", rolled.problem, wider)
        if kept is None or len(kept.before) < wider.n:
            run = Run.reopen(self.model, only_rollouts(rolled))
            rest = wider.model_copy(update={"n": wider.n - n})
            drawn = None
            for drawn in sample_and_judge(
                self.model,
                run.context,
                None,
                rest,
                rolled.problem.answer,
                self.judge,
                STREAM_BEFORE,
                cancelled=cancelled,
                first_row=n,
                engine=self._engine(run),
            ):
                yield replace(state, stage=f"more rollouts: {n + len(drawn.rollouts)} of {wider.n} finished")
            if len(drawn.rollouts) < rest.n:
                return None
            run.before, run.sampling = (*rolled.before, *drawn.finished()), wider
            run.add_cost("rollouts", drawn.seconds, drawn.forward_tokens)
            kept = run.trace()
            save_run(kept, None, self.out / f"{name}--more")
        return tally(kept.before)

    def _kept(self, name: str, problem: Problem, sampling: SamplingConfig) -> Trace | None:
        """What an earlier process saved of this run; None if nothing, or nothing that can be read."""
        try:
            trace, _ = load_run(self.out / name, with_trajectory=False)
        except UserError:
            return None
        same = trace.model.same_weights(self.model.info) and trace.problem == problem
        return trace if same and trace.sampling == sampling else None


def together(
    model: LanguageModel, problems: Sequence[Problem], sampling: SamplingConfig, rank: int = 0, world: int = 1
) -> TogetherRollouts:
    """Draws the rollouts of one process's share, several prompts in one batch."""
    prompts = []
    for problem in list(problems)[rank::world]:
        try:
            ids = model.prompt(problem.question).token_ids
        except UserError:
            continue  # too long: its own turn will say so
        if len(ids) + sampling.max_new_tokens > model.context_length:
            continue  # likewise, and in a batch its length would end its neighbours' rollouts
        prompts.append((ids, sampling.model_copy(update={"seed": seed_of(problem.id, sampling.seed)})))
    return TogetherRollouts(model, prompts)


# -- what lies on disk -----------------------------------------------------------------------------


def seed_of(problem: str, seed: int) -> int:
    """A problem's own seed, from its id and the hunt's; 0 … 2⁵⁶ − 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{problem}".encode()).digest()[:7])


def folder_name(problem: str) -> str:
    """A problem's folder: readable, safe whatever the id is, and no two alike."""
    safe = re.sub(r"[^A-Za-z0-9]+", "-", problem).strip("-")[:60] or "problem"
    return f"{safe}-{hashlib.sha256(problem.encode()).hexdigest()[:8]}"


def only_rollouts(trace: Trace) -> Trace:
    """A run as it stood before its split."""
    bare = {"split": None, "anchor": None, "config": None, "steps": (), "final": None, "after": (), "controls": ()}
    cost = {stage: spent for stage, spent in trace.cost.items() if stage in ("prompt", "rollouts")}
    return trace.model_copy(
        update={**bare, "after_sampling": None, "status": RunStatus.COMPLETED, "message": "", "cost": cost}
    )


def tally(rollouts: Sequence[Rollout]) -> Tally:
    """Count verdicts and endings."""
    return Tally(
        n=len(rollouts),
        correct=sum(item.verdict is Verdict.CORRECT for item in rollouts),
        unjudged=sum(item.verdict is Verdict.UNJUDGED for item in rollouts),
        truncated=sum(item.finish is FinishReason.LENGTH for item in rollouts),
    )


def read_config(out: Path) -> HuntConfig:
    """What a hunt's folder was asked for.

    Raises:
        UserError: there is no hunt, or its file is damaged.
    """
    try:
        return HuntConfig.model_validate_json((out / HUNT_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no hunt in {out}: choose a folder that holds a {HUNT_FILE}.") from None
    except ValidationError as error:
        raise UserError(f"{out / HUNT_FILE} is damaged: use a whole copy of it, or another --out.") from error


def _claim(out: Path, config: HuntConfig) -> None:
    """Make the folder, or see that it holds this very hunt. Raises `UserError`."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder for the hunt.")
    # Listed before the hunt's file is looked for: another process of this hunt may put it there any moment.
    others = out.is_dir() and any(not item.name.startswith(".") for item in out.iterdir())
    if (out / HUNT_FILE).exists():
        asked, there = (flat(item.model_dump(mode="json")) for item in (config, read_config(out)))
        # Where a model ran is no part of what was asked; a hunt of earlier has no hash of weights in a folder.
        passed = ["model.device", "model.source", *(["model.revision"] if not there.get("model.revision") else [])]
        differs = [key for key in asked if asked[key] != there.get(key) and key not in passed]
        if differs:
            key = differs[0]
            raise UserError(
                f"{out} holds a hunt with another {key.replace('.', ' ').replace('_', ' ')} ({there.get(key)!r}, not "
                f"{asked[key]!r}): choose another --out, or the same settings to go on with it."
            )
        return
    if others:
        raise UserError(f"{out} holds other files and no hunt: choose an empty or a new folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / HUNT_FILE, config.model_dump_json(indent=1).encode())
    except NotADirectoryError:
        raise UserError(f"{out} lies inside a file: choose a folder for the hunt.") from None


def flat(value: dict, before: str = "") -> dict[str, object]:
    """Nested settings by dotted name."""
    found: dict[str, object] = {}
    for key, item in value.items():
        found |= flat(item, f"{before}{key}.") if isinstance(item, dict) else {f"{before}{key}": item}
    return found


def read_results(out: Path) -> list[ProblemResult]:
    """All finished problems, of every writer, in no promised order, the newest result of each; a line that a kill tore
    is left out."""
    found: dict[str, ProblemResult] = {}
    for file in sorted(out.glob("results-*.jsonl")):
        for line in file.read_bytes().split(b"\n"):
            try:
                result = ProblemResult.model_validate_json(line)
            except ValidationError:
                continue
            if result.problem not in found or result.at >= found[result.problem].at:
                found[result.problem] = result
    return list(found.values())


def of_problems(results: Iterable[ProblemResult], problems: Iterable[Problem]) -> dict[str, ProblemResult]:
    """By id the results of these very problems: not one of before a question or an answer was mended."""
    asked = {problem.id: (problem.question, problem.answer) for problem in problems}
    return {one.problem: one for one in results if asked.get(one.problem) == (one.question, one.answer)}


def _alike(one: Problem, other: Problem) -> bool:
    return (one.question, one.answer) == (other.question, other.answer)


def mend(writer: Path) -> None:
    """Cut off a line that a kill left half-written, so that the next one does not stick to it."""
    if not writer.exists():
        return
    content = writer.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomic(writer, whole)


def _append(writer: Path, result: ProblemResult) -> None:
    with writer.open("ab") as file:
        file.write(json.dumps(result.model_dump(mode="json"), ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
