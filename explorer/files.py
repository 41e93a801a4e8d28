"""Small files that are whole or not there: written beside their place and renamed, so that a reader sees the old one or
the new one, also after a kill.

What it does not do: know what is in them. It imports nothing heavy: a process that only watches another one uses it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomic(path: Path, content: bytes, sync: bool = True) -> Path:
    """Write a file beside its place and rename it there; its parent is made.

    Args:
        path: where it shall be.
        content: all of it.
        sync: wait until it is on the disk, so that it outlives a power cut too; not worth it for what is written anew
            several times a second.

    Returns:
        path.

    Raises:
        OSError: the disk is full or not writable; an older file is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with staging.open("wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
    return path
