"""A real `app.py` as on a ZeroGPU Space, over HTTP: each of its actions in a fork of it, as there. The package that
lends is stood in for (`space/spaces.py`); the real one needs a Space."""

from __future__ import annotations

import json
import time

import pytest

from explorer.store import load_run
from tests.load import Page

from .browser.conftest import ROOT, serving
from .test_served import save

ASKED = {"Rollouts N": 2, "Max new tokens": 24, "Steps K": 3, "Continuations n": 2}
HUNG_S = 5.0
LIMIT_S = 90


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The app on a tiny model; what it was lent is in `lent.jsonl` beside its log."""
    folder = tmp_path_factory.mktemp("lent")
    save(folder / "tiny")
    (folder / "lent.jsonl").touch()
    environment = {
        "SPACES_ZERO_GPU": "1",
        "PYTHONPATH": str(ROOT / "tests" / "space"),
        "LENT_CALLS": str(folder / "lent.jsonl"),
        "LENT_HUNG_S": str(HUNG_S),
        "LATENTREVISE_OFFLINE": "1",
        "LATENTREVISE_PUBLIC": "1",
        "LATENTREVISE_CACHE_DIR": str(folder / "cache"),
    }
    with serving(folder, "--model", str(folder / "tiny"), **environment) as server:
        yield server


def lent(server) -> list[dict]:
    """The calls until now."""
    return [json.loads(line) for line in (server.log.parent / "lent.jsonl").read_text().splitlines()]


def press_whole(server, name: str, header: str = "") -> tuple[float, dict, str]:
    """ "Play the whole loop" to its end: seconds, the last message, and all that was said."""
    page = Page.open(server.url, name)
    if header:
        page.client.headers["x-stand-in"] = header
    told = list(page.stream("lr-whole", "click", ASKED))
    seconds, last = told[-1]
    return seconds, last, json.dumps([message for _, message in told])


def test_forks_compute_and_come_back(space):
    """Hangs of a fork are rarer than these calls; what brings them about is tested in `test_zero_gpu.py`."""
    before = len(space.folders())
    for turn in range(2):
        seconds, last, said = press_whole(space, f"calls{turn}")
        assert last.get("success"), said[-2000:]
        assert seconds < LIMIT_S
        trace, trajectory = load_run(space.folders()[-1])
        assert (len(trace.before), len(trace.steps)) == (2, 3)
        assert len(trace.after) == 6
        assert len(trajectory) == 4
    assert len(space.folders()) == before + 2
    assert "Traceback" not in space.log.read_text()


def test_turns_are_said_to_last_as_long_as_a_call(space):
    assert "in turns of 60 s while others wait" in json.dumps(Page.open(space.url, "turns").config)


def test_a_call_is_asked_for_in_its_visitors_name(space):
    before = len(lent(space))
    for name in ("ada", "bob"):
        _, last, said = press_whole(space, name, header=name)
        assert last.get("success"), said[-2000:]
    calls = lent(space)[before:]
    assert {call["header"] for call in calls} == {"ada", "bob"}
    assert {call["duration"] for call in calls} == {60}


def test_a_worker_that_waits_for_ever_ends_and_costs_a_sentence(space):
    began = time.monotonic()
    _, last, said = press_whole(space, "hung", header="hang")
    assert HUNG_S <= time.monotonic() - began < LIMIT_S
    assert "The Space took its GPU back too early" in said
    assert last.get("success"), "said on the page, not an error of the queue"
    assert "most recent call first" in space.log.read_text(), "where it waited is in the log"
    _, last, said = press_whole(space, "next")
    assert last.get("success")
    assert "took its GPU back" not in said, "the next one is served"
