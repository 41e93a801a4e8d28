"""The solver against known optima and brute force; no language model in sight."""

from __future__ import annotations

import itertools

import pytest
import torch

from explorer import frank_wolfe as fw


class Quadratic:
    """f(x) = ½ Σ_t |x_t − c_t|², with counted calls."""

    def __init__(self, centre):
        self.centre, self.calls = centre, 0

    def value(self, x):
        return 0.5 * float(((x - self.centre) ** 2).sum())

    def value_and_gradient(self, x):
        self.calls += 1
        return self.value(x), x - self.centre, None


SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_oracle_and_projection_equal_brute_force():
    generator = torch.Generator().manual_seed(0)
    rows, gradient = torch.randn(50, 6, generator=generator), torch.randn(9, 6, generator=generator)
    allowed = torch.rand(50, generator=generator) > 0.4
    for mask in (None, allowed):
        candidates = [w for w in range(50) if mask is None or mask[w]]
        plain = [
            min(candidates, key=lambda w, g=g: sum(a * b for a, b in zip(g.tolist(), rows[w].tolist(), strict=True)))
            for g in gradient
        ]
        assert fw.linear_minimisation(gradient, rows, mask).tolist() == plain
        near = [min(candidates, key=lambda w, x=x: torch.dist(x, rows[w]).item()) for x in gradient]
        assert fw.nearest_rows(gradient, rows, "l2", mask).tolist() == near
        cosine = [
            max(candidates, key=lambda w, x=x: torch.cosine_similarity(x, rows[w], dim=0).item()) for x in gradient
        ]
        assert fw.nearest_rows(gradient, rows, "cosine", mask).tolist() == cosine


def test_the_rows_allowed_may_differ_by_position(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    rows, gradient = torch.randn(40, 3, generator=generator), torch.randn(6, 3, generator=generator)
    allowed = torch.rand(6, 40, generator=generator) < 0.2
    allowed[:, 0] = True
    plain = [
        min((w for w in range(40) if mask[w]), key=lambda w, g=g: torch.dot(g, rows[w]).item())
        for g, mask in zip(gradient, allowed, strict=True)
    ]
    assert fw.linear_minimisation(gradient, rows, allowed).tolist() == plain
    monkeypatch.setattr(fw, "CHUNK_ROWS", 7)
    assert fw.linear_minimisation(gradient, rows, allowed).tolist() == plain
    allowed[2] = False
    with pytest.raises(ValueError, match="allowed"):
        fw.linear_minimisation(gradient, rows, allowed)


def test_result_does_not_depend_on_chunking(monkeypatch):
    rows = torch.randint(-2, 3, (40, 3), generator=torch.Generator().manual_seed(1)).float()  # many ties
    gradient = torch.randint(-2, 3, (12, 3), generator=torch.Generator().manual_seed(2)).float()
    whole = fw.linear_minimisation(gradient, rows), fw.nearest_rows(gradient, rows)
    monkeypatch.setattr(fw, "CHUNK_ROWS", 7)
    assert torch.equal(fw.linear_minimisation(gradient, rows), whole[0])
    assert torch.equal(fw.nearest_rows(gradient, rows), whole[1])


def test_oracle_needs_a_row_and_projection_a_known_metric():
    with pytest.raises(ValueError, match="allowed"):
        fw.linear_minimisation(torch.ones(1, 2), SQUARE, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="manhattan"):
        fw.nearest_rows(torch.ones(1, 2), SQUARE, "manhattan")


@pytest.mark.parametrize("rule", [fw.harmonic_step(), fw.line_search_step(1.0)])
def test_reaches_the_known_optimum_and_the_gap_bounds_the_error(rule):
    # Over the unit square the optimum of ½|x − c|² is c clipped to the square: f* is known without any solver.
    centre = torch.tensor([[0.3, 0.6], [1.7, 0.4], [-1.0, 2.0]])
    objective = Quadratic(centre)
    best = objective.value(centre.clamp(0, 1))
    steps = list(itertools.islice(fw.frank_wolfe(SQUARE[[0, 0, 1]], SQUARE, objective, rule), 400))
    for step in steps:
        assert step.gap >= -1e-6
        assert step.value - best <= step.gap + 1e-5
    # Jaggi 2013, theorem 1: the error after k steps is at most 2 C/(k+2); C is at most the squared diameter, 3 × 2
    # here.
    assert objective.value(steps[-1].x_after) - best <= 2 * 6 / (len(steps) + 2)


def test_line_search_never_raises_the_objective_and_ends_at_a_corner_optimum():
    objective = Quadratic(torch.tensor([[5.0, 5.0]]))
    steps = list(itertools.islice(fw.frank_wolfe(SQUARE[[0]], SQUARE, objective, fw.line_search_step(1.0)), 50))
    values = [step.value for step in steps]
    assert values == sorted(values, reverse=True)
    assert torch.equal(steps[0].x_after, SQUARE[[3]])


def test_line_search_stops_when_nothing_helps():
    class Uphill(Quadratic):
        def value(self, x):
            return 0.0 if torch.equal(x, SQUARE[[0]]) else 1.0

    assert list(fw.frank_wolfe(SQUARE[[0]], SQUARE, Uphill(torch.tensor([[1.0, 1.0]])), fw.line_search_step(0.5))) == []


def test_one_gradient_per_step_and_rules_are_what_they_say():
    objective = Quadratic(torch.tensor([[0.2, 0.9]]))
    steps = list(itertools.islice(fw.frank_wolfe(SQUARE[[0]], SQUARE, objective, fw.constant_step(0.1)), 5))
    assert objective.calls == 5
    assert [step.step_size for step in steps] == [0.1] * 5
    harmonic = itertools.islice(fw.frank_wolfe(SQUARE[[0]], SQUARE, objective, fw.harmonic_step()), 3)
    assert [step.step_size for step in harmonic] == [1.0, 2 / 3, 0.5]


@pytest.mark.parametrize("rule", [fw.constant_step(0.07), fw.harmonic_step(), fw.line_search_step(0.3)])
def test_hull_weights_rebuild_every_point(rule):
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(30, 5, generator=generator)
    start = torch.tensor([4, 4, 17])
    objective = Quadratic(torch.randn(3, 5, generator=generator))
    steps = list(itertools.islice(fw.frank_wolfe(rows[start], rows, objective, rule), 12))
    for count in range(len(steps) + 1):
        done = steps[:count]
        weights = fw.hull_weights(start.tolist(), [s.vertices.tolist() for s in done], [s.step_size for s in done])
        point = done[-1].x_after if done else rows[start]
        for position, combination in enumerate(weights):
            assert all(weight >= 0 for weight in combination.values())
            assert sum(combination.values()) == pytest.approx(1.0, abs=1e-5)
            assert len(combination) <= count + 1
            rebuilt = sum(weight * rows[token] for token, weight in combination.items())
            assert torch.allclose(rebuilt, point[position], atol=1e-4)


def test_a_run_taken_up_again_is_the_same_run():
    objective = Quadratic(torch.tensor([[0.2, 0.9]]))
    whole = list(itertools.islice(fw.frank_wolfe(SQUARE[[1]], SQUARE, objective, fw.harmonic_step()), 6))
    first = list(itertools.islice(fw.frank_wolfe(SQUARE[[1]], SQUARE, objective, fw.harmonic_step()), 3))
    rest = itertools.islice(fw.frank_wolfe(first[-1].x_after, SQUARE, objective, fw.harmonic_step(), first_step=3), 3)
    assert [s.vertices.tolist() for s in whole[3:]] == [s.vertices.tolist() for s in rest]
