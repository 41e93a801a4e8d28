"""What a running app hands out and takes in over HTTP, asked by hand: no browser, no kindness.

Each test has its control: the same way of asking does get what may be had.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import io
import json
import os
import pickle
import re
import shutil
import threading
import time
import urllib.parse
import zipfile
from pathlib import Path

import pytest

from explorer.errors import UserError
from explorer.jobs import PROJECT_ROOT
from explorer.pipeline import load_model
from explorer.settings import read_settings

from .browser.conftest import Server, serving
from .conftest import tiny_network, tiny_tokenizer

RECORDED = PROJECT_ROOT / "assets" / "recorded" / "rescue"
MADE_HERE = "made-here"
# A loaded machine needs long; nothing waits this long when all is well.
LIMIT_S = 120


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save(folder)
    return folder


def save(folder: Path) -> None:
    """A random model that loads at once."""
    tokenizer = tiny_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def running(tmp_path_factory, tiny: Path, **environment: str):
    """The app on the tiny model, with one run in its folder of runs."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(RECORDED, folder / "runs" / MADE_HERE)
    quiet = {"LATENTREVISE_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LATENTREVISE_CACHE_DIR": str(folder / "cache")}
    with serving(folder, "--model", str(tiny), **quiet | environment) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny):
    with running(tmp_path_factory, tiny) as server:
        yield server


class Caller:
    """Somebody with a socket. `asked` counts, so that no two events share a session unless they are told to."""

    def __init__(self, server: Server, **headers: str):
        self.server, self.headers, self.asked = server, headers, 0

    def ask(self, method: str, path: str, body=None, **headers: str) -> tuple[int, bytes]:
        """Status and body; the path goes out as it is written."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.server.url).netloc, timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**self.headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def post(self, path: str, value) -> tuple[int, bytes]:
        body = value if isinstance(value, str) else json.dumps(value)
        return self.ask("POST", path, body, **{"Content-Type": "application/json"})

    def events(self) -> list[dict]:
        """What /config says of events; each with the types and first values of its inputs."""
        config = json.loads(self.ask("GET", "/config")[1])
        of = {item["id"]: item for item in config["components"]}
        for event in config["dependencies"]:
            event["kinds"] = [of[i]["type"] for i in event["inputs"]]
            event["first"] = [of[i]["props"].get("value") for i in event["inputs"]]
            event["labels"] = [of[t[0]]["props"].get("label") if t[0] else None for t in event["targets"]]
            event["on"] = [t[1] for t in event["targets"]]
        return config["dependencies"]

    def event(self, name: str) -> dict:
        (found,) = [event for event in self.events() if event["api_name"] == name]
        return found

    def send(self, event: dict, data: list, sent=None, session: str = "") -> bytes:
        """Send an event and return all that comes back, however it is sent back."""
        self.asked += 1
        session = session or f"caller{self.asked}"
        body = {"data": data, "fn_index": event["id"], "session_hash": session, "event_data": sent}
        if not event["queue"]:
            return self.post("/gradio_api/run/predict", body)[1]
        status, answer = self.post("/gradio_api/queue/join", body)
        return self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")[1] if status == 200 else answer

    def upload(self, name: str, content: bytes) -> str:
        """Hand over a file as the page does; returns its path there."""
        body = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        status, answer = self.ask("POST", "/gradio_api/upload", body + content + b"\r\n--x--\r\n", **headers)
        assert status == 200, answer
        return json.loads(answer)[0]


def file_data(path: str, **more: str) -> dict:
    return {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.fixture
def caller(server):
    return Caller(server)


def log_of(server: Server, since: int = 0) -> str:
    return server.log.read_text(errors="replace")[since:]


# -- files -----------------------------------------------------------------------------------------


def outside(server: Server) -> list[str]:
    """Paths that must come to nothing: the machine's files, ours, and runs, written in every way."""
    run = server.runs / MADE_HERE / "trace.json"
    files = ["/etc/passwd", "app.py", "README.md", str(PROJECT_ROOT / "app.py"), str(run), os.path.relpath(run)]
    files += [".git/config", "assets/problems.jsonl", f"/proc/{server.process.pid}/environ", "/proc/self/environ"]
    found = [f"/gradio_api/file={path}" for path in files]
    found += [f"/gradio_api/file/{path.lstrip('/')}" for path in files]
    up = [*("../" * n for n in (1, 3, 8)), *("..%2f" * n for n in (1, 3, 8)), *("%2e%2e/" * n for n in (1, 8))]
    up += ["..%252f" * 8, "..%5c" * 8, "....//" * 8, "%2fetc%2f..%2f"]
    targets = ["etc/passwd", "app.py", "README.md", f"runs/{MADE_HERE}/trace.json"]
    below = [
        "/lr/assets/",
        "/lr/assets/stage/",
        "/lr/map/",
        "/lr/v/x/assets/",
        "/static/",
        "/assets/",
        "/gradio_api/file=",
    ]
    found += [f"{place}{steps}{target}" for place in below for steps in up for target in targets]
    return [*found, "/lr/assets/recorded/rescue/trace.json%00.js", "/lr/map/aaaaaaaa/..%2fmeta.json"]


