"""Evaluation: figures against plain counts, two models compared problem by problem, going on, bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from explorer.cli import app, run_command
from explorer.errors import UserError
from explorer.hunt import folder_name
from explorer.model import LanguageModel
from explorer.statistics import is_degenerate, wilson_interval
from explorer.store import load_run
from explorer.training import evaluate
from explorer.training.evaluate import bootstrap, compare, mean_rate, points, pooled, read_evaluation, unrelated
from explorer.training.folder import QUESTIONS_FILE, TRAINING_FILE
from tests.tiny_training import saved_model


def verb(*arguments: object) -> int:
    return run_command(lambda: app(args=[str(one) for one in arguments], standalone_mode=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate")
    saved_model(path / "tiny")
    rows = [{"id": f"p{i}", "question": f"What is {i} + 3?", "answer": i + 3} for i in range(4)]
    (path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


def asked(place, out, *more) -> list:
    given = ["evaluate", "--problems", place / "set.jsonl", "--model", place / "tiny", "--out", out]
    return [*given, "--rollouts", 4, "--max-new-tokens", 12, *more]


def test_figures_are_the_plain_counts(place, tmp_path, capsys):
    out = tmp_path / "e"
    assert verb(*asked(place, out)) == 0
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-1] == str(out)
    found = read_evaluation(out)
    rollouts = [item for i in range(4) for item in load_run(out / folder_name(f"p{i}"))[0].before]
    correct = sum(item.verdict.value == "correct" for item in rollouts)
    assert (found.rollouts.x, found.rollouts.n) == (correct, 16)
    assert found.pass_at[1].value == pytest.approx(correct / 16)
    assert found.tokens == pytest.approx(sum(len(item.token_ids) for item in rollouts) / 16, abs=0.01)
    assert found.cut_off.x == sum(item.finish.value == "length" for item in rollouts)
    assert found.loops.x == sum(is_degenerate(item.token_ids) for item in rollouts)
    cut = [sum(r.finish.value == "length" for r in load_run(out / folder_name(f"p{i}"))[0].before) for i in range(4)]
    over_problems = mean_rate([count / 4 for count in cut])
    assert (found.cut_off.low, found.cut_off.high) == (over_problems.low, over_problems.high)
    assert (found.hit.low, found.hit.high) == wilson_interval(found.hit.x, 4)
    assert set(found.correct) == {"p0", "p1", "p2", "p3"}
    assert set(found.pass_at) == {1, 2, 4}
    # The same again costs nothing and says the same; against itself nothing differs.
    assert verb(*asked(place, tmp_path / "again", "--against", out, "--json")) == 0
    against = json.loads(capsys.readouterr().out)["against"]
    assert (against["better"], against["worse"], against["p"]) == (0, 0, 1.0)
    assert against["difference"]["value"] == 0
    assert against["difference"]["low"] < 0 < against["difference"]["high"], "four problems prove no equality"


def test_a_mended_answer_is_judged_anew(place, tmp_path):
    rows = [{"id": f"p{i}", "question": f"What is {i} + 3?", "answer": 900 + i} for i in range(2)]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = asked(place, tmp_path / "e", "--problems", tmp_path / "set.jsonl")
    assert verb(*given) == 0
    assert read_evaluation(tmp_path / "e").correct == {"p0": 0, "p1": 0}
    said = [item.answer for item in load_run(tmp_path / "e" / folder_name("p0"))[0].before if item.answer]
    rows[0]["answer"] = said[0] if said else "901"
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert verb(*given) == 0
    assert read_evaluation(tmp_path / "e").correct == {"p0": said.count(said[0]) if said else 0, "p1": 0}
    assert load_run(tmp_path / "e" / folder_name("p0"))[0].problem.answer == str(rows[0]["answer"])


def test_of_another_question_nothing_is_compared(place, tmp_path, capsys):
    assert verb(*asked(place, tmp_path / "before")) == 0
    rows = [json.loads(line) for line in (place / "set.jsonl").read_text().splitlines()]
    rows[1]["question"] = "What is 1 + 30?"
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ["--problems", tmp_path / "set.jsonl", "--against", tmp_path / "before"]
    assert verb(*asked(place, tmp_path / "after", *given)) == 0
    assert "left out: 1 whose question was another there" in capsys.readouterr().out
    against = read_evaluation(tmp_path / "after").against
    assert (against.problems, against.mended) == (3, 1)
    rows = [{**row, "question": f"What is {i} + 50?"} for i, row in enumerate(rows)]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert verb(*asked(place, tmp_path / "other", *given)) == 2
    assert "different problems" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_a_model_was_trained_on_stands_apart(place, tmp_path, capsys):
    trained = tmp_path / "trained"
    shutil.copytree(place / "tiny", trained / "model")
    (trained / TRAINING_FILE).write_text("{}")
    (trained / QUESTIONS_FILE).write_text(json.dumps(["What is 0 + 3?", "What is 3 + 3?", "What is 8 + 8?"]))
    assert verb(*asked(place, tmp_path / "e", "--model", trained / "model")) == 0
    assert "it was trained on 2 of these problems; the 2 others alone: pass@1 " in capsys.readouterr().out
    found = read_evaluation(tmp_path / "e")
    assert found.trained_on == 2
    right = [found.correct["p1"], found.correct["p2"]]
    assert found.unseen_at[1].value == pytest.approx(sum(right) / 8)
    assert found.unseen_at[4].value == pytest.approx(sum(one > 0 for one in right) / 2)
    (trained / QUESTIONS_FILE).unlink()
    assert verb(*asked(place, tmp_path / "e", "--model", trained / "model")) == 0
    assert "trained on is not known" in capsys.readouterr().out


def test_two_models_problem_by_problem():
    mine, other = {"a": 4, "b": 0, "c": 1, "d": 2}, {"a": 1, "b": 0, "c": 0, "d": 3}
    found = compare(mine, other, 4, "before")
    assert found.difference.value == pytest.approx((3 + 0 + 1 - 1) / 16)
    assert (found.better, found.worse, found.p) == (2, 1, 1.0)
    assert (found.newly_solved.x, found.newly_solved.n) == (1, 2)
    assert (found.lost.x, found.lost.n) == (0, 2)
    assert found.problems == 4
    assert compare(mine, {"a": 1, "z": 2}, 4, "before").problems == 1, "over the problems that both were tried on"
    with pytest.raises(UserError, match="different problems"):
        compare(mine, {"z": 1}, 4, "before")


def test_the_interval_of_a_mean_is_near_the_textbook_one():
    values = np.random.default_rng(1).normal(0.3, 0.2, size=400)
    found = bootstrap(list(values))
    reach = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.003)
    assert bootstrap(list(values)) == found


def test_rates_that_are_all_alike_have_an_interval_all_the_same():
    assert (mean_rate([0.0] * 20).low, mean_rate([0.0] * 20).high) == pytest.approx((0, 0.1611), abs=1e-3)
    assert (mean_rate([1.0] * 20).low, mean_rate([1.0] * 20).high) == pytest.approx((0.8389, 1), abs=1e-3)
    assert mean_rate([0.25, 0.5]) == bootstrap([0.25, 0.5])


def test_differences_that_are_all_alike_have_an_interval_all_the_same():
    """Of 20 problems none differs: up to 16 % of all others may, by all of their rollouts, either way."""
    same = {f"p{i}": i % 3 for i in range(20)}
    found = compare(same, same, 4, "before").difference
    assert (found.value, found.low, found.high) == pytest.approx((0, -0.1611, 0.1611), abs=1e-3)
    one_more = {name: count + 1 for name, count in same.items()}
    found = compare(one_more, same, 4, "before").difference
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.0486, 0.3708), abs=1e-3)
    all_right, none = dict.fromkeys(same, 4), dict.fromkeys(same, 0)
    found = compare(all_right, none, 4, "before").difference
    assert (found.low, found.high) == pytest.approx((1 - 2 * 0.1611, 1), abs=1e-3)
    one_more["p0"] -= 1
    gaps = [(one_more[name] - same[name]) / 4 for name in sorted(same)]
    assert compare(one_more, same, 4, "before").difference == bootstrap(gaps), "where any differs it is the bootstrap"


def test_rollouts_of_one_problem_are_no_independent_draws():
    """Ten problems, each all right or all wrong: a hundred draws know no more than ten."""
    found = pooled([10] * 5 + [0] * 5, [10] * 10)
    assert (found.x, found.n) == (50, 100)
    reach = 1.96 * 0.5 / np.sqrt(10)
    assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach), abs=0.02)


@pytest.mark.parametrize("plain", [True, False])
def test_unrelated_answers_are_scored_as_transformers_scores_them(place, monkeypatch, tmp_path, plain):
    """As each prompt lets them stand: behind "Answer:" with a space, behind a chat template without."""
    import torch

    lines = [{"question": "What is ice?", "answer": "water"}]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(evaluate, "UNRELATED", tmp_path / "few.jsonl")
    model = LanguageModel.load(place / "tiny", id="a")
    if plain:
        model.tokenizer.chat_template = None
    prompt, answer = list(model.prompt("What is ice?").token_ids), model.encode(" water" if plain else "water")
    logits = model.network(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(answer))
    assert unrelated(model) == pytest.approx([float(plain.detach())], rel=1e-4)


def test_what_else_broke_is_told_question_by_question(place, tmp_path, capsys):
    """40 questions far apart, each a little dearer after: the means' intervals overlap, the pairs' one is above 0."""
    assert verb(*asked(place, tmp_path / "e", "--limit", 1)) == 0
    found = read_evaluation(tmp_path / "e")
    assert found.unrelated.value == pytest.approx(np.mean(found.unrelated_each))
    assert len(found.unrelated_each) == len(evaluate.UNRELATED.read_text(encoding="utf-8").splitlines())
    draw = np.random.default_rng(0)
    before = draw.normal(5, 2, size=40)
    gaps = draw.normal(0.3, 0.2, size=40)
    one, other = (found.model_copy(update={"unrelated_each": tuple(each)}) for each in (before + gaps, before))
    told = evaluate.unrelated_difference(one, other)
    assert told.value == pytest.approx(gaps.mean())
    reach = 1.96 * gaps.std(ddof=1) / np.sqrt(40)
    assert (told.low, told.high) == pytest.approx((gaps.mean() - reach, gaps.mean() + reach), abs=0.01)
    assert evaluate.unrelated_difference(one, found) is None, "fewer questions"
    assert evaluate.unrelated_difference(one, other.model_copy(update={"unrelated_set": "x"})) is None, "others"
    assert evaluate.unrelated_difference(one, found.model_copy(update={"unrelated_each": ()})) is None
    capsys.readouterr()
    assert verb(*asked(place, tmp_path / "again", "--limit", 1, "--against", tmp_path / "e")) == 0
    said = "unrelated answers: +0.00 (+0.00 to +0.00) nats per token, question by question: can’t be told apart"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ((0.3, 0.1, 0.5), "less likely"),
        ((-0.3, -0.5, -0.1), "likelier"),
        ((0.3, -0.1, 0.5), "can’t be told apart"),
        ((0.001, 0.001, 0.001), "can’t be told apart"),
    ],
)
def test_a_difference_is_said_of_these_answers_and_no_more(gap, said):
    assert evaluate.dearer(evaluate.Value(value=gap[0], low=gap[1], high=gap[2])) == said


def test_the_shipped_questions_can_be_read():
    lines = [json.loads(line) for line in evaluate.UNRELATED.read_text(encoding="utf-8").splitlines()]
    assert len(lines) >= 30
    assert len({line["question"] for line in lines}) == len(lines)
    assert not any(any(char.isdigit() for char in line["question"] + line["answer"]) for line in lines)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--against", "nowhere"], "There is no finished evaluation"),
        (["--rollouts", "0"], "--rollouts can't be 0"),
        (["--limit", "0"], "--limit must be"),
        (["--problems", "no-such-set"], "no-such-set"),
        (["--model", "nowhere/at-all"], "nowhere/at-all"),
    ],
)
def test_bad_input_is_one_sentence(place, tmp_path, more, sentence, capsys, monkeypatch):
    monkeypatch.setenv("LATENTREVISE_OFFLINE", "1")
    assert verb(*asked(place, tmp_path / "e", *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error


def test_bad_rows_are_left_out_where_that_is_asked_for(place, tmp_path, capsys):
    rows = ['{"id": "a", "question": "1 + 1?", "answer": 2}', '{"id": "b", "question": "1 + 2?"}']
    (tmp_path / "set.jsonl").write_text("\n".join(rows))
    given = asked(place, tmp_path / "e", "--problems", tmp_path / "set.jsonl", "--rollouts", 1)
    assert verb(*given) == 2
    assert "--skip-bad" in capsys.readouterr().err
    assert verb(*given, "--skip-bad") == 0
    assert read_evaluation(tmp_path / "e").correct.keys() == {"a"}


def test_other_settings_are_not_compared(place, tmp_path, capsys):
    assert verb(*asked(place, tmp_path / "a", "--limit", 2)) == 0
    assert verb(*asked(place, tmp_path / "b", "--limit", 2, "--seed", 1, "--against", tmp_path / "a")) == 2
    assert "sampled otherwise" in capsys.readouterr().err
    assert not (tmp_path / "b").exists(), "said before anything is sampled"
    others = tmp_path / "others.jsonl"
    others.write_text('{"id": "z", "question": "1 + 1?", "answer": 2}')
    assert verb(*asked(place, tmp_path / "c", "--problems", others, "--against", tmp_path / "a")) == 2
    assert "different problems" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "+0.0"), (0.0134, "+1.3"), (0.00037, "+0.04"), (-0.0004, "−0.04"), (0.0005, "+0.1")]
)
def test_points_read_as_none_only_where_they_are(share, said):
    assert points(share) == said
