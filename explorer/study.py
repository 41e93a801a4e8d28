"""Does revision rescue more than the same compute spent on resampling? The study behind the app's defaults:
`python -m explorer.study --out DIR`.

Four stages, each resumable, on the default model or any other:

1. `base`: N rollouts of 192 problems that the built-in generators write from seeds 1 and 2 (the bank itself is seed 0);
   the zero-hit ones go on, every third of a family to the search, the others to the confirmation.
2. `search`: one setting changed at a time, on the search's problems alone; n continuations each, and n from the
   unrevised prefix of the same split.
3. `confirm`: the app's defaults and the best setting of the search, on problems that the search never saw, each against
   fresh rollouts and the unrevised prefix at equal compute and against a decoy; the settings are fixed before.
4. the report (`study_report.py`).

What it does not do: decide anything by hand. The best setting is the search's highest mean rate of correct
continuations that hold no false equation: an answer put in place of a wrong sum is no rescue. Ties go to the earlier
arm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from explorer.audit import choose_decoy
from explorer.auditing import audit_run
from explorer.cli import run_command
from explorer.errors import UserError
from explorer.hunt import Hunt, HuntConfig, folder_name, mend, only_rollouts, read_results
from explorer.hunting import sentence
from explorer.leaks import false_equations
from explorer.model import LanguageModel
from explorer.pipeline import Run, load_model
from explorer.problems import generate_items
from explorer.records import Continuation, Problem, RevisionConfig, SamplingConfig, Start, Trace, Verdict
from explorer.rollout import JudgeLike
from explorer.settings import read_settings
from explorer.split import best_failed, best_preset, presets
from explorer.statistics import is_degenerate
from explorer.store import load_run, save_run, write_atomic
from explorer.verdict import Judge

SEEDS = (1, 2)
BEFORE = SamplingConfig(n=16)
AFTER = SamplingConfig(n=16, max_new_tokens=64)
SEARCHED = 3  # every third zero-hit problem of a family
SEARCH_FILE = "search.jsonl"
CONFIRM_KINDS = ("fresh", "unrevised", "decoy")
UNREVISED, DECOY = "unrevised", "decoy"


@dataclass(frozen=True)
class Arm:
    """One way of revising: what differs from the defaults. `points` are the steps that are sampled from; `place` which
    failed rollout, from the most promising on; `decoy` moves toward a wrong answer instead."""

    name: str
    group: str
    words: str
    config: dict = field(default_factory=dict)
    split: str = "auto"
    place: int = 0
    sampling: dict = field(default_factory=dict)
    points: tuple[int, ...] = (10,)
    decoy: bool = False
    revised: bool = True

    def settings(self) -> RevisionConfig:
        """The revision's configuration."""
        return RevisionConfig(**self.config)


_LIKELY = {"hull": "plausible"}
ARMS: tuple[Arm, ...] = (
    Arm("default", "best k", "the defaults: before the first wrong result, K 10, γ 0.05, λ 0.3", points=(4, 7, 10)),
    Arm("toward-only", "λ", "λ 0: toward the gold answer only", {"away_weight": 0.0}),
    Arm("small-steps", "γ", "γ 0.03", {"step_size": 0.03}),
    Arm("large-steps", "γ", "γ 0.1", {"step_size": 0.1}),
    Arm("plausible", "hull", "of the 64 likeliest tokens of each position", _LIKELY),
    Arm("like-norm", "hull", "of tokens whose row is as long, within 10 %", {"hull": "like-norm"}),
    Arm("ban", "hull", "without the answer's tokens", {"ban_answer_tokens": True}),
    Arm("connector", "connector", "“The answer is” before the answer", {"connector": "\nThe answer is "}),
    Arm("fixed", "split", "after 24 tokens", split="fixed"),
    Arm("fraction", "split", "after half of the tokens", split="fraction"),
    Arm("before-answer", "split", "before the final answer", split="before-answer"),
    Arm("other-rollout", "rollout", "the second most promising failed rollout", place=1),
    Arm("cool", "temperature", "continuations at temperature 0.4", sampling={"temperature": 0.4}),
    Arm("decoy", DECOY, "the defaults, toward a wrong answer", decoy=True),
    Arm("decoy-plausible", DECOY, "64 likeliest tokens, toward a wrong answer", _LIKELY, decoy=True),
    Arm("decoy-fixed", DECOY, "after 24 tokens, toward a wrong answer", split="fixed", decoy=True),
    Arm("unrevised", UNREVISED, "before the first wrong result, not revised", revised=False),
    Arm("unrevised-fixed", UNREVISED, "after 24 tokens, not revised", split="fixed", revised=False),
    Arm("unrevised-fraction", UNREVISED, "after half of the tokens, not revised", split="fraction", revised=False),
    Arm("unrevised-answer", UNREVISED, "before the answer, not revised", split="before-answer", revised=False),
    Arm("unrevised-other", UNREVISED, "the second failed rollout, not revised", place=1, revised=False),
    Arm("unrevised-cool", UNREVISED, "temperature 0.4, not revised", sampling={"temperature": 0.4}, revised=False),
)


