"""The decoy control: a plausible wrong answer, the same steps toward it, and honest counts."""

from __future__ import annotations

import pytest
import torch

from explorer.audit import choose_decoy, decoy_control, plausible_decoy
from explorer.errors import UserError
from explorer.frank_wolfe import hull_weights
from explorer.records import FinishReason, Verdict
from explorer.store import load_run, save_run
from tests.conftest import FakeJudge
from tests.test_pipeline import CONFIG as REVISION
from tests.test_pipeline import SAMPLING, longest, sampled, told


@pytest.mark.parametrize(
    ("gold", "taken", "decoy"),
    [
        ("30", set(), "31"),
        ("30", {"31"}, "29"),
        ("99", set(), "98"),  # 100 has more digits
        ("9", {"8", "7"}, "6"),
        ("-5", set(), "-4"),
        ("0", set(), "1"),
        ("1/3", set(), "2/3"),
        ("2/4", set(), "3/4"),
        ("2.50", set(), "2.60"),
        ("0.25", {"0.26"}, "0.24"),
        (r"\frac{1}{2}", set(), None),
        ("x + 1", set(), None),
    ],
)
def test_a_decoy_is_wrong_and_of_the_same_make(gold, taken, decoy):
    assert plausible_decoy(gold, taken) == decoy


def test_what_the_model_says_anyway_is_no_decoy(llama):
    run = sampled(llama, FakeJudge(lambda text: (Verdict.WRONG, "43")))
    assert choose_decoy(run) == "41"


def test_the_decoy_run_is_a_revision_toward_the_wrong_answer(llama):
    run = told(llama)
    judge = FakeJudge(lambda text: (Verdict.CORRECT, "43"))
    states = list(decoy_control(run, judge, 3, SAMPLING))
    control = run.controls[0]
    assert (control.kind, control.target, control.step) == ("decoy", "43", 3)
    assert {state.steps for state in states} >= {3}
    assert llama.decode(control.anchor.token_ids[slice(*control.anchor.answer_span)]).strip() == "43"
    # Judged against the decoy, not against the gold answer.
    assert {gold for gold, _ in judge.seen} == {"43"}
    assert len(control.continuations) == SAMPLING.n
    # What it cost, by hand: at each step's point and the last both branches are read and gone back through; then the
    # prompt's last token and the prefix are read, and a token for each that was drawn.
    assert (control.forward_tokens, control.seconds) == (
        run.cost["controls"].forward_tokens,
        run.cost["controls"].seconds,
    )
    branches = 2 * (6 + 1) + len(control.anchor.token_ids) - 1 + len(run.split.continuation_token_ids) - 1
    sampled_tokens = sum(len(one.token_ids) + (one.finish is FinishReason.STOP) for one in control.continuations)
    assert control.forward_tokens - (3 + 1) * 2 * branches - sampled_tokens == 1 + 6
    assert control.seconds > 0
    assert all(item.verdict is Verdict.CORRECT for item in control.continuations)
    # An independent run of the plain loop, with the decoy as if it were gold, projects to the same tokens.
    other = sampled(llama)
    other.problem = other.problem.model_copy(update={"answer": "43"})
    other.split_at(longest(other), 6, REVISION)
    list(other.revise(3))
    weights = hull_weights(
        other.split.prefix_token_ids, [s.vertices for s in other.steps], [s.step_size for s in other.steps]
    )
    rebuilt = torch.stack([sum(w * llama.rows([t])[0] for t, w in row.items()) for row in weights])
    nearest = torch.cdist(rebuilt, llama.vocabulary.float())[:, : len(llama.tokenizer)].argmin(dim=1)
    assert control.continuations[0].prefix_token_ids == tuple(nearest.tolist())


def test_a_control_is_replaced_not_doubled_and_survives_the_disk(llama, tmp_path):
    run = told(llama)
    for target in ("43", "44"):
        for _ in decoy_control(run, FakeJudge(), 4, SAMPLING, target):
            pass
    assert [control.target for control in run.controls] == ["44"]
    trace, _ = load_run(save_run(run.trace(), run.trajectory(), tmp_path / "one"))
    assert trace.controls == tuple(run.controls)
    assert trace.cost["controls"].forward_tokens > 0


def test_half_a_control_is_none(llama):
    run = told(llama)
    states = list(decoy_control(run, FakeJudge(), 4, SAMPLING, cancelled=lambda: True))
    assert [state.control for state in states] == [None, None]
    assert run.controls == []


def test_nothing_revised_is_nothing_to_check(llama):
    run = sampled(llama)
    run.split_at(longest(run), 6, REVISION)
    with pytest.raises(UserError, match="Take some steps first"):
        list(decoy_control(run, FakeJudge(), 1, SAMPLING))
