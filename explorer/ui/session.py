"""Who is on the page and how far they are. One `Session` per open page, found by Gradio's session hash; nothing is
shared between them but models.

What it does not do: hold components, or outlive the page: finished work is on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from explorer.errors import UserError
from explorer.pipeline import Run
from explorer.records import Problem, SamplingConfig, Start
from explorer.split import SplitPoint
from explorer.ui.library import Opened

# A page that was left without a goodbye is forgotten after this long; its runs stay on disk. One that rests says every
# so often that it is still there (`app.build`).
IDLE_LIMIT_S = 2 * 3600
# Gradio's page opens its heartbeat once: when a machine slept or a proxy dropped what was idle, it looks closed and
# still stands there, with its run on the screen. So many of those that left last are kept for their return.
AWAY = 8


@dataclass
class Session:
    """One open page. `stop` ends whatever is running for it; `point` is the step that its screen shows."""

    id: str
    model: str
    # The model before the one asked for last: it comes back, with a sentence in `refused`, should that one not load.
    previous: str | None = None
    refused: str = ""
    run: Run | None = None
    run_id: str = ""
    # Names that the run on the screen had before: a click may be on its way while it gets another.
    names: set[str] = field(default_factory=set)
    folder: Path | None = None
    chosen: int | None = None
    cut: SplitPoint | None = None
    presets: tuple[SplitPoint, ...] = ()
    refusals: int = 0
    point: int = 0
    # The turns of the newest word of a point, of the newest choice of a run, a rollout or a cut, and of a rival: what
    # comes late is older. And of those choices that wait.
    point_turn: int = 0
    choice_turn: int = 0
    rival_turn: int = 0
    waiting: list[int] = field(default_factory=list)
    joint: dict | None = None
    after_point: int = 0
    after_sampling: SamplingConfig | None = None
    # A run from disk, shown until the page has one of its own; and one that is shown beside whatever is shown.
    opened: Opened | None = None
    rival: Opened | None = None
    nonce: int = 0
    # Another K than the opened run's own: Play goes on to it.
    planned: int | None = None
    # How many runs it has begun, also such as came to nothing.
    begun: int = 0
    # Runs that this page made, newest first: (name, title).
    made: list[tuple[str, str]] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()
    listed: str = ""
    running: Start | str | None = None
    # Actions under way: one whose page left goes on to its end when nothing is `running` any more.
    at_work: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    touched: float = field(default_factory=time.monotonic)
    # When it said goodbye; None once it is heard of again.
    left: float | None = None

    @property
    def shown_id(self) -> str:
        """The name of the run on the screen; empty when there is none."""
        if self.run is not None:
            return self.run_id
        return self.opened.id if self.opened else ""

    def shows(self, run_id: object) -> bool:
        """Whether a page that shows this run shows this session's. Always while something runs, which nothing does for
        a fresh session and which gives the run other names: what is pressed then is refused, or waits, anyway."""
        return self.running is not None or run_id == self.shown_id or run_id in self.names

    def need_shown(self, run_id: object) -> None:
        """Raises `UserError` where the page shows another run than this session: one that was away for too long is met
        by a fresh session, as after a restart of the app."""
        if not self.shows(run_id):
            raise UserError(
                "This page was away for too long and its run was put away here: reload the page to go on with it."
            )

    def rename(self, run_id: str) -> None:
        """The run on the screen goes on under another name."""
        self.names.add(self.shown_id)
        self.run_id = run_id

    def need_run(self) -> Run:
        """The run, or a sentence that says what comes first."""
        if self.run is None:
            raise UserError("There are no rollouts yet: choose a problem and sample some first.")
        return self.run


class Sessions:
    """All open pages."""

    def __init__(
        self,
        default_model: str,
        greet: Callable[[Session], None] = lambda session: None,
        put_away: Callable[[Session], None] = lambda session: None,
    ):
        """`greet` puts on a new session what every page shows first; `put_away` frees what a closed page holds."""
        self._default_model, self._greet, self._put_away = default_model, greet, put_away
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, session_hash: str | None) -> Session:
        """The session of a page, made on its first use."""
        key = session_hash or "local"
        now = time.monotonic()
        with self._lock:
            others = [(k, s) for k, s in self._sessions.items() if k != key]
            # What runs for a page keeps it, however long nobody touches it.
            for other in [k for k, s in others if now - s.touched > IDLE_LIMIT_S and not s.running]:
                self._sessions.pop(other).stop.set()
            session = self._sessions.get(key)
            if session is None:
                session = self._sessions[key] = Session(key, self._default_model)
                self._greet(session)
            session.touched, session.left = now, None
            return session

    def holding(self, run_id: str) -> Session | None:
        """The session that has a run in memory, if any: what it took since it was last saved is nowhere else."""
        with self._lock:
            return next((s for s in self._sessions.values() if s.run is not None and s.run_id == run_id), None)

    def fresh(self) -> Session:
        """A session of nobody, as every page begins."""
        session = Session("", self._default_model)
        self._greet(session)
        return session

    def close(self) -> None:
        """The app ends: whatever runs for a page stops at its next step, by saving."""
        with self._lock:
            for session in self._sessions.values():
                session.stop.set()

    def leave(self, session_hash: str | None) -> None:
        """A page was closed, or looks so: its work stops and its run, with the model, is put away. The rest is given
        back when `AWAY` others have left since, or as that of any page that rests."""
        with self._lock:
            session = self._sessions.get(session_hash or "local")
            if session is None:
                return
            session.stop.set()
            session.left = time.monotonic()
            away = sorted((s.left, key) for key, s in self._sessions.items() if s.left is not None)
            for _, key in away[:-AWAY]:
                del self._sessions[key]
        self._put_away(session)
