"""Steps 4 and 5: continuations from the step on screen beside what came before, and taking the run home."""

from __future__ import annotations

import gradio as gr

from explorer.errors import describe
from explorer.records import SamplingConfig
from explorer.ui.controls import sampling_from
from explorer.ui.page import EACH_PRESS, ON_SCREEN, Page, on_screen
from explorer.ui.screen import info, warning
from explorer.ui.view import View

# Taking a run home is one click: once the file is ready the page fetches it by itself.
FETCH = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name ?? "";
  link.click();
}"""


def layout(page: Page) -> None:
    """A budget, a button, the comparison, and the way home."""
    with gr.Row(elem_classes="lr-actions", equal_height=False, elem_id="lr-after-controls"):
        page.samples = gr.Slider(
            1,
            page.limits.rollouts,
            min(SamplingConfig().n, page.limits.rollouts),
            step=1,
            label="Continuations n",
            info="From each of three starts: revised, projected to tokens, unrevised. "
            "Temperature, top-p, length and seed as above.",
            min_width=280,
        )
        with gr.Column(scale=1, min_width=280), gr.Row():
            page.continue_ = gr.Button(
                "Continue from the step on screen", variant="primary", elem_id="lr-continue", min_width=220
            )
            page.cancel_after = gr.Button(
                "Cancel", interactive=False, elem_id="lr-cancel-after", scale=0, min_width=100
            )
            page.on_screen = gr.Textbox(elem_id="lr-on-screen", elem_classes="lr-hidden", container=False)
    page.notices["after"] = View("notice.js", elem_id="lr-notice-after")
    page.compare = View("compare.js", ("show",), later=True, elem_id="lr-compare", label="Before and after")
    with gr.Row(elem_classes="lr-actions", equal_height=False, elem_id="lr-decoy-row"):
        page.decoy_target = gr.Textbox(
            label="Decoy: a wrong answer",
            info="Left empty, one near the gold answer is made up. Moves the same prefix by the same steps toward it: "
            "if it is reached as often, the prefix hands answers over.",
            max_lines=1,
            min_width=280,
            scale=2,
        )
        page.decoy = gr.Button("Check with a decoy", elem_id="lr-decoy", scale=1, min_width=200)
    page.success = View(
        "success.js", ("curve", "cancel"), later=True, elem_id="lr-success", label="Share correct over the steps"
    )
    with gr.Row(elem_classes="lr-actions"):
        page.export = gr.Button("Download this run (zip)", elem_id="lr-export", scale=0, min_width=220)
        page.link = gr.DownloadButton("Download", elem_id="lr-download-link", elem_classes="lr-hidden")
    page.notices["export"] = View("notice.js", elem_id="lr-notice-export")


def events(page: Page) -> None:
    """Continue, cancel, export."""

    def budgeted(settings: tuple) -> SamplingConfig:
        budget = sampling_from(*settings[:-1]).model_copy(update={"n": int(settings[-1])})
        page.limits.check(budget)
        return budget

    def continue_(request: gr.Request, *settings):
        session, shown = page.session(request), on_screen(settings[-1])

        def action():
            if shown is not None:
                session.need_shown(shown[0])
                session.point = shown[1]
            return page.work.after(session, budgeted(settings[:-1]))

        yield from page.run("after", "after", session, action)

    def curve(evt: gr.EventData, request: gr.Request, *settings):
        session = page.session(request)

        def action():
            session.need_shown(evt._data.get("run_id"))
            return page.work.curve(session, budgeted(settings))

        yield from page.run("after", "curve", session, action)

    def decoy(target: str, said: str, request: gr.Request):
        session, shown = page.session(request), on_screen(said)

        def action():
            if shown is not None:
                session.need_shown(shown[0])
            return page.work.decoy(session, (target or "").strip())

        yield from page.run("after", "decoy", session, action)

    def pack(said: str, request: gr.Request):
        session, shown = page.session(request), on_screen(said)
        try:
            if shown is not None:
                session.need_shown(shown[0])
            path = page.work.pack(session)
        except Exception as error:
            return None, warning(describe(error))  # not the last one's file: the page would fetch that
        rows = "and, if a rescue is right as a whole, sft.jsonl"
        return str(path), info(f"{path.name} holds the run's folder {rows}.")

    quick = dict(queue=False, show_progress="hidden", api_visibility="private")
    model = EACH_PRESS | dict(
        outputs=page.outputs("after"),
        concurrency_limit=None,
        show_progress="minimal",
        show_progress_on=page.notices["after"],
        api_visibility="private",
    )
    budget = [*page.sampling.all(), page.samples]
    page.continue_.click(continue_, [*budget, page.on_screen], js=ON_SCREEN, **model)
    page.success.curve(curve, budget, **model)
    page.success.cancel(page.stop, **quick)
    page.decoy.click(decoy, [page.decoy_target, page.on_screen], js=ON_SCREEN, **model)
    page.cancel_after.click(page.stop, **quick)
    packed = page.export.click(pack, page.on_screen, [page.link, page.notices["export"]], js=ON_SCREEN, **quick)
    packed.success(None, page.link, js=FETCH)
