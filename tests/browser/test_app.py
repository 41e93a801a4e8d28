"""What a person does, from the open page to the zip at home, with the real default model and nothing faked."""

from __future__ import annotations

import json
import re
import zipfile

import pytest
import torch
from playwright.sync_api import expect

from explorer.problems import load_bank
from explorer.records import RunStatus, Start, Verdict
from explorer.store import load_run

from . import screen as s
from .conftest import serving

pytestmark = [pytest.mark.browser, pytest.mark.real_model]

# So many tokens that cards are seen to grow on a much faster machine too; above 64 a continuation would be cut short.
N, TOKENS, STEPS, SAMPLES = 4, 60, 3, 3
LONG = 60  # steps of a revision that is paused midway
# No model of this size multiplies these, so that the prompt is zero-hit whatever the sampling draws.
QUESTION, ANSWER = "What is 3847 × 8296?", "31914712"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("real-server")) as running:
        yield running


# Notes, in the page, how many tokens the cards show each time they change.
WATCH_CARDS = """() => {
  window.grown = [];
  const root = document.querySelector('#lr-rollouts');
  const count = () => root.querySelectorAll('.lr-card-text .lr-token').length;
  const note = () => { if (window.grown.at(-1) !== count()) window.grown.push(count()); };
  new MutationObserver(note).observe(root, { childList: true, subtree: true });
}"""


def test_from_an_open_page_to_a_run_at_home(visit, server, tmp_path):
    with visit(server) as visitor:
        page = visitor.page
        # The page answers at once; the model arrives beside it.
        expect(page.locator("#lr-sample")).to_be_enabled()
        expect(page.locator(".lr-head-name")).to_have_text(re.compile("on its way|SmolLM2"))
        expect(page.locator("#lr-stage")).to_contain_text("Recorded run")

        _choose_from_the_bank(page)
        s.write(page, QUESTION, ANSWER)
        s.sampling(page, N, TOKENS)
        s.wait_for_model(page)
        expect(page.locator(".lr-head-name")).to_have_text("HuggingFaceTB/SmolLM2-135M-Instruct")

        _sample(page)
        _choose_and_cut(page)
        first = _revise(page)
        _pause_and_go_on(page, server)
        _scrub(visitor)
        _start_over_with_other_settings(page, first)
        _continue(page)
        _take_home(page, tmp_path, first)

        assert s.sideways(page) <= 0
        page.set_viewport_size({"width": 400, "height": 900})
        page.wait_for_function("document.documentElement.clientWidth === 400")
        assert s.sideways(page) <= 0
        assert visitor.errors == []
        assert visitor.abroad == []


def _choose_from_the_bank(page):
    problem = next(item for item in load_bank() if item.id == "rate-03")
    field = page.get_by_role("combobox", name="Problem")
    field.click()
    field.fill("rate-03")
    s.listed(page).filter(has_text="rate-03").click()
    expect(s.question(page)).to_have_value(problem.question)
    expect(s.gold(page)).to_have_value(problem.answer)


