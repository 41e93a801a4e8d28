"""What a training will take, before it begins: tokens, time, memory, disk. Estimates, and said to be such; a training
that runs measures by itself.

Arithmetic of one token through N parameters: 2N forward, 2N for the gradient of what it reads, 2N more for that of the
weights (Kaplan et al. 2020, arXiv 2001.08361, section 2.1); LoRA does without the last. Memory: weights, gradients and
Adam's two moments, what a layer keeps for the backward pass, and the logits. On CUDA gradients are checkpointed
(`common.settings`): each layer's input is kept, one layer at a time in full, and the forward pass is made twice.

What it does not do: measure a training (`folder.py` keeps what one measured).
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from explorer.errors import UserError
from explorer.records import Record
from explorer.training.folder import checkpoint_bytes
from explorer.training.request import Adapter, Method, Sampler, TrainRequest

# Of the measured speed of large products, what a whole pass reaches (LOG.md).
EFFICIENCY = 0.45
# Sampling a token at group size 8 costs about this many forward tokens' time: it reads all weights for 8 rows.
SAMPLED_TOKEN = 3.0
# Held-out problems that are sampled side by side (`watch.py`).
HELD_OUT_ROWS = 16
# Loading Python, torch, TRL and the model.
START_S = 15.0
# Bytes kept for the backward pass per token, layer and unit of hidden size; copies of the logits that a loss makes.
KEPT = 110
LOGITS = 4
# On CUDA: bytes of a layer's input, which is float32 under autocast too; the cache that GRPO's sampling fills before an
# update is no larger than these and one layer in full. TRL's losses see the logits in tiles of 16-bit numbers, so many
# tokens by so many words (trl 1.16: `add_fused_lm_head`, kernels/chunked_logprob.py).
LAYER_INPUT = 4
TILE = (4_096, 32_768)
# On CUDA a step of `generate` is bound by its launches, so many seconds a layer, however few rows: an order, not
# measured here.
LAUNCHES_S = 0.001
# Python, torch, TRL and their libraries.
LIBRARIES_BYTES = 900_000_000


class Shape(Record):
    """What an estimate must know of a model: `bytes_each` of a weight."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    bytes_each: int = 4


class Estimate(Record):
    """`trained_tokens` are those that a loss is taken of, over all updates, prompts left out; `read_tokens` all that
    are read, by all processes. `epochs` is how often each row is seen (SFT, DPO). Seconds; bytes, those of memory of
    one process."""

    rows: int
    updates: int
    epochs: float | None
    trained_tokens: int
    read_tokens: int
    seconds: float
    memory_bytes: int
    disk_bytes: int


@functools.cache
def machine_flops(device: str = "cpu") -> float:
    """Floating-point operations per second of large products here, in the format that training has there
    (`common.settings`), measured once: a tenth of a second."""
    import torch

    from explorer.model import gpu_format

    size = 1_024 if device == "cpu" else 8_192
    kind = torch.float32
    if device.startswith("cuda"):
        kind = gpu_format(torch.device(device))
    a = torch.ones(size, size, device=device, dtype=kind)
    best = float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        a @ a
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        elif device == "mps":
            torch.mps.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def shape_of(config: object, bytes_each: int = 4) -> Shape:
    """The shape of a transformers configuration, its parameters counted from its sizes (a dense decoder's)."""
    text = config.get_text_config(decoder=True)
    layers, hidden = text.num_hidden_layers, text.hidden_size
    heads = getattr(text, "num_attention_heads", 1)
    head = getattr(text, "head_dim", None) or hidden // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    block = hidden * head * (2 * heads + 2 * keys) + 3 * hidden * inner
    embedding = text.vocab_size * hidden * (1 if getattr(text, "tie_word_embeddings", True) else 2)
    return Shape(
        parameters=layers * block + embedding,
        layers=layers,
        hidden=hidden,
        vocabulary=text.vocab_size,
        bytes_each=bytes_each,
    )


