"""The models that the page's visitors share: loaded in the background, one at a time, with progress; and their
vocabulary maps.

What it does not do: run a model. Handlers do, one after another, through Gradio's queue.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from explorer.errors import UserError, describe
from explorer.model import LanguageModel
from explorer.pipeline import load_model
from explorer.settings import Settings
from explorer.views.vocabulary_map import MapJob, map_folder, start_map_build

log = logging.getLogger(__name__)

# Models kept in memory at once: the default and one that somebody brought.
KEEP = 2
# A page that comes anew tries a failed model again, but for one that was tried within so many seconds.
AGAIN_S = 20.0


@dataclass
class Loading:
    """Where a model stands: loading, ready or failed; `progress` in 0..1, or None where it can't be told."""

    state: str = "loading"
    progress: float | None = None
    message: str = "Waiting to load."
    model: LanguageModel | None = None
    failed_at: float = 0.0
    map_job: MapJob | None = None
    map_key: str | None = None
    map_error: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class ModelHost:
    """Loads models on request and keeps the last few; `loading(name)` never waits."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._known: OrderedDict[str, Loading] = OrderedDict()
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[tuple[str, Loading]] = queue.SimpleQueue()
        self._loader: threading.Thread | None = None

    def request(self, name: str) -> Loading:
        """Begin to load a model unless it is there or on its way; a failed one is tried again. One that may not be
        loaded here has failed, and nothing is remembered of it."""
        if refusal := self.settings.refusal(name):
            return Loading(state="failed", message=refusal)
        with self._lock:
            entry = self._known.get(name)
            if entry is None or entry.state == "failed":
                entry = self._known[name] = Loading()
                self._asked.put((name, entry))
                if self._loader is None:
                    self._loader = threading.Thread(target=self._work, name="loader", daemon=True)
                    self._loader.start()
            self._known.move_to_end(name)
            return entry

    def again(self, name: str) -> None:
        """Try a model once more that failed, unless that was just now: a page is reloaded more often than a network
        comes back."""
        with self._lock:
            entry = self._known.get(name)
        if entry is not None and entry.state == "failed" and time.monotonic() - entry.failed_at > AGAIN_S:
            self.request(name)

    def loading(self, name: str) -> Loading:
        """Where a model stands; asks for it if nobody has."""
        with self._lock:
            entry = self._known.get(name)
        return entry or self.request(name)

    def need(self, name: str) -> LanguageModel:
        """The model, or a sentence about why it is not there yet."""
        entry = self.loading(name)
        if entry.model is None:
            raise UserError(
                entry.message
                if entry.state == "failed"
                else f"The model is still on its way ({entry.message.rstrip('.')}): try again in a moment."
            )
        return entry.model

    def _work(self) -> None:
        # This thread stays, one model after another. On ZeroGPU this process is forked, often as soon as the model is
        # there, and in a fork taken while a thread that had multiplied is ending, MKL's next product waits for ever
        # (3 forks of 9; none of 100 where the thread lives on or ended 10 ms ago).
        while True:
            name, entry = self._asked.get()
            try:
                self._load(name, entry)
            except BaseException:  # the next model is still to be loaded
                log.exception("after %s was loaded", name)

    def _load(self, name: str, entry: Loading) -> None:
        def progress(fraction: float | None, message: str) -> None:
            entry.progress, entry.message = fraction, message

        try:
            entry.model = load_model(self.settings, name, progress)
            entry.state, entry.progress, entry.message = "ready", 1.0, ""
        except BaseException as error:
            entry.progress, entry.message, entry.failed_at = None, describe(error), time.monotonic()
            entry.state = "failed"  # last: who sees it may ask again at once
            return
        self._forget_old()
        self._begin_map(entry)

    def _forget_old(self) -> None:
        with self._lock:
            ready = [key for key, entry in self._known.items() if entry.state == "ready" and key != self.settings.model]
            for key in ready[: max(0, len(ready) - (KEEP - 1))]:
                job = self._known.pop(key).map_job
                if job:
                    job.cancel()

    # -- vocabulary maps ---------------------------------------------------------------------------

    def map_folder(self, key: str) -> Path | None:
        """Where a finished map lies, by its name."""
        return map_folder(key, self.settings.cache_dir)

    def _begin_map(self, entry: Loading) -> None:
        """Find the vocabulary's map, also one of the same model in another number format, or begin to make it."""
        model = entry.model
        try:
            folder = map_folder(model.info.fingerprint, self.settings.cache_dir, model.vocabulary)
            if folder is not None:
                entry.map_key = folder.name
                return
            texts = [model.token_text(token) for token in range(model.info.vocab_size)]
            entry.map_job = start_map_build(model.vocabulary, texts, self.settings.cache_dir, model.info.id)
        except Exception as error:
            entry.map_error = describe(error)

    def map_status(self, model: LanguageModel) -> tuple[str | None, dict]:
        """(name of the map or None, {state, progress, message}) for the stage."""
        entry = next((e for e in list(self._known.values()) if e.model is model), None)
        if entry is None:
            return None, {"state": "absent", "progress": 0.0, "message": "No map of this vocabulary."}
        with entry.lock:
            if entry.map_job is not None and entry.map_key is None:
                status = entry.map_job.poll()
                if status.state == "ready":
                    entry.map_key = Path(entry.map_job.result).name
                else:
                    return None, {"state": status.state, "progress": status.progress, "message": status.message}
        if entry.map_key:
            return entry.map_key, {"state": "ready", "progress": 1.0, "message": ""}
        if entry.map_error:
            return None, {"state": "failed", "progress": 0.0, "message": entry.map_error}
        return None, {"state": "building", "progress": 0.0, "message": "Looking for this vocabulary's map."}

    def close(self) -> None:
        """Stop children; called when the app ends."""
        with self._lock:
            for entry in self._known.values():
                if entry.map_job:
                    entry.map_job.cancel()
