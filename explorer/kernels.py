"""Linear layers at the processor's own speed: float32 products on the CPU through oneDNN instead of torch's
default library; and the losses of a step in one piece.

A frozen model spends its time in products with fixed weights. Torch sends float32 products to MKL, which streams a
single row's weights at a fraction of the memory's speed and, on processors of other makers, leaves wide vectors unused;
oneDNN, which ships in the same wheel, does neither. Measured figures are in LOG.md and come from `python -m explorer
bench`. `use_fast_products` swaps a network's linear layers in place, keeps their parameters, and says what it did, so
that a family or a build that it does not suit runs as it was.

What it does not do: change a number beyond rounding, know a model, train weights (they are frozen).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# Layers keep a second copy of their weights in oneDNN's own order, from the first on, until the copies take this many
# bytes: a single row reads as fast from either, 16 rows 1.2 to 1.6 times as fast from the copy. Not more, since a
# large model would need its memory twice.
PACKED_BYTES = 900_000_000
# A network whose copies of both ways take no more than this has them all. The way back reads the transposed weights,
# which lie badly for it: from a copy of their own a step takes a fifth less time (LOG). They are laid out when the
# first gradient is asked for; whoever only samples never has them.
BOTH_BYTES = 1_100_000_000
# Rows that the second copy is laid out for; measured, it serves 1 to 700 rows alike.
PACKED_FOR_ROWS = 16


class Twins:
    """How many of the last rows of a pass hold the same numbers as its first ones.

    Two branches that each have their own copy of one prefix (so that their gradients stay apart) read it twice; a
    product of the first copy is the second's too. Only on the way forward: on the way back their gradients differ.
    """

    def __init__(self):
        self._rows, self._count = 0, 0

    @contextmanager
    def of(self, rows: int, count: int) -> Iterator[None]:
        """While this lasts, in inputs of shape (1, rows, …) the last `count` rows equal the first `count`."""
        self._rows, self._count = rows, count
        try:
            yield
        finally:
            self._rows, self._count = 0, 0

    def among(self, x: Tensor) -> int:
        """The number of twins in an input; 0 for one of another shape than was said."""
        return self._count if x.dim() == 3 and x.shape[0] == 1 and x.shape[1] == self._rows else 0


class FrozenProduct(torch.autograd.Function):
    """y = x Wᵀ + b with a gradient for x alone, both by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: FastLinear) -> Tensor:
        """(…, in) -> (…, out)."""
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """(…, out) -> (…, in)."""
        return _linear(gradient.contiguous(), ctx.layer.transposed(), None), None


