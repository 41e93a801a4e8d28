"""The Stage in headless Chromium, fed by the harness: arithmetic, player, linking, what is kept, bad text."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.chromium import PATIENCE_MS, launched

from . import serve

pytestmark = pytest.mark.browser
STAGE = "document.getElementById('host').lrStage"
READY = f"() => {STAGE} && {STAGE}.timings.frames > 0"


@pytest.fixture(scope="module")
def address():
    server = serve.serve()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def opened(address, chromium):
    """Open the harness in a state; an error on the page fails the test at its end."""
    errors, pages = [], []

    def open_stage(query, width=1280, before=None, ready=READY):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if before:
            before(page)
        page.goto(f"{address}/?{query}")
        page.wait_for_function("window.lrMountMs !== undefined")
        if ready:
            page.wait_for_function(ready)
            page.wait_for_function(f"({STAGE}.stage.tokens && {STAGE}.stage.map.grid) || !{STAGE}.stage.mapKey")
            settle(page)  # what came last is drawn
        return page

    yield open_stage
    for page in pages:
        page.close()
    assert errors == []


def stage(page, expression):
    return page.evaluate(f"() => {STAGE}.{expression}")


def events(page, name):
    """What was said, but for the turns, which only rise."""
    return page.evaluate("name => lrEvents.filter(e => e[0] === name).map(([, { turn, ...data }]) => data)", name)


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def quiet(page):
    """Until neither fonts nor names nor a flight ask for the background once more."""
    page.evaluate(
        f"""async () => {{
            const {{ map }} = {STAGE}.stage;
            const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            for (let calm = 0; calm < 3; ) {{
                await document.fonts.ready;
                const before = {STAGE}.timings.backgroundDraws;
                await frame();
                const still = document.fonts.status === "loaded" && !map.flight && !map.viewDirty;
                calm = still && {STAGE}.timings.backgroundDraws === before ? calm + 1 : 0;
            }}
        }}"""
    )


# ---- arithmetic ----


def test_weights_and_places_are_those_of_the_plain_recursion(opened):
    """hull.js works by coefficients; here the definition is applied to dictionaries, step by step."""
    page = opened("state=empty", ready=None)
    rng = random.Random(5)
    vocabulary, positions = 40, 6
    coords = [rng.uniform(-1, 1) for _ in range(2 * vocabulary)]
    prefix = [rng.randrange(vocabulary) for _ in range(positions)]
    steps = []
    for k in range(8):
        # Few distinct vertices, so that they repeat and sometimes are the original token itself.
        vertices = [rng.choice([1, 2, 3, prefix[t]]) for t in range(positions)]
        steps.append({"k": k, "step_size": rng.uniform(0.02, 0.9), "vertices": vertices, "toward_loss": k})
    seen = page.evaluate(
        """async ({ prefix, steps, coords }) => {
            const { Trajectory } = await import('/lr/assets/stage/hull.js');
            const t = new Trajectory();
            t.setCoords(Float32Array.from(coords));
            // As a run grows: first nothing, then three steps, then all; coordinates are known before and after.
            const changes = [0, 3, 3, steps.length].map((count) => t.sync(prefix, steps.slice(0, count)));
            const points = [...steps.keys(), steps.length];
            return {
                changes,
                weights: points.map((j) => prefix.map((_, p) => t.weights(p, j).map((w) => [w.id, w.weight]))),
                kept: prefix.map((_, p) => t.kept(p, steps.length)),
                places: t.places.map((p) => Array.from(p)),
            };
        }""",
        {"prefix": prefix, "steps": steps, "coords": coords},
    )
    assert seen["changes"] == ["new", "grown", "same", "grown"]
    for p in range(positions):
        mixture, place = {prefix[p]: 1.0}, [coords[2 * prefix[p]], coords[2 * prefix[p] + 1]]
        for j in range(len(steps) + 1):
            got = dict(map(tuple, seen["weights"][j][p]))
            assert {i: w for i, w in got.items() if w > 0} == pytest.approx(mixture, abs=1e-12)
            assert sum(got.values()) == pytest.approx(1, abs=1e-12)
            assert seen["places"][j][2 * p : 2 * p + 2] == pytest.approx(place, abs=1e-5)
            if j == len(steps):
                assert seen["kept"][p] == pytest.approx(mixture[prefix[p]], abs=1e-12)
                break
            gamma, vertex = steps[j]["step_size"], steps[j]["vertices"][p]
            mixture = {i: w * (1 - gamma) for i, w in mixture.items()}
            mixture[vertex] = mixture.get(vertex, 0) + gamma
            place = [(1 - gamma) * a + gamma * b for a, b in zip(place, coords[2 * vertex :], strict=False)]


def test_a_share_reads_0_or_100_only_where_it_is(opened):
    page = opened("state=empty", ready=None)
    said = page.evaluate(
        """async () => {
            const { percent } = await import('/lr/assets/stage/dom.js');
            return [0, 0.001, 0.005, 0.994, 0.995, 0.9999, 1 - 1e-12, 1, NaN].map(percent);
        }"""
    )
    assert said == ["0 %", "<1 %", "1 %", "99 %", ">99 %", ">99 %", "100 %", "100 %", "–"]


def test_alike_gradients_are_called_a_conflict(opened):
    page = opened("state=empty", ready=None)
    said = page.evaluate(
        """async () => {
            const { angleInWords } = await import('/lr/assets/stage/hull.js');
            const say = (angle) => [Math.round(angle.degrees), angle.verdict];
            return [0.9, 0, -0.9, 1.0000001, null].map((cosine) => say(angleInWords(cosine)));
        }"""
    )
    assert said[0] == [26, "in conflict"]
    assert said[1] == [90, "independent"]
    assert said[2] == [154, "in agreement"]
    assert said[3] == [0, "in conflict"]
    assert said[4][1] == "not known"


# ---- player ----


def test_recorded_run_is_scrubbed_in_the_browser_and_says_only_where_it_stands(opened):
    page = opened("state=recorded")
    stage(page, "setPoint(0)")  # it plays by itself once
    assert stage(page, "point()") == 0
    page.focus(".lr-s-map-surface")
    for key, expected in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 10), ("Home", 0)]:
        page.keyboard.press(key)
        assert stage(page, "point()") == expected
    page.fill(".lr-s-scrub input", "7")
    assert stage(page, "point()") == 7
    assert page.get_by_role("button", name="Start over").count() == 0
    page.keyboard.press("End")
    assert page.get_by_role("button", name="One step on").is_disabled()
    page.wait_for_function("lrEvents.some(([name, data]) => name === 'point' && data.point === 10)")
    assert {name for name, _ in page.evaluate("lrEvents")} == {"point"}
    assert events(page, "point")[-1] == {"run_id": "harness", "point": 10}
    page.evaluate(f"() => {{ lrEvents.length = 0; for (const j of [1, 2, 3, 4]) {STAGE}.setPoint(j); }}")
    page.wait_for_function("lrEvents.length")
    page.wait_for_timeout(250)  # what else it might say would come now
    assert events(page, "point") == [{"run_id": "harness", "point": 4}], "reported once it rests"


def test_space_plays_to_the_end_and_speed_is_obeyed(opened):
    page = opened("state=recorded&K=4")
    stage(page, "setPoint(0)")  # it plays by itself once
    # How fast is read from the stage's clock, not from ours: frames may be few on a loaded machine.
    page.evaluate(
        f"""() => {{
            const {{ stage }} = {STAGE};
            const wake = stage.wake;
            window.lrPaces = [];
            let known = null;
            stage.wake = function () {{
                if (this.playing && this.tween && this.nextAt && this.nextAt !== known) {{
                    known = this.nextAt;
                    lrPaces.push([this.speed, this.tween.ms, this.nextAt - document.timeline.currentTime]);
                }}
                return wake.call(this);
            }};
        }}"""
    )
    page.select_option(".lr-s-speed", "0.5")  # slow, so that it plays still when we look
    page.focus(".lr-s-map-surface")
    page.keyboard.press("Space")
    page.wait_for_function("lrPaces.length")  # the first step is under way, however late its frame came
    assert page.get_by_role("button", name="Pause (Space)").count() == 1
    page.select_option(".lr-s-speed", "4")
    page.wait_for_function(f"{STAGE}.point() === 4")
    page.wait_for_function("document.querySelector('.lr-s-play-main').ariaLabel.startsWith('Play again')")
    paces = page.evaluate("lrPaces")
    assert {speed for speed, *_ in paces} == {0.5, 4}
    assert all([ms, pause] == pytest.approx([450 / speed, 900 / speed]) for speed, ms, pause in paces)


def test_live_run_asks_python_only_at_its_last_point(opened):
    page = opened("state=paused&S=3&every=50")
    page.focus(".lr-s-map-surface")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert events(page, "step") == []
    page.keyboard.press("ArrowRight")
    assert events(page, "step") == [{"run_id": "harness"}]
    page.wait_for_function(f"{STAGE}.point() === 4")
    page.wait_for_function("document.querySelector('.lr-s-status').textContent.includes('Paused')")
    page.keyboard.press("Space")
    assert events(page, "play") == [{"run_id": "harness"}]
    page.wait_for_function(f"{STAGE}.point() === 10")
    page.wait_for_function("document.querySelector('.lr-s-status').textContent.includes('Completed')")
    page.get_by_role("button", name="Start over").click()
    assert len(events(page, "restart")) == 1
    page.wait_for_function(f"{STAGE}.point() === 0")


def test_running_can_be_paused_and_is_left_alone_while_the_reader_looks_back(opened):
    page = opened("state=running&S=3&still=1")
    page.evaluate("lrSet({ steps: lrWhole.steps.slice(0, 4) })")
    assert stage(page, "point()") == 4
    page.focus(".lr-s-map-surface")
    page.keyboard.press("Home")
    page.evaluate("lrSet({ steps: lrWhole.steps.slice(0, 6) })")
    assert stage(page, "point()") == 0
    assert page.inner_text(".lr-s-follow") == "Step 6 arrived — jump to it"
    page.click(".lr-s-follow")
    assert stage(page, "point()") == stage(page, "stage.trajectory.S")
    page.focus(".lr-s-map-surface")
    page.keyboard.press("Space")
    assert len(events(page, "pause")) == 1
    page.wait_for_function("document.querySelector('.lr-s-status').textContent.includes('Paused')")


# ---- what is kept ----


def test_a_new_step_keeps_zoom_selection_focus_and_nodes(opened):
    page = opened("state=paused&S=3&every=50")
    page.click(".lr-s-chip >> nth=5")
    page.evaluate(
        f"() => {{ {STAGE}.stage.map.zoomBy(5, 200, 200, 0);"
        " window.kept = document.querySelectorAll('.lr-s-chip')[5]; }"
    )
    view = stage(page, "view()")
    page.evaluate("lrSet({ steps: lrWhole.steps.slice(0, 4) })")
    settle(page)
    assert stage(page, "point()") == 4, "the view follows the newest step"
    assert stage(page, "view()") == view
    assert page.evaluate("kept === document.querySelectorAll('.lr-s-chip')[5] && kept === document.activeElement")
    assert page.get_attribute(".lr-s-chip >> nth=5", "aria-selected") == "true"
    page.evaluate("lrSet({ run_id: 'other', steps: [] })")
    assert stage(page, "point()") == 0
    assert stage(page, "view()") == view, "begun anew, the same positions are looked at"
    page.evaluate("lrSet({ run_id: 'third', prefix: lrWhole.prefix.slice(9), steps: [] })")
    assert stage(page, "view()") != view, "other positions stand elsewhere"
    assert stage(page, "view().zoom") <= 2.2


def test_only_what_moves_is_redrawn(opened):
    page = opened("state=completed")
    quiet(page)
    before = stage(page, "timings.backgroundDraws")
    frames = stage(page, "timings.frames")
    for j in (0, 3, 9, 1):
        page.evaluate(f"() => {STAGE}.setPoint({j})")
        settle(page)
    assert stage(page, "timings.backgroundDraws") == before
    assert stage(page, "timings.frames") >= frames + 4
    page.evaluate(f"() => {STAGE}.stage.map.zoomBy(2, 200, 200, 0)")
    settle(page)
    assert stage(page, "timings.backgroundDraws") == before + 1


@pytest.mark.parametrize("width", [1120, 1440])
def test_the_map_keeps_its_size_while_one_looks_around(opened, width):
    page = opened("state=completed", width=width)
    page.wait_for_selector(".lr-s-plot .scatterlayer .point")
    sizes = page.evaluate(
        f"""async () => {{
            const seen = new Set();
            for (let i = 0; i < 30; i++) {{
                {STAGE}.setPoint((i * 3) % 11);
                {STAGE}.select((i * 5) % 24);
                await new Promise((done) => requestAnimationFrame(done));
                seen.add(document.querySelector('.lr-s-map-surface').clientHeight);
            }}
            return [...seen];
        }}"""
    )
    assert len(sizes) == 1


def test_selection_is_linked_everywhere(opened):
    page = opened("state=completed")
    page.wait_for_function(f"{STAGE}.stage.map.at")  # the positions' pixels are known once they were drawn
    spot = page.evaluate(
        f"() => {{ const m = {STAGE}.stage.map, b = m.surface.getBoundingClientRect();"
        " const far = [...Array(24).keys()].find((t) => ![...Array(24).keys()].some((u) => u !== t &&"
        " Math.hypot(m.at[2*t] - m.at[2*u], m.at[2*t+1] - m.at[2*u+1]) < 14));"
        " return [far, b.left + m.at[2 * far], b.top + m.at[2 * far + 1]]; }"
    )
    page.mouse.move(spot[1], spot[2])
    assert f"Position {spot[0] + 1}" in page.inner_text(".lr-s-map-tip")
    page.mouse.click(spot[1], spot[2])
    chips = page.locator(".lr-s-chip")
    assert chips.nth(spot[0]).get_attribute("aria-selected") == "true"
    assert f"Position {spot[0] + 1} of 24" in page.inner_text(".lr-s-readout")
    chips.nth(2).click()
    page.keyboard.press("ArrowRight")
    assert stage(page, "stage.selected") == 3
    assert stage(page, "stage.map.selected") == 3
    assert page.evaluate("document.activeElement.dataset.t") == "3"


def test_wheel_zooms_about_the_pointer(opened):
    page = opened("state=completed")
    place = (
        f"() => {{ const m = {STAGE}.stage.map; const b = m.surface.getBoundingClientRect(); return [b.left, b.top]; }}"
    )
    left, top = page.evaluate(place)
    under = f"() => {{ const p = {STAGE}.stage.map.pixels(); return [(300 - p.cx) / p.sx, (p.cy - 200) / p.sy]; }}"
    page.wait_for_function(f"{STAGE}.stage.map.at")
    page.mouse.move(left + 300, top + 200)
    before = page.evaluate(under)
    page.mouse.wheel(0, -600)
    page.wait_for_function(f"{STAGE}.view().zoom > 1.5")
    assert page.evaluate(under) == pytest.approx(before, abs=3e-3)  # wheel events come in whole pixels


# ---- curves ----


@pytest.mark.parametrize(
    "act",
    [
        None,
        lambda page: page.mouse.wheel(0, 60),
        lambda page: page.locator(".lr-s-map-frame").click(position={"x": 30, "y": 30}),
        lambda page: page.focus(".lr-s-map-surface") or page.keyboard.press("Home"),
        lambda page: page.locator(".lr-s-chip").first.click(),
        lambda page: page.evaluate(f"() => {STAGE}.setPoint(0)"),
    ],
    ids=["nothing", "wheel", "pointer", "key", "strip", "seek"],
)
def test_a_recorded_run_plays_by_itself_unless_somebody_acted_before(opened, act):
    # The map, for which the play waits, comes when the test says so.
    page = opened("state=empty", ready=None)
    held = []
    page.route("**/coords.bin", lambda route: held.append(route))
    recorded = serve.payload({"state": "recorded"}, serve.serve_folder()) | {"live": False, "status": "completed"}
    page.evaluate("whole => lrSet(whole)", recorded)
    page.wait_for_function(f"() => {STAGE}.stage.greeting && document.querySelectorAll('.lr-s-chip').length")
    page.mouse.move(300, 300)
    if act:
        act(page)
        page.wait_for_function(f"() => !{STAGE}.stage.greeting")
    until = time.monotonic() + PATIENCE_MS / 1000
    while not held:
        assert time.monotonic() < until, "the map was never asked for"
        page.wait_for_timeout(20)
    held[0].continue_()
    page.wait_for_function(f"() => {STAGE}.stage.atlas")
    if act is None:
        page.wait_for_function(f"() => {STAGE}.stage.playing && {STAGE}.stage.shown > 0")
    else:
        page.wait_for_timeout(300)  # the play that must not begin would begin now
        assert stage(page, "stage.playing") is False
        assert stage(page, "stage.shown") == 0


@pytest.mark.parametrize("state", ["completed", "paused", "recorded", "running&S=6&still=1"])
def test_on_a_phone_the_player_is_as_tall_at_every_point(opened, state):
    page = opened(f"state={state}", width=400)
    heights = set()
    for point in range(stage(page, "stage.trajectory.S") + 1):
        page.evaluate(f"j => {STAGE}.setPoint(j)", point)
        heights.add(page.locator(".lr-s-player").bounding_box()["height"])
    assert len(heights) == 1, heights


def test_curves_follow_the_point_and_jump_on_click(opened):
    page = opened("state=completed")
    page.wait_for_selector(".lr-s-plot .scatterlayer .point")
    assert page.locator(".lr-s-plot-0 .point").count() == 3 * 11
    whole = page.evaluate("lrWhole")
    page.evaluate(f"() => {STAGE}.setPoint(4)")
    row = page.inner_text(".lr-s-values tbody tr >> nth=0")
    assert f"{whole['steps'][0]['toward_loss']:.2f}" in row
    assert f"{whole['steps'][4]['toward_loss']:.2f}" in row
    page.locator(".lr-s-plot-1 .point").nth(2).hover(force=True)
    page.locator(".lr-s-plot-1 .point").nth(2).click(force=True)
    page.wait_for_function(f"{STAGE}.point() === 2")


def test_curves_survive_the_dark_toggle(opened):
    page = opened("state=completed")
    page.wait_for_selector(".lr-s-plot .scatterlayer .point")
    colour = "() => getComputedStyle(document.querySelector('.lr-s-plot-0 .js-line')).stroke"
    light = page.evaluate(colour)
    page.evaluate("document.body.classList.add('dark')")
    page.wait_for_function(f"({colour})() !== {light!r}")
    assert page.locator(".lr-s-plot-0 .point").count() == 3 * 11


def test_without_plotly_a_table_says_the_same(opened):
    page = opened("state=completed", before=lambda p: p.route("**/plotly.min.js", lambda route: route.abort()))
    page.wait_for_selector(".lr-s-curve-table tbody tr")
    assert page.locator(".lr-s-curve-table tbody tr").count() == 11
    page.click(".lr-s-curve-table button >> nth=3")
    assert stage(page, "point()") == 3


# ---- joint placement ----


def test_joint_fit_is_asked_for_shown_and_offered_again_after_a_step(opened):
    page = opened("state=paused&S=10&K=12&every=20")
    page.evaluate("lrSet({ config: { ...lrWhole.config, steps: 12 } })")
    seg = page.get_by_role("radio").nth(1)
    seg.click()
    assert len(events(page, "joint")) == 1
    page.wait_for_function("document.querySelectorAll('.lr-s-seg')[1].textContent === 'As UMAP sees it'")
    seg.click()
    assert stage(page, "stage.placement") == "joint"
    assert page.evaluate(f"Math.max(...{STAGE}.stage.joint.coords.map(Math.abs))") == pytest.approx(1)
    # The fit of the harness covers all 12 steps; cut it to 11 points, and the next step outgrows it.
    page.evaluate(
        "lrSet({ joint: { ...JSON.parse(JSON.stringify(lrJoint())), points: lrJoint().points.slice(0, 11) } })"
    )
    assert stage(page, "stage.placement") == "joint"
    page.evaluate("lrSet({ steps: lrWhole.steps.slice(0, 11) })")
    assert stage(page, "stage.placement") == "hull"
    assert seg.inner_text() == "As UMAP sees it · fit"


def test_each_placement_keeps_a_view_of_its_own(opened):
    page = opened("state=paused&S=10&joint=ready")
    zoom = f"() => {{ {STAGE}.stage.map.zoomBy(5, 200, 200, 0); return {STAGE}.view(); }}"
    hull = page.evaluate(zoom)
    seg = page.locator(".lr-s-seg")
    seg.nth(1).click()
    assert stage(page, "stage.placement") == "joint"
    assert stage(page, "view().zoom") <= 2.2, "a layout never seen before has its first view"
    joint = page.evaluate(zoom)
    seg.nth(0).click()
    assert stage(page, "view()") == hull
    seg.nth(1).click()
    assert stage(page, "view()") == joint
    page.evaluate("lrSet({ message: 'the same fit in a fresh copy' })")
    assert stage(page, "view()") == joint
    # The fit is gone, and with it its view; the next one lays all out anew.
    page.evaluate("lrSet({ joint: null })")
    assert stage(page, "view()") == hull
    page.evaluate("lrSet({ joint: lrJoint() })")
    seg.nth(1).click()
    assert stage(page, "view().zoom") <= 2.2


def test_an_arrow_starts_no_fit_and_chooses_one_that_is_there(opened):
    page = opened("state=paused&S=10")
    page.locator(".lr-s-seg").nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "As UMAP sees it · fit"
    assert events(page, "joint") == []
    page.keyboard.press("Enter")
    assert len(events(page, "joint")) == 1
    page.wait_for_function("document.querySelectorAll('.lr-s-seg')[1].textContent === 'As UMAP sees it'")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert stage(page, "stage.placement") == "joint"


def test_why_there_is_no_fit_depends_on_the_run(opened):
    page = opened("state=running&S=6&still=1")
    joint = page.locator(".lr-s-seg").nth(1)
    assert joint.get_attribute("title") == "Wait until the steps are computed."
    assert joint.get_attribute("aria-disabled") == "true"
    page.evaluate("lrSet({ status: 'paused' })")
    assert joint.get_attribute("title").startswith("Fits the neighbourhood")
    page.evaluate("lrSet({ live: false })")
    assert joint.get_attribute("title") == "This recorded run has no joint fit."


def test_a_step_beside_a_fit_that_was_asked_for_is_said_to_python(opened):
    page = opened("state=paused&S=10&K=12")
    page.evaluate(f"() => {{ {STAGE}.stage.trigger = (...said) => lrEvents.push(said); }}")  # nobody answers yet
    page.locator(".lr-s-seg").nth(1).click()
    page.locator(".lr-s-play-button").nth(3).click()
    assert [len(events(page, name)) for name in ("joint", "step")] == [1, 1]
    assert page.locator(".lr-s-play-button").nth(3).get_attribute("aria-disabled") == "true"


def test_texts_of_an_older_vocabulary_that_come_late_name_nothing(opened):
    page = opened("state=building", ready=None)
    held = []
    page.route("**/lr/map/older/tokens.json", lambda route: held.append(route))
    page.route("**/lr/map/older/coords.bin", lambda r: r.continue_(url=r.request.url.replace("older", "demo")))
    page.evaluate("lrSet({ map_key: 'older', map_status: { state: 'ready' } })")
    page.wait_for_function(f"{STAGE}.stage.atlas")
    page.evaluate("lrSet({ map_key: 'demo' })")
    page.wait_for_function(f"{STAGE}.stage.tokens?.length > 1")
    while not held:
        page.wait_for_timeout(20)
    held[0].fulfill(json=["of another model"])
    page.wait_for_timeout(200)  # what must not be taken would be by now
    assert stage(page, "stage.tokens.length") > 1


# ---- bad text, missing things, narrow pages ----


def test_text_of_a_model_stays_text(opened):
    page = opened("state=completed&hostile=1&M=12")
    assert page.locator(".lr-stage script, .lr-stage img").count() == 0
    assert page.locator(".lr-s-chip-original").nth(0).inner_text().startswith("<script>")
    assert "`${x}`" in page.locator(".lr-s-chip-original").nth(1).inner_text()
    assert "⟨202E⟩" in page.locator(".lr-s-chip-original").nth(4).inner_text()
    for t in range(8):
        page.evaluate(f"() => {STAGE}.select({t})")
    settle(page)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("building", "Drawing the map"),
        ("absent", "No map for this model yet"),
        ("broken", "could not be loaded"),
    ],
)
def test_without_a_map_everything_else_works(opened, state, words):
    route = (lambda p: p.route("**/lr/map/missing/**", lambda r: r.fulfill(status=404))) if state == "broken" else None
    page = opened(f"state={state}", before=route, ready=None)
    page.wait_for_function(f"document.querySelector('.lr-s-map-notice').innerText.includes({words!r})")
    page.focus(".lr-s-map-surface")
    page.keyboard.press("Home")
    assert stage(page, "point()") == 0
    page.click(".lr-s-chip >> nth=3")
    assert "Position 4 of 24" in page.inner_text(".lr-s-readout")
    page.evaluate("lrSet({ map_key: 'demo', map_status: { state: 'ready' } })")
    page.wait_for_function(f"{STAGE}.timings.backgroundDraws > 0 && {STAGE}.stage.map.grid")


def test_without_webgl_the_map_is_drawn_on_a_canvas(opened):
    no_webgl = """
        const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.startsWith("webgl") ? null : real.call(this, kind, ...rest);
        };"""
    page = opened("state=completed", before=lambda p: p.add_init_script(no_webgl))
    assert stage(page, "stage.map.cloud.kind") == "2d"
    inked = (
        f"() => {{ const c = {STAGE}.stage.map.cloud.canvas;"
        " const image = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        " return image.data.filter((v, i) => i % 4 === 3 && v).length; }"
    )
    assert page.evaluate(inked) > 10000


def test_webgl_shaders_compile_here(opened):
    page = opened("state=completed")
    has = page.evaluate("() => Boolean(document.createElement('canvas').getContext('webgl'))")
    assert stage(page, "stage.map.cloud.kind") == ("webgl" if has else "2d")


@pytest.mark.parametrize("width", [400, 700, 1440])
@pytest.mark.parametrize(
    "state", ["empty", "starting", "fresh", "failed", "completed&hostile=1", "completed&M=512&K=20"]
)
def test_nothing_scrolls_sideways(opened, width, state):
    page = opened(f"state={state}", width=width, ready=None)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_empty_then_run_then_empty(opened):
    page = opened("state=empty", ready=None)
    assert "step by step" in page.inner_text(".lr-s-welcome")
    whole = serve.payload({}, serve.serve_folder())
    page.evaluate("whole => lrSet(whole)", whole)
    assert page.locator(".lr-s-chip").count() == 24
    page.evaluate("lrClear()")
    assert page.locator(".lr-s-welcome").is_visible()


def test_512_positions_scrub_within_budget(opened):
    """Script time from the wish to the picture: five times the benchmark's budget, as others use the machine of a test
    run as well. They can only add to it: the best of some rounds counts."""
    page = opened("state=completed&M=512&K=20")
    scrub = f"""async () => {{
            const stage = {STAGE}, out = [];
            for (let i = 0; i < 20; i++) {{
                const start = performance.now();
                stage.setPoint((i * 7) % 21);
                const script = performance.now() - start;
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                out.push(script + stage.timings.frame);
            }}
            return out.sort((a, b) => a - b)[10];
        }}"""
    assert any(page.evaluate(scrub) < 250 for _ in range(5))
