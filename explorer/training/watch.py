"""What a training tells while it runs: a callback of transformers' trainer that writes the folder's files, samples
held-out problems now and then, and stops at the next update when asked.

What it does not do: train.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, TrainerCallback

from explorer.records import Problem, Verdict
from explorer.rollout import JudgeLike
from explorer.training.estimate import HELD_OUT_ROWS
from explorer.training.folder import HELD_OUT_FILE, METRICS_FILE, Progress, append_line, read_looks
from explorer.training.weights import Trainee, adapted, without_adapter

TEXTS_KEPT = 4
# What the trainer logs at its very end is no update's.
SUMMARY_KEYS = ("train_runtime", "train_loss")


class Watch(TrainerCallback):
    """Tells where the training stands. Only the main process writes."""

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        stop: threading.Event,
        tell: Callable[[str, float | None], None],
        look: Callable[[torch.nn.Module, int], None] | None = None,
        look_every: int = 0,
        begun: float | None = None,
    ):
        """`look` samples held-out problems with the network at an update; `stop` is asked after each update; `begun` is
        when the clock started (`time.monotonic`), earlier by what was spent before; None: now."""
        self.folder, self.progress, self.stop, self.tell = folder, progress, stop, tell
        self.look, self.look_every = look, look_every
        self._begun = time.monotonic() if begun is None else begun
        self._owed = False
        self.stopped = False

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """The model is looked at as it was before its first update: now, or, where an adapter is
        trained that can be left out at any time, after that update, for which nobody then waits."""
        # Gone on with after a kill, an adapter's model before can still be looked at; trained in full it is gone.
        missing = 0 not in {look["update"] for look in read_looks(self.folder)}
        if self.look is not None and missing and (state.global_step == 0 or adapted(model)):
            self._owed = True
            if not adapted(model):
                self._first_look(model, state.global_step)
        self.progress.begin(state.global_step)
        if state.is_world_process_zero:
            self.progress.tell(state.global_step, "training", now=True)

    def _first_look(self, model, update: int) -> None:
        if not self._owed:
            return
        self._owed = False
        self.progress.tell(update, "held-out problems", now=True)
        with without_adapter(model):
            self.look(model, 0)
        self.progress.begin(update)  # what is left is estimated without it

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        """Before each update but the first."""
        if state.global_step:
            self._first_look(model, state.global_step)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        """Of one update, or stopped after the first."""
        self._first_look(model, state.global_step)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """After each update."""
        update = state.global_step
        if state.is_world_process_zero:
            self.progress.tell(update, "training")
            self.tell(f"Update {update} of {state.max_steps}", update / max(1, state.max_steps))
        last = update >= state.max_steps
        if self.look is not None and self.look_every and (update % self.look_every == 0 or last):
            self._first_look(model, state.global_step)
            self.progress.tell(update, "held-out problems", now=True)
            self.look(model, update)
        if asked_by_any(self.stop.is_set(), args.device) and not last:
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        """One line for each logged update."""
        if not state.is_world_process_zero or not logs or any(key in logs for key in SUMMARY_KEYS):
            return
        values = {key: plain(value) for key, value in logs.items()}
        seconds = round(time.monotonic() - self._begun, 3)
        append_line(self.folder / METRICS_FILE, {"update": state.global_step, "seconds": seconds, **values})

    def on_save(self, args, state, control, **kwargs):
        """A checkpoint is being kept."""
        if state.is_world_process_zero:
            self.progress.tell(state.global_step, "keeping a checkpoint", now=True)


def asked_by_any(mine: bool, device: torch.device) -> bool:
    """Whether any process was asked to stop: all must leave after the same update, or the rest waits for ever."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mine
    flag = torch.tensor(int(mine), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


def plain(value: object) -> object:
    """A number that JSON has; None for one that it has not."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None


class HeldOut:
    """Held-out problems, one rollout each, judged: a line of `held-out.jsonl` at each look. The same seed at each look,
    so that what differs is the model."""

    def __init__(
        self,
        trainee: Trainee,
        problems: Sequence[Problem],
        judge: JudgeLike,
        folder: Path,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ):
        self.trainee, self.problems, self.judge, self.folder = trainee, problems, judge, folder
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed

    def __call__(self, network: torch.nn.Module, update: int) -> None:
        """Sample and judge them all."""
        was_training = network.training
        network.eval()
        try:
            # What the training draws must not depend on how often it is looked at, on a GPU neither.
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                places = range(0, len(self.problems), HELD_OUT_ROWS)
                found = [text for at in places for text in self._sample(network, at)]
        finally:
            network.train(was_training)
        judged = [
            (problem, text, tokens, self.judge.judge(problem.answer, text, cut_off=cut).verdict is Verdict.CORRECT)
            for problem, (text, tokens, cut) in zip(self.problems, found, strict=True)
        ]
        append_line(
            self.folder / HELD_OUT_FILE,
            {
                "update": update,
                "n": len(judged),
                "correct": sum(right for *_, right in judged),
                "mean_tokens": round(sum(tokens for _, _, tokens, _ in judged) / max(1, len(judged)), 1),
                "texts": [
                    {"question": problem.question, "text": text, "correct": right}
                    for problem, text, _, right in judged[:TEXTS_KEPT]
                ],
            },
        )

    @torch.no_grad()
    def _sample(self, network: torch.nn.Module, at: int) -> list[tuple[str, int, bool]]:
        """(text, tokens, cut off) of one rollout for each of the next problems."""
        return sample_rows(
            network,
            self.trainee,
            [problem.question for problem in self.problems[at : at + HELD_OUT_ROWS]],
            self.max_new_tokens,
            self.temperature,
        )


@torch.no_grad()
def sample_rows(
    network: torch.nn.Module, trainee: Trainee, questions: Sequence[str], max_new_tokens: int, temperature: float
) -> list[tuple[str, int, bool]]:
    """One rollout for each question, side by side, left-padded: (text, tokens, whether it was cut off)."""
    prompts = [trainee.prompt_ids(question) for question in questions]
    longest = max(map(len, prompts))
    pad = trainee.tokenizer.pad_token_id
    device = next(network.parameters()).device
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    if temperature == 0:
        how = {"do_sample": False}
    # Ours alone: a model's own settings may hold a repetition penalty, which is another distribution.
    asked = GenerationConfig(
        max_new_tokens=max_new_tokens, pad_token_id=pad, eos_token_id=trainee.end_ids, repetition_penalty=1.0, **how
    )
    kept, network.generation_config = network.generation_config, asked
    try:
        drawn = network.generate(input_ids=ids, attention_mask=mask, generation_config=asked)[:, longest:]
    finally:
        network.generation_config = kept
    found = []
    for row in drawn.tolist():
        end = next((place for place, token in enumerate(row) if token in trainee.end_ids), None)
        ended, row = end is not None, row[:end]
        text = trainee.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        found.append((text, len(row), not ended))
    return found
