r"""Where a text states its answer, and the answer as LaTeX that math-verify can read.

A text is read the way a marker would: the last closed ``\boxed{…}`` counts; else what follows the last "answer is …"
(or "Answer: …", or GSM8K's ``####``); else the last number or expression that is not itself part of a sum left undone,
so that "12 + 7 = 19" states 19, and "we add 12 + 7" or "20% of 50" states nothing. A box that was never closed states
nothing. What follows "answer is" is read to the end of its chain, units or not: "2 hours = 120 minutes" states 120. Of
"7 out of 10" the 7 counts: behind a whole number, "of" names what it is a part of and asks for no work.
What a text denies, "is not 12", is nowhere its answer. "(3, 4)", "2:3" and a list that ends a statement are one answer.

Everything here is pure text work in time linear in the text. What it does not do: decide whether the answer is right
(`verdict.py`), read numbers written as words, or follow a text that names several answers in other ways (the last one
counts).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

MAX_ANSWER_CHARS = 2_000  # longer "answers" are runaway text, and parsers choke on them

MAX_NESTING = 40  # deeper brackets take the LaTeX grammar minutes

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,|\\!,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_FUNCTIONS = "sqrt|sin|cos|tan|log|ln|exp|pi"
_NUMBER = re.compile(_DIGITS)
# Several values that are one answer: (3, 4), [1, 2], {1, 2}, 2:3. "(1,234)" is one number.
_VALUE = (
    r"(?:(?:\d{1,20}(?:\.\d{1,20})?|\.\d{1,20})(?:/\d{1,9}|\\?%)?|\\[dt]?frac\{\d{1,9}\}\{\d{1,9}\}"
    r"|\d{0,9}(?:\\sqrt\{\d{1,9}\}|\\pi|π)(?:/\d{1,9})?|\\infty|∞)"
)
_NUMERIC = rf"\s{{0,2}}[-+−–]?{_VALUE}\s{{0,2}}"
_ELEMENT = rf"\s{{0,2}}[-+−–]?(?:{_VALUE}|[A-Za-z](?![A-Za-z]))\s{{0,2}}"
_THOUSAND = r"\d{1,3}(?:,\d{3})+(?![\d,.])"
_VALUES = rf"(?:{_ELEMENT},){{1,9}}{_ELEMENT}"
_TUPLE = (
    rf"(?:(?<![\w\\])|(?<=\\left))[(\[](?!\s?{_THOUSAND}\s?[)\]]){_VALUES}(?:\\right)?[)\]]"
    rf"|\\\{{(?!\s?{_THOUSAND}\s?\\){_VALUES}\\\}}"
)
_RATIO = r"(?<![A-Za-z\d:.,])\d{1,9}(?:(?: : |:)\d{1,9}){1,3}(?![\d:]|[.,]\d|\s?[+*/×·÷^]|\s[-−–]\s?\d)"
# One token of a mathematical expression; what it does not match (words, sentence marks) ends the expression.
_TOKEN = re.compile(
    rf"""(?P<values>{_TUPLE}|{_RATIO.replace(" ", "[ ]")})
    |(?P<number>(?:{_DIGITS}))
    |(?P<text>\\(?:text|mathrm|mbox|textbf)\s*\{{[^{{}}]*\}})
    |(?P<times>(?<=[\d)}}])[ ]?[xX][ ]?(?=[\d$(]))
    |(?P<function>(?:{_FUNCTIONS})(?![A-Za-z]))
    |(?P<relation>\\(?:approx|simeq|leq?|geq?|neq?|equiv|implies|Rightarrow|to)(?![A-Za-z])|[=≈≡→⇒<>]+|&=|(?<![\d)}}])!=)
    |(?P<operator>\\(?:times|cdot|div|pm)(?![A-Za-z])|\*{{1,2}}|[-+/−–×·÷∗])
    |(?P<command>\\[a-zA-Z]+)
    |(?P<spacing>\\[,;:!\ ]|[ \t\u00a0]+|&)
    |(?P<delimiter>\\?\$+|\\[()\[\]]|[€£¥])
    |(?P<percent>\s?\\?%|\s?percent\b)
    |(?P<open>[({{\[])
    |(?P<close>[)}}\]])
    |(?P<mark>[\^_!°√π²³∞])
    |(?P<letter>(?<![A-Za-z])[A-Za-z](?![A-Za-z]))""",
    re.VERBOSE,
)
_SCIENTIFIC = rf"(?:{_DIGITS})?\s*(?:\\times|×|\\cdot|\*)?\s*10\^\{{?-?\d+\}}?"
_LITERAL = re.compile(rf"[-+−–]?\s*(?:(?:{_DIGITS})|(?:\d+[ ])?\d+/\d+|{_SCIENTIFIC})\s*(?:\\?%|percent)?")
_NUMERALS_ONLY = re.compile(
    r"(?:[\d\s.,()\[\]{}+*/×·÷∗−–$€£¥%^-]|\\(?:times|cdot|div|left|right|frac|%|\$|,|;|!|\s)"
    r"|(?<=\d)x(?=\d)|(?<=\d )x(?= \d))+"
)
_BINARY = re.compile(r"(?<=[\d)}%])\s{0,4}(?:[-+−–×·÷∗*/x]|\\times|\\cdot|\\div)")
_ONE_OF_VALUES = re.compile(f"{_TUPLE}|{_RATIO}")
# Values without brackets, which only a statement's end tells from clauses: "1, 2 and 3." A lone letter is none of them:
# "C, 12" is a choice and what it stands for.
_AND = re.compile(r"(?:,\s?|\s)and\s")
_LISTED = re.compile(
    rf"\$?(?P<values>(?=[^.\n]{{0,80}}\d)(?:{_NUMERIC},){{1,9}}{_NUMERIC}(?:,?\s?\band{_NUMERIC})?)"
    r"(?=\$?(?:[.!?](?:\s|$)|\s{0,20}$|[ ]{0,20}\n))"
)
# A unit raised to a power, or a rate: its exponent is no exponent of the number before it.
_POWER = r"(?:\^\s?(?:\{\s?-?\d\s?\}|-?\d(?!\d))|[²³])"
_LENGTH = "[mcdk]?m|in|inch|inches|ft|foot|feet|yd|yards?|mi|miles?|(?:centi|milli|kilo)?met(?:er|re)s?"
_RATE = rf"(?:{_LENGTH}|k?g|mg|lbs?|m?[Ll])/(?:{_LENGTH}|s|sec|min|h|hr|hour|day|m?[Ll]|kg)"
_UNIT = rf"(?:{_RATE}(?:\$?{_POWER}\$?)?|(?:{_LENGTH})\$?{_POWER}\$?)(?![\w^])"
_RAISED_UNIT = re.compile(_UNIT)
_RAISED_UNIT_AT_END = re.compile(rf"(?<=[\d)}}%])[ ]{{0,3}}{_UNIT}$")
# What makes a lone letter a variable, though it could be a unit: "3 m^2 + 2m".
_GOES_ON = re.compile(
    r"\s{0,3}(?:[+*/^(×·÷]|\\(?:times|cdot|div)|[-−–]\s{0,2}(?:[\d\\({$]|[A-Za-z](?![A-Za-z]))"
    r"|[B-HJ-Zb-z](?![A-Za-z])|\d)"
)
_TEXT_BOX = re.compile(rf"\\(?:text|mathrm|mbox|textbf)\s*\{{([^{{}}]*)\}}(\s?{_POWER})?")
_ANSWER_WORD = re.compile(r"\banswers?\b|####(?=\s*[-+$\d\\.])", re.IGNORECASE)
_CONNECTOR = re.compile(r"(?:\b(?:is|are|was|equals|be|as|to be)\b|:|=)[\s:=*_\"“'‘]*", re.IGNORECASE)
_LEAD_IN = re.compile(
    r"(?:(?:about|approximately|therefore|thus|indeed|simply|just|actually|now|then|exactly|roughly|only)\b[\s,:]*)+",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:[.?]|(?<!\d)!|!(?=[\"”'’)]?\s{0,20}(?:[A-Z]|$)))(?=[\"”'’)]?(?:\s|$))|\n")
# Behind a lone number at a sentence's end: "The answer is 12!" But "5! = 120", "5! ways" and "5! - 3" are factorials.
_EXCLAIMED = re.compile(rf"([-+−–$€£¥\s]*(?:{_DIGITS}|{_TUPLE}|{_RATIO}))!{{1,3}}")
_NO_SENTENCE_END = re.compile(
    r"[\"”'’)*]{0,3}(?:[^\s\"”'’)*]|\s{1,20}(?:[a-z+*/^=×·÷<>≈,]|\\(?![\[(])|[-−–]\s?[\d$\\(]))"
)
_SIGN = re.compile(r"(?:equal to )?([-−])[ ]{1,3}(?=[\d.$€£¥])")
_NOT = re.compile(r"(?:not|n't|never)\s", re.IGNORECASE)
# What stands right before an expression that is denied: "is not 12", "cannot be 12", "isn't equal to 12".
_DENIED = re.compile(
    r"(?:(?:\b(?:not|never|cannot|neither|nor)|n['’]t)\s+(?:(?:be|equals?|to|the|an?|number|value|exactly|is|=)\s+){0,4}"
    r"|≠|\\neq?|!=)[\s:=*_\"“'‘$\\(\[]{0,10}$",
    re.IGNORECASE,
)
_DISOWNED = re.compile(
    r"\s{0,3}(?:\w{1,20}\s){0,2}(?:is|was)(?:\s+not|n['’]t)\s+(?:the\s+)?(?:(?:right|correct|final)\s+)?"
    r"(?:answer|correct|right)\b"
)
_LIST_MARK = re.compile(r"(?m)^[ \t]*\(?\d{1,3}[.)](?=\s|$)")
_STEP_LABEL = re.compile(r"\b(?:step|part|case|question|problem|example)[ ]#?\d+\b", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*{1,3}|__")
# A dash is a minus only in front of an operand: "60 km/h - that is fast" is no sum.
_UNIT_THEN_OPERATOR = re.compile(
    rf"\s*(?:[A-Za-z]+(?:/[A-Za-z]+)?(?:\$?{_POWER}\$?)?\s+){{1,3}}"
    r"(?:[+×·÷∗*]|\\times|\\cdot|\\div|[-−–]\s(?=\s{0,3}[\d.$€£¥(\[{\\√]|\s{0,3}[A-Za-z]\b|\s*\Z)|/\s)"
)
# What may stand between two expressions that belong together: units and a word that joins, never a new clause.
_CLAUSE = (
    "because|since|as|so|if|when|where|while|which|that|but|and|or|then|for|than|with|by|from|using|given"
    "|is|are|was|were|equals?|makes?|gives?"
)
_UNITS = rf"(?:\s*(?!(?:{_CLAUSE})\b)[A-Za-z°]+(?:/[A-Za-z]+)?(?:\$?{_POWER}\$?|\b))"
_OWNER = r"(?:\s+(?:the|an?|his|her|its|their|my|our|your|these|those|all))?"
_ONLY_UNITS = re.compile(rf"{_UNITS}{{0,3}}\s*")
_OPERATOR_WORD = re.compile(rf"{_UNITS}{{0,3}}\s*\b(?:plus|minus|times|x|multiplied\s+by|divided\s+by)\b{_OWNER}\s*")
_OF = re.compile(rf"\s*of\b{_OWNER}\s*")
_OF_UNITS = re.compile(rf"{_UNITS}{{0,3}}\s*\bof\b{_OWNER}\s*")
_AND_UNITS = re.compile(rf"{_UNITS}{{1,3}}(?:\s+and)?\s*")
_NOR = re.compile(rf"{_UNITS}{{0,3}}\s*,?\s*\bn?or\b\s*", re.IGNORECASE)
_OR = re.compile(rf"{_UNITS}{{0,3}}\s*,?\s*\bor\b\s*(?:{_LEAD_IN.pattern})?", re.IGNORECASE)
_IMPLIES = re.compile(r"→|⇒|=+>|(?<=-)>|\\(?:implies|Rightarrow|to)(?![A-Za-z])")
_EQUATES = re.compile(r"(?!.*[<>]).*(?:[=≈≡]|approx|simeq|equiv)")
# A percentage or a fraction: "of" behind it means times.
_PART = re.compile(r"(?:%|percent|/\s?\d+|\\[dt]?frac\s?\{[^{}]*\}\s?\{[^{}]*\})(?:\s|\$|\\[)\]])*$")
_PART_OF = re.compile(r"(%|/\s?\d+|\})\s*(?:of\b|\\text\s?\{\s*of\s*\})")
_WORD = re.compile(r"(?<!\\)(?<![A-Za-z\\])[A-Za-z]{2,}")


@dataclass(frozen=True)
class AnswerSpan:
    r"""An answer as it stands in a text: `text` = source[start:end]; `kind` says how it was found.

    `kind`: ``boxed`` (content of a ``\boxed``), ``stated`` (after "answer is"), ``last`` (last number or expression).
    """

    text: str
    start: int
    end: int
    kind: str


def locate_answer(text: str) -> AnswerSpan | None:
    r"""Find the answer that a text states, or None when it states none (or its last ``\boxed`` was never closed)."""
    if "\\boxed" in text or "\\fbox" in text:
        return _boxed(text)
    plain = _blank_marks(text)
    candidates = _candidates(plain)
    if not candidates:
        return None
    return _stated(plain, candidates) or candidates[-1]


def is_left_undone(answer: str) -> bool:
    """Whether an answer is arithmetic on numerals that nobody worked out.

    "12 + 7", "12 / 4" and "20% of 50" are; "3/4", and "7 of 10" (a count and its whole), are not.
    """
    bare = answer.strip().strip("$").strip().replace("**", "^")
    if _LITERAL.fullmatch(bare) or _ONE_OF_VALUES.fullmatch(bare):
        return False
    bare = _PART_OF.sub(r"\1 * ", re.sub(r"\s?\bpercent\b", "%", bare))
    return bool(_NUMERALS_ONLY.fullmatch(bare)) and bool(_BINARY.search(bare))


def is_plain_integer(answer: str) -> bool:
    """Whether an answer is one whole number, with or without currency sign, thousands separators or sign."""
    return bool(re.fullmatch(r"[-+−–]?\d+", _bare_number(answer)))


def to_latex(answer: str, *, only_one: bool) -> str | None:
    r"""The answer as LaTeX for math-verify, without currency signs and unit words; None when it can't be read.

    `only_one`: refuse an answer that holds several numbers between words (for gold answers), rather than take the last.
    Of an equation the right side counts, so "x = 3" is 3.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        return None
    bare = _canonical(answer)
    if _LISTED.fullmatch(bare):
        bare = _AND.sub(", ", bare)
    if _has_words(bare):
        candidates = _candidates(_blank_marks(answer))
        if not candidates or (only_one and len(candidates) > 1):
            return None
        bare = _canonical(candidates[-1].text)
        if _has_words(bare):
            return None
    if re.search(r"=", bare):
        bare = bare.rsplit("=", 1)[1].strip()
    unit = _RAISED_UNIT_AT_END.search(bare)
    in_m = only_one and unit and unit.group().startswith("m^")  # a gold 3m^2, without a space, is algebra
    if unit and not in_m and not re.search(r"(?<![A-Za-z\\])[A-Za-z]", bare[: unit.start()]):
        bare = bare[: unit.start()]  # "24 m^2"; but "2m + 24 m^2" is a sum in m
    number = re.fullmatch(
        rf"([-+]?)\s*({_DIGITS})\s*(\\%)?\s*[mgshLlkKCF]?", bare
    )  # "5m", "20C": a unit, not a variable
    if number:
        bare = number[1].replace("+", "") + number[2].replace(",", "") + (number[3] or "")
    two_numbers = re.search(r"\d\s+\d", bare)
    tower = re.search(r"\^\s*\w+\s*\^", bare)  # "9^9^9" without braces: readers differ, so nobody's reading counts
    if not re.search(r"[0-9A-Za-z]", bare) or two_numbers or tower or _depth(bare) > MAX_NESTING:
        return None
    return bare


