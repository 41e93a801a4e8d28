"""The headless verbs that train and evaluate: `python -m explorer train sft|grpo|dpo …` and `evaluate …`.

What it does not do: hold logic; `training/` does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from explorer.checked import checked
from explorer.errors import UserError
from explorer.progress import Progress

Model = Annotated[str | None, typer.Option(help="Hub id or local folder; default: the one that made the traces.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out rows of a set that can't be used.")]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line instead of the summary.")]


def train(
    method: Annotated[str, typer.Argument(help="sft, grpo or dpo.")],
    out: Annotated[Path, typer.Option(help="The training's folder; the same command goes on with what is there.")],
    runs: Annotated[
        list[Path] | None, typer.Option(help="A run, a hunt or a folder of runs; may be given several times.")
    ] = None,
    problems: Annotated[
        str, typer.Option(help="GRPO's prompts, as for hunt; default: the problems of the traces.")
    ] = "",
    held_out: Annotated[
        str, typer.Option(help="The set that held-out problems are of; default: that of the prompts, or bank.")
    ] = "",
    traces: Annotated[str | None, typer.Option(help="rescued, own (correct rollouts) or both.")] = None,
    finding: Annotated[
        list[str] | None, typer.Option(help="Only rescues that an audit found to be so, such as “undecided”.")
    ] = None,
    max_leak: Annotated[float | None, typer.Option(help="Most weight on the answer's tokens, 0 to 1.")] = None,
    max_trace_tokens: Annotated[int | None, typer.Option(help="Longest trace.")] = None,
    min_log_p: Annotated[
        float | None, typer.Option(help="Least log p per token under the plain prompt, in nats; audited runs know it.")
    ] = None,
    sound: Annotated[bool, typer.Option("--sound", help="Only texts without a false equation.")] = False,
    finished: Annotated[bool, typer.Option("--finished", help="Only texts that the model ended itself.")] = False,
    per_problem: Annotated[int | None, typer.Option(help="At most so many traces of a problem.")] = None,
    adapter: Annotated[str | None, typer.Option(help="lora or full.")] = None,
    updates: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of an update; for GRPO prompts.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default by method and adapter.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest prompt and trace together.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn.")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="Rank of LoRA's matrices.")] = None,
    mask_prefix: Annotated[
        bool, typer.Option("--mask-prefix", help="Leave the replayed prefix of a rescue out of the loss.")
    ] = False,
    group: Annotated[int | None, typer.Option(help="Rollouts of a prompt (GRPO).")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Limit of a rollout.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the rollouts.")] = None,
    inject: Annotated[
        str | None,
        typer.Option(
            help="When a rescued trace enters its group: never, zero-hit, or always (where at least two failed)."
        ),
    ] = None,
    off_policy_c: Annotated[
        float | None, typer.Option(help="c of a rescued member's weight p / (p + c); 0: as if on-policy.")
    ] = None,
    zvp_alpha: Annotated[
        float | None, typer.Option(help="α of RL-ZVP: groups of equal rewards teach by entropy; 0: nothing.")
    ] = None,
    scale_rewards: Annotated[str | None, typer.Option(help="Divide advantages by group, or by none.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the KL divergence.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Who samples GRPO's groups: auto, fast (CPU), trl or vllm.")
    ] = None,
    held_out_count: Annotated[int | None, typer.Option(help="Held-out problems looked at; 0: none.")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Updates between two looks; 0: none.")] = None,
    save_every: Annotated[int | None, typer.Option(help="Updates between two checkpoints.")] = None,
    skip_bad: SkipBad = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and do nothing.")] = False,
    model: Model = None,
    dtype: Dtype = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Train on rescued traces: SFT, DPO, or GRPO with them in its groups. The last line is the folder."""
    from explorer.training.material import Asked
    from explorer.training.request import read_request
    from explorer.training.train import train as begin

    request = read_request(
        {
            "method": method,
            "adapter": adapter,
            "traces": traces,
            "updates": updates,
            "batch": batch,
            "learning_rate": learning_rate,
            "max_tokens": max_tokens,
            "seed": seed,
            "lora_rank": lora_rank,
            "mask_prefix": mask_prefix,
            "group": group,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "inject": inject,
            "off_policy_c": off_policy_c,
            "zvp_alpha": zvp_alpha,
            "scale_rewards": scale_rewards,
            "beta": beta,
            "sampler": sampler,
            "held_out": held_out_count,
            "eval_every": eval_every,
            "save_every": save_every,
        }
    )
    wanted = _filter(
        {
            "findings": finding or (),
            "max_leak": max_leak,
            "max_trace_tokens": max_trace_tokens,
            "min_log_p": min_log_p,
            "sound": sound,
            "finished": finished,
            "per_problem": per_problem,
        }
    )
    asked = Asked(request, wanted, tuple(runs or ()), problems, held_out, skip_bad=skip_bad)
    tell = Progress()
    try:
        lines, summary = begin(asked, out, {"model": model, "dtype": dtype, "device": device}, tell, plan)
    finally:
        tell.end()
    print(json.dumps({**summary, "training": str(out)}) if as_json else "\n".join([*lines, str(out)]))


def _filter(values: dict):
    """The traces' filter; a finding may be given by its first word."""
    from explorer.audit_verdict import Finding
    from explorer.training.traces import read_filter

    findings = []
    for name in values["findings"]:
        match = [one for one in Finding if one.value.startswith(name.strip())]
        if not name.strip() or len(match) != 1:
            known = ", ".join(f"“{one.value.split(':')[0]}”" for one in Finding)
            raise UserError(f"There is no finding {name!r}: use one of {known}.")
        findings += match
    return read_filter({**values, "findings": tuple(findings)})


def evaluate(
    problems: Annotated[
        str,
        typer.Option(help="bank, a family of it, a .jsonl, .csv or .parquet file, datasets:ID or reasoning-gym:TASK."),
    ],
    out: Annotated[Path, typer.Option(help="The evaluation's folder; the same command goes on with what is there.")],
    model: Annotated[str | None, typer.Option(help="Hub id or folder, such as a training's model folder.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another model's evaluation of the same problems, to compare with.")
    ] = None,
    rollouts: Annotated[int, typer.Option(help="N, rollouts of each prompt.")] = 8,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Limit of a rollout.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed of all sampling; each problem's own follows from it.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    skip_bad: SkipBad = False,
    dtype: Dtype = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """How often a model is right: pass@k, length, loops, and whether it still knows unrelated things."""
    from explorer.records import SamplingConfig
    from explorer.training.evaluate import evaluate as begin

    sampling = checked(
        SamplingConfig,
        {"n": "rollouts"},
        n=rollouts,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    tell = Progress()
    try:
        chosen = {"model": model, "dtype": dtype, "device": device}
        lines, summary = begin(problems, out, sampling, chosen, tell, against, limit, skip_bad)
    finally:
        tell.end()
    print(json.dumps({**summary, "evaluation": str(out)}) if as_json else "\n".join([*lines, str(out)]))
