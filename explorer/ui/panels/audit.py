"""Step 5: is the rescue real? One button that runs the controls that the run on the stage lacks; their table."""

from __future__ import annotations

import gradio as gr

from explorer.ui.page import EACH_PRESS, Page
from explorer.ui.view import View


def layout(page: Page) -> None:
    """One view, and what it has to say."""
    page.notices["audit"] = View("notice.js", elem_id="lr-notice-audit")
    page.audit = View("audit.js", ("audit", "cancel"), later=True, elem_id="lr-audit", label="Is the rescue real?")


def events(page: Page) -> None:
    """Auditing, and ending it; finished controls stay."""

    def audit(evt: gr.EventData, request: gr.Request):
        session = page.session(request)

        def action():
            session.need_shown(evt._data.get("run_id"))
            return page.work.audit(session)

        yield from page.run("audit", "audit", session, action)

    page.audit.audit(
        audit,
        None,
        page.outputs("audit"),
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
        **EACH_PRESS,
    )
    page.audit.cancel(page.stop, queue=False, show_progress="hidden", api_visibility="private")
