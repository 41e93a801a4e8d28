"""Hunts on a tiny model: what they find, what they leave on disk, and that a kill costs nothing."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from explorer import hunting, verdict
from explorer.errors import UserError
from explorer.export import rescued
from explorer.hunt import (
    Hunt,
    HuntConfig,
    HuntState,
    ProblemResult,
    Revised,
    Tally,
    folder_name,
    mend,
    read_results,
    seed_of,
    tally,
)
from explorer.hunt_table import summarise, words, write_tables
from explorer.hunting import ProgressFile, own_device, share, soft_interrupt
from explorer.pipeline import Run
from explorer.problem_sets import problem_set, usable
from explorer.records import Problem, RevisionConfig, SamplingConfig, Start, Verdict
from explorer.statistics import wilson_interval
from explorer.store import find_runs, load_run
from explorer.views.hunt import table_payload
from tests.conftest import FakeJudge, tiny_network, tiny_tokenizer

PROBLEMS = tuple(
    Problem(id=f"p/{i}", question=f"What is {i} + 3?", answer=str(i + 3), family="ab"[i % 2]) for i in range(5)
)


def config(model, **changes) -> HuntConfig:
    settings = {
        "problems": "some",
        "model": model.info,
        "sampling": SamplingConfig(n=3, max_new_tokens=10, temperature=1.0, seed=4),
        "config": RevisionConfig(steps=2, max_continuation_tokens=6),
        "samples": 2,
        "split": "fraction",
    }
    return HuntConfig(**{**settings, **changes})


def timeless(results) -> list[dict]:
    found = [result.model_dump(mode="json", exclude={"seconds", "at"}) for result in results]
    return sorted(found, key=lambda one: one["problem"])


def hunted(model, out, problems=PROBLEMS, judge=None, rank=0, world=1, cancelled=lambda: False, **changes):
    hunt = Hunt(model, problems, config(model, **changes), out, judge or FakeJudge(), rank, world)
    return list(hunt.run(cancelled)), read_results(out)


def test_every_problem_is_rolled_out_revised_and_continued(llama, tmp_path):
    states, results = hunted(llama, tmp_path / "h", failed=2)
    assert [result.problem for result in results] == [problem.id for problem in PROBLEMS]
    assert (states[0].done, states[0].total, states[-1].done) == (0, 5, 5)
    assert states[0].seconds_left is None
    assert states[-1].seconds_left == 0
    for problem, result in zip(PROBLEMS, results, strict=True):
        assert result.zero_hit
        assert result.before.n == 3
        assert len(result.revised) == 2
        for item in result.revised:
            trace, trajectory = load_run(tmp_path / "h" / item.run)
            assert trace.problem == problem
            assert trace.sampling.seed == result.seed == seed_of(problem.id, 4)
            assert trace.split.rollout == item.rollout
            assert len(trajectory) == 3
            for start in Start:
                mine = [one for one in trace.after if one.start is start]
                assert tally(mine) == item.after[start]
                assert len(mine) == 2
    assert len({item.rollout for item in results[0].revised}) == 2
    assert len(find_runs(tmp_path / "h")) == 10


def test_only_zero_hit_prompts_are_revised_unless_hits_are_asked_for(llama, tmp_path):
    texts = []
    judge = FakeJudge(lambda text: (Verdict.CORRECT, "1") if texts and text == texts[0] else (Verdict.WRONG, "0"))
    _, before = hunted(llama, tmp_path / "probe", failed=0)
    texts.append(load_run(tmp_path / "probe" / folder_name("p/1"))[0].before[2].text)
    _, results = hunted(llama, tmp_path / "h", judge=judge)
    assert [len(result.revised) for result in results] == [1, 0, 1, 1, 1]
    assert (results[1].before.correct, results[1].zero_hit) == (1, False)
    _, results = hunted(llama, tmp_path / "hits", judge=judge, hits=True)
    assert [len(result.revised) for result in results] == [1] * 5
    assert not any(result.revised for result in before)


def test_drawing_on_continues_the_same_rollouts(llama, tmp_path):
    _, results = hunted(llama, tmp_path / "h", failed=0, more=3)
    name = folder_name("p/0")
    first, _ = load_run(tmp_path / "h" / name)
    wider, _ = load_run(tmp_path / "h" / f"{name}--more")
    assert results[0].more.n == len(wider.before) == 9
    assert wider.before[:3] == first.before
    # As many at once would have been the same ones.
    hunted(llama, tmp_path / "w", failed=0, sampling=config(llama).sampling.model_copy(update={"n": 9}))
    assert load_run(tmp_path / "w" / name)[0].before == wider.before


def test_stopping_anywhere_and_going_on_is_not_stopping(llama, tmp_path):
    changes = {"failed": 2, "more": 2}
    states, expected = hunted(llama, tmp_path / "whole", PROBLEMS[:2], **changes)
    for stop in range(1, len(states), 7):
        out = tmp_path / f"stopped-{stop}"
        calls = itertools.count()
        hunted(llama, out, PROBLEMS[:2], cancelled=lambda calls=calls, stop=stop: next(calls) >= stop, **changes)
        _, results = hunted(llama, out, PROBLEMS[:2], **changes)
        assert timeless(results) == timeless(expected)
        assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())


def test_nothing_finished_is_done_twice(llama, tmp_path):
    hunted(llama, tmp_path / "h", PROBLEMS[:2])
    (tmp_path / "h" / "results-0.jsonl").unlink()  # as if killed right before the first line was written
    judge = FakeJudge()
    _, results = hunted(llama, tmp_path / "h", PROBLEMS[:2], judge)
    assert len(results) == 2
    assert judge.seen == []


def test_two_shares_find_what_one_process_finds(llama, tmp_path):
    _, one = hunted(llama, tmp_path / "one")
    hunted(llama, tmp_path / "two", rank=1, world=2)
    _, two = hunted(llama, tmp_path / "two", rank=0, world=2)
    assert timeless(one) == timeless(two)
    assert len((tmp_path / "two" / "results-1.jsonl").read_text().splitlines()) == 2


def test_a_problem_that_does_not_fit_is_a_row_with_its_reason(llama, tmp_path):
    long = Problem(id="long", question="why " * 400, answer="1")
    _, results = hunted(llama, tmp_path / "h", (long, PROBLEMS[0]))
    assert "shorten the question" in results[0].error
    assert not results[0].zero_hit
    assert results[1].revised
    assert summarise(results)[-1].passed_over == 1
    assert any("shorten the question" in line for line in words(results, config(llama)))


def test_a_revision_that_fails_takes_no_problem_out_of_the_counts_of_its_rollouts(llama, tmp_path, monkeypatch):
    plain = Run.split_at

    def refuses(run, *given):
        if run.problem.id == "p/0":
            raise UserError("The gold answer gives no tokens.")
        plain(run, *given)

    monkeypatch.setattr(Run, "split_at", refuses)
    _, results = hunted(llama, tmp_path / "h", PROBLEMS[:2], more=2)
    assert [(one.before.n, one.more.n, len(one.revised), bool(one.error)) for one in results] == [
        (3, 6, 0, True),
        (3, 6, 1, False),
    ]
    assert all(result.zero_hit for result in results)
    total = summarise(results)[-1]
    assert (total.passed_over, total.zero_hit.n, total.hit_by_more.n, total.rescued.n) == (0, 2, 2, 1)
    assert "not revised: p/0: The gold answer gives no tokens." in words(results, config(llama))
    write_tables(tmp_path, results, config(llama))
    row = next(csv.DictReader((tmp_path / "results.csv").open()))
    assert (row["zero_hit"], row["more_n"], row["run"]) == ("1", "6", "")


def test_of_two_failed_rollouts_the_first_stays_revised_where_the_second_can_not_be(llama, tmp_path, monkeypatch):
    plain, cuts = Run.split_at, []

    def refuses(run, *given):
        cuts.append(given)
        if len(cuts) == 2:
            raise UserError("The gradient is not finite.")
        plain(run, *given)

    monkeypatch.setattr(Run, "split_at", refuses)
    _, (result,) = hunted(llama, tmp_path / "h", PROBLEMS[:1], failed=2)
    assert (len(result.revised), result.error) == (1, "The gradient is not finite.")


def test_a_hit_of_a_revision_that_found_no_step_is_no_rescue(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.pipeline.revise", lambda *given: iter(()))
    judge = FakeJudge(lambda text: (Verdict.CORRECT if len(judge.seen) > 3 else Verdict.WRONG, "0"))
    _, (result,) = hunted(llama, tmp_path / "h", PROBLEMS[:1], judge)
    assert (result.zero_hit, result.revised[0].steps) == (True, 0)
    assert all(result.revised[0].after[start].correct == 2 for start in Start)
    assert [result.rescued(start) for start in Start] == [False, False, True]
    assert not rescued(load_run(tmp_path / "h" / result.revised[0].run)[0])
    total = summarise([result])[-1]
    assert (total.rescued.x, total.rescued.n, total.unrevised.x) == (0, 1, 1)


def test_a_judge_that_can_not_start_ends_the_hunt_and_is_no_problems_result(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(verdict.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="could not start"):
        hunted(llama, tmp_path / "h", PROBLEMS[:1], verdict.Judge())
    assert read_results(tmp_path / "h") == []
    _, results = hunted(llama, tmp_path / "h", PROBLEMS[:1])
    assert (results[0].error, results[0].before.n) == ("", 3)


def test_a_torn_line_is_left_out_and_mended(llama, tmp_path):
    hunted(llama, tmp_path / "h", PROBLEMS[:2])
    writer = tmp_path / "h" / "results-0.jsonl"
    whole = writer.read_bytes()
    writer.write_bytes(whole[:-20])
    assert len(read_results(tmp_path / "h")) == 1
    mend(writer)
    assert writer.read_bytes() == whole[: whole.index(b"\n") + 1]
    _, results = hunted(llama, tmp_path / "h", PROBLEMS[:2])
    assert [result.problem for result in results] == ["p/0", "p/1"]


def test_a_mended_problem_is_hunted_anew_and_its_old_result_counts_nowhere(llama, tmp_path):
    out, right = tmp_path / "h", Verdict.CORRECT
    _, before = hunted(llama, out, PROBLEMS[:2], failed=2, more=2)
    assert all(result.zero_hit for result in before)
    mended = (PROBLEMS[0].model_copy(update={"answer": "2003"}), PROBLEMS[1])
    table = hunting.tabled(out, config(llama), mended)[1]
    assert table["families"][-1]["problems"] == 1, "what is not hunted anew yet is no result"
    # By another process of another number of them, whose file is read after and before the old one's.
    judge = FakeJudge(lambda text: (right, "2003"))
    _, after = hunted(llama, out, mended, judge, rank=1, world=3, failed=2, more=2)
    assert [one.at for one in after] == [one.at for one in before], "not its share"
    _, after = hunted(llama, out, mended, judge, failed=2, more=2)
    assert [(one.answer, one.before.correct) for one in after] == [("2003", 3), ("4", 0)]
    (out / "results-0.jsonl").rename(out / "results-9.jsonl")
    lines = (out / "results-9.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results-9.jsonl").write_bytes(b"".join(lines[:-1]))
    (out / "results-0.jsonl").write_bytes(lines[-1])
    assert timeless(read_results(out)) == timeless(after)
    assert hunting.tabled(out, config(llama), mended)[1]["families"][-1]["zero_hit"]["x"] == 1
    # Runs that were judged by the old answer are gone, those of other problems stay.
    assert {load_run(folder)[0].problem.answer for folder in find_runs(out)} == {"2003", "4"}


def test_of_a_mended_row_without_an_id_the_old_runs_are_put_aside(llama, tmp_path):
    """Its id is made of its text, so it has another now."""
    out = tmp_path / "h"
    old, new = (PROBLEMS[0].model_copy(update=new) for new in ({"id": "1"}, {"id": "2", "answer": "2003"}))
    twin = PROBLEMS[0].model_copy(update={"id": "3"})
    hunted(llama, out, (old, PROBLEMS[1]), failed=2)
    hunted(llama, out, (old, PROBLEMS[1], twin), failed=2)
    assert len(find_runs(out)) == 6, "the same question with the same answer is no mending"
    hunted(llama, out, (new, PROBLEMS[1]), failed=2)
    assert {load_run(folder)[0].problem.answer for folder in find_runs(out)} == {"2003", "4"}
    assert len(list(out.glob(".before-*"))) == 4


def test_other_settings_in_the_same_folder_are_refused(llama, tmp_path):
    hunted(llama, tmp_path / "h", PROBLEMS[:1], failed=0)
    changed = config(llama).sampling.model_copy(update={"temperature": 0.5})
    with pytest.raises(UserError, match="another sampling temperature"):
        hunted(llama, tmp_path / "h", PROBLEMS[:1], failed=0, sampling=changed)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="other files"):
        hunted(llama, tmp_path / "other")
    with pytest.raises(UserError, match="is a file"):
        hunted(llama, tmp_path / "other" / "letter.txt")
    assert (tmp_path / "other" / "letter.txt").read_text() == "mine"


def test_another_process_may_put_the_hunts_file_there_any_moment(llama, tmp_path, monkeypatch):
    """It comes after one has looked for it, and is seen among the folder's files."""
    plain = Path.iterdir

    def listed(self):
        if self == tmp_path / "h":
            (self / "hunt.json").write_text(config(llama).model_dump_json())
        return plain(self)

    (tmp_path / "h").mkdir()
    monkeypatch.setattr(Path, "iterdir", listed)
    next(Hunt(llama, PROBLEMS, config(llama), tmp_path / "h", FakeJudge()).run())
    (tmp_path / "h" / "hunt.json").unlink()
    with pytest.raises(UserError, match="another failed"):  # it is compared, too
        next(Hunt(llama, PROBLEMS, config(llama, failed=3), tmp_path / "h", FakeJudge()).run())