def _depth(expression: str) -> int:
    """How deep the brackets of an expression nest."""
    depth = deepest = 0
    for char in expression:
        depth += (char in "({[") - (char in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _boxed(text: str) -> AnswerSpan | None:
    """The content of the last box that was closed; one pass over the braces, so a thousand open ones cost nothing."""
    closing: dict[int, int] = {}
    stack: list[int] = []
    for i, char in enumerate(text):
        if char in "{}" and i > 0 and text[i - 1] == "\\":
            continue
        if char == "{":
            stack.append(i)
        elif char == "}" and stack:
            closing[stack.pop()] = i
    for match in reversed(list(re.finditer(r"\\f?box(?:ed)?\s*(?=\{)", text))):
        end = closing.get(match.end())
        if end is None:
            continue
        start = match.end() + 1
        content = text[start:end]
        stripped = content.strip()
        if stripped:
            start += len(content) - len(content.lstrip())
            return AnswerSpan(stripped, start, start + len(stripped), "boxed")
    return None


def _stated(plain: str, candidates: list[AnswerSpan]) -> AnswerSpan | None:
    """The answer named by the last "answer is …" that names one."""
    starts = [candidate.start for candidate in candidates]
    limit = len(plain)
    for match in reversed(list(_ANSWER_WORD.finditer(plain))):
        window_end = min(limit, match.end() + 400)
        limit = match.start()
        begin = match.end()
        if match.group() != "####":
            connector = _CONNECTOR.search(plain, begin, min(window_end, begin + 120))
            sentence = _SENTENCE_END.search(plain, begin, window_end)
            if connector is None or (sentence is not None and sentence.start() < connector.start()):
                continue
            begin = connector.end()
        lead = _LEAD_IN.match(plain, begin)
        if lead:
            begin = lead.end()
        listed = _LISTED.match(plain, begin)
        if listed and not _DENIED.search(plain, max(0, begin - 60), begin) and not _is_one_value(listed["values"]):
            values = listed["values"].strip()
            start = plain.index(values, listed.start("values"))
            return AnswerSpan(values, start, start + len(values), "stated")
        sentence = _SENTENCE_END.search(plain, begin, window_end)
        end = sentence.start() if sentence else window_end
        inside = candidates[bisect_right(starts, begin - 1) : bisect_right(starts, end - 1)]
        inside = [candidate for candidate in inside if candidate.start < end]
        if not inside:
            continue
        if len(inside) == 1 and _NOT.match(plain, begin) and not _NUMBER.search(plain, begin, inside[0].start):
            continue  # "not easy to see, as 7 is prime"; but of "not 12, but 19" the 19 counts
        # Directly after "is" the first expression counts, to the end of its chain "12 + 7 = 19"; else the last one.
        chosen = inside[-1]
        for value_start, value_end in reversed(_values(plain, begin, end)):
            chain = [candidate for candidate in inside if value_start <= candidate.start < value_end]
            if chain:
                chosen = chain[-1]
                break
        start = chosen.start
        dashed = match.group() == "####" or re.search("[:=]", connector.group())  # "is: - 3" is an item
        sign = None if dashed else _SIGN.match(plain, begin)
        if sign and not plain[sign.end() : start].strip("$€£¥"):
            start = sign.start(1)  # "is - 3": no dash, as it is behind a verb
        return AnswerSpan(plain[start : chosen.end], start, chosen.end, "stated")
    return None


def _is_one_value(listed: str) -> bool:
    """Whether a list only writes one value in several ways: "1/2, 0.5", or "1/3, 33%"."""
    texts = {text.strip() for text in re.split(r",|\band\b", listed)} - {""}
    if 0 < sum(text.endswith("%") for text in texts) < len(texts):
        return True
    plain = (re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text) for text in texts)
    try:
        values = {Fraction(re.sub("[−–]", "-", text).rstrip("\\%")) for text in plain}
    except (ValueError, ZeroDivisionError):
        return False
    return len(texts) > 1 and len(values) == 1


