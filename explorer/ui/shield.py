"""What is let in, and what a browser may do with what is served: which addresses there are, and the headers of every
answer.

The page runs scripts of this app only: its own files, and the few that stand inside the page as it is sent, by their
hashes. So markup that got into the page by a fault of ours would not run. Two things can't be stricter: Gradio makes
functions of text (`js_on_load` of gr.HTML, `js` of events), which is 'unsafe-eval', and sets styles in the page.

What it does not do: ask who somebody is (Gradio's login does), or count requests.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re

from gradio.route_utils import FnIndexInferError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The addresses that the page asks for, ours and Gradio's. Gradio has many more: one fetches any address of the web for
# whoever asks (`file=https://…`), others record, save states as links, or call functions of components.
_OURS = r"|lr/.+|static/.+|assets/.+|theme\.css|favicon\.ico|manifest\.json|robots\.txt|config/?"
_LOGIN = r"log(?:in|out)/?"
_EVENTS = r"gradio_api/(?:run/predict|queue/(?:join|data)|cancel|reset|heartbeat/\w+|startup-events|app_id|info)/?"
# A file is named by its path on this machine; `\w\w+:` would be an address elsewhere.
_FILES = r"gradio_api/(?:upload|upload_progress|file=(?!\w\w+:).+)"
_LET_IN = re.compile(rf"/?(?:{_OURS}|{_LOGIN}|{_EVENTS}|{_FILES})", re.DOTALL)
_EVENT = re.compile(r"/(?:run/predict|queue/join)/?$")

_INLINE = re.compile(rb"<script(?P<attributes>(?:\s[^>]*)?)>(?P<text>.*?)</script", re.DOTALL | re.IGNORECASE)
# Whatever is not the page: opened on its own, it shows no more than its text. For what the page loads it means nothing.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Bytes of one request: the most that the page sends beside files is a question of 8,000 characters with settings.
MOST = 1_000_000
MOST_FILES = 600_000_000
# Who may show the page inside one of their own: a Space's page is shown inside the hub's.
ALONE = "'self'"
IN_A_SPACE = "'self' https://huggingface.co https://*.hf.space"


def page_policy(body: bytes, framed_by: str = ALONE) -> str:
    """The Content-Security-Policy of a page.

    Args:
        body: the page as it is sent; its inline scripts may run, and no others.
        framed_by: sources of `frame-ancestors`.
    """
    inline = [match["text"] for match in _INLINE.finditer(body) if b"src=" not in match["attributes"]]
    hashes = " ".join(dict.fromkeys(f"'sha256-{_digest(text)}'" for text in inline))
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'unsafe-eval' {hashes}".rstrip(),
            "script-src-attr 'none'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "object-src 'none'",
            "frame-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            f"frame-ancestors {framed_by}",
        )
    )


def _digest(text: bytes) -> str:
    # As a browser's parser hands it to the check: every end of a line is one line feed.
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return base64.b64encode(hashlib.sha256(text).digest()).decode()


class Shield:
    """Turns away what the page never asks for, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, open_at_home: bool = False):
        """`open_at_home`: it listens within this machine and nothing else keeps others out, so it has no other names
        than this machine's."""
        self.app, self.open_at_home = app, open_at_home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request through, or refuse it in a sentence; `NOTHING` stands where an answer has no policy yet."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        started, received = False, 0
        most = MOST_FILES if scope["path"].rstrip("/").endswith("/upload") else MOST

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in {**ALWAYS, "Content-Security-Policy": NOTHING}.items():
                    headers.setdefault(name, value)
            await send(message)

        async def metered() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise HTTPException(413, f"This is too much at once: at most {most:,} bytes are taken in.")
            return message

        async def refuse(code: int, sentence: str) -> None:
            await PlainTextResponse(sentence, code)(scope, receive, headed)

        if not _LET_IN.fullmatch(scope["path"]):
            await refuse(404, "There is nothing here.")
        elif self.open_at_home and _renamed(scope):
            await refuse(
                403,
                "This explorer listens on its own machine alone and has no password: open it as 127.0.0.1 or "
                "localhost, or set LATENTREVISE_PASSWORD where something stands in front of it.",
            )
        elif _of_another_site(scope):
            await refuse(403, "Another site's page can't ask for this: open the explorer itself.")
        else:
            try:
                await self.app(scope, metered, headed)
            except (KeyError, FnIndexInferError):
                # Gradio looks up the event's number before anything else is done; what handlers raise never comes here.
                if started or not _EVENT.search(scope["path"]):
                    raise
                await refuse(404, "There is no such event.")


def _of_another_site(scope: Scope) -> bool:
    """Whether a page of another site asks: Gradio would answer, with this visitor's login. Links to the page, and the
    hub's frame around it, are no such thing."""
    headers = Headers(scope=scope)
    linked = scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode", "navigate") == "navigate"
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not linked


def _renamed(scope: Scope) -> bool:
    """Whether a connection within this machine asks for another host's name: a page that had its name point here would
    be of the same site as this one (DNS rebinding), and its scripts could do what this page does."""
    if not within(str((scope.get("server") or ("",))[0])):
        return False
    host = Headers(scope=scope).get("host", "").strip()
    if host.startswith("["):
        return False  # an address
    name = host.partition(":")[0].lower().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name != "localhost" and not name.endswith(".localhost")
    return False  # addresses can't be made to point elsewhere


def within(host: str) -> bool:
    """Whether a host's name or address is this machine's own, which no other machine can reach."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
