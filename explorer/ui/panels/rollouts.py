"""Step 2: the rollouts as they come, their verdicts, and where the chosen one is split."""

from __future__ import annotations

import gradio as gr

from explorer.ui.controls import revision_of
from explorer.ui.page import Page
from explorer.ui.panels.revision import taking_up
from explorer.ui.view import View


def layout(page: Page) -> None:
    """One view."""
    page.rollouts = View("rollouts.js", ("pick", "split"), later=True, elem_id="lr-rollouts", label="Rollouts")


def events(page: Page) -> None:
    """Choosing a rollout, moving the split. Both only lay the revision anew, which takes no model work, so they skip
    the queue. Each is sent, also while another is under way: the newest counts."""

    def pick(evt: gr.EventData, request: gr.Request, *settings):
        session, data = page.session(request), evt._data

        def action():
            session.need_shown(data.get("run_id"))
            return page.work.pick(session, int(data["rollout"]), revision_of(settings))

        return page.once("revision", "pick", session, action, taking_up(session), choice=data.get("turn", 0))

    def split(evt: gr.EventData, request: gr.Request, *settings):
        session, data = page.session(request), evt._data

        def action():
            session.need_shown(data.get("run_id"))
            where = int(data["rollout"]), int(data["m"]), str(data.get("name", "custom"))
            return page.work.cut(session, *where, revision_of(settings))

        return page.once("revision", "split", session, action, taking_up(session), choice=data.get("turn", 0))

    quick = dict(
        inputs=page.revision.all(),
        outputs=page.outputs("revision"),
        queue=False,
        trigger_mode="multiple",
        show_progress="hidden",
        api_visibility="private",
    )
    page.rollouts.pick(pick, **quick)
    page.rollouts.split(split, **quick)
