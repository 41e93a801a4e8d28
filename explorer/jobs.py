"""Long work in processes of its own: started here, watched and stopped from anywhere, not ended by the end of whoever
started it.

A job is a folder of the registry: `job.json` (what runs), `output.log` (all it printed), `asked` (that it shall stop,
and why), `exit.json` (how it ended) and `lock`, which the operating system holds for the job's processes as long as one
of them lives, however they end. So whether a job runs is never guessed from a process number, and an app that was
restarted, or a second one over the same folder, sees the same jobs.

Between the app and the command stands a small process (`python -m explorer.jobs FOLDER FD`): somebody must be there to
see the command end when the app is gone.

What it does not do: know what a job works on. What it is about its own folder is its business (a hunt writes
`progress-0.json` there).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from explorer.errors import UserError
from explorer.files import write_atomic

PROJECT_ROOT = Path(__file__).resolve().parent.parent
JOB_FILE, EXIT_FILE, ASKED_FILE, LOG_FILE, LOCK_FILE = "job.json", "exit.json", "asked", "output.log", "lock"
INTERRUPTED = 130
# Between asking a cancelled job to end and ending it: a long step may take a while, a person's patience less.
GRACE_S = 20.0
LOG_TAIL_BYTES = 4_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")


class JobState(StrEnum):
    """Where a job stands. `PAUSED` and `CANCELLED` were asked for, `FAILED` ended by itself with an exit code that is
    not 0, `DIED` left no word. All that don't run can be gone on with."""

    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DIED = "died"


@dataclass(frozen=True)
class Job:
    """What is known of a job now. `about` is the folder that it works on; `last_lines` the end of what it printed;
    `number` counts the jobs of a registry in the order in which they were first started."""

    id: str
    kind: str
    title: str
    command: tuple[str, ...]
    about: str
    created_at: float
    state: JobState
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    number: int = 0

    @property
    def alive(self) -> bool:
        """Whether a process of it lives."""
        return self.state in (JobState.RUNNING, JobState.STOPPING)


class Jobs:
    """The registry in one folder. Every call looks at the disk anew; nothing is remembered in between."""

    def __init__(self, root: Path, at_once: int = 1):
        """`at_once`: how many jobs may run at the same time."""
        self.root, self.at_once = Path(root).absolute(), at_once

    def start(self, kind: str, title: str, command: Sequence[str], about: Path | str = "") -> Job:
        """Start a command as a new job, its working directory the project's folder.

        Args:
            kind: one word, part of the job's id.
            title: what to call it on a screen.
            command: program and arguments; no shell sees them.
            about: the folder that it works on.

        Raises:
            UserError: as many run already as may.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        job_id = f"{stamp}-{kind}-{secrets.token_hex(3)}"
        known = {
            "kind": kind,
            "title": title,
            "command": list(command),
            "about": str(about),
            "created_at": time.time(),
        }
        with self._alone():
            self._room()
            known["number"] = 1 + max((job.number for job in self.list()), default=0)
            write_atomic(self.root / job_id / JOB_FILE, json.dumps(known).encode())
            self._launch(self.root / job_id)
        return self.find(job_id)

    def go_on(self, job_id: str) -> Job:
        """Start the same command again. Raises `UserError` if it runs, or as many others as may."""
        folder = self._folder(job_id)
        with self._alone():
            if self.find(job_id).alive:
                raise UserError("It is still running: there is nothing to go on with.")
            self._room()
            self._launch(folder)
        return self.find(job_id)

    def pause(self, job_id: str) -> None:
        """Ask it to stop at its next step (SIGINT); nothing is forced."""
        self._ask(job_id, JobState.PAUSED)

    def cancel(self, job_id: str, grace_s: float = GRACE_S) -> None:
        """Ask it to stop, and end it if it has not within `grace_s` seconds. A job that stands still is marked."""
        job = self._ask(job_id, JobState.CANCELLED)
        if job.alive:
            threading.Thread(target=self._end, args=(self._folder(job_id), grace_s), daemon=True).start()

    def find(self, job_id: str) -> Job:
        """What is known of a job. Raises `UserError` if there is none of that id."""
        job = _read(self._folder(job_id))
        if job is None:
            raise UserError(f"There is no job {job_id}: its folder was removed.")
        return job

    def list(self) -> list[Job]:
        """All jobs, newest first; folders that are none are passed over."""
        found = [_read(path.parent) for path in self.root.glob(f"*/{JOB_FILE}") if _ID.fullmatch(path.parent.name)]
        # By their numbers: a clock that was set back must not make the newest job an old one.
        return sorted(filter(None, found), key=lambda job: (job.number, job.created_at, job.id), reverse=True)

    def log(self, job_id: str, lines: int = 40) -> tuple[str, ...]:
        """The last lines that it printed, of what `LOG_TAIL_BYTES` hold."""
        return _tail(self._folder(job_id) / LOG_FILE, lines)

    # -- inside ------------------------------------------------------------------------------------

    def _folder(self, job_id: str) -> Path:
        if not _ID.fullmatch(job_id):
            raise UserError(f"{job_id[:60]!r} is no job's name.")
        return self.root / job_id

    def _alone(self):
        from filelock import FileLock

        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / ".lock")

    def _room(self) -> None:
        running = [job for job in self.list() if job.alive]
        if len(running) >= self.at_once:
            raise UserError(f"“{running[0].title}” is running: wait for it, or pause or cancel it first.")

    def _launch(self, folder: Path) -> None:
        """Start the process that starts the command; from here on the lock is theirs."""
        held = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)  # somebody who looks whether it is held holds it for a moment
            for name in (ASKED_FILE, EXIT_FILE):
                (folder / name).unlink(missing_ok=True)
            process = subprocess.Popen(
                [sys.executable, "-m", "explorer.jobs", str(folder), str(held)],
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(held,),
                start_new_session=True,  # neither Ctrl-C nor the end of a terminal reaches it
            )
        finally:
            os.close(held)
        # While we live, its end is ours to take note of; otherwise it stays in the system's table of processes.
        threading.Thread(target=process.wait, daemon=True).start()

    def _ask(self, job_id: str, why: JobState) -> Job:
        """Note down what was asked, and interrupt the job's processes if there are any."""
        folder, job = self._folder(job_id), self.find(job_id)
        if job.alive or (why is JobState.CANCELLED and job.state is not JobState.DONE):
            write_atomic(folder / ASKED_FILE, why.value.encode())
        if job.alive:
            _interrupt(folder)
        return job

    @staticmethod
    def _end(folder: Path, grace_s: float) -> None:
        until = time.monotonic() + grace_s
        while _held(folder):
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(_group(folder), signal.SIGKILL)
                return
            time.sleep(0.1)


