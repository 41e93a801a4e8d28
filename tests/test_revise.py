"""The revision against an independent plain Frank-Wolfe: full passes from ids and embeddings, no cache, autograd,
weights kept by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from explorer import kernels
from explorer.errors import UserError
from explorer.frank_wolfe import hull_weights
from explorer.records import Anchor, Hull, Projection, RevisionConfig, Split, StepRule
from explorer.revise import RevisionObjective, evaluate, project, revise, revise_together
from tests.test_model import QUESTION, plain_losses, relative

STEPS = 6


def setup(model, **settings):
    config = RevisionConfig(**{"steps": STEPS, "step_size": 0.1, "connector": "\nThe answer is ", **settings})
    prompt = model.prompt(QUESTION)
    split = Split(
        rollout=0,
        prefix_token_ids=tuple(model.encode("The sum of the apples is ")),
        continuation_token_ids=tuple(model.encode("12 + 30 = 41.")),
    )
    anchor = model.anchor(split.prefix_token_ids, config.connector, "42", split.continuation_token_ids)
    objective = RevisionObjective(
        model, model.read(prompt.token_ids), anchor, split.continuation_token_ids, config, split.prefix_token_ids
    )
    return prompt, split, anchor, objective, config


@pytest.mark.parametrize("rule", list(StepRule))
def test_iterates_equal_the_plain_computation(model, rule):
    prompt, split, anchor, objective, config = setup(model, step_rule=rule)
    V = model.network.get_input_embeddings()(torch.arange(model.info.vocab_size)).detach()
    x = V[list(split.prefix_token_ids)].clone()
    start = x.clone()
    moves = list(itertools.islice(revise(model, objective, split), STEPS))
    assert moves
    for step, after in moves:
        (toward, G_toward), (away, G_away) = plain_losses(
            model, prompt.token_ids, x, anchor, split.continuation_token_ids
        )
        G = G_toward - config.away_weight * G_away
        vertices = (G @ V.T).argmin(dim=1)
        gap = (G * (x - V[vertices])).sum().item()
        assert step.toward_loss == pytest.approx(toward, rel=1e-4)
        assert step.away_loss == pytest.approx(away, rel=1e-4)
        assert step.objective == pytest.approx(toward - config.away_weight * away, rel=1e-3, abs=1e-4)
        assert list(step.vertices) == vertices.tolist()
        assert step.gap == pytest.approx(gap, rel=1e-3)
        assert step.gap >= 0
        assert torch.tensor(step.toward_grad_norm) == pytest.approx(G_toward.norm(dim=1), rel=1e-3)
        assert torch.tensor(step.away_grad_norm) == pytest.approx(G_away.norm(dim=1), rel=1e-3)
        cosine = (G_toward * G_away).sum(1) / (G_toward.norm(dim=1) * G_away.norm(dim=1))
        assert torch.tensor(step.grad_cosine) == pytest.approx(cosine, abs=1e-3)
        if rule is StepRule.CONSTANT:
            assert step.step_size == 0.1
        elif rule is StepRule.HARMONIC:
            assert step.step_size == 2 / (step.k + 2)
        x = (1 - step.step_size) * x + step.step_size * V[vertices]
        assert relative(after, x) < 1e-4
        assert torch.tensor(step.moved) == pytest.approx((x - start).norm(dim=1), rel=1e-3, abs=1e-5)
        assert list(step.nearest) == torch.cdist(x, V).argmin(dim=1).tolist()
    # A point that no row is left of: the exact weights rebuild it, are a convex combination, and start from the
    # prefix's own tokens.
    weights = hull_weights(
        split.prefix_token_ids, [step.vertices for step, _ in moves], [step.step_size for step, _ in moves]
    )
    for position, combination in enumerate(weights):
        assert min(combination.values()) >= 0
        assert sum(combination.values()) == pytest.approx(1.0, abs=1e-5)
        rebuilt = sum(weight * V[token] for token, weight in combination.items())
        assert (rebuilt - moves[-1][1][position]).norm() < 1e-4 * max(1.0, float(x[position].norm()))


def test_the_last_point_is_evaluated_like_any_other(llama):
    _, split, _, objective, _ = setup(llama)
    moves = list(itertools.islice(revise(llama, objective, split), 4))
    last = evaluate(llama, objective, moves[2][1])
    assert (last.toward_loss, last.away_loss, last.objective, last.gap) == pytest.approx(
        (moves[3][0].toward_loss, moves[3][0].away_loss, moves[3][0].objective, moves[3][0].gap), rel=1e-6
    )


def test_the_same_seed_gives_the_same_steps_twice(llama):
    first, second = (
        list(itertools.islice(revise(llama, *(lambda s: (s[3], s[1]))(setup(llama))), 4)) for _ in range(2)
    )
    assert [step for step, _ in first] == [step for step, _ in second]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def test_toward_only_and_away_only_are_what_they_say(llama):
    for weights in ({"away_weight": 0.0}, {"toward_weight": 0.0, "away_weight": 1.0}):
        prompt, split, anchor, objective, config = setup(llama, **weights)
        step, _ = next(revise(llama, objective, split))
        start = llama.rows(split.prefix_token_ids)
        (_, G_toward), (_, G_away) = plain_losses(llama, prompt.token_ids, start, anchor, split.continuation_token_ids)
        G = G_toward if config.away_weight == 0 else -G_away
        assert list(step.vertices) == (G @ llama.vocabulary.T).argmin(dim=1).tolist()


def test_answer_ban_keeps_the_oracle_off_the_answer(llama):
    """With the harmonic rule and no ban some vertex is an answer token on this model; with the ban none is."""

    def vertices(ban):
        _, split, anchor, objective, _ = setup(llama, ban_answer_tokens=ban, step_rule=StepRule.HARMONIC)
        answer = {t for t in anchor.token_ids[slice(*anchor.answer_span)] if llama.token_text(t).strip()}
        picked = {v for step, _ in itertools.islice(revise(llama, objective, split), 40) for v in step.vertices}
        return picked, answer

    picked, answer = vertices(ban=False)
    assert picked & answer, "the ban would be untested: choose a start on which the oracle likes the answer"
    picked, answer = vertices(ban=True)
    assert not picked & answer


def test_the_plausible_hull_is_of_the_likeliest_tokens_of_each_place(model):
    """Against a plain pass over the tokens: the oracle's pick is the best of the k likeliest and the token itself."""
    prompt, split, anchor, objective, config = setup(model, hull="plausible", hull_size=5)
    prefix = split.prefix_token_ids
    ids = torch.tensor([[*prompt.token_ids, *prefix]])
    with torch.no_grad():
        logits = model.network(input_ids=ids).logits[0, -len(prefix) - 1 : -1]
    likely = [{*row.topk(5).indices.tolist(), token} for row, token in zip(logits, prefix, strict=True)]
    (_, to), (_, off) = plain_losses(model, prompt.token_ids, model.rows(prefix), anchor, split.continuation_token_ids)
    scores = (to - config.away_weight * off) @ model.vocabulary.float().T
    step, _ = next(revise(model, objective, split))
    best = [
        min(allowed, key=lambda token, row=row: row[token].item()) for row, allowed in zip(scores, likely, strict=True)
    ]
    assert list(step.vertices) == best
    assert step.gap >= 0
    # Together with another run, and after the last step, the same tokens are looked at.
    [(together, _)] = next(revise_together(model, [objective], [split]))
    assert together.vertices == step.vertices
    assert evaluate(model, objective, model.rows(prefix)).gap == pytest.approx(step.gap, rel=1e-4)


