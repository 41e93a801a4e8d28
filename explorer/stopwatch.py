"""How long work took, without the pauses in which somebody else's was done.

A stage is a generator: between two of its values the page draws, and where several visitors share a model, others have
their turns. That time is not the stage's.

What it does not do: measure processor time; a pass runs on many threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs from its making on, but for what happens inside `with watch.paused():`."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._away = 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far, pauses left out."""
        return time.perf_counter() - self._begun - self._away

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside does not count: put `yield` there."""
        left = time.perf_counter()
        try:
            yield
        finally:
            self._away += time.perf_counter() - left
