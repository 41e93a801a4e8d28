"""A short name for a vocabulary matrix, so that a trace, a map and an export can say which weights they belong to.

What it does not do: tell apart models that share their embeddings and differ elsewhere; `ModelInfo.revision` is for
that.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

ROWS = 1_024


def spaced_rows(vocabulary: Tensor, count: int) -> Tensor:
    """At most `count` rows of (vocab_size, hidden) at even spacing, as float32 on the CPU."""
    ids = torch.linspace(0, len(vocabulary) - 1, min(count, len(vocabulary)), dtype=torch.float64).long()
    return vocabulary.detach()[ids.to(vocabulary.device)].float().cpu()


def fingerprint(vocabulary: Tensor) -> str:
    """16 hexadecimal digits that name a vocabulary matrix, (vocab_size, hidden), whatever device it lies on.

    The sha256 of the shape and of the float32 bytes of at most 1,024 rows at even spacing: milliseconds, and any
    training or rounding touches those rows too. So the same model in bfloat16 has another fingerprint.
    """
    digest = hashlib.sha256(f"{tuple(vocabulary.shape)}".encode())
    digest.update(spaced_rows(vocabulary, ROWS).numpy().astype("<f4").tobytes())
    return digest.hexdigest()[:16]
