"""What the buttons do, without a browser: real tiny model, fake judge; faults of disk, memory and people."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
import time
import weakref
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from explorer import store
from explorer.audit_controls import KINDS
from explorer.errors import UserError
from explorer.limits import Limits
from explorer.records import Problem, RevisionConfig, RunStatus, SamplingConfig, Start, Verdict
from explorer.settings import read_settings
from explorer.store import load_run
from explorer.ui.pump import NOT_NOW
from explorer.ui.screen import SAME, Screen, merged
from explorer.ui.session import Session, Sessions
from explorer.ui.work import Work
from tests.conftest import FakeJudge

PROBLEM = Problem(id="sum-1", question="What is 12 + 30?", answer="42")
SAMPLING = SamplingConfig(n=3, temperature=1.0, max_new_tokens=20, seed=5)
CONFIG = RevisionConfig(steps=3, step_size=0.1)


class Host:
    """One tiny model that is simply there."""

    def __init__(self, model):
        self.model = model
        self.settings = read_settings(device="cpu")

    def loading(self, name):
        return SimpleNamespace(state="ready", model=self.model, message="", progress=1.0)

    def need(self, name):
        return self.model

    def map_status(self, model):
        return None, {"state": "absent", "progress": 0.0, "message": ""}

    def map_folder(self, key):
        return None


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


def until(holds, patience_s=60.0):
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


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
    # The model thread goes on without being asked.
    until(lambda: session.run is not None and len(session.run.after) == 9)
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


def test_what_the_address_names_is_on_disk(work, session):
    revised(work, session)
    for name, action in (
        ("restart", lambda: work.restart(session, CONFIG)),
        ("split", lambda: work.cut(session, session.chosen, 4, "custom", CONFIG)),
        ("pick", lambda: work.pick(session, 0, CONFIG)),
    ):
        screen = act(work, session, name, action())
        trace, embeddings = load_run(work.runs_dir / screen.stage["run_id"])
        assert list(trace.split.prefix_token_ids) == screen.stage["prefix"]
        assert len(embeddings) == 1
        act(work, session, "step", work.revise(session, CONFIG, one=True))
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert load_run(work.runs_dir / session.run_id)[0].split == session.run.split


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
    screens = work.guarded(session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 200}), one=False))
    for screen in screens:
        if screen.stage is not SAME and len(screen.stage["steps"]) >= 2:
            session.stop.set()
    trace, embeddings = load_run(session.folder)
    assert 2 <= len(trace.steps) < 200
    assert trace.status is RunStatus.CANCELLED
    assert embeddings.shape[0] == len(trace.steps) + 1


def test_a_page_that_leaves_stops_its_work_and_the_run_is_saved(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    screens = work.guarded(session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 200}), one=False))
    for _ in itertools.islice(screens, 3):
        pass
    screens.close()  # what Gradio does when the page is gone
    assert session.stop.is_set()
    work.thread.close(wait_s=20)
    assert len(load_run(session.folder)[0].steps) < 200


def test_a_page_that_is_reloaded_in_the_middle_finds_the_steps_taken_so_far(work):
    sessions = Sessions("default", put_away=work.put_away)
    page = sessions.of("page")
    act(work, page, "s", work.sample(page, PROBLEM, SAMPLING, CONFIG))
    assert sessions.holding(page.run_id) is page
    assert sessions.holding("another") is None
    screens = work.guarded(page, "play", work.revise(page, CONFIG.model_copy(update={"steps": 200}), one=False))
    for screen in screens:
        if screen.stage is not SAME and len(screen.stage["steps"]) >= 2:
            break
    assert load_run(page.folder)[0].steps == (), "they are saved at the end"
    work.save_now(page)
    kept = load_run(page.folder)[0]
    assert 2 <= len(kept.steps) <= 200
    assert kept.status is RunStatus.CANCELLED or len(kept.steps) == 200
    page.stop.set()
    for _ in screens:
        pass
    assert load_run(page.folder)[0].steps[: len(kept.steps)] == kept.steps


def test_two_actions_of_one_page_do_not_mix(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    first = work.guarded(session, "play", work.revise(session, CONFIG, one=False))
    next(first)
    second = act(work, session, "restart", work.restart(session, CONFIG), on_model=False)
    assert "still running" in second.notice["text"]
    list(first)
    assert len(session.run.steps) == 3


def test_of_cuts_that_come_while_one_is_laid_the_newest_is_laid(work, told, monkeypatch):
    page, _ = visitor(work, told)
    # The first takes up the opened run, which takes as long as the model lets it.
    arrived, goes_on = threading.Event(), threading.Event()
    need = work.host.need
    monkeypatch.setattr(work.host, "need", lambda name: (arrived.set(), goes_on.wait(20), need(name))[-1])
    screens = {}

    def cut(turn, m):
        action = work.cut(page, page.chosen, m, "custom", CONFIG)
        screens[turn] = act(work, page, "split", action, choice=turn)

    def begin(turn, m):
        thread = threading.Thread(target=cut, args=(turn, m))
        thread.start()
        return thread

    first = begin(1, 4)
    assert arrived.wait(20)
    second = begin(2, 5)
    until(lambda: page.choice_turn == 2)
    third = begin(3, 6)
    second.join(20)
    assert screens == {2: Screen()}, "a newer one was there before its turn"
    goes_on.set()
    for thread in (first, third):
        thread.join(20)
    assert (screens[1].rollouts["split"]["m"], screens[3].rollouts["split"]["m"]) == (4, 6)
    assert len(page.run.split.prefix_token_ids) == len(screens[3].stage["prefix"]) == 6
    cut(2, 5)  # held up on its way here
    assert screens[2] == Screen()
    assert page.cut.m == 6


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [("open", "against", ("a", "b")), ("against", "open", ("a", None)), ("open", "open", ("b", None))],
)
def test_a_rival_is_chosen_beside_a_run_that_waits_and_takes_no_runs_place(work, told, first, second, shown):
    for name in "ab":
        shutil.copytree(work.runs_dir / told, work.runs_dir / name)
    page, _ = visitor(work, told)
    page.running = "pick"
    runs = {"open": iter("ab"), "against": iter("b")}
    threads = []
    for turn, name in enumerate((first, second), 1):
        action = getattr(work, name)(page, next(runs[name]))
        threads.append(
            threading.Thread(target=act, args=(work, page, name, action), kwargs=dict(on_model=False, choice=turn))
        )
        threads[-1].start()
        until(lambda expected=turn: max(page.choice_turn, page.rival_turn) == expected)
    with work._turns:
        page.running = None
        work._turns.notify_all()
    for thread in threads:
        thread.join(20)
    assert (page.opened.id, page.rival and page.rival.id) == shown
    assert page.waiting == []


@pytest.mark.parametrize("meanwhile", ["nothing", "another run", "it takes long"])
def test_what_is_pressed_while_a_rollout_is_picked_goes_on_from_it(work, told, monkeypatch, meanwhile):
    shutil.copytree(work.runs_dir / told, work.runs_dir / "a")
    page, _ = visitor(work, told)
    arrived, goes_on = threading.Event(), threading.Event()
    need = work.host.need
    monkeypatch.setattr(work.host, "need", lambda name: (arrived.set(), goes_on.wait(20), need(name))[-1])
    monkeypatch.setattr("explorer.ui.turns.PRESS_S", 0.3 if meanwhile == "it takes long" else 20.0)
    waits, wait_for = [], work._turns.wait_for
    monkeypatch.setattr(
        work._turns, "wait_for", lambda *given: (waits.append(threading.current_thread()), wait_for(*given))[-1]
    )
    screens = {}

    def begin(name, action, **choice):
        def acting():
            screens[name] = act(work, page, name, action, **choice)

        threads.append(threading.Thread(target=acting))
        threads[-1].start()

    threads = []
    begin("pick", work.pick(page, page.chosen, CONFIG), choice=1)
    assert arrived.wait(20)
    begin("step", work.revise(page, CONFIG, one=True))
    until(lambda: threads[-1] in waits)
    if meanwhile == "it takes long":
        threads[-1].join(20)
    if meanwhile == "another run":
        begin("open", work.open(page, "a"), choice=2)
        until(lambda: page.choice_turn == 2)
    goes_on.set()
    for thread in threads:
        thread.join(20)
    if meanwhile == "nothing":
        assert len(screens["step"].stage["steps"]) == len(page.run.steps) == 1
    elif meanwhile == "another run":
        assert screens["step"] == Screen()
        assert page.opened.id == "a"
    else:
        assert "still running" in screens["step"].notice["text"]
        assert not page.run.steps
    assert page.running is None


def test_a_choice_is_refused_while_anything_else_runs(work, session):
    revised(work, session)
    more = work.guarded(session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 5}), one=False))
    next(more)
    screen = act(work, session, "split", work.cut(session, session.chosen, 4, "custom", CONFIG), choice=1)
    assert "still running" in screen.notice["text"]
    assert screen.rollouts["refused"] == 1
    list(more)


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


def test_sampling_that_fails_before_anything_is_finished_is_not_still_at_it(work, session, monkeypatch):
    def failing(*args, **kwargs):
        yield from ()
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("explorer.pipeline.Run.roll_out", failing)
    screen = act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert screen.notice["text"].startswith("Out of memory")
    assert (screen.rollouts["state"], screen.rollouts["done"], screen.busy) == ("failed", 0, "")
    monkeypatch.undo()
    assert act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG)).rollouts["done"] == SAMPLING.n


@pytest.mark.parametrize("verb", ["curve", "audit", "play"])
def test_after_a_failure_no_view_says_that_it_is_still_at_it(work, session, told, monkeypatch, verb):
    action = {
        "curve": lambda: work.curve(session, SAMPLING),
        "audit": lambda: work.audit(session),
        "play": lambda: work.revise(session, CONFIG, one=True),
    }[verb]
    monkeypatch.setattr(work.host.model, "losses", lambda *a, **k: 1 / 0)
    monkeypatch.setattr("explorer.pipeline.Run.continue_from", lambda *a, **k: 1 / 0)
    monkeypatch.setattr("explorer.ui.work.audit_run", lambda *a, **k: 1 / 0)
    screen = act(work, session, verb, action())
    assert screen.notice["kind"] == "warning"
    assert screen.success["state"] == ("failed" if verb == "curve" else "idle")
    assert screen.audit["state"] == "idle"


def test_a_joint_fit_says_that_it_can_be_cancelled_and_leaves_nothing_when_it_is(work, session, monkeypatch):
    revised(work, session)
    ended = []
    job = SimpleNamespace(
        poll=lambda: SimpleNamespace(state="building", progress=0.5, message="fitting"), cancel=lambda: ended.append(1)
    )
    monkeypatch.setattr("explorer.ui.work.start_joint_layout", lambda *a: job)
    screens = work.guarded(session, "joint", work.joint(session), on_model=False)
    first = next(screens)
    assert (first.busy, first.stage["joint"]["state"]) == ("joint", "fitting")
    session.stop.set()
    last = final(screens)
    assert (last.busy, last.stage["joint"], ended) == ("", None, [1])


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


@pytest.mark.parametrize("verb", ["after", "curve"])
@pytest.mark.parametrize("other", [{}, {"seed": 9}])
def test_continuing_again_and_cancelling_at_once_loses_nothing(work, session, told, monkeypatch, verb, other):
    before, shown = session.run.trace(), (session.run_id, session.after_point, session.after_sampling)
    session.point = 3
    draw = session.run.continue_from

    def cancelled_at_once(*args, **kwargs):
        session.stop.set()  # before the first token, however late this thread is
        yield from draw(*args, **kwargs)

    monkeypatch.setattr(session.run, "continue_from", cancelled_at_once)
    last = act(work, session, verb, getattr(work, verb)(session, SAMPLING.model_copy(update=other)))
    assert last.notice["text"].startswith("Stopped: what was continued before stands")
    assert (session.run_id, session.after_point, session.after_sampling) == shown
    assert session.run.trace().after == before.after == load_run(session.folder)[0].after
    assert [arm["done"] for arm in last.compare["arms"]] == [3, 3, 3]
    assert last.compare["state"] == "done", "what is on the screen was not stopped"


def test_other_settings_are_another_run_and_the_earlier_one_stays_on_disk(work, session, told):
    before, name = session.run.trace(), session.run_id
    screen = act(work, session, "after", work.after(session, SAMPLING.model_copy(update={"seed": 9})))
    assert screen.notice["text"].endswith(f"the run {name} keeps them.")
    assert session.run_id == screen.stage["run_id"] != name
    assert load_run(work.runs_dir / name)[0].after == before.after
    assert load_run(session.folder)[0].after_sampling.seed == 9
    again = act(work, session, "after", work.after(session, SAMPLING.model_copy(update={"seed": 9, "n": 4})))
    assert again.notice is None
    assert again.stage["run_id"] == session.run_id


@pytest.mark.parametrize("verb", ["after", "curve"])
def test_another_number_than_what_was_audited_is_another_run(work, session, told, verb):
    session.point = session.after_point
    act(work, session, "audit", work.audit(session))
    before, name = session.run.trace(), session.run_id
    assert before.controls
    again = act(work, session, verb, getattr(work, verb)(session, SAMPLING))
    assert (session.run_id, again.notice) == (name, None), "as many as were audited: the same again"
    assert session.run.trace().controls == before.controls
    screen = act(work, session, verb, getattr(work, verb)(session, SAMPLING.model_copy(update={"n": 4})))
    assert screen.notice["text"].endswith(f"the run {name} keeps it.")
    assert session.run_id == screen.stage["run_id"] != name
    assert session.run.controls == []
    kept = load_run(work.runs_dir / name)[0]
    assert (kept.controls, kept.leaks) == (before.controls, before.leaks)


def test_what_is_refused_leaves_the_comparison_as_it_was(work, session, told):
    screen = act(work, session, "decoy", work.decoy(session, PROBLEM.answer))
    assert screen.notice["kind"] == "warning"
    assert screen.compare["state"] == "done"
    assert [arm["done"] for arm in screen.compare["arms"]] == [3, 3, 3]


@pytest.mark.parametrize("verb", ["after", "decoy", "curve"])
def test_a_run_that_was_shown_before_leaves_no_comparison_behind(work, told, verb):
    page, _ = visitor(work, told)
    assert page.after_sampling is not None
    act(work, page, "s", work.sample(page, PROBLEM, SAMPLING, CONFIG))
    action = work.decoy(page) if verb == "decoy" else getattr(work, verb)(page, SAMPLING)
    screen = act(work, page, verb, action)
    assert "first" in screen.notice["text"]
    assert screen.compare is None


def test_a_curve_alone_is_what_is_compared(work, session):
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    act(work, session, "play", work.revise(session, CONFIG, one=False))
    session.after_point = 10
    screen = act(work, session, "curve", work.curve(session, SAMPLING))
    assert screen.compare["step"] == 3
    assert screen.compare["arms"][0]["done"] == 3


def test_without_a_copy_on_disk_nothing_is_drawn_with_other_settings(work, session, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    before, name, other = session.run.trace(), session.run_id, SAMPLING.model_copy(update={"seed": 9})
    screen = act(work, session, "after", work.after(session, other))
    assert screen.notice["text"].startswith(f"The run {name} is not saved")
    assert (session.run.trace().after, session.run_id) == (before.after, name)
    monkeypatch.undo()
    screen = act(work, session, "after", work.after(session, other))
    assert screen.notice["text"].endswith(f"the run {name} keeps them.")
    assert load_run(work.runs_dir / name)[0].after == before.after


def test_while_arms_are_drawn_anew_the_earlier_ones_are_not_counted(work, session, told):
    screens = work.guarded(session, "after", work.after(session, SAMPLING))
    first = next(screens)
    assert [arm["done"] for arm in first.compare["arms"]] == [0, 0, 0]
    assert [arm["done"] for arm in final(screens).compare["arms"]] == [3, 3, 3]


def test_sessions_are_apart_and_forgotten(monkeypatch):
    sessions = Sessions("default")
    one, two = sessions.of("a"), sessions.of("b")
    assert one is not two
    assert sessions.of("a") is one
    monkeypatch.setattr("explorer.ui.session.IDLE_LIMIT_S", -1)
    sessions.of("c")
    assert two.stop.is_set()


def test_a_page_that_looks_closed_stops_and_finds_its_run_when_it_comes_back(work, session, monkeypatch):
    monkeypatch.setattr("explorer.ui.session.AWAY", 2)
    sessions = Sessions("default")
    pages = [sessions.of(name) for name in "abcd"]
    for name in "abc":
        sessions.leave(name)
    assert [page.stop.is_set() for page in pages] == [True, True, True, False]
    assert [sessions.of(name) is page for name, page in zip("dcba", reversed(pages), strict=True)] == [
        True,
        True,
        True,
        False,
    ], "the first to leave is forgotten"
    sessions.leave("nobody")


def held_by(work):
    """Sessions of an app that puts runs away, and one page's."""
    sessions = Sessions("default", put_away=work.put_away)
    return sessions, sessions.of("page")


