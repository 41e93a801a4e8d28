"""Problems: a built-in bank, problems from a file, and one typed by hand.

The bank has 96 problems in eight families around the frontier of a 135-million-parameter model: one-step arithmetic
in words, and a few that take two steps. Seeded generators write them (`generate_bank`), `python -m explorer.problems`
writes `assets/problems.jsonl`, and each row carries the arithmetic `expression` that its question stands for, so that
a solver that shares nothing with the generator can check the answer.

What it does not do: fetch data sets, or judge answers (`verdict.py`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from pathlib import Path

from explorer.errors import UserError
from explorer.records import Problem
from explorer.verdict import DEFAULT_TIMEOUT_S, NoJudge, parse_gold

BANK_PATH = Path(__file__).resolve().parent.parent / "assets" / "problems.jsonl"
PER_FAMILY = 12
MAX_FILE_BYTES = 50 * 10**6
MAX_QUESTION_CHARS = 8_000
MAX_ANSWER_CHARS = 500
MAX_ROW_CHARS = 10**6
# All files share one checker of answers, so that one file must not keep it for hours.
CHECKING_S = 600.0
MOST_LATE = 3
SHOWN_BAD_ROWS = 5

_PEOPLE = ("Maya", "Omar", "Lena", "Tom", "Aisha", "Ravi", "Nora", "Felix", "Ines", "Hugo", "Mei", "Jonas")


@dataclass(frozen=True)
class BankItem:
    """A problem of the bank and the arithmetic it stands for, in Python's notation (`"(3 + 4) * 5"`, `"3/8 + 1/8"`)."""

    problem: Problem
    expression: str


@dataclass(frozen=True)
class BadRow:
    """A row of a problem file that could not be used: its line (1-based) and why, as a clause. `same_id`: it bears the
    id of an earlier row, so that nobody can say which of the two is meant."""

    line: int
    why: str
    same_id: bool = False


@dataclass
class _Patience:
    """Gives up on a file that has too many rows, or whose answers take too long to check."""

    name: str
    most: int | None
    seconds: float
    late: int = 0
    spent_s: float = 0.0

    def need_row(self, count: int) -> None:
        """Raises `UserError` for a row after the last that is allowed."""
        if self.most is not None and count > self.most:
            raise UserError(
                f"{self.name} has more than {self.most:,} rows, as many as are allowed here: split it into smaller "
                "files."
            )

    def took(self, line: int, seconds: float, refused: bool) -> None:
        """Count a row's check. Raises `UserError` where it was one too many."""
        # What goes beyond the checker's own limit was its start, or another file's turn.
        self.spent_s += min(seconds, DEFAULT_TIMEOUT_S)
        self.late += refused and seconds >= DEFAULT_TIMEOUT_S
        if self.late >= MOST_LATE:
            raise UserError(
                f"{self.name} was read up to line {line}, whose answer is number {MOST_LATE} that could not be checked "
                f"in {DEFAULT_TIMEOUT_S:g} s: give worked-out values only."
            )
        if self.spent_s > self.seconds:
            raise UserError(
                f"{self.name} was read up to line {line}; to check its answers took longer than the "
                f"{self.seconds:g} s that are allowed here: split it into smaller files, or give plain numbers."
            )


# One draft: question, answer, expression.
_Draft = tuple[str, Fraction, str]


def _easy(i: int) -> bool:
    """The first half of a family has smaller numbers, so that a weak model has hits as well as zero-hits."""
    return i < PER_FAMILY // 2


def _sum(rng: random.Random, i: int) -> _Draft:
    a, b = (rng.randint(11, 49), rng.randint(3, 29)) if _easy(i) else (rng.randint(14, 79), rng.randint(13, 78))
    who, other = rng.sample(_PEOPLE, 2)
    question = (
        f"What is {a} + {b}?",
        f"{who} has {a} marbles and {other} has {b} marbles. How many marbles do they have together?",
        f"A baker made {a} rolls in the morning and {b} in the afternoon. How many rolls were made that day?",
        f"Add {a} and {b}.",
        f"There are {a} red chairs and {b} blue chairs in a hall. How many chairs are in the hall?",
        f"{who} read {a} pages on Saturday and {b} pages on Sunday. How many pages is that in all?",
    )[i % 6]
    return question, Fraction(a + b), f"{a} + {b}"


