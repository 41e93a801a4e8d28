"""The rescued trace in its group: ids, advantage, weight and gradient as TRL computes them with our changes, against a
plain computation with transformers alone; and nothing of ours where none is injected."""

from __future__ import annotations

import math
import shutil
from statistics import stdev

import pytest
import torch

from explorer.errors import UserError
from explorer.records import Problem, SamplingConfig, Verdict
from explorer.settings import read_settings
from explorer.sources import ResolvedModel
from explorer.training.common import labelled, turn_end
from explorer.training.group import (
    Inject,
    Scale,
    advantages,
    gradient_weight,
    off_policy_weight,
    preview,
    slot,
)
from explorer.training.request import Adapter, Method, TrainRequest
from explorer.training.sampler import FastSampler
from explorer.training.traces import RESCUED, TrainingTrace
from explorer.training.weights import Trainee
from tests.conftest import FakeJudge
from tests.tiny_training import saved_model

C = 0.1
RESCUED_IDS = (60, 61, 62, 63, 64)
PREFIX = 2


# -- by hand ---------------------------------------------------------------------------------------


def test_advantages_are_those_of_the_textbook():
    rewards = [0, 0, 1, 0, 1, 0, 0, 0]
    mean, deviation = 0.25, stdev(rewards)
    expected = [(reward - mean) / (deviation + 1e-4) for reward in rewards]
    assert advantages(rewards) == pytest.approx(expected)
    assert advantages(rewards, Scale.NONE) == pytest.approx([reward - mean for reward in rewards])
    assert advantages([0.0] * 8) == (0.0,) * 8


@pytest.mark.parametrize(
    ("rewards", "inject", "place"),
    [
        ([0, 0, 0], Inject.ZERO_HIT, 2),
        ([0, 1, 0], Inject.ZERO_HIT, None),
        ([0, 1, 0], Inject.ALWAYS, 2),
        ([0, 0, 1], Inject.ALWAYS, 1),
        ([1, 1, 1], Inject.ALWAYS, None),
        ([1, 1, 0], Inject.ALWAYS, None),  # without its one failure the group would teach nothing
        ([0, 0, 0], Inject.NEVER, None),
    ],
)
def test_a_failed_member_gives_way_and_no_other(rewards, inject, place):
    assert slot(rewards, inject) == place


def test_a_zero_hit_group_learns_only_with_the_trace():
    plain, rescued = preview([0.0] * 8, [90] * 8, 40)
    assert not plain.signal
    assert rescued.signal
    assert [member.rescued for member in rescued.members] == [False] * 7 + [True]
    assert rescued.members[7].tokens == 40
    assert rescued.members[7].reward == 1
    assert rescued.members[7].advantage == pytest.approx(0.875 / (math.sqrt(0.125) + 1e-4))


def test_the_weights_of_a_token_are_the_function_and_its_slope():
    for p in (1e-4, 0.05, 0.3, 0.99):
        assert off_policy_weight(math.log(p), C) == pytest.approx(p / (p + C))
        # d/d(log p) of p / (p + c), by a difference
        step = 1e-5
        up, down = (off_policy_weight(math.log(p) + s, C) for s in (step, -step))
        assert gradient_weight(math.log(p), C) == pytest.approx((up - down) / (2 * step), rel=1e-5)
    assert off_policy_weight(-9.0, 0.0) == gradient_weight(-9.0, 0.0) == 1.0


# -- TRL for real ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("grpo") / "tiny")


def trainee_of(folder) -> Trainee:
    return Trainee(ResolvedModel(folder, "tiny", "local"), read_settings(device="cpu"))


def trace_of(trainee: Trainee, question: str, ids=RESCUED_IDS) -> TrainingTrace:
    return TrainingTrace(
        origin=RESCUED,
        run="r",
        problem_id="p0",
        question=question,
        answer="7",
        prompt_ids=tuple(trainee.prompt_ids(question)),
        completion_ids=ids,
        prefix_tokens=PREFIX,
        text=trainee.tokenizer.decode(ids),
        finished=True,
    )