def test_the_tables_of_the_process_that_ends_last_stay(llama, tmp_path, monkeypatch):
    """One has read the results; another adds its last one and writes its tables; then the first one writes."""
    plain, writer = read_results, tmp_path / "results-0.jsonl"
    writer.write_text(RESULTS[0].model_dump_json() + "\n")

    def read(out):
        found = plain(out)
        if threading.current_thread() is threading.main_thread():
            with writer.open("a") as lines:
                lines.write(RESULTS[1].model_dump_json() + "\n")
            other.start()
            other.join(1.0)  # as long as the first one has the tables this one waits
        return found

    problems = [Problem(id=one.problem, question=one.question, answer=one.answer) for one in RESULTS]
    other = threading.Thread(target=hunting.tabled, args=(tmp_path, config(llama), problems))
    monkeypatch.setattr(hunting, "read_results", read)
    hunting.tabled(tmp_path, config(llama), problems)
    other.join(60)
    assert [row.split(",")[0] for row in (tmp_path / "results.csv").read_text().splitlines()[1:]] == ["a1", "a2"]
    assert json.loads((tmp_path / "summary.json").read_text())["families"][-1]["problems"] == 2


def test_one_share_one_process(llama, tmp_path):
    hunt = Hunt(llama, PROBLEMS, config(llama), tmp_path / "h", FakeJudge())
    first = hunt.run()
    next(first)
    with pytest.raises(UserError, match="Another process is hunting"):
        next(Hunt(llama, PROBLEMS, config(llama), tmp_path / "h", FakeJudge()).run())
    first.close()
    next(Hunt(llama, PROBLEMS, config(llama), tmp_path / "h", FakeJudge()).run())


