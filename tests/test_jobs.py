"""Jobs: they outlive whoever started them, say how they ended, and are found again; one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from explorer import jobs as module
from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.jobs import EXIT_FILE, JOB_FILE, LOCK_FILE, Jobs, JobState, shown_command

# Prints its number and waits until it is interrupted; then takes note and ends as our verbs do.
WAITING = """
import os, sys, time
try:
    print(os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("stopping", flush=True)
    sys.exit(130)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
# Starts the waiting one in a registry and leaves.
STARTING = f"""
import sys
from explorer.jobs import Jobs
Jobs(sys.argv[1]).start("test", "A test", [sys.executable, "-c", {WAITING!r}])
"""


def until(holds, patience_s=60.0):
    """Wait for a condition and return what it gave."""
    end = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(tmp_path / "jobs")
    yield jobs
    for job in jobs.list():
        if job.alive:
            jobs.cancel(job.id, grace_s=0)
            until(lambda job=job: not jobs.find(job.id).alive)


def start(jobs, code, **more):
    return jobs.start("test", "A test", [sys.executable, "-c", code], **more)


def ended(jobs, job):
    return until(lambda: (now := jobs.find(job.id)) and not now.alive and now)


def pid(jobs, job) -> int:
    return int(until(lambda: jobs.find(job.id).last_lines)[0])


def there(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_and_says_how_it_ended(jobs, tmp_path):
    job = start(jobs, "print('one'); print('two\\rthree')", about=tmp_path)
    job = ended(jobs, job)
    assert (job.state, job.exit_code, job.about) == (JobState.DONE, 0, str(tmp_path))
    assert job.last_lines == ("one", "three")


def test_a_failure_keeps_its_last_lines(jobs):
    job = ended(jobs, start(jobs, "import sys; print('no such model', file=sys.stderr); sys.exit(2)"))
    assert (job.state, job.exit_code, job.last_lines) == (JobState.FAILED, 2, ("no such model",))


def test_a_command_that_is_not_there_is_a_failure(jobs):
    job = ended(jobs, jobs.start("test", "t", ["no-such-program-at-all"]))
    assert (job.state, job.exit_code) == (JobState.FAILED, 127)
    assert "could not be started" in job.last_lines[-1]


def test_pause_asks_and_the_same_command_goes_on(jobs):
    job = start(jobs, WAITING)
    pid(jobs, job)
    jobs.pause(job.id)
    paused = ended(jobs, job)
    assert (paused.state, paused.last_lines[-1]) == (JobState.PAUSED, "stopping")
    again = jobs.go_on(job.id)
    assert again.state is JobState.RUNNING
    assert again.command == job.command
    until(lambda: len(jobs.find(job.id).last_lines) == 3)
    jobs.cancel(job.id)
    assert ended(jobs, job).state is JobState.CANCELLED


def test_one_that_does_not_listen_is_ended_after_a_while(jobs):
    job = start(jobs, DEAF)
    pid(jobs, job)
    jobs.pause(job.id)
    assert jobs.find(job.id).state is JobState.STOPPING
    jobs.cancel(job.id, grace_s=0.1)
    assert ended(jobs, job).state is JobState.CANCELLED


def test_a_paused_one_can_be_cancelled_and_a_finished_one_stays_finished(jobs):
    job = start(jobs, WAITING)
    pid(jobs, job)
    jobs.pause(job.id)
    ended(jobs, job)
    jobs.cancel(job.id)
    assert jobs.find(job.id).state is JobState.CANCELLED
    done = ended(jobs, start(jobs, "pass"))
    jobs.cancel(done.id)
    assert jobs.find(done.id).state is JobState.DONE


def test_one_that_was_killed_says_so(jobs):
    job = start(jobs, WAITING)
    os.kill(pid(jobs, job), signal.SIGKILL)
    job = ended(jobs, job)
    assert (job.state, job.exit_code) == (JobState.DIED, -9)
    assert jobs.go_on(job.id).alive


def test_one_whose_whole_group_was_killed_says_so(jobs):
    job = start(jobs, WAITING)
    pid(jobs, job)
    os.killpg(int((jobs.root / job.id / LOCK_FILE).read_text()), signal.SIGKILL)
    job = ended(jobs, job)
    assert (job.state, job.exit_code) == (JobState.DIED, None)


def test_without_its_watcher_it_still_runs_and_can_be_stopped(jobs):
    job = start(jobs, WAITING)
    pid(jobs, job)
    watcher = int((jobs.root / job.id / LOCK_FILE).read_text())
    os.kill(watcher, signal.SIGKILL)
    until(lambda: not there(watcher))
    assert jobs.find(job.id).state is JobState.RUNNING
    jobs.pause(job.id)
    job = ended(jobs, job)
    assert (job.state, job.last_lines[-1]) == (JobState.PAUSED, "stopping")


def test_one_at_a_time_also_when_several_start_at_once(jobs):
    outcomes = []

    def attempt():
        try:
            outcomes.append(start(Jobs(jobs.root), WAITING).id)
        except UserError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs.list()) == 1
    assert sum("is running" in one for one in outcomes) == 3
    with pytest.raises(UserError, match="still running"):
        jobs.go_on(jobs.list()[0].id)


def test_it_outlives_who_started_it_and_is_found_again(tmp_path):
    root = tmp_path / "jobs"
    subprocess.run([sys.executable, "-c", STARTING, str(root)], check=True, cwd=module.PROJECT_ROOT)
    jobs = Jobs(root)
    (job,) = jobs.list()
    assert job.state is JobState.RUNNING
    pid(jobs, job)
    jobs.cancel(job.id)
    assert ended(jobs, job).state is JobState.CANCELLED


def test_half_a_folder_is_no_job_and_names_stay_inside(jobs):
    job = ended(jobs, start(jobs, "pass"))
    (jobs.root / "empty").mkdir()
    (jobs.root / "torn").mkdir()
    (jobs.root / "torn" / JOB_FILE).write_text('{"kind": "te')
    assert [one.id for one in jobs.list()] == [job.id]
    for name in ("../x", "", ".lock", "a/b"):
        with pytest.raises(UserError, match="no job's name"):
            jobs.find(name)
    with pytest.raises(UserError, match="no job"):
        jobs.find("torn")
    (jobs.root / job.id / EXIT_FILE).write_text("{")
    assert jobs.find(job.id).state is JobState.DIED


def test_a_reader_never_meets_half_a_file(tmp_path):
    path, seen, stop = tmp_path / "progress.json", set(), threading.Event()
    write_atomic(path, b"{}", sync=False)

    def read():
        while not stop.is_set():
            seen.add(len(json.loads(path.read_bytes()).get("text", "")))

    reader = threading.Thread(target=read)
    reader.start()
    for length in range(0, 200_000, 2_000):
        write_atomic(path, json.dumps({"text": "x" * length}).encode(), sync=False)
    stop.set()
    reader.join()
    assert all(length % 2_000 == 0 for length in seen)
    assert [item.name for item in tmp_path.iterdir()] == ["progress.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "f", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_command_is_shown_as_it_would_be_typed():
    inside = str(module.PROJECT_ROOT / ".venv" / "bin" / "python")
    assert shown_command([inside, "-m", "explorer", "a b"]) == f"{Path('.venv', 'bin', 'python')} -m explorer 'a b'"
    assert shown_command(["other", "x"]) == "other x"
