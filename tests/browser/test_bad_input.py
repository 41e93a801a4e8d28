"""What people do that they should not, and what they do at the wrong moment: on a tiny random model, in a real browser.

Each mistake costs one clear sentence and nothing that was there before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
import zipfile

import pytest
from playwright.sync_api import expect

from explorer.store import load_run

from . import screen as s
from .conftest import PATIENCE_MS, save_tiny, serving

pytestmark = pytest.mark.browser

# Of a run that is to be interrupted: so long that nobody, however slow, comes too late.
LONG_TOKENS = 800
MANY_STEPS = 60
LONG_ROLLOUT = 240


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("tiny-server")
    with serving(
        folder,
        "--model",
        str(tiny_folder),
        LATENTREVISE_CACHE_DIR=str(folder / "cache"),
        LATENTREVISE_OFFLINE="1",
        # With a thread per core, tiny matrix products mostly wait for a core that Chromium is using.
        OMP_NUM_THREADS="1",
    ) as running:
        yield running


@pytest.fixture
def visitor(visit, server):
    """A fresh page, model ready, a short sampling asked for. At its end: no errors, nothing asked of other hosts."""
    with visit(server) as visitor:
        s.wait_for_model(visitor.page)
        s.sampling(visitor.page, 4, 24)
        yield visitor
        assert visitor.errors == []
        assert visitor.abroad == []


def one_sentence(notice) -> str:
    """The notice's text, which is for people."""
    text = notice.locator("span").last.text_content()
    assert text.endswith(".")
    assert "\n" not in text
    for machine in ("Traceback", "Error(", "Exception", "Something went wrong"):
        assert machine not in text
    return text


def kept(payload):
    """What a stage payload says of the run; the map of a new vocabulary goes on building meanwhile."""
    return {key: value for key, value in payload.items() if not key.startswith("map_")}


def wait_for_run(server, before, ready=lambda trace: True):
    """The one run folder that was not there before, once its trace is as wanted; reading it checks it."""
    until = time.monotonic() + PATIENCE_MS / 1000
    seen = None
    while time.monotonic() < until:
        new = [folder for folder in server.folders() if folder not in before]
        if new:
            seen = load_run(new[-1])
            if ready(seen[0]):
                assert len(new) == 1
                return new[0], *seen
        time.sleep(0.1)
    pytest.fail(f"no such run was written; the newest is {seen and seen[0].model_dump_json()[:2000]}")


# ---- the problem ----

# No two neighbours get the same sentence: each row is seen to have got its own.
BAD_PROBLEMS = [
    ("", "4", "question is empty"),
    ("What is 2 + 2?", "", "answer is empty"),
    ("  \n ", "4", "question is empty"),
    ("What is 2 + 2?", "perhaps", "perhaps"),
    ("What is 2 + 2? " * 1000, "4", "8,000 characters"),
    ("What is 2 + 2? " * 120, "4", "context is 1,024"),
    ("What is 2 +\x07 2?", "4", "control characters"),
]


def test_a_bad_problem_costs_a_sentence_and_nothing_else(visitor, server):
    page = visitor.page
    s.sample(page)
    before, headline, stage = server.folders(), s.headline(page).text_content(), s.payload(page)
    assert stage["prefix"]
    notice = s.notice(page, "problem")
    for question, answer, says in BAD_PROBLEMS:
        s.write(page, question, answer)
        s.press(page, page.locator("#lr-sample"))
        expect(notice).to_contain_text(says)
        one_sentence(notice)
        s.rest(page)
        # What was typed, what was sampled and what was split are all still there, and no run was begun.
        assert s.question(page).input_value() == question
        assert s.gold(page).input_value() == answer
        assert s.headline(page).text_content() == headline
        assert kept(s.payload(page)) == kept(stage)
        assert server.folders() == before
    s.write(page, "What is 2 + 2?", "4")
    s.sample(page)
    expect(notice).to_be_hidden()
    expect(page.locator("#lr-rollouts .lr-roll-problem")).to_have_text("What is 2 + 2? Gold answer: 4")