def _values(plain: str, begin: int, end: int) -> list[tuple[int, int]]:
    """Where the statement at `begin` gives its value, the place that counts most last; empty when words come first.

    Units and "of" cut an expression into runs. Those that go on with the one before belong to the statement, and what
    stands behind their last "=" is its value; so is what "or" names beside it.
    """
    values: list[tuple[int, int]] = []
    read_to = begin
    for start, stop, tokens in _runs(plain, begin):
        gap = plain[read_to:start]
        if start >= end or (not values and gap.strip()):
            break
        named = not values or _OR.fullmatch(gap)
        if not named and not _goes_on(gap, tokens):
            break
        if named or any(token.lastgroup == "relation" and _EQUATES.match(token.group()) for token in tokens):
            values.append((start, stop))
        read_to = stop
    return values


def _goes_on(gap: str, tokens: list[re.Match[str]]) -> bool:
    """Whether a run goes on with the one before it, across the words in between."""
    first = next((token for token in tokens if token.lastgroup not in {"spacing", "delimiter"}), tokens[0])
    if first.lastgroup in {"operator", "times", "relation"}:
        return bool(_ONLY_UNITS.fullmatch(gap))  # "2 hours = 120 minutes"
    if _OPERATOR_WORD.fullmatch(gap) or _OF_UNITS.fullmatch(gap):
        return True
    # "3 hours and 20 minutes = 200 minutes"; but "5 apples and 3 + 4 = 7 pears" are two statements.
    return not any(token.lastgroup == "relation" for token in tokens) and bool(_AND_UNITS.fullmatch(gap))


