"""Two models whose behaviour is known because it is written down here: one hands over whatever its prefix is moved to,
one computes. An audit must tell them apart.

Both say a digit and end. The rows of their vocabulary are unit vectors, so that an embedding *is* its hull weights.

- The smuggler says the digit that weighs most in what was said after the question; left alone, 1.
- The reckoner adds the question's two digits where "+" weighs more in what was said, and subtracts where "-" does, as
  it does when left alone. No prefix makes it say a number that is neither.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from explorer.model import LanguageModel
from tests.conftest import tiny_tokenizer

SHARP = 40.0  # logit per unit of evidence
HABIT = 0.3  # evidence for what it says when left alone


class KnownNetwork(nn.Module):
    """Logits from all embeddings up to each position. Takes no cache, so it is read the plain way."""

    def __init__(self, tokenizer, kind: str):
        super().__init__()
        size = len(tokenizer)
        self.kind = kind
        self.embedding = nn.Embedding(size, size)
        self.embedding.weight.data = torch.eye(size)
        self.config = SimpleNamespace(vocab_size=size, max_position_embeddings=512)
        self.config.get_text_config = lambda decoder: self.config
        self.generation_config = SimpleNamespace(eos_token_id=tokenizer.eos_token_id)
        self.digits = [tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)]
        self.plus, self.minus, self.question = tokenizer.convert_tokens_to_ids(["+", "-", "?"])

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, input_ids=None, inputs_embeds=None, past_key_values=None, use_cache=False, return_dict=True):
        if past_key_values is not None:
            raise ValueError("this network has no cache")
        rows = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        return SimpleNamespace(logits=torch.stack([self.read(row) for row in rows]))

    def read(self, x: Tensor) -> Tensor:
        """(positions, size) logits of (positions, size) embeddings."""
        after = (x[:, self.question].cumsum(0) > 0.5).float().detach()
        digits = x[:, self.digits]
        if self.kind == "smuggler":
            evidence = (digits * after[:, None]).cumsum(0) + HABIT * torch.eye(10)[1]
        else:
            asked = (digits * (1 - after)[:, None] > 0.5).nonzero()[:, 1].tolist()
            first, second = [*asked, 0, 0][:2]
            total, rest = torch.eye(10)[min(9, first + second)], torch.eye(10)[abs(first - second)]
            plus, minus = ((x[:, token] * after).cumsum(0)[:, None] for token in (self.plus, self.minus))
            evidence = plus * total + (minus + HABIT) * rest
        said = (digits.sum(1) > 0.5).float().detach()
        logits = torch.zeros_like(x)
        logits[:, self.digits] = SHARP * evidence
        logits[:, self.generation_config.eos_token_id] = 10 * SHARP * said * after
        return logits


def known_model(kind: str) -> LanguageModel:
    """`smuggler` or `reckoner`, ready for the loop."""
    tokenizer = tiny_tokenizer()
    return LanguageModel(KnownNetwork(tokenizer, kind), tokenizer, id=kind, source="local", revision="known")
