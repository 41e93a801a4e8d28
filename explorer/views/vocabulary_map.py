"""Two dimensions for the vocabulary: a UMAP layout fitted once per model, and a joint one of a run and its neighbours.

Source: UMAP, arXiv 1802.03426 (umap-learn); trustworthiness after Venna and Kaski, "Neighborhood preservation in
nonlinear projection methods" (2001).

A layout is a folder named by the vocabulary's fingerprint, in assets/maps (shipped) or in the user's cache:

- coords.bin: float32 little endian, (vocab_size, 2). Both axes are centred on the middle of their range and divided by
  one common factor, half of the wider range, so that everything lies in [-1, 1] and distances keep their proportions.
  Nothing is clipped: a hull-weighted mean of coordinates stays inside.
- tokens.json: the display text of every token id.
- sketch.bin: float16 little endian, (≤ 64, hidden), rows at even spacing: tells whether another vocabulary is this one
  but for rounding.
- meta.json: parameters, versions, and how far the picture may be believed.

What it does not do: place moving points step by step (UMAP's transform scatters near-identical points), draw, fit in
the server's own process. umap, numba and sklearn are imported in the child process only.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from explorer.child import PROJECT_ROOT, Child, end_with_parent, parse, python_module, say
from explorer.errors import describe
from explorer.fingerprint import fingerprint, spaced_rows

SHIPPED = PROJECT_ROOT / "assets" / "maps"
_KEY = re.compile(r"[0-9a-f]{16}")

SKETCH_ROWS = 64
# Mean cosine of centred sketch rows above which two vocabularies share a layout. 8-bit quantised or bfloat16 rows agree
# to more than 0.999 with their originals, those of another model to about 0.
SAME_VOCABULARY = 0.99

N_NEIGHBORS = 15
MIN_DIST = 0.1
SEED = 0
# Of the default model's true 15 nearest neighbours 16 % are kept by a layout of all 576 dimensions, 15 % from 256
# principal ones in half the time, and 2 to 3 % from 64: token embeddings are close to full rank, so the usual 50 to 100
# would be too few.
MAX_DIMENSIONS = 256
QUALITY_SAMPLE = 1_000

# A joint layout stays near the size (4,096) below which UMAP compares all pairs, which needs no index and half the
# compilation.
MAX_NEIGHBOURHOOD = 2_500
MAX_TRAIL_POINTS = 6_000
MAX_POINTS_PER_TRAIL = 31


# -- which layout belongs to which vocabulary ------------------------------------------------------


def map_folder(key: str, cache_dir: Path, vocabulary: Tensor | None = None) -> Path | None:
    """The folder of a finished layout, or None: the shipped ones first, then the user's cache.

    Given the vocabulary itself, a layout of another one that differs by rounding only (bfloat16, 8-bit quantisation) is
    found as well; so the name of the folder, not `key`, is what to ask for from then on. A damaged folder counts as
    absent and is replaced by the next build. `key` may come from an address: anything but a fingerprint finds nothing.
    """
    if not _KEY.fullmatch(key):
        return None
    places = (SHIPPED, cache_dir / "maps")
    for place in places:
        if _is_whole(place / key):
            return place / key
    if vocabulary is not None:
        for place in places:
            for folder in sorted(place.iterdir()) if place.is_dir() else ():
                # Half of one that a killed process left has another name, and could not be asked for by it.
                if _KEY.fullmatch(folder.name) and _is_whole(folder) and _sketch_agrees(folder, vocabulary):
                    return folder
    return None


def _is_whole(folder: Path) -> bool:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        with (folder / "tokens.json").open("rb") as tokens:
            tokens.seek(-1, os.SEEK_END)
            closed = tokens.read() == b"]"  # read in full by the browser only: half of it does not end so
        return closed and (folder / "coords.bin").stat().st_size == meta["n"] * 8
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _sketch_agrees(folder: Path, vocabulary: Tensor) -> bool:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if (meta["n"], meta.get("hidden")) != tuple(vocabulary.shape):
        return False
    ours = spaced_rows(vocabulary, SKETCH_ROWS)
    try:
        theirs = torch.from_numpy(np.fromfile(folder / "sketch.bin", dtype="<f2").astype(np.float32)).view_as(ours)
    except (OSError, RuntimeError):
        return False
    # Centred, because rows of one model share a large common direction that says nothing.
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    return float(torch.cosine_similarity(ours, theirs, dim=1).mean()) >= SAME_VOCABULARY


# -- jobs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands. `progress` is 0..1, never falling; `message` is one plain sentence."""

    state: Literal["building", "ready", "failed", "cancelled"]
    progress: float
    message: str


