"""Measurements that need a process of their own: peak memory can't be told apart in a process that has done other work,
and the page's start is a start.

`python -m explorer.bench_process memory|loop …` is the child; it prints one JSON line. The functions without "child" in
their name start one and wait for it.

What it does not do: compare with anything; `bench_rows.py` sets the figures beside their targets.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from explorer.child import Child, end_with_parent, memory, parse, python_module, say
from explorer.errors import UserError

STARTS_WITHIN_S = 120.0


# -- in the parent ---------------------------------------------------------------------------------


def answer_of(arguments: Sequence[str], limit_s: float = 1_800.0) -> dict:
    """Run this module as a child and give its result.

    Raises:
        UserError: it failed, or took longer than `limit_s` seconds.
    """
    child = Child(python_module("explorer.bench_process", *arguments))
    try:
        if not child.wait(limit_s):
            raise UserError(f"The measuring process did not end within {limit_s:,.0f} s.")
        heard: dict = {}
        for line in child.new_lines():
            heard |= parse(line)
        if "result" not in heard:
            last = child.error_text().strip().splitlines()
            raise UserError(heard.get("error") or (last[-1] if last else "The measuring process said nothing."))
        return heard["result"]
    finally:
        child.stop()


def page_start_s() -> float:
    """Seconds from starting `python app.py` to the whole page in hand.

    Raises:
        UserError: it ended, or gave no page within two minutes.
    """
    with socket.socket() as free, tempfile.TemporaryDirectory() as runs:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        # No proxy stands between a machine and itself.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        begun = time.perf_counter()
        address = ["--host", "127.0.0.1", "--port", str(port)]
        child = Child([sys.executable, "app.py", *address, "--runs-dir", runs])
        try:
            while time.perf_counter() - begun < STARTS_WITHIN_S:
                with contextlib.suppress(OSError, urllib.error.URLError):
                    with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as page:
                        whole = page.status == 200 and bool(page.read())
                    if whole:
                        return time.perf_counter() - begun
                if not child.running:
                    last = child.error_text().strip().splitlines()
                    raise UserError(f"The page did not start: {last[-1] if last else 'it ended without a word'}")
                time.sleep(0.02)
            raise UserError(f"The page did not come within {STARTS_WITHIN_S:.0f} s.")
        finally:
            child.stop()


def read_map() -> tuple[int, int]:
    """Read the default model's vocabulary map as the page does, files to arrays: (tokens, bytes).

    Raises:
        UserError: no map of it comes with the app.
    """
    import numpy as np

    from explorer.sources import DEFAULT_MODEL
    from explorer.views.vocabulary_map import SHIPPED, map_folder

    for meta in sorted(SHIPPED.glob("*/meta.json")):
        if json.loads(meta.read_text(encoding="utf-8"))["model_id"] != DEFAULT_MODEL:
            continue
        folder = map_folder(meta.parent.name, SHIPPED.parent)
        if folder is not None:
            coords = np.fromfile(folder / "coords.bin", dtype="<f4").reshape(-1, 2)
            tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
            if len(tokens) != len(coords):
                raise UserError("The default model's map is damaged: not one place per token.")
            return len(tokens), sum(path.stat().st_size for path in folder.iterdir())
    raise UserError("No map of the default model comes with this copy of the app.")


# -- in the child ----------------------------------------------------------------------------------


def forget_peak() -> bool:
    """Let the peak start again from what is held now; Linux only. Says whether it could."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return memory("VmHWM") <= memory("VmRSS") * 1.02 + 2**20


class NoTokenizer:
    """Stands for the tokenizer of a random model: a number of tokens and nothing else."""

    eos_token_id, chat_template = None, None

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count


def memory_of_a_step(shape: Mapping[str, int], prefix: int, continuation: int) -> dict:
    """Load a random model of this shape and take one revision step of a long prefix; bytes at each stage."""
    import torch

    from explorer.bench_reference import random_network
    from explorer.model import LanguageModel
    from explorer.records import Anchor, RevisionConfig, Split
    from explorer.revise import RevisionObjective, revise

    random_network({**shape, "vocab_size": 64, "num_hidden_layers": 1})  # so that the library is loaded
    bare = memory("VmRSS")
    network = random_network(shape)
    own = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    model = LanguageModel(network, NoTokenizer(shape["vocab_size"]), id="random")
    ids = torch.randint(shape["vocab_size"], (prefix + continuation + 20,), generator=torch.Generator().manual_seed(0))
    prompt, rest = ids[:16].tolist(), ids[16:].tolist()
    split = Split(
        rollout=0,
        prefix_token_ids=tuple(rest[:prefix]),
        continuation_token_ids=tuple(rest[prefix : prefix + continuation]),
    )
    anchor = Anchor(text="", token_ids=tuple(rest[-4:]), answer_span=(2, 4))
    context = model.read(prompt)
    objective = RevisionObjective(model, context, anchor, split.continuation_token_ids, RevisionConfig())
    loaded = memory("VmRSS")
    exact = forget_peak()
    begun = time.perf_counter()
    next(revise(model, objective, split))
    seconds = time.perf_counter() - begun
    return {
        "own": own,
        "bare": bare,
        "loaded": loaded,
        "added": max(0, memory("VmHWM") - loaded),
        "exact": exact,
        "seconds": seconds,
    }


def memory_of_the_loop(settings: Mapping[str, object], sizes: Mapping[str, int]) -> dict:
    """Import the page, load the model, run the whole loop once without a screen; bytes at the end."""
    import explorer.ui.app  # noqa: F401 - what the page's process holds besides the model
    from explorer.pipeline import Run, load_model
    from explorer.problems import load_bank
    from explorer.records import RevisionConfig, SamplingConfig, Verdict
    from explorer.settings import read_settings
    from explorer.split import best_failed
    from explorer.verdict import Judge

    model = load_model(read_settings(**settings))
    loaded = memory("VmRSS")
    sampling = SamplingConfig(n=sizes["rollouts"], max_new_tokens=sizes["new_tokens"])
    with Judge() as judge:
        for problem in load_bank():
            run = Run.start(model, problem, sampling)
            for _ in run.roll_out(judge):
                pass
            failed = [r for r in run.before if r.verdict is not Verdict.CORRECT and len(r.token_ids) > 1]
            if failed:
                break
        else:
            raise UserError("No problem of the bank was failed by this model.")
        index = best_failed(run.before, model.pieces)
        run.split_at(index, max(1, len(run.before[index].token_ids) // 2), RevisionConfig(steps=sizes["steps"]))
        for _ in run.revise():
            pass
        for _ in run.continue_from(judge):
            pass
        run.trace()
    return {"peak": memory("VmHWM"), "loaded": loaded, "problem": problem.id, "continuations": len(run.after)}


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m explorer.bench_process memory|loop JSON`: measure, and print one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m explorer.bench_process", description="Measure in a fresh process; the benchmark calls this."
    )
    parser.add_argument("what", choices=("memory", "loop"))
    parser.add_argument("arguments", type=json.loads, help="keyword arguments as JSON")
    options = parser.parse_args(arguments)
    end_with_parent()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    measure = {"memory": memory_of_a_step, "loop": memory_of_the_loop}[options.what]
    try:
        say(result=measure(**options.arguments))
    except (UserError, OSError, ValueError, RuntimeError, MemoryError) as error:
        say(error=str(error) or type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
