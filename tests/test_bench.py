"""The benchmark on a tiny model: every row is there, ratios are what they say, and the plain reference, which shares no
code with ours, finds the same numbers."""

from __future__ import annotations

import json
import re

import pytest
import torch

from explorer import bench, bench_case, bench_process, bench_rows, bench_training, cli
from explorer.bench_case import Bench, Growth, Row, Sizes
from explorer.bench_reference import PlainReference, until_end
from explorer.errors import UserError
from explorer.settings import read_settings
from tests.conftest import tiny_model, tiny_network, tiny_tokenizer
from tests.tiny_training import saved_model, saved_runs

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
TINY = Sizes(
    repeats=2,
    batches=2,
    prefix=6,
    continuation=8,
    new_tokens=6,
    rollouts=3,
    prompts=5,
    answer_tokens=6,
    every=2,
    memory_shape=SHAPE,
    memory_prefix=12,
    starts=2,
    loop={"rollouts": 2, "new_tokens": 6, "steps": 1},
    prefixes=(4, 8, 9_999),
    vocabularies=(64, 128),
    rows_of_sampling=(1, 3),
    lengths=(16, 9_999),
    matmul=64,
    read_bytes=400_000,
)
NAMES = [
    "step",
    "step-batch8",
    "sample-1",
    "sample-16",
    "sample-1-soft",
    "problem-set",
    "problem-set-batch",
    "memory-152k",
    "start",
    "map",
    "peak-memory",
    "train-sft-first",
    "train-sft-whole",
    "train-sft-memory",
    "train-grpo",
    "growth-prefix",
    "growth-vocabulary",
    "growth-rollouts",
    "growth-length",
]
OWN_PROCESS = {"own": 4_000_000, "bare": 0, "loaded": 5_000_000, "added": 1_000_000, "exact": True, "seconds": 0.1}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, family):
    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tiny_tokenizer()
    tiny_network(family, len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def processes_answer(patch, **loop) -> list[tuple]:
    """No child is started: what they would say is given, what they were asked is kept."""
    asked = []

    def answer(arguments, limit_s=0.0):
        asked.append((arguments[0], json.loads(arguments[1])))
        found = {"peak": 2_000_000_000, "loaded": 1_000_000_000, "problem": "sum-01", "continuations": 6, **loop}
        return OWN_PROCESS if arguments[0] == "memory" else found

    starts = iter((9.0, 2.0, 4.0, 2.0, 4.0))
    patch.setattr(bench_process, "answer_of", answer)
    patch.setattr(bench_process, "page_start_s", lambda: next(starts))

    def trained(bench, method, *options):
        asked.append((method, options))
        slow = 3.0 if "trl" in options else 1.0
        return bench_training.Trained(9.0, 120.0, (2.0 * slow, 4.0 * slow, 6.0 * slow), 4_000_000_000)

    patch.setattr(bench_training, "trained", trained)
    return asked


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of every row: results, what was told, the file."""
    told, out = [], tmp_path_factory.mktemp("out") / "deep" / "bench.json"
    with pytest.MonkeyPatch.context() as patch:
        asked = processes_answer(patch)
        results = bench.run(read_settings(model=folder, device="cpu"), out=out, tell=told.append, sizes=TINY)
    return results, told, out, asked


def by_name(results) -> dict[str, Row | Growth]:
    return {row.name: row for row in (*results.rows, *results.growth)}


def test_every_row_is_there_and_none_failed(whole):
    results, told, _, _ = whole
    assert list(by_name(results)) == NAMES == [one.name for one in bench.MEASUREMENTS]
    assert [row.error for row in by_name(results).values()] == [""] * len(NAMES)
    assert [line for line in told if re.match(r"\d+ of 19: ", line)] == [
        f"{number} of 19: {one.name}, {one.what}" for number, one in enumerate(bench.MEASUREMENTS, 1)
    ]


def test_rows_of_training_are_by_the_clock_of_their_process(whole):
    rows = by_name(whole[0])
    assert [rows[f"train-sft-{which}"].ours for which in ("first", "whole", "memory")] == [9.0, 120.0, 4.0]
    assert [rows[f"train-sft-{which}"].met for which in ("first", "whole", "memory")] == [True] * 3
    few = Bench(read_settings(), Sizes(sft_updates=2, sft_batch=4))
    vars(few)["sft"] = bench_training.Trained(9.0, 120.0, (), 4_000_000_000)
    assert [bench_training.sft(few, Row("x"), which).met for which in ("first", "whole", "memory")] == [
        True,
        None,
        None,
    ]
    vars(few)["sft"] = UserError("The training failed.")
    with pytest.raises(UserError, match="The training failed"):
        bench_training.sft(few, Row("x"), "whole")
    assert (rows["train-grpo"].ours, rows["train-grpo"].reference, rows["train-grpo"].ratio) == (4.0, 12.0, 3.0)
    asked = [entry for entry in whole[3] if entry[0] in ("sft", "grpo")]
    assert [method for method, _ in asked] == ["sft", "grpo", "grpo"], "one training for all three figures"
    groups = [[str(one) for one in options] for _, options in asked[1:]]
    assert [one for one in groups[0] if one != "fast"] == [one for one in groups[1] if one != "trl"], "asked alike"


def test_a_training_is_timed_for_real(tmp_path, monkeypatch):
    from explorer.hunt import HuntConfig
    from explorer.records import RevisionConfig, SamplingConfig
    from explorer.training.claim_archive import pack_hunt

    tiny = saved_model(tmp_path / "tiny")
    traces = saved_runs(tiny, tmp_path / "hunt")
    config = HuntConfig(problems="p", model=traces[0].model, sampling=SamplingConfig(), config=RevisionConfig())
    (tmp_path / "hunt" / "hunt.json").write_text(config.model_dump_json())
    pack_hunt(tmp_path / "hunt", tmp_path / "packed.tar.xz")
    monkeypatch.setattr(bench_training, "TRACES", tmp_path / "packed.tar.xz")
    bench_ = Bench(read_settings(model=str(tiny), device="cpu"), TINY)
    with pytest.raises(UserError, match="without --model"):
        bench_training.trained(bench_, "sft")
    monkeypatch.setattr(bench_training, "WHEEL_MODEL", str(tiny))
    found = bench_training.trained(
        bench_, "sft", "--traces", "both", "--updates", 3, "--batch", 2, "--held-out-count", 0
    )
    assert 0 < found.first_s < found.whole_s
    assert len(found.updates_s) == 2
    assert sum(found.updates_s) < found.whole_s
    assert 1e8 < found.peak_bytes < 2e9, "its own, whatever the process that started it held"
    with pytest.raises(UserError, match=r"The training failed: error: .*updates"):
        bench_training.trained(bench_, "sft", "--updates", 0)


def test_the_reference_finds_the_same_numbers(whole):
    rows = by_name(whole[0])
    checks = rows["step"].checks
    assert checks["agrees"] is True
    assert max(checks[f"{name}_error"] for name in ("toward", "away", "point")) < 1e-4
    assert max(checks[f"{name}_gradient_error"] for name in ("toward", "away")) < 1e-4
    assert checks["same_vertices"] is True
    assert rows["step-batch8"].checks["same_vertices"] is True
    assert rows["step-batch8"].checks["point_error"] < 1e-4
    assert rows["sample-1"].checks == {"same_tokens": True, "tokens_alike": TINY.new_tokens}
    assert rows["sample-1-soft"].checks == {"same_tokens": True, "tokens_alike": TINY.new_tokens}


def test_ratios_are_the_references_time_over_ours(whole):
    for row in whole[0].rows[:7]:
        assert row.ratio == pytest.approx(row.reference / row.ours)
        assert row.ours > 0
        if not row.name.startswith("problem-set"):
            assert row.best_ours <= row.ours
            assert row.best_reference <= row.reference
    assert "every 2th prompt" in by_name(whole[0])["problem-set"].note


def test_ours_and_the_reference_take_turns(monkeypatch):
    """A clock that only the calls move: the times are theirs, in this order, the first of each not counted."""
    now, order = [0.0], []
    monkeypatch.setattr(bench_case.time, "perf_counter", lambda: now[0])

    def call(name, seconds, units):
        def made():
            order.append(name)
            now[0] += seconds
            return units

        return made

    bench_ = Bench(read_settings(), TINY)
    ours, reference = bench_.interleaved(call("ours", 2.0, 4), call("reference", 3.0, 2), 3)
    assert order == ["ours", "reference"] * 4
    assert (ours, reference) == ([0.5] * 3, [1.5] * 3)
    row = bench_rows.timed(Row("x"), "ms", 1e3, [1.0, 2.0, 9.0], [4.0, 3.0, 20.0])
    assert (row.ours, row.reference, row.ratio, row.best_ours, row.best_reference) == (2e3, 4e3, 2.0, 1e3, 3e3)


def test_limits_are_shares_of_what_the_machine_reached(whole):
    rows = by_name(whole[0])
    assert {name for name, row in rows.items() if getattr(row, "limit", None)} == set(NAMES[:7])
    for name in NAMES[:7]:
        limit = rows[name].limit
        assert limit.share == pytest.approx(limit.reached / limit.best)
        assert limit.reached > 0
    step, reference = rows["step"], PlainReference(tiny_network("llama", 320))
    assert step.limit.what == "matrix products"
    assert rows["sample-1"].limit.what == "memory reads"
    # By hand: two layers of query, key, value, output and three MLP matrices; a head of 320 × 32.
    assert reference.linear_weights() == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert reference.head_weights() == 320 * 32


def test_targets_are_met_or_missed(whole):
    rows, asked = by_name(whole[0]), dict(whole[3])
    for name, least in zip(NAMES[:6], (3.0, 2.0, 1.3, 1.5, 1.3, 3.0), strict=True):
        assert rows[name].target.startswith(f"≥ {least:g}×")
        assert rows[name].met == (rows[name].ratio >= least)
    assert (rows["memory-152k"].ratio, rows["memory-152k"].met) == (0.5, True)
    assert rows["memory-152k"].checks["copies_over_own"] == rows["memory-152k"].checks["step_over_own"] == 0.25
    assert (rows["start"].ours, rows["start"].met) == (3.0, True)  # the first start only warms the files
    assert rows["start"].target == "≤ 5, better ≤ 3"
    assert (rows["peak-memory"].ours, rows["peak-memory"].met) == (2.0, True)
    assert rows["map"].met is True
    assert asked["memory"] == {"shape": SHAPE, "prefix": 12, "continuation": 8}
    assert asked["loop"]["sizes"] == {"rollouts": 2, "new_tokens": 6, "steps": 1}
    assert bench_rows.against(Row("x"), "s", [6.0], 5.0).met is False


def test_growth_tables_leave_out_what_the_context_does_not_hold(whole):
    rows = by_name(whole[0])
    assert [row[0] for row in rows["growth-prefix"].rows] == [4, 8]
    assert [row[0] for row in rows["growth-vocabulary"].rows] == [64, 128]
    assert [row[0] for row in rows["growth-rollouts"].rows] == [1, 3]
    assert [row[0] for row in rows["growth-length"].rows] == [16]
    for name in NAMES[15:]:
        assert all(len(row) == len(rows[name].columns) and row[1] > 0 for row in rows[name].rows)


def test_the_file_holds_everything_and_nothing_of_the_machine(whole, folder):
    results, _, out, _ = whole
    text = out.read_text(encoding="utf-8")
    found = json.loads(text)
    assert found == json.loads(json.dumps(results.plain()))
    assert [row["name"] for row in found["rows"] + found["growth"]] == NAMES
    assert found["rows"][0]["limit"]["share"] == pytest.approx(results.rows[0].limit.share)
    assert found["machine"]["model"] == "tiny"
    assert found["machine"]["dtype"] == "float32"
    assert {"processor", "cores", "torch", "device", "date"} <= set(found["machine"])
    assert folder not in text
    assert not [value for value in found["machine"].values() if str(value).startswith("/")]


def test_table_and_markdown_have_every_row(whole):
    results = whole[0]
    text, marked = bench.table(results), bench.markdown(results)
    for name in NAMES:
        assert re.search(rf"^{name}\b", text, re.MULTILINE)
        assert f"`{name}`" in marked
    first = marked.split("\n\n")[1].splitlines()
    assert len(first) == 17
    assert {line.count("|") for line in first} == {9}
    assert "≤ 5, better ≤ 3 (met)" in marked
    assert "llama" not in text


def test_a_busy_machine_is_said_beside_the_figures(whole):
    results = whole[0]
    about = results.machine
    busy, quiet = (bench.Results({**about, "load_before": load}, rows=results.rows) for load in (2.0, 0.0))
    assert "others were at work (load 2.0)" in bench.markdown(busy)
    assert "others were at work" not in bench.markdown(quiet)
    assert bench.with_best(2.0, 1.5) == "2 (1.5)"
    assert bench.with_best(2.0, 2.0) == bench.with_best(2.0, None) == "2"


def test_the_model_gets_its_end_tokens_back(llama):
    ends = llama.end_ids
    with bench_case.ends_known(llama, False):
        assert llama.end_ids == frozenset()
    assert llama.end_ids == ends
    with pytest.raises(UserError), bench_case.ends_known(llama, False):
        raise UserError("stop")
    assert llama.end_ids == ends
    assert until_end([5, 6, 2, 7], {2}) == [5, 6]


def test_the_reference_stands_alone():
    """Its layers are torch's own, also after ours were swapped."""
    ours = tiny_model("llama")
    reference = PlainReference(tiny_network("llama", ours.info.vocab_size))
    kinds = {type(layer).__name__ for layer in reference.network.modules()}
    assert "Linear" in kinds
    assert "FastLinear" not in kinds
    ids = ours.prompt("What is 12 + 30?").token_ids
    rows = reference.generate(ids, n=3, new_tokens=5, temperature=0.8, top_p=0.95)
    assert [len(row) for row in rows] == [5, 5, 5]


def test_a_failing_row_is_a_sentence_and_the_others_go_on(folder, monkeypatch):
    def broken(bench, row):
        raise OSError("no room in /some/where/deep: sorry")

    failing = bench.Measurement("map", "reading the vocabulary map", broken, needs_model=False)
    kept = [failing if one.name == "map" else one for one in bench.MEASUREMENTS]
    monkeypatch.setattr(bench, "MEASUREMENTS", kept)
    results = bench.run(read_settings(model="/no/such/model"), ["growth-vocabulary", "map"], sizes=TINY)
    rows = by_name(results)
    assert rows["map"].error == "OSError: no room in …: sorry"
    assert rows["growth-vocabulary"].rows
    assert "failed" in bench.table(results)
    assert "no room in" in bench.table(results)


def run_verb(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *arguments])
    return ended.value.code