def test_the_hull_of_like_norm_keeps_to_rows_about_as_long(llama):
    _, split, _, objective, _ = setup(llama, hull="like-norm")
    norms = llama.vocabulary.float().norm(dim=1)
    own = norms[list(split.prefix_token_ids)]
    for step, _ in itertools.islice(revise(llama, objective, split), 4):
        assert bool(((norms[list(step.vertices)] - own).abs() <= 0.1 * own + 1e-6).all())
    _, split, _, whole, _ = setup(llama)
    free = next(revise(llama, whole, split))[0].vertices
    assert bool(((norms[list(free)] - own).abs() > 0.1 * own).any()), "the hull would make no difference here"


def test_the_ban_takes_out_every_spelling_of_the_answers_tokens(llama):
    raw = llama.tokenizer.get_vocab()
    bare = next(text for text in raw if text.isalpha() and "Ġ" + text in raw)
    _, _, _, objective, _ = setup(llama, ban_answer_tokens=True)
    for text in (bare, "Ġ" + bare):
        objective.anchor = Anchor(text=bare, token_ids=(raw["Ġ"], raw[text]), answer_span=(0, 2))
        objective._allowed = None
        banned = (~objective.allowed()).nonzero()[:, 0].tolist()
        assert banned == sorted((raw[bare], raw["Ġ" + bare])), "the space alone gives nothing away"


