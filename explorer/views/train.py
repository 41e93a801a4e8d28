"""The training's screen, before anything runs: what may be asked for, what a request amounts to, one group of GRPO.
Pure functions from records; `assets/train-form.js` and `train-group.js` show them.

What it does not do: read files, know Gradio, start anything, score a token, tell how a training goes
(`train_progress.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from explorer.training.estimate import Estimate, gigabytes
from explorer.training.group import Group, gradient_weight, off_policy_weight
from explorer.training.request import Adapter, Inject, Method, Scale, TrainRequest
from explorer.training.traces import RESCUED, Chosen, TrainingTrace
from explorer.views.hunt import duration

Payload = dict[str, Any]

# Traces of a plan that are shown; the rest is counted.
SHOWN_TRACES = 6
LONGEST_TEXT = 700
UNITS = {Method.SFT: "row", Method.DPO: "pair", Method.GRPO: "prompt"}
METHODS = {Method.SFT: "SFT", Method.DPO: "DPO", Method.GRPO: "GRPO"}


# -- asking ----------------------------------------------------------------------------------------


def form_payload(sources: Sequence[Payload], sets: Sequence[Payload], presets: Payload, device: str) -> Payload:
    """What may be asked for.

    Args:
        sources: {id, label, runs} of each place that traces may come from.
        sets: {value, label} of each problem set.
        presets: the form's first values by method.
        device: whose sane values these are.
    """
    return {"sources": list(sources), "sets": list(sets), "presets": presets, "device": device}


def plan_payload(
    request: TrainRequest | None = None,
    *,
    ticket: int = 0,
    name: str = "",
    error: str = "",
    blocked: str = "",
    command: str = "",
    chosen: Chosen | None = None,
    found: int = 0,
    rows: Sequence[TrainingTrace] = (),
    left_out: Mapping[str, int] | None = None,
    prompts: int = 0,
    held_out: int = 0,
    estimated: Estimate | None = None,
    waiting: bool = False,
    group: Payload | None = None,
) -> Payload:
    """What a request amounts to, before anything runs.

    Args:
        request: None where it is faulty; `error` then says why.
        ticket: of which version of the form this tells.
        name: that the training would have.
        blocked: why it can't begin although it could be read.
        command: as a person would type it.
        chosen: what the filter let through; None where no trace could be read.
        found: correct texts in all sources.
        rows: what is trained on.
        left_out: how many texts were left out, by reason.
        prompts: of GRPO.
        held_out: problems that are looked at and never trained on.
        estimated: None where the model's shape is not known yet.
        waiting: the model is on its way: ask again.
        group: see `group_payload`.
    """
    return {
        "ticket": ticket,
        "name": name,
        "error": error,
        "blocked": error or blocked,
        "command": command,
        "traces": None if chosen is None else _traces(chosen, found, rows, left_out or {}),
        "facts": []
        if request is None or error or (blocked and not rows)
        else _facts(request, estimated, prompts, held_out),
        "waiting": waiting,
        "rate": None if request is None else f"{request.rate:g}",
        "beta": None if request is None else f"{request.kl:g}",
        "group": group,
    }


def _traces(chosen: Chosen, found: int, rows: Sequence[TrainingTrace], left_out: Mapping[str, int]) -> Payload:
    first: dict[str, TrainingTrace] = {}
    for row in rows:  # by question: problems of two files may have one id
        first.setdefault(row.question, row)
    sample = list(first.values())[:SHOWN_TRACES]
    more = [row for row in rows if row not in sample]
    lengths = sorted(len(row.completion_ids) for row in rows)
    words = f"{len(rows)} of {found} verified texts, of {count_words(len(first), 'problem')}"
    words += f", from {count_words(chosen.runs, 'run')}"
    if lengths:
        words += f"; {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}"
    return {
        "kept": len(rows),
        "words": words + ".",
        "left_out": [[why, count] for why, count in left_out.items()],
        "sample": [_shown(row) for row in [*sample, *more][:SHOWN_TRACES]],
    }


def _shown(row: TrainingTrace) -> Payload:
    mine = row.origin == RESCUED
    facts = [f"{len(row.completion_ids)} tokens"]
    if mine:
        facts.append(f"the first {row.prefix_tokens} a projected prefix")
        facts.append("leak score not known" if row.leak is None else f"leak score {row.leak:.2f}")
        facts.append(f"audit: {row.finding}" if row.finding else "not audited")
    if row.log_p is not None:
        facts.append(f"log p {row.log_p:.2f} nats per token under the plain prompt")
    if row.false_equations:
        facts.append(f"{count_words(row.false_equations, 'false equation')}")
    if not row.finished:
        facts.append("cut off")
    return {
        "origin": "Rescued" if mine else "Own",
        "problem": row.problem_id,
        "question": row.question[:LONGEST_TEXT],
        "answer": row.answer,
        "text": row.text[:LONGEST_TEXT] + ("…" if len(row.text) > LONGEST_TEXT else ""),
        "facts": " · ".join(facts),
    }


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def count_words(count: int, word: str) -> str:
    """1 row, 4 rows."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _facts(request: TrainRequest, estimated: Estimate | None, prompts: int, held_out: int) -> list[list[str]]:
    """[what, how much, of what or why] of each number of a plan."""
    per = f"{count_words(request.batch, UNITS[request.method])} each"
    if request.method is Method.GRPO:
        per += f", {request.group} completions of each prompt"
    facts = [["Updates", f"{request.updates:,}", per], ["Learning rate", f"{request.rate:g}", trained_words(request)]]
    if request.method is Method.GRPO:
        facts.insert(0, ["Prompts", f"{prompts:,}", "sampled in turn"])
    if estimated is not None:
        if estimated.epochs is not None:
            facts.append(["Each row is seen", f"{estimated.epochs:g} times", f"of {estimated.rows:,} rows"])
        share = f"of {estimated.read_tokens:,} read, prompts included"
        facts += [
            [
                "Tokens with a loss",
                f"{estimated.trained_tokens:,}",
                share + (" (at most)" if not estimated.epochs else ""),
            ],
            ["Time", f"about {duration(estimated.seconds)}", "an estimate; other work here slows it down"],
            ["Memory", f"about {gigabytes(estimated.memory_bytes)}", "an estimate, of its own process"],
            ["Disk", f"about {gigabytes(estimated.disk_bytes)}", "an estimate: two checkpoints and the model"],
        ]
    looked = f"one rollout each, every {request.eval_every} updates" if held_out else "no accuracy curve"
    return [*facts, ["Held-out problems", f"{held_out:,}", looked]]


