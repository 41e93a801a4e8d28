"""The front matter of a Space: ours holds, and each kind of defect is found and said in one sentence."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from explorer import space
from explorer.errors import UserError
from explorer.ui import session
from explorer.ui.app import build

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tested(monkeypatch):
    """The gradio that this README was written with: a newer one that pip brings is for its author to look at."""
    sdk = space.front_matter((ROOT / "README.md").read_text(encoding="utf-8"))["sdk_version"]
    monkeypatch.setattr(space, "installed", lambda name: Version(sdk))


@pytest.fixture
def copy(tmp_path, tested) -> Path:
    """The files that the check reads, in a folder of their own."""
    for name in ("README.md", "requirements.txt", "pyproject.toml", "LICENSE", "app.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def changed(root: Path, old: str, new: str, file: str = "README.md") -> list[str]:
    """What is found after one change."""
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return space.findings(root)


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def test_this_repository_would_do(tested):
    assert space.findings(ROOT) == []


def test_the_copy_that_the_other_tests_change_would_do_too(copy):
    assert space.findings(copy) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("title:", "titel:", "title is missing: a Space needs it."),
        ("title:", "titel:", "The hub's reference has no key titel: correct its name or remove it."),
        ('python_version: "3.12"', "python_version: 3.12", "python_version can't be 3.12: write text, in quotes."),
        ("fullWidth: true", 'fullWidth: "yes"', "fullWidth can't be 'yes': write true or false."),
        ("fullWidth: true", "app_port: true", "app_port can't be True: write a whole number."),
        ("  - reasoning\n", "  - 7\n", "tags can't be [7, 'latent-space'"),
        ("fullWidth: true", "custom_headers: none", "custom_headers can't be 'none': write a mapping."),
        ("colorFrom: indigo", "colorFrom: teal", "colorFrom can't be teal: choose red, yellow, green,"),
        ("colorTo: blue", "colorTo: Blue", "colorTo can't be Blue: choose red,"),
        ("sdk: gradio", "sdk: streamlit", "sdk can't be streamlit: choose gradio."),
        ("cpu-basic", "cpu-huge", "suggested_hardware can't be cpu-huge: choose cpu-basic, cpu-upgrade, zero-a10g,"),
        ("header: mini", "header: none", "header can't be none: choose mini or default."),
        ("emoji: 🧭", "emoji: compass", "emoji can't be 'compass': write one emoji."),
        (
            "short_description: ",
            "short_description: A long long time ",
            "short_description has 69 characters: the hub takes at most 60.",
        ),
        ("header: mini", "startup_duration_timeout: soon", "startup_duration_timeout can't be 'soon': write it"),
        ('sdk_version: "6.31.0"', "sdk_version: latest", "sdk_version can't be 'latest': write numbers and dots."),
        ('sdk_version: "6.31.0"', 'sdk_version: "7.0.0"', "sdk_version 7.0.0 is outside requirements.txt (gradio<7,>="),
        ('sdk_version: "6.31.0"', 'sdk_version: "6.30.2"', "sdk_version 6.30.2 is older than the gradio 6.31.0 that"),
        ('"3.12"', '"3.10"', "python_version 3.10 does not do for this project, which needs >=3.11: choose another."),
        ('"3.12"', '"3.10"', "python_version 3.10 does not do for transformers, which needs >=3.11.0: choose another."),
        ('"3.12"', '"3.15"', "python_version 3.15 does not do for spaces, which needs >=3.10,<3.15: choose another."),
        ('"3.12"', '"3.11"', "python_version 3.11 is not there on ZeroGPU: choose 3.10 or 3.12."),
        (
            "app_file: app.py",
            "app_file: main.py",
            "app_file main.py does not exist: name the file that starts the page.",
        ),
        (
            "models:\n  - HuggingFaceTB/SmolLM2-135M-Instruct",
            "models:\n  - Qwen/Qwen3-0.6B",
            "models does not name the default model: add HuggingFaceTB/SmolLM2-135M-Instruct.",
        ),
        (
            "models:\n  - HuggingFaceTB/SmolLM2-135M-Instruct",
            "models:\n  - Qwen/Qwen3-0.6B",
            "preload_from_hub names HuggingFaceTB/SmolLM2-135M-Instruct, which models does not: name it there too.",
        ),
        ("config.json,model", "config.json, model", "preload_from_hub can't be 'HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("license: apache-2.0", "license: mit", "license is mit, and LICENSE is not: let them agree."),
    ],
)
def test_each_kind_of_defect_is_found(copy, old, new, sentence):
    found = changed(copy, old, new)
    assert any(one.startswith(sentence) for one in found), found


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("pydantic>=2.13", "requirements.txt asks for pydantic>=2.13, gradio[mcp] for pydantic<=2.12.5,>=2.11.10"),
        ("requests<2.19", "requirements.txt asks for requests<2.19, spaces for requests<3,>=2.19"),
        ("uvicorn==0.13.*", "requirements.txt asks for uvicorn==0.13.*, the Space for uvicorn>=0.14.0"),
        ("huggingface-hub<1", "requirements.txt asks for huggingface-hub<1, gradio for huggingface-hub<3.0,>="),
        ("torch>=2.14", "requirements.txt asks for torch>=2.14, and ZeroGPU has 2.8.0, 2.9.1,"),
        ("torch==2.12.0", "requirements.txt asks for torch==2.12.0, and ZeroGPU has 2.8.0, 2.9.1,"),
    ],
)
def test_what_a_space_could_not_install_is_found(copy, line, sentence):
    found = changed(copy, "# the model\n", f"# the model\n{line}\n", "requirements.txt")
    assert any(one.startswith(sentence) for one in found), found


def test_a_licence_that_is_another_is_found(copy):
    found = changed(copy, "Apache License", "MIT License", "LICENSE")
    assert found == ["license is apache-2.0, and LICENSE is not: let them agree."]


@pytest.mark.parametrize("repository", [True, False], ids=["git", "a plain copy"])
def test_large_files_and_links_are_found(copy, repository):
    (copy / "weights.bin").write_bytes(b"\0" * 10_000_001)
    (copy / "small.bin").write_bytes(b"\0" * 10_000_000)
    (copy / "link").symlink_to("app.py")
    (copy / "folder").symlink_to(copy)
    if repository:
        git(copy, "init", "--quiet")
        assert space.findings(copy) == []  # nothing is tracked yet
        git(copy, "add", ".")
    assert space.findings(copy) == [
        "folder is a symbolic link, which an upload does not keep: put the file itself there.",
        "link is a symbolic link, which an upload does not keep: put the file itself there.",
        "weights.bin has 10 MB: the hub takes files of more than 10 MB only by LFS or Xet.",
    ]
    if repository:
        (copy / ".gitattributes").write_text("*.bin filter=lfs\n")
        assert len(space.findings(copy)) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# A title\n", "README.md has no front matter: begin it with a block between two lines of three dashes."),
        ("---\ntitle: a: b\n---\n", "The front matter of README.md is no YAML (line 2): correct it."),
        ("---\njust words\n---\n", "The front matter of README.md holds no settings: write them as `title: …`, one a"),
    ],
)
def test_what_can_not_be_read_is_said_in_a_sentence(text, sentence):
    with pytest.raises(UserError) as caught:
        space.front_matter(text)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("ours", "theirs", "possible"),
    [
        (">=2.11,<3", "<=2.12.5,>=2.11.10", True),
        (">=2.13,<3", "<=2.12.5,>=2.11.10", False),
        (">2.12.5", "<=2.12.5", False),
        (">2.12.4", "<=2.12.5", True),
        (">1,<1.5", ">1", True),
        ("", "==3.*", True),
        ("<4", "<3", True),
        ("~=3.1", "<3.1", False),
    ],
)
def test_ranges_that_meet(ours, theirs, possible):
    assert space.meet(SpecifierSet(ours), SpecifierSet(theirs)) is possible
    assert space.meet(SpecifierSet(theirs), SpecifierSet(ours)) is possible


def test_the_command_ends_with_2_if_anything_was_found(copy, monkeypatch, capsys):
    monkeypatch.setattr(space, "ROOT", copy)
    assert space.main() == 0
    assert capsys.readouterr().out.startswith("Ready for a Space")
    changed(copy, "license: apache-2.0", "license: mit")
    assert space.main() == 2
    assert capsys.readouterr().out == "license is mit, and LICENSE is not: let them agree.\n"
    (copy / "README.md").write_text("# A title\n")
    assert space.main() == 2


# -- what gradio does differently in a Space -----------------------------------------------------------


def test_in_a_space_the_page_is_still_ours(monkeypatch, tmp_path):
    """Spaces ask for rendering by Node; Gradio's script would ask another host for a banner; anybody could read what
    is called."""
    from explorer.settings import read_settings

    for name, value in {"SYSTEM": "spaces", "SPACE_ID": "someone/explorer", "GRADIO_SSR_MODE": "true"}.items():
        monkeypatch.setenv(name, value)
    demo, launch, page = build(read_settings(cache_dir=tmp_path, runs_dir=tmp_path / "runs"))
    try:
        assert page.host.settings.public
        assert demo.get_config_file()["space_id"] is None
        assert demo._resolve_ssr_mode(launch["ssr_mode"]) is False
        assert launch["enable_monitoring"] is False
    finally:
        page.host.close()
        page.sessions.close()
        page.work.thread.close()
        page.work.judge.close()


def test_a_page_that_rests_says_often_enough_that_it_is_still_there(tmp_path):
    import gradio as gr

    from explorer.settings import read_settings

    demo, _, page = build(read_settings(cache_dir=tmp_path, runs_dir=tmp_path / "runs"))
    try:
        timers = [block for block in demo.blocks.values() if isinstance(block, gr.Timer) and block.value > 60]
        (rest,) = timers
        assert rest.active
        assert rest.value < session.IDLE_LIMIT_S / 2
        (heard,) = [fn for fn in demo.fns.values() if (rest._id, "tick") in fn.targets]
        resting = page.sessions.of("resting")
        resting.touched -= session.IDLE_LIMIT_S + 1
        heard.fn(SimpleNamespace(session_hash="resting"))
        page.sessions.of("another")
        assert page.sessions.of("resting") is resting
    finally:
        page.host.close()
        page.sessions.close()
        page.work.thread.close()
        page.work.judge.close()
