"""How much of the answer a revised prefix carries: the leak measures of method.md ("The controls").

- hull mass: the share of each position's hull weights that lies on the answer's own tokens;
- log p(answer) after the prompt alone, after the unrevised and after the revised prefix: an answer that is likely with
  no reasoning at all needs none;
- where each correct continuation first states the answer, and whether an equation before that is false;
- log p of the rescued text after the plain prompt: could the model learn this trace at all?

What it does not do: run a control (`audit.py`, `audit_controls.py`), conclude (`audit_verdict.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from explorer.equations import find_equations
from explorer.frank_wolfe import hull_weights
from explorer.pipeline import Run
from explorer.records import Anchor, Continuation, Leaks, Start, Stated, Verdict
from explorer.split import token_at


def leaks(run: Run, point: int) -> Leaks:
    """Measure a run's leaks at `point`, an index into its trajectory; it must be split and moved that far."""
    model, split, anchor = run.model, run.split, run.anchor
    nothing = model.rows(())
    steps = run.steps[:point]
    prefix = split.prefix_token_ids
    weights = hull_weights(prefix, [step.vertices for step in steps], [step.step_size for step in steps])
    answer = model.tokens_like(anchor.token_ids[slice(*anchor.answer_span)])
    # As the model would say it at once: the connector's line break belongs to a text before it.
    bare = model.anchor((), model.gap + run.config.connector.lstrip(), run.problem.answer)

    def log_p(rows: torch.Tensor, where: Anchor) -> float:
        start, end = where.answer_span
        return model.log_probability(run.context, rows, where.token_ids[:end], end - start)

    correct = [
        item
        for item in run.after
        if item.start is Start.REVISED and item.step == point and item.verdict is Verdict.CORRECT
    ]
    stated = []
    for item in correct:
        ids = (*item.prefix_token_ids, *item.token_ids)
        place = first_statement(model.pieces(item.token_ids), run.problem.answer)
        stated.append(
            Stated(
                token=place,
                tokens=len(item.token_ids),
                false_equations=false_before(item, run.problem.answer),
                log_p=round(model.log_probability(run.context, nothing, ids, len(ids)), 5),
            )
        )
    return Leaks(
        step=point,
        hull_mass=tuple(round(sum(row.get(token, 0.0) for token in answer), 6) for row in weights),
        hull_mass_before=tuple(float(token in answer) for token in prefix),
        log_p_prompt=round(log_p(nothing, bare), 5),
        log_p_unrevised=round(log_p(model.rows(prefix), anchor), 5),
        log_p_revised=round(log_p(run.embeddings[point].to(model.device), anchor), 5),
        stated=tuple(stated),
    )


def first_statement(pieces: Sequence[str], answer: str) -> int | None:
    """Index of the token in which the answer, written as the gold one is, is complete for the first time; None if it is
    never written so.

    Args:
        pieces: the continuation's tokens as texts that join to the whole.
        answer: the gold answer; "8" is not found in "18", "8.5" or "8/3".
    """
    found = _statement("".join(pieces), answer)
    return None if found is None else min(token_at(pieces, found.end() - 1), len(pieces) - 1)


def _statement(text: str, answer: str) -> re.Match[str] | None:
    return re.search(rf"(?<![\w.,/]){re.escape(answer.strip())}(?![\w/]|[.,]\d)", text)


def false_before(item: Continuation, answer: str) -> int:
    """How many equations do not hold of those that the answer can rest on: of the prefix, and of the continuation up to
    where it first states the answer, that equation included; of all where the answer is never written so."""
    found = _statement(item.text, answer)
    text = item.prefix_text + item.text
    end = len(text) if found is None else len(item.prefix_text) + found.end()
    return sum(not equation.holds for equation in find_equations(text) if equation.result_start < end)


def false_equations(item: Continuation) -> int:
    """How many equations of prefix and continuation together do not hold."""
    return sum(not equation.holds for equation in find_equations(item.prefix_text + item.text))
