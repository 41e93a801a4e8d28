"""What the page fetches besides Gradio's own files: our assets, plotly.js out of the installed package, vocabulary
maps. All under `lr/`.

Only files of these three places are served, by name; nothing else of the disk, and nothing from another host.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MAP_FILES = {"coords.bin", "tokens.json", "meta.json"}
_ASSET = re.compile(r"(?:[a-z0-9_-]+/){0,2}[a-z0-9_-]+\.(?:js|css|svg|png|json|woff2)")
_KEY = re.compile(r"[0-9a-f]{8,64}")
STYLES = ("theme.css", "page.css", "rollouts.css", "stage.css", "compare.css")


def routes(map_folder) -> list[BaseRoute]:
    """The routes to hand to Gradio's app.

    Args:
        map_folder: fingerprint -> folder of that vocabulary's map, or None.
    """

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        path = ASSETS / name
        if not _ASSET.fullmatch(name) or not path.is_file():
            return PlainTextResponse("There is no such file.", 404)
        return FileResponse(path, headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})

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
        Route("/lr/assets/{name:path}", asset),
        Route("/lr/plotly.min.js", plotly),
        Route("/lr/map/{key}/{name}", vocabulary_map),
    ]


def head() -> str:
    """What goes into the page's head: our style sheets, by relative address so that proxies and Spaces work."""
    return "".join(f'<link rel="stylesheet" href="lr/assets/{name}">' for name in STYLES)