def test_a_ban_that_leaves_nothing_is_refused(llama):
    _, _, _, objective, _ = setup(llama, hull="plausible", ban_answer_tokens=True)
    objective._allowed_rows()
    answer = objective.anchor.token_ids[slice(*objective.anchor.answer_span)]
    objective.prefix = answer  # each position's own token is banned, and nothing else is as likely as all of them
    objective.config = objective.config.model_copy(update={"hull": Hull.LIKE_NORM})
    real = llama.row_norms.clone()
    try:
        llama.row_norms = torch.full_like(real, 1e9)
        llama.row_norms[list(answer)] = 1.0
        with pytest.raises(UserError, match="choose another hull"):
            objective._allowed_rows()
    finally:
        llama.row_norms = real


def test_projection_follows_the_configured_distance(llama):
    _, split, _, _, config = setup(llama)
    x = 3.0 * llama.rows(split.prefix_token_ids)
    cosine = config.model_copy(update={"projection": Projection.COSINE})
    assert tuple(project(llama, x, cosine).tolist()) == split.prefix_token_ids  # a longer vector keeps its direction
    assert project(llama, x, config).tolist() == torch.cdist(x, llama.vocabulary).argmin(dim=1).tolist()


def test_the_prompt_is_read_once_however_many_steps(llama, monkeypatch):
    """Counted at the network: a step reads the prefix and its branches, never the prompt again."""
    lengths = []
    forward = llama.network.forward
    monkeypatch.setattr(
        llama.network, "forward", lambda *a, **kw: lengths.append(kw["inputs_embeds"].shape[1]) or forward(*a, **kw)
    )
    prompt, split, anchor, objective, _ = setup(llama)
    list(itertools.islice(revise(llama, objective, split), STEPS))
    m, c, a = len(split.prefix_token_ids), len(split.continuation_token_ids), anchor.answer_span[1]
    # The prompt, its last token apart, then one pass per step over two branches whose last tokens are only scored.
    assert lengths == [len(prompt.token_ids) - 1, 1] + [m + a - 1 + m + c - 1] * STEPS


def test_the_prefix_is_multiplied_once_for_both_branches(llama, monkeypatch):
    """Counted at the first product: the second copy's rows are not there on the way forward, and all are on the way
    back."""
    _, split, anchor, objective, _ = setup(llama)
    x = llama.rows(split.prefix_token_ids)
    objective.value_and_gradient(x)  # reads the prompt's last token
    rows = []
    linear = kernels._linear
    monkeypatch.setattr(kernels, "_linear", lambda given, *a: rows.append(given.shape[-2]) or linear(given, *a))
    objective.value_and_gradient(x)
    m, c, a = len(split.prefix_token_ids), len(split.continuation_token_ids), anchor.answer_span[1]
    scored = a - anchor.answer_span[0] + c
    assert set(rows) == {m + a - 1 + c - 1, scored, m + a - 1 + m + c - 1}
    layers = sum(isinstance(layer, kernels.FastLinear) for layer in llama.network.modules()) - 1
    assert rows == [m + a - 1 + c - 1] * layers + [scored] * 2 + [m + a - 1 + m + c - 1] * layers


