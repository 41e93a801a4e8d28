"""The training's screen, once it runs: where a training stands, its curves, what came of it. Pure functions from
records and the folder's lines; `assets/train.js`, `train-curves.js` and `train-after.js` show them.

Every rate says of how many, and carries Wilson's 95 % interval.

What it does not do: read files, know Gradio, start anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explorer.jobs import Job, JobState
from explorer.statistics import wilson_interval
from explorer.training.estimate import gigabytes
from explorer.training.folder import TrainingConfig
from explorer.training.request import Inject, Method
from explorer.views.hunt import SAID, duration, number
from explorer.views.train import LONGEST_TEXT, METHODS, UNITS, Payload, count_words, trained_words

# A curve has no more points than a screen can show.
CURVE_POINTS = 300
# From so many points on a running mean stands beside the raw ones.
SMOOTHED_FROM = 24
# What was written this long ago at most was written by a process that is still there: an update, or a look at held-out
# problems, takes minutes on a slow machine.
FRESH_S = 900


# -- where it stands -------------------------------------------------------------------------------


def status_payload(
    trainings: Sequence[tuple[str, str]],
    shown: str | None,
    job: Job | None,
    progress: Mapping[str, Any],
    *,
    config: TrainingConfig | None = None,
    result: Mapping[str, Any] | None = None,
    log: Sequence[str] = (),
    other: Job | None = None,
    other_training: str | None = None,
    after: Payload | None = None,
    mark: str = "",
    beat: int = 0,
    now: float = 0.0,
) -> Payload:
    """The trainings that there are, and where the one on show stands.

    Args:
        trainings: (name, words) of each, newest first.
        shown: the name of the one on show; None where there is none.
        job: its newest job; None where it was started elsewhere.
        progress: the content of its `progress.json`.
        config: what was asked; None while its process has not written it yet.
        result: the content of its `result.json`.
        log: the last lines that it printed.
        other: another job that runs, so that none can be started.
        other_training: the training that it is about, if it is about one.
        after: see `after_payload`.
        mark: changes whenever the curves do.
        beat: changes with every answer, so that the page knows that one came.
        now: seconds since 1970.
    """
    # Started elsewhere it has no job; its process, if it was killed, left it at running.
    live = job is None and progress.get("state") == "running" and now - number(progress, "at") < FRESH_S
    alive = live or (job is not None and job.alive)
    left = number(progress, "seconds_left") if alive else 0
    done, total = int(number(progress, "update")), int(number(progress, "updates"))
    return {
        "trainings": [{"id": name, "words": words} for name, words in trainings],
        "shown": shown,
        "live": live,
        "job": None if job is None else _job(job),
        "settings": "" if config is None else settings_words(config),
        "progress": {
            "done": done,
            "total": total,
            "stage": str(progress.get("stage", "")) if alive else "",
            "left": f"about {duration(left)} left" if left else "",
        }
        if total
        else None,
        "measured": _measured(result or {}),
        "log": list(log),
        "other": None if other is None else {"title": other.title, "training": other_training},
        "after": after,
        "mark": mark,
        "beat": beat,
    }


def _job(job: Job) -> Payload:
    last = job.last_lines[-1] if job.last_lines else ""
    words = {
        JobState.PAUSED: "Its last checkpoint is kept; “Go on” takes it up there.",
        JobState.CANCELLED: "Checkpoints are kept; “Go on” takes it up at the last one.",
        JobState.FAILED: last.removeprefix("error: ") or "It gave no reason.",
        JobState.DIED: "It was killed, ran out of memory, or the machine went down. “Go on” takes it up at its last "
        "whole checkpoint; what it printed last stands below.",
    }.get(job.state, "")
    said = "Stopped" if job.state is JobState.PAUSED else SAID[job.state]
    said = "Stopping after this update" if job.state is JobState.STOPPING else said
    return {
        "id": job.id,
        "title": job.title,
        "state": job.state.value,
        "said": said,
        "words": words,
        "alive": job.alive,
        "last": last,
    }


def _measured(result: Mapping[str, Any]) -> str:
    """What a training that ended took."""
    if not result:
        return ""
    said = f"{count_words(int(number(result, 'updates')), 'update')} in {duration(number(result, 'seconds'))}"
    if memory := number(result, "peak_memory_bytes"):
        said += f", at most {gigabytes(memory)} of memory"
    if tokens := number(result, "tokens"):
        said += f", {int(tokens):,} tokens read"
    return said + " (measured)."


def settings_words(config: TrainingConfig) -> str:
    """What a training was asked for, in one line."""
    r = config.request
    parts = [
        f"{METHODS[r.method]} of {config.model.id}, {trained_words(r)}",
        f"{count_words(r.updates, 'update')} of {count_words(r.batch, UNITS[r.method])}, "
        f"learning rate {r.rate:g}, seed {r.seed}",
        f"{count_words(config.rows, 'trace')} ({r.traces.value})",
    ]
    if r.method is Method.GRPO:
        entering = "no rescued trace" if r.inject is Inject.NEVER else f"a rescued trace in {r.inject.value} groups"
        entering = "a rescued trace wherever at least two failed" if r.inject is Inject.ALWAYS else entering
        parts.append(
            f"groups of {r.group}, temperature {r.temperature:g}, at most {r.max_new_tokens} tokens, {entering}"
            + ("" if r.inject is Inject.NEVER else f", c = {r.off_policy_c:g}")
            + (f", RL-ZVP with α = {r.zvp_alpha:g}" if r.zvp_alpha else "")
        )
    if config.problems:
        parts.append(f"prompts: {config.problems}")
    return " · ".join(parts)


# -- curves ----------------------------------------------------------------------------------------

# (key in metrics.jsonl, name, unit, what it is, whether it lies in 0..1)
CURVES = (
    ("loss", "Loss", "", "Of each update’s rows.", False),
    ("reward", "Reward", "", "Share of an update’s completions that are right, a trace that entered among them.", True),
    (
        "frac_reward_zero_std",
        "Groups of equal rewards",
        "",
        "Share of groups, those with a trace that entered among them, whose advantages are all 0: RL-ZVP alone learns "
        "of them.",
        True,
    ),
    ("completions/mean_length", "Length", "tokens", "Mean of an update’s completions.", False),
    ("mean_token_accuracy", "Tokens guessed", "", "Share of trained tokens that the model itself would pick.", True),
    ("rewards/accuracies", "Pairs told apart", "", "Share of pairs whose rescued text is preferred.", True),
    ("rescued_members", "Rescued members", "", "Rescued traces that entered the update’s groups.", False),
    ("entropy", "Entropy", "nats", "Mean over tokens: near 0 the model says only one thing.", False),
    ("grad_norm", "Gradient norm", "", "Before it is clipped at 1.", False),
)


def curves_payload(
    training: str,
    metrics: Sequence[Mapping[str, Any]],
    looks: Sequence[Mapping[str, Any]],
    sampled: Sequence[Mapping[str, Any]] = (),
    *,
    updates: int = 0,
    by_token: bool = False,
    mark: str = "",
) -> Payload:
    """What a training logged.

    Args:
        training: its name.
        metrics: lines of `metrics.jsonl`.
        looks: lines of `held-out.jsonl`.
        sampled: rows of the last sampled groups: prompt, completion, verified, advantage, rescued.
        updates: how many were asked for: the curves' axis ends there.
        by_token: groups of equal rewards have an advantage for each token (RL-ZVP), so none to show.
        mark: see `status_payload`.
    """
    last = max((int(line.get("update", 0)) for line in [*metrics, *looks]), default=0)
    curves = [_held_out(looks)] if looks else []
    for key, name, unit, what, share in CURVES:
        points = [
            [int(line["update"]), float(line[key])]
            for line in metrics
            if isinstance(line.get(key), int | float) and "update" in line
        ]
        if points:
            curves.append(_curve(key, name, unit, what, share, points))
    return {
        "training": training,
        "mark": mark,
        "updates": max(updates, last, 1),
        "curves": curves,
        "texts": _look_texts(looks),
        "sampled": _sampled(sampled, by_token),
    }


def _curve(key: str, name: str, unit: str, what: str, share: bool, points: list) -> Payload:
    window = max(3, len(points) // 12) if len(points) >= SMOOTHED_FROM else 0
    mean = []
    if window:
        values = [value for _, value in points]
        for at, (update, _) in enumerate(points):
            near = values[max(0, at - window // 2) : at + window // 2 + 1]
            mean.append([update, round(sum(near) / len(near), 6)])
        what += f" Bold: mean of {window // 2 * 2 + 1} updates."
    return {
        "key": key,
        "name": name,
        "unit": unit,
        "what": what,
        "share": share,
        "points": [[update, round(value, 6)] for update, value in thinned(points)],
        "mean": thinned(mean),
        "whiskers": [],
    }


def thinned(points: Sequence[Sequence[float]], most: int = CURVE_POINTS) -> list:
    """At most so many points, evenly, the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(at * (len(points) - 1) / (most - 1))] for at in range(most)]


