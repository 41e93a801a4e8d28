"""The bank re-solved twice by means of its own (sympy on expressions, a reader of the questions), and hostile files."""

import json
import re
from collections import Counter
from fractions import Fraction

import pytest
import sympy

from explorer import problems as bank
from explorer.errors import UserError
from explorer.problems import (
    BANK_PATH,
    generate_bank,
    generate_items,
    load_bank,
    make_problem,
    read_good_problems,
    read_problems,
    write_bank,
)


def rows():
    return [json.loads(line) for line in BANK_PATH.read_text(encoding="utf-8").splitlines()]


# --- the bank ---------------------------------------------------------------------------------------------------------


def test_the_file_is_what_the_generator_makes(tmp_path):
    assert load_bank() == generate_bank(0)
    write_bank(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == BANK_PATH.read_bytes()


def test_the_bank_is_large_varied_and_unique():
    problems = load_bank()
    assert len(problems) >= 60
    families = Counter(problem.family for problem in problems)
    assert len(families) >= 6
    assert set(families.values()) == {12}
    assert len({problem.id for problem in problems}) == len(problems)
    assert len({problem.question for problem in problems}) == len(problems)
    assert all(re.fullmatch(rf"{problem.family}-\d\d", problem.id) for problem in problems)
    assert all(problem.source == "bank" for problem in problems)
    for family in families:  # with the numbers taken out, at least six wordings each
        wordings = {re.sub(r"[\d./]+|\b[A-Z]\w+", "#", p.question) for p in problems if p.family == family}
        assert len(wordings) >= 6, family


def test_seeds_matter_and_repeat():
    assert generate_bank(1) == generate_bank(1)
    assert generate_bank(1) != generate_bank(0)


@pytest.mark.parametrize("seed", range(12))
def test_sympy_solves_every_expression_to_the_answer(seed):
    for item in generate_items(seed):
        assert re.fullmatch(r"[\d\s.+*/()-]+", item.expression)
        solved = sympy.nsimplify(sympy.sympify(item.expression, rational=True))
        assert solved == sympy.Rational(item.problem.answer), item
        assert solved > 0
        assert solved.q < 12


def numbers(text):
    return [Fraction(found) for found in re.findall(r"\d+/\d+|\d+(?:\.\d+)?", text)]


def solve_question(family, question):
    """Solve a question from its words alone, with none of the generator's code."""
    n = numbers(question)
    if family == "sum":
        return n[0] + n[1]
    if family == "difference":
        return abs(n[0] - n[1])
    if family == "product":
        return n[0] * n[1]
    if family in ("rate", "price"):
        a, b = n
        backwards = re.search(
            r"per hour\?|in one hour|How many days|one notebook cost|price of one|How many pens", question
        )
        return max(a, b) / min(a, b) if backwards else a * b
    if family == "percent":
        if "half" in question:
            return n[0] / 2
        share = Fraction(re.search(r"(\d+)%", question)[1])
        whole = next(value for value in n if value != share or n.count(value) == 2)
        return whole * share / 100
    if family == "fraction":
        if "left" in question:
            return 1 - n[0]
        of = any(value.denominator == 1 for value in n)
        return n[0] * n[1] if of else n[0] + n[1]
    if "How many eggs" in question or "buys" in question:
        return n[0] * n[1] + n[2]
    if "shelf" in question:
        return (n[0] - n[1]) / n[2]
    if "earns" in question:
        return n[0] * n[1] - n[2]
    if "cards" in question:
        return n[0] + n[0] + n[1]
    if "Each child" in question:
        return (n[0] + n[1]) * n[2]
    raise AssertionError(question)


@pytest.mark.parametrize("seed", range(5))
def test_every_question_re_solved_from_its_words_gives_the_answer(seed):
    for problem in generate_bank(seed):
        assert solve_question(problem.family, problem.question) == Fraction(problem.answer), problem


def test_expressions_use_the_numbers_of_the_question_only():
    for row in rows():
        spare = {Fraction(100), Fraction(2), Fraction(1)}
        told = set(numbers(row["question"])) | {Fraction(part) for part in re.findall(r"\d+", row["question"])}
        assert set(numbers(row["expression"])) <= told | spare, row


def test_a_damaged_bank_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(bank, "BANK_PATH", tmp_path / "problems.jsonl")
    with pytest.raises(UserError, match=r"restore problems\.jsonl"):
        load_bank()
    (tmp_path / "problems.jsonl").write_text("{broken", encoding="utf-8")
    with pytest.raises(UserError, match=r"restore problems\.jsonl"):
        load_bank()


# --- typed by hand ----------------------------------------------------------------------------------------------------


def test_typed_problem_is_stripped_and_named_by_its_text():
    problem = make_problem("  What is 3 + 4?\n", " 7 ")
    assert (problem.question, problem.answer, problem.source) == ("What is 3 + 4?", "7", "typed")
    assert problem.id == make_problem("What is 3 + 4?", "7").id
    assert problem.id != make_problem("What is 3 + 4?", "8").id
    assert re.fullmatch(r"typed-[0-9a-f]{10}", problem.id)


@pytest.mark.parametrize("answer", ["12", "-3.5", "$12", "42%", "1,200", "3/4", r"\frac{3}{4}", r"\sqrt{2}", "x^2+1"])
def test_answers_that_can_be_read(answer):
    assert make_problem("Q?", answer).answer == answer


@pytest.mark.parametrize(
    ("question", "answer", "says"),
    [
        ("", "1", "question is empty"),
        ("  \n", "1", "question is empty"),
        ("Q?", "", "gold answer is empty"),
        ("Q?", " \t", "gold answer is empty"),
        ("Q?", "nobody knows", "can't be read"),
        ("Q?", r"\frac{", "can't be read"),
        ("Q" * 8001, "1", "longer than 8,000"),
        ("Q?", "1" * 501, "longer than 500"),
        ("What\x00?", "1", "control characters"),
        ("What\x1b[31m?", "1", "control characters"),
        ("What?", "1\x07", "control characters"),
        ("What\ud800?", "1", "control characters"),
    ],
)
def test_typed_nonsense_is_refused_in_one_sentence(question, answer, says):
    with pytest.raises(UserError, match=says) as caught:
        make_problem(question, answer)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_the_longest_question_and_line_ends_are_fine():
    assert len(make_problem("Q" * 8000, "1").question) == 8000
    assert make_problem("one\ntwo\tthree", "1").question == "one\ntwo\tthree"


# --- files ------------------------------------------------------------------------------------------------------------


def saved(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_json_lines(tmp_path):
    path = saved(
        tmp_path,
        "p.jsonl",
        '{"question": "What is 1 + 1?", "answer": "2", "id": "a", "family": "sum"}\n\n'
        '{"question": "½ of 8?", "answer": 4}\n',
    )
    first, second = read_problems(path)
    assert (first.id, first.family, first.answer, first.source) == ("a", "sum", "2", "file")
    assert (second.answer, second.family) == ("4", "")
    assert second.id.startswith("file-")
    assert read_problems(str(path)) == (first, second)


def test_csv_with_quotes_line_ends_and_a_byte_order_mark(tmp_path):
    path = saved(tmp_path, "p.csv", '\ufeffQuestion,Answer,id\r\n"One, two\nthree?",3,x\r\nFour?,"1,200",y\r\n')
    first, second = read_problems(path)
    assert (first.question, first.answer, first.id) == ("One, two\nthree?", "3", "x")
    assert second.answer == "1,200"


def test_gsm8k_rows_work_as_they_are(tmp_path):
    row = {"question": "How many?", "answer": "She has 5 + 6 = <<5+6=11>>11 eggs.\n" + "x" * 900 + "\n#### 1,100"}
    (problem,) = read_problems(saved(tmp_path, "g.jsonl", json.dumps(row)))
    assert problem.answer == "1,100"


def test_the_bank_reads_as_a_problem_file():
    assert [p.question for p in read_problems(BANK_PATH)] == [p.question for p in load_bank()]


BAD = "\n".join(
    [
        '{"question": "Good?", "answer": "1", "id": "a"}',
        "not json",
        "[1, 2]",
        '{"question": "No answer?"}',
        '{"answer": "1"}',
        '{"question": "", "answer": "1"}',
        '{"question": "Odd?", "answer": "nobody knows"}',
        '{"question": "Twice?", "answer": "2", "id": "a"}',
        '{"question": "True?", "answer": true}',
        '{"question": "Nan?", "answer": NaN}',
        '{"question": "Fine?", "answer": "3/4"}',
        "[" * 100_000,
    ]
)


def test_bad_rows_are_named_by_line_and_can_be_skipped(tmp_path):
    path = saved(tmp_path, "bad.jsonl", BAD)
    with pytest.raises(UserError, match=r"bad.jsonl has 10 rows.*line 2: it is no valid JSON.*and 5 more"):
        read_problems(path)
    good, bad = read_good_problems(path)
    assert [problem.question for problem in good] == ["Good?", "Fine?"]
    assert [row.line for row in bad] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    why = {row.line: row.why for row in bad}
    assert "no answer" in why[4]
    assert "no question" in why[5]
    assert "empty" in why[6]
    assert "can't be read" in why[7]
    assert "“a” stands in line 1 already" in why[8]


def test_the_same_problem_twice_without_ids_is_a_duplicate(tmp_path):
    row = '{"question": "Q?", "answer": "1"}\n'
    with pytest.raises(UserError, match="line 2: the same problem stands in line 1 already"):
        read_problems(saved(tmp_path, "p.jsonl", row * 2))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.jsonl", "", "holds no problems"),
        ("p.jsonl", "\n \n", "holds no problems"),
        ("p.csv", "", "holds no problems"),
        ("p.csv", "question,answer\n", "holds no problems"),
        ("p.csv", "frage,antwort\n1,2\n", "no column “question”"),
        ("p.csv", "question,id\n1,2\n", "no column “answer”"),
        ("p.csv", "question,answer\nQ?\n", "line 2: it has 1 fields"),
        ("p.csv", 'question,answer\nQ?,1\n"open,2\n', "line 3: it is no valid CSV"),
        ("p.jsonl", b'{"question": "\xff\xfe", "answer": "1"}', "not UTF-8"),
        ("p.txt", "x", "neither JSON lines"),
        ("p", "x", "neither JSON lines"),
        ("p.jsonl", "nonsense", "no usable problem"),
    ],
)
def test_unusable_files(tmp_path, name, content, says):
    with pytest.raises(UserError, match=says):
        read_problems(saved(tmp_path, name, content))


