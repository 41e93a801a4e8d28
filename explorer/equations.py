r"""Equations that a text writes down in passing, and whether they hold: "23 + 45 = 58", "50% of 80 = 30".

A reader of model text, not a prover. It finds what stands on both sides of "=" (or "equals", "is" after a sum,
\approx), drops units and currency, and evaluates with exact fractions by a small recursive-descent parser with limits
on length, depth and size (no `eval`). Chains are checked link by link. Where the meaning is open (a variable, a
rounded decimal, "15/60 = 25%", "80 + 10% = 88", a remainder) it gives the text the benefit of the doubt: only an
equation that no sensible reading makes true is called wrong. So is one whose sides don't agree as bare numbers but are
measured in units that convert ("1/2 hour = 30 minutes"): it counts as no equation.

What works on numbers in words and signs that it doesn't follow ("log(100)", "5 squared", "9:00", a remainder) makes no
equation either.

What it does not do: understand words, algebra, or equations whose left side is no arithmetic ("total = 12"); convert
units, so that "1/2 hour = 20 minutes" passes.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor, isqrt

from explorer.units import UNIT_OR_MARK, units_of

MAX_TOKENS = 80
MAX_DEPTH = 20
MAX_BITS = 512  # of any numerator or denominator on the way
MAX_SIDE_CHARS = 400  # how far a side of an equation is read

_NUMBER = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,|\\!,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"""(?P<void>\d+(?::\d+)+)
    |(?P<number>(?:{_NUMBER}))
    |(?P<text>\\(?:text|mathrm|mbox|textbf)\s*\{{[^{{}}]*\}})
    |(?P<frac>\\[dt]?frac(?=\s*\{{))
    |(?P<digits>\\[dt]?frac\s?\d\s?\d(?!\d))
    |(?P<sqrt>\\?sqrt(?=\s*[({{])|√)
    |(?P<times>\\(?:times|cdot)(?![A-Za-z])|[×·∗]|(?<!\*)\*(?!\*)
        |(?<=[\d)}}])[ ]?[xX](?=[ ]?[\d$(])|(?<=[a-z][ ])x(?=[ ]\d)|\b(?:times|multiplied\s+by)\b)
    |(?P<divide>\\div(?![A-Za-z])|[÷/]|\bdivided\s+by\b)
    |(?P<plus>\+|\bplus\b)
    |(?P<minus>[-−–](?![A-Za-z])|\bminus\b)
    |(?P<power>\*\*|\^)
    |(?P<square>[²³])
    |(?P<percent>\\?%|\bpercent\b)
    |(?P<of>\bof\b)
    |(?P<half>\bhalf\b)
    |(?P<open>\\left\s*\(|[(\[{{])
    |(?P<close>\\right\s*\)|[)\]}}])
    |(?P<skip>\\?\$+|\\[()\[\],;:!\ ]|[€£¥~&]|\s+)
    |(?P<word>[A-Za-z][A-Za-z'’]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_EQUALS = re.compile(
    r"(?<![<>=!:≠])&?=(?![=>])|≈|\\approx(?![A-Za-z])|\b(?:is\s+equal\s+to|equals|is(?=\s+(?:about\s+|approximately\s+)?[$€£]?-?[\d.]))\b",
    re.IGNORECASE,
)
_LINE_OR_SENTENCE = re.compile(
    r"\n|(?<!\d)[.;!?:](?=\s)|(?<=\d)(?:[.;?:]|!(?!\s?[-+−–*/×·÷^=]))(?=\s|$)|,(?=\s)|\\\\|\$\$|→|⇒|\\implies|\\\]|\\\["
)
_LABEL = re.compile(
    r"(?i)\b(?:step|part|case|day|week|example|problem|question|equation)\s+#?\d+\s*[-–—:.)]|^\s*[-•*]\s"
)
# Words that end an expression; any other word is taken for a unit.
_BREAK_WORDS = """
    and or so then if but because since thus therefore hence which that we he she they it you i get
    gives have has had was were are is be the answer a an to from by with for on in at let when where
    while also now first next finally
"""
_BREAKS = frozenset(_BREAK_WORDS.split())
# Words and signs that work on numbers in ways we don't follow: what they stand in is never called an equation.
_WORK_WORDS = """
    doubled twice tripled thrice quadruple quadrupled halved squared cubed root factorial choose mod modulo
    sin cos tan log ln exp abs floor ceil ceiling gcd lcm lim than
"""
_WORKS = frozenset(_WORK_WORDS.split())
_NAMED_WORKS = """
    sum product difference quotient ratio average mean median add subtract multiply divide
"""
_NAMED_WORK = frozenset(_NAMED_WORKS.split())
_VOID_SIGNS = frozenset("!‖⌊⌋⌈⌉…±∓°π∞∑∏∫")
# LaTeX commands that are no work: layout, and what ends an expression.
_LAYOUT_COMMANDS = """
    boxed fbox left right displaystyle text mathrm mbox mathbf textbf begin end bigl bigr big degree hline
    underline item par newline
"""
_LAYOUT = frozenset(_LAYOUT_COMMANDS.split())
_END_COMMANDS = """
    quad qquad rightarrow longrightarrow leftrightarrow iff to therefore because
"""
_ENDS = frozenset(_END_COMMANDS.split())
_MULTIPLE_OF = re.compile(
    r"(?:square|cube)\s+(?:of|root)\b|(?:double|triple)\s+(?:(?:of|the|that|as|much|many)\s+){0,3}[$\\]{0,2}[\d(]",
    re.IGNORECASE,
)
_REMAINDER = re.compile(
    r"[\s,(;*_$]{0,6}(?:with\s+)?(?:an?\s+)?(?:remainder|rem\b|r\s*=?\s*\d|and\s+\d+\s*/|\\?p?mod|\\bmod)",
    re.IGNORECASE,
)
_ROUNDED = re.compile(r"\b(?:about|approx\w*|round\w*)")
_MODULO = re.compile(r"[^.\n;!?]{0,60}?\bmod(?:ulo)?\b", re.IGNORECASE)
# Of a division the remainder may be told in more words: "= 2 pens, with 2 left over".
_LEFT_OVER = re.compile(
    r".{0,60}?(?<!no )(?<!without )\bremainder\b|[^.\n;!?]{0,60}?(?<!no )(?<!without )\bleftovers?\b"
    r"|[^.\n;!?]{0,60}?\b\d[^.\n;!?]{0,20}?\b(?:left|remain(?:s|ing)?|spare)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Equation:
    """One link of an equation: source[start:end] is the left side, `result_start` where the stated result begins."""

    left: str
    right: str
    start: int
    end: int
    result_start: int
    holds: bool


class _Unknown(Exception):
    """This stretch of text is no arithmetic that we can evaluate."""


@dataclass(frozen=True)
class _Tok:
    kind: str
    text: str
    start: int
    end: int


def find_equations(text: str) -> tuple[Equation, ...]:
    """All equations of `text` that could be evaluated, in order. Time linear in the text."""
    text_plain = _LABEL.sub(lambda m: " " * len(m.group()), _blank_asides(text))
    signs = list(_EQUALS.finditer(text_plain))
    found = []
    for index, sign in enumerate(signs):
        left_from = max(signs[index - 1].end() if index else 0, sign.start() - MAX_SIDE_CHARS)
        right_to = min(
            signs[index + 1].start() if index + 1 < len(signs) else len(text_plain), sign.end() + MAX_SIDE_CHARS
        )
        for boundary in _LINE_OR_SENTENCE.finditer(text_plain, left_from, sign.start()):
            if text_plain[boundary.end() : sign.start()].strip(" \t&$\\"):  # "\n= 12" goes on with the line before
                left_from = boundary.end()
        chained = bool(index) and left_from == signs[index - 1].end()
        lead = len(text_plain[sign.end() : right_to]) - len(text_plain[sign.end() : right_to].lstrip())
        boundary = _LINE_OR_SENTENCE.search(text_plain, sign.end() + lead, right_to)
        if boundary:
            right_to = boundary.start()
        left = _longest_suffix(_tokens(text_plain, left_from, sign.start()), need_operator=not chained)
        right = _longest_prefix(_tokens(text_plain, sign.end(), right_to))
        if left is None or right is None:
            continue
        rest = text[right[-1].end : right[-1].end + 90]  # a remark in brackets counts here
        divides = any(token.kind in ("divide", "frac", "digits") for token in left)
        if _REMAINDER.match(rest) or (divides and _MODULO.match(rest)):
            continue
        worded = not sign.group().endswith(("=", "≈", "approx"))
        if worded and not any(tok.kind in _OPERATORS for tok in left):
            continue  # "the 12 is 12": only a worked sum makes "is" an equation
        rounded = sign.group().endswith(("≈", "approx")) or bool(_ROUNDED.search(rest[:40]))
        while right[0].kind == "open" and right[-1].kind == "close" and not _closes(right[:-1]):
            right = right[1:-1]  # the result itself, not its box
        holds = _holds(left, right, rounded)
        if holds is None or (not holds and _may_convert(text_plain, sign, left, right)):
            continue
        if not holds and divides and _drops_fraction(left, right) and _LEFT_OVER.match(rest):
            continue
        found.append(
            Equation(
                text[left[0].start : left[-1].end],
                text[right[0].start : right[-1].end],
                left[0].start,
                right[-1].end,
                right[0].start,
                holds,
            )
        )
    return tuple(found)


_OPERATORS = frozenset(("times", "divide", "plus", "minus", "power", "of", "frac", "digits"))
_STARTS = frozenset(("number", "open", "frac", "digits", "sqrt", "half"))
_JOINED = frozenset(("frac", "digits", "sqrt"))
_OPERANDS = frozenset(("number", "close", "percent", "square", "half", "digits"))
_WORK = _OPERATORS | {"sqrt", "square"}


def _blank_asides(text: str) -> str:
    """Markdown's ** and remarks in brackets, "43 (morning rolls)", as spaces, same length; 2**3 stays."""
    text = re.sub(r"(?<=\d )\([A-Za-z][A-Za-z' ]{0,60}\)", lambda m: " " * len(m.group()), text)
    return re.sub(r"(?<![\d)])\*\*|\*\*(?![\d(])", "  ", text)


def _tokens(text: str, start: int, end: int) -> list[_Tok]:
    """The tokens of text[start:end]; units become `unit`, anything that can't be part of arithmetic `break`."""
    tokens: list[_Tok] = []
    position = start
    named = operand = False  # "the sum of 3 and", "add 3 to"; but "the sum of all comes to" joins nothing
    while position < end:
        match = _TOKEN.match(text, position, end)
        kind, word = match.lastgroup, match.group()
        if kind == "word":
            lone = len(word) == 1
            behind = tokens[-1].kind if tokens else None
            after_number = behind == "number" and tokens[-1].end == position
            if _is_work(text, match, behind) or (behind == "void" and word.lower() in ("the", "a", "an")):
                kind = "void"
            elif word.lower() in _BREAKS or (word.lower() in _ENDS and text[position - 1 : position] == "\\"):
                joins = named and operand and word.lower() in ("and", "to", "from", "by", "with")
                kind, named = "void" if joins else "break", joins
            elif after_number and lone and word in "xyznabkpqw":
                kind = "break"  # 2x: a variable
            elif lone and word.lower() not in "mghlskc":
                kind = "break"
            else:
                kind = "unit"
                if word.lower() in _NAMED_WORK:
                    named, operand = True, False
        elif kind == "text":
            works = text.startswith("(", match.end()) or _WORKS & set(re.findall(r"[a-z]+", word.lower())[1:])
            kind = "void" if works else "unit"
        elif kind == "other" and (
            word in _VOID_SIGNS
            or word.isnumeric()
            or (word == "|" and text[max(0, position - 1) : position + 2].strip() != "|")
        ):
            kind = "void"
        elif kind == "other":
            kind = "skip" if word == "\\" else "break"
        if (
            kind == "divide"
            and re.match(r"/\s*[A-Za-z]", text[position : position + 3])
            and not text.startswith("/half", position)
        ):
            kind = "per"
        if kind in _OPERANDS or (kind == "break" and len(word) == 1 and word.isalpha()):
            operand = True  # a variable too
        if kind != "skip":
            tokens.append(_Tok(kind, word, position, match.end()))
        position = match.end()
    return _drop_units(tokens)


def _is_work(text: str, match: re.Match[str], behind: str | None) -> bool:
    """Whether a word works on the numbers beside it: "log(100)", "5 squared", "double 5"; `behind`: what it follows."""
    word = match.group().lower()
    if text[match.start() - 1 : match.start()] == "\\":
        return word not in _LAYOUT and word not in _ENDS
    if word in ("squared", "cubed") and behind == "unit":
        return False  # "15 cm squared"
    if text[match.start() - 1 : match.start()].isdigit() and text[match.end() : match.end() + 1].isdigit():
        return True  # 5C2, 2e3
    touches = text.startswith("(", match.end()) and word not in _BREAKS
    return word in _WORKS or touches or bool(_MULTIPLE_OF.match(text, match.start(), match.end() + 40))


def _drop_units(tokens: list[_Tok]) -> list[_Tok]:
    """Leave out unit words and "/hour" after an operand; a word where a number is expected stays, as a break."""
    kept: list[_Tok] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "per":
            while i + 1 < len(tokens) and tokens[i + 1].kind == "unit":
                i += 1
        elif token.kind == "unit":
            run = i
            while run < len(tokens) and tokens[run].kind in ("unit", "per", "of"):
                run += 1
            after_operand = bool(kept) and kept[-1].kind in ("number", "close", "percent", "square", "half")
            next_kind = tokens[run].kind if run < len(tokens) else "end"
            if after_operand and next_kind in ("power", "square"):
                # "15 cm^2": the unit's power, however it is bracketed
                run += 1
                size = _exponent_size(tokens, run) if next_kind == "power" else 0
                run += size
                next_kind = tokens[run].kind if run < len(tokens) else "end"
            if after_operand and next_kind in _STARTS:
                kept.append(_Tok("break", token.text, token.start, token.end))  # "5 boxes 3 apples"
            elif kept and kept[-1].kind in _OPERATORS and next_kind != "open":
                kind = "void" if next_kind == "number" else "break"  # "5 + drop 3 ="
                kept.append(_Tok(kind, token.text, token.start, token.end))
            elif not after_operand and next_kind not in _STARTS:
                kept.append(_Tok("break", token.text, token.start, token.end))  # "5 + apples ="
            elif run - i > 6:
                kept.append(_Tok("break", token.text, token.start, token.end))
            i = run - 1
        else:
            kept.append(token)
        i += 1
    return kept


def _exponent_size(tokens: list[_Tok], start: int) -> int:
    """How many tokens an exponent such as 2, -1 or {2} takes."""
    kinds = [token.kind for token in tokens[start : start + 4]]
    shapes = (["open", "minus", "number", "close"], ["open", "number", "close"], ["minus", "number"], ["number"])
    return next((len(shape) for shape in shapes if kinds[: len(shape)] == shape), 0)


def _longest_suffix(tokens: list[_Tok], *, need_operator: bool) -> list[_Tok] | None:
    """The longest run of tokens at the end of a left side that evaluates; None when it is cut by something unknown."""
    while tokens and tokens[-1].kind == "unit":
        tokens = tokens[:-1]
    tokens = tokens[-MAX_TOKENS:]
    last_break = max((i for i, token in enumerate(tokens) if token.kind in ("break", "per", "void")), default=-1)
    if last_break >= 0 and tokens[last_break].kind == "void":
        return None
    tokens = tokens[last_break + 1 :]
    for begin in range(len(tokens)):
        previous = tokens[begin - 1].kind if begin else None
        if previous in _OPERATORS | {"sqrt", "open"} and not (previous == "open" and begin == 1):
            continue  # what follows an operator is an operand, not the whole
        candidate = tokens[begin:]
        if previous == "half" or (begin and candidate[0].kind == "minus" and previous in _OPERANDS):
            return None  # it goes on from what can't be evaluated: "sqrt(2) - 3 + 4"
        if candidate[0].kind in _JOINED and (
            previous == "number" or (previous == "close" and tokens[begin - 1].end == candidate[0].start)
        ):
            return None  # "5\frac{1}{2}", "2\sqrt{9}"
        signed = begin == 0 and candidate[0].kind in ("minus", "plus") and len(candidate) > 1
        if signed and candidate[0].kind == "plus":
            return None  # the first operand is missing: "apples + 3 = 8"
        if signed and candidate[1].start > candidate[0].end:
            if last_break >= 0:
                return None
            continue  # "Total - 3 + 4": a dash, not a sign
        if candidate[0].kind in ("times", "divide", "power", "of", "square", "percent"):
            return None
        try:
            _evaluate(candidate, "hundredths")
        except _Unknown:
            continue
        product = any(a.kind in ("number", "close") and b.kind == "open" for a, b in pairwise(candidate))  # 4(3)
        worked = product or candidate[0].kind in _JOINED or any(tok.kind in _WORK for tok in candidate[1:])
        if need_operator and not worked:
            return None
        return candidate
    return None


def _longest_prefix(tokens: list[_Tok]) -> list[_Tok] | None:
    """The longest run at the start of a right side that evaluates, without a trailing operator."""
    stops = ("break", "unit", "per", "void")
    first_break = next((i for i, token in enumerate(tokens) if token.kind in stops), len(tokens))
    stop_kind = tokens[first_break].kind if first_break < len(tokens) else None
    if stop_kind == "void" and tokens[first_break].text.lower() == "than":
        compared = next((token.kind for token in tokens[first_break:] if token.kind != "void"), None)
        stop_kind = "void" if compared in _STARTS else "break"  # "2 more than 5"; "16 years older than Maya"
    if stop_kind == "void":
        return None
    tokens = tokens[: min(first_break, MAX_TOKENS)]
    # "\boxed{12}" and "(12": opening brackets without a partner are skipped.
    while tokens and tokens[0].kind == "open" and not _closes(tokens):
        tokens = tokens[1:]
    for end in range(len(tokens), 0, -1):
        candidate = tokens[:end]
        if end < len(tokens) and tokens[end].kind in _OPERATORS and stop_kind == "break" and end + 1 == len(tokens):
            return None  # "= 5 + x": the right side goes on with something unknown
        if end < len(tokens) and tokens[end].kind in _JOINED:
            return None  # "= 5\frac{1}{2}"
        try:
            _evaluate(candidate, "hundredths")
        except _Unknown:
            continue
        return candidate
    return None


def _closes(tokens: list[_Tok]) -> bool:
    depth = 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            return True
    return False


def _may_convert(text: str, sign: re.Match[str], left: list[_Tok], right: list[_Tok]) -> bool:
    """Whether units that were left out may bridge two sides that differ as bare numbers, "1 hour + 30 minutes = 90"."""
    start = left[0].start
    while start and text[start - 1] in "$€£¥\\ ":
        start -= 1
    ours = units_of(UNIT_OR_MARK.findall(text, start, sign.start()))
    theirs = units_of(_words_of_result(text, sign.end(), right))
    added = any(token.kind in ("plus", "minus") for token in left)
    for dimension in {dimension for dimension, _ in ours | theirs}:
        mine = {unit for unit in ours if unit[0] == dimension}
        yours = {unit for unit in theirs if unit[0] == dimension}
        if dimension == "count" and mine != yours:
            return True  # "1/2 dozen = 6": a bare number counts in ones
        if (mine and yours - mine) or len(yours) > 1:
            return True
        # Factors may be of several units, "2 hours × 60 minutes = 120 minutes", unless they make up another one: an
        # area, or a rate's, "60 km/h × 30 minutes = 30 km".
        if len(mine) > 1 and (added or dimension == "length" or not yours):
            return True
    return False


def _words_of_result(text: str, start: int, right: list[_Tok]) -> list[str]:
    """The unit words and marks of a right side: "5 feet 4 inches", and of "60 / 2 = 30 minutes" those of its end."""
    limit = min(len(text), right[-1].end + 80)
    boundary = _LINE_OR_SENTENCE.search(text, right[-1].end, limit)
    position, end = start, boundary.start() if boundary else limit
    if not units_of(UNIT_OR_MARK.findall(text, start, end)):
        return []  # the usual case, and quick
    words: list[str] = []
    since_number = 0
    while position < end:
        token = _TOKEN.match(text, position, end)
        kind, word = token.lastgroup, token.group()
        position = token.end()
        if kind in ("word", "text", "of"):
            since_number += 1
            here = UNIT_OR_MARK.findall(word)
            joins = word.lower() in ("and", "a", "an", "per")
            ends = word.lower() in _BREAKS or bool(units_of(words))  # "9 minutes after 2 hours"
            if since_number > 3 or (ends and not joins and not units_of(here)):
                break
            words += here
        elif kind == "skip" or word == "¢":
            words += UNIT_OR_MARK.findall(word)
        elif kind != "other":
            since_number = 0
        elif word != "\\" and (word not in "=≈" or units_of(words)):
            break
    return words


_READINGS = ("hundredths", "number", "change")


def _holds(left: list[_Tok], right: list[_Tok], rounded: bool) -> bool | None:
    """Whether any sensible reading makes the two sides equal; None when none can be evaluated."""
    verdict = None
    has_percent = any(token.kind == "percent" for token in (*left, *right))
    for left_value, left_reading in _values(left):
        for right_value, right_reading in _values(right):
            verdict = False
            if left_value == right_value:
                return True
            if _rounds_to(left_value, right_value, right, rounded, _whole_percent(left, right, right_reading)):
                return True
            # "15 / 60 = 25%" and "15 / 60 = 25" (percent meant) are both common and both meant well.
            times_100 = left_reading != "change" and right_reading != "change"
            if has_percent and times_100 and (left_value * 100 == right_value or left_value == right_value * 100):
                return True
    return verdict


def _drops_fraction(left: list[_Tok], right: list[_Tok]) -> bool:
    """Whether the right side is the left one without its fraction, as a division with a remainder leaves it."""
    results = {value for value, _ in _values(right)}
    return any(value.denominator != 1 and Fraction(floor(value)) in results for value, _ in _values(left))


def _values(side: list[_Tok]) -> list[tuple[Fraction, str]]:
    """The values that a side may have, each with its reading of per cent."""
    found = []
    for reading in _READINGS if any(token.kind == "percent" for token in side) else _READINGS[:1]:
        with contextlib.suppress(_Unknown):
            found.append((_evaluate(side, reading), reading))
    return found


def _rounds_to(exact: Fraction, stated: Fraction, right: list[_Tok], rounded: bool, whole: Fraction | None) -> bool:
    """Whether a stated decimal is the exact value rounded (or, of a value without an end, cut) to its last place.

    `whole` is what one counts in a stated whole number that may be rounded as well; None: such a number is exact.
    """
    numbers = [token.text for token in right if token.kind == "number"]
    if len(numbers) != 1:
        return False
    places = len(numbers[0].split(".")[1]) if "." in numbers[0] else 0
    unit = Fraction(1, 10**places)
    if places == 0 and not rounded:
        if whole is None:
            return False
        unit = whole
    endless = exact.denominator % 3 == 0 or _rest_of(exact.denominator) != 1
    distance = abs(exact - stated)
    outward = abs(stated) > abs(exact)
    nearest = distance < unit / 2 or (distance == unit / 2 and outward)
    return nearest or ((endless or rounded) and distance < unit and not outward)


def _whole_percent(left: list[_Tok], right: list[_Tok], reading: str) -> Fraction | None:
    """What one counts in a stated per cent, which may be a rounded one: 5/8 = 63%; None: it is no per cent."""
    if right[-1].kind != "percent":
        return None
    if reading != "number":
        return Fraction(1, 100)
    # Where 63% is the number 63, the left side must have got to hundreds by itself, or 3/4 would be 1%.
    times_100 = any(token.kind == "number" and token.text == "100" for token in left)
    return Fraction(1) if times_100 and all(token.kind != "percent" for token in left) else None


def _rest_of(denominator: int) -> int:
    """The denominator without its factors 2 and 5; 1 when the decimal ends."""
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator


# --- evaluation -----------------------------------------------------------------------------------------------------
# sum := term {(+|-) term}; term := factor {(*|/|of) factor}; factor := [-] atom [^ factor] [%]


def _evaluate(tokens: list[_Tok], percent: str) -> Fraction:
    """The exact value; raises _Unknown.

    `percent` says what n% is: "hundredths" n/100; "number" n, as many texts mean it; "change" n/100, but behind a plus
    or a minus n/100 of what stands before it, as "80 + 10% = 88" means it.
    """
    if not tokens or len(tokens) > MAX_TOKENS:
        raise _Unknown
    parser = _Parser(tokens, percent)
    value = parser.sum(0)
    if parser.at < len(tokens):
        raise _Unknown
    return value


class _Parser:
    """Recursive descent over `_Tok`s; `at` is the next token."""

    def __init__(self, tokens: list[_Tok], percent: str) -> None:
        self.tokens = tokens
        self.percent = percent
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at].kind if self.at < len(self.tokens) else None

    def take(self) -> _Tok:
        if self.at >= len(self.tokens):
            raise _Unknown
        self.at += 1
        return self.tokens[self.at - 1]

    def sum(self, depth: int) -> Fraction:
        begin = self.at
        value = self.term(depth)
        plain = all(token.kind != "percent" for token in self.tokens[begin : self.at])  # 50% + 10% adds up points
        while self.peek() in ("plus", "minus"):
            sign = 1 if self.take().kind == "plus" else -1
            begin = self.at
            change = self.term(depth)
            alone = [token.kind for token in self.tokens[begin : self.at]] == ["number", "percent"]
            if self.percent == "change" and plain and alone:
                change *= value
            value = _bounded(value + sign * change)
        return value

    def term(self, depth: int) -> Fraction:
        value = self.factor(depth)
        while True:
            kind = self.peek()
            if kind in ("times", "of"):
                if kind == "of" and not self._of_is_times():
                    raise _Unknown
                self.take()
                value = _bounded(value * self.factor(depth))
            elif kind == "divide":
                self.take()
                divisor = self.factor(depth)
                if divisor == 0:
                    raise _Unknown
                value = _bounded(value / divisor)
            elif kind == "open" and self.tokens[self.at - 1].end == self.tokens[self.at].start:
                value = _bounded(value * self.factor(depth))  # 4(3)
            else:
                return value

    def _of_is_times(self) -> bool:
        before = self.tokens[self.at - 1].kind
        fraction = self.at >= 2 and self.tokens[self.at - 2].kind == "divide"
        return before in ("percent", "half", "close") or fraction

    def factor(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise _Unknown
        if self.peek() == "minus":
            self.take()
            return -self.factor(depth + 1)
        value = self.atom(depth)
        kind = self.peek()
        if kind == "power":
            self.take()
            value = _power(value, self.factor(depth + 1))
        elif kind == "square":
            value = _power(value, Fraction(2 if self.take().text == "²" else 3))
        if self.peek() == "percent":
            self.take()
            if self.percent != "number":
                value /= 100
        return value

    def atom(self, depth: int) -> Fraction:
        token = self.take()
        if token.kind == "number":
            value = _number(token.text)
            mixed = self.tokens[self.at : self.at + 3]
            if [tok.kind for tok in mixed] == ["number", "divide", "number"] and value.denominator == 1:
                self.at += 3  # 1 1/2
                bottom = _number(mixed[2].text)
                if bottom == 0:
                    raise _Unknown
                return value + _number(mixed[0].text) / bottom
            return value
        if token.kind == "half":
            return Fraction(1, 2)
        if token.kind == "open":
            value = self.sum(depth + 1)
            if self.take().kind != "close":
                raise _Unknown
            return value
        if token.kind == "frac":
            top, bottom = self.atom(depth + 1), self.atom(depth + 1)
            if bottom == 0:
                raise _Unknown
            return top / bottom
        if token.kind == "digits":  # \frac12
            top, bottom = (int(digit) for digit in re.findall(r"\d", token.text))
            if bottom == 0:
                raise _Unknown
            return Fraction(top, bottom)
        if token.kind == "sqrt":
            return _root(self.atom(depth + 1))
        raise _Unknown


def _number(text: str) -> Fraction:
    digits = re.sub(r"[^\d.]", "", text)
    if len(digits) > 60:
        raise _Unknown
    return Fraction("0" + digits if digits.startswith(".") else digits)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Unknown
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or abs(exponent) > MAX_BITS or size * abs(int(exponent)) > MAX_BITS:
        raise _Unknown
    if base == 0 and exponent < 0:
        raise _Unknown
    return base ** int(exponent)


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise _Unknown
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    if top * top != value.numerator or bottom * bottom != value.denominator:
        raise _Unknown
    return Fraction(top, bottom)
