"""Units of measure that convert into one another, as texts spell them: an hour and minutes, a dozen and ones.

What it does not do: convert. `equations.py` only asks whether a conversion may stand between two numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Units that convert into one another: dimension: unit, with its spellings but for the plural s, | unit … "m" is a metre
# or a minute, "oz" a mass or a volume. "in" is left out: it is nearly always the preposition.
_UNIT_TABLE = """
    time: ms millisecond | s sec second | min minute m | h hr hour | day | wk week | fortnight
    time: month mo | yr year | decade | century centuries
    length: mm millimeter millimetre | cm centimeter centimetre | m meter metre | km kilometer kilometre
    length: inch inches | ft foot feet | yd yard | mi mile
    mass: mg milligram | g gram | kg kilogram kilo | ton tonne | oz ounce | lb pound | stone
    volume: ml milliliter millilitre | cl | dl | l liter litre | cup | pint | quart | gal gallon | oz ounce
    volume: tsp teaspoon | tbsp tablespoon
    money: $ dollar buck | ¢ c cent penny pennies | nickel | dime | quarter | € euro | £ pound | pence | ¥ yen
    data: bit | byte | kb kilobyte | mb megabyte | gb gigabyte | tb terabyte
    count: dozen | pair | couple | gross | hundred | thousand | million | billion | trillion
"""
UNIT_OR_MARK = re.compile(r"[A-Za-z]+|[$€£¢¥]")


def _read_units(table: str) -> dict[str, set[tuple[str, str]]]:
    """The units, as (dimension, unit), that each spelling may stand for."""
    units: dict[str, set[tuple[str, str]]] = {}
    for line in table.strip().splitlines():
        dimension, groups = line.split(":")
        for spellings in (group.split() for group in groups.split("|")):
            for spelling in spellings:
                for form in (spelling, f"{spelling}s"):
                    units.setdefault(form, set()).add((dimension.strip(), spellings[0]))
    for speed, length in (("mph", "mi"), ("kph", "km"), ("kmh", "km")):
        units[speed] = units[length] | units["h"]
    return units


_UNITS = _read_units(_UNIT_TABLE)


def units_of(words: Iterable[str]) -> set[tuple[str, str]]:
    """All units that some words may stand for, as (dimension, unit); other words give none."""
    return set().union(*(_UNITS.get(word.lower(), ()) for word in words))
