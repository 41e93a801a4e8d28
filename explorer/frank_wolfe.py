"""Frank-Wolfe over a product of convex hulls: one hull of the vocabulary's rows per prefix position. Pure torch.

The feasible set of position t is conv{V_w : w in the vocabulary}; the positions are independent, so the linear
minimisation oracle (LMO) is one matrix product and an argmin per position, and the duality gap is a sum over positions
(Jaggi 2013, "Revisiting Frank-Wolfe", Algorithm 1 and equation 2; LatentRevise, arXiv 2606.29938, for the hull of the
vocabulary).

    s_t  = argmin_w <G_t, V_w>            the vertex
    gap  = sum_t <G_t, E_t - V[s_t]>      >= 0; for a convex objective an upper bound on f(E) - min f
    E   <- (1 - step) E + step V[s]

After k steps each position is an explicit convex combination of at most k+1 rows; `hull_weights` gives it.

What it does not do: know a language model, a tokenizer or a screen. It takes functions and tensors, and imports nothing
of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

# Rows scored at once by the oracle and the projection: bounds the (positions × rows) table to some tens of MB for 512
# positions.
CHUNK_ROWS = 16_384


class Objective(Protocol):
    """What the solver minimises."""

    def value(self, x: Tensor) -> float:
        """The objective at x (positions, hidden); called by the line search only."""

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor, Any]:
        """The objective at x, its gradient of x's shape, and anything that the caller wants to find on the step
        again."""


StepRule = Callable[[int, Objective, Tensor, Tensor, float, float], float]
"""(k, objective, x, direction, value at x, gap) -> step size in [0, 1]; direction is V[s] - x."""


Products = Callable[[Tensor, Tensor], Tensor]
"""(x (positions, hidden), rows (count, hidden)) -> x rowsᵀ (positions, count)."""


def plain_products(x: Tensor, rows: Tensor) -> Tensor:
    """Torch's own matrix product; a caller may know a faster one."""
    return x @ rows.T


@dataclass(frozen=True)
class Step:
    """One move from `x_before` to `x_after`, both (positions, hidden). `value` and `gap` are taken at `x_before`."""

    k: int
    step_size: float
    value: float
    gap: float
    vertices: Tensor
    x_before: Tensor
    x_after: Tensor
    extra: Any


def linear_minimisation(
    gradient: Tensor, rows: Tensor, allowed: Tensor | None = None, products: Products = plain_products
) -> Tensor:
    """The vertex of each position: argmin over the rows of the inner product with the gradient.

    Args:
        gradient: (positions, hidden).
        rows: (vocabulary, hidden), of any floating dtype; scored in float32.
        allowed: (vocabulary,) bool, rows that may be picked, or (positions, vocabulary) where that differs by
            position; None allows all.
        products: how x rowsᵀ is worked out.

    Returns:
        (positions,) int64 indices into rows. The lowest index wins a tie, so the result does not depend on the
        chunking.

    Raises:
        ValueError: no row is allowed, at some position.
    """
    if allowed is not None and not bool(allowed.any(dim=-1).all()):
        raise ValueError("the oracle needs at least one allowed row")
    best = torch.full(gradient.shape[:1], torch.inf, device=gradient.device)
    index = torch.zeros(gradient.shape[:1], dtype=torch.int64, device=gradient.device)
    for start in range(0, len(rows), CHUNK_ROWS):
        scores = products(gradient, rows[start : start + CHUNK_ROWS].to(gradient.dtype))
        if allowed is not None:
            scores.masked_fill_(~allowed[..., start : start + CHUNK_ROWS], torch.inf)
        value, where = scores.min(dim=1)
        better = value < best
        best = torch.where(better, value, best)
        index = torch.where(better, where + start, index)
    return index


def duality_gap(gradient: Tensor, x: Tensor, vertex_rows: Tensor) -> float:
    """Sum over positions of <G_t, x_t - V[s_t]>, in the objective's unit; all three arguments are (positions,
    hidden)."""
    return float((gradient * (x - vertex_rows)).sum())