def study_problems() -> tuple[Problem, ...]:
    """192 problems of the bank's eight families, from other seeds than the bank's; no question twice."""
    seen: set[str] = set()
    found = []
    for seed in SEEDS:
        for item in generate_items(seed):
            if item.problem.question not in seen:
                seen.add(item.problem.question)
                found.append(item.problem.model_copy(update={"id": f"{seed}-{item.problem.id}", "source": "study"}))
    return tuple(found)


def divided(problems: Sequence[Problem], zero_hit: set[str]) -> tuple[list[Problem], list[Problem]]:
    """Zero-hit problems for the search and for the confirmation: of each family every third, from the first on, is
    searched. Families take turns, so that the first so many of either are of all of them."""
    search, confirm = [], []
    for family in dict.fromkeys(problem.family for problem in problems):
        mine = [problem for problem in problems if problem.family == family and problem.id in zero_hit]
        search += enumerate(mine[::SEARCHED])
        confirm += enumerate(problem for place, problem in enumerate(mine) if place % SEARCHED)

    def in_turns(numbered: list[tuple[int, Problem]]) -> list[Problem]:
        return [problem for _, problem in sorted(numbered, key=lambda pair: pair[0])]

    return in_turns(search), in_turns(confirm)


class Study:
    """The stages over one folder, one model, one judge."""

    def __init__(self, model: LanguageModel, judge: JudgeLike, out: Path, tell):
        """`tell` is called with a sentence."""
        self.model, self.judge, self.out, self.tell = model, judge, out, tell

    def base(self, problems: Sequence[Problem]) -> set[str]:
        """Sample all problems; the ids of those that are zero-hit."""
        config = HuntConfig(
            problems="study", model=self.model.info, sampling=BEFORE, config=RevisionConfig(), failed=0, samples=AFTER.n
        )
        for state in Hunt(self.model, problems, config, self.out / "base", self.judge).run():
            self.tell(f"base: {sentence(state)}")
        return {result.problem for result in read_results(self.out / "base") if result.zero_hit}

    def search(self, problems: Sequence[Problem]) -> None:
        """Every arm of every problem; a line each in `search.jsonl`, and nothing that is there is done again."""
        file = self.out / SEARCH_FILE
        mend(file)
        rows = read_rows(file)
        whole = without_torn(rows)
        if len(whole) < len(rows):
            write_atomic(file, "".join(json.dumps(row) + "\n" for row in whole).encode())
        done = {(row["problem"], row["arm"]) for row in whole}
        begun, count, new = time.monotonic(), 0, 0
        for problem in problems:
            rolled = load_run(self.out / "base" / folder_name(problem.id))[0]
            for arm in ARMS:
                count += 1
                if (problem.id, arm.name) in done:
                    continue
                rows = [{"problem": problem.id, "family": problem.family, **row} for row in self.tried(rolled, arm)]
                with file.open("ab") as lines:
                    lines.write("".join(json.dumps(row) + "\n" for row in rows).encode())
                new += 1
                of = len(ARMS) * len(problems)
                left = (time.monotonic() - begun) / new * (of - count) / 60
                self.tell(f"search: {count} of {of}, about {left:.0f} min left; {problem.id}, {arm.name}")

    def tried(self, rolled: Trace, arm: Arm) -> Iterator[dict]:
        """One row for each point of an arm; a single row with n = 0 where the split finds no place."""
        run = Run.reopen(self.model, only_rollouts(rolled))
        place = chosen(run, arm.place)
        m = None if place is None else cut(run, place, arm.split)
        if arm.decoy:
            try:
                run.problem = run.problem.model_copy(update={"answer": choose_decoy(run)})
            except UserError:  # no wrong answer of the same make
                m = None
        if m is None:
            yield {"arm": arm.name, "point": 0, "n": 0}
            return
        sampling = AFTER.model_copy(update={"seed": rolled.sampling.seed, **arm.sampling})
        run.split_at(place, m, arm.settings())
        common = {"arm": arm.name, "m": m}
        if not arm.revised:
            for _ in run.continue_from(self.judge, 0, sampling, (Start.ORIGINAL,)):
                pass
            yield {**common, "point": 0, **counted(run.after)}
            return
        for point in arm.points:
            for _ in run.revise(point):
                pass
            reached = min(point, len(run.steps))
            for _ in run.continue_from(self.judge, reached, sampling, (Start.REVISED,)):
                pass
            items = [item for item in run.after if item.step == reached and item.start is Start.REVISED]
            prefix = run.split.prefix_token_ids
            changed = sum(a != b for a, b in zip(prefix, items[0].prefix_token_ids, strict=True)) / len(prefix)
            spent = run.cost["revision"].forward_tokens
            yield {
                **common,
                "point": point,
                **counted(items),
                "changed": round(changed, 4),
                "toward_first": round(run.steps[0].toward_loss, 4),
                "toward_last": round(run.steps[-1].toward_loss, 4),
                "revision_tokens": spent,
            }

    def confirm(self, problems: Sequence[Problem], arms: Sequence[Arm]) -> None:
        """Revise, continue and audit each problem under each of the arms; a run folder each."""
        of = len(problems) * len(arms)
        begun = time.monotonic()
        for count, (problem, arm) in enumerate(((p, a) for p in problems for a in arms), 1):
            folder = self.out / "confirm" / arm.name / folder_name(problem.id)
            if (folder / "trace.json").exists():
                continue
            rolled = load_run(self.out / "base" / folder_name(problem.id))[0]
            run = Run.reopen(self.model, only_rollouts(rolled))
            place = chosen(run, arm.place)
            m = None if place is None else cut(run, place, arm.split)
            if m is None:
                continue
            run.split_at(place, m, arm.settings().model_copy(update={"steps": arm.points[-1]}))
            for _ in run.revise():
                pass
            sampling = AFTER.model_copy(update={"seed": rolled.sampling.seed, **arm.sampling})
            for _ in run.continue_from(self.judge, sampling=sampling):
                pass
            for _ in audit_run(run, self.judge, CONFIRM_KINDS):
                pass
            save_run(run.trace(), run.trajectory(), folder)
            left = (time.monotonic() - begun) / count * (of - count) / 60
            self.tell(f"confirm: {count} of {of}, about {left:.0f} min left; {problem.id}, {arm.name}")