def _candidates(plain: str) -> list[AnswerSpan]:
    """All expressions that could be an answer, in order: every side of every relation that is not a sum left undone.

    Nothing that is denied counts, "not 12 or 13": neither does what equals it, "not 5 + 7 = 12"; but what follows from
    it does, "x ≠ 0 ⇒ x = 5".
    """
    found = []
    runs = list(_runs(plain, 0))
    denied, last_end = False, 0
    is_operand = False  # whether the words before a run make it one: "20% of"
    for place, (run_start, run_end, tokens) in enumerate(runs):
        goes_on = denied and run_start - last_end <= 80 and _NOR.fullmatch(plain, last_end, run_start)
        denied = bool(goes_on or _DENIED.search(plain, max(0, run_start - 60), run_start))
        disowned = _DISOWNED.match(plain, run_end, run_end + 80)
        last_end = run_end
        next_start = runs[place + 1][0] if place + 1 < len(runs) else len(plain)
        gap = plain[run_end:next_start] if next_start - run_end <= 80 else ""
        part = _OF.fullmatch(gap) and _PART.search(plain, max(tokens[0].start(), run_end - 60), run_end)
        follows_of, is_operand = is_operand, bool(part)
        pieces: list[list[re.Match[str]]] = [[]]
        untrue = {0} if denied else set()  # places of pieces
        for token in tokens:
            if token.lastgroup == "relation":
                denied = denied and not (pieces[-1] and _IMPLIES.match(plain, token.start()))
                if denied or token.group().startswith(("\\ne", "!")):
                    untrue.add(len(pieces))
                pieces.append([])
            else:
                pieces[-1].append(token)
        for index, piece in enumerate(pieces):
            span = _trim(plain, piece, first=index == 0)
            if span is None:
                continue
            start, end = span
            body = plain[start:end]
            if is_left_undone(body) or (index == 0 and follows_of) or disowned or index in untrue:
                continue
            if index == len(pieces) - 1 and (part or _UNIT_THEN_OPERATOR.match(plain, run_end, run_end + 80)):
                continue  # "5 apples + 3 apples": the 5 is an operand
            found.append(AnswerSpan(body, start, end, "last"))
    return found


