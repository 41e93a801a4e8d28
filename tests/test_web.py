"""What the page may fetch: our assets, plotly.js, finished maps; nothing else of the disk. And with which headers."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from explorer.ui import shield, web
from explorer.views.vocabulary_map import SHIPPED

KEY = next(path.name for path in SHIPPED.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def client():
    folders = {KEY: SHIPPED / KEY}
    return TestClient(Starlette(routes=web.routes(folders.get)))


def test_every_style_and_script_is_served(client):
    names = [*web.STYLES, "stage.js", "rollouts.js", "compare.js", "header.js", "notice.js", "stage/map.js"]
    for name in names:
        answer = client.get(f"/lr/assets/{name}")
        assert answer.status_code == 200, name
        kind = "css" if name.endswith("css") else "javascript"
        assert kind in answer.headers["content-type"]
    assert all(name in web.head() for name in web.STYLES)


def test_the_icon_is_linked_early_and_kept_forever(client):
    (href,) = re.findall(r'<link rel="icon" type="image/svg\+xml" href="([^"]+)">', web.head())
    assert href == f"{web.BASE}/assets/favicon.svg"
    answer = client.get(f"/{href}")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == web.FAVICON.read_bytes()


def test_plotly_comes_from_the_installed_package(client):
    answer = client.get("/lr/plotly.min.js")
    assert answer.status_code == 200
    assert b"plotly.js v" in answer.content[:400]


def test_a_shipped_map_is_served_whole(client):
    meta = client.get(f"/lr/map/{KEY}/meta.json").json()
    assert len(client.get(f"/lr/map/{KEY}/coords.bin").content) == meta["n"] * 8
    assert len(client.get(f"/lr/map/{KEY}/tokens.json").json()) == meta["n"]


@pytest.mark.parametrize(
    "path",
    [
        "assets/../app.py",
        "assets/%2e%2e/app.py",
        "assets/..%2fapp.py",
        "assets//etc/passwd",
        "assets/%2fetc%2fpasswd",
        "assets/problems.jsonl",
        f"map/{KEY}/../../problems.jsonl",
        f"map/{KEY}/sketch.bin",
        f"map/{KEY}/%2e%2e",
        "map/../meta.json",
        "map/ffffffffffffffff/meta.json",
        "map/..%2f..%2f/meta.json",
    ],
)
def test_nothing_else_is_served(client, path):
    assert client.get(f"/lr/{path}").status_code == 404


def test_a_link_out_of_the_assets_is_not_followed(client, tmp_path, monkeypatch):
    (tmp_path / "assets").mkdir()
    (tmp_path / "secret.js").write_text("secret")
    (tmp_path / "assets" / "own.js").write_text("own")
    (tmp_path / "assets" / "link.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(web, "ASSETS", tmp_path / "assets")
    assert client.get("/lr/assets/own.js").text == "own"
    assert client.get("/lr/assets/link.js").status_code == 404


# -- headers ---------------------------------------------------------------------------------------

SCRIPT = "window.gradio_config = {};\n"
PAGE = (
    f"<html><head><script>{SCRIPT}</script><script src='a.js'></script>"
    '<SCRIPT type="module">\r\nlast()</SCRIPT></head><body></body></html>'
)


def shielded(framed_by: str = shield.ALONE) -> TestClient:
    """A page, an endless taker of bytes and an event that is not there, behind both middlewares."""

    async def take(request: Request):
        return PlainTextResponse(str(len(await request.body())))

    async def event(request: Request):
        return PlainTextResponse({}[999])

    return TestClient(
        Starlette(
            routes=[
                Route("/", lambda request: HTMLResponse(PAGE)),
                Route("/config", lambda request: PlainTextResponse("config"), methods=["GET", "POST"]),
                Route("/gradio_api/upload", take, methods=["POST"]),
                Route("/gradio_api/queue/join", take, methods=["POST"]),
                Route("/gradio_api/run/predict", event, methods=["POST"]),
                Route("/gradio_api/{path:path}", lambda request: PlainTextResponse("<b>"), methods=["GET", "POST"]),
            ],
            middleware=[Middleware(shield.Shield), Middleware(web.EarlyHead, framed_by=framed_by)],
        )
    )


def directives(answer) -> dict[str, str]:
    policy = answer.headers.get_list("content-security-policy")
    assert len(policy) == 1
    return {part.split()[0]: " ".join(part.split()[1:]) for part in policy[0].split(";")}


def digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_the_page_runs_its_own_scripts_only():
    answer = shielded().get("/")
    policy = directives(answer)
    # Each inline script by its hash, an end of a line being one line feed; the one with an address is 'self'.
    assert policy["script-src"] == f"'self' 'unsafe-eval' {digest(SCRIPT)} {digest(chr(10) + 'last()')}"
    assert policy["script-src-attr"] == "'none'"
    assert "unsafe-inline" not in policy["default-src"] + policy["script-src"]
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'self'"
    assert policy["object-src"] == policy["frame-src"] == "'none'"
    assert policy["img-src"] == "'self' data: blob:"
    assert "//" not in answer.headers["content-security-policy"]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_only_a_space_is_framed_by_the_hub():
    assert directives(shielded().get("/"))["frame-ancestors"] == "'self'"
    framed = directives(shielded(shield.IN_A_SPACE).get("/"))
    assert framed.pop("frame-ancestors") == "'self' https://huggingface.co https://*.hf.space"
    assert not any("//" in sources for sources in framed.values())


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/file=/elsewhere/a/b.html", "/nowhere"])
def test_every_answer_has_the_headers(path):
    answer = shielded().get(path)
    for name, value in shield.ALWAYS.items():
        assert answer.headers[name] == value
    policy = directives(answer)
    if path != "/":
        assert policy["default-src"] == "'none'"
        assert "sandbox" in policy


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=https://example.org/a.png",
        "gradio_api/file=http://127.0.0.1:1/",
        "gradio_api/file=HTTPS:%2f%2fexample.org",
        "gradio_api/proxy=https://example.hf.space/",
        "gradio_api/call/choose",
        "gradio_api/component_server",
        "gradio_api/deep_link",
        "gradio_api/vibe-code",
        "gradio_api/token",
        "gradio_api/openapi.json",
        "monitoring",
        "pwa_icon/1",  # Gradio opens it as a picture, and ours is a drawing
        "openapi.json",
        "docs",
        "..%2fconfig",
    ],
)
def test_addresses_that_the_page_never_asks_for_are_not_there(path):
    answer = shielded().get(f"/{path}")
    assert (answer.status_code, answer.text) == (404, "There is nothing here.")


def test_pages_of_other_sites_may_link_and_nothing_else():
    client = shielded()
    for site in ("cross-site", "same-site"):
        linked = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        asked = {"sec-fetch-site": site, "sec-fetch-mode": "cors"}
        assert client.get("/", headers=linked).status_code == 200
        assert client.get("/config", headers=asked).status_code == 403
        assert client.post("/config", headers=linked).status_code == 403
        assert client.post("/gradio_api/cancel", headers=asked).status_code == 403
    assert client.post("/gradio_api/cancel", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert client.post("/gradio_api/cancel").status_code == 200  # no browser


@pytest.mark.parametrize(
    ("server", "host", "code"),
    [
        ("127.0.0.1", "127.0.0.1:7860", 200),
        ("127.0.0.1", "localhost:7860", 200),
        ("127.0.0.1", "LOCALHOST", 200),
        ("::1", "[::1]:7860", 200),
        ("127.0.0.1", "evil.example:7860", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "explorer.localhost", 200),
        ("127.0.0.1", "0.0.0.0:7860", 200),  # an address can't be made to point elsewhere
        ("127.0.0.1", "", 403),
        ("10.0.0.7", "lab.example", 200),  # listens for others: what `open_door` warns of
    ],
)
def test_at_home_nobody_else_gives_it_a_name(server, host, code):
    """A page whose name is made to point at this machine would be of the same site as the explorer."""

    def asked(open_at_home: bool) -> int:
        app = Starlette(
            routes=[Route("/config", lambda request: PlainTextResponse("here"))],
            middleware=[Middleware(shield.Shield, open_at_home=open_at_home)],
        )

        async def placed(scope, receive, send):
            await app({**scope, "server": (server, 7860)}, receive, send)

        return TestClient(placed).get("/config", headers={"host": host}).status_code

    assert asked(True) == code
    assert asked(False) == 200, "with a password, or for the public, a name of its own is usual"


def test_too_much_at_once_is_refused(monkeypatch):
    monkeypatch.setattr(shield, "MOST", 1_000)
    monkeypatch.setattr(shield, "MOST_FILES", 5_000)
    client = shielded()
    for path, most in (("queue/join", 1_000), ("upload", 5_000)):
        assert client.post(f"/gradio_api/{path}", content=b"x" * most).text == str(most)
        # Counted, not believed: in pieces nobody says beforehand how much is coming.
        answer = client.post(f"/gradio_api/{path}", content=iter([b"x" * most, b"x"]))
        assert answer.status_code == 413
        assert f"{most:,} bytes" in answer.text


def test_an_event_that_is_not_there():
    answer = shielded().post("/gradio_api/run/predict", json={})
    assert (answer.status_code, answer.text) == (404, "There is no such event.")
