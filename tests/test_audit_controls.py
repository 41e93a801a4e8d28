"""The controls on tiny models, and the whole audit on two models whose behaviour is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from explorer.audit_controls import KINDS, equal_compute, forward_tokens, other_control, spent_on
from explorer.audit_verdict import Finding, conclude
from explorer.auditing import audit_run
from explorer.errors import UserError
from explorer.leaks import first_statement, leaks
from explorer.model import LanguageModel
from explorer.pipeline import Run
from explorer.records import FinishReason, Problem, RevisionConfig, Rollout, SamplingConfig, Start, StepRule, Verdict
from explorer.store import load_run, save_run
from tests.conftest import FakeJudge, tiny_network, tiny_tokenizer
from tests.known_models import known_model
from tests.test_model import plain_losses
from tests.test_pipeline import CONFIG, SAMPLING, longest, sampled, told


class LastDigit:
    """Judges by the last digit of a text, against the gold answer; a text without one is unjudged."""

    def judge(self, gold: str, text: str, *, cut_off: bool = False):
        said = [char for char in text if char.isdigit()]
        if not said:
            return SimpleNamespace(verdict=Verdict.UNJUDGED, answer=None, reason="")
        verdict = Verdict.CORRECT if said[-1] == gold else Verdict.WRONG
        return SimpleNamespace(verdict=verdict, answer=said[-1], reason="")


def audited(kind: str, kinds=KINDS) -> Run:
    """A known model's run of "What is 5 - 2?" with the gold answer 7 (so "+" would have been right), audited."""
    model = known_model(kind)
    run = Run.start(
        model, Problem(id="known", question="What is 5, 2?", answer="7"), SamplingConfig(n=8, max_new_tokens=6)
    )
    for _ in run.roll_out(LastDigit()):
        pass
    assert run.hits == 0
    said = run.before[0].text
    prefix = tuple(model.encode("- it is"))
    run.before = (Rollout(token_ids=(*prefix, *model.encode(said)), text=f"- it is{said}", verdict=Verdict.WRONG),)
    run.split_at(0, len(prefix), RevisionConfig(steps=10, step_size=0.05))
    for _ in run.revise():
        pass
    for _ in run.continue_from(LastDigit(), sampling=run.sampling.model_copy(update={"n": 16})):
        pass
    for _ in audit_run(run, LastDigit(), kinds):
        pass
    return run


@pytest.fixture(scope="module")
def smuggler() -> Run:
    return audited("smuggler")


@pytest.fixture(scope="module")
def reckoner() -> Run:
    return audited("reckoner")


def correct(run: Run, kind: str) -> tuple[int, int]:
    items = next(control.continuations for control in run.controls if control.kind == kind)
    return sum(item.verdict is Verdict.CORRECT for item in items), len(items)


def test_a_model_that_hands_answers_over_is_called_smuggling(smuggler):
    audit = conclude(smuggler.trace())
    assert audit.finding is Finding.SMUGGLED
    assert next(arm.correct for arm in audit.arms if arm.name == "revised") == 16
    assert correct(smuggler, "decoy") == (16, 16)
    assert correct(smuggler, "ban")[0] == 0  # it has no other road to the answer
    assert correct(smuggler, "fresh")[0] == correct(smuggler, "unrevised")[0] == 0
    # The prefix's weight went to the answer's own token: all that ten steps of 0.05 move.
    assert smuggler.leaks.hull_mass == pytest.approx([1 - 0.95**10] * len(smuggler.leaks.hull_mass), abs=1e-6)
    assert set(smuggler.leaks.hull_mass_before) == {0.0}


def test_a_model_that_computes_is_not(reckoner):
    audit = conclude(reckoner.trace())
    assert audit.finding is Finding.REASONED
    assert correct(reckoner, "decoy")[0] == 0
    assert correct(reckoner, "fresh")[0] == correct(reckoner, "unrevised")[0] == 0
    assert correct(reckoner, "ban") == correct(reckoner, "toward-only") == (16, 16)
    assert correct(reckoner, "random-vertices")[0] == 0
    assert sum(reckoner.leaks.hull_mass) == 0
    assert audit.paired_p < 0.001


def test_an_audit_survives_the_disk_and_is_not_done_twice(reckoner, tmp_path):
    trace, trajectory = load_run(save_run(reckoner.trace(), reckoner.trajectory(), tmp_path / "one"))
    assert trace.controls == tuple(reckoner.controls)
    assert trace.leaks == reckoner.leaks
    assert conclude(trace) == conclude(reckoner.trace())
    again = Run.reopen(reckoner.model, trace, trajectory)
    states = list(audit_run(again, None))  # a judge that is asked would break
    assert [state.kind for state in states] == ["leaks"]


