"""The page put together: its panels in the order of the story, the screens of hunts and trainings, and what `launch`
needs around them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from starlette.middleware import Middleware

from explorer.settings import Settings
from explorer.ui import shield, theme, web, zero_gpu
from explorer.ui.gate import Gate
from explorer.ui.hunts import Hunts
from explorer.ui.library import first_run
from explorer.ui.models import ModelHost
from explorer.ui.page import Page
from explorer.ui.panels import after, audit, header, hunt, problem, revision, rollouts, train, watch
from explorer.ui.session import IDLE_LIMIT_S, Session, Sessions
from explorer.ui.trainings import Trainings
from explorer.ui.work import Work
from explorer.verdict import Judge

# Copies that Gradio makes of what is brought and taken home are removed after a day; looked for every hour.
COPIES_S = (3600, 24 * 3600)
# Gradio keeps what each visitor's components showed last, 0.5 MB here, also of those who left long ago: 10,000 of them
# unless told otherwise. A page that is forgotten while it is open loses nothing: what it shows is in its `Session`.
REMEMBERED = 64
SECTIONS = {
    "problem": ("1", "A problem", "Something the model gets wrong, and the answer it should reach."),
    "rollouts": ("2", "Rollouts", "The model tries N times. Pick a failed try and where its reasoning prefix ends."),
    "stage": (
        "3",
        "Revision",
        "Each step moves every prefix token a little toward one real token: away from the failure, toward the "
        "gold answer.",
    ),
    "after": ("4", "Before and after", "Let the model go on from the moved prefix. Does it get there now?"),
    "audit": (
        "5",
        "Is the rescue real?",
        "The same prefix treated otherwise, and the same compute spent without it: what is left of the rescue?",
    ),
}


def greet(work: Work, session: Session) -> None:
    """What a fresh page shows: the first recorded run, if there is one. Needs no model."""
    first = first_run()
    if first is not None:
        work.show(session, first)


def build(settings: Settings, gpu: Callable | None = None, at_home: bool = True) -> tuple[gr.Blocks, dict, Page]:
    """Make the page.

    Args:
        settings: what to serve, and how.
        gpu: `spaces.GPU` where a ZeroGPU Space lends its GPU call by call.
        at_home: whether it will listen within this machine alone.

    Returns:
        the Blocks, the keyword arguments for its `launch`, and the page (for shutting down).
    """
    if gpu is not None:
        settings = zero_gpu.at_home(settings)
    host = ModelHost(settings)
    # A lent call can't rest: it ends by itself in a minute.
    turn_s = settings.turn_s if gpu is None else math.inf
    work = Work(host, Judge(), settings.runs_dir, settings.allowed, turn_s)
    if gpu is not None:
        zero_gpu.lend(work, gpu)
    page = Page(
        host,
        Sessions(settings.model, lambda session: greet(work, session), work.put_away),
        work,
        Hunts(host, settings.runs_dir),
        Trainings(host, settings.runs_dir),
    )
    with Gate(title="LatentRevise Explorer", analytics_enabled=False, fill_width=True, delete_cache=COPIES_S) as demo:
        header.layout(page)
        watch.layout(page)
        for key, (number, title, text) in SECTIONS.items():
            with gr.Column(elem_classes="lr-section", elem_id=f"lr-section-{key}"):
                gr.HTML(
                    f'<h2><span class="lr-number" aria-hidden="true">{number}</span> {title}</h2><p>{text}</p>',
                    elem_classes="lr-section-head",
                    apply_default_css=False,
                )
                {"problem": problem, "rollouts": rollouts, "stage": revision, "after": after, "audit": audit}[
                    key
                ].layout(page)
        hunt.layout(page)
        train.layout(page)
        for panel in (problem, rollouts, revision, after, audit, hunt):
            panel.events(page)
        watch.events(page, demo)
        watch.greet(page, page.sessions.fresh())
        header.events(page, demo)
        train.events(page)

        def leave(request: gr.Request) -> None:
            page.sessions.leave(request.session_hash)

        demo.unload(leave)

        def still_here(request: gr.Request) -> None:
            page.session(request)

        # A page that rests is no page that was left: without a word now and then its session would be forgotten.
        gr.Timer(IDLE_LIMIT_S / 6).tick(
            still_here, None, None, queue=False, show_progress="hidden", api_visibility="private"
        )
    # With the Space's name Gradio's script asks huggingface.co and a font server for a banner over the page.
    demo.space_id = None
    demo.queue(default_concurrency_limit=8, api_open=False)
    framed_by = shield.IN_A_SPACE if os.environ.get("SPACE_ID") else shield.ALONE
    password = settings.password.get_secret_value()
    middleware = [
        Middleware(shield.Shield, open_at_home=at_home and not password and not settings.public),
        Middleware(web.EarlyHead, framed_by=framed_by),
    ]
    launch = dict(
        auth=("explorer", password) if password else None,
        theme=theme.theme(),
        app_kwargs={"routes": web.routes(host.map_folder), "middleware": middleware},
        # A run of 512 positions × 200 steps of a 4,096-wide model is 1.7 GB; the zips that people pass around are not.
        max_file_size=f"{work.limits.upload}mb",
        state_session_capacity=REMEMBERED,
        favicon_path=web.FAVICON,
        footer_links=[],
        run_history=False,
        # Else GRADIO_SHARE=true would open a tunnel from the internet to it, whatever it listens on.
        share=False,
        # Spaces set GRADIO_SSR_MODE=true: Node would then render the page in front of this process, past EarlyHead (no
        # styles, our views never start) and with fonts from other hosts.
        ssr_mode=False,
        # Else anybody may read at /monitoring/summary what others call and how long it takes.
        enable_monitoring=False,
        show_error=False,
        quiet=True,
    )
    return demo, launch, page
