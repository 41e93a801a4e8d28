"""What runs for a page, and when: one action at a time, choices in their order, model work in line with that of other
pages; errors become one sentence, and a page that left is put away when nothing runs for it any more.

What it does not do: know what an action does; `Work` does, and says what is on the screen when one was refused or
failed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from explorer.errors import UserError, describe
from explorer.ui.pump import NAP_S, NOT_NOW, TURN_S, LeftLine, ModelThread, Standing
from explorer.ui.screen import Screen, info, merged, warning
from explorer.ui.session import Session

T = TypeVar("T")

# What puts another run on the screen or lays the revision anew, and is done before long.
CHOICES = ("open", "against", "pick", "split")
# What is pressed while one of these is answered goes on from it; as long as a press counts (`WAIT_MS` of the stage).
LAID = ("against", "pick", "split")
PRESS_S = 4.0


class Turns:
    """Runs the actions of all pages. What is shown after a refusal or a failure, and how a run is put away, whoever
    derives from it says."""

    def __init__(self, turn_s: float = TURN_S):
        """A turn on the model lasts `turn_s` seconds while others wait."""
        self.thread = ModelThread(turn_s)
        self._turns = threading.Condition()

    def _unmoved(self, session: Session) -> dict[str, Any]:
        """After a refusal: what moved by itself in the browser, as it is."""
        raise NotImplementedError

    def _as_it_stands(self, session: Session) -> dict[str, Any]:
        """After a failure: what was finished."""
        raise NotImplementedError

    def _put_away(self, session: Session) -> None:
        """Free what a session holds, if its page left and nothing runs for it. Runs on the model thread."""
        raise NotImplementedError

    def guarded(
        self,
        session: Session,
        name: str,
        action: Iterator[Screen],
        on_model: bool = True,
        quick: bool = False,
        choice: int | None = None,
    ) -> Iterator[Screen]:
        """Run an action for a session: no two at once, errors as one sentence, and what was finished saved however it
        ends. What runs the model stands in line with that of other pages; `quick` work goes first.

        A `choice` (of a run, a rival, a rollout or a cut, by its turn) waits for the one under way, and comes to
        nothing once a newer one takes its place. Anything else waits for a choice that is laid in a moment, so that no
        press is lost, and is refused beside all that takes longer.

        Gradio closes the generator when the page is closed: the work is then told to stop, and ends by saving like any
            stopped work.
        """
        begun = self._begins(session, name, choice)
        if begun is None:
            return
        if not begun:
            text = "Something is still running for this page: cancel it or wait until it is done."
            yield Screen(notice=info(text), **self._unmoved(session))
            return
        session.stop.clear()
        # The screen that gives the buttons back is shown when the next press would be served, not before.
        last: Screen | None = None
        try:
            with contextlib.closing(self._screens(session, name, action, on_model, quick)) as screens:
                for screen in screens:
                    screen = merged(last, screen) if last else screen
                    last = screen if screen.busy == "" else None
                    if last is None:
                        yield screen
        except LeftLine:
            last = Screen(notice=info("You left the line: nothing was begun."), **self._unmoved(session), busy="")
        except Exception as error:  # the page is the top: everything becomes one sentence here
            last = Screen(notice=warning(describe(error)), **self._as_it_stands(session), busy="")
        finally:
            with self._turns:
                session.running = None
                self._turns.notify_all()
        if last is not None:
            yield last

    def _screens(
        self, session: Session, name: str, action: Iterator[Screen], on_model: bool, quick: bool
    ) -> Iterator[Screen]:
        """What an action shows, in line with others where it runs the model."""
        if on_model:
            yield from self.thread.drain(
                self._at_work(session, action, self._put_away),
                merged,
                session.stop.set,
                name=name,
                stopped=session.stop.is_set,
                standing=None if quick else in_line,
                quick=quick,
            )
            return
        with contextlib.closing(self._at_work(session, action, self.put_away)) as screens:
            for screen in screens:
                if screen is NOT_NOW:  # a model on its way; here nobody else waits for this thread
                    time.sleep(NAP_S)
                else:
                    yield screen

    def _begins(self, session: Session, name: str, choice: int | None) -> bool | None:
        """Whether an action begins now, which then is what runs for its session; None where nobody waits for it any
        more: superseded, of a run that is not shown any more, or begun by an earlier press."""
        with self._turns:
            if choice is not None:
                turn = "rival_turn" if name == "against" else "choice_turn"
                setattr(session, turn, max(getattr(session, turn), choice))
                session.waiting.append(choice)
                self._turns.notify_all()
                try:
                    # In their order: a run that is opened takes the rival off the screen.
                    self._turns.wait_for(
                        lambda: (
                            self.outdated(session, name, choice)
                            or (session.running not in CHOICES and min(session.waiting) == choice)
                        )
                    )
                finally:
                    session.waiting.remove(choice)
                    self._turns.notify_all()
                if self.outdated(session, name, choice):
                    return None
            elif session.running in LAID:
                shown = session.nonce
                self._turns.wait_for(lambda: session.running not in CHOICES and not session.waiting, PRESS_S)
                if session.nonce != shown:  # a run that was opened meanwhile is not the one that it was pressed for
                    return None
            if choice is None and session.running == name:
                return None
            if session.running:
                return False
            session.running = name
            return True

    @staticmethod
    def outdated(session: Session, name: str, choice: int) -> bool:
        """Whether a newer choice takes a choice's place. Another run takes that of a rival, and not the reverse."""
        newest = max(session.choice_turn, session.rival_turn) if name == "against" else session.choice_turn
        return choice < newest

    def _at_work(
        self, session: Session, action: Iterator[Screen], put_away: Callable[[Session], None]
    ) -> Iterator[Screen]:
        """An action, which has an end of its own: one whose page left ends after `guarded` has."""
        with self._turns:
            session.at_work += 1
        try:
            yield from action
        finally:
            with self._turns:
                session.at_work -= 1
            put_away(session)

    def put_away(self, session: Session) -> None:
        """The page of a session was closed: its run, which holds the model, is shown from disk from now on; at the end
        of what is under way for it, if anything is."""
        if session.left is None or session.run is None:
            return
        with contextlib.suppress(UserError):  # the app is being closed too
            self._between(lambda: self._put_away(session))

    def _between(self, act: Callable[[], T]) -> T:
        """Do something on the model thread, between two looks of whatever runs there."""
        done: list[T] = []

        def acting() -> Iterator[None]:
            done.append(act())
            yield None

        for _ in self.thread.drain(acting(), lambda older, newer: newer, lambda: None, quick=True):
            pass
        return done[0]


def in_line(where: Standing | None) -> Screen:
    """What a page shows while others have the model."""
    if where is None:
        return Screen(notice=None)
    wait = f"about {where.wait_s:.0f} s" if where.wait_s < 90 else f"about {where.wait_s / 60:.0f} min"
    text = (
        f"Others are having their turn: {where.before} before you, {wait}. Your work goes on by itself; Cancel ends it "
        "and keeps what is finished."
        if where.begun
        else f"In line for the model: {where.before} before you, {wait}. It begins by itself; Cancel leaves the line."
    )
    return Screen(notice=info(text), busy="line")
