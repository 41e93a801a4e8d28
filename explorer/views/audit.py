"""The audit of the run on the stage: what each arm is, what it counted, what the counts say, how much of the answer the
prefix carries. A pure function from a trace; `assets/audit.js` shows it.

The finding is that of `audit_verdict.py`, whose rules rest on counts alone; here it is only put in words.

What it does not do: run a control, or judge by rules of its own.
"""

from __future__ import annotations

import re
from math import exp
from statistics import median
from typing import Any

from explorer.audit_controls import KINDS
from explorer.audit_verdict import Audit, Finding, conclude
from explorer.records import Leaks, Trace, Verdict
from explorer.statistics import wilson_interval
from explorer.views.success import percent

Payload = dict[str, Any]

# Of each arm: its name for people, and what it is for, in a sentence.
ARMS = {
    "revised": ("Revised", "Goes on from the moved points: this is the rescue that is in question."),
    "projected": (
        "Projected to tokens",
        "Goes on from the real token nearest to each moved point: does it survive as text?",
    ),
    "original": ("Unrevised prefix", "Goes on from the prefix as it was, with as many samples as the revised one."),
    "fresh": (
        "Plain prompt, equal compute",
        "New rollouts for what revision and its continuations cost: would more tries alone do it?",
    ),
    "unrevised": (
        "Unrevised prefix, equal compute",
        "The prefix as it was, continued for what the revision cost: is the prefix enough?",
    ),
    "decoy": (
        "Toward a wrong answer",
        "The same steps toward a decoy. If that is reached as often, the prefix hands over whatever it is told to.",
    ),
    "ban": ("Answer’s tokens banned", "No step may go toward a token of the answer itself: does it still get there?"),
    "toward-only": ("Toward only (λ = 0)", "Only the pull to the answer: does pushing the failure away matter?"),
    "away-only": ("Away only", "Only the push from the failure, the answer never looked at: can’t smuggle it in."),
    "no-hull": ("Without the hull", "Plain gradient descent, as far per step: does staying among real tokens matter?"),
    "random-vertices": (
        "Random directions",
        "As far, but toward tokens drawn by lot: is any push out of the rut enough?",
    ),
}
SAID = {
    Finding.NOT_RESCUED: (Verdict.WRONG, "Not rescued", "No continuation of the revised prefix is right."),
    Finding.SMUGGLED: (
        Verdict.WRONG,
        "Smuggled",
        "A wrong answer is reached about as often, or every right one rests on a false equation: no sign of reasoning.",
    ),
    Finding.LUCKY: (Verdict.UNJUDGED, "Lucky", "At equal compute plain resampling finds the answer as often."),
    Finding.REASONED: (
        Verdict.CORRECT,
        "Reached by reasoning",
        "None of the other explanations that these controls test for holds.",
    ),
    Finding.UNDECIDED: (
        Verdict.UNJUDGED,
        "Undecided",
        "The numbers so far do not tell luck, leak and reasoning apart.",
    ),
}


def audit_payload(
    trace: Trace,
    *,
    run_id: str = "",
    state: str = "idle",
    kind: str = "",
    doing: str = "",
    why_not: str = "",
) -> Payload:
    """The audit's table and finding.

    Args:
        trace: the run; with or without controls.
        run_id: names it.
        state: idle, running or cancelled.
        kind: the control that is running, or `leaks`.
        doing: how far it is.
        why_not: why its controls can't be run; empty when they can.
    """
    audit = conclude(trace)
    found = {} if audit is None else {one.name: one for one in audit.arms}
    targets = {control.kind: control.target for control in trace.controls}
    lacking = [name for name in KINDS if name not in found]
    leaks = trace.leaks if audit is not None and trace.leaks and trace.leaks.step == audit.step else None
    return {
        "run_id": run_id,
        "state": state,
        "ready": audit is not None,
        "step": audit.step if audit else None,
        "rows": [_row(name, found.get(name), targets.get(name), kind if state == "running" else "") for name in ARMS],
        "finding": None if audit is None else _finding(audit, lacking),
        "leaks": _leaks(leaks),
        "lacking": len(lacking),
        "complete": audit is not None and not lacking and leaks is not None,
        "progress": _progress(kind, doing) if state == "running" else None,
        "why_not": why_not,
    }


def _row(name: str, counted: Any, target: str | None, running: str) -> Payload:
    title, what = ARMS[name]
    row = {"name": name, "title": title, "what": what, "target": target if name == "decoy" else None}
    row["running"] = name == running
    if counted is None:
        return {**row, "n": 0}
    numbers = {key: getattr(counted, key) for key in ("n", "correct", "degenerate", "truncated")}
    return {**row, **numbers, "interval": list(counted.interval)}


