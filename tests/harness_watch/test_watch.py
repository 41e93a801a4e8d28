"""Gallery, story, success curve, address and dropping in headless Chromium: what is drawn, kept, announced and sent."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import threading
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from explorer.records import Start
from explorer.views.success import curve_steps, success_payload
from explorer.views.watch import watch_payload
from tests.chromium import PATIENCE_MS, launched

from . import traces as t

ROOT = Path(__file__).parents[2]
GRADIO = Path(importlib.util.find_spec("gradio").origin).parent
FONTS = GRADIO / "templates" / "frontend" / "static" / "fonts"
pytestmark = pytest.mark.browser


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def translate_path(self, path):
        """The page's fonts are Gradio's: with others the measured heights would be another machine's."""
        _, found, font = path.partition("/static/fonts/")
        return str(FONTS / font) if found else super().translate_path(path)


@pytest.fixture(scope="module")
def harness():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=ROOT))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/tests/harness_watch/index.html"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def opened(harness, chromium):
    """Open a view in a tab of its own with a payload; page errors fail the test at its end."""
    errors, contexts = [], []

    def open_view(view, value, width=1440, query="", permissions=()):
        context = chromium.new_context(viewport={"width": width, "height": 900}, permissions=list(permissions))
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{harness}?view={view}{query}")
        page.wait_for_function("window.lr")
        show(page, value)
        return page

    yield open_view
    for context in contexts:
        context.close()
    assert errors == []


def show(page, value):
    page.evaluate(
        "async v => { lr.set(v); await new Promise(f => requestAnimationFrame(() => setTimeout(f))); }", value
    )


def events(page, name):
    return page.evaluate("name => lr.events.filter(e => e[0] === name).map(e => e[1])", name)


def watching(index=0, hostile=False, **more):
    runs = t.gallery(hostile)
    return watch_payload(runs, runs[index].trace, t.token_text, run_id=runs[index].id, **{"replayable": True, **more})


def curve(*counts, steps=10, **more):
    after = [item for k, correct in counts for item in t.arm(Start.REVISED, k, correct)]
    return success_payload(t.trace(after, steps=steps), run_id="mine", **more)


# ---- mode ----


def test_watch_is_the_default_and_hides_the_making(opened):
    page = opened("watch", watching())
    assert page.evaluate("document.body.dataset.lrMode") == "watch"
    assert page.locator("#lr-section-problem").is_hidden()
    page.get_by_role("radio", name="Run it yourself").click()
    assert page.locator("#lr-section-problem").is_visible()
    assert page.locator("#lr-section-rollouts").is_visible()
    assert page.locator(".lr-runs").first.is_hidden()
    assert page.locator(".lr-story").is_hidden()
    assert page.get_by_role("radio", name="Watch recorded runs").is_visible()
    assert page.evaluate("lr.heard") == [["lr-mode", {"mode": "make"}]]


def test_without_the_script_it_is_watch_mode(opened):
    page = opened("watch", None)
    page.evaluate("delete document.body.dataset.lrMode")
    assert page.locator("#lr-section-problem").is_hidden()
    assert page.locator(".lr-run-ghost").first.is_visible()


def test_the_mode_is_remembered_in_the_tab_and_switched_by_keys(opened):
    page = opened("watch", watching())
    page.get_by_role("radio", name="Watch recorded runs").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "Run it yourself"
    assert page.evaluate("document.body.dataset.lrMode") == "make"
    page.reload()
    page.wait_for_function("window.lr")
    assert page.evaluate("document.body.dataset.lrMode") == "make"
    page.evaluate("document.dispatchEvent(new CustomEvent('lr-set-mode', { detail: { mode: 'watch' } }))")
    assert page.get_by_role("radio", name="Watch recorded runs").get_attribute("aria-checked") == "true"
    assert page.locator("[role=radio][tabindex='0']").count() == 1


# ---- gallery and story ----


