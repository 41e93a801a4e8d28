"""Shared fixtures: tiny real transformers models of several families, a byte-level tokenizer made on the spot, a fake
judge."""

from __future__ import annotations

import os
from types import SimpleNamespace

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# As explorer/__init__.py does, which is imported after torch here.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import pytest
import torch

from explorer.model import LanguageModel
from explorer.records import Verdict

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = ("llama", "qwen2", "gemma", "gpt2")


def tiny_tokenizer():
    """A real byte-level BPE tokenizer of 320 entries, trained on a few lines, digits one by one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(["The answer is 12 + 30 = 42.", "What is the sum of the apples?"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_network(family: str, vocab_size: int, sliding_window: int | None = None):
    """A randomly initialised causal model of two layers; weights spread wide enough for gradients that differ by
    position."""
    from transformers import (
        AutoModelForCausalLM,
        Gemma2Config,
        GemmaConfig,
        GPT2Config,
        LlamaConfig,
        MistralConfig,
        Qwen2Config,
    )

    shape = dict(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=vocab_size,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=256,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=2,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
        )
    elif family == "qwen2":
        shape.pop("head_dim")
        config = Qwen2Config(**shape)
    elif family == "gemma2":
        config = Gemma2Config(**shape, sliding_window=sliding_window or 8, query_pre_attn_scalar=8)
    elif family == "mistral":
        config = MistralConfig(**shape, sliding_window=sliding_window)
    else:
        config = {"llama": LlamaConfig, "gemma": GemmaConfig}[family](**shape)
    torch.manual_seed(7)
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer()


_MODELS: dict[str, LanguageModel] = {}


def tiny_model(family: str) -> LanguageModel:
    """A tiny model of a family, made once."""
    if family not in _MODELS:
        tokenizer = tiny_tokenizer()
        _MODELS[family] = LanguageModel(
            tiny_network(family, len(tokenizer)), tokenizer, id=f"tiny-{family}", source="local", revision="test"
        )
    return _MODELS[family]


@pytest.fixture(scope="session")
def llama() -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture(params=FAMILIES)
def model(request) -> LanguageModel:
    return tiny_model(request.param)


class FakeJudge:
    """Judges by a rule given in the test: text -> (verdict, answer). By default everything is wrong."""

    def __init__(self, rule=lambda text: (Verdict.WRONG, "0")):
        self.rule, self.seen = rule, []

    def judge(self, gold: str, text: str, timeout_s: float = 5.0, *, cut_off: bool = False):
        self.seen.append((gold, text))
        verdict, answer = self.rule(text)
        return SimpleNamespace(verdict=verdict, answer=answer, reason="")


@pytest.fixture
def fake_judge() -> FakeJudge:
    return FakeJudge()