def test_nothing_of_the_machine_is_handed_out(server, caller):
    secrets = [b"root:", b"LatentRevise Explorer: `python", b"# LatentRevise", b"schema_version", b"OMP_NUM_THREADS"]
    assert caller.ask("GET", "/lr/assets/page.css")[0] == 200
    for path in outside(server):
        for method in ("GET", "HEAD"):
            status, body = caller.ask(method, path)
            assert status in (400, 403, 404, 405), (path, status)
            assert not any(secret in body for secret in secrets), path
    assert "Traceback" not in log_of(server)


def test_a_file_that_somebody_brought_is_shown_and_does_nothing(caller):
    path = caller.upload("page.html", b"<script>alert(1)</script>")
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(caller.server.url).netloc)
    with contextlib.closing(connection):
        connection.request("GET", f"/gradio_api/file={path}")
        answer = connection.getresponse()
        assert answer.read() == b"<script>alert(1)</script>"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Content-Security-Policy"].endswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"] == "application/octet-stream"


class Listener:
    """A server on this machine that should hear nothing."""

    def __init__(self):
        self.heard: list[tuple[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.heard.append((self.path, self.headers.get("Authorization", "")))
                self.send_error(401)

            do_HEAD = do_POST = do_GET

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


def test_upload_events_take_only_what_was_uploaded(server, caller, listener):
    since = len(log_of(server))
    uploads = [event for event in caller.events() if "upload" in event["on"]]
    assert len(uploads) == 3
    run = server.runs / MADE_HERE / "trace.json"
    bad = [file_data(path) for path in ("/etc/passwd", "app.py", str(run), "/tmp", "", "../../../etc/passwd")]
    bad += [file_data(f"{listener.url}/a.jsonl"), file_data("a.jsonl", url=f"{listener.url}/b.jsonl")]
    bad += [file_data("/etc/passwd", url=f"{listener.url}/c.zip"), file_data("file:///etc/passwd")]
    bad += [{**file_data("/etc/passwd"), "is_stream": True}, f"{listener.url}/d.json", "/etc/passwd"]
    folders = server.folders()
    for event in uploads:
        for value in bad:
            for data in (value, [value]):
                answer = caller.send(event, [data], session="thief")
                assert b"root:" not in answer, (event["api_name"], data)
                assert b"schema_version" not in answer
                assert b"problems read" not in answer
    for url in (f"{listener.url}/e", urllib.parse.quote(f"{listener.url}/f", safe="")):
        assert caller.ask("GET", f"/gradio_api/file={url}")[0] == 404
        assert caller.ask("GET", f"/gradio_api/proxy={url}")[0] == 404
    assert listener.heard == []
    assert server.folders() == folders
    assert "Traceback" not in log_of(server, since)
    # The same way, with what was uploaded:
    path = caller.upload("mine.jsonl", b'{"question": "What is 1 + 1?", "answer": 2}\n')
    assert b"1 problems read" in caller.send(caller.event("upload"), [file_data(path)])


# -- garbage ---------------------------------------------------------------------------------------

GARBAGE = (None, True, -1, 0.5, float("nan"), 1e308, 10**40, "x", "<img>", [], {}, [[[]]], {"a": {"b": [1, None]}})
SOME = (None, "x", 10**40, [], {"a": {"b": [1, None]}})
NAMES = (
    "rollout",
    "m",
    "point",
    "ticket",
    "values",
    "id",
    "run_id",
    "hunt",
    "job",
    "what",
    "training",
    "side",
    "limit",
)
# These would go on to sample with the values that they have beside the garbage.
RUN = ("sample", "whole", "live")
# Triggers of Gradio's own components: their handlers take no data of an event.
BUILT_IN = {"click", "load", "unload", "tick", "success", "select", "input", "upload"}


def clean(answer: bytes) -> bool:
    """Whether an answer tells nothing about the inside of this program."""
    return not re.search(rb"Traceback|site-packages|File \\?\"|\.py\b.{0,12}line \d", answer)


def test_garbage_to_every_event_costs_a_sentence(server, caller):
    since = len(log_of(server))
    events = caller.events()
    assert len(events) > 40
    for event in events:
        n = len(event["inputs"])
        for value in GARBAGE:
            session = f"garbage{event['id']}"
            everywhere = [[value] * n] if n else []
            for data in [*everywhere, [], [value] * (n + 1)]:
                if event["api_name"] != "live":
                    assert clean(caller.send(event, data, value, session)), (event["api_name"], data)
            if event["api_name"] in RUN:
                continue
            for kind in ("slider", "number", "radio", "dropdown"):
                if kind in event["kinds"]:
                    i = event["kinds"].index(kind)
                    data = [*event["first"][:i], value, *event["first"][i + 1 :]]
                    assert clean(caller.send(event, data, {}, session)), (event["api_name"], data)
            if event["queue"] or set(event["on"]) & BUILT_IN or value not in SOME:
                continue
            for name in NAMES:
                sent = {"rollout": 0, "m": 1, "values": {}, "what": "pause", "job": "x", name: value}
                answer = caller.send(event, event["first"], sent, session)
                assert clean(answer), (event["api_name"], sent)
    assert caller.ask("GET", "/")[0] == 200
    assert "Traceback" not in log_of(server, since)


def test_a_download_that_fails_hands_over_no_earlier_file(server, caller):
    gone = server.runs / "soon-gone"
    shutil.copytree(RECORDED, gone)
    (opens,) = [event for event in caller.events() if event["on"] == ["open"] and event["labels"] == ["Recorded runs"]]
    caller.send(opens, [], {"id": gone.name}, session="home")
    packed = [json.loads(caller.send(caller.event("pack"), [""], session="home"))["data"]]
    shutil.rmtree(gone)
    packed.append(json.loads(caller.send(caller.event("pack"), [""], session="home"))["data"])
    assert packed[0][0]["path"].endswith("soon-gone.zip")
    assert (packed[1][0], packed[1][1]["kind"]) == (None, "warning")


def test_a_number_beyond_its_field_is_named(caller):
    sample = caller.event("sample")
    for kind, value, says in (
        ("number", -1, b"Seed can't be -1: choose 0 or more."),
        ("slider", 10**400, b"Rollouts N can't be 10000000000000000000: choose 1 to "),
    ):
        i = sample["kinds"].index(kind)
        answer = caller.send(sample, [*sample["first"][:i], value, *sample["first"][i + 1 :]], None)
        assert says in answer, answer


@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "[]",
            "{",
            "{}",
            "null",
            '"x"',
            "[" * 50_000,
            "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        ),
        *({"data": [], "fn_index": index, "session_hash": "s"} for index in (999, -1, 10**30, "x", None, [1])),
        *({"data": data, "fn_index": 5, "session_hash": "s"} for data in ({}, None, "x", 3)),
        *({"data": [], "fn_index": 5, "session_hash": name} for name in (None, ["a"], "../../x", "\0")),
        *({"data": [], "fn_index": 5, "session_hash": "s", "trigger_id": of} for of in (10**6, "x", [1], -1)),
        {"data": [], "fn_index": 5, "session_hash": "s", "event_id": "x", "batched": True, "simple_format": True},
    ],
    ids=lambda body: str(body)[:60],
)
def test_bodies_that_no_page_sends(server, caller, body):
    since = len(log_of(server))
    for path in ("run/predict", "queue/join", "cancel", "reset", "upload"):
        status, answer = caller.post(f"/gradio_api/{path}", body)
        assert status in (200, 400, 404, 422), (path, status)
        assert clean(answer)
    assert caller.ask("GET", "/")[0] == 200
    assert "Traceback" not in log_of(server, since)


