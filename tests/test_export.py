"""Exports load with datasets as they are, and hold exactly the verified rescues."""

from __future__ import annotations

import json

import pytest
import torch

from explorer.errors import UserError
from explorer.export import dpo_rows, export_runs, grpo_rows, rescued, sft_rows
from explorer.records import Start, Verdict
from explorer.store import save_run
from tests.test_pipeline import told


@pytest.fixture(scope="module")
def trace(llama):
    """A real run in which some continuations of every arm are declared correct, one of them twice the same."""
    trace = told(llama).trace()
    after = []
    for index, item in enumerate(trace.after):
        after.append(item.model_copy(update={"verdict": Verdict.CORRECT if index % 3 < 2 else Verdict.WRONG}))
    return trace.model_copy(update={"after": (*after, after[0])})


@pytest.fixture
def runs(trace, tmp_path):
    save_run(trace, None if trace.split is None else torch.zeros(5, 6, 32), tmp_path / "runs" / "a")
    return tmp_path / "runs"


def test_only_verified_rescues_become_rows(trace):
    rows = sft_rows(trace)
    expected = {
        item.prefix_token_ids + item.token_ids
        for item in trace.after
        if item.verdict is Verdict.CORRECT and item.start is not Start.ORIGINAL
    }
    assert {tuple(row["completion_ids"]) for row in rows} == expected
    assert len(rows) == len(expected), "a trace sampled twice is one row"
    assert len(rescued(trace)) > len(rows)
    for row in rows:
        assert row["prompt"] == [{"role": "user", "content": "What is 12 + 30?"}]
        assert row["completion"][0]["role"] == "assistant"
        assert row["zero_hit_at"] == 3


def test_a_completion_is_the_projected_prefix_and_what_was_sampled(trace, llama):
    for row in sft_rows(trace):
        ids = row["completion_ids"]
        head, tail = ids[: row["prefix_tokens"]], ids[row["prefix_tokens"] :]
        assert row["completion"][0]["content"] == llama.decode(head) + llama.decode(tail)
        assert tuple(head) == trace.steps[-1].nearest


def test_dpo_and_grpo_rows(trace):
    sft, dpo, grpo = sft_rows(trace), dpo_rows(trace), grpo_rows(trace)
    assert len(dpo) == len(sft)
    assert {row["rejected"][0]["content"] for row in dpo} == {trace.before[trace.split.rollout].text}
    assert len(grpo) == 1
    assert grpo[0]["rescued_ids"] == [row["completion_ids"] for row in sft]
    assert (grpo[0]["rollouts_before"], grpo[0]["correct_before"]) == (3, 0)


@pytest.mark.parametrize("form", ["sft", "dpo", "grpo", "parquet"])
def test_datasets_loads_every_format_as_it_is(runs, tmp_path, form, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / f"{form}.{'parquet' if form == 'parquet' else 'jsonl'}"
    count = export_runs(runs, form, out)
    loaded = load_dataset(
        "parquet" if form == "parquet" else "json",
        data_files=str(out),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(loaded) == count > 0
    first = loaded[0]
    assert first["prompt"][0] == {"role": "user", "content": "What is 12 + 30?"}
    if form == "sft":
        assert loaded.column_names == list(json.loads(out.read_text().splitlines()[0]))
    card = (tmp_path / f"{form}.card.md").read_text()
    assert "tiny-llama" in card


def test_nothing_to_export_is_said_and_writes_nothing(runs, trace, tmp_path):
    wrong = trace.model_copy(update={"after": ()})
    save_run(wrong, torch.zeros(5, 6, 32), tmp_path / "none" / "a")
    with pytest.raises(UserError, match="nothing to export"):
        export_runs(tmp_path / "none", "sft", tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="no format"):
        export_runs(runs, "csv", tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
