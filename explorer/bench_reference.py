"""What the benchmark compares with: the method written down plainly, on a network that nothing of ours has touched.

A step here is two whole passes (prompt, prefix and branch as input embeddings, no cache, logits of every position, a
log-softmax, a mean, autograd to the prefix), then one product with the whole vocabulary and an argmin. Sampling is the
library's own `generate`. The network is a second copy with torch's own linear layers.

What it does not do: import anything of ours, so that a mistake of ours can't hide in both; look at a clock
(`bench_rows.py` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PlainStep:
    """One revision step by the book: losses in nats per scored token, gradients (M, hidden), the vertices (M,), and the
    point after the step."""

    toward: float
    away: float
    toward_gradient: Tensor
    away_gradient: Tensor
    vertices: Tensor
    after: Tensor


class PlainReference:
    """A frozen causal model as transformers loads it."""

    def __init__(self, network: nn.Module):
        """Wrap a network of its own: not one whose layers were swapped."""
        from transformers import GenerationConfig

        self.network = network.eval().requires_grad_(False)
        self.device, self.dtype = next(network.parameters()).device, next(network.parameters()).dtype
        # What a generation does is said with each call; settings that came with the weights stay out.
        network.generation_config = GenerationConfig()

    @classmethod
    def load(
        cls, path: str | Path, device: torch.device, dtype: torch.dtype, trust_remote_code: bool = False
    ) -> PlainReference:
        """From a folder of safetensors weights, in a given number format."""
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        network = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=trust_remote_code
        )
        return cls(network.to(device))

    def rows(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), hidden) float32: the embeddings of tokens."""
        with torch.no_grad():
            return self.network.get_input_embeddings()(torch.tensor(list(ids), device=self.device)).float()

    def vocabulary(self) -> Tensor:
        """(vocab_size, hidden): the embedding of every token."""
        with torch.no_grad():
            embed = self.network.get_input_embeddings()
            return embed(torch.arange(embed.weight.shape[0], device=self.device))

    def loss(
        self, prompt: Sequence[int], x: Tensor, branch: Sequence[int], scored: Iterable[int]
    ) -> tuple[float, Tensor]:
        """Mean negative log-likelihood of the branch's scored places after prompt and prefix, and its gradient at x.

        Args:
            prompt: token ids.
            x: the prefix, (M, hidden) float32.
            branch: token ids read after it.
            scored: places in the branch.
        """
        point = x.detach().clone().requires_grad_(True)
        whole = torch.cat([self.rows(prompt), point, self.rows(branch)]).to(self.dtype)[None]
        logits = self.network(inputs_embeds=whole, use_cache=False).logits[0].float()
        chances = torch.log_softmax(logits, dim=-1)
        places = torch.tensor(list(scored), device=self.device)
        before = len(prompt) + len(x) - 1 + places
        loss = -chances[before, torch.tensor(list(branch), device=self.device)[places]].mean()
        (gradient,) = torch.autograd.grad(loss, point)
        return float(loss.detach()), gradient

    def step(
        self,
        prompt: Sequence[int],
        x: Tensor,
        anchor: Sequence[int],
        answer_span: tuple[int, int],
        continuation: Sequence[int],
        away_weight: float,
        step_size: float,
        rows: Tensor,
        allowed: Tensor | None = None,
    ) -> PlainStep:
        """One step from x; `rows` is the vocabulary, (vocab_size, hidden) float32, `allowed` (vocab_size,) bool."""
        start, end = answer_span
        toward, toward_gradient = self.loss(prompt, x, anchor[:end], range(start, end))
        away, away_gradient = self.loss(prompt, x, continuation, range(len(continuation)))
        scores = (toward_gradient - away_weight * away_gradient) @ rows.T
        if allowed is not None:
            scores = scores.masked_fill(~allowed, torch.inf)
        vertices = scores.argmin(dim=1)
        after = (1.0 - step_size) * x + step_size * rows[vertices]
        return PlainStep(toward, away, toward_gradient, away_gradient, vertices, after)

    @torch.no_grad()
    def generate(
        self,
        prompt: Sequence[int],
        *,
        n: int,
        new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        prefix: Tensor | None = None,
        end_ids: Sequence[int] = (),
    ) -> list[list[int]]:
        """The library's own sampling: token ids of n continuations, each up to its end token, which is left out.

        Args:
            prompt: token ids.
            n: how many, as `num_return_sequences`.
            new_tokens: at most so many; exactly so many when there are no end ids.
            temperature: 0 is greedy.
            top_p: nucleus.
            prefix: (M, hidden) embeddings to go on from after the prompt.
            end_ids: tokens that end a row.
        """
        from transformers import GenerationConfig

        ends = sorted(end_ids)
        drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
        settings = GenerationConfig(
            max_new_tokens=new_tokens,
            num_return_sequences=n,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
            **({"do_sample": False} | drawing),
        )
        ids = torch.tensor([list(prompt)], device=self.device)
        if prefix is None:
            given = {"input_ids": ids}
        else:
            given = {"inputs_embeds": torch.cat([self.rows(prompt), prefix]).to(self.dtype)[None]}
        length = len(prompt) + (0 if prefix is None else len(prefix))
        mask = torch.ones((1, length), dtype=torch.int64, device=self.device)
        found = self.network.generate(**given, attention_mask=mask, generation_config=settings)
        # From ids the prompt comes first; from embeddings only what is new is given.
        new = found[:, len(prompt) :] if prefix is None else found
        return [until_end(row, set(ends)) for row in new.tolist()]

    def weight_bytes(self) -> int:
        """Bytes of all parameters, tied ones once: what one decoding step has to read."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.network.parameters())

    def linear_weights(self) -> int:
        """Weights of the linear layers without the head: multiplications per token of one pass."""
        head = self.network.get_output_embeddings()
        return sum(
            layer.weight.numel()
            for layer in self.network.modules()
            if layer is not head and (isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D")
        )

    def head_weights(self) -> int:
        """Weights of the head: multiplications per position that logits are wanted for."""
        return self.network.get_output_embeddings().weight.numel()


def until_end(ids: Sequence[int], ends: set[int]) -> list[int]:
    """Token ids before the first end token."""
    kept = []
    for token in ids:
        if token in ends:
            break
        kept.append(token)
    return kept


def random_network(shape: Mapping[str, int]) -> nn.Module:
    """A Qwen2 network with random float32 weights and tied embeddings; `shape` as in its configuration."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(Qwen2Config(**shape, tie_word_embeddings=True))
