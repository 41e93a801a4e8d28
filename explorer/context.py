"""What a model has read: a shared past that continues in many ways, as cheaply as memory allows.

Keys and values of a prompt are computed once; forks of it share them, branches read in one pass do not see each other,
and rows that sample side by side write into memory laid out beforehand instead of copying their past at every token.

What it does not do: know a family's classes. The cache objects are the library's own (`model.py` makes them); here
only their `layers` with `keys`, `values` and `update` are used.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from explorer.model import LanguageModel


class GrowingLayer:
    """One layer's keys and values for rows that grow by a token at a time, in memory laid out once.

    The library's own layer copies the whole past at every token; with 16 rows of 60 tokens that was a fifth of the
    time. Takes its place by having its methods.
    """

    is_sliding = False
    is_initialized = True
    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, rows: int, room: int):
        """From one row's (1, heads, length, size) keys and values, room for so many more tokens."""
        self._length = keys.shape[-2]
        self._room = [
            torch.empty((rows, part.shape[1], self._length + room, part.shape[3]), dtype=part.dtype, device=part.device)
            for part in (keys, values)
        ]
        for memory, part in zip(self._room, (keys, values), strict=True):
            memory[:, :, : self._length] = part

    @classmethod
    def of_pasts(cls, pasts: Sequence[tuple[Tensor, Tensor]], counts: Sequence[int], room: int) -> GrowingLayer:
        """Rows of several pasts of unequal length, `counts` of each, all ending at the same place: shorter ones have
        nothing before their beginning, where a mask keeps anybody from looking."""
        longest = max(keys.shape[-2] for keys, _ in pasts)
        layer = cls.__new__(cls)
        layer._length = longest
        layer._room = []
        for part in (0, 1):
            like = pasts[0][part]
            shape = (sum(counts), like.shape[1], longest + room, like.shape[3])
            memory = torch.zeros(shape, dtype=like.dtype, device=like.device)
            first = 0
            for past, count in zip(pasts, counts, strict=True):
                memory[first : first + count, :, longest - past[part].shape[-2] : longest] = past[part]
                first += count
            layer._room.append(memory)
        return layer

    @property
    def keys(self) -> Tensor:
        """(rows, heads, length, size)."""
        return self._room[0][:, :, : self._length]

    @property
    def values(self) -> Tensor:
        """(rows, heads, length, size)."""
        return self._room[1][:, :, : self._length]

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Add new positions; all keys and values."""
        end = self._length + keys.shape[-2]
        self._room[0][:, :, self._length : end] = keys
        self._room[1][:, :, self._length : end] = values
        self._length = end
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions held."""
        return self._length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(positions that a mask covers, offset of the first)."""
        return self._length + query_length, 0

    def batch_select_indices(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self._room = [memory[rows] for memory in self._room]


class Context:
    """Tokens or embeddings that a model has read, for `rows` sequences of equal length; forks share the memory of what
    was read.

    The last token of a prompt stays in `tail` and is read with whatever comes next, so that logits right after the
    prompt cost no second reading. A context is extended in place by `extend`; fork first to keep the original.
    """

    def __init__(
        self, model: LanguageModel, cache: object | None, read: Tensor | None, tail: Tensor | None, length: int
    ):
        self._model = model
        self._cache = cache
        self._read = read  # (rows, length, hidden), the plain way only
        self._tail = tail  # (1, 1, hidden) or None
        self.length = length  # positions per row, the tail not counted
        self._whole: Context | None = None

    @torch.no_grad()
    def whole(self) -> Context:
        """This one-row context with its tail read as well, worked out once: for what goes on from it many times, step
        after step, and never asks for logits right after it."""
        if self._tail is None:
            return self
        if self._whole is None:
            self._whole = self.fork()
            self._whole.extend(self._tail[:, :0], 1)
        return self._whole

    def fork(self, rows: int = 1, room: int = 0) -> Context:
        """A new context of `rows` copies of this one-row context; keys and values are shared, not copied.

        With `room` the copies are laid out for so many more tokens each, read without gradients: for sampling.
        """
        cache = None
        if self._cache is not None:
            cache = copy.copy(self._cache)
            cache.layers = [copy.copy(layer) for layer in self._cache.layers]
            if room and self._growing():
                cache.layers = [GrowingLayer(layer.keys, layer.values, rows, room) for layer in cache.layers]
            elif rows > 1:
                for layer in cache.layers:
                    # Dynamic layers grow by concatenation, never in place, so an expanded view is safe.
                    layer.keys = layer.keys.expand(rows, -1, -1, -1)
                    layer.values = layer.values.expand(rows, -1, -1, -1)
        read = None if self._read is None else self._read.expand(rows, -1, -1)
        return Context(self._model, cache, read, self._tail, self.length)

    def _growing(self) -> bool:
        """Whether every layer keeps all of its past: sliding windows forget, and need masks of their own."""
        return all(type(layer).__name__ == "DynamicLayer" for layer in self._cache.layers)

    def select(self, rows: Tensor) -> None:
        """Keep only the given rows, (kept,) int64: finished sequences leave the batch."""
        if self._cache is not None:
            for layer in self._cache.layers:
                layer.batch_select_indices(rows)
        if self._read is not None:
            self._read = self._read[rows]

    def extend(self, embeddings: Tensor, keep: int) -> Tensor:
        """Read more input embeddings; differentiable with respect to them.

        Args:
            embeddings: (rows, new, hidden), any floating dtype.
            keep: for how many of the last positions logits are wanted.

        Returns:
            (rows, keep, vocab_size) float32 logits.
        """
        embeddings = embeddings.to(self._model.dtype)
        if self._tail is not None:
            embeddings = torch.cat([self._tail.expand(embeddings.shape[0], -1, -1), embeddings], dim=1)
            self._tail = None
        self.length += embeddings.shape[1]
        if self._read is not None:
            embeddings = self._read = torch.cat([self._read, embeddings], dim=1)
        return self._model.forward(embeddings, self._cache, keep)

    def extend_rows(self, branches: Sequence[tuple[Tensor, int]]) -> list[Tensor]:
        """Read a branch in each row; shorter ones are filled up behind their end, where nothing of theirs looks.

        Args:
            branches: one for each row: (embeddings (new, hidden), how many of its last positions logits are wanted
                for).

        Returns:
            one (kept, vocab_size) float32 tensor for each. The context is spent: rows now hold filling.
        """
        longest = max(len(rows) for rows, _ in branches)
        padded = [torch.nn.functional.pad(rows, (0, 0, 0, longest - len(rows))) for rows, _ in branches]
        first = min(len(rows) - keep for rows, keep in branches)
        logits = self.extend(torch.stack(padded), longest - first)
        ends = [len(rows) - first for rows, _ in branches]
        return [row[end - keep : end] for row, end, (_, keep) in zip(logits, ends, branches, strict=True)]

    def extend_apart(self, branches: Sequence[tuple[Tensor, int]], same: int = 0) -> Tensor:
        """Read two branches in one pass, each as if it alone followed this one-row context; the context is spent.

        Args:
            branches: two of (embeddings (new, hidden), how many of its last positions logits are wanted for).
            same: so many of the first embeddings are the same numbers in both; products are then done once for both.

        Returns:
            (kept of both, vocab_size) float32, the first branch's rows first. Needs a cache without sliding windows.

        Raises:
            ValueError: this context has no cache, or one that a mask of ours does not suit.
        """
        if self._cache is None or not self._growing():
            raise ValueError("branches can be read together only with a plain shared cache")
        (one, keep_one), (other, keep_other) = branches
        if self._tail is not None:
            tail = self._tail[0].to(one.dtype)
            one, other, same = torch.cat([tail, one]), torch.cat([tail, other]), same + 1
        device, total = one.device, len(one) + len(other)
        # The other branch's copy of what is the same stands last: twins are the first and the last rows of the pass.
        rows = torch.cat([one, other[same:], other[:same]])
        owner = torch.arange(total, device=device) >= len(one)
        places = (range(len(one)), range(same, len(other)), range(same))
        place = torch.tensor([index for part in places for index in part], device=device)
        sees = (owner[:, None] == owner) & (place[:, None] >= place)
        sees = torch.cat([torch.ones(total, self.length, dtype=torch.bool, device=device), sees], dim=1)
        dtype = self._model.dtype
        mask = torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill_(~sees, torch.finfo(dtype).min)
        # Where each branch's places lie in the pass.
        others = torch.cat([torch.arange(total - same, total), torch.arange(len(one), total - same)])
        kept = torch.cat([torch.arange(len(one) - keep_one, len(one)), others[len(other) - keep_other :]])
        with self._model.twins.of(total, same):
            # Squeezed, not picked: on the way back the one is free, the other fills a tensor of all logits with zeros.
            return self._model.forward(
                rows.to(dtype)[None], self._cache, kept.to(device), mask[None, None], (place + self.length)[None]
            ).squeeze(0)


class SideBySide:
    """Rows that go on from prompts of unequal length and grow by a token at a time: one pass for all of them."""

    def __init__(self, contexts: Sequence[Context], counts: Sequence[int], room: int):
        """Lay them out.

        Args:
            contexts: one-row contexts, each with its last token read.
            counts: how many rows go on from each.
            room: for how many more tokens.

        Raises:
            ValueError: a context has no cache, or one that a mask of ours does not suit.
        """
        if any(one._cache is None or not one._growing() for one in contexts):
            raise ValueError("rows of several prompts need a plain shared cache")
        self._model = contexts[0]._model
        self._cache = copy.copy(contexts[0]._cache)
        layers = zip(*(one._cache.layers for one in contexts), strict=True)
        self._cache.layers = [
            GrowingLayer.of_pasts([(layer.keys, layer.values) for layer in same], counts, room) for same in layers
        ]
        self.longest = max(one.length for one in contexts)
        device, dtype = self._model.device, self._model.dtype
        lengths = torch.tensor([one.length for one in contexts]).repeat_interleave(torch.tensor(counts)).to(device)
        places = torch.arange(self.longest + room, device=device)
        hidden = places[None] < (self.longest - lengths)[:, None]
        self._mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)
        self._place = lengths  # of the next token, in each row's own count
        self._length = self.longest

    def extend(self, embeddings: Tensor) -> Tensor:
        """Read one token of each row, (rows, 1, hidden); (rows, vocab_size) float32 logits after it."""
        self._length += 1
        mask = self._mask[:, None, None, : self._length]
        logits = self._model.forward(embeddings.to(self._model.dtype), self._cache, 1, mask, self._place[:, None])
        self._place = self._place + 1
        return logits[:, -1]

    def select(self, rows: Tensor) -> None:
        """Keep only the given rows, (kept,) int64."""
        for layer in self._cache.layers:
            layer.batch_select_indices(rows)
        self._mask, self._place = self._mask[rows], self._place[rows]
