"""Runs on disk: round trip, whole or not at all, and every kind of damage said in one sentence."""

from __future__ import annotations

import errno
import json
import shutil
import stat
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from explorer import store
from explorer.errors import UserError, describe
from explorer.records import Trace
from explorer.ui.library import open_run
from tests.test_pipeline import told


@pytest.fixture(scope="module")
def run(llama):
    return told(llama)


@pytest.fixture
def folder(run, tmp_path):
    return store.save_run(run.trace(), run.trajectory(), tmp_path / "runs" / "one")


def test_a_place_for_runs_is_tried_before_anything_is_computed(tmp_path):
    store.need_writable(tmp_path / "deep" / "runs")
    assert list((tmp_path / "deep" / "runs").iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/nothing/runs")):
        with pytest.raises(UserError, match=r"^No run can be kept in .*: choose another folder\.$"):
            store.need_writable(place)


def test_what_the_system_refuses_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as refused:
        (tmp_path / "file" / "runs").mkdir()
    assert describe(refused.value).startswith("There is a file where a folder is needed")
    for code, says in ((errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.EROFS, "No permission")):
        assert says in describe(OSError(code, "no"))


def test_a_disk_that_fills_up_under_the_trajectory_is_a_full_disk(run, folder, monkeypatch):
    import safetensors.torch

    def full(tensors, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left") as refused:
        store.save_run(run.trace(), run.trajectory(), folder)
    assert "disk is full" in describe(refused.value)
    monkeypatch.undo()
    assert store.load_run(folder)[0] == run.trace(), "the older version is untouched"


def test_round_trip(run, folder):
    trace, embeddings = store.load_run(folder)
    assert trace == run.trace()
    assert torch.equal(embeddings, run.trajectory())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["one"]


def test_the_file_keeps_to_the_format(folder):
    raw = json.loads((folder / "trace.json").read_text())
    assert raw["schema_version"] == 1
    assert raw["created_at"].endswith("+00:00")
    for part, names in {
        "model": ["id", "source", "revision", "dtype", "device", "vocab_size", "hidden_size"],
        "problem": ["id", "question", "answer", "source"],
        "prompt": ["text", "token_ids"],
        "sampling": ["n", "temperature", "top_p", "max_new_tokens", "seed"],
        "split": ["rollout", "prefix_token_ids", "continuation_token_ids"],
        "anchor": ["text", "token_ids", "answer_span"],
        "config": ["steps", "step_rule", "step_size", "away_weight", "projection", "ban_answer_tokens"],
    }.items():
        assert set(names) <= set(raw[part]), part
    for name in ("token_ids", "text", "answer", "verdict"):
        assert all(name in rollout for rollout in raw["before"] + raw["after"])
    assert {item["start"] for item in raw["after"]} == {"revised", "projected", "original"}
    per_position = ["vertices", "nearest", "moved", "toward_grad_norm", "away_grad_norm", "grad_cosine"]
    for step in raw["steps"]:
        assert all(len(step[name]) == len(raw["split"]["prefix_token_ids"]) for name in per_position)
        assert {"k", "step_size", "toward_loss", "away_loss", "objective", "gap"} <= set(step)


def test_fields_of_a_newer_version_are_tolerated(folder):
    path = folder / "trace.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "something_new": 1}))
    assert isinstance(store.load_run(folder)[0], Trace)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda raw: {**raw, "schema_version": 99}, "schema version 99"),
        (lambda raw: {k: v for k, v in raw.items() if k != "problem"}, "damaged .problem"),
        (lambda raw: [raw], "schema version None"),
    ],
)
def test_foreign_and_damaged_traces_are_said(folder, damage, sentence):
    path = folder / "trace.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=sentence):
        store.load_run(folder)


def test_half_a_file_is_said(folder):
    for name, sentence in (("trajectory.safetensors", "missing or damaged"), ("trace.json", "not JSON")):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=sentence):
            store.load_run(folder)