def _trim(plain: str, piece: list[re.Match[str]], *, first: bool) -> tuple[int, int] | None:
    """The part of a piece that is an expression, or None: loose operators, delimiters and unmatched brackets go."""
    tokens = _balanced(list(piece))
    first = first and bool(tokens) and tokens[0] is piece[0]  # behind a lonely bracket an operator has a left operand
    loose = {"spacing", "delimiter", "text"}
    while tokens and (tokens[-1].lastgroup in loose | {"operator", "times", "open"} or tokens[-1].group() in "_^"):
        if tokens[-1].lastgroup in {"operator", "times"} and tokens[-1].group() not in "-−–*":
            return None  # "15 + 2 = 17 +": an operand of a sum that goes on
        tokens.pop()
    while tokens and tokens[0].lastgroup in loose:
        tokens.pop(0)
    if tokens and tokens[0].group() in "^_":
        return None  # the power of a word
    if tokens and tokens[0].lastgroup in {"operator", "times"}:
        minus, spaced = tokens[0].group() in "-−–", len(tokens) > 1 and tokens[1].lastgroup == "spacing"
        if not (minus or (tokens[0].group() == "+" and not spaced)):
            return None  # "+ 7" after a word: an operand
        if tokens[0] is not piece[0] and piece[0].lastgroup == "close":
            return None  # ") - 49"
        if first and spaced:  # "Total - 19": a dash, not a sign
            tokens.pop(0)
            while tokens and tokens[0].lastgroup in loose:
                tokens.pop(0)
    if [token.lastgroup for token in tokens] == ["open", "number", "close"]:
        tokens = tokens[1:2]
    telling = {"number", "command", "values"}
    if not any(token.lastgroup in telling or token.group() in "π∞√" for token in tokens):
        return None
    start, end = tokens[0].start(), tokens[-1].end()
    exclaimed = tokens[-1].group() == "!" and _EXCLAIMED.fullmatch(plain, start, end)
    return start, exclaimed.end(1) if exclaimed and not _NO_SENTENCE_END.match(plain, end) else end


