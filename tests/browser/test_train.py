"""The training's screen as a person uses it: a tiny random model and runs of it, real processes, a real browser.

Waiting is always for a state.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from explorer.training.folder import read_lines
from tests.tiny_training import saved_runs

from . import screen as s
from .conftest import kill_job, serving
from .test_hunt import found_by_axe

pytestmark = pytest.mark.browser

UPDATES = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("train-server")
    saved_runs(tiny_folder, folder / "runs", hits=0)
    with serving(
        folder,
        "--model",
        str(tiny_folder),
        "--device",
        "cpu",
        LATENTREVISE_CACHE_DIR=str(folder / "cache"),
        LATENTREVISE_OFFLINE="1",
        HF_HUB_OFFLINE="1",
        OMP_NUM_THREADS="1",
    ) as running:
        yield running


def form(page):
    return page.locator("#lr-train-form")


def state(page):
    return page.locator("#lr-train .lr-hunt-state")


def button(page, name):
    return page.locator("#lr-train").get_by_role("button", name=name, exact=True)


def settled(page):
    """Until the form's plan is of what stands in it, and the model is there."""
    expect(form(page).locator(".lr-primary")).not_to_have_attribute("aria-disabled", "true")
    expect(form(page).locator(".lr-tf-facts")).to_contain_text("Memory")


def narrow(page):
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_function("document.documentElement.clientWidth === 400")
    assert s.sideways(page) <= 0


def updates(metrics):
    return len(read_lines(metrics)) if metrics.exists() else 0


def fill(page, **values):
    for label, value in values.items():
        form(page).get_by_label(label.replace("_", " "), exact=True).fill(str(value))


def test_the_fourth_mode_says_what_a_training_would_be_and_is_operable_by_keyboard(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        expect(page.locator("#lr-section-train")).to_be_hidden()
        page.get_by_role("radio", name="Watch recorded runs").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("radio", name="Train", exact=True)).to_be_focused()
        expect(page.locator("#lr-section-train")).to_be_visible()
        for other in ("stage", "after", "audit", "problem", "rollouts", "hunt"):
            expect(page.locator(f"#lr-section-{other}")).to_be_hidden()
        settled(page)
        expect(form(page).locator(".lr-tf-count")).to_contain_text(
            re.compile(r"\d+ of \d+ verified texts, of 3 problems")
        )
        expect(form(page).locator(".lr-hf-code")).to_contain_text("-m explorer train sft --out")
        expect(page.locator("#lr-train").get_by_text("No training yet")).to_be_visible()
        page.get_by_text(re.compile("^See ")).click()
        expect(form(page).locator(".lr-tf-sample")).to_contain_text("Rescued: What is")
        assert found_by_axe(page, "#lr-section-train") == []
        # The method is a group of radio buttons: arrows choose.
        form(page).get_by_role("radio", name="SFT").focus()
        page.keyboard.press("ArrowRight")
        expect(form(page).locator(".lr-hf-code")).to_contain_text("train grpo")
        narrow(page)
        assert found_by_axe(page, "#lr-section-train") == []
        page.evaluate("document.body.classList.add('dark')")
        assert found_by_axe(page, "#lr-section-train") == []
        assert visitor.errors == []
        assert visitor.abroad == []


def test_one_group_without_and_with_the_rescued_trace_and_the_weight_of_its_tokens(visit, server):
    with visit(server, mode="train") as visitor:
        page = visitor.page
        settled(page)
        form(page).get_by_role("radio", name="GRPO").check(force=True)
        group = form(page).locator(".lr-tg")
        expect(group).to_contain_text("nothing moves")
        expect(group.locator(".lr-tg-cell[data-rescued=true]")).to_have_count(1)
        group.get_by_role("button", name="Weigh its tokens").click()
        tokens = group.locator(".lr-tg-token")
        expect(tokens.first).to_be_visible()
        tokens.first.focus()
        page.keyboard.press("ArrowRight")
        expect(group.locator(".lr-tg-said")).to_contain_text(re.compile(r"Token 2 of \d+ .*p / \(p \+ c\)"))
        assert found_by_axe(page, "#lr-section-train") == []
        # Another c weighs anew without another pass.
        fill(page, c_of_its_weight=0.5)
        expect(group).to_contain_text("with c = 0.5")
        assert visitor.errors == []


