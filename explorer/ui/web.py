"""What the page fetches besides Gradio's own files: our assets, plotly.js out of the installed package, vocabulary
maps. All under `lr/`.

Only files of these three places are served, by name; nothing else of the disk, and nothing from another host. Addresses
are relative, so that proxies and Spaces work.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explorer.ui.shield import ALONE, page_policy

ASSETS = Path(__file__).resolve().parents[2] / "assets"
FAVICON = ASSETS / "favicon.svg"
MAP_FILES = {"coords.bin", "tokens.json", "meta.json"}
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_ASSET = re.compile(r"(?:[a-z0-9_-]+/){0,2}[a-z0-9_-]+\.(?:js|css|svg|png|json|woff2)")
_KEY = re.compile(r"[0-9a-f]{8,64}")
STYLES = tuple(
    f"{name}.css"
    for name in (
        *("theme", "page", "watch", "rollouts", "stage", "duel", "compare", "success", "tour", "hunt", "audit"),
        "train",
    )
)


def _version() -> str:
    """A short name for the scripts, the styles and the icon as they are on disk now."""
    digest = hashlib.sha256()
    for path in sorted([*ASSETS.glob("*.js"), *ASSETS.glob("*.css"), *ASSETS.glob("stage/*.js"), FAVICON]):
        digest.update(f"{path.relative_to(ASSETS)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


# Files below `lr/v/<version>/` never change, so that a second visit asks for none of them again.
BASE = f"lr/v/{_version()}"
# Scripts of screens that nobody sees first: fetched once the browser has nothing better to do.
LATER = ("hunt", "train")


def routes(map_folder) -> list[BaseRoute]:
    """The routes to hand to Gradio's app.

    Args:
        map_folder: fingerprint -> folder of that vocabulary's map, or None.
    """

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        path = ASSETS / name
        # A link inside the folder that leads out of it is no asset either.
        if not _ASSET.fullmatch(name) or not path.is_file() or not path.resolve().is_relative_to(ASSETS):
            return PlainTextResponse("There is no such file.", 404)
        kept = request.url.path.endswith(f"/{BASE}/assets/{name}")
        headers = FOREVER if kept else {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, headers=headers)

    def plotly(request: Request) -> Response:
        from importlib.util import find_spec

        # Found without importing plotly: the page needs its script only.
        path = Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js"
        return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

    def vocabulary_map(request: Request) -> Response:
        key, name = request.path_params["key"], request.path_params["name"]
        folder = map_folder(key) if _KEY.fullmatch(key) and name in MAP_FILES else None
        if folder is None:
            return PlainTextResponse("There is no such map.", 404)
        return FileResponse(Path(folder) / name, headers={"Cache-Control": "max-age=86400"})

    return [
        Route(root + path, handler)
        for root in ("/lr", "/lr/v/{version}")
        for path, handler in (
            ("/assets/{name:path}", asset),
            ("/plotly.min.js", plotly),
            ("/map/{key}/{name}", vocabulary_map),
        )
    ]


def head() -> str:
    """What goes into the page's head: our icon and styles, the tour, and the scripts ahead of time."""
    # Styles keep their plain address: the fonts that they name lie relative to it.
    styles = "".join(f'<link rel="stylesheet" href="lr/assets/{name}">' for name in STYLES)
    scripts = sorted(path.relative_to(ASSETS).as_posix() for path in [*ASSETS.glob("*.js"), *ASSETS.glob("stage/*.js")])
    ahead = [name for name in scripts if not name.startswith(LATER)]
    preload = "".join(f'<link rel="modulepreload" href="{BASE}/assets/{name}">' for name in ahead)
    # Without a link Chromium asks for /favicon.ico after every change of the address: once per step of a scrub here.
    icon = f'<link rel="icon" type="image/svg+xml" href="{BASE}/assets/{FAVICON.name}">'
    return f'{icon}{styles}{preload}<script type="module" src="{BASE}/assets/tour.js"></script>'


class EarlyHead:
    """Puts `head()` into the page as it is sent, and the policy for its scripts beside it.

    Gradio's own `head` option adds it by script, a second later here; until then the page stands without styles.
    """

    def __init__(self, app: ASGIApp, framed_by: str = ALONE):
        self.app, self.head, self.framed_by = app, head().encode(), framed_by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand everything through but pages, which are held back until they are whole."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in ("", "/"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def add(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body") or start is None:
                return
            if b"</head>" in body:
                body = body.replace(b"</head>", self.head + b"</head>", 1)
                headers = [(key, value) for key, value in start["headers"] if key.lower() != b"content-length"]
                headers.append((b"content-length", str(len(body)).encode()))
                headers.append((b"content-security-policy", page_policy(body, self.framed_by).encode()))
                start = {**start, "headers": headers}
            await send(start)
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, add)
