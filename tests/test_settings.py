"""Settings: what the environment and the command line may say, and the one sentence for what they may not."""

from pathlib import Path

import pytest

from explorer.errors import UserError
from explorer.settings import PREFIX, Settings, read_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_defaults_need_nothing():
    settings = read_settings()
    assert (settings.model, settings.dtype, settings.device) == ("default", "auto", "auto")
    assert not settings.allow_remote_code
    assert not settings.offline
    assert settings.cache_dir.is_absolute()
    assert settings.runs_dir == Path("runs")


def test_argument_beats_environment_beats_default(monkeypatch):
    monkeypatch.setenv("LATENTREVISE_MODEL", "some/model")
    monkeypatch.setenv("LATENTREVISE_DEVICE", "CUDA:1")
    monkeypatch.setenv("LATENTREVISE_OFFLINE", "1")
    assert read_settings().model == "some/model"
    assert read_settings().device == "cuda:1"
    assert read_settings().offline
    assert read_settings(model="other/model", device=None).model == "other/model"
    assert read_settings(model="other/model", device=None).device == "cuda:1"


def test_home_is_expanded_and_empty_variables_count_as_unset(monkeypatch):
    monkeypatch.setenv("LATENTREVISE_CACHE_DIR", "~/weights")
    monkeypatch.setenv("LATENTREVISE_DTYPE", "")
    assert read_settings().cache_dir == Path.home() / "weights"
    assert read_settings().dtype == "auto"


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", "gpu0"), ("device", "cuda:x"), ("dtype", "int3"), ("model", "  "), ("offline", "perhaps")],
)
def test_bad_value_is_one_sentence_naming_the_setting(monkeypatch, name, value):
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(UserError) as caught:
        read_settings()
    sentence = str(caught.value)
    assert PREFIX + name.upper() in sentence
    assert repr(value) in sentence
    assert "\n" not in sentence


def test_bad_argument_is_the_same_sentence():
    with pytest.raises(UserError, match="--dtype"):
        read_settings(dtype="int3")


def test_a_space_is_public_and_loads_its_own_models_only(monkeypatch):
    assert read_settings().refusal("some/model") == ""
    monkeypatch.setenv("SPACE_ID", "me/explorer")
    settings = read_settings(models="Qwen/Qwen2.5-0.5B-Instruct, other/one")
    assert settings.public
    assert settings.refusal("default") == settings.refusal("other/one") == ""
    for name in ("/etc", "some/model", "../x", "Qwen/Qwen2.5-0.5B-Instruct/"):
        assert "loads only default, Qwen/Qwen2.5-0.5B-Instruct, other/one" in settings.refusal(name)
    with pytest.raises(UserError, match="does not start hunts"):
        settings.need_private("start hunts")
    read_settings(public=False).need_private("start hunts")


def test_a_password_is_never_written_out(monkeypatch):
    monkeypatch.setenv("LATENTREVISE_PASSWORD", "swordfish")
    settings = read_settings()
    assert settings.password.get_secret_value() == "swordfish"
    assert "swordfish" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())