def made(folder, tmp_path, adapter=Adapter.FULL, problems=1, all_right=False, **changes):
    """A trainer over one prompt (or more), the rescued trace of the first, and a judge that knows the trace alone, or
    takes everything for right."""
    import threading

    from explorer.training import grpo
    from explorer.training.folder import Progress
    from explorer.training.watch import Watch

    trainee = trainee_of(folder)
    changes = {"sampler": "trl", **changes}
    asked = {"method": Method.GRPO, "adapter": adapter, "group": 4, "max_new_tokens": 8, "off_policy_c": C, "batch": 1}
    request = TrainRequest(**{**asked, "updates": 2, "held_out": 0, "eval_every": 0, **changes})
    questions = ["What is 3 + 4?", "What is 1 + 1?", "What is 2 + 2?"][:problems]
    right = trainee.tokenizer.decode(RESCUED_IDS, skip_special_tokens=True)
    judge = FakeJudge(lambda text: (Verdict.CORRECT if all_right or text == right else Verdict.WRONG, "7"))
    watch = Watch(tmp_path, Progress(tmp_path, 2), threading.Event(), lambda *_: None)
    trainer = grpo.trainer(
        trainee,
        [Problem(id=f"p{i}", question=question, answer="7") for i, question in enumerate(questions)],
        [trace_of(trainee, questions[0])],
        request,
        tmp_path,
        watch,
        judge,
    )
    trainer.model.train()
    # What `train()` sets up before the first update.
    trainer.current_gradient_accumulation_steps = 1
    return trainee, trainer


def row_of(trainer, problem="p0"):
    return next(row for row in trainer.train_dataset if row["problem"] == problem)


def scored(trainer, problem="p0"):
    rows = [row_of(trainer, problem)] * trainer.args.per_device_train_batch_size
    torch.manual_seed(3)
    return trainer._generate_and_score_completions(rows)


def test_its_exact_ids_reward_and_advantage(folder, tmp_path):
    trainee, trainer = made(folder, tmp_path)
    output = scored(trainer)
    ids, mask = output["completion_ids"], output["completion_mask"]
    assert output["off_policy"].tolist() == [False, False, False, True]
    assert ids[3][mask[3].bool()].tolist() == [*RESCUED_IDS, trainee.end_id]
    assert output["advantages"].tolist() == pytest.approx(advantages([0, 0, 0, 1]), rel=1e-5)
    assert int(output["num_items_in_batch"]) == int(mask.sum())
    assert "tool_mask" not in output


def plain_loss(trainer, output, masked: int = 0):
    """The loss of these completions by transformers alone: log p of each token at the trainer's temperature; ratio 1
    for a sampled token, p / (p + c) for the rescued one's, over all tokens that count."""
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    seen = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    logits = trainer.model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1] / trainer.temperature
    width = output["completion_ids"].shape[1]
    log_p = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0][:, -width:]
    total, count = 0.0, 0
    for member in range(len(ids)):
        for place in range(width):
            if not output["completion_mask"][member, place]:
                continue
            rescued = bool(output["off_policy"][member])
            if rescued and place < masked:
                continue
            p = log_p[member, place].exp()
            ratio = p / (p + C) if rescued else p / p.detach()
            total = total - ratio * output["advantages"][member]
            count += 1
    return total / count


def gradients(trainer, loss):
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    return torch.autograd.grad(loss, weights)


@pytest.mark.parametrize(
    ("mask_prefix", "temperature"), [(False, 1.0), (True, 1.0), (False, 0.6)], ids=["whole", "prefix masked", "cooler"]
)
def test_loss_and_gradient_are_the_plain_ones(folder, tmp_path, mask_prefix, temperature):
    _, trainer = made(folder, tmp_path, mask_prefix=mask_prefix, temperature=temperature)
    output = scored(trainer)
    ours = trainer._compute_loss(trainer.model, output)
    plain = plain_loss(trainer, output, PREFIX if mask_prefix else 0)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)
    for a, b in zip(gradients(trainer, ours), gradients(trainer, plain), strict=True):
        assert torch.allclose(a, b, atol=2e-6)
    assert "old_per_token_logps" not in output, "a pass leaves its batch as it was"


