"""Two stages in lockstep and the view above them, in headless Chromium: what moves, selects and zooms one of them, and
what is left when the comparison is closed."""

from __future__ import annotations

import threading

import pytest

from tests.chromium import PATIENCE_MS, launched

from . import serve

pytestmark = pytest.mark.browser
POINTS = "() => [lrStages().a.point(), lrStages().b.point()]"


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
    """Open two stages of which A has 10 steps and B 6; an error on the page fails the test at its end."""
    errors, pages = [], []

    def open_duel(query="", width=1440):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/duel?{query}")
        ready = "s => window.lrReady && lrStages()[s].timings.frames > 0 && lrStages()[s].stage.map.grid"
        page.wait_for_function(ready, arg="a")
        if "off" not in query:
            page.wait_for_function(ready, arg="b")
        # Until fonts and token names have come, the background is drawn again by itself.
        page.wait_for_function("lrStages().a.stage.tokens")
        page.evaluate("() => document.fonts.ready")
        return page

    yield open_duel
    for page in pages:
        page.close()
    assert errors == []


def frames(page, count=2):
    page.evaluate("n => new Promise(d => { const f = () => (n-- ? requestAnimationFrame(f) : d()); f(); })", count)


def scrub(page, point):
    """Moves A's slider as a hand would, and says what both maps show one frame later."""
    return page.evaluate(
        """async (j) => {
            const range = document.querySelector("#lr-stage input[type=range]");
            range.value = j;
            range.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            const { a, b } = lrStages();
            return [a, b].map((s) => [s.point(), s.stage.map.shown, s.stage.map.frontDirty]);
        }""",
        point,
    )


def glide(page, key, where):
    """Presses a key in a stage and collects what both maps show after each frame until A rests."""
    page.focus(f"{where} .lr-s-map-surface")
    page.evaluate(
        """() => {
            window.seen = [];
            const { a, b } = lrStages();
            window.watching = new Promise((done) => {
                const look = () => {
                    setTimeout(() => {
                        seen.push([a.stage.map.shown, b.stage.map.shown]);
                        const [last, before] = [seen.at(-1), seen.at(-2)];
                        const rests = seen.length > 3 && !a.stage.tween && !a.stage.playing && last[0] === before[0];
                        if (rests || seen.length > 600) done();
                        else requestAnimationFrame(look);
                    });
                };
                document.addEventListener("keydown", () => requestAnimationFrame(look), { once: true });
            });
        }"""
    )
    page.keyboard.press(key)
    page.evaluate("() => watching")
    return page.evaluate("() => seen")


# ---- points ----


def test_scrubbing_a_moves_b_within_the_frame(opened):
    page = opened()
    assert scrub(page, 4) == [[4, 4, False], [4, 4, False]], "drawn, not merely due"
    assert scrub(page, 9) == [[9, 9, False], [6, 6, False]], "B stays at its own end"
    assert "Point 6 of 6: run B ends here, run A goes on." in page.inner_text("#lr-stage-b")
    assert scrub(page, 2) == [[2, 2, False], [2, 2, False]]
    assert "Point 2 of 6, in step with run A." in page.inner_text("#lr-stage-b")


def test_what_moves_b_moves_a(opened):
    page = opened()
    page.evaluate("() => lrStages().b.setPoint(3)")
    frames(page)
    assert page.evaluate(POINTS) == [3, 3]
    page.focus("#lr-stage-b .lr-s-map-surface")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(POINTS) == [4, 4]
    page.keyboard.press("End")
    assert page.evaluate(POINTS) == [10, 6]
    page.keyboard.press("Home")
    assert page.evaluate(POINTS) == [0, 0]


def test_one_clock_drives_both_pictures(opened):
    page = opened()
    scrub(page, 4)
    seen = glide(page, "ArrowRight", "#lr-stage")
    assert seen[-1] == [5, 5]
    assert all(a == b for a, b in seen), seen
    scrub(page, 5)
    seen = glide(page, "ArrowRight", "#lr-stage-b")
    assert seen[-1] == [6, 6]
    assert all(a == b for a, b in seen), seen
    seen = glide(page, "ArrowRight", "#lr-stage")
    assert seen[-1] == [7, 6]
    assert all(b == 6 for _, b in seen), "B does not go beyond its last step"


