"""Several visitors at once and one after another, against a real app with a tiny model (`load.py` is the measurement
with the default one)."""

from __future__ import annotations

import contextlib
import json
import signal
import time

import httpx
import pytest

from explorer.store import load_run
from tests.browser.conftest import save_tiny, serving
from tests.load import Page, load, memory_over, ready, save_smallest

VISITORS, LIVE, RUNS = 6, 3, 200
# A turn so short that work of any machine is longer, and a rest during two of them that one who looks every half a
# second is told of.
TURN_S = "0.4"


@pytest.fixture
def serve(tmp_path):
    """An app with a model that `save` writes."""

    @contextlib.contextmanager
    def started(save):
        save(tmp_path / "tiny")
        model = str(tmp_path / "tiny")
        with serving(tmp_path, "--model", model, LATENTREVISE_PUBLIC="1", LATENTREVISE_TURN_S=TURN_S) as server:
            ready(server)
            yield server

    return started


def test_watchers_and_players_at_once_are_all_served(serve):
    asked = {"Rollouts N": 4, "Max new tokens": 64, "Steps K": 20, "Continuations n": 4}
    with serve(save_tiny) as server:
        found = load(server, VISITORS, LIVE, asked, pause_s=1.0)
    assert found["failed"] == []
    assert found["succeeded"] == LIVE
    assert found["opened"] >= VISITORS
    told = [sentence for sentences in found["told"] for sentence in sentences]
    assert any(sentence.startswith("In line for the model: 2 before you, about") for sentence in told)
    assert any(sentence.startswith("Others are having their turn: ") for sentence in told)
    # In turns all end at about the same time: the first does not end before the last has begun.
    assert found["done_s"][0] > found["first_s"][-1]


def test_memory_stays_flat_over_200_runs(serve):
    with serve(save_smallest) as server:
        seen, failed = memory_over(server, RUNS, every=RUNS // 8, whole=4)
        assert failed == []
        assert "Traceback" not in server.log.read_text()
    # Until the third look Gradio fills its memory of visitors (explorer/ui/app.py, REMEMBERED). What one visitor would
    # leave behind is 0.5 MB: 60 MB from there on.
    assert seen[-1] - seen[2] < 25, seen


def test_a_stopped_app_saves_what_runs(serve):
    """As a container is stopped: by SIGTERM, in the middle of a revision, and impatiently."""
    with serve(save_tiny) as server:
        page = Page.open(server.url, "stopped")
        asked = {"Rollouts N": 2, "Max new tokens": 32, "Steps K": 30, "Continuations n": 2}
        with contextlib.suppress(httpx.HTTPError):
            for _, message in page.stream("lr-whole", "click", asked):
                if server.process.poll() is None and '"toward_loss"' in json.dumps(message):
                    server.process.terminate()
        ends = time.monotonic() + 60
        while server.process.poll() is None and time.monotonic() < ends:
            server.process.terminate()
            time.sleep(0.02)
        assert server.process.poll() == 128 + signal.SIGTERM
        trace, trajectory = load_run(server.folders()[0])
        assert len(trace.before) == 2
        assert 0 < len(trace.steps) < 30
        assert len(trajectory) == len(trace.steps) + 1
        assert "Traceback" not in server.log.read_text()