def test_a_trajectory_of_another_run_is_said(run, folder):
    from safetensors.torch import save_file

    save_file({"embeddings": run.trajectory()[:2].contiguous()}, folder / "trajectory.safetensors")
    with pytest.raises(UserError, match="where the trace says"):
        store.load_run(folder)


def test_replacing_a_run_keeps_the_old_one_when_the_disk_is_full(run, folder, monkeypatch):
    before = (folder / "trace.json").read_bytes()

    def full(path, content):
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(OSError, match="No space"):
        store.save_run(run.trace(), run.trajectory(), folder)
    assert (folder / "trace.json").read_bytes() == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["one"]


def test_killed_between_the_two_renames_the_older_version_is_found(run, folder):
    folder.rename(folder.parent / ".one.old")
    assert store.load_run(folder)[0] == run.trace()


def test_a_run_that_was_never_there_is_not_waited_for(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(store.time, "sleep", waited.append)
    with pytest.raises(UserError, match="There is no run"):
        store.load_run(tmp_path / "never")
    assert len(waited) <= 2


def test_a_run_that_lies_aside_for_long_is_waited_for(run, folder, monkeypatch):
    """Whoever saves it was held up between the two renames, and this reader may not put the older one back."""
    rename, waited = Path.rename, []
    aside = folder.parent / ".one.old"
    rename(folder, aside)

    def refused(self, target):
        raise PermissionError

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 9:
            rename(aside, folder)

    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr(store.time, "sleep", sleep)
    assert store.load_run(folder)[0] == run.trace()
    assert len(waited) == 9


def test_a_run_without_a_split_has_no_trajectory(run, tmp_path):
    trace = run.trace().model_copy(update={"split": None, "anchor": None, "config": None, "steps": (), "after": ()})
    store.save_run(trace, None, tmp_path / "bare")
    assert store.load_run(tmp_path / "bare") == (trace, None)


def test_ids_stay_inside_their_folder(tmp_path, run):
    for bad in ("../x", "a/b", ".hidden", "", "a\x00b", "x" * 200):
        with pytest.raises(UserError):
            store.run_folder(tmp_path, bad)
    name = store.new_run_id(run.trace())
    assert store.run_folder(tmp_path, name) == tmp_path / name
    odd = run.trace().problem.model_copy(update={"id": "../../etc/passwd"})
    assert "/" not in store.new_run_id(run.trace().model_copy(update={"problem": odd}))


def test_zip_holds_the_folder_and_the_extras(folder, tmp_path):
    target = store.zip_run(folder, {"sft.jsonl": b"{}\n"}, tmp_path / "one.zip")
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == ["one/trace.json", "one/trajectory.safetensors", "sft.jsonl"]


def test_a_run_that_was_removed_is_no_zip(folder, tmp_path):
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="no longer on the disk") as refused:
        store.zip_run(folder, {"README.txt": b"hello"}, tmp_path / "one.zip")
    assert str(tmp_path) not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_looking_for_runs(folder, tmp_path):
    assert store.find_runs(folder) == [folder]
    assert store.find_runs(folder.parent) == [folder]
    with pytest.raises(UserError, match="There is no run"):
        store.find_runs(tmp_path / "nowhere")


def packed(run, folder, tmp_path):
    return store.zip_run(folder, {"README.txt": b"hello", "sft.jsonl": b"{}"}, tmp_path / "run.zip")


def test_a_run_comes_back_from_its_zip_or_its_files(run, folder, tmp_path):
    archive = packed(run, folder, tmp_path)
    for files in ([archive], [folder / "trace.json", folder / "trajectory.safetensors"]):
        brought = store.import_run(files, tmp_path / "elsewhere")
        trace, embeddings = store.load_run(brought)
        assert trace == run.trace()
        assert torch.equal(embeddings, run.trajectory())
        assert sorted(p.name for p in brought.iterdir()) == ["trace.json", "trajectory.safetensors"]
    alone = store.import_run([folder / "trace.json"], tmp_path / "elsewhere")
    assert [p.name for p in alone.iterdir()] == ["trace.json"]
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3