def test_playing_from_b_plays_both_to_the_end_of_the_longer(opened):
    page = opened("K=3&K2=5")
    page.select_option("#lr-stage .lr-s-speed", "0.5")  # slow, so that it plays still when we look
    scrub(page, 0)
    page.focus("#lr-stage-b .lr-s-map-surface")
    page.keyboard.press("Space")
    assert page.evaluate("() => lrStages().a.stage.playing && !lrStages().b.stage.playing")
    page.select_option("#lr-stage .lr-s-speed", "4")
    page.wait_for_function("lrStages().b.point() === 5 && !lrStages().a.stage.playing")
    assert page.evaluate(POINTS) == [3, 5]


def test_the_player_of_a_covers_the_longer_run(opened):
    page = opened("K=4&K2=9")
    assert page.get_attribute("#lr-stage input[type=range]", "max") == "9"
    assert scrub(page, 8) == [[4, 4, False], [8, 8, False]]
    assert page.inner_text("#lr-stage .lr-s-count") == "8 / 9"
    assert "Run A ends at point 4; run B goes on." in page.inner_text("#lr-stage .lr-s-play-note")
    assert page.evaluate("lrEvents.filter(([view, name]) => name === 'step').length") == 0
    page.focus("#lr-stage .lr-s-map-surface")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(POINTS) == [4, 9]


def test_new_steps_of_a_keep_b_in_step(opened):
    page = opened("K=8&K2=5")
    page.evaluate("() => lrSet('a', { ...lrRuns.a, steps: lrRuns.a.steps.slice(0, 3), final: null })")
    page.evaluate("() => lrStages().a.setPoint(3)")
    page.evaluate("() => lrSet('a', { ...lrRuns.a, steps: lrRuns.a.steps.slice(0, 4), final: null })")
    page.wait_for_function("!lrStages().a.stage.tween")
    assert page.evaluate(POINTS) == [4, 4]


def test_b_never_talks_to_python(opened):
    page = opened()
    page.evaluate("() => { lrEvents.length = 0; lrStages().b.setPoint(2); lrStages().b.stage.ask('joint'); }")
    page.focus("#lr-stage-b .lr-s-map-surface")
    page.keyboard.press("Home")
    told = "() => lrEvents.some(([view, name, data]) => view === 'a' && name === 'point' && data.point === 0)"
    page.wait_for_function(told)
    page.wait_for_timeout(300)  # what B might say would come now
    events = page.evaluate("() => lrEvents")
    assert any((name, said["point"]) == ("point", 0) for _, name, said in events if name == "point")
    assert {view for view, *_ in events} == {"a"}
    assert page.evaluate("() => lrStages().b.stage.canCompute()") is False


# ---- selection ----


def test_selection_is_shared(opened):
    page = opened("M=24&M2=10")
    selected = "() => [lrStages().a.stage.selected, lrStages().b.stage.selected]"
    page.click("#lr-stage .lr-s-chip >> nth=4")
    assert page.evaluate(selected) == [4, 4]
    assert "Position 5 of 10" in page.inner_text("#lr-stage-b .lr-s-readout")
    page.click("#lr-stage-b .lr-s-chip >> nth=7")
    assert page.evaluate(selected) == [7, 7]
    assert page.get_attribute("#lr-stage .lr-s-chip >> nth=7", "aria-selected") == "true"
    page.click("#lr-stage .lr-s-chip >> nth=20")
    assert page.evaluate(selected) == [20, 7], "B has no such position and keeps its own"
    scrub(page, 3)
    assert page.evaluate(selected) == [20, 7]


def test_the_page_is_told_where_both_stand(opened):
    page = opened()
    page.click("#lr-stage .lr-s-chip >> nth=4")
    scrub(page, 3)
    page.evaluate("() => { lrPoints.length = 0; }")
    scrub(page, 8)
    scrub(page, 8)
    scrub(page, 9)  # B is at its end already: nothing new to tell of it
    assert page.evaluate("() => lrPoints") == [
        {"run_id": "harness", "point": 8, "position": 5, "S": 10, "role": "a"},
        {"run_id": "other", "point": 6, "position": 5, "S": 6, "role": "b"},
        {"run_id": "harness", "point": 9, "position": 5, "S": 10, "role": "a"},
    ]
    page.evaluate("() => lrPoints.length = 0")
    page.click("#lr-stage .lr-s-chip >> nth=5")
    assert sorted((p["role"], p["position"]) for p in page.evaluate("() => lrPoints")) == [("a", 6), ("b", 6)]
    page.evaluate("() => { lrPoints.length = 0; lrSet('b', null); }")
    told = page.evaluate("() => lrPoints")
    assert told == [{"run_id": None, "point": 0, "position": None, "S": 0, "role": "b"}]


