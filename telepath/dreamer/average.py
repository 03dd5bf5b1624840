"""Running averages of weights: what is judged of networks that are still learning."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class RunningAverage(Generic[Module]):
    """A copy of a module, ``average``, whose weights are running averages of the module's (Polyak and Juditsky 1992).

    Gradient steps of a constant size circle round what they have learnt, and each round of the circle forgets and
    relearns something else. The average stands in the middle.
    """

    def __init__(self, module: Module):
        self.module = module
        self.average: Module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move every weight and buffer by ``rate`` (0 to 1) of its distance towards the module's; 1 takes them over."""
        if rate == 1:
            torch._foreach_copy_(tensors(self.average), tensors(self.module))
        else:
            torch._foreach_lerp_(tensors(self.average), tensors(self.module), rate)


def tensors(module: nn.Module) -> list[Tensor]:
    """All weights and buffers."""
    return [*module.parameters(), *module.buffers()]