def test_a_zip_writes_nothing_but_the_run(run, folder, tmp_path):
    """Paths that climb out of the folder are read by no one."""
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("../../escaped.txt", "x")
        out.writestr("../run/trace.json", (folder / "trace.json").read_text())
        out.writestr("../run/trajectory.safetensors", (folder / "trajectory.safetensors").read_bytes())
    brought = store.import_run([archive], tmp_path / "in" / "runs")
    assert brought.parent == tmp_path / "in" / "runs"
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not (tmp_path / "in" / "run").exists()


def test_what_is_no_run_is_refused_in_a_sentence_without_a_path(folder, tmp_path, monkeypatch):
    other = tmp_path / "notes.zip"
    with zipfile.ZipFile(other, "w") as out:
        out.writestr("notes.txt", "x")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    damaged = tmp_path / "trace.json"
    damaged.write_text(json.dumps({**json.loads((folder / "trace.json").read_text()), "problem": 5}))
    for files, says in (
        ([other], "holds no run"),
        ([broken], "damaged or locked"),
        ([], "This is no run"),
        ([tmp_path / "picture.png"], "This is no run"),
        ([damaged], "damaged"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            store.import_run(files, tmp_path / "taken-in")
        assert "/tmp" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
    monkeypatch.setattr(store, "TRACE_BYTES", 1000)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("r/trace.json", b" " * 2000)
    for files in ([bomb], [folder / "trace.json"]):
        with pytest.raises(UserError, match="larger than it can be here"):
            store.import_run(files, tmp_path / "taken-in", 1)
    assert not list(tmp_path.glob("taken-in/*"))


def zipped(path, method=zipfile.ZIP_DEFLATED, **files):
    """A zip with a trace.json and a trajectory, or other content under these names."""
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in files.items():
            out.writestr(f"r/{name.replace('_', '.')}", content)
    return path


def test_a_small_zip_can_not_take_much_memory(run, folder, tmp_path):
    raw = json.loads((folder / "trace.json").read_text())
    many = json.dumps({**raw, "x": [[]] * 2 * store.TRACE_VALUES})
    with pytest.raises(UserError, match="more than 62,500 values"):
        store.import_run([zipped(tmp_path / "many.zip", trace_json=many)], tmp_path / "in", 2)
    large = bytes(store._trajectory_bytes(run.trace()) + 1)
    archive = zipped(tmp_path / "l.zip", trace_json=json.dumps(raw), trajectory_safetensors=large)
    (tmp_path / "trajectory.safetensors").write_bytes(large)
    for files in ([archive], [folder / "trace.json", tmp_path / "trajectory.safetensors"]):
        with pytest.raises(UserError, match=r"trajectory.safetensors .*larger than it can be"):
            store.import_run(files, tmp_path / "in")
    assert not list(tmp_path.glob("in/*"))


@pytest.mark.parametrize("count", [store.MAX_ZIP_ENTRIES + 1, 30_000])
def test_a_zip_of_many_files_is_refused_before_they_are_counted(tmp_path, count):
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for index in range(count):
            out.writestr(f"{index}", b"")
    with pytest.raises(UserError, match="more than 100 files"):
        store.import_run([archive], tmp_path / "in")


def test_one_run_at_a_time_is_taken_in(folder, tmp_path, monkeypatch):
    inside, most, take = [], [], store._take

    def slow(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return take(*args, **kwargs)

    monkeypatch.setattr(store, "_take", slow)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: store.import_run([folder / "trace.json"], tmp_path / "in"), range(3)))
    assert set(most) == {1}


def test_a_link_in_a_zip_is_not_followed(folder, tmp_path):
    link = zipfile.ZipInfo("r/trace.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as out:
        out.writestr(link, str(folder / "trace.json"))
    with pytest.raises(UserError, match="is a link"):
        store.import_run([tmp_path / "link.zip"], tmp_path / "in")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_to_gigabytes_before_it_can_be_counted_is_not_unpacked(folder, tmp_path, method):
    archive = zipped(tmp_path / "one.zip", method, trace_json=(folder / "trace.json").read_bytes())
    with pytest.raises(UserError, match="packed in an unusual way"):
        store.import_run([archive], tmp_path / "in")


def test_a_run_that_its_operator_keeps_on_another_disk_is_one(run, folder, tmp_path):
    root = tmp_path / "served"
    root.mkdir()
    (root / "out").symlink_to(folder, target_is_directory=True)
    assert store.load_run(store.run_folder(root, "out"))[0] == run.trace()


def test_numbers_that_no_file_can_hold_are_refused_and_leave_nothing(folder, tmp_path):
    raw = json.loads((folder / "trace.json").read_text())
    spoiled = []
    for value in (float("nan"), float("inf"), -float("inf")):
        spoiled.append(json.dumps({**raw, "steps": [{**raw["steps"][0], "toward_loss": value}, *raw["steps"][1:]]}))
    for token in (10**30, 2**31, -1):
        spoiled.append(json.dumps({**raw, "prompt": {**raw["prompt"], "token_ids": [token]}}))
    for text in spoiled:
        archive = zipped(tmp_path / "one.zip", trace_json=text)
        with pytest.raises(UserError, match=r"^trace.json is damaged \((steps.0.toward_loss|prompt.token_ids)"):
            store.import_run([archive], tmp_path / "in")
    assert not list(tmp_path.glob("in/*"))


def test_a_trajectory_of_no_numbers_is_said(run, folder):
    from safetensors.torch import save_file

    spoiled = run.trajectory()
    spoiled[1, 0, 0] = float("nan")
    save_file({"embeddings": spoiled}, folder / "trajectory.safetensors")
    with pytest.raises(UserError, match="not finite"):
        store.load_run(folder)


def test_what_can_not_be_read_again_is_not_kept(run, folder, tmp_path, monkeypatch):
    whole = store._write
    monkeypatch.setattr(store, "_write", lambda path, content: whole(path, content[:-100]))
    with pytest.raises(UserError, match=r"^trace.json is damaged"):
        store.import_run([folder / "trace.json"], tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())


def test_a_damaged_run_is_said_on_the_page_without_its_place(folder):
    opened = open_run("one", folder.parent)
    (folder / "trajectory.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match=r"^one/trajectory.safetensors is missing or damaged"):
        opened.trajectory()
    (folder / "trace.json").write_text("{")
    with pytest.raises(UserError, match=r"^one/trace.json is damaged"):
        open_run("one", folder.parent)


def test_the_first_of_a_million_errors_is_said_at_once(folder):
    path = folder / "trace.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "prompt": {**raw["prompt"], "token_ids": ["a"] * 10**6}}))
    with pytest.raises(UserError, match=r"prompt\.token_ids\.0") as said:
        store.load_run(folder, with_trajectory=False)
    assert said.value.__cause__.error_count() == 1, "all of them take a gigabyte"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.update(steps=t["steps"] * 200),
        lambda t: t["steps"][0]["vertices"].pop(),
        lambda t: t["steps"][1].update(k=7),
        lambda t: t["steps"][1].update(step_size=1.5),
        lambda t: t["split"].update(rollout=99),
        lambda t: t["split"]["prefix_token_ids"].append(3),
        lambda t: t["anchor"].update(answer_span=[0, 99]),
        lambda t: t["after"][0].update(step=50),
        lambda t: t.update(config=None),
    ],
)
def test_a_record_that_does_not_hold_together_is_refused(folder, spoil):
    path = folder / "trace.json"
    raw = json.loads(path.read_text())
    spoil(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="damaged"):
        store.load_run(folder, with_trajectory=False)