def test_what_cannot_begin_says_why(visit, server):
    with visit(server, mode="train") as visitor:
        page = visitor.page
        settled(page)
        reason = form(page).locator(".lr-hf-estimate")
        fill(page, **{"At most … tokens": 1})
        expect(reason).to_contain_text("No trace is left of")
        expect(form(page).locator(".lr-primary")).to_have_attribute("aria-disabled", "true")
        assert found_by_axe(page, "#lr-section-train") == []
        fill(page, **{"At most … tokens": ""}, Updates=0)
        expect(reason).to_contain_text("Updates can't be")
        fill(page, Updates=9)
        settled(page)
        form(page).get_by_label(re.compile("^Recorded runs")).check()
        expect(form(page)).to_contain_text("made by another model")
        assert visitor.errors == []


def test_a_training_from_start_over_stop_and_kill_to_the_loaded_model(visit, server):
    with visit(server, mode="train") as visitor:
        page = visitor.page
        settled(page)
        fill(page, Updates=UPDATES, Longest_completion=12, How_many=2, Looked_at_every=20, Name="mine")
        expect(form(page).locator(".lr-hf-code")).to_contain_text("--max-new-tokens 12")
        settled(page)
        form(page).get_by_label("Name", exact=True).press("Enter")  # the keyboard starts it too
        expect(state(page)).to_contain_text("running")
        metrics = server.runs / "trainings" / "mine" / "metrics.jsonl"
        s.until(page, lambda: updates(metrics))  # on the disk: the page looks once a second
        button(page, "Stop").click()
        expect(state(page)).to_contain_text("stopped")
        chart = page.locator("#lr-train-curves .lr-tc[aria-label^='Loss']")
        expect(chart).to_be_visible()
        kept = updates(metrics)
        assert 0 < kept < UPDATES
        assert found_by_axe(page, "#lr-section-train") == []

        # The page is closed and another one opened: the training is there. Killed, it says so and shows its last lines.
        page.reload()
        expect(state(page)).to_contain_text("stopped")
        button(page, "Go on").click()
        s.until(page, lambda: updates(metrics) > kept)
        (lock,) = (server.runs / "jobs").glob("*train*/lock")
        kill_job(lock)
        expect(state(page)).to_contain_text("its process is gone")
        expect(page.locator("#lr-train .lr-note").first).to_contain_text("last whole checkpoint")
        log = page.locator("#lr-train .lr-hunt-log")
        expect(log).to_be_visible()
        expect(log).to_contain_text("Update")
        expect(page.locator("#lr-train .lr-progress")).to_contain_text(re.compile(rf"\d+ of {UPDATES} updates"))
        assert found_by_axe(page, "#lr-section-train") == []
        button(page, "Go on").click()
        expect(state(page)).to_contain_text("done")
        expect(page.locator("#lr-train .lr-ta-sides").first).to_contain_text("of 2, one rollout each")

        _cursor(page, chart)
        narrow(page)
        assert found_by_axe(page, "#lr-section-train") == []
        page.set_viewport_size({"width": 1440, "height": 900})

        _evaluate(page)
        button(page, "Load the trained model").click()
        expect(page.locator(".lr-head-model")).to_contain_text(re.compile("mine.*trained from tiny"))
        s.wait_for_model(page)
        expect(page.locator("#lr-train .lr-ta-load")).to_contain_text("The page has the trained model")
        button(page, "Run it yourself").click()
        s.sampling(page, 2, 8)
        s.write(page, "What is 3 + 4?", "7")
        s.sample(page)
        assert visitor.errors == []
        assert visitor.abroad == []


def _evaluate(page):
    """Both sides, one after the other; they stand beside each other then."""
    after = page.locator("#lr-train .lr-ta")
    after.get_by_label("Problem set").select_option("sum")
    after.get_by_label("N, rollouts of each").fill("2")
    after.get_by_label("Only the first …").fill("2")
    for side in ("the parent", "the trained model"):
        expect(button(page, f"Evaluate {side}")).not_to_have_attribute("aria-disabled", "true")
        button(page, f"Evaluate {side}").click()
        expect(after.locator(".lr-ta-job")).to_contain_text(f"Evaluation of {side}: running")
        expect(after.locator(".lr-ta-job")).to_be_hidden()
    expect(after.locator("article")).to_have_count(2)
    expect(after.locator("article").last).to_contain_text("of 2 problems hit at least once")
    expect(after).to_contain_text("over 2 problems never trained on")
    assert found_by_axe(page, "#lr-section-train") == []


def _cursor(page, chart):
    """One cursor over all curves, by keyboard."""
    chart.focus()
    page.keyboard.press("Home")
    expect(page.locator("#lr-train-curves .lr-tc-now").nth(1)).to_contain_text("at update 1")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lr-train-curves .lr-tc-now").nth(1)).to_contain_text("at update 2")
    chart.blur()
    expect(page.locator("#lr-train-curves .lr-tc-now").nth(1)).to_contain_text(f"at update {UPDATES}")