def test_at_c_0_it_counts_as_on_policy(folder, tmp_path):
    _, trainer = made(folder, tmp_path, off_policy_c=0.0)
    output = scored(trainer)
    ours = gradients(trainer, trainer._compute_loss(trainer.model, output))
    output["off_policy"] = torch.zeros_like(output["off_policy"])
    trl = gradients(trainer, trainer._compute_loss(trainer.model, output))
    for a, b in zip(ours, trl, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_prompt_without_a_rescued_trace_stays_as_it_is(folder, tmp_path):
    _, trainer = made(folder, tmp_path, problems=2)
    output = scored(trainer, "p1")
    assert not output["off_policy"].any()
    assert output["advantages"].tolist() == [0.0] * 4


def test_never_is_trls_own_trainer_and_its_very_numbers(folder, tmp_path):
    from trl import GRPOTrainer

    _, plain = made(folder, tmp_path / "a", inject=Inject.NEVER)
    assert type(plain) is GRPOTrainer
    _, ours = made(folder, tmp_path / "b", problems=2)
    # A prompt with nothing to inject: the same samples, the same loss.
    row = {**row_of(ours), "rescued_ids": [], "rescued_prefixes": []}
    torch.manual_seed(3)
    a = plain._generate_and_score_completions([plain.train_dataset[0]] * 4)
    torch.manual_seed(3)
    b = ours._generate_and_score_completions([row] * 4)
    assert a["completion_ids"].tolist() == b["completion_ids"].tolist()
    la, lb = plain._compute_loss(plain.model, a), ours._compute_loss(ours.model, b)
    assert float(la.detach()) == float(lb.detach())
    for x, y in zip(gradients(plain, la), gradients(ours, lb), strict=True):
        assert torch.equal(x, y)


def test_lora_learns_of_a_zero_hit_group_only_with_the_trace(folder, tmp_path):
    _, with_it = made(folder, tmp_path / "a", adapter=Adapter.LORA)
    _, without = made(folder, tmp_path / "b", adapter=Adapter.LORA, inject=Inject.NEVER)
    moved = [
        sum(float(gradient.abs().sum()) for gradient in gradients(t, t._compute_loss(t.model, scored(t))))
        for t in (with_it, without)
    ]
    assert moved[0] > 1e-3
    assert moved[1] == 0


def weights(trainer) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def test_a_training_that_goes_on_is_the_one_that_never_stopped(folder, tmp_path):
    """Also beyond the first time through its prompts, with a rescued trace that is rewarded and moves the weights."""
    asked = {"problems": 3, "sampler": "fast", "updates": 7, "save_every": 5, "learning_rate": 1e-3}
    _, whole = made(folder, tmp_path / "a", **asked)
    begun = weights(whole)
    whole.train()
    assert not torch.equal(weights(whole), begun)
    assert [line["rescued_members"] for line in whole.state.log_history if "rescued_members" in line].count(1.0) >= 2
    shutil.copytree(tmp_path / "a" / "checkpoints" / "checkpoint-5", tmp_path / "b" / "checkpoints" / "checkpoint-5")
    _, again = made(folder, tmp_path / "b", **asked)
    again.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "checkpoint-5"))
    assert again.state.global_step == 7
    assert torch.equal(weights(again), weights(whole))


def test_every_prompt_comes_as_often_as_any_other(folder, tmp_path):
    _, trainer = made(folder, tmp_path, problems=3, updates=6)
    sampled = [trainer.train_dataset[place]["problem"] for place in trainer._get_train_sampler()]
    groups = [sampled[at : at + 4] for at in range(0, len(sampled), 4)]
    assert all(len(set(group)) == 1 for group in groups)
    assert [sorted(group[0] for group in groups[at : at + 3]) for at in (0, 3)] == [["p0", "p1", "p2"]] * 2


def test_a_trace_that_the_reward_refuses_enters_no_group(folder, tmp_path):
    from explorer.training import grpo

    trainee = trainee_of(folder)
    good, bad = trace_of(trainee, "What is 3 + 4?"), trace_of(trainee, "What is 3 + 4?", (70, 71))
    right = trainee.tokenizer.decode(RESCUED_IDS, skip_special_tokens=True)
    judge = FakeJudge(lambda text: (Verdict.CORRECT if text == right else Verdict.WRONG, "7"))
    assert grpo.accepted([bad, good], judge, trainee) == ([good], [bad])
    assert grpo.accepted([], judge, trainee) == ([], [])


