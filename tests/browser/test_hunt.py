"""The hunt's screen and the audit of a run, as a person uses them: a tiny random model, real processes, a real browser.

Waiting is always for a state.
"""

from __future__ import annotations

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from explorer.hunt import read_results
from explorer.recorded import recorded_runs
from explorer.store import load_run

from . import screen as s
from .conftest import kill_job, serving

pytestmark = pytest.mark.browser

PROMPTS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("hunt-server")
    with serving(
        folder,
        "--model",
        str(tiny_folder),
        LATENTREVISE_CACHE_DIR=str(folder / "cache"),
        LATENTREVISE_OFFLINE="1",
        HF_HUB_OFFLINE="1",  # a dataset that is not there is then missed at once
        OMP_NUM_THREADS="1",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """A file of twelve good rows, and one of which a row is bad."""
    folder = tmp_path_factory.mktemp("problems")
    rows = [
        json.dumps({"id": f"p{i:02}", "question": f"What is {i} + 3?", "answer": i + 3, "family": "ab"[i % 2]})
        for i in range(PROMPTS)
    ]
    (folder / "good.jsonl").write_text("\n".join(rows))
    (folder / "bad.jsonl").write_text("\n".join([*rows[:2], '{"question": "<img src=x onerror=alert(1)>"}']))
    return folder


def found_by_axe(page, within) -> list[str]:
    result = Axe().run(page, context=within, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in result.response["violations"]]


def settled(page):
    """Until the form's plan is of what stands in it."""
    expect(page.locator("#lr-hunt-form .lr-primary")).not_to_have_attribute("aria-disabled", "true")


def small(page):
    """Ask for as little as shows something; long enough to be interrupted."""
    fields = {
        "N, rollouts per prompt": 3,
        "Longest, in tokens": 60,
        "K, steps": 4,
        "n, continuations": 2,
        "Random seed": 5,
    }
    for label, value in fields.items():
        page.locator("#lr-hunt-form").get_by_label(label, exact=True).fill(str(value))
    page.locator("#lr-hunt-form").get_by_label("Where the prefix ends").select_option("fraction")


def choose(page, file):
    sets = page.locator("#lr-hunt-form").get_by_label("Problem set")
    sets.focus()
    sets.select_option("file:")
    expect(sets).to_be_focused()  # who goes through the list by keyboard is not thrown out of it
    with page.expect_file_chooser() as chooser:
        page.locator("#lr-hunt-form").get_by_role("button", name="Choose a file…").click()
    chooser.value.set_files(file)


def rows(page):
    return page.locator("#lr-hunt-table tbody tr")


def state(page):
    return page.locator("#lr-hunt .lr-hunt-state")


def test_the_third_mode_leaves_the_others_as_they_are_and_asks_nothing_while_away(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        expect(page.locator("#lr-watch .lr-run")).to_have_count(len(recorded_runs()))
        expect(page.locator("#lr-section-hunt")).to_be_hidden()
        page.get_by_role("radio", name="Watch recorded runs").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("radio", name="Hunt")).to_be_focused()
        expect(page.locator("#lr-section-hunt")).to_be_visible()
        for other in ("stage", "after", "audit", "problem", "rollouts"):
            expect(page.locator(f"#lr-section-{other}")).to_be_hidden()
        settled(page)
        expect(page.locator("#lr-hunt-form .lr-hf-code")).to_contain_text("-m explorer hunt --problems bank")
        expect(page.locator("#lr-hunt-form .lr-hf-estimate")).to_contain_text("For 96 prompts")
        expect(page.locator("#lr-hunt").get_by_text("No hunt yet")).to_be_visible()
        assert found_by_axe(page, "#lr-section-hunt") == []
        assert s.sideways(page) <= 0
        page.set_viewport_size({"width": 400, "height": 900})
        page.wait_for_function("document.documentElement.clientWidth === 400")
        assert s.sideways(page) <= 0
        assert found_by_axe(page, "#lr-section-hunt") == []
        assert visitor.errors == []


def test_bad_rows_are_listed_and_left_out_only_when_ticked(visit, server, problems):
    with visit(server, mode="hunt") as visitor:
        page = visitor.page
        settled(page)
        choose(page, problems / "bad.jsonl")
        bad = page.locator("#lr-hunt-form .lr-hf-bad")
        expect(bad).to_contain_text("line 3: it has no answer")
        start = page.locator("#lr-hunt-form .lr-primary")
        expect(start).to_have_attribute("aria-disabled", "true")
        expect(page.locator("#lr-hunt-form .lr-hf-estimate")).to_contain_text("Mend these rows")
        assert found_by_axe(page, "#lr-section-hunt") == []
        page.locator("#lr-hunt-form").get_by_label("Leave these rows out").check()
        settled(page)
        expect(page.locator("#lr-hunt-form .lr-hf-code")).to_contain_text("--skip-bad")
        expect(page.locator("#lr-hunt-form .lr-hf-estimate")).to_contain_text("For 2 prompts")
        page.locator("#lr-hunt-form").get_by_label("N, rollouts per prompt", exact=True).fill("0")
        expect(page.locator("#lr-hunt-form .lr-hf-estimate")).to_contain_text("N, rollouts can't be")
        assert visitor.errors == []


def test_a_hunt_from_start_over_pause_and_kill_to_a_run_on_the_stage(visit, server, problems):
    with visit(server, mode="hunt") as visitor:
        page = visitor.page
        settled(page)
        choose(page, problems / "good.jsonl")
        small(page)
        form = page.locator("#lr-hunt-form")
        form.get_by_label("Hull", exact=True).select_option("plausible")
        form.get_by_label("Words before the answer", exact=True).fill("So: ")
        expect(form.get_by_label("Who draws the rollouts", exact=True).locator("option[value=vllm]")).to_be_disabled()
        expect(form.locator(".lr-hf-code")).to_contain_text("--rollouts 3")
        expect(form.locator(".lr-hf-code")).to_contain_text("--hull plausible")
        expect(form.locator(".lr-hf-code")).to_contain_text("--connector=So: ")
        settled(page)
        page.locator("#lr-hunt-form").get_by_label("N, rollouts per prompt", exact=True).press(
            "Enter"
        )  # the keyboard starts it too
        expect(state(page)).to_contain_text("running")
        expect(form.locator("details.lr-hf")).not_to_have_attribute("open", "")
        folder = s.until(page, lambda: next((server.runs / "hunts").glob("*"), None))
        s.until(page, lambda: len(read_results(folder)) >= 2)  # on the disk: the page looks once a second
        page.locator("#lr-hunt").get_by_role("button", name="Pause").click()
        expect(state(page)).to_contain_text("paused")
        kept = read_results(folder)
        assert 2 <= len(kept) < PROMPTS
        expect(rows(page)).to_have_count(len(kept))
        assert found_by_axe(page, "#lr-section-hunt") == []

        # The page is closed and another one opened: the hunt is there.
        page.reload()
        expect(state(page)).to_contain_text("paused")
        expect(rows(page)).to_have_count(len(kept))
        page.locator("#lr-hunt").get_by_role("button", name="Go on").click()

        # Its process is killed: it says so, shows its last lines, and goes on.
        s.until(page, lambda: len(read_results(folder)) > len(kept))
        (lock,) = (server.runs / "jobs").glob("*hunt*/lock")
        kill_job(lock)
        expect(state(page)).to_contain_text("its process is gone")
        expect(page.locator("#lr-hunt .lr-note").first).to_contain_text("Nothing finished is lost")
        log = page.locator("#lr-hunt .lr-hunt-log")
        expect(log).to_be_visible()
        expect(log).to_contain_text(f" of {PROMPTS}")
        page.locator("#lr-hunt").get_by_role("button", name="Go on").click()
        expect(state(page)).to_contain_text("done")
        expect(rows(page)).to_have_count(PROMPTS)
        expect(page.locator("#lr-hunt-table .lr-hunt-words")).to_contain_text(f"of {PROMPTS} prompts are zero-hit")
        expect(page.locator("#lr-hunt-table .lr-fam-card")).to_have_count(3)
        expect(page.locator("#lr-hunt-table .lr-curve").first).to_have_attribute(
            "aria-label", re.compile("pass@1 .*pass@3")
        )

        _sort_filter_and_find(page)
        _narrow_and_dark(page)
        _open_on_the_stage(page, folder)
        assert visitor.errors == []
        assert visitor.abroad == []


def _sort_filter_and_find(page):
    page.locator("#lr-hunt-table .lr-hunt-sort[data-key=problem]").click()
    expect(rows(page).first).to_contain_text(f"p{PROMPTS - 1:02}")
    expect(page.locator("#lr-hunt-table th[aria-sort=descending]")).to_have_count(1)
    page.locator("#lr-hunt-table .lr-hunt-sort[data-key=problem]").click()
    expect(rows(page).first).to_contain_text("p00")
    zero = page.locator("#lr-hunt-table .lr-segments").get_by_role("button", name=re.compile("^Zero-hit"))
    count = int(re.search(r"\((\d+)\)", zero.text_content())[1])
    zero.click()
    expect(rows(page)).to_have_count(count)
    page.locator("#lr-hunt-table .lr-segments").get_by_role("button", name=re.compile("^All")).click()
    page.locator("#lr-hunt-table").get_by_label("Find").fill("What is 7 +")
    expect(rows(page)).to_have_count(1)
    page.locator("#lr-hunt-table").get_by_label("Find").fill("")


def _narrow_and_dark(page):
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_function("document.documentElement.clientWidth === 400")
    assert s.sideways(page) <= 0
    assert found_by_axe(page, "#lr-section-hunt") == []
    page.evaluate("document.body.classList.add('dark')")
    assert found_by_axe(page, "#lr-section-hunt") == []
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size({"width": 1440, "height": 900})


def _open_on_the_stage(page, folder):
    result = next(one for one in sorted(read_results(folder), key=lambda one: one.problem) if one.revised)
    name = f"{folder.name}.{result.revised[0].run}"
    opener = page.get_by_role("button", name=result.problem, exact=True)
    opener.focus()
    page.keyboard.press("Enter")
    s.wait_for_stage(page, f"p.run_id === {json.dumps(name)}")
    expect(page.get_by_role("radio", name="Watch recorded runs")).to_have_attribute("aria-checked", "true")
    expect(page.locator("#lr-watch .lr-story")).to_contain_text(result.question)
    # The address names it: another visitor sees the same.
    page.wait_for_function(f"() => new URLSearchParams(location.search).get('run') === {json.dumps(name)}")
    page.reload()
    s.wait_for_stage(page, f"p.run_id === {json.dumps(name)}")


def test_an_audit_of_a_hunt_whose_process_is_killed_says_so_and_goes_on(visit, server):
    """Goes on with the hunt of the test before: its runs are what is audited."""
    with visit(server, mode="hunt") as visitor:
        page = visitor.page
        expect(rows(page)).to_have_count(PROMPTS)
        page.get_by_role("button", name="Audit the rescues of this hunt").click()
        expect(state(page)).to_contain_text("Audit: running")
        expect(page.locator("#lr-hunt .lr-hunt-stage")).to_contain_text(re.compile(r"Run \d+ of"))
        locks = sorted((server.runs / "jobs").glob("*audit*/lock"))
        kill_job(locks[-1])
        expect(state(page)).to_contain_text("its process is gone")
        expect(page.locator("#lr-hunt .lr-note").first).to_contain_text("Nothing finished is lost")
        assert found_by_axe(page, "#lr-section-hunt") == []
        page.get_by_role("button", name="Go on with the audit").click()
        expect(page.locator("#lr-hunt-table td[data-column=finding]").first).to_be_visible()
        page.locator("#lr-hunt").get_by_role("button", name="Cancel").click()
        expect(state(page)).to_contain_text("cancelled")
        assert visitor.errors == []


def test_a_hunt_that_can_not_begin_says_why_and_older_ones_can_be_shown_again(visit, server):
    """Goes on with the hunt of the tests before, which is on show when this one is started."""
    with visit(server, mode="hunt") as visitor:
        page = visitor.page
        expect(rows(page)).to_have_count(PROMPTS)
        page.locator("#lr-hunt-form summary").click()
        settled(page)
        page.locator("#lr-hunt-form").get_by_label("Problem set").select_option("datasets:")
        page.locator("#lr-hunt-form").get_by_label("Dataset", exact=True).fill("nobody/nothing")
        expect(page.locator("#lr-hunt-form .lr-hf-code")).to_contain_text("datasets:nobody/nothing")
        settled(page)
        page.get_by_role("button", name="Start the hunt").click()
        expect(page.locator("#lr-hunt-table .lr-hunt-found")).to_be_hidden()
        expect(state(page)).to_contain_text("failed")
        expect(page.locator("#lr-hunt .lr-note").first).to_contain_text("could not be loaded")
        assert found_by_axe(page, "#lr-section-hunt") == []
        shown = page.get_by_label("Show hunt")
        older = shown.locator("option").nth(1).get_attribute("value")
        shown.select_option(older)
        expect(rows(page)).to_have_count(PROMPTS)
        expect(shown).to_have_value(older)
        assert visitor.errors == []


def test_the_audit_of_the_run_on_the_stage(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        s.wait_for_model(page)
        s.sampling(page, 3, 24)
        s.write(page, "What is 3847 × 8296?", "31914712")
        s.sample(page)
        audit = page.locator("#lr-audit")
        expect(audit.get_by_text("Once continuations of revised points are there")).to_be_visible()
        s.number(page, "Steps K", 12)
        s.number(page, "Continuations n", 8)
        s.player(page, "toggle").click()
        s.wait_for_stage(page, "p.status === 'completed' && p.steps.length === 12")
        s.rest(page)
        page.locator("#lr-continue").click()
        button = audit.get_by_role("button", name=re.compile("run all 8 controls"))
        expect(button).to_be_visible()
        s.rest(page)
        assert found_by_axe(page, "#lr-section-audit") == []
        button.click()
        expect(page.locator("#lr-audit .lr-aud-progress")).to_contain_text(re.compile(r"Control \d of 8"))
        expect(page.locator("#lr-audit tr[data-arm=fresh] .lr-aud-count")).to_contain_text(
            re.compile(r"\d+ of \d+ right")
        )
        # Only where it is shown: an audit may be over by now.
        cancel = audit.get_by_role("button", name="Cancel", include_hidden=True)
        cancel.evaluate("(button) => { if (!button.hidden) button.click(); }")
        s.rest(page)
        # Stopped in the middle, or so late that nothing was left to stop.
        more = audit.get_by_role("button", name=re.compile("missing control|Measure"))
        complete = audit.get_by_text("All controls were run")
        expect(more.or_(complete).first).to_be_visible()
        if more.count():
            expect(audit.get_by_text("finished controls are kept")).to_be_visible()
            more.click()
        expect(complete).to_be_visible()
        s.rest(page)
        expect(page.locator("#lr-audit .lr-aud-finding")).to_contain_text("Not rescued")
        expect(page.locator("#lr-audit .lr-aud-leaks")).to_contain_text("Weight on the answer")
        trace, _ = load_run(server.runs / s.payload(page)["run_id"])
        assert len(trace.controls) == 8
        assert found_by_axe(page, "#lr-section-audit") == []
        page.set_viewport_size({"width": 400, "height": 900})
        page.wait_for_function("document.documentElement.clientWidth === 400")
        assert s.sideways(page) <= 0
        assert found_by_axe(page, "#lr-section-audit") == []
        assert visitor.errors == []


def test_a_success_curve_and_a_decoy_of_the_run_on_the_stage(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        s.wait_for_model(page)
        s.sampling(page, 3, 24)
        s.write(page, "What is 3847 × 8296?", "31914712")
        s.sample(page)
        s.number(page, "Steps K", 3)
        s.number(page, "Continuations n", 2)
        s.player(page, "toggle").click()
        run = s.wait_for_stage(page, "p.status === 'completed' && p.steps.length === 3")["run_id"]
        s.rest(page)
        curve = page.locator("#lr-success")
        curve.get_by_role("button", name="Sample a success curve").click()
        expect(curve.get_by_role("button", name="Sample the curve anew")).to_be_visible()
        s.rest(page)
        points = curve.locator(".lr-suc-point")
        expect(points).to_have_count(4)
        for step in range(4):
            expect(points.nth(step)).to_have_attribute("aria-label", re.compile(rf"^Step {step}\b.*: \d of 2 correct"))
        points.nth(1).click()
        s.wait_for_stage(page, "j === 1")
        s.player(page, "last").click()
        s.wait_for_stage(page, "j === 3")

        page.get_by_label("Decoy: a wrong answer").fill("17")
        s.press(page, page.locator("#lr-decoy"))
        decoy = page.locator("#lr-audit tr[data-arm=decoy] .lr-aud-count")
        expect(decoy).to_contain_text(re.compile(r"\d of 2 reach it"))
        s.rest(page)
        trace, _ = load_run(server.runs / run)
        assert [(control.kind, control.target, len(control.continuations)) for control in trace.controls] == [
            ("decoy", "17", 2)
        ]
        assert {item.step for item in trace.after} == {0, 1, 2, 3}
        assert visitor.errors == []


def test_a_recorded_run_shows_the_controls_that_it_carries(visit, server):
    run = next(one for one in recorded_runs() if any(control.kind == "decoy" for control in one.trace.controls))
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        page.goto(f"{server.url}?run={run.id}")
        s.wait_for_stage(page, f"p.run_id === {json.dumps(run.id)}")
        decoy = page.locator("#lr-audit tr[data-arm=decoy]")
        expect(decoy.locator(".lr-aud-count")).to_contain_text("reach it")
        expect(page.locator("#lr-audit tr[data-arm=fresh] .lr-aud-count")).to_contain_text("not run yet")
        # Another model is loaded here: the button says why it can't.
        expect(page.locator("#lr-audit")).to_contain_text("load it under “Run it yourself”")
        assert visitor.errors == []


def test_with_other_weights_a_recorded_run_runs_live_all_the_same_and_says_so(visit, server):
    run = recorded_runs()[0]
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        page.goto(f"{server.url}?run={run.id}")
        s.wait_for_stage(page, f"p.run_id === {json.dumps(run.id)}")
        s.wait_for_model(page)
        expect(page.locator("#lr-watch .lr-story")).to_contain_text("with other weights something else will come out")
        page.get_by_role("button", name="Run it live").click()
        s.wait_for_stage(page, f"p.live && p.run_id !== {json.dumps(run.id)} && p.status === 'completed'")
        expect(page.locator("body")).to_contain_text("it came out otherwise than recorded: another model ran it")
        assert visitor.errors == []


def test_a_public_page_starts_no_hunt_and_keeps_the_command_in_sight(visit, tmp_path):
    with (
        serving(tmp_path, "--model", str(tmp_path), LATENTREVISE_PUBLIC="1", LATENTREVISE_OFFLINE="1") as server,
        visit(server, mode="hunt") as visitor,
    ):
        form = visitor.page.locator("#lr-hunt-form")
        expect(form.locator(".lr-hf-code")).to_contain_text("-m explorer hunt")
        expect(form.locator(".lr-hf-estimate")).to_contain_text("on a machine of your own")
        start = form.get_by_role("button", name="Start the hunt")
        expect(start).to_have_attribute("aria-disabled", "true")
        start.click(force=True)
        expect(form.locator(".lr-hf-code")).to_be_visible()
        for kind in ("hunts", "jobs"):
            assert list((server.runs / kind).glob("*")) == []
