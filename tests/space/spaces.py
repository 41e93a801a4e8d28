"""Stands in for the hub's package `spaces`, for an `app.py` that the tests start with SPACES_ZERO_GPU: like the real
one it runs each call in a fork of the app, in a thread of its own there, pickles both ways, and says "ZeroGPU worker
error" when the fork dies.

It also notes each call's request, as the hub does to know whose minutes it takes: one line of JSON into the file that
LENT_CALLS names. A visitor who sends the header `x-stand-in: hang` gets a worker that waits for ever; so that no test
waits long with it, the app's own limit is LENT_HUNG_S seconds in that worker.

What it does not do: schedule, use a worker again, or touch a GPU.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import threading
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext

HEADER = "x-stand-in"


def GPU(duration: float):
    """Decorates a generator function that needs the GPU for so many seconds."""

    def decorate(task):
        def call(*arguments):
            request = LocalContext.request.get(None)
            header = request.headers.get(HEADER, "") if request else None
            with Path(os.environ["LENT_CALLS"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"action": arguments[0], "header": header, "duration": duration}) + "\n")
            here, there = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(here)
                _in_the_fork(task, pickle.dumps(arguments), there, header == "hang")
            os.close(there)
            with os.fdopen(here, "rb") as values:
                while head := values.read(8):
                    yield pickle.loads(values.read(struct.unpack("<q", head)[0]))
            if os.waitpid(child, 0)[1]:
                raise gr.Error(title="ZeroGPU worker error", message="GPU task aborted")

        return call

    return decorate


def _in_the_fork(task, sent: bytes, there: int, hang: bool) -> None:
    code = 1
    if hang:
        task.__globals__["HUNG_S"] = float(os.environ["LENT_HUNG_S"])

    def iterate() -> None:
        nonlocal code
        with os.fdopen(there, "wb") as out:
            for value in task(*pickle.loads(sent)):
                if hang:
                    lock = threading.Lock()
                    lock.acquire()
                    lock.acquire()
                content = pickle.dumps(value)
                out.write(struct.pack("<q", len(content)) + content)
                out.flush()
        code = 0

    try:
        thread = threading.Thread(target=iterate)
        thread.start()
        thread.join()
    finally:
        os._exit(code)
