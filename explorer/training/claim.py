"""Do rescued traces improve training? The comparison behind the README's sentence:
`python -m explorer.training.claim --out DIR`.

One hunt over the training problems gives both kinds of text: the model's own correct rollouts, and what revision
rescued from zero-hit prompts. Then, for each seed, the same model is trained in each of these ways with the same number
of updates, and evaluated on problems that no part of it has seen:

- `rft`: SFT on its own correct rollouts (rejection-sampling fine-tuning, as STaR);
- `rft-rescued`: on those and all rescued traces;
- `rft-filtered`: on those of both without a false equation, of the rescued ones only where the prefix holds little of
  the answer;
- `grpo`: TRL's GRPO over all training problems;
- `grpo-rescued`: the same, rescued traces entering zero-hit groups;
- `grpo-zvp`, only where it is asked for by name: GRPO whose groups of equal rewards teach by entropy (RL-ZVP).

Every step is one of the app's own commands, in a process of its own; each goes on where it stood, so the whole does.
With `--earlier DIR` it begins with the hunt and the seeds of a report (`claim_archive.py`) and adds to them.

What it does not do: decide anything by hand (`claim_report.py` writes what the figures say).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from explorer.cli import run_command
from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.problems import generate_items
from explorer.records import Problem
from explorer.training.claim_archive import (
    HUNT_ARCHIVE,
    SETTINGS_FILE,
    TAKEN_FILE,
    Settings,
    pack_hunt,
    read_facts,
    take,
)
from explorer.training.evaluate import read_evaluation

TRAIN_SEED, HELD_OUT_SEEDS = 0, (1, 2)
HELD_OUT = 112
ROLLOUTS, EVALUATED = 16, 8
UPDATES, SAMPLES = 40, 8
# Written down before any figure was seen; α is the RL-ZVP paper's, added after GRPO's first figures.
MAX_LEAK = 0.1
ZVP_ALPHA = 0.1
PER_PROBLEM = 2
TRAIN_FILE, HELD_OUT_FILE = "train.jsonl", "held-out.jsonl"


@dataclass(frozen=True)
class Arm:
    """One way of training: what it is called, its words, and the options of `train`; a further one is run only where it
    is named."""

    name: str
    words: str
    method: str
    options: tuple[str, ...]
    further: bool = False


_SFT = ("--adapter", "full", "--batch", "4", "--per-problem", str(PER_PROBLEM), "--finished")
_GRPO = ("--adapter", "full", "--batch", "1", "--group", "8", "--max-new-tokens", "96")
ARMS = (
    Arm("rft", "SFT on its own correct rollouts", "sft", (*_SFT, "--traces", "own")),
    Arm("rft-rescued", "SFT on those and the rescued traces", "sft", (*_SFT, "--traces", "both")),
    Arm(
        "rft-filtered",
        "SFT on those and the rescued traces that leak little",
        "sft",
        (*_SFT, "--traces", "both", "--sound", "--max-leak", str(MAX_LEAK)),
    ),
    Arm("grpo", "GRPO", "grpo", (*_GRPO, "--inject", "never")),
    Arm("grpo-rescued", "GRPO, rescued traces in zero-hit groups", "grpo", (*_GRPO, "--inject", "zero-hit")),
    Arm(
        "grpo-zvp",
        f"GRPO, groups of equal rewards by entropy (RL-ZVP, α {ZVP_ALPHA:g})",
        "grpo",
        (*_GRPO, "--inject", "never", "--zvp-alpha", str(ZVP_ALPHA)),
        further=True,
    ),
)


def problems() -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """(training problems: the bank's 96; held-out ones of other seeds, as many of each family), no question in both."""
    train = tuple(item.problem for item in generate_items(TRAIN_SEED))
    seen = {problem.question for problem in train}
    by_family: dict[str, list[Problem]] = {}
    for seed in HELD_OUT_SEEDS:
        for item in generate_items(seed):
            if item.problem.question not in seen:
                seen.add(item.problem.question)
                mine = by_family.setdefault(item.problem.family, [])
                mine.append(item.problem.model_copy(update={"id": f"{seed}-{item.problem.id}"}))
    each = HELD_OUT // len(by_family)
    return train, tuple(problem for family in by_family.values() for problem in family[:each])


def write_problems(out: Path) -> None:
    """Both sets as problem files."""
    for name, found in zip((TRAIN_FILE, HELD_OUT_FILE), problems(), strict=True):
        rows = ({"id": p.id, "question": p.question, "answer": p.answer, "family": p.family} for p in found)
        write_atomic(out / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


class Claim:
    """The steps, over one folder and one model."""

    def __init__(self, out: Path, model: str | None, updates: int, samples: int, tell):
        """`tell` is called with a sentence before each step."""
        self.out, self.model, self.updates, self.samples, self.tell = out, model, updates, samples, tell
        self.taken = (out / TAKEN_FILE).exists()
        # Whatever this machine would choose by itself: one comparison is in one number format.
        self.dtype = read_evaluation(out / "evaluations" / "base").model.dtype if self.taken else None

    def gather(self) -> None:
        """The hunt, the leaks of what it rescued, and the evaluation of the model as it is."""
        if self.taken:
            return
        hunt = ["--problems", self.out / TRAIN_FILE, "--out", self.out / "hunt", "--rollouts", ROLLOUTS]
        self._verb("hunt", *hunt, "--samples", self.samples, *self._chosen())
        self._verb("audit", self.out / "hunt", "--controls", "leaks", *self._chosen())
        self.evaluate("base", None)

    def arm(self, arm: Arm, seed: int) -> None:
        """Train one way and evaluate what comes of it, unless an earlier report has that."""
        folder = self.out / f"{arm.name}-{seed}"
        if read_facts(folder) is not None:
            return
        given = ["--runs", self.out / "hunt", "--out", folder, "--updates", self.updates, "--seed", seed]
        if arm.method == "grpo":
            given += ["--problems", self.out / TRAIN_FILE]
        # Held-out problems are evaluated at the end, alike for all; looks in between would only take time.
        given += ["--held-out-count", 0, "--save-every", 20]
        self._verb("train", arm.method, *given, *arm.options, *self._chosen())
        self.evaluate(f"{arm.name}-{seed}", folder / "model")

    def evaluate(self, name: str, model: Path | None) -> None:
        """Evaluate a model on the held-out problems; every one with the same seed."""
        given = ["--problems", self.out / HELD_OUT_FILE, "--out", self.out / "evaluations" / name]
        given += ["--rollouts", EVALUATED]
        if model is not None:
            given += ["--model", model, "--against", self.out / "evaluations" / "base"]
        self._verb("evaluate", *given, *(self._format() if model else self._chosen()))

    def _chosen(self) -> list[str]:
        return [*(["--model", self.model] if self.model else []), *self._format()]

    def _format(self) -> list[str]:
        return ["--dtype", self.dtype] if self.dtype else []

    def _verb(self, *arguments: object) -> None:
        words = [str(one) for one in arguments]
        self.tell(f"python -m explorer {' '.join(words)}")
        ended = subprocess.run([sys.executable, "-m", "explorer", *words], stdout=sys.stderr, check=False).returncode
        if ended in (130, -2):
            raise KeyboardInterrupt
        if ended:
            raise UserError(f"`{words[0]}` ended with exit code {ended}: mend what it said and repeat the command.")


def need_alike(out: Path, settings: Settings) -> None:
    """Keep a comparison's settings beside it, and refuse others. Raises `UserError`."""
    path = out / SETTINGS_FILE
    try:
        there = Settings.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        write_atomic(path, settings.model_dump_json(indent=1).encode())
        return
    except ValidationError as error:
        raise UserError(f"{path} is damaged: use a whole copy of it, or another --out.") from error
    for name, value in settings.model_dump().items():
        if value != (kept := getattr(there, name)):
            word = name.replace("_", " ")
            raise UserError(f"{out} holds a comparison with {word} {kept:g}, not {value:g}: choose another --out.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, or go on with it, and write its report after every arm."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder of the comparison; the same command goes on.")
    parser.add_argument("--model", default=None, help="Hub id or folder; default SmolLM2-135M-Instruct.")
    parser.add_argument("--report", type=Path, default=None, help="Where the report goes; default: into --out.")
    parser.add_argument("--seeds", type=int, default=3, help="How many seeds of each arm; default: %(default)s.")
    parser.add_argument("--updates", type=int, default=UPDATES, help="Updates of every arm; default: %(default)s.")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="Continuations of a revised prefix in the hunt.")
    parser.add_argument("--earlier", type=Path, default=None, help="A report's folder: add to its hunt and its seeds.")
    usual, further = ([arm.name for arm in ARMS if arm.further is which] for which in (False, True))
    said = f"Only these arms; default: {' '.join(usual)}; there is also {' '.join(further)}."
    parser.add_argument("--arms", nargs="*", default=usual, help=said)
    asked = parser.parse_args(arguments)
    from explorer.training.claim_report import write_report

    unknown = set(asked.arms) - {arm.name for arm in ARMS}
    if unknown:
        raise UserError(f"There is no arm {sorted(unknown)[0]!r}: use {', '.join(arm.name for arm in ARMS)}.")

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    out = asked.out.absolute()
    settings = Settings(
        updates=asked.updates,
        samples=asked.samples,
        max_leak=MAX_LEAK,
        per_problem=PER_PROBLEM,
        zvp_alpha=ZVP_ALPHA,
    )
    if asked.earlier and (out / TAKEN_FILE).exists():
        tell(f"{out} took a report's seeds before: it goes on with those.")
    elif asked.earlier:
        sets = tuple([problem.question for problem in found] for found in problems())
        take(asked.earlier, out, [arm.name for arm in ARMS], sets, settings)
    need_alike(out, settings)
    write_problems(out)
    claim = Claim(out, asked.model, asked.updates, asked.samples, tell)
    claim.gather()
    report = asked.report or out
    pack_hunt(out / "hunt", report / HUNT_ARCHIVE)
    for seed in range(asked.seeds):
        for arm in ARMS:
            if arm.name in asked.arms:
                claim.arm(arm, seed)
                write_report(out, report)
    print(write_report(out, report))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
