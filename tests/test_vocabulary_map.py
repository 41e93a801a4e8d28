"""The vocabulary's layout: its name, its place on disk, its honesty, and the child processes that fit it."""

import json
import time

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness

from explorer.views import vocabulary_map
from explorer.views.vocabulary_map import (
    SHIPPED,
    fingerprint,
    map_folder,
    neighbourhood,
    quality,
    start_joint_layout,
    start_map_build,
)


def _rows(count=300, hidden=16, seed=0) -> torch.Tensor:
    return torch.randn(count, hidden, generator=torch.Generator().manual_seed(seed)) + 0.5


def _write_folder(folder, vocabulary):
    folder.mkdir(parents=True)
    n, hidden = vocabulary.shape
    np.zeros((n, 2), "<f4").tofile(folder / "coords.bin")
    (folder / "tokens.json").write_text(json.dumps(["x"] * n))
    (folder / "meta.json").write_text(json.dumps({"n": n, "hidden": hidden}))
    sketch = vocabulary[torch.linspace(0, n - 1, min(64, n), dtype=torch.float64).long()]
    sketch.float().numpy().astype("<f2").tofile(folder / "sketch.bin")


# -- names -----------------------------------------------------------------------------------------


def test_fingerprint_depends_on_values_and_shape_only():
    rows = _rows()
    name = fingerprint(rows)
    assert len(name) == 16
    assert int(name, 16) >= 0
    assert fingerprint(rows.clone().requires_grad_()) == name
    assert fingerprint(rows.double()) == name
    assert fingerprint(rows.T.contiguous().T) == name  # another memory layout
    assert fingerprint(rows.T.contiguous()) != name
    assert fingerprint(rows + 1e-6) != name
    assert fingerprint(rows.bfloat16()) != name
    assert fingerprint(rows[:-1]) != name


def test_fingerprint_of_a_large_vocabulary_is_quick():
    rows = torch.zeros(49_152, 576)
    # Processor time: a loaded machine lends the processor to others in between.
    began = time.process_time()
    fingerprint(rows)
    assert time.process_time() - began < 0.2


# -- places ----------------------------------------------------------------------------------------


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary_map, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped", tmp_path / "cache"


def test_shipped_first_then_cache_then_nothing(shelves):
    shipped, cache = shelves
    rows = _rows()
    key = fingerprint(rows)
    assert map_folder(key, cache) is None
    _write_folder(cache / "maps" / key, rows)
    assert map_folder(key, cache) == cache / "maps" / key
    _write_folder(shipped / key, rows)
    assert map_folder(key, cache) == shipped / key


@pytest.mark.parametrize("damage", ["coords.bin", "tokens.json", "meta.json", "truncated", "garbled"])
def test_a_damaged_folder_counts_as_absent(shelves, damage):
    _, cache = shelves
    rows = _rows()
    folder = cache / "maps" / fingerprint(rows)
    _write_folder(folder, rows)
    if damage == "truncated":
        (folder / "coords.bin").write_bytes(b"1234")
    elif damage == "garbled":
        (folder / "meta.json").write_text("[]")
    else:
        (folder / damage).unlink()
    assert map_folder(folder.name, cache) is None
    assert map_folder(folder.name, cache, rows) is None


@pytest.mark.parametrize(
    "key", ["", "..", "../../../../etc", "ABCDEF0123456789", "0123456789abcde/", "0123456789abcdef\n"]
)
def test_a_key_from_an_address_reaches_no_other_folder(shelves, key):
    _, cache = shelves
    (cache / "maps").mkdir(parents=True)
    assert map_folder(key, cache) is None


def test_rounding_shares_a_layout_and_another_model_does_not(shelves):
    shipped, cache = shelves
    rows = _rows()
    _write_folder(shipped / fingerprint(rows), rows)
    rounded = rows.bfloat16()
    assert map_folder(fingerprint(rounded), cache) is None
    assert map_folder(fingerprint(rounded), cache, rounded) == shipped / fingerprint(rows)
    for other in (_rows(seed=1), rows.flip(0), rows[:-1], rows[:, :-1], rows + 0.5 * _rows(seed=2)):
        assert map_folder(fingerprint(other), cache, other) is None


