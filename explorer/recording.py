"""Makes the recorded runs that the explorer opens with: `python -m explorer.recording`.

Each recipe says which problem, settings and seed, and what its run is to show; the run is then made for real with the
default model and written to `assets/recorded/`. A recipe whose run does not show what its title says is refused, so a
title can't outlive its truth.

What it does not do: choose among seeds. The recipes were found by trying problems of the bank once, all with seed 0
(see LOG.md); anyone can make the runs again and compare them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from explorer.audit import decoy_control
from explorer.equations import find_equations
from explorer.errors import UserError
from explorer.pipeline import Run, load_model
from explorer.problems import load_bank
from explorer.recorded import ABOUT_FILE, FOLDER
from explorer.records import Continuation, RevisionConfig, SamplingConfig, Start, StepRule, Verdict
from explorer.settings import read_settings
from explorer.split import best_failed, best_preset, presets
from explorer.statistics import is_degenerate, reflection_markers
from explorer.store import save_run, write_atomic
from explorer.verdict import Judge

BEFORE = SamplingConfig(n=8, max_new_tokens=80, seed=0)
AFTER = BEFORE.model_copy(update={"n": 16})


@dataclass(frozen=True)
class Recipe:
    """How a recorded run is made, and what it must show (`shows`, over the finished run) to be kept."""

    id: str
    title: str
    lesson: str
    kind: str
    problem: str
    shows: Callable[[Run], bool]
    config: RevisionConfig = field(default_factory=RevisionConfig)
    before: SamplingConfig = BEFORE
    after: SamplingConfig = AFTER
    split: str = "auto"
    curve: tuple[int, ...] = ()
    decoy: bool = False


def arm(run: Run, start: Start = Start.REVISED) -> list[Continuation]:
    """The continuations from the last step, of one arm."""
    return [item for item in run.after if item.start is start and item.step == len(run.steps)]


def correct(items) -> int:
    """How many are."""
    return sum(item.verdict is Verdict.CORRECT for item in items)


def changed(run: Run) -> float:
    """Share of positions whose nearest token is another one at the end."""
    ids = run.split.prefix_token_ids
    return sum(a != b for a, b in zip(run.steps[-1].nearest, ids, strict=True)) / len(ids)


def markers(items) -> float:
    """Reflection markers per continuation."""
    return sum(sum(reflection_markers(item.text).values()) for item in items) / max(1, len(items))


def clean(run: Run) -> bool:
    """Zero-hit, rescued with few changed tokens, and neither resampling nor a decoy gets anything."""
    others = correct(arm(run, Start.ORIGINAL)) + correct(run.controls[0].continuations)
    return run.hits == 0 and correct(arm(run)) > len(arm(run)) / 4 and others == 0 and changed(run) < 0.2


def smuggled(run: Run) -> bool:
    """Rescued, but the wrong answer is reached at least two thirds as often."""
    return correct(arm(run)) > 0 and 3 * correct(run.controls[0].continuations) >= 2 * correct(arm(run))


def ruined(run: Run) -> bool:
    """Most of the prefix has become other tokens, and hardly anything that continues is right."""
    return changed(run) > 0.8 and correct(arm(run)) <= len(arm(run)) / 8


def toward_only(run: Run) -> bool:
    """The push away is off, and the answer became likelier all the same."""
    return run.config.away_weight == 0 and run.final.toward_loss < run.steps[0].toward_loss


def unrescued(run: Run) -> bool:
    """The answer became likelier, and still nothing is right."""
    return run.final.toward_loss < run.steps[0].toward_loss and correct(arm(run)) == 0


def grows(run: Run) -> bool:
    """Rescued, the continuations are on average half as long again as the failed one, and a correct one works the sum
    out once more: it states an equation that holds and gives the gold answer."""
    items = arm(run)
    length = sum(len(item.token_ids) for item in items) / len(items)
    failed = len(run.before[run.split.rollout].token_ids) - len(run.split.prefix_token_ids)
    return length >= 1.5 * failed and any(reworks(item, run.problem.answer) for item in items)


def reworks(item: Continuation, gold: str) -> bool:
    """A correct continuation with an equation of its own that holds and ends in the gold answer."""
    equations = find_equations(item.text)
    return item.verdict is Verdict.CORRECT and any(e.holds and e.right.strip() == gold for e in equations)


DEFAULT = RevisionConfig()

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "rescue",
        "A clean rescue",
        "Eight tries at 22 + 8, never right. Ten small steps later the same sentence goes on to 30.",
        "rescue",
        "sum-01",
        clean,
        curve=(0, 2, 4, 6, 8),
        decoy=True,
    ),
    Recipe(
        "handed-over",
        "An answer handed over",
        "It looks like a rescue. But pulled toward a wrong answer, the same prefix yields that one nearly as often.",
        "smuggled",
        "two-step-10",
        smuggled,
        decoy=True,
    ),
    Recipe(
        "too-large-a-step",
        "Too large a step",
        "The textbook step 2/(k+2) throws the whole prefix away at its first move, and its sense does not come back.",
        "ruined",
        "sum-01",
        ruined,
        config=DEFAULT.model_copy(update={"step_rule": StepRule.HARMONIC}),
    ),
    Recipe(
        "toward-only",
        "Pull without push",
        "Only the pull toward the answer, no push away from the failure. Compare it with the clean rescue.",
        "toward-only",
        "sum-01",
        toward_only,
        config=DEFAULT.model_copy(update={"away_weight": 0.0}),
        decoy=True,
    ),
    Recipe(
        "not-rescued",
        "Not rescued",
        "The right answer becomes likelier, and no continuation reaches it: the reasoning was lost before the cut.",
        "unrescued",
        "product-07",
        unrescued,
    ),
    Recipe(
        "it-grows",
        "It grows and works it out again",
        "The revised text runs longer than the failed one, and some of it does the sum once more, rightly.",
        "grows",
        "sum-10",
        grows,
        after=AFTER.model_copy(update={"max_new_tokens": 200}),
        decoy=True,
    ),
)


def record(recipe: Recipe, model, judge: Judge, say: Callable[[str], None] = lambda text: None) -> Run:
    """Make a recipe's run with a loaded model.

    Raises:
        UserError: the run does not show what the recipe says, or can't be made.
    """
    problem = next(item for item in load_bank() if item.id == recipe.problem)
    run = Run.start(model, problem, recipe.before)
    for _ in run.roll_out(judge):
        pass
    say(f"{recipe.id}: {run.hits} of {len(run.before)} rollouts correct")
    index = best_failed(run.before, model.pieces)
    chosen = run.before[index]
    options = presets(chosen, model.pieces(chosen.token_ids), chosen.answer)
    point = best_preset(options) if recipe.split == "auto" else next(p for p in options if p.name == recipe.split)
    if point is None or point.m is None:
        raise UserError(f"{recipe.id}: the split {recipe.split} finds no place in rollout {index}.")
    run.split_at(index, point.m, recipe.config)
    for _ in run.revise():
        pass
    for _ in run.continue_from(judge, sampling=recipe.after):
        pass
    for k in recipe.curve:
        for _ in run.continue_from(judge, k, recipe.after, (Start.REVISED,)):
            pass
    if recipe.decoy:
        for _ in decoy_control(run, judge, len(run.steps), recipe.after):
            pass
    counts = {start.value: f"{correct(arm(run, start))} of {len(arm(run, start))}" for start in Start}
    decoys = [f"decoy {c.target}: {correct(c.continuations)} of {len(c.continuations)}" for c in run.controls]
    loops = sum(is_degenerate(item.token_ids) for item in arm(run))
    say(f"{recipe.id}: {counts} {decoys} changed {changed(run):.0%}, loops {loops}, markers {markers(arm(run)):.2f}")
    if not recipe.shows(run):
        raise UserError(f"{recipe.id}: this run does not show what its title says, so it was not kept.")
    return run


def main(arguments: list[str] | None = None) -> int:
    """Make all recorded runs, or those named; 0 when every one shows what it should."""
    parser = argparse.ArgumentParser(description="Make the recorded runs anew, for real, with the default model.")
    parser.add_argument("names", nargs="*", help="which; default all")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into")
    options = parser.parse_args(arguments)
    model = load_model(read_settings(model=None, device=None, dtype=None, runs_dir=None))
    failures = 0
    with Judge() as judge:
        for order, recipe in enumerate(RECIPES):
            if options.names and recipe.id not in options.names:
                continue
            try:
                run = record(recipe, model, judge, lambda text: print(text, flush=True))
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                failures += 1
                continue
            save_run(run.trace(), run.trajectory(), options.out / recipe.id)
            about = {"title": recipe.title, "lesson": recipe.lesson, "kind": recipe.kind, "order": order}
            write_atomic(options.out / recipe.id / ABOUT_FILE, (json.dumps(about, indent=1) + "\n").encode())
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
