"""Intervals and pass@k against independent computations; markers and loops against texts counted by hand."""

from itertools import combinations

import pytest
from scipy.optimize import brentq

from explorer.statistics import (
    Z_95,
    apart,
    is_degenerate,
    pass_at_k,
    reflection_markers,
    sign_test,
    split_test,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 8), (1, 8), (4, 8), (8, 8), (1, 1), (0, 1), (3, 200), (499, 500)])
@pytest.mark.parametrize("z", [Z_95, 1.0, 2.575829])
def test_wilson_ends_solve_the_defining_equation(successes, n, z):
    rate = successes / n

    def excess(p):  # (rate - p)² = z² p (1 - p) / n at both ends
        return (rate - p) ** 2 - z * z * p * (1 - p) / n

    low, high = wilson_interval(successes, n, z)
    inside = 1e-6  # rate itself solves the equation when it is 0 or 1
    expected_low = 0.0 if successes == 0 else brentq(excess, 0.0, rate - inside, xtol=1e-14)
    expected_high = 1.0 if successes == n else brentq(excess, rate + inside, 1.0, xtol=1e-14)
    assert low == pytest.approx(expected_low, abs=1e-10)
    assert high == pytest.approx(expected_high, abs=1e-10)


def test_wilson_of_nothing_says_nothing_and_nonsense_is_refused():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 8)[0] == 0.0
    assert wilson_interval(8, 8)[1] == 1.0
    for successes, n in ((-1, 4), (5, 4), (1, 0)):
        with pytest.raises(ValueError, match="no such count"):
            wilson_interval(successes, n)


def test_wilson_covers_what_it_promises():
    from scipy.stats import binom

    # The share of outcomes whose interval holds the truth, summed exactly, is near 95 %.
    n = 40
    covered = [
        sum(binom.pmf(c, n, p) for c in range(n + 1) if wilson_interval(c, n)[0] <= p <= wilson_interval(c, n)[1])
        for p in (0.1, 0.3, 0.5, 0.7)
    ]
    assert 0.93 < sum(covered) / len(covered) < 0.97


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_equals_counting_all_draws(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            draws = list(combinations(range(n), k))  # rollouts 0..c-1 are the correct ones
            hits = sum(any(i < c for i in draw) for draw in draws)
            assert pass_at_k(n, c, k) == pytest.approx(hits / len(draws), abs=1e-12)


def test_pass_at_k_is_stable_for_large_counts_and_refuses_nonsense():
    assert pass_at_k(1000, 0, 1000) == 0.0
    assert pass_at_k(1000, 1, 500) == pytest.approx(0.5)
    assert pass_at_k(10**6, 10, 1) == pytest.approx(1e-5)
    for n, c, k in ((4, 5, 1), (4, 1, 5), (4, 1, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match="can't be estimated"):
            pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", {}),
        ("The answer is 12.", {}),
        ("Wait, that is wrong. WAIT! Wait", {"wait": 3}),
        ("The waiter waited; they wait for it, and await it.", {}),
        ("Let me check. Let's check: let us check", {"let me check": 3}),
        ("Let me double-check, then double check.", {"double-check": 2}),
        ("Let me verify this. let’s verify", {"let me verify": 2}),
        ("Hmm… hmmm. Ohm", {"hmm": 2}),
        ("Check: 3 + 4 = 7. Checkmate: no.", {"check:": 1}),
        ("Actually, I made a mistake.", {"actually": 1, "I made a mistake": 1}),
        ("However, I'll try again. However…", {"however": 2, "try again": 1}),
        ("factually howevers", {}),
    ],
)
def test_reflection_markers(text, counts):
    assert reflection_markers(text) == counts


def _loops_by_definition(tokens):
    """Plain reading of the definition: some stretch of the last 48 that is one n-gram written again and again."""
    window = tokens[-48:]
    for period in range(1, 9):
        for start in range(len(window)):
            for end in range(start + 25, len(window) + 1):
                stretch = window[start:end]
                gram = stretch[:period]
                if all(token == gram[i % period] for i, token in enumerate(stretch)):
                    return True
    return False


def test_degenerate_examples():
    assert is_degenerate([7] * 25)
    assert not is_degenerate([7] * 24)
    assert is_degenerate([1, 2, 3] * 9)
    assert is_degenerate(list(range(100)) + list(range(8)) * 4)
    assert not is_degenerate(list(range(9)) * 12)  # a period of nine is not looked for
    assert not is_degenerate(list(range(200)))
    assert not is_degenerate([5] * 100 + list(range(48)))  # only the end counts
    assert not is_degenerate([])


def test_degenerate_agrees_with_the_definition_on_random_texts():
    import random

    rng = random.Random(0)
    seen = {True: 0, False: 0}
    for _ in range(400):
        period = rng.randint(1, 10)
        loop = [rng.randint(0, 3) for _ in range(period)] * rng.randint(1, 60)
        tokens = [rng.randint(0, 50) for _ in range(rng.randint(0, 30))] + loop[: rng.randint(1, 50)]
        tokens += [rng.randint(0, 50) for _ in range(rng.choice((0, 0, 5, 20)))]
        expected = _loops_by_definition(tokens)
        assert is_degenerate(tokens) is expected, tokens
        seen[expected] += 1
    assert min(seen.values()) > 50


def test_z_is_the_normal_quantile():
    from scipy.stats import norm

    assert pytest.approx(norm.ppf(0.975), abs=1e-6) == Z_95


@pytest.mark.parametrize(("a", "b"), [(0, 0), (5, 0), (12, 2), (12, 4), (3, 7), (9, 9)])
def test_a_split_is_judged_by_counting_all_sequences_of_coins(a, b):
    n, extreme = a + b, min(a, b)
    as_uneven = sum(min(heads, n - heads) <= extreme for coins in range(2**n) for heads in [coins.bit_count()])
    assert split_test(a, b) == pytest.approx(as_uneven / 2**n)


def test_pairs_that_agree_say_nothing():
    first, second = [True, True, False, True, False], [True, False, False, False, False]
    assert sign_test(first, second) == split_test(2, 0) == 0.5
    with pytest.raises(ValueError, match="zip"):
        sign_test([True], [])


def test_apart_is_strictly_below():
    assert apart((0.0, 0.2), (0.3, 0.5))
    assert not apart((0.3, 0.5), (0.0, 0.2))
    assert not apart((0.0, 0.3), (0.3, 0.5))