def test_missing_folder_and_huge_files(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_problems(tmp_path / "nowhere.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match="can't be read"):
        read_problems(tmp_path / "folder.jsonl")
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as file:
        file.truncate(50 * 10**6 + 1)  # sparse: takes no space
    with pytest.raises(UserError, match="larger than 50 MB"):
        read_problems(huge)


def questions(*answers):
    return "".join(json.dumps({"question": f"Q{i}?", "answer": answer}) + "\n" for i, answer in enumerate(answers))


@pytest.fixture
def slow(monkeypatch):
    """A checker of which each answer that is no number takes so many seconds; slower than its limit it is refused."""
    now = [0.0]

    def check(answer):
        if not answer.isdigit():
            now[0] += float(answer)
            if float(answer) >= bank.DEFAULT_TIMEOUT_S:
                raise UserError("can't be read as mathematics")

    monkeypatch.setattr(bank, "parse_gold", check)
    monkeypatch.setattr(bank.time, "monotonic", lambda: now[0])
    return now


def test_the_third_answer_that_is_late_ends_a_file(tmp_path, slow):
    path = saved(tmp_path, "p.jsonl", questions("1", "5.5", "2", "6.5", "3", "5.5", *["5.5"] * 500))
    with pytest.raises(UserError, match=r"^p.jsonl was read up to line 6, whose answer is number 3 .* in 5 s: give"):
        read_problems(path)
    assert slow[0] == 17.5
    # A hunt may leave slow rows out, and waits for them.
    assert len(read_good_problems(saved(tmp_path, "few.jsonl", questions("1", "5.5", "6.5", "5.5", "2")))[0]) == 2


def test_all_checks_of_a_file_have_a_time(tmp_path, slow):
    path = saved(tmp_path, "p.jsonl", questions(*["4.5"] * 500))
    with pytest.raises(UserError, match=r"^p.jsonl was read up to line 14; .* longer than the 60 s .*: split it"):
        read_problems(path, checking_s=60)
    assert slow[0] == 14 * 4.5
    assert len(read_problems(saved(tmp_path, "fast.jsonl", questions(*map(str, range(7_500)))))) == 7_500


def test_a_file_of_many_questions(tmp_path):
    path = saved(tmp_path, "p.jsonl", questions("1", "2", "3"))
    assert len(read_problems(path, most=3)) == 3
    with pytest.raises(UserError, match=r"^p.jsonl has more than 2 rows"):
        read_problems(path, most=2)
    with pytest.raises(UserError, match=r"has more than 2 rows"):
        read_problems(saved(tmp_path, "bad.jsonl", "1\n" * 1000), most=2)
    long = saved(tmp_path, "long.jsonl", questions("1") + '{"x":[' + "[]," * 400_000 + "0]}\n")
    with pytest.raises(UserError, match="line 2: it is longer than 1,000,000 characters"):
        read_problems(long)


def test_without_a_checker_the_first_row_says_so(tmp_path, monkeypatch):
    asked = []

    def lost(answer):
        asked.append(answer)
        raise bank.NoJudge("The answer checker could not start.")

    monkeypatch.setattr(bank, "parse_gold", lost)
    with pytest.raises(bank.NoJudge):
        read_good_problems(saved(tmp_path, "p.jsonl", questions("1/2", "1/3")))
    assert asked == ["1/2"]