def _sample(page):
    page.evaluate(WATCH_CARDS)
    s.sample(page)
    grown = page.evaluate("window.grown")
    grown = grown[grown.index(min(grown)) :]  # before that, the recorded run's cards stood there
    # The cards streamed in: they were seen to grow, not to appear whole.
    assert len(grown) >= 4
    assert len([count for count in grown if 0 < count < grown[-1]]) >= 3
    expect(s.headline(page)).to_have_text(f"0 of {N} correct · pass@{N} = 0 · zero-hit")
    expect(page.locator(".lr-roll-sentence")).to_contain_text(f"None of {N} rollouts is right")
    cards = page.locator("#lr-rollouts .lr-card")
    expect(cards).to_have_count(N)
    for i in range(N):
        assert cards.nth(i).get_attribute("data-verdict") in ("wrong", "unjudged")
        assert len(cards.nth(i).locator(".lr-card-text").text_content()) > 20
    # One is chosen and cut already: the stage is ready for the first step.
    stage = s.wait_for_stage(page, "p.status === 'paused'")
    assert stage["steps"] == []
    assert stage["model"]["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def _zone(page, name):
    return page.locator(f"#lr-rollouts .lr-split-flow .lr-zone-{name} [data-i]")


def _choose_and_cut(page):
    before = s.payload(page)
    page.locator("#lr-rollouts .lr-card-pick").get_by_text("Revise this one").first.click()
    page.wait_for_function(
        f"(old) => ({s.STAGE}).stage.payload.prefix.join() !== old", arg=",".join(map(str, before["prefix"]))
    )
    expect(page.locator("#lr-rollouts .lr-card-pick[aria-pressed=true]")).to_have_count(1)
    _zone(page, "prefix").nth(7).click()  # the eighth token, index 7, begins the failed continuation
    cut = s.wait_for_stage(page, "p.prefix.length === 7")
    total = len(cut["prefix"]) + len(cut["continuation"])
    expect(_zone(page, "prefix")).to_have_count(7)
    expect(_zone(page, "failed")).to_have_count(total - 7)
    page.locator("#lr-rollouts").get_by_role("button", name=re.compile("Half of it")).click()
    half = s.wait_for_stage(page, f"p.prefix.length === {min(max(1, round(total / 2)), total - 1)}")
    # The text is the same, only cut elsewhere.
    assert half["prefix"] + half["continuation"] == cut["prefix"] + cut["continuation"]
    expect(page.locator("#lr-stage .lr-s-chip")).to_have_count(len(half["prefix"]))


def _revise(page):
    s.number(page, "Steps K", STEPS)
    page.wait_for_function(
        f"({s.STAGE}).stage.atlas !== null && ({s.STAGE}).stage.atlas !== undefined"
    )  # the map is there
    zoom = page.locator("#lr-stage").get_by_role("button", name="Zoom in (+)")
    zoom.click()
    before = s.view(page)
    assert before["zoom"] > 1
    s.player(page, "step").click()
    s.wait_for_stage(page, "p.status !== 'running' && p.steps.length === 1 && j === 1")
    s.rest(page)
    assert s.view(page) == before  # a step leaves the reader's zoom alone
    s.player(page, "toggle").click()
    s.wait_for_stage(page, f"p.status === 'completed' && p.steps.length === {STEPS} && p.final && j === {STEPS}")
    s.rest(page)
    assert s.view(page) == before
    stage = s.payload(page)
    toward = [step["toward_loss"] for step in stage["steps"]] + [stage["final"]["toward_loss"]]
    assert toward[-1] < toward[0]
    assert all(step["gap"] > 0 for step in stage["steps"])
    # The strip says what the exact weights are: (1 − γ)^K of the original token is left unless a vertex was that token.
    left = page.locator("#lr-stage .lr-s-chip-foot span").first.text_content()
    kept = 0.95**STEPS + sum(
        0.05 * 0.95 ** (STEPS - 1 - k)
        for k, step in enumerate(stage["steps"])
        if step["vertices"][0] == stage["prefix"][0]
    )
    assert abs(float(re.match(r"[\d.]+", left)[0]) - 100 * kept) <= 0.51
    return stage


def _pause_and_go_on(page, server):
    s.number(page, "Steps K", LONG)
    s.player(page, "step").click()
    s.wait_for_stage(page, f"p.status !== 'running' && p.steps.length === {STEPS + 1}")
    s.rest(page)
    s.player(page, "toggle").click()
    s.wait_for_stage(page, f"p.status === 'running' && p.steps.length >= {STEPS + 2}")
    # By its name: what is pressed is a pause, or nothing.
    page.locator("#lr-stage").get_by_role("button", name="Pause the computation (Space)").click()
    s.wait_for_stage(page, "p.status === 'paused'")
    s.rest(page)
    stage = s.payload(page)
    taken = len(stage["steps"])
    assert STEPS + 2 <= taken < LONG
    trace, embeddings = load_run(server.runs / stage["run_id"])
    assert (len(trace.steps), trace.status) == (taken, RunStatus.CANCELLED)
    assert embeddings.shape[:2] == (taken + 1, len(stage["prefix"]))


def _scrub(visitor):
    """Back and forth through what was computed: in the browser alone, but for the word which point is on screen."""
    page = visitor.page
    last = len(s.payload(page)["steps"])
    s.wait_for_stage(page, f"j === {last}")
    chip = page.locator("#lr-stage .lr-s-chip-moved").first
    moved = [chip.text_content()]
    visitor.requests.clear()
    s.player(page, "back").click()
    s.wait_for_stage(page, f"j === {last - 1}")
    moved.append(chip.text_content())
    for at in range(last):
        page.locator("#lr-stage input[type=range]").fill(str(at))
        assert s.point(page) == at
    # Waited for from before the move on: the word leaves a moment after it, however long this test takes to look.
    with page.expect_request(lambda request: '"point":0' in (request.post_data or "")):
        page.locator("#lr-stage input[type=range]").fill("0")
    moved.append(chip.text_content())
    assert len(set(moved)) == 3
    assert float(moved[-1]) == 0
    # Chromium looks at the page's icon again whenever the address changes, out of its own cache.
    asked = [(path, body) for path, body in visitor.requests if not path.endswith("/assets/favicon.svg")]
    assert [path for path, body in asked if '"point":' not in body] == []
    assert 1 <= len(asked) <= last + 3
    s.player(page, "last").click()
    s.wait_for_stage(page, f"j === {last}")


def _start_over_with_other_settings(page, first):
    s.number(page, "Step size γ", 0.1)
    s.player(page, "step").click()
    expect(s.notice(page, "revision")).to_contain_text("goes on with the settings it began with")
    s.rest(page)
    assert s.payload(page)["config"]["step_size"] == first["config"]["step_size"]
    s.number(page, "Steps K", STEPS)
    s.player(page, "restart").click()
    again = s.wait_for_stage(page, "p.steps.length === 0 && p.config.step_size === 0.1 && j === 0")
    assert again["run_id"] != first["run_id"]
    assert again["prefix"] == first["prefix"]
    expect(s.notice(page, "revision")).to_be_hidden()
    s.player(page, "toggle").click()
    s.wait_for_stage(page, f"p.status === 'completed' && p.steps.length === {STEPS} && j === {STEPS}")
    s.rest(page)


def _continue(page):
    s.number(page, "Continuations n", SAMPLES)
    with page.expect_request(lambda request: f'"point":{STEPS - 1}' in (request.post_data or "")):
        s.player(page, "back").click()
    page.locator("#lr-continue").click()
    expect(page.locator("#lr-compare")).to_contain_text(f"Continued from step {STEPS - 1} of {STEPS}")
    s.rest(page)
    expect(page.locator("#lr-compare .lr-headline")).to_contain_text(re.compile("[Rr]escued"))
    arms = page.locator("#lr-compare .lr-arm")
    expect(arms).to_have_count(3)
    for i, name in enumerate(("Revised embeddings", "Projected to tokens", "Unrevised prefix")):
        expect(arms.nth(i)).to_contain_text(name)
        expect(arms.nth(i)).to_contain_text(re.compile(rf"\d of {SAMPLES} (✓ )?correct"))
        expect(arms.nth(i)).to_contain_text(re.compile(r"95 % interval \d+–\d+"))


def _take_home(page, tmp_path, first):
    with page.expect_download() as download:
        page.locator("#lr-export").click()
    assert download.value.suggested_filename.endswith(".zip")
    home = tmp_path / "run.zip"
    download.value.save_as(home)
    with zipfile.ZipFile(home) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "home")
    (folder,) = (path for path in (tmp_path / "home").iterdir() if path.is_dir())
    trace, embeddings = load_run(folder)
    assert (trace.problem.question, trace.problem.answer) == (QUESTION, ANSWER)
    assert (trace.status, len(trace.steps), len(trace.before)) == (RunStatus.COMPLETED, STEPS, N)
    assert list(trace.split.prefix_token_ids) == first["prefix"]
    assert embeddings.shape == (STEPS + 1, len(first["prefix"]), trace.model.hidden_size)
    # The file proves itself: each move is a step of 0.1 on a straight line, and not one of length nought.
    assert all(step.step_size == 0.1 for step in trace.steps)
    assert torch.isfinite(embeddings).all()
    assert [round(float(x), 3) for x in (embeddings[-1] - embeddings[0]).norm(dim=1)] == [
        round(x, 3) for x in trace.steps[-1].moved
    ]
    assert sorted({(item.start, item.step) for item in trace.after}) == sorted((start, STEPS - 1) for start in Start)
    assert len(trace.after) == 3 * SAMPLES
    rescued = [item for item in trace.after if item.verdict is Verdict.CORRECT and item.start is not Start.ORIGINAL]
    rows = tmp_path / "home" / "sft.jsonl"
    assert rows.exists() == bool(rescued)
    assert (tmp_path / "home" / "README.txt").read_text().startswith("A run of LatentRevise Explorer")
    if rescued:
        from datasets import load_dataset

        data = load_dataset("json", data_files=str(rows), cache_dir=str(tmp_path / "datasets"))["train"]
        assert data[0]["prompt"] == [{"role": "user", "content": QUESTION}]
        assert len(data) == len(rows.read_text().splitlines())
        assert json.loads(rows.read_text().splitlines()[0])["gold_answer"] == ANSWER
