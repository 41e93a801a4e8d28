"""A real `app.py` in a process of its own and a real Chromium in front of it.

One server at a time, each in a temporary folder; pages note every console error and every request to another machine.
What it does not do: skip. Without Chromium the tests fail and say what to install.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.chromium import PATIENCE_MS, launched
from tests.conftest import tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 180


@dataclass
class Server:
    """A running app: its address, and where it writes runs."""

    url: str
    runs: Path
    log: Path
    process: subprocess.Popen

    def folders(self) -> list[Path]:
        """The runs on disk, oldest first."""
        return sorted(path.parent for path in self.runs.glob("*/trace.json"))


@contextlib.contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Start the app with these command-line arguments and environment variables; stop it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs, log = folder / "runs", folder / "server.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LATENTREVISE_", "GRADIO_"))}
    url = f"http://127.0.0.1:{port}/"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--runs-dir", str(runs), *arguments],
            cwd=ROOT,
            env=inherited | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for_answer(url, process, log)
        yield Server(url, runs, log, process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_answer(url: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START_LIMIT_S
    # Never through a proxy: the page is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"the app ended with {process.returncode} before it answered:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(OSError, urllib.error.URLError):
            opener.open(url, timeout=10).close()
            return
        time.sleep(0.1)
    pytest.fail(f"the app did not answer within {START_LIMIT_S} s:\n{log.read_text()[-3000:]}")


# Package scope, not session: a second sync_playwright in one process is refused, and other folders start their own.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """A headless Chromium: $CHROME, or one on the path, or playwright's own."""
    with launched() as browser:
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        expect.set_options(timeout=5_000)  # playwright's own, for other tests of this process


@dataclass
class Visitor:
    """One person's page, and what went wrong on it or left the machine."""

    page: Page
    errors: list[str] = field(default_factory=list)
    abroad: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def watch(self) -> Visitor:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)
        return self

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _asked(self, request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss"):
            self.requests.append((address.path, request.post_data or ""))
            if address.hostname != "127.0.0.1":
                self.abroad.append(request.url)


@pytest.fixture(scope="package")
def visit(chromium):
    """Open the app as a new visitor: `with visit(server, width=400) as visitor`."""

    @contextlib.contextmanager
    def open_page(
        server: Server, width: int = 1440, height: int = 900, mode: str = "make", **options
    ) -> Iterator[Visitor]:
        context = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        try:
            # As for somebody who chose it in this tab before: to run things, or to watch recorded runs.
            context.add_init_script(f"sessionStorage.setItem('lr-mode', '{mode}')")
            context.set_default_timeout(PATIENCE_MS)
            visitor = Visitor(context.new_page()).watch()
            visitor.page.goto(server.url)
            yield visitor
        finally:
            context.close()

    return open_page


@pytest.fixture(scope="package")
def tiny_folder(tmp_path_factory) -> Path:
    """A random causal model with its tokenizer, on disk: loads at once and speaks gibberish."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder)
    return folder


def kill_job(lock: Path) -> None:
    """SIGKILL to a job's processes; the one that keeps its lock writes its number down a moment after it holds it."""
    until = time.monotonic() + PATIENCE_MS / 1000
    while not (group := lock.read_text()):
        assert time.monotonic() < until, "nobody holds the lock"
        time.sleep(0.02)
    os.killpg(int(group), signal.SIGKILL)


def save_tiny(folder: Path, layers: int = 5) -> None:
    """Write a random Llama with the tests' tokenizer, as `save_pretrained` does.

    Small beside any real model, yet so large (a million weights a layer) that its time goes into matrix products and a
    step lasts long enough to be interrupted.
    """
    from transformers import AutoModelForCausalLM, LlamaConfig

    tokenizer = tiny_tokenizer()
    torch.manual_seed(7)
    network = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=1024,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=1024,
            initializer_range=0.05,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