def _difference(rng: random.Random, i: int) -> _Draft:
    b = rng.randint(3, 19) if _easy(i) else rng.randint(13, 58)
    a = b + (rng.randint(5, 20) if _easy(i) else rng.randint(12, 41))
    who, other = rng.sample(_PEOPLE, 2)
    question = (
        f"What is {a} - {b}?",
        f"{who} had {a} stickers and gave {b} of them to {other}. How many stickers does {who} have left?",
        f"A bus carries {a} people. At one stop {b} of them get off. How many people are still on the bus?",
        f"Subtract {b} from {a}.",
        f"A rope is {a} metres long. A piece of {b} metres is cut off. How many metres of rope are left?",
        f"{who} is {a} years old and {other} is {b} years old. How many years older is {who} than {other}?",
    )[i % 6]
    return question, Fraction(a - b), f"{a} - {b}"


def _product(rng: random.Random, i: int) -> _Draft:
    a, b = rng.randint(3, 9), rng.randint(4, 12) if _easy(i) else rng.randint(12, 29)
    who = rng.choice(_PEOPLE)
    question = (
        f"What is {a} × {b}?",
        f"A box holds {b} pencils. How many pencils do {a} boxes hold?",
        f"{who} plants {a} rows of {b} bulbs each. How many bulbs is that?",
        f"Multiply {b} by {a}.",
        f"A theatre has {a} rows with {b} seats in each row. How many seats does it have?",
        f"{who} walks {b} minutes every day. How many minutes does {who} walk in {a} days?",
    )[i % 6]
    return question, Fraction(a * b), f"{a} * {b}"


def _rate(rng: random.Random, i: int) -> _Draft:
    per, count = rng.randint(5, 12) if _easy(i) else rng.randint(12, 48), rng.randint(3, 8)
    total = per * count
    who = rng.choice(_PEOPLE)
    question, answer, expression = (
        (
            f"A train travels {total} kilometres in {count} hours. How many kilometres does it cover per hour?",
            per,
            f"{total} / {count}",
        ),
        (
            f"{who} types {per} words per minute. How many words does {who} type in {count} minutes?",
            total,
            f"{per} * {count}",
        ),
        (
            f"A pump fills {total} buckets in {count} hours. How many buckets does it fill in one hour?",
            per,
            f"{total} / {count}",
        ),
        (
            f"A cyclist rides {per} kilometres each hour. How many kilometres does the cyclist ride in {count} hours?",
            total,
            f"{per} * {count}",
        ),
        (
            f"{who} has {total} pages to read and reads {count} pages a day. How many days does it take?",
            per,
            f"{total} / {count}",
        ),
        (
            f"A printer prints {per} pages per minute. How many pages does it print in {count} minutes?",
            total,
            f"{per} * {count}",
        ),
    )[i % 6]
    return question, Fraction(answer), expression


def _price(rng: random.Random, i: int) -> _Draft:
    each, count = rng.randint(2, 6) if _easy(i) else rng.randint(7, 14), rng.randint(3, 9)
    total = each * count
    quarters = Fraction(rng.choice((5, 6, 7, 9, 10, 11, 13, 14)), 4)
    few = rng.choice((2, 4, 6))
    who = rng.choice(_PEOPLE)
    question, answer, expression = (
        (f"{count} notebooks cost ${total}. How many dollars does one notebook cost?", each, f"{total} / {count}"),
        (f"One ticket costs ${each}. How many dollars do {count} tickets cost?", total, f"{each} * {count}"),
        (
            f"{who} buys {few} sandwiches at ${float(quarters):.2f} each. How many dollars does {who} pay?",
            few * quarters,
            f"{few} * {float(quarters):.2f}",
        ),
        (
            f"{who} pays ${total} for {count} kilograms of cherries. What is the price of one kilogram, in dollars?",
            each,
            f"{total} / {count}",
        ),
        (f"A pen costs ${each}. How many pens can {who} buy with ${total}?", count, f"{total} / {each}"),
        (
            f"A shop sells apples at ${float(quarters):.2f} per kilogram. What do {few} kilograms cost, in dollars?",
            few * quarters,
            f"{few} * {float(quarters):.2f}",
        ),
    )[i % 6]
    return question, Fraction(answer), expression


