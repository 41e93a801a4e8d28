"""What SFT, DPO and GRPO share: the trainer's settings by device, and the rows as token ids.

Logging goes to files only: no tracker is asked for, whatever is installed.

What it does not do: train.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from explorer.model import gpu_format
from explorer.training.folder import CHECKPOINTS
from explorer.training.request import TrainRequest
from explorer.training.traces import TrainingTrace

IGNORED = -100
# The other processes wait at their next update while the first one looks at held-out problems; the usual limit for
# that, half an hour, would end the run. Transformers hands this on for GPUs only: on a CPU half an hour it stays.
PATIENCE_S = 24 * 3600


def order(rows: int, wanted: int, seed: int) -> list[int]:
    """Which row comes when: shuffled anew for every time through, so that every update has exactly its batch.

    Left to itself the trainer would end each time through with whatever is left, and with 5 rows every other batch of 4
    would be one row.
    """
    draw, found = random.Random(seed), []
    while len(found) < wanted:
        once = list(range(rows))
        draw.shuffle(once)
        found += once
    return found[:wanted]


def dataset(rows: list[dict[str, Any]], request: TrainRequest):
    """Rows as TRL reads them, in the order of the updates; of every process together."""
    from datasets import Dataset

    from explorer.hunting import share

    count = request.updates * request.batch * share()[1]
    return Dataset.from_list(rows).select(order(len(rows), count, request.seed))


IN_ORDER = {"train_sampling_strategy": "sequential"}


def settings(request: TrainRequest, folder: Path, device: torch.device) -> dict[str, Any]:
    """Arguments that all of TRL's settings take."""
    cuda = device.type == "cuda"
    kind = gpu_format(device) if cuda else torch.float32
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "max_steps": request.updates,
        "learning_rate": request.rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": min(5, request.updates // 10),
        "seed": request.seed,
        "data_seed": request.seed,
        "bf16": kind == torch.bfloat16,
        "fp16": kind == torch.float16,
        "use_cpu": device.type == "cpu",
        "gradient_checkpointing": cuda,  # TRL has it on
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "logging_steps": 1,
        "logging_first_step": True,
        "save_strategy": "steps",
        "save_steps": request.save_every,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False,
        "ddp_timeout": PATIENCE_S,
    }


def quiet(trainer):
    """The trainer without the callback that prints what `watch.py` writes down."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def turn_end(tokenizer, end_ids: Collection[int]) -> int:
    """The token that ends an answer: of those that end a rollout the one that the chat template puts behind an
    assistant's turn. It need not be the tokenizer's own, which in some families ends a document (Gemma, Phi)."""
    if tokenizer.chat_template:
        said = "An answer."
        turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": said}]
        after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(said)[2]
        ids = tokenizer(after, add_special_tokens=False)["input_ids"]
        if (found := next((token for token in ids if token in end_ids), None)) is not None:
            return found
    return min(end_ids) if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)


def completion_ids(trace: TrainingTrace, end_id: int) -> list[int]:
    """A trace's completion as it is trained on: with the end token if the model ended it itself."""
    return [*trace.completion_ids, end_id] if trace.finished else list(trace.completion_ids)


def failed_ids(trace: TrainingTrace, end_id: int) -> list[int]:
    """The rollout that failed, likewise."""
    return [*trace.failed_ids, end_id] if trace.failed_finished else list(trace.failed_ids)


def labelled(trace: TrainingTrace, end_id: int, mask_prefix: bool) -> dict[str, list[int]]:
    """One row of SFT: all ids, and the ids that a loss is taken of, −100 elsewhere: on the prompt always, on the
    replayed prefix of a rescued trace where asked (Prefix-RFT, arXiv 2507.01679)."""
    prompt, completion = list(trace.prompt_ids), completion_ids(trace, end_id)
    hidden = len(prompt) + (trace.prefix_tokens if mask_prefix else 0)
    ids = prompt + completion
    return {"input_ids": ids, "labels": [IGNORED] * hidden + ids[hidden:]}
