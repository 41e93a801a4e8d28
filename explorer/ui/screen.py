"""What is on a page's screen: the parts that actions redraw, and how each is drawn from a session.

A session shows either its own live run or one opened from disk; the views don't notice the difference, but for what can
still be computed.

What it does not do: change a session; `Work` does. Know components; `Page` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from explorer.recorded import recorded_runs
from explorer.records import Rollout, RunStatus, Start, Trace
from explorer.sources import called, loads_as
from explorer.ui.models import ModelHost
from explorer.ui.session import Session
from explorer.views.audit import audit_payload
from explorer.views.duel import duel_payload
from explorer.views.payloads import compare_payload, rollouts_payload, stage_payload
from explorer.views.success import success_payload
from explorer.views.watch import watch_payload


class _Same:
    """Marks a part of the screen that did not change; the same one also where a screen comes from another process."""

    def __reduce__(self) -> str:
        return "SAME"


SAME: Any = _Same()


@dataclass(frozen=True)
class Screen:
    """What to redraw: payloads of the views, a notice {kind, text} where the action began, another one (`ending`) where
    it ends, the settings that a run brought along (a `Trace`), and what is busy ("" when nothing is)."""

    watch: Any = SAME
    rollouts: Any = SAME
    stage: Any = SAME
    compare: Any = SAME
    success: Any = SAME
    audit: Any = SAME
    duel: Any = SAME
    rival: Any = SAME
    settings: Any = SAME
    notice: Any = SAME
    ending: Any = SAME
    busy: Any = SAME


def merged(older: Screen, newer: Screen) -> Screen:
    """Two redraws as one: a part that the newer one leaves alone is the older one's."""
    values = {f.name: getattr(newer, f.name) for f in fields(Screen)}
    return Screen(**{name: getattr(older, name) if value is SAME else value for name, value in values.items()})


def info(text: str) -> dict:
    """A notice that tells."""
    return {"kind": "info", "text": text}


def warning(text: str) -> dict:
    """A notice that asks for something."""
    return {"kind": "warning", "text": text}


@dataclass(frozen=True)
class Shown:
    """The run on a screen, whatever it comes from."""

    trace: Trace
    token_text: Callable[[int], str]
    decode: Callable[[Sequence[int]], str]


