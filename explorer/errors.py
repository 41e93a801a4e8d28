"""Errors in words that a person can act on. The command line prints them on standard error and exits with 2; the page
shows them in place.

`UserError` is raised on purpose, with the sentence as its text. `describe` turns what libraries and the system raise
(memory, disk, network) into such a sentence, and anything else into an honest "this is a defect", never a traceback.
"""

from __future__ import annotations

import errno
import logging

log = logging.getLogger(__name__)


class UserError(Exception):
    """A problem that the person in front of the screen can mend; `str(error)` tells how, in one sentence."""


def describe(error: BaseException) -> str:
    """One sentence for any exception: what happened and what to do next. The traceback of a defect goes to the log
    only."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return (
            "Out of memory: choose fewer rollouts, fewer new tokens, a shorter prefix or a smaller model, "
            "then try again; what was finished is kept."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: free some space or choose another folder, then try again."
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return f"No permission to use {error.filename or 'that file'}: choose a folder that you may write to."
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"There is a file where a folder is needed, {error.filename or 'on that path'}: choose another folder."
    log.error("unexpected error", exc_info=error)
    name = type(error).__name__
    return f"Something went wrong inside the explorer ({name}); what was finished is kept, and the log has the details."