def _percent(rng: random.Random, i: int) -> _Draft:
    share = rng.choice((10, 50) if _easy(i) else (20, 25, 75))
    whole = rng.choice((40, 60, 80, 120, 140, 160, 180, 220, 240, 260))  # multiples of 20: every share comes out whole
    even = 2 * (rng.randint(5, 20) if _easy(i) else rng.randint(21, 49))
    who = rng.choice(_PEOPLE)
    question, answer, expression = (
        (f"What is {share}% of {whole}?", Fraction(share * whole, 100), f"{share} * {whole} / 100"),
        (f"What is half of {even}?", even // 2, f"{even} / 2"),
        (
            f"A school has {whole} pupils and {share}% of them walk to school. How many pupils walk to school?",
            Fraction(share * whole, 100),
            f"{share} * {whole} / 100",
        ),
        (
            f"{who} collected {even} shells and gave half of them away. How many shells did {who} give away?",
            even // 2,
            f"{even} / 2",
        ),
        (
            f"A coat costs ${whole}. In a sale its price drops by {share}%. By how many dollars does the price drop?",
            Fraction(share * whole, 100),
            f"{share} * {whole} / 100",
        ),
        (
            f"Out of {whole} seeds, {share}% sprouted. How many seeds sprouted?",
            Fraction(share * whole, 100),
            f"{share} * {whole} / 100",
        ),
    )[i % 6]
    return question, Fraction(answer), expression


def _fraction(rng: random.Random, i: int) -> _Draft:
    # Lowest terms only: nobody writes 2/4 of 16.
    top, bottom = rng.choice([(p, q) for q in (3, 4, 5, 6, 8) for p in range(1, q) if gcd(p, q) == 1])
    whole = bottom * (rng.randint(2, 5) if _easy(i) else rng.randint(6, 15))
    pairs = [(p, r, q) for q in (5, 7, 8, 9, 11) for p in range(1, q) for r in range(1, q - p) if gcd(p * r, q) == 1]
    one, two, parts = rng.choice(pairs)
    who, other = rng.sample(_PEOPLE, 2)
    question, answer, expression = (
        (f"What is {one}/{parts} + {two}/{parts}?", Fraction(one + two, parts), f"{one}/{parts} + {two}/{parts}"),
        (f"What is {top}/{bottom} of {whole}?", Fraction(top * whole, bottom), f"{top}/{bottom} * {whole}"),
        (
            f"{who} ate {one}/{parts} of a cake and {other} ate {two}/{parts} of it. What fraction was eaten?",
            Fraction(one + two, parts),
            f"{one}/{parts} + {two}/{parts}",
        ),
        (
            f"There are {whole} children in a club and {top}/{bottom} of them play chess. How many of them play chess?",
            Fraction(top * whole, bottom),
            f"{top}/{bottom} * {whole}",
        ),
        (
            f"A tank was full. Then {one}/{parts} of the water was used. What fraction of the water is left?",
            1 - Fraction(one, parts),
            f"1 - {one}/{parts}",
        ),
        (
            f"{who} has {whole} coins and spends {top}/{bottom} of them. How many coins does {who} spend?",
            Fraction(top * whole, bottom),
            f"{top}/{bottom} * {whole}",
        ),
    )[i % 6]
    return question, Fraction(answer), expression


def _two_step(rng: random.Random, i: int) -> _Draft:
    a, b, c = rng.randint(2, 8), rng.randint(3, 6) if _easy(i) else rng.randint(6, 12), rng.randint(2, 19)
    big = a * b + c
    who, other = rng.sample(_PEOPLE, 2)
    spent = min(c, a * b - 1)
    question, answer, expression = (
        (
            f"{who} buys {a} boxes with {b} eggs each and already has {c} eggs. How many eggs does {who} have now?",
            a * b + c,
            f"{a} * {b} + {c}",
        ),
        (
            f"A shelf holds {big} books. {who} takes {c} of them and puts the rest equally into {a} bags. "
            "How many books does each bag hold?",
            b,
            f"({big} - {c}) / {a}",
        ),
        (
            f"{who} earns ${b} per hour. After working {a} hours, {who} spends ${spent}. How many dollars are left?",
            a * b - spent,
            f"{a} * {b} - {spent}",
        ),
        (
            f"{who} has {b} cards. {other} has {c} more cards than {who}. How many cards do they have together?",
            2 * b + c,
            f"{b} + ({b} + {c})",
        ),
        (
            f"A class has {b} boys and {c} girls. Each child gets {a} pencils. How many pencils are given out?",
            a * (b + c),
            f"({b} + {c}) * {a}",
        ),
        (
            f"A farmer picks {b} pears from each of {a} trees and buys {c} more. How many pears does the farmer have?",
            a * b + c,
            f"{b} * {a} + {c}",
        ),
    )[i % 6]
    return question, Fraction(answer), expression


_FAMILIES: dict[str, Callable[[random.Random, int], _Draft]] = {
    "sum": _sum,
    "difference": _difference,
    "product": _product,
    "rate": _rate,
    "price": _price,
    "percent": _percent,
    "fraction": _fraction,
    "two-step": _two_step,
}


def generate_items(seed: int = 0) -> tuple[BankItem, ...]:
    """The bank's problems with their expressions; the same seed gives the same items, no question occurs twice."""
    items = []
    for family, draft in _FAMILIES.items():
        rng = random.Random(f"{family}/{seed}")
        questions: set[str] = set()
        while len(questions) < PER_FAMILY:
            i = len(questions)
            question, answer, expression = draft(rng, i)
            if question in questions:
                continue
            questions.add(question)
            problem = Problem(
                id=f"{family}-{i + 1:02d}", question=question, answer=_written(answer), source="bank", family=family
            )
            items.append(BankItem(problem, expression))
    return tuple(items)


def generate_bank(seed: int = 0) -> tuple[Problem, ...]:
    """The bank's 96 problems, twelve of each family."""
    return tuple(item.problem for item in generate_items(seed))


def load_bank() -> tuple[Problem, ...]:
    """The bank as shipped in `assets/problems.jsonl`. Raises UserError when the file is missing or damaged."""
    try:
        lines = BANK_PATH.read_text(encoding="utf-8").splitlines()
        return tuple(Problem.model_validate_json(line) for line in lines)
    except (OSError, ValueError):
        raise UserError(
            f"The built-in problems can't be read: restore {BANK_PATH.name} with `python -m explorer.problems`."
        ) from None


def write_bank(path: Path = BANK_PATH) -> None:
    """Write `generate_items(0)` as JSON lines: the problem's fields and its `expression`."""
    rows = [{**item.problem.model_dump(), "expression": item.expression} for item in generate_items(0)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")


def _written(answer: Fraction) -> str:
    """A number as people write it: 12, 7.50 (quarters of a dollar come as cents), 3/8."""
    if answer.denominator == 1:
        return str(answer.numerator)
    if answer.denominator == 2 and answer > 1:
        return f"{float(answer):.2f}"
    return f"{answer.numerator}/{answer.denominator}"


def make_problem(question: str, answer: str) -> Problem:
    """A problem typed by hand; its id is a hash of its text, so the same problem always has the same id.

    Raises UserError for an empty or over-long question or answer, control characters, an answer that is no mathematics.
    """
    return _problem(question, answer, source="typed")


def _problem(question: str, answer: str, *, source: str, id: str = "", family: str = "") -> Problem:
    question, answer, id = question.strip(), answer.strip(), id.strip()
    if not question:
        raise UserError("The question is empty: type one.")
    if len(question) > MAX_QUESTION_CHARS:
        raise UserError(f"The question is longer than {MAX_QUESTION_CHARS:,} characters: shorten it.")
    if len(answer) > MAX_ANSWER_CHARS:
        raise UserError(f"The gold answer is longer than {MAX_ANSWER_CHARS} characters: give the final value only.")
    for name, text in (("question", question), ("gold answer", answer), ("id", id), ("family", family)):
        if any(_is_control(char) for char in text):
            raise UserError(f"The {name} contains control characters: retype it as plain text.")
    parse_gold(answer)
    digest = hashlib.sha256(f"{question}\n{answer}".encode()).hexdigest()[:10]
    return Problem(
        id=id or f"{source}-{digest}", question=question, answer=answer, source=source, family=family.strip()
    )


def _is_control(char: str) -> bool:
    """C0 and C1 controls but tab and line ends, the replacement character, and lone surrogates."""
    code = ord(char)
    return (code < 32 and char not in "\t\n\r") or 127 <= code < 160 or char == "\ufffd" or 0xD800 <= code < 0xE000


def read_problems(path: str | Path, most: int | None = None, checking_s: float = CHECKING_S) -> tuple[Problem, ...]:
    """Problems of a JSON-lines or CSV file with `question` and `answer`, optionally `id` and `family`.

    GSM8K's rows work as they are: of an answer that ends in ``#### 72`` the part after the mark counts.
    Raises UserError, naming the lines, when the file or any of its rows can't be used (`read_good_problems` goes on),
    at a row after the first `most`, at the third answer that can't be checked in time, and where all checks together
    take longer than `checking_s` seconds.
    """
    path = Path(path)
    problems, bad = read_good_problems(path, _Patience(path.name, most, checking_s))
    if bad:
        shown = "; ".join(f"line {row.line}: {row.why}" for row in bad[:SHOWN_BAD_ROWS])
        more = f"; and {len(bad) - SHOWN_BAD_ROWS} more" if len(bad) > SHOWN_BAD_ROWS else ""
        count = "one row" if len(bad) == 1 else f"{len(bad)} rows"
        raise UserError(f"{path.name} has {count} that can't be used ({shown}{more}): mend or remove them.")
    return problems


def read_good_problems(
    path: str | Path, patience: _Patience | None = None
) -> tuple[tuple[Problem, ...], tuple[BadRow, ...]]:
    """The usable problems of a file, and the rows that are not. Raises UserError when the whole file is unusable, or
    patience ends; without any, a slow answer is a row like others that can't be used."""
    path = Path(path)
    reader = {".jsonl": _json_rows, ".ndjson": _json_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path.name} is neither JSON lines (.jsonl) nor CSV (.csv): save the problems as one of these."
        )
    return problems_of_rows(path.name, reader(path.name, _file_text(path)), patience=patience)


def problems_of_rows(
    name: str,
    rows: Iterable[tuple[int, dict[str, object] | str]],
    unit: str = "line",
    patience: _Patience | None = None,
) -> tuple[tuple[Problem, ...], tuple[BadRow, ...]]:
    """The usable problems of numbered rows (or what is wrong with them), and the rows that are not.

    Args:
        name: what to call the collection in a complaint.
        rows: (number, row with question, answer and perhaps id and family; or a few words on what is wrong with it).
        unit: what the numbers count.
        patience: when to give up; None is never.

    Raises:
        UserError: there are no rows, none can be used, or patience ended.
    """
    problems: list[Problem] = []
    bad: list[BadRow] = []
    place_of_id: dict[str, int] = {}
    count = 0
    for place, row in rows:
        count += 1
        if patience is not None:
            patience.need_row(count)
        if isinstance(row, str):
            bad.append(BadRow(place, row))
            continue
        begun, problem = time.monotonic(), None
        try:
            problem = _problem_of_row(row)
        except NoJudge:  # nor would it start for the next row
            raise
        except UserError as error:
            why = str(error).rstrip(".")
            bad.append(BadRow(place, why[0].lower() + why[1:]))
        if patience is not None:
            patience.took(place, time.monotonic() - begun, refused=problem is None)
        if problem is None:
            continue
        if problem.id in place_of_id:
            named = row.get("id") not in (None, "")
            what = f"the id “{problem.id}”" if named else "the same problem"
            why = f"{what} stands in {unit} {place_of_id[problem.id]} already"
            bad.append(BadRow(place, why, same_id=named))
            continue
        place_of_id[problem.id] = place
        problems.append(problem)
    if not count:
        raise UserError(f"{name} holds no problems: write one per line, with a question and an answer.")
    if not problems:
        raise UserError(f"{name} holds no usable problem ({unit} {bad[0].line}: {bad[0].why}).")
    return tuple(problems), tuple(bad)


def _file_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path.name} is larger than {MAX_FILE_BYTES // 10**6} MB: split it into smaller files.")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: check its name.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path.name} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise UserError(
            f"{path.name} can't be read ({error.strerror}): check that it is a file you may open."
        ) from None