def test_without_the_three_controls_nothing_is_concluded():
    audit = conclude(audited("reckoner", ("fresh",)).trace())
    assert audit.finding is Finding.UNDECIDED
    assert audit.because[-2] == "not run: unrevised, decoy"


# -- single controls on a tiny model ---------------------------------------------------------------


def drained(run: Run, kind: str, point: int = 4, **options):
    states = list(other_control(run, FakeJudge(), kind, point, SAMPLING, **options))
    return states, next((control for control in run.controls if control.kind == kind), None)


def test_equal_compute_is_counted_by_hand(llama):
    run = told(llama)
    ended = [item for item in run.after if item.start is Start.REVISED]
    spent = 1 + 6 + sum(len(i.token_ids) + (i.finish is FinishReason.STOP) for i in ended)
    spent += run.cost["revision"].forward_tokens
    assert spent_on(run, 4) == spent
    mean = sum(len(i.token_ids) + (i.finish is FinishReason.STOP) for i in run.before) / 3
    _, control = drained(run, "fresh")
    assert control.sampling.n == len(control.continuations) == -(-spent // mean)
    assert abs(forward_tokens(control.continuations) - spent) < 0.5 * spent
    # They are other draws than the first ones.
    assert not {i.token_ids for i in control.continuations[:3]} & {i.token_ids for i in run.before}
    assert equal_compute(10**9, run.before) == 1024
    # Steps beyond the one that was continued from were of no use to it.
    run.after = [item.model_copy(update={"step": 1}) for item in run.after]
    steps = run.cost["revision"].forward_tokens
    assert spent_on(run, 1) == spent - steps + -(-steps // len(run.steps))


def test_fresh_rollouts_are_none_of_those_that_were_asked_for(llama):
    """Also where a run was broken off, and row 2 of 3 ended before row 1."""
    run = told(llama)
    whole = run.before
    run.before = (whole[run.split.rollout],)
    run.split = run.split.model_copy(update={"rollout": 0})
    _, control = drained(run, "fresh")
    assert not {item.token_ids for item in control.continuations} & {item.token_ids for item in whole}


def test_gradient_descent_without_a_hull_goes_as_far_in_the_plain_direction(llama):
    run = told(llama)
    _, control = drained(run, "no-hull", 1)
    x = llama.rows(run.split.prefix_token_ids)
    (_, to), (_, off) = plain_losses(llama, run.prompt.token_ids, x, run.anchor, run.split.continuation_token_ids)
    gradient = to - run.config.away_weight * off
    length = (run.embeddings[1] - run.embeddings[0]).norm(dim=1, keepdim=True)
    moved = x - length * gradient / gradient.norm(dim=1, keepdim=True)
    (toward, _), (away, _) = plain_losses(
        llama, run.prompt.token_ids, moved, run.anchor, run.split.continuation_token_ids
    )
    assert control.final.toward_loss == pytest.approx(toward, rel=1e-4)
    assert control.final.away_loss == pytest.approx(away, rel=1e-4)


def test_random_vertices_are_the_seeds(llama):
    run = told(llama)
    first, second = (drained(run, "random-vertices")[1] for _ in range(2))
    assert first.final == second.final
    assert len([control for control in run.controls if control.kind == "random-vertices"]) == 1
    run.sampling = run.sampling.model_copy(update={"seed": 6})
    assert drained(run, "random-vertices")[1].final != first.final


@pytest.mark.parametrize(("kind", "changed"), [("toward-only", "away_weight"), ("away-only", "toward_weight")])
def test_an_ablation_is_the_loop_with_one_weight_at_zero(llama, kind, changed):
    run = told(llama)
    _, control = drained(run, kind)
    other = sampled(llama)
    other.split_at(run.split.rollout, 6, run.config.model_copy(update={changed: 0.0}))
    assert len(list(other.revise())) == 4
    assert (control.final.toward_loss, control.final.gap) == (other.final.toward_loss, other.final.gap)


def test_half_a_control_is_none(llama):
    run = told(llama)
    asked = 0

    def cancelled():
        nonlocal asked
        asked += 1
        return asked > 6

    for kind in ("fresh", "ban"):
        states, control = drained(run, kind, cancelled=cancelled)
        assert control is None
        assert states


def test_what_can_not_be_controlled_is_said(llama):
    run = told(llama)
    with pytest.raises(UserError, match="no control 'luck'"):
        drained(run, "luck")
    with pytest.raises(UserError, match="Take some steps first"):
        drained(run, "fresh", 0)
    with pytest.raises(UserError, match="nothing to audit"):
        list(audit_run(sampled(llama), FakeJudge()))


# -- leaks ----------------------------------------------------------------------------------------


def test_leaks_against_plain_passes(model):
    run = told(model)
    run.after = [item.model_copy(update={"verdict": Verdict.CORRECT}) for item in run.after]
    found = leaks(run, 4)
    prefix, split = model.rows(run.split.prefix_token_ids), run.split
    for rows, value in ((prefix, found.log_p_unrevised), (run.embeddings[4], found.log_p_revised)):
        (toward, _), _ = plain_losses(model, run.prompt.token_ids, rows, run.anchor, split.continuation_token_ids)
        assert value == pytest.approx(-toward, rel=1e-4)
    items = [item for item in run.after if item.start is Start.REVISED]
    assert len(found.stated) == len(items) == 3
    for item, one in zip(items, found.stated, strict=True):
        ids = [*item.prefix_token_ids, *item.token_ids]
        with torch.no_grad():
            logits = model.network(input_ids=torch.tensor([[*run.prompt.token_ids, *ids]])).logits[0].float()
        log_p = logits[len(run.prompt.token_ids) - 1 : -1].log_softmax(1)[range(len(ids)), ids].mean()
        assert one.log_p == pytest.approx(float(log_p), rel=1e-4)
        assert one.tokens == len(item.token_ids)


@pytest.mark.parametrize("connector", ["", "\nThe answer is "])
@pytest.mark.parametrize("plain", [True, False])
def test_an_answer_at_once_stands_as_the_prompt_lets_it(plain, connector):
    """Behind "Answer:" with a space, behind a chat template without."""
    tokenizer = tiny_tokenizer()
    if plain:
        tokenizer.chat_template = None
    model = LanguageModel(tiny_network("llama", len(tokenizer)), tokenizer, id="tiny")
    run = sampled(model)
    run.split_at(longest(run), 6, CONFIG.model_copy(update={"steps": 1, "connector": connector}))
    list(run.revise())
    prompt, said = list(run.prompt.token_ids), connector.lstrip() + "42"
    assert run.prompt.text.endswith("Answer:") is plain
    ids, scored = model.encode(" " * plain + said), 2  # digits are tokens of their own here
    assert len(model.encode("42")) == scored
    with torch.no_grad():
        logits = model.network(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].float()
    log_p = logits[len(prompt) - 1 : -1].log_softmax(1)[range(len(ids)), ids]
    assert leaks(run, 1).log_p_prompt == pytest.approx(float(log_p[-scored:].mean()), abs=1e-4)


def test_what_the_unrevised_prefix_holds_of_the_answer_is_seen_after_a_step_that_left_it(llama):
    """The harmonic rule's first step has γ = 1: nothing of the prefix is left in the hull's weights."""
    run = sampled(llama)
    told_the_answer = (*llama.encode("It is 42"), *llama.encode(" apples"))
    run.before = (Rollout(token_ids=told_the_answer, text="It is 42 apples", verdict=Verdict.WRONG),)
    m = len(llama.encode("It is 42"))
    run.split_at(0, m, RevisionConfig(steps=1, step_rule=StepRule.HARMONIC, connector="\nThe answer is "))
    list(run.revise())
    digits = {llama.tokenizer.convert_tokens_to_ids(digit) for digit in "42"}
    found = leaks(run, 1)
    assert found.hull_mass_before == tuple(float(token in digits) for token in run.split.prefix_token_ids)
    assert sum(found.hull_mass_before) == 2
    assert found.hull_mass == tuple(float(token in digits) for token in run.steps[0].vertices)


@pytest.mark.parametrize(
    ("pieces", "answer", "place"),
    [
        (["So ", "4", "2", "."], "42", 2),
        (["It is 42"], "42", 0),
        (["14", "2, ", "then 42"], "42", 2),  # not inside another number
        (["42.5 ", "or 42/3"], "42", None),
        (["a", " 3/8", "!"], "3/8", 1),
        ([], "42", None),
    ],
)
def test_where_an_answer_is_first_written_out(pieces, answer, place):
    assert first_statement(pieces, answer) == place
