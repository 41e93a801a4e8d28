"""The rollout and compare views in headless Chromium, driven by payloads: what is drawn, kept, announced and sent."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import pytest

from explorer.statistics import wilson_interval
from explorer.views.success import percent, spread
from tests.chromium import PATIENCE_MS, launched

from . import payloads as p

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.browser


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def harness():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=ROOT))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/tests/harness_cards/index.html"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def opened(harness, chromium):
    """Open a view with a payload; page errors fail the test at its end."""
    errors, pages = [], []

    def open_view(view, value, width=1440):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{harness}?view={view}")
        page.wait_for_function("window.lr")
        show(page, value)
        return page

    yield open_view
    for page in pages:
        page.close()
    assert errors == []


def show(page, value):
    page.evaluate(
        "async v => { lr.set(v); await new Promise(f => requestAnimationFrame(() => setTimeout(f))); }", value
    )


def events(page, name):
    """What was said, but for the turns, which only rise."""
    return page.evaluate("name => lr.events.filter(e => e[0] === name).map(([, { turn, ...data }]) => data)", name)


def rest(page):
    """Wait on the page's own clock, so that the 150 ms before sending are over however slow the machine is."""
    page.evaluate("new Promise(done => setTimeout(done, 200))")


def cut(page):
    """(tokens in the prefix, in the failed continuation, not used) as they are drawn."""
    zones = (".lr-zone-prefix", ".lr-zone-failed", ".lr-zone-unused")
    return tuple(page.locator(f".lr-split-flow {zone} .lr-token").count() for zone in zones)


def test_streaming_appends_and_keeps_every_node(opened):
    page = opened("rollouts", p.streaming(4))
    page.evaluate("window.kept = [...document.querySelectorAll('.lr-card, .lr-token')]")
    show(page, p.streaming(9))
    assert page.evaluate("kept.every(node => node.isConnected)")
    assert page.locator(".lr-card").first.locator(".lr-token").count() == 9
    show(page, p.rollouts())
    assert page.evaluate("kept.every(node => node.isConnected)")
    assert page.locator(".lr-card-text").nth(1).text_content() == p.TEXTS[1]


def test_a_new_run_with_other_texts_replaces_the_old(opened):
    page = opened("rollouts", p.rollouts(split=p.split(5, 12), presets=p.presets()))
    assert page.locator(".lr-split").is_visible()
    show(page, p.streaming(3) | {"problem": p.PROBLEM | {"id": "other", "question": "Another?"}})
    assert page.locator(".lr-split").is_hidden()
    assert page.locator(".lr-card").first.locator(".lr-token").count() == 3


def test_head_line_states_n_pass_and_interval(opened):
    page = opened("rollouts", p.rollouts())
    assert page.locator(".lr-headline").text_content() == "1 of 4 correct · pass@4 = 1"
    low, high = p.wilson(1, 4)
    assert f"{round(100 * low)}–{round(100 * high)}" in page.locator(".lr-roll-rate").text_content()
    none = {"n": 4, "correct": 0, "wrong": 3, "unjudged": 1, "truncated": 0, "zero_hit": True, "interval": [0, 0.49]}
    show(page, p.rollouts(summary=none))
    assert page.locator(".lr-headline").text_content() == "0 of 4 correct · pass@4 = 0 · zero-hit"
    assert "nothing to learn from here" in page.locator(".lr-roll-sentence").text_content()


def test_only_failed_rollouts_can_be_picked(opened):
    page = opened("rollouts", p.rollouts())
    visible = [page.locator(".lr-card-pick").nth(i).is_visible() for i in range(4)]
    assert visible == [True, True, True, False]
    assert "nothing to revise" in page.locator(".lr-card").nth(3).text_content()
    page.locator(".lr-card").nth(3).click()
    assert events(page, "pick") == []
    page.locator(".lr-card-pick").nth(1).click()
    assert events(page, "pick") == [{"rollout": 1, "run_id": "mine"}]
    assert page.locator(".lr-card-pick").nth(1).get_attribute("aria-pressed") == "true"
    assert page.locator(".lr-split").is_visible()


