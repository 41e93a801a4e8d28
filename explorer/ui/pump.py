"""Model work on one thread, the page on others: results are handed over, and what the page was too slow to show is
merged. Visitors stand in one line for that thread and have it in turns.

Two reasons for one thread, both measured: torch keeps a team of threads per calling thread, so a generator that Gradio
resumes on whichever thread is free decodes at two thirds of the speed; and sampling should not stand still while a
redraw travels to the browser.

A fair share: work is a generator, so it can rest between two of its values. Who has had the model for a turn while
others wait goes to the end of the line with all of its memory, and goes on by itself when its turn comes again. Nobody
waits longer than the line times a turn, however long the others' work is; alone on the page nobody rests.

What it does not do: know what is being shown. Values are merged by the function given.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from explorer.errors import UserError

T = TypeVar("T")

TURN_S = 30.0
# Each of them occupies one of Gradio's threads (40) while it waits.
PLACES = 16
# Until work of a name has been seen once, it is thought to take this long.
GUESS_S = 20.0
# Work that waits for something other than the model (`NOT_NOW`) is asked again after this long.
NAP_S = 0.2
# How often those in line look where they stand; the first time sooner.
LOOK_S, FIRST_LOOK_S = 0.5, 0.05


class _NotNow:
    """What work yields while it waits for something else than the model: others may have it meanwhile."""


NOT_NOW: Any = _NotNow()
_ENDED: Any = object()


class LeftLine(Exception):
    """Work was cancelled before its first turn: nothing of it was done."""


@dataclass(frozen=True)
class Standing:
    """Where work stands: how many have the model before it, about how many seconds that takes, whether it has begun."""

    before: int
    wait_s: float
    begun: bool


@dataclass(eq=False)
class _Job:
    source: Iterator[Any]
    merge: Callable[[Any, Any], Any]
    name: str
    quick: bool
    # Of the thread that drains it: whose request this is, for what is asked of Gradio (or of a lender) on the way.
    context: Context = field(default_factory=copy_context)
    waiting: list[Any] = field(default_factory=list)
    begun: bool = False
    done: bool = False
    error: BaseException | None = None
    asleep_until: float = 0.0
    # Of the turn that it is in, or was in when something quick came between; and in all.
    turn_s: float = 0.0
    spent_s: float = 0.0


class ModelThread:
    """The one thread that runs models, and the line before it."""

    def __init__(self, turn_s: float = TURN_S, places: int = PLACES) -> None:
        """A turn lasts `turn_s` seconds while others wait; at most `places` stand in line."""
        self._turn_s, self._places = turn_s, places
        self._changed = threading.Condition()
        self._line: deque[_Job] = deque()
        self._current: _Job | None = None
        self._turn_began = 0.0
        self._usual: dict[str, float] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def drain(
        self,
        source: Iterator[T],
        merge: Callable[[T, T], T],
        stop: Callable[[], None],
        *,
        name: str = "",
        stopped: Callable[[], bool] = lambda: False,
        standing: Callable[[Standing | None], T] | None = None,
        quick: bool = False,
    ) -> Iterator[T]:
        """Iterate over `source` on the model thread, and yield here what it gave.

        Args:
            source: runs on the model thread from first to last, with rests in which others run; may yield `NOT_NOW`.
            merge: (older, newer) -> what to show when both came before the page asked again.
            stop: called when the consumer leaves early; the source then ends at its next look, without anybody waiting
                for it.
            name: what kind of work it is; how long that usually takes is learned from earlier work of the name.
            stopped: whether the work was cancelled; then it leaves the line, or comes to its end at once.
            standing: what to show of the place in line; of None once it is this work's turn.
            quick: short work; it goes before all that is longer.

        Raises:
            UserError: the line is full.
            LeftLine: it was cancelled before its first turn.
            whatever the source raises, after all it gave before has been yielded.
        """
        job = _Job(source, merge, name, quick)
        self._join(job)
        told: Standing | None = None
        look = FIRST_LOOK_S
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: job.waiting or job.done, look)
                    look = LOOK_S
                    value = job.waiting.pop() if job.waiting else None
                    ended = job.done
                    if job in self._line and stopped() and not self._hurry(job):
                        raise LeftLine
                    where = self._standing(job)
                if standing is not None and where != told:
                    told = where
                    shown = standing(where)
                    value = shown if value is None else merge(value, shown)
                if value is not None:
                    yield value
                elif ended:
                    break
        finally:
            with self._changed:
                if not job.done:
                    stop()
                    if job in self._line:
                        self._hurry(job)
        if job.error is not None:
            # Not kept: its traceback holds all that the failed work held, and memory may be what it lacked.
            error, job.error = job.error, None
            try:
                raise error
            finally:
                del error

    def close(self, wait_s: float = 0.0) -> None:
        """Begin nothing more; what has begun still comes to its end (tell it to stop first), for which this waits so
        many seconds at most."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(wait_s)

    # -- the line ----------------------------------------------------------------------------------

    def _join(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise UserError("The explorer is being closed: start it again.")
            if not job.quick and len(self._line) >= self._places:
                raise UserError(
                    f"{len(self._line)} others wait for the model already: watch a recorded run and try again in a "
                    "few minutes."
                )
            if job.quick:
                self._line.appendleft(job)
            else:
                self._line.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _hurry(self, job: _Job) -> bool:
        """One in line was told to stop: it leaves, or, once begun, ends by saving what it has, before all others.
        Whether it had begun. Called with the lock held."""
        self._line.remove(job)
        if job.begun:
            job.quick, job.asleep_until = True, 0.0
            self._line.appendleft(job)
        else:
            job.done = True
        self._changed.notify_all()
        return job.begun

    def _standing(self, job: _Job) -> Standing | None:
        """Where a job stands; None while it has the model, or waits for something else. Called with the lock held."""
        if job not in self._line or job.asleep_until > time.monotonic():
            return None
        ahead = [one for one in itertools.takewhile(lambda one: one is not job, self._line) if not one.quick]
        wait = sum(min(self._turn_s, self._left(other)) for other in ahead)
        running = self._current
        if running is not None and not running.quick:
            ahead.append(running)
            had = time.monotonic() - self._turn_began
            wait += min(max(0.0, self._turn_s - running.turn_s - had), self._left(running, had))
        if not ahead:
            return None
        # Coarse, so that it is told anew only when it says something new.
        return Standing(len(ahead), 5.0 * max(1, round(wait / 5)), job.begun)

    def _left(self, job: _Job, had: float = 0.0) -> float:
        return max(1.0, self._usual.get(job.name, GUESS_S) - job.spent_s - had)

    # -- the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            done = self._have_turn(job)
            had = time.monotonic() - self._turn_began
            with self._changed:
                self._current = None
                job.turn_s, job.spent_s, job.done = job.turn_s + had, job.spent_s + had, done
                if done:
                    usual = self._usual.get(job.name, job.spent_s)
                    self._usual[job.name] = 0.7 * usual + 0.3 * job.spent_s
                elif job.asleep_until or (job.turn_s < self._turn_s and any(one.quick for one in self._line)):
                    # Its turn goes on after what is quick, and after a nap.
                    quick = sum(one.quick for one in self._line)
                    self._line.insert(quick, job)
                else:
                    job.turn_s = 0.0
                    self._line.append(job)
                self._changed.notify_all()

    def _next(self) -> _Job | None:
        """The next that is awake, taken out of the line; None when the thread is to end."""
        with self._changed:
            while not self._closed or any(one.begun for one in self._line):
                now = time.monotonic()
                awake = (one for one in self._line if one.asleep_until <= now)
                job = next((one for one in awake if one.begun or not self._closed), None)
                if job is not None:
                    self._line.remove(job)
                    self._current, self._turn_began, job.begun = job, now, True
                    self._changed.notify_all()
                    return job
                soonest = min((one.asleep_until for one in self._line), default=None)
                self._changed.wait(None if soonest is None else max(0.0, soonest - now))
        return None

    def _have_turn(self, job: _Job) -> bool:
        """Run a job until it is done (true) or has to rest."""
        job.asleep_until = 0.0
        try:
            while (value := job.context.run(next, job.source, _ENDED)) is not _ENDED:
                if value is NOT_NOW:
                    job.asleep_until = time.monotonic() + NAP_S
                    return False
                with self._changed:
                    job.waiting[:] = [job.merge(job.waiting[0], value)] if job.waiting else [value]
                    self._changed.notify_all()
                    if self._must_rest(job):
                        return False
        except BaseException as error:  # handed to whoever drains it
            job.error = error
        return True

    def _must_rest(self, job: _Job) -> bool:
        """Whether others should have the model now. Called with the lock held."""
        now = time.monotonic()
        awake = [one for one in self._line if one.asleep_until <= now]
        over = job.turn_s + now - self._turn_began >= self._turn_s
        return not job.quick and (any(one.quick for one in awake) or (over and bool(awake)))
