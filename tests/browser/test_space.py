"""The app with the environment of a Hugging Face Space, in a real browser: what a stranger finds there.

A Space also asks Gradio to let Node render the page, and Gradio's script to draw a banner from another host: neither
happens.
"""

from __future__ import annotations

import contextlib

import pytest
from playwright.sync_api import expect

from explorer.limits import PUBLIC, in_words
from explorer.recorded import recorded_runs
from tests.tiny_training import saved_runs

from . import screen as s
from .conftest import PATIENCE_MS, Visitor, serving

pytestmark = pytest.mark.browser

# "Built-in environment variables" of the hub's documentation, and what its Gradio image sets.
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "someone/explorer",
    "SPACE_HOST": "someone-explorer.hf.space",
    "SPACE_AUTHOR_NAME": "someone",
    "SPACE_REPO_NAME": "explorer",
    "ACCELERATOR": "none",
    "GRADIO_ALLOW_FLAGGING": "never",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_SSR_MODE": "true",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("space")
    saved_runs(tiny_folder, folder / "runs", hits=0)  # something that this model could be trained on
    with serving(
        folder,
        "--model",
        str(tiny_folder),
        LATENTREVISE_CACHE_DIR=str(folder / "cache"),
        LATENTREVISE_OFFLINE="1",
        OMP_NUM_THREADS="1",
        **SPACE,
    ) as running:
        yield running


@contextlib.contextmanager
def stranger(chromium, server):
    """Somebody who has never been here: no mode is chosen yet."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    try:
        context.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(context.new_page()).watch()
        visitor.page.goto(server.url)
        yield visitor
    finally:
        context.close()


def test_recorded_runs_come_first_then_the_model_and_what_is_allowed(chromium, server):
    with stranger(chromium, server) as visitor:
        page = visitor.page
        expect(page.get_by_role("radio", name="Watch recorded runs")).to_be_checked()
        expect(page.locator("#lr-watch .lr-run")).to_have_count(len(recorded_runs()))
        page.wait_for_function(f"() => {{ const l = {s.STAGE}; return Boolean(l && l.stage.payload); }}")
        expect(page.locator("#lr-stage .lr-s-status")).to_contain_text("Recorded run")
        expect(page.locator("#lr-header")).to_contain_text("float32")  # the model is there, by itself
        page.get_by_role("radio", name="Run it yourself").click()
        expect(page.locator(".lr-limits")).to_have_text(in_words(PUBLIC, 30, 24))
        assert visitor.abroad == []
        assert visitor.errors == []


def test_what_would_outlive_the_page_is_a_command(chromium, server):
    with stranger(chromium, server) as visitor:
        page = visitor.page
        page.get_by_role("radio", name="Train", exact=True).click()
        train = page.locator("#lr-section-train")
        expect(train).to_contain_text("A public page does not train: run the command on a machine of your own.")
        expect(train.locator(".lr-hf-code")).to_contain_text("python -m explorer train sft")
        expect(train.get_by_role("button", name="Start the training")).to_have_attribute("aria-disabled", "true")

        page.get_by_role("radio", name="Hunt", exact=True).click()
        hunt = page.locator("#lr-section-hunt")
        expect(hunt.locator(".lr-hf-code")).to_contain_text("python -m explorer hunt")
        expect(hunt).to_contain_text("A public page does not start hunts: run the command on a machine of your own.")
        expect(hunt.get_by_role("button", name="Start the hunt")).to_have_attribute("aria-disabled", "true")
        assert not list(server.runs.glob("hunts/*"))
        assert not list(server.runs.glob("trainings/*"))
        assert visitor.abroad == []
        assert visitor.errors == []
