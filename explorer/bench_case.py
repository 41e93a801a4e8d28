"""What the benchmark's rows share: their records, how much is measured, both networks, one prompt with sampled
rollouts, the clock, and what the machine can do at best.

What it does not do: measure a row (`bench_rows.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from explorer.bench_reference import PlainReference
from explorer.context import Context
from explorer.kernels import products
from explorer.model import LanguageModel
from explorer.problems import load_bank
from explorer.records import Problem, Prompt, RevisionConfig, SamplingConfig, Split
from explorer.revise import RevisionObjective
from explorer.settings import Settings
from explorer.sources import ResolvedModel, resolve
from explorer.together import TogetherRollouts

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limit:
    """What the machine reaches at best and what the row reached of it, both in `unit`."""

    what: str
    best: float
    reached: float
    unit: str

    @property
    def share(self) -> float:
        """0..1, of the best."""
        return self.reached / self.best


@dataclass
class Row:
    """One row: figures in `unit`, medians and bests. Ratio is reference/ours where both were timed; `met` says whether
    the target was reached, `checks` what else was compared with the reference."""

    name: str
    what: str = ""
    unit: str = ""
    ours: float | None = None
    reference: float | None = None
    ratio: float | None = None
    best_ours: float | None = None
    best_reference: float | None = None
    target: str = ""
    met: bool | None = None
    limit: Limit | None = None
    checks: dict[str, float | bool | int] = field(default_factory=dict)
    note: str = ""
    error: str = ""


@dataclass
class Growth:
    """How a time grows: a table with a head."""

    name: str
    what: str = ""
    columns: tuple[str, ...] = ()
    rows: list[tuple[float, ...]] = field(default_factory=list)
    note: str = ""
    error: str = ""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    repeats: int = 7
    batches: int = 5  # repetitions of what takes seconds
    prefix: int = 24
    continuation: int = 64
    new_tokens: int = 64
    rollouts: int = 16
    prompts: int = 64
    answer_tokens: int = 96
    every: int = 8  # the reference takes every 8th prompt of the set
    memory_shape: Mapping[str, int] = field(
        default_factory=lambda: {
            "vocab_size": 151_936,
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4_864,
        }
    )
    memory_prefix: int = 512
    starts: int = 3
    loop: Mapping[str, int] = field(default_factory=lambda: {"rollouts": 8, "new_tokens": 96, "steps": 10})
    prefixes: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    vocabularies: tuple[int, ...] = (8_192, 32_768, 151_936)
    rows_of_sampling: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1_024)
    sft_updates: int = 16  # of sft_batch traces each
    sft_batch: int = 4
    grpo_updates: int = 8
    matmul: int = 2_048
    read_bytes: int = 400 * MEGABYTE


QUICK = Sizes(repeats=3, batches=2, new_tokens=32, prompts=8, starts=1, sft_updates=4, grpo_updates=2)


class Bench:
    """What the rows share: both networks, the machine's measured limits, one prompt with failed-like rollouts."""

    def __init__(self, settings: Settings, sizes: Sizes):
        self.settings, self.sizes = settings, sizes

    @cached_property
    def found(self) -> ResolvedModel:
        """Where the weights lie; raises `UserError`."""
        settings = self.settings
        return resolve(
            settings.model,
            settings.cache_dir,
            offline=settings.offline,
            allow_remote_code=settings.allow_remote_code,
        )

    @cached_property
    def model(self) -> LanguageModel:
        """Ours."""
        return LanguageModel.load(
            self.found.path,
            id=self.found.id,
            source=self.found.source,
            revision=self.found.revision,
            device=self.settings.device,
            dtype=self.settings.dtype,
            trust_remote_code=self.settings.allow_remote_code,
        )

    @cached_property
    def reference(self) -> PlainReference:
        """A second copy of the same weights, as transformers loads them."""
        model = self.model
        return PlainReference.load(self.found.path, model.device, model.dtype, self.settings.allow_remote_code)

    @cached_property
    def reference_rows(self) -> Tensor:
        """(vocab_size, hidden) float32, from the reference's network."""
        return self.reference.vocabulary().float()

    @cached_property
    def problem(self) -> Problem:
        """The bank's first."""
        return load_bank()[0]

    @cached_property
    def prompt(self) -> Prompt:
        """Its question in the chat template."""
        return self.model.prompt(self.problem.question)

    @cached_property
    def context(self) -> Context:
        """The prompt, read."""
        return self.model.read(self.prompt.token_ids)

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """Eight sampled rollouts, cut: the first after `prefix` tokens, the others unevenly (0.7 to 1.3 times)."""
        lengths = [max(2, round(self.sizes.prefix * (1.0 + 0.1 * shift))) for shift in (0, -3, -2, -1, 1, 2, 3, 0)]
        longest = max(lengths) + self.sizes.continuation
        sampling = SamplingConfig(n=8, temperature=0.8, top_p=0.95, max_new_tokens=longest)
        drafts = sampled(self.model, self.prompt.token_ids, None, sampling)
        return tuple(
            Split(
                rollout=index,
                prefix_token_ids=tuple(draft[:length]),
                continuation_token_ids=tuple(draft[length : length + self.sizes.continuation]),
            )
            for index, (draft, length) in enumerate(zip(drafts, lengths, strict=True))
        )

    def objective(self, split: Split) -> RevisionObjective:
        """A fresh objective for a split of the prompt, with the app's own settings."""
        config, failed = RevisionConfig(), split.continuation_token_ids
        anchor = self.model.anchor(split.prefix_token_ids, config.connector, self.problem.answer, failed)
        return RevisionObjective(self.model, self.context, anchor, failed, config)

    def settle(self) -> None:
        """Wait until the device has done what it was asked."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        elif torch.backends.mps.is_available():
            torch.mps.synchronize()

    def seconds(self, call: Callable[[], int]) -> float:
        """Seconds per unit of a call that says how many units it did."""
        self.settle()
        begun = time.perf_counter()
        units = call()
        self.settle()
        return (time.perf_counter() - begun) / units

    def interleaved(self, ours: Callable[[], int], reference: Callable[[], int], repeats: int) -> tuple[list, list]:
        """Both in turn, after one of each that is not counted: seconds per unit of every repetition."""
        ours(), reference()
        pairs = [(self.seconds(ours), self.seconds(reference)) for _ in range(repeats)]
        return [a for a, _ in pairs], [b for _, b in pairs]

    @cached_property
    def product_limit(self) -> float:
        """GFLOP/s of the best square matrix product, torch's own or oneDNN's."""
        size = self.sizes.matmul
        left, right = (torch.randn(size, size, device=self.model.device, dtype=self.model.dtype) for _ in range(2))
        ways = [lambda: torch.mm(left, right)]
        if self.model.device.type == "cpu" and self.model.dtype == torch.float32:
            ways.append(lambda: products(left, right))
        best = min(self._best(way) for way in ways)
        return 2 * size**3 / best / 1e9

    @cached_property
    def read_limit(self) -> float:
        """GB/s of the best of summing and copying a tensor larger than any cache; a copy reads and writes."""
        source = torch.ones(self.sizes.read_bytes // 4, device=self.model.device)
        target = torch.empty_like(source)
        size = source.numel() * 4
        return max(size / self._best(source.sum), 2 * size / self._best(lambda: target.copy_(source))) / 1e9

    def _best(self, call: Callable[[], object], repeats: int = 5) -> float:
        call()
        return min(self.seconds(lambda: (call(), 1)[1]) for _ in range(repeats))


# -- ours, as the app does it ----------------------------------------------------------------------


def sampled(
    model: LanguageModel, prompt: Sequence[int], prefix: Tensor | None, sampling: SamplingConfig, ends: bool = False
) -> list[list[int]]:
    """Read a prompt and sample from it: token ids of each row. Without `ends` no token ends a row."""
    with ends_known(model, ends):
        drafts: list[list[int]] = [[] for _ in range(sampling.n)]
        for events in model.sample(model.read(prompt), prefix, sampling):
            for row, token in events:
                if token is not None:
                    drafts[row].append(token)
    return drafts


@contextmanager
def ends_known(model: LanguageModel, known: bool) -> Iterator[None]:
    """Whether the model knows its end tokens for a while; without them the number of tokens drawn is known."""
    kept = model.end_ids
    model.end_ids = kept if known else frozenset()
    try:
        yield
    finally:
        model.end_ids = kept


def rollouts_of_set(
    model: LanguageModel, prompts: Sequence[Prompt], sampling: SamplingConfig, batch: bool = False
) -> list[list[list[int]]]:
    """Rollouts of many prompts as the app draws them, prompt by prompt or several in one batch: for each prompt, the
    token ids of its rows."""
    if not batch:
        return [sampled(model, prompt.token_ids, None, sampling, ends=True) for prompt in prompts]
    # A seed of its own for each, as a hunt has it.
    asked = [(prompt.token_ids, sampling.model_copy(update={"seed": seed})) for seed, prompt in enumerate(prompts)]
    drawer, found = TogetherRollouts(model, asked), []
    for ids, its_sampling in asked:
        drafts: list[list[int]] = [[] for _ in range(sampling.n)]
        for events in drawer.sample(ids, its_sampling):
            for row, token in events:
                if token is not None:
                    drafts[row].append(token)
        found.append(drafts)
    return found
