"""The comparison's report: Markdown, a plot and the figures behind it, from what lies in its folder.

Every figure is counted from evaluations and trainings on disk, every sentence follows from the figures by a rule in
this file: two ways of training differ where the 95 % bootstrap interval of the mean difference of pass@1, problem by
problem and averaged over the seeds that both have, leaves 0 out.

What it does not do: run anything (`claim.py`).
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from explorer.errors import UserError
from explorer.files import write_atomic
from explorer.hunt import read_results
from explorer.hunt_table import summarise
from explorer.sources import model_option
from explorer.statistics import wilson_interval
from explorer.training import folder as files
from explorer.training.claim import ARMS, SAMPLES, UPDATES, Arm
from explorer.training.claim_archive import (
    HUNT_ARCHIVE,
    REPORT_FILE,
    SCHEMA_VERSION,
    SETTINGS_FILE,
    TAKEN_FILE,
    Facts,
    Seed,
    read_facts,
    without_places,
)
from explorer.training.evaluate import (
    Evaluation,
    Value,
    bootstrap,
    dearer,
    mean_difference,
    mean_rate,
    nats,
    percent,
    points,
    read_evaluation,
)
from explorer.training.traces import OWN, RESCUED

REPORT, FIGURES, PLOT = "report.md", REPORT_FILE, "claim.svg"
COMMAND = "python -m explorer.training.claim --out claim"
# Which pairs are compared, and the question that each answers.
PAIRS = (
    ("rft-rescued", "rft", "Do rescued traces add to own correct rollouts?"),
    ("rft-filtered", "rft", "Do those that leak little?"),
    ("grpo-rescued", "grpo", "Do rescued traces add to GRPO?"),
    ("grpo-zvp", "grpo", "Does RL-ZVP add to GRPO?"),
)


def write_report(claim: Path, out: Path) -> Path:
    """Write the report and its figures into `out`; the report's path."""
    figures = gathered(claim)
    rows = [("base", Value(**figures["base"]["pass_at"]["1"]))]
    rows += [(name, Value(**arm["pass_at_1"])) for name, arm in figures["arms"].items()]
    write_atomic(out / PLOT, plot(rows).encode())
    write_atomic(out / FIGURES, json.dumps(figures, indent=1, ensure_ascii=False).encode())
    write_atomic(out / REPORT, "\n".join(words(figures)).encode())
    return out / REPORT


def gathered(claim: Path) -> dict:
    """All figures, as plain values."""
    base = read_evaluation(claim / "evaluations" / "base")
    arms, by_seed, kept = {}, {}, {}
    for arm in ARMS:
        runs: dict[int, Evaluation] = {}
        for path in sorted((claim / "evaluations").glob(f"{arm.name}-[0-9]*")):
            seed = path.name.removeprefix(f"{arm.name}-")
            try:
                runs[int(seed)] = read_evaluation(path)
            except (UserError, ValueError):
                continue  # not done yet
        if runs:
            facts = {seed: training_facts(claim / f"{arm.name}-{seed}") for seed in runs}
            by_seed[arm.name] = runs
            arms[arm.name] = arm_figures(arm, runs, facts, base)
            kept[arm.name] = {
                str(seed): Seed(
                    evaluation=without_places(run, f"{arm.name}-{seed}", questions=False), training=facts[seed]
                ).model_dump(mode="json")
                for seed, run in runs.items()
            }
    pairs = {}
    for first, second, question in PAIRS:
        if first in by_seed and second in by_seed:
            pairs[f"{first} against {second}"] = {
                "question": question,
                **difference(by_seed[first], by_seed[second]),
            }
    settings = json.loads((claim / SETTINGS_FILE).read_bytes())
    hunted = summarise(read_results(claim / "hunt"))[-1]
    return {
        "schema_version": SCHEMA_VERSION,
        "commands": commands(arms, settings, model_option(base.model.id, base.model.source)),
        "settings": settings,
        "taken": files.read_json(claim / TAKEN_FILE) if (claim / TAKEN_FILE).exists() else None,
        "hunt": hunted.model_dump(mode="json"),
        "base": without_places(base, base.model.id, questions=True).model_dump(mode="json"),
        "arms": arms,
        "pairs": pairs,
        # Every seed by itself: with these all figures above can be counted again, and further seeds added.
        "runs": kept,
    }


def commands(arms: dict[str, dict], settings: dict, model: str, more: int = 0) -> list[str]:
    """What makes these arms with as many seeds each, or with `more` of them beside those of an earlier report: a
    command for each number of seeds that some arms have. `model` is the option that names it, if it needs one."""
    usual = {arm.name for arm in ARMS if not arm.further}
    asked = {"updates": UPDATES, "samples": SAMPLES}
    changed = "".join(f" --{name} {settings[name]}" for name, usually in asked.items() if settings[name] != usually)
    found = []
    for seeds in sorted({len(arm["seeds"]) for arm in arms.values()}):
        names = [name for name, arm in arms.items() if len(arm["seeds"]) == seeds]
        named = "" if set(names) == usual else f" --arms {' '.join(names)}"
        earlier = " --earlier FOLDER" if more else ""
        found.append(f"{COMMAND}{model}{earlier} --seeds {seeds + more}{changed}{named}")
    return found


