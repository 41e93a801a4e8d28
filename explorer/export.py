"""Rows for training, made of runs: SFT (prompt, completion), DPO (prompt, chosen, rejected) and GRPO (prompt, answer,
rescued traces).

All load with `datasets.load_dataset("json", …)` as they are and carry their provenance. Only continuations that were
verified correct become rows, and of these only where the whole text is: what trains on it reads prefix and continuation
as one.
A training trace needs tokens: its prefix is the projection of the revised embeddings, its continuation as sampled.

What it does not do: decide whether a rescue is real (the controls), or train.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from explorer.answer import locate_answer
from explorer.errors import UserError
from explorer.records import Continuation, FinishReason, Start, Trace, Verdict
from explorer.store import find_runs, load_run, write_atomic

FORMATS = ("sft", "dpo", "grpo", "parquet")


def rescued(trace: Trace) -> tuple[Continuation, ...]:
    """Continuations of the revised embeddings or of their projection that were verified correct; the unrevised
    prefix's own hits are not rescues."""
    return tuple(
        item
        for item in trace.after
        if item.verdict is Verdict.CORRECT and item.start is not Start.ORIGINAL and item.step > 0
    )


def right_as_a_whole(trace: Trace, item: Continuation) -> bool:
    """Whether prefix and continuation of a rescue are right as one text. Its continuation was judged alone where the
    answer that the whole states stands in the prefix; only the gold answer itself is right there for certain."""
    stated = locate_answer(item.prefix_text + item.text)
    if stated is None or stated.end > len(item.prefix_text):
        return True
    return stated.text.strip() == trace.problem.answer.strip()


def sft_rows(trace: Trace) -> list[dict[str, Any]]:
    """One row per rescued trace that is right as a whole, in TRL's conversational prompt–completion form."""
    rows, seen = [], set()
    for item in rescued(trace):
        if not right_as_a_whole(trace, item):
            continue
        ids = item.prefix_token_ids + item.token_ids
        if ids in seen:  # the same trace sampled twice teaches nothing twice
            continue
        seen.add(ids)
        rows.append(
            {
                "prompt": _question(trace),
                "completion": [{"role": "assistant", "content": item.prefix_text + item.text}],
                "completion_ids": list(ids),
                **_provenance(trace, item),
            }
        )
    return rows


def dpo_rows(trace: Trace) -> list[dict[str, Any]]:
    """One row per rescued trace: chosen is the rescued text, rejected the failed rollout that was revised."""
    if trace.split is None:
        return []
    failed = [{"role": "assistant", "content": trace.before[trace.split.rollout].text}]
    return [
        {
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": failed,
            **{key: value for key, value in row.items() if key not in ("prompt", "completion", "completion_ids")},
        }
        for row in sft_rows(trace)
    ]


def grpo_rows(trace: Trace) -> list[dict[str, Any]]:
    """One row per rescued problem of a run: the prompt, the gold answer, and the traces that may enter its group as
    off-policy members; `_merged` makes one of several runs'."""
    rows = sft_rows(trace)
    if not rows:
        return []
    return [
        {
            "prompt": _question(trace),
            "answer": trace.problem.answer,
            "rescued": [row["completion"][0]["content"] for row in rows],
            "rescued_ids": [row["completion_ids"] for row in rows],
            "rollouts_before": len(trace.before),
            "correct_before": sum(rollout.verdict is Verdict.CORRECT for rollout in trace.before),
            "problem_id": trace.problem.id,
            "model_id": trace.model.id,
            "model_fingerprint": trace.model.fingerprint,
        }
    ]


def _question(trace: Trace) -> list[dict[str, str]]:
    return [{"role": "user", "content": trace.problem.question}]


def _provenance(trace: Trace, item: Continuation) -> dict[str, Any]:
    """Where a row comes from. Column names keep clear of those that make `datasets` take a file for agent traces."""
    return {
        "gold_answer": trace.problem.answer,
        "problem_id": trace.problem.id,
        "problem_family": trace.problem.family,
        "model_id": trace.model.id,
        "model_fingerprint": trace.model.fingerprint,
        "start": item.start.value,
        "revision_steps": item.step,
        "prefix_tokens": len(item.prefix_token_ids),
        "finished": item.finish is FinishReason.STOP,
        "zero_hit_at": len(trace.before) if not any(r.verdict is Verdict.CORRECT for r in trace.before) else None,
        "sampling_seed": trace.sampling.seed,
        "created_at": trace.created_at,
    }