# ---- maps ----

VIEWS = "() => [lrStages().a.view(), lrStages().b.view()]"


def zoom(page, stage, factor=3):
    page.evaluate(f"() => lrStages().{stage}.stage.map.zoomBy({factor}, 120, 90, 0)")
    frames(page)
    return page.evaluate(VIEWS)


def test_maps_share_their_view_until_told_otherwise(opened):
    page = opened()
    a, b = zoom(page, "a")
    assert a == b
    assert a["zoom"] > 2
    a, b = zoom(page, "b", 0.5)
    assert a == b
    page.get_by_label("Move maps together").uncheck()
    before = a
    a, b = zoom(page, "a", 2)
    assert b == before
    assert a != before
    page.get_by_label("Move maps together").check()
    frames(page)
    after, b = page.evaluate(VIEWS)
    assert after == a, "A leads"
    assert b == a


def test_flights_are_mirrored_frame_by_frame(opened):
    page = opened()
    page.click("#lr-stage-b .lr-s-map-button >> nth=2")  # fit to the moving points
    apart = page.evaluate(
        """() => new Promise((done) => {
            const apart = [];
            const look = () => setTimeout(() => {
                const { a, b } = lrStages();
                const views = [a.view(), b.view()].map((v) => [v.x, v.y, v.zoom]);
                if (String(views[0]) !== String(views[1])) apart.push(views);
                if (b.stage.map.flight) requestAnimationFrame(look);
                else done(apart);
            });
            requestAnimationFrame(look);
        })"""
    )
    assert apart == []


def test_different_vocabularies_keep_their_own_views(opened, chromium):
    page = opened()
    page.evaluate("() => lrSet('b', { ...lrRuns.b, map_key: null, map_status: { state: 'absent' } })")
    _, before = page.evaluate(VIEWS)
    a, b = zoom(page, "a")
    assert b == before
    assert a != b
    page.evaluate("() => { lrSet('b', lrRuns.b); }")
    frames(page)
    a, b = page.evaluate(VIEWS)
    assert a == b


# ---- one scale ----

SCALES = """() => ["a", "b"].map((name) => {
    const { heat } = lrStages()[name].stage;
    const { low, high } = heat.table.scale(heat.key);
    return { low, high, own: heat.table.get(heat.key).high, legend: heat.legend.textContent };
})"""
SAME_NUMBER = """() => ["a", "b"].map((name) => {
    const { heat } = lrStages()[name].stage;
    // In both pictures the cell whose value lies nearest to 0.3, and the colour a quarter into it.
    const { data } = heat.table.get("moved");
    let at = 0;
    data.forEach((v, i) => { if (Math.abs(v - 0.3) < Math.abs(data[at] - 0.3)) at = i; });
    const r = heat.canvas.width / parseFloat(heat.plane.style.width);
    const [x, y] = [at % heat.M + 0.25, Math.floor(at / heat.M) + 0.25];
    const pen = heat.canvas.getContext("2d");
    return { value: data[at], rgb: [...pen.getImageData(x * heat.cell.w * r, y * heat.cell.h * r, 1, 1).data] };
})"""


def show_heat(page, quantity):
    """Shows a quantity on both sides, drawn."""
    page.evaluate("key => { for (const s of Object.values(lrStages())) s.stage.heat.choose(key); }", quantity)
    frames(page, 3)


def test_one_scale_colours_the_heat_maps_of_both_runs(opened):
    page = opened("K=6&K2=6&gamma=0.05&gamma2=0.2")
    show_heat(page, "moved")
    a, b = page.evaluate(SCALES)
    assert a["own"] < b["own"], "alone they would differ"
    assert (a["low"], a["high"]) == (b["low"], b["high"]) == (0, b["own"])
    assert a["legend"] == b["legend"]
    assert "one scale for runs A and B" in a["legend"]
    one, other = page.evaluate(SAME_NUMBER)
    assert one["value"] == pytest.approx(other["value"], abs=0.02)
    assert one["rgb"] == pytest.approx(other["rgb"], abs=8), "one number, one colour"
    page.click("text=Close comparison")
    frames(page, 3)
    alone = page.evaluate(SCALES)[0]
    assert alone["high"] == alone["own"] == a["own"]
    assert "one scale" not in alone["legend"]