class Job:
    """Work in a child process. `poll` as often as you like; it never waits.

    Poll or cancel it from one thread at a time.
    """

    def __init__(self, arguments: Sequence[str], scratch: Path, collect: Callable[[], object]):
        """Start `python -m explorer.views.vocabulary_map` with the arguments.

        `scratch` is deleted when it ends, `result` is `collect()`.
        """
        # UMAP's seeded layout runs on one thread; the rest (matrix products) may use the cores that torch uses here.
        threads = str(torch.get_num_threads())
        environment = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        self._child = Child(python_module("explorer.views.vocabulary_map", *arguments), environment)
        self._scratch = scratch
        self._collect = collect
        self._status = JobStatus("building", 0.0, "Starting.")
        self._error = ""
        self.result: object | None = None

    def poll(self) -> JobStatus:
        """The status now; the first call after success reads the result in."""
        if self._status.state != "building":
            return self._status
        running = self._child.running  # asked before reading, so that no last line is missed
        progress, message = self._status.progress, self._status.message
        for line in self._child.new_lines():
            heard = parse(line)
            progress = max(progress, float(heard.get("fraction") or 0.0))
            message = heard.get("message", message)
            self._error = heard.get("error", self._error)
        self._status = JobStatus("building", progress, message)
        if not running:
            self._finish()
        return self._status

    def cancel(self) -> None:
        """Stop the child and forget what it did; harmless once it has ended."""
        if self._status.state == "building":
            self._child.stop()
            self._status = JobStatus("cancelled", self._status.progress, "Stopped.")
            shutil.rmtree(self._scratch, ignore_errors=True)

    def wait(self, timeout_s: float = 600.0) -> JobStatus:
        """Poll until it is no longer building, or `timeout_s` seconds have gone by."""
        end = time.monotonic() + timeout_s
        while self.poll().state == "building" and time.monotonic() < end:
            time.sleep(0.05)
        return self._status

    def _finish(self) -> None:
        try:
            if self._child.exit_code == 0:
                self.result = self._collect()
                self._status = JobStatus("ready", 1.0, "Ready.")
            else:
                last = self._child.error_text().strip().splitlines()
                why = self._error or (last[-1] if last else f"the process ended with code {self._child.exit_code}")
                self._status = JobStatus("failed", self._status.progress, f"The layout could not be made: {why}")
        except (OSError, ValueError, KeyError) as error:
            self._status = JobStatus("failed", self._status.progress, f"The layout could not be read back: {error}")
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)


class MapJob(Job):
    """Fits a whole vocabulary; `result` is the folder of the finished layout."""

    result: Path | None


class JointJob(Job):
    """Fits a run and its neighbourhood together; `result` is the `JointLayout`."""

    result: JointLayout | None


@dataclass(frozen=True)
class JointLayout:
    """Where a run lies in its neighbourhood, as UMAP itself sees it; all places in [-1, 1].

    `points`: (steps+1, positions, 2). `neighbours`: (count, 3) rows of token id, x, y. `trustworthiness`: 0..1, of this
    layout.
    """

    points: list[list[list[float]]]
    neighbours: list[list[float]]
    trustworthiness: float


def start_map_build(vocabulary: Tensor, tokens: Sequence[str], cache_dir: Path, model_id: str) -> MapJob:
    """Begin to fit the layout of a vocabulary, (vocab_size, hidden), into cache_dir/maps/<fingerprint>.

    Args:
        vocabulary: rows as the model consumes them, any float dtype and device.
        tokens: display text of every token id, vocab_size of them.
        cache_dir: `Settings.cache_dir`.
        model_id: for the record only.

    Raises:
        ValueError: not one text per row.
        OSError: the scratch files can't be written.
    """
    if len(tokens) != len(vocabulary):
        raise ValueError(f"{len(tokens)} texts for {len(vocabulary)} vocabulary rows")
    key = fingerprint(vocabulary)
    out = cache_dir / "maps" / key
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="latentrevise-map-"))
    try:
        save_file({"vocabulary": vocabulary.detach().cpu().contiguous()}, scratch / "vocabulary.safetensors")
        (scratch / "tokens.json").write_text(json.dumps(list(tokens)), encoding="utf-8")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    arguments = [
        "map",
        "--vocabulary",
        str(scratch / "vocabulary.safetensors"),
        "--tokens",
        str(scratch / "tokens.json"),
    ]
    return MapJob([*arguments, "--out", str(out), "--model-id", model_id], scratch, lambda: out)


