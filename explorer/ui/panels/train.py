"""The training's screen: choose traces and a way to train, see what that amounts to, watch it, load what came of it.
What is shown lies on disk, so every event says what it wants to see, and no page has a training of its own.
"""

from __future__ import annotations

import gradio as gr

from explorer.errors import describe
from explorer.ui.page import Page
from explorer.ui.screen import info, warning
from explorer.ui.view import View

HEAD = (
    "<h2>Train</h2><p>Teach the model what was rescued: by imitation (SFT), by reward with a rescued trace in its "
    "group (GRPO), or by preference (DPO). It runs in a process of its own: close the page, and nothing is lost.</p>"
)


def layout(page: Page) -> None:
    """The form, where the training stands and what came of it, its curves."""
    with gr.Column(elem_classes="lr-section", elem_id="lr-section-train"):
        gr.HTML(HEAD, elem_classes="lr-section-head", apply_default_css=False)
        page.notices["train"] = View("notice.js", elem_id="lr-notice-train")
        page.train_form = View(
            "train-form.js", ("plan", "begin", "weigh"), later=True, elem_id="lr-train-form", label="New training"
        )
        page.train = View(
            "train.js", ("look", "act", "evaluate", "take"), later=True, elem_id="lr-train", label="The training"
        )
        page.train_curves = View("train-curves.js", later=True, elem_id="lr-train-curves", label="Its curves")


def events(page: Page) -> None:
    """Planning, weighing, beginning, looking, stopping and going on, evaluating, loading. Comes after the header's
    events: loading is theirs."""
    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    notice = page.notices["train"]
    screen = [page.train, page.train_curves, notice]

    def looked(data: dict, request: gr.Request, training: str | None = None, said: dict | None = None) -> dict:
        model = page.session(request).model
        status, curves = page.trainings.look(training or data.get("training"), str(data.get("mark", "")), model)
        updates = {page.train: status, notice: said}
        return updates if curves is None else {**updates, page.train_curves: curves}

    def planned(data: dict, request: gr.Request) -> dict:
        form, model = page.trainings.form(), page.session(request).model
        plan = page.trainings.plan(data.get("values") or form["presets"]["sft"], model, int(data.get("ticket", 0)))
        return {**form, "plan": plan}

    def plan(evt: gr.EventData, request: gr.Request):
        return planned(evt._data, request)

    def weigh(evt: gr.EventData, request: gr.Request):
        data, session = evt._data, page.session(request)

        def measure():
            page.trainings.weigh(data["values"], page.host.need(session.model))
            yield None

        try:
            for _ in page.work.thread.drain(measure(), lambda older, newer: newer, lambda: None, quick=True):
                pass
        except Exception as error:
            return planned(data, request), warning(describe(error))
        return planned(data, request), None

    def begin(evt: gr.EventData, request: gr.Request):
        data = evt._data
        try:
            model = page.session(request).model
            training = page.trainings.start(data["values"], model, str(data.get("training", "")))
        except Exception as error:
            return looked(data, request, said=warning(describe(error)))
        return looked(data, request, training)

    def look(evt: gr.EventData, request: gr.Request):
        return {key: value for key, value in looked(evt._data, request).items() if key is not notice}

    def attempt(data: dict, request: gr.Request, action) -> dict:
        try:
            action()
        except Exception as error:
            return looked(data, request, said=warning(describe(error)))
        return looked(data, request)

    def act(evt: gr.EventData, request: gr.Request):
        data = evt._data
        return attempt(data, request, lambda: page.trainings.command(str(data["what"]), str(data["job"])))

    def evaluate(evt: gr.EventData, request: gr.Request):
        data = evt._data
        action = page.trainings.after.evaluate
        return attempt(data, request, lambda: action(str(data.get("training", "")), str(data.get("side", "")), data))

    def pick(evt: gr.EventData):
        data = evt._data
        training = str(data.get("training", ""))
        try:
            name, parent = page.trainings.after.pair(training)
        except Exception as error:
            return gr.skip(), warning(describe(error)), gr.skip(), ""
        said = "The trained model is being loaded, and its parent stays a click away; what runs from now on runs on it."
        if data.get("side") == "parent":
            name, said = parent, "The parent is being loaded: the line at the top says when it is there."
        return name, info(said), page.trainings.look(training, str(data.get("mark", "")), name)[0], name

    def load(name: str, request: gr.Request):
        # Not what stands in the box: where nothing was taken, nothing is loaded.
        return page.loading["fn"](name, request) if name else (gr.skip(), gr.skip())

    # Asked for at every rest in typing, also while one is on its way; the form takes the answer to its last question.
    page.train_form.plan(plan, None, page.train_form, trigger_mode="multiple", **quick)
    page.train_form.begin(begin, None, screen, **quick)
    # Each is sent: one that Gradio dropped, since another is under way, would leave its button at “Weighing…”.
    page.train_form.weigh(
        weigh,
        None,
        [page.train_form, notice],
        trigger_mode="multiple",
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )
    page.train.look(look, None, screen, **quick)
    page.train.act(act, None, screen, **quick)
    page.train.evaluate(evaluate, None, screen, **quick)
    taken = gr.State("")
    page.train.take(pick, None, [page.model_name, notice, page.train, taken], **quick).success(
        **page.loading | {"fn": load, "inputs": taken}
    )
