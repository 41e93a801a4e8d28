"""A view of ours on the page: a `gr.HTML` whose value is a JSON payload and whose script lives in `assets/`.

The template is static, so Gradio never rebuilds the view; payloads reach the script through `watch`, and model text
travels as data, never as a template.

What it does not do: know what a payload means; see `views/payloads.py` for one end and the scripts for the other.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui.web import BASE


class View(gr.HTML):
    """`assets/<script>` mounted in a Gradio page; `events` are the names that its script may trigger. One that is
    `later` waits until the browser has nothing better to do: it lies below what a person sees first."""

    def __init__(self, script: str, events: tuple[str, ...] = (), label: str = "", later: bool = False, **kwargs: Any):
        # Safari has no requestIdleCallback.
        idle = "(window.requestIdleCallback ?? ((f) => setTimeout(f, 200)))"
        begin = f"((go) => {idle}(go, {{ timeout: 1500 }}))" if later else "((go) => go())"
        # Gradio finds the names of custom events by looking for them, quoted, in js_on_load.
        names = ", ".join(f"'{name}'" for name in events)
        super().__init__(
            value=None,
            html_template=f'<div class="lr-root" data-view="{script.removesuffix(".js")}"></div>',
            js_on_load=(
                f"const events = [{names}];"
                f" {begin}(() => import(new URL('{BASE}/assets/{script}', document.baseURI))"
                ".then((module) => module.mount({ element, props, trigger, watch, server: null, events }))"
                ".catch((error) => "
                "{ element.textContent = 'This view could not be loaded: reload the page.'; console.error(error); }));"
            ),
            label=label,
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: Any) -> Any:
        """Payloads go one way, to the browser: handlers get nothing back from a view."""
        return None

    def postprocess(self, value: Any) -> Any:
        """Any JSON-able payload, as it is."""
        return value

    def api_info(self) -> dict[str, Any]:
        """A payload is an object."""
        return {"type": "object"}
