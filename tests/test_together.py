"""Rollouts of several prompts in one batch are those that each prompt has alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from explorer.cli import app, run_command
from explorer.context import SideBySide
from explorer.hunt import Hunt, HuntConfig, folder_name, read_results, together
from explorer.model import LanguageModel, NotFinite
from explorer.records import Problem, RevisionConfig, SamplingConfig
from explorer.store import load_run
from explorer.together import TogetherRollouts, sample_together
from tests.conftest import FakeJudge, tiny_model

QUESTIONS = ("What is 3 + 4?", "How many apples are there, if there are 12 and 30 more?", "1 + 1?", "What?")


def alone(model, ids, sampling, stream=0):
    rows = [[] for _ in range(sampling.n)]
    for events in model.sample(model.read(ids), None, sampling, stream):
        for row, token in events:
            rows[row].append(token)
    return rows


def asked(model, n=3, **changes):
    given = {"n": n, "max_new_tokens": 20, "temperature": 0.9, **changes}
    return [
        (model.prompt(question).token_ids, SamplingConfig(**given, seed=seed))
        for seed, question in enumerate(QUESTIONS)
    ]


@pytest.fixture
def ending(model):
    """A model for which many tokens end a rollout, so that rows leave the batch at different times."""
    kept = model.end_ids
    model.end_ids = frozenset(range(2, 30))
    yield model
    model.end_ids = kept


def test_each_row_is_the_one_it_would_be_alone(ending):
    prompts = asked(ending)
    rows = [[[] for _ in range(3)] for _ in prompts]
    for step in sample_together(ending, prompts):
        for place, events in enumerate(step):
            for row, token in events:
                rows[place][row].append(token)
    expected = [alone(ending, ids, sampling) for ids, sampling in prompts]
    assert rows == expected
    assert len({len(row) for prompt in rows for row in prompt}) > 2, "rows ended at different times"


def test_greedy_is_greedy_whatever_stands_beside(model):
    prompts = asked(model, n=1, temperature=0.0)
    for place, (ids, sampling) in enumerate(prompts):
        found = [token for step in sample_together(model, prompts) for _, token in step[place]]
        assert found == alone(model, ids, sampling)[0]


def test_logits_of_ragged_rows_are_the_plain_ones(llama):
    """Against one pass over each whole sequence by the network itself, not against our own sampling."""
    prompts = [llama.prompt(question).token_ids for question in QUESTIONS]
    contexts = []
    with torch.no_grad():
        for ids in prompts:
            context = llama.read(ids).fork()
            context.extend(torch.zeros(1, 0, llama.vocabulary.shape[1]), 1)
            contexts.append(context)
        together = SideBySide(contexts, [1] * len(prompts), 3)
        for step, tokens in enumerate([(40, 41, 42, 43), (50, 51, 52, 53)]):
            logits = together.extend(llama.rows(tokens)[:, None])
            more = [(40, 50), (41, 51), (42, 52), (43, 53)]
            for row, ids in enumerate(prompts):
                whole = torch.tensor([[*ids, *more[row][: step + 1]]])
                plain = llama.network(input_ids=whole).logits[0, -1]
                assert torch.allclose(logits[row], plain, atol=1e-4)


def test_a_batch_is_drawn_once_and_its_others_wait(llama, monkeypatch):
    from explorer import together as module

    prompts, drawn = asked(llama), []
    plain = module.sample_together
    monkeypatch.setattr(module, "sample_together", lambda *given: drawn.append(len(given[1])) or plain(*given))
    rollouts = TogetherRollouts(llama, prompts, rows=9)
    for place in (1, 0, 2, 3):  # whichever is asked first
        ids, sampling = prompts[place]
        rows = [[] for _ in range(sampling.n)]
        for events in rollouts.sample(ids, sampling):
            for row, token in events:
                rows[row].append(token)
        assert rows == alone(llama, ids, sampling)
    assert drawn == [3], "three prompts of three rows in one batch; the fourth is alone and drawn as ever"


def test_what_it_was_not_told_of_is_drawn_alone(llama):
    prompts = asked(llama)
    rollouts = TogetherRollouts(llama, prompts)
    ids, sampling = prompts[0]
    more = [token for events in rollouts.sample(ids, sampling, first_row=3) for _, token in events]
    expected = [t for e in llama.sample(llama.read(ids), None, sampling, 0, 3) for _, t in e]
    assert more == expected


def test_a_family_without_a_plain_cache_goes_one_after_another():
    model = tiny_model("llama")
    kept, model.packed = model.packed, False
    try:
        ids, sampling = asked(model)[0]
        rollouts = TogetherRollouts(model, asked(model))
        tokens = [token for events in rollouts.sample(ids, sampling) for _, token in events]
        assert tokens == [t for e in model.sample(model.read(ids), None, sampling) for _, t in e]
    finally:
        model.packed = kept


def test_a_hunt_by_batches_of_such_a_family_is_refused_in_a_sentence(monkeypatch, tmp_path, capsys):
    model = tiny_model("llama")
    monkeypatch.setattr(model, "packed", False)
    monkeypatch.setattr("explorer.pipeline.load_model", lambda *args, **kwargs: model)
    arguments = ["hunt", "--problems", "bank", "--out", str(tmp_path / "h"), "--engine", "batch"]
    assert run_command(lambda: app(args=arguments, standalone_mode=False)) == 2
    assert "can't read several prompts in one batch: leave --engine at own" in capsys.readouterr().err
    assert not (tmp_path / "h" / "hunt.json").exists()


def test_a_hunt_draws_the_same_in_batches_also_after_a_stop(llama, tmp_path):
    problems = [Problem(id=f"p{i}", question=question, answer="1") for i, question in enumerate(QUESTIONS)]
    sampling = SamplingConfig(n=3, max_new_tokens=12)
    asked = {"problems": "x", "model": llama.info, "sampling": sampling, "config": RevisionConfig(), "failed": 0}

    def hunt(name, engine="batch", upto=None):
        drawer = together(llama, problems, sampling) if engine == "batch" else None
        config = HuntConfig(**asked, engine=engine)
        for state in Hunt(llama, problems, config, tmp_path / name, FakeJudge(), drawer=drawer).run():
            if state.done == upto:
                return None
        assert len(read_results(tmp_path / name)) == len(problems)
        return [load_run(tmp_path / name / folder_name(p.id))[0].before for p in problems]

    plain = hunt("plain", "own")
    assert hunt("batch") == plain
    assert hunt("stopped", upto=2) is None
    assert hunt("stopped") == plain


def test_a_prompt_without_room_for_its_rollouts_cuts_off_no_neighbour(llama, tmp_path):
    long = "Add " + " + ".join(["1"] * 40)
    problems = [Problem(id=f"p{i}", question=text, answer="1") for i, text in enumerate(("1 + 1?", long, "What?"))]
    sampling = SamplingConfig(n=2, max_new_tokens=llama.context_length - len(llama.prompt("1 + 1?").token_ids))
    assert len(llama.prompt(long).token_ids) + 16 < llama.context_length
    asked = {"problems": "x", "model": llama.info, "sampling": sampling, "config": RevisionConfig(), "failed": 0}
    drawer = together(llama, problems, sampling)
    list(Hunt(llama, problems, HuntConfig(**asked, engine="batch"), tmp_path, FakeJudge(), drawer=drawer).run())
    results = {result.problem: result for result in read_results(tmp_path)}
    assert "ask for at most" in results["p1"].error
    for problem in (problems[0], problems[2]):
        ids, seed = llama.prompt(problem.question).token_ids, results[problem.id].seed
        expected = alone(llama, ids, sampling.model_copy(update={"seed": seed}))
        found = load_run(tmp_path / folder_name(problem.id))[0].before
        # A late token may differ by rounding; where a row ends by its limit does not.
        assert [len(one.token_ids) for one in found] == [
            len([token for token in row if token is not None]) for row in expected
        ]


def test_a_batchs_time_is_shared_by_its_tokens(llama, tmp_path, monkeypatch):
    """By the clock of this test every pass takes a tenth of a second, and nothing else takes any: the one that waited
    for it owes the others."""
    from explorer import together as module

    plain, passes = module.draw, []
    monkeypatch.setattr(module, "draw", lambda *given: passes.append(1) or plain(*given))
    monkeypatch.setattr("explorer.stopwatch.time", SimpleNamespace(perf_counter=lambda: 0.1 * len(passes)))
    monkeypatch.setattr(llama, "end_ids", frozenset())
    problems = [Problem(id=f"p{i}", question=question, answer="1") for i, question in enumerate(QUESTIONS[:3])]
    sampling = SamplingConfig(n=2, max_new_tokens=5)
    config = {"problems": "x", "model": llama.info, "sampling": sampling, "config": RevisionConfig(), "failed": 0}
    drawer = together(llama, problems, sampling)
    list(Hunt(llama, problems, HuntConfig(**config, engine="batch"), tmp_path, FakeJudge(), drawer=drawer).run())
    costs = [load_run(tmp_path / folder_name(one.id))[0].cost["rollouts"].seconds for one in problems]
    assert len(passes) == 5
    assert costs == pytest.approx([0.5 / 3] * 3, abs=1e-3)


def test_what_is_owed_in_a_batch_is_nothing_in_all(ending):
    prompts = asked(ending)
    rollouts = TogetherRollouts(ending, prompts)
    tokens = [sum(map(len, rollouts.sample(*one))) for one in prompts]
    owed = [rollouts.owed(*one) for one in prompts]
    assert sum(owed) == pytest.approx(0, abs=1e-6)
    assert owed[0] < 0 < min(owed[1:])
    assert len(set(tokens)) > 1
    assert rollouts.owed(*prompts[0]) == 0


def test_what_ends_one_prompt_of_a_batch_ends_no_other(llama, tmp_path, monkeypatch):
    """Its logits are not finite: its neighbours draw by themselves, as in a hunt without it."""
    problems = tuple(Problem(id=str(i), question=question, answer="1") for i, question in enumerate(QUESTIONS))
    sampling = SamplingConfig(n=2, max_new_tokens=10, temperature=1.0, seed=4)
    config = HuntConfig(problems="some", model=llama.info, sampling=sampling, config=RevisionConfig(), failed=0)
    bad, plain = llama.prompt(QUESTIONS[1]).token_ids, LanguageModel.sample

    def breaks(model, prompts, stream):
        for step, events in enumerate(sample_together(model, prompts, stream)):
            if step == 3 and any(ids == bad for ids, _ in prompts):
                raise NotFinite("The model's logits are not finite.")
            yield events

    def sample(model, context, *given):
        if context.length == len(bad) - 1:  # the last token is not read yet
            raise NotFinite("The model's logits are not finite.")
        yield from plain(model, context, *given)

    list(Hunt(llama, problems, config, tmp_path / "whole", FakeJudge()).run())
    monkeypatch.setattr("explorer.together.sample_together", breaks)
    monkeypatch.setattr(LanguageModel, "sample", sample)
    list(Hunt(llama, problems, config, tmp_path / "h", FakeJudge(), drawer=together(llama, problems, sampling)).run())
    found = {result.problem: result for result in read_results(tmp_path / "h")}
    assert [bool(found[problem.id].error) for problem in problems] == [False, True, False, False]
    for problem in (problems[0], *problems[2:]):
        mine, theirs = (load_run(tmp_path / at / folder_name(problem.id))[0].before for at in ("h", "whole"))
        assert [one.token_ids for one in mine] == [one.token_ids for one in theirs]
