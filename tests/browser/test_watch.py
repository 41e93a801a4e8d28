"""A visitor without patience: recorded runs, links, two runs side by side, a run dropped on the page, the tour.

No model is needed for any of it, so the server of these tests has one that never arrives.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from explorer.recorded import recorded_runs
from explorer.store import zip_run
from explorer.ui.web import FAVICON

from . import screen as s
from .conftest import PATIENCE_MS, serving

pytestmark = pytest.mark.browser

RUNS = recorded_runs()
MOVING = f"() => {{ const l = {s.STAGE}; return Boolean(l && l.stage.payload && l.stage.shown > 0); }}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """No model at all: a folder that is none. Recorded runs must not care."""
    folder = tmp_path_factory.mktemp("watch-server")
    (folder / "empty").mkdir()
    with serving(folder, "--model", str(folder / "empty")) as running:
        yield running


def at(server, run="", **more):
    """The address of a place in a run."""
    query = "&".join(f"{key}={value}" for key, value in {"run": run, **more}.items() if value != "")
    return server.url + (f"?{query}" if query else "")


def cards(page):
    return page.locator("#lr-watch .lr-run")


def shows(page, run_id):
    s.wait_for_stage(page, f"p.run_id === {json.dumps(run_id)}")


def at_rest(page):
    page.wait_for_function(f"() => {{ const l = {s.STAGE}.stage; return !l.playing && !l.tween && !l.greeting; }}")


def test_a_recorded_run_plays_at_once_and_says_that_it_is_recorded(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        page.wait_for_function(MOVING)
        expect(page.locator("#lr-stage .lr-s-status")).to_contain_text("Recorded run")
        expect(page.locator("#lr-watch .lr-story")).to_contain_text("Recorded")
        expect(cards(page)).to_have_count(len(RUNS))
        first = RUNS[0].trace
        expect(page.locator("#lr-watch .lr-story")).to_contain_text(first.problem.question)
        payload = s.payload(page)
        assert [step["vertices"] for step in payload["steps"]] == [list(step.vertices) for step in first.steps]
        # Outcomes are counted, not written: every arm of the comparison is on the page.
        expect(page.locator("#lr-compare")).to_contain_text("Unrevised prefix")
        assert visitor.abroad == []
        assert visitor.errors == []


def test_a_browser_without_idle_callbacks_shows_every_view(chromium, server):
    """Safari is one."""
    context = chromium.new_context()
    try:
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script("delete window.requestIdleCallback")
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#lr-rollouts .lr-card").first).to_be_attached()
        expect(page.locator("#lr-compare")).to_contain_text("Unrevised prefix")
    finally:
        context.close()


def test_every_recorded_run_opens_from_its_card(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        for run in RUNS[1:]:
            cards(page).filter(has=page.locator(".lr-run-title", has_text=run.title)).click()
            shows(page, run.id)
            expect(page.locator("#lr-watch .lr-run[aria-current]")).to_contain_text(run.title)
            expect(page.locator("#lr-watch .lr-story")).to_contain_text(run.trace.problem.question)
        assert visitor.errors == []


def test_of_two_quick_clicks_in_the_gallery_the_second_counts(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        cards(page).evaluate_all("(all) => [1, 2, 3].forEach((i) => all[i].click())")
        shows(page, RUNS[3].id)
        expect(cards(page).nth(3)).to_have_attribute("aria-current", "true")


def test_the_keyboard_plays_steps_and_jumps(visit, server):
    with visit(server, mode="watch", reduced_motion="reduce") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        last = len(RUNS[0].trace.steps)
        page.locator("#lr-stage .lr-s-map-surface").focus()
        for key, where in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", last)):
            page.keyboard.press(key)
            page.wait_for_function(f"() => {s.STAGE}.point() === {where}")
        page.keyboard.press("Home")
        page.keyboard.press(" ")
        page.wait_for_function(f"() => {s.STAGE}.point() === {last}")


def test_a_link_shows_the_same_run_step_and_position(visit, server):
    other = RUNS[1]
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        page.goto(at(server, other.id, step=4, position=3, __theme="dark"))
        shows(page, other.id)
        page.wait_for_function(f"() => {s.STAGE}.point() === 4 && {s.STAGE}.stage.selected === 2")
        expect(page.locator("#lr-stage .lr-s-readout")).to_contain_text("Position 3 of")
        # The address follows what is looked at, and keeps what is not ours.
        s.player(page, "step").click()
        page.wait_for_function("() => new URLSearchParams(location.search).get('step') === '5'")
        address = page.url
        assert f"run={other.id}" in address
        assert "__theme=dark" in address
        page.goto(address)
        shows(page, other.id)
        page.wait_for_function(f"() => {s.STAGE}.point() === 5 && {s.STAGE}.stage.selected === 2")


@pytest.mark.parametrize("asked", [{"run": RUNS[1].id}, {"tour": 1}])
def test_a_link_beats_the_mode_of_before_and_a_reload_does_not(visit, server, asked):
    with visit(server, mode="hunt") as visitor:
        page = visitor.page
        body = page.locator("body")
        expect(body).to_have_attribute("data-lr-mode", "hunt")
        page.goto(at(server, **asked))
        expect(body).to_have_attribute("data-lr-mode", "watch")
        expect(page.locator("#lr-stage .lr-s-status" if "run" in asked else ".lr-tour-count")).to_be_visible()
        page.reload()
        expect(body).to_have_attribute("data-lr-mode", "hunt")


def test_the_address_follows_a_scrub_and_fetches_neither_page_nor_icon(visit, server):
    with visit(server, mode="watch", reduced_motion="reduce") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        # Plotly's clips may name the page's address, which then is another one.
        page.locator("#lr-stage .lr-s-curves").scroll_into_view_if_needed()
        page.wait_for_selector("#lr-stage .lr-s-plot .main-svg")
        # Playwright's own events leave icons out. An icon out of the browser's cache is none of the server's business.
        answered = []
        log = page.context.new_cdp_session(page)
        log.on("Network.responseReceived", lambda event: answered.append(event["response"]))
        log.send("Network.enable")
        for step in range(1, 5):
            page.evaluate(f"(j) => {s.STAGE}.setPoint(j)", step)
            page.wait_for_function(f"() => new URLSearchParams(location.search).get('step') === '{step}'")
            page.wait_for_timeout(300)  # an icon is asked for a moment after the address changed
        page.evaluate("document.body.classList.toggle('dark')")  # draws the curves again
        page.wait_for_timeout(500)
        sent = [urlsplit(one["url"]).path for one in answered if not one["fromDiskCache"]]
        assert not [path for path in sent if path == "/" or "favicon" in path], sent
        # Whoever asks by the old name gets the same picture.
        answer = page.request.get(server.url + "favicon.ico")
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.body() == FAVICON.read_bytes()


def test_the_curves_come_back_after_a_fetch_that_failed(visit, server):
    with visit(server, mode="watch", reduced_motion="reduce") as visitor:
        page = visitor.page
        page.route("**/plotly.min.js", lambda route: route.abort())
        page.goto(at(server, RUNS[0].id, step=1))
        shows(page, RUNS[0].id)
        curves = page.locator("#lr-stage .lr-s-curves")
        curves.scroll_into_view_if_needed()
        expect(curves).to_contain_text("The plotting library could not be loaded")
        page.unroute("**/plotly.min.js")
        s.player(page, "step").click()
        expect(curves.locator(".lr-s-plot .main-svg").first).to_be_visible()
        expect(curves.locator(".lr-s-curve-table")).to_be_hidden()


def test_the_vocabulary_comes_back_when_the_browser_gives_its_graphics_back(visit, server):
    with visit(server, mode="watch", reduced_motion="reduce") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        cloud = f"({s.STAGE}).stage.map.cloud"
        page.wait_for_function(f"() => {cloud}.uploaded || ({cloud}.kind === '2d' && {cloud}.coords)")
        if page.evaluate(f"{cloud}.kind") == "2d":
            return  # no WebGL in this browser, so nothing to lose
        page.evaluate(f"window.loser = {cloud}.gl.getExtension('WEBGL_lose_context')")
        page.evaluate("loser.loseContext()")
        page.wait_for_function(f"() => {cloud}.gl.isContextLost()")
        page.evaluate("loser.restoreContext()")
        page.wait_for_function(f"() => {cloud}.uploaded && {cloud}.gl.isBuffer({cloud}.buffer)")
        assert visitor.errors == []


def test_a_link_to_a_run_that_is_not_here_says_so_and_shows_another(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        page.goto(at(server, "20990101-000000-nothing-abcdef"))
        expect(s.notice(page, "watch")).to_contain_text("There is no run")
        shows(page, RUNS[0].id)


def test_two_runs_side_by_side_in_lockstep(visit, server):
    pair = [run for run in RUNS if run.trace.problem.id == RUNS[0].trace.problem.id]
    assert len(pair) > 1, "two recorded runs of one problem are there to be compared"
    with visit(server, mode="watch", reduced_motion="reduce") as visitor:
        page = visitor.page
        shows(page, pair[0].id)
        page.locator("#lr-duel select").first.select_option(pair[1].id)
        rival = s.STAGE.replace("[data-view=stage]", "#lr-stage-b [data-view=stage]")
        page.wait_for_function(f"() => {rival}?.stage.payload?.run_id === {json.dumps(pair[1].id)}")
        page.evaluate(f"({s.STAGE}).setPoint(3)")
        page.wait_for_function(f"() => {rival}.point() === 3")
        page.evaluate(f"({s.STAGE}).select(1)")
        page.wait_for_function(f"() => {rival}.stage.selected === 1")
        a, b = (page.locator(f"#{name} .lr-s-map").bounding_box() for name in ("lr-stage", "lr-stage-b"))
        assert a["x"] + a["width"] <= b["x"], "side by side"
        assert abs(a["y"] - b["y"]) < 2
        expect(page.locator("#lr-duel")).to_contain_text("What differs: ")
        together = page.get_by_label("Move maps together")
        expect(together).to_be_checked()
        # Drawn by the browser: Gradio's own tick is white on white here.
        assert together.evaluate("e => [getComputedStyle(e).appearance, getComputedStyle(e).backgroundImage]") == [
            "auto",
            "none",
        ]
        page.locator("#lr-duel").get_by_role("button", name=re.compile("Close|End")).click()
        expect(page.locator("#lr-stage-b .lr-s-map")).to_be_hidden()
        assert visitor.errors == []


def test_a_run_dropped_on_the_page_opens(visit, server, tmp_path):
    run = RUNS[-1]
    archive = zip_run(run.folder, {"README.txt": b"x"}, tmp_path / "a-run.zip")
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        drag = page.context.new_cdp_session(page)
        data = {"items": [], "files": [str(archive)], "dragOperationsMask": 1}
        for patience in (40_000, 120_000):  # once in six runs beside other work a drop left no trace at all: LOG
            for kind in ("dragEnter", "dragOver", "drop"):
                drag.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
            with contextlib.suppress(AssertionError):
                expect(s.notice(page, "watch")).to_contain_text("The run is open", timeout=patience)
                break
        expect(s.notice(page, "watch")).to_contain_text("The run is open", timeout=1_000)
        payload = s.wait_for_stage(page, f"!{json.dumps([one.id for one in RUNS])}.includes(p.run_id)")
        assert [step["gap"] for step in payload["steps"]] == pytest.approx([x.gap for x in run.trace.steps], rel=1e-5)
        assert len(server.folders()) >= 1


def test_what_is_brought_is_to_be_seen_until_it_is_read(visit, server, tmp_path):
    archive = zip_run(RUNS[-1].folder, {}, tmp_path / "large-run.zip")
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        box = page.locator("#lr-open-file")
        expect(box).to_be_hidden()
        uploads, asked = [], []
        page.route("**/upload?*", lambda route: uploads.append(route))
        page.route("**/run/predict*", lambda route: route.continue_() if asked is None else asked.append(route))
        with page.expect_request("**/upload?*"):
            box.locator("input[type=file]").set_input_files(archive)
        expect(box).to_contain_text("Uploading")
        expect(box).to_contain_text("large-run.zip")
        expect(box).to_be_visible()
        uploads[0].continue_()
        expect(box).to_contain_text("KB")  # on its way through Python
        expect(box).to_be_visible()
        held, asked = asked, None  # what is asked from now on passes
        for route in held:
            route.continue_()
        expect(s.notice(page, "watch")).to_contain_text("The run is open")
        expect(box).to_be_hidden()


def test_what_is_no_run_is_refused_in_a_sentence(visit, server, tmp_path):
    (tmp_path / "trace.json").write_text('{"schema_version": 1, "problem": "<img src=x onerror=alert(1)>"}')
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        page.locator("#lr-open-file input[type=file]").set_input_files(tmp_path / "trace.json")
        expect(s.notice(page, "watch")).to_contain_text("damaged")
        assert "Traceback" not in page.inner_text("body")
        shows(page, RUNS[0].id)


def test_without_any_model_a_run_says_why_it_cannot_run_live(visit, server):
    with visit(server, mode="watch") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        expect(page.locator("#lr-watch .lr-story")).to_contain_text("load it under")
        expect(page.get_by_role("button", name="Run it live")).to_have_attribute("aria-disabled", "true")


def test_a_model_that_failed_is_tried_again(visit, tmp_path, tiny_folder):
    """Until its folder is there; by “Load” with an empty box."""
    with serving(tmp_path, "--model", str(tmp_path / "late")) as server, visit(server) as visitor:
        page = visitor.page
        head = page.locator(".lr-head-model")
        expect(head).to_contain_text("tries again")
        shutil.copytree(tiny_folder, tmp_path / "late")
        page.get_by_role("button", name="Use another model").click()
        page.get_by_role("button", name="Load", exact=True).click()
        s.wait_for_model(page)
        expect(head).not_to_contain_text("tries again")


def test_the_tour_is_left_and_taken_up_again(visit, server):
    with visit(server, mode="watch", reduced_motion="reduce") as visitor:
        page = visitor.page
        shows(page, RUNS[0].id)
        page.get_by_role("button", name=re.compile("Take the tour")).click()
        card = page.get_by_role("dialog")
        expect(card).to_be_visible()
        seen = [card.inner_text()]
        for _ in range(4):
            card.get_by_role("button", name=re.compile("Next")).click()
            page.wait_for_function("(old) => document.querySelector('[role=dialog]').innerText !== old", arg=seen[-1])
            seen.append(card.inner_text())
        assert len(set(seen)) == 5
        assert not any(word in text for text in seen for word in ("undefined", "NaN"))
        page.keyboard.press("Escape")
        expect(card).to_be_hidden()
        page.get_by_role("button", name=re.compile("Resume the tour")).click()
        expect(card).to_contain_text(re.compile(r"5 of \d+"))


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (400, "light"), (400, "dark")])
def test_no_serious_finding_of_axe(visit, server, width, theme):
    with visit(server, mode="watch", width=width, reduced_motion="reduce") as visitor:
        page = visitor.page
        page.goto(at(server, RUNS[0].id, __theme=theme))
        shows(page, RUNS[0].id)
        at_rest(page)
        for mode in ("watch", "make"):
            page.get_by_role("radio", name=re.compile("Watch" if mode == "watch" else "yourself")).click()
            assert s.sideways(page) <= 0
            found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
            serious = [
                f"{v['id']} ({v['impact']}): {node['target']} {node['failureSummary'][:200]}"
                for v in found
                if v["impact"] in ("serious", "critical")
                for node in v["nodes"]
            ]
            assert serious == [], mode