def _balanced(tokens: list[re.Match[str]]) -> list[re.Match[str]]:
    """Drop brackets that enclose the whole or have no partner (a token list with only matched brackets remains)."""
    stack, lonely = [], set()
    for index, token in enumerate(tokens):
        if token.lastgroup == "open":
            stack.append(index)
        elif token.lastgroup == "close":
            if stack:
                stack.pop()
            else:
                lonely.add(index)
    lonely.update(stack)
    if not lonely:
        return tokens
    # The stretch after the last lonely opening bracket and before the next lonely closing one is whole.
    best: list[re.Match[str]] = []
    current: list[re.Match[str]] = []
    for index, token in enumerate(tokens):
        if index in lonely:
            best = current or best
            current = []
        else:
            current.append(token)
    return current or best


def _runs(plain: str, start: int):
    """Yield (start, end, tokens) of each unbroken expression from `start` on."""
    tokens: list[re.Match[str]] = []
    position = start
    length = len(plain)
    variables = False
    while position < length:
        unit = _unit_at(plain, position, tokens, variables=variables)
        if unit:
            if tokens:
                yield tokens[0].start(), tokens[-1].end(), tokens
                tokens = []
            position, variables = unit.end(), False
            continue
        token = _TOKEN.match(plain, position)
        kind = token.lastgroup if token else None
        if token and kind == "letter" and not _is_variable(plain, token):
            kind = None
        if token and kind == "number" and position > 0 and plain[position - 1].isalpha() and not tokens:
            kind = None  # "H2", "v3": part of a name
        if kind in {"open", "values"} and token.group()[0] == "(" and _is_aside(tokens):
            kind = None
        if token and kind == "number" and _follows_number(tokens, plain, token):
            kind = "break"
        if kind == "spacing" and not tokens:
            position = token.end()  # a run starts with something to read
            continue
        if kind is None or kind == "break":
            if tokens:
                yield tokens[0].start(), tokens[-1].end(), tokens
                tokens = []
            variables = False
            if kind is None:
                position = token.end() if token else _next_position(plain, position)
                continue
        variables = kind == "letter" or (variables and kind != "relation")
        tokens.append(token)
        position = token.end()
    if tokens:
        yield tokens[0].start(), tokens[-1].end(), tokens


