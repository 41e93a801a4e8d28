"""The entry: what it says of an address that others can reach."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from app import open_door
from explorer.settings import read_settings


@pytest.mark.parametrize("host", ["", "127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_nothing_is_said_at_home(host):
    assert open_door(host, read_settings()) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "127.example.org"])
def test_an_open_door_is_one_line(host):
    warning = open_door(host, read_settings())
    assert warning.startswith("warning: ")
    assert "\n" not in warning
    assert "LATENTREVISE_PASSWORD" in warning
    assert open_door("0.0.0.0", read_settings(public=True)) == ""
    assert open_door("0.0.0.0", read_settings(password="x")) == ""


def test_a_choice_that_is_told_twice_is_answered_once():
    """Gradio's two requests about one click come in either order; the second answer would undo what was typed since."""
    from explorer.ui.panels.problem import OTHER_REQUEST_S, known_already

    session = SimpleNamespace(listed="")
    assert known_already(session, "sum-01", "sum-01"), "it stands there from the beginning"
    late = threading.Timer(OTHER_REQUEST_S / 5, lambda: setattr(session, "listed", "rate-03"))
    late.start()
    assert known_already(session, "rate-03", "sum-01"), "the other request is a moment behind"
    late.join()
    assert known_already(session, "rate-03", "sum-01")
    assert not known_already(session, "sum-02", "sum-01"), "Enter tells of it this way alone"
