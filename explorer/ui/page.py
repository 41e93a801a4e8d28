"""What the panels share: the components that actions redraw, and the way from a `Screen` to Gradio's updates.

What it does not do: lay out anything; each panel makes its own components.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import gradio as gr

from explorer.errors import describe
from explorer.limits import Limits
from explorer.problems import load_bank
from explorer.records import Problem, RevisionConfig, SamplingConfig, Trace
from explorer.ui.controls import RevisionControls, SamplingControls
from explorer.ui.hunts import Hunts
from explorer.ui.models import ModelHost
from explorer.ui.screen import SAME, Screen, warning
from explorer.ui.session import Session, Sessions
from explorer.ui.trainings import Trainings
from explorer.ui.view import View
from explorer.ui.work import Work

# Gradio calls an event busy until a while after its last redraw gave the buttons back, and would drop the press.
EACH_PRESS = {"trigger_mode": "multiple"}
# A press says itself which run and step are on screen: the page's word of the step may still be on its way.
ON_SCREEN = """(...values) => {
  const shown = document.querySelector("[data-view=stage]")?.parentElement?.lrStage;
  const where = shown?.stage.payload ? { run_id: shown.stage.payload.run_id, point: shown.point() } : {};
  return [...values.slice(0, -1), JSON.stringify(where)];
}"""


@dataclass
class Page:
    """The shared services, and the components that more than one panel uses; each panel fills in its own while it is
    laid out."""

    host: ModelHost
    sessions: Sessions
    work: Work
    hunts: Hunts
    trainings: Trainings
    header: View = None
    watch: View = None
    bring: gr.File = None
    model_name: gr.Textbox = None
    load_model: gr.Button = None
    bank: gr.Dropdown = None
    upload: gr.UploadButton = None
    question: gr.Textbox = None
    answer: gr.Textbox = None
    sampling: SamplingControls = None
    sample: gr.Button = None
    whole: gr.Button = None
    cancel: gr.Button = None
    rollouts: View = None
    revision: RevisionControls = None
    stage: View = None
    duel: View = None
    rival: View = None
    success: View = None
    decoy: gr.Button = None
    decoy_target: gr.Textbox = None
    samples: gr.Slider = None
    continue_: gr.Button = None
    on_screen: gr.Textbox = None
    cancel_after: gr.Button = None
    compare: View = None
    audit: View = None
    export: gr.Button = None
    link: gr.DownloadButton = None
    hunt_form: View = None
    hunt_file: gr.File = None
    hunt: View = None
    hunt_table: View = None
    train_form: View = None
    train: View = None
    train_curves: View = None
    # What loading the model that the box names takes: the header makes it, the training's screen uses it too.
    loading: dict[str, Any] = field(default_factory=dict)
    notices: dict[str, View] = field(default_factory=dict)

    @property
    def starters(self) -> tuple[gr.Button, ...]:
        """Buttons that begin model work: off while something runs."""
        return self.sample, self.whole, self.continue_, self.decoy

    @property
    def stoppers(self) -> tuple[gr.Button, ...]:
        """Buttons that cancel: on while something runs."""
        return self.cancel, self.cancel_after

    @property
    def limits(self) -> Limits:
        """How much a visitor may ask for at once."""
        return self.work.limits

    def check(self, session: Session, *asked: Problem | SamplingConfig | RevisionConfig) -> None:
        """Refuse a new run that asks for too much, or is one too many, before it stands in line. Raises `UserError`."""
        self.limits.check_runs(session.begun)
        for what in asked:
            self.limits.check(what)

    def session(self, request: gr.Request) -> Session:
        """The session of the page that sent a request."""
        return self.sessions.of(request.session_hash)

    def outputs(self, where: str) -> list:
        """The components that an action of panel `where` may redraw."""
        notices = dict.fromkeys([self.notices[where], self.notices["after"]])
        return [*self.views.values(), *notices, self.bank, *self.settings, *self.starters, *self.stoppers]

    @property
    def views(self) -> dict[str, View]:
        """The views by the name of their field of `Screen`."""
        names = ("watch", "rollouts", "stage", "compare", "success", "audit", "duel", "rival")
        return {name: getattr(self, name) for name in names}

    @property
    def settings(self) -> list:
        """The components that a run brings its own values for."""
        return [self.question, self.answer, *self.sampling.all(), *self.revision.all(), self.samples]

    def settings_of(self, trace: Trace) -> dict:
        """The problem and settings of a run, for those components."""
        config, after = trace.config or RevisionConfig(), trace.after_sampling or trace.sampling
        values = [trace.problem.question, trace.problem.answer]
        values += [getattr(trace.sampling, item.name) for item in fields(SamplingControls)]
        values += [getattr(config, item.name) for item in fields(RevisionControls)]
        found = dict(zip(self.settings, [*values, after.n], strict=True))
        known = {problem.id: problem for problem in load_bank()}.get(trace.problem.id)
        if known and known.question == trace.problem.question:
            found[self.bank] = trace.problem.id
        return found

    def draw(self, screen: Screen, where: str) -> dict:
        """Gradio updates for what changed."""
        updates: dict[Any, Any] = {}
        for name, view in self.views.items():
            if getattr(screen, name) is not SAME:
                updates[view] = getattr(screen, name)
        if screen.notice is not SAME:
            updates[self.notices[where]] = screen.notice
        if screen.ending is not SAME:
            updates[self.notices["after"]] = screen.ending
        if screen.settings is not SAME:
            updates |= self.settings_of(screen.settings)
        if screen.busy is not SAME:
            for button in self.starters:
                updates[button] = gr.Button(interactive=not screen.busy)
            for button in self.stoppers:
                updates[button] = gr.Button(interactive=bool(screen.busy))
        # Gradio wants at least one component back.
        return updates or {self.notices[where]: gr.skip()}

    def run(
        self,
        where: str,
        name: str,
        session: Session,
        make: Callable[[], Iterator[Screen]],
        on_model: bool = True,
        quick: bool = False,
        choice: int | None = None,
    ) -> Iterator[dict]:
        """Drive an action and yield updates. `make` may raise on bad input: that becomes the panel's notice.

        `on_model` is false for actions that run no model: they need not stand behind those that do; `quick` ones go
        first among those. Of actions with a `choice` the newest counts.
        """
        try:
            action = make()
        except Exception as error:
            yield self.draw(Screen(notice=warning(describe(error))), where)
            return
        for screen in self.work.guarded(session, name, action, on_model, quick, choice):
            yield self.draw(screen, where)

    def once(
        self,
        where: str,
        name: str,
        session: Session,
        make: Callable[[], Iterator[Screen]],
        on_model: bool = True,
        choice: int | None = None,
    ) -> dict:
        """`run` to its end, all redraws as one: for events that skip Gradio's queue, of whose generators only the first
        value would ever arrive. What was chosen and has been superseded meanwhile draws nothing: the newer choice's
        answer could be there before this one's."""
        updates: dict = {}
        for update in self.run(where, name, session, make, on_model, quick=True, choice=choice):
            updates |= update
        if choice is not None and self.work.outdated(session, name, choice):
            updates = {}
        return updates or self.draw(Screen(), where)

    def stop(self, request: gr.Request) -> None:
        """Ask whatever runs for this page to stop at its next step."""
        self.session(request).stop.set()


def on_screen(said: object) -> tuple[str, int] | None:
    """The run and the step that a press named; None where a page without its stage named none."""
    try:
        where = json.loads(str(said))
        return str(where["run_id"]), max(0, int(where["point"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
