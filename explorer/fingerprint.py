"""A short name for a vocabulary matrix, so that a trace, a map and an export can say which weights they belong to.

What it does not do: tell apart models that share their embeddings and differ elsewhere; `ModelInfo.revision` is for
that.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

ROWS = 1_024
FORMATS = (torch.float32, torch.bfloat16, torch.float16)


def spaced_ids(size: int, count: int) -> Tensor:
    """At most `count` of `size` ids at even spacing, int64."""
    return torch.linspace(0, size - 1, min(count, size), dtype=torch.float64).long()


def spaced_rows(vocabulary: Tensor, count: int) -> Tensor:
    """At most `count` rows of (vocab_size, hidden) at even spacing, as float32 on the CPU."""
    return vocabulary.detach()[spaced_ids(len(vocabulary), count).to(vocabulary.device)].float().cpu()


def fingerprint(vocabulary: Tensor) -> str:
    """16 hexadecimal digits that name a vocabulary matrix, (vocab_size, hidden), whatever device it lies on.

    The sha256 of the shape and of the float32 bytes of at most 1,024 rows at even spacing: milliseconds, and any
    training or rounding touches those rows too. So the same model in bfloat16 has another fingerprint.
    """
    return _name(tuple(vocabulary.shape), spaced_rows(vocabulary, ROWS))


@torch.no_grad()
def format_fingerprints(embed: nn.Module, count: int) -> frozenset[str]:
    """The fingerprints that the vocabulary of a float32 embedding module, of `count` ids, has in each format that its
    model may be loaded in.

    Not those of its rounded rows: a module may scale inside, by a factor that is rounded itself (Gemma 3).
    """
    found, ids = set(), spaced_ids(count, ROWS).to(next(embed.parameters()).device)
    for kind in FORMATS:  # one 16-bit copy of the weights at a time
        held = {**dict(embed.named_parameters()), **dict(embed.named_buffers())}
        held = {name: value.to(kind) if value.is_floating_point() else value for name, value in held.items()}
        rows = torch.func.functional_call(embed, held, (ids,))
        found.add(_name((count, rows.shape[1]), rows.float().cpu()))
    return frozenset(found)


def _name(shape: tuple[int, ...], rows: Tensor) -> str:
    digest = hashlib.sha256(f"{shape}".encode())
    digest.update(rows.numpy().astype("<f4").tobytes())
    return digest.hexdigest()[:16]
