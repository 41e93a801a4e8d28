"""Input by the thousand: whatever a person, a file or a stranger hands over is read or refused in one sentence, and
nothing of it leaves the folder that it belongs in.

Properties, not examples: each reader gets made-up files, and valid ones with something broken in them.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.answer import locate_answer, to_latex
from explorer.cli import app, run_command
from explorer.equations import find_equations
from explorer.errors import UserError
from explorer.hunt_request import read_request, set_name
from explorer.jobs import PROJECT_ROOT
from explorer.problems import make_problem, read_good_problems, read_problems
from explorer.settings import read_settings
from explorer.store import import_run, load_run, run_folder
from explorer.training import request as training
from explorer.training.traces import candidates

RECORDED = sorted((PROJECT_ROOT / "assets" / "recorded").glob("*/trace.json"))
# The same input at every run, so that a change is what makes a test fail; new input where one asks for it.
same = not os.environ.get("TESTS_RANDOM")
many = settings(max_examples=150, derandomize=same, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(many, max_examples=40)

texts = st.text(max_size=60)
numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.none())
values = st.recursive(
    st.one_of(texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
rows = st.dictionaries(st.sampled_from(["id", "question", "answer", "family", "Question", "x", ""]), values, max_size=5)
encodings = st.sampled_from(["utf-8", "utf-16", "latin-1"])


def refused_or(call):
    """The call's result, or None where it was refused in a sentence."""
    try:
        return call()
    except UserError as error:
        sentence = str(error)
        assert 10 < len(sentence) < 2_000
        assert "Traceback" not in sentence
        return None


# -- problem files ---------------------------------------------------------------------------------


@many
@given(content=st.binary(max_size=400), kind=st.sampled_from([".jsonl", ".csv", ".ndjson", ".txt", ""]))
def test_any_bytes_are_a_problem_file_or_refused(tmp_path_factory, content, kind):
    path = tmp_path_factory.mktemp("p") / f"set{kind}"
    path.write_bytes(content)
    found = refused_or(lambda: read_problems(path))
    assert found is None or all(problem.question.strip() and problem.answer.strip() for problem in found)
    assert path.read_bytes() == content


@many
@given(lines=st.lists(rows, max_size=6), encoding=encodings)
def test_any_rows_give_problems_or_numbered_complaints(tmp_path_factory, lines, encoding):
    path = tmp_path_factory.mktemp("p") / "set.jsonl"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_bytes(text.encode(encoding, errors="replace"))
    found = refused_or(lambda: read_good_problems(path))
    if found is not None:
        problems, bad = found
        assert len(problems) + len(bad) <= len(lines)
        assert all(row.line >= 1 and row.why for row in bad)
        assert len({problem.id for problem in problems}) == len(problems)


@many
@given(question=texts, answer=texts)
def test_any_question_and_answer_make_a_problem_or_a_sentence(question, answer):
    problem = refused_or(lambda: make_problem(question, answer))
    if problem is not None:
        assert not any(ord(char) < 32 and char not in "\n\t" for char in problem.question + problem.answer)


@many
@given(text=st.text(max_size=300))
def test_no_text_breaks_the_readers_of_answers(text):
    locate_answer(text)
    to_latex(text, only_one=True)
    to_latex(text, only_one=False)
    for equation in find_equations(text):
        assert isinstance(equation.holds, bool)


# -- traces ----------------------------------------------------------------------------------------


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


def broken(value, path, by):
    """A copy with the value at a place changed; `by` may be removal."""
    if not path:
        return by
    copied = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and by is REMOVED:
        del copied[path[0]]
    else:
        copied[path[0]] = broken(value[path[0]], path[1:], by)
    return copied


REMOVED = object()
TRACE = json.loads(RECORDED[0].read_bytes())
# The first few of each list stand for the rest.
PLACES = sorted({path for path in places(TRACE) if all(not isinstance(key, int) or key < 2 for key in path)}, key=str)


@settings(many, max_examples=250)
@given(path=st.sampled_from(PLACES), by=st.one_of(st.just(REMOVED), values))
def test_a_trace_with_anything_broken_is_read_or_refused(tmp_path_factory, path, by):
    folder = tmp_path_factory.mktemp("r")
    changed = broken(TRACE, path, by if path else {})
    (folder / "trace.json").write_text(json.dumps(changed))
    found = refused_or(lambda: load_run(folder, with_trajectory=False))
    if found is not None:
        # What is read must be of use to those who read it.
        refused_or(lambda: candidates(found[0], "r"))


@many
@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_trace_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("r")
    (folder / "trace.json").write_bytes(content)
    assert refused_or(lambda: load_run(folder)) is None


@pytest.mark.parametrize("depth", [200, 100_000])
def test_json_of_any_depth(tmp_path, depth):
    (tmp_path / "trace.json").write_text('{"schema_version":1,"x":' + "[" * depth + "]" * depth + "}")
    assert refused_or(lambda: load_run(tmp_path)) is None