def test_clicking_a_token_ends_the_prefix_before_it(opened):
    total = len(p.tokens(p.TEXTS[0]))
    page = opened("rollouts", p.rollouts(split=p.split(5, total - 5), presets=p.presets()))
    assert cut(page) == (5, total - 5, 0)
    page.locator(".lr-split-flow [data-i='8']").click()
    assert cut(page) == (8, total - 8, 0)
    assert page.locator(".lr-split-flow").text_content() == p.TEXTS[0]
    page.locator(".lr-split-flow [data-i='0']").click()
    assert cut(page) == (8, total - 8, 0)
    assert "at least one token" in page.locator(".lr-split-why").text_content()
    rest(page)
    assert events(page, "split") == [{"rollout": 0, "m": 8, "name": "custom", "run_id": "mine"}]


def test_the_handle_is_a_slider_and_sends_once_after_a_rest(opened):
    total = len(p.tokens(p.TEXTS[0]))
    page = opened("rollouts", p.rollouts(split=p.split(5, total - 5), presets=p.presets()))
    handle = page.locator("[role=slider]")
    handle.focus()
    page.keyboard.press("ArrowRight")
    rest(page)
    assert events(page, "split") == [{"rollout": 0, "m": 6, "name": "custom", "run_id": "mine"}]
    # Three at once: a key press through the driver may take longer than the rest that ends a movement.
    press = "node.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))"
    handle.evaluate(f"node => {{ {press}; {press}; {press}; }}")
    assert handle.get_attribute("aria-valuenow") == "9"
    assert handle.get_attribute("aria-valuetext").startswith("Prefix of 9")
    rest(page)
    assert [event["m"] for event in events(page, "split")] == [6, 9]
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert cut(page) == (total - 1, 1, 0)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert cut(page) == (1, total - 1, 0)
    assert page.evaluate("document.activeElement.getAttribute('role')") == "slider"


def test_the_handle_can_be_dragged(opened):
    page = opened("rollouts", p.rollouts(split=p.split(5, 20), presets=p.presets()))
    box = page.locator("[role=slider]").bounding_box()
    goal = page.locator(".lr-split-flow [data-i='10']").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(goal["x"] + 3, goal["y"] + goal["height"] / 2, steps=8)
    page.mouse.up()
    assert abs(cut(page)[0] - 10) <= 1
    rest(page)
    assert events(page, "split")[-1]["m"] == cut(page)[0]


def test_older_echoes_never_move_the_newest_choice(opened):
    total = len(p.tokens(p.TEXTS[0]))

    def echo(m, **more):
        return p.rollouts(split=p.split(m, total - m, **more), presets=p.presets())

    page = opened("rollouts", echo(5))
    page.locator(".lr-split-flow [data-i='8']").click()
    show(page, echo(5))  # Python has not heard of it yet
    assert cut(page)[0] == 8
    rest(page)
    page.locator(".lr-split-flow [data-i='10']").click()
    show(page, echo(8, name="custom"))  # the echo of the first click
    assert cut(page)[0] == 10
    rest(page)
    show(page, echo(8, name="custom"))
    assert cut(page)[0] == 10
    show(page, echo(10, name="custom"))
    show(page, echo(4))  # nothing is on its way any more: Python means it
    assert cut(page)[0] == 4


def test_a_correction_from_python_is_taken(opened):
    total = len(p.tokens(p.TEXTS[0]))
    page = opened("rollouts", p.rollouts(split=p.split(5, total - 5)))
    page.locator(".lr-split-flow [data-i='9']").click()
    rest(page)
    show(page, p.rollouts(split=p.split(7, total - 7, why="Cut to the context.")))
    assert cut(page)[0] == 7
    assert page.locator(".lr-split-why").text_content() == "Cut to the context."


