"""The study's report: Markdown, two plots and the figures behind them, from what lies in the study's folder.

Every figure is counted from the stages' own files, every sentence follows from the figures by a rule in this file, so
the report can be made anew at any moment, also of an unfinished study.

`python -m explorer.study_report FOLDER --hunt HUNT --name NAME` adds an audited hunt to a report as a further
confirmation.

What it does not do: run anything (`study.py`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from explorer.audit_verdict import RULES, Audit, Finding, conclude
from explorer.cli import run_command
from explorer.errors import UserError
from explorer.hunt import HuntConfig, read_config, read_results
from explorer.hunt_table import Rate, rate, summarise
from explorer.records import RevisionConfig, SamplingConfig
from explorer.sources import model_option
from explorer.statistics import apart, sign_test
from explorer.store import find_runs, load_run, write_atomic
from explorer.study import ARMS, SEARCH_FILE, confirmed_arms, read_rows

REPORT, FIGURES = "report.md", "study.json"
COMMAND = "python -m explorer.study --out study"
# Settings that the command line has under another name.
FLAGS = {"ban_answer_tokens": "ban_answer", "max_continuation_tokens": "failed_tokens"}
# What `study.confirmed_arms` calls them; another one is of an earlier rule.
CHOSEN = ("default", "best")
UNCHOSEN = "The search as it is counted today does not choose this setting: an earlier rule did."
EARLIER_RULES = (
    "Counted by earlier rules, under which one hit of a decoy could be enough for “smuggled” where draws are few."
)
# What an arm of an audit is called in the report; the order of the tables.
CONFIRMED = {
    "revised": "revised embeddings",
    "fresh": "fresh rollouts, equal compute",
    "unrevised": "unrevised prefix, equal compute",
    "original": "unrevised prefix, as many draws",
    "projected": "revised, projected to tokens",
    "decoy": "decoy: a wrong answer reached",
}


def write_report(study: Path, out: Path) -> Path:
    """Write `report.md`, `study.json`, `search.svg` and `confirm.svg` into `out`; the report's path."""
    rows = read_rows(study / SEARCH_FILE)
    confirmed = {arm.name: confirmed_arm(study / "confirm" / arm.name, arm.words) for arm in confirmed_arms(rows)}
    figures = {
        "schema_version": 1,
        "command": COMMAND,
        "base": {
            "settings": read_config(study / "base").model_dump(mode="json", exclude={"config"}),
            "families": [row.model_dump() for row in summarise(read_results(study / "base"))],
        },
        "search": searched_arms(rows),
        "confirm": {name: one for name, one in confirmed.items() if one["problems"]},
    }
    return publish(figures, out)


