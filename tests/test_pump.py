"""The line before the model's thread: order, turns, cancelling, quick work, and what is told meanwhile. Sources here
are plain generators that log when they run."""

from __future__ import annotations

import itertools
import threading
import time
from contextvars import Context, ContextVar, copy_context

import pytest

from explorer.errors import UserError
from explorer.ui.pump import NOT_NOW, LeftLine, ModelThread

LIMIT_S = 20


class Visitor(threading.Thread):
    """Somebody who drains one piece of work; `got` is what arrived, `told` where it stood."""

    def __init__(self, line: ModelThread, source, **options):
        super().__init__(daemon=True)
        self.line, self.source, self.options = line, source, options
        self.got, self.told, self.error = [], [], None
        self.stop = threading.Event()
        self.start()

    def run(self):
        def standing(where):
            self.told.append(where)
            return ()

        options = {"standing": standing, "stopped": self.stop.is_set, **self.options}
        try:
            for values in self.line.drain(self.source, lambda a, b: a + b, self.stop.set, **options):
                self.got += values
        except BaseException as error:
            self.error = error

    def end(self):
        self.join(LIMIT_S)
        assert not self.is_alive(), "it never ended"
        return self


@pytest.fixture
def line():
    made = ModelThread(turn_s=0.2, places=3)
    yield made
    made.close()


def working(log: list, name: str, seconds: float, stop: threading.Event | None = None, each: float = 0.02):
    """Work of about so many seconds that can be told to stop, and logs each piece; ends by saving."""
    until = 0.0
    while until < seconds and not (stop and stop.is_set()):
        log.append(name)
        time.sleep(each)
        until += each
        yield (name,)
    log.append(f"{name} saved")


def beginning(source, joined: threading.Event):
    """Work that after its first piece waits until others have joined: its turn is over by then."""
    yield next(source)
    joined.wait(LIMIT_S)
    yield from source


def eventually(check):
    until = time.monotonic() + LIMIT_S
    while not check():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def turns(log: list) -> list:
    """The log without repetitions: who came after whom."""
    return [name for index, name in enumerate(log) if index == 0 or log[index - 1] != name]


def test_alone_nobody_rests_and_nothing_is_told(line):
    log = []
    one = Visitor(line, working(log, "a", 0.6)).end()
    assert turns(log) == ["a", "a saved"]
    assert len(one.got) == 30
    assert one.told == []


def test_two_have_turns_of_equal_length_and_all_arrives(line):
    log, joined = [], threading.Event()
    one = Visitor(line, beginning(working(log, "a", 0.6), joined))
    eventually(lambda: log)
    two = Visitor(line, working(log, "b", 0.6))
    eventually(lambda: two.told)
    joined.set()
    one.end(), two.end()
    assert turns(log)[:5] == ["a", "b", "a", "b", "a"]
    assert one.got == ["a"] * 30
    assert two.got == ["b"] * 30
    assert not two.told[0].begun
    assert two.told[1] is None
    # Whoever rests for less than a look is told nothing; here a rest is 0.2 s and a look every 0.5.
    assert all(where is None or where.begun for where in one.told)


def test_short_work_is_served_in_the_order_of_coming(line):
    line._turn_s = 1000.0
    log, joined = [], threading.Event()
    people = [Visitor(line, working(log, "first", 60, joined))]
    eventually(lambda: log)
    for name in "abc":
        people.append(Visitor(line, working(log, name, 0.06)))
        eventually(lambda: people[-1].told)
    joined.set()
    for person in people:
        person.end()
    assert turns(log) == ["first", "first saved", "a", "a saved", "b", "b saved", "c", "c saved"]
    assert [person.told[0].before for person in people[1:]] == [1, 2, 3]