def test_a_card_opens_its_run_and_says_so_until_it_is_there(opened):
    page = opened("watch", watching())
    cards = page.locator(".lr-run")
    assert cards.count() == 7
    assert page.locator(".lr-run[aria-current=true] .lr-run-title").inner_text() == "▶ A clean rescue"
    page.evaluate("window.kept = [...document.querySelectorAll('.lr-run')]")
    cards.nth(2).click()
    assert events(page, "open") == [{"id": "ruined", "turn": 1}]
    assert "Opening" in cards.nth(2).inner_text()
    show(page, watching(2))
    assert page.evaluate("kept.every(node => node.isConnected)")
    assert "Opening" not in cards.nth(2).inner_text()
    assert page.locator(".lr-run[aria-current=true] .lr-run-title").inner_text() == "▶ Too large a step"
    assert page.locator(".lr-story-title").inner_text() == "Too large a step"
    assert "Too large a step" in page.locator(".lr-watch > [role=status]").text_content()


def test_the_card_tells_lesson_and_outcome(opened):
    page = opened("watch", watching())
    card = page.locator(".lr-run").nth(1)
    told = page.locator(f"#{card.get_attribute('aria-describedby')}").text_content()
    assert "The same steps reach a wrong answer just as often." in told
    assert "? Rescue in doubt".replace(" ", "") in told.replace(" ", "")
    assert "0 of 8 rollouts right → 5 of 8 after revision, 95 % interval 31–86\u202f%" in told
    assert "0 of 8 → 5 of 8" in card.locator(".lr-run-rate").inner_text()


def test_the_story_shows_problem_zero_hit_and_the_cut(opened):
    value = watching()
    page = opened("watch", value)
    story = page.locator(".lr-story")
    for words in (
        "● Recorded",
        "17 + 29",
        "Gold answer: 46",
        "0 of 8 rollouts correct: zero-hit",
        "answers 36 ✗ wrong",
    ):
        assert words in story.inner_text()
    failed = value["story"]["failed"]
    assert page.locator(".lr-zone-prefix .lr-token").all_text_contents() == failed["prefix"]
    assert page.locator(".lr-zone-failed .lr-token").all_text_contents() == failed["continuation"]
    style = "node => getComputedStyle(node).borderBottomStyle"
    assert page.locator(".lr-zone-prefix .lr-token").first.evaluate(style) == "solid"
    assert page.locator(".lr-zone-failed .lr-token").first.evaluate(style) == "dashed"
    assert "Recorded 2026-11-22 · SmolLM2-135M-Instruct, float32, CPU · N = 8" in story.inner_text()
    assert "Decoy control: Moved toward the wrong answer 47" in story.inner_text()
    page.locator(".lr-story summary").click()
    assert "Step size γ" in page.locator(".lr-settings-list").inner_text()


def test_running_live_or_why_not(opened):
    page = opened("watch", watching())
    page.get_by_role("button", name="Run it live").click()
    assert events(page, "live") == [{"run_id": "clean"}]
    assert page.evaluate("document.body.dataset.lrMode") == "make"  # what runs live is seen where things run
    page.get_by_role("radio", name="Watch recorded runs").click()
    show(page, watching(replayable=False, why_not="Another model is loaded."))
    button = page.get_by_role("button", name="Run it live")
    button.click(force=True)
    assert len(events(page, "live")) == 1
    assert button.get_attribute("aria-disabled") == "true"
    assert page.locator(f"#{button.get_attribute('aria-describedby')}").inner_text() == "Another model is loaded."


def test_a_run_of_ones_own_and_no_runs_at_all(opened):
    page = opened("watch", watch_payload(t.gallery(), t.trace(), t.token_text, run_id="own"))
    assert page.locator(".lr-chip").inner_text() == "Your run"
    assert page.locator(".lr-run[aria-current]").count() == 0
    assert page.get_by_role("button", name="Run it live").count() == 0  # it is live already
    show(page, watch_payload([], None, t.token_text, run_id=None))
    assert page.locator(".lr-watch .lr-empty").is_visible()
    assert page.locator(".lr-story").is_hidden()


