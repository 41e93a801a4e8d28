"""The swapped linear layers against torch's own, and what must stay as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from explorer.kernels import FastLinear, MeanLosses, use_fast_products
from explorer.model import NUCLEUS_ROWS, draw


def pair(layer):
    """A one-layer network twice: as it is, and swapped (they share parameters)."""
    plain, swapped = nn.Sequential(layer), nn.Sequential(layer)
    assert use_fast_products(swapped.requires_grad_(False))
    assert isinstance(swapped[0], FastLinear)
    return plain, swapped


@pytest.mark.parametrize("rows", [1, 2, 16, 97])
@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(96, 160), lambda: nn.Linear(96, 160, bias=False), lambda: Conv1D(160, 96)]
)
def test_products_and_gradients_equal_torchs_own(make, rows):
    torch.manual_seed(0)
    plain, swapped = pair(make())
    x = torch.randn(2, rows, 96)
    found = []
    for network in (plain, swapped):
        point = x.clone().requires_grad_(True)
        y = network(point)
        found.append((y.detach(), torch.autograd.grad((y * torch.linspace(-1, 1, 160)).sum(), point)[0]))
        with torch.no_grad():
            assert torch.allclose(network(x), y, rtol=1e-5, atol=1e-5)
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_way_back_has_copies_of_its_own_where_all_fit_and_from_its_first_use_on(monkeypatch):
    size = 96 * 160 * 4
    for most, copied in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr("explorer.kernels.BOTH_BYTES", most)
        _, swapped = pair(nn.Linear(96, 160, bias=False))
        layer = swapped[0]
        with torch.no_grad():
            swapped(torch.randn(3, 96))
        assert layer._transposed is None, "who only samples pays nothing"
        for factor in (1.0, 2.0):  # weights that were changed in place, as a training's sampler has them
            point = torch.randn(3, 96, requires_grad=True)
            (gradient,) = torch.autograd.grad(swapped(point).sum(), point)
            assert torch.allclose(gradient, layer.matrix.sum(0).expand(3, -1), rtol=1e-4, atol=1e-4), factor
            assert (layer._transposed.layout is torch._mkldnn) == copied
            with torch.no_grad():
                layer.weight.mul_(2.0)
            layer.renew()


@pytest.mark.parametrize("counts", [(66,), (2, 64), (1, 1, 3)])
def test_mean_losses_and_their_gradient_are_the_textbooks(counts):
    """Against float64 cross-entropies, group by group; also where the groups do not count alike."""
    generator = torch.Generator().manual_seed(0)
    rows = sum(counts)
    logits = 4 * torch.randn(rows, 5_000, generator=generator)
    targets = torch.randint(0, 5_000, (rows,), generator=generator)
    weights = torch.arange(1.0, len(counts) + 1)
    plain, point = logits.double().requires_grad_(), logits.clone().requires_grad_()
    expected = torch.stack(
        [
            torch.nn.functional.cross_entropy(part, wanted)
            for part, wanted in zip(plain.split(counts), targets.split(counts), strict=True)
        ]
    )
    found = MeanLosses.apply(point, targets, counts)
    assert torch.allclose(found.double(), expected, atol=5e-6)
    for factor in (torch.ones(len(counts)), weights):
        (a,) = torch.autograd.grad((found * factor).sum(), point, retain_graph=True)
        (b,) = torch.autograd.grad((expected * factor).sum(), plain, retain_graph=True)
        assert torch.allclose(a.double(), b, atol=1e-7)
    assert torch.equal(point.detach(), logits), "what it was given stays"
    assert torch.equal(MeanLosses.apply(logits, targets, counts), found.detach())


def test_parameters_stay_so_that_tied_weights_stay_tied():
    embedding, head = nn.Embedding(64, 32), nn.Linear(32, 64, bias=False)
    head.weight = embedding.weight
    network = nn.ModuleDict({"embed": embedding, "head": head}).requires_grad_(False)
    assert use_fast_products(network)
    assert network["head"].weight is network["embed"].weight


def test_second_copies_end_where_their_memory_is_spent(monkeypatch):
    def copied():
        network = nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 512)).requires_grad_(False)
        assert use_fast_products(network)
        return [layer.weights is not layer.matrix for layer in network]

    assert copied() == [True, True]
    monkeypatch.setattr("explorer.kernels.PACKED_BYTES", (32 * 64 + 64 * 512) * 4 - 1)
    assert copied() == [True, False]
    monkeypatch.setattr("explorer.kernels.PACKED_BYTES", 32 * 64 * 4 - 1)
    assert copied() == [False, False]


def test_what_it_does_not_suit_is_left_alone():
    class Own(nn.Linear):
        pass

    assert not use_fast_products(nn.Sequential(Own(8, 8)))
    assert not use_fast_products(nn.Sequential(nn.Linear(8, 8).to(torch.bfloat16)))
    assert not use_fast_products(nn.Sequential(nn.LayerNorm(8)))


def test_every_tiny_family_runs_the_fast_ways(model):
    assert model.fast
    assert model.cached
    assert model.packed
    assert model.ways == "oneDNN products, prompt read once, both branches in one pass"


@pytest.mark.parametrize("sharpness", [0.1, 0.5, 6.0])
@pytest.mark.parametrize("top_p", [0.5, 0.95, 0.999])
def test_the_nucleus_is_that_of_a_full_sort(sharpness, top_p):
    """Flat rows have a nucleus larger than what is looked at first; the tokens drawn must be the same all the same."""
    generator = torch.Generator().manual_seed(1)
    logits = sharpness * torch.randn(40, 3_000, generator=generator)
    logits[::4] *= 3.0  # rows of both kinds in one batch
    uniforms = torch.rand(40, generator=generator, dtype=torch.float64)
    expected = []
    for row, uniform in zip(torch.softmax(logits / 0.8, dim=-1), uniforms, strict=True):
        order = row.argsort(descending=True)
        mass, kept = 0.0, []
        for token in order.tolist():
            if mass >= top_p:
                break
            kept.append(token)
            mass += float(row[token])
        target = float(uniform) * sum(float(row[token]) for token in kept)
        expected.append(
            next((t for t, c in zip(kept, row[kept].double().cumsum(0).tolist(), strict=True) if c > target), kept[-1])
        )
    found = draw(logits, uniforms, 0.8, top_p).tolist()
    assert sum(a != b for a, b in zip(found, expected, strict=True)) == 0
    if sharpness == 0.1:
        assert len(kept) > NUCLEUS_ROWS
