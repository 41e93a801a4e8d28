"""The story from problem to trace on a tiny real model: order, cancelling, determinism, what is kept."""

from __future__ import annotations

import pytest
import torch

from explorer.audit_controls import other_control
from explorer.errors import UserError
from explorer.leaks import leaks
from explorer.pipeline import Run
from explorer.records import Control, ModelInfo, Problem, RevisionConfig, RunStatus, SamplingConfig, Start, Verdict
from explorer.store import load_run, save_run
from tests.conftest import FakeJudge

PROBLEM = Problem(id="sum-1", question="What is 12 + 30?", answer="42")
SAMPLING = SamplingConfig(n=3, temperature=1.0, max_new_tokens=20, seed=5)
CONFIG = RevisionConfig(steps=4, step_size=0.1, max_continuation_tokens=8)


def sampled(model, judge=None, **kwargs) -> Run:
    run = Run.start(model, PROBLEM, SAMPLING)
    for _ in run.roll_out(judge or FakeJudge(), **kwargs):
        pass
    return run


def longest(run) -> int:
    """The longest rollout: random tiny models end some of theirs early."""
    return max(range(len(run.before)), key=lambda index: len(run.before[index].token_ids))


def told(model) -> Run:
    """A run that went all the way."""
    run = sampled(model)
    run.split_at(longest(run), 6, CONFIG)
    assert len(list(run.revise())) == CONFIG.steps
    for _ in run.continue_from(FakeJudge()):
        pass
    return run


def without_time(trace):
    """A trace less what may differ between two runs of one seed: the clock."""
    cost = {stage: value.model_copy(update={"seconds": 0.0}) for stage, value in trace.cost.items()}
    return trace.model_copy(update={"created_at": "", "cost": cost})


def test_the_whole_story(model):
    run = told(model)
    trace = run.trace()
    assert trace.status is RunStatus.COMPLETED
    assert len(trace.before) == 3
    chosen = trace.before[trace.split.rollout]
    assert trace.split.prefix_token_ids == chosen.token_ids[:6]
    assert trace.split.continuation_token_ids == chosen.token_ids[6:14]
    assert [step.k for step in trace.steps] == [0, 1, 2, 3]
    assert run.trajectory().shape == (5, 6, model.info.hidden_size)
    assert {item.start for item in trace.after} == set(Start)
    assert all(sum(item.start is start for item in trace.after) == 3 for start in Start)
    assert all(item.step == 4 for item in trace.after)
    # Anyone can check a run: each point follows from the one before, the step size and the vertices.
    embeddings, V = run.trajectory(), model.vocabulary.float()
    for step in trace.steps:
        expected = (1 - step.step_size) * embeddings[step.k] + step.step_size * V[list(step.vertices)]
        assert torch.allclose(embeddings[step.k + 1], expected, atol=1e-5)
    assert trace.final.toward_loss != trace.steps[-1].toward_loss


def test_the_same_seed_gives_the_same_trace_twice(llama):
    first, second = told(llama), told(llama)
    assert without_time(first.trace()) == without_time(second.trace())
    assert torch.equal(first.trajectory(), second.trajectory())


def test_the_arms_share_their_random_numbers(llama):
    """At point 0 nothing has moved: the three arms must be token for token the same."""
    run = sampled(llama)
    run.split_at(0, 6, CONFIG)
    for _ in run.continue_from(FakeJudge(), point=0):
        pass
    arms = [[item.token_ids for item in run.after if item.start is start] for start in Start]
    assert arms[0] == arms[1] == arms[2]


def test_cancelling_the_rollouts_keeps_those_that_had_ended(llama, monkeypatch):
    monkeypatch.setattr(llama, "end_ids", frozenset(range(0, 320, 4)))  # make ends likely
    steps = 0

    def cancelled():
        nonlocal steps
        steps += 1
        return steps >= 4

    run = sampled(llama, cancelled=cancelled)
    assert 0 < len(run.before) < 3
    whole = sampled(llama)
    assert set(run.before) < set(whole.before)


def test_cancelling_in_mid_run_leaves_a_valid_readable_run(llama, tmp_path):
    run = sampled(llama)
    run.split_at(1, 6, CONFIG)
    for step in run.revise():
        if step.k == 1:
            break
    trace = run.trace()
    assert trace.status is RunStatus.CANCELLED
    save_run(trace, run.trajectory(), tmp_path / "run")
    again, embeddings = load_run(tmp_path / "run")
    assert again == trace
    assert len(again.steps) == 2
    assert torch.equal(embeddings, run.trajectory())