def test_presets_say_why_and_why_not(opened):
    page = opened("rollouts", p.rollouts(split=p.split(9, 15, name="custom"), presets=p.presets()))
    buttons = page.locator(".lr-split .lr-segments .lr-button")
    assert buttons.nth(1).get_attribute("aria-disabled") == "true"
    assert "No equation here." in page.locator(f"#{buttons.nth(1).get_attribute('aria-describedby')}").text_content()
    buttons.nth(1).click(force=True)
    assert cut(page)[0] == 9
    buttons.nth(0).click()
    assert cut(page)[0] == 5
    assert page.locator(".lr-split-why").text_content() == "A fixed length."
    rest(page)
    assert events(page, "split") == [{"rollout": 0, "m": 5, "name": "fixed", "run_id": "mine"}]


def test_tokens_past_the_limit_are_shown_as_not_used(opened):
    page = opened("rollouts", p.rollouts(split=p.split(5, 8)))
    total = len(p.tokens(p.TEXTS[0]))
    assert cut(page) == (5, 8, total - 13)
    page.locator(".lr-split-flow [data-i='7']").click()
    assert cut(page) == (7, 8, total - 15)


@pytest.mark.parametrize("width", [1440, 400])
def test_hostile_tokens_stay_text_and_nothing_scrolls_sideways(opened, width):
    cards = [p.rollout(0, p.HOSTILE, "wrong", "<b>1</b>", "length"), p.rollout(1, ["X" * 200] * 3, "wrong", "Y" * 200)]
    page = opened("rollouts", p.rollouts(rollouts=cards, split=p.split(3, 14)), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".lr-root script, .lr-root img, .lr-root b").count() == 0
    text = page.locator(".lr-split-flow").text_content()
    assert "<script>window.hacked=1</script> `${x}`" in text
    assert "U+202E" in text
    assert "\u202e" not in text
    page = opened("compare", p.compare(hostile=True), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".lr-root script, .lr-root img, .lr-root b").count() == 0
    assert page.evaluate("window.hacked") is None


def test_compare_opens_on_the_first_correct_revised_continuation(opened):
    page = opened("compare", p.compare())
    chosen = page.locator("[role=radio][aria-checked=true]")
    assert [chosen.nth(i).get_attribute("aria-label") for i in range(2)] == [
        "Revised prefix: 1 of 3 correct",
        "Continuation 2: Correct",
    ]
    assert page.locator(".lr-headline").text_content() == "Rescued: 1 of 3 is right."
    label = page.locator(".lr-arm .lr-rate").first.get_attribute("aria-label")
    assert label.startswith("1 of 3 correct")
    bar, track = (page.locator(f".lr-arm .lr-rate-{part}").first.bounding_box() for part in ("bar", "track"))
    assert bar["width"] / track["width"] == pytest.approx(1 / 3, abs=0.01)
    whisker = page.locator(".lr-arm .lr-rate-whisker").first.bounding_box()
    low, high = p.wilson(1, 3)
    assert (whisker["x"] - track["x"]) / track["width"] == pytest.approx(low, abs=0.01)
    assert (whisker["x"] + whisker["width"] - track["x"]) / track["width"] == pytest.approx(high, abs=0.01)


def test_both_columns_part_on_the_same_row(opened):
    page = opened("compare", p.compare())
    parts = page.locator(".lr-part")
    page.wait_for_function(
        "() => { const [a, b] = [...document.querySelectorAll('.lr-part')].map((e) => e.getBoundingClientRect().top);"
        " return Math.abs(a - b) <= 1; }"
    )
    boxes = [parts.nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=1)
    assert page.locator(".lr-parting").all_text_contents() == [" 9", " 6"]
    assert page.locator(".lr-changed").all_text_contents() == [" Michael"]
    marked = "".join(page.locator(".lr-reflection").all_text_contents())
    assert marked == "Wait let me check"
    assert "".join(page.locator(".lr-col[data-kind=after] .lr-stated").all_text_contents()) == " 102"
    page.set_viewport_size({"width": 400, "height": 900})
    before, after = (page.locator(".lr-col").nth(i).bounding_box() for i in range(2))
    assert after["y"] >= before["y"] + before["height"]