def estimate(
    request: TrainRequest,
    rows: Sequence[tuple[int, int]],
    shape: Shape,
    flops: float,
    prompt_tokens: int = 64,
    device: str = "cpu",
    world: int = 1,
) -> Estimate:
    """What a training amounts to.

    Args:
        request: what is asked for.
        rows: (prompt tokens, completion tokens) of each row, of the longer text for pairs.
        shape: the model's.
        flops: of large products here, see `machine_flops`.
        prompt_tokens: of a usual prompt, for GRPO.
        device: where it runs. On the CPU GRPO samples through a copy of the model; on CUDA gradients are checkpointed.
        world: so many processes share it, each with a batch of its own, on a machine whose products were timed while
            all were there.
    """
    cuda = device.startswith("cuda")
    passes = (4 if request.adapter is Adapter.LORA else 6) + (2 if cuda else 0)
    steps = 0  # of sampling, several rows side by side
    if request.method is Method.GRPO:
        members = request.batch * request.group
        length = request.max_new_tokens
        trained = request.updates * members * length
        read = request.updates * members * (length + prompt_tokens)
        work = read * passes * shape.parameters + trained * SAMPLED_TOKEN * 2 * shape.parameters
        steps = 0 if request.sampler is Sampler.VLLM else request.updates * length
        widest, epochs = members * (length + prompt_tokens), None
        logits = members * length
    else:
        count = len(rows) or 1
        twice = 2 if request.method is Method.DPO else 1
        seen = request.updates * request.batch  # by one process
        longest = max((p + c for p, c in rows), default=0)
        trained = round(seen * twice * sum(c for _, c in rows) / count)
        read = round(seen * twice * sum(p + c for p, c in rows) / count)
        work = read * (passes + (2 if request.method is Method.DPO else 0)) * shape.parameters
        widest, epochs = request.batch * twice * longest, world * seen / count
        logits = widest
    looks = 1 + (request.updates // request.eval_every if request.eval_every else 0)
    sampled = request.held_out * request.max_new_tokens * looks if request.eval_every else 0
    work += sampled * SAMPLED_TOKEN * 2 * shape.parameters
    steps += -(-sampled // HELD_OUT_ROWS)
    launched = steps * shape.layers * LAUNCHES_S if cuda else 0.0
    weights = shape.parameters * shape.bytes_each
    state = (
        3 * weights if request.adapter is Adapter.FULL else 16 * request.lora_rank * shape.hidden * shape.layers * 14
    )
    state += weights * copies(request, device == "cpu")
    if cuda:
        kept = widest * shape.hidden * (LAYER_INPUT * shape.layers + KEPT) + min(logits, TILE[0]) * TILE[1] * 2
        # Autocast keeps a 16-bit copy of what is trained; what is loaded and saved passes through the other memory.
        held = weights + (weights // 2 if request.adapter is Adapter.FULL else 0)
    else:
        kept = widest * shape.layers * shape.hidden * KEPT + logits * shape.vocabulary * 4 * LOGITS
        held = 2 * weights  # while they are read, and again while they are written, the file is in memory as well
    saved = weights + (3 * weights if request.adapter is Adapter.FULL else state)
    return Estimate(
        rows=len(rows),
        updates=request.updates,
        epochs=None if epochs is None else round(epochs, 2),
        trained_tokens=world * trained,
        read_tokens=world * read,
        seconds=round(START_S + work / (EFFICIENCY * flops) + launched, 1),
        memory_bytes=LIBRARIES_BYTES + held + state + kept,
        disk_bytes=2 * saved + weights,
    )


def copies(request: TrainRequest, cpu: bool) -> int:
    """How many more times the model's weights are held: for sampling at the app's own speed (twice, the second time in
    the processor's own order), and as the reference that a divergence is measured from."""
    fast = request.sampler is Sampler.FAST or (request.sampler is Sampler.AUTO and cpu)
    found = 2 if request.method is Method.GRPO and fast else 0
    return found + int(request.adapter is Adapter.FULL and request.method is not Method.SFT and request.kl > 0)


def need_room(wanted: Estimate, folder: Path, device: str, free_memory: int | None = None, processes: int = 1) -> None:
    """Refuse a training that this machine has no room for.

    Args:
        wanted: what it will take.
        folder: where it will lie; what it has there already is taken into account.
        device: cpu, or a GPU.
        free_memory: bytes; None looks.
        processes: so many train beside each other in this memory.

    Raises:
        UserError: too little memory or disk; the sentence tells how much there is and what to lower.
    """
    free = memory_free(device) if free_memory is None else free_memory
    needed = wanted.memory_bytes * processes
    if free is not None and needed > free:
        raise UserError(
            f"This training takes about {gigabytes(needed)} of memory and {gigabytes(free)} are free: use "
            "LoRA, a smaller batch or group, shorter texts, or a smaller model."
        )
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    left = shutil.disk_usage(place).free
    more = wanted.disk_bytes - checkpoint_bytes(folder)
    if more > left:
        raise UserError(
            f"This training takes about {gigabytes(more)} of disk and {gigabytes(left)} are free there: "
            "free some, use LoRA, or choose another folder."
        )


def memory_free(device: str) -> int | None:
    """Bytes that can still be had; None where that can't be told."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(torch.device(device))[0]
    import psutil

    return psutil.virtual_memory().available


def gigabytes(count: float) -> str:
    """1.4 GB."""
    return f"{count / 1e9:.1f} GB"
