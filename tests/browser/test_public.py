"""A page for strangers: what its policy lets run and what it stops, hostile text wherever text is shown, and visitors
who must not meet.

`test_bad_input.py` has the hostile question of a file and two pages on one model; here is what it leaves out.
"""

from __future__ import annotations

import itertools
import json
import re
import time
import urllib.parse
import zipfile

import pytest
from playwright.sync_api import expect

from explorer.recorded import recorded_runs

from . import screen as s
from .conftest import PATIENCE_MS, save_tiny, serving

pytestmark = pytest.mark.browser

RUN = recorded_runs()[0]
# Set by any payload that runs.
PWNED = "window.__pwned = (window.__pwned || 0) + 1"
PAYLOADS = (
    f'<img src=x onerror="{PWNED}">',
    f"<script>{PWNED}</script>",
    f"</script><script>{PWNED}</script>",
    f'"><svg onload="{PWNED}">',
    f"${{{PWNED}}}",
    f"{{{{{PWNED}}}}}",
    f"`${{{PWNED}}}`",
    f'<a href="javascript:{PWNED}">here</a>',
    f"[here](javascript:{PWNED})",
    f"javascript:{PWNED}",
    "<b>bold</b><style>body { display: none }</style>",
    "\u202egnp.exe\u2066\u2069\u200b",
    "long" * 300,
)
VIOLATIONS = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.__violations.push(e.effectiveDirective));
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("public-server")
    cache = {"LATENTREVISE_CACHE_DIR": str(folder / "cache"), "LATENTREVISE_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with serving(folder, "--model", str(tiny_folder), **cache) as running:
        yield running


def watched(visitor):
    """Count violations and dialogs from the next opening of the page on."""
    visitor.page.context.add_init_script(VIOLATIONS)
    visitor.page.on("dialog", lambda dialog: (visitor.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    return visitor.page


def unharmed(page):
    assert page.evaluate("window.__pwned === undefined")
    assert page.evaluate("window.__violations") == []


# -- the policy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["watch", "make", "hunt", "train"])
def test_the_policy_stops_nothing_that_the_page_does(visit, server, mode):
    with visit(server, mode=mode) as visitor:
        page = watched(visitor)
        answer = page.reload()
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"].split("style-src")[0]
        s.wait_for_model(page)
        if mode == "watch":
            page.wait_for_function(f"() => ({s.STAGE})?.stage.shown > 0")  # it plays
            page.locator("#lr-watch .lr-run").nth(1).click()
            s.wait_for_stage(page, f"p.run_id === {json.dumps(recorded_runs()[1].id)}")
            page.locator("#lr-stage .lr-s-curve-head").first.scroll_into_view_if_needed()
            expect(page.locator("#lr-stage .js-plotly-plot").first).to_be_visible()
            assert page.evaluate("Boolean(document.querySelector('#lr-stage canvas'))")
        if mode == "make":
            s.sampling(page, 2, 16)
            s.sample(page)
            s.player(page, "step").click()
            s.wait_for_stage(page, "p.steps.length === 1 && p.status !== 'running'")
            with page.expect_download() as download:
                page.locator("#lr-export").click()
            assert zipfile.is_zipfile(download.value.path())
        if mode in ("hunt", "train"):
            expect(page.locator(f"#lr-{mode}-form code, #lr-{mode}-form pre").first).to_be_visible()
        unharmed(page)
        assert visitor.errors == []
        assert visitor.abroad == []


MARKUP = {
    "handler": f'<img src="lr/nowhere.png" onerror="{PWNED}">',
    "script": f"<script>{PWNED}</script>",
    "link": f'<a id="evil" href="javascript:{PWNED}">here</a>',
    "frame": f'<iframe srcdoc="<script>parent.{PWNED[7:]}</script>"></iframe>',
    "object": '<object data="lr/assets/favicon.svg"></object>',
    "animation": f'<style>@keyframes x {{ }}</style><p style="animation: x 1ms" onanimationend="{PWNED}">x</p>',
    "abroad": '<img src="https://example.org/pixel.png">',
    "form": '<form id="evil" action="https://example.org/" method="post"><input name="a"></form>',
}


@pytest.mark.parametrize("kind", MARKUP)
def test_markup_that_got_in_does_not_run(visit, server, kind):
    with visit(server, mode="watch") as visitor:
        page = watched(visitor)
        page.reload()
        page.wait_for_function(f"() => Boolean(({s.STAGE})?.stage.payload)")
        # The one way of adding markup runs its scripts, the other does not.
        add = "document.body.insertAdjacentHTML('beforeend', markup)"
        if kind == "script":
            add = "document.body.append(document.createRange().createContextualFragment(markup))"
        page.evaluate(f"(markup) => {add}", MARKUP[kind])
        if kind == "link":
            page.evaluate("document.getElementById('evil').click()")
        if kind == "form":
            page.evaluate("document.getElementById('evil').submit()")
        until = time.monotonic() + PATIENCE_MS / 1000
        while not any("Content Security Policy" in error for error in visitor.errors) and time.monotonic() < until:
            page.wait_for_timeout(50)
        assert any("Content Security Policy" in error for error in visitor.errors), visitor.errors
        assert page.evaluate("window.__pwned === undefined")
        assert urllib.parse.urlsplit(page.url).netloc == urllib.parse.urlsplit(server.url).netloc


def test_scripts_that_got_in_do_not_run_from_text_nor_from_what_was_brought(visit, server):
    with visit(server, mode="watch") as visitor:
        page = watched(visitor)
        page.reload()
        page.wait_for_function(f"() => Boolean(({s.STAGE})?.stage.payload)")
        # Nothing is heard of one without an address that is stopped; any other says that it came, or that it did not.
        add = """(set) => new Promise((done) => {
          const script = document.createElement("script");
          script.onload = script.onerror = done;
          Object.assign(script, set);
          document.head.append(script);
          if (!set.src) setTimeout(done, 3000);
        })"""
        page.evaluate(add, {"textContent": PWNED})
        page.evaluate(add, {"src": "https://example.org/a.js"})
        assert page.evaluate("window.__violations") == ["script-src-elem", "script-src-elem"]
        # 'self' is allowed, and what visitors bring lies at an address of ours: its type says that it is no script.
        for name in ("evil.js", "evil.json", "evil.txt"):
            bring = """async ([name, text]) => {
              const form = new FormData();
              form.append("files", new File([text], name));
              return (await (await fetch("gradio_api/upload", { method: "POST", body: form })).json())[0];
            }"""
            path = page.evaluate(bring, [name, PWNED])
            assert path.endswith(name)
            page.evaluate(add, {"src": f"gradio_api/file={path}"})
            assert page.evaluate("window.__pwned === undefined"), name
        # The control: the same way, one of ours does run.
        assert page.evaluate(add, {"src": "lr/plotly.min.js"})["isTrusted"]
        page.wait_for_function("Boolean(window.Plotly)")


# -- text ------------------------------------------------------------------------------------------


def hostile_trace() -> dict:
    """A real run with hostile text wherever a text may stand."""
    trace = json.loads((RUN.folder / "trace.json").read_text())
    evil = itertools.cycle(PAYLOADS)
    everything = " ".join(PAYLOADS)
    trace["problem"] |= {"id": PAYLOADS[0], "family": PAYLOADS[1], "question": everything, "answer": next(evil)}
    trace["model"] |= {"id": PAYLOADS[3], "revision": PAYLOADS[0]}
    trace["message"] = everything
    trace["prompt"]["text"] = everything
    trace["anchor"]["text"] = next(evil)
    for rollout in [*trace["before"], *trace["after"]]:
        rollout |= {"text": everything, "answer": next(evil), "reason": next(evil)}
    for control in trace["controls"]:
        control["target"] = next(evil)
    trace["vocabulary"]["texts"] = {token: next(evil) for token in trace["vocabulary"]["texts"]}
    return trace


@pytest.mark.parametrize("width", [1440, 400])
def test_a_hostile_run_is_shown_letter_by_letter(visit, server, tmp_path, width):
    archive = tmp_path / "hostile.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("run/trace.json", json.dumps(hostile_trace()))
        packed.write(RUN.folder / "trajectory.safetensors", "run/trajectory.safetensors")
    with visit(server, width=width, mode="watch") as visitor:
        page = watched(visitor)
        page.reload()
        s.wait_for_stage(page, f"p.run_id === {json.dumps(RUN.id)}")
        page.locator("#lr-open-file input[type=file]").set_input_files(archive)
        expect(s.notice(page, "watch")).to_contain_text("The run is open")
        payload = s.wait_for_stage(page, f"p.run_id !== {json.dumps(RUN.id)} && p.steps.length === 10")
        assert PAYLOADS[0] in json.dumps(payload, ensure_ascii=False).replace('\\"', '"')
        for _ in range(3):
            s.player(page, "back").click()
        for card in page.locator("#lr-stage [data-position], #lr-stage .lr-s-chip").all()[:6]:
            if card.is_visible():
                card.hover()
        expect(page.locator("#lr-watch .lr-story")).to_contain_text(PAYLOADS[0])
        expect(page.locator("#lr-rollouts .lr-roll-problem")).to_contain_text(PAYLOADS[1])
        seen = page.inner_text("body")
        for payload_text in PAYLOADS[:9]:
            assert payload_text in seen, payload_text
        for selector in ("img[src=x]", "svg[onload]", "a[href^=javascript]", ".lr-root script", ".lr-root style"):
            assert page.locator(selector).count() == 0, selector
        assert page.locator("body").is_visible()
        assert s.sideways(page) <= 0
        unharmed(page)
        assert visitor.errors == []
        assert visitor.abroad == []


def test_a_hostile_problem_file_is_listed_letter_by_letter(visit, server):
    rows = [{"id": text, "family": text, "question": text, "answer": "2"} for text in PAYLOADS if "\u202e" not in text]
    with visit(server) as visitor:
        page = watched(visitor)
        page.reload()
        s.wait_for_model(page)
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        name = f"<img src=x onerror={PWNED}> [a](javascript:{PWNED}).jsonl".replace("/", "")
        s.chooser(page).set_input_files({"name": name, "mimeType": "application/jsonl", "buffer": content})
        # Gradio takes some signs out of a file's name; what it leaves is shown as it is.
        left = "[a](javascriptwindow.__pwned = (window.__pwned  0) + 1).jsonl"
        expect(s.notice(page, "problem")).to_contain_text(f"{len(rows)} problems read from img src=x")
        assert left in s.notice(page, "problem").text_content()
        page.get_by_role("combobox", name="Problem").click()
        expect(s.listed(page)).to_have_count(len(rows))
        shown = s.listed(page).all_text_contents()
        assert all(row["id"] in text for row, text in zip(rows, shown, strict=True))
        page.keyboard.press("Escape")
        s.write(page, PAYLOADS[0], PAYLOADS[1])
        page.locator("#lr-sample").click()
        expect(s.notice(page, "problem").locator("span").last).to_contain_text(PAYLOADS[1][:20])
        assert page.locator("img[src=x], a[href^=javascript], .lr-root script").count() == 0
        unharmed(page)
        assert visitor.errors == []


@pytest.mark.parametrize(
    "value",
    [PAYLOADS[0], f'"{PAYLOADS[2]}', "../../../etc/passwd", "javascript:alert(1)", "\u202ex", "a" * 5_000, "{{7*7}}"],
)
def test_a_hostile_address_opens_the_page_as_ever(visit, server, value):
    with visit(server, mode="watch") as visitor:
        page = watched(visitor)
        page.goto(f"{server.url}?run={urllib.parse.quote(value)}&step={urllib.parse.quote(value)}&__theme=%3Cscript%3E")
        s.wait_for_stage(page, f"p.run_id === {json.dumps(RUN.id)}")
        s.wait_for_model(page)
        assert page.locator("img[src=x], a[href^=javascript]").count() == 0
        assert "root:" not in page.inner_text("body")
        assert "49" not in page.locator("#lr-notice-watch").inner_text()
        unharmed(page)
        assert visitor.errors == []


# -- two at once -----------------------------------------------------------------------------------


def test_two_visitors_on_different_models_do_not_meet(visit, server, tmp_path):
    other = tmp_path / "another"
    save_tiny(other)
    with visit(server) as ada, visit(server) as bob:
        for visitor in (ada, bob):
            s.wait_for_model(visitor.page)
        bob.page.get_by_role("button", name="Use another model").click()
        bob.page.get_by_label("Hub id or local folder").fill(str(other))
        bob.page.get_by_role("button", name="Load", exact=True).click()
        expect(bob.page.locator(".lr-head-name")).to_have_text("another")
        s.wait_for_model(bob.page)
        people = [(ada, "tiny", "What is 11 + 11?", "22"), (bob, "another", "What is 70 + 7?", "77")]
        for visitor, _, question, answer in people:
            s.write(visitor.page, question, answer)
            s.sampling(visitor.page, 3, 24)
            visitor.page.locator("#lr-sample").click()
        for visitor, model, question, _ in people:
            page = visitor.page
            expect(s.headline(page)).to_contain_text("pass@3")
            s.rest(page)
            s.player(page, "step").click()
            payload = s.wait_for_stage(page, "p.steps.length === 1 && p.status !== 'running'")
            assert payload["model"]["id"] == model
            expect(page.locator(".lr-head-name")).to_have_text(model)
            expect(page.locator(".lr-roll-problem")).to_contain_text(question)
        mine = [s.payload(visitor.page)["run_id"] for visitor, *_ in people]
        for (visitor, *_), (_, model, question, _), theirs in zip(people, people[::-1], mine[::-1], strict=True):
            # What is written, what stands in fields, and what lies behind the views.
            whole = visitor.page.evaluate(
                "document.documentElement.outerHTML + [...document.querySelectorAll('input, textarea')]"
                ".map((e) => e.value).join() + JSON.stringify([...document.querySelectorAll('[data-view]')]"
                ".map((e) => e.parentElement.lrStage?.stage.payload ?? null))"
            )
            assert question not in whole
            assert theirs not in whole
            assert not re.search(rf"\b{model}\b", visitor.page.locator("#lr-header").inner_text())
        assert ada.errors + bob.errors == []
