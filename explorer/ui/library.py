"""Runs that can be opened on the page by name: the recorded ones, those that lie in the folder of runs, and those of
the hunts there.

What it does not do: take them up (`Work` does, once their model is there), or list strangers' runs: a run is found by
its whole name only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from explorer.errors import UserError
from explorer.hunt_request import run_of_hunt
from explorer.recorded import RecordedRun, recorded_runs
from explorer.records import Trace
from explorer.store import TRAJECTORY_FILE, load_run, run_folder, without_place


@dataclass(frozen=True)
class Opened:
    """A run from disk as it is shown. `recorded` is None for one that is not ours."""

    id: str
    trace: Trace
    folder: Path
    recorded: RecordedRun | None = None

    @property
    def title(self) -> str:
        """What to call it on the screen."""
        return self.recorded.title if self.recorded else self.trace.problem.question[:60]

    def token_text(self, token: int) -> str:
        """Display text of a token that the run mentions, without its model."""
        texts = self.trace.vocabulary.texts if self.trace.vocabulary else {}
        return texts.get(token, f"⟨{token}⟩")

    def decode(self, ids) -> str:
        """Text of token ids; near enough to count markers in, not to train on."""
        return "".join(self.token_text(token) for token in ids)

    def trajectory(self) -> Tensor | None:
        """Embeddings (steps+1, M, hidden), or None where the run came without them."""
        if not (self.folder / TRAJECTORY_FILE).is_file():
            return None
        try:
            return load_run(self.folder)[1]
        except UserError as error:
            raise without_place(error, self.folder, self.id) from error


def open_run(run_id: str, runs_dir: Path) -> Opened:
    """Find a run by its name.

    Raises:
        UserError: there is none of that name, or it is damaged.
    """
    for recorded in recorded_runs():
        if recorded.id == run_id:
            return opened(recorded)
    folder = run_folder(runs_dir, run_id)
    if not folder.is_dir():
        folder = run_of_hunt(runs_dir, run_id)
    if folder is None:
        raise UserError(f"There is no run {run_id} here: it was made elsewhere, or its folder was removed.")
    try:
        trace, _ = load_run(folder, with_trajectory=False)
    except UserError as error:
        raise without_place(error, folder, run_id) from error
    return Opened(run_id, trace, folder)


def opened(recorded: RecordedRun) -> Opened:
    """A recorded run as it is shown."""
    return Opened(recorded.id, recorded.trace, recorded.folder, recorded)


def first_run() -> Opened | None:
    """What a fresh page shows: the first recorded run."""
    runs = recorded_runs()
    return opened(runs[0]) if runs else None