@pytest.mark.parametrize("verb", ["step", "curve", "audit", "pack", "joint"])
def test_a_page_that_left_holds_no_model_and_goes_on_with_its_run_when_it_comes_back(work, verb, monkeypatch):
    sessions, page = held_by(work)
    act(work, page, "whole", work.whole(page, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    run_id, before, embeddings = page.run_id, page.run.trace(), page.run.trajectory()
    run, files = weakref.ref(page.run), sorted(work.runs_dir.iterdir())
    sessions.leave("page")
    gc.collect()
    assert run() is None
    assert sessions.of("page") is page
    page.need_shown(run_id)
    if verb == "pack":
        assert work.pack(page).stem == run_id
        return
    monkeypatch.setattr("explorer.ui.work.start_joint_layout", lambda *a: 1 / 0)
    action = {
        "step": lambda: work.revise(page, CONFIG, one=True),
        "curve": lambda: work.curve(page, SAMPLING),
        "audit": lambda: work.audit(page),
        "joint": lambda: work.joint(page),
    }[verb]
    screen = act(work, page, verb, action(), on_model=verb != "joint")
    assert screen.stage["run_id"] == page.run_id == run_id
    assert sorted(work.runs_dir.iterdir()) == files, "the same run goes on"
    assert page.run.before == before.before
    assert torch.equal(page.run.trajectory()[: len(embeddings)], embeddings)


@pytest.mark.parametrize("on_model", [True, False])
def test_a_page_that_leaves_while_something_runs_holds_no_model_when_that_has_ended(work, monkeypatch, on_model):
    sessions, page = held_by(work)
    act(work, page, "whole", work.whole(page, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    run = weakref.ref(page.run)
    if on_model:
        action = work.revise(page, CONFIG.model_copy(update={"steps": 200}), one=False)
    else:
        job = SimpleNamespace(
            poll=lambda: SimpleNamespace(state="building", progress=0.5, message=""), cancel=lambda: None
        )
        monkeypatch.setattr("explorer.ui.work.start_joint_layout", lambda *a: job)
        action = work.joint(page)
    screens = work.guarded(page, "play", action, on_model=on_model)
    next(screens)
    sessions.leave("page")
    screens.close()
    del action
    work.thread.close(wait_s=20)
    gc.collect()
    assert run() is None
    assert page.opened.trace == load_run(page.folder)[0]


def test_a_run_that_no_disk_has_is_kept_for_a_page_that_left(work, monkeypatch):
    sessions, page = held_by(work)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    revised(work, page)
    sessions.leave("page")
    assert len(page.run.steps) == 3
    monkeypatch.undo()
    sessions.leave("page")
    assert page.run is None
    assert len(load_run(page.folder)[0].steps) == 3


def test_a_click_on_a_run_that_is_not_this_sessions_is_refused(session):
    with pytest.raises(UserError, match="reload the page"):
        session.need_shown("of-before")
    session.run_id, session.run = "mine", object()
    session.need_shown("mine")
    session.running = "curve"
    session.need_shown("called-otherwise-before")


def test_a_click_that_was_on_its_way_while_the_run_got_another_name_is_none_of_another_run(work, session, told):
    names = [told]
    act(work, session, "restart", work.restart(session, CONFIG))
    names.append(session.run_id)
    act(work, session, "step", work.revise(session, CONFIG, one=True))
    screen = act(work, session, "cut", work.cut(session, session.chosen, 4, "custom", CONFIG))
    assert screen.rollouts["run_id"] == screen.audit["run_id"] == session.run_id not in names
    for name in names:
        session.need_shown(name)
    act(work, session, "open", work.open(session, told), on_model=False)
    with pytest.raises(UserError):
        session.need_shown(names[1])
    act(work, session, "step", work.revise(session, CONFIG.model_copy(update={"steps": 5}), one=True))
    session.need_shown(told)
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    with pytest.raises(UserError):
        session.need_shown(told)


def test_a_run_taken_up_for_a_joint_fit_has_its_new_name_on_every_view(work, told, monkeypatch):
    page, _ = visitor(work, told)
    job = SimpleNamespace(poll=lambda: SimpleNamespace(state="failed", progress=0.5, message=""), cancel=lambda: None)
    monkeypatch.setattr("explorer.ui.work.start_joint_layout", lambda *a: job)
    screen = act(work, page, "joint", work.joint(page), on_model=False)
    views = screen.stage, screen.rollouts, screen.success, screen.audit, screen.watch["story"]
    assert {view["run_id"] for view in views} == {page.run_id} != {told}


@pytest.mark.parametrize("verb", ["curve", "decoy"])
def test_the_stage_has_the_runs_new_name_as_soon_as_there_is_one(work, told, verb):
    page, _ = visitor(work, told)
    action = {
        "curve": lambda: work.curve(page, SAMPLING.model_copy(update={"seed": 9})),
        "decoy": lambda: work.decoy(page, "43"),
    }[verb]
    first = next(screen for screen in action() if screen.stage is not SAME)
    assert first.busy != "", "not at the end only"
    assert first.stage["run_id"] == page.run_id != told


# -- runs from disk -----------------------------------------------------------------------------------


@pytest.fixture
def told(work, session):
    """The name of a run that went all the way and lies on disk, and the page that made it gone."""
    act(work, session, "whole", work.whole(session, PROBLEM, SAMPLING, CONFIG, SAMPLING))
    return session.run_id


def visitor(work, run_id):
    """Another page that opened a run."""
    page = Session("other", "default")
    return page, act(work, page, "open", work.open(page, run_id), on_model=False)


def test_an_opened_run_is_on_every_view_without_a_model(work, session, told):
    old = final([Screen(**work.drawing.all(session))])
    page, screen = visitor(work, told)
    assert page.run is None
    for view in ("rollouts", "compare", "success"):
        assert getattr(screen, view) == getattr(old, view), view
    assert screen.stage["steps"] == old.stage["steps"]
    assert screen.stage["tokens"] == old.stage["tokens"]
    assert (screen.stage["run_id"], screen.stage["recorded"]) == (told, None)
    assert screen.settings == load_run(work.runs_dir / told)[0]
    assert screen.watch["story"]["zero_hit"] is True


def test_an_opened_run_is_gone_on_with_under_a_new_name(work, told):
    before = (work.runs_dir / told / "trace.json").read_bytes()
    page, _ = visitor(work, told)
    more = CONFIG.model_copy(update={"steps": 5})
    screen = act(work, page, "play", work.revise(page, more, one=False))
    assert len(screen.stage["steps"]) == 5
    assert page.run_id != told
    assert (work.runs_dir / told / "trace.json").read_bytes() == before
    assert len(load_run(work.runs_dir / page.run_id)[0].steps) == 5


def test_k_raised_on_an_opened_run_makes_play_go_on(work, told):
    page, screen = visitor(work, told)
    assert screen.stage["config"]["steps"] == 3
    assert work.plan(page, 7).stage["config"]["steps"] == 7
    assert page.run is None


def test_a_run_of_another_model_is_shown_but_not_gone_on_with(work, told):
    path = work.runs_dir / told / "trace.json"
    path.write_text(path.read_text().replace(work.host.model.info.fingerprint, "0" * 16))
    page, screen = visitor(work, told)
    assert screen.stage["live"] is False
    assert "load it under" in screen.audit["why_not"]
    assert screen.watch["story"]["replayable"] is True
    assert "with other weights something else will come out" in screen.watch["story"]["note"]
    screen = act(work, page, "play", work.revise(page, CONFIG, one=True))
    assert "load that model" in screen.notice["text"]
    assert page.opened.id == told, "it is still on the screen"
    screen = act(work, page, "pick", work.pick(page, 0, CONFIG), choice=1)
    assert screen.rollouts["refused"] == page.refusals, "the picker goes back to the rollout that is cut"


def test_a_model_that_arrives_opens_every_view_that_waits_for_it(work, told):
    path = work.runs_dir / told / "trace.json"
    path.write_text(path.read_text().replace(work.host.model.info.fingerprint, "0" * 16))
    page, screen = visitor(work, told)
    assert "load it under" in screen.success["why_not"]
    trace = page.opened.trace
    right = trace.model.model_copy(update={"fingerprint": work.host.model.info.fingerprint})
    page.opened = replace(page.opened, trace=trace.model_copy(update={"model": right}))
    screen = work.refresh(page)
    assert screen.stage["live"] is True
    assert [screen.success["why_not"], screen.audit["why_not"], screen.watch["story"]["note"]] == ["", "", ""]


def test_replayed_live_the_same_comes_out_and_is_said(work, told):
    page, _ = visitor(work, told)
    screen = act(work, page, "live", work.replay(page))
    assert "token for token" in screen.ending["text"]
    old, new = load_run(work.runs_dir / told), load_run(work.runs_dir / page.run_id)
    assert page.run_id != told
    assert [r.token_ids for r in old[0].before] == [r.token_ids for r in new[0].before]
    assert torch.equal(old[1], new[1])
    assert [c.token_ids for c in old[0].after] == [c.token_ids for c in new[0].after]


def test_replayed_live_with_another_outcome_that_is_said_too(work, told):
    path = work.runs_dir / told / "trace.json"
    path.write_text(path.read_text().replace('"seed": 5', '"seed": 6'))
    page, _ = visitor(work, told)
    screen = act(work, page, "live", work.replay(page))
    assert "otherwise than recorded" in screen.ending["text"]
    assert len(screen.stage["steps"]) == 3


def test_a_run_of_other_weights_runs_anew_with_those_that_are_here(work, told):
    path = work.runs_dir / told / "trace.json"
    text = path.read_text().replace(work.host.model.info.fingerprint, "0" * 16)
    text = text.replace('"source": "local"', '"source": "wheel"').replace('"source": "hub"', '"source": "wheel"')
    path.write_text(text.replace('"seed": 5', '"seed": 6'))  # so that the one tiny model draws otherwise
    page, _ = visitor(work, told)
    screen = act(work, page, "live", work.replay(page))
    assert "another model ran it" in screen.ending["text"]
    assert len(screen.stage["steps"]) == 3
    assert load_run(work.runs_dir / page.run_id)[0].model.fingerprint == work.host.model.info.fingerprint


def test_the_same_weights_in_another_format_are_called_that(work, told):
    path = work.runs_dir / told / "trace.json"
    text = path.read_text().replace(work.host.model.info.fingerprint, "0" * 16)
    path.write_text(text.replace('"dtype": "float32"', '"dtype": "bfloat16"'))
    _, screen = visitor(work, told)
    assert screen.watch["story"]["note"] == "Here in float32, not in bfloat16 as it was made."
    assert "start with `--dtype bfloat16` to go on with it" in screen.audit["why_not"]


def test_a_public_page_does_not_send_anyone_to_a_model_that_it_refuses(work, told, monkeypatch):
    path = work.runs_dir / told / "trace.json"
    text = path.read_text().replace(work.host.model.info.fingerprint, "0" * 16)
    path.write_text(text)
    public = work.host.settings.model_copy(update={"public": True})
    monkeypatch.setattr(work.host, "settings", public)
    _, screen = visitor(work, told)
    assert "load it under" not in screen.audit["why_not"]
    assert "it can be watched here" in screen.audit["why_not"]


def test_a_run_that_is_not_there_is_refused_and_the_screen_stays(work, told):
    page, _ = visitor(work, told)
    for name, says in (
        ("nothing-here", "There is no run"),
        ("../../etc", "not a run's name"),
        ("", "not a run's name"),
    ):
        screen = act(work, page, "open", work.open(page, name), on_model=False)
        assert says in screen.notice["text"]
        assert page.opened.id == told


def test_a_brought_run_is_copied_and_opened(work, told, tmp_path):
    page = Session("third", "default")
    screen = act(work, page, "bring", work.bring(page, [work.runs_dir / told / "trace.json"]), on_model=False)
    assert page.opened.id not in ("", told)
    assert screen.stage["run_id"] == page.opened.id
    assert "copied" in screen.notice["text"]


def test_the_success_curve_has_both_ends_at_one_budget(work, session, told):
    few = SAMPLING.model_copy(update={"n": 2})
    screen = act(work, session, "curve", work.curve(session, few))
    assert [(p["k"], p["n"]) for p in screen.success["points"]] == [(0, 2), (1, 2), (2, 2), (3, 2)]
    # Step 0 is the unrevised prefix: the same draw as the unrevised arm's.
    at = {(c.step, c.start): [] for c in session.run.after}
    for c in session.run.after:
        at[c.step, c.start].append(c.token_ids)
    assert at[0, Start.REVISED] == at[3, Start.ORIGINAL][:2]


def test_a_curve_that_is_cancelled_keeps_what_was_finished(work, session, told):
    screens = work.guarded(session, "curve", work.curve(session, SAMPLING.model_copy(update={"n": 2})))
    last = Screen()
    for screen in screens:
        last = merged(last, screen)
        if screen.success is not SAME and len(screen.success["points"]) >= 2:
            session.stop.set()
    assert last.busy == ""
    assert load_run(session.folder)[0].after == tuple(session.run.after)


def test_the_decoy_control_ends_on_screen_and_on_disk(work, session, told):
    screen = act(work, session, "decoy", work.decoy(session, "43"))
    control = screen.watch["story"]["controls"][0]
    assert (control["target"], control["n"]) == ("43", 3)
    assert load_run(session.folder)[0].controls[0].target == "43"


def test_an_audit_runs_what_is_missing_and_ends_on_screen_and_on_disk(work, session, told):
    act(work, session, "decoy", work.decoy(session, "43"))
    said, rows = [], []
    for screen in work.guarded(session, "audit", work.audit(session)):
        if screen.audit is not SAME:
            said.append((screen.audit["progress"] or {}).get("words", ""))
            rows.append(sum(row["n"] > 0 for row in screen.audit["rows"]))
    assert any(text.startswith("Control 1 of 8") for text in said)
    assert rows == sorted(rows), "live: row after row"
    assert (rows[0], rows[-1]) == (4, 11)
    trace, _ = load_run(session.folder)
    assert trace.controls[0].kind == "decoy"
    assert {control.kind for control in trace.controls} == set(KINDS)
    assert trace.leaks is not None
    assert next(control for control in trace.controls if control.kind == "decoy").target == "43", "kept as it was"
    _, screen = visitor(work, session.run_id)
    assert screen.audit["complete"] is True
    assert screen.audit["finding"]["word"] == "Not rescued"


def test_an_audit_says_of_each_control_that_was_left_out_why(work, session, told, monkeypatch):
    def lacking(run, judge, kind, *more):
        raise UserError(f"There is no {kind} here.")
        yield

    monkeypatch.setattr("explorer.auditing.other_control", lacking)
    monkeypatch.setattr("explorer.auditing.decoy_control", lambda run, *_, **__: lacking(run, None, "decoy"))
    screen = act(work, session, "audit", work.audit(session))
    assert screen.notice["text"].startswith("8 controls were left out. There is no ")
    assert all(f"There is no {kind} here." in screen.notice["text"] for kind in KINDS)


def test_an_audit_that_is_cancelled_keeps_what_was_finished_and_goes_on(work, session, told):
    for screen in work.guarded(session, "audit", work.audit(session)):
        if screen.audit is not SAME and sum(row["n"] > 0 for row in screen.audit["rows"]) >= 5:
            session.stop.set()
        last = screen
    assert (last.audit["state"], last.busy) == ("cancelled", "")
    kept = [control.kind for control in load_run(session.folder)[0].controls]
    assert 2 <= len(kept) < 8
    screen = act(work, session, "audit", work.audit(session))
    assert screen.audit["complete"] is True
    assert [control.kind for control in load_run(session.folder)[0].controls][: len(kept)] == kept


def test_an_opened_run_is_audited_under_a_new_name(work, told):
    page, screen = visitor(work, told)
    assert (screen.audit["lacking"], screen.audit["why_not"]) == (8, "")
    screen = act(work, page, "audit", work.audit(page))
    assert screen.audit["complete"] is True
    assert load_run(work.runs_dir / told)[0].controls == ()
    assert len(load_run(work.runs_dir / page.run_id)[0].controls) == 8


def test_without_continuations_there_is_nothing_to_audit(work, session):
    revised(work, session)
    screen = act(work, session, "audit", work.audit(session))
    assert "nothing to audit" in screen.notice["text"]


def test_a_hunts_run_is_opened_by_both_names_and_by_no_path(work, told):
    hunt = work.runs_dir / "hunts" / "20260101-bank"
    hunt.mkdir(parents=True)
    (hunt / "hunt.json").write_text("{}")
    shutil.copytree(work.runs_dir / told, hunt / "sum-1-abcd1234")
    page, screen = visitor(work, "20260101-bank.sum-1-abcd1234")
    assert screen.stage["run_id"] == page.opened.id == "20260101-bank.sum-1-abcd1234"
    for name in ("20260101-bank.", "20260101-bank...", "20260101-bank./etc", "hunts/20260101-bank.x", "..20260101"):
        screen = act(work, page, "open", work.open(page, name), on_model=False)
        assert screen.notice["kind"] == "warning", name
        assert page.opened.id == "20260101-bank.sum-1-abcd1234"


def test_two_runs_side_by_side_and_apart_again(work, session, told):
    other = CONFIG.model_copy(update={"away_weight": 0.0})
    act(work, session, "restart", work.restart(session, other), on_model=False)
    act(work, session, "play", work.revise(session, other, one=False))
    screen = act(work, session, "against", work.against(session, told), on_model=False)
    assert screen.rival["run_id"] == told
    assert [row["label"] for row in screen.duel["rows"] if row["differs"]][:1] != []
    assert told in {option["id"] for option in screen.duel["options"]}
    screen = act(work, session, "against", work.against(session, None), on_model=False)
    assert screen.rival is None


# -- limits of a public page, and files that are taken home ------------------------------------------


def test_limits_hold_wherever_the_settings_come_from(llama, tmp_path, session):
    work = Work(Host(llama), FakeJudge(), tmp_path, Limits(steps=3, prefix=6, runs=2))
    # The preset's place is too far: the rollouts stand, and what to do is said.
    first = act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert first.notice["text"].endswith("tokens and this page allows 6: cut it earlier.")
    assert first.rollouts["summary"]["zero_hit"] is True
    long = act(work, session, "cut", work.cut(session, session.chosen, 9, "custom", CONFIG), on_model=False)
    assert long.notice["text"] == "The prefix has 9 tokens and this page allows 6: cut it earlier."
    act(work, session, "cut", work.cut(session, session.chosen, 5, "custom", CONFIG), on_model=False)
    many = act(work, session, "play", work.revise(session, CONFIG.model_copy(update={"steps": 4}), one=False))
    assert many.notice["text"] == "4 steps were asked for and this page allows 3: choose fewer."
    act(work, session, "play", work.revise(session, CONFIG, one=False))
    further = act(work, session, "step", work.revise(session, CONFIG, one=True))
    assert further.notice["text"].startswith("This would be step 4 and this page allows 3: start over")
    assert len(further.stage["steps"]) == 3
    act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    third = act(work, session, "s", work.sample(session, PROBLEM, SAMPLING, CONFIG))
    assert third.notice["text"].startswith("This visit has made 2 runs")
    assert third.busy == ""
    work.thread.close()


def test_a_brought_run_with_a_longer_prefix_is_shown_and_not_taken_up(llama, tmp_path, session):
    work = Work(Host(llama), FakeJudge(), tmp_path)
    revised(work, session)
    length, run_id = len(session.run.split.prefix_token_ids), session.run_id
    narrow = Work(Host(llama), FakeJudge(), tmp_path, Limits(prefix=length - 1))
    opened = act(narrow, session, "open", narrow.open(session, run_id), on_model=False)
    assert opened.stage["run_id"] == run_id
    refused = act(narrow, session, "play", narrow.revise(session, CONFIG, one=True))
    assert "cut it earlier" in refused.notice["text"]
    for one in (work, narrow):
        one.thread.close()


def test_a_brought_run_with_a_longer_prompt_than_its_question_is_not_taken_up(work, session):
    revised(work, session)
    trace = session.run.trace()
    long = trace.prompt.model_copy(update={"token_ids": trace.prompt.token_ids + (5,) * 100})
    store.save_run(trace.model_copy(update={"prompt": long}), None, work.runs_dir / "long")
    act(work, session, "open", work.open(session, "long"), on_model=False)
    refused = act(work, session, "play", work.revise(session, CONFIG, one=True))
    assert "not its question's" in refused.notice["text"]
    assert session.run is None


def test_a_brought_run_that_nothing_can_draw_leaves_nothing(work, session, monkeypatch):
    revised(work, session)
    trace = session.folder / "trace.json"
    there = sorted(work.runs_dir.iterdir())

    def fails(*args):
        raise KeyError("x")

    monkeypatch.setattr(work.drawing, "all", fails)
    screen = act(work, session, "bring", work.bring(session, [trace]), on_model=False)
    assert "Something went wrong" in screen.notice["text"]
    assert sorted(work.runs_dir.iterdir()) == there


def test_packed_zips_do_not_pile_up(work, session, monkeypatch):
    revised(work, session)
    monkeypatch.setattr("explorer.ui.work.PACKED_S", -1.0)
    first = work.pack(session)
    assert first.exists()
    second = work.pack(session)
    assert second.exists()
    assert not first.exists()
    root = second.parent.parent
    assert len(list(root.iterdir())) == 1


def test_a_zip_says_why_it_has_no_row_or_fewer_than_rescues(work, session, told):
    trace = session.run.trace()
    base = next(item for item in trace.after if item.start is Start.REVISED)
    wrong, right = (
        base.model_copy(
            update={"verdict": Verdict.CORRECT, "prefix_text": prefix, "text": text, "token_ids": (place, 5)}
        )
        for place, (prefix, text) in enumerate(
            [("The answer is 41. ", "No, it is 42 apples."), ("He adds. ", "The answer is 42.")]
        )
    )

    def said(*after):
        store.save_run(trace.model_copy(update={"after": after}), session.run.trajectory(), work.runs_dir / "other")
        page, _ = visitor(work, "other")
        with zipfile.ZipFile(work.pack(page)) as archive:
            return archive.read("README.txt").decode(), "sft.jsonl" in archive.namelist()

    text, rows = said(wrong)
    assert not rows
    assert "verified correct" not in text
    assert "no rescue of this run is right as a whole.\n1 rescue(s) are left out" in text
    text, rows = said(wrong, right)
    assert rows
    assert "sft.jsonl: 1 row(s)" in text
    assert "1 rescue(s) are left out" in text
    text, rows = said(base)
    assert not rows
    assert "verified correct in this run.\n" in text
    assert "left out" not in text


def test_a_run_is_packed_where_it_is_made(work, session, monkeypatch):
    """On the thread of the model, so that no step lands between the record and its embeddings."""
    revised(work, session)
    threads = []
    trajectory = session.run.trajectory
    monkeypatch.setattr(session.run, "trajectory", lambda: threads.append(threading.get_ident()) or trajectory())
    again = work.guarded(session, "play", work.after(session, SAMPLING))
    next(again)
    assert work.pack(session).exists()  # in the middle of something else
    final(again)
    assert len(threads) == 2  # the zip's and the one when all was done
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_what_runs_no_model_waits_for_one_on_its_way(work, session):
    """`NOT_NOW` is a word for the line of the model; it never reaches a page."""
    screen = act(work, session, "joint", iter([NOT_NOW, NOT_NOW, Screen(busy="")]), on_model=False)
    assert screen == Screen(busy="")


def test_a_page_at_work_is_not_forgotten(monkeypatch):
    monkeypatch.setattr("explorer.ui.session.IDLE_LIMIT_S", -1)
    sessions = Sessions("default")
    left, busy = sessions.of("left"), sessions.of("busy")
    busy.running = "audit"
    sessions.of("left").touched = 0.0
    sessions.of("another")
    assert sessions.of("busy") is busy
    assert not busy.stop.is_set()
    assert left.stop.is_set()