def _unit_at(plain: str, position: int, tokens: list[re.Match[str]], *, variables: bool) -> re.Match[str] | None:
    """The unit with a power, or the rate, that stands here; a lone letter is one only behind a lone number."""
    before = plain[position - 1] if position else " "
    if not plain[position].isalpha() or before.isalpha() or before == "\\":
        return None
    unit = _RAISED_UNIT.match(plain, position)
    if unit and not plain[position + 1].isalpha():
        behind = next((token.lastgroup for token in tokens[:-3:-1] if token.lastgroup != "spacing"), None)
        if behind not in {"number", "close", "delimiter"} or variables or _GOES_ON.match(plain, unit.end()):
            return None
    return unit


def _next_position(plain: str, position: int) -> int:
    """The place after a character or a whole word that is no token."""
    end = position + 1
    if plain[position].isalpha():
        while end < len(plain) and (plain[end].isalpha() or plain[end] == "'"):
            end += 1
    return end


def _is_variable(plain: str, letter: re.Match[str]) -> bool:
    """Whether a lone letter is a variable ("2x", "x + 1") rather than an article or a unit ("a 5", "7 m")."""
    start, end = letter.span()
    before, after = plain[max(0, start - 1) : start], plain[end : end + 1]
    if letter.group() in "aAI" and re.match(r"\s+[A-Za-z]{2,}", plain[end : end + 4]):
        return False
    if (before and before in "0123456789+-*/^=({)}\\_$−×·") or (after and after in "0123456789+-*/^=(){}_$²³"):
        return True
    left, right = plain[max(0, start - 3) : start].rstrip(" "), plain[end : end + 3].lstrip(" ")
    return bool((left and left[-1] in "+-*/^=−×·÷") or (right and right[0] in "+-*/^=−×·÷"))


def _is_aside(tokens: list[re.Match[str]]) -> bool:
    """Whether an opening bracket comes after a space after an operand: "19 (12 + 7)" is 19 with a remark."""
    return len(tokens) >= 2 and tokens[-1].lastgroup == "spacing" and tokens[-2].lastgroup in {"number", "percent"}


