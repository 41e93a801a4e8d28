r"""Is a text's answer the gold answer? math-verify decides, in one worker process that can be killed.

math-verify's own time limits rely on SIGALRM and fail off the main thread, and sympy can run for ever on a tower of
powers. So it lives in a child process (`python -m explorer.verdict`, one JSON line per question, one per reply), and
the limit is kept here: a worker that is late is killed, the text is `UNJUDGED`, and the next question starts a new
one. The worker ends with its parent (end of its standard input).

A verdict is `CORRECT` or `WRONG` only when an answer was found and compared. `UNJUDGED` covers all else, and says
why: no answer stated, a box never closed, an answer that can't be read, a sum left undone ("12 + 7" for 19), a text
cut off inside its answer, a check that ran out of time. Sources: math-verify 0.9 (Hugging Face); three values as in
TRL's accuracy_rewards.py.

What it does not do: judge the reasoning, know units ("19 cm" equals "19 m"), or tell numbers apart beyond six
decimals (math-verify's rounding).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from explorer.answer import AnswerSpan, is_left_undone, is_plain_integer, locate_answer, to_latex
from explorer.errors import UserError
from explorer.records import Verdict

DEFAULT_TIMEOUT_S = 5.0
START_TIMEOUT_S = 120.0  # the first import of sympy on a cold disk
MAX_TEXT_CHARS = 200_000  # only the end of a longer text is read
WORKER_MEMORY_BYTES = 4 * 2**30  # a runaway power must not take the machine's memory with it
MAX_GOLD_CHARS = 500


@dataclass(frozen=True)
class Judgement:
    """What was said of a text: its verdict, the answer found in it (None: none), and one plain sentence why."""

    verdict: Verdict
    answer: str | None
    reason: str


class NoJudge(UserError):
    """The worker can't be started at all: that says nothing of the question, and no other one can be judged either."""


class WorkerLost(Exception):
    """The worker was late or ended; it is gone, and the next question starts a new one."""


