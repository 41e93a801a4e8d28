"""The linked views of the Stage in headless Chromium: heat map, picked tokens, coloured points, what 2-D hides.

Every number is checked against a plain computation on the harness's payload.
"""

from __future__ import annotations

import itertools
import math
import random
import re
import statistics
import struct
import threading
from collections import Counter

import pytest

from tests.chromium import PATIENCE_MS, launched

from . import serve

pytestmark = pytest.mark.browser
STAGE = "document.getElementById('host').lrStage"
READY = f"() => {STAGE} && {STAGE}.timings.frames > 0 && {STAGE}.timings.heatDraws > 0"
NAMES = ["map", "player", "strip", "readout", "losses", "heat", "picks", "placement", "honesty"]


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
    """Open the harness in a state, its map drawn; an error on the page fails the test at its end."""
    errors, pages = [], []

    def open_stage(query="state=completed", width=1280, ready=READY):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/?{query}")
        page.wait_for_function("window.lrMountMs !== undefined")
        if ready:
            page.wait_for_function(ready)
            page.wait_for_function(f"{STAGE}.stage.tokens")
            page.evaluate("() => document.fonts.ready")
        return page

    yield open_stage
    for page in pages:
        page.close()
    assert errors == []


def stage(page, expression):
    return page.evaluate(f"() => {STAGE}.{expression}")


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def whole(query=""):
    return serve.payload(dict(part.split("=") for part in query.split("&") if part), serve.serve_folder())


def shown(text):
    """A token as the page writes it."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def cell(page, t, j):
    """Centre of the heat map's cell on the screen."""
    page.locator(".lr-s-heat-plane").scroll_into_view_if_needed()
    return page.evaluate(
        f"([t, j]) => {{ const h = {STAGE}.stage.heat, b = h.plane.getBoundingClientRect();"
        " return [b.left + (t + 0.5) * h.cell.w, b.top + (j + 0.5) * h.cell.h]; }",
        [t, j],
    )


def pixel(page, t, j):
    return page.evaluate(
        f"([t, j]) => {{ const h = {STAGE}.stage.heat, c = h.canvas, r = c.width / parseFloat(h.plane.style.width);"
        # A quarter into the cell: its middle may hold text.
        " return [...c.getContext('2d').getImageData((t + 0.25) * h.cell.w * r, (j + 0.25) * h.cell.h * r, 1, 1).data];"
        " }",
        [t, j],
    )


def plain_values(run):
    """What each quantity is, by its definition: {name: rows of points × positions}, None where nothing is measured."""
    steps, positions = run["steps"], len(run["prefix"])
    nothing = [[None] * positions]
    kept = [[1.0] * positions]
    for s in steps:
        rows = zip(kept[-1], s["vertices"], run["prefix"], strict=True)
        kept.append([w * (1 - s["step_size"]) + (s["step_size"] if v == o else 0) for w, v, o in rows])
    return {
        "conflict": [[math.degrees(math.acos(c)) for c in s["grad_cosine"]] for s in steps] + nothing,
        "toward": [s["toward_grad_norm"] for s in steps] + nothing,
        "away": [s["away_grad_norm"] for s in steps] + nothing,
        "moved": [[0.0] * positions] + [s["moved"] for s in steps],
        "kept": kept,
        "vertex": [s["vertices"] for s in steps] + [[-1] * positions],
    }


# ---- numbers ----


def test_every_quantity_is_what_its_definition_says(opened):
    page = opened("state=completed&M=9&K=7")
    run = whole("M=9&K=7")
    # A vertex that is the original token itself gives weight back.
    run["steps"][2]["vertices"][4] = run["prefix"][4]
    page.evaluate("whole => lrSet({ ...whole, run_id: 'again', status: 'completed' })", run)
    for name, rows in plain_values(run).items():
        got = page.evaluate(
            f"key => Array.from({STAGE}.stage.table.get(key).data, (v) => Number.isNaN(v) ? null : v)", name
        )
        flat = [v for row in rows for v in row]
        assert [v is None for v in got] == [v is None for v in flat]
        known = [(a, b) for a, b in zip(got, flat, strict=True) if b is not None]
        assert [a for a, _ in known] == pytest.approx([b for _, b in known], rel=1e-4, abs=1e-6)