def _finding(audit: Audit, lacking: list[str]) -> Payload:
    verdict, word, sentence = SAID[audit.finding]
    if audit.finding is Finding.UNDECIDED and lacking:
        sentence = "Not all controls were run yet, so nobody can tell luck, leak and reasoning apart."
    return {
        "finding": audit.finding.value,
        "verdict": verdict.value,
        "word": word,
        "sentence": sentence,
        "because": [_plain(reason) for reason in audit.because],
    }


def _plain(reason: str) -> str:
    """A reason with the arms' names for people, and as a sentence."""
    counted = re.fullmatch(r"([a-z-]+) (\d+ of \d+ \(.*\))", reason)
    if counted and counted[1] in ARMS:
        reason = f"{ARMS[counted[1]][0]}: {counted[2]}"
    found = re.fullmatch(r"(fresh|unrevised) finds as many(.*)", reason)
    if found:
        reason = f"{ARMS[found[1]][0].split(',')[0]}: finds as many{found[2]}"
    missing = re.fullmatch(r"not run: (.*)", reason)
    if missing:
        names = {name: title.lower() for name, (title, _) in ARMS.items()} | {"leaks": "the search for false equations"}
        reason = f"Not run yet: {'; '.join(names[name] for name in missing[1].split(', '))}"
    capped = re.fullmatch(r"(fresh|unrevised)( and unrevised)? had (.*)", reason)
    if capped:
        reason = f"{ARMS[capped[1]][0].split(',')[0]}{capped[2] or ''}: {capped[3]}"
    return f"{reason[:1].upper()}{reason[1:]}.".replace(" %", "\u202f%")


def _progress(kind: str, doing: str) -> Payload:
    if kind not in KINDS:
        words = "Measuring how much of the answer the prefix carries." if kind == "leaks" else "Starting."
        return {"done": len(KINDS) if kind == "leaks" else 0, "total": len(KINDS), "words": words}
    place = KINDS.index(kind)
    words = f"Control {place + 1} of {len(KINDS)}: {ARMS[kind][0].lower()}, {doing}"
    return {"done": place, "total": len(KINDS), "words": words}


def _signed(value: float) -> str:
    """A number with a real minus."""
    return f"{value:.2f}".replace("-", "−")


def _leaks(leaks: Leaks | None) -> list[Payload]:
    """The leak measures as {label, value, what}."""
    if leaks is None:
        return []
    mass, before = (100 * sum(values) / len(values) for values in (leaks.hull_mass, leaks.hull_mass_before))
    most = 100 * max(leaks.hull_mass)
    found = [
        (
            "Weight on the answer’s tokens",
            f"{mass:.1f} % of the prefix, {before:.1f} % before; most at one position {most:.0f} %",
            "How much of each point’s exact mixture is a token of the answer. Much of it is an answer written in.",
        ),
        (
            "Answer’s log-probability",
            " → ".join(
                f"{_signed(value)} ({words})"
                for value, words in (
                    (leaks.log_p_prompt, "prompt alone"),
                    (leaks.log_p_unrevised, "unrevised prefix"),
                    (leaks.log_p_revised, "revised prefix"),
                )
            ),
            f"Nats per answer token, with no reasoning in between; {_signed(leaks.log_p_revised)} is a probability of "
            f"{percent(exp(leaks.log_p_revised))} per token. An answer likely at once needs no reasoning.",
        ),
    ]
    places = sorted(one.token + 1 for one in leaks.stated if one.token is not None)
    if places:
        length = median(one.tokens for one in leaks.stated)
        found.append(
            (
                "Answer first written out",
                f"at token {median(places):g} of {length:g} (median of {len(places)}), earliest at {places[0]}",
                "An answer that stands there at once was not worked out.",
            )
        )
    if leaks.stated:
        false, n = sum(one.false_equations > 0 for one in leaks.stated), len(leaks.stated)
        low, high = wilson_interval(false, n)
        found.append(
            (
                "Correct ones with a false equation",
                f"{false} of {n} ({100 * low:.0f}–{100 * high:.0f} %)",
                "A right answer after a wrong equation does not follow from it.",
            )
        )
    plain = [one.log_p for one in leaks.stated if one.log_p is not None]
    if plain:
        found.append(
            (
                "Rescued text after the plain prompt",
                f"{_signed(median(plain))} nats per token (median of {len(plain)})",
                "How likely the model finds this text by itself: far below −3 it could hardly learn it.",
            )
        )
    return [{"label": label, "value": value, "what": what} for label, value, what in found]