class Judge:
    """One worker process and the lock that lets threads share it. Use as a context manager, or `close()` it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.Queue[bytes | None] = queue.Queue()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def judge(self, gold: str, text: str, timeout_s: float = DEFAULT_TIMEOUT_S, *, cut_off: bool = False) -> Judgement:
        """Judge one text against the gold answer, in at most `timeout_s` seconds (a worker's start not counted).

        `cut_off` says that sampling ended at the token limit: an answer at the very end may be half a number, "12."
        too, and is left unjudged. Raises NoJudge when the worker can't be started at all.
        """
        request = {"op": "judge", "gold": gold, "text": text[-MAX_TEXT_CHARS:], "cut_off": cut_off}
        try:
            reply = self._ask(request, timeout_s)
        except WorkerLost as lost:
            return Judgement(Verdict.UNJUDGED, None, str(lost))
        return Judgement(Verdict(reply["verdict"]), reply["answer"], reply["reason"])

    def judge_many(
        self, gold: str, texts: Sequence[str], timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> tuple[Judgement, ...]:
        """Judge several texts against one gold answer; `timeout_s` holds for each."""
        return tuple(self.judge(gold, text, timeout_s) for text in texts)

    def parse_gold(self, answer: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Return quietly when `answer` can serve as a gold answer; raise UserError, saying what to write, when not."""
        if not answer.strip():
            raise UserError("The gold answer is empty: type a number, a fraction or a LaTeX expression.")
        if len(answer) > MAX_GOLD_CHARS:
            raise UserError(f"The gold answer is longer than {MAX_GOLD_CHARS} characters: give the final value only.")
        try:
            reply = self._ask({"op": "gold", "gold": answer}, timeout_s)
        except WorkerLost:
            reply = {"ok": False}
        if not reply["ok"]:
            shown = answer.strip() if len(answer.strip()) <= 40 else answer.strip()[:40] + "…"
            raise UserError(
                f"The gold answer “{shown}” can't be read as mathematics: "
                "write one number (12, -3.5, $12, 42%), a fraction (3/4) or a LaTeX expression (\\sqrt{2})."
            )

    def close(self) -> None:
        """End the worker. Safe to call twice; a later question starts a new one."""
        with self._lock:
            self._stop()

    def _ask(self, request: dict[str, object], timeout_s: float) -> dict[str, object]:
        """Send one request and wait for its reply; kills the worker and raises WorkerLost when it is late or gone."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._start()
            try:
                process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
                process.stdin.flush()
                line = self._replies.get(timeout=timeout_s)
            except queue.Empty:
                self._stop()
                raise WorkerLost(f"The check took longer than {timeout_s:g} s and was stopped.") from None
            except OSError:
                line = None
            except BaseException:  # Ctrl-C while waiting: the late reply must not answer the next question
                self._stop()
                raise
            if line is None:
                self._stop()
                raise WorkerLost("The check broke off: the answer is too large or too deep to compare.")
            return json.loads(line)

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "explorer.verdict"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        # Each worker has a queue of its own, so that a killed one can't leave a stale line to its successor.
        self._replies = replies = queue.Queue()

        def pump() -> None:
            with contextlib.suppress(OSError, ValueError):
                for line in process.stdout:
                    replies.put(line)
            replies.put(None)

        threading.Thread(target=pump, name="verdict-replies", daemon=True).start()
        try:
            ready = replies.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            ready = None
        except BaseException:
            self._stop()
            raise
        if ready is None:
            self._stop()
            raise NoJudge(
                "The answer checker could not start: run `python -m explorer.verdict` in the project's folder "
                "to see why (is math-verify installed?)."
            )
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()


@cache
def shared_judge() -> Judge:
    """The one judge of this process; its worker starts with the first question and ends with the process."""
    return Judge()


def parse_gold(answer: str) -> None:
    """Return quietly when `answer` can serve as a gold answer, else raise UserError. Plain numbers need no worker."""
    if re.fullmatch(r"\s*-?\$?\d{1,15}(?:\.\d{1,15})?\s*", answer, re.ASCII):
        return
    shared_judge().parse_gold(answer)


# --- the worker -----------------------------------------------------------------------------------------------------


def _parse(latex: str) -> list[object] | None:
    """math-verify's reading of an expression, or None when it only hands the string back. Raises what sympy raises."""
    from math_verify import LatexExtractionConfig, parse
    from sympy import Basic, nan, zoo

    parsed = parse(f"${latex}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None, raise_on_error=True)
    values = [item for item in parsed if not isinstance(item, str)]
    undefined = any(value.has(zoo, nan) for value in values if isinstance(value, Basic))
    return None if undefined or not values else parsed


def _read(answer: str, *, only_one: bool) -> list[object] | None:
    latex = to_latex(answer, only_one=only_one)
    try:
        return None if latex is None else _parse(latex)
    except Exception:  # the grammar raises all kinds, RecursionError and MemoryError included
        return None


def _unjudged(answer: str | None, reason: str) -> Judgement:
    return Judgement(Verdict.UNJUDGED, answer, reason)


def _may_go_on(answer: str, rest: str) -> bool:
    """Whether an answer with `rest` behind it, where the text was cut off, may be the first half of a longer number.

    "$12." may have become $12.50, "1," or "1,2" a thousand and more, and "5!" a factorial worked out; a space or
    a word behind the mark ends them.
    """
    mark = re.fullmatch(r"\.|!|(?:,|\{,?\}?|\\!?,?)\d{0,2}", rest)
    return not rest.strip() or (mark is not None and answer[-1:].isdigit())


def _is_one_of_several(text: str, span: AnswerSpan) -> bool:
    """Whether an answer of one value stands in a list or a ratio that could not be read whole: "3, 4 apples"."""
    before, after = text[max(0, span.start - 12) : span.start], text[span.end : span.end + 12]
    joined = r"\s*(?:[,:;]|\band\b|\bto\b)\s*\$?"
    return not re.search(r"[,:;]", span.text) and bool(
        re.search(rf"[\d}})]\$?{joined}$", before) or re.match(rf"\$?{joined}[-\d\\(]", after)
    )


_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
_POWER_OF_M = re.compile(r"[\s$]{0,3}m(?:\^\{?-?\d\}?|[²³])")


def _clock_parts(latex: str) -> list[int] | None:
    """The parts of a time like 2:30, which is no ratio: 1:15 is another time."""
    return [int(part) for part in latex.split(":")] if _CLOCK.fullmatch(latex) else None


def judge_in_process(gold: str, text: str, cut_off: bool = False) -> Judgement:
    """The worker's part of `Judge.judge`, without any time limit: call it only where it may be killed."""
    from math_verify import verify

    span: AnswerSpan | None = locate_answer(text)
    if span is None:
        boxed = "\\boxed" in text or "\\fbox" in text
        return _unjudged(None, "Its \\boxed answer was never closed." if boxed else "It states no answer.")
    shown = span.text if len(span.text) <= 80 else span.text[:80] + "…"
    if cut_off and span.kind != "boxed" and _may_go_on(span.text, text[span.end :]):
        return _unjudged(shown, f"It was cut off inside or right after “{shown}”, which may be half of its answer.")
    gold_parsed = _read(gold, only_one=True)
    if gold_parsed is None:
        return _unjudged(shown, "The gold answer can't be read.")
    if is_left_undone(span.text) and (is_plain_integer(gold) or "/" not in span.text):
        return _unjudged(shown, f"It leaves “{shown}” without working it out.")
    gold_latex = to_latex(gold, only_one=True) or ""
    if re.search(r"[\d)}]m\^[^a-z]*$", gold_latex):
        # Beside a gold 3m^2 a text's "m^3" is no unit, which it may be to others.
        power = _POWER_OF_M.match(text, span.end)
        if power and span.kind != "boxed":
            shown += power.group()
            span = AnswerSpan(span.text + power.group(), span.start, power.end(), span.kind)
        parsed = _read(re.sub(r"[\s$]+(?=m[\^²³])", "", span.text), only_one=True)
    else:
        parsed = _read(span.text, only_one=False)
    if parsed is None:
        return _unjudged(shown, f"Its answer “{shown}” can't be read.")
    several = re.search(r"[,:;]", gold_latex)
    if several and span.kind != "boxed" and _is_one_of_several(text, span):
        return _unjudged(shown, f"It names “{shown}” beside other values, in a way that can't be read.")
    # The order matters: verify(gold, answer) is not symmetric.
    times = [_clock_parts(gold_latex), _clock_parts(to_latex(span.text, only_one=False) or "")]
    factorial = f"{span.text}!"
    shouted = text.startswith("!", span.end) and gold.strip() == factorial  # equal as it stands, however large
    if shouted:
        same, shown = True, factorial
    elif all(times):
        same = times[0] == times[1]
    else:
        same = verify(gold_parsed, parsed, timeout_seconds=None, raise_on_error=True)
    if not same and span.kind != "boxed" and re.fullmatch(r"\d{1,2}!", text[span.start : span.end + 1]):
        # "It is 5!" may shout 5 or mean 120: it's right if either is.
        same = verify(gold_parsed, _read(factorial, only_one=False) or [], timeout_seconds=None, raise_on_error=True)
        shown = factorial if same else shown
    how = {"boxed": "boxed answer", "stated": "stated answer", "last": "last number or expression"}[span.kind]
    return Judgement(
        Verdict.CORRECT if same else Verdict.WRONG,
        shown,
        f"Its {how} “{shown}” {'equals' if same else 'is not'} the gold answer.",
    )


def _answer_request(request: dict[str, object]) -> dict[str, object]:
    from math_verify import verify

    if request["op"] == "gold":
        gold = _read(str(request["gold"]), only_one=True)
        # Reading is lazy: compare once, so that 9^{9^{9^9}} is refused here and not at each rollout.
        return {
            "ok": gold is not None and verify(gold, _parse("1"), timeout_seconds=None, raise_on_error=True) is not None
        }
    judgement = judge_in_process(str(request["gold"]), str(request["text"]), bool(request["cut_off"]))
    return {"verdict": judgement.verdict.value, "answer": judgement.answer, "reason": judgement.reason}


def serve() -> None:
    """Answer JSON lines from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which still wants its verdicts
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY_BYTES, WORKER_MEMORY_BYTES))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    sys.stdout = sys.stderr  # whatever the libraries print must not mix with the replies
    _read("\\frac{1}{2}", only_one=True)  # load the grammar before the first clock starts

    def reply(message: dict[str, object]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    reply({"ready": True})
    for line in sys.stdin.buffer:
        try:
            message = _answer_request(json.loads(line))
        except Exception as error:  # sympy raises all kinds on hostile text; none of them is a verdict
            lost = _unjudged(None, f"Its answer could not be compared ({type(error).__name__}).")
            message = {"ok": False, "verdict": lost.verdict.value, "answer": lost.answer, "reason": lost.reason}
        reply(message)


if __name__ == "__main__":
    serve()