class FastLinear(nn.Module):
    """Stands where an `nn.Linear` (or GPT-2's transposed `Conv1D`) stood and shares its parameters."""

    def __init__(self, layer: nn.Module, packed: bool, both: bool = False):
        """`packed`: with a copy for the way forward; `both`: also for the way back."""
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        matrix = layer.weight.detach()
        # (out, in); a transposed view where the family stores it the other way round.
        self.matrix = matrix if isinstance(layer, nn.Linear) else matrix.t()
        self.out_features, self.in_features = self.matrix.shape
        self._packed, self._both = packed, both
        self.twins: Twins | None = None
        self.renew()

    def renew(self) -> None:
        """Lay the second copy out anew, after the weights were changed in place."""
        self.weights = _packed(self.matrix) if self._packed else self.matrix
        self._transposed: Tensor | None = None

    def transposed(self) -> Tensor:
        """(in, out) weights of the way back: laid out for it, or, where there is no room, as they lie."""
        if self._transposed is None:
            self._transposed = _packed(self.matrix.t()) if self._both else self.matrix.t()
        return self._transposed

    def product(self, x: Tensor) -> Tensor:
        """(…, in) float32 -> (…, out) float32, without a gradient."""
        twins = self.twins.among(x) if self.twins else 0
        if not twins:
            return _linear(x.contiguous(), self.weights, self.bias)
        single = _linear(x[:, : x.shape[1] - twins].contiguous(), self.weights, self.bias)
        return torch.cat([single, single[:, :twins]], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer whose place this is."""
        # The detour through autograd costs 15 µs a layer, which at one row is a fifth of the time.
        if torch.is_grad_enabled() and x.requires_grad:
            return FrozenProduct.apply(x, self)
        return self.product(x)


class MeanLosses(torch.autograd.Function):
    """Mean cross-entropies of groups of rows, their gradient worked out on the way forward.

    As torch does it, a loss of 67 rows of 49,152 logits fills and copies half a dozen tensors of their size; here it is
    one. It gains little time and is ten times as exact (LOG).
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, counts: tuple[int, ...]) -> Tensor:
        """(rows, vocab_size) float32, (rows,) int64, rows of each group -> (groups,) means in nats."""
        most = logits.amax(dim=-1, keepdim=True)
        at_target = logits.gather(-1, targets[:, None]) - most
        shares = (logits - most).exp_()
        total = shares.sum(dim=-1, keepdim=True)
        losses = (total.log() - at_target)[:, 0]
        group = torch.repeat_interleave(torch.tensor(counts)).to(logits.device)
        each = torch.tensor(counts, dtype=logits.dtype, device=logits.device)
        if ctx.needs_input_grad[0]:
            weight = (1.0 / each)[group, None]
            shares.mul_(weight / total)
            shares.scatter_add_(-1, targets[:, None], -weight)
            ctx.save_for_backward(shares, group)
        return torch.zeros_like(each).index_add_(0, group, losses) / each

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """(groups,) -> (rows, vocab_size)."""
        shares, group = ctx.saved_tensors
        # As a step asks it is 1 for all; to know that, a GPU would have to be waited for.
        alike = gradient.device.type == "cpu" and bool((gradient == 1).all())
        return (shares if alike else shares * gradient[group, None]), None, None


def products(x: Tensor, rows: Tensor) -> Tensor:
    """x rowsᵀ for (positions, hidden) and (count, hidden): by oneDNN where that serves, else as torch does it."""
    if x.device.type == "cpu" and x.dtype == rows.dtype == torch.float32 and len(x) and _available():
        return _linear(x.contiguous(), rows, None)
    return x @ rows.T


def _packed(matrix: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), PACKED_FOR_ROWS)


def _linear(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weights, bias, "none", [], "")


def use_fast_products(network: nn.Module) -> bool:
    """Swap the linear layers of a frozen float32 network on the CPU, in place.

    Args:
        network: any torch network; parameters stay where they are, so tied embeddings stay tied.

    Returns:
        Whether it was done; False where there is nothing to swap, the device or number format is another, or this
        build of torch lacks the kernels.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if _suits(layer)]
    if not layers or not _available():
        return False
    sizes = [layer.weight.numel() * layer.weight.element_size() for _, layer in layers]
    both, copied = 2 * sum(sizes) <= BOTH_BYTES, 0
    for (name, layer), size in zip(layers, sizes, strict=True):
        copied += size
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, FastLinear(layer, copied <= PACKED_BYTES, both))
    return True


def _suits(layer: nn.Module) -> bool:
    # Exactly these classes: a subclass may do something else in its forward. Conv1D is GPT-2's, told by its name so
    # that this file needs no transformers.
    if type(layer) is not nn.Linear and type(layer).__name__ != "Conv1D":
        return False
    weight = layer.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and min(weight.shape) > 1


@functools.cache
def _available() -> bool:
    """Whether oneDNN's linear kernels are here and right: they are not part of torch's public interface."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 32, generator=generator), torch.randn(48, 32, generator=generator)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR_ROWS)
        found = [_linear(x, packed, None), _linear(x, weight, None), _linear(x @ weight.T, weight.t(), None)]
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    expected = [x @ weight.T, x @ weight.T, x @ weight.T @ weight]
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in zip(found, expected, strict=True))
