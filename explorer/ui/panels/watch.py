"""What opens first: recorded runs to watch, the tour, opening a run from the address or from one's own disk."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from explorer.ui.page import EACH_PRESS, Page
from explorer.ui.screen import Screen
from explorer.ui.session import Session
from explorer.ui.view import View


def reading(file: gr.File) -> dict:
    """For an event that takes in what was brought, which may be large: name, size and time show until it is read."""
    return dict(show_progress="minimal", show_progress_on=file)


def layout(page: Page) -> None:
    """The gallery and the story of the run on show; the file input behind “Open a run…” and behind dropping."""
    # Above all: on a telephone the gallery and the story fill more than the screen.
    page.notices["watch"] = View("notice.js", elem_id="lr-notice-watch")
    page.bring = gr.File(
        label="Open a run",
        file_count="multiple",
        file_types=[".zip", ".json", ".safetensors"],
        elem_id="lr-open-file",
        elem_classes="lr-hidden",
    )
    page.watch = View("watch.js", ("open", "live"), elem_id="lr-watch", label="Recorded runs")


def greet(page: Page, session: Session) -> None:
    """Give the components the values that a fresh session sees."""
    for name, payload in page.work.drawing.all(session).items():
        page.views[name].value = payload
    if session.opened is not None:
        for component, value in page.settings_of(session.opened.trace).items():
            component.value = value


def show(page: Page, session: Session, run_id: str, turn: int | None) -> dict:
    """Open a run that somebody chose; of choices that come while one is answered the newest counts."""
    return page.once("watch", "open", session, lambda: page.work.open(session, run_id), on_model=False, choice=turn)


def events(page: Page, demo: gr.Blocks) -> None:
    """Opening, running live, the first screen.

    What every page shows first is in the page itself (`greet`), so that it moves before Python has been asked anything.
    """

    def open_(evt: gr.EventData, request: gr.Request):
        session, data = page.session(request), evt._data
        return show(page, session, str(data.get("id", "")), data.get("turn"))

    def live(evt: gr.EventData, request: gr.Request):
        session = page.session(request)

        def action():
            session.need_shown(evt._data.get("run_id"))
            return page.work.replay(session)

        # The page is turned to running by then: what is said about it stands with the problem, and at the end.
        yield from page.run("problem", "replay", session, action)

    def bring(files: list[str] | None, request: gr.Request):
        session, paths = page.session(request), [Path(file) for file in files or ()]
        updates = page.once("watch", "bring", session, lambda: page.work.bring(session, paths), on_model=False)
        # Emptied each time: Gradio would add the next files to these.
        return {page.bring: None, **updates}

    def first(request: gr.Request):
        session, run_id = page.session(request), str(request.query_params.get("run", ""))
        if not run_id or run_id == session.shown_id:
            return page.draw(Screen(), "watch")
        holding = page.sessions.holding(run_id)
        if holding is not None:
            page.work.save_now(holding)
        updates = page.once("watch", "open", session, lambda: page.work.open(session, run_id), on_model=False)
        if session.shown_id != run_id:
            session.nonce += 1  # the views wait for what the address asks for: this is what they get instead
            updates |= page.draw(Screen(**page.work.drawing.all(session)), "watch")
        return updates

    outputs = page.outputs("watch")
    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    page.watch.open(open_, None, outputs, trigger_mode="multiple", **quick)
    page.bring.upload(bring, page.bring, [*outputs, page.bring], **quick | reading(page.bring))
    demo.load(first, None, outputs, **quick)
    page.watch.live(
        live,
        None,
        page.outputs("problem"),
        concurrency_limit=None,
        show_progress="minimal",
        show_progress_on=page.notices["problem"],
        api_visibility="private",
        **EACH_PRESS,
    )
