"""How long the stage takes: `python -m tests.browser.benchmark [--runs 5]` prints a table and a JSON line.

A real `app.py` and a headless Chromium that draws in software. What is measured, and how:
- open: from the beginning of navigation to the first drawn frame in which a position has moved, browser cache empty and
  then filled; the server is up, no model is needed.
- scrub: script time of one jump to another step, everything on the stage brought up to date; the median and the worst
  of all steps.
- frame: script time of drawing one frame of the map during playback of (at most) the last 12 steps, and the time from
  one frame to the next. Once for a recorded run on the page, and for larger runs of made-up numbers on the tests' page
  of the stage alone: 64 positions × 20 steps, 512 × 60.
- bytes: what the page receives from Gradio's queue and handlers (as sent: compressed) while a live run of a tiny model
  takes its steps, divided by the steps. Scripts that come meanwhile are not counted; they come once.

What it does not do: compare machines. Run it alone; anything else on the same cores is measured with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from explorer.recorded import recorded_runs
from tests.chromium import launched
from tests.harness import serve

from . import screen as s
from .conftest import save_tiny, serving

NOTE_FIRST_MOVE = f"""
  const look = () => {{
    const stage = ({s.STAGE})?.stage;
    if (stage && stage.payload && stage.shown > 0 && stage.timings.frames) window.lrFirstMove = performance.now();
    else requestAnimationFrame(look);
  }};
  document.addEventListener("DOMContentLoaded", () => requestAnimationFrame(look));
"""
ALONE = "document.getElementById('host').lrStage"
LARGE = ((64, 20), (512, 60))


def opening(browser: Browser, url: str, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the first moving picture: with an empty cache, and again in the same context."""
    cold, warm = [], []
    for _ in range(runs):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_init_script(NOTE_FIRST_MOVE)
        for times in (cold, warm):
            page = context.new_page()
            page.goto(url, wait_until="commit")
            page.wait_for_function("window.lrFirstMove", timeout=60_000)
            times.append(page.evaluate("window.lrFirstMove"))
            page.close()
        context.close()
    return cold, warm


def scrubbing(page: Page, stage: str) -> list[float]:
    """Script milliseconds of a jump to every step and back."""
    last = page.evaluate(f"({stage}).stage.trajectory.S")
    times = []
    for point in [*range(last + 1), *range(last, -1, -1)]:
        times.append(
            page.evaluate(
                f"""(j) => {{ const l = {stage}; l.setPoint(j); const t = l.timings.scrub;
                return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(t)))); }}""",
                point,
            )
        )
    return times


def playing(page: Page, stage: str) -> dict[str, list[float]]:
    """Milliseconds `between` the frames of playback, and of script `inside` them."""
    return page.evaluate(
        f"""async () => {{
          const stage = ({stage}).stage;
          const between = [], inside = [];
          stage.seek(Math.max(0, stage.trajectory.S - 12));
          await new Promise((done) => setTimeout(done, 1000));
          stage.play();
          let last = null;
          return await new Promise((done) => {{
            const look = (now) => {{
              if (last !== null) between.push(now - last);
              last = now;
              inside.push(stage.timings.frame);
              if (stage.playing || stage.tween) requestAnimationFrame(look);
              else done({{ between, inside }});
            }};
            requestAnimationFrame(look);
          }});
        }}"""
    )


def alone(browser: Browser, positions: int, steps: int) -> tuple[list[float], dict[str, list[float]]]:
    """Scrub and playback of a run of made-up numbers."""
    server = serve.serve()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"http://127.0.0.1:{server.server_address[1]}/?state=completed&M={positions}&K={steps}")
    page.wait_for_function(f"() => {{ const l = {ALONE}; return l && l.timings.frames > 0 && l.stage.tokens; }}")
    page.wait_for_selector(".lr-s-plot .main-svg")
    page.evaluate("() => document.fonts.ready")
    measured = scrubbing(page, ALONE), playing(page, ALONE)
    page.close()
    server.shutdown()
    server.server_close()
    return measured


def bytes_per_step(browser: Browser, folder: Path, steps: int = 20) -> float:
    """Bytes that Gradio sends while a live run takes `steps` steps, per step."""
    save_tiny(folder / "tiny")
    with serving(folder, "--model", str(folder / "tiny")) as server:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.url)
        page.get_by_role("radio", name="Run it yourself").click()
        s.wait_for_model(page)
        s.write(page, "What is 12 + 30?", "42")
        s.sampling(page, 4, 64)
        s.number(page, "Steps K", steps)
        s.sample(page)
        ours: set[str] = set()
        received: list[tuple[str, float]] = []
        session = page.context.new_cdp_session(page)

        def asked(event: dict) -> None:
            if urlsplit(event["request"]["url"]).path.startswith("/gradio_api/"):
                ours.add(event["requestId"])

        session.on("Network.requestWillBeSent", asked)
        session.on("Network.dataReceived", lambda e: received.append((e["requestId"], e["encodedDataLength"])))
        session.send("Network.enable")
        s.player(page, "toggle").click()
        s.wait_for_stage(page, f"p.steps.length === {steps} && p.status === 'completed'")
        page.close()
    return sum(size for request, size in received if request in ours) / steps


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How long the stage takes.")
    parser.add_argument("--runs", type=int, default=5, help="how often the page is opened")
    options = parser.parse_args()
    first = recorded_runs()[0]
    with tempfile.TemporaryDirectory() as name, launched() as browser:
        folder = Path(name)
        (folder / "none").mkdir()
        with serving(folder, "--model", str(folder / "none")) as server:
            cold, warm = opening(browser, server.url, options.runs)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{server.url}?run={first.id}&step=0")
            s.wait_for_stage(page, "p.steps.length > 0")
            page.wait_for_function(f"({s.STAGE}).stage.atlas && !({s.STAGE}).stage.map.flight")
            recorded = scrubbing(page, s.STAGE), playing(page, s.STAGE)
            positions = page.evaluate(f"({s.STAGE}).stage.trajectory.M")
            page.close()
        runs = {f"recorded, {positions} × {len(first.trace.steps)}": recorded}
        runs |= {f"{m} × {k}": alone(browser, m, k) for m, k in LARGE}
        sent = bytes_per_step(browser, folder)
    middle = statistics.median
    rows = [
        ("open to a moving picture, empty cache, median of " + str(options.runs), middle(cold), "ms"),
        ("open to a moving picture, filled cache, median of " + str(options.runs), middle(warm), "ms"),
    ]
    for name, (scrubs, frames) in runs.items():
        between = frames["between"]
        rows += [
            (f"{name}: scrub to another step, script, median", middle(scrubs), "ms"),
            (f"{name}: scrub to another step, script, worst", max(scrubs), "ms"),
            (f"{name}: one frame of the map, script, median", middle(frames["inside"]), "ms"),
            (f"{name}: between frames in playback, median", middle(between), "ms"),
            (f"{name}: between frames in playback, 95th percentile", statistics.quantiles(between, n=20)[-1], "ms"),
            (f"{name}: between frames in playback, worst", max(between), "ms"),
        ]
    rows.append(("received from Gradio per live step", sent, "bytes"))
    for label, value, unit in rows:
        print(f"{label:<70} {value:>10,.1f} {unit}")
    print(json.dumps({label: round(value, 2) for label, value, _ in rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