def test_hostile_text_is_shown_and_never_run(visitor):
    page = visitor.page
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    question = "<script>alert(1)</script><img src=x onerror=alert(2)> ${1+1} `${alert(3)}` {{value}} \u202eabc"
    s.chooser(page).set_input_files(
        {
            "name": "<b>evil<b>.jsonl",
            "mimeType": "application/jsonl",
            "buffer": json.dumps(
                {"id": "<img src=x onerror=alert(4)>", "question": question, "answer": "\\frac{1}{2}"}
            ).encode(),
        }
    )
    expect(s.notice(page, "problem")).to_contain_text("1 problem")
    expect(s.question(page)).to_have_value(question)
    page.get_by_role("combobox", name="Problem").click()
    expect(s.listed(page).first).to_contain_text("<img src=x onerror=alert(4)>")
    page.keyboard.press("Escape")
    s.sample(page)
    expect(page.locator("#lr-rollouts .lr-roll-problem")).to_contain_text(question)
    s.player(page, "step").click()
    s.wait_for_stage(page, "p.steps.length === 1 && p.status !== 'running'")
    assert page.locator(".gradio-container").locator("img[src=x]").count() == 0
    assert page.locator(".lr-root script, .lr-root img, .lr-root b").filter(has_text="evil").count() == 0
    assert dialogs == []


def test_a_file_with_bad_rows_names_their_lines_and_a_good_one_fills_the_list(visitor):
    page = visitor.page
    notice, chooser = s.notice(page, "problem"), s.chooser(page)
    asked = s.question(page).input_value()

    def upload(name, text):
        chooser.set_input_files({"name": name, "mimeType": "text/plain", "buffer": text.encode()})

    good = '{"question": "What is 1 + 1?", "answer": 2}\n'
    upload("half.jsonl", good + '{"question": "What is 1 + 2?"}\nnot json\n')
    expect(notice).to_contain_text("line 2")
    assert "line 3" in one_sentence(notice)
    assert "half.jsonl" in one_sentence(notice)
    upload("half.csv", "question,answer\nWhat is 1 + 1?,2\nWhat is 1 + 2?,perhaps\n")
    expect(notice).to_contain_text("half.csv")
    assert "line 3" in one_sentence(notice)
    upload("other.csv", "frage,antwort\n1+1,2\n")
    expect(notice).to_contain_text("no column “question”")
    upload("empty.jsonl", "\n")
    expect(notice).to_contain_text("holds no problems")
    assert s.question(page).input_value() == asked

    upload("mine.csv", 'id,question,answer\nfirst,What is 1 + 1?,2\nsecond,"What is 20,000 + 2?",20002\n')
    expect(notice).to_contain_text("2 problems read")
    expect(s.question(page)).to_have_value("What is 1 + 1?")
    page.get_by_role("combobox", name="Problem").click()
    expect(s.listed(page)).to_have_count(2)
    s.listed(page).filter(has_text="second").click()
    expect(s.question(page)).to_have_value("What is 20,000 + 2?")
    expect(s.gold(page)).to_have_value("20002")


# ---- another model ----


def load_model(page, name):
    """Ask for another model."""
    field = page.get_by_label("Hub id or local folder")
    if not field.is_visible():
        page.get_by_role("button", name="Use another model").click()
    field.fill(str(name))
    page.get_by_role("button", name="Load", exact=True).click()


def test_a_model_that_can_not_be_had_leaves_the_old_one(visitor, tmp_path):
    page = visitor.page
    s.sample(page)
    stage = s.payload(page)
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    note = page.locator(".lr-head-note")
    for name, says in [
        (tmp_path / "nowhere", "is not a folder"),
        ("nobody/no-such-model", "offline is set"),
        ("what is this?", "neither a folder nor a hub id"),
        (encoder, "not a causal language model"),
        (tmp_path, "no config.json"),
    ]:
        load_model(page, name)
        expect(note).to_contain_text(says)
        expect(note).to_contain_text("goes on with the model it had")
        s.wait_for_model(page)
        expect(page.locator(".lr-head-name")).to_have_text("tiny")
    assert kept(s.payload(page)) == kept(stage)
    s.player(page, "step").click()
    s.wait_for_stage(page, "p.steps.length === 1 && p.status !== 'running'")
    s.sample(page)


