"""The benchmark's measurements, one function a row: ours and the plain reference in turn, in one run, on one machine.

A ratio is the reference's time over ours, of medians over interleaved repetitions, so that a busy minute falls on both.
Rows without a reference have a target instead. A limit says how much of what the machine can do at all was reached:
its measured matrix products for a step, its measured memory speed for sampling.

What it does not do: choose rows, print, write (`bench.py`); say how the plain way goes (`bench_reference.py`).
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from explorer import bench_process
from explorer.bench_case import MEGABYTE, Bench, Growth, Limit, Row, ends_known, rollouts_of_set, sampled
from explorer.bench_reference import random_network
from explorer.errors import UserError
from explorer.frank_wolfe import linear_minimisation, nearest_rows, plain_products
from explorer.kernels import products
from explorer.model import LanguageModel
from explorer.problems import load_bank
from explorer.records import Anchor, Prompt, RevisionConfig, SamplingConfig, Split
from explorer.revise import RevisionObjective, revise, revise_together

AGREES_WITHIN = 1e-4  # float32, relative; narrower formats are reported only


def timed(row: Row, unit: str, scale: float, ours: Sequence[float], reference: Sequence[float]) -> Row:
    """Fill a row from seconds; `scale` turns seconds into its unit."""
    row.unit = unit
    row.ours, row.reference = statistics.median(ours) * scale, statistics.median(reference) * scale
    row.best_ours, row.best_reference = min(ours) * scale, min(reference) * scale
    row.ratio = row.reference / row.ours
    return row


def reach(row: Row, least: float, share: float | None = None) -> Row:
    """State what a timed row is to reach: so many times the reference, better `share` (0..1) of the machine's limit."""
    row.target = f"≥ {least:g}×" + ("" if share is None else f", better {share:.0%} of the limit")
    row.met = row.ratio >= least
    return row