def chosen(run: Run, place: int) -> int | None:
    """Index of the most promising failed rollout (0), or the second (1); None where there are not so many."""
    left = [i for i, item in enumerate(run.before) if item.verdict is not Verdict.CORRECT and len(item.token_ids) > 1]
    for _ in range(place):
        if left:
            left.pop(best_failed([run.before[i] for i in left], run.model.pieces))
    return left[best_failed([run.before[i] for i in left], run.model.pieces)] if left else None


def cut(run: Run, rollout: int, name: str) -> int | None:
    """Tokens of the prefix under a preset, or under the best one (`auto`); None where it finds no place."""
    item = run.before[rollout]
    options = presets(item, run.model.pieces(item.token_ids), item.answer)
    point = best_preset(options) if name == "auto" else next(o for o in options if o.name == name)
    return None if point is None else point.m


def counted(items: Sequence[Continuation]) -> dict:
    """Continuations counted: correct, of these with a false equation, in loops, cut off, and forward tokens spent."""
    right = [item for item in items if item.verdict is Verdict.CORRECT]
    return {
        "n": len(items),
        "correct": len(right),
        "false": sum(false_equations(item) > 0 for item in right),
        "degenerate": sum(is_degenerate(item.token_ids) for item in items),
        "truncated": sum(item.finish.value == "length" for item in items),
        "tokens": sum(len(item.token_ids) for item in items),
    }


