"""Child processes: lines arrive, an end is noticed, and no child outlives its parent."""

import sys
import time

from explorer.child import Child, bound_module, parse, python_module


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _first_line(child):
    until = time.monotonic() + 60
    while not list(child.new_lines()):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_lines_and_exit_code_arrive():
    child = Child(
        _python("print('one'); print('{\"fraction\": 0.5}'); import sys; sys.stderr.write('oh'); sys.exit(3)")
    )
    assert child.wait(30)
    lines = list(child.new_lines())
    assert [line for line in lines if not parse(line)] == ["one"]
    assert parse(lines[1]) == {"fraction": 0.5}
    assert child.exit_code == 3
    assert child.error_text() == "oh"
    assert list(child.new_lines()) == []


def test_stop_ends_even_a_deaf_child():
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    child = Child(_python(deaf))
    _first_line(child)
    child.stop(grace_s=0.2)
    assert not child.running
    assert child.exit_code != 0
    child.stop()


def test_a_child_ends_when_the_parent_is_gone():
    child = Child(_python("from explorer.child import *; end_with_parent(); print('up'); import time; time.sleep(60)"))
    _first_line(child)
    child._process.stdin.close()  # what the operating system does when the parent dies
    assert child.wait(10)
    assert child.exit_code == 1


def test_started_by_hand_it_does_not_watch_its_input(monkeypatch):
    import subprocess

    monkeypatch.delenv("LATENTREVISE_IS_CHILD", raising=False)
    code = "from explorer.child import *; end_with_parent(); import time; time.sleep(0.5); print('done')"
    done = subprocess.run(_python(code), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n"


def test_modules_run_with_this_interpreter():
    assert python_module("explorer.sources", "download", "x") == [
        sys.executable,
        "-m",
        "explorer.sources",
        "download",
        "x",
    ]


def test_a_command_of_ours_ends_when_the_parent_is_gone():
    # Where nobody goes away it ends as it would by itself, with its own exit code and its own words.
    refused = Child(bound_module("explorer", "evaluate", "--problems", "nowhere", "--out", "nowhere"))
    assert refused.wait(60)
    assert refused.exit_code == 2
    assert "nowhere" in refused.error_text()
    endless = Child(bound_module("http.server", "0", "--bind", "127.0.0.1"))
    _first_line(endless)
    endless._process.stdin.close()
    assert endless.wait(10)
    assert endless.exit_code == 1
