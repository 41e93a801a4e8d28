"""House rules that no reviewer should have to remember: who may import what, and nothing of this machine in any file.

Imports are read from the source (also those inside functions), so a rule holds for code that no test runs.
"""

from __future__ import annotations

import ast
import lzma
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("*.py"), *(ROOT / "explorer").rglob("*.py")])


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, in full; `from a import b` names a and a.b."""
    found = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found.update(arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))
    return found


IMPORTS = {path.relative_to(ROOT).as_posix(): imports(path) for path in SOURCES}


def importers(*modules: str) -> set[str]:
    """Files that import one of these modules or something inside it."""
    return {
        name
        for name, found in IMPORTS.items()
        if any(one == module or one.startswith(module + ".") for one in found for module in modules)
    }


def outside(names: set[str], *allowed: str) -> set[str]:
    """Those that are none of the allowed files, nor in an allowed folder (which ends in a slash)."""
    return {name for name in names if not any(name == a or (a.endswith("/") and name.startswith(a)) for a in allowed)}


def test_imports_are_found_wherever_they_stand():
    """The walk itself: no rule below is kept because nothing was looked at."""
    assert {"app.py", "explorer/model.py", "explorer/ui/work.py"} <= set(IMPORTS)
    assert "explorer.settings.read_settings" in IMPORTS["app.py"]  # stands inside a function
    assert "explorer/model.py" in importers("transformers")
    assert "explorer/ui/app.py" in importers("gradio")
    assert "explorer/views/vocabulary_map.py" in importers("umap")
    assert "explorer/ui/work.py" in importers("explorer.views")


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (("gradio", "gradio_client"), ("app.py", "explorer/ui/")),
        (("starlette", "fastapi", "uvicorn"), ("explorer/ui/",)),
        # The benchmark's reference is independent of ours, so it can't go through our model.
        # Training takes the network itself: what is frozen learns nothing.
        (
            ("transformers",),
            ("explorer/model.py", "explorer/sources.py", "explorer/bench_reference.py", "explorer/training/"),
        ),
        (("huggingface_hub", "gguf", "accelerate"), ("explorer/sources.py",)),
        (("plotly", "umap", "sklearn", "numba", "scipy"), ("explorer/views/",)),
        (("trl", "peft"), ("explorer/training/",)),
        (("math_verify", "sympy", "latex2sympy2_extended"), ("explorer/verdict.py", "explorer/answer.py")),
        (("typer", "click"), ("explorer/cli.py", "explorer/cli_training.py", "explorer/__main__.py")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_only_these_files_import(modules, allowed):
    assert outside(importers(*modules), *allowed) == set()


def test_a_page_trains_in_other_processes_only():
    """The page plans and watches; what trains is a command of its own."""
    names = ("sft", "dpo", "grpo", "sampler", "zero_variance", "watch", "weights")
    heavy = {f"explorer/training/{name}.py" for name in names}
    assert importers("trl", "peft") <= heavy
    modules = [name.removesuffix(".py").replace("/", ".") for name in sorted(heavy)]
    assert importers(*modules) & {name for name in IMPORTS if name.startswith("explorer/ui/")} == set()


def test_what_watches_a_training_is_light():
    """`folder.py` is read by the page once a second, also where nothing else of training is ever loaded."""
    assert importers("torch") & {"explorer/training/folder.py", "explorer/training/request.py"} == set()


def ours(name: str) -> set[str]:
    return {one for one in IMPORTS[name] if one == "explorer" or one.startswith("explorer.")}


@pytest.mark.parametrize("name", ["frank_wolfe", "records", "errors", "statistics", "fingerprint", "bench_reference"])
def test_these_import_nothing_of_ours(name):
    assert ours(f"explorer/{name}.py") == set()


def test_the_solver_knows_no_library_but_torch():
    standard = {"__future__", "math", "collections", "dataclasses", "enum", "typing"}
    assert {one.split(".")[0] for one in IMPORTS["explorer/frank_wolfe.py"]} - standard == {"torch"}


def test_the_core_does_not_know_that_a_screen_exists():
    core = {
        name
        for name in IMPORTS
        if name.startswith("explorer/") and not name.startswith(("explorer/ui/", "explorer/views/"))
    }
    # The benchmark weighs the page's process and reads the map as the page does.
    assert outside(importers("explorer.ui", "explorer.views") & core, "explorer/bench_process.py") == set()


def test_views_know_no_screen_and_run_no_model():
    views = {name for name in IMPORTS if name.startswith("explorer/views/")}
    assert importers("explorer.ui", "explorer.pipeline", "explorer.model", "explorer.store") & views == set()


def test_stages_do_not_call_the_pipeline():
    assert (
        outside(
            importers("explorer.pipeline"),
            "explorer/cli.py",
            "explorer/audit.py",
            "explorer/audit_controls.py",
            "explorer/auditing.py",
            "explorer/bench_process.py",
            "explorer/hunt.py",
            "explorer/hunting.py",
            "explorer/leaks.py",
            "explorer/recording.py",
            "explorer/study.py",
            "explorer/training/evaluate.py",
            "explorer/ui/",
        )
        == set()
    )


def test_tokens_are_scored_in_one_place():
    """`model.py` is the seam: who else takes the weights apart could not be given a fake."""
    assert (
        outside(
            importers("safetensors"), "explorer/store.py", "explorer/sources.py", "explorer/views/vocabulary_map.py"
        )
        == set()
    )


# ---- no trace of the machine that it was written on ----

MACHINE = re.compile(
    r"""(?<![\w.~-])(?:/(?:home|root|Users|work|mnt|opt|private|workspace)/[\w.-]+|[A-Za-z]:\\(?:Users|work)\\|/tmp/[\w-]{3,})"""
)


def project_files() -> list[Path]:
    """What git tracks, and what it would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        return sorted({ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()})
    # A copy without .git: everything but hidden folders and environments.
    return sorted(
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not any(part.startswith(".") and part != ".ci" for part in path.relative_to(ROOT).parts)
    )


def test_no_file_names_a_path_of_some_machine():
    found = []
    for path in project_files():
        if path.suffix in (".bin", ".png", ".woff2", ".pyc", ".safetensors") or path == Path(__file__).resolve():
            continue
        if path.parent.parent == ROOT / "assets" / "maps":
            continue  # token texts of a vocabulary: whatever the model's makers put there
        # What is packed is looked at unpacked: names and texts stand in a tar as they are.
        text = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        for number, line in enumerate(text.decode("utf-8").splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


def test_the_search_for_machine_paths_finds_them():
    for line in ('x = "/home/ada/models"', "cd /work/main", "C:\\Users\\ada", "see /tmp/run-7/x", "`/root/.cache`"):
        assert MACHINE.search(line), line
    for line in ("https://example.org/home/page", "lr/assets/work/x", "~/models", "a/tmp/b", "/lr/map/{key}"):
        assert not MACHINE.search(line), line