# -- models ----------------------------------------------------------------------------------------


def header_of(answer: bytes) -> dict:
    """What the page's header is told by an answer of the model's events."""
    return json.loads(answer)["data"][0]


def test_a_public_page_loads_no_other_model_however_it_is_asked(tmp_path_factory, tiny):
    other = tmp_path_factory.mktemp("models") / "other"
    save(other)
    with running(tmp_path_factory, tiny, LATENTREVISE_PUBLIC="1") as server:
        caller = Caller(server)
        loads = [event for event in caller.events() if event["api_name"] in ("load", "load_1")]
        assert len(loads) == 2  # the form's, and what follows “Load this model” of a training
        wait_for_model(caller)
        for name in (str(other), f" {other}/", os.path.relpath(other, PROJECT_ROOT), "gpt2", "../../../etc", "."):
            told = header_of(caller.send(loads[0], [name], session="stranger"))
            assert "loads only" in told["message"], told
            assert told["model"]["id"] == "tiny"
            # What follows takes no name from outside.
            told = json.loads(caller.send(loads[1], [name], session="stranger"))
            assert told["data"][0] in ({"__type__": "update"}, {"__type__": "update", "props": {"__type__": "update"}})
        assert header_of(caller.send(loads[0], [str(tiny)], session="stranger"))["state"] == "ready"
        take = json.loads(caller.send(caller.event("pick_1"), [], {"training": "../other", "side": "trained"}))
        assert take["data"][0] == {"__type__": "update"}  # the name of the model stays
        path = caller.upload("mine.jsonl", b'{"question": "What is 1 + 1?", "answer": 2}\n')
        assert b"public page does not keep files" in caller.send(caller.event("bring"), [file_data(path)])