# -- groups of equal rewards ---------------------------------------------------------------------------


def plain_zvp_loss(trainer, output, alpha: float, right: bool):
    """RL-ZVP's equation 5 with transformers alone, token by token: α·H, or −α·(max H − H), times log p's ratio 1."""
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    seen = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    logits = trainer.model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1] / trainer.temperature
    width = output["completion_ids"].shape[1]
    every = logits.log_softmax(-1)[:, -width:]
    total, count = 0.0, 0
    for member in range(len(ids)):
        places = [place for place in range(width) if output["completion_mask"][member, place]]
        entropies = [float(-(every[member, p].exp() * every[member, p]).sum().detach()) for p in places]
        for place, entropy in zip(places, entropies, strict=True):
            advantage = alpha * entropy if right else -alpha * (max(entropies) - entropy)
            log_p = every[member, place, output["completion_ids"][member, place]]
            total = total - (log_p - log_p.detach()).exp() * advantage
            count += 1
    return total / count


@pytest.mark.parametrize("right", [True, False], ids=["all right", "all wrong"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_equal_rewards_teach_by_entropy_as_the_paper_has_it(folder, tmp_path, right, temperature):
    asked = {"inject": Inject.NEVER, "all_right": right, "temperature": temperature}
    _, trainer = made(folder, tmp_path / "a", zvp_alpha=0.2, **asked)
    output = scored(trainer)
    assert output["advantages"].tolist() == [0.0] * 4
    assert output["alike"].tolist() == [1 if right else -1] * 4
    ours, plain = trainer._compute_loss(trainer.model, output), plain_zvp_loss(trainer, output, 0.2, right)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)
    moved = gradients(trainer, ours)
    for a, b in zip(moved, gradients(trainer, plain), strict=True):
        assert torch.allclose(a, b, atol=2e-6)
    assert sum(float(gradient.abs().sum()) for gradient in moved) > 1e-3
    assert output["advantages"].dim() == 1, "a pass leaves its batch as it was"


def test_a_group_that_a_rescued_trace_entered_learns_of_the_trace_and_not_by_entropy(folder, tmp_path):
    _, both = made(folder, tmp_path / "a", problems=2, zvp_alpha=0.2)
    output = scored(both)
    assert output["alike"].tolist() == [0] * 4
    ours, plain = both._compute_loss(both.model, output), plain_loss(both, output)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)
    left = scored(both, "p1")  # nothing was rescued of this prompt
    assert left["alike"].tolist() == [-1] * 4
    ours, plain = both._compute_loss(both.model, left), plain_zvp_loss(both, left, 0.2, False)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)


@pytest.mark.parametrize("mask_prefix", [False, True])
def test_a_batch_of_both_kinds_is_shaped_where_rewards_are_equal_and_nowhere_else(folder, tmp_path, mask_prefix):
    """One group that the rescued trace entered and one that failed, shuffled as TRL shuffles a batch before a pass."""
    _, trainer = made(folder, tmp_path, problems=2, batch=2, zvp_alpha=0.2, mask_prefix=mask_prefix)
    rows = [row_of(trainer, "p0")] * 4 + [row_of(trainer, "p1")] * 4
    torch.manual_seed(3)
    output = trainer._prepare_inputs(rows)
    kinds = sorted(zip(output["alike"].tolist(), output["off_policy"].tolist(), strict=True))
    assert kinds == [(-1, False)] * 4 + [(0, False)] * 3 + [(0, True)]

    def part(keep):
        return {k: v[keep] if isinstance(v, torch.Tensor) and v.dim() else v for k, v in output.items()}

    entered = output["alike"] == 0
    counted = output["completion_mask"] * output.get("tool_mask", 1)
    of_trace, failed = int(counted[entered].sum()), int(counted[~entered].sum())
    trace = plain_loss(trainer, part(entered), PREFIX if mask_prefix else 0) * of_trace
    equal = plain_zvp_loss(trainer, part(~entered), 0.2, False) * failed
    plain = (trace + equal) / (of_trace + failed)
    ours = trainer._compute_loss(trainer.model, output)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)
    for a, b in zip(gradients(trainer, ours), gradients(trainer, plain), strict=True):
        assert torch.allclose(a, b, atol=2e-6)


