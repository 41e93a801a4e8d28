r"""Where texts state their answers: a table of texts with the answer a careful reader would take, and hostile texts."""

import time

import pytest

from explorer.answer import is_left_undone, is_plain_integer, locate_answer, to_latex

CASES = [
    ('The answer is "13/11." It comes from 6/11 by itself 11 times', "13/11"),
    ("49 (people who moved) - 49 (people", "49"),
    ("There are 15 blue chairs = 20 remaining chairs.\n#### 20\nThe correct answer is 20.", "20"),
    ("#### Step 2\n12 + 7 = 19", "19"),
    ("12 + 7 = 19", "19"),
    ("The total is 19 apples.", "19"),
    ("19.", "19"),
    ("$19", "19"),
    ("no number here", None),
    ("The answer is **19**.", "19"),
    ("\\boxed{19}", "19"),
    ("\\boxed{12} then \\boxed{19}", "19"),
    ("\\boxed{19", None),
    ("12+7=19. So \\boxed{1", None),
    ("we add 12 + 7", None),
    ("12 + 7 = 19. This is the sum of 12 + 7", "19"),
    ("The answer to 12 + 7 is 19, since 20 - 1 = 19.", "19"),
    ("The answer is 12 + 7 = 19 apples", "19"),
    ("The answer is 5 apples + 3 apples = 8 apples", "8"),
    ("The answer is the sum of 12 and 7, which is 19.", "19"),
    ("Answer: 3/4", "3/4"),
    ("The answer is $\\frac{3}{4}$.", "\\frac{3}{4}"),
    ("#### 72", "72"),
    ("The answer is:\n\n19", "19"),
    ("x = 2\\sqrt{3}", "2\\sqrt{3}"),
    ("$x = 2\\sqrt{3}$", "2\\sqrt{3}"),
    ("He pays $19 and gets $20", "20"),
    ("The answer is x^2+1.", "x^2+1"),
    ("The answer is x^2 + 2x + 1 because it is", "x^2 + 2x + 1"),
    ("1. Add 3\n2. So it is nineteen", "3"),
    ("It is 1,200 people", "1,200"),
    ("It is -3.5", "-3.5"),
    ("5 - 8 = -3", "-3"),
    ("5 - 8 = −3.", "−3"),
    ("4 × $3 = $13", "13"),
    ("\\[ 12 \\times 7 = 84 \\]", "84"),
    ("\\(12 \\div 4 = 3\\)", "3"),
    ("The answer is 42%.", "42%"),
    ("50% of 80 is 40", "40"),
    ("She has 19 (12 + 7) apples", "19"),
    ("The answer is 19 (12 + 7)", "19"),
    ("5 apples + 3 apples", None),
    ("9**9**9**9", "9**9**9**9"),
    ("15 + 2 =", None),
    ("The answer is a 5", "5"),
    ("It takes 7 m", "7"),
    ("The answer is 5x + 3", "5x + 3"),
    ("1 1/2 hours", "1 1/2"),
    ("The answer is 1 1/2.", "1 1/2"),
    ("Step 3: so 19 in all. Step 4", "19"),
    ("4 x 3 = 12", "12"),
    ("The answer is 12/4", "12/4"),
    ("So the answer is not 12, but 19.", "19"),
    ("The answer is 19. Is this answer correct? Yes.", "19"),
    ("**Answer:** $19.50", "19.50"),
    ("= \\frac{3}{4}", "\\frac{3}{4}"),
    ("The answer is not 12.", None),
    ("= 15 + 2 = 17 +", None),
    ("total: 7.5 hours", "7.5"),
    ("f(x) = 3x + 1", "3x + 1"),
    ("$5,$6", "6"),
    ("2^{10} = 1024", "1024"),
    ("3 \\times 10^5", "3 \\times 10^5"),
    ("Wait - 19", "19"),
    ("(19)", "19"),
    ("The answer is (19).", "19"),
    ("[19]", "19"),
    ("answer is \\( 19 \\)", "19"),
    ("The final answer is $\\$19$.", "19"),
    ("so 19th", "19"),
    ("= \\text{19 apples}", None),
    ("19 \\text{ apples}", "19"),
    ("The result is 23+45=68\n", "68"),
    ("60 miles/hour × 5 hours = 300 miles", "300"),
    ("1.5.", "1.5"),
    ("The answer is 5! = 120", "120"),
    # The value of a statement stands behind its last "=", also across units and "of".
    ("The answer is 20% of 50 = 10.", "10"),
    ("The answer is 20 percent of the 50 = 10.", "10"),
    ("The answer is $20\\%$ of $50$ = $10$.", "10"),
    ("The answer is 2/3 of 9 = 6", "6"),
    ("The answer is \\(\\frac{2}{3}\\) of 9 = 6", "6"),
    ("The answer is 2 hours = 120 minutes", "120"),
    ("The answer is 2 hours ≈ 120 minutes", "120"),
    ("The answer is $2$ hours $= 120$ minutes", "120"),
    ("The answer is 60 km/h * 2 h = 120 km", "120"),
    ("The answer is 60 km/h * 2 h = 120 km = 120,000 m.", "120,000"),
    ("The answer is 60 km/h * 2 h = 120 km for the 3 cars.", "120"),
    ("The answer is 2 times 6 = 12 = 3 × 4", "12"),
    ("The answer is 60 miles per hour × 2 hours = 120 miles.", "120"),
    ("The answer is 5 apples x 3 = 15 apples", "15"),
    ("The answer is 12 divided by 3 = 4", "4"),
    ("The answer is 12 minus 5 = 7 because 12 - 5 = 7 and 3 = 3.", "7"),
    ("The answer is 3 hours and 20 minutes = 200 minutes", "200"),
    ("The answer is 3 feet 4 inches = 40 inches", "40"),
    ("The answer is 7 out of 10 = 70%", "70%"),
    ("The answer is 2 hours = 60 × 2", "2"),
    # Where the statement ends, so does its value.
    ("The answer is 5, because 2 + 3 = 5.", "5"),
    ("The answer is 6, because 2 + 3 = 5.", "6"),
    ("The answer is 6 because 5 = 5.", "6"),
    ("The answer is 6 apples so total = 5.", "6"),
    ("The answer is 6 where n = 5.", "6"),
    ("The answer is 12 (3 boxes of 4).", "12"),
    ("The answer is 12 (3 * 5 = 15)", "12"),
    ("The answer is 2 hours (120 minutes).", "2"),
    ("The answer is 5. Next 3 + 4 = 7.", "5"),
    ("The answer is 5 apples, 3 + 4 = 7 pears", "5"),
    ("The answer is 5 apples and 3 pears", "5"),
    ("The answer is 5 apples and 3 + 4 = 7 pears", "5"),
    ("The answer is 5 apples > 3 apples", "5"),
    ("The answer is 5 apples – that is all.", "5"),
    ("The answer is 60 km/h - that is fast.", "60"),
    ("12 + 7 = 19. She has 15 apples - ", "19"),
    ("12 + 7 = 19. She has 15 apples - x", "19"),
    ("The answer is 60 km/h.", "60"),
    ("The answer is 60 km/h × 2 h.", None),
    # Of several answers that "or" joins the last counts.
    ("The answer is 5 or 6.", "6"),
    ("The answer is 5 apples or 6 pears.", "6"),
    ("The answer is $5, or about $6.", "6"),
    ("The answer is x = 5 or x = 6.", "6"),
    ("The answer is 2 hours = 120 minutes or 7200 seconds", "7200"),
    ("The answer is 5 or 3 + 3.", "5"),
    ("The answer is 5 or more, and 7 is prime.", "5"),
    ("The answer is 5 because 3 or 4 won't do.", "5"),
    # A part of something is a sum left undone; "of" behind a whole number only says what it is a part of.
    ("The answer is 20% of 50.", None),
    ("The answer is 2/3 of the 9 apples.", None),
    ("The answer is $20\\%$ of $50$.", None),
    ("The answer is \\(\\frac{2}{3}\\) of 9.", None),
    ("He needs 1/2 cup of 3 kinds", "3"),
    ("The answer is 20% of 50, which is 10.", "10"),
    ("10 it is. The answer is 20% of 50.", "10"),
    ("So we need \\frac{2}{3} \\text{ of } 9", None),
    ("He takes 20% of $50", None),
    ("The answer is 20% of the class.", "20%"),
    ("The answer is 7 out of 10", "7"),
    ("The answer is 5 of the 8 apples.", "5"),
    ("The answer is 3 boxes of 4.", "3"),
    # A unit's power is none of the number; what is no known unit stays algebra.
    ("The area is 24 m^2", "24"),
    ("The answer is 24 m².", "24"),
    ("The area is 24 cm^2.", "24"),
    ("The area is 24 cm^{2} - that is all", "24"),
    ("The area is $24$ cm$^2$.", "24"),
    ("The area is $24 m^2$.", "24"),
    ("24 is the area in cm^2.", "24"),
    ("The answer is 5 m/s.", "5"),
    ("It is 9.8 m/s^2.", "9.8"),
    ("The answer is 24 cm^2 = 2400 mm^2", "2400"),
    ("The answer is 5 m^2 + 3 m^2 = 8 m^2", "8"),
    ("The answer is 5 cm^2 + 3 cm^2.", None),
    ("The answer is 24x^2", "24x^2"),
    ("The answer is 24 x^2.", "24 x^2"),
    ("The answer is 24 m^2 + 3m.", "24 m^2 + 3m"),
    ("so m^2 + 1", "m^2 + 1"),
    ("E = m c^2", "m c^2"),
    # What is denied is no answer, wherever the answer is looked for.
    ("The answer cannot be 12.", None),
    ("The answer isn't 12.", None),
    ("The answer isn’t **$12**.", None),
    ("The answer is not equal to \\(12\\).", None),
    ("The answer is not 3 + 9 = 12.", None),
    ("The answer is not 12 or 13.", None),
    ("The answer is neither 12 nor 13 apples.", None),
    ("The answer ≠ 12.", None),
    ("x \\neq 12", None),
    ("x != 12", None),
    ("The answer is 5!= 120", "120"),
    ("12 is not the answer.", None),
    ("The answer is not 12. It is 19.", "19"),
    ("The answer isn't 12, it's 19.", "19"),
    ("The answer cannot be 12 but 19. We had 5.", "19"),
    ("The answer is not 12, but 19. We had 5.", "19"),
    ("The answer is 5, not 12.", "5"),
    ("So 5, not 12.", "5"),
    ("The answer is not easy to see: 12.", "12"),
    ("If not, 12 + 7 = 19", "19"),
    # A lone number that is shouted is no factorial.
    ("The answer is 12!", "12"),
    ("The answer is **-12!** So we have 5.", "-12"),
    ("The answer is the sum, 12! We had 5.", "12"),
    ("The answer is 3 + 4 = 7!!", "7"),
    ("So it's $12! - a lot", "12"),
    ("The answer is 5! ways", "5!"),
    ("The answer is $5!$.", "5!"),
    ("The sum is 5! - 3", "5! - 3"),
    ("12! / 10! = 132", "132"),
    # Behind a verb a minus is a sign, however it is spaced.
    ("The answer is - 3", "- 3"),
    ("The answer is equal to − $3.50.", "− $3.50"),
    ("The answer is - 3 + 5 = 2", "2"),
    ("Answer: - 3", "3"),
    ("The answer is - as I said - 3", "3"),
    # Several values in brackets, a ratio, and what a statement lists to its end are one answer.
    ("The answer is (3, 4).", "(3, 4)"),
    ("The answer is [-1,2/3]", "[-1,2/3]"),
    ("The set is $\\{1, 2\\}$.", "\\{1, 2\\}"),
    ("So $\\left(3, \\frac{1}{2}\\right)$", "\\left(3, \\frac{1}{2}\\right)"),
    ("(1, 2) + (2, 2) = (3, 4)", "(3, 4)"),
    ("The answers are 1, 2, 3.", "1, 2, 3"),
    ("The answer is $1,2,3$", "1,2,3"),
    ("The answers are 1, 2, and 3.", "1, 2, and 3"),
    ("The answer is 5, 3 more than 2.", "5"),
    ("The answer is 19. It cannot be 1, 2, 3.", "19"),
    ("The ratio is 2:3.", "2:3"),
    ("The score is 3:2!", "3:2"),
    ("The answer is (3, 4)!", "(3, 4)"),
    ("The answer is 2 : 3 = 4 : 6", "4 : 6"),
    ("Day 2:3 + 4 = 7", "7"),
    ("The answer is 1,234.", "1,234"),
    ("The answer is (1,234)", "1,234"),
    ("She has 12 (3, 9)", "12"),
    ("f(3, 4) = 7", "7"),
]


