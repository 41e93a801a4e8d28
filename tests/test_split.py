"""Cuts of failed rollouts, with tokens made by hand: characters, words, and pieces that straddle the place."""

import random
import re

import pytest

from explorer.errors import UserError
from explorer.records import FinishReason, Rollout, Verdict
from explorer.split import (
    SplitPoint,
    before_answer,
    best_failed,
    best_preset,
    first_error,
    fixed,
    fraction,
    presets,
    split_at,
)


def words(text):
    """Tokens as byte-pair models make them: a space belongs to the word after it, digits stand alone."""
    return re.findall(r" ?[A-Za-z]+| |\d|.", text, re.DOTALL)


def rollout_of(tokens):
    return Rollout(token_ids=tuple(range(len(tokens))), text="".join(tokens), verdict=Verdict.WRONG)


def prefix(point, tokens):
    return "".join(tokens[: point.m])


# --- split_at -----------------------------------------------------------------------------------------------------


def test_both_sides_of_a_split():
    rollout = rollout_of(list("abcdefghij"))
    split = split_at(3, rollout, 4, 64)
    assert split.rollout == 3
    assert split.prefix_token_ids == (0, 1, 2, 3)
    assert split.continuation_token_ids == (4, 5, 6, 7, 8, 9)
    assert split_at(0, rollout, 4, 2).continuation_token_ids == (4, 5)
    assert split_at(0, rollout, 9, 64).continuation_token_ids == (9,)
    assert split_at(0, rollout, 1, 64).prefix_token_ids == (0,)


@pytest.mark.parametrize(
    ("length", "m", "limit", "says"),
    [
        (10, 0, 64, "no prefix"),
        (10, -3, 64, "no prefix"),
        (10, 10, 64, "no failed continuation"),
        (10, 99, 64, "end the prefix at token 9"),
        (1, 1, 64, "too few"),
        (0, 0, 64, "too few"),
        (10, 5, 0, "at least one token"),
    ],
)
def test_splits_that_leave_nothing_are_refused(length, m, limit, says):
    with pytest.raises(UserError, match=says):
        split_at(0, rollout_of(["x"] * length), m, limit)


# --- fixed and fraction -----------------------------------------------------------------------------------------------


def test_fixed_length():
    assert fixed(rollout_of(["x"] * 50), 24).m == 24
    assert fixed(rollout_of(["x"] * 10), 24).m == 9
    assert fixed(rollout_of(["x"] * 24), 24).m == 23
    assert fixed(rollout_of(["x"] * 10), 0).m == 1
    assert fixed(rollout_of(["x"]), 24).m is None


def test_fraction_of_the_length():
    assert fraction(rollout_of(["x"] * 50), 0.5).m == 25
    assert fraction(rollout_of(["x"] * 50), 0.0).m == 1
    assert fraction(rollout_of(["x"] * 50), 1.0).m == 49
    assert fraction(rollout_of(["x"] * 2), 0.5).m == 1
    assert fraction(rollout_of([]), 0.5).m is None
    assert "25 of 50" in fraction(rollout_of(["x"] * 50), 0.5).why


# --- before the first error -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("We add 23 + 45 = 58, so 58.", "We add 23 + 45 ="),
        ("2 + 2 = 4. Then 4 × $3 = $13.", "2 + 2 = 4. Then 4 × $3 = $"),
        ("12*7=74", "12*7="),
        ("50% of 80 = 30", "50% of 80 ="),
        ("5 apples + 3 apples = 9 apples", "5 apples + 3 apples ="),
        (r"\(12 \times 7 = 74\)", r"\(12 \times 7 ="),
        (r"\frac{12}{4} = \boxed{4}", r"\frac{12}{4} = \boxed{"),
        ("20 + 1 = 3 × 7 = 22", "20 + 1 = 3 × 7 ="),
        ("5 - 8 = -4", "5 - 8 ="),
    ],
)
def test_first_error_stops_before_the_result(text, before):
    tokens = words(text)
    rollout = rollout_of(tokens)
    point = first_error(rollout, tokens)
    assert point.name == "first-error"
    assert prefix(point, tokens).rstrip() == before
    assert "first wrong equation" in point.why
    split_at(0, rollout, point.m, 64)  # it can be laid
    # With one token per character the cut is exact, to the space.
    characters = list(text)
    exact = prefix(first_error(rollout_of(characters), characters), characters)
    assert text.startswith(exact)
    assert text[len(exact)] in "-0123456789"


