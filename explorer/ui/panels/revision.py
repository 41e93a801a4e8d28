"""Step 3: the stage. Its player's buttons come here as events; the settings stand beside it."""

from __future__ import annotations

import gradio as gr

from explorer.ui.controls import revision_controls, revision_of
from explorer.ui.page import EACH_PRESS, ON_SCREEN, Page, on_screen
from explorer.ui.screen import SAME
from explorer.ui.view import View


def layout(page: Page) -> None:
    """What to compare with; settings beside the stage; and the rival's stage, hidden while there is none."""
    page.duel = View("duel.js", ("against",), elem_id="lr-duel", label="Compare two runs")
    with gr.Row(equal_height=False, elem_classes="lr-stage-row"):
        with gr.Column(scale=1, min_width=260, elem_id="lr-settings"):
            page.revision = revision_controls(page.limits)
        with gr.Column(scale=4, min_width=320, elem_id="lr-stage-column"):
            page.notices["revision"] = View("notice.js", elem_id="lr-notice-revision")
            page.stage = View(
                "stage.js",
                ("step", "play", "pause", "restart", "point", "joint"),
                elem_id="lr-stage",
                label="The revision, step by step",
            )
        with gr.Column(scale=4, min_width=320, elem_id="lr-stage-b-column"):
            page.rival = View("stage.js", later=True, elem_id="lr-stage-b", label="The run that it is compared with")


def taking_up(session) -> bool:
    """Whether an action will first take up an opened run, which reads its prompt with the model."""
    return session.run is None and session.opened is not None


def events(page: Page) -> None:
    """Step, play, pause, start over, which point is on screen, and UMAP's own view."""

    def revise(evt: gr.EventData, request: gr.Request, settings: tuple, one: bool):
        session = page.session(request)

        def action():
            session.need_shown(evt._data.get("run_id"))
            return page.work.revise(session, revision_of(settings), one)

        yield from page.run("revision", "step" if one else "play", session, action)

    def step(evt: gr.EventData, request: gr.Request, *settings):
        yield from revise(evt, request, settings, one=True)

    def play(evt: gr.EventData, request: gr.Request, *settings):
        yield from revise(evt, request, settings, one=False)

    def restart(evt: gr.EventData, request: gr.Request, *settings):
        session = page.session(request)

        def action():
            session.need_shown(evt._data.get("run_id"))
            return page.work.restart(session, revision_of(settings))

        return page.once("revision", "restart", session, action, taking_up(session))

    def point(evt: gr.EventData, request: gr.Request):
        session, data = page.session(request), evt._data
        turn = data.get("turn", 0)
        if data.get("run_id") == session.shown_id and turn >= session.point_turn:
            session.point, session.point_turn = max(0, int(data["point"])), turn

    def plan(steps: int, said: str, request: gr.Request):
        session, shown = page.session(request), on_screen(said)
        if shown is not None and not session.shows(shown[0]):
            return gr.skip()  # what is pressed next says so
        stage = page.work.plan(session, int(steps)).stage
        return gr.skip() if stage is SAME else stage

    def against(evt: gr.EventData, request: gr.Request):
        session, data = page.session(request), evt._data
        run_id = data.get("id")

        def action():
            return page.work.against(session, run_id and str(run_id))

        return page.once("revision", "against", session, action, on_model=False, choice=data.get("turn"))

    def joint(evt: gr.EventData, request: gr.Request):
        session = page.session(request)

        def action():
            session.need_shown(evt._data.get("run_id"))
            return page.work.joint(session)

        yield from page.run("revision", "joint", session, action, on_model=False)

    model = EACH_PRESS | dict(
        inputs=page.revision.all(),
        outputs=page.outputs("revision"),
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )
    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    page.stage.step(step, **model)
    page.stage.play(play, **model)
    page.stage.restart(restart, page.revision.all(), page.outputs("revision"), **quick)
    page.revision.steps.input(
        plan, [page.revision.steps, page.on_screen], page.stage, js=ON_SCREEN, trigger_mode="always_last", **quick
    )
    page.duel.against(against, None, page.outputs("revision"), trigger_mode="multiple", **quick)
    page.stage.pause(page.stop, **quick)
    # Each word counts: Gradio would drop one that is said while the one before is on its way.
    page.stage.point(point, None, None, trigger_mode="multiple", **quick)
    page.stage.joint(
        joint,
        None,
        page.outputs("revision"),
        concurrency_id="joint",
        concurrency_limit=1,
        show_progress="hidden",
        api_visibility="private",
    )