def arm_figures(arm: Arm, runs: dict[int, Evaluation], facts: dict[int, Facts], base: Evaluation) -> dict:
    """One way of training over its seeds."""
    n = base.sampling.n
    seeds = sorted(runs)
    both = [problem for problem in base.correct if all(problem in runs[s].correct for s in seeds)]
    mean = {problem: sum(runs[s].correct[problem] for s in seeds) / len(seeds) for problem in both}
    zero = [problem for problem in both if base.correct[problem] == 0]
    known = [problem for problem in both if base.correct[problem] > 0]
    return {
        "words": arm.words,
        "seeds": seeds,
        "pass_at_1": mean_rate([mean[problem] / n for problem in both]).model_dump(),
        "pass_at_n": _mean([runs[s].pass_at[n].value for s in seeds]),
        "pass_at_n_interval": mean_rate(
            [sum(runs[s].correct[p] > 0 for s in seeds) / len(seeds) for p in both]
        ).model_dump(),
        "against_base": mean_difference([(mean[p] - base.correct[p]) / n for p in both]).model_dump(),
        "newly_solved": [sum(runs[s].correct[p] > 0 for p in zero) for s in seeds],
        "of_zero_hit": len(zero),
        "lost": [sum(runs[s].correct[p] == 0 for p in known) for s in seeds],
        "of_hit": len(known),
        "tokens": _mean([runs[s].tokens for s in seeds]),
        "loops": [sum(runs[s].loops.x for s in seeds), sum(runs[s].loops.n for s in seeds)],
        "cut_off": [sum(runs[s].cut_off.x for s in seeds), sum(runs[s].cut_off.n for s in seeds)],
        "unrelated": _mean([runs[s].unrelated.value for s in seeds if runs[s].unrelated]),
        "unrelated_against_base": _broke(list(runs.values()), base),
        "training": over_seeds([facts[seed] for seed in seeds]),
    }


def _broke(runs: Sequence[Evaluation], base: Evaluation) -> dict | None:
    """How much more unrelated answers cost after a training, nats per token: question by question, the mean over
    seeds; None where one of them kept no questions apart."""
    each = [run.unrelated_each for run in runs]
    if not base.unrelated_each or any(run.unrelated_set != base.unrelated_set for run in runs):
        return None
    gaps = [sum(after) / len(each) - before for before, *after in zip(base.unrelated_each, *each, strict=True)]
    return bootstrap(gaps).model_dump()


def training_facts(folder: Path) -> Facts:
    """What one training had and took."""
    if (found := read_facts(folder)) is not None:
        return found
    request = files.read_config(folder).request
    rows = Counter(row.origin for row in files.read_rows(folder))
    result = files.read_json(folder / files.RESULT_FILE)
    lines = files.read_lines(folder / files.METRICS_FILE)
    groups = any("frac_reward_zero_std" in line for line in lines)
    return Facts(
        updates=request.updates,
        batch=request.batch,
        learning_rate=request.rate,
        own_rows=rows[OWN],
        rescued_rows=rows[RESCUED],
        seconds=round(result.get("seconds", 0.0), 1),
        peak_memory_bytes=result.get("peak_memory_bytes", 0),
        equal_rewards=_mean([line.get("frac_reward_zero_std") or 0.0 for line in lines]) if groups else None,
        rescued_members=sum(line.get("rescued_members") or 0.0 for line in lines) if groups else None,
    )


def over_seeds(facts: Sequence[Facts]) -> dict:
    """The first seed's rows, the median of the seconds (one that was interrupted, or had other work beside it, says
    nothing), the most of the memory, the mean or the sum of the rest."""
    found = facts[0].model_dump()
    found["seconds"] = round(statistics.median(one.seconds for one in facts), 1)
    found["peak_memory_bytes"] = max(one.peak_memory_bytes for one in facts)
    if facts[0].equal_rewards is not None:
        found["equal_rewards"] = _mean([one.equal_rewards or 0.0 for one in facts])
        found["rescued_members"] = sum(one.rescued_members or 0.0 for one in facts)
    return found