def _json_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    """(line, row or what is wrong with it) of each line that is not blank."""
    for line, raw in enumerate(_lines(text), 1):
        if not raw.strip():
            continue
        if len(raw) > MAX_ROW_CHARS:
            yield line, f"it is longer than {MAX_ROW_CHARS:,} characters"
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            yield line, "it is no valid JSON"
            continue
        yield line, row if isinstance(row, dict) else "it is no JSON object with a question and an answer"


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, one at a time: whoever stops at one does not pay for millions of them."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    """(first line, row or what is wrong with it) of each record; a quoted field may hold line ends."""
    if not text.strip():
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"it is no valid CSV ({error})"
            return  # a quote that never closes swallows the rest
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [field.strip().lower() for field in fields]
            missing = [column for column in ("question", "answer") if column not in header]
            if missing:
                raise UserError(f"{name} has no column “{missing[0]}”: its first line must name question and answer.")
        elif len(fields) != len(header):
            yield line, f"it has {len(fields)} fields where the first line names {len(header)}"
        else:
            yield line, dict(zip(header, fields, strict=True))


def _problem_of_row(row: dict[str, object]) -> Problem:
    """The problem of one row. Raises UserError."""
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str):
        raise UserError("it has no question")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)  # {"answer": 12}
    if not isinstance(answer, str):
        raise UserError("it has no answer")
    if "####" in answer:
        answer = answer.rsplit("####", 1)[1]
    id, family = (str(row[key]) if row.get(key) not in (None, "") else "" for key in ("id", "family"))
    return _problem(question, answer, source="file", id=id, family=family)


if __name__ == "__main__":
    write_bank()