def to_jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    """JSON lines, UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def to_parquet(rows: list[dict[str, Any]]) -> bytes:
    """The SFT rows as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def export_runs(path: Path, form: str, out: Path) -> tuple[int, int]:
    """Write one file from one run or a folder of runs, and a dataset card beside it.

    Args:
        path: a run's folder, or a folder of runs.
        form: sft, dpo, grpo or parquet (the SFT rows).
        out: the file to write.

    Returns:
        (rows, rescues that are left out since they are not right as a whole).

    Raises:
        UserError: an unknown format, no run, or no verified continuation in any of them.
    """
    if form not in FORMATS:
        raise UserError(f"There is no format {form!r}: use one of {', '.join(FORMATS)}.")
    make = {"sft": sft_rows, "parquet": sft_rows, "dpo": dpo_rows, "grpo": grpo_rows}[form]
    traces = [load_run(folder, with_trajectory=False)[0] for folder in find_runs(path)]
    rows = _merged([row for trace in traces for row in make(trace)], form)
    wrong = sum(not right_as_a_whole(trace, item) for trace in traces for item in rescued(trace))
    if not rows:
        found = "No verified-correct continuation" if not wrong else f"No rescue that is right as a whole, of {wrong},"
        raise UserError(
            f"{found} in {len(traces)} run(s) of {path}: nothing to export; revise with other settings or sample more."
        )
    content = to_parquet(rows) if form == "parquet" else to_jsonl(rows)
    write_atomic(out, content)
    write_atomic(out.with_name(out.stem + ".card.md"), card(rows, form, content, out.name, wrong).encode())
    return len(rows), wrong


def _merged(rows: list[dict[str, Any]], form: str) -> list[dict[str, Any]]:
    """Rows of several runs without repetitions: two failed rollouts of a prompt may be revised to the same text, and a
    prompt that stood twice in a file for GRPO would be sampled twice as often."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = (row["prompt"][0]["content"], row["model_fingerprint"])
        if form != "grpo":
            texts = row.get("chosen") or row["completion"], row.get("rejected")
            found.setdefault(json.dumps([*prompt, row["gold_answer"], texts, row.get("completion_ids")]), row)
            continue
        first = found.setdefault(
            json.dumps([*prompt, row["answer"]]), {**row, "rescued": [], "rescued_ids": [], "rollouts_before": 0}
        )
        for text, ids in zip(row["rescued"], row["rescued_ids"], strict=True):
            if ids not in first["rescued_ids"]:
                first["rescued"].append(text)
                first["rescued_ids"].append(ids)
        if row["rollouts_before"] > first["rollouts_before"]:  # runs of one prompt share these: not their sum
            first |= {name: row[name] for name in ("rollouts_before", "correct_before")}
    return list(found.values())


def card(rows: list[dict[str, Any]], form: str, content: bytes, name: str, left_out: int) -> str:
    """A dataset card: what the file is, from which model, how many rows, how many rescues are not among them, and what
    it does not prove."""
    models = sorted({row["model_id"] for row in rows})
    problems = len({row["problem_id"] for row in rows})
    return f"""---
tags: [latent-revise, {form}]
---
# {name}

{len(rows)} rows ({form}) over {problems} problem(s), made by LatentRevise Explorer (method: arXiv 2606.29938).
Model(s): {", ".join(models)}. SHA-256 of the file: `{hashlib.sha256(content).hexdigest()}`.

Rows come from continuations whose final answer was verified against the gold answer; {left_out} more are left out, for
the answer that prefix and continuation state as one text stands in the prefix and is another. A verified answer does
not prove sound reasoning: the prefix was moved toward that answer, so look at the controls (decoy anchor, answer ban,
equal compute) before you trust a rescue.
"""
