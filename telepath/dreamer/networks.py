"""The small networks that everything is built from, and the squashing of large numbers."""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|): tames large observations and leaves small ones alone (Hafner et al. 2023, eq. 9)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of ``symlog``."""
    return torch.sign(x) * torch.expm1(x.abs())


def mlp(inputs: int, hidden: int, layers: int, outputs: int, *, zero: bool = False) -> nn.Sequential:
    """``layers`` hidden layers, each normalised and through SiLU, then a linear layer, which begins at zero if asked
    to.

    Rewards and values begin at zero (Hafner et al. 2023): a random critic's noise takes long to fade through its own
    bootstrap, and until then an actor chases it.
    """
    widths = [inputs] + [hidden] * layers
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        modules += [linear(before, after), nn.LayerNorm(after), nn.SiLU()]
    last = linear(widths[-1], outputs)
    if zero:
        nn.init.zeros_(last.weight)
    return nn.Sequential(*modules, last)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with variance-preserving weights (Glorot and Bengio 2010) and zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Bounded(torch.autograd.Function):
    """x clamped to [-1, 1]; the gradient passes wherever a descent step along it leads inward.

    A hyperbolic tangent lets no gradient out of its ends: an output that was once driven there stays there. A plain
    clamp lets none through at all. Here what lies beyond a bound may come back, and never goes further out
    (Hausknecht and Stone 2016, "inverting gradients", without their damping near the bounds).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The clamped values."""
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient, less what leads outward beyond a bound: descent moves x against it."""
        (x,) = ctx.saved_tensors
        outward = (x.abs() > 1) & (gradient * x < 0)
        return gradient.masked_fill(outward, 0.0)


class EnsembleMLP(nn.Module):
    """E independent MLPs with one hidden layer each, evaluated as batched matrix products."""

    def __init__(self, members: int, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.weight_in = nn.Parameter(torch.empty(members, inputs, hidden))
        self.bias_in = nn.Parameter(torch.zeros(members, 1, hidden))
        self.weight_out = nn.Parameter(torch.empty(members, hidden, outputs))
        self.bias_out = nn.Parameter(torch.zeros(members, 1, outputs))
        for weight in (self.weight_in, self.weight_out):
            for member in weight.unbind(0):
                nn.init.xavier_uniform_(member)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs), one input shared by all members -> (E, ..., outputs)."""
        flat = x.reshape(1, -1, x.shape[-1]).expand(len(self.weight_in), -1, -1)
        hidden = F.silu(torch.baddbmm(self.bias_in, flat, self.weight_in))
        out = torch.baddbmm(self.bias_out, hidden, self.weight_out)
        return out.reshape(len(out), *x.shape[:-1], out.shape[-1])


MIN_STD = 0.1
"""Smallest standard deviation of a latent."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and standard deviation (never the variance), both (..., n)."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def from_output(output: Tensor, min_std: float = MIN_STD) -> "Gaussian":
        """Read a network output (..., 2n) as mean and, through a softplus, a standard deviation."""
        mean, raw = output.chunk(2, -1)
        return Gaussian(mean, F.softplus(raw) + min_std)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A reparametrised sample: the gradient reaches mean and standard deviation."""
        return torch.addcmul(self.mean, self.std, noise_like(self.mean, generator))

    def negative_log_likelihood(self, x: Tensor) -> Tensor:
        """-log p(x), summed over the last dimension, in nats."""
        z = (x - self.mean) / self.std
        return (0.5 * z.square() + self.std.log()).sum(-1) + 0.5 * LOG_2_PI * x.shape[-1]

    def entropy(self) -> Tensor:
        """Differential entropy, summed over the last dimension, in nats."""
        return (self.std.log() + 0.5 * (1 + LOG_2_PI)).sum(-1)

    def detach(self) -> "Gaussian":
        """The same distribution, cut off from the gradient."""
        return Gaussian(self.mean.detach(), self.std.detach())


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise of the shape of ``x``, the same on every device: it is drawn where the generator is."""
    if x.device == generator.device:
        return torch.empty_like(x).normal_(generator=generator)
    return torch.empty(x.shape, dtype=x.dtype, device=generator.device).normal_(generator=generator).to(x.device)


LOG_2_PI = 1.8378770664093453


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) of diagonal Gaussians, summed over the last dimension, in nats."""
    ratio = (p.std / q.std).square()
    return 0.5 * (ratio + ((p.mean - q.mean) / q.std).square() - 1 - ratio.log()).sum(-1)
