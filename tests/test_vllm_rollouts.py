"""vLLM as the hunt's engine, against a stand-in for the library: what it is asked, and what becomes of its answers.

The library itself needs a GPU; what is tested here is everything on our side of it.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from explorer import hunting
from explorer.cli import app, run_command
from explorer.errors import UserError
from explorer.hunt import Hunt, folder_name, read_results
from explorer.records import FinishReason, SamplingConfig
from explorer.store import load_run
from explorer.vllm_rollouts import VllmRollouts
from tests.conftest import FakeJudge
from tests.test_hunt import PROBLEMS, config

END = 2
ANSWERS = {0: ([10, 11, END], "stop"), 1: ([12, 13, 14, 15], "length"), 2: ([16], "stop")}


@pytest.fixture
def library(monkeypatch):
    """A module that answers by row, and remembers what it was asked."""
    asked = SimpleNamespace(made=None, calls=[])

    class LLM:
        def __init__(self, **options):
            asked.made = options

        def generate(self, prompts, settings, use_tqdm):
            asked.calls.append((prompts, settings))
            return [
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=why)])
                for ids, why in (ANSWERS[row % 3] for row in range(len(prompts)))
            ]

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, lambda **options: options
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(hunting, "installed", lambda: True)
    return asked


def test_each_row_is_asked_for_with_a_seed_of_its_own(library, tmp_path):
    engine = VllmRollouts(tmp_path, "bfloat16", frozenset({END}))
    assert library.made["model"] == str(tmp_path)
    sampling = SamplingConfig(n=3, temperature=0.7, top_p=0.9, max_new_tokens=4, seed=5)
    events = list(engine.sample((7, 8), sampling))
    assert events == [
        [(0, 10), (1, 12), (2, 16)],
        [(0, 11), (1, 13)],
        [(0, None), (1, 14)],
        [(1, 15)],
        [(2, None)],  # it stopped, and said so without a token
    ]
    prompts, settings = library.calls[0]
    assert prompts == [{"prompt_token_ids": [7, 8]}] * 3
    assert {(one["temperature"], one["top_p"], one["max_tokens"]) for one in settings} == {(0.7, 0.9, 4)}
    list(engine.sample((7, 8), sampling, first_row=3))
    seeds = [one["seed"] for _, settings in library.calls for one in settings]
    assert len(set(seeds)) == 6


def test_a_hunt_judges_and_keeps_what_it_drew(library, llama, tmp_path):
    engine = VllmRollouts(tmp_path, "float32", frozenset({END}))
    asked = config(llama, engine="vllm")
    list(Hunt(llama, PROBLEMS[:1], asked, tmp_path / "h", FakeJudge(), drawer=engine).run())
    trace, _ = load_run(tmp_path / "h" / folder_name("p/0"))
    assert [item.token_ids for item in trace.before] == [(10, 11), (12, 13, 14, 15), (16,)]
    assert [item.finish for item in trace.before] == [FinishReason.STOP, FinishReason.LENGTH, FinishReason.STOP]
    assert library.calls[0][0][0]["prompt_token_ids"] == list(trace.prompt.token_ids)
    assert read_results(tmp_path / "h")[0].revised[0].after
    # The two engines draw differently, so neither goes on with the other's hunt.
    with pytest.raises(UserError, match="another engine"):
        next(Hunt(llama, PROBLEMS[:1], config(llama), tmp_path / "h", FakeJudge()).run())


@pytest.mark.parametrize(("engine", "sentence"), [("vllm", "vLLM is not installed"), ("luck", "no engine 'luck'")])
def test_without_the_library_it_says_what_to_do(tmp_path, capsys, engine, sentence):
    arguments = ["hunt", "--problems", "bank", "--out", str(tmp_path / "h"), "--engine", engine]
    assert run_command(lambda: app(args=arguments, standalone_mode=False)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


def test_a_model_that_it_can_not_load_is_one_sentence(library, tmp_path, monkeypatch):
    def broken(**options):
        raise RuntimeError("no room")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", broken)
    with pytest.raises(UserError, match=r"no room\): use --engine own"):
        VllmRollouts(tmp_path, "float32", frozenset())
