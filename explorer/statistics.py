"""Small numbers said honestly: intervals for rates, pass@k, and two counts that describe a rollout's text.

Sources: Wilson (1927) score interval; pass@k as estimated by Chen et al., 2021 (arXiv 2107.03374, section 2.1). The
reflection markers and the loop detector are ours.

What it does not do: judge answers (`verdict.py`), or claim that a marker proves reflection: it counts words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from math import comb, prod, sqrt

Z_95 = 1.959964  # two-sided 95 % quantile of the normal distribution

LOOP_WINDOW_TOKENS = 48
LOOP_PERIOD_TOKENS = 8

# Longer markers first, so that "let me double-check" counts once, as itself.
_MARKERS = {
    "let me check": r"let(?:\s+me|['’]?s|\s+us)\s+check",
    "let me verify": r"let(?:\s+me|['’]?s|\s+us)\s+verify",
    "let me see": r"let(?:\s+me|['’]?s|\s+us)\s+see",
    "double-check": r"(?:let(?:\s+me|['’]?s|\s+us)\s+)?double[-\s]check(?:ing|ed)?",
    "check:": r"check(?=\s*:)",
    "wait": r"wait(?=\s*[,.!…:;—–-]|\s+(?:a|no|that|I|let|but|the|this|maybe)\b|\s*$)",
    "hmm": r"h+m{2,}",
    "actually": r"actually",
    "however": r"however",
    "alternatively": r"alternatively",
    "on second thought": r"on\s+second\s+thoughts?",
    "I made a mistake": r"I(?:['’]ve|\s+have)?\s+made\s+(?:a|an)\s+(?:mistake|error)",
    "try again": r"try\s+(?:that\s+|this\s+|it\s+)?again",
}
_MARKER = re.compile(
    r"\b(?:" + "|".join(f"(?P<m{i}>{pattern})" for i, pattern in enumerate(_MARKERS.values())) + r")(?![A-Za-z])",
    re.IGNORECASE,
)


def wilson_interval(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a rate: the p for which |successes/n − p| ≤ z·sqrt(p(1−p)/n); (0, 1) when n is 0.

    Raises ValueError unless 0 ≤ successes ≤ n and z ≥ 0.
    """
    if not 0 <= successes <= n or z < 0:
        raise ValueError(f"no such count: {successes} of {n} at z = {z}")
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    scale = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    reach = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / scale
    # At the ends the formula is exact but rounding is not: 0 of n starts at 0.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == n else min(1.0, centre + reach)
    return low, high


def apart(lower: tuple[float, float], upper: tuple[float, float]) -> bool:
    """Whether one interval lies wholly below another: then the two rates differ by more than luck of the draw."""
    return lower[1] < upper[0]


def split_test(a: int, b: int) -> float:
    """Exact two-sided p-value of a split of a + b events into a and b as uneven as this, were each as likely to fall on
    either side; 1 when there are none. For counts of events under equal cost, or of pairs that differ."""
    return min(1.0, 2 * sum(comb(a + b, i) for i in range(min(a, b) + 1)) / 2 ** (a + b))


def sign_test(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact McNemar test of paired outcomes: the two-sided p-value of so uneven a split of the pairs that differ; 1
    when none differ. Raises ValueError for sequences of unequal length."""
    pairs = list(zip(first, second, strict=True))
    return split_test(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k rollouts, drawn without replacement from n of which c are correct, is correct.

    The unbiased estimator 1 − C(n−c, k) / C(n, k). Raises ValueError unless 0 ≤ c ≤ n and 1 ≤ k ≤ n.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} can't be estimated from {c} correct of {n}")
    if n - c < k:
        return 1.0
    return 1.0 - prod((n - c - i) / (n - i) for i in range(k))


def reflection_markers(text: str) -> dict[str, int]:
    """How often each sign of self-checking occurs ("wait", "let me check", "hmm", …); those that don't are left out.

    Case does not matter, whole words only, a longer marker is not counted again as a shorter one.
    """
    names = list(_MARKERS)
    counts: dict[str, int] = {}
    for match in _MARKER.finditer(text):
        name = names[int(match.lastgroup[1:])]
        counts[name] = counts.get(name, 0) + 1
    return counts


def is_degenerate(token_ids: Sequence[int]) -> bool:
    """Whether a rollout ended in a loop.

    That is: one n-gram of at most 8 tokens, repeated at least three times without a gap, covers more than half of the
    last 48 tokens. Texts of 24 tokens or fewer never do.
    """
    return _loops(tuple(token_ids[-LOOP_WINDOW_TOKENS:]))


# Every redraw asks again for the rollouts that were there before: of the 20 ms that a recorded run takes to open, 14
# were spent here.
@lru_cache(maxsize=4096)
def _loops(window: tuple[int, ...]) -> bool:
    needed = LOOP_WINDOW_TOKENS // 2
    for period in range(1, LOOP_PERIOD_TOKENS + 1):
        covered = 0  # tokens equal to the one a period before, in an unbroken row
        for i in range(period, len(window)):
            covered = covered + 1 if window[i] == window[i - period] else 0
            # The row and the first copy; with more than 24 tokens and a period ≤ 8 that is more than three copies.
            if covered + period > needed and covered >= 2 * period:
                return True
    return False
