"""Gradients that are cut where they are unusually long.

A gradient that reaches an actor through many imagined steps is heavy-tailed (Metz et al. 2021, "Gradients are not all
you need"): where contacts decide, one in a hundred is fifty times as long as the median. Adam makes of such a one a
step of several learning rates in the direction of a few trajectories, and its second moment remembers it for the next
thousand updates, in which every other step is short: a policy is thrown off, and cannot come back. How long is usual
differs between tasks and over a training by more than that, so no fixed bound tells the two apart. The bound is a
multiple of what was usual lately, as in AutoClip (Seetharaman et al. 2020, "AutoClip: adaptive gradient clipping for
source separation networks"), which takes a percentile of all norms so far.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

RATE = 0.02
"""By how much of the way an update moves what is usual."""

LEAST = 1e-4
"""Shorter gradients count as so long: after a time without any, the first ones must not pass for unusual for long."""


class UsualNorm:
    """The running geometric mean of a gradient's norm, each counted as it was cut."""

    def __init__(self, times: float, device: torch.device):
        """``times``: at how many times the usual norm to cut."""
        self.times = times
        self.total, self.weight = torch.zeros((), device=device), torch.zeros((), device=device)

    @torch.no_grad()
    def bound(self, norm: Tensor) -> Tensor:
        """The norm at which to cut a gradient of this ``norm``, a scalar. The first one is not cut."""
        usual = (self.total / self.weight).exp()
        bound = torch.where(self.weight > 0, self.times * usual, norm)
        self.total.lerp_(torch.minimum(norm, bound).clamp(min=LEAST).log().to(self.total.dtype), RATE)
        self.weight.mul_(1 - RATE).add_(RATE)
        return bound

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"total": self.total, "weight": self.weight}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``, where the tensors are: a recorded update knows them by their place."""
        self.total.copy_(state["total"])
        self.weight.copy_(state["weight"])


@torch.no_grad()
def cut(gradients: Sequence[Tensor], norm: Tensor, bound: Tensor | float) -> None:
    """Shorten the gradients, whose norm in all is ``norm``, to ``bound`` in place, where they are longer."""
    torch._foreach_mul_(list(gradients), (bound / (norm + 1e-6)).clamp(max=1.0))
