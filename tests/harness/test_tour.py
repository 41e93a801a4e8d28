"""The guided tour in headless Chromium, over the harness page with made-up runs: keyboard, what it does on the stage,
leaving and resuming, places, and its sentences against plain arithmetic on the payload."""

from __future__ import annotations

import math
import re
import threading

import pytest

from tests.chromium import PATIENCE_MS, launched

from . import serve

pytestmark = pytest.mark.browser
STAGE = "document.getElementById('host').lrStage"
TOTAL = 11
WIDE, PHONE = (1440, 900), (400, 800)


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
    """Open the tour's harness; an error on the page fails the test at its end."""
    errors, contexts = [], []

    def open_page(query="", size=WIDE, motion="reduce"):
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion=motion)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/tour?{query}")
        page.wait_for_function("window.lrReady")
        if "empty" not in query:
            # The map has drawn and named its tokens, so that nothing grows any more under the tour.
            page.wait_for_function(f"{STAGE}.timings.frames > 0 && {STAGE}.stage.tokens !== null")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def ask(page, stop=None):
    """As the button elsewhere does; then at rest on that stop."""
    page.evaluate("stop => document.dispatchEvent(new CustomEvent('lr-tour', { detail: { stop } }))", stop)
    if stop:
        settled(page, stop)


def settled(page, stop):
    page.wait_for_function("stop => document.querySelector('.lr-tour')?.dataset.settled === String(stop)", arg=stop)


def count(page):
    return page.inner_text(".lr-tour-count")


def text(page):
    """The sentences, with plain spaces."""
    return re.sub(r"\s+", " ", page.inner_text(".lr-tour-text").replace("\u00a0", " "))


def everything(page):
    return re.sub(r"\s+", " ", page.text_content(".lr-tour-card").replace("\u00a0", " "))


def view(page):
    return page.evaluate(f"() => ({{ point: {STAGE}.point(), selected: {STAGE}.stage.selected }})")


# ---- plain arithmetic, apart from hull.js ----


def num(x):
    """Three significant digits, as the page writes them."""
    if x and (abs(x) < 1e-3 or abs(x) >= 1e5):
        mantissa, exponent = f"{x:.1e}".split("e")
        return f"{mantissa}e{int(exponent):+d}".replace("-", "−")
    digits = 2 - math.floor(math.log10(abs(x) or 1))
    return f"{x:.{max(0, min(6, digits))}f}".replace("-", "−")


def percent(x):
    if 0 < x < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= x < 1 - 1e-8 else f"{math.floor(100 * x + 0.5)} %"


def mixture(run, t):
    weights = {run["prefix"][t]: 1.0}
    for step in run["steps"]:
        gamma = step["step_size"]
        weights = {token: w * (1 - gamma) for token, w in weights.items()}
        weights[step["vertices"][t]] = weights.get(step["vertices"][t], 0) + gamma
    return weights


def most_moved(run):
    moved = run["steps"][-1]["moved"]
    return moved.index(max(moved))


# ---- keyboard, and what each stop does on the stage ----


def test_every_stop_by_keyboard_alone_with_the_stage_where_it_says(opened):
    page = opened("M=24&K=10")
    run = page.evaluate("lrWhole")
    last, chosen = len(run["steps"]), most_moved(run)
    points = [0, 0, 0, last, 1, 1, last, last, last, last, last]
    page.focus("#start")
    page.keyboard.press("Enter")
    headings = []
    for stop in range(1, TOTAL + 1):
        settled(page, stop)
        assert count(page) == f"{stop} of {TOTAL}"
        seen = view(page)
        assert seen["point"] == points[stop - 1], stop
        if 3 <= stop <= 8:
            assert seen["selected"] == chosen, stop
        headings.append(page.inner_text(".lr-tour-heading"))
        assert page.evaluate("document.querySelector('.lr-tour-card').contains(document.activeElement)")
        if stop == 1:
            # The dialog itself has the focus: its controls follow in order, no further stop on the way.
            order = []
            for _ in range(4):
                page.keyboard.press("Tab")
                order.append(page.evaluate("document.activeElement.className.match(/lr-tour-[a-z]+/)[0]"))
            assert order == ["lr-tour-leave", "lr-tour-back", "lr-tour-dot", "lr-tour-next"]
        if stop < TOTAL:
            page.keyboard.press("Enter")
    assert len(set(headings)) == TOTAL
    page.keyboard.press("ArrowLeft")
    settled(page, TOTAL - 1)
    page.keyboard.press("Home")
    settled(page, 1)
    page.keyboard.press("ArrowLeft")
    assert count(page) == f"1 of {TOTAL}"
    page.keyboard.press("End")
    settled(page, TOTAL)


