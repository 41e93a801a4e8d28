"""A Space on ZeroGPU lends its GPU to one call at a time: the call runs in a forked process, gets its arguments and
gives its values pickled, and has a minute.

What a button does is a generator over a session that lives in this process. So a session's plain values and its run go
over as a `Parcel`; there the run is taken up from its record, as one from disk is; the redraws come back as they arise,
and at the end the session's values, whose run this process then shows as one opened from disk. The model is loaded
there on the GPU; here it stays on the CPU, for its tokens' texts and its vocabulary's map.

Where there is no ZeroGPU nothing of this happens: `lent` leaves an action as it is.

Source: the package `spaces` 0.51 (`zero/wrappers.py`): a worker is forked from this process and used again while it is
idle; a stop event is set when the consumer leaves; `Exception`s arrive as gradio errors with the class's name alone.

What it does not do: run what builds maps (numba does not survive a fork; these have child processes of their own), or
train: the page gives the command.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from explorer.errors import UserError, describe
from explorer.pipeline import Run, load_model
from explorer.records import Trace
from explorer.settings import Settings
from explorer.store import run_folder
from explorer.ui.library import Opened
from explorer.ui.screen import Screen, info
from explorer.verdict import Judge
from explorer.views.vocabulary_map import map_folder

if TYPE_CHECKING:
    from explorer.ui.session import Session
    from explorer.ui.work import Work

# A free visitor's call may last a minute. Work is told to stop in time to save itself.
CALL_S, SAVING_S = 60, 10.0
# A worker that is still at it then waits for something that will not come, and ends.
HUNG_S = CALL_S + 2 * SAVING_S
BROKE_OFF = "The Space took its GPU back too early: try again with fewer rollouts, tokens or steps."
# Of a session's values these stay where they are.
_OWN = (
    "id",
    "run",
    "opened",
    "rival",
    "running",
    "at_work",
    "point_turn",
    "choice_turn",
    "rival_turn",
    "waiting",
    "stop",
    "touched",
    "left",
    "previous",
    "refused",
    "problems",
    "listed",
)


class Flag:
    """A stop sign that both processes see: a file, or the end of the call's time."""

    def __init__(self, path: Path, until: float = float("inf")):
        self.path, self.until = path, until

    @property
    def late(self) -> bool:
        """Whether the call's time is up, but for what saving takes."""
        return time.monotonic() > self.until

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.late or self.path.exists()

    def set(self) -> None:
        """Ask for it."""
        self.path.touch()

    def clear(self) -> None:
        """Take it back."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Parcel:
    """A session as it travels: its plain values; its run's record and embeddings (steps+1, M, hidden); whether that run
    is its own or was opened; a sentence if it failed; whether its time was up."""

    values: dict[str, Any]
    trace: Trace | None
    trajectory: Any
    own: bool
    opened_id: str = ""
    failed: str = ""
    late: bool = False

    @classmethod
    def of(cls, session: Session, **said: Any) -> Parcel:
        """Pack what a session shows and holds."""
        values = {name: value for name, value in vars(session).items() if name not in _OWN}
        if session.run is not None:
            run = session.run
            embeddings = run.trajectory()
            return cls(values, run.trace(), None if embeddings is None else embeddings.numpy(), True, **said)
        opened = session.opened
        if opened is None:
            return cls(values, None, None, False, **said)
        embeddings = opened.trajectory()
        # A run that came back from a call is the page's own, under the name that it has.
        own = bool(session.run_id) and session.run_id == opened.id
        return cls(values, opened.trace, None if embeddings is None else embeddings.numpy(), own, opened.id, **said)

    def into(self, session: Session, runs_dir: Path) -> None:
        """Give a session of the lending process what a call made of it; its run is shown as one from disk."""
        for name, value in self.values.items():
            setattr(session, name, value)
        if self.own and self.trace is not None:
            session.run = None
            session.opened = Opened(session.run_id, self.trace, run_folder(runs_dir, session.run_id))
            session.rival = None
            session.nonce += 1


class _Host:
    """The model host as actions see it in a call: one model, on the GPU, and maps that are there already."""

    def __init__(self, model, cache_dir: Path):
        self._model, self._cache_dir = model, cache_dir
        self.settings = Settings(public=True, cache_dir=cache_dir)

    def loading(self, name: str):
        return SimpleNamespace(state="ready", model=self._model, message="", progress=1.0)

    def need(self, name: str):
        return self._model

    def map_folder(self, key: str) -> Path | None:
        return map_folder(key, self._cache_dir)

    def map_status(self, model) -> tuple[str | None, dict]:
        there = self.map_folder(model.info.fingerprint) is not None
        status = {"state": "ready" if there else "absent", "progress": float(there), "message": ""}
        return (model.info.fingerprint if there else None), status


# The work of the process that lends, and that process; a fork finds it here.
_lender: Work | None = None
_lender_id = 0
_call: Callable[..., Iterator[Any]] | None = None
# In a forked worker: its own work, kept for its next call.
_borrower: Work | None = None


def lend(work: Work, gpu: Callable[..., Any]) -> None:
    """Let the actions of `work` run where `gpu` (`spaces.GPU`) puts them."""
    global _lender, _lender_id, _call
    _lender, _lender_id, _call = work, os.getpid(), gpu(duration=CALL_S)(_on_gpu)


def take_back() -> None:
    """Run actions in this process again."""
    global _lender, _call
    _lender = _call = None


def lent(action: Callable[..., Iterator[Screen]]) -> Callable[..., Iterator[Screen]]:
    """Decorates an action of `Work`: it runs on the GPU of a ZeroGPU Space, and as it is everywhere else."""

    @functools.wraps(action)
    def placed(self: Work, session: Session, *arguments: Any, **options: Any) -> Iterator[Screen]:
        if _call is None or self is not _lender:
            return action(self, session, *arguments, **options)
        return _away(self, session, action.__name__, arguments, options)

    return placed


def _away(work: Work, session: Session, name: str, arguments: tuple, options: dict) -> Iterator[Screen]:
    """An action in a lent call: send the session, draw what comes, take the session back."""
    import gradio as gr

    yield from work.await_model(session, session.model)
    if session.stop.is_set():
        return
    model = work.host.need(session.model)
    with tempfile.TemporaryDirectory(prefix="latentrevise-") as folder:
        sign = Flag(Path(folder) / "stop")
        back = None
        try:
            for sent in _call(name, Parcel.of(session), arguments, options, sign.path, model.info.dtype):
                if isinstance(sent, Parcel):
                    back = sent
                else:
                    yield sent
                if session.stop.is_set():
                    sign.set()
        except gr.Error as error:
            if "worker" in str(error.title):
                raise UserError(BROKE_OFF) from error
            # Of the lender: no GPU free, this visitor's minutes used up. Its text may hold HTML.
            text = re.sub(r"<[^>]*>", "", str(error.message)).strip().rstrip(".")
            raise UserError(f"The Space lends no GPU now ({text}): try again later; recorded runs play.") from error
    if back is None:
        raise UserError(BROKE_OFF)
    back.into(session, work.runs_dir)
    if back.failed:
        raise UserError(back.failed)
    if back.late:
        text = f"This Space lends its GPU for {CALL_S} s at a time, which are over: press again to go on from here."
        yield Screen(notice=info(text), busy="")


@contextlib.contextmanager
def _ended_if_hung() -> Iterator[None]:
    """A forked process that is at it for longer than `HUNG_S` seconds ends, with its stacks in the Space's log. The
    timer is C when it fires: it waits for no lock that the fork inherited. In the lending process nothing of it."""
    if os.getpid() == _lender_id:
        yield
        return
    with contextlib.suppress(AttributeError, ValueError, RuntimeError):  # no log to write to
        faulthandler.dump_traceback_later(HUNG_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _on_gpu(
    name: str, parcel: Parcel, arguments: tuple, options: dict, sign: Path, dtype: str
) -> Iterator[Screen | Parcel]:
    """In the forked process: an action over the session that was sent; its redraws, then the session."""
    from explorer.ui.session import Session

    stop = Flag(sign, time.monotonic() + CALL_S - SAVING_S)
    session = Session("", "", stop=stop)
    failed, begun = "", False
    with _ended_if_hung():
        try:
            # OpenMP's threads do not survive a fork: with more than one the first product would wait for ever.
            torch.set_num_threads(1)
            work = _borrowed(dtype)
            for key, value in parcel.values.items():
                setattr(session, key, value)
            if parcel.own:
                embeddings = None if parcel.trajectory is None else torch.from_numpy(parcel.trajectory)
                session.run = Run.reopen(work.host.need(""), parcel.trace, embeddings)
            elif parcel.trace is not None:
                session.opened = _Brought(parcel.opened_id, parcel.trace, Path(), embeddings=parcel.trajectory)
            begun = True
            # The plain action: here nothing is lent further.
            for screen in getattr(work, name)(session, *arguments, **options):
                if isinstance(screen, Screen):
                    yield screen
        except Exception as error:
            failed = describe(error)
        late = stop.late and not failed
        back = Parcel.of(session, failed=failed, late=late) if begun else replace(parcel, failed=failed)
    yield back


@dataclass(frozen=True)
class _Brought(Opened):
    """An opened run whose embeddings came along."""

    embeddings: Any = None

    def trajectory(self):
        """(steps+1, M, hidden), or None."""
        return None if self.embeddings is None else torch.from_numpy(self.embeddings)


def _borrowed(dtype: str) -> Work:
    """The forked process's own work, with the model on the GPU."""
    global _borrower
    if _borrower is None:
        from explorer.ui.work import Work

        settings = _lender.host.settings
        # The same number format: embeddings, maps and recorded runs are of one vocabulary then.
        there = settings.model_copy(update={"device": "auto", "dtype": dtype})
        model = load_model(there, settings.model)
        _borrower = Work(_Host(model, settings.cache_dir), Judge(), _lender.runs_dir, _lender.limits)
    return _borrower


def at_home(settings):
    """The settings of the process that lends: it must not touch the GPU, which it only seems to have; and what it tells
    visitors of their turns is a call's length."""
    return settings.model_copy(update={"device": "cpu", "dtype": "float32", "turn_s": float(CALL_S)})