def wait_for_model(caller: Caller) -> None:
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if header_of(caller.send(caller.event("first_1"), []))["state"] == "ready":
            return
        time.sleep(0.2)
    pytest.fail("the model did not arrive")


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside safetensors"])
def test_no_pickle_of_a_model_is_ever_opened(tmp_path, beside):
    folder, marker = tmp_path / "bomb", tmp_path / "marker"
    save(folder)
    if not beside:
        (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin", "model.pt", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb(marker)))
    settings = read_settings(cache_dir=tmp_path / "cache", offline=True, device="cpu")
    if beside:
        assert load_model(settings, str(folder)).info.id == "bomb"
    else:
        with pytest.raises(UserError, match="no safetensors"):
            load_model(settings, str(folder))
    assert not marker.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert marker.exists()


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    folder, marker = tmp_path / "brought", tmp_path / "marker"
    save(folder)
    code = f"import pathlib; pathlib.Path({str(marker)!r}).touch()\n"
    (folder / "mine.py").write_text(f"{code}class C: pass\nclass M: pass\nclass T: pass\n")
    auto = {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M", "AutoTokenizer": ["mine.T", None]}
    for name, more in (("config.json", {"model_type": "mine"}), ("tokenizer_config.json", {"tokenizer_class": "T"})):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **more, "auto_map": auto}))
    settings = read_settings(cache_dir=tmp_path / "cache", offline=True, device="cpu")
    assert not settings.allow_remote_code
    with pytest.raises(UserError):
        load_model(settings, str(folder))
    assert not marker.exists()


# -- secrets ---------------------------------------------------------------------------------------

PASSWORD, TOKEN = "marker-of-the-password", "hf_markerofthetoken"


