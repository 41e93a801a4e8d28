"""The README can't drift: its tables are held against the code."""

from __future__ import annotations

import re
from pathlib import Path

from explorer.cli import app
from explorer.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    part = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_settings_table_is_the_settings():
    rows = {re.sub("`", "", row[0]): re.sub("`", "", row[1]) for row in table("Settings")}
    assert rows == {name: f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_verbs_table_is_the_verbs():
    documented = [re.sub("`", "", row[0]) for row in table("Without a screen")]
    assert documented == [command.callback.__name__ for command in app.registered_commands]


def test_rooms_exist_and_none_is_missing():
    named = {name for row in table("Map of the rooms") for name in re.findall(r"`([^`]+)`", row[0])}
    assert all((ROOT / name).exists() for name in named)
    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in ("explorer", "explorer/training")
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    assert modules <= named


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_it_opens_with_a_picture_and_has_the_two_commands():
    # Before it stands only what a Space is told: explorer/space.py reads that.
    _, _, page = README.split("---\n", 2)
    assert page.startswith("![")
    commands = re.findall(r"```sh\n(.+)\n```", README)[:2]
    assert commands[0].endswith(".venv/bin/python app.py")
    assert commands[1].endswith(".venv/bin/python -m pytest")
    assert all(c.startswith("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && ") for c in commands)