def test_a_long_prefix_reads_its_branches_one_after_the_other(llama, monkeypatch):
    """Half the memory, the same numbers."""
    _, split, _, objective, _ = setup(llama)
    x = llama.rows(split.prefix_token_ids)
    together = objective.value_and_gradient(x)
    calls = []
    forward = llama.network.forward
    monkeypatch.setattr(llama.network, "forward", lambda *a, **kw: calls.append(1) or forward(*a, **kw))
    monkeypatch.setattr("explorer.model.PAIR_POSITIONS", 1)
    value, gradient, _ = objective.value_and_gradient(x)
    assert len(calls) == 2
    assert value == pytest.approx(together[0], rel=1e-5)
    torch.testing.assert_close(gradient, together[1], rtol=1e-4, atol=1e-6)


def several(model, lengths=(4, 9, 5, 7), **settings):
    """Runs of one prompt whose prefixes and continuations differ in length."""
    _, whole, _, first, config = setup(model, **settings)
    ids = [*whole.prefix_token_ids, *whole.continuation_token_ids]
    splits = [
        whole.model_copy(
            update={"prefix_token_ids": tuple(ids[:m]), "continuation_token_ids": tuple(ids[m : m + 3 + m % 4])}
        )
        for m in lengths
    ]
    objectives = []
    for split in splits:
        anchor = model.anchor(split.prefix_token_ids, config.connector, "42", split.continuation_token_ids)
        objectives.append(RevisionObjective(model, first.context, anchor, split.continuation_token_ids, config))
    return splits, objectives


@pytest.mark.parametrize("settings", [{}, {"ban_answer_tokens": True}, {"step_rule": StepRule.HARMONIC}])
def test_runs_revised_together_take_the_steps_they_take_alone(model, settings):
    splits, objectives = several(model, **settings)
    together = list(itertools.islice(revise_together(model, objectives, splits), STEPS))
    for place, (split, objective) in enumerate(zip(splits, objectives, strict=True)):
        spent, objective.forward_tokens = objective.forward_tokens, 0
        alone = list(itertools.islice(revise(model, objective, split), STEPS))
        assert spent == objective.forward_tokens
        for (a, x), (b, y) in zip((row[place] for row in together), alone, strict=True):
            assert a.vertices == b.vertices
            assert a.nearest == b.nearest
            assert relative(x, y) < 1e-5
            for name in ("k", "step_size", "toward_loss", "away_loss", "objective", "gap"):
                assert getattr(a, name) == pytest.approx(getattr(b, name), rel=2e-4, abs=1e-6)
            for name in ("moved", "toward_grad_norm", "away_grad_norm", "grad_cosine"):
                assert getattr(a, name) == pytest.approx(getattr(b, name), rel=2e-3, abs=1e-4)


def test_bans_may_differ_among_runs_revised_together(llama):
    splits, objectives = several(llama)
    objectives[1].config = objectives[1].config.model_copy(update={"ban_answer_tokens": True})
    together = next(revise_together(llama, objectives, splits))
    for (step, _), objective, split in zip(together, objectives, splits, strict=True):
        assert step.vertices == next(revise(llama, objective, split))[0].vertices


def test_a_line_search_is_not_taken_together(llama):
    splits, objectives = several(llama, step_rule=StepRule.LINE_SEARCH)
    with pytest.raises(ValueError, match="no line search"):
        next(revise_together(llama, objectives, splits))


def test_a_gradient_that_is_not_finite_is_said(llama, monkeypatch):
    _, split, _, objective, _ = setup(llama)
    losses = llama.losses
    monkeypatch.setattr(
        llama,
        "losses",
        lambda *a: type(found := losses(*a))(
            found.toward, found.away, found.toward_gradient * float("nan"), found.away_gradient
        ),
    )
    with pytest.raises(UserError, match="not finite"):
        next(revise(llama, objective, split))
