"""Actions in a call that lends a GPU for a minute: what crosses over is pickled, what comes back is all that the page
knows. `spaces.GPU` is stood in for; the real one needs a Space."""

from __future__ import annotations

import pickle
import threading
import time

import pytest
import torch

from explorer.errors import UserError
from explorer.limits import HOME
from explorer.records import RunStatus, Verdict
from explorer.settings import Settings
from explorer.store import load_run
from explorer.ui import zero_gpu
from explorer.ui.models import ModelHost
from explorer.ui.screen import SAME, Screen
from explorer.ui.session import Session
from explorer.ui.work import Work
from explorer.verdict import Judge
from tests.conftest import tiny_network, tiny_tokenizer
from tests.test_work import CONFIG, PROBLEM, SAMPLING, act, final

LIMIT_S = 180


def pickling(duration: float):
    """As `spaces.GPU(duration=…)` does to a generator function, but for the fork: values are pickled both ways. A fork
    of a process full of threads, as this one is, now and then waits for ever for a lock that one of them held."""
    assert duration == zero_gpu.CALL_S

    def decorate(task):
        def call(*arguments):
            for value in task(*pickle.loads(pickle.dumps(arguments))):
                yield pickle.loads(pickle.dumps(value))

        return call

    return decorate


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    tiny_network("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def work(model_folder, tmp_path):
    settings = Settings(model=str(model_folder), runs_dir=tmp_path / "runs", cache_dir=tmp_path / "cache", offline=True)
    host = ModelHost(zero_gpu.at_home(settings))
    # The same judge as over there: what it says decides what is split.
    judge = Judge()
    work = Work(host, judge, settings.runs_dir, HOME)
    host.request(settings.model)
    until = time.monotonic() + LIMIT_S
    while host.loading(settings.model).state == "loading":
        assert time.monotonic() < until
        time.sleep(0.02)
    threads = torch.get_num_threads()
    zero_gpu.lend(work, pickling)
    yield work
    zero_gpu.take_back()
    torch.set_num_threads(threads)
    work.thread.close()
    judge.close()
    if zero_gpu._borrower is not None:
        zero_gpu._borrower.judge.close()
        zero_gpu._borrower = None


@pytest.fixture
def session(model_folder):
    return Session("page", str(model_folder))


def test_the_whole_loop_in_a_lent_call(work, session):
    screen = act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    assert screen.notice is None or screen.notice["kind"] == "info", screen.notice
    assert session.run is None, "no run with a model on the GPU comes back"
    trace, trajectory = load_run(work.runs_dir / session.run_id)
    assert session.opened.trace == trace
    assert trace.status is RunStatus.COMPLETED
    assert (len(trace.steps), len(trace.after), trajectory.shape[0]) == (3, 9, 4)
    assert screen.stage["status"] == "completed"
    # What this process draws of it later is what the call drew.
    drawn = work.drawing.all(session)
    assert drawn["stage"]["steps"] == screen.stage["steps"]
    assert drawn["compare"] == screen.compare
    assert drawn["rollouts"]["summary"] == screen.rollouts["summary"]


def test_it_is_the_same_run_as_without_lending(work, session, model_folder):
    act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    lent = session.opened.trace
    zero_gpu.take_back()
    other = Session("other", str(model_folder))
    act(work, other, "whole", work.whole(other, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    here = other.run.trace()
    assert [r.token_ids for r in lent.before] == [r.token_ids for r in here.before]
    assert [s.vertices for s in lent.steps] == [s.vertices for s in here.steps]
    assert [c.token_ids for c in lent.after] == [c.token_ids for c in here.after]


def test_step_by_step_it_stays_one_run(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert session.chosen is not None
    first = session.run_id
    for taken in (1, 2):
        screen = act(work, session, "step", work.revise(session, CONFIG, one=True))
        assert len(screen.stage["steps"]) == taken
        assert session.run_id == first
    act(work, session, "cut", work.cut(session, session.chosen, 5, "custom", CONFIG))
    assert session.run_id != first, "the earlier revision keeps its folder"
    assert len(load_run(work.runs_dir / first)[0].steps) == 2
    assert session.cut.m == 5
    act(work, session, "play", work.revise(session, CONFIG, one=False))
    session.point = 2
    act(work, session, "after", work.after(session, SAMPLING))
    assert {item.step for item in session.opened.trace.after} == {2}
    assert work.pack(session).exists()


def test_a_recorded_run_is_taken_up_under_a_name_of_its_own(work, session):
    act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    first = session.run_id
    act(work, session, "open", work.open(session, first), on_model=False)
    assert session.run_id == ""
    screen = act(work, session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 5}), one=False))
    assert len(screen.stage["steps"]) == 5
    assert session.run_id not in ("", first)
    assert len(load_run(work.runs_dir / first)[0].steps) == 3


def test_bad_input_comes_back_as_its_sentence(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    right = next((i for i, r in enumerate(session.opened.trace.before) if r.verdict is Verdict.CORRECT), 99)
    screen = act(work, session, "pick", work.pick(session, right, CONFIG))
    assert screen.notice["text"].startswith("Choose a rollout that failed")
    assert session.opened.trace.before, "nothing is lost"


def test_cancel_reaches_the_call_and_what_was_finished_comes_back(work, session):
    long = SAMPLING.model_copy(update={"n": 64, "max_new_tokens": 200})
    screens = work.guarded(session, "s", work.sample(session, PROBLEM, long, CONFIG))
    first = next(screens)
    session.stop.set()
    screen = final([first, *screens])
    assert screen.busy == ""
    assert session.running is None
    assert "Stopped" in screen.notice["text"]
    assert len(session.opened.trace.before) < 64


def test_a_page_that_is_closed_during_a_call_stays_closed(work, session):
    screens = work.guarded(session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    next(screens)
    session.left = 1.0
    final(screens)
    assert session.left == 1.0


def test_the_calls_time_is_a_stop_sign_too(work, session, monkeypatch):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    monkeypatch.setattr(zero_gpu, "SAVING_S", float(zero_gpu.CALL_S))  # its time is up at once
    screen = act(work, session, "play", work.revise(session, CONFIG, one=False))
    assert "lends its GPU for 60 s at a time" in screen.notice["text"]
    assert screen.stage["status"] == "paused"


def test_a_call_that_dies_costs_a_sentence(work, session, monkeypatch):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))

    def broken(*_):
        yield Screen(busy="revision")

    monkeypatch.setattr(zero_gpu, "_call", broken)
    screen = act(work, session, "play", work.revise(session, CONFIG, one=False))
    assert "took its GPU back too early" in screen.notice["text"]
    assert screen.busy == ""
    assert session.opened.trace.before


def test_no_gpu_to_be_had_is_said_without_its_html(work, session, monkeypatch):
    import gradio as gr

    def refused(*_):
        raise gr.Error('You have exceeded your quota. <a style="x" href="https://huggingface.co">Subscribe</a>.')
        yield

    monkeypatch.setattr(zero_gpu, "_call", refused)
    screen = act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert "You have exceeded your quota. Subscribe): try again later" in screen.notice["text"]
    assert "<" not in screen.notice["text"]


def test_where_nothing_is_lent_actions_are_as_they_are(work, session):
    zero_gpu.take_back()
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert session.run is not None


def test_an_unchanged_part_is_the_same_mark_after_travelling():
    assert pickle.loads(pickle.dumps(Screen(busy=""))).stage is SAME


def test_models_are_loaded_by_one_thread_that_stays(model_folder, tmp_path, monkeypatch):
    """A fork taken while a thread that had multiplied is ending would wait for ever at its next product."""
    host = ModelHost(Settings(model=str(model_folder), cache_dir=tmp_path, offline=True))
    threads = []

    def loading(*_):
        threads.append(threading.current_thread())
        raise UserError("Not here.")

    monkeypatch.setattr("explorer.ui.models.load_model", loading)
    for name in ("one", "other"):
        host.request(name)
    until = time.monotonic() + LIMIT_S
    while any(host.loading(name).state == "loading" for name in ("one", "other")):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(threads) == 2
    assert len(set(threads)) == 1
    assert threads[0].is_alive()


def test_a_page_that_comes_anew_tries_a_failed_model_again_but_not_at_once(model_folder, tmp_path, monkeypatch):
    host = ModelHost(Settings(model=str(model_folder), cache_dir=tmp_path, offline=True))
    tried = []

    def loading(*_):
        tried.append(1)
        raise UserError("Not here.")

    def settled():
        until = time.monotonic() + LIMIT_S
        while host.loading("one").state == "loading":
            assert time.monotonic() < until
            time.sleep(0.01)
        return len(tried)

    monkeypatch.setattr("explorer.ui.models.load_model", loading)
    host.again("one")
    assert tried == [], "nobody has asked for it yet"
    assert settled() == 1
    host.again("one")
    assert settled() == 1
    monkeypatch.setattr("explorer.ui.models.AGAIN_S", 0.0)
    host.again("one")
    assert settled() == 2
