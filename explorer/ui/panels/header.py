"""The head of the page: what this is, which model is ready or on its way, and bringing another one."""

from __future__ import annotations

import gradio as gr

from explorer.ui.page import Page
from explorer.ui.view import View

TICK_S = 0.5


def layout(page: Page) -> None:
    """Title, model state, and the field for another model."""
    page.header = View("header.js", elem_id="lr-header")
    with gr.Accordion("Use another model", open=False, elem_id="lr-model"), gr.Row(equal_height=True):
        name = gr.Textbox(
            label="Hub id or local folder",
            placeholder="Qwen/Qwen2.5-0.5B-Instruct, or a folder with config.json and safetensors",
            info="Any causal language model. Its vocabulary map is built in the background the first time.",
            scale=4,
        )
        load = gr.Button("Load", scale=0, min_width=120)
    page.model_name, page.load_model = name, load


def payload(page: Page, session) -> dict:
    """What the header shows."""
    entry = page.host.loading(session.model)
    if entry.state == "failed" and session.previous is not None:
        session.refused = f"{entry.message} The page goes on with the model it had."
        session.model, session.previous = session.previous, None
        entry = page.host.loading(session.model)
    message = entry.message or session.refused
    if entry.state == "failed" and not page.host.settings.refusal(session.model):
        message += " “Load”, under “Run it yourself” and “Use another model”, tries again."
    info = entry.model.info.model_dump() if entry.model else None
    if info:
        info["fallbacks"], info["ways"] = entry.model.fallbacks, entry.model.ways
    return {
        "state": entry.state,
        "progress": entry.progress,
        "message": message,
        "model": info,
        "parent": page.trainings.after.parent_of(session.model),
        "map": page.host.map_status(entry.model)[1] if entry.model else None,
    }


def events(page: Page, demo: gr.Blocks) -> None:
    """Poll the loading until all is there; load another model on request."""
    timer = gr.Timer(TICK_S)

    def tick(seen: str, request: gr.Request):
        session = page.session(request)
        value = payload(page, session)
        settled = value["state"] != "loading" and (not value["map"] or value["map"]["state"] not in ("building",))
        # The name too: a small model is there before the first look, and as ready as the one before it.
        mark = f"{session.model}|{value['state']}|{value['progress']}|{value['message']}|{value['map']}"
        if mark == seen:
            return *[gr.skip()] * 5, gr.Timer(active=not settled), seen
        # The stage shows the map's progress, and the map itself as soon as it is there.
        if session.shown_id and session.running is None:
            screen = page.work.refresh(session)
            views = screen.stage, screen.watch, screen.success, screen.audit
            return value, *views, gr.Timer(active=not settled), mark
        return value, *[gr.skip()] * 4, gr.Timer(active=not settled), mark

    def load(name: str, request: gr.Request):
        session = page.session(request)
        name = (name or "").strip() or session.model
        if name != session.model:
            if page.host.loading(session.model).state == "ready":
                session.previous = session.model
            session.model = name
        session.refused = ""
        page.host.request(name)
        return payload(page, session), gr.Timer(active=True)

    def first(request: gr.Request):
        session = page.session(request)
        page.host.again(session.model)
        return payload(page, session)

    seen = gr.State("")
    quiet = dict(show_progress="hidden", api_visibility="private")
    views = [page.stage, page.watch, page.success, page.audit]
    timer.tick(tick, seen, [page.header, *views, timer, seen], queue=False, **quiet)
    demo.load(first, None, page.header, queue=False, **quiet)
    page.loading = dict(fn=load, inputs=page.model_name, outputs=[page.header, timer], queue=False, **quiet)
    gr.on([page.load_model.click, page.model_name.submit], **page.loading)