def test_the_tour_is_asked_for_from_either_mode(opened):
    page = opened("watch", watching())
    page.get_by_role("radio", name="Run it yourself").click()
    page.get_by_role("button", name="Take the tour").click()
    assert [name for name, _ in page.evaluate("lr.heard")] == ["lr-mode", "lr-mode", "lr-tour"]
    assert page.evaluate("document.body.dataset.lrMode") == "watch"


def test_open_a_run_clicks_the_pages_file_input(opened, tmp_path):
    page = opened("watch", watching())
    (tmp_path / "run.zip").write_bytes(b"PK")
    page.get_by_role("radio", name="Run it yourself").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a run…").click()
    chooser.value.set_files(tmp_path / "run.zip")
    page.wait_for_function("lr.taken.length")
    assert page.evaluate("lr.taken") == [["run.zip"]]
    assert page.evaluate("document.body.dataset.lrMode") == "watch"
    page.evaluate("document.querySelector('#lr-open-file').remove()")
    page.get_by_role("button", name="Open a run…").click()
    assert "can’t take a run" in page.locator(".lr-watch-note").inner_text()


def test_the_view_is_low_enough_to_leave_the_stage_above_the_fold(opened):
    page = opened("watch", watching())
    page.evaluate("document.fonts.ready")
    long = (
        "The model is sure of its first wrong result. Ten small steps later the same sentence goes on to the right one."
    )
    for index in range(7):
        value = watching(index)
        show(page, value | {"story": value["story"] | {"lesson": long}})
        assert page.locator("#host").bounding_box()["height"] <= 380