def test_password_and_token_are_nowhere(tmp_path_factory, tiny, listener):
    keys = dict(LATENTREVISE_PASSWORD=PASSWORD, HF_TOKEN=TOKEN, HF_ENDPOINT=listener.url, NO_PROXY="127.0.0.1")
    with running(tmp_path_factory, tiny, LATENTREVISE_OFFLINE="", **keys) as server:
        stranger = Caller(server)
        seen = [stranger.ask("GET", "/")[1]]
        assert b"recorded" not in seen[0]
        for path in (
            "/config",
            "/gradio_api/info",
            "/gradio_api/queue/data?session_hash=a",
            "/gradio_api/file=/etc/hosts",
        ):
            status, body = stranger.ask("GET", path)
            assert status == 401, path
            seen.append(body)
        assert stranger.post("/gradio_api/queue/join", {"data": [], "fn_index": 3, "session_hash": "a"})[0] == 401
        caller = Caller(server, Cookie=cookie_of(server))
        seen += [caller.ask("GET", path)[1] for path in ("/", "/config", "/theme.css")]
        wait_for_model(caller)
        sample = caller.event("sample")
        values = dict(zip(range(len(sample["inputs"])), sample["first"], strict=True)) | {1: "What is 22 + 8?", 2: "30"}
        first = [values[i] for i in range(len(values))]
        at = sample["kinds"].index("slider")
        first[at], first[at + 3] = 2, 16  # two rollouts of sixteen tokens
        before = server.folders()
        seen.append(caller.send(sample, first, session="mine"))
        assert b'"success":true' in seen[-1]
        step = caller.event("step")
        seen.append(caller.send(step, step["first"], {"run_id": "of another page"}, session="mine"))
        assert b"reload the page" in seen[-1]
        (name,) = [folder.name for folder in server.folders() if folder not in before]
        seen.append(caller.send(step, step["first"], {"run_id": name}, session="mine"))
        assert b"reload the page" not in seen[-1]
        packed = json.loads(caller.send(caller.event("pack"), [""], session="mine"))["data"][0]["path"]
        archive = zipfile.ZipFile(io.BytesIO(caller.ask("GET", f"/gradio_api/file={packed}")[1]))
        seen += [archive.read(name) for name in archive.namelist()]
        assert len(archive.namelist()) >= 2
        # A model that the hub refuses: the token goes there, and into no sentence.
        load, told = caller.event("load"), b""
        until = time.monotonic() + LIMIT_S
        while b"goes on with the model it had" not in told and time.monotonic() < until:
            told = caller.send(
                load if not told else caller.event("first_1"), ["some/model"] if not told else [], None, "mine"
            )
            time.sleep(0.2)
        assert b"goes on with the model it had" in told
        assert any(TOKEN in authorization for _, authorization in listener.heard)
        seen += [told, caller.send(caller.event("plan_1"), [], {}), caller.send(caller.event("plan_2"), [], {})]
        (made,) = [folder for folder in server.folders() if folder not in before]
        seen += [path.read_bytes() for path in made.iterdir()]
        seen.append(server.log.read_bytes())
    for content in seen:
        assert PASSWORD.encode() not in content
        assert TOKEN.encode() not in content


def cookie_of(server: Server) -> str:
    """Log in as the page's form does."""
    form = urllib.parse.urlencode({"username": "explorer", "password": PASSWORD})
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc)
    with contextlib.closing(connection):
        wrong = form.replace(PASSWORD, "guess")
        for body, status in ((wrong, 400), (form, 200)):
            connection.request("POST", "/login", body, {"Content-Type": "application/x-www-form-urlencoded"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
    return "; ".join(cookie.split(";")[0] for cookie in answer.headers.get_all("Set-Cookie"))


@pytest.mark.parametrize(
    ("view", "on"),
    [
        ("The revision, step by step", "step"),
        ("The revision, step by step", "joint"),
        ("Rollouts", "pick"),
        ("Rollouts", "split"),
        ("Share correct over the steps", "curve"),
        ("Is the rescue real?", "audit"),
        ("Recorded runs", "live"),
    ],
)
def test_what_a_page_from_before_a_restart_sends_touches_no_other_run(server, view, on):
    caller = Caller(server)
    (event,) = [one for one in caller.events() if one["on"] == [on] and one["labels"] == [view]]
    sent = {"run_id": "of-before", "rollout": 0, "m": 3, "turn": 1}
    assert b"away for too long" in caller.send(event, event["first"], sent)


@pytest.mark.parametrize("name", ["continue_", "decoy", "pack", "plan"])
def test_what_a_button_of_a_page_from_before_a_restart_does_touches_no_other_run(server, name):
    caller = Caller(server)
    event = caller.event(name)
    said = json.dumps({"run_id": "of-before", "point": 0})
    answer = caller.send(event, [*event["first"][:-1], said])
    assert (b"steps" not in answer) if name == "plan" else (b"away for too long" in answer)
    if name == "pack":
        assert b".zip" not in answer
