"""Would this repository do as a Hugging Face Space? `python -m explorer.space` holds the front matter of README.md
against the hub's reference, the installed packages and the files that git tracks: one sentence per finding, exit code 2
if there is any.

A Space with the Gradio SDK installs requirements.txt together with `gradio[oauth,mcp]==<sdk_version>`, uvicorn,
websockets and the package `spaces`, in one call of pip: ranges that exclude each other end the build. On ZeroGPU only
some versions of torch and Python are there.

Sources: the hub's "Spaces Configuration Reference" and "Spaces ZeroGPU" (torch 2.12.1 and 2.13.0 were added on
2026-09-04); the package `spaces` 0.51.3; what the hub answers to pushes: `short_description` has at most 60 characters,
files of more than 10 MB need LFS.

What it does not do: ask the hub anything (whether a model or a file to preload exists there), install, or upload.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from explorer.errors import UserError
from explorer.sources import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parents[1]

KINDS: dict[str, type] = {
    "title": str,
    "emoji": str,
    "colorFrom": str,
    "colorTo": str,
    "sdk": str,
    "python_version": str,
    "sdk_version": str,
    "suggested_hardware": str,
    "suggested_storage": str,
    "app_file": str,
    "app_build_command": str,
    "app_port": int,
    "base_path": str,
    "fullWidth": bool,
    "header": str,
    "short_description": str,
    "license": str,
    "models": list,
    "datasets": list,
    "tags": list,
    "thumbnail": str,
    "pinned": bool,
    "hf_oauth": bool,
    "hf_oauth_scopes": list,
    "hf_oauth_expiration_minutes": int,
    "hf_oauth_authorized_org": object,  # a text, or a list of them
    "disable_embedding": bool,
    "startup_duration_timeout": str,
    "custom_headers": dict,
    "preload_from_hub": list,
}
WORDS = {
    str: "text, in quotes",
    bool: "true or false",
    int: "a whole number",
    list: "a list of texts",
    dict: "a mapping",
}
NEEDED = (
    "title",
    "emoji",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "license",
    "models",
    "short_description",
)

COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
HARDWARE = (
    *("cpu-basic", "cpu-upgrade", "zero-a10g", "t4-small", "t4-medium", "l4x1", "l4x4", "l40sx1", "l40sx4", "l40sx8"),
    *("a10g-small", "a10g-large", "a10g-largex2", "a10g-largex4", "a100-large", "a100x4", "a100x8"),
    *("rtx-pro-6000", "rtx-pro-6000x2", "rtx-pro-6000x4", "rtx-pro-6000x8"),
)
CHOICES = {
    "colorFrom": COLOURS,
    "colorTo": COLOURS,
    "sdk": ("gradio",),
    "suggested_hardware": HARDWARE,
    "suggested_storage": ("small", "medium", "large"),
    "header": ("mini", "default"),
}
SHORT = 60  # characters
LARGE_MB = 10

# What a Space installs beside requirements.txt, and what `spaces` 0.51.3 asks for.
BESIDE = ("gradio[oauth,mcp]=={sdk_version}", "uvicorn>=0.14.0", "websockets>=10.4")
SPACES = ("typing-extensions>=4,<5", "requests>=2.19,<3", "pydantic>=1,<3", "httpx>=0.20")
SPACES_PYTHON = ">=3.10,<3.15"
ZERO_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0")
ZERO_PYTHON = ("3.10", "3.12")


def front_matter(text: str) -> dict[str, Any]:
    """The settings at the top of a README. Raises `UserError` where there are none, or none that can be read."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        raise UserError("README.md has no front matter: begin it with a block between two lines of three dashes.")
    try:
        found = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 2
        raise UserError(f"The front matter of README.md is no YAML (line {line}): correct it.") from error
    if not isinstance(found, dict):
        raise UserError("The front matter of README.md holds no settings: write them as `title: …`, one a line.")
    return found


