"""A model to be trained: its network, tokenizer and name; LoRA around it; the trained model as a folder that
`--model` takes.

Weights are trained in float32, on CUDA under 16-bit autocast (`model.gpu_format`): updates of this size vanish in the
rounding of 16-bit weights. `LanguageModel` is no use here, it is frozen and its products have no gradient for weights.

What it does not do: find weights (`sources.py`), train them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from explorer.errors import UserError, no_memory
from explorer.files import write_atomic
from explorer.fingerprint import fingerprint, format_fingerprints
from explorer.model import choose_device
from explorer.records import ModelInfo
from explorer.settings import Settings
from explorer.sources import ResolvedModel, called
from explorer.training.common import turn_end
from explorer.training.folder import MODEL
from explorer.training.request import Adapter, TrainRequest
from explorer.training.traces import TrainingTrace

PARENT_FILE = "trained.json"
ADAPTER_FOLDER = "adapter"


class Trainee:
    """A network with its tokenizer, as loaded: nothing swapped, nothing frozen."""

    def __init__(self, found: ResolvedModel, settings: Settings):
        """Load it. Raises `UserError` where the folder holds no causal language model, or no such device exists."""
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.found, self.device = found, choose_device(settings.device)
        try:
            self.network = AutoModelForCausalLM.from_pretrained(
                found.path,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=settings.allow_remote_code,
            )
            self.tokenizer = AutoTokenizer.from_pretrained(
                found.path, local_files_only=True, trust_remote_code=settings.allow_remote_code
            )
        except Exception as error:  # each library has kinds of its own for a file that holds what it should not
            if no_memory(error):
                raise
            raise UserError(
                f"The weights of {found.id} could not be loaded: use a causal language model saved as safetensors."
            ) from error
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        rows = self._rows()
        self.info = ModelInfo(
            id=found.id,
            source=found.source,
            revision=found.revision,
            dtype="float32",
            device=str(self.device),
            vocab_size=rows.shape[0],
            hidden_size=rows.shape[1],
            fingerprint=fingerprint(rows),
        )
        # A trace may come from the same weights in a 16-bit format, whose rows are rounded.
        self.fingerprints = format_fingerprints(self.network.get_input_embeddings(), len(rows))

    @torch.no_grad()
    def _rows(self) -> torch.Tensor:
        """V as the model consumes it, (vocab_size, hidden); see `LanguageModel._vocabulary_rows`."""
        embed = self.network.get_input_embeddings()
        count = embed.weight.shape[0]
        sample = torch.arange(0, count, max(1, count // 64))
        if torch.equal(embed(sample), embed.weight[sample]):
            return embed.weight.detach()
        return torch.cat([embed(torch.arange(at, min(at + 8_192, count))) for at in range(0, count, 8_192)])

    @functools.cached_property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return turn_end(self.tokenizer, self.end_ids)

    @property
    def end_ids(self) -> list[int]:
        """All tokens that end an answer, as `LanguageModel` has them."""
        known = getattr(self.network.generation_config, "eos_token_id", None)
        known = known if isinstance(known, list) else [known]
        return sorted({int(token) for token in (*known, self.tokenizer.eos_token_id) if token is not None})

    def prompt_ids(self, question: str) -> list[int]:
        """As `LanguageModel.prompt` has them."""
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.tokenizer(f"Question: {question}\nAnswer:")["input_ids"]

    def need_own(self, traces: Sequence[TrainingTrace]) -> None:
        """Refuse traces of another model: their tokens would mean something else, their prefixes be another hull's.

        Raises:
            UserError: another model or another tokenizer.
        """
        for one in {(trace.model_id, trace.fingerprint): trace for trace in traces}.values():
            self._need_own(one)

    def _need_own(self, one: TrainingTrace) -> None:
        # An adapter leaves the embeddings, and so the fingerprint, as its parent's are: the name must be the same too.
        if one.model_id and one.model_id != self.info.id:
            raise UserError(
                f"These traces were made by {called(one.model_id, one.model_source)}, not by {self.info.id}: train the "
                "model that made them (a folder must have the name that it had then)."
            )
        if one.fingerprint and one.fingerprint not in self.fingerprints:
            raise UserError(
                f"These traces were made by {called(one.model_id, one.model_source)} ({one.fingerprint}), not by "
                f"{called(self.info.id, self.info.source)} ({self.info.fingerprint}): train the model that made them."
            )
        if not self._reads(one):
            raise UserError(
                f"The tokenizer of {self.info.id} reads these prompts as other tokens than the one that made the "
                "traces: use the model's own tokenizer."
            )

    def _reads(self, one: TrainingTrace) -> bool:
        """Whether the tokenizer reads a trace's prompt as the one that made it did."""
        ids = list(one.prompt_ids)
        if ids == self.prompt_ids(one.question):
            return True
        if "strftime_now" not in str(self.tokenizer.chat_template):
            return False
        # The template writes the day into the prompt, and the trace is of another one: its own text is read again.
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return one.question.strip() in text and self.tokenizer(text, add_special_tokens=False)["input_ids"] == ids

    def lora(self, request: TrainRequest):
        """The settings of its adapter, or None where all weights are trained."""
        if request.adapter is Adapter.FULL:
            return None
        from peft import LoraConfig

        return LoraConfig(
            r=request.lora_rank,
            lora_alpha=2 * request.lora_rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )


def save_trained(network: nn.Module, tokenizer, folder: Path, parent: dict) -> Path:
    """Write the trained model beside its place and rename it there: whole or not there.

    Args:
        network: as trained; an adapter is merged into a copy of its weights, and kept by itself as well.
        tokenizer: the model's.
        folder: the training's.
        parent: what the model is made of, kept beside its weights.

    Returns:
        The model's folder.
    """
    target, staging = folder / MODEL, folder / f".{MODEL}.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    with merged(network) as plain:
        plain.save_pretrained(staging)
    if adapted(network):
        network.save_pretrained(staging / ADAPTER_FOLDER)
    tokenizer.save_pretrained(staging)
    write_atomic(staging / PARENT_FILE, json.dumps(parent, indent=1, ensure_ascii=False).encode())
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    return target


@contextlib.contextmanager
def merged(network: nn.Module) -> Iterator[nn.Module]:
    """The network with its adapter's products added to the weights, for as long as the context lasts; itself where it
    has none."""
    if not adapted(network):
        yield network
        return
    network.merge_adapter()
    base = network.get_base_model()
    try:
        yield _Plain(base)
    finally:
        network.unmerge_adapter()


def adapted(network: nn.Module) -> bool:
    """Whether an adapter is trained, beside weights that stay as they are."""
    return hasattr(network, "peft_config")


def without_adapter(network: nn.Module) -> contextlib.AbstractContextManager:
    """The network as it was before its adapter was trained, for as long as the context lasts; itself where it has
    none."""
    return network.disable_adapter() if adapted(network) else contextlib.nullcontext()


class _Plain:
    """A network with merged adapters that saves itself under the names that its weights have without them."""

    def __init__(self, base: nn.Module):
        self.base = base

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights by their plain names."""
        found = {}
        for name, value in self.base.state_dict().items():
            if ".lora_" in name:
                continue
            found[name.replace(".base_layer.", ".")] = value
        return found

    def save_pretrained(self, folder: Path) -> None:
        """As transformers does it."""
        self.base.save_pretrained(folder, state_dict=self.state_dict())