def test_the_wait_is_learned_from_earlier_work_of_the_name(line):
    log = []
    for _ in range(2):
        Visitor(line, working(log, "x", 0.1), name="rollouts").end()
    assert 0.09 < line._usual["rollouts"] < LIMIT_S
    line._turn_s = 1000.0
    line._usual["rollouts"] = 500.0
    told = threading.Event()
    one = Visitor(line, working(log, "a", 60, told), name="rollouts")
    eventually(lambda: log[-1] == "a")
    two = Visitor(line, working(log, "b", 0.02), name="rollouts")
    eventually(lambda: two.told)
    told.set()
    one.end(), two.end()
    assert 500 - LIMIT_S <= two.told[0].wait_s <= 500


def test_a_full_line_says_so(line):
    line._turn_s = 1000.0
    log, stop = [], threading.Event()
    people = [Visitor(line, working(log, "long", 60, stop))]
    eventually(lambda: log)
    people += [Visitor(line, working(log, str(count), 0.02)) for count in range(3)]
    eventually(lambda: len(line._line) == 3)
    late = Visitor(line, working(log, "late", 0.02)).end()
    assert isinstance(late.error, UserError)
    assert "3 others wait" in str(late.error)
    stop.set()
    for person in people:
        person.end()
    assert "late" not in log


def test_cancelling_in_line_leaves_it_and_begins_nothing(line):
    line._turn_s = 1000.0
    log, stop = [], threading.Event()
    one = Visitor(line, working(log, "a", 60, stop))
    eventually(lambda: log)
    two = Visitor(line, working(log, "b", 60))
    eventually(lambda: two.told)
    two.stop.set()
    two.end()
    assert isinstance(two.error, LeftLine)
    stop.set()
    one.end()
    assert not any(entry.startswith("b") for entry in log)


def test_cancelling_while_others_have_the_model_saves_what_was_done(line):
    log, stops = [], [threading.Event(), threading.Event()]
    one = Visitor(line, working(log, "a", 60, stops[0]), stopped=stops[0].is_set)
    eventually(lambda: log)
    two = Visitor(line, working(log, "b", 60, stops[1]), stopped=stops[1].is_set)
    eventually(lambda: "b" in log)  # a rests
    stops[0].set()
    one.end()
    assert "a saved" in log
    assert one.error is None
    assert one.got == ["a"] * log.count("a")
    stops[1].set()
    two.end()


def test_one_at_rest_is_told_how_long(line):
    log, told, done = [], threading.Event(), threading.Event()
    one = Visitor(line, working(log, "a", 60, done))
    eventually(lambda: log)

    def long_turn():
        line._turn_s = 1000.0
        yield from working(log, "b", 60, told)

    two = Visitor(line, long_turn())
    eventually(lambda: one.told)
    told.set()
    two.end()
    eventually(lambda: log[-1] == "a")
    done.set()
    one.end()
    assert turns(log) == ["a", "b", "b saved", "a", "a saved"]
    assert [where and (where.before, where.begun) for where in one.told] == [(1, True), None]


def test_a_page_that_is_closed_in_line_or_at_rest_holds_nobody_up(line):
    log = []
    stop = threading.Event()
    drained = line.drain(working(log, "gone", 60, stop), lambda a, b: a + b, stop.set)
    next(drained)
    two = Visitor(line, working(log, "b", 0.3))
    eventually(lambda: "b" in log)  # the first rests
    drained.close()  # as Gradio does when the page goes
    two.end()
    eventually(lambda: "gone saved" in log)
    assert not line._line


def test_quick_work_comes_between_and_the_turn_goes_on(line):
    line._turn_s = 1000.0
    log, done = [], threading.Event()
    one = Visitor(line, working(log, "a", 60, done))
    eventually(lambda: log)
    other = Visitor(line, working(log, "b", 0.1))
    eventually(lambda: other.told)
    Visitor(line, working(log, "quick", 0.02), quick=True).end()
    eventually(lambda: log[-1] == "a")
    done.set()
    one.end(), other.end()
    assert turns(log) == ["a", "quick", "quick saved", "a", "a saved", "b", "b saved"]
    assert one.told == [], "a moment's rest is not worth a sentence"


