"""Direct preference optimisation by TRL (Rafailov et al. 2023, arXiv 2305.18290): the rescued text against the rollout
that failed, as exact token ids.

What it does not do: tokenise. TRL's trainer takes no token ids, so its preparation of the rows is left out: ours are
what it would make of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback

from explorer.training.common import IN_ORDER, completion_ids, dataset, failed_ids, quiet, settings
from explorer.training.request import TrainRequest
from explorer.training.traces import TrainingTrace
from explorer.training.weights import Trainee


def pairs(traces: Sequence[TrainingTrace], end_id: int) -> list[dict[str, list[int]]]:
    """One row for each trace that has a failed rollout: prompt_ids, chosen_ids, rejected_ids."""
    return [
        {
            "prompt_ids": list(trace.prompt_ids),
            "chosen_ids": completion_ids(trace, end_id),
            "rejected_ids": failed_ids(trace, end_id),
        }
        for trace in traces
        if trace.failed_ids
    ]


def trainer(
    trainee: Trainee, traces: Sequence[TrainingTrace], request: TrainRequest, folder: Path, watch: TrainerCallback
):
    """TRL's DPOTrainer over the pairs; the model before is its reference (with LoRA: the adapter switched off)."""
    from trl import DPOConfig, DPOTrainer

    class PairsTrainer(DPOTrainer):
        """Takes rows of token ids as they are."""

        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    made = PairsTrainer(
        model=trainee.network,
        args=DPOConfig(
            **settings(request, folder, trainee.device),
            **IN_ORDER,
            per_device_train_batch_size=request.batch,
            beta=request.kl,
            max_length=None,
        ),
        train_dataset=dataset(pairs(traces, trainee.end_id), request),
        processing_class=trainee.tokenizer,
        peft_config=trainee.lora(request),
        callbacks=[watch],
    )
    return quiet(made)
