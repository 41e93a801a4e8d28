"""The settings that people turn, as components, with a sentence each; and their way back into records.

What it does not do: handle events; the panels do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import gradio as gr
from pydantic import ValidationError

from explorer.errors import UserError
from explorer.limits import Limits
from explorer.records import Hull, Projection, RevisionConfig, SamplingConfig, StepRule

CONNECTORS = [
    ("Direct: the answer right here", ""),
    ("“The answer is …”", "\nThe answer is "),
    ("“Therefore, the final answer is …”", "\nTherefore, the final answer is "),
    ("Boxed: \\boxed{…", "\nThe final answer is \\boxed{"),
]


@dataclass
class SamplingControls:
    """Components for `SamplingConfig`, in its field order."""

    n: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    max_new_tokens: gr.Slider
    seed: gr.Number

    def all(self) -> list:
        """The components as inputs of an event."""
        return [getattr(self, item.name) for item in fields(self)]


@dataclass
class RevisionControls:
    """Components for `RevisionConfig`."""

    steps: gr.Slider
    step_rule: gr.Radio
    step_size: gr.Slider
    away_weight: gr.Slider
    toward_weight: gr.Slider
    connector: gr.Dropdown
    projection: gr.Radio
    ban_answer_tokens: gr.Checkbox
    hull: gr.Radio
    hull_size: gr.Slider
    max_continuation_tokens: gr.Slider

    def all(self) -> list:
        """The components as inputs of an event."""
        return [getattr(self, item.name) for item in fields(self)]


def sampling_controls(limits: Limits) -> SamplingControls:
    """Sliders for how rollouts are sampled, as far as the page allows."""
    default = SamplingConfig(
        n=min(SamplingConfig().n, limits.rollouts), max_new_tokens=min(SamplingConfig().max_new_tokens, limits.tokens)
    )
    wide = dict(min_width=200)
    with gr.Row():
        n = gr.Slider(
            1,
            limits.rollouts,
            default.n,
            step=1,
            label="Rollouts N",
            info="How many tries. Zero-hit: none of N is right.",
            **wide,
        )
        length = gr.Slider(
            8,
            limits.tokens,
            default.max_new_tokens,
            step=8,
            label="Max new tokens",
            info="Longer rollouts are cut here.",
            **wide,
        )
    with gr.Row():
        temperature = gr.Slider(
            0,
            2,
            default.temperature,
            step=0.05,
            label="Temperature",
            info="0 always takes the likeliest token.",
            **wide,
        )
        top_p = gr.Slider(
            0.05,
            1,
            default.top_p,
            step=0.05,
            label="Top-p",
            info="Sample from the likeliest tokens of this share.",
            **wide,
        )
    seed = gr.Number(
        default.seed, precision=0, minimum=0, label="Seed", info="The same seed gives the same rollouts.", **wide
    )
    return SamplingControls(n, temperature, top_p, length, seed)


def revision_controls(limits: Limits) -> RevisionControls:
    """Settings of the revision, the two that matter most first, as far as the page allows."""
    d = RevisionConfig(steps=min(RevisionConfig().steps, limits.steps))
    steps = gr.Slider(
        1, min(60, limits.steps), d.steps, step=1, label="Steps K", info="How many Frank-Wolfe steps Play takes."
    )
    size = gr.Slider(
        0.01,
        1.0,
        d.step_size,
        step=0.01,
        label="Step size γ",
        info="How far each step goes toward its vertex. About 0.05 keeps text fluent; 0.2 makes it gibberish.",
    )
    away = gr.Slider(
        0,
        2,
        d.away_weight,
        step=0.05,
        label="Away weight λ",
        info="How hard the failed continuation pushes. 0 looks at the gold answer only.",
    )
    connector = gr.Dropdown(
        CONNECTORS,
        value=d.connector,
        label="Connector",
        info="What is said between prefix and gold answer when the answer's likelihood is measured.",
    )
    with gr.Accordion("More settings", open=False):
        rule = gr.Radio(
            [
                ("Constant γ", StepRule.CONSTANT.value),
                ("Harmonic 2/(k+2)", StepRule.HARMONIC.value),
                ("Line search up to γ", StepRule.LINE_SEARCH.value),
            ],
            value=d.step_rule.value,
            label="Step rule",
            info="Harmonic is the textbook's; its first step throws the whole prefix away. "
            "The line search halves γ until the objective falls.",
        )
        toward = gr.Slider(
            0,
            2,
            d.toward_weight,
            step=0.05,
            label="Toward weight",
            info="How hard the gold answer pulls. 0 is the “away only” ablation.",
        )
        projection = gr.Radio(
            [("Straight-line (L2)", Projection.L2.value), ("Angle (cosine)", Projection.COSINE.value)],
            value=d.projection.value,
            label="Projection",
            info="Which distance decides the nearest real token.",
        )
        ban = gr.Checkbox(
            d.ban_answer_tokens,
            label="Ban the answer's tokens",
            info="The oracle may not pick them: a control against smuggling the answer in.",
        )
        hull = gr.Radio(
            [
                ("Whole vocabulary", Hull.VOCABULARY.value),
                ("Tokens likely at that place", Hull.PLAUSIBLE.value),
                ("Tokens of like norm", Hull.LIKE_NORM.value),
            ],
            value=d.hull.value,
            label="Hull",
            info="Which tokens a position may be pulled to. The whole vocabulary favours odd tokens with short "
            "embeddings; the other two keep to what the model itself finds likely there, or to embeddings about as "
            "long.",
        )
        hull_size = gr.Slider(
            2,
            512,
            d.hull_size,
            step=1,
            label="Likely tokens per place",
            info="How many tokens the hull “likely at that place” has at each position.",
        )
        scored = gr.Slider(
            4,
            256,
            d.max_continuation_tokens,
            step=4,
            label="Failed tokens scored",
            info="How much of the failed continuation is pushed away, from the split on.",
        )
    return RevisionControls(steps, rule, size, away, toward, connector, projection, ban, hull, hull_size, scored)


def sampling_from(n, temperature, top_p, max_new_tokens, seed) -> SamplingConfig:
    """The record of what the sliders say. Raises `UserError` for a value outside its range."""
    return _checked(
        SamplingConfig, n=n, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed or 0
    )


def revision_from(
    steps, step_rule, step_size, away_weight, toward_weight, connector, projection, ban, hull, hull_size, scored
) -> RevisionConfig:
    """The record of what the controls say. Raises `UserError` for a value outside its range, or when nothing pulls or
    pushes."""
    config = _checked(
        RevisionConfig,
        steps=steps,
        step_rule=step_rule,
        step_size=step_size,
        away_weight=away_weight,
        toward_weight=toward_weight,
        connector=connector or "",
        projection=projection,
        ban_answer_tokens=bool(ban),
        hull=hull,
        hull_size=hull_size,
        max_continuation_tokens=scored,
    )
    if config.away_weight == 0 and config.toward_weight == 0:
        raise UserError("Toward and away weight are both 0, so nothing moves: raise one of them.")
    return config


def revision_of(values) -> RevisionConfig:
    """The configuration in the leading values of an event's inputs, which may go on with others."""
    return revision_from(*values[: len(fields(RevisionControls))])


def _checked(record, **values):
    try:
        return record(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", " ")
        raise UserError(f"{name.capitalize()} can't be {first['input']!r}: {first['msg'].lower()}.") from error