def _held_out(looks: Sequence[Mapping[str, Any]]) -> Payload:
    counted = [(int(look["update"]), int(look["correct"]), int(look["n"])) for look in looks if look.get("n")]
    n = counted[-1][2] if counted else 0
    return {
        "key": "held_out",
        "name": "Held-out problems right",
        "unit": "",
        "what": f"Of {count_words(n, 'problem')} never trained on, one rollout each. Whiskers: Wilson’s 95 % interval.",
        "share": True,
        "points": [[update, correct / count] for update, correct, count in counted],
        "mean": [],
        "whiskers": [[*wilson_interval(correct, count), f"{correct} of {count}"] for _, correct, count in counted],
    }


def _look_texts(looks: Sequence[Mapping[str, Any]]) -> list[Payload]:
    """The same held-out questions at the first and at the last look."""
    if not looks:
        return []
    first, last = looks[0], looks[-1]
    then = {str(one.get("question", "")): one for one in first.get("texts", [])}
    found = []
    for one in last.get("texts", []):
        question = str(one.get("question", ""))
        looked = [(first, then.get(question)), (last, one)] if last is not first else [(first, one)]
        found.append(
            {
                "question": question,
                "texts": [
                    {
                        "update": int(look.get("update", 0)),
                        "text": str(text.get("text", ""))[:LONGEST_TEXT],
                        "verdict": "correct" if text.get("correct") else "wrong",
                    }
                    for look, text in looked
                    if text
                ],
            }
        )
    return found