def test_continuations_are_chosen_by_keyboard(opened):
    page = opened("compare", p.compare())
    page.locator("[role=radio][aria-checked=true]").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Continuation 3: Wrong"
    assert events(page, "show") == [{"start": "revised", "index": 2}]
    show(page, p.compare())  # a later payload leaves the reader's choice alone
    assert "continuation 3" in page.locator(".lr-col-title").nth(1).text_content()
    assert page.locator("[role=radio][tabindex='0']").count() == 2


def _sampled_so_far(*starts):
    """The comparison while it runs: of the other starts nothing is there yet."""
    none = {"done": 0, "correct": 0, "wrong": 0, "unjudged": 0, "interval": [0.0, 1.0], "rollouts": []}
    value = p.compare(state="sampling", rescue=None)
    value["arms"] = [arm if arm["start"] in starts else arm | none for arm in value["arms"]]
    return value


def test_what_is_not_sampled_yet_is_not_chosen_and_takes_nothing_away(opened):
    page = opened("compare", _sampled_so_far("revised"))
    projected = page.get_by_role("radio", name="Projected prefix: nothing sampled yet")
    assert projected.get_attribute("aria-disabled") == "true"
    projected.click(force=True)
    page.get_by_role("radio", name="Revised prefix").focus()
    page.keyboard.press("ArrowRight")
    assert events(page, "show") == []
    assert page.locator(".lr-side").is_visible()
    # Where not even the revised prefix was gone on from, what there is shows, and can be leafed through.
    show(page, _sampled_so_far("original"))
    assert page.get_by_role("radio", name="Original prefix").get_attribute("aria-checked") == "true"
    page.get_by_role("radio", name="Continuation 3").click()
    assert events(page, "show") == [{"start": "original", "index": 2}]
    show(page, p.compare())
    projected = page.get_by_role("radio", name="Projected prefix: 0 of 3 correct")
    assert projected.get_attribute("aria-disabled") is None
    projected.click()
    assert projected.get_attribute("aria-checked") == "true"


def test_of_nothing_no_interval_is_drawn(opened):
    page = opened("compare", _sampled_so_far("revised"))
    drawn = page.locator(".lr-arm .lr-rate-whisker")
    assert [drawn.nth(i).is_visible() for i in range(3)] == [True, False, False]


@pytest.mark.parametrize("verdict", ["wrong", "correct"])
def test_the_first_of_more_cards_takes_the_focus(opened, verdict):
    texts = p.tokens(p.TEXTS[0])
    cards = [p.rollout(i, texts, verdict, "92") for i in range(40)]
    page = opened("rollouts", p.rollouts(rollouts=cards))
    page.get_by_role("button", name="Show 8 more of 8 hidden rollouts").click()
    held = "document.querySelectorAll('.lr-card')[32].contains(document.activeElement)"
    assert page.evaluate(f"{held} && document.activeElement.tagName") == ("BUTTON" if verdict == "wrong" else "LI")


def test_the_first_of_more_prompts_takes_the_focus(opened):
    count = {"x": 0, "n": 8, "interval": p.wilson(0, 8)}
    row = dict.fromkeys(("error", "not_revised", "finding", "more", "revised", "projected", "original"))
    row |= {"family": "rates", "question": "What?", "answer": "1", "before": count, "zero_hit": True, "rescued": False}
    rows = [row | {"problem": f"rates-{i}", "run": f"run-{i}", "stage": True} for i in range(203)]
    table = {"hunt": "h", "mark": "1", "n": 8, "wide": 0, "settings": "", "rows": rows, "families": [], "words": "So."}
    page = opened("hunt-table", table)
    page.get_by_role("button", name="Show all 203").click()
    assert page.evaluate("document.activeElement.textContent") == "rates-200"


def test_what_is_read_out_of_a_model_on_its_way_holds_no_per_cent(opened):
    loading = {"state": "loading", "progress": 0.31, "message": "Downloading", "model": None, "map": None}
    page = opened("header", loading)
    told = page.get_by_role("status")
    assert told.text_content() == "The model is on its way"
    page.evaluate(
        """() => {
            window.changes = 0;
            const all = { childList: true, characterData: true, subtree: true };
            const count = new MutationObserver((seen) => (changes += seen.length));
            count.observe(document.querySelector("[role=status]"), all);
        }"""
    )
    show(page, loading | {"progress": 0.32})
    assert page.locator(".lr-head-detail").text_content() == "Downloading · 32 %"
    assert page.evaluate("changes") == 0
    show(page, loading | {"state": "failed", "message": "It is not there."})
    assert told.text_content() == "No model"