@some
@given(cut=st.integers(0, 300), flip=st.integers(0, 299), to=st.integers(0, 255))
def test_a_damaged_trajectory_is_refused(tmp_path_factory, cut, flip, to):
    folder = tmp_path_factory.mktemp("r")
    source = RECORDED[0].parent
    (folder / "trace.json").write_bytes(RECORDED[0].read_bytes())
    content = bytearray((source / "trajectory.safetensors").read_bytes())
    content[flip] = to
    (folder / "trajectory.safetensors").write_bytes(bytes(content[: len(content) - cut]))
    found = refused_or(lambda: load_run(folder))
    assert found is None or found[1].shape[0] == len(TRACE["steps"]) + 1


# -- what is brought from outside ------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["trace.json", "../trace.json", "/etc/trace.json", "a/../../trace.json", "..\\trace.json"]),
    st.just("trajectory.safetensors"),
    texts,
)


@some
@given(entries=st.lists(st.tuples(names, st.binary(max_size=60)), max_size=5, unique_by=lambda pair: pair[0]))
def test_a_zip_writes_nothing_outside_its_run(tmp_path_factory, entries):
    place = tmp_path_factory.mktemp("z")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in entries:
            if name and "\0" not in name:
                archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), content)
    (place / "brought.zip").write_bytes(packed.getvalue())
    root = place / "runs"
    assert refused_or(lambda: import_run([place / "brought.zip"], root)) is None
    assert {path.name for path in place.iterdir()} <= {"brought.zip", "runs"}


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def whole_zip(method) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("r/trace.json", b'{"schema_version": 1, "created_at": "today"}' * 8)
    return packed.getvalue()


ZIPS = {method: whole_zip(method) for method in METHODS}


@many
@given(
    method=st.sampled_from(METHODS),
    changes=st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.sampled_from([0, 0, 0, 1, 30]),
)
def test_a_zip_with_damaged_bytes_is_a_sentence(tmp_path_factory, method, changes, cut):
    place = tmp_path_factory.mktemp("z")
    content = bytearray(ZIPS[method])
    for where, byte in changes:
        content[where % len(content)] = byte
    (place / "brought.zip").write_bytes(content[: len(content) - cut])
    assert refused_or(lambda: import_run([place / "brought.zip"], place / "runs")) is None


def test_a_whole_run_in_a_zip_with_paths_lands_inside(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../../../evil/trace.json", RECORDED[0].read_bytes())
    folder = refused_or(lambda: import_run([tmp_path / "b.zip"], tmp_path / "runs"))
    assert folder.parent == tmp_path / "runs"
    assert not (tmp_path.parent / "evil").exists()


@many
@given(name=st.one_of(texts, st.sampled_from(["..", ".", "/", "a/b", "..%2f", "a\0b", "~", "-rf", "con", "\u202e"])))
def test_no_name_leads_out_of_a_folder(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "root"
    folder = refused_or(lambda: run_folder(root, name))
    if folder is not None:
        assert Path(folder).parent == root
        assert Path(folder).name not in ("", ".", "..")


# -- settings, forms, the command line -------------------------------------------------------------


@many
@given(
    given_values=st.dictionaries(
        st.sampled_from(["rollouts", "temperature", "seed", "split", "hull", "limit", "problems", "samples", "engine"]),
        st.one_of(texts, numbers),
    )
)
def test_any_form_is_a_request_or_a_sentence(tmp_path_factory, given_values):
    refused_or(lambda: read_request(given_values))
    refused_or(lambda: set_name(str(given_values.get("problems", "")), tmp_path_factory.getbasetemp()))


@many
@given(
    given_values=st.dictionaries(st.sampled_from(sorted(training.TrainRequest.model_fields)), st.one_of(texts, numbers))
)
def test_any_training_is_a_request_or_a_sentence(given_values):
    refused_or(lambda: training.read_request(given_values))


@many
@given(name=st.sampled_from(["model", "dtype", "device", "runs_dir", "offline"]), value=texts)
def test_any_setting_is_taken_or_refused(name, value):
    refused_or(lambda: read_settings(**{name: value}))


VERBS = ("revise", "hunt", "audit", "export", "train", "evaluate", "sft")
OPTIONS = (
    "question",
    "answer",
    "out",
    "model",
    "rollouts",
    "problems",
    "runs",
    "format",
    "seed",
    "json",
    "split",
    "steps",
)
WORDS = st.one_of(
    st.sampled_from([*VERBS, *(f"--{name}" for name in OPTIONS), "0", "-1", "1e999"]),
    st.text(min_size=1, max_size=12).filter(lambda word: "\0" not in word and word != "bench"),
)


@many
@given(words=st.lists(WORDS, max_size=7))
def test_any_command_line_ends_with_a_code_and_a_line(tmp_path_factory, words):
    """Nothing is there to run on: no such model. So each of them must end at once, with 0 for help or 2."""
    place = tmp_path_factory.mktemp("c")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENTREVISE_MODEL", str(place / "no-model"))
        patch.setenv("LATENTREVISE_RUNS_DIR", str(place / "runs"))
        patch.setenv("LATENTREVISE_OFFLINE", "1")
        patch.chdir(place)
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        code = run_command(lambda: app(args=words, standalone_mode=False))
    assert code in (0, 2), (words, err.getvalue())
    assert "Traceback" not in err.getvalue()
    assert "inside the explorer" not in err.getvalue(), (words, err.getvalue())
    if code == 2:
        assert len([line for line in err.getvalue().splitlines() if line.startswith("error: ")]) == 1
