"""Errors in words that a person can act on. The command line prints them on standard error and exits with 2; the page
shows them in place.

`UserError` is raised on purpose, with the sentence as its text. `describe` turns what libraries and the system raise
(memory, disk, network) into such a sentence, and anything else into an honest "this is a defect", never a traceback.
"""

from __future__ import annotations

import errno
import logging

log = logging.getLogger(__name__)

# What libraries say of memory and disk without an error number: torch on a CPU of any system and on CUDA; safetensors;
# torch.save, whose writer never tells why it could not go on.
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed", "bad_alloc")
NO_ROOM = ("no space left on device", "disk quota exceeded", "unexpected pos", "file write failed")


class UserError(Exception):
    """A problem that the person in front of the screen can mend; `str(error)` tells how, in one sentence."""


def describe(error: BaseException) -> str:
    """One sentence for any exception: what happened and what to do next. The traceback of a defect goes to the log
    only."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
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
    log.error("unexpected error", exc_info=error)
    name = type(error).__name__
    return f"Something went wrong inside the explorer ({name}); what was finished is kept, and the log has the details."