def test_a_selection_of_the_reader_gives_way_to_the_position_that_moved_most(opened):
    page = opened("M=24&K=10")
    chosen = most_moved(page.evaluate("lrWhole"))
    page.evaluate(f"{STAGE}.select({(chosen + 5) % 24})")
    ask(page, 4)
    assert view(page)["selected"] == chosen


def test_one_step_is_played_and_then_all_of_them(opened):
    page = opened("M=24&K=10", motion="no-preference")
    # Frames may be few on a loaded machine: what was asked of the stage's clock tells, not what a frame showed.
    page.evaluate(
        f"""() => {{
            const {{ stage }} = {STAGE};
            const glide = stage.glide;
            window.lrMoves = [];
            stage.glide = function (j, ...rest) {{
                lrMoves.push([this.point, j]);
                return glide.call(this, j, ...rest);
            }};
        }}"""
    )
    ask(page, 5)
    page.wait_for_function(f"{STAGE}.stage.shown === 1")
    assert page.evaluate("lrMoves") == [[0, 1]]
    page.evaluate("lrMoves.length = 0")
    ask(page, 7)
    # The pace is the tour's while it plays; the reader's own comes back, and what is left unplayed stops.
    assert page.evaluate(f"{STAGE}.stage.speed") > 1
    page.wait_for_function(f"{STAGE}.point() === 10")
    assert page.evaluate("lrMoves") == [[j, j + 1] for j in range(1, 10)]
    ask(page, 8)
    assert page.evaluate(f"{STAGE}.stage.speed") == 1
    ask(page, 7)
    page.wait_for_function(f"{STAGE}.stage.playing")
    ask(page, 6)
    assert page.evaluate(f"[{STAGE}.stage.playing, {STAGE}.point()]") == [False, 1]


@pytest.mark.parametrize("chosen", [None, "0.5"])
def test_a_speed_that_the_reader_chose_under_the_tour_stays(opened, chosen):
    page = opened("M=24&K=11", motion="no-preference")
    ask(page, 7)
    page.wait_for_function("document.querySelector('.lr-s-speed').value === '2'")  # ten steps in 4.5 s
    if chosen:
        page.select_option(".lr-s-speed", chosen)
    ask(page, 8)
    shown = page.evaluate(f"[document.querySelector('.lr-s-speed').value, {STAGE}.stage.speed]")
    assert shown == [chosen or "1", float(chosen or 1)]


def test_shares_that_round_alike_are_told_apart(opened):
    page = opened("bare=1")
    said = page.evaluate(
        """async () => {
            const { STOPS } = await import("/lr/assets/tour-stops.js");
            const stop = (id) => STOPS.find((one) => one.id === id);
            const luck = (low, high) => {
                const outcome = { revised: { correct: 9, interval: [low, 1] }, original: { interval: [0, high] } };
                return stop("real").formula({ outcome }).split(": ")[1];
            };
            const left = (left) => stop("steps").formula({ S: 3, left }).split("…")[1];
            return [luck(0.3141, 0.3092), luck(0.45, 0.31), luck(0.3, 0.004), left(0.35), left(0.001), left(0.999)];
        }"""
    )
    assert said == [
        "31.4 % > 30.9 % ✓ yes",
        "45 % > 31 % ✓ yes",
        "30.0 % > 0.4 % ✓ yes",
        " = 35 %",
        " < 1 %",
        " > 99 %",
    ]


def test_a_long_run_is_played_to_its_end_in_seconds(opened):
    page = opened("M=6&K=40", motion="no-preference")
    ask(page, 7)
    page.wait_for_function(f"{STAGE}.point() === 40")


def test_dots_jump(opened):
    page = opened()
    ask(page, 1)
    page.get_by_role("button", name=re.compile("^Stop 6")).click()
    settled(page, 6)
    assert page.get_attribute(".lr-tour-dot:nth-child(6)", "aria-current") == "step"


# ---- leaving, resuming ----