# -- counting --------------------------------------------------------------------------------------


def made(name, family, correct, revised=None, more=None, n=4, error=""):
    """A result by hand; `revised` is the number correct from each of the three starts."""
    after = {start: Tally(n=2, correct=c) for start, c in zip(Start, revised or (), strict=False)}
    items = (Revised(run=name, rollout=0, split="fixed", prefix_length=3, after=after),) if revised else ()
    tally_more = None if more is None else Tally(n=8, correct=more)
    return ProblemResult(
        problem=name,
        family=family,
        before=Tally() if error else Tally(n=n, correct=correct),
        revised=items,
        more=tally_more,
        error=error,
    )


RESULTS = (
    made("a1", "a", 0, (2, 0, 0), more=1),
    made("a2", "a", 0, (0, 0, 1), more=0),
    made("a3", "a", 3),
    made("b1", "b", 0, (1, 1, 0), more=0),
    made("b2", "b", 1),
    made("b3", "b", 0, error="too long"),
)


def test_counts_by_hand():
    a, b, both = summarise(RESULTS)
    assert [row.family for row in (a, b, both)] == ["a", "b", "all"]
    assert [(row.problems, row.passed_over) for row in (a, b, both)] == [(3, 0), (3, 1), (6, 1)]

    def counts(row):
        rates = (row.zero_hit, row.rescued, row.projected, row.unrevised, row.hit_by_more)
        return [(one.x, one.n) for one in rates]

    assert counts(a) == [(2, 3), (1, 2), (0, 2), (1, 2), (1, 2)]
    assert counts(b) == [(1, 2), (1, 1), (1, 1), (0, 1), (0, 1)]
    assert counts(both) == [(3, 5), (2, 3), (1, 3), (1, 3), (1, 3)]
    assert (both.zero_hit.low, both.zero_hit.high) == wilson_interval(3, 5)
    assert both.zero_hit.words == "3 of 5 (23–88 %)"