class Drawing:
    """Payloads of a session's views."""

    def __init__(self, host: ModelHost):
        self.host = host

    def shown(self, session: Session) -> Shown | None:
        """The run that the session shows: its own, else the one it opened, else None."""
        if session.run is not None:
            model = session.run.model
            return Shown(session.run.trace(), model.token_text, model.decode)
        if session.opened is not None:
            return Shown(session.opened.trace, session.opened.token_text, session.opened.decode)
        return None

    def all(self, session: Session) -> dict[str, Any]:
        """Every view, as after another run came on the screen."""
        return {
            "watch": self.watch(session),
            "rollouts": self.rollouts(session, "done"),
            "stage": self.stage(session),
            "compare": self.compare(session),
            "success": self.success(session),
            "audit": self.audit(session),
            **self.duel(session),
        }

    def rollouts(self, session: Session, state: str) -> dict | None:
        """The cards and the split."""
        shown = self.shown(session)
        if shown is None:
            return None
        return rollouts_payload(
            shown.trace,
            shown.token_text,
            state=state,
            split=session.cut,
            split_rollout=session.chosen,
            presets=session.presets,
            run_id=session.shown_id,
        )

    def stage(self, session: Session, status: str | None = None) -> dict | None:
        """Map, player, strip, curves."""
        if session.run is None:
            opened = session.opened
            return opened and self._opened_stage(session, opened, self.can_go_on(session))
        run = session.run
        if run.split is None:
            return None
        key, map_status = self.host.map_status(run.model)
        return stage_payload(
            run.trace(RunStatus.COMPLETED, run.message),
            run.model.token_text,
            run_id=session.run_id,
            live=True,
            status=status or run.status.value,
            message=run.message,
            map_key=key,
            map_status=map_status,
            joint=session.joint,
        )

    def _opened_stage(self, session: Session, opened, live: bool) -> dict | None:
        key = opened.trace.model.fingerprint
        there = bool(key) and self.host.map_folder(key) is not None
        trace, status = opened.trace, opened.trace.status
        if live and session.planned and trace.config:
            trace = trace.model_copy(update={"config": trace.config.model_copy(update={"steps": session.planned})})
        return stage_payload(
            trace,
            opened.token_text,
            run_id=opened.id,
            live=live,
            # A run that broke off can be gone on with where its model is.
            status=RunStatus.PAUSED.value if live and status is RunStatus.CANCELLED else status.value,
            message=opened.trace.message,
            map_key=key if there else None,
            map_status={"state": "ready" if there else "absent", "progress": 1.0, "message": ""},
            recorded=opened.recorded and {"id": opened.id, "title": opened.title, "date": opened.trace.created_at[:10]},
            nonce=session.nonce,
        )

    def can_go_on(self, session: Session) -> bool:
        """Whether the model that made the opened run is here, or on its way and may be it."""
        entry = self.host.loading(session.model)
        if entry.model is None:
            return entry.state != "failed"
        return entry.model.info.same_weights(session.opened.trace.model)

    def compare(
        self,
        session: Session,
        state: str = "done",
        running: Start | None = None,
        drafts: list | tuple = (),
        drafted: dict[int, Rollout] | None = None,
    ) -> dict | None:
        """Before and after at one point."""
        shown = self.shown(session)
        if shown is None or session.after_sampling is None or (state == "done" and not shown.trace.after):
            return None
        arms = list(Start)
        # While they are drawn anew, those whose turn has not come are not what will stand there.
        drawn = arms[: arms.index(running) if running else 0] if state == "sampling" else arms
        return compare_payload(
            shown.trace,
            shown.token_text,
            shown.decode,
            state=state,
            point=session.after_point,
            sampling=session.after_sampling,
            continuations=[
                item for item in shown.trace.after if item.step == session.after_point and item.start in drawn
            ],
            running=running,
            drafts=drafts,
            drafted=drafted,
        )

    def success(self, session: Session, state: str = "idle", **sampling: Any) -> dict | None:
        """Share correct over the steps; `sampling` tells where a sampling of it stands."""
        shown = self.shown(session)
        if shown is None or shown.trace.split is None:
            return None
        why_not = "" if session.run is not None else self.why_not(session)
        return success_payload(shown.trace, state=state, run_id=session.shown_id, why_not=why_not, **sampling)

    def audit(self, session: Session, state: str = "idle", **running: str) -> dict | None:
        """Controls and what they say; `running` tells which one is under way, and how far."""
        shown = self.shown(session)
        if shown is None or shown.trace.split is None:
            return None
        why_not = "" if session.run is not None else self.why_not(session)
        return audit_payload(shown.trace, run_id=session.shown_id, state=state, why_not=why_not, **running)

    def why_not(self, session: Session) -> str:
        """Why the opened run can't be gone on with; empty when it can."""
        if self.can_go_on(session):
            return ""
        made = session.opened.trace.model
        said = f"This run was made with {called(made.id, made.source)} in {made.dtype}"
        name = loads_as(made.id, made.source)
        here = self.host.loading(session.model).model
        alike = here is not None and (here.info.id, here.info.source) == (made.id, made.source)
        if alike and here.info.dtype != made.dtype:
            return f"{said}, and {here.info.dtype} is loaded: start with `--dtype {made.dtype}` to go on with it."
        if self.host.settings.refusal(name):
            return f"{said}, which this page does not load: it can be watched here."
        return f"{said}: load it under “Run it yourself”, “Use another model”, to go on with it."

    def otherwise(self, session: Session) -> str:
        """What will be otherwise when the opened run is run anew by the model that is here; empty if nothing, or if it
        is not here yet."""
        here = self.host.loading(session.model).model
        if here is None:
            return ""
        made, here = session.opened.trace.model, here.info
        if made.same_weights(here):
            return ""
        if (made.id, made.source) == (here.id, here.source) and made.dtype != here.dtype:
            return f"Here in {here.dtype}, not in {made.dtype} as it was made."
        return (
            f"Here with {called(here.id, here.source)}, where {called(made.id, made.source)} made it: with other "
            "weights something else will come out."
        )

    def can_rerun(self, session: Session) -> bool:
        """Whether the opened run's problem can be run from the start, by whatever model is here or on its way."""
        return self.host.loading(session.model).state != "failed"

    def watch(self, session: Session) -> dict:
        """The gallery, and the story of the run on show."""
        shown = self.shown(session)
        opened = session.opened if session.run is None else None
        why_not = self.why_not(session) if opened else ""
        return watch_payload(
            recorded_runs(),
            shown and shown.trace,
            shown.token_text if shown else str,
            run_id=session.shown_id,
            replayable=opened is not None and self.can_rerun(session),
            why_not=why_not,
            note=self.otherwise(session) if opened else "",
        )

    def duel(self, session: Session) -> dict[str, Any]:
        """Two runs side by side: what differs, and the rival's stage."""
        shown = self.shown(session)
        rival = session.rival
        if shown is None or shown.trace.split is None:
            return {"duel": None, "rival": None}
        options = [(run.id, run.title, "Recorded runs") for run in recorded_runs() if run.id != session.shown_id]
        options += [(run_id, title, "Your runs") for run_id, title in session.made if run_id != session.shown_id]
        if rival and rival.id not in {option[0] for option in options}:
            options.append((rival.id, rival.title, "Your runs"))
        title = session.opened.title if session.run is None and session.opened else "This run"
        return {
            "duel": duel_payload(
                shown.trace,
                rival and rival.trace,
                options,
                rival and rival.id,
                title,
                rival.title if rival else "",
            ),
            "rival": self._opened_stage(session, rival, live=False) if rival else None,
        }
