"""The audit's table from traces made by hand: every arm named and counted, the finding in plain words."""

from __future__ import annotations

import json

import pytest

from explorer.audit_controls import KINDS
from explorer.audit_verdict import Finding
from explorer.records import Control, Leaks, Start, Stated
from explorer.statistics import wilson_interval
from explorer.views.audit import ARMS, SAID, audit_payload
from tests.harness_watch import traces as t


def control(kind, correct, n=8, target="46", **changes):
    items = t.arm(Start.REVISED, 4, correct, n)
    return Control(kind=kind, target=target, step=4, sampling=t.SAMPLING, continuations=items, **changes)


def controls(fresh=0, unrevised=0, decoy=0, **others):
    counts = {"fresh": fresh, "unrevised": unrevised, "decoy": decoy, **others}
    return tuple(control(kind, counts.get(kind, 0), target="47" if kind == "decoy" else "46") for kind in KINDS)


LEAKS = Leaks(
    step=4,
    hull_mass=(0.1, 0.3),
    hull_mass_before=(0.0, 0.0),
    log_p_prompt=-6.0,
    log_p_unrevised=-2.5,
    log_p_revised=-0.5,
    stated=(Stated(token=4, tokens=20, log_p=-1.5), Stated(token=None, tokens=30, false_equations=1, log_p=-2.5)),
)


def test_every_arm_has_a_name_and_a_sentence():
    assert list(ARMS) == [*(start.value for start in Start), *KINDS]
    assert set(SAID) == set(Finding)
    assert all(what.endswith((".", "?")) for _, what in ARMS.values())


def test_a_run_without_continuations_has_nothing_to_audit():
    payload = audit_payload(t.trace())
    assert (payload["ready"], payload["finding"], payload["complete"]) == (False, None, False)


def test_arms_that_were_not_run_stand_there_as_such():
    payload = audit_payload(t.trace(t.arms(4, 6, 1, 0)), run_id="r")
    rows = {row["name"]: row for row in payload["rows"]}
    assert [rows[name]["n"] for name in ARMS] == [8, 8, 8] + [0] * 8
    assert rows["revised"]["interval"] == list(wilson_interval(6, 8))
    assert (payload["lacking"], payload["complete"], payload["run_id"]) == (8, False, "r")
    assert payload["finding"]["word"] == "Undecided"
    assert "Not all controls were run yet" in payload["finding"]["sentence"]
    because = payload["finding"]["because"]
    assert any(one.startswith("Not run yet: plain prompt, equal compute") for one in because)
    assert because[0].startswith("Revised: 6 of 8 (")


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, "Reached by reasoning"),
        ({"decoy": 7}, "Smuggled"),
        ({"fresh": 8}, "Lucky"),
        ({"unrevised": 4}, "Undecided"),
    ],
)
def test_the_finding_is_said_plainly(found, word):
    payload = audit_payload(
        t.trace(t.arms(4, 8), controls=controls(**found), leaks=LEAKS.model_copy(update={"stated": ()}))
    )
    assert payload["finding"]["word"] == word
    assert payload["complete"] is True
    assert all(one[0].isupper() or not one[0].isalpha() for one in payload["finding"]["because"])
    assert not any(one.startswith(("Fresh", "fresh")) for one in payload["finding"]["because"])


def test_what_keeps_reasoning_from_being_said_is_named():
    whole = {"controls": controls(), "leaks": LEAKS.model_copy(update={"stated": ()})}
    payload = audit_payload(t.trace(t.arms(4, 8), **whole | {"leaks": None}))
    assert payload["finding"]["word"] == "Undecided"
    assert "Not run yet: the search for false equations." in payload["finding"]["because"]
    many = tuple(
        control(one.kind, 0, n=1_024) if one.kind in ("fresh", "unrevised") else one for one in whole["controls"]
    )
    payload = audit_payload(t.trace(t.arms(4, 8), **whole | {"controls": many}))
    assert any(
        one.startswith("Plain prompt and unrevised: 1,024 draws, the most") for one in payload["finding"]["because"]
    )


def test_not_rescued_says_why():
    payload = audit_payload(t.trace(t.arms(4, 0, loops=5)))
    assert payload["finding"]["word"] == "Not rescued"
    assert payload["finding"]["because"]


def test_the_decoy_bears_its_target_and_what_runs_is_marked():
    trace = t.trace(t.arms(4, 6), controls=(control("decoy", 1, target="47"),))
    payload = audit_payload(trace, state="running", kind="ban", doing="step 2 of 4")
    rows = {row["name"]: row for row in payload["rows"]}
    assert (rows["decoy"]["target"], rows["ban"]["target"]) == ("47", None)
    assert [name for name, row in rows.items() if row["running"]] == ["ban"]
    place = KINDS.index("ban")
    assert payload["progress"] == {
        "done": place,
        "total": 8,
        "words": f"Control {place + 1} of 8: answer’s tokens banned, step 2 of 4",
    }
    measuring = audit_payload(trace, state="running", kind="leaks", doing="done")
    assert measuring["progress"]["done"] == 8


def test_leaks_are_counted_and_explained():
    leaks = {one["label"]: one["value"] for one in audit_payload(t.trace(t.arms(4, 2), leaks=LEAKS))["leaks"]}
    assert leaks["Weight on the answer’s tokens"].startswith(
        "20.0 % of the prefix, 0.0 % before; most at one position 30"
    )
    assert "−6.00 (prompt alone) → −2.50 (unrevised prefix) → −0.50" in leaks["Answer’s log-probability"]
    assert leaks["Answer first written out"] == "at token 5 of 25 (median of 1), earliest at 5"
    assert leaks["Correct ones with a false equation"].startswith("1 of 2 (")
    assert leaks["Rescued text after the plain prompt"].startswith("−2.00 nats")
    # Those of another step say nothing of this one.
    assert audit_payload(t.trace(t.arms(3, 2), leaks=LEAKS))["leaks"] == []


def test_everything_is_plain():
    json.dumps(audit_payload(t.trace(t.arms(4, 8), controls=controls(), leaks=LEAKS)), allow_nan=False)
