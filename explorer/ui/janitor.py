"""Old runs of visitors are removed from a public page's folder of runs, and files that were packed for a download.

The rule, said on the page: a run goes when its record was last written more than so many hours ago. Hunts, trainings
and the recorded runs stay. A file from the future (the clock went back) is young.

What it does not do: remove anything on a page at home, unless the operator sets `keep_hours`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from explorer.store import TRACE_FILE

log = logging.getLogger(__name__)

LOOK_S = 600.0
# How the store and `remove_old` name a run's folder while it is written, replaced or removed. The folder of runs may be
# somebody's whole disk, with hidden folders of its own.
OURS = re.compile(r"\.\d{8}-\d{6}-.+\.(gone|old|[0-9a-f]{8}\.tmp)")


def remove_old(runs_dir: Path, keep_s: float, now: Callable[[], float] = time.time) -> list[str]:
    """Remove the runs right inside a folder whose record is older than `keep_s` seconds; their names.

    A run is moved aside first, so that nobody opens half of one. One that can't be removed is left for the next time.
    """
    removed, gone = [], []
    for record in sorted(runs_dir.glob(f"*/{TRACE_FILE}")):
        folder = record.parent
        with contextlib.suppress(OSError):
            if folder.is_symlink() or now() - record.stat().st_mtime <= keep_s:
                continue
            aside = folder.with_name(f".{folder.name}.gone")
            folder.rename(aside)
            removed.append(folder.name)
            gone.append(aside)
    for aside in gone:
        shutil.rmtree(aside, ignore_errors=True)
    for left in runs_dir.glob(".*"):  # what a process killed while saving or removing has left
        with contextlib.suppress(OSError):
            if left.is_dir() and not left.is_symlink() and _is_over(left, keep_s, now()):
                shutil.rmtree(left)
    return removed


def _is_over(left: Path, keep_s: float, now: float) -> bool:
    if not OURS.fullmatch(left.name):
        return False
    return left.suffix == ".gone" or now - left.stat().st_mtime > keep_s


class Janitor:
    """Looks every ten minutes, from the start on."""

    def __init__(self, runs_dir: Path, keep_hours: float):
        self._runs_dir, self._keep_s = runs_dir, keep_hours * 3600
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="janitor", daemon=True).start()

    def _work(self) -> None:
        while True:
            removed = remove_old(self._runs_dir, self._keep_s)
            if removed:
                log.info("%d runs were older than %g hours and are removed.", len(removed), self._keep_s / 3600)
            if self._ended.wait(LOOK_S):
                return

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
