"""The browser loses the app in the middle of something: the network is cut, the page reloaded, the app killed. What was
finished is on disk, the page says what is the matter, and works on.

Between browser and app lies a line of ours that can be cut: connections end as they do when a network goes away, and
new ones come to nothing until it is mended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import threading
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from explorer.records import RunStatus
from explorer.store import load_run

from . import screen as s
from .conftest import save_tiny, serving

pytestmark = pytest.mark.browser

STEPS = 60  # so many that it is never done by the time the line is cut
LOST = "Connection to the server was lost"


class Line:
    """A connection to a port of this machine that can be cut and mended; `to` may become another port."""

    def __init__(self, to: int):
        self.to, self.up = to, True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                if not self.up:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                if self._listener.fileno() < 0:
                    return
                near.close()  # the app is not there
                continue
            with self._lock:
                self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections and take no new ones."""
        self.up = False
        with self._lock:
            gone, self._open = self._open, set()
        for end in gone:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Take connections again."""
        self.up = True

    def close(self) -> None:
        """For good."""
        self.cut()
        self._listener.close()


@contextlib.contextmanager
def line_to(server):
    """The app behind a line, and the line."""
    line = Line(urlsplit(server.url).port)
    try:
        yield dataclasses.replace(server, url=f"http://127.0.0.1:{line.port}/"), line
    finally:
        line.close()


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory):
    """A model that takes seconds for its steps: the tests' usual one was done with them before a browser that draws
    beside other work had shown three."""
    folder = tmp_path_factory.mktemp("models") / "slow"
    save_tiny(folder, layers=80)
    return folder


def app(folder, slow_folder):
    # No turns: another page has the model only when it was given back.
    environment = {"LATENTREVISE_CACHE_DIR": str(slow_folder.parent / "cache"), "LATENTREVISE_TURN_S": "900"}
    return serving(folder, "--model", str(slow_folder), "--device", "cpu", **environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory, slow_folder):
    with app(tmp_path_factory.mktemp("faults-server"), slow_folder) as running:
        yield running


def revising(page) -> dict:
    """Rollouts, and a revision that is under way."""
    s.wait_for_model(page)
    s.write(page, "What is 12 + 30?", "42")
    s.sampling(page, 3, 40)
    s.sample(page)
    s.number(page, "Steps K", STEPS)
    s.player(page, "toggle").click()
    stage = s.wait_for_stage(page, "p.status === 'running' && p.steps.length >= 3")
    # The address follows the screen: by it the page finds its run again.
    page.wait_for_function("(run) => location.search.includes(run)", arg=stage["run_id"])
    return stage


def another_page_samples(visit, server) -> None:
    """It has the model within a test's patience: nobody else keeps it."""
    with visit(server) as other:
        s.wait_for_model(other.page)
        s.write(other.page, "What is 1 + 1?", "2")
        s.sampling(other.page, 2, 8)
        s.sample(other.page)


def goes_on(page, server, before: dict) -> None:
    """The page shows the steps that were taken before, as they lie on disk, and takes one more."""
    stage = s.wait_for_stage(page, "p.status === 'paused' && p.steps.length >= 3")
    assert stage["run_id"] == before["run_id"]
    trace, trajectory = load_run(server.runs / stage["run_id"])
    assert trace.status is RunStatus.CANCELLED
    assert len(before["steps"]) <= len(trace.steps) == len(stage["steps"]) < STEPS
    assert len(trajectory) == len(trace.steps) + 1
    s.wait_for_model(page)
    s.player(page, "last").click()
    s.player(page, "step").click()
    after = s.wait_for_stage(page, f"p.status === 'paused' && p.steps.length === {len(stage['steps']) + 1}")
    s.rest(page)
    assert after["steps"][: len(stage["steps"])] == stage["steps"]
    assert len(load_run(server.runs / after["run_id"])[0].steps) == len(stage["steps"]) + 1


def test_a_connection_lost_in_the_middle_of_a_run_keeps_its_steps_and_goes_on(visit, server):
    with line_to(server) as (far, line), visit(far) as visitor:
        page = visitor.page
        before = revising(page)
        line.cut()
        expect(page.get_by_text(LOST).first).to_be_visible()
        another_page_samples(visit, server)
        line.mend()
        goes_on(page, server, before)
        expect(page.get_by_text(LOST)).to_have_count(0)


def test_a_reload_in_the_middle_of_a_run_frees_the_model(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        before = revising(page)
        page.reload()
        another_page_samples(visit, server)
        goes_on(page, server, before)


def test_a_recorded_run_plays_on_without_a_connection(visit, server):
    with line_to(server) as (far, line), visit(far, mode="watch") as visitor:
        page = visitor.page
        stage = s.wait_for_stage(page, "p.steps.length > 3 && j > 0")
        page.wait_for_function(f"({s.STAGE}).stage.atlas")
        s.player(page, "first").click()
        s.wait_for_stage(page, "j === 0")
        s.player(page, "toggle").click()
        s.wait_for_stage(page, "j >= 1 && j < p.steps.length")  # it plays, and has not played to its end
        line.cut()
        s.wait_for_stage(page, f"p.run_id === {stage['run_id']!r} && j === p.steps.length")
        page.locator("#lr-stage input[type=range]").fill("2")
        assert s.point(page) == 2
        expect(page.get_by_text(LOST).first).to_be_visible()
        page.wait_for_function("location.search.includes('step=2')")
        line.mend()
        expect(page.get_by_text(LOST)).to_have_count(0)
        s.wait_for_stage(page, f"p.run_id === {stage['run_id']!r} && j === 2")


def test_an_app_that_is_killed_and_started_again_shows_what_was_finished(visit, tmp_path, slow_folder):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(app(tmp_path, slow_folder))
        far, line = stack.enter_context(line_to(first))
        page = stack.enter_context(visit(far)).page
        before = revising(page)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        expect(page.get_by_text(LOST).first).to_be_visible()
        # Its rollouts were finished.
        trace, _ = load_run(first.runs / before["run_id"])
        assert (len(trace.before), len(trace.steps)) == (3, 0), trace.status
        second = stack.enter_context(app(tmp_path, slow_folder))
        line.to = urlsplit(second.url).port
        expect(page.get_by_text(LOST)).to_have_count(0)
        expect(s.headline(page)).to_contain_text("of 3 correct")
        s.wait_for_model(page)
        page.locator("#lr-rollouts .lr-card-pick").first.click()
        s.wait_for_stage(page, "p.status === 'paused' && p.steps.length === 0")
        s.player(page, "step").click()
        after = s.wait_for_stage(page, "p.status === 'paused' && p.steps.length === 1")
        assert len(load_run(second.runs / after["run_id"])[0].steps) == 1