def trained_words(request: TrainRequest) -> str:
    """What is trained, in a few words."""
    return f"LoRA of rank {request.lora_rank}" if request.adapter is Adapter.LORA else "all weights"


# -- one group -------------------------------------------------------------------------------------


def group_payload(
    row: TrainingTrace,
    problems: Sequence[tuple[str, str]],
    groups: tuple[Group, Group],
    request: TrainRequest,
    rollouts: int,
    *,
    texts: Sequence[str] = (),
    log_ps: Sequence[float] | None = None,
    why_not: str = "",
) -> Payload:
    """One group of GRPO, as it is and with the rescued trace in it.

    Args:
        row: the rescued trace.
        problems: (id, question) of those that have one, for choosing another, by its question: ids of two files may be
            the same.
        groups: without and with it.
        request: what the group follows from.
        rollouts: how many its run has; a group may be smaller than asked for.
        texts: of the trace's tokens.
        log_ps: their log-probabilities under the plain prompt, nats; None where they were not measured.
        why_not: why they can't be measured now.
    """
    without, entered = groups
    place = next((member for member in entered.members if member.rescued), None)
    return {
        "problem": row.question,
        "problems": [{"id": question, "label": f"{name}: {question[:60]}"} for name, question in problems],
        "run": row.run,
        "without": _members(without),
        "with": _members(entered),
        "words": _group_words(without, entered, request),
        "size": f"The first {len(without.members)} of the run’s {rollouts} rollouts stand for a group"
        + (f"; {request.group} were asked for." if request.group > len(without.members) else "."),
        "scaled": request.scale_rewards is Scale.GROUP,
        "mean_log_p": None if row.log_p is None else round(row.log_p, 3),
        "weights": None if log_ps is None else _weights(row, texts, log_ps, request, place.advantage if place else 0.0),
        "why_not": why_not,
    }


def _members(group: Group) -> list[Payload]:
    return [
        {
            "reward": member.reward,
            "advantage": round(member.advantage, 6),  # shown with two: rounded twice it would differ from the words
            "rescued": member.rescued,
            "tokens": member.tokens,
        }
        for member in group.members
    ]


def _group_words(without: Group, entered: Group, request: TrainRequest) -> str:
    right, n = sum(member.reward > 0 for member in without.members), len(without.members)
    said = f"{right} of {n} rollouts are right"
    said += (
        ": the advantages differ, so the group moves the weights as it is."
        if without.signal
        else ": all rewards are equal, so every advantage is 0" + ("." if request.zvp_alpha else ", and nothing moves.")
    )
    if any(member.rescued for member in entered.members):
        failed = next((member.advantage for member in entered.members if member.reward <= 0), 0.0)
        place = next(member for member in entered.members if member.rescued)
        return (
            f"{said} With the rescued trace in the place of the last failed one, its advantage is "
            f"{_signed(place.advantage)} and that of each failed one {_signed(failed)}."
        )
    if request.zvp_alpha and not without.signal:
        told = "α·H" if right else "−α·(max H − H), the maximum over its completion"
        return (
            f"{said} RL-ZVP (α = {request.zvp_alpha:g}) gives each token an advantage of its own, by the entropy H "
            f"where it was drawn: {told}."
        )
    never = request.inject is Inject.NEVER
    return f"{said} " + ("No rescued trace enters." if never else "No rescued trace enters this one: it needs none.")


def _weights(
    row: TrainingTrace, texts: Sequence[str], log_ps: Sequence[float], request: TrainRequest, advantage: float
) -> Payload:
    c = request.off_policy_c
    tokens = [
        {
            "text": text,
            "p": round(exp(log_p), 5),
            "log_p": round(log_p, 3),
            "weight": round(off_policy_weight(log_p, c), 4),
            "gradient": round(gradient_weight(log_p, c), 4),
            "masked": request.mask_prefix and place < row.prefix_tokens,
        }
        for place, (text, log_p) in enumerate(zip(texts, log_ps, strict=True))
    ]
    counted = [token["gradient"] for token in tokens if not token["masked"]]
    mean = sum(log_ps) / len(log_ps)
    return {
        "tokens": tokens,
        "prefix": row.prefix_tokens,
        "c": c,
        "words": f"Mean log p {mean:.2f} nats per token over {len(log_ps)} tokens, at temperature "
        f"{request.temperature:g}. A token’s gradient counts {sum(counted) / max(1, len(counted)):.2f} on average (1 "
        f"is an on-policy token), times the advantage {_signed(advantage)}.",
    }