def test_a_training_that_is_refused_leaves_its_form_open(opened):
    from explorer.views.train import form_payload, plan_payload

    presets = {method: {"sources": ["runs"], "updates": 9} for method in ("sft", "grpo", "dpo")}
    form = form_payload([{"id": "runs", "label": "Runs", "runs": 3}], [], presets, "cpu")
    page = opened("train-form", form | {"plan": plan_payload(name="mine")})

    def seen(trainings, shown):
        detail = {"trainings": trainings, "shown": shown}
        page.evaluate("detail => document.dispatchEvent(new CustomEvent('lr-train-seen', { detail }))", detail)

    def start():
        page.get_by_role("button", name="Start the training").click()
        return page.evaluate("lr.events.filter(([name]) => name === 'begin').length")

    folded = "!document.querySelector('.lr-hf').open"
    seen(0, None)
    assert start() == 1
    assert not page.evaluate(folded)
    seen(1, "other")  # where something else runs
    assert not page.evaluate(folded)
    page.wait_for_function("lr.events.at(-1)[0] === 'plan'")
    ticket = page.evaluate("lr.events.at(-1)[1].ticket")
    show(page, form | {"plan": plan_payload(name="mine", ticket=ticket)})
    assert start() == 2, "the button is back"
    seen(2, "mine")
    assert page.evaluate(folded)


def test_empty_states_say_what_to_do(opened):
    for view in ("rollouts", "compare"):
        page = opened(view, None)
        assert page.locator(".lr-empty").is_visible()
        assert "yet" in page.locator(".lr-empty").text_content()


def test_a_training_that_was_started_elsewhere_is_asked_after_while_it_is_live(opened):
    """And no longer once its process has written nothing for a while."""
    from explorer.views.train_progress import status_payload

    told = {"state": "running", "update": 7, "updates": 20, "stage": "training", "at": 1e9}
    live, gone = (status_payload([("t", "t")], "t", None, told, beat=n, now=1e9 + s) for n, s in ((1, 5), (2, 9999)))
    page = opened("train", live)
    page.evaluate("document.body.dataset.lrMode = 'train'; lr.events.length = 0")
    page.evaluate("document.addEventListener('lr-train-seen', ({ detail }) => (window.lrSeen = detail))")
    page.wait_for_function("lr.events.some(([name, data]) => name === 'look' && data.training === 't')")
    assert page.locator(".lr-hunt-state").text_content() == "▶running, started elsewhere"
    assert page.locator(".lr-hunt-stage").text_content() == "training"
    show(page, gone)
    page.evaluate("lr.events.length = 0")
    page.evaluate("new Promise(done => setTimeout(done, 2500))")  # two beats
    assert page.evaluate("lr.events.length") == 0
    assert page.locator(".lr-hunt-state").text_content() == "Started elsewhere"
    assert page.evaluate("lrSeen") == {"trainings": 1, "shown": "t"}


def test_small_rates_read_alike_in_python_and_in_the_browser(opened):
    page = opened("rollouts", p.rollouts())
    pairs = [wilson_interval(k, n) for n in (8, 400, 1024, 100_000) for k in (0, 1, n // 2, n - 1, n)]
    there = page.evaluate(
        "async (pairs) => { const m = await import('../../assets/tokens.js');"
        " return pairs.map((pair) => [m.interval(pair), m.percent(pair[0]), m.percent(pair[1])]); }",
        pairs,
    )
    assert there == [[spread({"interval": pair}), percent(pair[0]), percent(pair[1])] for pair in pairs]
    assert there[10][0] == "0–0.4\u202f%"
    assert there[14][0] == "99.6–100\u202f%"
