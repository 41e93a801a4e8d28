"""What the buttons do, without a browser: real tiny model, fake judge; faults of disk, memory and people."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import pytest
import torch

from explorer import store
from explorer.records import Problem, RevisionConfig, RunStatus, SamplingConfig, Verdict
from explorer.store import load_run
from explorer.ui.session import Session, Sessions
from explorer.ui.work import SAME, Screen, Work, merged
from tests.conftest import FakeJudge

PROBLEM = Problem(id="sum-1", question="What is 12 + 30?", answer="42")
SAMPLING = SamplingConfig(n=3, temperature=1.0, max_new_tokens=20, seed=5)
CONFIG = RevisionConfig(steps=3, step_size=0.1)


class Host:
    """One tiny model that is simply there."""

    def __init__(self, model):
        self.model = model

    def loading(self, name):
        return SimpleNamespace(state="ready", model=self.model, message="", progress=1.0)

    def need(self, name):
        return self.model

    def map_status(self, model):
        return None, {"state": "absent", "progress": 0.0, "message": ""}


@pytest.fixture
def work(llama, tmp_path):
    work = Work(Host(llama), FakeJudge(), tmp_path)
    yield work
    work.thread.close()


@pytest.fixture
def session():
    return Session("page", "default")


def final(screens) -> Screen:
    """All redraws as one: what the screen shows in the end."""
    result = Screen()
    for screen in screens:
        result = merged(result, screen)
    return result


def act(work, session, name, action, **kwargs):
    return final(work.guarded(session, name, action, **kwargs))


def revised(work, session):
    act(work, session, "whole", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    return act(work, session, "play", work.revise(session, CONFIG, one=False))


def test_the_whole_loop_ends_with_everything_on_screen_and_on_disk(work, session):
    screen = act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    assert screen.busy == ""
    assert screen.rollouts["summary"]["zero_hit"] is True
    assert screen.stage["status"] == "completed"
    assert len(screen.stage["steps"]) == 3
    assert [arm["done"] for arm in screen.compare["arms"]] == [3, 3, 3]
    trace, _ = load_run(session.folder)
    assert trace == session.run.trace()


def test_what_the_page_was_too_slow_to_show_is_merged_not_lost(work, session):
    """A consumer that is slower than the model still ends with the last state of every view."""
    screens = work.guarded(session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    first = next(screens)
    while session.run is None or len(session.run.after) < 9:
        time.sleep(0.01)  # the model thread goes on without being asked
    rest = list(screens)
    assert len(rest) < 6
    assert final([first, *rest]).compare["arms"][2]["done"] == 3


def test_one_step_back_and_on(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    one = act(work, session, "step", work.revise(session, CONFIG, one=True))
    assert len(one.stage["steps"]) == 1
    assert one.stage["status"] == "paused"
    run_id = one.stage["run_id"]
    rest = act(work, session, "play", work.revise(session, CONFIG, one=False))
    assert (len(rest.stage["steps"]), rest.stage["run_id"]) == (3, run_id)


def test_other_settings_wait_for_a_new_start_and_say_so(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    act(work, session, "step", work.revise(session, CONFIG, one=True))
    other = CONFIG.model_copy(update={"away_weight": 1.0})
    screen = act(work, session, "step", work.revise(session, other, one=True))
    assert "Start over" in screen.notice["text"]
    assert session.run.config.away_weight == CONFIG.away_weight
    before = session.run_id
    screen = act(work, session, "restart", work.restart(session, other), on_model=False)
    assert screen.stage["steps"] == []
    assert session.run.config.away_weight == 1.0
    assert session.run_id != before, "the earlier revision keeps its folder"
    assert load_run(work.runs_dir / before)[0].config.away_weight == CONFIG.away_weight


def test_more_steps_are_no_other_settings(work, session):
    revised(work, session)
    more = CONFIG.model_copy(update={"steps": 5})
    screen = act(work, session, "play", work.revise(session, more, one=False))
    assert len(screen.stage["steps"]) == 5
    assert screen.notice is None
    assert load_run(session.folder)[0].config.steps == 5


def test_a_raised_plan_is_on_screen_at_once_so_that_play_goes_on(work, session):
    assert work.plan(session, 9).stage is SAME  # nothing to plan for yet
    revised(work, session)
    screen = work.plan(session, 5)
    assert (screen.stage["config"]["steps"], screen.stage["status"], len(screen.stage["steps"])) == (5, "paused", 3)
    assert work.plan(session, 3).stage["status"] == "completed"


def test_pause_keeps_the_steps_and_the_run_on_disk_is_valid(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    screens = work.guarded(session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 60}), one=False))
    for screen in screens:
        if screen.stage is not SAME and len(screen.stage["steps"]) >= 2:
            session.stop.set()
    trace, embeddings = load_run(session.folder)
    assert 2 <= len(trace.steps) < 60
    assert trace.status is RunStatus.CANCELLED
    assert embeddings.shape[0] == len(trace.steps) + 1


def test_a_page_that_leaves_stops_its_work_and_the_run_is_saved(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    screens = work.guarded(session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 200}), one=False))
    for _ in itertools.islice(screens, 3):
        pass
    screens.close()  # what Gradio does when the page is gone
    assert session.stop.is_set()
    work.thread.close()
    work.thread._executor.shutdown(wait=True)
    assert len(load_run(session.folder)[0].steps) < 200


def test_two_actions_of_one_page_do_not_mix(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    first = work.guarded(session, "play", work.revise(session, CONFIG, one=False))
    next(first)
    second = act(work, session, "restart", work.restart(session, CONFIG), on_model=False)
    assert "still running" in second.notice["text"]
    list(first)
    assert len(session.run.steps) == 3


def test_a_full_disk_is_said_and_does_not_stop_what_goes_on_in_memory(work, session, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    screen = act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    assert "disk is full" in screen.notice["text"]
    assert screen.stage["status"] == "completed"
    assert len(screen.compare["arms"][0]["rollouts"]) == 3
    monkeypatch.undo()
    act(work, session, "step", work.revise(session, CONFIG, one=True))
    assert len(load_run(session.folder)[0].after) == 9, "saved with the next action, nothing was lost"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_is_one_sentence_and_keeps_the_steps(work, session, monkeypatch, error):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    model, calls = work.host.model, itertools.count()
    losses = model.losses

    def failing(*args, **kwargs):
        if next(calls) == 2:
            raise error
        return losses(*args, **kwargs)

    monkeypatch.setattr(model, "losses", failing)
    screen = act(work, session, "play", work.revise(session, CONFIG, one=False))
    assert screen.notice["kind"] == "warning"
    assert screen.notice["text"].startswith("Out of memory")
    assert len(screen.stage["steps"]) == 2
    assert screen.busy == ""
    assert len(load_run(session.folder)[0].steps) == 2
    monkeypatch.undo()
    assert len(act(work, session, "play", work.revise(session, CONFIG, one=False)).stage["steps"]) == 3


def test_a_defect_is_one_sentence_without_a_traceback(work, session, monkeypatch):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    monkeypatch.setattr(work.host.model, "losses", lambda *a, **k: 1 / 0)
    screen = act(work, session, "play", work.revise(session, CONFIG, one=False))
    assert "ZeroDivisionError" in screen.notice["text"]
    assert "Traceback" not in screen.notice["text"]


@pytest.mark.parametrize("verb", ["revise", "after", "pick", "joint"])
def test_out_of_order_is_said(work, session, verb):
    action = {
        "revise": lambda: work.revise(session, CONFIG, one=True),
        "after": lambda: work.after(session, SAMPLING),
        "pick": lambda: work.pick(session, 0, CONFIG),
        "joint": lambda: work.joint(session),
    }[verb]
    screen = act(work, session, verb, action())
    assert "sample some first" in screen.notice["text"]


def test_when_all_are_correct_there_is_nothing_to_revise(llama, session, tmp_path):
    work = Work(Host(llama), FakeJudge(lambda text: (Verdict.CORRECT, "42")), tmp_path)
    screen = act(work, session, "s", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    assert "nothing to revise" in screen.notice["text"]
    assert screen.stage is None
    work.thread.close()


def test_continuing_is_from_the_step_on_screen(work, session):
    revised(work, session)
    session.point = 1
    screen = act(work, session, "after", work.after(session, SAMPLING))
    assert screen.compare["step"] == 1
    assert {item.step for item in session.run.after} == {1}
    session.point = 3
    act(work, session, "after", work.after(session, SAMPLING))
    assert {item.step for item in session.run.after} == {1, 3}
    act(work, session, "after", work.after(session, SAMPLING))
    assert len(session.run.after) == 18, "the same step again replaces, it does not pile up"


def test_sessions_are_apart_and_forgotten(monkeypatch):
    sessions = Sessions("default")
    one, two = sessions.of("a"), sessions.of("b")
    assert one is not two
    assert sessions.of("a") is one
    sessions.leave("a")
    assert one.stop.is_set()
    assert sessions.of("a") is not one
    monkeypatch.setattr("explorer.ui.session.IDLE_LIMIT_S", -1)
    sessions.of("c")
    assert two.stop.is_set()
