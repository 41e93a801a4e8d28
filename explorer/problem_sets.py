"""Sets of problems by name, for hunts: the built-in bank or one of its families, a file, a Hugging Face dataset, a task
of reasoning-gym where that is installed.

What it does not do: know how a problem is checked or a text file read (`problems.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from explorer.errors import UserError
from explorer.problems import BadRow, load_bank, problems_of_rows, read_good_problems
from explorer.records import Problem

# What other collections call the two columns that count.
QUESTION_COLUMNS = ("question", "problem", "prompt", "input")
ANSWER_COLUMNS = ("answer", "final_answer", "target", "solution", "output")
DATASET, GYM = "datasets:", "reasoning-gym:"
GYM_SIZE = 100
# Of the rows that can't be used, so many are named in one sentence.
SHOWN_BAD_ROWS = 20

Found = tuple[tuple[Problem, ...], tuple[BadRow, ...]]


def problem_set(name: str, seed: int = 0) -> Found:
    """The problems of a set, and the rows of it that can't be used.

    Args:
        name: `bank`; a family of the bank (`sum`, …); a .jsonl, .csv or .parquet file; `datasets:ID` or
            `datasets:ID:SPLIT` (a hub id or a local folder that `datasets` reads); `reasoning-gym:TASK`.
        seed: of a generator's problems; the others have none.

    Raises:
        UserError: there is no such set, or nothing in it can be used.
    """
    bank = load_bank()
    if name == "bank":
        return bank, ()
    if name in (families := sorted({problem.family for problem in bank})):
        return tuple(problem for problem in bank if problem.family == name), ()
    if name.startswith(GYM):
        return _of_gym(name.removeprefix(GYM), seed)
    if name.startswith(DATASET):
        return _of_dataset(name.removeprefix(DATASET))
    path = Path(name).expanduser()
    if path.suffix.lower() == ".parquet":
        return _of_parquet(path)
    if not path.exists() and not path.suffix:
        raise UserError(
            f"There is no problem set {name!r}: use bank, a family of it ({', '.join(families)}), a .jsonl, .csv or "
            f".parquet file, {DATASET}ID or {GYM}TASK."
        )
    return read_good_problems(path)


def unit(name: str) -> str:
    """What the numbers of a set's rows count: lines of a text file, or rows."""
    is_text = not name.startswith((DATASET, GYM)) and Path(name).suffix.lower() != ".parquet"
    return "line" if is_text else "row"


def usable(name: str, found: Found, skip_bad: bool) -> tuple[Problem, ...]:
    """The problems of a set, if it may be used as it is.

    Args:
        name: what the set was asked for by.
        found: what `problem_set` gave.
        skip_bad: malformed rows are left out; without it they are refused. Two rows of one id always are: which of the
            two is meant, nobody can say.

    Raises:
        UserError: rows that can't be used, each with its number.
    """
    problems, bad = found
    doubled = [row for row in bad if row.same_id]
    refused = doubled if skip_bad else bad
    if not refused:
        return problems
    word = unit(name)
    listed = "; ".join(f"{word} {row.line}: {row.why}" for row in refused[:SHOWN_BAD_ROWS])
    more = f"; and {len(refused) - SHOWN_BAD_ROWS} more" if len(refused) > SHOWN_BAD_ROWS else ""
    count = "one row" if len(refused) == 1 else f"{len(refused)} rows"
    what = "that can't be used" if not skip_bad else "whose id another row has already"
    mend = "mend or remove them" + ("" if skip_bad or doubled else ", or leave them out with --skip-bad")
    raise UserError(f"{Path(name).name} has {count} {what} ({listed}{more}): {mend}.")


def _of_parquet(path: Path) -> Found:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        rows = table.to_pylist()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: check its name.") from None
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise UserError(f"{path.name} can't be read as Parquet: use a whole copy of it.") from error
    return _of_columns(path.name, table.column_names, rows)


def _of_dataset(name: str) -> Found:
    from datasets import load_dataset

    place, _, part = name.partition(":")
    try:
        rows = load_dataset(place, split=part or "train")
    except Exception as error:  # the hub, the network and the disk each have their own
        raise UserError(
            f"The dataset {place!r} (split {part or 'train'}) could not be loaded: check its name and split, and that "
            "the hub can be reached, or give a file."
        ) from error
    return _of_columns(place, rows.column_names, rows)


def _of_gym(task: str, seed: int) -> Found:
    try:
        import reasoning_gym
    except ImportError:
        raise UserError("reasoning-gym is not installed: pip install reasoning-gym, or use another set.") from None
    try:
        rows = reasoning_gym.create_dataset(task, size=GYM_SIZE, seed=seed)
    except ValueError as error:
        raise UserError(f"reasoning-gym has no task {task!r}: look up its name there.") from error
    found = ({"id": f"{task}-{i}", "family": task, **row} for i, row in enumerate(rows))
    return _of_columns(task, ("question", "answer"), found)


def _of_columns(name: str, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> Found:
    """Problems of rows whose question and answer may go by another name."""
    known = {column.lower(): column for column in columns}
    question = next((known[column] for column in QUESTION_COLUMNS if column in known), None)
    answer = next((known[column] for column in ANSWER_COLUMNS if column in known), None)
    if question is None or answer is None:
        missing = "question" if question is None else "answer"
        raise UserError(f"{name} has no column “{missing}”: it must have question and answer.")
    plain = (
        {key: _number(row[known[key]]) for key in ("id", "family") if key in known}
        | {"question": row[question], "answer": _number(row[answer])}
        for row in rows
    )
    return problems_of_rows(name, enumerate(plain, 1), "row")


def _number(value: object) -> object:
    """A plain number, or list, for one of numpy's; None for what a table left empty."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return None if plain is None or plain != plain else plain
