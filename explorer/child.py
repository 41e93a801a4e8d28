"""A child process that talks in lines: how downloads, conversion and UMAP leave the server responsive.

Our own children print one JSON object per line, `{"fraction": 0..1 | null, "message": str}` for progress, `{"error":
str}` for a sentence meant for people, `{"result": …}` at the end. They end when their parent does, however it ends.

What it does not do: decide what a line means, restart anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
# Set in a child's environment: its standard input is our pipe.
CHILD = "LATENTREVISE_IS_CHILD"


class Child:
    """A running process whose standard output is read line by line; progress bars (carriage returns) count as lines.

    Always an argument list, never a shell. Standard error goes to an unnamed file, so that it can't fill a pipe.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        """Start it with the project's folder as working directory; `environment` is added to ours."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            list(command),
            cwd=PROJECT_ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", CHILD: "1", **(environment or {})},
            stdin=subprocess.PIPE,  # its end tells our own children that we are gone
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def new_lines(self) -> Iterator[str]:
        """The lines that came since the last call; never waits."""
        while True:
            try:
                yield self._lines.get_nowait()
            except queue.Empty:
                return

    @property
    def running(self) -> bool:
        """True until the process has ended and every line was read into `new_lines`."""
        if self._process.poll() is None:
            return True
        self._reader.join(timeout=5)
        return False

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    def stop(self, grace_s: float = 2.0) -> None:
        """Ask it to end, then make it end. Safe to call twice, or after it ended."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False if it has not within `timeout_s` seconds."""
        end = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def error_text(self) -> str:
        """The last 4,000 bytes that it wrote on standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4_000))
        return self._errors.read().decode(errors="replace")


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def bound_module(module: str, *arguments: str) -> list[str]:
    """The same for a module that would outlive us, as the command line's do: it ends when we do, however we end."""
    return python_module("explorer.child", module, *arguments)


def say(**message: object) -> None:
    """In the child: one JSON line to the parent."""
    print(json.dumps(message), flush=True)


def end_with_parent() -> None:
    """In the child: end at once when the parent's end of standard input closes, so that no orphan keeps a core busy.

    Does nothing when the module was started by hand.
    """
    if CHILD not in os.environ:
        return

    def watch() -> None:
        # Unbuffered: a thread blocked inside sys.stdin would hold its lock and break interpreter shutdown.
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def parse(line: str) -> dict:
    """In the parent: the message in a line, or {} for anything that is not one (a library's stray print)."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def memory(name: str) -> int:
    """Bytes of this process by the kernel's books: `VmRSS` now, `VmHWM` at most until now. Where there is no such book,
    the peak stands for both. `getrusage` would count the parent's peak as well: Linux keeps it over exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
