"""How much one visitor of the page may ask for at once, and the sentence that says so where it is too much.

A page at home has wide ones. A public one has tighter ones, which its operator can change:
`LATENTREVISE_LIMITS="rollouts=64, steps=60"`. They bound what a single turn holds in memory and what lies on the disk;
that nobody keeps the model for long is the line's business (`ui/pump.py`).

What it does not do: bound the command line, or the bytes of files (`problems.py`, `store.py` refuse what is too large
anywhere).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explorer.errors import UserError
from explorer.records import Problem, RevisionConfig, SamplingConfig, Trace
from explorer.store import MAX_STEPS


class Limits(BaseModel):
    """What a page allows; the defaults are those at home."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: int = Field(8_000, ge=1, description="Characters of a question.")
    rollouts: int = Field(64, ge=1, description="Rollouts N, and continuations of one start.")
    tokens: int = Field(1024, ge=8, description="New tokens of a rollout.")
    steps: int = Field(200, ge=1, le=MAX_STEPS, description="Steps K of a revision.")
    prefix: int = Field(4096, ge=1, description="Tokens of a prefix.")
    upload: int = Field(512, ge=1, description="Megabytes of a file brought to the page.")
    problems: int = Field(100_000, ge=1, description="Rows of a problem file.")
    checking: int = Field(600, ge=1, description="Seconds in which the answers of a problem file are checked.")
    runs: int = Field(10_000, ge=1, description="Runs of one visit.")

    def check(self, what: Problem | SamplingConfig | RevisionConfig) -> None:
        """Raises `UserError` where a problem or settings ask for more than is allowed."""
        if isinstance(what, Problem):
            self._within(len(what.question), self.question, "The question has {0} characters", "shorten it")
        elif isinstance(what, SamplingConfig):
            self._within(what.n, self.rollouts, "{0} rollouts were asked for", "choose fewer")
            self._within(what.max_new_tokens, self.tokens, "Rollouts of {0} tokens were asked for", "choose fewer")
        else:
            self._within(what.steps, self.steps, "{0} steps were asked for", "choose fewer")

    def check_step(self, step: int) -> None:
        """Raises `UserError` for a single step beyond the steps that are allowed."""
        self._within(step, self.steps, "This would be step {0}", "start over, or choose another rollout")

    def check_prefix(self, tokens: int) -> None:
        """Raises `UserError` for a prefix of more tokens than are allowed."""
        self._within(tokens, self.prefix, "The prefix has {0} tokens", "cut it earlier")

    def check_again(self, trace: Trace) -> None:
        """Raises `UserError` where going on with a run from disk takes more than is allowed."""
        self.check(trace.problem)
        if trace.split is None or trace.anchor is None:
            return
        self.check_prefix(len(trace.split.prefix_token_ids))
        anew = "sample rollouts anew, or set LATENTREVISE_LIMITS where the page is yours"
        longest = len(trace.split.continuation_token_ids)
        self._within(longest, self.tokens, "The failed continuation has {0} tokens", anew)
        self._within(len(trace.anchor.token_ids), self.tokens, "Connector and answer have {0} tokens", anew)

    def check_runs(self, made: int) -> None:
        """Raises `UserError` where a visit has made all the runs that it may."""
        if made >= self.runs:
            raise UserError(
                f"This visit has made {made:,} runs, as many as this page allows: run the explorer on a machine of "
                "your own for more."
            )

    @staticmethod
    def _within(value: int, most: int, what: str, advice: str) -> None:
        if value > most:
            raise UserError(f"{what.format(f'{value:,}')} and this page allows {most:,}: {advice}.")


HOME = Limits()
# Two cores of a free Space: about what a visitor has the patience for.
PUBLIC = Limits(
    question=2_000, rollouts=16, tokens=256, steps=30, prefix=256, upload=64, problems=2_000, checking=60, runs=50
)


def read_limits(text: str, public: bool) -> Limits:
    """The limits in force: those of a public page or of one at home, with what `text` changes ("rollouts=8, steps=20").

    Raises:
        UserError: it names none of the limits, or a value that can't be one.
    """
    base = PUBLIC if public else HOME
    known = ", ".join(Limits.model_fields)
    changed = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in Limits.model_fields:
            raise UserError(f"There is no limit {name!r}: use {known}, as in rollouts=16, steps=30.")
        changed[name] = value
    try:
        return Limits(**base.model_dump() | changed)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"The limit {first['loc'][0]} can't be {first['input']!r}: {first['msg'].lower()}.") from error


def in_words(limits: Limits, turn_s: float, keep_hours: float) -> str:
    """What a visitor of a public page should know before the first click, in two sentences."""
    kept = f"; runs are removed after {keep_hours:g} hours, so download what you want to keep" if keep_hours else ""
    return (
        f"Up to {limits.rollouts} rollouts of {limits.tokens} tokens, {limits.steps} steps, prefixes of "
        f"{limits.prefix} tokens, files of {limits.upload} MB or {limits.problems:,} problems, {limits.runs} runs a "
        f"visit. All visitors share one model, in turns of {turn_s:.0f} s while others wait{kept}."
    )