def test_points_are_coloured_by_the_shared_scale_as_well(opened):
    page = opened("K=6&K2=6&gamma=0.05&gamma2=0.2")
    page.evaluate("() => { for (const s of Object.values(lrStages())) s.stage.colourBy('moved'); }")
    legends = page.locator(".lr-s-colour .lr-s-scale").all_inner_texts()
    assert legends[0] == legends[1]
    assert "one scale for runs A and B" in legends[0]
    page.click("text=Close comparison")
    assert "one scale" not in page.locator("#lr-stage .lr-s-colour .lr-s-scale").inner_text()


def test_a_vertex_has_one_number_and_shade_in_both_heat_maps(opened):
    page = opened()
    show_heat(page, "vertex")
    a, b = (page.inner_text(f"{name} .lr-s-heat-legend") for name in ("#lr-stage", "#lr-stage-b"))
    assert a == b
    assert "one scale" in a
    # Ids of another vocabulary are other tokens: each run keeps to itself.
    page.evaluate("() => lrSet('b', { ...lrRuns.b, map_key: null, map_status: { state: 'absent' } })")
    frames(page, 3)
    assert "one scale" not in page.inner_text("#lr-stage .lr-s-heat-legend")


def test_a_live_run_that_grows_widens_the_scale_of_both(opened):
    page = opened("K=6&K2=6&gamma=0.05&gamma2=0.05")
    show_heat(page, "moved")
    page.evaluate(
        "() => { const a = structuredClone(lrRuns.a); const s = structuredClone(a.steps.at(-1));"
        " s.k += 1; s.moved = s.moved.map((v) => 4 * v); lrSet('a', { ...a, steps: [...a.steps, s] }); }"
    )
    frames(page, 3)
    a, b = page.evaluate(SCALES)
    assert a["high"] == b["high"] == a["own"] > b["own"]
    assert a["legend"] == b["legend"]


# ---- on and off ----


def test_closing_brings_back_the_single_stage(opened):
    page = opened("K=4&K2=9&away2=0.3")
    page.locator("#lr-stage .lr-s-curves").scroll_into_view_if_needed()  # plots are drawn where they are seen
    page.wait_for_selector("#lr-stage .lr-s-plot .scatterlayer .point")
    lines = "() => document.querySelectorAll('#lr-stage .lr-s-plot-0 .scatterlayer .trace').length"
    page.wait_for_function(f"({lines})() === 5")
    scrub(page, 8)
    assert not page.is_visible("#lr-settings")
    widths = [page.locator(f"{name} .lr-stage").bounding_box()["width"] for name in ("#lr-stage", "#lr-stage-b")]
    assert widths[0] == pytest.approx(widths[1], abs=1)
    assert widths[0] == pytest.approx(690, abs=12)
    page.click("text=Close comparison")
    assert page.evaluate("() => lrEvents.filter(([view]) => view === 'duel')") == [
        ["duel", "against", {"id": None, "turn": 1}]
    ]
    assert page.evaluate("() => document.body.dataset.lrDuel ?? null") is None
    assert page.is_visible("#lr-settings")
    assert not page.is_visible("#lr-stage-b-column")
    assert page.get_attribute("#lr-stage input[type=range]", "max") == "4"
    assert page.evaluate("() => [lrStages().a.point(), lrStages().a.stage.head]") == [4, 4]
    assert page.inner_text("#lr-stage .lr-s-count") == "4 / 4"
    page.wait_for_function(f"({lines})() === 3")
    assert page.evaluate("() => document.activeElement.tagName") == "SELECT"
    # And on again, by the picker.
    page.get_by_label("Compare with").select_option("other")
    assert page.evaluate("() => lrEvents.at(-1)") == ["duel", "against", {"id": "other", "turn": 2}]
    assert page.evaluate(POINTS) == [4, 4]
    assert page.is_visible("#lr-stage-b .lr-s-map")


def test_a_comparison_that_another_run_ends_leaves_the_focus_alone(opened):
    """Safari gives none to a button that is clicked, so that it is nowhere."""
    page = opened()
    page.evaluate("() => { document.activeElement.blur(); lrSet('duel', lrRuns.off); lrSet('b', null); }")
    assert not page.is_visible("text=Close comparison")
    assert page.evaluate("() => document.activeElement.tagName") == "BODY"
    page.get_by_label("Compare with").select_option("other")
    close = "document.querySelector('.lr-duel-bar > .lr-button')"
    page.evaluate(f"() => {{ document.activeElement.blur(); {close}.click(); }}")
    assert page.evaluate("() => document.activeElement.tagName") == "SELECT"