def relative(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def work(bench: Bench, objectives: Sequence[RevisionObjective], prefixes: Sequence[int]) -> float:
    """Floating point operations of a step of ours: linear layers, and the head at scored positions, both ways; neither
    attention nor the oracle and the projection.

    Args:
        bench: whose networks.
        objectives: what is revised.
        prefixes: tokens of each one's prefix.
    """
    forward = backward = scored = 0
    for objective, prefix in zip(objectives, prefixes, strict=True):
        answer, failed = objective.anchor.answer_span, len(objective.continuation)
        read = 2 * prefix + answer[1] - 1 + failed - 1
        backward += read
        # As a pair, one alone or each on a processor: the products of the prefix are done once for both branches.
        paired = bench.model.packed and (len(objectives) == 1 or bench.model.device.type == "cpu")
        forward += read - (prefix if paired and bench.model.fast else 0)
        scored += answer[1] - answer[0] + failed
    return 2 * bench.reference.linear_weights() * (forward + backward) + 4 * bench.reference.head_weights() * scored


def plain_work(bench: Bench, objective: RevisionObjective, prefix: int) -> float:
    """The same of a step of the reference: every position of both branches, prompt and head included."""
    read = 2 * (len(bench.prompt.token_ids) + prefix) + objective.anchor.answer_span[1] + len(objective.continuation)
    return 4 * (bench.reference.linear_weights() + bench.reference.head_weights()) * read


def step(bench: Bench, row: Row) -> Row:
    """One revision step, and whether its numbers are the reference's."""
    model, split = bench.model, bench.splits[0]
    objective = bench.objective(split)
    config, anchor, failed = objective.config, objective.anchor, split.continuation_token_ids

    def plain(x: Tensor):
        return bench.reference.step(
            bench.prompt.token_ids,
            x,
            anchor.token_ids,
            anchor.answer_span,
            failed,
            config.away_weight,
            config.step_size,
            bench.reference_rows,
            model.allowed,
        )

    point = model.rows(split.prefix_token_ids)
    steps, expected = revise(model, objective, split), plain(point)
    losses = model.losses(bench.context, point, anchor, failed)
    record, after = next(steps)
    errors = {
        "toward_error": abs(record.toward_loss - expected.toward) / abs(expected.toward),
        "away_error": abs(record.away_loss - expected.away) / abs(expected.away),
        "toward_gradient_error": relative(losses.toward_gradient, expected.toward_gradient),
        "away_gradient_error": relative(losses.away_gradient, expected.away_gradient),
    }
    row.checks = {
        **errors,
        "point_error": relative(after, expected.after),
        "same_vertices": list(record.vertices) == expected.vertices.tolist(),
    }
    if model.dtype == torch.float32:
        row.checks["agrees"] = max(errors.values()) < AGREES_WITHIN
    moving = [point]

    def reference() -> int:
        moving[0] = plain(moving[0]).after
        return 1

    timed(row, "ms", 1e3, *bench.interleaved(lambda: len(next(steps)[:1]), reference, bench.sizes.repeats))
    ours = work(bench, [objective], [len(point)])
    # What the ratio would be if both did their products equally fast and nothing else.
    row.checks["ratio_by_count"] = plain_work(bench, objective, len(point)) / ours
    reached = ours / row.ours / 1e6
    row.limit = Limit("matrix products", bench.product_limit, reached, "GFLOP/s")
    row.note = (
        f"prompt {len(bench.prompt.token_ids)}, prefix {len(point)}, answer {anchor.answer_span[1]}, failed "
        f"{len(failed)} tokens; largest error {max(errors.values()):.1e}, vertices "
        f"{'the same' if row.checks['same_vertices'] else 'differ'}; only ours projects and records; the plain way "
        f"needs {row.checks['ratio_by_count']:.2f} times the products, so that is the ratio of products equally fast"
    )
    return reach(row, 3.0, 0.6)


def step_of_eight(bench: Bench, row: Row) -> Row:
    """Eight runs of one prompt revised together; the reference here is ours, one after another."""
    splits = bench.splits
    objectives, apart = ([bench.objective(split) for split in splits] for _ in range(2))
    together = revise_together(bench.model, objectives, splits)
    singles = [revise(bench.model, objective, split) for objective, split in zip(apart, splits, strict=True)]
    pairs = list(zip(next(together), map(next, singles), strict=True))
    row.checks = {
        "toward_error": max(abs(a.toward_loss - b.toward_loss) / abs(b.toward_loss) for (a, _), (b, _) in pairs),
        "away_error": max(abs(a.away_loss - b.away_loss) / abs(b.away_loss) for (a, _), (b, _) in pairs),
        "point_error": max(relative(a, b) for (_, a), (_, b) in pairs),
        "same_vertices": all(a.vertices == b.vertices for (a, _), (b, _) in pairs),
    }
    times = bench.interleaved(
        lambda: len(next(together)), lambda: len([next(single) for single in singles]), bench.sizes.batches
    )
    timed(row, "ms per rollout", 1e3, *times)
    lengths = [len(split.prefix_token_ids) for split in splits]
    reached = work(bench, objectives, lengths) / len(splits) / row.ours / 1e6
    row.limit = Limit("matrix products", bench.product_limit, reached, "GFLOP/s")
    row.note = f"8 rollouts, prefixes of {min(lengths)} to {max(lengths)} tokens; the reference is ours one by one"
    return reach(row, 2.0)


def sample(bench: Bench, row: Row, n: int, temperature: float, top_p: float, soft: bool = False) -> Row:
    """Sampling a known number of tokens, reading the prompt included, without end tokens on both sides."""
    model, size = bench.model, bench.sizes.new_tokens
    sampling = SamplingConfig(n=n, temperature=temperature, top_p=top_p, max_new_tokens=size)
    prompt, prefix = bench.prompt.token_ids, None
    if soft:
        # Between two tokens, so no row of the vocabulary.
        rows = model.rows(bench.splits[0].prefix_token_ids)
        prefix = 0.8 * rows + 0.2 * rows.roll(1, dims=0)

    def ours() -> list[list[int]]:
        return sampled(model, prompt, prefix, sampling)

    def reference() -> list[list[int]]:
        return bench.reference.generate(
            prompt, n=n, new_tokens=size, temperature=temperature, top_p=top_p, prefix=prefix
        )

    if temperature == 0.0:
        found, expected = ours(), reference()
        alike = [
            len(list(itertools.takewhile(lambda p: p[0] == p[1], zip(a, b, strict=False))))
            for a, b in zip(found, expected, strict=True)
        ]
        row.checks = {"same_tokens": found == expected, "tokens_alike": min(alike)}
    counted = [lambda way=way: sum(map(len, way())) for way in (ours, reference)]
    timed(row, "ms per token", 1e3, *bench.interleaved(*counted, bench.sizes.batches))
    passes = 1e3 / row.ours / n
    read = passes * bench.reference.weight_bytes() / 1e9
    row.limit = Limit("memory reads", bench.read_limit, read, "GB/s")
    row.note = f"{1e3 / row.ours:.1f} tokens/s against {1e3 / row.reference:.1f}; {n} × {size} tokens"
    if row.checks:
        same = "tokens the same" if row.checks["same_tokens"] else f"the first {min(alike)} tokens the same"
        row.note += f"; {same}"
    return reach(row, 1.3, 0.5) if n == 1 else reach(row, 1.5)


def problem_set(bench: Bench, row: Row, batch: bool = False) -> Row:
    """Rollouts of many problems, with the model's own end tokens; prompt by prompt, or several in one batch."""
    model, sizes = bench.model, bench.sizes
    sampling = SamplingConfig(n=sizes.rollouts, temperature=0.8, top_p=0.95, max_new_tokens=sizes.answer_tokens)
    problems, prompts = load_bank(), []
    for place in range(sizes.prompts):
        # Spread over the bank, whose families stand one after another.
        prompts.append(model.prompt(problems[place * len(problems) // sizes.prompts % len(problems)].question))
    if max(len(prompt.token_ids) for prompt in prompts) + sizes.answer_tokens > model.context_length:
        raise UserError("The bank's problems do not fit this model's context.")
    chosen = prompts[:: sizes.every]
    drawn = {"ours": 0, "reference": 0}

    def ours() -> int:
        drawn["ours"] = sum(len(ids) for rows in rollouts_of_set(model, prompts, sampling, batch) for ids in rows)
        return 1

    def reference(some: Sequence[Prompt]) -> int:
        for prompt in some:
            rows = bench.reference.generate(
                prompt.token_ids,
                n=sizes.rollouts,
                new_tokens=sizes.answer_tokens,
                temperature=0.8,
                top_p=0.95,
                end_ids=tuple(model.end_ids),
            )
            drawn["reference"] += sum(map(len, rows))
        return 1

    half = (len(chosen) + 1) // 2
    before = bench.seconds(lambda: reference(chosen[:half]))
    spent = bench.seconds(ours)
    plain = before + bench.seconds(lambda: reference(chosen[half:]))
    timed(row, "ms per token", 1e3, [spent / max(1, drawn["ours"])], [plain / max(1, drawn["reference"])])
    row.best_ours = row.best_reference = None  # measured once
    each = [drawn["ours"] / len(prompts) / sizes.rollouts, drawn["reference"] / len(chosen) / sizes.rollouts]
    row.checks = {"tokens_per_rollout": each[0], "reference_tokens_per_rollout": each[1], "seconds": spent}
    row.note = (
        f"{len(prompts)} prompts × {sizes.rollouts} in {spent:.1f} s, the reference on every "
        f"{sizes.every}th prompt, half before and half after ours; {1e3 / row.ours:.0f} tokens/s against "
        f"{1e3 / row.reference:.0f}, {each[0]:.0f} and {each[1]:.0f} tokens a rollout"
    )
    # One forward pass for each token: two operations for each weight of the linear layers, the head among them.
    work_of_token = 2 * (bench.reference.linear_weights() + bench.reference.head_weights())
    row.limit = Limit("matrix products", bench.product_limit, work_of_token * drawn["ours"] / spent / 1e9, "GFLOP/s")
    return reach(row, 3.0, 0.5)


def memory_152k(bench: Bench, row: Row) -> Row:
    """What lies on top of a model with a large vocabulary during a step: copies of its weights, and the step itself."""
    sizes = bench.sizes
    asked = {"shape": dict(sizes.memory_shape), "prefix": sizes.memory_prefix, "continuation": sizes.continuation}
    found = bench_process.answer_of(["memory", json.dumps(asked)])
    row.unit, row.target = "MB", "≤ 1.5"
    own, copies = found["own"], found["loaded"] - found["bare"] - found["own"]
    row.ours, row.reference = (found["added"] + copies) / MEGABYTE, own / MEGABYTE
    row.ratio = row.ours / row.reference
    row.met = row.ratio <= 1.5
    row.checks = {"copies_over_own": copies / own, "step_over_own": found["added"] / own, "seconds": found["seconds"]}
    row.checks["exact"] = found["exact"]
    row.note = (
        f"ours: all that lies on top of the weights; reference: the weights; ratio ours/reference here. Weights in "
        f"oneDNN's order {copies / own:.2f}, a step at its peak {found['added'] / own:.2f} times the weights"
    )
    if not found["exact"]:
        row.note += "; the peak could not be reset before the step, so it is an upper bound"
    return row


def against(row: Row, unit: str, found: Sequence[float], target: float, stretch: float | None = None) -> Row:
    """Fill a row that has a target and no reference."""
    row.unit, row.ours, row.best_ours = unit, statistics.median(found), min(found)
    row.target = f"≤ {target:g}" + ("" if stretch is None else f", better ≤ {stretch:g}")
    row.met = row.ours <= target
    return row


def start(bench: Bench, row: Row) -> Row:
    """Until the page is there; once before, so that files are in memory."""
    bench_process.page_start_s()
    return against(row, "s", [bench_process.page_start_s() for _ in range(bench.sizes.starts)], 5.0, 3.0)


def map_of_the_vocabulary(bench: Bench, row: Row) -> Row:
    """Read the shipped map; imports not counted."""
    tokens, size = bench_process.read_map()
    row.note = f"{tokens:,} tokens, {size / MEGABYTE:.1f} MB"
    return against(row, "s", [bench.seconds(lambda: len(bench_process.read_map()[:1])) for _ in range(5)], 1.0)


def peak_memory(bench: Bench, row: Row) -> Row:
    """The whole loop in a process that has also imported the page."""
    settings = bench.settings.model_dump(mode="json", include={"model", "dtype", "device", "cache_dir", "offline"})
    asked = {"settings": settings, "sizes": dict(bench.sizes.loop)}
    found = bench_process.answer_of(["loop", json.dumps(asked)])
    row.checks = {"loaded": found["loaded"] / 1e9, "continuations": found["continuations"]}
    row.note = f"{found['loaded'] / 1e9:.2f} GB once the model is loaded; without the judge's own process"
    return against(row, "GB", [found["peak"] / 1e9], 2.5, 1.5)


# -- growth ----------------------------------------------------------------------------------------


def random_ids(bench: Bench, count: int) -> list[int]:
    """Token ids, always the same ones."""
    known = min(len(bench.model.tokenizer), bench.model.info.vocab_size)
    return torch.randint(known, (count,), generator=torch.Generator().manual_seed(0)).tolist()


def growth_of_prefix(bench: Bench, table: Growth) -> Growth:
    """A step's time against the length of the prefix."""
    table.columns = ("prefix tokens", "step, ms", "ms per token")
    failed = bench.splits[0].continuation_token_ids
    longest = bench.model.context_length - len(bench.prompt.token_ids) - len(failed) - 32
    for size in (size for size in bench.sizes.prefixes if size <= longest):
        split = Split(rollout=0, prefix_token_ids=tuple(random_ids(bench, size)), continuation_token_ids=failed)
        steps = revise(bench.model, bench.objective(split), split)
        next(steps)
        found = [bench.seconds(lambda steps=steps: len(next(steps)[:1])) for _ in range(bench.sizes.batches)]
        table.rows.append((size, statistics.median(found) * 1e3, statistics.median(found) * 1e3 / size))
    return table


LAYERS_OF_RANDOM = 4


def growth_of_vocabulary(bench: Bench, table: Growth, hidden: int = 576, positions: int = 32) -> Growth:
    """Oracle and projection against the number of rows, on random rows; and a whole step of a small random model."""
    table.columns = ("rows", "ours, ms", "plain, ms", "ratio", "whole step, ms")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(positions, hidden, generator=generator)
    for count in bench.sizes.vocabularies:
        rows = torch.randn(count, hidden, generator=generator)
        norms = rows.norm(dim=1)

        def ours(rows=rows, norms=norms) -> int:
            linear_minimisation(x, rows, None, products)
            nearest_rows(x, rows, "l2", None, products, norms)
            return 1

        def plain(rows=rows) -> int:
            linear_minimisation(x, rows, None, plain_products)
            nearest_rows(x, rows, "l2", None, plain_products)
            return 1

        fast, slow = (statistics.median(times) * 1e3 for times in bench.interleaved(ours, plain, bench.sizes.repeats))
        table.rows.append((count, fast, slow, slow / fast, step_of_random(bench, count, hidden, positions)))
    table.note = (
        f"hidden {hidden}, {positions} positions; plain: torch's product, norms worked out each time; the whole step "
        f"is of a random model of {LAYERS_OF_RANDOM} layers with so many tokens, 32 failed ones scored"
    )
    return table


def step_of_random(bench: Bench, vocab_size: int, hidden: int, positions: int) -> float:
    """Milliseconds of a revision step of a random model with so many tokens, the median."""
    shape = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": LAYERS_OF_RANDOM}
    network = random_network({**shape, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": vocab_size})
    model = LanguageModel(network, bench_process.NoTokenizer(vocab_size), id="random")
    ids = torch.arange(3, 3 + 16 + positions + 32).remainder(vocab_size).tolist()
    split = Split(
        rollout=0,
        prefix_token_ids=tuple(ids[16 : 16 + positions]),
        continuation_token_ids=tuple(ids[16 + positions :]),
    )
    anchor = Anchor(text="", token_ids=tuple(ids[:4]), answer_span=(2, 4))
    objective = RevisionObjective(model, model.read(ids[:16]), anchor, split.continuation_token_ids, RevisionConfig())
    steps = revise(model, objective, split)
    next(steps)
    return statistics.median(bench.seconds(lambda: len(next(steps)[:1])) for _ in range(bench.sizes.batches)) * 1e3


def growth_of_rows(bench: Bench, table: Growth) -> Growth:
    """Sampling speed against how many rows are sampled side by side."""
    table.columns = ("rollouts", "tokens/s", "tokens/s each")
    for n in bench.sizes.rows_of_sampling:
        sampling = SamplingConfig(n=n, temperature=0.8, top_p=0.95, max_new_tokens=bench.sizes.new_tokens)

        def call(sampling=sampling) -> int:
            return sum(map(len, sampled(bench.model, bench.prompt.token_ids, None, sampling)))

        speed = 1.0 / statistics.median(bench.seconds(call) for _ in range(bench.sizes.batches))
        table.rows.append((n, speed, speed / n))
    return table


def growth_of_length(bench: Bench, table: Growth, drawn: int = 16) -> Growth:
    """The time of one token against what was read before it."""
    table.columns = ("tokens before", "ms per token")
    sampling = SamplingConfig(n=1, temperature=0.0, max_new_tokens=drawn + 1)
    for size in (size for size in bench.sizes.lengths if size + drawn + 1 < bench.model.context_length):
        context = bench.model.read(random_ids(bench, size))
        found = []
        for _ in range(bench.sizes.batches):
            with ends_known(bench.model, False):
                tokens = bench.model.sample(context, None, sampling)
                next(tokens)
                found.append(bench.seconds(lambda tokens=tokens: len(list(tokens))))
        table.rows.append((size, statistics.median(found) * 1e3))
    return table
