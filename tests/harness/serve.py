"""A page for the Stage alone: static assets, a synthetic but plausible payload, streaming steps; no model, no Gradio.

    python tests/harness/serve.py [--port 8123] [--map DIR]

Open /?state=paused (or empty, starting, fresh, building, absent, broken, running, completed, converged, cancelled,
failed, recorded), and add M=24, K=10, S=6 (steps done), dark=1, joint=ready|fitting|failed, hostile=1 as needed. DIR is
a map folder (coords.bin, tokens.json, meta.json); by default the first one under assets/maps, else made-up blobs.

What it does not do: prove anything about real runs; the numbers only look like one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import struct
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parents[1] / "assets"
TYPES = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".html": "text/html; charset=utf-8"}
SYLLABLES = ("ka", "lo", "mi", "ter", "an", "pro", "sel", "vin", "ora", "del", "tu", "rem", "bas", "qui", "nor")

TEXT = (
    " Step| |1|:| She| sells| half| of| the| |2|4| eggs| in| the| morning|,| so| |2|4| /| |2| =| |1|2| eggs|.|\n|\n"
    "Then| she| sells| twice| as| many| in| the| afternoon|,| which| makes| |1|2| *| |2| =| |2|4| eggs| sold| after|."
)
FAILED = " In| total| she| sold| |1|2| +| |1|2| =| |2|4| eggs|.| The| answer| is| |2|4|."
HOSTILE = [
    "<script>alert(1)</script>",
    "`${x}`",
    "שלום",
    " a" * 80,
    "\u202e\u200babc",
    "",
    " \n\t",
    "<img src=x onerror=alert(1)>",
]


@lru_cache(maxsize=4)
def vocabulary(folder: str | None, size: int = 49152) -> tuple[list[str], bytes, dict]:
    """Token texts, coords.bin and meta.json: from a map folder, or made up (words in blobs, seeded)."""
    if folder:
        path = Path(folder)
        tokens = json.loads((path / "tokens.json").read_text())
        return tokens, (path / "coords.bin").read_bytes(), json.loads((path / "meta.json").read_text())
    rng = random.Random(7)
    pieces = list(
        dict.fromkeys([*TEXT.split("|"), *FAILED.split("|"), " Michael", " John", " Chris", " half", " zens"])
    )
    tokens = pieces + [
        rng.choice(["", " ", " "]) + "".join(rng.choices(SYLLABLES, k=rng.randint(1, 3)))
        for _ in range(size - len(pieces))
    ]
    centres = [(rng.uniform(-0.85, 0.85), rng.uniform(-0.85, 0.85), rng.uniform(0.03, 0.2)) for _ in range(60)]
    places = []
    for _ in range(size):
        x, y, spread = rng.choice(centres)
        places += [max(-1.0, min(1.0, rng.gauss(x, spread))), max(-1.0, min(1.0, rng.gauss(y, spread * 0.8)))]
    return tokens, struct.pack(f"<{len(places)}f", *places), {"trustworthiness": 0.83, "n": size, "method": "synthetic"}


def payload(query: dict[str, str], folder: str | None) -> dict:
    """A whole payload with K steps; the page reveals them as its state asks."""
    tokens, _, _ = vocabulary(folder)
    ids = {text: i for i, text in reversed(list(enumerate(tokens)))}
    rng = random.Random(11)
    positions, steps = int(query.get("M", 24)), int(query.get("K", 10))
    prefix = [ids.get(t, 300 + len(t)) for t in TEXT.split("|")]
    prefix = (prefix * (1 + positions // len(prefix)))[:positions]
    continuation = [ids.get(t, 300 + len(t)) for t in FAILED.split("|")]
    anchor = [ids.get(t, 300 + len(t)) for t in ["\n", "The", " answer", " is", " ", "3", "6"]]
    mentioned = set(prefix + continuation + anchor)
    names = [
        ids.get(t, 1000 + i)
        for i, t in enumerate([" Michael", " John", " Chris", " David", " twice", " three", " both"])
    ]
    words = [rng.randrange(400, len(tokens)) for _ in range(40)]
    gamma = float(query.get("gamma", 0.05))
    nearest = list(prefix)
    out = []
    for k in range(steps):
        vertices = []
        for t in range(positions):
            again = k > 0 and rng.random() < 0.55
            vertices.append(out[k - 1]["vertices"][t] if again else rng.choice(names if rng.random() < 0.7 else words))
            if k > 2 and rng.random() < 0.02:
                nearest[t] = rng.choice(vertices)
        toward = 0.5 + 2.0 * math.exp(-k / 4) + rng.gauss(0, 0.03)
        away = 0.62 + 0.13 * k + rng.gauss(0, 0.02)
        mentioned.update(vertices)
        out.append(
            {
                "k": k,
                "step_size": gamma,
                "toward_loss": toward,
                "away_loss": away,
                "objective": toward - 0.3 * away,
                "gap": 3.4 * math.exp(-k / 5) + abs(rng.gauss(0, 0.1)),
                "vertices": vertices,
                "nearest": list(nearest),
                "moved": [
                    round((1 - (1 - gamma) ** (k + 1)) * (1.1 + 0.5 * math.sin(t * 2.3)), 5) for t in range(positions)
                ],
                "toward_grad_norm": [round(abs(rng.gauss(0.02, 0.012)), 6) for _ in range(positions)],
                "away_grad_norm": [round(abs(rng.gauss(0.012, 0.006)), 6) for _ in range(positions)],
                "grad_cosine": [round(max(-1, min(1, rng.gauss(0.1, 0.4))), 4) for _ in range(positions)],
            }
        )
    texts = {str(i): tokens[i] for i in mentioned}
    if query.get("hostile"):
        for i, text in zip(prefix, HOSTILE, strict=False):
            texts[str(i)] = text
    # Names are short rows here as on the default model; the rest scatters about the median.
    norms = {str(i): round(rng.uniform(2.9, 4.4), 4) for i in sorted(mentioned)}
    norms |= {str(i): round(rng.uniform(1.9, 2.3), 4) for i in names}
    end = {"toward_loss": 0.61, "away_loss": 0.62 + 0.13 * steps, "gap": 0.5}
    return {
        "run_id": "harness",
        "live": True,
        "recorded": {"id": "harness", "title": "A recorded run", "date": "2026-11-23"}
        if query.get("state") == "recorded"
        else None,
        "status": "paused",
        "message": "",
        "model": {
            "id": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "dtype": "float32",
            "device": "cpu",
            "vocab_size": len(tokens),
            "hidden_size": 576,
        },
        "map_key": "demo",
        "map_status": {"state": "ready", "progress": 1, "message": ""},
        "prefix": prefix,
        "continuation": continuation,
        "anchor": {"text": "\nThe answer is 36", "token_ids": anchor, "answer_span": [5, 7]},
        "tokens": texts,
        "norms": norms,
        "median_norm": 3.6,
        "config": {
            "steps": steps,
            "step_rule": "constant",
            "step_size": gamma,
            "away_weight": 0.3,
            "toward_weight": 1.0,
        },
        "steps": out,
        "final": {**end, "objective": end["toward_loss"] - 0.3 * end["away_loss"]},
        "joint": None,
    }


def joint(whole: dict, folder: str | None) -> dict:
    """A made-up joint fit: hull places, bent a little, in units of their own."""
    _, coords, _ = vocabulary(folder)
    rng = random.Random(3)

    def at(i: int) -> list[float]:
        return list(struct.unpack_from("<2f", coords, 8 * i))

    place = [at(i) for i in whole["prefix"]]
    points = [place]
    for step in whole["steps"]:
        place = [
            [a + 0.05 * (b - a) + rng.gauss(0, 0.004) for a, b in zip(p, at(v), strict=True)]
            for p, v in zip(place, step["vertices"], strict=True)
        ]
        points.append(place)
    near = sorted({*whole["prefix"], *(v for s in whole["steps"] for v in s["vertices"])})
    near += [rng.randrange(len(coords) // 8) for _ in range(900)]
    scaled = [[[7 * x + 20, 4 * y - 3] for x, y in row] for row in points]
    return {
        "state": "ready",
        "progress": 1,
        "message": "",
        "points": scaled,
        "neighbours": [[i, 7 * at(i)[0] + 20, 4 * at(i)[1] - 3] for i in near],
        "trustworthiness": 0.91,
    }


def duel(query: dict[str, str], folder: str | None) -> dict:
    """Two runs and their comparison, on and off: A as `payload` makes it, B with M2 positions, K2 steps, gamma2, away2.

    The comparison is the real one, from records that hold these made-up numbers.
    """
    from explorer import records
    from explorer.views.duel import duel_payload

    other = {**query, "M": query.get("M2", query.get("M", "24")), "K": query.get("K2", "6")}
    other["gamma"] = query.get("gamma2", "0.1")
    a, b = payload(query, folder), payload(other, folder)
    b |= {"run_id": "other", "status": "completed", "map_key": query.get("map2", "demo")}
    b["config"]["away_weight"] = float(query.get("away2", 0.6))
    # Its losses fall more slowly, so that the lines part.
    for step in b["steps"]:
        step["toward_loss"] += 0.1 * step["k"]
        step["objective"] = step["toward_loss"] - b["config"]["away_weight"] * step["away_loss"]

    def record(whole: dict, hits: int) -> records.Trace:
        return records.Trace(
            created_at="2026-01-01T00:00:00+00:00",
            tool_version="0",
            model=records.ModelInfo(source="wheel", **whole["model"]),
            problem=records.Problem(id="p", question="How many eggs does she sell in all?", answer="36"),
            prompt=records.Prompt(text="", token_ids=()),
            sampling=records.SamplingConfig(),
            split=records.Split(
                rollout=0, prefix_token_ids=whole["prefix"], continuation_token_ids=whole["continuation"]
            ),
            config=records.RevisionConfig(**whole["config"]),
            steps=[records.RevisionStep(**step) for step in whole["steps"]],
            final=records.Evaluation(**whole["final"]),
            after=[
                records.Continuation(
                    token_ids=(), text="", start=start, step=1, verdict=records.Verdict.CORRECT if i < n else "wrong"
                )
                for start, n in (
                    (records.Start.REVISED, hits),
                    (records.Start.PROJECTED, 1),
                    (records.Start.ORIGINAL, 0),
                )
                for i in range(8)
            ],
        )

    options = [("other", "Eggs, λ 0.6, γ 0.1", "Recorded runs"), ("mine", "Eggs, <b>again</b>", "Your runs")]
    sides = record(a, 3), record(b, 1)
    return {
        "a": a,
        "b": b,
        "on": duel_payload(*sides, options, "other", "This run", "Eggs, λ 0.6, γ 0.1"),
        "off": duel_payload(sides[0], None, options, None, "This run", ""),
    }


class Handler(BaseHTTPRequestHandler):
    """Serves the page, the assets, plotly.js, the map and the payload; anything else is 404."""

    folder: str | None = None

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        parts = [p for p in url.path.split("/") if p not in ("", "..")]
        tokens, coords, meta = vocabulary(self.folder)
        if not parts:
            self.answer((HERE / "stage.html").read_bytes(), ".html")
        elif parts == ["tour"]:
            self.answer((HERE / "tour.html").read_bytes(), ".html")
        elif parts == ["duel"]:
            self.answer((HERE / "duel.html").read_bytes(), ".html")
        elif parts == ["duel-payload"]:
            self.answer(json.dumps(duel(query, self.folder)).encode(), ".json")
        elif parts == ["payload"]:
            whole = payload(query, self.folder)
            self.answer(json.dumps({"whole": whole, "joint": joint(whole, self.folder)}).encode(), ".json")
        elif parts[:2] == ["lr", "assets"] and (ASSETS / "/".join(parts[2:])).is_file():
            path = ASSETS / "/".join(parts[2:])
            self.answer(path.read_bytes(), path.suffix)
        elif parts == ["lr", "plotly.min.js"]:
            import plotly

            self.answer((Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes(), ".js")
        elif parts[:2] == ["static", "fonts"]:
            import gradio

            path = Path(gradio.__file__).parent / "templates/frontend/static" / "/".join(parts[1:])
            self.answer(path.read_bytes(), path.suffix)
        elif parts[:3] == ["lr", "map", "demo"]:
            body = {"coords.bin": lambda: coords, "tokens.json": lambda: json.dumps(tokens).encode()}
            self.answer(body.get(parts[3], lambda: json.dumps(meta).encode())(), Path(parts[3]).suffix)
        else:
            self.send_error(404)

    def answer(self, body: bytes, suffix: str) -> None:
        """One whole answer, never cached: assets change while one works on them."""
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        # A page that closes early hangs up; that is no error here.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)


def serve_folder() -> str | None:
    """The first whole map under assets/maps, if there is one."""
    found = sorted(p.parent for p in (ASSETS / "maps").glob("*/coords.bin") if (p.parent / "tokens.json").exists())
    return str(found[0]) if found else None


def serve(port: int = 0, folder: str | None = None) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 (port 0: any free one), not yet started; call `serve_forever` in a thread of your own."""
    handler = type("Bound", (Handler,), {"folder": folder or serve_folder()})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--map", help="map folder: coords.bin, tokens.json, meta.json")
    arguments = parser.parse_args()
    server = serve(arguments.port, arguments.map)
    print(f"http://127.0.0.1:{server.server_address[1]}/?state=paused", flush=True)
    server.serve_forever()