@pytest.mark.parametrize(("text", "answer"), CASES)
def test_the_answer_is_found_where_it_stands(text, answer):
    span = locate_answer(text)
    assert (span.text if span else None) == answer
    if span:
        assert text[span.start : span.end] == span.text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (r"The answer is 5. \boxed{19}", "boxed"),
        ("The answer is 19, as 20 - 1 = 19.", "stated"),
        ("#### 19", "stated"),
        ("12 + 7 = 19", "last"),
    ],
)
def test_how_it_was_found(text, kind):
    assert locate_answer(text).kind == kind


def test_the_place_is_that_of_the_statement_and_not_of_an_earlier_mention():
    text = "19 is my guess. The answer is 19. I like 19."
    assert locate_answer(text).start == text.index("is 19.") + 3
    boxed = r"We get \boxed{ 19 } apples"
    assert locate_answer(boxed).start == boxed.index("19")


@pytest.mark.parametrize(
    ("answer", "undone"),
    [
        ("12 + 7", True),
        ("12+7", True),
        ("$12 + 7$", True),
        ("3 × 4", True),
        ("3 x 4", True),
        (r"12 \times 7", True),
        ("12 / 4", True),
        ("(2 + 3) * 4", True),
        ("20% of 50", True),
        ("20 percent of $50", True),
        (r"20\% \text{ of } 50", True),
        ("2/3 of 9", True),
        (r"\frac{2}{3} of 9", True),
        ("7 of 10", False),
        ("7 out of 10", False),
        ("3/4 of it", False),
        ("42 percent", False),
        ("19", False),
        ("-19", False),
        ("3/4", False),
        ("1 1/2", False),
        ("1,200", False),
        ("42%", False),
        ("3 × 10^5", False),
        ("2^10", False),
        ("x + 1", False),
        (r"\sqrt{2} + 1", False),
    ],
)
def test_sums_left_undone(answer, undone):
    assert is_left_undone(answer) is undone


