"""How often a model is right, measured the same way before and after a training: pass@k over a problem set, length,
loops, and one check that nothing else broke.

Rollouts are a hunt's (`hunt.py`), several prompts in one batch, so an evaluation goes on where it was stopped and can
be opened like one. Rates of problems carry Wilson's 95 % interval; pass@k, a mean over problems whose rollouts hang
together, a bootstrap over problems (10,000 draws, fixed seed). Two models are compared problem by problem: the mean
difference of pass@1 with its bootstrap interval (by Wilson where all differ alike), and an exact sign test over the
problems that differ.

The unrelated check: short questions of general knowledge (assets/unrelated.jsonl), never trained on; the mean negative
log-likelihood of their answers, nats per token; two models question by question.

What it does not do: revise or train anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.hunt import Hunt, HuntConfig, folder_name, of_problems, read_results, together
from explorer.hunting import own_device, sentence, share, soft_interrupt
from explorer.model import LanguageModel
from explorer.pipeline import load_model
from explorer.problem_sets import problem_set, usable
from explorer.records import ModelInfo, Record, RevisionConfig, SamplingConfig
from explorer.settings import read_settings
from explorer.statistics import is_degenerate, pass_at_k, split_test, wilson_interval
from explorer.store import load_run
from explorer.training.folder import trained_questions, training_of

EVALUATION_FILE = "evaluation.json"
UNRELATED = Path(__file__).resolve().parents[2] / "assets" / "unrelated.jsonl"
SPACED = "-spaced"
DRAWS = 10_000
BOOTSTRAP_CELLS = 4_000_000


class Value(Record):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


class Counted(Record):
    """x of n, with a 95 % interval: Wilson's of problems, `pooled`'s of rollouts."""

    x: int
    n: int
    low: float
    high: float


class Evaluation(Record):
    """`evaluation.json`. `correct` maps each problem to its correct rollouts, of `sampling.n`, `questions` to its
    question. `hit` are problems with at least one; `tokens` the mean length of a rollout; `loops` and `cut_off` count
    rollouts; `unrelated` is in nats per token, lower is better, `unrelated_each` the same of every question, and
    `unrelated_set` tells which questions these were. `trained_on` problems were trained on (None: not known), and
    `unseen_at` is pass@k of the others."""

    schema_version: int = 1
    model: ModelInfo
    problems: str
    sampling: SamplingConfig
    correct: dict[str, int]
    questions: dict[str, str] = Field(default_factory=dict)
    pass_at: dict[int, Value]
    hit: Counted
    rollouts: Counted
    tokens: float
    loops: Counted
    cut_off: Counted
    unrelated: Value | None = None
    unrelated_each: tuple[float, ...] = ()
    unrelated_set: str = ""
    passed_over: int = 0
    trained_on: int | None = 0
    unseen_at: dict[int, Value] = Field(default_factory=dict)
    against: Comparison | None = None


class Comparison(Record):
    """This model against another on the same problems: of `mended` ones the question was another there, and they are
    left out. `newly_solved`: problems without a hit there and with one here;
    `p` is the sign test's; `unrelated` the mean difference of the loss of unrelated answers, more is worse."""

    model: str
    problems: int = 0
    difference: Value
    better: int
    worse: int
    p: float
    newly_solved: Counted
    lost: Counted
    unrelated: Value | None = None
    mended: int = 0


@dataclass(frozen=True)
class Texts:
    """Counts over the rollouts of one problem."""

    rollouts: int
    tokens: int
    loops: int
    cut_off: int


def counted(x: int, n: int) -> Counted:
    """x of n with its interval."""
    low, high = wilson_interval(x, n)
    return Counted(x=x, n=n, low=low, high=high)


