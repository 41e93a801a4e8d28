"""Model work on one thread, the page on others: results are handed over, and what the page was too slow to show is
merged.

Two reasons, both measured: torch keeps a team of threads per calling thread, so a generator that Gradio resumes on
whichever thread is free decodes at two thirds of the speed; and sampling should not stand still while a redraw travels
to the browser.

What it does not do: know what is being shown. Values are merged by the function given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ModelThread:
    """The one thread that runs models."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def drain(self, source: Iterator[T], merge: Callable[[T, T], T], stop: Callable[[], None]) -> Iterator[T]:
        """Iterate over `source` on the model thread, and yield here what it gave.

        Args:
            source: runs on the model thread from first to last.
            merge: (older, newer) -> what to show when both came before the page asked again.
            stop: called when the consumer leaves early; the source then ends at its next look, without anybody waiting
                for it.

        Raises:
            whatever the source raises, after all it gave before has been yielded.
        """
        ready = threading.Condition()
        waiting: list[T] = []

        def run() -> None:
            for value in source:
                with ready:
                    waiting[:] = [merge(waiting[0], value)] if waiting else [value]
                    ready.notify()

        def ended(_: object) -> None:
            with ready:
                ready.notify()

        future = self._executor.submit(run)
        future.add_done_callback(ended)
        try:
            while True:
                with ready:
                    ready.wait_for(lambda: waiting or future.done())
                    value = waiting.pop() if waiting else None
                if value is None:
                    break
                yield value
        finally:
            if not future.done():
                stop()
        future.result()

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._executor.shutdown(wait=False, cancel_futures=True)