def _sampled(rows: Sequence[Mapping[str, Any]], by_token: bool) -> Payload | None:
    if not rows:
        return None
    groups: dict[str, list] = {}
    for row in rows:
        groups.setdefault(said(row.get("prompt")), []).append(
            {
                "text": said(row.get("completion"))[:LONGEST_TEXT],
                "verdict": "correct" if float(row.get("verified") or 0.0) > 0 else "wrong",
                "advantage": round(float(row.get("advantage") or 0.0), 2),
                "rescued": bool(row.get("rescued", False)),
            }
        )
    for members in groups.values():
        if by_token and not any(one["advantage"] for one in members):
            for one in members:
                one["advantage"] = None
    return {
        "update": int(rows[0].get("step", 0)),
        "groups": [{"prompt": prompt[-LONGEST_TEXT:], "members": members} for prompt, members in groups.items()],
    }


def said(messages: object) -> str:
    """A prompt or completion as text, from text or from messages with role and content."""
    if isinstance(messages, list | tuple):
        return "\n".join(str(one.get("content", "")) for one in messages if isinstance(one, Mapping))
    return str(messages or "")


# -- what came of it -------------------------------------------------------------------------------


def after_payload(
    parent: str,
    loaded: str,
    looks: Sequence[Mapping[str, Any]],
    sets: Sequence[Payload] = (),
    *,
    state: str = "ready",
    sides: Sequence[Payload] = (),
    comparison: str = "",
    about: str = "",
    evaluating: Payload | None = None,
) -> Payload:
    """A finished training: its model, and how it does beside its parent.

    Args:
        parent: what the trained model was made of.
        loaded: which of the two the page asked for: parent, trained, or neither.
        looks: lines of `held-out.jsonl`.
        sets: {value, label} of each problem set that both may be measured on.
        state: how far that is: loading, ready or failed.
        sides: see `side_payload`; the parent's and the trained model's, those that are there.
        comparison: the two against each other, in a sentence.
        about: on which problems, under which settings.
        evaluating: {side, state, words, last, alive} of the newest evaluation's job.
    """
    first_last = []
    if looks:
        first_last = [(look, _counted(int(look["correct"]), int(look["n"]))) for look in (looks[0], looks[-1])]
    return {
        "parent": parent,
        "loaded": loaded if state == "ready" else "",
        "loading": loaded if state == "loading" else "",
        "held_out": [{"update": int(look["update"]), **count} for look, count in first_last],
        "sets": list(sets),
        "sides": list(sides),
        "comparison": comparison,
        "about": about,
        "evaluating": evaluating,
    }


def side_payload(side: str, model: str, measures: Sequence[tuple[str, float, float, float, str]]) -> Payload:
    """One model's evaluation: (name, value, low, high, of what) of each rate, all in 0..1."""
    return {
        "side": side,
        "model": model,
        "rates": [
            {"name": name, "value": value, "interval": [low, high], "of": of} for name, value, low, high, of in measures
        ],
    }


def _counted(x: int, n: int) -> Payload:
    return {"x": x, "n": n, "interval": list(wilson_interval(x, n))}
