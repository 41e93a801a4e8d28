"""Payloads for the rollout and compare views in every state, hostile token texts among them. Made by hand; no model."""

from __future__ import annotations

import math
import re

HOSTILE = [
    "<script>window.hacked=1</script>",
    " `${x}`",
    "\u202eabc\u202c",
    " مرحبا",
    "\t\ttab",
    "a\u200bb",
    "\x00",
    " $\\frac{1}{2}$",
    "\n\n\n",
    "<img src=x onerror=window.hacked=2>",
    "W" * 200,
    "   ",
    "{{value}}",
    "</div>",
    "\u00a0",
    " 你好世界",
    "&amp;&lt;",
]
TEXTS = [
    "To find the total cost, we multiply the boxes by the price.\n\n17 * 6 = 92\n\nThe answer is 92.",
    "Each box costs 6 dollars.\n10 * 6 = 60\n7 * 6 = 44\n60 + 44 = 104\nThe answer is 104.",
    "The boxes are heavy and the boxes are heavy and the boxes are heavy and the boxes are",
    "17 * 6 = 102, so the answer is 102.",
]
VERDICTS = [("wrong", "92"), ("wrong", "104"), ("unjudged", None), ("correct", "102")]
SAMPLING = {"n": 4, "temperature": 0.8, "top_p": 1.0, "max_new_tokens": 96, "seed": 0}
PROBLEM = {"id": "rates-12", "family": "rates", "question": "What do 17 boxes at 6 dollars cost?", "answer": "102"}


def tokens(text: str) -> list[str]:
    """Split as a byte-level tokenizer would, roughly: words with their space, digits one by one, runs of newlines."""
    return re.findall(r" ?[A-Za-z]+| ?\d|\n+| ?[^\sA-Za-z\d]| +", text)


def wilson(k: int, n: int) -> list[float]:
    """The Wilson 95 % interval of k out of n."""
    z, p = 1.96, k / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))]


def rollout(index: int, texts: list[str], verdict=None, answer=None, finish="stop", running=False) -> dict:
    """One card's payload."""
    return {
        "index": index,
        "tokens": texts,
        "verdict": verdict,
        "answer": answer,
        "finish": None if running else finish,
        "running": running,
    }


def rollouts(**changes) -> dict:
    """Four finished rollouts: two wrong, one unjudged, one correct."""
    cards = [rollout(i, tokens(text), *VERDICTS[i]) for i, text in enumerate(TEXTS)]
    value = {
        "run_id": "mine",
        "state": "done",
        "message": "",
        "problem": PROBLEM,
        "sampling": SAMPLING,
        "done": 4,
        "tokens_per_second": None,
        "rollouts": cards,
        "summary": {
            "n": 4,
            "correct": 1,
            "wrong": 2,
            "unjudged": 1,
            "truncated": 0,
            "zero_hit": False,
            "interval": wilson(1, 4),
        },
        "split": None,
        "presets": None,
    }
    return value | changes


def streaming(k: int) -> dict:
    """The first k tokens of each rollout, still running."""
    cards = [rollout(i, tokens(text)[:k], running=True) for i, text in enumerate(TEXTS)]
    return rollouts(state="sampling", done=0, rollouts=cards, summary=None, tokens_per_second=110.0)


def split(m: int, c: int, index: int = 0, name: str = "fixed", why: str = "A fixed length.") -> dict:
    """Python's echo of a split."""
    return {"rollout": index, "m": m, "c": c, "name": name, "why": why}


def presets(index: int = 0) -> dict:
    """Two proposals, one of which is not available."""
    return {
        "rollout": index,
        "points": [
            {"name": "fixed", "label": "First 5 tokens", "m": 5, "why": "A fixed length."},
            {"name": "first-error", "label": "Before the first wrong equation", "m": None, "why": "No equation here."},
        ],
    }


def continuation(texts: list[str], verdict, answer, failed: list[str], markers=None) -> dict:
    """One continuation's payload; `shared` counted here, plainly."""
    shared = 0
    while shared < min(len(texts), len(failed)) and texts[shared] == failed[shared]:
        shared += 1
    return {
        "tokens": texts,
        "verdict": verdict,
        "answer": answer,
        "finish": "stop",
        "n_tokens": len(texts),
        "markers": markers or {},
        "shared": shared,
        "degenerate": False,
        "running": False,
    }


def compare(hostile: bool = False, **changes) -> dict:
    """Three arms of three continuations; the second revised one is the first that is correct."""
    prefix = tokens("To find the total cost, we multiply the boxes by the price.") + (HOSTILE if hostile else [])
    failed = tokens("\n\n17 * 6 = 92\n\nThe answer is 92.") + (HOSTILE if hostile else [])
    good = tokens("\n\n17 * 6 = 60 + 42\n\nWait, let me check: 102.\n\nThe answer is 102.") + (
        HOSTILE if hostile else []
    )
    wrong = tokens("\n\n17 * 6 = 96\n\nThe answer is 96.")
    moved = [*prefix[:3], " Michael", *prefix[4:]]
    arms = []
    for start, correct, own in (("revised", 1, moved), ("projected", 0, moved), ("original", 0, prefix)):
        samples = [continuation(wrong, "wrong", "96", failed) for _ in range(3)]
        if correct:
            samples[1] = continuation(good, "correct", "102", failed, {"wait": 1, "let me check": 1})
        arms.append(
            {
                "start": start,
                "label": f"{start.capitalize()} prefix",
                "explanation": "What this arm continued.",
                "prefix": own,
                "n": 3,
                "done": 3,
                "correct": correct,
                "wrong": 3 - correct,
                "unjudged": 0,
                "truncated": 0,
                "degenerate": 0,
                "interval": wilson(correct, 3),
                "mean_tokens": 21.0,
                "markers_per_rollout": 2 * correct / 3,
                "rollouts": samples,
            }
        )
    value = {
        "state": "done",
        "message": "",
        "step": 10,
        "steps_total": 10,
        "n": 3,
        "sampling": SAMPLING,
        "answer": "102",
        "before": {
            "prefix": prefix,
            "continuation": failed,
            "verdict": "wrong",
            "answer": "92",
            "finish": "stop",
            "n_tokens": len(failed),
            "markers": {"wait": 0},
        },
        "arms": arms,
        "rescue": {"rescued": True, "sentence": "Rescued: 1 of 3 is right.", "caveat": "The intervals overlap."},
    }
    return value | changes