def test_whole_numbers():
    assert all(is_plain_integer(answer) for answer in ("12", " $1,200 ", "-3", r"\$5", "1{,}200"))
    assert not any(is_plain_integer(answer) for answer in ("1.5", "3/4", "x", "42%", "", "1,20"))


@pytest.mark.parametrize(
    ("answer", "latex"),
    [
        ("$12", "12"),
        ("1,200", "1200"),
        ("1{,}200", "1200"),
        (r"1\,200", "1200"),
        ("42%", r"42\%"),
        ("42 percent", r"42\%"),
        ("12 apples", "12"),
        (r"19 \text{ apples}", "19"),
        ("1 1/2", r"1\frac{1}{2}"),
        ("x = 3", "3"),
        ("5m", "5"),
        ("2x", "2x"),
        ("−3.", "-3"),
        (r"24 \text{ cm}^2", "24"),
        (r"24\text{ cm}^{2}", "24"),
        (r"24 \mathrm{m}³", "24"),
        (r"24 \text{ cm^2}", "24"),
        ("24 cm²", "24"),
        ("24 m^2", "24"),
        ("24 m/s^2", "24"),
        (r"\frac{3}{4} m^2", r"\frac{3}{4}"),
        ("24x^2", "24x^2"),
        ("24 x^2", "24 x^2"),
        ("2m + 24 m^2", "2m + 24 m^2"),
        (r"2\mathrm{e}^2", "2e^2"),
        (r"\text{12}^2", "12^2"),
        ("1, 2 and 3", "1, 2, 3"),
        ("(1, 2)", "(1, 2)"),
        ("12 or 13", None),
        ("3 4", None),
        ("hello", None),
        ("9**9**9**9", None),
        ("(" * 41 + "1" + ")" * 41, None),
        ("1" * 2001, None),
        ("", None),
        ("?", None),
    ],
)
def test_to_latex(answer, latex):
    assert to_latex(answer, only_one=True) == latex


