"""Many visitors, on loopback: `python -m tests.load [--visitors 20 --live 5] [--runs 200]` prints a table and a JSON
line.

A real `app.py` in public mode. Visitors speak Gradio's own protocol over HTTP, as the page's script does, so that what
is measured is the server and not twenty browsers on its cores:
- watchers fetch the page and every script and style that it names, then open the recorded runs one after another, with
  ten seconds' pause between them (they play for that long), until the live ones are done;
- live visitors press “Play the whole loop” at the same moment, and wait in line.

Then (`--runs`) so many visitors come one after another, run a small loop of a tiny model and leave, while the server's
memory is read.

Measured: seconds from request to answer (page with its files; one recorded run), how long each live visitor waited for
its first rollout and for its end, what it was told meanwhile, the server's memory before and after.

What it does not do: judge a network, or drawing in a browser (`tests/browser/benchmark.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import httpx
import psutil

from explorer.recorded import recorded_runs
from tests.browser.conftest import Server, serving
from tests.conftest import tiny_network, tiny_tokenizer

PAUSE_S = 10.0
# What a live visitor asks for, by the labels on the page: five of them take minutes and not an hour on two cores.
ASKED = {"Rollouts N": 4, "Max new tokens": 48, "Steps K": 5, "Continuations n": 4}
SMALL = {"Rollouts N": 2, "Max new tokens": 16, "Steps K": 1, "Continuations n": 1}


@dataclass
class Page:
    """One open page: its cookies, its session, and which function each of its buttons calls."""

    url: str
    client: httpx.Client
    session: str
    config: dict
    seconds: float

    @classmethod
    def open(cls, url: str, name: str) -> Page:
        """Fetch the page and all that its head names, as a browser with an empty cache does."""
        client = httpx.Client(timeout=600, trust_env=False)
        began = time.perf_counter()
        html = client.get(url)
        html.raise_for_status()
        for link in sorted(set(re.findall(r'(?:href|src)="((?:\./)?(?:lr|assets)/[^"]+)"', html.text))):
            client.get(urljoin(url, link)).raise_for_status()
        seconds = time.perf_counter() - began
        config = client.get(urljoin(url, "config")).json()
        return cls(url, client, f"load{name}", config, seconds)

    def function(self, element: str, event: str) -> dict:
        """The dependency that an element's event calls."""
        found = next(c for c in self.config["components"] if c["props"].get("elem_id") == element)
        return next(d for d in self.config["dependencies"] if [found["id"], event] in d["targets"])

    def inputs(self, function: dict, changed: dict[str, object]) -> list:
        """The values of a function's inputs as a fresh page has them, but for the labels in `changed`."""
        known = {c["id"]: c["props"] for c in self.config["components"]}
        return [changed.get(known[i].get("label"), known[i].get("value")) for i in function["inputs"]]

    @contextlib.contextmanager
    def present(self):
        """As an open page tells that it is there; when this ends, the server sees that it was left."""
        address = urljoin(self.url, f"gradio_api/heartbeat/{self.session}")
        with httpx.Client(timeout=600, trust_env=False) as line, line.stream("GET", address):
            yield

    def call(self, element: str, event: str, event_data: object = None) -> httpx.Response:
        """An event that skips Gradio's queue."""
        function = self.function(element, event)
        body = {"data": self.inputs(function, {}), "fn_index": function["id"], "session_hash": self.session}
        body |= {"event_data": event_data, "trigger_id": None}
        answer = self.client.post(urljoin(self.url, "gradio_api/run/predict"), json=body)
        answer.raise_for_status()
        return answer

    def stream(self, element: str, event: str, changed: dict[str, object]):
        """An event that stands in Gradio's queue: its messages (seconds since the start, message) until it is done."""
        function = self.function(element, event)
        body = {"data": self.inputs(function, changed), "fn_index": function["id"], "session_hash": self.session}
        body |= {"event_data": None, "trigger_id": None}
        began = time.perf_counter()
        self.client.post(urljoin(self.url, "gradio_api/queue/join"), json=body).raise_for_status()
        address = urljoin(self.url, f"gradio_api/queue/data?session_hash={self.session}")
        with self.client.stream("GET", address) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield time.perf_counter() - began, message
                    if message["msg"] in ("process_completed", "close_stream"):
                        return


@dataclass
class Live:
    """What happened to one live visitor: seconds from the click; what it was told of the line, in order."""

    first_s: float = 0.0
    done_s: float = 0.0
    told: list[str] = field(default_factory=list)
    success: bool = False


def memory_over(server: Server, runs: int, every: int, whole: int = 1) -> tuple[list[int], list[str]]:
    """Visitors who come one after another, make a run and leave, each `whole`th by a small loop, the others by rollouts
    alone: the server's megabytes after each `every` of them, and what failed."""
    process = psutil.Process(server.process.pid)
    seen, failed = [], []
    first = Page.open(server.url, "first")
    for number in range(1, runs + 1):
        client = httpx.Client(timeout=600, trust_env=False)
        page = Page(server.url, client, f"loadm{number}", first.config, 0.0)
        with page.present():
            *_, (_, last) = page.stream("lr-sample" if number % whole else "lr-whole", "click", SMALL)
        if not last.get("success"):
            failed.append(f"run {number}: {json.dumps(last)[:300]}")
        page.client.close()
        if number % every == 0:
            seen.append(round(process.memory_info().rss / 2**20))
    return seen, failed


