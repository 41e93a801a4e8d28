"""The hunt's screen: ask for a hunt, watch it, read what it found, open its runs. What is shown lies on disk, so every
event says what it wants to see, and no page has a hunt of its own.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from explorer.errors import describe
from explorer.hunt_request import FILE_KINDS, run_id
from explorer.ui.page import Page
from explorer.ui.panels.watch import reading, show
from explorer.ui.screen import warning
from explorer.ui.view import View

HEAD = (
    "<h2>Hunt</h2><p>Find the prompts that the model never solves, and which of them a revision rescues. It runs in a "
    "process of its own: close the page, and nothing is lost.</p>"
)


def layout(page: Page) -> None:
    """The form, where the hunt stands, what it found."""
    with gr.Column(elem_classes="lr-section", elem_id="lr-section-hunt"):
        gr.HTML(HEAD, elem_classes="lr-section-head", apply_default_css=False)
        page.notices["hunt"] = View("notice.js", elem_id="lr-notice-hunt")
        page.hunt_form = View("hunt-form.js", ("plan", "begin"), later=True, elem_id="lr-hunt-form", label="New hunt")
        page.hunt_file = gr.File(
            label="A problem file",
            file_types=list(FILE_KINDS),
            elem_id="lr-hunt-file",
            elem_classes="lr-hidden",
        )
        page.hunt = View("hunt.js", ("look", "act", "audit"), later=True, elem_id="lr-hunt", label="The hunt")
        page.hunt_table = View("hunt-table.js", ("open",), later=True, elem_id="lr-hunt-table", label="What it found")


def events(page: Page) -> None:
    """Planning, beginning, looking, stopping and going on, auditing, opening a run."""
    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    screen = [page.hunt, page.hunt_table, page.notices["hunt"]]

    def looked(data: dict, hunt: str | None = None, notice: dict | None = None) -> dict:
        status, table = page.hunts.look(hunt or data.get("hunt"), str(data.get("mark", "")))
        updates = {page.hunt: status, page.notices["hunt"]: notice}
        return updates if table is None else {**updates, page.hunt_table: table}

    def planned(data: dict, request: gr.Request, **more: object) -> dict:
        values, model = data.get("values") or page.hunts.form()["values"], page.session(request).model
        plan = page.hunts.plan(values, model, int(data.get("ticket", 0)))
        return {**page.hunts.form(), "plan": plan, **more}

    def plan(evt: gr.EventData, request: gr.Request):
        return planned(evt._data, request)

    def bring(path: str | None):
        if not path:
            return gr.skip(), None, gr.skip()
        try:
            name = page.hunts.take_in(Path(path), Path(path).name)
        except Exception as error:
            return gr.skip(), None, warning(describe(error))
        # The form knows the settings: it asks for the plan itself.
        brought = {"value": name, "label": Path(path).name}
        return {**page.hunts.form(), "plan": None, "brought": brought}, None, None

    def begin(evt: gr.EventData, request: gr.Request):
        data = evt._data
        try:
            hunt = page.hunts.start(data["values"], page.session(request).model, str(data.get("hunt", "")))
        except Exception as error:
            return looked(data, notice=warning(describe(error)))
        return looked(data, hunt)

    def look(evt: gr.EventData):
        return {key: value for key, value in looked(evt._data).items() if key is not page.notices["hunt"]}

    def attempt(data: dict, action) -> dict:
        try:
            action()
        except Exception as error:
            return looked(data, notice=warning(describe(error)))
        return looked(data)

    def act(evt: gr.EventData):
        data = evt._data
        return attempt(data, lambda: page.hunts.command(str(data["what"]), str(data["job"])))

    def audit(evt: gr.EventData, request: gr.Request):
        data, model = evt._data, page.session(request).model
        return attempt(data, lambda: page.hunts.audit(str(data.get("hunt", "")), model))

    def open_(evt: gr.EventData, request: gr.Request):
        data = evt._data
        name = run_id(str(data.get("hunt", "")), str(data.get("run", "")))
        return show(page, page.session(request), name, data.get("turn"))

    # Asked for at every rest in typing, also while one is on its way; the form takes the answer to its last question.
    page.hunt_form.plan(plan, None, page.hunt_form, trigger_mode="multiple", **quick)
    page.hunt_form.begin(begin, None, screen, **quick)
    brought = [page.hunt_form, page.hunt_file, page.notices["hunt"]]
    page.hunt_file.upload(bring, page.hunt_file, brought, **quick | reading(page.hunt_file))
    page.hunt.look(look, None, screen, **quick)
    page.hunt.act(act, None, screen, **quick)
    page.hunt.audit(audit, None, screen, **quick)
    page.hunt_table.open(open_, None, page.outputs("watch"), trigger_mode="multiple", **quick)
