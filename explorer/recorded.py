"""The recorded runs that come with the explorer: real runs of the default model, made by `python -m
explorer.recording`, each with a title and the one thing it teaches.

They are whole runs in the format of all runs (`store.py`), beside an `about.json`; nothing on the screen is written by
hand but title and lesson.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from explorer.errors import UserError
from explorer.records import Trace
from explorer.store import load_run

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "recorded"
ABOUT_FILE = "about.json"


@dataclass(frozen=True)
class RecordedRun:
    """A run with what it is shown for. `kind` names the lesson: rescue, smuggled, ruined, toward-only, unrescued or
    grows."""

    id: str
    title: str
    lesson: str
    kind: str
    order: int
    trace: Trace
    folder: Path


@cache
def recorded_runs(folder: Path = FOLDER) -> tuple[RecordedRun, ...]:
    """All recorded runs in the order they are shown; empty where none are shipped. One that is damaged is left out,
    and the log says so: the page is no less a page without it."""
    found = []
    for path in sorted(folder.glob(f"*/{ABOUT_FILE}")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            trace, _ = load_run(path.parent, with_trajectory=False)
            found.append(RecordedRun(path.parent.name, trace=trace, folder=path.parent, **about))
        except (UserError, OSError, ValueError, TypeError, RecursionError) as error:
            log.warning("The recorded run %s is damaged and left out: %s", path.parent.name, error)
    return tuple(sorted(found, key=lambda run: run.order))
