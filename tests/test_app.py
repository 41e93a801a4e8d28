"""The entry: what it says of an address that others can reach."""

from __future__ import annotations

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
