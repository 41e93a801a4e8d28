"""Errors in words that a person can act on. The command line prints them on standard error and exits with 2; the page
shows them in place.

`UserError` is raised on purpose, with the sentence as its text. `describe` turns what libraries and the system raise
(memory, disk, network) into such a sentence, and anything else into an honest "this is a defect", never a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

# What libraries say of memory and disk without an error number: torch on a CPU of any system and on CUDA; safetensors;
# torch.save, whose writer never tells why it could not go on.
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed", "bad_alloc")
NO_ROOM = ("no space left on device", "disk quota exceeded", "unexpected pos", "file write failed")


class UserError(Exception):
    """A problem that the person in front of the screen can mend; `str(error)` tells how, in one sentence."""


class LogFile(logging.Handler):
    """Appends to a file that is made when there is something to keep; where that can't be done, nothing is said of it.
    `written` is the file, from then on."""

    def __init__(self, place: Callable[[], Path]):
        super().__init__()
        self.written: Path | None = None
        self._place = place
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Append one record."""
        with contextlib.suppress(Exception):  # the sentence that this belongs to still has to be said
            path = self._place()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(self.format(record) + "\n")
            self.written = path


@contextlib.contextmanager
def logged_to(place: Callable[[], Path]) -> Iterator[LogFile]:
    """Inside, what the explorer logs goes to a file, and not to standard error, where Python puts what nobody takes.

    Args:
        place: gives the file; asked when there is something to log.
    """
    handler, ours = LogFile(place), logging.getLogger(__package__)
    ours.addHandler(handler)
    try:
        yield handler
    finally:
        ours.removeHandler(handler)


def no_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)


def describe(error: BaseException) -> str:
    """One sentence for any exception: what happened and what to do next. The traceback of a defect goes to the log
    only."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error).lower()
    if no_memory(error):
        return (
            "Out of memory: choose fewer rollouts, fewer new tokens, a shorter prefix or a smaller model, "
            "then try again; what was finished is kept."
        )
    if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or any(
        words in text for words in NO_ROOM
    ):
        return "The disk is full: free some space or choose another folder, then try again."
    if (isinstance(error, OSError) and error.errno == errno.EFBIG) or "file too large" in text:
        return "A file would be larger than this disk or account allows: choose another folder, then try again."
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return f"No permission to use {error.filename or 'that file'}: choose a folder that you may write to."
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"There is a file where a folder is needed, {error.filename or 'on that path'}: choose another folder."
    if isinstance(error, IsADirectoryError):
        # Of a rename the second name is where the file should be; the first is a temporary one.
        return f"There is a folder where a file is needed, {error.filename2 or error.filename}: choose another name."
    if not getattr(error, "logged", False):  # a run's record and the command line both describe it
        log.error("unexpected error", exc_info=error)
        error.logged = True
    name = type(error).__name__
    return f"Something went wrong inside the explorer ({name}); what was finished is kept, and the log has the details."