def shown_command(command: Sequence[str]) -> str:
    """A command as a person would type it in the project's folder."""
    first, *rest = command
    program = Path(first)
    if program.is_relative_to(PROJECT_ROOT):
        first = str(program.relative_to(PROJECT_ROOT))
    elif program == Path(sys.executable):
        first = "python"
    return shlex.join([first, *rest])


def _read(folder: Path) -> Job | None:
    """A job from its folder, or None where there is none that can be read."""
    try:
        known = json.loads((folder / JOB_FILE).read_bytes())
        command = tuple(map(str, known["command"]))
        named = {key: str(known[key]) for key in ("kind", "title", "about")}
        created_at, number = float(known["created_at"]), int(known.get("number", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    alive = _held(folder)  # looked at before the exit: one that ends in between has written it by then
    asked = _content(folder / ASKED_FILE)
    code = _exit_code(folder)
    if alive:
        state = JobState.STOPPING if asked else JobState.RUNNING
    elif code == 0:
        state = JobState.DONE
    elif asked in (JobState.PAUSED, JobState.CANCELLED):
        state = JobState(asked)
    elif code == INTERRUPTED:
        state = JobState.PAUSED  # somebody else interrupted it
    else:
        state = JobState.DIED if code is None or code < 0 else JobState.FAILED
    return Job(
        id=folder.name,
        **named,
        command=command,
        created_at=created_at,
        state=state,
        exit_code=None if alive else code,
        last_lines=_tail(folder / LOG_FILE),
        number=number,
    )


def _held(folder: Path) -> bool:
    """Whether a process of the job holds its lock."""
    try:
        looking = os.open(folder / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(looking)
    return False


def _group(folder: Path) -> int:
    """The number of a running job's process group. As long as the lock is held it is nobody else's."""
    until = time.monotonic() + 10
    while not (group := _content(folder / LOCK_FILE)):
        if time.monotonic() > until or not _held(folder):
            raise ProcessLookupError("it is gone")
        time.sleep(0.02)  # it has only just begun
    return int(group)


def _interrupt(folder: Path) -> None:
    """SIGINT to the process that watches over the command, which hands it on; to the whole group where that is gone."""
    with contextlib.suppress(ProcessLookupError):
        group = _group(folder)
        try:
            os.kill(group, signal.SIGINT)
        except ProcessLookupError:
            os.killpg(group, signal.SIGINT)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _exit_code(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / EXIT_FILE).read_bytes())["code"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _tail(log: Path, lines: int = 6) -> tuple[str, ...]:
    """The last lines of a log that are not empty; a line that rewrote itself counts as its last version."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    whole = [line.rstrip("\r").split("\r")[-1].rstrip() for line in text.split("\n")]
    return tuple(line for line in whole if line)[-lines:]


# -- the process between the app and the command ---------------------------------------------------


def supervise(folder: Path, held: int) -> int:
    """Run the job's command to its end and write down how it ended.

    Args:
        folder: the job's.
        held: an open file on its lock, already locked; the command inherits it, so that the lock outlives us.
    """
    running: list[subprocess.Popen] = []
    asked: list[int] = []

    def hand_on(number: int, _: object) -> None:
        # To the command alone: its own children are its business, and a judge that is interrupted judges nothing.
        asked.append(number)
        for process in running:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hand_on)
    os.write(held, str(os.getpid()).encode())
    command = json.loads((folder / JOB_FILE).read_bytes())["command"]
    with (folder / LOG_FILE).open("ab") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=PROJECT_ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(held,),
            )
        except OSError as error:
            log.write(f"The command could not be started: {error.strerror}.\n".encode())
            code = 127
        else:
            running.append(process)
            for number in asked:  # that came while it was being started
                process.send_signal(number)
            code = process.wait()
    write_atomic(folder / EXIT_FILE, json.dumps({"code": code, "ended_at": time.time()}).encode())
    return code


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), int(sys.argv[2]))