def neighbourhood(
    vocabulary: Tensor,
    trajectory: Tensor,
    always: Sequence[int] = (),
    *,
    per_point: int = 40,
    limit: int = MAX_NEIGHBOURHOOD,
) -> list[int]:
    """Token ids worth showing around a run: `always` (every vertex, say), then the nearest to starts and ends.

    Nearness is the cosine, as in the layouts. Nearest come first for every point in turn, so that a limit thins all
    neighbourhoods alike.

    Args:
        vocabulary: (vocab_size, hidden).
        trajectory: (steps+1, positions, hidden).
        always: token ids to include whatever their place.
        per_point: how many neighbours each start and each end asks for.
        limit: at most this many ids in all, `always` first.

    Returns:
        Distinct token ids.
    """
    vocabulary = vocabulary.detach()
    ends = torch.cat([trajectory[0], trajectory[-1]]).to(vocabulary.device, torch.float32)
    rows = torch.nn.functional.normalize(vocabulary.float(), dim=1)
    near = (torch.nn.functional.normalize(ends, dim=1) @ rows.T).topk(min(per_point, len(rows)), dim=1).indices
    return list(dict.fromkeys([*map(int, always), *near.T.flatten().tolist()]))[:limit]


def start_joint_layout(trajectory: Tensor, vocabulary: Tensor, neighbour_ids: Sequence[int]) -> JointJob:
    """Begin to fit one layout of a run's points and the given tokens together.

    Args:
        trajectory: (steps+1, positions, hidden), embeddings[k] as in trajectory.safetensors.
        vocabulary: (vocab_size, hidden).
        neighbour_ids: distinct token ids, as `neighbourhood` gives them.
    """
    ids = torch.tensor(list(neighbour_ids), dtype=torch.long)
    scratch = Path(tempfile.mkdtemp(prefix="latentrevise-joint-"))
    out = scratch / "joint.json"
    try:
        rows = vocabulary.detach()[ids.to(vocabulary.device)].float().cpu()
        points = trajectory.detach().float().cpu().contiguous()
        save_file({"trajectory": points, "rows": rows, "ids": ids}, scratch / "points.safetensors")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise

    def collect() -> JointLayout:
        return JointLayout(**json.loads(out.read_text(encoding="utf-8")))

    return JointJob(["joint", "--points", str(scratch / "points.safetensors"), "--out", str(out)], scratch, collect)


# -- in the child process --------------------------------------------------------------------------


def fit(rows: np.ndarray, n_neighbors: int, progress: Callable[[float, str], None]) -> np.ndarray:
    """UMAP of embedding rows, (n, hidden) float32, by angle.

    Seeded, so the same rows give the same layout on one machine.

    Rows are brought to unit length first. With more than 256 dimensions, the 256 principal ones stand for them; with
    fewer the mean is taken away, which is what principal components do too. Without either, the common direction of all
    embeddings hides their differences.

    Returns:
        (n, 2) float32, scaled as coords.bin is.
    """
    progress(0.02, "Loading UMAP.")
    import umap
    from sklearn.decomposition import PCA

    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    if min(unit.shape) > MAX_DIMENSIONS:
        progress(0.08, "Finding the principal dimensions.")
        unit = PCA(MAX_DIMENSIONS, svd_solver="covariance_eigh").fit_transform(unit).astype(np.float32)
    else:
        unit = unit - unit.mean(axis=0)
    progress(0.10, "Finding each token's neighbours.")
    layout = umap.UMAP(
        n_neighbors=min(n_neighbors, len(unit) - 1),
        min_dist=MIN_DIST,
        metric="cosine",
        init="pca",
        random_state=SEED,
        n_jobs=1,  # what a seed implies
        verbose=True,
        tqdm_kwds={"file": _Percent(lambda done: progress(0.55 + 0.35 * done, "Arranging the map."))},
    ).fit_transform(unit)
    return _scaled(layout)