def test_pausing_and_going_on_is_not_pausing(llama):
    whole = told(llama)
    run = sampled(llama)
    run.split_at(longest(run), 6, CONFIG)
    taken = []
    while len(taken) < CONFIG.steps:
        taken += list(run.revise(until=len(taken) + 1))
        assert run.status is (RunStatus.COMPLETED if len(taken) == CONFIG.steps else RunStatus.PAUSED)
    assert run.steps == whole.steps
    assert run.final == whole.final


def test_one_more_step_after_the_end_is_allowed(llama):
    run = sampled(llama)
    run.split_at(1, 6, CONFIG)
    list(run.revise())
    final = run.final
    step = next(iter(list(run.revise(until=5))))
    assert step.k == 4
    assert step.toward_loss == pytest.approx(final.toward_loss, rel=1e-6)
    assert run.final.toward_loss != final.toward_loss
    assert run.status is RunStatus.COMPLETED


def test_a_small_gap_ends_the_run_as_converged(llama):
    run = sampled(llama)
    run.split_at(1, 6, CONFIG.model_copy(update={"gap_tolerance": 1e6}))
    assert len(list(run.revise())) == 1
    assert run.trace().status is RunStatus.CONVERGED
    assert run.final is not None


def test_a_continuation_must_state_the_answer_itself(llama):
    """The prefix holds "42": a continuation that says nothing must not be counted as having reached it."""
    seen = []

    def rule(text):
        seen.append(text)
        return (Verdict.CORRECT, "42") if "PREFIX" in text else (Verdict.UNJUDGED, None)

    run = sampled(llama)
    run.split_at(1, 6, CONFIG)
    decode = llama.decode
    prefix = run.split.prefix_token_ids
    llama.decode = lambda ids: "PREFIX 42" if tuple(ids) == prefix else decode(ids)
    try:
        for _ in run.continue_from(FakeJudge(rule), point=0, starts=(Start.ORIGINAL,)):
            pass
    finally:
        del llama.decode
    assert len(run.after) == 3
    assert all(item.verdict is Verdict.UNJUDGED for item in run.after)


def test_a_hit_does_not_lock_out_and_a_correct_rollout_is_not_revised(llama):
    first = sampled(llama).before[0].text
    judge = FakeJudge(lambda text: (Verdict.CORRECT, "42") if text == first else (Verdict.WRONG, "1"))
    run = sampled(llama, judge)
    assert run.hits == 1
    with pytest.raises(UserError, match="correct"):
        run.split_at(0, 4, CONFIG)
    run.split_at(1, 4, CONFIG)
    assert list(run.revise())


@pytest.mark.parametrize(
    ("rollout", "m", "sentence"), [(9, 4, "no rollout 9"), (1, 0, "no prefix"), (1, 20, "no failed continuation")]
)
def test_bad_splits_are_said_and_change_nothing(llama, rollout, m, sentence):
    run = sampled(llama)
    run.split_at(1, 6, CONFIG)
    list(run.revise())
    kept = run.trace()
    with pytest.raises(UserError, match=sentence):
        run.split_at(rollout, m, CONFIG)
    assert run.trace() == kept


def test_stages_out_of_order_are_said(llama):
    run = sampled(llama)
    with pytest.raises(UserError, match="Nothing is split"):
        next(run.revise())
    with pytest.raises(UserError, match="Nothing is split"):
        next(run.continue_from(FakeJudge()))
    run.split_at(1, 6, CONFIG)
    with pytest.raises(UserError, match="no step 7"):
        next(run.continue_from(FakeJudge(), point=7))


def test_too_long_for_the_context_is_said(llama):
    with pytest.raises(UserError, match="at most"):
        Run.start(llama, PROBLEM, SAMPLING.model_copy(update={"max_new_tokens": 300}))


def test_cost_counts_forward_tokens_as_stated(llama):
    """Forward-token equivalents: a backward pass counts as one more forward; every sampled token is one."""
    run = told(llama)
    m, a, c = 6, run.anchor.answer_span[1], len(run.split.continuation_token_ids)
    per_step = 2 * ((1 + m + a - 1) + (1 + m + c - 1))
    assert run.cost["revision"].forward_tokens == per_step * (CONFIG.steps + 1)  # and once at the last point
    assert run.cost["prompt"].forward_tokens == len(run.prompt.token_ids)
    drawn = sum(len(r.token_ids) + (r.finish.value == "stop") for r in run.before)
    assert run.cost["rollouts"].forward_tokens == 1 + drawn