def press_whole(url: str, name: str, changed: dict[str, object]) -> Live:
    """“Play the whole loop”, to its end."""
    live = Live()
    for seconds, message in Page.open(url, name).stream("lr-whole", "click", changed):
        text = json.dumps(message.get("output", {}))
        for said in re.findall(r"In line for the model: [^\"]*?\.|Others are having their turn: [^\"]*?\.", text):
            live.told.append(said)
        if not live.first_s and '"sampling"' in text:
            live.first_s = seconds
        live.done_s, live.success = seconds, message.get("success", False)
    return live


def watch(url: str, name: str, pause_s: float, ended: threading.Event, opened: list[float], pages: list[float]) -> None:
    """Open the recorded runs one after another until it is over."""
    page = Page.open(url, name)
    pages.append(page.seconds)
    runs = [run.id for run in recorded_runs()]
    turn = 0
    while not ended.is_set():
        began = time.perf_counter()
        run = runs[turn % len(runs)]
        answer = page.call("lr-watch", "open", {"id": run})
        opened.append(time.perf_counter() - began)
        assert run in answer.text, f"asked for {run}, got {answer.text[:200]}"
        turn += 1
        ended.wait(pause_s)


def load(server: Server, visitors: int, live: int, changed: dict[str, object], pause_s: float = PAUSE_S) -> dict:
    """Let them all come at once; what was measured."""
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    ended, failed = threading.Event(), []
    opened: list[float] = []
    pages: list[float] = []
    lives: list[Live] = []

    def noted(action, *arguments):
        try:
            result = action(*arguments)
            if isinstance(result, Live):
                lives.append(result)
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")

    watchers = [
        threading.Thread(target=noted, args=(watch, server.url, f"w{i}", pause_s, ended, opened, pages))
        for i in range(visitors)
    ]
    players = [threading.Thread(target=noted, args=(press_whole, server.url, f"l{i}", changed)) for i in range(live)]
    began = time.perf_counter()
    for thread in [*watchers, *players]:
        thread.start()
    for thread in players:
        thread.join()
    ended.set()
    for thread in watchers:
        thread.join()
    return {
        "visitors": visitors,
        "live": live,
        "seconds": round(time.perf_counter() - began, 1),
        "failed": failed,
        "page_s": spread(pages),
        "opened": len(opened),
        "open_s": spread(opened),
        "first_s": sorted(round(one.first_s, 1) for one in lives),
        "done_s": sorted(round(one.done_s, 1) for one in lives),
        "told": [one.told for one in lives],
        "succeeded": sum(one.success for one in lives),
        "memory_mb": [round(before / 2**20), round(process.memory_info().rss / 2**20)],
    }


def spread(values: list[float]) -> dict:
    """Median, 95th percentile, worst, in seconds."""
    if not values:
        return {}
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median": round(statistics.median(ordered), 3), "p95": round(last, 3), "worst": round(ordered[-1], 3)}


def main() -> int:
    """Start the app, wait for its model, let them come."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--visitors", type=int, default=20, help="How many watch recorded runs.")
    parser.add_argument("--live", type=int, default=5, help="How many run the whole loop.")
    parser.add_argument("--turn", default="30", help="Seconds of a turn.")
    parser.add_argument("--runs", type=int, default=0, help="How many runs the memory is watched over.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with serving(place, LATENTREVISE_PUBLIC="1", LATENTREVISE_TURN_S=asked.turn) as server:
            ready(server)
            found = load(server, asked.visitors, asked.live, ASKED)
        if asked.runs:
            save_smallest(place / "tiny")
            with serving(place, "--model", str(place / "tiny"), LATENTREVISE_PUBLIC="1") as server:
                ready(server)
                found["memory_over_runs_mb"], failed = memory_over(server, asked.runs, max(1, asked.runs // 8))
                found["failed"] += failed
    for name, value in found.items():
        print(f"{name:10} {value}")
    print(json.dumps(found))
    return 1 if found["failed"] or found["succeeded"] < asked.live else 0


def save_smallest(folder: Path) -> None:
    """A model whose runs take a moment: what is looked at is what they leave behind."""
    tokenizer = tiny_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def ready(server: Server, limit_s: float = 300.0) -> None:
    """Wait until the model is there: what is measured is the line, not the loading."""
    page = Page.open(server.url, "ready")
    until = time.monotonic() + limit_s
    header = next(c["id"] for c in page.config["components"] if c["props"].get("elem_id") == "lr-header")
    load_ = next(d for d in page.config["dependencies"] if d["outputs"] == [header])
    body = {"data": [], "fn_index": load_["id"], "session_hash": page.session, "event_data": None, "trigger_id": None}
    while time.monotonic() < until:
        answer = page.client.post(urljoin(server.url, "gradio_api/run/predict"), json=body).json()
        if answer["data"][0]["state"] == "ready":
            return
        time.sleep(0.3)
    raise TimeoutError("the model did not come")


if __name__ == "__main__":
    sys.exit(main())
