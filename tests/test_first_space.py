"""Tokenizers that put a space before whatever they encode and drop the first of whatever they decode (Llama 2,
TinyLlama, Mistral, Phi 3): a continuation's text is what it adds to its prefix, an anchor stands as it would behind
it."""

from __future__ import annotations

import random

import pytest

from explorer.export import rescued, sft_rows
from explorer.model import LanguageModel
from explorer.records import SamplingConfig, Verdict
from explorer.rollout import sample_and_judge
from explorer.training.traces import RESCUED, candidates
from explorer.verdict import Judge
from tests.conftest import CHAT_TEMPLATE, tiny_network, tiny_tokenizer
from tests.test_pipeline import told

WORDS = ["▁The", "▁answer", "▁is", "▁sum", "▁of", "▁12", "The", "▁▁"]
PREFIX = ["▁The", "▁answer", "▁is"]


def spaced_tokenizer(kind: str):
    """A SentencePiece-like BPE tokenizer of these words and single characters, in both forms that such models come in:
    `older` as their own tokenizer.json has it, `newer` as transformers' own class builds it."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast

    merges = dict.fromkeys((word[:end], word[end]) for word in WORDS for end in range(1, len(word)) if word != "▁12")
    pieces = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", *"0123456789+=.,:?", *"TWAQabcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys([*pieces, *map("".join, merges)]))}
    if kind == "newer":
        tokenizer = LlamaTokenizer(vocab=vocabulary, merges=list(merges))
    else:
        backend = Tokenizer(models.BPE(vocabulary, list(merges), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="module", params=["older", "newer"])
def spaced(request) -> LanguageModel:
    tokenizer = spaced_tokenizer(request.param)
    return LanguageModel(tiny_network("llama", len(tokenizer)), tokenizer, id=f"spaced-{request.param}")


def ids_of(model: LanguageModel, *pieces: str) -> list[int]:
    return model.tokenizer.convert_tokens_to_ids(list(pieces))


def test_the_tokenizer_is_such_a_one(spaced):
    assert spaced.encode("The answer is 30.") == ids_of(spaced, *PREFIX, *"▁30.")
    assert spaced.decode(ids_of(spaced, *"▁30.")) == "30."


def test_a_continuation_is_judged_with_its_first_space(spaced, monkeypatch):
    prefix, said = ids_of(spaced, *PREFIX), ids_of(spaced, *"▁30.")

    def sample(*given):
        yield from ([(0, token)] for token in [*said, None])

    monkeypatch.setattr(spaced, "sample", sample)
    with Judge() as judge:
        *_, state = sample_and_judge(
            spaced, None, spaced.rows(prefix), SamplingConfig(n=1, max_new_tokens=9), "30", judge, before=prefix
        )
    (rollout,) = state.finished()
    assert (rollout.text, rollout.answer, rollout.verdict) == (" 30.", "30", Verdict.CORRECT)


def test_prefix_and_continuation_of_a_run_join_to_what_its_tokens_say(spaced):
    trace = told(spaced).trace()
    assert any(item.text != spaced.decode(item.token_ids) for item in trace.after), "the test could not fail"
    correct = [item.model_copy(update={"verdict": Verdict.CORRECT}) for item in trace.after]
    trace = trace.model_copy(update={"after": tuple(correct)})
    for item in trace.after:
        assert item.prefix_text + item.text == spaced.decode([*item.prefix_token_ids, *item.token_ids])
    for row in sft_rows(trace):
        assert row["completion"][0]["content"] == spaced.decode(row["completion_ids"])
    rows = [row for row in candidates(trace) if row.origin == RESCUED]
    assert len(rows) == len(rescued(trace)) > 0
    assert all(row.text == spaced.decode(row.completion_ids) for row in rows)


@pytest.mark.parametrize(
    "prefix",
    [
        PREFIX,
        ["The", *PREFIX[1:]],  # behind a line break, as TinyLlama's answers begin: it can't be tokenised so again
        ["▁", "T", "h", "e", *PREFIX[1:]],  # sampled otherwise
    ],
)
@pytest.mark.parametrize(
    ("connector", "failed", "pieces", "span"),
    [
        ("", "▁41", "▁30", (1, 3)),
        ("", ".41", "30", (0, 2)),
        (" ", "▁41", "▁30", (1, 3)),
        (" = ", "▁41", "▁=▁30", (3, 5)),
        ("\n", "▁41", ["<0x0A>", *"30"], (1, 3)),
    ],
)
def test_an_anchor_stands_as_it_would_behind_the_prefix(spaced, prefix, connector, failed, pieces, span):
    anchor = spaced.anchor(ids_of(spaced, *prefix), connector, "30", ids_of(spaced, *failed))
    assert anchor.token_ids == tuple(ids_of(spaced, *pieces))
    assert anchor.text == "".join(pieces).replace("▁", " ").replace("<0x0A>", "\n")
    assert anchor.answer_span == span


def test_a_cut_inside_a_word_puts_no_space_there(spaced):
    anchor = spaced.anchor(ids_of(spaced, "▁The", "▁an"), "", "swer", ids_of(spaced, *"s"))
    assert spaced.decode([*ids_of(spaced, "▁The", "▁an"), *anchor.token_ids]) == "The answer"


def test_the_space_behind_a_plain_prompt_is_the_tokenizers_own(spaced, monkeypatch):
    monkeypatch.setattr(spaced.tokenizer, "chat_template", None)
    assert spaced.text_after(spaced.encode("Answer:"), spaced.encode(spaced.gap + "30")) == " 30"


def test_a_tokenizer_that_loses_nothing_gives_what_it_gave():
    """Byte by byte, cut inside characters too."""
    tokenizer = tiny_tokenizer()
    model = LanguageModel(tiny_network("llama", len(tokenizer)), tokenizer, id="tiny")
    draw = random.Random(3)
    texts = ["naïve ☃ 漢字 😀 = 4", " The answer\n is  42."]
    rows = [model.encode(text) for text in texts] + [draw.choices(range(len(tokenizer)), k=12) for _ in range(200)]
    for row in rows:
        for cut in range(len(row) + 1):
            assert model.text_after(row[:cut], row[cut:]) == model.decode(row[cut:])
