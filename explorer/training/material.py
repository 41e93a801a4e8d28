"""What a training works on: rows from runs, prompts, held-out problems, chosen and counted before any model is loaded.

What it does not do: filter one trace (`traces.py`), load or train anything (`train.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import UserError
from explorer.hunting import share
from explorer.problem_sets import problem_set, usable
from explorer.records import Problem
from explorer.training.folder import trained_questions, training_of
from explorer.training.request import Inject, Method, TrainRequest
from explorer.training.traces import (
    OTHERS,
    RESCUED,
    Chosen,
    TraceFilter,
    TrainingTrace,
    choose,
    of_model,
    read_candidates,
)


@dataclass(frozen=True)
class Asked:
    """What a person asks for: folders of runs, sets of problems by name, what passes, how to train. `owner` is the (id,
    source) of the model that is trained, where it is known: of runs of several models only its own count. `seen` are
    questions that earlier trainings made that model of; `skip_bad` leaves out rows of a set that can't be used."""

    request: TrainRequest
    wanted: TraceFilter
    runs: Sequence[Path]
    problems: str = ""
    held_out: str = ""
    owner: tuple[str, str] | None = None
    seen: frozenset[str] = frozenset()
    skip_bad: bool = False


def seen_by(model: str | None) -> frozenset[str]:
    """Questions that trainings made a model of, by its name; none where it is nobody's, or its folder does not tell."""
    folder = training_of(model or "")
    return (trained_questions(folder) if folder else None) or frozenset()


@dataclass(frozen=True)
class Material:
    """What is trained on: rows, prompts of GRPO, held-out problems; what was left out, by reason; and a text that tells
    whose the runs are, also where none of them is trained on."""

    rows: tuple[TrainingTrace, ...]
    problems: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    left_out: dict[str, int]
    maker: TrainingTrace | None = None


def gather(asked: Asked, begun_with: Sequence[TrainingTrace] = (), begun_prompts: Sequence[Problem] = ()) -> Material:
    """Choose the rows and problems of a training. Needs no model.

    Args:
        asked: what on, and how.
        begun_with: the rows of the training that is gone on with; none reads the runs.
        begun_prompts: the problems that its groups are sampled of.

    Raises:
        SeveralModels: of which model's runs, is not known.
        UserError: nothing to train on, or nothing that can be read; the sentence tells what was left out and why.
    """
    request = asked.request
    if not asked.runs and not (request.method is Method.GRPO and asked.problems):
        raise UserError("Give folders of runs with --runs: a run, a hunt, or a folder of runs.")
    found, runs = begun_with, len({row.run for row in begun_with})
    if asked.runs and not found:
        found, runs = read_candidates(asked.runs)
    found, others = of_model(found, asked.owner)
    chosen = choose(found, request.traces, asked.wanted, runs)
    rows, left = list(chosen.traces), dict(chosen.left_out)
    if others:
        left[OTHERS] = others
    if request.method is Method.DPO:
        rows = _without(rows, left, lambda row: bool(row.failed_ids), "no failed rollout to set against it")
    if request.method is Method.GRPO:
        if not begun_with:
            rows = _without(rows, left, lambda row: row.origin == RESCUED, "the model’s own, which GRPO draws itself")
        rows = _without(
            rows, left, lambda row: len(row.completion_ids) < request.max_new_tokens, "longer than a rollout"
        )
        rows = [] if request.inject is Inject.NEVER else rows
    else:
        longest = request.max_tokens
        rows = _without(
            rows, left, lambda row: len(row.prompt_ids) + _longer(row, request) < longest, "longer than --max-tokens"
        )
    problems: tuple[Problem, ...] = ()
    if request.method is Method.GRPO:
        problems = tuple(begun_prompts) or _problems(asked.problems, asked)
    if request.method is Method.GRPO and not problems:
        problems = tuple(
            {
                row.question: Problem(id=row.problem_id, question=row.question, answer=row.answer, family=row.family)
                for row in chosen.traces
            }.values()
        )
    if not problems if request.method is Method.GRPO else not rows:
        raise UserError(nothing(chosen, len(found), left))
    material = Material(tuple(rows), problems, _held_out(asked, rows, problems), left, found[0] if found else None)
    prompts, needed = len(prepared(asked, material)), request.batch * share()[1]
    if request.method is Method.GRPO and prompts < needed:
        raise UserError(
            f"{prompts} prompt(s) are left to sample, {len(material.held_out)} being held out, and an update takes "
            f"{needed}: use a smaller --batch, more problems, or fewer held-out ones."
        )
    return material


def _longer(row: TrainingTrace, request: TrainRequest) -> int:
    """Tokens of a row's completion; of a pair's longer one."""
    failed = len(row.failed_ids) if request.method is Method.DPO else 0
    return max(len(row.completion_ids), failed)


def _without(rows: list, left: dict[str, int], holds: Callable[[TrainingTrace], bool], why: str) -> list:
    kept = [row for row in rows if holds(row)]
    if len(kept) < len(rows):
        left[why] = left.get(why, 0) + len(rows) - len(kept)
    return kept


def nothing(chosen: Chosen, found: int, left: Mapping[str, int]) -> str:
    """Why there is nothing to train on, in a sentence."""
    if not found:
        return (
            f"No correct text in {chosen.runs} run(s): nothing was rescued there and no rollout was right. Hunt more "
            "problems, or train on other runs."
        )
    why = ", ".join(f"{count} {reason}" for reason, count in left.items())
    if not why:
        return f"None of the {found} correct texts is of the kind asked for: choose other traces (--traces both)."
    return f"No trace is left of {found}: {why}. Let more through."


def _problems(name: str, asked: Asked) -> tuple[Problem, ...]:
    if not name:
        return ()
    return usable(name, problem_set(name, asked.request.seed), asked.skip_bad)


def _held_out(asked: Asked, rows: Sequence[TrainingTrace], problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Problems that no update sees or saw, drawn by the seed; of the set named, else of the one that is trained on."""
    request = asked.request
    name = asked.held_out or asked.problems or "bank"
    if not request.held_out or not request.eval_every:
        return ()
    trained = {row.question for row in rows} | asked.seen
    own = request.method is Method.GRPO and asked.problems and asked.held_out in ("", asked.problems)
    if not own:  # of a set of its own all prompts may be trained on
        trained |= {problem.question for problem in problems}
    free = [problem for problem in _problems(name, asked) if problem.question not in trained]
    # Of the prompts' own set a quarter at most: the rest is there to be trained on.
    most = len(free) // 4 if own else len(free)
    return tuple(random.Random(request.seed).sample(free, min(request.held_out, most)))


def prepared(asked: Asked, material: Material) -> tuple[Problem, ...]:
    """The prompts of GRPO less those that are held out of the same set."""
    if asked.held_out not in ("", asked.problems):
        return material.problems
    kept = {problem.question for problem in material.held_out}
    return tuple(problem for problem in material.problems if problem.question not in kept)


def sizes(rows: Sequence[TrainingTrace], request: TrainRequest) -> list[tuple[int, int]]:
    """(prompt tokens, completion tokens) of each row, of a pair's longer text."""
    return [(len(row.prompt_ids), _longer(row, request) + 1) for row in rows]
