"""Rollouts of GRPO at the app's own speed: a frozen copy of the model that takes over the weights before each sampling.

On the CPU in float32 the app samples two to four times as fast as `generate` (README, "How fast"): fast products, a
prompt read once for its whole group. The copy costs the model's memory once or twice more.

What it does not do: replace vLLM on a GPU; there TRL samples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from trl import GRPOTrainer

from explorer.model import LanguageModel
from explorer.records import SamplingConfig
from explorer.training.weights import Trainee, merged


class FastSampler:
    """Samples as the model that is trained would, at the weights that it had at the last `refresh`."""

    def __init__(self, trainee: Trainee):
        """Copy the network as loaded."""
        self.model = LanguageModel(copy.deepcopy(trainee.network), trainee.tokenizer, id=trainee.info.id)

    @staticmethod
    def suits(trainee: Trainee) -> bool:
        """Whether it pays: on the CPU."""
        return trainee.device.type == "cpu"

    @torch.no_grad()
    def refresh(self, network: nn.Module) -> None:
        """Take over the weights of the network under training, an adapter's products added."""
        with merged(network) as plain:
            given = plain.state_dict()
            for name, weight in self.model.network.state_dict().items():
                weight.copy_(given[name])
        self.model.refresh()

    def sample(self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, stream: int) -> list[list[int]]:
        """One completion for each prompt, with the end token that was drawn where the model ended it (it may know
        several); equal prompts side by side share their reading.

        Args:
            prompts: token ids; those of a group follow each other.
            sampling: temperature, top_p, max_new_tokens, seed; n is left out.
            stream: tells apart the samplings of one training.
        """
        found: list[list[int]] = []
        at = 0
        while at < len(prompts):
            end = at
            while end < len(prompts) and prompts[end] == prompts[at]:
                end += 1
            rows: list[list[int]] = [[] for _ in range(end - at)]
            given = sampling.model_copy(update={"n": len(rows)})
            read = self.model.read(prompts[at])
            for events in self.model.sample(read, None, given, stream, first_row=at, ends=True):
                for row, token in events:
                    rows[row].append(token)
            found += rows
            at = end
        return found


class SamplingTrainer(GRPOTrainer):
    """TRL's trainer, its completions drawn by the app's own loop where one is given."""

    def __init__(self, *args, fast: FastSampler | None = None, seed: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self._fast, self._seed = fast, seed

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        if self._fast is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        sampling = SamplingConfig(
            temperature=self.temperature, max_new_tokens=self.max_completion_length, seed=self._seed
        )
        self._fast.refresh(self.accelerator.unwrap_model(self.model))
        # The rows of another process are other rows of the same stream.
        stream = self.state.global_step * self.accelerator.num_processes + self.accelerator.process_index
        return self._fast.sample(prompt_ids, sampling, stream), None
