"""Rollouts of plain prompts through vLLM, where it is installed and there is a GPU: for hunts over many prompts.

It takes the place of `LanguageModel.sample` for the prompt's rollouts alone: revised prefixes, controls and everything
that needs gradients stay with our own model, which holds a second copy of the weights. Its random numbers are its own,
so a hunt says which of the two drew its rollouts and neither mixes with the other.

What it does not do: show tokens as they come. A prompt's rollouts arrive together.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from explorer.errors import UserError
from explorer.records import SamplingConfig

# Our own copy of the weights, prefixes and gradients need the rest.
SHARE_OF_MEMORY = 0.45


def installed() -> bool:
    """Whether vLLM can be imported."""
    return importlib.util.find_spec("vllm") is not None


class VllmRollouts:
    """A vLLM engine over the same weights."""

    def __init__(self, weights: Path, dtype: str, end_ids: frozenset[int], trust_remote_code: bool = False):
        """Load the weights into vLLM.

        Args:
            weights: the folder that our own model was loaded from.
            dtype: float32, bfloat16 or float16, as our own model has it.
            end_ids: tokens that end a rollout.
            trust_remote_code: as for our own model.

        Raises:
            UserError: vLLM can't load them; the sentence says what to do.
        """
        from vllm import LLM

        try:
            self._engine = LLM(
                model=str(weights),
                dtype=dtype,
                gpu_memory_utilization=SHARE_OF_MEMORY,
                trust_remote_code=trust_remote_code,
                enable_prefix_caching=True,
            )
        except Exception as error:  # it raises whatever its parts raise
            raise UserError(f"vLLM could not load this model ({error}): use --engine own.") from error
        self._end_ids = end_ids

    def sample(
        self, prompt: Sequence[int], sampling: SamplingConfig, stream: int = 0, first_row: int = 0
    ) -> Iterator[list[tuple[int, int | None]]]:
        """`LanguageModel.sample` for a plain prompt, all at once; each row has its own seed, so that N more rollouts
        are others than the first N.

        Yields:
            one list of (row, token id) per position, the id None where the row reached its end token.
        """
        from vllm import SamplingParams

        rows = range(first_row, first_row + sampling.n)
        settings = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                stop_token_ids=sorted(self._end_ids),
                seed=(sampling.seed * 1_000_003 + stream * 65_537 + row) % 2**63,
                detokenize=False,
            )
            for row in rows
        ]
        prompts = [{"prompt_token_ids": list(prompt)} for _ in rows]
        answers = self._engine.generate(prompts, settings, use_tqdm=False)
        drawn = [list(answer.outputs[0].token_ids) for answer in answers]
        for place in range(max(map(len, drawn), default=0)):
            events = [(row, tokens[place]) for row, tokens in enumerate(drawn) if place < len(tokens)]
            yield [(row, None if token in self._end_ids else token) for row, token in events]
        # A rollout that ended without its end token in sight would otherwise count as cut off.
        ended = [
            (row, None)
            for row, answer in enumerate(answers)
            if answer.outputs[0].finish_reason == "stop" and not self._end_ids & set(drawn[row])
        ]
        if ended:
            yield ended