def test_pass_at_k_is_the_mean_over_all_subsets():
    """Against plain counting: of every choice of k of the rollouts, how many hold a correct one."""
    row = summarise(RESULTS)[-1]
    assert set(row.pass_at) == {1, 2, 4}
    for k, value in row.pass_at.items():
        shares = []
        for result in RESULTS[:5]:
            marks = [True] * result.before.correct + [False] * (4 - result.before.correct)
            choices = list(itertools.combinations(marks, k))
            shares.append(sum(map(any, choices)) / len(choices))
        assert value == pytest.approx(sum(shares) / 5)


def test_the_files_say_what_the_table_says(llama, tmp_path):
    (tmp_path / "h").mkdir()
    wicked = made("=cmd()", "b", 0)
    summary = write_tables(tmp_path / "h", [*RESULTS, wicked], config(llama, more=2))
    assert json.loads((tmp_path / "h" / "summary.json").read_text()) == summary
    rows = (tmp_path / "h" / "results.csv").read_text().splitlines()
    assert len(rows) == 8
    assert rows[1].startswith("'=cmd()")  # no formula in a spreadsheet
    assert rows[2].startswith("a1,a,,,4,0,0,0,1,8,1,a1,0,fixed,3,2,2,0,2,0,0,2,0,0")
    text = "\n".join(words(RESULTS, config(llama, more=2)))
    assert "hit at 6" in text
    assert "3 of 5 (23–88 %)" in text