def test_another_process_takes_its_own_part_of_the_rewards(folder, tmp_path, monkeypatch):
    """Rewards are gathered of all; the second process's group is right where the first one's was wrong."""
    from explorer.training import zero_variance

    _, trainer = made(folder, tmp_path, inject=Inject.NEVER, zvp_alpha=0.2)
    monkeypatch.setattr(
        zero_variance.SamplingTrainer, "_generate_and_score_completions", lambda self, rows: {"completion_ids": rows}
    )
    everyone = torch.tensor([[0.0]] * 4 + [[1.0]] * 4)
    monkeypatch.setattr(zero_variance.SamplingTrainer, "_calculate_rewards", lambda self: everyone)
    trainer._calculate_rewards()
    for index, kind in ((0, -1), (1, 1)):
        monkeypatch.setattr(type(trainer.accelerator), "process_index", property(lambda self, at=index: at))
        assert trainer._generate_and_score_completions([0] * 4)["alike"].tolist() == [kind] * 4


def test_a_trace_that_the_reward_takes_back_is_not_blamed(folder, tmp_path):
    """Its group then is all wrong; its ratio has no clip that holds for a negative advantage."""
    _, trainer = made(folder, tmp_path, zvp_alpha=0.2)
    rewards = iter([[0.0] * 4, [0.0] * 4])
    trainer.reward_funcs[0] = lambda **_: next(rewards)
    output = scored(trainer)
    assert output["off_policy"].tolist() == [False, False, False, True]
    assert output["alike"].tolist() == [-1, -1, -1, 0]


def test_groups_beside_each_other_keep_what_is_theirs():
    from explorer.training.zero_variance import alike, shaped_advantages

    rewards = torch.tensor([0.0, 0, 0, 1, 1, 1, 0, 1, 0])
    assert alike(rewards, 3).tolist() == [-1, -1, -1, 1, 1, 1, 0, 0, 0]
    entropies = torch.tensor([[1.0, 3.0, 9.0], [1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1]])  # a maximum under the mask counts for nothing
    found = shaped_advantages(entropies, mask, torch.tensor([-1, 1, 0]), 0.5)
    assert found.tolist() == [[-1.0, 0.0, 0.0], [0.5, 1.5, 1.0], [0.0, 0.0, 0.0]]
    assert shaped_advantages(entropies, torch.zeros(3, 3), torch.tensor([-1, 1, 0]), 0.5).abs().sum() == 0


# -- sampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [Adapter.FULL, Adapter.LORA])
def test_the_fast_sampler_draws_from_the_weights_in_training(folder, tmp_path, adapter):
    """Greedily it says what `generate` says, before the weights moved and after, for each prompt of a batch."""
    trainee, trainer = made(folder, tmp_path, adapter=adapter, problems=2, sampler="fast", inject=Inject.NEVER)
    assert type(trainer).__name__ == "SamplingTrainer"
    prompts = [trainee.prompt_ids(question) for question in ("What is 3 + 4?", "What is 1 + 1?")]
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=8)

    def plain():
        found = []
        for prompt in prompts:
            ids = trainer.model.generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=8,
                do_sample=False,
                pad_token_id=0,
            )
            found.append(ids[0, len(prompt) :].tolist())
        return found

    def ours():
        trainer._fast.refresh(trainer.model)
        drawn = trainer._fast.sample([prompts[0], prompts[0], prompts[1]], greedy, 0)
        assert drawn[0] == drawn[1]
        return drawn[1:]

    trainer.model.eval()
    before = plain()
    assert ours() == before
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    assert plain() != before
    assert ours() == plain()


