"""Step 1: a problem from the bank, from one's own file, or typed; how to sample; and the two ways to begin."""

from __future__ import annotations

import time
from pathlib import Path

import gradio as gr

from explorer.errors import describe
from explorer.limits import in_words
from explorer.problems import load_bank, read_problems
from explorer.records import Problem
from explorer.ui.controls import revision_of, sampling_controls, sampling_from
from explorer.ui.page import EACH_PRESS, Page
from explorer.ui.screen import info, warning
from explorer.ui.view import View
from explorer.ui.work import typed_problem


def layout(page: Page) -> None:
    """Problem on the left, sampling on the right, buttons below."""
    bank = load_bank()
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            with gr.Row(equal_height=False):
                page.bank = gr.Dropdown(
                    choices(bank),
                    value=bank[0].id,
                    label="Problem",
                    info=f"{len(bank)} built-in problems at the edge of what the default model can do.",
                    filterable=True,
                    scale=3,
                    min_width=240,
                )
                page.upload = gr.UploadButton(
                    "Your own file (JSONL, CSV)",
                    file_types=[".jsonl", ".json", ".csv"],
                    size="sm",
                    scale=1,
                    min_width=140,
                )
            page.question = gr.Textbox(bank[0].question, label="Question", lines=2, max_lines=8)
            page.answer = gr.Textbox(
                bank[0].answer,
                label="Gold answer",
                info="A number, a fraction or LaTeX: 42, 3/4, \\frac{3}{4}.",
                max_lines=1,
            )
        with gr.Column(scale=2, min_width=320):
            page.sampling = sampling_controls(page.limits)
    settings = page.host.settings
    if settings.public:
        words = in_words(page.limits, settings.turn_s, settings.kept_hours)
        gr.HTML(f'<p class="lr-limits">{words}</p>', apply_default_css=False)
    with gr.Row(elem_classes="lr-actions"):
        page.sample = gr.Button("Sample rollouts", variant="primary", elem_id="lr-sample", scale=0, min_width=180)
        page.whole = gr.Button("Play the whole loop", elem_id="lr-whole", scale=0, min_width=220)
        page.cancel = gr.Button("Cancel", interactive=False, elem_id="lr-cancel", scale=0, min_width=100)
    page.notices["problem"] = View("notice.js", elem_id="lr-notice-problem")


# How long the other of two requests about one click may be behind.
OTHER_REQUEST_S = 0.5


def choices(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    """Dropdown entries: the id (which names the family) and the beginning of the question."""
    return [(f"{p.id} · {p.question[:90]}{'…' if len(p.question) > 90 else ''}", p.id) for p in problems]


def known_already(session, key: str, first: str) -> bool:
    """Whether an entry of the list stands in the form already, or is on its way there. Gradio tells of a click twice,
    as `select` and as `input`, by two requests that may come in either order; answered twice, the second answer would
    undo what was typed in between. `first` stands there before anything was chosen."""
    until = time.monotonic() + OTHER_REQUEST_S
    while key != (session.listed or first):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def events(page: Page) -> None:
    """Choosing, uploading, sampling, the whole loop, cancelling."""
    bank = {p.id: p for p in load_bank()}
    quiet = dict(show_progress="hidden", api_visibility="private")

    def known(session) -> dict[str, Problem]:
        return {p.id: p for p in session.problems} or bank

    def choose(key: str, request: gr.Request):
        session = page.session(request)
        session.listed = key
        problem = known(session).get(key)
        return (problem.question, problem.answer) if problem else (gr.skip(), gr.skip())

    def leave(key: str, request: gr.Request):
        # Gradio tells of Enter this way, and again when the list loses the focus: too late to undo what is typed then.
        if known_already(page.session(request), key, next(iter(bank))):
            return gr.skip(), gr.skip()
        return choose(key, request)

    def upload(path: str, request: gr.Request):
        session = page.session(request)
        try:
            problems = read_problems(Path(path), page.limits.problems, page.limits.checking)
        except Exception as error:
            return gr.skip(), gr.skip(), gr.skip(), warning(describe(error))
        session.problems = problems
        first = problems[0]
        session.listed = first.id
        return (
            # The file's name stands in the notice: here Gradio would read it as Markdown.
            gr.Dropdown(choices(problems), value=first.id, info=f"{len(problems)} problems from your file."),
            first.question,
            first.answer,
            info(f"{len(problems)} problems read from {Path(path).name}."),
        )

    cut = len(page.sampling.all())

    def sample(request: gr.Request, key, question, answer, *settings):
        session = page.session(request)

        def action():
            problem = typed_problem(question, answer, known(session).get(key))
            sampling, config = sampling_from(*settings[:cut]), revision_of(settings[cut:])
            page.check(session, problem, sampling, config)
            return page.work.sample(session, problem, sampling, config)

        yield from page.run("problem", "rollouts", session, action)

    def whole(request: gr.Request, key, question, answer, *settings):
        session = page.session(request)
        sampling, rest = settings[:cut], settings[cut:]

        def action():
            problem = typed_problem(question, answer, known(session).get(key))
            first = sampling_from(*sampling)
            config, samples = revision_of(rest), first.model_copy(update={"n": int(rest[-1])})
            page.check(session, problem, first, config, samples)
            return page.work.whole(session, problem, first, config, samples)

        yield from page.run("problem", "whole", session, action)

    page.bank.select(choose, page.bank, [page.question, page.answer], queue=False, **quiet)
    page.bank.input(leave, page.bank, [page.question, page.answer], queue=False, **quiet)
    page.upload.upload(
        upload, page.upload, [page.bank, page.question, page.answer, page.notices["problem"]], queue=False, **quiet
    )
    problem = [page.bank, page.question, page.answer]
    model = EACH_PRESS | dict(
        outputs=page.outputs("problem"),
        concurrency_limit=None,
        show_progress="minimal",
        show_progress_on=page.notices["problem"],
        api_visibility="private",
    )
    page.sample.click(sample, [*problem, *page.sampling.all(), *page.revision.all()], **model)
    page.whole.click(whole, [*problem, *page.sampling.all(), *page.revision.all(), page.samples], **model)
    page.cancel.click(page.stop, queue=False, **quiet)