def test_nothing_found_is_a_table_too(llama):
    assert summarise(())[-1].zero_hit.words == "–"
    assert words((), config(llama))


# -- sets and shares -------------------------------------------------------------------------------


def test_sets_by_name(tmp_path):
    bank, bad = problem_set("bank")
    assert len(bank) == 96
    assert not bad
    assert {problem.family for problem in problem_set("sum")[0]} == {"sum"}
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": 2}\n{"question": "?"}\n')
    good, bad = problem_set(str(file))
    assert (len(good), [row.line for row in bad]) == (1, [2])


def test_parquet_and_datasets_columns_may_go_by_other_names(tmp_path):
    import pandas

    rows = [{"problem": "1 + 1?", "solution": 2, "id": 7}, {"problem": "1 + 2?", "solution": None, "id": 8}]
    frame = pandas.DataFrame(rows)
    frame.to_parquet(tmp_path / "set.parquet")
    good, bad = problem_set(str(tmp_path / "set.parquet"))
    assert [(p.id, p.question, p.answer) for p in good] == [("7", "1 + 1?", "2.0")]
    assert [row.line for row in bad] == [2]
    (tmp_path / "local").mkdir()
    frame.head(1).to_parquet(tmp_path / "local" / "train.parquet")
    assert [p.question for p in problem_set(f"datasets:{tmp_path / 'local'}")[0]] == ["1 + 1?"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing-such", "There is no problem set"),
        ("gone.jsonl", "There is no file"),
        ("gone.parquet", "There is no file"),
        ("datasets:/no/such/folder", "could not be loaded"),
        ("reasoning-gym:chain_sum", "is not installed"),
    ],
)
def test_sets_that_are_not_there(name, sentence):
    with pytest.raises(UserError, match=sentence):
        problem_set(name)


