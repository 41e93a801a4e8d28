"""Exports load with datasets as they are, and hold exactly the verified rescues."""

from __future__ import annotations

import json

import pytest
import torch

from explorer.cli import app, run_command
from explorer.errors import UserError
from explorer.export import dpo_rows, export_runs, grpo_rows, rescued, sft_rows
from explorer.records import Start, Verdict
from explorer.store import save_run
from explorer.training.request import Traces
from explorer.training.traces import TraceFilter, candidates, choose
from explorer.verdict import Judge
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


def test_of_two_runs_of_one_prompt_nothing_stands_twice(trace, runs, tmp_path):
    kept = next(item for item in rescued(trace))
    ids = (*kept.token_ids[:-1], 7)
    other = kept.model_copy(update={"token_ids": ids, "text": kept.text + "!"})
    save_run(trace.model_copy(update={"after": (kept, other)}), torch.zeros(5, 6, 32), runs / "b")
    alone = sft_rows(trace)
    out = tmp_path / "rows.jsonl"
    for form, count in (("sft", len(alone) + 1), ("dpo", len(alone) + 1), ("grpo", 1)):
        assert export_runs(runs, form, out)[0] == count
    row = json.loads(out.read_text())
    assert row["rescued_ids"] == [*(one["completion_ids"] for one in alone), list(kept.prefix_token_ids + ids)]
    assert (row["rollouts_before"], row["correct_before"]) == (3, 0)


@pytest.mark.parametrize("form", ["sft", "dpo", "grpo", "parquet"])
def test_datasets_loads_every_format_as_it_is(runs, tmp_path, form, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / f"{form}.{'parquet' if form == 'parquet' else 'jsonl'}"
    count, left_out = export_runs(runs, form, out)
    assert left_out == 0
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


def test_a_rescue_that_is_wrong_as_one_text_is_left_out_and_counted(trace, tmp_path, capsys):
    """By the judge itself: what goes out is correct also as what it is, one text."""
    told = [  # prefix, continuation, right as a whole
        ("The answer is 41. ", "No, it is 42 apples.", False),
        ("The answer is 42. ", "So it is 42 apples.", True),
        ("12 + 30 = 4", "2.", True),
        ("He adds 12 and 30. ", "The answer is 42.", True),
    ]
    base = next(item for item in rescued(trace) if item.start is Start.REVISED)
    after = tuple(
        base.model_copy(update={"prefix_text": prefix, "text": text, "token_ids": (place, 5)})
        for place, (prefix, text, _) in enumerate(told)
    )
    one = trace.model_copy(update={"after": after})
    assert one.problem.answer == "42"
    with Judge() as judge:
        for prefix, text, right in told:
            assert (judge.judge("42", prefix + text).verdict is Verdict.CORRECT) is right
    kept = [row["completion"][0]["content"] for row in sft_rows(one)]
    assert kept == [prefix + text for prefix, text, right in told if right]
    found = candidates(one)
    chosen = choose(found, Traces.RESCUED, TraceFilter())
    assert [item.text for item in chosen.traces] == kept
    assert chosen.left_out == {"its prefix answers otherwise": 1}
    save_run(one, torch.zeros(5, 6, 32), tmp_path / "runs" / "a")
    asked = ["export", str(tmp_path / "runs"), "--out", str(tmp_path / "x")]
    assert run_command(lambda: app(args=asked, standalone_mode=False)) == 0
    assert "3 row(s) written; 1 rescue(s) left out" in capsys.readouterr().out
    assert "1 more are left out" in (tmp_path / "x.card.md").read_text()
    save_run(one.model_copy(update={"after": after[:1]}), torch.zeros(5, 6, 32), tmp_path / "none" / "a")
    with pytest.raises(UserError, match="No rescue that is right as a whole, of 1, in 1 run"):
        export_runs(tmp_path / "none", "dpo", tmp_path / "y")


def test_nothing_to_export_is_said_and_writes_nothing(runs, trace, tmp_path):
    wrong = trace.model_copy(update={"after": ()})
    save_run(wrong, torch.zeros(5, 6, 32), tmp_path / "none" / "a")
    with pytest.raises(UserError, match="nothing to export"):
        export_runs(tmp_path / "none", "sft", tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="no format"):
        export_runs(runs, "csv", tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