def requirements(text: str) -> list[Requirement]:
    """The lines of a requirements.txt, without comments."""
    lines = (re.split(r"(?:^|\s)#", line)[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def findings(root: Path) -> list[str]:
    """What would keep the repository in `root` from running as a Space, a sentence each. Raises `UserError` for a
    README without readable front matter."""
    config = front_matter((root / "README.md").read_text(encoding="utf-8"))
    needs = requirements((root / "requirements.txt").read_text(encoding="utf-8"))
    found = list(_values(config))
    # What follows reads these; of one that is missing or of another kind enough has been said.
    sound = {key: value for key, value in config.items() if _is_kind(key, value)}
    found += _gradio(sound, needs)
    found += _python(sound, needs, root)
    found += _contradictions(sound, needs)
    found += _contents(sound, root)
    found += _files(root)
    return found


def _is_kind(key: str, value: Any) -> bool:
    kind = KINDS.get(key)
    if kind is None or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return False
    return kind is not list or all(isinstance(one, str) for one in value)


def _values(config: dict[str, Any]) -> Iterator[str]:
    """Keys and values by themselves."""
    for key in NEEDED:
        if key not in config:
            yield f"{key} is missing: a Space needs it."
    for key, value in config.items():
        if key not in KINDS:
            yield f"The hub's reference has no key {key}: correct its name or remove it."
        elif not _is_kind(key, value):
            yield f"{key} can't be {value!r}: write {WORDS[KINDS[key]]}."
        elif key in CHOICES and value not in CHOICES[key]:
            yield f"{key} can't be {value}: choose {_either(CHOICES[key])}."
    if _is_kind("emoji", emoji := config.get("emoji")) and not re.fullmatch(r"[^\w\s]+", emoji):
        yield f"emoji can't be {emoji!r}: write one emoji."
    if _is_kind("short_description", short := config.get("short_description")) and len(short) > SHORT:
        yield f"short_description has {len(short)} characters: the hub takes at most {SHORT}."
    if _is_kind("startup_duration_timeout", limit := config.get("startup_duration_timeout")) and not re.fullmatch(
        r"\d+\s?[smhd]", limit
    ):
        yield f"startup_duration_timeout can't be {limit!r}: write it like 30m or 1h."
    for key in ("sdk_version", "python_version"):
        if _is_kind(key, value := config.get(key)) and _version(value) is None:
            yield f"{key} can't be {value!r}: write numbers and dots."


def _gradio(config: dict[str, Any], needs: list[Requirement]) -> Iterator[str]:
    """sdk_version against requirements.txt and against the gradio that the tests run with."""
    sdk = _version(config.get("sdk_version", ""))
    if sdk is None:
        return
    for need in needs:
        if canonicalize_name(need.name) == "gradio" and sdk not in need.specifier:
            yield f"sdk_version {sdk} is outside requirements.txt ({need}): let one follow the other."
    tested = installed("gradio")
    if tested is not None and sdk.release[:2] < tested.release[:2]:
        yield f"sdk_version {sdk} is older than the gradio {tested} that is tested here: raise it."


def _python(config: dict[str, Any], needs: list[Requirement], root: Path) -> Iterator[str]:
    """python_version against our own minimum, every installed requirement, `spaces` and ZeroGPU."""
    text = config.get("python_version", "")
    if _version(text) is None:
        return
    # The hub takes a version without a last number as its newest.
    python = Version(text if text.count(".") > 1 else f"{text}.99")
    target = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["target-version"]
    ours = ">=" + re.sub(r"py(\d)(\d+)", r"\1.\2", target)
    limits = {"this project": ours, "spaces": SPACES_PYTHON, **_python_limits(needs, config, python)}
    for name, limit in limits.items():
        if python not in SpecifierSet(limit):
            yield f"python_version {text} does not do for {name}, which needs {limit}: choose another."
    if ".".join(text.split(".")[:2]) not in ZERO_PYTHON:
        yield f"python_version {text} is not there on ZeroGPU: choose {_either(ZERO_PYTHON)}."


def _python_limits(needs: list[Requirement], config: dict[str, Any], python: Version) -> dict[str, str]:
    """Requires-Python of all that is installed for the requirements, and for theirs, by name."""
    known: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    there = default_environment() | {
        "python_version": f"{python.major}.{python.minor}",
        "python_full_version": str(python),
    }
    left = [*needs, *_beside(config)]
    while left:
        need = left.pop()
        for extra in ("", *sorted(need.extras)):
            name = canonicalize_name(need.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                package = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # of another system, or of a Space only
            if limit := package.metadata.get("Requires-Python"):
                known[name] = limit
            for line in package.requires or ():
                further = Requirement(line)
                if further.marker is None or further.marker.evaluate(there | {"extra": extra}):
                    left.append(further)
    return known


def _contradictions(config: dict[str, Any], needs: list[Requirement]) -> Iterator[str]:
    """Ranges of requirements.txt that exclude what a Space installs."""
    theirs = [("spaces", Requirement(line)) for line in SPACES]
    theirs += [("the Space", need) for need in _beside(config)]
    try:
        gradio = importlib.metadata.requires("gradio") or []
    except importlib.metadata.PackageNotFoundError:
        gradio = []
    for need in map(Requirement, gradio):
        for extra in ("", "oauth", "mcp"):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                theirs.append((f"gradio[{extra}]" if extra else "gradio", need))
    for ours in needs:
        name = canonicalize_name(ours.name)
        if name == "gradio":
            continue  # `_gradio` says it better
        for who, their in theirs:
            if canonicalize_name(their.name) == name and not meet(ours.specifier, their.specifier):
                yield f"requirements.txt asks for {ours}, {who} for {their}: no version is both, so widen ours."
                break
        if name == "torch" and not any(version in ours.specifier for version in ZERO_TORCH):
            yield f"requirements.txt asks for {ours}, and ZeroGPU has {_either(ZERO_TORCH)}: widen the range."


def meet(ours: SpecifierSet, theirs: SpecifierSet) -> bool:
    """Whether some version is in both ranges. A range begins at a version that it names, just above one, or at 0."""
    named = {Version(one.version.removesuffix(".*")) for one in [*ours, *theirs]}
    above = {Version(f"{one.base_version}.1") for one in named}
    return any(one in ours and one in theirs for one in {Version("0"), *named, *above})


def _contents(config: dict[str, Any], root: Path) -> Iterator[str]:
    """What the front matter says of the repository."""
    app = config.get("app_file")
    if app is not None and not (root / app).is_file():
        yield f"app_file {app} does not exist: name the file that starts the page."
    models = config.get("models")
    if models is not None and DEFAULT_MODEL not in models:
        yield f"models does not name the default model: add {DEFAULT_MODEL}."
    for line in config.get("preload_from_hub", ()):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(?: [^\s,]+(?:,[^\s,]+)*(?: [0-9a-f]{40})?)?", line):
            yield f"preload_from_hub can't be {line!r}: write a repository, its files between commas, a commit."
        elif line.split()[0] not in config.get("models", ()):
            yield f"preload_from_hub names {line.split()[0]}, which models does not: name it there too."
    licence = config.get("license")
    text = (root / "LICENSE").read_text(encoding="utf-8")
    if licence is not None and (licence == "apache-2.0") != bool(re.search(r"Apache License\s+Version 2\.0", text)):
        yield f"license is {licence}, and LICENSE is not: let them agree."


def _files(root: Path) -> Iterator[str]:
    """What the hub would refuse, or a Space could not follow."""
    for path in tracked(root):
        name = path.relative_to(root)
        if path.is_symlink():
            yield f"{name} is a symbolic link, which an upload does not keep: put the file itself there."
        elif path.is_file() and path.stat().st_size > LARGE_MB * 1_000_000 and not _in_lfs(root, name):
            size = path.stat().st_size / 1e6
            yield f"{name} has {size:.0f} MB: the hub takes files of more than {LARGE_MB} MB only by LFS or Xet."


def tracked(root: Path) -> list[Path]:
    """The files that git tracks; in a copy without .git all but hidden ones."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    if listed.returncode == 0:
        return [root / name for name in listed.stdout.decode().split("\0") if name]
    return sorted(
        path
        for path in root.rglob("*")
        if (path.is_symlink() or not path.is_dir())
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def _in_lfs(root: Path, name: Path) -> bool:
    said = subprocess.run(
        ["git", "check-attr", "filter", "--", str(name)], cwd=root, capture_output=True, text=True, check=False
    )
    return said.stdout.strip().endswith(": lfs")


def installed(name: str) -> Version | None:
    """The version of a package in this environment, or None."""
    try:
        return Version(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return None


def _beside(config: dict[str, Any]) -> list[Requirement]:
    sdk = config.get("sdk_version", "")
    return [Requirement(line.format(sdk_version=sdk)) for line in BESIDE if _version(sdk) or "{" not in line]


def _version(text: str) -> Version | None:
    try:
        return Version(text) if re.fullmatch(r"[\d.]+", text) else None
    except InvalidVersion:
        return None


def _either(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else choices[0]


def main() -> int:
    """Print the findings, or that there are none."""
    try:
        found = findings(ROOT)
    except (UserError, OSError) as error:
        found = [str(error)]
    for sentence in found:
        print(sentence)
    if not found:
        # `git push` would be refused: the hub takes binary files of any size only by LFS or Xet.
        print("Ready for a Space; from a clean clone: hf upload NAME/SPACE . --repo-type space")
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main())