def test_work_that_waits_for_something_else_lets_others_in(line):
    log, there = [], threading.Event()

    def waiting():
        while not there.is_set():
            yield NOT_NOW
        yield from working(log, "late", 0.04)

    one = Visitor(line, waiting())
    two = Visitor(line, working(log, "b", 0.1)).end()
    assert two.got
    assert not one.got
    there.set()
    assert one.end().got == ["late", "late"]


def test_cancelling_what_waits_for_something_else_ends_it(line):
    stop = threading.Event()

    def waiting():
        while not stop.is_set():
            yield NOT_NOW
        yield ("ended",)

    one = Visitor(line, waiting(), stopped=stop.is_set)
    time.sleep(0.1)
    stop.set()
    assert one.end().got == ["ended"]


def test_an_error_reaches_the_one_whose_work_it_was(line):
    def failing():
        yield ("one",)
        raise ValueError("no")

    one = Visitor(line, failing()).end()
    assert (one.got, str(one.error)) == (["one"], "no")
    assert Visitor(line, working([], "b", 0.04)).end().got == ["b", "b"]


def test_all_runs_on_one_thread(line):
    seen = set()

    def noting():
        for _ in range(5):
            seen.add(threading.get_ident())
            yield ()

    people = [Visitor(line, noting()) for _ in range(3)]
    for person in people:
        person.end()
    assert len(seen) == 1


def test_after_closing_nothing_begins(line):
    line.close()
    assert isinstance(Visitor(line, working([], "a", 0.02)).end().error, UserError)


def test_closing_lets_what_has_begun_save_itself_and_begins_nothing_of_the_rest(line):
    log, stop = [], threading.Event()
    one, two = (Visitor(line, working(log, name, 60, stop), stopped=stop.is_set) for name in "ab")
    eventually(lambda: {"a", "b"} <= set(log))
    line._turn_s = 1000.0
    three = Visitor(line, working(log, "c", 60), stopped=stop.is_set)
    eventually(lambda: len(line._line) == 2)
    stop.set()
    line.close(wait_s=LIMIT_S)
    assert {"a saved", "b saved"} <= set(log)
    assert "c" not in log
    for person in (one, two, three):
        person.end()


def test_looks_are_rare_enough(line):
    """Those in line wake up a few times a second at most, however often the work before them says something: sixteen of
    them must not take time from the model."""
    line._turn_s = 1000.0
    log, stop, looks = [], threading.Event(), []
    one = Visitor(line, working(log, "a", 60, stop, each=0.002))
    eventually(lambda: log)
    began = time.monotonic()
    two = Visitor(line, working(log, "b", 0.02), stopped=lambda: bool(looks.append(time.monotonic())))
    eventually(lambda: len(looks) >= 4)
    assert 4 <= len(looks) <= 2 + (time.monotonic() - began) / 0.25
    assert len(log) > 2 * len(looks)
    stop.set()
    one.end(), two.end()


def test_work_knows_whose_request_it_is_in_each_of_its_turns(line):
    """As ZeroGPU's lender asks for it, to count a call to its visitor and not to the Space."""
    asker = ContextVar("asker")
    log = []

    def asking():
        for _ in range(30):
            log.append(asker.get())
            time.sleep(0.02)
            yield (asker.get(),)

    def visit(name: str, source) -> Visitor:
        context = Context()
        context.run(asker.set, name)
        return context.run(lambda: Asking(copy_context(), line, source))

    class Asking(Visitor):
        def __init__(self, context, *arguments):
            self.context = context
            super().__init__(*arguments)

        def run(self):
            self.context.run(super().run)

    joined = threading.Event()
    visitors = {"ada": visit("ada", beginning(asking(), joined))}
    eventually(lambda: log)
    visitors["bob"] = visit("bob", asking())
    eventually(lambda: visitors["bob"].told)
    joined.set()
    for name, visitor in visitors.items():
        assert visitor.end().error is None
        assert set(visitor.got) == {name}
    assert [name for name, _ in itertools.groupby(log)][:3] == ["ada", "bob", "ada"], "they had turns"