def test_leaving_keeps_the_place_and_the_focus_goes_back(opened):
    page = opened()
    states = "lrStates.at(-1)"
    assert page.evaluate(states) == {"stop": None, "total": TOTAL, "open": False}
    page.click("#start")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    settled(page, 4)
    assert page.evaluate(states) == {"stop": 4, "total": TOTAL, "open": True}
    page.keyboard.press("Escape")
    assert page.locator(".lr-tour").count() == 0
    assert page.evaluate("document.activeElement.id") == "start"
    assert page.evaluate(states) == {"stop": 4, "total": TOTAL, "open": False}
    page.reload()
    page.wait_for_function("window.lrReady")
    assert page.evaluate(states) == {"stop": 4, "total": TOTAL, "open": False}
    page.click("#start")
    settled(page, 4)
    page.get_by_role("button", name="Leave the tour").click()
    assert page.locator(".lr-tour").count() == 0
    ask(page, 11)
    page.get_by_role("button", name="Done").click()
    assert page.locator(".lr-tour").count() == 0
    assert page.evaluate(states) == {"stop": None, "total": TOTAL, "open": False}
    page.click("#start")
    settled(page, 1)


def test_no_trap_the_page_beside_the_card_stays_usable(opened):
    page = opened("M=24&K=10")
    ask(page, 4)
    page.click(".lr-s-chip >> nth=2", force=True)
    assert view(page)["selected"] == 2
    page.get_by_role("button", name="To the start (Home)").click()
    assert view(page)["point"] == 0
    assert count(page) == f"4 of {TOTAL}"
    page.keyboard.press("Escape")
    assert page.locator(".lr-tour").count() == 0


def test_escape_in_a_menu_of_the_page_leaves_the_tour_open(opened):
    page = opened("M=24&K=10")
    ask(page, 5)
    page.focus(".lr-s-speed")
    page.keyboard.press("Escape")
    assert count(page) == f"5 of {TOTAL}"


@pytest.mark.parametrize(("asked", "stop"), [("1", 1), ("5", 5), ("99", 11), ("yes", 1)])
def test_the_address_opens_it(opened, asked, stop):
    page = opened(f"tour={asked}")
    settled(page, stop)
    # A recorded run would play by itself once its map is there: not under a tour.
    page.wait_for_timeout(500)
    assert view(page)["point"] == {1: 0, 5: 1, 11: 10}[stop]


def test_forbidden_storage_is_no_error(opened):
    page = opened()
    page.evaluate("() => { Storage.prototype.setItem = Storage.prototype.getItem = () => { throw new Error('no'); }; }")
    ask(page, 3)
    page.keyboard.press("Escape")
    ask(page)
    settled(page, 1)


# ---- places ----


PLACES = """() => {
    const of = (el) => { const r = el.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
    const ring = document.querySelector('.lr-tour-ring');
    const target = document.lrTour.target;
    const { body } = document.lrTour;
    return {
        card: of(document.querySelector('.lr-tour-card')),
        ring: ring.hidden ? null : of(ring),
        target: target && of(target),
        window: [document.documentElement.clientWidth, innerHeight],
        wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        cut: body.scrollHeight - body.clientHeight,
    };
}"""


