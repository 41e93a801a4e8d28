"""GRPO by TRL, and what TRL has not: a rescued trace that takes a failed member's place in its group.

A zero-hit prompt's group has equal rewards, so no advantage and no gradient. One failed member is replaced by a text
that was verified correct: its exact token ids, its reward by the same reward function, its advantage by TRL's own
arithmetic. Having been sampled elsewhere it has no importance ratio; p / (p + c) of each token stands in its place
(LUFFY, arXiv 2504.14945, section 3.2), unclipped. The replayed prefix may be left out of the loss (Prefix-RFT, arXiv
2507.01679). Without injection and RL-ZVP (`zero_variance.py`), and sampled by TRL, nothing of ours is entered: the
trainer is TRL's, line for line.

How it gets in (trl 1.16; private methods, so requirements.txt pins the version): `_generate_single_turn` overwrites ids
after sampling; `_get_per_token_logps_and_entropies`, called by `_compute_loss`, puts log(p + c) where the logarithm of
the old policy's p would stand, for that member alone: the ratio then is p / (p + c), below 1, and with an advantage
that is not negative TRL's clipped minimum always takes it as it is.

What it does not do: judge (the reward function is `verified`), choose traces.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from explorer.records import Problem, Verdict
from explorer.rollout import JudgeLike
from explorer.training.common import completion_ids, dataset, quiet, settings
from explorer.training.group import slot
from explorer.training.request import Inject, Sampler, TrainRequest
from explorer.training.sampler import FastSampler, SamplingTrainer
from explorer.training.traces import TrainingTrace
from explorer.training.weights import Trainee
from explorer.training.zero_variance import ALIKE, ZeroVarianceTrainer

OFF_POLICY = "off_policy"


def prompts_of(problems: Sequence[Problem], traces: Sequence[TrainingTrace], trainee: Trainee) -> list[dict[str, Any]]:
    """Rows of TRL's dataset: prompt, answer, problem, and the rescued traces that may enter its group."""
    by_question: dict[str, list[TrainingTrace]] = {}
    for trace in traces:
        by_question.setdefault(trace.question, []).append(trace)
    chat = bool(trainee.tokenizer.chat_template)
    return [
        {
            "prompt": [{"role": "user", "content": problem.question}]
            if chat
            else f"Question: {problem.question}\nAnswer:",
            "answer": problem.answer,
            "problem": problem.id,
            "rescued_ids": [completion_ids(trace, trainee.end_id) for trace in by_question.get(problem.question, ())],
            "rescued_prefixes": [trace.prefix_tokens for trace in by_question.get(problem.question, ())],
        }
        for problem in problems
    ]