def difference(first: dict[int, Evaluation], second: dict[int, Evaluation]) -> dict:
    """The mean difference of pass@1 over the seeds that both have, problem by problem."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return {"seeds": [], "difference": None, "said": "not tried with the same seed"}
    n = first[seeds[0]].sampling.n
    runs = [one[s].correct for one in (first, second) for s in seeds]
    problems = [problem for problem in runs[0] if all(problem in run for run in runs)]
    gaps = [
        sum(first[s].correct[problem] - second[s].correct[problem] for s in seeds) / (n * len(seeds))
        for problem in problems
    ]
    found = mean_difference(gaps)
    return {"seeds": seeds, "difference": found.model_dump(), "said": said(found)}


def said(gap: Value) -> str:
    """What a difference means, by the rule above."""
    if gap.low > 0:
        return "better"
    return "worse" if gap.high < 0 else "can’t be told apart"


def words(figures: dict) -> list[str]:
    """The report."""
    base = Evaluation.model_validate(figures["base"])
    s, hunt = base.sampling, figures["hunt"]
    k = max(base.pass_at)
    lines = [
        "# Do rescued traces improve training?",
        "",
        f"Model: {base.model.id} ({base.model.source}, {base.model.dtype}). Trained on what a hunt over the bank’s "
        f"{hunt['problems']} problems gave ({hunt['zero_hit']['x']} zero-hit, {hunt['rescued']['x']} of "
        f"{hunt['rescued']['n']} rescued at least once), evaluated on {len(base.correct)} other problems that no part "
        f"of it saw: N {s.n} rollouts each, temperature {s.temperature:g}, at most {s.max_new_tokens} tokens, seed "
        f"{s.seed}. {_repeat(figures)}The figures are in [{FIGURES}]({FIGURES}).",
        "",
        "## In short",
        "",
        *[f"- {sentence}" for sentence in short(figures)],
        "",
        "## All ways of training",
        "",
        f"![pass@1 on held-out problems]({PLOT})",
        "",
        "pass@1: mean over problems with its 95 % bootstrap interval; over all seeds together. “Newly solved”: "
        f"problems without a hit in {s.n} before and with one after; “lost”: the other way round; one number a seed, "
        "and Wilson’s 95 % interval of their mean. Tokens, loops and cut off are of all rollouts, without an interval: "
        "those of one problem are no independent draws. Unrelated: nats per token of answers to questions of general "
        "knowledge, and how much more than before (95 % bootstrap interval over questions); lower is better.",
        "",
        f"| training | seeds | pass@1 | against base, points | pass@{k} | newly solved | lost | tokens | loops "
        "| cut off | unrelated |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| none | | {percent(base.pass_at[1])} | | {percent(base.pass_at[k])} | | | {base.tokens:.0f} | "
        f"{_share(base.loops.x, base.loops.n)} | {_share(base.cut_off.x, base.cut_off.n)} | "
        f"{base.unrelated.value if base.unrelated else float('nan'):.2f} |",
    ]
    for arm in figures["arms"].values():
        newly, lost = _counts(arm["newly_solved"], arm["of_zero_hit"]), _counts(arm["lost"], arm["of_hit"])
        hit = percent(Value(**arm["pass_at_n_interval"]))
        lines.append(
            f"| {arm['words']} | {len(arm['seeds'])} | {percent(Value(**arm['pass_at_1']))} | "
            f"{_points(arm['against_base'])} | {hit} | {newly} | {lost} | {arm['tokens']:.0f} | "
            f"{_share(*arm['loops'])} | {_share(*arm['cut_off'])} | {_unrelated(arm)} |"
        )
    lines += [
        "",
        "## What each training had",
        "",
        "| training | updates × batch | learning rate | own rollouts | rescued | groups of equal rewards "
        "| rescued members entered | time, median | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in figures["arms"].values():
        t = arm["training"]
        grouped = t["equal_rewards"] is not None
        idle = f"{100 * t['equal_rewards']:.0f} %" if grouped else ""
        entered = f"{t['rescued_members']:.0f} in all seeds" if grouped else ""
        lines.append(
            f"| {arm['words']} | {t['updates']} × {t['batch']} | {t['learning_rate']:g} | {t['own_rows']} | "
            f"{t['rescued_rows']} | {idle} | {entered} | {t['seconds'] / 60:.1f} min | "
            f"{t['peak_memory_bytes'] / 1e9:.1f} GB |"
        )
    settings, taken = figures["settings"], figures["taken"]
    compared = len(figures["arms"]) + sum(pair["difference"] is not None for pair in figures["pairs"].values())
    lines += [
        "",
        f"In SFT at most {settings['per_problem']} own and {settings['per_problem']} rescued traces of a problem are "
        "trained on. Times and memory are of the machines that the seeds ran on.",
        "",
    ]
    if "rft-filtered" in figures["arms"]:
        lines += [
            f"“Leak little”: no false equation, and no position of the revised prefix with more than "
            f"{100 * settings['max_leak']:.0f} % of its weight on the answer’s tokens; written down before any figure "
            "was seen. That arm leaves out own rollouts on a false equation as well, so it differs in two things.",
            "",
        ]
    if taken is not None:
        seeds = "; ".join(f"{arm} {', '.join(map(str, each))}" for arm, each in taken.items() if each)
        lines += [f"Taken from an earlier report, so run on whatever machine that was: {seeds or 'its hunt'}.", ""]
    if compared:
        lines += [
            "Intervals are over problems and take the seeds as they are. "
            f"With {compared} comparisons of pass@1 at 95 % the chance that at least one differs by luck alone is up "
            f"to about {100 * (1 - 0.95**compared):.0f} %; those of unrelated answers come on top.",
            "",
        ]
    model = model_option(figures["base"]["model"]["id"], figures["base"]["model"]["source"])
    again = " and ".join(f"`{one}`" for one in commands(figures["arms"], settings, model, more=1))
    lines += [
        f"The hunt’s traces lie in [{HUNT_ARCHIVE}]({HUNT_ARCHIVE}), each seed’s evaluation in {FIGURES}. "
        + (f"With the same weights {again} adds a seed to those in this folder." if again else ""),
        "",
    ]
    return lines


def short(figures: dict) -> list[str]:
    """What the figures say, by rules."""
    found = []
    for name, pair in figures["pairs"].items():
        if pair["difference"] is None:
            continue
        count = len(pair["seeds"])
        found.append(
            f"{pair['question']} {name}: pass@1 {_points(pair['difference'])} points over {count} "
            f"seed{'' if count == 1 else 's'}: {pair['said']}."
        )
    for name, arm in figures["arms"].items():
        found.append(f"{name} against no training: {_points(arm['against_base'])} points: {said(_value(arm))}.")
    if found and (base := figures["base"].get("unrelated")):
        costs = ", ".join(f"{name} {_unrelated(arm)}{_dearer(arm)}" for name, arm in figures["arms"].items())
        found.append(
            "Did anything else break? Answers to unrelated questions cost the model as it was "
            f"{base['value']:.2f} nats per token, and after training (difference, 95 % interval over "
            f"{len(figures['base']['unrelated_each'])} questions): {costs}. More is worse: what was known before is "
            "less likely to be said, in these words or at all."
        )
    return found or ["Nothing was trained yet."]


def _counts(each: Sequence[int], n: int) -> str:
    """One number a seed, of how many, and the interval of their mean."""
    low, high = wilson_interval(round(sum(each) / max(1, len(each))), n)
    return f"{', '.join(map(str, each))} of {n} ({100 * low:.0f}–{100 * high:.0f} %)"


def _unrelated(arm: dict) -> str:
    """6.59, +1.14 (+0.83 to +1.47)."""
    gap = arm["unrelated_against_base"]
    return f"{arm['unrelated']:.2f}" + (f", {nats(Value(**gap))}" if gap else "")


def _repeat(figures: dict) -> str:
    made = " and ".join(f"`{one}`" for one in figures["commands"])
    return f"Repeat it with {made}. " if made else ""


def _dearer(arm: dict) -> str:
    """What that means, by the rule above; a difference that rounds to 0 is none that anyone would notice."""
    if (gap := arm["unrelated_against_base"]) is None:
        return ""
    return f": {dearer(Value(**gap))}"


def _value(arm: dict) -> Value:
    return Value(**arm["against_base"])


def _points(plain: dict) -> str:
    value, low, high = (points(plain[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _share(x: int, n: int) -> str:
    return f"{100 * x / max(1, n):.0f} %"


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def plot(rows: Sequence[tuple[str, Value]]) -> str:
    """An SVG of means with their intervals. Legible on light and dark."""
    left, width, line, grey = 150, 420, 24, "#7a828c"
    most = max(0.1, *(value.high for _, value in rows))
    height = 48 + line * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height}" role="img" '
        'aria-label="pass@1 on held-out problems" font-family="sans-serif" font-size="12">',
        f'<text x="{left}" y="14" fill="{grey}">pass@1 on held-out problems, 95 % bootstrap interval</text>',
    ]
    step = 0.05 if most <= 0.3 else 0.1
    for place in range(int(most / step) + 1):
        x = left + width * place * step / most
        parts.append(f'<path d="M{x:.1f} 24V{height - 18}" stroke="{grey}" stroke-opacity=".3"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" fill="{grey}">{place * step:.0%}</text>')
    for place, (name, one) in enumerate(rows):
        y = 38 + line * place
        low, middle, high = (left + width * value / most for value in (one.low, one.value, one.high))
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" fill="{grey}">{escape(name)}</text>')
        parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="#0072b2" stroke-width="3" stroke-opacity=".55"/>')
        parts.append(f'<circle cx="{middle:.1f}" cy="{y}" r="4.5" fill="#0072b2"/>')
        parts.append(f'<text x="{left + width + 10}" y="{y + 4}" fill="{grey}">{100 * one.value:.1f} %</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