class _Percent:
    """Stands in for the terminal that UMAP's progress bar writes to."""

    def __init__(self, heard: Callable[[float], None]):
        self._heard = heard

    def write(self, text: str) -> None:
        if match := re.search(r"(\d+)%", text):
            self._heard(int(match[1]) / 100)

    def flush(self) -> None:
        pass


def _scaled(layout: np.ndarray) -> np.ndarray:
    low, high = layout.min(axis=0), layout.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    return np.clip((layout - (low + high) / 2) / half, -1, 1).astype(
        np.float32
    )  # the clip only undoes rounding past ±1


def quality(
    rows: np.ndarray, layout: np.ndarray, k: int = N_NEIGHBORS, sample: int = QUALITY_SAMPLE
) -> dict[str, float]:
    """How far a layout may be believed, for `sample` points at random (seeded) against all n points.

    The truth is the cosine of the rows as they are. A sample compared within itself only would judge neighbourhoods
    that nobody sees: it prefers layouts that lose nearly all true neighbours.

    Args:
        rows: (n, hidden) float32.
        layout: (n, 2).
        k: neighbours per point.
        sample: how many points are judged.

    Returns:
        trustworthiness: 0..1, falls when the layout's k nearest were not near (the same number as sklearn's where the
            sample is all).
        neighbours_kept: 0..1, share of the true k nearest among the layout's k nearest.
        pearson, spearman: of the sample's pairwise distances, cosine distance against distance in the layout.
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import pearsonr, spearmanr

    n = len(rows)
    k = min(k, (n - 1) // 2)
    chosen = np.sort(np.random.default_rng(SEED).choice(n, min(sample, n), replace=False))
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    penalty = kept = 0.0
    for start in range(0, len(chosen), 100):  # in blocks: one by one, reading the matrix from memory is what takes time
        block = chosen[start : start + 100]
        for i, similarity in zip(block, unit[block] @ unit.T, strict=True):
            similarity[i] = -np.inf
            away = ((layout - layout[i]) ** 2).sum(axis=1)
            away[i] = np.inf
            shown = np.argpartition(away, k - 1)[:k]
            # The rank of a shown neighbour among the true ones: 1 is the nearest.
            ranks = (similarity[None, :] > similarity[shown, None]).sum(axis=1) + 1
            penalty += np.maximum(ranks - k, 0).sum()
            kept += (ranks <= k).sum()
    high, low = pdist(rows[chosen], "cosine"), pdist(layout[chosen].astype(np.float64))
    return {
        "trustworthiness": round(float(1 - penalty / len(chosen) * 2 / (k * (2 * n - 3 * k - 1))), 4),
        "neighbours_kept": round(float(kept / len(chosen) / k), 4),
        "pearson": round(float(pearsonr(high, low).statistic), 4),
        "spearman": round(float(spearmanr(high, low).statistic), 4),
    }


def build_map(
    vocabulary: Tensor, tokens: Sequence[str], out: Path, model_id: str, progress: Callable[[float, str], None]
) -> None:
    """Fit, judge and write a layout folder; whole or not at all."""
    began = time.monotonic()
    rows = vocabulary.float().numpy()
    layout = fit(rows, N_NEIGHBORS, progress)
    progress(0.92, "Measuring how far the map can be trusted.")
    measured = quality(rows, layout)
    meta = {
        "method": "UMAP of unit-length embeddings by cosine, "
        + (f"{MAX_DIMENSIONS} principal dimensions" if min(rows.shape) > MAX_DIMENSIONS else "centred"),
        "parameters": {
            "n_neighbors": N_NEIGHBORS,
            "min_dist": MIN_DIST,
            "metric": "cosine",
            "init": "pca",
            "random_state": SEED,
        },
        **measured,
        "quality_sample": min(QUALITY_SAMPLE, len(rows)),
        "quality_neighbours": N_NEIGHBORS,
        "model_id": model_id,
        "fingerprint": fingerprint(vocabulary),
        "n": rows.shape[0],
        "hidden": rows.shape[1],
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("umap-learn", "numba", "scikit-learn", "numpy")
        },
        "seconds": round(time.monotonic() - began, 1),
    }
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # Not `tofile`: of a full disk it says how many numbers it wrote, not why no more.
        (partial / "coords.bin").write_bytes(layout.astype("<f4").tobytes())
        (partial / "sketch.bin").write_bytes(spaced_rows(vocabulary, SKETCH_ROWS).numpy().astype("<f2").tobytes())
        (partial / "tokens.json").write_text(json.dumps(list(tokens), ensure_ascii=False), encoding="utf-8")
        (partial / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if out.exists():  # a damaged one, or another process was faster
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def build_joint(
    trajectory: np.ndarray, rows: np.ndarray, ids: Sequence[int], progress: Callable[[float, str], None]
) -> JointLayout:
    """Fit tokens and trails in one layout.

    A trail's points lie so close together that with few neighbours they would know only each other and float off as an
    island: each point is given as many neighbours more as its trail has points. Long trails are fitted at even spacing,
    the points between are placed on straight lines.

    Args:
        trajectory: (steps+1, positions, hidden) float32.
        rows: (count, hidden) float32, the tokens' vocabulary rows.
        ids: their token ids.
        progress: called with 0..1 and a sentence.
    """
    points, positions, hidden = trajectory.shape
    room = max(2, min(MAX_POINTS_PER_TRAIL, MAX_TRAIL_POINTS // max(positions, 1)))
    fitted = np.unique(np.linspace(0, points - 1, min(points, room)).round().astype(int))
    everything = np.concatenate([rows, trajectory[fitted].reshape(-1, hidden)]).astype(np.float32)
    layout = fit(everything, N_NEIGHBORS + len(fitted), progress)
    progress(0.92, "Measuring how far the layout can be trusted.")
    trust = quality(everything, layout)["trustworthiness"]
    trails = layout[len(rows) :].reshape(len(fitted), positions, 2)
    whole = np.empty((points, positions, 2), np.float32)
    for axis in range(2):
        for position in range(positions):
            whole[:, position, axis] = np.interp(np.arange(points), fitted, trails[:, position, axis])
    neighbours = [[int(token), *place] for token, place in zip(ids, _rounded(layout[: len(rows)]), strict=True)]
    return JointLayout(points=_rounded(whole), neighbours=neighbours, trustworthiness=trust)


def _rounded(places: np.ndarray) -> list:
    """Nested lists with four decimals: a tenth of a pixel on a map 2,000 pixels wide, at a third of the bytes."""
    return np.round(places.astype(np.float64), 4).tolist()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m explorer.views.vocabulary_map map|joint …`: fit, and print JSON progress lines."""
    parser = argparse.ArgumentParser(prog="python -m explorer.views.vocabulary_map", description="Fit a UMAP layout.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    whole = verbs.add_parser("map", help="a whole vocabulary, into a folder")
    whole.add_argument(
        "--vocabulary", type=Path, required=True, help="safetensors with `vocabulary` (vocab_size, hidden)"
    )
    whole.add_argument("--tokens", type=Path, required=True, help="JSON list of display texts")
    whole.add_argument("--out", type=Path, required=True, help="folder to write, named by the fingerprint")
    whole.add_argument("--model-id", default="")
    joint = verbs.add_parser("joint", help="a run with its neighbourhood, into a JSON file")
    joint.add_argument("--points", type=Path, required=True, help="safetensors with trajectory, rows, ids")
    joint.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    end_with_parent()
    if hasattr(os, "nice"):
        os.nice(5)  # the page and the model come first

    last = -1.0

    def progress(fraction: float, message: str) -> None:
        nonlocal last
        if fraction - last >= 0.01:
            last = fraction
            say(fraction=round(fraction, 3), message=message)

    try:
        if options.verb == "map":
            vocabulary = load_file(options.vocabulary)["vocabulary"]
            tokens = json.loads(options.tokens.read_text(encoding="utf-8"))
            # From here on they are needed by nobody, and nobody would remove them should parent and child be killed.
            options.vocabulary.unlink()
            options.tokens.unlink()
            build_map(vocabulary, tokens, options.out, options.model_id, progress)
        else:
            given = load_file(options.points)
            options.points.unlink()  # as above
            layout = build_joint(given["trajectory"].numpy(), given["rows"].numpy(), given["ids"].tolist(), progress)
            if not math.isfinite(layout.trustworthiness):
                raise ValueError("the run has too few points to be laid out")
            options.out.write_text(json.dumps(layout.__dict__), encoding="utf-8")
    except (OSError, MemoryError) as error:
        say(error=describe(error))
        return 1
    except ValueError as error:
        say(error=f"{str(error).rstrip('.') or type(error).__name__}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
