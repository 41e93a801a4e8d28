"""Progress on standard error, for the command line.

What it does not do: know what goes on.
"""

from __future__ import annotations

import sys
import time


class Progress:
    """One line on standard error that rewrites itself on a terminal, or a line per change of subject elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last, self._subject, self._width = 0.0, "", 0

    def __call__(self, text: str, share: float | None = None) -> None:
        """Show where it stands; share in 0..1 or None."""
        line = text if share is None else f"{text} ({100 * share:.0f} %)"
        subject = text.split(":")[0]
        now = time.monotonic()
        if self._terminal:
            if now - self._last > 0.1 or subject != self._subject:
                print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
                self._width, self._last = len(line), now
        elif subject != self._subject or now - self._last > 10:
            print(line, file=sys.stderr, flush=True)
            self._last = now
        self._subject = subject

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._width:
            print(file=sys.stderr)
            self._width = 0