HOSTILE = [
    "\\boxed{" * 3000, "{" * 30000 + "}" * 30000, "(" * 30000, "9" * 60000, "1 + " * 20000, "answer is " * 6000,
    "answer 1 " * 6000, "a " * 30000, "5 apples " * 8000, "-" * 30000, "1," * 30000, "**" * 20000, " " * 60000,
    "answer is 1 or 2 h " * 5000, "answer is 1" + " h or 2" * 10000, "answer is 20% of " * 4000, "20% of 9 " * 8000,
    "answer is 1 " + "h = 2 " * 10000, "answer is 5" + " " * 60000 + "or 6", "answer is 5 or" + " about" * 10000,
    "24 m^2 " * 9000, "2m + 24 m^2 + " * 5000, "5 cm^2 + " * 8000, "m/" * 30000, "answer is 5" + " m^2" * 15000,
    "answer is not 1 or " * 4000, "not 1" + " " * 60000 + "x 2", "not " * 20000 + "1", "is not 1 nor 2 " * 5000,
    "5!" * 30000, "answer is 5! " * 5000, "answer is 5!" + " " * 60000 + "x", "answer is - " * 5000 + "3", "!" * 60000,
    "(1, " * 15000, "(1" + ",111" * 15000, "answer is 1" + ", 1" * 15000, "1:2" * 15000, "\\{1,2" * 9000,
    "answer is 1, 2" + " " * 60000 + "x", "1 : " * 15000,
    "\n \t" * 20000, "$" * 30000, "\\text{" * 10000, "1 1/" * 15000, "5 x " * 15000, "3 percent " * 8000, "é" * 30000,
    "\x00" * 1000, "\ud800", "\u202e19", "<script>19</script>", "${19}`",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_read_in_linear_time(text):
    started = time.process_time()
    span = locate_answer(text)
    assert time.process_time() - started < 2.0  # a quadratic reader takes minutes
    assert span is None or text[span.start : span.end] == span.text
