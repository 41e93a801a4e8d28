"""Rollouts of many prompts, several prompts in one batch: for evaluations and hunts, where what counts is how many
tokens a second all of them get.

A prompt's own rollouts thin out as they end, and a batch of few rows wastes most of each pass: the weights are read for
8 rows as for 64. Batches have a fixed make-up, by the prompts' order, so the same set gives the same rollouts whatever
was done before. Random numbers are those of `LanguageModel.sample`; only rounding differs with the make-up of a batch,
so now and then a token does, and a hunt says which way drew.

What it does not do: go on from moved embeddings, or anything that needs gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from explorer.context import SideBySide
from explorer.model import LanguageModel, draw, row_generators
from explorer.records import SamplingConfig
from explorer.stopwatch import Stopwatch

# Rows of a batch: twice as many gain a tenth more on two cores. Fewer where their keys and values would take more
# memory than this; fixed, since the make-up of a batch must not depend on what else runs.
ROWS = 64
CACHE_BYTES = 1_000_000_000

Events = list[tuple[int, int | None]]


class TogetherRollouts:
    """Draws a prompt's rollouts together with its neighbours'; those wait until they are asked for."""

    def __init__(self, model: LanguageModel, prompts: Sequence[tuple[Sequence[int], SamplingConfig]], rows: int = 0):
        """Remember what will be asked for.

        Args:
            model: the frozen model.
            prompts: (token ids, sampling) of every prompt of the set, in its order.
            rows: of a batch, at most, but at least one prompt's; 0 takes as many as fit.
        """
        self._model = model
        rows = rows or rows_that_fit(model, prompts)
        self._batches: list[list[tuple[tuple[int, ...], SamplingConfig]]] = []
        for ids, sampling in prompts:
            one = (tuple(ids), sampling)
            last = self._batches[-1] if self._batches else None
            if last is not None and self._fits(last, one, rows):
                last.append(one)
            else:
                self._batches.append([one])
        self._at = {one: batch for batch in self._batches for one in batch}
        self._drawn: dict[tuple[tuple[int, ...], SamplingConfig], list[Events]] = {}
        self._owed: dict[tuple[tuple[int, ...], SamplingConfig], float] = {}
        self._begun: list[tuple[tuple[int, ...], SamplingConfig]] = []

    @staticmethod
    def _fits(batch: list, one: tuple[tuple[int, ...], SamplingConfig], rows: int) -> bool:
        taken = sum(sampling.n for _, sampling in batch)
        alike = batch[0][1].model_copy(update={"seed": 0}) == one[1].model_copy(update={"seed": 0})
        return alike and taken + one[1].n <= rows

    def sample(
        self, prompt: Sequence[int], sampling: SamplingConfig, stream: int = 0, first_row: int = 0
    ) -> Iterator[Events]:
        """`LanguageModel.sample` for a plain prompt. The first of a batch draws for all of it.

        Yields:
            one list for each decoding step, an empty one while only the others' rows go on.
        """
        one = (tuple(prompt), sampling)
        batch = self._at.get(one)
        if batch is None or first_row or not self._model.packed or len(batch) == 1:
            yield from self._model.sample(self._model.read(prompt), None, sampling, stream, first_row)
            return
        if one in self._drawn:
            yield from self._drawn.pop(one)
            return
        steps: dict[tuple[tuple[int, ...], SamplingConfig], list[Events]] = {other: [] for other in batch}
        self._begun = batch
        watch, owed, before = Stopwatch(), dict.fromkeys(batch, 0.0), 0.0
        for events in sample_together(self._model, batch, stream):
            took, drawn = watch.seconds - before, sum(map(len, events))
            before += took
            owed[one] -= took
            for other, mine in zip(batch, events, strict=True):
                owed[other] += took * len(mine) / drawn
                if mine:
                    steps[other].append(mine)
            with watch.paused():
                yield events[batch.index(one)]
        self._begun = []
        self._owed |= owed
        self._drawn |= {other: events for other, events in steps.items() if other != one}

    def part(self) -> bool:
        """Let every prompt of the batch that broke off draw by itself, since what ended it is one prompt's own. Returns
        whether there was such a batch: then it is worth another try."""
        broken, self._begun = self._begun, []
        self._at |= {one: [one] for one in broken}
        return bool(broken)

    def owed(self, prompt: Sequence[int], sampling: SamplingConfig) -> float:
        """Seconds to add to what drawing a prompt's rollouts seemed to take: its share of its batch's by the tokens of
        each step, which the first of a batch waited for and the others did not. Asked for once; else 0."""
        return self._owed.pop((tuple(prompt), sampling), 0.0)


def rows_that_fit(model: LanguageModel, prompts: Sequence[tuple[Sequence[int], SamplingConfig]]) -> int:
    """Rows whose keys and values fit the memory set aside, at the longest prompt's full length."""
    text = model.network.config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 1)
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    positions = max((len(ids) + sampling.max_new_tokens for ids, sampling in prompts), default=1)
    row = 2 * text.num_hidden_layers * keys * size * positions * model.dtype.itemsize
    return max(1, min(ROWS, CACHE_BYTES // row))


@torch.no_grad()
def sample_together(
    model: LanguageModel, prompts: Sequence[tuple[Sequence[int], SamplingConfig]], stream: int = 0
) -> Iterator[list[Events]]:
    """Sample all rollouts of some prompts side by side.

    Args:
        model: the frozen model; it must be `packed`.
        prompts: (token ids, sampling); all but n and seed of the samplings are alike.
        stream: see `LanguageModel.sample`.

    Yields:
        for each decoding step one list for each prompt, of (row, token id), None where the row reached its end token.
    """
    first = prompts[0][1]
    nothing = torch.zeros(1, 0, model.vocabulary.shape[1], device=model.device)
    contexts, logits, rows, generators = [], [], [], []
    for place, (ids, sampling) in enumerate(prompts):
        context = model.read(ids).fork()
        logits.append(context.extend(nothing, 1)[:, -1].expand(sampling.n, -1))
        contexts.append(context)
        rows += [(place, row) for row in range(sampling.n)]
        generators += row_generators(sampling.seed, stream, range(sampling.n))
    together = SideBySide(contexts, [sampling.n for _, sampling in prompts], first.max_new_tokens)
    scores = torch.cat(logits)
    for produced in range(1, first.max_new_tokens + 1):
        uniforms = torch.stack([torch.rand((), generator=one, dtype=torch.float64) for one in generators])
        drawn = draw(scores, uniforms.to(model.draw_device), first.temperature, first.top_p, model.allowed)
        tokens = drawn.tolist()
        events: list[Events] = [[] for _ in prompts]
        for (place, row), token in zip(rows, tokens, strict=True):
            events[place].append((row, None if token in model.end_ids else token))
        yield events
        kept = [index for index, token in enumerate(tokens) if token not in model.end_ids]
        if not kept or produced == first.max_new_tokens or together.longest + produced >= model.context_length:
            return
        if len(kept) < len(tokens):
            together.select(torch.as_tensor(kept, device=model.device))
            rows, generators = [rows[index] for index in kept], [generators[index] for index in kept]
        scores = together.extend(model.rows([tokens[index] for index in kept])[:, None])