def plain_ranks(values):
    """Rank by counting: 1 + how many are smaller + half of the others that are equal."""
    return [1 + sum(o < v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]


def test_distances_are_compared_as_by_a_plain_count(opened):
    page = opened("state=empty", ready=None)
    rng = random.Random(17)
    cases = []
    for size in (3, 4, 5, 8, 24, 61):
        for kind in ("free", "alike", "ties"):
            full = [rng.uniform(0.1, 1) for _ in range(size)]
            seen = [rng.uniform(0.1, 1) if kind == "free" else f * rng.uniform(0.7, 1.4) for f in full]
            if kind == "ties":
                full, seen = [round(f, 1) for f in full], [round(s, 1) for s in seen]
            cases.append((seen, full))
    cases.append(([0.1, 0.2, 0.3, 0.4, None], [0.4, 0.5, 0.6, 0.7, 0.1]))
    cases.append(([1, 2, 3, 4, 5, 6], [3, 4, 1, 2, 6, 5]))  # 0.486: below one half by many small swaps, no single liar
    cases.append(([0.1, 0.2], [0.1, 0.2]))
    got = page.evaluate(
        """async (cases) => {
            const { compare } = await import('/lr/assets/stage/honesty.js');
            const real = (list) => list.map((v) => v ?? NaN);
            const plain = (r) => r && { ...r, rho: Number.isNaN(r.rho) ? null : r.rho };
            return cases.map(([a, b]) => plain(compare(real(a), real(b))));
        }""",
        cases,
    )
    assert got[-1] is None, "two positions have no order to speak of"
    assert {r["misleads"] for r in got[:-1]} == {True, False}
    for (seen, full), result in zip(cases[:-1], got, strict=False):
        known = [t for t, s in enumerate(seen) if s is not None]
        a, b = [seen[t] for t in known], [full[t] for t in known]
        ra, rb = plain_ranks(a), plain_ranks(b)
        rho = statistics.correlation(ra, rb) if len(set(ra)) > 1 and len(set(rb)) > 1 else None
        assert result["rho"] == (rho if rho is None else pytest.approx(rho, abs=1e-9))
        apart = [abs(x - y) for x, y in zip(ra, rb, strict=True)]
        at = apart.index(max(apart))
        worst = result["worst"]
        assert worst["t"] == known[at]
        assert worst["mapFurther"] == sum(v > a[at] for v in a)
        assert worst["fullFurther"] == sum(v > b[at] for v in b)
        assert worst["far"] == (ra[at] > rb[at])
        times = (a[at] / statistics.median(a)) / (b[at] / statistics.median(b))
        strong = times >= 1.5 if ra[at] > rb[at] else times <= 1 / 1.5
        low = rho is not None and rho < 0.5
        assert result["misleads"] == (low or (max(apart) >= (len(known) - 1) / 2 and strong))


def test_the_page_names_the_position_whose_distance_misleads_and_both_numbers(opened):
    page = opened("state=completed&M=24&K=10")
    run = whole("M=24&K=10")
    _, coords, _ = serve.vocabulary(serve.serve_folder())

    def place(i):
        return struct.unpack_from("<2f", coords, 8 * i)

    at = start = [place(i) for i in run["prefix"]]
    for s in run["steps"][:4]:
        at = [
            tuple((1 - s["step_size"]) * a + s["step_size"] * b for a, b in zip(p, place(v), strict=True))
            for p, v in zip(at, s["vertices"], strict=True)
        ]
    aspect = page.evaluate(f"() => {{ const p = {STAGE}.stage.map.pixels(); return p.sx / p.sy; }}")
    seen = [math.hypot(x - u, (y - v) / aspect) / 2 for (x, y), (u, v) in zip(at, start, strict=True)]
    # In the full space: as far as on the map, but for the two that the map shows falsest.
    order = sorted(range(24), key=lambda t: seen[t])
    for liar, moved, far in ((order[-1], 0.5 * min(seen), True), (order[0], 2 * max(seen), False)):
        full = [moved if t == liar else d for t, d in enumerate(seen)]
        steps = [{**s, "moved": full} if k == 3 else s for k, s in enumerate(run["steps"])]
        page.evaluate("([steps, id]) => lrSet({ steps, run_id: id })", [steps, f"liar-{liar}"])
        page.evaluate(f"() => {STAGE}.setPoint(4)")
        said = page.inner_text(".lr-s-caution")
        assert page.locator(".lr-s-caution-on").count() == 1
        assert re.search(rf"\bposition {liar + 1} looks as if", said)
        found = re.findall(r"\d+(?:\.\d+)?(?:e−\d+)?", said.split("looks as if")[1])
        numbers = [float(n.replace("e−", "e-")) for n in found]
        assert pytest.approx(100 * seen[liar], rel=0.06) in numbers
        assert pytest.approx(moved, rel=0.01) in numbers
        assert ("23 moved further than its" if far else "none moved further than its") in said
        correlation = statistics.correlation(plain_ranks(seen), plain_ranks(full))
        assert f"Rank correlation: {correlation:.2f}" in said
    # And without a liar the page says so quietly.
    steps = [{**s, "moved": seen} for s in run["steps"]]
    page.evaluate("steps => lrSet({ steps, run_id: 'honest' })", steps)
    page.evaluate(f"() => {STAGE}.setPoint(4)")
    assert page.locator(".lr-s-caution-on").count() == 0
    assert "much the same" in page.inner_text(".lr-s-caution")
    page.evaluate(f"() => {STAGE}.setPoint(0)")
    assert page.locator(".lr-s-caution-none").count() == 1, "at the start nothing has moved"


# ---- heat map ----


def test_a_click_in_the_heat_map_selects_the_position_and_goes_to_the_point(opened):
    page = opened()
    page.mouse.click(*cell(page, 17, 3))
    assert stage(page, "stage.selected") == 17
    assert stage(page, "point()") == 3
    assert page.get_attribute(".lr-s-chip >> nth=17", "aria-selected") == "true"
    assert "Position 18 of 24" in page.inner_text(".lr-s-readout")
    column, row = page.evaluate(
        "() => [...document.querySelectorAll('.lr-s-heat-mark')].map((m) => m.getBoundingClientRect().toJSON())"
    )
    x, y = cell(page, 17, 3)
    assert column["left"] < x < column["right"]
    assert row["top"] < y < row["bottom"]
    page.click(".lr-s-chip >> nth=2")
    page.evaluate(f"() => {STAGE}.setPoint(9)")
    moved = page.evaluate(
        "() => [...document.querySelectorAll('.lr-s-heat-mark')].map((m) => m.getBoundingClientRect().toJSON())"
    )
    x, y = cell(page, 2, 9)
    assert moved[0]["left"] < x < moved[0]["right"]
    assert moved[1]["top"] < y < moved[1]["bottom"]


def test_the_heat_map_says_what_is_under_the_pointer(opened):
    page = opened()
    run = whole()
    values = plain_values(run)
    page.mouse.move(*cell(page, 6, 5))
    line = ".lr-s-heat-line"
    token = shown(run["tokens"][str(run["prefix"][6])])
    angle = values["conflict"][5][6]
    said = page.inner_text(line)
    assert f"Position 7 {token}" in said
    assert f"point 5: {round(angle)}° between the two gradients" in said
    verdict = "in conflict" if angle < 82 else "in agreement" if angle > 98 else "independent"
    assert verdict in said
    page.select_option("[aria-label='Quantity of the heat map']", "moved")
    page.mouse.move(*cell(page, 6, 4))
    assert f"moved {values['moved'][4][6]:.3f}" in page.inner_text(line)
    page.select_option("[aria-label='Quantity of the heat map']", "vertex")
    page.mouse.move(*cell(page, 6, 2))
    assert shown(run["tokens"][str(values["vertex"][2][6])]) in page.inner_text(line)
    page.mouse.move(*cell(page, 6, 10))
    assert "measured by the step that leaves this point" in page.inner_text(line)


def test_the_keyboard_walks_the_heat_map_and_the_player_stays_put(opened):
    page = opened()
    page.evaluate(f"() => {{ {STAGE}.setPoint(5); {STAGE}.select(3); }}")
    page.focus(".lr-s-heat-plane")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert (stage(page, "point()"), stage(page, "stage.selected")) == (5, 3)
    live = page.text_content(".lr-s-heat .lr-s-sr[aria-live]")
    assert live.startswith("Position 6, ")
    assert "point 4:" in live
    page.keyboard.press("Enter")
    assert (stage(page, "point()"), stage(page, "stage.selected")) == (4, 5)
    page.keyboard.press("End")
    page.keyboard.press("PageDown")
    page.keyboard.press("Space")
    assert (stage(page, "point()"), stage(page, "stage.selected")) == (10, 23)
    assert not stage(page, "stage.playing")
    label = page.get_attribute(".lr-s-heat-plane", "aria-label")
    assert "24 positions" in label
    assert "points 0 to 10" in label


def test_the_heat_map_is_drawn_once_per_change_and_shows_the_values(opened):
    page = opened()
    settle(page)
    before = stage(page, "timings.heatDraws")
    for j in (0, 3, 9):
        page.evaluate(f"() => {{ {STAGE}.setPoint({j}); {STAGE}.select({j}); }}")
        settle(page)
    page.mouse.move(*cell(page, 4, 4))
    settle(page)
    assert stage(page, "timings.heatDraws") == before
    page.select_option("[aria-label='Quantity of the heat map']", "moved")
    settle(page)
    assert stage(page, "timings.heatDraws") == before + 1
    rows = plain_values(whole())["moved"]
    cells = sorted((rows[j][t], sum(pixel(page, t, j)[:3])) for t in range(0, 24, 5) for j in range(11))
    assert all(a[1] >= b[1] for a, b in itertools.pairwise(cells)), "the further, the darker"
    assert cells[0][1] > cells[-1][1] + 200
    light = pixel(page, 5, 0)
    page.evaluate("document.body.classList.add('dark')")
    page.wait_for_function(f"{STAGE}.timings.heatDraws > {before + 1}")
    assert pixel(page, 5, 0) != light
    legend = page.inner_text(".lr-s-heat-legend")
    assert legend.startswith("at its start 0")
    assert f"{max(max(r) for r in rows):.2f}" in legend


def test_a_scale_tells_of_what_lies_beyond_it(opened):
    page = opened()
    run = whole()
    run["steps"][0]["toward_grad_norm"][0] = 7.5  # one outlier must not wash out the rest
    page.evaluate("whole => lrSet({ ...whole, run_id: 'again', status: 'completed' })", run)
    page.select_option("[aria-label='Quantity of the heat map']", "toward")
    settle(page)
    assert "≥ 0.0" in page.inner_text(".lr-s-heat-legend")
    for s in run["steps"]:
        del s["grad_cosine"]
    page.evaluate("whole => lrSet({ ...whole, run_id: 'third', status: 'completed' })", run)
    page.select_option("[aria-label='Quantity of the heat map']", "conflict")
    settle(page)
    assert page.inner_text(".lr-s-heat-legend") == "Not measured in this run."


def test_before_the_first_step_the_views_say_what_will_be_there(opened):
    page = opened("state=fresh", ready=None)
    page.wait_for_selector(".lr-s-heat .lr-s-linked-blank")
    assert "first step" in page.inner_text(".lr-s-heat")
    assert "first step" in page.inner_text(".lr-s-picks")
    page.evaluate("lrSet({ steps: lrWhole.steps.slice(0, 2) })")
    page.wait_for_function(f"{STAGE}.timings.heatDraws > 0")
    assert page.locator(".lr-s-pick:visible").count() > 0


# ---- picked tokens ----


def test_picks_are_counted_up_to_the_shown_point(opened):
    page = opened()
    run = whole()
    for j in (4, 10, 7, 1):
        page.evaluate(f"() => {STAGE}.setPoint({j})")
        counts = Counter(v for s in run["steps"][:j] for v in s["vertices"])
        top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        total = sum(counts.values())
        assert f"24 positions × {j} step{'' if j == 1 else 's'} = {total} picks; {len(top)} different tokens." in (
            page.inner_text(".lr-s-picks")
        )
        rows = page.locator(".lr-s-pick:visible")
        assert rows.count() == min(12, len(top))
        for i, (token, n) in enumerate(top[:12]):
            said = rows.nth(i).inner_text()
            assert said.startswith(f"◆ {shown(run['tokens'][str(token)])}")
            assert f"{n} · {math.floor(100 * n / total + 0.5)} %" in said
            ratio = float(re.search(r"([\d.]+) × the median length", said)[1])
            assert ratio == pytest.approx(run["norms"][str(token)] / 3.6, rel=0.06)
        rest = len(top) - 12
        more = page.inner_text(".lr-s-picks .lr-s-w-rest")
        assert more == (f"and {rest} more, picked {sum(n for _, n in top[12:])} times together" if rest > 0 else "")
        short = sum(n for v, n in counts.items() if run["norms"][str(v)] < 3.6) / total
        assert f"{math.floor(100 * short + 0.5)} % of the picks are rows shorter" in page.inner_text(".lr-s-picks-why")
    page.evaluate(f"() => {STAGE}.setPoint(0)")
    assert page.locator(".lr-s-pick:visible").count() == 0
    assert "No step taken yet" in page.inner_text(".lr-s-picks")


def test_without_lengths_the_picks_keep_quiet_about_them(opened):
    page = opened()
    page.evaluate("lrSet({ norms: undefined, median_norm: undefined })")
    page.evaluate(f"() => {STAGE}.setPoint(6)")
    assert page.locator(".lr-s-pick:visible").count() == 12
    assert "median" not in page.inner_text(".lr-s-picks")


def test_choosing_a_pick_shows_what_it_pulled(opened):
    page = opened()
    run = whole()
    page.evaluate(f"() => {STAGE}.setPoint(6)")
    token = stage(page, "stage.picks.rows[1].id")
    pulled = sorted({t for s in run["steps"][:6] for t, v in enumerate(s["vertices"]) if v == token})
    other = next(t for t in range(24) if t not in pulled)
    page.evaluate(f"() => {STAGE}.select({other})")
    button = page.locator(".lr-s-pick").nth(1)
    button.click()
    settle(page)
    assert button.get_attribute("aria-pressed") == "true"
    assert stage(page, "stage.selected") == pulled[0]
    assert page.evaluate(f"[...{STAGE}.stage.map.paint.rings]") == pulled
    marked = "[...document.querySelectorAll('.lr-s-chip')].flatMap((c, t) => c.matches('.lr-s-pulled') ? [t] : [])"
    assert page.evaluate(marked) == pulled
    assert ", ".join(str(t + 1) for t in pulled) in page.inner_text(".lr-s-picks-pulled")
    assert page.locator(".lr-s-heat-veil").is_visible()
    # All else is veiled in the heat map; the token's own cells are not.
    veiled = page.evaluate(
        f"() => {{ const h = {STAGE}.stage.heat, c = h.veil, g = c.getContext('2d');"
        " return Array.from({ length: 240 }, (_, i) => g.getImageData((i % 24 + 0.5) * c.width / 24,"
        " (Math.floor(i / 24) + 0.5) * c.height / 11, 1, 1).data[3] > 0); }"
    )
    assert veiled == [v != token for s in run["steps"] for v in s["vertices"]]
    button.click()
    settle(page)
    assert page.evaluate(marked) == []
    assert stage(page, "stage.map.paint") is None
    assert page.locator(".lr-s-heat-veil").is_hidden()


# ---- colour of the points ----


def test_points_are_coloured_by_their_number_and_the_tip_says_it(opened):
    page = opened()
    run = whole()
    page.evaluate(f"() => {STAGE}.setPoint(6)")
    assert stage(page, "stage.map.paint") is None
    page.select_option("[aria-label='Colour points by']", "moved")
    settle(page)
    row = run["steps"][5]["moved"]
    most = max(m for s in run["steps"] for m in s["moved"])
    assert page.evaluate(f"Array.from({STAGE}.stage.map.paint.shades)") == [
        min(47, math.floor(48 * m / most)) for m in row
    ]
    assert f"{most:.2f} far" in page.inner_text(".lr-s-colour")
    page.select_option("[aria-label='Colour points by']", "toward")
    page.evaluate(f"() => {STAGE}.setPoint(10)")
    settle(page)
    assert "measured at point 9" in page.inner_text(".lr-s-colour")
    t, x, y = page.evaluate(
        f"() => {{ const m = {STAGE}.stage.map, b = m.surface.getBoundingClientRect();"
        " const far = [...Array(24).keys()].find((t) => ![...Array(24).keys()].some((u) => u !== t &&"
        " Math.hypot(m.at[2*t] - m.at[2*u], m.at[2*t+1] - m.at[2*u+1]) < 14));"
        " return [far, b.left + m.at[2 * far], b.top + m.at[2 * far + 1]]; }"
    )
    page.mouse.move(x, y)
    tip = page.inner_text(".lr-s-map-tip")
    assert f"Position {t + 1}" in tip
    assert f"‖toward gradient‖ {run['steps'][9]['toward_grad_norm'][t]:.4f}"[:-1] in tip
    page.select_option("[aria-label='Colour points by']", "plain")
    assert stage(page, "stage.map.paint") is None
    assert page.locator(".lr-s-colour .lr-s-scale").is_hidden()


@pytest.mark.parametrize("width", [400, 700, 900, 1120, 1440])
def test_the_map_keeps_its_size_while_coloured(opened, width):
    page = opened(width=width)
    page.select_option("[aria-label='Colour points by']", "conflict")
    # Plotly loads when its curves come near the window; their coming must not change the map either.
    page.locator(".lr-s-curves").scroll_into_view_if_needed()
    page.wait_for_selector(".lr-s-plot .scatterlayer .point")
    sizes = page.evaluate(
        f"""async () => {{
            const seen = new Set();
            for (let j = 0; j <= 10; j++) {{
                {STAGE}.setPoint(j);
                await new Promise((done) => requestAnimationFrame(done));
                const foot = document.querySelector('.lr-s-map-foot');
                seen.add([document.querySelector('.lr-s-map-surface').clientHeight, foot.clientHeight].join());
            }}
            return [...seen];
        }}"""
    )
    assert len(sizes) == 1


# ---- names, widths, long prefixes ----


def test_every_card_has_its_name_for_the_tour(opened):
    page = opened()
    for name in NAMES:
        assert page.locator(f"[data-tour='{name}']").count() == 1
        assert page.locator(f"[data-tour='{name}']").is_visible()


@pytest.mark.parametrize("width", [400, 690, 1440])
def test_a_long_prefix_stays_inside_its_card(opened, width):
    page = opened("state=completed&M=512&K=60", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.mouse.click(*cell(page, 20, 40))
    assert (stage(page, "stage.selected"), stage(page, "point()")) == (20, 40)
    page.evaluate(f"() => {STAGE}.select(500)")
    settle(page)
    box = page.locator(".lr-s-heat-mark").first.bounding_box()
    card = page.locator(".lr-s-heat").bounding_box()
    assert card["x"] < box["x"] < card["x"] + card["width"], "the selected position is scrolled into the card"


def test_512_positions_and_60_steps_scrub_and_draw_within_budget(opened):
    """Script time only: five times the benchmark's budget, as others use the machine of a test run as well. They can
    only add to it: the best of some rounds counts."""
    page = opened("state=completed&M=512&K=60")
    scrub = f"""async () => {{
            const stage = {STAGE}, out = [];
            stage.stage.colourBy('conflict');
            for (let i = 0; i < 20; i++) {{
                stage.setPoint((i * 7) % 61);
                out.push(stage.timings.scrub);
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            }}
            return out.sort((a, b) => a - b)[10];
        }}"""
    assert any(page.evaluate(scrub) < 250 for _ in range(5))
    draws = []
    for quantity in ("moved", "kept", "conflict", "toward", "away"):
        page.evaluate(f"key => {STAGE}.stage.heat.choose(key)", quantity)
        settle(page)
        draws.append(stage(page, "timings.heat"))
    assert min(draws) < 500


def test_text_of_a_model_stays_text_in_the_linked_views(opened):
    page = opened("state=completed&hostile=1&M=12")
    page.evaluate(
        "() => { const steps = structuredClone(lrWhole.steps);"
        " for (const s of steps) s.vertices = [...lrWhole.prefix.slice(0, 8), ...s.vertices.slice(8)];"
        " lrSet({ steps, run_id: 'hostile' }); }"
    )
    page.evaluate(f"() => {{ {STAGE}.setPoint(5); {STAGE}.stage.heat.choose('vertex'); }}")
    settle(page)
    assert page.locator(".lr-s-linked script, .lr-s-linked img").count() == 0
    assert "<script>" in page.inner_text(".lr-s-picks-list")
    assert "⟨202E⟩" in page.inner_text(".lr-s-picks-list")