def nearest_rows(
    x: Tensor,
    rows: Tensor,
    metric: str = "l2",
    allowed: Tensor | None = None,
    products: Products = plain_products,
    norms: Tensor | None = None,
) -> Tensor:
    """Projection: the row nearest to each position.

    Args:
        x: (positions, hidden).
        rows: (vocabulary, hidden).
        metric: "l2" or "cosine".
        allowed: (vocabulary,) bool or None.
        products: how x rowsᵀ is worked out.
        norms: (vocabulary,) L2 norms of the rows, if they are known.

    Returns:
        (positions,) int64; the lowest index wins a tie.

    Raises:
        ValueError: an unknown metric.
    """
    if metric not in ("l2", "cosine"):
        raise ValueError(f"unknown metric {metric!r}: use 'l2' or 'cosine'")
    best = torch.full(x.shape[:1], torch.inf, device=x.device)
    index = torch.zeros(x.shape[:1], dtype=torch.int64, device=x.device)
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS].to(x.dtype)
        inner = products(x, chunk)
        length = chunk.norm(dim=1) if norms is None else norms[start : start + CHUNK_ROWS]
        # l2: |x - v|² without |x|², the same for all rows of a position. Cosine: only the row's norm matters for the
        # order; clamped so that an all-zero row is far, not undefined.
        distance = length * length - 2.0 * inner if metric == "l2" else -inner / length.clamp_min(1e-12)
        if allowed is not None:
            distance.masked_fill_(~allowed[start : start + CHUNK_ROWS], torch.inf)
        value, where = distance.min(dim=1)
        better = value < best
        best = torch.where(better, value, best)
        index = torch.where(better, where + start, index)
    return index


def hull_weights(
    start_ids: Sequence[int], vertices: Sequence[Sequence[int]], step_sizes: Sequence[float]
) -> list[dict[int, float]]:
    """The exact convex combination of each position after the given steps.

    Args:
        start_ids: token id of each position before the first step.
        vertices: one sequence of token ids (a vertex per position) for each step.
        step_sizes: one step size in [0, 1] for each step.

    Returns:
        One dict per position, token id -> weight; weights are >= 0 and sum to 1.
    """
    weights = [{int(token): 1.0} for token in start_ids]
    for row, size in zip(vertices, step_sizes, strict=True):
        for position, vertex in zip(weights, row, strict=True):
            for token in position:
                position[token] *= 1.0 - size
            position[int(vertex)] = position.get(int(vertex), 0.0) + size
    return [{token: weight for token, weight in position.items() if weight > 0.0} for position in weights]


def constant_step(size: float) -> StepRule:
    """The same step every time. Small ones (0.03 to 0.06) keep a prefix fluent; see the method's measurements."""

    def rule(k: int, objective: Objective, x: Tensor, direction: Tensor, value: float, gap: float) -> float:
        return size

    return rule


def harmonic_step() -> StepRule:
    """The textbook 2/(k+2). It is 1 at k = 0: the whole start point is thrown away at once."""

    def rule(k: int, objective: Objective, x: Tensor, direction: Tensor, value: float, gap: float) -> float:
        return 2.0 / (k + 2.0)

    return rule


def line_search_step(largest: float, sufficient: float = 0.1, halvings: int = 8) -> StepRule:
    """Backtracking: the largest of `largest`, `largest`/2, … that lowers the objective by at least sufficient · step ·
    gap (Armijo).

    The gap is minus the directional derivative, so this is the usual sufficient-decrease test. Returns 0 when no trial
    passes: the solver then stops. Our choice; the paper's public text is silent.
    """

    def rule(k: int, objective: Objective, x: Tensor, direction: Tensor, value: float, gap: float) -> float:
        size = largest
        for _ in range(halvings + 1):
            if objective.value(x + size * direction) <= value - sufficient * size * gap:
                return size
            size /= 2.0
        return 0.0

    return rule


def frank_wolfe(
    start: Tensor,
    rows: Tensor,
    objective: Objective,
    step_rule: StepRule,
    allowed: Tensor | None = None,
    first_step: int = 0,
    products: Products = plain_products,
) -> Iterator[Step]:
    """Yield one `Step` after another, for as long as the caller asks; the caller decides when to stop.

    Args:
        start: (positions, hidden) float32, a point of the hull.
        rows: (vocabulary, hidden), the hull's corners.
        objective: what is minimised.
        step_rule: see `constant_step`, `harmonic_step`, `line_search_step`.
        allowed: rows the oracle may pick, see `linear_minimisation`; None allows all.
        first_step: index of the first step, for a run that is taken up again.
        products: how the oracle works out x rowsᵀ.

    Ends by itself only when a line search finds no step that helps (the point is a minimum as far as the search can
    tell).
    """
    x, k = start, first_step
    while True:
        value, gradient, extra = objective.value_and_gradient(x)
        vertices = linear_minimisation(gradient, rows, allowed, products)
        vertex_rows = rows[vertices].to(x.dtype)
        gap = duality_gap(gradient, x, vertex_rows)
        size = step_rule(k, objective, x, vertex_rows - x, value, gap)
        if size == 0.0:
            return
        moved = (1.0 - size) * x + size * vertex_rows
        yield Step(k, size, value, gap, vertices, x, moved, extra)
        x, k = moved, k + 1
