"""What people do that they should not, and what they do in the wrong moment: on a tiny random model, in a real browser.

Each mistake costs one clear sentence and nothing that was there before.
"""

from __future__ import annotations

import json
import os
import threading

import pytest
from playwright.sync_api import expect

from explorer.records import RunStatus
from explorer.store import load_run

from . import screen as s
from .conftest import save_tiny, serving

pytestmark = pytest.mark.browser

SENTENCE = r"^[A-Z“].*[.)]$"


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("tiny-server")
    with serving(
        folder,
        "--model",
        str(tiny_folder),
        LATENTREVISE_CACHE_DIR=str(folder / "cache"),
        LATENTREVISE_OFFLINE="1",
    ) as running:
        yield running


@pytest.fixture
def visitor(visit, server):
    """A fresh page with the model ready and a short sampling asked for; it must stay free of errors and of the world outside."""
    with visit(server) as visitor:
        s.wait_for_model(visitor.page)
        s.sampling(visitor.page, 4, 24)
        yield visitor
        assert visitor.errors == []
        assert visitor.abroad == []


def new_runs(server, before):
    """Run folders that were not there before."""
    return [folder for folder in server.folders() if folder not in before]


@pytest.mark.parametrize(
    ("question", "answer", "says"),
    [
        ("", "4", "question"),
        ("   \n ", "4", "question"),
        ("What is 2 + 2?", "", "answer"),
        ("What is 2 + 2?", "perhaps", "perhaps"),
        ("What is 2 + 2? " * 1000, "4", "8,000 characters"),
        ("What is 2 + 2? " * 120, "4", "1,024 tokens"),
        ("What is 2 + 2?\x07", "4", "control characters"),
    ],
    ids=["empty", "blank", "no answer", "no mathematics", "endless", "longer than the context", "control character"],
)
def test_a_bad_problem_costs_a_sentence_and_nothing_else(visitor, server, question, answer, says):
    page = visitor.page
    s.sample(page)
    before, headline, stage = server.folders(), s.headline(page).text_content(), s.payload(page)
    s.write(page, question, answer)
    page.locator("#lr-sample").click()
    notice = s.notice(page, "problem")
    expect(notice).to_contain_text(says)
    text = notice.locator("span").last.text_content()
    assert text[-1] == "."
    assert "Traceback" not in text
    assert "Something went wrong" not in text
    s.rest(page)
    # What was typed, what was sampled and what was split are all still there, and no run was begun.
    assert page.get_by_label("Question", exact=True).input_value() == question
    assert page.get_by_label("Gold answer").input_value() == answer
    assert s.headline(page).text_content() == headline
    assert s.payload(page) == stage
    assert server.folders() == before
    s.write(page, "What is 2 + 2?", "4")
    s.sample(page)
    expect(notice).to_be_hidden()
    expect(page.locator("#lr-rollouts .lr-roll-problem")).to_contain_text("What is 2 + 2? Gold answer: 4")