@pytest.mark.parametrize(
    ("changes", "revision", "said"),
    [
        ({}, {}, "split fraction, K 2, γ 0.05, λ 0.3, 6 failed tokens scored, 2 continuations from each start"),
        ({"prefix_length": 7}, {"step_rule": "harmonic"}, "prefix of 7 tokens, K 2, γ 2/(k+2), λ 0.3"),
        ({}, {"step_rule": "line-search", "step_size": 0.5}, "γ by line search up to 0.5"),
        ({}, {"hull": "plausible", "hull_size": 9}, "λ 0.3, hull plausible of 9,"),
        ({}, {"hull": "like-norm", "ban_answer_tokens": True}, "hull like-norm, the answer's tokens banned,"),
        ({}, {"toward_weight": 0, "connector": "\nSo "}, "toward weight 0, connector '\\nSo ',"),
        ({}, {"projection": "cosine", "gap_tolerance": 0.5}, "projection by cosine, 6 failed tokens scored, ended at"),
        ({"failed": 0, "engine": "batch"}, {}, "seed 4, engine batch; nothing revised"),
    ],
)
def test_the_tables_settings_are_those_that_ran(llama, changes, revision, said):
    plain = config(llama).config.model_dump(mode="json")
    asked = config(llama, **changes, config=RevisionConfig(**{**plain, **revision}))
    assert said in words(RESULTS, asked)[0]
    shown = table_payload("h", RESULTS, asked)["settings"]
    assert all(part.replace("γ ", "γ = ") in shown for part in said.split(", ") if part.startswith(("γ", "hull")))