def test_a_token_that_straddles_goes_to_the_continuation():
    for tokens, m in [
        (["23", " +", " 45", " =", " 58", "."], 4),  # leading space
        (["23", " +", " 45", " = 58", "."], 3),  # the sign and the result in one token
        (["23 + 45 ", "= 5", "8"], 1),
        (["23", " + 45 =", " ", "5", "8"], 3),
        (["23", "", " + 45 = ", "", "58"], 4),  # empty pieces (half a character) lie before the place
    ]:
        assert first_error(rollout_of(tokens), tokens).m == m, tokens


def test_no_wrong_equation_is_said():
    for text in ("2 + 2 = 4 and so on", "no numbers at all", "x + 1 = 5", ""):
        tokens = words(text)
        point = first_error(rollout_of(tokens), tokens)
        assert point.m is None
        assert "No wrong equation" in point.why


def test_an_error_in_the_very_first_token_leaves_no_prefix():
    tokens = ["1+1=3", " is what I say"]
    point = first_error(rollout_of(tokens), tokens)
    assert point.m is None
    assert "nothing before" in point.why


# --- before the final answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("We have 12 + 7 = 18.", "We have 12 + 7 ="),
        ("The answer is 18. Bye 3 times.", "The answer is"),
        (r"18 it is: \boxed{18}", r"18 it is: \boxed{"),
        ("She pays $18", "She pays $"),
        ("It is 3/4 of it", "It is"),
        ("#### 72", "####"),
    ],
)
def test_before_answer_stops_before_the_stated_answer(text, before):
    tokens = words(text)
    point = before_answer(rollout_of(tokens), tokens)
    assert point.name == "before-answer"
    assert prefix(point, tokens).rstrip() == before.rstrip()


def test_before_answer_without_an_answer():
    tokens = words("I do not know.")
    assert before_answer(rollout_of(tokens), tokens) == SplitPoint(
        "before-answer", None, "This rollout states no answer to stop before."
    )
    tokens = words("18 is it")
    assert before_answer(rollout_of(tokens), tokens).m is None
    tokens = words("perhaps we add 12 + 7")  # the verdict knew more than the text shows
    assert prefix(before_answer(rollout_of(tokens), tokens, "7"), tokens).rstrip() == "perhaps we add 12 +"


# --- all four -----------------------------------------------------------------------------------------------------


def test_presets_come_in_order_with_a_sentence_each():
    tokens = words("We add 23 + 45 = 58, so the answer is 58.")
    points = presets(rollout_of(tokens), tokens, "58", 5, 0.25)
    assert [point.name for point in points] == ["fixed", "fraction", "first-error", "before-answer"]
    assert points[0].m == 5
    assert points[1].m == round(len(tokens) / 4)
    assert points[2].m < points[3].m
    assert all(re.fullmatch(r"[A-Z].*\.", point.why) for point in points)


def test_whatever_the_tokens_a_cut_can_be_laid_and_does_not_cover_the_place():
    rng = random.Random(0)
    text = "First 12 + 7 = 19 apples.\nThen 19 × 3 = 56, so the answer is 56."
    wrong, final = text.index("56,"), text.index("56.")
    for _ in range(300):
        cuts = sorted(rng.sample(range(1, len(text)), rng.randint(2, 30)))
        tokens = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        rollout = rollout_of(tokens)
        points = {point.name: point for point in presets(rollout, tokens, "56")}
        for name, place in (("first-error", wrong), ("before-answer", final)):
            m = points[name].m
            if m is None:
                assert len(tokens[0]) > place
                continue
            split_at(0, rollout, m, 64)
            assert len("".join(tokens[:m])) <= place < len("".join(tokens[: m + 1]))


def test_the_best_preset_is_the_most_telling_one_that_exists():
    def best(text):
        tokens = words(text)
        return best_preset(presets(rollout_of(tokens), tokens))

    assert best("We add 23 + 45 = 58, so 58.").name == "first-error"
    assert best("So the total is 58.").name == "before-answer"
    assert best("I do not know it").name == "fixed"
    assert best("No") is None


def test_the_best_failed_rollout_is_wrong_where_one_can_see_it():
    texts = ["It is 68.", "No idea at all", "I say it is 58.", "23 + 45 = 58", "23 + 45 = 59."]
    verdicts = [Verdict.CORRECT, Verdict.UNJUDGED, Verdict.WRONG, Verdict.WRONG, Verdict.WRONG]
    rollouts = [
        rollout_of(words(text)).model_copy(update={"verdict": v}) for text, v in zip(texts, verdicts, strict=True)
    ]
    rollouts[3] = rollouts[3].model_copy(update={"finish": FinishReason.LENGTH})
    for chosen, length in ((4, 5), (3, 4), (2, 3), (1, 2)):
        some = rollouts[:length]
        pieces = {rollout.token_ids: words(rollout.text) for rollout in some}
        assert best_failed(some, lambda ids, pieces=pieces: pieces[tuple(ids)]) == chosen
