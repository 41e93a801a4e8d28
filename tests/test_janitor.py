"""Old runs go, everything else stays."""

from __future__ import annotations

import os
import time

import pytest

from explorer.ui.janitor import Janitor, remove_old

HOUR = 3600.0


def run(root, name: str, hours: float):
    """A folder with a record that was written so many hours ago."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "trace.json").write_text("{}")
    (folder / "trajectory.safetensors").write_bytes(b"x")
    then = time.time() - hours * HOUR
    for path in (folder / "trace.json", folder):
        os.utime(path, (then, then))
    return folder


def test_old_runs_go_and_everything_else_stays(tmp_path):
    old, young = run(tmp_path, "old", 25), run(tmp_path, "young", 23)
    of_hunt = run(tmp_path / "hunts" / "h", "found", 100)
    foreign = tmp_path / "notes"
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    assert remove_old(tmp_path, 24 * HOUR) == ["old"]
    assert not old.exists()
    assert (young / "trajectory.safetensors").exists()
    assert of_hunt.exists()
    assert foreign.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hunts", "notes", "young"]


def test_one_from_the_future_is_young(tmp_path):
    """As after the clock went back."""
    folder = run(tmp_path, "later", -48)
    assert remove_old(tmp_path, HOUR) == []
    assert folder.exists()


def test_a_link_is_not_followed(tmp_path):
    elsewhere = run(tmp_path / "elsewhere", "run", 100)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(elsewhere)
    assert remove_old(tmp_path / "runs", HOUR) == []
    assert (elsewhere / "trace.json").exists()


def test_what_a_killed_process_left_goes_too_but_not_what_is_being_saved(tmp_path):
    gone, torn, replaced, saving = (
        tmp_path / f".20260101-120000-{name}" for name in ("a.gone", "b.0f3a1b2c.tmp", "b.old", "c.11aa22bb.tmp")
    )
    for folder in (gone, torn, replaced, saving):
        folder.mkdir()
    os.utime(torn, (0, 0))
    os.utime(replaced, (0, 0))
    remove_old(tmp_path, HOUR)
    assert [path.name for path in tmp_path.iterdir()] == [saving.name]


@pytest.mark.parametrize(
    "name", [".git", ".huggingface", ".venv", ".cache.tmp", ".gone", ".config.old", ".vscode.gone"]
)
def test_hidden_folders_of_others_stay(tmp_path, name):
    """The folder of runs may be a disk that other programs use as well."""
    foreign = tmp_path / name
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    remove_old(tmp_path, HOUR)
    assert foreign.exists()


def test_one_that_can_not_be_removed_stops_nothing(tmp_path, monkeypatch):
    run(tmp_path, "a", 9), run(tmp_path, "b", 9)
    rename = type(tmp_path).rename

    def refused(self, target):
        if self.name == "a":
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", refused)
    assert remove_old(tmp_path, HOUR) == ["b"]


def test_no_folder_no_harm(tmp_path):
    assert remove_old(tmp_path / "none", HOUR) == []


def test_it_looks_at_once_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.ui.janitor.LOOK_S", 0.05)
    first = run(tmp_path, "first", 2)
    janitor = Janitor(tmp_path, 1)
    try:
        for folder in (first, None):
            folder = folder or run(tmp_path, "second", 2)
            until = time.monotonic() + 10
            while folder.exists():
                assert time.monotonic() < until
                time.sleep(0.01)
    finally:
        janitor.close()


@pytest.mark.parametrize("hours", [1.0, 1000.0])
def test_removed_is_what_is_older_than_the_rule(tmp_path, hours):
    run(tmp_path, "just", hours - 0.01), run(tmp_path, "over", hours + 0.01)
    assert remove_old(tmp_path, hours * HOUR) == ["over"]
