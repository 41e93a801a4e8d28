"""The one way the tests start a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

# A loaded two-core machine needs long for what takes a moment on an idle one; no test waits this long when all is well.
PATIENCE_MS = 120_000

# Software drawing, so that WebGL works on machines without a graphics card; and WebGL alone: Debian's launcher asks
# for the page to be drawn by the graphics card as well, which then is the processor, at twice the time.
ARGUMENTS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-rasterization",
    "--disable-gpu-compositing",
    "--disable-accelerated-2d-canvas",
)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium: $CHROME, or one on the path, or playwright's own. Without one tests fail, never skip."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        except Error as error:
            pytest.fail(
                "No Chromium could be started: install it, set CHROME to its path, or run "
                f"`python -m playwright install chromium`. ({str(error).splitlines()[0]})"
            )
        yield browser
        browser.close()
