"""From values that a person gave to a checked record, or to one sentence that names the option.

What it does not do: know a record's fields; the record checks itself (pydantic).
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from explorer.errors import UserError

# What the command line calls a field whose name says something else.
OPTIONS = {"n": "rollouts/--samples", "max-continuation-tokens": "failed-tokens"}
LONGEST = 60
R = TypeVar("R", bound=BaseModel)


def checked(record: type[R], options: dict[str, str] | None = None, **values: object) -> R:
    """A record of checked values.

    Args:
        record: its class.
        options: field -> option, where they differ.
        values: its fields.

    Raises:
        UserError: the first value that can't be, with the option's name.
    """
    try:
        return record(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        option = {**OPTIONS, **(options or {})}.get(name, name)
        raise UserError(f"--{option} can't be {repr(first['input'])[:LONGEST]}: {first['msg'].lower()}.") from error