# -- honesty ---------------------------------------------------------------------------------------


def test_trustworthiness_equals_sklearn_where_the_sample_is_everything():
    rows = _rows().numpy()
    layout = (rows[:, :2] + 0.3 * _rows(seed=3).numpy()[:, :2]).astype(np.float32)
    ours = quality(rows, layout, k=15, sample=len(rows))
    assert ours["trustworthiness"] == pytest.approx(
        trustworthiness(rows, layout, n_neighbors=15, metric="cosine"), abs=1e-4
    )


def test_neighbours_kept_equals_a_plain_count():
    rows = _rows(120).numpy()
    layout = rows[:, :2]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kept = 0
    for i in range(120):
        true = sorted((j for j in range(120) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:15]
        shown = sorted((j for j in range(120) if j != i), key=lambda j: float(np.sum((layout[i] - layout[j]) ** 2)))[
            :15
        ]
        kept += len(set(true) & set(shown))
    assert quality(rows, layout, sample=120)["neighbours_kept"] == pytest.approx(kept / (120 * 15), abs=1e-4)


def test_a_faithful_layout_is_trusted_and_a_random_one_is_not():
    angles = np.sort(np.random.default_rng(0).uniform(0, 1.5, 200))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    faithful = quality(rows, rows, sample=200)
    assert faithful["trustworthiness"] > 0.999
    assert faithful["spearman"] > 0.999
    random = quality(rows, np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32), sample=200)
    assert random["trustworthiness"] < 0.6
    assert abs(random["spearman"]) < 0.2


def test_scaling_keeps_proportions():
    layout = np.array([[0, 0], [30, 10], [60, 20]], np.float32)
    scaled = vocabulary_map._scaled(layout)
    assert scaled[:, 0].tolist() == [-1, 0, 1]
    assert scaled[:, 1].tolist() == pytest.approx([-1 / 3, 0, 1 / 3])
    assert np.isfinite(vocabulary_map._scaled(np.zeros((3, 2), np.float32))).all()


# -- neighbourhoods --------------------------------------------------------------------------------


def test_neighbourhood_is_the_nearest_by_angle():
    rows = _rows()
    trajectory = torch.stack([rows[[5, 9]], _rows(seed=4)[[0, 1]]])
    ids = neighbourhood(rows, trajectory, always=[7, 7, 299], per_point=4)
    unit = rows.numpy() / np.linalg.norm(rows.numpy(), axis=1, keepdims=True)
    expected = {7, 299}
    for point in trajectory.reshape(-1, 16).numpy():
        expected |= set(np.argsort(-(unit @ point))[:4].tolist())
    assert ids[:2] == [7, 299]
    assert len(ids) == len(set(ids))
    assert set(ids) == expected
    assert {5, 9} <= set(ids[:6])  # a limit drops the farthest first
    assert neighbourhood(rows, trajectory, always=[7], limit=3) == neighbourhood(rows, trajectory, always=[7])[:3]


# -- the child processes ---------------------------------------------------------------------------


def _wait(job):
    seen, until = [], time.monotonic() + 300
    while (status := job.poll()).state == "building":
        assert time.monotonic() < until
        seen.append(status.progress)
        time.sleep(0.02)
    return status, seen


def test_a_vocabulary_is_laid_out_in_a_child_process(tmp_path):
    rows = 0.3 * _rows(200)
    rows[:100, 0] += 4
    rows[100:, 1] += 4
    texts = [f"<script>{i}\n" for i in range(200)]
    damaged = tmp_path / "maps" / fingerprint(rows)
    damaged.mkdir(parents=True)
    job = start_map_build(rows, texts, tmp_path, "tiny")
    status, seen = _wait(job)
    assert status.state == "ready", status.message
    assert seen == sorted(seen)
    assert max(seen) > 0.5
    folder = map_folder(fingerprint(rows), tmp_path)
    assert job.result == folder == damaged  # the damaged folder was replaced
    assert json.loads((folder / "tokens.json").read_text(encoding="utf-8")) == texts
    layout = np.fromfile(folder / "coords.bin", "<f4").reshape(200, 2)
    assert np.abs(layout).max() == pytest.approx(1)
    first, second = layout[:100], layout[100:]
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > 2 * max(first.std(), second.std())
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert meta["trustworthiness"] == quality(rows.numpy(), layout)["trustworthiness"] > 0.7
    assert (meta["n"], meta["hidden"], meta["model_id"]) == (200, 16, "tiny")
    assert not job._scratch.exists()
    assert [file.name for file in (tmp_path / "maps").iterdir()] == [folder.name]