def test_a_prompt_that_tells_the_day_is_the_same_prompt_the_next_day(folder):
    """As Llama 3.2 and SmolLM3 have it; another tokenizer's prompt stays another's."""
    trainee = trainee_of(folder)
    dated = "{{ strftime_now('%d %b %Y') }} " + trainee.tokenizer.chat_template
    trainee.tokenizer.chat_template = dated.replace("strftime_now('%d %b %Y')", "'01 Jan 2026' or strftime_now()")
    trace = trace_of(trainee, "What is 3 + 4?")
    trainee.tokenizer.chat_template = dated
    assert list(trace.prompt_ids) != trainee.prompt_ids(trace.question)
    trainee.need_own([trace])
    for ids in (trace.prompt_ids[::-1], tuple(trainee.prompt_ids("What is 1 + 1?"))):
        with pytest.raises(UserError, match="reads these prompts as other tokens"):
            trainee.need_own([trace.model_copy(update={"prompt_ids": ids})])
    trainee.tokenizer.chat_template = dated.replace("strftime_now('%d %b %Y')", "'02 Jan 2026'")
    with pytest.raises(UserError, match="reads these prompts as other tokens"):
        trainee.need_own([trace])


def test_the_end_of_a_turn_is_the_models_own(tmp_path):
    """As with Gemma: the tokenizer's end is a document's, the template ends a turn with another token, which the
    model's settings name."""
    path = saved_model(tmp_path / "tiny")
    plain = trainee_of(path)
    document, turn = plain.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert plain.end_id == turn == plain.tokenizer.eos_token_id
    plain.tokenizer.eos_token = "<|endoftext|>"
    plain.tokenizer.save_pretrained(path)
    plain.network.generation_config.eos_token_id = [document, turn]
    plain.network.save_pretrained(path)
    trainee = trainee_of(path)
    assert trainee.tokenizer.eos_token_id == document
    assert trainee.end_id == turn
    trace = trace_of(trainee, "What is 3 + 4?")
    assert labelled(trace, trainee.end_id, False)["input_ids"][-1] == turn
    trainee.tokenizer.chat_template = None
    assert turn_end(trainee.tokenizer, trainee.end_ids) == document, "no template, no turn"

    fast = FastSampler(trainee)
    for end in (document, turn):  # sampled it is the token that was drawn
        fast.model.allowed = torch.arange(fast.model.vocabulary.shape[0]) == end
        assert fast.sample([[5, 6]] * 2, SamplingConfig(max_new_tokens=4), 0) == [[end]] * 2


def test_a_group_sampled_fast_has_its_trace_too(folder, tmp_path):
    _trainee, trainer = made(folder, tmp_path, sampler="fast")
    output = scored(trainer)
    assert output["off_policy"].tolist() == [False, False, False, True]
    first, second = (output["completion_ids"][row].tolist() for row in (0, 1))
    assert first != second, "members of a group are drawn apart"
    ours = trainer._compute_loss(trainer.model, output)
    assert float(ours.detach()) == pytest.approx(float(plain_loss(trainer, output).detach()), abs=1e-6)


def test_rescued_members_are_counted_over_all_processes(folder, tmp_path, monkeypatch):
    """Two processes, and a trace entered one of them: TRL makes the mean of 2 and 0."""
    from trl import GRPOTrainer

    _, trainer = made(folder, tmp_path)
    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", lambda *a, **k: ([[70, 71], [72], [73], [75]], None))
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", property(lambda self: 2))
    trainer._rows = [trainer.train_dataset[0]] * 4
    trainer._generate_single_turn([[1]] * 4)
    assert trainer._pending_metrics["rescued_members"] == [2.0]


def test_vllms_log_probabilities_of_a_replaced_member_are_unknown(folder, tmp_path, monkeypatch):
    from trl import GRPOTrainer

    _, trainer = made(folder, tmp_path)
    drawn = [[70, 71], [72], [73, 74], [75]]
    monkeypatch.setattr(
        GRPOTrainer, "_generate_single_turn", lambda *a, **k: (drawn, [[-1.0] * len(row) for row in drawn])
    )
    trainer._rows = [trainer.train_dataset[0]] * 4
    ids, logprobs = trainer._generate_single_turn([[1]] * 4)
    assert ids[3][:5] == list(RESCUED_IDS)
    assert logprobs[:3] == [[-1.0, -1.0], [-1.0], [-1.0, -1.0]]
    assert logprobs[3] == [None] * len(ids[3])
