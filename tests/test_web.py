"""What the page may fetch: our assets, plotly.js, finished maps; nothing else of the disk."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from explorer.ui import web
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