def test_a_run_is_taken_up_from_its_record_and_goes_on_as_if_never_left(llama):
    """Closed after two of four steps, reopened, gone on: the same as in one go, with or without its trajectory."""
    whole = told(llama)
    for with_trajectory in (True, False):
        half = sampled(llama)
        half.split_at(longest(half), 6, CONFIG)
        list(half.revise(2))
        again = Run.reopen(llama, half.trace(), half.trajectory() if with_trajectory else None)
        assert again.status is RunStatus.PAUSED
        list(again.revise())
        for _ in again.continue_from(FakeJudge()):
            pass
        assert [s.vertices for s in again.steps] == [s.vertices for s in whole.steps]
        assert torch.allclose(again.trajectory(), whole.trajectory(), atol=1e-6)
        assert [c.token_ids for c in again.after] == [c.token_ids for c in whole.after]
        assert again.trace().prompt == whole.trace().prompt


def test_a_run_of_another_model_is_not_taken_up(llama):
    trace = told(llama).trace()
    other = trace.model_copy(update={"model": trace.model.model_copy(update={"fingerprint": "0" * 16})})
    with pytest.raises(UserError, match="load that model"):
        Run.reopen(llama, other)
    # An adapter leaves the embeddings as they were: names and hashes of files tell.
    for change in ({"id": "tuned", "revision": ""}, {"revision": "sha256:0"}):
        other = trace.model_copy(update={"model": trace.model.model_copy(update=change)})
        with pytest.raises(UserError, match="load that model"):
            Run.reopen(llama, other)
    outside = trace.before[0].model_copy(update={"token_ids": (10**6,)})
    with pytest.raises(UserError, match="tokens that its model does not have"):
        Run.reopen(llama, trace.model_copy(update={"before": (outside, *trace.before[1:])}))


def spoiled(trace, **parts):
    """A copy with fields of its parts changed: split={...}, and steps, after, controls for the first of them."""
    changed = {}
    for name, update in parts.items():
        part = getattr(trace, name)
        first = part[0] if isinstance(part, tuple) else part
        one = first.model_copy(update=update)
        changed[name] = (one, *part[1:]) if isinstance(part, tuple) else one
    return trace.model_copy(update=changed)


def test_a_record_that_does_not_fit_its_model_is_not_taken_up(llama):
    """Token ids that its vocabulary lacks would end the whole process's use of a GPU."""
    run = told(llama)
    trace = run.trace()
    beyond, m = llama.info.vocab_size, len(trace.split.prefix_token_ids)
    control = Control(
        kind="decoy", target="1", step=1, anchor=trace.anchor, sampling=SAMPLING, continuations=trace.after[:1]
    )
    trace = trace.model_copy(update={"controls": (control,)})
    Run.reopen(llama, trace, run.trajectory())
    bad = trace.after[0].model_copy(update={"token_ids": (beyond,)})
    for parts in (
        {"split": {"continuation_token_ids": (beyond,)}},
        {"split": {"continuation_token_ids": (-1,)}},
        {"steps": {"nearest": (beyond,) * m}},
        {"steps": {"vertices": (-1,) * m}},
        {"after": {"token_ids": (beyond,)}},
        {"after": {"prefix_token_ids": (-7,)}},
        {"controls": {"continuations": (bad,)}},
        {"controls": {"anchor": trace.anchor.model_copy(update={"token_ids": (beyond,)})}},
    ):
        with pytest.raises(UserError, match="tokens that its model does not have"):
            Run.reopen(llama, spoiled(trace, **parts), run.trajectory())
    long = (5,) * llama.context_length
    for parts in ({"prompt": {"token_ids": (*long, 5)}}, {"split": {"continuation_token_ids": long}}):
        with pytest.raises(UserError, match="tokens in a row and its model reads"):
            Run.reopen(llama, spoiled(trace, **parts), run.trajectory())
    for parts in ({"prompt": {"token_ids": ()}}, {"split": {"continuation_token_ids": ()}}):
        with pytest.raises(UserError, match="lacks its prompt or a part of its split"):
            Run.reopen(llama, spoiled(trace, **parts), run.trajectory())
    with pytest.raises(UserError, match="not its model's"):
        Run.reopen(llama, trace, run.trajectory()[:, :, 1:])


