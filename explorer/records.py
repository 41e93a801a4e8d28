"""The values that flow through the explorer: frozen, tuples not lists, no model, no screen.

They mirror the trace on disk (schema version 1), field for field, so that a record and its JSON never disagree. Token
ids are plain integers, losses are nats per token, distances are L2 in the model's embedding space. Records hold no live
tensor: the trajectory of embeddings lies beside the trace as safetensors.

What it does not do: read or write files (`store.py`), compute anything that needs a model.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

SCHEMA_VERSION = 1

# What a file says must also fit where it goes later: tensors take 64 bits, and no vocabulary needs more than 31.
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
# More than the largest vocabulary has tokens: for dictionaries there is no `FailFast`.
MOST_ENTRIES = 300_000
T = TypeVar("T")


def _not_too_many(value: object) -> object:
    if isinstance(value, dict) and len(value) > MOST_ENTRIES:
        raise ValueError(f"it has more than {MOST_ENTRIES:,} entries")
    return value


# The first thing that is wrong is said, so it ends the reading: a file can have millions of them, at 1 KB each.
Many = Annotated[tuple[T, ...], FailFast()]
OfTokens = Annotated[dict[TokenId, T], BeforeValidator(_not_too_many)]


class Record(BaseModel):
    """Base of all records: frozen, tolerant of fields that a newer version added. Numbers are finite: JSON has no word
    for the others, so a record that held one could be written and never be read again."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", protected_namespaces=(), use_enum_values=False, allow_inf_nan=False
    )


class Verdict(StrEnum):
    """What the verifier said of a rollout; `UNJUDGED` means that no answer could be found or compared."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNJUDGED = "unjudged"


class FinishReason(StrEnum):
    """Why sampling of a rollout ended: the model's end token, or the limit on new tokens."""

    STOP = "stop"
    LENGTH = "length"


class StepRule(StrEnum):
    """How far a Frank-Wolfe step goes: a constant γ, the textbook 2/(k+2), or a backtracking line search."""

    CONSTANT = "constant"
    HARMONIC = "harmonic"
    LINE_SEARCH = "line-search"


class Hull(StrEnum):
    """Which tokens the oracle may pick at a position: all; those that the model itself finds likely there; those whose
    embedding is about as long as the original token's. Each of them gives a sub-hull of the vocabulary's."""

    VOCABULARY = "vocabulary"
    PLAUSIBLE = "plausible"
    LIKE_NORM = "like-norm"


class Projection(StrEnum):
    """Which distance decides the nearest vocabulary row when embeddings are turned back into tokens."""

    L2 = "l2"
    COSINE = "cosine"


class Start(StrEnum):
    """What a continuation was sampled from: the revised embeddings, their projection to tokens, the original prefix."""

    REVISED = "revised"
    PROJECTED = "projected"
    ORIGINAL = "original"


class RunStatus(StrEnum):
    """Why a run ended (`RUNNING` and `PAUSED` are seen on the screen only, never on disk)."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CONVERGED = "converged"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Problem(Record):
    """A question with its gold answer. `family` groups problems of one kind; `source` says where it came from."""

    id: str
    question: str
    answer: str
    source: str = "typed"
    family: str = ""


class ModelInfo(Record):
    """Which weights ran, where and in which number format. `revision` is the hub's commit or the sha256 of weights that
    came as files, `fingerprint` a short hash of the vocabulary embeddings in that format, which an adapter's training
    leaves as they were."""

    id: str
    source: str  # hub | local | wheel
    revision: str = ""
    dtype: str
    device: str
    vocab_size: Count
    hidden_size: Count
    fingerprint: str = ""

    def same_weights(self, other: ModelInfo) -> bool:
        """Whether both are one model in one number format, as far as can be told: by the files' hash where both have
        one; else by name, the hub's without its owner, so that a downloaded copy counts as what it is a copy of."""
        if self.fingerprint != other.fingerprint:
            return False
        if self.source == other.source == "local" and self.revision and other.revision:
            return self.revision == other.revision
        return self.id.rsplit("/", 1)[-1] == other.id.rsplit("/", 1)[-1]


class Prompt(Record):
    """The question in the model's chat template."""

    text: str
    token_ids: Many[TokenId]