def read_rows(file: Path) -> list[dict]:
    """The lines of a stage; one that a kill tore is left out."""
    rows = []
    for line in file.read_bytes().split(b"\n") if file.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def without_torn(rows: Sequence[dict]) -> list[dict]:
    """Rows of whole arms: one that a kill or a full disk cut short lacks points, and is tried again. An arm that found
    no place for its split is a single row with n = 0."""
    points = {arm.name: len(arm.points) if arm.revised else 1 for arm in ARMS}
    there = Counter((row["problem"], row["arm"]) for row in rows)
    return [row for row in rows if not row["n"] or there[row["problem"], row["arm"]] >= points.get(row["arm"], 1)]


def best_arm(rows: Sequence[dict]) -> tuple[Arm, int]:
    """The arm and point with the highest mean rate of correct continuations without a false equation, over the problems
    that it applied to."""
    best, highest = (ARMS[0], ARMS[0].points[-1]), -1.0
    for arm in ARMS:
        if arm.decoy or not arm.revised:
            continue
        for point in arm.points:
            mine = [row for row in rows if row["arm"] == arm.name and row["point"] == point and row["n"]]
            rate = sum((row["correct"] - row["false"]) / row["n"] for row in mine) / len(mine) if mine else 0.0
            if rate > highest:
                best, highest = (arm, point), rate
    return best


def confirmed_arms(rows: Sequence[dict]) -> list[Arm]:
    """The defaults, and the search's best setting unless that is the same."""
    arm, point = best_arm(rows)
    default = Arm("default", "best k", ARMS[0].words)
    if (arm.name, point) == (default.name, default.points[-1]):
        return [default]
    words = arm.words if point == arm.points[-1] else f"{arm.words}; step {point}"
    best = Arm("best", arm.group, words, arm.config, arm.split, arm.place, arm.sampling, (point,))
    return [default, best]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or go on with it, and write its report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder of the study; the same command goes on.")
    parser.add_argument("--model", default=None, help="Hub id or folder; default SmolLM2-135M-Instruct.")
    parser.add_argument("--report", type=Path, default=None, help="Where the report goes; default: into --out.")
    parser.add_argument("--searched", type=int, default=None, help="Search at most so many problems.")
    parser.add_argument("--confirmed", type=int, default=None, help="Confirm on at most so many problems.")
    asked = parser.parse_args(arguments)
    from explorer.study_report import write_report

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    model = load_model(read_settings(model=asked.model), progress=lambda share, text: tell(text))
    with Judge() as judge:
        study = Study(model, judge, asked.out, tell)
        problems = study_problems()
        search, confirm = divided(problems, study.base(problems))
        study.search(search[: asked.searched])
        rows = read_rows(asked.out / SEARCH_FILE)
        arms = confirmed_arms(rows)
        write_atomic(
            asked.out / "confirm.json", json.dumps([{"name": a.name, "words": a.words} for a in arms]).encode()
        )
        study.confirm(confirm[: asked.confirmed], arms)
    print(write_report(asked.out, asked.report or asked.out))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