def test_a_run_and_its_neighbourhood_are_laid_out_together():
    rows = _rows(200)
    trajectory = [rows[:3]]
    for _ in range(40):  # more points than one trail is fitted with
        trajectory.append(0.95 * trajectory[-1] + 0.05 * rows[[50, 60, 70]])
    trajectory = torch.stack(trajectory)
    ids = neighbourhood(rows, trajectory, always=[50, 60, 70])
    job = start_joint_layout(trajectory, rows, ids)
    status, _ = _wait(job)
    assert status.state == "ready", status.message
    points = np.array(job.result.points)
    assert points.shape == (41, 3, 2)
    assert np.abs(points).max() <= 1
    assert [row[0] for row in job.result.neighbours] == ids
    assert 0.5 < job.result.trustworthiness <= 1
    places = {row[0]: np.array(row[1:]) for row in job.result.neighbours}
    for position, vertex in enumerate((50, 60, 70)):
        # A trail begins beside its own token and ends, at 0.95**40 = 13 % of it, beside its vertex.
        begin, end = points[0, position], points[-1, position]
        assert np.linalg.norm(begin - places[position]) < np.linalg.norm(begin - places[vertex])
        assert np.linalg.norm(end - places[vertex]) < np.linalg.norm(end - places[position])


def test_a_cancelled_build_leaves_nothing(tmp_path):
    rows = _rows()
    job = start_map_build(rows, ["x"] * 300, tmp_path, "tiny")
    job.poll()
    job.cancel()
    assert job.poll().state == "cancelled"
    assert not job._child.running
    assert not job._scratch.exists()
    assert map_folder(fingerprint(rows), tmp_path) is None
    job.cancel()


def test_a_vocabulary_that_cannot_be_laid_out_fails_with_a_sentence(tmp_path):
    rows = _rows()
    rows[3] = float("nan")
    status = start_map_build(rows, ["x"] * 300, tmp_path, "tiny").wait(120)
    assert status.state == "failed"
    assert "NaN" in status.message
    assert "Traceback" not in status.message
    with pytest.raises(ValueError, match="texts"):
        start_map_build(rows, ["x"], tmp_path, "tiny")


# -- the layout that ships -------------------------------------------------------------------------


def test_the_shipped_layout_is_whole_and_shows_structure(tmp_path):
    (folder,) = SHIPPED.iterdir()
    assert map_folder(folder.name, tmp_path) == folder
    layout = np.fromfile(folder / "coords.bin", "<f4").reshape(-1, 2)
    texts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    assert len(layout) == len(texts) == 49_152
    assert np.abs(layout).max() <= 1

    def spread(wanted):
        group = layout[[texts.index(text) for text in wanted]]
        return float(np.median(np.linalg.norm(group - np.median(group, axis=0), axis=1)))

    typical = float(np.median(np.linalg.norm(layout - np.median(layout, axis=0), axis=1)))
    assert spread("0123456789") < typical / 10
    assert spread([" Michael", " John", " David", " James", " Robert", " Mary"]) < typical / 4


@pytest.mark.real_model
def test_the_shipped_layout_is_the_default_models(tmp_path):
    from safetensors.torch import load_file

    from explorer.settings import read_settings
    from explorer.sources import resolve

    model = resolve("default", read_settings().cache_dir)
    rows = load_file(model.path / "model.safetensors")["model.embed_tokens.weight"].float()
    folder = map_folder(fingerprint(rows), tmp_path, rows)
    assert folder is not None
    assert folder.parent == SHIPPED
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    layout = np.fromfile(folder / "coords.bin", "<f4").reshape(-1, 2)
    measured = quality(rows.numpy(), layout)
    for name, value in measured.items():
        assert value == pytest.approx(meta[name], abs=0.01)
    assert measured["trustworthiness"] > 0.7