class SamplingConfig(Record):
    """How rollouts are sampled. `n` rollouts; part of every claim about pass@n."""

    n: int = Field(8, ge=1, le=1024)
    temperature: float = Field(0.8, ge=0.0, le=5.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_new_tokens: int = Field(96, ge=1, le=8192)
    seed: int = Field(0, ge=0, lt=2**63)


class Rollout(Record):
    """Sampled tokens up to the end token, which is in neither `token_ids` nor `text`, the answer found in them, the
    verdict and its reason."""

    token_ids: Many[TokenId]
    text: str
    answer: str | None = None
    verdict: Verdict = Verdict.UNJUDGED
    reason: str = ""
    finish: FinishReason = FinishReason.STOP


class Continuation(Rollout):
    """A rollout sampled after a prefix: `step` is the index into the trajectory it continued, `start` from what.

    `token_ids` and `text` hold the new tokens only. `prefix_token_ids` are the real tokens that stand for the prefix
    (the projection for `revised` and `projected`, the original ones for `original`), and `prefix_text` is their text: a
    training trace is `prefix_text` + `text`.
    """

    step: Count
    start: Start
    prefix_token_ids: Many[TokenId] = ()
    prefix_text: str = ""


class Split(Record):
    """Where a failed rollout is cut: the reasoning prefix (M tokens) that is revised, and the failed continuation (C
    tokens)."""

    rollout: Count
    prefix_token_ids: Many[TokenId]
    continuation_token_ids: Many[TokenId]


class Anchor(Record):
    """Connector text + gold answer as they stand after the prefix; only `answer_span` [start, end) of `token_ids` is
    scored."""

    text: str
    token_ids: Many[TokenId]
    answer_span: tuple[Count, Count]


class RevisionConfig(Record):
    """Everything that shapes a revision.

    objective = toward_weight · toward_loss − away_weight · away_loss; `toward_weight` 0 is the "away only" ablation,
    `away_weight` (λ) 0 the "toward only" one. `step_size` is γ of the constant rule. `gap_tolerance` ends a run early
    when the Frank-Wolfe gap falls below it (0: never). `hull_size` is how many of the likeliest tokens of a position
    the hull `plausible` has. Nothing in a revision is random, so it has no seed: the sampling's is the run's.
    """

    steps: int = Field(10, ge=1, le=200)
    step_rule: StepRule = StepRule.CONSTANT
    step_size: float = Field(0.05, gt=0.0, le=1.0)
    toward_weight: float = Field(1.0, ge=0.0, le=10.0)
    away_weight: float = Field(0.3, ge=0.0, le=10.0)
    connector: str = ""
    projection: Projection = Projection.L2
    ban_answer_tokens: bool = False
    hull: Hull = Hull.VOCABULARY
    hull_size: int = Field(64, ge=2, le=4096)
    max_continuation_tokens: int = Field(64, ge=1, le=4096)
    gap_tolerance: float = Field(0.0, ge=0.0)


class Evaluation(Record):
    """The objective and its parts at one point of the trajectory (nats per scored token), and the Frank-Wolfe gap
    there."""

    toward_loss: float
    away_loss: float
    objective: float
    gap: float


class RevisionStep(Record):
    """The move from embeddings[k] to embeddings[k+1]; one number or token id per prefix position where plural.

    `toward_loss`, `away_loss`, `objective`, `gap` and the gradients are taken at embeddings[k]; `nearest` and `moved`
    (L2 distance from the start) at embeddings[k+1].
    """

    k: Count
    step_size: float
    toward_loss: float
    away_loss: float
    objective: float
    gap: float
    vertices: Many[TokenId]
    nearest: Many[TokenId]
    moved: Many[float]
    toward_grad_norm: Many[float]
    away_grad_norm: Many[float]
    grad_cosine: Many[float]


class Control(Record):
    """A control of a rescue at one step of it; `continuations` are judged against `target`, the gold answer but for the
    decoy's.

    `decoy`: the same revision, but toward the wrong answer `target`. If it is reached as often as the gold answer, the
    prefix hands answers over whatever they are. `fresh` and `unrevised`: as many rollouts of the plain prompt, or
    continuations of the unrevised prefix, as cost the same as revision and revised continuations together. `ban`,
    `toward-only`, `away-only`, `no-hull`, `random-vertices`: the revision done another way, see audit_controls.py.
    `anchor` and `final` are None where nothing is pulled toward an answer.
    """

    kind: str
    target: str
    step: Count
    anchor: Anchor | None = None
    final: Evaluation | None = None
    sampling: SamplingConfig
    continuations: Many[Continuation] = ()
    forward_tokens: Count = 0
    seconds: float = 0.0


class Stated(Record):
    """Where a correct continuation first states the answer: token index, of so many tokens; `false_equations` counts
    those that do not hold in the prefix and up to that place (in the whole continuation where it is None, and in runs
    audited before 2026-11-26); `log_p` is the mean log-probability (nats per token) of projected prefix and
    continuation under the plain prompt."""

    token: Count | None
    tokens: Count
    false_equations: Count = 0
    log_p: float | None = None


class Leaks(Record):
    """How much of the answer a revised prefix may carry, at `step`. `hull_mass` per position: weight on the answer's
    tokens (white space not counted), `hull_mass_before` at the unrevised prefix. The log-probabilities are means in
    nats per answer token: after the prompt alone, after the unrevised and after the revised prefix, connector
    included."""

    step: Count
    hull_mass: Many[float]
    hull_mass_before: Many[float]
    log_p_prompt: float
    log_p_unrevised: float
    log_p_revised: float
    stated: Many[Stated] = ()


class Vocabulary(Record):
    """What a reader without the model needs of the tokens that a trace mentions: display text and L2 norm of the
    embedding row by token id, and the median norm over the whole vocabulary."""

    texts: OfTokens[str] = Field(default_factory=dict)
    norms: OfTokens[float] = Field(default_factory=dict)
    median_norm: float | None = None


class StageCost(Record):
    """What a stage cost: wall-clock seconds, and forward-token equivalents (a backward pass counts as one more
    forward)."""

    seconds: float = 0.0
    forward_tokens: Count = 0


class Trace(Record):
    """One run, whole: what `trace.json` holds. `after_sampling` is how the continuations in `after` were drawn;
    how many of them each start and step got is to be counted there."""

    schema_version: int = SCHEMA_VERSION
    created_at: str
    tool_version: str
    model: ModelInfo
    problem: Problem
    prompt: Prompt
    sampling: SamplingConfig
    before: Many[Rollout] = ()
    split: Split | None = None
    anchor: Anchor | None = None
    config: RevisionConfig | None = None
    steps: Many[RevisionStep] = ()
    final: Evaluation | None = None
    status: RunStatus = RunStatus.COMPLETED
    message: str = ""
    after: Many[Continuation] = ()
    after_sampling: SamplingConfig | None = None
    controls: Many[Control] = ()
    leaks: Leaks | None = None
    vocabulary: Vocabulary | None = None
    cost: Annotated[dict[str, StageCost], BeforeValidator(_not_too_many)] = Field(default_factory=dict)
