"""A person is faster than the app: what is asked while an answer is on its way, refused, or waited for. Of two requests
the first is held back here, so that they arrive in the other order.

Waiting is always for a state.
"""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, Route, expect

from . import screen as s
from .conftest import save_tiny, serving

pytestmark = pytest.mark.browser

STEPS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("between-server")
    environment = {"LATENTREVISE_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with serving(folder, "--model", str(tiny_folder), **environment) as running:
        yield running


class Held:
    """Of the requests whose body has `text` the first waits until it is let go; none does before `begin`."""

    def __init__(self, page: Page, text: str):
        self.page, self.text = page, text
        self.route: Route | None = None
        page.route("**/run/predict*", self._pass_on)

    def _pass_on(self, route: Route) -> None:
        if self.route is None and self.text in (route.request.post_data or ""):
            self.route = route
        else:
            route.continue_()

    def asked(self):
        """A context that waits for such a request to leave the page."""
        return self.page.expect_request(lambda request: self.text in (request.post_data or ""))

    def answered(self):
        """A context that waits for the answer to one."""
        return self.page.expect_response(lambda response: self.text in (response.request.post_data or ""))

    def let_go(self) -> None:
        """Send it, and wait for its answer."""
        with self.answered():
            self.route.continue_()


def revised(page: Page) -> dict:
    """Rollouts and all planned steps."""
    s.wait_for_model(page)
    s.write(page, "What is 3847 × 8296?", "31914712")
    s.sampling(page, 3, 24)
    s.sample(page)
    s.number(page, "Steps K", STEPS)
    s.number(page, "Continuations n", 2)
    s.player(page, "toggle").click()
    stage = s.wait_for_stage(page, f"p.status === 'completed' && p.steps.length === {STEPS} && j === {STEPS}")
    s.rest(page)
    return stage


def continue_(page: Page, says: str) -> None:
    page.locator("#lr-continue").click()
    expect(page.locator("#lr-compare")).to_contain_text(says)
    s.rest(page)


def focused(page: Page, name: str) -> bool:
    return s.player(page, name).evaluate("node => document.activeElement === node")


def test_continuing_is_from_the_step_on_screen_however_late_the_app_hears_of_it(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        revised(page)
        with page.expect_response(lambda answer: '"point":0' in (answer.request.post_data or "")):
            s.player(page, "first").click()
        held = Held(page, '"point":')
        with held.asked():
            s.player(page, "step").click()
        with held.answered():
            s.player(page, "step").click()
        held.let_go()
        s.wait_for_stage(page, "j === 2")
        continue_(page, f"Continued from step 2 of {STEPS}")
        # In one go, and what the page says by itself of where it is comes later still.
        held = Held(page, '"point":3')
        page.evaluate(f"() => {{ ({s.STAGE}).setPoint(3); document.querySelector('#lr-continue').click(); }}")
        expect(page.locator("#lr-compare")).to_contain_text(f"Continued from step 3 of {STEPS}")
        held.let_go()
        s.rest(page)
        assert visitor.errors == []


def test_of_two_cuts_the_newest_counts_whichever_arrives_first(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        revised(page)
        token = page.locator("#lr-rollouts .lr-split-flow [data-i]")
        held = Held(page, '"rollout":')
        with held.asked():
            token.nth(5).click()
        with held.answered():
            token.nth(8).click()
        s.wait_for_stage(page, "p.prefix.length === 8")
        held.let_go()
        with held.answered():  # what the first came to would be on the screen before this is
            token.nth(9).click()
        s.wait_for_stage(page, "p.prefix.length === 9")
        expect(page.locator("#lr-rollouts .lr-split-handle")).to_have_attribute("aria-valuenow", "9")
        expect(s.notice(page, "revision")).to_be_hidden()
        assert visitor.errors == []


def test_a_run_that_is_taken_up_stays_at_the_readers_step(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        run = revised(page)["run_id"]
        page.goto(f"{server.url}?run={run}")
        s.wait_for_model(page)
        s.wait_for_stage(page, f"p.run_id === {json.dumps(run)} && p.live && j === {STEPS}")
        page.locator("#lr-stage input[type=range]").fill("1")
        with page.expect_response(lambda answer: '"point":2' in (answer.request.post_data or "")):
            s.player(page, "step").click()
        page.evaluate(f"({s.STAGE}).select(3)")
        continue_(page, f"Continued from step 2 of {STEPS}")
        s.wait_for_stage(page, f"p.run_id !== {json.dumps(run)} && j === 2")
        assert page.evaluate(f"({s.STAGE}).stage.selected") == 3
        # Once more from there; how many says which time it was.
        s.number(page, "Continuations n", 3)
        continue_(page, "of 3 correct")
        expect(page.locator("#lr-compare")).to_contain_text(f"Continued from step 2 of {STEPS}")
        assert visitor.errors == []


def test_the_player_keeps_the_keyboards_focus(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        revised(page)
        s.player(page, "step").focus()
        page.keyboard.press("Enter")
        s.wait_for_stage(page, f"p.status === 'completed' && p.steps.length === {STEPS + 1}")
        s.rest(page)
        assert focused(page, "step")
        page.locator("#lr-stage input[type=range]").fill("1")
        s.player(page, "back").focus()
        page.keyboard.press("Enter")
        s.wait_for_stage(page, "j === 0")
        assert focused(page, "back")
        expect(s.player(page, "back")).to_have_attribute("aria-disabled", "true")
        page.keyboard.press("Space")
        assert (s.point(page), focused(page, "back")) == (0, True)
        assert visitor.errors == []


def test_what_is_refused_while_a_fit_runs_can_be_asked_again_and_the_fit_be_cancelled(visit, server):
    with visit(server) as visitor:
        page = visitor.page
        revised(page)
        continue_(page, f"Continued from step {STEPS} of {STEPS}")
        cancel = page.locator("#lr-cancel-after")
        fit = page.locator("#lr-stage").get_by_role("radio", name=re.compile("UMAP"))
        fit.click()
        expect(cancel).to_be_enabled()
        audit = page.locator("#lr-audit .lr-primary")
        audit.click()
        expect(s.notice(page, "audit")).to_contain_text("still running")
        expect(audit).not_to_have_attribute("aria-disabled", "true")
        rival = page.locator("#lr-duel select")
        rival.select_option(index=1)
        expect(s.notice(page, "revision")).to_contain_text("still running")
        expect(rival).to_have_value("")
        # Who only watches finds the way out too, and nothing else of the making.
        page.get_by_role("radio", name=re.compile("Watch")).click()
        expect(cancel).to_be_visible()
        expect(page.locator("#lr-continue")).to_be_hidden()
        cancel.click()
        expect(cancel).to_be_hidden()
        s.wait_for_stage(page, "p.joint === null")
        expect(fit).to_have_text("As UMAP sees it · fit")
        rival.select_option(index=1)
        expect(rival).not_to_have_value("")
        assert visitor.errors == []


def test_every_view_hears_of_another_model(visit, server, tmp_path_factory):
    other = tmp_path_factory.mktemp("models") / "other"
    save_tiny(other, layers=2)
    with visit(server) as visitor:
        page = visitor.page
        run = revised(page)["run_id"]
        page.goto(f"{server.url}?run={run}")
        s.wait_for_model(page)
        s.wait_for_stage(page, f"p.run_id === {json.dumps(run)} && p.live")
        curve = page.locator("#lr-success").get_by_role("button", name=re.compile("curve"))
        own = page.locator(".lr-head-name").text_content()
        page.locator("#lr-model").get_by_text("Use another model").click()
        for folder, locked in ((str(other), True), (own, False)):
            page.get_by_label("Hub id or local folder").fill(folder)
            page.locator("#lr-model").get_by_role("button", name="Load", exact=True).click()
            s.wait_for_stage(page, f"p.live === {json.dumps(not locked)}")
            expect(page.locator("#lr-success .lr-suc-actions")).to_contain_text(
                "load it under" if locked else "From each of up to 6 steps"
            )
        expect(curve).not_to_have_attribute("aria-disabled", "true")


@pytest.mark.parametrize(("mode", "field"), [("hunt", "Random seed"), ("train", "Updates")])
def test_the_form_takes_the_plan_of_what_stands_in_it(visit, server, mode, field):
    option = field.split()[-1].lower()
    with visit(server, mode=mode) as visitor:
        page = visitor.page
        form = page.locator(f"#lr-{mode}-form")
        expect(form.locator(".lr-hf-estimate")).not_to_be_empty()
        held = Held(page, '"ticket":')
        with held.asked():
            form.get_by_label(field, exact=True).fill("17")
        with held.answered():
            form.get_by_label(field, exact=True).fill("23")
        command = form.locator(".lr-hf-code")
        expect(command).to_contain_text(f"--{option} 23")
        held.let_go()
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert f"--{option} 23" in command.text_content()
        assert f"--{option} 17" not in command.text_content()
        # It was closed and comes up again: what could be started then is looked at anew.
        form.locator("summary").first.click()
        with held.answered():
            form.locator("summary").first.click()
        assert visitor.errors == []