def _follows_number(tokens: list[re.Match[str]], plain: str, token: re.Match[str]) -> bool:
    """Whether a number stands beside another with only a space between (two numbers, unless a mixed one like 1 1/2)."""
    if len(tokens) < 2 or tokens[-1].lastgroup != "spacing" or tokens[-2].lastgroup != "number":
        return False
    return not re.match(r"\d+/\d", plain[token.start() : token.start() + 12])


def _blank_marks(text: str) -> str:
    """The text, same length, with Markdown emphasis, list numbers and step labels turned into spaces."""

    def emphasis(match: re.Match[str]) -> str:
        start, end = match.span()
        before, after = text[max(0, start - 2) : start], text[end : end + 2]
        spaced = (before[-1:] == " ", after[:1] == " ")
        joined = re.search(r"[\w)}] ?$", before) and re.match(r" ?[\w($\\]", after)
        # A star between two operands with the same spacing on both sides is an operator; any other is emphasis.
        return match.group() if joined and spaced[0] == spaced[1] else " " * (end - start)

    def blank(match: re.Match[str]) -> str:
        return " " * len(match.group())

    plain = _EMPHASIS.sub(emphasis, text)
    plain = re.sub(r"(?m)^([ \t]*)[-•](?=\s)", lambda m: m[1] + " ", plain)
    return _STEP_LABEL.sub(blank, _LIST_MARK.sub(_blank_list_mark, plain))


def _blank_list_mark(match: re.Match[str]) -> str:
    """Blank "2." at a line's start when an item follows it; "19." alone on its line is an answer."""
    line_end = match.string.find("\n", match.end())
    rest = match.string[match.end() : line_end if line_end >= 0 else len(match.string)]
    return " " * len(match.group()) if rest.strip() else match.group()


def _bare_number(answer: str) -> str:
    return re.sub(r"[\s$€£¥]|(?<=\d)(?:,|\{,\}|\\,|\\!,)(?=\d{3})", "", answer.replace("\\$", "")).removesuffix(".")


def _canonical(answer: str) -> str:
    """LaTeX without delimiters, currency, thousands separators, text boxes and typographic signs."""
    bare = _TEXT_BOX.sub(_keep_numbers, answer)
    bare = bare.replace("\\$", "").replace("$", "")
    bare = re.sub(r"\\[()\[\]]|[€£¥]|\*\*(?=\s|$)", "", bare)
    bare = re.sub(r"(?<=\d)(?:\{,\}|\\,|\\!,|,)(?=\d{3}(?!\d))", "", bare)
    bare = re.sub(r"\\[,;:!]|\\ |~", " ", bare)
    bare = re.sub(r"\s*\\?%|\s*\bpercent\b", r"\\%", bare)
    bare = re.sub(r"√\s*(\d+)", r"\\sqrt{\1}", bare)
    for sign, latex in (
        ("−", "-"), ("–", "-"), ("×", "\\times "), ("∗", "*"), ("·", "\\cdot "), ("÷", "\\div "),
        ("π", "\\pi "), ("²", "^2"), ("³", "^3"), ("°", "^\\circ "), ("∞", "\\infty "), ("≈", "="), ("\\approx", "="),
    ):  # fmt: skip
        bare = bare.replace(sign, latex)
    bare = re.sub(r"(?<=\d)\s*[xX]\s*(?=\d)", r"\\times ", bare).replace("**", "^")
    bare = re.sub(r"(?<![\d/])(\d+) (\d+)/(\d+)(?![\d/])", r"\1\\frac{\2}{\3}", bare)
    bare = bare.strip()
    return bare[:-1].rstrip() if re.search(r"[.,;:]$", bare) else bare


def _keep_numbers(match: re.Match[str]) -> str:
    """What a text box contributes: nothing when it is a unit, with its power; its content when that is a number."""
    number = _NUMBER.search(match[1]) or match[1].strip() == "e"
    unit = not number or _RAISED_UNIT.fullmatch(match[1].strip())
    return " " if unit else match[1] + (match[2] or "")


def _has_words(bare: str) -> bool:
    """Whether letters are left that are no command, function or lone variable."""
    words = _WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", bare))
    return any(not re.fullmatch(_FUNCTIONS, word) for word in words)
