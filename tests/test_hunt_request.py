"""A hunt as asked for on the page: checked values, the command, names that can't leave their folder, an estimate."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from explorer import hunting
from explorer.cli import app, run_command
from explorer.errors import UserError
from explorer.hunt_request import (
    HuntRequest,
    audit_command,
    explorer_command,
    find_hunts,
    hunt_command,
    hunt_folder,
    new_hunt,
    read_request,
    run_id,
    run_of_hunt,
    set_name,
    take_in,
)
from explorer.hunt_time import seconds_per_prompt, speed_of
from explorer.jobs import PROJECT_ROOT
from explorer.recorded import recorded_runs

NO_MODEL = {"model": None, "dtype": None, "device": None}


def test_values_are_checked_and_complained_of_by_their_label():
    request = read_request({"rollouts": 4, "limit": None, "problems": "sum", "other": 1, "skip_bad": True})
    assert (request.rollouts, request.limit, request.skip_bad, request.steps) == (4, None, True, 10)
    for values, said in (
        ({"rollouts": 0}, "N, rollouts can't be '0'"),
        ({"step_size": 2}, "γ, step size can't be"),
        ({"rollouts": "many"}, "N, rollouts can't be 'many'"),
        ({"split": "nowhere"}, "Split can't be"),
        ({"rollouts": 900, "more": 4}, "lower N"),
    ):
        with pytest.raises(UserError, match=said):
            read_request(values)


def test_the_command_says_what_is_not_a_default_and_is_taken_by_the_command_line(tmp_path):
    request = read_request(
        {"rollouts": 5, "more": 4, "temperature": 1.0, "limit": 7, "skip_bad": True, "away_weight": 0}
    )
    command = hunt_command(request, "sum", tmp_path / "h", {**NO_MODEL, "model": "some/model"})
    assert command[:4] == [sys.executable, "-m", "explorer", "hunt"]
    given = dict(itertools.pairwise(command))
    assert given["--rollouts"] == "5"
    assert (given["--temperature"], given["--more"], given["--limit"]) == ("1", "4", "7")
    assert (given["--away-weight"], given["--samples"], given["--model"]) == ("0", "8", "some/model")
    assert "--skip-bad" in command
    assert "--steps" not in command
    # Every option exists: what fails is the model, not the command line.
    assert run_command(lambda: app(args=[*command[3:], "--limit", "0"], standalone_mode=False)) == 2


def test_hull_connector_and_engine_reach_the_verb_as_they_were_asked_for(tmp_path, monkeypatch):
    request = read_request({"hull": "plausible", "connector": "\n- so ", "engine": "vllm"})
    command = hunt_command(request, "sum", tmp_path / "h", NO_MODEL)
    seen = []
    monkeypatch.setattr(hunting, "hunt", lambda *given: seen.append(given[2]) or ([], {}))
    assert run_command(lambda: app(args=command[3:], standalone_mode=False)) == 0
    config = seen[0]["config"]
    assert (config.hull.value, config.connector, seen[0]["engine"]) == ("plausible", "\n- so ", "vllm")
    with pytest.raises(UserError, match="Hull can't be"):
        read_request({"hull": "round"})


def test_paths_are_seen_from_the_projects_folder(tmp_path):
    inside = PROJECT_ROOT / "runs" / "hunts" / "x"
    assert audit_command(inside, NO_MODEL)[-1] == str(Path("runs", "hunts", "x"))
    assert audit_command(tmp_path, NO_MODEL)[-1] == str(tmp_path)
    with pytest.raises(UserError, match="dash"):
        explorer_command(["hunt"], {"model": "--json"})


def test_only_sets_that_the_page_offers(tmp_path):
    assert set_name("bank", tmp_path) == "bank"
    assert set_name("two-step", tmp_path) == "two-step"
    assert set_name("datasets:openai/gsm8k:test", tmp_path) == "datasets:openai/gsm8k:test"
    assert set_name("reasoning-gym:chain_sum", tmp_path) == "reasoning-gym:chain_sum"
    (tmp_path / "secret.jsonl").write_text("{}")
    for name in (
        "",
        "file:",
        "file:../secret.jsonl",
        "file:secret.jsonl",
        str(tmp_path / "secret.jsonl"),
        "datasets:../x",
        "datasets:/etc",
        "datasets:--help",
        "reasoning-gym:--x",
    ):
        with pytest.raises(UserError):
            set_name(name, tmp_path)


def test_a_brought_file_is_kept_once_under_a_plain_name(tmp_path):
    file = tmp_path / "x.tmp"
    file.write_text(json.dumps({"question": "1 + 1?", "answer": 2}))
    name = take_in(file, "../My problems (1).jsonl", tmp_path / "runs")
    assert name == take_in(file, "../My problems (1).jsonl", tmp_path / "runs")
    (kept,) = (tmp_path / "runs" / "problem-sets").iterdir()
    assert name == f"file:{kept.name}"
    assert kept.name.startswith("My-problems-1-")
    assert set_name(name, tmp_path / "runs") == str(kept)
    with pytest.raises(UserError, match="ends in"):
        take_in(file, "x.exe", tmp_path)


def test_hunts_and_their_runs_are_found_by_name_and_by_nothing_else(tmp_path):
    for folder in (tmp_path / "hunts" / "one", tmp_path / "two.5", tmp_path / "hunts" / ".hidden"):
        (folder / "sum-1-abc").mkdir(parents=True)
        (folder / "hunt.json").write_text("{}")
    (tmp_path / "secret").mkdir()
    assert set(find_hunts(tmp_path)) == {"one", "two.5"}
    assert hunt_folder(tmp_path, "one") == tmp_path / "hunts" / "one"
    assert run_of_hunt(tmp_path, run_id("one", "sum-1-abc")) == tmp_path / "hunts" / "one" / "sum-1-abc"
    assert run_of_hunt(tmp_path, run_id("two.5", "sum-1-abc")) == tmp_path / "two.5" / "sum-1-abc"
    for name in (
        "one",
        "one.gone",
        "one..",
        "...",
        "..secret",
        "one/../..",
        "hunts.one",
        ".hidden.sum-1-abc",
        "secret.",
    ):
        assert run_of_hunt(tmp_path, name) is None, name
    for name in ("..", "secret", "", "one/sum-1-abc", ".hidden"):
        with pytest.raises(UserError):
            hunt_folder(tmp_path, name)


def test_a_new_hunt_never_takes_a_folder_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.hunt_request.time.strftime", lambda *_: "20260101-000000")
    first = new_hunt(tmp_path, HuntRequest(problems="file:a b-12.csv"))
    assert first.name == "20260101-000000-a-b-12"
    first.mkdir(parents=True)
    assert new_hunt(tmp_path, HuntRequest(problems="file:a b-12.csv")).name == "20260101-000000-a-b-12-2"


def test_an_estimate_comes_from_what_was_timed_and_grows_with_what_is_asked():
    assert speed_of([]) is None
    speed = speed_of([run.trace for run in recorded_runs()])
    assert speed.runs == len(recorded_runs())
    assert 0 < speed.decode_s < 1
    assert 0 < speed.length <= 1
    hit, zero = seconds_per_prompt(HuntRequest(), speed)
    assert 0 < hit < zero
    for more in ({"rollouts": 32}, {"max_new_tokens": 200}, {"failed": 2}, {"more": 4}, {"steps": 20}, {"samples": 32}):
        assert seconds_per_prompt(HuntRequest(**more), speed)[1] > zero, more
    assert seconds_per_prompt(HuntRequest(failed=0), speed) == (hit, hit)