def test_a_single_stage_is_as_it_was(opened):
    page = opened("off=1")
    assert not page.is_visible("#lr-stage-b-column")
    assert not page.is_visible("text=Close comparison")
    assert not page.is_visible("text=Move maps together")
    assert scrub(page, 7)[0] == [7, 7, False]
    assert page.get_attribute("#lr-stage input[type=range]", "max") == "10"
    groups = page.eval_on_selector_all(".lr-duel optgroup", "all => all.map((g) => [g.label, g.textContent])")
    assert groups == [["Recorded runs", "Eggs, λ 0.6, γ 0.1"], ["Your runs", "Eggs, <b>again</b>"]]
    assert page.locator(".lr-duel b").count() == 0, "names stay text"


def test_columns_of_curves_take_the_width_they_have(opened):
    page = opened("off=1")
    page.locator("#lr-stage .lr-s-curves").scroll_into_view_if_needed()  # plots are drawn where they are seen
    page.wait_for_selector("#lr-stage .lr-s-plot .scatterlayer .point")
    page.get_by_label("Compare with").select_option("other")
    fits = (
        "() => [...document.querySelectorAll('.lr-s-plot')].every((p) =>"
        " !p._fullLayout || Math.abs(p._fullLayout.width - p.clientWidth) <= 1)"
    )
    page.locator("#lr-stage-b .lr-s-curves").scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelectorAll('#lr-stage-b .point').length > 0 && ({fits})()")


def test_the_objective_of_b_is_drawn_only_where_it_is_the_same_quantity(opened):
    page = opened("away2=0.6")
    page.locator("#lr-stage .lr-s-curves").scroll_into_view_if_needed()  # plots are drawn where they are seen
    page.wait_for_selector("#lr-stage .lr-s-plot .scatterlayer .point")
    page.wait_for_function("document.querySelectorAll('#lr-stage .lr-s-plot-0 .scatterlayer .trace').length === 4")
    assert "Its objective and gap weigh the losses differently" in page.inner_text("#lr-stage .lr-s-curve-other")
    page.wait_for_function("document.querySelectorAll('#lr-stage-b .lr-s-plot-0 .scatterlayer .trace').length === 3")


def test_what_differs_stands_first_and_is_marked_in_words(opened):
    page = opened()
    runs = page.evaluate("() => lrRuns.on.rows")
    settings = [row for row in runs if row["kind"] == "setting"]
    rows = page.locator(".lr-duel-table[data-kind=setting] tbody tr")
    assert rows.count() == sum(row["differs"] for row in settings) == 3
    assert "".join(rows.nth(1).locator("th span").all_inner_texts()) == "≠Differs:Step size γ"
    assert rows.nth(1).locator("td").all_inner_texts() == ["0.05", "0.1"]
    same = page.locator(".lr-duel-same")
    assert same.locator("summary").inner_text() == f"{len(settings) - 3} settings are the same"
    assert not same.locator("dl").is_visible()
    same.locator("summary").click()
    assert "Temperature" in same.inner_text()
    outcomes = page.locator(".lr-duel-table[data-kind=outcome] tbody tr")
    assert outcomes.count() == len(runs) - len(settings)
    differs = outcomes.evaluate_all("rows => rows.map((row) => row.classList.contains('lr-duel-differs'))")
    assert differs == sorted(differs, reverse=True)
    assert any(differs)
    assert not all(differs)
    assert page.locator(".lr-duel-notes li").count() == len(page.evaluate("() => lrRuns.on.notes")) > 0


@pytest.mark.parametrize("width", [400, 700, 1440])
def test_nothing_scrolls_sideways(opened, width):
    page = opened("M2=40", width=width)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    a, b = (page.locator(f"{name} .lr-stage").bounding_box() for name in ("#lr-stage", "#lr-stage-b"))
    if width == 1440:
        assert a["y"] == b["y"]
        maps = [page.locator(f"{name} .lr-s-map").bounding_box()["y"] for name in ("#lr-stage", "#lr-stage-b")]
        assert maps[0] == maps[1]
    else:
        assert b["y"] >= a["y"] + a["height"]
        # A's player is screens away: B shows one, which asks A.
        assert page.inner_text("#lr-stage-b .lr-s-count") == "10 / 10"
        page.click("#lr-stage-b .lr-s-play-button >> nth=0")
        assert page.evaluate(POINTS) == [0, 0]