def test_one_can_press_before_the_model_has_arrived(visitor, tmp_path):
    """The other model's folder opens only when told: its config.json is a pipe that nobody has written into yet."""
    page = visitor.page
    folder, come = tmp_path / "gated", threading.Event()
    save_tiny(folder)
    config = folder / "config.json"
    text = config.read_bytes()
    config.unlink()
    os.mkfifo(config)

    def gate():
        with config.open("wb") as pipe:  # returns when somebody begins to read
            come.wait()
            config.unlink()
            config.write_bytes(text)
            pipe.write(text)

    thread = threading.Thread(target=gate, daemon=True)
    thread.start()
    load_model(page, folder)
    expect(page.locator(".lr-head-model")).to_have_attribute("data-state", "loading")
    expect(page.locator(".lr-head-name")).to_have_text("The model is on its way")
    page.locator("#lr-sample").click()
    notice = s.notice(page, "problem")
    expect(notice).to_contain_text("Waiting for the model")
    page.locator("#lr-cancel").click()
    expect(notice).to_be_hidden()
    s.rest(page)
    page.locator("#lr-sample").click()
    expect(notice).to_contain_text("Waiting for the model")
    come.set()
    expect(s.headline(page)).to_contain_text("pass@4")
    expect(page.locator(".lr-head-name")).to_have_text("gated")
    assert s.payload(page)["model"]["id"] == "gated"
    thread.join()


# ---- stopping ----


def test_cancelling_while_sampling_keeps_what_had_finished(visitor, server):
    page, before = visitor.page, server.folders()
    s.sampling(page, 64, LONG_TOKENS)
    page.locator("#lr-sample").click()
    expect(page.locator("#lr-rollouts .lr-progress")).to_contain_text(re.compile(r"[1-9]\d* of 64 finished"))
    page.locator("#lr-cancel").click()
    s.rest(page)
    expect(s.headline(page)).to_contain_text("pass@")
    kept = int(re.match(r"\d+", s.headline(page).text_content().split(" of ")[1])[0])
    assert 0 < kept < 64
    expect(s.headline(page)).to_contain_text(f"pass@{kept}")
    expect(s.notice(page, "problem")).to_have_text(re.compile(f"Stopped: {kept} of 64 rollouts had finished"))
    assert page.locator("#lr-rollouts .lr-card:visible").count() >= min(kept, 8)
    _, trace, _ = wait_for_run(server, before)
    assert len(trace.before) == kept
    assert trace.sampling.n == 64


def test_the_whole_loop_from_one_button(visitor, server):
    page, before = visitor.page, server.folders()
    s.sampling(page, 2, 24)
    s.number(page, "Steps K", 2)
    s.number(page, "Continuations n", 2)
    page.locator("#lr-whole").click()
    expect(page.locator("#lr-compare .lr-headline")).to_contain_text("after 2 steps")
    s.rest(page)
    assert [len(s.payload(page)["steps"]), s.payload(page)["status"]] == [2, "completed"]
    _, trace, _ = wait_for_run(server, before, lambda trace: len(trace.after) == 6)
    assert {item.step for item in trace.after} == {2}


# ---- more than one page ----


