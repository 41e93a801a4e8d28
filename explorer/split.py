r"""Where a failed rollout is cut: the reasoning prefix that is revised, and the failed continuation it led to.

Four presets propose a cut, each with one plain sentence why: a fixed length, a fraction, just before the result of
the first wrong equation, just before the final answer. The last two are ours (the paper's public text leaves the
split open): they keep the reasoning that was still right and free the token at which it went wrong.

A cut is a number of tokens M: the prefix is the first M. Characters are mapped to tokens by the decoded pieces, whose
concatenation is the rollout's text; a token that straddles the place (" 58", with its leading space) goes whole to
the continuation. `Rollout.token_ids` hold no end token, so every token counts as content.

What it does not do: judge the final answer (`verdict.py`) or decode tokens (`model.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from explorer.answer import locate_answer
from explorer.equations import find_equations
from explorer.errors import UserError
from explorer.records import FinishReason, Rollout, Split, Verdict

FIXED_LENGTH = 24
FRACTION = 0.5


@dataclass(frozen=True)
class SplitPoint:
    """A proposed cut: the first `m` tokens are the prefix (None: this preset finds no place), and one sentence `why`.

    `name`: ``fixed``, ``fraction``, ``first-error``, ``before-answer``, or what a caller calls its own.
    """

    name: str
    m: int | None
    why: str


def split_at(rollout_index: int, rollout: Rollout, m: int, max_continuation_tokens: int) -> Split:
    """Cut a rollout after its first `m` tokens; the failed continuation is the next `max_continuation_tokens` at most.

    Raises UserError when either side would be empty.
    """
    total = len(rollout.token_ids)
    if total < 2:
        raise UserError(f"This rollout has only {total} token(s), too few to split: choose another one.")
    if m < 1:
        raise UserError("This split leaves no prefix to revise: move it at least one token to the right.")
    if m >= total:
        raise UserError(
            f"This split leaves no failed continuation: the rollout has {total} tokens, so end the prefix at token "
            f"{total - 1} or before."
        )
    if max_continuation_tokens < 1:
        raise UserError("The failed continuation needs at least one token: raise its limit.")
    return Split(
        rollout=rollout_index,
        prefix_token_ids=rollout.token_ids[:m],
        continuation_token_ids=rollout.token_ids[m : m + max_continuation_tokens],
    )


def fixed(rollout: Rollout, length: int = FIXED_LENGTH) -> SplitPoint:
    """The first `length` tokens, or all but the last of a shorter rollout."""
    total = len(rollout.token_ids)
    if total < 2:
        return SplitPoint("fixed", None, "The rollout is too short to split.")
    if length < total:
        return SplitPoint("fixed", max(1, length), f"The first {max(1, length)} tokens, whatever they say.")
    return SplitPoint("fixed", total - 1, f"The rollout has only {total} tokens, so all but its last one.")


def fraction(rollout: Rollout, f: float = FRACTION) -> SplitPoint:
    """The first `f` (0 to 1) of the rollout's tokens, rounded to the nearest token that leaves both sides something."""
    total = len(rollout.token_ids)
    if total < 2:
        return SplitPoint("fraction", None, "The rollout is too short to split.")
    m = min(max(1, round(f * total)), total - 1)
    return SplitPoint("fraction", m, f"The first {f:.0%} of its tokens: {m} of {total}.")


def first_error(rollout: Rollout, token_texts: Sequence[str]) -> SplitPoint:
    """Just before the result of the first equation that does not hold; `m` None when none is found.

    Args:
        rollout: the failed rollout.
        token_texts: its tokens decoded one by one; joined they are the text.
    """
    wrong = next((equation for equation in find_equations("".join(token_texts)) if not equation.holds), None)
    if wrong is None:
        return SplitPoint("first-error", None, "No wrong equation was found in this rollout.")
    m = token_at(token_texts, wrong.result_start)
    claim = f"“{_shown(wrong.left)} = {_shown(wrong.right)}”"
    if not 1 <= m < len(rollout.token_ids):
        return SplitPoint("first-error", None, f"Its first wrong equation, {claim}, leaves nothing before its result.")
    return SplitPoint("first-error", m, f"Just before the result of its first wrong equation, {claim}.")


def before_answer(rollout: Rollout, token_texts: Sequence[str], answer: str | None = None) -> SplitPoint:
    """Just before the final stated answer: the place that the verdict read it from.

    Args:
        rollout: the failed rollout.
        token_texts: its tokens decoded one by one; joined they are the text.
        answer: what the verdict found; its last mention is taken when the text alone shows no answer.
    """
    text = "".join(token_texts)
    span = locate_answer(text)
    start = span.start if span else text.rfind(answer) if answer else -1
    shown = _shown(span.text if span else answer or "")
    if start < 0:
        return SplitPoint("before-answer", None, "This rollout states no answer to stop before.")
    m = token_at(token_texts, start)
    if not 1 <= m < len(rollout.token_ids):
        return SplitPoint("before-answer", None, f"Its answer “{shown}” is the first thing it says: no prefix is left.")
    return SplitPoint("before-answer", m, f"Just before its final answer, “{shown}”.")


def presets(
    rollout: Rollout,
    token_texts: Sequence[str],
    answer: str | None = None,
    fixed_length: int = FIXED_LENGTH,
    fraction_of: float = FRACTION,
) -> tuple[SplitPoint, ...]:
    """All four presets, in the order fixed, fraction, first-error, before-answer."""
    return (
        fixed(rollout, fixed_length),
        fraction(rollout, fraction_of),
        first_error(rollout, token_texts),
        before_answer(rollout, token_texts, answer),
    )


def best_preset(options: Sequence[SplitPoint]) -> SplitPoint | None:
    """Before the first wrong result, else before the final answer, else whatever there is; None if it is too short."""
    found = {point.name: point for point in options if point.m is not None}
    for name in ("first-error", "before-answer", "fixed", "fraction"):
        if name in found:
            return found[name]
    return None


def best_failed(rollouts: Sequence[Rollout], pieces: Callable[[Sequence[int]], list[str]]) -> int:
    """Index of the failed rollout to offer first: wrong at a findable place and ended by itself, if there is one.

    Args:
        rollouts: at least one of them not correct.
        pieces: token ids to decoded pieces (`LanguageModel.pieces`).
    """

    def rank(index: int) -> tuple:
        rollout = rollouts[index]
        options = presets(rollout, pieces(rollout.token_ids), rollout.answer)
        found = {point.name for point in options if point.m is not None}
        return (
            not found,
            "first-error" not in found,
            rollout.verdict is not Verdict.WRONG,
            rollout.finish is not FinishReason.STOP,
            index,
        )

    return min((i for i, rollout in enumerate(rollouts) if rollout.verdict is not Verdict.CORRECT), key=rank)


def token_at(token_texts: Sequence[str], character: int) -> int:
    """Index of the token that holds this character; so many tokens lie wholly before it."""
    return bisect_right(list(accumulate(len(text) for text in token_texts)), character)


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else flat[:59] + "…"
