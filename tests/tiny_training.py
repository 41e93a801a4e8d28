"""What the tests of training share: a tiny real model in a folder, and runs of it with rescued traces and correct
rollouts, made by the pipeline itself with a judge that follows a rule."""

from __future__ import annotations

from pathlib import Path

from explorer.export import right_as_a_whole
from explorer.model import LanguageModel
from explorer.pipeline import Run
from explorer.records import Problem, RevisionConfig, SamplingConfig, Trace, Verdict
from explorer.store import save_run
from tests.conftest import FakeJudge, tiny_network, tiny_tokenizer

QUESTIONS = ("What is 3 + 4?", "What is 12 + 30?", "What is 7 + 1?")
ANSWERS = ("7", "42", "8")


def saved_model(folder: Path, family: str = "llama") -> Path:
    """A tiny model as a folder that `--model` takes."""
    tokenizer = tiny_tokenizer()
    tiny_network(family, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_of(model: LanguageModel, place: int, n: int = 3, hits: int = 0) -> Run:
    """A revised and continued run of one of the questions; the first `hits` rollouts and every continuation of the
    moved prefix count as correct. Gibberish may state an answer in its prefix, and such a text is not trained on: of
    the seeds the first without one."""
    for seed in range(place, 300, len(QUESTIONS)):
        run = _run_of(model, place, n, hits, seed)
        if all(right_as_a_whole(run.trace(), item) for item in run.after):
            return run
    raise AssertionError("no seed gives texts without an answer in the prefix")


def _run_of(model: LanguageModel, place: int, n: int, hits: int, seed: int) -> Run:
    problem = Problem(id=f"p{place}", question=QUESTIONS[place], answer=ANSWERS[place])
    run = Run.start(model, problem, SamplingConfig(n=n, max_new_tokens=12, seed=seed))
    verdicts = iter([Verdict.CORRECT] * hits + [Verdict.WRONG] * n)
    for _ in run.roll_out(FakeJudge(lambda text: (next(verdicts), "0"))):
        pass
    failed = next(i for i, one in enumerate(run.before) if one.verdict is Verdict.WRONG and len(one.token_ids) > 4)
    run.split_at(failed, 3, RevisionConfig(steps=2))
    for _ in run.revise():
        pass
    for _ in run.continue_from(FakeJudge(lambda text: (Verdict.CORRECT, ANSWERS[place]))):
        pass
    return run


def saved_runs(model_folder: Path, out: Path, hits: int = 1) -> list[Trace]:
    """A run folder for each question."""
    model = LanguageModel.load(model_folder, id=model_folder.name)
    traces = []
    for place in range(len(QUESTIONS)):
        run = run_of(model, place, hits=hits)
        traces.append(run.trace())
        save_run(traces[-1], run.trajectory(), out / f"run-{place}")
    return traces