def bootstrap(values: Sequence[float], seed: int = 0) -> Value:
    """The mean of some values and the 2.5 and 97.5 % quantiles of the means of resamples of them."""
    drawn = np.asarray(values, dtype=np.float64)
    if not len(drawn):
        return Value(value=0.0, low=0.0, high=1.0)
    generator = np.random.default_rng(seed)
    at_once = max(1, BOOTSTRAP_CELLS // len(drawn))  # thousands of problems would take gigabytes
    means = [
        drawn[generator.integers(0, len(drawn), size=(min(at_once, DRAWS - at), len(drawn)))].mean(axis=1)
        for at in range(0, DRAWS, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Value(value=float(drawn.mean()), low=float(low), high=float(high))


def mean_rate(rates: Sequence[float]) -> Value:
    """The mean of one rate (0 to 1) for each problem, with an interval over problems. Where all are 0, or all 1,
    resamples of them are all alike too, as if nothing could be otherwise: there it is Wilson's."""
    found = bootstrap(rates)
    if len(rates) and found.value in (0.0, 1.0):
        low, high = wilson_interval(round(found.value * len(rates)), len(rates))
        return Value(value=found.value, low=low, high=high)
    return found


def mean_difference(gaps: Sequence[float]) -> Value:
    """The mean difference of two rates (−1 to 1 for each problem), with an interval over problems. Where all problems
    differ alike, by nothing say, so do resamples of them: there as many may differ otherwise as Wilson allows where
    none of so many did, each by as much as a rate can."""
    found = bootstrap(gaps)
    if len(gaps) and min(gaps) == max(gaps):
        _, most = wilson_interval(0, len(gaps))
        gap = gaps[0]
        return Value(value=gap, low=gap - most * (1 + gap), high=gap + most * (1 - gap))
    return found


def pooled(counts: Sequence[int], each: Sequence[int]) -> Counted:
    """How many of all rollouts, from how many of each problem's: rollouts of one problem are no independent draws, so
    the interval is over problems.

    Args:
        counts: of each problem.
        each: rollouts of each problem, at least 1.
    """
    found = mean_rate([x / n for x, n in zip(counts, each, strict=True)])
    return Counted(x=sum(counts), n=sum(each), low=found.low, high=found.high)


def compare(mine: Mapping[str, int], other: Mapping[str, int], n: int, name: str) -> Comparison:
    """Two models over the problems that both were tried on, `n` rollouts each.

    Raises:
        UserError: there are none.
    """
    both = sorted(mine.keys() & other.keys())
    if not both:
        raise UserError("These evaluations are of different problems: evaluate both on the same set.")
    pairs = [(mine[problem], other[problem]) for problem in both]
    better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    zero = [a for a, b in pairs if b == 0]
    hit = [a for a, b in pairs if b > 0]
    return Comparison(
        model=name,
        problems=len(pairs),
        difference=mean_difference([(a - b) / n for a, b in pairs]),
        better=better,
        worse=worse,
        p=split_test(better, worse),
        newly_solved=counted(sum(a > 0 for a in zero), len(zero)),
        lost=counted(sum(a == 0 for a in hit), len(hit)),
    )


Evaluation.model_rebuild()


def evaluate(
    problems: str,
    out: Path,
    sampling: SamplingConfig,
    model: Mapping[str, str | None],
    tell: Callable[[str, float | None], None],
    against: Path | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
) -> tuple[list[str], dict]:
    """Evaluate a model, or go on with an evaluation.

    Args:
        problems: name of the set, see `problem_sets.problem_set`.
        out: the evaluation's folder.
        sampling: N, temperature and so on.
        model: model, dtype and device as `read_settings` takes them.
        tell: called with a sentence and a share of the whole.
        against: folder of another evaluation of the same problems.
        limit: only the first so many.
        skip_bad: leave out rows that can't be used, instead of refusing the set.

    Returns:
        (lines for people, the evaluation as plain values).

    Raises:
        UserError: bad input; the sentence says what to do.
        KeyboardInterrupt: it was asked to stop, and did.
    """
    from explorer.verdict import Judge

    if limit is not None and limit < 1:
        raise UserError("--limit must be 1 or more.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder for the evaluation.")
    other = read_evaluation(against) if against else None
    found = usable(problems, problem_set(problems, sampling.seed), skip_bad)[:limit]
    if other is not None:
        if other.sampling != sampling:
            raise UserError("That evaluation was sampled otherwise: evaluate both with the same settings.")
        if not _same({problem.id: problem.question for problem in found}, other):
            raise UserError("That evaluation is of different problems: evaluate both on the same set.")
    rank, world, local = share()
    settings = read_settings(**{**model, "device": own_device(model["device"], local, world)})
    language_model = load_model(settings, progress=lambda part, text: tell(text, part))
    config = HuntConfig(
        problems=problems,
        model=language_model.info,
        sampling=sampling,
        config=RevisionConfig(),
        failed=0,
        engine="batch",
    )
    drawer = together(language_model, found, sampling, rank, world)
    state = None
    with Judge() as judge, soft_interrupt() as stop:
        for state in Hunt(language_model, found, config, out, judge, rank, world, drawer).run(stop.is_set):
            tell(sentence(state), state.done / max(1, state.total))
    if state is None or state.done < state.total:
        raise KeyboardInterrupt
    results = of_problems(read_results(out), found)
    if world > 1 and len(results) < len(found):  # another process is not done yet; the last one counts
        return [], {}
    tell("Unrelated questions", None)
    counts = count(out, found, config, unrelated(language_model), unrelated_set(language_model.gap))
    evaluation = apart_from_training(counts, settings.model)
    if other is not None:
        evaluation = evaluation.model_copy(update={"against": against_other(evaluation, other)})
    plain = evaluation.model_dump(mode="json")
    write_atomic(out / EVALUATION_FILE, json.dumps(plain, indent=1, ensure_ascii=False).encode())
    return words(evaluation), plain


def same_problems(mine: Evaluation, other: Evaluation) -> set[str]:
    """Ids of the problems that both have with one question; an evaluation that kept no questions is trusted."""
    return _same({problem: mine.questions.get(problem) for problem in mine.correct}, other)


def _same(mine: Mapping[str, str | None], other: Evaluation) -> set[str]:
    both = {one: (mine[one], other.questions.get(one)) for one in mine.keys() & other.correct}
    return {one for one, asked in both.items() if None in asked or asked[0] == asked[1]}


def against_other(mine: Evaluation, other: Evaluation) -> Comparison:
    """One evaluation against another. Raises `UserError` where no problem is in both."""
    alike = same_problems(mine, other)
    part = {problem: correct for problem, correct in mine.correct.items() if problem in alike}
    return compare(part, other.correct, mine.sampling.n, other.model.id).model_copy(
        update={
            "unrelated": unrelated_difference(mine, other),
            "mended": len(mine.correct.keys() & other.correct) - len(alike),
        }
    )


def apart_from_training(one: Evaluation, model: str) -> Evaluation:
    """An evaluation that says what of it the model was trained on, and how it does on the rest. `model` is the name by
    which it was loaded."""
    folder = training_of(model)
    if folder is None:
        return one
    seen = trained_questions(folder)
    if seen is None:
        return one.model_copy(update={"trained_on": None})
    rest = [correct for problem, correct in one.correct.items() if one.questions[problem] not in seen]
    n = one.sampling.n
    at = {k: mean_rate([pass_at_k(n, correct, k) for correct in rest]) for k in one.pass_at} if rest else {}
    return one.model_copy(update={"trained_on": len(one.correct) - len(rest), "unseen_at": at})


def unrelated_difference(mine: Evaluation, other: Evaluation) -> Value | None:
    """How much more an answer to an unrelated question costs one model than another, nats per token: the mean over
    questions with its bootstrap interval; None where one of them kept none, or was asked others."""
    pairs = mine.unrelated_each, other.unrelated_each
    if not pairs[0] or len(pairs[0]) != len(pairs[1]) or mine.unrelated_set != other.unrelated_set:
        return None
    return bootstrap([a - b for a, b in zip(*pairs, strict=True)])


def count(
    out: Path, problems: Sequence, config: HuntConfig, losses: Sequence[float], asked: str | None = None
) -> Evaluation:
    """Count what lies in an evaluation's folder; `losses` are those of unrelated answers, and `asked` names these."""
    results = of_problems(read_results(out), problems)
    judged = [results[problem.id] for problem in problems if results[problem.id].before.n]
    n = config.sampling.n
    texts = [texts_of(out / folder_name(result.problem)) for result in judged]
    each = [max(1, one.rollouts) for one in texts]
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= n]
    return Evaluation(
        model=config.model,
        problems=config.problems,
        sampling=config.sampling,
        correct={result.problem: result.before.correct for result in judged},
        questions={result.problem: result.question for result in judged},
        pass_at={k: mean_rate([pass_at_k(n, result.before.correct, k) for result in judged]) for k in ks},
        hit=counted(sum(result.before.correct > 0 for result in judged), len(judged)),
        rollouts=pooled([result.before.correct for result in judged], each),
        tokens=round(sum(one.tokens for one in texts) / max(1, sum(each)), 2),
        loops=pooled([one.loops for one in texts], each),
        cut_off=pooled([one.cut_off for one in texts], each),
        unrelated=bootstrap(losses) if losses else None,
        unrelated_each=tuple(losses),
        unrelated_set=unrelated_set() if asked is None else asked,
        passed_over=len(problems) - len(judged),
    )


def texts_of(run: Path) -> Texts:
    """Counts over the rollouts of one problem."""
    before = load_run(run, with_trajectory=False)[0].before
    return Texts(
        rollouts=len(before),
        tokens=sum(len(item.token_ids) for item in before),
        loops=sum(is_degenerate(item.token_ids) for item in before),
        cut_off=sum(item.finish.value == "length" for item in before),
    )


def unrelated(model: LanguageModel) -> list[float]:
    """Negative log-likelihood of the answer to each unrelated question, mean over its tokens, nats."""
    nothing = model.rows(())
    losses = []
    for line in UNRELATED.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        context = model.read(model.prompt(item["question"]).token_ids)
        ids = model.encode(model.gap + item["answer"])
        losses.append(-model.log_probability(context, nothing, ids, len(ids)))
    return losses


def unrelated_set(gap: str = "") -> str:
    """A short name for the unrelated questions, so that no two evaluations of different ones are compared, nor of
    answers that were said with and without a space (`LanguageModel.gap`; before 2026-11-26 none was)."""
    return hashlib.sha256(UNRELATED.read_bytes()).hexdigest()[:16] + (SPACED if gap else "")


def read_evaluation(folder: Path) -> Evaluation:
    """An evaluation from its folder.

    Raises:
        UserError: there is none, it is not done, or its file is damaged.
    """
    try:
        return Evaluation.model_validate_json((folder / EVALUATION_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no finished evaluation in {folder}: evaluate that model first.") from None
    except ValidationError as error:
        raise UserError(f"{folder / EVALUATION_FILE} is damaged: use a whole copy of it.") from error


def percent(value: Value | Counted) -> str:
    """12.5 % (8.1–17.9 %)."""
    middle = value.x / max(1, value.n) if isinstance(value, Counted) else value.value
    return f"{100 * middle:.1f} % ({100 * value.low:.1f}–{100 * value.high:.1f} %)"


def signed(value: float, digits: int) -> str:
    """+1.14, −0.30; +0.00 also for what rounds to it from below."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def points(share: float) -> str:
    """A difference of shares in points, +1.3; +0.04 where it would read as none and is not: an interval that leaves 0
    out must look like one."""
    return signed(100 * share, 2 if 0 < abs(100 * share) < 0.05 else 1)


def nats(gap: Value) -> str:
    """+1.14 (+0.83 to +1.47)."""
    return f"{signed(gap.value, 2)} ({signed(gap.low, 2)} to {signed(gap.high, 2)})"


def dearer(gap: Value) -> str:
    """What a difference in the loss of unrelated answers means: of these answers, in these words, and no more. One that
    rounds to 0 is none that anyone would notice."""
    if round(abs(gap.value), 2) == 0 or gap.low <= 0 <= gap.high:
        return "can’t be told apart"
    return "less likely" if gap.value > 0 else "likelier"


def words(one: Evaluation) -> list[str]:
    """An evaluation for people."""
    s = one.sampling
    lines = [
        f"{one.model.id} ({one.model.dtype}); {one.problems}: {len(one.correct)} problems, N {s.n}, temperature "
        f"{s.temperature:g}, top-p {s.top_p:g}, at most {s.max_new_tokens} tokens, seed {s.seed}",
        *(f"  pass@{k:<3} {percent(value)}" for k, value in one.pass_at.items()),
        f"  problems hit at least once: {one.hit.x} of {one.hit.n}, {percent(one.hit)}",
        f"  mean length {one.tokens:.1f} tokens; in loops {one.loops.x} of {one.loops.n}; cut off "
        f"{one.cut_off.x} of {one.cut_off.n}",
    ]
    if one.unrelated:
        u = one.unrelated
        lines.append(f"  unrelated answers: {u.value:.3f} nats per token ({u.low:.3f}–{u.high:.3f}), lower is better")
    if one.trained_on is None:
        lines.append("  which of these problems it was trained on is not known")
    elif one.trained_on:
        unseen = "; ".join(f"pass@{k} {percent(value)}" for k, value in one.unseen_at.items())
        rest = f"the {len(one.correct) - one.trained_on} others alone: {unseen}" if unseen else "no other is among them"
        lines.append(f"  it was trained on {one.trained_on} of these problems; {rest}")
    if one.passed_over:
        lines.append(f"  passed over: {one.passed_over}")
    if one.against:
        a = one.against
        lines += [
            f"against {a.model}, {a.problems} problems: pass@1 {100 * a.difference.value:+.1f} points "
            f"({100 * a.difference.low:+.1f} to {100 * a.difference.high:+.1f}); better on {a.better} problems, "
            f"worse on {a.worse} (p = {a.p:.3g})",
            f"  zero-hit there and hit here: {a.newly_solved.x} of {a.newly_solved.n}; hit there and lost: "
            f"{a.lost.x} of {a.lost.n}",
            *([f"  left out: {a.mended} whose question was another there"] if a.mended else []),
        ]
    if one.against and one.against.unrelated:
        gap = one.against.unrelated
        lines.append(f"  unrelated answers: {nats(gap)} nats per token, question by question: {dearer(gap)}")
    return [*lines, "intervals: 95 %, over problems by bootstrap, counts of problems by Wilson, as where all are alike"]
