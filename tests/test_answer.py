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
    ("The answer is not 12.", "12"),
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
    "\n \t" * 20000, "$" * 30000, "\\text{" * 10000, "1 1/" * 15000, "5 x " * 15000, "3 percent " * 8000, "é" * 30000,
    "\x00" * 1000, "\ud800", "\u202e19", "<script>19</script>", "${19}`",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_read_in_linear_time(text):
    started = time.process_time()
    span = locate_answer(text)
    assert time.process_time() - started < 2.0  # a quadratic reader takes minutes
    assert span is None or text[span.start : span.end] == span.text