def overlap(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


@pytest.mark.parametrize("size", [WIDE, PHONE, (820, 1100), (360, 640)])
def test_the_card_never_covers_what_it_points_to(opened, size):
    page = opened("M=24&K=10&story=decoy", size)
    for stop in range(1, TOTAL + 1):
        ask(page, stop)
        seen = page.evaluate(PLACES)
        card, ring, target = seen["card"], seen["ring"], seen["target"]
        width, height = seen["window"]
        assert card[0] >= 0, stop
        assert card[1] >= 0, stop
        assert card[2] <= width + 1, stop
        assert card[3] <= height + 1, stop
        assert seen["wider"] <= 0, stop
        if size[0] < 640:
            assert card[3] - card[1] <= 0.45 * height + 1, stop
        if size in (WIDE, PHONE):
            assert seen["cut"] <= 1, stop
        if stop == TOTAL:
            assert ring is None  # nothing on this page to point to
            continue
        assert overlap(card, ring) == 0, stop
        # What is lit is the target, and of a target taller than the room that is left its upper part.
        lit = overlap(ring, target) / ((target[2] - target[0]) * (target[3] - target[1]))
        room = (height if card[3] < height - 13 or card[0] > 40 else card[1]) - 40
        assert lit > 0.97 or (ring[3] - ring[1] > 0.8 * room and 0 <= target[1] < 40), (stop, lit)


def test_the_spotlight_follows_the_reader_who_scrolls_or_resizes(opened):
    page = opened("M=24&K=10")
    ask(page, 6)
    before = page.evaluate(PLACES)
    page.mouse.move(20, 300)  # beside the map, which would take the wheel for itself
    page.mouse.wheel(0, 150)
    page.wait_for_function(
        "top => Math.abs(document.querySelector('.lr-tour-ring').getBoundingClientRect().top - top + 150) < 2",
        arg=before["ring"][1],
    )
    after = page.evaluate(PLACES)
    assert overlap(after["card"], after["ring"]) == 0
    assert after["ring"][0] == pytest.approx(after["target"][0] - 6, abs=1)
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_function(
        """() => {
            const [ring, target] = [document.querySelector('.lr-tour-ring'), document.lrTour.target];
            const [a, b] = [ring.getBoundingClientRect(), target.getBoundingClientRect()];
            return document.querySelector('.lr-tour').dataset.settled === '6' && Math.abs(a.left - b.left + 6) < 1;
        }"""
    )
    resized = page.evaluate(PLACES)
    assert resized["card"][2] <= 1000
    assert resized["ring"][2] <= 1000
    assert overlap(resized["card"], resized["ring"]) == 0


@pytest.mark.parametrize("query", ["bare=1", "empty=1"])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_without_its_targets_a_stop_still_stands(opened, query, size):
    page = opened(query, size)
    for stop in range(1, TOTAL + 1):
        ask(page, stop)
        assert count(page) == f"{stop} of {TOTAL}"
        seen = page.evaluate(PLACES)
        if query == "empty=1" or stop in (1, 9, 10, 11):
            assert seen["ring"] is None, stop
            if size == WIDE:
                assert seen["card"][0] + seen["card"][2] == pytest.approx(seen["window"][0], abs=2)
                assert seen["card"][1] + seen["card"][3] == pytest.approx(seen["window"][1], abs=2)
        words = everything(page)
        assert not re.search(r"undefined|NaN|null|\[object|Infinity", words), words
        if query == "empty=1":
            assert "In this run" not in text(page)


def test_the_last_stop_points_to_training_once_it_is_there(opened):
    page = opened("M=24&K=10")
    ask(page, 11)
    assert page.evaluate(PLACES)["ring"] is None
    page.evaluate(
        """() => {
            const el = Object.assign(document.createElement('div'), { id: 'lr-train', textContent: 'Training' });
            document.querySelector('main').append(el);
        }"""
    )
    page.wait_for_function("!document.querySelector('.lr-tour-ring').hidden")
    seen = page.evaluate(PLACES)
    assert overlap(seen["card"], seen["ring"]) == 0


# ---- words and numbers ----

RUNS = [
    "M=24&K=10",
    "M=24&K=10&story=missed",
    "M=24&K=10&story=decoy",
    "M=24&K=10&story=hit",
    "M=24&K=10&story=none",
    "M=24&K=10&story=sure",
    "M=7&K=3&gamma=0.2&away=0",
    "M=24&K=10&rule=harmonic&projection=cosine",
    "M=24&K=10&final=0",
    "M=24&K=1&final=0",
    "M=24&K=10&S=0",
    "M=24&K=10&hostile=1",
    "M=1&K=2&gamma=1",
]


@pytest.mark.parametrize("query", RUNS)
def test_no_sentence_has_a_hole_or_runs_long(opened, query):
    page = opened(query)
    for stop in range(1, TOTAL + 1):
        ask(page, stop)
        words = everything(page)
        assert not re.search(r"undefined|NaN|null|\[object|Infinity|\*|_", words.replace("noqa", "")), words
        assert len(text(page).split()) <= 58, text(page)
        assert page.inner_text(".lr-tour-equation").strip()
    assert page.evaluate("document.querySelectorAll('.lr-tour script, .lr-tour img').length") == 0


@pytest.mark.parametrize("query", ["M=24&K=10", "M=24&K=10&rule=harmonic", "M=9&K=4&gamma=0.12&final=0"])
def test_numbers_are_those_of_the_run(opened, query):
    page = opened(query)
    run = page.evaluate("lrWhole")
    steps, final = run["steps"], run["final"]
    last, t = len(steps), most_moved(run)
    said = {}
    for stop in range(1, TOTAL + 1):
        ask(page, stop)
        said[stop] = text(page) + " | " + page.inner_text(".lr-tour-equation").replace("\u00a0", " ")
    assert "none of 8 tries was right" in said[1]
    assert f"{len(run['prefix'])} prefix tokens and {len(run['continuation'])} failed tokens" in said[2]
    degrees = round(math.degrees(math.acos(steps[0]["grad_cosine"][t])))
    assert f"at position {t + 1} the two are {degrees}° apart" in said[3]
    weights = mixture(run, t)
    for weight in sorted(weights.values(), reverse=True)[:3]:
        assert f"{percent(weight)} “" in said[4]
    if len(weights) > 3:
        assert f"and {len(weights) - 3} more token" in said[4]
    assert f"at position {t + 1} goes {percent(steps[0]['step_size'])} of the way" in said[5]
    end, after = (final, last) if final else (steps[-1], last - 1)
    assert f"from {num(steps[0]['gap'])} at the start to {num(end['gap'])} after {after} steps" in said[6]
    left = math.prod(1 - step["step_size"] for step in steps)
    kept = [mixture(run, p)[token] for p, token in enumerate(run["prefix"])]
    share = percent(min(kept))
    if percent(max(kept)) != share:
        share += f" to {percent(max(kept))}"
    assert f"so after {last} steps {share} of the original token is left" in said[7]
    assert said[7].endswith(f"= {percent(left)}")
    assert f"Toward {num(steps[0]['toward_loss'])} → {num(end['toward_loss'])}" in said[7]
    assert f"away {num(steps[0]['away_loss'])} → {num(end['away_loss'])}" in said[7]
    if "rule" in query:
        assert f"γ runs from {steps[0]['step_size']:.3g} to {steps[-1]['step_size']:.3g}" in said[7]
    else:
        assert f"γ = {steps[0]['step_size']:.3g}, so" in said[7]
    changed = sum(a != b for a, b in zip(run["prefix"], steps[-1]["nearest"], strict=True))
    assert f"{changed or 'none'} of {len(run['prefix'])} positions" in said[8]


@pytest.mark.parametrize(
    ("story", "before_after", "real", "training"),
    [
        (
            "rescued",
            "4 of 8 tries are right with the revision; without it, 0 of 8: rescued",
            "may be luck; the decoy can’t be told apart: it may be smuggled",
            "4 right tries",
        ),
        (
            "missed",
            "0 of 8 tries are right with the revision; without it, 0 of 8: not rescued",
            "no rescue to doubt",
            "nothing to",
        ),
        ("decoy", "4 of 8", "the decoy does as well: no sign of reasoning", "4 right tries"),
        ("hit", "3 of 8 tries are right with the revision; without it, 2 of 8", "no decoy was tried", "4 right tries"),
        ("none", "nothing has been continued yet", "nothing to judge", "nothing to train on"),
        ("sure", "32 of 40", "hardly luck; the decoy falls clearly behind", "35 right tries"),
    ],
)
def test_verdicts_are_those_of_the_counts(opened, story, before_after, real, training):
    page = opened(f"M=24&K=10&story={story}")
    ask(page, 9)
    assert before_after in text(page)
    ask(page, 10)
    assert real in text(page)
    formula = page.inner_text(".lr-tour-equation").replace("\u00a0", " ")
    outcome = page.evaluate("lrStory.outcome")
    if outcome and outcome["revised"]["correct"]:
        low, high = outcome["revised"]["interval"][0], outcome["original"]["interval"][1]
        assert f"{percent(low)} > {percent(high)} {'✓ yes' if low > high else '✗ no'}" in formula
    else:
        assert "%" not in formula
    ask(page, 11)
    assert training in text(page)


def test_first_stop_says_when_a_run_is_not_zero_hit(opened):
    page = opened("story=hit")
    ask(page, 1)
    assert "2 of 8 tries were right, so this one is not zero-hit" in text(page)


def test_a_switched_off_gradient_is_told(opened):
    page = opened("M=9&K=3&away=0")
    ask(page, 3)
    assert "switched off in this run (λ = 0)" in text(page)
    assert "apart" not in text(page)


def test_another_run_on_the_stage_is_told_of_and_an_alien_story_is_not(opened):
    page = opened("M=24&K=10")
    ask(page, 7)
    assert "so after 10 steps" in text(page)
    page.evaluate("lrShow({ run_id: 'other', steps: lrWhole.steps.slice(0, 4), final: null })")
    page.wait_for_function("document.querySelector('.lr-tour-text').textContent.includes('so after 4 steps')")
    settled(page, 7)
    assert view(page)["point"] == 4
    # The story is still the first run's: none of its counts may be told of this one.
    ask(page, 9)
    assert "4 of 8" not in text(page)
