"""Supervised fine-tuning by TRL, on exact token ids: prompt -> trace, loss on the trace alone.

What it does not do: tokenise; a text that is tokenised again may come out as other tokens than were sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback

from explorer.training.common import IN_ORDER, dataset, labelled, quiet, settings
from explorer.training.request import TrainRequest
from explorer.training.traces import TrainingTrace
from explorer.training.weights import Trainee


def trainer(
    trainee: Trainee, traces: Sequence[TrainingTrace], request: TrainRequest, folder: Path, watch: TrainerCallback
):
    """TRL's SFTTrainer over the traces."""
    from trl import SFTConfig, SFTTrainer

    rows = [labelled(trace, trainee.end_id, request.mask_prefix) for trace in traces]
    made = SFTTrainer(
        model=trainee.network,
        args=SFTConfig(
            **settings(request, folder, trainee.device),
            **IN_ORDER,
            per_device_train_batch_size=request.batch,
            max_length=None,  # too long ones were left out before, so that none is cut in its middle
            packing=False,
        ),
        train_dataset=dataset(rows, request),
        processing_class=trainee.tokenizer,
        peft_config=trainee.lora(request),
        callbacks=[watch],
    )
    return quiet(made)