def verified(judge: JudgeLike, tokenizer, end_ids: Sequence[int]) -> Callable[..., list[float]]:
    """The reward: 1 if the completion's final answer is the gold one, else 0, also where none could be read: a text
    that states no answer shall not escape its group's comparison."""

    def reward(completion_ids: list[list[int]], answer: list[str], **_: object) -> list[float]:
        found = []
        for ids, gold in zip(completion_ids, answer, strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            ended = bool(ids) and ids[-1] in end_ids
            found.append(float(judge.judge(gold, text, cut_off=not ended).verdict is Verdict.CORRECT))
        return found

    reward.__name__ = "verified"
    return reward


def accepted(
    traces: Sequence[TrainingTrace], judge: JudgeLike, trainee: Trainee
) -> tuple[list[TrainingTrace], list[TrainingTrace]]:
    """The traces that the reward function takes for correct, and those that it does not: a run may have judged the
    continuation alone, and a member that enters for its reward and gets none would teach its group nothing."""
    reward = verified(judge, trainee.tokenizer, trainee.end_ids)
    ids = [completion_ids(trace, trainee.end_id) for trace in traces]
    rewards = reward(completion_ids=ids, answer=[trace.answer for trace in traces])
    kept, refused = [], []
    for trace, given in zip(traces, rewards, strict=True):
        (kept if given > 0 else refused).append(trace)
    return kept, refused


class RescuingTrainer(ZeroVarianceTrainer):
    """TRL's trainer, with a rescued trace in the groups that it is meant for."""

    def __init__(self, *args, inject: Inject, off_policy_c: float, mask_prefix: bool, seed: int, **kwargs):
        super().__init__(*args, seed=seed, **kwargs)
        if self.importance_sampling_level != "token":
            raise ValueError("the weight p / (p + c) is a token's: importance_sampling_level must be token")
        self._inject, self._c, self._mask_prefix = inject, off_policy_c, mask_prefix
        self._rows: list[dict[str, Any]] = []
        self._entered: dict[int, int] = {}  # local member -> tokens of its replayed prefix

    # -- the trace enters its group ----------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._rows, self._entered = inputs, {}
        output = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return output
        completions = output["completion_ids"]
        entered = torch.zeros(len(completions), dtype=torch.bool, device=completions.device)
        entered[list(self._entered)] = True
        output[OFF_POLICY] = entered
        if ALIKE in output:  # its ratio is not clipped: it must not be blamed, should the reward take it back
            output[ALIKE] = torch.where(entered, 0, output[ALIKE])
        if self._mask_prefix:
            shown = torch.ones_like(output["completion_mask"])
            for member, hidden in self._entered.items():
                shown[member, :hidden] = 0
            output["tool_mask"] = output["tool_mask"] * shown if "tool_mask" in output else shown
            left = (output["completion_mask"] * output["tool_mask"]).sum()
            output["num_items_in_batch"] = self.accelerator.gather(left).sum()
        return output

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        ids, logprobs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        if self.model.training:
            rewards = self.reward_funcs[0](completion_ids=ids, answer=[row["answer"] for row in self._rows])
            ids = [list(one) for one in ids]
            for member, trace in self._places(rewards).items():
                ids[member] = list(self._rows[member]["rescued_ids"][trace])
                if logprobs is not None:  # vLLM's; TRL takes None for a token that it could not score
                    logprobs[member] = [None] * len(ids[member])
                self._entered[member] = self._rows[member]["rescued_prefixes"][trace]
        entered = [member in self._entered for member in range(len(ids))]
        self._log_completion_extra("rescued", entered)
        # TRL averages over the processes: so it comes out as their sum.
        self._log_metric("rescued_members", float(sum(entered)) * self.accelerator.num_processes)
        return ids, logprobs

    def _places(self, rewards: Sequence[float]) -> dict[int, int]:
        """Which members of this process give way to which of their prompt's traces. Groups may lie across processes,
        so all rewards are looked at."""
        mine = torch.tensor(rewards, device=self.accelerator.device)
        everyone = self.accelerator.gather(mine).tolist()
        first = self.accelerator.process_index * len(rewards)
        found = {}
        # The same in every process, and after going on from a checkpoint.
        draw = random.Random(f"{self._seed}/{self.state.global_step}")
        for at in range(0, len(everyone), self.num_generations):
            luck = draw.random()
            place = slot(everyone[at : at + self.num_generations], self._inject)
            if place is None or not 0 <= (member := at + place - first) < len(rewards):
                continue
            traces = self._rows[member]["rescued_ids"]
            if traces:
                found[member] = int(luck * len(traces))
        return found

    # -- and is weighed ----------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        logps, entropies, other = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        inputs = self._weighing
        if inputs is not None and torch.is_grad_enabled() and OFF_POLICY in inputs and inputs[OFF_POLICY].any():
            before = inputs.get("old_per_token_logps")
            before = logps.detach() if before is None else before
            inputs["old_per_token_logps"] = torch.where(
                inputs[OFF_POLICY][:, None], off_policy_denominator(logps, self._c), before
            )
        return logps, entropies, other


def off_policy_denominator(logps: Tensor, c: float) -> Tensor:
    """What stands for log p of the old policy, so that the ratio of a token is p / (p + c): log(p + c), with its
    gradient. At c = 0 the token counts as on-policy: ratio 1, gradient that of log p.

    Args:
        logps: (members, tokens), nats, with gradient.
        c: of the weight.
    """
    return torch.log(logps.exp() + c) if c else logps.detach()


def trainer(
    trainee: Trainee,
    problems: Sequence[Problem],
    traces: Sequence[TrainingTrace],
    request: TrainRequest,
    folder: Path,
    watch: TrainerCallback,
    judge: JudgeLike,
) -> GRPOTrainer:
    """A trainer over the problems: TRL's own, or ours on top of it with the app's sampler, RL-ZVP or injection."""
    vllm = {"use_vllm": True, "vllm_mode": "colocate"} if request.sampler is Sampler.VLLM else {}
    fast = None
    if request.sampler is Sampler.FAST or (request.sampler is Sampler.AUTO and FastSampler.suits(trainee)):
        fast = FastSampler(trainee)
    kind, more = GRPOTrainer, {}
    if fast is not None:
        kind, more = SamplingTrainer, {"seed": request.seed, "fast": fast}
    if request.zvp_alpha:
        kind, more = ZeroVarianceTrainer, {"seed": request.seed, "fast": fast, "zvp_alpha": request.zvp_alpha}
    if request.inject is not Inject.NEVER:
        kind = RescuingTrainer
        more = {
            "fast": fast,
            "inject": request.inject,
            "off_policy_c": request.off_policy_c,
            "mask_prefix": request.mask_prefix,
            "zvp_alpha": request.zvp_alpha,
            "seed": request.seed,
        }
    made = kind(
        model=trainee.network,
        reward_funcs=[verified(judge, trainee.tokenizer, trainee.end_ids)],
        args=GRPOConfig(
            **settings(request, folder, trainee.device),
            per_device_train_batch_size=request.batch * request.group,
            num_generations=request.group,
            max_completion_length=request.max_new_tokens,
            temperature=request.temperature,
            top_k=0,
            beta=request.kl,
            scale_rewards=request.scale_rewards.value,
            shuffle_dataset=False,  # the rows are in the order of the updates
            log_completions=True,
            num_completions_to_print=0,
            **vllm,
        ),
        # Shuffled by TRL a training that goes on would see its first time through once more: its sampler begins anew.
        train_dataset=dataset(prompts_of(problems, traces, trainee), request),
        processing_class=trainee.tokenizer,
        peft_config=trainee.lora(request),
        callbacks=[watch],
        **more,
    )
    return quiet(made)
