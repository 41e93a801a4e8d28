"""Gradio's Blocks, strict about what they are sent: anybody can post anything to an event, not only what the page
sends.

What does not fit costs one sentence and no traceback, so that the log's tracebacks are defects of ours.
What it does not do: know what an event means; its handler refuses what is well formed and still wrong.
"""

from __future__ import annotations

import html
import math
from typing import Any

import gradio as gr

from explorer.errors import UserError, describe

STRANGE = "This is not what the page sends: reload it and try again."
# In the data of our views' events: numbers that count or point at something.
WHOLE = ("rollout", "m", "point", "ticket", "turn")
LARGEST = 1_000_000_000


class Sent(dict):
    """What a view sent with its event: an object of plain values. What is none counts as missing, and asking for what
    is missing raises `UserError`."""

    def __init__(self, data: Any):
        super().__init__(item for item in (data.items() if isinstance(data, dict) else ()) if _plain(*item))

    def __missing__(self, name: str) -> Any:
        raise UserError(STRANGE)


class Gate(gr.Blocks):
    """The page's Blocks. Errors come out as `gr.Error` with a sentence; only defects are logged."""

    async def preprocess_data(self, block_fn, inputs, *args: Any, **kwargs: Any) -> list:
        """The components' values as handlers take them; refuses what a component can't have been set to."""
        able = block_fn.fn is not None and all(map(_possible, block_fn.inputs, inputs))
        if not able:
            raise _said(STRANGE)
        if beyond := next(filter(None, map(_beyond, block_fn.inputs, inputs)), ""):
            raise _said(beyond)
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except OSError as error:  # the disk, under an uploaded file
            raise _said(describe(error)) from error
        except Exception as error:
            raise _said(STRANGE) from error

    async def process_api(self, *args: Any, event_data: gr.EventData | None = None, **kwargs: Any) -> dict[str, Any]:
        """One event from its values to its answer."""
        try:
            if event_data is not None:
                event_data = gr.EventData(event_data.target, Sent(event_data._data))
            return await super().process_api(*args, event_data=event_data, **kwargs)
        except gr.Error as error:  # ours, or Gradio's about files that nobody uploaded
            raise error if not error.print_exception else _said(STRANGE) from error
        except Exception as error:
            raise _said(describe(error)) from error


def _plain(name: str, value: Any) -> bool:
    """Whether a view sends such a value under that name."""
    if name in WHOLE:
        return type(value) is int and 0 <= value <= LARGEST
    return isinstance(value, dict if name == "values" else str | int | float | bool)


def _possible(block: gr.blocks.Block, value: Any) -> bool:
    """False for values that Gradio's components let through, though nobody can set them to these."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(block, gr.Dropdown) and not block.multiselect:
        return not isinstance(value, list)
    return value is not None or not isinstance(block, gr.UploadButton)


def _beyond(block: gr.blocks.Block, value: Any) -> str:
    """What is wrong with a number that somebody typed; empty where nothing is."""
    if not isinstance(block, gr.Number | gr.Slider) or type(value) not in (int, float):
        return ""
    least, most = block.minimum, block.maximum
    if (least is None or value >= least) and (most is None or value <= most):
        return ""
    allowed = (
        f"{least:g} or more" if most is None else f"{most:g} or less" if least is None else f"{least:g} to {most:g}"
    )
    return f"{block.label} can't be {str(value)[:20]}: choose {allowed}."


def _said(sentence: str) -> gr.Error:
    # Gradio shows it as markup, and it may quote what somebody sent.
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)
