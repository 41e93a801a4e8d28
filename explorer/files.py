"""Small files that are whole or not there: written beside their place and renamed, so that a reader sees the old one or
the new one, also after a kill.

What it does not do: know what is in them. It imports nothing heavy: a process that only watches another one uses it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
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


def modified_ns(path: Path) -> int:
    """When a file was last written, in nanoseconds since 1970; 0 where there is none.

    Asked once, not first whether it is there: a run that is replaced has no files between two renames.
    """
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def mark_of(paths: Iterable[Path]) -> str:
    """Another word whenever one of some files is another; a file that is not there, or not for a moment, counts for
    nothing."""
    size = newest = 0
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        size, newest = size + stat.st_size, max(newest, stat.st_mtime_ns)
    return f"{size}-{newest}"