def test_the_verb_prints_a_table_or_one_line(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert run_verb("--only", "map", "--json", "--quick", "--out", str(out)) == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    last = json.loads(line)
    assert last == json.loads(out.read_text(encoding="utf-8"))
    assert [row["name"] for row in last["rows"]] == ["map"]
    assert last["rows"][0]["met"] is True
    assert last["quick"] is True
    assert "1 of 1: map" in printed.err
    assert run_verb("--only", "map", "--quick") == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:3] == ["row", "what", "ours"]


def test_an_unknown_row_is_one_sentence(capsys):
    assert run_verb("--only", "map", "--only", "speed") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: There is no row 'speed': use step, ")
    assert error.count("\n") == 0


def test_what_the_bench_can_not_have_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_verb("--only", "map", "--out", str(tmp_path / "file" / "bench.json")) == 2
    assert "can't be written" in capsys.readouterr().err
    assert run_verb("--only", "step", "--model", str(tmp_path / "none")) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_an_interruption_keeps_what_was_measured(tmp_path, capsys, monkeypatch):
    def interrupted(bench, row):
        raise KeyboardInterrupt

    stops = bench.Measurement("start", "from the command to the page", interrupted, needs_model=False)
    kept = [bench.MEASUREMENTS[NAMES.index("map")], stops, bench.MEASUREMENTS[NAMES.index("growth-vocabulary")]]
    monkeypatch.setattr(bench, "MEASUREMENTS", kept)
    out = tmp_path / "bench.json"
    assert run_verb("--out", str(out)) == 130
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [row["name"] for row in found["rows"]] == ["map"]
    assert found["growth"] == []
    assert found["interrupted"] is True
    assert "map" in capsys.readouterr().out


def test_memory_of_a_step_is_measured_in_a_process_of_its_own():
    found = bench_process.answer_of(
        ["memory", json.dumps({"shape": {**SHAPE, "vocab_size": 20_000}, "prefix": 64, "continuation": 8})]
    )
    assert found["own"] >= 20_000 * 32 * 4
    assert 0 < found["added"] < found["loaded"]
    assert found["loaded"] > found["bare"] > 0


def test_what_a_process_dies_of_is_passed_on():
    with pytest.raises(UserError, match="shape"):
        bench_process.answer_of(["memory", "{}"])


def test_bfloat16_reports_errors_and_makes_no_claim(folder):
    bench_ = Bench(read_settings(model=folder, device="cpu", dtype="bfloat16"), TINY)
    row = bench_rows.step(bench_, Row("step"))
    assert bench_.reference.dtype == torch.bfloat16
    assert "agrees" not in row.checks
    assert row.checks["toward_error"] < 0.1