def add_hunt(report: Path, hunt: Path, name: str) -> Path:
    """Add an audited hunt to a report as a further confirmation; the report's path.

    Args:
        report: the folder of a report.
        hunt: a hunt whose runs were audited with fresh rollouts, the unrevised prefix and a decoy.
        name: what to call it; where the hunt was over a file, the name of the set that the file holds.

    Raises:
        UserError: there is no report, or nothing in the hunt was audited.
    """
    try:
        figures = json.loads((report / FIGURES).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{report} holds no report of a study: write one first.") from error
    config = read_config(hunt)
    s, r = config.sampling, config.config
    settings = (
        f"a hunt over {Path(config.problems).name}: N {s.n}, zero-hit prompts revised with split {config.split}, "
        f"K {r.steps}, γ {r.step_size:g}, λ {r.away_weight:g}, "
        f"{config.samples} continuations of at most {s.max_new_tokens} tokens"
    )
    counted = confirmed_arm(hunt, settings)
    if "fresh" not in counted["arms"]:
        raise UserError(f"The runs of {hunt.name} were not audited: run `python -m explorer audit` on it first.")
    problems = name if Path(config.problems).suffix else config.problems
    counted["commands"] = [
        hunt_command(config, problems),
        "python -m explorer audit hunt --controls fresh,unrevised,decoy",
        f"python -m explorer.study_report REPORT --hunt hunt --name {name}",
    ]
    counted["zero_hit"] = summarise(read_results(hunt))[-1].zero_hit.model_dump()
    figures["confirm"][name] = counted
    return publish(figures, report)


def publish(figures: dict, out: Path) -> Path:
    """Write figures, plots and report; the report's path."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FIGURES, json.dumps(figures, indent=1, ensure_ascii=False).encode())
    rows_of_plot = [(one["name"], Rate(**one["rescued"])) for one in figures["search"]]
    write_atomic(out / "search.svg", interval_plot("Problems with a correct continuation", rows_of_plot).encode())
    pairs = [
        (f"{setting}: {CONFIRMED[name]}", Rate(**arm["problems"]))
        for setting, one in figures["confirm"].items()
        for name, arm in one["arms"].items()
    ]
    write_atomic(out / "confirm.svg", interval_plot("Problems with a correct continuation", pairs).encode())
    write_atomic(out / REPORT, "\n".join(words(figures)).encode())
    return out / REPORT


def best_of(searched: Sequence[dict]) -> dict | None:
    """The searched arm with the highest rate of correct continuations without a false equation, as `study.best_arm`
    has it; the earlier of equals, no control."""
    controls = {arm.name for arm in ARMS if arm.decoy or not arm.revised}
    found = [one for one in searched if one["arm"] not in controls]
    return max(
        found, key=lambda one: (one["continuations"]["x"] - one["false"]) / one["continuations"]["n"], default=None
    )


def searched_arms(rows: Sequence[dict]) -> list[dict]:
    """Each arm and point of the search, counted over the problems that it applied to."""
    found = []
    for arm in ARMS:
        for point in arm.points if arm.revised else (0,):
            mine = [row for row in rows if row["arm"] == arm.name and row["n"] and (row["point"] == point)]
            if not mine:
                continue
            n, correct = sum(row["n"] for row in mine), sum(row["correct"] for row in mine)
            found.append(
                {
                    "arm": arm.name,
                    "point": point,
                    "name": arm.name if len(arm.points) == 1 else f"{arm.name}, step {point}",
                    "group": arm.group,
                    "words": arm.words if len(arm.points) == 1 else f"{arm.words}; from step {point}",
                    "rescued": rate(sum(row["correct"] > 0 for row in mine), len(mine)).model_dump(),
                    "continuations": rate(correct, n).model_dump(),
                    "false": sum(row["false"] for row in mine),
                    "loops": sum(row["degenerate"] for row in mine),
                    "cut_off": sum(row["truncated"] for row in mine),
                    "changed": _mean([row["changed"] for row in mine if "changed" in row]),
                    "toward": [
                        _mean([row[key] for row in mine if key in row]) for key in ("toward_first", "toward_last")
                    ],
                }
            )
    return found


def confirmed_arm(folder: Path, setting: str) -> dict:
    """The audits of one setting's runs, counted: per arm the problems with a correct continuation and the
    continuations; the findings; paired tests over problems."""
    audits: list[Audit] = []
    for run in find_runs(folder) if folder.is_dir() else ():
        audit = conclude(load_run(run, with_trajectory=False)[0], run.name)
        if audit is not None:
            audits.append(audit)
    arms = {}
    hits: dict[str, dict[str, bool]] = {}
    for name in CONFIRMED:
        having = [(audit.problem, arm) for audit in audits for arm in audit.arms if arm.name == name]
        if not having:
            continue
        # A problem may have several runs, of a failed rollout each.
        hits[name] = {}
        for problem, arm in having:
            hits[name][problem] = hits[name].get(problem, False) or arm.correct > 0
        arms[name] = {
            "problems": rate(sum(hits[name].values()), len(hits[name])).model_dump(),
            "continuations": rate(sum(arm.correct for _, arm in having), sum(arm.n for _, arm in having)).model_dump(),
            "loops": sum(arm.degenerate for _, arm in having),
            "cut_off": sum(arm.truncated for _, arm in having),
        }
    paired = {}
    for name in arms:
        both = [problem for problem in hits["revised"] if problem in hits[name]]
        if name != "revised":
            first, second = ([hits[one][problem] for problem in both] for one in ("revised", name))
            wins, losses = (
                sum(a and not b for a, b in zip(*pair, strict=True)) for pair in ((first, second), (second, first))
            )
            paired[name] = {"only_revised": wins, "only_other": losses, "p": sign_test(first, second)}
    counted = Counter(audit.finding for audit in audits)
    return {
        "words": setting,
        "problems": len({audit.problem for audit in audits}),
        "arms": arms,
        "paired": paired,
        "findings": {finding.value: counted[finding] for finding in Finding},
        "rules": RULES,
    }


def words(figures: dict) -> list[str]:
    """The report."""
    settings = figures["base"]["settings"]
    sampling, model = settings["sampling"], settings["model"]
    whole = figures["base"]["families"][-1]
    lines = [
        "# Does revision rescue more than resampling does?",
        "",
        f"Model: {model['id']} ({model['source']}, {model['dtype']}). {whole['problems']} problems of eight families, "
        f"N {sampling['n']} rollouts each, temperature {sampling['temperature']:g}, at most "
        f"{sampling['max_new_tokens']} tokens, seed {sampling['seed']}. Intervals are Wilson’s at 95 %, over problems; "
        "counts of continuations have none, since those of one problem are no independent draws. "
        f"Repeat it with `{command(figures)}`; the figures are in [{FIGURES}]({FIGURES}).",
        "",
        "## In short",
        "",
        *[f"- {sentence}" for sentence in short(figures)],
        "",
        "## Which prompts are zero-hit",
        "",
        f"| family | problems | zero-hit | pass@1 | pass@{sampling['n']} |",
        "|---|---|---|---|---|",
    ]
    for row in figures["base"]["families"]:
        # Read back from a file the keys are texts: by their numbers, or "8" comes after "16".
        by_k = {int(k): value for k, value in row["pass_at"].items()}
        first, last = (f"{100 * by_k[k]:.0f} %" for k in (min(by_k), max(by_k)))
        lines.append(f"| {row['family']} | {row['problems']} | {_rate(row['zero_hit'])} | {first} | {last} |")
    lines += [
        "",
        "## Search: one setting changed at a time",
        "",
        "On zero-hit problems that are used for nothing else; 16 continuations of at most 64 tokens each. “False” "
        "counts correct continuations that rest on an equation that does not hold. “Changed”: prefix tokens whose "
        "nearest token is another one. “Toward”: nats per answer token before and after.",
        "",
        "![Problems with a correct continuation, by setting](search.svg)",
        "",
        "| setting | problems with a correct one | continuations correct | false | changed | toward | loops, cut off |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in figures["search"]:
        changed = "" if one["changed"] is None else f"{100 * one['changed']:.0f} %"
        toward = "" if one["toward"][0] is None else f"{one['toward'][0]:.2f} → {one['toward'][1]:.2f}"
        lines.append(
            f"| {one['words']} | {_rate(one['rescued'])} | {_count(one['continuations'])} | {one['false']} | {changed} "
            f"| {toward} | {one['loops']}, {one['cut_off']} |"
        )
    lines += [
        "",
        "## Confirmation: other problems, equal compute",
        "",
        "Settings were fixed before. Equal compute: as many draws as revision and revised continuations "
        "together cost in forward-token equivalents, a backward pass counted as one more forward.",
        "",
        "![Problems with a correct continuation, revised and controls](confirm.svg)",
    ]
    for name, one in figures["confirm"].items():
        lines += [
            "",
            f"### {name}: {one['words']}",
            "",
            *([] if "commands" in one or name in CHOSEN else [UNCHOSEN, ""]),
            f"{one['problems']} problems. “Only”: problems that only the revised embeddings, or only this arm, got "
            "right at least once, and the exact sign test’s p.",
            "",
            "| arm | problems with a correct one | continuations correct | loops, cut off | only revised, this; p |",
            "|---|---|---|---|---|",
        ]
        for key, arm in one["arms"].items():
            pair = one["paired"].get(key)
            against = f"{pair['only_revised']}, {pair['only_other']}; {pair['p']:.2g}" if pair else ""
            lines.append(
                f"| {CONFIRMED[key]} | {_rate(arm['problems'])} | {_count(arm['continuations'])} | "
                f"{arm['loops']}, {arm['cut_off']} | {against} |"
            )
        if one.get("commands"):
            lines += ["", "Repeat it with " + ", ".join(f"`{command}`" for command in one["commands"]) + "."]
        found = ", ".join(f"{finding} {count}" for finding, count in one["findings"].items() if count)
        earlier = "" if one.get("rules", 1) == RULES else f" {EARLIER_RULES}"
        each = "problem" if sum(one["findings"].values()) == one["problems"] else "run"
        lines += ["", f"Audit of each {each}: {found}.{earlier}"]
    return [*lines, ""]


def command(figures: dict) -> str:
    """The one that repeats the study as far as it went."""
    searched = max((one["rescued"]["n"] for one in figures["search"]), default=None)
    confirmed = max((one["problems"] for one in figures["confirm"].values() if "commands" not in one), default=None)
    more = [("--searched", searched), ("--confirmed", confirmed)]
    model = figures["base"]["settings"]["model"]
    named = model_option(model["id"], model["source"])
    return " ".join([COMMAND + named, *(f"{option} {count}" for option, count in more if count)])


def hunt_command(config: HuntConfig, problems: str) -> str:
    """The command of a hunt: over which problems, and all that is not as it is when nobody asks."""
    usual = HuntConfig(problems="", model=config.model, sampling=SamplingConfig(), config=RevisionConfig())
    said = f"--rollouts {config.sampling.n} --samples {config.samples}"
    parts = [(config.sampling, usual.sampling, {"n"}), (config.config, usual.config, set())]
    parts += [(config, usual, {"schema_version", "problems", "model", "sampling", "config", "samples"})]
    for asked, otherwise, known in parts:
        for name in type(asked).model_fields:
            value = getattr(asked, name)
            if name not in known and value != getattr(otherwise, name):
                flag = f" --{FLAGS.get(name, name).replace('_', '-')}"
                said += flag if value is True else f"{flag} {shlex.quote(f'{value}')}"
    model = model_option(config.model.id, config.model.source)
    return f"python -m explorer hunt --problems {problems}{model} {said} --out hunt"


def short(figures: dict) -> list[str]:
    """What the figures say, by rules."""
    whole = figures["base"]["families"][-1]
    found = [f"Zero-hit at N = {figures['base']['settings']['sampling']['n']}: {_rate(whole['zero_hit'])}."]
    best = best_of(figures["search"])
    if best:
        correct, false = best["continuations"]["x"], best["false"]
        found.append(
            f"Best in the search, by continuations that are correct and hold no false equation: {best['words']}; "
            f"{correct - false} of its {correct} correct ones hold none."
        )
    tried = [f"{max(one['rescued']['n'] for one in figures['search'])} in the search"] if figures["search"] else []
    tried += [f"{one['problems']} in the confirmation of “{name}”" for name, one in figures["confirm"].items()]
    if tried:
        found.append(f"Of the zero-hit problems so many were used: {', '.join(tried)}.")
    for name, one in figures["confirm"].items():
        revised = Rate(**one["arms"]["revised"]["problems"])
        for other in ("fresh", "unrevised", "decoy", "projected"):
            if other not in one["arms"]:
                continue
            rival = Rate(**one["arms"][other]["problems"])
            if apart((rival.low, rival.high), (revised.low, revised.high)):
                said = "is below it, intervals apart"
            elif apart((revised.low, revised.high), (rival.low, rival.high)):
                said = "is above it, intervals apart"
            else:
                said = "can’t be told from it: the intervals overlap"
            found.append(f"{name}: revised {revised.words} of problems; {CONFIRMED[other]} {rival.words} {said}.")
        reasoned = one["findings"][Finding.REASONED.value]
        found.append(f"{name}: the audit calls {reasoned} of {one['problems']} problems reached by reasoning.")
    if not figures["confirm"] and figures["search"]:
        found.append("The confirmation has not been run.")
    return found


def interval_plot(title: str, rows: Sequence[tuple[str, Rate]]) -> str:
    """An SVG of rates: a dot at x of n, a line over its interval, the words beside it. Legible on light and dark."""
    left, width, line = 290, 340, 22
    height = 46 + line * len(rows)
    grey = "#7a828c"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 150} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<text x="{left}" y="14" fill="{grey}">{escape(title)}, share with Wilson 95 % interval</text>',
    ]
    for tick in (0, 25, 50, 75, 100):
        x = left + width * tick / 100
        parts.append(f'<path d="M{x} 24V{height - 18}" stroke="{grey}" stroke-opacity=".3"/>')
        parts.append(f'<text x="{x}" y="{height - 4}" text-anchor="middle" fill="{grey}">{tick} %</text>')
    for place, (name, one) in enumerate(rows):
        y = 36 + line * place
        low, high = (left + width * bound for bound in (one.low, one.high))
        middle = left + width * (one.x / one.n if one.n else 0)
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" fill="{grey}">{escape(name)}</text>')
        parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="#0072b2" stroke-width="3" stroke-opacity=".55"/>')
        parts.append(f'<circle cx="{middle:.1f}" cy="{y}" r="4.5" fill="#0072b2"/>')
        parts.append(f'<text x="{left + width + 10}" y="{y + 4}" fill="{grey}">{one.x} of {one.n}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rate(plain: dict) -> str:
    return Rate(**plain).words


def _count(plain: dict) -> str:
    return f"{plain['x']} of {plain['n']}"


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Add a hunt to a report."""
    parser = argparse.ArgumentParser(description="Add an audited hunt to a study's report.")
    parser.add_argument("report", type=Path, help="Folder of the report.")
    parser.add_argument("--hunt", type=Path, required=True, help="Folder of the audited hunt.")
    parser.add_argument("--name", required=True, help="What to call it there.")
    asked = parser.parse_args(arguments)
    print(add_hunt(asked.report, asked.hunt, asked.name))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