def test_two_pages_at_once_do_not_meet(visit, server, tmp_path):
    before = server.folders()
    with visit(server) as ada, visit(server) as bob:
        people = [(ada, *("What is 1 + 1?", "2", 5)), (bob, *("What is 50 + 50?", "100", 3))]
        for visitor, question, answer, n in people:
            s.wait_for_model(visitor.page)
            s.write(visitor.page, question, answer)
            s.sampling(visitor.page, n, 120)
            visitor.page.locator("#lr-sample").click()
        for visitor, question, answer, n in people:
            page = visitor.page
            expect(s.headline(page)).to_contain_text(f"pass@{n}")
            expect(page.locator(".lr-roll-problem")).to_have_text(f"{question} Gold answer: {answer}")
            expect(page.locator("#lr-rollouts .lr-card")).to_have_count(n)
        for visitor, *_ in people:
            s.rest(visitor.page)
            s.number(visitor.page, "Steps K", 2)
            s.player(visitor.page, "step").click()
        runs = [
            s.wait_for_stage(visitor.page, "p.steps.length === 1 && p.status !== 'running'") for visitor, *_ in people
        ]
        assert runs[0]["run_id"] != runs[1]["run_id"]
        for visitor, question, _, n in people:
            with visitor.page.expect_download() as download:
                visitor.page.locator("#lr-export").click()
            download.value.save_as(tmp_path / "run.zip")
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            with zipfile.ZipFile(tmp_path / "run.zip") as archive:
                archive.extractall(tmp_path / "out")
            (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
            trace, _ = load_run(folder)
            assert (trace.problem.question, len(trace.before), len(trace.steps)) == (question, n, 1)
        assert ada.errors + bob.errors == []
    assert len([folder for folder in server.folders() if folder not in before]) == 2


# ---- without a mouse, in the dark, on a telephone ----


def tab_to(page, condition, limit=200):
    """Press Tab until the element with the focus satisfies a JavaScript condition on `e`."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        if page.evaluate(f"(() => {{ const e = document.activeElement; return Boolean({condition}); }})()"):
            return
    pytest.fail(f"{limit} times Tab did not reach {condition}")


def test_the_keyboard_alone_is_enough(visitor):
    page = visitor.page
    s.number(page, "Steps K", 2)
    page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    tab_to(page, "e.id === 'lr-sample'")
    page.keyboard.press("Enter")
    s.wait_for_new_run(page, None)
    tab_to(page, "e.getAttribute('role') === 'slider' && e.closest('#lr-rollouts')")
    m = len(s.wait_for_stage(page, "p.prefix.length >= 1")["prefix"])
    page.keyboard.press("ArrowLeft" if m > 1 else "ArrowRight")
    s.wait_for_stage(page, f"p.prefix.length === {m - 1 if m > 1 else 2}")
    tab_to(page, "e.classList.contains('lr-s-map-surface')")
    outline = page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).boxShadow"
    )
    assert outline != "nonenone"
    page.keyboard.press("Space")
    s.wait_for_stage(page, "p.status === 'completed' && p.steps.length === 2 && j === 2")
    page.keyboard.press("Home")
    s.wait_for_stage(page, "j === 0")
    page.keyboard.press("ArrowRight")
    s.wait_for_stage(page, "j === 1")
    page.keyboard.press("End")
    s.wait_for_stage(page, "j === 2")
    tab_to(page, "e.id === 'lr-continue'")


# WCAG 2: relative luminance, contrast ratio.
CONTRAST = """(selector) => {
  const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const fill = (node) => parse(getComputedStyle(node).backgroundColor);
  const node = document.querySelector(selector);
  let ground = node;
  while (ground.parentElement && (fill(ground)[3] ?? 1) === 0) ground = ground.parentElement;
  const [a, b] = [light(parse(getComputedStyle(node).color)), light(fill(ground))];
  return { ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), ground: b };
}"""
TEXTS = (
    ".lr-head h1",
    ".lr-head-detail",
    ".lr-section-head p",
    "#lr-sample",
    "#lr-whole",
    ".lr-card-title",
    ".lr-headline",
    ".lr-s-chip-original",
    ".lr-s-play-note",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 400])
def test_light_and_dark_wide_and_narrow(visit, server, scheme, width):
    with visit(server, width=width, color_scheme=scheme) as visitor:
        page = visitor.page
        s.wait_for_model(page)
        s.sampling(page, 4, 24)
        s.number(page, "Steps K", 1)
        s.sample(page)
        s.player(page, "step").click()
        s.wait_for_stage(page, "p.status === 'completed'")
        assert page.locator("body").evaluate("e => e.classList.contains('dark')") == (scheme == "dark")
        for selector in TEXTS:
            seen = page.evaluate(CONTRAST, selector)
            assert seen["ratio"] >= 4.5, (selector, seen)
        ground = page.evaluate(CONTRAST, ".lr-head h1")["ground"]
        assert (ground < 0.1) == (scheme == "dark")
        assert s.sideways(page) <= 0
        assert visitor.errors == []