@pytest.mark.parametrize("width", [1440, 1000, 400])
def test_hostile_texts_stay_text_and_the_page_never_scrolls_sideways(opened, width):
    page = opened("watch", watching(hostile=True), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".lr-root script, .lr-root img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert "<script>window.hacked=1</script>" in page.locator(".lr-story-text").text_content()
    assert "U+202E" in page.locator(".lr-story-text").text_content()


def test_on_a_phone_the_gallery_scrolls_inside_itself_to_the_current_run(opened):
    page = opened("watch", watching(), 400)
    assert page.locator(".lr-runs-hint").is_visible()
    show(page, watching(5))
    assert page.locator(".lr-runs").last.evaluate("node => node.scrollLeft") > 0
    assert page.evaluate("[scrollX, scrollY]") == [0, 0]
    box = page.locator(".lr-run[aria-current]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 400


def test_a_run_that_came_while_the_gallery_was_hidden_is_in_sight_once_it_is_shown(opened):
    page = opened("watch", watching(), 400)
    page.evaluate("document.dispatchEvent(new CustomEvent('lr-set-mode', { detail: { mode: 'make' } }))")
    show(page, watching(5))
    page.evaluate("document.dispatchEvent(new CustomEvent('lr-set-mode', { detail: { mode: 'watch' } }))")
    page.wait_for_function("() => document.querySelector('.lr-runs:not(.lr-runs-ghosts)').scrollLeft > 0")
    box = page.locator(".lr-run[aria-current]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 400


def test_a_long_text_scrolls_and_is_reached_by_keys(opened):
    before = t.rollouts(0, 8, length=600)
    made = t.trace(before=before)
    page = opened("watch", watch_payload([], made, t.token_text, run_id="long"))
    assert page.locator(".lr-story-text").get_attribute("tabindex") == "0"
    assert page.locator("#host").bounding_box()["height"] <= 380
    show(page, watching())
    assert page.locator(".lr-story-text").get_attribute("tabindex") is None


# ---- address ----


def place(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_the_address_follows_the_stage_and_keeps_the_rest(opened):
    page = opened("watch", watching(), query="&__theme=dark")
    page.evaluate("lr.point({ run_id: 'clean', point: 3, position: 7, role: 'a' })")
    page.wait_for_function("location.search.includes('step=3')")
    assert place(page) == {"view": "watch", "__theme": "dark", "run": "clean", "step": "3", "position": "7"}
    page.evaluate("lr.point({ run_id: 'other', point: 9, position: 1, role: 'b' })")
    page.evaluate("lr.point({ run_id: 'clean', point: 4, position: null })")
    page.wait_for_function("location.search.includes('step=4')")
    assert place(page) == {"view": "watch", "__theme": "dark", "run": "clean", "step": "4"}


def test_playing_writes_the_address_seldom(opened):
    page = opened("watch", watching())
    # As often as the clock allows, which on a loaded machine runs longer than 60 × 5 ms.
    count, allowed = page.evaluate(
        """async () => {
          let count = 0;
          const began = performance.now();
          const write = history.replaceState.bind(history);
          history.replaceState = (...args) => { count += 1; write(...args); };
          const rest = ms => new Promise(done => setTimeout(done, ms));
          for (let j = 0; j < 60; j += 1) { lr.point({ run_id: 'clean', point: j }); await rest(5); }
          await rest(400);
          return [count, 1 + (performance.now() - began) / 250];
        }"""
    )
    assert 1 <= count <= allowed
    assert place(page)["step"] == "59"


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("?run=2026-a.b_c&step=0&position=1", ["2026-a.b_c", 0, 1]),
        ("", [None, None, None]),
        ("?run=../../etc&step=-1&position=0", [None, None, None]),
        ("?run=.hidden&step=1e3&position=1.5", [None, None, None]),
        ("?run=<b>&step=%20&position=1234567", [None, None, None]),
        (f"?run={'a' * 128}&step=12", ["a" * 128, 12, None]),
        (f"?run={'a' * 129}&step=012", [None, 12, None]),
    ],
)
def test_what_an_address_asks_for(opened, search, expected):
    page = opened("watch", None)
    asked = page.evaluate(
        "async s => { const { wanted } = await import('../../assets/address.js'); return Object.values(wanted(s)); }",
        search,
    )
    assert asked == expected


def test_copy_link(opened):
    page = opened("watch", watching(), permissions=("clipboard-read", "clipboard-write"))
    page.evaluate("lr.point({ run_id: 'clean', point: 2, position: 5 })")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="✓ Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("?view=watch&run=clean&step=2&position=5")
    page.get_by_role("button", name="Copy link").wait_for()


def test_copy_link_where_the_clipboard_is_refused(opened):
    page = opened("watch", watching())
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.evaluate("lr.point({ run_id: 'clean', point: 2, position: 5 })")
    page.get_by_role("button", name="Copy link").click()
    field = page.get_by_role("textbox", name="Link to this screen")
    field.wait_for()
    assert field.input_value().endswith("run=clean&step=2&position=5")
    assert page.evaluate("document.getSelection().toString()") == field.input_value()
    page.keyboard.press("Escape")
    assert field.is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "Copy link"


# ---- dropping ----


def drag(page, paths, *kinds):
    """A drag of real files and folders from outside the browser."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in kinds:
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def dropped(page, *paths):
    """The names of the files that reached the input, or the sentence that stands instead."""
    drag(page, paths, "dragEnter", "dragOver", "drop")
    page.wait_for_function("lr.taken.length || document.querySelector('.lr-watch-note').textContent")
    return page.evaluate("lr.taken.splice(0)[0]") or page.locator(".lr-watch-note").inner_text()


@pytest.fixture
def disk(tmp_path):
    """A run's folder with more in it, inside another one; a zip; and things that are no run."""
    run = tmp_path / "outer" / "run"
    run.mkdir(parents=True)
    for name in ("trace.json", "trajectory.safetensors", "notes.txt"):
        (run / name).write_text("{}")
    (tmp_path / "run.ZIP").write_bytes(b"PK")
    (tmp_path / "picture.png").write_bytes(b"")
    return tmp_path


def test_a_drag_of_files_is_announced_and_one_of_text_is_not(opened, disk):
    page = opened("watch", watching())
    # Without a further word the announcement goes after a while: noted at once, looked at whenever we come to it.
    page.evaluate(
        """() => {
          const [zone] = document.querySelectorAll('.lr-drop');
          const note = () => (window.announced ||= zone.checkVisibility() && zone.innerText);
          new MutationObserver(note).observe(zone, { attributes: true });
        }"""
    )
    drag(page, [disk / "run.ZIP"], "dragEnter")
    page.wait_for_function("window.announced")
    assert page.evaluate("announced") == "Drop a run folder or zip to open it"
    drag(page, [disk / "run.ZIP"], "dragCancel")
    page.get_by_text("Drop a run folder or zip to open it").wait_for(state="hidden")
    session = page.context.new_cdp_session(page)
    text = {"items": [{"mimeType": "text/plain", "data": "x"}], "dragOperationsMask": 1}
    session.send("Input.dispatchDragEvent", {"type": "dragEnter", "x": 300, "y": 300, "data": text})
    assert page.locator(".lr-drop").is_hidden()


def test_a_zip_a_folder_and_loose_files_open(opened, disk):
    page = opened("watch", watching())
    page.get_by_role("radio", name="Run it yourself").click()
    assert dropped(page, disk / "run.ZIP") == ["run.ZIP"]
    assert page.evaluate("document.body.dataset.lrMode") == "watch"
    run = disk / "outer" / "run"
    both = ["trace.json", "trajectory.safetensors"]
    assert sorted(dropped(page, run)) == both
    assert sorted(dropped(page, disk / "outer")) == both
    assert sorted(dropped(page, run / "trace.json", run / "trajectory.safetensors")) == both
    assert page.locator(".lr-drop").is_hidden()


def test_anything_else_is_refused_in_one_sentence(opened, disk):
    page = opened("watch", watching())
    no_run = "This is no run: drop a folder that holds trace.json, or its zip."
    assert dropped(page, disk / "picture.png") == no_run
    deeper = disk / "far" / "away"
    deeper.mkdir(parents=True)
    (disk / "outer").rename(deeper / "outer")
    assert dropped(page, disk / "far") == no_run  # too deep
    assert "one at a time" in dropped(page, disk / "run.ZIP", deeper / "outer")
    assert dropped(page, disk / "run.ZIP") == ["run.ZIP"]
    assert page.locator(".lr-watch-note").is_hidden()


# ---- success curve ----

FULL = tuple(zip(curve_steps(10), (0, 0, 1, 2, 3, 4), strict=True))


def test_the_curve_draws_each_point_where_its_share_is(opened):
    page = opened("success", curve(*FULL))
    assert page.locator(".lr-suc-label").all_inner_texts() == [f"{c} of 8" for _, c in FULL]
    boxes = [page.locator(".lr-suc-point").nth(i).bounding_box() for i in range(6)]
    middle = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
    rise = (middle[0][1] - middle[5][1]) / 4
    assert rise > 10
    for (_, correct), (_, y) in zip(FULL, middle, strict=True):
        assert middle[0][1] - y == pytest.approx(rise * correct, abs=0.5)
    pitch = middle[1][0] - middle[0][0]
    assert [x - middle[0][0] for x, _ in middle] == pytest.approx([pitch * i for i in range(6)], abs=0.5)
    top = page.locator(".lr-suc-svg").bounding_box()["y"]
    whisker = page.locator(".lr-suc-whisker").last.evaluate(
        "node => (({ y, height }) => ({ y, height }))(node.getBBox())"
    )
    scale = 8 * rise  # 100 %
    assert middle[0][1] - top - whisker["y"] == pytest.approx(0.7848 * scale, abs=1)
    assert whisker["height"] == pytest.approx((0.7848 - 0.2152) * scale, abs=1)
    assert page.locator(".lr-suc-point").nth(5).get_attribute("aria-label") == (
        "Step 10: 4 of 8 correct, 95 % interval 22–78\u202f%. Show this step"
    )
    assert "overlap" in page.locator(".lr-suc-sentence").inner_text()


def test_a_point_seeks_the_stage_and_the_stage_marks_a_point(opened):
    page = opened("success", curve(*FULL))
    page.locator(".lr-suc-point").nth(3).focus()
    page.keyboard.press("Enter")
    assert events(page, "seek") == [6]
    current = page.locator(".lr-suc-point[aria-current=step]")
    assert current.count() == 0
    page.evaluate("lr.point({ run_id: 'mine', point: 6, role: 'a' })")
    assert current.get_attribute("aria-label").startswith("Step 6:")
    page.evaluate("lr.point({ run_id: 'other', point: 8, role: 'b' })")
    assert current.get_attribute("aria-label").startswith("Step 6:")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.lr-suc-point')[3]")
    page.evaluate("lr.point({ run_id: 'other', point: 8 })")  # another run than the curve's
    assert current.count() == 0


def test_sampling_shows_where_it_stands_and_can_be_cancelled(opened):
    page = opened("success", curve())
    assert "At which step does the problem become solvable?" in page.locator(".lr-suc-ghost").inner_text()
    button = page.get_by_role("button", name="Sample a success curve")
    about = page.locator(f"#{button.get_attribute('aria-describedby')}").inner_text()
    assert "From each of up to 6 steps as many continuations as “Continuations n” says, at the same budget" in about
    button.click()
    assert events(page, "curve") == [{"run_id": "mine"}]
    busy = dict(state="sampling", planned=curve_steps(10))
    show(page, curve(**busy))
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    assert page.get_by_text("8\u00a0continuations from each of 6 steps").count() == 1
    show(page, curve((0, 0), (2, 1), running=4, **busy))
    assert page.locator(".lr-progress").inner_text().startswith("Sampling step 4 · step 3 of 6")
    show(page, curve((0, 0), (2, 1), running=4, done=3, **busy))
    assert "Step 4: 3 of 8 finished · step 3 of 6" in page.locator(".lr-progress").inner_text()
    assert page.locator("[role=progressbar]").get_attribute("aria-valuenow") == "19"
    assert page.locator(".lr-suc-point").count() == 2
    page.evaluate("window.kept = [...document.querySelectorAll('.lr-suc-point')]")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stopping…").click(force=True)
    assert events(page, "cancel") == [{}]
    show(page, curve((0, 0), (2, 1), state="cancelled"))
    assert page.evaluate("kept.every(node => node.isConnected)")
    assert "finished steps are kept" in page.locator(".lr-note").inner_text()
    assert page.get_by_role("button", name="Sample the curve anew").is_visible()


def test_a_curve_that_can_not_be_sampled_says_why(opened):
    page = opened("success", curve(*FULL, why_not="The model is not loaded."))
    button = page.get_by_role("button", name="Sample the curve anew")
    button.click(force=True)
    assert events(page, "curve") == []
    assert page.locator(f"#{button.get_attribute('aria-describedby')}").inner_text() == "The model is not loaded."
    show(page, None)
    assert "Once steps are taken" in page.locator(".lr-success").inner_text()


@pytest.mark.parametrize(
    ("width", "n", "last"), [(1440, 8, "4 of 8"), (1440, 16, "4 of 16"), (400, 8, "4/8"), (400, 16, "4")]
)
def test_the_curve_fits_and_its_labels_do_not_collide(opened, width, n, last):
    after = [item for k, correct in FULL for item in t.arm(Start.REVISED, k, correct, n)]
    page = opened("success", success_payload(t.trace(after, steps=10)), width)
    assert page.locator(".lr-suc-label").last.inner_text() == last
    assert (f"correct of {n}" in page.locator(".lr-suc-svg").text_content()) == (last == "4")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    labels = page.locator(".lr-suc-label")
    boxes = [labels.nth(i).bounding_box() for i in range(6)]
    for left, right in pairwise(boxes):
        assert left["x"] + left["width"] <= right["x"]
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_function("document.documentElement.scrollWidth <= 700")
    page.wait_for_function("document.querySelector('.lr-suc-svg').getBoundingClientRect().width > 500")