def test_lists_and_gaps_in_a_table_are_rows_that_can_not_be_used(tmp_path):
    table = pyarrow.table(
        {
            "question": ["1 + 1?", "2 + 2?", None, "3 + 3?"],
            "answer": [["2"], ["4", "four"], ["0"], None],
            "id": [0, 1, None, 3],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "lists.parquet")
    with pytest.raises(UserError, match="row 1: it has no answer"):
        problem_set(str(tmp_path / "lists.parquet"))
    table = table.set_column(1, "answer", pyarrow.array([2.0, float("nan"), 3.0, 6.0]))
    pyarrow.parquet.write_table(table, tmp_path / "gaps.parquet")
    found, bad = problem_set(str(tmp_path / "gaps.parquet"))
    assert [(one.id, one.answer) for one in found] == [("0", "2.0"), ("3", "6.0")]
    assert [(row.line, row.why) for row in bad] == [(2, "it has no answer"), (3, "it has no question")]


def test_the_id_0_is_an_id(tmp_path):
    file = tmp_path / "zero.jsonl"
    file.write_text("".join(json.dumps({"id": 0, "question": f"{n} + 1?", "answer": n + 1}) + "\n" for n in (1, 2)))
    found = problem_set(str(file))
    assert (found[1][0].same_id, found[1][0].why) == (True, "the id “0” stands in line 1 already")
    with pytest.raises(UserError, match="whose id another row has already"):
        usable(str(file), found, skip_bad=True)


ROWS = '{"question": "1 + 1?", "answer": 2, "id": "a"}\n{"question": "?"}\nno json\n'


def test_bad_rows_are_refused_with_their_lines_and_left_out_only_if_asked(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(ROWS)
    found = problem_set(str(file))
    with pytest.raises(UserError, match=r"2 rows .*line 2: it has no answer; line 3: .*--skip-bad"):
        usable(str(file), found, skip_bad=False)
    assert [problem.id for problem in usable(str(file), found, skip_bad=True)] == ["a"]
    file.write_text('{"question": "1 + 1?", "answer": 2}\n')
    assert len(usable(str(file), problem_set(str(file)), skip_bad=False)) == 1


def test_two_rows_of_one_id_are_always_refused(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(ROWS + '{"question": "1 + 2?", "answer": 3, "id": "a"}\n')
    for skip in (False, True):
        with pytest.raises(UserError, match="line 4: the id “a” stands in line 1 already"):
            usable(str(file), problem_set(str(file)), skip_bad=skip)
    # The very same problem twice, without ids, is merely one too many.
    file.write_text('{"question": "1 + 1?", "answer": 2}\n' * 2)
    assert len(usable(str(file), problem_set(str(file)), skip_bad=True)) == 1


def test_columns_that_are_missing_are_named(tmp_path):
    import pandas

    pandas.DataFrame([{"question": "1?"}]).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(UserError, match="no column “answer”"):
        problem_set(str(tmp_path / "set.parquet"))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="can't be read as Parquet"):
        problem_set(str(tmp_path / "torn.parquet"))


def test_shares_are_read_from_the_launchers_environment():
    assert share({}) == (0, 1, 0)
    assert share({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == (3, 4, 1)
    with pytest.raises(UserError, match="not below"):
        share({"RANK": "4", "WORLD_SIZE": "4"})
    with pytest.raises(UserError, match="numbers"):
        share({"RANK": "x"})
    assert own_device("cpu", 1, 2) == "cpu"
    assert own_device(None, 0, 1) is None


# -- the verb, in processes of its own -------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model on disk, and a file of problems."""
    path = tmp_path_factory.mktemp("hunt")
    tokenizer = tiny_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(path / "tiny")
    tokenizer.save_pretrained(path / "tiny")
    rows = [{"id": f"p{i}", "question": f"What is {i} + 3?", "answer": i + 3} for i in range(16)]
    (path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


def command(folder, out, *more):
    asked = ["--problems", folder / "set.jsonl", "--model", folder / "tiny", "--out", out, "--rollouts", 2]
    asked += ["--max-new-tokens", 12, "--steps", 3, "--split", "fraction", "--failed-tokens", 8, "--json", *more]
    return [sys.executable, "-m", "explorer", "hunt", *map(str, asked)]


def started(folder, out, *more, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        command(folder, out, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parent.parent,
    )


def test_a_killed_hunt_goes_on_and_two_processes_find_the_same(folder, tmp_path):
    whole = started(folder, tmp_path / "whole")
    killed = started(folder, tmp_path / "killed")
    writer = tmp_path / "killed" / "results-0.jsonl"
    deadline = time.monotonic() + 120
    while not (writer.exists() and writer.read_bytes().count(b"\n") >= 2):
        assert killed.poll() is None, killed.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = len(read_results(tmp_path / "killed"))
    out, error = whole.communicate(timeout=300)
    assert whole.returncode == 0, error
    assert json.loads(out.splitlines()[-1])["families"][-1]["problems"] == 16
    pair = [started(folder, tmp_path / "two", RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    again = started(folder, tmp_path / "killed")
    for process in (*pair, again):
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    expected = timeless(read_results(tmp_path / "whole"))
    assert len(expected) == 16
    assert done < 16, "it was killed too late to show anything"
    assert timeless(read_results(tmp_path / "killed")) == expected
    assert timeless(read_results(tmp_path / "two")) == expected
    runs = [load_run(path, with_trajectory=False)[0] for path in find_runs(tmp_path / "killed")]
    assert sum(map(len, map(rescued, runs))) == sum(
        item["after"][start]["correct"]
        for one in expected
        for item in one["revised"]
        for start in ("revised", "projected")
    )


def progress(out: Path, rank: int = 0) -> dict:
    """What the process of a hunt last wrote down; {} before it did."""
    try:
        return json.loads((out / f"progress-{rank}.json").read_bytes())
    except FileNotFoundError:
        return {}


def waited_for(holds, process, patience_s=120):
    deadline = time.monotonic() + patience_s
    while not holds():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_interrupted_hunt_stops_at_the_next_step_and_goes_on(folder, tmp_path):
    out = tmp_path / "h"
    process = started(folder, out)
    waited_for(lambda: progress(out).get("done", 0) >= 1, process)
    assert progress(out)["pid"] == process.pid
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "everything finished is kept" in error
    known, kept = progress(out), read_results(out)
    assert (known["state"], known["done"], known["total"]) == ("stopped", len(kept), 16)
    assert 1 <= len(kept) < 16
    assert (out / "results.csv").read_text().count("\n") == len(kept) + 1
    again = started(folder, out)
    _, error = again.communicate(timeout=300)
    assert again.returncode == 0, error
    assert (progress(out)["state"], progress(out)["done"]) == ("done", 16)
    assert timeless(read_results(out))[: len(kept)] == timeless(kept)


def test_progress_is_written_a_few_times_a_second_and_for_every_problem(tmp_path):
    told = ProgressFile(tmp_path, 3)
    seen = []
    for done in range(50):
        told.tell(HuntState(done, 50, "p", "rollouts"))
        seen.append(progress(tmp_path, 3)["done"])
    assert len(set(seen)) < 25, "not for every token"
    told.tell(HuntState(50, 50, "p", "done", finished=ProblemResult(problem="p"), seconds_left=12.0))
    assert progress(tmp_path, 3) | {"at": 0} == {
        "schema_version": 1,
        "pid": os.getpid(),
        "rank": 3,
        "state": "running",
        "done": 50,
        "total": 50,
        "problem": "p",
        "stage": "done",
        "seconds_left": pytest.approx(12.0, abs=1.0),
        "at": 0,
    }


def test_the_first_interrupt_asks_and_the_second_one_ends():
    with soft_interrupt() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--problems", "gone.jsonl"), "There is no file gone.jsonl"),
        (("--split", "nowhere"), "There is no split"),
        (("--limit", "0"), "--limit must be"),
        (("--rollouts", "1000", "--more", "2"), "lower one of them"),
        (("--failed", "-1"), "--failed can't be -1"),
        (("--step-size", "2"), "--step-size can't be"),
    ],
)
def test_bad_input_is_one_sentence(folder, tmp_path, more, sentence, capsys):
    from explorer.cli import app, run_command

    arguments = command(folder, tmp_path / "h", *more)[3:]
    assert run_command(lambda: app(args=arguments, standalone_mode=False)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not (tmp_path / "h").exists()