def test_a_record_can_be_read_without_its_model(model):
    run = told(model)
    trace = run.trace()
    mentioned = set(trace.prompt.token_ids) | set(trace.anchor.token_ids)
    for rollout in (*trace.before, *trace.after):
        mentioned |= set(rollout.token_ids)
    for step in trace.steps:
        mentioned |= {*step.vertices, *step.nearest}
    assert mentioned <= set(trace.vocabulary.texts) == set(trace.vocabulary.norms)
    everything = model.network.get_input_embeddings()(torch.arange(model.info.vocab_size)).detach()
    for token, norm in trace.vocabulary.norms.items():
        assert norm == pytest.approx(float((everything[token] ** 2).sum() ** 0.5), abs=2e-5)
        assert trace.vocabulary.texts[token] == model.token_text(token)
    assert trace.vocabulary.median_norm == pytest.approx(float((everything**2).sum(1).sqrt().median()), abs=2e-5)


def test_continuations_drawn_another_way_do_not_stand_beside_new_ones(llama):
    run = told(llama)
    cooler = SAMPLING.model_copy(update={"temperature": 0.5})
    for _ in run.continue_from(FakeJudge(), 2, SAMPLING.model_copy(update={"n": 2}), (Start.REVISED,)):
        pass
    assert {c.step for c in run.after} == {2, 4}
    for _ in run.continue_from(FakeJudge(), 3, cooler, (Start.REVISED,)):
        pass
    assert {c.step for c in run.after} == {3}
    assert run.trace().after_sampling == cooler


def test_controls_end_with_the_draws_that_they_were_compared_with(llama):
    """A decoy of two draws, or equal compute for two, says nothing of twenty, nor leaks of texts that are gone."""
    run = told(llama)
    few = SAMPLING.model_copy(update={"n": 2})

    def compared(sampling):
        for point in (2, 4):
            for _ in run.continue_from(FakeJudge(), point, sampling):
                pass
        for point in (2, 4):
            list(other_control(run, FakeJudge(), "fresh", point, sampling))
        run.leaks = leaks(run, 4)

    compared(few)
    for _ in run.continue_from(FakeJudge(), 4, few):  # the same again: the very same draws
        pass
    assert len(run.after) == 12
    assert [control.step for control in run.controls] == [2, 4]
    more = few.model_copy(update={"n": 5})
    for _ in run.continue_from(FakeJudge(), 4, more, (Start.PROJECTED,)):
        pass
    assert [control.step for control in run.controls] == [2, 4]
    for _ in run.continue_from(FakeJudge(), 4, more, (Start.REVISED,)):
        pass
    assert [control.step for control in run.controls] == [2]
    assert run.leaks is None
    assert [sum((c.step, c.start) == (4, start) for c in run.after) for start in Start] == [5, 5, 2]

    compared(few)
    cooler = few.model_copy(update={"temperature": 0.5})
    for _ in run.continue_from(FakeJudge(), 4, cooler, (Start.REVISED,)):
        pass
    assert run.controls == []
    assert run.leaks is None


@pytest.mark.parametrize("other", [{}, {"n": 9}, {"temperature": 0.5}])
def test_what_was_continued_stands_until_as_much_is_drawn_anew(llama, other):
    run = told(llama)
    list(other_control(run, FakeJudge(), "fresh", 4, SAMPLING))
    before = run.trace()
    sampling = SAMPLING.model_copy(update=other)
    for _ in run.continue_from(FakeJudge(), 4, sampling, cancelled=lambda: True):
        pass
    run.continue_from(FakeJudge(), 4, sampling).close()
    after = run.trace()
    assert (after.after, after.controls, after.after_sampling) == (before.after, before.controls, before.after_sampling)
    for _ in run.continue_from(FakeJudge(), 4, sampling, (Start.REVISED,)):
        pass
    drawn = [c for c in run.after if c.start is Start.REVISED]
    assert len(drawn) == sampling.n
    assert (len(run.after) > len(drawn)) == ("temperature" not in other)


def test_one_model_or_two():
    def made(id="a/m", source="hub", revision="1", fingerprint="f"):
        return ModelInfo(
            id=id,
            source=source,
            revision=revision,
            dtype="float32",
            device="cpu",
            vocab_size=9,
            hidden_size=3,
            fingerprint=fingerprint,
        )

    assert made().same_weights(made(revision="2")), "a hub's commit may have changed its README alone"
    assert made().same_weights(made(id="m", source="local", revision="sha256:1")), "a downloaded copy"
    assert not made().same_weights(made(fingerprint="g"))
    assert not made().same_weights(made(id="tuned", source="local", revision="sha256:1"))
    local = made(id="m", source="local", revision="sha256:1")
    assert local.same_weights(made(id="moved", source="local", revision="sha256:1"))
    assert not local.same_weights(made(id="m", source="local", revision="sha256:2"))
    assert local.same_weights(made(id="m", source="local", revision="")), "a run of earlier"
