"""The app's page in the words of a person: fill in, press, wait, read. Shared by the browser tests.

Waiting is always for a state, never for a time.
What it does not do: check anything but that the thing asked for is there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TypeVar

from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as TooLate

from .conftest import PATIENCE_MS

T = TypeVar("T")

# The stage hangs its state on its own element, for tests and for nobody else.
STAGE = "document.querySelector('[data-view=stage]')?.parentElement.lrStage"


def number(page: Page, label: str, value: float) -> None:
    """Type into the number beside a slider and leave the field."""
    field = page.get_by_label(f"number input for {label}", exact=True)
    field.fill(str(value))
    field.press("Tab")
    expect(field).to_have_value(str(value))


def sampling(page: Page, n: int, tokens: int) -> None:
    """How many rollouts of how many tokens."""
    number(page, "Rollouts N", n)
    number(page, "Max new tokens", tokens)


def write(page: Page, asked: str, answer: str) -> None:
    """Type a problem of one's own."""
    question(page).fill(asked)
    gold(page).fill(answer)


def question(page: Page) -> Locator:
    """The field of the question."""
    return page.get_by_role("textbox", name="Question", exact=True)


def gold(page: Page) -> Locator:
    """The field of the gold answer."""
    return page.get_by_role("textbox", name=re.compile("^Gold answer"))


def wait_for_model(page: Page) -> None:
    """Until the header says that the model is there."""
    expect(page.locator(".lr-head-model")).to_have_attribute("data-state", "ready")


def sample(page: Page) -> None:
    """Press the button and wait until new rollouts are counted, one of them is cut, and the buttons are back."""
    before = payload(page)
    page.locator("#lr-sample").click()
    wait_for_new_run(page, before)


def wait_for_new_run(page: Page, before: dict | None) -> None:
    """Until another run than the one before lies on the stage, ready for its first step."""
    wait_for_stage(page, f"p.status === 'paused' && p.run_id !== {json.dumps(before and before['run_id'])}")
    rest(page)
    expect(headline(page)).to_contain_text("pass@")


def press(page: Page, button: Locator) -> None:
    """Press until the app is asked: Gradio passes over a press before it has heard the end of the one before, which
    comes a moment after the buttons are back."""
    for patience in (10_000, PATIENCE_MS):
        try:
            with page.expect_request(lambda request: "queue/join" in request.url, timeout=patience):
                button.click()
            return
        except TooLate:
            pass
    raise AssertionError(f"nothing was asked of the app\n{_as_it_stands(page)}")


def until(page: Page, holds: Callable[[], T]) -> T:
    """Until something beside the page holds, as on the disk; returns what it gave."""
    ends = time.monotonic() + PATIENCE_MS / 1000
    while not (found := holds()):
        assert time.monotonic() < ends, f"it did not come about\n{_as_it_stands(page)}"
        page.wait_for_timeout(20)
    return found


def rest(page: Page) -> None:
    """Until nothing runs for this page."""
    expect(page.locator("#lr-cancel")).to_be_disabled()
    expect(page.locator("#lr-sample")).to_be_enabled()


def chooser(page: Page) -> Locator:
    """The file input of one's own problems; that of runs is another one."""
    return page.locator("input[type=file]:not(#lr-open-file input)").first


def listed(page: Page) -> Locator:
    """The entries of Gradio's open list; our own views have options too."""
    return page.locator("[role=option]:not(.lr-root [role=option])")


def headline(page: Page) -> Locator:
    """The rollouts' counts."""
    return page.locator("#lr-rollouts .lr-headline")


def notice(page: Page, where: str) -> Locator:
    """What the page says to a person under one of its sections."""
    return page.locator(f"#lr-notice-{where} .lr-notice")


def player(page: Page, name: str) -> Locator:
    """A button of the player: first, back, toggle, step, last; or restart."""
    if name == "restart":
        return page.locator("#lr-stage").get_by_role("button", name="Start over")
    return page.locator("#lr-stage .lr-s-play-button").nth(["first", "back", "toggle", "step", "last"].index(name))


def payload(page: Page) -> dict | None:
    """What the stage was last given."""
    return json.loads(page.evaluate(f"JSON.stringify(({STAGE})?.stage.payload ?? null)"))


def point(page: Page) -> int:
    """Which point of the trajectory is on screen."""
    return page.evaluate(f"({STAGE}).point()")


def view(page: Page) -> dict:
    """The map's centre and zoom, once it has come to rest."""
    page.wait_for_function(f"!({STAGE}).stage.map.flight")
    return page.evaluate(f"({{ ...({STAGE}).view() }})")


def wait_for_stage(page: Page, condition: str) -> dict:
    """Until a JavaScript condition over the payload `p` and the point `j` holds; returns the payload."""
    found = f"const s = {STAGE}; const p = s?.stage.payload; const j = s?.point();"
    # Not at every frame: looking costs time that the page needs.
    try:
        page.wait_for_function(f"() => {{ {found} return Boolean(p && ({condition})); }}", polling=50)
    except TooLate as error:
        raise AssertionError(f"never came: {condition}\n{_as_it_stands(page)}") from error
    return payload(page)


def _as_it_stands(page: Page) -> str:
    """What a person would see, for a test that waited in vain."""
    stage = page.evaluate(f"""() => {{ const s = {STAGE}, p = s?.stage.payload; return p ? {{
        run: p.run_id, status: p.status, live: p.live, steps: p.steps.length, point: s.point(), waits: s.stage.waiting,
        says: p.message}} : null; }}""")
    notices = [text for text in page.locator(".lr-notice, .toast-body").all_inner_texts() if text.strip()]
    return f"stage: {stage}\nnotices: {notices}\naddress: {page.url}"


def sideways(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
