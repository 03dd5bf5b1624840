"""A multilayer perceptron (``networks.mlp``) there and back, for many small batches whose gradients are taken at once.

Every hidden layer is silu(norm(W x + b) scale + shift), the last one W x + b.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from telepath.dreamer.kernels import norm_silu, norm_silu_back

Weights = Sequence[Tensor]
"""W (n, m), b (n,), scale (n,) and shift (n,) of every hidden layer, then W and b of the last one."""


class Trace(NamedTuple):
    """What the way back needs of each hidden layer: normalised (..., n), 1 / standard deviation (...), out (..., n)."""

    normed: list[Tensor]
    inverse: list[Tensor]
    out: list[Tensor]

    @staticmethod
    def room(weights: Weights, *shape: int) -> "Trace":
        """For inputs (*shape, m)."""
        widths = [len(layer[0]) for layer in hidden(weights)]
        new = weights[0].new_empty
        return Trace(
            [new(*shape, width) for width in widths],
            [new(*shape) for _ in widths],
            [new(*shape, width) for width in widths],
        )

    def unbind(self) -> "Iterator[Trace]":
        """Traces of the leading dimension's parts."""
        parts = (zip(*(each.unbind(0) for each in kind), strict=True) for kind in self)
        for normed, inverse, out in zip(*parts, strict=True):
            yield Trace(list(normed), list(inverse), list(out))

    def flatten(self) -> "Trace":
        """The first two dimensions as one."""
        return Trace(*([each.flatten(0, 1) for each in kind] for kind in self))


def hidden(weights: Weights) -> Iterator[Weights]:
    """The hidden layers' weights, layer by layer."""
    for first in range(0, len(weights) - 2, 4):
        yield weights[first : first + 4]


def through(x: Tensor, weights: Weights, trace: Trace) -> Tensor:
    """The output (B, n) for x (B, m); what happens in the hidden layers is written to ``trace``."""
    for (weight, *others), normed, inverse, out in zip(hidden(weights), *trace, strict=True):
        torch.mm(x, weight.t(), out=normed)
        norm_silu(normed, *others, out, inverse)
        x = out
    return torch.addmm(weights[-1], x, weights[-2].t())


def back(d: Tensor, x: Tensor, weights: Weights, trace: Trace) -> list[Tensor]:
    """The weights' gradients, in their order, from that of the output, d (B, n)."""
    layers, inputs = list(hidden(weights)), [x, *trace.out]
    gradients = [d.t() @ inputs[-1], d.sum(0)]
    above = weights[-2]
    for k in reversed(range(len(layers))):
        d = d @ above
        above, bias, scale, shift = layers[k]
        sums = d.new_zeros(3, len(bias))
        norm_silu_back(d, trace.normed[k], trace.inverse[k], scale, shift, sums)
        gradients = [d.t() @ inputs[k], *sums, *gradients]
    return gradients
